//! Finds a secret in a text however it is written there: in URLs, JSON and HTML, in base64, and cut off at its end. Pure.

use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// A secret that a text cuts off is found from so many characters on; fewer tell too little, and are found everywhere.
const CUT_CHARS_MIN: usize = 8;
/// Shorter texts have base64 that could be part of anything.
const ENCODED_BYTES_MIN: usize = 8;

/// What a secret looks like where bytes in front of it and behind it were encoded with it: only the characters that are
/// wholly its own, in both alphabets of RFC 4648.
pub(super) fn in_base64(secret: &str) -> Vec<String> {
    if secret.len() < ENCODED_BYTES_MIN {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (before, foreign) in [(0, 0), (1, 2), (2, 3)] {
        let encoded = STANDARD_NO_PAD.encode([&[0; 2][..before], secret.as_bytes()].concat());
        let own = &encoded[foreign..(before + secret.len()) * 8 / 6];
        let of_urls = own.replace('+', "-").replace('/', "_");
        found.extend((of_urls != own).then_some(of_urls));
        found.push(own.to_owned());
    }
    found
}

/// How far texts are searched. A server that knows how the search goes, and gives out tokens itself, could make it as long as
/// it likes.
pub(super) struct Fuel(u64);

impl Fuel {
    /// For all searches in a text: a moment, and many times what honest ones need.
    pub(super) fn new() -> Self {
        Self(5_000_000)
    }

    /// Takes steps; says whether there were as many left.
    fn burn(&mut self, steps: usize) -> bool {
        self.0 = self.0.saturating_sub(steps as u64);
        self.0 > 0
    }
}

/// Where `secret` stands in `text`, each of its characters written in any way that URLs, JSON and HTML have for it,
/// letters in any case. Where the text may be `cut`, that it breaks off within the secret counts as well. What cannot be searched
/// within the bounds counts as the secret, all of it.
pub(super) fn find(text: &str, secret: &str, cut: bool, fuel: &mut Fuel) -> Option<Range<usize>> {
    let first = secret.chars().next()?;
    for (start, _) in text.char_indices() {
        let is_likely = spellings(&text[start..], first).next().is_some();
        let end = if is_likely { end_of(text, secret, start, cut, fuel) } else { None };
        if !fuel.burn(1) {
            return Some(0..text.len());
        }
        if let Some(end) = end {
            return Some(start..end);
        }
    }
    None
}

fn end_of(text: &str, secret: &str, start: usize, cut: bool, fuel: &mut Fuel) -> Option<usize> {
    // Few characters have two readings, such as `%` where `%25` follows, so there are hardly ever two places.
    let (mut places, mut next) = (vec![start], Vec::new());
    for (read, char) in secret.chars().enumerate() {
        if !fuel.burn(places.len()) {
            return None;
        }
        for place in places.drain(..) {
            let rest = &text[place..];
            if cut && read >= CUT_CHARS_MIN && (rest.is_empty() || rest.starts_with('…')) {
                return Some(text.len() - rest.len());
            }
            next.extend(spellings(rest, char).map(|length| place + length));
        }
        if next.is_empty() {
            return None;
        }
        next.dedup();
        std::mem::swap(&mut places, &mut next);
    }
    places.into_iter().max()
}

/// The lengths of the ways in which a text may begin with a character.
fn spellings(text: &str, char: char) -> impl Iterator<Item = usize> {
    let literal = text.chars().next().filter(|first| first.eq_ignore_ascii_case(&char)).map(char::len_utf8);
    let escaped = match text.as_bytes().first() {
        Some(b'%') => percent(text, char),
        Some(b'\\') => backslash(text, char),
        Some(b'&') => entity(text, char),
        Some(b'+') if char == ' ' => Some(1),
        // What URLs make of it (WHATWG URL, path state).
        Some(b'/') if char == '\\' => Some(1),
        _ => None,
    };
    literal.into_iter().chain(escaped)
}

/// RFC 3986 §2.1.
fn percent(text: &str, char: char) -> Option<usize> {
    let mut bytes = [0; 4];
    let bytes = char.encode_utf8(&mut bytes).as_bytes();
    let mut triplets = text.as_bytes().chunks(3);
    let is_spelled = bytes.iter().all(|byte| match triplets.next() {
        Some([b'%', digits @ ..]) => number(digits, 16, 2) == Some(u32::from(*byte)),
        _ => false,
    });
    is_spelled.then_some(3 * bytes.len())
}

/// RFC 8259 §7.
fn backslash(text: &str, char: char) -> Option<usize> {
    let sign = *text.as_bytes().get(1)?;
    if sign != b'u' {
        return (char.is_ascii() && u32::from(sign) == u32::from(char)).then_some(2);
    }
    let mut units = [0; 2];
    let units = char.encode_utf16(&mut units);
    let mut rest = text.as_bytes();
    for unit in &*units {
        let (escape, behind) = rest.split_at_checked(6)?;
        let digits = escape.strip_prefix(b"\\u")?;
        if number(digits, 16, 4) != Some(u32::from(*unit)) {
            return None;
        }
        rest = behind;
    }
    Some(6 * units.len())
}

/// The character references of HTML that writers of HTML use.
fn entity(text: &str, char: char) -> Option<usize> {
    const LONGEST: usize = 10;
    let end = text.bytes().take(LONGEST).position(|byte| byte == b';')?;
    let name = text.get(1..end)?;
    let meant = match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        _ => {
            let digits = name.strip_prefix('#')?;
            let value = match digits.strip_prefix(['x', 'X']) {
                Some(digits) => number(digits.as_bytes(), 16, digits.len()),
                None => number(digits.as_bytes(), 10, digits.len()),
            };
            char::from_u32(value?)?
        }
    };
    meant.eq_ignore_ascii_case(&char).then_some(end + 1)
}

fn number(digits: &[u8], radix: u32, length: usize) -> Option<u32> {
    let text = std::str::from_utf8(digits).ok().filter(|text| text.len() == length && !text.starts_with('+'))?;
    u32::from_str_radix(text, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::{Fuel, in_base64};
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};
    use proptest::prelude::*;

    fn find(text: &str, secret: &str, cut: bool) -> Option<std::ops::Range<usize>> {
        super::find(text, secret, cut, &mut Fuel::new())
    }

    #[test]
    fn a_search_that_would_take_too_long_takes_all_for_the_secret() {
        for char in ["\\", "a", "%25"] {
            let (text, secret) = (char.repeat(20_000), char.repeat(5_000) + "!");
            let mut fuel = Fuel::new();
            assert_eq!(super::find(&text, &secret, false, &mut fuel), Some(0..text.len()), "{char}");
            assert_eq!(super::find("", &secret, true, &mut fuel), None);
        }
    }

    #[test]
    fn a_secret_is_found_however_it_is_written() {
        let secret = "a&b \"é😀/%25+";
        for text in [
            "a&b \"é😀/%25+",
            "A%26b+%22%c3%A9%F0%9f%98%80/%2525%2B",
            "a&amp;b&#32;&quot;&#xE9;&#128512;&#x2f;%25+",
            r#"a&b \"\u00e9\ud83D\ude00\/%25+"#,
            r#"\u0061\u0026b%20\"é😀/%25\u002b"#,
        ] {
            let around = format!("x% {text} &amp \\");
            assert_eq!(find(&around, secret, false).map(|found| &around[found]), Some(text), "{text}");
        }
        for text in ["", "a&b", "a&b \"é😀/%25", "a&&amp;b", "a%2", "a\\u00", "&#97", "%", "\\", "a%26b+%22%c3%"] {
            assert_eq!(find(text, "a&b \"é😀/%25+x", false), None, "{text}");
        }
    }

    #[test]
    fn a_secret_that_is_cut_off_is_found_where_the_text_ends() {
        for (text, found) in [
            ("at abcdefgh", Some("abcdefgh")),
            ("at abcdefgh… and so on", Some("abcdefgh")),
            ("at abcdefg", None),
            ("at abcdefgh and so on", None),
        ] {
            assert_eq!(find(text, "abcdefghijkl", true).map(|found| &text[found]), found, "{text}");
            assert_eq!(find(text, "abcdefghijkl", false), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_search_panic(text in "[a%&\\\\#u0-9;é… ]{0,30}", secret in "[a%&é1 ]{1,12}") {
            if let Some(found) = find(&text, &secret, true) {
                prop_assert!(!text[found].is_empty());
            }
            let inside = format!("{text}{secret}{text}");
            prop_assert!(find(&inside, &secret, false).is_some());
        }

        #[test]
        fn a_secret_is_found_in_the_base64_of_any_text_around_it(
            before in ".{0,4}", secret in "[a-z+/=é]{8,20}", behind in ".{0,4}",
        ) {
            let text = format!("{before}{secret}{behind}");
            for encoded in [STANDARD.encode(&text), URL_SAFE.encode(&text)] {
                prop_assert!(in_base64(&secret).iter().any(|shape| encoded.contains(shape)), "{}", encoded);
            }
        }
    }
}
