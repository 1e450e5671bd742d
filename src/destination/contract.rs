//! `schema_contract`: what becomes of a record that the tables have no place for. Judged before anything of the record
//! is written, with all its lists, because the record is what the books count.

use super::error::PageError;
use super::writer::{Field, RowWriter};
use crate::page::{ContractMode, Value};

/// What is to become of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is stored, perhaps without some of its values.
    Keep,
    /// It is left out.
    Discard,
    /// It is set aside, and this is why.
    Quarantine(String),
}

impl Verdict {
    /// The stricter one: a record that is to be seen by somebody must not be left out without a word.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (quarantine @ Self::Quarantine(_), _) | (_, quarantine @ Self::Quarantine(_)) => quarantine,
            (Self::Discard, _) | (_, Self::Discard) => Self::Discard,
            (Self::Keep, Self::Keep) => Self::Keep,
        }
    }
}

/// The ways in which a record can break the contract.
#[derive(Clone, Copy, Debug)]
enum Breach {
    NewTable,
    NewColumn,
    OtherType,
}

impl Breach {
    fn reason(self) -> &'static str {
        match self {
            Self::NewTable => "new_table",
            Self::NewColumn => "new_column",
            Self::OtherType => "other_type",
        }
    }
}

/// Reasons in `_hw_quarantine` name the field, of which a server may have made up any text.
const FIELD_BYTES_MAX: usize = 100;

impl RowWriter<'_> {
    /// What the contract says of a row and of the lists in it.
    ///
    /// # Errors
    /// Where it says that the read has to fail.
    pub(super) fn judge(&self, row: usize) -> Result<Verdict, PageError> {
        let mut verdict = Verdict::Keep;
        for (key, value) in self.rows.row(row).filter(|(_, value)| *value != Value::Null) {
            verdict = verdict.and(self.judge_value(row, key, value)?);
        }
        for list in &self.lists {
            if let Some((of_page, child)) = &list.rows {
                for row in of_page.of(row) {
                    verdict = verdict.and(child.judge(row)?);
                }
            }
        }
        Ok(verdict)
    }

    fn judge_value(&self, row: usize, key: usize, value: Value<'_>) -> Result<Verdict, PageError> {
        let contract = self.place.target.layout.contract;
        let breach = match (&self.fields[key], value) {
            (_, Value::List(_)) if self.rows.has_list(row, key) => {
                if self.lists.iter().any(|list| list.key == key) {
                    return Ok(Verdict::Keep);
                }
                (contract.tables, Breach::NewTable)
            }
            // An empty list needs no place.
            (Field::New, Value::List(_)) => return Ok(Verdict::Keep),
            (Field::New, _) => (contract.columns, Breach::NewColumn),
            (Field::Column(column), value) if self.table.columns[*column].fit(value).is_none() => {
                (contract.data_type, Breach::OtherType)
            }
            _ => return Ok(Verdict::Keep),
        };
        match breach {
            (ContractMode::Evolve | ContractMode::DiscardValue, _) => Ok(Verdict::Keep),
            (ContractMode::DiscardRow, _) => Ok(Verdict::Discard),
            (ContractMode::Quarantine, breach) => {
                let mut field = self.place.field(&self.rows.keys()[key]);
                field.truncate(field.floor_char_boundary(FIELD_BYTES_MAX));
                Ok(Verdict::Quarantine(format!("{}: {field}", breach.reason())))
            }
            (ContractMode::Freeze, breach) => Err(self.broken(key, value, breach)),
        }
    }

    fn broken(&self, key: usize, value: Value<'_>, breach: Breach) -> PageError {
        let field = self.place.field(&self.rows.keys()[key]);
        let table = self.place.final_name();
        PageError::Contract(match breach {
            Breach::NewTable => format!(
                "schema_contract.tables is \"freeze\", and a record has a list of objects in {field:?}, for which there \
                 is no table; let `tables` evolve for one run, or give {field:?} a type in `columns`"
            ),
            Breach::NewColumn => format!(
                "schema_contract.columns is \"freeze\", and a record has the field {field:?}, for which {table} has no \
                 column; let `columns` evolve for one run, or give {field:?} a type in `columns`"
            ),
            Breach::OtherType => {
                let column = match &self.fields[key] {
                    Field::Column(column) => self.table.columns[*column].column_type.as_str(),
                    Field::Extra | Field::New => "another type",
                };
                format!(
                    "schema_contract.data_type is \"freeze\", and a record has {} in the field {field:?}, whose column \
                     in {table} is of type {column}; let `data_type` evolve to keep such values in `_extra`",
                    kind(value)
                )
            }
        })
    }
}

/// What a value is, without saying it.
fn kind(value: Value<'_>) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Integer(..) | Value::Real(..) | Value::Number(_) => "a number that does not fit",
        Value::Text(_) => "a text",
        Value::Json(_) | Value::List(_) => "an object or a list",
    }
}
