//! "Did you mean", and the lists of accepted names beside it.

use strsim::{damerau_levenshtein, jaro_winkler};

/// The name among `names` that `typed` was most likely meant to be.
pub(super) fn nearest<'a>(typed: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LENGTH_MAX: usize = 64; // longer than any name we have; the distance costs the product of the lengths
    if typed.len() > LENGTH_MAX {
        return None;
    }
    let typed = typed.to_lowercase().replace('-', "_");
    // A third of the letters may be wrong: more than that is another word.
    let slips_max = (typed.chars().count() / 3).clamp(1, 3);
    names
        .into_iter()
        .map(|name| (damerau_levenshtein(&typed, &name.to_lowercase()), name))
        .filter(|(slips, _)| *slips <= slips_max)
        .min_by(|(a, a_name), (b, b_name)| {
            let alike = |name: &str| jaro_winkler(&typed, name);
            a.cmp(b).then(alike(b_name).total_cmp(&alike(a_name)))
        })
        .map(|(_, name)| name)
}

/// A help line: the nearest name, if one is near, and all of them.
pub(super) fn help(typed: &str, what: &str, names: &[&str]) -> String {
    let all = format!("{what}: {}", list(names));
    match nearest(typed, names.iter().copied()) {
        Some(name) => format!("did you mean `{name}`? {all}"),
        None => all,
    }
}

/// `` `a`, `b`, `c` ``
pub(super) fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// A text of the file inside a message: escaped, and cut when it is long.
pub(super) fn quoted(text: &str) -> String {
    const CHARS_MAX: usize = 60; // enough to recognise a value; a message is not the place for a whole body
    let cut: String = text.chars().take(CHARS_MAX).collect();
    let dots = if cut.len() < text.len() { "…" } else { "" };
    format!("`{}{dots}`", cut.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::{nearest, quoted};

    #[test]
    fn the_nearest_name_is_offered_only_when_it_is_near() {
        let names = ["paginator", "params", "path", "per", "cursor_path", "cursor_param"];
        for (typed, found) in [
            ("pagniator", Some("paginator")),
            ("Pagination", Some("paginator")),
            ("cursor-path", Some("cursor_path")),
            ("pex", Some("per")),
            ("parms", Some("params")),
            ("zebra", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, names), found, "{typed}");
        }
    }

    #[test]
    fn a_quoted_text_is_short_and_cannot_steer_a_terminal() {
        assert_eq!(quoted("a\u{1b}[31m"), "`a\\u{1b}[31m`");
        assert_eq!(quoted(&"x".repeat(100)).chars().count(), 63);
    }
}
