//! Asking for credentials: one request to a token endpoint or a login, under the client's time limits, and again under
//! its rules for failures that may pass.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER,
};
use http::{HeaderMap, HeaderValue, Method};
use jiff::Timestamp;
use tokio::time::Instant;

use super::answer::{self, Answer, Denial};
use super::credential::sensitive;
use super::oauth::Grant;
use super::renewal::{Renewer, Way};
use crate::rest::body::Collector;
use crate::rest::budget::{Permit, Refused};
use crate::rest::client::later;
use crate::rest::error::{Hope, RequestError};
use crate::rest::hints::{header_text, retry_after, server_now};
use crate::rest::limits::Limits;
use crate::rest::request::cut;
use crate::rest::retry::{Next, Tally, random};
use crate::rest::verdict::one_line;
use crate::secret::Secret;

/// No answer with a token is longer; the longest tokens have some ten kilobytes.
const ANSWER_BYTES_MAX: u64 = 256 << 10;
/// Longest words of a server that are shown.
const SAID_BYTES_MAX: usize = 300;

/// Why one try brought no credentials.
struct Unanswered {
    error: RequestError,
    hope: Hope,
    /// A delay that the server named.
    hint: Option<Duration>,
}

impl From<RequestError> for Unanswered {
    fn from(error: RequestError) -> Self {
        Self { hope: error.hope(), error, hint: None }
    }
}

impl Renewer {
    /// The answer, and when the request for it was sent. `refresh_token` goes with it where there is one.
    pub(super) async fn ask(&self, refresh_token: Option<&Secret>) -> Result<(Answer, Instant), RequestError> {
        let mut tally = Tally::default();
        let first = Instant::now();
        loop {
            let permit = self.permit(&mut tally).await?;
            let sent = Instant::now();
            let Unanswered { error, hope, hint } = match self.ask_once(refresh_token).await {
                Ok(answer) => return Ok((answer, sent)),
                Err(unanswered) => unanswered,
            };
            drop(permit);
            if hope == Hope::None || hope == Hope::Faint && !tally.may_be_rejected_again() {
                return Err(error);
            }
            if let (Some(delay), Way::Session { .. }) = (hint, &self.way) {
                // It is the API itself that asks for a pause.
                let paused = self.budget.pause(Instant::now() + delay, "the login").await;
                paused.map_err(|reason| self.store_error(reason))?;
            }
            let patience = *self.options.retry.max_retry_after;
            if let Some(delay) = hint.filter(|delay| *delay > patience) {
                return Err(RequestError::RateLimited { until: later(delay) });
            }
            match tally.failed(&self.options.retry, first.elapsed(), hint, random()) {
                Next::GiveUp => return Err(error),
                Next::After(delay) => {
                    tracing::warn!(client = self.name, ?delay, "asking for credentials: {error}: trying again");
                    self.pauses.send_replace(Some((later(delay), format!("asking for credentials: {error}"))));
                    let slept = self.unless_closing(tokio::time::sleep(delay)).await;
                    self.pauses.send_replace(None);
                    slept?;
                }
            }
        }
    }

    /// A login is a request to the API like others; a token endpoint has nothing to do with the API's limits.
    async fn permit(&self, tally: &mut Tally) -> Result<Option<Permit>, RequestError> {
        let Way::Session { .. } = &self.way else { return Ok(None) };
        let began = Instant::now();
        let show = |until, reason: &str| drop(self.pauses.send_replace(Some((until, format!("the login: {reason}")))));
        let acquired = self.unless_closing(self.budget.acquire(*self.options.retry.max_retry_after, show)).await;
        self.pauses.send_replace(None);
        tally.excused += began.elapsed();
        acquired?.map(Some).map_err(|refused| match refused {
            Refused::PausedUntil(until) => RequestError::RateLimited { until },
            Refused::Store(reason) => self.store_error(reason),
        })
    }

    fn store_error(&self, reason: String) -> RequestError {
        RequestError::Store { budget: self.budget.name().to_owned(), reason }
    }

    async fn ask_once(&self, refresh_token: Option<&Secret>) -> Result<Answer, Unanswered> {
        let request = self.request(refresh_token).map_err(|reason| RequestError::Request { reason })?;
        let exchange = self.exchange(request);
        let (status, headers, body) = match &self.way {
            // Its answer may hold the successor of a token that is no longer good: it is waited for.
            Way::RefreshToken { .. } => exchange.await?,
            Way::ClientCredentials { .. } | Way::Session { .. } => self.unless_closing(exchange).await??,
        };
        let answered = match &self.way {
            Way::Session { token_path, .. } => answer::of_login(status, &body, token_path),
            Way::ClientCredentials { .. } | Way::RefreshToken { .. } => answer::of_token_endpoint(status, &body),
        };
        answered.map_err(|denial| self.unanswered(denial, status, &headers))
    }

    fn unanswered(&self, denial: Denial, status: u16, headers: &HeaderMap) -> Unanswered {
        let (said, hope, hint) = match denial {
            Denial::Refused(said) => {
                let (host, reason) = (self.host.clone(), self.shown(&said));
                return RequestError::CredentialsRefused { host, kind: self.kind, reason }.into();
            }
            Denial::Passing(said) => {
                let asked = header_text(headers, RETRY_AFTER.as_str());
                (said, Hope::Good, asked.and_then(|value| retry_after(value, server_now(headers), Timestamp::now())))
            }
            Denial::NotAToken(said) => (said, Hope::Faint, None),
            Denial::Final(said) => (said, Hope::None, None),
        };
        let error = RequestError::NoCredentials { host: self.host.clone(), status, reason: self.shown(&said) };
        Unanswered { error, hope, hint }
    }

    /// A server's words as they may be shown.
    fn shown(&self, said: &str) -> String {
        cut(&one_line(&self.redactor.scrub(said)), SAID_BYTES_MAX)
    }

    fn request(&self, refresh_token: Option<&Secret>) -> Result<reqwest::Request, String> {
        let mut request = match &self.way {
            Way::ClientCredentials { options, url } => token_request(url, options.grant(), None)?,
            Way::RefreshToken { options, url, .. } => token_request(url, options.grant(), refresh_token)?,
            Way::Session { login, .. } => {
                let mut url = login.url.clone();
                for (name, value) in &login.secret_params {
                    url.query_pairs_mut().append_pair(name, value.expose());
                }
                let mut request = reqwest::Request::new(login.method.clone(), url);
                *request.headers_mut() = login.headers.clone();
                *request.body_mut() = login.body.clone().map(reqwest::Body::from);
                request
            }
        };
        request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        Ok(request)
    }

    async fn exchange(&self, request: reqwest::Request) -> Result<(u16, HeaderMap, Bytes), RequestError> {
        let limits =
            Limits { host: &self.host, options: &self.options, deadline: Instant::now() + *self.options.timeout };
        let mut response = limits.send(&self.http, request).await?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let no_answer =
            |reason: &str| RequestError::NoCredentials { host: self.host.clone(), status, reason: reason.to_owned() };
        let length = header_text(&headers, CONTENT_LENGTH.as_str()).and_then(|length| length.parse().ok());
        let encoding = header_text(&headers, CONTENT_ENCODING.as_str());
        let collector = Collector::new(encoding, length, ANSWER_BYTES_MAX);
        let mut collector = collector.map_err(|_| no_answer("its answer is too long, or encoded in a strange way"))?;
        loop {
            match limits.chunk(&mut response).await {
                Ok(Some(chunk)) => {
                    for piece in collector.pieces(&chunk) {
                        collector.push(piece).map_err(|_| no_answer("its answer is too long, or broken"))?;
                    }
                }
                Ok(None) => break,
                // The status counts even where the body is broken.
                Err(_) if status >= 300 => return Ok((status, headers, collector.partial())),
                Err(error) => return Err(error),
            }
        }
        let body = collector.finish().map_err(|_| no_answer("its answer is broken"))?;
        tracing::debug!(client = self.name, status, bytes = body.len(), "answered to a request for credentials");
        Ok((status, headers, body))
    }
}

fn token_request(url: &url::Url, grant: Grant<'_>, refresh_token: Option<&Secret>) -> Result<reqwest::Request, String> {
    let mut request = reqwest::Request::new(Method::POST, url.clone());
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    if let Some(basic) = grant.basic() {
        headers.insert(AUTHORIZATION, sensitive(basic.expose(), "auth.client_secret")?);
    }
    *request.body_mut() = Some(reqwest::Body::from(grant.form(refresh_token).to_string()));
    Ok(request)
}
