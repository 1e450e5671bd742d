//! The slices of a resource that are read each for itself: named in the configuration, or one for each record of a
//! parent. What a partition stands for is a JSON object, and its text names the partition in the file.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Map, Value as Json};

use super::resource::Resource;
use crate::page::{NewValue, QueuedPartition, ReadAgain, ResourceId, Rows, Run, Value};
use crate::rest::request::{RequestParts, Target};
use crate::template::{Slot, Template};

/// Combinations of values; more are a mistake, or the records of a parent.
const PARTITIONS_MAX: usize = 100_000;

/// The text that names a partition of these values. It does not depend on the order in which they are written down.
#[must_use]
pub fn partition_text(values: Map<String, Json>) -> String {
    let mut values = Json::Object(values);
    values.sort_all_objects();
    values.to_string()
}

/// Keys of the range that a partition of a backfill stands for. Keys of the configuration do not begin so.
const FROM: &str = "_from";
const TO: &str = "_to";

/// `partitions`: a list of tables, or a table of lists that stands for all combinations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partitions {
    /// The keys and values of each.
    pub values: Vec<Map<String, Json>>,
}

impl<'de> Deserialize<'de> for Partitions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let values = match Json::deserialize(deserializer)? {
            Json::Array(list) => {
                let tables = list.into_iter().map(|item| match item {
                    Json::Object(table) => Ok(table),
                    _ => Err(de::Error::custom("a partition is a table of values")),
                });
                tables.collect::<Result<_, _>>()?
            }
            Json::Object(table) => combinations(table).map_err(de::Error::custom)?,
            _ => return Err(de::Error::custom("partitions are a list of tables, or a table of lists")),
        };
        Ok(Self { values })
    }
}

impl JsonSchema for Partitions {
    fn schema_name() -> Cow<'static, str> {
        "Partitions".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let value = serde_json::json!({ "type": ["string", "integer", "boolean"] });
        json_schema!({
            "description": "a list of tables of values, or a table of lists that stands for all combinations",
            "anyOf": [
                { "type": "array", "minItems": 1, "items": { "type": "object", "additionalProperties": value } },
                {
                    "type": "object",
                    "additionalProperties": { "type": "array", "minItems": 1, "items": value }
                }
            ]
        })
    }
}

fn combinations(table: Map<String, Json>) -> Result<Vec<Map<String, Json>>, String> {
    let mut all = vec![Map::new()];
    for (key, values) in table {
        let Json::Array(values) = values else { return Err(format!("`{key}` is to be a list of values")) };
        if all.len().saturating_mul(values.len()) > PARTITIONS_MAX {
            return Err(format!("more than {PARTITIONS_MAX} combinations"));
        }
        let with = |before: &Map<String, Json>, value: &Json| {
            let mut after = before.clone();
            after.insert(key.clone(), value.clone());
            after
        };
        all =
            all.iter().flat_map(|before| values.iter().map(|value| with(before, value)).collect::<Vec<_>>()).collect();
    }
    Ok(all)
}

/// `parent`: how the parents of a resource are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ParentOptions {
    /// Only for records whose row in the parent's table is new or has changed.
    pub only_changed: bool,
}

/// What a partition stands for.
#[derive(Clone, Debug, Default)]
pub struct PartitionValues {
    values: Map<String, Json>,
    /// `${incremental.start_value}`, where there is one.
    start: Option<Json>,
    /// `${incremental.end_value}`, where there is one.
    end: Option<Json>,
}

impl PartitionValues {
    /// Reads the text that names a partition.
    ///
    /// # Errors
    /// When it is not ours: stored data is input.
    pub fn parse(partition: &str) -> Result<Self, String> {
        if partition.is_empty() {
            return Ok(Self::default());
        }
        let values =
            serde_json::from_str(partition).map_err(|error| format!("its partition {partition:?}: {error}"))?;
        Ok(Self { values, start: None, end: None })
    }

    /// The range of the cursor that a partition of a backfill stands for, as JSON.
    #[must_use]
    pub fn range(&self) -> Option<(&Json, &Json)> {
        self.values.get(FROM).zip(self.values.get(TO))
    }

    /// The text of the partition without such a range.
    #[must_use]
    pub fn without_range(&self) -> String {
        let mut values = self.values.clone();
        values.remove(FROM);
        values.remove(TO);
        if values.is_empty() { String::new() } else { partition_text(values) }
    }

    /// The text of the partition with such a range.
    #[must_use]
    pub fn with_range(&self, from: &Json, to: &Json) -> String {
        let mut values = self.values.clone();
        values.insert(FROM.to_owned(), from.clone());
        values.insert(TO.to_owned(), to.clone());
        partition_text(values)
    }

    /// The same, with a range of the cursor.
    #[must_use]
    pub fn within(self, start: Option<Json>, end: Option<Json>) -> Self {
        Self { start, end, ..self }
    }

    fn get(&self, slot: &Slot) -> Option<Json> {
        match slot {
            Slot::StartValue => self.start.clone(),
            Slot::EndValue => self.end.clone(),
            Slot::Partition(_) | Slot::Parent { .. } => self.values.get(&slot.key()?).cloned(),
        }
    }

    /// The first request of the partition. Parameters and headers without a value are left out.
    ///
    /// # Errors
    /// When its path has no value, an empty one, or one that leads elsewhere.
    pub fn request(&self, resource: &Resource) -> Result<RequestParts, String> {
        let mut request = resource.request.clone();
        if !resource.has_slots {
            return Ok(request);
        }
        let value = |slot: &Slot| self.get(slot);
        if let Target::Path(path) = &request.target {
            let in_path = |slot: &Slot| self.get(slot).map(|value| Json::String(path_text(&value)));
            let missing = || {
                let slots: Vec<_> = path.slots().filter(|slot| self.get(slot).is_none()).map(Slot::to_string).collect();
                format!("there is no value for {} in its path", slots.join(", "))
            };
            let filled = path.fill(&in_path).ok_or_else(missing)?;
            let is_empty = |slot: &&Slot| self.get(slot).is_some_and(|value| value.as_str() == Some(""));
            if let Some(slot) = path.slots().find(is_empty) {
                return Err(format!(
                    "the value for {slot} in its path is empty, which makes it the path of something else"
                ));
            }
            check_segments(&filled, path)?;
            request.target = Target::Path(filled);
        }
        let fill = |list: &[(String, Template)]| -> Vec<(String, Template)> {
            list.iter().filter_map(|(name, template)| Some((name.clone(), template.fill(&value)?))).collect()
        };
        request.params = fill(&request.params);
        request.headers = fill(&request.headers);
        request.form = request.form.as_deref().map(fill);
        request.json = resource.json.as_ref().and_then(|json| json.fill(&value)).map(|json| json.expose());
        Ok(request)
    }
}

/// A partition as a person would name it, to follow the name of its resource: ` (issues.number=5, repo=a/b)`.
#[must_use]
pub fn place_of(partition: &str) -> String {
    let Ok(PartitionValues { values, .. }) = PartitionValues::parse(partition) else { return String::new() };
    let text = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let parts: Vec<String> = values.iter().map(|(key, value)| format!("{key}={}", text(value))).collect();
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}

/// A value as a part of a path: what would end the path or begin another part of the URL is encoded (RFC 3986 §3.3).
/// Slashes stay: names such as `owner/repo` are paths themselves.
fn path_text(value: &Json) -> String {
    let text = match value {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' | b'@' | b',' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// A record of an API must not lead to another resource with `..`.
fn check_segments(filled: &Template, path: &Template) -> Result<(), String> {
    let dots = |text: &str| text.split('/').filter(|part| matches!(*part, "." | "..")).count();
    if dots(&filled.expose()) > dots(&path.expose()) {
        return Err(format!("a value for its path {path} has `.` or `..` as a part"));
    }
    Ok(())
}

/// A child of a resource: what of a record it needs for a partition of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// Its place among the children of its parent.
    pub number: usize,
    /// The resource.
    pub id: ResourceId,
    /// The fields of the record that its request needs.
    pub fields: BTreeSet<String>,
    /// The fields that are put on its rows.
    pub include: Vec<String>,
    /// Its own partitions, combined with those that the records give; one without values where it has none.
    pub own: Vec<Map<String, Json>>,
    /// Only for records whose row is new or has changed.
    pub only_changed: bool,
    /// For which records it is read again in one pass.
    pub again: ReadAgain,
}

impl Child {
    /// The partitions that the rows of a page give. `parent` is the resource's name, `partition` what its own read
    /// stands for. Rows without a value for the fields give none; the second value says how many, and the third how many of
    /// them do not have the fields at all.
    #[must_use]
    pub fn partitions(&self, parent: &str, partition: &str, rows: &Rows) -> (Vec<QueuedPartition>, u64, u64) {
        let inherited = PartitionValues::parse(partition).unwrap_or_default().values;
        let (mut queued, mut without, mut lacking) = (Vec::new(), 0, 0);
        for row in 0..rows.len() {
            let field = |name: &String| Some((parent_key(parent, name), field(rows, row, name)?));
            let Some(own_fields) = self.fields.iter().map(field).collect::<Option<Vec<_>>>() else {
                without += 1;
                lacking += u64::from(self.fields.iter().any(|name| lacks(rows, row, name)));
                continue;
            };
            let included: Map<String, Json> = self
                .include
                .iter()
                .map(|name| (format!("_{parent}_{name}"), self::field(rows, row, name).unwrap_or(Json::Null)))
                .collect();
            for own in &self.own {
                let mut values = inherited.clone();
                values.extend(own.clone());
                values.extend(own_fields.iter().cloned());
                queued.push(QueuedPartition {
                    child: self.number,
                    row,
                    partition: partition_text(values),
                    fields: (!included.is_empty()).then(|| Json::Object(included.clone()).to_string()),
                    only_changed: self.only_changed,
                });
            }
        }
        (queued, without, lacking)
    }
}

/// The partitions of all children of a resource that the rows of one of its pages give.
pub(super) fn children_of(resource: &Resource, run: &Run, partition: &str, rows: &Rows) -> Vec<QueuedPartition> {
    let (id, mut queued) = (&resource.target.id, Vec::new());
    for child in &resource.children {
        let (more, without, lacking) = child.partitions(&id.resource, partition, rows);
        queued.extend(more);
        if let Some(pass) = run.children.get(child.number) {
            pass.records.fetch_add(rows.len() as u64, Ordering::Relaxed);
            pass.lacking.fetch_add(lacking, Ordering::Relaxed);
        }
        if without > 0 {
            let fields: Vec<&str> = child.fields.iter().map(String::as_str).collect();
            tracing::warn!(
                resource = %child.id,
                "{without} records of {id} have no {}: nothing is read for them",
                fields.join(", ")
            );
        }
    }
    queued
}

/// The key of a partition that a field of a parent's record is under.
pub(super) fn parent_key(parent: &str, field: &str) -> String {
    format!("{parent}.{field}")
}

/// Whether a record does not even say that a field is null.
fn lacks(rows: &Rows, row: usize, name: &str) -> bool {
    if rows.get(row, name).is_some() {
        return false;
    }
    let Some((first, rest)) = name.split_once('.') else { return true };
    match rows.get(row, first) {
        // What lies below a null may be there in other records.
        Some(Value::Null) => false,
        Some(Value::Json(text)) => {
            std::str::from_utf8(text).is_ok_and(|text| super::select::value_in(text, rest).is_none())
        }
        _ => true,
    }
}

/// A field of a row, by its name or by a dotted path; none where it is missing or null.
pub(super) fn field(rows: &Rows, row: usize, name: &str) -> Option<Json> {
    let exact = |text: &[u8]| -> Option<Json> {
        let text = std::str::from_utf8(text).ok()?;
        let value: Json = serde_json::from_str(text).ok()?;
        // A number that would not print as it came is kept as its text.
        let printed = value.to_string();
        Some(if printed == text { value } else { Json::String(text.to_owned()) })
    };
    let json = |value: Value<'_>| match value {
        Value::Null => None,
        Value::Bool(value) => Some(Json::Bool(value)),
        Value::Integer(_, text) | Value::Real(_, text) | Value::Number(text) => exact(text),
        Value::Text(text) => std::str::from_utf8(text).ok().map(|text| Json::String(text.to_owned())),
        Value::Json(text) | Value::List(text) => serde_json::from_slice(text).ok(),
    };
    if let Some(value) = rows.get(row, name) {
        return json(value);
    }
    let (first, rest) = name.split_once('.')?;
    let Value::Json(text) = rows.get(row, first)? else { return None };
    super::select::value_in(std::str::from_utf8(text).ok()?, rest).filter(|value| !value.is_null())
}

/// The fields of a parent's record, as they are put on rows.
///
/// # Errors
/// When the text is not ours: stored data is input.
pub fn parent_fields(fields: Option<&str>) -> Result<Vec<(String, NewValue)>, String> {
    let Some(fields) = fields else { return Ok(Vec::new()) };
    let fields: Map<String, Json> = serde_json::from_str(fields).map_err(|error| format!("parent_fields: {error}"))?;
    let value = |value: Json| match value {
        Json::Null => NewValue::Null,
        Json::Bool(value) => NewValue::Bool(value),
        Json::Number(number) => match number.as_i64() {
            Some(integer) => NewValue::Integer(integer, number.to_string()),
            None => NewValue::Number(number.to_string()),
        },
        Json::String(text) => NewValue::Text(text),
        nested => NewValue::Json(nested.to_string()),
    };
    Ok(fields.into_iter().map(|(key, field)| (key, value(field))).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Child, Map, Partitions, path_text};
    use crate::decode::decode;
    use crate::page::{ReadAgain, ResourceId, Text};

    #[test]
    fn partitions_are_a_list_or_all_combinations() {
        let list: Partitions = serde_json::from_value(json!([{"repo": "a/b"}, {"repo": "c", "n": 1}])).unwrap();
        assert_eq!(list.values.len(), 2);
        let table: Partitions = serde_json::from_value(json!({"a": [1, 2], "b": ["x", "y", "z"]})).unwrap();
        let texts: Vec<String> = table.values.iter().map(|values| json!(values).to_string()).collect();
        assert_eq!(texts.len(), 6);
        assert_eq!((&*texts[0], &*texts[5]), (r#"{"a":1,"b":"x"}"#, r#"{"a":2,"b":"z"}"#));
        assert!(serde_json::from_value::<Partitions>(json!({"a": 1})).is_err());
    }

    #[test]
    fn a_value_in_a_path_does_not_end_it() {
        for (value, expected) in [
            (json!("tokio-rs/tokio"), "tokio-rs/tokio"),
            (json!("a b?c#d%e&f"), "a%20b%3Fc%23d%25e%26f"),
            (json!(17), "17"),
            (json!("grün"), "gr%C3%BCn"),
        ] {
            assert_eq!(path_text(&value), expected);
        }
    }

    #[test]
    fn the_rows_of_a_parent_give_partitions_to_its_children() {
        let body = r#"[{"id":1,"user":{"name":"x"},"n":12345678901234567890123},{"id":null},{"id":3,"n":2}]"#;
        let text = Text::new(bytes::Bytes::from_static(body.as_bytes())).unwrap();
        let rows = decode(&text, &[text.as_str()]).unwrap();
        let child = |fields: &[&str], include: &[&str]| Child {
            number: 0,
            id: ResourceId::new("s", "comments"),
            fields: fields.iter().map(|field| (*field).to_owned()).collect(),
            include: include.iter().map(|field| (*field).to_owned()).collect(),
            own: vec![Map::new()],
            only_changed: false,
            again: ReadAgain::Changed,
        };
        let (queued, without, lacking) = child(&["id"], &["n"]).partitions("issues", r#"{"repo":"a"}"#, &rows);
        let shown: Vec<_> =
            queued.iter().map(|queued| (queued.row, &*queued.partition, queued.fields.as_deref())).collect();
        assert_eq!(
            shown,
            [
                (0, r#"{"issues.id":1,"repo":"a"}"#, Some(r#"{"_issues_n":"12345678901234567890123"}"#)),
                (2, r#"{"issues.id":3,"repo":"a"}"#, Some(r#"{"_issues_n":2}"#)),
            ]
        );
        assert_eq!((without, lacking), (1, 0), "null is a value");
        let (queued, without, lacking) = child(&["user.name"], &[]).partitions("issues", "", &rows);
        assert_eq!(lacking, 2);
        assert_eq!((queued[0].partition.as_str(), queued.len(), without), (r#"{"issues.user.name":"x"}"#, 1, 2));
    }
}
