//! One run: resources are read side by side, their pages flow through one bounded channel into the processor, and
//! what became of each resource comes back as a report. `sync` and every later way of running use this.

use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc::{Sender, channel};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::destination::{Counts, Db, DbError, Delivery, Outcome};
use crate::page::{ResourceId, RunKind, Slots};
use crate::processor::{self, Done, OnError, PipelineOptions};
use crate::progress::{Activity, ResourceProgress};
use crate::source::Resource;
use crate::tasks::{Panicked, TaskGroup};

mod partition;
mod report;
mod resource;

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
    /// Partitions at the same time; or, where there is one and no more will come, pages in flight.
    pub concurrency: usize,
    /// Its counters.
    pub progress: Arc<ResourceProgress>,
}

/// How far a resource has come, for those that are read for its records.
#[derive(Clone, Copy, Debug, Default)]
struct Life {
    /// Pages that are stored, and the partitions that their records give with them.
    commits: u64,
    /// How it ended; nothing more is stored then.
    ended: Option<Outcome>,
}

impl Shared {
    fn change_life(&self, id: &ResourceId, change: impl FnOnce(&mut Life)) {
        if let Some(life) = self.parents.get(id) {
            life.send_modify(change);
        }
    }
}

/// What every reader of a run shares.
#[derive(Debug)]
struct Shared {
    db: Arc<Db>,
    slots: Slots,
    /// Partitions that are read at the same time.
    places: Semaphore,
    /// Resources without relatives that have had their first place, in the order of the plan: only then the next one
    /// stands in line.
    begun: watch::Sender<usize>,
    /// How far the resources have come that others wait for.
    parents: HashMap<ResourceId, watch::Sender<Life>>,
    stop: CancellationToken,
}

/// Runs the plan until every resource has ended or `stop` is cancelled. What was received by then is committed.
pub async fn sync(plan: &SyncPlan, db: Arc<Db>, stop: &CancellationToken) -> SyncReport {
    let stop = stop.child_token();
    let (sender, receiver) = channel(plan.pipeline.channel_pages as usize);
    let parents: HashSet<ResourceId> = plan.resources.iter().filter_map(|planned| planned.parent().cloned()).collect();
    let shared = Arc::new(Shared {
        db: Arc::clone(&db),
        slots: Slots::new(plan.pipeline.channel_bytes),
        places: Semaphore::new(plan.pipeline.concurrency as usize),
        begun: watch::Sender::new(0),
        parents: parents.into_iter().map(|id| (id, watch::Sender::default())).collect(),
        stop: stop.clone(),
    });
    let stored: Arc<Mutex<HashMap<ResourceId, (Counts, u64)>>> = Arc::default();
    let progress: HashMap<ResourceId, Arc<ResourceProgress>> =
        plan.resources.iter().map(|planned| (planned.id().clone(), Arc::clone(&planned.progress))).collect();

    let mut processor = TaskGroup::default();
    processor.spawn((), {
        let (stored, pipeline, stop) = (Arc::clone(&stored), plan.pipeline.clone(), stop.clone());
        let shared = Arc::clone(&shared);
        async move {
            // However it ends, by an error or by a panic too: nobody reads what nobody stores.
            let _stop = stop.clone().drop_guard();
            let note = |done: Done<'_>| match done {
                Done::Stored(run, counts) => {
                    let id = &run.target.id;
                    if let Some(progress) = progress.get(id) {
                        progress.pages_committed.add(1);
                        progress.records_committed.add(counts.received);
                    }
                    let mut stored = stored.lock().unwrap_or_else(PoisonError::into_inner);
                    let (sum, pages) = stored.entry(id.clone()).or_default();
                    sum.add(counts);
                    *pages += 1;
                    shared.change_life(id, |life| life.commits += 1);
                }
                // Its reader may have ended well before: only here it shows that the resource failed.
                Done::Broken(_) if pipeline.on_error == OnError::FailFast => stop.cancel(),
                Done::Broken(_) => {}
                Done::Ended(run, outcome) => shared.change_life(&run.target.id, |life| life.ended = Some(outcome)),
            };
            processor::process(receiver, &db, &pipeline, note).await
        }
    });
    let mut ends = read_all(plan, &shared, sender).await;
    let mut db_error = match processor.next().await {
        Some(((), Ok(result))) => result.err(),
        Some(((), Err(Panicked(_)))) => Some(DbError::Panic("process")),
        None => None,
    };
    let mut child_tables = HashMap::new();
    if db_error.is_none() {
        match self::child_tables(plan, &shared.db).await {
            Ok(tables) => child_tables = tables,
            Err(error) => db_error = Some(error),
        }
    }
    let stored = stored.lock().unwrap_or_else(PoisonError::into_inner);
    let resources = plan
        .resources
        .iter()
        .map(|planned| {
            let end = ends.remove(planned.id()).expect("every planned resource has ended");
            let child_tables = child_tables.remove(planned.id()).unwrap_or_default();
            let stored = stored.get(planned.id()).copied().unwrap_or_default();
            ResourceReport { child_tables, ..report(planned, end, stored, &mut db_error) }
        })
        .collect();
    SyncReport { resources, db_error }
}

/// The tables that the lists of each resource are in.
async fn child_tables(plan: &SyncPlan, db: &Db) -> Result<HashMap<ResourceId, Vec<String>>, DbError> {
    let mut tables = HashMap::new();
    for planned in &plan.resources {
        let target = &planned.resource.target;
        if target.layout.max_table_nesting > 0 {
            tables.insert(target.id.clone(), db.child_tables(&target.table).await?);
        }
    }
    Ok(tables)
}

impl PlannedResource {
    /// A resource whose partitions are all read once.
    #[must_use]
    pub fn new(resource: Resource) -> Self {
        Self {
            kind: RunKind::Sync,
            partitions: resource.partitions.clone(),
            concurrency: resource.concurrency,
            resource: Arc::new(resource),
            progress: Arc::default(),
        }
    }

    /// The resource whose records it waits for.
    fn parent(&self) -> Option<&ResourceId> {
        self.resource.parent.as_ref().filter(|_| self.kind == RunKind::Sync)
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

/// Reads the resources, `concurrency` at a time, in the order of the plan.
async fn read_all(plan: &SyncPlan, shared: &Arc<Shared>, sender: Sender<Delivery>) -> HashMap<ResourceId, ReadEnd> {
    let mut readers = TaskGroup::default();
    let mut begun = resource::begin_families(plan, shared).await;
    let mut number = 0;
    for planned in &plan.resources {
        let begun = begun.remove(planned.id());
        let reader = resource::read(Arc::clone(shared), planned.clone(), number, begun, sender.clone());
        readers.spawn(planned.clone(), reader);
        number += usize::from(!shared.is_family(planned));
    }
    drop(sender);
    let mut ends = HashMap::new();
    while let Some((planned, result)) = readers.next().await {
        planned.progress.set(Activity::Ended);
        let end = ReadEnd::of_task(result);
        // One that could not even begin has no end in the file.
        shared.change_life(planned.id(), |life| {
            if end.run.is_none() {
                life.ended.get_or_insert(end.outcome);
            }
        });
        if end.db_error.is_some() || (end.outcome == Outcome::Failed && plan.pipeline.on_error == OnError::FailFast) {
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
        let place = shared.stop.run_until_cancelled(shared.places.acquire()).await;
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
