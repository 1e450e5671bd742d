//! Fills in `${env:NAME}`, `${file:/path}` and `${cred:NAME}`, in strings and nowhere else: the file was parsed
//! before, so a value can add text but never structure. Secrets stay marked from here on.

use std::collections::BTreeSet;

use super::diagnostic::{Findings, Problem};
use super::env::Env;
use super::mask;
use super::path::Path;
use super::secret_file::{self, Access};
use super::shape::{self, Schema, Shape};
use super::suggest;
use super::tree::{Node, Place, Text, Value};
use crate::template::{SegmentKind, Slot};

/// Headers that carry credentials: their values are never written in the file.
const CREDENTIAL_HEADERS: [&str; 4] = ["authorization", "proxy-authorization", "cookie", "x-api-key"];

/// In the place of what is not known to somebody who sends nothing. It passes for any secret.
const UNKNOWN: &str = "neither-known-nor-sent";

/// Fills in all placeholders that the schema allows, and reports all that cannot be filled in.
pub(super) fn fill(tree: &mut Node, env: &Env, findings: &mut Findings) {
    let mut filler = Filler { env, findings, secret_variables: BTreeSet::new() };
    filler.walk(tree, shape::root(), &Path::default(), false);
    if !filler.secret_variables.is_empty() {
        let names = filler.secret_variables.into_iter().collect::<Vec<_>>().join(", ");
        findings.hint(format!(
            "secrets from the environment ({names}) can be read in /proc and are inherited; ${{cred:NAME}} and ${{file:/path}} are safer"
        ));
    }
}

/// What a string of the configuration is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Nothing is filled in.
    Literal,
    /// Shown in logs: no secrets.
    Plain,
    /// Sent with requests.
    Template { env_is_secret: bool },
    /// A credential.
    Secret { may_be_literal: bool },
}

struct Filler<'a> {
    env: &'a Env,
    findings: &'a mut Findings,
    secret_variables: BTreeSet<String>,
}

impl Filler<'_> {
    fn walk(&mut self, node: &mut Node, schema: Schema, path: &Path, in_request: bool) {
        let shape = shape::shape(schema);
        match &mut node.value {
            Value::Text(_) => self.fill_text(node, usage(&shape, node, in_request), path),
            Value::List(list) => {
                let Some(item) = shape::item(schema) else { return };
                for (i, node) in list.iter_mut().enumerate() {
                    self.walk(node, item, &path.index(i), in_request);
                }
            }
            Value::Table(_) => {
                let known = matches!(shape, Shape::Table(_));
                let schemas: Vec<_> =
                    node.table().into_iter().flatten().map(|(key, _)| shape::child(schema, node, key)).collect();
                for ((key, entry), schema) in node.table_mut().into_iter().flatten().zip(schemas) {
                    let in_request =
                        in_request || known && ["headers", "params", "json", "form", "auth"].contains(&key.as_str());
                    if let Some(schema) = schema {
                        self.walk(&mut entry.node, schema, &path.key(key), in_request);
                    }
                }
            }
            Value::Bool(_) | Value::Integer(_) | Value::Float(_) => {}
        }
    }

    fn fill_text(&mut self, node: &mut Node, usage: Use, path: &Path) {
        let Value::Text(Text::Written(text)) = &node.value else { return };
        if let Place::Variable(name) = &node.place {
            let name = name.clone();
            node.value = Value::Text(self.overridden(text.clone(), &name, usage));
            return;
        }
        let refuse = |message: String, help: Option<String>| Problem {
            path: path.clone(),
            place: node.place.clone(),
            message,
            help,
        };
        let pieces = match pieces(text) {
            Ok(pieces) => pieces,
            Err(message) => return self.findings.problem(refuse(message, None)),
        };
        if let Some(message) = inline_secret(text, &pieces, usage, path) {
            let help = "write `${cred:NAME}`, `${file:/path}` or `${env:NAME}` instead";
            return self.findings.problem(refuse(message, Some(help.to_owned())));
        }
        let mut segments: Vec<(SegmentKind, String)> = Vec::new();
        for piece in &pieces {
            match piece {
                Piece::Text(text) => segments.push((SegmentKind::Text, text.clone())),
                Piece::Slot(slot) => match self.resolve(slot, usage, path) {
                    Ok(segment) => segments.push(segment),
                    Err((message, help)) => self.findings.problem(refuse(message, help)),
                },
            }
        }
        let has_slot = pieces.iter().any(|piece| matches!(piece, Piece::Slot(_)));
        let whole = || segments.iter().map(|(_, text)| text.as_str()).collect::<String>();
        node.value = Value::Text(match usage {
            _ if !has_slot => Text::Written(whole()),
            Use::Plain | Use::Literal => Text::Filled(whole()),
            Use::Template { .. } | Use::Secret { .. } => Text::Segments(segments),
        });
    }

    fn overridden(&mut self, text: String, variable: &str, usage: Use) -> Text {
        match usage {
            Use::Plain | Use::Literal => Text::Filled(text),
            Use::Template { env_is_secret: false } => Text::Segments(vec![(SegmentKind::Text, text)]),
            Use::Template { .. } | Use::Secret { .. } => {
                self.secret_variables.insert(variable.to_owned());
                Text::Segments(vec![(SegmentKind::Secret, text)])
            }
        }
    }

    /// The text for a placeholder, and what it is. Who sends nothing can do without a text from outside.
    fn resolve(
        &mut self,
        slot: &str,
        usage: Use,
        path: &Path,
    ) -> Result<(SegmentKind, String), (String, Option<String>)> {
        let is_sent = matches!(usage, Use::Secret { .. } | Use::Template { .. });
        let is_outside = ["env:", "file:", "cred:"].iter().any(|kind| slot.starts_with(kind));
        match self.find(slot, usage, path) {
            Err(_) if is_sent && is_outside && self.env.sends_nothing() => {
                Ok((SegmentKind::Secret, UNKNOWN.to_owned()))
            }
            found => found,
        }
    }

    fn find(&mut self, slot: &str, usage: Use, path: &Path) -> Result<(SegmentKind, String), (String, Option<String>)> {
        if usage == Use::Literal {
            let message = "nothing is filled into the text of a query: a value could change what it asks for";
            let help = "name a variable in the query and fill it in under `variables`; a literal `${` is written `$${`";
            return Err((message.to_owned(), Some(help.to_owned())));
        }
        if ["incremental", "partition", "resources"].iter().any(|kind| slot.split('.').next() == Some(kind)) {
            return of_request(slot, usage, path);
        }
        if let Some(rest) = slot.strip_prefix("env:") {
            return self.resolve_variable(rest, usage);
        }
        let (kind, rest) = slot.split_once(':').unwrap_or((slot, ""));
        if !matches!(kind, "file" | "cred") || !slot.contains(':') {
            return Err(unknown(slot));
        }
        if usage == Use::Plain {
            let message = format!("`${{{kind}:…}}` is a secret, and this value is shown in logs and reports");
            return Err((message, Some("use `${env:NAME}`, or write the value here".to_owned())));
        }
        let text = if kind == "file" { secret_file_at(rest) } else { self.credential(rest) };
        text.map(|text| (SegmentKind::Secret, text)).map_err(|message| (message, None))
    }

    fn resolve_variable(&mut self, rest: &str, usage: Use) -> Result<(SegmentKind, String), (String, Option<String>)> {
        let (name, default) = match rest.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (rest, None),
        };
        let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !starts_well || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err((format!("{} is not a name of an environment variable", suggest::quoted(name)), None));
        }
        let is_secret = !matches!(usage, Use::Literal | Use::Plain | Use::Template { env_is_secret: false });
        if matches!(usage, Use::Secret { .. }) && default.is_some_and(|default| !default.is_empty()) {
            return Err(("a secret cannot have a default in the file".to_owned(), None));
        }
        if let Some(value) = self.env.var(name) {
            if is_secret {
                self.secret_variables.insert(name.to_owned());
            }
            let kind = if is_secret { SegmentKind::Secret } else { SegmentKind::Text };
            return Ok((kind, value.to_owned()));
        }
        match default {
            Some(default) => Ok((SegmentKind::Text, default.to_owned())),
            None => Err((format!("the environment variable `{name}` is not set, or is empty"), None)),
        }
    }

    fn credential(&self, name: &str) -> Result<String, String> {
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
            return Err(format!("{} is not a name of a credential", suggest::quoted(name)));
        }
        let Some(dir) = self.env.credentials_dir() else {
            return Err(format!(
                "there is no credential `{name}`: $CREDENTIALS_DIRECTORY is not set (systemd sets it, with `LoadCredential={name}:/path`)"
            ));
        };
        secret_file::read(&dir.join(name), Access::Any)
    }
}

fn secret_file_at(path: &str) -> Result<String, String> {
    if !path.starts_with('/') {
        return Err(format!("{} does not start with `/`: a secret file is named in full", suggest::quoted(path)));
    }
    secret_file::read(std::path::Path::new(path), Access::OwnerOnly)
}

fn usage(shape: &Shape, node: &Node, in_request: bool) -> Use {
    match shape {
        Shape::Body => Use::Template { env_is_secret: true },
        Shape::Scalar(scalar) => match scalar.format {
            Some("secret") => Use::Secret { may_be_literal: scalar.may_be_literal },
            Some("template") => Use::Template { env_is_secret: in_request },
            Some("literal") => Use::Literal,
            _ => Use::Plain,
        },
        Shape::Either(choices) => {
            shape::choice_for(choices, node).map_or(Use::Plain, |choice| usage(&shape::shape(choice), node, in_request))
        }
        _ => Use::Plain,
    }
}

/// Why a text may not stand in the file, if it is a secret.
fn inline_secret(text: &str, pieces: &[Piece], usage: Use, path: &Path) -> Option<String> {
    if text.is_empty() || pieces.iter().any(|piece| matches!(piece, Piece::Slot(_))) {
        return None;
    }
    let parent = path.parent()?;
    let key = path.last_key()?;
    let is_credential = match usage {
        Use::Secret { may_be_literal } => !may_be_literal,
        Use::Template { .. } if parent.last_key() == Some("headers") => {
            CREDENTIAL_HEADERS.contains(&key.to_lowercase().as_str())
        }
        Use::Template { .. } => mask::is_credential(path),
        Use::Plain | Use::Literal => false,
    };
    is_credential.then(|| "a secret is never written in the file".to_owned())
}

/// A placeholder that is filled in for each request.
fn of_request(slot: &str, usage: Use, path: &Path) -> Result<(SegmentKind, String), (String, Option<String>)> {
    let in_resource = path.key_at(0) == Some("sources") && path.key_at(2) == Some("resources");
    match slot.parse::<Slot>() {
        Err(help) => Err((format!("{} is not a placeholder", suggest::quoted(&format!("${{{slot}}}"))), Some(help))),
        Ok(_) if !in_resource || !matches!(usage, Use::Template { .. }) => Err((
            format!("`${{{slot}}}` is filled in for each request, and this value is not part of one"),
            Some("it can stand in `path`, `params`, `headers` and the body of a resource".to_owned()),
        )),
        Ok(_) => Ok((SegmentKind::Slot, slot.to_owned())),
    }
}

fn unknown(slot: &str) -> (String, Option<String>) {
    let kind = slot.split([':', '.']).next().unwrap_or(slot);
    let known = "there are `${env:NAME}`, `${file:/path}` and `${cred:NAME}`; `$${` is a literal `${`";
    let help = match suggest::nearest(kind, ["env", "file", "cred", "incremental", "partition", "resources"]) {
        Some(name) => format!("did you mean `{name}`? {known}"),
        None => known.to_owned(),
    };
    (format!("{} is not a placeholder", suggest::quoted(&format!("${{{slot}}}"))), Some(help))
}

#[derive(Debug, PartialEq, Eq)]
enum Piece<'a> {
    Text(String),
    Slot(&'a str),
}

/// Splits a string into text and placeholders.
fn pieces(text: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            plain.push_str(&rest[..at]); // `$${`: the second `$` goes
            plain.push('{');
            rest = &rest[at + 2..];
            continue;
        }
        plain.push_str(&rest[..at]);
        let Some(length) = rest[at + 2..].find('}') else {
            return Err("`${` has no `}`; a literal `${` is written `$${`".to_owned());
        };
        if !plain.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut plain)));
        }
        pieces.push(Piece::Slot(&rest[at + 2..at + 2 + length]));
        rest = &rest[at + 3 + length..];
    }
    plain.push_str(rest);
    if !plain.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::{Piece, pieces};

    #[test]
    fn a_string_is_text_and_placeholders() {
        let text = |text: &str| Piece::Text(text.to_owned());
        for (written, expected) in [
            ("", vec![text("")]),
            ("plain {brace} $x }", vec![text("plain {brace} $x }")]),
            ("${env:A}", vec![Piece::Slot("env:A")]),
            ("a${b}c${d}", vec![text("a"), Piece::Slot("b"), text("c"), Piece::Slot("d")]),
            ("a$${b}", vec![text("a${b}")]),
            ("$${${a}", vec![text("${"), Piece::Slot("a")]),
            ("é${ü}", vec![text("é"), Piece::Slot("ü")]),
        ] {
            assert_eq!(pieces(written).unwrap(), expected, "{written}");
        }
        assert!(pieces("a${b").is_err());
    }
}
