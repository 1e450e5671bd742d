//! What an element of XML comes to: text, nothing, or an object of JSON.

use std::borrow::Cow;

use indexmap::IndexMap;

/// The key of an element's text, where it has attributes or other elements as well.
const TEXT: &str = "#text";

/// What an element comes to.
pub(super) enum Content<'t> {
    Null,
    Text(Cow<'t, str>),
    /// An object, as its JSON text.
    Object(String),
    /// Several elements of one name, as JSON texts with a comma behind each.
    List(String),
}

impl Content<'_> {
    pub(super) fn json(&self) -> Cow<'_, str> {
        match self {
            Self::Null => "null".into(),
            Self::Text(text) => json_string(text).into(),
            Self::Object(json) => json.into(),
            Self::List(items) => format!("[{}]", items.trim_end_matches(',')).into(),
        }
    }
}

pub(super) fn json_string(text: &str) -> String {
    serde_json::to_string(text).expect("a string is JSON")
}

/// An element that has begun.
pub(super) struct Open<'t> {
    pub(super) name: &'t str,
    /// Length of the path without it.
    pub(super) path_before: usize,
    fields: IndexMap<Cow<'t, str>, Content<'t>>,
    text: Cow<'t, str>,
}

impl<'t> Open<'t> {
    pub(super) fn new(name: &'t str, path_before: usize) -> Self {
        Self { name, path_before, fields: IndexMap::new(), text: "".into() }
    }

    pub(super) fn add_attribute(&mut self, name: &str, value: String) {
        self.fields.insert(format!("@{name}").into(), Content::Text(value.into()));
    }

    pub(super) fn add(&mut self, name: &'t str, content: Content<'t>) {
        match self.fields.get_mut(name) {
            None => {
                self.fields.insert(name.into(), content);
            }
            Some(Content::List(items)) => {
                items.push_str(&content.json());
                items.push(',');
            }
            Some(first) => {
                let items = format!("{},{},", first.json(), content.json());
                *first = Content::List(items);
            }
        }
    }

    /// Adds what an element has, unless there is something of this name.
    pub(super) fn add_once(&mut self, name: String, element: &Open<'t>) {
        self.fields.entry(name.into()).or_insert_with(|| Content::Object(json_object(&element.fields)));
    }

    /// What its attribute `rel` says, where that is a word.
    pub(super) fn relation(&self) -> Option<&str> {
        match self.fields.get("@rel")? {
            Content::Text(rel) if rel.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') => Some(rel),
            _ => None,
        }
    }

    pub(super) fn add_text(&mut self, text: Cow<'t, str>) {
        if self.text.is_empty() { self.text = text } else { self.text.to_mut().push_str(&text) }
    }

    /// Whether it says nothing but that it is nothing (XML Schema Part 1, §2.6.2).
    fn is_nil(&self) -> bool {
        let is_true = |nil: &Content<'_>| matches!(nil, Content::Text(word) if word == "true" || word == "1");
        self.fields.get("@xsi:nil").is_some_and(is_true) && self.fields.keys().all(|name| name.starts_with("@xsi:"))
    }

    /// Its fields, with its text as one of them where it says something beside them.
    pub(super) fn into_fields(mut self) -> IndexMap<Cow<'t, str>, Content<'t>> {
        let says_something = if self.fields.is_empty() { !self.text.is_empty() } else { !self.text.trim().is_empty() };
        if says_something {
            self.fields.insert(TEXT.into(), Content::Text(self.text));
        }
        self.fields
    }

    pub(super) fn into_content(self) -> Content<'t> {
        match (self.fields.is_empty(), self.text.is_empty()) {
            (true, true) => Content::Null,
            (false, true) if self.is_nil() => Content::Null,
            (true, false) => Content::Text(self.text),
            (false, _) => Content::Object(json_object(&self.into_fields())),
        }
    }
}

fn json_object(fields: &IndexMap<Cow<'_, str>, Content<'_>>) -> String {
    let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{}:{}", json_string(name), value.json())).collect();
    format!("{{{}}}", fields.join(","))
}
