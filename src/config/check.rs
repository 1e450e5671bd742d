//! Holds the tree against the schema: unknown and missing keys, types, words and bounds. Everything that is
//! wrong is reported, each with its path and what would be right.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::diagnostic::{Findings, Problem};
use super::path::Path;
use super::shape::{self, Keys, Scalar, Schema, Shape, Variant};
use super::suggest;
use super::tree::{Node, Place, Value};
use crate::schedule::{Cron, Zone};
use crate::units::{ByteSize, Timespan};
use crate::web::Listen;

/// Checks the whole file.
pub(super) fn check(tree: &Node, findings: &mut Findings) {
    let earlier = findings.problems.iter().map(|problem| problem.path.clone()).collect();
    Checker { findings, earlier, partial: false }.check(tree, shape::root(), &Path::default());
}

struct Checker<'a> {
    findings: &'a mut Findings,
    /// Values that could not be filled in: nothing more is to be said about them.
    earlier: BTreeSet<Path>,
    /// Inside `resource_defaults`, where required keys may be left to the resources.
    partial: bool,
}

impl Checker<'_> {
    fn check(&mut self, node: &Node, schema: Schema, path: &Path) {
        match shape::shape(schema) {
            Shape::Body => {}
            Shape::Table(keys) if node.table().is_some() => self.check_keys(node, &keys, path),
            Shape::Names(names) if node.table().is_some() => {
                for (key, entry) in node.table().into_iter().flatten() {
                    self.check(&entry.node, names, &path.key(key));
                }
            }
            Shape::Tagged(variants) if node.table().is_some() => self.check_tagged(node, &variants, path),
            Shape::Words(words) if node.text().is_some() => {
                self.check_word(node, &words, path);
            }
            Shape::List { items, length_min } => match &node.value {
                Value::List(list) => self.check_list(node, list, items, length_min, path),
                _ => self.wrong_type(node, schema, path),
            },
            Shape::Either(choices) => match shape::choice_for(&choices, node) {
                Some(choice) => self.check(node, choice, path),
                None => self.wrong_type(node, schema, path),
            },
            Shape::Scalar(scalar) if scalar.accepts(node) => self.check_scalar(node, &scalar, path),
            _ => self.wrong_type(node, schema, path),
        }
    }

    fn refuse(&mut self, path: &Path, place: &Place, message: impl Into<String>, help: Option<String>) {
        if !self.earlier.contains(path) {
            self.findings.problem(Problem { path: path.clone(), place: place.clone(), message: message.into(), help });
        }
    }

    fn wrong_type(&mut self, node: &Node, schema: Schema, path: &Path) {
        let message = format!("expected {}, found {}", expected(schema), node.kind());
        let is_number = matches!(shape::shape(schema), Shape::Scalar(scalar) if !scalar.types.contains(&"string"));
        let help = (is_number && node.text().is_some())
            .then(|| format!("write it without quotes; from the environment it is set by {}", path.variable()));
        self.refuse(path, &node.place, message, help);
    }

    fn check_keys(&mut self, node: &Node, keys: &Keys, path: &Path) {
        let mut misspelt = Vec::new();
        for (key, entry) in node.table().into_iter().flatten() {
            let path = path.key(key);
            let Some(schema) = keys.properties.get(key) else {
                let names: Vec<_> = keys.properties.keys().map(String::as_str).collect();
                let meant = suggest::nearest(key, names.iter().copied());
                misspelt.extend(meant);
                let help = match meant {
                    Some(name) => format!("did you mean `{name}`?"),
                    None => format!("the keys here are {}", suggest::list(&names)),
                };
                self.refuse(&path, &entry.key_place, format!("unknown key {}", suggest::quoted(key)), Some(help));
                continue;
            };
            let partial = self.partial;
            self.partial |= key == "resource_defaults";
            self.check(&entry.node, schema, &path);
            self.partial = partial;
        }
        if self.partial {
            return;
        }
        for key in keys.required.iter().filter(|key| node.get(key).is_none() && !misspelt.contains(*key)) {
            let help =
                keys.properties.get(*key).and_then(|schema| schema.get("description")?.as_str()).map(str::to_owned);
            self.refuse(&path.key(key), &node.place, format!("the key `{key}` is missing"), help);
        }
    }

    fn check_tagged(&mut self, node: &Node, variants: &[Variant], path: &Path) {
        let path_of_type = path.key("type");
        match node.get("type") {
            None if self.partial => {}
            None => self.refuse(&path_of_type, &node.place, "the key `type` is missing", Some(accepted(variants))),
            Some(word) if word.text().is_none() => {
                let message = format!("expected one of {}, found {}", words(variants), word.kind());
                self.refuse(&path_of_type, &word.place, message, None);
            }
            Some(word) => {
                if let Some(keys) =
                    self.check_word(word, variants, &path_of_type).and_then(|variant| variant.keys.clone())
                {
                    self.check_keys(node, &keys, path);
                }
            }
        }
    }

    /// The variant that is meant.
    fn check_word<'v>(&mut self, node: &Node, variants: &'v [Variant], path: &Path) -> Option<&'v Variant> {
        let text = node.text()?;
        match variants.iter().find(|variant| variant.name == text) {
            Some(variant) => return Some(variant),
            None => {
                let shown = node.written().map_or("this value".to_owned(), suggest::quoted);
                let help = suggest::help(text, "accepted", &names(variants));
                let help = if node.written().is_some() { help } else { accepted(variants) };
                self.refuse(path, &node.place, format!("{shown} is not one of the accepted values"), Some(help));
            }
        }
        None
    }

    fn check_list(&mut self, node: &Node, list: &[Node], items: Schema, length_min: u64, path: &Path) {
        if (list.len() as u64) < length_min {
            self.refuse(path, &node.place, "an empty list says nothing here", None);
        }
        for (i, item) in list.iter().enumerate() {
            self.check(item, items, &path.index(i));
        }
    }

    fn check_scalar(&mut self, node: &Node, scalar: &Scalar, path: &Path) {
        if let Some(message) = wrong_number(node, scalar.schema).or_else(|| wrong_text(node, scalar)) {
            self.refuse(path, &node.place, message, None);
        }
    }
}

fn names(variants: &[Variant]) -> Vec<&'static str> {
    variants.iter().map(|variant| variant.name).collect()
}

fn words(variants: &[Variant]) -> String {
    suggest::list(&names(variants))
}

fn accepted(variants: &[Variant]) -> String {
    format!("accepted: {}", words(variants))
}

fn wrong_number(node: &Node, schema: &Json) -> Option<String> {
    let number = match node.value {
        #[expect(clippy::cast_precision_loss, reason = "bounds are far below 2^53 or at the end of i64")]
        Value::Integer(number) => number as f64,
        Value::Float(number) => number,
        _ => return None,
    };
    let bound = |name: &str| schema.get(name).filter(|bound| bound.is_number());
    let beyond = |name: &str, is_beyond: fn(f64, f64) -> bool| {
        bound(name).filter(|bound| bound.as_f64().is_some_and(|bound| is_beyond(number, bound)))
    };
    if let Some(minimum) = beyond("minimum", |number, bound| number < bound) {
        return Some(format!("must be at least {minimum}"));
    }
    beyond("maximum", |number, bound| number > bound).map(|maximum| format!("must be at most {maximum}"))
}

fn wrong_text(node: &Node, scalar: &Scalar) -> Option<String> {
    let text = node.text()?;
    let error = match scalar.format {
        Some("highwater-duration") => text.parse::<Timespan>().err(),
        Some("highwater-size") => text.parse::<ByteSize>().err(),
        Some("highwater-cron") => text.parse::<Cron>().err(),
        Some("highwater-timezone") => text.parse::<Zone>().err(),
        Some("highwater-listen") => text.parse::<Listen>().err(),
        None | Some("literal") if text.is_empty() => return Some("must not be empty".to_owned()),
        _ => None,
    };
    match error {
        Some(message) if node.written().is_some_and(|text| text.len() <= 40) => Some(message),
        Some(_) => Some(format!("expected {}", of_scalar(scalar))),
        None => None,
    }
}

/// What a schema wants, for "expected …, found …".
fn expected(schema: Schema) -> String {
    match shape::shape(schema) {
        Shape::Body => "a value".to_owned(),
        Shape::Table(_) | Shape::Names(_) => "a table".to_owned(),
        Shape::Tagged(variants) => {
            format!("a table such as {{ type = \"{}\" }}", names(&variants).first().unwrap_or(&"…"))
        }
        Shape::Words(variants) => format!("one of {}", words(&variants)),
        Shape::List { .. } => "a list".to_owned(),
        Shape::Either(choices) => choices.iter().map(|choice| expected(choice)).collect::<Vec<_>>().join(" or "),
        Shape::Scalar(scalar) => of_scalar(&scalar),
    }
}

fn of_scalar(scalar: &Scalar) -> String {
    match (scalar.format, scalar.types.as_slice()) {
        (Some("highwater-duration"), _) => "a duration such as \"30s\"".to_owned(),
        (Some("highwater-size"), _) => "a size such as \"8MiB\"".to_owned(),
        (Some("highwater-cron"), _) => "a cron schedule such as \"*/15 * * * *\"".to_owned(),
        (Some("highwater-timezone"), _) => "a time zone such as \"Europe/Berlin\"".to_owned(),
        (Some("highwater-listen"), _) => "an address such as \"127.0.0.1:8642\"".to_owned(),
        (Some("secret"), _) => "a string such as \"${env:NAME}\"".to_owned(),
        (_, ["string"]) => match scalar.schema.get("default").and_then(Json::as_str) {
            Some(default) => format!("a string such as \"{default}\""),
            None => "a string".to_owned(),
        },
        (_, ["integer"]) => "a whole number".to_owned(),
        (_, ["boolean"]) => "`true` or `false`".to_owned(),
        _ => "a string, a number or a boolean".to_owned(),
    }
}
