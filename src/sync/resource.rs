//! One resource of a run: its partitions, so many at a time, and what became of them together.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc::Sender;

use super::partition::Reading;
use super::report::ReadEnd;
use super::{PlannedResource, Shared, in_place};
use crate::destination::{Begun, DbError, Delivery, Ending, Outcome, PassEnd, RunKind, RunStart, StoredPartition};
use crate::exit::Exit;
use crate::page::{Run, StopReason, WriteDisposition};

/// Partitions are fetched from the file so many at a time.
const FETCHED: usize = 64;

/// So many partitions that fail before one succeeds end the run of their resource: all of them would.
const FAILURES_MAX: u64 = 20;

/// Reads the partitions of a resource that are still to be read in this pass.
pub(super) async fn read(shared: Arc<Shared>, planned: PlannedResource, sender: Sender<Delivery>) -> ReadEnd {
    if shared.stop.is_cancelled() {
        return ReadEnd::interrupted(None);
    }
    // Its turn has not come before there is a place for it.
    let begin = in_place(&shared, &planned.progress, begin(&shared, &planned));
    // Another program may hold the file for long. A run that is entered all the same is closed by the next one.
    let Some(begun) = shared.stop.run_until_cancelled(begin).await else {
        return ReadEnd::interrupted(None);
    };
    let (run, begun) = match begun {
        Ok(begun) => begun,
        Err(error) => return ReadEnd::from_db(error),
    };
    let resource = &planned.resource;
    let is_only = resource.partitions.len() == 1;
    let (side_by_side, pages) = if is_only { (1, resource.concurrency) } else { (resource.concurrency, 1) };
    let reading = Reading { shared, planned: planned.clone(), run, sender, decided: begun.decided, pages, is_only };
    let ends = match read_partitions(&reading, side_by_side).await {
        Ok(ends) => Ends { started_over: ends.started_over.or(begun.started_over), ..ends },
        Err(error) => return ReadEnd { run: Some(Arc::clone(&reading.run)), ..ReadEnd::from_db(error) },
    };
    let (end, pass) = ends.sum(&reading);
    let ending = Ending {
        run: Arc::clone(&reading.run),
        outcome: end.outcome,
        stop_reason: end.stop_reason,
        error: end.error.clone(),
        requests: planned.progress.requests.get(),
        retries: planned.progress.retries.get(),
        pass,
    };
    if reading.sender.send(Delivery::Ended(ending)).await.is_err() {
        tracing::debug!("the processor has ended before the run's end could be entered");
    }
    end
}

async fn begin(shared: &Shared, planned: &PlannedResource) -> Result<(Arc<Run>, Begun), DbError> {
    let resource = &planned.resource;
    let begun = shared
        .db
        .begin_run(RunStart {
            kind: RunKind::Sync,
            target: (*resource.target).clone(),
            identity: resource.identity.clone(),
            request_fingerprint: resource.request_fingerprint.clone(),
            partitions: resource.partitions.clone(),
            resume_within: resource.resume_within,
        })
        .await?;
    let run = Run::new(begun.run_id, begun.pass_id, Arc::clone(&resource.target), shared.stop.child_token());
    Ok((Arc::new(run), begun))
}

/// Reads the partitions that wait in the file.
async fn read_partitions(reading: &Reading, side_by_side: usize) -> Result<Ends, DbError> {
    let (shared, run, progress) = (&reading.shared, &reading.run, &reading.planned.progress);
    let mut ends = Ends::default();
    let mut under_way = FuturesUnordered::new();
    let mut waiting: VecDeque<StoredPartition> = VecDeque::new();
    let mut after = 0;
    loop {
        while under_way.len() < side_by_side && !ends.are_final && !run.stop.is_cancelled() {
            if waiting.is_empty() {
                waiting = shared.db.partitions(&run.target.id, run.pass_id, after, FETCHED).await?.into();
                after = waiting.back().map_or(after, |partition| partition.queued);
            }
            let Some(partition) = waiting.pop_front() else { break };
            under_way.push(in_place(shared, progress, reading.read(partition)));
        }
        let Some(end) = under_way.next().await else { break };
        ends.add(end, reading.is_only);
        if ends.are_final {
            // What the others have received is stored; their requests in flight are dropped.
            run.stop.cancel();
        }
    }
    ends.interrupted |= run.stop.is_cancelled() && !ends.are_final;
    Ok(ends)
}

/// What became of the partitions of a run.
#[derive(Default)]
struct Ends {
    complete: u64,
    failed: u64,
    interrupted: bool,
    /// The others need not be tried.
    are_final: bool,
    /// The first one that failed, or that is not complete.
    worst: Option<ReadEnd>,
    /// The last one that is complete.
    last: Option<ReadEnd>,
    resumed_at: Option<String>,
    started_over: Option<String>,
}

impl Ends {
    fn add(&mut self, mut end: ReadEnd, is_only: bool) {
        self.resumed_at = self.resumed_at.take().or(end.resumed_at.take());
        self.started_over = self.started_over.take().or(end.started_over.take());
        match end.outcome {
            Outcome::Complete => {
                self.complete += 1;
                self.last = Some(end);
            }
            // What a signal or a sibling has cut off says nothing more.
            Outcome::Incomplete if self.are_final => {}
            Outcome::Incomplete => {
                // The budget is the same for all.
                self.are_final |= end.stop_reason == StopReason::Interrupted;
                self.interrupted |= end.stop_reason == StopReason::Interrupted;
                self.worst.get_or_insert(end);
            }
            Outcome::Failed => {
                self.failed += 1;
                let for_all = !matches!(end.exit, Some(Exit::Unavailable | Exit::Forbidden));
                self.are_final |= is_only || for_all || self.failed >= FAILURES_MAX && self.complete == 0;
                if self.worst.as_ref().is_none_or(|worst| worst.outcome != Outcome::Failed) {
                    self.worst = Some(end);
                }
            }
        }
    }

    /// The end of the run as a whole, and what becomes of its pass.
    fn sum(self, reading: &Reading) -> (ReadEnd, PassEnd) {
        let run = &reading.run;
        let is_replaced = run.target.disposition == WriteDisposition::Replace;
        let (end, pass) = match self.worst {
            Some(mut worst) => {
                if self.failed > 1 {
                    let more = self.failed - 1;
                    worst.error = worst.error.map(|error| format!("{error} (and {more} more partitions failed)"));
                }
                let all_tried = !self.interrupted && !self.are_final && worst.outcome == Outcome::Failed;
                (worst, if all_tried && !is_replaced { PassEnd::Over } else { PassEnd::Open })
            }
            None if self.interrupted => (ReadEnd::interrupted(Some(Arc::clone(run))), PassEnd::Open),
            None => (self.last.unwrap_or_else(|| ReadEnd::complete(run, StopReason::NoNext)), PassEnd::Complete),
        };
        (ReadEnd { resumed_at: self.resumed_at, started_over: self.started_over, ..end }, pass)
    }
}
