//! `highwater serve`: the daemon.

use clap::Args;

use super::sync::failure;
use super::{Console, Options, Verb, load};
use crate::config::Env;
use crate::daemon::Source;
use crate::supervisor;

/// Arguments of `serve`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    highwater serve\n  \
    highwater serve --watch\n  \
    kill -HUP $(pidof highwater)     read the configuration again\n\n\
    Resources with `schedule` or `every` are read when they are due; the others when asked for on the status page\n\
    (http://127.0.0.1:8642, see [web] in config.toml). A broken configuration changes nothing while it runs. SIGTERM or\n\
    Ctrl-C stores what was received and ends; a second one ends at once.")]
pub(super) struct ServeArgs {
    /// Read the configuration again whenever its file changes
    #[arg(long)]
    watch: bool,
}

pub(super) async fn run(args: &ServeArgs, options: &Options, console: &Console) -> Verb {
    let loaded = load(options, console)?;
    for hint in &loaded.hints {
        tracing::info!("{hint}");
    }
    let source = Source::new(loaded.path.clone(), Env::from_process(), args.watch);
    supervisor::serve(loaded, source).await.map_err(failure)?;
    Ok(None)
}
