//! The data tables as the writer knows them: kept between commits, and forgotten whenever a transaction fails.

use std::collections::{HashMap, HashSet};

use rusqlite::Connection;

use super::DbError;
use super::changes::Changes;
use super::columns::ColumnType;
use super::counted;
use super::error::PageError;
use super::extend;
use super::family;
use super::place::{Place, staging_table};
use super::table::{self, Table};
use super::wal::Wal;
use crate::page::{List, Rows, Target};

/// Everything the writer knows about its tables.
#[derive(Debug, Default)]
pub(super) struct Tables {
    known: HashMap<String, Table>,
    /// The tables, in lower case, that have triggers, and the version of the schema in which they have them.
    triggers: Option<(i64, HashSet<String>)>,
    /// What the row statements do.
    pub(super) changes: Changes,
    /// Where what is written waits for the file.
    pub(super) wal: Wal,
}

impl Tables {
    /// Forgets everything: the file may not hold what a failed transaction made.
    pub(super) fn forget(&mut self) {
        self.known.clear();
        self.triggers = None;
    }

    /// The table as it is in the file, with its child tables; `None` where it does not exist.
    pub(super) fn get(
        &mut self,
        connection: &Connection,
        name: &str,
        target: &Target,
    ) -> Result<Option<&Table>, DbError> {
        self.at(connection, &Place::named(name, target))
    }

    fn at(&mut self, connection: &Connection, place: &Place<'_>) -> Result<Option<&Table>, DbError> {
        if !self.known.contains_key(&place.name) {
            let Some(table) = table::load(connection, place)? else { return Ok(None) };
            let children: Vec<Place<'_>> = table.children.iter().map(|(key, name)| place.child(key, name)).collect();
            self.known.insert(place.name.clone(), table);
            for child in children {
                self.at(connection, &child)?;
            }
        }
        Ok(self.known.get(&place.name))
    }

    /// Makes the table, or extends it, so that it has a column for every key of `rows` and a child table for every
    /// list, as far as the contract lets it. `false` where there is no table yet and no record has the whole key.
    pub(super) fn prepare(
        &mut self,
        connection: &Connection,
        place: &Place<'_>,
        rows: &Rows,
        page_id: i64,
    ) -> Result<bool, PageError> {
        let mut table = match self.at(connection, place)? {
            // Nothing is copied for a page like those before it.
            Some(table) if rows.lists().is_empty() && table.has_all_columns(place, rows) => return Ok(true),
            Some(table) => table.clone(),
            None => {
                let before = self.before(connection, place)?;
                let made = extend::create(connection, place, before.as_ref(), ColumnType::Integer, rows, page_id)?;
                let Some(table) = made else { return Ok(false) };
                counted::is_empty(connection, place).map_err(PageError::Db)?;
                self.add(place, table.clone());
                before.map_or(Ok(()), |before| self.follow(connection, place, &before, page_id))?;
                self.known[&place.name].clone()
            }
        };
        self.extend(connection, place, &mut table, rows, page_id)?;
        for list in rows.lists() {
            self.prepare_list(connection, place, rows, list, page_id)?;
        }
        Ok(true)
    }

    fn extend(
        &mut self,
        connection: &Connection,
        place: &Place<'_>,
        table: &mut Table,
        rows: &Rows,
        page_id: i64,
    ) -> Result<(), DbError> {
        let mut added = extend::add_hinted(connection, place, table, page_id)?;
        if table.may_grow(place) {
            added |= extend::add_columns(connection, place, table, rows, page_id)?;
        }
        if added {
            self.add(place, table.clone());
        }
        Ok(())
    }

    /// Makes or extends the table of a list in the rows of `place`.
    fn prepare_list(
        &mut self,
        connection: &Connection,
        place: &Place<'_>,
        rows: &Rows,
        list: &List,
        page_id: i64,
    ) -> Result<(), PageError> {
        let key = &rows.keys()[list.key()];
        let parent = &self.known[&place.name];
        if let Some(name) = parent.children.get(key) {
            let child = place.child(key, name);
            self.prepare(connection, &child, list.rows(), page_id)?;
            return Ok(());
        }
        let is_wanted = place.target.layout.declares(&place.child(key, "").path);
        if is_wanted || parent.may_branch(place) {
            let name = family::child_name(connection, place, &parent.names, key)?;
            let child = place.child(key, &if place.is_next() { staging_table(&name) } else { name });
            self.make_child(connection, place, &child, key, None, page_id)?;
            self.prepare(connection, &child, list.rows(), page_id)?;
        }
        Ok(())
    }

    fn make_child(
        &mut self,
        connection: &Connection,
        parent: &Place<'_>,
        child: &Place<'_>,
        key: &str,
        before: Option<&Table>,
        page_id: i64,
    ) -> Result<(), PageError> {
        let id = self.known[&parent.name].id_type();
        family::record_child(connection, &parent.name, key, &child.name, page_id)?;
        if let Some(table) = extend::create(connection, child, before, id, &Rows::default(), page_id)? {
            self.add(child, table);
        }
        if let Some(parent) = self.known.get_mut(&parent.name) {
            parent.push_child(key.to_owned(), child.name.clone());
        }
        Ok(())
    }

    /// The generation that the table of `place` is to follow.
    fn before(&mut self, connection: &Connection, place: &Place<'_>) -> Result<Option<Table>, DbError> {
        if !place.is_next() {
            return Ok(None);
        }
        Ok(self.at(connection, &Place { name: place.final_name().to_owned(), ..place.clone() })?.cloned())
    }

    /// Gives a table that has just been made the child tables of the generation before it.
    fn follow(
        &mut self,
        connection: &Connection,
        place: &Place<'_>,
        before: &Table,
        page_id: i64,
    ) -> Result<(), PageError> {
        for (key, name) in before.children.iter().filter(|_| place.may_have_children()) {
            let child = place.child(key, &staging_table(name));
            let Some(before) = self.before(connection, &child)? else { continue };
            self.make_child(connection, place, &child, key, Some(&before), page_id)?;
            self.follow(connection, &child, &before, page_id)?;
        }
        Ok(())
    }

    fn add(&mut self, place: &Place<'_>, mut table: Table) {
        table.set_sql(place);
        self.known.insert(place.name.clone(), table);
    }

    /// Adds the column for values that fit no other to a table that [`Tables::prepare`] has prepared.
    pub(super) fn add_extra(&mut self, connection: &Connection, place: &Place<'_>) -> Result<(), DbError> {
        if let Some(table) = self.known.get_mut(&place.name) {
            extend::add_extra(connection, table)?;
            table.set_sql(place);
        }
        Ok(())
    }

    /// Whether the user has put triggers on a table. They can change other rows of it in the same statement.
    pub(super) fn has_triggers(&mut self, connection: &Connection, name: &str) -> Result<bool, DbError> {
        let schema = connection.prepare_cached("PRAGMA schema_version")?.query_row([], |row| row.get(0))?;
        if self.triggers.as_ref().is_none_or(|(known, _)| *known != schema) {
            let mut statement =
                connection.prepare_cached("SELECT lower(tbl_name) FROM sqlite_schema WHERE type = 'trigger'")?;
            let tables = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
            self.triggers = Some((schema, tables));
        }
        Ok(self.triggers.as_ref().is_some_and(|(_, tables)| tables.contains(&name.to_ascii_lowercase())))
    }

    /// A table that [`Tables::prepare`] has prepared.
    pub(super) fn known(&self, name: &str) -> &Table {
        &self.known[name]
    }

    /// Removes a table and its child tables, if they are there, and what is known about them.
    pub(super) fn drop_table(&mut self, connection: &Connection, name: &str) -> Result<(), DbError> {
        for dropped in family::drop_family(connection, name)? {
            self.known.remove(&dropped);
        }
        Ok(())
    }
}
