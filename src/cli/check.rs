//! `highwater check`: is the configuration right?

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::{Console, Options, Verb, count, find, load, print};
use crate::config::{self, Config, Env};
use crate::exit::Exit;
use crate::page::ResourceId;
use crate::schedule::{Past, Schedule, Trigger};
use crate::source::table_name;
use crate::units::Timespan;

/// Arguments of `check`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  highwater check\n  highwater check --config other.toml --json\n\n\
    Every problem is reported with its place; exit code 78 when there is any.")]
pub(super) struct CheckArgs {
    /// Print the result as JSON
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn run(args: &CheckArgs, options: &Options, console: &Console) -> Verb {
    if args.json {
        return run_json(options);
    }
    let loaded = load(options, console)?;
    for hint in &loaded.hints {
        print(&format!("hint: {hint}\n"));
    }
    let now = Timestamp::now();
    let mut resources = 0;
    for (source, options) in &loaded.config.sources {
        let state = if options.enabled { "" } else { " (not enabled)" };
        print(&format!("{source}: {}{state}\n", options.client.base_url));
        for (resource, resource_options) in &options.resources {
            let table = table_name(&ResourceId::new(source, resource), resource_options);
            let schedule = options.schedule_of(resource_options).filter(|_| options.enabled);
            let when = schedule.map(|schedule| format!(", {}", in_words(&schedule, now))).unwrap_or_default();
            print(&format!("  {resource} → {table}{when}\n"));
            resources += 1;
        }
    }
    print(&format!("{} is right: {}\n", loaded.path.display(), count(resources, "resource")));
    Ok(None)
}

/// When a resource is read, and what that means on the clocks of this machine.
fn in_words(schedule: &Schedule, now: Timestamp) -> String {
    match next(schedule, now) {
        Some(next) => format!("{schedule}, next {}", next.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M %:z")),
        None => schedule.to_string(),
    }
}

/// The next time of the calendar, without the delay of `jitter`. When an interval begins is up to the last run, which
/// the configuration does not know.
fn next(schedule: &Schedule, now: Timestamp) -> Option<Timestamp> {
    let punctual = Schedule { jitter: Duration::ZERO, ..schedule.clone() };
    matches!(schedule.trigger, Trigger::Cron(..)).then(|| punctual.next(&Past::default(), now, 0))
}

/// What is read by itself, as programs want it.
fn scheduled(config: &Config, now: Timestamp) -> Vec<Value> {
    let enabled = config.sources.iter().filter(|(_, options)| options.enabled);
    let all = enabled.flat_map(|(source, options)| {
        options.resources.iter().filter_map(move |(name, resource)| {
            let schedule = options.schedule_of(resource)?;
            let (cron, zone, every) = match &schedule.trigger {
                Trigger::Cron(cron, zone) => (Some(cron.to_string()), Some(zone.to_string()), None),
                Trigger::Every(interval) => (None, None, Some(Timespan(*interval))),
            };
            let jitter = Some(Timespan(schedule.jitter)).filter(|jitter| !jitter.is_zero());
            Some(json!({
                "resource": ResourceId::new(source, name).to_string(),
                "schedule": cron,
                "timezone": zone,
                "every": every,
                "jitter": jitter,
                "next": next(&schedule, now).map(|next| next.to_string()),
            }))
        })
    });
    all.collect()
}

fn run_json(options: &Options) -> Verb {
    let env = Env::from_process();
    let path = find(options, &env)?;
    let (problems, hints, scheduled, exit) = match config::load(&path, &env) {
        Ok(loaded) => (json!([]), loaded.hints, scheduled(&loaded.config, Timestamp::now()), None),
        Err(report) => (json!(report), Vec::new(), Vec::new(), Some(Exit::Config)),
    };
    print(&format!(
        "{:#}\n",
        json!({
            "version": 1,
            "path": path,
            "valid": exit.is_none(),
            "problems": problems,
            "hints": hints,
            "scheduled": scheduled,
        })
    ));
    Ok(exit)
}
