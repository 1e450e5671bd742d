//! `highwater reset`: forget where a read stands.

use clap::Args;
use serde_json::json;

use super::sync::select;
use super::{Console, Options, Verb, load, print};
use crate::destination::Db;

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
    /// Print what was done as JSON
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) async fn run(args: &ResetArgs, options: &Options, console: &Console) -> Verb {
    let loaded = load(options, console)?;
    let ids = select(&loaded.config, &args.selection)?;
    let db = Db::open(&loaded.config.destination).await?;
    let mut done = Vec::new();
    for id in &ids {
        let known = db.reset(id, args.drop_rows).await?;
        if args.json {
            done.push(json!({ "source": &*id.source, "resource": &*id.resource, "was_read": known }));
        } else {
            let said = if known { "will be read from the start" } else { "was not read yet" };
            print(&format!("{id} {said}\n"));
        }
    }
    db.close().await?;
    if args.json {
        print(&format!("{:#}\n", json!({ "version": 1, "reset": done, "rows_dropped": args.drop_rows })));
    }
    Ok(None)
}
