//! Writes the rows of one table, and with each row those of its lists.
//!
//! A list that came again is compared row by row: what is the same is not written, what is gone is taken away. So a
//! child table holds, for every parent row, exactly the list as it was received last.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, params, params_from_iter};

use super::batch::Counts;
use super::changes::Changes;
use super::columns::{self, Kinds, quote};
use super::error::PageError;
use super::place::Place;
use super::rows::object_text;
use super::table::Table;
use super::tables::Tables;
use crate::page::{List, Rows, Value, WriteDisposition};

/// Where the values under a key go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Column(usize),
    /// There is no room for a column.
    Extra,
    /// The contract lets it have no column.
    New,
}

/// A statement for many has to be compiled, and is not worth it where a page would need it less often.
const MANY_TIMES_MIN: usize = 5;

/// A page with a longer value is written row by row: a statement keeps what was bound to it last.
const MANY_BYTES_MAX: usize = 16 << 10;

const NULL: ToSqlOutput<'static> = ToSqlOutput::Borrowed(ValueRef::Null);

/// Writes rows into a table that is prepared for them.
pub(super) struct RowWriter<'w> {
    pub(super) place: Place<'w>,
    pub(super) table: &'w Table,
    pub(super) rows: &'w Rows,
    /// For each key of the rows.
    pub(super) fields: Vec<Field>,
    /// Child tables.
    pub(super) lists: Vec<ListWriter<'w>>,
    /// For each key, whether every value of it that the page has fits its column as it is.
    fit: Vec<bool>,
    /// What the columns of the primary key say of the row being written; of the others, nothing.
    pub(super) values: Vec<Value<'w>>,
    bound: Vec<ToSqlOutput<'w>>,
    extra: Vec<(usize, Value<'w>)>,
    insert: CachedStatement<'w>,
    /// Finds the id of a row that was there before.
    find: Option<CachedStatement<'w>>,
    page_id: i64,
}

/// Writes the lists under one key.
pub(super) struct ListWriter<'w> {
    pub(super) key: usize,
    /// None where no record of the page has a list with anything in it.
    pub(super) rows: Option<(&'w List, RowWriter<'w>)>,
    /// Take away the rows of a parent from an index on, and before them what is below them.
    cut: Vec<CachedStatement<'w>>,
}

impl<'w> RowWriter<'w> {
    pub(super) fn new(
        connection: &'w Connection,
        tables: &'w Tables,
        place: Place<'w>,
        rows: &'w Rows,
        kinds: &[Kinds],
        page_id: i64,
    ) -> Result<Self, PageError> {
        let table = tables.known(&place.name);
        let without_column = if table.may_grow(&place) { Field::Extra } else { Field::New };
        let field = |key| table.by_key.get(key).map_or(without_column, |column| Field::Column(*column));
        let mut lists = Vec::with_capacity(table.children.len());
        for (key, name) in &table.children {
            let list = rows.lists().iter().find(|list| rows.keys()[list.key()] == *key);
            let child = place.child(key, name);
            let mut cut = Vec::new();
            for sql in cut_sql(tables, name) {
                cut.push(connection.prepare_cached(&sql)?);
            }
            let rows = match list {
                Some(list) => {
                    let kinds = columns::kinds(list.rows());
                    Some((list, RowWriter::new(connection, tables, child, list.rows(), &kinds, page_id)?))
                }
                None => None,
            };
            let key = rows.as_ref().map_or(usize::MAX, |(list, _)| list.key());
            lists.push(ListWriter { key, rows, cut });
        }
        let unique = table.unique_columns(&place);
        let is_append = place.target.disposition == WriteDisposition::Append;
        let find = match table.has_row_id && !is_append && !unique.is_empty() {
            true => {
                let condition = Place::matching(&unique);
                Some(
                    connection
                        .prepare_cached(&format!("SELECT _row_id FROM {} WHERE {condition}", quote(&table.name)))?,
                )
            }
            false => None,
        };
        let fields: Vec<Field> = rows.keys().iter().map(field).collect();
        let fits = |(field, kinds): (&Field, &Kinds)| match field {
            Field::Column(column) => table.columns[*column].fits_all(*kinds),
            Field::Extra | Field::New => kinds.is_none(),
        };
        Ok(Self {
            fit: fields.iter().zip(kinds).map(fits).collect(),
            fields,
            lists,
            values: vec![Value::Null; table.columns.len()],
            bound: vec![NULL; table.columns.len()],
            extra: Vec::new(),
            insert: connection.prepare_cached(&table.write_sql)?,
            find,
            page_id,
            place,
            table,
            rows,
        })
    }

    /// Takes the values of a row up.
    pub(super) fn fill(&mut self, row: usize) {
        for column in &self.table.primary_key {
            self.values[*column] = Value::Null;
        }
        self.bound.fill(ToSqlOutput::Borrowed(ValueRef::Null));
        self.extra.clear();
        for (key, value) in self.rows.row(row) {
            match self.fields[key] {
                _ if matches!(value, Value::Null) => {}
                Field::Column(column) if self.fit[key] => {
                    let of = &self.table.columns[column];
                    self.bound[column] = columns::bind(of.column_type, value).unwrap_or(NULL);
                    if self.table.primary_key.contains(&column) {
                        self.values[column] = value;
                    }
                }
                Field::Column(column) => self.fill_column(row, key, column, value),
                Field::Extra if !matches!(value, Value::List(_)) => self.extra.push((key, value)),
                Field::Extra | Field::New => {}
            }
        }
    }

    /// Takes up a value that its column may not hold as it is.
    fn fill_column(&mut self, row: usize, key: usize, column: usize, value: Value<'w>) {
        if matches!(value, Value::List(_)) && self.rows.has_list(row, key) {
            return;
        }
        let of = &self.table.columns[column];
        if self.table.primary_key.contains(&column) {
            self.values[column] = of.read(value);
        }
        match of.fit(value) {
            Some(fitting) => self.bound[column] = fitting,
            None if self.place.keeps_misfits() => self.extra.push((key, value)),
            None => {}
        }
    }

    /// The page that the row with the key of the one that was taken up last was written with.
    pub(super) fn page_of_row(&self, connection: &Connection) -> rusqlite::Result<i64> {
        let condition = Place::matching(&self.table.unique_columns(&self.place));
        let sql = format!("SELECT _page_id FROM {} WHERE {condition}", quote(&self.table.name));
        let key = self.table.primary_key.iter().map(|column| &self.bound[*column]);
        connection.prepare_cached(&sql)?.query_row(params_from_iter(key), |row| row.get(0))
    }

    /// Writes the row that was taken up last into a table of its own, without its lists.
    pub(super) fn write(&mut self) -> Result<(), PageError> {
        self.insert.raw_bind_parameter(1, self.page_id)?;
        self.write_from(2)?;
        Ok(())
    }

    /// Binds the columns from `first` on and writes; says how many rows changed.
    fn write_from(&mut self, first: usize) -> Result<usize, PageError> {
        bind_row(&mut self.insert, first, &self.bound)?;
        if self.table.has_extra {
            self.insert.raw_bind_parameter(self.bound.len() + first, extra_text(self.rows, &self.extra))?;
        }
        Ok(self.insert.raw_execute()?)
    }

    /// What writes many rows of its table at once, where nothing has to be known of each of them: there are no lists in
    /// them, and they are short enough to be held for one statement.
    pub(super) fn many(&self, connection: &'w Connection) -> Result<Option<Many<'w>>, PageError> {
        let capacity = self.table.rows_at_once;
        let are_worth_it = capacity > 1 && self.rows.len() >= MANY_TIMES_MIN * capacity;
        if !are_worth_it || self.rows.longest() > MANY_BYTES_MAX || !self.lists.is_empty() {
            return Ok(None);
        }
        let insert = connection.prepare_cached(&self.table.write_many_sql)?;
        Ok(Some(Many { insert, capacity, rows: Vec::with_capacity(capacity) }))
    }

    /// Adds the row that was taken up last to those that are written at once.
    pub(super) fn add_to(&self, many: &mut Many<'_>, row: usize) -> Result<(), PageError> {
        let width = 1 + self.bound.len() + usize::from(self.table.has_extra);
        let first = 1 + many.rows.len() * width;
        many.insert.raw_bind_parameter(first, self.page_id)?;
        bind_row(&mut many.insert, first + 1, &self.bound)?;
        if self.table.has_extra {
            many.insert.raw_bind_parameter(first + width - 1, extra_text(self.rows, &self.extra))?;
        }
        many.rows.push(row);
        Ok(())
    }

    /// Writes the lists of the row that was written last; says whether anything changed. `is_new` where the row was not
    /// there before.
    pub(super) fn write_lists(&mut self, connection: &Connection, row: usize, is_new: bool) -> Result<bool, PageError> {
        if self.lists.is_empty() {
            return Ok(false);
        }
        let id = match (&self.table.primary_key[..], &mut self.find) {
            ([key], _) if !self.table.has_row_id => self.bound[*key].clone(),
            (key, Some(find)) if !is_new => {
                for (place, column) in (1..).zip(key) {
                    find.raw_bind_parameter(place, &self.bound[*column])?;
                }
                row_id(find)?
            }
            _ => connection.last_insert_rowid().into(),
        };
        self.write_lists_of(connection, row, &id, is_new)
    }

    fn write_lists_of(
        &mut self,
        connection: &Connection,
        row: usize,
        id: &ToSqlOutput<'_>,
        is_new: bool,
    ) -> Result<bool, PageError> {
        let mut changed = false;
        for list in &mut self.lists {
            let mut length = 0;
            if let Some((of_page, child)) = &mut list.rows {
                for row in of_page.of(row) {
                    changed |= child.write_child(connection, row, id, length, is_new)?;
                    length += 1;
                }
            }
            for cut in list.cut.iter_mut().filter(|_| !is_new) {
                changed |= cut.execute(params![id, length])? > 0;
            }
        }
        Ok(changed)
    }

    /// Writes one row of a list; says whether anything changed.
    fn write_child(
        &mut self,
        connection: &Connection,
        row: usize,
        parent_id: &ToSqlOutput<'_>,
        list_idx: i64,
        is_new: bool,
    ) -> Result<bool, PageError> {
        self.fill(row);
        self.insert.raw_bind_parameter(1, self.page_id)?;
        self.insert.raw_bind_parameter(2, parent_id)?;
        self.insert.raw_bind_parameter(3, list_idx)?;
        let changed = self.write_from(4)? > 0;
        if self.lists.is_empty() {
            return Ok(changed);
        }
        let id = match &mut self.find {
            Some(find) if !is_new => {
                find.raw_bind_parameter(1, parent_id)?;
                find.raw_bind_parameter(2, list_idx)?;
                row_id(find)?
            }
            _ => connection.last_insert_rowid().into(),
        };
        Ok(self.write_lists_of(connection, row, &id, is_new)? || changed)
    }
}

/// Writes many rows of one table with one statement.
pub(super) struct Many<'w> {
    insert: CachedStatement<'w>,
    capacity: usize,
    /// Those that are bound.
    pub(super) rows: Vec<usize>,
}

impl Many<'_> {
    pub(super) fn is_full(&self) -> bool {
        self.rows.len() == self.capacity
    }

    /// Writes them, when it is full, and counts them.
    pub(super) fn write(&mut self, changes: &Changes, counts: &mut Counts) -> Result<(), PageError> {
        changes.forget();
        self.insert.raw_execute()?;
        counts.add_changes(self.rows.len() as u64, changes.take_counts());
        self.rows.clear();
        Ok(())
    }
}

fn bind_row(statement: &mut CachedStatement<'_>, first: usize, bound: &[ToSqlOutput<'_>]) -> Result<(), PageError> {
    for (place, value) in (first..).zip(bound) {
        statement.raw_bind_parameter(place, value)?;
    }
    Ok(())
}

fn extra_text(rows: &Rows, extra: &[(usize, Value<'_>)]) -> Option<String> {
    (!extra.is_empty()).then(|| object_text(rows, extra.iter().copied()))
}

fn row_id(find: &mut CachedStatement<'_>) -> Result<ToSqlOutput<'static>, PageError> {
    let mut rows = find.raw_query();
    let row = rows.next()?.ok_or_else(|| {
        PageError::Contract("a row that was just written is not there: a trigger of yours took it away".to_owned())
    })?;
    Ok(row.get::<_, i64>(0)?.into())
}

/// The statements that take away the rows of a parent from an index on: what is below them first.
fn cut_sql(tables: &Tables, name: &str) -> Vec<String> {
    fn below(tables: &Tables, table: &Table, rows: &str, statements: &mut Vec<String>) {
        for child in table.children.values() {
            let condition = format!("_parent_id IN (SELECT _row_id FROM {} WHERE {rows})", quote(&table.name));
            below(tables, tables.known(child), &condition, statements);
            statements.push(format!("DELETE FROM {} WHERE {condition}", quote(child)));
        }
    }
    const ROWS: &str = "_parent_id = ?1 AND _list_idx >= ?2";
    let mut statements = Vec::new();
    below(tables, tables.known(name), ROWS, &mut statements);
    statements.push(format!("DELETE FROM {} WHERE {ROWS}", quote(name)));
    statements
}
