//! Rules for `columns` and `max_table_nesting`: types that columns cannot have, and places that do not exist.

use super::super::path::Path;
use super::Rules;
use crate::page::HintType;
use crate::source::ResourceOptions;

/// As many columns as a table gets. The types come first, so each of them finds its place.
const HINTS_MAX: usize = 500;

pub(super) fn check(resource: &ResourceOptions, path: &Path, rules: &mut Rules<'_>) {
    let columns = path.key("columns");
    if resource.columns.len() > HINTS_MAX {
        rules.refuse(&columns, format!("a table has at most {HINTS_MAX} columns"));
    }
    let keys = resource.primary_key.as_ref().map(|key| key.0.as_slice()).unwrap_or_default();
    let depth = resource.max_table_nesting as usize;
    for (place, hint) in &resource.columns {
        let at = columns.key(place);
        if keys.contains(place) && matches!(hint.column_type, HintType::Boolean | HintType::Json) {
            rules.refuse(&at.key("type"), "a primary key cannot have this type: it would not tell records apart");
        }
        let lists: Vec<&str> = place.match_indices('.').map(|(at, _)| &place[..at]).collect();
        let shown = place.escape_debug();
        if let Some(list) = lists.iter().find(|list| depth > 0 && resource.columns.contains_key(**list)) {
            let list = list.escape_debug();
            let message =
                format!("`{list}` has a type of its own, so its list stays in one column and has none inside");
            rules.refuse_with_help(&at, message, format!("take out `{list}` or `{shown}`"));
        } else if depth > 0 && lists.len() > depth {
            let help = format!("set `max_table_nesting = {}`", lists.len());
            rules.refuse_with_help(&at, format!("is deeper than `max_table_nesting = {depth}`"), help);
        } else if depth == 0 && !lists.is_empty() {
            let hint = format!("is a field called `{shown}`; for a column of a child table set `max_table_nesting`");
            rules.hint(&at, &hint);
        }
    }
}
