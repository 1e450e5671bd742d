//! One run of a resource: what asked for it, where its records go, and who is read for them.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

use super::{ResourceId, Target};

/// One run of one resource, shared by everyone who works on it.
#[derive(Debug)]
pub struct Run {
    /// Row of `_hw_runs`.
    pub run_id: i64,
    /// The pass over all partitions that this run is part of: it can span several runs until it is complete.
    pub pass_id: i64,
    /// What asked for it.
    pub kind: RunKind,
    /// Where the records go.
    pub target: Arc<Target>,
    /// Ends this run alone.
    pub stop: CancellationToken,
    /// The resources that are read once for each record of this one.
    pub children: Vec<ChildPass>,
    /// Its parents do not return every record again: partitions that they have not named are there all the same.
    pub has_partial_parent: bool,
    broken: OnceLock<String>,
}

impl Run {
    /// A run that has just begun.
    #[must_use]
    pub fn new(run_id: i64, pass_id: i64, target: Arc<Target>, stop: CancellationToken) -> Self {
        Self {
            run_id,
            pass_id,
            kind: RunKind::Sync,
            target,
            stop,
            children: Vec::new(),
            has_partial_parent: false,
            broken: OnceLock::new(),
        }
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

/// What asked for a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunKind {
    /// A person or a timer: `highwater sync`.
    #[default]
    Sync,
    /// The daemon, because it was due.
    Scheduled,
    /// `highwater backfill`: ranges of the cursor, which itself stays where it is.
    Backfill,
    /// `highwater retry`, or the daemon when it was asked to: records that were set aside are tried again.
    Retry,
}

impl RunKind {
    /// Whether it is part of the pass over the resource, and so says how well that goes.
    #[must_use]
    pub fn is_of_pass(self) -> bool {
        match self {
            Self::Sync | Self::Scheduled => true,
            Self::Backfill | Self::Retry => false,
        }
    }

    /// The word in `_hw_runs`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Scheduled => "scheduled",
            Self::Backfill => "backfill",
            Self::Retry => "retry",
        }
    }
}

/// What a backfill says of its ranges besides their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeNotes {
    /// For each of them in their order, the fields of the parent's record that are put on the rows, as a JSON object.
    pub parent_fields: Vec<Option<String>>,
    /// Ranges that earlier backfills left open, and in whose place these are read.
    pub given_up: Vec<String>,
}

/// A resource that is read once for each record of a run, and where they are queued for it.
#[derive(Debug)]
pub struct ChildPass {
    /// Its place among the children of the resource.
    pub number: usize,
    /// The resource.
    pub id: ResourceId,
    /// Its run and its pass; none where it is not read now, and the records wait for its next run.
    pub run: Option<(i64, i64)>,
    /// What comes again in its pass.
    pub again: ReadAgain,
    /// The records that have come for it in this run,
    pub records: AtomicU64,
    /// and how many of them do not have the fields that it needs.
    pub lacking: AtomicU64,
}

/// Which records of a parent are read for again, where an earlier run of the child's open pass has done so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadAgain {
    /// None: the rows are of one generation, which has each record once.
    Never,
    /// Those that have changed since; the next pass brings the others.
    Changed,
    /// All that come: the parent may not return them again.
    Always,
}
