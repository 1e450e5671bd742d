//! One commit: pages, their rows, their ledger lines and their checkpoints, in one transaction.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use rusqlite::{Connection, Transaction, params};

use super::batch::{Batch, Committed, Counts, Delivery, Ending, Outcome, PassEnd};
use super::changes::RowChange;
use super::error::PageError;
use super::history::now_text;
use super::queue::{Again, Queue, Queued};
use super::tables::Tables;
use super::{DbError, boundary, coverage, minutes, partitions, queue, rows, sabotage, sqlite, validators};
use crate::page::{Page, ReadAgain, ResourceId, Run, RunKind, StopReason, Validity, WriteDisposition};
use crate::sabotage::{Sabotage, on};

/// A run fails when more than one record in this many was set aside,
const QUARANTINED_ONE_IN: u64 = 100;

/// and at least this many.
const QUARANTINED_MIN: u64 = 10;

const LOOK_AT_THEM: &str = "look at them with `SELECT reason, record FROM _hw_quarantine ORDER BY quarantine_id DESC`";

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
    /// The pass ended with a page of it.
    ended: Option<StopReason>,
    broken: Option<String>,
}

pub(super) fn commit(connection: &mut Connection, tables: &mut Tables, batch: Batch) -> Result<Committed, DbError> {
    let mut committed = Committed::default();
    if on(Sabotage::CursorBeforeRows) {
        sabotage::commit_checkpoints(connection, &batch)?;
    }
    let transaction = sqlite::begin(connection)?;
    let before = sqlite::last_id(&transaction, "_hw_pages")?;
    let (mut page_id, mut last_page_id) = (before, None);
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
                    last_page_id = Some(page_id);
                }
            }
            Delivery::Failed(failed) => {
                partitions::fail(&transaction, failed)?;
                queue::put_behind(&transaction, &failed.run.target.id, &failed.partition)?;
            }
            Delivery::Ended(ending) => endings.push(ending),
        }
    }
    for run in work.values() {
        update_run(&transaction, run)?;
    }
    committed.broken = work.into_values().filter_map(|run| run.broken.map(|why| (run.run, why))).collect();
    for ending in endings {
        let broken = end_run(&transaction, tables, ending)?;
        let outcome = if broken.is_some() { Outcome::Failed } else { ending.outcome };
        committed.ended.push((Arc::clone(&ending.run), outcome));
        committed.broken.extend(broken.map(|why| (Arc::clone(&ending.run), why)));
    }
    if on(Sabotage::LedgerApart) {
        sabotage::put_apart(&transaction, "_hw_pages", &format!("page_id > {before}"))?;
    }
    if on(Sabotage::QueueApart) {
        sabotage::put_apart(&transaction, "_hw_checkpoints", &format!("parent_page_id > {before}"))?;
    }
    transaction.commit()?;
    if on(Sabotage::OpensDatabaseFile) {
        sabotage::open_file(connection)?;
    }
    if let Some(last_page_id) = last_page_id {
        tracing::debug!(pages = committed.pages.len(), last_page_id, "committed");
    }
    // Dropped only now: the slots of the pages are free when their rows are stored.
    drop(batch);
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
            partitions::check_fence(transaction, run)?;
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
    if page.run.kind != RunKind::Retry {
        partitions::move_checkpoint(transaction, page, page_id)?;
        queue::read_once_more(transaction, page)?;
    }
    run.ended = page.end.filter(|_| broken.is_none() && page.ends_pass);
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
    if page.run.kind != RunKind::Retry {
        partitions::begin_read(transaction, page).map_err(|error| match error {
            DbError::TableTaken { .. } => PageError::Contract(error.to_string()),
            error => PageError::Db(error),
        })?;
    }
    let rows::Written { counts, rows } = rows::write_page(transaction, tables, page, page_id)?;
    boundary::store(transaction, page, page_id).map_err(PageError::Db)?;
    coverage::store(transaction, page).map_err(PageError::Db)?;
    queue_children(transaction, page, page_id, &rows).map_err(PageError::Db)?;
    let mut broken = too_many_quarantined(run, &counts);
    let complete = page.end.is_some_and(StopReason::is_complete);
    if broken.is_none() && page.ends_pass && complete {
        let mut of_run = run.counts;
        of_run.add(&counts);
        broken = complete_pass(transaction, tables, &page.run, &of_run, page.validity != Validity::Unchanged)?;
    }
    if broken.is_none() && complete {
        validators::enter(transaction, page, page_id, &counts)?;
    }
    Ok((counts, broken))
}

/// Puts the partitions of children that the records of a page give into their queues: of those that are rows now.
fn queue_children(
    transaction: &Transaction<'_>,
    page: &Page,
    page_id: i64,
    rows: &[Option<RowChange>],
) -> Result<(), DbError> {
    for child in &page.run.children {
        let queued = page.children.iter().filter(|queued| queued.child == child.number).filter_map(|queued| {
            let change = rows.get(queued.row).copied().flatten()?;
            (!queued.only_changed || change != RowChange::Unchanged).then(|| Queued {
                partition: &queued.partition,
                parent_fields: queued.fields.as_deref(),
                again: again(child.again, change),
            })
        });
        let pass_id = match child.run {
            Some((_, pass_id)) => Some(pass_id),
            None => queue::waiting_pass(transaction, &child.id, child.again == ReadAgain::Always)?,
        };
        if let Some(pass_id) = pass_id {
            let is_replaced = child.again == ReadAgain::Never;
            let from = Some((page_id, page.run.run_id));
            queue::enqueue(transaction, &Queue { id: &child.id, pass_id, is_replaced, from }, queued)?;
        }
    }
    Ok(())
}

/// Whether a child is read once more for a record that became this of its row. A record that an incremental parent
/// returns has changed, although its row may not show it.
fn again(child: ReadAgain, change: RowChange) -> Again {
    match (child, change) {
        (ReadAgain::Never, _) => Again::Never,
        (ReadAgain::Changed, RowChange::Updated) => Again::Always,
        (ReadAgain::Changed, RowChange::Inserted | RowChange::Unchanged) => Again::Never,
        (ReadAgain::Always, RowChange::Inserted | RowChange::Updated) => Again::Always,
        (ReadAgain::Always, RowChange::Unchanged) => Again::OncePerRun,
    }
}

/// Marks the pass of a run as complete and brings a generation that has grown to light; or says why it is not
/// complete. `counts` are those of the run that are not entered yet; what the API says is unchanged stays as it is.
fn complete_pass(
    transaction: &Transaction<'_>,
    tables: &mut Tables,
    run: &Run,
    counts: &Counts,
    is_changed: bool,
) -> Result<Option<String>, PageError> {
    let broken = nothing_stored(transaction, run, counts)?;
    if broken.is_some() {
        return Ok(broken);
    }
    if run.kind == RunKind::Backfill {
        partitions::forget_complete(transaction, &run.target.id, run.pass_id).map_err(PageError::Db)?;
    } else {
        if is_changed && run.target.disposition == WriteDisposition::Replace {
            tables.swap(transaction, &run.target)?;
        }
        if !run.has_partial_parent {
            queue::forget_old(transaction, &run.target.id, run.pass_id).map_err(PageError::Db)?;
        }
        end_pass(transaction, run, "complete").map_err(PageError::Db)?;
    }
    Ok(broken)
}

fn end_pass(transaction: &Transaction<'_>, run: &Run, state: &str) -> Result<(), DbError> {
    if !run.kind.is_of_pass() {
        // The pass of the live reads is none of its business.
        return Ok(());
    }
    transaction
        .prepare_cached("UPDATE _hw_resources SET pass_state = ?3 WHERE source = ?1 AND resource = ?2 AND run_id = ?4")?
        .execute(params![&*run.target.id.source, &*run.target.id.resource, state, run.run_id])?;
    Ok(())
}

/// A read that had records and could store none of them is not complete, however few they were: an empty generation
/// must not take the place of good rows.
fn nothing_stored(transaction: &Transaction<'_>, run: &Run, counts: &Counts) -> Result<Option<String>, DbError> {
    let ResourceId { source, resource } = &run.target.id;
    // No run of a pass is older than the one that began it: the history before is not looked through.
    let mut read = transaction
        .prepare_cached(
            "SELECT sum(inserted), sum(updated), sum(unchanged), sum(quarantined), sum(filtered) FROM _hw_runs
             WHERE source = ?1 AND resource = ?2 AND run_id >= ?3 AND pass_id = ?3",
        )?
        .query_row(params![&**source, &**resource, run.pass_id], |row| {
            let (inserted, updated, unchanged) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let (quarantined, filtered) = (row.get(3)?, row.get(4)?);
            Ok(Counts { inserted, updated, unchanged, quarantined, filtered, ..Counts::default() })
        })?;
    read.add(counts);
    // What a filter leaves out is as good as stored: that was asked for.
    let stored = read.inserted + read.updated + read.unchanged + read.filtered;
    Ok((stored == 0 && read.quarantined > 0)
        .then(|| format!("none of {} records could be stored; {LOOK_AT_THEM}", read.quarantined)))
}

fn too_many_quarantined(run: &RunWork, page: &Counts) -> Option<String> {
    if run.run.kind == RunKind::Retry {
        // All of them were set aside before.
        return None;
    }
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
    minutes::add(transaction, &work.run.target.id, work.counts.received)?;
    // What is tried again and became a row is as good as before, whatever the next record is.
    if work.broken.is_some() && work.run.kind != RunKind::Retry {
        partitions::break_off(transaction, &work.run)?;
        end_pass(transaction, &work.run, "over")?;
    }
    Ok(())
}

/// Enters the end of a run; or says why it is not the one that its reader saw.
fn end_run(transaction: &Transaction<'_>, tables: &mut Tables, ending: &Ending) -> Result<Option<String>, DbError> {
    let run = &ending.run;
    // A run that the file has already seen fail stays failed, but what it has sent is only known here.
    transaction.execute(
        "UPDATE _hw_runs SET requests = ?2, retries = ?3 WHERE run_id = ?1",
        params![run.run_id, ending.requests, ending.retries],
    )?;
    let is_open: bool =
        transaction
            .query_row("SELECT outcome = 'running' FROM _hw_runs WHERE run_id = ?1", [run.run_id], |row| row.get(0))?;
    let broken = match ending.pass {
        PassEnd::Complete if is_open => {
            transaction.execute_batch("SAVEPOINT ending")?;
            let broken = match complete_pass(transaction, tables, run, &Counts::default(), true) {
                Ok(broken) => broken,
                Err(PageError::Db(error)) => return Err(error),
                Err(PageError::Contract(reason)) => {
                    transaction.execute_batch("ROLLBACK TO ending")?;
                    tables.forget();
                    Some(reason)
                }
            };
            transaction.execute_batch("RELEASE ending")?;
            broken
        }
        PassEnd::Over if is_open => {
            end_pass(transaction, run, "over")?;
            None
        }
        PassEnd::Complete | PassEnd::Over | PassEnd::Open => None,
    };
    if broken.is_some() {
        partitions::break_off(transaction, run)?;
        end_pass(transaction, run, "over")?;
    }
    coverage::join(transaction, &run.target.id)?;
    let (outcome, reason, error) = match &broken {
        Some(why) => (Outcome::Failed, StopReason::Error, Some(why)),
        None => (ending.outcome, ending.stop_reason, ending.error.as_ref()),
    };
    transaction.execute(
        "UPDATE _hw_runs SET outcome = ?2, stop_reason = ?3, error = coalesce(error, ?4), ended_at = ?5
         WHERE run_id = ?1 AND outcome IN ('running', ?2)",
        params![run.run_id, outcome.as_str(), reason.as_str(), error, now_text()],
    )?;
    Ok(broken)
}
