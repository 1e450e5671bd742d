//! Where the read of each partition stands: which are still to be read in a pass, and what their reads have stored.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::batch::PartitionFailed;
use super::family::Pages;
use super::history::{now_text, table_exists};
use super::place::staging_table;
use super::{Db, DbError, aside, boundary, counted, coverage, family};
use crate::page::{Page, ResourceId, Run, SortKey, StopReason, Target, WriteDisposition};

/// What is stored about a partition that is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPartition {
    /// The partition, as a JSON object of what it stands for; empty where a resource has only one.
    pub partition: String,
    /// Its place in the queue of its resource.
    pub queued: i64,
    /// The position of the next page, as JSON; none unless a read is under way.
    pub position: Option<String>,
    /// Number of the read that is under way.
    pub read_id: Option<i64>,
    /// Fingerprint of the request that made the position.
    pub request_fingerprint: String,
    /// When it was stored.
    pub updated_at: Timestamp,
    /// Why the last read was given up, if it was.
    pub given_up: Option<String>,
    /// Whether its rows came in another order than configured: no cursor is true of them, and they would come twice.
    pub unsorted: bool,
    /// The highest cursor value of what is stored, as received.
    pub cursor: Option<String>,
    /// The highest cursor value of the read that is under way.
    pub cursor_seen: Option<String>,
    /// What the read that is under way asks for.
    pub bounds: Option<String>,
    /// From where on the rows at the boundary are all known, of an append resource.
    pub boundary_from: Option<SortKey>,
    /// Fields of the parent record that are put on the rows, as a JSON object.
    pub parent_fields: Option<String>,
    /// The page of the parent whose record it is to be read for.
    pub parent_page_id: Option<i64>,
}

impl Db {
    /// Whether a run has any partition: of its pass, or with `of_any_pass` of another one.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn has_partitions(&self, run: &Run, of_any_pass: bool) -> Result<bool, DbError> {
        let (id, pass_id) = (run.target.id.clone(), run.pass_id);
        self.writer
            .call("read partitions", move |connection, _| {
                let sql = "SELECT EXISTS (SELECT 1 FROM _hw_checkpoints
                           WHERE source = ?1 AND resource = ?2 AND (?3 OR pass_id = ?4))";
                let key = params![&*id.source, &*id.resource, of_any_pass, pass_id];
                Ok(connection.query_row(sql, key, |row| row.get(0))?)
            })
            .await
    }

    /// The next partitions that a run is to read, behind `after` in the queue of its pass: those that could not be read
    /// the last time (`failed`), or the others.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn partitions(
        &self,
        run: &Run,
        failed: bool,
        after: i64,
        limit: usize,
    ) -> Result<Vec<StoredPartition>, DbError> {
        let (id, pass_id, run_id) = (run.target.id.clone(), run.pass_id, run.run_id);
        self.writer
            .call("read partitions", move |connection, _| {
                let mut statement = connection.prepare_cached(
                    "SELECT partition, queued, state, position, read_id, request_fingerprint, updated_at, cursor,
                       cursor_seen, bounds, parent_fields,
                       CASE state WHEN 'abandoned' THEN coalesce(error, 'its records broke their contract') END,
                       parent_page_id, boundary_from
                     FROM _hw_checkpoints
                     WHERE source = ?1 AND resource = ?2 AND queued > ?4 AND pass_id = ?3 AND state <> 'complete'
                       AND run_id IS NOT ?5 AND (error IS NOT NULL) = ?6
                     ORDER BY queued LIMIT ?7",
                )?;
                let key = params![&*id.source, &*id.resource, pass_id, after, run_id, failed, limit];
                let rows = statement.query_map(key, stored_partition)?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }
}

fn stored_partition(row: &Row<'_>) -> rusqlite::Result<StoredPartition> {
    let state: String = row.get(2)?;
    let updated_at: String = row.get(6)?;
    Ok(StoredPartition {
        partition: row.get(0)?,
        queued: row.get(1)?,
        position: row.get::<_, Option<String>>(3)?.filter(|_| state == "reading"),
        read_id: row.get(4)?,
        request_fingerprint: row.get(5)?,
        // A time that cannot be read is as old as time: the read starts over, and nothing is lost.
        updated_at: updated_at.parse().unwrap_or(Timestamp::UNIX_EPOCH),
        given_up: row.get(11)?,
        unsorted: state == "unsorted",
        cursor: row.get(7)?,
        cursor_seen: row.get(8)?,
        bounds: row.get(9)?,
        parent_fields: row.get(10)?,
        parent_page_id: row.get(12)?,
        boundary_from: row.get(13)?,
    })
}

/// Gives up the positions of a resource. What unfinished reads have stored is still known as theirs.
pub(super) fn start_over(connection: &Connection, id: &ResourceId) -> Result<(), DbError> {
    connection.execute(
        "UPDATE _hw_checkpoints SET state = 'pending', position = NULL
         WHERE source = ?1 AND resource = ?2 AND state = 'reading'",
        (&*id.source, &*id.resource),
    )?;
    Ok(())
}

/// Makes sure that the read of a page has a number. A read that begins takes back what an unfinished one left where
/// that would be there twice: the rows of an append resource, and those of a generation that grows.
pub(super) fn begin_read(transaction: &Transaction<'_>, page: &Page) -> Result<i64, DbError> {
    let (target, read) = (&page.run.target, &*page.read);
    if let Some(read_id) = read.read_id.get() {
        return Ok(*read_id);
    }
    let unfinished: Option<i64> = transaction
        .prepare_cached(
            "SELECT read_id FROM _hw_checkpoints
             WHERE source = ?1 AND resource = ?2 AND partition = ?3 AND read_open = 1",
        )?
        .query_row(params![&*target.id.source, &*target.id.resource, &*read.partition], |row| row.get(0))
        .optional()?
        .flatten();
    if let Some(unfinished) = unfinished {
        take_back(transaction, target, Pages::OfRead(unfinished))?;
    }
    let read_id = next_read_id(transaction)?;
    transaction
        .prepare_cached(
            "UPDATE _hw_checkpoints SET read_id = ?4, read_open = 1, cursor_seen = NULL
             WHERE source = ?1 AND resource = ?2 AND partition = ?3",
        )?
        .execute(params![&*target.id.source, &*target.id.resource, &*read.partition, read_id])?;
    Ok(*read.read_id.get_or_init(|| read_id))
}

fn next_read_id(transaction: &Transaction<'_>) -> Result<i64, DbError> {
    let sql = "INSERT INTO _hw_meta (key, value) VALUES ('last_read_id', '1')
               ON CONFLICT (key) DO UPDATE SET value = value + 1 RETURNING CAST(value AS INTEGER)";
    Ok(transaction.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
}

/// Removes the rows of an unfinished read, or of a run that is broken off.
fn take_back(transaction: &Transaction<'_>, target: &Target, pages: Pages) -> Result<(), DbError> {
    let table = match target.disposition {
        WriteDisposition::Merge => return Ok(()),
        WriteDisposition::Append => target.table.clone(),
        WriteDisposition::Replace => staging_table(&target.table),
    };
    // Records that were all set aside are known at the boundary, and have made no table.
    boundary::take_back(transaction, pages)?;
    aside::take_back(transaction, pages)?;
    if !table_exists(transaction, &table)? {
        return Ok(());
    }
    let taken_back = family::take_back(transaction, &table, pages).map_err(|error| refused(target, error))?;
    counted::took_back(transaction, target, taken_back as u64)
}

/// A table of data can have triggers of the user: what they refuse concerns this resource alone.
fn refused(target: &Target, error: DbError) -> DbError {
    match error {
        DbError::Sqlite(error) => DbError::TableTaken {
            resource: target.id.to_string(),
            table: target.table.clone(),
            why: format!("does not let go of the rows of an unfinished read: {error}"),
        },
        error => error,
    }
}

/// Moves the checkpoint of a read to where its last stored page leads. It keeps how it was before the run.
pub(super) fn move_checkpoint(transaction: &Transaction<'_>, page: &Page, page_id: i64) -> Result<(), DbError> {
    let (id, read, checkpoint) = (&page.run.target.id, &page.read, &page.checkpoint);
    let complete = page.end.is_some_and(StopReason::is_complete);
    let state = if complete && !checkpoint.goes_on { "complete" } else { "reading" };
    transaction
        .prepare_cached(&format!(
            "UPDATE _hw_checkpoints SET {TOUCH}, state = ?6, position = ?7, request_fingerprint = ?8,
               read_open = ?9, cursor = coalesce(?10, cursor), cursor_seen = ?11, bounds = ?12,
               boundary_from = max(coalesce(?13, boundary_from), coalesce(boundary_from, ?13)), error = NULL, updated_at = ?14
             WHERE source = ?1 AND resource = ?2 AND partition = ?3",
        ))?
        .execute(params![
            &*id.source,
            &*id.resource,
            &*read.partition,
            page.run.run_id,
            page_id,
            state,
            checkpoint.position,
            checkpoint.request_fingerprint,
            !complete && !checkpoint.is_final,
            checkpoint.cursor,
            checkpoint.cursor_seen.as_ref().filter(|_| !complete),
            read.bounds.as_ref().filter(|_| !complete),
            page.forget_below,
            now_text(),
        ])?;
    if let Some(decided) = &checkpoint.decided {
        transaction
            .prepare_cached("UPDATE _hw_resources SET decided = ?3 WHERE source = ?1 AND resource = ?2")?
            .execute(params![&*id.source, &*id.resource, decided])?;
    }
    Ok(())
}

/// Says that the run `?4` has come to a partition with its page `?5`, and notes how that was before the run. One that it
/// has read and queued once more has the number of the run below zero: that it was there is known, and it comes again.
const TOUCH: &str = "run_id = ?4,
  run_page_id = CASE WHEN run_id IN (?4, -?4) THEN run_page_id ELSE ?5 END,
  run_cursor = CASE WHEN run_id IN (?4, -?4) THEN run_cursor ELSE cursor END,
  run_boundary_from = CASE WHEN run_id IN (?4, -?4) THEN run_boundary_from ELSE boundary_from END,
  run_read_id = CASE WHEN run_id IN (?4, -?4) THEN run_read_id WHEN read_open THEN read_id END";

/// Enters that a partition could not be read to its end.
pub(super) fn fail(transaction: &Transaction<'_>, failed: &PartitionFailed) -> Result<(), DbError> {
    let id = &failed.run.target.id;
    transaction
        .prepare_cached(&format!(
            "UPDATE _hw_checkpoints SET {TOUCH}, state = CASE WHEN ?6 THEN 'abandoned' ELSE state END,
               position = CASE WHEN ?6 THEN NULL ELSE position END, error = ?7
             WHERE source = ?1 AND resource = ?2 AND partition = ?3",
        ))?
        .execute(params![
            &*id.source,
            &*id.resource,
            &*failed.partition,
            failed.run.run_id,
            None::<i64>,
            failed.abandon,
            failed.error,
        ])?;
    match &failed.unsorted {
        None => Ok(()),
        Some(began) => take_back_cursor(transaction, failed, began.as_deref()),
    }
}

/// Lets the next read begin where the failed one did. Rows without a key would come twice: they are read no more.
fn take_back_cursor(
    transaction: &Transaction<'_>,
    failed: &PartitionFailed,
    began: Option<&str>,
) -> Result<(), DbError> {
    let Target { id, disposition, .. } = &*failed.run.target;
    let sql = match disposition {
        WriteDisposition::Append => {
            "UPDATE _hw_checkpoints SET state = 'unsorted'
             WHERE source = ?1 AND resource = ?2 AND partition = ?3 AND cursor IS NOT ?4"
        }
        WriteDisposition::Merge | WriteDisposition::Replace => {
            "UPDATE _hw_checkpoints SET cursor = ?4, bounds = NULL
             WHERE source = ?1 AND resource = ?2 AND partition = ?3"
        }
    };
    transaction.prepare_cached(sql)?.execute(params![&*id.source, &*id.resource, &*failed.partition, began])?;
    Ok(())
}

/// Breaks off a run whose records broke their contract: everything that it has read is read again. Cursors go back to
/// where they stood before it, and rows that would come twice are taken back.
///
/// Where a trigger of the user keeps the rows, they and what is known of them stay as they are.
pub(super) fn break_off(transaction: &Transaction<'_>, run: &Run) -> Result<(), DbError> {
    transaction.execute_batch("SAVEPOINT broken")?;
    match undo(transaction, run) {
        Err(DbError::TableTaken { why, .. }) => {
            tracing::error!(resource = %run.target.id, %why, "cannot take back what a broken run has stored");
            transaction.execute_batch("ROLLBACK TO broken; RELEASE broken")?;
        }
        done => {
            done?;
            transaction.execute_batch("RELEASE broken")?;
        }
    }
    Ok(())
}

fn undo(transaction: &Transaction<'_>, run: &Run) -> Result<(), DbError> {
    let id = &run.target.id;
    let key = params![&*id.source, &*id.resource, run.run_id];
    if run.target.disposition == WriteDisposition::Append {
        take_back(transaction, &run.target, Pages::OfRun(run.run_id))?;
        // Of reads that were under way before it, too.
        let mut statement = transaction.prepare_cached(
            "SELECT run_read_id FROM _hw_checkpoints
             WHERE source = ?1 AND resource = ?2 AND run_id IN (?3, -?3) AND run_read_id IS NOT NULL",
        )?;
        let reads: Vec<i64> = statement.query_map(key, |row| row.get(0))?.collect::<Result<_, _>>()?;
        for read_id in reads {
            take_back(transaction, &run.target, Pages::OfRead(read_id))?;
        }
    }
    coverage::forget(transaction, run)?;
    transaction.execute(
        "UPDATE _hw_checkpoints SET
           state = CASE state WHEN 'reading' THEN 'abandoned' WHEN 'complete' THEN 'pending' ELSE state END,
           position = NULL, cursor = run_cursor, cursor_seen = NULL, bounds = NULL, boundary_from = run_boundary_from,
           read_id = NULL, read_open = 0
         WHERE source = ?1 AND resource = ?2 AND run_id IN (?3, -?3)",
        key,
    )?;
    Ok(())
}

/// Gives up ranges that earlier backfills left open: what is read in their place would store their rows once more.
pub(super) fn give_up(transaction: &Transaction<'_>, target: &Target, ranges: &[String]) -> Result<(), DbError> {
    let mut forget = transaction.prepare_cached(
        "DELETE FROM _hw_checkpoints WHERE source = ?1 AND resource = ?2 AND partition = ?3
         RETURNING CASE WHEN read_open THEN read_id END",
    )?;
    for range in ranges {
        let read_id: Option<Option<i64>> =
            forget.query_row((&*target.id.source, &*target.id.resource, range), |row| row.get(0)).optional()?;
        if let Some(unfinished) = read_id.flatten() {
            take_back(transaction, target, Pages::OfRead(unfinished))?;
        }
    }
    Ok(())
}

/// Forgets the ranges of a backfill that are complete: the coverage knows them.
pub(super) fn forget_complete(transaction: &Transaction<'_>, id: &ResourceId, pass_id: i64) -> Result<(), DbError> {
    transaction.execute(
        "DELETE FROM _hw_checkpoints WHERE source = ?1 AND resource = ?2 AND pass_id = ?3 AND state = 'complete'",
        params![&*id.source, &*id.resource, pass_id],
    )?;
    Ok(())
}

/// Looks whether the run still is the one that may write: a run that began later owns the resource, and nothing of an
/// earlier one may be stored any more.
pub(super) fn check_fence(transaction: &Transaction<'_>, run: &Run) -> Result<(), DbError> {
    let id = &run.target.id;
    let owner: Option<i64> = transaction
        .prepare_cached("SELECT run_id FROM _hw_resources WHERE source = ?1 AND resource = ?2")?
        .query_row((&*id.source, &*id.resource), |row| row.get(0))
        .optional()?
        .flatten();
    if owner == Some(run.run_id) { Ok(()) } else { Err(DbError::TakenOver(id.to_string())) }
}
