//! One login in a workspace of its own, and the search through all that its processes say and leave.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::secrets::Search;
use crate::support::{PATIENCE, Running, Workspace, finish};
use crate::web::exchange;

/// A workspace in which a course is run, and the search through all that it leaves.
pub(super) struct Trial {
    pub(super) workspace: Workspace,
    pub(super) variables: Vec<(String, String)>,
    pub(super) search: Search,
    pub(super) name: String,
}

impl Trial {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.workspace.command(arguments);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.env("RUST_BACKTRACE", "1").env("HIGHWATER_LOG", "trace");
        command
    }

    pub(super) fn look(&mut self, place: &str, bytes: &[u8]) {
        self.search.look(&format!("{}: {place}", self.name), bytes);
    }

    /// Runs a verb to its end, and looks at what it said.
    pub(super) fn run(&mut self, arguments: &[&str]) -> (Option<i32>, String) {
        let finished = finish(self.command(arguments).spawn().unwrap());
        let name = arguments.join(" ");
        self.look(&format!("{name}: stdout"), finished.stdout.as_bytes());
        self.look(&format!("{name}: stderr"), finished.stderr.as_bytes());
        (finished.code, finished.stdout)
    }

    /// Looks through every file but those that hold secrets by contract.
    pub(super) fn look_at_files(&mut self, when: &str) {
        let mut names = BTreeSet::new();
        for entry in std::fs::read_dir(self.workspace.path("")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if path.is_file() && !name.ends_with(".token") && !name.ends_with(".token.new") {
                // A file may go while the folder is read.
                let Ok(bytes) = std::fs::read(&path) else { continue };
                self.look(&format!("{name} {when}"), &bytes);
                names.insert(name);
            }
        }
        assert!(names.contains("config.toml"), "{names:?}");
    }

    /// Reads every page that leads from one to another, each as HTML and as JSON.
    fn look_at_pages(&mut self, address: SocketAddr) {
        let mut known: BTreeSet<String> = BTreeSet::new();
        let start =
            ["/", "/index.json", "/metrics", "/healthz", "/readyz", "/runs.json", "/errors.json", "/config.json"];
        let mut left: Vec<String> = start.map(str::to_owned).to_vec();
        while let Some(path) = left.pop() {
            if !known.insert(path.clone()) {
                continue;
            }
            let stream = TcpStream::connect(address).unwrap();
            let answer = exchange(stream, &format!("GET {path}"), &["host: localhost"], "");
            self.look(&format!("page {path}: head"), answer.head.as_bytes());
            self.look(&format!("page {path}"), answer.body.as_bytes());
            let links = answer.body.split("href=\"/").skip(1).filter_map(|rest| rest.split('"').next());
            for link in links.filter(|link| !link.starts_with("assets/")) {
                let link = format!("/{}", link.replace("&amp;", "&"));
                if link.starts_with("/resources/") || link.starts_with("/runs/") && !link.contains('?') {
                    left.push(format!("{link}.json"));
                }
                left.push(link);
            }
        }
        assert!(known.len() > 12, "{known:?}");
    }

    /// Waits until every resource has been read by the daemon, well or not.
    fn wait_for_runs(&self, database: &str, resources: usize) {
        let started = Instant::now();
        let path = self.workspace.path(database);
        let ended = || {
            let db = rusqlite::Connection::open_with_flags(&path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
            let sql = "SELECT count(DISTINCT source || '.' || resource) FROM _hw_runs WHERE outcome <> 'running'";
            db.query_row(sql, [], |row| row.get::<_, usize>(0)).ok()
        };
        while ended() != Some(resources) {
            assert!(started.elapsed() < PATIENCE, "{}: {:?} of {resources} runs have ended", self.name, ended());
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// The daemon: its pages while it runs, and its files before and after it was killed.
    pub(super) fn serve(&mut self, log_format: &str, resources: usize) {
        let mut command = self.command(&["serve", "-vvv", "--log-format", log_format]);
        command.env("HIGHWATER_DESTINATION__PATH", "served.db");
        let mut daemon = Running::start(command);
        let line = daemon.wait_for("the status page is on ");
        let address = line.split("status page is on ").nth(1).unwrap();
        let address: String = address
            .trim_start_matches("http://")
            .chars()
            .take_while(|c| c.is_ascii_digit() || ".:".contains(*c))
            .collect();
        self.wait_for_runs("served.db", resources);
        self.look_at_pages(address.parse().unwrap());
        self.look_at_files("beside the daemon");
        daemon.signal(Signal::KILL);
        let finished = daemon.finish();
        self.look("serve: stdout", finished.stdout.as_bytes());
        self.look("serve: stderr", finished.stderr.as_bytes());
        self.look_at_files("of the killed daemon");
    }
}
