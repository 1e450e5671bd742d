//! The data tables as the writer knows them: kept between commits, and forgotten whenever a transaction fails.

use std::collections::HashMap;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::DbError;
use super::changes::Changes;
use super::columns::quote;
use super::error::PageError;
use super::history::table_exists;
use super::table::{self, Table};
use crate::page::{Rows, Target};

/// The table in which the next generation of a replaced table grows.
pub(super) fn staging_table(table: &str) -> String {
    format!("_hw_next_{table}")
}

/// Everything the writer knows about its tables.
#[derive(Debug, Default)]
pub(super) struct Tables {
    known: HashMap<String, Table>,
    /// What the row statements do.
    pub(super) changes: Changes,
    bytes_since_checkpoint: u64,
    warned_of_wal: bool,
}

/// A WAL of this size is worth a warning.
const WAL_BYTES_LARGE: u64 = 1 << 30;

impl Tables {
    /// Counts `bytes` more of pages, and says how many were stored since the WAL was last moved into the file.
    pub(super) fn written_since_checkpoint(&mut self, bytes: u64) -> u64 {
        self.bytes_since_checkpoint += bytes;
        self.bytes_since_checkpoint
    }

    /// The WAL has been moved into the file.
    pub(super) fn checkpointed(&mut self) {
        self.bytes_since_checkpoint = 0;
    }

    /// Says once that a reader that never ends lets the WAL grow.
    pub(super) fn warn_of_wal(&mut self, bytes: u64) {
        if bytes > WAL_BYTES_LARGE && !self.warned_of_wal {
            self.warned_of_wal = true;
            tracing::warn!(bytes, "the WAL grows: another program has had a transaction open for long; end it");
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
            let Some(table) = table::load(connection, name, target)? else { return Ok(None) };
            self.known.insert(name.to_owned(), table);
        }
        Ok(self.known.get(name))
    }

    /// Makes the table, or extends it, so that it has a column for every key of `rows`, inside the transaction.
    /// `false` where there is no table yet and no record has the whole key.
    pub(super) fn prepare(
        &mut self,
        transaction: &Connection,
        name: &str,
        target: &Target,
        rows: &Rows,
        page_id: i64,
    ) -> Result<bool, PageError> {
        let existing = self.get(transaction, name, target)?;
        if existing.is_some_and(|table| rows.keys().iter().all(|key| table.by_key.contains_key(key))) {
            return Ok(true);
        }
        let is_new = existing.is_none();
        let extended = match existing.cloned() {
            Some(table) => Some(table),
            None => {
                let before = if name == target.table { None } else { self.get(transaction, &target.table, target)? };
                table::create(transaction, name, target, before, rows, page_id)?
            }
        };
        let Some(mut table) = extended else { return Ok(false) };
        if table::add_columns(transaction, &mut table, rows, page_id)? || is_new {
            table.write_sql = table::write_sql(&table, target.disposition);
            self.known.insert(name.to_owned(), table);
        }
        Ok(true)
    }

    /// Adds the column for values that fit no other to a table that [`Tables::prepare`] has prepared.
    pub(super) fn add_extra(&mut self, transaction: &Connection, name: &str, target: &Target) -> Result<(), DbError> {
        if let Some(table) = self.known.get_mut(name) {
            table::add_extra(transaction, table)?;
            table.write_sql = table::write_sql(table, target.disposition);
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
        indexes_fit(transaction, target, &staging)?;
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
        // Tools that users make them with take "text" for a text; SQLite has accepted these statements before.
        transaction.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, true)?;
        let made = made_by_user.iter().try_for_each(|sql| transaction.execute_batch(sql));
        transaction.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, false)?;
        Ok(made?)
    }
}

/// Whether the next generation has every column that a user has indexed. SQLite would take the name of one that is
/// not there for a text, and make an index that is of no use.
fn indexes_fit(transaction: &Transaction<'_>, target: &Target, staging: &str) -> Result<(), PageError> {
    let sql = "SELECT i.name, c.name FROM pragma_index_list(?1) i, pragma_index_info(i.name) c
               WHERE i.origin = 'c' AND c.name COLLATE NOCASE NOT IN (SELECT name FROM pragma_table_info(?2))";
    let unfit: Option<(String, String)> =
        transaction.query_row(sql, [&*target.table, staging], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    match unfit {
        None => Ok(()),
        Some((index, column)) => Err(PageError::Contract(format!(
            "index {index:?} is on column {column:?}, which the new rows of {} do not have; drop the index, and keep \
             columns of your own in a table of your own",
            target.table
        ))),
    }
}
