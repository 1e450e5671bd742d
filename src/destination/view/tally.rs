//! Runs added up since a moment, at a cost that does not grow with how many there have been: what was added up before is
//! kept, and only runs that are new, or were under way, are read.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::super::history::time_text;
use super::{DbError, View};
use crate::destination::Counts;
use crate::page::ResourceId;

/// The end of a run is entered before the requests that came behind its last page: until then its line may change.
const SETTLED_AFTER: Duration = Duration::from_secs(60);

/// Which lines are looked at: those that may have changed, one by one, and those that are new. Both are found by number.
const ONE: &str = "run_id = ?2";
const NEW: &str = "run_id > ?2";

/// What became of runs, added up. None of the numbers ever goes down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunSums {
    /// Runs that have ended, by what asked for them and how they ended, in the words of `_hw_runs`.
    pub ended: BTreeMap<(String, String), u64>,
    /// What became of their records.
    pub counts: Counts,
    /// Pages stored.
    pub pages: u64,
    /// Requests sent; of a run under way, those that brought a page.
    pub requests: u64,
    /// Requests sent again after a failure.
    pub retries: u64,
    /// Bytes of bodies, after decompression.
    pub bytes: u64,
}

/// The runs since a moment, added up by resource.
#[derive(Clone, Debug)]
pub struct Tally {
    since: Timestamp,
    /// The last run that was looked at.
    last: Option<i64>,
    /// Of runs that do not change any more.
    settled: BTreeMap<ResourceId, RunSums>,
    /// Runs that may.
    open: BTreeMap<i64, (ResourceId, RunSums)>,
}

/// A line of `_hw_runs`.
struct Line {
    run_id: i64,
    id: ResourceId,
    is_settled: bool,
    sums: RunSums,
}

impl Tally {
    /// Nothing is added up yet of the runs that begin from this moment on.
    #[must_use]
    pub fn since(since: Timestamp) -> Self {
        Self { since, last: None, settled: BTreeMap::new(), open: BTreeMap::new() }
    }

    /// The sums of each resource that has had a run.
    #[must_use]
    pub fn sums(&self) -> BTreeMap<ResourceId, RunSums> {
        let mut sums = self.settled.clone();
        for (id, run) in self.open.values() {
            sums.entry(id.clone()).or_default().add(run);
        }
        sums
    }

    fn take(&mut self, line: Line) {
        self.last = self.last.max(Some(line.run_id));
        if line.is_settled {
            self.open.remove(&line.run_id);
            self.settled.entry(line.id).or_default().add(&line.sums);
        } else {
            self.open.insert(line.run_id, (line.id, line.sums));
        }
    }

    fn settle(&mut self, run_id: i64) {
        if let Some((id, sums)) = self.open.remove(&run_id) {
            self.settled.entry(id).or_default().add(&sums);
        }
    }

    /// What has come since the last time.
    fn go_on(mut self, connection: &Connection, now: Timestamp) -> Result<Self, DbError> {
        let before = time_text(now - SETTLED_AFTER);
        let after = match self.last {
            Some(last) => last,
            None => {
                let sql = "SELECT run_id FROM _hw_runs WHERE started_at < ?1 ORDER BY run_id DESC LIMIT 1";
                connection.query_row(sql, [time_text(self.since)], |row| row.get(0)).optional()?.unwrap_or(0)
            }
        };
        self.last = Some(after);
        let open: Vec<i64> = self.open.keys().copied().collect();
        let mut one = connection.prepare_cached(&lines(ONE))?;
        for run_id in open {
            // A line that somebody has deleted counts as what it was.
            match one.query_row(params![before, run_id], line).optional()? {
                Some(line) => self.take(line),
                None => self.settle(run_id),
            }
        }
        let mut new = connection.prepare_cached(&lines(NEW))?;
        for line in new.query_map(params![before, after], line)? {
            self.take(line?);
        }
        Ok(self)
    }
}

impl RunSums {
    fn add(&mut self, other: &Self) {
        for (key, runs) in &other.ended {
            *self.ended.entry(key.clone()).or_default() += runs;
        }
        self.counts.add(&other.counts);
        self.pages += other.pages;
        self.requests += other.requests;
        self.retries += other.retries;
        self.bytes += other.bytes;
    }
}

fn lines(condition: &str) -> String {
    format!(
        "SELECT run_id, source, resource, outcome <> 'running' AND coalesce(ended_at, '') < ?1, kind, outcome,
           received, inserted, updated, unchanged, filtered, quarantined, pages, requests, retries, bytes
         FROM _hw_runs WHERE {condition} ORDER BY run_id"
    )
}

fn line(row: &Row<'_>) -> rusqlite::Result<Line> {
    let (source, resource): (String, String) = (row.get(1)?, row.get(2)?);
    let (kind, outcome): (String, String) = (row.get(4)?, row.get(5)?);
    let ended = (outcome != "running").then_some(((kind, outcome), 1)).into_iter().collect();
    let counts = Counts {
        received: row.get(6)?,
        inserted: row.get(7)?,
        updated: row.get(8)?,
        unchanged: row.get(9)?,
        filtered: row.get(10)?,
        quarantined: row.get(11)?,
    };
    let (pages, requests, retries, bytes) = (row.get(12)?, row.get(13)?, row.get(14)?, row.get(15)?);
    let sums = RunSums { ended, counts, pages, requests, retries, bytes };
    Ok(Line { run_id: row.get(0)?, id: ResourceId::new(&source, &resource), is_settled: row.get(3)?, sums })
}

impl View {
    /// Goes on adding up runs.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn tally(&self, tally: &Tally) -> Result<Tally, DbError> {
        let tally = tally.clone();
        self.call("add up runs", move |connection| tally.go_on(connection, Timestamp::now())).await
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};
    use rusqlite::Connection;

    use super::super::super::history::time_text;
    use super::super::super::schema::SCHEMA;
    use super::{RunSums, Tally};
    use crate::page::ResourceId;

    struct Runs {
        db: Connection,
        now: Timestamp,
    }

    impl Runs {
        fn new() -> Self {
            let db = Connection::open_in_memory().unwrap();
            db.execute_batch(SCHEMA).unwrap();
            Self { db, now: "2026-11-22T12:00:00Z".parse().unwrap() }
        }

        fn begin(&self, resource: &str, kind: &str) -> i64 {
            let sql = "INSERT INTO _hw_runs (kind, source, resource, pass_id, started_at, outcome)
                       VALUES (?1, 's', ?2, 1, ?3, 'running')";
            self.db.execute(sql, (kind, resource, time_text(self.now))).unwrap();
            self.db.last_insert_rowid()
        }

        fn page(&self, run: i64, inserted: i64, unchanged: i64) {
            let sql = "UPDATE _hw_runs SET pages = pages + 1, requests = requests + 1, bytes = bytes + 100,
                       received = received + ?2 + ?3, inserted = inserted + ?2, unchanged = unchanged + ?3
                       WHERE run_id = ?1";
            self.db.execute(sql, (run, inserted, unchanged)).unwrap();
        }

        fn end(&self, run: i64, outcome: &str) {
            let sql = "UPDATE _hw_runs SET outcome = ?2, ended_at = ?3 WHERE run_id = ?1";
            self.db.execute(sql, (run, outcome, time_text(self.now))).unwrap();
        }

        fn wait(&mut self, secs: i64) {
            self.now += SignedDuration::from_secs(secs);
        }
    }

    fn of(tally: &Tally, resource: &str) -> RunSums {
        tally.sums().remove(&ResourceId::new("s", resource)).unwrap_or_default()
    }

    fn ended(tally: &Tally, resource: &str) -> Vec<(String, String, u64)> {
        of(tally, resource).ended.into_iter().map(|((kind, outcome), runs)| (kind, outcome, runs)).collect()
    }

    #[test]
    fn what_runs_bring_is_counted_once_however_often_and_late_one_looks() {
        let mut runs = Runs::new();
        let old = runs.begin("a", "sync");
        runs.page(old, 1000, 0);
        runs.end(old, "complete");
        runs.wait(1);
        let (long, short) = (runs.begin("a", "scheduled"), runs.begin("b", "scheduled"));
        runs.page(long, 10, 1);
        runs.page(short, 3, 0);
        runs.end(short, "failed");

        // Nobody has looked before: the runs before the moment do not count, those after it do.
        let tally = Tally::since(runs.now).go_on(&runs.db, runs.now).unwrap();
        assert_eq!((of(&tally, "a").counts.inserted, of(&tally, "a").pages), (10, 1));
        assert_eq!((ended(&tally, "a"), ended(&tally, "b")), (vec![], vec![("scheduled".into(), "failed".into(), 1)]));

        // What its end adds to a run is seen, and nothing twice.
        runs.db.execute("UPDATE _hw_runs SET requests = 7, retries = 6 WHERE run_id = ?1", [short]).unwrap();
        runs.page(long, 5, 0);
        let tally = tally.go_on(&runs.db, runs.now).unwrap();
        assert_eq!((of(&tally, "b").requests, of(&tally, "b").retries, of(&tally, "b").counts.inserted), (7, 6, 3));
        assert_eq!((of(&tally, "a").counts.inserted, of(&tally, "a").counts.unchanged), (15, 1));

        // Later only the run under way is still looked at, whatever becomes of the lines of the others.
        runs.wait(120);
        let tally = tally.go_on(&runs.db, runs.now).unwrap();
        assert_eq!(tally.open.keys().copied().collect::<Vec<_>>(), [long]);
        runs.db.execute("DELETE FROM _hw_runs WHERE run_id = ?1", [short]).unwrap();
        runs.end(long, "complete");
        let next = runs.begin("b", "backfill");
        runs.page(next, 4, 0);
        runs.end(next, "complete");
        let tally = tally.go_on(&runs.db, runs.now).unwrap();
        assert_eq!(of(&tally, "b").counts.inserted, 7);
        assert_eq!(
            ended(&tally, "b"),
            [("backfill".into(), "complete".into(), 1), ("scheduled".into(), "failed".into(), 1)]
        );
        runs.wait(120);
        let tally = tally.go_on(&runs.db, runs.now).unwrap();
        assert!(tally.open.is_empty());
        let again = tally.clone().go_on(&runs.db, runs.now).unwrap();
        assert_eq!(again.sums(), tally.sums());
        assert_eq!((of(&tally, "a").counts.inserted, of(&tally, "a").bytes), (15, 200));
    }

    #[test]
    fn a_line_that_is_gone_while_it_is_open_keeps_what_it_was() {
        let runs = Runs::new();
        let run = runs.begin("a", "sync");
        runs.page(run, 2, 0);
        let tally = Tally::since(runs.now).go_on(&runs.db, runs.now).unwrap();
        runs.db.execute("DELETE FROM _hw_runs", []).unwrap();
        let tally = tally.go_on(&runs.db, runs.now).unwrap();
        assert_eq!((of(&tally, "a").counts.inserted, tally.open.len()), (2, 0));
    }

    #[test]
    fn looking_reads_no_more_lines_than_are_new_or_open() {
        let runs = Runs::new();
        for condition in [super::ONE, super::NEW] {
            let sql = format!("EXPLAIN QUERY PLAN {}", super::lines(condition));
            let plan: String = runs.db.query_row(&sql, ("", 1), |row| row.get(3)).unwrap();
            assert!(plan.starts_with("SEARCH _hw_runs USING INTEGER PRIMARY KEY"), "{plan}");
        }
    }
}
