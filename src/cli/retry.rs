//! `highwater retry`: records that were set aside, once more.

use clap::Args;

use super::sync::{failure, say, select_one};
use super::{Console, Options, Verb, load, watch};
use crate::plan::Wanted;
use crate::supervisor;

/// Arguments of `retry`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    highwater retry shop.orders\n  highwater retry shop.orders --json\n\n\
    Records go to _hw_quarantine when they break the schema_contract or have no key. After the configuration was\n\
    corrected, this makes rows of them without asking the API again. A row that came later is never overwritten.\n\
    Records that could not be read at all, or for which a step failed, come again with the next complete read.")]
pub(super) struct RetryArgs {
    /// Whose records: one resource
    #[arg(value_name = "SOURCE.RESOURCE")]
    resource: String,
    /// Print the report as JSON
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) async fn run(args: &RetryArgs, options: &Options, console: &Console) -> Verb {
    let loaded = load(options, console)?;
    let config = &loaded.config;
    let id = select_one(config, &args.resource)?;
    let wanted = Wanted::Retry(id.clone());
    let report = supervisor::run_sync(config, &wanted, |planned| watch::watch(planned, console.clone())).await;
    let report = report.map_err(failure)?;
    let records: u64 = report.resources.iter().map(|resource| resource.counts.received).sum();
    if records == 0 && report.exit().is_none() && !args.json {
        console.say(&format!("{id} has no records set aside that can be tried again"));
        return Ok(None);
    }
    let config = options.config.as_ref().map(|path| format!(" --config {}", path.display())).unwrap_or_default();
    let again = format!("highwater{config} retry {id}");
    say(&report, &loaded.config.destination.path, args.json, &again, console);
    Ok(report.exit())
}
