//! What servers answer, and what it leads to.

use std::time::{Duration, Instant};

use http::Method;
use jiff::Timestamp;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::server::{Reply, Server, actions, client, client_with, fetch, fetch_with, get, ok, options, reply, store};
use crate::progress::ResourceProgress;
use crate::rest::client::Outcome;
use crate::rest::error::{ErrorKind, RequestError};
use crate::rest::request::RequestParts;

#[tokio::test]
async fn h01_a_429_with_retry_after_is_waited_for_and_charges_no_attempt() {
    let limited = reply(429, "Retry-After: 0.2\r\n", "{}");
    let server = Server::start(vec![limited.clone(), limited, ok("[1]")]).await;
    let client = client(&server.url(), json!({ "retry": { "max_attempts": 1 } }));
    let began = Instant::now();
    let page = fetch(&client).await.unwrap();
    assert_eq!((page.value, page.attempts), (Outcome::Accepted(json!([1])), 3));
    assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
}

#[tokio::test]
async fn h01_a_server_that_always_asks_for_a_little_more_time_does_not_get_it() {
    let server = Server::start(vec![reply(429, "Retry-After: 0.1\r\n", "{}")]).await;
    let retry = json!({ "retry": { "max_attempts": 2, "max_elapsed": "350ms", "max_retry_after": "200ms" } });
    let error = fetch(&client(&server.url(), retry)).await.unwrap_err();
    assert!(matches!(error, RequestError::RateLimited { .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::RateLimited);
    assert_eq!(server.requests().len(), 4, "three waits of 100ms, and no fourth");
}

#[tokio::test]
async fn h04_a_429_without_a_usable_delay_is_charged_and_ends() {
    for header in ["", "Retry-After: 0\r\n", "Retry-After: -1\r\n", "Retry-After: 1e99\r\n"] {
        let server = Server::start(vec![reply(429, header, r#"{"message":"slow down"}"#)]).await;
        let error = fetch(&client(&server.url(), json!({}))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RateLimited, "{error:?}");
        assert_eq!(server.requests().len(), 6, "{header}");
        assert!(error.to_string().ends_with("answered 429: slow down"), "{error}");
    }
}

#[tokio::test]
async fn h05_a_retry_after_that_is_too_long_ends_the_read_and_is_stored() {
    let server = Server::start(vec![reply(503, "Retry-After: 21600\r\n", "")]).await;
    let (save, saved) = store();
    let client = client_with(&options(&server.url(), json!({})), save);
    let error = fetch(&client).await.unwrap_err();
    let RequestError::RateLimited { until } = error else { panic!("{error:?}") };
    let ahead = until.as_second() - Timestamp::now().as_second();
    assert!((21_590..=21_601).contains(&ahead), "{ahead}");
    assert!((saved.lock().unwrap().last().unwrap().not_before_ms - until.as_millisecond()).abs() < 1000);
    // The whole budget is closed, not this request alone.
    assert!(matches!(fetch(&client).await.unwrap_err(), RequestError::RateLimited { .. }));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn h06_a_budget_that_is_used_up_waits_for_its_reset() {
    let headers = "X-Left: 0\r\nX-Reset: 0\r\n";
    let server = Server::start(vec![reply(200, headers, "[1]"), ok("[2]")]).await;
    let limits =
        json!({ "rate_limit": { "remaining_header": "x-left", "reset_header": "x-reset", "reset_format": "delta" } });
    let client = client(&server.url(), limits);
    fetch(&client).await.unwrap();
    let began = Instant::now();
    fetch(&client).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
}

#[tokio::test]
async fn h07_a_403_is_a_rate_limit_when_its_headers_say_so() {
    let limits =
        json!({ "rate_limit": { "remaining_header": "x-left" }, "auth": { "type": "bearer", "token": "canary" } });
    for (headers, requests) in [("Retry-After: 0.05\r\n", 2), ("X-Left: 0\r\n", 2), ("X-Left: 7\r\n", 1), ("", 1)] {
        let server = Server::start(vec![reply(403, headers, "{}"), ok("[]")]).await;
        let page = fetch(&client(&server.url(), limits.clone())).await;
        assert_eq!((server.requests().len(), page.is_ok()), (requests, requests == 2), "{headers}");
    }
}

#[tokio::test]
async fn h08_server_errors_are_tried_again_until_they_pass_or_do_not() {
    let server = Server::start(vec![reply(500, "", ""), reply(502, "", ""), reply(520, "", ""), ok("[1]")]).await;
    assert_eq!(fetch(&client(&server.url(), json!({}))).await.unwrap().attempts, 4);
    for (status, requests) in [(500, 6), (408, 6), (425, 6), (501, 1), (505, 1), (404, 1), (410, 1), (422, 1)] {
        let server = Server::start(vec![reply(status, "", r#"{"error":{"message":"because"}}"#)]).await;
        let error = fetch(&client(&server.url(), json!({}))).await.unwrap_err();
        assert!(matches!(error, RequestError::Status { status: got, .. } if got == status), "{error:?}");
        assert_eq!(error.to_string(), format!("{}items answered {status}: because", server.url()));
        assert_eq!(server.requests().len(), requests, "{status}");
    }
}

#[tokio::test]
async fn h09_a_401_says_which_credentials_to_look_at() {
    let server = Server::start(vec![reply(401, "", r#"{"message":"Bad credentials"}"#)]).await;
    for (extra, says) in [
        (json!({}), "Bad credentials: no `auth` is configured for this client"),
        (json!({ "auth": { "type": "bearer", "token": "canary" } }), "the `bearer` credentials were refused"),
        (
            json!({ "auth": { "type": "http_basic", "username": "canary" } }),
            "the `http_basic` credentials were refused",
        ),
    ] {
        let error = fetch(&client(&server.url(), extra)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Forbidden);
        assert!(error.to_string().contains(says) && !error.to_string().contains("canary"), "{error}");
    }
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn h10_html_instead_of_a_page_is_asked_for_twice_more() {
    let server = Server::start(vec![reply(200, "Content-Type: text/html\r\n", "<html>Sign in</html>")]).await;
    let error = fetch(&client(&server.url(), json!({}))).await.unwrap_err();
    assert!(matches!(error, RequestError::NotAPage { .. }), "{error:?}");
    assert_eq!(server.requests().len(), 3);
    let server = Server::start(vec![ok("{}")]).await;
    assert!(matches!(fetch(&client(&server.url(), json!({}))).await.unwrap_err(), RequestError::NotAPage { .. }));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn h15_redirects_stay_on_the_origin_or_fail() {
    let evil = Server::start(vec![ok("[\"evil\"]")]).await;
    let to = |location: &str| reply(302, &format!("Location: {location}\r\n"), "");
    let auth = json!({ "auth": { "type": "api_key", "name": "X-Key", "api_key": "canary" }, "headers": { "X-Own": "canary" } });

    let server = Server::start(vec![to("other?x=1#part"), to("/v2/third"), ok("[1]")]).await;
    let page = fetch(&client(&server.url(), auth.clone())).await.unwrap();
    assert_eq!((page.value, page.attempts), (Outcome::Accepted(json!([1])), 3));
    assert_eq!(page.received.url.as_str(), format!("http://127.0.0.1:{}/v2/third", server.port));
    let lines: Vec<String> =
        server.requests().iter().map(|request| request.lines().next().unwrap().to_owned()).collect();
    assert_eq!(lines, ["GET /v1/items HTTP/1.1", "GET /v1/other?x=1 HTTP/1.1", "GET /v2/third HTTP/1.1"]);
    assert!(server.requests().iter().all(|request| request.contains("x-key: canary") && !request.contains("referer")));

    for location in [evil.url(), format!("//127.0.0.1:{}/", evil.port), "http://localhost/".to_owned()] {
        let server = Server::start(vec![to(&location)]).await;
        let error = fetch(&client(&server.url(), auth.clone())).await.unwrap_err();
        assert!(matches!(error, RequestError::ForeignOrigin { .. }), "{error:?}");
        assert!(!error.to_string().contains("/v1"), "{error}");
        assert_eq!(server.requests().len(), 1);
    }
    assert!(evil.requests().is_empty());

    let circle = Server::start(vec![to("items")]).await;
    let error = fetch(&client(&circle.url(), json!({}))).await.unwrap_err();
    assert!(matches!(error, RequestError::Redirect { .. }), "{error:?}");
    assert_eq!(circle.requests().len(), 6);

    for (method, extra) in [(Method::GET, json!({ "redirects": "none" })), (Method::POST, json!({}))] {
        let server = Server::start(vec![to("other")]).await;
        let request = RequestParts { method, ..get("items") };
        let client = client(&server.url(), extra);
        let page = fetch_with(&client, &request, &[], &ResourceProgress::default(), &CancellationToken::new()).await;
        assert!(matches!(page.unwrap_err(), RequestError::Redirect { .. }));
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn h16_statuses_that_cannot_be_answers_fail_at_once() {
    for status in [206, 300, 304, 999] {
        let server = Server::start(vec![reply(status, "", "")]).await;
        let error = fetch(&client(&server.url(), json!({}))).await.unwrap_err();
        assert!(matches!(error, RequestError::UnexpectedStatus { .. }), "{error:?}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn response_actions_come_before_the_status() {
    let run = async |script: Vec<Reply>, rules: serde_json::Value| {
        let server = Server::start(script).await;
        let client = client(&server.url(), json!({}));
        let rules = actions(rules);
        let page =
            fetch_with(&client, &get("items"), &rules, &ResourceProgress::default(), &CancellationToken::new()).await;
        (page.map(|page| page.value), server.requests().len())
    };
    let (page, _) = run(vec![reply(404, "", "")], json!([{ "status_code": 404, "action": "ignore" }])).await;
    assert_eq!(page.unwrap(), Outcome::Ignored);
    let (page, _) =
        run(vec![reply(302, "Location: /login\r\n", "")], json!([{ "status_code": "3xx", "action": "stop" }])).await;
    assert_eq!(page.unwrap(), Outcome::Stopped);
    let (page, requests) =
        run(vec![reply(404, "", ""), ok("[1]")], json!([{ "status_code": 404, "action": "retry" }])).await;
    assert_eq!((page.unwrap(), requests), (Outcome::Accepted(json!([1])), 2));
    let limited = reply(200, "Retry-After: 0.05\r\n", r#"{"error":"throttled"}"#);
    let rule = json!([{ "content": "throttled", "action": "rate_limited" }]);
    assert_eq!(run(vec![limited, ok("[1]")], rule).await.0.unwrap(), Outcome::Accepted(json!([1])));
    let (page, requests) = run(vec![reply(500, "", "")], json!([{ "status_code": 500, "action": "fail" }])).await;
    assert!(matches!(page.unwrap_err(), RequestError::Action { status: 500, .. }));
    assert_eq!(requests, 1);
    let (page, _) = run(vec![ok("{}")], json!([{ "when": "body.a.b", "action": "fail" }])).await;
    assert!(page.unwrap_err().to_string().contains("response action 1"));
}

#[tokio::test]
async fn a_post_is_sent_again_as_a_get_is_with_its_body() {
    let server = Server::start(vec![reply(500, "", ""), ok("[1]")]).await;
    let mut post = get("search");
    (post.method, post.json) = (Method::POST, Some(json!({ "q": "x" })));
    let client = client(&server.url(), json!({}));
    let page = fetch_with(&client, &post, &[], &ResourceProgress::default(), &CancellationToken::new()).await.unwrap();
    assert_eq!(page.attempts, 2);
    for request in server.requests() {
        assert!(request.starts_with("POST /v1/search HTTP/1.1") && request.ends_with(r#"{"q":"x"}"#), "{request}");
        assert!(request.contains("content-type: application/json") && request.contains("user-agent: highwater/"));
    }
}
