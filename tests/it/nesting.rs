//! `max_table_nesting`: lists of objects are child tables that always hold exactly the lists as received last.

use serde_json::json;

use crate::pages::{DOWN, Pages, items};
use crate::support::{Api, Workspace};

const MERGE: &str = "primary_key = \"id\"\nmax_table_nesting = 1";

const LINES: &str =
    "SELECT _parent_id || ' ' || _list_idx || ' ' || coalesce(sku, 'null') || ' ' || coalesce(qty, 'null')
                     FROM shop_items__lines ORDER BY _parent_id, _list_idx";

/// The numbers that a report gives for the only resource.
fn counts(report: &serde_json::Value) -> [u64; 4] {
    let records = &report["resources"][0]["records"];
    ["inserted", "updated", "unchanged", "filtered"].map(|name| records[name].as_u64().unwrap())
}

/// A page-number API with pages that can be changed, and a workspace that reads it.
fn shop<T: ToString>(texts: &[T], keys: &str) -> (Pages, Api, Workspace) {
    let pages = Pages::new(texts);
    let api = Api::start(pages.api());
    let workspace = Workspace::with_config(api.address, &items(keys));
    (pages, api, workspace)
}

/// Every table of data there is.
fn tables(workspace: &Workspace) -> Vec<String> {
    workspace.column(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' AND name NOT LIKE '\\_hw\\_%' ESCAPE '\\'
         ORDER BY name",
    )
}

#[test]
fn a_list_of_objects_is_a_table_that_joins_with_its_parent_by_the_primary_key() {
    let page = r#"[{"id":"a","lines":[{"sku":"x","qty":1},{"sku":"y","qty":2.5,"note":null}],"tags":["t"],"at":{"x":1}},
                   {"id":"b","lines":[]},{"id":"c","lines":null},{"id":"d"}]"#;
    let (_pages, _api, workspace) = shop(&[page], MERGE);
    workspace.sync(0);
    workspace.check_books();
    assert_eq!(workspace.column::<String>(LINES), ["a 0 x 1.0", "a 1 y 2.5"]);
    let joined: String = workspace.value(
        "SELECT group_concat(i.id || l.sku || p.status, ',') FROM shop_items i JOIN shop_items__lines l ON l._parent_id = i.id
         JOIN _hw_pages p ON p.page_id = l._page_id",
    );
    assert_eq!(joined, "ax200,ay200");
    let columns: Vec<String> = workspace.column("SELECT name FROM pragma_table_info('shop_items')");
    assert_eq!(columns, ["id", "_page_id", "tags", "at"], "the list has no column, lists of scalars and objects have");
    assert_eq!(tables(&workspace), ["shop_items", "shop_items__lines"]);
}

#[test]
fn the_end_of_a_run_says_in_which_tables_the_lists_are() {
    let page = r#"[{"id":1,"lines":[{"sku":"x","parts":[{"n":1}]}],"tags":[{"t":1}]}]"#;
    let (_pages, _api, workspace) = shop(&[page], "primary_key = \"id\"\nmax_table_nesting = 2");
    let finished = workspace.run(&["sync"]);
    let said = "shop_items: its lists are in shop_items__lines, shop_items__tags, shop_items__lines__parts\n";
    assert!(finished.stdout.contains(said), "{finished:#?}");
    let tables = &workspace.sync(0)["resources"][0]["child_tables"];
    assert_eq!(*tables, json!(["shop_items__lines", "shop_items__tags", "shop_items__lines__parts"]));
}

#[test]
fn on_merge_a_child_table_holds_the_list_as_received_last_and_nothing_else_is_written() {
    let page = |lines: serde_json::Value| {
        json!([{"id": 1, "lines": lines}, {"id": 2, "lines": [{"sku": "other", "qty": 9}]}]).to_string()
    };
    let (pages, _api, workspace) = shop(&[page(json!([{"sku": "a", "qty": 1}, {"sku": "b", "qty": 2}]))], MERGE);
    workspace.sync(0);
    for (lines, expected, changes) in [
        (json!([{"sku": "a", "qty": 1}, {"sku": "b", "qty": 2}]), vec!["1 0 a 1", "1 1 b 2"], [0, 0, 2, 0]),
        (json!([{"sku": "a", "qty": 1}, {"sku": "b", "qty": 3}]), vec!["1 0 a 1", "1 1 b 3"], [0, 1, 1, 0]),
        (json!([{"sku": "b", "qty": 3}]), vec!["1 0 b 3"], [0, 1, 1, 0]),
        (json!([{"sku": "b"}, {"qty": 7}]), vec!["1 0 b null", "1 1 null 7"], [0, 1, 1, 0]),
        (json!([]), vec![], [0, 1, 1, 0]),
        (json!([{"sku": "z", "qty": 0}]), vec!["1 0 z 0"], [0, 1, 1, 0]),
        (json!(null), vec![], [0, 1, 1, 0]),
    ] {
        let before: i64 = workspace.value("SELECT max(page_id) FROM _hw_pages");
        pages.set(&[page(lines.clone())]);
        assert_eq!(counts(&workspace.sync(0)), changes, "{lines}");
        let expected: Vec<&str> = expected.into_iter().chain(["2 0 other 9"]).collect();
        assert_eq!(workspace.column::<String>(LINES), expected, "{lines}");
        let rewritten: i64 = workspace
            .value(&format!("SELECT count(*) FROM shop_items__lines WHERE _parent_id = 2 AND _page_id > {before}"));
        assert_eq!(rewritten, 0, "an unchanged list is not written again");
        workspace.check_books();
    }
}

const DEEP: &str = "SELECT i.id || ' ' || l._list_idx || ' ' || t._list_idx || ' ' || t.rate FROM shop_items i
                    JOIN shop_items__lines l ON l._parent_id = i.id
                    JOIN shop_items__lines__taxes t ON t._parent_id = l._row_id ORDER BY 1";

/// Rows of child tables whose parent is not there.
fn orphans(workspace: &Workspace) -> i64 {
    workspace.value(
        "SELECT (SELECT count(*) FROM shop_items__lines WHERE _parent_id NOT IN (SELECT id FROM shop_items))
           + (SELECT count(*) FROM shop_items__lines__taxes WHERE _parent_id NOT IN (SELECT _row_id FROM shop_items__lines))",
    )
}

#[test]
fn lists_in_lists_are_tables_below_the_child_table_and_go_with_it() {
    let page =
        |lines: serde_json::Value| json!([{"id": 1, "lines": lines}, {"id": 2, "lines": [{"taxes": [{"rate": 9}]}]}]);
    let two = json!([{"taxes": [{"rate": 1}, {"rate": 2}]}, {"taxes": [{"rate": 3}]}]);
    let (pages, _api, workspace) = shop(&[page(two.clone())], "primary_key = \"id\"\nmax_table_nesting = 2");
    workspace.sync(0);
    assert_eq!(workspace.column::<String>(DEEP), ["1 0 0 1", "1 0 1 2", "1 1 0 3", "2 0 0 9"]);
    let ids = "SELECT _row_id FROM shop_items__lines ORDER BY _parent_id, _list_idx";
    let before: Vec<i64> = workspace.column(ids);
    for (lines, expected, changes) in [
        (two.clone(), vec!["1 0 0 1", "1 0 1 2", "1 1 0 3"], [0, 0, 2, 0]),
        (json!([{"taxes": [{"rate": 1}]}, {"taxes": [{"rate": 3}]}]), vec!["1 0 0 1", "1 1 0 3"], [0, 1, 1, 0]),
        (json!([{"taxes": [{"rate": 1}]}, {}]), vec!["1 0 0 1"], [0, 1, 1, 0]),
        (two, vec!["1 0 0 1", "1 0 1 2", "1 1 0 3"], [0, 1, 1, 0]),
        (json!([{"taxes": [{"rate": 5}]}]), vec!["1 0 0 5"], [0, 1, 1, 0]),
        (json!([]), vec![], [0, 1, 1, 0]),
    ] {
        pages.set(&[page(lines.clone())]);
        assert_eq!(counts(&workspace.sync(0)), changes, "{lines}");
        let expected: Vec<&str> = expected.into_iter().chain(["2 0 0 9"]).collect();
        assert_eq!(workspace.column::<String>(DEEP), expected, "{lines}");
        assert_eq!(orphans(&workspace), 0, "{lines}");
    }
    assert_eq!(workspace.column::<i64>(ids), before[2..], "the id of a row stays");
}

#[test]
fn a_key_of_two_columns_joins_by_the_row_id() {
    let page = |qty: u32| json!([{"a": "x", "b": 1, "lines": [{"qty": qty}, {"qty": 5}]}, {"a": "x", "b": 2, "lines": [{"qty": 7}]}]);
    let (pages, _api, workspace) = shop(&[page(1)], "primary_key = [\"a\", \"b\"]\nmax_table_nesting = 1");
    let joined = "SELECT i.a || i.b || ' ' || l._list_idx || ' ' || l.qty FROM shop_items i
                  JOIN shop_items__lines l ON l._parent_id = i._row_id ORDER BY 1";
    workspace.sync(0);
    assert_eq!(workspace.column::<String>(joined), ["x1 0 1", "x1 1 5", "x2 0 7"]);
    pages.set(&[page(2)]);
    assert_eq!(counts(&workspace.sync(0)), [0, 1, 1, 0]);
    assert_eq!(workspace.column::<String>(joined), ["x1 0 2", "x1 1 5", "x2 0 7"]);
    assert_eq!(workspace.value::<i64>("SELECT count(*) FROM shop_items__lines"), 3);
}

#[test]
fn on_append_each_row_has_its_own_list_and_an_unfinished_read_is_taken_back_with_its_lists() {
    let record = |n: u32| json!({"n": n, "lines": [{"q": n, "taxes": [{"rate": n}]}, {"q": n + 100}]});
    let first = json!([record(1), record(1)]).to_string();
    let keys = "max_table_nesting = 2\nresume_within = \"0s\"";
    let (pages, _api, workspace) = shop(&[first.as_str(), DOWN], keys);
    let rows = "SELECT i.n || ' ' || l._list_idx || ' ' || l.q || coalesce(' ' || t.rate, '') FROM shop_items i
                JOIN shop_items__lines l ON l._parent_id = i._row_id
                LEFT JOIN shop_items__lines__taxes t ON t._parent_id = l._row_id ORDER BY i._row_id, 1";
    workspace.sync(69);
    assert_eq!(workspace.column::<String>(rows), ["1 0 1 1", "1 1 101", "1 0 1 1", "1 1 101"]);
    pages.set(&[json!([record(2)]).to_string()]);
    workspace.sync(0);
    assert_eq!(workspace.column::<String>(rows), ["2 0 2 2", "2 1 102"]);
    workspace.sync(0);
    assert_eq!(workspace.column::<String>(rows), ["2 0 2 2", "2 1 102", "2 0 2 2", "2 1 102"]);
    for (table, count) in [("shop_items", 2), ("shop_items__lines", 4), ("shop_items__lines__taxes", 2)] {
        assert_eq!(workspace.value::<i64>(&format!("SELECT count(*) FROM {table}")), count, "{table}");
    }
    workspace.check_books();
}

#[test]
fn on_replace_the_child_tables_are_swapped_with_their_parent() {
    let page = |ids: &[u32]| {
        let records =
            ids.iter().map(|id| json!({"id": id, "lines": [{"taxes": [{"rate": id}]}], "notes": [{"n": id}]}));
        serde_json::Value::from_iter(records).to_string()
    };
    let keys = "primary_key = \"id\"\nwrite_disposition = \"replace\"\nmax_table_nesting = 2";
    let (pages, _api, workspace) = shop(&[page(&[1, 2])], keys);
    workspace.sync(0);
    let db = rusqlite::Connection::open(workspace.path("highwater.db")).unwrap();
    db.execute_batch("CREATE INDEX mine ON shop_items__lines__taxes (rate); CREATE INDEX too ON shop_items__notes (n)")
        .unwrap();
    drop(db);
    let all = ["shop_items", "shop_items__lines", "shop_items__lines__taxes", "shop_items__notes"];
    let rates = "SELECT rate FROM shop_items__lines__taxes ORDER BY 1";
    // A generation that is not complete changes nothing.
    pages.set(&[page(&[3]).as_str(), DOWN]);
    workspace.sync(69);
    assert_eq!(workspace.column::<i64>(rates), [1, 2]);
    assert_eq!(tables(&workspace), all);
    pages.set(&[page(&[3]), page(&[4])]);
    workspace.sync(0);
    assert_eq!(workspace.column::<String>(DEEP), ["3 0 0 3", "4 0 0 4"]);
    assert_eq!(orphans(&workspace), 0);
    // Lists that a generation does not have leave their tables there, empty, with what a user made on them.
    pages.set(&[r#"[{"id":5}]"#]);
    workspace.sync(0);
    assert_eq!(tables(&workspace), all);
    assert_eq!(workspace.value::<i64>("SELECT count(*) FROM shop_items__lines__taxes"), 0);
    let indexes = "SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL AND name IN ('mine', 'too')";
    assert_eq!(workspace.column::<String>(indexes).len(), 2);
    pages.set(&[page(&[6])]);
    workspace.sync(0);
    assert_eq!(workspace.column::<String>(DEEP), ["6 0 0 6"]);
    pages.set(&["[]"]);
    workspace.sync(0);
    for table in all {
        assert_eq!(workspace.value::<i64>(&format!("SELECT count(*) FROM {table}")), 0, "{table}");
    }
    assert_eq!(
        workspace.value::<i64>("SELECT count(*) FROM sqlite_schema WHERE name LIKE '\\_hw\\_next%' ESCAPE '\\'"),
        0
    );
    workspace.check_books();
}

#[test]
fn reset_with_its_rows_drops_the_child_tables_and_the_notes_on_them() {
    let (_pages, _api, workspace) =
        shop(&[r#"[{"id":1,"lines":[{"taxes":[{"rate":1}]}]}]"#], "primary_key = \"id\"\nmax_table_nesting = 2");
    workspace.sync(0);
    assert_eq!(tables(&workspace).len(), 3);
    assert_eq!(workspace.run(&["reset", "--drop-rows", "shop.items"]).code, Some(0));
    assert_eq!(tables(&workspace), [""; 0]);
    assert_eq!(workspace.value::<i64>("SELECT count(*) FROM _hw_columns"), 0);
    workspace.sync(0);
    assert_eq!(workspace.column::<String>(DEEP), ["1 0 0 1"]);
}

#[test]
fn a_child_table_never_takes_the_name_of_another_table() {
    let page = r#"[{"id":1,"lines":[{"q":1}]}]"#;
    // A table of the user.
    let (_pages, api, workspace) = shop(&[page], "primary_key = \"id\"\nmax_table_nesting = 1");
    workspace.configure(api.address, &items("table = \"other\""));
    workspace.sync(0);
    let db = rusqlite::Connection::open(workspace.path("highwater.db")).unwrap();
    db.execute_batch("CREATE TABLE Shop_Items__Lines (x); INSERT INTO shop_items__lines VALUES (7)").unwrap();
    drop(db);
    assert_eq!(workspace.run(&["reset", "shop.items"]).code, Some(0));
    assert_eq!(workspace.run(&["reset", "--drop-rows", "shop.items"]).code, Some(0));
    workspace.configure(api.address, &items("primary_key = \"id\"\nmax_table_nesting = 1"));
    let report = workspace.sync(65);
    let error = report["resources"][0]["error"].as_str().unwrap();
    assert!(error.contains("shop_items__lines was not made by highwater"), "{error}");
    assert_eq!(workspace.value::<i64>("SELECT x FROM shop_items__lines"), 7);
    assert_eq!(tables(&workspace), ["Shop_Items__Lines"], "nothing of the page was stored");
}

#[test]
fn fields_that_differ_in_case_and_hostile_names_get_child_tables_of_their_own() {
    let page = r#"[{"id":1,"l":[{"q":1,"m":[{"z":5}]}],"L":[{"q":2}],"l__m":[{"q":3}],"":[{"q":4}],"a\u0000\"b":[{"q":5}],
                    "shop_items__x":"taken","x":[{"q":6}]}]"#;
    let (_pages, _api, workspace) = shop(&[page], "primary_key = \"id\"\nmax_table_nesting = 2");
    workspace.sync(0);
    assert_eq!(counts(&workspace.sync(0)), [0, 0, 1, 0]);
    let children: Vec<String> = workspace.column(
        "SELECT source_key || '=' || \"column\" FROM _hw_columns WHERE type = 'table' AND \"table\" = 'shop_items'",
    );
    assert_eq!(children.len(), 6, "{children:?}");
    let mut sums: Vec<i64> = children
        .iter()
        .map(|child| {
            let name = child.split_once('=').unwrap().1.replace('"', "\"\"");
            workspace.value::<i64>(&format!("SELECT sum(q) FROM \"{name}\""))
        })
        .collect();
    sums.sort_unstable();
    assert_eq!(sums, [1, 2, 3, 4, 5, 6], "{children:?}");
    assert!(children.contains(&"l=shop_items__l".to_owned()), "{children:?}");
    let taken: String = workspace.value("SELECT shop_items__x FROM shop_items");
    assert_eq!(taken, "taken");
    workspace.check_books();
}

#[test]
fn a_depth_that_would_leave_child_tables_behind_is_refused() {
    let page = r#"[{"id":1,"lines":[{"taxes":[{"rate":1}]}]}]"#;
    let (_pages, api, workspace) = shop(&[page], "primary_key = \"id\"\nmax_table_nesting = 2");
    workspace.sync(0);
    for depth in [0, 1, 3] {
        workspace.configure(api.address, &items(&format!("primary_key = \"id\"\nmax_table_nesting = {depth}")));
        let report = workspace.sync(78);
        let error = report["resources"][0]["error"].as_str().unwrap();
        assert!(error.contains("highwater reset"), "{error}");
        assert_eq!(workspace.run(&["reset", "shop.items"]).code, Some(0));
        let error = workspace.sync(78)["resources"][0]["error"].as_str().unwrap().to_owned();
        assert!(error.contains("reset --drop-rows shop.items") && error.contains("max_table_nesting"), "{error}");
        assert_eq!(workspace.value::<i64>("SELECT count(*) FROM shop_items__lines__taxes"), 1);
    }
    assert_eq!(workspace.run(&["reset", "--drop-rows", "shop.items"]).code, Some(0));
    workspace.configure(api.address, &items("primary_key = \"id\""));
    workspace.sync(0);
    assert_eq!(workspace.value::<String>("SELECT lines FROM shop_items"), r#"[{"taxes":[{"rate":1}]}]"#);
    // The other way round a keyed table can stay: a read from the start moves the lists out of their column.
    workspace.configure(api.address, &items(MERGE));
    workspace.sync(78);
    assert_eq!(workspace.run(&["reset", "shop.items"]).code, Some(0));
    workspace.sync(0);
    assert_eq!(workspace.value::<Option<String>>("SELECT lines FROM shop_items"), None);
    assert_eq!(workspace.value::<String>("SELECT taxes FROM shop_items__lines"), r#"[{"rate":1}]"#);
}

#[test]
fn what_is_set_aside_keeps_its_lists_in_its_text() {
    let page = r#"[{"id":1,"lines":[{"sku":"a","qty":1}]},{"lines":[{"sku":"x"}, {"sku":"y"}]}]"#;
    let (_pages, _api, workspace) = shop(&[page], MERGE);
    workspace.sync(0);
    assert_eq!(
        workspace.value::<String>("SELECT record FROM _hw_quarantine"),
        r#"{"lines":[{"sku":"x"}, {"sku":"y"}]}"#
    );
    assert_eq!(workspace.column::<String>(LINES), ["1 0 a 1"]);
}

#[test]
fn a_child_table_and_the_table_of_another_resource_never_become_one() {
    let page = r#"[{"id":1,"lines":[{"q":1}]}]"#;
    let other =
        |table: &str| items("").replace("resources.items", "resources.other") + &format!("table = \"{table}\"\n");
    // The child table was there first,
    let (_pages, api, workspace) = shop(&[page], MERGE);
    workspace.sync(0);
    workspace.configure(api.address, &other("Shop_items__Lines"));
    let error = workspace.sync(78)["resources"][0]["error"].as_str().unwrap().to_owned();
    assert!(error.contains("is a child table of shop_items"), "{error}");
    assert_eq!(workspace.value::<i64>("SELECT q FROM shop_items__lines"), 1);
    // or the other resource.
    let (_pages, api, workspace) = shop(&[page], MERGE);
    workspace.configure(api.address, &other("shop_items__lines"));
    workspace.sync(0);
    workspace.configure(api.address, &items(MERGE));
    let error = workspace.sync(65)["resources"][0]["error"].as_str().unwrap().to_owned();
    assert!(error.contains("shop_items__lines belongs to shop.other"), "{error}");
    assert_eq!(tables(&workspace), ["shop_items__lines"]);
}

#[test]
fn what_a_user_has_dropped_is_made_again_and_filled_by_the_next_read() {
    let page = r#"[{"id":1,"lines":[{"taxes":[{"rate":1}]}]}]"#;
    let (_pages, _api, workspace) = shop(&[page], "primary_key = \"id\"\nmax_table_nesting = 2");
    for dropped in ["shop_items__lines__taxes", "shop_items__lines", "shop_items"] {
        workspace.sync(0);
        let db = rusqlite::Connection::open(workspace.path("highwater.db")).unwrap();
        db.execute_batch(&format!("DROP TABLE {dropped}")).unwrap();
        drop(db);
        workspace.sync(0);
        assert_eq!(workspace.column::<String>(DEEP), ["1 0 0 1"], "{dropped}");
        assert_eq!((orphans(&workspace), tables(&workspace).len()), (0, 3), "{dropped}");
        workspace.check_books();
    }
}

#[test]
fn a_page_that_cannot_be_stored_leaves_no_row_of_its_lists() {
    let keys = format!("{MERGE}\nschema_contract = {{ data_type = \"freeze\" }}");
    let (pages, _api, workspace) = shop(&[r#"[{"id":1,"lines":[{"sku":"a","qty":1}]}]"#], &keys);
    workspace.sync(0);
    pages.set(&[
        r#"[{"id":1,"lines":[{"sku":"b","qty":9},{"sku":"c","qty":9}]},{"id":2,"lines":[{"sku":"d","qty":"x"}]}]"#,
    ]);
    workspace.sync(65);
    assert_eq!(workspace.column::<String>(LINES), ["1 0 a 1"]);
    workspace.check_books();
}
