//! The status page of a daemon with 200 resources and years of history, while it stores a big resource at full speed; and
//! that resource, read with and without somebody who looks at the page. `cargo bench --bench page`.
//!
//! The times are those of whole answers over one connection. With nothing under way they show what the machine gives
//! right now: what others do on it is in both columns.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::extract::{Query, State};
use axum::http::Uri;
use axum::response::IntoResponse;
use bytes::Bytes;
use rusqlite::{Connection, OpenFlags};
use tokio::net::TcpListener;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Small resources beside the big one.
const RESOURCES: u64 = 199;

/// Records on a page of the big resource.
const ROWS_PER_PAGE: u64 = 100;

/// The pages that are looked at. What `/`, `/index.json` and a resource show of the file is kept for a second.
const PATHS: [&str; 9] = [
    "/",
    "/index.json",
    "/metrics",
    "/resources/bench.r7",
    "/runs",
    "/runs/300007",
    "/tables/bench_items",
    "/errors",
    "/quarantine",
];

/// The pages of the big resource, rendered once: two states of it, so that each read changes every row.
struct Api {
    bodies: [Vec<Bytes>; 2],
    reads: AtomicU64,
}

fn record(id: u64, season: &str) -> String {
    let (day, hour, minute) = (1 + id / 1440 % 28, id / 60 % 24, id % 60);
    format!(
        r#"{{"id":{id},"kind":"payment_intent","user_id":{},"amount":{},"currency":"EUR","ok":{},"note":"order {id} of the {season} campaign","created_at":"2025-03-{day:02}T{hour:02}:{minute:02}:00Z","updated_at":"2025-06-{day:02}T{hour:02}:{minute:02}:30Z","ref":null}}"#,
        id * 7919 % 50_000,
        (id * 31 % 1_000_000) as f64 / 100.0,
        !id.is_multiple_of(3),
    )
}

impl Api {
    fn render(pages: u64) -> Self {
        let page = |page: u64, season: &str| {
            let ids = page * ROWS_PER_PAGE..(page + 1) * ROWS_PER_PAGE;
            let rows: Vec<String> = ids.map(|id| record(id + 1, season)).collect();
            let next = if page + 1 < pages { format!("\"p{}\"", page + 1) } else { "null".to_owned() };
            Bytes::from(format!("{{\"data\":[{}],\"next_cursor\":{next}}}", rows.join(",")))
        };
        let bodies = ["spring", "autumn"].map(|season| (0..pages).map(|number| page(number, season)).collect());
        Self { bodies, reads: AtomicU64::new(0) }
    }
}

#[derive(serde::Deserialize)]
struct At {
    cursor: Option<String>,
}

async fn serve_page(State(api): State<Arc<Api>>, uri: Uri, Query(at): Query<At>) -> impl IntoResponse {
    let body = match (uri.path(), at.cursor) {
        ("/items", Some(cursor)) => {
            let number = cursor.strip_prefix('p').and_then(|number| number.parse::<usize>().ok()).unwrap_or(0);
            api.bodies[api.reads.load(Ordering::Relaxed) as usize % 2][number].clone()
        }
        ("/items", None) => api.bodies[(api.reads.fetch_add(1, Ordering::Relaxed) + 1) as usize % 2][0].clone(),
        _ => Bytes::from_static(br#"{"data":[{"id":1,"name":"one"},{"id":2,"name":"two"}]}"#),
    };
    ([("content-type", "application/json")], body)
}

/// The configuration; `every` says when the big resource is read.
fn configure(folder: &Path, api: SocketAddr, resources: u64, every: Option<&str>) -> Result<()> {
    let mut text = format!(
        "[web]\nlisten = \"127.0.0.1:0\"\n[sources.bench.client]\nbase_url = \"http://{api}/\"\n\
         [sources.bench.resources.items]\nprimary_key = \"id\"\ndata_selector = \"data\"\n\
         paginator = {{ type = \"cursor\", cursor_path = \"next_cursor\", cursor_param = \"cursor\" }}\n"
    );
    text += &every.map(|every| format!("every = \"{every}\"\n")).unwrap_or_default();
    for number in 0..resources {
        text += &format!(
            "[sources.bench.resources.r{number}]\nprimary_key = \"id\"\ndata_selector = \"data\"\n\
             paginator = {{ type = \"single_page\" }}\n"
        );
    }
    Ok(std::fs::write(folder.join("config.toml"), text)?)
}

fn highwater(folder: &Path, verb: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    command.args([verb]).current_dir(folder).stdin(Stdio::null()).env_remove("HIGHWATER_LOG");
    command
}

/// Years of history: 400,000 runs, every eighth of them failed, five pages each, and 100,000 records set aside.
fn add_history(folder: &Path) -> Result<()> {
    let db = Connection::open(folder.join("highwater.db"))?;
    let runs = number("HISTORY", 400_000);
    db.execute_batch(&format!(
        "PRAGMA synchronous = OFF; BEGIN;
         CREATE TEMP TABLE n AS WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {pages}) SELECT i FROM n;
         INSERT INTO _hw_runs (run_id, kind, source, resource, pass_id, started_at, ended_at, outcome, stop_reason, error,
             requests, pages, received, inserted, updated, bytes)
           SELECT 1000 + i, CASE WHEN i % 50 = 0 THEN 'backfill' ELSE 'scheduled' END, 'bench', 'r' || (i % {RESOURCES}), i,
             strftime('%Y-%m-%dT%H:%M:%fZ', 1700000000 + i * 100, 'unixepoch'),
             strftime('%Y-%m-%dT%H:%M:%fZ', 1700000060 + i * 100, 'unixepoch'),
             iif(i % 8 = 3, 'failed', 'complete'), iif(i % 8 = 3, 'error', 'no_next'),
             iif(i % 8 = 3, 'https://api.example/v1/r: HTTP 50' || (i % 4) || ' after 5 attempts', NULL), 5, 5, 500, 100, 400, 100000
           FROM n WHERE i <= {runs};
         INSERT INTO _hw_pages (page_id, run_id, read_id, source, resource, partition, position, url, status, fetched_at,
             duration_ms, bytes, attempts, received, inserted, updated, unchanged, filtered, quarantined)
           SELECT 1000000 + i, 1000 + (i + 4) / 5, 1000 + (i + 4) / 5, 'bench', 'r' || ((i + 4) / 5 % {RESOURCES}), '', 'p' || i,
             'https://api.example/v1/r?cursor=p' || i, 200, strftime('%Y-%m-%dT%H:%M:%fZ', 1700000000 + i * 20, 'unixepoch'),
             20, 20000, 1, 100, 20, 80, 0, 0, 0 FROM n;
         INSERT INTO _hw_quarantine (page_id, source, resource, reason, record)
           SELECT 1000000 + i, 'bench', 'r' || (i % {RESOURCES}), 'the primary key is missing', printf('{{\"name\":\"%.300c\"}}', 'x')
           FROM n WHERE i <= 100000;
         INSERT INTO _hw_minutes SELECT 'bench', 'r' || (i % {RESOURCES}), unixepoch() / 60 - i / {RESOURCES}, i FROM n
           WHERE i <= 60 * {RESOURCES} ON CONFLICT DO NOTHING;
         COMMIT; PRAGMA wal_checkpoint(TRUNCATE)",
        pages = 5 * runs,
    ))?;
    Ok(())
}

/// A daemon that runs until it is dropped.
struct Daemon {
    child: Child,
    address: SocketAddr,
}

impl Daemon {
    fn start(folder: &Path) -> Result<Self> {
        let log = folder.join("log");
        let mut child = highwater(folder, "serve").arg("-v").stderr(File::create(&log)?).spawn()?;
        let address = loop {
            let said = std::fs::read_to_string(&log)?;
            if let Some((_, place)) = said.split_once("the status page is on ")
                && let Some((place, _)) = place.split_once('\n')
            {
                break place.trim().parse()?;
            }
            if child.try_wait()?.is_some() {
                return Err(said.into());
            }
            std::thread::park_timeout(Duration::from_millis(10));
        };
        Ok(Self { child, address })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A connection that is kept.
struct Client {
    socket: TcpStream,
    reader: BufReader<TcpStream>,
    body: Vec<u8>,
}

impl Client {
    fn connect(address: SocketAddr) -> Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        Ok(Self { reader: BufReader::with_capacity(1 << 16, socket.try_clone()?), socket, body: Vec::new() })
    }

    /// How long a whole answer takes.
    fn get(&mut self, path: &str) -> Result<Duration> {
        let started = Instant::now();
        self.socket.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())?;
        let (mut line, mut length, mut is_first) = (String::new(), 0, true);
        loop {
            line.clear();
            self.reader.read_line(&mut line)?;
            if std::mem::take(&mut is_first) && !line.contains(" 200 ") {
                return Err(format!("{path}: {line}").into());
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            if line == "\r\n" {
                break;
            }
        }
        self.body.resize(length, 0);
        self.reader.read_exact(&mut self.body)?;
        Ok(started.elapsed())
    }
}

/// Answers of one path: milliseconds, in order, and the bytes of the last.
struct Answers {
    path: String,
    ms: Vec<f64>,
    bytes: usize,
}

impl Answers {
    fn at(&self, share: f64) -> f64 {
        self.ms[((self.ms.len() - 1) as f64 * share) as usize]
    }
}

/// Asks for all pages in turn; and for `/` at a distance at which nothing that was kept is left.
fn look(address: SocketAddr) -> Result<Vec<Answers>> {
    let mut client = Client::connect(address)?;
    let ask = |client: &mut Client, paths: &[&str], times: u64, pause: Duration| -> Result<Vec<Answers>> {
        let answers = paths.iter().map(|path| Answers { path: (*path).to_owned(), ms: Vec::new(), bytes: 0 });
        let mut answers: Vec<Answers> = answers.collect();
        for _ in 0..times {
            for answer in &mut answers {
                std::thread::park_timeout(pause);
                answer.ms.push(client.get(&answer.path)?.as_secs_f64() * 1e3);
                answer.bytes = client.body.len();
            }
        }
        answers.iter_mut().for_each(|answer| answer.ms.sort_by(f64::total_cmp));
        Ok(answers)
    };
    let mut answers = ask(&mut client, &["/"], number("ANEW", 60), Duration::from_millis(1_050))?;
    answers.iter_mut().for_each(|answer| answer.path += ", not kept");
    answers.extend(ask(&mut client, &PATHS, number("REQUESTS", 500), Duration::from_millis(10))?);
    Ok(answers)
}

fn read_only(folder: &Path) -> Result<Connection> {
    Ok(Connection::open_with_flags(folder.join("highwater.db"), OpenFlags::SQLITE_OPEN_READ_ONLY)?)
}

fn stored(folder: &Path) -> Result<u64> {
    let sql = "SELECT sum(received) FROM _hw_runs WHERE resource = 'items'";
    Ok(read_only(folder)?.query_row(sql, [], |row| row.get(0))?)
}

/// The pages with nothing under way, and while the big resource is read without a pause.
fn measure_pages(address: SocketAddr) -> Result<()> {
    let folder = tempfile::tempdir()?;
    configure(folder.path(), address, RESOURCES, None)?;
    if !highwater(folder.path(), "sync").arg("--quiet").status()?.success() {
        return Err("the first sync failed".into());
    }
    add_history(folder.path())?;
    let idle = {
        let daemon = Daemon::start(folder.path())?;
        look(daemon.address)?
    };
    configure(folder.path(), address, RESOURCES, Some("1s"))?;
    let (busy, records, seconds) = {
        let daemon = Daemon::start(folder.path())?;
        let (before, started) = (stored(folder.path())?, Instant::now());
        let busy = look(daemon.address)?;
        (busy, stored(folder.path())? - before, started.elapsed().as_secs_f64())
    };
    println!(
        "| page | bytes | nothing under way: p50, p99, ms | {:.0} records/s stored: p50, p99, ms |",
        records as f64 / seconds
    );
    println!("|---|---|---|---|");
    for (idle, busy) in idle.iter().zip(&busy) {
        let [a, b, c, d] = [idle.at(0.5), idle.at(0.99), busy.at(0.5), busy.at(0.99)];
        println!("| {} | {} | {a:.2}, {b:.2} | {c:.2}, {d:.2} |", busy.path, busy.bytes);
    }
    Ok(())
}

/// How long a daemon takes for the big resource, while somebody asks for `/` again and again with such pauses.
fn read_once(address: SocketAddr, pause: Option<Duration>) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    configure(folder.path(), address, RESOURCES, Some("1h"))?;
    let daemon = Daemon::start(folder.path())?;
    let is_over = AtomicBool::new(false);
    let (is_over, address) = (&is_over, daemon.address);
    std::thread::scope(|scope| {
        let looking = pause.map(|pause| {
            scope.spawn(move || {
                let mut client = Client::connect(address).expect("the page is served");
                while !is_over.load(Ordering::Relaxed) {
                    client.get("/").expect("the page is served");
                    std::thread::park_timeout(pause);
                }
            })
        });
        let seconds = ended(folder.path());
        is_over.store(true, Ordering::Relaxed);
        looking
            .map_or(Ok(()), std::thread::ScopedJoinHandle::join)
            .map_err(|_| "the page was not served to the end")?;
        seconds
    })
}

/// Waits for the end of the run in a new file, and says how long it took, in seconds.
fn ended(folder: &Path) -> Result<f64> {
    let sql = "SELECT (julianday(ended_at) - julianday(started_at)) * 86400 FROM _hw_runs WHERE outcome = 'complete'";
    let db = read_only(folder)?;
    loop {
        std::thread::park_timeout(Duration::from_millis(50));
        match db.query_row(sql, [], |row| row.get(0)) {
            Err(rusqlite::Error::QueryReturnedNoRows) => {}
            found => return Ok(found?),
        }
    }
}

/// The same read in turn: nobody looks; a window is open; somebody asks without a pause.
fn measure_read(address: SocketAddr) -> Result<()> {
    let [mut window, mut without_pause] = [Vec::new(), Vec::new()];
    for run in 0..number("RUNS", 5) {
        let alone = read_once(address, None)?;
        let looked_at = read_once(address, Some(Duration::from_millis(1_000)))?;
        let hammered = read_once(address, Some(Duration::ZERO))?;
        println!(
            "run {run}: {alone:.2} s; with an open window {looked_at:.2} s; asked without a pause {hammered:.2} s"
        );
        window.push(looked_at / alone);
        without_pause.push(hammered / alone);
    }
    println!("median: with an open window {:.3}, asked without a pause {:.3}", median(window), median(without_pause));
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() -> Result<()> {
    let api = Arc::new(Api::render(number("PAGES", 10_000)));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?;
    let app = axum::Router::new().fallback(serve_page).with_state(api);
    runtime.spawn(async move { axum::serve(listener, app).await });
    measure_pages(address)?;
    measure_read(address)
}
