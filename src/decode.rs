//! The bytes of a page into rows of cells that point into those bytes. Pure, and the hot path.
//!
//! The syntax is checked by `serde_json`; the values are kept as they are written. Numbers stay exact: an integer
//! beyond 64 bits and a decimal that a double cannot hold keep their text. Only strings with escapes are copied.

use std::collections::HashMap;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::page::{Cell, CellKind, Rejected, Rows, Span, Text};

/// Objects and lists may be nested this deep inside a field; beyond it the record is set aside.
const NESTING_MAX: usize = 64;

/// A record larger than this is set aside: SQLite's own limit is a gigabyte, and nobody reads such a row.
const RECORD_BYTES_MAX: usize = 8 << 20;

/// Decimals of up to this many significant digits survive a double (`f64::DIGITS`).
const EXACT_DIGITS: usize = f64::DIGITS as usize;

/// Why a text is not a list of records.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DecodeError(#[from] serde_json::Error);

/// Takes the records apart. `parts` are pieces of `text` itself, each the text of an array of records or of a
/// single record.
///
/// # Errors
/// When a part is not valid JSON. A record that is valid JSON but cannot be a row is set aside in the rows.
pub fn decode(text: &Text, parts: &[&str]) -> Result<Rows, DecodeError> {
    let mut decoder = Decoder {
        base: text.as_bytes().as_ptr().addr(),
        rows: Rows { text: text.clone(), ..Rows::default() },
        by_name: HashMap::new(),
        last_row_with: Vec::new(),
        record: RecordState::default(),
    };
    for part in parts {
        let rejected_before = decoder.rows.rejected.len();
        let mut json = serde_json::Deserializer::from_str(part);
        if part.starts_with('[') {
            json.deserialize_seq(RecordsVisitor(&mut decoder))?;
        } else {
            RecordSeed(&mut decoder, 0).deserialize(&mut json)?;
        }
        json.end()?;
        if decoder.rows.rejected.len() > rejected_before {
            decoder.quote_rejected(part, rejected_before)?;
        }
    }
    Ok(decoder.rows)
}

struct Decoder {
    /// Address of the first byte of the page, to turn slices of it into offsets.
    base: usize,
    rows: Rows,
    by_name: HashMap<String, u32>,
    /// For each key the number (from 1) of the last record that had it, to find keys that come twice.
    last_row_with: Vec<u64>,
    record: RecordState,
}

#[derive(Default)]
struct RecordState {
    /// Number of the record on the page, from 1.
    number: u64,
    bytes: usize,
    problem: Option<&'static str>,
}

impl Decoder {
    fn span(&self, slice: &str) -> Span {
        let start = slice.as_ptr().addr() - self.base;
        Span {
            start: u32::try_from(start).expect("a page is at most 1 GiB"),
            len: u32::try_from(slice.len()).expect("a page is at most 1 GiB"),
        }
    }

    /// The number of a key. Records mostly have the same keys in the same order, so the guess is mostly right.
    fn key(&mut self, name: &str, guess: usize) -> u32 {
        if self.rows.keys.get(guess).is_some_and(|known| known == name) {
            return u32::try_from(guess).expect("fewer keys than bytes");
        }
        if let Some(known) = self.by_name.get(name) {
            return *known;
        }
        let number = u32::try_from(self.rows.keys.len()).expect("fewer keys than bytes");
        self.rows.keys.push(name.to_owned());
        self.by_name.insert(name.to_owned(), number);
        self.last_row_with.push(0);
        number
    }

    fn field(&mut self, key: u32, raw: &str) {
        let seen = &mut self.last_row_with[key as usize];
        if *seen == self.record.number {
            self.record.problem = Some("duplicate_key");
            return;
        }
        *seen = self.record.number;
        self.record.bytes += raw.len();
        let (kind, span) = match raw.as_bytes()[0] {
            b'"' => match self.string(raw) {
                Some(found) => found,
                None => {
                    self.record.problem = Some("invalid_string");
                    return;
                }
            },
            b'{' | b'[' => {
                if nesting(raw) > NESTING_MAX {
                    self.record.problem = Some("nested_too_deep");
                    return;
                }
                (CellKind::Json, self.span(raw))
            }
            b't' => (CellKind::Bool(true), self.span(raw)),
            b'f' => (CellKind::Bool(false), self.span(raw)),
            b'n' => (CellKind::Null, self.span(raw)),
            _ => (number(raw), self.span(raw)),
        };
        self.rows.cells.push(Cell { kind, span, key });
    }

    /// `None` for an escape that names no character: a lone surrogate.
    fn string(&mut self, raw: &str) -> Option<(CellKind, Span)> {
        let inner = &raw[1..raw.len() - 1];
        if !inner.as_bytes().contains(&b'\\') {
            return Some((CellKind::Text, self.span(inner)));
        }
        let text: String = serde_json::from_str(raw).ok()?;
        let start = u32::try_from(self.rows.unescaped.len()).ok()?;
        self.rows.unescaped.push_str(&text);
        Some((CellKind::Unescaped, Span { start, len: u32::try_from(text.len()).ok()? }))
    }

    fn begin_record(&mut self) {
        self.record = RecordState { number: self.record.number + 1, bytes: 0, problem: None };
    }

    fn end_record(&mut self) {
        if self.record.bytes > RECORD_BYTES_MAX {
            self.record.problem = Some("record_too_large");
        }
        let start = self.rows.row_ends.last().map_or(0, |end| *end as usize);
        match self.record.problem {
            None => {
                let end = u32::try_from(self.rows.cells.len()).expect("fewer cells than bytes");
                self.rows.row_ends.push(end);
            }
            Some(reason) => {
                self.rows.cells.truncate(start);
                self.reject(reason);
            }
        }
    }

    fn reject(&mut self, reason: &'static str) {
        // The text is filled in by `quote_rejected`, which knows where the record ends.
        self.rows.rejected.push(Rejected { reason, record: self.record.number.to_string() });
    }

    /// Rejected records are rare: only then the part is read a second time, for their text.
    fn quote_rejected(&mut self, part: &str, from: usize) -> Result<(), DecodeError> {
        let records: Vec<&RawValue> =
            if part.starts_with('[') { serde_json::from_str(part)? } else { vec![serde_json::from_str(part)?] };
        let first = self.record.number - records.len() as u64;
        for rejected in &mut self.rows.rejected[from..] {
            let number: u64 = rejected.record.parse().unwrap_or(first + 1);
            let raw = records.get(usize::try_from(number - first - 1).unwrap_or(0)).map_or("", |raw| raw.get());
            rejected.record = excerpt(raw).to_owned();
        }
        Ok(())
    }
}

/// What is kept of a record that is set aside.
fn excerpt(raw: &str) -> &str {
    const KEPT_BYTES_MAX: usize = 64 << 10;
    let mut end = raw.len().min(KEPT_BYTES_MAX);
    while !raw.is_char_boundary(end) {
        end -= 1;
    }
    &raw[..end]
}

struct RecordsVisitor<'d>(&'d mut Decoder);

impl<'de> Visitor<'de> for RecordsVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(RecordSeed(self.0, 0))?.is_some() {}
        Ok(())
    }
}

/// One record. Whatever is not an object is set aside.
struct RecordSeed<'d>(&'d mut Decoder, usize);

impl<'de> DeserializeSeed<'de> for RecordSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.0.begin_record();
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for RecordSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(KeySeed(self.0, self.1))? {
            let raw: &RawValue = map.next_value()?;
            self.0.field(key, raw.get());
            self.1 += 1;
        }
        self.0.end_record();
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        self.0.reject("not_an_object");
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        self.0.reject("not_an_object");
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.0.reject("not_an_object");
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.0.reject("not_an_object");
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        self.0.reject("not_an_object");
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.0.reject("not_an_object");
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.reject("not_an_object");
        Ok(())
    }
}

struct KeySeed<'d>(&'d mut Decoder, usize);

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = u32;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u32, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed<'_> {
    type Value = u32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, name: &str) -> Result<u32, E> {
        Ok(self.0.key(name, self.1))
    }
}

/// How deep objects and lists are nested in a value whose syntax is known to be right.
fn nesting(raw: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0_usize);
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth -= 1,
            b'"' => {
                while let Some(inside) = bytes.next() {
                    match inside {
                        b'\\' => drop(bytes.next()),
                        b'"' => break,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    deepest
}

fn number(raw: &str) -> CellKind {
    if !raw.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
        return raw.parse().map_or(CellKind::Number, CellKind::Integer);
    }
    match raw.parse::<f64>() {
        Ok(value) if value.is_finite() && holds_exactly(value, raw) => CellKind::Real(value),
        _ => CellKind::Number,
    }
}

/// Whether `value`, printed with as many digits as `raw` has or in the shortest way, is the decimal of `raw`.
fn holds_exactly(value: f64, raw: &str) -> bool {
    /// No double was ever printed with more digits by a program that meant a double.
    const DIGITS_MAX: usize = 40;
    let exponent = raw.bytes().any(|byte| matches!(byte, b'e' | b'E'));
    if raw.len() <= EXACT_DIGITS && !exponent {
        return true;
    }
    let named = Decimal::of(raw);
    // The shortest print that reads back the same is not always the nearest one with as many digits.
    named == Decimal::of(&format!("{value:e}"))
        || named.digits.len() <= DIGITS_MAX
            && named == Decimal::of(&format!("{value:.precision$e}", precision = named.digits.len().saturating_sub(1)))
}

/// A decimal as its digits without zeros at the ends, and the power of ten of the digit before the point.
#[derive(PartialEq, Eq)]
struct Decimal {
    digits: String,
    exponent: i64,
}

impl Decimal {
    fn of(text: &str) -> Self {
        let text = text.trim_start_matches('-');
        let (mantissa, power) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = format!("{whole}{fraction}");
        let significant = all.trim_start_matches('0');
        let leading_zeros = all.len() - significant.len();
        let digits = significant.trim_end_matches('0').to_owned();
        if digits.is_empty() {
            return Self { digits, exponent: 0 };
        }
        // A power with more digits than an i64 is far outside of what a double holds.
        let power: i64 = power.parse().unwrap_or(i64::MAX / 2);
        let exponent = power.saturating_add(whole.len() as i64 - leading_zeros as i64);
        Self { digits, exponent }
    }
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
    fn numbers_keep_what_they_say() {
        let cases: [(&str, Value<'_>); 12] = [
            ("1", Value::Integer(1, b"1")),
            ("-9223372036854775808", Value::Integer(i64::MIN, b"-9223372036854775808")),
            ("9223372036854775808", Value::Number(b"9223372036854775808")),
            ("123456789012345678901234567890", Value::Number(b"123456789012345678901234567890")),
            ("0.1", Value::Real(0.1, b"0.1")),
            ("1.50", Value::Real(1.5, b"1.50")),
            ("1e3", Value::Real(1000.0, b"1e3")),
            ("0.1000000000000000055511151231257828", Value::Number(b"0.1000000000000000055511151231257828")),
            ("9007199254740993.0", Value::Number(b"9007199254740993.0")),
            ("1e400", Value::Number(b"1e400")),
            ("0.10000000000000001", Value::Real(0.1, b"0.10000000000000001")),
            ("0.0000000000", Value::Real(0.0, b"0.0000000000")),
        ];
        for (text, expected) in cases {
            assert_eq!(rows(&format!(r#"[{{"n":{text}}}]"#)).get(0, "n"), Some(expected), "{text}");
        }
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
            r#"[{{"a":1}}, 5, null, [1], "s", {{"a":1,"a":2}}, {{"s":"\ud800"}}, {{"d":{deep}}}, {{"a":2}}]"#
        ));
        assert_eq!(page.len(), 2);
        assert_eq!(page.received(), 9);
        let reasons: Vec<_> = page.rejected().iter().map(|r| (r.reason, r.record.as_str())).collect();
        assert_eq!(reasons[..4].iter().map(|(_, text)| *text).collect::<Vec<_>>(), ["5", "null", "[1]", "\"s\""]);
        assert_eq!(reasons[4], ("duplicate_key", r#"{"a":1,"a":2}"#));
        assert_eq!(reasons[5], ("invalid_string", r#"{"s":"\ud800"}"#));
        assert_eq!(reasons[6].0, "nested_too_deep");
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
        fn a_real_reads_back_as_the_very_decimal(value in any::<f64>().prop_filter("finite", |v| v.is_finite())) {
            let text = format!("{value:e}");
            prop_assert!(matches!(number(&text), CellKind::Real(read) if read == value), "{}", text);
        }

        #[test]
        fn a_decimal_is_a_real_only_if_the_double_prints_the_same(text in "-?(0|[1-9][0-9]{0,17})\\.[0-9]{1,20}") {
            if let CellKind::Real(value) = number(&text) {
                let named = Decimal::of(&text);
                let printed = format!("{value:.precision$e}", precision = named.digits.len().saturating_sub(1));
                prop_assert!(Decimal::of(&printed) == named || Decimal::of(&value.to_string()) == named);
            }
        }

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
