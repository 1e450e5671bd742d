//! Drains the channel between the readers and the file: collects pages into batches and commits them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{ByteSize, Timespan};

/// `[pipeline]`: how much is read at once, how much may wait, when it is committed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PipelineOptions {
    /// Resources and partitions read at the same time.
    #[schemars(range(min = 1, max = 10_000))]
    pub concurrency: u32,
    /// Pages that may wait between the readers and the processor.
    #[schemars(range(min = 1, max = 100_000))]
    pub channel_pages: u32,
    /// Bytes of pages that may be on their way between the first request for them and their commit.
    pub channel_bytes: ByteSize,
    /// A batch is committed when it holds this many rows.
    #[schemars(range(min = 1))]
    pub batch_rows: u64,
    /// A batch is committed when it holds this many bytes of pages.
    pub batch_bytes: ByteSize,
    /// A batch is committed when its oldest page waits this long, or as soon as nothing else waits.
    pub batch_age: Timespan,
    /// What a failing resource means for the others.
    pub on_error: OnError,
    /// Time after the first signal to commit what was received.
    pub shutdown_grace: Timespan,
}

impl Default for PipelineOptions {
    fn default() -> Self {
        Self {
            concurrency: 8,
            channel_pages: 16,
            channel_bytes: ByteSize::mebi(64),
            batch_rows: 10_000,
            batch_bytes: ByteSize::mebi(8),
            batch_age: Timespan::millis(250),
            on_error: OnError::default(),
            shutdown_grace: Timespan::secs(30),
        }
    }
}

/// What a failing resource means for the others of the same run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// They go on.
    #[default]
    Continue,
    /// They are cancelled; what they received is kept.
    FailFast,
}
