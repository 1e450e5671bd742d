//! Rules for what is filled in for each request: partitions, and the records of a parent.

use indexmap::IndexMap;

use super::super::path::Path;
use super::super::suggest;
use super::Rules;
use crate::page::WriteDisposition;
use crate::source::{ResourceOptions, partition_text};
use crate::template::{Slot, Template};

pub(super) fn check(
    name: &str,
    resource: &ResourceOptions,
    siblings: &IndexMap<String, ResourceOptions>,
    path: &Path,
    rules: &mut Rules<'_>,
) {
    let ancestors = ResourceOptions::ancestors(name, siblings);
    if ancestors.last() == Some(&name) && ancestors.len() > 1 {
        let line: Vec<&str> = std::iter::once(name).chain(ancestors.iter().copied()).collect();
        return rules.refuse(path, format!("its parents lead in a circle: {}", line.join(" → ")));
    }
    check_own(resource, path, rules);
    for slot in resource.slots() {
        let place = place_of(slot, resource, path);
        match slot {
            Slot::StartValue | Slot::EndValue => {}
            Slot::Partition(key) => {
                let of = |name: &str| siblings.get(name).and_then(|options| options.partitions.as_ref());
                let owners = std::iter::once(resource.partitions.as_ref()).chain(ancestors.iter().map(|name| of(name)));
                let missing = owners.flatten().flat_map(|partitions| &partitions.values).collect::<Vec<_>>();
                if missing.is_empty() {
                    let help = "give the resource, or its parent, `partitions`";
                    rules.refuse_with_help(&place, format!("there are no partitions for `{slot}`"), help);
                } else if !missing.iter().any(|values| values.contains_key(key)) {
                    let keys = missing.iter().flat_map(|values| values.keys()).map(String::as_str);
                    rules.refuse(&place, format!("no partition has the key `{key}`{}", meant(key, keys)));
                } else if let Some(own) = &resource.partitions
                    && own.values.iter().any(|values| values.contains_key(key))
                    && own.values.iter().any(|values| !values.contains_key(key))
                {
                    rules.refuse(
                        &path.key("partitions"),
                        format!("some partitions have no `{key}`, which {place} needs"),
                    );
                }
            }
            Slot::Parent { resource: parent, .. } => {
                if !siblings.contains_key(parent) {
                    let message = format!("there is no resource `{parent}` in this source");
                    rules.refuse(&place, format!("{message}{}", meant(parent, siblings.keys().map(String::as_str))));
                } else if !ancestors.contains(&parent.as_str()) {
                    let help = "a resource has one parent; what is above it can be used as well";
                    let message =
                        format!("`{slot}` names a second parent beside `{}`", ancestors.first().unwrap_or(&""));
                    rules.refuse_with_help(&place, message, help);
                }
            }
        }
    }
    if !ancestors.is_empty()
        && ResourceOptions::has_partial_parent(name, siblings)
        && resource.write_disposition == Some(WriteDisposition::Replace)
    {
        let help = "use `merge`, or let the parents be read in full (without `incremental` and `only_changed`)";
        let message =
            "`replace` needs every record of the parents in every read, or the rows of the others would be lost";
        rules.refuse_with_help(&path.key("write_disposition"), message, help);
    }
    if ancestors.is_empty() {
        for key in ["parent", "include_from_parent"] {
            if rules.is_set(&path.key(key)) {
                let help = "name the parent in `path`, `params` or the body: `${resources.PARENT.FIELD}`";
                rules.refuse_with_help(&path.key(key), "the resource has no parent", help);
            }
        }
    }
}

fn check_own(resource: &ResourceOptions, path: &Path, rules: &mut Rules<'_>) {
    let Some(partitions) = &resource.partitions else { return };
    let path = path.key("partitions");
    let is_key =
        |key: &String| !key.starts_with('_') && key.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
    if let Some(key) = partitions.values.iter().flat_map(|values| values.keys()).find(|key| !is_key(key)) {
        rules.refuse(&path, format!("`{key}` is not a key: it has letters, digits, `_` and `-`, and no `_` in front"));
    }
    let mut seen = std::collections::HashSet::new();
    if partitions.values.iter().any(|values| !seen.insert(partition_text(values.clone()))) {
        rules.refuse(&path, "names a partition twice");
    }
    let used: Vec<&str> = resource
        .slots()
        .into_iter()
        .filter_map(|slot| match slot {
            Slot::Partition(key) => Some(key.as_str()),
            _ => None,
        })
        .collect();
    if let Some(key) =
        partitions.values.iter().flat_map(|values| values.keys()).find(|key| !used.contains(&key.as_str()))
    {
        let help = format!("put `${{partition.{key}}}` where it belongs, or all partitions would read the same");
        rules.refuse_with_help(&path, format!("nothing in the request uses `{key}`"), help);
    }
}

/// The key in whose value a placeholder stands.
pub(super) fn place_of(slot: &Slot, resource: &ResourceOptions, path: &Path) -> Path {
    let has = |template: &Template| template.slots().any(|other| other == slot);
    if resource.path.as_ref().is_some_and(has) {
        return path.key("path");
    }
    for (key, map) in [("params", &resource.params), ("headers", &resource.headers)] {
        if let Some((name, _)) = map.iter().find(|(_, template)| has(template)) {
            return path.key(key).key(name);
        }
    }
    if let Some((name, _)) = resource.form.iter().flatten().find(|(_, template)| has(template)) {
        return path.key("form").key(name);
    }
    path.key(if resource.graphql.is_some() { "graphql" } else { "json" })
}

fn meant<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    suggest::nearest(name, known).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}
