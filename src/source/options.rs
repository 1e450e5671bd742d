//! The keys of `[sources.NAME]` and of its resources.

use std::borrow::Cow;
use std::collections::HashSet;
use std::time::Duration;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::format::{CsvOptions, Format};
use super::graphql::GraphQl;
use super::incremental::IncrementalOptions;
use super::partition::{ParentOptions, Partitions};
use super::transform::ProcessingStep;
use crate::page::{ColumnHint, SchemaContract, WriteDisposition};
use crate::rest::ClientOptions;
use crate::rest::action::ResponseAction;
use crate::rest::paginator::Paginator;
use crate::schedule::{Cron, Schedule, Trigger, Zone};
use crate::template::{JsonTemplate, Slot, Template};
use crate::units::Timespan;

/// `[sources.NAME]`: one API.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
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
    /// When its resources are read, as cron.
    #[serde(default)]
    pub schedule: Option<Cron>,
    /// How often its resources are read, in place of `schedule`.
    #[serde(default)]
    pub every: Option<Timespan>,
    /// The time zone of every `schedule` in the source; UTC by default.
    #[serde(default)]
    pub timezone: Option<Zone>,
    /// A random delay of up to this much before each scheduled start.
    #[serde(default)]
    pub jitter: Option<Timespan>,
}

impl SourceOptions {
    /// When one of its resources is read: as the resource says itself, else as the source says; `None` where neither
    /// does. Time zone and jitter are those of the source.
    #[must_use]
    pub fn schedule_of(&self, resource: &ResourceOptions) -> Option<Schedule> {
        let trigger = |schedule: &Option<Cron>, every: Option<Timespan>| {
            let cron = schedule.clone().map(|cron| Trigger::Cron(cron, self.timezone.clone().unwrap_or_default()));
            cron.or(every.map(|interval| Trigger::Every(*interval)))
        };
        let own = trigger(&resource.schedule, resource.every);
        let trigger = own.or_else(|| trigger(&self.schedule, self.every))?;
        Some(Schedule { trigger, jitter: self.jitter.map_or(Duration::ZERO, |jitter| *jitter) })
    }
}

fn enabled() -> bool {
    true
}

/// `resources.NAME`: one data set, one table.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ResourceOptions {
    /// Joined with `base_url` as text; the resource's name by default. A full URL only on the same origin.
    pub path: Option<Template>,
    /// The HTTP method: `POST` where a body is given, else `GET`.
    pub method: Option<Method>,
    /// Query parameters.
    pub params: IndexMap<String, Template>,
    /// Request headers.
    pub headers: IndexMap<String, Template>,
    /// A JSON body.
    pub json: Option<JsonTemplate>,
    /// A body of form fields (`application/x-www-form-urlencoded`).
    pub form: Option<IndexMap<String, Template>>,
    /// A GraphQL request: a JSON body with `query` and `variables`.
    pub graphql: Option<GraphQl>,
    /// Where the records are in a body of JSON: a dotted path, or RFC 9535 JSONPath when it starts with `$`.
    pub data_selector: Option<String>,
    /// The table; `SOURCE_RESOURCE` by default.
    pub table: Option<String>,
    /// The column, or columns, that name a record.
    pub primary_key: Option<Columns>,
    /// How records become rows; `merge` with a key, `append` without.
    pub write_disposition: Option<WriteDisposition>,
    /// How to get from one page to the next; the client's by default.
    pub paginator: Option<Paginator>,
    /// Partitions read at the same time; where there are none, pages in flight (`offset`, `page_number`).
    #[schemars(range(min = 1, max = 1000))]
    pub concurrency: Option<u32>,
    /// Responses that mean something else than their status says.
    pub response_actions: Vec<ResponseAction>,
    /// An interrupted read goes on at its position when that is younger than this.
    pub resume_within: Option<Timespan>,
    /// The format of the bodies that come back.
    pub format: Option<Format>,
    /// How CSV is written.
    pub csv: Option<CsvOptions>,
    /// The elements of an XML body that are the records: names from the root, with dots between them.
    pub xml_record_path: Option<String>,
    /// Read only what is new since the last complete read.
    pub incremental: Option<IncrementalOptions>,
    /// Slices with checkpoints of their own.
    pub partitions: Option<Partitions>,
    /// How the parent's records are taken, where `${resources.PARENT.FIELD}` names one.
    pub parent: Option<ParentOptions>,
    /// Fields of the parent's record that are put on the rows, as `_PARENT_FIELD`.
    pub include_from_parent: Vec<String>,
    /// Changes to records before they become rows, in this order.
    pub processing_steps: Vec<ProcessingStep>,
    /// Types of columns, from their first row on. A column of a child table is `FIELD.COLUMN`.
    pub columns: IndexMap<String, ColumnHint>,
    /// What may change in the tables once their first read is complete.
    pub schema_contract: SchemaContract,
    /// Lists of objects become child tables `TABLE__FIELD` to this depth; 0 keeps them as JSON text.
    #[schemars(range(max = 16))]
    pub max_table_nesting: u32,
    /// When it is read, as cron; the source's by default.
    pub schedule: Option<Cron>,
    /// How often it is read, in place of `schedule`.
    pub every: Option<Timespan>,
}

impl ResourceOptions {
    /// What is filled in for each request.
    #[must_use]
    pub fn slots(&self) -> Vec<&Slot> {
        let form = self.form.iter().flat_map(IndexMap::values);
        let fields = self.params.values().chain(self.headers.values()).chain(form);
        let mut slots: Vec<&Slot> = self.path.iter().chain(fields).flat_map(Template::slots).collect();
        let variables = self.graphql.iter().flat_map(|graphql| graphql.variables.values());
        slots.extend(self.json.iter().chain(variables).flat_map(JsonTemplate::slots));
        slots
    }

    /// The resource whose records it is read for, by the placeholders of its request; the nearest one, where there are
    /// several.
    #[must_use]
    pub fn parent_name<'a>(&'a self, siblings: &'a IndexMap<String, Self>) -> Option<&'a str> {
        let named = self.named_parents();
        // Of an ancestor and its child, the child is the parent.
        let is_above = |name: &str, other: &str| other != name && above(other, siblings).contains(name);
        named.iter().copied().find(|name| !named.iter().any(|other| is_above(name, other)))
    }

    /// The parent of the resource of this name, its parent, and so on; in a circle, up to the resource itself.
    #[must_use]
    pub fn ancestors<'a>(name: &'a str, siblings: &'a IndexMap<String, Self>) -> Vec<&'a str> {
        let mut line: Vec<&str> = Vec::new();
        let mut at = name;
        while let Some(parent) = siblings.get(at).and_then(|options| options.parent_name(siblings)) {
            if line.contains(&parent) {
                break;
            }
            line.push(parent);
            if parent == name {
                break;
            }
            at = parent;
        }
        line
    }

    /// Whether the resource of this name is read for some of its parents' records only: their reads do not return every
    /// record, or not every one is taken.
    #[must_use]
    pub fn has_partial_parent(name: &str, siblings: &IndexMap<String, Self>) -> bool {
        let skips = |options: &Self| options.parent.is_some_and(|parent| parent.only_changed);
        let ancestors = Self::ancestors(name, siblings);
        let mut above = ancestors.iter().filter_map(|name| siblings.get(*name));
        siblings.get(name).is_some_and(skips) || above.any(|options| options.incremental.is_some() || skips(options))
    }

    fn named_parents(&self) -> Vec<&str> {
        let named = self.slots().into_iter().filter_map(|slot| match slot {
            Slot::Parent { resource, .. } => Some(resource.as_str()),
            _ => None,
        });
        named.collect()
    }

    /// How its records become rows: as it says, else by whether they have a key.
    #[must_use]
    pub fn disposition(&self) -> WriteDisposition {
        let has_key = self.primary_key.as_ref().is_some_and(|key| !key.0.is_empty());
        self.write_disposition.unwrap_or(if has_key { WriteDisposition::Merge } else { WriteDisposition::Append })
    }

    /// The method that requests are sent with.
    #[must_use]
    pub fn method(&self) -> Method {
        let has_body = self.json.is_some() || self.form.is_some() || self.graphql.is_some();
        self.method.unwrap_or(if has_body { Method::Post } else { Method::Get })
    }

    /// The JSON body of a request, if it has one.
    #[must_use]
    pub fn json_body(&self) -> Option<JsonTemplate> {
        self.json.clone().or_else(|| self.graphql.as_ref().map(GraphQl::body))
    }
}

/// All resources that one names, and that those name.
fn above<'a>(name: &'a str, siblings: &'a IndexMap<String, ResourceOptions>) -> HashSet<&'a str> {
    let mut found = HashSet::new();
    let mut open = vec![name];
    while let Some(name) = open.pop() {
        let named = siblings.get(name).map(ResourceOptions::named_parents).unwrap_or_default();
        open.extend(named.into_iter().filter(|name| found.insert(*name)));
    }
    found
}

/// The HTTP methods that read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// RFC 9110 §9.3.1.
    Get,
    /// RFC 9110 §9.3.3, for APIs that take their query in a body.
    Post,
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
