//! The WAL is moved into the file now and then. By its own length, and not by what came: a run that brings nothing writes as
//! well, and a row can cost many pages of the file.

use rusqlite::Connection;

use super::DbError;
use crate::sabotage::{Sabotage, on};

/// Pages of the file that may wait in the WAL: 64 MiB where a page has 4 KiB, as SQLite's pages have.
const FRAMES_MAX: u64 = 16 << 10;

/// A WAL of so many bytes is worth a warning.
const BYTES_LARGE: u64 = 1 << 30;

/// What is known of the WAL.
#[derive(Debug)]
pub(super) struct Wal {
    frames_max: u64,
    /// Frames that could not be moved the last time, because somebody still read what was before them.
    left: u64,
    warned: bool,
}

impl Default for Wal {
    fn default() -> Self {
        Self { frames_max: FRAMES_MAX, left: 0, warned: false }
    }
}

impl Wal {
    /// Moves the WAL into the file where it has become long since the last time. No transaction may be open.
    pub(super) fn keep_short(&mut self, connection: &Connection) -> Result<(), DbError> {
        let waiting = checkpoint(connection, "NOOP")?;
        self.left = self.left.min(waiting);
        if waiting - self.left < self.frames_max {
            return Ok(());
        }
        self.left = checkpoint(connection, "PASSIVE")?;
        if self.left > 0 {
            tracing::debug!(frames = self.left, "a reader keeps the WAL from being moved into the file");
            self.warn(bytes(connection));
        }
        Ok(())
    }

    /// Says once that a reader that never ends lets the WAL grow.
    fn warn(&mut self, bytes: u64) {
        if bytes > BYTES_LARGE && !self.warned {
            self.warned = true;
            tracing::warn!(bytes, "the WAL grows: another program has had a transaction open for long; end it");
        }
    }
}

/// Moves what it can of the WAL into the file, in one of SQLite's modes; `NOOP` moves nothing. Returns the frames that are
/// left. Errors count: an automatic checkpoint would hide them.
pub(super) fn checkpoint(connection: &Connection, mode: &str) -> Result<u64, DbError> {
    if on(Sabotage::AutoCheckpoint) {
        return Ok(0);
    }
    let mut statement = connection.prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))?;
    // Without a WAL both are -1.
    let (frames, moved): (i64, i64) = statement.query_row([], |row| Ok((row.get(1)?, row.get(2)?)))?;
    Ok(frames.saturating_sub(moved).max(0).cast_unsigned())
}

/// Bytes of the file's WAL. Only looked at, never opened.
fn bytes(connection: &Connection) -> u64 {
    let path = connection.path().map(|path| format!("{path}-wal"));
    path.and_then(|path| std::fs::metadata(path).ok()).map_or(0, |wal| wal.len())
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::{Wal, bytes, checkpoint};

    #[test]
    fn d07_the_wal_stays_short_however_little_comes_and_grows_only_while_somebody_reads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        let writer = Connection::open(&path).unwrap();
        writer.pragma_update(None, "journal_mode", "WAL").unwrap();
        writer.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
        writer.execute_batch("CREATE TABLE t (n); INSERT INTO t VALUES (0)").unwrap();
        let mut wal = Wal { frames_max: 20, ..Wal::default() };
        let mut write = |times: usize| {
            let mut lefts = Vec::new();
            for _ in 0..times {
                writer.execute("UPDATE t SET n = n + 1", []).unwrap();
                wal.keep_short(&writer).unwrap();
                lefts.push(wal.left);
            }
            lefts.dedup();
            (bytes(&writer), lefts)
        };
        let (short, lefts) = write(500);
        assert!(short < 30 * 4200 && lefts == [0], "{short} {lefts:?}");
        let reader = Connection::open(&path).unwrap();
        reader.execute_batch("BEGIN; SELECT * FROM t").unwrap();
        // One try for every twenty frames, not one for each commit.
        let (long, lefts) = write(200);
        assert!(long > 200 * 4096 && lefts.len() <= 11, "{long} {lefts:?}");
        reader.execute_batch("COMMIT").unwrap();
        let (after, lefts) = write(500);
        assert!(after <= long + 30 * 4200 && lefts.last() == Some(&0), "{after} {lefts:?}");
        assert!(checkpoint(&writer, "NOOP").unwrap() < 20);
    }
}
