//! `/events`: what changes while a page is looked at, as server-sent events. A page without scripts does without.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::MissedTickBehavior;

use super::App;
use super::answer::{Refusal, VERSION};
use super::state::{activity, budget_left};
use crate::board::Board;

/// Windows that are looked at, at once.
pub(super) const LISTENERS_MAX: usize = 16;

/// How often it is looked whether something has changed.
const PERIOD: Duration = Duration::from_secs(1);

/// How often a comment shows that the connection is alive, and finds out that it is not.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// One message.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Message<'a> {
    version: u32,
    /// A run began or ended, or something else is no longer what the page shows: it is worth loading again.
    changed: bool,
    /// Texts that changed, by the `data-v` of the element that they stand in.
    values: BTreeMap<&'a str, &'a str>,
}

/// What is compared from second to second.
#[derive(Debug, Default, PartialEq, Eq)]
struct Shown {
    /// What a page has to be loaded again for.
    shape: String,
    values: BTreeMap<String, String>,
}

impl Shown {
    fn of(board: &Board) -> Self {
        let mut shape = format!("{} {} {:?}", board.is_stopping, board.config.loaded_at, board.config.error);
        let mut values = BTreeMap::new();
        for job in &board.jobs {
            let since = job.running.as_ref().map(|running| running.since);
            // A run can begin and end between two looks.
            shape += &format!("|{:?} {:?} {} {} {since:?}", job.next, job.paused_at, job.failures, job.begun);
            for (id, progress) in job.running.iter().flat_map(|running| &running.progress) {
                values.insert(format!("p:{id}"), activity(progress));
            }
        }
        for budget in &board.budgets {
            values.insert(format!("b:{}", budget.name), budget_left(budget));
        }
        Self { shape, values }
    }

    /// What to say to somebody who saw `before`; none where nothing has changed.
    fn since<'a>(&'a self, before: &Shown) -> Option<Message<'a>> {
        let changed = self.shape != before.shape;
        let values = self.values.iter().filter(|(key, value)| before.values.get(*key) != Some(value));
        let values: BTreeMap<_, _> = values.map(|(key, value)| (key.as_str(), value.as_str())).collect();
        (changed || !values.is_empty()).then_some(Message { version: VERSION, changed, values })
    }
}

/// Answers with a stream that ends when the daemon stops.
pub(super) async fn listen(State(app): State<App>) -> Response {
    let Ok(place) = Arc::clone(&app.listeners).try_acquire_owned() else {
        return Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "Too many windows are open.").into_response();
    };
    Sse::new(events(app, place)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

fn events(app: App, place: OwnedSemaphorePermit) -> impl futures::Stream<Item = Result<Event, Infallible>> {
    async_stream::stream! {
        let _place = place;
        let mut seen = Shown::of(&app.board());
        let hello = Message { version: VERSION, changed: false, values: BTreeMap::new() };
        yield Ok(event(&hello));
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = app.stop.cancelled() => break,
                _ = ticks.tick() => {}
            }
            let shown = Shown::of(&app.board());
            if let Some(message) = shown.since(&seen) {
                yield Ok(event(&message));
            }
            seen = shown;
        }
    }
}

fn event(message: &Message<'_>) -> Event {
    Event::default().data(serde_json::to_string(message).expect("texts and numbers are always JSON"))
}
