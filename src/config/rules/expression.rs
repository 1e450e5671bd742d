//! How a text that is no expression is reported: with the caret at the part that is wrong, where that can be told.

use super::super::diagnostic::Problem;
use super::super::path::Path;
use super::super::tree::Place;
use super::Rules;
use crate::expression::ExpressionError;

/// Reports what is wrong with the expression at a path, if anything is.
pub(super) fn check(path: &Path, error: Option<ExpressionError>, rules: &mut Rules<'_>) {
    let Some(error) = error else { return };
    let place = rules.tree.place_of(path);
    let node = rules.tree.at(path);
    let written = node.and_then(|node| node.written());
    if written.is_none() && node.is_some_and(|node| node.text().is_some()) {
        // What was filled in is not quoted.
        return rules.refuse(path, "is not an expression that can be evaluated here");
    }
    let text = written.unwrap_or_default();
    let place = match (&place, error.at) {
        // Between two quotes, and without escapes: a byte of the text is a byte of the file.
        (Place::Span(span), Some(at)) if span.len() == text.len() + 2 && !at.is_empty() => {
            Place::Span(span.start + 1 + at.start..span.start + 1 + at.end)
        }
        _ => place,
    };
    let problem = Problem::new(path.clone(), place, error.message);
    rules.findings.problem(match error.help {
        Some(help) => problem.help(help),
        None => problem,
    });
}
