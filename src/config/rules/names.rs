//! Rules for the names of sources, resources and tables.

use std::collections::HashMap;

use super::super::Config;
use super::super::path::Path;
use super::Rules;
use crate::source::ResourceOptions;

pub(super) fn check(config: &Config, rules: &mut Rules<'_>) {
    let mut tables: HashMap<String, Path> = HashMap::new();
    for (source_name, source) in &config.sources {
        let source_path = Path::of(&["sources", source_name]);
        check_name(source_name, &source_path, rules);
        for (name, resource) in &source.resources {
            let path = source_path.key("resources").key(name);
            check_name(name, &path, rules);
            check_table(source_name, name, resource, &path, &mut tables, rules);
        }
    }
    let is_enabled = |source: &crate::source::SourceOptions| source.enabled && !source.resources.is_empty();
    if !config.sources.values().any(is_enabled) {
        rules.findings.hint("nothing to read: no source is enabled and has a resource");
    }
}

fn check_name(name: &str, path: &Path, rules: &mut Rules<'_>) {
    if !is_name(name) {
        rules.refuse_key(path, "a name has letters, digits, `_` and `-`");
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

fn check_table(
    source: &str,
    name: &str,
    resource: &ResourceOptions,
    path: &Path,
    tables: &mut HashMap<String, Path>,
    rules: &mut Rules<'_>,
) {
    let table = resource.table.clone().unwrap_or_else(|| format!("{source}_{name}"));
    let lower = table.to_lowercase(); // SQLite compares names of tables without case
    let table_path = if resource.table.is_some() { path.key("table") } else { path.clone() };
    if resource.table.is_some() && !is_name(&table) {
        rules.refuse(&table_path, "a table's name has letters, digits, `_` and `-`");
    }
    if let Some(prefix) = ["_hw_", "sqlite_"].into_iter().find(|prefix| lower.starts_with(prefix)) {
        rules.refuse(&table_path, format!("a table's name cannot start with `{prefix}`: it is reserved"));
    }
    if let Some(other) = tables.get(&lower) {
        let message = format!("the table `{}` is also filled by {other}", table.escape_debug());
        rules.refuse_with_help(&table_path, message, "give one of them a `table` of its own");
    } else {
        tables.insert(lower, path.clone());
    }
}
