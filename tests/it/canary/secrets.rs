//! Secrets that cannot be there by chance, and the search for them in every spelling.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// How each secret begins and ends, so that a part of it is found as well.
const ENDS: [&str; 2] = ["Kq7vXn2Z", "j4Rw9bTe"];

/// Between the ends: what URLs, JSON, HTML and base64 write differently.
const MIDDLE: &str = "+/=&%41\"  '\\<>";

/// Letters outside of ASCII, for where they may be sent.
const LETTERS: &str = "é☂";

/// What a secret is made of depends on where it is sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// Anything: letters and digits.
    Plain,
    /// A header: visible ASCII.
    Header,
    /// A cookie or a path: a few signs less.
    Narrow,
    /// A body, a query, or what is base64 on its way.
    Anywhere,
}

/// A secret that is told apart from others by `name`.
pub(super) fn canary(name: &str, place: Place) -> String {
    let middle = match place {
        Place::Plain => String::new(),
        Place::Header => MIDDLE.to_owned(),
        Place::Narrow => "+=&'".to_owned(),
        Place::Anywhere => format!("{MIDDLE}{LETTERS}"),
    };
    let [start, end] = ENDS;
    format!("{start}{middle}{name}{end}")
}

/// The ways in which a hostile API writes a secret.
pub(super) const SPELLINGS: [fn(&str) -> String; 9] = [
    str::to_owned,
    |text| url::form_urlencoded::byte_serialize(text.as_bytes()).collect(),
    |text| percent(text, false),
    |text| percent(text, true),
    |text| text.chars().map(|char| format!("&#{};", u32::from(char))).collect(),
    |text| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;"),
    |text| STANDARD.encode(text),
    |text| STANDARD.encode(format!("me:{text}:x")),
    |text| URL_SAFE_NO_PAD.encode(format!("u:{text}")),
];

fn percent(text: &str, upper: bool) -> String {
    let byte = |byte: u8| if upper { format!("%{byte:02X}") } else { format!("%{byte:02x}") };
    text.bytes().map(byte).collect()
}

/// What is looked for: both ends of a secret, in every spelling.
pub(super) struct Search {
    needles: Vec<String>,
    /// Places that were searched.
    pub(super) places: usize,
    pub(super) hits: Vec<String>,
}

impl Search {
    pub(super) fn new() -> Self {
        let mut needles = Vec::new();
        for end in ENDS {
            let json = end.chars().map(|char| format!("\\u{:04x}", u32::from(char))).collect();
            let hex: String = end.bytes().map(|byte| format!("{byte:02x}")).collect();
            needles.extend([percent(end, true), percent(end, false), hex.to_uppercase(), hex, json]);
            needles.extend(SPELLINGS[4..6].iter().map(|spelled| spelled(end)));
            for offset in 0..3 {
                // The first and the last letter are partly those of their neighbours.
                let encoded = STANDARD.encode(format!("{}{end}", "\0".repeat(offset)));
                let letters = encoded.trim_end_matches('=');
                let whole = (offset + end.len()) * 8 / 6;
                let inside = &letters[[0, 2, 3][offset]..whole];
                needles.extend([inside.to_owned(), inside.replace('+', "-").replace('/', "_")]);
            }
        }
        needles.sort();
        needles.dedup();
        Self { needles, places: 0, hits: Vec::new() }
    }

    /// Looks through one place, and remembers what is found there.
    pub(super) fn look(&mut self, place: &str, bytes: &[u8]) {
        self.places += 1;
        let text = String::from_utf8_lossy(bytes);
        let lower = text.to_lowercase();
        let in_any_case = ENDS.iter().find_map(|end| lower.find(&end.to_lowercase()));
        if let Some(at) = in_any_case.or_else(|| self.needles.iter().find_map(|needle| text.find(needle))) {
            let around: String = text[text.floor_char_boundary(at.saturating_sub(150))..].chars().take(260).collect();
            self.hits.push(format!("{place}: {around}"));
        }
    }
}

#[test]
fn the_search_finds_a_secret_and_either_end_of_it_however_it_is_written() {
    let secret = canary("x", Place::Anywhere);
    for (at, spelled) in SPELLINGS.iter().enumerate() {
        for text in [secret.as_str(), &secret[..10], &secret[secret.len() - 9..]] {
            for around in ["", "a", "ab", "abc"] {
                let mut search = Search::new();
                search.look("here", format!("… {} …", spelled(&format!("{around}{text}{around}"))).as_bytes());
                assert_eq!((search.places, search.hits.len()), (1, 1), "{at} {text}");
            }
        }
    }
    let mut search = Search::new();
    search.look("here", b"Kq7v Xn2Z and nothing else; S3E3dlhu is a part of it, four letters too short");
    assert_eq!(search.hits, Vec::<String>::new());
}
