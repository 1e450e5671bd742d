//! The practice API over a real socket: all its pages, its faults, its refusals and its end.

mod example_config;
mod faults;
mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::{Ask, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Faults, PracticeOptions, Resource, Served, Size};

fn options() -> PracticeOptions {
    PracticeOptions { token: Some("tide".into()), ..PracticeOptions::default() }
}

fn calm() -> PracticeOptions {
    PracticeOptions { faults: Faults::NONE, ..options() }
}

#[tokio::test]
async fn every_resource_is_read_to_its_end_with_all_rows() {
    let server = Server::start(options()).await;
    let (mut pages, mut rows) = (0, 0);
    for resource in Resource::ALL {
        let walk = server.walk(resource).await;
        assert_eq!(support::copy(resource, &walk.records), server.practice.expected()[resource.name()], "{resource:?}");
        assert_eq!(walk.records.len() as u64, server.practice.positions(resource), "{resource:?}");
        if resource != Resource::Notes {
            (pages, rows) = (pages + walk.pages, rows + Size::FAST.rows(resource));
        }
    }
    assert_eq!((rows, pages), (3_022, 57), "the sizes in the documentation of Size::FAST");
    assert_eq!(server.practice.served(), server.practice.expected());
}

#[test]
fn the_large_size_has_the_rows_and_pages_it_says() {
    let practice = super::Practice::new(PracticeOptions { size: Size::DEMO, ..options() });
    let page_rows = [50, 100, 100, 50, 25, 100, 20, 100];
    let pages =
        Resource::ALL.iter().zip(page_rows).map(|(resource, rows)| practice.positions(*resource).div_ceil(rows));
    let rows = Resource::ALL[..8].iter().map(|resource| Size::DEMO.rows(*resource));
    assert_eq!((rows.sum::<u32>(), pages.sum::<u64>()), (39_977, 526));
}

#[tokio::test]
async fn another_process_goes_on_where_the_first_one_ended() {
    let (first, second) = (Server::start(calm()).await, Server::start(calm()).await);
    for resource in Resource::ALL {
        let mut ask = Some(Ask::first(resource));
        let mut server = [&first, &second].into_iter().cycle();
        let mut records = Vec::new();
        while let Some(now) = ask {
            let answer = server.next().unwrap().send(&now).await;
            assert_eq!(answer.body, first.send(&now).await.body, "{now:?}");
            let (page, next) = answer.page(resource, &now);
            records.extend(page);
            ask = next;
        }
        assert_eq!(support::copy(resource, &records), second.practice.expected()[resource.name()]);
    }
}

#[test]
fn a_seed_means_the_same_data_in_every_process() {
    let practice = super::Practice::new(calm());
    let Served::Keyed(audit) = &practice.expected()["audit"] else { panic!("audit has a key") };
    let entry = json!({
        "stream": "login", "seq": 33, "actor": "system", "action": "delete", "ip": "192.0.2.183", "success": true,
        "at": "2024-01-01T03:20:00Z",
    });
    assert_eq!(audit["login|33"], entry);
    assert_eq!(practice.cursor(Resource::Orders, 300), "LAEAAAAAAADFXo7rkRPXvA==");
}

#[tokio::test]
async fn another_seed_makes_other_data_and_refuses_foreign_cursors() {
    let server = Server::start(calm()).await;
    let other = Server::start(PracticeOptions { seed: 2, ..calm() }).await;
    let ask = Ask::first(Resource::Orders);
    let answer = server.send(&ask).await;
    let (orders, next) = answer.page(Resource::Orders, &ask);
    assert_ne!(orders, other.send(&ask).await.page(Resource::Orders, &ask).0);
    let next = next.unwrap();
    assert_eq!((server.send(&next).await.status, other.send(&next).await.status), (200, 400));
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_in_json() {
    let server = Server::start(calm()).await;
    let orders_cursor = server.send(&Ask::first(Resource::Orders)).await.json()["next_cursor"].clone();
    let audit =
        reqwest::Url::parse_with_params("http://x/v1/audit", [("cursor", orders_cursor.as_str().unwrap())]).unwrap();
    let cases = [
        (Ask::get("/nothing"), 404),
        (Ask::get("/v1/customers/1"), 404),
        (Ask::post("/v1/customers", json!({})), 405),
        (Ask::get("/v1/search"), 405),
        (Ask::get("/v1/customers?page=0"), 400),
        (Ask::get("/v1/customers?page=-1"), 400),
        (Ask::get("/v1/customers?page=two"), 400),
        (Ask::get("/v1/customers?per_page=0"), 400),
        (Ask::get("/v1/customers?per_page=101"), 400),
        (Ask::get("/v1/events?page=99999999999999999999"), 400),
        (Ask::get("/v1/products?offset=-1"), 400),
        (Ask::get("/v1/products?limit=101"), 400),
        (Ask::get("/v1/orders?cursor=garbage"), 400),
        (Ask::get("/v1/orders?cursor="), 400),
        (Ask::get(&format!("{}?{}", audit.path(), audit.query().unwrap())), 400),
        (Ask::get("/v1/tickets?after=%F0%9F%99%82"), 400),
        (Ask::get("/v1/private/notes?starting_after=76"), 400),
        (Ask::post("/v1/search", json!({})), 400),
        (Ask::post("/v1/search", json!([])), 400),
        (Ask::post("/v1/search", json!({ "query": "x", "cursor": 7 })), 400),
        (Ask::post("/v1/search", json!({ "query": "x", "cursor": "garbage" })), 400),
        (Ask::post("/v1/search", json!({ "query": "x", "limit": 101 })), 400),
        (Ask::post("/v1/search", json!({ "query": "x", "limit": "many" })), 400),
    ];
    for (ask, status) in cases {
        let answer = server.send(&ask).await;
        assert_eq!((answer.status, answer.header("content-type")), (status, Some("application/json")), "{ask:?}");
        assert_eq!(answer.json()["error"]["status"], status, "{ask:?}");
        assert!(answer.json()["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{ask:?}");
    }
}

#[tokio::test]
async fn beyond_the_end_there_is_an_empty_page() {
    let server = Server::start(calm()).await;
    let max = u64::MAX;
    for (path, list) in [
        (format!("/v1/customers?page={max}&per_page=100"), "/data"),
        ("/v1/events?page=10".into(), ""),
        ("/v1/products?offset=240".into(), "/products"),
        (format!("/v1/products?offset={max}"), "/products"),
    ] {
        let answer = server.send(&Ask::get(&path)).await;
        assert_eq!((answer.status, answer.json().pointer(list)), (200, Some(&json!([]))), "{path}");
        assert!(!answer.header("link").unwrap_or("").contains("next"), "{path}");
    }
}

#[tokio::test]
async fn notes_open_for_their_token_alone() {
    let server = Server::start(calm()).await;
    let locked = Server::start(PracticeOptions { token: None, ..calm() }).await;
    let cases = [
        (&server, Some("Bearer tide"), 200),
        (&server, Some("Bearer ebb"), 401),
        (&server, Some("tide"), 401),
        (&server, None, 401),
        (&locked, Some("Bearer tide"), 401),
        (&locked, None, 401),
    ];
    for (server, authorization, status) in cases {
        let ask = Ask { authorization: authorization.map(str::to_owned), ..Ask::first(Resource::Notes) };
        let answer = server.send(&ask).await;
        assert_eq!(answer.status, status, "{authorization:?}");
        assert_eq!(answer.header("www-authenticate"), (status == 401).then_some("Bearer"));
        assert!(answer.json().is_object());
    }
}

#[tokio::test]
async fn the_index_lists_every_endpoint() {
    let server = Server::start(calm()).await;
    for path in ["/", "/v1/"] {
        let index = server.send(&Ask::get(path)).await.json();
        let paths: Vec<_> =
            index["endpoints"].as_array().unwrap().iter().map(|e| e["path"].as_str().unwrap()).collect();
        assert_eq!(paths, Resource::ALL.map(Resource::path));
    }
}

#[tokio::test]
async fn orders_hold_the_values_that_are_easily_broken() {
    let server = Server::start(calm()).await;
    let orders = server.walk(Resource::Orders).await.records;
    let some = |what: &str, is: fn(&Value) -> bool| assert!(orders.iter().any(is), "no order with {what}");
    some("an integer beyond 63 bits", |o| o["warehouse_ref"].as_u64().is_some_and(|n| i64::try_from(n).is_err()));
    some("a small integer", |o| o["warehouse_ref"].is_i64());
    some("a null", |o| o["note"].is_null());
    some("an empty text", |o| o["note"] == "");
    some("a line break", |o| o["note"].as_str().is_some_and(|t| t.contains('\n')));
    some("a quote", |o| o["note"].as_str().is_some_and(|t| t.contains('"')));
    some("a backslash", |o| o["note"].as_str().is_some_and(|t| t.contains('\\')));
    some("a text beyond the basic plane", |o| o["note"].as_str().is_some_and(|t| t.contains('👋')));
    some("cents", |o| o["total"].as_f64().is_some_and(|t| t.fract() != 0.0));
    some("true", |o| o["gift"] == true);
    some("several items", |o| o["items"].as_array().is_some_and(|items| items.len() > 1));
    assert!(orders.iter().all(|o| o["shipping"]["geo"]["lat"].is_f64()));
}

#[tokio::test]
async fn tickets_come_in_ascii_and_mean_the_same() {
    let server = Server::start(calm()).await;
    let answer = server.send(&Ask::first(Resource::Tickets)).await;
    assert!(answer.body.is_ascii());
    assert!(answer.json()["results"].to_string().contains('📷'), "a surrogate pair is one character");
}

#[tokio::test]
async fn requests_are_listed_in_their_order_with_rows_and_status() {
    let server = Server::start(calm()).await;
    server.send(&Ask::get("/v1/products?offset=230&limit=40")).await;
    server.send(&Ask::post("/v1/search", json!({ "query": "x", "limit": 3 }))).await;
    server.send(&Ask::get("/v1/orders?cursor=garbage")).await;
    let requests = server.practice.requests();
    let seen: Vec<_> = requests.iter().map(|r| (r.method.as_str(), r.path.as_str(), r.status, r.rows)).collect();
    let wanted = [
        ("GET", "/v1/products?offset=230&limit=40", 200, 10),
        ("POST", "/v1/search", 200, 3),
        ("GET", "/v1/orders?cursor=garbage", 400, 0),
    ];
    assert_eq!(seen, wanted);
    assert!(requests.is_sorted_by_key(|request| request.at));
    let Served::Keyed(products) = &server.practice.served()["products"] else { panic!("products have a key") };
    assert_eq!(products.keys().next().unwrap(), "SKU-00230");
    assert_eq!(products.len(), 10);
}

#[tokio::test]
async fn stop_ends_serve_whatever_the_clients_hold_open() {
    let server = Server::start(calm()).await;
    server.send(&Ask::first(Resource::Regions)).await; // leaves a keep-alive connection behind
    let silent = TcpStream::connect(server.address).await.unwrap();
    let practice = server.practice.clone();
    server.stop().await;
    drop(silent);
    assert_eq!(practice.requests().len(), 1);
}

#[tokio::test]
async fn stop_cuts_a_request_in_flight() {
    let (server, mut socket) = request_in_flight().await;
    let practice = server.practice.clone();
    server.stop().await;
    assert_eq!(rest_of(&mut socket).await, "");
    let requests = practice.requests();
    assert_eq!(requests.iter().map(|r| (r.path.as_str(), r.status)).collect::<Vec<_>>(), [("/v1/regions", 0)]);
}

#[tokio::test]
async fn a_serve_that_is_dropped_leaves_no_connection_behind() {
    let (server, mut socket) = request_in_flight().await;
    drop(server);
    assert_eq!(rest_of(&mut socket).await, "");
}

/// A server that takes an hour to answer, and a request that it has received.
async fn request_in_flight() -> (Server, TcpStream) {
    let server = Server::start(PracticeOptions { latency: Duration::from_secs(3_600), ..calm() }).await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(b"GET /v1/regions HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let arrived = async {
        while server.practice.requests().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), arrived).await.expect("a request is listed when it comes");
    (server, socket)
}

/// What still arrives until the connection ends, which has to be soon.
async fn rest_of(socket: &mut TcpStream) -> String {
    let mut rest = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(5), socket.read_to_end(&mut rest)).await;
    // Closed or reset are both an end.
    end.expect("the connection stays open").ok();
    String::from_utf8(rest).unwrap()
}
