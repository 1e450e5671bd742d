//! The SQLite file: rows, checkpoints and history, changed only by whole commits.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Timespan;

/// `[destination]`: the file, and how safe a commit is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DestinationOptions {
    /// The SQLite file. A relative path starts at `$STATE_DIRECTORY` when that is set.
    pub path: PathBuf,
    /// What a committed page survives.
    pub synchronous: Synchronous,
    /// How long another writer may hold the file before a commit is tried again, then failed.
    pub busy_timeout: Timespan,
}

impl Default for DestinationOptions {
    fn default() -> Self {
        Self {
            path: PathBuf::from("highwater.db"),
            synchronous: Synchronous::default(),
            busy_timeout: Timespan::secs(5),
        }
    }
}

/// What a committed page survives (SQLite's `PRAGMA synchronous`, in WAL mode).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Synchronous {
    /// A power cut.
    #[default]
    Full,
    /// A crash of the process; a power cut may take back the last commits, rows and checkpoint together.
    Normal,
}
