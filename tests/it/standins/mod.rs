//! Stand-ins for well-known APIs: in memory, on loopback, and as strict as their public documentation says.

pub(crate) mod github;
pub(crate) mod graphql;
pub(crate) mod shop;
pub(crate) mod stripe;

use serde_json::Value;

use crate::support::Seen;

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
