//! Data tables as they are in the file: their columns, and the statements that write them. Kept between commits,
//! and forgotten whenever a transaction fails.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::hooks::Action;
use rusqlite::{Connection, Transaction, params};

use super::DbError;
use super::columns::{ColumnType, column_name, key_type, quote, takes_key};
use super::history::table_exists;
use super::write::PageError;
use crate::page::{Rows, Target, Value, WriteDisposition};

/// More columns than this would make every row slow to read; what further keys hold goes to `_extra`.
/// SQLite's own limit is 2,000.
const COLUMNS_MAX: usize = 500;

/// Said of a table that someone else has made.
pub(super) const NOT_OURS: &str = "was not made by highwater; give the resource another `table`";

/// The table in which the next generation of a replaced table grows.
pub(super) fn staging_table(table: &str) -> String {
    format!("_hw_next_{table}")
}

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

/// What a statement did to the row it was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowChange {
    Inserted,
    Updated,
    Unchanged,
}

/// Everything the writer knows about its tables.
#[derive(Debug, Default)]
pub(super) struct Tables {
    known: HashMap<String, Table>,
    watched: Arc<Watched>,
    bytes_since_checkpoint: u64,
}

/// Set by SQLite's update hook: tells an insert from an update in an upsert.
#[derive(Debug, Default)]
struct Watched {
    table: Mutex<String>,
    action: AtomicU8,
}

const NOTHING: u8 = 0;
const INSERT: u8 = 1;
const UPDATE: u8 = 2;

impl Tables {
    /// Asks SQLite to tell which rows are inserted and which are updated.
    pub(super) fn watch(&self, connection: &Connection) -> Result<(), DbError> {
        let watched = Arc::clone(&self.watched);
        connection.update_hook(Some(move |action: Action, _: &str, table: &str, _| {
            // Triggers of the user can change other tables in the same statement, and this one after it.
            if watched.action.load(Ordering::Relaxed) == NOTHING
                && *watched.table.lock().unwrap_or_else(PoisonError::into_inner) == table
            {
                let seen = if action == Action::SQLITE_INSERT { INSERT } else { UPDATE };
                watched.action.store(seen, Ordering::Relaxed);
            }
        }))?;
        Ok(())
    }

    /// Counts `bytes` more of pages, and says how many were stored since the WAL was last moved into the file.
    pub(super) fn written_since_checkpoint(&mut self, bytes: u64) -> u64 {
        self.bytes_since_checkpoint += bytes;
        self.bytes_since_checkpoint
    }

    /// The WAL has been moved into the file.
    pub(super) fn checkpointed(&mut self) {
        self.bytes_since_checkpoint = 0;
    }

    /// Says which table the following rows are for.
    pub(super) fn watch_table(&self, table: &str) {
        table.clone_into(&mut self.watched.table.lock().unwrap_or_else(PoisonError::into_inner));
        self.watched.action.store(NOTHING, Ordering::Relaxed);
    }

    /// What the statement that has just run did.
    pub(super) fn row_change(&self) -> RowChange {
        match self.watched.action.swap(NOTHING, Ordering::Relaxed) {
            INSERT => RowChange::Inserted,
            UPDATE => RowChange::Updated,
            _ => RowChange::Unchanged,
        }
    }

    /// Forgets everything: the file may not hold what a failed transaction made.
    pub(super) fn forget(&mut self) {
        self.known.clear();
    }

    /// The table as it is in the file; `None` where it does not exist.
    pub(super) fn get(
        &mut self,
        connection: &Connection,
        name: &str,
        target: &Target,
    ) -> Result<Option<&Table>, DbError> {
        if !self.known.contains_key(name) {
            let Some(table) = load(connection, name, target)? else { return Ok(None) };
            self.known.insert(name.to_owned(), table);
        }
        Ok(self.known.get(name))
    }

    /// The table with a column for every key of `rows`, made or extended inside the transaction.
    pub(super) fn prepare(
        &mut self,
        transaction: &Connection,
        name: &str,
        target: &Target,
        rows: &Rows,
        page_id: i64,
    ) -> Result<&Table, PageError> {
        let existing = self.get(transaction, name, target)?.cloned();
        let missing = match &existing {
            Some(table) => rows.keys().iter().any(|key| !table.by_key.contains_key(key)),
            None => true,
        };
        if missing {
            let is_new = existing.is_none();
            let mut table = match existing {
                Some(table) => table,
                None => create(self, transaction, name, target, rows, page_id)?,
            };
            let added = add_columns(transaction, &mut table, rows, page_id)?;
            if added || is_new {
                table.write_sql = write_sql(&table, target.disposition);
                self.known.insert(name.to_owned(), table);
            }
        }
        Ok(&self.known[name])
    }

    /// Adds the column for values that fit no other.
    pub(super) fn add_extra(&mut self, transaction: &Connection, name: &str, target: &Target) -> Result<(), DbError> {
        let table = self.known.get_mut(name).expect("prepared before its rows are written");
        if !table.has_extra {
            transaction.execute_batch(&format!("ALTER TABLE {} ADD COLUMN \"_extra\" TEXT", quote(name)))?;
            table.has_extra = true;
            table.write_sql = write_sql(table, target.disposition);
        }
        Ok(())
    }

    /// A table that [`Tables::prepare`] has prepared.
    pub(super) fn known(&self, name: &str) -> &Table {
        &self.known[name]
    }

    /// Removes a table, if it is there, and what is known about it.
    pub(super) fn drop_table(&mut self, transaction: &Connection, name: &str) -> Result<(), DbError> {
        self.known.remove(name);
        transaction.execute_batch(&format!("DROP TABLE IF EXISTS {}", quote(name)))?;
        transaction.execute("DELETE FROM _hw_columns WHERE \"table\" = ?1", [name])?;
        Ok(())
    }

    /// Puts the generation that has grown in the staging table in the place of the table. Indexes and triggers
    /// that a user made on the table are made again on the new one.
    pub(super) fn swap(&mut self, transaction: &Transaction<'_>, target: &Target) -> Result<(), PageError> {
        let staging = staging_table(&target.table);
        let exists = table_exists(transaction, &target.table)?;
        if !table_exists(transaction, &staging)? {
            // The new generation is empty.
            if exists {
                transaction.execute_batch(&format!("DELETE FROM {}", quote(&target.table)))?;
            }
            return Ok(());
        }
        let mut statement = transaction.prepare(
            "SELECT sql FROM sqlite_schema WHERE tbl_name = ?1 COLLATE NOCASE AND type IN ('index', 'trigger')
             AND sql IS NOT NULL",
        )?;
        let made_by_user: Vec<String> =
            statement.query_map([&target.table], |row| row.get(0))?.collect::<Result<_, _>>()?;
        drop(statement);
        self.drop_table(transaction, &target.table)?;
        self.known.remove(&staging);
        transaction.execute_batch(&format!("ALTER TABLE {} RENAME TO {}", quote(&staging), quote(&target.table)))?;
        transaction
            .execute("UPDATE _hw_columns SET \"table\" = ?2 WHERE \"table\" = ?1", params![staging, target.table])?;
        for sql in made_by_user {
            transaction.execute_batch(&sql)?;
        }
        Ok(())
    }
}

fn load(connection: &Connection, name: &str, target: &Target) -> Result<Option<Table>, DbError> {
    if !table_exists(connection, name)? {
        connection.execute("DELETE FROM _hw_columns WHERE \"table\" = ?1", [name])?;
        return Ok(None);
    }
    let mut statement = connection.prepare(
        "SELECT c.\"column\", c.source_key, c.type FROM _hw_columns c
         JOIN pragma_table_info(?1) t ON t.name = c.\"column\" WHERE c.\"table\" = ?1 ORDER BY c.rowid",
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

/// Makes the table with the columns of its key. The next generation of a replaced table starts with all columns of
/// the one before, so that columns keep their types and do not vanish.
fn create(
    tables: &mut Tables,
    transaction: &Connection,
    name: &str,
    target: &Target,
    rows: &Rows,
    page_id: i64,
) -> Result<Table, PageError> {
    let mut table = Table { name: name.to_owned(), ..Table::default() };
    table.names.insert("_page_id".to_owned());
    for key in &target.primary_key {
        let column_type = key_column_type(rows, key)?;
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
    let before = if name == target.table { None } else { tables.get(transaction, &target.table, target)?.cloned() };
    for column in &table.columns {
        record_column(transaction, name, column, page_id)?;
    }
    for column in before.iter().flat_map(|before| &before.columns) {
        if !table.by_key.contains_key(&column.source_key) {
            let mut column = column.clone();
            if table.names.contains(&column.name.to_ascii_lowercase()) {
                column.name = column_name(&column.source_key, &table.names);
            }
            add_column(transaction, &mut table, column, page_id)?;
        }
    }
    Ok(table)
}

/// The type of a key column, which all keys of the page must share.
fn key_column_type(rows: &Rows, key: &str) -> Result<ColumnType, PageError> {
    let mut found = None;
    for row in 0..rows.len() {
        let Some(column_type) = rows.get(row, key).and_then(key_type) else { continue };
        found = match found {
            None => Some(column_type),
            Some(before) if takes_key(before, column_type) => Some(before),
            Some(before) if takes_key(column_type, before) => Some(column_type),
            Some(before) => return Err(PageError::key_type(key, before, column_type)),
        };
    }
    found.ok_or(PageError::NoKeyedRecord)
}

/// Adds a column for each key that has none and a value that says its type. A field that has only ever been null
/// has no column yet.
fn add_columns(transaction: &Connection, table: &mut Table, rows: &Rows, page_id: i64) -> Result<bool, DbError> {
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

/// The statement that writes one row. With a key, a row that is there is changed only where it differs.
fn write_sql(table: &Table, disposition: WriteDisposition) -> String {
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

/// The values of a row's key, in the order of the key; `Err` names what is wrong with it.
pub(super) fn key_values<'a>(
    table: &Table,
    target: &Target,
    values: &[Value<'a>],
) -> Result<Vec<Value<'a>>, KeyProblem> {
    let mut key = Vec::with_capacity(table.primary_key.len());
    for (column, name) in table.primary_key.iter().zip(&target.primary_key) {
        let value = values[*column];
        let column_type = table.columns[*column].column_type;
        match key_type(value) {
            None => return Err(KeyProblem::Reject(no_key(value))),
            Some(found) if takes_key(column_type, found) => key.push(value),
            Some(found) => return Err(KeyProblem::Fail(PageError::key_type(name, column_type, found))),
        }
    }
    Ok(key)
}

/// Why a record of a page on which none has the whole key is set aside.
pub(super) fn why_keyless(rows: &Rows, row: usize, target: &Target) -> &'static str {
    let mut key = target.primary_key.iter().map(|key| rows.get(row, key).unwrap_or(Value::Null));
    key.find(|value| key_type(*value).is_none()).map_or("key_missing", no_key)
}

fn no_key(value: Value<'_>) -> &'static str {
    if value == Value::Null { "key_missing" } else { "key_not_scalar" }
}

/// What is wrong with a row's key.
pub(super) enum KeyProblem {
    /// The record is set aside.
    Reject(&'static str),
    /// The page cannot be stored.
    Fail(PageError),
}
