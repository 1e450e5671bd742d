//! Cuts the power after any call of a recording, and has the judge look at what is left.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ring::digest::{Context, Digest, SHA256};
use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::disk::{Choice, Disk, Files};
use super::record::{DATABASE, Recording};
use super::trace::Call;
use crate::histories::dice::Dice;
use crate::support::{binary, finish};
use crate::torture::Victim;
use crate::torture::judge::{Judge, Standings, check_requests, nothing_read, still_open};

/// One of so many states is gone on with by a real sync.
const ONE_GOES_ON_IN: u64 = 20;

/// Where there are many calls to lose, not each is lost alone after each other call.
const LOST_ALONE_MAX: usize = 30;

/// Draws of each kind of chance after each call.
const DRAWS: usize = 6;

/// Violations that are kept for somebody to look at.
const KEPT_MAX: u64 = 3;

const THREADS: usize = 2;

/// When the power fails, and what is kept.
#[derive(Clone, Copy, Debug)]
struct Cut {
    /// After so many calls.
    after: usize,
    choice: Choice,
    seed: u64,
}

/// What became of the states that were looked at.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Different states.
    pub(super) states: u64,
    /// Cuts after which pages are missing that had been said to be committed.
    pub(super) cuts_with_lost_pages: u64,
    /// The most pages that were missing.
    pub(super) lost_pages_max: u64,
    /// Those that a real sync has gone on with.
    pub(super) gone_on_with: u64,
    /// What is promised and was not so; with `full`, no page may be lost.
    pub(super) violations: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        self.states += other.states;
        self.cuts_with_lost_pages += other.cuts_with_lost_pages;
        self.lost_pages_max = self.lost_pages_max.max(other.lost_pages_max);
        self.gone_on_with += other.gone_on_with;
        self.violations += other.violations;
    }
}

/// A replay under way.
struct Replay<'r> {
    recording: &'r Recording,
    seed: u64,
    /// What is kept in memory, as nobody has to flush it.
    memory: PathBuf,
    /// The states that were looked at, and how many pages they have.
    seen: Mutex<HashMap<Vec<u8>, usize>>,
    tally: Mutex<Tally>,
}

/// Looks at so many different states.
pub(super) fn replay(recording: &Recording, wanted: usize, seed: u64) -> Tally {
    let in_memory = Path::new("/dev/shm");
    let replay = Replay {
        recording,
        seed,
        memory: if in_memory.is_dir() { in_memory.to_owned() } else { std::env::temp_dir() },
        seen: Mutex::default(),
        tally: Mutex::default(),
    };
    let mut dice = Dice(seed);
    let mut cuts = cuts(recording, &mut dice);
    while replay.states() < wanted && !cuts.is_empty() {
        let mut some = cuts.split_off(cuts.len().saturating_sub(wanted - replay.states()));
        some.sort_by_key(|cut| cut.after);
        std::thread::scope(|scope| {
            for part in some.chunks(some.len().div_ceil(THREADS)) {
                scope.spawn(|| replay.look_at_all(part));
            }
        });
    }
    let states = replay.states() as u64;
    Tally { states, ..replay.tally.into_inner().unwrap() }
}

/// Gives a victim what is left when the power fails at any moment of a recording.
pub(super) fn cut_once(recording: &Recording, victim: &mut Victim, dice: &mut Dice) {
    let mut disk = Disk::new(&recording.base);
    let after = dice.below(recording.calls.len() as u64 + 1) as usize;
    recording.calls[..after].iter().for_each(|call| disk.make(call));
    let choice = *dice.one_of(&[Choice::All, Choice::Nothing, Choice::LastTorn, Choice::Any, Choice::AnyTorn]);
    let files = disk.after_cut(choice, dice);
    (victim.judge, victim.standings) = judge(recording, &files, dice.next(), &std::env::temp_dir());
    victim.rounds = victim.standings.values().map(|standing| standing.complete).max().unwrap().max(1);
    // The one that it was read from.
    victim.shop = Arc::clone(&recording.victim.shop);
    std::fs::copy(recording.victim.workspace.path("config.toml"), victim.workspace.path("config.toml")).unwrap();
    write(&victim.workspace.path(""), &files, dice.next());
}

/// Has the judge look at a state, in a folder that goes away.
fn judge(recording: &Recording, files: &Files, seed: u64, place: &Path) -> (Judge, Standings) {
    let folder = tempfile::tempdir_in(place).unwrap();
    if write(folder.path(), files, seed) {
        recording.victim.judge.look_back(&open_database(folder.path()))
    } else {
        // There is no file yet.
        (Judge::new(recording.plan.size), nothing_read(recording.plan.size))
    }
}

/// All that may be looked at, in an order that the dice decide.
fn cuts(recording: &Recording, dice: &mut Dice) -> Vec<Cut> {
    let (mut cuts, mut nothing_kept) = (Vec::new(), Vec::new());
    let mut disk = Disk::new(&recording.base);
    for after in 0..=recording.calls.len() {
        if after > 0 {
            let last = &recording.calls[after - 1];
            disk.make(last);
            let cut = Cut { after, choice: Choice::Nothing, seed: dice.next() };
            nothing_kept.extend(matches!(last, Call::Said { .. }).then_some(cut));
        }
        let calls = disk.unsafe_calls();
        let mut choices = vec![Choice::All, Choice::Nothing, Choice::LastTorn];
        if calls <= LOST_ALONE_MAX {
            choices.extend((0..calls).map(Choice::Without));
        } else {
            choices.extend((0..LOST_ALONE_MAX).map(|_| Choice::Without(dice.below(calls as u64) as usize)));
        }
        for _ in 0..DRAWS {
            let first = dice.below(calls as u64 + 1) as usize;
            choices.extend([Choice::First(first), Choice::Any, Choice::AnyTorn]);
        }
        cuts.extend(choices.into_iter().map(|choice| Cut { after, choice, seed: dice.next() }));
    }
    for last in (1..cuts.len()).rev() {
        cuts.swap(last, dice.below(last as u64 + 1) as usize);
    }
    // The last ones are looked at first: what is durable shows where only that is kept.
    cuts.extend(nothing_kept);
    cuts
}

impl Replay<'_> {
    fn states(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// Looks at states in the order of their cuts.
    fn look_at_all(&self, cuts: &[Cut]) {
        let mut disk = Disk::new(&self.recording.base);
        disk.said = self.recording.base_pages;
        let mut made = 0;
        for cut in cuts {
            self.recording.calls[made..cut.after].iter().for_each(|call| disk.make(call));
            made = cut.after;
            let files = disk.after_cut(cut.choice, &mut Dice(cut.seed));
            let digest = digest(&files).as_ref().to_vec();
            let known = self.seen.lock().unwrap().get(&digest).copied();
            let looked = catch_unwind(AssertUnwindSafe(|| {
                let pages = known.unwrap_or_else(|| self.look(&files, cut));
                self.check_durable(disk.said, pages);
                pages
            }));
            if looked.is_err() {
                self.violation(cut, &files);
            }
            self.seen.lock().unwrap().insert(digest, looked.unwrap_or(usize::MAX));
        }
    }

    /// Judges one state, and returns how many pages it has.
    fn look(&self, files: &Files, cut: &Cut) -> usize {
        let (judge, standings) = judge(self.recording, files, cut.seed, &self.memory);
        let pages = judge.pages();
        if cut.seed.is_multiple_of(ONE_GOES_ON_IN) {
            let folder = tempfile::tempdir_in(&self.memory).unwrap();
            write(folder.path(), files, cut.seed);
            self.go_on(folder.path(), judge, standings);
            self.tally.lock().unwrap().gone_on_with += 1;
        }
        pages
    }

    /// What was said to be committed has to be there, where a commit is to survive a power cut.
    fn check_durable(&self, said: usize, pages: usize) {
        let lost = said.saturating_sub(pages) as u64;
        let mut tally = self.tally.lock().unwrap();
        tally.cuts_with_lost_pages += u64::from(lost > 0);
        tally.lost_pages_max = tally.lost_pages_max.max(lost);
        drop(tally);
        assert!(lost == 0 || self.recording.plan.synchronous != "full", "{lost} of {said} committed pages are lost");
    }

    /// The next syncs end well and with everything, whatever was left.
    fn go_on(&self, folder: &Path, mut judge: Judge, mut standings: Standings) {
        let victim = &self.recording.victim;
        std::fs::copy(victim.workspace.path("config.toml"), folder.join("config.toml")).unwrap();
        let complete = || standings.values().map(|standing| standing.complete);
        let (least, most) = (complete().min().unwrap(), complete().max().unwrap());
        let rounds = if least == most { most + 1 } else { most };
        // Where several reads were taken back, each sync brings one of them.
        for _ in least..rounds {
            let life = victim.shop.next_life(rounds);
            let open = still_open(&standings, rounds);
            let mut command = victim.workspace.command_of(&binary(), &["sync"]);
            command.args(open.iter().map(|kind| format!("shop.{}", kind.name()))).current_dir(folder);
            let finished = finish(life.sign(&mut command).spawn().unwrap());
            assert_eq!(finished.code, Some(0), "the sync after the power cut: {finished:#?}");
            check_requests(life, &victim.shop.log.of(life.number), &standings, &open);
            standings = judge.examine(&open_database(folder), life);
        }
        assert_eq!(still_open(&standings, rounds), [], "the sync after the power cut said that all is complete");
    }

    /// Keeps what the judge did not bear.
    fn violation(&self, cut: &Cut, files: &Files) {
        let mut tally = self.tally.lock().unwrap();
        tally.violations += 1;
        if tally.violations <= KEPT_MAX {
            let folder = tempfile::tempdir().unwrap().keep();
            write(&folder, files, cut.seed);
            let Recording { plan, calls, .. } = self.recording;
            let last = cut.after.checked_sub(1).map(|last| &calls[last]);
            println!(
                "VIOLATION: HIGHWATER_TORTURE_SEED={} {:?}, {cut:?} of {} calls ({}): {}",
                self.seed,
                plan.name,
                calls.len(),
                format!("{last:?}").chars().take(80).collect::<String>(),
                folder.display()
            );
        }
    }
}

/// Opens the file without moving its WAL into it in the end.
fn open_database(folder: &Path) -> Connection {
    let db = Connection::open(folder.join(DATABASE)).unwrap();
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    db
}

fn digest(files: &Files) -> Digest {
    let mut context = Context::new(&SHA256);
    for (name, content) in files {
        context.update(name.as_os_str().as_encoded_bytes());
        context.update(&content.len().to_le_bytes());
        context.update(content);
    }
    context.finish()
}

/// Makes the files in a folder. The index of the WAL is lost, or is anything. Returns whether there is a database.
fn write(folder: &Path, files: &Files, seed: u64) -> bool {
    for (name, content) in files {
        std::fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
        std::fs::write(folder.join(name), content).unwrap();
    }
    let exists = files.contains_key(Path::new(DATABASE));
    if exists && seed.is_multiple_of(3) {
        let mut dice = Dice(seed);
        let garbage: Vec<u8> = (0..4096).flat_map(|_| dice.next().to_le_bytes()).collect();
        std::fs::write(folder.join(format!("{DATABASE}-shm")), garbage).unwrap();
    }
    exists
}
