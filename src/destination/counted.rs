//! How many rows the tables hold, kept in `_hw_resources` by the transactions that change them, so that nobody has to
//! count: `rows` of a resource's own table, `next_rows` of the generation that grows beside it.
//! What other programs add or remove is not seen.

use rusqlite::{Connection, OptionalExtension, Transaction};

use super::DbError;
use super::columns::quote;
use super::history::table_exists;
use super::place::{Place, staging_table};
use crate::page::{ResourceId, Target, WriteDisposition};

/// The column that counts the rows of the table that records of the resource are written to.
fn written(target: &Target) -> &'static str {
    match target.disposition {
        WriteDisposition::Replace => "next_rows",
        WriteDisposition::Append | WriteDisposition::Merge => "rows",
    }
}

/// The table that records are written to has so many rows more.
pub(super) fn add(transaction: &Transaction<'_>, target: &Target, rows: u64) -> Result<(), DbError> {
    change(transaction, target, "+", rows)
}

/// The table that records are written to has so many rows less, which an unfinished read had brought.
pub(super) fn took_back(transaction: &Transaction<'_>, target: &Target, rows: u64) -> Result<(), DbError> {
    tracing::info!(resource = %target.id, rows, "took back the rows of an unfinished read");
    change(transaction, target, "-", rows)
}

fn change(transaction: &Transaction<'_>, target: &Target, sign: &str, rows: u64) -> Result<(), DbError> {
    if rows == 0 {
        return Ok(());
    }
    let column = written(target);
    let sql =
        format!("UPDATE _hw_resources SET {column} = max({column} {sign} ?3, 0) WHERE source = ?1 AND resource = ?2");
    transaction.prepare_cached(&sql)?.execute((&*target.id.source, &*target.id.resource, rows))?;
    Ok(())
}

/// A table of a resource is not there, or has just been made: what was counted is of one that is gone.
pub(super) fn is_empty(connection: &Connection, place: &Place<'_>) -> Result<(), DbError> {
    if place.is_child() {
        return Ok(());
    }
    let column = if place.is_next() { "next_rows" } else { "rows" };
    let sql = format!("UPDATE _hw_resources SET {column} = 0 WHERE source = ?1 AND resource = ?2");
    connection.execute(&sql, (&*place.target.id.source, &*place.target.id.resource))?;
    Ok(())
}

/// The next generation has taken the place of the one before it; an empty one where no table of it was made.
pub(super) fn swapped(transaction: &Transaction<'_>, id: &ResourceId, is_empty: bool) -> Result<(), DbError> {
    transaction.execute(
        "UPDATE _hw_resources SET rows = CASE WHEN ?3 THEN 0 ELSE next_rows END, next_rows = 0
         WHERE source = ?1 AND resource = ?2",
        (&*id.source, &*id.resource, is_empty),
    )?;
    Ok(())
}

/// Counts the rows of one resource: its table is another one than before.
pub(super) fn count(connection: &Connection, id: &ResourceId) -> Result<(), DbError> {
    let key = (&*id.source, &*id.resource);
    let sql = "SELECT \"table\" FROM _hw_resources WHERE source = ?1 AND resource = ?2";
    let Some(table) = connection.query_row(sql, key, |row| row.get::<_, String>(0)).optional()? else { return Ok(()) };
    let rows = [count_table(connection, &table)?, count_table(connection, &staging_table(&table))?];
    let sql = "UPDATE _hw_resources SET rows = ?3, next_rows = ?4 WHERE source = ?1 AND resource = ?2";
    connection.execute(sql, (key.0, key.1, rows[0], rows[1]))?;
    Ok(())
}

/// Counts the rows of all resources.
pub(super) fn count_all(connection: &Connection) -> Result<(), DbError> {
    let mut statement = connection.prepare("SELECT source, resource FROM _hw_resources")?;
    let ids = statement.query_map([], |row| {
        let (source, resource): (String, String) = (row.get(0)?, row.get(1)?);
        Ok(ResourceId::new(&source, &resource))
    })?;
    for id in ids.collect::<Result<Vec<_>, _>>()? {
        count(connection, &id)?;
    }
    Ok(())
}

fn count_table(connection: &Connection, table: &str) -> Result<u64, DbError> {
    if !table_exists(connection, table)? {
        return Ok(0);
    }
    Ok(connection.query_row(&format!("SELECT count(*) FROM {}", quote(table)), [], |row| row.get(0))?)
}
