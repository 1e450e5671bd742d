//! The SQLite file: rows, checkpoints and history, changed only by whole commits.
//!
//! The contract: [`Db::commit`] stores everything that its pages say (rows, quarantined records, columns, ledger
//! lines, checkpoints, run totals) in one transaction, or nothing. A page is never split over two commits. When a
//! commit returns an error, its outcome is unknown until the checkpoint has been read again from the file.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Timespan;

mod aside;
mod batch;
mod boundary;
mod changes;
mod columns;
mod commit;
mod contract;
mod counted;
mod coverage;
mod due;
mod error;
mod extend;
mod family;
mod file_system;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod hints;
mod history;
mod keys;
mod lock;
mod meta;
mod minutes;
mod partitions;
mod place;
mod queue;
mod rows;
mod runs;
mod sabotage;
mod schema;
mod sqlite;
mod swap;
mod table;
mod tables;
mod upgrade;
mod validators;
mod view;
mod wal;
mod writer;

pub use aside::{ReadSince, SetAsidePage};
pub use batch::{Batch, Committed, Counts, Delivery, Ending, Outcome, PartitionFailed, PassEnd};
pub use boundary::Boundary;
pub use coverage::{LivePartition, OpenRange};
pub use error::DbError;
pub use history::{Begun, RunStart, StoredBudget};
pub use lock::{Holder, holder};
pub use partitions::StoredPartition;
pub use view::{
    ColumnView, Cursor, ErrorGroup, FailedPartition, Overview, PageView, PassView, QUARANTINED_MAX, Quarantined,
    ResourceOverview, ResourceView, RowView, RunBar, RunDetail, RunSums, RunView, TableView, Tally, View,
};

/// `[destination]`: the file, and how safe a commit is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DestinationOptions {
    /// The SQLite file. A relative path starts at `$STATE_DIRECTORY` when that is set.
    pub path: PathBuf,
    /// What a committed page survives.
    pub synchronous: Synchronous,
    /// How long another writer may hold the file before a commit is tried again, then failed.
    pub busy_timeout: Timespan,
    /// Take a file on NFS, SMB or the like as well, where SQLite's locks cannot be relied on.
    pub allow_network_file_system: bool,
}

impl Default for DestinationOptions {
    fn default() -> Self {
        Self {
            path: PathBuf::from("highwater.db"),
            synchronous: Synchronous::default(),
            busy_timeout: Timespan::secs(5),
            allow_network_file_system: false,
        }
    }
}

/// What a committed page survives (SQLite's `PRAGMA synchronous`, in WAL mode).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Synchronous {
    /// A power cut.
    #[default]
    Full,
    /// A crash of the process; a power cut may take back the last commits, rows and checkpoint together.
    Normal,
}

/// The open file. One thread writes it; every call is awaited under a timeout.
#[derive(Debug)]
pub struct Db {
    writer: sqlite::Writer,
    path: PathBuf,
    /// The same without links.
    real_path: PathBuf,
    /// Which file was there when it was opened.
    file: lock::FileId,
    /// Held until the file is closed.
    _lock: lock::LockFile,
}

impl Db {
    /// Opens the file, or creates it, and keeps other instances out.
    ///
    /// # Errors
    /// When it is on a network file system, when another instance has it open, when it is not ours, newer, corrupt or cannot
    /// be written.
    pub async fn open(options: &DestinationOptions) -> Result<Self, DbError> {
        let path = lock::real_path(&options.path)?;
        if !options.allow_network_file_system {
            file_system::check(&path)?;
        }
        let lock = lock::LockFile::take_in_turn(&path).await?;
        let writer = sqlite::Writer::open(&DestinationOptions { path: path.clone(), ..options.clone() }).await?;
        let file = lock::file_at(&path)?;
        Ok(Self { file, writer, path: options.path.clone(), real_path: path, _lock: lock })
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file beside the database, `NAME.SUFFIX`. It is the same one by whatever link the database is reached, so that
    /// its lock keeps others from it, too.
    #[must_use]
    pub fn beside(&self, suffix: &str) -> PathBuf {
        let mut path = self.real_path.clone().into_os_string();
        path.push(".");
        path.push(suffix);
        path.into()
    }

    /// Stores a batch in one transaction.
    ///
    /// # Errors
    /// When the transaction failed: nothing of it is stored, or, for an error of COMMIT itself, perhaps all of it.
    pub async fn commit(&self, batch: Batch) -> Result<Committed, DbError> {
        self.writer.call("commit", move |connection, tables| commit::commit(connection, tables, batch)).await
    }

    /// Enters the end of runs that did not live to see it: none can be under way when the file has just been opened.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn end_runs_left_open(&self) -> Result<(), DbError> {
        self.writer.call("end runs", |connection, _| runs::end_runs_left_open(connection, None, None)).await
    }

    /// Whether the file is still where it was opened. It is only looked at, never opened.
    fn check_place(&self) -> Result<(), DbError> {
        match lock::file_at(&self.real_path) {
            Ok(file) if file == self.file => Ok(()),
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            Ok(_) | Err(_) => Err(DbError::Gone(self.real_path.clone())),
        }
    }

    /// Moves the WAL into the file, closes the file and lets the next instance in.
    ///
    /// # Errors
    /// When the WAL cannot be written back; the file then still holds everything, in the WAL. When the file is no longer
    /// where it was opened; wherever it is, it is whole. It is closed in any case but a timeout's.
    pub async fn close(self) -> Result<(), DbError> {
        // A reader that panicked did not end its run.
        let end = |connection: &mut _, _: &mut _| runs::end_runs_left_open(connection, None, Some("a bug"));
        let ended = self.writer.call("close", end).await;
        let place = self.check_place();
        // Closed before the lock is let go, whatever went wrong. After a failed write nothing more is written.
        let moved = if ended.is_ok() { self.writer.empty_wal().await } else { ended };
        moved.and(self.writer.close().await).and(place)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio_util::sync::CancellationToken;

    use super::{Batch, Db, Delivery, DestinationOptions, Ending, Outcome, PassEnd, RunStart};
    use crate::page::{ResourceId, Run, RunKind, StopReason, Target, WriteDisposition};

    /// A run of `s.r`, which is appended.
    fn start() -> RunStart {
        let target = Target {
            id: ResourceId::new("s", "r"),
            table: "s_r".to_owned(),
            primary_key: Vec::new(),
            disposition: WriteDisposition::Append,
            layout: Default::default(),
        };
        RunStart {
            kind: RunKind::Sync,
            target,
            identity: "{}".to_owned(),
            request_fingerprint: String::new(),
            partitions: vec![String::new()],
            ranges: Default::default(),
            keeps_queue: false,
            parent_keys: Default::default(),
            needs_all: false,
            resume_within: crate::units::Timespan::secs(0),
        }
    }

    /// Steps of SQLite's machine that a run without a page takes, when there were so many runs before it. The last of
    /// them made the table.
    async fn steps_after(runs: u64) -> u64 {
        let folder = tempfile::tempdir().unwrap();
        let options = DestinationOptions { path: folder.path().join("x.db"), ..DestinationOptions::default() };
        let db = Db::open(&options).await.unwrap();
        db.begin_run(start()).await.unwrap();
        let steps = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&steps);
        let history = db.writer.call("make a history", move |connection, _| {
            connection.execute_batch(&format!(
                "WITH RECURSIVE n (n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM n WHERE n <= {runs})
                 INSERT INTO _hw_runs (run_id, kind, source, resource, pass_id, started_at, ended_at, outcome)
                   SELECT n, 'sync', 's', 'r', n, '', '', 'complete' FROM n;
                 CREATE TABLE s_r (id INTEGER, _page_id INTEGER NOT NULL);
                 INSERT INTO _hw_columns VALUES ('s_r', 'id', 'id', 'integer', 1);
                 INSERT INTO _hw_pages VALUES (1, {runs} + 1, 1, 's', 'r', '', '', '', 200, '', 0, 0, 1, 0, 0, 0, 0, 0, 0)"
            ))?;
            let count = move || {
                counted.fetch_add(1, Ordering::Relaxed);
                false
            };
            connection.progress_handler(1, Some(count))?;
            Ok(())
        });
        history.await.unwrap();
        let begun = db.begin_run(start()).await.unwrap();
        let run = Run::new(begun.run_id, begun.pass_id, Arc::new(start().target), CancellationToken::new());
        let mut batch = Batch::default();
        batch.push(Delivery::Ended(Ending {
            run: Arc::new(run),
            outcome: Outcome::Complete,
            stop_reason: StopReason::NoNext,
            error: None,
            requests: 1,
            retries: 0,
            pass: PassEnd::Complete,
        }));
        let committed = db.commit(batch).await.unwrap();
        assert!(committed.broken.is_empty() && committed.ended.len() == 1);
        let steps = steps.load(Ordering::Relaxed);
        db.close().await.unwrap();
        steps
    }

    #[tokio::test]
    async fn what_a_run_costs_does_not_grow_with_the_runs_before_it() {
        let (few, many) = (steps_after(10).await, steps_after(5_000).await);
        assert!(many < few + 100, "{few} steps after ten runs, {many} after five thousand");
    }

    #[tokio::test]
    async fn a_run_that_nobody_ended_is_not_running_any_more_when_the_file_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let options = DestinationOptions { path: folder.path().join("x.db"), ..DestinationOptions::default() };
        let db = Db::open(&options).await.unwrap();
        let start = start();
        db.begin_run(start).await.unwrap();
        db.close().await.unwrap();
        let file = rusqlite::Connection::open(&options.path).unwrap();
        let sql = "SELECT outcome || ' ' || stop_reason || ' ' || error FROM _hw_runs";
        let said: String = file.query_row(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(said, "incomplete interrupted a bug");
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_closed_well_is_closed_before_the_next_instance_is_let_in() {
        let folder = tempfile::tempdir().unwrap();
        let options = DestinationOptions { path: folder.path().join("x.db"), ..DestinationOptions::default() };
        // Who closes a file as the last one takes its WAL away.
        for fails in ["DROP TABLE _hw_runs", "CREATE TEMP TABLE _hw_runs (x)"] {
            let db = Db::open(&options).await.unwrap();
            let broken = db.writer.call("break", move |connection, _| Ok(connection.execute_batch(fails)?));
            broken.await.unwrap();
            assert!(folder.path().join("x.db-wal").exists());
            db.close().await.unwrap_err();
            assert!(!folder.path().join("x.db-wal").exists(), "{fails}");
            std::fs::remove_file(&options.path).unwrap();
        }
    }
}
