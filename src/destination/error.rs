//! What can go wrong with the file, in the words of the person who has to do something about it.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use super::file_system;

/// Why the file could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// Another instance has the file open.
    #[error("{path} is in use by another highwater{}; wait for it to end, or use another destination.path", pid_note(.pid))]
    Held {
        /// The database.
        path: PathBuf,
        /// The other process, where it is known.
        pid: Option<u32>,
    },
    /// The file is where SQLite's promises end.
    #[error(
        "{} is on {kind}, where SQLite's locks and shared memory cannot be relied on; choose a destination.path on a disk of \
         this machine, or set `allow_network_file_system = true` in [destination] if no other machine uses the file",
        .path.display()
    )]
    NetworkFileSystem {
        /// The database, or its folder.
        path: PathBuf,
        /// What it is called.
        kind: &'static str,
    },
    /// Another instance has begun a run of the same resource meanwhile: it reached the file around the lock.
    #[error("another instance took over {0}; let only one of them use the database, then run again")]
    TakenOver(String),
    /// Another program held the write lock for too long.
    #[error("another program keeps the database locked for writing; end its transaction and run again")]
    Busy,
    /// The file is something else.
    #[error("{path} is not a highwater database: {why}; it was left alone, choose another destination.path")]
    NotOurs {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// The file was written by a newer version.
    #[error("{path} was written by a newer highwater (schema {found}, this one knows {known}); use that version")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: i64,
        /// The newest version known here.
        known: i64,
    },
    /// The file was last written by an earlier version, and somebody wants to see what that did not keep.
    #[error("{} was last written by an earlier highwater; a `highwater sync` of this one brings it up to date", .0.display())]
    Older(PathBuf),
    /// There is no file yet.
    #[error("there is no database at {} yet; `highwater sync` makes it", .0.display())]
    NotThere(PathBuf),
    /// The file was open, and somebody has taken it away or put another one in its place.
    #[error("{} was moved, removed or replaced while it was in use; end highwater before you do that", .0.display())]
    Gone(PathBuf),
    /// The file is damaged.
    #[error(
        "the database is damaged ({0}); nothing was changed. Keep a copy of the file and of its -wal, then restore a \
         backup, or save what is readable with `sqlite3 FILE .recover`"
    )]
    Corrupt(String),
    /// No space left, or none that this user may have.
    #[error(
        "no space left for the database; free some, or raise the quota, and run again: it goes on where it stopped"
    )]
    Full,
    /// The file or its folder cannot be written.
    #[error("the database cannot be written ({0}); check the owner and the mode of the file and of its folder")]
    ReadOnly(String),
    /// The file cannot be opened for reading.
    #[error(
        "the database cannot be read ({0}); check the owner and the mode of the file and of its folder, or look as the \
         user that writes it"
    )]
    Unreadable(String),
    /// A write failed below SQLite, which tells no more than that.
    #[error("writing the database failed: {0}; check the disk, then run again")]
    Unwritten(String),
    /// Reading or flushing failed below SQLite.
    #[error("reading or writing the database failed: {0}; check the disk, then run again")]
    Io(String),
    /// The bundled SQLite has a known fault.
    #[error("SQLite {0} is too old: versions before 3.51.3 can lose commits")]
    OldSqlite(&'static str),
    /// The configuration no longer describes the data that is there.
    #[error("{resource}: {what} since its table was made; run `highwater reset {resource}` to read it from the start")]
    IdentityChanged {
        /// `SOURCE.RESOURCE`.
        resource: String,
        /// What changed, from what to what.
        what: String,
    },
    /// The table cannot be written by this resource.
    #[error("{resource}: table {table} {why}")]
    TableTaken {
        /// `SOURCE.RESOURCE`.
        resource: String,
        /// The table.
        table: String,
        /// Whose it is or what it is, and what to do.
        why: String,
    },
    /// The thread that writes the file is gone.
    #[error("the database thread ended unexpectedly")]
    Closed,
    /// Our bug: a panic while the database was at work. The transaction was rolled back.
    #[error("a bug in highwater: panic in `{0}`; nothing of it was stored")]
    Panic(&'static str),
    /// A call took longer than any healthy disk needs.
    #[error("the database did not answer `{0}` in time; what it was storing is either stored whole or not at all")]
    Timeout(&'static str),
    /// Any other error of SQLite.
    #[error("SQLite: {0}")]
    Sqlite(rusqlite::Error),
}

fn pid_note(pid: &Option<u32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

impl DbError {
    /// The same error, or that there is no room where a write failed: to SQLite a quota that is used up is a disk that fails.
    pub(super) fn explained(self, database: Option<&str>) -> Self {
        let folder = database.and_then(|path| Path::new(path).parent());
        match (self, folder) {
            (Self::Unwritten(_), Some(folder)) if file_system::has_no_room(folder) => Self::Full,
            (error, _) => error,
        }
    }
}

impl From<rusqlite::Error> for DbError {
    fn from(error: rusqlite::Error) -> Self {
        // No room for the index of the WAL is called an I/O error.
        let extended = error.sqlite_error().map(|error| error.extended_code);
        match error.sqlite_error_code() {
            _ if extended == Some(rusqlite::ffi::SQLITE_IOERR_SHMSIZE) => Self::Full,
            _ if extended == Some(rusqlite::ffi::SQLITE_IOERR_WRITE) => Self::Unwritten(error.to_string()),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt(error.to_string()),
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                Self::ReadOnly(error.to_string())
            }
            Some(ErrorCode::SystemIoFailure) => Self::Io(error.to_string()),
            _ => Self::Sqlite(error),
        }
    }
}

impl From<io::Error> for DbError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly(error.to_string()),
            _ => Self::Io(error.to_string()),
        }
    }
}

/// Why a page cannot be stored.
#[derive(Debug, thiserror::Error)]
pub(super) enum PageError {
    /// Its records broke the contract of the resource.
    #[error("{0}")]
    Contract(String),
    /// The database failed.
    #[error(transparent)]
    Db(DbError),
}

impl From<DbError> for PageError {
    /// A table of data belongs to the user as well, with indexes and triggers of any kind: what SQLite refuses
    /// there without anything being wrong with the file concerns this resource alone.
    fn from(error: DbError) -> Self {
        match error {
            DbError::Sqlite(error) => Self::Contract(format!("the database refused it: {error}")),
            error @ (DbError::TableTaken { .. } | DbError::IdentityChanged { .. }) => Self::Contract(error.to_string()),
            error => Self::Db(error),
        }
    }
}

impl From<rusqlite::Error> for PageError {
    fn from(error: rusqlite::Error) -> Self {
        DbError::from(error).into()
    }
}
