//! `highwater demo`: the shipped configuration against the practice API, in one process, into a real file, and then
//! a comparison of the file with what the API holds. Interrupted and started again, it goes on.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Console, Failure, Verb, count, print, sync, thousands, watch};
use crate::config::{self, Config, Env};
use crate::destination::{Db, DestinationOptions};
use crate::exit::Exit;
use crate::page::ResourceId;
use crate::plan;
use crate::practice::{Practice, PracticeOptions, Served, Size};
use crate::source::{Columns, table_name};
use crate::supervisor;
use crate::sync::exit_of_db;
use crate::tasks::TaskGroup;
use crate::verify;

/// The configuration that is shipped: the demo is the proof that it works.
const SHIPPED_CONFIG: &str = include_str!("../../config.toml");

/// Where the demo looks for its API first; another free port is as good.
const PORT: u16 = 8641;

/// So slow is a page of the full demo, so that there is time to interrupt it.
const LATENCY: Duration = Duration::from_millis(20);

/// Arguments of `demo`.
#[derive(Debug, Args)]
#[command(after_help = "Press Ctrl-C while it runs, start it again, and see it go on where it stopped.")]
pub(super) struct DemoArgs {
    /// A smaller data set, as fast as it goes: under two seconds
    #[arg(long)]
    fast: bool,
    /// The database to write
    #[arg(long, default_value = "demo.db", value_name = "PATH")]
    path: PathBuf,
}

pub(super) async fn run(args: &DemoArgs, console: &Console) -> Verb {
    let started = Instant::now();
    let unfinished = unfinished_port(&args.path).await?;
    if unfinished.is_none() {
        remove(&args.path)?;
    }
    let listener = listen(unfinished).await?;
    let address = listener.local_addr().map_err(|error| Failure::new(Exit::Storage, error))?;
    let config = configuration(&args.path, address)?;
    let ids = plan::select(&config, &[]).map_err(|error| Failure::new(Exit::Config, error))?;
    let practice = Practice::new(PracticeOptions {
        size: if args.fast { Size::FAST } else { Size::DEMO },
        latency: if args.fast { Duration::ZERO } else { LATENCY },
        ..PracticeOptions::default()
    });
    console.say(&format!(
        "A practice API is up on http://{address}/v1/. It answers with a 429, a few 500s, and a record that changes \
         while it is read.\n{} {} of it into {} …",
        if unfinished.is_some() { "Going on with" } else { "Reading" },
        count(ids.len() as u64, "resource"),
        args.path.display()
    ));
    let stop = CancellationToken::new();
    let mut server = TaskGroup::default();
    server.spawn((), std::sync::Arc::clone(&practice).serve(listener, stop.clone()));
    let report = supervisor::run_sync(&config, &ids, |planned| watch::watch(planned, console.clone()))
        .await
        .map_err(sync::failure)?;
    stop.cancel();
    if let Some((_, Err(panic))) = server.next().await {
        return Err(Failure::new(Exit::Bug, panic));
    }
    print(&sync::summary(&report, &args.path));
    if report.exit().is_some() {
        print("Run `highwater demo` again and it goes on where it stopped.\n");
        return Ok(report.exit());
    }
    let records = tokio::task::block_in_place(|| check(&config, &ids, &practice.expected(), &args.path))
        .map_err(|difference| Failure::new(Exit::Bug, format!("the file is not what the API served: {difference}")))?;
    print(&format!(
        "Verified: {} hold every one of the API's {} records, each exactly as served ({:.1} s).\n",
        count(ids.len() as u64, "table"),
        thousands(records),
        started.elapsed().as_secs_f64()
    ));
    Ok(None)
}

fn configuration(path: &Path, address: SocketAddr) -> Result<Config, Failure> {
    let env = Env::with([("HIGHWATER_SOURCES__PRACTICE__CLIENT__BASE_URL", format!("http://{address}/v1/"))]);
    let mut loaded =
        config::load_text("config.toml", SHIPPED_CONFIG, &env).map_err(|report| Failure::new(Exit::Bug, report))?;
    loaded.config.destination.path = path.to_owned();
    Ok(loaded.config)
}

/// The port of a demo that was interrupted: its positions are only good at the same address.
async fn unfinished_port(path: &Path) -> Result<Option<u16>, Failure> {
    if !path.exists() {
        return Ok(None);
    }
    let failed = |error| Failure::new(exit_of_db(&error), error);
    let options = DestinationOptions { path: path.to_owned(), ..DestinationOptions::default() };
    let db = Db::open(&options).await.map_err(failed)?;
    let shipped = configuration(path, SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)))?;
    let ids = plan::select(&shipped, &[]).map_err(|error| Failure::new(Exit::Config, error))?;
    let mut port = None;
    let mut unfinished = false;
    for id in &ids {
        if let Some(identity) = db.identity(id).await.map_err(failed)? {
            port = port.or_else(|| port_of(&identity));
        }
        unfinished |= db.checkpoint(id).await.map_err(failed)?.is_none_or(|checkpoint| !checkpoint.complete);
    }
    db.close().await.map_err(failed)?;
    Ok(port.filter(|_| unfinished))
}

fn port_of(identity: &str) -> Option<u16> {
    let identity: serde_json::Value = serde_json::from_str(identity).ok()?;
    url::Url::parse(identity["base_url"].as_str()?).ok()?.port()
}

async fn listen(unfinished: Option<u16>) -> Result<TcpListener, Failure> {
    let at = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let bound = match unfinished {
        Some(port) => at(port).await,
        None => match at(PORT).await {
            Err(error) if error.kind() == ErrorKind::AddrInUse => at(0).await,
            bound => bound,
        },
    };
    bound.map_err(|error| {
        let port = unfinished.unwrap_or(PORT);
        Failure::new(
            Exit::Storage,
            format!("listen on port {port} of the interrupted demo: {error}; delete the file to start anew"),
        )
    })
}

/// Removes the file of a demo that is finished, so that the next one shows everything again.
fn remove(path: &Path) -> Result<(), Failure> {
    for suffix in ["", "-wal", "-shm", ".lock"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match std::fs::remove_file(&name) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Failure::new(Exit::Storage, format!("remove {}: {error}", name.to_string_lossy())));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Compares every table with what the API holds; returns the number of records compared.
fn check(
    config: &Config,
    ids: &[ResourceId],
    expected: &std::collections::BTreeMap<&'static str, Served>,
    path: &Path,
) -> Result<u64, String> {
    let mut compared = 0;
    for id in ids {
        let options = &config.sources[&*id.source].resources[&*id.resource];
        let key: Vec<&str> = options.primary_key.iter().flat_map(|Columns(key)| key).map(String::as_str).collect();
        let records: Vec<serde_json::Value> = match &expected[&*id.resource] {
            Served::Keyed(records) => records.values().cloned().collect(),
            Served::Appended(records) => records.clone(),
        };
        verify::table(path, &table_name(id, options), &key, &records)?;
        compared += records.len() as u64;
    }
    Ok(compared)
}
