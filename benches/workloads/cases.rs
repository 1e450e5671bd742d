//! The workloads. Each checks what was stored before it says how long that took.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

use crate::process::{self, Took};
use crate::report::Report;
use crate::report::Target::{AtLeast, AtMost};
use crate::server::Server;
use crate::shapes::Shape;
use crate::{Result, floor};

/// Their numbers. 3 is what follows 1, and measured with it.
pub(crate) const ALL: [u32; 9] = [1, 2, 4, 5, 6, 7, 8, 9, 10];

const CURSOR: &str = r#"{ type = "cursor", cursor_path = "next_cursor", cursor_param = "cursor" }"#;
const NUMBER: &str = r#"{ type = "page_number", base_page = 0, page_param = "page" }"#;

/// What all of them need.
#[derive(Debug)]
pub(crate) struct Cases<'a> {
    pub(crate) server: &'a Server,
    pub(crate) short: bool,
}

/// One resource of the bench's only source.
struct Resource<'a> {
    name: &'a str,
    path: &'a str,
    params: String,
    paginator: &'a str,
    more: &'a str,
}

impl Cases<'_> {
    /// Measures a workload once. Those that take long are measured only in the first of several runs.
    pub(crate) fn measure(&self, number: u32, is_first: bool, report: &mut Report) -> Result<()> {
        match number {
            1 => self.flat_and_again(report),
            2 => self.nested(report),
            4 => self.prefetch(report),
            5 => self.budget(report),
            6 => self.many_small(report),
            7 if is_first => self.ten_times(report),
            8 if is_first => self.idle(report),
            9 => self.start(is_first, report),
            10 if is_first => self.system_calls(report),
            _ => Ok(()),
        }
    }

    /// A tenth where the call is a short one.
    fn scaled(&self, count: u64) -> u64 {
        if self.short { count / 10 } else { count }
    }

    /// A folder with a configuration for the resources; `head` comes before them.
    fn folder(&self, head: &str, resources: &[Resource<'_>]) -> Result<TempDir> {
        let folder = tempfile::Builder::new().prefix("workload-").tempdir()?;
        let mut text = format!("{head}\n[sources.bench.client]\nbase_url = \"{}/\"\n", self.server.url);
        for Resource { name, path, params, paginator, more } in resources {
            writeln!(
                text,
                "[sources.bench.resources.{name}]\npath = \"{path}\"\nparams = {{ {params} }}\nprimary_key = \"id\"\n\
                 data_selector = \"data\"\npaginator = {paginator}\n{more}"
            )?;
        }
        std::fs::write(folder.path().join("config.toml"), text)?;
        Ok(folder)
    }

    fn one(&self, path: &str, pages: u64) -> Result<TempDir> {
        let params = format!("pages = {pages}");
        self.folder("", &[Resource { name: "items", path, params, paginator: CURSOR, more: "" }])
    }

    /// W1: a million flat records into an empty table. W3: once more, with nothing changed.
    fn flat_and_again(&self, report: &mut Report) -> Result<()> {
        let pages = self.scaled(10_000);
        let folder = self.one("flat", pages)?;
        let (fetch, insert) = floor::run(&self.server.url, folder.path(), Shape::Flat, pages)?;
        let first = sync(folder.path())?;
        expect_rows(folder.path(), pages * 100)?;
        let again = sync(folder.path())?;
        expect_rows(folder.path(), pages * 100)?;
        report.add(1, "floor: fetch", "s", fetch, None);
        report.add(1, "floor: insert", "s", insert, None);
        report.add(1, "time", "s", first.seconds, None);
        report.add(1, "processor", "s", first.cpu_seconds, None);
        report.add(1, "of the floor", "x", first.seconds / (fetch + insert), Some(AtMost(1.3)));
        report.add(1, "peak memory", "MiB", first.peak_mib, Some(AtMost(64.0)));
        report.add(3, "time", "s", again.seconds, None);
        report.add(3, "of W1", "x", again.seconds / first.seconds, Some(AtMost(1.0)));
        report.add(3, "written", "MB", again.written_mb, None);
        report.add(3, "written, of W1", "x", again.written_mb / first.written_mb, Some(AtMost(0.1)));
        Ok(())
    }

    /// W2: two hundred thousand nested records.
    fn nested(&self, report: &mut Report) -> Result<()> {
        let pages = self.scaled(2_000);
        let folder = self.one("nested", pages)?;
        let (fetch, insert) = floor::run(&self.server.url, folder.path(), Shape::Nested, pages)?;
        let took = sync(folder.path())?;
        expect_rows(folder.path(), pages * 100)?;
        report.add(2, "floor: fetch", "s", fetch, None);
        report.add(2, "floor: insert", "s", insert, None);
        report.add(2, "time", "s", took.seconds, None);
        report.add(2, "of the floor", "x", took.seconds / (fetch + insert), Some(AtMost(1.4)));
        report.add(2, "peak memory", "MiB", took.peak_mib, None);
        Ok(())
    }

    /// W4: 200 numbered pages that take 50 ms each, eight at a time; in order all the same.
    fn prefetch(&self, report: &mut Report) -> Result<()> {
        let pages = self.scaled(200);
        let read = |concurrency: u32| -> Result<Took> {
            let params = format!("pages = {pages}, delay_ms = 50");
            let more = format!("concurrency = {concurrency}");
            let resource = Resource { name: "items", path: "flat", params, paginator: NUMBER, more: &more };
            let folder = self.folder("", &[resource])?;
            let took = sync(folder.path())?;
            expect_rows(folder.path(), pages * 100)?;
            let order =
                "SELECT count(*) FROM (SELECT _page_id - lag(_page_id) OVER (ORDER BY id) AS step FROM bench_items)
                         WHERE step < 0";
            match database(folder.path())?.query_row(order, [], |row| row.get::<_, u64>(0))? {
                0 => Ok(took),
                rows => Err(format!("{rows} rows were stored before those of an earlier page").into()),
            }
        };
        let (one, eight) = (read(1)?, read(8)?);
        report.add(4, "one at a time", "s", one.seconds, None);
        report.add(4, "eight at a time", "s", eight.seconds, None);
        report.add(4, "faster", "x", one.seconds / eight.seconds, Some(AtLeast(7.5)));
        Ok(())
    }

    /// W5: 1,000 pages under a budget of 100 requests a second, sixteen at a time.
    fn budget(&self, report: &mut Report) -> Result<()> {
        let pages = self.scaled(1_000);
        let resource = Resource {
            name: "items",
            path: "flat",
            params: format!("pages = {pages}, rows = 10, delay_ms = 50, budget = 100"),
            paginator: NUMBER,
            more: "concurrency = 16",
        };
        let folder = self.folder("", &[resource])?;
        let limit = "\n[sources.bench.client.rate_limit]\nrequests = 100\nper = \"1s\"\n";
        let path = folder.path().join("config.toml");
        std::fs::write(&path, std::fs::read_to_string(&path)? + limit)?;
        self.server.asked()?;
        sync(folder.path())?;
        expect_rows(folder.path(), pages * 10)?;
        let asked = self.server.asked()?;
        let (Some(first), Some(last)) = (asked.first(), asked.last()) else { return Err("nothing was asked".into()) };
        let rate = (asked.len() - 1) as f64 / ((last - first) as f64 / 1e6);
        let within = |from: &u64| asked.iter().filter(|at| *at >= from && **at < from + 1_000_000).count();
        let busiest = asked.iter().map(within).max().unwrap_or_default();
        report.add(5, "of the allowed rate", "x", rate / 100.0, Some(AtLeast(0.98)));
        report.add(5, "requests in the busiest second", "", busiest as f64, Some(AtMost(100.0)));
        let retries = "SELECT sum(retries) FROM _hw_runs";
        let retries: u64 = database(folder.path())?.query_row(retries, [], |row| row.get(0))?;
        report.add(5, "answers 429", "", retries as f64, Some(AtMost(0.0)));
        Ok(())
    }

    /// W6: 1,000 resources of ten pages that take 20 ms each, 64 at a time.
    fn many_small(&self, report: &mut Report) -> Result<()> {
        let names: Vec<String> = (0..self.scaled(1_000)).map(|number| format!("r{number}")).collect();
        let resources: Vec<Resource<'_>> = names
            .iter()
            .map(|name| Resource {
                name,
                path: "flat",
                params: "pages = 10, rows = 10, delay_ms = 20".to_owned(),
                paginator: CURSOR,
                more: "",
            })
            .collect();
        let folder = self.folder("[pipeline]\nconcurrency = 64", &resources)?;
        let took = sync(folder.path())?;
        let pages: u64 = database(folder.path())?.query_row("SELECT sum(pages) FROM _hw_runs", [], |row| row.get(0))?;
        if pages != names.len() as u64 * 10 {
            return Err(format!("{pages} pages stored of {}", names.len() * 10).into());
        }
        let ideal = names.len() as f64 * 10.0 * 0.020 / 64.0;
        report.add(6, "time", "s", took.seconds, None);
        report.add(6, "of the ideal time", "x", took.seconds / ideal, Some(AtMost(1.2)));
        report.add(6, "peak memory", "MiB", took.peak_mib, None);
        Ok(())
    }

    /// W7: ten million records, beside one.
    fn ten_times(&self, report: &mut Report) -> Result<()> {
        let read = |pages: u64| -> Result<Took> {
            let folder = self.one("flat", pages)?;
            let took = sync(folder.path())?;
            expect_rows(folder.path(), pages * 100)?;
            Ok(took)
        };
        let pages = self.scaled(10_000);
        let (one, ten) = (read(pages)?, read(pages * 10)?);
        report.add(7, "time", "s", ten.seconds, None);
        report.add(7, "time per row, of W1", "x", ten.seconds / 10.0 / one.seconds, Some(AtMost(1.15)));
        report.add(7, "peak memory", "MiB", ten.peak_mib, Some(AtMost(64.0)));
        report.add(7, "peak memory, of W1", "x", ten.peak_mib / one.peak_mib, Some(AtMost(1.1)));
        Ok(())
    }

    /// W8: a daemon that has read its 1,000 resources, and waits an hour.
    fn idle(&self, report: &mut Report) -> Result<()> {
        let names: Vec<String> = (0..self.scaled(1_000)).map(|number| format!("r{number}")).collect();
        let resource = |name| Resource {
            name,
            path: "flat",
            params: "rows = 1".to_owned(),
            paginator: r#"{ type = "single_page" }"#,
            more: "every = \"1h\"\n",
        };
        let resources: Vec<Resource<'_>> = names.iter().map(|name| resource(name)).collect();
        let folder = self.folder("[web]\nlisten = \"127.0.0.1:0\"", &resources)?;
        let mut daemon = process::command(folder.path(), &["serve", "--quiet"]).stderr(Stdio::null()).spawn()?;
        let figures = watch_idle(&daemon, folder.path(), names.len(), Duration::from_secs(self.scaled(30)));
        rustix::process::kill_process(rustix::process::Pid::from_child(&daemon), rustix::process::Signal::TERM)?;
        let status = daemon.wait()?;
        let (memory_mib, percent) = figures?;
        if !status.success() {
            return Err(format!("the daemon ended with {status}").into());
        }
        report.add(8, "memory", "MiB", memory_mib, Some(AtMost(40.0)));
        report.add(8, "of a core", "%", percent, Some(AtMost(0.5)));
        Ok(())
    }

    /// W9: how long it takes to begin, and how much there is to load.
    fn start(&self, is_first: bool, report: &mut Report) -> Result<()> {
        let resource =
            Resource { name: "items", path: "flat", params: "pages = 0".to_owned(), paginator: CURSOR, more: "" };
        let folder = self.folder("", &[resource])?;
        sync(folder.path())?;
        for _ in 0..10 {
            let version = process::run(process::command(folder.path(), &["--version"]).stdout(Stdio::null()))?;
            report.add(9, "--version", "ms", version.seconds * 1e3, Some(AtMost(10.0)));
            report.add(9, "sync with nothing to read", "ms", sync(folder.path())?.seconds * 1e3, Some(AtMost(40.0)));
        }
        if is_first {
            let size = std::fs::metadata(process::highwater())?.len() as f64 / 1e6;
            report.add(9, "binary", "MB", size, Some(AtMost(20.0)));
        }
        Ok(())
    }

    /// W10: what a commit asks of the kernel.
    fn system_calls(&self, report: &mut Report) -> Result<()> {
        let pages = self.scaled(10_000);
        let folder = self.one("flat", pages)?;
        sync(&folder.path().join("."))?;
        let trace = folder.path().join("trace");
        let plain = process::command(folder.path(), &["sync", "--quiet"]);
        let mut traced = std::process::Command::new("strace");
        traced.args(["-f", "-y", "-q", "-e", "trace=fsync,fdatasync,pread64,read,pwrite64", "-o"]).arg(&trace);
        traced.arg(plain.get_program()).args(plain.get_args()).current_dir(folder.path()).stdin(Stdio::null());
        traced.env("HIGHWATER_LOG", "highwater=debug").stderr(Stdio::piped());
        for file in ["highwater.db", "highwater.db-wal", "highwater.db-shm"] {
            std::fs::remove_file(folder.path().join(file)).or_else(|error| match error.kind() {
                std::io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })?;
        }
        let output = match traced.output() {
            Ok(output) => output,
            Err(error) => {
                eprintln!("left out: W10 needs strace: {error}");
                return Ok(());
            }
        };
        if !output.status.success() {
            return Err(
                format!("strace ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr)).into()
            );
        }
        expect_rows(folder.path(), pages * 100)?;
        let commits = String::from_utf8_lossy(&output.stderr).matches(" committed ").count() as f64;
        let calls = std::fs::read_to_string(&trace)?;
        let count = |names: &[&str], file: &str| {
            let of = |line: &&str| names.iter().any(|name| line.contains(name)) && line.contains(file);
            calls.lines().filter(of).count() as f64
        };
        let of_wal = count(&["fsync(", "fdatasync("], "highwater.db-wal>");
        let of_file = count(&["fsync(", "fdatasync("], "highwater.db>");
        report.add(10, "commits", "", commits, None);
        report.add(10, "flushes of the WAL per commit", "", of_wal / commits, Some(AtMost(1.05)));
        report.add(10, "flushes of the file per commit", "", of_file / commits, None);
        let reads = count(&["pread64(", "read("], "highwater.db>") / pages as f64;
        report.add(10, "reads of the file per page", "", reads, Some(AtMost(0.01)));
        Ok(())
    }
}

fn sync(folder: &Path) -> Result<Took> {
    process::run(&mut process::command(folder, &["sync", "--quiet"]))
}

fn database(folder: &Path) -> Result<Connection> {
    Ok(Connection::open_with_flags(folder.join("highwater.db"), OpenFlags::SQLITE_OPEN_READ_ONLY)?)
}

/// A time is worth nothing where the rows are not there.
fn expect_rows(folder: &Path, rows: u64) -> Result<()> {
    let stored: u64 = database(folder)?.query_row("SELECT count(*) FROM bench_items", [], |row| row.get(0))?;
    match stored == rows {
        true => Ok(()),
        false => Err(format!("{stored} rows stored of {rows}").into()),
    }
}

/// Waits until every resource was read once, and then looks at a daemon that does nothing: its memory in MiB, and what it
/// takes of a core in percent.
fn watch_idle(daemon: &std::process::Child, folder: &Path, resources: usize, time: Duration) -> Result<(f64, f64)> {
    let complete = "SELECT count(*) FROM _hw_runs WHERE outcome = 'complete'";
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let read = database(folder).and_then(|db| Ok(db.query_row(complete, [], |row| row.get::<_, usize>(0))?));
        if read.is_ok_and(|read| read >= resources) {
            break;
        }
        if Instant::now() > deadline {
            return Err("not every resource was read within a minute".into());
        }
        std::thread::park_timeout(Duration::from_millis(100));
    }
    let cpu = || process::look(daemon).map(|took| took.cpu_seconds).ok_or("the daemon has ended");
    let (before, since) = (cpu()?, Instant::now());
    while since.elapsed() < time {
        std::thread::park_timeout(time.saturating_sub(since.elapsed()));
    }
    let percent = (cpu()? - before) / since.elapsed().as_secs_f64() * 100.0;
    Ok((process::memory_mib(daemon).ok_or("the daemon has ended")?, percent))
}
