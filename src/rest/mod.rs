//! One API over HTTP: requests under a budget, with credentials, time limits and retries, and how to get from one
//! page to the next. It knows neither configuration files nor tables, and could become a crate of its own.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::template::Template;
use crate::units::{ByteSize, Timespan};

pub mod action;
mod addresses;
mod attempt;
pub mod auth;
mod body;
pub mod budget;
pub mod client;
pub mod condition;
pub mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod gcra;
mod hints;
mod leave;
mod limits;
pub mod link;
pub mod paginator;
mod rate_limit;
mod redact;
pub mod request;
pub mod retry;
mod transport;
mod verdict;

#[cfg(test)]
mod tests;

/// How to talk to an API.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientOptions {
    /// Joined with a resource's `path` as text, so it mostly ends with `/`: `https://api.example.com/v1/`.
    pub base_url: String,
    /// Headers of every request.
    #[serde(default)]
    pub headers: IndexMap<String, Template>,
    /// Query parameters of every request.
    #[serde(default)]
    pub params: IndexMap<String, Template>,
    /// How requests prove who they are.
    #[serde(default)]
    pub auth: Option<auth::Auth>,
    /// How to get from one page to the next, for resources that do not say.
    #[serde(default)]
    pub paginator: Option<paginator::Paginator>,
    /// How many requests may be sent.
    #[serde(default)]
    pub rate_limit: Option<budget::RateLimit>,
    /// What to do about failures that may pass.
    #[serde(default)]
    pub retry: retry::RetryOptions,
    /// Time for one whole attempt, body included.
    #[serde(default = "default_timeout")]
    pub timeout: Timespan,
    /// Time to reach the server, TLS included.
    #[serde(default = "default_connect_timeout")]
    pub connect_timeout: Timespan,
    /// Longest silence between two reads of a response.
    #[serde(default = "default_read_timeout")]
    pub read_timeout: Timespan,
    /// Largest body of a page after decompression.
    #[serde(default = "default_max_page_bytes")]
    pub max_page_bytes: ByteSize,
    /// Which redirects are followed.
    #[serde(default)]
    pub redirects: Redirects,
    /// Keep ETag and Last-Modified, and ask only whether a page has changed where that can be known safely.
    #[serde(default)]
    pub conditional_requests: bool,
    /// Let the name of the server lead wherever it likes. Otherwise a name that led to the internet at first may not lead
    /// into a private network later, and none to link-local addresses.
    #[serde(default)]
    pub allow_private_addresses: bool,
}

impl ClientOptions {
    /// The name of the budget of a source with these options.
    #[must_use]
    pub fn budget_name<'n>(&'n self, source: &'n str) -> &'n str {
        budget::RateLimit::budget_of(self.rate_limit.as_ref(), source)
    }
}

/// Which redirects a client follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Redirects {
    /// Those that stay on the scheme, host and port of `base_url`.
    #[default]
    SameOrigin,
    /// None: a redirect fails the read.
    None,
}

fn default_timeout() -> Timespan {
    Timespan::secs(60)
}

fn default_connect_timeout() -> Timespan {
    Timespan::secs(10)
}

fn default_read_timeout() -> Timespan {
    Timespan::secs(30)
}

fn default_max_page_bytes() -> ByteSize {
    ByteSize::mebi(32)
}
