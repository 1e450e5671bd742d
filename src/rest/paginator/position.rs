//! What the rules of paging are about: where a request stands, what a page says, and what comes next.

use http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::page::StopReason;

/// Where a request stands in the pagination of its resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "at", rename_all = "snake_case", deny_unknown_fields)]
pub enum Position {
    /// The first request of a kind of paging that adds nothing to it.
    First {},
    /// A page number.
    Page {
        /// The number.
        page: u64,
    },
    /// An offset in records.
    Offset {
        /// Records to skip.
        offset: u64,
    },
    /// A token of the API.
    Token {
        /// The token, as received.
        token: String,
        /// It came as a number, and goes back as one where the request is JSON.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        number: bool,
    },
    /// A link of the API: path and query on the origin of the resource, without credentials.
    Link {
        /// The relative URL.
        url: String,
    },
}

/// What the paginator changes about a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Query parameters to set.
    pub params: Vec<(String, String)>,
    /// Headers to set.
    pub headers: Vec<(String, String)>,
    /// Values to set in the JSON body, by dotted path.
    pub body: Vec<(String, Json)>,
    /// A link that takes the place of path and query.
    pub link: Option<String>,
}

/// What a page says about the next one.
pub struct Evidence<'a> {
    /// The response headers.
    pub headers: &'a HeaderMap,
    /// Records received with the page.
    pub records: u64,
    /// Records received with the first page of the read; `None` when this is a later page of a resumed read.
    pub first_page_records: Option<u64>,
    /// The value at a dotted path of the body. Of lists and objects, only that they are there and what strings an
    /// object has.
    pub scalar: &'a dyn Fn(&str) -> Option<Json>,
    /// A field of the last record, as text.
    pub last_record: &'a dyn Fn(&str) -> Option<String>,
    /// A link as found, made relative to the resource's origin, or the reason why it is refused.
    pub resolve: &'a dyn Fn(&str) -> Result<String, String>,
    /// The target of the `Link` header with a relation (RFC 8288).
    pub link: &'a dyn Fn(&str) -> Result<Option<String>, String>,
    /// The scalars of the body outside of the records, with their dotted paths, at most four keys deep. Only for the
    /// first page.
    pub leaves: &'a [(String, Json)],
}

impl std::fmt::Debug for Evidence<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Evidence").field("records", &self.records).finish_non_exhaustive()
    }
}

impl<'a> Evidence<'a> {
    /// The same evidence again.
    #[must_use]
    pub fn copied(&self) -> Evidence<'a> {
        Evidence { ..*self }
    }
}

/// What comes after a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another page.
    Page(Position),
    /// The read is over.
    End(StopReason),
}

/// A page that contradicts itself, or whose next page must not be asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PagingError(pub String);

/// Keys that every kind of paging has.
#[derive(Clone, Copy, Debug)]
pub struct Limits<'a> {
    /// Pages of one read, at most.
    pub max_pages: Option<u64>,
    /// Where the body says whether there is more.
    pub has_more_path: Option<&'a str>,
    /// A short page is the last.
    pub stop_on_short_page: bool,
}
