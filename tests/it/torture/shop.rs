//! The API that is read while everything goes wrong: three kinds of resources whose pages are known by heart, and a log
//! of what each process asked for.

use std::process::{Child, Command};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use axum::response::Response;
use serde_json::{Value, json};

use crate::support::{Api, PATIENCE, Seen, Workspace, respond};

/// New records on a page.
const RECORDS: u64 = 5;

/// A kind of resource, its pages, and how one is told from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Merged, by page number, three pages in flight; each page repeats the last record of the one before.
    Items,
    /// Appended, by `Link` headers.
    Events,
    /// Replaced, by cursors.
    Stock,
}

pub(crate) const KINDS: [Kind; 3] = [Kind::Items, Kind::Events, Kind::Stock];

/// What the API knows a life by. From the environment, as a header that is written in the file is part of what a
/// position depends on.
const LIFE: &str = "life-number-";

const CONFIG: &str = r#"
[sources.shop.client]
base_url = "BASE"
# Credentials are no part of what makes a request the same one; so each life can sign its requests.
auth = { type = "api_key", name = "X-Life", api_key = "${env:LIFE}" }
[sources.shop.resources.items]
primary_key = "id"
data_selector = "data"
paginator = { type = "page_number", total_path = "pages" }
concurrency = 3
[sources.shop.resources.events]
paginator = { type = "header_link" }
[sources.shop.resources.stock]
primary_key = "id"
write_disposition = "replace"
data_selector = "data"
paginator = { type = "cursor", cursor_path = "next", cursor_param = "cursor" }
"#;

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Items => "items",
            Self::Events => "events",
            Self::Stock => "stock",
        }
    }

    pub(crate) fn named(name: &str) -> Self {
        KINDS.into_iter().find(|kind| kind.name() == name).unwrap()
    }

    /// The ids on a page, which is counted from 0.
    pub(crate) fn ids(self, page: u64) -> std::ops::Range<u64> {
        let repeated = u64::from(self == Self::Items && page > 0);
        page * RECORDS - repeated..(page + 1) * RECORDS
    }

    /// What a record says when it is served to the `life`-th process: some change from life to life, some do not.
    pub(crate) fn version(self, life: u64) -> u64 {
        if self == Self::Items { life / 2 } else { life }
    }

    /// Which page a URL asks for.
    fn page_of(self, request: &Seen) -> u64 {
        match self {
            Self::Items => request.param("page").unwrap().parse::<u64>().unwrap() - 1,
            Self::Events => request.param("p").map_or(0, |page| page.parse().unwrap()),
            Self::Stock => request.param("cursor").map_or(0, |cursor| cursor[1..].parse().unwrap()),
        }
    }

    /// Which page a stored position stands for.
    pub(crate) fn page_at(self, position: &str) -> u64 {
        let position: Value = serde_json::from_str(position).unwrap();
        match position["at"].as_str().unwrap() {
            "first" => 0,
            "page" => position["page"].as_u64().unwrap() - 1,
            "link" => position["url"].as_str().unwrap().split_once("p=").unwrap().1.parse().unwrap(),
            "token" => position["token"].as_str().unwrap()[1..].parse().unwrap(),
            other => panic!("a position of the kind {other:?}"),
        }
    }

    /// What `page` of `pages` says to a life.
    fn answer(self, page: u64, pages: u64, life: u64) -> Response {
        assert!(page < pages, "{} has no page {page}", self.name());
        let version = self.version(life);
        let records: Vec<Value> = self.ids(page).map(|id| json!({"id": id, "v": version})).collect();
        let last = page + 1 == pages;
        let next = format!("</events?p={}>; rel=\"next\"", page + 1);
        match self {
            Self::Items => respond(200, &[], json!({"data": records, "pages": pages}).to_string()),
            Self::Events if last => respond(200, &[], json!(records).to_string()),
            Self::Events => respond(200, &[("link", &next)], json!(records).to_string()),
            Self::Stock => {
                let next = if last { Value::Null } else { format!("c{}", page + 1).into() };
                respond(200, &[], json!({"data": records, "next": next}).to_string())
            }
        }
    }
}

/// A request as it was asked for: by which life, of what.
pub(crate) type Asked = (u64, Kind, u64);

/// The API's log, and the bell that rings for each request.
#[derive(Default)]
pub(crate) struct Log {
    asked: Mutex<Vec<Asked>>,
    bell: Condvar,
}

impl Log {
    /// How many requests there were in all.
    pub(crate) fn requests(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    fn note(&self, asked: Asked) {
        self.asked.lock().unwrap().push(asked);
        self.bell.notify_all();
    }

    pub(crate) fn of(&self, life: u64) -> Vec<(Kind, u64)> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|asked| asked.0 == life).map(|asked| (asked.1, asked.2)).collect()
    }

    /// Waits until a life has sent so many requests, or has ended.
    pub(crate) fn wait_for(&self, life: u64, requests: usize, child: &mut Child) -> bool {
        let deadline = Instant::now() + PATIENCE;
        let mut asked = self.asked.lock().unwrap();
        while asked.iter().rev().take_while(|asked| asked.0 == life).count() < requests {
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(Instant::now() < deadline, "life {life} does not get on");
            asked = self.bell.wait_timeout(asked, Duration::from_millis(5)).unwrap().0;
        }
        true
    }
}

/// How many pages each kind has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size(pub(crate) [u64; 3]);

impl Size {
    pub(crate) fn of(self, kind: Kind) -> u64 {
        self.0[kind as usize]
    }

    pub(crate) fn ids(self, kind: Kind) -> std::ops::Range<u64> {
        0..self.of(kind) * RECORDS
    }

    pub(crate) fn total(self) -> u64 {
        self.0.iter().sum()
    }
}

/// The API, on a socket.
pub(crate) struct Shop {
    pub(crate) size: Size,
    pub(crate) log: Arc<Log>,
    lives: AtomicU64,
    api: Api,
}

impl Shop {
    /// Answers each request after `latency`, so that there is time between two of them.
    pub(crate) fn open(size: Size, latency: Duration) -> Self {
        let log = Arc::new(Log::default());
        let heard = Arc::clone(&log);
        let api = Api::start_slow(latency, move |request, _| {
            let kind = Kind::named(&request.path()[1..]);
            let life = request.headers["x-life"].to_str().unwrap().strip_prefix(LIFE).unwrap().parse().unwrap();
            let page = kind.page_of(request);
            heard.note((life, kind, page));
            kind.answer(page, size.of(kind), life)
        });
        Self { size, log, lives: AtomicU64::new(0), api }
    }

    /// The number of another process that reads from it; none has the same.
    pub(crate) fn next_life(&self) -> u64 {
        self.lives.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A folder with a configuration that reads all of it.
    pub(crate) fn workspace(&self) -> Workspace {
        Workspace::with_config(self.api.address, CONFIG)
    }
}

/// Makes a command that reads from the shop one that the shop knows as the `life`-th.
pub(crate) fn sign(command: &mut Command, life: u64) -> &mut Command {
    command.env("LIFE", format!("{LIFE}{life}"))
}
