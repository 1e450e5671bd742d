//! One logical request: budget, credentials, sending under time limits, what the answer means, and whether to try
//! again. A page either comes back whole or as an error that says what to do; nothing in between.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderMap, Method};
use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::page::{Room, Slot, Validators};
use crate::progress::{ResourceProgress, Waiting};
use crate::rest::ClientOptions;
use crate::rest::action::CompiledAction;
use crate::rest::auth::{Authenticator, Issued, Setup, TokenStore};
use crate::rest::budget::Budget;
use crate::rest::error::{ClientError, RequestError};
use crate::rest::hints::{header_text, retry_after, server_now};
use crate::rest::link::shown_host;
use crate::rest::redact::Redactor;
use crate::rest::request::{Common, Prepared, RequestParts, add_headers};
use crate::rest::retry::{Next, Tally, random};
use crate::rest::transport;
use crate::rest::verdict::{Court, Failure};

/// A body and the rows that it is taken apart into are expected to need this much memory, in bodies.
const DECODED_FACTOR: u64 = 3;

/// A request is sent again with new credentials once, and so often where they were good for others meanwhile: where
/// tokens are short-lived, the pages in flight use up each other's.
const REPLAYS_MAX: u32 = 5;

/// One API's client. Cheap to share behind an `Arc`; connections are pooled inside.
pub struct Client {
    pub(super) name: String,
    pub(super) options: ClientOptions,
    pub(super) http: reqwest::Client,
    pub(super) host: String,
    pub(super) auth: Authenticator,
    /// Whether a connection was ever answered on, so that a reset may be a kept-alive one that the server closed.
    pub(super) answered: AtomicBool,
    pub(super) common: Common,
    pub(super) budget: Arc<Budget>,
}

/// What to fetch, and whom to tell.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The request.
    pub request: &'a RequestParts,
    /// What the page was when its rows were stored; a page that still is the same is not sent again.
    pub known: Option<&'a Validators>,
    /// The resource's response actions, in order.
    pub actions: &'a [CompiledAction],
    /// Where the page has its memory from.
    pub room: &'a Room,
    /// Where waits and counts are shown.
    pub progress: &'a ResourceProgress,
    /// Ends every wait at once.
    pub stop: &'a CancellationToken,
}

/// A response that arrived whole.
#[derive(Clone)]
pub struct Received {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, decompressed.
    pub body: Bytes,
    /// Where it came from after redirects, without credentials.
    pub url: Url,
    /// Whether HTTP itself says where the body ends. One that ends with the connection may be cut off unnoticed,
    /// unless its format proves that it is whole.
    pub framed: bool,
}

/// What the caller says of a 2xx response that is not a page: HTML, cut-off JSON, an error envelope, a selector that
/// matches nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// What is wrong with it.
    pub reason: String,
    /// Worth asking again, at most twice.
    pub retry: bool,
}

/// How a request ended that did not fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// What the caller made of the page.
    Accepted(T),
    /// A response action says: no rows here.
    Ignored,
    /// A response action says: the data ends here.
    Stopped,
    /// The page is what it was, and was not sent again.
    Unchanged,
}

/// The result of a logical request.
#[derive(Debug)]
pub struct Fetched<T> {
    /// What came of it.
    pub value: Outcome<T>,
    /// The memory of the page.
    pub slot: Slot,
    /// The last response.
    pub received: Received,
    /// Requests sent, redirects and failures included.
    pub attempts: u32,
    /// When the response was complete.
    pub fetched_at: Timestamp,
    /// How long the last attempt took.
    pub duration: Duration,
    /// The URL as it may be shown and stored: secrets masked, at most 2 kB.
    pub shown_url: String,
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received")
            .field("status", &self.status)
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("name", &self.name).field("host", &self.host).finish_non_exhaustive()
    }
}

impl Client {
    /// A client for `base_url`. The process has installed its TLS provider before. `tokens` is where a refresh token is
    /// kept.
    ///
    /// # Errors
    /// When the options cannot work, or the machine has no certificates and `base_url` is https.
    pub fn new(
        name: &str,
        options: &ClientOptions,
        budget: Arc<Budget>,
        tokens: TokenStore,
    ) -> Result<Self, ClientError> {
        let unusable = |reason| ClientError::Unusable { client: name.to_owned(), reason };
        let base = base_url(&options.base_url)
            .map_err(|reason| ClientError::BaseUrl { client: name.to_owned(), reason: reason.to_owned() })?;
        let mut redactor = Redactor::default();
        if let Some(auth) = &options.auth {
            auth.teach(&mut redactor);
        }
        for (name, value) in options.params.iter().filter(|(_, value)| value.is_secret()) {
            redactor.learn_secret_parameter(name, value);
        }
        options.headers.values().for_each(|value| redactor.learn_template(value));
        let pairs = |map: &indexmap::IndexMap<String, _>| map.clone().into_iter().collect::<Vec<_>>();
        let mut headers = HeaderMap::new();
        add_headers(&mut headers, &pairs(&options.headers)).map_err(unusable)?;
        let http = transport::build(name, base.scheme() == "https", options)?;
        let host = shown_host(&base);
        let common = Common { base, params: pairs(&options.params), headers, redactor };
        let auth =
            Authenticator::new(Setup { name, options, common: &common, http: &http, budget: &budget, store: tokens })?;
        Ok(Self {
            http,
            name: name.to_owned(),
            host,
            auth,
            answered: AtomicBool::new(false),
            common,
            options: options.clone(),
            budget,
        })
    }

    /// Where all its requests go.
    #[must_use]
    pub fn base_url(&self) -> &Url {
        &self.common.base
    }

    /// Sends the request until it has an answer that counts, or none can be hoped for. Nothing is sent before the budget
    /// allows it and there is memory for the page. `accept` makes a value of a 2xx response or says why it is none.
    ///
    /// # Errors
    /// Why there is no value. Dropping the call at any point loses nothing but the request in flight.
    pub async fn fetch<T>(
        &self,
        call: Call<'_>,
        mut accept: impl FnMut(&Received) -> Result<T, Rejected>,
    ) -> Result<Fetched<T>, RequestError> {
        let mut prepared =
            Prepared::new(&self.common, call.request).map_err(|reason| RequestError::Request { reason })?;
        if let Some(known) = call.known {
            prepared.unless_unchanged(known);
        }
        let run = self.run(&prepared, &call, &mut accept);
        call.stop.run_until_cancelled(run).await.unwrap_or(Err(RequestError::Interrupted))
    }

    async fn run<T>(
        &self,
        prepared: &Prepared,
        call: &Call<'_>,
        accept: &mut impl FnMut(&Received) -> Result<T, Rejected>,
    ) -> Result<Fetched<T>, RequestError> {
        let mut tally = Tally::default();
        let mut leave = self.leave(call, &mut tally).await?;
        tally.excused = Duration::ZERO;
        let first = Instant::now();
        let (mut gzip, mut replays) = (true, 0);
        loop {
            let began = Instant::now();
            let failure = match self.attempt(prepared, call, &mut leave, &mut tally, gzip).await {
                Err(error) => Failure::from(error),
                Ok(received) => {
                    let bytes = received.body.len() as u64;
                    call.room.grow(&mut leave.slot, bytes.saturating_mul(DECODED_FACTOR)).await;
                    match self.judge(prepared, call, (&received, (&leave.issued, replays)), accept).await? {
                        Err(failure) => failure,
                        Ok(value) => {
                            leave.issued.was_accepted();
                            return Ok(Fetched {
                                value,
                                slot: leave.slot,
                                received,
                                attempts: tally.sent,
                                fetched_at: Timestamp::now(),
                                duration: began.elapsed(),
                                shown_url: prepared.shown.clone(),
                            });
                        }
                    }
                }
            };
            // Others can use the memory while this page waits for its next try.
            let issued = leave.issued;
            drop((leave.permit, leave.slot, leave.in_flight));
            gzip &= !matches!(failure, Failure::Dubious(RequestError::Encoding { .. }));
            if matches!(failure, Failure::Stale) {
                replays += 1;
                self.renew(&issued, call, &mut tally).await?;
            } else {
                self.before_next_try(prepared, call, &mut tally, failure, first.elapsed()).await?;
            }
            call.progress.retries.add(1);
            leave = self.leave(call, &mut tally).await?;
        }
    }

    /// New credentials, for everyone who was refused with the old ones.
    async fn renew(&self, refused: &Issued, call: &Call<'_>, tally: &mut Tally) -> Result<(), RequestError> {
        let began = Instant::now();
        self.auth.renew(refused, call.progress).await?;
        tally.excused += began.elapsed();
        Ok(())
    }

    /// Brings a renewal of credentials to its end that is under way when a run is stopped.
    ///
    /// # Errors
    /// When a new refresh token cannot be stored.
    pub async fn close(&self) -> Result<(), String> {
        self.auth.close().await
    }

    async fn judge<T>(
        &self,
        prepared: &Prepared,
        call: &Call<'_>,
        (received, (issued, replays)): (&Received, (&Issued, u32)),
        accept: &mut impl FnMut(&Received) -> Result<T, Rejected>,
    ) -> Result<Result<Outcome<T>, Failure>, RequestError> {
        let now = Timestamp::now();
        let asked = header_text(&received.headers, RETRY_AFTER.as_str());
        let court = Court {
            host: &self.host,
            place: prepared.shown_path(),
            auth: self.auth.kind(),
            renewable: self.auth.is_renewable()
                && (replays == 0 || replays < REPLAYS_MAX && issued.may_have_been_good()),
            replayed: replays > 0,
            redactor: &prepared.redactor,
            actions: call.actions,
            asked_for_changes: prepared.is_conditional,
            retry_after: asked.and_then(|value| retry_after(value, server_now(&received.headers), now)),
            reset: self.budget.observe(&received.headers),
            exhausted: self.budget.remaining(&received.headers) == Some(0),
        };
        if let Some(delay) = court.reset {
            self.pause(delay, &format!("the request quota of {}", self.host)).await?;
        }
        Ok(court.judge(received, accept))
    }

    /// Waits as a failure demands, or hands it back when there is no use in another try.
    async fn before_next_try(
        &self,
        prepared: &Prepared,
        call: &Call<'_>,
        tally: &mut Tally,
        failure: Failure,
        elapsed: Duration,
    ) -> Result<(), RequestError> {
        let patience = *self.options.retry.max_retry_after;
        let (error, hint) = match failure {
            Failure::Final(error) => return Err(error),
            Failure::Stale => return Ok(()),
            Failure::Wait { delay, reason } => {
                self.pause(delay, &reason).await?;
                if delay > patience || !tally.may_wait(&self.options.retry, delay) {
                    return Err(RequestError::RateLimited { until: later(delay) });
                }
                tracing::warn!(client = self.name, url = prepared.shown_path(), ?delay, "{reason}: waiting");
                return Ok(());
            }
            Failure::Dubious(error) if !tally.may_be_rejected_again() => return Err(error),
            Failure::Dubious(error) => (error, None),
            Failure::Passing { error: RequestError::Reset { .. }, .. }
                if prepared.method == Method::GET
                    && self.answered.load(Ordering::Relaxed)
                    && tally.may_resend_at_once() =>
            {
                return Ok(());
            }
            Failure::Passing { error, hint } => (error, hint),
        };
        if hint.is_some_and(|delay| delay > patience) {
            return Err(error);
        }
        match tally.failed(&self.options.retry, elapsed, hint, random()) {
            Next::GiveUp => Err(error),
            Next::After(delay) => {
                let reason = format!("{error}; attempt {} of {}", tally.failures(), self.options.retry.max_attempts);
                let reason = prepared.redactor.scrub_ours(&reason);
                tracing::warn!(client = self.name, url = prepared.shown_path(), ?delay, "{reason}: trying again");
                let mut notice = Waiting::new(call.progress);
                notice.show(later(delay), &reason);
                tokio::time::sleep(delay).await;
                Ok(())
            }
        }
    }
}

pub(super) fn later(delay: Duration) -> Timestamp {
    jiff::SignedDuration::try_from(delay)
        .ok()
        .and_then(|delay| Timestamp::now().checked_add(delay).ok())
        .unwrap_or(Timestamp::MAX)
}

fn base_url(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "is not a URL; write it like \"https://api.example.com/v1/\"")?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must begin with https:// or http://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not carry a user name or a password; use `auth`");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must not have a query or a fragment; use `params`");
    }
    Ok(url)
}
