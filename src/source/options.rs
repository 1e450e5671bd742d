//! The keys of `[sources.NAME]` and of its resources.

use std::borrow::Cow;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::later::NotBuiltYet;
use crate::page::{ColumnHint, SchemaContract, WriteDisposition};
use crate::rest::ClientOptions;
use crate::rest::action::ResponseAction;
use crate::rest::paginator::Paginator;
use crate::template::{JsonTemplate, Template};
use crate::units::Timespan;

/// `[sources.NAME]`: one API.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceOptions {
    /// `false` leaves the source out of every run.
    #[serde(default = "enabled")]
    pub enabled: bool,
    /// How to talk to it.
    pub client: ClientOptions,
    /// Keys for every resource that does not set them itself.
    #[serde(default)]
    pub resource_defaults: Option<ResourceOptions>,
    /// Its data sets.
    #[serde(default)]
    pub resources: IndexMap<String, ResourceOptions>,
    /// When to run, as cron.
    #[serde(default)]
    pub schedule: Option<NotBuiltYet>,
    /// How often to run.
    #[serde(default)]
    pub every: Option<NotBuiltYet>,
    /// The zone of `schedule`.
    #[serde(default)]
    pub timezone: Option<NotBuiltYet>,
    /// Random delay of a scheduled run.
    #[serde(default)]
    pub jitter: Option<NotBuiltYet>,
}

fn enabled() -> bool {
    true
}

/// `resources.NAME`: one data set, one table.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ResourceOptions {
    /// Joined with `base_url` as text; the resource's name by default. A full URL only on the same origin.
    pub path: Option<Template>,
    /// The HTTP method.
    pub method: Method,
    /// Query parameters.
    pub params: IndexMap<String, Template>,
    /// Request headers.
    pub headers: IndexMap<String, Template>,
    /// A JSON body.
    pub json: Option<JsonTemplate>,
    /// Where the records are: a dotted path, or RFC 9535 JSONPath when it starts with `$`.
    pub data_selector: Option<String>,
    /// The table; `SOURCE_RESOURCE` by default.
    pub table: Option<String>,
    /// The column, or columns, that name a record.
    pub primary_key: Option<Columns>,
    /// How records become rows; `merge` with a key, `append` without.
    pub write_disposition: Option<WriteDisposition>,
    /// How to get from one page to the next; the client's by default.
    pub paginator: Option<Paginator>,
    /// Pages in flight, where the next positions are known in advance (`offset`, `page_number`).
    #[schemars(range(min = 1, max = 1000))]
    pub concurrency: Option<u32>,
    /// Responses that mean something else than their status says.
    pub response_actions: Vec<ResponseAction>,
    /// An interrupted read goes on at its position when that is younger than this.
    pub resume_within: Option<Timespan>,
    /// The format of the body.
    pub format: Option<Format>,
    /// A form body.
    pub form: Option<NotBuiltYet>,
    /// A GraphQL query.
    pub graphql: Option<NotBuiltYet>,
    /// The element of an XML body that is a record.
    pub xml_record_path: Option<NotBuiltYet>,
    /// Read only what is new.
    pub incremental: Option<NotBuiltYet>,
    /// Slices with checkpoints of their own.
    pub partitions: Option<NotBuiltYet>,
    /// How parents are read.
    pub parent: Option<NotBuiltYet>,
    /// Fields of the parent on the rows.
    pub include_from_parent: Option<NotBuiltYet>,
    /// Changes to records.
    pub processing_steps: Option<NotBuiltYet>,
    /// Types of columns, from their first row on. A column of a child table is `FIELD.COLUMN`.
    pub columns: IndexMap<String, ColumnHint>,
    /// What may change in the tables once their first read is complete.
    pub schema_contract: SchemaContract,
    /// Lists of objects become child tables `TABLE__FIELD` to this depth; 0 keeps them as JSON text.
    #[schemars(range(max = 16))]
    pub max_table_nesting: u32,
    /// When to run, as cron.
    pub schedule: Option<NotBuiltYet>,
    /// How often to run.
    pub every: Option<NotBuiltYet>,
}

/// The HTTP methods that read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// RFC 9110 §9.3.1.
    #[default]
    Get,
    /// RFC 9110 §9.3.3, for APIs that take their query in a body.
    Post,
}

/// The formats of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// RFC 8259.
    Json,
    /// A JSON value per line.
    #[schemars(extend("x-not-built-yet" = true))]
    Jsonl,
    /// RFC 4180.
    #[schemars(extend("x-not-built-yet" = true))]
    Csv,
    /// XML 1.0.
    #[schemars(extend("x-not-built-yet" = true))]
    Xml,
}

/// A column or a list of columns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Columns(pub Vec<String>);

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(name) => Ok(Self(vec![name])),
            list => serde_json::from_value(list).map(Self).map_err(de::Error::custom),
        }
    }
}

impl JsonSchema for Columns {
    fn schema_name() -> Cow<'static, str> {
        "Columns".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "a column, or a list of columns",
            "anyOf": [
                { "type": "string", "minLength": 1 },
                { "type": "array", "items": { "type": "string", "minLength": 1 }, "minItems": 1 }
            ]
        })
    }
}
