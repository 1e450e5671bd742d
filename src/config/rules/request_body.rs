//! Rules for what a request sends in its body: `json`, `form` or `graphql`, and what the paginator puts into it.

use super::super::path::Path;
use super::Rules;
use super::paginator::{at_most_one, body_keys};
use crate::rest::ClientOptions;
use crate::source::{Method, ResourceOptions};
use crate::template::JsonTemplate;

/// What can be a body.
const BODIES: [&str; 3] = ["json", "form", "graphql"];

pub(super) fn check(
    resource: &ResourceOptions,
    client: &ClientOptions,
    source: &Path,
    path: &Path,
    rules: &mut Rules<'_>,
) {
    at_most_one(rules, path, &BODIES);
    if resource.method == Some(Method::Get) {
        for key in BODIES {
            if rules.is_set(&path.key(key)) {
                let help = "leave `method` out, or set `method = \"POST\"`";
                rules.refuse_with_help(&path.key(key), "a GET request has no body", help);
            }
        }
    }
    let (paginator, place) = match (&resource.paginator, &client.paginator) {
        (Some(own), _) => (own, path.key("paginator")),
        (None, Some(shared)) => (shared, source.key("client").key("paginator")),
        (None, None) => return,
    };
    let is_table = matches!(resource.json, Some(JsonTemplate::Table(_)));
    let has_body = is_table || resource.form.is_some() || resource.graphql.is_some();
    for key in body_keys(paginator) {
        let place = place.key(key);
        let in_variables = || rules.tree.at(&place)?.text()?.strip_prefix("variables.").map(|_| ());
        if !has_body {
            let message =
                format!("`{key}` needs a `json` table, a `form` or `graphql` to go into, which {path} does not have");
            rules.refuse(&place, message);
        } else if resource.graphql.is_some() && in_variables().is_none() {
            let message =
                format!("`{key}` of a GraphQL request begins with `variables.`: nothing else of its body changes");
            rules.refuse(&place, message);
        }
    }
}
