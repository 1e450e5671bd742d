//! Promise 11 and the shape of data tables: whatever keys and values come, each is found again as it was.

use std::collections::BTreeMap;

use rusqlite::types::Value as Stored;
use serde_json::json;

use crate::pages::{Pages, items};
use crate::support::{Api, Workspace};

fn text(text: &str) -> Stored {
    Stored::Text(text.to_owned())
}

/// A workspace that has read these pages.
fn read<T: ToString>(pages: &[T], keys: &str) -> Workspace {
    let api = Api::start(Pages::new(pages).api());
    let workspace = Workspace::with_config(api.address, &items(keys));
    workspace.sync(0);
    workspace.check_books();
    workspace
}

/// The columns by the keys that they are for, as the bookkeeping says.
fn columns(workspace: &Workspace) -> BTreeMap<String, String> {
    let db = workspace.db();
    let mut statement = db.prepare("SELECT source_key, \"column\" FROM _hw_columns").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

/// Declared type and values of the column for a key, in the order of the records.
fn column(workspace: &Workspace, key: &str) -> (String, Vec<Stored>) {
    let name = columns(workspace)[key].clone();
    let db = workspace.db();
    let declared: String = db
        .query_row("SELECT type FROM pragma_table_info('shop_items') WHERE name = ?1", [&name], |row| row.get(0))
        .unwrap();
    let sql = format!("SELECT \"{}\" FROM shop_items ORDER BY _rowid_", name.replace('"', "\"\""));
    let mut statement = db.prepare(&sql).unwrap();
    let values = statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    (declared, values)
}

#[test]
fn s02_a_value_is_kept_as_it_came_however_the_types_of_a_field_change() {
    use Stored::{Integer, Null, Real};
    const BIG: &str = "123456789012345678901234567890";
    const LONG: &str = "0.1000000000000000055511151231257828";
    // Per field: its values, a page each; the declared type; what the column holds. What it cannot hold unchanged
    // is a NULL there, and has to stand in `_extra`.
    let cases: [(&str, [&str; 4], &str, [Stored; 4]); 14] = [
        (
            "ints",
            ["9223372036854775807", "-9223372036854775808", "0", "-1"],
            "INTEGER",
            [Integer(i64::MAX), Integer(i64::MIN), Integer(0), Integer(-1)],
        ),
        (
            "int_then_big",
            ["5", "9223372036854775808", BIG, "-9223372036854775809"],
            "INTEGER",
            [Integer(5), Null, Null, Null],
        ),
        ("big_first", [BIG, "1", "\"x\"", "1e400"], "TEXT", [text(BIG), text("1"), Null, text("1e400")]),
        ("int_float_text", ["1", "2.5", "\"x\"", "true"], "INTEGER", [Integer(1), Real(2.5), Null, Null]),
        ("float_then_int", ["1.5", "2", "9007199254740993", "\"a\""], "REAL", [Real(1.5), Real(2.0), Null, Null]),
        ("decimals", ["0.1", "1.50", LONG, "9007199254740993.0"], "REAL", [Real(0.1), Real(1.5), Null, Null]),
        ("long_decimal", [LONG, "0.1", "1e5", "null"], "TEXT", [text(LONG), text("0.1"), text("1e5"), Null]),
        ("bool_then_int", ["true", "1", "\"1\"", "\"yes\""], "BOOLEAN", [Integer(1), Null, Null, Null]),
        ("int_then_bool", ["7", "true", "false", "null"], "INTEGER", [Integer(7), Null, Null, Null]),
        ("text_numbers", ["\"007\"", "7", "1.50", "\"1e5\""], "TEXT", [text("007"), Null, Null, text("1e5")]),
        ("int_then_text_numbers", ["1", "\"007\"", "\" 5\"", "\"0x10\""], "INTEGER", [Integer(1), Null, Null, Null]),
        (
            "nested",
            [r#"{"a": [1,  2]}"#, "[]", "\"s\"", "5"],
            "TEXT",
            [text(r#"{"a": [1,  2]}"#), text("[]"), Null, Null],
        ),
        ("null_first", ["null", "null", "3", "\"x\""], "INTEGER", [Null, Null, Integer(3), Null]),
        (
            "strings",
            [r#""a\u0000b""#, r#""\ud83d\ude00é""#, r#""""#, r#""\"\\\n""#],
            "TEXT",
            [text("a\0b"), text("😀é"), text(""), text("\"\\\n")],
        ),
    ];
    let pages: Vec<String> = (0..4)
        .map(|page| {
            let fields: Vec<_> = cases.iter().map(|(key, values, ..)| format!("\"{key}\":{}", values[page])).collect();
            format!("[{{{}}}]", fields.join(","))
        })
        .collect();
    let workspace = read(&pages, "");
    let extra: Vec<String> = workspace.column("SELECT coalesce(_extra, '{}') FROM shop_items ORDER BY rowid");
    for (key, values, declared, expected) in cases {
        assert_eq!(column(&workspace, key), (declared.to_owned(), expected.to_vec()), "{key}");
        for (page, value) in values.iter().enumerate() {
            let extra: BTreeMap<String, Box<serde_json::value::RawValue>> = serde_json::from_str(&extra[page]).unwrap();
            let misfit = expected[page] == Null && *value != "null";
            assert_eq!(extra.get(key).map(|raw| raw.get()), misfit.then_some(*value), "{key} on page {page}");
        }
    }
}

#[test]
fn of_several_kinds_on_the_first_page_the_first_gets_the_column_and_the_others_are_kept_beside_it() {
    let page = r#"[{"a":1,"b":1,"c":true,"d":1.5},{"a":2.5,"b":"x","c":0,"d":[1]},{"a":null,"b":2.50,"c":null}]"#;
    let workspace = read(&[page], "");
    use Stored::{Null, Real};
    assert_eq!(column(&workspace, "a"), ("REAL".to_owned(), vec![Real(1.0), Real(2.5), Null]));
    assert_eq!(column(&workspace, "b"), ("REAL".to_owned(), vec![Real(1.0), Null, Real(2.5)]));
    assert_eq!(column(&workspace, "c"), ("BOOLEAN".to_owned(), vec![Stored::Integer(1), Null, Null]));
    assert_eq!(column(&workspace, "d"), ("REAL".to_owned(), vec![Real(1.5), Null, Null]));
    let extra: Vec<Option<String>> = workspace.column("SELECT _extra FROM shop_items ORDER BY rowid");
    assert_eq!(extra, [None, Some(r#"{"b":"x","c":0,"d":[1]}"#.to_owned()), None]);
}

#[test]
fn s01_a_new_field_gets_a_column_with_its_page_and_the_rows_before_it_have_null() {
    let workspace = read(&[r#"[{"a":1}]"#, r#"[{"a":2,"b":"x"}]"#], "");
    assert_eq!(column(&workspace, "b"), ("TEXT".to_owned(), vec![Stored::Null, text("x")]));
    let first: String = workspace.value("SELECT group_concat(source_key || first_page_id) FROM _hw_columns");
    assert_eq!(first, "a1,b2");
}

#[test]
fn any_key_gets_a_column_of_its_own_and_nothing_else_happens() {
    let keys = [
        "id",
        "ID",
        "Id",
        "é",
        "É",
        "e\u{301}",
        "",
        "select",
        "order",
        "a\"b",
        "a'b",
        "[a]",
        "a;b",
        "a.b",
        "$a",
        "?1",
        ":a",
        "a\0b",
        "a_b",
        "\n",
        " ",
        "_page_id",
        "_PAGE_ID",
        "_extra",
        "_hw_pages",
        "rowid",
        "oid",
        "--",
        "/*",
        "😀",
        "0",
        "\"); DROP TABLE _hw_runs; --",
    ];
    let long = ["x".repeat(300), "x".repeat(301)];
    let all: Vec<&str> = keys.iter().copied().chain(long.iter().map(String::as_str)).collect();
    let record: serde_json::Map<_, _> =
        all.iter().enumerate().map(|(number, key)| ((*key).to_owned(), json!(format!("value {number}")))).collect();
    let changed: serde_json::Map<_, _> = all
        .iter()
        .enumerate()
        .rev()
        .map(|(number, key)| ((*key).to_owned(), json!(format!("other {number}"))))
        .collect();
    let workspace = read(&[json!([record]), json!([changed])], "");
    for (number, key) in all.iter().enumerate() {
        let values = vec![text(&format!("value {number}")), text(&format!("other {number}"))];
        assert_eq!(column(&workspace, key), ("TEXT".to_owned(), values), "{key:?}");
    }
    let columns = columns(&workspace);
    let distinct: std::collections::HashSet<_> = columns.values().map(|name| name.to_ascii_lowercase()).collect();
    assert_eq!((columns.len(), distinct.len()), (all.len(), all.len()));
    for key in ["id", "é", "É", "select", "a\"b", "a.b", "rowid", " "] {
        assert_eq!(columns[key], key, "names that SQLite can hold stay");
    }
    let tables: Vec<String> =
        workspace.column("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE '\\_hw%' ESCAPE '\\'");
    assert_eq!(tables, ["sqlite_sequence", "shop_items"], "SQLite's own, and ours");
}

#[test]
fn a_key_made_to_hit_the_name_of_another_column_gets_another_name() {
    // What `ID` is called beside `id` is known to whoever writes the records.
    let workspace = read(&[r#"[{"id":1,"ID":2}]"#], "");
    let taken = columns(&workspace)["ID"].clone();
    let record = |keys: &[String]| {
        let fields: serde_json::Map<_, _> = keys.iter().map(|key| (key.clone(), json!(key))).collect();
        json!([fields])
    };
    let mut keys: Vec<String> = vec!["id".to_owned(), taken.clone()];
    keys.extend((2..10).chain(20..40).map(|number| format!("{taken}_{number}")));
    keys.push("ID".to_owned());
    let workspace = read(&[record(&keys)], "");
    for key in &keys {
        assert_eq!(column(&workspace, key).1, [text(key)], "{key}");
    }
}

#[test]
fn keys_are_found_again_on_another_run_under_the_same_columns() {
    let pages = Pages::new(&[r#"[{"id":1,"ID":"a","":"b","_page_id":"c"}]"#]);
    let api = Api::start(pages.api());
    let workspace = Workspace::with_config(api.address, &items("primary_key = \"_page_id\""));
    workspace.sync(0);
    let before = columns(&workspace);
    pages.set(&[r#"[{"_page_id":"c","":"d","ID":"e","Id":"f","id":2}]"#]);
    workspace.sync(0);
    let after = columns(&workspace);
    assert!(before.iter().all(|(key, name)| after[key] == *name), "{before:?} {after:?}");
    for (key, value) in [("ID", text("e")), ("", text("d")), ("id", Stored::Integer(2)), ("Id", text("f"))] {
        assert_eq!(column(&workspace, key).1, [value], "{key:?}");
    }
}

#[test]
fn s05_keys_beyond_five_hundred_columns_are_kept_in_extra() {
    let record = |page: usize| {
        let fields: Vec<_> = (0..600).map(|n| format!("\"k{n:03}\":{}", page * 1000 + n)).collect();
        format!("[{{\"id\":{page},{}}}]", fields.join(","))
    };
    let workspace = read(&[record(1), record(2)], "primary_key = \"id\"");
    assert_eq!(workspace.value::<i64>("SELECT count(*) FROM pragma_table_info('shop_items')"), 500 + 2);
    for page in [1, 2] {
        let extra: String = workspace.value(&format!("SELECT _extra FROM shop_items WHERE id = {page}"));
        let extra: BTreeMap<String, u64> = serde_json::from_str(&extra).unwrap();
        for n in 0..600 {
            let key = format!("k{n:03}");
            let value = page * 1000 + n;
            match extra.get(&key) {
                Some(kept) => assert_eq!(*kept, value),
                None => {
                    let sql = format!("SELECT {key} FROM shop_items WHERE id = {page}");
                    assert_eq!(workspace.value::<u64>(&sql), value);
                }
            }
        }
        assert_eq!(extra.len(), 101);
    }
}

#[test]
fn a_row_whose_misfit_changes_is_an_updated_row() {
    let pages = Pages::new(&[r#"[{"id":1,"a":5}]"#]);
    let api = Api::start(pages.api());
    let workspace = Workspace::with_config(api.address, &items("primary_key = \"id\""));
    workspace.sync(0);
    for (a, changes, extra) in [
        ("\"007\"", "updated", true),
        ("\"007\"", "unchanged", true),
        ("\"008\"", "updated", true),
        ("5", "updated", false),
    ] {
        pages.set(&[format!(r#"[{{"id":1,"a":{a}}}]"#)]);
        let report = workspace.sync(0);
        assert_eq!(report["resources"][0]["records"][changes], 1, "{a}");
        let kept: Option<String> = workspace.value("SELECT _extra FROM shop_items");
        assert_eq!(kept, extra.then(|| format!(r#"{{"a":{a}}}"#)));
    }
    assert_eq!(column(&workspace, "a").1, [Stored::Integer(5)]);
}

#[test]
fn b08_a_byte_order_mark_is_no_part_of_a_page_and_another_encoding_is_no_page() {
    let workspace = read(&["\u{feff}[{\"a\":\"é\"}]"], "");
    assert_eq!(column(&workspace, "a").1, [text("é")]);
    let utf_16: Vec<u8> = "[{\"a\":1}]".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for bytes in [utf_16, b"[{\"a\":\"\xe9\"}]".to_vec()] {
        let api = Api::start(move |_, _| crate::support::respond(200, &[], bytes.clone()));
        let workspace = Workspace::with_config(api.address, &items(""));
        let report = workspace.sync(69);
        let error = report["resources"][0]["error"].as_str().unwrap();
        assert!(error.contains("not UTF-8") || error.contains("not JSON"), "{error}");
        assert_eq!(workspace.value::<i64>("SELECT count(*) FROM _hw_pages"), 0);
    }
}
