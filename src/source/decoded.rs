//! A body as a page of its resource, and what of it is needed after its rows were taken out.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use serde_json::Value as Json;

use super::select::{Body, NoRecords, Selector};
use crate::decode;
use crate::page::{Layout, Rows, Text, Value};
use crate::rest::client::{Received, Rejected};
use crate::rest::paginator::Paginator;

/// A body that is a page of the resource.
pub(super) struct Decoded {
    pub(super) rows: Rows,
    pub(super) text: Text,
    /// Where in the text the records are, if in one place.
    pub(super) records: Option<Range<usize>>,
    /// The values that the paginator looks at.
    pub(super) scalars: Vec<(String, Json)>,
    pub(super) found_at: Option<String>,
}

impl Decoded {
    pub(super) fn scalar(&self, path: &str) -> Option<Json> {
        self.scalars.iter().find(|(known, _)| known == path).map(|(_, value)| value.clone())
    }

    /// Where in the text the records are; nowhere when they are in several places.
    pub(super) fn records_at(&self) -> Range<usize> {
        let base = self.text.as_str().as_ptr().addr();
        self.records.clone().map_or(0..0, |range| base + range.start..base + range.end)
    }
}

/// A body as a page, or the reason why it is none.
pub(super) fn decode_page(
    received: &Received,
    selector: &Selector,
    paginator: &Paginator,
    layout: &Layout,
) -> Result<Decoded, Rejected> {
    let not_a_page = |reason: String| Rejected { reason, retry: true };
    if received.body.is_empty() {
        return Err(not_a_page(format!(
            "the body is empty (status {}); if that is how this API says that there is no more, add \
             response_actions = [{{ status_code = {}, action = \"stop\" }}]",
            received.status, received.status
        )));
    }
    let text = Text::new(received.body.clone()).ok_or_else(|| not_a_page("the body is not UTF-8".to_owned()))?;
    let whole = text.as_str();
    let not_json = |error: &dyn std::fmt::Display| {
        let kind = if whole.trim_start().starts_with('<') { "HTML or XML" } else { "not JSON" };
        not_a_page(format!("the body is {kind}: {error}"))
    };
    let body = Body::parse(whole).map_err(|error| not_json(&error))?;
    let selected = body.select(selector).map_err(|none| match none {
        NoRecords::NotAPage(reason) => not_a_page(reason),
        NoRecords::Undecided(reason) => Rejected { reason, retry: false },
    })?;
    let mut rows = decode::decode(&text, &selected.parts).map_err(|error| not_json(&error))?;
    decode::nest(&mut rows, layout);
    let records = match selected.parts.as_slice() {
        [part] => {
            let start = part.as_ptr().addr() - whole.as_ptr().addr();
            Some(start..start + part.len())
        }
        _ => None,
    };
    let scalars = paginator
        .body_paths()
        .into_iter()
        .filter_map(|path| body.value(path).map(|value| (path.to_owned(), value)))
        .collect();
    let found_at = selected.found_at;
    Ok(Decoded { rows, text, records, scalars, found_at })
}

/// A hash of the keys of a page's records, where every record has one. It tells the same records again although a
/// field of them changes with every answer.
pub(super) fn keys_of(rows: &Rows, primary_key: &[String]) -> Option<u64> {
    if primary_key.is_empty() || rows.is_empty() || rows.received() != rows.len() as u64 {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    for row in 0..rows.len() {
        for column in primary_key {
            match rows.get(row, column)? {
                Value::Null => return None,
                Value::Bool(value) => value.hash(&mut hasher),
                Value::Integer(_, text) | Value::Real(_, text) | Value::Number(text) => (0, text).hash(&mut hasher),
                Value::Text(text) => (1, text).hash(&mut hasher),
                Value::Json(text) | Value::List(text) => (2, text).hash(&mut hasher),
            }
        }
    }
    Some(hasher.finish())
}
