//! The read itself: a stream of pages, each with the checkpoint that is true once it is stored.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_stream::try_stream;
use futures::stream::{FuturesOrdered, Stream, StreamExt};
use serde_json::Value as Json;

use super::cursor::{Decided, Start};
use super::decoded::{Decoded, decode_page, keys_of};
use super::resource::Resource;
use super::select::{Body, Selector};
use super::walk::{Walk, WalkError};
use crate::page::{Checkpoint, Page, Rows, Run, Slot, Slots, StopReason, Value};
use crate::progress::ResourceProgress;
use crate::rest::client::{Call, Fetched, Outcome, Received};
use crate::rest::error::RequestError;
use crate::rest::link::{link_with_rel, resolve_next};
use crate::rest::paginator::{Evidence, Next, Paginator, PagingError, Position, set_at, set_named};
use crate::rest::request::{RequestParts, Target as RequestTarget};

/// What the first page of a read is taken to need, before one has come.
const FIRST_PAGE_BYTES_ESTIMATE: u64 = 64 << 10;

/// Everything that reading a resource once needs.
#[derive(Debug)]
pub struct Read {
    /// The resource.
    pub resource: Arc<Resource>,
    /// The run that this read is part of. Its token ends the read.
    pub run: Arc<Run>,
    /// Where to start.
    pub start: Start,
    /// Bounds the memory of pages on their way.
    pub slots: Slots,
    /// What others see of the read.
    pub progress: Arc<ResourceProgress>,
}

/// Why a read ended without reaching its end, and where.
#[derive(Debug, thiserror::Error)]
#[error("{resource}: {position}: {kind}")]
pub struct SourceError {
    /// `SOURCE.RESOURCE`.
    pub resource: String,
    /// Where in the pagination it was, for people.
    pub position: String,
    /// Whether that was the first request of this run, at a position that an earlier one had stored.
    pub at_stored_position: bool,
    /// Whether it was the first page of the read.
    pub at_first_page: bool,
    /// Whether the position is a number that we made, not a token or a link that the API gave.
    pub counted: bool,
    /// What went wrong.
    pub kind: SourceErrorKind,
}

/// What went wrong with a page.
#[derive(Debug, thiserror::Error)]
pub enum SourceErrorKind {
    /// The page could not be fetched.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The page says something that cannot be followed.
    #[error(transparent)]
    Walk(#[from] WalkError),
}

/// Reads a resource from where `read` starts to its end.
///
/// Pages come in the order of the API, also when several are in flight. An error ends the stream; only a page with
/// `end` set says that there is no more.
pub fn pages(read: Read) -> impl Stream<Item = Result<Page, SourceError>> + Send {
    try_stream! {
        let decided = read.start.decided.clone().unwrap_or_default();
        let resumed = read.start.position.is_some();
        let paginator = decided.paginator.clone().map_or_else(
            || read.resource.paginator.clone(),
            |decided| decided.limited_by(&read.resource.paginator),
        );
        let mut selector = match &decided.data_selector {
            Some(path) if matches!(read.resource.selector, Selector::Find) => Selector::Path(path.clone()),
            _ => read.resource.selector.clone(),
        };
        let mut ahead = Some(read.start.position.clone().unwrap_or_else(|| paginator.first()));
        let mut walk = Walk::new(paginator, resumed);
        let estimate = AtomicU64::new(FIRST_PAGE_BYTES_ESTIMATE);
        let mut in_flight = FuturesOrdered::new();
        let mut planned = VecDeque::new();
        // A page of another size than planned for: only the page behind it is asked for before there is a new plan.
        let mut replan = false;
        loop {
            let window = if walk.is_first() || replan { 1 } else { read.resource.concurrency };
            replan = false;
            while in_flight.len() < window {
                let Some(position) = ahead.take() else { break };
                if window > 1 {
                    ahead = walk.plan_after(&position);
                }
                planned.push_back(position.clone());
                in_flight.push_back(fetch(&read, position, walk.paginator().clone(), selector.clone(), &estimate));
            }
            let Some((position, fetched)) = in_flight.next().await else { break };
            planned.pop_front();
            let first = walk.is_first();
            let place = |kind: SourceErrorKind| SourceError {
                resource: read.resource.target.id.to_string(),
                position: describe(&position),
                at_stored_position: first && resumed,
                at_first_page: first && !resumed,
                counted: matches!(position, Position::Page { .. } | Position::Offset { .. }),
                kind,
            };
            let mut fetched = fetched.map_err(|error| place(error.into()))?;
            let next = match &fetched.value {
                Outcome::Accepted(decoded) => {
                    if let (Some(path), Selector::Find) = (&decoded.found_at, &selector) {
                        selector = Selector::Path(path.clone());
                    }
                    follow(&mut walk, &read, &position, decoded, &fetched.received)
                }
                // That there are no rows cannot be said of a read that has some.
                Outcome::Ignored if !first || resumed => Err(WalkError::from(PagingError(
                    "a response action says `ignore` in the middle of a read; `stop` is the one that ends it".to_owned(),
                ))),
                Outcome::Ignored | Outcome::Stopped => Ok(Next::End(StopReason::StoppedByAction)),
            };
            let next = next.map_err(|error| place(error.into()))?;
            if next == Next::End(StopReason::EmptyPage) {
                // Nothing of it has to be held while the others come.
                fetched.slot = Slot::default();
                while let Some((later, page)) = in_flight.next().await {
                    contradict_end(&position, &later, &page).map_err(|error| place(error.into()))?;
                }
            }
            let page_limit = walk.is_full();
            let end = match &next {
                Next::End(reason) => Some(*reason),
                Next::Page(_) if page_limit => Some(StopReason::MaxPages),
                Next::Page(_) => None,
            };
            let next = match next {
                Next::Page(position) => Some(position),
                Next::End(_) => None,
            };
            let now_decided = decided_by(&read.resource, &walk, &selector);
            yield page(&read, &position, fetched, end, next.as_ref(), now_decided, &estimate);
            match next {
                Some(next) if end.is_none() => {
                    if planned.front().or(ahead.as_ref()) != Some(&next) {
                        // What was asked for in advance would leave a gap, or overlap.
                        replan = !planned.is_empty();
                        in_flight = FuturesOrdered::new();
                        planned.clear();
                        ahead = Some(next);
                    }
                }
                _ => break,
            }
        }
    }
}

/// A position as a person would name it.
#[must_use]
pub fn describe(position: &Position) -> String {
    const TOKEN_CHARS_SHOWN: usize = 24;
    const LINK_CHARS_SHOWN: usize = 80;
    match position {
        Position::First {} => "first page".to_owned(),
        Position::Page { page } => format!("page {page}"),
        Position::Offset { offset } => format!("offset {offset}"),
        Position::Token { token, .. } => format!("page at cursor {}", shortened(token, TOKEN_CHARS_SHOWN)),
        Position::Link { url } => format!("page at {}", shortened(url, LINK_CHARS_SHOWN)),
    }
}

fn shortened(text: &str, chars_max: usize) -> String {
    let shown: String = text.chars().take(chars_max).collect();
    if shown.len() < text.len() { format!("{shown}…") } else { shown }
}

/// An empty page is no end when one behind it, which was already in flight, has records. One that failed says nothing:
/// behind the end, it may.
fn contradict_end(
    end: &Position,
    later: &Position,
    page: &Result<Fetched<Decoded, Slot>, RequestError>,
) -> Result<(), WalkError> {
    match page {
        Ok(Fetched { value: Outcome::Accepted(decoded), .. }) if decoded.rows.received() > 0 => {
            let (end, later) = (describe(end), describe(later));
            Err(PagingError(format!("{end} is empty, but {later} has records")).into())
        }
        _ => Ok(()),
    }
}

type FetchedPage = (Position, Result<Fetched<Decoded, Slot>, RequestError>);

async fn fetch(
    read: &Read,
    position: Position,
    paginator: Paginator,
    selector: Selector,
    estimate: &AtomicU64,
) -> FetchedPage {
    let resource = &read.resource;
    let request = match request_at(resource, &paginator, &position) {
        Ok(request) => request,
        Err(error) => return (position, Err(error)),
    };
    let reserve = read.slots.take(estimate.load(Ordering::Relaxed));
    let call = Call { request: &request, actions: &resource.actions, progress: &read.progress, stop: &read.run.stop };
    let fetched = resource.client.fetch(call, reserve, |received| decode_page(received, &selector, &paginator)).await;
    (position, fetched)
}

fn request_at(resource: &Resource, paginator: &Paginator, position: &Position) -> Result<RequestParts, RequestError> {
    let unusable = |reason: String| RequestError::Request { reason };
    let mut request = resource.request.clone();
    let changes = paginator.changes(position);
    for (name, value) in &changes.params {
        set_named(&mut request.params, name, value);
    }
    for (name, value) in &changes.headers {
        set_named(&mut request.headers, name, value);
    }
    for (path, value) in changes.body {
        set_at(request.json.get_or_insert(Json::Null), &path, value).map_err(|error| unusable(error.to_string()))?;
    }
    if let Some(link) = &changes.link {
        // Not joined as a relative link: its path may begin with two slashes.
        let base = resource.client.base_url();
        let url = resolve_next(base, &format!("{}{link}", base.origin().ascii_serialization()))?;
        request.target = RequestTarget::Url(url);
    }
    Ok(request)
}

/// What follows from a page.
fn follow(
    walk: &mut Walk,
    read: &Read,
    position: &Position,
    decoded: &Decoded,
    received: &Received,
) -> Result<Next, WalkError> {
    // The first page is looked at as a whole: `auto` decides by it, and a wrong paginator shows there.
    let body = if walk.is_first() { Body::parse(decoded.text.as_str()).ok() } else { None };
    let scalar = |path: &str| match &body {
        Some(body) => body.value(path),
        None => decoded.scalar(path),
    };
    let last_record = |field: &str| {
        let last = decoded.rows.len().checked_sub(1)?;
        match decoded.rows.get(last, field)? {
            Value::Null | Value::Bool(_) | Value::Json(_) => None,
            Value::Integer(_, text) | Value::Real(_, text) | Value::Number(text) | Value::Text(text) => {
                Some(String::from_utf8_lossy(text).into_owned())
            }
        }
    };
    let resolve = |link: &str| {
        let url = resolve_next(&received.url, link).map_err(|error| format!("the link to the next page: {error}"))?;
        let url = read.resource.client.without_credentials(&read.resource.request, url);
        let url = url.map_err(|error| format!("the link to the next page: {error}"))?;
        Ok(url[url::Position::BeforePath..].to_owned())
    };
    let link = |rel: &str| link_with_rel(&received.headers, rel);
    let leaves = body.as_ref().map(|body| body.leaves(&decoded.records_at())).unwrap_or_default();
    let evidence = Evidence {
        headers: &received.headers,
        records: decoded.rows.received(),
        first_page_records: None,
        scalar: &scalar,
        last_record: &last_record,
        resolve: &resolve,
        link: &link,
        leaves: &leaves,
    };
    let records = decoded.records.clone().map_or_else(|| received.body.clone(), |range| decoded.text.slice(range));
    let undecided = walk.is_first() && matches!(walk.paginator(), Paginator::Auto(_));
    let keys = keys_of(&decoded.rows, &read.resource.target.primary_key);
    let next = walk.step(position, &evidence, records, keys)?;
    if undecided {
        say_decision(read, walk.paginator(), decoded.rows.received());
    }
    Ok(next)
}

/// `auto` says what it found; and where it found nothing on a page that looks full, that there may be more.
fn say_decision(read: &Read, paginator: &Paginator, records: u64) {
    let resource = &read.resource.target.id;
    tracing::info!(%resource, paginator = paginator.kind(), "paginator = auto has decided");
    if matches!(paginator, Paginator::SinglePage(_)) && records >= 10 && records.is_multiple_of(10) {
        tracing::warn!(
            %resource,
            records,
            "paginator = auto found no sign of a second page, but the first looks full; set `paginator` if there is more"
        );
    }
}

/// What the first responses have decided, as it is stored.
fn decided_by(resource: &Resource, walk: &Walk, selector: &Selector) -> Option<String> {
    // That a first page showed no sign of another one decides nothing for the day when there is one.
    let paginator = matches!(resource.paginator, Paginator::Auto(_))
        .then(|| walk.paginator().clone())
        .filter(|decided| !matches!(decided, Paginator::SinglePage(_)));
    let data_selector = match (&resource.selector, selector) {
        (Selector::Find, Selector::Path(path)) => Some(path.clone()),
        _ => None,
    };
    if paginator.is_none() && data_selector.is_none() {
        return None;
    }
    let decided = Decided { request_fingerprint: resource.request_fingerprint.clone(), paginator, data_selector };
    Some(serde_json::to_string(&decided).expect("plain data is JSON"))
}

fn page(
    read: &Read,
    position: &Position,
    fetched: Fetched<Decoded, Slot>,
    end: Option<StopReason>,
    next: Option<&Position>,
    decided: Option<String>,
    estimate: &AtomicU64,
) -> Page {
    let json = |position: &Position| serde_json::to_string(position).expect("plain data is JSON");
    let bytes = fetched.received.body.len() as u64;
    estimate.store(bytes.max(1), Ordering::Relaxed);
    let mut slot = fetched.slot;
    read.slots.top_up(&mut slot, bytes);
    read.progress.pages_read.add(1);
    let rows = match fetched.value {
        Outcome::Accepted(decoded) => decoded.rows,
        Outcome::Ignored | Outcome::Stopped => Rows::default(),
    };
    let complete = end.is_some_and(StopReason::is_complete);
    Page {
        run: Arc::clone(&read.run),
        partition: "".into(),
        position: json(position),
        url: fetched.shown_url,
        status: fetched.received.status,
        fetched_at: fetched.fetched_at,
        duration_ms: u64::try_from(fetched.duration.as_millis()).unwrap_or(u64::MAX),
        bytes,
        attempts: fetched.attempts,
        rows,
        checkpoint: Checkpoint {
            position: next.filter(|_| !complete).map(json),
            request_fingerprint: read.resource.request_fingerprint.clone(),
            decided,
        },
        end,
        requests: u64::from(fetched.attempts),
        slot,
    }
}
