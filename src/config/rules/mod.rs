//! Rules across keys: what the schema cannot say. All that are broken are reported, each at its own key.

use super::Config;
use super::diagnostic::{Findings, Problem};
use super::path::Path;
use super::tree::{Node, Place};

mod auth;
mod budget;
mod client;
mod expression;
mod format;
mod incremental;
mod layout;
mod names;
mod paginator;
mod partition;
mod pipeline;
mod processing_step;
mod request_body;
mod resource;
mod response_action;
mod schedule;
mod web;

/// Checks every rule, and gives each `rate_limit` that refers to a budget the settings of that budget.
pub(super) fn check(config: &mut Config, tree: &Node, findings: &mut Findings) {
    let earlier = findings.problems.len();
    let mut rules = Rules { tree, findings };
    pipeline::check(config, &mut rules);
    web::check(config, &mut rules);
    names::check(config, &mut rules);
    for (name, source) in &config.sources {
        let path = Path::of(&["sources", name]);
        client::check(&source.client, &path.key("client"), &mut rules);
        schedule::check(source, &path, &mut rules);
        for (name, resource) in &source.resources {
            resource::check(name, resource, &source.client, &path, &mut rules);
            let place = path.key("resources").key(name);
            incremental::check(resource, &place, &mut rules);
            partition::check(name, resource, &source.resources, &place, &mut rules);
        }
    }
    auth::check_shared(config, &mut rules);
    budget::check(config, &mut rules);
    let (before, after) = findings.problems.split_at(earlier);
    let kept = after.iter().filter(|problem| !before.iter().any(|cause| may_follow_from(&problem.path, &cause.path)));
    let kept: Vec<_> = kept.cloned().collect();
    findings.problems.truncate(earlier);
    findings.problems.extend(kept);
}

/// Keys of a client (at depth 3) or a resource (4) whose value matters to no rule but their own.
const INDEPENDENT: [&str; 15] = [
    "params",
    "headers",
    "auth",
    "timeout",
    "connect_timeout",
    "read_timeout",
    "max_page_bytes",
    "redirects",
    "allow_private_addresses",
    "resume_within",
    "data_selector",
    "response_actions",
    "processing_steps",
    "schedule",
    "every",
];

/// The same of a source itself (2).
const INDEPENDENT_OF_SOURCE: [&str; 4] = ["schedule", "every", "timezone", "jitter"];

/// Whether a broken rule may only be broken because something else is wrong: what was wrong is missing from the
/// typed configuration, and rules must not be applied to the gap.
fn may_follow_from(rule: &Path, cause: &Path) -> bool {
    let same = |depth: usize| cause.steps().get(..depth) == rule.steps().get(..depth);
    let (depth, keys) = match cause.key_at(2) {
        Some("client" | "resource_defaults") => (3, &INDEPENDENT[..]),
        Some("resources") => (4, &INDEPENDENT[..]),
        _ => (2, &INDEPENDENT_OF_SOURCE[..]),
    };
    if cause.key_at(depth).is_some_and(|key| keys.contains(&key)) {
        let (rule, cause) = (rule.steps(), cause.steps());
        return cause.starts_with(rule) || rule.starts_with(cause);
    }
    match (cause.key_at(0), cause.key_at(2)) {
        (Some("sources"), Some("resources")) => {
            same(4) || rule.last_key() == Some("budget") || cause.steps().len() <= 3 && same(2)
        }
        (Some("sources"), _) => same(2) || rule.last_key() == Some("budget"),
        _ => same(1),
    }
}

/// What a rule needs to say that it is broken.
struct Rules<'a> {
    tree: &'a Node,
    findings: &'a mut Findings,
}

impl Rules<'_> {
    /// Reports a problem with the value at a path, or with what is missing there.
    fn refuse(&mut self, path: &Path, message: impl Into<String>) {
        self.findings.problem(Problem::new(path.clone(), self.tree.place_of(path), message));
    }

    /// The same, with the way out.
    fn refuse_with_help(&mut self, path: &Path, message: impl Into<String>, help: impl Into<String>) {
        self.findings.problem(Problem::new(path.clone(), self.tree.place_of(path), message).help(help));
    }

    /// Reports a problem with the name of a key.
    fn refuse_key(&mut self, path: &Path, message: impl Into<String>) {
        let place = match self.tree.key_place_of(path) {
            Place::Unknown => self.tree.place_of(path),
            place => place,
        };
        self.findings.problem(Problem::new(path.clone(), place, message));
    }

    /// Whether there is a value at a path, rather than a default.
    fn is_set(&self, path: &Path) -> bool {
        self.tree.at(path).is_some()
    }

    /// Whether a text stands in the file just so; what was filled in is not quoted in messages.
    fn is_written(&self, path: &Path) -> bool {
        self.tree.at(path).is_some_and(|node| node.written().is_some())
    }

    fn hint(&mut self, path: &Path, hint: &str) {
        self.findings.hint(format!("{path}: {hint}"));
    }
}
