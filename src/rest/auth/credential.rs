//! A credential that is ready to be sent, and where on a request it goes.

use http::header::COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::ApiKeyLocation;
use crate::secret::Secret;

/// A credential, checked and ready to be put on requests.
#[derive(Clone, Debug)]
pub(in crate::rest) enum Credential {
    /// No `auth` in the configuration.
    None,
    /// In a header; the value is marked sensitive.
    Header { name: HeaderName, value: HeaderValue },
    /// In the query.
    Query { name: String, key: Secret },
    /// In the `Cookie` header, as `NAME=KEY`.
    Cookie { pair: Secret },
}

impl Credential {
    /// A text at a place of its own. The error calls it `key` and never shows it.
    pub(super) fn at(location: ApiKeyLocation, name: &str, text: &Secret, key: &str) -> Result<Self, String> {
        let value = not_empty(text, key)?;
        match location {
            ApiKeyLocation::Header => Ok(Self::Header {
                name: name.parse().map_err(|_| format!("`auth.name` (`{name}`) is not a header name"))?,
                value: sensitive(value, key)?,
            }),
            ApiKeyLocation::Query => Ok(Self::Query { name: name.to_owned(), key: text.clone() }),
            ApiKeyLocation::Cookie => {
                if HeaderName::from_bytes(name.as_bytes()).is_err() {
                    return Err(format!("`auth.name` (`{name}`) is not a cookie name"));
                }
                if value.contains([';', ',', ' ', '"', '\\']) || HeaderValue::from_str(value).is_err() {
                    return Err(format!("`{key}` has a character that a cookie cannot carry"));
                }
                Ok(Self::Cookie { pair: Secret::new(format!("{name}={value}")) })
            }
        }
    }

    /// Puts the credential on one request. The URL is on the client's origin: `link` has seen to that.
    pub(in crate::rest) fn apply(&self, url: &mut Url, headers: &mut HeaderMap) -> Result<(), String> {
        match self {
            Self::None => {}
            Self::Header { name, value } => {
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
                headers.insert(COOKIE, sensitive(&value, "auth")?);
            }
        }
        Ok(())
    }
}

pub(super) fn not_empty<'a>(secret: &'a Secret, key: &str) -> Result<&'a str, String> {
    let text = secret.expose();
    if text.is_empty() { Err(format!("`{key}` is empty")) } else { Ok(text) }
}

/// A header value that is never shown nor indexed by HTTP/2.
pub(in crate::rest) fn sensitive(value: &str, key: &str) -> Result<HeaderValue, String> {
    let mut value =
        HeaderValue::from_str(value).map_err(|_| format!("`{key}` has a character that a header cannot carry"))?;
    value.set_sensitive(true);
    Ok(value)
}
