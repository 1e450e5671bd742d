//! No credential leaves the request that it is for.

use http::Method;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::server::{
    Reply, Server, Then, actions, client, fetch_with, get, install_tls, no_store, no_tokens, ok, options, reply,
};
use crate::progress::ResourceProgress;
use crate::rest::budget::Budget;
use crate::rest::client::Client;
use crate::rest::error::{ClientError, RequestError};
use crate::rest::link::resolve_next;
use crate::rest::request::Target;
use crate::secret::Secret;
use crate::template::{SegmentKind, Template, segments_value};

const CANARY: &str = "canary-4f0e&x";
const CANARY_ENCODED: &str = "canary-4f0e%26x";

fn hides_canary(text: &str) -> bool {
    !text.contains("canary-4f0e")
}

#[tokio::test]
async fn c07_a_key_in_the_query_is_sent_and_never_shown() {
    let echo = format!(r#"{{"message":"key {CANARY} ({CANARY_ENCODED}) is not valid"}}"#);
    let extra = json!({
        "auth": { "type": "api_key", "name": "key", "api_key": CANARY, "location": "query" },
        "retry": { "max_attempts": 2, "initial_delay": "1ms" },
        "timeout": "300ms",
        "max_page_bytes": "1KiB",
    });
    let failures = [
        reply(500, "", &echo),
        reply(401, "", &echo),
        reply(404, "", &echo),
        reply(200, "", &echo),
        reply(200, "", vec![b' '; 2000]),
        reply(302, &format!("Location: http://localhost/?key={CANARY_ENCODED}\r\n"), ""),
        Reply(b"not HTTP\r\n\r\n".to_vec(), Then::Close),
        Reply(Vec::new(), Then::Reset),
        Reply(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[".to_vec(), Then::Close),
        Reply(Vec::new(), Then::Stall),
    ];
    for failure in failures {
        let server = Server::start(vec![failure]).await;
        let rules = actions(json!([{ "when": "status == 404", "action": "fail" }]));
        let error = fetch_with(
            &client(&server.url(), extra.clone()),
            &get("items?page=1"),
            &rules,
            &ResourceProgress::default(),
            &CancellationToken::new(),
        )
        .await
        .unwrap_err();
        assert!(hides_canary(&format!("{error} {error:?}")), "{error:?}");
        assert!(!error.to_string().contains("page=1"), "{error}");
        let line = server.requests()[0].lines().next().unwrap().to_owned();
        assert_eq!(line, format!("GET /v1/items?page=1&key={CANARY_ENCODED} HTTP/1.1"));
    }
}

#[tokio::test]
async fn c07_a_fetched_page_shows_neither_keys_nor_secret_parameters() {
    let server = Server::start(vec![ok("[]")]).await;
    let extra = json!({
        "auth": { "type": "api_key", "name": "key", "api_key": CANARY, "location": "query" },
        "params": { "account": segments_value(&[(SegmentKind::Secret, "canary-4f0e-acct")]), "per_page": 100 },
    });
    let client = client(&server.url(), extra);
    let progress = ResourceProgress::default();
    let page = fetch_with(&client, &get("items"), &[], &progress, &CancellationToken::new()).await.unwrap();
    assert!(page.shown_url.ends_with("/v1/items?per_page=100&account=***"), "{}", page.shown_url);
    assert!(page.received.url.as_str().ends_with("/v1/items?per_page=100"), "{}", page.received.url);
    assert!(hides_canary(&format!("{page:?} {client:?} {progress:?}")));
    assert!(
        server.requests()[0]
            .starts_with(&format!("GET /v1/items?per_page=100&account=canary-4f0e-acct&key={CANARY_ENCODED} HTTP/1.1"))
    );
}

#[tokio::test]
async fn p06_a_next_link_that_echoes_the_key_is_stored_without_it_and_sent_with_it_once() {
    let server = Server::start(vec![ok("[]")]).await;
    let extra = json!({
        "auth": { "type": "api_key", "name": "key", "api_key": CANARY, "location": "query" },
        "params": { "per_page": 100 },
    });
    let client = client(&server.url(), extra);
    let first = get("items");
    let next = resolve_next(client.base_url(), &format!("items?page=2&key={CANARY_ENCODED}&key=old")).unwrap();
    let stored = client.without_credentials(&first, next.clone()).unwrap();
    assert_eq!(stored.query(), Some("page=2"));
    for url in [next, stored] {
        let mut request = get("");
        request.target = Target::Url(url);
        let page = fetch_with(&client, &request, &[], &ResourceProgress::default(), &CancellationToken::new()).await;
        assert!(hides_canary(&page.unwrap().shown_url));
    }
    for request in server.requests() {
        assert!(request.starts_with(&format!("GET /v1/items?page=2&key={CANARY_ENCODED} HTTP/1.1")), "{request}");
    }
}

#[tokio::test]
async fn c07_a_link_with_a_secret_path_is_refused_and_shown_masked() {
    let server = Server::start(vec![ok("[]")]).await;
    let client = client(&server.url(), json!({}));
    let mut first = get("");
    let path: Template =
        serde_json::from_value(segments_value(&[(SegmentKind::Text, "bot"), (SegmentKind::Secret, CANARY)])).unwrap();
    (first.target, first.secrets) = (Target::Path(path), vec![Secret::new(CANARY.to_owned())]);
    let next = resolve_next(client.base_url(), &format!("bot{CANARY}?page=2")).unwrap();
    let error = client.without_credentials(&first, next.clone()).unwrap_err();
    assert!(error.to_string().contains("secret") && hides_canary(&error.to_string()), "{error}");
    let mut second = first.clone();
    second.target = Target::Url(next);
    let page = fetch_with(&client, &second, &[], &ResourceProgress::default(), &CancellationToken::new()).await;
    let shown = page.unwrap().shown_url;
    assert!(shown.ends_with("/v1/bot***?page=2"), "{shown}");
}

#[tokio::test]
async fn p06_a_next_link_keeps_what_only_looks_like_a_credential() {
    let server = Server::start(vec![ok("[]")]).await;
    let client =
        client(&server.url(), json!({ "auth": { "type": "http_basic", "username": "octocat-1", "password": CANARY } }));
    let mut first = get("items");
    first.json = Some(json!({ "filter": "created_after_2024" }));
    let link = "items?filter=created_after_2024&user=octocat-1&page=2";
    let next = resolve_next(client.base_url(), link).unwrap();
    assert_eq!(client.without_credentials(&first, next.clone()).unwrap(), next);
    first.target = Target::Url(next);
    let page = fetch_with(&client, &first, &[], &ResourceProgress::default(), &CancellationToken::new()).await;
    page.unwrap();
    assert!(server.requests()[0].starts_with(&format!("GET /v1/{link} HTTP/1.1")), "{:?}", server.requests());
}

#[test]
fn c07_a_key_in_the_place_of_a_user_name_is_in_no_link_and_no_cursor_that_is_stored() {
    for (password, is_key) in [(json!(null), true), (json!(""), true), (json!("x"), true), (json!("hunter2"), false)] {
        let auth = json!({ "auth": { "type": "http_basic", "username": "sk_live_1234", "password": password } });
        let client = client("https://api.test/v1/", auth);
        let first = get("items");
        let next = resolve_next(client.base_url(), "sk_live_1234/items?page=2").unwrap();
        assert_eq!(client.without_credentials(&first, next).is_err(), is_key, "{password}");
        assert_eq!(client.holds_secret(&first, "from:sk_live_1234:2"), is_key, "{password}");
        assert_eq!(client.masked(&first, "said sk_live_1234"), "said ***", "{password}");
    }
}

#[tokio::test]
async fn h15_a_redirect_that_echoes_the_key_gets_it_once() {
    let location = format!("Location: other?x=1&key={CANARY_ENCODED}\r\n");
    let server = Server::start(vec![reply(302, &location, ""), ok("[]")]).await;
    let auth = json!({ "auth": { "type": "api_key", "name": "key", "api_key": CANARY, "location": "query" } });
    let client = client(&server.url(), auth);
    let page = fetch_with(&client, &get("items"), &[], &ResourceProgress::default(), &CancellationToken::new()).await;
    assert_eq!(page.unwrap().received.url.query(), Some("x=1"));
    assert!(server.requests()[1].starts_with(&format!("GET /v1/other?x=1&key={CANARY_ENCODED} HTTP/1.1")));
}

#[tokio::test]
async fn p05_a_url_on_another_origin_gets_nothing() {
    let evil = Server::start(vec![ok("[]")]).await;
    let client = client("http://127.0.0.1:9/", json!({ "auth": { "type": "bearer", "token": CANARY } }));
    let mut request = get("");
    request.target = Target::Url(evil.url().parse().unwrap());
    let page = fetch_with(&client, &request, &[], &ResourceProgress::default(), &CancellationToken::new()).await;
    assert!(matches!(page.unwrap_err(), RequestError::Request { .. }));
    assert!(evil.requests().is_empty());
}

#[tokio::test]
async fn c07_what_a_server_echoes_of_a_body_is_masked() {
    let server = Server::start(vec![reply(400, "", format!(r#"{{"message":"bad token {CANARY}"}}"#))]).await;
    let client = client(&server.url(), json!({}));
    let mut post = get("graphql");
    (post.method, post.json) = (Method::POST, Some(json!({ "auth": [{ "token": CANARY }] })));
    post.secrets = vec![Secret::new(CANARY.to_owned())];
    let page = fetch_with(&client, &post, &[], &ResourceProgress::default(), &CancellationToken::new()).await;
    let error = page.unwrap_err();
    assert!(error.to_string().ends_with("bad token ***"), "{error}");
}

#[test]
fn options_that_cannot_work_are_refused_by_name() {
    install_tls();
    let new = |url: &str, extra| {
        let options = options(url, extra);
        Client::new("shop", &options, Budget::new("b", None, None, no_store()), no_tokens()).unwrap_err()
    };
    for url in ["api.example.com", "ftp://a/", "https://u:canary-4f0e@a/", "https://a/?key=canary-4f0e", "https://a/#x"]
    {
        let error = new(url, json!({}));
        assert!(matches!(error, ClientError::BaseUrl { .. }), "{error:?}");
        assert!(hides_canary(&error.to_string()) && error.to_string().contains("`shop`"), "{error}");
    }
    for extra in [
        json!({ "headers": { "X-A": "canary-4f0e\n" } }),
        json!({ "headers": { "Transfer-Encoding": "chunked" } }),
        json!({ "auth": { "type": "bearer", "token": "canary-4f0e\n" } }),
    ] {
        let error = new("http://127.0.0.1:9/", extra);
        assert!(matches!(error, ClientError::Unusable { .. }) && hides_canary(&error.to_string()), "{error:?}");
    }
}
