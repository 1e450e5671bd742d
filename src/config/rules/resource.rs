//! Rules for `resources.NAME`: the request, the records, the table.

use serde_json_path::JsonPath;
use url::Url;

use super::super::path::Path;
use super::super::suggest::quoted;
use super::{Rules, client, format, paginator, processing_step, request_body, response_action};
use crate::page::WriteDisposition;
use crate::rest::ClientOptions;
use crate::rest::paginator::Paginator;
use crate::source::ResourceOptions;
use crate::template::Template;

/// Parsing JSONPath costs stack for every level of nesting.
const SELECTOR_BYTES_MAX: usize = 500;

/// Each filter inside a filter doubles the time that parsing takes.
const FILTERS_MAX: usize = 8;

pub(super) fn check(
    name: &str,
    resource: &ResourceOptions,
    client: &ClientOptions,
    source: &Path,
    rules: &mut Rules<'_>,
) {
    let path = source.key("resources").key(name);
    check_url(name, resource, &client.base_url, &path, rules);
    client::check_headers(&resource.headers, &path.key("headers"), rules);
    check_selector(resource, &path, rules);
    check_key(resource, &path, rules);
    request_body::check(resource, client, source, &path, rules);
    format::check(resource, client, source, &path, rules);
    check_concurrency(resource, client, &path, rules);
    check_secret_path(resource, client, &path, rules);
    response_action::check(&path.key("response_actions"), rules);
    processing_step::check(resource, &path, rules);
    if let Some(options) = &resource.paginator {
        paginator::check(options, &path.key("paginator"), rules);
    }
}

fn check_url(name: &str, resource: &ResourceOptions, base_url: &str, path: &Path, rules: &mut Rules<'_>) {
    let Ok(base) = client::base_url(base_url) else { return };
    let text = resource.path.as_ref().map_or_else(|| name.to_owned(), |path| path.expose());
    let path = path.key("path");
    let is_full = text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("http")) && text.contains("://");
    let joined = if is_full { text.clone() } else { format!("{base_url}{text}") };
    let is_separated = is_full || text.is_empty() || base_url.ends_with('/') || text.starts_with(['/', '?']);
    match Url::parse(&joined) {
        _ if !is_separated => {
            let help = "end `base_url` with `/`";
            rules.refuse_with_help(&path, "is joined with `base_url` as text, and there is no `/` between them", help);
        }
        Ok(url) if url.origin() != base.origin() => {
            rules.refuse(&path, "a full URL must be on the origin of `base_url`: credentials go nowhere else");
        }
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            rules.refuse(&path, "must not hold a user name or a password: use `auth`");
        }
        Ok(url) if url.fragment().is_some() => rules.refuse(&path, "must not have a fragment (`#`)"),
        Ok(_) => {}
        Err(error) => rules.refuse(&path, format!("does not make a URL with `base_url`: {error}")),
    }
}

fn check_selector(resource: &ResourceOptions, path: &Path, rules: &mut Rules<'_>) {
    let Some(selector) = &resource.data_selector else { return };
    let path = path.key("data_selector");
    if !selector.starts_with('$') {
        return paginator::check_dotted(&path, rules);
    }
    if selector.len() > SELECTOR_BYTES_MAX || selector.matches('?').count() > FILTERS_MAX {
        let message = format!("must not be longer than {SELECTOR_BYTES_MAX} bytes or have more than {FILTERS_MAX} `?`");
        return rules.refuse(&path, message);
    }
    if let Err(error) = JsonPath::parse(selector) {
        let reason = if rules.is_written(&path) { format!(": {}", quoted(&error.to_string())) } else { String::new() };
        rules.refuse(&path, format!("is not JSONPath (RFC 9535){reason}"));
    }
}

fn check_key(resource: &ResourceOptions, path: &Path, rules: &mut Rules<'_>) {
    if let Some(columns) = &resource.primary_key {
        let key = path.key("primary_key");
        if columns.0.iter().enumerate().any(|(i, column)| columns.0[..i].contains(column)) {
            rules.refuse(&key, "names a column twice");
        }
    } else if resource.write_disposition == Some(WriteDisposition::Merge) {
        let help = "set `primary_key`, or `write_disposition = \"append\"`";
        rules.refuse_with_help(&path.key("write_disposition"), "`merge` needs a `primary_key`", help);
    }
}

/// The next link of a path repeats that path, and links are stored.
fn check_secret_path(resource: &ResourceOptions, client: &ClientOptions, path: &Path, rules: &mut Rules<'_>) {
    let paginator = resource.paginator.as_ref().or(client.paginator.as_ref());
    let follows_links =
        matches!(paginator, None | Some(Paginator::HeaderLink(_) | Paginator::JsonLink(_) | Paginator::Auto(_)));
    if follows_links && resource.path.as_ref().is_some_and(Template::is_secret) {
        let message = "a secret in `path` would be stored with every link to a next page";
        let help = "set a `paginator` that follows no links (such as `page_number`, `cursor` or `single_page`)";
        rules.refuse_with_help(&path.key("path"), message, help);
    }
}

fn check_concurrency(resource: &ResourceOptions, client: &ClientOptions, path: &Path, rules: &mut Rules<'_>) {
    let has_partitions = resource.partitions.is_some() || resource.slots().iter().any(|slot| slot.key().is_some());
    if has_partitions || resource.concurrency.is_none_or(|pages| pages == 1) {
        return;
    }
    let paginator = resource.paginator.as_ref().or(client.paginator.as_ref());
    if !matches!(paginator, Some(Paginator::Offset(_) | Paginator::PageNumber(_))) {
        let message = "more than one page in flight needs the paginator `offset` or `page_number`: only these know the next positions in advance";
        rules.refuse(&path.key("concurrency"), message);
    }
}
