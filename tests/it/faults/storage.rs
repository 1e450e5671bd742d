//! Disks that fail, copies of a file that is being written, and variables that look like configuration.

#![expect(clippy::print_stdout, reason = "what cannot be done here is said")]

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::database_file::is_installed;
use crate::pages::{Pages, items};
use crate::support::{Api, Running, Workspace, binary, finish, json, numbered, records};

/// The system calls that a file is flushed by.
const FLUSHES: &str = "fdatasync,fsync";
const MERGE: &str = "primary_key = \"id\"";

fn five_pages() -> Pages {
    Pages::new(&[0, 1, 2, 3, 4].map(|page| Value::from(records(page * 10..page * 10 + 10))))
}

/// The binary under strace, which does what `inject` says to some of the calls `calls`; none where it may not trace. The process is
/// the one that is traced.
fn under_strace(workspace: &Workspace, calls: &str, inject: &str, arguments: &[&str]) -> Option<Command> {
    let mut command = Command::new("strace");
    command.args(["-qq", "-o", "/dev/null", "true"]).stdout(Stdio::null()).stderr(Stdio::null());
    if !command.status().is_ok_and(|status| status.success()) {
        println!("skipped: strace is not installed, or may not trace here");
        return None;
    }
    let (trace, inject) = (format!("trace={calls}"), format!("inject={calls}:{inject}"));
    let mut command = Command::new("strace");
    command.args(["-D", "-f", "-y", "-qq", "-o"]).arg(workspace.path("calls"));
    command.args(["-e", &trace, "-e", &inject]).arg(binary()).args(arguments).current_dir(workspace.path(""));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Some(command)
}

/// Where the disk fails at the n-th flush or the n-th write, once or from then on, no success is reported, and no row
/// is lost or doubled by it.
#[test]
fn d04_an_error_of_the_disk_is_seen_and_the_next_run_goes_on() {
    let (mut injected, mut swallowed) = (0, Vec::new());
    // The last ones are those that move the WAL into the file at the end.
    for (calls, number, more) in [
        (FLUSHES, 1, ""),
        (FLUSHES, 3, "+"),
        (FLUSHES, 10, ""),
        (FLUSHES, 11, ""),
        ("pwrite64", 3, ""),
        ("pwrite64", 20, "+"),
        ("pwrite64", 90, ""),
    ] {
        let api = Api::start(five_pages().api());
        // Every page is a commit of its own.
        let text = items("write_disposition = \"append\"") + "[pipeline]\nbatch_rows = 1\n";
        let workspace = Workspace::with_config(api.address, &text);
        // The file is there, so that what fails is not the making of it.
        workspace.sync(0);
        let inject = format!("error=EIO:when={number}{more}");
        let Some(mut command) = under_strace(&workspace, calls, &inject, &["sync", "--json"]) else { return };
        let finished = finish(command.spawn().unwrap());
        let traced = std::fs::read_to_string(workspace.path("calls")).unwrap_or_default();
        let name = format!("{calls}, call {number}{more}");
        let failed: Vec<&str> = traced.lines().filter(|call| call.contains("INJECTED")).collect();
        injected += failed.len();
        // SQLite passes over errors of flushing a folder: not every file system can do that.
        if failed.iter().any(|call| call.contains("/highwater.db")) && finished.code != Some(74) {
            swallowed.push(format!("{name}: {finished:#?}\n{traced}"));
        }
        // A run that was not completed is gone on with; after a complete one, the next appends everything again.
        let complete = "SELECT count(*) FROM _hw_runs WHERE outcome = 'complete'";
        let runs = workspace.value::<i64>(complete) + 1;
        workspace.sync(0);
        let rows = workspace.column::<i64>("SELECT count(*) FROM shop_items GROUP BY id");
        assert_eq!(rows, vec![runs; 50], "{name}: {finished:#?}");
        workspace.check_books();
    }
    assert!(swallowed.is_empty(), "of {injected} errors, these were swallowed: {}", swallowed.join("\n"));
    println!("{injected} errors were injected");
}

/// SQLite calls a quota that is used up an error of the disk. Written are the pages and the file that tries whether there is room,
/// by the same call.
#[test]
fn d03_a_quota_that_is_used_up_is_a_full_disk_for_a_sync_and_for_a_daemon() {
    let api = Api::start(five_pages().api());
    let text = items("write_disposition = \"append\"\nevery = \"1s\"")
        + "[pipeline]\nbatch_rows = 1\n[web]\nlisten = \"off\"\n";
    let workspace = Workspace::with_config(api.address, &text);
    workspace.sync(0);
    for (error, said) in [("EDQUOT", "no space left for the database"), ("EIO", "writing the database failed")] {
        let inject = format!("error={error}:when=30+");
        let Some(mut command) = under_strace(&workspace, "pwrite64", &inject, &["sync"]) else { return };
        let finished = finish(command.spawn().unwrap());
        assert!(finished.code == Some(74) && finished.stdout.contains(said), "{error}: {finished:#?}");
        workspace.sync(0);
        workspace.check_books();
    }
    let manager = std::os::unix::net::UnixDatagram::bind(workspace.path("notify")).unwrap();
    let serve = ["serve", "-v"];
    let Some(mut command) = under_strace(&workspace, "pwrite64", "error=EDQUOT:when=30+", &serve) else { return };
    // A daemon that is watched looks for room as often as it has to say that it is alive.
    command.env("NOTIFY_SOCKET", workspace.path("notify")).env("WATCHDOG_USEC", "400000");
    let mut daemon = Running::start(command);
    daemon.wait_for("the disk is full");
    // Each thread has its own count of calls, and the database is written by another one now.
    daemon.wait_for("the disk is full");
    daemon.signal(rustix::process::Signal::TERM);
    let finished = daemon.finish();
    assert!([Some(0), Some(74), Some(75)].contains(&finished.code), "{finished:#?}");
    drop(manager);
    workspace.sync(0);
    workspace.check_books();
    assert_eq!(workspace.value::<i64>("SELECT count(*) % 50 FROM shop_items"), 0);
}

#[test]
fn d10_a_copy_that_is_made_while_a_run_writes_is_whole_and_can_be_gone_on_with() {
    if !is_installed("sqlite3") {
        println!("skipped: sqlite3 is not installed");
        return;
    }
    let (gate, barrier) = crate::pages::gate();
    let pages = five_pages();
    let api = Api::start(move |request, _| {
        barrier.wait();
        pages.answer(request)
    });
    let text = items("write_disposition = \"append\"") + "[pipeline]\nbatch_rows = 1\n";
    let workspace = Workspace::with_config(api.address, &text);
    let running = workspace.spawn(&["sync"]);
    gate.let_one_go();
    gate.let_one_go();
    let stored = || {
        workspace.path("highwater.db").exists()
            && workspace.value::<i64>("SELECT count(*) FROM sqlite_schema WHERE name = '_hw_pages'") == 1
            && workspace.value::<i64>("SELECT count(*) FROM _hw_pages") == 2
    };
    api.wait_for(3);
    crate::pages::until("two pages are stored", stored);
    let copy = Workspace::with_config(api.address, &text);
    let backup = format!(".backup {}", copy.path("highwater.db").display());
    assert!(Command::new("sqlite3").arg(workspace.path("highwater.db")).arg(backup).status().unwrap().success());
    drop(gate);
    assert_eq!(finish(running).code, Some(0));
    copy.check_books();
    assert_eq!(copy.value::<i64>("SELECT count(*) FROM shop_items"), 20);
    assert_eq!(copy.sync(0)["resources"][0]["resumed_at"], "page 3");
    for workspace in [&workspace, &copy] {
        assert_eq!(workspace.column::<i64>("SELECT id FROM shop_items ORDER BY rowid"), (0..50).collect::<Vec<_>>());
        workspace.check_books();
    }
}

#[test]
fn c03_a_variable_that_looks_like_configuration_is_a_value() {
    let evil = Api::start(|_, _| json(Value::Array(Vec::new())));
    for value in [
        "x\", evil = \"1",
        "x\"]\n[sources.evil.client]\nbase_url = \"EVIL\"\n[sources.evil.resources.r]\n",
        "${env:OTHER} ${file:/etc/hostname} ${incremental.start_value}",
        "a&b=c#d/../e?f%00",
        "{{ 7 * 7 }}",
    ] {
        let value = value.replace("EVIL", &format!("http://{}/", evil.address));
        let api = Api::start(numbered(5, 10));
        let resource = "params = { q = \"${env:VALUE}\" }\ndata_selector = \"data\"\n";
        let text = items(&format!("{MERGE}\n{resource}paginator = {{ type = \"single_page\" }}"));
        let workspace = Workspace::with_config(api.address, &text);
        let mut command = workspace.command(&["sync", "--json"]);
        command.env("VALUE", &value).env("OTHER", "canary-42");
        let finished = finish(command.spawn().unwrap());
        assert_eq!(finished.code, Some(0), "{value}: {finished:#?}");
        assert_eq!(api.seen().len(), 1);
        assert_eq!(api.seen()[0].param("q").as_deref(), Some(&*value));
        assert_eq!(api.seen()[0].path(), "/items");
    }
    assert_eq!(evil.seen().len(), 0);
}

#[test]
fn c09_check_and_sync_say_the_same_of_a_configuration() {
    let api = Api::start(numbered(5, 10));
    for (keys, code) in [
        ("primary_key = \"id\"\ndata_selector = \"data\"\npaginator = { type = \"single_page\" }", 0),
        ("primary_keys = \"id\"", 78),
        ("params = { q = \"${env:NOWHERE}\" }", 78),
        ("write_disposition = \"merge\"", 78),
        ("processing_steps = [{ filter = \"a ==\" }]", 78),
        ("schedule = \"soon\"", 78),
    ] {
        let workspace = Workspace::with_config(api.address, &items(keys));
        let (check, sync) = (workspace.run(&["check"]), workspace.run(&["sync"]));
        assert_eq!((check.code, sync.code), (Some(code), Some(code)), "{keys}: {check:#?} {sync:#?}");
        assert!(code == 0 || check.stderr == sync.stderr, "{keys}: {check:#?} {sync:#?}");
    }
}
