//! One data table: its columns and child tables as the file and `_hw_columns` have them, and the statement that writes
//! a row. How tables are made is left to `extend`.

use std::collections::{HashMap, HashSet};

use rusqlite::Connection;
use rusqlite::types::ToSqlOutput;

use super::DbError;
use super::columns::{self, ColumnType, Kinds, bind, quote};
use super::family::{self, children};
use super::hints::{Retyped, read_as, retype};
use super::history::table_exists;
use super::place::Place;
use crate::page::{ContractMode, HintType, Rows, Target, Value, WriteDisposition};

/// Said of a table that someone else has made.
pub(super) const NOT_OURS: &str = "was not made by highwater; give the resource another `table`";

/// Rows that one statement writes where there are many: to begin and to end one costs as much as a row.
const ROWS_AT_ONCE: usize = 10;

/// Values in one statement: it is kept.
const VALUES_AT_ONCE: usize = 1_000;

/// One column of a data table that records fill.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) source_key: String,
    pub(super) column_type: ColumnType,
    /// The type that the user gave it.
    pub(super) hint: Option<HintType>,
}

impl Column {
    /// What a value says in this column; the value itself where it says nothing.
    pub(super) fn read<'a>(&self, value: Value<'a>) -> Value<'a> {
        self.hint.and_then(|hint| read_as(hint, value)).unwrap_or(value)
    }

    /// Whether values of these kinds all fit as they are, with nothing to be read in them.
    pub(super) fn fits_all(&self, kinds: Kinds) -> bool {
        self.hint.is_none() && kinds.all_fit(self.column_type)
    }

    /// What is bound for a value; `None` for a misfit.
    pub(super) fn fit<'a>(&self, value: Value<'a>) -> Option<ToSqlOutput<'a>> {
        match self.hint {
            None => bind(self.column_type, value),
            Some(hint) => bind(self.column_type, read_as(hint, value)?),
        }
    }
}

/// A data table.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
    pub(super) by_key: HashMap<String, usize>,
    /// Columns of the primary key, in its order.
    pub(super) primary_key: Vec<usize>,
    pub(super) has_extra: bool,
    /// Whether its rows have an id of their own, for the rows of their lists.
    pub(super) has_row_id: bool,
    /// The tables of the lists in its rows, by key.
    pub(super) children: HashMap<String, String>,
    /// Whether the contract holds for it: a read is complete that found it or made it.
    pub(super) is_settled: bool,
    /// Writes one row: the columns that are ours, those that records fill, then `_extra` where there is one.
    pub(super) write_sql: String,
    /// Writes `rows_at_once` of them.
    pub(super) write_many_sql: String,
    pub(super) rows_at_once: usize,
    pub(super) names: HashSet<String>,
}

/// The table as it is in the file; `None` where it does not exist.
pub(super) fn load(connection: &Connection, place: &Place<'_>) -> Result<Option<Table>, DbError> {
    let name = &place.name;
    if !table_exists(connection, name)? {
        // What belongs to a table that a user has dropped goes with it.
        family::drop_family(connection, name)?;
        return Ok(None);
    }
    // The same for a column that a user has dropped.
    connection.execute(
        "DELETE FROM _hw_columns WHERE \"table\" = ?1 AND type <> 'table'
         AND \"column\" NOT IN (SELECT name FROM pragma_table_info(?1))",
        [name],
    )?;
    let mut table = Table { name: name.clone(), has_row_id: place.has_row_id(), ..Table::default() };
    let mut statement = connection.prepare("SELECT name FROM pragma_table_info(?1)")?;
    for found in statement.query_map([name], |row| row.get::<_, String>(0))? {
        table.names.insert(found?.to_ascii_lowercase());
    }
    let taken = |why: String| DbError::TableTaken { resource: place.target.id.to_string(), table: name.clone(), why };
    if !table.names.contains("_page_id") {
        return Err(taken(NOT_OURS.to_owned()));
    }
    table.has_extra = table.names.contains("_extra");
    for column in columns(connection, place)? {
        let (column, refused) = hinted(connection, place, column)?;
        if let Some(why) = refused {
            return Err(taken(why));
        }
        table.push(column);
    }
    table.find_primary_key(place);
    for (key, child) in children(connection, name)? {
        table.push_child(key, child);
    }
    // A generation that follows another one has its shape.
    let follows = place.is_next() && table_exists(connection, place.final_name())?;
    table.is_settled = follows || was_read_to_the_end(connection, place)?;
    // A replaced table has the key and the child tables that its next generation will have.
    if !place.is_old() {
        let way_out = format!("run `highwater reset --drop-rows {}` to read it from the start", place.target.id);
        if !table.children.is_empty() && !place.may_have_children() {
            let depth = place.target.layout.max_table_nesting;
            return Err(taken(format!(
                "has child tables, which max_table_nesting = {depth} would leave as they are; {way_out}"
            )));
        }
        if table.constraints(place) != found_constraints(connection, name)? {
            let what = "primary_key, write_disposition or max_table_nesting";
            return Err(taken(format!("was made with another {what}; {way_out}")));
        }
    }
    table.set_sql(place);
    Ok(Some(table))
}

fn columns(connection: &Connection, place: &Place<'_>) -> Result<Vec<Column>, DbError> {
    let mut statement = connection.prepare(
        "SELECT c.\"column\", c.source_key, c.type FROM _hw_columns c JOIN pragma_table_info(?1) t
         ON c.\"column\" = t.name WHERE c.\"table\" = ?1 AND c.type <> 'table' ORDER BY c.rowid",
    )?;
    let columns = statement.query_map([&place.name], |row| {
        let column_type: String = row.get(2)?;
        Ok(Column {
            name: row.get(0)?,
            source_key: row.get(1)?,
            column_type: ColumnType::from_str(&column_type).unwrap_or(ColumnType::Text),
            hint: None,
        })
    })?;
    Ok(columns.collect::<Result<_, _>>()?)
}

/// Gives a column that is there the type that the user wants for it now, or says why it cannot have it.
fn hinted(connection: &Connection, place: &Place<'_>, mut column: Column) -> Result<(Column, Option<String>), DbError> {
    let Some(hint) = place.target.layout.hint(&place.path, &column.source_key) else { return Ok((column, None)) };
    column.hint = Some(hint);
    let wanted = ColumnType::from(hint);
    match retype(column.column_type, wanted) {
        Retyped::Same => {}
        // The next generation begins with the new type.
        _ if place.is_old() => {}
        Retyped::Widened => {
            connection.execute(
                "UPDATE _hw_columns SET type = ?3 WHERE \"table\" = ?1 AND \"column\" = ?2",
                [&*place.name, &column.name, wanted.as_str()],
            )?;
            column.column_type = wanted;
        }
        Retyped::Refused => {
            let (field, is) = (place.field(&column.source_key), column.column_type.as_str());
            let why = format!(
                "has a column for {field:?} of type {is}, and `columns` now says {}; take the hint back, or run \
                 `highwater reset --drop-rows {}` to read everything anew",
                wanted.as_str(),
                place.target.id
            );
            return Ok((column, Some(why)));
        }
    }
    Ok((column, None))
}

/// Whether the read whose page made the table, or a later one, is complete.
fn was_read_to_the_end(connection: &Connection, place: &Place<'_>) -> Result<bool, DbError> {
    // No run of a pass is older than the one that began it: the history before is not looked through.
    let sql =
        "WITH made (pass_id) AS (SELECT coalesce((SELECT r.pass_id FROM _hw_pages p JOIN _hw_runs r USING (run_id)
                 WHERE p.page_id = (SELECT min(first_page_id) FROM _hw_columns
                   WHERE \"table\" = ?1 OR \"column\" = ?1 AND type = 'table')), 0))
               SELECT EXISTS (SELECT 1 FROM _hw_runs WHERE source = ?2 AND resource = ?3 AND outcome = 'complete'
                 AND run_id >= (SELECT pass_id FROM made) AND pass_id >= (SELECT pass_id FROM made))";
    let id = &place.target.id;
    Ok(connection.query_row(sql, [&*place.name, &*id.source, &*id.resource], |row| row.get(0))?)
}

/// The columns of the table's PRIMARY KEY, and those of its UNIQUE constraint.
type Constraints = (Vec<String>, Vec<String>);

/// What the file says.
fn found_constraints(connection: &Connection, table: &str) -> Result<Constraints, DbError> {
    let names = |sql: &str| -> Result<Vec<String>, DbError> {
        let mut statement = connection.prepare(sql)?;
        Ok(statement.query_map([table], |row| row.get(0))?.collect::<Result<_, _>>()?)
    };
    Ok((
        names("SELECT name FROM pragma_table_info(?1) WHERE pk > 0 ORDER BY pk")?,
        names(
            "SELECT c.name FROM pragma_index_list(?1) i, pragma_index_info(i.name) c WHERE i.origin = 'u' ORDER BY c.seqno",
        )?,
    ))
}

impl Table {
    pub(super) fn push(&mut self, column: Column) {
        self.by_key.insert(column.source_key.clone(), self.columns.len());
        self.names.insert(column.name.to_ascii_lowercase());
        self.columns.push(column);
    }

    pub(super) fn push_child(&mut self, key: String, child: String) {
        self.names.insert(child.to_ascii_lowercase());
        self.children.insert(key, child);
    }

    /// The columns that no two rows share.
    pub(super) fn unique_columns(&self, place: &Place<'_>) -> Vec<String> {
        if place.is_child() {
            return vec!["_parent_id".to_owned(), "_list_idx".to_owned()];
        }
        if place.target.disposition == WriteDisposition::Append {
            return Vec::new();
        }
        self.primary_key.iter().map(|column| self.columns[*column].name.clone()).collect()
    }

    fn constraints(&self, place: &Place<'_>) -> Constraints {
        let unique = self.unique_columns(place);
        if self.has_row_id { (vec!["_row_id".to_owned()], unique) } else { (unique, Vec::new()) }
    }

    /// Writes the statements anew, after the columns have changed.
    pub(super) fn set_sql(&mut self, place: &Place<'_>) {
        self.write_sql = write_sql(self, place, 1);
        self.rows_at_once = (VALUES_AT_ONCE / (self.columns.len() + 2)).clamp(1, ROWS_AT_ONCE);
        self.write_many_sql = write_sql(self, place, self.rows_at_once);
    }

    pub(super) fn find_primary_key(&mut self, place: &Place<'_>) {
        let Target { primary_key, .. } = place.target;
        let keys = if place.is_child() { &[] } else { primary_key.as_slice() };
        self.primary_key = keys.iter().filter_map(|key| self.by_key.get(key).copied()).collect();
    }

    /// Whether there is a column for every key of `rows` and for every type that the user gave.
    pub(super) fn has_all_columns(&self, place: &Place<'_>, rows: &Rows) -> bool {
        let mut unknown = (0..).zip(rows.keys()).filter(|(_, key)| !self.by_key.contains_key(*key)).peekable();
        // What is always null needs no column.
        let kinds = if unknown.peek().is_some() { columns::kinds(rows) } else { Vec::new() };
        unknown.all(|(key, _): (usize, _)| kinds[key].is_none())
            && place.target.layout.hinted(&place.path).all(|(key, _)| self.by_key.contains_key(key))
    }

    /// The type of what tells its rows apart, for the `_parent_id` of their lists.
    pub(super) fn id_type(&self) -> ColumnType {
        match self.primary_key.as_slice() {
            [key] if !self.has_row_id => self.columns[*key].column_type,
            _ => ColumnType::Integer,
        }
    }

    /// Whether lists in its rows may get tables: the contract of the resource says so, or does not hold yet.
    pub(super) fn may_branch(&self, place: &Place<'_>) -> bool {
        place.target.layout.contract.tables == ContractMode::Evolve || !self.is_settled
    }

    /// The same for columns.
    pub(super) fn may_grow(&self, place: &Place<'_>) -> bool {
        place.target.layout.contract.columns == ContractMode::Evolve || !self.is_settled
    }
}

/// The statement that writes so many rows. With a key, a row that is there is changed only where it differs.
fn write_sql(table: &Table, place: &Place<'_>, rows: usize) -> String {
    let mut names: Vec<String> = vec![quote("_page_id")];
    if place.is_child() {
        names.extend([quote("_parent_id"), quote("_list_idx")]);
    }
    names.extend(table.columns.iter().map(|column| quote(&column.name)));
    if table.has_extra {
        names.push(quote("_extra"));
    }
    let row = format!("({})", vec!["?"; names.len()].join(", "));
    let values = vec![row; rows].join(", ");
    let mut sql = format!("INSERT INTO {} ({}) VALUES {values}", quote(&table.name), names.join(", "));
    let key: Vec<String> = table.unique_columns(place).iter().map(|name| quote(name)).collect();
    if key.is_empty() {
        return sql;
    }
    let rest: Vec<&String> = names[1..].iter().filter(|name| !key.contains(name)).collect();
    let key_list = key.join(", ");
    if rest.is_empty() {
        sql.push_str(&format!(" ON CONFLICT ({key_list}) DO NOTHING"));
        return sql;
    }
    let sets: Vec<String> =
        names.iter().filter(|name| !key.contains(name)).map(|name| format!("{name} = excluded.{name}")).collect();
    let differs: Vec<String> = rest.iter().map(|name| format!("{name} IS NOT excluded.{name}")).collect();
    sql.push_str(&format!(
        " ON CONFLICT ({key_list}) DO UPDATE SET {} WHERE {}",
        sets.join(", "),
        differs.join(" OR ")
    ));
    sql
}
