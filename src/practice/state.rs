//! What one process remembers: which requests came, what was served, which faults are spent. From that and the seed
//! follows the judge's view of what a copy has to hold.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::Value;

use super::Practice;
use super::data::{Resource, Size, key_text, row};
use super::paging::Slice;

/// How many requests are remembered: more than any test sends, some forty megabytes at the most.
const REQUESTS_MAX: usize = 200_000;

/// The request for `customers` that is rate limited: after the first page, long before the last.
const RATE_LIMITED_REQUEST: u64 = 3;

/// The pages of `events` that fail once: two in a row and a later one.
const FAILING_PAGES: [u64; 3] = [2, 3, 6];

/// The ticket that changes; it sits on the first page.
const CHANGING_TICKET: u64 = 7;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestRecord {
    /// `GET`, `POST` …
    pub method: String,
    /// Path and query, as they came.
    pub path: String,
    /// The status of the answer; 0 while there is none, and for good where the client left before.
    pub status: u16,
    /// How many rows the answer held.
    pub rows: usize,
    /// When the request came in.
    pub at: Instant,
}

/// The rows of one resource, as a judge wants to compare them.
#[derive(Clone, Debug, PartialEq)]
pub enum Served {
    /// The last version of each row by its key, the key columns joined by `|` (`42`, `billing|17`).
    Keyed(BTreeMap<String, Value>),
    /// Rows without a key in the order of the API, each one once, however often it was asked for.
    Appended(Vec<Value>),
}

#[derive(Debug)]
pub(super) struct State {
    requests: VecDeque<RequestRecord>,
    requests_forgotten: u64,
    /// By resource and row: the version that was served last; 0 for a row that never was.
    versions: Vec<Vec<u8>>,
    customer_requests: u64,
    failed_pages: BTreeSet<u64>,
    ticket_has_changed: bool,
}

impl State {
    pub(super) fn new(size: &Size) -> State {
        State {
            requests: VecDeque::new(),
            requests_forgotten: 0,
            versions: Resource::ALL.iter().map(|resource| vec![0; size.rows(*resource) as usize]).collect(),
            customer_requests: 0,
            failed_pages: BTreeSet::new(),
            ticket_has_changed: false,
        }
    }
}

impl Practice {
    /// What this process has served, by the name of the resource. A page counts from the moment of its answer, whether
    /// or not the client was still there to read it.
    #[must_use]
    pub fn served(&self) -> BTreeMap<&'static str, Served> {
        let versions = self.state().versions.clone();
        self.judge(|resource, index| versions[resource as usize][index as usize])
    }

    /// What a complete copy of everything has to hold, by the name of the resource, whichever process served it.
    #[must_use]
    pub fn expected(&self) -> BTreeMap<&'static str, Served> {
        let changing = self.changing_ticket();
        self.judge(|resource, index| if resource == Resource::Tickets && changing == Some(index) { 2 } else { 1 })
    }

    /// The newest 200,000 requests in the order in which they came.
    #[must_use]
    pub fn requests(&self) -> Vec<RequestRecord> {
        self.state().requests.iter().cloned().collect()
    }

    /// The rows whose version is not 0, in that version.
    fn judge(&self, version: impl Fn(Resource, u64) -> u8) -> BTreeMap<&'static str, Served> {
        let view = |resource: Resource| {
            let rows = (0..u64::from(self.options.size.rows(resource)))
                .map(|index| (index, version(resource, index)))
                .filter(|(_, version)| *version > 0)
                .map(|(index, version)| row(resource, self.options.seed, &self.options.size, index, version));
            if resource.key().is_empty() {
                Served::Appended(rows.collect())
            } else {
                Served::Keyed(rows.map(|row| (key_text(resource, &row), row)).collect())
            }
        };
        Resource::ALL.iter().map(|resource| (resource.name(), view(*resource))).collect()
    }

    /// Lists a request and returns its number in this process.
    pub(super) fn request_came(&self, method: String, path: String) -> u64 {
        let state = &mut *self.state();
        if state.requests.len() == REQUESTS_MAX {
            state.requests.pop_front();
            state.requests_forgotten += 1;
        }
        state.requests.push_back(RequestRecord { method, path, status: 0, rows: 0, at: Instant::now() });
        state.requests_forgotten + state.requests.len() as u64 - 1
    }

    /// Completes the record of request `number`, unless it is forgotten already.
    pub(super) fn request_was_answered(&self, number: u64, status: u16, rows: usize) {
        let state = &mut *self.state();
        let place = number.checked_sub(state.requests_forgotten);
        if let Some(record) = place.and_then(|place| state.requests.get_mut(place as usize)) {
            (record.status, record.rows) = (status, rows);
        }
    }

    /// How many records a read of `resource` meets from beginning to end: its rows, and the changed ticket once more.
    pub(super) fn positions(&self, resource: Resource) -> u64 {
        let again = resource == Resource::Tickets && self.changing_ticket().is_some();
        u64::from(self.options.size.rows(resource)) + u64::from(again)
    }

    /// The records of one page, which count as served from now on.
    pub(super) fn page(&self, resource: Resource, slice: Slice) -> Vec<Value> {
        let mut state = self.state();
        let mut serve = |position| {
            let (index, version) = self.record_at(&mut state, resource, position);
            state.versions[resource as usize][index as usize] = version;
            (index, version)
        };
        let records: Vec<(u64, u8)> = (slice.start..slice.end).map(&mut serve).collect();
        drop(state);
        records
            .into_iter()
            .map(|(index, version)| row(resource, self.options.seed, &self.options.size, index, version))
            .collect()
    }

    /// Which row is at `position`, in which version. Once the changed ticket has been seen at the end, no page goes back
    /// to the old one.
    fn record_at(&self, state: &mut State, resource: Resource, position: u64) -> (u64, u8) {
        match self.changing_ticket() {
            Some(changing) if resource == Resource::Tickets => {
                let again = position == u64::from(self.options.size.tickets);
                state.ticket_has_changed |= again;
                if again || position == changing {
                    (changing, 1 + u8::from(state.ticket_has_changed))
                } else {
                    (position, 1)
                }
            }
            _ => (position, 1),
        }
    }

    fn changing_ticket(&self) -> Option<u64> {
        let tickets = u64::from(self.options.size.tickets);
        (self.options.faults.changing_record && tickets > 0).then(|| CHANGING_TICKET.min(tickets - 1))
    }

    /// Counts a request for `customers`; true for the one that is refused.
    pub(super) fn is_rate_limited(&self) -> bool {
        let mut state = self.state();
        state.customer_requests += 1;
        self.options.faults.rate_limit && state.customer_requests == RATE_LIMITED_REQUEST
    }

    /// True at the first attempt for a page of `events` that is to fail.
    pub(super) fn fails_now(&self, page: u64) -> bool {
        self.options.faults.server_errors && FAILING_PAGES.contains(&page) && self.state().failed_pages.insert(page)
    }

    /// A panic while the lock was held leaves nothing half done that a reader could trip over.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
