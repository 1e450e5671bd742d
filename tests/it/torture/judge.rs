//! Holds the file against everything that was ever served, page by page.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension};

use super::shop::{KINDS, Kind, Life, Part, Size};
use crate::support::Workspace;

/// A page as the ledger has it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Committed {
    part: Part,
    read_id: i64,
    page: u64,
    /// The life that read it.
    life: Life,
}

/// What is known of the file from the looks before.
#[derive(Clone)]
pub(crate) struct Judge {
    size: Size,
    ledger: Vec<Committed>,
}

/// Where a resource stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Reads of all of it that reached their end.
    pub(crate) complete: u64,
    /// The page to ask for next of each part; behind the last one where nothing is left of it.
    pub(crate) next: Vec<u64>,
    /// A read has begun, and has not reached its end.
    pub(crate) is_open: bool,
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

    /// How many of a kind.
    pub(crate) fn pages_of(&self, kind: Kind) -> u64 {
        self.of(kind).count() as u64
    }

    /// How often a life has stored a page.
    pub(crate) fn stored(&self, part: Part, page: u64, life: Life) -> u64 {
        let of_part = self.of(part.kind).filter(|committed| committed.part == part);
        of_part.filter(|committed| committed.page == page && committed.life == life).count() as u64
    }

    /// Looks at a copy of what a process left, so that it is the next one that has to recover the file. What is new
    /// since the look before was read by `life`.
    pub(crate) fn look(&mut self, workspace: &Workspace, life: Life) -> Standings {
        let copy = tempfile::tempdir().unwrap();
        let database = workspace.path("highwater.db");
        let database = database.canonicalize().unwrap_or(database);
        for suffix in ["", "-wal", "-journal"] {
            let name = format!("highwater.db{suffix}");
            if database.with_file_name(&name).exists() {
                std::fs::copy(database.with_file_name(&name), copy.path().join(&name)).unwrap();
            }
        }
        self.examine(&Connection::open(copy.path().join("highwater.db")).unwrap(), life)
    }

    /// Looks at an open file.
    pub(crate) fn examine(&mut self, db: &Connection, life: Life) -> Standings {
        let mut standings = nothing_read(self.size);
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
        self.check_queue(db);
        check_runs(db);
        // A parent is read again as long as its children are not complete.
        let complete = standings[&Kind::Books].complete;
        standings.get_mut(&Kind::Shelves).unwrap().complete = complete;
        standings
    }

    /// Looks at an open file as it may have been earlier: its ledger is the beginning of what is known now. Returns the
    /// judge who knows no more than that file, too.
    pub(crate) fn look_back(&self, db: &Connection) -> (Self, Standings) {
        let pages = if exists(db, "_hw_pages") { value(db, "SELECT count(*) FROM _hw_pages") } else { 0 };
        assert!(pages <= self.ledger.len(), "there are pages that were never committed");
        let mut then = Self { size: self.size, ledger: self.ledger[..pages].to_vec() };
        let standings = then.examine(db, Life::default());
        (then, standings)
    }

    /// What was in the ledger stays in it; what is new was read by the life that has just ended.
    fn read_ledger(&mut self, db: &Connection, life: Life) {
        let mut statement = db
            .prepare("SELECT resource, partition, read_id, position, url, received FROM _hw_pages ORDER BY page_id")
            .unwrap();
        let mut rows = statement.query([]).unwrap();
        let mut number = 0;
        while let Some(row) = rows.next().unwrap() {
            let text = |column: usize| row.get::<_, String>(column).unwrap();
            let kind = Kind::named(&text(0));
            let known = self.ledger.get(number);
            let life = known.map_or(life, |known| known.life);
            let page = match kind {
                Kind::Changes => self.size.change_at(kind.page_at(&text(3)), since(&text(4)), life),
                _ => kind.page_at(&text(3)),
            };
            let part = Part { kind, number: part_of(&text(1)) };
            let committed = Committed { part, read_id: row.get(2).unwrap(), page, life };
            let records = self.size.records(part, page, life).len();
            match known {
                Some(known) => assert_eq!(committed, *known, "the ledger changed"),
                None => self.ledger.push(committed),
            }
            assert_eq!(row.get::<_, usize>(5).unwrap(), records, "a page is in the ledger in part");
            number += 1;
        }
        assert_eq!(number, self.ledger.len(), "the ledger has lost pages");
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = &Committed> {
        self.ledger.iter().filter(move |committed| committed.part.kind == kind)
    }

    /// Every read has its pages in order and without gaps; the checkpoints say how far the last ones are.
    fn check_reads(&self, db: &Connection, kind: Kind) -> Standing {
        let marked = format!(
            "SELECT count(*) FROM _hw_runs WHERE resource = '{}' AND outcome = 'complete' AND stop_reason IS NOT NULL",
            kind.name()
        );
        let complete = value::<u64>(db, &marked);
        let checkpoints = checkpoints(db, kind);
        if kind == Kind::Changes {
            return self.check_changes(checkpoints.get(&0), complete);
        }
        let (mut next, mut is_open) = (Vec::new(), false);
        for part in self.size.parts(kind) {
            let (reads, at) = self.check_part(part, checkpoints.get(&part.number));
            // A read of all parts is over when the last one of them is.
            let is_ahead = reads == complete + 1 && kind.has_parts();
            assert!(reads == complete || is_ahead, "{part:?}: complete in the ledger {reads}, in the runs {complete}");
            next.push(if is_ahead { self.size.of(kind) } else { at });
            is_open |= is_ahead || at > 0;
        }
        Standing { complete, next, is_open }
    }

    /// How often a part was read to its end, and the page that the next read of it begins with.
    fn check_part(&self, part: Part, checkpoint: Option<&Checkpoint>) -> (u64, u64) {
        let all = self.size.of(part.kind);
        let mut reads: BTreeMap<i64, u64> = BTreeMap::new();
        for committed in self.of(part.kind).filter(|committed| committed.part == part) {
            let pages = reads.entry(committed.read_id).or_default();
            assert_eq!(committed.page, *pages, "{part:?}: the pages of read {} are out of order", committed.read_id);
            *pages += 1;
        }
        let Some(Checkpoint { read_id: current, state, position, .. }) = checkpoint else {
            assert!(reads.is_empty(), "{part:?} has pages and no checkpoint");
            return (0, 0);
        };
        let position = position.as_ref().map(|position| part.kind.page_at(position));
        let complete = reads.values().filter(|pages| **pages == all).count() as u64;
        for (read, pages) in &reads {
            assert!(Some(*read) == *current || *pages == all, "{part:?}: read {read} was given up at page {pages}");
        }
        match current.and_then(|current| reads.get(&current).copied()).unwrap_or(0) {
            pages if pages == all => {
                // The next pass may have begun, and nothing of it be stored.
                assert!(matches!(state.as_str(), "complete" | "pending") && position.is_none(), "{part:?}: {state}");
                (complete, 0)
            }
            0 => {
                assert_eq!((state.as_str(), position), ("pending", None), "{part:?}");
                (complete, 0)
            }
            pages => {
                assert_eq!((state.as_str(), position), ("reading", Some(pages)), "{part:?}");
                (complete, pages)
            }
        }
    }

    /// Every page of changes begins where the one before has ended, or with the last change that is stored where another
    /// read begins or goes on. The cursor is the last change.
    fn check_changes(&self, checkpoint: Option<&Checkpoint>, complete: u64) -> Standing {
        let (mut reads, mut cursor, mut before) = (0, None, None);
        for committed in self.of(Kind::Changes) {
            let Committed { part, page, life, .. } = *committed;
            let all = self.size.changes(life);
            let goes_on = before == Some(life) && cursor.is_some_and(|cursor| cursor + 1 < all.end);
            let first = cursor.map_or(0, |cursor: u64| cursor + u64::from(goes_on));
            assert_eq!(page, first.max(all.start), "{part:?}: the page behind change {cursor:?}");
            let last = self.size.records(part, page, life).last().unwrap().1;
            reads += u64::from(last + 1 == all.end);
            (cursor, before) = (Some(last), Some(life));
        }
        assert_eq!(reads, complete, "changes: complete reads in the ledger and in the runs");
        let stored = checkpoint.and_then(|checkpoint| checkpoint.cursor.as_ref());
        assert_eq!(stored.map(|cursor| digits(cursor)), cursor, "changes: the cursor");
        let is_open = cursor.zip(before).is_some_and(|(cursor, life)| cursor + 1 < self.size.changes(life).end);
        Standing { complete, next: vec![cursor.unwrap_or(0)], is_open }
    }

    /// What was stored of the parent is in the queue of the children, or was.
    fn check_queue(&self, db: &Connection) {
        let part = |page: &u64| self.size.records(Part { kind: Kind::Shelves, number: 0 }, *page, Life::default());
        let pages: BTreeSet<u64> = self.of(Kind::Shelves).map(|committed| committed.page).collect();
        let shelves: Vec<u64> = pages.iter().flat_map(part).map(|(id, _)| id).collect();
        let queued: Vec<u64> = checkpoints(db, Kind::Books).into_keys().collect();
        assert_eq!(queued, shelves, "the queue has what the pages of the parent have");
    }

    /// The rows are the union of the ledger's pages, no more and no less.
    fn check_rows(&self, db: &Connection, kind: Kind) {
        let served = |committed: &Committed| self.size.records(committed.part, committed.page, committed.life);
        match kind {
            Kind::Events => {
                let expected: Vec<(u64, u64)> = self.of(kind).flat_map(served).collect();
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
                    let pages = self.of(kind).filter(|committed| Some(committed.read_id) == read_id);
                    pages.flat_map(served).collect()
                };
                let ended = self.of(kind).filter(|committed| committed.page + 1 == self.size.of(kind)).last();
                let complete = ended.map(|committed| committed.read_id);
                let under_way = self.of(kind).last().map(|committed| committed.read_id);
                let under_way = under_way.filter(|read_id| Some(*read_id) != complete);
                assert_eq!(rows(db, "shop_stock", "id"), read(complete), "the generation that is shown");
                assert_eq!(rows(db, "_hw_next_shop_stock", "id"), read(under_way), "the generation under way");
            }
            _ => {
                let expected: BTreeMap<u64, u64> = self.of(kind).flat_map(served).collect();
                let found = rows(db, &format!("shop_{}", kind.name()), "id");
                assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{kind:?}: merged rows");
            }
        }
    }
}

/// Where the file says that a part stands.
struct Checkpoint {
    read_id: Option<i64>,
    state: String,
    position: Option<String>,
    cursor: Option<String>,
}

/// Those of all parts.
fn checkpoints(db: &Connection, kind: Kind) -> BTreeMap<u64, Checkpoint> {
    let sql = "SELECT partition, read_id, state, position, cursor FROM _hw_checkpoints WHERE resource = ?1";
    let mut statement = db.prepare(sql).unwrap();
    let checkpoint = |row: &rusqlite::Row<'_>| {
        let (read_id, state) = (row.get(1)?, row.get(2)?);
        Ok((
            part_of(&row.get::<_, String>(0)?),
            Checkpoint { read_id, state, position: row.get(3)?, cursor: row.get(4)? },
        ))
    };
    statement.query_map([kind.name()], checkpoint).unwrap().collect::<Result<_, _>>().unwrap()
}

/// The number of a part that a partition is; one that is all of its resource has no number.
fn part_of(partition: &str) -> u64 {
    if partition.is_empty() { 0 } else { digits(partition) }
}

/// The change that a URL asks from on.
fn since(url: &str) -> u64 {
    let since = url.split_once("since=").map_or("0", |(_, since)| since);
    digits(since.split('&').next().unwrap())
}

/// The only number in a text.
fn digits(text: &str) -> u64 {
    text.chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap()
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

pub(crate) fn nothing_read(size: Size) -> Standings {
    let standing = |kind| Standing { next: size.parts(kind).map(|_| 0).collect(), ..Standing::default() };
    KINDS.map(|kind| (kind, standing(kind))).into()
}

/// The resources that this round has not read to the end yet.
pub(crate) fn still_open(standings: &Standings, rounds: u64) -> Vec<Kind> {
    KINDS.into_iter().filter(|kind| standings[kind].complete < rounds).collect()
}

/// A life asks for no page that was committed before it began, for no page twice, and for nothing else.
pub(crate) fn check_requests(life: Life, asked: &[(Part, u64)], before: &Standings, open: &[Kind]) {
    let mut seen = BTreeSet::new();
    for (part, page) in asked {
        let next = before[&part.kind].next[usize::try_from(part.number).unwrap()];
        assert!(open.contains(&part.kind), "{life:?} asked for {part:?}, which was not to be read");
        assert!(*page >= next, "{life:?} asked for page {page} of {part:?}; all before {next} were committed");
        assert!(seen.insert((*part, *page)), "{life:?} asked twice for page {page} of {part:?}");
    }
}
