//! The configuration.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::destination::DestinationOptions;
use crate::later::NotBuiltYet;
use crate::processor::PipelineOptions;
use crate::source::SourceOptions;

/// The whole of `config.toml`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "highwater configuration")]
pub struct Config {
    /// The SQLite file.
    #[serde(default)]
    pub destination: DestinationOptions,
    /// How much is read at once, how much may wait, when it is committed.
    #[serde(default)]
    pub pipeline: PipelineOptions,
    /// The status page of `serve`.
    #[serde(default)]
    pub web: Option<NotBuiltYet>,
    /// The APIs to read.
    #[serde(default)]
    pub sources: IndexMap<String, SourceOptions>,
}
