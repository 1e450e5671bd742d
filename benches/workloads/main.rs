//! The workloads, each run several times in turn with the floor: `cargo bench --bench workloads`. See docs/benchmarks.md.
//!
//! Figures are ratios of one call on one machine; the seconds only show that they are in a sane range.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its table, and what it is doing")]

mod cases;
mod floor;
mod process;
mod report;
mod server;
mod shapes;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::cases::Cases;
use crate::report::Report;
use crate::server::Server;
use crate::shapes::Shape;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[derive(Debug, Parser)]
#[command(about = "Measures the workloads beside the floor", disable_version_flag = true)]
struct Arguments {
    /// Workloads by number: `--only 1,3`; all without
    #[arg(long, value_delimiter = ',')]
    only: Vec<u32>,
    /// How often each is measured
    #[arg(long, default_value_t = 5)]
    runs: u32,
    /// A tenth of the pages, for a quick look; not comparable with whole runs
    #[arg(long)]
    short: bool,
    /// Where the JSON goes
    #[arg(long, default_value = "target/workloads.json")]
    json: PathBuf,
    /// The JSON of an earlier run, to stand beside this one
    #[arg(long)]
    compare: Option<PathBuf>,
    /// What cargo gives to every benchmark
    #[arg(long, hide = true, global = true)]
    bench: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What this program does as a process of its own.
#[derive(Debug, Subcommand)]
enum Role {
    /// Serves the records until its input ends; its first line says where
    Server,
    #[command(hide = true)]
    FloorFetch {
        url: String,
        shape: String,
        pages: u64,
        #[arg(default_value_t = 100)]
        rows: u64,
    },
    #[command(hide = true)]
    FloorInsert { path: PathBuf, shape: String, rows: u64 },
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let shape = |name: &str| if name == "nested" { Shape::Nested } else { Shape::Flat };
    match &arguments.role {
        Some(Role::Server) => return server::serve(),
        Some(Role::FloorFetch { url, shape, pages, rows }) => {
            println!("{}", floor::fetch(url, &format!("/{shape}"), *pages, *rows)?);
            return Ok(());
        }
        Some(Role::FloorInsert { path, shape: name, rows }) => {
            println!("{}", floor::insert(path, shape(name), *rows)?);
            return Ok(());
        }
        None => {}
    }
    let earlier = arguments.compare.as_deref().map(Report::read).transpose()?;
    let version = std::process::Command::new(process::highwater()).arg("--version").output()?;
    let mut report = Report {
        version: 1,
        highwater: String::from_utf8(version.stdout)?.trim().to_owned(),
        date: jiff::Zoned::now().date().to_string(),
        machine: report::machine(),
        short: arguments.short,
        figures: BTreeMap::new(),
    };
    if earlier.as_ref().is_some_and(|earlier| earlier.short != report.short) {
        return Err("a short run cannot be compared with a whole one".into());
    }
    let server = Server::start()?;
    let cases = Cases { server: &server, short: arguments.short };
    for run in 0..arguments.runs {
        for number in
            cases::ALL.into_iter().filter(|number| arguments.only.is_empty() || arguments.only.contains(number))
        {
            eprintln!("run {} of {}: W{number}", run + 1, arguments.runs);
            cases.measure(number, run == 0, &mut report).map_err(|error| format!("W{number}: {error}"))?;
        }
    }
    println!("{}", report.table(earlier.as_ref())?);
    if let Some(folder) = arguments.json.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&arguments.json, serde_json::to_string_pretty(&report)? + "\n")?;
    println!("written: {}", arguments.json.display());
    Ok(())
}
