//! Promises 4 to 6: what a complete read leaves in the table, for each write disposition.

use serde_json::json;

use crate::support::{Api, Workspace, json, numbered};

const MERGE: &str = r#"
[sources.shop.client]
base_url = "BASE"
[sources.shop.resources.items]
primary_key = "id"
data_selector = "data"
paginator = { type = "page_number", total_path = "pages" }
"#;

#[test]
fn a_merged_table_has_one_row_for_each_key() {
    let api = Api::start(numbered(250, 100));
    let workspace = Workspace::with_config(api.address, MERGE);
    let report = workspace.sync(0);
    assert_eq!(report["resources"][0]["records"]["inserted"], 250);
    let again = workspace.sync(0);
    assert_eq!(again["resources"][0]["records"]["unchanged"], 250);
    assert_eq!(workspace.value::<i64>("SELECT count(*) FROM shop_items"), 250);
    workspace.check_books();
}

#[test]
fn a_changed_record_replaces_its_row_and_nothing_else_is_written() {
    let api = Api::start(|_, number| json(json!([{"id": 1, "n": number}, {"id": 2, "n": 7}])));
    let workspace = Workspace::with_config(api.address, &MERGE.replace(r#"data_selector = "data""#, ""));
    workspace.configure(
        api.address,
        r#"
[sources.shop.client]
base_url = "BASE"
paginator = { type = "single_page" }
[sources.shop.resources.items]
primary_key = "id"
"#,
    );
    workspace.sync(0);
    let report = workspace.sync(0);
    assert_eq!(report["resources"][0]["records"]["updated"], 1);
    assert_eq!(report["resources"][0]["records"]["unchanged"], 1);
    let rows: Vec<String> = workspace.column("SELECT id || ':' || n || ':' || _page_id FROM shop_items ORDER BY id");
    assert_eq!(rows, ["1:1:2", "2:7:1"]);
}
