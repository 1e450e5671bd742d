//! One data table: its columns as the file and `_hw_columns` have them, and the statement that writes a row.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, params};

use super::DbError;
use super::columns::{ColumnType, column_name, quote};
use super::error::PageError;
use super::history::table_exists;
use super::keys::key_column_type;
use crate::page::{Rows, Target, WriteDisposition};

/// More columns than this would make every row slow to read; what further keys hold goes to `_extra`.
/// SQLite's own limit is 2,000.
const COLUMNS_MAX: usize = 500;

/// Said of a table that someone else has made.
pub(super) const NOT_OURS: &str = "was not made by highwater; give the resource another `table`";

/// One column of a data table that records fill.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) source_key: String,
    pub(super) column_type: ColumnType,
}

/// A data table.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
    pub(super) by_key: HashMap<String, usize>,
    /// Columns of the primary key, in its order.
    pub(super) primary_key: Vec<usize>,
    pub(super) has_extra: bool,
    /// Writes one row: `_page_id`, then the columns, then `_extra` where there is one.
    pub(super) write_sql: String,
    names: HashSet<String>,
}

/// The table as it is in the file; `None` where it does not exist.
pub(super) fn load(connection: &Connection, name: &str, target: &Target) -> Result<Option<Table>, DbError> {
    if !table_exists(connection, name)? {
        // What is noted of a table that a user has dropped goes with it.
        connection.execute("DELETE FROM _hw_columns WHERE \"table\" = ?1", [name])?;
        return Ok(None);
    }
    // The same for a column that a user has dropped.
    connection.execute(
        "DELETE FROM _hw_columns WHERE \"table\" = ?1 AND \"column\" NOT IN (SELECT name FROM pragma_table_info(?1))",
        [name],
    )?;
    let mut statement = connection.prepare(
        "SELECT c.\"column\", c.source_key, c.type FROM _hw_columns c
         JOIN pragma_table_info(?1) t ON c.\"column\" = t.name WHERE c.\"table\" = ?1 ORDER BY c.rowid",
    )?;
    let columns: Vec<Column> = statement
        .query_map([name], |row| {
            let column_type: String = row.get(2)?;
            Ok(Column {
                name: row.get(0)?,
                source_key: row.get(1)?,
                column_type: ColumnType::from_str(&column_type).unwrap_or(ColumnType::Text),
            })
        })?
        .collect::<Result<_, _>>()?;
    let mut table = Table { name: name.to_owned(), ..Table::default() };
    let mut statement = connection.prepare("SELECT name FROM pragma_table_info(?1)")?;
    for found in statement.query_map([name], |row| row.get::<_, String>(0))? {
        table.names.insert(found?.to_ascii_lowercase());
    }
    let taken = |why: String| DbError::TableTaken { resource: target.id.to_string(), table: name.to_owned(), why };
    if !table.names.contains("_page_id") {
        return Err(taken(NOT_OURS.to_owned()));
    }
    table.has_extra = table.names.contains("_extra");
    for column in columns {
        table.push(column);
    }
    table.find_primary_key(target);
    // A replaced table has the key that its next generation will have.
    let is_replaced = target.disposition == WriteDisposition::Replace && name == target.table;
    if !is_replaced && table.unique_columns(target) != unique_columns(connection, name)? {
        return Err(taken(format!(
            "was made with another primary_key or write_disposition; run `highwater reset --drop-rows {}` to read it \
             from the start",
            target.id
        )));
    }
    table.write_sql = write_sql(&table, target.disposition);
    Ok(Some(table))
}

/// The columns of the table's PRIMARY KEY, as the file says.
fn unique_columns(connection: &Connection, table: &str) -> Result<Vec<String>, DbError> {
    let mut statement = connection.prepare("SELECT name FROM pragma_table_info(?1) WHERE pk > 0 ORDER BY pk")?;
    Ok(statement.query_map([table], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

impl Table {
    fn push(&mut self, column: Column) {
        self.by_key.insert(column.source_key.clone(), self.columns.len());
        self.names.insert(column.name.to_ascii_lowercase());
        self.columns.push(column);
    }

    /// The columns that no two rows share.
    fn unique_columns(&self, target: &Target) -> Vec<String> {
        if target.disposition == WriteDisposition::Append {
            return Vec::new();
        }
        self.primary_key.iter().map(|column| self.columns[*column].name.clone()).collect()
    }

    fn find_primary_key(&mut self, target: &Target) {
        self.primary_key = target.primary_key.iter().filter_map(|key| self.by_key.get(key).copied()).collect();
    }
}

/// Makes the table with the columns of its key; `None` where no record has the whole key. The next generation of a
/// replaced table starts with all columns of the one `before` it, so that they keep their types and do not vanish.
pub(super) fn create(
    transaction: &Connection,
    name: &str,
    target: &Target,
    before: Option<&Table>,
    rows: &Rows,
    page_id: i64,
) -> Result<Option<Table>, PageError> {
    let mut table = Table { name: name.to_owned(), ..Table::default() };
    table.names.insert("_page_id".to_owned());
    for key in &target.primary_key {
        let Some(column_type) = key_column_type(rows, key)? else { return Ok(None) };
        table.push(Column { name: column_name(key, &table.names), source_key: key.clone(), column_type });
    }
    table.find_primary_key(target);
    let mut definitions: Vec<String> = table
        .columns
        .iter()
        .map(|column| format!("{} {} NOT NULL", quote(&column.name), column.column_type.declared()))
        .collect();
    definitions.push("\"_page_id\" INTEGER NOT NULL".to_owned());
    match table.unique_columns(target).as_slice() {
        [] => {}
        // An INTEGER PRIMARY KEY is the rowid itself: no second index.
        [_] => definitions[0].push_str(" PRIMARY KEY"),
        names => {
            let names: Vec<_> = names.iter().map(|name| quote(name)).collect();
            definitions.push(format!("PRIMARY KEY ({})", names.join(", ")));
        }
    }
    transaction.execute_batch(&format!("CREATE TABLE {} ({})", quote(name), definitions.join(", ")))?;
    for column in &table.columns {
        record_column(transaction, name, column, page_id)?;
    }
    for column in before.into_iter().flat_map(|before| &before.columns) {
        if !table.by_key.contains_key(&column.source_key) {
            let mut column = column.clone();
            if table.names.contains(&column.name.to_ascii_lowercase()) {
                column.name = column_name(&column.source_key, &table.names);
            }
            add_column(transaction, &mut table, column, page_id)?;
        }
    }
    Ok(Some(table))
}

/// Adds a column for each key that has none and a value that says its type. A field that has only ever been null
/// has no column yet.
pub(super) fn add_columns(
    transaction: &Connection,
    table: &mut Table,
    rows: &Rows,
    page_id: i64,
) -> Result<bool, DbError> {
    let unknown: Vec<bool> = rows.keys().iter().map(|key| !table.by_key.contains_key(key)).collect();
    let mut types: Vec<Option<ColumnType>> = vec![None; unknown.len()];
    for row in 0..rows.len() {
        for (key, value) in rows.row(row).filter(|(key, _)| unknown[*key]) {
            types[key] = match (types[key], ColumnType::of(value)) {
                (Some(before), Some(now)) => Some(before.join(now)),
                (before, now) => before.or(now),
            };
        }
    }
    let mut added = false;
    for (key, column_type) in rows.keys().iter().zip(types) {
        if let Some(column_type) = column_type
            && table.columns.len() < COLUMNS_MAX
        {
            let name = column_name(key, &table.names);
            add_column(transaction, table, Column { name, source_key: key.clone(), column_type }, page_id)?;
            added = true;
        }
    }
    Ok(added)
}

fn add_column(transaction: &Connection, table: &mut Table, column: Column, page_id: i64) -> Result<(), DbError> {
    transaction.execute_batch(&format!(
        "ALTER TABLE {} ADD COLUMN {} {}",
        quote(&table.name),
        quote(&column.name),
        column.column_type.declared()
    ))?;
    record_column(transaction, &table.name, &column, page_id)?;
    table.push(column);
    Ok(())
}

fn record_column(transaction: &Connection, table: &str, column: &Column, page_id: i64) -> Result<(), DbError> {
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO _hw_columns (\"table\", \"column\", source_key, type, first_page_id)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![table, column.name, column.source_key, column.column_type.as_str(), page_id])?;
    Ok(())
}

/// Adds the column for values that fit no other.
pub(super) fn add_extra(transaction: &Connection, table: &mut Table) -> Result<(), DbError> {
    transaction.execute_batch(&format!("ALTER TABLE {} ADD COLUMN \"_extra\" TEXT", quote(&table.name)))?;
    table.has_extra = true;
    Ok(())
}

/// The statement that writes one row. With a key, a row that is there is changed only where it differs.
pub(super) fn write_sql(table: &Table, disposition: WriteDisposition) -> String {
    let mut names: Vec<String> = vec![quote("_page_id")];
    names.extend(table.columns.iter().map(|column| quote(&column.name)));
    if table.has_extra {
        names.push(quote("_extra"));
    }
    let places: Vec<String> = (1..=names.len()).map(|place| format!("?{place}")).collect();
    let mut sql = format!("INSERT INTO {} ({}) VALUES ({})", quote(&table.name), names.join(", "), places.join(", "));
    if table.primary_key.is_empty() || disposition == WriteDisposition::Append {
        return sql;
    }
    let key: Vec<&String> = table.primary_key.iter().map(|column| &names[column + 1]).collect();
    let rest: Vec<&String> = names[1..].iter().filter(|name| !key.contains(name)).collect();
    let key_list = key.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    if rest.is_empty() {
        sql.push_str(&format!(" ON CONFLICT ({key_list}) DO NOTHING"));
        return sql;
    }
    let sets: Vec<String> =
        names.iter().filter(|name| !key.contains(name)).map(|name| format!("{name} = excluded.{name}")).collect();
    let differs: Vec<String> = rest.iter().map(|name| format!("{name} IS NOT excluded.{name}")).collect();
    sql.push_str(&format!(
        " ON CONFLICT ({key_list}) DO UPDATE SET {} WHERE {}",
        sets.join(", "),
        differs.join(" OR ")
    ));
    sql
}
