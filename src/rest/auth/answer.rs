//! What the answer to a request for credentials means: a token, a refusal, or another try. Pure.

use std::time::Duration;

use serde_json::{Map, Value};
use serde_json_path::JsonPath;

use crate::rest::retry::{StatusClass, status_class};
use crate::rest::verdict::message_in;
use crate::secret::Secret;

/// Beyond this a token is taken to live for so long; more would overflow the clock.
const LIFETIME_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The access token, or the token of a session.
    pub(super) token: Secret,
    /// A refresh token that takes the place of the one that was sent.
    pub(super) refresh_token: Option<Secret>,
    /// How long the token holds, where the server says so.
    pub(super) lifetime: Option<Duration>,
}

/// Why there is no token. The texts are the server's words, to be masked and cut before they are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Denial {
    /// The credentials are not good.
    Refused(String),
    /// It may pass.
    Passing(String),
    /// It was answered, but not with a token.
    NotAToken(String),
    /// The same request would fail again.
    Final(String),
}

/// The answer of a token endpoint (RFC 6749 §5).
pub(super) fn of_token_endpoint(status: u16, body: &[u8]) -> Result<Answer, Denial> {
    let fields = match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    let text = |key: &str| fields.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    if let Some(code) = text("error") {
        let said = match text("error_description") {
            Some(description) => format!("{code} ({description})"),
            None => code.to_owned(),
        };
        return Err(match (code, status) {
            ("temporarily_unavailable" | "server_error" | "slow_down", _) | (_, 408 | 429 | 500..) => {
                Denial::Passing(format!("answered {status}: {said}"))
            }
            _ => Denial::Refused(format!("{said}: {}", advice(code))),
        });
    }
    check_status(status, body)?;
    if fields.is_empty() {
        return Err(Denial::NotAToken("its answer is no JSON object".to_owned()));
    }
    let token = text("access_token");
    let token = token.ok_or_else(|| Denial::NotAToken("its answer has no `access_token`".to_owned()))?;
    if let Some(kind) = fields.get("token_type").filter(|kind| !kind.is_null())
        && !kind.as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("bearer"))
    {
        return Err(Denial::Final(format!("its `token_type` is {kind}, and only bearer tokens can be sent")));
    }
    Ok(Answer {
        token: Secret::new(token.to_owned()),
        refresh_token: text("refresh_token").map(|token| Secret::new(token.to_owned())),
        lifetime: lifetime(fields.get("expires_in"))?,
    })
}

/// The answer to a login, with the token at `path`.
pub(super) fn of_login(status: u16, body: &[u8], path: &TokenPath) -> Result<Answer, Denial> {
    check_status(status, body)?;
    let body: Value =
        serde_json::from_slice(body).map_err(|_| Denial::NotAToken("its answer is no JSON".to_owned()))?;
    let token = match path.find(&body) {
        Some(Value::String(text)) if !text.is_empty() => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => return Err(Denial::NotAToken("its answer has no text at `token_path`".to_owned())),
    };
    Ok(Answer { token: Secret::new(token), refresh_token: None, lifetime: None })
}

fn check_status(status: u16, body: &[u8]) -> Result<(), Denial> {
    let said = serde_json::from_slice(body).ok().as_ref().and_then(message_in);
    let said = said.map_or_else(|| format!("answered {status}"), |said| format!("answered {status}: {said}"));
    match status_class(status, false) {
        StatusClass::Success => Ok(()),
        StatusClass::RateLimit | StatusClass::Transient => Err(Denial::Passing(said)),
        StatusClass::Unauthorized => Err(Denial::Refused(said)),
        StatusClass::Final if matches!(status, 400 | 422) => Err(Denial::Refused(said)),
        StatusClass::Final => Err(Denial::Final(said)),
        StatusClass::Unexpected if (300..400).contains(&status) => {
            Err(Denial::Final(format!("{said}, a redirect, which credentials do not follow")))
        }
        StatusClass::Unexpected => Err(Denial::Final(format!("{said}, which is not expected here"))),
    }
}

/// What to look at after one of the errors of RFC 6749 §5.2.
fn advice(code: &str) -> &'static str {
    match code {
        "invalid_client" => "check `client_id`, `client_secret` and `client_auth`",
        "invalid_grant" => "the grant is not valid any more; where that is a refresh token, configure a new one",
        "invalid_scope" => "check `scopes`",
        "unauthorized_client" | "unsupported_grant_type" => "this client may not get tokens in this way",
        _ => "check the credentials of `auth`",
    }
}

/// `expires_in`, a number of seconds; some servers write it as text. Zero says nothing that could be planned with.
fn lifetime(value: Option<&Value>) -> Result<Option<Duration>, Denial> {
    let seconds = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.trim().parse::<u64>().ok().map(|seconds| seconds as f64),
        Some(_) => None,
    };
    match seconds {
        Some(seconds) if seconds.is_finite() && seconds >= 0.0 => {
            let lifetime = Duration::try_from_secs_f64(seconds).unwrap_or(LIFETIME_MAX).min(LIFETIME_MAX);
            Ok(Some(lifetime).filter(|lifetime| !lifetime.is_zero()))
        }
        _ => Err(Denial::NotAToken("its `expires_in` is no number of seconds".to_owned())),
    }
}

/// Where in the answer to a login the token is.
#[derive(Clone, Debug)]
pub(super) enum TokenPath {
    Dotted(String),
    JsonPath(Box<JsonPath>),
}

impl TokenPath {
    /// A dotted path, or RFC 9535 JSONPath when it starts with `$`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if !text.starts_with('$') {
            return Ok(Self::Dotted(text.to_owned()));
        }
        let path = JsonPath::parse(text).map_err(|error| format!("`auth.token_path` is not a JSONPath: {error}"))?;
        Ok(Self::JsonPath(Box::new(path)))
    }

    fn find<'v>(&self, body: &'v Value) -> Option<&'v Value> {
        match self {
            Self::Dotted(path) => path.split('.').try_fold(body, |value, key| match value {
                Value::Array(items) => items.get(key.parse::<usize>().ok()?),
                value => value.get(key),
            }),
            Self::JsonPath(path) => path.query(body).at_most_one().ok().flatten(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Denial, TokenPath, of_login, of_token_endpoint};
    use crate::secret::Secret;
    use std::time::Duration;

    fn token(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    #[test]
    fn a_token_comes_with_its_lifetime_and_its_successor() {
        for (body, refresh_token, seconds) in [
            (
                r#"{"access_token":"a","token_type":"Bearer","expires_in":3600,"refresh_token":"r"}"#,
                Some("r"),
                Some(3600),
            ),
            (r#"{"access_token":"a","token_type":"bearer","expires_in":"60"}"#, None, Some(60)),
            (r#"{"access_token":"a","expires_in":0,"refresh_token":""}"#, None, None),
            (r#"{"access_token":"a","token_type":null,"expires_in":null,"refresh_token":null}"#, None, None),
            (r#"{"access_token":"a","expires_in":1e300}"#, None, Some(315_360_000)),
        ] {
            let expected = Answer {
                token: token("a"),
                refresh_token: refresh_token.map(token),
                lifetime: seconds.map(Duration::from_secs),
            };
            assert_eq!(of_token_endpoint(200, body.as_bytes()), Ok(expected), "{body}");
        }
    }

    #[test]
    fn what_is_no_token_is_told_apart_by_what_can_be_done_about_it() {
        let refused: fn(String) -> Denial = Denial::Refused;
        for (status, body, kind, part) in [
            (400, r#"{"error":"invalid_grant","error_description":"revoked"}"#, refused, "invalid_grant (revoked): "),
            (401, r#"{"error":"invalid_client"}"#, Denial::Refused, "check `client_id`"),
            (200, r#"{"error":"bad_verification_code"}"#, Denial::Refused, "bad_verification_code"),
            (400, r#"{"message":"no such user"}"#, Denial::Refused, "answered 400: no such user"),
            (403, "", Denial::Refused, "answered 403"),
            (503, r#"{"error":"temporarily_unavailable"}"#, Denial::Passing, "answered 503: temporarily"),
            (500, r#"{"error":"invalid_client"}"#, Denial::Passing, "answered 500"),
            (429, "", Denial::Passing, "answered 429"),
            (502, "<html>", Denial::Passing, "answered 502"),
            (404, "", Denial::Final, "answered 404"),
            (302, "", Denial::Final, "a redirect"),
            (206, r#"{"access_token":"a"}"#, Denial::Final, "not expected"),
            (200, "<html>", Denial::NotAToken, "no JSON object"),
            (200, r#"["a"]"#, Denial::NotAToken, "no JSON object"),
            (200, r#"{"access_token":""}"#, Denial::NotAToken, "no `access_token`"),
            (200, r#"{"access_token":5}"#, Denial::NotAToken, "no `access_token`"),
            (200, r#"{"access_token":"a","expires_in":-1}"#, Denial::NotAToken, "`expires_in`"),
            (200, r#"{"access_token":"a","expires_in":"soon"}"#, Denial::NotAToken, "`expires_in`"),
            (200, r#"{"access_token":"a","token_type":"mac"}"#, Denial::Final, "only bearer"),
        ] {
            let denial = of_token_endpoint(status, body.as_bytes()).unwrap_err();
            let (Denial::Refused(text) | Denial::Passing(text) | Denial::NotAToken(text) | Denial::Final(text)) =
                denial.clone();
            assert_eq!(denial, kind(text.clone()), "{status} {body}");
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn the_token_of_a_session_is_found_at_its_path() {
        let body = br#"{"data":{"sessions":[{"id":"s1"}],"number":7,"empty":""}}"#;
        for (path, found) in [
            ("data.sessions.0.id", Some("s1")),
            ("$.data.sessions[0].id", Some("s1")),
            ("data.number", Some("7")),
            ("data.empty", None),
            ("data.sessions", None),
            ("token", None),
        ] {
            let answer = of_login(200, body, &TokenPath::parse(path).unwrap());
            assert_eq!(answer.ok().map(|answer| answer.token), found.map(token), "{path}");
        }
        assert!(TokenPath::parse("$.[").is_err());
        let denial = of_login(401, br#"{"message":"wrong password"}"#, &TokenPath::parse("id").unwrap());
        assert_eq!(denial, Err(Denial::Refused("answered 401: wrong password".to_owned())));
    }
}
