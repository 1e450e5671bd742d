//! Which type a column gets, which values it can hold unchanged, and what it is called. Pure rules.
//!
//! A column holds one kind of value: numbers, or strings, or truth values, or nested JSON. The declared type tells
//! tools what to expect. A value of another kind, and a number that the column's affinity would change (SQLite,
//! "Datatypes In SQLite", §3.1 and §3.4), is a misfit: it is kept as its own JSON text in the `_extra` column.

use std::collections::HashSet;

use rusqlite::types::{ToSqlOutput, ValueRef};

use super::hints::is_timestamp;
use crate::page::{CellKind, Rows, Value};

/// What a column was declared to hold, from the first values that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ColumnType {
    Integer,
    Real,
    Text,
    Boolean,
    /// Objects and lists, as their JSON text.
    Json,
    /// Numbers as exact text: some of the first ones fit neither a 64-bit integer nor a double.
    Number,
    /// RFC 3339, as text; only where the user says so.
    Timestamp,
    /// Values of every kind, as their JSON text; only where the user says so.
    AnyJson,
}

/// All of them.
pub(super) const COLUMN_TYPES: [ColumnType; 8] = [
    ColumnType::Integer,
    ColumnType::Real,
    ColumnType::Text,
    ColumnType::Boolean,
    ColumnType::Json,
    ColumnType::Number,
    ColumnType::Timestamp,
    ColumnType::AnyJson,
];

impl ColumnType {
    /// The type in `CREATE TABLE`.
    pub(super) fn declared(self) -> &'static str {
        match self {
            Self::Integer => "INTEGER",
            Self::Real => "REAL",
            Self::Boolean => "BOOLEAN",
            Self::Text | Self::Json | Self::Number | Self::Timestamp | Self::AnyJson => "TEXT",
        }
    }

    /// The word in `_hw_columns`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Integer => "integer",
            Self::Real => "real",
            Self::Text => "text",
            Self::Boolean => "boolean",
            Self::Json => "json",
            Self::Number => "number",
            Self::Timestamp => "timestamp",
            Self::AnyJson => "any_json",
        }
    }

    pub(super) fn from_str(text: &str) -> Option<Self> {
        COLUMN_TYPES.into_iter().find(|known| known.as_str() == text)
    }

    /// The type for a column in which `value` is the first one; `null` says nothing.
    pub(super) fn of(value: Value<'_>) -> Option<Self> {
        match value {
            // A list whose objects are rows of a child table needs no column.
            Value::Null | Value::List(_) => None,
            Value::Bool(_) => Some(Self::Boolean),
            Value::Integer(..) => Some(Self::Integer),
            Value::Real(..) => Some(Self::Real),
            Value::Text(_) => Some(Self::Text),
            Value::Number(_) => Some(Self::Number),
            Value::Json(_) => Some(Self::Json),
        }
    }

    /// The type for a column whose first page has values of both types. Of two kinds the first one stays.
    pub(super) fn join(self, other: Self) -> Self {
        use ColumnType::{Integer, Number, Real};
        match (self, other) {
            (Integer, Real) | (Real, Integer) => Real,
            (Integer | Real, Number) | (Number, Integer | Real) => Number,
            (first, _) => first,
        }
    }
}

/// Integers up to this size are the same number as a double (2^53).
const REAL_INTEGER_MAX: u64 = 1 << 53;

/// Whether a column of integers takes the double as it is, or as the integer that it is exactly.
fn stays_real(value: f64) -> bool {
    (value.fract() != 0.0 || value.abs() <= REAL_INTEGER_MAX as f64) && !is_negative_zero(value)
}

/// SQLite keeps a whole number of a REAL column as an integer, which has no sign at zero.
fn is_negative_zero(value: f64) -> bool {
    value == 0.0 && value.is_sign_negative()
}

/// What is bound for `value` in a column of type `column`; `None` for a misfit.
pub(super) fn bind(column: ColumnType, value: Value<'_>) -> Option<ToSqlOutput<'_>> {
    use ColumnType::{AnyJson, Boolean, Integer, Json, Number, Real, Text, Timestamp};
    Some(ToSqlOutput::Borrowed(match (column, value) {
        (_, Value::Null) => ValueRef::Null,
        (Boolean, Value::Bool(value)) => ValueRef::Integer(value.into()),
        (Integer, Value::Integer(value, _)) => ValueRef::Integer(value),
        (Real, Value::Integer(value, _)) if value.unsigned_abs() <= REAL_INTEGER_MAX => ValueRef::Integer(value),
        (Real, Value::Real(value, _)) if !is_negative_zero(value) => ValueRef::Real(value),
        (Integer, Value::Real(value, _)) if stays_real(value) => ValueRef::Real(value),
        (Number | AnyJson, Value::Integer(_, text) | Value::Real(_, text) | Value::Number(text)) => {
            ValueRef::Text(text)
        }
        (Text, Value::Text(text)) => ValueRef::Text(text),
        (Timestamp, Value::Text(text)) if is_timestamp(text) => ValueRef::Text(text),
        (Json | AnyJson, Value::Json(text) | Value::List(text)) => ValueRef::Text(text),
        (AnyJson, Value::Bool(_) | Value::Text(_)) => return Some(ToSqlOutput::Owned(value.json_text().into())),
        _ => return None,
    }))
}

/// The kinds of values that come under one key of a page, as far as columns tell them apart. `null` is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kinds(u16);

impl Kinds {
    const BOOL: u16 = 1;
    const INTEGER: u16 = 1 << 1;
    /// An integer that no double is.
    const WIDE_INTEGER: u16 = 1 << 2;
    const REAL: u16 = 1 << 3;
    /// A double that a column of integers would change, or one of doubles.
    const ODD_REAL: u16 = 1 << 4;
    const NUMBER: u16 = 1 << 5;
    const TEXT: u16 = 1 << 6;
    const JSON: u16 = 1 << 7;
    const LIST: u16 = 1 << 8;

    fn of(cell: CellKind) -> u16 {
        match cell {
            CellKind::Null => 0,
            CellKind::Bool(_) => Self::BOOL,
            CellKind::Integer(value) | CellKind::AddedInteger(value) if value.unsigned_abs() <= REAL_INTEGER_MAX => {
                Self::INTEGER
            }
            CellKind::Integer(_) | CellKind::AddedInteger(_) => Self::WIDE_INTEGER,
            CellKind::Real(value) | CellKind::AddedReal(value) if stays_real(value) => Self::REAL,
            CellKind::Real(_) | CellKind::AddedReal(_) => Self::ODD_REAL,
            CellKind::Number | CellKind::AddedNumber => Self::NUMBER,
            CellKind::Text | CellKind::Unescaped => Self::TEXT,
            CellKind::Json | CellKind::AddedJson => Self::JSON,
            CellKind::List => Self::LIST,
        }
    }

    /// Whether there are none but `null`.
    pub(super) fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Whether [`bind`] has something for every one of them in a column of this type. Where it does not say so, the
    /// values have to be looked at.
    pub(super) fn all_fit(self, column: ColumnType) -> bool {
        let fitting = match column {
            ColumnType::Boolean => Self::BOOL,
            ColumnType::Integer => Self::INTEGER | Self::WIDE_INTEGER | Self::REAL,
            ColumnType::Real => Self::INTEGER | Self::REAL,
            ColumnType::Text => Self::TEXT,
            ColumnType::Json => Self::JSON,
            ColumnType::Number => Self::INTEGER | Self::WIDE_INTEGER | Self::REAL | Self::ODD_REAL | Self::NUMBER,
            ColumnType::Timestamp | ColumnType::AnyJson => 0,
        };
        self.0 & !fitting == 0
    }
}

/// What comes under each key of the rows.
pub(super) fn kinds(rows: &Rows) -> Vec<Kinds> {
    let mut kinds = vec![Kinds::default(); rows.keys().len()];
    for cell in &rows.cells {
        kinds[cell.key as usize].0 |= Kinds::of(cell.kind);
    }
    kinds
}

/// Columns that are ours in every data table; a key of an API that has such a name gets another one.
pub(super) const RESERVED: [&str; 5] = ["_page_id", "_extra", "_parent_id", "_list_idx", "_row_id"];

/// A column name longer than this is cut: it would not be typed by anybody.
pub(super) const NAME_BYTES_MAX: usize = 128;

/// The column for a record key: the key itself, unless it is empty, too long, has a NUL, is one of ours, or is
/// taken in lower or upper case. Then a part of its hash is added.
pub(super) fn column_name(key: &str, taken: &HashSet<String>) -> String {
    let name = cut(key.replace('\0', "_"));
    let folded = name.to_ascii_lowercase();
    if name == key && !key.is_empty() && !RESERVED.contains(&folded.as_str()) && !taken.contains(&folded) {
        return name;
    }
    let suffixed = format!("{name}_{:08x}", stable_hash(key));
    // A server can know the hash. There are fewer names than numbers, so one of these is free.
    let mut number = 1;
    let mut free = suffixed.clone();
    while taken.contains(&free.to_ascii_lowercase()) {
        number += 1;
        free = format!("{suffixed}_{number}");
    }
    free
}

/// A name that is not too long.
pub(super) fn cut(mut name: String) -> String {
    name.truncate(name.floor_char_boundary(NAME_BYTES_MAX));
    name
}

pub(super) fn stable_hash(key: &str) -> u32 {
    // FNV-1a: the name must be the same in every version of the standard library.
    key.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// Quotes a name for SQL. A name with a NUL cannot be written in SQL at all; [`column_name`] lets none through,
/// and the configuration refuses them in tables.
pub(super) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn holds(column: ColumnType, value: Value<'_>) -> Option<rusqlite::types::Value> {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        connection.execute_batch(&format!("CREATE TABLE t (c {})", column.declared())).unwrap();
        let bound = bind(column, value)?;
        connection.execute("INSERT INTO t VALUES (?1)", [bound]).unwrap();
        Some(connection.query_row("SELECT c FROM t", [], |row| row.get(0)).unwrap())
    }

    #[test]
    fn a_column_holds_one_kind_of_value() {
        use ColumnType::{AnyJson, Boolean, Integer, Json, Number, Real, Text, Timestamp};
        let big = Value::Number(b"123456789012345678901234567890");
        let cases: [(Value<'_>, &[ColumnType]); 11] = [
            (Value::Integer(1, b"1"), &[Integer, Real, Number, AnyJson]),
            (Value::Integer((1 << 53) + 1, b"9007199254740993"), &[Integer, Number, AnyJson]),
            (Value::Real(5.5, b"5.5"), &[Integer, Real, Number, AnyJson]),
            (Value::Real(3.953030112181507e17, b"3.953030112181507e17"), &[Real, Number, AnyJson]),
            (big, &[Number, AnyJson]),
            (Value::Real(-0.0, b"-0.0"), &[Number, AnyJson]),
            (Value::Text(b"007"), &[Text, AnyJson]),
            (Value::Text(b"2024-02-29T23:59:60+01:00"), &[Text, Timestamp, AnyJson]),
            (Value::Bool(true), &[Boolean, AnyJson]),
            (Value::Json(b"[1]"), &[Json, AnyJson]),
            (Value::Null, &COLUMN_TYPES),
        ];
        for (value, fitting) in cases {
            for column in COLUMN_TYPES {
                assert_eq!(bind(column, value).is_some(), fitting.contains(&column), "{value:?} in {column:?}");
            }
        }
        assert_eq!(holds(Number, big), Some("123456789012345678901234567890".to_owned().into()));
        assert_eq!(holds(Integer, Value::Real(5.5, b"5.5")), Some(5.5.into()));
        assert_eq!(holds(Text, Value::Text(b"007")), Some("007".to_owned().into()));
        assert_eq!(holds(AnyJson, Value::Text(b"a\"7")), Some(r#""a\"7""#.to_owned().into()));
        assert_eq!(holds(AnyJson, Value::Bool(true)), Some("true".to_owned().into()));
    }

    #[test]
    fn what_the_kinds_of_a_page_say_is_what_its_values_say() {
        const VALUES: &str = r#"[1, 9007199254740993, -9223372036854775808, 5.5, 1e300, -0.0, 3.953030112181507e17,
            123456789012345678901234567890, "x", "\u00e9", true, null, [1], {"a":1}, []]"#;
        let values: Vec<&serde_json::value::RawValue> = serde_json::from_str(VALUES).unwrap();
        for value in values {
            let text = crate::page::Text::new(format!(r#"{{"a":{value}}}"#).into()).unwrap();
            let rows = crate::decode::decode(&text, &[text.as_str()]).unwrap();
            let kind = kinds(&rows)[0];
            for column in COLUMN_TYPES {
                let fits = bind(column, rows.get(0, "a").unwrap()).is_some();
                assert!(fits || !kind.all_fit(column), "{value} in {column:?}");
            }
            assert_eq!(kind.is_none(), value.get() == "null");
            let own = ColumnType::of(rows.get(0, "a").unwrap());
            let odd = ["-0.0", "1e300", "3.953030112181507e17"].contains(&value.get());
            assert!(odd || own.is_none_or(|own| kind.all_fit(own)), "{value} is looked at in its own column");
        }
    }

    #[test]
    fn of_two_kinds_on_the_first_page_the_first_one_names_the_column() {
        use ColumnType::{Boolean, Integer, Json, Number, Real, Text};
        for (first, second, joined) in [
            (Integer, Real, Real),
            (Real, Number, Number),
            (Number, Integer, Number),
            (Integer, Text, Integer),
            (Text, Integer, Text),
            (Boolean, Integer, Boolean),
            (Json, Text, Json),
        ] {
            assert_eq!(first.join(second), joined, "{first:?} {second:?}");
        }
    }

    #[test]
    fn names_are_kept_where_sqlite_can_tell_them_apart() {
        let taken = HashSet::from(["id".to_owned()]);
        for (key, name) in [("name", "name"), ("_id", "_id"), ("select", "select"), ("a\"b", "a\"b"), ("é", "é")] {
            assert_eq!(column_name(key, &taken), name);
        }
        for key in ["ID", "", "_page_id", "_EXTRA", "a\0b"] {
            let name = column_name(key, &taken);
            assert_ne!(name, key);
            assert_eq!(name, column_name(key, &taken), "the same key has the same name again");
        }
        assert!(column_name(&"é".repeat(200), &taken).len() < 160);
    }

    proptest! {
        #[test]
        fn a_text_is_stored_byte_for_byte_or_is_a_misfit(text in "[ \t\x0b+.0-9eExX-]{0,6}|\\PC{0,6}|[0-9]{1,25}") {
            for column in COLUMN_TYPES.into_iter().filter(|column| *column != ColumnType::AnyJson) {
                if let Some(stored) = holds(column, Value::Text(text.as_bytes())) {
                    prop_assert_eq!(stored, rusqlite::types::Value::Text(text.clone()), "{:?}", column);
                }
            }
        }

        #[test]
        fn a_column_name_is_one_name_in_sql(key in "\\PC{0,10}|[\"'\\]\\[;)(\0 a-z]{0,10}") {
            let connection = rusqlite::Connection::open_in_memory().unwrap();
            let name = column_name(&key, &HashSet::new());
            connection.execute_batch(&format!("CREATE TABLE t ({} TEXT)", quote(&name))).unwrap();
            let found: String =
                connection.query_row("SELECT group_concat(name) FROM pragma_table_info('t')", [], |row| row.get(0)).unwrap();
            prop_assert_eq!(found, name);
            let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).unwrap();
            prop_assert_eq!(tables, 1);
        }
    }
}
