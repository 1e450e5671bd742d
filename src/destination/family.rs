//! A table and its child tables, as `_hw_columns` knows them: a line of type `table` in it says that the lists under a
//! key of one table are rows of another.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension, params};

use super::DbError;
use super::columns::{NAME_BYTES_MAX, cut, quote, stable_hash};
use super::history::table_exists;
use super::place::{Place, staging_table};

/// The type of such a line.
const CHILD: &str = "table";

/// The child tables of `table` with the keys of their lists, in the order in which they were made. What belongs to one
/// that a user has dropped goes with it.
pub(super) fn children(connection: &Connection, table: &str) -> Result<Vec<(String, String)>, DbError> {
    let sql = "SELECT source_key, \"column\" FROM _hw_columns WHERE \"table\" = ?1 AND type = ?2 ORDER BY rowid";
    let mut statement = connection.prepare(sql)?;
    let noted = statement.query_map([table, CHILD], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut children: Vec<(String, String)> = Vec::new();
    for child in noted.collect::<Result<Vec<(String, String)>, _>>()? {
        if table_exists(connection, &child.1)? {
            children.push(child);
        } else {
            drop_family(connection, &child.1)?;
            let link = "DELETE FROM _hw_columns WHERE \"table\" = ?1 AND \"column\" = ?2";
            connection.execute(link, [table, &child.1])?;
        }
    }
    Ok(children)
}

/// A table and all tables below it, parents before their children.
pub(super) fn family(connection: &Connection, table: &str) -> Result<Vec<String>, DbError> {
    let mut statement = connection.prepare(
        "WITH RECURSIVE family (name) AS (
           SELECT ?1 UNION SELECT c.\"column\" FROM _hw_columns c JOIN family f ON c.\"table\" = f.name WHERE c.type = ?2)
         SELECT name FROM family",
    )?;
    let names = statement.query_map([table, CHILD], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

/// The table that `name` is a child table of.
pub(super) fn parent_of(connection: &Connection, name: &str) -> Result<Option<String>, DbError> {
    let sql = "SELECT \"table\" FROM _hw_columns WHERE type = ?2 AND \"column\" = ?1 COLLATE NOCASE";
    Ok(connection.query_row(sql, [name, CHILD], |row| row.get(0)).optional()?)
}

/// Removes a table and all tables below it, and what is known about them.
pub(super) fn drop_family(connection: &Connection, table: &str) -> Result<Vec<String>, DbError> {
    let names = family(connection, table)?;
    for name in names.iter().rev() {
        connection.execute_batch(&format!("DROP TABLE IF EXISTS {}", quote(name)))?;
        connection.execute("DELETE FROM _hw_columns WHERE \"table\" = ?1", [name])?;
    }
    Ok(names)
}

/// Notes that the lists under `key` of `parent` are rows of `child`.
pub(super) fn record_child(
    connection: &Connection,
    parent: &str,
    key: &str,
    child: &str,
    page_id: i64,
) -> Result<(), DbError> {
    connection.execute(
        "INSERT OR REPLACE INTO _hw_columns (\"table\", \"column\", source_key, type, first_page_id)
         VALUES (?1, ?2, ?3, ?4, ?5)",
        params![parent, child, key, CHILD, page_id],
    )?;
    Ok(())
}

/// What the child table for `key` is called: `TABLE__KEY`, and where another list of the resource has that name, with
/// a part of the key's hash. `columns` are the names that the parent's columns have.
pub(super) fn child_name(
    connection: &Connection,
    parent: &Place<'_>,
    columns: &HashSet<String>,
    key: &str,
) -> Result<String, DbError> {
    let clean = cut(key.replace('\0', "_"));
    let plain = format!("{}__{clean}", parent.final_name());
    let mut candidate = plain.clone();
    if clean != key || key.is_empty() || plain.len() > 2 * NAME_BYTES_MAX {
        candidate = format!("{}_{:08x}", cut(plain.clone()), stable_hash(&plain));
    }
    let mut number = 1;
    loop {
        let sql = "SELECT source || '.' || resource FROM _hw_resources WHERE \"table\" = ?1";
        let resource: Option<String> = connection.query_row(sql, [&candidate], |row| row.get(0)).optional()?;
        if let Some(resource) = resource {
            let why = format!("belongs to {resource}, and {key:?} needs it; give one of them another `table`");
            return Err(taken(parent, candidate, why));
        }
        let is_taken = name_exists(connection, &candidate)?;
        if is_taken && parent_of(connection, &candidate)?.is_none() {
            let why = format!("was not made by highwater, and {key:?} needs it; give the resource another `table`");
            return Err(taken(parent, candidate, why));
        }
        let is_next = parent.is_next() && name_exists(connection, &staging_table(&candidate))?;
        if !is_taken && !is_next && !columns.contains(&candidate.to_ascii_lowercase()) {
            return Ok(candidate);
        }
        candidate = format!("{plain}_{:08x}_{number}", stable_hash(key));
        number += 1;
    }
}

fn taken(parent: &Place<'_>, table: String, why: String) -> DbError {
    DbError::TableTaken { resource: parent.target.id.to_string(), table, why }
}

fn name_exists(connection: &Connection, name: &str) -> Result<bool, DbError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = ?1 COLLATE NOCASE)";
    Ok(connection.query_row(sql, [name], |row| row.get(0))?)
}

/// Pages whose rows are taken back.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pages {
    OfRead(i64),
    OfRun(i64),
}

impl Pages {
    /// What selects their ids, and those of the pages of their records that were set aside and tried again, with a
    /// parameter for the number that goes with it.
    pub(super) fn select(self) -> (String, i64) {
        let (condition, number) = match self {
            Self::OfRead(read_id) => ("read_id = ?1", read_id),
            Self::OfRun(run_id) => ("run_id = ?1", run_id),
        };
        let pages = format!("SELECT page_id FROM _hw_pages WHERE {condition}");
        let retried = format!("SELECT retried_page_id FROM _hw_quarantine WHERE page_id IN ({pages})");
        (format!("{pages} UNION ALL {retried} AND retried_page_id IS NOT NULL"), number)
    }
}

/// Takes away the rows that these pages brought, in all tables of a family, and says how many of `table` itself.
pub(super) fn take_back(connection: &Connection, table: &str, pages: Pages) -> Result<usize, DbError> {
    let (pages, number) = pages.select();
    let mut taken_back = 0;
    for name in family(connection, table)?.iter().rev() {
        if table_exists(connection, name)? {
            taken_back =
                connection.execute(&format!("DELETE FROM {} WHERE _page_id IN ({pages})", quote(name)), [number])?;
        }
    }
    Ok(taken_back)
}
