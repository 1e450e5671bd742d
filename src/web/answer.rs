//! What every answer has in common: its format, its headers, and how it says that there is none.

use std::borrow::Cow;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use maud::html;
use serde::Serialize;

use super::App;
use super::html::{Page, frame, segment};
use crate::destination::DbError;
use crate::page::ResourceId;

/// The version of the JSON: it changes when a key changes its meaning or goes away.
pub(super) const VERSION: u32 = 1;

/// How long an answer may take. A stream of events begins within it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Nothing but what this server sends; no markup of others can run, load, or send anything.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
    img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What every answer says of itself. With `no-referrer` browsers would name no origin with our own forms either; with
/// `same-origin` they tell others just as little.
const HEADERS: [(&str, &str); 7] = [
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "same-origin"),
    ("cache-control", "no-store"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("x-frame-options", "DENY"),
];

/// Why a request has no other answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    status: StatusCode,
    sentence: Cow<'static, str>,
}

impl Refusal {
    pub(super) const fn new(status: StatusCode, sentence: &'static str) -> Self {
        Self { status, sentence: Cow::Borrowed(sentence) }
    }

    /// There is no such thing.
    pub(super) fn not_found(what: &str) -> Self {
        Self { status: StatusCode::NOT_FOUND, sentence: format!("There is no {what}.").into() }
    }

    /// The path is there, and is asked for in another way.
    pub(super) const fn bad_method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "Pages are read with GET, and actions are taken with POST.")
    }

    /// The file could not be looked at.
    pub(super) fn unreadable(error: &DbError) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            sentence: format!("The database cannot be read now: {error}.").into(),
        }
    }

    /// The daemon did not do what it was asked for.
    pub(super) fn not_done(why: String) -> Self {
        Self { status: StatusCode::CONFLICT, sentence: why.into() }
    }
}

impl IntoResponse for Refusal {
    /// [`finish`] gives it its format.
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Html,
    Json,
}

impl Format {
    /// What a path asks for.
    pub(super) fn of(path: &str) -> Self {
        if path.ends_with(".json") { Self::Json } else { Self::Html }
    }

    /// A name at the end of a path, without the suffix that says the format.
    pub(super) fn name(self, name: &str) -> &str {
        match self {
            Self::Html => name,
            Self::Json => name.strip_suffix(".json").unwrap_or(name),
        }
    }

    /// The path of a page in this format.
    pub(super) fn path(self, page: &str) -> String {
        match self {
            Self::Html => page.to_owned(),
            Self::Json => format!("{page}.json"),
        }
    }

    /// The answer with `data` in it.
    pub(super) fn write<T: Serialize>(self, data: &T, page: impl FnOnce(&T) -> Page) -> Response {
        match self {
            Self::Html => {
                let html = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
                (html, frame(&page(data)).into_string()).into_response()
            }
            Self::Json => json(data),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Format {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(parts.uri.path()))
    }
}

/// The parameters of a query that pages know.
#[derive(Clone, Debug, Default)]
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    /// The number under a name; none where it is missing or no number.
    pub(super) fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.text(name)?.parse().ok()
    }

    /// The text under a name.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The resource whose lines are asked for; names have no dots.
    pub(super) fn resource(&self) -> Option<ResourceId> {
        let (source, resource) = self.text("resource")?.split_once('.')?;
        Some(ResourceId::new(source, resource))
    }

    /// The same list from its beginning.
    pub(super) fn first_page(&self, path: &str) -> String {
        match self.text("resource") {
            Some(resource) => format!("{path}?resource={}", segment(resource)),
            None => path.to_owned(),
        }
    }

    /// The same list behind a line.
    pub(super) fn page(&self, path: String, before: i64) -> String {
        let first = self.first_page(&path);
        let join = if first.len() > path.len() { '&' } else { '?' };
        format!("{first}{join}before={before}")
    }
}

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let query = parts.uri.query().unwrap_or_default();
        Ok(Self(url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()))
    }
}

/// A JSON answer.
pub(super) fn json<T: Serialize>(data: &T) -> Response {
    #[derive(Serialize)]
    struct Versioned<'a, T> {
        version: u32,
        #[serde(flatten)]
        data: &'a T,
    }
    match serde_json::to_vec(&Versioned { version: VERSION, data }) {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => {
            tracing::error!("status page: {error}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Around every request: asks the guard, bounds the time, and gives the answer its headers.
pub(super) async fn finish(State(app): State<App>, request: Request, next: Next) -> Response {
    let format = Format::of(request.uri().path());
    let response = match app.guard.admit(request.uri(), request.headers()) {
        Ok(()) => match tokio::time::timeout(ANSWER_TIMEOUT, next.run(request)).await {
            Ok(response) => response,
            Err(_) => Refusal::new(StatusCode::GATEWAY_TIMEOUT, "This took too long.").into_response(),
        },
        Err(refusal) => refusal.into_response(),
    };
    let mut response = match response.extensions().get::<Refusal>() {
        Some(refusal) => refuse(format, refusal),
        None => response,
    };
    add_headers(response.headers_mut());
    response
}

fn refuse(format: Format, refusal: &Refusal) -> Response {
    #[derive(Serialize)]
    struct Refused<'a> {
        error: &'a str,
    }
    let data = Refused { error: &refusal.sentence };
    let mut response = format.write(&data, |data| {
        let said = html! { h1 { (refusal.status.canonical_reason().unwrap_or_default()) } p.say.bad { (data.error) } };
        // What is wrong with a request stays so; what is wrong here may pass.
        let (live, rest) = if refusal.status.is_server_error() { (said, html! {}) } else { (html! {}, said) };
        Page { title: refusal.status.to_string(), live, rest, ..Page::default() }
    });
    *response.status_mut() = refusal.status;
    if refusal.status == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static("Basic realm=\"highwater\", charset=\"UTF-8\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

fn add_headers(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
}
