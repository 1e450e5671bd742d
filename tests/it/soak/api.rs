//! The API of the soak: feeds of several kinds that change with every request, faults that a seed decides, and the log of
//! who was asked for when.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use crate::histories::dice::Dice;

/// Records on a page.
const PAGE: usize = 20;

/// How a feed is read, and how it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Merged by the cursor `at`, oldest first; records are added and changed.
    Changes,
    /// Appended by the cursor `at`, oldest first; records are added, several with the same cursor.
    Events,
    /// Replaced; records are added, changed and removed.
    Stock,
    /// Merged in three partitions, two at a time.
    Regions,
    /// JSON Lines, merged.
    Lines,
    /// CSV, replaced.
    Sheet,
    /// Merged; the feed behind it is read for each of its records.
    Parent,
    /// Read for the records of the feed before it.
    Child,
}

pub(super) const REGIONS: u64 = 3;
const PARENTS: u64 = 5;

/// What the 50 feeds are, again and again.
const KINDS: [Kind; 13] = [
    Kind::Changes,
    Kind::Events,
    Kind::Stock,
    Kind::Changes,
    Kind::Regions,
    Kind::Events,
    Kind::Lines,
    Kind::Stock,
    Kind::Parent,
    Kind::Child,
    Kind::Changes,
    Kind::Events,
    Kind::Sheet,
];

impl Kind {
    pub(super) fn of(feed: usize) -> Self {
        KINDS[feed % KINDS.len()]
    }

    /// One request follows the answer to the one before.
    pub(super) fn is_one_by_one(self) -> bool {
        self != Self::Regions
    }
}

/// What can be wrong with an answer. All of it is over with the next requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// The connection is reset instead of an answer.
    Reset,
    /// It ends in the middle of the body.
    Cut,
    Status(u16),
    /// 429 with `Retry-After` in seconds.
    TooMany(u64),
    /// 200, and JSON that ends too early.
    Malformed,
    /// A `Content-Length` that is more than what comes.
    Long,
    /// One that is less; the rest comes behind it.
    Short,
    /// No answer at all, until the client has had enough.
    Hang,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    /// Where it stands in the order of changes.
    number: u64,
    version: u64,
}

struct Feed {
    kind: Kind,
    records: BTreeMap<u64, Record>,
    last_id: u64,
    changes: u64,
    /// So many requests more go wrong.
    outage: u64,
    /// Requests that are being answered, and the most there ever were.
    busy: usize,
    most: usize,
}

impl Feed {
    fn new(kind: Kind) -> Self {
        let mut feed = Self { kind, records: BTreeMap::new(), last_id: 0, changes: 0, outage: 0, busy: 0, most: 0 };
        let records = match kind {
            Kind::Parent => PARENTS,
            Kind::Child => 3 * PARENTS,
            Kind::Regions => 10 * REGIONS,
            Kind::Changes | Kind::Events | Kind::Stock => 45,
            Kind::Lines | Kind::Sheet => 30,
        };
        (0..records).for_each(|_| feed.add());
        feed
    }

    fn add(&mut self) {
        self.last_id += 1;
        self.write(self.last_id, 0);
    }

    fn write(&mut self, id: u64, version: u64) {
        self.changes += 1;
        self.records.insert(id, Record { number: self.changes, version });
    }

    fn change(&mut self, dice: &mut Dice) {
        match self.kind {
            Kind::Events => (0..=dice.below(2)).for_each(|_| self.add()),
            Kind::Changes | Kind::Child if self.records.len() < 150 && dice.chance(20) => self.add(),
            Kind::Stock | Kind::Sheet if dice.chance(50) => {
                let ids: Vec<u64> = self.records.keys().copied().collect();
                self.records.remove(dice.one_of(&ids));
                self.add();
            }
            _ => {
                let ids: Vec<u64> = self.records.keys().copied().collect();
                let id = *dice.one_of(&ids);
                self.write(id, self.records[&id].version + 1);
            }
        }
    }

    fn json(&self, id: u64) -> Value {
        let Record { number, version } = self.records[&id];
        match self.kind {
            // Three changes have the same cursor.
            Kind::Changes | Kind::Events => json!({"id": id, "v": version, "at": number / 3}),
            Kind::Sheet => json!({"id": id.to_string(), "v": format!("version {version}")}),
            Kind::Regions => json!({"id": id, "v": version, "region": id % REGIONS}),
            Kind::Child => json!({"id": id, "v": version, "parent": 1 + id % PARENTS}),
            Kind::Stock | Kind::Lines | Kind::Parent => json!({"id": id, "v": version, "tags": [id, version]}),
        }
    }

    /// What a request is answered: a page of its records, and the token of the next.
    fn page(&self, request: &Request) -> String {
        let by_change = matches!(self.kind, Kind::Changes | Kind::Events);
        let place = |id: u64| if by_change { self.records[&id].number } else { id };
        let (token, since) = (request.number("token"), request.number("since"));
        let (region, parent) = (request.number("region"), request.number("parent"));
        let mut ids: Vec<u64> = self.records.keys().copied().collect();
        ids.retain(|id| {
            token.is_none_or(|token| place(*id) > token)
                && since.is_none_or(|since| self.records[id].number / 3 >= since)
                && region.is_none_or(|region| id % REGIONS == region)
                && parent.is_none_or(|parent| 1 + id % PARENTS == parent)
        });
        ids.sort_by_key(|id| place(*id));
        match self.kind {
            Kind::Lines => ids.iter().map(|id| format!("{}\n", self.json(*id))).collect(),
            Kind::Sheet => {
                let line = |id: &u64| format!("{id},version {}\n", self.records[id].version);
                format!("id,v\n{}", ids.iter().map(line).collect::<String>())
            }
            _ => {
                let next = ids.get(PAGE).map(|_| place(ids[PAGE - 1]));
                let data: Vec<Value> = ids.iter().take(PAGE).map(|id| self.json(*id)).collect();
                json!({"data": data, "next": next}).to_string()
            }
        }
    }
}

struct Request {
    feed: usize,
    query: BTreeMap<String, String>,
}

impl Request {
    /// The first line of a head, such as `GET /f/12?token=7 HTTP/1.1`.
    fn parse(head: &str) -> Self {
        let target = head.split(' ').nth(1).unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        Self {
            feed: path.strip_prefix("/f/").unwrap().parse().unwrap(),
            query: pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        }
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.query.get(name).map(|text| text.parse().unwrap())
    }
}

struct World {
    feeds: Vec<Feed>,
    dice: Dice,
    /// So many requests of a thousand begin an outage.
    outages: u64,
    frozen: bool,
    log: Vec<(usize, Timestamp)>,
    faults: BTreeMap<Fault, u64>,
}

impl World {
    fn fault(&mut self, feed: usize) -> Option<Fault> {
        if self.frozen {
            return None;
        }
        match self.feeds[feed].outage {
            0 if self.dice.below(1_000) >= self.outages => return None,
            // More than three in a row are more than the client tries.
            0 => self.feeds[feed].outage = self.dice.below(5),
            _ => self.feeds[feed].outage -= 1,
        }
        let is_json = !matches!(self.feeds[feed].kind, Kind::Lines | Kind::Sheet);
        let all = [
            Fault::Reset,
            Fault::Reset,
            Fault::Cut,
            Fault::Cut,
            Fault::Status(500),
            Fault::Status(503),
            Fault::TooMany(self.dice.below(3)),
            Fault::Long,
            if self.dice.chance(30) { Fault::Hang } else { Fault::Status(502) },
            // Of lines, nobody could tell that some are missing.
            if is_json { Fault::Malformed } else { Fault::Reset },
            if is_json { Fault::Short } else { Fault::Cut },
        ];
        let fault = *self.dice.one_of(&all);
        *self.faults.entry(fault).or_default() += 1;
        Some(fault)
    }

    fn ask(&mut self, request: &Request) -> (String, Option<Fault>, Duration) {
        self.log.push((request.feed, Timestamp::now()));
        let fault = self.fault(request.feed);
        let feed = &mut self.feeds[request.feed];
        feed.busy += 1;
        feed.most = feed.most.max(feed.busy);
        if !self.frozen {
            feed.change(&mut self.dice);
        }
        (feed.page(request), fault, Duration::from_micros(self.dice.below(4_000)))
    }
}

/// The API on its socket.
pub(super) struct Api {
    pub(super) address: SocketAddr,
    world: Arc<Mutex<World>>,
    _runtime: Runtime,
}

impl Api {
    pub(super) fn start(feeds: usize, seed: u64, outages: u64) -> Self {
        let world = World {
            feeds: (0..feeds).map(|feed| Feed::new(Kind::of(feed))).collect(),
            dice: Dice(seed),
            outages,
            frozen: false,
            log: Vec::new(),
            faults: BTreeMap::new(),
        };
        let world = Arc::new(Mutex::new(world));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (shared, handle) = (Arc::clone(&world), runtime.handle().clone());
        runtime.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let world = Arc::clone(&shared);
                // A connection that breaks concerns its client alone.
                handle.spawn(async move { answer_all(stream, &world).await.ok() });
            }
        });
        Self { address, world, _runtime: runtime }
    }

    /// From here on nothing changes and nothing goes wrong.
    pub(super) fn freeze(&self) {
        self.world.lock().unwrap().frozen = true;
    }

    /// What a feed holds.
    pub(super) fn records(&self, feed: usize) -> Vec<Value> {
        let world = self.world.lock().unwrap();
        let feed = &world.feeds[feed];
        feed.records.keys().map(|id| feed.json(*id)).collect()
    }

    /// When each feed was asked.
    pub(super) fn log(&self) -> Vec<(usize, Timestamp)> {
        self.world.lock().unwrap().log.clone()
    }

    /// Requests of a feed that were answered at the same time, at most.
    pub(super) fn most(&self, feed: usize) -> usize {
        self.world.lock().unwrap().feeds[feed].most
    }

    pub(super) fn changes(&self) -> u64 {
        self.world.lock().unwrap().feeds.iter().map(|feed| feed.changes).sum()
    }

    pub(super) fn faults(&self) -> BTreeMap<Fault, u64> {
        self.world.lock().unwrap().faults.clone()
    }
}

/// Answers the requests of a connection, until its client leaves or a fault ends it.
async fn answer_all(mut stream: TcpStream, world: &Mutex<World>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return Ok(()),
            }
        }
        let request = Request::parse(&String::from_utf8(head).unwrap());
        let (body, fault, latency) = world.lock().unwrap().ask(&request);
        tokio::time::sleep(latency).await;
        world.lock().unwrap().feeds[request.feed].busy -= 1;
        let ok = |length: usize, body: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
        let bare = |line: &str| format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n");
        let half = &body[..body.len() / 2];
        let (text, ends) = match fault {
            None => (ok(body.len(), &body), false),
            Some(Fault::Reset) => {
                stream.set_zero_linger()?;
                return Ok(());
            }
            Some(Fault::Hang) => return stream.read_u8().await.map(drop),
            Some(Fault::Cut) => (ok(body.len(), half), true),
            Some(Fault::Long) => (ok(body.len() + 7, &body), true),
            Some(Fault::Short) => (ok(half.len(), &body), false),
            Some(Fault::Malformed) => (ok(half.len(), half), false),
            Some(Fault::Status(status)) => (bare(&format!("{status} No")), false),
            Some(Fault::TooMany(seconds)) => (bare(&format!("429 No\r\nRetry-After: {seconds}")), false),
        };
        stream.write_all(text.as_bytes()).await?;
        if ends {
            return stream.shutdown().await;
        }
    }
}
