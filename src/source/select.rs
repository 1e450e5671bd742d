//! Where in a body the records are, and the few other values that paging needs from it. Values are found as pieces
//! of the body's own text; nothing is parsed that is not on the way to them.

use std::collections::HashMap;
use std::ops::Range;

use serde_json::Value as Json;
use serde_json::value::RawValue;
use serde_json_path::{JsonPath, PathElement};

use self::members::{entries, members};
use crate::decode::scan::{NotJson, Scanner};

mod members;

/// How deep objects are searched for the list of records when no selector is given.
const SEARCH_DEPTH_MAX: usize = 4;

/// A query needs the whole page as a tree, which takes up to eighty times its bytes.
const JSON_PATH_BYTES_MAX: usize = 8 << 20;

/// Keys under which lists of objects are never the records.
const NEVER_RECORDS: [&str; 4] = ["error", "errors", "warnings", "links"];

/// Where the records of a resource are.
#[derive(Clone, Debug)]
pub enum Selector {
    /// The body itself if it is a list, else its only list of objects.
    Find,
    /// A dotted path; empty for the body itself.
    Path(String),
    /// RFC 9535.
    JsonPath {
        /// The query.
        query: JsonPath,
        /// The dotted path of plain names that it begins with.
        prefix: String,
    },
}

impl Selector {
    /// Reads a `data_selector`.
    ///
    /// # Errors
    /// When it begins with `$` and is not JSONPath.
    pub fn parse(text: Option<&str>) -> Result<Self, String> {
        let Some(text) = text else { return Ok(Self::Find) };
        if !text.starts_with('$') {
            return Ok(Self::Path(text.to_owned()));
        }
        let path = JsonPath::parse(text).map_err(|error| format!("{text:?} is not a JSONPath: {error}"))?;
        let plain = text[1..].strip_suffix("[*]").unwrap_or(&text[1..]);
        let names: Vec<&str> = plain.split('.').collect();
        let is_name = |name: &&str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
        if names[0].is_empty() && names[1..].iter().all(is_name) {
            return Ok(Self::Path(names[1..].join(".")));
        }
        let plain_length = text.find("..").into_iter().chain(text.find('[')).min().unwrap_or(text.len());
        let prefix = text[1..plain_length].trim_start_matches('.').to_owned();
        Ok(Self::JsonPath { query: path, prefix })
    }
}

/// The records of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Selected<'a> {
    /// Texts of lists of records, or of single records.
    pub parts: Vec<&'a str>,
    /// The path that [`Selector::Find`] found.
    pub found_at: Option<String>,
}

/// Why a body has no records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoRecords {
    /// It is no page of the resource; the next answer may be one.
    NotAPage(String),
    /// There are several places where they could be: only the configuration can say.
    Undecided(String),
}

impl From<String> for NoRecords {
    fn from(reason: String) -> Self {
        Self::NotAPage(reason)
    }
}

/// A body that is JSON in its outermost layer.
#[derive(Debug)]
pub(super) struct Body<'a> {
    raw: &'a str,
    entries: Vec<(String, &'a str)>,
    /// The value that was read on the way, and the path to it.
    read: Option<(&'a str, &'a str)>,
}

impl<'a> Body<'a> {
    /// Takes the outermost layer of a body apart.
    ///
    /// # Errors
    /// When it is not JSON. The inside of a list is checked only when its records are decoded.
    pub(super) fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        let raw = text.trim_ascii();
        if raw.starts_with('[') {
            return Ok(Self { raw, entries: Vec::new(), read: None });
        }
        let entries = if raw.starts_with('{') { entries(raw)? } else { Vec::new() };
        if entries.is_empty() {
            serde_json::from_str::<serde::de::IgnoredAny>(raw)?;
        }
        Ok(Self { raw, entries, read: None })
    }

    /// The same, with the records read on the way where the selector is a plain path to them.
    ///
    /// # Errors
    /// When it is not JSON, or cannot be read in one go.
    pub(super) fn parse_reading(
        text: &'a str,
        selector: &'a Selector,
        mut read: impl FnMut(&mut Scanner<'a>) -> Result<(), NotJson>,
    ) -> Result<Self, NotJson> {
        let Selector::Path(path) = selector else { return Err(NotJson) };
        if path.is_empty() {
            return Err(NotJson);
        }
        let raw = text.trim_ascii();
        let mut at_path = None;
        let mut note = |json: &mut Scanner<'a>| {
            let start = json.at();
            read(json)?;
            at_path = Some((path.as_str(), json.since(start)));
            Ok(())
        };
        let mut json = Scanner::new(raw);
        let entries = members(&mut json, Some((path, &mut note)))?;
        json.end()?;
        Ok(Self { raw, entries, read: at_path })
    }

    /// The text of the value at a dotted path. A key that has dots itself is found too.
    #[must_use]
    pub(super) fn at(&self, path: &str) -> Option<&'a str> {
        match self.read {
            Some((known, raw)) if known == path => Some(raw),
            _ if path.is_empty() => Some(self.raw),
            _ => at(&self.entries, path),
        }
    }

    /// The value at a dotted path. Of a large list or object, only that it is one.
    #[must_use]
    pub(super) fn value(&self, path: &str) -> Option<Json> {
        const PARSED_BYTES_MAX: usize = 4096;
        match self.at(path)? {
            raw if raw.starts_with('{') && raw.len() > PARSED_BYTES_MAX => Some(Json::Object(serde_json::Map::new())),
            raw if raw.starts_with('[') && raw.len() > PARSED_BYTES_MAX => Some(Json::Array(Vec::new())),
            raw => scalar(raw),
        }
    }

    /// The scalars outside of the records, with their paths. Lists are not entered.
    #[must_use]
    pub(super) fn leaves(&self, records: &Range<usize>) -> Vec<(String, Json)> {
        let mut found = Vec::new();
        leaves(&self.entries, "", 1, &|raw| raw.as_ptr().addr() == records.start, &mut found);
        found
    }

    /// The records.
    ///
    /// # Errors
    /// When there is nothing where they should be: then the body is no page of this resource.
    pub(super) fn select(&self, selector: &Selector) -> Result<Selected<'a>, NoRecords> {
        let selected = match selector {
            Selector::Find => self.find(),
            Selector::Path(path) => self.at_path(path),
            Selector::JsonPath { query, prefix } => self.at_json_path(query, prefix),
        }?;
        match self.error_beside() {
            Some((key, raw)) if selected.parts.iter().all(|part| is_empty_list(part)) => {
                Err(format!("it has no records, but {key:?} is {}", excerpt(raw)).into())
            }
            _ => Ok(selected),
        }
    }

    /// An error in the outermost layer. Without one, no records are no records.
    fn error_beside(&self) -> Option<(&str, &'a str)> {
        const NOTHING: [&str; 6] = ["null", "false", "\"\"", "[]", "{}", "0"];
        // Only what is short can be nothing, written with blanks or without.
        const NOTHING_BYTES_MAX: usize = 16;
        let is_nothing = |raw: &str| {
            let plain = || raw.split_ascii_whitespace().collect::<String>();
            raw.len() <= NOTHING_BYTES_MAX && NOTHING.contains(&plain().as_str())
        };
        let is_error = |key: &str, raw: &str| matches!(key, "error" | "errors") && !is_nothing(raw);
        self.entries.iter().find(|(key, raw)| is_error(key, raw)).map(|(key, raw)| (key.as_str(), *raw))
    }

    fn at_path(&self, path: &str) -> Result<Selected<'a>, NoRecords> {
        let raw =
            self.at(path).ok_or_else(|| format!("data_selector {path:?} matches nothing in it{}", self.keys()))?;
        match raw.as_bytes().first() {
            Some(b'[' | b'{') => Ok(Selected { parts: vec![raw], found_at: None }),
            // How some servers write an empty list; an error beside it is looked for by the caller.
            Some(b'n') => Ok(Selected { parts: Vec::new(), found_at: None }),
            _ => Err(format!("data_selector {path:?} leads to {}, not to records", excerpt(raw)).into()),
        }
    }

    fn find(&self) -> Result<Selected<'a>, NoRecords> {
        if self.raw.starts_with('[') {
            return Ok(Selected { parts: vec![self.raw], found_at: Some(String::new()) });
        }
        let mut lists = Vec::new();
        lists_of_objects(&self.entries, "", 1, &mut lists);
        match lists.as_slice() {
            [(path, raw)] => Ok(Selected { parts: vec![raw], found_at: Some(path.clone()) }),
            [] => Err(format!("no list of records in it{}; set data_selector", self.keys()).into()),
            several => {
                let paths: Vec<_> = several.iter().map(|(path, _)| path.as_str()).collect();
                let paths = paths.join(", ");
                Err(NoRecords::Undecided(format!("several lists could be the records ({paths}); set data_selector")))
            }
        }
    }

    fn at_json_path(&self, path: &JsonPath, prefix: &str) -> Result<Selected<'a>, NoRecords> {
        if self.raw.len() > JSON_PATH_BYTES_MAX {
            return Err(NoRecords::Undecided(format!(
                "it has {} bytes, and data_selector {path} is looked for in pages of up to {JSON_PATH_BYTES_MAX}; ask for \
                 smaller pages, or use a dotted path",
                self.raw.len()
            )));
        }
        let value: Json = serde_json::from_str(self.raw).map_err(|error| error.to_string())?;
        let located = path.query_located(&value);
        let mut children = Children::default();
        let mut parts = Vec::new();
        for location in located.locations() {
            let raw = location.iter().try_fold(self.raw, |raw, element| children.child(raw, element));
            parts.push(raw.ok_or_else(|| "the body has a key twice".to_owned())?);
        }
        match parts.as_slice() {
            // Of a list, a query may well choose nothing; where there is no list, it looks in the wrong place.
            [] if self.at(prefix).is_some_and(|raw| raw.starts_with('[')) => Ok(Selected { parts, found_at: None }),
            [] => Err(format!("data_selector {path} matches nothing in it{}", self.keys()).into()),
            [list] if list.starts_with('[') => Ok(Selected { parts, found_at: None }),
            _ => {
                let not_objects = parts.iter().any(|raw| !raw.starts_with('{'));
                if not_objects {
                    Err(format!("data_selector {path} matches values that are no records").into())
                } else {
                    Ok(Selected { parts, found_at: None })
                }
            }
        }
    }

    /// The outermost keys, for messages.
    fn keys(&self) -> String {
        const SHOWN_MAX: usize = 8;
        let names: Vec<_> = self.entries.iter().take(SHOWN_MAX).map(|(key, _)| excerpt(key)).collect();
        if names.is_empty() { String::new() } else { format!(" (its keys: {})", names.join(", ")) }
    }
}

fn is_empty_list(raw: &str) -> bool {
    raw.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).is_some_and(|inside| inside.trim_ascii().is_empty())
}

/// The beginning of a text that came from outside, on one line.
fn excerpt(text: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 40;
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

fn at<'a>(entries_here: &[(String, &'a str)], path: &str) -> Option<&'a str> {
    if let Some((_, raw)) = entries_here.iter().rev().find(|(key, _)| key == path) {
        return Some(raw);
    }
    path.match_indices('.').find_map(|(dot, _)| {
        let (_, raw) = entries_here.iter().rev().find(|(key, _)| key == &path[..dot])?;
        at(&entries(raw).ok()?, &path[dot + 1..])
    })
}

/// The value at a dotted path of an object's text.
pub(super) fn value_in(raw: &str, path: &str) -> Option<Json> {
    scalar(at(&entries(raw).ok()?, path)?)
}

fn leaves(
    here: &[(String, &str)],
    prefix: &str,
    depth: usize,
    is_records: &dyn Fn(&str) -> bool,
    found: &mut Vec<(String, Json)>,
) {
    for (key, raw) in here.iter().filter(|(_, raw)| !is_records(raw)) {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match raw.as_bytes()[0] {
            b'[' => {}
            b'{' if depth < SEARCH_DEPTH_MAX => {
                leaves(&entries(raw).unwrap_or_default(), &path, depth + 1, is_records, found);
            }
            b'{' => {}
            _ => found.extend(serde_json::from_str(raw).ok().map(|value| (path, value))),
        }
    }
}

fn lists_of_objects<'a>(here: &[(String, &'a str)], prefix: &str, depth: usize, found: &mut Vec<(String, &'a str)>) {
    for (key, raw) in here.iter().filter(|(key, _)| !NEVER_RECORDS.contains(&key.as_str())) {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        let inside = raw[1..].trim_ascii_start().as_bytes().first();
        match (raw.as_bytes()[0], inside) {
            (b'[', Some(b'{' | b']')) => found.push((path, raw)),
            (b'{', _) if depth < SEARCH_DEPTH_MAX => {
                if let Ok(inner) = entries(raw) {
                    lists_of_objects(&inner, &path, depth + 1, found);
                }
            }
            _ => {}
        }
    }
}

/// Texts of the children of objects and lists, each taken apart once.
#[derive(Default)]
struct Children<'a> {
    objects: HashMap<usize, Vec<(String, &'a str)>>,
    lists: HashMap<usize, Vec<&'a str>>,
}

impl<'a> Children<'a> {
    fn child(&mut self, raw: &'a str, element: &PathElement<'_>) -> Option<&'a str> {
        let place = raw.as_ptr().addr();
        match element {
            PathElement::Name(name) => {
                let object = self.objects.entry(place).or_insert_with(|| entries(raw).unwrap_or_default());
                object.iter().rev().find(|(key, _)| key == name).map(|(_, raw)| *raw)
            }
            PathElement::Index(index) => {
                let list = self.lists.entry(place).or_insert_with(|| {
                    let list: Vec<&RawValue> = serde_json::from_str(raw).unwrap_or_default();
                    list.into_iter().map(RawValue::get).collect()
                });
                list.get(*index).copied()
            }
        }
    }
}

/// A value that is looked at, not stored. A number that would not print as it came is its own text: tokens are sent
/// back digit for digit.
fn scalar(raw: &str) -> Option<Json> {
    match serde_json::from_str(raw).ok()? {
        Json::Number(number) if number.to_string() != raw => Some(Json::String(raw.to_owned())),
        value => Some(value),
    }
}

#[cfg(test)]
mod tests;
