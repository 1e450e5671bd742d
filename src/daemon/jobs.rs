//! What a daemon runs and when: jobs, their times, and which of them may begin. No I/O: time is told to it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use super::clock::Now;
use super::groups::groups;
use crate::board::{self, Running};
use crate::config::Config;
use crate::page::ResourceId;
use crate::plan;
use crate::progress::ResourceProgress;
use crate::schedule::{Past, Schedule};
use crate::source::ResourceOptions;

mod due;

use due::Due;

/// The clock on the wall is looked at so often: it can be set.
const LOOK_EVERY: Duration = Duration::from_secs(20);

/// It was set where it went so much further, or less far, than the time that has passed.
const SET_BY: SignedDuration = SignedDuration::from_secs(5);

/// Resources that are read together at the same times: one, or members of one family.
#[derive(Debug)]
pub(super) struct Job {
    /// The resource that all of them are below, or are.
    root: ResourceId,
    /// What it is for.
    pub(super) resources: Vec<ResourceId>,
    /// What its runs read: those above the resources, too.
    pub(super) reads: Vec<ResourceId>,
    schedule: Option<Schedule>,
    /// When it was first heard of, or its last start turned out to be wrong.
    seen: Timestamp,
    past: Past,
    /// A start that was still to come when the clock had been put back. It is not believed later either.
    wrong: Option<Timestamp>,
    /// The clocks when it began last, or was heard of: what its past says is said by that clock on the wall.
    began: Now,
    due: Due,
    paused_at: Option<Timestamp>,
    coalesced: u64,
    begun: u64,
    /// Somebody asked for a run.
    pub(super) is_wanted: bool,
    /// Of these, what was set aside is tried again before the next run.
    pub(super) retried: Vec<ResourceId>,
    /// Its run, by number.
    run: Option<u64>,
}

/// What was counted of a resource and asked for, which outlives a change of its times and of its family.
#[derive(Clone, Copy, Debug)]
struct Kept {
    coalesced: u64,
    begun: u64,
    is_wanted: bool,
    is_retried: bool,
}

/// A run that is under way.
#[derive(Debug)]
pub(super) struct Run {
    reads: Vec<ResourceId>,
    /// It reads nothing of the API.
    is_retry: bool,
    since: Timestamp,
    stop: CancellationToken,
    progress: Vec<(ResourceId, Arc<ResourceProgress>)>,
}

/// All jobs of a configuration, and what runs, which may be of the configuration before.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    jobs: Vec<Job>,
    runs: HashMap<u64, Run>,
    last_run: u64,
    looked: Option<Now>,
}

impl Jobs {
    /// Takes over another configuration. Jobs with the same times keep them and their runs, even where members of the
    /// family have come or gone; runs of what has changed or is gone are stopped, and those that stay go on with the new
    /// configuration at once. So does what was failing with the old one.
    pub(super) fn configure(&mut self, old: Option<&Config>, config: &Config, now: Now) {
        let is_same = |id: &ResourceId| old.is_none_or(|old| options_of(old, id) == options_of(config, id));
        let mut kept: HashMap<ResourceId, Kept> = HashMap::new();
        for job in &self.jobs {
            kept.extend(job.resources.iter().map(|id| (id.clone(), job.kept(id))));
        }
        let mut before: BTreeMap<ResourceId, Vec<Job>> = BTreeMap::new();
        self.jobs.drain(..).for_each(|job| before.entry(job.root.clone()).or_default().push(job));
        for (root, resources, schedule) in groups(config) {
            let reads = plan::with_parents(config, &resources);
            let family = before.entry(root.clone()).or_default();
            let is_it = |job: &Job| job.schedule == schedule && job.resources.iter().any(|id| resources.contains(id));
            self.jobs.push(match family.iter().position(is_it).map(|at| family.remove(at)) {
                Some(mut job) => {
                    job.retried.retain(|id| resources.contains(id));
                    job.is_wanted |= job.rests() && !reads.iter().all(is_same);
                    Job { resources, reads, ..job }
                }
                None => Job::new(root, resources, reads, schedule, now, &kept),
            });
        }
        for (number, run) in &self.runs {
            let is_kept = self.jobs.iter().any(|job| job.run == Some(*number));
            if !is_kept || !run.reads.iter().all(is_same) {
                run.stop.cancel();
            }
        }
    }

    /// Everything that jobs read which read any of these, or of all jobs.
    pub(super) fn related(&self, ids: Option<&[ResourceId]>) -> Vec<ResourceId> {
        let is_related = |job: &&Job| ids.is_none_or(|ids| job.reads.iter().any(|id| ids.contains(id)));
        let all: HashSet<&ResourceId> = self.jobs.iter().filter(is_related).flat_map(|job| &job.reads).collect();
        all.into_iter().cloned().collect()
    }

    /// Learns what became of earlier runs, and reckons anew when the jobs are due of which it is known of everything.
    pub(super) fn learn(
        &mut self,
        pasts: &HashMap<ResourceId, Past>,
        paused: &HashMap<ResourceId, Timestamp>,
        now: Now,
    ) {
        for job in &mut self.jobs {
            job.paused_at = job.resources.iter().find_map(|id| paused.get(id).copied());
            if job.reads.iter().all(|id| pasts.contains_key(id)) {
                let past = job.past_of(pasts);
                if past.failures > 0 && past.ended != job.past.ended {
                    // It rests from its end on, not from its start.
                    job.began = now;
                }
                job.past = past;
                job.reckon(now);
            }
        }
    }

    /// Looks at the clock on the wall: where it was set, what goes by it is reckoned anew, and the times that are shown of
    /// what does not are moved along.
    pub(super) fn look(&mut self, now: Now) {
        let was_set = self.looked.replace(now).is_some_and(|then| {
            let passed = now.steady.saturating_sub(then.steady);
            let passed = SignedDuration::try_from(passed).unwrap_or(SignedDuration::MAX);
            (now.wall.duration_since(then.wall) - passed).abs() > SET_BY
        });
        for job in self.jobs.iter_mut().filter(|_| was_set) {
            match job.due {
                Due::Never => {}
                Due::At(_) => job.reckon(now),
                Due::In(at, _) if at <= now.steady => {}
                Due::In(at, _) => job.due = Due::within(at.saturating_sub(now.steady), now),
            }
        }
    }

    /// The jobs that are to begin now, those first that have waited longest. None of what they read is being read.
    pub(super) fn ready(&self, now: Now) -> Vec<usize> {
        let mut busy: HashSet<&ResourceId> = self.runs.values().flat_map(|run| &run.reads).collect();
        let mut due: Vec<(Timestamp, usize)> = self
            .jobs
            .iter()
            .enumerate()
            .filter(|(_, job)| job.run.is_none() && job.is_due(now))
            .map(|(number, job)| (job.due.shown().unwrap_or(Timestamp::MIN), number))
            .collect();
        due.sort();
        let mut ready = Vec::new();
        for (_, number) in due {
            let reads = &self.jobs[number].reads;
            if reads.iter().all(|id| !busy.contains(id)) {
                busy.extend(reads);
                ready.push(number);
            }
        }
        ready
    }

    /// How long nothing becomes due, at most.
    pub(super) fn wait(&self, now: Now) -> Duration {
        let waits = self.jobs.iter().filter(|job| job.run.is_none() && job.paused_at.is_none()).filter_map(|job| {
            let wait = match job.due {
                Due::Never => return None,
                Due::At(at) => at.duration_since(now.wall).max(SignedDuration::ZERO).unsigned_abs(),
                Due::In(at, _) => at.saturating_sub(now.steady),
            };
            // What is due and has not begun waits for the end of a run.
            (!wait.is_zero()).then_some(wait)
        });
        waits.min().unwrap_or(LOOK_EVERY).min(LOOK_EVERY)
    }

    pub(super) fn job(&self, number: usize) -> &Job {
        &self.jobs[number]
    }

    /// The job that reads a resource.
    pub(super) fn of(&mut self, id: &ResourceId) -> Option<&mut Job> {
        self.jobs.iter_mut().find(|job| job.resources.contains(id))
    }

    /// Enters that a job's run begins, one of the API or of what was set aside, and gives it a number.
    pub(super) fn begin(
        &mut self,
        number: usize,
        is_retry: bool,
        stop: CancellationToken,
        progress: Vec<(ResourceId, Arc<ResourceProgress>)>,
        now: Now,
    ) -> u64 {
        self.last_run += 1;
        let job = &mut self.jobs[number];
        job.begun += 1;
        if is_retry {
            job.retried.remove(0);
        } else {
            (job.began, job.wrong) = (now, None);
            job.is_wanted = false;
        }
        job.run = Some(self.last_run);
        let reads = progress.iter().map(|(id, _)| id.clone()).collect();
        self.runs.insert(self.last_run, Run { reads, is_retry, since: now.wall, stop, progress });
        self.last_run
    }

    /// A run could not begin: it is not asked for any more. Where records were to be tried again, that was it.
    pub(super) fn could_not_begin(&mut self, number: usize) {
        let Job { is_wanted, retried, .. } = &mut self.jobs[number];
        *is_wanted &= !retried.is_empty();
        retried.drain(..retried.len().min(1));
    }

    /// Enters that a run has ended, and returns what it read.
    pub(super) fn end(&mut self, run: u64, now: Now) -> Vec<ResourceId> {
        let Some(ended) = self.runs.remove(&run) else { return Vec::new() };
        if let Some(job) = self.jobs.iter_mut().find(|job| job.run == Some(run)) {
            job.run = None;
            // What is due while records are tried again is run behind that.
            let schedule = job.schedule.as_ref().filter(|_| !ended.is_retry);
            let until = |schedule: &Schedule| if schedule.is_by_clock() { now.wall } else { job.clock(now) };
            job.coalesced += schedule.map_or(0, |schedule| schedule.missed(ended.since, until(schedule)));
        }
        ended.reads
    }

    /// Whether a source is being read.
    pub(super) fn is_reading(&self, source: &str) -> bool {
        self.runs.values().flat_map(|run| &run.reads).any(|id| *id.source == *source)
    }

    pub(super) fn running(&self) -> usize {
        self.runs.len()
    }

    /// The jobs as they are shown.
    pub(super) fn show(&self) -> Vec<board::Job> {
        let show = |job: &Job| board::Job {
            resources: job.resources.clone(),
            schedule: job.schedule.as_ref().map(ToString::to_string),
            next: job.due.shown().filter(|_| job.paused_at.is_none() && job.run.is_none()),
            paused_at: job.paused_at,
            failures: job.past.failures,
            coalesced: job.coalesced,
            begun: job.begun,
            running: job
                .run
                .and_then(|run| self.runs.get(&run))
                .map(|run| Running { since: run.since, progress: run.progress.clone() }),
        };
        self.jobs.iter().map(show).collect()
    }
}

impl Job {
    fn new(
        root: ResourceId,
        resources: Vec<ResourceId>,
        reads: Vec<ResourceId>,
        schedule: Option<Schedule>,
        now: Now,
        kept: &HashMap<ResourceId, Kept>,
    ) -> Self {
        let of = || resources.iter().filter_map(|id| Some((id, kept.get(id)?)));
        Self {
            root,
            coalesced: of().map(|(_, kept)| kept.coalesced).max().unwrap_or(0),
            begun: of().map(|(_, kept)| kept.begun).max().unwrap_or(0),
            is_wanted: of().any(|(_, kept)| kept.is_wanted),
            retried: of().filter(|(_, kept)| kept.is_retried).map(|(id, _)| id.clone()).collect(),
            reads,
            schedule,
            seen: now.wall,
            past: Past::default(),
            wrong: None,
            began: now,
            due: Due::Never,
            paused_at: None,
            run: None,
            resources,
        }
    }

    /// What stays of it for one of its resources.
    fn kept(&self, id: &ResourceId) -> Kept {
        Kept {
            coalesced: self.coalesced,
            begun: self.begun,
            is_wanted: self.is_wanted,
            is_retried: self.retried.contains(id),
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.run.is_some()
    }

    /// Whether it would run by itself if it had not failed.
    fn rests(&self) -> bool {
        self.past.failures > 0 && self.schedule.is_some() && self.paused_at.is_none()
    }

    fn is_due(&self, now: Now) -> bool {
        let by_itself = match self.due {
            Due::Never => false,
            Due::At(at) => at <= now.wall,
            Due::In(at, _) => at <= now.steady,
        };
        self.is_wanted || !self.retried.is_empty() || by_itself && self.paused_at.is_none()
    }

    /// What became of its resources together: it never ran where one of them never did, and failed where one did.
    fn past_of(&self, pasts: &HashMap<ResourceId, Past>) -> Past {
        let own = || self.resources.iter().map(|id| pasts.get(id).copied().unwrap_or_default());
        let all = || self.reads.iter().filter_map(|id| pasts.get(id));
        Past {
            started: if own().any(|past| past.started.is_none()) {
                None
            } else {
                own().filter_map(|past| past.started).min()
            },
            ended: all().filter_map(|past| past.ended).max(),
            failures: all().map(|past| past.failures).max().unwrap_or(0),
            was_cut: own().any(|past| past.was_cut),
            not_before: all().filter_map(|past| past.not_before).max(),
        }
    }
}

/// What a resource is read with.
fn options_of<'c>(
    config: &'c Config,
    id: &ResourceId,
) -> Option<(&'c crate::rest::ClientOptions, &'c ResourceOptions)> {
    let source = config.sources.get(&*id.source)?;
    Some((&source.client, source.resources.get(&*id.resource)?))
}

#[cfg(test)]
mod tests;
