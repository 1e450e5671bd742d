//! The `_hw_` tables: what was run, what came, where to go on. They are public; docs/contract.md describes them.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::columns::quote;
use super::tables::{NOT_OURS, Tables, staging_table};
use super::{Db, DbError, sqlite};
use crate::page::{ResourceId, StopReason, Target, WriteDisposition};

/// Tables of the bookkeeping.
pub(super) const SCHEMA: &str = r#"
CREATE TABLE _hw_meta (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL) STRICT;
CREATE TABLE _hw_resources (
  source TEXT NOT NULL, resource TEXT NOT NULL, "table" TEXT NOT NULL UNIQUE COLLATE NOCASE,
  identity TEXT, decided TEXT, first_seen_at TEXT NOT NULL,
  PRIMARY KEY (source, resource)) STRICT;
CREATE TABLE _hw_checkpoints (
  source TEXT NOT NULL, resource TEXT NOT NULL, partition TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('reading', 'complete', 'abandoned')),
  position TEXT, cursor TEXT, read_id INTEGER NOT NULL, run_id INTEGER NOT NULL,
  request_fingerprint TEXT NOT NULL, updated_at TEXT NOT NULL,
  PRIMARY KEY (source, resource, partition)) STRICT;
CREATE TABLE _hw_runs (
  run_id INTEGER PRIMARY KEY NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('sync', 'backfill', 'scheduled')),
  source TEXT NOT NULL, resource TEXT NOT NULL, read_id INTEGER NOT NULL,
  started_at TEXT NOT NULL, ended_at TEXT,
  outcome TEXT NOT NULL CHECK (outcome IN ('running', 'complete', 'incomplete', 'failed')),
  stop_reason TEXT,
  requests INTEGER NOT NULL DEFAULT 0, retries INTEGER NOT NULL DEFAULT 0, pages INTEGER NOT NULL DEFAULT 0,
  received INTEGER NOT NULL DEFAULT 0, inserted INTEGER NOT NULL DEFAULT 0, updated INTEGER NOT NULL DEFAULT 0,
  unchanged INTEGER NOT NULL DEFAULT 0, filtered INTEGER NOT NULL DEFAULT 0, quarantined INTEGER NOT NULL DEFAULT 0,
  bytes INTEGER NOT NULL DEFAULT 0, error TEXT,
  CHECK (received = inserted + updated + unchanged + filtered + quarantined)) STRICT;
CREATE INDEX _hw_runs_of_resource ON _hw_runs (source, resource, run_id);
CREATE TABLE _hw_pages (
  page_id INTEGER PRIMARY KEY NOT NULL, run_id INTEGER NOT NULL, read_id INTEGER NOT NULL,
  source TEXT NOT NULL, resource TEXT NOT NULL, partition TEXT NOT NULL, position TEXT NOT NULL,
  url TEXT NOT NULL, status INTEGER NOT NULL, fetched_at TEXT NOT NULL, duration_ms INTEGER NOT NULL,
  bytes INTEGER NOT NULL, attempts INTEGER NOT NULL,
  received INTEGER NOT NULL, inserted INTEGER NOT NULL, updated INTEGER NOT NULL, unchanged INTEGER NOT NULL,
  filtered INTEGER NOT NULL, quarantined INTEGER NOT NULL,
  CHECK (received = inserted + updated + unchanged + filtered + quarantined)) STRICT;
CREATE TABLE _hw_columns (
  "table" TEXT NOT NULL, "column" TEXT NOT NULL, source_key TEXT NOT NULL, type TEXT NOT NULL,
  first_page_id INTEGER NOT NULL, PRIMARY KEY ("table", "column")) STRICT;
CREATE TABLE _hw_quarantine (
  quarantine_id INTEGER PRIMARY KEY NOT NULL, page_id INTEGER NOT NULL, source TEXT NOT NULL, resource TEXT NOT NULL,
  reason TEXT NOT NULL, record TEXT NOT NULL) STRICT;
CREATE TABLE _hw_budgets (
  budget TEXT PRIMARY KEY NOT NULL, tat_ms INTEGER NOT NULL, not_before_ms INTEGER NOT NULL,
  updated_at TEXT NOT NULL) STRICT;
"#;

/// The time now as the tables keep it: RFC 3339 in UTC, with milliseconds.
pub(super) fn now_text() -> String {
    time_text(Timestamp::now())
}

/// A time as the tables keep it.
pub(super) fn time_text(time: Timestamp) -> String {
    format!("{time:.3}")
}

/// What asked for a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunKind {
    /// A person or a timer: `highwater sync`.
    Sync,
}

impl RunKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Sync => "sync",
        }
    }
}

/// What is stored about where a resource's read stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCheckpoint {
    /// The position of the next page, as JSON; none unless a read is under way.
    pub position: Option<String>,
    /// Fingerprint of the request that made the position.
    pub request_fingerprint: String,
    /// When it was stored.
    pub updated_at: Timestamp,
    /// Whether the last read reached its end.
    pub complete: bool,
    /// What `auto` decided in an earlier run, as JSON.
    pub decided: Option<String>,
}

/// A run that is about to begin.
#[derive(Clone, Debug)]
pub struct RunStart {
    /// What asked for it.
    pub kind: RunKind,
    /// Where the records go.
    pub target: Target,
    /// What the resource's data depends on, as a JSON object.
    pub identity: String,
    /// Fingerprint of the request.
    pub request_fingerprint: String,
    /// `true` goes on with the read that is under way; `false` begins a new one.
    pub resume: bool,
    /// Why a run of the same resource that has not ended is given up; none when its process has died.
    pub gave_up: Option<String>,
}

/// A run that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Row of `_hw_runs`.
    pub run_id: i64,
    /// The read it goes on with.
    pub read_id: i64,
}

/// A budget as it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBudget {
    /// Its name.
    pub budget: String,
    /// Theoretical arrival time of the next request, in milliseconds since 1970.
    pub tat_ms: i64,
    /// No request before this, in milliseconds since 1970.
    pub not_before_ms: i64,
}

impl Db {
    /// What is stored about where the resource's read stands.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn checkpoint(&self, id: &ResourceId) -> Result<Option<StoredCheckpoint>, DbError> {
        let id = id.clone();
        self.writer
            .call("read checkpoint", move |connection, _| {
                Ok(connection
                    .query_row(
                        "SELECT c.state, c.position, c.request_fingerprint, c.updated_at, r.decided
                         FROM _hw_checkpoints c LEFT JOIN _hw_resources r USING (source, resource)
                         WHERE c.source = ?1 AND c.resource = ?2 AND c.partition = ''",
                        (&*id.source, &*id.resource),
                        stored_checkpoint,
                    )
                    .optional()?)
            })
            .await
    }

    /// Enters a run. A new read first takes back what an unfinished one left where that would be read twice: the
    /// rows of an append resource, and the generation that a replace resource had begun.
    ///
    /// # Errors
    /// When the configuration no longer describes the data that is there, or the file cannot be written.
    pub async fn begin_run(&self, start: RunStart) -> Result<Begun, DbError> {
        self.writer.call("begin run", move |connection, tables| begin_run(connection, tables, &start)).await
    }

    /// The budgets as they were stored.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn budgets(&self) -> Result<Vec<StoredBudget>, DbError> {
        self.writer
            .call("read budgets", |connection, _| {
                let mut statement = connection.prepare("SELECT budget, tat_ms, not_before_ms FROM _hw_budgets")?;
                let rows = statement.query_map([], |row| {
                    Ok(StoredBudget { budget: row.get(0)?, tat_ms: row.get(1)?, not_before_ms: row.get(2)? })
                })?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// Stores a budget.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn save_budget(&self, budget: StoredBudget) -> Result<(), DbError> {
        self.writer
            .call("save budget", move |connection, _| {
                let transaction = sqlite::begin(connection)?;
                transaction.execute(
                    "INSERT INTO _hw_budgets (budget, tat_ms, not_before_ms, updated_at) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (budget) DO UPDATE SET tat_ms = excluded.tat_ms,
                       not_before_ms = excluded.not_before_ms, updated_at = excluded.updated_at",
                    params![budget.budget, budget.tat_ms, budget.not_before_ms, now_text()],
                )?;
                Ok(transaction.commit()?)
            })
            .await
    }

    /// Forgets where the resource's read stands and what its data depended on. Its rows stay, unless `drop_rows`.
    /// Returns whether there was anything to forget.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn reset(&self, id: &ResourceId, drop_rows: bool) -> Result<bool, DbError> {
        let id = id.clone();
        self.writer.call("reset", move |connection, tables| reset(connection, tables, &id, drop_rows)).await
    }
}

fn stored_checkpoint(row: &Row<'_>) -> rusqlite::Result<StoredCheckpoint> {
    let state: String = row.get(0)?;
    let position: Option<String> = row.get(1)?;
    let updated_at: String = row.get(3)?;
    Ok(StoredCheckpoint {
        position: position.filter(|_| state == "reading"),
        request_fingerprint: row.get(2)?,
        // A time that cannot be read is as old as time: the read starts over, and nothing is lost.
        updated_at: updated_at.parse().unwrap_or(Timestamp::UNIX_EPOCH),
        complete: state == "complete",
        decided: row.get(4)?,
    })
}

fn begin_run(connection: &Connection, tables: &mut Tables, start: &RunStart) -> Result<Begun, DbError> {
    let ResourceId { source, resource } = &start.target.id;
    let transaction = sqlite::begin(connection)?;
    let now = now_text();
    transaction.execute(
        "UPDATE _hw_runs SET outcome = 'incomplete', stop_reason = ?3, ended_at = ?4, error = ?5
         WHERE source = ?1 AND resource = ?2 AND outcome = 'running'",
        params![
            &**source,
            &**resource,
            StopReason::Interrupted.as_str(),
            now,
            start.gave_up.as_deref().unwrap_or("the process ended before the run did"),
        ],
    )?;
    claim(&transaction, start, &now)?;
    // A table that cannot be written is refused now, and not with its first page.
    tables.get(&transaction, &start.target.table, &start.target)?;
    let unfinished: Option<i64> = transaction
        .query_row(
            "SELECT read_id FROM _hw_checkpoints
             WHERE source = ?1 AND resource = ?2 AND partition = '' AND state <> 'complete'",
            (&**source, &**resource),
            |row| row.get(0),
        )
        .optional()?;
    let run_id: i64 =
        transaction.query_row("SELECT coalesce(max(run_id), 0) + 1 FROM _hw_runs", [], |row| row.get(0))?;
    let read_id = match unfinished {
        Some(read_id) if start.resume => read_id,
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
        Some((table, None)) if *table == target.table => {}
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
                let taken_back = transaction.execute(
                    &format!(
                        "DELETE FROM {} WHERE _page_id IN (SELECT page_id FROM _hw_pages WHERE read_id = ?1)",
                        quote(&target.table)
                    ),
                    [read_id],
                )?;
                tracing::info!(resource = %target.id, rows = taken_back, "took back the rows of an unfinished read");
            }
        }
        WriteDisposition::Replace => tables.drop_table(transaction, &staging_table(&target.table))?,
        WriteDisposition::Merge => {}
    }
    Ok(())
}

pub(super) fn table_exists(transaction: &Connection, table: &str) -> Result<bool, DbError> {
    Ok(transaction.query_row(
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE)",
        [table],
        |row| row.get(0),
    )?)
}

fn reset(connection: &Connection, tables: &mut Tables, id: &ResourceId, drop_rows: bool) -> Result<bool, DbError> {
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
