//! Expressions of the configuration: compiled once, with everything that is wrong with them known then, and evaluated
//! within bounds. What they speak of is the caller's.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::LazyLock;

use minijinja::{Environment, Error, ErrorKind, Value};

mod language;
mod names;

pub use names::Used;

/// Longest text of an expression: compiling costs stack for every level of nesting.
const TEXT_BYTES_MAX: usize = 2_000;

/// Longest message about a failed evaluation.
const MESSAGE_BYTES_MAX: usize = 200;

/// One language for all expressions; compiled ones live as long as it does.
static LANGUAGE: LazyLock<Environment<'static>> = LazyLock::new(language::environment);

/// An expression that is known to be one, and to use only what there is.
pub struct Expression {
    compiled: minijinja::Expression<'static, 'static>,
    text: String,
    variables: BTreeSet<String>,
    used: Used,
}

/// Why a text is no expression, and where in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExpressionError {
    /// What is wrong.
    pub message: String,
    /// What would be right, where that is known.
    pub help: Option<String>,
    /// The bytes of the text that are wrong, where they are known.
    pub at: Option<Range<usize>>,
}

/// Why an expression has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// It asks for something that is not there.
    Undefined,
    /// Anything else.
    Other,
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.text).finish()
    }
}

impl Expression {
    /// Compiles an expression.
    ///
    /// # Errors
    /// When it is none, or uses a filter, test or function that there is not.
    pub fn compile(text: &str) -> Result<Self, ExpressionError> {
        let wrong = |message: String, at| ExpressionError { message, help: None, at };
        if text.len() > TEXT_BYTES_MAX {
            return Err(wrong(format!("must not be longer than {TEXT_BYTES_MAX} bytes"), None));
        }
        let compiled = LANGUAGE.compile_expression_owned(text.to_owned()).map_err(|error| {
            let reason =
                error.detail().map_or_else(|| error.kind().to_string(), |reason| reason.escape_debug().to_string());
            wrong(format!("is not an expression: {reason}"), error.range().filter(|at| text.get(at.clone()).is_some()))
        })?;
        let used = names::used(text);
        language::check(&used)?;
        let variables = compiled.undeclared_variables(false).into_iter();
        let variables = variables.filter(|name| !language::FUNCTIONS.contains(&name.as_str()) || used.reads(name));
        Ok(Self { variables: variables.collect(), compiled, text: text.to_owned(), used })
    }

    /// The names that it asks its caller for.
    #[must_use]
    pub fn variables(&self) -> &BTreeSet<String> {
        &self.variables
    }

    /// That it speaks of something else than `known`, if it does.
    #[must_use]
    pub fn unknown_variable(&self, known: &[&str]) -> Option<ExpressionError> {
        let name = self.variables.iter().find(|name| !known.contains(&name.as_str()))?;
        let message = format!("there is no `{}` here", name.escape_debug());
        Some(ExpressionError { message, help: Some(language::meant(name, known)), at: self.used.place_of(name) })
    }

    /// What it is made of.
    #[must_use]
    pub fn used(&self) -> &Used {
        &self.used
    }

    /// Its value where the variables have these values; undefined where a missing one is all that it asks for.
    ///
    /// # Errors
    /// Which kind of failure it is, and a message for people, which can quote the expression but no value.
    pub fn evaluate(&self, variables: Value) -> Result<Value, (Failed, String)> {
        self.compiled.eval(variables).map_err(|error| self.failure(&error))
    }

    /// The same, where an undefined result is an error as well.
    ///
    /// # Errors
    /// As those of [`Expression::evaluate`].
    pub fn evaluate_defined(&self, variables: Value) -> Result<Value, (Failed, String)> {
        let value = self.evaluate(variables)?;
        if value.is_undefined() { Err((Failed::Undefined, self.undefined(None))) } else { Ok(value) }
    }

    fn failure(&self, error: &Error) -> (Failed, String) {
        let detail = error.detail().unwrap_or_default();
        match error.kind() {
            ErrorKind::UndefinedError => (Failed::Undefined, self.undefined(error.range())),
            _ if detail.contains("is undefined)") => (Failed::Undefined, self.undefined(self.quoted(detail))),
            ErrorKind::OutOfFuel => (Failed::Other, "it takes too many steps".to_owned()),
            kind => {
                // The details of these kinds speak of types; those of others could repeat a value.
                let typed = matches!(
                    kind,
                    ErrorKind::InvalidOperation | ErrorKind::MissingArgument | ErrorKind::TooManyArguments
                );
                let quotes = detail.is_empty() || detail.contains(['"', '\'', '`']);
                let message = if typed && !quotes { detail.to_owned() } else { kind.to_string() };
                let end = message.floor_char_boundary(MESSAGE_BYTES_MAX);
                (Failed::Other, message[..end].to_owned())
            }
        }
    }

    /// Where the expression has what a message quotes.
    fn quoted(&self, message: &str) -> Option<Range<usize>> {
        let part = message.split('`').nth(1).filter(|part| !part.is_empty())?;
        let start = self.text.find(part)?;
        Some(start..start + part.len())
    }

    fn undefined(&self, at: Option<Range<usize>>) -> String {
        let part = at.and_then(|at| self.text.get(at)).unwrap_or(&self.text);
        let end = part.floor_char_boundary(MESSAGE_BYTES_MAX);
        format!("`{}` is not defined", part[..end].escape_debug())
    }
}

#[cfg(test)]
mod tests {
    use minijinja::Value;

    use super::{Expression, Failed};

    #[test]
    fn what_is_wrong_with_an_expression_is_known_when_it_is_compiled_and_where() {
        for (text, message, help, at) in [
            ("a ==", "is not an expression: unexpected end", "", None),
            ("a b", "is not an expression: unexpected input after", "", Some("b")),
            ("'open", "is not an expression: unexpected end of string", "", None),
            ("a | uper", "there is no filter `uper`", "did you mean `upper`?", Some("uper")),
            ("a | pprint", "there is no filter `pprint`", "", Some("pprint")),
            ("a is not nuber", "there is no test `nuber`", "did you mean `number`?", Some("nuber")),
            ("rnge(3)", "there is no function `rnge`", "did you mean `range`?", Some("rnge")),
            ("now ()", "there is no function `now`", "", Some("now")),
            ("a.upper()", "there is no method `upper`", "filter", Some("upper")),
            ("a if b is defined else (c | nope(1))", "there is no filter `nope`", "", Some("nope")),
            ("a | map('uper') | list", "there is no filter `uper`", "did you mean `upper`?", Some("uper")),
            ("a | select(\"od\") | list", "there is no test `od`", "did you mean `odd`?", Some("od")),
            ("a | selectattr('x', 'eqal', 1) | list", "there is no test `eqal`", "", Some("eqal")),
        ] {
            let error = Expression::compile(text).unwrap_err();
            assert!(error.message.contains(message), "{text}: {error:?}");
            assert!(error.help.as_deref().unwrap_or_default().contains(help), "{text}: {error:?}");
            if let Some(at) = at {
                assert_eq!(error.at.map(|range| &text[range]), Some(at), "{text}");
            }
        }
        assert!(Expression::compile(&"a".repeat(2_001)).unwrap_err().message.contains("2000 bytes"));
        assert!(Expression::compile(&"(".repeat(1_999)).is_err());
    }

    #[test]
    fn names_inside_texts_and_behind_dots_are_nothing_special() {
        for text in [
            "a ~ ' | nope(1) is foo'",
            "a['is x'].is",
            "not (a) and (b) or (c) in (d)",
            "'a' if (b) else ('c')",
            "a | map(attribute='nope') | list",
            "a is in([1]) or a is eq(1)",
            "a | default('x\\' | nope') | upper",
            "range(3) | list",
            "dict(a=1)",
        ] {
            assert!(Expression::compile(text).is_ok(), "{text}: {:?}", Expression::compile(text));
        }
    }

    #[test]
    fn variables_are_what_is_asked_of_the_caller() {
        let variables = |text: &str| Expression::compile(text).unwrap().variables().iter().cloned().collect::<Vec<_>>();
        assert_eq!(variables("a.b ~ c['d'] ~ range(e) | join"), ["a", "c", "e"]);
        assert_eq!(variables("range + 1"), ["range"], "a field can have the name of a function");
    }

    fn evaluate(text: &str) -> Result<Value, (Failed, String)> {
        let variables =
            [("n", Value::from(3)), ("s", Value::from("secret")), ("big", Value::from("x".repeat(5 << 20)))];
        Expression::compile(text).unwrap().evaluate_defined(Value::from_pairs(variables))
    }

    #[test]
    fn an_evaluation_ends_and_stays_small() {
        for text in [
            "big | replace('x', big)",
            "big | replace('', big)",
            "range(9999) | join(big)",
            "range(200000) | list",
            "'%999999999d' | format(n)",
            "'%*d' | format(999999999, n)",
        ] {
            assert_eq!(evaluate(text).map(|value| value.len()).unwrap_err().0, Failed::Other, "{text}");
        }
        assert_eq!(evaluate("'%05d' | format(n)").unwrap().as_str(), Some("00003"));
        assert_eq!(evaluate("[n, 'b', none] | join(', ')").unwrap().as_str(), Some("3, b, None"));
        assert_eq!(evaluate("'a-b-c' | replace('-', '')").unwrap().as_str(), Some("abc"));
    }

    #[test]
    fn a_failure_says_what_is_missing_and_quotes_no_value() {
        assert_eq!(evaluate("n + gone").unwrap_err(), (Failed::Undefined, "`gone` is not defined".to_owned()));
        assert_eq!(evaluate("gone").unwrap_err().0, Failed::Undefined);
        for text in ["s + n", "s | int", "s | sum", "s.a.b", "n[s]", "s ** 2", "range(n, s)"] {
            let message = evaluate(text).map_err(|(_, message)| message).expect_err(text);
            assert!(!message.contains("secret"), "{text}: {message}");
        }
    }
}
