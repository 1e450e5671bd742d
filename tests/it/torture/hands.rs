//! What people and other programs do to a daemon and to its file: stop it for a while, take the file away, keep it locked,
//! fill its disk.

#![expect(clippy::print_stdout, reason = "what cannot be done here is said")]

use std::os::unix::process::CommandExt;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::database_file::is_installed;
use crate::pages::{Pages, gate, items, until};
use crate::support::{Api, Running, Seen, Workspace, binary, finish, json as answer, records};

/// A resource that is read at the times that `keys` say; the status page is off, and a lock is not waited for for long.
pub(super) fn daemon(api: &Api, keys: &str) -> Workspace {
    let text = format!(
        "[web]\nlisten = \"off\"\n[destination]\nbusy_timeout = \"50ms\"\n{}{keys}\n",
        items("primary_key = \"id\"\npaginator = { type = \"single_page\" }")
    );
    Workspace::with_config(api.address, &text)
}

pub(super) fn ten_records(_: &Seen, _: usize) -> axum::response::Response {
    answer(Value::from(records(0..10)))
}

fn serve(workspace: &Workspace) -> Running {
    Running::start(workspace.command(&["serve", "-v"]))
}

pub(super) fn stop(daemon: Running) {
    daemon.signal(Signal::TERM);
    let finished = daemon.finish();
    assert_eq!(finished.code, Some(0), "{finished:#?}");
}

fn complete_runs(workspace: &Workspace) -> i64 {
    workspace.value("SELECT count(*) FROM _hw_runs WHERE outcome = 'complete'")
}

#[test]
fn x07_a_daemon_that_was_stopped_for_a_while_makes_up_for_one_run_and_not_for_all() {
    let api = Api::start(ten_records);
    let workspace = daemon(&api, "every = \"1s\"");
    let daemon = serve(&workspace);
    api.wait_for(1);
    daemon.signal(Signal::STOP);
    let stopped = Instant::now();
    // Three runs fall due meanwhile, at least. Nobody else knows how long that takes.
    until("some intervals are over", || stopped.elapsed() > Duration::from_millis(4_200));
    let before = api.seen().len();
    daemon.signal(Signal::CONT);
    api.wait_for(before + 4);
    stop(daemon);
    // By its own books, none began less than an interval after the one before; were all made up for, they would be in no time.
    let starts: Vec<String> = workspace.column("SELECT started_at FROM _hw_runs ORDER BY run_id");
    let starts: Vec<Timestamp> = starts.iter().map(|start| start.parse().unwrap()).collect();
    // They are in milliseconds, of another clock than the one that intervals go by.
    let interval = SignedDuration::from_millis(990);
    assert!(starts.windows(2).all(|next| next[1].duration_since(next[0]) >= interval), "{starts:?}");
    workspace.check_books();
}

#[test]
fn d08_a_file_that_is_removed_moved_or_replaced_under_a_daemon_ends_it_and_the_next_start_is_sound() {
    type Act = fn(&Workspace);
    let acts: [(&str, Act, i64); 3] = [
        ("removed", |workspace| std::fs::remove_file(workspace.path("highwater.db")).unwrap(), 1),
        ("moved", |workspace| std::fs::rename(workspace.path("highwater.db"), workspace.path("away.db")).unwrap(), 1),
        (
            "replaced",
            |workspace| std::fs::rename(workspace.path("backup.db"), workspace.path("highwater.db")).unwrap(),
            2,
        ),
    ];
    for (name, act, runs) in acts {
        let api = Api::start(ten_records);
        let workspace = daemon(&api, "every = \"1h\"");
        workspace.sync(0);
        std::fs::copy(workspace.path("highwater.db"), workspace.path("backup.db")).unwrap();
        // So that it has something to do at once, and has a WAL.
        let db = Connection::open(workspace.path("highwater.db")).unwrap();
        db.execute_batch("UPDATE _hw_runs SET started_at = '2020-01-01T00:00:00.000Z'").unwrap();
        drop(db);
        let mut daemon = serve(&workspace);
        daemon.wait_for("a run has ended");
        act(&workspace);
        let ended = daemon.finish();
        assert_eq!(ended.code, Some(74), "{name}: {ended:#?}");
        assert!(ended.stderr.contains("highwater.db was moved, removed or replaced"), "{name}: {ended:#?}");
        if name == "moved" {
            let away = Connection::open(workspace.path("away.db")).unwrap();
            let complete: i64 = away
                .query_row("SELECT count(*) FROM _hw_runs WHERE outcome = 'complete'", [], |row| row.get(0))
                .unwrap();
            assert_eq!(complete, 2, "what was committed is where the file is");
        }
        workspace.sync(0);
        assert_eq!(
            (complete_runs(&workspace), workspace.value("SELECT count(*) FROM shop_items")),
            (runs, 10),
            "{name}"
        );
        workspace.check_books();
    }
}

#[test]
fn d08_a_sync_whose_file_is_taken_away_does_not_end_well_and_the_file_is_whole() {
    let (gate, barrier) = gate();
    let pages = large_pages();
    let api = Api::start(move |request, _| {
        barrier.wait();
        pages.answer(request)
    });
    let workspace = Workspace::with_config(api.address, &items(""));
    let running = workspace.spawn(&["sync"]);
    api.wait_for(1);
    std::fs::rename(workspace.path("highwater.db"), workspace.path("away.db")).unwrap();
    drop(gate);
    let ended = finish(running);
    assert_eq!(ended.code, Some(74), "{ended:#?}");
    assert!(ended.stderr.contains("highwater.db was moved, removed or replaced"), "{ended:#?}");
    std::fs::rename(workspace.path("away.db"), workspace.path("highwater.db")).unwrap();
    check_large_pages(&workspace);
}

#[test]
fn d01_a_daemon_outlives_a_program_that_keeps_the_file_locked() {
    let api = Api::start(ten_records);
    let workspace = daemon(&api, "every = \"1s\"");
    let mut daemon = serve(&workspace);
    until("a run is complete", || workspace.path("highwater.db").exists() && api.seen().len() > 1);
    let other = Connection::open(workspace.path("highwater.db")).unwrap();
    other.busy_timeout(crate::support::PATIENCE).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    daemon.wait_for("another program holds the database");
    other.execute_batch("COMMIT").unwrap();
    let before = complete_runs(&workspace);
    until("runs are complete again", || complete_runs(&workspace) > before);
    stop(daemon);
    workspace.check_books();
}

#[test]
fn d07_a_reader_that_never_ends_keeps_a_daemon_neither_from_its_work_nor_from_its_end() {
    let api = Api::start(ten_records);
    let workspace = daemon(&api, "every = \"1s\"");
    workspace.sync(0);
    let daemon = serve(&workspace);
    let reader = workspace.db();
    reader.execute_batch("BEGIN; SELECT * FROM shop_items").unwrap();
    let seen = || reader.query_row("SELECT count(*) FROM _hw_runs", [], |row| row.get::<_, i64>(0)).unwrap();
    let runs = seen();
    until("it reads", || complete_runs(&workspace) > runs + 1);
    assert_eq!(seen(), runs, "the reader sees what it saw");
    stop(daemon);
    reader.execute_batch("COMMIT").unwrap();
    drop(reader);
    workspace.sync(0);
    assert!(!workspace.path("highwater.db-wal").exists());
    workspace.check_books();
}

/// A small disk of its own that is full, in a namespace that nobody else sees.
const FULL_DISK: &str =
    "mkdir disk; mount -t tmpfs -o size=4m none disk || exit 77; head -c 3400000 /dev/zero > disk/filler\n";

/// Whether a file system can be mounted that nobody else sees.
pub(super) fn can_mount() -> bool {
    let can = std::process::Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    let can = is_installed("unshare") && can.is_ok_and(|output| output.status.success());
    if !can {
        println!("skipped: a file system can only be mounted by root");
    }
    can
}

/// Runs a script in a namespace of its own; none where that is not allowed.
fn with_disk(api: &Api, script: &str) -> Option<(Workspace, Running)> {
    if !can_mount() {
        return None;
    }
    let text = "[web]\nlisten = \"off\"\n[destination]\npath = \"disk/highwater.db\"\n[pipeline]\nbatch_rows = 1\n";
    let workspace = Workspace::with_config(api.address, &(text.to_owned() + &items("")));
    let script = FULL_DISK.to_owned() + script + "\ncp disk/highwater.db* .";
    let mut command = workspace.command_of("unshare", &["-m", "sh", "-c", &script, &binary()]);
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").process_group(0);
    Some((workspace, Running::start(command)))
}

/// Twenty pages, more than the disk has room for while it is full.
fn large_pages() -> Pages {
    let large = |page: u64| Value::from_iter((0..10).map(|n| json!({"n": page * 10 + n, "text": "x".repeat(1000)})));
    Pages::new(&(0..20).map(large).collect::<Vec<_>>())
}

fn check_large_pages(workspace: &Workspace) {
    assert_eq!(workspace.column::<i64>("SELECT n FROM shop_items ORDER BY rowid"), (0..200).collect::<Vec<_>>());
    workspace.check_books();
}

#[test]
fn d03_a_file_system_without_room_fails_the_run_and_with_room_the_next_one_goes_on() {
    let api = Api::start(large_pages().api());
    let script = "\"$0\" sync >&2; echo \"ended with $?\" >&2; rm disk/filler; \"$0\" sync; echo \"ended with $?\" >&2";
    let Some((workspace, mut running)) = with_disk(&api, script) else { return };
    running.wait_for("no space left for the database");
    running.wait_for("ended with 74");
    let asked = api.seen().len();
    running.wait_for("ended with 0");
    assert_eq!(running.finish().code, Some(0));
    assert!(asked > 2, "{asked} requests until the disk was full");
    check_large_pages(&workspace);
}
