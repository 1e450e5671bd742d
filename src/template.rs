//! Texts of the configuration whose `${…}` placeholders were filled in at load: what came from a secret stays
//! marked, so that a value can be sent whole and shown masked.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Number, Value};

use crate::secret::{MASK, Secret};

mod slot;

pub use slot::Slot;

/// The key under which the loader hands over a text that is made of segments. It holds a NUL, which the loader
/// refuses in every key that a user writes, so the two cannot be confused.
pub const SEGMENTS_KEY: &str = "\0segments";

/// One part of a [`Template`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Segment {
    /// Text as written, or filled in from something that is not secret.
    Text(String),
    /// Text filled in from a secret.
    Secret(SecretText),
    /// Filled in for each request.
    Slot(Slot),
}

/// What a part of a text is, as the loader hands it over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentKind {
    /// See [`Segment::Text`].
    Text,
    /// See [`Segment::Secret`].
    Secret,
    /// See [`Segment::Slot`].
    Slot,
}

/// The text of a secret segment, as the loader hands it over.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(Secret);

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Secret::new(text)))
    }
}

/// A credential is written like any other text; nothing of it stays marked, as all of it is secret.
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Template::deserialize(deserializer).map(|template| Self::new(template.expose()))
    }
}

/// A text with its secret parts marked. `Display` masks them; [`Template::expose`] gives the whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    segments: Vec<Segment>,
}

impl Template {
    /// A template of plain text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { segments: vec![Segment::Text(text.into())] }
    }

    /// The whole text, secrets included, for the request that sends it.
    #[must_use]
    pub fn expose(&self) -> String {
        self.segments
            .iter()
            .map(|segment| match segment {
                Segment::Text(text) => Cow::Borrowed(text.as_str()),
                Segment::Secret(SecretText(secret)) => Cow::Borrowed(secret.expose()),
                Segment::Slot(slot) => Cow::Owned(slot.to_string()),
            })
            .collect()
    }

    /// What is filled in for each request.
    pub fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Slot(slot) => Some(slot),
            Segment::Text(_) | Segment::Secret(_) => None,
        })
    }

    /// The text of one request; none where there is no value for one of its slots.
    #[must_use]
    pub fn fill(&self, value: &impl Fn(&Slot) -> Option<Value>) -> Option<Self> {
        let segments = self.segments.iter().map(|segment| match segment {
            Segment::Slot(slot) => value(slot).map(|value| Segment::Text(value_text(&value))),
            plain => Some(plain.clone()),
        });
        Some(Self { segments: segments.collect::<Option<_>>()? })
    }

    /// Its secret parts.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Text(_) | Segment::Slot(_) => None,
            Segment::Secret(SecretText(secret)) => Some(secret),
        })
    }

    /// Whether any part of it is secret.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        self.segments.iter().any(|segment| matches!(segment, Segment::Secret(_)))
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.segments.iter().try_for_each(|segment| match segment {
            Segment::Text(text) => f.write_str(text),
            Segment::Secret(_) => f.write_str(MASK),
            Segment::Slot(slot) => write!(f, "{slot}"),
        })
    }
}

/// A value for [`SEGMENTS_KEY`]: what the loader puts in place of a string with placeholders.
#[must_use]
pub fn segments_value(segments: &[(SegmentKind, &str)]) -> Value {
    let list = segments
        .iter()
        .map(|(kind, text)| {
            let kind = match kind {
                SegmentKind::Text => "text",
                SegmentKind::Secret => "secret",
                SegmentKind::Slot => "slot",
            };
            Value::Object(Map::from_iter([(kind.to_owned(), Value::String((*text).to_owned()))]))
        })
        .collect();
    Value::Object(Map::from_iter([(SEGMENTS_KEY.to_owned(), Value::Array(list))]))
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match JsonTemplate::deserialize(deserializer)? {
            JsonTemplate::Text(template) => Ok(template),
            JsonTemplate::Bool(value) => Ok(Self::text(value.to_string())),
            JsonTemplate::Number(value) => Ok(Self::text(value.to_string())),
            JsonTemplate::Null | JsonTemplate::List(_) | JsonTemplate::Table(_) => {
                Err(de::Error::custom("expected a string, a number or a boolean"))
            }
        }
    }
}

impl JsonSchema for Template {
    fn schema_name() -> Cow<'static, str> {
        "Template".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "integer", "number", "boolean"],
            "format": "template",
            "description": "a value in which ${env:NAME}, ${file:/path} and ${cred:NAME} are filled in"
        })
    }
}

/// A JSON value of the configuration (a request body) whose strings are templates.
#[derive(Clone, Debug, PartialEq)]
pub enum JsonTemplate {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, as written.
    Number(Number),
    /// A string with its secret parts marked.
    Text(Template),
    /// An array.
    List(Vec<JsonTemplate>),
    /// An object, in the order of the file.
    Table(Vec<(String, JsonTemplate)>),
}

impl JsonTemplate {
    /// The JSON value to send, secrets included.
    #[must_use]
    pub fn expose(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Number(value) => Value::Number(value.clone()),
            Self::Text(template) => Value::String(template.expose()),
            Self::List(items) => items.iter().map(Self::expose).collect(),
            Self::Table(entries) => {
                Value::Object(entries.iter().map(|(key, value)| (key.clone(), value.expose())).collect())
            }
        }
    }

    /// The body of one request; none where there is no value for a slot. A string that is a slot and nothing else takes
    /// the value as it is. Keys whose value cannot be filled in are left out.
    #[must_use]
    pub fn fill(&self, value: &impl Fn(&Slot) -> Option<Value>) -> Option<Self> {
        match self {
            Self::Text(template) => match template.segments.as_slice() {
                [Segment::Slot(slot)] => value(slot).map(Self::from),
                _ => template.fill(value).map(Self::Text),
            },
            Self::List(items) => Some(Self::List(items.iter().filter_map(|item| item.fill(value)).collect())),
            Self::Table(entries) => {
                let filled = entries.iter().filter_map(|(key, entry)| Some((key.clone(), entry.fill(value)?)));
                Some(Self::Table(filled.collect()))
            }
            Self::Null | Self::Bool(_) | Self::Number(_) => Some(self.clone()),
        }
    }

    /// What is filled in for each request.
    #[must_use]
    pub fn slots(&self) -> Vec<&Slot> {
        match self {
            Self::Text(template) => template.slots().collect(),
            Self::List(items) => items.iter().flat_map(Self::slots).collect(),
            Self::Table(entries) => entries.iter().flat_map(|(_, value)| value.slots()).collect(),
            Self::Null | Self::Bool(_) | Self::Number(_) => Vec::new(),
        }
    }

    /// The secret parts of its strings.
    #[must_use]
    pub fn secrets(&self) -> Vec<Secret> {
        match self {
            Self::Text(template) => template.secrets().cloned().collect(),
            Self::List(items) => items.iter().flat_map(Self::secrets).collect(),
            Self::Table(entries) => entries.iter().flat_map(|(_, value)| value.secrets()).collect(),
            Self::Null | Self::Bool(_) | Self::Number(_) => Vec::new(),
        }
    }

    /// The JSON value with its secret parts masked, for what is shown and for fingerprints.
    #[must_use]
    pub fn masked(&self) -> Value {
        match self {
            Self::Text(template) => Value::String(template.to_string()),
            Self::List(items) => items.iter().map(Self::masked).collect(),
            Self::Table(entries) => {
                Value::Object(entries.iter().map(|(key, value)| (key.clone(), value.masked())).collect())
            }
            plain => plain.expose(),
        }
    }
}

impl From<Value> for JsonTemplate {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(value),
            Value::Number(value) => Self::Number(value),
            Value::String(text) => Self::Text(Template::text(text)),
            Value::Array(items) => Self::List(items.into_iter().map(Self::from).collect()),
            Value::Object(entries) => {
                Self::Table(entries.into_iter().map(|(key, value)| (key, Self::from(value))).collect())
            }
        }
    }
}

/// A value as it stands in a parameter.
fn value_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

impl<'de> Deserialize<'de> for JsonTemplate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonTemplateVisitor)
    }
}

impl JsonSchema for JsonTemplate {
    fn schema_name() -> Cow<'static, str> {
        "JsonTemplate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "format": "json-template",
            "description": "a JSON body; ${env:NAME}, ${file:/path} and ${cred:NAME} are filled in inside its strings"
        })
    }
}

struct JsonTemplateVisitor;

impl<'de> Visitor<'de> for JsonTemplateVisitor {
    type Value = JsonTemplate;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<JsonTemplate, E> {
        Ok(JsonTemplate::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<JsonTemplate, E> {
        Ok(JsonTemplate::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<JsonTemplate, E> {
        Ok(JsonTemplate::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<JsonTemplate, E> {
        Number::from_f64(value).map(JsonTemplate::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<JsonTemplate, E> {
        Ok(JsonTemplate::Text(Template::text(value)))
    }

    fn visit_unit<E>(self) -> Result<JsonTemplate, E> {
        Ok(JsonTemplate::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<JsonTemplate, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(JsonTemplate::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonTemplate, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == SEGMENTS_KEY {
                return Ok(JsonTemplate::Text(Template { segments: map.next_value()? }));
            }
            entries.push((key, map.next_value()?));
        }
        Ok(JsonTemplate::Table(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::{JsonTemplate, Secret, SegmentKind, Slot, Template, segments_value};

    #[test]
    fn a_secret_part_is_sent_but_never_shown() {
        let value = segments_value(&[(SegmentKind::Text, "Bearer "), (SegmentKind::Secret, "abc")]);
        let template: Template = serde_json::from_value(value).unwrap();
        assert_eq!(template.expose(), "Bearer abc");
        assert_eq!(format!("{template}"), "Bearer ***");
        assert!(!format!("{template:?}").contains("abc"));
        assert!(template.is_secret());
    }

    #[test]
    fn a_body_keeps_its_shape_and_marks_its_secrets() {
        let value = serde_json::json!({"a": [1, true, segments_value(&[(SegmentKind::Secret, "k")])], "b": "t"});
        let body: JsonTemplate = serde_json::from_value(value).unwrap();
        assert_eq!(body.expose(), serde_json::json!({"a": [1, true, "k"], "b": "t"}));
        assert_eq!(body.masked(), serde_json::json!({"a": [1, true, "***"], "b": "t"}));
        assert_eq!(body.secrets().iter().map(Secret::expose).collect::<Vec<_>>(), ["k"]);
    }

    #[test]
    fn slots_are_filled_in_and_what_has_no_value_is_left_out() {
        let start = || segments_value(&[(SegmentKind::Slot, "incremental.start_value")]);
        let mixed = segments_value(&[(SegmentKind::Text, "n="), (SegmentKind::Slot, "partition.n")]);
        let end = segments_value(&[(SegmentKind::Slot, "incremental.end_value")]);
        let body: JsonTemplate =
            serde_json::from_value(serde_json::json!({"since": start(), "q": mixed, "to": end, "l": [start()]}))
                .unwrap();
        let value = |slot: &Slot| match slot {
            Slot::StartValue => Some(serde_json::json!(17)),
            Slot::Partition(key) if key == "n" => Some(serde_json::json!("x")),
            _ => None,
        };
        assert_eq!(body.fill(&value).unwrap().expose(), serde_json::json!({"since": 17, "q": "n=x", "l": [17]}));
        assert_eq!(body.slots().len(), 4);
        let text: Template = serde_json::from_value(start()).unwrap();
        assert_eq!(text.to_string(), "${incremental.start_value}");
        assert_eq!(text.fill(&value).unwrap().expose(), "17");
        assert_eq!(text.fill(&|_| None), None);
    }

    #[test]
    fn numbers_and_booleans_are_texts_in_a_parameter() {
        for (value, text) in [(serde_json::json!(100), "100"), (serde_json::json!(true), "true")] {
            assert_eq!(serde_json::from_value::<Template>(value).unwrap().expose(), text);
        }
    }
}
