//! The pages of one read that are in flight: one, or several where their positions are known in advance.

use std::collections::VecDeque;

use futures::future::BoxFuture;
use futures::stream::{FuturesOrdered, StreamExt};
use url::Url;

use super::decoded::{Decoded, decode_page};
use super::read::Read;
use super::select::Selector;
use super::unchanged::names_a_next_page;
use super::walk::Walk;
use crate::page::{Room, Turns};
use crate::rest::client::{Call, Fetched, Outcome, Received};
use crate::rest::error::RequestError;
use crate::rest::link::{LinkError, resolve_next};
use crate::rest::paginator::{Paginator, Position, set_named};
use crate::rest::request::{RequestParts, Target};
use crate::sabotage::{Sabotage, on};
use crate::tasks;

/// What the first page of a read is taken to need, before one has come.
const FIRST_PAGE_BYTES: u64 = 64 << 10;

/// Taking a body of this size apart keeps a thread busy for some milliseconds.
const LARGE_BODY_BYTES: usize = 1 << 20;

/// A page, or why there is none, and where it is.
pub(super) type FetchedPage = (Position, Result<Fetched<Decoded>, RequestError>);

/// Pages that were asked for, in the order of the API.
pub(super) struct InFlight<'r> {
    read: &'r Read,
    pages: FuturesOrdered<BoxFuture<'r, FetchedPage>>,
    /// The positions of `pages`.
    planned: VecDeque<Position>,
    /// The one to ask for next.
    ahead: Option<Position>,
    /// A page had another size than planned for: only the one behind it is asked for before there is a new plan.
    replan: bool,
    /// Bytes that the page before needed.
    page_bytes: u64,
    turns: Turns,
}

impl<'r> InFlight<'r> {
    pub(super) fn new(read: &'r Read, start: Position) -> Self {
        Self {
            read,
            pages: FuturesOrdered::new(),
            planned: VecDeque::new(),
            ahead: Some(start),
            replan: false,
            page_bytes: FIRST_PAGE_BYTES,
            turns: Turns::default(),
        }
    }

    /// Asks for as many pages as may be in flight.
    pub(super) fn fill(&mut self, walk: &Walk, selector: &Selector) {
        let read = self.read;
        let window = if walk.is_first() || self.replan { 1 } else { read.concurrency };
        self.replan = false;
        while self.pages.len() < window {
            let Some(position) = self.ahead.take() else { break };
            if window > 1 {
                self.ahead = walk.plan_after(&position);
            }
            self.planned.push_back(position.clone());
            let turn = self.turns.after(self.pages.len());
            let room = Room::new(&read.slots, turn, self.page_bytes, window > 1);
            let page = fetch(read, position, walk.paginator().clone(), selector.clone(), room);
            self.pages.push_back(Box::pin(page));
        }
    }

    /// The next page, when it has come.
    pub(super) async fn next(&mut self) -> Option<FetchedPage> {
        let (position, fetched) = self.pages.next().await?;
        self.planned.pop_front();
        self.turns.next();
        if let Ok(fetched) = &fetched {
            self.page_bytes = bytes_held(fetched);
        }
        Some((position, fetched))
    }

    /// The page to come next. What was asked for in advance is kept where it fits, and else would leave a gap or
    /// overlap.
    pub(super) fn go_on_at(&mut self, next: Position) {
        if self.planned.front().or(self.ahead.as_ref()) != Some(&next) {
            self.replan = !self.planned.is_empty();
            self.pages = FuturesOrdered::new();
            self.planned.clear();
            self.ahead = Some(next);
        }
    }
}

async fn fetch(read: &Read, position: Position, paginator: Paginator, selector: Selector, room: Room) -> FetchedPage {
    let resource = &read.resource;
    let request = match request_at(read, &paginator, &position) {
        Ok(request) => request,
        Err(error) => return (position, Err(error)),
    };
    let call = Call {
        request: &request,
        known: read.start.known.as_ref().filter(|_| position == paginator.first()),
        actions: &resource.actions,
        room: &room,
        progress: &read.progress,
        stop: &read.run.stop,
    };
    let accept = |received: &Received| {
        let decode = || decode_page(received, &resource.format, &selector, &paginator);
        if received.body.len() < LARGE_BODY_BYTES { decode() } else { tasks::busy(decode) }
    };
    let mut fetched = resource.client.fetch(call, accept).await;
    if let Ok(Fetched { value: Outcome::Unchanged, received, slot, attempts, .. }) = &mut fetched
        && names_a_next_page(resource, received)
    {
        // The page is the same, but no longer the only one.
        let asked = *attempts;
        drop(std::mem::take(slot));
        fetched = resource.client.fetch(Call { known: None, ..call }, accept).await;
        if let Ok(fetched) = &mut fetched {
            fetched.attempts += asked;
        }
    }
    if let Ok(fetched) = &mut fetched {
        let bytes = bytes_held(fetched);
        room.shrink(&mut fetched.slot, bytes);
        // A read that is to end hands on what it has.
        read.run.stop.run_until_cancelled(room.grow(&mut fetched.slot, bytes)).await;
    }
    (position, fetched)
}

/// Memory that a page takes until it is stored.
fn bytes_held(fetched: &Fetched<Decoded>) -> u64 {
    let rows = match &fetched.value {
        Outcome::Accepted(decoded) => decoded.heap_bytes(),
        Outcome::Ignored | Outcome::Stopped | Outcome::Unchanged => 0,
    };
    fetched.received.body.len() as u64 + rows
}

fn request_at(read: &Read, paginator: &Paginator, position: &Position) -> Result<RequestParts, RequestError> {
    let unusable = |reason: String| RequestError::Request { reason };
    let mut request = read.request.clone();
    let changes = paginator.changes(position);
    for (name, value) in &changes.params {
        set_named(&mut request.params, name, value);
    }
    for (name, value) in &changes.headers {
        set_named(&mut request.headers, name, value);
    }
    for (path, value) in changes.body {
        request.set_in_body(&path, value).map_err(|error| unusable(error.to_string()))?;
    }
    if let Some(link) = &changes.link {
        request.target = Target::Url(link_at(read.resource.client.base_url(), link)?);
    }
    Ok(request)
}

/// The URL of a link as a position has it. It is not joined as a relative link: its path may begin with two slashes.
pub(super) fn link_at(base: &Url, link: &str) -> Result<Url, LinkError> {
    if on(Sabotage::ForeignNextLink) {
        return resolve_next(base, link);
    }
    resolve_next(base, &format!("{}{link}", base.origin().ascii_serialization()))
}
