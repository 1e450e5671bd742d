//! Small pictures as SVG paths, drawn with few letters: a page shows hundreds of them. The style sheet says how wide,
//! how high and in which colours.

use maud::{Markup, html};

/// How far two bars are from each other.
const BAR: usize = 4;

/// How far two points of a line are from each other.
const POINT: usize = 8;

/// The height of a line's highest point.
const HEIGHT: u64 = 18;

/// What became of a run, as a bar shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bar {
    /// All is there.
    Complete,
    /// It ended early.
    Incomplete,
    /// It failed.
    Failed,
    /// It is under way.
    Running,
}

/// The last runs, oldest first: one line as if all were well, and over it one for each stretch that was not; the style
/// sheet dashes them into bars.
pub(super) fn bars(bars: &[Bar]) -> Markup {
    let count = |bar| bars.iter().filter(|other| **other == bar).count();
    let mut label = format!("{} of {} well", count(Bar::Complete), bars.len());
    for (bar, word) in [(Bar::Failed, "failed"), (Bar::Incomplete, "incomplete"), (Bar::Running, "running")] {
        if count(bar) > 0 {
            label += &format!(", {} {word}", count(bar));
        }
    }
    html! {
        @if !bars.is_empty() {
            svg.b role="img" aria-label=(label) {
                path d={ "M0 9h" (bars.len() * BAR) } {}
                @for (kind, class) in [(Bar::Incomplete, "i"), (Bar::Failed, "f"), (Bar::Running, "r")] {
                    @let path = stretches(bars, kind);
                    @if !path.is_empty() { path class=(class) d=(path) {} }
                }
            }
        }
    }
}

/// The lines that bars of one kind make.
fn stretches(bars: &[Bar], kind: Bar) -> String {
    let mut path = String::new();
    let mut at = 0;
    for stretch in bars.chunk_by(|a, b| a == b) {
        if stretch[0] == kind {
            path += &format!("M{} 9h{}", at * BAR, stretch.len() * BAR);
        }
        at += stretch.len();
    }
    path
}

/// A line over time, oldest first; nothing where all is zero. `unit` follows the highest value.
pub(super) fn line(values: &[u64], unit: &str) -> Markup {
    let highest = values.iter().copied().max().unwrap_or(0);
    html! {
        @if highest > 0 {
            svg.s role="img" aria-label=(format!("up to {}{unit}", super::html::number(highest))) {
                path d=(curve(values, highest)) {}
            }
        }
    }
}

/// The path of a line: relative steps, and one for each level stretch.
fn curve(values: &[u64], highest: u64) -> String {
    let height = |value: u64| {
        let scaled = (u128::from(value) * u128::from(HEIGHT)).div_ceil(u128::from(highest.max(1)));
        i64::try_from(scaled).unwrap_or(0)
    };
    let Some(first) = values.first() else { return String::new() };
    let bottom = height(highest) + 1;
    let mut path = format!("M0 {}", bottom - height(*first));
    for pair in values.windows(2).collect::<Vec<_>>().chunk_by(|a, b| a[0] == a[1] && b[0] == b[1]) {
        let (from, to) = (height(pair[0][0]), height(pair[0][1]));
        path += &match from - to {
            0 => format!("h{}", pair.len() * POINT),
            down if down < 0 => format!("l{POINT}{down}"),
            down => format!("l{POINT} {down}"),
        };
    }
    path
}

#[cfg(test)]
mod tests {
    use super::{Bar, bars, curve, line};

    #[test]
    fn bars_of_a_kind_in_a_row_are_one_line() {
        let well = bars(&[Bar::Complete; 30]).into_string();
        assert_eq!(well, r#"<svg class="b" role="img" aria-label="30 of 30 well"><path d="M0 9h120"></path></svg>"#);
        let mixed = bars(&[Bar::Complete, Bar::Failed, Bar::Failed, Bar::Complete, Bar::Running]).into_string();
        assert!(mixed.contains(r#"aria-label="2 of 5 well, 2 failed, 1 running""#), "{mixed}");
        for path in [r#"<path d="M0 9h20">"#, r#"<path class="f" d="M4 9h8">"#, r#"<path class="r" d="M16 9h4">"#] {
            assert!(mixed.contains(path), "{mixed}");
        }
        assert_eq!(bars(&[]).into_string(), "");
    }

    #[test]
    fn a_line_has_its_highest_value_at_the_top_and_level_stretches_are_short() {
        assert_eq!(curve(&[0, 0, 0, 10, 5, 5], 10), "M0 19h16l8-18l8 9h8");
        assert_eq!(curve(&[u64::MAX, 1], u64::MAX), "M0 1l8 17");
        assert_eq!(line(&[0, 0], "").into_string(), "");
        assert!(
            line(&[0, 1_200], " rows a minute").into_string().contains(r#"aria-label="up to 1,200 rows a minute""#)
        );
    }
}
