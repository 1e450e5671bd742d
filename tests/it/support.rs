//! What the tests stand on: a folder with a configuration, the built binary, and APIs on real sockets whose request
//! log is the judge.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use highwater::practice::{Practice, PracticeOptions};
use rusqlite::{Connection, OpenFlags, types::FromSql};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// Nothing that is tested takes this long; it keeps a hanging product from hanging the tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The binary that is tested: the one that was built with the tests, or the one that `HIGHWATER` names.
pub(crate) fn binary() -> String {
    std::env::var("HIGHWATER").unwrap_or_else(|_| env!("CARGO_BIN_EXE_highwater").to_owned())
}

/// A folder of its own, with a configuration and a database in it.
pub(crate) struct Workspace {
    folder: tempfile::TempDir,
}

/// What a finished process left.
#[derive(Debug, Default)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Workspace {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// A workspace whose configuration is `text`, with `BASE` replaced by the address of `api`.
    pub(crate) fn with_config(api: SocketAddr, text: &str) -> Self {
        let workspace = Self::new();
        workspace.configure(api, text);
        workspace
    }

    pub(crate) fn configure(&self, api: SocketAddr, text: &str) {
        self.write("config.toml", &text.replace("BASE", &format!("http://{api}/")));
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Leaves the folder where it is when the test has ended.
    pub(crate) fn keep(self) -> PathBuf {
        self.folder.keep()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(&binary(), arguments)
    }

    /// The same of another program.
    pub(crate) fn command_of(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.folder.path()).env_clear().env("NO_COLOR", "1");
        // What `tests/teeth/run` chooses; it says nothing to a binary that was built for anything else.
        command.envs(std::env::var_os("SABOTAGE").map(|name| ("SABOTAGE", name)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Finished {
        finish(self.spawn(arguments))
    }

    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().unwrap()
    }

    /// `highwater sync --json`, which has to end with `code`.
    pub(crate) fn sync(&self, code: i32) -> serde_json::Value {
        let finished = self.run(&["sync", "--json"]);
        assert_eq!(finished.code, Some(code), "{finished:#?}");
        serde_json::from_str(&finished.stdout).unwrap()
    }

    /// A fresh connection to the database.
    pub(crate) fn db(&self) -> Connection {
        Connection::open_with_flags(self.path("highwater.db"), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
    }

    /// The first column of all rows.
    pub(crate) fn column<T: FromSql>(&self, sql: &str) -> Vec<T> {
        let db = self.db();
        let mut statement = db.prepare(sql).unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    }

    /// The first column of the only row.
    pub(crate) fn value<T: FromSql>(&self, sql: &str) -> T {
        self.db().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// Whether the books add up: the ledger, and the rows that the tables are said to have.
    pub(crate) fn check_books(&self) {
        self.check_ledger();
        for (column, prefix) in [("rows", ""), ("next_rows", "_hw_next_")] {
            let sql = format!("SELECT '{prefix}' || \"table\", {column} FROM _hw_resources");
            let db = self.db();
            let mut statement = db.prepare(&sql).unwrap();
            let kept = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
            for (table, kept) in kept.collect::<Result<Vec<(String, i64)>, _>>().unwrap() {
                let is_there = db.table_exists(None, table.as_str()).unwrap();
                let count = || self.value(&format!("SELECT count(*) FROM \"{table}\""));
                let counted: i64 = if is_there { count() } else { 0 };
                let is_over = !is_there && column == "next_rows";
                assert!(kept == counted || is_over, "{table} has {counted} rows, not {kept}");
            }
        }
    }

    /// What SQLite says of the file, and what the ledger says of the records.
    pub(crate) fn check_ledger(&self) {
        assert_eq!(self.value::<String>("PRAGMA integrity_check"), "ok");
        let unbalanced: i64 = self.value(
            "SELECT count(*) FROM _hw_runs r WHERE received <> (SELECT coalesce(sum(received), 0) FROM _hw_pages p
             WHERE p.run_id = r.run_id) OR pages <> (SELECT count(*) FROM _hw_pages p WHERE p.run_id = r.run_id)",
        );
        assert_eq!(unbalanced, 0, "runs and their pages disagree");
        // A retry leaves what it cannot store with the page that it came with.
        let strays: i64 = self.value(
            "SELECT count(*) FROM _hw_pages p JOIN _hw_runs r USING (run_id) WHERE r.kind <> 'retry'
               AND p.quarantined <> (SELECT count(*) FROM _hw_quarantine q WHERE q.page_id = p.page_id)",
        );
        assert_eq!(strays, 0, "pages and the quarantine disagree");
    }
}

/// Waits for a process to end by itself, and kills it when that takes too long.
pub(crate) fn finish(mut child: Child) -> Finished {
    let mut stdout = child.stdout.take().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let (stdout, stderr) = std::thread::scope(|scope| {
        use std::io::Read;
        let errors = scope.spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).unwrap();
            text
        });
        let mut text = String::new();
        stdout.read_to_string(&mut text).unwrap();
        (text, errors.join().unwrap())
    });
    let status = child.wait().unwrap();
    Finished { code: status.code(), stdout, stderr }
}

/// Sends a signal to a process, as `kill` does.
pub(crate) fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// A request as an API saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
    pub(crate) at: Instant,
}

impl Seen {
    /// The path without the query.
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    /// A parameter of the query.
    pub(crate) fn param(&self, name: &str) -> Option<String> {
        let url = url::Url::parse(&format!("http://x{}", self.target)).unwrap();
        url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }
}

/// An API on loopback that answers as its function says.
pub(crate) struct Api {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    _runtime: Runtime,
}

impl Api {
    /// `answer` gets the request and its number, from 0.
    pub(crate) fn start(answer: impl Fn(&Seen, usize) -> Response + Send + Sync + 'static) -> Self {
        Self::start_slow(Duration::ZERO, answer)
    }

    /// The same, with a delay before each answer.
    pub(crate) fn start_slow(
        latency: Duration,
        answer: impl Fn(&Seen, usize) -> Response + Send + Sync + 'static,
    ) -> Self {
        Self::start_paced(move |_| latency, answer)
    }

    /// The same, with a delay of its own before each answer.
    pub(crate) fn start_paced(
        latency: impl Fn(&Seen) -> Duration + Send + Sync + 'static,
        answer: impl Fn(&Seen, usize) -> Response + Send + Sync + 'static,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (latency, answer) = (Arc::new(latency), Arc::new(answer));
        let log = Arc::clone(&seen);
        let app = axum::Router::new().fallback(move |request: Request| {
            let (log, latency, answer) = (Arc::clone(&log), Arc::clone(&latency), Arc::clone(&answer));
            async move {
                let (parts, body) = request.into_parts();
                let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
                let request = Seen {
                    method: parts.method,
                    target: parts.uri.path_and_query().unwrap().to_string(),
                    headers: parts.headers,
                    body: String::from_utf8(body.to_vec()).unwrap(),
                    at: Instant::now(),
                };
                let number = {
                    let mut log = log.lock().unwrap();
                    log.push(request.clone());
                    log.len() - 1
                };
                tokio::time::sleep(latency(&request)).await;
                answer(&request, number)
            }
        });
        runtime.spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, seen, _runtime: runtime }
    }

    /// All requests so far, in the order in which they came.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Waits until so many requests have come.
    pub(crate) fn wait_for(&self, requests: usize) {
        let started = Instant::now();
        while self.seen.lock().unwrap().len() < requests {
            assert!(started.elapsed() < PATIENCE, "{requests} requests did not come");
            std::thread::yield_now();
        }
    }
}

/// A JSON answer.
pub(crate) fn json(value: serde_json::Value) -> Response {
    respond(200, &[("content-type", "application/json")], value.to_string())
}

/// Any answer.
pub(crate) fn respond(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body.into()).unwrap()
}

/// Records `{"id": n, "name": "name n"}` for a range of numbers.
pub(crate) fn records(numbers: std::ops::Range<u64>) -> Vec<serde_json::Value> {
    numbers.map(|n| serde_json::json!({"id": n, "name": format!("name {n}")})).collect()
}

/// A page-number API over `total` records, `size` on a page, `{"data": […], "pages": n}`.
pub(crate) fn numbered(total: u64, size: u64) -> impl Fn(&Seen, usize) -> Response + Send + Sync + 'static {
    move |request, _| {
        let page: u64 = request.param("page").map_or(1, |page| page.parse().unwrap());
        let first = (page - 1) * size;
        let data = records(first.min(total)..(first + size).min(total));
        json(serde_json::json!({"data": data, "pages": total.div_ceil(size)}))
    }
}

/// Compares every table of the shipped configuration with what the practice API holds.
pub(crate) fn verify_practice_copy(database: &Path) {
    let keys: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("customers", &["id"][..]),
        ("orders", &["id"][..]),
        ("events", &[][..]),
        ("products", &["sku"][..]),
        ("tickets", &["id"][..]),
        ("regions", &["code"][..]),
        ("search", &["id"][..]),
        ("audit", &["stream", "seq"][..]),
    ]);
    for (resource, served) in Practice::new(PracticeOptions::default()).expected() {
        let Some(key) = keys.get(resource) else { continue };
        let records: Vec<_> = match served {
            highwater::practice::Served::Keyed(records) => records.into_values().collect(),
            highwater::practice::Served::Appended(records) => records,
        };
        highwater::verify::table(database, &format!("practice_{resource}"), key, &records).unwrap();
    }
}

/// A process that does not outlive its test, however that ends.
struct Mortal(Child);

impl Drop for Mortal {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            self.0.kill().ok();
            self.0.wait().ok();
        }
    }
}

/// A process whose words on standard error are heard while it runs.
pub(crate) struct Running {
    child: Mortal,
    stdout: std::thread::JoinHandle<String>,
    lines: std::sync::mpsc::Receiver<String>,
    heard: String,
}

impl Running {
    #[expect(clippy::disallowed_methods, reason = "the threads end with the pipes of the child, which is awaited")]
    pub(crate) fn start(mut command: Command) -> Self {
        use std::io::{BufRead, BufReader, Read};
        let mut child = command.spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let stdout = std::thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).unwrap();
            text
        });
        let (sender, lines) = std::sync::mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in stderr.lines() {
                if sender.send(line.unwrap()).is_err() {
                    break;
                }
            }
        });
        Self { child: Mortal(child), stdout, lines, heard: String::new() }
    }

    /// Waits until the process says a line with `text` in it, and returns the line.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|error| panic!("{error}: no {text:?} in:\n{}", self.heard));
            let found = line.contains(text);
            self.heard += &line;
            self.heard.push('\n');
            if found {
                return line;
            }
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.0.id()
    }

    pub(crate) fn signal(&self, number: rustix::process::Signal) {
        signal(&self.child.0, number);
    }

    /// Waits for the process to end by itself.
    pub(crate) fn finish(mut self) -> Finished {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.0.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > deadline {
                panic!("it did not end by itself; it said:\n{}", self.heard);
            }
            std::thread::park_timeout(Duration::from_millis(1));
        };
        for line in self.lines {
            self.heard += &line;
            self.heard.push('\n');
        }
        Finished { code: status.code(), stdout: self.stdout.join().unwrap(), stderr: self.heard }
    }
}

/// A 200 whose body never ends.
pub(crate) fn endless() -> Response {
    let silence = futures::stream::pending::<Result<bytes::Bytes, std::io::Error>>();
    respond(200, &[("content-type", "application/json")], Body::from_stream(silence))
}
