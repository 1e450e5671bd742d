//! `processing_steps`: what is changed about the records before they become rows. Pure. The paginator and the cursor
//! see the records as they came.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::options::Columns;
use crate::decode::RECORD_BYTES_MAX;
use crate::expression::{Expression, ExpressionError};
use crate::page::{Fate, NewValue, Rejected, Rows, Value};
use crate::secret::MASK;

mod fields;
mod path;
mod private;

use path::{Change, Field, Taken, Unreadable};
use private::Private;

/// One step of `processing_steps`. It has exactly one of these keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProcessingStep {
    /// An expression; records for which it is not true are left out.
    pub filter: Option<String>,
    /// Fields to put on the record, each with the expression that gives its value.
    pub add: IndexMap<String, String>,
    /// Fields to rename, from the old name to the new one.
    pub rename: IndexMap<String, String>,
    /// Fields to remove, or values inside of them by a dotted path.
    pub remove: Option<Columns>,
    /// Fields to replace by the SHA-256 of their text, or values inside of them by a dotted path.
    pub hash: Option<Columns>,
}

/// What is wrong with a step, and at which of its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepError {
    /// The keys from the step to what is wrong.
    pub keys: Vec<String>,
    /// What is wrong.
    pub error: ExpressionError,
}

/// The steps of a resource, compiled.
#[derive(Debug, Default)]
pub struct Steps {
    steps: Vec<Step>,
    private: Private,
}

#[derive(Debug)]
enum Step {
    Filter(Box<Expression>),
    Add(Vec<Added>),
    Rename(Vec<(String, String)>),
    Change(Change, Vec<Field>),
}

/// A field that is added.
#[derive(Debug)]
struct Added {
    name: String,
    expression: Expression,
    /// Where the expression is only a path.
    taken: Option<Taken>,
}

impl ProcessingStep {
    /// Compiles the step.
    ///
    /// # Errors
    /// What is wrong with it.
    fn compile(&self) -> Result<Step, StepError> {
        let wrong = |keys: &[&str], error: ExpressionError| StepError {
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            error,
        };
        let said = |message: &str| ExpressionError { message: message.to_owned(), help: None, at: None };
        let compile = |keys: &[&str], text: &str| Expression::compile(text).map_err(|error| wrong(keys, error));
        match (&self.filter, &self.remove, &self.hash, self.add.len(), self.rename.len()) {
            (Some(filter), None, None, 0, 0) => Ok(Step::Filter(Box::new(compile(&["filter"], filter)?))),
            (None, Some(remove), None, 0, 0) => Ok(Step::Change(Change::Remove, paths(remove))),
            (None, None, Some(hash), 0, 0) => Ok(Step::Change(Change::Hash, paths(hash))),
            (None, None, None, 1.., 0) => {
                let added = self.add.iter().map(|(name, text)| {
                    let expression = compile(&["add", name], text)?;
                    Ok(Added { name: name.clone(), taken: Taken::parse(text), expression })
                });
                Ok(Step::Add(added.collect::<Result<_, StepError>>()?))
            }
            (None, None, None, 0, 1..) => {
                let names: Vec<_> = self.rename.iter().map(|(from, to)| (from.clone(), to.clone())).collect();
                let twice =
                    names.iter().enumerate().find(|(i, (_, to))| names[..*i].iter().any(|(_, other)| other == to));
                match twice {
                    Some((_, (from, _))) => Err(wrong(&["rename", from], said("two fields get this name"))),
                    None => Ok(Step::Rename(names)),
                }
            }
            _ => Err(wrong(&[], said("a step has exactly one of `filter`, `add`, `rename`, `remove` and `hash`"))),
        }
    }
}

fn paths(names: &Columns) -> Vec<Field> {
    names.0.iter().map(|name| Field::new(name)).collect()
}

impl Steps {
    /// Compiles the steps of a resource.
    ///
    /// # Errors
    /// Everything that is wrong with them, with the number of the step.
    pub fn compile(options: &[ProcessingStep]) -> Result<Self, Vec<(usize, StepError)>> {
        let (mut steps, mut errors) = (Vec::new(), Vec::new());
        for (number, step) in options.iter().enumerate() {
            match step.compile() {
                Ok(step) => steps.push(step),
                Err(error) => errors.push((number, error)),
            }
        }
        if errors.is_empty() { Ok(Self { private: Private::of(&steps), steps }) } else { Err(errors) }
    }

    /// The number of the step that takes `field` off every record, where none behind it can put it back.
    #[must_use]
    pub fn loses(&self, field: &str) -> Option<usize> {
        let mut lost = None;
        for (number, step) in self.steps.iter().enumerate() {
            match step {
                Step::Change(Change::Remove, fields) if fields.iter().any(|removed| removed.name == field) => {
                    lost = lost.or(Some(number));
                }
                Step::Rename(names) if names.iter().any(|(_, to)| to == field) => lost = None,
                Step::Rename(names) if names.iter().any(|(from, _)| from == field) => lost = lost.or(Some(number)),
                Step::Add(added) if added.iter().any(|added| added.name == field) => lost = None,
                _ => {}
            }
        }
        lost
    }

    /// The field of a record, as it came, whose value `field` has behind the steps; none where they make it of anything
    /// else, or take it off.
    #[must_use]
    pub fn origin(&self, field: &str) -> Option<String> {
        let mut name = field;
        for step in self.steps.iter().rev() {
            name = match step {
                Step::Rename(names) => match names.iter().find(|(_, to)| to == name) {
                    Some((from, _)) => from,
                    None if names.iter().any(|(from, _)| from == name) => return None,
                    None => name,
                },
                Step::Add(added) => match added.iter().find(|added| added.name == name) {
                    Some(added) => added.taken.as_ref()?.field()?,
                    None => name,
                },
                Step::Change(Change::Remove, fields) if fields.iter().any(|removed| removed.name == name) => {
                    return None;
                }
                Step::Change(..) | Step::Filter(_) => name,
            };
        }
        Some(name.to_owned())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The rows as the steps make them. A record that a step fails on is set aside, with its text as it came; what
    /// the steps are to keep out of the database is masked in it.
    #[must_use]
    pub fn apply(&self, received: &Rows) -> Rows {
        let mut work =
            Work { received, private: &self.private, numbers: (0..received.len()).collect(), rows: received.clone() };
        self.private.mask_rejected(&mut work.rows);
        for (number, step) in self.steps.iter().enumerate() {
            let place = format!("processing_steps[{number}]");
            match step {
                Step::Filter(expression) => work.filter(expression, &place),
                Step::Add(added) => work.add(added, &place),
                Step::Rename(names) => work.rows.rename(names),
                Step::Change(change, fields) => fields.iter().for_each(|field| work.change(*change, field, &place)),
            }
        }
        work.rows
    }
}

/// The rows of a page between two steps.
struct Work<'p> {
    received: &'p Rows,
    private: &'p Private,
    /// Of each row its number among those received.
    numbers: Vec<usize>,
    rows: Rows,
}

impl Work<'_> {
    fn filter(&mut self, expression: &Expression, place: &str) {
        let fates = (0..self.rows.len()).map(|row| {
            match expression.evaluate_defined(fields::variables(expression, &self.rows, row)) {
                Ok(value) if value.is_true() => Fate::Keep,
                Ok(_) => Fate::Filter,
                Err((_, why)) => self.failed(row, "expression_failed", &format!("{place}.filter: {why}")),
            }
        });
        let fates = fates.collect();
        self.sort_out(fates);
    }

    fn add(&mut self, added: &[Added], place: &str) {
        let mut columns: Vec<Vec<Option<NewValue>>> =
            added.iter().map(|_| Vec::with_capacity(self.rows.len())).collect();
        let mut fates = Vec::with_capacity(self.rows.len());
        let mut page_bytes = 0;
        for row in 0..self.rows.len() {
            match self.values(row, added, page_bytes) {
                Ok((values, bytes)) => {
                    page_bytes += bytes;
                    columns.iter_mut().zip(values).for_each(|(column, value)| column.push(Some(value)));
                    fates.push(Fate::Keep);
                }
                Err((name, reason, why)) => fates.push(self.failed(row, reason, &format!("{place}.add.{name}: {why}"))),
            }
        }
        self.sort_out(fates);
        for (added, values) in added.iter().zip(&columns) {
            assert!(self.rows.put(&added.name, values), "there was room for each of the values");
        }
    }

    /// The values to add to a row, all of them of the record as it was before the step, and their size.
    fn values<'a>(
        &self,
        row: usize,
        added: &'a [Added],
        page_bytes: usize,
    ) -> Result<(Vec<NewValue>, usize), (&'a str, &'static str, String)> {
        let record_bytes: usize = self.rows.row(row).map(|(_, value)| text_bytes(value)).sum();
        let mut bytes = 0;
        let mut values = Vec::with_capacity(added.len());
        for Added { name, expression, taken } in added {
            let failed = |why: String| (name.as_str(), "expression_failed", why);
            let value = match taken.as_ref().and_then(|taken| taken.get(&self.rows, row)) {
                Some(value) => value,
                None => {
                    let variables = fields::variables(expression, &self.rows, row);
                    let value = expression.evaluate_defined(variables).map_err(|(_, why)| failed(why))?;
                    fields::lower(&value, expression, &self.rows, row).map_err(|why| failed(why.to_owned()))?
                }
            };
            bytes += value.text_bytes();
            if record_bytes + bytes > RECORD_BYTES_MAX || !self.rows.has_room_for(page_bytes + bytes) {
                return Err((name, "record_too_large", "the record becomes too large".to_owned()));
            }
            values.push(value);
        }
        Ok((values, bytes))
    }

    fn change(&mut self, change: Change, field: &Field, place: &str) {
        if let Some((first, path)) = &field.path {
            self.change_inside(change, field, first, path, place);
        }
        match change {
            Change::Remove => self.rows.remove(&field.name),
            Change::Hash if self.rows.keys().contains(&field.name) => {
                let hashed = (0..self.rows.len()).map(|row| self.rows.get(row, &field.name).and_then(path::hash));
                let hashed: Vec<_> = hashed.collect();
                self.put_where_there_is_room(&field.name, hashed, place);
            }
            Change::Hash => {}
        }
    }

    /// Changes what stands at a path inside of a field. A record that has a field of the whole name is left alone.
    fn change_inside(&mut self, change: Change, field: &Field, first: &str, path: &[String], place: &str) {
        let mut values = Vec::with_capacity(self.rows.len());
        let mut fates = Vec::with_capacity(self.rows.len());
        for row in 0..self.rows.len() {
            let changed = match self.rows.get(row, first) {
                Some(Value::Json(text)) if self.rows.get(row, &field.name).is_none() => {
                    path::change(&String::from_utf8_lossy(text), path, change)
                }
                _ => Ok(None),
            };
            match changed {
                Ok(changed) => {
                    values.push(changed.map(NewValue::Json));
                    fates.push(Fate::Keep);
                }
                Err(Unreadable) => fates.push(self.failed(row, "invalid_string", &format!("{place}: {}", field.name))),
            }
        }
        self.sort_out(fates);
        if values.iter().any(Option::is_some) {
            self.put_where_there_is_room(first, values, place);
        }
    }

    fn put_where_there_is_room(&mut self, name: &str, mut values: Vec<Option<NewValue>>, place: &str) {
        let mut bytes = 0;
        let mut fates = Vec::with_capacity(values.len());
        for (row, value) in values.iter().enumerate() {
            bytes += value.as_ref().map_or(0, NewValue::text_bytes);
            let fits = self.rows.has_room_for(bytes);
            fates.push(if fits { Fate::Keep } else { self.failed(row, "record_too_large", place) });
        }
        values.truncate(fates.iter().filter(|fate| **fate == Fate::Keep).count());
        self.sort_out(fates);
        assert!(self.rows.put(name, &values), "there was room for each of the values");
    }

    fn failed(&self, row: usize, reason: &str, why: &str) -> Fate {
        let record = self.private.record_text(self.received, self.numbers[row]);
        Fate::Reject(Rejected { reason: format!("{reason}: {why}").into(), record })
    }

    fn sort_out(&mut self, mut fates: Vec<Fate>) {
        if fates.iter().all(|fate| *fate == Fate::Keep) {
            return;
        }
        let kept = self.numbers.iter().zip(&fates).filter(|(_, fate)| **fate == Fate::Keep);
        self.numbers = kept.map(|(number, _)| *number).collect();
        self.rows.sort_out(|row| std::mem::replace(&mut fates[row], Fate::Filter));
    }
}

fn text_bytes(value: Value<'_>) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 0,
        Value::Integer(_, text) | Value::Real(_, text) => text.len(),
        Value::Number(text) | Value::Text(text) | Value::Json(text) | Value::List(text) => text.len(),
    }
}

#[cfg(test)]
mod tests;
