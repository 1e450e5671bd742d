//! Where the reads of an append resource meet, no row is lost and none is there twice: whatever its key is made of, how
//! coarse its cursor is written, and what changes in the configuration between two reads.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::{Api, Seen, Workspace, json as answer, respond};

/// Records by their number `at`, which the API filters by `since` and `until`, sorts, and pages by tens.
#[derive(Clone, Default)]
struct Feed {
    all: Arc<Mutex<Vec<Value>>>,
    broken: Arc<Mutex<Option<u64>>>,
}

impl Feed {
    fn of(ids: std::ops::RangeInclusive<u64>) -> Self {
        let feed = Self::default();
        ids.for_each(|id| feed.add(json!({"id": id, "at": id})));
        feed
    }

    fn add(&self, record: Value) {
        self.all.lock().unwrap().push(record);
    }

    /// This page is answered with 500; or none.
    fn break_at(&self, page: Option<u64>) {
        *self.broken.lock().unwrap() = page;
    }

    fn api(&self) -> Api {
        let feed = self.clone();
        Api::start(move |request: &Seen, _| {
            let number = |name: &str| request.param(name).map(|value| value.parse::<u64>().unwrap());
            let page = number("page").unwrap_or(1);
            if *feed.broken.lock().unwrap() == Some(page) {
                return respond(500, &[], "");
            }
            let at = |record: &Value| record["at"].as_u64().unwrap();
            let (since, until) = (number("since").unwrap_or(0), number("until").unwrap_or(u64::MAX));
            let mut found: Vec<Value> = feed.all.lock().unwrap().clone();
            found.retain(|record| (since..until).contains(&at(record)));
            found.sort_by_key(at);
            answer(json!(found.into_iter().skip((page as usize - 1) * 10).take(10).collect::<Vec<_>>()))
        })
    }
}

fn config(incremental: &str, more: &str) -> String {
    let until = if incremental.contains("end_value") { ", until = \"${incremental.end_value}\"" } else { "" };
    format!(
        "[sources.s.client]\nbase_url = \"BASE\"\nretry = {{ max_attempts = 1 }}\npaginator = {{ type = \"page_number\" }}\n\
         [sources.s.resources.r]\nwrite_disposition = \"append\"\n\
         params = {{ since = \"${{incremental.start_value}}\"{until} }}\n\
         incremental = {{ cursor_path = \"at\"{incremental} }}\n{more}\n"
    )
}

fn ids(workspace: &Workspace) -> Vec<u64> {
    workspace.column("SELECT id FROM s_r ORDER BY id")
}

fn coverage(workspace: &Workspace) -> Vec<String> {
    workspace.column("SELECT coalesce(from_value, '') || '..' || to_value FROM _hw_coverage ORDER BY from_sort")
}

#[test]
fn a_key_that_a_step_makes_tells_the_records_of_one_moment_apart() {
    for (key, steps) in [
        ("\"id\"", "{ rename = { uuid = \"id\" } }"),
        ("\"id\"", "{ add = { id = \"uuid\" } }"),
        ("\"id\"", "{ add = { id = \"kind ~ uuid\" } }"),
        ("[\"kind\", \"id\"]", "{ rename = { uuid = \"id\" } }"),
        ("\"kind\"", "{ add = { kind = \"kind ~ uuid\" } }"),
    ] {
        let feed = Feed::default();
        let record = |n: u64, at: u64| json!({"uuid": n, "kind": "x", "n": n, "at": at});
        feed.add(record(1, 5));
        let api = feed.api();
        let more = format!("primary_key = {key}\nprocessing_steps = [{steps}]");
        let workspace = Workspace::with_config(api.address, &config("", &more));
        workspace.sync(0);
        feed.add(record(2, 5));
        feed.add(record(3, 6));
        for _ in 0..2 {
            workspace.sync(0);
            assert_eq!(workspace.column::<u64>("SELECT n FROM s_r ORDER BY n"), [1, 2, 3], "{more}");
        }
        workspace.check_books();
    }
}

#[test]
fn a_field_that_changes_with_every_answer_doubles_no_row_that_has_a_key() {
    let api = Api::start(|_: &Seen, number| answer(json!([{"uuid": 1, "at": 5, "served": number}])));
    let more = "primary_key = \"id\"\nprocessing_steps = [{ rename = { uuid = \"id\" } }, { remove = \"served\" }]";
    let text = config("", more).replace("page_number", "single_page");
    let workspace = Workspace::with_config(api.address, &text);
    for _ in 0..3 {
        workspace.sync(0);
    }
    assert_eq!(ids(&workspace), [1]);
    // A part of the key that the parent puts on the rows is no field of theirs.
    let more = "primary_key = [\"_shops_name\", \"uuid\"]\npath = \"shops/${resources.shops.uuid}/orders\"\n\
                include_from_parent = [\"name\"]\n[sources.s.resources.shops]\nprimary_key = \"uuid\"";
    let api = Api::start(|request: &Seen, number| match request.path() {
        "/shops" => answer(json!([{"uuid": 1, "name": "north"}, {"uuid": 2, "name": "south"}])),
        _ => answer(json!([{"uuid": 7, "at": 5, "served": number}])),
    });
    let workspace = Workspace::with_config(api.address, &config("", more).replace("page_number", "single_page"));
    for _ in 0..3 {
        workspace.sync(0);
    }
    assert_eq!(workspace.column::<String>("SELECT _shops_name FROM s_r ORDER BY 1"), ["north", "south"]);
}

#[test]
fn a_lag_finer_than_the_cursor_is_written_doubles_nothing() {
    let feed = Feed::default();
    (1..=10).for_each(|n| feed.add(json!({"id": n, "at": n * 10})));
    let api = feed.api();
    let seconds = config(", datetime_format = \"%s\", lag = \"9s500ms\"", "");
    let workspace = Workspace::with_config(api.address, &seconds);
    for _ in 0..3 {
        workspace.sync(0);
    }
    assert_eq!(api.seen().last().unwrap().param("since").as_deref(), Some("90"));
    assert_eq!(ids(&workspace), (1..=10).collect::<Vec<_>>());

    let days = Api::start(|request: &Seen, _| {
        let since = request.param("since").unwrap_or_default();
        let days = ["2024-01-08", "2024-01-09", "2024-01-10"].into_iter().enumerate();
        answer(json!(
            days.filter(|(_, at)| **at >= *since).map(|(id, at)| json!({"id": id, "at": at})).collect::<Vec<_>>()
        ))
    });
    let workspace =
        Workspace::with_config(days.address, &config(", lag = \"12h\"", "").replace("page_number", "single_page"));
    for _ in 0..3 {
        workspace.sync(0);
    }
    assert_eq!(days.seen().last().unwrap().param("since").as_deref(), Some("2024-01-09"));
    assert_eq!(ids(&workspace), [0, 1, 2]);
    workspace.check_books();
}

#[test]
fn a_row_order_that_changes_during_a_read_takes_back_nothing_that_is_final_and_doubles_nothing() {
    let feed = Feed::of(1..=40);
    let api = feed.api();
    let sorted = ", initial_value = 0, end_value = 100, row_order = \"asc\"";
    let unsorted = ", initial_value = 0, end_value = 100";
    for (then, cursor) in [(sorted, "20"), (unsorted, "null")] {
        let now = if then == sorted { unsorted } else { sorted };
        let workspace = Workspace::with_config(api.address, &config(then, ""));
        feed.break_at(Some(3));
        workspace.sync(69);
        assert_eq!(workspace.value::<String>("SELECT coalesce(cursor, 'null') FROM _hw_checkpoints"), cursor);
        // Nothing of it is left to a backfill: its rows are there, and not covered.
        workspace.configure(api.address, &config(now, ""));
        let backfill = ["backfill", "s.r", "--from", "0", "--to", "20"];
        let refused = workspace.run(&backfill);
        assert!(refused.code == Some(2) && refused.stderr.contains("from 0 on it is read by"), "{refused:#?}");
        feed.break_at(Some(2));
        let report = workspace.sync(69);
        let over = report["resources"][0]["started_over"].as_str().unwrap();
        assert_eq!(over, "its `row_order` has changed in the configuration");
        assert_eq!(workspace.run(&backfill).code, Some(2), "{then}");
        feed.break_at(None);
        workspace.configure(api.address, &config(now, "resume_within = \"1ms\""));
        workspace.sync(0);
        assert_eq!(ids(&workspace), (1..=40).collect::<Vec<_>>(), "{then}");
        assert_eq!(coverage(&workspace), ["0..40"], "{then}");
        workspace.check_books();
    }
}

#[test]
fn another_datetime_format_is_refused_before_anything_stored_is_compared_with_it() {
    let feed = Feed::of(1..=50);
    let api = feed.api();
    let (seconds, numbers) =
        (", initial_value = 0, end_value = 10, datetime_format = \"%s\"", ", initial_value = 0, end_value = 60");
    for (before, after, from, to) in [(seconds, numbers, "\"%s\"", "null"), (numbers, seconds, "null", "\"%s\"")] {
        let workspace = Workspace::with_config(api.address, &config(before, ""));
        workspace.sync(0);
        workspace.configure(api.address, &config(after, ""));
        let asked = api.seen().len();
        for arguments in [&["sync"][..], &["backfill", "s.r", "--from", "0", "--to", "9"]] {
            let refused = workspace.run(arguments);
            let said = format!("{}{}", refused.stdout, refused.stderr);
            assert_eq!(refused.code, Some(78), "{said}");
            assert!(said.contains(&format!("its datetime_format changed from {from} to {to}")), "{said}");
            assert!(said.contains("highwater reset s.r"), "{said}");
        }
        assert_eq!(api.seen().len(), asked);
    }
}

#[test]
fn what_a_backfill_has_read_is_left_out_where_live_reads_begin_further_back() {
    let feed = Feed::of(0..=40);
    let api = feed.api();
    let base = |initial: u64, more: &str| config(&format!(", initial_value = {initial}, end_value = 100{more}"), "");
    for (order, lag) in
        [("", ""), (", row_order = \"asc\"", ""), ("", ", lag = 50"), (", row_order = \"asc\"", ", lag = 7")]
    {
        let text = |initial: u64| base(initial, &format!("{order}{lag}"));
        let workspace = Workspace::with_config(api.address, &text(20));
        for (from, to) in [("0", "3"), ("8", "10"), ("12", "20")] {
            assert_eq!(workspace.run(&["backfill", "s.r", "--from", from, "--to", to]).code, Some(0));
        }
        workspace.configure(api.address, &text(5));
        // The first read is interrupted, and begins again or goes on.
        feed.break_at(Some(2));
        workspace.sync(69);
        feed.break_at(None);
        for _ in 0..3 {
            workspace.sync(0);
            assert_eq!(ids(&workspace), (0..3).chain(5..=40).collect::<Vec<_>>(), "{order}{lag}");
        }
        assert_eq!(coverage(&workspace), ["0..3", "5..40"]);
        workspace.check_books();
    }
}
