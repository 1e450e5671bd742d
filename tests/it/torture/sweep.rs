//! What the tortures at single system calls have in common: files in several states to start from, the calls that a sync of
//! each makes in the folder of its database, and points to strike at, two of them side by side.

#![expect(clippy::print_stdout, reason = "a sweep says what it did")]

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::judge::{Judge, nothing_read};
use super::shop::{Life, Shop, Size};
use super::{Victim, seed};
use crate::histories::dice::Dice;
use crate::support::{Finished, binary, finish};

const SIZE: Size = Size([2, 2, 2, 2, 1, 1, 1]);

/// Every page is a commit of its own.
const COMMITS: &str = "[pipeline]\nbatch_rows = 1\n";

/// The calls that a file is flushed by, the one or the other.
pub(crate) const FLUSHES: [&str; 2] = ["fdatasync", "fsync"];

/// A file of the earliest version: without the columns, tables and indexes that came later, with those that went, and with
/// the narrower CHECK of its runs.
const EARLIEST: &str = r"
    CREATE TABLE runs_before AS SELECT * FROM _hw_runs;
    DROP TABLE _hw_runs;
    RUNS;
    INSERT INTO _hw_runs SELECT * FROM runs_before;
    DROP TABLE runs_before;
    DROP TABLE _hw_validators; DROP TABLE _hw_paused; DROP TABLE _hw_minutes;
    DROP INDEX _hw_pages_of_run; DROP INDEX _hw_checkpoints_failed;
    DROP INDEX _hw_quarantine_of_page; DROP INDEX _hw_quarantine_left;
    ALTER TABLE _hw_quarantine DROP COLUMN is_row; ALTER TABLE _hw_quarantine DROP COLUMN retried_page_id;
    ALTER TABLE _hw_resources DROP COLUMN rows; ALTER TABLE _hw_resources DROP COLUMN next_rows;
    CREATE INDEX _hw_runs_of_resource ON _hw_runs (source, resource, run_id);
    CREATE INDEX _hw_quarantine_of_resource ON _hw_quarantine (source, resource);";

/// A file to start from, and the calls that a sync makes on it.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    base: Victim,
    /// The names of the files that are touched, from the folder on.
    files: BTreeSet<String>,
    /// How often the thread that calls it most often makes each kind of call.
    pub(crate) calls: BTreeMap<String, u64>,
}

/// Where and how to strike.
pub(crate) struct Point<'a> {
    pub(crate) workload: &'a Workload,
    pub(crate) call: String,
    /// What happens there, in the words of strace.
    pub(crate) fault: &'static str,
    /// Which call of its kind it is.
    pub(crate) number: u64,
    /// Whether all calls after it fail as well.
    pub(crate) more: bool,
}

/// A call that something was done to.
#[derive(Debug)]
pub(crate) struct Struck {
    /// As strace shows it.
    pub(crate) call: String,
    /// Whether no such call has been made on the WAL before.
    pub(crate) is_before_wal: bool,
}

impl Point<'_> {
    fn name(&self) -> String {
        format!("{}/{}", self.kind(), self.number)
    }

    /// Without its number.
    fn kind(&self) -> String {
        format!("{}/{}/{}{}", self.workload.name, self.call, self.fault, self.more())
    }

    fn more(&self) -> &'static str {
        if self.more { "+" } else { "" }
    }
}

/// Whether strace is there and may trace.
pub(crate) fn can_trace() -> bool {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "true"]);
    let is_there = command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if !is_there {
        println!("skipped: strace is not installed, or may not trace here");
    }
    is_there
}

impl Victim {
    /// Another one at the same point, with a copy of the folder.
    fn fork(&self) -> Self {
        let workspace = crate::support::Workspace::new();
        for entry in std::fs::read_dir(self.workspace.path("")).unwrap() {
            let entry = entry.unwrap();
            // Who holds shared memory is dead.
            if entry.file_name() != "highwater.db-shm" {
                std::fs::copy(entry.path(), workspace.path(entry.file_name().to_str().unwrap())).unwrap();
            }
        }
        let (shop, judge, standings) = (Arc::clone(&self.shop), self.judge.clone(), self.standings.clone());
        Self { shop, workspace, judge, standings, life: self.life, rounds: self.rounds }
    }

    /// A life under strace, to its end.
    fn traced(&mut self, options: &[&str]) -> Finished {
        let mut wrapper = vec!["strace", "-f", "-qq", "-y", "-o", "calls"];
        wrapper.extend(options);
        finish(self.command(&wrapper).spawn().unwrap())
    }

    /// Strikes at a call; returns how it ended and the calls that something was done to.
    fn strike(&mut self, point: &Point<'_>) -> (Finished, Vec<Struck>) {
        let call = &point.call;
        let inject = format!("inject={call}:{}:when={}{}", point.fault, point.number, point.more());
        let trace = format!("trace={call}");
        let paths: Vec<String> = point.workload.files.iter().map(|file| self.folder() + file).collect();
        let mut options = vec!["-e", &trace, "-e", &inject];
        options.extend(paths.iter().flat_map(|path| ["-P", path]));
        if !point.fault.starts_with("signal=") {
            // So other calls cost no time. But at such a stop, no signal can be given.
            options.push("--seccomp-bpf");
        }
        let finished = self.traced(&options);
        let calls = std::fs::read_to_string(self.workspace.path("calls")).unwrap();
        let first_of_wal = calls.lines().position(|call| call.contains("/highwater.db-wal")).unwrap_or(usize::MAX);
        // A call that a process was killed at never returned.
        let is_struck = |call: &str| call.contains("(INJECTED)") || call.ends_with(" = ?");
        let struck = calls.lines().enumerate().filter(|(_, call)| is_struck(call));
        let struck = struck.map(|(at, call)| Struck { call: call.to_owned(), is_before_wal: at < first_of_wal });
        (finished, struck.collect())
    }

    /// Without a slash at its end.
    fn folder(&self) -> String {
        self.workspace.path("").canonicalize().unwrap().to_str().unwrap().to_owned()
    }

    /// A life without faults: it completes what was left, or another round where nothing was.
    pub(crate) fn complete(&mut self) {
        if self.open().is_empty() {
            self.rounds += 1;
        }
        let open = self.open();
        let finished = finish(self.command(&[]).spawn().unwrap());
        self.ended_well(finished, &open);
        self.check_all();
    }
}

/// The calls of a trace that touch the database, what SQLite keeps beside it, its lock, or the folder itself.
fn calls_in(trace: &str, folder: &str) -> (BTreeSet<String>, BTreeMap<String, u64>) {
    let (mut files, mut by_thread) = (BTreeSet::new(), BTreeMap::<(&str, &str), u64>::new());
    // Where a path starts from is not what is touched.
    let trace = trace.replace(&format!("AT_FDCWD<{folder}>"), "AT_FDCWD");
    for line in trace.lines() {
        let Some((_, found)) = line.split_once(folder) else { continue };
        let file = &found[..found.find(['"', '>']).unwrap()];
        let is_counted = file.is_empty() || file.starts_with("/highwater.db");
        let (thread, call) = line.split_once(' ').unwrap();
        let Some((call, _)) = call.trim_start().split_once('(') else { continue };
        if is_counted {
            files.insert(file.to_owned());
            *by_thread.entry((thread, call)).or_default() += 1;
        }
    }
    let mut calls = BTreeMap::<String, u64>::new();
    for ((_, call), count) in by_thread {
        let most = calls.entry(call.to_owned()).or_default();
        *most = count.max(*most);
    }
    (files, calls)
}

impl Workload {
    /// Watches a sync of `base` that nothing disturbs.
    fn new(name: &'static str, base: Victim) -> Self {
        let mut watched = base.fork();
        let open = watched.open();
        let finished = watched.traced(&["-e", "trace=%file,%desc"]);
        let trace = std::fs::read_to_string(watched.workspace.path("calls")).unwrap();
        watched.ended_well(finished, &open);
        watched.check_all();
        let (files, calls) = calls_in(&trace, &watched.folder());
        let of_sqlite = files.contains("/highwater.db-wal") && calls.contains_key("pwrite64");
        assert!(of_sqlite && FLUSHES.iter().any(|call| calls.contains_key(*call)), "{files:?} {calls:?}");
        println!("{name}: {calls:?}");
        Self { name, base, files, calls }
    }

    /// A copy of what a process leaves that is killed in the middle of this, with a WAL and with a read to go on with.
    fn cut_short(&self) -> Victim {
        let (flushes, call) =
            FLUSHES.map(|call| (self.calls.get(call).copied().unwrap_or(0), call)).into_iter().max().unwrap();
        for number in (flushes / 2)..flushes {
            let mut victim = self.base.fork();
            let open = victim.open();
            let (call, fault) = (call.to_owned(), "signal=KILL");
            let (finished, _) = victim.strike(&Point { workload: self, call, fault, number, more: false });
            assert_eq!(finished.code, None, "{finished:#?}");
            victim.judge(&open);
            if victim.standings.values().any(|standing| standing.is_open) {
                assert!(victim.workspace.path("highwater.db-wal").metadata().unwrap().len() > 0);
                return victim;
            }
        }
        panic!("no flush is in the middle of a read");
    }

    /// All there are: a first sync into no file; the recovery of one that was cut short; a second sync, which updates,
    /// appends and swaps; and one that was cut short, by the earliest version.
    pub(crate) fn all() -> Vec<Self> {
        let shop = Arc::new(Shop::open(SIZE, Duration::ZERO));
        let workspace = shop.workspace();
        let config = std::fs::read_to_string(workspace.path("config.toml")).unwrap();
        workspace.write("config.toml", &(config + COMMITS));
        let judge = Judge::new(SIZE);
        let new = Victim { shop, workspace, judge, standings: nothing_read(SIZE), life: Life::default(), rounds: 1 };
        let mut complete = new.fork();
        complete.complete();
        complete.rounds += 1;
        let first = Self::new("first", new);
        let recovery = Self::new("recovery", first.cut_short());
        let second = Self::new("second", complete);
        let old = second.cut_short();
        make_old(&old);
        vec![first, recovery, second, Self::new("migration", old)]
    }
}

fn make_old(victim: &Victim) {
    let db = Connection::open(victim.workspace.path("highwater.db")).unwrap();
    let runs: String = victim.workspace.value("SELECT sql FROM sqlite_schema WHERE name = '_hw_runs'");
    let before = runs.replace(", 'retry'", "");
    assert_ne!(runs, before);
    db.execute_batch(&EARLIEST.replace("RUNS", &before)).unwrap();
    db.close().unwrap();
}

/// What is to be done: everything, a few points that the dice choose, or the one that `HIGHWATER_TORTURE_POINT` names; where
/// that ends with a slash, all whose names begin so.
pub(crate) struct Form {
    pub(crate) seed: u64,
    few: Option<usize>,
    point: Option<String>,
}

pub(crate) fn is_full() -> bool {
    std::env::var("HIGHWATER_TORTURE").is_ok_and(|form| form == "full")
}

impl Form {
    /// `few` points are struck in the short form.
    pub(crate) fn chosen(few: usize) -> Self {
        let point = std::env::var("HIGHWATER_TORTURE_POINT").ok();
        Self { seed: seed(), few: (!is_full() && point.is_none()).then_some(few), point }
    }

    fn of<'a>(&self, mut points: Vec<Point<'a>>) -> Vec<Point<'a>> {
        if let Some(wanted) = &self.point {
            points
                .retain(|point| point.name() == *wanted || (wanted.ends_with('/') && point.name().starts_with(wanted)));
        }
        let Some(few) = self.few else { return points };
        // Calls that are made rarely get their turn as well.
        let mut dice = Dice(self.seed);
        let kinds: BTreeSet<_> = points.iter().map(Point::kind).collect();
        let kinds: Vec<_> = kinds.into_iter().collect();
        let mut chosen = Vec::new();
        for _ in 0..few {
            let kind = dice.one_of(&kinds);
            let of_kind: Vec<usize> = (0..points.len()).filter(|number| points[*number].kind() == *kind).collect();
            if !of_kind.is_empty() {
                chosen.push(points.swap_remove(*dice.one_of(&of_kind)));
            }
        }
        chosen
    }
}

/// Works at a list, two things of it at a time.
pub(crate) fn side_by_side<T: Sync, R: Send>(list: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        while let Some(item) = list.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.push(work(item));
        }
        done
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(worker);
        let mut done = worker();
        done.extend(other.join().unwrap());
        done
    })
}

/// What came of points.
#[derive(Default)]
struct Sum {
    points: u64,
    /// The call did not come: threads do not divide the work in the same way each time.
    missed: u64,
    calls: u64,
    violations: u64,
    time: Duration,
}

impl Sum {
    fn add(&mut self, other: &Self) {
        self.points += other.points;
        self.missed += other.missed;
        self.calls += other.calls;
        self.violations += other.violations;
        self.time += other.time;
    }
}

/// Strikes at all points of the form, and has `check` say whether what came of each is right; it is given the calls that
/// something was done to. Prints a table, and `TORTURE` lines for `title`.
pub(crate) fn sweep(
    title: &str,
    form: &Form,
    points: Vec<Point<'_>>,
    check: impl Fn(&Point<'_>, &Finished, &[Struck]) + Sync,
) {
    let points = form.of(points);
    let struck = side_by_side(&points, |point| {
        let started = Instant::now();
        let mut victim = point.workload.base.fork();
        let result = catch_unwind(AssertUnwindSafe(|| {
            let open = victim.open();
            let (finished, calls) = victim.strike(point);
            check(point, &finished, &calls);
            if finished.code == Some(0) {
                victim.ended_well(finished, &open);
            } else {
                victim.judge(&open);
            }
            victim.complete();
            calls.len() as u64
        }));
        if result.is_err() {
            println!("VIOLATION: what is left is in {}", victim.workspace.keep().display());
            let (name, binary) = (point.name(), binary());
            println!("VIOLATION: again: HIGHWATER={binary} HIGHWATER_TORTURE_POINT={name} {AGAIN}");
        }
        let (violations, calls) = (u64::from(result.is_err()), result.unwrap_or(1));
        let sum = Sum { points: 1, missed: u64::from(calls == 0), calls, violations, time: started.elapsed() };
        (point.workload.name, point.kind(), sum)
    });
    report(title, form.seed, &struck);
}

/// How a point is struck again.
const AGAIN: &str = "cargo test --locked --test it torture:: -- --nocapture";

fn report(title: &str, seed: u64, struck: &[(&str, String, Sum)]) {
    let (mut kinds, mut workloads) = (BTreeMap::<_, Sum>::new(), BTreeMap::<_, Sum>::new());
    for (workload, kind, one) in struck {
        kinds.entry(kind).or_default().add(one);
        workloads.entry(workload).or_default().add(one);
    }
    for (kind, Sum { points, missed, calls, violations, time }) in kinds {
        let time = time.as_secs_f64();
        println!("{kind:36} {points:4} points ({missed} missed), {calls} calls, {violations} violations, {time:.1} s");
    }
    for (workload, Sum { points, missed, calls, violations, time }) in &workloads {
        // Two at a time.
        let (struck, time) = (points - missed, time.as_secs_f64() / 2.0);
        println!("TORTURE {title}: {workload}\t{struck} points, {calls} calls\t{violations}\t{seed}\t{time:.0}");
    }
    assert_eq!(workloads.values().map(|sum| sum.violations).sum::<u64>(), 0, "violations, see above");
}
