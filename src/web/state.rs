//! How a resource is, in one word, and whether all is well, in one sentence. Pure rules over what the daemon shows and
//! what the file says.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::html::{count, number, relative};
use crate::board::{Board, BudgetView, Job};
use crate::page::ResourceId;
use crate::progress::{Activity, ResourceProgress};

/// How long after its time a run is late: before that it only waits for its place.
const LATE_AFTER: SignedDuration = SignedDuration::from_secs(60);

/// Resources that the sentence names; of the others it says how many they are.
const NAMED_MAX: usize = 5;

/// How a resource is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// It is being read.
    Running,
    /// Its last run got everything.
    Complete,
    /// Its last run ended early, and the next one goes on.
    Incomplete,
    /// Its last run failed.
    Failed,
    /// It was due, and has not begun.
    Late,
    /// It does not run by itself, because somebody said so.
    Paused,
    /// It has never been read.
    Unread,
}

impl State {
    /// What is so of a resource; `outcome` is that of its last run that ended.
    pub(super) fn of(job: Option<&Job>, id: &ResourceId, outcome: Option<&str>, now: Timestamp) -> Self {
        if job.and_then(|job| progress(job, id)).is_some_and(|progress| progress.activity() != Activity::Ended) {
            return Self::Running;
        }
        if job.is_some_and(|job| job.paused_at.is_some()) {
            return Self::Paused;
        }
        match outcome {
            Some("failed") => Self::Failed,
            _ if job.is_some_and(|job| is_late(job, now)) => Self::Late,
            Some("incomplete") => Self::Incomplete,
            Some(_) => Self::Complete,
            None => Self::Unread,
        }
    }

    /// The word for it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Complete => "ok",
            Self::Incomplete => "incomplete",
            Self::Failed => "failed",
            Self::Late => "late",
            Self::Paused => "paused",
            Self::Unread => "not read yet",
        }
    }

    /// Its class in the style sheet.
    pub(super) fn class(self) -> Option<&'static str> {
        match self {
            Self::Running => Some("r"),
            Self::Complete => None,
            Self::Incomplete => Some("i"),
            Self::Failed => Some("f"),
            Self::Late => Some("l"),
            Self::Paused => Some("p"),
            Self::Unread => Some("u"),
        }
    }

    /// Whether somebody should look at it.
    fn is_trouble(self) -> bool {
        matches!(self, Self::Incomplete | Self::Failed | Self::Late)
    }
}

fn is_late(job: &Job, now: Timestamp) -> bool {
    job.running.is_none() && job.next.is_some_and(|next| next + LATE_AFTER < now)
}

/// The job that reads a resource.
pub(super) fn job<'a>(board: &'a Board, id: &ResourceId) -> Option<&'a Job> {
    board.jobs.iter().find(|job| job.resources.contains(id))
}

/// How far a resource is, where its job runs.
pub(super) fn progress<'a>(job: &'a Job, id: &ResourceId) -> Option<&'a ResourceProgress> {
    let running = job.running.as_ref()?;
    running.progress.iter().find(|(other, _)| other == id).map(|(_, progress)| &**progress)
}

/// What a run has done so far and does now.
pub(super) fn activity(progress: &ResourceProgress) -> String {
    let so_far = || {
        let rows = count(progress.records_committed.get(), "record", "records");
        format!("{rows}, {}", count(progress.pages_committed.get(), "page", "pages"))
    };
    match progress.activity() {
        Activity::Queued => "waits for its turn".to_owned(),
        Activity::Reading => so_far(),
        Activity::Waiting { until, reason } => {
            format!("{}; waits until {}: {reason}", so_far(), until.strftime("%H:%M:%SZ"))
        }
        Activity::Ended => format!("{}; has ended", so_far()),
    }
}

/// What of a budget may be used right now.
pub(super) fn budget_left(budget: &BudgetView) -> String {
    budget.left.map_or_else(|| "no limit".to_owned(), number)
}

/// Whether all is well, and what is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Verdict {
    pub(super) is_well: bool,
    pub(super) sentence: String,
    /// What somebody should look at, and how it is; the first few.
    pub(super) troubled: Vec<(String, State)>,
}

impl Verdict {
    /// What is so of all resources together; `last_success` is the latest of them all.
    pub(super) fn of<'a>(
        board: &Board,
        states: impl Iterator<Item = (&'a str, State)> + Clone,
        last_success: Option<Timestamp>,
        now: Timestamp,
    ) -> Self {
        let n = |state| states.clone().filter(|(_, other)| *other == state).count();
        let all = states.clone().count();
        let trouble = states.clone().filter(|(_, state)| state.is_trouble());
        let mut parts = Vec::new();
        for state in [State::Failed, State::Late, State::Incomplete] {
            if n(state) > 0 {
                parts.push(format!("{} {}", number(n(state) as u64), state.word()));
            }
        }
        let troubled = parts.len();
        if board.config.error.is_some() {
            parts.push("a newer configuration is not used".to_owned());
        }
        let is_well = parts.is_empty();
        for state in [State::Running, State::Paused, State::Unread] {
            if n(state) > 0 {
                parts.push(format!("{} {}", number(n(state) as u64), state.word()));
            }
        }
        let resources = count(all as u64, "resource", "resources");
        let head = match (all, is_well, troubled > 0) {
            _ if board.is_stopping => "The daemon is storing what it received, and ends".to_owned(),
            (0, ..) => "There is nothing to read: the configuration has no resources".to_owned(),
            (_, true, _) => format!("All is well with {resources}"),
            (_, false, true) => format!("Of {resources}, not all are well"),
            (_, false, false) => format!("{resources} are read as before"),
        };
        if let Some(at) = last_success {
            parts.push(format!("the last success was {}", relative(at, now)));
        }
        let sentence = if parts.is_empty() { format!("{head}.") } else { format!("{head}: {}.", parts.join(", ")) };
        let troubled = trouble.take(NAMED_MAX).map(|(id, state)| (id.to_owned(), state)).collect();
        Self { is_well, sentence, troubled }
    }
}
