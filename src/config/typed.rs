//! From the checked tree to the typed configuration. When something was wrong, what is left is typed as far as it
//! goes, so that the rules across keys can be checked as well and everything is reported at once.

use serde_path_to_error::Segment;

use super::Config;
use super::diagnostic::{Findings, Problem};
use super::path::{Path, Step};
use super::tree::Node;

/// The typed configuration, without what is known to be wrong. What fails here is reported.
pub(super) fn config(tree: &Node, findings: &mut Findings) -> Option<Config> {
    let mut rest = tree.clone();
    for problem in &findings.problems {
        remove(&mut rest, &problem.path);
    }
    loop {
        let error = match serde_path_to_error::deserialize(rest.to_json()) {
            Ok(config) => return Some(config),
            Err(error) => error,
        };
        let path = existing(&rest, error.path());
        if !findings.problems.iter().any(|problem| problem.path.steps().starts_with(path.steps())) {
            findings.problem(Problem::new(path.clone(), tree.place_of(&path), message(tree, &path, error.inner())));
        }
        if !remove(&mut rest, &path) {
            return None;
        }
    }
}

/// Serde's own words, unless they might repeat a value that is not in the file.
fn message(tree: &Node, path: &Path, error: &serde_json::Error) -> String {
    let is_written =
        tree.at(path).is_some_and(|node| node.table().is_none() && (node.text().is_none() || node.written().is_some()));
    if is_written { error.to_string() } else { "this value does not fit here".to_owned() }
}

/// The deepest node on serde's path that is there.
fn existing(tree: &Node, serde_path: &serde_path_to_error::Path) -> Path {
    let mut path = Path::default();
    for segment in serde_path.iter() {
        let next = match segment {
            Segment::Map { key } => path.key(key),
            Segment::Seq { index } => path.index(*index),
            Segment::Enum { .. } | Segment::Unknown => break,
        };
        if tree.at(&next).is_none() {
            break;
        }
        path = next;
    }
    path
}

/// Takes out what stands at a path; a list goes as a whole, as other problems are known by their index in it.
fn remove(tree: &mut Node, path: &Path) -> bool {
    let keys = path.steps().iter().map_while(|step| match step {
        Step::Key(key) => Some(key),
        Step::Index(_) => None,
    });
    let keys: Vec<_> = keys.collect();
    let Some((last, parents)) = keys.split_last() else { return false };
    let parent = parents.iter().try_fold(tree, |node, key| node.get_mut(key));
    parent.and_then(Node::table_mut).is_some_and(|table| table.shift_remove(*last).is_some())
}
