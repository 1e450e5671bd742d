//! A server that says byte for byte what a test wants, and breaks off as it wants.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// What comes after the bytes of a reply.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Then {
    /// The connection waits for the next request.
    Keep,
    Close,
    Reset,
    /// Nothing, for ever, with the connection open.
    Silence,
}

impl Then {
    /// Lets it happen to a connection; whether that waits for another request.
    pub(crate) async fn happens(self, socket: &TcpStream) -> bool {
        match self {
            Self::Keep => true,
            Self::Close => false,
            Self::Reset => {
                socket.set_zero_linger().unwrap();
                false
            }
            Self::Silence => std::future::pending().await,
        }
    }
}

/// Answers each request with the next reply, and those after the last with the last.
pub(crate) struct FaultServer {
    pub(crate) address: SocketAddr,
    heard: Arc<Mutex<Vec<(usize, String)>>>,
    _runtime: Runtime,
}

impl FaultServer {
    pub(crate) fn start(replies: Vec<(Vec<u8>, Then)>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let heard: Arc<Mutex<Vec<(usize, String)>>> = Arc::default();
        let (log, replies) = (Arc::clone(&heard), Arc::new(replies));
        runtime.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                connections.spawn(serve(socket, connections.len(), Arc::clone(&replies), Arc::clone(&log)));
            }
        });
        Self { address, heard, _runtime: runtime }
    }

    /// The heads of all requests in the order in which they came, each with the number of its connection.
    pub(crate) fn heard(&self) -> Vec<(usize, String)> {
        self.heard.lock().unwrap().clone()
    }
}

async fn serve(
    mut socket: TcpStream,
    connection: usize,
    replies: Arc<Vec<(Vec<u8>, Then)>>,
    log: Arc<Mutex<Vec<(usize, String)>>>,
) {
    while let Some(head) = read_head(&mut socket).await {
        let turn = {
            let mut log = log.lock().unwrap();
            log.push((connection, head));
            log.len() - 1
        };
        let (bytes, then) = &replies[turn.min(replies.len() - 1)];
        if socket.write_all(bytes).await.is_err() {
            return;
        }
        if !then.happens(&socket).await {
            return;
        }
    }
}

/// The head of the next request, unless the other side has gone.
async fn read_head(socket: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(socket.read_u8().await.ok()?);
    }
    Some(String::from_utf8(bytes).unwrap())
}

/// A response with these headers, which frame its body or do not.
pub(crate) fn raw(headers: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\n{headers}\r\n").as_bytes(), body].concat()
}

/// A response whose length is what it says.
pub(crate) fn whole(body: &str) -> Vec<u8> {
    raw(&format!("Content-Length: {}\r\n", body.len()), body.as_bytes())
}
