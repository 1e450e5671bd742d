//! The read itself: a stream of pages, each with the checkpoint that is true once it is stored.

use std::sync::Arc;

use async_stream::try_stream;
use futures::stream::Stream;

use super::ahead::InFlight;
use super::cursor::{Decided, Start};
use super::decoded::{Decoded, keys_of};
use super::incremental::{CursorError, Track, Tracked};
use super::partition::{PartitionValues, children_of, place_of};
use super::resource::Resource;
use super::select::Selector;
use super::unchanged;
use super::walk::{Walk, WalkError};
use crate::decode;
use crate::page::{Checkpoint, NewValue, Page, PartitionRead, Rows, Run, Slot, Slots, StopReason, Value};
use crate::progress::ResourceProgress;
use crate::rest::client::{Fetched, Outcome, Received};
use crate::rest::error::RequestError;
use crate::rest::link::{link_with_rel, resolve_next};
use crate::rest::paginator::{Evidence, Next, Paginator, PagingError, Position};
use crate::rest::request::RequestParts;
use crate::sabotage::{Sabotage, on};
use crate::tasks;

/// Everything that reading a resource once needs.
#[derive(Debug)]
pub struct Read {
    /// The resource.
    pub resource: Arc<Resource>,
    /// The run that this read is part of. Its token ends the read.
    pub run: Arc<Run>,
    /// The partition that it reads.
    pub partition: Arc<PartitionRead>,
    /// Fields of the parent's record that are put on the rows.
    pub parent_fields: Vec<(String, NewValue)>,
    /// Mark of everything that its rows depend on beside the page; none where it is not asked whether a page has changed.
    pub validity_fingerprint: Option<String>,
    /// The first request.
    pub request: RequestParts,
    /// Pages in flight, where their positions are known in advance.
    pub concurrency: usize,
    /// Its end is the end of the pass.
    pub ends_pass: bool,
    /// Where to start.
    pub start: Start,
    /// Bounds the memory of pages on their way.
    pub slots: Slots,
    /// What others see of the read.
    pub progress: Arc<ResourceProgress>,
}

/// Why a read ended without reaching its end, and where.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct SourceError {
    /// `SOURCE.RESOURCE`, its partition, and where in the pagination it was, for people.
    pub place: String,
    /// What `kind` says, for people: without what the API gave back of the secrets that it was sent.
    pub reason: String,
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
    /// Its records do not say how far the cursor may move.
    #[error(transparent)]
    Cursor(#[from] CursorError),
}

/// Reads a resource from where `read` starts to its end. `track` is the cursor of an incremental one.
///
/// Pages come in the order of the API, also when several are in flight. An error ends the stream; only a page with
/// `end` set says that there is no more.
pub fn pages(read: Read, mut track: Option<Track>) -> impl Stream<Item = Result<Page, SourceError>> + Send {
    try_stream! {
        let (paginator, mut selector) = how(&read);
        let start = read.start.position.clone().unwrap_or_else(|| paginator.first());
        let mut walk = Walk::new(paginator, read.start.position.is_some());
        let mut in_flight = InFlight::new(&read, start);
        loop {
            in_flight.fill(&walk, &selector);
            let Some((position, fetched)) = in_flight.next().await else { break };
            let at = Place { read: &read, position: &position, first: walk.is_first() };
            let mut fetched = fetched.map_err(|error| at.error(error))?;
            let mut next = at.follow(&mut walk, &mut selector, &fetched).map_err(|error| at.error(error))?;
            let tracked = at.look_at(&mut track, &mut fetched).map_err(|error| at.error(error))?;
            if tracked.is_end && matches!(next, Next::Page(_)) {
                next = Next::End(StopReason::CursorBoundary);
            }
            if next == Next::End(StopReason::EmptyPage) {
                // Nothing of it has to be held while the others come.
                fetched.slot = Slot::default();
                while let Some((later, page)) = in_flight.next().await {
                    contradict_end(&position, &later, &page).map_err(|error| at.error(error))?;
                }
            }
            let (next, end) = match next {
                Next::End(reason) => (None, Some(reason)),
                Next::Page(next) => (Some(next), walk.is_full().then_some(StopReason::MaxPages)),
            };
            let complete = end.is_some_and(StopReason::is_complete);
            let checkpoint = Checkpoint {
                position: next.as_ref().filter(|_| !complete).map(json),
                request_fingerprint: read.resource.request_fingerprint.clone(),
                decided: decided_by(&read.resource, &walk, &selector),
                ..cursor_of(track.as_ref(), complete)
            };
            let forget_below = track.as_ref().and_then(|track| track.forget_below(complete));
            let covers = track.as_ref().filter(|_| complete).and_then(Track::covers);
            let covers = covers.map(|range| (at.partition_without_range(), range));
            yield Page { boundary: tracked.boundary, forget_below, covers, ..at.page(fetched, end, checkpoint) };
            match next {
                Some(next) if end.is_none() => in_flight.go_on_at(next),
                _ => break,
            }
        }
    }
}

fn json(position: &Position) -> String {
    serde_json::to_string(position).expect("plain data is JSON")
}

/// What a checkpoint says of the cursor.
fn cursor_of(track: Option<&Track>, complete: bool) -> Checkpoint {
    let Some(track) = track else { return Checkpoint::default() };
    Checkpoint {
        cursor: track.cursor(complete),
        cursor_seen: track.seen(),
        is_final: track.moves_with_pages(),
        goes_on: track.goes_on(),
        ..Checkpoint::default()
    }
}

/// How the resource is paged and where its records are: what an earlier run decided, where that is left open.
fn how(read: &Read) -> (Paginator, Selector) {
    let (resource, decided) = (&read.resource, read.start.decided.clone().unwrap_or_default());
    let paginator = match decided.paginator {
        Some(decided) => decided.limited_by(&resource.paginator),
        None => resource.paginator.clone(),
    };
    let selector = match (decided.data_selector, &resource.selector) {
        (Some(path), Selector::Find) => Selector::Path(path),
        (_, selector) => selector.clone(),
    };
    (paginator, selector)
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
    page: &Result<Fetched<Decoded>, RequestError>,
) -> Result<(), WalkError> {
    match page {
        Ok(Fetched { value: Outcome::Accepted(decoded), .. }) if decoded.rows.received() > 0 => {
            let (end, later) = (describe(end), describe(later));
            Err(PagingError(format!("{end} is empty, but {later} has records")).into())
        }
        _ => Ok(()),
    }
}

/// A page of a read that is being looked at.
struct Place<'r> {
    read: &'r Read,
    position: &'r Position,
    /// Whether it is the first page of this run.
    first: bool,
}

impl Place<'_> {
    fn error(&self, kind: impl Into<SourceErrorKind>) -> SourceError {
        let (resumed, kind) = (self.read.start.position.is_some(), kind.into());
        let masked = |text: &str| self.read.resource.client.masked(&self.read.request, text);
        let (id, partition) = (&self.read.resource.target.id, place_of(&self.read.partition.partition));
        SourceError {
            place: format!("{id}{}", masked(&format!("{partition}: {}", describe(self.position)))),
            reason: masked(&kind.to_string()),
            at_stored_position: self.first && resumed,
            at_first_page: self.first && !resumed,
            counted: matches!(self.position, Position::Page { .. } | Position::Offset { .. }),
            kind,
        }
    }

    /// What follows from it.
    fn follow(&self, walk: &mut Walk, selector: &mut Selector, fetched: &Fetched<Decoded>) -> Result<Next, WalkError> {
        match &fetched.value {
            Outcome::Accepted(decoded) => {
                if let (Some(path), Selector::Find) = (&decoded.found_at, &*selector) {
                    *selector = Selector::Path(path.clone());
                }
                self.step(walk, decoded, &fetched.received)
            }
            // That there are no rows cannot be said of a read that has some.
            Outcome::Ignored if !self.first || self.read.start.position.is_some() => Err(PagingError(
                "a response action says `ignore` in the middle of a read; `stop` is the one that ends it".to_owned(),
            )
            .into()),
            Outcome::Ignored | Outcome::Stopped => Ok(Next::End(StopReason::StoppedByAction)),
            // The read ends as it did when the page came.
            Outcome::Unchanged => {
                Ok(Next::End(self.read.start.known.as_ref().map_or(StopReason::NoNext, |known| known.stop_reason)))
            }
        }
    }

    fn step(&self, walk: &mut Walk, decoded: &Decoded, received: &Received) -> Result<Next, WalkError> {
        let resource = &self.read.resource;
        // The first page is looked at as a whole: `auto` decides by it, and a wrong paginator shows there.
        let body = if self.first { decoded.envelope() } else { None };
        let scalar = |path: &str| match &body {
            Some(body) => body.value(path),
            None => decoded.scalar(path),
        };
        let last_record = |field: &str| {
            let last = decoded.rows.len().checked_sub(1)?;
            match decoded.rows.get(last, field)? {
                Value::Null | Value::Bool(_) | Value::Json(_) | Value::List(_) => None,
                Value::Integer(_, text) | Value::Real(_, text) | Value::Number(text) | Value::Text(text) => {
                    Some(String::from_utf8_lossy(text).into_owned())
                }
            }
        };
        let resolve = |link: &str| {
            let url =
                resolve_next(&received.url, link).map_err(|error| format!("the link to the next page: {error}"))?;
            let url = resource.client.without_credentials(&self.read.request, url);
            let url = url.map_err(|error| format!("the link to the next page: {error}"))?;
            if on(Sabotage::ForeignNextLink) {
                return Ok(url.into());
            }
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
        let undecided = self.first && matches!(walk.paginator(), Paginator::Auto(_));
        let keys = keys_of(&decoded.rows, &resource.target.primary_key);
        let next = walk.step(self.position, &evidence, records, keys)?;
        if let Next::Page(Position::Token { token, .. }) = &next
            && resource.client.holds_secret(&self.read.request, token)
        {
            let reason = "the cursor of the next page holds a secret of the configuration, and positions are stored; \
                          write what is no secret as it is, without ${env:…} or ${file:…}";
            return Err(PagingError(reason.to_owned()).into());
        }
        if undecided {
            say_decision(self.read, walk.paginator(), decoded.rows.received());
        }
        Ok(next)
    }

    /// The partition, without the range that a backfill reads of it.
    fn partition_without_range(&self) -> String {
        PartitionValues::parse(&self.read.partition.partition).unwrap_or_default().without_range()
    }

    /// What its records say of the cursor. Those that do not belong to the read are left out.
    fn look_at(&self, track: &mut Option<Track>, fetched: &mut Fetched<Decoded>) -> Result<Tracked, CursorError> {
        match (track, &mut fetched.value) {
            (Some(track), Outcome::Accepted(decoded)) => track.look_at(&mut decoded.rows),
            _ => Ok(Tracked::default()),
        }
    }

    /// It as it is stored. `end` says that the read ends with it.
    fn page(&self, fetched: Fetched<Decoded>, end: Option<StopReason>, checkpoint: Checkpoint) -> Page {
        let read = self.read;
        read.progress.pages_read.add(1);
        let validity = unchanged::validity(read, self.first, &fetched, end);
        let mut rows = match fetched.value {
            Outcome::Accepted(decoded) => decoded.rows,
            Outcome::Ignored | Outcome::Stopped | Outcome::Unchanged => Rows::default(),
        };
        for (key, value) in &read.parent_fields {
            if !rows.put_on_all(key, value) {
                tracing::warn!(resource = %read.resource.target.id, key, "a page has no room for a field of its parent");
            }
        }
        let steps = &read.resource.steps;
        if !steps.is_empty() {
            rows = tasks::busy(|| steps.apply(&rows));
        }
        decode::nest(&mut rows, &read.resource.target.layout);
        let children = children_of(&read.resource, &read.run, &read.partition.partition, &rows);
        Page {
            run: Arc::clone(&read.run),
            read: Arc::clone(&read.partition),
            position: json(self.position),
            url: fetched.shown_url,
            status: fetched.received.status,
            fetched_at: fetched.fetched_at,
            duration_ms: u64::try_from(fetched.duration.as_millis()).unwrap_or(u64::MAX),
            bytes: fetched.received.body.len() as u64,
            attempts: fetched.attempts,
            rows,
            set_aside: Vec::new(),
            children,
            boundary: Vec::new(),
            forget_below: None,
            covers: None,
            checkpoint,
            end,
            ends_pass: read.ends_pass,
            validity,
            requests: u64::from(fetched.attempts),
            slot: fetched.slot,
        }
    }
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
