//! Plain data that the reading half and the writing half share: who a page belongs to, what is on it, and the
//! checkpoint that is true once it is stored.

use std::fmt;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

mod layout;
mod number;
mod rows;
mod slots;

pub use layout::{ColumnHint, ContractMode, HintType, Layout, SchemaContract};
pub(crate) use number::number;
pub(crate) use rows::{Cell, CellKind, Span};
pub use rows::{List, Rejected, Rows, Text, Value};
pub use slots::{Room, Slot, Slots, Turn, Turns};

/// A resource by the names it has in the configuration; printed as `SOURCE.RESOURCE`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceId {
    /// Name of the source.
    pub source: Arc<str>,
    /// Name of the resource in it.
    pub resource: Arc<str>,
}

impl ResourceId {
    /// The id of `source.resource`.
    #[must_use]
    pub fn new(source: &str, resource: &str) -> Self {
        Self { source: source.into(), resource: resource.into() }
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.source, self.resource)
    }
}

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

/// Where the records of a resource go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The resource.
    pub id: ResourceId,
    /// Its table.
    pub table: String,
    /// The record keys that name a record; empty where there are none.
    pub primary_key: Vec<String>,
    /// How records become rows.
    pub disposition: WriteDisposition,
    /// How they are laid out in tables.
    pub layout: Layout,
}

/// Why a read ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The response named no next page.
    NoNext,
    /// A page had no records.
    EmptyPage,
    /// A page had fewer records than a full one.
    ShortPage,
    /// The response said that there is no more.
    HasMoreFalse,
    /// The announced total was reached.
    TotalReached,
    /// There is only one page.
    SinglePage,
    /// The configured `max_pages` was reached.
    MaxPages,
    /// The rest is older than the cursor.
    CursorBoundary,
    /// A response action said so.
    StoppedByAction,
    /// The API led back to where the read had been.
    LoopDetected,
    /// A page could not be read.
    Error,
    /// A signal, a failing sibling or a crash came first.
    Interrupted,
}

impl StopReason {
    /// Whether a read that ends so has reached an explicit end.
    #[must_use]
    pub fn is_complete(self) -> bool {
        !matches!(self, Self::MaxPages | Self::LoopDetected | Self::Error | Self::Interrupted)
    }

    /// The word used in the tables, the logs and the reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoNext => "no_next",
            Self::EmptyPage => "empty_page",
            Self::ShortPage => "short_page",
            Self::HasMoreFalse => "has_more_false",
            Self::TotalReached => "total_reached",
            Self::SinglePage => "single_page",
            Self::MaxPages => "max_pages",
            Self::CursorBoundary => "cursor_boundary",
            Self::StoppedByAction => "stopped_by_action",
            Self::LoopDetected => "loop_detected",
            Self::Error => "error",
            Self::Interrupted => "interrupted",
        }
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is stored to go on from: the next position of an unfinished read, or none when the read is complete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// The position of the next page, as JSON.
    pub position: Option<String>,
    /// Fingerprint of the request that made the position.
    pub request_fingerprint: String,
    /// What `auto` decided, as JSON, so that the next run decides the same.
    pub decided: Option<String>,
}

/// One run of one resource, shared by everyone who works on it.
#[derive(Debug)]
pub struct Run {
    /// Row of `_hw_runs`.
    pub run_id: i64,
    /// The read that this run goes on with: it can span several runs until it is complete.
    pub read_id: i64,
    /// Where the records go.
    pub target: Arc<Target>,
    /// Ends this run alone.
    pub stop: CancellationToken,
    broken: OnceLock<String>,
}

impl Run {
    /// A run that has just begun.
    #[must_use]
    pub fn new(run_id: i64, read_id: i64, target: Arc<Target>, stop: CancellationToken) -> Self {
        Self { run_id, read_id, target, stop, broken: OnceLock::new() }
    }

    /// Ends the run because its records broke the contract of the resource. The first reason is kept.
    pub fn break_off(&self, reason: String) {
        self.broken.get_or_init(|| reason);
        self.stop.cancel();
    }

    /// Why the run was broken off, if it was.
    #[must_use]
    pub fn broken(&self) -> Option<&str> {
        self.broken.get().map(String::as_str)
    }
}

/// One response's rows, with the checkpoint that is true once they are stored.
#[derive(Debug)]
pub struct Page {
    /// The run that read it.
    pub run: Arc<Run>,
    /// The slice of the resource; empty where there are no slices.
    pub partition: Arc<str>,
    /// Where in the pagination it was, as JSON.
    pub position: String,
    /// Its URL, without secrets.
    pub url: String,
    /// The HTTP status.
    pub status: u16,
    /// When the response was complete.
    pub fetched_at: Timestamp,
    /// From the first attempt to the whole response.
    pub duration_ms: u64,
    /// Bytes of the body after decompression.
    pub bytes: u64,
    /// Attempts that it took.
    pub attempts: u32,
    /// Its records.
    pub rows: Rows,
    /// What to go on from when this page is stored.
    pub checkpoint: Checkpoint,
    /// Set on the last page of a read.
    pub end: Option<StopReason>,
    /// Requests and retries that this page took, for the history of its run.
    pub requests: u64,
    /// Memory that is given back when the page is dropped.
    pub slot: Slot,
}
