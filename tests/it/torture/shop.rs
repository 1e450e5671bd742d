//! The API that is read while everything goes wrong: resources of every kind whose pages are known by heart, and a log of what
//! each process asked for.

use std::process::{Child, Command};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use axum::response::Response;
use serde_json::{Value, json};

use crate::support::{Api, PATIENCE, Seen, Workspace, respond};

/// New records on a page.
const RECORDS: u64 = 2;

/// A kind of resource, its pages, and how one is told from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Merged, by page number, three pages in flight; each page repeats the last record of the one before.
    Items,
    /// Appended, by `Link` headers.
    Events,
    /// Replaced, by cursors.
    Stock,
    /// Incremental, the oldest change first. Each life finds that records have changed, which moves them to the end; its pages
    /// are told by the number of their first change.
    Changes,
    /// In partitions, which are read side by side.
    Regions,
    /// A parent; its records change from round to round.
    Shelves,
    /// Its children: so many pages for each of its records.
    Books,
}

pub(crate) const KINDS: [Kind; 7] =
    [Kind::Items, Kind::Events, Kind::Stock, Kind::Changes, Kind::Regions, Kind::Shelves, Kind::Books];

/// What of a kind has pages and a checkpoint of its own: a region, the books of a shelf, or all of it, which is number 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Part {
    pub(crate) kind: Kind,
    pub(crate) number: u64,
}

/// A process that reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Life {
    /// No other process has the same.
    pub(crate) number: u64,
    /// Of the reads of everything, the one that it is to complete.
    pub(crate) round: u64,
}

/// What the API knows a life by. From the environment, as a header that is written in the file is part of what a
/// position depends on.
const LIFE: &str = "life-number-";

const REGIONS: u64 = 2;

/// Changes from one life to the next.
const CHANGED: u64 = 20;

/// Ids of one part are below this, and those of the next from it on.
const IDS_MAX: u64 = 10_000;

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
[sources.shop.resources.changes]
primary_key = "id"
data_selector = "data"
paginator = { type = "page_number", total_path = "pages" }
params = { since = "${incremental.start_value}" }
incremental = { cursor_path = "v", row_order = "asc" }
[sources.shop.resources.regions]
primary_key = "id"
data_selector = "data"
paginator = { type = "page_number", total_path = "pages" }
partitions = [{ number = "0" }, { number = "1" }]
params = { part = "${partition.number}" }
concurrency = 2
[sources.shop.resources.shelves]
primary_key = "id"
data_selector = "data"
paginator = { type = "page_number", total_path = "pages" }
[sources.shop.resources.books]
primary_key = "id"
data_selector = "data"
paginator = { type = "page_number", total_path = "pages" }
params = { part = "${resources.shelves.id}" }
concurrency = 3
"#;

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Items => "items",
            Self::Events => "events",
            Self::Stock => "stock",
            Self::Changes => "changes",
            Self::Regions => "regions",
            Self::Shelves => "shelves",
            Self::Books => "books",
        }
    }

    pub(crate) fn named(name: &str) -> Self {
        KINDS.into_iter().find(|kind| kind.name() == name).unwrap()
    }

    /// Whether its reads are of parts, and over when all of those are.
    pub(crate) fn has_parts(self) -> bool {
        matches!(self, Self::Regions | Self::Books)
    }

    /// Which page of its list a URL asks for.
    fn asked_for(self, request: &Seen) -> u64 {
        match self {
            Self::Events => request.param("p").map_or(0, |page| page.parse().unwrap()),
            Self::Stock => request.param("cursor").map_or(0, |cursor| cursor[1..].parse().unwrap()),
            _ => request.param("page").unwrap().parse::<u64>().unwrap() - 1,
        }
    }

    /// Which page of its list a stored position stands for.
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
}

/// How many pages each kind has, or each of its parts; of changes, how many there are to read at first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size(pub(crate) [u64; 7]);

impl Size {
    pub(crate) fn of(self, kind: Kind) -> u64 {
        self.0[kind as usize]
    }

    /// The parts of a kind.
    pub(crate) fn parts(self, kind: Kind) -> impl Iterator<Item = Part> {
        let parts = match kind {
            Kind::Regions => REGIONS,
            Kind::Books => self.of(Kind::Shelves) * RECORDS,
            _ => 1,
        };
        (0..parts).map(move |number| Part { kind, number })
    }

    /// The numbers of the changes that a life finds.
    pub(crate) fn changes(self, life: Life) -> std::ops::Range<u64> {
        let first = life.number * CHANGED;
        first..first + self.of(Kind::Changes) * RECORDS
    }

    /// How a page of a list of changes is told, which begins with the change `since`.
    pub(crate) fn change_at(self, page: u64, since: u64, life: Life) -> u64 {
        self.changes(life).start.max(since) + page * RECORDS
    }

    /// The records on a page, as they are served to a life: ids and versions. Some change from life to life, some do not.
    pub(crate) fn records(self, part: Part, page: u64, life: Life) -> Vec<(u64, u64)> {
        let version = match part.kind {
            Kind::Items => life.number / 2,
            Kind::Shelves => life.round,
            Kind::Changes => {
                let all = self.changes(life);
                let on_page = page..(page + RECORDS).min(all.end);
                return on_page.map(|change| (change % (all.end - all.start), change)).collect();
            }
            _ => life.number,
        };
        let repeated = u64::from(part.kind == Kind::Items && page > 0);
        let first = part.number * IDS_MAX;
        let ids = first + page * RECORDS - repeated..first + (page + 1) * RECORDS;
        ids.map(|id| (id, version)).collect()
    }

    /// All records of a kind, as a life finds them, in their order.
    pub(crate) fn all(self, kind: Kind, life: Life) -> Vec<(u64, u64)> {
        if kind == Kind::Changes {
            let pages = self.changes(life).step_by(usize::try_from(RECORDS).unwrap());
            return pages.flat_map(|page| self.records(Part { kind, number: 0 }, page, life)).collect();
        }
        let pages = self.parts(kind).flat_map(|part| (0..self.of(kind)).map(move |page| (part, page)));
        pages.flat_map(|(part, page)| self.records(part, page, life)).collect()
    }

    /// Requests that a read of a part takes from `next` on.
    pub(crate) fn left(self, part: Part, next: u64, life: Life) -> u64 {
        if part.kind == Kind::Changes {
            let all = self.changes(life);
            (all.end - all.start.max(next)).div_ceil(RECORDS)
        } else {
            self.of(part.kind) - next
        }
    }

    /// What a page says to a life; a list of changes is one of so many pages.
    fn answer(self, part: Part, page: u64, pages: u64, life: Life) -> Response {
        let Part { kind, .. } = part;
        let records: Vec<Value> =
            self.records(part, page, life).into_iter().map(|(id, v)| json!({"id": id, "v": v})).collect();
        let last = page + 1 == pages;
        let next = format!("</events?p={}>; rel=\"next\"", page + 1);
        match kind {
            Kind::Events if last => respond(200, &[], json!(records).to_string()),
            Kind::Events => respond(200, &[("link", &next)], json!(records).to_string()),
            Kind::Stock => {
                let next = if last { Value::Null } else { format!("c{}", page + 1).into() };
                respond(200, &[], json!({"data": records, "next": next}).to_string())
            }
            _ => respond(200, &[], json!({"data": records, "pages": pages}).to_string()),
        }
    }
}

/// A request as it was asked for: by which life, of what.
pub(crate) type Asked = (u64, Part, u64);

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

    pub(crate) fn of(&self, life: u64) -> Vec<(Part, u64)> {
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
            let life = Life::read(request.headers["x-life"].to_str().unwrap());
            let number = |name: &str| request.param(name).map_or(0, |number| number.parse().unwrap());
            let (part, since, page) = (Part { kind, number: number("part") }, number("since"), kind.asked_for(request));
            let pages = size.left(part, since, life);
            assert!(page < pages, "{part:?} has no page {page}");
            let page = if kind == Kind::Changes { size.change_at(page, since, life) } else { page };
            heard.note((life.number, part, page));
            size.answer(part, page, pages, life)
        });
        Self { size, log, lives: AtomicU64::new(0), api }
    }

    /// Another process that reads from it.
    pub(crate) fn next_life(&self, round: u64) -> Life {
        Life { number: self.lives.fetch_add(1, Ordering::Relaxed) + 1, round }
    }

    /// A folder with a configuration that reads all of it.
    pub(crate) fn workspace(&self) -> Workspace {
        Workspace::with_config(self.api.address, CONFIG)
    }
}

impl Life {
    /// Makes a command that reads from the shop this one.
    pub(crate) fn sign(self, command: &mut Command) -> &mut Command {
        command.env("LIFE", format!("{LIFE}{}-{}", self.number, self.round))
    }

    fn read(signature: &str) -> Self {
        let (number, round) = signature.strip_prefix(LIFE).unwrap().split_once('-').unwrap();
        Self { number: number.parse().unwrap(), round: round.parse().unwrap() }
    }
}
