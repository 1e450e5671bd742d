//! Which failures are tried again, and after how long.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Timespan;

/// Exponential backoff with full jitter; a server's `Retry-After` wins over it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetryOptions {
    /// Attempts per page, the first one included.
    #[schemars(range(min = 1, max = 100))]
    pub max_attempts: u32,
    /// Upper end of the first random delay; it doubles with every attempt.
    pub initial_delay: Timespan,
    /// The delay grows no further than this.
    pub max_delay: Timespan,
    /// No attempt starts later than this after the first one; waits that the server asked for do not count.
    pub max_elapsed: Timespan,
    /// The longest `Retry-After` that a run waits for. A longer one ends the run, and is kept over restarts.
    pub max_retry_after: Timespan,
}

impl Default for RetryOptions {
    fn default() -> Self {
        Self {
            max_attempts: 6,
            initial_delay: Timespan::millis(500),
            max_delay: Timespan::secs(60),
            max_elapsed: Timespan::secs(15 * 60),
            max_retry_after: Timespan::secs(60 * 60),
        }
    }
}
