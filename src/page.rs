//! Plain data that the reading half and the writing half share: who a page belongs to, what is on it, and the
//! checkpoint that is true once it is stored.

use std::fmt;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod aside;
mod edit;
mod layout;
mod number;
mod rows;
mod run;
mod slots;
mod validators;

pub use aside::{SetAside, Standing};
pub use edit::{Fate, NewValue};
pub use layout::{ColumnHint, ContractMode, HintType, Layout, SchemaContract};
pub(crate) use number::number;
pub(crate) use rows::{Cell, CellKind, Span};
pub use rows::{List, Rejected, Rows, Text, Value};
pub use run::{ChildPass, RangeNotes, ReadAgain, Run, RunKind};
pub use slots::{Room, Slot, Slots, Turn, Turns};
pub use validators::{Validators, Validity};

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
    /// Every record that was set aside was tried again.
    QuarantineRetried,
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
            Self::QuarantineRetried => "quarantine_retried",
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
    /// The cursor value that is true once the page is stored, where it moves with it.
    pub cursor: Option<String>,
    /// The highest cursor value of the read so far.
    pub cursor_seen: Option<String>,
    /// The rows of this read count although it has not ended: the cursor moves with them. They are not taken back.
    pub is_final: bool,
    /// With this read its partition is not complete: another window follows.
    pub goes_on: bool,
}

/// One read of one partition of a resource, shared by its pages. It can span several runs until it is complete.
#[derive(Debug, Default)]
pub struct PartitionRead {
    /// The partition, as a JSON object of what it stands for; empty where a resource has only one.
    pub partition: Arc<str>,
    /// What it reads of an incremental resource, as JSON: a read that goes on asks for the same.
    pub bounds: Option<String>,
    /// The page of the parent whose record it is read for.
    pub parent_page_id: Option<i64>,
    /// Its number, once its first page is stored. Where records are tried again, that of the page that they came with, below
    /// zero.
    pub read_id: OnceLock<i64>,
}

/// What rows at the boundary of a cursor are ordered by in the file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SortKey {
    /// A number, or an instant in microseconds since 1970.
    Integer(i64),
    /// A text.
    Text(String),
}

/// A row of an append resource that will be sent again by the next read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundaryRow {
    /// What tells it again.
    pub hash: [u8; 16],
    /// Where on the cursor it is.
    pub sort: SortKey,
}

/// A value of a cursor: as it is written, and what it is ordered by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// As JSON.
    pub json: String,
    /// What it is ordered by.
    pub sort: SortKey,
}

/// A range of a cursor that was read completely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    /// Its first value; none where it reaches back as far as the API does.
    pub from: Option<Bound>,
    /// The value behind its last.
    pub to: Bound,
}

impl Coverage {
    /// Whether the two overlap, or one begins where the other ends.
    #[must_use]
    pub fn touches(&self, other: &Self) -> bool {
        let begins_by = |range: &Self, end: &Bound| range.from.as_ref().is_none_or(|from| from.sort <= end.sort);
        begins_by(self, &other.to) && begins_by(other, &self.to)
    }

    /// The range that two which touch make together.
    #[must_use]
    pub fn joined(self, other: &Self) -> Self {
        let from = match (self.from, &other.from) {
            (Some(a), Some(b)) => Some(if a.sort <= b.sort { a } else { b.clone() }),
            _ => None,
        };
        let to = if self.to.sort >= other.to.sort { self.to } else { other.to.clone() };
        Self { from, to }
    }
}

/// A partition of a child that a record of its parent gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedPartition {
    /// Which of the run's children it is for.
    pub child: usize,
    /// The row of the record.
    pub row: usize,
    /// The partition, as a JSON object of what it stands for.
    pub partition: String,
    /// Fields of the record that are put on the child's rows, as a JSON object.
    pub fields: Option<String>,
    /// Only if the row is new or has changed.
    pub only_changed: bool,
}

/// One response's rows, with the checkpoint that is true once they are stored.
#[derive(Debug)]
pub struct Page {
    /// The run that read it.
    pub run: Arc<Run>,
    /// The read of a partition that it is part of.
    pub read: Arc<PartitionRead>,
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
    /// For each row the record of the quarantine that it is made of; empty where the API sent the page.
    pub set_aside: Vec<SetAside>,
    /// Partitions of children that its records give.
    pub children: Vec<QueuedPartition>,
    /// Rows that will be sent again by the next read, where that would double them.
    pub boundary: Vec<BoundaryRow>,
    /// Rows at the boundary below this will not be sent again.
    pub forget_below: Option<SortKey>,
    /// The range of the cursor that is read completely with this page, and the partition that it belongs to.
    pub covers: Option<(String, Coverage)>,
    /// What to go on from when this page is stored.
    pub checkpoint: Checkpoint,
    /// Set on the last page of a read.
    pub end: Option<StopReason>,
    /// The read is the only one of its pass: with its end, the pass is complete.
    pub ends_pass: bool,
    /// What is known of it for the next read.
    pub validity: Validity,
    /// Requests and retries that this page took, for the history of its run.
    pub requests: u64,
    /// Memory that is given back when the page is dropped.
    pub slot: Slot,
}
