//! A GraphQL connection is read to its end, page by page, with its cursor in a variable.

use serde_json::Value;

use crate::standins::graphql::{Graphql, QUERY, TOKEN};
use crate::support::{Finished, Workspace, finish};

/// How the query is given: as the body that it is, or by the key of its own.
const AS_JSON: &str = "json = { query = \"QUERY\", variables = { owner = \"tokio-rs\", name = \"tokio\" } }";
const AS_GRAPHQL: &str = "graphql = { query = \"QUERY\", variables = { owner = \"tokio-rs\", name = \"tokio\" } }";

fn config(query: &str) -> String {
    format!(
        r#"
[sources.hub.client]
base_url = "BASE"
auth = {{ type = "bearer", token = "${{env:TOKEN}}" }}
retry = {{ max_attempts = 1 }}
[sources.hub.resources.discussions]
method = "POST"
path = "graphql"
{}
data_selector = "data.repository.discussions.nodes"
primary_key = "id"
[sources.hub.resources.discussions.paginator]
type = "cursor"
cursor_path = "data.repository.discussions.pageInfo.endCursor"
cursor_body_path = "variables.after"
has_more_path = "data.repository.discussions.pageInfo.hasNextPage"
"#,
        query.replace("QUERY", QUERY)
    )
}

fn sync(workspace: &Workspace) -> Finished {
    finish(workspace.command(&["sync"]).env("TOKEN", TOKEN).spawn().unwrap())
}

fn the_connection_is_copied(query: &str) {
    let graphql = Graphql::default();
    let api = graphql.api();
    let workspace = Workspace::with_config(api.address, &config(query));
    let compare = || {
        let finished = sync(&workspace);
        assert_eq!(finished.code, Some(0), "{finished:#?}");
        let database = workspace.path("highwater.db");
        highwater::verify::table(&database, "hub_discussions", &["id"], &graphql.discussions()).unwrap();
        workspace.check_books();
    };
    graphql.add(1..251);
    compare();
    assert_eq!(api.seen().len(), 3);
    graphql.rename(7, "renamed");
    graphql.add(251..301);
    compare();
    compare();
    assert_eq!(api.seen().len(), 9, "full pages to the end, and none after it");
    let body: Value = serde_json::from_str(&api.seen()[0].body).unwrap();
    assert!(body["variables"].get("after").is_none_or(Value::is_null), "{body}");

    // An error in a 200 is none of the data, and the read goes on where it was.
    graphql.break_page(Some(3));
    let finished = sync(&workspace);
    assert_ne!(finished.code, Some(0), "{finished:#?}");
    let rows: i64 = workspace.value("SELECT count(*) FROM hub_discussions");
    assert_eq!(rows, 300, "what is there stays");
    graphql.break_page(None);
    graphql.add(301..302);
    compare();
}

#[test]
fn a_connection_is_read_with_a_query_as_json() {
    the_connection_is_copied(AS_JSON);
}

#[test]
fn a_connection_is_read_with_the_key_for_queries() {
    the_connection_is_copied(AS_GRAPHQL);
}
