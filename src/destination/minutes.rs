//! `_hw_minutes`: how many records of each resource were stored in each of the last minutes. One line is touched with each
//! commit, whatever the number of its pages, so that nobody has to add pages up.

use jiff::Timestamp;
use rusqlite::{Connection, Transaction};

use super::DbError;
use crate::page::ResourceId;

/// Minutes that are kept when a run begins; what is longer ago is nobody's present speed.
const KEPT: i64 = 120;

/// The minute of a time, counted since 1970.
pub(super) fn minute(at: Timestamp) -> i64 {
    at.as_second().div_euclid(60)
}

/// Counts records that are stored now.
pub(super) fn add(transaction: &Transaction<'_>, id: &ResourceId, records: u64) -> Result<(), DbError> {
    if records == 0 {
        return Ok(());
    }
    transaction
        .prepare_cached(
            "INSERT INTO _hw_minutes (source, resource, minute, records) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET records = records + excluded.records",
        )?
        .execute((&*id.source, &*id.resource, minute(Timestamp::now()), records))?;
    Ok(())
}

/// Forgets the minutes of a resource that nobody asks for any more.
pub(super) fn forget_old(connection: &Connection, id: &ResourceId) -> Result<(), DbError> {
    let sql = "DELETE FROM _hw_minutes WHERE source = ?1 AND resource = ?2 AND minute < ?3";
    connection.execute(sql, (&*id.source, &*id.resource, minute(Timestamp::now()) - KEPT))?;
    Ok(())
}
