//! What all pages share: the frame, and how times, numbers, names and long texts look.
//!
//! `maud` escapes whatever it is given, so nothing that an API sent becomes markup.

use jiff::{SpanRound, Timestamp, Unit};
use maud::{DOCTYPE, Markup, html};

/// The longest text of an API or an error in a list, in characters.
pub(super) const CUT_AT: usize = 200;

/// The pages that are reached from everywhere.
pub(super) const NAV: [(&str, &str); 5] = [
    ("/", "Overview"),
    ("/runs", "Runs"),
    ("/errors", "Errors"),
    ("/quarantine", "Quarantine"),
    ("/config", "Configuration"),
];

/// A page without its frame.
#[derive(Default)]
pub(super) struct Page {
    pub(super) title: String,
    /// The entry of [`NAV`] that it belongs to.
    pub(super) under: &'static str,
    /// What is said once, after an action.
    pub(super) notice: Markup,
    /// What is loaded again while it is looked at.
    pub(super) live: Markup,
    /// What stays as it is: forms, and long lists that are being read.
    pub(super) rest: Markup,
    /// Whether a browser without scripts loads it again by itself.
    pub(super) reloads: bool,
}

/// Puts a page into its frame.
pub(super) fn frame(page: &Page) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (page.title) " · highwater" }
                link rel="stylesheet" href="/assets/page.css";
                link rel="icon" href="/assets/icon.svg";
                script src="/assets/page.js" defer {}
                @if page.reloads { noscript { meta http-equiv="refresh" content="30"; } }
            }
            body {
                a.skip href="#main" { "Skip to content" }
                header {
                    a.brand href="/" { "highwater" }
                    nav aria-label="Pages" {
                        @for (href, name) in NAV {
                            a href=(href) aria-current=[(href == page.under).then_some("page")] { (name) }
                        }
                    }
                }
                main id="main" {
                    p.say.bad id="lost" role="status" hidden { "The daemon does not answer. What is shown may be old." }
                    (page.notice)
                    div id="live" { (page.live) }
                    (page.rest)
                }
            }
        }
    }
}

/// How far a time is from now, as a person would say it.
pub(super) fn relative(at: Timestamp, now: Timestamp) -> String {
    let seconds = at.duration_since(now).as_secs();
    let (far, ahead) = (seconds.unsigned_abs(), seconds > 0);
    let (number, unit) = match far {
        0..10 => return if ahead { "in a moment" } else { "just now" }.to_owned(),
        10..90 => (far, "s"),
        90..5_400 => (far.div_ceil(60), "min"),
        5_400..129_600 => ((far + 1_800) / 3_600, "h"),
        _ => ((far + 43_200) / 86_400, "d"),
    };
    if ahead { format!("in {number} {unit}") } else { format!("{number} {unit} ago") }
}

/// The exact time, to the second: RFC 3339 in UTC.
pub(super) fn exact(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A time as people read it, with the exact one at hand.
pub(super) fn time(at: Timestamp, now: Timestamp) -> Markup {
    let exact = exact(at);
    html! { time datetime=(exact) title=(exact) { (relative(at, now)) } }
}

/// A time that may be unknown.
pub(super) fn when(at: Option<Timestamp>, now: Timestamp) -> Markup {
    html! { @match at { Some(at) => (time(at, now)), None => "–" } }
}

/// A table in a box of its own, within which it scrolls.
pub(super) fn boxed(name: &str, table: &Markup) -> Markup {
    html! { div.scroll tabindex="0" role="region" aria-label=(name) { (table) } }
}

/// A link to the page of a resource.
pub(super) fn resource_link(source: &str, resource: &str) -> Markup {
    let id = format!("{source}.{resource}");
    html! { a href={ "/resources/" (segment(&id)) } { (id) } }
}

/// The URL of a request: what stands behind its host, with all of it at hand.
pub(super) fn request(url: &str) -> Markup {
    let path = url.splitn(4, '/').nth(3);
    html! { span title=(cut(url)) { @match path { Some(path) => { "/" (cut(path)) }, None => (cut(url)) } } }
}

/// The class of what became of a run.
pub(super) fn outcome_class(outcome: &str) -> Option<&'static str> {
    match outcome {
        "complete" => Some("c"),
        "incomplete" => Some("i"),
        "failed" => Some("f"),
        "running" => Some("r"),
        _ => None,
    }
}

/// How long something took.
pub(super) fn span(from: Timestamp, to: Timestamp) -> String {
    let span = to.duration_since(from);
    if span.as_secs() < 10 {
        return format!("{:.1} s", span.as_secs_f64().max(0.0));
    }
    let rounding = SpanRound::new().largest(Unit::Day).smallest(Unit::Second).days_are_24_hours();
    jiff::Span::try_from(span).and_then(|span| span.round(rounding)).map(|span| format!("{span:#}")).unwrap_or_default()
}

/// A number with its thousands apart.
pub(super) fn number(number: impl TryInto<i64>) -> String {
    let Ok(number) = number.try_into() else { return String::new() };
    let digits = number.unsigned_abs().to_string();
    let mut text = if number < 0 { "−".to_owned() } else { String::new() };
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of things: `1 page`, `2 pages`.
pub(super) fn count(n: impl TryInto<i64> + Copy, one: &str, many: &str) -> String {
    let is_one = n.try_into().is_ok_and(|n: i64| n == 1);
    format!("{} {}", number(n), if is_one { one } else { many })
}

/// A number of bytes.
pub(super) fn bytes(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut size = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if size < 1_000.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{size:.1} {unit}") };
        }
        size /= 1_000.0;
    }
    format!("{size:.1} TB")
}

/// A text, cut where it is long.
pub(super) fn cut(text: &str) -> String {
    match text.char_indices().nth(CUT_AT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A name as a segment of a path (RFC 3986 §3.3).
pub(super) fn segment(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text += &format!("%{byte:02X}");
        }
    }
    text
}

/// Links to the beginning of a list, and to where it goes on.
pub(super) fn pager(newest: Option<String>, next: Option<String>) -> Markup {
    html! {
        @if newest.is_some() || next.is_some() {
            nav.pager aria-label="More of this list" {
                @if let Some(href) = newest { a href=(href) { "← Newest" } }
                @if let Some(href) = next { a rel="next" href=(href) { "More →" } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::{bytes, count, cut, number, relative, segment, span};

    #[test]
    fn times_are_said_as_people_say_them() {
        let now = Timestamp::UNIX_EPOCH;
        for (seconds, said) in [
            (0, "just now"),
            (-9, "just now"),
            (3, "in a moment"),
            (-40, "40 s ago"),
            (-89, "89 s ago"),
            (-90, "2 min ago"),
            (-3_600, "60 min ago"),
            (-5_400, "2 h ago"),
            (7_200, "in 2 h"),
            (-86_400, "24 h ago"),
            (-129_600, "2 d ago"),
            (864_000, "in 10 d"),
        ] {
            assert_eq!(relative(now + SignedDuration::from_secs(seconds), now), said);
        }
        for (millis, said) in [(-5, "0.0 s"), (1_250, "1.2 s"), (61_000, "1m 1s"), (90_061_000, "1d 1h 1m 1s")] {
            assert_eq!(span(now, now + SignedDuration::from_millis(millis)), said);
        }
    }

    #[test]
    fn numbers_have_their_thousands_apart_and_long_texts_an_end() {
        for (n, said) in [(0, "0"), (999, "999"), (1_000, "1,000"), (-1_234_567, "−1,234,567")] {
            assert_eq!(number(n), said);
        }
        assert_eq!((count(1, "page", "pages").as_str(), count(2, "page", "pages").as_str()), ("1 page", "2 pages"));
        for (n, said) in [(999, "999 B"), (1_500, "1.5 kB"), (2_000_000_000_000, "2.0 TB")] {
            assert_eq!(bytes(n), said);
        }
        assert_eq!(cut("short"), "short");
        assert_eq!(cut(&"ü".repeat(300)), format!("{}…", "ü".repeat(200)));
        assert_eq!(segment("a b/c?ü.x"), "a%20b%2Fc%3F%C3%BC.x");
    }
}
