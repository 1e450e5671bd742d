//! Promise 11 for whatever a server may think of: pages of any records go into a database and come back exactly.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use highwater::decode;
use highwater::destination::{Batch, Db, Delivery, DestinationOptions, RunStart, Synchronous};
use highwater::page::{
    Checkpoint, Page, PartitionRead, ResourceId, Run, RunKind, Slot, Target, Text, Validity, WriteDisposition,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rusqlite::types::Value as Stored;
use rusqlite::{Connection, OpenFlags};
use serde_json::value::RawValue;

/// A record as its fields, each a key and the JSON text of its value.
type Fields = BTreeMap<String, String>;

fn any_key() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec!["a", "A", "é", "É", "b", "c"]),
        1 => prop::sample::select(vec!["", "_page_id", "_extra", "rowid", "a\0", "select", "x\"y", "_parent_id"]),
    ]
    .prop_map(str::to_owned)
}

fn any_value() -> impl Strategy<Value = String> {
    prop_oneof![
        "null|true|false",
        any::<i64>().prop_map(|value| value.to_string()),
        "-?(0|[1-9][0-9]{0,25})",
        "-?(0|[1-9][0-9]{0,18})\\.[0-9]{1,20}",
        any::<f64>().prop_filter("finite", |value| value.is_finite()).prop_map(|value| format!("{value:e}")),
        "-?[1-9](\\.[0-9]{1,3})?[eE][+-]?[0-9]{1,3}",
        "[ \t\\x0b+.0-9eExX-]{0,6}|\\PC{0,8}|[\0-\u{7f}]{0,4}|[0-9]{1,25}|true|null|\\[1\\]"
            .prop_map(|text| serde_json::to_string(&text).unwrap()),
        Just(r#"{"x": [1, {"y":"\u00e9"}]}"#.to_owned()),
        Just("[ ]".to_owned()),
    ]
}

fn any_pages() -> impl Strategy<Value = Vec<Vec<Fields>>> {
    let record = prop::collection::btree_map(any_key(), any_value(), 0..7);
    prop::collection::vec(prop::collection::vec(record, 1..4), 1..4)
}

fn json_text(fields: &Fields) -> String {
    let fields: Vec<_> =
        fields.iter().map(|(key, value)| format!("{}:{value}", serde_json::to_string(key).unwrap())).collect();
    format!("{{{}}}", fields.join(","))
}

/// Stores the pages of a resource called `name`, one commit each. The records get the key `n`, counting from 0.
async fn store(db: &Db, name: &str, pages: &[Vec<Fields>]) {
    let target = Target {
        id: ResourceId::new("any", name),
        table: format!("any_{name}"),
        primary_key: vec!["n".to_owned()],
        disposition: WriteDisposition::Merge,
        layout: Default::default(),
    };
    let begun = db
        .begin_run(RunStart {
            kind: RunKind::Sync,
            target: target.clone(),
            identity: "{}".to_owned(),
            request_fingerprint: String::new(),
            partitions: vec![String::new()],
            ranges: Default::default(),
            keeps_queue: false,
            parent_keys: Default::default(),
            needs_all: false,
            resume_within: highwater::units::Timespan::secs(0),
        })
        .await
        .unwrap();
    let run = Arc::new(Run::new(begun.run_id, begun.pass_id, Arc::new(target), Default::default()));
    let read: Arc<PartitionRead> = Arc::default();
    let mut n = 0;
    for records in pages {
        let texts = records.iter().map(|record| {
            let mut record = record.clone();
            record.insert("n".to_owned(), n.to_string());
            n += 1;
            json_text(&record)
        });
        let text = Text::new(Bytes::from(format!("[{}]", texts.collect::<Vec<_>>().join(",")))).unwrap();
        let page = Page {
            run: Arc::clone(&run),
            read: Arc::clone(&read),
            position: "1".to_owned(),
            url: String::new(),
            status: 200,
            fetched_at: jiff::Timestamp::now(),
            duration_ms: 0,
            bytes: text.as_bytes().len() as u64,
            attempts: 1,
            rows: decode::decode(&text, &[text.as_str()]).unwrap(),
            children: Vec::new(),
            boundary: Vec::new(),
            forget_below: None,
            covers: None,
            checkpoint: Checkpoint::default(),
            end: None,
            ends_pass: true,
            set_aside: Vec::new(),
            validity: Validity::Unknown,
            requests: 1,
            slot: Slot::default(),
        };
        let mut batch = Batch::default();
        batch.push(Delivery::Page(Box::new(page)));
        let committed = db.commit(batch).await.unwrap();
        assert!(committed.broken.is_empty(), "{:?}", committed.broken);
        assert_eq!(committed.pages[0].1.inserted, records.len() as u64);
    }
}

/// Sign, digits without zeros at the ends, and place of the point: equal for texts of the same number only.
fn decimal(text: &str) -> (bool, String, i64) {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
    let (mantissa, power) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let zeros = digits.len() - digits.trim_start_matches('0').len();
    let point = power.parse::<i64>().unwrap() + whole.len() as i64 - zeros as i64;
    let digits = digits.trim_matches('0').to_owned();
    if digits.is_empty() { (false, digits, 0) } else { (negative, digits, point) }
}

/// Whether a column of type `kind` that holds `stored` says exactly what the JSON text `sent` says, and nothing else
/// could have been sent.
fn says(stored: &Stored, kind: &str, sent: &str) -> bool {
    let is_number = sent.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    match (stored, kind) {
        (Stored::Null, _) => sent == "null",
        (Stored::Integer(value), "boolean") => sent == ["false", "true"][usize::from(*value != 0)],
        (Stored::Integer(value), "integer" | "real") => is_number && decimal(sent) == decimal(&value.to_string()),
        (Stored::Real(value), "integer" | "real") => {
            // A double is what was sent if it prints so: in the shortest way, or with as many digits as were sent.
            let digits = decimal(sent).1.len().max(1);
            is_number
                && (decimal(sent) == decimal(&format!("{value:e}"))
                    || decimal(sent) == decimal(&format!("{value:.precision$e}", precision = digits - 1)))
        }
        (Stored::Text(text), "text") => serde_json::from_str::<String>(sent).is_ok_and(|sent| sent == *text),
        (Stored::Text(text), "number") => is_number && sent == text,
        (Stored::Text(text), "json") => sent.starts_with(['{', '[']) && sent == text,
        _ => false,
    }
}

/// Reads the table through a connection of its own and compares.
fn compare(file: &std::path::Path, name: &str, pages: &[Vec<Fields>]) -> Result<(), TestCaseError> {
    let db = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let table = format!("any_{name}");
    let columns: HashMap<String, (String, String)> = db
        .prepare(
            "SELECT source_key, \"column\", c.type FROM _hw_columns c JOIN pragma_table_info(?1) t ON t.name = c.\"column\"
             WHERE \"table\" = ?1",
        )
        .unwrap()
        .query_map([&table], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let mut statement = db.prepare(&format!("SELECT * FROM {table} ORDER BY \"n\"")).unwrap();
    let mut rows = statement.query([]).unwrap();
    for fields in pages.iter().flatten() {
        let row = rows.next().unwrap().unwrap();
        let extra: Option<String> = row.get("_extra").ok().flatten();
        let extra: HashMap<String, Box<RawValue>> =
            extra.map(|text| serde_json::from_str(&text).unwrap()).unwrap_or_default();
        for (key, sent) in fields {
            let same = match (extra.get(key), columns.get(key)) {
                // As it came, but for how a string is escaped.
                (Some(kept), _) if sent.starts_with('"') => {
                    serde_json::from_str::<String>(kept.get()).ok() == serde_json::from_str(sent).ok()
                }
                (Some(kept), _) => kept.get() == sent,
                (None, Some((column, kind))) => says(&row.get(column.as_str()).unwrap(), kind, sent),
                (None, None) => sent == "null",
            };
            prop_assert!(
                same,
                "{:?}: {} is {:?} in {:?}, extra {:?}",
                key,
                sent,
                columns.get(key),
                row,
                extra.get(key)
            );
        }
        for (key, (column, _)) in columns.iter().filter(|(key, _)| *key != "n" && !fields.contains_key(*key)) {
            prop_assert_eq!(row.get::<_, Stored>(column.as_str()).unwrap(), Stored::Null, "{:?} was not sent", key);
        }
    }
    prop_assert!(rows.next().unwrap().is_none());
    Ok(())
}

#[test]
fn b10_every_value_of_any_record_can_be_read_back_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("any.db");
    let options = DestinationOptions { path: path.clone(), synchronous: Synchronous::Normal, ..Default::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let db = runtime.block_on(Db::open(&options)).unwrap();
    let mut runner = TestRunner::new(Config { cases: 150, failure_persistence: None, ..Config::default() });
    let number = std::cell::Cell::new(0);
    runner
        .run(&any_pages(), |pages| {
            number.set(number.get() + 1);
            let name = number.get().to_string();
            runtime.block_on(store(&db, &name, &pages));
            compare(&path, &name, &pages)
        })
        .unwrap();
    runtime.block_on(db.close()).unwrap();
}
