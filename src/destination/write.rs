//! One commit: pages, their rows, their ledger lines and their checkpoints, in one transaction.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, Transaction, params};

use super::columns::{ColumnType, bind, json_text, key_hash};
use super::history::{now_text, time_text};
use super::tables::{KeyProblem, RowChange, Tables, key_values, staging_table, why_keyless};
use super::{DbError, sqlite};
use crate::page::{Checkpoint, Page, Rows, Run, StopReason, Target, Value, WriteDisposition};

/// A run fails when more than one record in this many was set aside,
const QUARANTINED_ONE_IN: u64 = 100;

/// and at least this many.
const QUARANTINED_MIN: u64 = 10;

/// A page of at least this many records is expected to have different keys on them.
const KEY_CHECK_ROWS_MIN: usize = 20;

/// The WAL is moved into the file after about this many bytes of pages.
const CHECKPOINT_BYTES: u64 = 32 << 20;

/// What travels from the readers to the file.
#[derive(Debug)]
pub enum Delivery {
    /// A page to store.
    Page(Box<Page>),
    /// A read has ended, after its last page or without one.
    Ended(Ending),
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The read reached an explicit end.
    Complete,
    /// It stopped before, and can go on.
    Incomplete,
    /// It could not go on.
    Failed,
}

impl Outcome {
    /// The word in `_hw_runs` and in the reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Incomplete => "incomplete",
            Self::Failed => "failed",
        }
    }
}

/// The end of a run, as its reader saw it.
#[derive(Clone, Debug)]
pub struct Ending {
    /// The run.
    pub run: Arc<Run>,
    /// How it ended. A complete run is entered with its last page; this then only adds its requests.
    pub outcome: Outcome,
    /// Why it ended.
    pub stop_reason: StopReason,
    /// What went wrong.
    pub error: Option<String>,
    /// Requests of the whole run.
    pub requests: u64,
    /// Retries of the whole run.
    pub retries: u64,
    /// The position is of no more use: the next read starts over.
    pub abandon: bool,
}

/// Pages and endings that are stored together.
#[derive(Debug, Default)]
pub struct Batch {
    /// In the order in which they came.
    pub deliveries: Vec<Delivery>,
    /// Rows in all.
    pub rows: u64,
    /// Bytes of the pages.
    pub bytes: u64,
}

impl Batch {
    /// Adds what was delivered.
    pub fn push(&mut self, delivery: Delivery) {
        if let Delivery::Page(page) = &delivery {
            self.rows += page.rows.received();
            self.bytes += page.bytes;
        }
        self.deliveries.push(delivery);
    }
}

/// What became of the records of a page, or of a run. Every record is counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Records received.
    pub received: u64,
    /// New rows.
    pub inserted: u64,
    /// Rows that changed.
    pub updated: u64,
    /// Rows that were there already, the same.
    pub unchanged: u64,
    /// Records left out by a filter.
    pub filtered: u64,
    /// Records set aside.
    pub quarantined: u64,
}

impl Counts {
    /// Adds those of another page.
    pub fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.inserted += other.inserted;
        self.updated += other.updated;
        self.unchanged += other.unchanged;
        self.filtered += other.filtered;
        self.quarantined += other.quarantined;
    }
}

/// What a commit stored.
#[derive(Debug, Default)]
pub struct Committed {
    /// The counts of each page that was stored, in order.
    pub pages: Vec<(Arc<Run>, Counts)>,
    /// Runs that must not go on, and why: their records broke the contract of their resource.
    pub broken: Vec<(Arc<Run>, String)>,
}

/// Why a page cannot be stored.
#[derive(Debug, thiserror::Error)]
pub(super) enum PageError {
    /// Its records broke the contract of the resource.
    #[error("{0}")]
    Contract(String),
    /// No record of it has a key, so no table can be made.
    #[error("no record has the primary key")]
    NoKeyedRecord,
    /// The database failed.
    #[error(transparent)]
    Db(DbError),
}

impl PageError {
    pub(super) fn key_type(key: &str, before: ColumnType, now: ColumnType) -> Self {
        Self::Contract(format!(
            "key type changed: primary key {key:?} was of type {}, now a record has one of type {}; \
             1 and \"1\" would be two rows",
            before.as_str(),
            now.as_str()
        ))
    }
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
    let mut page_id: i64 =
        transaction.query_row("SELECT coalesce(max(page_id), 0) FROM _hw_pages", [], |row| row.get(0))?;
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
        sqlite::checkpoint(connection, "PASSIVE")?;
        tables.checkpointed();
    }
    Ok(committed)
}

fn run_work<'w>(
    transaction: &Transaction<'_>,
    work: &'w mut HashMap<i64, RunWork>,
    run: &Arc<Run>,
) -> Result<&'w mut RunWork, DbError> {
    if !work.contains_key(&run.run_id) {
        let before = transaction
            .prepare_cached("SELECT received, quarantined FROM _hw_runs WHERE run_id = ?1")?
            .query_row([run.run_id], |row| {
                Ok(Counts { received: row.get(0)?, quarantined: row.get(1)?, ..Counts::default() })
            })?;
        let fresh = RunWork {
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
        };
        work.insert(run.run_id, fresh);
    }
    Ok(work.get_mut(&run.run_id).expect("inserted above"))
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
        Err(error @ (PageError::Contract(_) | PageError::NoKeyedRecord)) => {
            transaction.execute_batch("ROLLBACK TO page; RELEASE page")?;
            tables.forget();
            run.broken = Some(error.to_string());
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
    let counts = write_page(transaction, tables, page, page_id)?;
    let broken = too_many_quarantined(run, &counts);
    let target = &page.run.target;
    if broken.is_none()
        && page.end.is_some_and(StopReason::is_complete)
        && target.disposition == WriteDisposition::Replace
    {
        tables.swap(transaction, target)?;
    }
    Ok((counts, broken))
}

fn too_many_quarantined(run: &RunWork, page: &Counts) -> Option<String> {
    let quarantined = run.before.quarantined + run.counts.quarantined + page.quarantined;
    let received = run.before.received + run.counts.received + page.received;
    (quarantined >= QUARANTINED_MIN && quarantined * QUARANTINED_ONE_IN > received).then(|| {
        format!(
            "{quarantined} of {received} records could not be stored; look at them with \
             `SELECT reason, record FROM _hw_quarantine ORDER BY quarantine_id DESC`"
        )
    })
}

fn write_page(
    transaction: &Transaction<'_>,
    tables: &mut Tables,
    page: &Page,
    page_id: i64,
) -> Result<Counts, PageError> {
    let target = &page.run.target;
    let mut counts = Counts { received: page.rows.received(), ..Counts::default() };
    for rejected in page.rows.rejected() {
        quarantine(transaction, page_id, target, rejected.reason, &rejected.record)?;
        counts.quarantined += 1;
    }
    if !page.rows.is_empty() {
        let name = match target.disposition {
            WriteDisposition::Replace => staging_table(&target.table),
            WriteDisposition::Append | WriteDisposition::Merge => target.table.clone(),
        };
        match tables.prepare(transaction, &name, target, &page.rows, page_id) {
            Ok(_) => write_rows(transaction, tables, &name, page, page_id, &mut counts)?,
            Err(PageError::NoKeyedRecord) => {
                for row in 0..page.rows.len() {
                    let reason = why_keyless(&page.rows, row, target);
                    quarantine(transaction, page_id, target, reason, &record_text(&page.rows, row))?;
                    counts.quarantined += 1;
                }
            }
            Err(error) => return Err(error),
        }
    }
    enter_page(transaction, page, page_id, &counts).map_err(PageError::Db)?;
    Ok(counts)
}

/// The page's line in the ledger.
fn enter_page(transaction: &Transaction<'_>, page: &Page, page_id: i64, counts: &Counts) -> Result<(), DbError> {
    let target = &page.run.target;
    transaction
        .prepare_cached(
            "INSERT INTO _hw_pages (page_id, run_id, read_id, source, resource, partition, position, url, status,
               fetched_at, duration_ms, bytes, attempts, received, inserted, updated, unchanged, filtered, quarantined)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)",
        )?
        .execute(params![
            page_id,
            page.run.run_id,
            page.run.read_id,
            &*target.id.source,
            &*target.id.resource,
            &*page.partition,
            page.position,
            page.url,
            page.status,
            time_text(page.fetched_at),
            page.duration_ms,
            page.bytes,
            page.attempts,
            counts.received,
            counts.inserted,
            counts.updated,
            counts.unchanged,
            counts.filtered,
            counts.quarantined,
        ])?;
    Ok(())
}

fn write_rows(
    transaction: &Transaction<'_>,
    tables: &mut Tables,
    name: &str,
    page: &Page,
    page_id: i64,
    counts: &mut Counts,
) -> Result<(), PageError> {
    let target = &page.run.target;
    let rows = &page.rows;
    let table = tables.known(name);
    let columns: Vec<Option<usize>> = rows.keys().iter().map(|key| table.by_key.get(key).copied()).collect();
    if !table.has_extra && needs_extra(tables.known(name), rows, &columns) {
        tables.add_extra(transaction, name, target)?;
    }
    tables.watch_table(name);
    let table = tables.known(name);
    let mut statement = transaction.prepare_cached(&table.write_sql)?;
    let mut values = vec![Value::Null; table.columns.len()];
    let mut keys = Vec::with_capacity(if table.primary_key.is_empty() { 0 } else { rows.len() });
    for row in 0..rows.len() {
        values.fill(Value::Null);
        let mut extra = Vec::new();
        for (key, value) in rows.row(row) {
            match columns[key] {
                Some(column) => values[column] = value,
                None if value == Value::Null => {}
                None => extra.push((key, value)),
            }
        }
        if !table.primary_key.is_empty() {
            match key_values(table, target, &values) {
                Ok(key) => keys.push(key_hash(key.into_iter())),
                Err(KeyProblem::Reject(reason)) => {
                    quarantine(transaction, page_id, target, reason, &record_text(rows, row))?;
                    counts.quarantined += 1;
                    continue;
                }
                Err(KeyProblem::Fail(error)) => return Err(error),
            }
        }
        statement.raw_bind_parameter(1, page_id)?;
        for (column, value) in values.iter().enumerate() {
            match bind(table.columns[column].column_type, *value) {
                Some(bound) => statement.raw_bind_parameter(column + 2, bound)?,
                None => {
                    statement.raw_bind_parameter(column + 2, rusqlite::types::Null)?;
                    let key = &table.columns[column].source_key;
                    let key = rows.keys().iter().position(|known| known == key).expect("the value came under it");
                    extra.push((key, *value));
                }
            }
        }
        if table.has_extra {
            let text = (!extra.is_empty()).then(|| object_text(rows, extra.iter().copied()));
            statement.raw_bind_parameter(values.len() + 2, text)?;
        }
        statement.raw_execute()?;
        match tables.row_change() {
            RowChange::Inserted => counts.inserted += 1,
            RowChange::Updated => counts.updated += 1,
            RowChange::Unchanged => counts.unchanged += 1,
        }
    }
    if target.disposition == WriteDisposition::Append {
        // Every version of a record is kept, so none can take the place of another.
        return Ok(());
    }
    tells_records_apart(target, &mut keys)
}

/// Whether any value of the page has no column that holds it unchanged.
fn needs_extra(table: &super::tables::Table, rows: &Rows, columns: &[Option<usize>]) -> bool {
    (0..rows.len()).any(|row| {
        rows.row(row).any(|(key, value)| match columns[key] {
            Some(column) => bind(table.columns[column].column_type, value).is_none(),
            None => value != Value::Null,
        })
    })
}

/// A wrong primary key makes many records of a page into one row; that must not pass for an upsert.
fn tells_records_apart(target: &Target, keys: &mut Vec<u64>) -> Result<(), PageError> {
    let all = keys.len();
    keys.sort_unstable();
    keys.dedup();
    let repeated = all - keys.len();
    if all >= KEY_CHECK_ROWS_MIN && repeated * 5 > all {
        return Err(PageError::Contract(format!(
            "primary_key {:?} does not tell records apart: {repeated} of {all} records on one page repeat a key",
            target.primary_key
        )));
    }
    Ok(())
}

fn quarantine(
    transaction: &Transaction<'_>,
    page_id: i64,
    target: &Target,
    reason: &str,
    record: &str,
) -> Result<(), PageError> {
    let sql = "INSERT INTO _hw_quarantine (page_id, source, resource, reason, record) VALUES (?1, ?2, ?3, ?4, ?5)";
    let line = params![page_id, &*target.id.source, &*target.id.resource, reason, record];
    let inserted = transaction.prepare_cached(sql).and_then(|mut statement| statement.execute(line));
    // The table is ours alone: an error in it is one of the file.
    inserted.map(drop).map_err(|error| PageError::Db(error.into()))
}

fn record_text(rows: &Rows, row: usize) -> String {
    object_text(rows, rows.row(row))
}

fn object_text<'a>(rows: &Rows, fields: impl Iterator<Item = (usize, Value<'a>)>) -> String {
    let fields: Vec<String> = fields
        .map(|(key, value)| format!("{}:{}", serde_json::Value::String(rows.keys()[key].clone()), json_text(value)))
        .collect();
    format!("{{{}}}", fields.join(","))
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
        transaction
            .prepare_cached(
                "UPDATE _hw_checkpoints SET state = ?3, position = ?4, run_id = ?5, request_fingerprint = ?6,
                   updated_at = ?7
                 WHERE source = ?1 AND resource = ?2 AND partition = ''",
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
        if let Some(decided) = &checkpoint.decided {
            transaction
                .prepare_cached("UPDATE _hw_resources SET decided = ?3 WHERE source = ?1 AND resource = ?2")?
                .execute(params![&*target.id.source, &*target.id.resource, decided])?;
        }
    } else if work.broken.is_some() {
        abandon(transaction, target)?;
    }
    Ok(())
}

fn end_run(transaction: &Transaction<'_>, ending: &Ending) -> Result<(), DbError> {
    transaction.execute(
        "UPDATE _hw_runs SET requests = ?2, retries = ?3, outcome = ?4, stop_reason = ?5, error = coalesce(error, ?6),
           ended_at = ?7
         WHERE run_id = ?1 AND outcome IN ('running', ?4)",
        params![
            ending.run.run_id,
            ending.requests,
            ending.retries,
            ending.outcome.as_str(),
            ending.stop_reason.as_str(),
            ending.error,
            now_text(),
        ],
    )?;
    if ending.abandon {
        abandon(transaction, &ending.run.target)?;
    }
    Ok(())
}

/// Gives up the read under way: the next run starts over.
fn abandon(transaction: &Transaction<'_>, target: &Target) -> Result<(), DbError> {
    transaction.execute(
        "UPDATE _hw_checkpoints SET state = 'abandoned', position = NULL, updated_at = ?3
         WHERE source = ?1 AND resource = ?2 AND state = 'reading'",
        params![&*target.id.source, &*target.id.resource, now_text()],
    )?;
    Ok(())
}
