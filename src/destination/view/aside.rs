//! Records that were set aside.

use jiff::Timestamp;
use rusqlite::{Connection, params};
use serde::Serialize;

use super::super::DbError;
use super::super::due::time;
use super::{cut, of_resource};
use crate::page::ResourceId;

/// Characters of a record; the file has the whole of it.
const RECORD_MAX: usize = 4_000;

/// A record that was set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Quarantined {
    /// Its number in `_hw_quarantine`.
    pub quarantine_id: i64,
    /// The source.
    pub source: String,
    /// The resource in it.
    pub resource: String,
    /// Why it did not become a row.
    pub reason: String,
    /// The record, or the beginning of it.
    pub record: String,
    /// Whether that is all of it.
    pub is_whole: bool,
    /// Whether it was to become a row: then it can be tried again.
    pub is_row: bool,
    /// The page that it was on.
    pub page_id: i64,
    /// Where the page came from, without secrets.
    pub url: Option<String>,
    /// When.
    pub fetched_at: Option<Timestamp>,
}

/// Records that were set aside, the newest first.
pub(super) fn quarantine(
    connection: &Connection,
    id: Option<&ResourceId>,
    before: Option<i64>,
    limit: usize,
) -> Result<Vec<Quarantined>, DbError> {
    let of = of_resource(id);
    let mut statement = connection.prepare_cached(&format!(
        "SELECT q.quarantine_id, q.source, q.resource, q.reason, q.record, q.page_id, p.url, p.fetched_at, q.is_row
         FROM (SELECT * FROM _hw_quarantine WHERE {of} AND quarantine_id < ?3
               AND retried_page_id IS NULL ORDER BY quarantine_id DESC LIMIT ?4) q
         LEFT JOIN _hw_pages p ON p.page_id = q.page_id ORDER BY q.quarantine_id DESC"
    ))?;
    let (source, resource) = (id.map(|id| &*id.source), id.map(|id| &*id.resource));
    let rows = statement.query_map(params![source, resource, before.unwrap_or(i64::MAX), limit], |row| {
        let (record, is_whole) = cut(row.get_ref(4)?.as_str()?, RECORD_MAX);
        Ok(Quarantined {
            quarantine_id: row.get(0)?,
            source: row.get(1)?,
            resource: row.get(2)?,
            reason: row.get(3)?,
            record,
            is_whole,
            page_id: row.get(5)?,
            url: row.get(6)?,
            fetched_at: time(row.get(7)?),
            is_row: row.get(8)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
