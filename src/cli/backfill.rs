//! `highwater backfill`: a range of the past, without moving the cursor of the live reads.

use clap::Args;

use super::metrics_file::MetricsFile;
use super::sync::{failure, say, select_one};
use super::{Console, Options, Verb, load, print, watch};
use crate::plan::Wanted;
use crate::plan::backfill::Range;
use crate::source::incremental::{Stride, stride};
use crate::supervisor;

/// Arguments of `backfill`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    highwater backfill stripe.charges --from 2023-01-01 --to 2024-01-01\n  \
    highwater backfill stripe.charges --from 2023-01-01 --to 2024-01-01 --step 1mo --concurrency 4\n  \
    highwater backfill stripe.charges --fill-gaps\n\n\
    The range is read in windows, each a unit of its own: interrupted, it goes on where it stopped. Windows that were\n\
    read completely before are not read again (the table _hw_coverage knows them), so a repeat asks for nothing.\n\
    The cursor of `highwater sync` stays where it is.")]
pub(super) struct BackfillArgs {
    /// What to read: one resource that has `incremental`
    #[arg(value_name = "SOURCE.RESOURCE")]
    resource: String,
    /// The first value of the range: a date, a time, or a value as the API writes it
    #[arg(long, value_name = "VALUE", required_unless_present = "fill_gaps")]
    from: Option<String>,
    /// The value behind the last one of the range. Nothing behind the clock is read, with `append` nothing behind the live cursor
    #[arg(long, value_name = "VALUE", required_unless_present = "fill_gaps")]
    to: Option<String>,
    /// The length of a window (12h, 7d, 1mo, or a number) [default: the resource's `step`, else the whole range]
    #[arg(long, value_name = "LENGTH", value_parser = length)]
    step: Option<Length>,
    /// Windows read at the same time [default: the resource's `concurrency`]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    concurrency: Option<u16>,
    /// Read exactly what is missing; without --from and --to, between the first and the last that was ever read
    #[arg(long)]
    fill_gaps: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    metrics: MetricsFile,
}

/// The length of a window, and how it was written.
#[derive(Clone, Debug)]
struct Length(String, Stride);

fn length(text: &str) -> Result<Length, String> {
    let stride = match text.parse::<i64>() {
        Ok(number) if number > 0 => Stride::Number(number),
        Ok(_) => return Err("a number of steps is positive".to_owned()),
        Err(_) => stride(text)?,
    };
    Ok(Length(text.to_owned(), stride))
}

pub(super) async fn run(args: &BackfillArgs, options: &Options, console: &Console) -> Verb {
    let loaded = load(options, console)?;
    let config = &loaded.config;
    let id = select_one(config, &args.resource)?;
    let range = Range {
        from: args.from.clone(),
        to: args.to.clone(),
        step: args.step.as_ref().map(|Length(_, stride)| stride.clone()),
        concurrency: args.concurrency.map(usize::from),
        fill_gaps: args.fill_gaps,
    };
    let wanted = Wanted::Backfill(id.clone(), range);
    let ended = supervisor::run_sync(config, &wanted, |planned| watch::watch(planned, console.clone())).await;
    let ended = ended.map_err(failure);
    let unwritten = args.metrics.write(std::slice::from_ref(&id), ended.as_ref(), config).await;
    let report = ended?;
    if report.resources.is_empty() && report.db_error.is_none() && !args.json {
        if !console.quiet {
            print(&format!(
                "Nothing to do: all of it was read before (see the table _hw_coverage of {}).\n",
                config.destination.path.display()
            ));
        }
        return Ok(unwritten);
    }
    say(&report, &config.destination.path, args.json, &again(args, options), console);
    Ok(report.exit().or(unwritten))
}

/// The command that goes on with what is not complete.
fn again(args: &BackfillArgs, options: &Options) -> String {
    let mut command = "highwater".to_owned();
    if let Some(config) = &options.config {
        command.push_str(&format!(" --config {}", config.display()));
    }
    command.push_str(&format!(" backfill {}", args.resource));
    let step = args.step.as_ref().map(|Length(text, _)| text.clone());
    for (name, value) in [("--from", &args.from), ("--to", &args.to), ("--step", &step)] {
        if let Some(value) = value {
            command.push_str(&format!(" {name} {value}"));
        }
    }
    if args.fill_gaps {
        command.push_str(" --fill-gaps");
    }
    command
}
