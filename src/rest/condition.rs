//! Conditional requests (RFC 9110 §13): what a response offers to tell it again, and the headers that ask whether it
//! has changed.

use http::header::{DATE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use http::{HeaderMap, HeaderValue, Method};

use crate::page::Validators;
use crate::rest::client::Received;
use crate::rest::hints::{header_text, http_date};
use crate::rest::request::{Prepared, SHOWN_BYTES_MAX};

/// A page that was changed so short before it was sent may have been changed again in the same second, which is all
/// that `Last-Modified` tells. RFC 9110 §8.8.2.2 asks for a second, RFC 7232 asked for a minute, for slow clocks.
const LAST_MODIFIED_AGE_SECS_MIN: i64 = 60;

/// Longest `ETag` that is kept.
const ETAG_BYTES_MAX: usize = 1024;

/// The `ETag` and the `Last-Modified` of a response, as far as they can be trusted.
#[must_use]
pub fn offered(received: &Received) -> (Option<String>, Option<String>) {
    let etag = header_text(&received.headers, ETAG.as_str()).filter(|etag| is_entity_tag(etag));
    let last_modified = header_text(&received.headers, LAST_MODIFIED.as_str());
    let last_modified = last_modified.filter(|text| etag.is_some() || is_settled(text, &received.headers));
    (etag.map(str::to_owned), last_modified.map(str::to_owned))
}

/// `"…"` or `W/"…"`. What else a server may send is no promise.
fn is_entity_tag(text: &str) -> bool {
    let opaque = text.strip_prefix("W/").unwrap_or(text);
    let inside = opaque.strip_prefix('"').and_then(|opaque| opaque.strip_suffix('"'));
    inside.is_some_and(|inside| !inside.contains('"')) && text.len() <= ETAG_BYTES_MAX
}

fn is_settled(last_modified: &str, headers: &HeaderMap) -> bool {
    let sent = header_text(headers, DATE.as_str()).and_then(http_date);
    match (http_date(last_modified), sent) {
        (Some(modified), Some(sent)) => sent.duration_since(modified).as_secs() >= LAST_MODIFIED_AGE_SECS_MIN,
        _ => false,
    }
}

/// Whether a URL as it may be shown is whole, so that it is that of one page only.
#[must_use]
pub fn is_whole(shown_url: &str) -> bool {
    shown_url.len() < SHOWN_BYTES_MAX && !shown_url.ends_with('…')
}

impl Prepared {
    /// Asks for the page only where it has changed, if the validators are those of this very request.
    pub(super) fn unless_unchanged(&mut self, validators: &Validators) {
        if self.method != Method::GET || self.shown != validators.url {
            return;
        }
        let headers = [(IF_NONE_MATCH, &validators.etag), (IF_MODIFIED_SINCE, &validators.last_modified)];
        for (name, value) in headers {
            if let Some(value) = value.as_deref().and_then(|value| HeaderValue::from_str(value).ok()) {
                self.headers.insert(name, value);
                self.is_conditional = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::offered;
    use crate::rest::client::Received;

    #[test]
    fn only_what_a_server_can_mean_as_a_promise_is_taken() {
        let old = "Mon, 02 Mar 2026 10:00:00 GMT";
        let young = "Mon, 02 Mar 2026 11:59:30 GMT";
        let date = ("date", "Mon, 02 Mar 2026 12:00:00 GMT");
        let text = |text: &str| Some(text.to_owned());
        for (headers, expected) in [
            (&[("etag", "\"a\"")][..], (text("\"a\""), None)),
            (&[("etag", "W/\"a b\""), ("last-modified", young)], (text("W/\"a b\""), text(young))),
            (&[("etag", "unquoted")], (None, None)),
            (&[("etag", "\"a\" \"b\"")], (None, None)),
            (&[("etag", "w/\"a\"")], (None, None)),
            (&[("last-modified", old), date], (None, text(old))),
            (&[("last-modified", young), date], (None, None)),
            (&[("last-modified", old)], (None, None)),
            (&[("last-modified", "yesterday"), date], (None, None)),
            (&[], (None, None)),
        ] {
            let headers: HeaderMap = headers
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect();
            let url = "https://a/".parse().unwrap();
            let received = Received { status: 200, headers, body: bytes::Bytes::new(), url, framed: true };
            assert_eq!(offered(&received), expected, "{received:?}");
        }
    }
}
