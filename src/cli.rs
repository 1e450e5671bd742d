//! The command line: its verbs and their arguments, and what every verb shares.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgAction, Args, Parser, Subcommand};
use indicatif::{MultiProgress, ProgressDrawTarget};

use crate::config::{self, Env, Loaded};
use crate::destination::DbError;
use crate::exit::Exit;
use crate::sync::exit_of_db;
use lines::Lines;
use log::LogFormat;

mod backfill;
mod check;
mod demo;
mod journal;
mod lines;
mod log;
mod metrics_file;
mod practice;
mod reset;
mod retry;
mod runs;
mod serve;
mod status;
mod sync;
mod watch;

/// An exact, resumable SQLite copy of any paginated HTTP API, from one config file.
#[derive(Debug, Parser)]
#[command(
    version,
    max_term_width = 110,
    after_help = "Examples:\n  \
        highwater demo                 the whole thing against a small local API, into demo.db\n  \
        highwater check                is config.toml right?\n  \
        highwater sync                 read every source once, going on where the last run stopped\n  \
        highwater sync github.issues   read one resource\n  \
        highwater status               is all well?\n  \
        highwater backfill github.issues --from 2023-01-01 --to 2024-01-01\n\n\
        Exit codes: 0 complete, 2 command line, 65 bad records, 69 API down, 70 bug, 73 database in use, 74 disk,\n\
        75 stopped early (run again), 77 refused (401/403), 78 configuration; of status: 1 not all is well"
)]
pub struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Command,
}

/// Arguments that every verb takes.
#[derive(Debug, Args)]
struct Options {
    /// The configuration [default: ./config.toml, then $CONFIGURATION_DIRECTORY and ~/.config/highwater]
    #[arg(short, long, global = true, env = "HIGHWATER_CONFIG", value_name = "PATH")]
    config: Option<PathBuf>,
    /// Print errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Say more (-v: what is going on, -vv: every request, -vvv: everything)
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    /// How log lines are written
    #[arg(long, global = true, env = "HIGHWATER_LOG_FORMAT", default_value = "auto", value_name = "FORMAT")]
    log_format: LogFormat,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read sources once, going on where the last run stopped
    Sync(sync::SyncArgs),
    /// Read a range of the past; the cursor of the live reads stays where it is
    Backfill(backfill::BackfillArgs),
    /// Make rows of records that were set aside, after the configuration was corrected
    Retry(retry::RetryArgs),
    /// Run what is scheduled, until it is stopped
    Serve(serve::ServeArgs),
    /// Say whether all is well, and where every resource stands
    Status(status::StatusArgs),
    /// List the last runs
    Runs(runs::RunsArgs),
    /// Check the configuration without reading anything
    Check(check::CheckArgs),
    /// Forget where a resource's read stands, so that the next sync reads it from the start
    Reset(reset::ResetArgs),
    /// Run the whole thing against a small local API, into demo.db, and verify the result
    Demo(demo::DemoArgs),
    /// Serve the practice API that the shipped config.toml reads
    Practice(practice::PracticeArgs),
    /// Print the JSON Schema of config.toml, for editors
    #[command(after_help = "Examples:\n  highwater schema > config.schema.json\n\n\
        A config.toml beside it that begins with `#:schema ./config.schema.json` is then completed and checked while \
        you write it.")]
    Schema,
}

impl Command {
    /// Whether a program reads what the verb prints.
    fn wants_json(&self) -> bool {
        match self {
            Self::Sync(args) => args.json,
            Self::Backfill(args) => args.json,
            Self::Retry(args) => args.json,
            Self::Status(args) => args.json,
            Self::Runs(args) => args.json,
            Self::Check(args) => args.json,
            Self::Reset(args) => args.json,
            Self::Serve(_) | Self::Demo(_) | Self::Practice(_) | Self::Schema => false,
        }
    }
}

/// How a verb ended: well, with the exit code of what it reported, or with an error that is still to be printed.
type Verb = Result<Option<Exit>, Failure>;

/// An error that ends a verb.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    text: String,
}

impl Failure {
    fn new(exit: Exit, error: impl Display) -> Self {
        Self { exit, text: format!("error: {error}") }
    }

    /// In place of what a verb would have printed: programs find the reason where they look for the result.
    fn as_json(&self) -> serde_json::Value {
        let error = self.text.strip_prefix("error: ").unwrap_or(&self.text);
        serde_json::json!({ "version": 1, "complete": false, "exit_code": self.exit.code(), "error": error })
    }
}

impl From<DbError> for Failure {
    fn from(error: DbError) -> Self {
        Self::new(exit_of_db(&error), error)
    }
}

/// What a verb writes with.
#[derive(Clone, Debug)]
struct Console {
    /// Progress on a terminal; hidden elsewhere.
    bars: MultiProgress,
    quiet: bool,
    colour: bool,
}

/// Runs the verb and returns what the process ends with.
#[must_use]
pub fn run(cli: &Cli) -> ExitCode {
    let terminal = io::stderr().is_terminal();
    let plain_logs = cli.options.log_format != LogFormat::Json;
    let target = if terminal && plain_logs && !cli.options.quiet {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let console = Console {
        bars: MultiProgress::with_draw_target(target),
        quiet: cli.options.quiet,
        colour: terminal
            && !cli.command.wants_json()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
    };
    // The work of a daemon waits for nobody who reads its words; a verb that is run once is as patient as its terminal.
    let lines = match &cli.command {
        Command::Serve(_) => match Lines::start(io::stderr()) {
            Ok(lines) => Some(lines),
            Err(error) => return finish(Err(Failure::new(Exit::Storage, format!("start a thread: {error}"))), None),
        },
        _ => None,
    };
    log::start(&cli.options, &console, lines.as_ref().map(Lines::writer));
    log::panics();
    // Once per process, before the first client. A second provider could only be this one again.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::debug!("the TLS provider was installed before");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return finish(Err(Failure::new(Exit::Storage, format!("start the runtime: {error}"))), lines.as_ref());
        }
    };
    let ended = runtime.block_on(dispatch(cli, &console));
    // Tasks that are still there were cut off; waiting for them could take as long as what they wait for.
    runtime.shutdown_background();
    if let (Err(failure), true) = (&ended, cli.command.wants_json()) {
        print(&format!("{:#}\n", failure.as_json()));
    }
    finish(ended, lines.as_ref())
}

async fn dispatch(cli: &Cli, console: &Console) -> Verb {
    match &cli.command {
        Command::Sync(args) => sync::run(args, &cli.options, console).await,
        Command::Backfill(args) => backfill::run(args, &cli.options, console).await,
        Command::Retry(args) => retry::run(args, &cli.options, console).await,
        Command::Status(args) => status::run(args, &cli.options, console).await,
        Command::Runs(args) => runs::run(args, &cli.options, console).await,
        Command::Check(args) => check::run(args, &cli.options, console),
        Command::Reset(args) => reset::run(args, &cli.options, console).await,
        Command::Serve(args) => serve::run(args, &cli.options, console).await,
        Command::Demo(args) => demo::run(args, console).await,
        Command::Practice(args) => practice::run(args, console).await,
        Command::Schema => {
            print(&format!("{:#}\n", config::json_schema()));
            Ok(None)
        }
    }
}

fn finish(ended: Verb, lines: Option<&Lines>) -> ExitCode {
    match ended {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(exit)) => ExitCode::from(exit.code()),
        Err(failure) => {
            match lines {
                Some(lines) => lines.put(&format!("{}\n", failure.text)),
                None => complain(&failure.text),
            }
            ExitCode::from(failure.exit.code())
        }
    }
}

fn find(options: &Options, env: &Env) -> Result<PathBuf, Failure> {
    config::find(options.config.as_deref(), env).map_err(|error| {
        let next = "write one, or name yours with --config; `highwater demo` shows without one how it all works";
        Failure::new(Exit::Config, format!("{error}; {next}"))
    })
}

/// Finds and loads the configuration; every problem of it is in the failure.
fn load(options: &Options, console: &Console) -> Result<Loaded, Failure> {
    load_in(&Env::from_process(), options, console)
}

/// The same for a verb that only looks at the file, as people do who do not have the secrets of the service.
fn load_to_look(options: &Options, console: &Console) -> Result<Loaded, Failure> {
    load_in(&Env::from_process().without_requests(), options, console)
}

fn load_in(env: &Env, options: &Options, console: &Console) -> Result<Loaded, Failure> {
    let path = find(options, env)?;
    config::load(&path, env).map_err(|report| Failure {
        exit: Exit::Config,
        text: if console.colour { report.with_colors() } else { report.to_string() },
    })
}

/// Writes to standard output. A reader that has gone away ends nothing: the work is done all the same.
fn print(text: &str) {
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        tracing::debug!(%error, "standard output");
    }
}

/// Writes a line to standard error, in front of which there may be nothing to read it either.
fn complain(text: &str) {
    if let Err(error) = writeln!(io::stderr().lock(), "{text}") {
        tracing::debug!(%error, "standard error");
    }
}

impl Console {
    /// Says something to the person, above the progress.
    fn say(&self, text: &str) {
        if !self.quiet {
            self.bars.suspend(|| complain(text));
        }
    }
}

/// A number with thousands set apart.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 page`, `2 pages`.
fn count(number: u64, noun: &str) -> String {
    let plural = match (number, noun.strip_suffix('y')) {
        (1, _) => noun.to_owned(),
        (_, Some(stem)) => format!("{stem}ies"),
        (_, None) => format!("{noun}s"),
    };
    format!("{} {plural}", thousands(number))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::{Cli, count, thousands};

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(
            (thousands(0), thousands(999), thousands(1_234_567)),
            ("0".into(), "999".into(), "1,234,567".into())
        );
        assert_eq!(
            (count(1, "page"), count(2, "page"), count(0, "retry")),
            ("1 page".into(), "2 pages".into(), "0 retries".into())
        );
    }
}
