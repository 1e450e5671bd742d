//! `HIGHWATER_SOURCES__GITHUB__CLIENT__TIMEOUT=5s`: scalars of the file, overridden by the environment. A variable
//! says what it says: placeholders in it are not filled in, and one that overrides nothing is an error.

use indexmap::IndexSet;

use super::diagnostic::{Findings, Problem};
use super::env::Env;
use super::path::Path;
use super::shape::{self, Schema, Shape};
use super::suggest;
use super::tree::{self, Entry, Node, Place, Table, Text, Value};

const PREFIX: &str = "HIGHWATER_";

/// Puts the variables' values into the tree. `file` is the text of the file: variables that it names in `${env:…}`
/// are not overrides.
pub(super) fn apply(tree: &mut Node, file: &str, env: &Env, findings: &mut Findings) {
    for (name, value) in env.variables() {
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        let ours = rest == "CONFIG" || rest.starts_with("LOG");
        if ours || file.contains(&format!("${{env:{name}}}")) || file.contains(&format!("${{env:{name}:")) {
            continue;
        }
        let place = Place::Variable(name.to_owned());
        if let Err((path, message, help)) = set(tree, shape::root(), &Path::default(), rest, value, &place) {
            let mut problem = Problem::new(path, place, message);
            problem.help = help;
            findings.problem(problem);
        }
    }
}

type Refused = (Path, String, Option<String>);

fn set(node: &mut Node, schema: Schema, path: &Path, rest: &str, value: &str, place: &Place) -> Result<(), Refused> {
    if rest.is_empty() {
        node.value = typed(schema, node, value, place).map_err(|message| (path.clone(), message, None))?;
        node.place = place.clone();
        return Ok(());
    }
    if let Value::List(list) = &mut node.value {
        let (index, rest) = rest.split_once("__").unwrap_or((rest, ""));
        let count = list.len();
        let slot = index.parse::<usize>().ok().and_then(|index| Some((index, list.get_mut(index)?)));
        let Some(((index, slot), schema)) = slot.zip(shape::item(schema)) else {
            return Err((path.clone(), format!("there is no item {index} in a list of {count}"), None));
        };
        return set(slot, schema, &path.index(index), rest, value, place);
    }
    let (key, rest) = next_key(node, schema, rest).map_err(|(message, help)| (path.clone(), message, help))?;
    let Some(schema) = schema_of(schema, node, &key) else {
        return Err((path.key(&key), "this key cannot be overridden".to_owned(), None));
    };
    let path = path.key(&key);
    let Some(table) = node.table_mut() else {
        return Err((path, "what stands above it in the file is not a table".to_owned(), None));
    };
    let fresh =
        || Entry { key_place: place.clone(), node: Node { value: Value::Table(Table::new()), place: place.clone() } };
    let is_new = !table.contains_key(&key);
    let entry = table.entry(key.clone()).or_insert_with(fresh);
    let result = set(&mut entry.node, schema, &path, rest, value, place);
    if result.is_err() && is_new {
        table.shift_remove(&key);
    }
    result
}

/// Splits the next key off the rest of a variable's name. Existing and known keys decide where it ends, so that a
/// name may hold two underscores.
fn next_key<'a>(node: &Node, schema: Schema, rest: &'a str) -> Result<(String, &'a str), (String, Option<String>)> {
    let written = node.table().into_iter().flatten().map(|(key, _)| key.as_str());
    let names: IndexSet<&str> = known_keys(schema, node).into_iter().chain(written).collect();
    let names: Vec<_> = names.into_iter().collect();
    // The longest name first: it may begin with a shorter one.
    let mut longest_first = names.clone();
    longest_first.sort_by_key(|name| std::cmp::Reverse(name.len()));
    let matches: Vec<_> = longest_first.iter().filter_map(|name| Some((*name, after(rest, name)?))).collect();
    match matches.as_slice() {
        [(name, after), ..] if matches.iter().filter(|(other, _)| other.len() == name.len()).count() == 1 => {
            Ok(((*name).to_owned(), after))
        }
        [] => {
            let typed = rest.split("__").next().unwrap_or(rest).to_lowercase();
            let help = if names.is_empty() { None } else { Some(suggest::help(&typed, "there are", &names)) };
            Err((format!("this variable overrides nothing: there is no `{}`", typed.escape_debug()), help))
        }
        several => {
            let names: Vec<_> = several.iter().map(|(name, _)| *name).collect();
            Err((format!("this variable could mean {}", suggest::list(&names)), None))
        }
    }
}

/// What follows `name` in `rest`, if `rest` starts with it as a whole key.
fn after<'a>(rest: &'a str, name: &str) -> Option<&'a str> {
    let start = rest.get(..name.len())?;
    let same = |(a, b): (char, char)| a.eq_ignore_ascii_case(&b) || (a == '_' && b == '-');
    if !start.chars().zip(name.chars()).all(same) {
        return None;
    }
    match &rest[name.len()..] {
        "" => Some(""),
        more => more.strip_prefix("__").filter(|more| !more.is_empty()),
    }
}

fn known_keys(schema: Schema, node: &Node) -> Vec<&'static str> {
    match shape::shape(schema) {
        Shape::Table(keys) => keys.properties.keys().map(String::as_str).collect(),
        Shape::Tagged(variants) => {
            let of =
                |variant: &shape::Variant| variant.keys.clone().map(|keys| keys.properties.keys().map(String::as_str));
            match shape::variant_of(&variants, node) {
                Some(variant) => of(variant).into_iter().flatten().collect(),
                None => variants.iter().filter_map(of).flatten().collect(),
            }
        }
        _ => Vec::new(),
    }
}

fn schema_of(schema: Schema, node: &Node, key: &str) -> Option<Schema> {
    shape::child(schema, node, key).or_else(|| match shape::shape(schema) {
        Shape::Tagged(variants) => {
            variants.into_iter().find_map(|variant| variant.keys.and_then(|keys| keys.properties.get(key)))
        }
        _ => None,
    })
}

/// The value as the schema wants it. The message does not quote it: it may be a secret.
fn typed(schema: Schema, old: &Node, value: &str, place: &Place) -> Result<Value, String> {
    let text = || Value::Text(Text::Written(value.to_owned()));
    match shape::shape(schema) {
        Shape::Words(_) => Ok(text()),
        Shape::Scalar(scalar) => number_or_text(&scalar.types, value),
        Shape::Either(_) if shape::item(schema).is_some() && value.trim_start().starts_with('[') => list(value, place),
        Shape::Either(choices) => {
            let types: Vec<_> = choices.iter().filter_map(|choice| choice.get("type")?.as_str()).collect();
            Ok(number_or_text(&types, value).unwrap_or_else(|_| text()))
        }
        Shape::Body => match old.value {
            Value::Table(ref table) if !table.is_empty() => Err("a table cannot be overridden as a whole".to_owned()),
            Value::List(_) => Err("a list cannot be overridden as a whole".to_owned()),
            Value::Integer(_) | Value::Float(_) | Value::Bool(_) => {
                Ok(number_or_text(&["number", "integer", "boolean"], value).unwrap_or_else(|_| text()))
            }
            _ => Ok(text()),
        },
        Shape::List { .. } => list(value, place),
        Shape::Table(_) | Shape::Names(_) | Shape::Tagged(_) => {
            Err("a table cannot be overridden as a whole".to_owned())
        }
    }
}

/// A list as the file would have it. All of it comes from the variable, so no message quotes it.
fn list(value: &str, place: &Place) -> Result<Value, String> {
    let mut findings = Findings::default();
    let mut tree = tree::parse(&format!("list = {}", value.trim()), &mut findings);
    let alone = tree.table().is_some_and(|table| table.len() == 1);
    match tree.get_mut("list") {
        Some(node) if alone && findings.problems.is_empty() && matches!(node.value, Value::List(_)) => {
            put_at(node, place);
            Ok(node.value.clone())
        }
        _ => Err("expected a list as in the file, such as [\"a\", \"b\"]".to_owned()),
    }
}

fn put_at(node: &mut Node, place: &Place) {
    node.place = place.clone();
    match &mut node.value {
        Value::List(list) => list.iter_mut().for_each(|node| put_at(node, place)),
        Value::Table(table) => {
            for entry in table.values_mut() {
                entry.key_place = place.clone();
                put_at(&mut entry.node, place);
            }
        }
        _ => {}
    }
}

fn number_or_text(types: &[&str], value: &str) -> Result<Value, String> {
    let is = |name: &str| types.contains(&name);
    if is("string") && !is("integer") || is("string") && is("boolean") {
        return Ok(Value::Text(Text::Written(value.to_owned())));
    }
    let trimmed = value.trim();
    if (is("integer") || is("number"))
        && let Ok(number) = trimmed.parse()
    {
        return Ok(Value::Integer(number));
    }
    if is("number")
        && let Some(number) = trimmed.parse().ok().filter(|number: &f64| number.is_finite())
    {
        return Ok(Value::Float(number));
    }
    match trimmed {
        "true" if is("boolean") => Ok(Value::Bool(true)),
        "false" if is("boolean") => Ok(Value::Bool(false)),
        _ if is("string") => Ok(Value::Text(Text::Written(value.to_owned()))),
        _ if is("boolean") && !is("integer") => Err("expected `true` or `false`".to_owned()),
        _ => Err("expected a whole number".to_owned()),
    }
}
