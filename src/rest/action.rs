//! `response_actions`: what a response means where it differs from what its status code says.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use minijinja::Value;
use minijinja::value::Serde;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use crate::expression::{Expression, ExpressionError, Failed};
use crate::rest::client::Received;

/// What an expression may speak of.
pub const VARIABLES: [&str; 4] = ["status", "headers", "body", "bytes"];

/// One rule; the first that matches decides. All conditions that are given must hold.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResponseAction {
    /// A code, a list of them, or a class such as `"5xx"`.
    #[serde(default)]
    pub status_code: Option<StatusCodes>,
    /// Text that the body contains.
    #[serde(default)]
    pub content: Option<String>,
    /// A minijinja expression over `status`, `headers`, `body` (where that is JSON) and `bytes`, its length.
    #[serde(default)]
    pub when: Option<String>,
    /// What to do then.
    pub action: Action,
}

/// What a matching rule makes of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Send the request again, with backoff.
    Retry,
    /// Fail the read.
    Fail,
    /// This partition has no rows.
    Ignore,
    /// The data ends here.
    Stop,
    /// As a 429: pause the budget, then send the request again.
    RateLimited,
    /// Renew the credentials, then send the request again.
    #[schemars(extend("x-not-built-yet" = true))]
    RefreshAuth,
}

/// Status codes that a rule matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusCodes(Vec<(u16, u16)>);

impl StatusCodes {
    /// Whether `status` is one of them.
    #[must_use]
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|(low, high)| (*low..=*high).contains(&status))
    }
}

impl<'de> Deserialize<'de> for StatusCodes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let list = match value {
            serde_json::Value::Array(list) => list,
            single => vec![single],
        };
        list.iter().map(code_range).collect::<Result<_, _>>().map(Self).map_err(de::Error::custom)
    }
}

fn code_range(value: &serde_json::Value) -> Result<(u16, u16), String> {
    let wrong = || format!("{value} is not a status code; write 404, [404, 410] or \"5xx\"");
    match value {
        serde_json::Value::Number(number) => {
            let code = number.as_u64().and_then(|code| u16::try_from(code).ok()).ok_or_else(wrong)?;
            if (100..=999).contains(&code) { Ok((code, code)) } else { Err(wrong()) }
        }
        serde_json::Value::String(text) => match text.as_bytes() {
            [class @ b'1'..=b'9', b'x' | b'X', b'x' | b'X'] => {
                let low = u16::from(class - b'0') * 100;
                Ok((low, low + 99))
            }
            [b'1'..=b'9', _, _] => text.parse().map(|code| (code, code)).map_err(|_| wrong()),
            _ => Err(wrong()),
        },
        _ => Err(wrong()),
    }
}

impl JsonSchema for StatusCodes {
    fn schema_name() -> Cow<'static, str> {
        "StatusCodes".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "a status code, a list of them, or a class such as \"5xx\"",
            "anyOf": [
                { "type": "integer", "minimum": 100, "maximum": 999 },
                { "type": "string", "pattern": "^[1-9]([0-9][0-9]|[xX][xX])$" },
                { "type": "array", "items": { "anyOf": [
                    { "type": "integer", "minimum": 100, "maximum": 999 },
                    { "type": "string", "pattern": "^[1-9]([0-9][0-9]|[xX][xX])$" }
                ] }, "minItems": 1 }
            ]
        })
    }
}

/// A [`ResponseAction`] whose expression was found to be one.
pub struct CompiledAction {
    rule: ResponseAction,
    when: Option<When>,
}

/// What stands in a `when`, compiled.
#[derive(Debug)]
pub struct When(Expression);

impl fmt::Debug for CompiledAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.rule, f)
    }
}

impl CompiledAction {
    /// # Errors
    /// What is wrong with the rule.
    pub fn new(rule: &ResponseAction) -> Result<Self, String> {
        if rule.status_code.is_none() && rule.content.is_none() && rule.when.is_none() {
            return Err("a response action needs `status_code`, `content` or `when`".to_owned());
        }
        if rule.action == Action::RefreshAuth {
            return Err("`refresh_auth` is not built yet in this version of highwater".to_owned());
        }
        let when = rule.when.as_ref().map(|text| When::compile(text)).transpose();
        let when = when.map_err(|error| format!("`when` {error}"))?;
        Ok(Self { rule: rule.clone(), when })
    }
}

impl When {
    /// Compiles a `when`.
    ///
    /// # Errors
    /// When it is no expression, or speaks of something else than `status`, `headers`, `body` and `bytes`.
    pub fn compile(text: &str) -> Result<Self, ExpressionError> {
        let expression = Expression::compile(text)?;
        expression.unknown_variable(&VARIABLES).map_or(Ok(Self(expression)), Err)
    }

    fn holds(&self, received: &Received, body: &mut Option<Value>) -> Result<bool, String> {
        let mut variables = BTreeMap::from([
            ("status", Value::from(received.status)),
            ("headers", headers(received)),
            ("bytes", Value::from(received.body.len())),
        ]);
        if self.0.variables().contains("body") {
            variables.insert("body", body.get_or_insert_with(|| json(&received.body)).clone());
        }
        let result = self.0.evaluate(Value::from(variables));
        result.map(|value| value.is_true()).map_err(|(failed, message)| match failed {
            Failed::Undefined => {
                "it uses a field that this response does not have; guard it: `body.ok is defined and …`".to_owned()
            }
            Failed::Other => message,
        })
    }
}

/// The first rule that matches, with its place in the list from 1. A missing field is an error, to be guarded by
/// `is defined`, unless it is all that an expression asks for: a guess could end a read that is not at its end.
pub(super) fn first_match(
    actions: &[CompiledAction],
    received: &Received,
) -> Result<Option<(usize, Action)>, (usize, String)> {
    let mut body = None;
    for (place, CompiledAction { rule, when }) in (1..).zip(actions) {
        let status_differs = rule.status_code.as_ref().is_some_and(|codes| !codes.contains(received.status));
        let contains = |text: &String| String::from_utf8_lossy(&received.body).contains(text.as_str());
        if status_differs || rule.content.as_ref().is_some_and(|text| !contains(text)) {
            continue;
        }
        let holds = when.as_ref().map_or(Ok(true), |when| when.holds(received, &mut body));
        if holds.map_err(|reason| (place, reason))? {
            return Ok(Some((place, rule.action)));
        }
    }
    Ok(None)
}

fn headers(received: &Received) -> Value {
    let mut headers: BTreeMap<&str, String> = BTreeMap::new();
    for (name, value) in &received.headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        headers
            .entry(name.as_str())
            .and_modify(|all| {
                all.push_str(", ");
                all.push_str(&value);
            })
            .or_insert_with(|| value.into_owned());
    }
    Value::from_pairs(headers)
}

fn json(body: &[u8]) -> Value {
    let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    serde_json::from_slice::<serde_json::Value>(body).map_or(Value::UNDEFINED, |body| Value::from(Serde(body)))
}

#[cfg(test)]
mod tests {
    use super::{Action, CompiledAction, ResponseAction, first_match};
    use crate::rest::client::Received;
    use http::{HeaderMap, HeaderValue};

    fn received(status: u16, body: &str) -> Received {
        let mut headers = HeaderMap::new();
        headers.insert("x-kind", HeaderValue::from_static("a"));
        headers.append("x-kind", HeaderValue::from_static("b"));
        Received { status, headers, body: body.to_owned().into(), url: "https://a/".parse().unwrap(), framed: true }
    }

    fn compile(rule: serde_json::Value) -> Result<CompiledAction, String> {
        CompiledAction::new(&serde_json::from_value::<ResponseAction>(rule).unwrap())
    }

    #[test]
    fn the_first_rule_whose_conditions_all_hold_decides() {
        let rules: Vec<CompiledAction> = [
            serde_json::json!({"status_code": [404, 410], "action": "ignore"}),
            serde_json::json!({"status_code": "5xx", "content": "maintenance", "action": "stop"}),
            serde_json::json!({"when": "status == 200 and body.ok == false", "content": "slow", "action": "rate_limited"}),
            serde_json::json!({"when": "headers['x-kind'] == 'a, b' and body is not defined", "status_code": 200, "action": "retry"}),
            serde_json::json!({"status_code": 200, "when": "body.error", "action": "fail"}),
            serde_json::json!({"status_code": 202, "when": "bytes == 0", "action": "stop"}),
        ]
        .into_iter()
        .map(|rule| compile(rule).unwrap())
        .collect();
        for (status, body, action) in [
            (404, "", Some((1, Action::Ignore))),
            (503, "down for maintenance", Some((2, Action::Stop))),
            (503, "{}", None),
            (200, r#"{"ok":false,"why":"slow down"}"#, Some((3, Action::RateLimited))),
            (200, r#"{"ok":false}"#, None),
            (200, "<html>", Some((4, Action::Retry))),
            (200, "\u{feff}{\"error\":\"x\"}", Some((5, Action::Fail))),
            (201, r#"{"error":"x"}"#, None),
            (200, r#"{"items":[]}"#, None),
            (202, "", Some((6, Action::Stop))),
            (202, "[]", None),
        ] {
            assert_eq!(first_match(&rules, &received(status, body)), Ok(action), "{status} {body}");
        }
        assert_eq!(first_match(&[], &received(500, "")), Ok(None));
    }

    #[test]
    fn a_path_through_a_missing_field_is_an_error_that_names_the_rule() {
        let rules = [compile(serde_json::json!({"when": "body.error.code == 5", "action": "fail"})).unwrap()];
        assert_eq!(first_match(&rules, &received(200, "{}")).unwrap_err().0, 1);
        let guarded = serde_json::json!({"when": "body.error is defined and body.error.code == 5", "action": "fail"});
        assert_eq!(first_match(&[compile(guarded).unwrap()], &received(200, "{}")), Ok(None));
    }

    #[test]
    fn rules_that_cannot_work_are_refused() {
        for (rule, part) in [
            (serde_json::json!({"action": "fail"}), "needs"),
            (serde_json::json!({"when": "status ==", "action": "fail"}), "not an expression"),
            (serde_json::json!({"when": "staus == 200", "action": "fail"}), "no `staus`"),
            (serde_json::json!({"status_code": 401, "action": "refresh_auth"}), "not built yet"),
        ] {
            let error = compile(rule).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
