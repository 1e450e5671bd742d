//! Bodies: compressed, cut, endless.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use serde_json::json;

use super::server::{Reply, Server, Then, client, fetch, ok, reply};
use crate::rest::client::Outcome;
use crate::rest::error::RequestError;

const GZIP: &str = "Content-Encoding: gzip\r\n";

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn b05_gzip_is_asked_for_and_all_its_members_arrive() {
    let server = Server::start(vec![reply(200, GZIP, [gzip(b"[1,"), gzip(b"2]")].concat())]).await;
    let page = fetch(&client(&server.url(), json!({}))).await.unwrap();
    assert_eq!((page.value, page.received.body.as_ref()), (Outcome::Accepted(json!([1, 2])), &b"[1,2]"[..]));
    assert!(server.requests()[0].contains("accept-encoding: gzip"));
}

#[tokio::test]
async fn b04_broken_gzip_is_asked_for_again_uncompressed() {
    let whole = gzip(b"[1,2]");
    let broken = [whole[..whole.len() - 3].to_vec(), [&whole[..], b"garbage"].concat(), b"[1,2]".to_vec()];
    for bytes in broken {
        let server = Server::start(vec![reply(200, GZIP, bytes), ok("[1,2]")]).await;
        let page = fetch(&client(&server.url(), json!({}))).await.unwrap();
        assert_eq!((page.value, page.attempts), (Outcome::Accepted(json!([1, 2])), 2));
        assert!(server.requests()[1].contains("accept-encoding: identity"));
    }
}

#[tokio::test]
async fn b06_a_gzip_bomb_ends_at_the_limit() {
    let server = Server::start(vec![reply(200, GZIP, gzip(&vec![b' '; 20 << 20]))]).await;
    let error = fetch(&client(&server.url(), json!({ "max_page_bytes": "1MiB" }))).await.unwrap_err();
    assert!(matches!(error, RequestError::TooLarge { .. }), "{error:?}");
    assert!(error.to_string().contains("1MiB"), "{error}");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn b07_an_endless_body_ends_at_the_limit() {
    let mut bytes = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    bytes.extend(std::iter::repeat_n(b' ', 1 << 20));
    let server = Server::start(vec![Reply(bytes, Then::Stall)]).await;
    let error = fetch(&client(&server.url(), json!({ "max_page_bytes": "100KiB" }))).await.unwrap_err();
    assert!(matches!(error, RequestError::TooLarge { .. }), "{error:?}");
}

#[tokio::test]
async fn b02_a_body_shorter_than_its_json_is_asked_for_again() {
    let short = Reply(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n[1,2,3]".to_vec(), Then::Close);
    let server = Server::start(vec![short, ok("[1,2,3]")]).await;
    let page = fetch(&client(&server.url(), json!({}))).await.unwrap();
    assert_eq!(page.value, Outcome::Accepted(json!([1, 2, 3])));
}

#[tokio::test]
async fn b03_a_body_that_ends_with_the_connection_is_marked() {
    let open_ended = Reply(b"HTTP/1.0 200 OK\r\n\r\n[1]".to_vec(), Then::Close);
    let server = Server::start(vec![open_ended, ok("[1]")]).await;
    let client = client(&server.url(), json!({}));
    assert!(!fetch(&client).await.unwrap().received.framed);
    assert!(fetch(&client).await.unwrap().received.framed);
}

#[tokio::test]
async fn an_encoding_that_was_not_asked_for_is_no_page() {
    let server = Server::start(vec![reply(200, "Content-Encoding: br\r\n", "x")]).await;
    let error = fetch(&client(&server.url(), json!({}))).await.unwrap_err();
    assert!(error.to_string().contains("`br`"), "{error}");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn the_status_counts_even_where_the_error_body_is_broken_or_huge() {
    let cut = Reply(b"HTTP/1.1 404 X\r\nContent-Length: 99\r\n\r\n{\"mess".to_vec(), Then::Close);
    let mut endless = b"HTTP/1.1 404 X\r\nContent-Length: 100000000\r\n\r\n".to_vec();
    endless.extend(std::iter::repeat_n(b' ', 1 << 20));
    for broken in [cut, Reply(endless, Then::Stall), reply(404, GZIP, b"no gzip"), reply(404, "", vec![b' '; 1 << 20])]
    {
        let server = Server::start(vec![broken]).await;
        let error = fetch(&client(&server.url(), json!({ "read_timeout": "9s", "timeout": "3s" }))).await.unwrap_err();
        assert!(matches!(error, RequestError::Status { status: 404, message: None, .. }), "{error:?}");
    }
}
