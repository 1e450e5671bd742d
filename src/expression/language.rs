//! The filters, tests and functions that expressions have: those of minijinja that are of use on one value or record,
//! and none that could make much out of little.

use std::ops::Range;

use minijinja::value::{Kwargs, Rest, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, UndefinedBehavior, Value, filters, functions, tests};

use super::ExpressionError;
use super::names::Used;

/// Instructions of one evaluation. There are no loops, so that a long expression has some thousand.
const FUEL: u64 = 100_000;

/// A text that a filter makes may not be longer: a record of this size is set aside as well.
const TEXT_BYTES_MAX: usize = 8 << 20;

/// The functions that there are.
pub(super) const FUNCTIONS: [&str; 2] = ["range", "dict"];

macro_rules! names {
    ($list:ident, $add_all:ident, $add:ident, $($name:literal => $function:expr),+ $(,)?) => {
        const $list: &[&str] = &[$($name),+];

        fn $add_all(environment: &mut Environment<'static>) {
            $(environment.$add($name, $function);)+
        }
    };
}

names! { FILTERS, add_filters, add_filter,
    "abs" => filters::abs, "bool" => filters::bool, "capitalize" => filters::capitalize, "count" => filters::length,
    "d" => filters::default, "default" => filters::default, "dictsort" => filters::dictsort,
    "first" => filters::first, "float" => filters::float, "format" => bounded_format, "int" => filters::int,
    "items" => filters::items, "join" => bounded_join, "last" => filters::last, "length" => filters::length,
    "lines" => filters::lines, "list" => filters::list, "lower" => filters::lower, "map" => filters::map,
    "max" => filters::max, "min" => filters::min, "reject" => filters::reject, "rejectattr" => filters::rejectattr,
    "replace" => bounded_replace, "reverse" => filters::reverse, "round" => filters::round,
    "select" => filters::select, "selectattr" => filters::selectattr, "sort" => filters::sort,
    "split" => filters::split, "string" => filters::string, "sum" => filters::sum, "title" => filters::title,
    "tojson" => filters::tojson, "trim" => filters::trim, "unique" => filters::unique, "upper" => filters::upper,
}

names! { TESTS, add_tests, add_test,
    "boolean" => tests::is_boolean, "defined" => tests::is_defined, "divisibleby" => tests::is_divisibleby,
    "endingwith" => tests::is_endingwith, "eq" => tests::is_eq, "equalto" => tests::is_eq, "even" => tests::is_even,
    "false" => tests::is_false, "float" => tests::is_float, "ge" => tests::is_ge, "gt" => tests::is_gt,
    "in" => tests::is_in, "integer" => tests::is_integer, "iterable" => tests::is_iterable, "le" => tests::is_le,
    "lower" => tests::is_lower, "lt" => tests::is_lt, "mapping" => tests::is_mapping, "ne" => tests::is_ne,
    "none" => tests::is_none, "number" => tests::is_number, "odd" => tests::is_odd,
    "sequence" => tests::is_sequence, "startingwith" => tests::is_startingwith, "string" => tests::is_string,
    "true" => tests::is_true, "undefined" => tests::is_undefined, "upper" => tests::is_upper,
}

/// The language of all expressions.
pub(super) fn environment() -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    add_filters(&mut environment);
    add_tests(&mut environment);
    environment.add_function("range", functions::range);
    environment.add_function("dict", functions::dict);
    environment
}

/// Whether there is everything that an expression names.
pub(super) fn check(used: &Used) -> Result<(), ExpressionError> {
    let known =
        [("filter", &used.filters, FILTERS), ("test", &used.tests, TESTS), ("function", &used.functions, &FUNCTIONS)];
    for (kind, found, known) in known {
        if let Some((name, at)) = found.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            return Err(unknown(kind, name, at, known));
        }
    }
    match used.methods.first() {
        None => Ok(()),
        Some((name, at)) => {
            let help = if FILTERS.contains(&name.as_str()) {
                format!("write it as a filter: `… | {name}`")
            } else {
                "values have no methods; filters take their place, such as `… | upper`".to_owned()
            };
            let message = format!("there is no method `{}`", name.escape_debug());
            Err(ExpressionError { message, help: Some(help), at: Some(at.clone()) })
        }
    }
}

fn unknown(kind: &str, name: &str, at: &Range<usize>, known: &[&str]) -> ExpressionError {
    let message = format!("there is no {kind} `{}`", name.escape_debug());
    ExpressionError { message, help: Some(meant(name, known)), at: Some(at.clone()) }
}

/// What was probably meant, or what there is.
pub(super) fn meant(name: &str, known: &[&str]) -> String {
    let slips_max = (name.chars().count() / 3).clamp(1, 2);
    let slips = |other: &&&str| strsim::damerau_levenshtein(name, other);
    match known.iter().min_by_key(slips).filter(|other| slips(other) <= slips_max) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are {}", known.join(", ")),
    }
}

fn too_long() -> Error {
    Error::new(ErrorKind::InvalidOperation, "the text becomes longer than 8 MiB")
}

fn bounded_replace(value: &str, from: &str, to: &str) -> Result<String, Error> {
    let times = value.matches(from).count();
    let length = value.len().saturating_add(times.saturating_mul(to.len()));
    if length > TEXT_BYTES_MAX { Err(too_long()) } else { Ok(value.replace(from, to)) }
}

fn bounded_join(value: &Value, joiner: Option<&str>, attribute: Option<&str>, kwargs: Kwargs) -> Result<String, Error> {
    let attribute = match attribute {
        Some(attribute) => Some(attribute),
        None => kwargs.get::<Option<&str>>("attribute")?,
    };
    kwargs.assert_all_used()?;
    let mut text = String::new();
    for (number, item) in value.try_iter()?.enumerate() {
        if number > 0 {
            text.push_str(joiner.unwrap_or_default());
        }
        let item = match attribute {
            Some(attribute) => item.get_attr(attribute)?,
            None => item,
        };
        if item.is_undefined() {
            return Err(ErrorKind::UndefinedError.into());
        }
        match item.as_str() {
            Some(item) => text.push_str(item),
            None => text.push_str(&item.to_string()),
        }
        if text.len() > TEXT_BYTES_MAX {
            return Err(too_long());
        }
    }
    Ok(text)
}

/// `format` with widths that are written in it, of up to three digits.
fn bounded_format(state: &mut State<'_, '_>, format: &Value, values: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let mut digits = 0;
    for byte in format.as_str().unwrap_or_default().bytes() {
        digits = if byte.is_ascii_digit() { digits + 1 } else { 0 };
        if digits > 3 || byte == b'*' {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "widths have up to three digits, and stand in the format",
            ));
        }
    }
    filters::format(state, format, values)
}
