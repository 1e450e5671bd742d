//! The daemon: runs what is due, for as long as it is left alone. Each run is the same as one of `highwater sync`; all of
//! them share one pipeline, and with it the limits of `[pipeline]`.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Fuse, FusedFuture};
use jiff::Timestamp;
use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::board::{Board, BudgetView, Door, LoadedConfig, Request};
use crate::config::{Config, Loaded};
use crate::destination::{Db, DbError, Outcome};
use crate::notify::Notify;
use crate::page::{ResourceId, RunKind};
use crate::plan::{self, Clients, PlanError};
use crate::sync::{Pipeline, PlannedResource, ResourceReport, SyncReport};
use crate::tasks::{Panicked, TaskGroup};

mod asked;
mod clock;
mod groups;
mod jobs;
mod known;
mod reload;
#[cfg(test)]
mod tests;

use clock::Now;
use jobs::Jobs;
pub use known::next_starts;
pub use reload::Source;

/// How often the daemon looks around: at its file, and what it shows.
const TICK: Duration = Duration::from_secs(1);

/// The thread that writes is asked for an answer so often, or as often as the service manager wants to hear.
const PING_EVERY: Duration = Duration::from_secs(5);

/// While it drains, the service manager is asked for so much more time, again and again.
const EXTEND_BY: Duration = Duration::from_secs(15);

/// Where it is a signal that stops it, whoever waits for the signal gives up so long before it does by itself, as it has
/// to where the file has failed.
const CUT_BEFORE: Duration = Duration::from_secs(1);

/// Jobs that begin before the daemon looks around again: a thousand can be due at once, and planning one asks the file.
const BEGIN_AT_ONCE: usize = 8;

/// Requests from the status page that may wait.
const REQUESTS_MAX: usize = 16;

/// A daemon at work.
#[derive(Debug)]
pub struct Daemon<'d> {
    source: &'d mut Source,
    config: Config,
    loaded: LoadedConfig,
    db: Arc<Db>,
    clients: Clients,
    pipeline: Pipeline,
    jobs: Jobs,
    runs: TaskGroup<u64, SyncReport>,
    started_at: Timestamp,
    /// When the writer's thread answered last.
    alive_at: Timestamp,
    board: watch::Sender<Arc<Board>>,
    requests: mpsc::Receiver<Request>,
    door: Door,
    notify: &'d Notify,
    status: String,
    /// Ends everything.
    stop: CancellationToken,
    /// Whether that was asked for, by a signal.
    asked_to_stop: CancellationToken,
    /// The file cannot be written any more.
    db_error: Option<DbError>,
}

impl<'d> Daemon<'d> {
    /// A daemon that has the file open and knows what became of earlier runs. It runs nothing yet.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn new(
        source: &'d mut Source,
        loaded: Loaded,
        db: Arc<Db>,
        notify: &'d Notify,
        stop: &CancellationToken,
    ) -> Result<Self, DbError> {
        db.end_runs_left_open().await?;
        let (asked_to_stop, stop) = (stop.clone(), stop.child_token());
        let pipeline = Pipeline::start(&loaded.config.pipeline, Arc::clone(&db), &stop);
        let shown = reload::shown(&loaded);
        let (sender, requests) = mpsc::channel(REQUESTS_MAX);
        let started_at = Timestamp::now();
        let board = Board {
            started_at,
            alive_at: started_at,
            database: db.path().to_owned(),
            config: shown.clone(),
            jobs: Vec::new(),
            budgets: Vec::new(),
            is_stopping: false,
        };
        let board = watch::Sender::new(Arc::new(board));
        let door = Door { board: board.subscribe(), requests: sender };
        let mut daemon = Self {
            source,
            config: loaded.config,
            loaded: shown,
            db,
            clients: Clients::default(),
            pipeline,
            jobs: Jobs::default(),
            runs: TaskGroup::default(),
            started_at,
            alive_at: started_at,
            board,
            requests,
            door,
            notify,
            status: String::new(),
            stop,
            asked_to_stop,
            db_error: None,
        };
        daemon.jobs.configure(None, &daemon.config, Now::read());
        if let Err(error) = daemon.learn(None).await {
            return daemon.pipeline.end().await.or(Ok(())).and(Err(error)); // Its processor has the file as well.
        }
        daemon.show(false);
        Ok(daemon)
    }

    /// The way to it.
    #[must_use]
    pub fn door(&self) -> Door {
        self.door.clone()
    }

    /// Runs what is due until it is stopped, and then until everything that was received is stored. `hangups` ask it to
    /// read its configuration again.
    ///
    /// # Errors
    /// When the file cannot be read or written any more.
    pub async fn run(mut self, hangups: &mut Signal) -> Result<(), DbError> {
        self.notify.ready();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pings = interval(self.notify.watchdog_interval().unwrap_or(PING_EVERY).min(PING_EVERY));
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ping: Fuse<BoxFuture<'static, Result<(), DbError>>> = Fuse::terminated();
        let (mut is_stopping, mut until) = (false, Instant::now());
        while !is_stopping || self.jobs.running() > 0 {
            let now = Now::read();
            self.jobs.look(now);
            let more = !is_stopping && self.begin_ready(now).await;
            self.show(is_stopping);
            tokio::select! {
                () = self.stop.cancelled(), if !is_stopping => {
                    is_stopping = true;
                    until = Instant::now() + *self.config.pipeline.shutdown_grace + CUT_BEFORE;
                    // Who says that it stops is ended by systemd, and one whose disk is full goes on when there is room.
                    if self.asked_to_stop.is_cancelled() {
                        self.notify.stopping();
                    }
                }
                Some((run, result)) = self.runs.next() => self.end_run(run, result).await,
                Some(request) = self.requests.recv(), if !is_stopping => self.answer(request).await,
                Some(()) = hangups.recv(), if !is_stopping => self.reload().await,
                _ = ticks.tick() => {
                    if is_stopping {
                        self.notify.extend(EXTEND_BY);
                    } else if self.source.has_changed() {
                        self.reload().await;
                    }
                }
                _ = pings.tick(), if ping.is_terminated() => {
                    let db = Arc::clone(&self.db);
                    ping = async move { db.ping().await }.boxed().fuse();
                }
                answered = &mut ping, if !ping.is_terminated() => match answered {
                    Ok(()) => {
                        self.alive_at = Timestamp::now();
                        self.notify.watchdog();
                    }
                    Err(error) => self.give_up(error),
                },
                () = sleep_until(until), if is_stopping => break,
                () = sleep(if more { Duration::ZERO } else { self.jobs.wait(now) }), if !is_stopping => {}
            }
        }
        self.close(until).await
    }

    /// Begins what is due, as far as nothing of it is being read; says whether there is more of it.
    async fn begin_ready(&mut self, now: Now) -> bool {
        let mut begun = 0;
        for number in self.jobs.ready(now) {
            let job = self.jobs.job(number);
            let kind = if job.is_wanted { RunKind::Sync } else { RunKind::Scheduled };
            // Credentials and limits that have changed wait until nobody uses the old ones.
            let is_free = |id: &ResourceId| {
                let source = self.config.sources.get(&*id.source);
                source.is_none_or(|source| self.clients.is_current(&id.source, &source.client))
                    || !self.jobs.is_reading(&id.source)
            };
            if !job.reads.iter().all(is_free) {
                continue;
            }
            if begun == BEGIN_AT_ONCE {
                return true;
            }
            begun += 1;
            let retried = job.retried.first();
            let planned = match retried {
                Some(id) => plan::retry(&self.config, id, &self.db, &mut self.clients).await,
                None => plan::plan(&self.config, &job.resources, &self.db, &mut self.clients).await,
            };
            let is_retry = retried.is_some();
            match planned {
                Ok(plan) => {
                    let kind_of = |planned: PlannedResource| match is_retry {
                        true => planned,
                        false => PlannedResource { kind, ..planned },
                    };
                    let planned: Vec<_> = plan.resources.into_iter().map(kind_of).collect();
                    let progress = planned.iter().map(|p| (p.id().clone(), Arc::clone(&p.progress))).collect();
                    let stop = self.stop.child_token();
                    let run = self.jobs.begin(number, is_retry, stop.clone(), progress, now);
                    self.runs.spawn(run, self.pipeline.run(planned, &stop));
                }
                Err(PlanError::Db(error)) => {
                    self.give_up(error);
                    return false;
                }
                Err(error) => {
                    tracing::error!(%error, "cannot begin a run");
                    let (ids, kind) = match retried {
                        Some(id) => (vec![id.clone()], RunKind::Retry),
                        None => (job.resources.clone(), kind),
                    };
                    self.jobs.could_not_begin(number);
                    let failures = ids.iter().map(|id| (id.clone(), kind, error.to_string())).collect();
                    if let Err(error) = self.enter(failures, &ids).await {
                        self.give_up(error);
                        return false;
                    }
                }
            }
        }
        false
    }

    async fn end_run(&mut self, run: u64, result: Result<SyncReport, Panicked>) {
        let read = self.jobs.end(run, Now::read());
        let failures = match result {
            Ok(report) => {
                report.resources.iter().for_each(log);
                match report.db_error {
                    None => {}
                    Some(DbError::Busy) => tracing::error!("another program held the database for too long"),
                    Some(error) => return self.give_up(error),
                }
                let failed = |report: &ResourceReport| report.outcome == Outcome::Failed && !report.is_entered;
                let failed = report.resources.into_iter().filter(failed);
                failed.map(|report| (report.id, report.kind, report.error.unwrap_or_default())).collect()
            }
            Err(panic) => {
                tracing::error!(%panic, "a run ended in a panic");
                read.iter().map(|id| (id.clone(), RunKind::Scheduled, panic.to_string())).collect()
            }
        };
        if let Err(error) = self.enter(failures, &read).await {
            return self.give_up(error);
        }
        self.retire().await;
    }

    /// Closes clients that the configuration does not have any more, when nobody uses them.
    async fn retire(&mut self) {
        let (config, jobs) = (&self.config, &self.jobs);
        let is_kept = |source: &str, options: &crate::rest::ClientOptions| {
            jobs.is_reading(source) || config.sources.get(source).is_some_and(|source| source.client == *options)
        };
        if let Err(error) = self.clients.retain(is_kept).await {
            tracing::error!(%error, "close a client that is not needed any more");
        }
    }

    /// Ends, because the file cannot be read or written any more.
    fn give_up(&mut self, error: DbError) {
        tracing::error!(%error, "the database fails: nothing can be stored any more");
        self.db_error.get_or_insert(error);
        self.stop.cancel();
    }

    /// Takes over the configuration as it stands in its file now. One that is broken changes nothing.
    async fn reload(&mut self) {
        self.notify.reloading();
        match self.source.load() {
            Ok(loaded) => {
                if let Some(waits) = reload::waits_for_a_restart(&self.config, &loaded.config) {
                    tracing::warn!("{waits} has changed: that takes a restart");
                }
                self.loaded = reload::shown(&loaded);
                let old = std::mem::replace(&mut self.config, loaded.config);
                self.jobs.configure(Some(&old), &self.config, Now::read());
                tracing::info!(path = %self.loaded.path.display(), "took over the configuration");
                if let Err(error) = self.learn(None).await {
                    self.give_up(error);
                }
                self.retire().await;
            }
            Err(report) => {
                let text = report.to_string();
                tracing::error!("the configuration is broken and changes nothing:\n{text}");
                self.loaded.error = Some(text);
            }
        }
        self.notify.ready();
    }

    /// Publishes what it does, where that is anything new.
    fn show(&mut self, is_stopping: bool) {
        let budgets = self.clients.budgets().map(|budget| {
            let left = budget.left();
            BudgetView {
                name: budget.name().to_owned(),
                requests: left.limit.requests,
                per_ms: u64::try_from(left.limit.per.as_millis()).unwrap_or(u64::MAX),
                left: left.requests,
                free_at: left.free_at,
                in_flight: left.in_flight,
            }
        });
        let mut budgets: Vec<BudgetView> = budgets.collect();
        budgets.sort_by(|a, b| a.name.cmp(&b.name));
        let board = Board {
            started_at: self.started_at,
            alive_at: self.alive_at,
            database: self.db.path().to_owned(),
            config: self.loaded.clone(),
            jobs: self.jobs.show(),
            budgets,
            is_stopping,
        };
        let status = board.status();
        if status != self.status {
            self.notify.status(&status);
            self.status = status;
        }
        self.board.send_if_modified(|shown| {
            let is_new = **shown != board;
            if is_new {
                *shown = Arc::new(board);
            }
            is_new
        });
    }

    /// Stores what is left, and lets go of the clients. What does not end in time is left alone.
    async fn close(self, until: Instant) -> Result<(), DbError> {
        let (pipeline, clients, db_error) = (self.pipeline, self.clients, self.db_error);
        let ends = async {
            let ended = pipeline.end().await;
            if let Err(error) = clients.close().await {
                tracing::error!(%error, "store the new refresh token");
            }
            ended
        };
        let ended = timeout_at(until, ends).await.unwrap_or(Err(DbError::Timeout("close")));
        let result = db_error.map_or(ended, Err);
        if result.is_ok()
            && let Err(error) = clients.close_budgets().await
        {
            tracing::warn!(%error, "store what is left of the budgets");
        }
        result
    }
}

/// A line for the end of each resource's run.
fn log(report: &ResourceReport) {
    let (id, counts) = (&report.id, &report.counts);
    let (outcome, stop_reason) = (report.outcome.as_str(), report.stop_reason.as_str());
    match &report.error {
        None => tracing::info!(
            resource = %id, outcome, stop_reason, pages = report.pages, inserted = counts.inserted,
            updated = counts.updated, unchanged = counts.unchanged, "a run has ended"
        ),
        Some(error) => tracing::error!(resource = %id, outcome, stop_reason, pages = report.pages, "{error}"),
    }
}
