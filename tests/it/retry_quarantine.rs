//! `highwater retry`: records that were set aside become rows after the configuration was corrected, without a request.

use std::sync::{Arc, Mutex};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::pages::{DOWN, Pages, items, until};
use crate::serve::{ask, with_page};
use crate::support::{Api, Workspace, json as answer};

const MERGE: &str = "primary_key = \"id\"";
const STRICT: &str = "schema_contract = { columns = \"quarantine\", data_type = \"quarantine\" }";

/// A page of records that are like the first ones, as many as let a few others pass.
fn page(others: &Value) -> String {
    let others = others.as_array().unwrap().iter().cloned();
    Value::from_iter((100..120).map(|id| json!({"id": id, "a": 1})).chain(others)).to_string()
}

/// A resource whose table was made by a first read, with a contract that lets nothing new into it.
fn strict(keys: &str) -> (Pages, Api, Workspace) {
    let pages = Pages::new(&[page(&json!([]))]);
    let api = Api::start(pages.api());
    let workspace = Workspace::with_config(api.address, &items(keys));
    workspace.sync(0);
    workspace.configure(api.address, &items(&format!("{keys}\n{STRICT}")));
    (pages, api, workspace)
}

/// Tries again, with the contract that lets everything in, and counts what became of the records.
fn retry(workspace: &Workspace, expected: [u64; 4]) {
    let ran = workspace.run(&["retry", "shop.items", "--json"]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    let resource = &report["resources"][0];
    assert_eq!((&resource["stop_reason"], &resource["requests"]), (&json!("quarantine_retried"), &json!(0)));
    let counts =
        ["inserted", "updated", "unchanged", "quarantined"].map(|name| resource["records"][name].as_u64().unwrap());
    assert_eq!(counts, expected, "{}", ran.stderr);
    workspace.check_books();
}

fn left(workspace: &Workspace) -> Vec<String> {
    workspace.column("SELECT reason || ' ' || record FROM _hw_quarantine WHERE retried_page_id IS NULL")
}

fn row(workspace: &Workspace, id: u64) -> String {
    workspace.value(&format!("SELECT coalesce(a, '-') || ' ' || coalesce(b, '-') FROM shop_items WHERE id = {id}"))
}

#[test]
fn what_broke_the_contract_becomes_rows_of_the_page_it_came_with() {
    let (pages, api, workspace) = strict(MERGE);
    let big = "12345678901234567890123";
    let bad = format!(r#"[{{"id":1,"a":2,"b":{{"x":[1, 2]}}}},{{"id":2,"c":"é\n","d":{big}}},{{"e":1}}]"#);
    pages.set(&[page(&json!([])), page(&json!([])).replace(']', &format!(",{}", &bad[1..]))]);
    let read = workspace.sync(0);
    assert_eq!(read["resources"][0]["records"]["quarantined"], 3);
    // The same contract says the same again, and nothing is counted twice.
    retry(&workspace, [0, 0, 0, 3]);
    assert_eq!(left(&workspace).len(), 3);
    let asked = api.seen().len();
    workspace.configure(api.address, &items(MERGE));
    retry(&workspace, [2, 0, 0, 1]);
    assert_eq!(api.seen().len(), asked, "nothing is asked of the API");
    assert_eq!(left(&workspace), ["key_missing {\"e\":1}"]);
    assert_eq!(row(&workspace, 1), r#"2 {"x":[1, 2]}"#);
    let second: String = workspace.value("SELECT c || ' ' || d FROM shop_items WHERE id = 2");
    assert_eq!(second, format!("é\n {big}"));
    let came_from: String =
        workspace.value("SELECT p.url FROM shop_items i JOIN _hw_pages p ON p.page_id = i._page_id WHERE i.id = 1");
    assert!(came_from.ends_with("page=2"), "{came_from}");
    // Who looks at the file sees where it went, and a second time there is nothing to do.
    assert_eq!(workspace.value::<i64>("SELECT count(*) FROM _hw_quarantine"), 3);
    let again = workspace.run(&["retry", "shop.items"]);
    assert_eq!(again.code, Some(0));
    assert!(again.stdout.contains("1 set aside"), "{}", again.stdout);
    let sync = workspace.sync(0);
    assert_eq!(sync["resources"][0]["records"]["updated"], 0, "the next read finds what it would have stored");
}

#[test]
fn a_row_that_is_newer_is_never_overwritten() {
    let (pages, api, workspace) = strict(MERGE);
    let record = |id: u64, value: u64| json!({"id": id, "a": value, "b": value});
    // Two versions of two records are set aside, one of another.
    pages.set(&[page(&json!([record(1, 1), record(2, 1), {"id": 3, "a": 0}]))]);
    workspace.sync(0);
    pages.set(&[page(&json!([record(1, 2), record(2, 2), record(3, 2)]))]);
    workspace.sync(0);
    // Of the second, a version came that could be stored; the third is as it was before the last of it was set aside.
    pages.set(&[page(&json!([record(1, 3), {"id": 2, "a": 3}, {"id": 3, "a": 0}]))]);
    workspace.sync(0);
    workspace.configure(api.address, &items(MERGE));
    retry(&workspace, [1, 0, 5, 0]);
    assert_eq!([1, 2, 3].map(|id| row(&workspace, id)), ["3 3", "3 -", "0 -"]);
    assert!(left(&workspace).is_empty());
}

#[test]
fn what_may_be_older_than_a_row_waits_for_a_complete_read() {
    let (pages, api, workspace) = strict(MERGE);
    let old = page(&json!([{"id": 1, "a": 1}]));
    pages.set(&[&old]);
    workspace.sync(0);
    pages.set(&[page(&json!([{"id": 1, "a": 2, "b": 2}]))]);
    workspace.sync(0);
    // The next read does not come to its end: whether it has brought the row again is not known.
    pages.set(&[&old, DOWN]);
    workspace.sync(69);
    workspace.configure(api.address, &items(MERGE));
    retry(&workspace, [0, 0, 0, 1]);
    assert_eq!(
        (row(&workspace, 1), left(&workspace)),
        ("1 -".to_owned(), vec![r#"row_may_be_newer {"id":1,"a":2,"b":2}"#.to_owned()])
    );
    pages.set(&[&old]);
    workspace.sync(0);
    retry(&workspace, [0, 0, 1, 0]);
    assert_eq!((row(&workspace, 1).as_str(), left(&workspace).len()), ("1 -", 0));
}

#[test]
fn what_is_newer_than_its_row_takes_its_place() {
    let (pages, api, workspace) = strict(MERGE);
    pages.set(&[page(&json!([{"id": 1, "a": 1}]))]);
    workspace.sync(0);
    pages.set(&[page(&json!([{"id": 1, "a": 2, "b": 2}]))]);
    workspace.sync(0);
    workspace.configure(api.address, &items(MERGE));
    retry(&workspace, [0, 1, 0, 0]);
    assert_eq!(row(&workspace, 1), "2 2");
}

#[test]
fn lists_of_records_come_back_into_their_tables_and_children_are_read_for_them() {
    let pages = Pages::new(&[r#"[{"id":100,"lines":[{"q":1}]}]"#.to_owned()]);
    let api = Api::start({
        let pages = pages.clone();
        move |request, _| match request.target.starts_with("/items/") {
            true => crate::support::respond(200, &[("content-type", "application/json")], r#"[{"n":7}]"#),
            false => pages.answer(request),
        }
    });
    let config = |contract: &str| {
        let keys = "primary_key = \"id\"\nmax_table_nesting = 1";
        let child = "[sources.shop.resources.notes]\npath = \"items/${resources.items.id}/notes\"\n\
                     primary_key = [\"_items_id\", \"n\"]\ninclude_from_parent = [\"id\"]\n\
                     paginator = { type = \"single_page\" }\n";
        items(&format!("{keys}\n{contract}\n{child}"))
    };
    let workspace = Workspace::with_config(api.address, &config(""));
    workspace.sync(0);
    let bad: Vec<Value> = (100..120)
        .map(|id| json!({"id": id, "lines": [{"q": 1}]}))
        .chain([json!({"id": 1, "lines": [{"q": 5, "r": 6}, {"q": 7}]})])
        .collect();
    pages.set(&[Value::from(bad)]);
    workspace.configure(api.address, &config("schema_contract = { columns = \"quarantine\" }"));
    workspace.sync(0);
    assert_eq!(workspace.value::<i64>("SELECT count(*) FROM shop_notes WHERE _items_id = 1"), 0);
    workspace.configure(api.address, &config(""));
    retry(&workspace, [1, 0, 0, 0]);
    assert_eq!(
        workspace.column::<String>("SELECT q || ' ' || coalesce(r, '-') FROM shop_items__lines WHERE _parent_id = 1"),
        ["5 6", "7 -"]
    );
    let ran = workspace.run(&["sync", "shop.notes"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(workspace.value::<i64>("SELECT n FROM shop_notes WHERE _items_id = 1"), 7);
}

#[test]
fn an_appended_record_comes_once_although_its_read_starts_over() {
    let append = "write_disposition = \"append\"";
    let (pages, api, workspace) = strict(append);
    let bad = page(&json!([{"id": 1, "b": 1}]));
    pages.set(&[bad.as_str(), DOWN]);
    workspace.sync(69);
    workspace.configure(api.address, &items(append));
    retry(&workspace, [1, 0, 0, 0]);
    // The read starts over with another request: what it had brought is taken back, and what was set aside of it.
    pages.set(&[&bad]);
    workspace.configure(api.address, &items(&format!("{append}\nparams = {{ x = \"1\" }}")));
    workspace.sync(0);
    assert_eq!(workspace.value::<i64>("SELECT count(*) FROM shop_items WHERE id = 1"), 1);
    let nothing = workspace.run(&["retry", "shop.items"]);
    assert!(nothing.stderr.contains("no records set aside that can be tried again"), "{}", nothing.stderr);
    workspace.check_books();
}

#[test]
fn what_is_taken_back_before_it_was_tried_again_is_left_to_the_read_that_brings_it_once_more() {
    let append = "write_disposition = \"append\"";
    let (pages, api, workspace) = strict(append);
    let bad = page(&json!([{"id": 1, "b": 1}]));
    pages.set(&[bad.as_str(), DOWN]);
    workspace.sync(69);
    pages.set(&[&bad]);
    workspace.configure(api.address, &items(&format!("{append}\n{STRICT}\nparams = {{ x = \"1\" }}")));
    workspace.sync(0);
    assert_eq!(left(&workspace).len(), 2, "it came with both");
    workspace.configure(api.address, &items(&format!("{append}\nparams = {{ x = \"1\" }}")));
    retry(&workspace, [1, 0, 0, 0]);
    assert_eq!(workspace.value::<i64>("SELECT count(*) FROM shop_items WHERE id = 1"), 1);
}

#[test]
fn a_row_of_a_read_that_changed_everything_is_newer_too() {
    let (pages, api, workspace) = strict(MERGE);
    pages.set(&[page(&json!([{"id": 1, "a": 2, "b": 2}]))]);
    workspace.sync(0);
    pages.set(&[page(&json!([{"id": 1, "a": 1}])).replace("\"a\":1", "\"a\":3")]);
    let report = workspace.sync(0);
    assert_eq!(report["resources"][0]["records"]["unchanged"], 0);
    workspace.configure(api.address, &items(MERGE));
    retry(&workspace, [0, 0, 1, 0]);
    assert_eq!(row(&workspace, 1), "3 -");
}

#[test]
fn however_many_stay_aside_it_is_no_failure() {
    let (pages, _api, workspace) = strict(MERGE);
    let good = (100..1400).map(|id| json!({"id": id, "a": 1}));
    pages.set(&[Value::from_iter(good.chain((0..12).map(|id| json!({"id": id, "b": 1}))))]);
    workspace.sync(0);
    retry(&workspace, [0, 0, 0, 12]);
    assert_eq!(left(&workspace).len(), 12);
}

#[test]
fn what_is_read_completely_each_time_is_not_tried_again() {
    let (_pages, _api, workspace) = strict("write_disposition = \"replace\"");
    let ran = workspace.run(&["retry", "shop.items"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("shop.items: every complete read replaces its rows"), "{}", ran.stderr);
    let ran = workspace.run(&["retry", "shop.itms"]);
    assert!(ran.stderr.contains("did you mean `shop.items`"), "{}", ran.stderr);
}

#[test]
fn a_daemon_tries_again_when_it_is_asked_to_and_says_why_it_does_not() {
    let (pages, api, workspace) = strict(MERGE);
    pages.set(&[page(&json!([{"id": 1, "a": 1, "b": 1}, 5]))]);
    workspace.sync(0);
    let web = "[web]\nlisten = \"127.0.0.1:0\"\ntoken = \"${env:TOKEN}\"\n";
    workspace.configure(api.address, &format!("{web}{}every = \"1h\"\n", items(MERGE)));
    let (daemon, page) = with_page(&workspace);
    let (status, body) = ask(&page, "POST /resources/shop.items/retry.json");
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("the record that was set aside is tried again"), "{body}");
    let count = |what: &str| workspace.value::<i64>(&format!("SELECT count(*) FROM {what}"));
    until("the record is a row", || count("_hw_quarantine WHERE retried_page_id IS NOT NULL") == 1);
    until("the runs have ended", || count("_hw_runs WHERE outcome = 'running'") == 0);
    let (status, body) = ask(&page, "POST /resources/shop.items/retry.json");
    assert!(status == 409 && body.contains("could not be read; it comes again"), "{status} {body}");
    daemon.signal(Signal::TERM);
    let finished = daemon.finish();
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let kinds = workspace.column::<String>("SELECT kind || ' ' || stop_reason FROM _hw_runs WHERE kind = 'retry'");
    assert_eq!(kinds, ["retry quarantine_retried"]);
    workspace.check_books();
}

#[test]
fn a_row_made_of_a_record_is_as_old_as_the_record_was() {
    let (pages, api, workspace) = strict(MERGE);
    pages.set(&[page(&json!([{"id": 1, "a": 1, "b": 1}]))]);
    workspace.sync(0);
    pages.set(&[page(&json!([{"id": 1, "a": 2, "b": 2, "c": 2}]))]);
    workspace.sync(0);
    // At first only the older one is let in.
    workspace
        .configure(api.address, &items(&format!("{MERGE}\n{STRICT}\ncolumns = {{ b = {{ type = \"integer\" }} }}")));
    retry(&workspace, [1, 0, 0, 1]);
    assert_eq!(row(&workspace, 1), "1 1");
    workspace.configure(api.address, &items(MERGE));
    retry(&workspace, [0, 1, 0, 0]);
    assert_eq!(row(&workspace, 1), "2 2");
}

#[test]
fn which_of_two_on_one_page_was_the_last_is_not_guessed() {
    let (pages, api, workspace) = strict(MERGE);
    pages.set(&[page(&json!([{"id": 1, "a": 1, "b": 1}, {"id": 1, "a": 2}]))]);
    workspace.sync(0);
    workspace.configure(api.address, &items(MERGE));
    retry(&workspace, [0, 0, 0, 1]);
    assert_eq!(row(&workspace, 1), "2 -");
    // Of two that were set aside the last one is known.
    workspace.configure(api.address, &items(&format!("{MERGE}\n{STRICT}")));
    pages.set(&[page(&json!([{"id": 2, "c": 1}, {"id": 2, "a": 2, "c": 2}]))]);
    workspace.sync(0);
    workspace.configure(api.address, &items(MERGE));
    retry(&workspace, [1, 0, 2, 0]);
    assert_eq!((row(&workspace, 1).as_str(), row(&workspace, 2).as_str()), ("2 -", "2 -"));
}

#[test]
fn a_pass_that_does_not_read_every_partition_says_nothing_of_the_others() {
    // The number of the record of each item, and what its note says.
    let all = Arc::new(Mutex::new([(1, json!({"a": 1})), (1, json!({"a": 1}))]));
    let api = Api::start({
        let all = Arc::clone(&all);
        move |request, _| {
            let all = all.lock().unwrap();
            if let Some(rest) = request.target.strip_prefix("/items/") {
                let mut note = all[usize::from(rest.starts_with('2'))].1.clone();
                note["n"] = json!(0);
                return answer(Value::from_iter((1..20).map(|n| json!({"n": n})).chain([note])));
            }
            let since = request.param("since").map_or(0, |since| since.parse::<u64>().unwrap());
            let items = (1..).zip(&*all).filter(|(_, (at, _))| *at > since);
            answer(items.map(|(id, (at, _))| json!({"id": id, "at": at})).collect::<Vec<_>>().into())
        }
    });
    let config = |contract: &str| {
        items(&format!(
            "primary_key = \"id\"\nparams = {{ since = \"${{incremental.start_value}}\" }}\n\
             incremental = {{ cursor_path = \"at\" }}\npaginator = {{ type = \"single_page\" }}\n\
             [sources.shop.resources.notes]\npath = \"items/${{resources.items.id}}/notes\"\n\
             primary_key = [\"_items_id\", \"n\"]\ninclude_from_parent = [\"id\"]\n\
             paginator = {{ type = \"single_page\" }}\n{contract}"
        ))
    };
    let workspace = Workspace::with_config(api.address, &config(""));
    workspace.sync(0);
    workspace.configure(api.address, &config(STRICT));
    let retried = |counts: [u64; 4], note: &str| {
        workspace.configure(api.address, &config(""));
        let ran = workspace.run(&["retry", "shop.notes", "--json"]);
        let report: Value = serde_json::from_str(&ran.stdout).unwrap();
        let names = ["inserted", "updated", "unchanged", "quarantined"];
        let became = names.map(|name| report["resources"][0]["records"][name].as_u64().unwrap());
        assert_eq!(became, counts, "{}", ran.stderr);
        let sql = "SELECT a || ' ' || coalesce(b, '-') FROM shop_notes WHERE _items_id = 1 AND n = 0";
        assert_eq!(workspace.value::<String>(sql), note);
        workspace.configure(api.address, &config(STRICT));
    };
    all.lock().unwrap()[0] = (2, json!({"a": 2, "b": 2}));
    workspace.sync(0);
    // The next pass is complete, and has the notes of the other item alone.
    all.lock().unwrap()[1].0 = 3;
    workspace.sync(0);
    retried([0, 1, 0, 0], "2 2");
    // Now one has them all once more, as they were before.
    all.lock().unwrap()[0] = (4, json!({"a": 3, "c": 3}));
    workspace.sync(0);
    all.lock().unwrap()[0] = (5, json!({"a": 2, "b": 2}));
    workspace.sync(0);
    retried([0, 0, 1, 0], "2 2");
}

#[test]
fn no_read_has_the_number_of_a_page_that_was_tried_again() {
    let append = "write_disposition = \"append\"";
    let (pages, api, workspace) = strict(append);
    pages.set(&[page(&json!([{"id": 1, "b": 1}]))]);
    workspace.sync(0);
    workspace.configure(api.address, &items(append));
    retry(&workspace, [1, 0, 0, 0]);
    let retried: i64 = workspace.value("SELECT max(page_id) FROM _hw_pages");
    let last_read = || workspace.value::<i64>("SELECT CAST(value AS INTEGER) FROM _hw_meta WHERE key = 'last_read_id'");
    pages.set(&["[{\"id\":2}]"]);
    while last_read() + 1 < retried {
        workspace.sync(0);
    }
    pages.set(&["[{\"id\":3}]", DOWN]);
    workspace.sync(69);
    assert_eq!(last_read(), retried);
    // The read starts over, and takes back what it had brought: nothing else.
    pages.set(&["[{\"id\":3}]"]);
    workspace.configure(api.address, &items(&format!("{append}\nparams = {{ x = \"1\" }}")));
    workspace.sync(0);
    assert_eq!(workspace.column::<i64>("SELECT id FROM shop_items WHERE id IN (1, 3)"), [1, 3]);
    workspace.check_books();
}

#[test]
fn what_was_set_aside_before_its_table_was_dropped_comes_again_with_the_rows() {
    let append = "write_disposition = \"append\"";
    let (pages, api, workspace) = strict(append);
    pages.set(&[page(&json!([{"id": 1, "b": 1}]))]);
    workspace.sync(0);
    workspace.configure(api.address, &items(append));
    assert_eq!(workspace.run(&["reset", "--drop-rows", "shop.items"]).code, Some(0));
    workspace.sync(0);
    let nothing = workspace.run(&["retry", "shop.items"]);
    assert!(nothing.stderr.contains("no records set aside that can be tried again"), "{}", nothing.stderr);
    assert_eq!(workspace.value::<i64>("SELECT count(*) FROM shop_items WHERE id = 1"), 1);
}
