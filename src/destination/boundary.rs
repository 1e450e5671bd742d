//! Rows of append resources that the next read is sent again: they are known, so that they are taken once.

use std::collections::HashSet;

use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{ToSql, Transaction, params};

use super::family::Pages;
use super::{Db, DbError};
use crate::page::{Page, ResourceId, SortKey};

/// Hashes of rows that may be sent again.
#[derive(Debug, Default)]
pub struct Boundary {
    /// All of them.
    pub rows: HashSet<[u8; 16]>,
    /// Those of complete reads that lie ahead of the cursor.
    pub ahead: HashSet<[u8; 16]>,
}

impl Db {
    /// The rows at the boundary of a partition, whose cursor is `cursor`. Those of an unfinished read count where it goes
    /// on (`resumes`); the read that takes its place takes them back, and is to store them anew.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn boundary(
        &self,
        id: &ResourceId,
        partition: &str,
        cursor: Option<SortKey>,
        resumes: bool,
    ) -> Result<Boundary, DbError> {
        let (id, partition) = (id.clone(), partition.to_owned());
        self.writer
            .call("read boundary", move |connection, _| {
                let mut statement = connection.prepare_cached(
                    "SELECT hash, NOT is_open AND (?5 IS NULL OR sort >= ?5) FROM (
                       SELECT hash, sort, page_id IN (SELECT page_id FROM _hw_pages WHERE read_id IN
                         (SELECT read_id FROM _hw_checkpoints
                          WHERE source = ?1 AND resource = ?2 AND partition = ?3 AND read_open = 1)) AS is_open
                       FROM _hw_boundary WHERE source = ?1 AND resource = ?2 AND partition = ?3)
                     WHERE ?4 OR NOT is_open",
                )?;
                let mut rows = statement.query(params![&*id.source, &*id.resource, partition, resumes, cursor])?;
                let mut boundary = Boundary::default();
                while let Some(row) = rows.next()? {
                    let hash = row.get(0)?;
                    boundary.rows.insert(hash);
                    if row.get(1)? {
                        boundary.ahead.insert(hash);
                    }
                }
                Ok(boundary)
            })
            .await
    }
}

/// Enters the rows of a page that will be sent again, and forgets those of the same run that will not. Those of earlier
/// runs stay until the next one begins: if this one is broken off, they are sent again.
pub(super) fn store(transaction: &Transaction<'_>, page: &Page, page_id: i64) -> Result<(), DbError> {
    let (id, partition) = (&page.run.target.id, &*page.read.partition);
    let mut insert = transaction.prepare_cached(
        "INSERT INTO _hw_boundary (source, resource, partition, hash, sort, page_id) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT DO NOTHING",
    )?;
    for row in &page.boundary {
        insert.execute(params![&*id.source, &*id.resource, partition, row.hash, row.sort, page_id])?;
    }
    if let Some(below) = &page.forget_below {
        transaction
            .prepare_cached(
                "DELETE FROM _hw_boundary WHERE source = ?1 AND resource = ?2 AND partition = ?3 AND sort < ?4
                   AND page_id >= (SELECT CASE WHEN run_id = ?5 THEN run_page_id ELSE ?6 END FROM _hw_checkpoints
                     WHERE source = ?1 AND resource = ?2 AND partition = ?3)",
            )?
            .execute(params![&*id.source, &*id.resource, partition, below, page.run.run_id, page_id])?;
    }
    Ok(())
}

/// Forgets what is not sent again, now that no run of these reads can be broken off any more.
pub(super) fn forget(transaction: &Transaction<'_>, id: &ResourceId) -> Result<(), DbError> {
    transaction.execute(
        "DELETE FROM _hw_boundary AS b WHERE source = ?1 AND resource = ?2 AND sort < (
           SELECT boundary_from FROM _hw_checkpoints c
           WHERE c.source = b.source AND c.resource = b.resource AND c.partition = b.partition)",
        (&*id.source, &*id.resource),
    )?;
    Ok(())
}

/// Forgets the rows of pages that are taken back.
pub(super) fn take_back(transaction: &Transaction<'_>, pages: Pages) -> Result<(), DbError> {
    let (pages, number) = pages.select();
    transaction.execute(&format!("DELETE FROM _hw_boundary WHERE page_id IN ({pages})"), [number])?;
    Ok(())
}

impl ToSql for SortKey {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Integer(value) => ToSqlOutput::Owned(Value::Integer(*value)),
            Self::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
        })
    }
}
