//! Records that were set aside: how they get into `_hw_quarantine`, and how they come out of it when they are tried again.
//!
//! A record that becomes a row stays in the table, with the page that it became a row with: what was received is never
//! taken away. Only records that were rows to be are tried again; what could not be read, or a step failed for, is
//! left to the next read of the API.

use std::cmp::Ordering;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::due::time;
use super::error::PageError;
use super::family::Pages;
use super::writer::RowWriter;
use super::{Db, DbError};
use crate::page::{Page, ResourceId, SetAside, Standing, WriteDisposition};
use crate::sabotage::{Sabotage, on};

/// Records that are tried again together, at most,
const RECORDS_MAX: usize = 1_000;

/// and about so many bytes of them.
const BYTES_MAX: usize = 1 << 20;

/// Nobody can say whether the row with the key of a record is older than it.
const MAY_BE_OLDER: &str = "row_may_be_newer";

/// Records of one page that were set aside.
#[derive(Clone, Debug)]
pub struct SetAsidePage {
    /// The partition that they belong to.
    pub partition: String,
    /// Where in the pagination the page was, as JSON.
    pub position: String,
    /// Its URL, without secrets.
    pub url: String,
    /// The HTTP status.
    pub status: u16,
    /// When the response was complete.
    pub fetched_at: Timestamp,
    /// The records, each a JSON object.
    pub records: Vec<(SetAside, String)>,
}

/// How a resource was read after its records were set aside.
#[derive(Clone, Copy, Debug)]
pub struct ReadSince {
    /// The last pass that found rows unchanged.
    unchanged: i64,
    /// The last pass that was complete.
    complete: i64,
    /// Only what has changed comes: what comes later is newer than the row.
    is_incremental: bool,
    /// A complete pass does not read every partition.
    has_partial_parent: bool,
}

/// How the partition of a record was read after it.
struct PartitionSince {
    /// Not at all: its last read is the one that the record came with.
    is_last: bool,
    /// To the end.
    is_complete: bool,
}

impl ReadSince {
    /// What a record that came in this pass is beside a row with its key.
    fn standing(self, pass_id: i64, partition: &PartitionSince) -> Standing {
        let is_complete = if self.has_partial_parent { partition.is_complete } else { self.complete > pass_id };
        if self.is_incremental || self.unchanged <= pass_id || partition.is_last {
            Standing::Newer
        } else if is_complete {
            Standing::Older
        } else {
            Standing::Unknown
        }
    }
}

impl Db {
    /// How a resource was read so far, for [`Db::set_aside`]: whether only what has changed comes, and whether its parents
    /// return only such records.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn read_since(
        &self,
        id: &ResourceId,
        is_incremental: bool,
        has_partial_parent: bool,
    ) -> Result<ReadSince, DbError> {
        let id = id.clone();
        self.writer
            .call("read passes", move |connection, _| {
                let sql = "SELECT coalesce(max(pass_id) FILTER (WHERE unchanged > 0), 0),
                             coalesce(max(pass_id) FILTER (WHERE outcome = 'complete'), 0)
                           FROM _hw_runs WHERE source = ?1 AND resource = ?2 AND kind IN ('sync', 'scheduled')";
                Ok(connection.query_row(sql, (&*id.source, &*id.resource), |row| {
                    Ok(ReadSince { unchanged: row.get(0)?, complete: row.get(1)?, is_incremental, has_partial_parent })
                })?)
            })
            .await
    }

    /// The next records of a resource that were set aside and can be tried again, those of one page: behind the record
    /// `after`, with `newest_first` in front of it.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn set_aside(
        &self,
        id: &ResourceId,
        since: ReadSince,
        after: Option<i64>,
        newest_first: bool,
    ) -> Result<Option<SetAsidePage>, DbError> {
        let id = id.clone();
        self.writer
            .call("read quarantine", move |connection, _| next(connection, &id, since, after, newest_first))
            .await
    }

    /// How many records of a resource are set aside: those that can be tried again, and the others.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn count_set_aside(&self, id: &ResourceId) -> Result<(u64, u64), DbError> {
        let id = id.clone();
        self.writer
            .call("count quarantine", move |connection, _| {
                let sql =
                    "SELECT count(*) FILTER (WHERE is_row), count(*) FILTER (WHERE NOT is_row) FROM _hw_quarantine
                           WHERE source = ?1 AND resource = ?2 AND retried_page_id IS NULL";
                Ok(connection.query_row(sql, (&*id.source, &*id.resource), |row| Ok((row.get(0)?, row.get(1)?)))?)
            })
            .await
    }
}

fn next(
    connection: &Connection,
    id: &ResourceId,
    since: ReadSince,
    after: Option<i64>,
    newest_first: bool,
) -> Result<Option<SetAsidePage>, DbError> {
    let (behind, order, start) = if newest_first { ("<", "DESC", i64::MAX) } else { (">", "ASC", i64::MIN) };
    let mut statement = connection.prepare_cached(&format!(
        "SELECT q.quarantine_id, q.page_id, q.record, p.partition, p.position, p.url, p.status, p.fetched_at,
           (SELECT pass_id FROM _hw_runs r WHERE r.run_id = p.run_id),
           c.read_id IS p.read_id, c.state IS 'complete'
         FROM _hw_quarantine q JOIN _hw_pages p ON p.page_id = q.page_id
           LEFT JOIN _hw_checkpoints c ON c.source = q.source AND c.resource = q.resource AND c.partition = p.partition
         WHERE q.source = ?1 AND q.resource = ?2 AND q.retried_page_id IS NULL AND q.is_row
           AND q.quarantine_id {behind} ?3 ORDER BY q.quarantine_id {order}"
    ))?;
    let mut rows = statement.query(params![&*id.source, &*id.resource, after.unwrap_or(start)])?;
    let (mut page, mut of, mut bytes) = (None, None, 0);
    while let Some(row) = rows.next()? {
        let (page_id, record): (i64, String) = (row.get(1)?, row.get(2)?);
        if *of.get_or_insert(page_id) != page_id {
            break;
        }
        let page = match &mut page {
            Some(page) => page,
            None => page.insert(SetAsidePage {
                partition: row.get(3)?,
                position: row.get(4)?,
                url: row.get(5)?,
                status: row.get(6)?,
                fetched_at: time(row.get(7)?).unwrap_or(Timestamp::UNIX_EPOCH),
                records: Vec::new(),
            }),
        };
        bytes += record.len();
        if !page.records.is_empty() && (bytes > BYTES_MAX || page.records.len() == RECORDS_MAX) {
            break;
        }
        let partition = PartitionSince { is_last: row.get(9)?, is_complete: row.get(10)? };
        let standing = since.standing(row.get(8)?, &partition);
        page.records.push((SetAside { quarantine_id: row.get(0)?, page_id, standing }, record));
    }
    Ok(page)
}

/// Sets a record aside: a row of the page, or one that could not even be that. One that was set aside before stays where
/// it is, with this reason.
pub(super) fn set_aside(
    transaction: &Transaction<'_>,
    page: &Page,
    page_id: i64,
    row: Option<usize>,
    reason: &str,
    record: impl FnOnce() -> String,
) -> Result<(), PageError> {
    if on(Sabotage::QuarantineDropped) {
        return Ok(());
    }
    let id = &page.run.target.id;
    let result = match row.and_then(|row| page.set_aside.get(row)) {
        Some(known) => transaction
            .prepare_cached("UPDATE _hw_quarantine SET reason = ?2 WHERE quarantine_id = ?1")
            .and_then(|mut statement| statement.execute(params![known.quarantine_id, reason])),
        None => transaction
            .prepare_cached(
                "INSERT INTO _hw_quarantine (page_id, source, resource, reason, record, is_row)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )
            .and_then(|mut statement| {
                statement.execute(params![page_id, &*id.source, &*id.resource, reason, record(), row.is_some()])
            }),
    };
    // The table is ours alone: an error in it is one of the file.
    result.map(drop).map_err(|error| PageError::Db(error.into()))
}

/// Notes that a record which was set aside is dealt with. Nothing of one that comes from the API.
pub(super) fn settle(transaction: &Transaction<'_>, page: &Page, page_id: i64, row: usize) -> Result<(), PageError> {
    let Some(known) = page.set_aside.get(row) else { return Ok(()) };
    let result = transaction
        .prepare_cached("UPDATE _hw_quarantine SET retried_page_id = ?2 WHERE quarantine_id = ?1")
        .and_then(|mut statement| statement.execute(params![known.quarantine_id, page_id]));
    result.map(drop).map_err(|error| PageError::Db(error.into()))
}

/// Notes that the table of a resource is dropped: what was set aside comes again with its rows.
pub(super) fn drop_rows(transaction: &Transaction<'_>, id: &ResourceId) -> Result<(), DbError> {
    let sql = "UPDATE _hw_quarantine SET is_row = 0 WHERE source = ?1 AND resource = ?2 AND retried_page_id IS NULL";
    transaction.execute(sql, (&*id.source, &*id.resource))?;
    Ok(())
}

/// Notes that the read of these pages is taken back: what was set aside with them comes again.
pub(super) fn take_back(transaction: &Transaction<'_>, pages: Pages) -> Result<(), DbError> {
    let (pages, number) = pages.select();
    transaction.execute(&format!("UPDATE _hw_quarantine SET is_row = 0 WHERE page_id IN ({pages})"), [number])?;
    Ok(())
}

/// What becomes of a record that was set aside, in view of the row that has its key.
pub(super) enum Beside {
    /// It is the newest that is known.
    Write,
    /// The row is newer.
    Leave,
    /// That cannot be told: it stays aside, for this reason.
    Stay(&'static str),
}

/// Holds the record that was taken up last against the row that has its key.
pub(super) fn beside_its_row(
    transaction: &Transaction<'_>,
    writer: &RowWriter<'_>,
    page: &Page,
    page_id: i64,
    known: &SetAside,
) -> Result<Beside, PageError> {
    if writer.place.target.disposition != WriteDisposition::Merge {
        return Ok(Beside::Write);
    }
    let Some(written) = writer.page_of_row(transaction).optional()? else { return Ok(Beside::Write) };
    if written == page_id {
        // What is newer is tried first.
        return Ok(Beside::Leave);
    }
    // A row that was made of such a record is as old as the page that this came with.
    let (came_with, run_id): (i64, i64) = transaction
        .prepare_cached(
            "SELECT CASE WHEN read_id < 0 THEN -read_id ELSE page_id END, run_id FROM _hw_pages WHERE page_id = ?1",
        )?
        .query_row([written], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?
        .unwrap_or((written, 0));
    Ok(match (came_with.cmp(&known.page_id), known.standing) {
        (Ordering::Greater, _) | (_, Standing::Older) => Beside::Leave,
        (Ordering::Less, Standing::Newer) => Beside::Write,
        (Ordering::Equal, _) if run_id == page.run.run_id => Beside::Leave,
        // Two of one page: which of them was the last one there is not known.
        (Ordering::Equal, _) | (Ordering::Less, Standing::Unknown) => Beside::Stay(MAY_BE_OLDER),
    })
}
