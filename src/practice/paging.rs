//! What a client says about the page it wants: numbers and cursors out of the query, with a clear refusal of nonsense.

use axum::http::Uri;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Practice;
use super::data::Resource;
use super::random::mix;

/// The largest page of any resource. A larger wish is refused: cutting it down silently would make
/// a client that counts by its own limit skip rows.
const PAGE_ROWS_MAX: u64 = 100;

/// Why a request cannot be answered with a page; becomes a 400.
#[derive(Debug, PartialEq)]
pub(super) struct BadRequest(pub(super) String);

/// A half-open range of positions that lies within the resource.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Slice {
    pub(super) start: u64,
    pub(super) end: u64,
}

impl Slice {
    /// Up to `rows` positions from `start` on; empty where the resource has ended before.
    pub(super) fn new(start: u64, rows: u64, total: u64) -> Slice {
        let start = start.min(total);
        Slice { start, end: start.saturating_add(rows).min(total) }
    }
}

/// The query of a request, decoded.
#[derive(Debug)]
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    pub(super) fn of(uri: &Uri) -> Params {
        Params(url::form_urlencoded::parse(uri.query().unwrap_or("").as_bytes()).into_owned().collect())
    }

    /// The value of `name`, the first one where it is there twice.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A whole number of at least `min`.
    pub(super) fn number(&self, name: &str, min: u64, default: u64) -> Result<u64, BadRequest> {
        let Some(text) = self.text(name) else { return Ok(default) };
        text.parse()
            .ok()
            .filter(|number| *number >= min)
            .ok_or_else(|| BadRequest(format!("`{name}` must be a whole number from {min} on, not `{text}`")))
    }

    /// How many rows a page shall have.
    pub(super) fn page_rows(&self, name: &str, default: u64) -> Result<u64, BadRequest> {
        check_page_rows(name, self.number(name, 1, default)?)
    }
}

/// `rows`, unless a page cannot hold as many.
pub(super) fn check_page_rows(name: &str, rows: u64) -> Result<u64, BadRequest> {
    match rows {
        1..=PAGE_ROWS_MAX => Ok(rows),
        _ => Err(BadRequest(format!("`{name}` must be between 1 and {PAGE_ROWS_MAX}, not {rows}"))),
    }
}

impl Practice {
    /// An opaque cursor. Base64 with its `+`, `/` and `=`: a client that does not encode its query breaks here.
    /// It holds for this seed, also in another process; no other seed and no other resource accepts it.
    pub(super) fn cursor(&self, resource: Resource, position: u64) -> String {
        let check = mix(mix(self.options.seed ^ position) ^ resource as u64);
        STANDARD.encode([position.to_le_bytes(), check.to_le_bytes()].concat())
    }

    /// The position that a cursor of ours stands for; no cursor is the beginning.
    pub(super) fn position(&self, resource: Resource, cursor: Option<&str>) -> Result<u64, BadRequest> {
        let Some(cursor) = cursor else { return Ok(0) };
        STANDARD
            .decode(cursor)
            .ok()
            .and_then(|bytes| bytes.first_chunk().copied().map(u64::from_le_bytes))
            .filter(|position| *position <= self.positions(resource) && self.cursor(resource, *position) == cursor)
            .ok_or_else(|| BadRequest(format!("`{cursor}` is not a cursor of {}", resource.name())))
    }

    /// The cursor of the page after `slice`, unless that was the last one.
    pub(super) fn next_cursor(&self, resource: Resource, slice: Slice) -> Option<String> {
        (slice.end < self.positions(resource)).then(|| self.cursor(resource, slice.end))
    }
}
