//! One attempt: the request with fresh credentials under its time limits, redirects by our own rule, and the body.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, LOCATION, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, Version};
use tokio::time::Instant;
use url::Url;

use crate::page::Slot;
use crate::rest::Redirects;
use crate::rest::action;
use crate::rest::auth::Credential;
use crate::rest::body::{BodyError, Collector};
use crate::rest::client::{Call, Client, Received};
use crate::rest::error::RequestError;
use crate::rest::hints::header_text;
use crate::rest::leave::Leave;
use crate::rest::limits::Limits;
use crate::rest::link::resolve_next;
use crate::rest::request::Prepared;
use crate::rest::retry::Tally;
use crate::sabotage::{Sabotage, on};

/// Redirects in a row; browsers follow twenty, an API needs one.
const REDIRECTS_MAX: usize = 5;
/// So much of a body that is no page is read: enough for its message and for response actions.
const ERROR_BODY_BYTES_MAX: u64 = 256 << 10;

impl Client {
    /// Sends the request and follows its redirects; each of them takes a permit of its own. The slot of `leave` grows
    /// with the body.
    pub(super) async fn attempt(
        &self,
        prepared: &Prepared,
        call: &Call<'_>,
        leave: &mut Leave,
        tally: &mut Tally,
        gzip: bool,
    ) -> Result<Received, RequestError> {
        let mut url = prepared.url.clone();
        let mut deadline = Instant::now() + *self.options.timeout;
        for _ in 0..=REDIRECTS_MAX {
            tally.sent += 1;
            call.progress.requests.add(1);
            let limits = Limits { host: &self.host, options: &self.options, deadline };
            let exchange = Exchange { client: self, call, limits };
            let request = self.request(prepared, &leave.issued.credential, &url, gzip);
            let request = request.map_err(|reason| RequestError::Request { reason })?;
            let (received, excused) = exchange.run(request, url, &mut leave.slot).await?;
            leave.permit = None;
            deadline += excused;
            call.progress.bytes.add(received.body.len() as u64);
            match self.redirect(prepared, call, &received)? {
                None => return Ok(received),
                Some(next) => url = next,
            }
            let began = Instant::now();
            leave.permit = Some(self.permit(call, tally).await?);
            deadline += began.elapsed();
        }
        let reason = format!("more than {REDIRECTS_MAX} redirects in a row");
        Err(RequestError::Redirect { host: self.host.clone(), status: 302, reason })
    }

    /// Where a response sends us, if it is a redirect that no response action takes care of.
    fn redirect(&self, prepared: &Prepared, call: &Call<'_>, received: &Received) -> Result<Option<Url>, RequestError> {
        let is_redirect = matches!(received.status, 301 | 302 | 303 | 307 | 308);
        let Some(location) = header_text(&received.headers, LOCATION.as_str()).filter(|_| is_redirect) else {
            return Ok(None);
        };
        if !matches!(action::first_match(call.actions, received), Ok(None)) {
            return Ok(None);
        }
        let refused = |reason: &str| RequestError::Redirect {
            host: self.host.clone(),
            status: received.status,
            reason: reason.to_owned(),
        };
        if self.options.redirects == Redirects::None {
            return Err(refused("`redirects` is \"none\""));
        }
        let mut next = match received.url.join(location) {
            Ok(anywhere) if on(Sabotage::RedirectWithKey) => anywhere,
            _ => resolve_next(&received.url, location)?,
        };
        if prepared.method != Method::GET {
            return Err(refused("only a GET is sent somewhere else"));
        }
        prepared.redactor.strip(&mut next);
        Ok(Some(next))
    }

    fn request(
        &self,
        prepared: &Prepared,
        credential: &Credential,
        url: &Url,
        gzip: bool,
    ) -> Result<reqwest::Request, String> {
        let mut url = url.clone();
        let mut headers = prepared.headers.clone();
        for (name, value) in &prepared.secret_params {
            url.query_pairs_mut().append_pair(name, value.expose());
        }
        credential.apply(&mut url, &mut headers)?;
        let encoding = if gzip { "gzip" } else { "identity" };
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(encoding));
        let mut request = reqwest::Request::new(prepared.method.clone(), url);
        *request.headers_mut() = headers;
        *request.body_mut() = prepared.body.clone().map(reqwest::Body::from);
        Ok(request)
    }

    fn body_error(&self, error: BodyError) -> RequestError {
        let host = self.host.clone();
        match error {
            BodyError::TooLarge => RequestError::TooLarge { host, limit: self.options.max_page_bytes },
            BodyError::Gzip(reason) => RequestError::Encoding { host, reason },
            BodyError::Unknown(name) => {
                let name = name.chars().filter(|char| !char.is_control()).collect::<String>();
                RequestError::NotAPage {
                    host,
                    reason: format!("its content encoding is `{name}`, which was not asked for"),
                }
            }
        }
    }
}

/// One request and one response, under the time limits of its client.
struct Exchange<'c> {
    client: &'c Client,
    call: &'c Call<'c>,
    /// Waits for memory put their end off.
    limits: Limits<'c>,
}

impl Exchange<'_> {
    /// `url` has no credentials in it, and they are in nothing that is handed back. The second value is the time that
    /// was spent waiting for memory.
    async fn run(
        mut self,
        request: reqwest::Request,
        url: Url,
        slot: &mut Slot,
    ) -> Result<(Received, Duration), RequestError> {
        let client = self.client;
        let planned_end = self.limits.deadline;
        let response = self.limits.send(&client.http, request).await?;
        client.answered.store(true, std::sync::atomic::Ordering::Relaxed);
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let (sized, chunked) = (headers.contains_key(CONTENT_LENGTH), headers.contains_key(TRANSFER_ENCODING));
        if sized && chunked {
            let reason = "it says two different things about where its body ends".to_owned();
            return Err(RequestError::NotHttp { host: client.host.clone(), reason });
        }
        let framed = sized || chunked || response.version() >= Version::HTTP_2;
        let body = if (200..300).contains(&status) {
            self.read_body(response, &headers, slot).await?
        } else {
            self.read_error_body(response, &headers).await
        };
        tracing::debug!(client = client.name, status, bytes = body.len(), "answered");
        Ok((Received { status, headers, body, url, framed }, self.limits.deadline - planned_end))
    }

    async fn read_body(
        &mut self,
        mut response: reqwest::Response,
        headers: &HeaderMap,
        slot: &mut Slot,
    ) -> Result<Bytes, RequestError> {
        let client = self.client;
        let length = header_text(headers, CONTENT_LENGTH.as_str()).and_then(|length| length.parse().ok());
        let encoding = header_text(headers, CONTENT_ENCODING.as_str());
        let collector = Collector::new(encoding, length, client.options.max_page_bytes.0);
        let mut collector = collector.map_err(|error| client.body_error(error))?;
        while let Some(chunk) = self.limits.chunk(&mut response).await? {
            for piece in collector.pieces(&chunk) {
                let began = Instant::now();
                self.call.room.grow(slot, collector.held_with(piece)).await;
                self.limits.deadline += began.elapsed();
                collector.push(piece).map_err(|error| client.body_error(error))?;
            }
        }
        collector.finish().map_err(|error| client.body_error(error))
    }

    /// The body of a refusal, as far as it can be had; the status counts even where the body is broken.
    async fn read_error_body(&self, mut response: reqwest::Response, headers: &HeaderMap) -> Bytes {
        let encoding = header_text(headers, CONTENT_ENCODING.as_str());
        let limit = ERROR_BODY_BYTES_MAX.min(self.client.options.max_page_bytes.0);
        let Ok(mut collector) = Collector::new(encoding, None, limit) else { return Bytes::new() };
        while let Ok(Some(chunk)) = self.limits.chunk(&mut response).await {
            if collector.push(&chunk).is_err() {
                break;
            }
        }
        collector.partial()
    }
}
