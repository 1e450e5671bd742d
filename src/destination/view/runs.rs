//! Runs: lists of them, one in full, and what failed in them.

use std::collections::HashSet;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;

use super::super::DbError;
use super::super::due::time;
use super::{cut, of_resource};
use crate::page::ResourceId;

/// Runs that are looked at to see what has changed; where there are more, everything is looked at.
const BEHIND_MAX: usize = 1_000;

/// Pages that are shown of a run.
const PAGES_SHOWN: usize = 50;

/// Partitions that are shown of a run.
const PARTITIONS_SHOWN: usize = 50;

/// Failed runs that errors are gathered from.
const FAILED_RUNS: usize = 1_000;

/// Characters of a URL or a partition; longer ones are cut.
const TEXT_MAX: usize = 2_000;

/// A run of a resource, as `_hw_runs` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunView {
    /// Its number.
    pub run_id: i64,
    /// What asked for it: `sync`, `backfill` or `scheduled`.
    pub kind: String,
    /// The source.
    pub source: String,
    /// The resource in it.
    pub resource: String,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When it ended; none while it runs.
    pub ended_at: Option<Timestamp>,
    /// `running`, `complete`, `incomplete` or `failed`. One whose process was killed stays `running` until another
    /// process opens the file.
    pub outcome: String,
    /// Why it ended.
    pub stop_reason: Option<String>,
    /// Requests sent.
    pub requests: u64,
    /// Requests sent again after a failure.
    pub retries: u64,
    /// Pages stored.
    pub pages: u64,
    /// Records received.
    pub received: u64,
    /// New rows.
    pub inserted: u64,
    /// Rows that changed.
    pub updated: u64,
    /// Rows that were there already, the same.
    pub unchanged: u64,
    /// Records left out by a filter.
    pub filtered: u64,
    /// Records set aside.
    pub quarantined: u64,
    /// Bytes of the pages.
    pub bytes: u64,
    /// What went wrong.
    pub error: Option<String>,
}

const RUN: &str =
    "run_id, kind, source, resource, started_at, ended_at, outcome, stop_reason, requests, retries, pages,
  received, inserted, updated, unchanged, filtered, quarantined, bytes, error";

fn run_view(row: &Row<'_>) -> rusqlite::Result<RunView> {
    Ok(RunView {
        run_id: row.get(0)?,
        kind: row.get(1)?,
        source: row.get(2)?,
        resource: row.get(3)?,
        started_at: time(row.get(4)?),
        ended_at: time(row.get(5)?),
        outcome: row.get(6)?,
        stop_reason: row.get(7)?,
        requests: row.get(8)?,
        retries: row.get(9)?,
        pages: row.get(10)?,
        received: row.get(11)?,
        inserted: row.get(12)?,
        updated: row.get(13)?,
        unchanged: row.get(14)?,
        filtered: row.get(15)?,
        quarantined: row.get(16)?,
        bytes: row.get(17)?,
        error: row.get(18)?,
    })
}

/// Runs, the newest first.
pub(super) fn list(
    connection: &Connection,
    id: Option<&ResourceId>,
    before: Option<i64>,
    limit: usize,
) -> Result<Vec<RunView>, DbError> {
    let of = of_resource(id);
    let sql = format!("SELECT {RUN} FROM _hw_runs WHERE {of} AND run_id < ?3 ORDER BY run_id DESC LIMIT ?4");
    let (source, resource) = (id.map(|id| &*id.source), id.map(|id| &*id.resource));
    let mut statement = connection.prepare_cached(&sql)?;
    let runs = statement.query_map(params![source, resource, before.unwrap_or(i64::MAX), limit], run_view)?;
    Ok(runs.collect::<Result<_, _>>()?)
}

/// A run by its number.
pub(super) fn one(connection: &Connection, run_id: i64) -> Result<Option<RunView>, DbError> {
    let sql = format!("SELECT {RUN} FROM _hw_runs WHERE run_id = ?1");
    Ok(connection.prepare_cached(&sql)?.query_row([run_id], run_view).optional()?)
}

/// The number of the last run of all.
pub(super) fn newest(connection: &Connection) -> Result<i64, DbError> {
    let sql = "SELECT coalesce(max(run_id), 0) FROM _hw_runs";
    Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
}

/// The resources that have begun a run behind this one; none where those are too many to be looked at.
pub(super) fn begun_behind(connection: &Connection, run_id: i64) -> Result<Option<HashSet<ResourceId>>, DbError> {
    let mut statement =
        connection.prepare_cached("SELECT source, resource FROM _hw_runs WHERE run_id > ?1 LIMIT ?2")?;
    let mut rows = statement.query(params![run_id, BEHIND_MAX])?;
    let (mut ids, mut runs) = (HashSet::new(), 0);
    while let Some(row) = rows.next()? {
        let text = |column: usize| row.get_ref(column)?.as_str().map_err(rusqlite::Error::from);
        ids.insert(ResourceId::new(text(0)?, text(1)?));
        runs += 1;
    }
    Ok(Some(ids).filter(|_| runs < BEHIND_MAX))
}

/// The last run of a resource that was no backfill.
pub(super) fn last_read(connection: &Connection, id: &ResourceId) -> Result<Option<RunView>, DbError> {
    let sql = format!(
        "SELECT {RUN} FROM _hw_runs WHERE source = ?1 AND resource = ?2 AND kind IN ('sync', 'scheduled')
         ORDER BY run_id DESC LIMIT 1"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    Ok(statement.query_row((&*id.source, &*id.resource), run_view).optional()?)
}

/// What there is to show of a run where many are shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunBar {
    /// Its number.
    pub run_id: i64,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When it ended; none while it runs.
    pub ended_at: Option<Timestamp>,
    /// `running`, `complete`, `incomplete` or `failed`.
    pub outcome: String,
    /// Records received.
    pub received: u64,
}

/// All of this is in an index: hundreds of resources have thousands of such lines, and those lie far apart in the table.
pub(super) const RECENT: &str = "SELECT run_id, started_at, ended_at, outcome, received FROM _hw_runs
  WHERE source = ?1 AND resource = ?2 ORDER BY run_id DESC LIMIT ?3";

/// The last runs of a resource, the newest last.
pub(super) fn recent(connection: &Connection, id: &ResourceId, limit: usize) -> Result<Vec<RunBar>, DbError> {
    let mut statement = connection.prepare_cached(RECENT)?;
    let runs = statement.query_map(params![&*id.source, &*id.resource, limit], |row| {
        Ok(RunBar {
            run_id: row.get(0)?,
            started_at: time(row.get(1)?),
            ended_at: time(row.get(2)?),
            outcome: row.get(3)?,
            received: row.get(4)?,
        })
    })?;
    let mut runs = runs.collect::<Result<Vec<_>, _>>()?;
    runs.reverse();
    Ok(runs)
}

/// A run in full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunDetail {
    /// The run.
    pub run: RunView,
    /// Its pages, the newest first; not all of them, where there are many.
    pub pages: Vec<PageView>,
    /// Partitions that it could not read to their end and no later run has read; not all of them, where there are many.
    pub failed_partitions: Vec<FailedPartition>,
}

/// A stored page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PageView {
    /// Its number: `_page_id` of the rows that it brought.
    pub page_id: i64,
    /// The partition, as a JSON object of what it stands for; empty where the resource has only one.
    pub partition: String,
    /// Its URL, without secrets.
    pub url: String,
    /// The HTTP status.
    pub status: u16,
    /// When the response was complete.
    pub fetched_at: Option<Timestamp>,
    /// From the first attempt to the whole response.
    pub duration_ms: u64,
    /// Bytes of the body after decompression.
    pub bytes: u64,
    /// Attempts that it took.
    pub attempts: u32,
    /// Records received.
    pub received: u64,
    /// New rows.
    pub inserted: u64,
    /// Rows that changed.
    pub updated: u64,
    /// Rows that were there already, the same.
    pub unchanged: u64,
    /// Records left out by a filter.
    pub filtered: u64,
    /// Records set aside.
    pub quarantined: u64,
}

/// A partition that could not be read to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailedPartition {
    /// The partition, as a JSON object of what it stands for; empty where the resource has only one.
    pub partition: String,
    /// What went wrong.
    pub error: String,
}

/// A run in full.
pub(super) fn detail(connection: &Connection, run_id: i64) -> Result<Option<RunDetail>, DbError> {
    let Some(run) = one(connection, run_id)? else { return Ok(None) };
    let mut statement = connection.prepare_cached(
        "SELECT page_id, partition, url, status, fetched_at, duration_ms, bytes, attempts, received, inserted, updated,
           unchanged, filtered, quarantined
         FROM _hw_pages WHERE run_id = ?1 ORDER BY page_id DESC LIMIT ?2",
    )?;
    let pages = statement.query_map(params![run_id, PAGES_SHOWN], page_view)?.collect::<Result<_, _>>()?;
    let mut statement = connection.prepare_cached(
        "SELECT partition, error FROM _hw_checkpoints INDEXED BY _hw_checkpoints_failed
         WHERE source = ?1 AND resource = ?2 AND run_id = ?3 AND error IS NOT NULL LIMIT ?4",
    )?;
    let failed = statement.query_map(params![run.source, run.resource, run_id, PARTITIONS_SHOWN], |row| {
        Ok(FailedPartition { partition: cut(row.get_ref(0)?.as_str()?, TEXT_MAX).0, error: row.get(1)? })
    })?;
    let failed_partitions = failed.collect::<Result<_, _>>()?;
    Ok(Some(RunDetail { run, pages, failed_partitions }))
}

fn page_view(row: &Row<'_>) -> rusqlite::Result<PageView> {
    Ok(PageView {
        page_id: row.get(0)?,
        partition: cut(row.get_ref(1)?.as_str()?, TEXT_MAX).0,
        url: cut(row.get_ref(2)?.as_str()?, TEXT_MAX).0,
        status: row.get(3)?,
        fetched_at: time(row.get(4)?),
        duration_ms: row.get(5)?,
        bytes: row.get(6)?,
        attempts: row.get(7)?,
        received: row.get(8)?,
        inserted: row.get(9)?,
        updated: row.get(10)?,
        unchanged: row.get(11)?,
        filtered: row.get(12)?,
        quarantined: row.get(13)?,
    })
}

/// Runs of a resource that failed in the same way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorGroup {
    /// The source.
    pub source: String,
    /// The resource in it.
    pub resource: String,
    /// What went wrong.
    pub error: String,
    /// How many runs of the last failed ones.
    pub count: u64,
    /// When the first of them ended.
    pub first_at: Option<Timestamp>,
    /// When the last of them ended.
    pub last_at: Option<Timestamp>,
    /// The last of them.
    pub last_run_id: i64,
}

/// The last failed runs, grouped.
pub(super) fn errors(connection: &Connection, limit: usize) -> Result<Vec<ErrorGroup>, DbError> {
    let mut statement = connection.prepare_cached(
        "SELECT source, resource, said, count(*), min(at), max(at), max(run_id)
         FROM (SELECT run_id, source, resource, coalesce(error, '') AS said, coalesce(ended_at, started_at) AS at
               FROM _hw_runs WHERE outcome = 'failed' ORDER BY run_id DESC LIMIT ?1)
         GROUP BY source, resource, said ORDER BY max(run_id) DESC LIMIT ?2",
    )?;
    let groups = statement.query_map([FAILED_RUNS, limit], |row| {
        Ok(ErrorGroup {
            source: row.get(0)?,
            resource: row.get(1)?,
            error: row.get(2)?,
            count: row.get(3)?,
            first_at: time(row.get(4)?),
            last_at: time(row.get(5)?),
            last_run_id: row.get(6)?,
        })
    })?;
    Ok(groups.collect::<Result<_, _>>()?)
}
