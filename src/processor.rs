//! Drains the channel between the readers and the file: collects pages into batches and commits them.

use std::mem;
use std::pin::pin;

use futures::FutureExt;
use futures::future::{Fuse, FusedFuture};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::Receiver;
use tokio::time::Instant;

use crate::destination::{Batch, Counts, Db, DbError, Delivery, Outcome};
use crate::page::Run;
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
    /// Bytes of pages, bodies and the rows made of them, that may be on their way between the request and the commit;
    /// one page more is let through where it alone is larger.
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

/// What a commit has done.
#[derive(Debug)]
pub enum Done<'a> {
    /// A page is stored.
    Stored(&'a Run, &'a Counts),
    /// A run was broken off because its records broke their contract.
    Broken(&'a Run),
    /// A run has ended.
    Ended(&'a Run, Outcome),
}

/// Commits what arrives on `deliveries` until every sender is gone, and then what is left.
///
/// One commit is under way at a time; while it is, the next batch fills. `done` is told of everything that a commit
/// has done.
///
/// # Errors
/// The first commit that fails ends the processor: what it held is not stored, and no reader can send any more.
pub async fn process(
    mut deliveries: Receiver<Delivery>,
    db: &Db,
    options: &PipelineOptions,
    mut done: impl FnMut(Done<'_>),
) -> Result<(), DbError> {
    let mut batch = Batch::default();
    let mut oldest = Instant::now();
    let mut commit = pin!(Fuse::terminated());
    let mut open = true;
    while open || !batch.deliveries.is_empty() || !commit.is_terminated() {
        if commit.is_terminated() && is_due(&batch, options, oldest, deliveries.is_empty()) {
            commit.set(db.commit(mem::take(&mut batch)).fuse());
        }
        tokio::select! {
            committed = &mut commit, if !commit.is_terminated() => {
                let committed = committed?;
                for (run, counts) in &committed.pages {
                    done(Done::Stored(run, counts));
                }
                for (run, reason) in committed.broken {
                    run.break_off(reason);
                    done(Done::Broken(&run));
                }
                for (run, outcome) in &committed.ended {
                    done(Done::Ended(run, *outcome));
                }
            }
            delivery = deliveries.recv(), if open && !is_full(&batch, options) => match delivery {
                Some(delivery) => {
                    if batch.deliveries.is_empty() {
                        oldest = Instant::now();
                    }
                    batch.push(delivery);
                }
                None => open = false,
            },
        }
    }
    Ok(())
}

fn is_full(batch: &Batch, options: &PipelineOptions) -> bool {
    batch.rows >= options.batch_rows || batch.bytes >= options.batch_bytes.0
}

fn is_due(batch: &Batch, options: &PipelineOptions, oldest: Instant, nothing_waits: bool) -> bool {
    !batch.deliveries.is_empty() && (nothing_waits || is_full(batch, options) || oldest.elapsed() >= *options.batch_age)
}
