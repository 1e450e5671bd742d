//! `highwater runs`: what was run, and what became of it.

use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::status::{ago, plain, table, took};
use super::sync::select;
use super::{Console, Failure, Options, Verb, load_to_look, print, thousands};
use crate::config::Config;
use crate::destination::{DbError, RunView, View};
use crate::page::ResourceId;

/// Arguments of `runs`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  highwater runs\n  highwater runs github.issues --limit 100\n  \
    highwater runs github --json | jq '.runs[] | select(.outcome == \"failed\").error'\n\n\
    The newest come first. It looks at the database beside whatever writes it, and keeps nobody waiting.")]
pub(super) struct RunsArgs {
    /// Whose runs: a source, or SOURCE.RESOURCE; those of all when none is named
    #[arg(value_name = "SOURCE[.RESOURCE]")]
    of: Option<String>,
    /// How many
    #[arg(long, value_name = "N", default_value = "20", value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Print them as JSON
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) async fn run(args: &RunsArgs, options: &Options, console: &Console) -> Verb {
    let loaded = load_to_look(options, console)?;
    let path = &*loaded.config.destination.path;
    let runs = match View::open(path).await {
        Ok(view) => find(&view, &loaded.config, args).await?,
        Err(DbError::NotThere(_)) => {
            select(&loaded.config, args.of.as_slice())?;
            Vec::new()
        }
        Err(error) => return Err(error.into()),
    };
    if args.json {
        print(&format!("{:#}\n", json!({ "version": 1, "database": path, "runs": runs })));
    } else if runs.is_empty() {
        console.say("nothing was run yet; `highwater sync` reads every source once");
    } else {
        print(&text(&runs, Timestamp::now()));
    }
    Ok(None)
}

/// The runs that are asked for. A resource that the configuration has no more still has its runs.
async fn find(view: &View, config: &Config, args: &RunsArgs) -> Result<Vec<RunView>, Failure> {
    let limit = usize::from(args.limit);
    let Some(name) = &args.of else { return Ok(view.runs(None, None, limit).await?) };
    let known = view.resources().await?.into_iter().map(|known| known.id());
    let mut ids: Vec<ResourceId> = known.filter(|id| *id.source == **name || id.to_string() == *name).collect();
    if ids.is_empty() {
        ids = select(config, args.of.as_slice())?;
    }
    let mut runs = Vec::new();
    for id in &ids {
        runs.extend(view.runs(Some(id), None, limit).await?);
    }
    runs.sort_by_key(|run| std::cmp::Reverse(run.run_id));
    runs.truncate(limit);
    Ok(runs)
}

fn text(runs: &[RunView], now: Timestamp) -> String {
    let rows: Vec<Vec<String>> = runs.iter().map(|run| columns(run, now)).collect();
    let lines = table(&["RUN", "STARTED", "TOOK", "OUTCOME", "RECORDS", "NEW", "CHANGED", "RESOURCE"], &rows);
    let mut lines = lines.lines();
    let mut text = lines.next().map(|head| format!("{head}\n")).unwrap_or_default();
    for (line, run) in lines.zip(runs) {
        text.push_str(&format!("{line}\n"));
        if let Some(error) = &run.error {
            text.push_str(&format!("    {}\n", plain(error)));
        }
    }
    text
}

fn columns(run: &RunView, now: Timestamp) -> Vec<String> {
    let lasted = run.started_at.zip(run.ended_at).map(|(from, to)| took(from, to));
    let kind = if run.kind == "sync" { String::new() } else { format!(" ({})", run.kind) };
    vec![
        run.run_id.to_string(),
        run.started_at.map(|then| ago(now, then)).unwrap_or_default(),
        lasted.unwrap_or_else(|| "-".to_owned()),
        run.outcome.clone(),
        thousands(run.received),
        thousands(run.inserted),
        thousands(run.updated),
        format!("{}.{}{kind}", run.source, run.resource),
    ]
}
