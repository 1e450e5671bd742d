//! One run: resources are read side by side, their pages flow through one bounded channel into the processor, and
//! what became of each resource comes back as a report. `sync` and every later way of running use this.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc::Sender;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::destination::{Db, DbError, Delivery, Outcome, PassEnd};
use crate::page::{RangeNotes, ResourceId, RunKind};
use crate::processor::{OnError, PipelineOptions};
use crate::progress::{Activity, ResourceProgress};
use crate::source::Resource;
use crate::tasks::TaskGroup;

mod course;
mod partition;
mod pipeline;
mod report;
mod resource;
mod retry;

pub use pipeline::Pipeline;
use pipeline::{Core, Life, Live};
use report::{ReadEnd, report};
pub use report::{ResourceReport, SyncReport, exit_of_db};

/// What to read, and how.
#[derive(Debug)]
pub struct SyncPlan {
    /// The resources, in the order of the configuration.
    pub resources: Vec<PlannedResource>,
    /// How much at once.
    pub pipeline: PipelineOptions,
}

/// A resource and what others see of its run.
#[derive(Clone, Debug)]
pub struct PlannedResource {
    /// The resource.
    pub resource: Arc<Resource>,
    /// What asks for it.
    pub kind: RunKind,
    /// Its partitions, as far as they are known before its parent is read.
    pub partitions: Vec<String>,
    /// Of a backfill, what there is to know of them.
    pub ranges: RangeNotes,
    /// Partitions at the same time; or, where there is one and no more will come, pages in flight.
    pub concurrency: usize,
    /// Its counters.
    pub progress: Arc<ResourceProgress>,
}

/// What the readers of a run share.
#[derive(Debug)]
struct Shared {
    core: Arc<Core>,
    /// The resources of the run.
    live: HashMap<ResourceId, Arc<Live>>,
    /// Resources without relatives that have had their first place, in the order of the plan: only then the next one
    /// stands in line.
    begun: watch::Sender<usize>,
    stop: CancellationToken,
}

impl Shared {
    fn new(core: Arc<Core>, resources: &[PlannedResource], stop: CancellationToken) -> Self {
        let live = |planned: &PlannedResource| (planned.id().clone(), Arc::new(Live::new(planned, &stop)));
        Self { core, live: resources.iter().map(live).collect(), begun: watch::Sender::new(0), stop }
    }
}

/// Runs the plan until every resource has ended or `stop` is cancelled. What was received by then is committed.
pub async fn sync(plan: &SyncPlan, db: Arc<Db>, stop: &CancellationToken) -> SyncReport {
    let stop = stop.child_token();
    let pipeline = Pipeline::start(&plan.pipeline, db, &stop);
    let mut report = pipeline.run(plan.resources.clone(), &stop).await;
    if let Err(error) = pipeline.end().await {
        // The first error of the file is the one to be told.
        report.db_error = Some(error);
    }
    report
}

/// Reads resources once in a pipeline that stores what comes.
async fn run(
    core: Arc<Core>,
    sender: Sender<Delivery>,
    resources: &[PlannedResource],
    stop: CancellationToken,
) -> SyncReport {
    let shared = Arc::new(Shared::new(core, resources, stop));
    let mut ends = read_all(resources, &shared, &sender).await;
    drop(sender);
    let mut db_error = None;
    let mut reports = Vec::with_capacity(resources.len());
    for planned in resources {
        let end = ends.remove(planned.id()).expect("every planned resource has ended");
        let live = &shared.live[planned.id()];
        if let Some(run) = live.run.get() {
            if end.db_error.is_none() {
                // Its last pages may still be on their way.
                let mut life = live.life.subscribe();
                let ended = life.wait_for(|life| life.ended.is_some());
                drop(shared.core.ended.run_until_cancelled(ended).await);
            }
            shared.core.forget(run);
        }
        let child_tables = match child_tables(&shared, planned).await {
            Ok(tables) => tables,
            Err(error) => {
                db_error.get_or_insert(error);
                Vec::new()
            }
        };
        reports.push(ResourceReport { child_tables, ..report(planned, end, live, &mut db_error) });
    }
    SyncReport { resources: reports, db_error }
}

/// The tables that the lists of a resource are in.
async fn child_tables(shared: &Shared, planned: &PlannedResource) -> Result<Vec<String>, DbError> {
    let target = &planned.resource.target;
    if target.layout.max_table_nesting == 0 || shared.core.ended.is_cancelled() {
        return Ok(Vec::new());
    }
    shared.core.db.child_tables(&target.table).await
}

impl PlannedResource {
    /// A resource whose partitions are all read once.
    #[must_use]
    pub fn new(resource: Resource) -> Self {
        Self {
            kind: RunKind::Sync,
            partitions: resource.partitions.clone(),
            ranges: RangeNotes::default(),
            concurrency: resource.concurrency,
            resource: Arc::new(resource),
            progress: Arc::default(),
        }
    }

    /// The resource whose records it waits for.
    fn parent(&self) -> Option<&ResourceId> {
        self.resource.parent.as_ref().filter(|_| self.kind.is_of_pass())
    }

    /// The id of its resource.
    #[must_use]
    pub fn id(&self) -> &ResourceId {
        &self.resource.target.id
    }
}

/// A reader that has to wait for longer than this gives its place to the next resource, so that one API's
/// `Retry-After` does not starve the others. When its wait is over it stands in line for a place again.
const LONG_WAIT: SignedDuration = SignedDuration::from_secs(2);

/// Reads the resources, as many at a time as there are places, in the order of the plan.
async fn read_all(
    resources: &[PlannedResource],
    shared: &Arc<Shared>,
    sender: &Sender<Delivery>,
) -> HashMap<ResourceId, ReadEnd> {
    let mut readers = TaskGroup::default();
    let mut begun = resource::begin_families(resources, shared).await;
    let mut number = 0;
    for planned in resources {
        let begun = begun.remove(planned.id());
        let reader = resource::read(Arc::clone(shared), planned.clone(), number, begun, sender.clone());
        readers.spawn(planned.clone(), reader);
        number += usize::from(!shared.is_family(planned));
    }
    let mut ends = HashMap::new();
    while let Some((planned, result)) = readers.next().await {
        planned.progress.set(Activity::Ended);
        let panicked = result.is_err();
        let end = ReadEnd::of_task(result);
        let live = &shared.live[planned.id()];
        match live.run.get() {
            // A reader that panicked could not end its run.
            Some(run) if panicked => resource::end_run(&planned, run, &end, PassEnd::Open, sender).await,
            Some(_) => {}
            // One that could not even begin has no end in the file.
            None => live.life.send_modify(|life| life.ended = Some(end.outcome)),
        }
        if end.db_error.is_some() || (end.outcome == Outcome::Failed && shared.core.on_error == OnError::FailFast) {
            shared.stop.cancel();
        }
        ends.insert(planned.id().clone(), end);
    }
    ends
}

/// Runs a reader while it has one of the places, which it leaves while it waits for long.
async fn in_place<T>(shared: &Shared, progress: &ResourceProgress, reader: impl Future<Output = T>) -> T {
    let mut reader = pin!(reader);
    loop {
        // A run that ends goes on without one: nothing more is sent.
        let place = shared.stop.run_until_cancelled(shared.core.places.acquire()).await;
        let ended = poll_fn(|context| match reader.as_mut().poll(context) {
            Poll::Ready(ended) => Poll::Ready(Some(ended)),
            Poll::Pending if waits_long(&progress.activity()) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        });
        if let Some(ended) = ended.await {
            return ended;
        }
        drop(place);
        woken().await;
    }
}

/// Waits until whatever this task waited for has happened.
async fn woken() {
    let mut asleep = false;
    poll_fn(|_| if std::mem::replace(&mut asleep, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

fn waits_long(activity: &Activity) -> bool {
    matches!(activity, Activity::Waiting { until, .. } if until.duration_since(Timestamp::now()) > LONG_WAIT)
}
