//! When a page may be taken for unchanged at the next read: only where it was all of its read, and where no other page
//! can come behind it without the page itself changing.

use ring::{digest, hmac};

use super::decoded::Decoded;
use super::read::Read;
use super::resource::Resource;
use super::{Method, ResourceOptions, SourceOptions};
use crate::page::{StopReason, Target, Validators, Validity};
use crate::rest::client::{Fetched, Outcome, Received};
use crate::rest::condition::{is_whole, offered};
use crate::rest::link::link_with_rel;
use crate::rest::paginator::Paginator;

/// No API has smaller full pages.
const FULL_PAGE_RECORDS_MIN: u64 = 10;

/// A mark of everything that the rows of a page depend on beside the page: the request, how records become rows, who
/// asks, and this program. `None` where a resource does not ask conditionally.
pub(super) fn fingerprint(
    source: &SourceOptions,
    options: &ResourceOptions,
    target: &Target,
    request_fingerprint: &str,
    salt: &str,
) -> Option<String> {
    if !source.client.conditional_requests || options.method() != Method::Get {
        return None;
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, salt.as_bytes());
    let mut context = hmac::Context::with_key(&key);
    // Secrets are masked in what is printed for debugging. One more detail than matters costs a full read.
    let options = format!("{target:?} {options:?} {}", env!("CARGO_PKG_VERSION"));
    let secrets = source.client.auth.iter().flat_map(|auth| auth.secrets());
    let parts = [request_fingerprint.to_owned(), options].into_iter();
    for part in parts.chain(secrets.map(|secret| secret.expose().to_owned())) {
        // With the lengths, no two different lists run together into the same bytes.
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    Some(context.sign().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

impl Resource {
    /// The mark for a partition: what its parent's record puts on the rows is no part of the page.
    #[must_use]
    pub fn validity_of(&self, parent_fields: Option<&str>) -> Option<String> {
        let fingerprint = self.validity_fingerprint.as_ref()?;
        let Some(fields) = parent_fields else { return Some(fingerprint.clone()) };
        let mark = digest::digest(&digest::SHA256, fields.as_bytes());
        let mark: String = mark.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Some(format!("{fingerprint} {mark}"))
    }
}

/// What is known of a page for the next read. `end` is why the read ends with it, if it does.
pub(super) fn validity(read: &Read, first: bool, fetched: &Fetched<Decoded>, end: Option<StopReason>) -> Validity {
    let decoded = match &fetched.value {
        Outcome::Unchanged => return Validity::Unchanged,
        Outcome::Accepted(decoded) => decoded,
        Outcome::Ignored | Outcome::Stopped => return Validity::Unknown,
    };
    let resource = &read.resource;
    let (Some(fingerprint), Some(stop_reason)) = (&read.validity_fingerprint, end) else {
        return Validity::Unknown;
    };
    let is_all = first && read.start.position.is_none() && fetched.received.status == 200;
    let records = decoded.rows.received();
    let looks_full = looks_full(records, &fetched.received);
    if !is_all || !covers_the_end(&resource.paginator, stop_reason, looks_full) || !is_whole(&fetched.shown_url) {
        return Validity::Unknown;
    }
    // They are stored, and sent again: one that gives back a secret is worth a full read.
    let is_fit = |text: &String| !resource.client.holds_secret(&read.request, text);
    let (etag, last_modified) = offered(&fetched.received);
    match (etag.filter(is_fit), last_modified.filter(is_fit)) {
        (None, None) => Validity::Unknown,
        (etag, last_modified) => Validity::Vouched(Validators {
            url: fetched.shown_url.clone(),
            fingerprint: fingerprint.clone(),
            etag,
            last_modified,
            stop_reason,
        }),
    }
}

/// Whether a page that ended its read for this reason would change if another page came behind it. A server vouches
/// for the body of a page, not for its headers.
fn covers_the_end(paginator: &Paginator, reason: StopReason, looks_full: bool) -> bool {
    let in_body = match reason {
        StopReason::SinglePage
        | StopReason::HasMoreFalse
        | StopReason::EmptyPage
        | StopReason::ShortPage
        | StopReason::CursorBoundary => true,
        StopReason::NoNext => match paginator {
            Paginator::JsonLink(_) | Paginator::Cursor(_) => true,
            // A page that is not full gets its own records first.
            Paginator::HeaderLink(_) | Paginator::Auto(_) => !looks_full,
            _ => false,
        },
        StopReason::TotalReached => match paginator {
            Paginator::Offset(options) => options.total_header.is_none(),
            Paginator::PageNumber(options) => options.total_header.is_none(),
            _ => false,
        },
        _ => false,
    };
    // What `auto` found no sign of can show in a header the next time.
    in_body && !(looks_full && matches!(paginator, Paginator::Auto(_)))
}

/// Whether a page may hold as many records as a page can: a round number of them, or one that the request names.
fn looks_full(records: u64, received: &Received) -> bool {
    let is_round = records.is_multiple_of(5) || records.is_power_of_two();
    let is_asked_for = received.url.query_pairs().any(|(_, value)| value.parse() == Ok(records));
    records > 0 && (is_asked_for || records >= FULL_PAGE_RECORDS_MIN && is_round)
}

/// Whether a response that says that the page is unchanged says as well that there is another one behind it.
pub(super) fn names_a_next_page(resource: &Resource, received: &Received) -> bool {
    let rel = match &resource.paginator {
        Paginator::HeaderLink(options) => options.rel.as_str(),
        _ => "next",
    };
    !matches!(link_with_rel(&received.headers, rel), Ok(None))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{covers_the_end, looks_full};
    use crate::page::StopReason;
    use crate::rest::client::Received;
    use crate::rest::paginator::Paginator;

    #[test]
    fn a_page_vouches_for_the_end_of_its_read_only_where_its_body_says_it() {
        use StopReason::{
            CursorBoundary, EmptyPage, Error, HasMoreFalse, MaxPages, NoNext, ShortPage, SinglePage, StoppedByAction,
            TotalReached,
        };
        for (paginator, reason, when_short, when_full) in [
            (json!({"type": "single_page"}), SinglePage, true, true),
            (json!({"type": "json_link", "next_url_path": "n"}), NoNext, true, true),
            (json!({"type": "cursor", "cursor_path": "c", "cursor_param": "c"}), NoNext, true, true),
            (json!({"type": "cursor", "cursor_from": "last_record.id", "cursor_param": "c"}), EmptyPage, true, true),
            (json!({"type": "header_link"}), NoNext, true, false),
            (json!({"type": "header_link", "has_more_path": "m"}), HasMoreFalse, true, true),
            (json!({"type": "header_link"}), CursorBoundary, true, true),
            (json!({"type": "header_cursor", "header": "h", "cursor_param": "c"}), NoNext, false, false),
            (json!({"type": "page_number"}), EmptyPage, true, true),
            (json!({"type": "page_number", "stop_on_short_page": true}), ShortPage, true, true),
            (json!({"type": "page_number", "total_path": "t"}), TotalReached, true, true),
            (json!({"type": "page_number", "total_header": "t"}), TotalReached, false, false),
            (
                json!({"type": "offset", "limit": 5, "offset_param": "o", "total_header": "t"}),
                TotalReached,
                false,
                false,
            ),
            (json!({"type": "auto"}), SinglePage, true, false),
            (json!({"type": "auto"}), NoNext, true, false),
            (json!({"type": "single_page"}), StoppedByAction, false, false),
            (json!({"type": "single_page"}), MaxPages, false, false),
            (json!({"type": "single_page"}), Error, false, false),
        ] {
            let options: Paginator = serde_json::from_value(paginator.clone()).unwrap();
            let found = [false, true].map(|looks_full| covers_the_end(&options, reason, looks_full));
            assert_eq!(found, [when_short, when_full], "{paginator} {reason}");
        }
    }

    #[test]
    fn a_page_looks_full_when_it_is_round_or_as_large_as_was_asked_for() {
        for (records, query, expected) in [
            (0, "", false),
            (0, "offset=0", false),
            (3, "", false),
            (8, "", false),
            (10, "", true),
            (11, "", false),
            (16, "", true),
            (25, "", true),
            (100, "per_page=1000", true),
            (7, "per_page=7", true),
            (7, "per_page=8", false),
        ] {
            let url = format!("https://a/?{query}").parse().unwrap();
            let received =
                Received { status: 200, headers: http::HeaderMap::new(), body: bytes::Bytes::new(), url, framed: true };
            assert_eq!(looks_full(records, &received), expected, "{records} {query}");
        }
    }
}
