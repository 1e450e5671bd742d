//! What the file remembers of earlier runs: checkpoints, identities and budgets.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Db, DbError, runs, sqlite};
use crate::page::{ResourceId, Target};

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
    pub(super) fn as_str(self) -> &'static str {
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
    /// Whether the last read was given up: its position led nowhere.
    pub abandoned: bool,
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
        self.writer.call("begin run", move |connection, tables| runs::begin_run(connection, tables, &start)).await
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
        self.writer.call("reset", move |connection, tables| runs::reset(connection, tables, &id, drop_rows)).await
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
        abandoned: state == "abandoned",
        decided: row.get(4)?,
    })
}

/// Whether there is a table of this name.
pub(super) fn table_exists(transaction: &Connection, table: &str) -> Result<bool, DbError> {
    Ok(transaction.query_row(
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE)",
        [table],
        |row| row.get(0),
    )?)
}
