//! `_hw_validators`: what vouches for the only page of a resource, and for as long as its table holds that page's rows.
//!
//! There is a line for each resource (and partition) whose last complete read was one page that can be told again. It
//! counts only while that read is the last one of the checkpoint, so that everything that begins a read, forgets one or
//! leaves one unfinished makes it void.

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::batch::Counts;
use super::history::now_text;
use super::{Db, DbError};
use crate::page::{Page, ResourceId, StopReason, Validators, Validity};

impl Db {
    /// What vouches for what the table of a resource holds. `fingerprint` is of everything that the rows depend on.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn validators(
        &self,
        id: &ResourceId,
        partition: &str,
        fingerprint: &str,
    ) -> Result<Option<Validators>, DbError> {
        let (id, partition, fingerprint) = (id.clone(), partition.to_owned(), fingerprint.to_owned());
        self.writer.call("read validators", move |connection, _| read(connection, &id, &partition, &fingerprint)).await
    }
}

fn read(
    connection: &Connection,
    id: &ResourceId,
    partition: &str,
    fingerprint: &str,
) -> Result<Option<Validators>, DbError> {
    // A user may have dropped the table.
    let sql = "SELECT v.url, v.etag, v.last_modified, v.stop_reason FROM _hw_validators v
         JOIN _hw_checkpoints c USING (source, resource, partition) JOIN _hw_resources r USING (source, resource)
         WHERE v.source = ?1 AND v.resource = ?2 AND v.partition = ?3 AND v.fingerprint = ?4
           AND c.state IN ('complete', 'pending') AND c.read_open = 0 AND c.read_id = v.read_id AND r.identity IS NOT NULL
           AND (v.rows = 0 OR EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = r.\"table\" COLLATE NOCASE))";
    let found: Option<(String, Option<String>, Option<String>, String)> = connection
        .query_row(sql, params![&*id.source, &*id.resource, partition, fingerprint], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .optional()?;
    Ok(found.and_then(|(url, etag, last_modified, stop_reason)| {
        // Stored data is input: an unknown word is as good as none.
        let stop_reason: StopReason = serde_json::from_value(stop_reason.into()).ok()?;
        let fingerprint = fingerprint.to_owned();
        Some(Validators { url, fingerprint, etag, last_modified, stop_reason })
    }))
}

/// Enters what is known of a page that ends a complete read, in the transaction that stores its rows.
pub(super) fn enter(transaction: &Transaction<'_>, page: &Page, page_id: i64, counts: &Counts) -> Result<(), DbError> {
    let ResourceId { source, resource } = &page.run.target.id;
    let key = (&**source, &**resource, &*page.read.partition, page.read.read_id.get());
    match &page.validity {
        Validity::Unknown => {}
        Validity::Unchanged => {
            let sql = "UPDATE _hw_validators SET read_id = ?4 WHERE source = ?1 AND resource = ?2 AND partition = ?3";
            transaction.execute(sql, key)?;
        }
        // A record that was set aside is to be seen again.
        Validity::Vouched(_) if counts.quarantined > 0 => {}
        Validity::Vouched(validators) => {
            transaction.execute(
                "INSERT OR REPLACE INTO _hw_validators (source, resource, partition, read_id, page_id, url,
                   fingerprint, etag, last_modified, stop_reason, rows, stored_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
                params![
                    key.0,
                    key.1,
                    key.2,
                    key.3,
                    page_id,
                    validators.url,
                    validators.fingerprint,
                    validators.etag,
                    validators.last_modified,
                    validators.stop_reason.as_str(),
                    counts.inserted + counts.updated + counts.unchanged,
                    now_text(),
                ],
            )?;
        }
    }
    Ok(())
}

/// Forgets what vouches for a resource.
pub(super) fn forget(transaction: &Transaction<'_>, id: &ResourceId) -> Result<(), DbError> {
    let sql = "DELETE FROM _hw_validators WHERE source = ?1 AND resource = ?2";
    transaction.execute(sql, (&*id.source, &*id.resource))?;
    Ok(())
}
