//! Plain data that the reading half and the writing half share.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the records of a resource become rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WriteDisposition {
    /// Every record is a new row.
    Append,
    /// One row per `primary_key`, equal to the last version received.
    Merge,
    /// A complete read takes the place of the rows before it.
    Replace,
}
