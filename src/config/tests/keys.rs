//! Every key of the schema, one letter wrong.

use serde_json::Value;

use super::load;
use crate::config::json_schema;

/// The tables of the schema: where they stand in a file, and their keys.
fn tables(schema: &Value, root: &Value, place: &str, found: &mut Vec<(String, Vec<String>)>) {
    if let Some(target) = schema.pointer("/allOf/0") {
        return tables(target, root, place, found);
    }
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        return tables(root.pointer(&name[1..]).unwrap(), root, place, found);
    }
    for variant in schema.get("oneOf").and_then(Value::as_array).into_iter().flatten() {
        if let Some(name) = variant.pointer("/properties/type/const").and_then(Value::as_str) {
            tables(variant, root, &format!("{place}\ntype = \"{name}\""), found);
        }
    }
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        found.push((place.to_owned(), properties.keys().filter(|key| *key != "type").cloned().collect()));
        for (key, child) in properties {
            tables(child, root, &below(place, key), found);
        }
    }
    if let Some(child) = schema.get("additionalProperties").filter(|child| child.is_object()) {
        tables(child, root, &below(place, "x"), found);
    }
    if let Some(items) = schema.get("items") {
        tables(items, root, &format!("[{place}]"), found);
    }
}

fn below(place: &str, key: &str) -> String {
    // A table inside of one that has a `type` comes after it.
    let (before, header) = place.split_once("\ntype = ").map_or(("", place), |(header, _)| (place, header));
    let header = header.trim_matches(['[', ']']);
    match header {
        "" => format!("[{key}]"),
        _ if before.is_empty() => format!("[{header}.{key}]"),
        _ => format!("{before}\n[{header}.{key}]"),
    }
}

#[test]
fn c01_every_key_with_a_wrong_letter_is_reported_with_the_right_one() {
    let schema = json_schema();
    let mut found = Vec::new();
    tables(&schema, &schema, "", &mut found);
    let keys: usize = found.iter().map(|(_, keys)| keys.len()).sum();
    assert!(found.len() > 15 && keys > 100, "{} tables with {keys} keys", found.len());
    for (place, keys) in found {
        for key in keys {
            for at in 0..key.len() {
                let letter = if key[at..].starts_with('q') { 'z' } else { 'q' };
                let wrong = format!("{}{letter}{}", &key[..at], &key[at + 1..]);
                let report = load(&format!("{place}\n{wrong} = 1\n")).expect_err(&wrong).to_string();
                let expected = format!("unknown key `{wrong}`");
                let suggested = format!("did you mean `{key}`?");
                assert!(report.contains(&expected) && report.contains(&suggested), "{place} {wrong}:\n{report}");
            }
        }
    }
}
