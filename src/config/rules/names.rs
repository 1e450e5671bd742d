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
    check_child_tables(config, &tables, rules);
    let is_enabled = |source: &crate::source::SourceOptions| source.enabled && !source.resources.is_empty();
    if !config.sources.values().any(is_enabled) {
        rules.findings.hint("nothing to read: no source is enabled and has a resource");
    }
}

/// The lists in the records of one resource can need any table whose name begins with its own and `__`.
fn check_child_tables(config: &Config, tables: &HashMap<String, Path>, rules: &mut Rules<'_>) {
    let nests = |path: &Path| {
        let resource = config.sources.get(path.key_at(1)?)?.resources.get(path.key_at(3)?)?;
        (resource.max_table_nesting > 0).then_some(())
    };
    let mut clashes: Vec<(&Path, &Path, &str)> = Vec::new();
    for (table, path) in tables {
        let parents = table.match_indices("__").filter_map(|(at, _)| tables.get_key_value(&table[..at]));
        clashes.extend(
            parents.filter(|(_, parent)| nests(parent).is_some()).map(|(name, parent)| (path, parent, &**name)),
        );
    }
    clashes.sort_by_key(|(path, ..)| path.to_string());
    for (path, parent, name) in clashes {
        let message = format!("its table begins with `{name}__`, which is for the child tables of {parent}");
        rules.refuse_with_help(path, message, "give one of them another `table`");
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
