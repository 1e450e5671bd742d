//! Kills at moments that a seed decides.

use std::process::Child;
use std::time::{Duration, Instant};

use super::shop::{Life, Log, Shop, Size};
use super::sweep::side_by_side;
use super::{Victim, from_environment, seed};
use crate::histories::dice::Dice;
use crate::support::finish;

/// Kills of the form that always runs: somewhat more than one read of everything lasts.
const KILLS: u64 = 40;

/// Kills that one file has to bear.
const KILLS_OF_FILE: u64 = 300;

/// A page takes so long, so that there is time between two of them.
pub(super) const LATENCY: Duration = Duration::from_millis(1);

/// A life sends at most so many requests before it is killed.
const REQUESTS_MAX: u64 = 45;

const SIZE: Size = Size([100, 90, 80, 50, 20, 30, 1]);

/// Until a moment that the dice have named.
pub(super) fn pause(micros: u64) {
    let until = Instant::now() + Duration::from_micros(micros);
    while let Some(rest) = until.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(rest);
    }
}

/// Lets a process live for a while and kills it; `left` requests would complete it. Returns whether it was killed
/// before it ended by itself.
fn strike(child: &mut Child, life: Life, log: &Log, left: u64, random: &mut Dice) -> bool {
    if random.below(5) == 0 {
        // While it starts, opens the file and recovers it.
        pause(random.below(40_000));
    } else {
        let mut requests = 1 + random.below(REQUESTS_MAX);
        let mut more = random.below(3_000);
        if left <= REQUESTS_MAX && random.below(2) == 0 {
            // After the last request: at the last commits, or while the file is closed.
            (requests, more) = (left, random.below(15_000));
        }
        if !log.wait_for(life.number, usize::try_from(requests).unwrap(), child) {
            return false;
        }
        pause(more);
    }
    if child.try_wait().unwrap().is_some() {
        return false;
    }
    child.kill().unwrap();
    // It may have ended in the very last moment.
    child.wait().unwrap().code().is_none()
}

/// What came of one file, or of several.
#[derive(Default)]
struct Sum {
    kills: u64,
    /// Before the first request of their life.
    in_start: u64,
    lives: u64,
    rounds: u64,
    pages: u64,
    requests: u64,
}

/// Kills until a file has seen `kills_wanted` of them and is complete.
fn torture(kills_wanted: u64, dice: &mut Dice) -> Sum {
    let mut victim = Victim::new(Shop::open(SIZE, LATENCY));
    let (mut kills, mut in_start) = (0, 0);
    // A round reads everything once. It lasts for as many lives as it takes; the last one ends without kills.
    while victim.rounds == 0 || kills < kills_wanted {
        victim.rounds += 1;
        loop {
            let open = victim.open();
            if open.is_empty() {
                break;
            }
            let mut child = victim.command(&[]).spawn().unwrap();
            let left = victim.left();
            let killed = kills < kills_wanted && strike(&mut child, victim.life, &victim.shop.log, left, dice);
            if killed {
                kills += 1;
                in_start += u64::from(victim.shop.log.of(victim.life.number).is_empty());
                victim.judge(&open);
            } else {
                victim.ended_well(finish(child), &open);
            }
        }
        victim.check_all();
    }
    let (pages, requests) = (victim.judge.pages() as u64, victim.shop.log.requests() as u64);
    Sum { kills, in_start, lives: victim.life.number, rounds: victim.rounds, pages, requests }
}

#[test]
fn x01_a_sync_that_is_killed_again_and_again_ends_with_every_row_once_and_asks_for_no_page_twice() {
    let wanted = from_environment("HIGHWATER_TORTURE_KILLS").unwrap_or(KILLS);
    let seed = seed();
    println!("HIGHWATER_TORTURE_KILLS={wanted} HIGHWATER_TORTURE_SEED={seed}");
    let started = Instant::now();
    // The judge reads the whole file after each kill, so none becomes too long. Each has dice of its own.
    let first_kills: Vec<u64> = (0..wanted).step_by(usize::try_from(KILLS_OF_FILE).unwrap()).collect();
    let files = side_by_side(&first_kills, |first| torture(KILLS_OF_FILE.min(wanted - first), &mut Dice(seed + first)));
    let sum = |of: fn(&Sum) -> u64| files.iter().map(of).sum::<u64>();
    let (kills, lives, rounds) = (sum(|file| file.kills), sum(|file| file.lives), sum(|file| file.rounds));
    let (pages, requests) = (sum(|file| file.pages), sum(|file| file.requests));
    println!(
        "{kills} kills ({} before the first request) in {lives} lives and {rounds} reads of everything: {pages} pages \
         committed, {} requests lost in a kill and sent again",
        sum(|file| file.in_start),
        requests - pages
    );
    println!("TORTURE kill at random\t{kills} kills, {pages} pages\t0\t{seed}\t{:.0}", started.elapsed().as_secs_f64());
}
