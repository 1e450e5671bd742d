//! Credentials of a client: which there are, and where on a request they go. They are put on each attempt anew,
//! and only on requests to the client's own origin.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
