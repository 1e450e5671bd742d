//! Who may read the status page, and who may act on it.
//!
//! A web page in the operator's browser can send requests to this machine, and can give its own name this machine's
//! address; so the name that was asked for has to be one of ours, and an action has to come from our own page. There are
//! no cookies: nothing that a browser would send along by itself gives a right to act.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName, StatusCode, Uri, header, uri::Authority};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use ring::rand::SystemRandom;

use super::answer::Refusal;
use super::{Listen, WebOptions};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What is asked of a request before it is answered.
pub(super) struct Guard {
    token: Option<Token>,
    /// The address that is listened on; none for a Unix socket.
    address: Option<SocketAddr>,
    /// Other machines reach it.
    is_open: bool,
}

/// The token, as what another text can be compared with in a time that says nothing about either.
struct Token {
    key: hmac::Key,
    tag: hmac::Tag,
}

const UNKNOWN_HOST: Refusal = Refusal::new(
    StatusCode::MISDIRECTED_REQUEST,
    "This page answers only to the names of this machine: ask for 127.0.0.1 or localhost. \
               With a [web] token it answers to any name, for those who have the token.",
);
const BAD_HOST: Refusal = Refusal::new(StatusCode::BAD_REQUEST, "The request does not say for which host it is.");
const NEEDS_TOKEN: Refusal = Refusal::new(
    StatusCode::UNAUTHORIZED,
    "Send the [web] token: as the password, with any user name, or as \"Authorization: Bearer\".",
);
const FOREIGN_ORIGIN: Refusal = Refusal::new(StatusCode::FORBIDDEN, "Actions are taken only from this page itself.");
const WRONG_TOKEN: Refusal = Refusal::new(StatusCode::FORBIDDEN, "That is not the [web] token.");
const NO_ACTIONS: Refusal = Refusal::new(StatusCode::FORBIDDEN, HOW_TO_ALLOW_ACTIONS);
/// What has to be done before the page can be acted on.
pub(super) const HOW_TO_ALLOW_ACTIONS: &str = "This page can only be read. To act on it, give it a token in the \
    configuration: [web] token = \"${file:/path}\", and send that with the action.";

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("address", &self.address).field("is_open", &self.is_open).finish_non_exhaustive()
    }
}

impl Guard {
    /// The guard of a page with these options that is served at `place`.
    pub(super) fn new(options: &WebOptions, place: &Listen) -> Self {
        let token = options.token.as_ref().map(|token| {
            let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
            let key = key.expect("the system has random numbers: TLS needs them too");
            Token { tag: hmac::sign(&key, token.expose().as_bytes()), key }
        });
        let address = match place {
            Listen::Tcp(address) => Some(*address),
            Listen::Unix(_) | Listen::Off => None,
        };
        Self { token, address, is_open: place.is_open() }
    }

    /// Whether there is a way to act.
    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Whether a request may be answered at all.
    pub(super) fn admit(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let host = asked_host(uri, headers)?;
        let is_ours = self.is_ours(host.host());
        if self.token.is_none() {
            return if is_ours { Ok(()) } else { Err(UNKNOWN_HOST) };
        }
        if !self.is_open && is_ours {
            return Ok(());
        }
        let sent = bearer(headers).or_else(|| password(headers));
        if sent.is_some_and(|sent| self.is_token(&sent)) { Ok(()) } else { Err(NEEDS_TOKEN) }
    }

    /// Whether an action may be taken; `field` is the token that came in the form.
    pub(super) fn may_act(&self, uri: &Uri, headers: &HeaderMap, field: Option<&str>) -> Result<(), Refusal> {
        if self.token.is_none() {
            return Err(NO_ACTIONS);
        }
        if !is_same_origin(asked_host(uri, headers)?, headers) {
            return Err(FOREIGN_ORIGIN);
        }
        let sent = bearer(headers).or_else(|| field.map(|field| field.as_bytes().to_vec()));
        if sent.is_some_and(|sent| self.is_token(&sent)) { Ok(()) } else { Err(WRONG_TOKEN) }
    }

    fn is_token(&self, text: &[u8]) -> bool {
        self.token.as_ref().is_some_and(|token| hmac::verify(&token.key, text, token.tag.as_ref()).is_ok())
    }

    /// Whether a host is a name of this machine that nobody else can give away.
    fn is_ours(&self, host: &str) -> bool {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        match bare.parse::<IpAddr>() {
            Ok(ip) => {
                let ip = ip.to_canonical();
                ip.is_loopback() || self.address.is_some_and(|address| address.ip().to_canonical() == ip)
            }
            Err(_) => host.eq_ignore_ascii_case("localhost"),
        }
    }
}

/// The host that a request is for (RFC 9112 §3.2): exactly one, and the same everywhere.
fn asked_host(uri: &Uri, headers: &HeaderMap) -> Result<Authority, Refusal> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return Err(BAD_HOST) };
    let host: Authority = host.to_str().ok().and_then(|host| host.parse().ok()).ok_or(BAD_HOST)?;
    // The type takes anything for a port.
    let port = host.as_str().strip_prefix(host.host()).unwrap_or_default();
    let is_port =
        port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()));
    if !is_port || host.as_str().contains('@') || uri.authority().is_some_and(|authority| *authority != host) {
        return Err(BAD_HOST);
    }
    Ok(host)
}

/// Whether a browser says that a request comes from this very page; clients that are no browsers say nothing.
fn is_same_origin(host: Authority, headers: &HeaderMap) -> bool {
    let site = headers.get(SEC_FETCH_SITE);
    let origin = headers.get(header::ORIGIN).map(|origin| {
        let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        origin.is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host.as_str()))
    });
    site.is_none_or(|site| site == "same-origin") && origin.unwrap_or(true)
}

/// The token of `Authorization: Bearer` (RFC 6750 §2.1).
fn bearer(headers: &HeaderMap) -> Option<Vec<u8>> {
    let (scheme, rest) = authorization(headers)?;
    scheme.eq_ignore_ascii_case("bearer").then(|| rest.as_bytes().to_vec())
}

/// The password of `Authorization: Basic` (RFC 7617), whoever the user is.
fn password(headers: &HeaderMap) -> Option<Vec<u8>> {
    let (scheme, rest) = authorization(headers)?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let both = STANDARD.decode(rest).ok()?;
    let colon = both.iter().position(|byte| *byte == b':')?;
    Some(both[colon + 1..].to_vec())
}

fn authorization(headers: &HeaderMap) -> Option<(&str, &str)> {
    let (scheme, rest) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    Some((scheme, rest.trim()))
}
