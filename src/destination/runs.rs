//! Where a run begins: whose table it fills, which read it goes on with, and what an unfinished one left.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use ring::digest;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::history::{Begun, RunStart, now_text};
use super::place::{Place, staging_table};
use super::queue::{Queue, Queued};
use super::table::NOT_OURS;
use super::tables::Tables;
use super::{DbError, aside, boundary, counted, coverage, family, minutes, partitions, queue, sqlite, validators};
use crate::page::{ResourceId, RunKind, StopReason, Target, WriteDisposition};
use crate::units::Timespan;

/// Why a run has not ended of which nothing else is known.
pub(super) const ENDED_BEFORE_ITS_RUN: &str = "the process ended before the run did";

/// Enters a run, as [`super::Db::begin_run`] says.
pub(super) fn begin_run(connection: &Connection, tables: &mut Tables, start: &RunStart) -> Result<Begun, DbError> {
    let (id, target) = (&start.target.id, &start.target);
    let transaction = sqlite::begin(connection)?;
    let now = now_text();
    end_runs_left_open(&transaction, Some(id), None)?;
    claim(&transaction, start, &now)?;
    // Earlier runs cannot be broken off any more.
    boundary::forget(&transaction, id)?;
    coverage::join(&transaction, id)?;
    // A table that cannot be written is refused now, and not with its first page. Users may have changed theirs.
    tables.forget();
    if tables.get(&transaction, &target.table, target)?.is_none() {
        counted::is_empty(&transaction, &Place::own(target))?;
    }
    minutes::forget_old(&transaction, id)?;
    let run_id = sqlite::last_id(&transaction, "_hw_runs")? + 1;
    let before = Before::of(&transaction, start)?;
    let mut dropped = 0;
    let (pass_id, started_over) = match start.kind {
        RunKind::Sync | RunKind::Scheduled => {
            dropped = drop_unfit(&transaction, start)?;
            enter_pass(&transaction, tables, start, &before, run_id)?
        }
        RunKind::Backfill => {
            partitions::give_up(&transaction, target, &start.ranges.given_up)?;
            enqueue_all(&transaction, start, run_id, false)?;
            (run_id, None)
        }
        RunKind::Retry => (run_id, None),
    };
    transaction.execute(
        "UPDATE _hw_resources SET run_id = ?3 WHERE source = ?1 AND resource = ?2",
        params![&*id.source, &*id.resource, run_id],
    )?;
    transaction.execute(
        "INSERT INTO _hw_runs (run_id, kind, source, resource, pass_id, started_at, outcome)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'running')",
        params![run_id, start.kind.as_str(), &*id.source, &*id.resource, pass_id, now],
    )?;
    transaction.commit()?;
    Ok(Begun { run_id, pass_id, decided: before.decided, started_over, dropped })
}

/// Drops what the parents of a resource have queued for a request that it no longer has, and says how much of it was
/// still to be read. What all of them return again begins another pass.
fn drop_unfit(transaction: &Transaction<'_>, start: &RunStart) -> Result<usize, DbError> {
    if !start.keeps_queue {
        return Ok(0);
    }
    let unfit = queue::unfit(transaction, &start.target.id, &start.parent_keys)?;
    let waited = unfit.iter().filter(|(_, is_complete)| !is_complete).count();
    let names: Vec<String> = unfit.into_iter().map(|(partition, _)| partition).collect();
    partitions::give_up(transaction, &start.target, &names)?;
    Ok(waited)
}

/// The pass that a run goes on with, or begins; then also why one that was under way is not gone on with.
fn enter_pass(
    transaction: &Transaction<'_>,
    tables: &mut Tables,
    start: &RunStart,
    before: &Before,
    run_id: i64,
) -> Result<(i64, Option<String>), DbError> {
    let (id, target) = (&start.target.id, &start.target);
    let mut started_over = None;
    let pass_id = match before.gone_on_with(start) {
        Ok(pass_id) => pass_id,
        Err(why) => {
            let is_replaced = target.disposition == WriteDisposition::Replace;
            if is_replaced {
                tables.drop_table(transaction, &staging_table(&target.table))?;
            }
            if start.needs_all {
                partitions::start_over(transaction, id)?;
                if target.disposition == WriteDisposition::Append && before.is_open {
                    queue::reopen(transaction, id, before.pass_id)?;
                }
            }
            started_over = why.filter(|_| is_replaced || start.needs_all);
            if start.keeps_queue {
                queue::keep_queue(transaction, id, before.pass_id, run_id)?;
            }
            enqueue_all(transaction, start, run_id, is_replaced)?;
            run_id
        }
    };
    transaction.execute(
        "UPDATE _hw_resources SET pass_id = ?3, pass_state = 'open', pass_fingerprint = ?4
         WHERE source = ?1 AND resource = ?2",
        params![&*id.source, &*id.resource, pass_id, pass_fingerprint(start)],
    )?;
    Ok((pass_id, started_over))
}

/// Queues the partitions of a pass that begins with a run.
fn enqueue_all(transaction: &Transaction<'_>, start: &RunStart, run_id: i64, is_replaced: bool) -> Result<(), DbError> {
    let queue = Queue { id: &start.target.id, pass_id: run_id, is_replaced, from: None };
    let fields = start.ranges.parent_fields.iter().map(Option::as_deref).chain(std::iter::repeat(None));
    let named = start.partitions.iter().zip(fields);
    queue::enqueue(
        transaction,
        &queue,
        named.map(|(partition, parent_fields)| Queued { parent_fields, ..Queued::named(partition) }),
    )
}

/// What a pass depends on: the request, and what there is to be read with it.
fn pass_fingerprint(start: &RunStart) -> String {
    let partitions = digest::digest(&digest::SHA256, start.partitions.join("\n").as_bytes());
    let hash: String = partitions.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{} {hash}", start.request_fingerprint)
}

/// What the file knows of a resource before a run.
struct Before {
    decided: Option<String>,
    pass_id: Option<i64>,
    is_open: bool,
    fingerprint: Option<String>,
    /// When its pass last stored something, and whether that was anything of an unfinished read.
    moved_at: Timestamp,
    has_begun: bool,
}

impl Before {
    fn of(transaction: &Transaction<'_>, start: &RunStart) -> Result<Self, DbError> {
        let id = &start.target.id;
        let before = transaction.query_row(
            "SELECT decided, pass_id, coalesce(pass_state, '') = 'open', pass_fingerprint, c.moved_at, c.has_begun
             FROM _hw_resources r, (SELECT max(updated_at) AS moved_at, coalesce(max(read_open), 0) AS has_begun
               FROM _hw_checkpoints WHERE source = ?1 AND resource = ?2
                 AND pass_id = (SELECT pass_id FROM _hw_resources WHERE source = ?1 AND resource = ?2)) c
             WHERE source = ?1 AND resource = ?2",
            params![&*id.source, &*id.resource],
            |row| {
                let moved_at: Option<String> = row.get(4)?;
                Ok(Self {
                    decided: row.get(0)?,
                    pass_id: row.get(1)?,
                    is_open: row.get(2)?,
                    fingerprint: row.get(3)?,
                    // A time that cannot be read is as old as time: the pass starts over, and nothing is lost.
                    moved_at: moved_at.and_then(|at| at.parse().ok()).unwrap_or(Timestamp::UNIX_EPOCH),
                    has_begun: row.get(5)?,
                })
            },
        )?;
        Ok(before)
    }

    /// The pass to go on with; or why another one begins, where one is under way.
    fn gone_on_with(&self, start: &RunStart) -> Result<i64, Option<String>> {
        let Some(pass_id) = self.pass_id.filter(|_| self.is_open) else { return Err(None) };
        let over = |why: String| Err(Some(why).filter(|_| self.has_begun));
        if start.needs_all {
            return over("resources that are read for its records need all of them".to_owned());
        }
        if self.fingerprint.as_ref() != Some(&pass_fingerprint(start)) {
            return over("its request has changed in the configuration".to_owned());
        }
        let age = Timestamp::now().duration_since(self.moved_at).max(SignedDuration::ZERO).unsigned_abs();
        if age >= *start.resume_within {
            let age = Timespan(Duration::from_secs(age.as_secs()));
            return over(format!("it stopped {age} ago, longer than resume_within ({})", start.resume_within));
        }
        Ok(pass_id)
    }
}

/// Enters the end of runs that did not live to see it, of one resource or of all.
pub(super) fn end_runs_left_open(
    connection: &Connection,
    id: Option<&ResourceId>,
    why: Option<&str>,
) -> Result<(), DbError> {
    connection.execute(
        "UPDATE _hw_runs SET outcome = 'incomplete', stop_reason = ?3, ended_at = ?4, error = ?5
         WHERE outcome = 'running' AND (?1 IS NULL OR source = ?1 AND resource = ?2)",
        params![
            id.map(|id| &*id.source),
            id.map(|id| &*id.resource),
            StopReason::Interrupted.as_str(),
            now_text(),
            why.unwrap_or(ENDED_BEFORE_ITS_RUN),
        ],
    )?;
    Ok(())
}

/// Enters the resource, or checks that it still is what its data came from.
fn claim(transaction: &Transaction<'_>, start: &RunStart, now: &str) -> Result<(), DbError> {
    let target = &start.target;
    let known = check_identity(transaction, target, &start.identity)?;
    match &known {
        Some((_, Some(_))) => return Ok(()),
        Some((table, None)) if table.eq_ignore_ascii_case(&target.table) => {}
        Some((_, None)) | None => {
            if let Some(why) = why_taken(transaction, &target.table)? {
                let resource = target.id.to_string();
                return Err(DbError::TableTaken { resource, table: target.table.clone(), why });
            }
        }
    }
    transaction.execute(
        "INSERT INTO _hw_resources (source, resource, \"table\", identity, first_seen_at) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (source, resource) DO UPDATE SET \"table\" = excluded.\"table\", identity = excluded.identity",
        params![&*target.id.source, &*target.id.resource, target.table, start.identity, now],
    )?;
    if known.is_none_or(|(table, _)| table != target.table) {
        counted::count(transaction, &target.id)?;
    }
    Ok(())
}

/// The table and the identity that a resource is entered with, as [`super::Db::check_identity`] says.
pub(super) fn check_identity(
    connection: &Connection,
    target: &Target,
    identity: &str,
) -> Result<Option<(String, Option<String>)>, DbError> {
    let known: Option<(String, Option<String>)> = connection
        .query_row(
            "SELECT \"table\", identity FROM _hw_resources WHERE source = ?1 AND resource = ?2",
            (&*target.id.source, &*target.id.resource),
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    let what = match &known {
        Some((table, Some(_))) if *table != target.table => {
            format!("its table changed from {table} to {}", target.table)
        }
        Some((_, Some(before))) if *before != identity => identity_change(before, identity),
        _ => return Ok(known),
    };
    Err(DbError::IdentityChanged { resource: target.id.to_string(), what })
}

/// Why a resource that has no table yet cannot have this one.
fn why_taken(transaction: &Transaction<'_>, table: &str) -> Result<Option<String>, DbError> {
    let resource = transaction
        .query_row(
            "SELECT 'belongs to ' || source || '.' || resource || '; give this one another `table`' FROM _hw_resources WHERE \"table\" = ?1",
            [table],
            |row| row.get(0),
        )
        .optional()?;
    if resource.is_some() {
        return Ok(resource);
    }
    if let Some(parent) = family::parent_of(transaction, table)? {
        return Ok(Some(format!("is a child table of {parent}; give this resource another `table`")));
    }
    let ours: bool =
        transaction
            .query_row("SELECT EXISTS (SELECT 1 FROM _hw_columns WHERE \"table\" = ?1)", [table], |row| row.get(0))?;
    let exists: bool = transaction.query_row(
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = ?1 COLLATE NOCASE)",
        [table],
        |row| row.get(0),
    )?;
    Ok((exists && !ours).then(|| NOT_OURS.to_owned()))
}

/// Names the keys of two identities, both JSON objects, in which they differ.
fn identity_change(before: &str, after: &str) -> String {
    let parse =
        |text: &str| serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text).unwrap_or_default();
    let (before, after) = (parse(before), parse(after));
    let keys = after.keys().chain(before.keys().filter(|key| !after.contains_key(*key)));
    let changes: Vec<String> = keys
        .filter(|key| before.get(*key) != after.get(*key))
        .map(|key| {
            let [old, new] = [&before, &after].map(|identity| identity.get(key).unwrap_or(&serde_json::Value::Null));
            format!("its {key} changed from {old} to {new}")
        })
        .collect();
    if changes.is_empty() { "its definition changed".to_owned() } else { changes.join(", ") }
}

/// Forgets a read, as [`super::Db::reset`] says.
pub(super) fn reset(
    connection: &Connection,
    tables: &mut Tables,
    id: &ResourceId,
    drop_rows: bool,
) -> Result<bool, DbError> {
    let key = (&*id.source, &*id.resource);
    let transaction = sqlite::begin(connection)?;
    let table: Option<String> = transaction
        .query_row("SELECT \"table\" FROM _hw_resources WHERE source = ?1 AND resource = ?2", key, |row| row.get(0))
        .optional()?;
    let Some(table) = table else { return Ok(false) };
    tables.drop_table(&transaction, &staging_table(&table))?;
    let forget = if drop_rows {
        tables.drop_table(&transaction, &table)?;
        aside::drop_rows(&transaction, id)?;
        "DELETE FROM _hw_resources WHERE source = ?1 AND resource = ?2"
    } else {
        // The table still belongs to the resource: it must be found by a reset that drops it.
        "UPDATE _hw_resources SET identity = NULL, decided = NULL, pass_id = NULL, pass_state = NULL WHERE source = ?1 AND resource = ?2"
    };
    transaction.execute(forget, key)?;
    for table in ["_hw_checkpoints", "_hw_boundary", "_hw_coverage"] {
        transaction.execute(&format!("DELETE FROM {table} WHERE source = ?1 AND resource = ?2"), key)?;
    }
    validators::forget(&transaction, id)?;
    transaction.commit()?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::identity_change;

    #[test]
    fn every_key_in_which_two_identities_differ_is_named() {
        for (before, after, said) in [
            (r#"{"a":1,"b":2}"#, r#"{"a":1,"b":3}"#, "its b changed from 2 to 3"),
            (r#"{"a":1}"#, r#"{"a":1,"b":3}"#, "its b changed from null to 3"),
            (r#"{"a":1,"b":"x"}"#, r#"{"a":1}"#, r#"its b changed from "x" to null"#),
            (
                r#"{"a":1,"b":2}"#,
                r#"{"a":2,"c":3}"#,
                "its a changed from 1 to 2, its c changed from null to 3, its b changed from 2 to null",
            ),
            ("nonsense", "{}", "its definition changed"),
        ] {
            assert_eq!(identity_change(before, after), said);
        }
    }
}
