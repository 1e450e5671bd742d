//! `highwater practice`: serve the practice API until a signal comes.

use std::time::Duration;

use clap::Args;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Console, Failure, Verb};
use crate::exit::Exit;
use crate::practice::{PORT, Practice, PracticeOptions, Size};
use crate::supervisor::{Ended, Signals, supervise};

/// Time for requests in flight after the first signal.
const GRACE: Duration = Duration::from_secs(5);

/// Arguments of `practice`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  highwater practice\n  PRACTICE_TOKEN=tide highwater practice --large\n\n\
    Then, in another terminal and in the folder of the shipped config.toml: highwater sync")]
pub(super) struct PracticeArgs {
    /// The loopback port to listen on; 0 takes a free one
    #[arg(long, default_value_t = PORT)]
    port: u16,
    /// Serve some 40,000 records instead of 3,000
    #[arg(long)]
    large: bool,
    /// The token that /v1/private/notes asks for
    #[arg(long, env = "PRACTICE_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

pub(super) async fn run(args: &PracticeArgs, console: &Console) -> Verb {
    let failed = |what: &str, error: std::io::Error| Failure::new(Exit::Storage, format!("{what}: {error}"));
    let listener = TcpListener::bind(("127.0.0.1", args.port))
        .await
        .map_err(|error| failed(&format!("listen on 127.0.0.1:{} (another --port?)", args.port), error))?;
    let address = listener.local_addr().map_err(|error| failed("listen", error))?;
    let practice = Practice::new(PracticeOptions {
        size: if args.large { Size::DEMO } else { Size::FAST },
        token: args.token.clone(),
        ..PracticeOptions::default()
    });
    let mut signals = Signals::new().map_err(|error| failed("listen for signals", error))?;
    let stop = CancellationToken::new();
    console.say(&format!("practice API on http://{address}/v1/ (Ctrl-C ends it)"));
    match supervise(&mut signals, &stop, GRACE, practice.serve(listener, stop.clone())).await {
        Ended::Done(Ok(())) | Ended::Cut => Ok(None),
        Ended::Done(Err(error)) => Err(failed("serve", error)),
    }
}
