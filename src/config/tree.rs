//! The file as a tree in which every key and value knows where it was written. TOML is parsed once, here; what
//! comes later changes values of this tree and never the text.

use std::ops::Range;

use indexmap::IndexMap;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Findings, Problem};
use super::path::{Path, Step};
use crate::template::{SegmentKind, segments_value};

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Bytes of the file.
    Span(Range<usize>),
    /// An environment variable that overrides the file.
    Variable(String),
    /// Nowhere in particular.
    Unknown,
}

/// A value and where it comes from. There is no `Debug`: it may hold secrets.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) place: Place,
}

/// What a [`Node`] holds.
#[derive(Clone)]
pub(super) enum Value {
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(Text),
    List(Vec<Node>),
    Table(Table),
}

/// A string of the configuration.
#[derive(Clone)]
pub(super) enum Text {
    /// As it was written.
    Written(String),
    /// With text filled in that is not secret by itself; all the same it is never quoted in a message.
    Filled(String),
    /// Parts, of which those marked `true` are secret.
    Segments(Vec<(SegmentKind, String)>),
}

/// The entries of a table, in the order of the file.
pub(super) type Table = IndexMap<String, Entry>;

/// One key of a table.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) key_place: Place,
    pub(super) node: Node,
}

impl Node {
    /// The node's entries, if it is a table.
    pub(super) fn table(&self) -> Option<&Table> {
        match &self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The node's entries, if it is a table.
    pub(super) fn table_mut(&mut self) -> Option<&mut Table> {
        match &mut self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The value of one key.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        self.table()?.get(key).map(|entry| &entry.node)
    }

    /// The value of one key.
    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        self.table_mut()?.get_mut(key).map(|entry| &mut entry.node)
    }

    /// The text that a person wrote here, or that was filled in without being secret.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(Text::Written(text) | Text::Filled(text)) => Some(text),
            _ => None,
        }
    }

    /// The text as it stands in the file: the only kind that a message may quote.
    pub(super) fn written(&self) -> Option<&str> {
        match (&self.value, &self.place) {
            (Value::Text(Text::Written(text)), Place::Span(_)) => Some(text),
            _ => None,
        }
    }

    /// What it is, for a message.
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            Value::Bool(_) => "a boolean",
            Value::Integer(_) => "an integer",
            Value::Float(_) => "a number with a fraction",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
        }
    }

    /// The node at a path.
    pub(super) fn at(&self, path: &Path) -> Option<&Self> {
        path.steps().iter().try_fold(self, |node, step| match (step, &node.value) {
            (Step::Key(key), Value::Table(table)) => table.get(key).map(|entry| &entry.node),
            (Step::Index(index), Value::List(list)) => list.get(*index),
            _ => None,
        })
    }

    /// Where the value at a path stands, or else what is nearest above it.
    pub(super) fn place_of(&self, path: &Path) -> Place {
        let mut path = path.clone();
        loop {
            if let Some(node) = self.at(&path) {
                return node.place.clone();
            }
            match path.parent() {
                Some(parent) => path = parent,
                None => return Place::Unknown,
            }
        }
    }

    /// Where the key at the end of a path stands.
    pub(super) fn key_place_of(&self, path: &Path) -> Place {
        let entry = path.parent().and_then(|parent| self.at(&parent)?.table()?.get(path.last_key()?));
        entry.map_or(Place::Unknown, |entry| entry.key_place.clone())
    }

    /// The JSON value from which the typed configuration is made.
    pub(super) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Bool(value) => (*value).into(),
            Value::Integer(value) => (*value).into(),
            Value::Float(value) => (*value).into(),
            Value::Text(Text::Written(text) | Text::Filled(text)) => text.as_str().into(),
            Value::Text(Text::Segments(segments)) => {
                let segments: Vec<_> = segments.iter().map(|(secret, text)| (*secret, text.as_str())).collect();
                segments_value(&segments)
            }
            Value::List(list) => list.iter().map(Self::to_json).collect(),
            Value::Table(table) => table
                .iter()
                .map(|(key, entry)| (key.clone(), entry.node.to_json()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }
}

/// Parses TOML. Every syntax error is found; with one, the tree is what could be recovered.
pub(super) fn parse(text: &str, findings: &mut Findings) -> Node {
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let place = error.span().map_or(Place::Unknown, Place::Span);
        findings.problem(Problem::new(Path::default(), place, format!("not valid TOML: {}", error.message())));
    }
    let table = table(document.into_inner(), &Path::default(), findings);
    Node { value: Value::Table(table), place: Place::Unknown }
}

fn table(source: DeTable<'_>, path: &Path, findings: &mut Findings) -> Table {
    let mut entries: Vec<_> = source.into_iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let mut table = Table::new();
    for (key, value) in entries {
        let key_place = Place::Span(key.span());
        let key = key.into_inner().into_owned();
        let path = path.key(&key);
        if key.chars().any(char::is_control) {
            findings.problem(Problem::new(path, key_place, "a key cannot hold control characters"));
        } else {
            table.insert(key, Entry { key_place, node: node(value, &path, findings) });
        }
    }
    table
}

fn node(source: Spanned<DeValue<'_>>, path: &Path, findings: &mut Findings) -> Node {
    let place = Place::Span(source.span());
    let mut refuse = |message: &str| findings.problem(Problem::new(path.clone(), place.clone(), message));
    let value = match source.into_inner() {
        DeValue::String(text) => Value::Text(Text::Written(text.into_owned())),
        DeValue::Datetime(time) => Value::Text(Text::Written(time.to_string())),
        DeValue::Boolean(value) => Value::Bool(value),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(value) => Value::Integer(value),
            Err(_) => {
                refuse("an integer of TOML has 64 bits with a sign; this one does not fit");
                Value::Integer(0)
            }
        },
        DeValue::Float(number) => match number.as_str().parse::<f64>() {
            Ok(value) if value.is_finite() => Value::Float(value),
            _ => {
                refuse("a number must be finite");
                Value::Float(0.0)
            }
        },
        DeValue::Array(list) => {
            Value::List(list.into_iter().enumerate().map(|(i, item)| node(item, &path.index(i), findings)).collect())
        }
        DeValue::Table(entries) => Value::Table(table(entries, path, findings)),
    };
    Node { value, place }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> (Node, Findings) {
        let mut findings = Findings::default();
        let node = parse(text, &mut findings);
        (node, findings)
    }

    #[test]
    fn values_keep_their_order_and_their_place() {
        let text = "b = 1\na = { y = 2024-01-01, x = [1.5, true] }\n[t]\nk = 0xff\n";
        let (node, findings) = tree(text);
        assert!(findings.problems.is_empty());
        assert_eq!(node.to_json().to_string(), r#"{"b":1,"a":{"y":"2024-01-01","x":[1.5,true]},"t":{"k":255}}"#);
        let Place::Span(span) = node.place_of(&Path::of(&["a", "x"]).index(1)) else { panic!("a span") };
        assert_eq!(&text[span], "true");
        let Place::Span(span) = node.key_place_of(&Path::of(&["t", "k"])) else { panic!("a span") };
        assert_eq!(&text[span], "k");
    }

    #[test]
    fn what_json_cannot_hold_is_refused() {
        for text in
            ["a = nan", "a = -inf", "a = 1e999", "a = 99999999999999999999", "\"a\\u0000b\" = 1", "\"\\u001b\" = 1"]
        {
            assert_eq!(tree(text).1.problems.len(), 1, "{text}");
        }
    }

    #[test]
    fn every_syntax_error_is_found() {
        assert!(tree("a = \nb = [1,\nc = 1\nc = 2\n").1.problems.len() >= 2);
    }
}
