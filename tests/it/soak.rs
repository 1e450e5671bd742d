//! The daemon under load for as long as one likes: fifty resources on short intervals, an API that changes and fails, three
//! reloads, windows that come and go, and a SIGTERM. Nothing of it grows; every run is in the books, and the API's own
//! log agrees with them; in the end the tables are what the API holds.
//!
//! `HIGHWATER_SOAK_SECONDS=600` makes it longer, `HIGHWATER_SOAK_SEED=n` repeats its faults, `HIGHWATER=…` takes
//! another binary than the one that was built with the test; see the figures with `--nocapture`.
//! Only the long form judges memory and the WAL, and whether what failed comes back by itself: a rest is a minute.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::process::Signal;

use crate::histories::dice::Dice;
use crate::support::{PATIENCE, Running, Workspace};
use api::{Api, Kind, REGIONS};
use gauge::{MEASURES, Sample};
use judge::Scrape;
use page::{Page, TOKEN};

mod api;
pub(crate) mod gauge;
mod judge;
mod page;

/// Seconds of the form that always runs.
const SECONDS: u64 = 5;

/// From here on it is the long form.
const LONG: u64 = 300;

/// Feeds that are read in the end, and with those that go on the way.
const FIFTY: usize = 50;
const FEEDS: usize = 52;

/// How often everything is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Which feeds are read, and how: the three configurations that are used.
#[derive(Clone, Debug)]
struct Shape {
    feeds: BTreeSet<usize>,
    /// What is read otherwise than before.
    changed: BTreeSet<usize>,
    is_long: bool,
}

impl Shape {
    fn source(feed: usize) -> String {
        // A child is in the source of its parent.
        let of = if Kind::of(feed) == Kind::Child { feed - 1 } else { feed };
        format!("s{}", of % 5)
    }

    fn table(feed: usize) -> String {
        format!("{}_r{feed}", Self::source(feed))
    }

    /// The seconds between two starts; none where a calendar says when.
    fn every(&self, feed: usize) -> Option<u64> {
        // Two of its shortest and two of its longest.
        let is_by_calendar = matches!(feed, 14 | 23 | 33);
        let more = u64::from(self.changed.contains(&feed));
        let of = if Kind::of(feed) == Kind::Child { feed - 1 } else { feed };
        let seconds = if self.is_long { 2 + of as u64 % 4 } else { 1 + of as u64 % 2 } + more;
        (!is_by_calendar).then_some(seconds)
    }

    fn text(&self) -> String {
        let mut text = "[web]\nlisten = \"127.0.0.1:0\"\ntoken = \"${env:TOKEN}\"\n".to_owned();
        if !self.is_long {
            // The disk of whoever runs all tests has enough to do.
            text += "[destination]\nsynchronous = \"normal\"\n";
        }
        for source in 0..5 {
            write!(
                text,
                "[sources.s{source}]\njitter = \"50ms\"\n[sources.s{source}.client]\nbase_url = \"BASE\"\ntimeout = \"2s\"\n\
                 retry = {{ max_attempts = 3, initial_delay = \"20ms\", max_delay = \"200ms\" }}\n\
                 paginator = {{ type = \"cursor\", cursor_path = \"next\", cursor_param = \"token\" }}\n"
            )
            .unwrap();
        }
        for &feed in &self.feeds {
            let times = self
                .every(feed)
                .map_or_else(|| "schedule = \"* * * * *\"".to_owned(), |seconds| format!("every = \"{seconds}s\""));
            let source = Self::source(feed);
            let header = if self.changed.contains(&feed) { "headers = { X-Changed = \"yes\" }\n" } else { "" };
            writeln!(
                text,
                "[sources.{source}.resources.r{feed}]\npath = \"f/{feed}\"\n{times}\n{header}{}",
                keys(feed)
            )
            .unwrap();
        }
        text
    }
}

/// What is said of a feed because of its kind.
fn keys(feed: usize) -> String {
    let by_cursor = "incremental = { cursor_path = \"at\", row_order = \"asc\", initial_value = 0 }\n\
                     params = { since = \"${incremental.start_value}\" }\ndata_selector = \"data\"";
    let keyed = "primary_key = \"id\"\ndata_selector = \"data\"";
    match Kind::of(feed) {
        Kind::Changes => format!("primary_key = \"id\"\n{by_cursor}"),
        Kind::Events => format!("write_disposition = \"append\"\n{by_cursor}"),
        Kind::Stock => format!("{keyed}\nwrite_disposition = \"replace\""),
        Kind::Regions => {
            let regions: Vec<String> = (0..REGIONS).map(|region| format!("{{ region = \"{region}\" }}")).collect();
            let regions = regions.join(", ");
            format!(
                "{keyed}\nconcurrency = 2\npartitions = [{regions}]\nparams = {{ region = \"${{partition.region}}\" }}"
            )
        }
        Kind::Lines => "primary_key = \"id\"\nformat = \"jsonl\"\npaginator = { type = \"single_page\" }".to_owned(),
        Kind::Sheet => "primary_key = \"id\"\nformat = \"csv\"\nwrite_disposition = \"replace\"\n\
                        paginator = { type = \"single_page\" }"
            .to_owned(),
        Kind::Parent => keyed.to_owned(),
        Kind::Child => format!("{keyed}\nparams = {{ parent = \"${{resources.r{}.id}}\" }}", feed - 1),
    }
}

/// The daemon, and those who look at it.
struct Soak {
    workspace: Workspace,
    api: Api,
    daemon: Running,
    page: Page,
    shape: Shape,
    samples: Vec<Sample>,
    windows: Vec<TcpStream>,
    opened: u64,
    /// What the metrics said last.
    metrics: BTreeMap<String, f64>,
    dice: Dice,
}

impl Soak {
    fn start(seed: u64, is_long: bool) -> Self {
        let api = Api::start(FEEDS, seed, if is_long { 12 } else { 60 });
        // Five come with the first reload, and two with the last.
        let shape = Shape { feeds: (0..FIFTY - 5).collect(), changed: BTreeSet::new(), is_long };
        let workspace = Workspace::with_config(api.address, &shape.text());
        let mut command = workspace.command(&["serve", "-v"]);
        command.env("TOKEN", TOKEN);
        let mut daemon = Running::start(command);
        let line = daemon.wait_for("the status page is on ");
        let page = Page(line.rsplit(' ').next().unwrap().to_owned());
        let (samples, windows, dice) = (Vec::new(), Vec::new(), Dice(seed ^ 1));
        Self { workspace, api, daemon, page, shape, samples, windows, opened: 0, metrics: BTreeMap::new(), dice }
    }

    /// Looks at the process and at its page, as people and Prometheus do.
    fn look(&mut self) {
        self.samples.push(Sample::take(self.daemon.id(), &self.workspace.path("highwater.db")));
        let feed = self.dice.below(FIFTY as u64 - 5) as usize;
        let (source, table) = (Shape::source(feed), Shape::table(feed));
        let is_known = self.shape.feeds.contains(&feed);
        let paths = ["/", "/index.json", "/runs", "/errors", "/quarantine.json", "/healthz", "/config"];
        match self.dice.below(12) {
            7 => self.scrape(),
            8 if is_known => drop(self.page.ask(&format!("GET /resources/{source}.r{feed}"))),
            9 if is_known && self.workspace.db().table_exists(None, table.as_str()).unwrap() => {
                drop(self.page.ask(&format!("GET /tables/{table}.json")));
            }
            number => drop(self.page.ask(&format!("GET {}", paths[number as usize % paths.len()]))),
        }
        if self.windows.len() < 6 && self.dice.chance(30) {
            self.windows.extend(self.page.listen());
            self.opened += 1;
        } else if !self.windows.is_empty() && self.dice.chance(30) {
            let window = self.dice.below(self.windows.len() as u64) as usize;
            self.windows.remove(window);
        }
    }

    /// Counters never go down.
    fn scrape(&mut self) {
        let metrics = self.page.metrics();
        for (name, value) in metrics.iter().filter(|(name, _)| name.contains("_total")) {
            let before = self.metrics.get(name).copied().unwrap_or(0.0);
            assert!(before <= *value, "{name} went down from {before} to {value}");
        }
        self.metrics = metrics;
    }

    fn go_on_until(&mut self, end: Instant) {
        while Instant::now() < end {
            self.look();
            std::thread::park_timeout(LOOK_EVERY);
        }
    }

    fn reload(&mut self, change: impl FnOnce(&mut Shape)) {
        change(&mut self.shape);
        self.workspace.configure(self.api.address, &self.shape.text());
        self.daemon.signal(Signal::HUP);
        self.daemon.wait_for("took over the configuration");
        let names: BTreeSet<String> = self.shape.feeds.iter().map(|feed| format!("r{feed}")).collect();
        let end = Instant::now() + PATIENCE;
        while self.resources() != names {
            assert!(Instant::now() < end, "the page goes on speaking of {:?}", self.resources());
        }
    }

    /// A file that is broken changes nothing.
    fn reload_broken(&mut self) {
        let before = self.resources();
        self.workspace.write("config.toml", "[sources.s0.client]\nbase_url = 7\n");
        self.daemon.signal(Signal::HUP);
        self.daemon.wait_for("the configuration is broken and changes nothing");
        let end = Instant::now() + PATIENCE;
        while self.page.metrics()["highwater_config_last_reload_success"] != 0.0 {
            assert!(Instant::now() < end, "nobody is told of the broken file");
        }
        assert_eq!(self.resources(), before);
    }

    /// Resources that the daemon speaks of.
    fn resources(&self) -> BTreeSet<String> {
        let metrics = self.page.metrics();
        let names = metrics.keys().filter(|name| name.starts_with("highwater_resource_running{"));
        names.map(|name| name.rsplit('"').nth(1).unwrap().to_owned()).collect()
    }

    /// Waits until each resource has read everything anew since `then`. The long form leaves that to the schedules, the
    /// short one asks.
    fn read_everything(&mut self, then: Timestamp) {
        let patience = if self.shape.is_long { 15 * PATIENCE } else { PATIENCE };
        let end = Instant::now() + patience;
        loop {
            // A pass of its own, and no read in it that an earlier run had begun and that went on at its page.
            let sql = format!(
                "SELECT resource FROM _hw_runs r WHERE outcome = 'complete' AND pass_id = run_id AND started_at > '{then:.3}'
                   AND NOT EXISTS (SELECT 1 FROM _hw_pages p JOIN _hw_pages q USING (read_id)
                     WHERE p.run_id = r.run_id AND q.fetched_at <= '{then:.3}')"
            );
            let read: BTreeSet<String> = self.workspace.column(&sql).into_iter().collect();
            let open: Vec<usize> =
                self.shape.feeds.iter().copied().filter(|feed| !read.contains(&format!("r{feed}"))).collect();
            if open.is_empty() {
                return;
            }
            assert!(Instant::now() < end, "not read in the end: {open:?}");
            if !self.shape.is_long {
                self.ask_for(&open);
            }
            self.go_on_until(Instant::now() + 2 * LOOK_EVERY);
        }
    }

    /// Asks for what would begin late by itself: it failed, or a calendar says when.
    fn ask_for(&self, feeds: &[usize]) {
        let metrics = self.page.metrics();
        let soon = (Timestamp::now() + 4 * LOOK_EVERY).as_second() as f64;
        for feed in feeds {
            let source = Shape::source(*feed);
            let next =
                format!("highwater_resource_next_run_timestamp_seconds{{source=\"{source}\",resource=\"r{feed}\"}}");
            if metrics.get(&next).is_some_and(|next| *next > soon) {
                self.page.ask(&format!("POST /resources/{source}.r{feed}/run.json"));
            }
        }
    }

    /// All windows are closed: as many as ever find a place.
    fn check_windows(&mut self) {
        self.windows.clear();
        let end = Instant::now() + PATIENCE;
        while self.windows.len() < 16 {
            assert!(Instant::now() < end, "places of windows that are gone are not given back");
            self.windows.extend(self.page.listen());
        }
        self.windows.clear();
    }
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is to be a number: {text}")))
}

#[test]
fn a_daemon_with_fifty_resources_does_not_grow_accounts_for_every_run_and_ends_with_what_the_api_holds() {
    let seconds = from_environment("HIGHWATER_SOAK_SECONDS").unwrap_or(SECONDS);
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = from_environment("HIGHWATER_SOAK_SEED").unwrap_or(u64::from(clock.subsec_nanos()));
    println!("HIGHWATER_SOAK_SECONDS={seconds} HIGHWATER_SOAK_SEED={seed}");
    let is_long = seconds >= LONG;
    let mut soak = Soak::start(seed, is_long);
    let began = Instant::now();
    let eighth = |number: u32| began + Duration::from_secs(seconds) * number / 8;
    soak.go_on_until(eighth(1));
    soak.reload(|shape| shape.feeds = (0..FIFTY).collect());
    soak.go_on_until(eighth(4));
    soak.reload_broken();
    soak.go_on_until(eighth(5));
    soak.reload(|shape| {
        shape.feeds.remove(&1);
        shape.feeds.remove(&2);
        shape.feeds.extend([50, 51]);
        shape.changed = [3, 5, 7].into();
    });
    soak.go_on_until(eighth(8));
    let mut grown = Vec::new();
    for measure in MEASURES {
        let (quarters, most) = measure.quarters(&soak.samples);
        println!("{}: medians of the quarters {quarters:?}, at most {most}", measure.name);
        let [_, second, _, last] = quarters;
        let slack = if is_long { Some(measure.slack) } else { measure.short_slack };
        if slack.is_some_and(|slack| last > second + slack) {
            grown.push(measure.name);
        }
    }
    let then = Timestamp::now();
    soak.api.freeze();
    soak.read_everything(then);
    soak.check_windows();
    let scrape = Scrape::check(&soak.workspace, &soak.shape, &soak.page);
    let stopped = Timestamp::now();
    soak.daemon.signal(Signal::TERM);
    let Soak { workspace, api, daemon, shape, opened, .. } = soak;
    let finished = daemon.finish();
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert!(!workspace.path("highwater.db-wal").exists(), "the file was not closed");
    judge::check_tables(&workspace, &api, &shape);
    let told = judge::check_runs(&workspace, &api, &shape, &scrape, stopped);
    println!("{told}\n{} changes, {opened} windows, faults: {:?}", api.changes(), api.faults());
    workspace.check_books();
    assert!(grown.is_empty(), "grown: {grown:?}");
}
