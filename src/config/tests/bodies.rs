//! What is sent and what comes back: the rules of `json`, `form`, `graphql` and of `format`.

use super::{CLIENT, Env, load, load_text, loaded, problems};
use crate::source::Method;

fn text(client: &str, resource: &str) -> String {
    format!("{CLIENT}{client}\n[sources.s.resources.r]\n{resource}\n")
}

#[test]
fn rules_for_bodies_and_formats() {
    const GRAPHQL: &str = "graphql = { query = \"{ a }\" }";
    let cursor =
        |path: &str| format!("paginator = {{ type = \"cursor\", cursor_path = \"a\", cursor_body_path = \"{path}\" }}");
    for (client, resource, expected) in [
        ("", "json = {}\nform = {}", "resources.r.form: `form` and `json` exclude each other"),
        ("", &format!("form = {{}}\n{GRAPHQL}"), "resources.r.graphql: `graphql` and `form` exclude each other"),
        ("", "method = \"GET\"\nform = {}", "resources.r.form: a GET request has no body (leave `method` out"),
        ("", &format!("method = \"GET\"\n{GRAPHQL}"), "resources.r.graphql: a GET request has no body"),
        ("", "graphql = { variables = {} }", "resources.r.graphql.query: the key `query` is missing"),
        ("", "graphql = { query = \"\" }", "resources.r.graphql.query: must not be empty"),
        ("", "graphql = { query = \"{ a }\", variables = 5 }", "resources.r.graphql.variables: expected a table"),
        (
            "",
            "graphql = { query = \"{ a(id: ${env:ID}) }\" }",
            "resources.r.graphql.query: nothing is filled into the text of a query",
        ),
        (
            &cursor("after"),
            GRAPHQL,
            "client.paginator.cursor_body_path: `cursor_body_path` of a GraphQL request begins",
        ),
        ("", &format!("format = \"csv\"\n{GRAPHQL}"), "resources.r.format: a GraphQL answer is JSON"),
        ("", "csv = { delimiter = \";\" }", "resources.r.csv: `csv` means nothing without `format = \"csv\"`"),
        (
            "",
            "format = \"csv\"\ncsv = { delimiter = \"||\" }",
            "resources.r.csv.delimiter: must be one ASCII character",
        ),
        ("", "format = \"csv\"\ncsv = { delimiter = \"é\" }", "resources.r.csv.delimiter: must be one ASCII character"),
        ("", "format = \"csv\"\ncsv = { delimiter = '\"' }", "resources.r.csv.delimiter: must be one ASCII character"),
        ("", "format = \"xml\"", "resources.r.format: `xml` needs `xml_record_path` (name the element"),
        ("", "xml_record_path = \"a.b\"", "resources.r.xml_record_path: `xml_record_path` means nothing without"),
        ("", "format = \"xml\"\nxml_record_path = \"a..b\"", "resources.r.xml_record_path: is a dotted path"),
        (
            "",
            "format = \"xml\"\nxml_record_path = \"a.b\"\ndata_selector = \"a\"",
            "resources.r.data_selector: looks into JSON",
        ),
        (
            "",
            "format = \"jsonl\"\ndata_selector = \"a\"",
            "resources.r.data_selector: looks into JSON; in a body of `jsonl`",
        ),
        (
            "",
            "format = \"csv\"\npaginator = { type = \"json_link\", next_url_path = \"next\" }",
            "resources.r.paginator.next_url_path: `next_url_path` looks beside the records, and the `csv` of",
        ),
        (
            "paginator = { type = \"cursor\", cursor_path = \"next\", cursor_param = \"c\" }",
            "format = \"jsonl\"",
            "client.paginator.cursor_path: `cursor_path` looks beside the records, and the `jsonl` of sources.s.resources.r",
        ),
        (
            "paginator = { type = \"page_number\", total_path = \"pages\" }",
            "format = \"jsonl\"",
            "client.paginator.total_path: `total_path` looks beside",
        ),
        (
            "paginator = { type = \"header_link\", has_more_path = \"more\" }",
            "format = \"csv\"",
            "client.paginator.has_more_path: `has_more_path` looks beside",
        ),
        ("", "format = \"yaml\"\ncsv = {}", "resources.r.format: `yaml` is not one of the accepted values"),
    ] {
        let found = problems(load(&text(client, resource)));
        assert!(
            found.len() == 1 && found[0].starts_with(&format!("sources.s.{expected}")),
            "{client}\n{resource}\nexpected {expected}\nfound {found:#?}"
        );
    }
    for (client, resource) in [
        ("", "format = \"csv\"\ncsv = { delimiter = \"\\t\" }\npaginator = { type = \"offset\", limit = 5 }"),
        (
            "paginator = { type = \"json_link\", next_url_path = \"f.next\" }",
            "format = \"xml\"\nxml_record_path = \"f.e\"",
        ),
        (&cursor("variables.after"), GRAPHQL),
        (&cursor("page[after]"), "form = { a = 1 }"),
        (
            "",
            "format = \"jsonl\"\npaginator = { type = \"cursor\", cursor_from = \"last_record.id\", cursor_param = \"c\" }",
        ),
    ] {
        loaded(&text(client, resource));
    }
}

#[test]
fn a_request_with_a_body_is_a_post_unless_it_says_otherwise() {
    for (lines, method) in [
        ("", Method::Get),
        ("json = {}", Method::Post),
        ("form = {}", Method::Post),
        ("graphql = { query = \"{ a }\" }", Method::Post),
        ("method = \"POST\"", Method::Post),
    ] {
        assert_eq!(loaded(&text("", lines)).config.sources["s"].resources["r"].method(), method, "{lines}");
    }
}

#[test]
fn a_query_is_sent_as_it_stands_and_its_variables_are_filled_in() {
    let lines = "graphql = { query = \"query($a: Int) { x(a: $a, b: \\\"$${c}\\\") }\", variables = { a = \"${env:A}\", n = 5 } }";
    let env = Env::with([("A", "canary")]);
    let config = load_text("config.toml", &text("", lines), &env).unwrap_or_else(|report| panic!("{report}")).config;
    let body = config.sources["s"].resources["r"].json_body().unwrap();
    let query = "query($a: Int) { x(a: $a, b: \"${c}\") }";
    assert_eq!(body.expose(), serde_json::json!({"query": query, "variables": {"a": "canary", "n": 5}}));
    assert_eq!(body.masked()["variables"]["a"], "***");
}

#[test]
fn a_secret_that_is_written_into_a_form_is_refused() {
    let found = problems(load(&text("", "form = { token = \"canary\" }")));
    assert!(found.len() == 1 && found[0].contains("a secret is never written in the file"), "{found:#?}");
    let env = Env::with([("T", "canary")]);
    let lines = text("", "form = { token = \"${env:T}\" }");
    let config = load_text("config.toml", &lines, &env).unwrap_or_else(|report| panic!("{report}")).config;
    assert_eq!(config.sources["s"].resources["r"].form.as_ref().unwrap()["token"].to_string(), "***");
}
