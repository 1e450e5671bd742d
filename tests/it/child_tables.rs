//! Child tables against a model: random nested records, in several versions, over several pages and runs, are read back
//! as exactly what was received last.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde_json::{Map, Value as Json, json};

use crate::pages::{DOWN, Pages, items};
use crate::support::{Api, Workspace};

/// A list of rows with a field that is sometimes missing, and lists in them.
fn list(depth: u32) -> BoxedStrategy<Json> {
    let inner = if depth == 0 {
        Just(Json::Null).boxed()
    } else {
        prop_oneof![1 => Just(Json::Null), 2 => list(depth - 1)].boxed()
    };
    let row = (prop::option::of(0..3_i64), inner).prop_map(|(value, inner)| {
        let mut row = Map::new();
        row.extend(value.map(|value| ("v".to_owned(), json!(value))));
        row.extend((!inner.is_null()).then_some(("sub".to_owned(), inner)));
        Json::Object(row)
    });
    prop::collection::vec(row, 0..4).prop_map(Json::Array).boxed()
}

/// A record with one of few keys. Some values of the list fields are no lists, or lists of something else.
fn record() -> impl Strategy<Value = Json> {
    let field = || prop_oneof![6 => list(1), 1 => Just(Json::Null), 1 => Just(json!([1, 2])), 1 => Just(json!([{"v": 1}, 2])), 1 => Just(json!("x"))];
    (0..4_i64, prop::option::of(field()), prop::option::of(field())).prop_map(|(id, one, two)| {
        let mut record = Map::from_iter([("id".to_owned(), json!(id))]);
        record.extend(one.map(|list| ("one".to_owned(), list)));
        record.extend(two.map(|list| ("two".to_owned(), list)));
        Json::Object(record)
    })
}

/// Runs of pages; the flag says whether the API breaks down behind the last page.
type Runs = Vec<(Vec<Vec<Json>>, bool)>;

fn runs() -> impl Strategy<Value = Runs> {
    let pages = prop::collection::vec(prop::collection::vec(record(), 1..4), 1..4);
    prop::collection::vec((pages, prop::bool::weighted(0.3)), 1..4)
}

/// A table with all columns by the keys of the records, where it exists.
fn rows(db: &Connection, table: &str, order: &str) -> Vec<BTreeMap<String, Json>> {
    let Ok(mut statement) = db.prepare(&format!("SELECT * FROM {table} ORDER BY {order}")) else { return Vec::new() };
    let names: Vec<String> = statement.column_names().iter().map(|name| (*name).to_owned()).collect();
    let rows = statement.query_map([], |row| {
        let mut cells = BTreeMap::new();
        for (index, name) in names.iter().enumerate() {
            let value = match row.get_ref(index)? {
                ValueRef::Integer(value) => json!(value),
                ValueRef::Text(text) => json!(std::str::from_utf8(text).unwrap()),
                _ => Json::Null,
            };
            cells.insert(name.clone(), value);
        }
        Ok(cells)
    });
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

/// Puts the records together again from their tables, and says how many rows were used.
fn rebuilt(db: &Connection, table: &str, id: Option<&Json>, used: &mut BTreeMap<String, usize>) -> Vec<Json> {
    let order = if id.is_some() { "_list_idx" } else { "_page_id, rowid" };
    let children: Vec<(String, String)> = db
        .prepare("SELECT source_key, \"column\" FROM _hw_columns WHERE \"table\" = ?1 AND type = 'table'")
        .unwrap()
        .query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let mut records = Vec::new();
    for row in rows(db, table, order).into_iter().filter(|row| id.is_none_or(|id| row["_parent_id"] == *id)) {
        if id.is_some() {
            assert_eq!(row["_list_idx"], json!(records.len()), "the places have no gaps");
        }
        *used.entry(table.to_owned()).or_default() += 1;
        let extra = row.get("_extra").and_then(Json::as_str).map(|text| serde_json::from_str(text).unwrap());
        let mut record: Map<String, Json> = extra.unwrap_or_default();
        for (key, value) in row.iter().filter(|(key, value)| !key.starts_with('_') && !value.is_null()) {
            // What is JSON text in these columns starts like it.
            let value = match value.as_str() {
                Some(text) if text.starts_with('[') => serde_json::from_str(text).unwrap(),
                _ => value.clone(),
            };
            record.insert(key.clone(), value);
        }
        let own = row.get("_row_id").unwrap_or(&row.get("id").cloned().unwrap_or_default()).clone();
        for (key, child) in &children {
            let list = rebuilt(db, child, Some(&own), used);
            if !list.is_empty() {
                assert!(record.insert(key.clone(), Json::Array(list)).is_none(), "{key} is there twice");
            }
        }
        records.push(Json::Object(record));
    }
    records
}

/// What is left of a record in tables: nulls and empty lists say nothing.
fn plain(value: &Json) -> Json {
    match value {
        Json::Object(map) => {
            let kept = map.iter().map(|(key, value)| (key.clone(), plain(value)));
            Json::Object(kept.filter(|(_, value)| !value.is_null() && *value != json!([])).collect())
        }
        Json::Array(list) => list.iter().map(plain).collect(),
        other => other.clone(),
    }
}

/// The records that a table has to hold after these runs, in the order of their ids.
fn model(runs: &Runs, disposition: &str) -> Vec<Json> {
    let mut rows: Vec<Json> = Vec::new();
    let mut unfinished = false;
    let mut begin = 0;
    for (pages, breaks) in runs {
        if disposition == "replace" {
            if !breaks {
                rows.clear();
                pages.iter().flatten().for_each(|record| upsert(&mut rows, record));
            }
            continue;
        }
        if unfinished {
            rows.truncate(if disposition == "append" { begin } else { rows.len() });
        } else {
            begin = rows.len();
        }
        unfinished = *breaks;
        for record in pages.iter().flatten() {
            if disposition == "append" { rows.push(plain(record)) } else { upsert(&mut rows, record) }
        }
    }
    if disposition != "append" {
        rows.sort_by_key(|row| row["id"].as_i64());
    }
    rows
}

fn upsert(rows: &mut Vec<Json>, record: &Json) {
    rows.retain(|row| row["id"] != record["id"]);
    rows.push(plain(record));
}

fn holds(disposition: &str, cases: u32) {
    let keys = format!(
        "write_disposition = \"{disposition}\"\nmax_table_nesting = 2\nresume_within = \"0s\"\n{}",
        if disposition == "append" { "" } else { "primary_key = \"id\"" }
    );
    let pages = Pages::default();
    let api = Api::start(pages.api());
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    runner
        .run(&runs(), |runs| {
            let workspace = Workspace::with_config(api.address, &items(&keys));
            for (number, (texts, breaks)) in runs.iter().enumerate() {
                let mut texts: Vec<String> = texts
                    .iter()
                    .enumerate()
                    .map(|(page, records)| {
                        // No two pages are the same, which would be a circle.
                        let mut records = records.clone();
                        records.push(json!({"id": 100 + number * 10 + page}));
                        json!(records).to_string()
                    })
                    .collect();
                texts.extend(breaks.then(|| DOWN.to_owned()));
                pages.set(&texts);
                workspace.sync(if *breaks { 69 } else { 0 });
            }
            workspace.check_books();
            let db = workspace.db();
            let mut used = BTreeMap::new();
            let mut found: Vec<Json> = rebuilt(&db, "shop_items", None, &mut used).iter().map(plain).collect();
            found.retain(|record| record["id"].as_u64() < Some(100));
            if disposition != "append" {
                found.sort_by_key(|row| row["id"].as_i64());
            }
            prop_assert_eq!(found, model(&runs, disposition));
            let tables: Vec<String> = workspace
                .column("SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE 'shop\\_%' ESCAPE '\\'");
            for table in tables {
                let count: usize = workspace.value(&format!("SELECT count(*) FROM {table}"));
                prop_assert_eq!(count, used.get(&table).copied().unwrap_or(0), "rows of {} without a parent", table);
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn merged_records_are_the_last_versions_with_the_last_lists() {
    holds("merge", 40);
}

#[test]
fn appended_records_each_have_their_own_lists() {
    holds("append", 30);
}

#[test]
fn replaced_records_are_those_of_the_last_complete_read() {
    holds("replace", 30);
}
