//! How records are laid out in tables: types that the user gives to columns, what may change later, and lists as
//! tables of their own. The reading half takes lists apart by it, the writing half makes tables and columns.

use std::borrow::Cow;

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, de};

/// How the records of a resource are laid out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Types of columns by their place: the field, or the fields of a list in a list joined with dots (`lines.price`).
    pub hints: IndexMap<String, ColumnHint>,
    /// What may change in the tables.
    pub contract: SchemaContract,
    /// Lists of objects become tables of their own to this depth.
    pub max_table_nesting: u32,
}

impl Layout {
    /// The type that the user gave to the column of `key` in the table that the fields of `path` lead to.
    #[must_use]
    pub fn hint(&self, path: &[String], key: &str) -> Option<HintType> {
        if self.hints.is_empty() {
            return None;
        }
        let hint = if path.is_empty() { self.hints.get(key) } else { self.hints.get(&dotted(path, key)) };
        hint.map(|hint| hint.column_type)
    }

    /// The fields of the table that `path` leads to which have a type, in the order of the configuration. Fields that
    /// are lists of objects with types of their own inside are not among them.
    pub fn hinted<'a>(&'a self, path: &[String]) -> impl Iterator<Item = (&'a str, HintType)> + use<'a> {
        let prefix = path.iter().map(|field| format!("{field}.")).collect::<String>();
        let is_nesting = self.max_table_nesting > 0;
        self.hints.iter().filter_map(move |(place, hint)| {
            let key = place.strip_prefix(&prefix)?;
            // Without child tables a dot is a part of the field's name.
            (!is_nesting || !key.contains('.')).then_some((key, hint.column_type))
        })
    }

    /// Whether the configuration speaks of columns inside the list that `path` leads to: its table is wanted.
    #[must_use]
    pub fn declares(&self, path: &[String]) -> bool {
        let prefix = path.iter().map(|field| format!("{field}.")).collect::<String>();
        self.hints.keys().any(|place| place.starts_with(&prefix))
    }
}

fn dotted(path: &[String], key: &str) -> String {
    let mut place = path.join(".");
    place.push('.');
    place.push_str(key);
    place
}

/// What the user says about a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ColumnHint {
    /// What the column holds, from its first row on.
    #[serde(rename = "type")]
    pub column_type: HintType,
}

/// The types that a column can be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HintType {
    /// 64-bit integers, and texts that are exactly one.
    Integer,
    /// Numbers that a double holds exactly, and texts that are one.
    Real,
    /// Strings, and numbers as they are written.
    Text,
    /// `true` and `false`, also as text, and 1 and 0.
    Boolean,
    /// RFC 3339, kept as received.
    Timestamp,
    /// Any value, as its JSON text.
    Json,
}

/// What happens to something that the tables do not have a place for yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ContractMode {
    /// The tables make room for it.
    #[default]
    Evolve,
    /// The read fails, and nothing of the page is stored.
    Freeze,
    /// The record is left out, and counted as filtered.
    DiscardRow,
    /// The value is left out.
    DiscardValue,
    /// The record is set aside in `_hw_quarantine`.
    Quarantine,
}

/// What may change in the tables of a resource once its first read is complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SchemaContract {
    /// A list of objects that has no table yet.
    pub tables: ContractMode,
    /// A field that has no column yet.
    pub columns: ContractMode,
    /// A value of another kind than its column.
    pub data_type: ContractMode,
}

impl SchemaContract {
    /// Whether anything but `evolve` is asked for.
    #[must_use]
    pub fn is_strict(self) -> bool {
        self != Self::default()
    }
}

/// The long form of [`SchemaContract`].
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct ContractTable {
    /// A list of objects that has no table yet.
    tables: ContractMode,
    /// A field that has no column yet.
    columns: ContractMode,
    /// A value of another kind than its column.
    data_type: ContractMode,
}

impl<'de> Deserialize<'de> for SchemaContract {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        if value.is_string() {
            let mode = serde_json::from_value(value).map_err(de::Error::custom)?;
            return Ok(Self { tables: mode, columns: mode, data_type: mode });
        }
        let ContractTable { tables, columns, data_type } = serde_json::from_value(value).map_err(de::Error::custom)?;
        Ok(Self { tables, columns, data_type })
    }
}

impl JsonSchema for SchemaContract {
    fn schema_name() -> Cow<'static, str> {
        "SchemaContract".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "description": "one word for tables, columns and data_type, or a word for each",
            "anyOf": [generator.subschema_for::<ContractMode>(), generator.subschema_for::<ContractTable>()]
        })
    }
}
