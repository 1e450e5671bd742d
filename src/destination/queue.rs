//! The queue of a pass: which partitions it has, in which order they are read, and when one is read once more.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::de::IgnoredAny;

use super::DbError;
use super::history::now_text;
use crate::page::{Page, ResourceId};

/// What is queued before the first pass of a resource waits under this number; runs are counted from 1.
const BEFORE_ANY_PASS: i64 = 0;

/// The queue of a pass.
pub(super) struct Queue<'q> {
    pub(super) id: &'q ResourceId,
    pub(super) pass_id: i64,
    /// The pass fills a generation, which begins with nothing: no position of an earlier pass counts.
    pub(super) is_replaced: bool,
    /// The page of the parent that it is filled from, and the run that the page is of.
    pub(super) from: Option<(i64, i64)>,
}

/// A partition to be put into a queue.
#[derive(Clone, Copy)]
pub(super) struct Queued<'q> {
    pub(super) partition: &'q str,
    pub(super) parent_fields: Option<&'q str>,
    pub(super) again: Again,
}

/// Whether what a pass has read of a partition, or is reading, is read once more when its record comes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// No.
    Never,
    /// Once for each run of the parent.
    OncePerRun,
    /// Yes: the record has changed.
    Always,
}

impl<'q> Queued<'q> {
    /// One of the configuration.
    pub(super) fn named(partition: &'q str) -> Self {
        Self { partition, parent_fields: None, again: Again::Never }
    }
}

/// What the file knows of a partition that is to be queued.
struct Known {
    is_complete: bool,
    pass_id: i64,
    parent_fields: Option<String>,
    /// The run of the parent that it was last queued for.
    parent_run: Option<i64>,
}

/// What queueing changes about a partition that the file knows.
#[derive(Debug, PartialEq, Eq)]
struct Change {
    /// It is read from its beginning; a read that is under way goes on, but leaves no position.
    starts_over: bool,
    /// What unfinished reads have stored is gone with their generation.
    is_forgotten: bool,
    /// It goes behind the others.
    moves: bool,
    /// What is being read or was read of it is not enough: it was for an older record.
    once_more: bool,
}

impl Known {
    /// What changes where the partition is queued; none where it stays as it is.
    fn change(&self, queue: &Queue<'_>, queued: &Queued<'_>) -> Option<Change> {
        let begins_pass = self.pass_id != queue.pass_id;
        let has_other_fields = self.parent_fields.as_deref() != queued.parent_fields;
        let once_more = match queued.again {
            Again::Never => false,
            Again::OncePerRun => self.parent_run != queue.from.map(|(_, run_id)| run_id),
            Again::Always => true,
        };
        if !begins_pass && !once_more && (self.is_complete || !has_other_fields) {
            return None;
        }
        let is_forgotten = begins_pass && queue.is_replaced;
        Some(Change {
            starts_over: self.is_complete || is_forgotten || once_more || has_other_fields,
            is_forgotten,
            moves: self.is_complete || begins_pass,
            once_more,
        })
    }
}

/// Puts partitions into a queue, behind those that are there. What is still to be read in the pass keeps its place, and
/// its position where its record is the same.
pub(super) fn enqueue<'p>(
    connection: &Connection,
    queue: &Queue<'_>,
    partitions: impl Iterator<Item = Queued<'p>>,
) -> Result<(), DbError> {
    let (source, resource) = (&*queue.id.source, &*queue.id.resource);
    let page_id = queue.from.map(|(page_id, _)| page_id);
    let mut known = connection.prepare_cached(
        "SELECT state = 'complete', pass_id, parent_fields,
           (SELECT run_id FROM _hw_pages WHERE page_id = parent_page_id)
         FROM _hw_checkpoints WHERE source = ?1 AND resource = ?2 AND partition = ?3",
    )?;
    let mut insert = connection.prepare_cached(
        "INSERT INTO _hw_checkpoints
           (source, resource, partition, state, parent_fields, pass_id, queued, parent_page_id, updated_at)
         VALUES (?1, ?2, ?3, 'pending', ?4, ?5, ?6, ?7, ?8)",
    )?;
    let mut update = connection.prepare_cached(
        "UPDATE _hw_checkpoints SET parent_fields = ?4, pass_id = ?5,
           queued = coalesce(?6, queued), parent_page_id = coalesce(?7, parent_page_id),
           run_id = CASE WHEN state = 'complete' THEN -abs(run_id) ELSE run_id END,
           position = CASE WHEN ?8 THEN NULL ELSE position END,
           state = CASE WHEN ?8 AND state IN ('complete', 'reading') THEN 'pending' ELSE state END,
           read_open = read_open AND NOT ?9
         WHERE source = ?1 AND resource = ?2 AND partition = ?3",
    )?;
    let mut last = last_queued(connection, queue.id)?;
    let now = now_text();
    for queued in partitions {
        let of_row = |row: &Row<'_>| {
            let (is_complete, pass_id) = (row.get(0)?, row.get(1)?);
            Ok(Known { is_complete, pass_id, parent_fields: row.get(2)?, parent_run: row.get(3)? })
        };
        let Queued { partition, parent_fields, .. } = queued;
        let Some(known) = known.query_row((source, resource, partition), of_row).optional()? else {
            last += 1;
            insert.execute(params![source, resource, partition, parent_fields, queue.pass_id, last, page_id, now])?;
            continue;
        };
        let Some(change) = known.change(queue, &queued) else { continue };
        last += i64::from(change.moves);
        update.execute(params![
            source,
            resource,
            partition,
            parent_fields,
            queue.pass_id,
            change.moves.then_some(last),
            page_id.filter(|_| change.once_more),
            change.starts_over,
            change.is_forgotten,
        ])?;
    }
    Ok(())
}

/// The last place that is taken in the queue of a resource.
fn last_queued(connection: &Connection, id: &ResourceId) -> Result<i64, DbError> {
    let sql = "SELECT coalesce(max(queued), 0) FROM _hw_checkpoints WHERE source = ?1 AND resource = ?2";
    Ok(connection.prepare_cached(sql)?.query_row((&*id.source, &*id.resource), |row| row.get(0))?)
}

/// Puts a partition that failed behind the others, so that the next run tries those first.
pub(super) fn put_behind(transaction: &Transaction<'_>, id: &ResourceId, partition: &str) -> Result<(), DbError> {
    transaction
        .prepare_cached(
            "UPDATE _hw_checkpoints SET queued = ?4 WHERE source = ?1 AND resource = ?2 AND partition = ?3",
        )?
        .execute(params![&*id.source, &*id.resource, partition, last_queued(transaction, id)? + 1])?;
    Ok(())
}

/// Where the record of a partition has come anew since its read began: what this read leads to is not the end of it.
/// No position of it counts, and when it is complete, the partition is queued once more.
pub(super) fn read_once_more(transaction: &Transaction<'_>, page: &Page) -> Result<(), DbError> {
    let (id, read) = (&page.run.target.id, &page.read);
    if read.partition.is_empty() {
        // The only one of its resource: no record of a parent leads to it.
        return Ok(());
    }
    let was_complete: Option<bool> = transaction
        .prepare_cached(
            "SELECT state = 'complete' FROM _hw_checkpoints
             WHERE source = ?1 AND resource = ?2 AND partition = ?3 AND parent_page_id IS NOT ?4",
        )?
        .query_row(params![&*id.source, &*id.resource, &*read.partition, read.parent_page_id], |row| row.get(0))
        .optional()?;
    let Some(was_complete) = was_complete else { return Ok(()) };
    transaction
        .prepare_cached(
            "UPDATE _hw_checkpoints SET state = 'pending', position = NULL,
               run_id = CASE WHEN ?4 THEN -abs(run_id) ELSE run_id END
             WHERE source = ?1 AND resource = ?2 AND partition = ?3",
        )?
        .execute(params![&*id.source, &*id.resource, &*read.partition, was_complete])?;
    if was_complete { put_behind(transaction, id, &read.partition) } else { Ok(()) }
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

/// Counts the complete reads of a pass that is given up as unfinished: the first page of what is read in their place
/// takes back their rows.
pub(super) fn reopen(connection: &Connection, id: &ResourceId, pass_id: Option<i64>) -> Result<(), DbError> {
    connection.execute(
        "UPDATE _hw_checkpoints SET read_open = 1
         WHERE source = ?1 AND resource = ?2 AND pass_id = ?3 AND state = 'complete' AND read_id IS NOT NULL",
        params![&*id.source, &*id.resource, pass_id],
    )?;
    Ok(())
}

/// The partitions whose keys that come from parents are no longer `keys`, and whether they are complete. Those with a
/// cursor are kept where they are complete.
pub(super) fn unfit(
    connection: &Connection,
    id: &ResourceId,
    keys: &BTreeSet<String>,
) -> Result<Vec<(String, bool)>, DbError> {
    let mut statement = connection.prepare(
        "SELECT partition, state = 'complete' FROM _hw_checkpoints
         WHERE source = ?1 AND resource = ?2 AND (state <> 'complete' OR cursor IS NULL)",
    )?;
    let rows = statement.query_map((&*id.source, &*id.resource), |row| Ok((row.get(0)?, row.get(1)?)))?;
    let is_fit = |partition: &str| {
        // Stored data is input: what is no object has no keys.
        let values: BTreeMap<String, IgnoredAny> = serde_json::from_str(partition).unwrap_or_default();
        values.keys().filter(|key| key.contains('.')).eq(keys.iter())
    };
    let mut unfit = rows.collect::<Result<Vec<(String, bool)>, _>>()?;
    unfit.retain(|(partition, _)| !is_fit(partition));
    Ok(unfit)
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

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::super::schema::SCHEMA;
    use super::{Again, Change, Known, Queue, Queued, enqueue};
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
        let queue = |pass_id: i64, partitions: &[&str], is_replaced: bool| {
            let queue = Queue { id: &id, pass_id, is_replaced, from: None };
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
        queue(3, &["b"], true);
        expect(
            states(&connection),
            &[("c", "pending", 1), ("d", "pending", 1), ("a", "pending", 2), ("b", "pending", 3)],
        );
    }

    #[test]
    fn what_is_queued_again_is_read_again_only_where_its_record_may_be_another() {
        let id = ResourceId::new("s", "r");
        let queue = |pass_id: i64, is_replaced: bool| Queue { id: &id, pass_id, is_replaced, from: Some((70, 7)) };
        let (pass, generation) = (queue(1, false), queue(1, true));
        let (next, next_generation) = (queue(2, false), queue(2, true));
        let known = |is_complete: bool, parent_run: i64| Known {
            is_complete,
            pass_id: 1,
            parent_fields: Some("old".to_owned()),
            parent_run: Some(parent_run),
        };
        let (read, left) = (true, false);
        use Again::{Always, Never, OncePerRun};
        // Starts over, is forgotten, moves, is read once more.
        for (queue, is_complete, parent_run, fields, again, expected) in [
            (&pass, read, 6, "old", Never, None),
            (&pass, read, 6, "new", Never, None),
            (&pass, read, 6, "old", OncePerRun, Some([true, false, true, true])),
            (&pass, read, 7, "old", OncePerRun, None),
            (&pass, read, 7, "old", Always, Some([true, false, true, true])),
            (&pass, left, 6, "old", Never, None),
            (&pass, left, 6, "new", Never, Some([true, false, false, false])),
            (&pass, left, 6, "old", OncePerRun, Some([true, false, false, true])),
            (&pass, left, 7, "old", OncePerRun, None),
            (&pass, left, 7, "old", Always, Some([true, false, false, true])),
            (&generation, read, 6, "new", Never, None),
            (&next, read, 6, "old", Never, Some([true, false, true, false])),
            (&next, left, 6, "old", Never, Some([false, false, true, false])),
            (&next, left, 6, "old", Always, Some([true, false, true, true])),
            (&next_generation, left, 6, "old", Never, Some([true, true, true, false])),
        ] {
            let change = known(is_complete, parent_run)
                .change(queue, &Queued { partition: "p", parent_fields: Some(fields), again });
            let expected = expected.map(|[starts_over, is_forgotten, moves, once_more]| Change {
                starts_over,
                is_forgotten,
                moves,
                once_more,
            });
            assert_eq!(change, expected, "{} {is_complete} {parent_run} {fields} {again:?}", queue.pass_id);
        }
    }
}
