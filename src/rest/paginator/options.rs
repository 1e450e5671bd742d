//! The options of every kind of paging.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How an API is paged. The options never change while reading; where the read stands is a [`super::Position`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schemars(description = "How an API is paged.")]
pub enum Paginator {
    /// One request has everything.
    SinglePage(SinglePage),
    /// The next URL stands in the `Link` header (RFC 8288).
    HeaderLink(HeaderLink),
    /// The next URL stands in the body.
    JsonLink(JsonLink),
    /// A token for the next request stands in a response header.
    HeaderCursor(HeaderCursor),
    /// A token for the next request stands in the body, or is a field of the last record.
    Cursor(Cursor),
    /// The next request skips what was read.
    Offset(Offset),
    /// The next request asks for the next page number.
    PageNumber(PageNumber),
    /// Decided from the first response, and kept.
    Auto(Auto),
}

/// Options of [`Paginator::SinglePage`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SinglePage {}

/// Options of [`Paginator::HeaderLink`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HeaderLink {
    /// The link relation that leads to the next page.
    pub rel: String,
    /// Stop, incomplete, after this many pages of one read.
    #[schemars(range(min = 1))]
    pub max_pages: Option<u64>,
    /// Dotted path of a boolean in the body that says whether there is more.
    pub has_more_path: Option<String>,
    /// A page with fewer records than the first one is the last.
    pub stop_on_short_page: bool,
}

impl Default for HeaderLink {
    fn default() -> Self {
        Self { rel: "next".to_owned(), max_pages: None, has_more_path: None, stop_on_short_page: false }
    }
}

/// Options of [`Paginator::JsonLink`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonLink {
    /// Dotted path of the next URL, absolute or relative.
    pub next_url_path: String,
    /// Stop, incomplete, after this many pages of one read.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub max_pages: Option<u64>,
    /// Dotted path of a boolean in the body that says whether there is more.
    #[serde(default)]
    pub has_more_path: Option<String>,
    /// A page with fewer records than the first one is the last.
    #[serde(default)]
    pub stop_on_short_page: bool,
}

/// Options of [`Paginator::HeaderCursor`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeaderCursor {
    /// The response header with the token.
    pub header: String,
    /// The query parameter that takes it.
    pub cursor_param: String,
    /// Stop, incomplete, after this many pages of one read.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub max_pages: Option<u64>,
    /// Dotted path of a boolean in the body that says whether there is more.
    #[serde(default)]
    pub has_more_path: Option<String>,
    /// A page with fewer records than the first one is the last.
    #[serde(default)]
    pub stop_on_short_page: bool,
}

/// Options of [`Paginator::Cursor`]: one of `cursor_path` and `cursor_from`, and one of `cursor_param`,
/// `cursor_body_path` and `cursor_header`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cursor {
    /// Dotted path of the token in the body.
    pub cursor_path: Option<String>,
    /// `"last_record.FIELD"`: the token is that field of the page's last record.
    pub cursor_from: Option<String>,
    /// The query parameter that takes the token.
    pub cursor_param: Option<String>,
    /// Dotted path in the request's JSON body, or a field of its form, that takes the token.
    pub cursor_body_path: Option<String>,
    /// The request header that takes the token.
    pub cursor_header: Option<String>,
    /// Stop, incomplete, after this many pages of one read.
    #[schemars(range(min = 1))]
    pub max_pages: Option<u64>,
    /// Dotted path of a boolean in the body that says whether there is more.
    pub has_more_path: Option<String>,
    /// A page with fewer records than the first one is the last.
    pub stop_on_short_page: bool,
}

/// Options of [`Paginator::Offset`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Offset {
    /// Records to ask for in each page.
    #[schemars(range(min = 1))]
    pub limit: u64,
    /// The query parameter of the offset.
    #[serde(default = "default_offset_param")]
    pub offset_param: String,
    /// The query parameter of the limit.
    #[serde(default = "default_limit_param")]
    pub limit_param: String,
    /// Dotted path in the request's JSON body, or a field of its form, that takes the offset, instead of `offset_param`.
    #[serde(default)]
    pub offset_body_path: Option<String>,
    /// Dotted path in the request's JSON body, or a field of its form, that takes the limit, instead of `limit_param`.
    #[serde(default)]
    pub limit_body_path: Option<String>,
    /// The offset of the first page.
    #[serde(default)]
    pub initial_offset: u64,
    /// Dotted path of the number of records in the body.
    #[serde(default)]
    pub total_path: Option<String>,
    /// Response header with the number of records.
    #[serde(default)]
    pub total_header: Option<String>,
    /// Stop, incomplete, after this many pages of one read.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub max_pages: Option<u64>,
    /// Dotted path of a boolean in the body that says whether there is more.
    #[serde(default)]
    pub has_more_path: Option<String>,
    /// A page with fewer records than the first one is the last.
    #[serde(default)]
    pub stop_on_short_page: bool,
}

fn default_offset_param() -> String {
    "offset".to_owned()
}

fn default_limit_param() -> String {
    "limit".to_owned()
}

/// Options of [`Paginator::PageNumber`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PageNumber {
    /// The number of the first page.
    pub base_page: u64,
    /// The query parameter of the page number.
    pub page_param: String,
    /// Dotted path in the request's JSON body, or a field of its form, that takes the page number instead of `page_param`.
    pub page_body_path: Option<String>,
    /// Records to ask for in each page, sent as `page_size_param`.
    #[schemars(range(min = 1))]
    pub page_size: Option<u64>,
    /// The query parameter of the page size.
    pub page_size_param: Option<String>,
    /// Dotted path of the number of pages in the body.
    pub total_path: Option<String>,
    /// Response header with the number of pages.
    pub total_header: Option<String>,
    /// Stop, incomplete, after this many pages of one read.
    #[schemars(range(min = 1))]
    pub max_pages: Option<u64>,
    /// Dotted path of a boolean in the body that says whether there is more.
    pub has_more_path: Option<String>,
    /// A page with fewer records than the first one is the last.
    pub stop_on_short_page: bool,
}

impl Default for PageNumber {
    fn default() -> Self {
        Self {
            base_page: 1,
            page_param: "page".to_owned(),
            page_body_path: None,
            page_size: None,
            page_size_param: None,
            total_path: None,
            total_header: None,
            max_pages: None,
            has_more_path: None,
            stop_on_short_page: false,
        }
    }
}

/// Options of [`Paginator::Auto`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Auto {
    /// Stop, incomplete, after this many pages of one read.
    #[schemars(range(min = 1))]
    pub max_pages: Option<u64>,
    /// Dotted path of a boolean in the body that says whether there is more.
    pub has_more_path: Option<String>,
    /// A page with fewer records than the first one is the last.
    pub stop_on_short_page: bool,
}
