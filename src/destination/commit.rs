//! One commit: pages, their rows, their ledger lines and their checkpoints, in one transaction.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use rusqlite::{Connection, Transaction, params};

use super::batch::{Batch, Committed, Counts, Delivery, Ending, Outcome};
use super::error::PageError;
use super::history::now_text;
use super::tables::Tables;
use super::{DbError, rows, sqlite, validators};
use crate::page::{Checkpoint, Page, ResourceId, Run, StopReason, Validity, WriteDisposition};

/// A run fails when more than one record in this many was set aside,
const QUARANTINED_ONE_IN: u64 = 100;

/// and at least this many.
const QUARANTINED_MIN: u64 = 10;

const LOOK_AT_THEM: &str = "look at them with `SELECT reason, record FROM _hw_quarantine ORDER BY quarantine_id DESC`";

/// The WAL is moved into the file after about this many bytes of pages.
const CHECKPOINT_BYTES: u64 = 32 << 20;

/// What a commit gathers for one run.
struct RunWork {
    run: Arc<Run>,
    /// Counts of the run before this commit.
    before: Counts,
    counts: Counts,
    pages: u64,
    bytes: u64,
    requests: u64,
    retries: u64,
    checkpoint: Option<Checkpoint>,
    ended: Option<StopReason>,
    broken: Option<String>,
}

pub(super) fn commit(connection: &mut Connection, tables: &mut Tables, batch: Batch) -> Result<Committed, DbError> {
    let bytes = batch.bytes;
    let mut committed = Committed::default();
    let transaction = sqlite::begin(connection)?;
    let mut page_id = sqlite::last_id(&transaction, "_hw_pages")?;
    let mut work: HashMap<i64, RunWork> = HashMap::new();
    let mut endings = Vec::new();
    for delivery in &batch.deliveries {
        match delivery {
            Delivery::Page(page) => {
                let run = run_work(&transaction, &mut work, &page.run)?;
                if run.broken.is_some() || page.run.broken().is_some() {
                    continue;
                }
                page_id += 1;
                if let Some(counts) = store_page(&transaction, tables, page, page_id, run)? {
                    committed.pages.push((Arc::clone(&page.run), counts));
                }
            }
            Delivery::Ended(ending) => endings.push(ending),
        }
    }
    for run in work.values() {
        update_run(&transaction, run)?;
    }
    for ending in endings {
        end_run(&transaction, ending)?;
    }
    transaction.commit()?;
    committed.broken = work.into_values().filter_map(|run| run.broken.map(|why| (run.run, why))).collect();
    // Dropped only now: the slots of the pages are free when their rows are stored.
    drop(batch);
    if tables.written_since_checkpoint(bytes) >= CHECKPOINT_BYTES {
        if !sqlite::checkpoint(connection, "PASSIVE")? {
            tables.warn_of_wal(sqlite::wal_bytes(connection));
        }
        tables.checkpointed();
    }
    Ok(committed)
}

fn run_work<'w>(
    transaction: &Transaction<'_>,
    work: &'w mut HashMap<i64, RunWork>,
    run: &Arc<Run>,
) -> Result<&'w mut RunWork, DbError> {
    match work.entry(run.run_id) {
        Entry::Occupied(known) => Ok(known.into_mut()),
        Entry::Vacant(new) => {
            let before = transaction
                .prepare_cached("SELECT received, quarantined FROM _hw_runs WHERE run_id = ?1")?
                .query_row([run.run_id], |row| {
                    Ok(Counts { received: row.get(0)?, quarantined: row.get(1)?, ..Counts::default() })
                })?;
            Ok(new.insert(RunWork {
                run: Arc::clone(run),
                before,
                counts: Counts::default(),
                pages: 0,
                bytes: 0,
                requests: 0,
                retries: 0,
                checkpoint: None,
                ended: None,
                broken: None,
            }))
        }
    }
}

/// Stores one page inside a savepoint, so that a page that cannot be stored leaves the others of the batch alone.
fn store_page(
    transaction: &Transaction<'_>,
    tables: &mut Tables,
    page: &Page,
    page_id: i64,
    run: &mut RunWork,
) -> Result<Option<Counts>, DbError> {
    transaction.prepare_cached("SAVEPOINT page")?.execute([])?;
    let (counts, broken) = match try_page(transaction, tables, page, page_id, run) {
        Ok(stored) => stored,
        Err(PageError::Db(error)) => return Err(error),
        Err(PageError::Contract(reason)) => {
            transaction.execute_batch("ROLLBACK TO page; RELEASE page")?;
            tables.forget();
            run.broken = Some(reason);
            return Ok(None);
        }
    };
    transaction.prepare_cached("RELEASE page")?.execute([])?;
    run.counts.add(&counts);
    run.pages += 1;
    run.bytes += page.bytes;
    run.requests += page.requests;
    run.retries += page.requests.saturating_sub(1);
    run.checkpoint = Some(page.checkpoint.clone());
    run.ended = page.end.filter(|_| broken.is_none());
    run.broken = broken;
    Ok(Some(counts))
}

/// Writes a page and, where it is the last one, brings its generation to light. Also says why the run must not go
/// on, although the page is stored.
fn try_page(
    transaction: &Transaction<'_>,
    tables: &mut Tables,
    page: &Page,
    page_id: i64,
    run: &RunWork,
) -> Result<(Counts, Option<String>), PageError> {
    let counts = rows::write_page(transaction, tables, page, page_id)?;
    let complete = page.end.is_some_and(StopReason::is_complete);
    let mut broken = too_many_quarantined(run, &counts);
    if broken.is_none() && complete {
        broken = nothing_stored(transaction, run, &counts)?;
    }
    let target = &page.run.target;
    let is_changed = page.validity != Validity::Unchanged;
    if broken.is_none() && complete && is_changed && target.disposition == WriteDisposition::Replace {
        tables.swap(transaction, target)?;
    }
    if broken.is_none() && complete {
        validators::enter(transaction, page, page_id, &counts)?;
    }
    Ok((counts, broken))
}

/// A read that had records and could store none of them is not complete, however few they were: an empty generation
/// must not take the place of good rows.
fn nothing_stored(transaction: &Transaction<'_>, run: &RunWork, page: &Counts) -> Result<Option<String>, DbError> {
    let ResourceId { source, resource } = &run.run.target.id;
    let mut read = transaction
        .prepare_cached(
            "SELECT sum(inserted), sum(updated), sum(unchanged), sum(quarantined) FROM _hw_runs
             WHERE source = ?1 AND resource = ?2 AND read_id = ?3",
        )?
        .query_row(params![&**source, &**resource, run.run.read_id], |row| {
            let (inserted, updated, unchanged) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(Counts { inserted, updated, unchanged, quarantined: row.get(3)?, ..Counts::default() })
        })?;
    read.add(&run.counts);
    read.add(page);
    let stored = read.inserted + read.updated + read.unchanged;
    Ok((stored == 0 && read.quarantined > 0)
        .then(|| format!("none of {} records could be stored; {LOOK_AT_THEM}", read.quarantined)))
}

fn too_many_quarantined(run: &RunWork, page: &Counts) -> Option<String> {
    let quarantined = run.before.quarantined + run.counts.quarantined + page.quarantined;
    let received = run.before.received + run.counts.received + page.received;
    (quarantined >= QUARANTINED_MIN && quarantined * QUARANTINED_ONE_IN > received)
        .then(|| format!("{quarantined} of {received} records could not be stored; {LOOK_AT_THEM}"))
}

/// Adds what the commit gathered to the run, and moves its checkpoint.
fn update_run(transaction: &Transaction<'_>, work: &RunWork) -> Result<(), DbError> {
    let now = now_text();
    let complete = work.ended.is_some_and(StopReason::is_complete);
    let outcome = match (work.broken.is_some(), work.ended) {
        (true, _) => Some((Outcome::Failed, StopReason::Error)),
        (false, Some(reason)) if complete => Some((Outcome::Complete, reason)),
        (false, Some(reason)) => Some((Outcome::Incomplete, reason)),
        (false, None) => None,
    };
    transaction
        .prepare_cached(
            "UPDATE _hw_runs SET pages = pages + ?2, received = received + ?3, inserted = inserted + ?4,
               updated = updated + ?5, unchanged = unchanged + ?6, filtered = filtered + ?7,
               quarantined = quarantined + ?8, bytes = bytes + ?9, requests = requests + ?10, retries = retries + ?11,
               outcome = coalesce(?12, outcome), stop_reason = coalesce(?13, stop_reason),
               error = coalesce(?14, error), ended_at = coalesce(?15, ended_at)
             WHERE run_id = ?1",
        )?
        .execute(params![
            work.run.run_id,
            work.pages,
            work.counts.received,
            work.counts.inserted,
            work.counts.updated,
            work.counts.unchanged,
            work.counts.filtered,
            work.counts.quarantined,
            work.bytes,
            work.requests,
            work.retries,
            outcome.map(|(outcome, _)| outcome.as_str()),
            outcome.map(|(_, reason)| reason.as_str()),
            work.broken,
            outcome.map(|_| &now),
        ])?;
    let target = &work.run.target;
    if let Some(checkpoint) = &work.checkpoint {
        let state = match (&work.broken, complete) {
            (Some(_), _) => "abandoned",
            (None, true) => "complete",
            (None, false) => "reading",
        };
        // The fence: a run that began later owns the checkpoint, and nothing of this one may be stored any more.
        let moved = transaction
            .prepare_cached(
                "UPDATE _hw_checkpoints SET state = ?3, position = ?4, request_fingerprint = ?6, updated_at = ?7
                 WHERE source = ?1 AND resource = ?2 AND partition = '' AND run_id = ?5",
            )?
            .execute(params![
                &*target.id.source,
                &*target.id.resource,
                state,
                checkpoint.position,
                work.run.run_id,
                checkpoint.request_fingerprint,
                now,
            ])?;
        if moved == 0 {
            return Err(DbError::TakenOver(target.id.to_string()));
        }
        if let Some(decided) = &checkpoint.decided {
            transaction
                .prepare_cached("UPDATE _hw_resources SET decided = ?3 WHERE source = ?1 AND resource = ?2")?
                .execute(params![&*target.id.source, &*target.id.resource, decided])?;
        }
    } else if work.broken.is_some() {
        abandon(transaction, &work.run)?;
    }
    Ok(())
}

fn end_run(transaction: &Transaction<'_>, ending: &Ending) -> Result<(), DbError> {
    // A run that the file has already seen fail stays failed, but what it has sent is only known here.
    transaction.execute(
        "UPDATE _hw_runs SET requests = ?2, retries = ?3 WHERE run_id = ?1",
        params![ending.run.run_id, ending.requests, ending.retries],
    )?;
    transaction.execute(
        "UPDATE _hw_runs SET outcome = ?2, stop_reason = ?3, error = coalesce(error, ?4), ended_at = ?5
         WHERE run_id = ?1 AND outcome IN ('running', ?2)",
        params![ending.run.run_id, ending.outcome.as_str(), ending.stop_reason.as_str(), ending.error, now_text(),],
    )?;
    if ending.abandon {
        abandon(transaction, &ending.run)?;
    }
    Ok(())
}

/// Gives up the read under way: the next run starts over.
fn abandon(transaction: &Transaction<'_>, run: &Run) -> Result<(), DbError> {
    transaction.execute(
        "UPDATE _hw_checkpoints SET state = 'abandoned', position = NULL, updated_at = ?3
         WHERE source = ?1 AND resource = ?2 AND state = 'reading' AND run_id = ?4",
        params![&*run.target.id.source, &*run.target.id.resource, now_text(), run.run_id],
    )?;
    Ok(())
}
