//! What must hold of the file, whatever records are called and whatever they say.

use std::cell::RefCell;
use std::collections::HashSet;

use rusqlite::Connection;
use rusqlite::types::Value as Stored;
use serde_json::{Map, Value as Json};

use super::columns::{COLUMN_TYPES, ColumnType, bind, kinds, quote};
use super::hints::read_as;
use super::place::Place;
use super::schema::{ADDED, SCHEMA};
use super::sqlite;
use super::table::Table;
use super::tables::Tables;
use super::writer::RowWriter;
use crate::page::{HintType, Rows, Target, Value};

/// All that a user can call a column.
const HINTS: [HintType; 6] =
    [HintType::Integer, HintType::Real, HintType::Text, HintType::Boolean, HintType::Timestamp, HintType::Json];

thread_local! {
    /// A table with a column of each type.
    static COLUMNS: RefCell<Connection> = RefCell::new(one_of_each());
    /// A file that nothing has been read into.
    static EMPTY: RefCell<Connection> = RefCell::new(empty());
}

fn one_of_each() -> Connection {
    let connection = Connection::open_in_memory().expect("memory");
    let columns: Vec<String> =
        COLUMN_TYPES.iter().map(|column| format!("{} {}", column.as_str(), column.declared())).collect();
    connection
        .execute_batch(&format!("CREATE TABLE t (id INTEGER PRIMARY KEY, {})", columns.join(", ")))
        .expect("a table");
    connection
}

fn empty() -> Connection {
    let connection = Connection::open_in_memory().expect("memory");
    connection.execute_batch(SCHEMA).and_then(|()| connection.execute_batch(ADDED)).expect("the schema");
    connection
}

/// What a column takes can be read back from SQLite as what came, with the column's own type and with each that a user
/// can give it.
///
/// # Panics
/// When that is not so.
pub(crate) fn is_kept_by_all(value: Value<'_>) {
    for column in COLUMN_TYPES {
        is_kept(column, value);
    }
    for hint in HINTS {
        if let Some(read) = read_as(hint, value) {
            is_kept(hint.into(), read);
        }
    }
}

fn is_kept(column: ColumnType, value: Value<'_>) {
    let Some(bound) = bind(column, value) else { return };
    let stored: Stored = COLUMNS.with_borrow(|connection| {
        let name = column.as_str();
        let sql = format!("INSERT OR REPLACE INTO t (id, {name}) VALUES (1, ?1)");
        connection.prepare_cached(&sql).and_then(|mut insert| insert.execute([bound])).expect("a value that binds");
        let sql = format!("SELECT {name} FROM t");
        let mut select = connection.prepare_cached(&sql).expect("a column");
        select.query_row([], |row| row.get(0)).expect("the row that was just written")
    });
    assert!(says(column, &stored, value), "{value:?} is {stored:?} in {column:?}");
}

/// Whether what is stored says what came.
fn says(column: ColumnType, stored: &Stored, value: Value<'_>) -> bool {
    match (stored, value) {
        (Stored::Null, Value::Null) => true,
        (Stored::Integer(stored), Value::Bool(value)) => *stored == i64::from(value),
        (Stored::Integer(stored), Value::Integer(value, _)) => *stored == value,
        (Stored::Real(stored), Value::Integer(value, _)) => *stored as i128 == i128::from(value),
        (Stored::Real(stored), Value::Real(value, _)) => stored.to_bits() == value.to_bits(),
        (Stored::Integer(stored), Value::Real(value, _)) => {
            *stored as f64 == value && (*stored as f64) as i128 == i128::from(*stored) && value.to_bits() != 1 << 63
        }
        (Stored::Text(stored), Value::Text(text)) if column == ColumnType::AnyJson => {
            serde_json::from_str::<String>(stored).is_ok_and(|said| said.as_bytes() == text)
        }
        (Stored::Text(stored), Value::Bool(value)) => *stored == value.to_string(),
        (
            Stored::Text(stored),
            Value::Integer(_, text)
            | Value::Real(_, text)
            | Value::Number(text)
            | Value::Text(text)
            | Value::Json(text)
            | Value::List(text),
        ) => stored.as_bytes() == text,
        _ => false,
    }
}

/// SQLite takes the tables that are made for the one record of `rows`, no two keys share a column, nothing but these
/// tables is made, the same record finds them again, and its values are where they belong.
///
/// # Panics
/// When that is not so.
pub(crate) fn has_tables(target: &Target, rows: &Rows, record: &Map<String, Json>) {
    EMPTY.with_borrow(|connection| {
        // Taken back when it is dropped, so that the next record finds the file empty.
        let transaction = sqlite::begin(connection).expect("memory");
        has_tables_in(&transaction, target, rows, record);
    });
}

fn has_tables_in(connection: &Connection, target: &Target, rows: &Rows, record: &Map<String, Json>) {
    let place = Place::written(target);
    let mut tables = Tables::default();
    let made = tables.prepare(connection, &place, rows, 1).expect("names that SQLite takes");
    assert!(made, "a record without a key");
    let names = names_are_told_apart(connection, &place.name);
    let shape = shape_of(tables.known(&place.name));
    let ours = |name: &String| *name == place.name || name.starts_with(&format!("{}__", place.name));
    let found = data_tables(connection);
    assert!(found.iter().all(ours), "{found:?}");
    let mut again = Tables::default();
    assert!(again.prepare(connection, &place, rows, 2).expect("the same record again"));
    assert_eq!(names_are_told_apart(connection, &place.name), names);
    assert_eq!(shape_of(again.known(&place.name)), shape);
    assert_eq!(data_tables(connection), found);
    values_are_where_they_belong(connection, &tables, place, rows, record);
}

/// Keys with their columns, and keys with their child tables.
fn shape_of(table: &Table) -> [Vec<(String, String)>; 2] {
    let columns = table.columns.iter().map(|column| (column.source_key.clone(), column.name.clone()));
    let children = table.children.clone().into_iter();
    let mut shape = [columns.collect::<Vec<_>>(), children.collect()];
    shape.iter_mut().for_each(|names| names.sort());
    shape
}

fn texts(connection: &Connection, sql: &str, name: &str) -> Vec<String> {
    let mut statement = connection.prepare(sql).expect("a query");
    let found = statement.query_map([name], |row| row.get(0)).expect("a query");
    found.collect::<Result<_, _>>().expect("texts")
}

fn names_are_told_apart(connection: &Connection, table: &str) -> Vec<String> {
    let names = texts(connection, "SELECT name FROM pragma_table_info(?1)", table);
    let folded: HashSet<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
    assert_eq!(folded.len(), names.len(), "{names:?}");
    assert!(names.iter().any(|name| name == "_page_id"), "{names:?}");
    names
}

/// The tables of data: all but the bookkeeping and SQLite's own.
fn data_tables(connection: &Connection) -> Vec<String> {
    let sql =
        "SELECT name FROM sqlite_schema WHERE type = ?1 AND name NOT GLOB '_hw_[a-mo-z]*' AND name NOT GLOB 'sqlite_*'";
    texts(connection, sql, "table")
}

fn values_are_where_they_belong(
    connection: &Connection,
    tables: &Tables,
    place: Place<'_>,
    rows: &Rows,
    record: &Map<String, Json>,
) {
    let table = place.name.clone();
    let mut writer = RowWriter::new(connection, tables, place, rows, &kinds(rows), 1).expect("a table that was made");
    writer.fill(0);
    writer.write().expect("a row");
    drop(writer);
    for (key, column) in &tables.known(&table).by_key {
        let name = &tables.known(&table).columns[*column].name;
        let sql = format!("SELECT {} FROM {}", quote(name), quote(&table));
        let stored: Stored = connection.query_row(&sql, [], |row| row.get(0)).expect("the column");
        let same = match &record[key] {
            Json::String(text) => stored == Stored::Text(text.clone()),
            Json::Number(number) if number.is_i64() => Some(stored) == number.as_i64().map(Stored::Integer),
            Json::Number(number) => Some(stored) == number.as_f64().map(Stored::Real),
            list => stored == Stored::Text(list.to_string()),
        };
        assert!(same, "{key:?} is not in {name:?}");
    }
}
