//! How many requests may be sent: a rate with bursts, a concurrency, and pauses that the server asks for. First come,
//! first served, and kept over restarts through a store that the caller brings.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use http::HeaderMap;
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use crate::rest::gcra::Gcra;
use crate::rest::hints::{header_text, reset_delay, server_now};
pub use crate::rest::rate_limit::{RateLimit, ResetFormat};

/// Pauses and waits shorter than this are neither stored nor worth showing.
const BRIEF: Duration = Duration::from_secs(1);
/// The store is a local file; when it does not answer for this long, it will not.
const STORE_TIMEOUT: Duration = Duration::from_secs(30);
/// A pause made from headers of a response lasts no longer; a reset in the past still means a moment's patience.
const RESET_PAUSE: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
/// No server's wait is believed beyond this, so a stored one that is further away comes from a wrong clock.
const PAUSE_MAX: Duration = Duration::from_secs(31 * 86_400);

/// What a store keeps of a budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BudgetState {
    /// Theoretical arrival time of the rate, in Unix milliseconds; never before the real one.
    pub tat_ms: i64,
    /// No request before this time, in Unix milliseconds; 0 when there is no pause.
    pub not_before_ms: i64,
}

/// Stores the state of the budget of this name; it is stored when the future is done.
pub type SaveBudget = Arc<dyn Fn(String, BudgetState) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// What is left of a budget at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// The limit.
    pub limit: RateLimit,
    /// Requests that are left: what the server said last, else what the rate allows at once.
    pub requests: Option<u64>,
    /// When the rate or the server's pause has nothing against another request; none where that is now.
    pub free_at: Option<Timestamp>,
    /// Requests in flight, where they are counted.
    pub in_flight: Option<u32>,
}

/// Why no request may be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The server asked for a pause that is longer than the caller's patience.
    PausedUntil(Timestamp),
    /// What the store says.
    Store(String),
}

/// Leave to send one request; given back when it is dropped.
#[derive(Debug)]
pub struct Permit {
    _place: Option<OwnedSemaphorePermit>,
}

/// One budget of requests, shared by all clients that name it.
pub struct Budget {
    name: String,
    limit: RateLimit,
    save: SaveBudget,
    /// Unix milliseconds of the wall clock; a field so that tests can let it run with a paused clock.
    wall: Arc<dyn Fn() -> i64 + Send + Sync>,
    epoch: Instant,
    state: Mutex<State>,
    /// Requests in flight.
    places: Option<Arc<Semaphore>>,
    /// Whoever holds it is the next to leave; everyone else stands in line for it.
    head: Semaphore,
    /// One write to the store at a time, so that an older state never overtakes a newer one.
    storing: Semaphore,
    paused: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
    rate: Option<Gcra>,
    not_before: Duration,
    reason: String,
    /// Requests left in the server's own words.
    remaining: Option<u64>,
}

enum Plan {
    Leave,
    Store,
    Refuse(Duration),
    Sleep { until: Duration, reason: String },
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget").field("name", &self.name).field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl Budget {
    /// A budget that goes on where `saved` stands.
    #[must_use]
    pub fn new(name: &str, limit: Option<&RateLimit>, saved: Option<BudgetState>, save: SaveBudget) -> Arc<Self> {
        Self::with_wall(name, limit, saved, save, Arc::new(|| Timestamp::now().as_millisecond()))
    }

    fn with_wall(
        name: &str,
        limit: Option<&RateLimit>,
        saved: Option<BudgetState>,
        save: SaveBudget,
        wall: Arc<dyn Fn() -> i64 + Send + Sync>,
    ) -> Arc<Self> {
        let limit = limit.cloned().unwrap_or_default();
        let saved = saved.unwrap_or_default();
        let now_ms = wall();
        let ahead = |at_ms: i64| Duration::from_millis(u64::try_from(at_ms.saturating_sub(now_ms)).unwrap_or(0));
        let mut rate = Gcra::new(&limit);
        if let Some(rate) = &mut rate {
            rate.resume(ahead(saved.tat_ms));
        }
        let mut not_before = ahead(saved.not_before_ms);
        if not_before > PAUSE_MAX {
            tracing::warn!(budget = name, "the stored pause lies too far ahead to be meant: ignored");
            not_before = Duration::ZERO;
        }
        let places = limit.concurrency.map(|n| Arc::new(Semaphore::new((n as usize).clamp(1, Semaphore::MAX_PERMITS))));
        Arc::new(Self {
            name: name.to_owned(),
            limit,
            save,
            wall,
            epoch: Instant::now(),
            state: Mutex::new(State {
                rate,
                not_before,
                reason: "a pause that the server asked for earlier".into(),
                remaining: None,
            }),
            places,
            head: Semaphore::new(1),
            storing: Semaphore::new(1),
            paused: watch::Sender::new(()),
        })
    }

    /// The name under which it is shared and stored.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is left of it right now.
    #[must_use]
    pub fn left(&self) -> Left {
        let now = self.now();
        let state = self.lock();
        let slot = state.rate.as_ref().map_or(Duration::ZERO, Gcra::slot).max(state.not_before);
        let by_rate = state.rate.as_ref().map(|rate| u64::from(rate.left(now)));
        let requests = state.remaining.or(by_rate);
        drop(state);
        let places = self.places.as_ref().zip(self.limit.concurrency);
        let in_flight = |(places, all): (&Arc<Semaphore>, u32)| {
            all.saturating_sub(u32::try_from(places.available_permits()).unwrap_or(u32::MAX))
        };
        Left {
            limit: self.limit.clone(),
            requests,
            free_at: (slot > now).then(|| self.timestamp(slot)),
            in_flight: places.map(in_flight),
        }
    }

    /// Waits until one more request may leave. `waiting` is told of waits worth showing: until when, and why.
    /// A dropped call leaves the line and uses nothing up.
    ///
    /// # Errors
    /// When a pause is longer than `patience`, or the budget cannot be stored.
    pub async fn acquire(
        &self,
        patience: Duration,
        mut waiting: impl FnMut(Timestamp, &str),
    ) -> Result<Permit, Refused> {
        let mut changes = self.paused.subscribe();
        let place = match &self.places {
            None => None,
            Some(places) => {
                let line = Arc::clone(places).acquire_owned();
                Some(self.stand_in_line(line, &mut changes, patience, &mut waiting).await?)
            }
        };
        let has_rate = self.lock().rate.is_some();
        let _head = if has_rate {
            Some(self.stand_in_line(self.head.acquire(), &mut changes, patience, &mut waiting).await?)
        } else {
            None
        };
        let mut waited = false;
        loop {
            match self.plan(patience, waited) {
                Plan::Leave => return Ok(Permit { _place: place }),
                Plan::Refuse(until) => return Err(Refused::PausedUntil(self.timestamp(until))),
                Plan::Store => self.store(|rate, now| rate.lease_due(now)).await.map_err(Refused::Store)?,
                Plan::Sleep { until, reason } => {
                    if until.saturating_sub(self.now()) >= BRIEF {
                        waiting(self.timestamp(until), &reason);
                    }
                    waited = true;
                    tokio::select! {
                        () = tokio::time::sleep_until(self.epoch + until) => {}
                        _ = changes.changed() => {}
                    }
                }
            }
        }
    }

    async fn stand_in_line<P>(
        &self,
        line: impl Future<Output = Result<P, tokio::sync::AcquireError>>,
        changes: &mut watch::Receiver<()>,
        patience: Duration,
        waiting: &mut impl FnMut(Timestamp, &str),
    ) -> Result<P, Refused> {
        let mut line = std::pin::pin!(line);
        loop {
            if let Some((until, reason)) = self.pause_now() {
                if until.saturating_sub(self.now()) > patience {
                    return Err(Refused::PausedUntil(self.timestamp(until)));
                }
                waiting(self.timestamp(until), &reason);
            }
            tokio::select! {
                biased;
                turn = &mut line => return Ok(turn.expect("the semaphores of a budget are never closed")),
                _ = changes.changed() => {}
            }
        }
    }

    /// No request of this budget leaves before `until`. A pause worth it is stored before this returns.
    ///
    /// # Errors
    /// What the store says.
    pub async fn pause(&self, until: Instant, reason: &str) -> Result<(), String> {
        let until = until.saturating_duration_since(self.epoch).min(self.now() + PAUSE_MAX);
        {
            let mut state = self.lock();
            if until <= state.not_before {
                return Ok(());
            }
            state.not_before = until;
            reason.clone_into(&mut state.reason);
        }
        self.paused.send_replace(());
        if until.saturating_sub(self.now()) > BRIEF {
            self.store(|rate, _| Some(rate.covered())).await?;
        }
        Ok(())
    }

    /// The requests that a response says are left.
    #[must_use]
    pub fn remaining(&self, headers: &HeaderMap) -> Option<u64> {
        header_text(headers, self.limit.remaining_header.as_deref()?)?.trim().parse().ok()
    }

    /// The pause that the headers of a response ask for: as many requests left as are reserved, or fewer, and a time
    /// at which they are renewed.
    #[must_use]
    pub fn observe(&self, headers: &HeaderMap) -> Option<Duration> {
        let remaining = self.remaining(headers)?;
        self.lock().remaining = Some(remaining);
        if remaining > self.limit.reserve {
            return None;
        }
        let value = header_text(headers, self.limit.reset_header.as_deref()?)?;
        let now = server_now(headers).unwrap_or_else(Timestamp::now);
        let delay = reset_delay(value, self.limit.reset_format, now)?;
        Some(delay.clamp(*RESET_PAUSE.start(), *RESET_PAUSE.end()))
    }

    /// Stores the exact state, when no more requests will be sent.
    ///
    /// # Errors
    /// What the store says.
    pub async fn close(&self) -> Result<(), String> {
        let worth_it = {
            let state = self.lock();
            state.rate.is_some() || state.not_before > self.now()
        };
        if worth_it { self.store(|rate, _| Some(rate.exact())).await } else { Ok(()) }
    }

    fn plan(&self, patience: Duration, waited: bool) -> Plan {
        let now = self.now();
        let mut state = self.lock();
        if state.not_before > now {
            if state.not_before - now > patience {
                return Plan::Refuse(state.not_before);
            }
            return Plan::Sleep { until: state.not_before, reason: state.reason.clone() };
        }
        let Some(rate) = &mut state.rate else { return Plan::Leave };
        if rate.lease_due(now).is_some() {
            return Plan::Store;
        }
        if rate.slot() > now {
            return Plan::Sleep { until: rate.slot(), reason: format!("the rate limit of budget `{}`", self.name) };
        }
        rate.leave(now, waited);
        Plan::Leave
    }

    fn pause_now(&self) -> Option<(Duration, String)> {
        let state = self.lock();
        (state.not_before > self.now()).then(|| (state.not_before, state.reason.clone()))
    }

    async fn store(&self, tat: impl FnOnce(&Gcra, Duration) -> Option<Duration>) -> Result<(), String> {
        let _alone = self.storing.acquire().await.map_err(|error| error.to_string())?;
        let (tat, state) = {
            let now = self.now();
            let state = self.lock();
            let tat = match &state.rate {
                None => None,
                Some(rate) => match tat(rate, now) {
                    None => return Ok(()),
                    some => some,
                },
            };
            let not_before_ms = if state.not_before > now { self.unix_ms(state.not_before) } else { 0 };
            (tat, BudgetState { tat_ms: tat.map_or(0, |tat| self.unix_ms(tat)), not_before_ms })
        };
        match tokio::time::timeout(STORE_TIMEOUT, (self.save)(self.name.clone(), state)).await {
            Err(_) => return Err("it did not answer for 30 seconds".to_owned()),
            Ok(result) => result?,
        }
        if let (Some(tat), Some(rate)) = (tat, &mut self.lock().rate) {
            rate.stored(tat);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// Rounded up, so that what is stored is never before what is meant.
    fn unix_ms(&self, at: Duration) -> i64 {
        let now = self.now();
        let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let wall = (self.wall)();
        if at >= now {
            wall.saturating_add(ms(at - now)).saturating_add(2)
        } else {
            wall.saturating_sub(ms(now - at)).saturating_add(2)
        }
    }

    fn timestamp(&self, at: Duration) -> Timestamp {
        Timestamp::from_millisecond(self.unix_ms(at)).unwrap_or(Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests;
