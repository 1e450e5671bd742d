//! What a run is doing right now: counters that the pipeline writes and that a terminal, a page or a metric reads.
//! Nothing in here decides anything.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

/// A number that only grows while a run lasts.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

/// Lines of this process's log that were lost, because nobody read them.
pub static LOG_LINES_LOST: Counter = Counter(AtomicU64::new(0));

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The sum so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one resource of a run is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Activity {
    /// Its turn has not come.
    #[default]
    Queued,
    /// It reads pages.
    Reading,
    /// It waits, and why: a budget, a `Retry-After`, a backoff.
    Waiting {
        /// When the wait is over.
        until: Timestamp,
        /// The reason, as a person would read it, without secrets.
        reason: String,
    },
    /// Its read has ended.
    Ended,
}

/// Counters and activity of one resource during one run.
#[derive(Debug, Default)]
pub struct ResourceProgress {
    /// Requests sent, failed ones included.
    pub requests: Counter,
    /// Requests sent again after a failure.
    pub retries: Counter,
    /// Pages received and decoded.
    pub pages_read: Counter,
    /// Pages committed.
    pub pages_committed: Counter,
    /// Records of committed pages.
    pub records_committed: Counter,
    /// Bytes of bodies received, after decompression.
    pub bytes: Counter,
    activity: Mutex<Activity>,
}

impl ResourceProgress {
    /// Says what the resource does from now on.
    pub fn set(&self, activity: Activity) {
        *self.activity.lock().unwrap_or_else(PoisonError::into_inner) = activity;
    }

    /// What the resource does right now.
    #[must_use]
    pub fn activity(&self) -> Activity {
        self.activity.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Shows the waits of one step, and that reading goes on when they are over or cut short.
#[derive(Debug)]
pub struct Waiting<'a> {
    progress: &'a ResourceProgress,
    shown: bool,
}

impl<'a> Waiting<'a> {
    /// Nothing is shown yet.
    #[must_use]
    pub fn new(progress: &'a ResourceProgress) -> Self {
        Self { progress, shown: false }
    }

    /// The resource waits until then, for this reason.
    pub fn show(&mut self, until: Timestamp, reason: &str) {
        self.shown = true;
        self.progress.set(Activity::Waiting { until, reason: reason.to_owned() });
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.shown {
            self.progress.set(Activity::Reading);
        }
    }
}
