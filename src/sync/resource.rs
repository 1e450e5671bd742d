//! One resource of a run: its partitions, so many at a time, and what became of them together.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc::Sender;
use tokio::sync::watch;

use super::partition::Reading;
use super::report::ReadEnd;
use super::{Life, PlannedResource, Shared, in_place, retry};
use crate::destination::{Begun, Db, DbError, Delivery, Ending, Outcome, PassEnd, RunStart, StoredPartition};
use crate::exit::Exit;
use crate::page::{ChildPass, ReadAgain, ResourceId, Run, RunKind, StopReason, WriteDisposition};

/// Partitions are fetched from the file so many at a time.
const FETCHED: usize = 64;

/// So many partitions that fail before one succeeds end the run of their resource: all of them would.
const FAILURES_MAX: u64 = 20;

/// A run that was entered, and what the file knew.
pub(super) type RunBegun = Result<(Arc<Run>, Begun), DbError>;

/// Enters the runs of all resources that have a parent or children, the children first: what a page of a parent stores
/// goes into their queues.
pub(super) async fn begin_families(resources: &[PlannedResource], shared: &Shared) -> HashMap<ResourceId, RunBegun> {
    let mut begun: HashMap<ResourceId, RunBegun> = HashMap::new();
    let mut left: Vec<&PlannedResource> = resources.iter().filter(|planned| shared.is_family(planned)).collect();
    while !left.is_empty() && !shared.stop.is_cancelled() {
        let is_left = |id: &ResourceId| left.iter().any(|planned| planned.id() == id);
        let has_begun = |planned: &&PlannedResource| !planned.resource.children.iter().any(|child| is_left(&child.id));
        // The configuration has no circles among parents; whoever is left over would be in one.
        let Some(next) = left.iter().position(has_begun) else { break };
        let planned = left.swap_remove(next);
        let children = planned.resource.children.iter().map(|child| {
            // None of one that is not selected, or cannot begin.
            let run = begun.get(&child.id).and_then(|begun| begun.as_ref().ok());
            let run = run.map(|(run, _)| (run.run_id, run.pass_id));
            let (records, lacking) = Default::default();
            ChildPass { number: child.number, id: child.id.clone(), run, again: child.again, records, lacking }
        });
        let children = children.collect();
        begun.insert(planned.id().clone(), begin(shared, planned, children).await);
    }
    begun
}

impl Shared {
    pub(super) fn is_family(&self, planned: &PlannedResource) -> bool {
        planned.parent().is_some() || !planned.resource.children.is_empty()
    }
}

/// Reads the partitions of a resource that are still to be read in this pass.
pub(super) async fn read(
    shared: Arc<Shared>,
    planned: PlannedResource,
    number: usize,
    begun: Option<RunBegun>,
    sender: Sender<Delivery>,
) -> ReadEnd {
    let begun = match begun {
        Some(begun) => begun,
        None => {
            let mut turn = shared.begun.subscribe();
            let waits = turn.wait_for(|begun| *begun >= number);
            // The sender lives as long as the run.
            if !matches!(shared.stop.run_until_cancelled(waits).await, Some(Ok(_))) {
                return ReadEnd::interrupted(None);
            }
            // Its turn has not come before there is a place for it.
            let begun = in_place(&shared, &planned.progress, async {
                shared.begun.send_replace(number + 1);
                // A run that is being entered is waited for, so that its end is entered, too.
                if shared.stop.is_cancelled() { None } else { Some(begin(&shared, &planned, Vec::new()).await) }
            });
            let Some(begun) = begun.await else { return ReadEnd::interrupted(None) };
            begun
        }
    };
    let (run, begun) = match begun {
        Ok(begun) => begun,
        Err(error) => return ReadEnd::from_db(error),
    };
    if planned.kind == RunKind::Retry {
        let end = retry::retry(&shared, &planned, &run, &sender).await;
        end_run(&planned, &run, &end, PassEnd::Open, &sender).await;
        return end;
    }
    let resource = &planned.resource;
    let is_only = planned.parent().is_none() && planned.partitions.len() == 1;
    let (side_by_side, pages) = if is_only { (1, resource.concurrency) } else { (planned.concurrency, 1) };
    let parent = planned.parent().and_then(|id| shared.live.get(id)).map(|live| live.life.subscribe());
    let reading = Reading { shared, planned: planned.clone(), run, sender, decided: begun.decided, pages, is_only };
    let ends = match read_partitions(&reading, side_by_side, parent).await {
        Ok(ends) => Ends { started_over: ends.started_over.or(begun.started_over), ..ends },
        Err(error) => return ReadEnd { run: Some(Arc::clone(&reading.run)), ..ReadEnd::from_db(error) },
    };
    let (end, pass) = ends.sum(&reading);
    end_run(&planned, &reading.run, &end, pass, &reading.sender).await;
    end
}

/// Enters the end of a run, behind everything that is on its way of it.
pub(super) async fn end_run(
    planned: &PlannedResource,
    run: &Arc<Run>,
    end: &ReadEnd,
    pass: PassEnd,
    sender: &Sender<Delivery>,
) {
    let ending = Ending {
        run: Arc::clone(run),
        outcome: end.outcome,
        stop_reason: end.stop_reason,
        error: end.error.clone(),
        requests: planned.progress.requests.get(),
        retries: planned.progress.retries.get(),
        pass,
    };
    if sender.send(Delivery::Ended(ending)).await.is_err() {
        tracing::debug!("the processor has ended before the run's end could be entered");
    }
}

async fn begin(shared: &Shared, planned: &PlannedResource, children: Vec<ChildPass>) -> RunBegun {
    let resource = &planned.resource;
    // A child whose pass begins with this run has nothing of what an interrupted read has brought.
    let begins_with_all = |child: &ChildPass| {
        child.again != ReadAgain::Always && child.run.is_some_and(|(run_id, pass_id)| run_id == pass_id)
    };
    let begun = shared
        .core
        .db
        .begin_run(RunStart {
            kind: planned.kind,
            target: (*resource.target).clone(),
            identity: resource.identity.clone(),
            request_fingerprint: resource.request_fingerprint.clone(),
            partitions: planned.partitions.clone(),
            ranges: planned.ranges.clone(),
            keeps_queue: resource.has_partial_parent,
            parent_keys: resource.parent_keys.clone(),
            needs_all: children.iter().any(begins_with_all),
            resume_within: resource.resume_within,
        })
        .await?;
    let mut run = Run::new(begun.run_id, begun.pass_id, Arc::clone(&resource.target), shared.stop.child_token());
    (run.children, run.kind, run.has_partial_parent) = (children, planned.kind, resource.has_partial_parent);
    if let (Some(parent), 1..) = (&resource.parent, begun.dropped) {
        tracing::warn!(
            resource = %planned.id(),
            "{} records of {parent} that were still to be read for are dropped: its request now needs other fields of its \
             parents; `{}` has all records come again",
            begun.dropped,
            all_again(planned, parent)
        );
    }
    let run = Arc::new(run);
    shared.core.watch(&run, &shared.live[planned.id()]);
    Ok((run, begun))
}

/// How far a run has come in the queue of its pass.
#[derive(Default)]
struct Queue {
    fetched: VecDeque<StoredPartition>,
    /// The place of the last one that was fetched of those that failed the last time, and of the others.
    after_failed: i64,
    after: i64,
}

impl Queue {
    /// The next partition. Those that could not be read the last time come when no other is left and `all_came`: they
    /// may fail again, and so many of them would end the run.
    async fn next(&mut self, db: &Db, run: &Run, all_came: bool) -> Result<Option<StoredPartition>, DbError> {
        if self.fetched.is_empty() {
            self.fetched = db.partitions(run, false, self.after, FETCHED).await?.into();
            self.after = self.fetched.back().map_or(self.after, |partition| partition.queued);
        }
        if self.fetched.is_empty() && all_came {
            self.fetched = db.partitions(run, true, self.after_failed, FETCHED).await?.into();
            self.after_failed = self.fetched.back().map_or(self.after_failed, |partition| partition.queued);
        }
        Ok(self.fetched.pop_front())
    }
}

/// Reads the partitions that wait in the file, and those that a parent's pages bring while it is being read.
async fn read_partitions(
    reading: &Reading,
    side_by_side: usize,
    mut parent: Option<watch::Receiver<Life>>,
) -> Result<Ends, DbError> {
    let (shared, run, progress) = (&reading.shared, &reading.run, &reading.planned.progress);
    let mut stored = shared.live[reading.planned.id()].life.subscribe();
    let (mut ends, mut queue, mut under_way) = (Ends::default(), Queue::default(), FuturesUnordered::new());
    loop {
        // Looked at before the file is: what comes between the two is seen the next time.
        let parent_ended = parent.as_mut().map(|parent| parent.borrow_and_update().ended);
        let all_came = parent_ended != Some(None);
        stored.borrow_and_update();
        // With its last page a partition can be queued once more, for what its parent has brought meanwhile.
        let all_stored = parent.is_none() || progress.pages_read.get() == progress.pages_committed.get();
        while under_way.len() < side_by_side && !ends.are_final && !run.stop.is_cancelled() {
            let Some(partition) = queue.next(&shared.core.db, run, all_came).await? else { break };
            under_way.push(in_place(shared, progress, reading.read_and_enter(partition)));
        }
        let goes_on = !ends.are_final && !run.stop.is_cancelled();
        if under_way.is_empty() && (all_came && all_stored || !goes_on) {
            let failed = matches!(parent_ended, Some(Some(Outcome::Incomplete | Outcome::Failed)));
            ends.parent_incomplete = failed && goes_on;
            if goes_on && !failed {
                ends.misnamed = misnamed(reading).await?;
            }
            break;
        }
        let end = tokio::select! {
            end = under_way.next(), if !under_way.is_empty() => end,
            () = changed(parent.as_mut()), if !all_came && goes_on => None,
            () = changed(Some(&mut stored)), if !all_stored && under_way.is_empty() => None,
            () = run.stop.cancelled(), if under_way.is_empty() => None,
        };
        if let Some(end) = end {
            ends.add(end, reading.is_only);
        }
        if ends.are_final {
            // What the others have received is stored; their requests in flight are dropped.
            run.stop.cancel();
        }
    }
    ends.interrupted |= run.stop.is_cancelled() && !ends.are_final;
    Ok(ends)
}

/// Why a child has no partition at all: its parent has records, but none of them has the fields that its request needs.
async fn misnamed(reading: &Reading) -> Result<Option<String>, DbError> {
    let (shared, planned) = (&reading.shared, &reading.planned);
    let Some((id, parent)) = planned.parent().and_then(|id| Some((id, shared.live.get(id)?.run.get()?))) else {
        return Ok(None);
    };
    let Some(pass) = parent.children.iter().find(|child| child.id == *planned.id()) else { return Ok(None) };
    let (records, lacking) = (pass.records.load(Ordering::Relaxed), pass.lacking.load(Ordering::Relaxed));
    let has_partial_parent = planned.resource.has_partial_parent;
    if records == 0 || lacking < records || shared.core.db.has_partitions(&reading.run, has_partial_parent).await? {
        return Ok(None);
    }
    let prefix = format!("{}.", id.resource);
    let fields = planned.resource.parent_keys.iter().filter(|key| key.starts_with(&prefix));
    let fields: Vec<String> = fields.map(|key| format!("${{resources.{key}}}")).collect();
    let then = if has_partial_parent { format!(", and then `{}`", all_again(planned, id)) } else { String::new() };
    Ok(Some(format!(
        "{}: none of {records} records of {id} has what is asked for with {}: correct the name of the field{then}",
        planned.id(),
        fields.join(", ")
    )))
}

/// The command that makes the parent of a resource bring all its records again. Where only what has changed counts, they
/// have to become new rows.
fn all_again(planned: &PlannedResource, parent: &ResourceId) -> String {
    let rows = if planned.resource.from_parent.only_changed { " --drop-rows" } else { "" };
    format!("highwater reset{rows} {parent}")
}

/// Waits until a resource has stored more, or has ended.
async fn changed(life: Option<&mut watch::Receiver<Life>>) {
    match life {
        // The senders live as long as the run.
        Some(life) => drop(life.changed().await),
        None => std::future::pending().await,
    }
}

/// What became of the partitions of a run.
#[derive(Default)]
struct Ends {
    complete: u64,
    failed: u64,
    interrupted: bool,
    /// The others need not be tried.
    are_final: bool,
    /// There may be partitions that its parent has not come to.
    parent_incomplete: bool,
    /// Why nothing can be read for the records of its parent.
    misnamed: Option<String>,
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
                let says_less = |worst: &ReadEnd| worst.outcome == Outcome::Incomplete && worst.error.is_none();
                if self.worst.as_ref().is_none_or(|worst| end.error.is_some() && says_less(worst)) {
                    self.worst = Some(end);
                }
            }
            Outcome::Failed => {
                self.failed += 1;
                self.are_final |= is_only || end.fails_all || self.failed >= FAILURES_MAX && self.complete == 0;
                let is_worse = |worst: &ReadEnd| worst.outcome != Outcome::Failed || end.exit < worst.exit;
                if self.worst.as_ref().is_none_or(is_worse) {
                    self.worst = Some(end);
                }
            }
        }
    }

    /// The end of the run as a whole, and what becomes of its pass.
    fn sum(self, reading: &Reading) -> (ReadEnd, PassEnd) {
        let run = &reading.run;
        let pass = self.pass(reading);
        let end = match self.worst {
            Some(worst) if self.failed > 1 => {
                let more = self.failed - 1;
                let error = worst.error.map(|error| format!("{error} (and {more} more partitions failed)"));
                ReadEnd { error, ..worst }
            }
            Some(worst) => worst,
            None if self.parent_incomplete && !self.interrupted => {
                let parent = reading.planned.resource.parent.as_ref();
                let error =
                    parent.map(|parent| format!("{}: its parent {parent} was not read to its end", run.target.id));
                ReadEnd { error, ..ReadEnd::interrupted(Some(Arc::clone(run))) }
            }
            None if self.misnamed.is_some() => {
                ReadEnd { error: self.misnamed, ..ReadEnd::failed(Some(Arc::clone(run)), String::new(), Exit::Config) }
            }
            None if self.interrupted => ReadEnd::interrupted(Some(Arc::clone(run))),
            None => self.last.unwrap_or_else(|| ReadEnd::complete(run, StopReason::NoNext)),
        };
        (ReadEnd { resumed_at: self.resumed_at, started_over: self.started_over, ..end }, pass)
    }

    fn pass(&self, reading: &Reading) -> PassEnd {
        if self.interrupted || self.are_final || self.parent_incomplete || self.misnamed.is_some() {
            return PassEnd::Open;
        }
        // Where reading a complete partition again would double its rows, the next run reads only what is left.
        let reads_again = match reading.run.target.disposition {
            WriteDisposition::Merge => true,
            WriteDisposition::Append => reading.planned.resource.incremental.is_some(),
            WriteDisposition::Replace => false,
        };
        match self.worst.as_ref().map(|worst| worst.outcome) {
            None => PassEnd::Complete,
            Some(Outcome::Failed) if reads_again => PassEnd::Over,
            Some(_) => PassEnd::Open,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::channel;
    use tokio_util::sync::CancellationToken;

    use super::super::Pipeline;
    use super::*;
    use crate::config::{Env, load_text};
    use crate::destination::{Db, DestinationOptions};
    use crate::plan::{Clients, plan};
    use crate::processor::PipelineOptions;

    #[tokio::test]
    async fn a_run_that_is_being_entered_when_the_signal_comes_is_ended_as_interrupted() {
        rustls::crypto::ring::default_provider().install_default().ok();
        let folder = tempfile::tempdir().unwrap();
        let options = DestinationOptions { path: folder.path().join("x.db"), ..DestinationOptions::default() };
        let db = Arc::new(Db::open(&options).await.unwrap());
        let text = "[sources.s.client]\nbase_url = \"http://127.0.0.1:9/\"\n[sources.s.resources.r]\n";
        let config = load_text("config.toml", text, &Env::with([("", ""); 0])).unwrap().config;
        let plan = plan(&config, &[ResourceId::new("s", "r")], &db, &mut Clients::default()).await.unwrap();
        let stop = CancellationToken::new();
        let pipeline = Pipeline::start(&PipelineOptions::default(), db, &CancellationToken::new());
        let shared = Arc::new(Shared::new(pipeline.core(), &plan.resources, stop.clone()));
        let (sender, mut receiver) = channel(1);
        let mut reader = Box::pin(read(shared, plan.resources[0].clone(), 0, None, sender));
        assert!(futures::poll!(&mut reader).is_pending(), "it is being entered");
        stop.cancel();
        assert_eq!(reader.await.outcome, Outcome::Incomplete);
        let Some(Delivery::Ended(ending)) = receiver.recv().await else { panic!("its end is not entered") };
        assert_eq!((ending.outcome, ending.stop_reason), (Outcome::Incomplete, StopReason::Interrupted));
        assert_eq!(ending.error, None);
    }
}
