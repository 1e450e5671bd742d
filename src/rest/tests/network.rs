//! What the network does to a request.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::FutureExt;
use reqwest::dns::Resolve;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::server::{Reply, Server, Then, client, fetch, fetch_with, get, no_tokens, ok, reply};
use crate::progress::ResourceProgress;
use crate::rest::addresses::Resolver;
use crate::rest::budget::Budget;
use crate::rest::client::{Client, Outcome};
use crate::rest::error::{ClientError, ErrorKind, Phase, RequestError};
use crate::rest::transport;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn n01_a_refused_connection_is_tried_again_and_then_named() {
    let port = {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        closed.local_addr().unwrap().port()
    };
    let client = client(&format!("http://127.0.0.1:{port}/"), json!({}));
    let progress = ResourceProgress::default();
    let error = fetch_with(&client, &get("x"), &[], &progress, &CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, RequestError::Connect { .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("refused"), "{error}");
    assert_eq!((progress.requests.get(), progress.retries.get()), (6, 5));
}

#[tokio::test]
async fn n02_connecting_has_a_limit_of_its_own() {
    // A backlog that is full: further connections are neither taken nor refused.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let waiting: Vec<_> =
        std::iter::from_fn(|| std::net::TcpStream::connect_timeout(&address, Duration::from_millis(100)).ok())
            .take(16)
            .collect();
    assert!(waiting.len() < 16, "the backlog never fills on this system");
    let client = client(
        &format!("http://{address}/"),
        json!({
            "connect_timeout": "100ms",
            "retry": { "max_attempts": 1 },
        }),
    );
    match fetch(&client).await.unwrap_err() {
        RequestError::Timeout { phase: Phase::Connect, .. } => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn n03_a_reset_before_the_answer_is_tried_again() {
    let server = Server::start(vec![Reply(Vec::new(), Then::Reset), Reply(Vec::new(), Then::Close), ok("[1]")]).await;
    let page = fetch(&client(&server.url(), json!({}))).await.unwrap();
    assert_eq!((page.value, page.attempts), (Outcome::Accepted(json!([1])), 3));
}

#[tokio::test]
async fn n03_pooled_reset_costs_no_attempt() {
    let script = vec![ok("[1]"), Reply(Vec::new(), Then::Reset), ok("[2]"), Reply(Vec::new(), Then::Reset)];
    let server = Server::start(script).await;
    let client = client(&server.url(), json!({ "retry": { "max_attempts": 1 } }));
    fetch(&client).await.unwrap();
    let page = fetch(&client).await.unwrap();
    assert_eq!((page.value, page.attempts), (Outcome::Accepted(json!([2])), 2));
    let error = fetch(&client).await.unwrap_err();
    assert!(matches!(error, RequestError::Reset { .. }), "{error:?}");
    assert_eq!(server.requests().len(), 5);

    let server = Server::start(vec![Reply(Vec::new(), Then::Reset)]).await;
    let fresh = super::server::client(&server.url(), json!({ "retry": { "max_attempts": 1 } }));
    fetch(&fresh).await.unwrap_err();
    assert_eq!(server.requests().len(), 1, "nothing was pooled yet");
}

#[tokio::test]
async fn n04_a_body_cut_anywhere_is_fetched_again() {
    let whole = ok(r#"[{"id":1},{"id":2}]"#);
    for then in [Then::Close, Then::Reset] {
        for cut in 0..whole.0.len() {
            let server = Server::start(vec![Reply(whole.0[..cut].to_vec(), then), whole.clone()]).await;
            let page = fetch(&client(&server.url(), json!({}))).await;
            let page = page.unwrap_or_else(|error| panic!("cut at {cut}, {then:?}: {error:?}"));
            assert_eq!(page.value, Outcome::Accepted(json!([{"id":1},{"id":2}])), "cut at {cut}");
            assert_eq!(page.attempts, 2, "cut at {cut}");
        }
    }
}

#[tokio::test]
async fn b01_a_chunked_body_without_its_end_is_cut_off() {
    let script = Reply(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n[1]\r\n".to_vec(), Then::Close);
    let server = Server::start(vec![script]).await;
    let error = fetch(&client(&server.url(), json!({}))).await.unwrap_err();
    assert!(matches!(error, RequestError::BodyCut { .. }), "{error:?}");
    assert_eq!(server.requests().len(), 6);
}

#[tokio::test]
async fn n05_silence_in_a_body_ends_at_the_read_timeout() {
    let server =
        Server::start(vec![Reply(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[1".to_vec(), Then::Stall)]).await;
    let client = client(&server.url(), json!({ "read_timeout": "100ms", "retry": { "max_attempts": 1 } }));
    let error = fetch(&client).await.unwrap_err();
    assert!(matches!(error, RequestError::Timeout { phase: Phase::Silence, .. }), "{error:?}");
    assert!(error.to_string().contains("read_timeout"), "{error}");
}

#[tokio::test]
async fn n05_silence_before_the_headers_ends_at_the_total_timeout() {
    let server = Server::start(vec![Reply(Vec::new(), Then::Stall)]).await;
    let client =
        client(&server.url(), json!({ "timeout": "100ms", "retry": { "max_attempts": 2, "initial_delay": "1ms" } }));
    let error = fetch(&client).await.unwrap_err();
    assert!(matches!(error, RequestError::Timeout { phase: Phase::Whole, .. }), "{error:?}");
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn n06_a_slow_drip_ends_at_the_total_timeout() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n ".to_vec();
    let server = Server::start(vec![Reply(head, Then::Drip(Duration::from_millis(10)))]).await;
    let limits = json!({ "timeout": "300ms", "read_timeout": "100ms", "retry": { "max_attempts": 1 } });
    let began = Instant::now();
    let error = fetch(&client(&server.url(), limits)).await.unwrap_err();
    assert!(matches!(error, RequestError::Timeout { phase: Phase::Whole, .. }), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(2));
}

/// What a client says that meets a server which sends these bytes first, and how often it asked. A machine without CA
/// certificates makes no https client at all: then `None`, and that is what the client has said.
async fn https_meets(hello: impl Fn(Vec<u8>) -> Vec<u8> + Send + 'static) -> Option<(RequestError, u64)> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut client_hello = Vec::with_capacity(4096);
            socket.read_buf(&mut client_hello).await.unwrap();
            socket.write_all(&hello(client_hello)).await.unwrap();
            // The client hangs up; how does not matter.
            socket.read_to_end(&mut Vec::new()).await.ok();
        }
    });
    super::server::install_tls();
    let options = super::server::options(&format!("https://localhost:{port}/"), json!({}));
    let budget = Budget::new("test", None, None, super::server::no_store());
    let client = match Client::new("test", &options, budget, no_tokens()) {
        Ok(client) => client,
        Err(ClientError::NoCertificates { .. }) => return None,
        Err(error) => panic!("{error}"),
    };
    let progress = ResourceProgress::default();
    let error = fetch_with(&client, &get("x"), &[], &progress, &CancellationToken::new()).await.unwrap_err();
    Some((error, progress.requests.get()))
}

#[tokio::test]
async fn n11_a_certificate_that_nobody_vouches_for_fails_at_once_and_says_so() {
    let certificate = CertificateDer::from_pem_slice(include_bytes!("self-signed.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("self-signed.key")).unwrap();
    super::server::install_tls();
    let config =
        rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let config = std::sync::Arc::new(config);
    let met = https_meets(move |client_hello| {
        let mut server = rustls::ServerConnection::new(std::sync::Arc::clone(&config)).unwrap();
        server.read_tls(&mut &client_hello[..]).unwrap();
        server.process_new_packets().unwrap();
        let mut hello = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut hello).unwrap();
        }
        hello
    })
    .await;
    let Some((error, requests)) = met else { return };
    assert!(matches!(error, RequestError::Tls { .. }), "{error:?}");
    assert!(error.to_string().contains("certificate"), "{error}");
    assert_eq!(requests, 1);
}

#[tokio::test]
async fn n12_a_port_without_tls_fails_at_once_and_says_so() {
    let met = https_meets(|_| b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()).await;
    let Some((error, requests)) = met else { return };
    assert!(matches!(error, RequestError::Tls { .. }), "{error:?}");
    assert!(error.to_string().contains("does not speak TLS"), "{error}");
    assert_eq!(requests, 1);
}

/// Every name leads to these addresses, one after the other.
fn leading_to(answers: &[&str]) -> Resolver {
    let answers = Mutex::new(answers.iter().map(|text| text.parse().unwrap()).collect::<VecDeque<_>>());
    Resolver::new(Arc::new(move |_| {
        let mut answers = answers.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().copied() };
        async move { Ok(vec![SocketAddr::new(answer.unwrap(), 0)]) }.boxed()
    }))
}

#[tokio::test]
async fn n09_a_name_that_moves_into_the_network_is_not_followed() {
    let server = Server::start(vec![reply(200, "Connection: close\r\n", "[1]")]).await;
    let client_of = |resolver: Resolver| {
        let mut client = client(&format!("http://api.test:{}/v1/", server.port), json!({}));
        client.http = transport::builder(false, &client.options).dns_resolver(resolver).build().unwrap();
        client
    };
    // Inside from the start, as an API of one's own is.
    let inside = client_of(leading_to(&["127.0.0.1"]));
    for _ in 0..2 {
        assert_eq!(fetch(&inside).await.unwrap().value, Outcome::Accepted(json!([1])));
    }
    for (then, said) in [
        ("127.0.0.1", "DNS rebinding"),
        ("::ffff:127.0.0.1", "DNS rebinding"),
        ("169.254.169.254", "no API is expected"),
    ] {
        let resolver = leading_to(&["192.0.2.1", then]);
        // It led outside, where nothing is sent in a test.
        assert_eq!(resolver.resolve("api.test".parse().unwrap()).await.unwrap().count(), 1);
        let error = fetch(&client_of(resolver)).await.unwrap_err();
        assert!(matches!(error, RequestError::Connect { .. }), "{error:?}");
        let error = error.to_string();
        assert!(error.contains(said) && error.contains("allow_private_addresses") && error.contains(then), "{error}");
    }
    assert_eq!(server.requests().len(), 2, "nothing was sent to where a name had moved");
}

#[tokio::test]
async fn n10_where_one_address_of_a_name_is_dead_the_next_one_is_taken_within_the_same_attempt() {
    let server = Server::start(vec![reply(200, "Connection: close\r\n", "[1]")]).await;
    for dead in ["::1", "127.0.0.2"] {
        let found = [dead, "127.0.0.1"].map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).to_vec();
        let resolver = Resolver::new(Arc::new(move |_| {
            let found = found.clone();
            async move { Ok(found) }.boxed()
        }));
        let options = json!({ "retry": { "max_attempts": 1 } });
        let mut client = client(&format!("http://api.test:{}/v1/", server.port), options);
        client.http = transport::builder(false, &client.options).dns_resolver(resolver).build().unwrap();
        assert_eq!(fetch(&client).await.unwrap().value, Outcome::Accepted(json!([1])), "{dead}");
    }
}

#[tokio::test]
async fn n16_what_is_not_http_is_tried_twice_more() {
    for garbage in [
        &b"SSH-2.0-OpenSSH_9.2\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n[1]x",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n[1]\r\n0\r\n\r\n",
    ] {
        let server = Server::start(vec![Reply(garbage.to_vec(), Then::Close)]).await;
        let error = fetch(&client(&server.url(), json!({}))).await.unwrap_err();
        assert!(matches!(error, RequestError::NotHttp { .. }), "{error:?}");
        assert_eq!(server.requests().len(), 3, "{}", String::from_utf8_lossy(garbage));
    }
}

#[tokio::test]
async fn n17_endless_headers_end() {
    let headers = |count| (0..count).map(|n| format!("X-{n}: 1\r\n")).collect::<String>();
    let server = Server::start(vec![reply(200, &headers(120), "[]"), reply(200, &headers(200), "[]")]).await;
    let client = client(&server.url(), json!({}));
    assert!(fetch(&client).await.is_ok());
    let error = fetch(&client).await.unwrap_err();
    assert!(matches!(error, RequestError::NotHttp { .. }), "{error:?}");
}

#[test]
fn the_future_of_a_fetch_can_move_between_threads() {
    fn send<T: Send>(_: T) {}
    let client = client("http://127.0.0.1:1/", json!({}));
    send(fetch(&client));
}
