//! Every key of the schema, one letter wrong.

use serde_json::Value;

use super::load;
use crate::config::json_schema;

/// The tables of the schema: where they stand in a file, and their keys.
fn tables(schema: &Value, root: &Value, place: &str, found: &mut Vec<(String, Vec<String>)>) {
    if schema.get("x-not-built-yet").is_some() {
        return;
    }
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
    let header = place.trim_matches(['[', ']']);
    if header.is_empty() { format!("[{key}]") } else { format!("[{header}.{key}]") }
}

#[test]
fn every_key_with_a_wrong_letter_is_reported_with_the_right_one() {
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

#[test]
fn what_is_not_built_yet_is_refused_by_name() {
    let base = super::CLIENT;
    for (text, path) in [
        ("[web]\nlisten = \"off\"".to_owned(), "web: `web`"),
        (
            format!("{base}auth = {{ type = \"session_token\", token_path = \"x\" }}"),
            "sources.s.client.auth.type: `session_token`",
        ),
        (format!("{base}[sources.s]\nevery = \"15m\""), "sources.s.every: `every`"),
        (format!("{base}[sources.s.resources.r]\nschedule = \"@daily\""), "sources.s.resources.r.schedule: `schedule`"),
        (
            format!(
                "{base}[sources.s.resources.r]\nresponse_actions = [{{ status_code = 401, action = \"refresh_auth\" }}]"
            ),
            "sources.s.resources.r.response_actions[0].action: `refresh_auth`",
        ),
    ] {
        let found = super::problems(load(&text));
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].starts_with(&format!("{path} is not built yet in this version")), "{found:#?}");
    }
}
