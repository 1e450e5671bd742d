//! A GraphQL connection as the Relay specification and GitHub's documentation describe it: `first` and `after`, `nodes`
//! and `pageInfo`, and errors in a 200.
//! <https://relay.dev/graphql/connections.htm>,
//! <https://docs.github.com/en/graphql/guides/using-pagination-in-the-graphql-api>

use std::sync::{Arc, Mutex, MutexGuard};

use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::header;
use crate::support::{Api, Seen, json as answer, respond};

pub(crate) const TOKEN: &str = "gql_77";

/// The query that a client of this connection sends, with `$after` as its cursor.
pub(crate) const QUERY: &str = "query($owner: String!, $name: String!, $after: String) { repository(owner: $owner, \
     name: $name) { discussions(first: 100, after: $after) { nodes { id number title } \
     pageInfo { endCursor hasNextPage } } } }";

#[derive(Clone, Default)]
pub(crate) struct Graphql(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    discussions: Vec<Value>,
    /// Requests for this page, from 1, are answered with an error in a 200.
    broken_page: Option<usize>,
}

impl Graphql {
    pub(crate) fn api(&self) -> Api {
        let graphql = self.clone();
        Api::start(move |request: &Seen, _| graphql.answer(request))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn add(&self, numbers: std::ops::Range<u64>) {
        let discussion = |n: u64| json!({"id": format!("D_kw{n:05}"), "number": n, "title": format!("Why {n}?")});
        self.lock().discussions.extend(numbers.map(discussion));
    }

    pub(crate) fn rename(&self, number: u64, title: &str) {
        let mut state = self.lock();
        let found = state.discussions.iter_mut().find(|discussion| discussion["number"] == number).unwrap();
        found["title"] = json!(title);
    }

    pub(crate) fn break_page(&self, page: Option<usize>) {
        self.lock().broken_page = page;
    }

    pub(crate) fn discussions(&self) -> Vec<Value> {
        self.lock().discussions.clone()
    }

    fn answer(&self, request: &Seen) -> Response {
        if header(request, "authorization") != Some(&format!("Bearer {TOKEN}")) {
            return respond(401, &[("content-type", "application/json")], r#"{"message":"Bad credentials"}"#);
        }
        let is_json = header(request, "content-type").is_some_and(|kind| kind.starts_with("application/json"));
        if request.method != "POST" || request.path() != "/graphql" || !is_json {
            return respond(404, &[("content-type", "application/json")], r#"{"message":"Not Found"}"#);
        }
        let Ok(body) = serde_json::from_str::<Value>(&request.body) else {
            return respond(400, &[("content-type", "application/json")], r#"{"message":"Problems parsing JSON"}"#);
        };
        let (query, variables) = (body["query"].as_str().unwrap_or_default(), &body["variables"]);
        if !query.contains("discussions(first: 100, after: $after)") {
            return errors("Parse error on \"query\"");
        }
        if variables["owner"] != "tokio-rs" || variables["name"] != "tokio" {
            return errors("Could not resolve to a Repository with the name given.");
        }
        let state = self.lock();
        let start = match &variables["after"] {
            Value::Null => Some(0),
            after => after.as_str().and_then(place_of).filter(|place| *place <= state.discussions.len()),
        };
        let Some(start) = start else {
            return errors(&format!("`{}` does not appear to be a valid cursor.", variables["after"]));
        };
        if state.broken_page == Some(start / 100 + 1) {
            return errors("Something went wrong while executing your query.");
        }
        let nodes: Vec<&Value> = state.discussions.iter().skip(start).take(100).collect();
        let end = start + nodes.len();
        let cursor = (!nodes.is_empty()).then(|| STANDARD.encode(format!("cursor:v2:{end}")));
        let page_info = json!({"endCursor": cursor, "hasNextPage": end < state.discussions.len()});
        answer(json!({"data": {"repository": {"discussions": {"nodes": nodes, "pageInfo": page_info}}}}))
    }
}

fn place_of(cursor: &str) -> Option<usize> {
    let text = String::from_utf8(STANDARD.decode(cursor).ok()?).ok()?;
    text.strip_prefix("cursor:v2:")?.parse().ok()
}

/// What is wrong with a request is said in a 200, as the specification wants it.
fn errors(message: &str) -> Response {
    answer(json!({"data": {"repository": null}, "errors": [{"message": message, "path": ["repository"]}]}))
}
