//! The faults of bodies, types and keys, one by one: `b…` are those of a body, `s…` those of a schema. Those that need
//! more than a table of cases have their tests in `schema`, `quarantine`, `append_merge_replace` and `any_record`.

use std::collections::BTreeMap;

use rusqlite::types::Value as Stored;
use serde_json::json;

use crate::pages::{Pages, items};
use crate::support::{Api, Workspace, respond};

const KEYED: &str = "primary_key = \"id\"";

/// A workspace that has read these pages, and what the report says of the resource.
fn read<T: ToString>(pages: &[T], keys: &str, code: i32) -> (Workspace, serde_json::Value) {
    let api = Api::start(Pages::new(pages).api());
    let workspace = Workspace::with_config(api.address, &items(keys));
    let report = workspace.sync(code);
    workspace.check_books();
    let resource = report["resources"][0].clone();
    (workspace, resource)
}

fn quarantined(workspace: &Workspace) -> Vec<String> {
    workspace.column("SELECT reason FROM _hw_quarantine ORDER BY quarantine_id")
}

/// The columns by the keys that they are for, as the bookkeeping says.
fn columns(workspace: &Workspace) -> BTreeMap<String, String> {
    let db = workspace.db();
    let mut statement = db.prepare("SELECT source_key, \"column\" FROM _hw_columns").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

/// The only value in the column for a key.
fn only(workspace: &Workspace, key: &str) -> Stored {
    let column = columns(workspace)[key].replace('"', "\"\"");
    workspace.value(&format!("SELECT \"{column}\" FROM shop_items"))
}

#[test]
fn b09_what_json_has_no_number_for_is_no_page_and_a_huge_number_is_kept_as_written() {
    for word in ["NaN", "Infinity", "-Infinity", "nan", "0x1F", "01", "+1", ".5", "1.", "1e", "--1"] {
        let (workspace, resource) = read(&[format!("[{{\"id\":1,\"v\":{word}}}]")], KEYED, 69);
        let error = resource["error"].as_str().unwrap();
        assert!(error.contains("not JSON") && error.contains("column"), "{word}: where it is: {error}");
        assert_eq!(workspace.value::<i64>("SELECT count(*) FROM _hw_pages"), 0, "{word}");
    }
    for huge in ["1e400", "-1e400", "1e-400"] {
        let (workspace, _) = read(&[format!("[{{\"id\":1,\"v\":{huge}}}]")], KEYED, 0);
        assert_eq!(only(&workspace, "v"), Stored::Text(huge.to_owned()));
    }
}

#[test]
fn b10_integers_of_any_size_are_exact() {
    for (sent, stored) in [
        ("9007199254740993", Stored::Integer(9_007_199_254_740_993)),
        ("9223372036854775807", Stored::Integer(i64::MAX)),
        ("-9223372036854775808", Stored::Integer(i64::MIN)),
        ("9223372036854775808", Stored::Text("9223372036854775808".to_owned())),
        ("18446744073709551615", Stored::Text("18446744073709551615".to_owned())),
        ("18446744073709551616", Stored::Text("18446744073709551616".to_owned())),
        ("-9223372036854775809", Stored::Text("-9223372036854775809".to_owned())),
    ] {
        let (workspace, _) = read(&[format!("[{{\"id\":1,\"v\":{sent}}}]")], KEYED, 0);
        assert_eq!(only(&workspace, "v"), stored);
    }
}

#[test]
fn b11_a_decimal_is_the_nearest_double_or_its_own_text() {
    for sent in ["0.1", "13.404954", "52.520007", "1.7976931348623157e308", "5e-324", "123456789.123456"] {
        let (workspace, _) = read(&[format!("[{{\"id\":1,\"v\":{sent}}}]")], KEYED, 0);
        assert_eq!(only(&workspace, "v"), Stored::Real(sent.parse().unwrap()), "{sent}");
    }
    for sent in ["0.1000000000000000055511151231257828", "3.14159265358979323846264338327950288", "-0.0"] {
        let (workspace, _) = read(&[format!("[{{\"id\":1,\"v\":{sent}}}]")], KEYED, 0);
        let kept: (Stored, Option<String>) = match workspace
            .value::<i64>("SELECT count(*) FROM pragma_table_info('shop_items') WHERE name = '_extra'")
        {
            0 => (only(&workspace, "v"), None),
            _ => (only(&workspace, "v"), workspace.value("SELECT _extra FROM shop_items")),
        };
        let own_text = (Stored::Text(sent.to_owned()), None);
        assert!(kept == own_text || kept == (Stored::Null, Some(format!("{{\"v\":{sent}}}"))), "{sent}: {kept:?}");
    }
}

#[test]
fn b12_a_key_that_comes_twice_sets_its_record_aside() {
    let page = r#"[{"id":1,"a":1},{"id":2,"a":1,"a":2},{"id":3,"a":1,"\u0061":1},{"id":4,"o":{"x":1,"x":2}}]"#;
    let (workspace, _) = read(&[page], KEYED, 0);
    assert_eq!(quarantined(&workspace), ["duplicate_key"; 2]);
    assert_eq!(workspace.column::<i64>("SELECT id FROM shop_items"), [1, 4]);
    let kept: String = workspace.value("SELECT o FROM shop_items WHERE id = 4");
    assert_eq!(kept, r#"{"x":1,"x":2}"#, "what is not taken apart is kept as it came");
}

#[test]
fn b13_broken_text_is_never_mended() {
    for bytes in [
        &b"[{\"id\":1,\"v\":\"\xff\"}]"[..],
        b"[{\"id\":1,\"v\":\"\xc0\x80\"}]",
        b"[{\"id\":1,\"v\":\"\xed\xa0\x80\"}]",
    ] {
        let api = Api::start(move |_, _| respond(200, &[("content-type", "application/json")], bytes));
        let workspace = Workspace::with_config(api.address, &items(KEYED));
        let report = workspace.sync(69);
        assert!(report["resources"][0]["error"].as_str().unwrap().contains("not UTF-8"), "{report}");
    }
    let page = r#"[{"id":1,"v":"\ud83d\ude00"},{"id":2,"v":"\ud800"},{"id":3,"v":"\ude00\ud83d"},{"id":4,"\udfff":1}]"#;
    let (workspace, _) = read(&[page], KEYED, 0);
    assert_eq!(quarantined(&workspace), ["invalid_string"; 3]);
    assert_eq!(workspace.column::<String>("SELECT v FROM shop_items"), ["😀"]);
}

#[test]
fn b14_any_depth_is_survived_and_more_than_64_levels_are_set_aside() {
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let objects = |depth: usize| format!("{}1{}", "{\"a\":[".repeat(depth), "]}".repeat(depth));
    let page = format!(
        "[{{\"id\":1,\"v\":{}}},{{\"id\":2,\"v\":{}}},{{\"id\":3,\"v\":{}}},{{\"id\":4,\"v\":{}}}]",
        nested(64),
        nested(65),
        nested(200_000),
        objects(100_000)
    );
    for keys in [KEYED.to_owned(), format!("{KEYED}\nmax_table_nesting = 16")] {
        let (workspace, _) = read(&[&page], &keys, 0);
        assert_eq!(quarantined(&workspace), ["nested_too_deep"; 3]);
        assert_eq!(workspace.value::<String>("SELECT v FROM shop_items"), nested(64));
    }
}

#[test]
fn b15_a_nul_inside_a_text_is_stored_with_what_follows_it() {
    let (workspace, _) = read(&[r#"[{"id":1,"v":"a\u0000bcd"}]"#], KEYED, 0);
    assert_eq!(only(&workspace, "v"), Stored::Text("a\0bcd".to_owned()));
    assert_eq!(workspace.value::<i64>("SELECT octet_length(v) FROM shop_items"), 5);
}

#[test]
fn b17_what_is_no_object_is_set_aside() {
    let page = r#"[{"id":1}, null, 5, "text", true, [1], [], 1e400]"#;
    let (workspace, resource) = read(&[page], KEYED, 0);
    assert_eq!(quarantined(&workspace), ["not_an_object"; 7]);
    assert_eq!(resource["records"]["received"], 8);
}

#[test]
fn b18_an_empty_list_is_a_page_and_a_missing_one_is_not() {
    let keys = format!("{KEYED}\ndata_selector = \"data\"");
    let (_, resource) = read(&[r#"{"data":[]}"#], &keys, 0);
    assert_eq!((&resource["stop_reason"], &resource["records"]["received"]), (&json!("empty_page"), &json!(0)));
    for page in [r#"{"dta":[]}"#, "{}"] {
        let (workspace, resource) = read(&[page], &keys, 69);
        assert!(resource["error"].as_str().unwrap().contains("data"), "{resource}");
        assert_eq!(workspace.value::<i64>("SELECT count(*) FROM _hw_pages"), 0, "{page}");
    }
}

#[test]
fn b19_empty_keys_many_keys_and_keys_in_another_order_are_legal() {
    let many = |id: usize, reverse: bool| {
        let mut fields: Vec<String> = (0..100_000).map(|n| format!("\"k{n}\":{n}")).collect();
        fields.push("\"\":\"empty\"".to_owned());
        fields.push(format!("\"id\":{id}"));
        if reverse {
            fields.reverse();
        }
        format!("{{{}}}", fields.join(","))
    };
    let (workspace, _) =
        read(&[format!("[{}]", many(1, true)), format!("[{},{}]", many(1, false), many(2, false))], KEYED, 0);
    assert_eq!(workspace.column::<i64>("SELECT id FROM shop_items"), [1, 2]);
    let per_row: Vec<i64> = workspace.column("SELECT (SELECT count(*) FROM json_each(_extra)) FROM shop_items");
    assert_eq!(per_row, [100_002 - 500; 2], "what has no column is in _extra");
    assert_eq!(
        workspace.column::<String>(&format!("SELECT \"{}\" FROM shop_items", columns(&workspace)[""])),
        ["empty"; 2]
    );
}

#[test]
fn s03_keys_that_differ_in_case_keep_their_own_values_in_any_order() {
    for page in
        [r#"[{"id":1,"Id":2,"ID":3},{"ID":6,"Id":5,"id":4}]"#, r#"[{"ID":3,"Id":2,"id":1},{"id":4,"Id":5,"ID":6}]"#]
    {
        let (workspace, _) = read(&[page], "", 0);
        for (key, values) in [("id", [1, 4]), ("Id", [2, 5]), ("ID", [3, 6])] {
            let column = &columns(&workspace)[key];
            assert_eq!(workspace.column::<i64>(&format!("SELECT \"{column}\" FROM shop_items")), values, "{key}");
        }
    }
}

#[test]
fn s04_keys_of_any_script_and_normal_form_are_columns_of_their_own() {
    let keys = ["é", "É", "e\u{301}", "ß", "ẞ", "ﬀ", "ff", "İ", "i", "数量", "\u{200b}", "a\u{200b}"];
    let record: serde_json::Map<_, _> =
        keys.iter().map(|key| ((*key).to_owned(), json!(format!("value of {key}")))).collect();
    let (workspace, _) = read(&[json!([record])], "", 0);
    for key in keys {
        assert_eq!(only(&workspace, key), Stored::Text(format!("value of {key}")), "{key:?}");
        assert_eq!(columns(&workspace)[key], key, "SQLite tells them apart, so they keep their names");
    }
}

#[test]
fn s06_no_key_is_ever_read_as_sql() {
    let keys =
        ["x\"); DROP TABLE shop_items; --", "x' OR 1=1", "\" TEXT, \"y", "`a`", "[a]", "select", "a\0b", "?1", "$a"];
    let record: serde_json::Map<_, _> = keys.iter().map(|key| ((*key).to_owned(), json!([{ *key: 1 }]))).collect();
    for nesting in [0, 1] {
        let (workspace, _) = read(&[json!([record])], &format!("max_table_nesting = {nesting}"), 0);
        let tables: i64 =
            workspace.value("SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name LIKE 'shop%'");
        assert_eq!(tables, 1 + nesting * keys.len() as i64);
        let of_record: i64 =
            workspace.value("SELECT count(DISTINCT source_key) FROM _hw_columns WHERE \"table\" = 'shop_items'");
        assert_eq!(of_record, keys.len() as i64);
        assert_eq!(workspace.value::<String>("PRAGMA quick_check"), "ok");
    }
}

#[test]
fn s07_keys_called_like_columns_of_ours_get_another_name() {
    let ours = ["_page_id", "_extra", "_parent_id", "_list_idx", "_row_id", "_PAGE_ID"];
    let record: serde_json::Map<_, _> =
        ours.iter().map(|key| ((*key).to_owned(), json!(format!("their {key}")))).collect();
    let mut with_list = record.clone();
    with_list.insert("list".to_owned(), json!([record]));
    let (workspace, _) = read(&[json!([with_list])], "max_table_nesting = 2", 0);
    for table in ["shop_items", "shop_items__list"] {
        for key in ours {
            let sql =
                format!("SELECT \"column\" FROM _hw_columns WHERE \"table\" = '{table}' AND source_key = '{key}'");
            let column: String = workspace.value(&sql);
            assert_ne!(column.to_lowercase(), key.to_lowercase());
            assert_eq!(workspace.value::<String>(&format!("SELECT \"{column}\" FROM {table}")), format!("their {key}"));
        }
        assert_eq!(workspace.value::<i64>(&format!("SELECT _page_id FROM {table}")), 1);
    }
    assert_eq!(workspace.value::<i64>("SELECT _list_idx FROM shop_items__list"), 0);
}

#[test]
fn s08_a_record_without_its_key_is_set_aside_and_never_two_rows() {
    let page = r#"[{"id":"a"},{"id":null,"v":1},{"v":2},{"id":null,"v":1}]"#;
    let (workspace, _) = read(&[page], KEYED, 0);
    assert_eq!(quarantined(&workspace), ["key_missing"; 3]);
    assert_eq!(workspace.value::<i64>("SELECT count(*) FROM shop_items"), 1);
    assert_eq!(workspace.value::<i64>("SELECT \"notnull\" FROM pragma_table_info('shop_items') WHERE pk = 1"), 1);
}

#[test]
fn s09_a_key_that_changes_its_type_fails_the_read_instead_of_making_two_rows_of_one() {
    for (first, second) in
        [("1", "\"1\""), ("\"1\"", "1"), ("1.5", "\"1.5\""), ("1", "1.5"), ("1", "9223372036854775808")]
    {
        let pages = [format!("[{{\"id\":{first}}}]"), format!("[{{\"id\":{second}}}]")];
        let (workspace, resource) = read(&pages, KEYED, 65);
        assert!(resource["error"].as_str().unwrap().contains("key type changed"), "{resource}");
        assert_eq!(workspace.value::<i64>("SELECT count(*) FROM shop_items"), 1, "{first} {second}");
    }
}

#[test]
fn s11_a_key_that_does_not_tell_records_apart_fails_the_read() {
    let record = |n: u32| json!({"id": n % 10, "lines": [{"n": n}]});
    for keys in [KEYED.to_owned(), format!("{KEYED}\nmax_table_nesting = 1")] {
        let (workspace, resource) = read(&[json!((0..20).map(record).collect::<Vec<_>>())], &keys, 65);
        assert!(resource["error"].as_str().unwrap().contains("does not tell records apart"), "{resource}");
        let left: i64 = workspace.value("SELECT count(*) FROM sqlite_schema WHERE name LIKE 'shop%'");
        assert_eq!(left, 0, "nothing of the page is stored");
    }
}

#[test]
fn s13_more_keys_than_sqlite_has_places_in_a_statement_are_stored() {
    let fields: Vec<String> = (0..40_000).map(|n| format!("\"k{n}\":{n}")).collect();
    let list: Vec<String> = fields.iter().map(|field| format!("{{{field}}}")).collect();
    let page = format!("[{{\"id\":1,{},\"list\":[{}]}}]", fields.join(","), list.join(","));
    let (workspace, _) = read(&[page], &format!("{KEYED}\nmax_table_nesting = 1"), 0);
    assert_eq!(workspace.value::<i64>("SELECT k0 FROM shop_items"), 0);
    assert_eq!(workspace.value::<i64>("SELECT _extra ->> 'k39999' FROM shop_items"), 39_999);
    assert_eq!(workspace.value::<i64>("SELECT count(*) FROM shop_items__list"), 40_000);
}
