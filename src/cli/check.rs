//! `highwater check`: is the configuration right?

use clap::Args;
use serde_json::json;

use super::{Console, Options, Verb, count, find, load, print};
use crate::config::{self, Env};
use crate::exit::Exit;
use crate::page::ResourceId;
use crate::source::table_name;

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
    let mut resources = 0;
    for (source, options) in &loaded.config.sources {
        let state = if options.enabled { "" } else { " (not enabled)" };
        print(&format!("{source}: {}{state}\n", options.client.base_url));
        for (resource, options) in &options.resources {
            let table = table_name(&ResourceId::new(source, resource), options);
            print(&format!("  {resource} → {table}\n"));
            resources += 1;
        }
    }
    print(&format!("{} is right: {}\n", loaded.path.display(), count(resources, "resource")));
    Ok(None)
}

fn run_json(options: &Options) -> Verb {
    let env = Env::from_process();
    let path = find(options, &env)?;
    let (problems, hints, exit) = match config::load(&path, &env) {
        Ok(loaded) => (json!([]), loaded.hints, None),
        Err(report) => (json!(report), Vec::new(), Some(Exit::Config)),
    };
    print(&format!(
        "{:#}\n",
        json!({"version": 1, "path": path, "valid": exit.is_none(), "problems": problems, "hints": hints})
    ));
    Ok(exit)
}
