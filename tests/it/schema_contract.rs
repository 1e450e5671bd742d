//! `columns` and `schema_contract`: columns have the type that the user gives them, and what the tables have no place
//! for is treated as the user says, inside the page's own transaction.

use rusqlite::types::Value as Stored;

use crate::pages::{DOWN, Pages, items};
use crate::support::{Api, Workspace};

/// A page-number API with pages that can be changed, and a workspace that reads it.
fn shop<T: ToString>(texts: &[T], keys: &str) -> (Pages, Api, Workspace) {
    let pages = Pages::new(texts);
    let api = Api::start(pages.api());
    let workspace = Workspace::with_config(api.address, &items(keys));
    (pages, api, workspace)
}

fn count(report: &serde_json::Value, name: &str) -> u64 {
    report["resources"][0]["records"][name].as_u64().unwrap()
}

fn error(report: &serde_json::Value) -> &str {
    report["resources"][0]["error"].as_str().unwrap()
}

fn quarantined(workspace: &Workspace) -> Vec<String> {
    workspace.column("SELECT reason || ' ' || record FROM _hw_quarantine ORDER BY quarantine_id")
}

#[test]
fn a_column_has_the_type_it_was_given_from_the_start_and_what_does_not_fit_is_kept_beside_it() {
    use Stored::{Integer, Null, Real};
    let text = |text: &str| Stored::Text(text.to_owned());
    const BIG: &str = "123456789012345678901234567890";
    // Per type: how its columns are declared, and values with what the column then holds.
    type Case = (&'static str, &'static str, Vec<(&'static str, Stored)>);
    let cases: [Case; 6] = [
        (
            "integer",
            "INTEGER",
            vec![
                ("7", Integer(7)),
                ("\"-7\"", Integer(-7)),
                ("7.0", Integer(7)),
                ("7.5", Null),
                ("\"007\"", Null),
                ("\"x\"", Null),
                (BIG, Null),
                ("true", Null),
            ],
        ),
        (
            "real",
            "REAL",
            vec![
                ("7", Real(7.0)),
                ("\"12.50\"", Real(12.5)),
                ("\"0.1\"", Real(0.1)),
                ("\"0.1000000000000000055511151231257828\"", Null),
                ("\"1,5\"", Null),
                (BIG, Null),
                ("[1]", Null),
            ],
        ),
        ("text", "TEXT", vec![("\"007\"", text("007")), ("1.50", text("1.50")), (BIG, text(BIG)), ("true", Null)]),
        (
            "boolean",
            "BOOLEAN",
            vec![("true", Integer(1)), ("0", Integer(0)), ("\"false\"", Integer(0)), ("2", Null), ("\"yes\"", Null)],
        ),
        (
            "timestamp",
            "TEXT",
            vec![
                ("\"2024-02-29T12:00:00+02:00\"", text("2024-02-29T12:00:00+02:00")),
                ("\"2024-01-02\"", Null),
                ("\"2023-02-29T12:00:00Z\"", Null),
                ("1700000000", Null),
            ],
        ),
        (
            "json",
            "TEXT",
            vec![
                ("{\"a\": [1,  2]}", text("{\"a\": [1,  2]}")),
                ("\"a\\\"b\"", text("\"a\\\"b\"")),
                ("1.50", text("1.50")),
                ("false", text("false")),
            ],
        ),
    ];
    for (hint, declared, values) in cases {
        // The first page says nothing of the type, and each other page something else.
        let pages: Vec<String> = ["null"]
            .into_iter()
            .chain(values.iter().map(|(value, _)| *value))
            .enumerate()
            .map(|(id, value)| format!("[{{\"id\":{id},\"v\":{value}}}]"))
            .collect();
        let keys = format!(
            "primary_key = \"id\"\ncolumns = {{ v = {{ type = \"{hint}\" }}, unseen = {{ type = \"{hint}\" }} }}"
        );
        let (_pages, _api, workspace) = shop(&pages, &keys);
        workspace.sync(0);
        workspace.check_books();
        let types: Vec<String> = workspace.column(
            "SELECT name || ' ' || type FROM pragma_table_info('shop_items') WHERE name IN ('v', 'unseen') ORDER BY 1",
        );
        assert_eq!(types, [format!("unseen {declared}"), format!("v {declared}")]);
        for (id, (sent, expected)) in (1..).zip(&values) {
            let stored: Stored = workspace.value(&format!("SELECT v FROM shop_items WHERE id = {id}"));
            assert_eq!(&stored, expected, "{sent} as {hint}");
            let extra = if values.iter().any(|(_, value)| *value == Null) { "_extra" } else { "NULL" };
            let extra: Option<String> = workspace.value(&format!("SELECT {extra} FROM shop_items WHERE id = {id}"));
            assert_eq!(extra, (*expected == Null).then(|| format!("{{\"v\":{sent}}}")), "{sent} as {hint}");
        }
        assert_eq!(count(&workspace.sync(0), "unchanged"), values.len() as u64 + 1, "{hint}");
    }
}

#[test]
fn a_key_with_a_type_is_one_key_however_the_api_writes_it() {
    for (hint, stored) in [("integer", "integer"), ("text", "text")] {
        let keys = format!("primary_key = \"id\"\ncolumns = {{ id = {{ type = \"{hint}\" }} }}");
        let (_pages, _api, workspace) = shop(&[r#"[{"id":1,"n":1}]"#, r#"[{"id":"1","n":2}]"#], &keys);
        workspace.sync(0);
        assert_eq!(workspace.column::<String>("SELECT typeof(id) || n FROM shop_items"), [format!("{stored}2")]);
    }
    let keys = "primary_key = \"id\"\ncolumns = { id = { type = \"timestamp\" } }";
    let (_pages, _api, workspace) = shop(&[r#"[{"id":"2024-01-01T00:00:00Z"}]"#, r#"[{"id":"today"}]"#], keys);
    let report = workspace.sync(65);
    assert!(error(&report).contains("type timestamp cannot hold exactly"), "{report}");
    assert_eq!(workspace.value::<i64>("SELECT count(*) FROM shop_items"), 1);
}

#[test]
fn columns_of_child_tables_have_types_too_and_a_list_with_a_type_stays_in_its_column() {
    let keys = "primary_key = \"id\"\nmax_table_nesting = 2\n\
                columns = { \"lines.price\" = { type = \"real\" }, \"lines.taxes.rate\" = { type = \"text\" }, raw = { type = \"json\" } }";
    let page = r#"[{"id":1,"raw":[{"a":1}],"lines":[{"price":"12.50","taxes":[{"rate":7.0}]},{"price":null}]}]"#;
    let (_pages, _api, workspace) = shop(&[page], keys);
    workspace.sync(0);
    assert_eq!(workspace.column::<Option<f64>>("SELECT price FROM shop_items__lines"), [Some(12.5), None]);
    assert_eq!(workspace.column::<String>("SELECT rate FROM shop_items__lines__taxes"), ["7.0"]);
    assert_eq!(workspace.value::<String>("SELECT raw FROM shop_items"), "[{\"a\":1}]");
}

#[test]
fn another_type_for_a_column_that_is_there_is_refused_unless_every_value_has_it_as_well() {
    let columns = |hint: &str| format!("primary_key = \"id\"\ncolumns = {{ v = {{ type = \"{hint}\" }} }}");
    for (before, first, after, code) in [
        ("", "[1]", columns("json"), 0),
        ("", "5", columns("integer"), 0),
        ("", "5", columns("real"), 78),
        ("", "\"5\"", columns("timestamp"), 78),
        ("timestamp", "\"2024-01-01T00:00:00Z\"", columns("text"), 0),
        ("timestamp", "\"2024-01-01T00:00:00Z\"", "primary_key = \"id\"".to_owned(), 0),
        ("text", "\"5\"", columns("integer"), 78),
        ("json", "5", columns("integer"), 78),
    ] {
        let before = if before.is_empty() { "primary_key = \"id\"".to_owned() } else { columns(before) };
        let (_pages, api, workspace) = shop(&[format!("[{{\"id\":1,\"v\":{first}}}]")], &before);
        workspace.sync(0);
        let stored: Stored = workspace.value("SELECT v FROM shop_items");
        workspace.configure(api.address, &items(&after));
        let report = workspace.sync(code);
        if code != 0 {
            let error = error(&report);
            assert!(error.contains("reset --drop-rows shop.items") && error.contains("\"v\""), "{error}");
        }
        assert_eq!(workspace.value::<Stored>("SELECT v FROM shop_items"), stored, "{before} {after}");
    }
    // A replaced table has its new type with its next generation.
    let replace = |hint: &str| format!("{}\nwrite_disposition = \"replace\"", columns(hint));
    let (_pages, api, workspace) = shop(&[r#"[{"id":1,"v":"5"}]"#], &replace("text"));
    workspace.sync(0);
    workspace.configure(api.address, &items(&replace("integer")));
    workspace.sync(0);
    assert_eq!(workspace.value::<Stored>("SELECT v FROM shop_items"), Stored::Integer(5));
}

/// What the first read makes, and a page after it with two records that keep to it, and three that do not: each
/// breaks the contract in one way.
const FIRST: &str = r#"[{"id":1,"a":1,"lines":[{"q":1}]}]"#;
const LATER: &str = r#"[{"id":2,"a":2},{"id":3,"a":3,"b":"new"},{"id":4,"a":"text"},{"id":5,"lines":[{"q":5,"r":6}]},
                        {"id":6,"notes":[{"n":1}]},{"id":7,"lines":[{"q":7},{"q":"x"}]},{"id":8,"b":null,"notes":[]}]"#;

const NESTED: &str = "primary_key = \"id\"\nmax_table_nesting = 1";

fn after_the_first_read(contract: &str) -> (Pages, Api, Workspace) {
    let (pages, api, workspace) = shop(&[FIRST], NESTED);
    workspace.sync(0);
    workspace.configure(api.address, &items(&format!("{NESTED}\nschema_contract = {contract}")));
    pages.set(&[LATER]);
    (pages, api, workspace)
}

const TABLES: &str =
    "SELECT group_concat(t.name || '.' || c.name, ' ') FROM sqlite_schema t, pragma_table_info(t.name) c
                      WHERE t.name LIKE 'shop%' AND t.type = 'table' AND c.name NOT LIKE '\\_%' ESCAPE '\\'";

const AS_MADE: &str = "shop_items.id shop_items.a shop_items__lines.q";

#[test]
fn evolve_makes_room_for_everything() {
    let (_pages, _api, workspace) = after_the_first_read("\"evolve\"");
    assert_eq!(count(&workspace.sync(0), "inserted"), 7);
    assert_eq!(
        workspace.value::<String>(TABLES),
        "shop_items.id shop_items.a shop_items.b shop_items__lines.q shop_items__lines.r shop_items__notes.n"
    );
    assert_eq!(
        workspace.value::<String>("SELECT _extra FROM shop_items__lines WHERE _parent_id = 7 AND _list_idx = 1"),
        r#"{"q":"x"}"#
    );
    workspace.check_books();
}

#[test]
fn freeze_fails_the_read_and_stores_nothing_of_the_page() {
    for (contract, page, said) in [
        ("{ columns = \"freeze\" }", r#"[{"id":2,"a":2},{"id":3,"b":"new"}]"#, "has the field \"b\""),
        ("{ columns = \"freeze\" }", r#"[{"id":2,"lines":[{"q":5,"r":6}]}]"#, "has the field \"lines.r\""),
        ("{ data_type = \"freeze\" }", r#"[{"id":2,"a":2},{"id":3,"a":"secret"}]"#, "has a text in the field \"a\""),
        ("{ data_type = \"freeze\" }", r#"[{"id":2,"lines":[{"q":[]}]}]"#, "in the field \"lines.q\""),
        ("{ tables = \"freeze\" }", r#"[{"id":2,"notes":[{"n":1}]}]"#, "a list of objects in \"notes\""),
        ("\"freeze\"", r#"[{"id":2,"notes":[{"n":1}]}]"#, "schema_contract.tables"),
    ] {
        let (pages, _api, workspace) = after_the_first_read(contract);
        pages.set(&[page]);
        let report = workspace.sync(65);
        assert!(error(&report).contains(said) && !error(&report).contains("secret"), "{}", error(&report));
        assert_eq!(workspace.value::<String>(TABLES), AS_MADE);
        assert_eq!(workspace.column::<i64>("SELECT id FROM shop_items"), [1]);
        assert_eq!(workspace.value::<i64>("SELECT count(*) FROM _hw_quarantine"), 0);
        workspace.check_books();
        // What keeps to the contract still comes.
        pages.set(&[r#"[{"id":1,"a":9,"lines":[{"q":2},{"q":3}]},{"id":2,"a":null,"b":null,"notes":[]}]"#]);
        workspace.sync(0);
        assert_eq!(workspace.column::<i64>("SELECT id FROM shop_items"), [1, 2]);
    }
}

#[test]
fn discard_row_leaves_the_record_out_with_its_lists_and_counts_it_as_filtered() {
    let (_pages, _api, workspace) = after_the_first_read("\"discard_row\"");
    let report = workspace.sync(0);
    assert_eq!(["inserted", "filtered", "quarantined"].map(|name| count(&report, name)), [2, 5, 0]);
    assert_eq!(workspace.column::<i64>("SELECT id FROM shop_items"), [1, 2, 8]);
    assert_eq!(workspace.column::<i64>("SELECT q FROM shop_items__lines"), [1]);
    assert_eq!(workspace.value::<String>(TABLES), AS_MADE);
    workspace.check_books();
}

#[test]
fn discard_value_leaves_the_value_out_and_keeps_the_rest() {
    let (_pages, _api, workspace) = after_the_first_read("\"discard_value\"");
    let report = workspace.sync(0);
    assert_eq!(["inserted", "filtered", "quarantined"].map(|name| count(&report, name)), [7, 0, 0]);
    let rows: Vec<String> = workspace.column("SELECT id || ' ' || coalesce(a, '-') FROM shop_items");
    assert_eq!(rows, ["1 1", "2 2", "3 3", "4 -", "5 -", "6 -", "7 -", "8 -"]);
    let lines: Vec<String> = workspace.column("SELECT _parent_id || ' ' || coalesce(q, '-') FROM shop_items__lines");
    assert_eq!(lines, ["1 1", "5 5", "7 7", "7 -"]);
    assert_eq!(workspace.value::<String>(TABLES), AS_MADE);
    let extra = "SELECT count(*) FROM pragma_table_info('shop_items') WHERE name = '_extra'";
    assert_eq!(workspace.value::<i64>(extra), 0, "nothing is kept beside the columns");
    workspace.check_books();
}

#[test]
fn quarantine_sets_the_record_aside_with_the_field_that_broke_the_contract() {
    let (_pages, _api, workspace) = after_the_first_read("\"quarantine\"");
    let report = workspace.sync(0);
    assert_eq!(["inserted", "filtered", "quarantined"].map(|name| count(&report, name)), [2, 0, 5]);
    assert_eq!(
        quarantined(&workspace),
        [
            r#"new_column: b {"id":3,"a":3,"b":"new"}"#,
            r#"other_type: a {"id":4,"a":"text"}"#,
            r#"new_column: lines.r {"id":5,"lines":[{"q":5,"r":6}]}"#,
            r#"new_table: notes {"id":6,"notes":[{"n":1}]}"#,
            r#"other_type: lines.q {"id":7,"lines":[{"q":7},{"q":"x"}]}"#,
        ]
    );
    assert_eq!(workspace.value::<String>(TABLES), AS_MADE);
    assert_eq!(workspace.column::<i64>("SELECT q FROM shop_items__lines"), [1]);
    workspace.check_books();
}

#[test]
fn a_record_that_is_to_be_seen_is_not_left_out_without_a_word() {
    let (pages, _api, workspace) = after_the_first_read("{ columns = \"discard_row\", data_type = \"quarantine\" }");
    pages.set(&[r#"[{"id":2,"b":1,"a":"text"},{"id":3,"a":"text","b":1},{"id":4,"b":1},{"id":5}]"#]);
    let report = workspace.sync(0);
    assert_eq!(["filtered", "quarantined"].map(|name| count(&report, name)), [1, 2]);
}

#[test]
fn records_that_the_contract_sets_aside_fail_the_run_like_all_others() {
    let (pages, _api, workspace) = after_the_first_read("{ columns = \"quarantine\" }");
    let bad: Vec<String> = (10..20).map(|id| format!("{{\"id\":{id},\"b\":1}}")).collect();
    pages.set(&[format!("[{{\"id\":2}},{}]", bad.join(","))]);
    let report = workspace.sync(65);
    assert!(error(&report).contains("10 of 11 records could not be stored"), "{report}");
    assert_eq!(quarantined(&workspace).len(), 10);
}

#[test]
fn until_a_first_read_is_complete_its_pages_make_the_tables_whatever_the_contract_says() {
    for resume in ["24h", "0s"] {
        first_read(resume);
    }
}

/// In one read over two runs, or in a second read because the first was given up.
fn first_read(resume: &str) {
    let keys = format!("{NESTED}\nresume_within = \"{resume}\"\nschema_contract = \"freeze\"");
    let (pages, _api, workspace) = shop(&[FIRST, r#"[{"id":2,"b":1,"notes":[{"n":1}]}]"#, DOWN], &keys);
    workspace.sync(69);
    pages.set(&[FIRST, r#"[{"id":2,"b":1,"notes":[{"n":1}]}]"#, r#"[{"id":3,"c":1,"notes":[{"m":1}]}]"#]);
    workspace.sync(0);
    let all = "shop_items.id shop_items.a shop_items.b shop_items.c shop_items__lines.q shop_items__notes.n shop_items__notes.m";
    assert_eq!(workspace.value::<String>(TABLES), all);
    pages.set(&[r#"[{"id":4,"d":1}]"#]);
    workspace.sync(65);
    assert_eq!(workspace.value::<String>(TABLES), all);
}

#[test]
fn what_the_configuration_has_a_type_for_is_wanted_under_any_contract() {
    let (pages, api, workspace) = after_the_first_read("\"freeze\"");
    let keys = format!(
        "{NESTED}\nschema_contract = \"freeze\"\ncolumns = {{ b = {{ type = \"text\" }}, \"notes.n\" = {{ type = \"integer\" }} }}"
    );
    workspace.configure(api.address, &items(&keys));
    pages.set(&[r#"[{"id":2,"b":7,"notes":[{"n":"8"}]}]"#]);
    workspace.sync(0);
    assert_eq!(workspace.value::<String>("SELECT b FROM shop_items WHERE id = 2"), "7");
    assert_eq!(workspace.value::<i64>("SELECT n FROM shop_items__notes"), 8);
    pages.set(&[r#"[{"id":3,"notes":[{"m":1}]}]"#]);
    let report = workspace.sync(65);
    assert!(error(&report).contains("\"notes.m\""), "its other columns come with the read that makes it: {report}");
}

#[test]
fn the_next_generation_of_a_replaced_table_is_held_to_the_columns_of_this_one() {
    let replace = format!("{NESTED}\nwrite_disposition = \"replace\"\nschema_contract = \"quarantine\"");
    let (pages, _api, workspace) = shop(&[FIRST], &replace);
    workspace.sync(0);
    pages.set(&[r#"[{"id":1,"a":5},{"id":2,"b":1},{"id":3,"notes":[{"n":1}]}]"#, DOWN]);
    workspace.sync(69);
    pages.set(&["", r#"[{"id":4,"c":1},{"id":5,"lines":[{"r":1}]},{"id":6,"lines":[{"q":9}]}]"#]);
    workspace.sync(0);
    assert_eq!(workspace.column::<i64>("SELECT id FROM shop_items"), [1, 6]);
    assert_eq!(workspace.column::<i64>("SELECT q FROM shop_items__lines"), [9]);
    assert_eq!(workspace.value::<String>(TABLES), AS_MADE);
    assert_eq!(quarantined(&workspace).len(), 4);
}

#[test]
fn the_configurations_of_the_page_about_schema_changes_work() {
    let page = include_str!("../../docs/schema-changes.md");
    let orders = r#"[{"id":1,"amount":"12.50","zip":"007","placed_at":"2024-02-29T12:00:00+01:00","tags":[{"a":1}],
                      "lines":[{"sku":"a","unit_cents":"5"},{"sku":"b"}]},
                     {"id":2,"amount":"1,5"}]"#;
    let api = Api::start(Pages::new(&[orders]).api());
    let blocks: Vec<&str> = page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(blocks.len(), 3);
    let read = |block: &str| {
        let retry = "base_url = \"BASE\"\npaginator = { type = \"page_number\" }";
        let workspace =
            Workspace::with_config(api.address, &block.replace("base_url = \"http://127.0.0.1:8640/v1/\"", retry));
        workspace.sync(0);
        workspace
    };
    let typed = read(blocks[0]);
    let row = "SELECT amount || ' ' || zip || ' ' || placed_at FROM shop_orders WHERE id = 1";
    assert_eq!(typed.value::<String>(row), "12.5 007 2024-02-29T12:00:00+01:00");
    let shown = page.split('`').find(|span| span.starts_with("SELECT _extra")).unwrap().replace(['\n', '\r'], " ");
    assert_eq!(typed.column::<String>(&shown), ["1,5"]);
    assert_eq!(read(blocks[1]).value::<i64>("SELECT count(*) FROM shop_orders"), 2);
    let nested = read(blocks[2]);
    let join = page.split("```sql\n").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(nested.column::<i64>(join), [1, 1]);
    let kept: String =
        nested.value("SELECT tags || unit_cents FROM shop_orders JOIN shop_orders__lines ON _parent_id = id");
    assert_eq!(kept, r#"[{"a":1}]5"#);
}
