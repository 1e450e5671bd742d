//! Which parts of the file may be secrets that somebody wrote there. Such a file is refused; the report that says so
//! shows stars in their place, whatever else is wrong on the same line.

use std::ops::Range;

use super::path::Path;
use super::tree::{Node, Place, Value};
use crate::secret::MASK;

const WORDS: [&str; 10] =
    ["token", "secret", "password", "passwd", "api_key", "api-key", "apikey", "authorization", "cookie", "credential"];

/// Keys that hold such a word and yet name a place, not a secret.
const HARMLESS_ENDS: [&str; 4] = ["_path", "_param", "_header", "_url"];

/// Keys of `auth` that are no secrets.
const IN_THE_OPEN: [&str; 12] = [
    "type",
    "name",
    "location",
    "username",
    "prefix",
    "token_path",
    "access_token_url",
    "client_id",
    "client_auth",
    "scopes",
    "method",
    "path",
];

/// Names under which parameters and bodies carry credentials, without `_`, `-` and capitals.
const CREDENTIAL_NAMES: [&str; 16] = [
    "apikey",
    "accesskey",
    "accesstoken",
    "apitoken",
    "authtoken",
    "refreshtoken",
    "token",
    "key",
    "secret",
    "secretkey",
    "clientsecret",
    "apisecret",
    "password",
    "auth",
    "authorization",
    "signature",
];

/// Whether a value is a query parameter, or part of a JSON body, that by its name carries a credential.
pub(super) fn is_credential(path: &Path) -> bool {
    let parent = path.parent();
    let is_param = matches!(parent.as_ref().and_then(Path::last_key), Some("params" | "access_token_request_data"));
    let is_body = |key: &str| ["json", "form", "graphql"].contains(&key);
    let in_body = (0..path.steps().len()).any(|depth| path.key_at(depth).is_some_and(is_body));
    let key = path.last_key().unwrap_or_default();
    // Inside of bodies a `key` is mostly a field's name: `filters = [{ key = "status", value = "open" }]`.
    if !is_param && !in_body || in_body && key == "key" {
        return false;
    }
    let name: String = key.chars().filter(|c| !matches!(c, '_' | '-')).collect();
    CREDENTIAL_NAMES.contains(&name.to_lowercase().as_str())
}

/// The strings of the tree that may be secrets. Those with a placeholder only say where one is.
pub(super) fn in_tree(tree: &Node) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    walk(tree, &Path::default(), &mut found);
    found
}

fn walk(node: &Node, path: &Path, found: &mut Vec<Range<usize>>) {
    match &node.value {
        Value::Table(table) => table.iter().for_each(|(key, entry)| walk(&entry.node, &path.key(key), found)),
        Value::List(list) => list.iter().enumerate().for_each(|(i, item)| walk(item, &path.index(i), found)),
        _ if is_suspicious(path) => {
            let has_placeholder = node.text().is_some_and(|text| text.contains("${"));
            if let (false, Place::Span(span)) = (has_placeholder, &node.place) {
                found.push(span.clone());
            }
        }
        _ => {
            if let (Some(text), Place::Span(span)) = (node.text(), &node.place)
                && has_user_info(text)
            {
                found.push(span.clone());
            }
        }
    }
}

fn is_suspicious(path: &Path) -> bool {
    let key = path.last_key().unwrap_or_default();
    let in_auth = (0..path.steps().len()).any(|depth| path.key_at(depth) == Some("auth"));
    // Of the two keys of `[web]` one is a secret, and it may be misspelt.
    let in_web = path.key_at(0) == Some("web") && key != "listen";
    in_auth && !IN_THE_OPEN.contains(&key) || in_web || names_a_secret(key) || is_credential(path)
}

fn names_a_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    WORDS.iter().any(|word| key.contains(word)) && !HARMLESS_ENDS.iter().any(|end| key.ends_with(end))
}

/// Whether a text has a URL with a user name, and perhaps a password, in front of its host (RFC 3986 §3.2.1).
fn has_user_info(text: &str) -> bool {
    text.split("://").skip(1).any(|rest| rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())].contains('@'))
}

/// For a file that is not TOML, where there is no tree to rely on: whatever follows a suspicious word and `=` or `:`,
/// to the end of the line.
pub(super) fn in_text(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let lower = line.to_ascii_lowercase();
        let word = WORDS.iter().chain(&["auth"]).filter_map(|word| lower.find(word)).min();
        let sign = word.and_then(|at| Some(at + lower[at..].find(['=', ':'])?));
        let sign = sign.or_else(|| lower.find("://").filter(|_| has_user_info(line)));
        if let Some(sign) = sign {
            found.push(start + sign + 1..start + line.len());
        }
        start += line.len();
    }
    found
}

/// The text with stars in the place of these parts.
pub(super) fn masked(text: &str, parts: &[Range<usize>]) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut end = 0;
    let mut parts: Vec<&Range<usize>> = parts.iter().collect();
    parts.sort_by_key(|part| part.start);
    for part in parts.into_iter().filter(|part| part.end <= text.len()) {
        if part.start >= end {
            masked.push_str(&text[end..part.start]);
            masked.push_str(MASK);
        }
        end = end.max(part.end);
    }
    masked.push_str(&text[end..]);
    masked
}

#[cfg(test)]
mod tests {
    use super::{has_user_info, in_text, names_a_secret};

    #[test]
    fn a_key_is_suspicious_by_its_words() {
        for (key, expected) in
            [("token", true), ("X-Api-Key", true), ("client_secret", true), ("token_path", false), ("per_page", false)]
        {
            assert_eq!(names_a_secret(key), expected, "{key}");
        }
    }

    #[test]
    fn a_url_hides_its_password_but_not_an_at_sign_of_its_path() {
        for (text, expected) in [
            ("https://me:pw@api.test/v1", true),
            ("see http://me@host", true),
            ("https://api.test/@me", false),
            ("https://api.test?to=a@b.c", false),
            ("me@api.test", false),
        ] {
            assert_eq!(has_user_info(text), expected, "{text}");
        }
        let text = "base_url = https://me:pw@host/\nb = \"x";
        let parts: Vec<_> = in_text(text).into_iter().map(|span| &text[span]).collect();
        assert_eq!(parts, ["//me:pw@host/\n"]);
    }

    #[test]
    fn a_broken_line_hides_what_follows_the_word() {
        let text = "a = 1\nauth = { type = \"bearer\", token = abc }\nb = \n";
        let parts: Vec<_> = in_text(text).into_iter().map(|span| &text[span]).collect();
        assert_eq!(parts, [" { type = \"bearer\", token = abc }\n"]);
    }
}
