//! Rules for `response_actions`: a condition there must be, and an expression must be one.

use super::super::path::Path;
use super::super::suggest;
use super::super::tree::{Node, Value};
use super::{Rules, expression};
use crate::rest::action::When;

/// The keys that say when an action applies.
const CONDITIONS: [&str; 3] = ["status_code", "content", "when"];

/// Looks at the tree and not at the options, so that an action which is wrong elsewhere is checked as well.
pub(super) fn check(path: &Path, rules: &mut Rules<'_>) {
    let Some(Value::List(actions)) = rules.tree.at(path).map(|node| &node.value) else { return };
    for (i, action) in actions.iter().enumerate() {
        let path = path.index(i);
        if !CONDITIONS.iter().any(|key| action.get(key).is_some()) {
            let help = format!("set one of {}", suggest::list(&CONDITIONS));
            rules.refuse_with_help(&path, "has no condition: it would match every response", help);
        }
        if let Some(expression) = action.get("when").and_then(Node::text) {
            expression::check(&path.key("when"), When::compile(expression).err(), rules);
        }
    }
}
