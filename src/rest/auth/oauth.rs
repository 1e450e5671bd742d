//! OAuth 2.0 (RFC 6749): the options of both grants, and what they send to a token endpoint. Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::form_urlencoded;
use zeroize::Zeroizing;

use crate::secret::Secret;
use crate::template::Template;

/// Options of [`super::Auth::OAuth2ClientCredentials`].
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientCredentials {
    /// The token endpoint (RFC 6749 §3.2); it may be on another server than `base_url`.
    pub access_token_url: String,
    /// The name of the client; it may be written in the file.
    #[schemars(extend("x-may-be-literal" = true))]
    pub client_id: Secret,
    /// The password of the client.
    pub client_secret: Secret,
    /// What the token is to allow; what the server gives by default without.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// More fields of the token request, such as `audience`; they take the place of ours of the same name.
    #[serde(default)]
    pub access_token_request_data: IndexMap<String, Template>,
    /// How the client proves to the token endpoint who it is.
    #[serde(default)]
    pub client_auth: ClientAuth,
}

/// Options of [`super::Auth::OAuth2RefreshToken`].
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RefreshToken {
    /// The token endpoint (RFC 6749 §3.2); it may be on another server than `base_url`.
    pub access_token_url: String,
    /// The name of the client; it may be written in the file.
    #[schemars(extend("x-may-be-literal" = true))]
    pub client_id: Secret,
    /// The password of the client; public clients have none.
    #[serde(default)]
    pub client_secret: Option<Secret>,
    /// The first refresh token. Those that the server gives in its place are kept in a file beside the database.
    pub refresh_token: Secret,
    /// What the token is to allow; everything that was granted without.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// More fields of the token request; they take the place of ours of the same name.
    #[serde(default)]
    pub access_token_request_data: IndexMap<String, Template>,
    /// How the client proves to the token endpoint who it is.
    #[serde(default)]
    pub client_auth: ClientAuth,
}

/// How a client proves to a token endpoint who it is (RFC 6749 §2.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// `client_id` and `client_secret` as fields of the form.
    #[default]
    Body,
    /// In an `Authorization: Basic` header.
    Basic,
}

/// What both grants have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grant<'a> {
    client_id: &'a Secret,
    client_secret: Option<&'a Secret>,
    scopes: &'a [String],
    data: &'a IndexMap<String, Template>,
    client_auth: ClientAuth,
}

impl ClientCredentials {
    pub(super) fn grant(&self) -> Grant<'_> {
        Grant {
            client_id: &self.client_id,
            client_secret: Some(&self.client_secret),
            scopes: &self.scopes,
            data: &self.access_token_request_data,
            client_auth: self.client_auth,
        }
    }
}

impl RefreshToken {
    pub(super) fn grant(&self) -> Grant<'_> {
        Grant {
            client_id: &self.client_id,
            client_secret: self.client_secret.as_ref(),
            scopes: &self.scopes,
            data: &self.access_token_request_data,
            client_auth: self.client_auth,
        }
    }
}

impl Grant<'_> {
    /// The form of a token request: with a refresh token RFC 6749 §6, without one §4.4.2.
    pub(super) fn form(&self, refresh_token: Option<&Secret>) -> Zeroizing<String> {
        let grant_type = if refresh_token.is_some() { "refresh_token" } else { "client_credentials" };
        let mut fields = vec![("grant_type", Zeroizing::new(grant_type.to_owned()))];
        fields.extend(refresh_token.map(|token| ("refresh_token", Zeroizing::new(token.expose().to_owned()))));
        if !self.scopes.is_empty() {
            fields.push(("scope", Zeroizing::new(self.scopes.join(" "))));
        }
        if self.client_auth == ClientAuth::Body {
            fields.push(("client_id", Zeroizing::new(self.client_id.expose().to_owned())));
            fields
                .extend(self.client_secret.map(|secret| ("client_secret", Zeroizing::new(secret.expose().to_owned()))));
        }
        fields.retain(|(name, _)| !self.data.contains_key(*name));
        fields.extend(self.data.iter().map(|(name, value)| (name.as_str(), Zeroizing::new(value.expose()))));
        let mut form = form_urlencoded::Serializer::new(String::new());
        for (name, value) in &fields {
            form.append_pair(name, value);
        }
        Zeroizing::new(form.finish())
    }

    /// The value of the `Authorization` header, where the client is named there. Both parts are form-encoded first, so
    /// that they may hold a colon (RFC 6749 §2.3.1).
    pub(super) fn basic(&self) -> Option<Secret> {
        let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        (self.client_auth == ClientAuth::Basic).then(|| {
            let secret = self.client_secret.map_or("", Secret::expose);
            let pair = Zeroizing::new(format!("{}:{}", encoded(self.client_id.expose()), encoded(secret)));
            Secret::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())))
        })
    }

    /// Every text that must not be shown, the encoded forms included.
    pub(super) fn secrets(&self) -> Vec<Secret> {
        let basic = self.basic().map(|value| Secret::new(value.expose().trim_start_matches("Basic ").to_owned()));
        let data = self.data.values().flat_map(Template::secrets).cloned();
        self.client_secret.cloned().into_iter().chain(basic).chain(data).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::ClientCredentials;
    use crate::secret::Secret;
    use serde_json::{Value, json};

    fn options(extra: Value) -> ClientCredentials {
        let mut options = json!({ "access_token_url": "https://a/t", "client_id": "me", "client_secret": "p&w" });
        options.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        serde_json::from_value(options).unwrap()
    }

    #[test]
    fn a_token_request_is_the_form_of_rfc_6749() {
        let refresh = Secret::new("r t".to_owned());
        for (extra, refresh, form) in [
            (json!({}), None, "grant_type=client_credentials&client_id=me&client_secret=p%26w"),
            (
                json!({ "scopes": ["read", "write"], "access_token_request_data": { "audience": "https://api" } }),
                None,
                "grant_type=client_credentials&scope=read+write&client_id=me&client_secret=p%26w&audience=https%3A%2F%2Fapi",
            ),
            (json!({ "client_auth": "basic" }), Some(&refresh), "grant_type=refresh_token&refresh_token=r+t"),
            (
                json!({ "client_auth": "basic", "access_token_request_data": { "grant_type": "account", "id": 7 } }),
                None,
                "grant_type=account&id=7",
            ),
        ] {
            assert_eq!(*options(extra).grant().form(refresh), form);
        }
    }

    #[test]
    fn a_client_in_the_header_is_encoded_before_it_is_joined() {
        let mut options = options(json!({ "client_auth": "basic" }));
        options.client_id = Secret::new("a:b".to_owned());
        // base64 of `a%3Ab:p%26w`
        assert_eq!(options.grant().basic().unwrap().expose(), "Basic YSUzQWI6cCUyNnc=");
        let secrets: Vec<_> = options.grant().secrets().iter().map(|secret| secret.expose().to_owned()).collect();
        assert_eq!(secrets, ["p&w", "YSUzQWI6cCUyNnc="]);
    }
}
