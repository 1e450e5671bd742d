//! The scripted server, and a client with short delays to talk to it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::page::{Room, Slots, Turns};
use crate::progress::ResourceProgress;
use crate::rest::ClientOptions;
use crate::rest::action::{CompiledAction, ResponseAction};
use crate::rest::budget::{Budget, BudgetState, SaveBudget};
use crate::rest::client::{Call, Client, Fetched, Received, Rejected};
use crate::rest::error::RequestError;
use crate::rest::request::{RequestParts, Target};
use crate::template::Template;
use crate::units::ByteSize;

/// What the server does after the bytes of a reply.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Then {
    Keep,
    Close,
    Reset,
    Stall,
    /// Repeats its last byte for ever, with this much time in between.
    Drip(Duration),
}

#[derive(Clone, Debug)]
pub(super) struct Reply(pub(super) Vec<u8>, pub(super) Then);

/// A reply with a length, after which the connection stays open.
pub(super) fn reply(status: u16, headers: &str, body: impl AsRef<[u8]>) -> Reply {
    let body = body.as_ref();
    let mut bytes = format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    Reply(bytes, Then::Keep)
}

pub(super) fn ok(body: &str) -> Reply {
    reply(200, "Content-Type: application/json\r\n", body)
}

/// Answers each request with the next reply, and after the last with the last again.
pub(super) struct Server {
    pub(super) port: u16,
    requests: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Server {
    pub(super) async fn start(script: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        let (log, script) = (Arc::clone(&requests), Arc::new(script));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                connections.spawn(serve(socket, Arc::clone(&script), Arc::clone(&log)));
            }
        });
        Self { port, requests, _tasks: tasks }
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/v1/", self.port)
    }

    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn serve(mut socket: TcpStream, script: Arc<Vec<Reply>>, log: Arc<Mutex<Vec<String>>>) {
    while let Some(request) = read_request(&mut socket).await {
        let turn = {
            let mut log = log.lock().unwrap();
            log.push(request);
            log.len() - 1
        };
        let Reply(bytes, then) = &script[turn.min(script.len() - 1)];
        if socket.write_all(bytes).await.is_err() {
            return;
        }
        match then {
            Then::Keep => {}
            Then::Close => return,
            Then::Reset => return socket.set_zero_linger().unwrap(),
            Then::Stall => std::future::pending().await,
            Then::Drip(pause) => loop {
                tokio::time::sleep(*pause).await;
                if socket.write_all(&bytes[bytes.len() - 1..]).await.is_err() {
                    return;
                }
            },
        }
    }
}

async fn read_request(socket: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if bytes.len() >= end + 4 + length.map_or(0, |length| length.parse().unwrap()) {
                return Some(String::from_utf8_lossy(&bytes).into_owned());
            }
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

pub(super) fn no_store() -> SaveBudget {
    Arc::new(|_, _| async { Ok(()) }.boxed())
}

/// A store that remembers, for budgets whose saves matter.
pub(super) fn store() -> (SaveBudget, Arc<Mutex<Vec<BudgetState>>>) {
    let saved = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&saved);
    let save: SaveBudget = Arc::new(move |_, state| {
        kept.lock().unwrap().push(state);
        async { Ok(()) }.boxed()
    });
    (save, saved)
}

/// Options with delays of milliseconds; `extra` is laid over them.
pub(in crate::rest) fn options(base_url: &str, extra: Value) -> ClientOptions {
    let mut options = json!({
        "base_url": base_url,
        "retry": { "initial_delay": "1ms", "max_delay": "5ms" },
        "connect_timeout": "2s",
        "read_timeout": "2s",
        "timeout": "5s",
    });
    for (key, value) in extra.as_object().cloned().unwrap_or_default() {
        options[key] = value;
    }
    serde_json::from_value(options).unwrap()
}

/// Another test may have been first, which is as well.
pub(super) fn install_tls() {
    rustls::crypto::ring::default_provider().install_default().ok();
}

pub(super) fn client_with(options: &ClientOptions, save: SaveBudget) -> Client {
    install_tls();
    let budget = Budget::new("test", options.rate_limit.as_ref(), None, save);
    Client::new("test", options, budget).unwrap()
}

pub(super) fn client(base_url: &str, extra: Value) -> Client {
    client_with(&options(base_url, extra), no_store())
}

pub(super) fn get(path: &str) -> RequestParts {
    RequestParts {
        method: Method::GET,
        target: Target::Path(Template::text(path)),
        params: Vec::new(),
        headers: Vec::new(),
        json: None,
        form: None,
        secrets: Vec::new(),
    }
}

pub(super) fn actions(rules: Value) -> Vec<CompiledAction> {
    let rules: Vec<ResponseAction> = serde_json::from_value(rules).unwrap();
    rules.iter().map(|rule| CompiledAction::new(rule).unwrap()).collect()
}

/// A page is a JSON array.
pub(super) fn json_list(received: &Received) -> Result<Value, Rejected> {
    match serde_json::from_slice(&received.body) {
        Ok(Value::Array(items)) => Ok(Value::Array(items)),
        Ok(_) => Err(Rejected { reason: "no list".to_owned(), retry: false }),
        Err(error) => Err(Rejected { reason: format!("no JSON: {error}"), retry: true }),
    }
}

pub(super) type Page = Result<Fetched<Value>, RequestError>;

/// Room for a small page in these slots.
pub(super) fn room(slots: &Slots) -> Room {
    Room::new(slots, Turns::default().after(0), 1, false)
}

/// Fetches with everything that matters given.
pub(super) async fn fetch_with(
    client: &Client,
    request: &RequestParts,
    actions: &[CompiledAction],
    progress: &ResourceProgress,
    stop: &CancellationToken,
) -> Page {
    let room = room(&Slots::new(ByteSize::mebi(64)));
    client.fetch(Call { request, known: None, actions, room: &room, progress, stop }, json_list).await
}

pub(super) async fn fetch(client: &Client) -> Page {
    fetch_with(client, &get("items"), &[], &ResourceProgress::default(), &CancellationToken::new()).await
}
