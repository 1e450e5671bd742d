//! What `status` says to a person, in 80 columns where names allow it.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::super::{count, thousands};
use super::{Standing, State, Status};
use crate::destination::QUARANTINED_MAX;

/// What is wrong is said of so many resources in the first sentence.
const TROUBLES_MAX: usize = 3;

/// Characters of a cursor.
const CURSOR_MAX: usize = 40;

/// All of it.
pub(super) fn of(status: &Status<'_>) -> String {
    let mut text = format!("{}\n{}\n", status.says, around(status));
    let rows: Vec<Vec<String>> = status.resources.iter().map(|standing| columns(standing, status.at)).collect();
    let lines = table(&["RESOURCE", "STATE", "LAST SUCCESS", "ROWS", "NEXT"], &rows);
    let mut lines = lines.lines();
    if let Some(head) = lines.next().filter(|_| !rows.is_empty()) {
        text.push_str(&format!("\n{head}\n"));
    }
    for (line, standing) in lines.zip(&status.resources) {
        text.push_str(&format!("{line}\n"));
        notes(standing).into_iter().for_each(|note| text.push_str(&format!("    {note}\n")));
    }
    text
}

/// Whether all is well, and what is not.
pub(super) fn sentence(status: &Status<'_>) -> String {
    let of = count(status.resources.len() as u64, "resource");
    if status.resources.is_empty() {
        return "There is nothing to read: the configuration has no resource in an enabled source.".to_owned();
    }
    if status.is_missing {
        return format!("Nothing was read yet: there is no database at {}.", status.database.display());
    }
    let troubles: Vec<String> =
        status.resources.iter().filter_map(|of| Some(format!("{} {}", of.id, trouble(of)?))).collect();
    let rest = troubles.len().saturating_sub(TROUBLES_MAX);
    let mut said = troubles.into_iter().take(TROUBLES_MAX).collect::<Vec<_>>();
    match (said.len(), rest) {
        (0, _) => format!("All is well: {of}, {} in {}.", rows_of(status), status.database.display()),
        (_, 0) => format!("Not all is well: {}.", listed(&mut said)),
        (_, rest) => format!("Not all is well: {}, and {rest} more.", said.join(", ")),
    }
}

fn listed(said: &mut Vec<String>) -> String {
    match said.pop() {
        Some(last) if !said.is_empty() => format!("{} and {last}", said.join(", ")),
        Some(last) => last,
        None => String::new(),
    }
}

fn rows_of(status: &Status<'_>) -> String {
    count(status.resources.iter().filter_map(|standing| standing.known.as_ref()).map(|known| known.rows).sum(), "row")
}

/// What is not well with a resource.
pub(super) fn trouble(standing: &Standing) -> Option<String> {
    let is_paused = standing.known.as_ref().is_some_and(|known| known.paused_at.is_some());
    let failures = standing.known.as_ref().map_or(0, |known| known.failures);
    match standing.state {
        State::Failed if failures > 1 => Some(format!("failed {failures} times in a row")),
        State::Failed => Some("failed".to_owned()),
        State::Incomplete => Some("stopped early".to_owned()),
        State::NeverRun if !is_paused => Some("was not read yet".to_owned()),
        _ if standing.is_overdue => Some("is overdue".to_owned()),
        State::NeverRun | State::Running | State::Ok => None,
    }
}

/// Who is at it, and what that means for what is to be read by itself.
fn around(status: &Status<'_>) -> String {
    let scheduled = status.resources.iter().any(|standing| standing.schedule.is_some());
    match status.writer {
        Some(holder) => {
            let pid = holder.pid.map(|pid| format!(", pid {pid},")).unwrap_or_default();
            format!("A highwater process{pid} has the database open.")
        }
        None if scheduled => "No highwater process runs: nothing is read by itself.".to_owned(),
        None => "No highwater process runs.".to_owned(),
    }
}

fn columns(standing: &Standing, at: Timestamp) -> Vec<String> {
    let known = standing.known.as_ref();
    let success = known.and_then(|known| known.last_success_at).map_or("never".to_owned(), |then| ago(at, then));
    let rows = known.map_or_else(|| "-".to_owned(), |known| thousands(known.rows));
    vec![standing.id.to_string(), state(standing), success, rows, next(standing, at)]
}

fn state(standing: &Standing) -> String {
    let known = standing.known.as_ref();
    let paused = if known.is_some_and(|known| known.paused_at.is_some()) { "paused, " } else { "" };
    let failures = known.map_or(0, |known| known.failures);
    let state = match standing.state {
        State::NeverRun => "not read yet".to_owned(),
        State::Running => "running".to_owned(),
        State::Ok => "ok".to_owned(),
        State::Incomplete => "stopped early".to_owned(),
        State::Failed if failures > 1 => format!("failed {failures} times"),
        State::Failed => "failed".to_owned(),
    };
    format!("{paused}{state}")
}

fn next(standing: &Standing, at: Timestamp) -> String {
    match standing.next {
        Some(_) if standing.is_overdue => "overdue".to_owned(),
        Some(next) if next <= at => "due".to_owned(),
        Some(next) => format!("in {}", span(next.duration_since(at))),
        None => "-".to_owned(),
    }
}

/// What else there is to say of a resource, a line each.
fn notes(standing: &Standing) -> Vec<String> {
    let own = format!("{}: ", standing.id);
    let said = |error: &String| plain(error.strip_prefix(&own).unwrap_or(error));
    let Some(known) = &standing.known else { return standing.refused.iter().map(said).collect() };
    let mut notes = Vec::new();
    if let (State::Running, Some(run)) = (standing.state, &known.last_run) {
        notes.push(format!("so far {}, {}", count(run.pages, "page"), count(run.received, "record")));
    }
    if let Some(pass) = known.pass.filter(|pass| pass.total > 1) {
        let least = if pass.is_counted { "" } else { "at least " };
        notes.push(format!("{} of {least}{} read", thousands(pass.done), count(pass.total, "partition")));
    }
    if let Some(cursor) = &known.cursor {
        let (lowest, highest) = (shown(&cursor.lowest), shown(&cursor.highest));
        let range = if lowest == highest { highest } else { format!("{lowest} to {highest}") };
        notes.push(format!("cursor {range}"));
    }
    if known.quarantined > 0 {
        let least = if known.quarantined < QUARANTINED_MAX { "" } else { "at least " };
        notes.push(format!("{least}{} set aside, see _hw_quarantine", count(known.quarantined, "record")));
    }
    let error = known.last_read.as_ref().and_then(|run| run.error.as_ref());
    notes.extend(error.filter(|_| standing.state != State::Running).map(said));
    notes
}

fn shown(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), plain);
    match text.char_indices().nth(CURSOR_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// A text from elsewhere on one line, and without anything that a terminal would obey.
pub(crate) fn plain(text: &str) -> String {
    let spaced = text.split_whitespace().collect::<Vec<_>>().join(" ");
    spaced.chars().filter(|letter| !letter.is_control()).collect()
}

/// Cells in columns, under their heads.
pub(crate) fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let heads: Vec<String> = heads.iter().map(ToString::to_string).collect();
    let all = || std::iter::once(&heads).chain(rows);
    let widths: Vec<usize> =
        (0..heads.len()).map(|column| all().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in all() {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// How long ago a time was.
pub(crate) fn ago(at: Timestamp, then: Timestamp) -> String {
    let since = at.duration_since(then);
    if since < SignedDuration::from_secs(1) { "just now".to_owned() } else { format!("{} ago", span(since)) }
}

/// How long something took.
pub(crate) fn took(from: Timestamp, to: Timestamp) -> String {
    let lasted = to.duration_since(from).max(SignedDuration::ZERO);
    if lasted < SignedDuration::from_secs(1) { format!("{} ms", lasted.as_millis()) } else { span(lasted) }
}

/// A duration as people say it: in its largest unit.
fn span(duration: SignedDuration) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    match duration.as_secs() {
        secs @ ..MINUTE => format!("{} s", secs.max(1)),
        secs @ MINUTE..HOUR => format!("{} min", secs / MINUTE),
        secs @ HOUR..DAY => format!("{} h", secs / HOUR),
        secs => format!("{} d", secs / DAY),
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::{ago, listed, plain, span, took};

    #[test]
    fn times_are_told_in_their_largest_unit() {
        for (seconds, said) in [
            (0, "1 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3_599, "59 min"),
            (7_200, "2 h"),
            (86_400, "1 d"),
            (400 * 86_400, "400 d"),
        ] {
            assert_eq!(span(SignedDuration::from_secs(seconds)), said);
        }
        let then = Timestamp::UNIX_EPOCH;
        let later = |millis| Timestamp::from_millisecond(millis).unwrap();
        assert_eq!((ago(later(300), then), ago(later(5_000), then)), ("just now".into(), "5 s ago".into()));
        assert_eq!((took(then, later(300)), took(then, later(61_000))), ("300 ms".into(), "1 min".into()));
    }

    #[test]
    fn what_an_api_said_cannot_command_the_terminal() {
        assert_eq!(plain("a\n  b\u{1b}[2Jc\u{7}"), "a b[2Jc");
    }

    #[test]
    fn names_are_listed_as_people_do() {
        let list = |names: &[&str]| listed(&mut names.iter().map(ToString::to_string).collect());
        assert_eq!((list(&["a"]), list(&["a", "b", "c"])), ("a".into(), "a, b and c".into()));
    }
}
