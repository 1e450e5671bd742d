//! Credentials of a client: which there are, and where on a request they go. They are put on each attempt anew,
//! and only on requests to the client's own origin.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::later::NotBuiltYet;
use crate::secret::Secret;

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
    #[schemars(extend("x-not-built-yet" = true))]
    OAuth2ClientCredentials {
        /// Not built yet.
        not_built_yet: NotBuiltYet,
    },
    /// OAuth 2.0 refresh token (RFC 6749 §6).
    #[serde(rename = "oauth2_refresh_token")]
    #[schemars(extend("x-not-built-yet" = true))]
    OAuth2RefreshToken {
        /// Not built yet.
        not_built_yet: NotBuiltYet,
    },
    /// A token from a login request.
    #[schemars(extend("x-not-built-yet" = true))]
    SessionToken {
        /// Not built yet.
        not_built_yet: NotBuiltYet,
    },
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

/// A credential, checked and ready to be put on requests.
#[derive(Clone, Debug)]
pub(super) enum Credential {
    /// No `auth` in the configuration.
    None,
    /// In a header; the value is marked sensitive.
    Header { kind: &'static str, name: HeaderName, value: HeaderValue },
    /// In the query.
    Query { name: String, key: Secret },
    /// In the `Cookie` header, as `NAME=KEY`.
    Cookie { pair: Secret },
}

impl Auth {
    /// Checks that this can be sent at all. The error names the key, never its value.
    pub(super) fn credential(&self) -> Result<Credential, String> {
        match self {
            Self::Bearer { token } => {
                let value = format!("Bearer {}", not_empty(token, "auth.token")?);
                Ok(Credential::Header { kind: "bearer", name: AUTHORIZATION, value: sensitive(&value, "auth.token")? })
            }
            Self::HttpBasic { username, password } => {
                let password = password.as_ref().map_or("", Secret::expose);
                if username.expose().contains(':') {
                    return Err("`auth.username` must not contain a colon (RFC 7617)".to_owned());
                }
                let value = format!("Basic {}", STANDARD.encode(format!("{}:{password}", username.expose())));
                Ok(Credential::Header {
                    kind: "http_basic",
                    name: AUTHORIZATION,
                    value: sensitive(&value, "auth.username")?,
                })
            }
            Self::ApiKey { name, api_key, location } => {
                let key = not_empty(api_key, "auth.api_key")?;
                match location {
                    ApiKeyLocation::Header => Ok(Credential::Header {
                        kind: "api_key",
                        name: name.parse().map_err(|_| format!("`auth.name` (`{name}`) is not a header name"))?,
                        value: sensitive(key, "auth.api_key")?,
                    }),
                    ApiKeyLocation::Query => Ok(Credential::Query { name: name.clone(), key: api_key.clone() }),
                    ApiKeyLocation::Cookie => {
                        if HeaderName::from_bytes(name.as_bytes()).is_err() {
                            return Err(format!("`auth.name` (`{name}`) is not a cookie name"));
                        }
                        if key.contains([';', ',', ' ', '"', '\\']) || HeaderValue::from_str(key).is_err() {
                            return Err("`auth.api_key` has a character that a cookie cannot carry".to_owned());
                        }
                        Ok(Credential::Cookie { pair: Secret::new(format!("{name}={key}")) })
                    }
                }
            }
            Self::OAuth2ClientCredentials { not_built_yet }
            | Self::OAuth2RefreshToken { not_built_yet }
            | Self::SessionToken { not_built_yet } => match *not_built_yet {},
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
            Self::OAuth2ClientCredentials { not_built_yet }
            | Self::OAuth2RefreshToken { not_built_yet }
            | Self::SessionToken { not_built_yet } => match *not_built_yet {},
        }
    }
}

impl Credential {
    /// Puts the credential on one request. The URL is on the client's origin: `link` has seen to that.
    pub(super) fn apply(&self, url: &mut Url, headers: &mut HeaderMap) -> Result<(), String> {
        match self {
            Self::None => {}
            Self::Header { name, value, .. } => {
                headers.insert(name.clone(), value.clone());
            }
            Self::Query { name, key } => {
                url.query_pairs_mut().append_pair(name, key.expose());
            }
            Self::Cookie { pair } => {
                let value = match headers.get(COOKIE).and_then(|cookies| cookies.to_str().ok()) {
                    Some(cookies) => format!("{cookies}; {}", pair.expose()),
                    None => pair.expose().to_owned(),
                };
                headers.insert(COOKIE, sensitive(&value, "auth.api_key")?);
            }
        }
        Ok(())
    }

    /// What to look at after a 401 or 403.
    pub(super) fn advice(&self, status: u16) -> String {
        let kind = match self {
            Self::None => return "no `auth` is configured for this client".to_owned(),
            Self::Header { kind, .. } => kind,
            Self::Query { .. } | Self::Cookie { .. } => "api_key",
        };
        if status == 401 {
            format!("the `{kind}` credentials were refused; check that they are right and not expired")
        } else {
            format!("the `{kind}` credentials may not read this; check what they are allowed to do")
        }
    }
}

fn not_empty<'a>(secret: &'a Secret, key: &str) -> Result<&'a str, String> {
    let text = secret.expose();
    if text.is_empty() { Err(format!("`{key}` is empty")) } else { Ok(text) }
}

/// A header value that is never shown nor indexed by HTTP/2.
pub(super) fn sensitive(value: &str, key: &str) -> Result<HeaderValue, String> {
    let mut value =
        HeaderValue::from_str(value).map_err(|_| format!("`{key}` has a character that a header cannot carry"))?;
    value.set_sensitive(true);
    Ok(value)
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
