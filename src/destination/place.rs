//! Which table of a resource is meant: its own, the next generation of it, or one of the lists in its records.

use super::columns::quote;
use crate::page::{ContractMode, Target, WriteDisposition};

/// Before the name of the table in which the next generation of a replaced one grows.
const NEXT: &str = "_hw_next_";

/// The table in which the next generation of a replaced table grows.
pub(super) fn staging_table(table: &str) -> String {
    format!("{NEXT}{table}")
}

/// A table of a resource.
#[derive(Clone, Debug)]
pub(super) struct Place<'t> {
    pub(super) name: String,
    pub(super) target: &'t Target,
    /// The fields from the resource's own table to this one.
    pub(super) path: Vec<String>,
}

impl<'t> Place<'t> {
    /// The resource's own table.
    pub(super) fn own(target: &'t Target) -> Self {
        Self::named(&target.table, target)
    }

    /// The table that its records are written to.
    pub(super) fn written(target: &'t Target) -> Self {
        match target.disposition {
            WriteDisposition::Replace => Self::named(&staging_table(&target.table), target),
            WriteDisposition::Append | WriteDisposition::Merge => Self::own(target),
        }
    }

    /// The table `name` with the records of the resource.
    pub(super) fn named(name: &str, target: &'t Target) -> Self {
        Self { name: name.to_owned(), target, path: Vec::new() }
    }

    /// The table of the lists under `key` in the rows of this one.
    pub(super) fn child(&self, key: &str, name: &str) -> Self {
        let path = self.path.iter().cloned().chain([key.to_owned()]).collect();
        Self { name: name.to_owned(), target: self.target, path }
    }

    pub(super) fn is_child(&self) -> bool {
        !self.path.is_empty()
    }

    /// Whether it is of a generation that is not complete.
    pub(super) fn is_next(&self) -> bool {
        self.name.starts_with(NEXT)
    }

    /// Its name once its generation is complete.
    pub(super) fn final_name(&self) -> &str {
        self.name.strip_prefix(NEXT).unwrap_or(&self.name)
    }

    /// Whether it is of a generation that another one will take the place of.
    pub(super) fn is_old(&self) -> bool {
        self.target.disposition == WriteDisposition::Replace && !self.is_next()
    }

    /// Whether lists in its rows can have tables.
    pub(super) fn may_have_children(&self) -> bool {
        self.path.len() < self.target.layout.max_table_nesting as usize
    }

    /// Whether its rows are told apart by more than one column, or by none, and lists in them can have tables: then a
    /// row has an id of its own for these.
    pub(super) fn has_row_id(&self) -> bool {
        let is_append = self.target.disposition == WriteDisposition::Append;
        self.may_have_children() && (self.is_child() || is_append || self.target.primary_key.len() != 1)
    }

    /// Whether values of another kind than their column are kept beside it.
    pub(super) fn keeps_misfits(&self) -> bool {
        self.target.layout.contract.data_type == ContractMode::Evolve
    }

    /// A field of it in the words of the configuration.
    pub(super) fn field(&self, key: &str) -> String {
        self.path.iter().map(String::as_str).chain([key]).collect::<Vec<_>>().join(".")
    }

    /// A condition for the row that these columns name, with places from `?1` on.
    pub(super) fn matching(columns: &[String]) -> String {
        let equal = |(place, name): (usize, &String)| format!("{} = ?{place}", quote(name));
        (1..).zip(columns).map(equal).collect::<Vec<_>>().join(" AND ")
    }
}
