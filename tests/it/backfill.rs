//! Backfill: a range of the past in windows of their own, while the live cursor stays where it is.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::standins::stripe::{Stripe, TOKEN};
use crate::support::{Api, Finished, Seen, Workspace, finish, json as answer, respond};

/// Charges 0..n, one a minute, newest first, bounded by `from` and `to` in seconds; windows of a page of ten.
#[derive(Clone)]
struct Charges {
    n: u64,
    broken: Arc<Mutex<Option<u64>>>,
}

impl Charges {
    fn new(n: u64) -> Self {
        Self { n, broken: Arc::default() }
    }

    /// Windows that start here answer with 500 from their second page on.
    fn break_at(&self, from: Option<u64>) {
        *self.broken.lock().unwrap() = from;
    }

    fn api(&self) -> Api {
        let charges = self.clone();
        Api::start(move |request: &Seen, _| {
            let number = |name: &str| request.param(name).map(|value| value.parse::<u64>().unwrap());
            let (from, to, page) = (number("from").unwrap_or(0), number("to"), number("page").unwrap_or(1));
            if *charges.broken.lock().unwrap() == Some(from) && page > 1 {
                return respond(500, &[], "");
            }
            let found = (0..charges.n).filter(|n| n * 60 >= from && to.is_none_or(|to| n * 60 < to)).rev();
            let found = found.skip(((page - 1) * 10) as usize).take(10);
            answer(json!(found.map(|n| json!({"id": n, "created": n * 60})).collect::<Vec<_>>()))
        })
    }
}

fn config(more: &str) -> String {
    format!(
        "[sources.pay.client]\nbase_url = \"BASE\"\nretry = {{ max_attempts = 1 }}\npaginator = {{ type = \"page_number\" }}\n\
         [sources.pay.resources.charges]\n\
         params = {{ from = \"${{incremental.start_value}}\", to = \"${{incremental.end_value}}\" }}\n\
         incremental = {{ cursor_path = \"created\", datetime_format = \"%s\", initial_value = 6000, step = \"1h\", end_value = 9000 }}\n{more}\n"
    )
}

const KEYED: &str = "primary_key = \"id\"";

fn ids(workspace: &Workspace) -> Vec<u64> {
    workspace.column("SELECT id FROM pay_charges ORDER BY id")
}

fn backfill(workspace: &Workspace, arguments: &[&str], code: i32) -> Finished {
    let finished = workspace.run(&[&["backfill", "pay.charges"], arguments].concat());
    assert_eq!(finished.code, Some(code), "{finished:#?}");
    finished
}

fn windows(api: &Api, before: usize) -> Vec<String> {
    let param = |request: &Seen, name: &str| request.param(name).unwrap_or_default();
    let first = |request: &&Seen| request.param("page").is_none_or(|page| page == "1");
    let mut windows: Vec<String> = api.seen()[before..]
        .iter()
        .filter(first)
        .map(|request| format!("{}-{}", param(request, "from"), param(request, "to")))
        .collect();
    windows.sort();
    windows
}

fn live(workspace: &Workspace) -> (Option<String>, String) {
    let sql = "SELECT cursor, state FROM _hw_checkpoints WHERE partition = ''";
    workspace.db().query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
}

#[test]
fn a_range_is_read_in_windows_and_the_live_cursor_stays_where_it_is() {
    for more in [KEYED, ""] {
        let api = Charges::new(200).api();
        let workspace = Workspace::with_config(api.address, &config(more));
        workspace.sync(0);
        let before_live = live(&workspace);
        assert_eq!(before_live, (Some("9000".to_owned()), "complete".to_owned()));
        let before = api.seen().len();
        backfill(&workspace, &["--from", "0", "--to", "6000", "--step", "20m", "--concurrency", "3"], 0);
        assert_eq!(windows(&api, before), ["0-1200", "1200-2400", "2400-3600", "3600-4800", "4800-6000"]);
        assert_eq!(ids(&workspace), (0..150).collect::<Vec<_>>());
        assert_eq!(live(&workspace), before_live);
        let kinds: Vec<String> = workspace.column("SELECT kind || ' ' || outcome FROM _hw_runs ORDER BY run_id");
        assert_eq!(kinds, ["sync complete", "backfill complete"]);
        let covered: Vec<String> = workspace.column("SELECT from_value || ' ' || to_value FROM _hw_coverage");
        assert_eq!(covered, ["0 9000"], "what was read live and what was read later are one range");
        assert_eq!(workspace.value::<i64>("SELECT count(*) FROM _hw_checkpoints"), 1, "nothing is left of the windows");
        workspace.check_books();

        let before = api.seen().len();
        let finished = backfill(&workspace, &["--from", "0", "--to", "6000", "--step", "20m"], 0);
        assert!(finished.stdout.contains("Nothing to do"), "{finished:#?}");
        backfill(&workspace, &["--from", "1970-01-01", "--to", "1970-01-01T01:30:00Z", "--json"], 0);
        assert_eq!(api.seen().len(), before, "a repeat asks for nothing");
        workspace.sync(0);
        assert_eq!(ids(&workspace), (0..150).collect::<Vec<_>>());
    }
}

#[test]
fn an_interrupted_backfill_goes_on_at_the_very_page() {
    for more in [KEYED, ""] {
        let charges = Charges::new(100);
        charges.break_at(Some(1800));
        let api = charges.api();
        let workspace = Workspace::with_config(api.address, &config(more));
        let arguments = ["--from", "0", "--to", "5400", "--step", "30m"];
        let finished = backfill(&workspace, &arguments, 69);
        let again = "highwater backfill pay.charges --from 0 --to 5400 --step 30m";
        assert!(finished.stdout.contains(again), "{finished:#?}");
        charges.break_at(None);
        let before = api.seen().len();
        backfill(&workspace, &arguments, 0);
        let asked: Vec<String> = api.seen()[before..].iter().map(|request| request.target.clone()).collect();
        assert_eq!(asked.len(), 3, "{asked:?}");
        assert!(asked.iter().all(|target| target.contains("from=1800") && !target.contains("page=1")), "{asked:?}");
        assert_eq!(ids(&workspace), (0..90).collect::<Vec<_>>(), "{more}");
        workspace.check_books();
    }
}

#[test]
fn gaps_are_found_and_exactly_they_are_read() {
    for more in [KEYED, ""] {
        let api = Charges::new(200).api();
        let workspace = Workspace::with_config(api.address, &config(more));
        for (from, to) in [("0", "600"), ("1200", "1800"), ("3000", "3600")] {
            backfill(&workspace, &["--from", from, "--to", to], 0);
        }
        workspace.sync(0);
        let before = api.seen().len();
        backfill(&workspace, &["--fill-gaps"], 0);
        assert_eq!(windows(&api, before), ["1800-3000", "3600-6000", "600-1200"]);
        assert_eq!(ids(&workspace), (0..150).collect::<Vec<_>>(), "{more}");
        let before = api.seen().len();
        backfill(&workspace, &["--fill-gaps"], 0);
        assert_eq!(api.seen().len(), before);
        workspace.check_books();
    }
}

#[test]
fn each_partition_has_its_own_coverage() {
    let api = Api::start(|request: &Seen, number| {
        let (place, from) = (request.param("place").unwrap(), request.param("from").unwrap());
        answer(json!([{"id": format!("{place}{from}"), "created": from.parse::<i64>().unwrap(), "n": number}]))
    });
    let text = config(KEYED)
        .replace("params = { ", "params = { place = \"${partition.place}\", ")
        .replace("page_number", "single_page");
    let one = text.clone() + "partitions = [{ place = \"a\" }]\n";
    let workspace = Workspace::with_config(api.address, &one);
    let arguments = ["--from", "0", "--to", "7200"];
    backfill(&workspace, &arguments, 0);
    workspace.configure(api.address, &(text + "partitions = [{ place = \"a\" }, { place = \"b\" }]\n"));
    let before = api.seen().len();
    backfill(&workspace, &arguments, 0);
    assert_eq!(windows(&api, before), ["0-3600", "3600-7200"]);
    let ids: Vec<String> = workspace.column("SELECT id FROM pay_charges ORDER BY id");
    assert_eq!(ids, ["a0", "a3600", "b0", "b3600"]);
}

#[test]
fn what_cannot_be_backfilled_is_refused_with_the_reason() {
    let api = Charges::new(10).api();
    let plain =
        "[sources.pay.client]\nbase_url = \"BASE\"\n[sources.pay.resources.charges]\n[sources.pay.resources.x]\n";
    for (text, arguments, said) in [
        (plain.to_owned(), &["backfill", "pay.charges", "--from", "0", "--to", "1"][..], "has no `incremental`"),
        (plain.to_owned(), &["backfill", "pay", "--from", "0", "--to", "1"], "several resources"),
        (config(KEYED), &["backfill", "pay.charges"], "--from"),
        (config(KEYED), &["backfill", "pay.charges", "--from", "60", "--to", "60"], "ends where it starts"),
        (
            config(KEYED),
            &["backfill", "pay.charges", "--from", "soon", "--to", "60"],
            "--from: \"soon\" is not a number",
        ),
        (
            dated(),
            &["backfill", "pay.charges", "--from", "2024-01", "--to", "2024-02-01"],
            "a text, and the cursor is a time",
        ),
        (dated(), &["backfill", "pay.charges", "--from", "2024-01-01", "--to", "2024-02"], "--to: \"2024-02\""),
        (
            config(KEYED),
            &["backfill", "pay.charges", "--from", "2098-01-01", "--to", "2099-01-01"],
            "where the clock stands",
        ),
        (config(KEYED), &["backfill", "pay.charges", "--from", "0", "--to", "60", "--step=-1d"], "invalid value"),
        (
            config(KEYED),
            &["backfill", "pay.charges", "--from", "0", "--to", "60000000", "--step", "1s"],
            "choose a longer step",
        ),
    ] {
        let workspace = Workspace::with_config(api.address, &text);
        let finished = workspace.run(arguments);
        assert_eq!(finished.code, Some(2), "{finished:#?}");
        assert!(finished.stderr.contains(said), "{said}: {finished:#?}");
    }
    assert_eq!(api.seen().len(), 0);
}

/// The same, with times as in RFC 3339.
fn dated() -> String {
    let (head, _) = config("").rsplit_once("incremental = ").map(|(head, rest)| (head.to_owned(), rest.len())).unwrap();
    head + "incremental = { cursor_path = \"created\", initial_value = \"2024-01-01T00:00:00Z\", step = \"1d\" }\n"
        + KEYED
}

/// The same, without an end and without windows.
fn endless(incremental: &str) -> String {
    let text = config("").replace(", step = \"1h\", end_value = 9000", incremental);
    let text = text.replace(", to = \"${incremental.end_value}\"", "");
    assert!(text.contains(incremental) && !text.contains("step"));
    text
}

#[test]
fn an_append_leaves_to_live_reads_what_they_will_read() {
    let api = Charges::new(200).api();
    let workspace = Workspace::with_config(api.address, &config(""));
    let arguments = ["--from", "0", "--to", "12000", "--step", "1h"];
    let finished = backfill(&workspace, &arguments, 0);
    assert!(finished.stderr.contains("reads up to 6000"), "never read live, that begins there: {finished:#?}");
    assert_eq!(ids(&workspace), (0..100).collect::<Vec<_>>());
    workspace.sync(0);
    assert_eq!(ids(&workspace), (0..150).collect::<Vec<_>>());
    let before = api.seen().len();
    let finished = backfill(&workspace, &arguments, 0);
    assert!(finished.stdout.contains("Nothing to do") && finished.stderr.contains("up to 9000"), "{finished:#?}");
    let finished = backfill(&workspace, &["--from", "9000", "--to", "12000"], 2);
    assert!(finished.stderr.contains("from 9000 on it is read by `highwater sync pay.charges`"), "{finished:#?}");
    assert_eq!(api.seen().len(), before);

    for (incremental, covered) in [("", 199), (", lag = \"10m\"", 199)] {
        let workspace = Workspace::with_config(api.address, &endless(incremental));
        workspace.sync(0);
        for arguments in [["--from", "0", "--to", "12000"], ["--from", "5400", "--to", "999999"]] {
            backfill(&workspace, &arguments, 0);
        }
        workspace.sync(0);
        assert_eq!(ids(&workspace), (0..200).collect::<Vec<_>>(), "{incremental}");
        let sql = "SELECT to_value / 60 FROM _hw_coverage";
        assert_eq!(workspace.value::<i64>(sql), covered, "{incremental}");
        workspace.check_books();
    }

    let workspace = Workspace::with_config(api.address, &endless("").replace(", initial_value = 6000", ""));
    let finished = backfill(&workspace, &["--from", "0", "--to", "6000"], 2);
    assert!(finished.stderr.contains("begins at the very beginning"), "{finished:#?}");
    workspace.sync(0);
    backfill(&workspace, &["--from", "0", "--to", "6000"], 0);
    assert_eq!(ids(&workspace), (0..200).collect::<Vec<_>>());
}

#[test]
fn an_append_leaves_alone_what_a_sorted_live_read_under_way_has_stored() {
    let broken = Arc::new(Mutex::new(true));
    let is_broken = Arc::clone(&broken);
    let api = Api::start(move |request: &Seen, _| {
        let number = |name: &str| request.param(name).map(|value| value.parse::<u64>().unwrap());
        let (from, page) = (number("from").unwrap(), number("page").unwrap());
        if page == 2 && *is_broken.lock().unwrap() {
            return respond(500, &[], "");
        }
        let found = (0..15_u64).filter(|n| n * 60 >= from).skip(((page - 1) * 10) as usize).take(10);
        answer(json!(found.map(|n| json!({"id": n, "created": n * 60})).collect::<Vec<_>>()))
    });
    let text = endless(", row_order = \"asc\"").replace("6000", "120");
    let workspace = Workspace::with_config(api.address, &text);
    workspace.sync(69);
    assert_eq!(live(&workspace).0.as_deref(), Some("660"), "the cursor moved with its page");
    *broken.lock().unwrap() = false;
    let arguments = ["--from", "0", "--to", "600"];
    let finished = backfill(&workspace, &arguments, 0);
    assert!(finished.stderr.contains("reads up to 120"), "{finished:#?}");
    workspace.sync(0);
    assert_eq!(ids(&workspace), (0..15).collect::<Vec<_>>());
    workspace.check_books();
}

#[test]
fn what_a_range_left_open_is_gone_on_with_or_taken_back_when_the_windows_change() {
    for more in [KEYED, ""] {
        let open = "SELECT partition FROM _hw_checkpoints WHERE state <> 'complete'";
        let charges = Charges::new(100);
        let api = charges.api();
        let stopped = || {
            charges.break_at(Some(1800));
            let workspace = Workspace::with_config(api.address, &config(more));
            backfill(&workspace, &["--from", "0", "--to", "5400", "--step", "30m"], 69);
            charges.break_at(None);
            assert_eq!(workspace.column::<String>(open).len(), 1);
            (workspace, api.seen().len())
        };
        // Wholly inside what is asked for now: it goes on at its page.
        let (workspace, before) = stopped();
        backfill(&workspace, &["--from", "0", "--to", "6000", "--step", "20m"], 0);
        let asked: Vec<String> = api.seen()[before..].iter().map(|request| request.target.clone()).collect();
        assert!(asked.iter().any(|target| target.contains("from=1800&to=3600&page=2")), "{asked:?}");
        assert!(!asked.iter().any(|target| target.contains("from=1800&to=3600&page=1")), "{asked:?}");
        assert_eq!(ids(&workspace), (0..100).collect::<Vec<_>>(), "{more}");
        workspace.check_books();

        // Across it: its rows are taken back, and read once.
        let (workspace, before) = stopped();
        backfill(&workspace, &["--from", "2400", "--to", "6000"], 0);
        if more.is_empty() {
            assert_eq!(windows(&api, before), ["2400-3600", "5400-6000"]);
            assert_eq!(ids(&workspace), (0..30).chain(40..100).collect::<Vec<_>>());
        }
        assert_eq!(workspace.column::<String>(open), [""; 0], "{more}");
        backfill(&workspace, &["--fill-gaps"], 0);
        assert_eq!(ids(&workspace), (0..100).collect::<Vec<_>>(), "{more}");
        workspace.check_books();
    }
}

#[test]
fn nothing_behind_the_clock_is_taken_for_read() {
    for more in [KEYED, ""] {
        let api = Charges::new(30).api();
        // Live reads begin behind the range, so that only the clock ends it.
        let workspace = Workspace::with_config(
            api.address,
            &config(more).replace("6000", "32503680000").replace(", end_value = 9000", ""),
        );
        let arguments = ["--from", "0", "--to", "2900-01-01", "--step", "900y"];
        backfill(&workspace, &["--from", "0", "--to", "600"], 0);
        let before = api.seen().len();
        let finished = backfill(&workspace, &arguments, 0);
        assert!(finished.stderr.contains("where the clock stands"), "{finished:#?}");
        let clock = jiff::Timestamp::now().as_second();
        let read_to: i64 = workspace.value("SELECT CAST(to_value AS INTEGER) FROM _hw_coverage");
        assert!(read_to <= clock, "{read_to} {clock}");
        assert_eq!(windows(&api, before), [format!("600-{read_to}")], "what is missing, and not all of it once more");
        let before = api.seen().len();
        backfill(&workspace, &arguments, 0);
        let asked = windows(&api, before);
        assert!(asked.iter().all(|window| window.starts_with(&format!("{read_to}-"))), "only the rest: {asked:?}");
        assert_eq!(ids(&workspace), (0..30).collect::<Vec<_>>());
        assert_eq!(workspace.value::<i64>("SELECT count(*) FROM _hw_coverage"), 1);
    }
}

#[test]
fn the_rows_of_a_child_keep_the_fields_of_their_parent() {
    let api = Api::start(|request: &Seen, _| match request.path() {
        "/shops" => answer(json!([{"id": 1, "name": "north"}, {"id": 2, "name": "south"}])),
        _ => answer(json!([{"id": format!("{}", request.target), "created": 60}])),
    });
    let text = config(
        "primary_key = \"id\"\npath = \"shops/${resources.shops.id}/charges\"\ninclude_from_parent = [\"name\"]",
    )
    .replace("page_number", "single_page")
        + "[sources.pay.resources.shops]\nprimary_key = \"id\"\n";
    let workspace = Workspace::with_config(api.address, &text);
    let arguments = ["--from", "0", "--to", "6000", "--json"];
    let finished = backfill(&workspace, &arguments, 2);
    let report: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!((&report["complete"], &report["exit_code"]), (&json!(false), &json!(2)));
    assert!(report["error"].as_str().unwrap().contains("run `highwater sync pay.charges` first"), "{report}");
    assert_eq!(api.seen().len(), 0);
    workspace.sync(0);
    backfill(&workspace, &arguments, 0);
    let names = "SELECT _shops_name FROM pay_charges WHERE id LIKE '%from=0%' ORDER BY id";
    assert_eq!(workspace.column::<Option<String>>(names), [Some("north".to_owned()), Some("south".to_owned())]);
}

#[test]
fn there_is_nothing_to_do_only_where_it_was_done() {
    let none = Api::start(|_: &Seen, _| answer(json!([])));
    let workspace = Workspace::with_config(none.address, &config(KEYED));
    for (arguments, said) in [
        (&["--fill-gaps"][..], "no range of that is known to have been read"),
        (&["--fill-gaps", "--from", "60"], "no range of that is known to have been read"),
        (&["--fill-gaps", "--json"], "no range of that is known to have been read"),
    ] {
        let finished = backfill(&workspace, arguments, 2);
        assert!(finished.stderr.contains(said), "{finished:#?}");
        assert!(!finished.stdout.contains("Nothing to do"), "{finished:#?}");
    }
    backfill(&workspace, &["--from", "60", "--to", "120"], 0);
    let finished = backfill(&workspace, &["--fill-gaps"], 0);
    assert!(finished.stdout.contains("Nothing to do"), "{finished:#?}");
    backfill(&workspace, &["--fill-gaps", "--from", "120"], 2);
    let finished = backfill(&workspace, &["--from", "60", "--to", "120", "--json"], 0);
    let report: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!((&report["complete"], &report["resources"]), (&json!(true), &json!([])));

    // A parent without records was read, and so were its children.
    let text = config("primary_key = \"id\"\npath = \"shops/${resources.shops.id}/charges\"")
        + "[sources.pay.resources.shops]\nprimary_key = \"id\"\n";
    let workspace = Workspace::with_config(none.address, &text);
    workspace.sync(0);
    let finished = backfill(&workspace, &["--from", "60", "--to", "120"], 0);
    assert!(finished.stdout.contains("Nothing to do"), "{finished:#?}");
    assert!(finished.stderr.contains("no records"), "{finished:#?}");
    // Of one that is read in part that cannot be told.
    workspace.configure(none.address, &text.replace("\npath =", "\nparent = { only_changed = true }\npath ="));
    let finished = backfill(&workspace, &["--from", "60", "--to", "120"], 2);
    assert!(finished.stderr.contains("none is known yet"), "{finished:#?}");
}

#[test]
fn the_json_of_a_backfill_is_the_one_of_a_sync() {
    let api = Charges::new(30).api();
    let workspace = Workspace::with_config(api.address, &config(KEYED));
    let finished = backfill(&workspace, &["--from", "0", "--to", "1200", "--json"], 0);
    let report: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(report["resources"][0]["records"]["inserted"], 20);
    assert_eq!(report["complete"], true);
}

#[test]
fn the_page_on_backfill_shows_what_works() {
    let page = include_str!("../../docs/backfill.md");
    let config = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let stripe = Stripe::default();
    // A charge every ten days, from the beginning of 2022 on (1640995200).
    let ids: Vec<String> = (0..50).map(|n| stripe.charge(1_640_995_200 + n * 864_000, n as u64)).collect();
    let api = stripe.api();
    let workspace = Workspace::new();
    workspace.write("config.toml", config);
    let backfill = |expected: &str| {
        let arguments = ["backfill", "stripe.charges", "--from", "2022-01-01", "--to", "2023-01-01", "--step", "1mo"];
        let mut command = workspace.command(&arguments);
        command.env("HIGHWATER_SOURCES__STRIPE__CLIENT__BASE_URL", format!("http://{}/v1/", api.address));
        let finished = finish(command.env("STRIPE_KEY", TOKEN).spawn().unwrap());
        assert!(finished.code == Some(0) && finished.stdout.contains(expected), "{finished:#?}");
    };
    backfill("37 new");
    assert_eq!(api.seen().len(), 12, "a window a month");
    let stored: Vec<String> = workspace.column("SELECT id FROM stripe_charges ORDER BY created");
    assert_eq!(stored, ids[..37]);
    let query = page.split("```sql\n").nth(1).unwrap().split("```").next().unwrap();
    let ranges: Vec<String> =
        workspace.column(&query.replace("partition, from_value, to_value", "from_value || '-' || to_value"));
    assert_eq!(ranges, ["1640995200-1672531200"]);
    backfill("Nothing to do");
}
