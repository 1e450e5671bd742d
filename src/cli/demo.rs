//! `highwater demo`: the shipped configuration against the practice API, in one process, into a real file, and then
//! a comparison of the file with what the API holds. Interrupted and started again, it goes on.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Console, Failure, Verb, count, print, sync, thousands, watch};
use crate::config::{self, Config, Env};
use crate::destination::{Db, DestinationOptions};
use crate::exit::Exit;
use crate::page::ResourceId;
use crate::plan::Wanted;
use crate::practice::{Practice, PracticeOptions, Served, Size};
use crate::source::{Columns, table_name};
use crate::supervisor;
use crate::tasks::TaskGroup;
use crate::verify;

/// The configuration that is shipped: the demo is the proof that it works.
const SHIPPED_CONFIG: &str = include_str!("../../config.toml");

/// Where the demo looks for its API first; another free port is as good.
const PORT: u16 = 8641;

/// So slow is a page of the full demo, so that there is time to interrupt it.
const LATENCY: Duration = Duration::from_millis(20);

/// The file that is written unless another is named.
const DEFAULT_PATH: &str = "demo.db";

/// The note that makes a file a demo's, and says of which size.
const NOTE: &str = "demo";

/// Arguments of `demo`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  highwater demo\n  highwater demo --fast\n\n\
    Press Ctrl-C while it runs, start it again, and see it go on where it stopped.\n\
    A finished demo is run anew in the same file; a file that holds anything else is left alone.")]
pub(super) struct DemoArgs {
    /// A smaller data set, as fast as it goes: under two seconds
    #[arg(long)]
    fast: bool,
    /// The database to write
    #[arg(long, default_value = DEFAULT_PATH, value_name = "PATH")]
    path: PathBuf,
}

pub(super) async fn run(args: &DemoArgs, console: &Console) -> Verb {
    let started = Instant::now();
    let Prepared { port, open } = prepare(args).await?;
    let listener = listen(port).await?;
    let address = listener.local_addr().map_err(|error| Failure::new(Exit::Storage, error))?;
    let config = configuration(&args.path, address)?;
    let practice = Practice::new(PracticeOptions {
        size: if args.fast { Size::FAST } else { Size::DEMO },
        latency: if args.fast { Duration::ZERO } else { LATENCY },
        ..PracticeOptions::default()
    });
    console.say(&format!(
        "A practice API is up on http://{address}/v1/. It answers with a 429, a few 500s, and a record that changes \
         while it is read.\n{} {} of it into {} …",
        if port.is_some() { "Going on with the unfinished" } else { "Reading" },
        count(open.len() as u64, "resource"),
        args.path.display()
    ));
    let stop = CancellationToken::new();
    let mut server = TaskGroup::default();
    server.spawn((), Arc::clone(&practice).serve(listener, stop.clone()));
    let report = supervisor::run_sync(&config, &Wanted::Sync(open), |planned| watch::watch(planned, console.clone()))
        .await
        .map_err(sync::failure)?;
    stop.cancel();
    if let Some((_, Err(panic))) = server.next().await {
        return Err(Failure::new(Exit::Bug, panic));
    }
    print(&sync::summary(&report, &args.path, &format!("highwater demo{}", again(args))));
    if report.exit().is_some() {
        return Ok(report.exit());
    }
    let records = tokio::task::block_in_place(|| check(&config, &practice.expected(), &args.path))
        .map_err(|difference| Failure::new(Exit::Bug, format!("the file is not what the API served: {difference}")))?;
    print(&format!(
        "Verified: {} hold every one of the API's {} records, each exactly as served ({:.1} s).\n",
        count(resources(&config).count() as u64, "table"),
        thousands(records),
        started.elapsed().as_secs_f64()
    ));
    Ok(None)
}

/// The arguments that start the same demo again.
fn again(args: &DemoArgs) -> String {
    let fast = if args.fast { " --fast" } else { "" };
    let path =
        if args.path == Path::new(DEFAULT_PATH) { String::new() } else { format!(" --path {}", args.path.display()) };
    format!("{fast}{path}")
}

fn resources(config: &Config) -> impl Iterator<Item = ResourceId> {
    config
        .sources
        .iter()
        .flat_map(|(source, options)| options.resources.keys().map(move |resource| ResourceId::new(source, resource)))
}

/// What the file asks for.
struct Prepared {
    /// Where an interrupted demo had its API: its positions are only good at the same address.
    port: Option<u16>,
    /// What is still to be read.
    open: Vec<ResourceId>,
}

/// Opens the file, looks at it, and makes it ready: an interrupted demo of the same size is gone on with, any other
/// is begun anew. A file that holds anything but a demo is left alone.
async fn prepare(args: &DemoArgs) -> Result<Prepared, Failure> {
    let options = DestinationOptions { path: args.path.clone(), ..DestinationOptions::default() };
    let db = Db::open(&options).await?;
    let prepared = prepare_in(&db, args).await;
    db.close().await?;
    prepared
}

async fn prepare_in(db: &Db, args: &DemoArgs) -> Result<Prepared, Failure> {
    let shipped = configuration(&args.path, SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)))?;
    let all: Vec<ResourceId> = resources(&shipped).collect();
    let size = if args.fast { "fast" } else { "full" };
    let found = db.resources().await?;
    let note = db.note(NOTE).await?;
    let foreign = found.iter().find(|(id, _)| note.is_none() || !all.contains(id));
    if let Some((id, _)) = foreign {
        let path = args.path.display();
        let text = format!("{path} holds {id}, which is no demo's; it was left alone, choose another --path");
        return Err(Failure::new(Exit::Usage, text));
    }
    let port = found.iter().find_map(|(_, identity)| port_of(identity));
    let mut open = Vec::new();
    for id in &all {
        if !db.is_complete(id).await? {
            open.push(id.clone());
        }
    }
    if note.as_deref() == Some(size) && port.is_some() && !open.is_empty() {
        return Ok(Prepared { port, open });
    }
    for (id, _) in &found {
        db.reset(id, true).await?;
    }
    db.set_note(NOTE, size).await?;
    Ok(Prepared { port: None, open: all })
}

fn configuration(path: &Path, address: SocketAddr) -> Result<Config, Failure> {
    let env = Env::with([("HIGHWATER_SOURCES__PRACTICE__CLIENT__BASE_URL", format!("http://{address}/v1/"))]);
    let mut loaded =
        config::load_text("config.toml", SHIPPED_CONFIG, &env).map_err(|report| Failure::new(Exit::Bug, report))?;
    loaded.config.destination.path = path.to_owned();
    Ok(loaded.config)
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
            match unfinished {
                Some(_) => format!(
                    "listen on port {port}, where the interrupted demo had its API: {error}; end what uses the port, \
                     or start anew with another --path"
                ),
                None => format!("listen on port {port}: {error}"),
            },
        )
    })
}

/// Compares every table with what the API holds; returns the number of records compared.
fn check(config: &Config, expected: &BTreeMap<&'static str, Served>, path: &Path) -> Result<u64, String> {
    let mut compared = 0;
    for id in &resources(config).collect::<Vec<_>>() {
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
