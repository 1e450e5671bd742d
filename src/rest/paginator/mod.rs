//! From one page to the next: pure functions over plain positions. The paginator is its options; where a read
//! stands is a [`Position`], a value that fits into a checkpoint.

use serde_json::Value as Json;

use crate::template::Template;

mod auto;
mod next;
mod options;
mod position;
mod signs;

pub use auto::{Clue, clue, decide};
pub use options::{Auto, Cursor, HeaderCursor, HeaderLink, JsonLink, Offset, PageNumber, Paginator, SinglePage};
pub use position::{Changes, Evidence, Limits, Next, PagingError, Position};

use next::{token_text, total, truth};

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
            Self::Offset(options) => Position::Offset { offset: options.initial_offset },
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
            (Self::Offset(options), Position::Offset { offset }) => {
                place(&mut changes, &options.offset_param, options.offset_body_path.as_deref(), *offset);
                place(&mut changes, &options.limit_param, options.limit_body_path.as_deref(), options.limit);
            }
            (Self::PageNumber(options), Position::Page { page }) => {
                place(&mut changes, &options.page_param, options.page_body_path.as_deref(), *page);
                if let (Some(size), Some(param)) = (options.page_size, &options.page_size_param) {
                    place(&mut changes, param, None, size);
                }
            }
            (Self::HeaderCursor(options), Position::Token { token, .. }) => {
                changes.params.push((options.cursor_param.clone(), token.clone()));
            }
            (Self::Cursor(options), Position::Token { token, number }) => {
                if let Some(param) = &options.cursor_param {
                    changes.params.push((param.clone(), token.clone()));
                }
                if let Some(header) = &options.cursor_header {
                    changes.headers.push((header.clone(), token.clone()));
                }
                if let Some(path) = &options.cursor_body_path {
                    let as_number = token.parse::<i64>().ok().filter(|_| *number).map(Json::from);
                    changes.body.push((path.clone(), as_number.unwrap_or_else(|| Json::String(token.clone()))));
                }
            }
            (_, Position::Link { url }) => changes.link = Some(url.clone()),
            _ => {}
        }
        changes
    }

    /// The position after `position` where it does not depend on the response: how pages can be asked for before
    /// the ones in front of them have come. `step` is how many records a page is taken to hold.
    #[must_use]
    pub fn plan_after(&self, position: &Position, step: u64) -> Option<Position> {
        match (self, position) {
            (Self::Offset(_), Position::Offset { offset }) if step > 0 => {
                Some(Position::Offset { offset: offset.checked_add(step)? })
            }
            (Self::PageNumber(_), Position::Page { page }) => Some(Position::Page { page: page.checked_add(1)? }),
            _ => None,
        }
    }

    /// Whether `position` lies behind a total as [`Paginator::total`] gives it.
    #[must_use]
    pub fn is_past(&self, position: &Position, total: u64) -> bool {
        match (self, position) {
            (Self::Offset(options), Position::Offset { offset }) => {
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
}

fn place(changes: &mut Changes, param: &str, body_path: Option<&str>, value: u64) {
    match body_path {
        Some(path) => changes.body.push((path.to_owned(), value.into())),
        None => changes.params.push((param.to_owned(), value.to_string())),
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
