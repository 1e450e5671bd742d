use std::collections::HashMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use super::{Jobs, LOOK_EVERY, Now};
use crate::config::{Config, Env, load_text};
use crate::page::ResourceId;
use crate::schedule::Past;

/// A clock that goes only when it is told to.
struct Clock(Now);

impl Clock {
    /// 2024-01-01 at noon.
    fn new() -> Self {
        Self(Now { wall: "2024-01-01T12:00:00Z".parse().unwrap(), steady: Duration::from_secs(1_000_000) })
    }

    /// So many seconds pass.
    fn pass(&mut self, seconds: u64) -> Now {
        self.0.steady += Duration::from_secs(seconds);
        self.set(i64::try_from(seconds).unwrap())
    }

    /// Somebody sets the clock on the wall.
    fn set(&mut self, seconds: i64) -> Now {
        self.0.wall += SignedDuration::from_secs(seconds);
        self.0
    }

    /// What the clocks showed so many seconds ago.
    fn ago_by(&self, seconds: u64) -> Now {
        let wall = self.ago(i64::try_from(seconds).unwrap());
        Now { wall, steady: self.0.steady.saturating_sub(Duration::from_secs(seconds)) }
    }

    fn ago(&self, seconds: i64) -> Timestamp {
        self.0.wall - SignedDuration::from_secs(seconds)
    }
}

fn config(resources: &[(&str, &str)]) -> Config {
    let mut text = "[sources.s.client]\nbase_url = \"http://127.0.0.1:1/\"\n".to_owned();
    for (name, options) in resources {
        text += &format!("[sources.s.resources.{name}]\n{options}\n");
    }
    load_text("config.toml", &text, &Env::default()).unwrap().config
}

fn id(name: &str) -> ResourceId {
    ResourceId::new("s", name)
}

fn ran(started: Timestamp) -> Past {
    Past { started: Some(started), ended: Some(started), ..Past::default() }
}

fn failed(started: Timestamp, failures: u32) -> Past {
    Past { failures, ..ran(started) }
}

/// Jobs of a configuration that know what became of earlier runs; of what is not named, that there were none.
fn jobs(config: &Config, pasts: &[(&str, Past)], now: Now) -> Jobs {
    let mut jobs = Jobs::default();
    jobs.look(now);
    jobs.configure(None, config, now);
    learn(&mut jobs, pasts, &[], now);
    jobs
}

fn learn(jobs: &mut Jobs, pasts: &[(&str, Past)], paused: &[&str], now: Now) {
    let mut all: HashMap<_, _> = jobs.related(None).into_iter().map(|id| (id, Past::default())).collect();
    all.extend(pasts.iter().map(|(name, past)| (id(name), *past)));
    jobs.learn(&all, &paused.iter().map(|name| (id(name), now.wall)).collect(), now);
}

/// What is to begin, by the first name of each.
fn ready(jobs: &Jobs, now: Now) -> Vec<String> {
    jobs.ready(now).into_iter().map(|number| jobs.job(number).resources[0].resource.to_string()).collect()
}

/// Begins everything that is to begin.
fn begin(jobs: &mut Jobs, now: Now) -> Vec<(u64, CancellationToken)> {
    let numbers = jobs.ready(now);
    let begin = |number| {
        let stop = CancellationToken::new();
        let reads = jobs.job(number).reads.iter().map(|id| (id.clone(), Default::default())).collect();
        (jobs.begin(number, false, stop.clone(), reads, now), stop)
    };
    numbers.into_iter().map(begin).collect()
}

#[test]
fn what_has_never_run_is_due_at_once_and_what_waited_longest_comes_first() {
    let mut clock = Clock::new();
    let config = config(&[
        ("new", "every = \"1h\""),
        ("late", "every = \"1h\""),
        ("later", "schedule = \"0 * * * *\""),
        ("soon", "every = \"1h\""),
        ("asked", ""),
    ]);
    let pasts = [("late", ran(clock.ago(7_200))), ("later", ran(clock.ago(5_400))), ("soon", ran(clock.ago(3_590)))];
    let mut jobs = jobs(&config, &pasts, clock.0);
    assert_eq!(ready(&jobs, clock.0), ["late", "later", "new"]);
    assert_eq!(begin(&mut jobs, clock.0).len(), 3);
    assert_eq!(jobs.wait(clock.0), Duration::from_secs(10));
    assert_eq!(ready(&jobs, clock.pass(9)), [""; 0]);
    assert_eq!(ready(&jobs, clock.pass(1)), ["soon"]);
    // What is due waits for the end of a run; what nobody asks for is never due.
    assert_eq!(jobs.wait(clock.0), LOOK_EVERY);
    jobs.of(&id("asked")).unwrap().is_wanted = true;
    assert_eq!(ready(&jobs, clock.0), ["asked", "soon"]);
    assert!(jobs.of(&id("unknown")).is_none());
}

#[test]
fn a_resource_is_read_once_at_a_time_and_what_fell_due_meanwhile_is_one_run() {
    let mut clock = Clock::new();
    let config = config(&[
        ("parent", "every = \"10s\""),
        ("child", "every = \"1h\"\npath = \"${resources.parent.id}\""),
        ("other", "every = \"1h\""),
    ]);
    let mut jobs = jobs(&config, &[], clock.0);
    // The child's run reads the parent, too: they take turns.
    assert_eq!(ready(&jobs, clock.0), ["parent", "other"]);
    let began = clock.0.wall;
    let runs = begin(&mut jobs, clock.0);
    assert_eq!((runs.len(), jobs.running()), (2, 2));
    assert!(jobs.is_reading("s") && !jobs.is_reading("t"));
    let now = clock.pass(35);
    assert_eq!(ready(&jobs, now), [""; 0]);
    let parent = jobs.show().into_iter().find(|job| job.resources == [id("parent")]).unwrap();
    assert!(parent.running.is_some() && parent.next.is_none());
    let mut read: Vec<_> = runs.into_iter().flat_map(|(run, _)| jobs.end(run, now)).collect();
    read.sort();
    assert_eq!(read, [id("other"), id("parent")]);
    learn(&mut jobs, &[("parent", ran(began)), ("other", ran(began))], &[], now);
    assert_eq!(jobs.running(), 0);
    assert_eq!(jobs.show().iter().map(|job| job.coalesced).collect::<Vec<_>>(), [3, 0, 0]);
    assert_eq!(ready(&jobs, now), ["child"], "it has waited longer");
    let [(run, _)] = &begin(&mut jobs, now)[..] else { panic!("one run") };
    assert_eq!(jobs.end(*run, now), [id("parent"), id("child")]);
    assert!(jobs.end(*run, now).is_empty(), "it has ended already");
}

#[test]
fn what_fails_rests_longer_each_time_and_runs_at_once_when_asked_for() {
    let mut clock = Clock::new();
    let config = config(&[("r", "every = \"1s\"")]);
    let mut jobs = jobs(&config, &[("r", failed(clock.0.wall, 2))], clock.0);
    assert_eq!(jobs.show()[0].failures, 2);
    assert_eq!(ready(&jobs, clock.pass(119)), [""; 0]);
    assert_eq!(ready(&jobs, clock.pass(1)), ["r"]);
    // One that could not begin has failed as well.
    jobs.of(&id("r")).unwrap().is_wanted = true;
    jobs.could_not_begin(0);
    learn(&mut jobs, &[("r", failed(clock.0.wall, 3))], &[], clock.0);
    assert_eq!((jobs.show()[0].failures, ready(&jobs, clock.pass(239))), (3, vec![]));
    jobs.of(&id("r")).unwrap().is_wanted = true;
    assert_eq!(ready(&jobs, clock.0), ["r"]);
    let [(run, _)] = &begin(&mut jobs, clock.0)[..] else { panic!("one run") };
    jobs.end(*run, clock.0);
    learn(&mut jobs, &[("r", ran(clock.0.wall))], &[], clock.0);
    assert_eq!((jobs.show()[0].failures, ready(&jobs, clock.pass(1))), (0, vec!["r".to_owned()]));
    // Before its API wants to be asked nothing begins, and what was cut short goes on at once.
    let asked = Past { not_before: Some(clock.0.wall + SignedDuration::from_secs(60)), ..ran(clock.ago(100)) };
    learn(&mut jobs, &[("r", asked)], &[], clock.0);
    assert_eq!((ready(&jobs, clock.pass(59)), ready(&jobs, clock.pass(1))), (vec![], vec!["r".to_owned()]));
    learn(&mut jobs, &[("r", Past { was_cut: true, ..ran(clock.0.wall) })], &[], clock.0);
    assert_eq!(ready(&jobs, clock.0), ["r"]);
}

#[test]
fn a_paused_job_runs_only_when_asked_for() {
    let mut clock = Clock::new();
    let config = config(&[("r", "every = \"1s\"")]);
    let mut jobs = jobs(&config, &[], clock.0);
    learn(&mut jobs, &[], &["r"], clock.0);
    let now = clock.pass(3_600);
    assert_eq!(ready(&jobs, now), [""; 0]);
    assert_eq!((jobs.show()[0].paused_at.is_some(), jobs.show()[0].next), (true, None));
    jobs.of(&id("r")).unwrap().is_wanted = true;
    let [(run, _)] = &begin(&mut jobs, now)[..] else { panic!("one run") };
    jobs.end(*run, now);
    learn(&mut jobs, &[("r", ran(now.wall))], &["r"], now);
    assert_eq!(ready(&jobs, clock.pass(3_600)), [""; 0]);
    learn(&mut jobs, &[("r", ran(now.wall))], &[], clock.0);
    assert_eq!(ready(&jobs, clock.0), ["r"]);
}

#[test]
fn a_reload_stops_what_has_changed_or_is_gone_and_leaves_the_rest_alone() {
    let mut clock = Clock::new();
    let resources = |changed, timed| {
        [("same", "every = \"1s\""), ("changed", changed), ("timed", timed), ("gone", "every = \"1s\"")]
    };
    let old = config(&resources("every = \"1s\"", "every = \"1s\""));
    let mut jobs = jobs(&old, &[], clock.0);
    let began = clock.0.wall;
    let runs = begin(&mut jobs, clock.0);
    let stopped = |runs: &[(u64, CancellationToken)]| -> Vec<bool> {
        let mut runs = runs.to_vec();
        runs.sort_by_key(|(run, _)| *run);
        runs.iter().map(|(_, stop)| stop.is_cancelled()).collect()
    };
    let names: Vec<_> = runs.iter().map(|(run, _)| jobs.runs[run].reads[0].resource.to_string()).collect();
    jobs.configure(Some(&old), &old, clock.0);
    assert_eq!(stopped(&runs), [false; 4]);
    let new = config(&resources("every = \"1s\"\nparams = { v = 2 }", "every = \"1h\"")[..3]);
    jobs.configure(Some(&old), &new, clock.pass(60));
    for (name, is_stopped) in names.iter().zip(stopped(&runs)) {
        assert_eq!(is_stopped, name != "same", "{name}");
    }
    // Nothing of what is still being read begins again before that has ended.
    learn(&mut jobs, &[], &[], clock.0);
    assert_eq!(ready(&jobs, clock.0), [""; 0]);
    assert!(jobs.of(&id("gone")).is_none() && jobs.running() == 4);
    for (run, _) in runs {
        jobs.end(run, clock.0);
    }
    let cut = Past { was_cut: true, ..ran(began) };
    learn(&mut jobs, &[("same", ran(clock.0.wall)), ("changed", cut), ("timed", cut)], &[], clock.0);
    assert_eq!(ready(&jobs, clock.0), ["changed", "timed"]);
}

#[test]
fn what_fails_is_tried_at_once_when_its_configuration_changes() {
    let clock = Clock::new();
    let before = config(&[
        ("bad", "every = \"1h\""),
        ("same", "every = \"1h\""),
        ("good", "every = \"1h\""),
        ("asked", ""),
        ("paused", "every = \"1h\""),
    ]);
    let failing = failed(clock.ago(30), 1);
    let pasts =
        [("bad", failing), ("same", failing), ("good", ran(clock.ago(30))), ("asked", failing), ("paused", failing)];
    let mut jobs = jobs(&before, &pasts, clock.0);
    learn(&mut jobs, &pasts, &["paused"], clock.0);
    assert_eq!(ready(&jobs, clock.0), [""; 0]);
    let after = config(&[
        ("bad", "every = \"1h\"\npath = \"x\""),
        ("same", "every = \"1h\""),
        ("good", "every = \"1h\"\npath = \"x\""),
        ("asked", "path = \"x\""),
        ("paused", "every = \"1h\"\npath = \"x\""),
    ]);
    jobs.configure(Some(&before), &after, clock.0);
    assert_eq!(ready(&jobs, clock.0), ["bad"]);
}

#[test]
fn a_member_that_joins_or_leaves_a_family_stops_nothing_that_it_is_not_in() {
    let mut clock = Clock::new();
    let parent = ("parent", "every = \"10s\"");
    let child = ("child", "every = \"10s\"\npath = \"${resources.parent.id}\"");
    let (alone, family) = (config(&[parent]), config(&[parent, child]));
    let mut jobs = jobs(&alone, &[], clock.0);
    let [(run, stop)] = &begin(&mut jobs, clock.0)[..] else { panic!("one run") };
    jobs.configure(Some(&alone), &family, clock.pass(35));
    assert!(!stop.is_cancelled());
    learn(&mut jobs, &[("parent", ran(clock.0.wall))], &[], clock.0);
    assert_eq!(ready(&jobs, clock.0), [""; 0], "its parent is being read");
    jobs.end(*run, clock.0);
    assert_eq!((jobs.show()[0].coalesced, ready(&jobs, clock.0)), (3, vec!["parent".to_owned()]));
    jobs.of(&id("child")).unwrap().retried = vec![id("child"), id("parent")];
    let [(_, stop)] = &begin(&mut jobs, clock.0)[..] else { panic!("one run") };
    // What reads one that is gone cannot go on, and nothing of it is asked for any more.
    jobs.configure(Some(&family), &alone, clock.0);
    assert!(stop.is_cancelled());
    assert_eq!((jobs.show()[0].coalesced, jobs.job(0).retried.clone()), (3, vec![id("parent")]));
}

#[test]
fn x07_a_machine_that_has_slept_makes_up_for_one_run() {
    let mut clock = Clock::new();
    let config = config(&[("every", "every = \"1h\""), ("cron", "schedule = \"0 * * * *\"")]);
    let past = ran(clock.0.wall);
    let mut jobs = jobs(&config, &[("every", past), ("cron", past)], clock.0);
    jobs.look(clock.pass(8 * 3_600));
    assert_eq!(ready(&jobs, clock.0), ["every", "cron"]);
    let woken = ran(clock.0.wall);
    for (run, _) in begin(&mut jobs, clock.0) {
        jobs.end(run, clock.0);
    }
    learn(&mut jobs, &[("every", woken), ("cron", woken)], &[], clock.0);
    assert_eq!(ready(&jobs, clock.0), [""; 0]);
    assert_eq!(ready(&jobs, clock.pass(3_599)), [""; 0]);
    assert_eq!(ready(&jobs, clock.pass(1)), ["every", "cron"]);
}

#[test]
fn another_schedule_forgets_neither_what_was_counted_nor_what_was_asked_for() {
    let mut clock = Clock::new();
    let old = config(&[("r", "every = \"1s\"")]);
    let mut jobs = jobs(&old, &[], clock.0);
    let [(run, _)] = &begin(&mut jobs, clock.0)[..] else { panic!("one run") };
    jobs.end(*run, clock.pass(5));
    jobs.of(&id("r")).unwrap().is_wanted = true;
    jobs.configure(Some(&old), &config(&[("r", "every = \"1h\"")]), clock.0);
    learn(&mut jobs, &[("r", ran(clock.0.wall))], &[], clock.0);
    assert_eq!(jobs.show()[0].coalesced, 5);
    assert_eq!(ready(&jobs, clock.0), ["r"]);
}

#[test]
fn x06_intervals_go_by_the_time_that_passes_and_calendars_by_the_clock_on_the_wall() {
    let config = config(&[("every", "every = \"1h\""), ("cron", "schedule = \"0 * * * *\"")]);
    for (set, due) in [(3_000, vec![]), (3_600, vec!["cron"]), (-3_600, vec![]), (-86_400 * 365, vec![])] {
        let mut clock = Clock::new();
        let past = ran(clock.0.wall);
        let mut jobs = jobs(&config, &[("every", past), ("cron", past)], clock.0);
        jobs.look(clock.set(set));
        assert_eq!(ready(&jobs, clock.0), due, "{set}");
        // What is shown is what will be, whatever the clock says.
        let next = jobs.show()[0].next.unwrap();
        assert_eq!(next, clock.0.wall + SignedDuration::from_secs(3_600), "{set}");
        jobs.look(clock.pass(3_599));
        assert!(!ready(&jobs, clock.0).contains(&"every".to_owned()), "{set}");
        jobs.look(clock.pass(1));
        assert_eq!(ready(&jobs, clock.0).len(), 2, "{set}");
    }
}

#[test]
fn x06_runs_of_a_time_that_is_still_to_come_keep_nothing_from_its_next_start() {
    let mut clock = Clock::new();
    let config =
        config(&[("every", "every = \"1h\""), ("cron", "schedule = \"0 * * * *\""), ("bad", "every = \"1h\"")]);
    let wrong = clock.0.wall + SignedDuration::from_hours(24 * 3_650);
    let pasts = [("every", ran(wrong)), ("cron", ran(wrong)), ("bad", failed(wrong, 3))];
    let mut jobs = jobs(&config, &pasts, clock.0);
    assert_eq!(ready(&jobs, clock.0), ["every"]);
    // Whatever else ends meanwhile, it does not begin to wait anew.
    for _ in 0..6 {
        learn(&mut jobs, &pasts, &[], clock.pass(600));
    }
    assert_eq!(ready(&jobs, clock.0), ["every", "bad", "cron"]);
}

#[test]
fn x06_an_interval_goes_by_the_time_that_passes_whatever_is_learned_after_the_clock_was_set() {
    let config = config(&[("every", "every = \"1h\"")]);
    for set in [3_600, 86_400, -1_800, -86_400] {
        let mut clock = Clock::new();
        let mut jobs = jobs(&config, &[("every", ran(clock.ago(600)))], clock.0);
        // Of a run of another process, on a reload; of its own, which it is set in the middle of; and of one that failed.
        jobs.look(clock.set(set));
        learn(&mut jobs, &[("every", ran(clock.ago(600 + set)))], &[], clock.0);
        assert_eq!(ready(&jobs, clock.pass(2_999)), [""; 0], "{set}");
        assert_eq!(ready(&jobs, clock.pass(1)), ["every"], "{set}");
        let (began, [(run, _)]) = (clock.0.wall, &begin(&mut jobs, clock.0)[..]) else { panic!("one run") };
        clock.pass(300);
        jobs.look(clock.set(set));
        jobs.end(*run, clock.pass(300));
        learn(&mut jobs, &[("every", Past { ended: Some(clock.0.wall), ..ran(began) })], &[], clock.0);
        assert_eq!(jobs.show()[0].coalesced, 0, "{set}");
        assert_eq!(jobs.show()[0].next.unwrap(), clock.0.wall + SignedDuration::from_secs(3_000), "{set}");
        assert_eq!(ready(&jobs, clock.pass(2_999)), [""; 0], "{set}");
        assert_eq!(ready(&jobs, clock.pass(1)), ["every"], "{set}");
        let [(run, _)] = &begin(&mut jobs, clock.0)[..] else { panic!("one run") };
        jobs.look(clock.set(set));
        jobs.end(*run, clock.0);
        learn(&mut jobs, &[("every", failed(clock.0.wall, 1))], &[], clock.0);
        assert_eq!(
            (ready(&jobs, clock.pass(59)), ready(&jobs, clock.pass(1))),
            (vec![], vec!["every".into()]),
            "{set}"
        );
    }
}

/// A daemon whose clock is set, hour by hour; each run is over at once. Returns when by that clock the job ran.
fn days(schedule: &str, sets: &[(u64, i64)], hours: u64) -> Vec<String> {
    let config = config(&[("r", &format!("schedule = \"{schedule}\""))]);
    let mut clock = Clock::new();
    // It has been running for days.
    let mut past = ran(clock.ago(9 * 3_600));
    let mut jobs = jobs(&config, &[("r", ran(clock.ago(81 * 3_600)))], clock.ago_by(72 * 3_600));
    let mut starts = Vec::new();
    for hour in 0..=hours {
        let set: i64 = sets.iter().filter(|(at, _)| *at == hour).map(|(_, hours)| hours * 3_600).sum();
        jobs.look(clock.set(set));
        learn(&mut jobs, &[("r", past)], &[], clock.0);
        for (run, _) in begin(&mut jobs, clock.0) {
            starts.push(clock.0.wall.strftime("%d %H").to_string());
            past = ran(clock.0.wall);
            jobs.end(run, clock.0);
            learn(&mut jobs, &[("r", past)], &[], clock.0);
        }
        jobs.look(clock.pass(3_600));
    }
    starts
}

#[test]
fn x06_what_comes_daily_comes_once_a_day_when_the_clock_is_set() {
    // It is noon on the first; it ran at three, and runs next at three on the second.
    for (sets, expected) in [
        (&[][..], &["02 03", "03 03"][..]),
        // Back over its time: not a second time.
        (&[(16, -2)], &["02 03", "03 03"]),
        // Forward over its time: at once, and put back not a second time.
        (&[(14, 2)], &["02 04", "03 03"]),
        (&[(14, 2), (15, -2)], &["02 04", "03 03"]),
        // By a day, and back: that of the day that was passed over is made up for once, and the next comes at its time.
        (&[(1, 24)], &["02 13", "03 03", "04 03"]),
        (&[(1, 24), (3, -24)], &["02 13", "02 03", "03 03"]),
        // The clock was wrong before: the day comes again.
        (&[(16, -24)], &["02 03", "02 03", "03 03"]),
    ] {
        let starts = days("0 3 * * *", sets, 64);
        assert!(
            starts.iter().map(String::as_str).zip(expected).all(|(at, expected)| at == *expected),
            "{sets:?}: {starts:?}"
        );
        assert!(starts.len() >= expected.len(), "{sets:?}: {starts:?}");
    }
    // What comes every hour goes by the hours that pass.
    assert_eq!(days("0 * * * *", &[(2, -2)], 4), ["01 12", "01 13", "01 13", "01 14"]);
}
