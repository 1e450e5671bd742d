//! Holds the file against everything that was ever served, page by page.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension};

use super::shop::{KINDS, Kind, Size};
use crate::support::Workspace;

/// A page as the ledger has it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Committed {
    kind: Kind,
    read_id: i64,
    page: u64,
    /// The life that read it.
    life: u64,
}

/// What is known of the file from the looks before.
#[derive(Clone)]
pub(crate) struct Judge {
    size: Size,
    ledger: Vec<Committed>,
}

/// Where a resource stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Reads that reached their end.
    pub(crate) complete: u64,
    /// The page to ask for next.
    pub(crate) next: u64,
}

pub(crate) type Standings = BTreeMap<Kind, Standing>;

impl Judge {
    pub(crate) fn new(size: Size) -> Self {
        Self { size, ledger: Vec::new() }
    }

    /// How many pages are known to be committed.
    pub(crate) fn pages(&self) -> usize {
        self.ledger.len()
    }

    /// Looks at a copy of what a process left, so that it is the next one that has to recover the file. What is new
    /// since the look before was read by the `life`-th process.
    pub(crate) fn look(&mut self, workspace: &Workspace, life: u64) -> Standings {
        let copy = tempfile::tempdir().unwrap();
        let database = workspace.path("highwater.db");
        let database = database.canonicalize().unwrap_or(database);
        for suffix in ["", "-wal"] {
            let name = format!("highwater.db{suffix}");
            if database.with_file_name(&name).exists() {
                std::fs::copy(database.with_file_name(&name), copy.path().join(&name)).unwrap();
            }
        }
        self.examine(&Connection::open(copy.path().join("highwater.db")).unwrap(), life)
    }

    /// Looks at an open file.
    pub(crate) fn examine(&mut self, db: &Connection, life: u64) -> Standings {
        let mut standings = nothing_read();
        assert_eq!(value::<String>(db, "PRAGMA integrity_check"), "ok");
        if !exists(db, "_hw_pages") {
            assert_eq!(self.ledger, [], "everything is gone");
            return standings;
        }
        self.read_ledger(db, life);
        for (kind, standing) in &mut standings {
            *standing = self.check_reads(db, *kind);
            self.check_rows(db, *kind);
        }
        check_runs(db);
        standings
    }

    /// Looks at an open file as it may have been earlier: its ledger is the beginning of what is known now. Returns the
    /// judge who knows no more than that file, too.
    pub(crate) fn look_back(&self, db: &Connection) -> (Self, Standings) {
        let pages = if exists(db, "_hw_pages") { value(db, "SELECT count(*) FROM _hw_pages") } else { 0 };
        assert!(pages <= self.ledger.len(), "there are pages that were never committed");
        let mut then = Self { size: self.size, ledger: self.ledger[..pages].to_vec() };
        let standings = then.examine(db, 0);
        (then, standings)
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
        let complete = reads.values().filter(|pages| **pages == self.size.of(kind)).count() as u64;
        for (read, pages) in &reads {
            assert!(
                Some(*read) == current || *pages == self.size.of(kind),
                "{kind:?}: read {read} was given up at page {pages}"
            );
        }
        let marked = format!(
            "SELECT count(*) FROM _hw_runs WHERE resource = '{}' AND outcome = 'complete' AND stop_reason IS NOT NULL",
            kind.name()
        );
        assert_eq!(value::<u64>(db, &marked), complete, "{kind:?}: complete reads in the ledger and in the runs");
        match current.and_then(|current| reads.get(&current).copied()).unwrap_or(0) {
            pages if pages == self.size.of(kind) => {
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
                let ended = self.of(kind).filter(|(_, committed)| committed.page + 1 == self.size.of(kind)).last();
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

pub(crate) fn nothing_read() -> Standings {
    KINDS.map(|kind| (kind, Standing::default())).into()
}

/// The resources that this round has not read to the end yet.
pub(crate) fn still_open(standings: &Standings, rounds: u64) -> Vec<Kind> {
    KINDS.into_iter().filter(|kind| standings[kind].complete < rounds).collect()
}

/// A life asks for no page that was committed before it began, for no page twice, and for nothing else.
pub(crate) fn check_requests(life: u64, asked: &[(Kind, u64)], before: &Standings, open: &[Kind]) {
    let mut seen = BTreeSet::new();
    for (kind, page) in asked {
        let next = before[kind].next;
        assert!(open.contains(kind), "life {life} asked for {kind:?}, which was not to be read");
        assert!(*page >= next, "life {life} asked for page {page} of {kind:?}; all before {next} were committed");
        assert!(seen.insert((*kind, *page)), "life {life} asked twice for page {page} of {kind:?}");
    }
}
