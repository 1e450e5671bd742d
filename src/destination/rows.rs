//! The records of one page: those with a key become rows, the others are set aside, and a line says how many.

use std::borrow::Cow;

use rusqlite::{Transaction, params};

use super::aside::Beside;
use super::batch::Counts;
use super::changes::RowChange;
use super::columns::{Kinds, kinds};
use super::contract::Verdict;
use super::error::PageError;
use super::history::time_text;
use super::keys::Key;
use super::place::Place;
use super::table::Table;
use super::tables::Tables;
use super::writer::RowWriter;
use super::{DbError, aside, counted, keys};
use crate::page::{Page, Rows, Value};

/// What became of the records of a page.
#[derive(Default)]
pub(super) struct Written {
    pub(super) counts: Counts,
    /// For each row; none where the table does not have it as it came. Too short where it has none of them, and where
    /// nobody asks.
    pub(super) rows: Vec<Option<RowChange>>,
}

/// Writes a page: its rows, its quarantined records, and its line in the ledger.
pub(super) fn write_page(
    transaction: &Transaction<'_>,
    tables: &mut Tables,
    page: &Page,
    page_id: i64,
) -> Result<Written, PageError> {
    let target = &page.run.target;
    let counts = Counts { received: page.rows.received(), filtered: page.rows.filtered(), ..Counts::default() };
    let mut written = Written { counts, rows: Vec::new() };
    for rejected in page.rows.rejected() {
        aside::set_aside(transaction, page, page_id, None, &rejected.reason, || rejected.record.clone())?;
        written.counts.quarantined += 1;
    }
    if !page.rows.is_empty() {
        let place = Place::written(target);
        if tables.prepare(transaction, &place, &page.rows, page_id)? {
            write_rows(transaction, tables, place, page, page_id, &mut written)?;
        } else {
            for row in 0..page.rows.len() {
                let reason = keys::why_keyless(&page.rows, row, target);
                aside::set_aside(transaction, page, page_id, Some(row), reason, || record_text(&page.rows, row))?;
                written.counts.quarantined += 1;
            }
        }
    }
    enter_page(transaction, page, page_id, &written.counts).map_err(PageError::Db)?;
    counted::add(transaction, target, written.counts.inserted).map_err(PageError::Db)?;
    Ok(written)
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
            page.read.read_id.get(),
            &*target.id.source,
            &*target.id.resource,
            &*page.read.partition,
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

/// Writes the rows of a page into a table that is prepared for them.
fn write_rows(
    transaction: &Transaction<'_>,
    tables: &mut Tables,
    place: Place<'_>,
    page: &Page,
    page_id: i64,
    written: &mut Written,
) -> Result<(), PageError> {
    let rows = &page.rows;
    let counts = &mut written.counts;
    let kinds = kinds(rows);
    make_extra(transaction, tables, &place, rows, &kinds)?;
    tables.changes.watch(&place.name);
    let has_triggers = tables.has_triggers(transaction, &place.name).map_err(PageError::Db)?;
    let is_keyed = !tables.known(&place.name).primary_key.is_empty();
    let mut writer = RowWriter::new(transaction, tables, place, rows, &kinds, page_id)?;
    let is_each_of_interest = has_triggers || !page.children.is_empty() || !page.set_aside.is_empty();
    let mut many = if is_each_of_interest { None } else { writer.many(transaction)? };
    written.rows = vec![None; if is_each_of_interest { rows.len() } else { 0 }];
    let mut hashes = is_keyed.then(|| Vec::with_capacity(rows.len()));
    for row in 0..rows.len() {
        writer.fill(row);
        let left = match fate(transaction, &writer, page, page_id, row, hashes.as_mut())? {
            Fate::SetAside(reason) => {
                aside::set_aside(transaction, page, page_id, Some(row), &reason, || record_text(rows, row))?;
                counts.quarantined += 1;
                continue;
            }
            Fate::Write => None,
            Fate::LeaveOut => Some(&mut counts.filtered),
            Fate::LeaveRow => Some(&mut counts.unchanged),
        };
        aside::settle(transaction, page, page_id, row)?;
        if let Some(count) = left {
            *count += 1;
            continue;
        }
        if let Some(many) = &mut many {
            writer.add_to(many, row)?;
            if many.is_full() {
                many.write(&tables.changes, counts)?;
            }
            continue;
        }
        let change = write_row(transaction, tables, &mut writer, row)?;
        counts.add_change(change);
        if let Some(known) = written.rows.get_mut(row) {
            *known = Some(change);
        }
    }
    for row in many.map(|many| many.rows).unwrap_or_default() {
        writer.fill(row);
        counts.add_change(write_row(transaction, tables, &mut writer, row)?);
    }
    // Of those that were set aside, many may be one record that came again and again.
    let hashes = hashes.filter(|_| page.set_aside.is_empty()).unwrap_or_default();
    keys::tell_records_apart(&page.run.target, hashes)
}

/// Writes the row that was taken up last, with its lists.
fn write_row(
    transaction: &Transaction<'_>,
    tables: &Tables,
    writer: &mut RowWriter<'_>,
    row: usize,
) -> Result<RowChange, PageError> {
    tables.changes.forget();
    writer.write()?;
    let change = tables.changes.take();
    let lists_changed = writer.write_lists(transaction, row, change == RowChange::Inserted)?;
    Ok(if change == RowChange::Unchanged && lists_changed { RowChange::Updated } else { change })
}

/// What becomes of a record.
enum Fate {
    Write,
    /// It is left out, as the contract says.
    LeaveOut,
    /// The row that is there stays as it is.
    LeaveRow,
    /// It is set aside, for this reason.
    SetAside(Cow<'static, str>),
}

/// What becomes of the record that was taken up last: by its key, of which `hashes` get one where the table has any; by
/// the contract; and where it was set aside before, by the row that is there.
fn fate(
    transaction: &Transaction<'_>,
    writer: &RowWriter<'_>,
    page: &Page,
    page_id: i64,
    row: usize,
    hashes: Option<&mut Vec<u64>>,
) -> Result<Fate, PageError> {
    let target = &page.run.target;
    if let Some(hashes) = hashes {
        match keys::key_of(writer.table, target, &writer.values)? {
            Key::Hash(hash) => hashes.push(hash),
            Key::Bad(reason) => return Ok(Fate::SetAside(reason.into())),
        }
    }
    match if target.layout.contract.is_strict() { writer.judge(row)? } else { Verdict::Keep } {
        Verdict::Keep => {}
        Verdict::Discard => return Ok(Fate::LeaveOut),
        Verdict::Quarantine(reason) => return Ok(Fate::SetAside(reason.into())),
    }
    let Some(known) = page.set_aside.get(row) else { return Ok(Fate::Write) };
    Ok(match aside::beside_its_row(transaction, writer, page, page_id, known)? {
        Beside::Write => Fate::Write,
        Beside::Leave => Fate::LeaveRow,
        Beside::Stay(reason) => Fate::SetAside(reason.into()),
    })
}

/// Adds the column for what fits no other wherever the rows, or the lists in them, need it.
fn make_extra(
    transaction: &Transaction<'_>,
    tables: &mut Tables,
    place: &Place<'_>,
    rows: &Rows,
    of_rows: &[Kinds],
) -> Result<(), PageError> {
    let table = tables.known(&place.name);
    if !table.has_extra && needs_extra(table, place, rows, of_rows) {
        tables.add_extra(transaction, place)?;
    }
    for list in rows.lists() {
        let key = &rows.keys()[list.key()];
        if let Some(name) = tables.known(&place.name).children.get(key) {
            make_extra(transaction, tables, &place.child(key, name), list.rows(), &kinds(list.rows()))?;
        }
    }
    Ok(())
}

/// Whether any value of the page has no column that holds it unchanged, and is kept all the same.
fn needs_extra(table: &Table, place: &Place<'_>, rows: &Rows, kinds: &[Kinds]) -> bool {
    let columns: Vec<Option<usize>> = rows.keys().iter().map(|key| table.by_key.get(key).copied()).collect();
    let is_fitting = |(column, kinds): (&Option<usize>, &Kinds)| match column {
        Some(column) => table.columns[*column].fits_all(*kinds),
        None => kinds.is_none(),
    };
    if columns.iter().zip(kinds).all(is_fitting) {
        return false;
    }
    let keeps_misfits = place.keeps_misfits();
    let keeps_unknown = table.may_grow(place);
    (0..rows.len()).any(|row| {
        rows.row(row).any(|(key, value)| match columns[key] {
            Some(column) => keeps_misfits && table.columns[column].fit(value).is_none(),
            None => keeps_unknown && !matches!(value, Value::Null | Value::List(_)),
        })
    })
}

/// A record as one JSON text, with the texts of its values as they came.
fn record_text(rows: &Rows, row: usize) -> String {
    object_text(rows, rows.row(row))
}

/// Fields as a JSON object.
pub(super) fn object_text<'a>(rows: &Rows, fields: impl Iterator<Item = (usize, Value<'a>)>) -> String {
    let fields: Vec<String> = fields
        .map(|(key, value)| format!("{}:{}", serde_json::Value::String(rows.keys()[key].clone()), value.json_text()))
        .collect();
    format!("{{{}}}", fields.join(","))
}
