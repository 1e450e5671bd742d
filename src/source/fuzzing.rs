//! What must hold of the bodies that servers send, and of the checkpoints that a file holds.

use std::collections::HashSet;

use bytes::Bytes;
use http::HeaderMap;
use jiff::Timestamp;
use serde_json::Value as Json;
use url::Url;

use super::ahead::link_at;
use super::cursor::{Stored, start};
use super::decoded::{Decoded, decode_page};
use super::incremental::{Incremental, IncrementalOptions};
use super::partition::{PartitionValues, parent_fields, partition_text, place_of};
use super::read::describe;
use super::{BodyFormat, Selector};
use crate::decode::nest;
use crate::page::{Layout, Rows, Value};
use crate::rest::client::Received;
use crate::rest::paginator::{Paginator, Position, set_at};
use crate::units::Timespan;

/// A field that is nested deeper belongs to a record that is set aside.
const NESTING_MAX: usize = 64;
/// So much is kept of the text of a record that is set aside.
const KEPT_BYTES_MAX: usize = 64 << 10;
/// What a byte of a body may take in memory beside it: the cell of an empty field of CSV takes a comma.
const HEAP_FOR_A_BYTE: usize = 128;
/// What a page may take that is empty.
const HEAP_OF_A_PAGE: usize = 8 << 10;

/// Sunday, 1 March 2026, 12:00:00.
const NOW: Timestamp = Timestamp::constant(1_772_366_400, 0);

/// A format by the first byte, then a body: it is a page or an error; its memory is bounded by its length; what its
/// cells say is what a JSON parser says, and texts are UTF-8, JSON is JSON, numbers are exact.
///
/// # Panics
/// When that is not so.
pub fn page_body(data: &[u8]) {
    let Some((first, body)) = data.split_first() else { return };
    let lines = |delimiter| BodyFormat::Csv { delimiter, key: Vec::new() };
    let markup = |path: &str| BodyFormat::Xml { record_path: path.to_owned() };
    let json = |graphql| BodyFormat::Json { graphql };
    let (format, selector) = match first % 10 {
        0 => (json(false), None),
        1 => (json(false), Some("items")),
        2 => (json(false), Some("$.items[*].x")),
        3 => (json(false), Some("$..a[?@.b]")),
        4 => (json(true), Some("data")),
        5 => (BodyFormat::Jsonl {}, None),
        6 => (lines(b','), None),
        7 => (lines(b'\t'), None),
        8 => (markup("r.e"), None),
        _ => (markup("e"), None),
    };
    let selector = Selector::parse(selector).expect("a selector");
    let paginator = serde_json::from_str(r#"{"type":"cursor","cursor_path":"next.cursor"}"#).expect("a paginator");
    let received = Received {
        status: 200,
        headers: HeaderMap::new(),
        body: Bytes::copy_from_slice(body),
        url: Url::parse("https://api.example.com/").expect("a URL"),
        framed: true,
    };
    let Ok(mut page) = decode_page(&received, &format, &selector, &paginator) else { return };
    let heap = usize::try_from(page.heap_bytes()).expect("fits");
    assert!(heap <= HEAP_FOR_A_BYTE * body.len() + HEAP_OF_A_PAGE, "{heap} bytes for a body of {}", body.len());
    assert_eq!(page.rows.received(), (page.rows.len() + page.rows.rejected().len()) as u64);
    cells_are_what_they_say(&page.rows);
    if let Some(body) = page.envelope() {
        drop(body.leaves(&page.records_at()));
    }
    if matches!(format, BodyFormat::Json { .. }) {
        rows_say_what_a_parser_says(&page);
    }
    let rows = page.rows.len();
    nest(&mut page.rows, &Layout { max_table_nesting: 3, ..Layout::default() });
    assert_eq!(page.rows.len(), rows);
    lists_are_whole(&page.rows);
}

fn cells_are_what_they_say(rows: &Rows) {
    for row in 0..rows.len() {
        let mut keys = HashSet::new();
        for (key, value) in rows.row(row) {
            assert!(keys.insert(key), "{:?} comes twice in a record", rows.keys()[key]);
            cell_is_what_it_says(value);
        }
    }
    for rejected in rows.rejected() {
        assert!(rejected.record.len() <= KEPT_BYTES_MAX);
    }
}

/// How many records a JSON body has, for the benchmark of that.
///
/// # Panics
/// Where it is not a page.
pub fn records_in(body: Bytes, selector: &Selector) -> u64 {
    let paginator = serde_json::from_str(r#"{"type":"cursor","cursor_path":"next"}"#).expect("a paginator");
    let url = Url::parse("https://api.example.com/").expect("a URL");
    let received = Received { status: 200, headers: HeaderMap::new(), body, url, framed: true };
    let page = decode_page(&received, &BodyFormat::Json { graphql: false }, selector, &paginator);
    page.unwrap_or_else(|why| panic!("{}", why.reason)).rows.received()
}

fn cell_is_what_it_says(value: Value<'_>) {
    let text_of = |bytes| std::str::from_utf8(bytes).expect("UTF-8");
    match value {
        Value::Null | Value::Bool(_) => {}
        Value::Integer(integer, text) => assert_eq!(text_of(text).parse(), Ok(integer)),
        Value::Real(real, text) => {
            assert!(real.is_finite());
            assert_eq!(text_of(text).parse::<f64>().map(f64::to_bits), Ok(real.to_bits()));
        }
        Value::Text(text) => assert!(std::str::from_utf8(text).is_ok()),
        Value::Number(text) => {
            let text = text_of(text);
            assert!(text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte)), "{text}");
        }
        Value::Json(text) | Value::List(text) => {
            let text = text_of(text);
            assert!(serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok(), "{text}");
            let deepest = text.bytes().filter(|byte| b"[{".contains(byte)).count();
            assert!(deepest <= NESTING_MAX || depth(text) <= NESTING_MAX, "{text}");
        }
    }
}

/// How deep a JSON text is nested.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth -= 1,
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// Compares the rows of a JSON page that has its records in one place with what `serde_json` makes of it.
fn rows_say_what_a_parser_says(page: &Decoded) {
    let Some(range) = page.records.clone() else { return };
    assert!(serde_json::from_str::<serde::de::IgnoredAny>(page.text.as_str()).is_ok(), "a page that is not JSON");
    // A number that no double can be is a number all the same; the parser has no place for it.
    let Ok(records) = serde_json::from_str::<Json>(&page.text.as_str()[range]) else { return };
    let records = match records {
        Json::Array(records) => records,
        record => vec![record],
    };
    assert_eq!(page.rows.received(), records.len() as u64);
    if !page.rows.rejected().is_empty() {
        return;
    }
    for (row, record) in records.iter().enumerate() {
        assert_eq!(page.rows.row(row).count(), record.as_object().map_or(0, serde_json::Map::len));
        for (key, value) in page.rows.row(row) {
            let said: Json = serde_json::from_str(&value.json_text()).expect("JSON");
            assert_eq!(Some(&said), record.get(&page.rows.keys()[key]), "row {row}");
        }
    }
}

fn lists_are_whole(rows: &Rows) {
    for list in rows.lists() {
        let inside = (0..rows.len()).map(|row| list.of(row).len()).sum::<usize>();
        assert_eq!(inside, list.rows().len(), "a row of a list belongs to no record");
        cells_are_what_they_say(list.rows());
        lists_are_whole(list.rows());
    }
}

/// The lines of a checkpoint: position, decision, cursor, bounds, partition, fields of the parent. Whatever stands there,
/// a read goes on at a position that its paginator knows and on its own origin, or starts over and says why; windows
/// move on; and what was read is written as it was.
///
/// # Panics
/// When that is not so.
pub fn checkpoints(data: &[u8]) {
    const PAGINATORS: [&str; 6] = [
        r#"{"type":"auto"}"#,
        r#"{"type":"header_link"}"#,
        r#"{"type":"json_link","next_url_path":"next"}"#,
        r#"{"type":"cursor","cursor_path":"next","cursor_param":"cursor"}"#,
        r#"{"type":"offset","limit":10,"offset_body_path":"a.b"}"#,
        r#"{"type":"page_number"}"#,
    ];
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let (position, decided, cursor, bounds) = (line(), line(), line(), line());
    let stored = Stored {
        position: Some(position.to_owned()),
        request_fingerprint: "same".to_owned(),
        updated_at: NOW,
        decided: Some(decided.to_owned()),
    };
    for paginator in PAGINATORS {
        let paginator: Paginator = serde_json::from_str(paginator).expect("a paginator");
        let from = start(Some(&stored), "same", &paginator, Timespan::secs(60), NOW);
        let paginator = from.decided.and_then(|decided| decided.paginator).unwrap_or(paginator);
        match from.position {
            Some(position) => goes_on_at(&paginator, &position),
            None => assert!(from.started_over.is_some_and(|why| !why.is_empty())),
        }
    }
    windows_move_on(cursor, bounds);
    let (partition, fields) = (line(), line());
    if let Ok(values) = PartitionValues::parse(partition) {
        assert!(PartitionValues::parse(&values.without_range()).is_ok());
        drop(place_of(partition));
    }
    if let Ok(Json::Object(values)) = serde_json::from_str(partition) {
        let once = partition_text(values);
        let Ok(Json::Object(again)) = serde_json::from_str(&once) else { panic!("{once}") };
        assert_eq!(partition_text(again), once, "one partition has two names");
    }
    drop(parent_fields(Some(fields)));
}

fn goes_on_at(paginator: &Paginator, position: &Position) {
    assert!(paginator.accepts(position), "{position:?}");
    let text = serde_json::to_string(position).expect("JSON");
    assert_eq!(serde_json::from_str::<Position>(&text).as_ref().ok(), Some(position));
    assert!(!describe(position).is_empty());
    let changes = paginator.changes(position);
    let mut body = Json::Null;
    for (path, value) in changes.body {
        drop(set_at(&mut body, &path, value));
    }
    if let Some(link) = changes.link {
        let base = Url::parse("https://api.example.com/v1/").expect("a URL");
        if let Ok(url) = link_at(&base, &link) {
            assert_eq!(url.origin(), base.origin(), "{link}");
            assert!(url.username().is_empty() && url.password().is_none(), "{link}");
        }
    }
    if let Some(next) = paginator.plan_after(position, 7) {
        assert_ne!(&next, position, "a plan that stays where it is");
        assert!(paginator.is_past(&next, 0));
    }
}

fn windows_move_on(cursor: &str, bounds: &str) {
    /// More windows than this are not looked at.
    const WINDOWS_MAX: usize = 50;
    const INCREMENTAL: [&str; 5] = [
        r#"{"cursor_path":"at"}"#,
        r#"{"cursor_path":"at","initial_value":"2024-01-01","step":"1mo","lag":"3d"}"#,
        r#"{"cursor_path":"at","initial_value":"2024-01-01","step":"1d","datetime_format":"%s"}"#,
        r#"{"cursor_path":"at","initial_value":"2024-01-01","step":"1d","datetime_format":"%Y-%m-%d"}"#,
        r#"{"cursor_path":"at","initial_value":1,"end_value":1000,"step":10,"lag":5}"#,
    ];
    for options in INCREMENTAL {
        let options: IncrementalOptions = serde_json::from_str(options).expect("options");
        let incremental = Incremental::new(&options).expect("options");
        if let Ok(window) = incremental.stored_window(bounds) {
            let again = incremental.stored_window(&window.to_stored());
            assert_eq!(again.as_ref(), Ok(&window), "{bounds}");
        }
        drop(incremental.live_from(Some(cursor), Some(bounds)));
        let Ok(value) = incremental.stored(cursor) else { continue };
        assert_eq!(incremental.stored(&value.json.to_string()), Ok(value.clone()), "{cursor}");
        let Ok(mut windows) = incremental.windows(Some(&value), NOW) else { continue };
        let mut last = None;
        for _ in 0..WINDOWS_MAX {
            let Ok(Some(window)) = windows.step_on() else { break };
            let start = window.start.expect("a window from a cursor begins somewhere").point;
            assert!(last.is_none_or(|last| start > last), "{options:?} stays at {start:?}");
            last = Some(start);
        }
    }
}
