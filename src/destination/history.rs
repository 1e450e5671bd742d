//! What the file remembers of earlier runs: checkpoints, identities and budgets.

use std::collections::BTreeSet;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::{Db, DbError, family, runs, sqlite};
use crate::page::{RangeNotes, ResourceId, RunKind, Target};
use crate::units::Timespan;

/// The time now as the tables keep it: RFC 3339 in UTC, with milliseconds.
pub(super) fn now_text() -> String {
    time_text(Timestamp::now())
}

/// A time as the tables keep it.
pub(super) fn time_text(time: Timestamp) -> String {
    format!("{time:.3}")
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
    /// Its partitions, each a JSON object or empty; those of a resource with a parent come with the parent's records.
    pub partitions: Vec<String>,
    /// Of a backfill, what there is to know of them.
    pub ranges: RangeNotes,
    /// Partitions that are left of the last pass are part of the next one: nothing names them again.
    pub keeps_queue: bool,
    /// The keys of its partitions that come from the records of parents; those of others are no longer of use.
    pub parent_keys: BTreeSet<String>,
    /// Every record has to come, as others begin with all of them: what is under way starts over.
    pub needs_all: bool,
    /// A pass that was interrupted is gone on with when it is younger than this.
    pub resume_within: Timespan,
}

/// A run that has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Row of `_hw_runs`.
    pub run_id: i64,
    /// The pass that it begins, or goes on with.
    pub pass_id: i64,
    /// What `auto` decided in an earlier run, as JSON.
    pub decided: Option<String>,
    /// Why a generation that had begun to grow is not gone on with.
    pub started_over: Option<String>,
    /// Partitions that waited to be read and were dropped, as their keys no longer fit.
    pub dropped: usize,
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

/// The budgets as they were stored.
pub(super) fn budgets(connection: &Connection) -> Result<Vec<StoredBudget>, DbError> {
    let mut statement = connection.prepare("SELECT budget, tat_ms, not_before_ms FROM _hw_budgets")?;
    let rows = statement.query_map([], |row| {
        Ok(StoredBudget { budget: row.get(0)?, tat_ms: row.get(1)?, not_before_ms: row.get(2)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

impl Db {
    /// Whether the last pass over the resource is complete.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn is_complete(&self, id: &ResourceId) -> Result<bool, DbError> {
        let id = id.clone();
        self.writer
            .call("read pass", move |connection, _| {
                let sql = "SELECT coalesce(pass_state, '') = 'complete' FROM _hw_resources
                           WHERE source = ?1 AND resource = ?2";
                let complete = connection.query_row(sql, (&*id.source, &*id.resource), |row| row.get(0)).optional()?;
                Ok(complete.unwrap_or(false))
            })
            .await
    }

    /// Checks that a resource still is what its data came from, as the beginning of a run does.
    ///
    /// # Errors
    /// When it is not, or the file cannot be read.
    pub async fn check_identity(&self, target: &Target, identity: &str) -> Result<(), DbError> {
        let (target, identity) = (target.clone(), identity.to_owned());
        self.writer
            .call("check identity", move |connection, _| runs::check_identity(connection, &target, &identity).map(drop))
            .await
    }

    /// The tables that the lists of the records of `table` are in, and the lists in those.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn child_tables(&self, table: &str) -> Result<Vec<String>, DbError> {
        let table = table.to_owned();
        self.writer
            .call("read tables", move |connection, _| {
                Ok(family::family(connection, &table)?.into_iter().skip(1).collect())
            })
            .await
    }

    /// Enters a run, which goes on with the pass that an earlier one left open, or begins another.
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
        self.writer.call("read budgets", |connection, _| budgets(connection)).await
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

/// Whether there is a table of this name.
pub(super) fn table_exists(transaction: &Connection, table: &str) -> Result<bool, DbError> {
    Ok(transaction.query_row(
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE)",
        [table],
        |row| row.get(0),
    )?)
}
