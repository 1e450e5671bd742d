//! What the file knows of when resources are due: which of them somebody has paused, and what became of their last runs.

use std::collections::HashMap;

use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::history::now_text;
use super::runs::ENDED_BEFORE_ITS_RUN;
use super::{Db, DbError, sqlite};
use crate::page::{ResourceId, RunKind, StopReason};
use crate::schedule::Past;

/// Failures in a row are counted up to this many: the rest after them has long stopped growing.
pub(super) const FAILURES_MAX: u32 = 30;

impl Db {
    /// Notes that a resource is not to run by itself; one that is paused stays paused since when it was.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn pause(&self, id: &ResourceId) -> Result<(), DbError> {
        let id = id.clone();
        self.writer
            .call("pause", move |connection, _| {
                let transaction = sqlite::begin(connection)?;
                let sql = "INSERT INTO _hw_paused (source, resource, paused_at) VALUES (?1, ?2, ?3)
                           ON CONFLICT DO NOTHING";
                transaction.execute(sql, (&*id.source, &*id.resource, now_text()))?;
                Ok(transaction.commit()?)
            })
            .await
    }

    /// Notes that a resource runs by itself again.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn resume(&self, id: &ResourceId) -> Result<(), DbError> {
        let id = id.clone();
        self.writer
            .call("resume", move |connection, _| {
                let transaction = sqlite::begin(connection)?;
                let sql = "DELETE FROM _hw_paused WHERE source = ?1 AND resource = ?2";
                transaction.execute(sql, (&*id.source, &*id.resource))?;
                Ok(transaction.commit()?)
            })
            .await
    }

    /// The resources that are paused, and since when.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn paused(&self) -> Result<HashMap<ResourceId, Timestamp>, DbError> {
        self.writer.call("read pauses", |connection, _| paused(connection)).await
    }

    /// What became of the last runs of these resources, backfills and retries left out; nothing of those that never ran. The file
    /// does not know before when their APIs do not want to be asked.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn pasts(&self, ids: Vec<ResourceId>) -> Result<HashMap<ResourceId, Past>, DbError> {
        self.writer
            .call("read pasts", move |connection, _| {
                let mut pasts = HashMap::new();
                for id in ids {
                    if let Some(past) = past(connection, &id)? {
                        pasts.insert(id, past);
                    }
                }
                Ok(pasts)
            })
            .await
    }

    /// Enters failures, each with the kind of the run and what went wrong: of runs that could not be entered when they
    /// began, or that nobody has ended. So they count as any other that failed, on the page and after a restart.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn enter_failures(&self, failures: Vec<(ResourceId, RunKind, String)>) -> Result<(), DbError> {
        self.writer
            .call("enter failures", move |connection, _| {
                let transaction = sqlite::begin(connection)?;
                let (now, reason) = (now_text(), StopReason::Error.as_str());
                for (id, kind, error) in &failures {
                    let key = (&*id.source, &*id.resource);
                    let ended = transaction.execute(
                        "UPDATE _hw_runs SET outcome = 'failed', stop_reason = ?3, error = ?4, ended_at = ?5
                         WHERE source = ?1 AND resource = ?2 AND outcome = 'running'",
                        params![key.0, key.1, reason, error, now],
                    )?;
                    if ended > 0 {
                        continue;
                    }
                    // Of no pass that anything belongs to.
                    let run_id = sqlite::last_id(&transaction, "_hw_runs")? + 1;
                    transaction.execute(
                        "INSERT INTO _hw_runs (run_id, kind, source, resource, pass_id, started_at, ended_at, outcome,
                           stop_reason, error) VALUES (?1, ?2, ?3, ?4, ?1, ?5, ?5, 'failed', ?6, ?7)",
                        params![run_id, kind.as_str(), key.0, key.1, now, reason, error],
                    )?;
                }
                Ok(transaction.commit()?)
            })
            .await
    }

    /// One round trip through the thread that writes the file, behind whatever it is at.
    ///
    /// # Errors
    /// When the thread is gone, or cannot read the file, or the file is no longer where it was opened: what is written
    /// then is lost with the process.
    pub async fn ping(&self) -> Result<(), DbError> {
        self.check_place()?;
        self.writer.call("ping", |connection, _| Ok(connection.query_row("SELECT 1", [], |_| Ok(()))?)).await
    }
}

/// The resources that are paused, and since when.
pub(super) fn paused(connection: &Connection) -> Result<HashMap<ResourceId, Timestamp>, DbError> {
    let mut statement = connection.prepare_cached("SELECT source, resource, paused_at FROM _hw_paused")?;
    let rows = statement.query_map([], |row| {
        let (source, resource): (String, String) = (row.get(0)?, row.get(1)?);
        Ok((ResourceId::new(&source, &resource), time(Some(row.get(2)?)).unwrap_or(Timestamp::UNIX_EPOCH)))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// What became of the last runs of a resource.
pub(super) fn past(connection: &Connection, id: &ResourceId) -> Result<Option<Past>, DbError> {
    let mut statement = connection.prepare_cached(
        "SELECT started_at, ended_at, outcome, outcome = 'running' OR outcome = 'incomplete' AND stop_reason = ?3
           AND (error IS NULL OR error = ?4)
         FROM _hw_runs WHERE source = ?1 AND resource = ?2 AND kind IN ('sync', 'scheduled') ORDER BY run_id DESC LIMIT ?5",
    )?;
    let key = (&*id.source, &*id.resource);
    let mut rows =
        statement.query(params![key.0, key.1, StopReason::Interrupted.as_str(), ENDED_BEFORE_ITS_RUN, FAILURES_MAX])?;
    let mut past = None;
    while let Some(row) = rows.next()? {
        let has_failed = row.get_ref(2)?.as_str() == Ok("failed");
        let past = past.get_or_insert(Past {
            started: time(row.get(0)?),
            ended: time(row.get(1)?),
            failures: 0,
            was_cut: row.get(3)?,
            not_before: None,
        });
        if !has_failed {
            break;
        }
        past.failures += 1;
    }
    Ok(past)
}

/// A time as the tables keep it. One that cannot be read is as good as none.
pub(super) fn time(text: Option<String>) -> Option<Timestamp> {
    text.and_then(|text| text.parse().ok())
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::super::schema::SCHEMA;
    use super::{FAILURES_MAX, past};
    use crate::destination::{Db, DestinationOptions};
    use crate::page::ResourceId;

    #[test]
    fn the_last_runs_say_what_failed_in_a_row_and_what_was_cut_short() {
        let id = ResourceId::new("s", "r");
        let failed = ("sync", "failed", "error", Some("HTTP 500"));
        let complete = ("scheduled", "complete", "no_next", None);
        let running = ("sync", "running", "", None);
        let stopped = ("sync", "incomplete", "interrupted", None);
        let killed = ("sync", "incomplete", "interrupted", Some(super::ENDED_BEFORE_ITS_RUN));
        let sibling = ("sync", "incomplete", "interrupted", Some("s.other failed"));
        let backfill = ("backfill", "failed", "error", Some("HTTP 500"));
        let retry = ("retry", "complete", "quarantine_retried", None);
        for (runs, expected) in [
            (vec![], None),
            (vec![backfill], None),
            (vec![complete], Some((0, false))),
            (vec![failed, complete, failed, failed], Some((2, false))),
            (vec![failed, backfill, backfill], Some((1, false))),
            (vec![failed, retry], Some((1, false))),
            (vec![failed, running], Some((0, true))),
            (vec![failed, stopped], Some((0, true))),
            (vec![killed], Some((0, true))),
            (vec![killed, failed], Some((1, false))),
            (vec![sibling], Some((0, false))),
            (vec![failed; 2 * FAILURES_MAX as usize], Some((FAILURES_MAX, false))),
        ] {
            let connection = Connection::open_in_memory().unwrap();
            connection.execute_batch(SCHEMA).unwrap();
            for (number, (kind, outcome, stop_reason, error)) in runs.iter().enumerate() {
                let sql = "INSERT INTO _hw_runs (kind, source, resource, pass_id, started_at, ended_at, outcome,
                             stop_reason, error) VALUES (?1, 's', 'r', 1, ?2, ?3, ?4, ?5, ?6)";
                let times = [5, 6].map(|hour| format!("2024-01-01T0{hour}:00:{:02}.000Z", number % 60));
                let [start, end] = &times;
                connection.execute(sql, (kind, start, end, outcome, stop_reason, error)).unwrap();
            }
            let found = past(&connection, &id).unwrap();
            assert_eq!(found.map(|past| (past.failures, past.was_cut)), expected, "{runs:?}");
            if let Some(past) = found.filter(|_| !runs.contains(&backfill) && !runs.contains(&retry)) {
                let second = (runs.len() - 1) % 60;
                assert_eq!(past.started.unwrap().to_string()[17..19], format!("{second:02}"));
                assert!(past.ended > past.started && past.not_before.is_none());
            }
        }
    }

    #[tokio::test]
    async fn a_pause_outlives_the_process_and_begins_only_once() {
        let folder = tempfile::tempdir().unwrap();
        let options = DestinationOptions { path: folder.path().join("x.db"), ..Default::default() };
        let id = ResourceId::new("s", "r");
        let db = Db::open(&options).await.unwrap();
        db.ping().await.unwrap();
        db.pause(&id).await.unwrap();
        let since = db.paused().await.unwrap();
        assert!(since.contains_key(&id));
        db.close().await.unwrap();
        let db = Db::open(&options).await.unwrap();
        db.pause(&id).await.unwrap();
        assert_eq!(db.paused().await.unwrap(), since);
        db.resume(&id).await.unwrap();
        db.resume(&id).await.unwrap();
        assert!(db.paused().await.unwrap().is_empty() && db.pasts(vec![id]).await.unwrap().is_empty());
        db.close().await.unwrap();
    }
}
