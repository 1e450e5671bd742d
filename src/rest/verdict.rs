//! What a response that arrived whole means for the request that got it: a value, a refusal, or another try. Pure.

use std::time::Duration;

use serde_json::Value;

use crate::rest::action::{self, Action, CompiledAction};
use crate::rest::auth::advice;
use crate::rest::client::{Outcome, Received, Rejected};
use crate::rest::error::{Hope, RequestError};
use crate::rest::redact::Redactor;
use crate::rest::request::cut;
use crate::rest::retry::{StatusClass, status_class};

/// Longest message of a server that is shown.
const MESSAGE_BYTES_MAX: usize = 200;

/// Why a try brought no value, and what may be done about it.
#[derive(Debug)]
pub(super) enum Failure {
    /// The same request would fail again.
    Final(RequestError),
    /// It may pass. `hint` is a delay that the server named.
    Passing { error: RequestError, hint: Option<Duration> },
    /// It may pass, but hardly: tried again less often.
    Dubious(RequestError),
    /// The credentials have had their time: once more, with new ones.
    Stale,
    /// The server asks all of us to wait.
    Wait { delay: Duration, reason: String },
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        match error.hope() {
            Hope::Good => Self::Passing { error, hint: None },
            Hope::Faint => Self::Dubious(error),
            Hope::None => Self::Final(error),
        }
    }
}

/// Everything that a verdict depends on, beside the response.
pub(super) struct Court<'a> {
    pub(super) host: &'a str,
    /// The URL without its query, for people.
    pub(super) place: &'a str,
    /// The type of the client's `auth`.
    pub(super) auth: Option<&'static str>,
    /// Whether other credentials can be had, and may help.
    pub(super) renewable: bool,
    /// Whether they were renewed for this request.
    pub(super) replayed: bool,
    pub(super) redactor: &'a Redactor,
    pub(super) actions: &'a [CompiledAction],
    /// The request asked for the page only where it has changed.
    pub(super) asked_for_changes: bool,
    /// The delay of `Retry-After`.
    pub(super) retry_after: Option<Duration>,
    /// The delay that the budget's own headers ask for.
    pub(super) reset: Option<Duration>,
    /// The budget's headers say that nothing remains.
    pub(super) exhausted: bool,
}

impl Court<'_> {
    pub(super) fn judge<T>(
        &self,
        received: &Received,
        accept: &mut impl FnMut(&Received) -> Result<T, Rejected>,
    ) -> Result<Outcome<T>, Failure> {
        let (status, host) = (received.status, self.place.to_owned());
        let rule_error = |reason| RequestError::Action {
            host: host.clone(),
            status,
            reason,
            message: if status >= 300 { self.message(received) } else { None },
        };
        if status == 304 && self.asked_for_changes {
            // Before any rule: one that was written for other redirects must not take the answer for an empty one.
            return Ok(Outcome::Unchanged);
        }
        match action::first_match(self.actions, received) {
            Err((place, reason)) => {
                let reason = format!("response action {place}: `when` cannot be evaluated ({reason})");
                return Err(Failure::Final(rule_error(reason)));
            }
            Ok(None) => {}
            Ok(Some((_, Action::Ignore))) => return Ok(Outcome::Ignored),
            Ok(Some((_, Action::Stop))) => return Ok(Outcome::Stopped),
            Ok(Some((place, Action::Fail))) => {
                return Err(Failure::Final(rule_error(format!("response action {place} fails the read"))));
            }
            Ok(Some((_, Action::RefreshAuth))) => return Err(self.stale(received)),
            Ok(Some((place, Action::Retry))) => {
                let error = rule_error(format!("response action {place} asked for another try, which did not help"));
                return Err(Failure::Passing { error, hint: self.retry_after });
            }
            Ok(Some((place, Action::RateLimited))) => {
                let error =
                    rule_error(format!("response action {place} takes it for a rate limit, which did not pass"));
                return Err(self.rate_limited(error, status));
            }
        }
        let limited = self.retry_after.is_some() || self.exhausted;
        let refused = |message| RequestError::Status { host: host.clone(), status, message };
        match status_class(status, limited) {
            StatusClass::Success => accept(received).map(Outcome::Accepted).map_err(|rejected| {
                let reason = cut(&one_line(&self.redactor.scrub(&rejected.reason)), 2 * MESSAGE_BYTES_MAX);
                let error = RequestError::NotAPage { host, reason };
                if rejected.retry { Failure::Dubious(error) } else { Failure::Final(error) }
            }),
            StatusClass::RateLimit => Err(self.rate_limited(refused(self.message(received)), status)),
            StatusClass::Transient => {
                Err(Failure::Passing { error: refused(self.message(received)), hint: self.retry_after })
            }
            StatusClass::Final => Err(Failure::Final(refused(self.message(received)))),
            StatusClass::Unexpected => Err(Failure::Final(RequestError::UnexpectedStatus { host, status })),
            StatusClass::Unauthorized if status == 401 => Err(self.stale(received)),
            StatusClass::Unauthorized => Err(Failure::Final(self.unauthorized(received))),
        }
    }

    fn stale(&self, received: &Received) -> Failure {
        if self.renewable { Failure::Stale } else { Failure::Final(self.unauthorized(received)) }
    }

    fn unauthorized(&self, received: &Received) -> RequestError {
        RequestError::Unauthorized {
            host: self.place.to_owned(),
            status: received.status,
            advice: advice(self.auth, received.status, self.replayed),
            message: self.message(received),
        }
    }

    /// A rate limit with a delay pauses everyone; without one it is a failure like others.
    fn rate_limited(&self, error: RequestError, status: u16) -> Failure {
        match self.retry_after.or(self.reset) {
            Some(delay) => Failure::Wait { delay, reason: format!("{status} from {}", self.host) },
            None => Failure::Passing { error, hint: None },
        }
    }

    fn message(&self, received: &Received) -> Option<String> {
        let text = message_in(&serde_json::from_slice(&received.body).ok()?)?;
        let text = cut(&one_line(&self.redactor.scrub(&text)), MESSAGE_BYTES_MAX);
        if text.is_empty() { None } else { Some(text) }
    }
}

/// The message of an error body, wherever APIs put it.
pub(super) fn message_in(body: &Value) -> Option<String> {
    const KEYS: [&str; 8] = ["message", "error_description", "detail", "title", "msg", "reason", "error", "errors"];
    match body {
        Value::String(text) => Some(text.clone()),
        Value::Array(items) => items.first().and_then(message_in),
        Value::Object(fields) => KEYS.iter().filter_map(|key| fields.get(*key)).find_map(message_in),
        _ => None,
    }
}

/// Control characters could write over a terminal's lines, so they become spaces. Secrets are masked before, while they
/// are as they were.
pub(super) fn one_line(text: &str) -> String {
    let spaced: String = text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
    spaced.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::{message_in, one_line};

    #[test]
    fn the_message_of_an_error_body_is_found_where_apis_put_it() {
        for (body, message) in [
            (r#"{"message":"Bad credentials","documentation_url":"u"}"#, Some("Bad credentials")),
            (r#"{"error":{"type":"x","message":"No such charge"}}"#, Some("No such charge")),
            (r#"{"error":"invalid_grant","error_description":"expired"}"#, Some("expired")),
            (r#"{"errors":[{"detail":"bad page"}]}"#, Some("bad page")),
            (r#"{"errors":["first","second"]}"#, Some("first")),
            (r#"{"error":{"code":5}}"#, None),
            (r#""plain""#, Some("plain")),
            ("[]", None),
            ("7", None),
        ] {
            assert_eq!(message_in(&serde_json::from_str(body).unwrap()).as_deref(), message, "{body}");
        }
        assert_eq!(one_line("a\r\n\u{1b}[31m  b\t"), "a [31m b");
    }
}
