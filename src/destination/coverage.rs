//! The ranges of a cursor that were read completely: what a backfill need not read again.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use rusqlite::{Connection, Transaction, params};

use super::history::now_text;
use super::{Db, DbError};
use crate::page::{Bound, Coverage, Page, ResourceId, Run, SortKey};

/// A partition as its live reads have left it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LivePartition {
    /// The partition, as a JSON object of what it stands for; empty where a resource has only one.
    pub partition: String,
    /// Where its cursor stands, as JSON.
    pub cursor: Option<String>,
    /// What the read that is under way asks for.
    pub bounds: Option<String>,
    /// Fields of the parent record that are put on the rows, as a JSON object.
    pub parent_fields: Option<String>,
}

/// A range that a backfill has not read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenRange {
    /// The partition that it is.
    pub partition: String,
    /// Whether it can be gone on with at a page behind its first.
    pub is_under_way: bool,
}

impl Db {
    /// The ranges of a partition that were read completely, in order. They do not touch each other.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn coverage(&self, id: &ResourceId, partition: &str) -> Result<Vec<Coverage>, DbError> {
        let (id, partition) = (id.clone(), partition.to_owned());
        self.writer.call("read coverage", move |connection, _| ranges(connection, &id, &partition, None)).await
    }

    /// The partitions of a resource that its live reads have, backfills left out.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn live_partitions(&self, id: &ResourceId) -> Result<Vec<LivePartition>, DbError> {
        let id = id.clone();
        self.writer
            .call("read partitions", move |connection, _| {
                let mut statement = connection.prepare(
                    "SELECT partition, cursor, bounds, parent_fields FROM _hw_checkpoints
                     WHERE source = ?1 AND resource = ?2
                       AND (partition = '' OR json_extract(partition, '$._from') IS NULL)
                     ORDER BY queued",
                )?;
                let rows = statement.query_map((&*id.source, &*id.resource), |row| {
                    Ok(LivePartition {
                        partition: row.get(0)?,
                        cursor: row.get(1)?,
                        bounds: row.get(2)?,
                        parent_fields: row.get(3)?,
                    })
                })?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// The ranges of a resource that backfills have left open.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn open_ranges(&self, id: &ResourceId) -> Result<Vec<OpenRange>, DbError> {
        let id = id.clone();
        self.writer
            .call("read ranges", move |connection, _| {
                let mut statement = connection.prepare(
                    "SELECT partition, state = 'reading' AND position IS NOT NULL FROM _hw_checkpoints
                     WHERE source = ?1 AND resource = ?2 AND state <> 'complete'
                       AND partition <> '' AND json_extract(partition, '$._from') IS NOT NULL
                     ORDER BY queued",
                )?;
                let rows = statement.query_map((&*id.source, &*id.resource), |row| {
                    Ok(OpenRange { partition: row.get(0)?, is_under_way: row.get(1)? })
                })?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }
}

/// The ranges of a partition, joined where they touch; of one run alone where it is named.
fn ranges(
    connection: &Connection,
    id: &ResourceId,
    partition: &str,
    run_id: Option<i64>,
) -> Result<Vec<Coverage>, DbError> {
    let mut statement = connection.prepare_cached(
        "SELECT from_value, from_sort, to_value, to_sort FROM _hw_coverage
         WHERE source = ?1 AND resource = ?2 AND partition = ?3 AND (?4 IS NULL OR run_id = ?4)
         ORDER BY from_sort IS NOT NULL, from_sort",
    )?;
    let mut rows = statement.query(params![&*id.source, &*id.resource, partition, run_id])?;
    let mut joined: Vec<Coverage> = Vec::new();
    while let Some(row) = rows.next()? {
        let from: Option<String> = row.get(0)?;
        let from = match from {
            Some(json) => Some(Bound { json, sort: row.get(1)? }),
            None => None,
        };
        let range = Coverage { from, to: Bound { json: row.get(2)?, sort: row.get(3)? } };
        match joined.pop() {
            Some(last) if last.touches(&range) => joined.push(last.joined(&range)),
            Some(last) => joined.extend([last, range]),
            None => joined.push(range),
        }
    }
    Ok(joined)
}

/// Enters the range that a page completes. Until its run has ended well it is one of that run.
pub(super) fn store(transaction: &Transaction<'_>, page: &Page) -> Result<(), DbError> {
    let Some((partition, new)) = &page.covers else { return Ok(()) };
    let (id, run_id) = (&page.run.target.id, page.run.run_id);
    let known = ranges(transaction, id, partition, Some(run_id))?;
    let whole = known.iter().filter(|known| known.touches(new)).fold(new.clone(), |whole, known| whole.joined(known));
    let others = known.into_iter().filter(|known| !known.touches(new));
    write(transaction, id, partition, Some(run_id), run_id, others.chain([whole.clone()]))
}

/// Joins what runs have entered that cannot be broken off any more.
pub(super) fn join(transaction: &Transaction<'_>, id: &ResourceId) -> Result<(), DbError> {
    let mut statement = transaction.prepare_cached(
        "SELECT partition, max(run_id) FROM _hw_coverage WHERE source = ?1 AND resource = ?2
         GROUP BY partition HAVING min(run_id) < max(run_id)",
    )?;
    let several = statement.query_map((&*id.source, &*id.resource), |row| Ok((row.get(0)?, row.get(1)?)))?;
    for (partition, run_id) in several.collect::<Result<Vec<(String, i64)>, _>>()? {
        let joined = ranges(transaction, id, &partition, None)?;
        write(transaction, id, &partition, None, run_id, joined.into_iter())?;
    }
    Ok(())
}

/// Forgets what a run has entered that is broken off.
pub(super) fn forget(transaction: &Transaction<'_>, run: &Run) -> Result<(), DbError> {
    let id = &run.target.id;
    transaction.execute(
        "DELETE FROM _hw_coverage WHERE source = ?1 AND resource = ?2 AND run_id = ?3",
        params![&*id.source, &*id.resource, run.run_id],
    )?;
    Ok(())
}

/// Writes the ranges of a partition in the place of those that are there, of all runs or of `old` alone.
fn write(
    transaction: &Transaction<'_>,
    id: &ResourceId,
    partition: &str,
    old: Option<i64>,
    run_id: i64,
    ranges: impl Iterator<Item = Coverage>,
) -> Result<(), DbError> {
    let sql = "DELETE FROM _hw_coverage WHERE source = ?1 AND resource = ?2 AND partition = ?3
               AND (?4 IS NULL OR run_id = ?4)";
    transaction.prepare_cached(sql)?.execute(params![&*id.source, &*id.resource, partition, old])?;
    let mut insert = transaction.prepare_cached(
        "INSERT INTO _hw_coverage
           (source, resource, partition, from_value, from_sort, to_value, to_sort, run_id, covered_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    for range in ranges {
        insert.execute(params![
            &*id.source,
            &*id.resource,
            partition,
            range.from.as_ref().map(|from| &from.json),
            range.from.as_ref().map(|from| &from.sort),
            range.to.json,
            range.to.sort,
            run_id,
            now_text()
        ])?;
    }
    Ok(())
}

impl FromSql for SortKey {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value {
            ValueRef::Integer(value) => Ok(Self::Integer(value)),
            ValueRef::Text(text) => {
                std::str::from_utf8(text).map(|text| Self::Text(text.to_owned())).map_err(FromSqlError::other)
            }
            _ => Err(FromSqlError::InvalidType),
        }
    }
}
