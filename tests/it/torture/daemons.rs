//! Daemons that are killed at any moment, and started again each time.

use std::collections::BTreeMap;
use std::process::Child;
use std::time::Instant;

use rustix::process::Signal;

use super::judge::Standings;
use super::kills::{LATENCY, pause};
use super::shop::{KINDS, Kind, Shop, Size};
use super::sweep::side_by_side;
use super::{Victim, from_environment, seed};
use crate::histories::dice::Dice;
use crate::support::{finish, signal};

/// Kills of the form that always runs. Where kills of syncs are asked for, there is one for so many of them: what is
/// complete rests for a second.
const KILLS: u64 = 10;
const KILLS_OF_SYNCS: u64 = 40;

/// Kills that one file has to bear.
const KILLS_OF_FILE: u64 = 50;

/// A read of everything is over long before the next one is due.
const SIZE: Size = Size([25, 20, 18, 10, 6, 8, 1]);

/// A life sends at most so many requests before it is killed: those of several runs.
const REQUESTS_MAX: u64 = 200;

impl Victim {
    /// A daemon that reads everything every second.
    fn daemon(&mut self) -> Child {
        self.live(&["serve"]).spawn().unwrap()
    }

    /// Holds what a daemon has left against what was served. It asks again for a page only when that is stored, and for
    /// one that an earlier life has stored only when that one's read is over.
    fn judge_daemon(&mut self) {
        let before = self.look();
        let mut asked = BTreeMap::<_, u64>::new();
        for (part, page) in self.shop.log.of(self.life.number) {
            *asked.entry((part, page)).or_default() += 1;
        }
        for ((part, page), times) in asked {
            let stored = self.judge.stored(part, page, self.life);
            assert!(
                times <= stored + 1,
                "{part:?}: asked {times} times for page {page}, which is stored {stored} times"
            );
            let next = before[&part.kind].next[usize::try_from(part.number).unwrap()];
            let is_over = self.standings[&part.kind].complete > before[&part.kind].complete;
            assert!(page >= next || is_over, "{part:?}: asked for page {page}; all before {next} were stored");
        }
    }
}

fn complete(standings: &Standings) -> u64 {
    standings.values().map(|standing| standing.complete).sum()
}

/// Kills daemons until a file has seen `kills` of them; returns how many reads were complete, and the pages.
fn torture(kills: u64, dice: &mut Dice) -> (u64, u64) {
    let mut victim = Victim::new(Shop::open(SIZE, LATENCY));
    victim.rounds = 1;
    let config = std::fs::read_to_string(victim.workspace.path("config.toml")).unwrap();
    let times = |text: String, kind: Kind| {
        let resource = format!("[sources.shop.resources.{}]\n", kind.name());
        text.replace(&resource, &format!("{resource}every = \"1s\"\n"))
    };
    let config = KINDS.into_iter().fold(config, times) + "[web]\nlisten = \"off\"\n";
    victim.workspace.write("config.toml", &config);
    for _ in 0..kills {
        let mut child = victim.daemon();
        if dice.below(5) == 0 {
            // While it starts, opens the file and recovers it.
            pause(dice.below(40_000));
        } else {
            let requests = usize::try_from(1 + dice.below(REQUESTS_MAX)).unwrap();
            assert!(victim.shop.log.wait_for(victim.life.number, requests, &mut child), "it has ended by itself");
            pause(dice.below(3_000));
        }
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().code(), None, "it has ended by itself");
        victim.judge_daemon();
    }
    // One that is stopped, and a sync that ends what is left.
    let mut child = victim.daemon();
    assert!(victim.shop.log.wait_for(victim.life.number, 1, &mut child), "it has ended by itself");
    signal(&child, Signal::TERM);
    let finished = finish(child);
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    victim.check_folder(true);
    victim.judge_daemon();
    let before = victim.standings.clone();
    let child = victim.live(&["sync"]).spawn().unwrap();
    victim.ended_well(finish(child), &KINDS);
    for kind in KINDS {
        assert_eq!(victim.standings[&kind].complete, before[&kind].complete + 1, "{kind:?}");
    }
    victim.check_all();
    (complete(&victim.standings), victim.judge.pages() as u64)
}

#[test]
fn x01_a_daemon_that_is_killed_again_and_again_has_every_row_once_and_asks_for_no_page_twice() {
    let wanted = from_environment("HIGHWATER_TORTURE_KILLS").map_or(KILLS, |kills| kills.div_ceil(KILLS_OF_SYNCS));
    let seed = seed();
    println!("HIGHWATER_TORTURE_SEED={seed}");
    let started = Instant::now();
    let first_kills: Vec<u64> = (0..wanted).step_by(usize::try_from(KILLS_OF_FILE).unwrap()).collect();
    let files = side_by_side(&first_kills, |first| torture(KILLS_OF_FILE.min(wanted - first), &mut Dice(seed + first)));
    let (reads, pages) = files.into_iter().fold((0, 0), |(reads, pages), (r, p)| (reads + r, pages + p));
    println!(
        "TORTURE kill a daemon at random\t{wanted} kills, {reads} complete reads, {pages} pages\t0\t{seed}\t{:.0}",
        started.elapsed().as_secs_f64()
    );
}
