//! Where a run begins: whose table it fills, which read it goes on with, and what an unfinished one left.

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::history::{Begun, RunStart, now_text, table_exists};
use super::place::staging_table;
use super::table::NOT_OURS;
use super::tables::Tables;
use super::{DbError, family, sqlite};
use crate::page::{ResourceId, StopReason, Target, WriteDisposition};

/// Enters a run, as [`super::Db::begin_run`] says.
pub(super) fn begin_run(connection: &Connection, tables: &mut Tables, start: &RunStart) -> Result<Begun, DbError> {
    let ResourceId { source, resource } = &start.target.id;
    let transaction = sqlite::begin(connection)?;
    let now = now_text();
    end_runs_left_open(&transaction, Some(&start.target.id), start.gave_up.as_deref())?;
    claim(&transaction, start, &now)?;
    // A table that cannot be written is refused now, and not with its first page. Users may have changed theirs.
    tables.forget();
    tables.get(&transaction, &start.target.table, &start.target)?;
    let unfinished: Option<i64> = transaction
        .query_row(
            "SELECT read_id FROM _hw_checkpoints
             WHERE source = ?1 AND resource = ?2 AND partition = '' AND state <> 'complete'",
            (&**source, &**resource),
            |row| row.get(0),
        )
        .optional()?;
    let run_id = sqlite::last_id(&transaction, "_hw_runs")? + 1;
    let read_id = match unfinished {
        Some(read_id) if start.resume => {
            // From here on no other run may move it: see the fence in `commit`.
            transaction.execute(
                "UPDATE _hw_checkpoints SET run_id = ?3 WHERE source = ?1 AND resource = ?2 AND partition = ''",
                params![&**source, &**resource, run_id],
            )?;
            read_id
        }
        unfinished => {
            begin_read(&transaction, tables, start, unfinished)?;
            transaction.execute(
                "INSERT INTO _hw_checkpoints
                   (source, resource, partition, state, read_id, run_id, request_fingerprint, updated_at)
                 VALUES (?1, ?2, '', 'reading', ?3, ?3, ?4, ?5)
                 ON CONFLICT DO UPDATE SET state = 'reading', position = NULL, read_id = excluded.read_id,
                   run_id = excluded.run_id, request_fingerprint = excluded.request_fingerprint,
                   updated_at = excluded.updated_at",
                params![&**source, &**resource, run_id, start.request_fingerprint, now],
            )?;
            run_id
        }
    };
    transaction.execute(
        "INSERT INTO _hw_runs (run_id, kind, source, resource, read_id, started_at, outcome)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'running')",
        params![run_id, start.kind.as_str(), &**source, &**resource, read_id, now],
    )?;
    transaction.commit()?;
    Ok(Begun { run_id, read_id })
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
            why.unwrap_or("the process ended before the run did"),
        ],
    )?;
    Ok(())
}

/// Enters the resource, or checks that it still is what its data came from.
fn claim(transaction: &Transaction<'_>, start: &RunStart, now: &str) -> Result<(), DbError> {
    let target = &start.target;
    let known: Option<(String, Option<String>)> = transaction
        .query_row(
            "SELECT \"table\", identity FROM _hw_resources WHERE source = ?1 AND resource = ?2",
            (&*target.id.source, &*target.id.resource),
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    let changed = |what: String| Err(DbError::IdentityChanged { resource: target.id.to_string(), what });
    match &known {
        Some((table, Some(_))) if *table != target.table => {
            return changed(format!("its table changed from {table} to {}", target.table));
        }
        Some((_, Some(identity))) if *identity == start.identity => return Ok(()),
        Some((_, Some(identity))) => return changed(identity_change(identity, &start.identity)),
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
    Ok(())
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
    let changes: Vec<String> = after
        .iter()
        .filter(|(key, value)| before.get(*key) != Some(value))
        .map(|(key, value)| {
            let old = before.get(key).unwrap_or(&serde_json::Value::Null);
            format!("its {key} changed from {old} to {value}")
        })
        .collect();
    if changes.is_empty() { "its definition changed".to_owned() } else { changes.join(", ") }
}

/// Takes back what an unfinished read left.
fn begin_read(
    transaction: &Transaction<'_>,
    tables: &mut Tables,
    start: &RunStart,
    unfinished: Option<i64>,
) -> Result<(), DbError> {
    let target = &start.target;
    match target.disposition {
        WriteDisposition::Append => {
            if let Some(read_id) = unfinished
                && table_exists(transaction, &target.table)?
            {
                let taken_back = family::take_back(transaction, &target.table, read_id);
                let taken_back = taken_back.map_err(|error| refused(target, error))?;
                tracing::info!(resource = %target.id, rows = taken_back, "took back the rows of an unfinished read");
            }
        }
        WriteDisposition::Replace => tables.drop_table(transaction, &staging_table(&target.table))?,
        WriteDisposition::Merge => {}
    }
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
        "DELETE FROM _hw_resources WHERE source = ?1 AND resource = ?2"
    } else {
        // The table still belongs to the resource: it must be found by a reset that drops it.
        "UPDATE _hw_resources SET identity = NULL, decided = NULL WHERE source = ?1 AND resource = ?2"
    };
    transaction.execute(forget, key)?;
    transaction.execute("DELETE FROM _hw_checkpoints WHERE source = ?1 AND resource = ?2", key)?;
    transaction.commit()?;
    Ok(true)
}
