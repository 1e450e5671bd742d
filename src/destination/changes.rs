//! What a statement did to the row it was for: SQLite's update hook tells an insert from an update in an upsert.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

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
    watched: Arc<Watched>,
}

#[derive(Debug, Default)]
struct Watched {
    table: Mutex<String>,
    action: AtomicU8,
}

const NOTHING: u8 = 0;
const INSERT: u8 = 1;
const UPDATE: u8 = 2;

impl Changes {
    /// Asks SQLite to tell which rows are inserted and which are updated.
    pub(super) fn listen(&self, connection: &Connection) -> Result<(), DbError> {
        let watched = Arc::clone(&self.watched);
        connection.update_hook(Some(move |action: Action, _: &str, table: &str, _| {
            // Triggers of the user can change other tables in the same statement, and this one after it.
            if watched.action.load(Ordering::Relaxed) == NOTHING
                && watched.table.lock().unwrap_or_else(PoisonError::into_inner).eq_ignore_ascii_case(table)
            {
                let seen = if action == Action::SQLITE_INSERT { INSERT } else { UPDATE };
                watched.action.store(seen, Ordering::Relaxed);
            }
        }))?;
        Ok(())
    }

    /// Says which table the following rows are for.
    pub(super) fn watch(&self, table: &str) {
        table.clone_into(&mut self.watched.table.lock().unwrap_or_else(PoisonError::into_inner));
        self.watched.action.store(NOTHING, Ordering::Relaxed);
    }

    /// What the statement that has just run for a row did.
    pub(super) fn take(&self) -> RowChange {
        match self.watched.action.swap(NOTHING, Ordering::Relaxed) {
            INSERT => RowChange::Inserted,
            UPDATE => RowChange::Updated,
            _ => RowChange::Unchanged,
        }
    }
}
