//! `highwater status`: is all well, and where does every resource stand? From the file and the configuration alone, with
//! and without a process that writes.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use tokio::time::sleep;

use super::{Console, Failure, Options, Verb, load_to_look, print};
use crate::config::Config;
use crate::daemon::next_starts;
use crate::destination::{DbError, ErrorGroup, Holder, ResourceView, View, holder};
use crate::exit::Exit;
use crate::page::ResourceId;
use crate::supervisor::Signals;

mod text;

pub(super) use text::{ago, plain, table, took};

/// Arguments of `status`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  highwater status\n  highwater status --watch\n  \
    highwater status --json | jq '.resources[] | select(.state != \"ok\")'\n\n\
    It looks at the database beside whatever writes it, and keeps nobody waiting. Exit code 0 when all is well, 1 when \
    something is not: a resource failed or stopped early, was never read, or is overdue and nothing runs that would \
    read it.")]
pub(super) struct StatusArgs {
    /// Print it as JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Show it anew every second, until Ctrl-C
    #[arg(long, conflicts_with = "json")]
    watch: bool,
}

/// How often it is shown anew.
const REDRAW_EVERY: Duration = Duration::from_secs(1);

/// What is due for longer than this, while nothing runs, is overdue.
const OVERDUE_AFTER: SignedDuration = SignedDuration::from_secs(60);

/// Errors that are listed.
const ERRORS_MAX: usize = 20;

/// Where everything stands. Its shape is versioned: keys are added, never changed.
#[derive(Debug, Serialize)]
struct Status<'c> {
    version: u32,
    is_well: bool,
    exit_code: u8,
    /// The same in a sentence.
    says: String,
    at: Timestamp,
    database: &'c Path,
    /// There is no file yet.
    is_missing: bool,
    /// The process that has the database open for writing.
    writer: Option<Holder>,
    resources: Vec<Standing>,
    errors: Vec<ErrorGroup>,
}

/// Where a resource stands.
#[derive(Debug, Serialize)]
struct Standing {
    #[serde(rename = "resource", serialize_with = "as_text")]
    id: ResourceId,
    state: State,
    /// When it is read by itself.
    schedule: Option<String>,
    /// When next, if a daemon runs; in the past where it is due.
    next: Option<Timestamp>,
    is_overdue: bool,
    /// What the file knows; nothing of one that was never read.
    known: Option<ResourceView>,
    /// Why not even its first run could begin.
    #[serde(skip)]
    refused: Option<String>,
}

/// What became of the last run of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    NeverRun,
    Running,
    Ok,
    Incomplete,
    Failed,
}

fn as_text<S: serde::Serializer>(id: &ResourceId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

pub(super) async fn run(args: &StatusArgs, options: &Options, console: &Console) -> Verb {
    let loaded = load_to_look(options, console)?;
    if args.watch {
        return watch(&loaded.config).await;
    }
    let status = look(&loaded.config).await?;
    if args.json {
        print(&format!("{:#}\n", serde_json::json!(status)));
    } else {
        print(&text::of(&status));
    }
    Ok(exit(&status))
}

/// Draws it until a signal comes. What was seen last stays on the terminal.
async fn watch(config: &Config) -> Verb {
    let target = ProgressDrawTarget::stdout();
    if target.is_hidden() {
        return Err(Failure::new(Exit::Usage, "--watch draws on a terminal, and standard output is none; use --json"));
    }
    let mut signals =
        Signals::new().map_err(|error| Failure::new(Exit::Storage, format!("listen for signals: {error}")))?;
    let bar = ProgressBar::with_draw_target(None, target)
        .with_style(ProgressStyle::with_template("{msg}").expect("a constant template"));
    let mut seen = None;
    loop {
        let looked = tokio::select! {
            _ = signals.next() => break,
            looked = look(config) => looked.inspect_err(|_| bar.abandon())?,
        };
        seen = exit(&looked);
        bar.set_message(format!("{}\n(Ctrl-C ends it)", text::of(&looked)));
        bar.tick();
        tokio::select! {
            _ = signals.next() => break,
            () = sleep(REDRAW_EVERY) => {}
        }
    }
    bar.abandon();
    Ok(seen)
}

fn exit(status: &Status<'_>) -> Option<Exit> {
    (!status.is_well).then_some(Exit::NotWell)
}

/// Looks at the file.
async fn look(config: &Config) -> Result<Status<'_>, Failure> {
    let path = &*config.destination.path;
    let enabled = config.sources.iter().filter(|(_, options)| options.enabled);
    let all = enabled.flat_map(|(source, options)| options.resources.iter().map(move |known| (source, options, known)));
    let all: Vec<_> = all
        .map(|(source, options, (name, resource))| (ResourceId::new(source, name), options.schedule_of(resource)))
        .collect();
    let (known, mut next, errors, is_missing) = match View::open(path).await {
        Ok(view) => {
            let known = view.resources().await?;
            let paused = known.iter().filter_map(|view| Some((view.id(), view.paused_at?))).collect();
            let pasts = view.pasts(all.iter().map(|(id, _)| id.clone()).collect()).await?;
            let next = next_starts(config, pasts, &paused, &view.budgets().await?);
            (known, next, view.errors(ERRORS_MAX).await?, false)
        }
        Err(DbError::NotThere(_)) => {
            (Vec::new(), next_starts(config, HashMap::new(), &HashMap::new(), &[]), Vec::new(), true)
        }
        Err(error) => return Err(error.into()),
    };
    let (writer, at) = (holder(path)?, Timestamp::now());
    let mut known: HashMap<ResourceId, ResourceView> = known.into_iter().map(|view| (view.id(), view)).collect();
    let standings = all.into_iter().map(|(id, schedule)| {
        let (known, next) = (known.remove(&id), next.remove(&id));
        let refused = errors.iter().find(|group| group.source == *id.source && group.resource == *id.resource);
        let refused = refused.filter(|_| known.is_none()).map(|group| group.error.clone());
        standing(id, (known, refused), schedule.map(|schedule| schedule.to_string()), next, writer, at)
    });
    let resources: Vec<Standing> = standings.collect();
    let is_well = resources.iter().all(|standing| text::trouble(standing).is_none());
    let mut status = Status {
        version: 1,
        is_well,
        exit_code: 0,
        says: String::new(),
        at,
        database: path,
        is_missing,
        writer,
        resources,
        errors,
    };
    status.exit_code = exit(&status).map_or(0, Exit::code);
    status.says = text::sentence(&status);
    Ok(status)
}

fn standing(
    id: ResourceId,
    (known, refused): (Option<ResourceView>, Option<String>),
    schedule: Option<String>,
    next: Option<Timestamp>,
    writer: Option<Holder>,
    at: Timestamp,
) -> Standing {
    let state = match &known {
        Some(known) => state(known, writer.is_some()),
        None if refused.is_some() => State::Failed,
        None => State::NeverRun,
    };
    let next = next.filter(|_| state != State::Running);
    let is_due = next.is_some_and(|next| at.duration_since(next) > OVERDUE_AFTER);
    // A process that runs knows better when their APIs want to be asked again.
    let is_overdue = is_due && writer.is_none();
    Standing { id, state, schedule, next, is_overdue, known, refused }
}

/// What became of the last run. One that nobody is at any more was cut short.
fn state(known: &ResourceView, has_writer: bool) -> State {
    let runs = known.last_run.as_ref().is_some_and(|run| run.outcome == "running");
    let of = |outcome: &str| match outcome {
        "complete" => State::Ok,
        "failed" => State::Failed,
        _ => State::Incomplete,
    };
    match &known.last_read {
        _ if runs && has_writer => State::Running,
        Some(read) => of(&read.outcome),
        None => known.last_run.as_ref().map_or(State::NeverRun, |run| of(&run.outcome)),
    }
}
