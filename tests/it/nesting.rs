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
