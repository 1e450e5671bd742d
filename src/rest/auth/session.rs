//! Sessions: a login on the API itself, and where its token goes afterwards.

use http::header::AUTHORIZATION;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ApiKeyLocation;
use super::credential::Credential;
use crate::secret::Secret;
use crate::template::{JsonTemplate, Template};

/// Options of [`super::Auth::SessionToken`].
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionToken {
    /// The request that begins a session.
    pub login: Login,
    /// Where the token is in its answer: a dotted path, or RFC 9535 JSONPath when it starts with `$`.
    pub token_path: String,
    /// Name of the header, parameter or cookie that carries the token.
    #[serde(default = "authorization")]
    pub name: String,
    /// Where it goes.
    #[serde(default)]
    pub location: ApiKeyLocation,
    /// Text right before the token. `"Bearer "` in the `Authorization` header, else none.
    #[serde(default)]
    pub prefix: Option<String>,
}

/// The request that begins a session. It carries the client's headers and parameters.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// Joined with `base_url` as text.
    pub path: Template,
    /// The HTTP method.
    #[serde(default)]
    pub method: LoginMethod,
    /// A JSON body.
    #[serde(default)]
    pub json: Option<JsonTemplate>,
}

/// The HTTP methods of a login.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum LoginMethod {
    /// RFC 9110 §9.3.3.
    #[default]
    Post,
    /// RFC 9110 §9.3.1.
    Get,
}

fn authorization() -> String {
    "Authorization".to_owned()
}

impl SessionToken {
    /// What stands right before the token.
    #[must_use]
    pub fn prefix(&self) -> &str {
        let is_authorization =
            self.location == ApiKeyLocation::Header && self.name.eq_ignore_ascii_case(AUTHORIZATION.as_str());
        self.prefix.as_deref().unwrap_or(if is_authorization { "Bearer " } else { "" })
    }

    /// A token of this session, ready to be sent.
    pub(super) fn credential(&self, token: &Secret) -> Result<Credential, String> {
        let text = Secret::new(format!("{}{}", self.prefix(), token.expose()));
        Credential::at(self.location, &self.name, &text, "the session's token")
    }

    /// The secrets of the login.
    pub(super) fn secrets(&self) -> Vec<Secret> {
        let json = self.login.json.iter().flat_map(JsonTemplate::secrets);
        self.login.path.secrets().cloned().chain(json).collect()
    }

    /// Whether one of them only says who logs in, or where. Such a name may be part of links.
    pub(super) fn is_user_name(&self, secret: &Secret) -> bool {
        let in_path = self.login.path.secrets().any(|part| part == secret);
        !in_path && self.login.json.as_ref().is_some_and(|json| only_names_a_user(json, false, secret))
    }
}

/// Parts of the names under which logins send who logs in, and where, rather than the proof of it.
const USER_NAMES: [&str; 8] = ["user", "login", "mail", "name", "account", "company", "tenant", "database"];

/// Parts of the names that promise a proof, whoever's it is: `user_password`, `accountKey`.
const PROOFS: [&str; 7] = ["pass", "pwd", "secret", "token", "key", "pin", "hash"];

/// Whether a secret stands under such a name, and under no other.
fn only_names_a_user(json: &JsonTemplate, under: bool, secret: &Secret) -> bool {
    match json {
        JsonTemplate::Text(text) => under || text.secrets().all(|part| part != secret),
        JsonTemplate::List(items) => items.iter().all(|item| only_names_a_user(item, under, secret)),
        JsonTemplate::Table(entries) => entries.iter().all(|(key, value)| {
            let key = key.to_lowercase();
            let has_one_of = |parts: &[&str]| parts.iter().any(|part| key.contains(part));
            let is_name = has_one_of(&USER_NAMES) && !has_one_of(&PROOFS);
            only_names_a_user(value, is_name, secret)
        }),
        JsonTemplate::Null | JsonTemplate::Bool(_) | JsonTemplate::Number(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::{Secret, SessionToken};
    use crate::template::{SegmentKind, segments_value};
    use serde_json::json;

    #[test]
    fn what_a_login_sends_is_a_proof_unless_its_name_says_only_who_or_where() {
        let secret = |text: &str| segments_value(&[(SegmentKind::Secret, text)]);
        let login = json!({ "path": "login", "json": {
            "user": { "eMail": secret("me"), "password": secret("proof") }, "twice": [secret("both")],
            "username": secret("both"), "user_password": secret("odd"), "accountKey": secret("key"),
            "company": { "DatabaseName": secret("books") }, "tenant_secret": secret("rent"),
        } });
        let options: SessionToken = serde_json::from_value(json!({ "login": login, "token_path": "id" })).unwrap();
        let names: Vec<_> = options.secrets().into_iter().filter(|secret| options.is_user_name(secret)).collect();
        assert_eq!(names, ["me", "books"].map(|text| Secret::new(text.to_owned())));
    }

    #[test]
    fn a_bearer_is_what_the_authorization_header_carries_unless_told_otherwise() {
        for (extra, prefix) in [
            (json!({}), "Bearer "),
            (json!({ "name": "authorization" }), "Bearer "),
            (json!({ "prefix": "" }), ""),
            (json!({ "prefix": "Token " }), "Token "),
            (json!({ "name": "X-Session" }), ""),
            (json!({ "location": "query" }), ""),
        ] {
            let mut options = json!({ "login": { "path": "login" }, "token_path": "id" });
            options.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            let options: SessionToken = serde_json::from_value(options).unwrap();
            assert_eq!(options.prefix(), prefix, "{extra}");
        }
    }
}
