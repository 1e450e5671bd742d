//! Reads the schema: what a place of the configuration may hold.

use serde_json::{Map, Value as Json};

use super::schema::SCHEMA;
use super::tree::{Node, Value};

/// A part of the schema.
pub(super) type Schema = &'static Json;

/// What a value may be.
pub(super) enum Shape {
    /// Any JSON; its strings are templates.
    Body,
    /// A table with known keys.
    Table(Keys),
    /// A table with names that the user chooses.
    Names(Schema),
    /// A table whose `type` decides which keys it has.
    Tagged(Vec<Variant>),
    /// One of some words.
    Words(Vec<Variant>),
    /// A list.
    List { items: Schema, length_min: u64 },
    /// One of some shapes.
    Either(Vec<Schema>),
    /// A string, number or boolean.
    Scalar(Scalar),
}

/// The keys of a table.
#[derive(Clone)]
pub(super) struct Keys {
    pub(super) properties: &'static Map<String, Json>,
    pub(super) required: Vec<&'static str>,
}

/// A word with a meaning: the `type` of a tagged table, or a value.
#[derive(Clone)]
pub(super) struct Variant {
    pub(super) name: &'static str,
    pub(super) keys: Option<Keys>,
}

/// A string, number or boolean, and its limits.
pub(super) struct Scalar {
    pub(super) types: Vec<&'static str>,
    pub(super) format: Option<&'static str>,
    pub(super) schema: Schema,
    /// A secret that may stand in the file.
    pub(super) may_be_literal: bool,
}

/// The schema of the whole file.
pub(super) fn root() -> Schema {
    &SCHEMA
}

/// What a part of the schema allows.
pub(super) fn shape(schema: Schema) -> Shape {
    let may_be_literal = is_true(schema, "x-may-be-literal");
    let schema = resolve(schema);
    if let Some(variants) = schema.get("oneOf").and_then(Json::as_array) {
        let tagged = variants.iter().any(|variant| variant.get("properties").is_some());
        let variants = variants.iter().filter_map(variant).collect();
        return if tagged { Shape::Tagged(variants) } else { Shape::Words(variants) };
    }
    if let Some(choices) = schema.get("anyOf").and_then(Json::as_array) {
        return Shape::Either(choices.iter().collect());
    }
    if let Some(items) = schema.get("items") {
        return Shape::List { items, length_min: schema.get("minItems").and_then(Json::as_u64).unwrap_or(0) };
    }
    if let Some(keys) = keys(schema) {
        return Shape::Table(keys);
    }
    if let Some(names) = schema.get("additionalProperties").filter(|names| names.is_object()) {
        return Shape::Names(names);
    }
    let format = schema.get("format").and_then(Json::as_str);
    let types: Vec<_> = match schema.get("type") {
        Some(Json::String(name)) => vec![name.as_str()],
        Some(Json::Array(names)) => names.iter().filter_map(Json::as_str).collect(),
        _ => return Shape::Body,
    };
    Shape::Scalar(Scalar { types, format, schema, may_be_literal })
}

/// The schema of one key of a table that looks like `node`.
pub(super) fn child(schema: Schema, node: &Node, key: &str) -> Option<Schema> {
    match shape(schema) {
        Shape::Table(keys) => keys.properties.get(key),
        Shape::Names(names) => Some(names),
        Shape::Tagged(variants) => variant_of(&variants, node)?.keys.as_ref()?.properties.get(key),
        Shape::Either(choices) => choices.into_iter().find_map(|choice| child(choice, node, key)),
        Shape::Body => Some(schema),
        _ => None,
    }
}

/// The schema of the items of a list.
pub(super) fn item(schema: Schema) -> Option<Schema> {
    match shape(schema) {
        Shape::List { items, .. } => Some(items),
        Shape::Either(choices) => choices.into_iter().find_map(item),
        Shape::Body => Some(schema),
        _ => None,
    }
}

/// The variant that a tagged table says it is.
pub(super) fn variant_of<'a>(variants: &'a [Variant], node: &Node) -> Option<&'a Variant> {
    let name = node.get("type")?.text()?;
    variants.iter().find(|variant| variant.name == name)
}

/// The choice of [`Shape::Either`] that is meant by a value of this kind, if there is one.
pub(super) fn choice_for(choices: &[Schema], node: &Node) -> Option<Schema> {
    choices.iter().copied().find(|choice| match shape(choice) {
        Shape::List { .. } => matches!(node.value, Value::List(_)),
        Shape::Names(_) | Shape::Table(_) => matches!(node.value, Value::Table(_)),
        Shape::Scalar(scalar) => scalar.accepts(node),
        Shape::Words(_) => node.text().is_some(),
        _ => false,
    })
}

impl Scalar {
    /// Whether a value is of the right type, whatever its limits.
    pub(super) fn accepts(&self, node: &Node) -> bool {
        let is = |name: &str| self.types.contains(&name);
        match node.value {
            Value::Bool(_) => is("boolean"),
            Value::Integer(_) => is("integer") || is("number"),
            Value::Float(_) => is("number"),
            Value::Text(_) => is("string"),
            Value::List(_) | Value::Table(_) => false,
        }
    }
}

fn is_true(schema: Schema, keyword: &str) -> bool {
    schema.get(keyword) == Some(&Json::Bool(true))
}

/// Follows `$ref` and an `allOf` of one, which is how draft-07 gives a reference a description of its own.
fn resolve(mut schema: Schema) -> Schema {
    loop {
        let next = match schema.get("allOf").and_then(Json::as_array).map(Vec::as_slice) {
            Some([only]) => Some(only),
            _ => schema.get("$ref").and_then(Json::as_str).and_then(|name| SCHEMA.pointer(name.strip_prefix('#')?)),
        };
        match next {
            Some(next) => schema = next,
            None => return schema,
        }
    }
}

fn keys(schema: Schema) -> Option<Keys> {
    let properties = schema.get("properties")?.as_object()?;
    let required = schema.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str);
    Some(Keys { properties, required: required.collect() })
}

fn variant(schema: Schema) -> Option<Variant> {
    let tag = schema.pointer("/properties/type").unwrap_or(schema);
    let name = tag.get("const")?.as_str()?;
    Some(Variant { name, keys: keys(schema) })
}
