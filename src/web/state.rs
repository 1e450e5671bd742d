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
            // None of its runs could begin, or none of a parent brought what it is read for.
            None if job.is_some_and(|job| job.failures > 0) => Self::Failed,
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
    budget.left.map_or_else(|| "–".to_owned(), number)
}

/// Whether all is well, and what is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Verdict {
    pub(super) is_well: bool,
    /// All of it, as a person would read it.
    pub(super) sentence: String,
    /// The sentence up to the names.
    #[serde(skip)]
    pub(super) head: String,
    /// What somebody should look at, and how it is; the first few.
    pub(super) troubled: Vec<(String, State)>,
    /// How many more they are.
    pub(super) more: usize,
    /// What else there is to say.
    pub(super) also: String,
}

impl Verdict {
    /// What is so of all resources together; `last_success` is the latest of them all.
    pub(super) fn of(board: &Board, states: &[(&str, State)], last_success: Option<Timestamp>, now: Timestamp) -> Self {
        let mut trouble: Vec<_> = states.iter().filter(|(_, state)| state.is_trouble()).collect();
        trouble.sort_by_key(|(_, state)| *state != State::Failed);
        let all = count(states.len() as u64, "resource", "resources");
        let head = if board.is_stopping {
            "The daemon is storing what it received, and ends".to_owned()
        } else if !trouble.is_empty() {
            let need = if trouble.len() == 1 { "needs" } else { "need" };
            format!("{} of {all} {need} a look", number(trouble.len() as u64))
        } else if board.config.error.is_some() {
            format!("A newer configuration is not used; {all} as before")
        } else if states.is_empty() {
            "There is nothing to read: the configuration has no resources".to_owned()
        } else {
            format!("All is well with {all}")
        };
        let is_well = trouble.is_empty() && board.config.error.is_none() && !board.is_stopping;
        let more = trouble.len().saturating_sub(NAMED_MAX);
        let troubled = trouble.into_iter().take(NAMED_MAX).map(|(id, state)| ((*id).to_owned(), *state));
        let troubled: Vec<_> = troubled.collect();
        let mut names: Vec<_> = troubled.iter().map(|(id, state)| format!("{id} ({})", state.word())).collect();
        names.extend((more > 0).then(|| format!("{} more", number(more as u64))));
        let colon = if names.is_empty() { "" } else { ": " };
        let sentence = format!("{head}{colon}{}.", names.join(", "));
        Self { is_well, sentence, head, troubled, more, also: also(board, states, last_success, now) }
    }
}

/// What is no trouble, and yet worth saying.
fn also(board: &Board, states: &[(&str, State)], last_success: Option<Timestamp>, now: Timestamp) -> String {
    let mut parts = Vec::new();
    for state in [State::Running, State::Paused, State::Unread] {
        let n = states.iter().filter(|(_, other)| *other == state).count();
        parts.extend((n > 0).then(|| format!("{} {}", number(n as u64), state.word())));
    }
    parts.extend(last_success.map(|at| format!("last success {}", relative(at, now))));
    let is_known = board.config.error.is_some() && states.iter().any(|(_, state)| state.is_trouble());
    parts.extend(is_known.then(|| "a newer configuration is not used".to_owned()));
    parts.join(" · ")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::{SignedDuration, Timestamp};

    use super::{State, Verdict, activity};
    use crate::board::{Board, Job, LoadedConfig, Running};
    use crate::page::ResourceId;
    use crate::progress::{Activity, ResourceProgress};

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn job() -> Job {
        Job {
            resources: vec![ResourceId::new("s", "r")],
            schedule: None,
            next: None,
            paused_at: None,
            failures: 0,
            coalesced: 0,
            begun: 0,
            running: None,
        }
    }

    #[test]
    fn a_resource_is_in_one_state() {
        let id = ResourceId::new("s", "r");
        let running = |activity: Activity| {
            let progress = Arc::new(ResourceProgress::default());
            progress.set(activity);
            Some(Running { since: NOW, progress: vec![(id.clone(), progress)] })
        };
        let due = |seconds: i64| Some(NOW + SignedDuration::from_secs(seconds));
        let late = Job { next: due(-61), ..job() };
        for (job, outcome, state) in [
            (job(), None, State::Unread),
            (Job { failures: 1, ..job() }, None, State::Failed),
            (job(), Some("complete"), State::Complete),
            (job(), Some("incomplete"), State::Incomplete),
            (job(), Some("failed"), State::Failed),
            (Job { next: due(-59), ..job() }, Some("complete"), State::Complete),
            (late.clone(), Some("complete"), State::Late),
            (late.clone(), Some("failed"), State::Failed),
            (Job { running: running(Activity::Ended), ..late.clone() }, Some("complete"), State::Complete),
            (Job { running: running(Activity::Reading), ..late.clone() }, Some("failed"), State::Running),
            (Job { paused_at: Some(NOW), ..late }, Some("failed"), State::Paused),
        ] {
            assert_eq!(State::of(Some(&job), &id, outcome, NOW), state, "{job:?} {outcome:?}");
        }
        assert_eq!(State::of(None, &id, Some("complete"), NOW), State::Complete);
    }

    #[test]
    fn what_a_run_does_is_said_with_what_it_has() {
        let progress = ResourceProgress::default();
        assert_eq!(activity(&progress), "waits for its turn");
        progress.records_committed.add(1_200);
        progress.pages_committed.add(1);
        progress.set(Activity::Reading);
        assert_eq!(activity(&progress), "1,200 records, 1 page");
        progress.set(Activity::Waiting { until: NOW, reason: "budget".to_owned() });
        assert_eq!(activity(&progress), "1,200 records, 1 page; waits until 00:00:00Z: budget");
    }

    #[test]
    fn one_sentence_says_whether_all_is_well() {
        let board = Board {
            started_at: NOW,
            alive_at: NOW,
            database: "x.db".into(),
            config: LoadedConfig::default(),
            jobs: Vec::new(),
            budgets: Vec::new(),
            is_stopping: false,
        };
        let stopping = Board { is_stopping: true, ..board.clone() };
        let config = LoadedConfig { error: Some("x".to_owned()), ..LoadedConfig::default() };
        let broken = Board { config, ..board.clone() };
        let many: Vec<_> = (0..7).map(|_| ("s.r", State::Late)).chain([("s.f", State::Failed)]).collect();
        let hour = Some(NOW - SignedDuration::from_secs(7_200));
        for (board, states, is_well, sentence, also) in [
            (
                &board,
                &[][..],
                true,
                "There is nothing to read: the configuration has no resources.",
                "last success 2 h ago",
            ),
            (
                &board,
                &[("s.a", State::Complete), ("s.b", State::Paused)],
                true,
                "All is well with 2 resources.",
                "1 paused · last success 2 h ago",
            ),
            (
                &board,
                &[("s.a", State::Late)],
                false,
                "1 of 1 resource needs a look: s.a (late).",
                "last success 2 h ago",
            ),
            (
                &board,
                &many,
                false,
                "8 of 8 resources need a look: s.f (failed), s.r (late), s.r (late), s.r (late), s.r (late), 3 more.",
                "last success 2 h ago",
            ),
            (
                &broken,
                &[("s.a", State::Complete)],
                false,
                "A newer configuration is not used; 1 resource as before.",
                "last success 2 h ago",
            ),
            (
                &broken,
                &[("s.a", State::Failed)],
                false,
                "1 of 1 resource needs a look: s.a (failed).",
                "last success 2 h ago · a newer configuration is not used",
            ),
            (
                &stopping,
                &[("s.a", State::Running)],
                false,
                "The daemon is storing what it received, and ends.",
                "1 running · last success 2 h ago",
            ),
        ] {
            let verdict = Verdict::of(board, states, hour, NOW);
            assert_eq!((verdict.is_well, &*verdict.sentence, &*verdict.also), (is_well, sentence, also));
        }
    }
}
