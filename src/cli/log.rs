//! Where log lines go and which ones are written: standard error, as text or JSON, or systemd's journal.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, Write};

use clap::ValueEnum;
use indicatif::MultiProgress;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry};

use super::journal::Journal;
use super::lines::LineWriter;
use super::{Console, Options};
use crate::tasks::words_of_panic;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// In systemd's journal with their fields where standard error ends there, else as text
    Auto,
    /// For people, on standard error
    Text,
    /// One JSON object per line, on standard error
    Json,
}

/// Sets up logging, once per process. A daemon has a queue for its `lines`.
pub(super) fn start(options: &Options, console: &Console, lines: Option<LineWriter>) {
    let level = match (options.quiet, options.verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "highwater=info,warn",
        (false, 2) => "highwater=debug,warn",
        // What the libraries below would say at `trace` is not ours to keep secrets out of.
        (false, _) => "highwater=trace,info",
    };
    let filter = EnvFilter::builder().parse_lossy(std::env::var("HIGHWATER_LOG").unwrap_or_else(|_| level.to_owned()));
    // Lines that the journal does not take are text again, and arrive there by another way.
    let journal = if options.log_format == LogFormat::Auto { Journal::of_stderr() } else { None };
    if let Some(journal) = journal {
        return Registry::default().with(filter).with(filter_fn(may_be_logged)).with(journal).init();
    }
    let above_bars = || AboveBars(console.bars.clone());
    let writer = lines.map_or_else(|| BoxMakeWriter::new(above_bars()), BoxMakeWriter::new);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(console.colour).with_writer(writer);
    if options.log_format == LogFormat::Json {
        builder.json().flatten_event(true).finish().with(filter_fn(may_be_logged)).init();
    } else {
        builder.without_time().with_target(false).finish().with(filter_fn(may_be_logged)).init();
    }
}

/// These print URLs and headers as they are sent, credentials included.
const OUTSPOKEN: [&str; 6] = ["hyper", "hyper_util", "h2", "reqwest", "rustls", "tower"];

/// Whatever `-v` or `HIGHWATER_LOG` ask for, what is below a warning of those is not for any log.
fn may_be_logged(event: &Metadata<'_>) -> bool {
    is_discreet(event.target(), *event.level())
}

fn is_discreet(target: &str, level: Level) -> bool {
    level <= Level::WARN || !OUTSPOKEN.contains(&target.split("::").next().unwrap_or_default())
}

/// Writes a panic as a log line: the default would write all that its message quotes to standard error, and a daemon would
/// wait there.
pub(super) fn panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let words = words_of_panic(panic.payload());
        let backtrace = Backtrace::capture();
        match backtrace.status() {
            BacktraceStatus::Captured => tracing::error!("panicked at {place}: {words}\n{backtrace}"),
            _ => tracing::error!("panicked at {place}: {words}"),
        }
    }));
}

/// Log lines go above the progress, and a closed standard error is no reason to stop.
#[derive(Clone)]
struct AboveBars(MultiProgress);

impl Write for AboveBars {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.0.suspend(|| io::stderr().write_all(line)).is_err() {
            return Ok(line.len());
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for AboveBars {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::{Level, is_discreet};

    #[test]
    fn libraries_that_print_requests_say_no_more_than_warnings() {
        for target in ["hyper::proto::h1::io", "hyper_util::client", "h2", "reqwest::connect", "rustls::client"] {
            assert!(is_discreet(target, Level::WARN) && !is_discreet(target, Level::INFO), "{target}");
        }
        assert!(is_discreet("highwater::rest::client", Level::TRACE));
    }
}
