//! Rules for `client`: where it talks to, what it sends, how long it waits.

use std::net::IpAddr;

use http::{HeaderName, HeaderValue};
use indexmap::IndexMap;
use url::{Host, Url};

use super::super::path::Path;
use super::pipeline::{at_most, size_within};
use super::{Rules, auth, budget, paginator};
use crate::rest::ClientOptions;
use crate::rest::retry::RetryOptions;
use crate::template::Template;
use crate::units::{ByteSize, Timespan};

/// An attempt that takes longer is not coming back.
const TIMEOUT_MAX: Timespan = Timespan::secs(24 * 60 * 60);

pub(super) fn check(client: &ClientOptions, path: &Path, rules: &mut Rules<'_>) {
    if let Err(message) = base_url(&client.base_url) {
        rules.refuse(&path.key("base_url"), message);
    } else if let Ok(url) = Url::parse(&client.base_url)
        && client.auth.is_some()
        && url.scheme() == "http"
        && !is_loopback(&url)
    {
        rules.hint(&path.key("base_url"), "the credentials travel unencrypted over plain http");
    }
    check_headers(&client.headers, &path.key("headers"), rules);
    if let Some(auth) = &client.auth {
        auth::check(auth, &client.base_url, &path.key("auth"), rules);
    }
    if let Some(options) = &client.paginator {
        paginator::check(options, &path.key("paginator"), rules);
    }
    if let Some(limit) = &client.rate_limit {
        budget::check_limit(limit, &path.key("rate_limit"), rules);
    }
    check_retry(&client.retry, &path.key("retry"), rules);
    let timeouts = [
        ("timeout", client.timeout),
        ("connect_timeout", client.connect_timeout),
        ("read_timeout", client.read_timeout),
    ];
    for (key, _) in timeouts.iter().filter(|(_, timeout)| timeout.is_zero()) {
        rules.refuse(&path.key(key), "must be more than 0s");
    }
    for (key, timeout) in timeouts {
        at_most(rules, &path.key(key), timeout, TIMEOUT_MAX);
    }
    // Beyond a gibibyte a page no longer fits SQLite's limits, nor most machines.
    size_within(rules, &path.key("max_page_bytes"), client.max_page_bytes, ByteSize(1 << 10), ByteSize(1 << 30));
}

/// The rules for a base URL. The error does not repeat it: it may hold a password.
pub(super) fn base_url(text: &str) -> Result<Url, String> {
    let url =
        Url::parse(text).map_err(|error| format!("is not a URL such as \"https://api.example.com/\": {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must start with `https://` or `http://`".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user name or a password: use `auth`".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must not have a query or a fragment: use `params`".to_owned());
    }
    Ok(url)
}

pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => IpAddr::V4(ip).is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::V6(ip).is_loopback(),
        None => false,
    }
}

/// Names and values must be able to stand in a request (RFC 9110 §5); values are not shown.
pub(super) fn check_headers(headers: &IndexMap<String, Template>, path: &Path, rules: &mut Rules<'_>) {
    let mut seen = Vec::new();
    for (name, value) in headers {
        let path = path.key(name);
        let lower = name.to_lowercase();
        if HeaderName::from_bytes(name.as_bytes()).is_err() {
            rules.refuse_key(&path, "is not a name of a header");
        } else if seen.contains(&lower) {
            rules.refuse_key(&path, "is there twice: names of headers do not depend on case");
        }
        seen.push(lower);
        if !can_be_sent(&value.expose()) {
            rules.refuse(&path, "holds characters that a header cannot carry");
        }
    }
}

pub(super) fn can_be_sent(text: &str) -> bool {
    HeaderValue::from_str(text).is_ok()
}

/// A header that a response may have or a request may get.
pub(super) fn check_header_name(name: Option<&String>, path: &Path, rules: &mut Rules<'_>) {
    if name.is_some_and(|name| HeaderName::from_bytes(name.as_bytes()).is_err()) {
        rules.refuse(path, "is not a name of a header");
    }
}

fn check_retry(retry: &RetryOptions, path: &Path, rules: &mut Rules<'_>) {
    if retry.initial_delay.is_zero() {
        rules.refuse(&path.key("initial_delay"), "must be more than 0s");
    }
    if retry.initial_delay > retry.max_delay {
        let message = format!("must not be longer than `max_delay` ({})", retry.max_delay);
        rules.refuse(&path.key("initial_delay"), message);
    }
    if retry.max_elapsed.is_zero() {
        rules.refuse(&path.key("max_elapsed"), "must be more than 0s");
    }
}
