//! What became of a run, for the person or the program that asked for it.

use crate::destination::{Counts, DbError, Outcome};
use crate::exit::Exit;
use crate::page::{ResourceId, StopReason};

/// What became of a run.
#[derive(Debug)]
pub struct SyncReport {
    /// One for each resource of the plan, in its order.
    pub resources: Vec<ResourceReport>,
    /// The database failed: what was not committed by then is not stored.
    pub db_error: Option<DbError>,
}

/// What became of one resource.
#[derive(Clone, Debug)]
pub struct ResourceReport {
    /// The resource.
    pub id: ResourceId,
    /// Its table.
    pub table: String,
    /// How its run ended.
    pub outcome: Outcome,
    /// Why its read ended.
    pub stop_reason: StopReason,
    /// What became of its records in this run.
    pub counts: Counts,
    /// Pages committed in this run.
    pub pages: u64,
    /// Requests sent in this run.
    pub requests: u64,
    /// Requests sent again after a failure.
    pub retries: u64,
    /// Where an earlier run had stopped, when this one went on from there.
    pub resumed_at: Option<String>,
    /// Why an earlier, unfinished read was not gone on with.
    pub started_over: Option<String>,
    /// What went wrong.
    pub error: Option<String>,
    /// What the exit code says of it; `None` when it is complete.
    pub exit: Option<Exit>,
}

impl SyncReport {
    /// What the process exits with; `None` when everything asked for is complete.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        let db = self.db_error.as_ref().map(exit_of_db);
        self.resources.iter().filter_map(|resource| resource.exit).chain(db).min()
    }
}

/// What the process exits with when the database fails.
#[must_use]
pub fn exit_of_db(error: &DbError) -> Exit {
    match error {
        DbError::Held { .. } | DbError::Busy => Exit::Held,
        DbError::IdentityChanged { .. } | DbError::TableTaken { .. } => Exit::Config,
        DbError::OldSqlite(_) | DbError::Closed | DbError::Panic(_) => Exit::Bug,
        DbError::NotOurs { .. }
        | DbError::Newer { .. }
        | DbError::Corrupt(_)
        | DbError::Full
        | DbError::ReadOnly(_)
        | DbError::Io(_)
        | DbError::Timeout(_)
        | DbError::Sqlite(_) => Exit::Storage,
    }
}
