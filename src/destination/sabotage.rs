//! The broken variants of `crate::sabotage` that take more than a line.

use rusqlite::{Connection, Transaction};

use super::batch::{Batch, Delivery};
use super::table::Table;
use super::{DbError, partitions, sqlite};
use crate::page::RunKind;

/// Commits where the pages of a batch lead to, and nothing else of them.
pub(super) fn commit_checkpoints(connection: &Connection, batch: &Batch) -> Result<(), DbError> {
    let transaction = sqlite::begin(connection)?;
    let mut page_id = sqlite::last_id(&transaction, "_hw_pages")?;
    for delivery in &batch.deliveries {
        if let Delivery::Page(page) = delivery
            && page.run.kind != RunKind::Retry
        {
            page_id += 1;
            partitions::begin_read(&transaction, page)?;
            partitions::move_checkpoint(&transaction, page, page_id)?;
        }
    }
    Ok(transaction.commit()?)
}

/// Takes the lines of a table that are of `pages` out of a transaction, commits it, and begins another one with them.
pub(super) fn put_apart(transaction: &Transaction<'_>, table: &str, pages: &str) -> Result<(), DbError> {
    Ok(transaction.execute_batch(&format!(
        "CREATE TEMP TABLE apart AS SELECT * FROM {table} WHERE {pages};
         DELETE FROM {table} WHERE {pages};
         COMMIT;
         BEGIN IMMEDIATE;
         INSERT INTO {table} SELECT * FROM apart;
         DROP TABLE apart"
    ))?)
}

/// Reads the database file, past SQLite.
pub(super) fn open_file(connection: &Connection) -> Result<(), DbError> {
    let bytes = connection.path().map(std::fs::read).transpose()?;
    tracing::debug!(bytes = bytes.map(|bytes| bytes.len()), "read the file");
    Ok(())
}

/// Lets a key have the column of another one that differs in case only, if there is one.
pub(super) fn share_column(table: &mut Table, key: &str) -> bool {
    let shared = table.columns.iter().position(|column| column.name.eq_ignore_ascii_case(key));
    if let Some(column) = shared {
        table.by_key.insert(key.to_owned(), column);
    }
    shared.is_some()
}
