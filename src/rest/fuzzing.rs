//! What must hold of headers and links, whatever a server sends.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use jiff::Timestamp;
use url::{Position, Url};

use super::budget::{Budget, RateLimit, ResetFormat};
use super::hints::{header_text, reset_delay, retry_after, server_now};
use super::link::{link_with_rel, resolve_next};
use super::request::join_path;

/// Sunday, 1 March 2026, 12:00:00.
const NOW: Timestamp = Timestamp::constant(1_772_366_400, 0);

/// Where requests went.
const BASES: [&str; 4] = [
    "https://api.example.com/v1/items?page=1&q=x",
    "http://127.0.0.1:8080/",
    "https://[2001:db8::1]:8443/a/b/",
    "https://xn--bcher-kva.example/%2F?",
];

/// `Retry-After`, the reset headers and `Date`, one to a line: what follows from them is a wait within our bounds, and
/// a plain number of seconds is just that.
///
/// # Panics
/// When that is not so.
pub fn wait_headers(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let (value, date) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let mut headers = HeaderMap::new();
    headers.insert("x-left", HeaderValue::from_static("0"));
    for (name, text) in [("retry-after", value), ("x-reset", value), ("date", date)] {
        if let Ok(text) = HeaderValue::from_bytes(text) {
            headers.insert(HeaderName::from_static(name), text);
        }
    }
    let server_now = server_now(&headers);
    let Some(value) = header_text(&headers, "retry-after") else { return };
    let asked = retry_after(value, server_now, NOW);
    if let Some(delay) = asked {
        assert!(delay > Duration::ZERO && delay <= Duration::from_secs(31 * 86_400), "{value:?}: {delay:?}");
    }
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let seconds: Option<u64> = value.parse().ok().filter(|_| digits);
    if let Some(seconds @ 1..=2_678_400) = seconds {
        assert_eq!(asked, Some(Duration::from_secs(seconds)), "{value:?}");
    }
    for format in [ResetFormat::Delta, ResetFormat::Epoch, ResetFormat::HttpDate] {
        let delay = reset_delay(value, format, server_now.unwrap_or(NOW));
        if let (ResetFormat::Delta, Some(seconds @ 0..=9_007_199_254_740_992)) = (format, seconds) {
            assert_eq!(delay, Some(Duration::from_secs(seconds)), "{value:?}");
        }
        let limit = RateLimit {
            remaining_header: Some("x-left".to_owned()),
            reset_header: Some("x-reset".to_owned()),
            reset_format: format,
            ..RateLimit::default()
        };
        let budget = Budget::new("fuzz", Some(&limit), None, Arc::new(|_, _| Box::pin(async { Ok(()) })));
        if let Some(pause) = budget.observe(&headers) {
            assert!(pause >= Duration::from_secs(1) && pause <= Duration::from_secs(3600), "{value:?}: {pause:?}");
        }
    }
}

/// A base by the first byte, then a `Link` header: whatever it says, the URL that is followed stays on the origin of
/// the request and carries no credentials, a stored link means what the received one meant, and what is well written
/// is read as it was written.
///
/// # Panics
/// When that is not so.
pub fn links(data: &[u8]) {
    let Some((first, header)) = data.split_first() else { return };
    let base = Url::parse(BASES[usize::from(*first) % BASES.len()]).expect("a URL");
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(header) {
        headers.append(header::LINK, value);
        if let Ok(Some(target)) = link_with_rel(&headers, "next") {
            assert!(String::from_utf8_lossy(header).contains(&target), "{target:?} is invented");
            follow(&base, &target);
        }
    }
    let Ok(text) = std::str::from_utf8(header) else { return };
    follow(&base, text);
    if let Ok(url) = join_path(&base, text) {
        stays_at(&base, &url);
    }
    well_written(text);
}

/// Follows a link as it came, and again as it would be stored.
fn follow(base: &Url, candidate: &str) {
    let Ok(url) = resolve_next(base, candidate) else { return };
    stays_at(base, &url);
    let stored = &url[Position::BeforePath..];
    let whole = format!("{}{stored}", base.origin().ascii_serialization());
    // Encoded, it can be longer than what is followed.
    if whole.len() <= 8 * 1024 {
        assert_eq!(resolve_next(base, &whole).as_ref(), Ok(&url), "{candidate:?}");
    }
}

fn stays_at(base: &Url, url: &Url) {
    assert_eq!(url.origin(), base.origin(), "{url}");
    assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none(), "{url}");
}

/// A header as RFC 8288 has it, made of a target and a title, means that target.
fn well_written(text: &str) {
    let (target, title) = text.split_once('\n').unwrap_or((text, ""));
    if target.contains(['>', char::REPLACEMENT_CHARACTER]) {
        return;
    }
    let title = title.replace('\\', r"\\").replace('"', "\\\"");
    let written = format!("</first>; rel=prev; title=\"{title}\" , <{target}>;title=\"{title}\"; REL=\"last Next\"");
    let Ok(value) = HeaderValue::from_bytes(written.as_bytes()) else { return };
    let headers = HeaderMap::from_iter([(header::LINK, value)]);
    assert_eq!(link_with_rel(&headers, "next"), Ok(Some(target.trim().to_owned())), "{written}");
}
