//! The JSON Schema of `config.toml`: made from the option types, printed by `highwater schema`, used by editors,
//! and the one source from which the loader knows keys, types and bounds.

use std::sync::LazyLock;

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::{Map, Value, json};

use super::Config;

/// The schema as the loader uses it.
pub(super) static SCHEMA: LazyLock<Value> = LazyLock::new(json_schema);

/// The JSON Schema (draft-07) of the configuration.
#[must_use]
pub fn json_schema() -> Value {
    let settings = SchemaSettings::draft07().for_deserialize().with_transform(RecursiveTransform(tidy));
    let mut value = settings.into_generator().into_root_schema_for::<Config>().to_value();
    if let Some(root) = value.as_object_mut() {
        // `$schema` first, as people expect it.
        let rest = std::mem::take(root);
        root.insert("$schema".to_owned(), "http://json-schema.org/draft-07/schema#".into());
        root.extend(rest);
    }
    value
}

/// Says in the schema what TOML means: there is no `null`, and integers have bounds instead of Rust's names for them.
fn tidy(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else { return };
    drop_null(object);
    bound_integers(object);
}

fn drop_null(object: &mut Map<String, Value>) {
    if object.get("default") == Some(&Value::Null) {
        object.remove("default");
    }
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
        choices.retain(|choice| choice.get("type") != Some(&json!("null")));
        if choices.len() == 1
            && let Some(only) = object.remove("anyOf")
        {
            object.insert("allOf".to_owned(), only);
        }
    }
}

fn bound_integers(object: &mut Map<String, Value>) {
    let largest = match object.get("format").and_then(Value::as_str) {
        Some("uint32") => u32::MAX.into(),
        Some("uint64") => i64::MAX, // what an integer of TOML can hold
        _ => return,
    };
    object.remove("format");
    object.entry("minimum").or_insert(json!(0));
    object.entry("maximum").or_insert(json!(largest));
}

#[cfg(test)]
mod tests {
    use super::json_schema;

    /// Written by `UPDATE_SCHEMA=1 cargo test --lib config::schema`.
    #[test]
    fn the_committed_schema_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config.schema.json");
        let now = format!("{}\n", serde_json::to_string_pretty(&json_schema()).unwrap());
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::write(path, &now).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == now, "config.schema.json is stale: run with UPDATE_SCHEMA=1");
    }

    #[test]
    fn every_key_is_described_and_none_can_be_null() {
        let text = json_schema().to_string();
        assert!(!text.contains("null"), "TOML has no null");
        let mut bare = Vec::new();
        visit(&json_schema(), "", &mut bare);
        assert_eq!(bare, Vec::<String>::new());
    }

    fn visit(value: &serde_json::Value, path: &str, bare: &mut Vec<String>) {
        if let Some(properties) = value.get("properties").and_then(|p| p.as_object()) {
            for (name, schema) in properties {
                if name != "type" && schema.get("description").is_none() {
                    bare.push(format!("{path}.{name}"));
                }
            }
        }
        match value {
            serde_json::Value::Object(map) => map.iter().for_each(|(k, v)| visit(v, &format!("{path}.{k}"), bare)),
            serde_json::Value::Array(list) => list.iter().for_each(|v| visit(v, path, bare)),
            _ => {}
        }
    }
}
