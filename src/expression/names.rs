//! The filters, tests, functions and methods that an expression names. minijinja looks them up when it evaluates;
//! this finds them when it is compiled, by reading the text once more. The syntax is known to be right.

use std::ops::Range;

/// What an expression is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Used {
    pub(super) filters: Vec<(String, Range<usize>)>,
    pub(super) tests: Vec<(String, Range<usize>)>,
    pub(super) functions: Vec<(String, Range<usize>)>,
    pub(super) methods: Vec<(String, Range<usize>)>,
    variables: Vec<(String, Range<usize>)>,
    calculates: bool,
}

impl Used {
    /// Whether its result can only be one of the values that it is given, or one that is written in it: it has no
    /// operators that make new ones, and no filters but those that choose.
    #[must_use]
    pub fn only_chooses(&self) -> bool {
        const CHOOSING: [&str; 4] = ["default", "d", "first", "last"];
        !self.calculates
            && self.functions.is_empty()
            && self.filters.iter().all(|(name, _)| CHOOSING.contains(&name.as_str()))
    }

    /// Whether a name is read as a variable, and not only called as a function.
    pub(super) fn reads(&self, name: &str) -> bool {
        self.place_of(name).is_some()
    }

    /// Where a variable is first read.
    pub(super) fn place_of(&self, name: &str) -> Option<Range<usize>> {
        self.variables.iter().find(|(variable, _)| variable == name).map(|(_, place)| place.clone())
    }
}

/// Words of the language that are no names.
const KEYWORDS: [&str; 12] = ["and", "or", "not", "in", "is", "if", "else", "true", "false", "none", "True", "False"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'t> {
    Word(&'t str),
    Text(&'t str),
    Number,
    Sign(u8),
}

/// Reads an expression whose syntax is known to be right.
pub(super) fn used(text: &str) -> Used {
    let tokens = tokens(text);
    let mut used = Used::default();
    let at = |place: usize| tokens.get(place).map(|(token, _)| *token);
    for (place, (token, range)) in tokens.iter().enumerate() {
        let before = place.checked_sub(1).and_then(at);
        let is_called = at(place + 1) == Some(Token::Sign(b'('));
        let name = match token {
            Token::Sign(sign) => {
                used.calculates |= b"+-*/%~".contains(sign);
                continue;
            }
            Token::Word(name) => *name,
            Token::Text(_) | Token::Number => continue,
        };
        let found = || (name.to_owned(), range.clone());
        let is_test = before == Some(Token::Word("is"))
            || before == Some(Token::Word("not")) && place >= 2 && at(place - 2) == Some(Token::Word("is"));
        match before {
            Some(Token::Sign(b'.')) if is_called => used.methods.push(found()),
            Some(Token::Sign(b'.')) => {}
            Some(Token::Sign(b'|')) => {
                used.filters.push(found());
                named_by_texts(name, &tokens[place + 1..], &mut used);
            }
            _ if is_test && name != "not" => used.tests.push(found()),
            _ if KEYWORDS.contains(&name) || name == "None" => {}
            _ if is_called => used.functions.push(found()),
            _ => used.variables.push(found()),
        }
    }
    used
}

/// `map('upper')`, `select('odd')`, `selectattr('x', 'eq', 1)`: filters and tests that are named by a text.
fn named_by_texts(filter: &str, behind: &[(Token<'_>, Range<usize>)], used: &mut Used) {
    let text = |place: usize, sign: u8| match (behind.get(place - 1), behind.get(place)) {
        (Some((Token::Sign(before), _)), Some((Token::Text(name), range))) if *before == sign => {
            Some(((*name).to_owned(), range.clone()))
        }
        _ => None,
    };
    match filter {
        "map" => used.filters.extend(text(1, b'(')),
        "select" | "reject" => used.tests.extend(text(1, b'(')),
        "selectattr" | "rejectattr" => used.tests.extend(text(3, b',')),
        _ => {}
    }
}

fn tokens(text: &str) -> Vec<(Token<'_>, Range<usize>)> {
    let bytes = text.as_bytes();
    let mut tokens = Vec::new();
    let mut start = 0;
    while start < bytes.len() {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
        let end = match bytes[start] {
            byte if byte.is_ascii_whitespace() => {
                start += 1;
                continue;
            }
            quote @ (b'"' | b'\'') => {
                let mut end = start + 1;
                while end < bytes.len() && bytes[end] != quote {
                    end += if bytes[end] == b'\\' { 2 } else { 1 };
                }
                let end = end.min(bytes.len());
                tokens.push((Token::Text(text.get(start + 1..end).unwrap_or_default()), start + 1..end));
                start = end + 1;
                continue;
            }
            byte if is_word(byte) => {
                start + bytes[start..].iter().position(|byte| !is_word(*byte)).unwrap_or(bytes.len() - start)
            }
            sign => {
                tokens.push((Token::Sign(sign), start..start + 1));
                start += 1;
                continue;
            }
        };
        let word = &text[start..end];
        let token = if bytes[start].is_ascii_digit() { Token::Number } else { Token::Word(word) };
        tokens.push((token, start..end));
        start = end;
    }
    tokens
}
