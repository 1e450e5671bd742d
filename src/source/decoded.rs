//! A body as a page of its resource, and what of it is needed after its rows were taken out.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use http::header::CONTENT_TYPE;
use serde_json::Value as Json;

use super::format::BodyFormat;
use super::graphql::error_in;
use super::select::{Body, NoRecords, Selector};
use crate::decode::scan::NotJson;
use crate::decode::{self, DecodeError, OnTheWay, Xml};
use crate::page::{Rows, Text, Value};
use crate::rest::client::{Received, Rejected};
use crate::rest::paginator::Paginator;
use crate::sabotage;

/// A body that is a page of the resource.
pub(super) struct Decoded {
    /// The records as they came.
    pub(super) rows: Rows,
    pub(super) text: Text,
    /// Where in the text the records are, if in one place.
    pub(super) records: Option<Range<usize>>,
    /// What stands around the records.
    around: Around,
    /// The values that the paginator looks at.
    pub(super) scalars: Vec<(String, Json)>,
    pub(super) found_at: Option<String>,
}

/// Where a page says what is not about one record.
enum Around {
    /// In the text that has the records.
    Text,
    /// In this JSON.
    Json(String),
    /// Nowhere: each line is a record.
    Nothing,
}

impl Decoded {
    /// The page without records, or with no more about them than their text.
    fn new(rows: Rows, text: Text, around: Around) -> Self {
        Self { rows, text, records: None, around, scalars: Vec::new(), found_at: None }
    }

    pub(super) fn scalar(&self, path: &str) -> Option<Json> {
        self.scalars.iter().find(|(known, _)| known == path).map(|(_, value)| value.clone())
    }

    /// Bytes that it takes in memory beside the body.
    pub(super) fn heap_bytes(&self) -> u64 {
        let around = match &self.around {
            Around::Json(json) => json.capacity() as u64,
            Around::Text | Around::Nothing => 0,
        };
        self.rows.heap_bytes() + around
    }

    /// What stands around the records, taken apart.
    pub(super) fn envelope(&self) -> Option<Body<'_>> {
        match &self.around {
            Around::Text => Body::parse(self.text.as_str()).ok(),
            Around::Json(json) => Body::parse(json).ok(),
            Around::Nothing => None,
        }
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
    format: &BodyFormat,
    selector: &Selector,
    paginator: &Paginator,
) -> Result<Decoded, Rejected> {
    sabotage::panic_over(&received.body);
    if received.body.is_empty() {
        return if says_lines(received, format) {
            Ok(Decoded::new(Rows::default(), Text::default(), Around::Nothing))
        } else {
            Err(not_a_page(empty(received.status)))
        };
    }
    if !received.framed && matches!(format, BodyFormat::Jsonl {} | BodyFormat::Csv { .. }) {
        return Err(not_a_page(
            "the server ends the body by closing the connection, so a part of it could be missing unnoticed: lines do \
             not say how many they are"
                .to_owned(),
        ));
    }
    let text = Text::new(received.body.clone()).ok_or_else(|| not_a_page("the body is not UTF-8".to_owned()))?;
    match format {
        BodyFormat::Json { graphql } => decode_json(text, *graphql, selector, paginator),
        BodyFormat::Jsonl {} => {
            let rows = decode::jsonl(&text).map_err(|error| refused(&text, "JSON Lines", error))?;
            Ok(Decoded::new(rows, text, Around::Nothing))
        }
        BodyFormat::Csv { delimiter, key } => {
            let rows = decode::csv(&text, *delimiter).map_err(|error| refused(&text, "CSV", error))?;
            if let Some(missing) = key.iter().find(|name| !rows.keys().contains(name)) {
                // Words of an error with a comma in them are a header row, too.
                let reason =
                    format!("the header row of the CSV has no column `{missing}`, which is in the primary_key");
                return Err(not_a_page(reason));
            }
            Ok(Decoded::new(rows, text, Around::Nothing))
        }
        BodyFormat::Xml { record_path } => {
            let Xml { rows, envelope, records } =
                decode::xml(&text, record_path).map_err(|error| refused(&text, "XML", error))?;
            let scalars = Body::parse(&envelope).map(|body| scalars(&body, paginator)).unwrap_or_default();
            Ok(Decoded { records, scalars, ..Decoded::new(rows, text, Around::Json(envelope)) })
        }
    }
}

fn decode_json(text: Text, graphql: bool, selector: &Selector, paginator: &Paginator) -> Result<Decoded, Rejected> {
    let whole = text.as_str();
    let mut on_the_way = OnTheWay::new(&text);
    let body = match Body::parse_reading(whole, selector, |json| on_the_way.read(json)) {
        Ok(body) => body,
        Err(NotJson) => {
            on_the_way = OnTheWay::new(&text);
            Body::parse(whole).map_err(|error| refused(&text, "JSON", error.into()))?
        }
    };
    if graphql && let Some(message) = error_in(body.at("errors")) {
        return Err(not_a_page(format!("the answer to the GraphQL query has an error: {message}")));
    }
    let selected = body.select(selector).map_err(|none| match none {
        NoRecords::NotAPage(reason) => not_a_page(reason),
        NoRecords::Undecided(reason) => Rejected { reason, retry: false },
    })?;
    let rows = match on_the_way.rows(&selected.parts) {
        Some(rows) => rows,
        None => decode::decode(&text, &selected.parts).map_err(|error| refused(&text, "JSON", error))?,
    };
    let records = match selected.parts.as_slice() {
        [part] => {
            let start = part.as_ptr().addr() - whole.as_ptr().addr();
            Some(start..start + part.len())
        }
        _ => None,
    };
    let (scalars, found_at) = (scalars(&body, paginator), selected.found_at);
    Ok(Decoded { records, scalars, found_at, ..Decoded::new(rows, text.clone(), Around::Text) })
}

/// The values of a body that a paginator looks at.
fn scalars(body: &Body<'_>, paginator: &Paginator) -> Vec<(String, Json)> {
    let paths = paginator.body_paths().into_iter();
    paths.filter_map(|path| body.value(path).map(|value| (path.to_owned(), value))).collect()
}

fn not_a_page(reason: String) -> Rejected {
    Rejected { reason, retry: true }
}

/// Why a body is not what its format says.
fn refused(text: &Text, format: &str, error: DecodeError) -> Rejected {
    let is_markup = format != "XML" && text.as_str().trim_start().starts_with('<');
    let kind = if is_markup { "HTML or XML".to_owned() } else { format!("not {format}") };
    match error {
        DecodeError::Json(_) | DecodeError::Broken(_) => not_a_page(format!("the body is {kind}: {error}")),
        DecodeError::Unusable(_) => Rejected { reason: format!("the {format} cannot be read: {error}"), retry: false },
    }
}

/// Whether a response without a body is one of zero lines, and not one of a server that had nothing to say: only then
/// it knows its format.
fn says_lines(received: &Received, format: &BodyFormat) -> bool {
    let kinds: &[&str] = match format {
        BodyFormat::Jsonl {} => &["jsonl", "ndjson", "json-lines", "jsonlines", "json-seq"],
        BodyFormat::Csv { .. } => &["csv", "tab-separated-values"],
        BodyFormat::Json { .. } | BodyFormat::Xml { .. } => return false,
    };
    let kind = received.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().to_ascii_lowercase();
    received.framed && received.status == 200 && kinds.iter().any(|known| kind.contains(known))
}

fn empty(status: u16) -> String {
    format!(
        "the body is empty (status {status}); if that is how this API says that there is no more, add \
         response_actions = [{{ status_code = {status}, when = \"bytes == 0\", action = \"stop\" }}]"
    )
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
