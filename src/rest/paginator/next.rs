//! What comes after a page, and when a page contradicts itself.

use std::fmt;

use serde_json::Value as Json;

use super::{Evidence, Next, Offset, PageNumber, Paginator, PagingError, Position};
use crate::page::StopReason;

impl Paginator {
    /// What comes after the page at `position`.
    ///
    /// # Errors
    /// When the page says that there is more but not where, or leads to another origin.
    pub fn next(&self, position: &Position, page: &Evidence<'_>) -> Result<Next, PagingError> {
        let limits = self.limits();
        let has_more = has_more(limits.has_more_path, page)?;
        if has_more == Some(false) {
            return Ok(Next::End(StopReason::HasMoreFalse));
        }
        if limits.stop_on_short_page
            && Self::is_short(page)
            && has_more != Some(true)
            && !self.announces_more(position, page)
        {
            return Ok(Next::End(StopReason::ShortPage));
        }
        let found = match (self, position) {
            (Self::SinglePage(_), _) => Next::End(StopReason::SinglePage),
            (Self::HeaderLink(options), _) => link_or_end((page.link)(&options.rel).map_err(PagingError)?, page)?,
            (Self::JsonLink(options), _) => link_or_end(link_in_body(&options.next_url_path, page)?, page)?,
            (Self::HeaderCursor(options), _) => {
                token_or_end(token_in_header(&options.header, page)?, false, position, page)
            }
            (Self::Cursor(options), _) => {
                let token = match (&options.cursor_path, &options.cursor_from) {
                    (Some(path), _) => token_in_body(path, page)?,
                    (None, Some(from)) => {
                        let field = from.strip_prefix("last_record.").unwrap_or(from);
                        let token = (page.last_record)(field);
                        if token.is_none() && page.records > 0 {
                            return Err(PagingError(format!("the last record has no {field:?} to go on from")));
                        }
                        // Without `has_more` only an empty page can tell the end.
                        if has_more.is_none() && page.records == 0 {
                            return Ok(Next::End(StopReason::EmptyPage));
                        }
                        token
                    }
                    (None, None) => None,
                };
                let value = options.cursor_path.as_deref().and_then(|path| (page.scalar)(path));
                token_or_end(token, matches!(value, Some(Json::Number(_))), position, page)
            }
            (Self::Offset(options), Position::Offset { offset }) => {
                return next_offset(options, *offset, has_more, page);
            }
            (Self::PageNumber(options), Position::Page { page: number }) => {
                return next_page(options, *number, has_more, page);
            }
            (Self::Offset(_) | Self::PageNumber(_) | Self::Auto(_), _) => {
                return Err(PagingError(format!("position {position:?} does not belong to this paginator")));
            }
        };
        match found {
            Next::End(reason) if has_more == Some(true) && reason != StopReason::SinglePage => {
                Err(PagingError("the page says that there is more, but not where the next page is".to_owned()))
            }
            found => Ok(found),
        }
    }

    /// Whether an announced total lies behind the page at `position`.
    fn announces_more(&self, position: &Position, page: &Evidence<'_>) -> bool {
        let reached = match (self, position) {
            (Self::Offset(options), Position::Offset { offset }) => {
                offset.saturating_sub(options.initial_offset).saturating_add(page.records)
            }
            (Self::PageNumber(options), Position::Page { page: number }) => {
                number.saturating_sub(options.base_page).saturating_add(1)
            }
            _ => return false,
        };
        self.total(page).is_some_and(|total| reached < total)
    }

    /// Whether a page is shorter than the first one. Than what was asked for says nothing: an API may cap the limit.
    fn is_short(page: &Evidence<'_>) -> bool {
        page.records == 0 || page.first_page_records.is_some_and(|first| page.records < first)
    }
}

/// What `has_more_path` says. A value that is neither yes nor no must not pass for either.
fn has_more(path: Option<&str>, page: &Evidence<'_>) -> Result<Option<bool>, PagingError> {
    let Some(path) = path else { return Ok(None) };
    match (page.scalar)(path) {
        None | Some(Json::Null) => Ok(None),
        Some(value) => truth(&value).map(Some).ok_or_else(|| {
            PagingError(format!("`has_more_path` ({path:?}) leads to a value that says neither yes nor no"))
        }),
    }
}

/// The link at a path: a string, or an object that has one.
fn link_in_body(path: &str, page: &Evidence<'_>) -> Result<Option<String>, PagingError> {
    let Some(value) = (page.scalar)(path) else { return Ok(None) };
    let inside = value.as_object().and_then(|object| ["href", "url", "link"].iter().find_map(|key| object.get(*key)));
    text_or_nothing(path, inside.unwrap_or(&value))
}

fn token_in_body(path: &str, page: &Evidence<'_>) -> Result<Option<String>, PagingError> {
    (page.scalar)(path).map_or(Ok(None), |value| text_or_nothing(path, &value))
}

fn token_in_header(header: &str, page: &Evidence<'_>) -> Result<Option<String>, PagingError> {
    let Some(value) = page.headers.get(header) else { return Ok(None) };
    let text = std::str::from_utf8(value.as_bytes());
    text.map(|text| Some(text.to_owned())).map_err(|_| PagingError(format!("the header {header:?} is not readable")))
}

/// What leads to the next page, as text. `null`, `false` and the empty text say that there is none; what is neither
/// must not pass for the end.
fn text_or_nothing(path: &str, value: &Json) -> Result<Option<String>, PagingError> {
    let kind = match value {
        Json::Object(_) => "an object",
        Json::Array(_) => "a list",
        Json::Bool(true) => "`true`",
        _ => return Ok(token_text(value)),
    };
    Err(PagingError(format!("at {path:?}, where the next page should be, the body has {kind}; correct `paginator`")))
}

fn link_or_end(found: Option<String>, page: &Evidence<'_>) -> Result<Next, PagingError> {
    match found {
        None => Ok(Next::End(StopReason::NoNext)),
        Some(link) => (page.resolve)(&link).map(|url| Next::Page(Position::Link { url })).map_err(PagingError),
    }
}

fn token_or_end(found: Option<String>, number: bool, position: &Position, page: &Evidence<'_>) -> Next {
    match found.filter(|token| !token.is_empty()) {
        None => Next::End(StopReason::NoNext),
        // Some APIs repeat the last token for ever behind their end, with empty pages.
        Some(token)
            if page.records == 0 && matches!(position, Position::Token { token: last, .. } if *last == token) =>
        {
            Next::End(StopReason::EmptyPage)
        }
        Some(token) => Next::Page(Position::Token { token, number }),
    }
}

fn next_offset(
    options: &Offset,
    offset: u64,
    has_more: Option<bool>,
    page: &Evidence<'_>,
) -> Result<Next, PagingError> {
    let end = counted_end(
        &Counted {
            place: format_args!("the page at offset {offset}"),
            reached: offset.saturating_sub(options.initial_offset).saturating_add(page.records),
            unit: "records",
            total_path: options.total_path.as_deref(),
            total_header: options.total_header.as_deref(),
        },
        has_more,
        page,
    )?;
    if let Some(reason) = end {
        return Ok(Next::End(reason));
    }
    // By what came, never by what was asked for: a limit that the API caps would skip the rest of each page, and one
    // that it exceeds would bring rows twice.
    let step = if page.records == 0 { options.limit } else { page.records };
    let next = offset.checked_add(step).ok_or_else(|| PagingError("the offset is too large".to_owned()))?;
    Ok(Next::Page(Position::Offset { offset: next }))
}

fn next_page(
    options: &PageNumber,
    number: u64,
    has_more: Option<bool>,
    page: &Evidence<'_>,
) -> Result<Next, PagingError> {
    let end = counted_end(
        &Counted {
            place: format_args!("page {number}"),
            reached: number.saturating_sub(options.base_page).saturating_add(1),
            unit: "pages",
            total_path: options.total_path.as_deref(),
            total_header: options.total_header.as_deref(),
        },
        has_more,
        page,
    )?;
    if let Some(reason) = end {
        return Ok(Next::End(reason));
    }
    let next = number.checked_add(1).ok_or_else(|| PagingError("the page number is too large".to_owned()))?;
    Ok(Next::Page(Position::Page { page: next }))
}

/// How far a read that counts has come with a page.
struct Counted<'a> {
    /// The page, for people.
    place: fmt::Arguments<'a>,
    reached: u64,
    /// What is counted.
    unit: &'a str,
    total_path: Option<&'a str>,
    total_header: Option<&'a str>,
}

/// Whether a read that counts ends with this page: at an empty one, or at the announced total.
fn counted_end(
    read: &Counted<'_>,
    has_more: Option<bool>,
    page: &Evidence<'_>,
) -> Result<Option<StopReason>, PagingError> {
    if has_more == Some(true) {
        return Ok(None);
    }
    let total = total(read.total_path, read.total_header, page);
    match total {
        Some(total) if page.records == 0 && read.reached < total => {
            Err(PagingError(format!("{} is empty, but the API announced {total} {}", read.place, read.unit)))
        }
        _ if page.records == 0 => Ok(Some(StopReason::EmptyPage)),
        Some(total) if read.reached >= total => end_at(total, read).map(Some),
        _ => Ok(None),
    }
}

/// The end at a total that was reached. One that was passed is no total of this read: it may be the number of
/// something else, and ending by it would lose what comes after.
fn end_at(total: u64, read: &Counted<'_>) -> Result<StopReason, PagingError> {
    let Counted { reached, unit, .. } = read;
    if *reached == total {
        return Ok(StopReason::TotalReached);
    }
    let place = match (read.total_path, read.total_header) {
        (Some(path), _) => format!("`total_path` ({path:?})"),
        (None, header) => format!("`total_header` ({:?})", header.unwrap_or_default()),
    };
    Err(PagingError(format!("{place} announces {total} {unit}, but the read has come to {reached}; correct it")))
}

pub(super) fn total(path: Option<&str>, header: Option<&str>, page: &Evidence<'_>) -> Option<u64> {
    let from_body = path.and_then(|path| (page.scalar)(path)).and_then(|value| match value {
        Json::Number(number) => number.as_u64(),
        Json::String(text) => text.trim().parse().ok(),
        _ => None,
    });
    let from_header = || page.headers.get(header?)?.to_str().ok()?.trim().parse().ok();
    from_body.or_else(from_header)
}

pub(super) fn truth(value: &Json) -> Option<bool> {
    match value {
        Json::Bool(value) => Some(*value),
        Json::Number(number) => number.as_u64().map(|number| number != 0),
        Json::String(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "y" | "on" => Some(true),
            "false" | "0" | "no" | "n" | "off" => Some(false),
            _ => None,
        },
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

/// A token or a link as text; nothing, `null`, `false` and the empty text say that there is none.
pub(super) fn token_text(value: &Json) -> Option<String> {
    match value {
        Json::String(text) if !text.is_empty() => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
