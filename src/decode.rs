//! The bytes of a page into rows of cells that point into those bytes. Pure, and the hot path.
//!
//! The syntax is checked on the way (`scan`); the values are kept as they are written. Numbers stay exact: an integer
//! beyond 64 bits and a decimal that a double cannot hold keep their text. Only strings with escapes are copied.
//! Other formats have a file each; they fill the same rows under the same limits.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::value::RawValue;

use self::scan::{Kind, NotJson, Scanner};
use crate::page::{Cell, CellKind, Rejected, Rows, Span, Text, number};

mod csv;
mod jsonl;
mod nest;
pub(crate) mod scan;
mod value;
mod xml;

pub use csv::csv;
pub use jsonl::jsonl;
pub use nest::nest;
pub(crate) use value::value;
pub use xml::{Xml, xml};

/// Objects and lists may be nested this deep inside a field; beyond it the record is set aside.
const NESTING_MAX: usize = 64;

/// A record larger than this is set aside: SQLite's own limit is a gigabyte, and nobody reads such a row.
pub(crate) const RECORD_BYTES_MAX: usize = 8 << 20;

/// Why a text is not a list of records.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// It is not JSON.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// It is not what its format says. The next answer may be.
    #[error("{0}")]
    Broken(String),
    /// It is, but no rows can be made of it, however often it is asked for.
    #[error("{0}")]
    Unusable(String),
}

/// Takes the records apart. `parts` are pieces of `text` itself, each the text of an array of records or of a
/// single record.
///
/// # Errors
/// When a part is not valid JSON. A record that is valid JSON but cannot be a row is set aside in the rows.
pub fn decode(text: &Text, parts: &[&str]) -> Result<Rows, DecodeError> {
    let mut decoder = Decoder::new(text);
    for part in parts {
        let rows_before = decoder.rows.row_ends.len();
        if decoder.all_at_once(part).is_err() {
            // Bad records are rare, and bad JSON is rarer: only then the part is read a second time.
            decoder.keep_rows(rows_before);
            decoder.one_by_one(part)?;
        }
    }
    Ok(decoder.rows)
}

/// Takes the records apart while the text around them is gone over, so that it is gone over once.
pub(crate) struct OnTheWay {
    decoder: Decoder,
    /// What was read of the page: all that was met, without an error.
    read: Option<Span>,
}

impl OnTheWay {
    pub(crate) fn new(text: &Text) -> Self {
        Self { decoder: Decoder::new(text), read: None }
    }

    /// Reads the value that comes next. A second one, and records that cannot be rows, are left to [`decode`].
    pub(crate) fn read(&mut self, json: &mut Scanner<'_>) -> Result<(), NotJson> {
        let has_records = matches!(json.peek(), b'[' | b'{');
        let start = json.at();
        if !has_records {
            return json.value().map(|_| ());
        }
        if self.read.is_some() || self.decoder.records(json).is_err() {
            return Err(NotJson);
        }
        self.read = Some(self.decoder.span(json.since(start)));
        Ok(())
    }

    /// The rows, where what was read is all that the parts are.
    pub(crate) fn rows(self, parts: &[&str]) -> Option<Rows> {
        let [part] = parts else { return None };
        (self.read? == self.decoder.span(part)).then_some(self.decoder.rows)
    }
}

struct Decoder {
    /// Address of the first byte of the page, to turn slices of it into offsets.
    base: usize,
    rows: Rows,
    by_name: HashMap<String, u32>,
    /// What is known of each key.
    keys: Vec<Key>,
    record: RecordState,
}

struct Key {
    /// It is written as it is, without an escape.
    is_plain: bool,
    /// The number (from 1) of the last record that had it, to find keys that come twice.
    last_row: u64,
}

#[derive(Default)]
struct RecordState {
    /// Number of the record among those begun, from 1.
    number: u64,
    bytes: usize,
}

/// Why no row was made of a record.
enum Refused {
    /// What stands there is not JSON.
    NotJson,
    /// It is JSON, but cannot be a row.
    Record(&'static str),
}

impl From<NotJson> for Refused {
    fn from(_: NotJson) -> Self {
        Self::NotJson
    }
}

impl Decoder {
    fn new(text: &Text) -> Self {
        Self {
            base: text.as_bytes().as_ptr().addr(),
            rows: Rows { text: text.clone(), ..Rows::default() },
            by_name: HashMap::new(),
            keys: Vec::new(),
            record: RecordState::default(),
        }
    }

    /// Reads a part of which every record can be a row. Anything else is an error.
    fn all_at_once(&mut self, part: &str) -> Result<(), Refused> {
        let mut json = Scanner::new(part);
        self.records(&mut json)?;
        Ok(json.end()?)
    }

    /// Reads a list of records, or a single one.
    fn records(&mut self, json: &mut Scanner<'_>) -> Result<(), Refused> {
        if !json.take(b'[') {
            return self.record(json);
        }
        let mut goes_on = !json.take(b']');
        while goes_on {
            self.record(json)?;
            goes_on = json.goes_on(b']')?;
        }
        Ok(())
    }

    /// Reads one record.
    fn record(&mut self, json: &mut Scanner<'_>) -> Result<(), Refused> {
        self.record = RecordState { number: self.record.number + 1, bytes: 0 };
        if !json.take(b'{') {
            return Err(Refused::Record("not_an_object"));
        }
        let mut goes_on = !json.take(b'}');
        let mut guess = 0;
        while goes_on {
            let key = self.json_key(json, guess)?;
            let (kind, raw) = json.value()?;
            self.field(key, kind, raw).map_err(Refused::Record)?;
            goes_on = json.goes_on(b'}')?;
            guess += 1;
        }
        self.end_record();
        Ok(())
    }

    fn end_record(&mut self) {
        self.rows.row_ends.push(u32::try_from(self.rows.cells.len()).expect("fewer cells than bytes"));
    }

    /// Reads a part record by record, and sets aside those that cannot be rows.
    fn one_by_one(&mut self, part: &str) -> Result<(), serde_json::Error> {
        let records: Vec<&RawValue> =
            if part.starts_with('[') { serde_json::from_str(part)? } else { vec![serde_json::from_str(part)?] };
        records.into_iter().map(RawValue::get).for_each(|raw| self.one(raw));
        Ok(())
    }

    /// Reads one record whose text is known to be JSON, or sets it aside.
    fn one(&mut self, raw: &str) {
        let rows_before = self.rows.row_ends.len();
        let reason = match self.record(&mut Scanner::new(raw)) {
            Ok(()) => return,
            Err(Refused::Record(reason)) => reason,
            // The other parser has let it through.
            Err(Refused::NotJson) => "invalid_json",
        };
        self.keep_rows(rows_before);
        self.reject(reason, raw);
    }

    /// Sets a record aside with what is kept of its text.
    fn reject(&mut self, reason: &'static str, raw: &str) {
        self.rows.rejected.push(Rejected { reason: reason.into(), record: excerpt(raw).to_owned() });
    }

    /// Takes back what came after the first `rows` rows.
    fn keep_rows(&mut self, rows: usize) {
        self.rows.row_ends.truncate(rows);
        self.rows.cells.truncate(self.rows.row_ends.last().map_or(0, |end| *end as usize));
    }

    fn span(&self, slice: &str) -> Span {
        let start = slice.as_ptr().addr() - self.base;
        Span {
            start: u32::try_from(start).expect("a page is at most 1 GiB"),
            len: u32::try_from(slice.len()).expect("a page is at most 1 GiB"),
        }
    }

    /// Goes over a key and says its number. Records mostly have the same keys in the same order, so the guess is mostly
    /// right.
    fn json_key(&mut self, json: &mut Scanner<'_>, guess: usize) -> Result<u32, Refused> {
        if self.keys.get(guess).is_some_and(|key| key.is_plain) && json.take_name(&self.rows.keys[guess]) {
            return Ok(u32::try_from(guess).expect("fewer keys than bytes"));
        }
        let (raw, has_escapes) = json.name()?;
        let name = scan::unquoted(raw, has_escapes).ok_or(Refused::Record("invalid_string"))?;
        Ok(self.key(&name))
    }

    /// The number of a key, which is a new one where it comes for the first time.
    fn key(&mut self, name: &str) -> u32 {
        if let Some(known) = self.by_name.get(name) {
            return *known;
        }
        let number = u32::try_from(self.rows.keys.len()).expect("fewer keys than bytes");
        self.rows.keys.push(name.to_owned());
        self.by_name.insert(name.to_owned(), number);
        self.keys.push(Key { is_plain: scan::is_plain(name), last_row: 0 });
        number
    }

    /// Adds a field to the record; `Err` says why the record cannot be a row.
    fn field(&mut self, key: u32, kind: Kind, raw: &str) -> Result<(), &'static str> {
        let seen = &mut self.keys[key as usize].last_row;
        if *seen == self.record.number {
            return Err("duplicate_key");
        }
        *seen = self.record.number;
        self.record.bytes += raw.len();
        if self.record.bytes > RECORD_BYTES_MAX {
            return Err("record_too_large");
        }
        let (kind, span) = match kind {
            Kind::Text { has_escapes } => self.string(raw, has_escapes).ok_or("invalid_string")?,
            Kind::Nested { depth } if depth > NESTING_MAX => return Err("nested_too_deep"),
            Kind::Nested { .. } => (CellKind::Json, self.span(raw)),
            Kind::Bool(value) => (CellKind::Bool(value), self.span(raw)),
            Kind::Null => (CellKind::Null, self.span(raw)),
            Kind::Number => (number(raw), self.span(raw)),
        };
        self.rows.cells.push(Cell { kind, span, key });
        Ok(())
    }

    /// `None` for an escape that names no character: a lone surrogate.
    fn string(&mut self, raw: &str, has_escapes: bool) -> Option<(CellKind, Span)> {
        Some(match scan::unquoted(raw, has_escapes)? {
            Cow::Borrowed(text) => (CellKind::Text, self.span(text)),
            Cow::Owned(text) => (CellKind::Unescaped, self.rewritten(&text)?),
        })
    }

    /// Keeps a text that does not stand in the page as it is. `None` when there is more of it than a page can hold.
    fn rewritten(&mut self, text: &str) -> Option<Span> {
        let start = u32::try_from(self.rows.unescaped.len()).ok()?;
        self.rows.unescaped.push_str(text);
        Some(Span { start, len: u32::try_from(text.len()).ok()? })
    }
}

/// What is kept of a record that is set aside.
fn excerpt(raw: &str) -> &str {
    const KEPT_BYTES_MAX: usize = 64 << 10;
    &raw[..raw.floor_char_boundary(KEPT_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::page::Value;

    fn rows(json: &str) -> Rows {
        let text = Text::new(Bytes::copy_from_slice(json.as_bytes())).unwrap();
        decode(&text, &[text.as_str()]).unwrap()
    }

    #[test]
    fn strings_and_nested_values_come_as_they_are() {
        let page = rows(r#"[{"a":"plain","b":"esc\"aped \u00e9\u0000","c":{"x": [1, 2]},"d":null,"e":true}]"#);
        let all: Vec<_> = page.row(0).map(|(key, value)| (page.keys()[key].as_str(), value)).collect();
        assert_eq!(
            all,
            [
                ("a", Value::Text(b"plain")),
                ("b", Value::Text("esc\"aped \u{e9}\0".as_bytes())),
                ("c", Value::Json(br#"{"x": [1, 2]}"#)),
                ("d", Value::Null),
                ("e", Value::Bool(true)),
            ]
        );
    }

    #[test]
    fn keys_in_another_order_find_their_columns() {
        let page = rows(r#"[{"a":1,"b":2},{"b":3,"a":4,"c":5},{"\u0061":6}]"#);
        assert_eq!(page.keys(), ["a", "b", "c"]);
        assert_eq!(page.get(1, "a"), Some(Value::Integer(4, b"4")));
        assert_eq!(page.get(2, "a"), Some(Value::Integer(6, b"6")));
    }

    #[test]
    fn a_record_that_cannot_be_a_row_is_set_aside_with_its_text() {
        let deep = format!("{}1{}", "[".repeat(65), "]".repeat(65));
        let page = rows(&format!(
            r#"[{{"a":1}}, 5, null, [1], "s", {{"a":1,"a":2}}, {{"s":"\ud800"}}, {{"d":{deep}}}, {{"\udc00":1}}, 1e400, "\ud800", {{"a":2}}]"#
        ));
        assert_eq!(page.len(), 2);
        assert_eq!(page.received(), 12);
        let reasons: Vec<_> = page.rejected().iter().map(|r| (&*r.reason, r.record.as_str())).collect();
        assert_eq!(reasons[..4].iter().map(|(_, text)| *text).collect::<Vec<_>>(), ["5", "null", "[1]", "\"s\""]);
        assert_eq!(reasons[4], ("duplicate_key", r#"{"a":1,"a":2}"#));
        assert_eq!(reasons[5], ("invalid_string", r#"{"s":"\ud800"}"#));
        assert_eq!(reasons[6].0, "nested_too_deep");
        assert_eq!(reasons[7], ("invalid_string", r#"{"\udc00":1}"#));
        assert_eq!(reasons[8..], [("not_an_object", "1e400"), ("not_an_object", r#""\ud800""#)]);
        assert_eq!(page.get(1, "a"), Some(Value::Integer(2, b"2")));
    }

    #[test]
    fn a_single_object_is_one_record() {
        let page = rows(r#"{"a":1}"#);
        assert_eq!((page.len(), page.get(0, "a")), (1, Some(Value::Integer(1, b"1"))));
        assert_eq!(rows(r#"{"a":1,"a":1}"#).rejected()[0].record, r#"{"a":1,"a":1}"#);
    }

    #[test]
    fn what_is_cut_off_is_an_error_at_every_byte() {
        let whole = r#"[{"id":1,"name":"a\u00e9","list":[1,{"x":"y"}]},{"id":2.5}]"#;
        for cut in 1..whole.len() {
            let text = Text::new(Bytes::copy_from_slice(&whole.as_bytes()[..cut])).unwrap();
            assert!(decode(&text, &[text.as_str()]).is_err(), "cut at {cut}");
        }
    }

    proptest! {
        #[test]
        fn rows_say_what_a_json_parser_says(records in prop::collection::vec(
            prop::collection::btree_map("[a-z\"\\\\é]{0,4}", "\\PC{0,12}", 0..5), 0..6)
        ) {
            let json = serde_json::to_string(&records).unwrap();
            let page = rows(&json);
            prop_assert_eq!(page.len(), records.len());
            for (row, record) in records.iter().enumerate() {
                for (key, value) in record {
                    prop_assert_eq!(page.get(row, key), Some(Value::Text(value.as_bytes())));
                }
            }
        }
    }
}
