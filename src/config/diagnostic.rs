//! What is wrong with a configuration, and how it is shown: the line, the caret, the reason, the way out.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::{Serialize, Serializer};

use super::path::Path;
use super::tree::Place;

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub(super) path: Path,
    pub(super) place: Place,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

impl Problem {
    pub(super) fn new(path: Path, place: Place, message: impl Into<String>) -> Self {
        Self { path, place, message: message.into(), help: None }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// What the steps of loading found so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) problems: Vec<Problem>,
    pub(super) hints: Vec<String>,
    /// Bytes of the file that hold a secret and are shown as stars.
    pub(super) masked: Vec<Range<usize>>,
}

impl Findings {
    pub(super) fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    pub(super) fn hint(&mut self, hint: impl Into<String>) {
        let hint = hint.into();
        if !self.hints.contains(&hint) {
            self.hints.push(hint);
        }
    }

    /// Ends the loading with everything that was found, in the order of the file. What `resource_defaults` handed
    /// down to several resources is said once.
    pub(super) fn into_report(mut self, file: &str, text: &str) -> Report {
        let in_defaults = |problem: &Problem| problem.path.key_at(2) == Some("resource_defaults");
        self.problems.sort_by_key(|problem| (start(&problem.place), !in_defaults(problem)));
        let mut problems: Vec<Problem> = Vec::new();
        for problem in self.problems {
            let known = |other: &Problem| {
                other.place == problem.place
                    && other.message == problem.message
                    && other.path.last_key() == problem.path.last_key()
            };
            if matches!(problem.place, Place::Unknown) || !problems.iter().any(known) {
                problems.push(problem);
            }
        }
        Report { file: file.to_owned(), text: mask(text, &self.masked), problems }
    }
}

fn start(place: &Place) -> usize {
    match place {
        Place::Span(span) => span.start,
        Place::Variable(_) | Place::Unknown => usize::MAX,
    }
}

/// Puts stars over parts of a text. Lines and byte offsets stay the same.
fn mask(text: &str, masked: &[Range<usize>]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for span in masked {
        for byte in bytes.get_mut(span.clone()).into_iter().flatten().filter(|byte| !b"\r\n".contains(byte)) {
            *byte = b'*';
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Everything that is wrong with a configuration. It is never empty, and holds no secret.
#[derive(Debug)]
pub struct Report {
    file: String,
    text: String,
    problems: Vec<Problem>,
}

impl Report {
    /// A report about the file as a whole.
    pub(super) fn about_file(file: &str, message: String) -> Self {
        let problem = Problem::new(Path::default(), Place::Unknown, message);
        Self { file: file.to_owned(), text: String::new(), problems: vec![problem] }
    }

    /// How many problems there are.
    #[must_use]
    pub fn problem_count(&self) -> usize {
        self.problems.len()
    }

    /// The report with terminal colours; `Display` gives it without.
    #[must_use]
    pub fn with_colors(&self) -> String {
        self.render(&Renderer::styled())
    }

    fn render(&self, renderer: &Renderer) -> String {
        let mut text: Vec<String> = self.problems.iter().map(|problem| self.render_one(problem, renderer)).collect();
        let plural = if self.problems.len() == 1 { "" } else { "s" };
        text.push(format!("{} problem{plural} in {}", self.problems.len(), self.file));
        text.join("\n\n")
    }

    fn render_one(&self, problem: &Problem, renderer: &Renderer) -> String {
        let mut group = Group::with_title(Level::ERROR.primary_title(title(problem)));
        match &problem.place {
            Place::Span(span) => {
                let caret = AnnotationKind::Primary.span(self.caret(span));
                group = group.element(Snippet::source(&self.text).path(&self.file).annotation(caret));
            }
            Place::Variable(name) => {
                group = group
                    .element(Level::NOTE.message(format!("set by the environment variable {}", name.escape_debug())));
            }
            Place::Unknown => {}
        }
        if let Some(help) = &problem.help {
            group = group.element(Level::HELP.message(help));
        }
        renderer.render(&[group])
    }

    /// The part of a span that lies within the text, cut to its first line, so that a caret points at one place.
    fn caret(&self, span: &Range<usize>) -> Range<usize> {
        let floor = |i: usize| (0..=i.min(self.text.len())).rev().find(|i| self.text.is_char_boundary(*i)).unwrap_or(0);
        let (from, to) = (floor(span.start), floor(span.end));
        let line_end = self.text[from..].find(['\n', '\r']).map_or(self.text.len(), |i| from + i);
        from..to.clamp(from, line_end.max(from))
    }

    /// Line and column, from 1; the column counts characters.
    fn line_and_column(&self, place: &Place) -> Option<(usize, usize)> {
        let Place::Span(span) = place else { return None };
        let before = &self.text[..self.caret(span).start];
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        Some((before.matches('\n').count() + 1, before[line_start..].chars().count() + 1))
    }
}

fn title(problem: &Problem) -> String {
    match problem.path.steps() {
        [] => problem.message.clone(),
        _ => format!("{}: {}", problem.path, problem.message),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(&Renderer::plain()))
    }
}

impl std::error::Error for Report {}

/// One problem as `--json` prints it.
#[derive(Serialize)]
struct ProblemJson<'a> {
    path: String,
    message: &'a str,
    help: Option<&'a str>,
    file: Option<&'a str>,
    line: Option<usize>,
    column: Option<usize>,
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.problems.iter().map(|problem| {
            let position = self.line_and_column(&problem.place);
            let in_file = !matches!(problem.place, Place::Variable(_));
            ProblemJson {
                path: problem.path.to_string(),
                message: &problem.message,
                help: problem.help.as_deref(),
                file: in_file.then_some(self.file.as_str()),
                line: position.map(|(line, _)| line),
                column: position.map(|(_, column)| column),
            }
        }))
    }
}
