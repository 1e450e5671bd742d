//! Rules for `response_actions`: a condition there must be, and an expression must be one.

use minijinja::Environment;

use super::super::path::Path;
use super::super::suggest;
use super::super::tree::{Node, Value};
use super::Rules;
use crate::rest::auth::Auth;

/// Compiling costs stack for every level of nesting.
const EXPRESSION_BYTES_MAX: usize = 2_000;

/// The keys that say when an action applies.
const CONDITIONS: [&str; 3] = ["status_code", "content", "when"];

/// What an expression may speak of.
const VARIABLES: [&str; 3] = ["status", "headers", "body"];

/// Looks at the tree and not at the options, so that an action which is wrong elsewhere is checked as well.
pub(super) fn check((auth, auth_path): (Option<&Auth>, &Path), path: &Path, rules: &mut Rules<'_>) {
    let Some(Value::List(actions)) = rules.tree.at(path).map(|node| &node.value) else { return };
    for (i, action) in actions.iter().enumerate() {
        let path = path.index(i);
        if !CONDITIONS.iter().any(|key| action.get(key).is_some()) {
            let help = format!("set one of {}", suggest::list(&CONDITIONS));
            rules.refuse_with_help(&path, "has no condition: it would match every response", help);
        }
        // An `auth` that is wrong elsewhere is there, though it is not typed.
        let nothing_to_renew = auth.map_or(!rules.is_set(auth_path), |auth| !auth.is_renewable());
        if action.get("action").and_then(Node::text) == Some("refresh_auth") && nothing_to_renew {
            let message = match auth {
                Some(auth) => format!("there is nothing to renew: `{}` stands in the configuration", auth.kind()),
                None => "there is nothing to renew: the client has no `auth`".to_owned(),
            };
            let help = "`oauth2_client_credentials`, `oauth2_refresh_token` and `session_token` can be renewed";
            rules.refuse_with_help(&path.key("action"), message, help);
        }
        if let Some(expression) = action.get("when").and_then(Node::text) {
            check_expression(expression, &path.key("when"), rules);
        }
    }
}

fn check_expression(expression: &str, path: &Path, rules: &mut Rules<'_>) {
    if expression.len() > EXPRESSION_BYTES_MAX {
        return rules.refuse(path, format!("must not be longer than {EXPRESSION_BYTES_MAX} bytes"));
    }
    let environment = Environment::new();
    let compiled = match environment.compile_expression(expression) {
        Ok(compiled) => compiled,
        Err(error) => {
            let detail = error.detail().filter(|_| rules.is_written(path));
            let reason = detail.map_or_else(|| error.kind().to_string(), |detail| detail.escape_debug().to_string());
            return rules.refuse(path, format!("is not an expression: {reason}"));
        }
    };
    let mut unknown: Vec<_> = compiled.undeclared_variables(false).into_iter().collect();
    unknown.sort_unstable();
    unknown
        .retain(|name| !VARIABLES.contains(&name.as_str()) && !environment.globals().any(|(known, _)| known == name));
    if !unknown.is_empty() && !rules.is_written(path) {
        return rules.refuse(path, format!("there are only {} here", suggest::list(&VARIABLES)));
    }
    for name in unknown {
        let help = suggest::help(&name, "there are", &VARIABLES);
        rules.refuse_with_help(path, format!("there is no {} here", suggest::quoted(&name)), help);
    }
}
