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
}

#[cfg(test)]
mod tests {
    use super::SessionToken;
    use serde_json::json;

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
