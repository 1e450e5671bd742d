//! Credentials that expire: when they are renewed, how often, and what becomes of it.

use std::sync::{Arc, Mutex};

use http::Method;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::server::{
    Page, Reply, Server, Then, actions, fetch, fetch_with, get, install_tls, no_store, no_tokens, ok, options, reply,
};
use crate::progress::{Activity, ResourceProgress};
use crate::rest::auth::{KeptToken, SaveToken, TokenStore};
use crate::rest::budget::Budget;
use crate::rest::client::{Client, Outcome};
use crate::rest::error::{ErrorKind, RequestError};
use crate::rest::link::resolve_next;
use crate::template::{SegmentKind, segments_value};

const CANARY: &str = "canary-77aa&x";

/// An answer with an access token, and what else it says.
fn token(text: &str, extra: &Value) -> Reply {
    let mut answer = json!({ "access_token": text, "token_type": "Bearer" });
    answer.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    ok(&answer.to_string())
}

fn unauthorized() -> Reply {
    reply(401, "", r#"{"message":"token expired"}"#)
}

/// A token endpoint and an API, each with its script, and a client of both.
struct World {
    tokens: Server,
    api: Server,
    client: Client,
}

impl World {
    async fn new(tokens: Vec<Reply>, api: Vec<Reply>, extra: Value) -> Self {
        let auth = json!({ "type": "oauth2_client_credentials", "client_id": "me", "client_secret": CANARY });
        Self::with_auth(tokens, api, auth, extra, no_tokens()).await
    }

    async fn with_auth(tokens: Vec<Reply>, api: Vec<Reply>, auth: Value, extra: Value, store: TokenStore) -> Self {
        install_tls();
        let (tokens, api) = (Server::start(tokens).await, Server::start(api).await);
        let (mut auth, mut extra) = (auth, extra);
        auth["access_token_url"] = json!(format!("{}token", tokens.url()));
        extra["auth"] = auth;
        let options = options(&api.url(), extra);
        let budget = Budget::new("test", options.rate_limit.as_ref(), None, no_store());
        let client = Client::new("test", &options, budget, store).unwrap();
        Self { tokens, api, client }
    }

    /// The bearer tokens that the API was sent, in order.
    fn sent(&self) -> Vec<String> {
        self.api.requests().iter().map(|request| bearer(request)).collect()
    }
}

fn bearer(request: &str) -> String {
    let line = request.lines().find_map(|line| line.strip_prefix("authorization: Bearer "));
    line.unwrap_or_default().to_owned()
}

fn error_of(page: Page) -> RequestError {
    let error = page.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
    error
}

#[tokio::test]
async fn h09_a_401_is_answered_with_one_renewal_and_one_replay_that_charge_no_attempt() {
    let script = vec![ok("[1]"), unauthorized(), ok("[2]")];
    let retry = json!({ "retry": { "max_attempts": 1 } });
    let world = World::new(vec![token("t1", &json!({})), token("t2", &json!({}))], script, retry).await;
    assert_eq!(fetch(&world.client).await.unwrap().value, Outcome::Accepted(json!([1])));
    let page = fetch(&world.client).await.unwrap();
    assert_eq!((page.value, page.attempts), (Outcome::Accepted(json!([2])), 2));
    assert_eq!(world.sent(), ["t1", "t1", "t2"]);
    let requests = world.tokens.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests[0].starts_with("POST /v1/token HTTP/1.1\r\n"), "{}", requests[0]);
    let form = "grant_type=client_credentials&client_id=me&client_secret=canary-77aa%26x";
    assert_eq!(requests[0].split("\r\n\r\n").nth(1), Some(form));
}

#[tokio::test]
async fn h09_a_second_401_fails_the_read() {
    let script = vec![token("t1", &json!({})), token("t2", &json!({})), token("t3", &json!({}))];
    let world = World::new(script, vec![unauthorized()], json!({})).await;
    let error = error_of(fetch(&world.client).await);
    assert_eq!(error.kind(), ErrorKind::Forbidden);
    let words =
        "answered 401: token expired: the `oauth2_client_credentials` credentials were renewed and refused again";
    assert!(error.to_string().contains(words), "{error}");
    assert_eq!((world.sent(), world.tokens.requests().len()), (vec!["t1".to_owned(), "t2".to_owned()], 2));
}

#[tokio::test]
async fn h09_a_401_between_retries_is_renewed_and_the_retries_go_on() {
    let failure = reply(500, "", "");
    let script = vec![failure.clone(), unauthorized(), failure, ok("[1]")];
    let retry = json!({ "retry": { "max_attempts": 3, "initial_delay": "1ms" } });
    let world = World::new(vec![token("t1", &json!({})), token("t2", &json!({}))], script, retry).await;
    assert_eq!(fetch(&world.client).await.unwrap().attempts, 4);
    assert_eq!(world.sent(), ["t1", "t1", "t2", "t2"]);
}

#[tokio::test]
async fn a_403_is_no_reason_to_renew_unless_an_action_says_so() {
    let script = vec![reply(403, "", r#"{"error":"session over"}"#), ok("[1]")];
    let tokens = || vec![token("t1", &json!({})), token("t2", &json!({}))];
    let world = World::new(tokens(), script.clone(), json!({})).await;
    assert_eq!(error_of(fetch(&world.client).await).kind(), ErrorKind::Forbidden);
    assert_eq!(world.tokens.requests().len(), 1);

    let rules = actions(json!([{ "status_code": 403, "content": "session over", "action": "refresh_auth" }]));
    for (script, pages) in [(script.clone(), 1), (vec![script[0].clone()], 0)] {
        let world = World::new(tokens(), script, json!({})).await;
        let (progress, stop) = (ResourceProgress::default(), CancellationToken::new());
        let page = fetch_with(&world.client, &get("items"), &rules, &progress, &stop).await;
        assert_eq!((page.is_ok(), world.sent()), (pages == 1, vec!["t1".to_owned(), "t2".to_owned()]));
        assert!(page.is_ok() || error_of(page).kind() == ErrorKind::Forbidden);
    }
}

#[tokio::test]
async fn credentials_that_have_expired_are_renewed_before_anything_is_sent() {
    let brief = json!({ "expires_in": 0.000_001 });
    let script = (1..=4).map(|n| token(&format!("t{n}"), &brief)).collect();
    let world = World::new(script, vec![ok("[]")], json!({})).await;
    fetch(&world.client).await.unwrap();
    fetch(&world.client).await.unwrap();
    // Each time once when they are asked for, and once more since they expired before the request could leave.
    assert_eq!(world.sent(), ["t2", "t4"]);
}

#[tokio::test]
async fn credentials_that_are_refused_are_not_sent_again() {
    let said = format!(r#"{{"error":"invalid_client","error_description":"not {CANARY}"}}"#);
    let world = World::new(vec![reply(401, "", &said)], vec![ok("[]")], json!({})).await;
    for _ in 0..3 {
        let error = error_of(fetch(&world.client).await);
        assert_eq!(error.kind(), ErrorKind::Forbidden);
        let words = "refuses the `oauth2_client_credentials` credentials: invalid_client (not ***): check `client_id`";
        assert!(error.to_string().contains(words), "{error}");
    }
    assert_eq!((world.sent().len(), world.tokens.requests().len()), (0, 1));
}

#[tokio::test]
async fn a_token_endpoint_that_fails_is_asked_again_as_often_as_configured() {
    let down = reply(503, "", r#"{"error":"temporarily_unavailable"}"#);
    let retry = json!({ "retry": { "max_attempts": 3, "initial_delay": "1ms" } });
    let recovers = vec![Reply(Vec::new(), Then::Reset), down.clone(), token("t1", &json!({}))];
    let world = World::new(recovers, vec![ok("[]")], retry.clone()).await;
    fetch(&world.client).await.unwrap();
    assert_eq!((world.sent(), world.tokens.requests().len()), (vec!["t1".to_owned()], 3));

    let world = World::new(vec![down], vec![ok("[]")], retry).await;
    let error = error_of(fetch(&world.client).await);
    assert_eq!((error.kind(), world.tokens.requests().len()), (ErrorKind::Unavailable, 3));
    assert!(error.to_string().contains("gave no credentials: answered 503: temporarily_unavailable"), "{error}");
}

#[tokio::test]
async fn what_is_no_token_is_refused() {
    let long = format!(r#"{{"access_token":"{}"}}"#, "x".repeat(300 << 10));
    let elsewhere = Server::start(vec![token("stolen", &json!({}))]).await;
    let location = format!("Location: {}\r\n", elsewhere.url());
    for (answer, requests, part) in [
        (ok(&long), 1, "its answer is too long"),
        (reply(307, &location, ""), 1, "a redirect, which credentials do not follow"),
        (ok("<html>"), 3, "no JSON object"),
        (token("a\nb", &json!({})), 1, "cannot be sent"),
        (reply(404, "", ""), 1, "answered 404"),
        (Reply(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{".to_vec(), Then::Stall), 2, "`read_timeout`"),
    ] {
        let limits = json!({ "read_timeout": "50ms", "retry": { "max_attempts": 2, "initial_delay": "1ms" } });
        let limits = if requests == 3 { json!({}) } else { limits };
        let world = World::new(vec![answer], vec![ok("[]")], limits).await;
        let error = error_of(fetch(&world.client).await);
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!((world.sent().len(), world.tokens.requests().len()), (0, requests), "{part}");
    }
    assert_eq!(elsewhere.requests().len(), 0);
}

#[tokio::test]
async fn a_refresh_token_is_replaced_by_what_each_renewal_brings() {
    let kept: Arc<Mutex<Vec<KeptToken>>> = Arc::default();
    let reserved = Arc::new(Mutex::new(0));
    let store = {
        let (kept, reserved) = (Arc::clone(&kept), Arc::clone(&reserved));
        TokenStore {
            load: Box::new(|| Ok(None)),
            reserve: Box::new(move || {
                *reserved.lock().unwrap() += 1;
                let kept = Arc::clone(&kept);
                let save: SaveToken = Box::new(move |token| {
                    kept.lock().unwrap().push(token.clone());
                    Ok(())
                });
                Ok(save)
            }),
        }
    };
    let auth = json!({ "type": "oauth2_refresh_token", "client_id": "me", "refresh_token": "canary-r0" });
    let tokens = ["canary-r1", "canary-r2"].map(|next| token("canary-access", &json!({ "refresh_token": next })));
    let script = vec![unauthorized(), reply(500, "", r#"{"message":"canary-access canary-r1 canary-r2"}"#)];
    let retry = json!({ "retry": { "max_attempts": 1 } });
    let world = World::with_auth(tokens.to_vec(), script, auth, retry, store).await;
    let error = error_of(fetch(&world.client).await);
    assert!(error.to_string().ends_with("answered 500: *** *** ***"), "{error}");
    let kept: Vec<String> = kept.lock().unwrap().iter().map(|token| token.refresh_token.expose().to_owned()).collect();
    assert_eq!((kept, *reserved.lock().unwrap()), (vec!["canary-r1".to_owned(), "canary-r2".to_owned()], 2));
    let sent: Vec<bool> = world.tokens.requests().iter().map(|request| request.contains("canary-r1")).collect();
    assert_eq!(sent, [false, true], "the second renewal sends what the first one brought");
}

#[tokio::test]
async fn nothing_is_asked_for_when_a_new_refresh_token_could_not_be_stored() {
    let store = TokenStore { load: Box::new(|| Ok(None)), reserve: Box::new(|| Err("no room".to_owned())) };
    let auth = json!({ "type": "oauth2_refresh_token", "client_id": "me", "refresh_token": "canary-r0" });
    let world = World::with_auth(vec![token("t", &json!({}))], vec![ok("[]")], auth, json!({}), store).await;
    let error = error_of(fetch(&world.client).await);
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::Storage, "no room".to_owned()));
    assert_eq!((world.sent().len(), world.tokens.requests().len()), (0, 0));
}

/// A client that logs in on the API itself.
async fn session(script: Vec<Reply>, extra: Value, session: Value) -> (Server, Client) {
    install_tls();
    let server = Server::start(script).await;
    let mut auth = json!({
        "type": "session_token",
        "login": { "path": "login", "json": { "user": "me", "password": segments_value(&[(SegmentKind::Secret, CANARY)]) } },
        "token_path": "data.id",
    });
    auth.as_object_mut().unwrap().extend(session.as_object().unwrap().clone());
    let mut extra = extra;
    extra["auth"] = auth;
    let options = options(&server.url(), extra);
    let budget = Budget::new("test", options.rate_limit.as_ref(), None, no_store());
    let client = Client::new("test", &options, budget, no_tokens()).unwrap();
    (server, client)
}

#[tokio::test]
async fn a_session_begins_with_a_login_and_is_begun_again_after_a_401() {
    let script =
        vec![ok(r#"{"data":{"id":"s1"}}"#), ok("[1]"), unauthorized(), ok(r#"{"data":{"id":"s2"}}"#), ok("[2]")];
    let (server, client) =
        session(script, json!({ "headers": { "x-app": "hw" } }), json!({ "name": "X-Session" })).await;
    fetch(&client).await.unwrap();
    assert_eq!(fetch(&client).await.unwrap().value, Outcome::Accepted(json!([2])));
    let requests = server.requests();
    assert!(requests[0].starts_with("POST /v1/login HTTP/1.1\r\n") && requests[0].contains("x-app: hw"));
    assert_eq!(requests[0].split("\r\n\r\n").nth(1), Some(r#"{"user":"me","password":"canary-77aa&x"}"#));
    let sent: Vec<bool> = requests.iter().map(|request| request.contains("x-session: s1")).collect();
    assert_eq!(sent, [false, true, true, false, false]);
    assert!(requests[4].contains("x-session: s2"));
}

#[tokio::test]
async fn a_login_takes_leave_of_the_same_budget_as_the_pages() {
    let script = vec![ok(r#"{"data":{"id":"s1"}}"#), ok("[1]")];
    let limit = json!({ "rate_limit": { "requests": 2, "per": "1h", "burst": 2, "concurrency": 1 } });
    let (server, client) = session(script, limit, json!({})).await;
    fetch(&client).await.unwrap();
    let (progress, stop, request) = (ResourceProgress::default(), CancellationToken::new(), get("items"));
    let waits = async {
        while !matches!(progress.activity(), Activity::Waiting { .. }) {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        page = fetch_with(&client, &request, &[], &progress, &stop) => panic!("there was leave for two: {page:?}"),
        () = waits => {}
    }
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_login_that_is_refused_says_so_without_the_password() {
    let script = vec![reply(400, "", format!(r#"{{"message":"no {CANARY}"}}"#))];
    let (server, client) = session(script, json!({}), json!({})).await;
    let error = error_of(fetch(&client).await);
    assert_eq!((error.kind(), server.requests().len()), (ErrorKind::Forbidden, 1));
    assert!(error.to_string().ends_with("refuses the `session_token` credentials: answered 400: no ***"), "{error}");
}

#[tokio::test]
async fn p06_a_session_that_a_link_echoes_is_neither_stored_nor_shown() {
    let script = vec![ok(r#"{"data":{"id":"canary-session"}}"#), ok("[]")];
    let (server, client) = session(script, json!({}), json!({ "name": "sid", "location": "query" })).await;
    let page = fetch(&client).await.unwrap();
    assert!(page.shown_url.ends_with("/v1/items") && page.received.url.query().is_none(), "{page:?}");
    assert!(server.requests()[1].starts_with("GET /v1/items?sid=canary-session HTTP/1.1"));
    let request = get("items");
    for (link, stored) in [
        ("items?page=2&sid=old", Some("page=2")),
        ("items?page=2&other=canary-session", Some("page=2")),
        ("canary-session/items", None),
    ] {
        let next = resolve_next(client.base_url(), link).unwrap();
        let kept = client.without_credentials(&request, next).ok().map(|url| url.query().unwrap_or("").to_owned());
        assert_eq!(kept.as_deref(), stored, "{link}");
    }
    assert_eq!(request.method, Method::GET);
}

#[tokio::test]
async fn everybody_who_waits_for_a_renewal_shows_what_it_waits_for() {
    let busy = reply(429, "Retry-After: 600\r\n", r#"{"error":"slow_down"}"#);
    let world = World::new(vec![busy], vec![ok("[]")], json!({})).await;
    let (first, second) = (ResourceProgress::default(), ResourceProgress::default());
    let (stop, request) = (CancellationToken::new(), get("items"));
    let reason = |progress: &ResourceProgress| match progress.activity() {
        Activity::Waiting { reason, .. } => Some(reason),
        _ => None,
    };
    let waits = async {
        while reason(&first).is_none() || reason(&second).is_none() {
            tokio::task::yield_now().await;
        }
    };
    let fetches = futures::future::join(
        fetch_with(&world.client, &request, &[], &first, &stop),
        fetch_with(&world.client, &request, &[], &second, &stop),
    );
    tokio::select! {
        pages = fetches => panic!("there are no credentials: {pages:?}"),
        () = waits => {}
    }
    assert!(reason(&first).is_none(), "its wait was cut short");
    assert_eq!(world.tokens.requests().len(), 1);
    world.client.close().await.unwrap();
    assert!(matches!(fetch(&world.client).await.unwrap_err(), RequestError::Interrupted));
    assert_eq!((world.sent().len(), world.tokens.requests().len()), (0, 1));
}
