//! Syncs whose every write and flush is recorded.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

use super::disk::{Choice, Disk, Files};
use super::trace::{CALLS, Call, Tracer};
use crate::histories::dice::Dice;
use crate::support::finish;
use crate::torture::Victim;
use crate::torture::shop::{Shop, Size};

/// In a folder that is missing, in one that is missing: what leads to the file has to be flushed as well.
pub(super) const DATABASE: &str = "new/deep/highwater.db";

/// After so many pages of the file the WAL is moved into it while a sync runs (`FRAMES_MAX` in src/destination/wal.rs),
const FRAMES_MAX: u32 = 16 << 10;

/// and so many are left to the sync that is recorded.
const FRAMES_LEFT: u32 = 120;

/// What is recorded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) name: &'static str,
    pub(super) size: Size,
    pub(super) synchronous: &'static str,
    /// The processes, one after the other, each with the write that it is killed in, if it is.
    pub(super) lives: &'static [Option<u32>],
}

/// What was done to the disk, and all that was ever committed.
pub(super) struct Recording {
    pub(super) plan: Plan,
    pub(super) victim: Victim,
    pub(super) base: Files,
    /// Pages that are committed in `base`.
    pub(super) base_pages: usize,
    pub(super) calls: Vec<Call>,
}

impl Recording {
    /// What `prepare` leaves is there before, and flushed.
    pub(super) fn new(plan: Plan, prepare: impl FnOnce(&mut Victim)) -> Self {
        let mut victim = Victim::new(Shop::open(plan.size, Duration::ZERO));
        let config = std::fs::read_to_string(victim.workspace.path("config.toml")).unwrap();
        // Every page is a commit of its own.
        let synchronous = plan.synchronous;
        let more = format!(
            "[destination]\npath = \"{DATABASE}\"\nsynchronous = \"{synchronous}\"\n[pipeline]\nbatch_rows = 1\n"
        );
        victim.workspace.write("config.toml", &(config + &more));
        std::os::unix::fs::symlink(DATABASE, victim.workspace.path("highwater.db")).unwrap();
        prepare(&mut victim);
        let root = victim.workspace.path("").canonicalize().unwrap();
        let (base, base_pages) = (files_in(&root), victim.judge.pages());
        let mut tracer = Tracer::new(&root, base.keys());
        for killed_at in plan.lives {
            tracer.read(&live(&mut victim, *killed_at));
        }
        let recording = Self { plan, victim, base, base_pages, calls: tracer.calls };
        let mut disk = Disk::new(&recording.base);
        recording.calls.iter().for_each(|call| disk.make(call));
        // If this fails, the model has missed something.
        let modelled = disk.after_cut(Choice::All, &mut Dice(0));
        let found = files_in(&root);
        assert!(modelled == found, "{:?} and {:?} are not the same", lengths(&modelled), lengths(&found));
        assert_eq!(disk.said, recording.victim.judge.pages(), "what was said to be committed");
        recording
    }
}

fn lengths(files: &Files) -> Vec<(&PathBuf, usize)> {
    files.iter().map(|(name, content)| (name, content.len())).collect()
}

/// A process from its start to its end, as it was traced.
fn live(victim: &mut Victim, killed_at: Option<u32>) -> String {
    victim.rounds += u64::from(victim.open().is_empty());
    let open = victim.open();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("calls");
    let calls = format!("trace={CALLS}");
    let mut wrapper = vec!["strace", "-f", "-y", "-xx", "-s", "1000000", "-o", file.to_str().unwrap(), "-e", &calls];
    let kill = killed_at.map(|write| format!("inject=pwrite64:signal=KILL:when={write}"));
    wrapper.extend(kill.iter().flat_map(|kill| ["-e", kill]));
    let mut command = victim.command(&wrapper);
    command.env("HIGHWATER_LOG", "highwater::destination=debug");
    let finished = finish(command.spawn().unwrap());
    if killed_at.is_some() {
        assert_eq!(finished.code, None, "it was not killed: {finished:#?}");
        victim.judge(&open);
    } else {
        victim.ended_well(finished, &open);
    }
    std::fs::read_to_string(file).unwrap()
}

/// The files of the database and those of SQLite beside it.
fn files_in(root: &Path) -> Files {
    let database = root.join(DATABASE);
    let Ok(folder) = std::fs::read_dir(database.parent().unwrap()) else { return Files::new() };
    let paths = folder.map(|entry| entry.unwrap().path());
    let paths = paths.filter(|path| path.extension().is_some_and(|extension| extension != "lock"));
    let paths = paths.filter(|path| path.extension().is_some_and(|extension| extension != "db-shm"));
    paths.map(|path| (path.strip_prefix(root).unwrap().to_owned(), std::fs::read(&path).unwrap())).collect()
}

/// A file of an earlier version, with small pages and so many of them in its WAL that it will soon be moved.
pub(super) fn old_file_with_a_long_wal(victim: &mut Victim) {
    let database = victim.workspace.path(DATABASE);
    std::fs::create_dir_all(database.parent().unwrap()).unwrap();
    let db = Connection::open(&database).unwrap();
    db.execute_batch("PRAGMA page_size = 512; CREATE TABLE t (n); DROP TABLE t; VACUUM").unwrap();
    drop(db);
    victim.rounds = 1;
    let open = victim.open();
    let child = victim.command(&[]).spawn().unwrap();
    victim.ended_well(finish(child), &open);
    let db = Connection::open(&database).unwrap();
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; PRAGMA synchronous = OFF;
         DROP INDEX _hw_quarantine_left; DROP TABLE _hw_minutes; DROP TABLE _hw_paused; DROP TABLE _hw_validators;
         ALTER TABLE _hw_quarantine DROP COLUMN is_row; ALTER TABLE _hw_quarantine DROP COLUMN retried_page_id;
         ALTER TABLE _hw_resources DROP COLUMN rows; ALTER TABLE _hw_resources DROP COLUMN next_rows;
         CREATE TABLE mine (n); INSERT INTO mine VALUES (0)",
    )
    .unwrap();
    let frames = || {
        let sql = "PRAGMA wal_checkpoint(NOOP)";
        db.query_row(sql, [], |row| row.get::<_, u32>(1)).unwrap()
    };
    for _ in frames()..FRAMES_MAX - FRAMES_LEFT {
        db.execute("UPDATE mine SET n = n + 1", []).unwrap();
    }
    let root = victim.workspace.path("");
    let files = files_in(&root);
    drop(db);
    // As if the process had been killed.
    files.into_iter().for_each(|(name, content)| std::fs::write(root.join(name), content).unwrap());
}
