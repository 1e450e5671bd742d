//! Every wait can be cut short, is shown while it lasts, and holds nothing that others need.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::server::{
    Reply, Server, Then, client, client_with, fetch, get, json_list, no_store, ok, options, reply, room,
};
use crate::page::{Room, Slots, Turns};
use crate::progress::{Activity, ResourceProgress};
use crate::rest::budget::{Budget, BudgetState};
use crate::rest::client::{Call, Client};
use crate::rest::error::{ErrorKind, RequestError};
use crate::units::ByteSize;

/// Fetches, stops the fetch once it waits as `waits` expects, and gives back how long stopping took.
async fn stopped(client: &Client, reserved: bool, waits: impl Fn(&Activity) -> bool) -> (RequestError, Duration) {
    let (stop, progress, request) = (CancellationToken::new(), ResourceProgress::default(), get("items"));
    progress.set(Activity::Reading);
    let slots = Slots::new(ByteSize::mebi(64));
    let room = room(&slots);
    let _others =
        if reserved { None } else { Some(Room::new(&slots, Turns::default().after(0), u64::MAX, false).take().await) };
    let call = Call { request: &request, known: None, actions: &[], room: &room, progress: &progress, stop: &stop };
    let watch = async {
        while !waits(&progress.activity()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        stop.cancel();
        Instant::now()
    };
    let (page, at) = tokio::join!(client.fetch(call, json_list), watch);
    assert_eq!(progress.activity(), Activity::Reading);
    (page.unwrap_err(), at.elapsed())
}

fn waits_for(text: &'static str) -> impl Fn(&Activity) -> bool {
    move |activity| matches!(activity, Activity::Waiting { reason, .. } if reason.contains(text))
}

fn reads(activity: &Activity) -> bool {
    *activity == Activity::Reading
}

#[tokio::test]
async fn every_kind_of_wait_ends_at_once_when_the_run_stops() {
    let stall = Server::start(vec![Reply(Vec::new(), Then::Stall)]).await;
    let drip = Reply(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n ".to_vec(), Then::Stall);
    let body = Server::start(vec![drip]).await;
    let limited = Server::start(vec![reply(429, "Retry-After: 60\r\n", "")]).await;
    let failing = Server::start(vec![reply(500, "", "")]).await;
    let fine = Server::start(vec![ok("[]")]).await;
    let slow_retry = json!({ "retry": { "initial_delay": "60s", "max_delay": "1h" } });

    let head = stopped(&client(&stall.url(), json!({})), true, reads).await;
    let body = stopped(&client(&body.url(), json!({})), true, reads).await;
    let pause = stopped(&client(&limited.url(), json!({})), true, waits_for("429 from 127.0.0.1")).await;
    let backoff = stopped(&client(&failing.url(), slow_retry), true, waits_for("attempt 1 of 6")).await;
    let slot = stopped(&client(&fine.url(), json!({})), false, reads).await;
    let slow = client(&fine.url(), json!({ "rate_limit": { "requests": 1, "per": "1h" } }));
    fetch(&slow).await.unwrap();
    let rate = stopped(&slow, true, waits_for("the rate limit of budget `test`")).await;

    for (name, (error, took)) in
        [("head", head), ("body", body), ("pause", pause), ("backoff", backoff), ("slot", slot), ("rate", rate)]
    {
        assert!(matches!(error, RequestError::Interrupted), "{name}: {error:?}");
        assert_eq!(error.kind(), ErrorKind::Interrupted);
        assert!(took < Duration::from_secs(1), "{name}: {took:?}");
    }
    assert_eq!(fine.requests().len(), 1, "no request without its slot, none beyond the rate");
}

#[tokio::test]
async fn a_stopped_run_sends_nothing() {
    let server = Server::start(vec![ok("[]")]).await;
    let (stop, progress, request) = (CancellationToken::new(), ResourceProgress::default(), get("items"));
    stop.cancel();
    let client = client(&server.url(), json!({}));
    let room = room(&Slots::new(ByteSize::mebi(64)));
    let call = Call { request: &request, known: None, actions: &[], room: &room, progress: &progress, stop: &stop };
    assert!(matches!(client.fetch(call, json_list).await, Err(RequestError::Interrupted)));
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_request_without_memory_does_not_keep_others_from_sending() {
    let server = Server::start(vec![ok("[]")]).await;
    let client = client(&server.url(), json!({ "rate_limit": { "concurrency": 1 } }));
    let (stop, progress, request) = (CancellationToken::new(), ResourceProgress::default(), get("items"));
    let slots = Slots::new(ByteSize::mebi(64));
    let taken = Room::new(&slots, Turns::default().after(0), u64::MAX, false).take().await;
    let room = room(&slots);
    let call = Call { request: &request, known: None, actions: &[], room: &room, progress: &progress, stop: &stop };
    let blocked = client.fetch(call, json_list);
    let other = async {
        fetch(&client).await.unwrap();
        assert_eq!(server.requests().len(), 1, "only the one that has memory");
        drop(taken);
    };
    let both = async { tokio::join!(blocked, other) };
    let (blocked, ()) = tokio::time::timeout(Duration::from_secs(5), both).await.unwrap();
    assert!(blocked.is_ok() && server.requests().len() == 2);
}

#[tokio::test]
async fn a_stored_pause_beyond_patience_fails_before_anything_is_sent() {
    let server = Server::start(vec![ok("[]")]).await;
    let options = options(&server.url(), json!({}));
    let saved = BudgetState { tat_ms: 0, not_before_ms: Timestamp::now().as_millisecond() + 7_200_000 };
    let budget = Budget::new("b", None, Some(saved), no_store());
    let error = fetch(&Client::new("test", &options, budget).unwrap()).await.unwrap_err();
    assert!(matches!(error, RequestError::RateLimited { .. }), "{error:?}");
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn nothing_is_sent_when_the_budget_cannot_be_stored() {
    let server = Server::start(vec![ok("[]")]).await;
    let options = options(&server.url(), json!({ "rate_limit": { "requests": 5 } }));
    let client = client_with(&options, Arc::new(|_, _| Box::pin(async { Err("disk full".to_owned()) })));
    let error = fetch(&client).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage);
    assert_eq!(error.to_string(), "the request budget `test` cannot be stored: disk full");
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn elapsed_time_ends_the_tries_before_the_attempts_do() {
    let server = Server::start(vec![reply(500, "", "")]).await;
    let retry = json!({ "retry": { "max_attempts": 100, "initial_delay": "50ms", "max_delay": "50ms", "max_elapsed": "200ms" } });
    let began = Instant::now();
    assert!(fetch(&client(&server.url(), retry)).await.is_err());
    assert!(began.elapsed() < Duration::from_secs(2) && server.requests().len() < 50);
}

#[tokio::test]
async fn many_workers_share_one_budget() {
    let server = Server::start(vec![ok("[]")]).await;
    let client = client(&server.url(), json!({ "rate_limit": { "requests": 20, "per": "200ms", "concurrency": 4 } }));
    let began = Instant::now();
    let pages = futures::future::join_all((0..40).map(|_| fetch(&client))).await;
    assert!(
        pages
            .iter()
            .all(|page| page.as_ref().is_ok_and(|page| page.received.body == Value::Array(Vec::new()).to_string()))
    );
    assert!(began.elapsed() >= Duration::from_millis(390), "{:?}", began.elapsed());
}
