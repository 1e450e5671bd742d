//! Each resource with what became of its last runs, where its cursor stands, and how far its pass is.

use std::cmp::Ordering;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;
use serde_json::Value;

use super::super::due::{self, time};
use super::super::{DbError, due::FAILURES_MAX};
use super::runs::{self, RunView};
use crate::page::ResourceId;

/// Partitions that are looked at; of more, only so many are counted.
const PARTITIONS_MAX: usize = 10_000;

/// Records set aside that are counted; where there are so many, there may be more.
pub const QUARANTINED_MAX: u64 = 100;

/// A resource, as the file has it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ResourceView {
    /// The source.
    pub source: String,
    /// The resource in it.
    pub resource: String,
    /// Its table, whether or not there is one yet.
    pub table: String,
    /// How many rows highwater wrote into the table.
    pub rows: u64,
    /// The last run, backfills included.
    pub last_run: Option<RunView>,
    /// The last run that was a read.
    pub last_read: Option<RunView>,
    /// When the last complete run ended, backfills left out.
    pub last_success_at: Option<Timestamp>,
    /// Runs that failed since the last one that did not, backfills left out; at most 30.
    pub failures: u32,
    /// Records set aside; at most 100, and then there are as many or more.
    pub quarantined: u64,
    /// Where its cursor stands; none where it has none.
    pub cursor: Option<Cursor>,
    /// The pass that is under way, or was interrupted.
    pub pass: Option<PassView>,
    /// Since when it does not run by itself, because somebody said so.
    pub paused_at: Option<Timestamp>,
}

impl ResourceView {
    /// The resource.
    #[must_use]
    pub fn id(&self) -> ResourceId {
        ResourceId::new(&self.source, &self.resource)
    }
}

/// Where a cursor stands: in one partition, or from the lowest to the highest of several.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cursor {
    /// The value in the partition that is least far.
    pub lowest: Value,
    /// The value in the partition that is farthest; the same where there is only one.
    pub highest: Value,
}

/// How far a pass over the partitions of a resource is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PassView {
    /// Partitions that are read completely.
    pub done: u64,
    /// Partitions that are known so far: those of a child come with the records of its parent.
    pub total: u64,
    /// Whether these are all; else there are more than were counted.
    pub is_counted: bool,
}

/// A line of `_hw_resources`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) id: ResourceId,
    table: String,
    rows: u64,
    pass_id: Option<i64>,
    pub(super) is_open: bool,
}

/// Every resource in the file, in the order in which they came.
pub(super) fn lines(connection: &Connection) -> Result<Vec<Line>, DbError> {
    let mut statement = connection.prepare_cached(
        "SELECT source, resource, \"table\", rows, pass_id, coalesce(pass_state, '') = 'open' FROM _hw_resources
         ORDER BY rowid",
    )?;
    let lines = statement.query_map([], |row| {
        let (source, resource): (String, String) = (row.get(0)?, row.get(1)?);
        Ok(Line {
            id: ResourceId::new(&source, &resource),
            table: row.get(2)?,
            rows: row.get(3)?,
            pass_id: row.get(4)?,
            is_open: row.get(5)?,
        })
    })?;
    Ok(lines.collect::<Result<_, _>>()?)
}

/// Every resource, as [`super::View::resources`] says.
pub(super) fn all(connection: &Connection) -> Result<Vec<ResourceView>, DbError> {
    let paused = due::paused(connection)?;
    let view = |line: Line| {
        let last_run = last_run(connection, &line.id)?;
        view(connection, &line, last_run, paused.get(&line.id).copied())
    };
    lines(connection)?.into_iter().map(view).collect()
}

/// The last run of a resource, whatever it was.
pub(super) fn last_run(connection: &Connection, id: &ResourceId) -> Result<Option<RunView>, DbError> {
    Ok(runs::list(connection, Some(id), None, 1)?.pop())
}

/// A resource whose last run is known.
pub(super) fn view(
    connection: &Connection,
    line: &Line,
    last_run: Option<RunView>,
    paused_at: Option<Timestamp>,
) -> Result<ResourceView, DbError> {
    let id = &line.id;
    let key = (&*id.source, &*id.resource);
    let quarantined = connection
        .prepare_cached(
            "SELECT count(*) FROM (SELECT 1 FROM _hw_quarantine WHERE source = ?1 AND resource = ?2 AND retried_page_id IS NULL LIMIT ?3)",
        )?
        .query_row(params![key.0, key.1, QUARANTINED_MAX], |row| row.get(0))?;
    let (cursor, pass) = partitions(connection, line)?;
    let last_read = match &last_run {
        Some(run) if run.kind != "backfill" && run.kind != "retry" => last_run.clone(),
        _ => runs::last_read(connection, id)?,
    };
    // What the last read says by itself is not looked for: with hundreds of resources that would be most of the work.
    let last_success_at = match &last_read {
        Some(read) if read.outcome == "complete" => read.ended_at,
        Some(_) => last_success(connection, id)?,
        None => None,
    };
    let failures = match &last_read {
        Some(read) if read.outcome == "failed" => due::past(connection, id)?.map_or(0, |past| past.failures),
        _ => 0,
    };
    Ok(ResourceView {
        source: id.source.to_string(),
        resource: id.resource.to_string(),
        rows: line.rows,
        last_read,
        last_run,
        last_success_at,
        failures: failures.min(FAILURES_MAX),
        quarantined,
        cursor,
        pass: pass.filter(|_| line.is_open),
        paused_at,
        table: line.table.clone(),
    })
}

/// When the last complete run of a resource ended that was a read.
fn last_success(connection: &Connection, id: &ResourceId) -> Result<Option<Timestamp>, DbError> {
    let ended: Option<Option<String>> = connection
        .prepare_cached(
            "SELECT ended_at FROM _hw_runs INDEXED BY _hw_runs_succeeded
             WHERE source = ?1 AND resource = ?2 AND outcome = 'complete' AND kind IN ('sync', 'scheduled')
             ORDER BY run_id DESC LIMIT 1",
        )?
        .query_row((&*id.source, &*id.resource), |row| row.get(0))
        .optional()?;
    Ok(time(ended.flatten()))
}

/// Where the cursor stands in the partitions of the live reads, and how far the last pass over them is.
fn partitions(connection: &Connection, line: &Line) -> Result<(Option<Cursor>, Option<PassView>), DbError> {
    let mut statement = connection.prepare_cached(
        "SELECT cursor, state = 'complete', pass_id IS ?3 FROM _hw_checkpoints
         WHERE source = ?1 AND resource = ?2 AND (partition = '' OR json_extract(partition, '$._from') IS NULL)
         LIMIT ?4",
    )?;
    let limit = PARTITIONS_MAX + 1;
    let mut rows = statement.query(params![&*line.id.source, &*line.id.resource, line.pass_id, limit])?;
    let (mut cursor, mut pass): (Option<Cursor>, Option<PassView>) = (None, None);
    let mut seen = 0;
    while let Some(row) = rows.next()? {
        seen += 1;
        let value = row.get::<_, Option<String>>(0)?.and_then(|json| serde_json::from_str(&json).ok());
        cursor = value.map_or(cursor.clone(), |value| Some(joined(cursor, value)));
        if row.get(2)? {
            let pass = pass.get_or_insert(PassView { done: 0, total: 0, is_counted: true });
            pass.total += 1;
            pass.done += u64::from(row.get::<_, bool>(1)?);
        }
    }
    if seen > PARTITIONS_MAX {
        // Of those that were not looked at, any can be the lowest.
        cursor = None;
        pass = pass.map(|pass| PassView { is_counted: false, ..pass });
    }
    Ok((cursor, pass))
}

/// The range that a cursor and another value make together.
fn joined(cursor: Option<Cursor>, value: Value) -> Cursor {
    let Some(Cursor { lowest, highest }) = cursor else { return Cursor { lowest: value.clone(), highest: value } };
    Cursor {
        lowest: if order(&value, &lowest).is_lt() { value.clone() } else { lowest },
        highest: if order(&value, &highest).is_gt() { value } else { highest },
    }
}

/// Numbers by their size, everything else as text.
fn order(a: &Value, b: &Value) -> Ordering {
    match (a.as_i64(), b.as_i64(), a.as_f64(), b.as_f64()) {
        (Some(a), Some(b), ..) => a.cmp(&b),
        (_, _, Some(a), Some(b)) => a.total_cmp(&b),
        _ => match (a.as_str(), b.as_str()) {
            (Some(a), Some(b)) => a.cmp(b),
            _ => a.to_string().cmp(&b.to_string()),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::joined;

    #[test]
    fn a_cursor_reaches_from_the_lowest_to_the_highest_value_of_its_kind() {
        for (values, lowest, highest) in [
            (vec![json!(9), json!(10), json!(-3)], json!(-3), json!(10)),
            (vec![json!(9.5), json!(10)], json!(9.5), json!(10)),
            (vec![json!("2024-02-01"), json!("2023-12-31")], json!("2023-12-31"), json!("2024-02-01")),
            (vec![json!("a")], json!("a"), json!("a")),
        ] {
            let cursor = values.into_iter().fold(None, |cursor, value: Value| Some(joined(cursor, value))).unwrap();
            assert_eq!((cursor.lowest, cursor.highest), (lowest, highest));
        }
    }
}
