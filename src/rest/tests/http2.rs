//! HTTP/2: streams and connections that a server ends before they are done. Without TLS, which is nothing to HTTP/2.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::server::{client_with, fetch, no_store, options};
use crate::rest::client::{Client, Outcome};
use crate::rest::error::RequestError;
use crate::rest::transport;

/// What the server does with a stream.
#[derive(Clone, Copy, Debug)]
enum Act {
    Answer,
    /// Ends it before a response.
    Reset(Reason),
    /// Ends it within the body.
    ResetBody(Reason),
    /// Ends the whole connection.
    GoAway(Reason),
    /// Answers, and lets no more streams begin.
    LastAnswer,
}

/// Treats each stream as the script says, and after its end as its last line says.
struct Server {
    port: u16,
    streams: Arc<Mutex<usize>>,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start(script: &[Act]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let script = Arc::new(Mutex::new(VecDeque::from(script.to_vec())));
        let streams: Arc<Mutex<usize>> = Arc::default();
        let count = Arc::clone(&streams);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                connections.spawn(serve(socket, Arc::clone(&script), Arc::clone(&count)));
            }
        });
        Self { port, streams, _tasks: tasks }
    }

    fn client(&self) -> Client {
        let options = options(&format!("http://127.0.0.1:{}/v1/", self.port), json!({}));
        let mut client = client_with(&options, no_store());
        client.http = transport::builder(false, &options).http2_prior_knowledge().build().unwrap();
        client
    }
}

async fn serve(socket: TcpStream, script: Arc<Mutex<VecDeque<Act>>>, streams: Arc<Mutex<usize>>) {
    let mut connection = h2::server::handshake(socket).await.unwrap();
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        *streams.lock().unwrap() += 1;
        let act = {
            let mut script = script.lock().unwrap();
            if script.len() > 1 { script.pop_front() } else { script.front().copied() }
        };
        match act.unwrap() {
            Act::Answer => begin(&mut respond, b"[1]", true),
            Act::Reset(reason) => respond.send_reset(reason),
            Act::ResetBody(reason) => {
                begin(&mut respond, b"[1,", false);
                respond.send_reset(reason);
            }
            Act::GoAway(reason) => connection.abrupt_shutdown(reason),
            Act::LastAnswer => {
                begin(&mut respond, b"[1]", true);
                connection.graceful_shutdown();
            }
        }
    }
}

fn begin(respond: &mut SendResponse<Bytes>, body: &'static [u8], end: bool) {
    let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
    stream.send_data(Bytes::from_static(body), end).unwrap();
}

#[tokio::test]
async fn n18_a_stream_or_a_connection_that_the_server_ends_is_tried_again() {
    for act in [
        Act::Reset(Reason::REFUSED_STREAM),
        Act::Reset(Reason::CANCEL),
        Act::Reset(Reason::INTERNAL_ERROR),
        Act::Reset(Reason::ENHANCE_YOUR_CALM),
        Act::ResetBody(Reason::INTERNAL_ERROR),
        Act::ResetBody(Reason::NO_ERROR),
        Act::GoAway(Reason::NO_ERROR),
        Act::GoAway(Reason::ENHANCE_YOUR_CALM),
        Act::GoAway(Reason::INTERNAL_ERROR),
    ] {
        let server = Server::start(&[act, Act::Answer]).await;
        let page = fetch(&server.client()).await.unwrap_or_else(|error| panic!("{act:?}: {error:?}"));
        assert_eq!((page.value, page.attempts), (Outcome::Accepted(json!([1])), 2), "{act:?}");
        assert_eq!(*server.streams.lock().unwrap(), 2, "{act:?}");
    }
}

#[tokio::test]
async fn n18_a_connection_that_takes_no_more_streams_costs_no_request() {
    let server = Server::start(&[Act::LastAnswer]).await;
    let client = server.client();
    for read in 1..4 {
        let page = fetch(&client).await.unwrap();
        assert_eq!((page.value, *server.streams.lock().unwrap()), (Outcome::Accepted(json!([1])), read));
    }
}

#[tokio::test]
async fn n18_streams_that_are_always_refused_end_with_the_attempts() {
    for act in [Act::Reset(Reason::REFUSED_STREAM), Act::GoAway(Reason::ENHANCE_YOUR_CALM)] {
        let server = Server::start(&[act]).await;
        let error = fetch(&server.client()).await.unwrap_err();
        assert!(matches!(error, RequestError::Reset { .. }), "{act:?}: {error:?}");
        let streams = *server.streams.lock().unwrap();
        assert!((6..=7).contains(&streams), "{act:?}: {streams}");
    }
}
