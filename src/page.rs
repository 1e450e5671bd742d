//! Plain data that the reading half and the writing half share: who a page belongs to, what is on it, and the
//! checkpoint that is true once it is stored.

use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::units::ByteSize;

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

/// Bounds the bytes of pages that are on their way at the same time.
///
/// A reader takes a slot after its budget lets it send and before the request leaves. What the page really needs
/// is known only afterwards: the slot is then topped up without waiting, so the bound can be passed by what pages
/// differ from the estimate, never by more pages.
#[derive(Clone, Debug)]
pub struct Slots {
    bytes: Arc<Semaphore>,
    units: u32,
}

/// Bytes are counted in units of this size, so that they fit a semaphore.
const SLOT_UNIT_BYTES: u64 = 1024;

impl Slots {
    /// Slots for `limit` bytes in all.
    #[must_use]
    pub fn new(limit: ByteSize) -> Self {
        let units = u32::try_from((limit.0 / SLOT_UNIT_BYTES).max(1)).unwrap_or(u32::MAX >> 3).min(u32::MAX >> 3);
        Self { bytes: Arc::new(Semaphore::new(units as usize)), units }
    }

    /// Waits for room for a page of about `estimate` bytes. Waiters are served in the order they came.
    pub async fn take(&self, estimate: u64) -> Slot {
        let units = self.units_for(estimate);
        let permit = Arc::clone(&self.bytes).acquire_many_owned(units).await;
        Slot { permits: permit.into_iter().collect() }
    }

    /// Tops `slot` up to `actual` bytes as far as there is room.
    pub fn top_up(&self, slot: &mut Slot, actual: u64) {
        let held: usize = slot.permits.iter().map(OwnedSemaphorePermit::num_permits).sum();
        let missing = (self.units_for(actual) as usize).saturating_sub(held);
        if let Ok(missing) = u32::try_from(missing)
            && missing > 0
        {
            slot.permits.extend(Arc::clone(&self.bytes).try_acquire_many_owned(missing));
        }
    }

    fn units_for(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(SLOT_UNIT_BYTES)).unwrap_or(u32::MAX).clamp(1, self.units)
    }
}

/// Room that a page holds until it is dropped.
#[derive(Debug, Default)]
pub struct Slot {
    permits: Vec<OwnedSemaphorePermit>,
}

/// The records of a page, taken apart into cells that point into the bytes they came in.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    pub(crate) text: Text,
    pub(crate) unescaped: String,
    pub(crate) keys: Vec<String>,
    pub(crate) cells: Vec<Cell>,
    pub(crate) row_ends: Vec<u32>,
    pub(crate) rejected: Vec<Rejected>,
}

/// A body that is known to be UTF-8.
#[derive(Clone, Debug, Default)]
pub struct Text(Bytes);

impl Text {
    /// Takes a body, without a byte order mark; `None` where it is not UTF-8.
    #[must_use]
    pub fn new(mut body: Bytes) -> Option<Self> {
        const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
        if body.starts_with(BYTE_ORDER_MARK) {
            body = body.slice(BYTE_ORDER_MARK.len()..);
        }
        std::str::from_utf8(&body).is_ok().then_some(Self(body))
    }

    /// The whole text. Costs a check of the whole body.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("checked when it was taken")
    }

    /// A piece of it, without a copy.
    #[must_use]
    pub fn slice(&self, range: std::ops::Range<usize>) -> Bytes {
        self.0.slice(range)
    }

    /// The bytes of the text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A record that no row can be made of, with the reason and its own text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// A short word for the reason, as stored.
    pub reason: &'static str,
    /// The record as received.
    pub record: String,
}

/// Where the text of a cell stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) len: u32,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum CellKind {
    Null,
    Bool(bool),
    Integer(i64),
    Real(f64),
    Number,
    Text,
    Unescaped,
    Json,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    pub(crate) kind: CellKind,
    pub(crate) span: Span,
    pub(crate) key: u32,
}

/// The value of one field of a record. Texts are bytes that are known to be UTF-8.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// An integer that fits 64 bits, with the text it was written in.
    Integer(i64, &'a [u8]),
    /// A number that a double holds exactly as written, with the text it was written in.
    Real(f64, &'a [u8]),
    /// A number that neither holds, as written.
    Number(&'a [u8]),
    /// A string.
    Text(&'a [u8]),
    /// An object or an array, as written.
    Json(&'a [u8]),
}

impl Rows {
    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.row_ends.len()
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.row_ends.is_empty()
    }

    /// Number of records received: rows, and records that no row can be made of.
    #[must_use]
    pub fn received(&self) -> u64 {
        (self.row_ends.len() + self.rejected.len()) as u64
    }

    /// Records that no row can be made of.
    #[must_use]
    pub fn rejected(&self) -> &[Rejected] {
        &self.rejected
    }

    /// The distinct keys of all records, in the order in which they first came.
    #[must_use]
    pub fn keys(&self) -> &[String] {
        &self.keys
    }

    /// The fields of row `row`: index into [`Rows::keys`], and value.
    pub fn row(&self, row: usize) -> impl Iterator<Item = (usize, Value<'_>)> {
        let start = if row == 0 { 0 } else { self.row_ends[row - 1] as usize };
        self.cells[start..self.row_ends[row] as usize].iter().map(|cell| (cell.key as usize, self.value(cell)))
    }

    /// The value of `key` in row `row`, where it has one.
    #[must_use]
    pub fn get(&self, row: usize, key: &str) -> Option<Value<'_>> {
        self.row(row).find(|(index, _)| self.keys[*index] == key).map(|(_, value)| value)
    }

    fn value(&self, cell: &Cell) -> Value<'_> {
        let range = cell.span.start as usize..(cell.span.start + cell.span.len) as usize;
        match cell.kind {
            CellKind::Null => Value::Null,
            CellKind::Bool(value) => Value::Bool(value),
            CellKind::Integer(value) => Value::Integer(value, &self.text.0[range]),
            CellKind::Real(value) => Value::Real(value, &self.text.0[range]),
            CellKind::Number => Value::Number(&self.text.0[range]),
            CellKind::Text => Value::Text(&self.text.0[range]),
            CellKind::Unescaped => Value::Text(&self.unescaped.as_bytes()[range]),
            CellKind::Json => Value::Json(&self.text.0[range]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ByteSize, Slots};

    #[tokio::test]
    async fn slots_bound_the_bytes_on_their_way() {
        let slots = Slots::new(ByteSize(10 * 1024));
        let mut first = slots.take(4 * 1024).await;
        slots.top_up(&mut first, 8 * 1024);
        assert!(futures::FutureExt::now_or_never(slots.take(4 * 1024)).is_none());
        drop(first);
        let whole = slots.take(1 << 40).await;
        assert!(futures::FutureExt::now_or_never(slots.take(1)).is_none());
        drop(whole);
        assert!(futures::FutureExt::now_or_never(slots.take(1)).is_some());
    }
}
