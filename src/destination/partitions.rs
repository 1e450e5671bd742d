//! Where the read of each partition stands: which are still to be read in a pass, and what their reads have stored.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::batch::PartitionFailed;
use super::family::Pages;
use super::history::{now_text, table_exists};
use super::place::staging_table;
use super::{Db, DbError, boundary, coverage, family};
use crate::page::{Page, ResourceId, Run, StopReason, Target, WriteDisposition};

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
    /// Fields of the parent record that are put on the rows, as a JSON object.
    pub parent_fields: Option<String>,
}

impl Db {
    /// The next partitions of a pass that are still to be read, behind `after` in the queue.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn partitions(
        &self,
        id: &ResourceId,
        pass_id: i64,
        after: i64,
        limit: usize,
    ) -> Result<Vec<StoredPartition>, DbError> {
        let id = id.clone();
        self.writer
            .call("read partitions", move |connection, _| {
                let mut statement = connection.prepare_cached(
                    "SELECT partition, queued, state, position, read_id, request_fingerprint, updated_at, cursor,
                       cursor_seen, bounds, parent_fields,
                       CASE state WHEN 'abandoned' THEN coalesce(error, 'its records broke their contract') END
                     FROM _hw_checkpoints
                     WHERE source = ?1 AND resource = ?2 AND queued > ?4 AND pass_id = ?3 AND state <> 'complete'
                     ORDER BY queued LIMIT ?5",
                )?;
                let rows = statement
                    .query_map(params![&*id.source, &*id.resource, pass_id, after, limit], stored_partition)?;
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
    })
}

/// What is queued before the first pass of a resource waits under this number; runs are counted from 1.
const BEFORE_ANY_PASS: i64 = 0;

/// The queue of a pass.
pub(super) struct Queue<'q> {
    pub(super) id: &'q ResourceId,
    pub(super) pass_id: i64,
    /// The run that reads it; none where nothing does at the moment.
    pub(super) run_id: Option<i64>,
    /// The pass begins with nothing: no position counts any more.
    pub(super) afresh: bool,
}

/// A partition to be put into a queue.
#[derive(Clone, Copy)]
pub(super) struct Queued<'q> {
    pub(super) partition: &'q str,
    pub(super) parent_fields: Option<&'q str>,
    /// Also where an earlier run of the same pass has read it completely.
    pub(super) again: bool,
}

impl<'q> Queued<'q> {
    /// One of the configuration.
    pub(super) fn named(partition: &'q str) -> Self {
        Self { partition, parent_fields: None, again: false }
    }
}

/// Puts partitions into a queue, behind those that are there. One that is being read keeps its position, and what is
/// still to be read in the pass its place.
pub(super) fn enqueue<'p>(
    connection: &Connection,
    queue: &Queue<'_>,
    partitions: impl Iterator<Item = Queued<'p>>,
) -> Result<(), DbError> {
    let id = queue.id;
    let mut queued: i64 = connection
        .prepare_cached("SELECT coalesce(max(queued), 0) FROM _hw_checkpoints WHERE source = ?1 AND resource = ?2")?
        .query_row((&*id.source, &*id.resource), |row| row.get(0))?;
    let mut statement = connection.prepare_cached(
        "INSERT INTO _hw_checkpoints (source, resource, partition, state, parent_fields, queued, pass_id, updated_at)
         VALUES (?1, ?2, ?3, 'pending', ?4, ?5, ?6, ?7)
         ON CONFLICT DO UPDATE SET
           state = CASE WHEN ?8 OR state = 'complete' THEN 'pending' ELSE state END,
           position = CASE WHEN ?8 THEN NULL ELSE position END,
           read_open = CASE WHEN ?8 THEN 0 ELSE read_open END,
           queued = CASE WHEN NOT ?8 AND state <> 'complete' AND pass_id = excluded.pass_id THEN queued
             ELSE excluded.queued END,
           parent_fields = excluded.parent_fields, pass_id = excluded.pass_id
         WHERE ?8 OR pass_id <> excluded.pass_id OR state <> 'complete' AND parent_fields IS NOT excluded.parent_fields
           OR ?9 AND state = 'complete' AND run_id IS NOT ?10",
    )?;
    let now = now_text();
    for partition in partitions {
        queued += 1;
        statement.execute(params![
            &*id.source,
            &*id.resource,
            partition.partition,
            partition.parent_fields,
            queued,
            queue.pass_id,
            now,
            queue.afresh,
            partition.again,
            queue.run_id,
        ])?;
    }
    Ok(())
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

/// The pass in which records wait for a resource that is not read now; none where its next run does not look there. It
/// goes on with one that is open, and takes over what is left of any other where it keeps its queue.
pub(super) fn waiting_pass(
    connection: &Connection,
    id: &ResourceId,
    keeps_queue: bool,
) -> Result<Option<i64>, DbError> {
    let last: Option<(Option<i64>, bool)> = connection
        .prepare_cached(
            "SELECT pass_id, coalesce(pass_state, '') = 'open' FROM _hw_resources WHERE source = ?1 AND resource = ?2",
        )?
        .query_row((&*id.source, &*id.resource), |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (pass_id, is_open) = last.unwrap_or_default();
    Ok(if keeps_queue { Some(pass_id.unwrap_or(BEFORE_ANY_PASS)) } else { pass_id.filter(|_| is_open) })
}

/// Makes what is left of one pass, or was queued before the first, a part of the next.
pub(super) fn keep_queue(connection: &Connection, id: &ResourceId, old: Option<i64>, new: i64) -> Result<(), DbError> {
    connection.execute(
        "UPDATE _hw_checkpoints SET pass_id = ?4
         WHERE source = ?1 AND resource = ?2 AND pass_id = ?3 AND state <> 'complete'",
        params![&*id.source, &*id.resource, old.unwrap_or(BEFORE_ANY_PASS), new],
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
    if !table_exists(transaction, &table)? {
        return Ok(());
    }
    boundary::take_back(transaction, pages)?;
    let taken_back = family::take_back(transaction, &table, pages).map_err(|error| refused(target, error))?;
    tracing::info!(resource = %target.id, rows = taken_back, "took back the rows of what is not gone on with");
    Ok(())
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
    touch(transaction, &page.run, &read.partition, Some(page_id))?;
    let complete = page.end.is_some_and(StopReason::is_complete);
    let state = if complete && !checkpoint.goes_on { "complete" } else { "reading" };
    transaction
        .prepare_cached(
            "UPDATE _hw_checkpoints SET state = ?4, position = ?5, request_fingerprint = ?6,
               read_open = ?7, cursor = coalesce(?8, cursor), cursor_seen = ?9, bounds = ?10,
               boundary_from = coalesce(?11, boundary_from), error = NULL, updated_at = ?12
             WHERE source = ?1 AND resource = ?2 AND partition = ?3",
        )?
        .execute(params![
            &*id.source,
            &*id.resource,
            &*read.partition,
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

/// Says that a run has come to a partition, and notes how that was before.
fn touch(transaction: &Transaction<'_>, run: &Run, partition: &str, page_id: Option<i64>) -> Result<(), DbError> {
    let id = &run.target.id;
    transaction
        .prepare_cached(
            "UPDATE _hw_checkpoints
             SET run_id = ?4, run_page_id = ?5, run_cursor = cursor, run_boundary_from = boundary_from,
               run_read_id = CASE WHEN read_open THEN read_id END
             WHERE source = ?1 AND resource = ?2 AND partition = ?3 AND run_id IS NOT ?4",
        )?
        .execute(params![&*id.source, &*id.resource, partition, run.run_id, page_id])?;
    Ok(())
}

/// Enters that a partition could not be read to its end.
pub(super) fn fail(transaction: &Transaction<'_>, failed: &PartitionFailed) -> Result<(), DbError> {
    let id = &failed.run.target.id;
    touch(transaction, &failed.run, &failed.partition, None)?;
    transaction
        .prepare_cached(
            "UPDATE _hw_checkpoints SET state = CASE WHEN ?4 THEN 'abandoned' ELSE state END,
               position = CASE WHEN ?4 THEN NULL ELSE position END, error = ?5
             WHERE source = ?1 AND resource = ?2 AND partition = ?3",
        )?
        .execute(params![&*id.source, &*id.resource, &*failed.partition, failed.abandon, failed.error])?;
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
pub(super) fn break_off(transaction: &Transaction<'_>, run: &Run) -> Result<(), DbError> {
    let id = &run.target.id;
    let key = params![&*id.source, &*id.resource, run.run_id];
    if run.target.disposition == WriteDisposition::Append {
        take_back(transaction, &run.target, Pages::OfRun(run.run_id))?;
        // Of reads that were under way before it, too.
        let mut statement = transaction.prepare_cached(
            "SELECT run_read_id FROM _hw_checkpoints
             WHERE source = ?1 AND resource = ?2 AND run_id = ?3 AND run_read_id IS NOT NULL",
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
         WHERE source = ?1 AND resource = ?2 AND run_id = ?3",
        key,
    )?;
    Ok(())
}

/// Forgets partitions that are not there any more, unless a cursor would be lost with them.
pub(super) fn forget_old(transaction: &Transaction<'_>, id: &ResourceId, pass_id: i64) -> Result<(), DbError> {
    transaction.execute(
        "DELETE FROM _hw_checkpoints
         WHERE source = ?1 AND resource = ?2 AND pass_id <> ?3 AND cursor IS NULL AND read_open = 0",
        params![&*id.source, &*id.resource, pass_id],
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

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::super::schema::SCHEMA;
    use super::{Queue, Queued, enqueue};
    use crate::page::ResourceId;

    fn states(connection: &Connection) -> Vec<(String, String, i64)> {
        let sql =
            "SELECT partition, state || coalesce(' at ' || position, ''), pass_id FROM _hw_checkpoints ORDER BY queued";
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn a_pass_keeps_what_it_has_read_and_the_next_one_reads_it_again() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(SCHEMA).unwrap();
        let id = ResourceId::new("s", "r");
        let queue = |pass_id: i64, partitions: &[&str], afresh: bool| {
            let queue = Queue { id: &id, pass_id, run_id: Some(pass_id), afresh };
            enqueue(&connection, &queue, partitions.iter().map(|partition| Queued::named(partition))).unwrap();
        };
        queue(1, &["a", "b", "c"], false);
        connection
            .execute_batch(
                "UPDATE _hw_checkpoints SET state = 'complete' WHERE partition = 'a';
                 UPDATE _hw_checkpoints SET state = 'reading', position = '7' WHERE partition = 'b'",
            )
            .unwrap();
        queue(1, &["a", "d"], false);
        let expect = |states: Vec<(String, String, i64)>, expected: &[(&str, &str, i64)]| {
            let states: Vec<_> = states.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), *c)).collect();
            assert_eq!(states, expected);
        };
        expect(
            states(&connection),
            &[("a", "complete", 1), ("b", "reading at 7", 1), ("c", "pending", 1), ("d", "pending", 1)],
        );
        queue(2, &["b", "a"], false);
        expect(
            states(&connection),
            &[("c", "pending", 1), ("d", "pending", 1), ("b", "reading at 7", 2), ("a", "pending", 2)],
        );
        queue(2, &["b"], true);
        expect(
            states(&connection),
            &[("c", "pending", 1), ("d", "pending", 1), ("a", "pending", 2), ("b", "pending", 2)],
        );
    }

    #[test]
    fn a_record_that_comes_again_is_read_again_in_the_same_pass_only_where_an_earlier_run_has_read_it() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(SCHEMA).unwrap();
        let id = ResourceId::new("s", "r");
        let queue = |fields: &str, again: bool, run_id: Option<i64>| {
            let queued = ["a", "b", "c", "d"].into_iter();
            let queued = queued.map(|partition| Queued { partition, parent_fields: Some(fields), again });
            enqueue(&connection, &Queue { id: &id, pass_id: 1, run_id, afresh: false }, queued).unwrap();
            let sql = "SELECT partition || ' ' || state || ' ' || parent_fields FROM _hw_checkpoints ORDER BY queued";
            let mut statement = connection.prepare(sql).unwrap();
            let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
            rows.collect::<Result<Vec<_>, _>>().unwrap().join(", ")
        };
        queue("old", true, Some(1));
        connection
            .execute_batch(
                "UPDATE _hw_checkpoints SET state = 'complete', run_id = 1 WHERE partition = 'a';
                 UPDATE _hw_checkpoints SET state = 'complete', run_id = 2 WHERE partition = 'b';
                 UPDATE _hw_checkpoints SET state = 'reading', run_id = 1 WHERE partition = 'c'",
            )
            .unwrap();
        assert_eq!(queue("new", false, Some(2)), "a complete old, b complete old, c reading new, d pending new");
        assert_eq!(queue("new", true, Some(2)), "b complete old, c reading new, d pending new, a pending new");
        assert_eq!(queue("new", true, None), "c reading new, d pending new, a pending new, b pending new");
    }
}
