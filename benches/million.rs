//! One million flat records in 10,000 pages, merged into an empty table: the whole process, against a floor program
//! that only fetches the same bytes and only inserts the same rows. `cargo bench --bench million`.
//!
//! Figures are ratios of one run on one machine; the absolute times only show that they are in a sane range.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Query, State};
use axum::response::IntoResponse;
use bytes::Bytes;
use rusqlite::{Connection, params};
use tokio::net::TcpListener;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The pages, rendered once so that serving them costs as little as it can.
struct Pages {
    bodies: Vec<Bytes>,
    rows_per_page: u64,
}

/// One record of the flat shape: ten fields, some 220 bytes.
struct Flat {
    id: u64,
    user_id: u64,
    amount: f64,
    ok: bool,
    created_at: String,
    updated_at: String,
}

impl Flat {
    fn new(id: u64) -> Self {
        let (day, hour, minute) = (1 + id / 1440 % 28, id / 60 % 24, id % 60);
        Self {
            id,
            user_id: id * 7919 % 50_000,
            amount: (id * 31 % 1_000_000) as f64 / 100.0,
            ok: !id.is_multiple_of(3),
            created_at: format!("2025-03-{day:02}T{hour:02}:{minute:02}:00Z"),
            updated_at: format!("2025-06-{day:02}T{hour:02}:{minute:02}:30Z"),
        }
    }

    fn json(&self) -> String {
        format!(
            r#"{{"id":{},"kind":"payment_intent","user_id":{},"amount":{},"currency":"EUR","ok":{},"note":"order {} of the spring campaign","created_at":"{}","updated_at":"{}","ref":null}}"#,
            self.id, self.user_id, self.amount, self.ok, self.id, self.created_at, self.updated_at
        )
    }
}

impl Pages {
    fn render(pages: u64, rows_per_page: u64) -> Self {
        let bodies = (0..pages)
            .map(|page| {
                let rows: Vec<String> =
                    (page * rows_per_page..(page + 1) * rows_per_page).map(|id| Flat::new(id + 1).json()).collect();
                let next = if page + 1 < pages { format!("\"p{}\"", page + 1) } else { "null".to_owned() };
                Bytes::from(format!("{{\"data\":[{}],\"next_cursor\":{next}}}", rows.join(",")))
            })
            .collect();
        Self { bodies, rows_per_page }
    }
}

#[derive(serde::Deserialize)]
struct At {
    cursor: Option<String>,
}

async fn serve_page(State(pages): State<Arc<Pages>>, Query(at): Query<At>) -> impl IntoResponse {
    let page = at.cursor.as_deref().and_then(|cursor| cursor.strip_prefix('p')?.parse().ok()).unwrap_or(0);
    ([("content-type", "application/json")], pages.bodies[page].clone())
}

/// Fetches all pages over one connection and throws them away.
fn floor_fetch(address: SocketAddr, pages: &Pages) -> Result<Duration> {
    let started = Instant::now();
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(1 << 16, socket.try_clone()?);
    let mut body = Vec::new();
    for page in 0..pages.bodies.len() {
        write!(socket, "GET /items?cursor=p{page} HTTP/1.1\r\nHost: floor\r\n\r\n")?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            if line == "\r\n" {
                break;
            }
        }
        body.resize(length, 0);
        reader.read_exact(&mut body)?;
    }
    Ok(started.elapsed())
}

/// Inserts all rows, typed in memory before, with one prepared upsert, 10,000 rows in a transaction.
fn floor_insert(path: &Path, rows: &[Flat]) -> Result<Duration> {
    let started = Instant::now();
    let connection = Connection::open(path)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         CREATE TABLE t (id INTEGER PRIMARY KEY, kind TEXT, user_id INTEGER, amount REAL, currency TEXT, ok BOOLEAN,
           note TEXT, created_at TEXT, updated_at TEXT, ref TEXT)",
    )?;
    for batch in rows.chunks(10_000) {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        let mut upsert = connection.prepare_cached(
            "INSERT INTO t VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (id) DO UPDATE SET
             kind = excluded.kind, user_id = excluded.user_id, amount = excluded.amount, currency = excluded.currency,
             ok = excluded.ok, note = excluded.note, created_at = excluded.created_at,
             updated_at = excluded.updated_at, ref = excluded.ref",
        )?;
        for row in batch {
            upsert.execute(params![
                row.id,
                "payment_intent",
                row.user_id,
                row.amount,
                "EUR",
                row.ok,
                "order of the spring campaign, as long as it is",
                row.created_at,
                row.updated_at,
                rusqlite::types::Null,
            ])?;
        }
        drop(upsert);
        connection.execute_batch("COMMIT")?;
    }
    Ok(started.elapsed())
}

/// Runs the binary to its end; returns its time and the most memory it held, in KiB.
fn sync(folder: &Path) -> Result<(Duration, u64)> {
    let started = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_highwater"))
        .args(["sync", "--quiet"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak_kib = 0;
    let ended = loop {
        // The kernel keeps the high-water mark itself: the last look before the end is enough.
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak_kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(peak_kib);
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::park_timeout(Duration::from_millis(5));
    };
    if !ended.success() {
        return Err(format!("highwater ended with {ended}").into());
    }
    Ok((started.elapsed(), peak_kib))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() -> Result<()> {
    let pages = Arc::new(Pages::render(number("PAGES", 10_000), 100));
    let rows: Vec<Flat> = (1..=pages.bodies.len() as u64 * pages.rows_per_page).map(Flat::new).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?;
    let app = axum::Router::new().fallback(serve_page).with_state(Arc::clone(&pages));
    runtime.spawn(async move { axum::serve(listener, app).await });

    let mut table = Vec::new();
    for run in 0..number("RUNS", 5) {
        let folder = tempfile::tempdir()?;
        std::fs::write(
            folder.path().join("config.toml"),
            format!(
                "[sources.bench.client]\nbase_url = \"http://{address}/\"\n[sources.bench.resources.items]\n\
                 primary_key = \"id\"\ndata_selector = \"data\"\npaginator = {{ type = \"cursor\", \
                 cursor_path = \"next_cursor\", cursor_param = \"cursor\" }}\n"
            ),
        )?;
        let fetch = floor_fetch(address, &pages)?.as_secs_f64();
        let insert = floor_insert(&folder.path().join("floor.db"), &rows)?.as_secs_f64();
        let (first, peak_kib) = sync(folder.path())?;
        let (again, _) = sync(folder.path())?;
        let db = Connection::open(folder.path().join("highwater.db"))?;
        let stored: u64 = db.query_row("SELECT count(*) FROM bench_items", [], |row| row.get(0))?;
        if stored != rows.len() as u64 {
            return Err(format!("{stored} rows stored of {}", rows.len()).into());
        }
        let floor = fetch + insert;
        let (first, again) = (first.as_secs_f64(), again.as_secs_f64());
        println!(
            "run {run}: floor {floor:.2} s (fetch {fetch:.2} + insert {insert:.2}); sync {first:.2} s = {:.2} x floor, \
             peak {} MB; again, nothing changed: {again:.2} s = {:.2} x the first",
            first / floor,
            peak_kib / 1024,
            again / first
        );
        table.push((first / floor, again / first, first));
    }
    let column = |pick: fn(&(f64, f64, f64)) -> f64| median(table.iter().map(pick).collect());
    println!(
        "median: {:.2} x floor, {:.2} s; the second sync {:.2} x the first ({} records)",
        column(|row| row.0),
        column(|row| row.2),
        column(|row| row.1),
        rows.len()
    );
    Ok(())
}
