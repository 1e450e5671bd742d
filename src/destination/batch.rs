//! What travels from the readers to the file, and what comes back of it.

use std::sync::Arc;

use super::changes::RowChange;
use crate::page::{Page, Run, StopReason};

/// What travels from the readers to the file.
#[derive(Debug)]
pub enum Delivery {
    /// A page to store.
    Page(Box<Page>),
    /// A partition could not be read to its end.
    Failed(PartitionFailed),
    /// A read has ended, after its last page or without one.
    Ended(Ending),
}

/// A partition that could not be read to its end. The others of its resource go on.
#[derive(Clone, Debug)]
pub struct PartitionFailed {
    /// The run.
    pub run: Arc<Run>,
    /// The partition.
    pub partition: Arc<str>,
    /// What went wrong.
    pub error: String,
    /// The position is of no more use: the next read starts over.
    pub abandon: bool,
    /// Its records turned out not to be sorted, so that the cursor can have passed some of them: where the cursor stood
    /// before, as JSON.
    pub unsorted: Option<Option<String>>,
}

/// What becomes of a pass when a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassEnd {
    /// All partitions are complete.
    Complete,
    /// The next run goes on with it: partitions that are complete are not read again.
    Open,
    /// All partitions were read or tried: the next run begins another pass.
    Over,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The read reached an explicit end.
    Complete,
    /// It stopped before, and can go on.
    Incomplete,
    /// It could not go on.
    Failed,
}

impl Outcome {
    /// The word in `_hw_runs` and in the reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Incomplete => "incomplete",
            Self::Failed => "failed",
        }
    }
}

/// The end of a run, as its reader saw it.
#[derive(Clone, Debug)]
pub struct Ending {
    /// The run.
    pub run: Arc<Run>,
    /// How it ended. A complete run is entered with its last page; this then only adds its requests.
    pub outcome: Outcome,
    /// Why it ended.
    pub stop_reason: StopReason,
    /// What went wrong.
    pub error: Option<String>,
    /// Requests of the whole run.
    pub requests: u64,
    /// Retries of the whole run.
    pub retries: u64,
    /// What becomes of its pass.
    pub pass: PassEnd,
}

/// Pages and endings that are stored together.
#[derive(Debug, Default)]
pub struct Batch {
    /// In the order in which they came.
    pub deliveries: Vec<Delivery>,
    /// Rows in all.
    pub rows: u64,
    /// Bytes of the pages.
    pub bytes: u64,
}

impl Batch {
    /// Adds what was delivered.
    pub fn push(&mut self, delivery: Delivery) {
        if let Delivery::Page(page) = &delivery {
            self.rows += page.rows.received();
            self.bytes += page.bytes;
        }
        self.deliveries.push(delivery);
    }
}

/// What became of the records of a page, or of a run. Every record is counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Records received.
    pub received: u64,
    /// New rows.
    pub inserted: u64,
    /// Rows that changed.
    pub updated: u64,
    /// Rows that were there already, the same.
    pub unchanged: u64,
    /// Records left out by a filter.
    pub filtered: u64,
    /// Records set aside.
    pub quarantined: u64,
}

impl Counts {
    /// Adds those of another page.
    pub fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.inserted += other.inserted;
        self.updated += other.updated;
        self.unchanged += other.unchanged;
        self.filtered += other.filtered;
        self.quarantined += other.quarantined;
    }

    /// Adds a row that was written.
    pub(super) fn add_change(&mut self, change: RowChange) {
        match change {
            RowChange::Inserted => self.inserted += 1,
            RowChange::Updated => self.updated += 1,
            RowChange::Unchanged => self.unchanged += 1,
        }
    }

    /// Adds rows that were written at once: how many were inserted, and how many updated.
    pub(super) fn add_changes(&mut self, rows: u64, (inserted, updated): (u64, u64)) {
        self.inserted += inserted;
        self.updated += updated;
        self.unchanged += rows - inserted - updated;
    }
}

/// What a commit stored.
#[derive(Debug, Default)]
pub struct Committed {
    /// The counts of each page that was stored, in order.
    pub pages: Vec<(Arc<Run>, Counts)>,
    /// Runs that must not go on, and why: their records broke the contract of their resource.
    pub broken: Vec<(Arc<Run>, String)>,
    /// Runs that have ended, and how.
    pub ended: Vec<(Arc<Run>, Outcome)>,
}
