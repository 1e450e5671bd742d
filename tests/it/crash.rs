//! Promises 1, 3, 4, 5 and 6 under `kill -9`: a sync is killed again and again, at moments that a seed decides, until
//! it is complete. After each kill the file is held against everything that was ever served, page by page, and the
//! API's own log says whether a committed page was asked for again.
//!
//! `HIGHWATER_CRASH_KILLS=300` makes the test longer, `HIGHWATER_CRASH_SEED=n` repeats one; see both with
//! `--nocapture`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use axum::response::Response;
use rusqlite::{Connection, OptionalExtension};
use serde_json::{Value, json};

use crate::support::{Api, PATIENCE, Seen, Workspace, respond};

/// Kills of the form that always runs: somewhat more than one read of everything lasts.
const KILLS: u32 = 40;

/// A page takes so long, so that there is time between two of them.
const LATENCY: Duration = Duration::from_millis(1);

/// A life sends at most so many requests before it is killed.
const REQUESTS_MAX: u64 = 45;

/// New records on a page.
const RECORDS: u64 = 5;

/// A kind of resource, its pages, and how one is told from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Merged, by page number, three pages in flight; each page repeats the last record of the one before.
    Items,
    /// Appended, by `Link` headers.
    Events,
    /// Replaced, by cursors.
    Stock,
}

const KINDS: [Kind; 3] = [Kind::Items, Kind::Events, Kind::Stock];

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
    fn name(self) -> &'static str {
        match self {
            Self::Items => "items",
            Self::Events => "events",
            Self::Stock => "stock",
        }
    }

    fn named(name: &str) -> Self {
        KINDS.into_iter().find(|kind| kind.name() == name).unwrap()
    }

    /// 550 pages in all.
    fn pages(self) -> u64 {
        match self {
            Self::Items => 200,
            Self::Events => 180,
            Self::Stock => 170,
        }
    }

    /// The ids on a page, which is counted from 0.
    fn ids(self, page: u64) -> std::ops::Range<u64> {
        let repeated = u64::from(self == Self::Items && page > 0);
        page * RECORDS - repeated..(page + 1) * RECORDS
    }

    fn all_ids(self) -> std::ops::Range<u64> {
        0..self.pages() * RECORDS
    }

    /// What a record says when it is served to the `life`-th process: some change from life to life, some do not.
    fn version(self, life: u64) -> u64 {
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
    fn page_at(self, position: &str) -> u64 {
        let position: Value = serde_json::from_str(position).unwrap();
        match position["at"].as_str().unwrap() {
            "first" => 0,
            "page" => position["page"].as_u64().unwrap() - 1,
            "link" => position["url"].as_str().unwrap().split_once("p=").unwrap().1.parse().unwrap(),
            "token" => position["token"].as_str().unwrap()[1..].parse().unwrap(),
            other => panic!("a position of the kind {other:?}"),
        }
    }

    fn answer(self, page: u64, life: u64) -> Response {
        assert!(page < self.pages(), "{} has no page {page}", self.name());
        let version = self.version(life);
        let records: Vec<Value> = self.ids(page).map(|id| json!({"id": id, "v": version})).collect();
        let last = page + 1 == self.pages();
        let next = format!("</events?p={}>; rel=\"next\"", page + 1);
        match self {
            Self::Items => respond(200, &[], json!({"data": records, "pages": self.pages()}).to_string()),
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
type Asked = (u64, Kind, u64);

/// The API's log, and the bell that rings for each request.
#[derive(Default)]
struct Log {
    asked: Mutex<Vec<Asked>>,
    bell: Condvar,
}

impl Log {
    fn note(&self, asked: Asked) {
        self.asked.lock().unwrap().push(asked);
        self.bell.notify_all();
    }

    fn of(&self, life: u64) -> Vec<(Kind, u64)> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|asked| asked.0 == life).map(|asked| (asked.1, asked.2)).collect()
    }

    /// Waits until a life has sent so many requests, or has ended.
    fn wait_for(&self, life: u64, requests: usize, child: &mut Child) -> bool {
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

/// A page as the ledger has it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Committed {
    kind: Kind,
    read_id: i64,
    page: u64,
    /// The life that read it.
    life: u64,
}

/// What is known of the file from the kills before.
#[derive(Default)]
struct Judge {
    ledger: Vec<Committed>,
}

/// Where a resource stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Standing {
    /// Reads that reached their end.
    complete: u64,
    /// The page to ask for next.
    next: u64,
}

impl Judge {
    /// Looks at a copy, so that it is the next process that has to recover the file.
    fn look(&mut self, workspace: &Workspace, life: u64) -> BTreeMap<Kind, Standing> {
        let copy = tempfile::tempdir().unwrap();
        for suffix in ["", "-wal"] {
            let name = format!("highwater.db{suffix}");
            if workspace.path(&name).exists() {
                std::fs::copy(workspace.path(&name), copy.path().join(&name)).unwrap();
            }
        }
        let mut standings: BTreeMap<Kind, Standing> = KINDS.map(|kind| (kind, Standing::default())).into();
        let db = Connection::open(copy.path().join("highwater.db")).unwrap();
        assert_eq!(value::<String>(&db, "PRAGMA integrity_check"), "ok");
        if !exists(&db, "_hw_pages") {
            assert_eq!(self.ledger, [], "everything is gone");
            return standings;
        }
        self.read_ledger(&db, life);
        for (kind, standing) in &mut standings {
            *standing = self.check_reads(&db, *kind);
            self.check_rows(&db, *kind);
        }
        check_runs(&db);
        standings
    }

    /// What was in the ledger stays in it; what is new was read by the life that has just ended.
    fn read_ledger(&mut self, db: &Connection, life: u64) {
        let mut statement =
            db.prepare("SELECT resource, read_id, position, received FROM _hw_pages ORDER BY page_id").unwrap();
        let mut rows = statement.query([]).unwrap();
        let mut number = 0;
        while let Some(row) = rows.next().unwrap() {
            let kind = Kind::named(&row.get::<_, String>(0).unwrap());
            let page = kind.page_at(&row.get::<_, String>(2).unwrap());
            let known = self.ledger.get(number);
            let life = known.map_or(life, |known| known.life);
            let committed = Committed { kind, read_id: row.get(1).unwrap(), page, life };
            match known {
                Some(known) => assert_eq!(committed, *known, "the ledger changed"),
                None => self.ledger.push(committed),
            }
            let ids = kind.ids(page);
            assert_eq!(row.get::<_, u64>(3).unwrap(), ids.end - ids.start, "a page is in the ledger in part");
            number += 1;
        }
        assert_eq!(number, self.ledger.len(), "the ledger has lost pages");
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = (i64, &Committed)> {
        let numbered = (1_i64..).zip(&self.ledger);
        numbered.filter(move |(_, committed)| committed.kind == kind)
    }

    /// Every read has its pages in order and without gaps; the checkpoint says how far the last one is.
    fn check_reads(&self, db: &Connection, kind: Kind) -> Standing {
        let mut reads: BTreeMap<i64, u64> = BTreeMap::new();
        for (_, committed) in self.of(kind) {
            let pages = reads.entry(committed.read_id).or_default();
            assert_eq!(committed.page, *pages, "{kind:?}: the pages of read {} are out of order", committed.read_id);
            *pages += 1;
        }
        let checkpoint: Option<(Option<i64>, String, Option<String>)> = db
            .query_row(
                "SELECT read_id, state, position FROM _hw_checkpoints WHERE resource = ?1",
                [kind.name()],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )
            .optional()
            .unwrap();
        let Some((current, state, position)) = checkpoint else {
            assert!(reads.is_empty(), "{kind:?} has pages and no checkpoint");
            return Standing::default();
        };
        let position = position.map(|position| kind.page_at(&position));
        let complete = reads.values().filter(|pages| **pages == kind.pages()).count() as u64;
        for (read, pages) in &reads {
            assert!(
                Some(*read) == current || *pages == kind.pages(),
                "{kind:?}: read {read} was given up at page {pages}"
            );
        }
        let marked = format!(
            "SELECT count(*) FROM _hw_runs WHERE resource = '{}' AND outcome = 'complete' AND stop_reason IS NOT NULL",
            kind.name()
        );
        assert_eq!(value::<u64>(db, &marked), complete, "{kind:?}: complete reads in the ledger and in the runs");
        match current.and_then(|current| reads.get(&current).copied()).unwrap_or(0) {
            pages if pages == kind.pages() => {
                // The next pass may have begun, and nothing of it be stored.
                assert!(matches!(state.as_str(), "complete" | "pending") && position.is_none(), "{kind:?}: {state}");
                Standing { complete, next: 0 }
            }
            0 => {
                assert_eq!((state.as_str(), position), ("pending", None), "{kind:?}");
                Standing { complete, next: 0 }
            }
            pages => {
                assert_eq!((state.as_str(), position), ("reading", Some(pages)), "{kind:?}");
                Standing { complete, next: pages }
            }
        }
    }

    /// The rows are the union of the ledger's pages, no more and no less.
    fn check_rows(&self, db: &Connection, kind: Kind) {
        let served = |committed: &Committed| {
            let version = kind.version(committed.life);
            kind.ids(committed.page).map(move |id| (id, version))
        };
        match kind {
            Kind::Items => {
                let expected: BTreeMap<u64, u64> = self.of(kind).flat_map(|(_, committed)| served(committed)).collect();
                assert_eq!(rows(db, "shop_items", "id"), expected.into_iter().collect::<Vec<_>>(), "merged rows");
            }
            Kind::Events => {
                let expected: Vec<(u64, u64)> = self.of(kind).flat_map(|(_, committed)| served(committed)).collect();
                assert_eq!(rows(db, "shop_events", "rowid"), expected, "appended rows");
                let strangers = "SELECT count(*) FROM shop_events e JOIN _hw_pages p ON p.page_id = e._page_id
                                 GROUP BY e._page_id HAVING count(*) <> p.inserted OR p.resource <> 'events'";
                if exists(db, "shop_events") {
                    let stranger: Option<u64> = db.query_row(strangers, [], |row| row.get(0)).optional().unwrap();
                    assert_eq!(stranger, None, "rows under the wrong page");
                }
            }
            Kind::Stock => {
                let read = |read_id: Option<i64>| -> Vec<(u64, u64)> {
                    let pages = self.of(kind).filter(|(_, committed)| Some(committed.read_id) == read_id);
                    pages.flat_map(|(_, committed)| served(committed)).collect()
                };
                let ended = self.of(kind).filter(|(_, committed)| committed.page + 1 == kind.pages()).last();
                let complete = ended.map(|(_, committed)| committed.read_id);
                let under_way = self.of(kind).last().map(|(_, committed)| committed.read_id);
                let under_way = under_way.filter(|read_id| Some(*read_id) != complete);
                assert_eq!(rows(db, "shop_stock", "id"), read(complete), "the generation that is shown");
                assert_eq!(rows(db, "_hw_next_shop_stock", "id"), read(under_way), "the generation under way");
            }
        }
    }
}

fn check_runs(db: &Connection) {
    let unbalanced = "SELECT count(*) FROM _hw_runs r
        LEFT JOIN (SELECT run_id, count(*) pages, sum(received) received FROM _hw_pages GROUP BY run_id) p USING (run_id)
        WHERE r.pages <> coalesce(p.pages, 0) OR r.received <> coalesce(p.received, 0)";
    assert_eq!(value::<u64>(db, unbalanced), 0, "runs and their pages disagree");
    let most =
        "SELECT coalesce(max(n), 0) FROM (SELECT count(*) n FROM _hw_runs WHERE outcome = 'running' GROUP BY resource)";
    assert!(value::<u64>(db, most) <= 1, "a resource has several runs under way");
}

fn value<T: rusqlite::types::FromSql>(db: &Connection, sql: &str) -> T {
    db.query_row(sql, [], |row| row.get(0)).unwrap()
}

fn exists(db: &Connection, table: &str) -> bool {
    value(db, &format!("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = '{table}')"))
}

/// Ids and versions; none where there is no such table.
fn rows(db: &Connection, table: &str, order: &str) -> Vec<(u64, u64)> {
    if !exists(db, table) {
        return Vec::new();
    }
    let mut statement = db.prepare(&format!("SELECT id, v FROM {table} ORDER BY {order}")).unwrap();
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().collect::<Result<_, _>>().unwrap()
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// Lets a process live for a while and kills it; `left` requests would complete it. Returns whether it was killed
/// before it ended by itself.
fn strike(child: &mut Child, life: u64, log: &Log, left: u64, random: &mut Random) -> bool {
    let pause = |micros: u64| {
        let until = Instant::now() + Duration::from_micros(micros);
        while let Some(rest) = until.checked_duration_since(Instant::now()) {
            std::thread::park_timeout(rest);
        }
    };
    if random.below(5) == 0 {
        // While it starts, opens the file and recovers it.
        pause(random.below(40_000));
    } else {
        let mut requests = 1 + random.below(REQUESTS_MAX);
        let mut more = random.below(3_000);
        if left <= REQUESTS_MAX && random.below(2) == 0 {
            // After the last request: at the last commits, or while the file is closed.
            (requests, more) = (left, random.below(15_000));
        }
        if !log.wait_for(life, usize::try_from(requests).unwrap(), child) {
            return false;
        }
        pause(more);
    }
    if child.try_wait().unwrap().is_some() {
        return false;
    }
    child.kill().unwrap();
    // It may have ended in the very last moment.
    child.wait().unwrap().code().is_none()
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is to be a number: {text}")))
}

#[test]
fn x01_a_sync_that_is_killed_again_and_again_ends_with_every_row_once_and_asks_for_no_page_twice() {
    let kills_wanted = from_environment("HIGHWATER_CRASH_KILLS").unwrap_or(KILLS.into());
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = from_environment("HIGHWATER_CRASH_SEED").unwrap_or(u64::from(clock.subsec_nanos()));
    println!("HIGHWATER_CRASH_KILLS={kills_wanted} HIGHWATER_CRASH_SEED={seed}");
    let started = Instant::now();
    let mut random = Random(seed);
    let log = Arc::new(Log::default());
    let api = {
        let log = Arc::clone(&log);
        Api::start_slow(LATENCY, move |request, _| {
            let kind = Kind::named(&request.path()[1..]);
            let life = request.headers["x-life"].to_str().unwrap().strip_prefix(LIFE).unwrap().parse().unwrap();
            let page = kind.page_of(request);
            log.note((life, kind, page));
            kind.answer(page, life)
        })
    };
    let workspace = Workspace::with_config(api.address, CONFIG);
    let mut judge = Judge::default();
    let mut standings = judge_nothing();
    let (mut life, mut kills, mut in_start, mut rounds) = (0, 0, 0, 0);
    // A round reads everything once. It lasts for as many lives as it takes; the last one ends without kills.
    while rounds == 0 || kills < kills_wanted {
        rounds += 1;
        loop {
            let open = still_open(&standings, rounds);
            if open.is_empty() {
                break;
            }
            life += 1;
            let names: Vec<String> = open.iter().map(|kind| format!("shop.{}", kind.name())).collect();
            let mut command = workspace.command(&["sync"]);
            let mut child =
                command.args(&names).env("LIFE", format!("{LIFE}{life}")).stdout(Stdio::null()).spawn().unwrap();
            let left = open.iter().map(|kind| kind.pages() - standings[kind].next).sum();
            let killed = kills < kills_wanted && strike(&mut child, life, &log, left, &mut random);
            if killed {
                kills += 1;
            } else {
                let ended = child.wait_with_output().unwrap();
                assert_eq!(ended.status.code(), Some(0), "life {life}: {}", String::from_utf8_lossy(&ended.stderr));
                assert!(!workspace.path("highwater.db-wal").exists(), "life {life} has not closed the file");
            }
            let asked = log.of(life);
            in_start += u64::from(killed && asked.is_empty());
            let before = std::mem::replace(&mut standings, judge.look(&workspace, life));
            check_requests(life, &asked, &before, &open);
            assert!(killed || still_open(&standings, rounds).is_empty(), "life {life} said that all is complete");
        }
        let expected = |kind: Kind| kind.all_ids().collect::<Vec<u64>>();
        let ids = |sql: &str| workspace.column::<u64>(sql);
        assert_eq!(ids("SELECT id FROM shop_items ORDER BY id"), expected(Kind::Items));
        assert_eq!(ids("SELECT id FROM shop_stock ORDER BY id"), expected(Kind::Stock));
        let once_for_each_read: Vec<u64> = expected(Kind::Events).iter().flat_map(|id| vec![*id; rounds]).collect();
        assert_eq!(ids("SELECT id FROM shop_events ORDER BY id"), once_for_each_read);
        workspace.check_books();
    }
    let (pages, requests) = (judge.ledger.len(), log.asked.lock().unwrap().len());
    println!(
        "{kills} kills ({in_start} before the first request) in {life} lives and {rounds} reads of everything: {pages} \
         pages committed, {} requests lost in a kill and sent again, {:.1} s",
        requests - pages,
        started.elapsed().as_secs_f64()
    );
    assert_eq!(pages as u64, rounds as u64 * KINDS.map(Kind::pages).iter().sum::<u64>());
}

fn judge_nothing() -> BTreeMap<Kind, Standing> {
    KINDS.map(|kind| (kind, Standing::default())).into()
}

/// The resources that this round has not read to the end yet.
fn still_open(standings: &BTreeMap<Kind, Standing>, rounds: usize) -> Vec<Kind> {
    KINDS.into_iter().filter(|kind| standings[kind].complete < rounds as u64).collect()
}

/// A life asks for no page that was committed before it began, for no page twice, and for nothing else.
fn check_requests(life: u64, asked: &[(Kind, u64)], before: &BTreeMap<Kind, Standing>, open: &[Kind]) {
    let mut seen = BTreeSet::new();
    for (kind, page) in asked {
        let next = before[kind].next;
        assert!(open.contains(kind), "life {life} asked for {kind:?}, which was not to be read");
        assert!(*page >= next, "life {life} asked for page {page} of {kind:?}; all before {next} were committed");
        assert!(seen.insert((*kind, *page)), "life {life} asked twice for page {page} of {kind:?}");
    }
}
