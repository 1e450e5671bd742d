//! A data table: its columns, how many rows it has, and the newest of them with the requests they came from.

use jiff::Timestamp;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;
use serde_json::Value;

use super::super::DbError;
use super::super::columns::quote;
use super::super::due::time;
use super::super::family;
use super::super::history::table_exists;
use super::cut;

/// Rows that are shown.
const ROWS_SHOWN: usize = 20;

/// Characters of a value; the table has the whole of it.
const VALUE_MAX: usize = 500;

/// A table of a resource, or of the lists in its records.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TableView {
    /// Its name.
    pub name: String,
    /// The source.
    pub source: String,
    /// The resource in it.
    pub resource: String,
    /// The tables of the lists in its rows.
    pub child_tables: Vec<String>,
    /// The table that its rows are lists of, where it is a child table.
    pub parent_table: Option<String>,
    /// How many rows highwater wrote into it; none for child tables, whose rows are not counted.
    pub rows: Option<u64>,
    /// Its columns, in their order.
    pub columns: Vec<ColumnView>,
    /// The rows with the highest rowids, the highest first.
    pub newest: Vec<RowView>,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ColumnView {
    /// Its name.
    pub name: String,
    /// The key that its values came from; none for a column that is not of the records.
    pub source_key: Option<String>,
    /// What kind of values it holds; where it is not of the records, as it was declared.
    pub r#type: String,
}

/// A row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RowView {
    /// A value for each column, long texts cut.
    pub values: Vec<Value>,
    /// The page that it came from last.
    pub page_id: Option<i64>,
    /// Where that came from, without secrets.
    pub url: Option<String>,
    /// When.
    pub fetched_at: Option<Timestamp>,
}

/// Looks at the table of this name.
pub(super) fn look(connection: &Connection, name: &str) -> Result<Option<TableView>, DbError> {
    if !table_exists(connection, name)? {
        return Ok(None);
    }
    // From a child table up to the one of its resource; no table of records is nested deeper than this.
    const DEPTH_MAX: usize = 32;
    let parent_table = family::parent_of(connection, name)?;
    let (mut top, mut above) = (name.to_owned(), parent_table.clone());
    for _ in 0..DEPTH_MAX {
        let Some(parent) = above else { break };
        above = family::parent_of(connection, &parent)?;
        top = parent;
    }
    let owner = connection
        .prepare_cached("SELECT source, resource, rows, \"table\" FROM _hw_resources WHERE \"table\" = ?1")?
        .query_row([&top], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((source, resource, rows)) = owner else { return Ok(None) };
    let columns = columns(connection, name)?;
    let newest = newest(connection, name, &columns)?;
    let child_tables = child_tables(connection, name)?;
    let rows = parent_table.is_none().then_some(rows);
    Ok(Some(TableView { name: name.to_owned(), source, resource, child_tables, parent_table, rows, columns, newest }))
}

fn columns(connection: &Connection, table: &str) -> Result<Vec<ColumnView>, DbError> {
    let mut statement = connection.prepare_cached(
        "SELECT t.name, c.source_key, coalesce(c.type, t.type) FROM pragma_table_info(?1) t
         LEFT JOIN _hw_columns c ON c.\"table\" = ?1 AND c.\"column\" = t.name AND c.type <> 'table' ORDER BY t.cid",
    )?;
    let columns = statement
        .query_map([table], |row| Ok(ColumnView { name: row.get(0)?, source_key: row.get(1)?, r#type: row.get(2)? }))?;
    Ok(columns.collect::<Result<_, _>>()?)
}

fn child_tables(connection: &Connection, table: &str) -> Result<Vec<String>, DbError> {
    let sql = "SELECT \"column\" FROM _hw_columns WHERE \"table\" = ?1 AND type = 'table' ORDER BY rowid";
    let mut statement = connection.prepare_cached(sql)?;
    let names = statement.query_map([table], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

fn newest(connection: &Connection, table: &str, columns: &[ColumnView]) -> Result<Vec<RowView>, DbError> {
    // A column of the records can have one of these names, but hardly all.
    let is_column = |name: &&str| columns.iter().any(|column| column.name.eq_ignore_ascii_case(name));
    let Some(rowid) = ["rowid", "_rowid_", "oid"].into_iter().find(|name| !is_column(name)) else {
        return Ok(Vec::new());
    };
    let page_id = columns.iter().position(|column| column.name.eq_ignore_ascii_case("_page_id"));
    let names = columns.iter().map(|column| quote(&column.name)).collect::<Vec<_>>().join(", ");
    let sql = format!("SELECT {names} FROM {} ORDER BY {rowid} DESC LIMIT ?1", quote(table));
    let mut statement = connection.prepare(&sql)?;
    let mut page = connection.prepare_cached("SELECT url, fetched_at FROM _hw_pages WHERE page_id = ?1")?;
    let mut rows = statement.query(params![ROWS_SHOWN])?;
    let mut newest = Vec::new();
    while let Some(row) = rows.next()? {
        let page_id: Option<i64> = page_id.and_then(|column| row.get_ref(column).ok()?.as_i64().ok());
        let came = page.query_row([page_id], |row| Ok((row.get(0)?, time(row.get(1)?)))).optional()?;
        let (url, fetched_at) = came.unwrap_or_default();
        newest.push(RowView { values: values(row, columns)?, page_id, url, fetched_at });
    }
    Ok(newest)
}

fn values(row: &Row<'_>, columns: &[ColumnView]) -> rusqlite::Result<Vec<Value>> {
    let values = columns.iter().enumerate().map(|(number, column)| {
        Ok(match row.get_ref(number)? {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(value @ (0 | 1)) if column.r#type == "boolean" => Value::Bool(value == 1),
            ValueRef::Integer(value) => value.into(),
            ValueRef::Real(value) => value.into(),
            ValueRef::Text(text) => shown(&String::from_utf8_lossy(text)).into(),
            ValueRef::Blob(bytes) => format!("{} bytes", bytes.len()).into(),
        })
    });
    values.collect()
}

fn shown(text: &str) -> String {
    match cut(text, VALUE_MAX) {
        (whole, true) => whole,
        (beginning, false) => beginning + "…",
    }
}
