//! `resource_defaults`, handed down to every resource of the source: tables merge, everything else is taken as a
//! whole, and what a resource sets itself wins. Of keys that exclude each other, one of its own stands for all.

use super::shape::{self, Schema, Shape};
use super::tree::{Node, Value};

/// Either says when a resource is read.
const TRIGGERS: [&str; 2] = ["schedule", "every"];

/// Merges the defaults of every source into its resources. What is merged keeps the place it was written at.
pub(super) fn merge(tree: &mut Node) {
    for (_, source) in tree.get_mut("sources").and_then(Node::table_mut).into_iter().flatten() {
        let Some(defaults) = source.node.get("resource_defaults").cloned() else { continue };
        let schema = ["sources", "", "resource_defaults"]
            .iter()
            .try_fold(shape::root(), |schema, key| shape::child(schema, &defaults, key));
        let resources = source.node.get_mut("resources").and_then(Node::table_mut);
        for (_, resource) in resources.into_iter().flatten() {
            let mut defaults = defaults.clone();
            if TRIGGERS.iter().any(|key| resource.node.get(key).is_some())
                && let Some(table) = defaults.table_mut()
            {
                table.retain(|key, _| !TRIGGERS.contains(&key.as_str()));
            }
            merge_table(&mut resource.node, &defaults, schema);
        }
    }
}

/// Takes the defaults out of the tree, once they are merged and checked.
pub(super) fn remove(tree: &mut Node) {
    for (_, source) in tree.get_mut("sources").and_then(Node::table_mut).into_iter().flatten() {
        if let Some(source) = source.node.table_mut() {
            source.shift_remove("resource_defaults");
        }
    }
}

fn merge_table(node: &mut Node, defaults: &Node, schema: Option<Schema>) {
    let (Value::Table(table), Some(defaults)) = (&mut node.value, defaults.table()) else { return };
    for (key, default) in defaults {
        let schema = schema.and_then(|schema| match shape::shape(schema) {
            Shape::Table(keys) => keys.properties.get(key),
            Shape::Names(names) => Some(names),
            _ => None,
        });
        match table.get_mut(key) {
            None => {
                table.insert(key.clone(), default.clone());
            }
            Some(own) if is_other_type(&own.node, &default.node, schema) => {}
            Some(own) => merge_table(&mut own.node, &default.node, schema),
        }
    }
}

/// Whether both are tables of a kind whose `type` decides on their keys, and the types differ.
fn is_other_type(own: &Node, default: &Node, schema: Option<Schema>) -> bool {
    let tagged = schema.is_some_and(|schema| matches!(shape::shape(schema), Shape::Tagged(_)));
    let kind = |node: &Node| node.get("type").and_then(Node::text).map(str::to_owned);
    tagged && kind(own).is_some_and(|own| kind(default).is_none_or(|default| default != own))
}
