//! What programs ask: is it alive, is it ready, what has it done.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};

use super::App;
use super::answer::Refusal;
use super::metrics::Format;

/// Without a sign of the writer's thread for so long, the daemon does not pass for alive.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// `/healthz`: the scheduler and the thread that writes have answered lately.
pub(super) async fn healthz(State(app): State<App>) -> (StatusCode, &'static str) {
    let silence = Timestamp::now().duration_since(app.board().alive_at).max(SignedDuration::ZERO).unsigned_abs();
    if silence <= SILENCE_MAX {
        (StatusCode::OK, "alive\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the thread that writes the database does not answer\n")
    }
}

/// `/readyz`: it runs what is due.
pub(super) async fn readyz(State(app): State<App>) -> (StatusCode, &'static str) {
    if app.board().is_stopping { (StatusCode::SERVICE_UNAVAILABLE, "stopping\n") } else { (StatusCode::OK, "ready\n") }
}

/// `/metrics`: for Prometheus, as OpenMetrics where it asks for that.
pub(super) async fn metrics(State(app): State<App>, headers: HeaderMap) -> Result<Response, Refusal> {
    let format = Format::accepted(headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()));
    let board = app.board();
    let text = async {
        let known = app.kept.look(&app.view, &board).await?;
        app.metrics.scrape(&board, &app.view, &known.overview, format).await
    };
    let text = text.await.map_err(|error| Refusal::unreadable(&error))?;
    Ok(([(header::CONTENT_TYPE, format.content_type())], text).into_response())
}
