//! What a daemon shows of itself while it runs, and what can be asked of it. The scheduler writes the one and answers the
//! other; the web page, the metrics and systemd's status line read. Nothing in here decides anything.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use crate::page::ResourceId;
use crate::progress::ResourceProgress;

/// What a daemon is doing, at one moment. Counters of runs go on counting in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Board {
    /// When the daemon started.
    pub started_at: Timestamp,
    /// When the thread that writes the database answered last.
    pub alive_at: Timestamp,
    /// The database.
    pub database: PathBuf,
    /// The configuration that it runs with.
    pub config: LoadedConfig,
    /// What it runs, in the order of the configuration.
    pub jobs: Vec<Job>,
    /// The budgets of the APIs that were asked since the start.
    pub budgets: Vec<BudgetView>,
    /// It is storing what it received, and ends.
    pub is_stopping: bool,
}

impl Board {
    /// What it is doing, in one line.
    #[must_use]
    pub fn status(&self) -> String {
        let name = |job: &Job| job.resources.first().map(ToString::to_string).unwrap_or_default();
        let running: Vec<&Job> = self.jobs.iter().filter(|job| job.running.is_some()).collect();
        let mut parts = Vec::new();
        if self.is_stopping {
            parts.push("stopping: storing what was received".to_owned());
        }
        match running.as_slice() {
            [] => parts.push("nothing is due".to_owned()),
            [one] => parts.push(format!("reading {}", name(one))),
            [first, more @ ..] => parts.push(format!("reading {} and {} more", name(first), more.len())),
        }
        let next = self.jobs.iter().filter_map(|job| Some((job.next?, job))).min_by_key(|(at, _)| *at);
        if let Some((at, job)) = next.filter(|_| !self.is_stopping) {
            parts.push(format!("next {} at {}", name(job), at.strftime("%Y-%m-%d %H:%M:%S UTC")));
        }
        let failing = self.jobs.iter().filter(|job| job.failures > 0).count();
        if failing > 0 {
            parts.push(format!("{failing} of {} failing", self.jobs.len()));
        }
        if self.config.error.is_some() {
            parts.push("the configuration in its file is broken, the one before is in use".to_owned());
        }
        parts.join("; ")
    }
}

/// The configuration of a daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadedConfig {
    /// The file.
    pub path: PathBuf,
    /// When it was read.
    pub loaded_at: Timestamp,
    /// Its text, with stars in the place of everything that may be a secret.
    pub text: Arc<str>,
    /// Why a newer text of the file is not used.
    pub error: Option<String>,
}

/// Resources that are read together, at the same times: one, or a parent and its children.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// The resources, parents first.
    pub resources: Vec<ResourceId>,
    /// When it runs, as a person would read it; none where it only runs when asked.
    pub schedule: Option<String>,
    /// When it runs next; overdue where that is past, and none where it does not run by itself.
    pub next: Option<Timestamp>,
    /// Since when it does not run by itself, because somebody said so.
    pub paused_at: Option<Timestamp>,
    /// Runs that failed since the last one that did not.
    pub failures: u32,
    /// How often it was due while it was still running.
    pub coalesced: u64,
    /// How many of its runs have begun since the daemon started.
    pub begun: u64,
    /// The run that is under way.
    pub running: Option<Running>,
}

/// A run that is under way.
#[derive(Clone, Debug)]
pub struct Running {
    /// Since when.
    pub since: Timestamp,
    /// Its resources and how far they are.
    pub progress: Vec<(ResourceId, Arc<ResourceProgress>)>,
}

impl PartialEq for Running {
    /// Whether both are the same run, however far it is.
    fn eq(&self, other: &Self) -> bool {
        let same = |(a, b): (&(_, Arc<_>), &(_, Arc<_>))| a.0 == b.0 && Arc::ptr_eq(&a.1, &b.1);
        self.since == other.since
            && self.progress.len() == other.progress.len()
            && self.progress.iter().zip(&other.progress).all(same)
    }
}

/// What is left of a budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetView {
    /// Its name.
    pub name: String,
    /// Requests in each `per`, where it has a rate.
    pub requests: Option<u32>,
    /// The window that `requests` counts in, in milliseconds.
    pub per_ms: u64,
    /// Requests that are left: what the server said last, else what the rate allows at once; none where neither is known.
    pub left: Option<u64>,
    /// When the rate or the server's pause has nothing against another request; none where that is now.
    pub free_at: Option<Timestamp>,
    /// Requests in flight, where they are counted.
    pub in_flight: Option<u32>,
}

/// What can be asked of a daemon.
#[derive(Debug)]
pub struct Request {
    /// What to do.
    pub action: Action,
    /// Where the answer goes: what was done, or why not, as a person would read it.
    pub answer: oneshot::Sender<Result<String, String>>,
}

/// What a daemon can be asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Run the job of this resource as soon as there is room, whenever it is due.
    Run(ResourceId),
    /// Leave it alone until it is resumed, over restarts too. What runs goes on to its end.
    Pause(ResourceId),
    /// Run it at its times again.
    Resume(ResourceId),
    /// Try the records of it again that were set aside, before its next run.
    Retry(ResourceId),
}

/// The way to a daemon.
#[derive(Clone, Debug)]
pub struct Door {
    /// What it shows.
    pub board: watch::Receiver<Arc<Board>>,
    /// Where it is asked.
    pub requests: mpsc::Sender<Request>,
}

impl Door {
    /// Asks the daemon to do something and waits for the answer.
    ///
    /// # Errors
    /// Why it was not done.
    pub async fn ask(&self, action: Action) -> Result<String, String> {
        let (answer, answered) = oneshot::channel();
        let gone = || "the daemon is stopping".to_owned();
        self.requests.send(Request { action, answer }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;

    use super::Running;
    use crate::page::ResourceId;
    use crate::progress::ResourceProgress;

    #[test]
    fn a_run_is_the_same_however_far_it_is_and_another_one_is_not() {
        let id = ResourceId::new("s", "r");
        let progress = Arc::new(ResourceProgress::default());
        let running = Running { since: Timestamp::UNIX_EPOCH, progress: vec![(id.clone(), Arc::clone(&progress))] };
        let before = running.clone();
        progress.pages_committed.add(1);
        assert_eq!(running, before);
        for progress in [vec![], vec![(id, Arc::default())], vec![(ResourceId::new("s", "x"), progress)]] {
            assert_ne!(running, Running { progress, ..before.clone() });
        }
    }
}
