//! What is sent in the body of a request: JSON, form fields and GraphQL, and where a paginator puts its values.

use axum::http::Method;
use axum::response::Response;
use serde_json::{Value, json};

use crate::pagination::{config, ids, up_to};
use crate::support::{Api, Seen, Workspace, json as answer, records};

const TOTAL: u64 = 25;
const SIZE: u64 = 10;

/// The page that begins at a record, and the record that the next one begins at.
fn page_from(first: u64) -> (Vec<Value>, Option<u64>) {
    let end = (first + SIZE).min(TOTAL);
    (records(first.min(TOTAL)..end), (end < TOTAL).then_some(end))
}

/// The body of a request as JSON, whichever way it was sent.
fn body(request: &Seen) -> Value {
    assert_eq!(request.method, Method::POST);
    let kind = request.headers["content-type"].to_str().unwrap();
    if kind == "application/json" {
        return serde_json::from_str(&request.body).unwrap();
    }
    assert_eq!(kind, "application/x-www-form-urlencoded");
    let fields = url::form_urlencoded::parse(request.body.as_bytes());
    fields.map(|(name, value)| (name.into_owned(), Value::from(value))).collect::<serde_json::Map<_, _>>().into()
}

/// A number that came as such, or as text.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

#[test]
fn a_paginator_puts_its_values_into_a_body_of_json_or_a_form() {
    // The paging, where its first value is in the body, and what the first and the last body are.
    type Answer = fn(&Value) -> Response;
    let offset: Answer = |body| {
        let first = body.pointer("/page/skip").or_else(|| body.get("page.skip")).and_then(number).unwrap();
        answer(json!({"data": page_from(first).0, "total": TOTAL}))
    };
    let page: Answer = |body| {
        let page = body.get("p").and_then(number).unwrap();
        answer(json!({"data": page_from((page - 1) * SIZE).0}))
    };
    let cursor: Answer = |body| {
        let first = body.get("after").map_or(0, |token| token.as_str().unwrap()[1..].parse().unwrap());
        let (data, next) = page_from(first);
        answer(json!({"data": data, "next": next.map(|next| format!("t{next}"))}))
    };
    let numbers: Answer = |body| {
        let first = body.get("after").and_then(number).unwrap_or(0);
        let (data, next) = page_from(first);
        answer(json!({"data": data, "next": next}))
    };
    let offset_keys = "type = \"offset\", limit = 10, offset_body_path = \"page.skip\", limit_body_path = \"page.take\", total_path = \"total\"";
    let cursor_keys = "type = \"cursor\", cursor_path = \"next\", cursor_body_path = \"after\"";
    let page_keys = "type = \"page_number\", page_body_path = \"p\"";
    for (paging, sent, answers, bodies) in [
        (
            offset_keys,
            "json = { q = \"a b\" }",
            offset,
            [r#"{"q":"a b","page":{"skip":0,"take":10}}"#, r#"{"q":"a b","page":{"skip":20,"take":10}}"#],
        ),
        (
            offset_keys,
            "form = { q = \"a b\" }",
            offset,
            ["q=a+b&page.skip=0&page.take=10", "q=a+b&page.skip=20&page.take=10"],
        ),
        (page_keys, "json = { p = 99 }", page, [r#"{"p":1}"#, r#"{"p":4}"#]),
        (page_keys, "form = { q = \"é&=\" }", page, ["q=%C3%A9%26%3D&p=1", "q=%C3%A9%26%3D&p=4"]),
        (cursor_keys, "json = {}", cursor, ["{}", r#"{"after":"t20"}"#]),
        (cursor_keys, "form = { n = 5, b = true }", cursor, ["n=5&b=true", "n=5&b=true&after=t20"]),
        (cursor_keys, "json = {}", numbers, ["{}", r#"{"after":20}"#]),
        (cursor_keys, "form = {}", numbers, ["", "after=20"]),
    ] {
        let api = Api::start(move |request, _| answers(&body(request)));
        let workspace =
            Workspace::with_config(api.address, &config("", &format!("{sent}\npaginator = {{ {paging} }}")));
        workspace.sync(0);
        assert_eq!(ids(&workspace), up_to(25), "{sent} {paging}");
        let seen = api.seen();
        assert_eq!([&*seen[0].body, &*seen.last().unwrap().body], bodies, "{sent} {paging}");
    }
}

const QUERY: &str = "query($after: String, $size: Int!) {\n  repository { issues(first: $size, after: $after) { nodes { id name } pageInfo { hasNextPage endCursor } } }\n}";

/// A resource that reads a connection.
fn connection(more: &str) -> String {
    config(
        "",
        &format!(
            "graphql = {{ query = '''{QUERY}''', variables = {{ size = 10 }} }}\n\
             data_selector = \"data.repository.issues.nodes\"\n\
             paginator = {{ type = \"cursor\", cursor_path = \"data.repository.issues.pageInfo.endCursor\", \
             has_more_path = \"data.repository.issues.pageInfo.hasNextPage\", cursor_body_path = \"variables.after\" }}\n{more}"
        ),
    )
}

/// What a connection answers to a body.
fn connected(body: &Value) -> Value {
    let first = body["variables"].get("after").map_or(0, |token| token.as_str().unwrap()[1..].parse().unwrap());
    let (nodes, next) = page_from(first);
    let end = format!("c{}", first + nodes.len() as u64);
    json!({"data": {"repository": {"issues": {
        "nodes": nodes, "pageInfo": {"hasNextPage": next.is_some(), "endCursor": end}
    }}}})
}

#[test]
fn a_graphql_connection_is_read_to_its_end_with_the_cursor_in_a_variable() {
    let api = Api::start(|request, _| answer(connected(&body(request))));
    let workspace = Workspace::with_config(api.address, &connection(""));
    let report = workspace.sync(0);
    assert_eq!(report["resources"][0]["stop_reason"], "has_more_false");
    assert_eq!(ids(&workspace), up_to(25));
    let bodies: Vec<Value> = api.seen().iter().map(body).collect();
    let variables = [json!({"size": 10}), json!({"size": 10, "after": "c10"}), json!({"size": 10, "after": "c20"})];
    assert_eq!(bodies, variables.map(|variables| json!({"query": QUERY, "variables": variables})));
    assert_eq!(api.seen()[0].path(), "/items");
}

#[test]
fn an_error_in_a_graphql_answer_is_one_although_there_is_data_and_may_pass() {
    let partial = |body: &Value| {
        let mut page = connected(body);
        page["errors"] = json!([{"message": "timed out on shard 3", "path": ["repository"]}, {"message": "second"}]);
        answer(page)
    };
    let api =
        Api::start(move |request, n| if n == 1 { partial(&body(request)) } else { answer(connected(&body(request))) });
    let workspace = Workspace::with_config(api.address, &connection(""));
    assert_eq!(workspace.sync(0)["resources"][0]["retries"], 1);
    assert_eq!(ids(&workspace), up_to(25));

    let api = Api::start(move |request, _| partial(&body(request)));
    let workspace = Workspace::with_config(api.address, &connection(""));
    let report = workspace.sync(69);
    let error = report["resources"][0]["error"].as_str().unwrap();
    assert!(error.ends_with("the answer to the GraphQL query has an error: timed out on shard 3"), "{error}");
    assert_eq!(api.seen().len(), 3);

    // What an error means can be said.
    let limited = |_: &Seen, n: usize| match n {
        0 => answer(json!({"data": null, "errors": [{"type": "RATE_LIMITED", "message": "slow down"}]})),
        _ => answer(
            json!({"data": {"repository": {"issues": {"nodes": records(0..25), "pageInfo": {"hasNextPage": false}}}}}),
        ),
    };
    let api = Api::start(limited);
    let action = "response_actions = [{ when = \"body.errors is defined and body.errors[0].type is defined and body.errors[0].type == 'RATE_LIMITED'\", action = \"rate_limited\" }]";
    let workspace = Workspace::with_config(api.address, &connection(action));
    workspace.sync(0);
    assert_eq!(ids(&workspace), up_to(25));
}

#[test]
fn a_secret_in_a_variable_or_a_form_is_sent_and_nowhere_else_to_be_found() {
    for keys in [
        "graphql = { query = \"{ items }\", variables = { token = \"${env:CANARY}\" } }\ndata_selector = \"data\"",
        "form = { token = \"${env:CANARY}\" }\ndata_selector = \"data\"",
    ] {
        let api = Api::start(|request, n| match n {
            0 => answer(json!({"data": records(0..25)})),
            _ => crate::support::respond(400, &[], json!({"message": format!("no: {}", request.body)}).to_string()),
        });
        let keys = format!("{keys}\npaginator = {{ type = \"single_page\" }}");
        let workspace = Workspace::with_config(api.address, &config("", &keys));
        for code in [0, 69] {
            let mut command = workspace.command(&["sync", "-v", "--json"]);
            let child = command.env("CANARY", "canary-7f3a").spawn().unwrap();
            let finished = crate::support::finish(child);
            assert_eq!(finished.code, Some(code), "{finished:#?}");
            assert!(!format!("{finished:?}").contains("canary-7f3a"), "{finished:#?}");
        }
        assert!(api.seen().iter().all(|request| request.body.contains("canary-7f3a")));
        let file = std::fs::read(workspace.path("highwater.db")).unwrap();
        assert!(!file.windows(11).any(|bytes| bytes == b"canary-7f3a"));
    }
}
