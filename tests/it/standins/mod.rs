//! Stand-ins for well-known APIs: in memory, on loopback, and as strict as their public documentation says.

pub(crate) mod github;
pub(crate) mod graphql;
pub(crate) mod shop;
pub(crate) mod stripe;

use serde_json::Value;

use crate::support::Seen;

/// Whether this version has a key of the vocabulary, or refuses it by name: config.schema.json says so.
pub(crate) fn is_built(key: &str) -> bool {
    fn found<'s>(schema: &'s Value, key: &str) -> Option<&'s Value> {
        let here = || schema.get("properties").and_then(|properties| properties.get(key));
        let inside = || match schema {
            Value::Object(map) => map.values().find_map(|value| found(value, key)),
            Value::Array(list) => list.iter().find_map(|value| found(value, key)),
            _ => None,
        };
        here().or_else(inside)
    }
    let schema: Value = serde_json::from_str(include_str!("../../../config.schema.json")).unwrap();
    let key = found(&schema, key).unwrap_or_else(|| panic!("{key} is no key at all"));
    key.get("x-not-built-yet").is_none()
}

/// A parameter that is a whole number within a range: the default where it is missing, none where it is wrong.
fn number(request: &Seen, name: &str, default: usize, range: std::ops::RangeInclusive<usize>) -> Option<usize> {
    match request.param(name) {
        None => Some(default),
        Some(text) => text.parse().ok().filter(|number| range.contains(number)),
    }
}

/// The value of a header, where there is one.
fn header<'r>(request: &'r Seen, name: &str) -> Option<&'r str> {
    request.headers.get(name).map(|value| value.to_str().unwrap())
}

/// Changes some fields of a record.
fn merge(record: &mut Value, fields: Value) {
    let Value::Object(fields) = fields else { panic!("not fields: {fields}") };
    record.as_object_mut().unwrap().extend(fields);
}
