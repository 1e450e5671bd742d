//! Histories: records of an API are added and changed, come late or at the same moment, while runs read them, fail, are
//! stopped and go on. After each run the table has to be what a model says. A history is made of a number: `HISTORY_SEED=n`
//! plays one again, `HISTORIES=n` so many.

#![expect(clippy::print_stdout, reason = "a history that is played again tells what happens in it")]

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use highwater::config::{Config, Env, load_text};
use highwater::destination::{Db, DestinationOptions, Outcome};
use highwater::{plan, sync};
use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use api::{Api, State, Trouble};
use dice::Dice;
use model::{Model, Ran, Row};
use shape::Shape;

mod api;
pub(crate) mod dice;
mod model;
mod shape;

/// Histories without `HISTORIES`.
const HISTORIES: u64 = 2_000;

/// Threads that play them.
const THREADS: u64 = 2;

#[test]
fn whatever_happens_between_and_during_runs_the_table_is_what_the_model_says() {
    // Another test of the process may have been faster.
    drop(rustls::crypto::ring::default_provider().install_default());
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    if let Some(seed) = number("HISTORY_SEED") {
        println!("{:#?}", Player::new(true).play(seed));
        return;
    }
    let histories = number("HISTORIES").unwrap_or(HISTORIES);
    let next = AtomicU64::new(0);
    let played = std::thread::scope(|scope| {
        let play = || {
            let player = Player::new(false);
            let mut sum = Played::default();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= histories {
                    return sum;
                }
                match catch_unwind(AssertUnwindSafe(|| player.play(seed))) {
                    Ok(played) => sum.add(&played),
                    Err(panic) => {
                        next.store(histories, Ordering::Relaxed);
                        println!(
                            "this was history {seed}: play it again with HISTORY_SEED={seed}\n{:#?}",
                            player.shape()
                        );
                        std::panic::resume_unwind(panic);
                    }
                }
            }
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(play)).collect();
        let mut sum = Played::default();
        threads.into_iter().for_each(|thread| sum.add(&thread.join().unwrap()));
        sum
    });
    println!("{histories} histories: {played:#?}");
    if histories >= HISTORIES {
        played.check_variety();
    }
}

/// What became of histories.
#[derive(Clone, Debug, Default)]
struct Played {
    runs: u64,
    complete: u64,
    failed: u64,
    requests: u64,
    resumed: u64,
    started_over: u64,
    rows: u64,
    filtered: u64,
    drifted: u64,
}

impl Played {
    fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.complete += other.complete;
        self.failed += other.failed;
        self.requests += other.requests;
        self.resumed += other.resumed;
        self.started_over += other.started_over;
        self.rows += other.rows;
        self.filtered += other.filtered;
        self.drifted += other.drifted;
    }

    /// A test of histories in which nothing happens would prove nothing.
    fn check_variety(&self) {
        for (what, number) in [
            ("complete", self.complete),
            ("failed", self.failed),
            ("resumed", self.resumed),
            ("started over", self.started_over),
            ("filtered", self.filtered),
            ("drifted", self.drifted),
        ] {
            assert!(number >= HISTORIES / 10, "only {number} were {what}: {self:#?}");
        }
    }
}

/// Plays histories, one after the other.
struct Player {
    runtime: Runtime,
    api: Api,
    folder: tempfile::TempDir,
    /// A file in which nothing is yet: to copy it is faster than to make it.
    empty: Vec<u8>,
    /// It tells what happens.
    tells: bool,
}

impl Player {
    fn new(tells: bool) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let api = runtime.block_on(Api::start());
        let folder = tempfile::tempdir().unwrap();
        let options = DestinationOptions { path: folder.path().join("empty.db"), ..DestinationOptions::default() };
        runtime.block_on(async { Db::open(&options).await.unwrap().close().await.unwrap() });
        let empty = std::fs::read(&options.path).unwrap();
        Self { runtime, api, folder, empty, tells }
    }

    fn shape(&self) -> Shape {
        self.api.state().shape.clone()
    }

    fn play(&self, seed: u64) -> Played {
        let mut dice = Dice(seed);
        let shape = Shape::any(&mut dice);
        *self.api.state() = State::new(shape.clone(), Dice(dice.next()));
        let path = self.folder.path().join(format!("{seed}.db"));
        let text = shape.config(&self.api.address.to_string(), path.to_str().unwrap());
        let config =
            load_text("config.toml", &text, &Env::default()).unwrap_or_else(|report| panic!("{text}\n{report}"));
        std::fs::write(&path, &self.empty).unwrap();
        if self.tells {
            println!("{text}");
        }
        let (api, tells, model) = (&self.api, self.tells, Model::new(&shape));
        let history = History { api, config: config.config, path: &path, dice, model, shape, tells };
        let played = self.runtime.block_on(history.play());
        for end in ["", "-wal", "-shm", ".lock"] {
            // Two of them are usually gone already.
            drop(std::fs::remove_file(format!("{}{end}", path.display())));
        }
        played
    }
}

struct History<'p> {
    api: &'p Api,
    config: Config,
    path: &'p Path,
    shape: Shape,
    dice: Dice,
    model: Model,
    tells: bool,
}

impl History<'_> {
    async fn play(mut self) -> Played {
        let mut played = Played::default();
        let mut db = Arc::new(Db::open(&self.config.destination).await.unwrap());
        let file = Connection::open_with_flags(self.path, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
        let runs = 1 + self.dice.below(4);
        let drifts = self.dice.chance(50);
        for _ in 0..runs {
            self.change();
            let trouble = self.trouble(drifts);
            if self.model.is_under_way() && self.dice.chance(20) {
                let sql = "UPDATE _hw_checkpoints SET updated_at = '2020-01-01T00:00:00.000Z'";
                file.execute(sql, []).unwrap();
                self.model.age();
            }
            self.run(&db, &file, trouble, &mut played).await;
            if self.dice.chance(10) {
                Arc::into_inner(db).unwrap().close().await.unwrap();
                db = Arc::new(Db::open(&self.config.destination).await.unwrap());
            }
        }
        // Left alone, it comes to its end: at the first try, unless what it goes on with leads nowhere.
        let first = self.run(&db, &file, Trouble::default(), &mut played).await;
        let second = self.run(&db, &file, Trouble::default(), &mut played).await;
        assert_eq!(second, Outcome::Complete, "the first was {first:?}");
        let before = rows(&file);
        let is_incremental = self.shape.incremental.as_ref().is_some_and(|options| options.missing != Some(true));
        if is_incremental && self.dice.chance(30) {
            self.run(&db, &file, Trouble::default(), &mut played).await;
            assert_eq!(rows(&file), before, "nothing was new");
        }
        let checked: String = file.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(checked, "ok");
        Arc::into_inner(db).unwrap().close().await.unwrap();
        played
    }

    /// Records change between two runs.
    fn change(&mut self) {
        let mut state = self.api.state();
        for part in 0..self.shape.partitions {
            for _ in 0..self.dice.below(9) {
                state.change(part);
            }
        }
        for (part, records) in state.parts.iter().enumerate() {
            self.model.notice(part, &records.records);
        }
    }

    fn trouble(&mut self, drifts: bool) -> Trouble {
        let dice = &mut self.dice;
        let partitions = self.shape.partitions as u64;
        let mut trouble = Trouble { expires: dice.chance(12), ..Trouble::default() };
        let at = dice.below(6 * partitions) as usize;
        match dice.below(5) {
            0 => {
                trouble.fails_from = Some(at);
                trouble.fails_part = dice.chance(50).then(|| dice.below(partitions) as usize);
            }
            1 => trouble.stops_at = Some(at),
            _ => {}
        }
        if drifts {
            trouble.drifts = (0..1 + dice.below(3)).map(|_| dice.below(4 * partitions) as usize).collect();
        }
        trouble
    }

    async fn run(&mut self, db: &Arc<Db>, file: &Connection, trouble: Trouble, played: &mut Played) -> Outcome {
        let stop = CancellationToken::new();
        {
            let mut state = self.api.state();
            state.log.clear();
            (state.trouble, state.stop) = (trouble.clone(), stop.clone());
        }
        let now = || Timestamp::now().as_millisecond();
        let before = now();
        let ids = plan::select(&self.config, &[]).unwrap();
        let mut budgets = plan::Clients::default();
        let plan = plan::plan(&self.config, &ids, db, &mut budgets).await.unwrap();
        let mut report = sync::sync(&plan, Arc::clone(db), &stop).await;
        budgets.close().await.unwrap();
        drop((plan, budgets));
        assert!(report.db_error.is_none(), "{report:?}");
        let report = report.resources.remove(0);
        let mut state = self.api.state();
        state.trouble = Trouble::default();
        let is_complete = report.outcome == Outcome::Complete;
        let ran = Ran { is_complete, clock: (before, now()), ..ran(file) };
        if self.tells {
            println!("{trouble:?}\n{:?} {:?} {:?}", report.outcome, report.error, report.started_over);
            state.log.iter().for_each(|asked| println!("  {asked}"));
            println!("{ran:?}\n{:?}\n", rows(file));
        }
        self.model.ran(&ran, &state.log);
        for (part, records) in state.parts.iter().enumerate() {
            self.model.notice(part, &records.records);
        }
        self.model.check_rows(rows(file));
        self.check_cursors(file);
        check_books(file);
        let versions: BTreeSet<(usize, u64)> = state.log.iter().map(|asked| (asked.part, asked.version)).collect();
        let parts: BTreeSet<usize> = state.log.iter().map(|asked| asked.part).collect();
        let has_drifted = versions.len() > parts.len();
        let is_excused = trouble.fails_from.is_some() || trouble.expires || report.resumed_at.is_some() || has_drifted;
        assert!(report.outcome != Outcome::Failed || is_excused, "{report:?}");
        assert!(report.outcome != Outcome::Incomplete || stop.is_cancelled(), "{report:?}");
        played.runs += 1;
        played.complete += u64::from(is_complete);
        played.failed += u64::from(report.outcome == Outcome::Failed);
        played.requests += state.log.len() as u64;
        played.resumed += u64::from(report.resumed_at.is_some());
        played.started_over += u64::from(report.started_over.is_some());
        played.rows += report.counts.inserted + report.counts.updated;
        played.filtered += report.counts.filtered;
        played.drifted += u64::from(has_drifted);
        report.outcome
    }

    /// The cursors are where the model has them: neither behind, nor ahead of what is stored.
    fn check_cursors(&self, file: &Connection) {
        let Some(incremental) = &self.shape.incremental else { return };
        let mut statement = file.prepare_cached("SELECT partition, cursor FROM _hw_checkpoints").unwrap();
        let stored = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?)));
        let mut cursors = vec![None; self.shape.partitions];
        for stored in stored.unwrap() {
            let (partition, cursor) = stored.unwrap();
            cursors[part_of(&partition)] = cursor.map(|cursor| incremental.format.read(cursor.trim_matches('"')));
        }
        assert_eq!(cursors, self.model.cursors(), "the cursors in the file, and those of the model");
    }
}

fn part_of(partition: &str) -> usize {
    if partition.is_empty() {
        return 0;
    }
    let values: serde_json::Value = serde_json::from_str(partition).unwrap();
    values["part"].as_u64().unwrap() as usize
}

/// What the books say of the last run: its pass, its pages, and the partitions that were given up.
fn ran(file: &Connection) -> Ran {
    let sql = "SELECT pass_id, run_id FROM _hw_runs ORDER BY run_id DESC LIMIT 1";
    let (pass, run): (i64, i64) =
        file.prepare_cached(sql).unwrap().query_row([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let mut ran = Ran { pass, ..Ran::default() };
    let sql = "SELECT partition, url, received FROM _hw_pages WHERE run_id = ?1 ORDER BY page_id";
    let mut statement = file.prepare_cached(sql).unwrap();
    let lines = statement.query_map([run], |row| Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?)));
    for line in lines.unwrap() {
        let (partition, url, received) = line.unwrap();
        ran.pages.entry(part_of(&partition)).or_default().push((url, received));
    }
    let mut statement = file.prepare_cached("SELECT partition FROM _hw_checkpoints WHERE state = 'abandoned'").unwrap();
    let abandoned = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
    ran.abandoned = abandoned.map(|partition| part_of(&partition.unwrap())).collect();
    ran
}

/// The rows of the table.
fn rows(file: &Connection) -> Vec<Row> {
    let is_there: bool =
        file.query_row("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 's_r')", [], |row| row.get(0)).unwrap();
    let has_columns = "SELECT EXISTS (SELECT 1 FROM pragma_table_info('s_r') WHERE name = 'revision')";
    if !is_there || !file.query_row(has_columns, [], |row| row.get::<_, bool>(0)).unwrap() {
        return Vec::new();
    }
    let has_cursor: bool = file
        .query_row("SELECT EXISTS (SELECT 1 FROM pragma_table_info('s_r') WHERE name = 'at')", [], |row| row.get(0))
        .unwrap();
    let at = if has_cursor { "CAST(\"at\" AS TEXT)" } else { "NULL" };
    let mut statement = file.prepare(&format!("SELECT id, revision, {at} FROM s_r")).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    let mut rows: Vec<Row> = rows.collect::<Result<_, _>>().unwrap();
    rows.sort();
    rows
}

/// Whether the runs are the sums of their pages, and every record of a page became something.
fn check_books(file: &Connection) {
    let sql = "SELECT count(*) FROM _hw_runs r WHERE
      (received, inserted, updated, unchanged, filtered, quarantined, pages) IS NOT (SELECT coalesce(sum(received), 0),
       coalesce(sum(inserted), 0), coalesce(sum(updated), 0), coalesce(sum(unchanged), 0), coalesce(sum(filtered), 0),
       coalesce(sum(quarantined), 0), count(*) FROM _hw_pages p WHERE p.run_id = r.run_id)
      OR received <> inserted + updated + unchanged + filtered + quarantined OR outcome = 'running'";
    let unbalanced: i64 = file.prepare_cached(sql).unwrap().query_row([], |row| row.get(0)).unwrap();
    assert_eq!(unbalanced, 0, "runs and their pages disagree");
}
