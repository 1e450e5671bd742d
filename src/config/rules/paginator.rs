//! Rules for `paginator`: keys that exclude or need each other.

use super::super::path::Path;
use super::Rules;
use super::client::check_header_name;
use crate::rest::paginator::{Cursor, Offset, PageNumber, Paginator};

pub(super) fn check(paginator: &Paginator, path: &Path, rules: &mut Rules<'_>) {
    match paginator {
        Paginator::Cursor(cursor) => check_cursor(cursor, path, rules),
        Paginator::Offset(offset) => check_offset(offset, path, rules),
        Paginator::PageNumber(page) => check_page_number(page, path, rules),
        Paginator::HeaderCursor(cursor) => check_header_name(Some(&cursor.header), &path.key("header"), rules),
        Paginator::JsonLink(_) | Paginator::SinglePage(_) | Paginator::HeaderLink(_) | Paginator::Auto(_) => {}
    }
    for key in [
        "next_url_path",
        "cursor_path",
        "cursor_body_path",
        "has_more_path",
        "total_path",
        "offset_body_path",
        "limit_body_path",
        "page_body_path",
    ] {
        check_dotted(&path.key(key), rules);
    }
}

/// A dotted path names keys, with no empty one among them, and is not JSONPath.
pub(super) fn check_dotted(path: &Path, rules: &mut Rules<'_>) {
    let Some(text) = rules.tree.at(path).and_then(|node| node.text()) else { return };
    if text.starts_with("$.") || text.starts_with("$[") {
        rules.refuse(path, "is a dotted path here (`data.next`), not JSONPath");
    } else if text.split('.').any(str::is_empty) {
        rules.refuse(path, "is a dotted path such as `data.next`; no part of it can be empty");
    }
}

fn check_cursor(cursor: &Cursor, path: &Path, rules: &mut Rules<'_>) {
    exactly_one(rules, path, &["cursor_path", "cursor_from"], "where the token is");
    exactly_one(rules, path, &["cursor_param", "cursor_body_path", "cursor_header"], "where the token goes");
    if let Some(from) = &cursor.cursor_from
        && from.strip_prefix("last_record.").is_none_or(|field| field.split('.').any(str::is_empty))
    {
        rules.refuse(&path.key("cursor_from"), "must be `last_record.FIELD`, such as \"last_record.id\"");
    }
    check_header_name(cursor.cursor_header.as_ref(), &path.key("cursor_header"), rules);
}

fn check_offset(offset: &Offset, path: &Path, rules: &mut Rules<'_>) {
    at_most_one(rules, path, &["offset_param", "offset_body_path"]);
    at_most_one(rules, path, &["limit_param", "limit_body_path"]);
    at_most_one(rules, path, &["total_path", "total_header"]);
    check_header_name(offset.total_header.as_ref(), &path.key("total_header"), rules);
}

fn check_page_number(page: &PageNumber, path: &Path, rules: &mut Rules<'_>) {
    at_most_one(rules, path, &["page_param", "page_body_path"]);
    at_most_one(rules, path, &["total_path", "total_header"]);
    check_header_name(page.total_header.as_ref(), &path.key("total_header"), rules);
    if page.page_size.is_some() && page.page_size_param.is_none() {
        rules.refuse(&path.key("page_size"), "`page_size` needs `page_size_param`, the parameter that it is sent as");
    }
    if page.page_size.is_none() && page.page_size_param.is_some() {
        rules.refuse(&path.key("page_size_param"), "`page_size_param` needs `page_size`");
    }
}

fn exactly_one(rules: &mut Rules<'_>, path: &Path, keys: &[&str], purpose: &str) {
    if !keys.iter().any(|key| rules.is_set(&path.key(key))) {
        let keys = super::super::suggest::list(keys);
        rules.refuse(path, format!("one of {keys} must say {purpose}"));
    }
    at_most_one(rules, path, keys);
}

pub(super) fn at_most_one(rules: &mut Rules<'_>, path: &Path, keys: &[&str]) {
    let set: Vec<_> = keys.iter().filter(|key| rules.is_set(&path.key(key))).collect();
    if let [first, others @ ..] = set.as_slice() {
        for other in others {
            rules.refuse(&path.key(other), format!("`{other}` and `{first}` exclude each other"));
        }
    }
}

/// The keys of a paginator that put something into the request's JSON body.
pub(super) fn body_keys(paginator: &Paginator) -> Vec<&'static str> {
    let keys = match paginator {
        Paginator::Cursor(cursor) => vec![("cursor_body_path", cursor.cursor_body_path.is_some())],
        Paginator::Offset(offset) => vec![
            ("offset_body_path", offset.offset_body_path.is_some()),
            ("limit_body_path", offset.limit_body_path.is_some()),
        ],
        Paginator::PageNumber(page) => vec![("page_body_path", page.page_body_path.is_some())],
        _ => Vec::new(),
    };
    keys.into_iter().filter(|(_, is_set)| *is_set).map(|(key, _)| key).collect()
}
