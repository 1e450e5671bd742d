//! The records of one page: those with a key become rows, the others are set aside, and a line says how many.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Transaction, params};

use super::batch::Counts;
use super::changes::RowChange;
use super::columns::bind;
use super::error::PageError;
use super::history::time_text;
use super::keys::Key;
use super::table::Table;
use super::tables::{Tables, staging_table};
use super::{DbError, keys};
use crate::page::{Page, Rows, Target, Value, WriteDisposition};

/// Writes a page: its rows, its quarantined records, and its line in the ledger.
pub(super) fn write_page(
    transaction: &Transaction<'_>,
    tables: &mut Tables,
    page: &Page,
    page_id: i64,
) -> Result<Counts, PageError> {
    let target = &page.run.target;
    let mut counts = Counts { received: page.rows.received(), filtered: page.rows.filtered(), ..Counts::default() };
    for rejected in page.rows.rejected() {
        quarantine(transaction, page_id, target, &rejected.reason, &rejected.record)?;
        counts.quarantined += 1;
    }
    if !page.rows.is_empty() {
        let name = match target.disposition {
            WriteDisposition::Replace => staging_table(&target.table),
            WriteDisposition::Append | WriteDisposition::Merge => target.table.clone(),
        };
        if tables.prepare(transaction, &name, target, &page.rows, page_id)? {
            write_rows(transaction, tables, &name, page, page_id, &mut counts)?;
        } else {
            for row in 0..page.rows.len() {
                let reason = keys::why_keyless(&page.rows, row, target);
                quarantine(transaction, page_id, target, reason, &record_text(&page.rows, row))?;
                counts.quarantined += 1;
            }
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
    name: &str,
    page: &Page,
    page_id: i64,
    counts: &mut Counts,
) -> Result<(), PageError> {
    let target = &page.run.target;
    let rows = &page.rows;
    let table = tables.known(name);
    let columns: Vec<Option<usize>> = rows.keys().iter().map(|key| table.by_key.get(key).copied()).collect();
    if !table.has_extra && needs_extra(table, rows, &columns) {
        tables.add_extra(transaction, name, target)?;
    }
    tables.changes.watch(name);
    let table = tables.known(name);
    let is_keyed = !table.primary_key.is_empty();
    let mut statement = transaction.prepare_cached(&table.write_sql)?;
    let mut values = vec![Value::Null; table.columns.len()];
    let mut bound = vec![ValueRef::Null; table.columns.len()];
    let mut extra = Vec::new();
    let mut hashes = Vec::with_capacity(if is_keyed { rows.len() } else { 0 });
    for row in 0..rows.len() {
        values.fill(Value::Null);
        bound.fill(ValueRef::Null);
        extra.clear();
        for (key, value) in rows.row(row).filter(|(_, value)| *value != Value::Null) {
            let fitting = columns[key].and_then(|column| {
                values[column] = value;
                bind(table.columns[column].column_type, value).map(|fitting| (column, fitting))
            });
            match fitting {
                Some((column, fitting)) => bound[column] = fitting,
                None => extra.push((key, value)),
            }
        }
        if is_keyed {
            match keys::key_of(table, target, &values)? {
                Key::Hash(hash) => hashes.push(hash),
                Key::Bad(reason) => {
                    quarantine(transaction, page_id, target, reason, &record_text(rows, row))?;
                    counts.quarantined += 1;
                    continue;
                }
            }
        }
        statement.raw_bind_parameter(1, page_id)?;
        for (place, value) in (2..).zip(&bound) {
            statement.raw_bind_parameter(place, ToSqlOutput::Borrowed(*value))?;
        }
        if table.has_extra {
            let text = (!extra.is_empty()).then(|| object_text(rows, extra.iter().copied()));
            statement.raw_bind_parameter(bound.len() + 2, text)?;
        }
        statement.raw_execute()?;
        match tables.changes.take(row) {
            RowChange::Inserted => counts.inserted += 1,
            RowChange::Updated => counts.updated += 1,
            RowChange::Unchanged => counts.unchanged += 1,
        }
    }
    keys::tell_records_apart(target, hashes)
}

/// Whether any value of the page has no column that holds it unchanged.
fn needs_extra(table: &Table, rows: &Rows, columns: &[Option<usize>]) -> bool {
    (0..rows.len()).any(|row| {
        rows.row(row).any(|(key, value)| match columns[key] {
            Some(column) => bind(table.columns[column].column_type, value).is_none(),
            None => value != Value::Null,
        })
    })
}

/// Sets a record aside.
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

/// A record as one JSON text, with the texts of its values as they came.
fn record_text(rows: &Rows, row: usize) -> String {
    object_text(rows, rows.row(row))
}

/// Fields as a JSON object.
fn object_text<'a>(rows: &Rows, fields: impl Iterator<Item = (usize, Value<'a>)>) -> String {
    let fields: Vec<String> = fields
        .map(|(key, value)| format!("{}:{}", serde_json::Value::String(rows.keys()[key].clone()), value.json_text()))
        .collect();
    format!("{{{}}}", fields.join(","))
}
