//! The command line as scripts and people meet it: exit codes, what goes where, what is said, and the demo.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;

use axum::response::Response;
use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    Api, Finished, Running, Seen, Workspace, endless, finish, json, numbered, respond, verify_practice_copy,
};

const ITEMS: &str = r#"
[sources.shop.client]
base_url = "BASE"
retry = { max_attempts = 1 }
[sources.shop.resources.items]
primary_key = "id"
data_selector = "data"
paginator = { type = "page_number", total_path = "pages" }
"#;

const VERBS: [&str; 6] = ["sync", "check", "reset", "demo", "practice", "schema"];

fn shop() -> (Api, Workspace) {
    let api = Api::start(numbered(30, 10));
    let workspace = Workspace::with_config(api.address, ITEMS);
    (api, workspace)
}

// Exit codes.

type Answer = fn(&Seen, usize) -> Response;

#[test]
fn the_exit_code_says_what_happened() {
    let complete: Answer = |_, _| json(json!({"data": [{"id": 1}], "pages": 1}));
    let keyless: Answer = |_, _| json(json!({"data": vec![json!({"n": 1}); 20], "pages": 1}));
    let down: Answer = |_, _| respond(503, &[], "down");
    let too_many: Answer = |_, _| respond(429, &[("retry-after", "86400")], "");
    let cases: [(&str, Answer, i32, &str); 6] = [
        ("complete", complete, 0, "total_reached"),
        ("bad records", keyless, 65, "_hw_quarantine"),
        ("an API that is down", down, 69, "answered 503"),
        ("an API that asks for a day's patience", too_many, 75, "rate limited until"),
        ("401", |_, _| respond(401, &[], ""), 77, "answered 401"),
        ("403", |_, _| respond(403, &[], ""), 77, "answered 403"),
    ];
    for (what, answer, code, said) in cases {
        let api = Api::start(answer);
        let workspace = Workspace::with_config(api.address, ITEMS);
        let finished = workspace.run(&["sync"]);
        assert_eq!(finished.code, Some(code), "{what}: {finished:#?}");
        assert!(finished.stdout.contains(said), "{what}: {finished:#?}");
        let goes_on = finished.stdout.contains("To go on where it stopped: highwater sync shop.items");
        assert_eq!(goes_on, ![0, 65].contains(&code), "{what}: {finished:#?}");
    }
}

#[test]
fn an_api_that_is_not_there_exits_69() {
    let closed_port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let workspace = Workspace::with_config(closed_port, ITEMS);
    let finished = workspace.run(&["sync"]);
    assert_eq!(finished.code, Some(69), "{finished:#?}");
    assert!(finished.stdout.contains("cannot connect to") && finished.stdout.contains(&closed_port.to_string()));
}

#[test]
fn of_several_failures_the_most_important_decides_the_exit_code() {
    let api = Api::start(|request, number| match request.path() {
        "/down" => respond(500, &[], ""),
        "/closed" => respond(403, &[], ""),
        _ => numbered(30, 10)(request, number),
    });
    let both = format!("{ITEMS}\n[sources.shop.resources.down]\n[sources.shop.resources.closed]\n");
    for (selection, code) in [
        (vec!["shop.items"], 0),
        (vec!["shop.items", "shop.down"], 69),
        (vec!["shop.down", "shop.closed"], 77),
        (vec!["shop"], 77),
    ] {
        let workspace = Workspace::with_config(api.address, &both);
        let arguments: Vec<&str> = ["sync"].into_iter().chain(selection).collect();
        assert_eq!(workspace.run(&arguments).code, Some(code), "{arguments:?}");
    }
}

#[test]
fn a_database_that_is_in_use_exits_73_and_names_the_process() {
    let api = Api::start(|_, _| endless());
    let workspace = Workspace::with_config(api.address, ITEMS);
    let mut first = workspace.spawn(&["sync"]);
    api.wait_for(1);
    for verb in [&["sync"][..], &["reset", "shop"]] {
        let second = workspace.run(verb);
        assert_eq!((second.code, &*second.stdout), (Some(73), ""), "{second:#?}");
        assert!(second.stderr.contains(&format!("in use by another highwater (pid {})", first.id())), "{second:#?}");
    }
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn a_file_that_is_no_database_of_ours_exits_74_and_is_left_alone() {
    let (_api, workspace) = shop();
    workspace.write("highwater.db", "these are my notes, in a file of an unfortunate name");
    let other = "CREATE TABLE mine (x); INSERT INTO mine VALUES (1)";
    for make in [None, Some(other)] {
        if let Some(sql) = make {
            std::fs::remove_file(workspace.path("highwater.db")).unwrap();
            Connection::open(workspace.path("highwater.db")).unwrap().execute_batch(sql).unwrap();
        }
        let before = std::fs::read(workspace.path("highwater.db")).unwrap();
        let finished = workspace.run(&["sync"]);
        assert_eq!(finished.code, Some(74), "{finished:#?}");
        assert!(finished.stderr.contains("is not a highwater database"), "{finished:#?}");
        assert_eq!(std::fs::read(workspace.path("highwater.db")).unwrap(), before);
    }
}

#[test]
fn a_wrong_command_line_exits_2_and_says_what_was_meant() {
    let (api, workspace) = shop();
    for (arguments, said) in [
        (&["snyc"][..], "'sync'"),
        (&["sync", "--jsn"], "'--json'"),
        (&["sync", "--log-format", "xml"], "auto, text, json"),
        (&["sync", "-q", "-v"], "cannot be used with"),
        (&["practice", "--port", "70000"], "70000"),
        (&["reset"], "SOURCE[.RESOURCE]"),
        (&["sync", "shpo"], "did you mean `shop`?"),
        (&["sync", "shop.item"], "did you mean `shop.items`?"),
        (&["sync", "items"], "did you mean `shop.items`?"),
        (&["sync", "shop", "zebra"], "there is shop, shop.items"),
        (&["reset", "shop.itmes"], "did you mean `shop.items`?"),
        (&[], "Usage: highwater"),
    ] {
        let finished = workspace.run(arguments);
        assert_eq!((finished.code, &*finished.stdout), (Some(2), ""), "{arguments:?}: {finished:#?}");
        assert!(finished.stderr.contains(said), "{arguments:?}: {finished:#?}");
    }
    assert!(!workspace.path("highwater.db").exists(), "a wrong command line made a database");
    assert_eq!(api.seen().len(), 0);
}

#[test]
fn a_missing_configuration_exits_78_and_says_where_it_was_looked_for_and_what_to_do() {
    let workspace = Workspace::new();
    for verb in [&["sync"][..], &["check"], &["reset", "shop"]] {
        let finished = workspace.run(verb);
        assert_eq!((finished.code, &*finished.stdout), (Some(78), ""), "{finished:#?}");
        for said in ["looked for ./config.toml", "--config", "highwater demo"] {
            assert!(finished.stderr.contains(said), "{finished:#?}");
        }
    }
    let finished = workspace.run(&["sync", "--config", "misspelt.toml"]);
    assert_eq!(finished.code, Some(78), "{finished:#?}");
    assert!(finished.stderr.contains("cannot read misspelt.toml"), "{finished:#?}");
}

// What goes where.

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn the_json_of_sync_has_the_promised_shape_and_is_all_that_goes_to_stdout() {
    let (_api, workspace) = shop();
    let report = workspace.sync(0);
    let shape = ["version", "database", "complete", "exit_code", "database_error", "resources"];
    assert_eq!(keys(&report), shape.into());
    let resource = &report["resources"][0];
    let shape = [
        "source",
        "resource",
        "table",
        "child_tables",
        "outcome",
        "stop_reason",
        "pages",
        "requests",
        "retries",
        "records",
        "resumed_at",
        "started_over",
        "error",
    ];
    assert_eq!(keys(resource), shape.into());
    let expected = json!({
        "source": "shop", "resource": "items", "table": "shop_items", "child_tables": [], "outcome": "complete",
        "stop_reason": "total_reached", "pages": 3, "requests": 3, "retries": 0,
        "records": {"received": 30, "inserted": 30, "updated": 0, "unchanged": 0, "filtered": 0, "quarantined": 0},
        "resumed_at": null, "started_over": null, "error": null,
    });
    assert_eq!(*resource, expected);
    assert_eq!((&report["version"], &report["complete"], &report["exit_code"]), (&json!(1), &json!(true), &json!(0)));
    assert_eq!((&report["database"], &report["database_error"]), (&json!("highwater.db"), &Value::Null));
}

#[test]
fn the_json_of_a_failed_sync_says_what_failed() {
    let api = Api::start(|_, _| respond(500, &[], r#"{"message": "the cellar is under water"}"#));
    let workspace = Workspace::with_config(api.address, ITEMS);
    let report = workspace.sync(69);
    assert_eq!((&report["complete"], &report["exit_code"]), (&json!(false), &json!(69)));
    let resource = &report["resources"][0];
    assert_eq!((&resource["outcome"], &resource["stop_reason"]), (&json!("failed"), &json!("error")));
    let error = resource["error"].as_str().unwrap();
    assert!(error.starts_with("shop.items: page 1: ") && error.ends_with("the cellar is under water"), "{error}");
}

#[test]
fn what_cannot_begin_says_so_in_json_too() {
    let workspace = Workspace::new();
    for verb in [&["sync", "--json"][..], &["check", "--json"], &["reset", "shop", "--json"]] {
        let finished = workspace.run(verb);
        let report: Value = serde_json::from_str(&finished.stdout).unwrap();
        assert_eq!(keys(&report), ["version", "complete", "exit_code", "error"].into());
        assert_eq!((finished.code, &report["exit_code"], &report["complete"]), (Some(78), &json!(78), &json!(false)));
        assert!(report["error"].as_str().unwrap().starts_with("no configuration"), "{report}");
    }
}

#[test]
fn the_json_of_reset_says_what_was_done() {
    let (_api, workspace) = shop();
    let reset = || -> Value { serde_json::from_str(&workspace.run(&["reset", "shop", "--json"]).stdout).unwrap() };
    let expected = |was_read: bool| {
        let done = json!([{"source": "shop", "resource": "items", "was_read": was_read}]);
        json!({"version": 1, "reset": done, "rows_dropped": false})
    };
    assert_eq!(reset(), expected(false));
    workspace.sync(0);
    assert_eq!(reset(), expected(true));
}

#[test]
fn the_json_of_check_has_the_promised_shape() {
    let (_api, workspace) = shop();
    let finished = workspace.run(&["check", "--json"]);
    assert_eq!((finished.code, &*finished.stderr), (Some(0), ""), "{finished:#?}");
    let report: Value = serde_json::from_str(&finished.stdout).unwrap();
    let expected = json!({
        "version": 1, "path": "./config.toml", "valid": true, "problems": [], "hints": [], "scheduled": []
    });
    assert_eq!(report, expected);
    assert!(!workspace.path("highwater.db").exists(), "check made a database");
}

#[test]
fn check_says_what_is_read_by_itself_and_when() {
    let workspace = Workspace::new();
    let client = "client = { base_url = \"http://127.0.0.1:9/\" }";
    let config = format!(
        "[sources.shop]\n{client}\nevery = \"15m\"\ntimezone = \"Asia/Tokyo\"\njitter = \"1m\"\n\
         [sources.shop.resources.items]\n[sources.shop.resources.orders]\nschedule = \"@yearly\"\n\
         [sources.rest]\n{client}\n[sources.rest.resources.items]\n\
         [sources.off]\n{client}\nenabled = false\nevery = \"1h\"\n[sources.off.resources.items]\n"
    );
    workspace.write("config.toml", &config);
    let mut command = workspace.command(&["check"]);
    let finished = finish(command.env("TZ", "Asia/Kolkata").spawn().unwrap());
    let lines: Vec<&str> = finished.stdout.lines().collect();
    let [_, items, orders, _, unscheduled, _, off, _] = lines[..] else { panic!("{finished:#?}") };
    assert_eq!(items, "  items → shop_items, every 15m, up to 1m later");
    // New year in Tokyo, on a clock in India.
    let next = orders.strip_prefix("  orders → shop_orders, @yearly (Asia/Tokyo), up to 1m later, next ").unwrap();
    assert!(next.ends_with("-12-31 20:30 +05:30"), "{next}");
    assert_eq!([unscheduled, off], ["  items → rest_items", "  items → off_items"]);

    let report: Value = serde_json::from_str(&workspace.run(&["check", "--json"]).stdout).unwrap();
    let next = report["scheduled"][1]["next"].clone();
    assert!(next.as_str().unwrap().ends_with("-12-31T15:00:00Z"), "{next}");
    let expected = json!([
        {"resource": "shop.items", "schedule": null, "timezone": null, "every": "15m", "jitter": "1m", "next": null},
        {"resource": "shop.orders", "schedule": "@yearly", "timezone": "Asia/Tokyo", "every": null, "jitter": "1m", "next": next},
    ]);
    assert_eq!(report["scheduled"], expected);
}

#[test]
fn the_report_goes_to_stdout_and_everything_else_to_stderr() {
    let api = Api::start(|request, number| match number {
        0 => respond(500, &[], ""),
        _ => numbered(30, 10)(request, number),
    });
    let config = ITEMS.replace("max_attempts = 1", "initial_delay = \"1ms\"");
    let workspace = Workspace::with_config(api.address, &config);
    let finished = workspace.run(&["sync", "-v"]);
    assert_eq!(finished.code, Some(0));
    assert_eq!(
        finished.stdout,
        "shop_items  complete  30 new  3 pages, 4 requests (1 retry)  total_reached\n\
         The data is in highwater.db. Look at it: sqlite3 highwater.db 'SELECT * FROM \"shop_items\" LIMIT 5'\n"
    );
    assert!(finished.stderr.contains("trying again"), "{finished:#?}");
    assert!(!(finished.stdout + &finished.stderr).contains('\u{1b}'), "colours without a terminal");
}

#[test]
fn log_lines_are_json_when_asked_for() {
    let api = Api::start(|_, _| respond(500, &[], ""));
    let config = ITEMS.replace("max_attempts = 1", "max_attempts = 2, initial_delay = \"1ms\"");
    let workspace = Workspace::with_config(api.address, &config);
    let finished = workspace.run(&["sync", "-vvv", "--log-format", "json"]);
    assert!(finished.stderr.lines().count() > 1, "{finished:#?}");
    for line in finished.stderr.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(line["level"].is_string() && line["timestamp"].is_string(), "{line}");
    }
}

#[test]
fn log_lines_stay_on_standard_error_unless_it_is_the_stream_of_the_journal() {
    use std::os::unix::fs::MetadataExt;

    let api = Api::start(|_, _| respond(500, &[], ""));
    let config = ITEMS.replace("max_attempts = 1", "max_attempts = 2, initial_delay = \"1ms\"");
    let workspace = Workspace::with_config(api.address, &config);
    // `text` is text even where standard error is the stream that systemd names.
    for (format, is_stream) in [("auto", false), ("text", true)] {
        let log = std::fs::File::create(workspace.path("log")).unwrap();
        let file = log.metadata().unwrap();
        let inode = if is_stream { file.ino() } else { file.ino() + 1 };
        let mut command = workspace.command(&["sync", "--log-format", format]);
        command.env("JOURNAL_STREAM", format!("{}:{inode}", file.dev())).stderr(log);
        assert_eq!(command.status().unwrap().code(), Some(69));
        let log = std::fs::read_to_string(workspace.path("log")).unwrap();
        assert!(log.contains("WARN ") && log.contains("trying again"), "{format}: {log}");
    }
}

#[test]
fn quiet_says_nothing_but_errors() {
    let (_api, workspace) = shop();
    let finished = workspace.run(&["sync", "-q"]);
    assert_eq!((finished.code, &*finished.stdout, &*finished.stderr), (Some(0), "", ""));
    let api = Api::start(|_, _| respond(500, &[], ""));
    workspace.configure(api.address, &ITEMS.replace("shop", "shed"));
    let finished = workspace.run(&["sync", "-q"]);
    assert_eq!((finished.code, &*finished.stdout), (Some(69), ""));
    assert_eq!(finished.stderr, format!("error: shed.items: page 1: http://{}/items answered 500\n", api.address));
}

#[test]
fn a_reader_that_has_gone_away_does_not_break_the_run() {
    for arguments in [&["sync", "-vv"][..], &["sync", "--json"], &["demo", "--fast"], &["check"], &["schema"]] {
        let (_api, workspace) = shop();
        let mut child = workspace.spawn(arguments);
        // Both pipes lose their readers before the first word.
        drop(child.stdout.take());
        drop(child.stderr.take());
        assert_eq!(child.wait().unwrap().code(), Some(0), "{arguments:?}");
        if arguments[0] == "sync" {
            assert_eq!(workspace.value::<i64>("SELECT count(*) FROM shop_items"), 30);
            workspace.check_books();
        }
    }
}

#[test]
fn every_help_text_has_an_example_and_says_what_the_verb_is_for() {
    let workspace = Workspace::new();
    let whole = workspace.run(&["--help"]);
    assert_eq!(whole.code, Some(0));
    assert!(whole.stdout.contains("Exit codes: 0 complete"), "{}", whole.stdout);
    for verb in VERBS {
        let help = workspace.run(&[verb, "--help"]);
        assert_eq!((help.code, &*help.stderr), (Some(0), ""));
        assert!(whole.stdout.contains(&format!("\n  {verb} ")), "{verb} is missing in:\n{}", whole.stdout);
        let example = format!("Examples:\n  highwater {verb}");
        let example_of_practice = format!("Examples:\n  highwater {verb}\n");
        assert!(help.stdout.contains(&example) || help.stdout.contains(&example_of_practice), "{}", help.stdout);
    }
}

// Where there is little around the process.

#[test]
fn it_runs_with_an_empty_environment_and_without_ca_certificates() {
    let surroundings: [&[(&str, &str)]; 3] = [
        &[],
        &[("SSL_CERT_FILE", "/nonexistent"), ("SSL_CERT_DIR", "/nonexistent")],
        // A proxy that somebody set for something else.
        &[
            ("HTTP_PROXY", "http://127.0.0.1:9"),
            ("http_proxy", "http://127.0.0.1:9"),
            ("ALL_PROXY", "http://127.0.0.1:9"),
        ],
    ];
    for variables in surroundings {
        let (_api, workspace) = shop();
        let mut command = workspace.command(&["sync"]);
        command.env_clear().envs(variables.iter().copied());
        let finished = finish(command.spawn().unwrap());
        assert_eq!(finished.code, Some(0), "{variables:?}: {finished:#?}");
        assert_eq!(workspace.value::<i64>("SELECT count(*) FROM shop_items"), 30);
    }
}

#[test]
fn an_https_api_without_ca_certificates_is_a_clear_error() {
    let workspace = Workspace::new();
    workspace.write("config.toml", &ITEMS.replace("BASE", "https://127.0.0.1:9/"));
    let mut command = workspace.command(&["sync"]);
    command.env("SSL_CERT_FILE", "/nonexistent").env("SSL_CERT_DIR", "/nonexistent");
    let finished = finish(command.spawn().unwrap());
    assert_eq!(finished.code, Some(78), "{finished:#?}");
    assert!(finished.stderr.contains("ca-certificates"), "{finished:#?}");
}

// The demo and the practice API.

fn verified(finished: &Finished) {
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert!(finished.stdout.contains("Verified: 8 tables hold every one of the API's"), "{finished:#?}");
}

#[test]
fn the_demo_verifies_itself_twice_at_the_same_time_and_again_in_the_same_folder() {
    let [one, two] = [Workspace::new(), Workspace::new()];
    let [first, second] = [&one, &two].map(|workspace| workspace.spawn(&["demo", "--fast"]));
    verified(&finish(first));
    verified(&finish(second));
    let again = one.run(&["demo", "--fast"]);
    verified(&again);
    assert!(again.stdout.contains("420 new"), "the second demo shows less than the first: {again:#?}");
    assert!(!again.stdout.contains("went on"), "{again:#?}");
}

#[test]
fn an_interrupted_demo_goes_on_where_it_stopped_and_verifies() {
    let workspace = Workspace::new();
    let demo = ["demo", "--path", "tide.db"];
    let running = Running::start(workspace.command(&demo));
    let tickets = "SELECT count(*) FROM _hw_pages WHERE resource = 'events'";
    wait_for_pages(&workspace.path("tide.db"), tickets, 4);
    running.signal(Signal::INT);
    let finished = running.finish();
    assert_eq!(finished.code, Some(75), "{finished:#?}");
    assert!(finished.stdout.contains("To go on where it stopped: highwater demo --path tide.db"), "{finished:#?}");
    assert!(!finished.stdout.contains("Verified"), "{finished:#?}");

    let finished = workspace.run(&demo);
    verified(&finished);
    assert!(finished.stdout.contains("practice.events: went on at"), "{finished:#?}");
    assert!(finished.stderr.contains("Going on with the unfinished"), "{finished:#?}");
}

fn wait_for_pages(database: &Path, sql: &str, pages: i64) {
    let started = std::time::Instant::now();
    let count = || Connection::open(database).ok()?.query_row(sql, [], |row| row.get::<_, i64>(0)).ok();
    while !database.exists() || count().is_none_or(|count| count < pages) {
        assert!(started.elapsed() < crate::support::PATIENCE);
        std::thread::yield_now();
    }
}

#[test]
fn a_demo_of_another_size_begins_anew_instead_of_going_on_in_the_wrong_data() {
    let workspace = Workspace::new();
    let running = Running::start(workspace.command(&["demo"]));
    wait_for_pages(&workspace.path("demo.db"), "SELECT count(*) FROM _hw_pages", 20);
    running.signal(Signal::INT);
    assert_eq!(running.finish().code, Some(75));
    verified(&workspace.run(&["demo", "--fast"]));
}

#[test]
fn the_demo_leaves_a_database_alone_that_is_not_a_finished_demo() {
    // A complete copy of something that matters; one whose source is called as the demo's; and a demo that somebody
    // has since read something else into.
    let (api, workspace) = shop();
    let mine = |path: &str, config: &str| {
        workspace.configure(api.address, &format!("[destination]\npath = \"{path}\"\n{config}"));
        workspace.sync(0);
    };
    mine("mine.db", ITEMS);
    mine("named_alike.db", &ITEMS.replace("shop", "practice").replace("items", "customers"));
    verified(&workspace.run(&["demo", "--fast", "--path", "both.db"]));
    mine("both.db", ITEMS);
    for path in ["mine.db", "named_alike.db", "both.db"] {
        let before = content(&workspace.path(path));
        assert!(before.len() > 30);
        let finished = workspace.run(&["demo", "--fast", "--path", path]);
        assert_eq!((finished.code, &*finished.stdout), (Some(2), ""), "{finished:#?}");
        assert!(finished.stderr.contains("left alone, choose another --path"), "{finished:#?}");
        assert!(content(&workspace.path(path)) == before, "{path} was changed");
    }
    workspace.write("notes.db", "no database at all");
    assert_eq!(workspace.run(&["demo", "--fast", "--path", "notes.db"]).code, Some(74));
    assert_eq!(std::fs::read_to_string(workspace.path("notes.db")).unwrap(), "no database at all");
}

/// Every row of every table, as text.
fn content(database: &Path) -> Vec<String> {
    let db = Connection::open(database).unwrap();
    let mut tables = db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").unwrap();
    let tables: Vec<String> = tables.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    let mut content = Vec::new();
    for table in tables {
        let mut rows = db.prepare(&format!("SELECT * FROM \"{table}\"")).unwrap();
        let columns = rows.column_count();
        let mut rows = rows.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let cells: Vec<_> = (0..columns).map(|column| row.get_ref(column).unwrap()).collect();
            content.push(format!("{table}: {cells:?}"));
        }
    }
    content
}

#[test]
fn practice_serves_what_the_shipped_configuration_copies() {
    let workspace = Workspace::new();
    let mut practice = Running::start({
        let mut command = workspace.command(&["practice", "--port", "0"]);
        command.env("PRACTICE_TOKEN", "canary-of-practice");
        command
    });
    let line = practice.wait_for("practice API on http://");
    let base = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap();
    let shipped = include_str!("../../config.toml");
    assert!(shipped.contains("http://127.0.0.1:8640/v1/"));
    workspace.write("config.toml", &shipped.replace("http://127.0.0.1:8640/v1/", base));
    let report = workspace.sync(0);
    assert_eq!(report["resources"].as_array().unwrap().len(), 8);
    practice.signal(Signal::TERM);
    let ended = practice.finish();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(!ended.stderr.contains("canary"), "{ended:#?}");
    verify_practice_copy(&workspace.path("highwater.db"));
}

#[test]
fn practice_on_a_port_in_use_says_so() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let workspace = Workspace::new();
    let finished = finish(workspace.command(&["practice", "--port", &port]).stdout(Stdio::piped()).spawn().unwrap());
    assert_eq!(finished.code, Some(74), "{finished:#?}");
    assert!(finished.stderr.contains("another --port?"), "{finished:#?}");
}

// Secrets.

/// One that cannot be there by chance, with characters that URLs and headers write differently.
const CANARY: &str = "hw+canary/7f3a9e";

/// Ways to log in, each with the secret.
const LOGINS: [&str; 6] = [
    r#"auth = { type = "bearer", token = "${env:CANARY}" }"#,
    r#"auth = { type = "http_basic", username = "${env:API_USER}", password = "${env:CANARY}" }"#,
    r#"auth = { type = "api_key", name = "X-Api-Key", api_key = "${env:CANARY}" }"#,
    r#"auth = { type = "api_key", name = "api_key", api_key = "${env:CANARY}", location = "query" }"#,
    r#"auth = { type = "api_key", name = "sid", api_key = "${env:CANARY}", location = "cookie" }"#,
    r#"headers = { X-Extra = "Token ${env:CANARY}" }
params = { extra = "${env:CANARY}" }"#,
];

/// The secret in every form that is sent.
fn forms() -> Vec<String> {
    use base64::Engine;
    let encoded: String = url::form_urlencoded::byte_serialize(CANARY.as_bytes()).collect();
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("harbour:{CANARY}"));
    vec![CANARY.to_owned(), encoded.clone(), encoded.to_lowercase(), CANARY.replace('/', "\\/"), basic]
}

/// An API that gives back whatever it was sent, in its next links, its headers and its error messages: first a 500,
/// then a page whose next link echoes the request, then a 403.
fn parrot() -> Api {
    Api::start(|request, number| {
        let headers: Vec<String> =
            request.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap_or(""))).collect();
        let echo = format!("{} {} {}", request.target, headers.join(" "), request.body);
        let query = request.target.split_once('?').map_or(String::new(), |(_, query)| format!("&{query}"));
        let link = format!("</items?p={}{query}>; rel=\"next\"", number + 1);
        let sent = [("x-echo", echo.as_str()), ("link", &link), ("set-cookie", &echo), ("retry-after", "0")];
        let message = json!({"error": {"message": echo}, "message": echo}).to_string();
        match number {
            0 => respond(500, &sent, message),
            1 | 2 => respond(200, &sent, json!([{"id": number}]).to_string()),
            3 => endless(),
            _ => respond(403, &sent, message),
        }
    })
}

const PARROT: &str = r#"
[sources.shop.client]
base_url = "BASE"
retry = { initial_delay = "1ms" }
LOGIN
[sources.shop.resources.items]
primary_key = "id"
paginator = { type = "header_link" }
"#;

#[test]
fn c07_no_secret_shows_in_any_output_or_in_the_database() {
    for login in LOGINS {
        let api = parrot();
        let workspace = Workspace::with_config(api.address, &PARROT.replace("LOGIN", login));
        let command = |arguments: &[&str]| {
            let mut command = workspace.command(arguments);
            command.env("CANARY", CANARY).env("API_USER", "harbour").env("RUST_BACKTRACE", "1");
            command
        };
        let clean = |what: &str, bytes: &[u8]| {
            for form in forms() {
                let found = bytes.windows(form.len()).any(|window| window == form.as_bytes());
                assert!(!found, "{login}: {form} is in {what}: {}", String::from_utf8_lossy(bytes));
            }
        };
        let clean_output = |finished: &Finished| {
            clean("stdout", finished.stdout.as_bytes());
            clean("stderr", finished.stderr.as_bytes());
        };
        let clean_files = || {
            let mut names = Vec::new();
            for entry in std::fs::read_dir(workspace.path("")).unwrap() {
                let path = entry.unwrap().path();
                clean(&path.display().to_string(), &std::fs::read(&path).unwrap());
                names.push(path.file_name().unwrap().to_string_lossy().into_owned());
            }
            names
        };
        // Two pages are stored, and the third does not come: the WAL is looked at while it is there.
        let running = Running::start(command(&["sync", "-vvv"]));
        api.wait_for(4);
        wait_for_pages(&workspace.path("highwater.db"), "SELECT count(*) FROM _hw_pages", 2);
        assert!(clean_files().contains(&"highwater.db-wal".to_owned()));
        running.signal(Signal::TERM);
        let interrupted = running.finish();
        assert_eq!(interrupted.code, Some(75), "{interrupted:#?}");
        clean_output(&interrupted);

        let refused = finish(command(&["sync", "-vvv", "--json", "--log-format", "json"]).spawn().unwrap());
        assert_eq!(refused.code, Some(77), "{refused:#?}");
        clean_output(&refused);
        clean_output(&finish(command(&["check"]).spawn().unwrap()));
        clean_output(&finish(command(&["check", "--json"]).spawn().unwrap()));
        clean_files();

        let sent = api.seen();
        let text = |seen: &Seen| format!("{} {:?}", seen.target, seen.headers);
        let carried = |seen: &Seen| forms().iter().any(|form| text(seen).contains(form.as_str()));
        assert!(sent.len() > 4 && sent.iter().all(carried), "{login}: a request went without its credentials");
    }
}
