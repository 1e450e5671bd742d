//! `highwater reset`: forget where a read stands.

use clap::Args;

use super::sync::select;
use super::{Failure, Options, Verb, print};
use crate::destination::Db;
use crate::page::ResourceId;
use crate::sync::exit_of_db;

/// Arguments of `reset`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  highwater reset github.issues\n  highwater reset github --drop-rows\n\n\
    The rows stay, and the next sync updates them, unless the resource has no primary key: then use \
    --drop-rows, or its records come a second time.")]
pub(super) struct ResetArgs {
    /// What to reset: a source, or SOURCE.RESOURCE
    #[arg(value_name = "SOURCE[.RESOURCE]", required = true)]
    selection: Vec<String>,
    /// Remove the table of the resource, too
    #[arg(long)]
    drop_rows: bool,
}

pub(super) async fn run(args: &ResetArgs, options: &Options) -> Verb {
    let console = super::Console { bars: indicatif::MultiProgress::new(), quiet: options.quiet, colour: false };
    let loaded = super::load(options, &console)?;
    let ids = select(&loaded.config, &args.selection)?;
    let failed = |error| Failure::new(exit_of_db(&error), error);
    let db = Db::open(&loaded.config.destination).await.map_err(failed)?;
    for id in &ids {
        let known = reset(&db, id, args.drop_rows).await?;
        let said = if known { "will be read from the start" } else { "was not read yet" };
        print(&format!("{id} {said}\n"));
    }
    db.close().await.map_err(failed)?;
    Ok(None)
}

async fn reset(db: &Db, id: &ResourceId, drop_rows: bool) -> Result<bool, Failure> {
    db.reset(id, drop_rows).await.map_err(|error| Failure::new(exit_of_db(&error), error))
}
