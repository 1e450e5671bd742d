//! `rate_limit`: what an API allows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Timespan;

/// The limits of an API. Clients that name the same `budget` share it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimit {
    /// Requests allowed in each `per`; without it only `concurrency` and the server's own headers limit.
    #[schemars(range(min = 1))]
    pub requests: Option<u32>,
    /// The window that `requests` counts in.
    pub per: Timespan,
    /// Requests that may be sent at once after a quiet time.
    #[schemars(range(min = 1))]
    pub burst: u32,
    /// Requests in flight at the same time.
    #[schemars(range(min = 1))]
    pub concurrency: Option<u32>,
    /// Name under which the budget is shared and kept over restarts; the source's name by default.
    pub budget: Option<String>,
    /// Response header with the number of requests left.
    pub remaining_header: Option<String>,
    /// Response header that says when requests are allowed again.
    pub reset_header: Option<String>,
    /// How to read `reset_header`.
    pub reset_format: ResetFormat,
    /// Requests to leave to others: at this many left, wait for the reset.
    pub reserve: u64,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self {
            requests: None,
            per: Timespan::secs(1),
            burst: 1,
            concurrency: None,
            budget: None,
            remaining_header: None,
            reset_header: None,
            reset_format: ResetFormat::default(),
            reserve: 0,
        }
    }
}

impl RateLimit {
    /// The name of the budget of a source with this limit.
    #[must_use]
    pub fn budget_of<'n>(limit: Option<&'n Self>, source: &'n str) -> &'n str {
        limit.and_then(|limit| limit.budget.as_deref()).unwrap_or(source)
    }
}

/// What the text of a `reset_header` means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResetFormat {
    /// Seconds since 1970 (UTC).
    #[default]
    Epoch,
    /// Seconds from now.
    Delta,
    /// A date as in RFC 9110 §5.6.7.
    HttpDate,
}
