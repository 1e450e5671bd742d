//! One run: resources are read side by side, their pages flow through one bounded channel into the processor, and
//! what became of each resource comes back as a report. `sync` and every later way of running use this.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{Sender, channel};
use tokio_util::sync::CancellationToken;

use crate::destination::{Counts, Db, DbError, Delivery, Ending, Outcome, RunKind, RunStart};
use crate::page::{ResourceId, Run, Slots};
use crate::processor::{self, OnError, PipelineOptions};
use crate::progress::{Activity, ResourceProgress};
use crate::source::cursor::{self, Stored};
use crate::source::{self, Read, Resource, SourceError, SourceErrorKind, WalkError};
use crate::tasks::{Panicked, TaskGroup};

mod report;

use report::{ReadEnd, end_of, report};
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
    /// Its counters.
    pub progress: Arc<ResourceProgress>,
}

/// What every reader of a run shares.
#[derive(Debug)]
struct Shared {
    db: Arc<Db>,
    slots: Slots,
    /// Resources that are read at the same time.
    places: Semaphore,
    stop: CancellationToken,
}

/// Runs the plan until every resource has ended or `stop` is cancelled. What was received by then is committed.
pub async fn sync(plan: &SyncPlan, db: Arc<Db>, stop: &CancellationToken) -> SyncReport {
    let stop = stop.child_token();
    let (sender, receiver) = channel(plan.pipeline.channel_pages as usize);
    let shared = Arc::new(Shared {
        db: Arc::clone(&db),
        slots: Slots::new(plan.pipeline.channel_bytes),
        places: Semaphore::new(plan.pipeline.concurrency as usize),
        stop: stop.clone(),
    });
    let stored: Arc<Mutex<HashMap<ResourceId, (Counts, u64)>>> = Arc::default();
    let progress: HashMap<ResourceId, Arc<ResourceProgress>> =
        plan.resources.iter().map(|planned| (planned.id().clone(), Arc::clone(&planned.progress))).collect();

    let mut processor = TaskGroup::default();
    processor.spawn((), {
        let (stored, pipeline, stop) = (Arc::clone(&stored), plan.pipeline.clone(), stop.clone());
        async move {
            // However it ends, by an error or by a panic too: nobody reads what nobody stores.
            let _stop = stop.clone().drop_guard();
            let note_stored = |run: &Run, counts: &Counts| {
                let id = &run.target.id;
                if let Some(progress) = progress.get(id) {
                    progress.pages_committed.add(1);
                    progress.records_committed.add(counts.received);
                }
                let mut stored = stored.lock().unwrap_or_else(PoisonError::into_inner);
                let (sum, pages) = stored.entry(id.clone()).or_default();
                sum.add(counts);
                *pages += 1;
            };
            // Its reader may have ended well before: only here it shows that the resource failed.
            let stop_siblings = |_: &Run| {
                if pipeline.on_error == OnError::FailFast {
                    stop.cancel();
                }
            };
            processor::process(receiver, &db, &pipeline, note_stored, stop_siblings).await
        }
    });
    let mut ends = read_all(plan, &shared, sender).await;
    let mut db_error = match processor.next().await {
        Some(((), Ok(result))) => result.err(),
        Some(((), Err(Panicked(_)))) => Some(DbError::Panic("process")),
        None => None,
    };
    let stored = stored.lock().unwrap_or_else(PoisonError::into_inner);
    let resources = plan
        .resources
        .iter()
        .map(|planned| {
            let end = ends.remove(planned.id()).expect("every planned resource has ended");
            report(planned, end, stored.get(planned.id()).copied().unwrap_or_default(), &mut db_error)
        })
        .collect();
    SyncReport { resources, db_error }
}

impl PlannedResource {
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
    for planned in &plan.resources {
        let reader = read_resource(Arc::clone(shared), planned.clone(), sender.clone());
        readers.spawn(planned.clone(), in_place(Arc::clone(shared), Arc::clone(&planned.progress), reader));
    }
    drop(sender);
    let mut ends = HashMap::new();
    while let Some((planned, result)) = readers.next().await {
        planned.progress.set(Activity::Ended);
        let end = ReadEnd::of_task(result);
        if end.db_error.is_some() || (end.outcome == Outcome::Failed && plan.pipeline.on_error == OnError::FailFast) {
            shared.stop.cancel();
        }
        ends.insert(planned.id().clone(), end);
    }
    ends
}

/// Runs a reader while it has one of the places, which it leaves while it waits for long.
async fn in_place<T>(shared: Arc<Shared>, progress: Arc<ResourceProgress>, reader: impl Future<Output = T>) -> T {
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

/// Reads one resource, from where its last read stopped or from the beginning.
async fn read_resource(shared: Arc<Shared>, planned: PlannedResource, sender: Sender<Delivery>) -> ReadEnd {
    let mut given_up: Option<String> = None;
    loop {
        if shared.stop.is_cancelled() {
            return ReadEnd::interrupted(None);
        }
        let (mut end, stale) = match read_once(&shared, &planned, &sender, given_up.as_deref()).await {
            Ok(ended) => ended,
            Err(error) => return ReadEnd::from_db(error),
        };
        match stale {
            // A stored position that the API no longer takes is tried once; a new read has none.
            Some(reason) if given_up.is_none() => given_up = Some(reason),
            _ => {
                if end.started_over.is_none() {
                    end.started_over = given_up;
                }
                return end;
            }
        }
    }
}

/// Reads a resource once. The second value says why the position that it started from is of no more use.
async fn read_once(
    shared: &Shared,
    planned: &PlannedResource,
    sender: &Sender<Delivery>,
    given_up: Option<&str>,
) -> Result<(ReadEnd, Option<String>), DbError> {
    let resource = &planned.resource;
    let mut start = start_of(shared, resource).await?;
    if given_up.is_some() {
        start.position = None;
    }
    let begin = shared.db.begin_run(RunStart {
        kind: RunKind::Sync,
        target: (*resource.target).clone(),
        identity: resource.identity.clone(),
        request_fingerprint: resource.request_fingerprint.clone(),
        resume: start.position.is_some(),
        gave_up: given_up.map(str::to_owned),
    });
    // Another program may hold the file for long. A run that is entered all the same is closed by the next one.
    let Some(begun) = shared.stop.run_until_cancelled(begin).await else {
        return Ok((ReadEnd::interrupted(None), None));
    };
    let begun = begun?;
    let run = Arc::new(Run::new(begun.run_id, begun.read_id, Arc::clone(&resource.target), shared.stop.child_token()));
    let resumed_at = start.position.as_ref().map(source::describe);
    if let Some(position) = &resumed_at {
        tracing::info!(resource = %resource.target.id, %position, "goes on where the last run stopped");
    }
    if let Some(reason) = &start.started_over {
        tracing::warn!(resource = %resource.target.id, %reason, "starts over");
    }
    let started_over = start.started_over.clone();
    planned.progress.set(Activity::Reading);
    let mut pages = pin!(source::pages(Read {
        resource: Arc::clone(resource),
        run: Arc::clone(&run),
        start,
        slots: shared.slots.clone(),
        progress: Arc::clone(&planned.progress),
    }));
    let mut last = None;
    let error = loop {
        match pages.next().await {
            Some(Ok(page)) => {
                last = page.end;
                if sender.send(Delivery::Page(Box::new(page))).await.is_err() {
                    break None;
                }
            }
            Some(Err(error)) => break Some(error),
            None => break None,
        }
    };
    if let Some(error) = error.as_ref().filter(|error| is_stale(error)) {
        // Nothing of this run was stored. The next one takes its place, and says why.
        let reason = format!("the API no longer takes its stored position ({})", error.kind);
        return Ok((ReadEnd::interrupted(Some(run)), Some(reason)));
    }
    let abandon = error.as_ref().is_some_and(gives_up_position);
    let mut end = end_of(&run, last, error);
    end.resumed_at = resumed_at;
    end.started_over = started_over;
    let ending = Ending {
        run,
        outcome: end.outcome,
        stop_reason: end.stop_reason,
        error: end.error.clone(),
        requests: planned.progress.requests.get(),
        retries: planned.progress.retries.get(),
        abandon,
    };
    if sender.send(Delivery::Ended(ending)).await.is_err() {
        tracing::debug!("the processor has ended before the run's end could be entered");
    }
    Ok((end, None))
}

async fn start_of(shared: &Shared, resource: &Resource) -> Result<cursor::Start, DbError> {
    let stored = shared.db.checkpoint(&resource.target.id).await?;
    let abandoned = stored.as_ref().is_some_and(|stored| stored.abandoned);
    let stored = stored.map(|stored| Stored {
        position: stored.position,
        request_fingerprint: stored.request_fingerprint,
        updated_at: stored.updated_at,
        decided: stored.decided,
    });
    let mut start = cursor::start(
        stored.as_ref(),
        &resource.request_fingerprint,
        &resource.paginator,
        resource.resume_within,
        Timestamp::now(),
    );
    if abandoned && start.position.is_none() && start.started_over.is_none() {
        start.started_over = Some("the last read was given up: its position led nowhere".to_owned());
    }
    if let Some(fingerprint) = resource.validity_fingerprint.as_ref().filter(|_| start.position.is_none()) {
        start.known = shared.db.validators(&resource.target.id, "", fingerprint).await?;
    }
    Ok(start)
}

/// Whether the position that an earlier run stored is refused by the API.
fn is_stale(error: &SourceError) -> bool {
    error.at_stored_position
        && matches!(&error.kind, SourceErrorKind::Request(request) if request.is_position_rejected())
}

/// Whether the next run has to start over: the stored position leads nowhere.
fn gives_up_position(error: &SourceError) -> bool {
    match &error.kind {
        SourceErrorKind::Request(request) => request.is_position_rejected() && !error.at_first_page,
        SourceErrorKind::Walk(WalkError::Loop(_)) => true,
        SourceErrorKind::Walk(WalkError::Paging(_)) => false,
    }
}
