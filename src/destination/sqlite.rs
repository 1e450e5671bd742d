//! The one connection that writes, on its own thread, and how SQLite is set up on it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use super::tables::Tables;
use super::{DbError, DestinationOptions, Synchronous, upgrade, wal};
use crate::sabotage::{Sabotage, on};

/// Marks a file as ours in the SQLite header: "hwtr".
pub(super) const APPLICATION_ID: i64 = 0x6877_7472;

/// Version of the `_hw_` tables.
pub(super) const SCHEMA_VERSION: i64 = 1;

/// The first SQLite release in which a checkpoint that races a writer cannot lose commits.
const SQLITE_VERSION_MIN: i32 = 3_051_003;

/// No call to a healthy disk takes this long; beyond it the process has to end, not to hang.
const CALL_TIMEOUT: Duration = Duration::from_secs(300);

/// Prepared statements kept: a few for the history, two for each table that is being written.
const STATEMENTS_MAX: usize = 256;

/// Page cache in KiB. It holds the inner pages of large tables, so that an upsert reads at most one page.
const CACHE_KIB: i64 = 16 << 10;

/// The connection that writes, behind tokio-rusqlite's thread.
#[derive(Debug)]
pub(super) struct Writer {
    connection: tokio_rusqlite::Connection,
    tables: Arc<Mutex<Tables>>,
}

impl Writer {
    pub(super) async fn open(options: &DestinationOptions) -> Result<Self, DbError> {
        if rusqlite::version_number() < SQLITE_VERSION_MIN {
            return Err(DbError::OldSqlite(rusqlite::version()));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = tokio_rusqlite::Connection::open_with_flags(&options.path, flags).await?;
        let writer = Self { connection, tables: Arc::default() };
        let options = options.clone();
        // However long it takes to recover the file or to bring it up to this version: whoever asked for it may stop it.
        let opened = writer.call_however_long("open", move |connection, tables| {
            connection.busy_timeout(*options.busy_timeout)?;
            // Until the file is known to be ours, not even its WAL is moved into it.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            let found = recognise(connection, &options.path)?;
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
            configure(connection, &options)?;
            if found == Found::Empty {
                create_schema(connection)?;
            }
            upgrade::bring_up(connection)?;
            tables.changes.listen(connection)
        });
        match opened.await {
            Ok(()) => Ok(writer),
            Err(error) => {
                // Before the lock is let go.
                if let Err(close_error) = writer.connection.close().await {
                    tracing::debug!(%close_error, "close a file that could not be used");
                }
                Err(error)
            }
        }
    }

    /// Runs `work` on the writer's thread, as long as a healthy disk could need. A panic in it, or an error, leaves no
    /// transaction open.
    ///
    /// Dropping the returned future does not stop `work`: it runs to its end, and may commit.
    pub(super) async fn call<R: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&mut Connection, &mut Tables) -> Result<R, DbError> + Send + 'static,
    ) -> Result<R, DbError> {
        let call = self.call_however_long(what, work);
        tokio::time::timeout(CALL_TIMEOUT, call).await.unwrap_or(Err(DbError::Timeout(what)))
    }

    async fn call_however_long<R: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&mut Connection, &mut Tables) -> Result<R, DbError> + Send + 'static,
    ) -> Result<R, DbError> {
        let tables = Arc::clone(&self.tables);
        let call = self.connection.call(move |connection| {
            let mut tables = tables.lock().unwrap_or_else(PoisonError::into_inner);
            let result =
                catch_unwind(AssertUnwindSafe(|| work(connection, &mut tables))).unwrap_or(Err(DbError::Panic(what)));
            // A transaction writes, whatever it is for.
            let result = result.and_then(|value| tables.wal.keep_short(connection).map(|()| value));
            if result.is_err() {
                tables.forget();
                if !connection.is_autocommit()
                    && let Err(error) = connection.execute_batch("ROLLBACK")
                {
                    tracing::error!(%error, "roll back after a failed {what}");
                }
            }
            result.map_err(|error| error.explained(connection.path()))
        });
        match call.await {
            Ok(value) => Ok(value),
            Err(tokio_rusqlite::Error::Error(error)) => Err(error),
            Err(_) => Err(DbError::Closed),
        }
    }

    /// Moves the WAL into the file.
    pub(super) async fn empty_wal(&self) -> Result<(), DbError> {
        self.call("checkpoint", |connection, _| wal::checkpoint(connection, "TRUNCATE").map(drop)).await
    }

    pub(super) async fn close(self) -> Result<(), DbError> {
        match tokio::time::timeout(CALL_TIMEOUT, self.connection.close()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(DbError::Closed),
            Err(_) => Err(DbError::Timeout("close")),
        }
    }
}

/// Begins the only kind of transaction there is here: one that has the write lock from the start. A writer that
/// holds the file longer than the busy timeout is waited for a few times more.
pub(super) fn begin(connection: &Connection) -> Result<Transaction<'_>, DbError> {
    /// Each of them waits for the busy timeout.
    const ATTEMPTS: u32 = 4;
    let mut attempt = 1;
    loop {
        match Transaction::new_unchecked(connection, TransactionBehavior::Immediate).map_err(DbError::from) {
            Err(DbError::Busy) if attempt < ATTEMPTS => {
                tracing::warn!("another program holds the database; waiting for it");
                attempt += 1;
            }
            done => return done,
        }
    }
}

/// The highest id that `table` has ever had. Rows and reads are known by these ids: one that was given to a line that a
/// user has deleted since must not come again.
pub(super) fn last_id(transaction: &Connection, table: &str) -> Result<i64, DbError> {
    let sql = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = ?1";
    Ok(transaction.prepare_cached(sql)?.query_row([table], |row| row.get(0))?)
}

/// What a file is that may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A new file, or one without anything in it.
    Empty,
    /// A database of this version.
    Ours,
}

/// Refuses files that are not ours before anything is written to them.
pub(super) fn recognise(connection: &Connection, path: &Path) -> Result<Found, DbError> {
    let not_ours = |why: String| DbError::NotOurs { path: path.to_owned(), why };
    // The header comes first: of a file that is ours, damage is to be called damage.
    let application_id: i64 =
        connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(|error| {
            match error.sqlite_error_code() {
                Some(ErrorCode::NotADatabase) => not_ours(error.to_string()),
                _ => error.into(),
            }
        })?;
    if application_id != APPLICATION_ID {
        let entries: i64 =
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(|error| {
                match DbError::from(error) {
                    DbError::Corrupt(why) => not_ours(why),
                    other => other,
                }
            })?;
        if entries == 0 && application_id == 0 {
            return Ok(Found::Empty);
        }
        return Err(not_ours(format!("it is a SQLite file of another program, with {entries} tables and indexes")));
    }
    let found: i64 = connection
        .query_row("SELECT value FROM _hw_meta WHERE key = 'schema_version'", [], |row| row.get::<_, String>(0))
        .map_err(DbError::from)
        .and_then(|text| text.parse().map_err(|_| DbError::Corrupt(format!("schema_version is {text:?}"))))?;
    if found > SCHEMA_VERSION {
        return Err(DbError::Newer { path: path.to_owned(), found, known: SCHEMA_VERSION });
    }
    Ok(Found::Ours)
}

fn configure(connection: &Connection, options: &DestinationOptions) -> Result<(), DbError> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // The swap of a replaced table must not be stopped by a view that names it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_LEGACY_ALTER_TABLE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if !mode.eq_ignore_ascii_case("wal") {
        return Err(DbError::Io(format!("the file system offers no WAL (journal_mode is {mode})")));
    }
    let synchronous = match options.synchronous {
        Synchronous::Full if !on(Sabotage::NormalForFull) => "FULL",
        Synchronous::Full | Synchronous::Normal => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "wal_autocheckpoint", if on(Sabotage::AutoCheckpoint) { 1000 } else { 0 })?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    // Foreign keys can only be a user's, on our tables: what we write must not stop at them, nor delete by them.
    connection.pragma_update(None, "foreign_keys", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    Ok(())
}

fn create_schema(connection: &mut Connection) -> Result<(), DbError> {
    let transaction = begin(connection)?;
    transaction.execute_batch(super::schema::SCHEMA)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.execute(
        "INSERT INTO _hw_meta (key, value) VALUES ('schema_version', ?1), ('created_by', ?2)",
        (SCHEMA_VERSION.to_string(), concat!("highwater ", env!("CARGO_PKG_VERSION"))),
    )?;
    super::meta::make_salt(&transaction)?;
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::Db;

    /// What a `PRAGMA` says on the writer's own connection.
    async fn pragma(db: &Db, name: &'static str) -> String {
        let read = move |connection: &mut Connection, _: &mut Tables| {
            let value = connection.pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0))?;
            Ok(match value {
                rusqlite::types::Value::Integer(value) => value.to_string(),
                rusqlite::types::Value::Text(value) => value,
                other => format!("{other:?}"),
            })
        };
        db.writer.call("pragma", read).await.unwrap()
    }

    #[tokio::test]
    async fn the_connection_that_writes_is_set_up_for_what_is_promised() {
        let folder = tempfile::tempdir().unwrap();
        for (synchronous, level) in [(Synchronous::Full, "2"), (Synchronous::Normal, "1")] {
            let path = folder.path().join("x.db");
            let db = Db::open(&DestinationOptions { path, synchronous, ..Default::default() }).await.unwrap();
            for (name, value) in [
                ("journal_mode", "wal"),
                ("synchronous", level),
                ("wal_autocheckpoint", "0"),
                ("foreign_keys", "0"),
                ("busy_timeout", "5000"),
                ("trusted_schema", "0"),
                ("application_id", "1752659058"),
            ] {
                assert_eq!(pragma(&db, name).await, value, "{name}");
            }
            db.close().await.unwrap();
        }
        assert!(rusqlite::version_number() >= SQLITE_VERSION_MIN, "{}", rusqlite::version());
    }

    #[tokio::test]
    async fn whatever_writes_much_leaves_a_short_wal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        let db = Db::open(&DestinationOptions { path, ..Default::default() }).await.unwrap();
        let write = db.writer.call("write", |connection, _| {
            Ok(connection.execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES (zeroblob(80 << 20))")?)
        });
        write.await.unwrap();
        let waiting = db.writer.call("look", |connection, _| wal::checkpoint(connection, "NOOP"));
        assert_eq!(waiting.await.unwrap(), 0);
        db.close().await.unwrap();
    }

    #[tokio::test]
    async fn a_file_is_opened_however_long_that_takes() {
        let folder = tempfile::tempdir().unwrap();
        let options = DestinationOptions { path: folder.path().join("x.db"), ..Default::default() };
        let writer = Writer::open(&options).await.unwrap();
        // On a clock that jumps to the end of every wait.
        tokio::time::pause();
        let (called, opened) = tokio::join!(
            writer.call("never", |_, _| {
                std::thread::park_timeout(Duration::from_millis(50));
                Ok(())
            }),
            Writer::open(&options)
        );
        assert!(matches!(called, Err(DbError::Timeout("never"))), "{called:?}");
        opened.unwrap();
    }

    #[tokio::test]
    async fn x05_a_panic_on_the_database_thread_rolls_back_and_the_next_call_works() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        let db = Db::open(&DestinationOptions { path, ..Default::default() }).await.unwrap();
        let panicked: Result<(), _> = db
            .writer
            .call("panic", |connection, _| {
                connection.execute_batch("BEGIN IMMEDIATE; CREATE TABLE t (a)")?;
                panic!("on purpose")
            })
            .await;
        assert!(matches!(panicked, Err(DbError::Panic("panic"))), "{panicked:?}");
        let left = db
            .writer
            .call("look", |connection, _| Ok((connection.is_autocommit(), connection.table_exists(None, "t")?)));
        assert_eq!(left.await.unwrap(), (true, false));
        db.close().await.unwrap();
    }
}
