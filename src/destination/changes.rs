//! What a statement did to the row it was for, or to how many of its rows: SQLite's update hook tells an insert from an
//! update in an upsert.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use rusqlite::hooks::Action;

use super::DbError;

/// What became of the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowChange {
    Inserted,
    Updated,
    Unchanged,
}

/// Listens to SQLite's update hook.
#[derive(Debug, Default)]
pub(super) struct Changes {
    watched: Arc<Mutex<Watched>>,
}

#[derive(Debug, Default)]
struct Watched {
    table: String,
    first: Option<RowChange>,
    inserted: u64,
    updated: u64,
}

impl Changes {
    /// Asks SQLite to tell which rows are inserted and which are updated.
    pub(super) fn listen(&self, connection: &Connection) -> Result<(), DbError> {
        let watched = Arc::clone(&self.watched);
        connection.update_hook(Some(move |action: Action, _: &str, table: &str, _| {
            let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
            if !watched.table.eq_ignore_ascii_case(table) {
                return;
            }
            let (change, count) = match action {
                Action::SQLITE_INSERT => (RowChange::Inserted, &mut watched.inserted),
                _ => (RowChange::Updated, &mut watched.updated),
            };
            *count += 1;
            watched.first.get_or_insert(change);
        }))?;
        Ok(())
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says which table the following rows are for.
    pub(super) fn watch(&self, table: &str) {
        *self.watched() = Watched { table: table.to_owned(), ..Watched::default() };
    }

    /// Forgets what was done until now: it was not done by the statement that comes next.
    pub(super) fn forget(&self) {
        let mut watched = self.watched();
        (watched.first, watched.inserted, watched.updated) = (None, 0, 0);
    }

    /// What the statement that has just run for a row did. Triggers of the user can change other tables in the same
    /// statement, and this one after it.
    pub(super) fn take(&self) -> RowChange {
        self.watched().first.take().unwrap_or(RowChange::Unchanged)
    }

    /// How many rows the statement that has just run inserted, and how many it updated. Of a table with triggers, more than
    /// its own.
    pub(super) fn take_counts(&self) -> (u64, u64) {
        let mut watched = self.watched();
        (mem::take(&mut watched.inserted), mem::take(&mut watched.updated))
    }
}
