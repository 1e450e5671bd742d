//! Paths to values inside of a record: those that an expression consists of, whose text is taken over as it stands,
//! and those of `remove` and `hash`, which change one part of a nested value and leave the text of the others alone.

use std::borrow::Cow;

use indexmap::IndexMap;
use ring::digest;
use serde_json::value::RawValue;

use super::fields::RECORD;
use crate::decode;
use crate::page::{NewValue, Rows, Value};

/// One step from a value into it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Key(String),
    /// From the end where it is negative.
    Index(i64),
}

/// An expression that is only a path, such as `user.emails[0]`.
#[derive(Debug)]
pub(super) struct Taken {
    first: String,
    rest: Vec<Segment>,
}

impl Taken {
    /// The path that an expression consists of, if it does. Its syntax is known to be right.
    pub(super) fn parse(expression: &str) -> Option<Self> {
        let text = expression.trim();
        let (name, mut text) = text.split_at(word_length(text));
        if name.is_empty() || ["true", "false", "none", "True", "False", "None"].contains(&name) {
            return None;
        }
        let mut segments = vec![Segment::Key(name.to_owned())];
        while !text.is_empty() {
            if let Some(behind) = text.strip_prefix('.') {
                let (name, behind) = behind.split_at(word_length(behind));
                segments.push(Segment::Key((!name.is_empty()).then(|| name.to_owned())?));
                text = behind;
            } else {
                let (inside, behind) = text.strip_prefix('[')?.split_once(']')?;
                segments.push(subscript(inside.trim())?);
                text = behind;
            }
        }
        if name == RECORD {
            segments.remove(0);
        }
        let mut segments = segments.into_iter();
        match segments.next()? {
            Segment::Key(first) => Some(Self { first, rest: segments.collect() }),
            Segment::Index(_) => None,
        }
    }

    /// The field that it is, where it leads to nothing inside of one.
    pub(super) fn field(&self) -> Option<&str> {
        self.rest.is_empty().then_some(&self.first)
    }

    /// What stands there in row `row`; `None` where nothing does.
    pub(super) fn get(&self, rows: &Rows, row: usize) -> Option<NewValue> {
        let value = rows.get(row, &self.first)?;
        if self.rest.is_empty() {
            return Some(value.into());
        }
        let Value::Json(text) = value else { return None };
        let mut raw = Cow::Borrowed(std::str::from_utf8(text).ok()?);
        for segment in &self.rest {
            raw = Cow::Owned(inside(&raw, segment)?);
        }
        decode::value(&raw)
    }
}

fn word_length(text: &str) -> usize {
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    let length = text.find(|letter| !is_word(letter)).unwrap_or(text.len());
    if text.starts_with(|letter: char| letter.is_ascii_digit()) { 0 } else { length }
}

fn subscript(inside: &str) -> Option<Segment> {
    if let Ok(index) = inside.parse() {
        return Some(Segment::Index(index));
    }
    let quote = inside.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
    let key = inside.strip_prefix(quote)?.strip_suffix(quote)?;
    (!key.contains(['\\', quote])).then(|| Segment::Key(key.to_owned()))
}

fn inside(raw: &str, segment: &Segment) -> Option<String> {
    match segment {
        Segment::Key(key) => {
            let fields: IndexMap<Cow<'_, str>, &RawValue> = serde_json::from_str(raw).ok()?;
            fields.get(key.as_str()).map(|value| value.get().to_owned())
        }
        Segment::Index(index) => {
            let items: Vec<&RawValue> = serde_json::from_str(raw).ok()?;
            let index = if *index < 0 { index.checked_add(i64::try_from(items.len()).ok()?)? } else { *index };
            items.get(usize::try_from(index).ok()?).map(|item| item.get().to_owned())
        }
    }
}

/// What happens to the values at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Remove,
    Hash,
}

/// A field by its name, or by a dotted path where no field has that name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: String,
    /// The first name of the path, and those behind it.
    pub(super) path: Option<(String, Vec<String>)>,
}

/// A nested value that cannot be read, so that it cannot be changed either.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

impl Field {
    pub(super) fn new(name: &str) -> Self {
        let mut parts = name.split('.').map(str::to_owned);
        let first = parts.next().unwrap_or_default();
        let rest: Vec<String> = parts.collect();
        Self { name: name.to_owned(), path: (!rest.is_empty()).then_some((first, rest)) }
    }
}

/// SHA-256 of the text of a value, in hexadecimal. `null` has none.
pub(super) fn hash(value: Value<'_>) -> Option<NewValue> {
    let text = match value {
        Value::Null => return None,
        Value::Bool(true) => b"true",
        Value::Bool(false) => &b"false"[..],
        Value::Integer(_, text) | Value::Real(_, text) | Value::Number(text) => text,
        Value::Text(text) | Value::Json(text) | Value::List(text) => text,
    };
    Some(NewValue::Text(sha256(text)))
}

fn sha256(text: &[u8]) -> String {
    digest::digest(&digest::SHA256, text).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Changes what stands at a path inside of a nested value. A list on the way means each of its items. `None` where
/// there is nothing at the path.
pub(super) fn change(raw: &str, path: &[String], change_to: Change) -> Result<Option<String>, Unreadable> {
    let Some((key, rest)) = path.split_first() else { return Ok(None) };
    let mut changed = false;
    let mut parts: Vec<String> = Vec::new();
    if raw.starts_with('[') {
        let items: Vec<&RawValue> = serde_json::from_str(raw).map_err(|_| Unreadable)?;
        for item in items {
            let new = change(item.get(), path, change_to)?;
            changed |= new.is_some();
            parts.push(new.unwrap_or_else(|| item.get().to_owned()));
        }
        return Ok(changed.then(|| format!("[{}]", parts.join(","))));
    }
    if !raw.starts_with('{') {
        return Ok(None);
    }
    let fields: IndexMap<String, &RawValue> = serde_json::from_str(raw).map_err(|_| Unreadable)?;
    for (name, value) in fields {
        let new = match (name == *key, rest, change_to) {
            (false, ..) => None,
            (true, [], Change::Remove) => {
                changed = true;
                continue;
            }
            (true, [], Change::Hash) => hashed(value.get())?,
            (true, rest, _) => change(value.get(), rest, change_to)?,
        };
        changed |= new.is_some();
        let value = new.unwrap_or_else(|| value.get().to_owned());
        parts.push(format!("{}:{value}", serde_json::Value::String(name)));
    }
    Ok(changed.then(|| format!("{{{}}}", parts.join(","))))
}

fn hashed(raw: &str) -> Result<Option<String>, Unreadable> {
    let text = match raw.as_bytes().first() {
        Some(b'n') => return Ok(None),
        Some(b'"') => sha256(serde_json::from_str::<String>(raw).map_err(|_| Unreadable)?.as_bytes()),
        _ => sha256(raw.as_bytes()),
    };
    Ok(Some(format!("\"{text}\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_that_is_only_a_path_is_known_as_one() {
        let key = |name: &str| Segment::Key(name.to_owned());
        for (text, expected) in [
            ("a", Some(vec![key("a")])),
            (" a.b ", Some(vec![key("a"), key("b")])),
            ("a['b c'].d[-1][\"e\"]", Some(vec![key("a"), key("b c"), key("d"), Segment::Index(-1), key("e")])),
            ("record['a b'].c", Some(vec![key("a b"), key("c")])),
            ("record", None),
            ("a + b", None),
            ("a['b\\'']", None),
            ("a[b]", None),
            ("a[1:2]", None),
            ("none", None),
            ("1", None),
            ("a | d(1)", None),
        ] {
            let found = Taken::parse(text).map(|taken| [vec![Segment::Key(taken.first)], taken.rest].concat());
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn a_nested_value_is_changed_at_its_path_and_nowhere_else() {
        let raw = r#"{"a": {"b": 1.50, "c":"x"}, "d": [{"b":"\u0031"},{"b":null}, 5], "e" : "y"}"#;
        let change_at =
            |path: &str, to| change(raw, &path.split('.').map(str::to_owned).collect::<Vec<_>>(), to).unwrap();
        assert_eq!(
            change_at("a.b", Change::Remove).unwrap(),
            r#"{"a":{"c":"x"},"d":[{"b":"\u0031"},{"b":null}, 5],"e":"y"}"#
        );
        assert_eq!(change_at("d.b", Change::Remove).unwrap(), r#"{"a":{"b": 1.50, "c":"x"},"d":[{},{},5],"e":"y"}"#);
        let one = "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b";
        assert_eq!(
            change_at("d.b", Change::Hash).unwrap(),
            format!(r#"{{"a":{{"b": 1.50, "c":"x"}},"d":[{{"b":"{one}"}},{{"b":null}},5],"e":"y"}}"#)
        );
        assert_eq!(change_at("a.none", Change::Hash), None);
        assert_eq!(change_at("e.b", Change::Remove), None);
        assert_eq!(change(r#"{"a":"\ud800"}"#, &["a".to_owned()], Change::Hash), Err(Unreadable));
    }

    #[test]
    fn a_hash_is_that_of_the_text_of_a_value() {
        let one = NewValue::Text("6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b".to_owned());
        assert_eq!(hash(Value::Text(b"1")), Some(one.clone()));
        assert_eq!(hash(Value::Integer(1, b"1")), Some(one));
        assert_ne!(hash(Value::Bool(true)), hash(Value::Bool(false)));
        assert_eq!(hash(Value::Null), None);
    }
}
