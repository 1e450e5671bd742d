//! Connections to the status page, within bounds: a client can keep itself waiting, and nobody else.

use std::io;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::listen::Listener;
use crate::tasks::TaskGroup;

/// Connections at once: what a few people with a few browser windows need.
const CONNECTIONS_MAX: usize = 64;

/// How long a connection may take for the head of its next request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest head of a request.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// How long a connection lasts at most: a client that reads nothing does not hold its place for ever. A browser opens
/// its event stream again by itself.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(600);

/// How long answers in flight may take after the stop before their connections are cut.
const STOP_GRACE: Duration = Duration::from_millis(250);

/// The pause after a connection that could not be accepted, for example because there is no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Answers on `listener` until `stop`.
pub(super) async fn serve(listener: Listener, app: Router, stop: CancellationToken) {
    let mut connections = TaskGroup::<(), ()>::default();
    let mut open = 0;
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(((), ended)) = connections.next(), if open > 0 => {
                open -= 1;
                if let Err(panicked) = ended {
                    tracing::error!("status page: {panicked}");
                }
            }
            accepted = listener.accept(), if open < CONNECTIONS_MAX => match accepted {
                Ok(stream) => {
                    connections.spawn((), answer(stream, app.clone(), stop.clone()));
                    open += 1;
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!("status page: a connection could not be accepted: {error}");
                    tokio::time::timeout(ACCEPT_PAUSE, stop.cancelled()).await.ok();
                }
            },
        }
    }
    drop(listener);
    let drained = async { while connections.next().await.is_some() {} };
    // What is left after the grace is cut when the group is dropped.
    tokio::time::timeout(STOP_GRACE, drained).await.ok();
}

/// Answers the requests of one connection.
async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin, app: Router, stop: CancellationToken) {
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES_MAX);
    let connection = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    let mut connection = std::pin::pin!(connection);
    // A connection that breaks concerns its client alone.
    let ended = async {
        tokio::select! {
            _ = connection.as_mut() => {}
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await.ok();
            }
        }
    };
    tokio::time::timeout(CONNECTION_AGE_MAX, ended).await.ok();
}
