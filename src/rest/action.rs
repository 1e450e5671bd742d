//! `response_actions`: what a response means where it differs from what its status code says.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};
use std::borrow::Cow;

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
    /// A minijinja expression over `status`, `headers` and `body`.
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
