//! What stores, and what bounds reading, for one run or for the months of a daemon: the places of the readers, the memory
//! for their pages, one channel, and the processor at its end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::mpsc::{Sender, channel};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::{PlannedResource, SyncReport};
use crate::destination::{Counts, Db, DbError, Delivery, Outcome};
use crate::page::{Run, Slots};
use crate::processor::{self, Done, OnError, PipelineOptions};
use crate::progress::ResourceProgress;
use crate::tasks::{Panicked, TaskGroup};

/// Reads and stores what it is given, until it is ended.
#[derive(Debug)]
pub struct Pipeline {
    core: Arc<Core>,
    sender: Sender<Delivery>,
    processor: TaskGroup<(), Result<(), DbError>>,
}

/// What all runs of a pipeline share.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) db: Arc<Db>,
    pub(super) slots: Slots,
    /// Partitions that are read at the same time.
    pub(super) places: Semaphore,
    pub(super) on_error: OnError,
    /// What is being stored, by the number of its run.
    live: Mutex<HashMap<i64, Arc<Live>>>,
    /// Nothing is stored any more.
    pub(super) ended: CancellationToken,
}

/// A resource that is being read, as the processor and its children see it.
#[derive(Debug)]
pub(super) struct Live {
    /// How far it has come, for those that are read for its records.
    pub(super) life: watch::Sender<Life>,
    /// Its run, once that has begun.
    pub(super) run: OnceLock<Arc<Run>>,
    stored: Mutex<(Counts, u64)>,
    progress: Arc<ResourceProgress>,
    /// Ends everything that it was asked for together with.
    stop: CancellationToken,
}

/// How far a resource has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Life {
    /// Pages that are stored, and the partitions that their records give with them.
    commits: u64,
    /// How it ended; nothing more is stored then.
    pub(super) ended: Option<Outcome>,
}

impl Pipeline {
    /// Starts the processor. When that ends, by an error or by a panic too, `stop` is cancelled: nobody reads what nobody
    /// stores.
    #[must_use]
    pub fn start(options: &PipelineOptions, db: Arc<Db>, stop: &CancellationToken) -> Self {
        let (sender, receiver) = channel(options.channel_pages as usize);
        let core = Arc::new(Core {
            db,
            slots: Slots::new(options.channel_bytes),
            places: Semaphore::new(options.concurrency as usize),
            on_error: options.on_error,
            live: Mutex::default(),
            ended: CancellationToken::new(),
        });
        let mut processor = TaskGroup::default();
        processor.spawn((), {
            let (core, options, stop) = (Arc::clone(&core), options.clone(), stop.clone());
            async move {
                let _guards = (stop.drop_guard(), core.ended.clone().drop_guard());
                processor::process(receiver, &core.db, &options, |done| core.note(done)).await
            }
        });
        Self { core, sender, processor }
    }

    /// Reads these resources once, until each has ended or `stop` is cancelled. What was received by then is committed.
    pub fn run(
        &self,
        resources: Vec<PlannedResource>,
        stop: &CancellationToken,
    ) -> impl Future<Output = SyncReport> + Send + use<> {
        let (core, sender, stop) = (Arc::clone(&self.core), self.sender.clone(), stop.child_token());
        async move { super::run(core, sender, &resources, stop).await }
    }

    #[cfg(test)]
    pub(super) fn core(&self) -> Arc<Core> {
        Arc::clone(&self.core)
    }

    /// Commits what is left, when all runs have ended.
    ///
    /// # Errors
    /// Why the processor ended before.
    pub async fn end(mut self) -> Result<(), DbError> {
        drop(self.sender);
        match self.processor.next().await {
            Some(((), Ok(result))) => result,
            Some(((), Err(Panicked(_)))) => Err(DbError::Panic("process")),
            None => Ok(()),
        }
    }
}

impl Core {
    /// From here on what is stored of a run is noted.
    pub(super) fn watch(&self, run: &Arc<Run>, live: &Arc<Live>) {
        live.run.get_or_init(|| Arc::clone(run));
        self.lives().insert(run.run_id, Arc::clone(live));
    }

    pub(super) fn forget(&self, run: &Run) {
        self.lives().remove(&run.run_id);
    }

    fn note(&self, done: Done<'_>) {
        let (Done::Stored(run, _) | Done::Broken(run) | Done::Ended(run, _)) = done;
        let Some(live) = self.lives().get(&run.run_id).map(Arc::clone) else { return };
        match done {
            Done::Stored(_, counts) => live.stored(counts),
            // Its reader may have ended well before: only here it shows that the resource failed.
            Done::Broken(_) if self.on_error == OnError::FailFast => live.stop.cancel(),
            Done::Broken(_) => {}
            Done::Ended(_, outcome) => live.life.send_modify(|life| life.ended = Some(outcome)),
        }
    }

    fn lives(&self) -> std::sync::MutexGuard<'_, HashMap<i64, Arc<Live>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    pub(super) fn new(planned: &PlannedResource, stop: &CancellationToken) -> Self {
        Self {
            life: watch::Sender::default(),
            run: OnceLock::new(),
            stored: Mutex::default(),
            progress: Arc::clone(&planned.progress),
            stop: stop.clone(),
        }
    }

    fn stored(&self, counts: &Counts) {
        self.progress.pages_committed.add(1);
        self.progress.records_committed.add(counts.received);
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        stored.0.add(counts);
        stored.1 += 1;
        drop(stored);
        self.life.send_modify(|life| life.commits += 1);
    }

    /// What is stored of it, and in how many pages.
    pub(super) fn sum(&self) -> (Counts, u64) {
        *self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether its end is stored, too.
    pub(super) fn has_ended(&self) -> bool {
        self.life.borrow().ended.is_some()
    }
}
