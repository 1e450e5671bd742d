//! Primary keys: which values can be one, and what is wrong with the others. Pure rules.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::columns::{ColumnType, bind};
use super::error::PageError;
use super::table::Table;
use crate::page::{Rows, Target, Value, WriteDisposition};

/// A page of at least this many records is expected to have different keys on them.
const KEY_CHECK_ROWS_MIN: usize = 20;

/// The type of a key column, where `value` can be a key.
fn key_type(value: Value<'_>) -> Option<ColumnType> {
    match value {
        Value::Integer(..) => Some(ColumnType::Integer),
        Value::Real(..) => Some(ColumnType::Real),
        Value::Text(_) => Some(ColumnType::Text),
        Value::Number(_) => Some(ColumnType::Number),
        Value::Null | Value::Bool(_) | Value::Json(_) | Value::List(_) => None,
    }
}

/// Whether keys of type `found` can stand in a key column of type `column` without two keys becoming one, or one two.
fn takes_key(column: ColumnType, found: ColumnType) -> bool {
    column == found
        || matches!(
            (column, found),
            (ColumnType::Number, ColumnType::Integer) | (ColumnType::Timestamp, ColumnType::Text)
        )
}

/// The type of a key column, which all keys of the page must share; `None` where no record has the key.
pub(super) fn key_column_type(rows: &Rows, key: &str) -> Result<Option<ColumnType>, PageError> {
    let mut found = None;
    for row in 0..rows.len() {
        let Some(column_type) = rows.get(row, key).and_then(key_type) else { continue };
        found = match found {
            None => Some(column_type),
            Some(before) if takes_key(before, column_type) => Some(before),
            Some(before) if takes_key(column_type, before) => Some(column_type),
            Some(before) => return Err(type_changed(key, before, column_type)),
        };
    }
    Ok(found)
}

fn type_changed(key: &str, before: ColumnType, now: ColumnType) -> PageError {
    PageError::Contract(format!(
        "key type changed: primary key {key:?} was of type {}, now a record has one of type {}; 1 and \"1\" would be \
         two rows",
        before.as_str(),
        now.as_str()
    ))
}

/// A table made with the large number on its first page has a key column of exact text, for small ones as well.
fn too_large(target: &Target, key: &str) -> PageError {
    PageError::Contract(format!(
        "key type changed: primary key {key:?} was made for 64-bit integers, now a record has a larger number; run \
         `highwater reset --drop-rows {}`: a first page with such a number makes the column for large ones",
        target.id
    ))
}

/// A NULL in its place would be no key.
fn not_exactly(key: &str, column: ColumnType) -> PageError {
    PageError::Contract(format!(
        "a record has a primary key {key:?} that a column of type {} cannot hold exactly; give it another type in \
         `columns`, or another `primary_key`",
        column.as_str()
    ))
}

/// The key of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// A hash of its values, to count the distinct ones of a page.
    Hash(u64),
    /// There is none, and this is why.
    Bad(&'static str),
}

/// The key of the row that `values` are for, in the order of the columns.
pub(super) fn key_of(table: &Table, target: &Target, values: &[Value<'_>]) -> Result<Key, PageError> {
    let mut hasher = DefaultHasher::new();
    for (column, name) in table.primary_key.iter().zip(&target.primary_key) {
        let value = values[*column];
        let column_type = table.columns[*column].column_type;
        match key_type(value) {
            None => return Ok(Key::Bad(no_key(value))),
            Some(found) if takes_key(column_type, found) && bind(column_type, value).is_some() => {
                hash(value, &mut hasher);
            }
            Some(found) if found == column_type || column_type == ColumnType::Timestamp => {
                return Err(not_exactly(name, column_type));
            }
            Some(ColumnType::Number) if column_type == ColumnType::Integer => return Err(too_large(target, name)),
            Some(found) => return Err(type_changed(name, column_type, found)),
        }
    }
    Ok(Key::Hash(hasher.finish()))
}

fn hash(value: Value<'_>, hasher: &mut DefaultHasher) {
    match value {
        Value::Integer(value, _) => value.hash(hasher),
        Value::Real(value, _) => value.to_bits().hash(hasher),
        Value::Number(text) | Value::Text(text) | Value::Json(text) | Value::List(text) => text.hash(hasher),
        Value::Null | Value::Bool(_) => {}
    }
}

/// Why a record of a page on which none has the whole key is set aside.
pub(super) fn why_keyless(rows: &Rows, row: usize, target: &Target) -> &'static str {
    let mut key = target.primary_key.iter().map(|key| rows.get(row, key).unwrap_or(Value::Null));
    key.find(|value| key_type(*value).is_none()).map_or("key_missing", no_key)
}

fn no_key(value: Value<'_>) -> &'static str {
    if value == Value::Null { "key_missing" } else { "key_not_scalar" }
}

/// A wrong primary key makes many records of a page into one row; that must not pass for an upsert. `keys` are the
/// hashes of a page.
pub(super) fn tell_records_apart(target: &Target, mut keys: Vec<u64>) -> Result<(), PageError> {
    if target.disposition == WriteDisposition::Append {
        // Every version of a record is kept, so none can take the place of another.
        return Ok(());
    }
    let all = keys.len();
    keys.sort_unstable();
    keys.dedup();
    let repeated = all - keys.len();
    if all >= KEY_CHECK_ROWS_MIN && repeated * 5 > all {
        return Err(PageError::Contract(format!(
            "primary_key {:?} does not tell records apart: {repeated} of {all} records on one page repeat a key",
            target.primary_key
        )));
    }
    Ok(())
}
