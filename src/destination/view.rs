//! A look at the file, beside the one that writes it: a connection of its own that only reads. Every question is
//! short, answered from one state of the file, bounded by a limit and an index, and never counts the rows of a table.
//!
//! It works with and without a process that writes. SQLite opens the file here as well, and nothing else does.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, InterruptHandle, OpenFlags};

use super::sqlite::{Found, recognise};
use super::{DbError, StoredBudget, due, history, minutes, upgrade};
use crate::page::ResourceId;
use crate::schedule::Past;

mod aside;
mod overview;
mod resources;
mod runs;
mod table;
mod tally;
#[cfg(test)]
mod tests;

pub use aside::Quarantined;
pub use overview::{Overview, ResourceOverview};
pub use resources::{Cursor, PassView, QUARANTINED_MAX, ResourceView};
pub use runs::{ErrorGroup, FailedPartition, PageView, RunBar, RunDetail, RunView};
pub use table::{ColumnView, RowView, TableView};
pub use tally::{RunSums, Tally};

/// How long another program may hold the file for itself, as it does while it recovers it.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// An answer takes milliseconds; one that takes this long is broken off.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Prepared statements kept: all there are.
const STATEMENTS_MAX: usize = 64;

/// Page cache in KiB: what hundreds of resources touch of the history when all of them are looked at.
const CACHE_KIB: i64 = 8 << 10;

/// Lines that one answer has at most, however many are asked for.
const LINES_MAX: usize = 1_000;

/// The file, open for reading.
#[derive(Debug)]
pub struct View {
    connection: tokio_rusqlite::Connection,
    interrupt: Interrupt,
    path: PathBuf,
}

/// Breaks off what the connection is at.
struct Interrupt(InterruptHandle);

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interrupt")
    }
}

impl View {
    /// Opens the file for reading. Nothing is created, and nobody is kept out.
    ///
    /// # Errors
    /// When there is no database yet, when it is not ours, newer, or of a version that had not all of this, and when it
    /// cannot be read.
    pub async fn open(path: &Path) -> Result<Self, DbError> {
        let nothing = || DbError::NotThere(path.to_owned());
        // Only looked at, never opened.
        match std::fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(nothing()),
            Err(error) => return Err(error.into()),
            Ok(file) if file.len() == 0 && !has_wal(path) => return Err(nothing()),
            Ok(_) => {}
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = tokio_rusqlite::Connection::open_with_flags(path, flags).await.map_err(unreadable)?;
        let name = path.to_owned();
        let set_up = connection.call(move |connection| {
            connection.busy_timeout(BUSY_TIMEOUT)?;
            connection.pragma_update(None, "query_only", true)?;
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
            connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
            if recognise(connection, &name)? == Found::Empty {
                return Err(DbError::NotThere(name));
            }
            if !upgrade::is_up(connection)? {
                return Err(DbError::Older(name));
            }
            // This reads the schema, so the file has to be known as ours.
            connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
            Ok(connection.get_interrupt_handle())
        });
        let interrupt = timely("open", set_up).await.map_err(unreadable)?;
        Ok(Self { connection, interrupt: Interrupt(interrupt), path: path.to_owned() })
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every resource that was ever read into the file, in the order in which they came.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn resources(&self) -> Result<Vec<ResourceView>, DbError> {
        self.call("look at resources", resources::all).await
    }

    /// Runs, the newest first: of one resource or of all, those before the run `before`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn runs(
        &self,
        resource: Option<&ResourceId>,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<RunView>, DbError> {
        let (id, limit) = (resource.cloned(), limit.min(LINES_MAX));
        self.call("look at runs", move |connection| runs::list(connection, id.as_ref(), before, limit)).await
    }

    /// Every resource with its last runs and minutes, at most so many of each, from one state of the file. The file
    /// remembers two hours. What has not changed since the look `before` is taken from there.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn overview(&self, runs: usize, minutes: usize, before: &Arc<Overview>) -> Result<Overview, DbError> {
        let shown = overview::Shown { runs: runs.min(LINES_MAX), minutes: minutes.min(LINES_MAX) };
        let (before, now) = (Arc::clone(before), Timestamp::now());
        self.call("look at everything", move |connection| overview::look(connection, shown, &before, now)).await
    }

    /// A run, its newest pages, and the partitions that it could not read.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn run(&self, run_id: i64) -> Result<Option<RunDetail>, DbError> {
        self.call("look at a run", move |connection| runs::detail(connection, run_id)).await
    }

    /// A table of a resource, or of the lists in its records; none where `name` is anything else.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn table(&self, name: &str) -> Result<Option<TableView>, DbError> {
        let name = name.to_owned();
        self.call("look at a table", move |connection| table::look(connection, &name)).await
    }

    /// Records that were set aside, the newest first: of one resource or of all, those before the one with the number
    /// `before`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn quarantine(
        &self,
        resource: Option<&ResourceId>,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<Quarantined>, DbError> {
        let (id, limit) = (resource.cloned(), limit.min(LINES_MAX));
        self.call("look at the quarantine", move |connection| aside::quarantine(connection, id.as_ref(), before, limit))
            .await
    }

    /// The last failed runs in groups of the same resource and error, the one that was there last first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn errors(&self, limit: usize) -> Result<Vec<ErrorGroup>, DbError> {
        let limit = limit.min(LINES_MAX);
        self.call("look at errors", move |connection| runs::errors(connection, limit)).await
    }

    /// How many records of one resource, or of all, were stored in each of the last minutes: the present one last.
    /// The file remembers two hours.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn rows_per_minute(&self, resource: Option<&ResourceId>, minutes: usize) -> Result<Vec<u64>, DbError> {
        let (id, count) = (resource.cloned(), minutes.min(LINES_MAX));
        let now = Timestamp::now();
        self.call("look at the last minutes", move |connection| minutes::last(connection, id.as_ref(), now, count))
            .await
    }

    /// What became of the last runs of all resources in the file, as [`super::Db::pasts`] says it.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn pasts(&self, ids: Vec<ResourceId>) -> Result<HashMap<ResourceId, Past>, DbError> {
        self.call("look at pasts", move |connection| {
            let pasts = ids.into_iter().map(|id| Ok(due::past(connection, &id)?.map(|past| (id, past))));
            pasts.filter_map(Result::transpose).collect()
        })
        .await
    }

    /// The budgets as they were stored.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn budgets(&self) -> Result<Vec<StoredBudget>, DbError> {
        self.call("look at budgets", history::budgets).await
    }

    /// Answers a question from one state of the file. One that takes too long is broken off.
    async fn call<R: Send + 'static>(
        &self,
        what: &'static str,
        ask: impl FnOnce(&Connection) -> Result<R, DbError> + Send + 'static,
    ) -> Result<R, DbError> {
        let call = self.connection.call(move |connection| {
            // What is read first decides which state of the file all the rest is of.
            let snapshot = connection.unchecked_transaction()?;
            let answer = ask(&snapshot)?;
            Ok::<_, DbError>(answer)
        });
        let answered = timely(what, call).await;
        if matches!(answered, Err(DbError::Timeout(_))) {
            self.interrupt.0.interrupt();
        }
        answered
    }
}

/// Waits for the thread of a connection, but not for ever.
async fn timely<R>(
    what: &'static str,
    call: impl Future<Output = Result<R, tokio_rusqlite::Error<DbError>>>,
) -> Result<R, DbError> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(tokio_rusqlite::Error::Error(error))) => Err(error),
        Ok(Err(_)) => Err(DbError::Closed),
        Err(_) => Err(DbError::Timeout(what)),
    }
}

/// Why the file does not open: whoever only reads has no need of writing.
fn unreadable(error: impl Into<DbError>) -> DbError {
    match error.into() {
        DbError::ReadOnly(why) => DbError::Unreadable(why),
        error => error,
    }
}

/// Whether what is written to a file that is still empty stands in its WAL.
fn has_wal(path: &Path) -> bool {
    let mut wal = path.to_owned().into_os_string();
    wal.push("-wal");
    std::fs::metadata(wal).is_ok_and(|wal| wal.len() > 0)
}

/// The condition for the lines of one resource, or of all.
fn of_resource(id: Option<&ResourceId>) -> &'static str {
    if id.is_some() { "source = ?1 AND resource = ?2" } else { "?1 IS NULL AND ?2 IS NULL" }
}

/// A text of at most so many characters, and whether it is the whole of it.
fn cut(text: &str, characters_max: usize) -> (String, bool) {
    match text.char_indices().nth(characters_max) {
        Some((end, _)) => (text[..end].to_owned(), false),
        None => (text.to_owned(), true),
    }
}
