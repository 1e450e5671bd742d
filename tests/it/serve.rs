//! The daemon: what is due runs, once at a time; reloads change what has changed and nothing else; the service manager is
//! told the truth. No test sleeps: the API's log and the process's own words say when the moment has come.

use std::io::{Read, Write};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::database_file::is_installed;
use crate::support::{Api, PATIENCE, Running, Seen, Workspace, binary, endless, finish, json as answer, respond};

/// A source whose resources are single pages; the status page is off.
fn config(resources: &str) -> String {
    format!(
        "[web]\nlisten = \"off\"\n[sources.s.client]\nbase_url = \"BASE\"\nretry = {{ max_attempts = 1 }}\n\
         paginator = {{ type = \"single_page\" }}\n{resources}\n"
    )
}

fn one_record(_: &Seen, _: usize) -> axum::response::Response {
    answer(json!([{"id": 1}]))
}

fn serve(workspace: &Workspace) -> Running {
    Running::start(workspace.command(&["serve", "-v"]))
}

fn stop(daemon: Running) -> crate::support::Finished {
    daemon.signal(Signal::TERM);
    let finished = daemon.finish();
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    finished
}

/// Waits until a run of this resource is complete.
fn is_read(workspace: &Workspace, resource: &str) {
    let started = std::time::Instant::now();
    let sql = format!("SELECT count(*) FROM _hw_runs WHERE resource = '{resource}' AND outcome = 'complete'");
    while workspace.value::<i64>(&sql) == 0 {
        assert!(started.elapsed() < PATIENCE, "{resource} is never read");
        std::thread::yield_now();
    }
}

#[test]
fn what_is_due_runs_again_and_never_twice_at_once() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (begin, end) = ((Arc::clone(&now), Arc::clone(&most)), now);
    let api = Api::start_paced(
        move |_| {
            let (now, most) = &begin;
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            Duration::from_millis(1500)
        },
        move |_, _| {
            end.fetch_sub(1, Ordering::SeqCst);
            answer(json!([{"id": 1}]))
        },
    );
    // It takes longer than its interval: what falls due meanwhile is one run, right after.
    let workspace = Workspace::with_config(api.address, &config("[sources.s.resources.r]\nevery = \"1s\""));
    let daemon = serve(&workspace);
    api.wait_for(3);
    stop(daemon);
    assert_eq!(most.load(Ordering::SeqCst), 1);
    assert_eq!(workspace.column::<String>("SELECT DISTINCT kind FROM _hw_runs"), ["scheduled"]);
    let complete: i64 = workspace.value("SELECT count(*) FROM _hw_runs WHERE outcome = 'complete'");
    assert!(complete >= 2, "{complete}");
    workspace.check_books();
}

/// A file system of 6 MiB of its own, which only the daemon sees, and whoever looks through its eyes.
#[test]
fn d03_a_daemon_whose_disk_is_full_waits_for_room_and_goes_on() {
    // Root in a container may not always mount.
    let can = std::process::Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    if !can.is_ok_and(|output| output.status.success()) || !is_installed("sqlite3") {
        println!("skipped: needs root, to mount a file system, and sqlite3");
        return;
    }
    let api = Api::start(|_, number| {
        let record = |n: usize| json!({"id": number * 100 + n, "text": "x".repeat(10_000)});
        answer((0..100).map(record).collect())
    });
    let resource = "[sources.s.resources.r]\nevery = \"1s\"\nwrite_disposition = \"append\"\n\
                    [destination]\npath = \"disk/highwater.db\"\n";
    let workspace = Workspace::with_config(api.address, &config(resource));
    std::fs::create_dir(workspace.path("disk")).unwrap();
    let line = "mount -t tmpfs -o size=6m tmpfs disk && exec \"$0\" serve -v";
    let manager = Manager::new(&workspace);
    let mut command = workspace.command_of("unshare", &["-m", "sh", "-c", line, &binary()]);
    command.env("NOTIFY_SOCKET", workspace.path("notify"));
    let mut daemon = Running::start(command);
    daemon.wait_for("a run has ended");
    daemon.wait_for("the disk is full");
    // Who says that it stops is killed by systemd when `TimeoutStopSec` is over.
    manager.expect("STATUS=the disk is full", &["STATUS=", "READY=1", "WATCHDOG=1", "EXTEND_TIMEOUT"]);
    let id = daemon.id().to_string();
    let within = |line: &str| {
        let mut command = workspace.command_of("nsenter", &["-m", "-t", &id, "sh", "-c", line]);
        let done = finish(command.current_dir(workspace.path("disk")).spawn().unwrap());
        assert_eq!(done.code, Some(0), "{done:#?}");
        done.stdout
    };
    let disk = workspace.path("disk").display().to_string();
    let ask = |sql: &str| within(&format!("sqlite3 -readonly {disk}/highwater.db '{sql}'")).trim().to_owned();
    let rows = || ask("SELECT count(*) FROM s_r").parse::<u64>().unwrap();
    let whole_pages = "SELECT count(*) FROM (SELECT 1 FROM s_r GROUP BY _page_id HAVING count(DISTINCT id) = 100)";
    let check = |rows: u64| {
        assert_eq!((ask("PRAGMA integrity_check"), ask(whole_pages)), ("ok".into(), (rows / 100).to_string()))
    };
    let stored = rows();
    check(stored);
    within(&format!("mount -o remount,size=64m {disk}"));
    // Another one may have ended for want of room meanwhile.
    daemon.wait_for("outcome=\"complete\"");
    daemon.signal(Signal::STOP);
    let more = rows();
    assert!(more > stored, "{stored} rows, then {more}");
    check(more);
    daemon.signal(Signal::CONT);
    stop(daemon);
}

#[test]
fn a_time_that_passed_while_nobody_ran_is_made_up_for_once() {
    let api = Api::start(one_record);
    let resources = "[sources.s.resources.r]\nevery = \"1h\"\n[sources.s.resources.young]\nevery = \"1h\"\n\
                     [sources.s.resources.asked]\n";
    let workspace = Workspace::with_config(api.address, &config(resources));
    workspace.sync(0);
    let db = rusqlite::Connection::open(workspace.path("highwater.db")).unwrap();
    db.execute("UPDATE _hw_runs SET started_at = '2020-01-01T00:00:00.000Z' WHERE resource = 'r'", []).unwrap();
    drop(db);
    let mut daemon = serve(&workspace);
    daemon.wait_for("a run has ended");
    // Whoever is not due yet has not begun by the time that another reload is over.
    daemon.signal(Signal::HUP);
    daemon.wait_for("took over the configuration");
    stop(daemon);
    let runs: Vec<String> = workspace.column("SELECT resource FROM _hw_runs WHERE kind = 'scheduled'");
    assert_eq!(runs, ["r"], "neither the one that ran just now nor the one that runs when asked");
}

#[test]
fn x04_c10_a_reload_adds_takes_away_and_changes_without_touching_the_others() {
    // The first page of `slow` comes when the test says so.
    let closed = Arc::new(AtomicBool::new(true));
    let held = Arc::clone(&closed);
    let api = Api::start(move |request, number| match request.path() {
        "/gone" => endless(),
        "/changed" if request.param("v").is_none() => endless(),
        "/slow" if held.load(Ordering::SeqCst) => respond(503, &[], ""),
        _ => one_record(request, number),
    });
    let asked = |path: &str| api.seen().iter().filter(|seen| seen.path() == path).count();
    let slow = "[sources.s.resources.slow]\nevery = \"1h\"\n";
    let client = "[sources.s.client]\nbase_url = \"BASE\"\nretry = { max_attempts = 100, initial_delay = \"100ms\", max_delay = \"200ms\" }\n\
                  paginator = { type = \"single_page\" }\n";
    let text = |resources: &str| format!("[web]\nlisten = \"off\"\n{client}{slow}{resources}");
    let before = text("[sources.s.resources.gone]\nevery = \"1h\"\n[sources.s.resources.changed]\nevery = \"1h\"\n");
    let workspace = Workspace::with_config(api.address, &before);
    let mut daemon = serve(&workspace);
    for path in ["/gone", "/changed", "/slow"] {
        let started = std::time::Instant::now();
        while asked(path) == 0 {
            assert!(started.elapsed() < PATIENCE, "{path} is never asked for");
            std::thread::yield_now();
        }
    }
    let after = text(
        "[sources.s.resources.changed]\nevery = \"1h\"\nparams = { v = 2 }\n[sources.s.resources.new]\nevery = \"1h\"\n",
    );
    workspace.configure(api.address, &after);
    daemon.signal(Signal::HUP);
    is_read(&workspace, "changed");
    is_read(&workspace, "new");
    closed.store(false, Ordering::SeqCst);
    is_read(&workspace, "slow");
    // A broken one changes nothing, nor does one of which only the first half is written.
    for broken in [
        "[sources.s.client]\nbase_url = 7\n",
        &after[..after.len() - "2 }\n[sources.s.resources.new]\nevery = \"1h\"\n".len()],
    ] {
        workspace.write("config.toml", broken);
        daemon.signal(Signal::HUP);
        daemon.wait_for("the configuration is broken and changes nothing");
    }
    workspace.configure(api.address, &format!("{after}[sources.s.resources.newer]\nevery = \"1h\"\n"));
    daemon.signal(Signal::HUP);
    is_read(&workspace, "newer");
    stop(daemon);
    let runs: Vec<String> = workspace.column(
        "SELECT resource || ' ' || group_concat(outcome, ' ' ORDER BY run_id) FROM _hw_runs GROUP BY resource ORDER BY resource",
    );
    assert_eq!(
        runs,
        ["changed incomplete complete", "gone incomplete", "new complete", "newer complete", "slow complete"],
        "the run of `slow` went on through both reloads"
    );
    workspace.check_books();
}

#[test]
fn what_a_signal_has_cut_short_goes_on_at_once_when_the_daemon_is_back() {
    let closed = Arc::new(AtomicBool::new(true));
    let held = Arc::clone(&closed);
    let api = Api::start(move |request, number| {
        let page = request.param("page").map_or(1, |page| page.parse::<u64>().unwrap());
        if page == 3 && held.load(Ordering::SeqCst) {
            endless()
        } else {
            crate::support::numbered(50, 10)(request, number)
        }
    });
    let text = config(
        "[sources.s.resources.r]\nprimary_key = \"id\"\nschedule = \"0 0 1 1 *\"\ndata_selector = \"data\"\n\
                       paginator = { type = \"page_number\", total_path = \"pages\" }",
    );
    let workspace = Workspace::with_config(api.address, &text.replace("0 0 1 1 *", "* * * * *"));
    // The first run is one of a person, who is interrupted.
    let sync = Running::start(workspace.command(&["sync"]));
    api.wait_for(3);
    sync.signal(Signal::TERM);
    assert_eq!(sync.finish().code, Some(75));
    closed.store(false, Ordering::SeqCst);
    workspace.configure(api.address, &text);
    let mut daemon = serve(&workspace);
    daemon.wait_for("outcome=\"complete\"");
    stop(daemon);
    let pages: Vec<Option<String>> = api.seen().iter().map(|seen| seen.param("page")).collect();
    let pages: Vec<&str> = pages.iter().map(|page| page.as_deref().unwrap_or("1")).collect();
    assert_eq!(pages, ["1", "2", "3", "3", "4", "5"], "no page is asked for again that was stored");
    workspace.check_books();
}

#[test]
fn x14_a_resource_that_fails_rests_and_leaves_the_others_alone() {
    let api = Api::start(|request, number| match request.path() {
        "/bad" => respond(500, &[], ""),
        _ => one_record(request, number),
    });
    let text = config("[sources.s.resources.bad]\nevery = \"1s\"\n[sources.s.resources.good]\nevery = \"1s\"");
    let workspace = Workspace::with_config(api.address, &text);
    let daemon = serve(&workspace);
    // Three rounds of the one, and the other is still resting.
    api.wait_for(4);
    stop(daemon);
    assert_eq!(api.seen().iter().filter(|seen| seen.path() == "/bad").count(), 1);
    // A restart does not make it forget.
    let daemon = serve(&workspace);
    let before = api.seen().len();
    api.wait_for(before + 2);
    stop(daemon);
    assert_eq!(api.seen().iter().filter(|seen| seen.path() == "/bad").count(), 1);
}

/// An answer of the status page: its status and its body.
pub(crate) fn ask(page: &str, request: &str) -> (u16, String) {
    let mut stream = std::net::TcpStream::connect(page).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!(
        "{request} HTTP/1.1\r\nHost: {page}\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    (status, text.split_once("\r\n\r\n").unwrap().1.to_owned())
}

const TOKEN: &str = "a-token-for-this-test-alone";

/// A daemon with a status page, and where that is.
pub(crate) fn with_page(workspace: &Workspace) -> (Running, String) {
    let mut command = workspace.command(&["serve", "-v"]);
    command.env("TOKEN", TOKEN);
    let mut daemon = Running::start(command);
    let line = daemon.wait_for("the status page is on ");
    (daemon, line.rsplit(' ').next().unwrap().to_owned())
}

#[test]
fn what_is_asked_for_on_the_status_page_is_done_and_a_pause_outlives_a_restart() {
    let api = Api::start(one_record);
    let text = config("[sources.s.resources.r]\nevery = \"1s\"\n[sources.s.resources.asked]")
        .replace("listen = \"off\"", "listen = \"127.0.0.1:0\"\ntoken = \"${env:TOKEN}\"");
    let workspace = Workspace::with_config(api.address, &text);
    let (daemon, page) = with_page(&workspace);
    assert_eq!(ask(&page, "GET /healthz").0, 200);
    assert_eq!(ask(&page, "GET /readyz").0, 200);
    is_read(&workspace, "r");
    assert_eq!(ask(&page, "POST /resources/s.asked/run.json").0, 200);
    is_read(&workspace, "asked");
    assert_eq!(workspace.column::<String>("SELECT kind FROM _hw_runs WHERE resource = 'asked'"), ["sync"]);
    assert_eq!(ask(&page, "POST /resources/s.r/pause.json").0, 200);
    assert_eq!(workspace.column::<String>("SELECT resource FROM _hw_paused"), ["r"]);
    stop(daemon);
    let runs = || workspace.value::<i64>("SELECT count(*) FROM _hw_runs WHERE resource = 'r'");
    let before = runs();
    let (daemon, page) = with_page(&workspace);
    // Two rounds of the other, while the one that is paused would have been due.
    for round in 2..4 {
        assert_eq!(ask(&page, "POST /resources/s.asked/run.json").0, 200);
        let asked = "SELECT count(*) FROM _hw_runs WHERE resource = 'asked' AND outcome = 'complete'";
        while workspace.value::<i64>(asked) < round {
            std::thread::yield_now();
        }
    }
    assert_eq!(runs(), before);
    let metrics = ask(&page, "GET /metrics").1;
    assert!(metrics.contains("highwater_resource_paused{source=\"s\",resource=\"r\"} 1"), "{metrics}");
    assert_eq!(ask(&page, "POST /resources/s.r/resume.json").0, 200);
    while runs() == before {
        std::thread::yield_now();
    }
    stop(daemon);
    workspace.check_books();
}

#[test]
fn a_change_of_the_times_takes_nothing_back_that_was_counted() {
    // It takes longer than its interval.
    let api = Api::start_slow(Duration::from_millis(1100), one_record);
    let text = |every: &str| {
        config(&format!("[sources.s.resources.r]\nevery = \"{every}\""))
            .replace("listen = \"off\"", "listen = \"127.0.0.1:0\"\ntoken = \"${env:TOKEN}\"")
    };
    let workspace = Workspace::with_config(api.address, &text("1s"));
    let (daemon, page) = with_page(&workspace);
    let coalesced = || {
        let metrics = ask(&page, "GET /metrics").1;
        let line = metrics.lines().find(|line| line.starts_with("highwater_runs_coalesced_total{"));
        line.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
    };
    while coalesced() == 0.0 {
        std::thread::yield_now();
    }
    workspace.configure(api.address, &text("1h"));
    daemon.signal(Signal::HUP);
    while !ask(&page, "GET /resources/s.r.json").1.contains("every 1h") {
        std::thread::yield_now();
    }
    assert!(coalesced() > 0.0);
    stop(daemon);
}

/// Waits until so many runs of a resource have ended without all that there is.
fn has_failed(workspace: &Workspace, resource: &str, times: i64) {
    let started = std::time::Instant::now();
    let sql =
        format!("SELECT count(*) FROM _hw_runs WHERE resource = '{resource}' AND outcome IN ('failed', 'incomplete')");
    while workspace.value::<i64>(&sql) < times {
        assert!(started.elapsed() < PATIENCE, "no run of {resource} has failed {times} times");
        std::thread::yield_now();
    }
}

/// The runs of a resource are so old that it is due, as far as that goes by them.
fn let_time_pass(workspace: &Workspace, resource: &str) {
    let db = rusqlite::Connection::open(workspace.path("highwater.db")).unwrap();
    db.busy_timeout(PATIENCE).unwrap();
    let sql = "UPDATE _hw_runs SET started_at = '2020-01-01T00:00:00.000Z', ended_at = '2020-01-01T00:00:00.000Z'
               WHERE resource = ?1";
    db.execute(sql, [resource]).unwrap();
}

#[test]
fn a_run_that_cannot_begin_is_seen_as_failed_and_rests_longer_each_time() {
    let api = Api::start(one_record);
    let text = "[web]\nlisten = \"127.0.0.1:0\"\ntoken = \"${env:TOKEN}\"\n[sources.s.client]\nbase_url = \"BASE\"\n\
                [sources.s.resources.good]\nevery = \"1s\"\n[sources.t.client]\nbase_url = \"https://127.0.0.1:9/\"\n\
                [sources.t.resources.bad]\nevery = \"1s\"\n";
    let workspace = Workspace::with_config(api.address, text);
    let begin = || {
        let mut command = workspace.command(&["serve", "-v"]);
        // Nothing there to check a server against.
        command.env("SSL_CERT_FILE", "/nonexistent").env("SSL_CERT_DIR", "/nonexistent").env("TOKEN", TOKEN);
        let mut daemon = Running::start(command);
        let line = daemon.wait_for("the status page is on ");
        (daemon, line.rsplit(' ').next().unwrap().to_owned())
    };
    let (daemon, page) = begin();
    has_failed(&workspace, "bad", 1);
    let complete = "SELECT count(*) FROM _hw_runs WHERE resource = 'good' AND outcome = 'complete'";
    while workspace.value::<i64>(complete) < 3 {
        std::thread::yield_now();
    }
    assert_eq!(workspace.value::<i64>("SELECT count(*) FROM _hw_runs WHERE resource = 'bad'"), 1, "it rests");
    let overview: serde_json::Value = serde_json::from_str(&ask(&page, "GET /index.json").1).unwrap();
    assert_eq!(overview["sentence"], "1 of 2 resources needs a look: t.bad (failed).", "{overview:#}");
    let metrics = ask(&page, "GET /metrics").1;
    assert!(metrics.contains("highwater_resource_consecutive_failures{source=\"t\",resource=\"bad\"} 1"), "{metrics}");
    assert!(ask(&page, "GET /resources/t.bad").1.contains("ca-certificates"));
    stop(daemon);
    let status = workspace.run(&["status"]);
    assert!(status.stdout.contains("t.bad") && status.stdout.contains("ca-certificates"), "{status:#?}");
    // Neither a restart nor what else ends makes it forget.
    let_time_pass(&workspace, "bad");
    let (daemon, page) = begin();
    has_failed(&workspace, "bad", 2);
    let metrics = || ask(&page, "GET /metrics").1;
    let twice = "highwater_resource_consecutive_failures{source=\"t\",resource=\"bad\"} 2";
    while !metrics().contains(twice) {
        std::thread::yield_now();
    }
    stop(daemon);
    assert_eq!(workspace.value::<i64>("SELECT count(*) FROM _hw_runs WHERE resource = 'bad'"), 2);
    workspace.check_books();
}

#[test]
fn a_run_that_the_file_refuses_is_seen_as_failed_and_rests() {
    let api = Api::start(one_record);
    let refused = "[sources.s.resources.refused]\nevery = \"1s\"\n";
    let workspace = Workspace::with_config(api.address, &config(refused));
    workspace.sync(0);
    let text = config(&format!("{refused}table = \"another\"\n[sources.s.resources.good]\nevery = \"1s\""));
    workspace.configure(api.address, &text);
    let_time_pass(&workspace, "refused");
    let daemon = serve(&workspace);
    let before = api.seen().len();
    api.wait_for(before + 3);
    let finished = stop(daemon);
    let runs: Vec<String> =
        workspace.column("SELECT outcome || ' ' || coalesce(error, '') FROM _hw_runs WHERE resource = 'refused'");
    assert_eq!(runs.len(), 2, "{runs:?}");
    assert!(runs[1].starts_with("failed s.refused: its table changed from s_refused to another"), "{runs:?}");
    assert_eq!(finished.stderr.matches("its table changed").count(), 1, "{finished:#?}");
    workspace.check_books();
}

#[test]
fn status_says_when_the_daemon_reads_next_and_what_an_api_asked_for_holds_over_a_restart() {
    let api = Api::start(|request, number| match request.path() {
        "/asked" => respond(429, &[("retry-after", "3600")], ""),
        _ => one_record(request, number),
    });
    let text = config("[sources.s.resources.asked]\nevery = \"1s\"")
        .replace("listen = \"off\"", "listen = \"127.0.0.1:0\"\ntoken = \"${env:TOKEN}\"")
        .replace("max_attempts = 1", "max_attempts = 1, max_retry_after = \"1s\"")
        + "[sources.t]\njitter = \"1h\"\n[sources.t.client]\nbase_url = \"BASE\"\n\
           paginator = { type = \"single_page\" }\n[sources.t.resources.r]\nevery = \"1h\"\n";
    let workspace = Workspace::with_config(api.address, &text);
    let mut command = workspace.command(&["sync", "t"]);
    command.env("TOKEN", TOKEN);
    assert_eq!(Running::start(command).finish().code, Some(0));
    let (daemon, page) = with_page(&workspace);
    has_failed(&workspace, "asked", 1);
    let overview: serde_json::Value = serde_json::from_str(&ask(&page, "GET /index.json").1).unwrap();
    stop(daemon);
    let status = || serde_json::from_str::<serde_json::Value>(&workspace.run(&["status", "--json"]).stdout).unwrap();
    let (before, shown) = (status(), &overview["resources"][1]);
    assert_eq!((&before["resources"][1]["next"], shown["next_at"].is_string()), (&shown["next_at"], true));
    // Its own rest is over, but not what its API has asked for.
    let_time_pass(&workspace, "asked");
    let (mut daemon, _) = with_page(&workspace);
    daemon.signal(Signal::HUP);
    daemon.wait_for("took over the configuration");
    stop(daemon);
    assert_eq!(api.seen().iter().filter(|seen| seen.path() == "/asked").count(), 1);
    let not_before: i64 = workspace.value("SELECT max(not_before_ms) FROM _hw_budgets");
    let next: jiff::Timestamp = status()["resources"][0]["next"].as_str().unwrap().parse().unwrap();
    assert_eq!(next.as_millisecond(), not_before);
}

/// What a service manager hears.
struct Manager(UnixDatagram);

impl Manager {
    fn new(workspace: &Workspace) -> Self {
        let socket = UnixDatagram::bind(workspace.path("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    fn next(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.0.recv(&mut buffer).expect("the daemon says something");
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    /// Waits for a message with this in it; between it and the last one nothing may have come but what `may` names.
    fn expect(&self, wanted: &str, may: &[&str]) -> String {
        loop {
            let said = self.next();
            if said.contains(wanted) {
                return said;
            }
            assert!(may.iter().any(|part| said.contains(part)), "{said:?} before {wanted:?}");
        }
    }
}

fn managed(workspace: &Workspace, watchdog: Duration) -> Running {
    let mut command = workspace.command(&["serve", "-v"]);
    command.env("NOTIFY_SOCKET", workspace.path("notify")).env("WATCHDOG_USEC", watchdog.as_micros().to_string());
    Running::start(command)
}

#[test]
fn x10_the_service_manager_hears_of_every_step() {
    let api = Api::start(one_record);
    let workspace = Workspace::with_config(api.address, &config("[sources.s.resources.r]\nevery = \"1h\""));
    let manager = Manager::new(&workspace);
    let mut daemon = managed(&workspace, Duration::from_millis(400));
    manager.expect("READY=1", &["STATUS="]);
    assert!(workspace.path("highwater.db").exists(), "ready means that the file is open");
    assert!(manager.expect("STATUS=", &["WATCHDOG=1"]).contains("s.r"));
    manager.expect("STATUS=nothing is due; next s.r at ", &["WATCHDOG=1", "STATUS="]);
    for _ in 0..3 {
        manager.expect("WATCHDOG=1", &[]);
    }
    daemon.signal(Signal::HUP);
    assert!(manager.expect("RELOADING=1", &["WATCHDOG=1"]).contains("MONOTONIC_USEC="));
    manager.expect("READY=1", &["WATCHDOG=1"]);
    daemon.wait_for("took over the configuration");
    daemon.signal(Signal::TERM);
    manager.expect("STOPPING=1", &["WATCHDOG=1"]);
    assert_eq!(daemon.finish().code, Some(0));
}

#[test]
fn x10_a_writer_that_is_stuck_is_not_said_to_be_alive() {
    let api = Api::start(one_record);
    let text = format!("[destination]\nbusy_timeout = \"60s\"\n{}", config("[sources.s.resources.r]\nevery = \"1s\""));
    let workspace = Workspace::with_config(api.address, &text);
    let manager = Manager::new(&workspace);
    let daemon = managed(&workspace, Duration::from_millis(400));
    manager.expect("WATCHDOG=1", &["STATUS=", "READY=1"]);
    // Somebody holds the file: with the next run, the writer's thread waits for it, and with it everything behind.
    let db = rusqlite::Connection::open(workspace.path("highwater.db")).unwrap();
    db.busy_timeout(PATIENCE).unwrap();
    db.execute_batch("BEGIN IMMEDIATE").unwrap();
    manager.0.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    let mut pings = 0;
    let mut buffer = [0; 4096];
    while let Ok(length) = manager.0.recv(&mut buffer) {
        pings += usize::from(buffer[..length].starts_with(b"WATCHDOG"));
        assert!(pings < 50, "it goes on saying that it is alive");
    }
    db.execute_batch("COMMIT").unwrap();
    manager.0.set_read_timeout(Some(PATIENCE)).unwrap();
    manager.expect("WATCHDOG=1", &["STATUS="]);
    stop(daemon);
    workspace.check_books();
}

#[test]
fn a_start_that_takes_long_asks_for_more_time() {
    let api = Api::start(one_record);
    let workspace = Workspace::with_config(api.address, &config("[sources.s.resources.r]\nevery = \"1h\""));
    workspace.sync(0);
    // A file of an earlier version, and somebody who is at it: it cannot be brought up to date yet.
    let db = rusqlite::Connection::open(workspace.path("highwater.db")).unwrap();
    db.execute_batch("DROP INDEX _hw_quarantine_left").unwrap();
    db.execute_batch("BEGIN IMMEDIATE").unwrap();
    let manager = Manager::new(&workspace);
    let daemon = managed(&workspace, PATIENCE);
    for _ in 0..2 {
        manager.expect("EXTEND_TIMEOUT_USEC=", &[]);
    }
    db.execute_batch("COMMIT").unwrap();
    manager.expect("READY=1", &["EXTEND_TIMEOUT_USEC=", "STATUS="]);
    stop(daemon);
    workspace.check_books();
}

#[test]
fn of_many_that_are_due_at_once_a_few_begin_before_it_looks_around_again() {
    let api = Api::start(one_record);
    let resources: String = (0..40).map(|n| format!("[sources.s.resources.r{n}]\nevery = \"1h\"\n")).collect();
    let workspace = Workspace::with_config(api.address, &config(&resources));
    let manager = Manager::new(&workspace);
    let daemon = managed(&workspace, PATIENCE);
    let said = manager.expect("STATUS=reading s.r0", &["STATUS=nothing", "READY=1"]);
    assert!(said.starts_with("STATUS=reading s.r0 and 7 more"), "{said}");
    manager.expect("STATUS=nothing is due", &["STATUS=reading", "WATCHDOG=1"]);
    stop(daemon);
    assert_eq!(workspace.value::<i64>("SELECT count(*) FROM _hw_runs WHERE outcome = 'complete'"), 40);
}

#[test]
fn x08_d08_a_second_daemon_is_told_who_has_the_file_and_one_whose_file_is_gone_ends() {
    let api = Api::start(one_record);
    let text = config("[sources.s.resources.r]\nevery = \"1h\"").replace("\"off\"", "\"127.0.0.1:0\"");
    let workspace = Workspace::with_config(api.address, &text);
    let mut daemon = serve(&workspace);
    let line = daemon.wait_for("the status page is on ");
    let place = line.rsplit(' ').next().unwrap();
    workspace.configure(api.address, &text.replace("127.0.0.1:0", place));
    let second = workspace.run(&["serve"]);
    assert_eq!(second.code, Some(73), "{second:#?}");
    assert!(second.stderr.contains("is in use by another highwater (pid "), "{second:#?}");
    // What it writes from now on would be in no folder.
    std::fs::rename(workspace.path("highwater.db"), workspace.path("elsewhere.db")).unwrap();
    let first = daemon.finish();
    assert_eq!(first.code, Some(74), "{first:#?}");
    assert!(first.stderr.contains("highwater.db was moved, removed or replaced"), "{first:#?}");
}
