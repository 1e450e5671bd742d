//! Power cuts. Syncs are recorded with every write and flush, and of each moment the states are built that a disk may
//! be in when the power fails then; in each of them, every page that was said to be committed has to be there, and rows,
//! ledger and checkpoints have to agree.
//!
//! The disk keeps what was flushed (`fsync`, `fdatasync`), a name once its folder was flushed. Of all that was done
//! since, it keeps anything: each write is kept, lost, torn into sectors of 512 or 4096 bytes, or leaves only a longer
//! file behind, with zeros or other bytes in it; each change of a length, each new name and each removal is kept or lost
//! by itself. That is more than any journalling file system does. In which order the disk writes does not matter then,
//! as in the end each sector holds one of its versions. The index of the WAL (`-shm`) is lost or is anything.
//!
//! Assumed is what SQLite assumes: a write that the power cuts off harms no bytes beside those that it writes
//! (`SQLITE_POWERSAFE_OVERWRITE`), and a disk that says that it has flushed has done so. Files on other disks and
//! blocks that rot are not modelled.
//!
//! `HIGHWATER_TORTURE=full` looks at ten thousand states and more, `HIGHWATER_TORTURE_STATES=n` at n of each
//! recording. `HIGHWATER_TORTURE_SEED=n` throws the same dice again; what they fall on is recorded anew, so a state
//! that is not borne is kept in a folder.

#![expect(clippy::print_stdout, reason = "what a long form was about, and where what it found is kept")]

mod disk;
mod record;
mod replay;
mod trace;

use std::time::{Duration, Instant};

use self::record::{Plan, Recording, old_file_with_a_long_wal};
use self::replay::{Tally, cut_once, replay};
use self::trace::Call;
use super::shop::Size;
use super::sweep::{can_trace, is_full};
use super::{Victim, from_environment, seed};
use crate::histories::dice::Dice;

/// A first sync that is killed, one that recovers what it left and goes on, and one that reads everything again.
const THREE_LIVES: Plan = Plan {
    name: "a sync that is killed, its end, another",
    size: Size([5, 4, 3, 2, 1, 1, 1]),
    synchronous: "full",
    lives: &[Some(400), None, None],
};

/// A sync that brings a file of an earlier version up to this one, and moves the WAL into the file while it runs.
const LONG_WAL: Plan = Plan {
    name: "an old file with a long WAL",
    size: Size([5, 4, 3, 2, 1, 1, 1]),
    synchronous: "full",
    lives: &[None],
};

/// The sync after a power cut.
const SECOND_CUT: Plan = Plan { name: "the sync after a power cut", lives: &[None], ..THREE_LIVES };

/// The same as the first, where a power cut may take back the last commits.
const NORMAL: Plan = Plan { name: "synchronous = normal", synchronous: "normal", ..THREE_LIVES };

/// The short form, or the long one.
fn form<T>(short: T, long: T) -> T {
    if is_full() { long } else { short }
}

/// How many states of a recording are looked at.
fn wanted(short: usize, long: usize) -> usize {
    let asked = from_environment("HIGHWATER_TORTURE_STATES").map(|states| usize::try_from(states).unwrap());
    asked.unwrap_or_else(|| form(short, long))
}

/// What came of recordings of one plan.
#[derive(Debug, Default)]
struct Sum {
    calls: usize,
    tally: Tally,
    recorded: Duration,
    took: Duration,
}

impl Sum {
    /// Records, and looks at states.
    fn cut_power(&mut self, plan: Plan, prepare: impl FnOnce(&mut Victim), states: usize, seed: u64) -> Recording {
        let started = Instant::now();
        let recording = Recording::new(plan, prepare);
        self.recorded += started.elapsed();
        self.calls += recording.calls.len();
        self.tally.add(&replay(&recording, states, seed));
        self.took += started.elapsed();
        recording
    }

    /// Says what there was.
    fn report(&self, plan: Plan, seed: u64) {
        let Self { calls, tally, recorded, took } = self;
        println!(
            "TORTURE power cut: {}\t{} states of the disk after {calls} calls, {} gone on with, {} without committed pages \
             (at most {} pages); recorded in {:.1} s\t{}\t{seed}\t{:.1}",
            plan.name,
            tally.states,
            tally.gone_on_with,
            tally.cuts_with_lost_pages,
            tally.lost_pages_max,
            recorded.as_secs_f64(),
            tally.violations,
            took.as_secs_f64()
        );
        assert_eq!(tally.violations, 0, "see above, at HIGHWATER_TORTURE_SEED={seed}");
        let is_durable = plan.synchronous == "full";
        assert_eq!(tally.cuts_with_lost_pages == 0, is_durable, "{tally:?}");
    }
}

#[test]
fn d17_a_power_cut_takes_nothing_of_what_was_committed() {
    if !can_trace() {
        return;
    }
    let seed = seed();
    let mut first = Sum::default();
    let recording = first.cut_power(THREE_LIVES, |_| {}, wanted(160, 7_500), seed);
    first.report(THREE_LIVES, seed);
    // What one power cut has left may meet the next one.
    let mut second = Sum::default();
    for number in 1..=form(1, 10) {
        let mut dice = Dice(seed.wrapping_add(number));
        second.cut_power(SECOND_CUT, |victim| cut_once(&recording, victim, &mut dice), wanted(40, 250), seed);
    }
    second.report(SECOND_CUT, seed);
}

#[test]
fn d17_a_power_cut_takes_nothing_while_the_wal_is_moved_into_the_file() {
    if !can_trace() {
        return;
    }
    // In the long form it becomes long once more.
    let plan = Plan { size: form(LONG_WAL.size, Size([600, 500, 400, 40, 20, 2, 1])), ..LONG_WAL };
    let (mut sum, seed) = (Sum::default(), seed());
    let recording = sum.cut_power(plan, old_file_with_a_long_wal, wanted(40, 1_500), seed);
    sum.report(plan, seed);
    let begins_wal = |call: &&Call| matches!(call, Call::Write { at: 0, bytes, .. } if bytes.len() == 32);
    let begun = recording.calls.iter().filter(begins_wal).count();
    assert!(begun >= form(1, 2), "the WAL begins again while the sync runs: {begun}");
}

#[test]
fn d17_with_normal_a_power_cut_takes_the_last_commits_whole_and_this_test_sees_it() {
    if !can_trace() {
        return;
    }
    let (mut sum, seed) = (Sum::default(), seed());
    sum.cut_power(NORMAL, |_| {}, wanted(60, 2_000), seed);
    sum.report(NORMAL, seed);
}
