//! `highwater sync`: one run, and what it says at its end.

use std::path::Path;

use clap::Args;
use serde_json::json;

use super::metrics_file::MetricsFile;
use super::{Console, Failure, Options, Verb, complain, count, load, print, thousands, watch};
use crate::config::Config;
use crate::destination::Counts;
use crate::exit::Exit;
use crate::page::ResourceId;
use crate::plan::{self, PlanError, Wanted};
use crate::supervisor::{self, RunError};
use crate::sync::{ResourceReport, SyncReport, exit_of_db};

/// Arguments of `sync`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    highwater sync\n  highwater sync github\n  highwater sync github.issues shop.products --json")]
pub(super) struct SyncArgs {
    /// What to read: a source, or SOURCE.RESOURCE; everything that is enabled when none is named
    #[arg(value_name = "SOURCE[.RESOURCE]")]
    selection: Vec<String>,
    /// Print the report as JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    metrics: MetricsFile,
}

pub(super) async fn run(args: &SyncArgs, options: &Options, console: &Console) -> Verb {
    let loaded = load(options, console)?;
    for hint in &loaded.hints {
        tracing::info!("{hint}");
    }
    let config = &loaded.config;
    let ids = select(config, &args.selection)?;
    if ids.is_empty() {
        console.say("nothing to read: the configuration has no resource in an enabled source");
    }
    let wanted = Wanted::Sync(ids.clone());
    let ended = supervisor::run_sync(config, &wanted, |planned| watch::watch(planned, console.clone())).await;
    let ended = ended.map_err(failure);
    let unwritten = args.metrics.write(&ids, ended.as_ref(), config).await;
    let report = ended?;
    say(&report, &config.destination.path, args.json, &again(&report, options), console);
    Ok(report.exit().or(unwritten))
}

/// Prints the report of a run. `again` is the command that goes on with what is not complete.
pub(super) fn say(report: &SyncReport, path: &Path, json: bool, again: &str, console: &Console) {
    if json {
        print(&format!("{:#}\n", as_json(report, path)));
    } else if console.quiet {
        errors(report).for_each(|error| complain(&error));
    } else {
        print(&summary(report, path, again));
    }
}

/// Whether another run may complete it: what the configuration or the records are at fault for does not get better
/// by itself.
fn goes_on(resource: &&ResourceReport) -> bool {
    !matches!(resource.exit, None | Some(Exit::Config | Exit::Contract))
}

/// The command that goes on with what this run did not complete.
fn again(report: &SyncReport, options: &Options) -> String {
    let config = options.config.as_ref().map(|path| format!(" --config {}", path.display())).unwrap_or_default();
    let open = report.resources.iter().filter(goes_on);
    open.fold(format!("highwater{config} sync"), |command, resource| format!("{command} {}", resource.id))
}

/// The resources that the command line names.
pub(super) fn select(config: &Config, selection: &[String]) -> Result<Vec<ResourceId>, Failure> {
    plan::select(config, selection).map_err(|error| failure(error.into()))
}

/// The one resource that the command line names.
pub(super) fn select_one(config: &Config, name: &str) -> Result<ResourceId, Failure> {
    match <[ResourceId; 1]>::try_from(select(config, &[name.to_owned()])?) {
        Ok([id]) => Ok(id),
        Err(_) => {
            let text = format!("`{name}` is a source with several resources; name one of them");
            Err(Failure::new(Exit::Usage, text))
        }
    }
}

/// An error that kept the run from beginning or ending, with its exit code.
pub(super) fn failure(error: RunError) -> Failure {
    let exit = match &error {
        RunError::Plan(PlanError::Db(error)) | RunError::Db(error) => exit_of_db(error),
        RunError::Plan(PlanError::Selection(_) | PlanError::Range { .. }) => Exit::Usage,
        RunError::Plan(_) => Exit::Config,
        RunError::Signals(_) => Exit::Storage,
        RunError::Web { error, .. } if error.kind() == std::io::ErrorKind::AddrInUse => Exit::Held,
        RunError::Web { .. } => Exit::Config,
        RunError::Stopped | RunError::Cut => Exit::Stopped,
    };
    Failure::new(exit, error)
}

/// The last lines of a run, for a person. `again` is the command that goes on with what is not complete.
pub(super) fn summary(report: &SyncReport, path: &Path, again: &str) -> String {
    let rows: Vec<[String; 5]> = report.resources.iter().map(columns).collect();
    let widths: Vec<usize> =
        (0..5).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let line: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width)).collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    for resource in &report.resources {
        if !resource.child_tables.is_empty() {
            text.push_str(&format!("{}: its lists are in {}\n", resource.table, resource.child_tables.join(", ")));
        }
        if let Some(position) = &resource.resumed_at {
            text.push_str(&format!("{}: went on at the {position}, where the run before had stopped\n", resource.id));
        }
        if let Some(reason) = &resource.started_over {
            text.push_str(&format!("{}: started over: {reason}\n", resource.id));
        }
    }
    for error in errors(report) {
        text.push_str(&error);
        text.push('\n');
    }
    let quarantined: u64 = report.resources.iter().map(|resource| resource.counts.quarantined).sum();
    if quarantined > 0 {
        text.push_str(&format!(
            "{} set aside, see: sqlite3 {} 'SELECT resource, reason, record FROM _hw_quarantine WHERE retried_page_id IS NULL'\n",
            count(quarantined, "record"),
            path.display()
        ));
    }
    text.push_str(&closing(report, path, again));
    text
}

/// What went wrong, a line each.
fn errors(report: &SyncReport) -> impl Iterator<Item = String> {
    let resources = report.resources.iter().filter_map(|resource| resource.error.clone());
    resources.chain(report.db_error.as_ref().map(ToString::to_string)).map(|error| format!("error: {error}"))
}

fn columns(resource: &ResourceReport) -> [String; 5] {
    let retries = if resource.retries > 0 { format!(" ({})", count(resource.retries, "retry")) } else { String::new() };
    [
        resource.table.clone(),
        resource.outcome.as_str().to_owned(),
        changes(&resource.counts),
        format!("{}, {}{retries}", count(resource.pages, "page"), count(resource.requests, "request")),
        resource.stop_reason.to_string(),
    ]
}

/// How the rows of a table changed.
fn changes(counts: &Counts) -> String {
    let parts: Vec<String> = [
        (counts.inserted, "new"),
        (counts.updated, "changed"),
        (counts.unchanged, "unchanged"),
        (counts.filtered, "left out"),
        (counts.quarantined, "set aside"),
    ]
    .into_iter()
    .filter(|(number, _)| *number > 0)
    .map(|(number, word)| format!("{} {word}", thousands(number)))
    .collect();
    if parts.is_empty() { "no records".to_owned() } else { parts.join(", ") }
}

fn closing(report: &SyncReport, path: &Path, again: &str) -> String {
    let path = path.display();
    let mut text = String::new();
    let stored = |resource: &&ResourceReport| resource.counts.received > resource.counts.quarantined;
    if let Some(first) = report.resources.iter().find(stored) {
        text.push_str(&format!(
            "The data is in {path}. Look at it: sqlite3 {path} 'SELECT * FROM \"{}\" LIMIT 5'\n",
            first.table
        ));
    }
    if report.resources.iter().any(|resource| goes_on(&resource)) {
        text.push_str(&format!("Not complete. To go on where it stopped: {again}\n"));
    }
    text
}

/// The report for programs. Its shape is versioned: keys are added, never changed.
pub(super) fn as_json(report: &SyncReport, path: &Path) -> serde_json::Value {
    let resources: Vec<_> = report
        .resources
        .iter()
        .map(|resource| {
            json!({
                "source": &*resource.id.source,
                "resource": &*resource.id.resource,
                "table": resource.table,
                "child_tables": resource.child_tables,
                "outcome": resource.outcome.as_str(),
                "stop_reason": resource.stop_reason.as_str(),
                "pages": resource.pages,
                "requests": resource.requests,
                "retries": resource.retries,
                "records": resource.counts,
                "resumed_at": resource.resumed_at,
                "started_over": resource.started_over,
                "error": resource.error,
            })
        })
        .collect();
    json!({
        "version": 1,
        "database": path,
        "complete": report.exit().is_none(),
        "exit_code": report.exit().map_or(0, Exit::code),
        "database_error": report.db_error.as_ref().map(ToString::to_string),
        "resources": resources,
    })
}
