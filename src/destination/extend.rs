//! Makes data tables and adds columns to them, inside the transaction of the page that needs them.

use rusqlite::{Connection, params};

use super::DbError;
use super::columns::{ColumnType, column_name, quote};
use super::error::PageError;
use super::keys::key_column_type;
use super::place::Place;
use super::sabotage::share_column;
use super::table::{Column, Table};
use crate::page::Rows;
use crate::sabotage::{Sabotage, on};

/// More columns than this would make every row slow to read; what further keys hold goes to `_extra`.
/// SQLite's own limit is 2,000.
const COLUMNS_MAX: usize = 500;

/// Makes the table with the columns of its key; `None` where no record has the whole key. The next generation of a
/// replaced table starts with all columns of the one `before` it, so that they keep their types and do not vanish.
/// `parent_id` is the type of the column for the parent's id, for a child table.
pub(super) fn create(
    connection: &Connection,
    place: &Place<'_>,
    before: Option<&Table>,
    parent_id: ColumnType,
    rows: &Rows,
    page_id: i64,
) -> Result<Option<Table>, PageError> {
    let mut table = Table { name: place.name.clone(), has_row_id: place.has_row_id(), ..Table::default() };
    table.names.insert("_page_id".to_owned());
    // A generation that follows another one has its shape.
    table.is_settled = before.is_some();
    let mut definitions: Vec<String> = Vec::new();
    if place.is_child() {
        definitions.push(format!("\"_parent_id\" {} NOT NULL", parent_id.declared()));
        definitions.push("\"_list_idx\" INTEGER NOT NULL".to_owned());
    } else {
        for key in &place.target.primary_key {
            let hint = place.target.layout.hint(&place.path, key);
            let found = match hint {
                Some(hint) => Some(hint.into()),
                None => key_column_type(rows, key)?,
            };
            let Some(column_type) = found else { return Ok(None) };
            let name = column_name(key, &table.names);
            definitions.push(format!("{} {} NOT NULL", quote(&name), column_type.declared()));
            table.push(Column { name, source_key: key.clone(), column_type, hint });
        }
    }
    table.find_primary_key(place);
    definitions.push("\"_page_id\" INTEGER NOT NULL".to_owned());
    let unique = table.unique_columns(place);
    let names = unique.iter().map(|name| quote(name)).collect::<Vec<_>>().join(", ");
    match (unique.len(), table.has_row_id) {
        (0, false) => {}
        // An INTEGER PRIMARY KEY is the rowid itself: no second index.
        (1, false) => definitions[0].push_str(" PRIMARY KEY"),
        (_, false) => definitions.push(format!("PRIMARY KEY ({names})")),
        (count, true) => {
            definitions.push("\"_row_id\" INTEGER PRIMARY KEY".to_owned());
            definitions.extend((count > 0).then(|| format!("UNIQUE ({names})")));
        }
    }
    connection.execute_batch(&format!("CREATE TABLE {} ({})", quote(&place.name), definitions.join(", ")))?;
    for column in &table.columns {
        record_column(connection, &place.name, column, page_id)?;
    }
    for column in before.into_iter().flat_map(|before| &before.columns) {
        if !table.by_key.contains_key(&column.source_key) {
            let mut column = column.clone();
            if let Some(hint) = column.hint {
                column.column_type = hint.into();
            }
            if table.names.contains(&column.name.to_ascii_lowercase()) {
                column.name = column_name(&column.source_key, &table.names);
            }
            add_column(connection, &mut table, column, page_id)?;
        }
    }
    Ok(Some(table))
}

/// Adds the columns that the configuration has a type for.
pub(super) fn add_hinted(
    connection: &Connection,
    place: &Place<'_>,
    table: &mut Table,
    page_id: i64,
) -> Result<bool, DbError> {
    let mut added = false;
    for (key, hint) in place.target.layout.hinted(&place.path) {
        if !table.by_key.contains_key(key) && table.columns.len() < COLUMNS_MAX {
            let (name, source_key) = (column_name(key, &table.names), key.to_owned());
            let column = Column { name, source_key, column_type: hint.into(), hint: Some(hint) };
            add_column(connection, table, column, page_id)?;
            added = true;
        }
    }
    Ok(added)
}

/// Adds a column for each key that has none and a value that says its type. A field that has only ever been null
/// has no column yet.
pub(super) fn add_columns(
    connection: &Connection,
    place: &Place<'_>,
    table: &mut Table,
    rows: &Rows,
    page_id: i64,
) -> Result<bool, DbError> {
    let unknown: Vec<bool> = rows.keys().iter().map(|key| !table.by_key.contains_key(key)).collect();
    let mut types: Vec<Option<ColumnType>> = vec![None; unknown.len()];
    for row in 0..rows.len() {
        for (key, value) in rows.row(row).filter(|(key, _)| unknown[*key]) {
            types[key] = match (types[key], ColumnType::of(value)) {
                (Some(before), Some(now)) => Some(before.join(now)),
                (before, now) => before.or(now),
            };
        }
    }
    let mut added = false;
    for (key, column_type) in rows.keys().iter().zip(types) {
        if let Some(found) = column_type
            && table.columns.len() < COLUMNS_MAX
        {
            if on(Sabotage::LastWinsInColumn) && share_column(table, key) {
                continue;
            }
            let name = column_name(key, &table.names);
            let hint = place.target.layout.hint(&place.path, key);
            let column_type = hint.map_or(found, ColumnType::from);
            add_column(connection, table, Column { name, source_key: key.clone(), column_type, hint }, page_id)?;
            added = true;
        }
    }
    Ok(added)
}

fn add_column(connection: &Connection, table: &mut Table, column: Column, page_id: i64) -> Result<(), DbError> {
    connection.execute_batch(&format!(
        "ALTER TABLE {} ADD COLUMN {} {}",
        quote(&table.name),
        quote(&column.name),
        column.column_type.declared()
    ))?;
    record_column(connection, &table.name, &column, page_id)?;
    table.push(column);
    Ok(())
}

fn record_column(connection: &Connection, table: &str, column: &Column, page_id: i64) -> Result<(), DbError> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO _hw_columns (\"table\", \"column\", source_key, type, first_page_id)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![table, column.name, column.source_key, column.column_type.as_str(), page_id])?;
    Ok(())
}

/// Adds the column for values that fit no other.
pub(super) fn add_extra(connection: &Connection, table: &mut Table) -> Result<(), DbError> {
    connection.execute_batch(&format!("ALTER TABLE {} ADD COLUMN \"_extra\" TEXT", quote(&table.name)))?;
    table.has_extra = true;
    Ok(())
}
