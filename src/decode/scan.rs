//! A walk over JSON text (RFC 8259) that says where the values are and what they are, and makes nothing of them.
//!
//! It accepts what `serde_json` accepts. What it refuses is read again by that, which has words for what is wrong.

use std::borrow::Cow;

/// The text is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotJson;

/// What kind of value a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    Bool(bool),
    Number,
    Text {
        has_escapes: bool,
    },
    /// An object or a list, and how deep objects and lists are nested in it; 1 where it has none inside.
    Nested {
        depth: usize,
    },
}

/// A place in a JSON text.
#[derive(Debug)]
pub(crate) struct Scanner<'t> {
    text: &'t str,
    at: usize,
    /// The ends of the objects and lists that a value is inside of.
    ends: Vec<u8>,
}

impl<'t> Scanner<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self { text, at: 0, ends: Vec::new() }
    }

    /// The next byte that is no blank, where it is then; 0 at the end, which is none of JSON's bytes.
    pub(crate) fn peek(&mut self) -> u8 {
        let bytes = self.text.as_bytes();
        loop {
            match bytes.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                Some(byte) => return *byte,
                None => return 0,
            }
        }
    }

    /// Goes over `byte` if it comes next, after any blanks.
    pub(crate) fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == byte && self.at < self.text.len();
        self.at += usize::from(found);
        found
    }

    /// After an element of a list or a member of an object: whether another one follows, or `end`.
    pub(crate) fn goes_on(&mut self, end: u8) -> Result<bool, NotJson> {
        if self.take(b',') {
            return Ok(true);
        }
        if self.take(end) { Ok(false) } else { Err(NotJson) }
    }

    /// Where it is, in bytes.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// The text from a place on.
    pub(crate) fn since(&self, start: usize) -> &'t str {
        &self.text[start..self.at]
    }

    /// That nothing follows.
    pub(crate) fn end(&mut self) -> Result<(), NotJson> {
        self.peek();
        if self.at == self.text.len() { Ok(()) } else { Err(NotJson) }
    }

    /// Goes over a member's name and its colon where the name is written as `plain`: as it is, without an escape.
    pub(crate) fn take_name(&mut self, plain: &str) -> bool {
        if self.peek() != b'"' {
            return false;
        }
        let rest = &self.text.as_bytes()[self.at + 1..];
        let is_next = rest.len() > plain.len() && rest.starts_with(plain.as_bytes()) && rest[plain.len()] == b'"';
        if !is_next {
            return false;
        }
        let before = self.at;
        self.at += plain.len() + 2;
        if self.take(b':') {
            return true;
        }
        self.at = before;
        false
    }

    /// A member's name as it is written, with its quotes, and whether there are escapes in it; its colon is gone over, too.
    pub(crate) fn name(&mut self) -> Result<(&'t str, bool), NotJson> {
        self.peek();
        let start = self.at;
        let has_escapes = self.string()?;
        let name = self.since(start);
        if self.take(b':') { Ok((name, has_escapes)) } else { Err(NotJson) }
    }

    /// The next value, as it is written.
    pub(crate) fn value(&mut self) -> Result<(Kind, &'t str), NotJson> {
        let first = self.peek();
        let start = self.at;
        let kind = match first {
            b'{' | b'[' => Kind::Nested { depth: self.nested()? },
            first => self.scalar(first)?,
        };
        Ok((kind, self.since(start)))
    }

    /// Goes over a value that begins with `first` and is neither an object nor a list.
    fn scalar(&mut self, first: u8) -> Result<Kind, NotJson> {
        match first {
            b'"' => Ok(Kind::Text { has_escapes: self.string()? }),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.word("true", Kind::Bool(true)),
            b'f' => self.word("false", Kind::Bool(false)),
            b'n' => self.word("null", Kind::Null),
            _ => Err(NotJson),
        }
    }

    fn word(&mut self, word: &str, kind: Kind) -> Result<Kind, NotJson> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(NotJson);
        }
        self.at += word.len();
        Ok(kind)
    }

    /// Goes over an object or a list; says how deep it is nested.
    fn nested(&mut self) -> Result<usize, NotJson> {
        let mut depth = 0;
        self.ends.clear();
        loop {
            let first = self.peek();
            if matches!(first, b'{' | b'[') {
                self.at += 1;
                let end = if first == b'{' { b'}' } else { b']' };
                self.ends.push(end);
                depth = depth.max(self.ends.len());
                if !self.take(end) {
                    if end == b'}' {
                        self.name()?;
                    }
                    continue;
                }
                self.ends.pop();
            } else {
                self.scalar(first)?;
            }
            // A value has ended, and maybe what it was the last one of.
            loop {
                let Some(&end) = self.ends.last() else { return Ok(depth) };
                if self.goes_on(end)? {
                    if end == b'}' {
                        self.name()?;
                    }
                    break;
                }
                self.ends.pop();
            }
        }
    }

    /// Goes over a string, quotes and all; says whether there are escapes in it. Halves of surrogate pairs that stand alone
    /// are let through.
    fn string(&mut self) -> Result<bool, NotJson> {
        let bytes = self.text.as_bytes();
        if bytes.get(self.at) != Some(&b'"') {
            return Err(NotJson);
        }
        let mut at = self.at + 1;
        let mut has_escapes = false;
        loop {
            at += plain_length(&bytes[at..]);
            match bytes.get(at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    has_escapes = true;
                    at += escape_length(&bytes[at..]).ok_or(NotJson)?;
                }
                // A control character, or the end.
                _ => return Err(NotJson),
            }
        }
        self.at = at + 1;
        Ok(has_escapes)
    }

    fn number(&mut self) -> Result<Kind, NotJson> {
        let bytes = self.text.as_bytes();
        let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let mut at = self.at + usize::from(bytes[self.at] == b'-');
        let whole = digits(at);
        if whole == 0 || (whole > 1 && bytes[at] == b'0') {
            return Err(NotJson);
        }
        at += whole;
        if bytes.get(at) == Some(&b'.') {
            let fraction = digits(at + 1);
            if fraction == 0 {
                return Err(NotJson);
            }
            at += 1 + fraction;
        }
        if matches!(bytes.get(at), Some(b'e' | b'E')) {
            at += 1;
            at += usize::from(matches!(bytes.get(at), Some(b'+' | b'-')));
            let power = digits(at);
            if power == 0 {
                return Err(NotJson);
            }
            at += power;
        }
        self.at = at;
        Ok(Kind::Number)
    }
}

/// What a string says that is written like this, with its quotes; `None` where an escape names no character: a lone surrogate.
pub(crate) fn unquoted(raw: &str, has_escapes: bool) -> Option<Cow<'_, str>> {
    match has_escapes {
        true => serde_json::from_str(raw).ok().map(Cow::Owned),
        false => Some(Cow::Borrowed(&raw[1..raw.len() - 1])),
    }
}

/// Whether a name can stand in a text as it is, between quotes.
pub(crate) fn is_plain(name: &str) -> bool {
    plain_length(name.as_bytes()) == name.len()
}

/// How many bytes stand before the first one that ends a string, begins an escape, or must not be in a string.
fn plain_length(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    // Eight bytes at a time. A high bit is set where a byte is less than `limit`; above the lowest such byte there may be
    // others that are not, so only the lowest one counts.
    let below = |word: u64, limit: u8| word.wrapping_sub(ONES * u64::from(limit)) & !word & HIGH;
    let is = |word: u64, byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    let mut at = 0;
    while let Some(chunk) = bytes[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let found = is(word, b'"') | is(word, b'\\') | below(word, b' ');
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    at + bytes[at..].iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..b' ')).count()
}

/// How long the escape is that bytes begin with; `None` where it is none.
fn escape_length(bytes: &[u8]) -> Option<usize> {
    match bytes.get(1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(2),
        b'u' => bytes.get(2..6)?.iter().all(u8::is_ascii_hexdigit).then_some(6),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    use super::*;

    fn is_json(text: &str) -> bool {
        let mut scanner = Scanner::new(text);
        scanner.value().is_ok() && scanner.end().is_ok()
    }

    fn agrees(text: &str) -> bool {
        is_json(text) == serde_json::from_str::<IgnoredAny>(text).is_ok()
    }

    #[test]
    fn what_is_json_and_what_is_not() {
        let long = "é".repeat(40);
        for text in [
            "null",
            "true",
            "false",
            "0",
            "-0",
            "10.25",
            "1e5",
            "-1E+05",
            "0.0e-1",
            "\"\"",
            "[]",
            "{}",
            "[[],{}]",
            r#"{"a":{"b":[1,2,{"c":null}]},"d":"\"\\\/\b\f\n\r\t\u00e9\ud800"}"#,
            " \t\r\n[ 1 , 2 ] ",
            &format!("\"{long}\""),
        ] {
            assert!(is_json(text), "{text}");
        }
        for text in [
            "",
            " ",
            "nul",
            "truex",
            "01",
            "-",
            "+1",
            ".5",
            "1.",
            "1.e5",
            "1e",
            "1e+",
            "NaN",
            "'a'",
            "\"",
            "\"\\\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\\u12\"",
            "\"a\nb\"",
            "\"a\0b\"",
            "[",
            "]",
            "[1",
            "[1,",
            "[1,]",
            "[,1]",
            "[1 2]",
            "{",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "{1:1}",
            "[1}",
            "{\"a\":1]",
            "1 2",
            "\u{feff}1",
            "[1]]",
            "\0",
            "1\0",
        ] {
            assert!(!is_json(text), "{text:?}");
            assert!(serde_json::from_str::<IgnoredAny>(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn values_say_what_they_are() {
        for (text, kind) in [
            ("-12", Kind::Number),
            ("1.0", Kind::Number),
            ("1e3", Kind::Number),
            ("\"plain\"", Kind::Text { has_escapes: false }),
            (r#""a\n""#, Kind::Text { has_escapes: true }),
            ("[]", Kind::Nested { depth: 1 }),
            (r#"{"a":[[],"]["],"b":[{}]}"#, Kind::Nested { depth: 3 }),
            (&format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)), Kind::Nested { depth: 100_000 }),
        ] {
            assert_eq!(Scanner::new(&format!(" {text} ,")).value(), Ok((kind, text)));
        }
    }

    #[test]
    fn the_end_of_a_string_is_found_at_every_place() {
        for length in 0..40 {
            for special in ["\"", "\\", "\u{1f}", "\0"] {
                let text = format!("{}{special}{}", "ÿ".repeat(length), "\"\u{1}".repeat(8));
                assert_eq!(plain_length(text.as_bytes()), 2 * length, "{text:?}");
            }
        }
        assert!(
            is_plain("a key – with all that is no escape /'") && !is_plain("a\"") && !is_plain("\\") && !is_plain("\n")
        );
    }

    #[test]
    fn a_name_is_taken_only_where_it_is_written_out() {
        for (text, is_taken) in [
            (r#" "id" : 1"#, true),
            (r#""id":"#, true),
            (r#""id"#, false),
            (r#""id""#, false),
            (r#""id2":1"#, false),
            (r#""\u0069d":1"#, false),
            ("id:1", false),
        ] {
            let mut scanner = Scanner::new(text);
            assert_eq!(scanner.take_name("id"), is_taken, "{text}");
            assert!(is_taken || scanner.text[scanner.at..].trim_start() == text.trim_start(), "{text}");
        }
    }

    fn json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            Just("true".to_owned()),
            "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,3})?",
            "\\PC{0,20}".prop_map(|text| serde_json::Value::String(text).to_string()),
            r#""(\\["\\/bfnrt]|\\u[0-9a-fA-F]{4}|[a-zé ]){0,12}""#,
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            let blank = "[ \t\r\n]{0,2}";
            let list = (prop::collection::vec(inner.clone(), 0..5), blank)
                .prop_map(|(items, blank)| format!("[{blank}{}{blank}]", items.join(&format!("{blank},{blank}"))));
            let object = (prop::collection::vec(("\\PC{0,6}", inner), 0..5), blank).prop_map(|(members, blank)| {
                let name = |name: String| serde_json::Value::String(name).to_string();
                let members: Vec<_> =
                    members.into_iter().map(|(key, value)| format!("{}{blank}:{value}", name(key))).collect();
                format!("{{{blank}{}{blank}}}", members.join(&format!("{blank},{blank}")))
            });
            prop_oneof![list, object]
        })
    }

    proptest! {
        #[test]
        fn it_accepts_what_a_parser_accepts(text in json(), at in any::<prop::sample::Index>(), put in "[\\]\\[{}:,\"\\\\0-9.eE+\\-a-z \t\n\0\u{1}é]{0,2}", cut in 0..3_usize) {
            prop_assert!(is_json(&text), "{}", text);
            prop_assert!(agrees(&text), "{}", text);
            // The same with a little of it gone, or of something else in its place.
            let from = text.floor_char_boundary(at.index(text.len()));
            let to = text.ceil_char_boundary((from + cut).min(text.len()));
            let changed = format!("{}{put}{}", &text[..from], &text[to..]);
            prop_assert!(agrees(&changed), "{:?}", changed);
        }
    }
}
