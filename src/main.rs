//! The binary: arguments → logging → the command → exit code.

use std::process::ExitCode;

use clap::Parser;
use highwater::cli::{self, Cli};

fn main() -> ExitCode {
    let cli = Cli::parse();
    cli::run(&cli)
}
