//! Credentials of a client: which there are, and how those that expire are renewed. They are put on each attempt
//! anew, and only on requests to the client's own origin.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rest::redact::{MASKED_BYTES_MIN, Redactor};
use crate::secret::Secret;

mod answer;
mod credential;
mod exchange;
mod issued;
mod oauth;
mod renewal;
mod session;
mod store;

pub(super) use credential::{Credential, sensitive};
pub(super) use issued::{InFlight, Issued};
pub use oauth::{ClientAuth, ClientCredentials, RefreshToken};
pub(super) use renewal::{Authenticator, Setup};
pub use session::{Login, LoginMethod, SessionToken};
pub use store::{KeptToken, SaveToken, TokenStore};

use credential::not_empty;

/// How requests of a client prove who they are.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Auth {
    /// `Authorization: Bearer TOKEN` (RFC 6750).
    Bearer {
        /// The token.
        token: Secret,
    },
    /// `Authorization: Basic …` (RFC 7617).
    HttpBasic {
        /// The user name; the one credential that may be written in the file.
        #[schemars(extend("x-may-be-literal" = true))]
        username: Secret,
        /// The password; some APIs want it empty.
        #[serde(default)]
        password: Option<Secret>,
    },
    /// A key in a header, in the query or in a cookie.
    ApiKey {
        /// Name of the header, parameter or cookie.
        name: String,
        /// The key.
        api_key: Secret,
        /// Where it goes.
        #[serde(default)]
        location: ApiKeyLocation,
    },
    /// OAuth 2.0 client credentials (RFC 6749 §4.4).
    #[serde(rename = "oauth2_client_credentials")]
    OAuth2ClientCredentials(ClientCredentials),
    /// OAuth 2.0 refresh token (RFC 6749 §6).
    #[serde(rename = "oauth2_refresh_token")]
    OAuth2RefreshToken(RefreshToken),
    /// A token from a login request.
    SessionToken(SessionToken),
}

/// Where an API key is put.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApiKeyLocation {
    /// A request header.
    #[default]
    Header,
    /// A query parameter.
    Query,
    /// A cookie.
    Cookie,
}

impl Auth {
    /// What the configuration calls it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Bearer { .. } => "bearer",
            Self::HttpBasic { .. } => "http_basic",
            Self::ApiKey { .. } => "api_key",
            Self::OAuth2ClientCredentials(_) => "oauth2_client_credentials",
            Self::OAuth2RefreshToken(_) => "oauth2_refresh_token",
            Self::SessionToken(_) => "session_token",
        }
    }

    /// Whether what is sent is asked for first, and can be asked for again.
    #[must_use]
    pub fn is_renewable(&self) -> bool {
        matches!(self, Self::OAuth2ClientCredentials(_) | Self::OAuth2RefreshToken(_) | Self::SessionToken(_))
    }

    /// What is sent with every request, where the configuration itself says it, and checks that it can be sent at
    /// all. The error names the key, never its value.
    fn credential(&self) -> Result<Credential, String> {
        match self {
            Self::Bearer { token } => bearer(token, "auth.token"),
            Self::HttpBasic { username, password } => {
                let password = password.as_ref().map_or("", Secret::expose);
                if username.expose().contains(':') {
                    return Err("`auth.username` must not contain a colon (RFC 7617)".to_owned());
                }
                let value = format!("Basic {}", STANDARD.encode(format!("{}:{password}", username.expose())));
                Ok(Credential::Header { name: AUTHORIZATION, value: sensitive(&value, "auth.username")? })
            }
            Self::ApiKey { name, api_key, location } => Credential::at(*location, name, api_key, "auth.api_key"),
            Self::OAuth2ClientCredentials(_) | Self::OAuth2RefreshToken(_) | Self::SessionToken(_) => {
                Ok(Credential::None)
            }
        }
    }

    /// Every text that must not be shown, the encoded forms included.
    pub(crate) fn secrets(&self) -> Vec<Secret> {
        match self {
            Self::Bearer { token } => vec![token.clone()],
            Self::HttpBasic { username, password } => {
                let pair = format!("{}:{}", username.expose(), password.as_ref().map_or("", Secret::expose));
                let mut secrets = vec![Secret::new(STANDARD.encode(pair)), username.clone()];
                secrets.extend(password.clone());
                secrets
            }
            Self::ApiKey { api_key, .. } => vec![api_key.clone()],
            Self::OAuth2ClientCredentials(options) => options.grant().secrets(),
            Self::OAuth2RefreshToken(options) => {
                let mut secrets = options.grant().secrets();
                secrets.push(options.refresh_token.clone());
                secrets
            }
            Self::SessionToken(options) => options.secrets(),
        }
    }
}

impl Auth {
    /// Teaches a redactor what must not be shown, and what links may not carry.
    pub(super) fn teach(&self, redactor: &mut Redactor) {
        let is_secret = |password: &&Secret| password.expose().len() >= MASKED_BYTES_MIN;
        let (parameter, user_name) = match self {
            Self::ApiKey { name, location: ApiKeyLocation::Query, .. } => (Some(name), None),
            Self::SessionToken(session) if session.location == ApiKeyLocation::Query => (Some(&session.name), None),
            // Where there is no password to speak of, it is the user name that proves something: a key.
            Self::HttpBasic { username, password } => (None, password.as_ref().filter(is_secret).map(|_| username)),
            _ => (None, None),
        };
        parameter.into_iter().for_each(|name| redactor.learn_parameter(name));
        for secret in self.secrets() {
            match self {
                // What a login sends goes with no other request.
                Self::SessionToken(session) if session.is_user_name(&secret) => redactor.mask(secret),
                Self::SessionToken(_) => redactor.learn(secret),
                Self::OAuth2ClientCredentials(_) | Self::OAuth2RefreshToken(_) => redactor.learn(secret),
                // A user name may stand in the file and in links; the rest goes with each request and nowhere else.
                _ if user_name == Some(&secret) => redactor.mask(secret),
                _ => redactor.learn_sent_anew(secret),
            }
        }
    }
}

/// `Authorization: Bearer TOKEN`.
fn bearer(token: &Secret, key: &str) -> Result<Credential, String> {
    let value = format!("Bearer {}", not_empty(token, key)?);
    Ok(Credential::Header { name: AUTHORIZATION, value: sensitive(&value, key)? })
}

/// What to look at after a 401 or 403. `kind` is the type of the client's `auth`, `renewed` whether new credentials
/// were refused like the ones before them.
pub(super) fn advice(kind: Option<&str>, status: u16, renewed: bool) -> String {
    match kind {
        None => "no `auth` is configured for this client".to_owned(),
        Some(kind) if renewed => {
            format!("the `{kind}` credentials were renewed and refused again; check what they are allowed to do")
        }
        Some(kind) if status == 401 => {
            format!("the `{kind}` credentials were refused; check that they are right and not expired")
        }
        Some(kind) => format!("the `{kind}` credentials may not read this; check what they are allowed to do"),
    }
}

#[cfg(test)]
mod tests {
    use super::{ApiKeyLocation, Auth, Secret};
    use http::{HeaderMap, HeaderValue, header::COOKIE};
    use url::Url;

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    fn api_key(name: &str, key: &str, location: ApiKeyLocation) -> Auth {
        Auth::ApiKey { name: name.to_owned(), api_key: secret(key), location }
    }

    fn applied(auth: &Auth) -> (String, HeaderMap) {
        let mut url = Url::parse("https://a/x?p=1").unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::from_static("theme=dark"));
        auth.credential().unwrap().apply(&mut url, &mut headers).unwrap();
        (url.into(), headers)
    }

    #[test]
    fn credentials_go_where_the_configuration_says() {
        let (url, headers) = applied(&Auth::Bearer { token: secret("t0k") });
        assert_eq!((url.as_str(), headers["authorization"].as_bytes()), ("https://a/x?p=1", &b"Bearer t0k"[..]));
        assert!(headers["authorization"].is_sensitive());
        let (_, headers) =
            applied(&Auth::HttpBasic { username: secret("Aladdin"), password: Some(secret("open sesame")) });
        assert_eq!(&headers["authorization"], "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        let (_, headers) = applied(&api_key("X-Key", "k", ApiKeyLocation::Header));
        assert_eq!(&headers["x-key"], "k");
        let (url, _) = applied(&api_key("key", "a&b", ApiKeyLocation::Query));
        assert_eq!(url, "https://a/x?p=1&key=a%26b");
        let (_, headers) = applied(&api_key("sid", "k", ApiKeyLocation::Cookie));
        assert_eq!(&headers["cookie"], "theme=dark; sid=k");
    }

    #[test]
    fn a_credential_that_cannot_be_sent_is_refused_without_being_shown() {
        for auth in [
            Auth::Bearer { token: secret("") },
            Auth::Bearer { token: secret("canary\n") },
            Auth::HttpBasic { username: secret("canary:x"), password: None },
            api_key("bad name", "canary", ApiKeyLocation::Header),
            api_key("X-Key", "canary\r\nX-Evil: 1", ApiKeyLocation::Header),
            api_key("sid", "canary; x=y", ApiKeyLocation::Cookie),
            api_key("s id", "canary", ApiKeyLocation::Cookie),
        ] {
            let error = auth.credential().unwrap_err();
            assert!(!error.contains("canary"), "{error}");
        }
    }
}
