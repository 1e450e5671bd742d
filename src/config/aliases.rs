//! Words that people bring along from other tools. They are read as ours, with a hint.

use super::diagnostic::{Findings, Problem};
use super::path::Path;
use super::tree::Node;

/// Where a word is accepted (`*` is any name), the word, and ours. `streams` comes first: the places below it are
/// named with our words.
const ALIASES: [(&[&str], &str, &str); 8] = [
    (&["sources", "*"], "streams", "resources"),
    (&["sources", "*", "client"], "url_base", "base_url"),
    (&["sources", "*", "resources", "*"], "records_path", "data_selector"),
    (&["sources", "*", "resource_defaults"], "records_path", "data_selector"),
    (&["sources", "*", "resources", "*", "incremental"], "cursor_field", "cursor_path"),
    (&["sources", "*", "resources", "*", "incremental"], "lookback_window", "lag"),
    (&["sources", "*", "resource_defaults", "incremental"], "cursor_field", "cursor_path"),
    (&["sources", "*", "resource_defaults", "incremental"], "lookback_window", "lag"),
];

/// Gives every alias its own name.
pub(super) fn rename(tree: &mut Node, findings: &mut Findings) {
    for (place, alias, name) in ALIASES {
        descend(tree, place, &Path::default(), &mut |node, path| rename_in(node, path, alias, name, findings));
    }
}

fn descend(node: &mut Node, place: &[&str], path: &Path, found: &mut dyn FnMut(&mut Node, &Path)) {
    let Some((step, rest)) = place.split_first() else { return found(node, path) };
    for (key, entry) in node.table_mut().into_iter().flatten() {
        if *step == "*" || step == key {
            descend(&mut entry.node, rest, &path.key(key), found);
        }
    }
}

fn rename_in(node: &mut Node, path: &Path, alias: &str, name: &str, findings: &mut Findings) {
    let Some(table) = node.table_mut() else { return };
    let Some(entry) = table.get(alias) else { return };
    let path = path.key(alias);
    if table.contains_key(name) {
        let message = format!("`{alias}` means `{name}`, which is set as well");
        findings.problem(Problem::new(path, entry.key_place.clone(), message).help(format!("keep `{name}`")));
        table.shift_remove(alias);
        return;
    }
    findings.hint(format!("{path}: `{alias}` is called `{name}` here"));
    if let Some(entry) = table.shift_remove(alias) {
        table.insert(name.to_owned(), entry);
    }
}
