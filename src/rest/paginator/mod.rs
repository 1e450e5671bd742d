//! From one page to the next: pure functions over plain positions. The paginator is its options; where a read
//! stands is a [`Position`], a value that fits into a checkpoint.

use serde_json::Value as Json;

use crate::page::StopReason;
use crate::template::Template;

mod auto;
mod options;
mod position;

pub use auto::{Clue, clue, decide};
pub use options::{Auto, Cursor, HeaderCursor, HeaderLink, JsonLink, Offset, PageNumber, Paginator, SinglePage};
pub use position::{Changes, Evidence, Limits, Next, PagingError, Position};

impl Paginator {
    /// The keys that every kind has.
    #[must_use]
    pub fn limits(&self) -> Limits<'_> {
        macro_rules! limits {
            ($($kind:ident),*) => {
                match self {
                    Self::SinglePage(_) => {
                        Limits { max_pages: None, has_more_path: None, stop_on_short_page: false }
                    }
                    $(Self::$kind(options) => Limits {
                        max_pages: options.max_pages,
                        has_more_path: options.has_more_path.as_deref(),
                        stop_on_short_page: options.stop_on_short_page,
                    },)*
                }
            };
        }
        limits!(HeaderLink, JsonLink, HeaderCursor, Cursor, Offset, PageNumber, Auto)
    }

    /// The word for it in the configuration.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::SinglePage(_) => "single_page",
            Self::HeaderLink(_) => "header_link",
            Self::JsonLink(_) => "json_link",
            Self::HeaderCursor(_) => "header_cursor",
            Self::Cursor(_) => "cursor",
            Self::Offset(_) => "offset",
            Self::PageNumber(_) => "page_number",
            Self::Auto(_) => "auto",
        }
    }

    /// The position of the first request.
    #[must_use]
    pub fn first(&self) -> Position {
        match self {
            Self::Offset(options) => Position::Offset { offset: options.initial_offset, stride: None },
            Self::PageNumber(options) => Position::Page { page: options.base_page },
            _ => Position::First {},
        }
    }

    /// Whether a stored position is one of this kind of paging.
    #[must_use]
    pub fn accepts(&self, position: &Position) -> bool {
        match (self, position) {
            (Self::Offset(_), Position::Offset { .. }) | (Self::PageNumber(_), Position::Page { .. }) => true,
            (Self::Offset(_) | Self::PageNumber(_), _) => false,
            (Self::HeaderLink(_) | Self::JsonLink(_), Position::Link { .. } | Position::First {}) => true,
            (Self::HeaderCursor(_) | Self::Cursor(_), Position::Token { .. } | Position::First {}) => true,
            (_, position) => *position == Position::First {},
        }
    }

    /// What a request at `position` needs.
    #[must_use]
    pub fn changes(&self, position: &Position) -> Changes {
        let mut changes = Changes::default();
        match (self, position) {
            (Self::Offset(options), Position::Offset { offset, .. }) => {
                place(&mut changes, &options.offset_param, options.offset_body_path.as_deref(), *offset);
                place(&mut changes, &options.limit_param, options.limit_body_path.as_deref(), options.limit);
            }
            (Self::PageNumber(options), Position::Page { page }) => {
                place(&mut changes, &options.page_param, options.page_body_path.as_deref(), *page);
                if let (Some(size), Some(param)) = (options.page_size, &options.page_size_param) {
                    place(&mut changes, param, None, size);
                }
            }
            (Self::HeaderCursor(options), Position::Token { token }) => {
                changes.params.push((options.cursor_param.clone(), token.clone()));
            }
            (Self::Cursor(options), Position::Token { token }) => {
                if let Some(param) = &options.cursor_param {
                    changes.params.push((param.clone(), token.clone()));
                }
                if let Some(header) = &options.cursor_header {
                    changes.headers.push((header.clone(), token.clone()));
                }
                if let Some(path) = &options.cursor_body_path {
                    changes.body.push((path.clone(), Json::String(token.clone())));
                }
            }
            (_, Position::Link { url }) => changes.link = Some(url.clone()),
            _ => {}
        }
        changes
    }

    /// The position after `position` where it does not depend on the response: how pages can be asked for before
    /// the ones in front of them have come.
    #[must_use]
    pub fn plan_after(&self, position: &Position) -> Option<Position> {
        match (self, position) {
            (Self::Offset(_), Position::Offset { offset, stride: Some(stride) }) => {
                Some(Position::Offset { offset: offset.checked_add(*stride)?, stride: Some(*stride) })
            }
            (Self::PageNumber(_), Position::Page { page }) => Some(Position::Page { page: page.checked_add(1)? }),
            _ => None,
        }
    }

    /// Whether `position` lies behind a total as [`Paginator::total`] gives it.
    #[must_use]
    pub fn is_past(&self, position: &Position, total: u64) -> bool {
        match (self, position) {
            (Self::Offset(options), Position::Offset { offset, .. }) => {
                offset.saturating_sub(options.initial_offset) >= total
            }
            (Self::PageNumber(options), Position::Page { page }) => page.saturating_sub(options.base_page) >= total,
            _ => false,
        }
    }

    /// The announced total, where there is one: in records for `offset`, in pages for `page_number`.
    #[must_use]
    pub fn total(&self, page: &Evidence<'_>) -> Option<u64> {
        match self {
            Self::Offset(options) => total(options.total_path.as_deref(), options.total_header.as_deref(), page),
            Self::PageNumber(options) => total(options.total_path.as_deref(), options.total_header.as_deref(), page),
            _ => None,
        }
    }

    /// The dotted paths of the body that [`Paginator::next`] looks at.
    #[must_use]
    pub fn body_paths(&self) -> Vec<&str> {
        let own = match self {
            Self::JsonLink(options) => Some(options.next_url_path.as_str()),
            Self::Cursor(options) => options.cursor_path.as_deref(),
            Self::Offset(options) => options.total_path.as_deref(),
            Self::PageNumber(options) => options.total_path.as_deref(),
            Self::SinglePage(_) | Self::HeaderLink(_) | Self::HeaderCursor(_) | Self::Auto(_) => None,
        };
        own.into_iter().chain(self.limits().has_more_path).collect()
    }

    /// What comes after the page at `position`.
    ///
    /// # Errors
    /// When the page says that there is more but not where, or leads to another origin.
    pub fn next(&self, position: &Position, page: &Evidence<'_>) -> Result<Next, PagingError> {
        let limits = self.limits();
        let has_more = limits.has_more_path.and_then(|path| (page.scalar)(path)).and_then(|value| truth(&value));
        if has_more == Some(false) {
            return Ok(Next::End(StopReason::HasMoreFalse));
        }
        if limits.stop_on_short_page
            && self.is_short(page)
            && has_more != Some(true)
            && !self.announces_more(position, page)
        {
            return Ok(Next::End(StopReason::ShortPage));
        }
        let found = match (self, position) {
            (Self::SinglePage(_), _) => Next::End(StopReason::SinglePage),
            (Self::HeaderLink(options), _) => link_or_end((page.link)(&options.rel), page)?,
            (Self::JsonLink(options), _) => {
                link_or_end((page.scalar)(&options.next_url_path).and_then(|value| token_text(&value)), page)?
            }
            (Self::HeaderCursor(options), _) => {
                let token = page.headers.get(&options.header).and_then(|value| value.to_str().ok());
                token_or_end(token.map(str::to_owned), position, page)
            }
            (Self::Cursor(options), _) => {
                let token = match (&options.cursor_path, &options.cursor_from) {
                    (Some(path), _) => (page.scalar)(path).and_then(|value| token_text(&value)),
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
                token_or_end(token, position, page)
            }
            (Self::Offset(options), Position::Offset { offset, stride }) => {
                return next_offset(options, *offset, *stride, has_more, page);
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
            (Self::Offset(options), Position::Offset { offset, .. }) => {
                offset.saturating_sub(options.initial_offset).saturating_add(page.records)
            }
            (Self::PageNumber(options), Position::Page { page: number }) => {
                number.saturating_sub(options.base_page).saturating_add(1)
            }
            _ => return false,
        };
        self.total(page).is_some_and(|total| reached < total)
    }

    fn is_short(&self, page: &Evidence<'_>) -> bool {
        let full = match self {
            Self::Offset(options) => Some(options.limit),
            Self::PageNumber(options) => options.page_size.or(page.first_page_records),
            _ => page.first_page_records,
        };
        page.records == 0 || full.is_some_and(|full| page.records < full)
    }
}

fn place(changes: &mut Changes, param: &str, body_path: Option<&str>, value: u64) {
    match body_path {
        Some(path) => changes.body.push((path.to_owned(), value.into())),
        None => changes.params.push((param.to_owned(), value.to_string())),
    }
}

fn link_or_end(found: Option<String>, page: &Evidence<'_>) -> Result<Next, PagingError> {
    match found {
        None => Ok(Next::End(StopReason::NoNext)),
        Some(link) => (page.resolve)(&link).map(|url| Next::Page(Position::Link { url })).map_err(PagingError),
    }
}

fn token_or_end(found: Option<String>, position: &Position, page: &Evidence<'_>) -> Next {
    match found.filter(|token| !token.is_empty()) {
        None => Next::End(StopReason::NoNext),
        // Some APIs repeat the last token for ever behind their end, with empty pages.
        Some(token) if page.records == 0 && *position == (Position::Token { token: token.clone() }) => {
            Next::End(StopReason::EmptyPage)
        }
        Some(token) => Next::Page(Position::Token { token }),
    }
}

fn next_offset(
    options: &Offset,
    offset: u64,
    stride: Option<u64>,
    has_more: Option<bool>,
    page: &Evidence<'_>,
) -> Result<Next, PagingError> {
    let total = total(options.total_path.as_deref(), options.total_header.as_deref(), page);
    let reached = offset.saturating_sub(options.initial_offset).saturating_add(page.records);
    if page.records == 0 && has_more != Some(true) {
        return match total {
            Some(total) if reached < total => {
                Err(PagingError(format!("the page at offset {offset} is empty, but the API announced {total} records")))
            }
            _ => Ok(Next::End(StopReason::EmptyPage)),
        };
    }
    if total.is_some_and(|total| reached >= total) && has_more != Some(true) {
        return Ok(Next::End(StopReason::TotalReached));
    }
    let stride = stride.unwrap_or(if page.records == 0 { options.limit } else { page.records.min(options.limit) });
    let next = offset.checked_add(stride).ok_or_else(|| PagingError("the offset is too large".to_owned()))?;
    Ok(Next::Page(Position::Offset { offset: next, stride: Some(stride) }))
}

fn next_page(
    options: &PageNumber,
    number: u64,
    has_more: Option<bool>,
    page: &Evidence<'_>,
) -> Result<Next, PagingError> {
    let total = total(options.total_path.as_deref(), options.total_header.as_deref(), page);
    let reached = number.saturating_sub(options.base_page).saturating_add(1);
    if page.records == 0 && has_more != Some(true) {
        return match total {
            Some(total) if reached < total => {
                Err(PagingError(format!("page {number} is empty, but the API announced {total} pages")))
            }
            _ => Ok(Next::End(StopReason::EmptyPage)),
        };
    }
    if total.is_some_and(|total| reached >= total) && has_more != Some(true) {
        return Ok(Next::End(StopReason::TotalReached));
    }
    let next = number.checked_add(1).ok_or_else(|| PagingError("the page number is too large".to_owned()))?;
    Ok(Next::Page(Position::Page { page: next }))
}

fn total(path: Option<&str>, header: Option<&str>, page: &Evidence<'_>) -> Option<u64> {
    let from_body = path.and_then(|path| (page.scalar)(path)).and_then(|value| match value {
        Json::Number(number) => number.as_u64(),
        Json::String(text) => text.trim().parse().ok(),
        _ => None,
    });
    let from_header = || page.headers.get(header?)?.to_str().ok()?.trim().parse().ok();
    from_body.or_else(from_header)
}

fn truth(value: &Json) -> Option<bool> {
    match value {
        Json::Bool(value) => Some(*value),
        Json::Number(number) => number.as_u64().map(|number| number != 0),
        Json::String(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" => Some(true),
            "false" | "0" | "no" => Some(false),
            _ => None,
        },
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

/// A token or a link as text; nothing, `null`, `false` and the empty text say that there is none.
fn token_text(value: &Json) -> Option<String> {
    match value {
        Json::String(text) if !text.is_empty() => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Sets a value at a dotted path of a JSON body, making the objects on the way.
///
/// # Errors
/// When something on the way is not an object.
pub fn set_at(body: &mut Json, path: &str, value: Json) -> Result<(), PagingError> {
    let mut place = body;
    for key in path.split('.') {
        if place.is_null() {
            *place = Json::Object(serde_json::Map::new());
        }
        place = place
            .as_object_mut()
            .ok_or_else(|| PagingError(format!("{path:?} leads through something that is not an object")))?
            .entry(key)
            .or_insert(Json::Null);
    }
    *place = value;
    Ok(())
}

/// Sets or replaces the value of a name in a list of parameters or headers.
pub fn set_named(list: &mut Vec<(String, Template)>, name: &str, value: &str) {
    list.retain(|(known, _)| known != name);
    list.push((name.to_owned(), Template::text(value)));
}

#[cfg(test)]
mod tests;
