//! Promise 12: what a signal ends, and what it leaves. No test waits for time to pass: the API's log, the process's
//! own words and the database say when the moment has come.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Api, Finished, PATIENCE, Running, Workspace, endless, numbered, respond};

/// Ten pages of ten records, one after the other.
const CONFIG: &str = r#"
[destination]
busy_timeout = "2s"
[sources.shop.client]
base_url = "BASE"
[sources.shop.resources.items]
primary_key = "id"
data_selector = "data"
paginator = { type = "page_number", total_path = "pages" }
"#;

/// What a process may take from a signal to its end when nothing keeps it: much less than any timeout in here.
const SOON: Duration = Duration::from_secs(10);

fn pages_of_ten() -> impl Fn(&crate::support::Seen, usize) -> axum::response::Response + Send + Sync {
    numbered(100, 10)
}

/// Pages of ten, of which the fourth does not come while `closed`.
fn gated(closed: Arc<AtomicBool>) -> Api {
    let answer = pages_of_ten();
    Api::start(move |request, number| {
        let held = request.param("page").as_deref() == Some("4") && closed.load(Ordering::SeqCst);
        if held { endless() } else { answer(request, number) }
    })
}

fn sync(workspace: &Workspace) -> Running {
    Running::start(workspace.command(&["sync", "--json"]))
}

fn requested_pages(api: &Api) -> Vec<String> {
    api.seen().iter().map(|request| request.param("page").unwrap()).collect()
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "never: {what}");
        std::thread::yield_now();
    }
}

fn stored_pages(workspace: &Workspace) -> Vec<String> {
    workspace.column("SELECT json_extract(position, '$.page') || '' FROM _hw_pages ORDER BY page_id")
}

fn sidecars(database: &Path) -> Vec<bool> {
    ["-wal", "-shm"].map(|suffix| Path::new(&format!("{}{suffix}", database.display())).exists()).to_vec()
}

#[test]
fn x02_the_first_signal_keeps_what_was_received_and_the_next_sync_goes_on_at_the_next_page() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let closed = Arc::new(AtomicBool::new(true));
        let api = gated(Arc::clone(&closed));
        let workspace = Workspace::with_config(api.address, CONFIG);
        let running = sync(&workspace);
        api.wait_for(4);
        running.signal(signal);
        let finished = running.finish();
        assert_eq!(finished.code, Some(75), "{signal:?}: {finished:#?}");

        let report: Value = serde_json::from_str(&finished.stdout).unwrap();
        let resource = &report["resources"][0];
        assert_eq!((&resource["outcome"], &resource["stop_reason"]), (&"incomplete".into(), &"interrupted".into()));
        assert_eq!((&report["exit_code"], &resource["pages"]), (&75.into(), &3.into()));
        assert_eq!(sidecars(&workspace.path("highwater.db")), [false, false], "the database was not closed");
        assert_eq!(stored_pages(&workspace), ["1", "2", "3"]);
        let run: Vec<String> = workspace.column("SELECT outcome || ' ' || stop_reason FROM _hw_runs");
        assert_eq!(run, ["incomplete interrupted"]);

        closed.store(false, Ordering::SeqCst);
        let report = workspace.sync(0);
        assert_eq!(report["resources"][0]["resumed_at"], "page 4");
        assert_eq!(requested_pages(&api), ["1", "2", "3", "4", "4", "5", "6", "7", "8", "9", "10"], "{signal:?}");
        assert_eq!(workspace.value::<i64>("SELECT count(*) FROM shop_items"), 100);
        workspace.check_books();
    }
}

/// A sync whose pages 1 to 3 have come and cannot be committed, because another program writes to the file.
struct HeldUp {
    running: Running,
    workspace: Workspace,
    api: Api,
    closed: Arc<AtomicBool>,
    other_program: Connection,
}

fn held_up(config: &str) -> HeldUp {
    let closed = Arc::new(AtomicBool::new(true));
    let lock: Arc<Mutex<Option<Connection>>> = Arc::default();
    let workspace = Workspace::new();
    let database = workspace.path("highwater.db");
    let api = {
        let (answer, closed, lock) = (pages_of_ten(), Arc::clone(&closed), Arc::clone(&lock));
        Api::start(move |request, number| match number {
            // The run is entered before its first request: from now on only pages are to be written.
            0 => {
                let connection = Connection::open(&database).unwrap();
                connection.busy_timeout(PATIENCE).unwrap();
                connection.execute_batch("BEGIN IMMEDIATE").unwrap();
                *lock.lock().unwrap() = Some(connection);
                answer(request, number)
            }
            3 if closed.load(Ordering::SeqCst) => endless(),
            _ => answer(request, number),
        })
    };
    workspace.configure(api.address, config);
    let running = sync(&workspace);
    api.wait_for(4);
    let other_program = lock.lock().unwrap().take().unwrap();
    HeldUp { running, workspace, api, closed, other_program }
}

#[test]
fn what_was_received_before_the_signal_is_committed_after_it() {
    let mut held = held_up(CONFIG);
    held.running.signal(Signal::TERM);
    held.running.wait_for("SIGTERM: stopping");
    assert_eq!(stored_pages(&held.workspace), [""; 0]);
    held.other_program.execute_batch("ROLLBACK").unwrap();
    drop(held.other_program);
    let finished = held.running.finish();
    assert_eq!(finished.code, Some(75), "{finished:#?}");
    assert_eq!(stored_pages(&held.workspace), ["1", "2", "3"]);
    assert_eq!(held.api.seen().len(), 4, "a request was sent after the signal");
    held.workspace.check_books();
}

/// The process has ended while the other program still holds the file: nothing of the run is in it but the run.
fn ended_without_a_commit(held: HeldUp, signalled: Instant, said: &str, finish: impl FnOnce(Running) -> Finished) {
    let HeldUp { running, workspace, api, closed, other_program } = held;
    let finished = finish(running);
    assert!(signalled.elapsed() < SOON, "it took {:?}", signalled.elapsed());
    assert_eq!(finished.code, Some(75), "{finished:#?}");
    assert!(finished.stderr.contains(said), "{finished:#?}");
    other_program.execute_batch("ROLLBACK").unwrap();
    drop(other_program);
    assert_eq!(stored_pages(&workspace), [""; 0]);

    closed.store(false, Ordering::SeqCst);
    workspace.sync(0);
    assert_eq!(workspace.value::<i64>("SELECT count(*) FROM shop_items"), 100);
    assert_eq!(requested_pages(&api)[4..], ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"]);
    workspace.check_books();
}

#[test]
fn x03_a_second_signal_ends_the_grace_period() {
    for (second, name) in [(Signal::TERM, "SIGTERM"), (Signal::INT, "SIGINT")] {
        let mut held = held_up(&CONFIG.replace("2s", "300s"));
        held.running.signal(Signal::TERM);
        held.running.wait_for("SIGTERM: stopping");
        // `timeout` tells the process and its group: the same signal at once is the same request to stop.
        held.running.signal(Signal::TERM);
        #[expect(clippy::disallowed_methods, reason = "there is no runtime in this test")]
        std::thread::sleep(Duration::from_millis(600));
        let signalled = Instant::now();
        held.running.signal(second);
        ended_without_a_commit(held, signalled, &format!("{name} again: leaving at once"), Running::finish);
    }
}

#[test]
fn the_end_of_the_grace_period_ends_the_process() {
    let config = format!("[pipeline]\nshutdown_grace = \"200ms\"\n{}", CONFIG.replace("2s", "300s"));
    let held = held_up(&config);
    let signalled = Instant::now();
    held.running.signal(Signal::INT);
    ended_without_a_commit(held, signalled, "still not done after shutdown_grace", Running::finish);
}

#[test]
fn a_signal_ends_the_wait_for_a_retry_after() {
    let api = Api::start(|_, _| respond(429, &[("retry-after", "1800")], "later"));
    let workspace = Workspace::with_config(api.address, CONFIG);
    let running = sync(&workspace);
    api.wait_for(1);
    let pauses = "SELECT count(*) FROM _hw_budgets WHERE not_before_ms > 0";
    wait_until("the pause is stored", || workspace.value::<i64>(pauses) == 1);
    let signalled = Instant::now();
    running.signal(Signal::TERM);
    let finished = running.finish();
    assert!(signalled.elapsed() < SOON, "{finished:#?}");
    assert_eq!((finished.code, api.seen().len()), (Some(75), 1), "{finished:#?}");
    let run: Vec<String> = workspace.column("SELECT outcome || ' ' || stop_reason FROM _hw_runs");
    assert_eq!(run, ["incomplete interrupted"]);
    assert_eq!(workspace.value::<i64>(pauses), 1, "the server's wait was forgotten");
}

#[test]
fn a_signal_ends_the_wait_for_a_slow_response() {
    // Both before the head of a response and in the midst of its body.
    let silent = Api::start_slow(PATIENCE, pages_of_ten());
    let endless = Api::start(|_, _| endless());
    for api in [silent, endless] {
        let workspace = Workspace::with_config(api.address, CONFIG);
        let running = sync(&workspace);
        api.wait_for(1);
        let signalled = Instant::now();
        running.signal(Signal::INT);
        let finished = running.finish();
        assert!(signalled.elapsed() < SOON, "{finished:#?}");
        assert_eq!(finished.code, Some(75), "{finished:#?}");
        assert_eq!(sidecars(&workspace.path("highwater.db")), [false, false]);
    }
}

#[test]
fn a_signal_is_heard_while_another_program_keeps_the_file() {
    let api = Api::start(pages_of_ten());
    let workspace = Workspace::with_config(api.address, CONFIG);
    workspace.sync(0);
    let requests = api.seen().len();
    let other_program = Connection::open(workspace.path("highwater.db")).unwrap();
    other_program.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut running = sync(&workspace);
    running.wait_for("another program holds the database");
    running.signal(Signal::TERM);
    running.wait_for("SIGTERM");
    other_program.execute_batch("ROLLBACK").unwrap();
    let finished = running.finish();
    assert_eq!((finished.code, api.seen().len()), (Some(75), requests), "{finished:#?}");
    workspace.check_books();
}

#[test]
fn a_signal_is_heard_while_another_program_keeps_the_file_from_being_opened() {
    let api = Api::start(pages_of_ten());
    let workspace = Workspace::with_config(api.address, &CONFIG.replace("2s", "300s"));
    let other_program = Connection::open(workspace.path("highwater.db")).unwrap();
    other_program.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let running = sync(&workspace);
    // It is taken right before the file is opened.
    wait_until("the lock file is there", || workspace.path("highwater.db.lock").exists());
    let signalled = Instant::now();
    running.signal(Signal::TERM);
    let finished = running.finish();
    assert!(signalled.elapsed() < SOON, "{finished:#?}");
    assert_eq!((finished.code, api.seen().len()), (Some(75), 0), "{finished:#?}");
    assert!(finished.stderr.contains("stopped before anything was read"), "{finished:#?}");
}

const SIBLINGS: &str = r#"
[pipeline]
on_error = "MODE"
[sources.shop.client]
base_url = "BASE"
retry = { max_attempts = 1 }
paginator = { type = "page_number", total_path = "pages" }
[sources.shop.resources.broken]
primary_key = "id"
data_selector = "data"
[sources.shop.resources.items]
primary_key = "id"
data_selector = "data"
"#;

/// An API where `broken` answers `status` once `items` is at its second page, which does not end before `broken` has
/// been asked, or not at all.
fn siblings(items_end: bool, broken: fn() -> axum::response::Response) -> Api {
    let answer = pages_of_ten();
    Api::start(move |request, number| match (request.path(), request.param("page").as_deref()) {
        ("/broken", _) => broken(),
        (_, Some("2")) if !items_end => endless(),
        _ => answer(request, number),
    })
}

fn outcomes(workspace: &Workspace, code: i32) -> Vec<(String, String)> {
    let report = workspace.sync(code);
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let resources = report["resources"].as_array().unwrap().iter();
    resources.map(|resource| (word(&resource["outcome"]), word(&resource["stop_reason"]))).collect()
}

#[test]
fn fail_fast_cancels_the_siblings_of_a_failed_resource() {
    let api = siblings(false, || respond(500, &[], "down"));
    let workspace = Workspace::with_config(api.address, &SIBLINGS.replace("MODE", "fail_fast"));
    let expected = [("failed", "error"), ("incomplete", "interrupted")];
    assert_eq!(outcomes(&workspace, 69), expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    workspace.check_books();
}

#[test]
fn fail_fast_cancels_the_siblings_of_a_resource_that_broke_its_contract() {
    // None of its records has its key, on its only page: its read has ended by the time that shows.
    let keyless = || respond(200, &[], format!("{{\"pages\": 1, \"data\": [{}{{}}]}}", "{\"n\": 1},".repeat(20)));
    let api = siblings(false, keyless);
    let workspace = Workspace::with_config(api.address, &SIBLINGS.replace("MODE", "fail_fast"));
    let expected = [("failed", "error"), ("incomplete", "interrupted")];
    assert_eq!(outcomes(&workspace, 65), expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
}

#[test]
fn continue_leaves_the_siblings_of_a_failed_resource_alone() {
    let api = siblings(true, || respond(500, &[], "down"));
    let workspace = Workspace::with_config(api.address, &SIBLINGS.replace("MODE", "continue"));
    let expected = [("failed", "error"), ("complete", "total_reached")];
    assert_eq!(outcomes(&workspace, 69), expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    assert_eq!(workspace.value::<i64>("SELECT count(*) FROM shop_items"), 100);
}
