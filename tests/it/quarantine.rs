//! Promises 7 and 8: every record is accounted for, and a bad one is set aside instead of stopping its page.

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::pages::{Pages, items};
use crate::support::{Api, Workspace};

const MERGE: &str = "primary_key = \"id\"";

/// One page of `bad` records without a key and `good` ones with.
fn page(good: std::ops::Range<u64>, bad: usize) -> String {
    let good = good.map(|id| json!({"id": id}));
    Value::from_iter((0..bad).map(|n| json!({"n": n})).chain(good)).to_string()
}

#[test]
fn a_bad_record_is_set_aside_with_its_reason_and_its_text() {
    let deep = format!(r#"{{"id":1,"d":{}{}}}"#, "[".repeat(65), "]".repeat(65));
    let cases: [(&str, &str); 14] = [
        (r#"{"name":"none"}"#, "key_missing"),
        (r#"{"id":null,"list":[1, {"a" : "b"}]}"#, "key_missing"),
        (r#"{"id":true}"#, "key_not_scalar"),
        (r#"{"id":{"a":1}}"#, "key_not_scalar"),
        (r#"{"id":[1]}"#, "key_not_scalar"),
        (r#"{"id":9,"id":9}"#, "duplicate_key"),
        (r#"{"id":9,"name":"\ud800"}"#, "invalid_string"),
        (r#"{"id":9,"\udfff":1}"#, "invalid_string"),
        (&deep, "nested_too_deep"),
        ("5", "not_an_object"),
        ("null", "not_an_object"),
        (r#""text""#, "not_an_object"),
        ("[1,2]", "not_an_object"),
        ("1e400", "not_an_object"),
    ];
    // Without any good record no table can be made; with one before or after them, there is one.
    for (name, before, after) in [("alone", "", ""), ("first", "", r#",{"id":1}"#), ("last", r#"{"id":1},"#, "")] {
        // Ten and more of them fail the run, and so do fewer when there is nothing else; the page is stored all the same.
        let parts = if name == "alone" { 2 } else { 1 };
        for part in cases.chunks(cases.len().div_ceil(parts)) {
            let text = part.iter().map(|(record, _)| *record).collect::<Vec<_>>().join(",");
            let good = usize::from(name != "alone");
            let api = Api::start(Pages::new(&[format!("[{before}{text}{after}]")]).api());
            let workspace = Workspace::with_config(api.address, &items(MERGE));
            let code = if part.len() >= 10 || name == "alone" { 65 } else { 0 };
            workspace.sync(code);
            let found: Vec<String> =
                workspace.column("SELECT record || ' ' || reason FROM _hw_quarantine ORDER BY record || ' ' || reason");
            let mut expected: Vec<String> = part.iter().map(|(record, reason)| format!("{record} {reason}")).collect();
            expected.sort();
            assert_eq!(found, expected, "{name}");
            let line: String = workspace
                .value("SELECT received || ' ' || inserted || ' ' || quarantined FROM _hw_pages WHERE page_id = 1");
            assert_eq!(line, format!("{} {good} {}", part.len() + good, part.len()), "{name}");
            workspace.check_books();
        }
    }
}

#[test]
fn b16_a_record_larger_than_a_row_may_be_is_set_aside_with_its_beginning() {
    let large = format!(r#"{{"id":1,"text":"{}"}}"#, "é".repeat(5 << 20));
    let api = Api::start(Pages::new(&[format!(r#"[{large},{{"id":2}}]"#)]).api());
    let workspace = Workspace::with_config(api.address, &items(MERGE));
    workspace.sync(0);
    assert_eq!(workspace.column::<i64>("SELECT id FROM shop_items"), [2]);
    let (reason, kept): (String, String) = workspace
        .db()
        .query_row("SELECT reason, record FROM _hw_quarantine", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    assert_eq!(reason, "record_too_large");
    assert!(large.starts_with(&kept) && kept.len() > 60_000 && kept.len() < 70_000, "{}", kept.len());
}

#[test]
fn more_than_one_in_a_hundred_and_at_least_ten_bad_records_fail_the_run() {
    for (good, bad, code) in [(11, 9, 0), (10, 10, 65), (990, 10, 0), (989, 10, 65), (0, 10, 65)] {
        let api = Api::start(Pages::new(&[page(0..good, bad)]).api());
        let workspace = Workspace::with_config(api.address, &items(MERGE));
        let report = workspace.sync(code);
        let resource = &report["resources"][0];
        assert_eq!(resource["outcome"], if code == 0 { "complete" } else { "failed" }, "{good} good, {bad} bad");
        assert_eq!(resource["records"]["quarantined"], bad, "{good} good, {bad} bad");
        assert_eq!(workspace.value::<i64>("SELECT count(*) FROM _hw_quarantine"), bad as i64);
        let outcome: String = workspace.value("SELECT outcome || ' ' || coalesce(error, '') FROM _hw_runs");
        assert_eq!(outcome.contains("_hw_quarantine"), code == 65, "the error says where to look: {outcome}");
        workspace.check_books();
    }
}

#[test]
fn a_read_that_could_store_none_of_its_records_fails_and_takes_the_place_of_nothing() {
    let only_bad = [page(0..0, 3), page(0..0, 2)];
    for (keys, rows) in [("primary_key = \"id\"\nwrite_disposition = \"replace\"", 5), (MERGE, 5)] {
        let pages = Pages::new(&[page(0..5, 0)]);
        let api = Api::start(pages.api());
        let workspace = Workspace::with_config(api.address, &items(keys));
        workspace.sync(0);
        pages.set(&only_bad);
        for _ in 0..2 {
            let report = workspace.sync(65);
            let error = report["resources"][0]["error"].as_str().unwrap();
            assert!(error.contains("none of 5 records could be stored"), "{error}");
            assert_eq!(workspace.value::<i64>("SELECT count(*) FROM shop_items"), rows, "{keys}");
        }
        // One good record anywhere in the read, also in an earlier run of it, is enough.
        pages.set(&[page(7..8, 0), page(0..0, 2), crate::pages::DOWN.to_owned()]);
        workspace.sync(69);
        pages.set(&[page(7..8, 0), page(0..0, 2), page(0..0, 1)]);
        let report = workspace.sync(0);
        assert_eq!(report["resources"][0]["resumed_at"], "page 3");
        assert_eq!(workspace.value::<i64>("SELECT count(*) FROM shop_items WHERE id = 7"), 1, "{keys}");
        workspace.check_books();
    }
}

#[test]
fn bad_records_are_counted_over_all_pages_of_a_run_and_stop_it_where_they_are_too_many() {
    let bad_on_each = [0, 1, 2, 3, 4, 5].map(|number| page(number * 5..number * 5 + 5, 3));
    let api = Api::start(Pages::new(&bad_on_each).api());
    let workspace = Workspace::with_config(api.address, &items(MERGE));
    workspace.sync(65);
    assert_eq!(workspace.value::<i64>("SELECT quarantined FROM _hw_runs"), 12, "four pages of three");
    workspace.check_books();
}

#[test]
fn after_too_many_bad_records_the_next_run_starts_over_and_takes_appended_rows_back() {
    let pages = Pages::new(&["[{\"n\":1},{\"n\":2}]", "[1,2,3,4,5,6,7,8,9,10,{\"n\":3}]", "[{\"n\":4}]"]);
    let api = Api::start(pages.api());
    let workspace = Workspace::with_config(api.address, &items(""));
    workspace.sync(65);
    let state: String = workspace.value("SELECT state FROM _hw_checkpoints");
    assert_eq!(state, "abandoned");
    assert_eq!(workspace.value::<String>("SELECT outcome || ' ' || stop_reason FROM _hw_runs"), "failed error");
    pages.set(&["[{\"n\":1},{\"n\":2}]", "[{\"n\":3}]", "[{\"n\":4}]"]);
    let report = workspace.sync(0);
    assert_eq!(report["resources"][0]["resumed_at"], Value::Null);
    let over = report["resources"][0]["started_over"].as_str().unwrap();
    assert_eq!(over, "the last read was given up: its records broke their contract");
    assert_eq!(workspace.column::<i64>("SELECT n FROM shop_items ORDER BY rowid"), [1, 2, 3, 4]);
    workspace.check_books();
}

#[test]
fn a_contract_that_the_records_break_fails_the_run_and_nothing_of_the_page_is_stored() {
    let same = Value::from_iter((0..25).map(|n| json!({"id": n, "kind": "a"}))).to_string();
    let drifting = Value::from_iter((0..25).map(|n| json!({"id": n.min(21), "kind": "a"}))).to_string();
    let cases = [
        ("a key that names no record", "kind", vec![same.clone()], 65, "does not tell records apart", 0),
        ("a key that comes again now and then", "id", vec![drifting], 0, "", 22),
        (
            "a number that becomes a text",
            "id",
            vec![r#"[{"id":1}]"#.into(), r#"[{"id":2},{"id":"3"}]"#.into()],
            65,
            "key type changed",
            1,
        ),
        (
            "a number that becomes a decimal",
            "id",
            vec![r#"[{"id":1}]"#.into(), r#"[{"id":1.0}]"#.into()],
            65,
            "key type changed",
            1,
        ),
        (
            "an integer beyond 64 bits, later",
            "id",
            vec![r#"[{"id":1}]"#.into(), r#"[{"id":18446744073709551615}]"#.into()],
            65,
            "`highwater reset --drop-rows shop.items`",
            1,
        ),
        (
            "integers of all sizes, one of the largest on the first page",
            "id",
            vec![r#"[{"id":1},{"id":18446744073709551615}]"#.into(), r#"[{"id":1},{"id":2}]"#.into()],
            0,
            "",
            3,
        ),
        ("both on one page", "id", vec![r#"[{"id":"1"},{"id":1}]"#.into()], 65, "key type changed", 0),
    ];
    for (name, key, texts, code, error, rows) in cases {
        let api = Api::start(Pages::new(&texts).api());
        let workspace = Workspace::with_config(api.address, &items(&format!("primary_key = \"{key}\"")));
        let report = workspace.sync(code);
        let said = report["resources"][0]["error"].as_str().unwrap_or_default();
        assert!(said.contains(error), "{name}: {said}");
        let exists = workspace.db().table_exists(None, "shop_items").unwrap();
        let found = if exists { workspace.value::<i64>("SELECT count(*) FROM shop_items") } else { 0 };
        assert_eq!(found, rows, "{name}");
        workspace.check_books();
    }
}

#[test]
fn one_resource_with_bad_records_does_not_stop_the_others() {
    let api = Api::start(|request, _| {
        let page = if request.path().ends_with("bad") { page(0..0, 20) } else { page(0..20, 0) };
        let page = if crate::pages::page_of(request) == 1 { page } else { "[]".to_owned() };
        crate::support::respond(200, &[], page)
    });
    let config = items(MERGE) + &format!("[sources.shop.resources.bad]\n{MERGE}\n");
    let workspace = Workspace::with_config(api.address, &config);
    let report = workspace.sync(65);
    let outcomes: Vec<_> = report["resources"].as_array().unwrap().iter().map(|one| &one["outcome"]).collect();
    assert_eq!(outcomes, ["complete", "failed"]);
    assert_eq!(workspace.value::<i64>("SELECT count(*) FROM shop_items"), 20);
    workspace.check_books();
}

#[test]
fn the_ledger_takes_no_line_that_loses_a_record() {
    let api = Api::start(Pages::new(&[page(0..3, 1)]).api());
    let workspace = Workspace::with_config(api.address, &items(MERGE));
    workspace.sync(0);
    let db = Connection::open(workspace.path("highwater.db")).unwrap();
    for table in ["_hw_pages", "_hw_runs"] {
        for count in ["received", "inserted", "updated", "unchanged", "filtered", "quarantined"] {
            let changed = db.execute(&format!("UPDATE {table} SET {count} = {count} + 1 WHERE run_id = 1"), []);
            let error = changed.unwrap_err().to_string();
            assert!(error.contains("CHECK constraint failed"), "{table}.{count}: {error}");
        }
    }
}
