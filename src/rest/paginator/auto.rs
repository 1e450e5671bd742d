//! `auto`: what the first response says about how its API is paged.

use super::signs::sign_of_more;
use super::{Auto, Cursor, Evidence, HeaderLink, JsonLink, PageNumber, Paginator, PagingError, SinglePage, truth};

/// Where bodies carry the URL of the next page.
const NEXT_URL_PATHS: [&str; 15] = [
    "next",
    "next_url",
    "nextUrl",
    "next_page_url",
    "nextLink",
    "@odata.nextLink",
    "links.next",
    "links.next.href",
    "_links.next",
    "_links.next.href",
    "meta.next",
    "paging.next",
    "pagination.next",
    "pagination.next_url",
    "link[next].@href",
];

/// Where bodies carry a token for the next page, and the parameter that such APIs take it in.
const TOKEN_PATHS: [(&str, &str); 9] = [
    ("next_cursor", "cursor"),
    ("nextCursor", "cursor"),
    ("meta.next_cursor", "cursor"),
    ("pagination.next_cursor", "cursor"),
    ("response_metadata.next_cursor", "cursor"),
    ("next_page_token", "page_token"),
    ("nextPageToken", "pageToken"),
    ("continuation_token", "continuation_token"),
    ("next_token", "next_token"),
];

/// Where bodies carry the number of pages, beside the number of this one.
const TOTAL_PAGES_PATHS: [(&str, &str); 8] = [
    ("total_pages", "page"),
    ("totalPages", "page"),
    ("last_page", "current_page"),
    ("meta.total_pages", "meta.page"),
    ("meta.total_pages", "meta.current_page"),
    ("meta.last_page", "meta.current_page"),
    ("pagination.total_pages", "pagination.page"),
    ("pagination.pages", "pagination.page"),
];

/// A sign of a next page in a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clue {
    /// The kind of paging that would follow it.
    pub paginator: Paginator,
    /// The sign, as a person would name it.
    pub found: String,
}

/// The plainest sign of a next page in a response, if there is any.
#[must_use]
pub fn clue(page: &Evidence<'_>) -> Option<Clue> {
    if let Ok(Some(_)) = (page.link)("next") {
        let paginator = Paginator::HeaderLink(HeaderLink::default());
        return Some(Clue { paginator, found: "a Link header with rel=\"next\"".to_owned() });
    }
    let text = |path: &str| (page.scalar)(path).and_then(|value| super::token_text(&value));
    let url = NEXT_URL_PATHS.iter().find(|path| text(path).is_some_and(|found| found.contains('/')));
    if let Some(path) = url {
        let next_url_path = (*path).to_owned();
        let paginator = Paginator::JsonLink(JsonLink {
            next_url_path,
            max_pages: None,
            has_more_path: None,
            stop_on_short_page: false,
        });
        return Some(Clue { paginator, found: format!("a URL in the body at {path:?}") });
    }
    let (path, param) = TOKEN_PATHS.iter().find(|(path, _)| text(path).is_some())?;
    let paginator = Paginator::Cursor(Cursor {
        cursor_path: Some((*path).to_owned()),
        cursor_param: Some((*param).to_owned()),
        ..Cursor::default()
    });
    Some(Clue { paginator, found: format!("a token in the body at {path:?}") })
}

/// The paginator for an API whose first response this is.
///
/// # Errors
/// When the response says that there is more, but not how to get it: that must not pass for a single page.
pub fn decide(options: &Auto, page: &Evidence<'_>) -> Result<Paginator, PagingError> {
    let mut decided = clue(page).map(|clue| clue.paginator).or_else(|| numbered(page)).unwrap_or_else(single);
    if let Paginator::SinglePage(_) = decided {
        (page.link)("next").map_err(PagingError)?;
        let has_more = options.has_more_path.as_deref();
        let declared = has_more.filter(|path| (page.scalar)(path).and_then(|value| truth(&value)) == Some(true));
        if let Some(sign) = sign_of_more(page).or_else(|| declared.map(str::to_owned)) {
            return Err(PagingError(format!(
                "the response has {} records and looks like there is more ({sign}), but not where; set `paginator`, or \
                 {{ type = \"single_page\" }} if one page is all",
                page.records
            )));
        }
    }
    inherit(&mut decided, options);
    Ok(decided)
}

fn single() -> Paginator {
    Paginator::SinglePage(SinglePage {})
}

fn numbered(page: &Evidence<'_>) -> Option<Paginator> {
    let number = |path: &str| (page.scalar)(path).and_then(|value| value.as_u64());
    let (total_path, _) = TOTAL_PAGES_PATHS
        .iter()
        .find(|(total, current)| number(total).is_some_and(|total| total > 0) && number(current) == Some(1))?;
    Some(Paginator::PageNumber(PageNumber { total_path: Some((*total_path).to_owned()), ..PageNumber::default() }))
}

impl Paginator {
    /// What `auto` decided earlier, with the limits that `auto` has now.
    #[must_use]
    pub fn limited_by(mut self, configured: &Self) -> Self {
        if let Self::Auto(options) = configured {
            inherit(&mut self, options);
        }
        self
    }
}

/// Hands the keys that every kind has on to the one that was decided.
fn inherit(decided: &mut Paginator, options: &Auto) {
    macro_rules! hand_on {
        ($($kind:ident),*) => {
            match decided {
                $(Paginator::$kind(decided) => {
                    decided.max_pages = options.max_pages;
                    decided.has_more_path.clone_from(&options.has_more_path);
                    decided.stop_on_short_page = options.stop_on_short_page;
                })*
                _ => {}
            }
        };
    }
    hand_on!(HeaderLink, JsonLink, Cursor, PageNumber);
}
