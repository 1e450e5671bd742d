//! What must hold of records on their way from a body into the file.

use bytes::Bytes;
use serde_json::{Map, Value as Json, json};

use crate::decode::{decode, nest};
use crate::destination::fuzzing::{has_tables, is_kept_by_all};
use crate::page::{Layout, ResourceId, Rows, Target, Text, Value, WriteDisposition};

/// The text of a JSON value, and the same as the text of a string: what a column takes can be read back from SQLite as
/// what came, with the column's own type and with each that a user can give it.
///
/// # Panics
/// When that is not so.
pub fn values(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for value in [text.to_owned(), Json::from(text).to_string()] {
        let Some(rows) = rows(&format!("{{\"v\":{value}}}")) else { continue };
        let Some(value) = (rows.len() == 1 && rows.keys() == ["v"]).then(|| rows.get(0, "v")).flatten() else {
            continue;
        };
        if let Value::Real(real, text) = value {
            is_the_decimal(real, std::str::from_utf8(text).expect("UTF-8"));
        }
        is_kept_by_all(value);
    }
}

fn rows(json: &str) -> Option<Rows> {
    let text = Text::new(Bytes::copy_from_slice(json.as_bytes()))?;
    decode(&text, &[text.as_str()]).ok()
}

/// Asserts that a double, printed in the shortest way or with as many digits as the text has, is the text's decimal.
fn is_the_decimal(real: f64, text: &str) {
    let (digits, _) = decimal(text);
    let precision = digits.len().saturating_sub(1);
    let printed = [format!("{real:e}"), format!("{real:.precision$e}")];
    assert!(printed.iter().any(|printed| decimal(printed) == decimal(text)), "{text} is kept as {printed:?}");
}

/// The digits that count, and how many of them stand before the point.
fn decimal(text: &str) -> (String, i64) {
    let (mantissa, power) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let whole = mantissa.trim_start_matches('-').split('.').next().unwrap_or_default().len();
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let zeros = digits.len() - digits.trim_start_matches('0').len();
    let counting = digits.trim_matches('0').to_owned();
    let power = power.parse().unwrap_or(i64::MAX / 2);
    let before = if counting.is_empty() { 0 } else { whole as i64 - zeros as i64 + power };
    (counting, before)
}

/// A disposition by the first byte, then the keys of a record, one to a line: SQLite takes the tables that are made for
/// it, no two keys share a column, nothing but these tables is made, the same record finds them again, and its values
/// are where they belong.
///
/// # Panics
/// When that is not so.
pub fn columns(data: &[u8]) {
    let Some((first, keys)) = data.split_first() else { return };
    let Ok(keys) = std::str::from_utf8(keys) else { return };
    let record: Map<String, Json> = keys.split('\n').map(|key| (key.to_owned(), value_under(key))).collect();
    let target = Target {
        id: ResourceId::new("s", "r"),
        table: "t".to_owned(),
        primary_key: record.iter().filter(|(_, value)| value.is_i64()).map(|(key, _)| key.clone()).take(1).collect(),
        disposition: [WriteDisposition::Append, WriteDisposition::Merge, WriteDisposition::Replace]
            [usize::from(*first) % 3],
        layout: Layout { max_table_nesting: u32::from(*first) / 3 % 3, ..Layout::default() },
    };
    let mut rows = rows(&Json::Object(record.clone()).to_string()).expect("a record");
    nest(&mut rows, &target.layout);
    assert_eq!(rows.len(), 1);
    has_tables(&target, &rows, &record);
}

/// A value for a key: the keys say what kinds a record has.
fn value_under(key: &str) -> Json {
    match key.len() % 4 {
        0 => json!("text"),
        1 => json!(7),
        2 => json!(1.5),
        _ => json!([{ key: 1, "ID": 2, "id": [{ "x": 3 }] }]),
    }
}
