//! Signals and deadlines: the first signal asks the work to stop and to keep what it has, the second one, or the end
//! of the grace period, leaves at once. Leaving at once is as safe as a crash: only commits count.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Loaded};
use crate::daemon::{Daemon, Source};
use crate::destination::{Db, DbError, View};
use crate::notify::Notify;
use crate::plan::{self, Clients, PlanError, Wanted};
use crate::sync::{self, PlannedResource, SyncReport};
use crate::tasks::TaskGroup;
use crate::web;

/// Closing the file moves the WAL into it; that must not take longer.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(60);

/// A daemon whose disk is full looks so often whether there is room again.
const FULL_EVERY: Duration = Duration::from_secs(10);

/// The same signal again within this is the same request.
const ECHO_WITHIN: Duration = Duration::from_millis(500);

/// How supervised work ended.
#[derive(Debug)]
pub enum Ended<T> {
    /// By itself, or soon after the first signal.
    Done(T),
    /// Not in time: the process has to leave now.
    Cut,
}

/// The signals that end a process.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// None where it means something else.
    hangup: Option<Signal>,
}

impl Signals {
    /// Takes the signals over from the system's default, which would end the process.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: Some(signal(SignalKind::hangup())?),
        })
    }

    /// Waits for one of them, and names it.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            Some(_) = hang_up(self.hangup.as_mut()) => "SIGHUP",
        }
    }
}

/// The next signal of a kind that may not be listened to.
async fn hang_up(signal: Option<&mut Signal>) -> Option<()> {
    signal?.recv().await
}

/// Runs `work` to its end. The first signal cancels `stop`; then `work` has `grace` to end by itself.
pub async fn supervise<T>(
    signals: &mut Signals,
    stop: &CancellationToken,
    grace: Duration,
    work: impl Future<Output = T>,
) -> Ended<T> {
    let mut work = pin!(work);
    let mut deadline = None;
    let mut first = None;
    loop {
        tokio::select! {
            done = &mut work => return Ended::Done(done),
            name = signals.next() => {
                let now = Instant::now();
                if first.is_some_and(|first| is_echo(first, (name, now))) {
                    continue;
                }
                if deadline.is_some() {
                    tracing::warn!("{name} again: leaving at once; what is committed is kept");
                    return Ended::Cut;
                }
                tracing::warn!("{name}: stopping, and storing what was received (again: leave at once)");
                stop.cancel();
                first = Some((name, now));
                deadline = Some(now + grace);
            }
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                tracing::warn!("still not done after shutdown_grace: leaving at once; what is committed is kept");
                return Ended::Cut;
            }
        }
    }
}

/// Whether a signal is the first one once more: `timeout` and terminals tell the process and its group, which is one
/// request to stop and not two.
fn is_echo(first: (&str, Instant), again: (&str, Instant)) -> bool {
    first.0 == again.0 && again.1.duration_since(first.1) < ECHO_WITHIN
}

/// Why a run did not begin, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Nothing can be run.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The file cannot be opened or closed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The system does not hand over its signals.
    #[error("cannot listen for signals: {0}")]
    Signals(#[from] std::io::Error),
    /// A signal came before the file was open.
    #[error("stopped before anything was read; run again to begin")]
    Stopped,
    /// The status page cannot be served.
    #[error("cannot serve the status page on {listen}: {error}; choose another `web.listen`, or \"off\"")]
    Web {
        /// Where.
        listen: String,
        /// Why not.
        error: std::io::Error,
    },
    /// A signal came twice, or the grace period was over.
    #[error("stopped before everything received was stored; what was committed is kept, run again to go on")]
    Cut,
}

/// Opens the file, runs what is wanted once, and closes the file again, all of it under supervision. `watch` is shown
/// the plan while it runs, and is dropped with it.
///
/// # Errors
/// When the run cannot begin, or the file not be closed. What goes wrong with a resource stands in the report.
pub async fn run_sync<W: Future<Output = ()>>(
    config: &Config,
    wanted: &Wanted,
    watch: impl FnOnce(Vec<PlannedResource>) -> W,
) -> Result<SyncReport, RunError> {
    let mut signals = Signals::new()?;
    let stop = CancellationToken::new();
    let work = open_run_close(config, wanted, watch, &stop);
    match supervise(&mut signals, &stop, *config.pipeline.shutdown_grace, work).await {
        Ended::Done(result) => result,
        Ended::Cut => Err(RunError::Cut),
    }
}

async fn open_run_close<W: Future<Output = ()>>(
    config: &Config,
    wanted: &Wanted,
    watch: impl FnOnce(Vec<PlannedResource>) -> W,
    stop: &CancellationToken,
) -> Result<SyncReport, RunError> {
    // Nothing was received before the file is open: the first signal need not wait for another program to let go of it.
    let db = stop.run_until_cancelled(Db::open(&config.destination)).await.ok_or(RunError::Stopped)?;
    let db = Arc::new(db?);
    let mut clients = Clients::default();
    let plan = match plan::plan_of(config, wanted, &db, &mut clients).await {
        Ok(plan) => plan,
        Err(error) => {
            drop(clients);
            close(db).await?;
            return Err(error.into());
        }
    };
    let report = {
        let mut run = pin!(sync::sync(&plan, Arc::clone(&db), stop));
        let mut watched = pin!(watch(plan.resources.clone()));
        tokio::select! {
            report = &mut run => report,
            () = &mut watched => run.await,
        }
    };
    if let Err(error) = clients.close().await {
        tracing::error!(%error, "store the new refresh token");
    }
    if report.db_error.is_none()
        && let Err(error) = clients.close_budgets().await
    {
        tracing::warn!(%error, "store what is left of the budgets");
    }
    drop((plan, clients));
    // After a failed write the WAL still holds the data: the next start replays it. Nothing more is written to it.
    if report.db_error.is_none() {
        close(db).await?;
    }
    Ok(report)
}

/// Opens the file and runs what is due until a signal ends it. `source` is where the configuration comes from, again when
/// SIGHUP asks for it.
///
/// # Errors
/// When the daemon cannot begin, or the file cannot be written or closed.
pub async fn serve(loaded: Loaded, source: Source) -> Result<(), RunError> {
    let mut hangups = signal(SignalKind::hangup())?;
    let mut signals = Signals { hangup: None, ..Signals::new()? };
    let stop = CancellationToken::new();
    let grace = *loaded.config.pipeline.shutdown_grace;
    let work = serve_until_stopped(loaded, source, &mut hangups, &stop);
    match supervise(&mut signals, &stop, grace, work).await {
        Ended::Done(result) => result,
        Ended::Cut => Err(RunError::Cut),
    }
}

/// Runs the daemon, and begins anew where the disk was full: what is stored is whole, and what is not is read again.
async fn serve_until_stopped(
    loaded: Loaded,
    mut source: Source,
    hangups: &mut Signal,
    stop: &CancellationToken,
) -> Result<(), RunError> {
    let notify = Notify::from_env();
    let (mut latest, mut has_served) = (loaded, false);
    loop {
        let served = open_serve_close(latest.clone(), &mut source, &notify, hangups, stop, &mut has_served).await;
        let Err(RunError::Db(DbError::Full)) = &served else { return served };
        // Who starts it is to see at once that there is no room.
        if !has_served {
            return served;
        }
        tracing::error!("the disk is full: nothing is read until there is room again");
        notify.status("the disk is full: waits for room");
        notify.watchdog();
        let rest = notify.watchdog_interval().unwrap_or(FULL_EVERY).min(FULL_EVERY);
        if stop.run_until_cancelled(tokio::time::sleep(rest)).await.is_none() {
            return served;
        }
        // One that is broken changes nothing.
        latest = source.load().unwrap_or(latest);
    }
}

async fn open_serve_close(
    loaded: Loaded,
    source: &mut Source,
    notify: &Notify,
    hangups: &mut Signal,
    stop: &CancellationToken,
    has_served: &mut bool,
) -> Result<(), RunError> {
    // The file may have much to recover or to bring up to this version.
    let open = stop.run_until_cancelled(Db::open(&loaded.config.destination));
    let db = Arc::new(notify.meanwhile(open).await.ok_or(RunError::Stopped)??);
    let result = serve_open(loaded, source, Arc::clone(&db), notify, hangups, stop, has_served).await;
    match &result {
        // It is opened again by this very process, which must not have it open twice.
        Err(RunError::Db(DbError::Full)) => {
            if let Err(error) = close(db).await {
                tracing::debug!(%error, "close the database while the disk is full");
            }
        }
        // A file that was taken away is still open. Its WAL has to go into it now: beside another file in its place, the next
        // start would take it for that one's, and beside none for nobody's.
        Err(RunError::Db(DbError::Gone(_))) => close(db).await?,
        // After a failed write the WAL still holds the data: the next start replays it. Nothing more is written to it.
        Err(RunError::Db(_)) => {}
        Ok(()) | Err(_) => close(db).await?,
    }
    result
}

/// Shows the status page and runs what is due, with a file that is open. Nothing of it holds the file when this has ended.
async fn serve_open(
    loaded: Loaded,
    source: &mut Source,
    db: Arc<Db>,
    notify: &Notify,
    hangups: &mut Signal,
    stop: &CancellationToken,
    has_served: &mut bool,
) -> Result<(), RunError> {
    let web = loaded.config.web.clone();
    // After the file: where another daemon has both, it is the file that tells who that is.
    let listener = web::bind(&web).map_err(|error| RunError::Web { listen: web.listen.to_string(), error })?;
    let page_of = match listener {
        Some(listener) => Some((listener, View::open(db.path()).await?)),
        None => None,
    };
    let daemon = Daemon::new(source, loaded, db, notify, stop).await?;
    *has_served = true;
    let page_stops = stop.child_token();
    let mut page = TaskGroup::default();
    if let Some((listener, view)) = page_of {
        tracing::info!("the status page is on {}", listener.place());
        let (door, stops) = (daemon.door(), page_stops.clone());
        page.spawn((), async move { web::serve(listener, &web, door, view, stops).await });
    }
    let result = daemon.run(hangups).await;
    page_stops.cancel();
    while let Some(((), ended)) = page.next().await {
        if let Err(panic) = ended {
            tracing::error!(%panic, "the status page");
        }
    }
    Ok(result?)
}

async fn close(db: Arc<Db>) -> Result<(), DbError> {
    let Some(db) = Arc::into_inner(db) else {
        tracing::debug!("the database is still in use; the end of the process closes it");
        return Ok(());
    };
    tokio::time::timeout(CLOSE_TIMEOUT, db.close()).await.unwrap_or(Err(DbError::Timeout("close")))
}

#[cfg(test)]
mod tests {
    use super::{Duration, Instant, is_echo};

    #[test]
    fn x03_a_signal_that_comes_twice_at_once_is_one() {
        let first = Instant::now();
        let after = |ms| first + Duration::from_millis(ms);
        for (name, ms, echo) in
            [("SIGTERM", 0, true), ("SIGTERM", 499, true), ("SIGTERM", 500, false), ("SIGINT", 0, false)]
        {
            assert_eq!(is_echo(("SIGTERM", first), (name, after(ms))), echo, "{name} {ms}");
        }
    }
}
