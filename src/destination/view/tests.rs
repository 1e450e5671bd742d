//! What a look at the file finds, beside a connection that writes.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use rusqlite::Connection;
use serde_json::{Value, json};

use super::{Tally, View, runs};
use crate::destination::{Db, DbError, DestinationOptions};
use crate::page::ResourceId;

/// A file as this version makes it, with what `sql` adds to it.
async fn file(sql: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    Db::open(&options(&path)).await.unwrap().close().await.unwrap();
    Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    (folder, path)
}

fn options(path: &std::path::Path) -> DestinationOptions {
    DestinationOptions { path: path.to_owned(), ..Default::default() }
}

const RESOURCES: &str = "
INSERT INTO _hw_resources (source, resource, \"table\", first_seen_at, rows, pass_id, pass_state)
  VALUES ('s', 'a', 's_a', '', 7, 3, 'open'), ('s', 'b', 's_b', '', 0, NULL, NULL);
INSERT INTO _hw_runs (run_id, kind, source, resource, pass_id, started_at, ended_at, outcome, error, received, inserted)
  VALUES (1, 'sync', 's', 'a', 1, '2024-01-01T00:00:00.000Z', '2024-01-01T00:01:00.000Z', 'complete', NULL, 9, 9),
    (2, 'backfill', 's', 'a', 2, '2024-01-02T00:00:00.000Z', '2024-01-02T00:01:00.000Z', 'complete', NULL, 0, 0),
    (3, 'scheduled', 's', 'a', 3, '2024-01-03T00:00:00.000Z', '2024-01-03T00:01:00.000Z', 'failed', 'HTTP 500', 0, 0),
    (4, 'scheduled', 's', 'a', 3, '2024-01-04T00:00:00.000Z', '2024-01-04T00:01:00.000Z', 'failed', 'HTTP 500', 0, 0);
INSERT INTO _hw_checkpoints (source, resource, partition, state, cursor, queued, pass_id, run_id, error, updated_at)
  VALUES ('s', 'a', '{\"p\":1}', 'complete', '9', 1, 3, 4, NULL, ''), ('s', 'a', '{\"p\":2}', 'reading', '10', 2, 3, 4, 'HTTP 500', ''),
    ('s', 'a', '{\"_from\":0}', 'reading', '1', 3, 2, 2, NULL, '');
INSERT INTO _hw_paused VALUES ('s', 'a', '2024-01-05T00:00:00.000Z');
INSERT INTO _hw_pages (page_id, run_id, read_id, source, resource, partition, position, url, status, fetched_at,
    duration_ms, bytes, attempts, received, inserted, updated, unchanged, filtered, quarantined)
  VALUES (5, 4, 1, 's', 'a', '', '1', 'http://api/a', 200, '2024-01-04T00:00:30.000Z', 3, 4, 1, 0, 0, 0, 0, 0, 0),
    (6, 4, 1, 's', 'a', '', '2', 'http://api/a?2', 200, '2024-01-04T00:00:31.000Z', 3, 4, 1, 0, 0, 0, 0, 0, 0);
INSERT INTO _hw_quarantine (page_id, source, resource, reason, record)
  VALUES (5, 's', 'a', 'no key', '{}'), (6, 's', 'b', 'no key', '[]'), (6, 's', 'a', 'too long', printf('%.9000c', 'x'));
";

#[tokio::test]
async fn a_file_that_cannot_be_looked_at_is_named_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing/x.db");
    assert!(matches!(View::open(&missing).await, Err(DbError::NotThere(path)) if path == missing));
    assert!(!folder.path().join("missing").exists());
    let empty = folder.path().join("empty.db");
    std::fs::write(&empty, "").unwrap();
    assert!(matches!(View::open(&empty).await, Err(DbError::NotThere(_))));
    let other = folder.path().join("other.db");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    assert!(matches!(View::open(&other).await, Err(DbError::NotOurs { .. })));
    let (_folder, old) = file("DROP INDEX _hw_quarantine_left").await;
    assert!(matches!(View::open(&old).await, Err(DbError::Older(_))));
    let (_folder, newer) = file("UPDATE _hw_meta SET value = 99 WHERE key = 'schema_version'").await;
    assert!(matches!(View::open(&newer).await, Err(DbError::Newer { found: 99, .. })));
}

#[tokio::test]
async fn a_look_finds_everything_while_another_connection_is_in_the_middle_of_writing() {
    let (_folder, path) = file(RESOURCES).await;
    let writing = Connection::open(&path).unwrap();
    writing.execute_batch("BEGIN IMMEDIATE; UPDATE _hw_resources SET rows = 8; DELETE FROM _hw_runs").unwrap();
    let view = View::open(&path).await.unwrap();
    let resources = view.resources().await.unwrap();
    let found = json!(resources);
    let (a, b) = (&found[0], &found[1]);
    assert_eq!((&a["rows"], &a["failures"], &a["quarantined"]), (&json!(7), &json!(2), &json!(2)));
    assert_eq!(a["last_run"]["run_id"], 4);
    assert_eq!(a["last_success_at"], "2024-01-01T00:01:00Z", "a backfill is no news");
    assert_eq!(a["cursor"], json!({"lowest": 9, "highest": 10}), "a backfill has a cursor of its own");
    assert_eq!(a["pass"], json!({"done": 1, "total": 2, "is_counted": true}));
    assert_eq!(a["paused_at"], "2024-01-05T00:00:00Z");
    for key in ["last_run", "last_read", "last_success_at", "cursor", "pass", "paused_at"] {
        assert_eq!(b[key], Value::Null, "{key}");
    }
    let (a, b) = (resources[0].id(), resources[1].id());
    let ids = |runs: Vec<super::RunView>| runs.iter().map(|run| run.run_id).collect::<Vec<_>>();
    assert_eq!(ids(view.runs(None, None, 2).await.unwrap()), [4, 3]);
    assert_eq!(ids(view.runs(Some(&a), Some(3), 9).await.unwrap()), [2, 1]);
    assert!(view.runs(Some(&b), None, 9).await.unwrap().is_empty());
    let overview = view.overview(2, 1, &Arc::default()).await.unwrap();
    let recent = |of: &Arc<super::ResourceOverview>| of.recent.iter().map(|run| run.run_id).collect();
    let recent: Vec<Vec<i64>> = overview.resources.iter().map(recent).collect();
    assert_eq!(recent, [vec![3, 4], vec![]]);
    let run = view.run(4).await.unwrap().unwrap();
    assert_eq!(run.pages.iter().map(|page| page.page_id).collect::<Vec<_>>(), [6, 5]);
    assert_eq!(json!(run.failed_partitions), json!([{"partition": "{\"p\":2}", "error": "HTTP 500"}]));
    assert!(view.run(99).await.unwrap().is_none());
    let errors = view.errors(9).await.unwrap();
    assert_eq!((errors.len(), errors[0].count, errors[0].last_run_id), (1, 2, 4));
    assert!(errors[0].first_at < errors[0].last_at);
    assert_eq!(view.pasts(vec![a.clone()]).await.unwrap()[&a].failures, 2);
}

#[tokio::test]
async fn a_look_that_goes_on_from_the_one_before_sees_what_a_new_one_sees() {
    let (_folder, path) = file(RESOURCES).await;
    let writing = Connection::open(&path).unwrap();
    let minute = Timestamp::now().as_second() / 60;
    let view = View::open(&path).await.unwrap();
    let mut before: Arc<super::Overview> = Arc::default();
    for change in [
        "",
        "UPDATE _hw_resources SET pass_state = 'complete' WHERE resource = 'a'",
        "",
        "INSERT INTO _hw_paused VALUES ('s', 'b', '2024-01-05T00:00:00.000Z')",
        "INSERT INTO _hw_runs (kind, source, resource, pass_id, started_at, outcome)
           VALUES ('sync', 's', 'b', 5, '2024-01-06T00:00:00.000Z', 'running')",
        "UPDATE _hw_runs SET received = 3, inserted = 3 WHERE run_id = 5;
         UPDATE _hw_resources SET rows = 3 WHERE resource = 'b'; INSERT INTO _hw_minutes VALUES ('s', 'b', MINUTE, 3)",
        "UPDATE _hw_runs SET outcome = 'complete', ended_at = '2024-01-06T00:01:00.000Z' WHERE run_id = 5;
         INSERT INTO _hw_quarantine (page_id, source, resource, reason, record) VALUES (9, 's', 'b', '', '')",
        "UPDATE _hw_runs SET requests = 7 WHERE run_id = 5",
        "INSERT INTO _hw_runs (kind, source, resource, pass_id, started_at, outcome)
           VALUES ('sync', 's', 'a', 6, '2024-01-07T00:00:00.000Z', 'failed')",
        "DELETE FROM _hw_runs WHERE run_id = 6",
        "DELETE FROM _hw_resources WHERE resource = 'a'",
    ] {
        writing.execute_batch(&change.replace("MINUTE", &minute.to_string())).unwrap();
        let on = view.overview(2, 3, &before).await.unwrap();
        let new = view.overview(2, 3, &Arc::default()).await.unwrap();
        let shown = |overview: &super::Overview| -> Vec<_> {
            let of = |of: &Arc<super::ResourceOverview>| json!([of.view, of.recent, of.per_minute]);
            overview.resources.iter().map(of).collect()
        };
        // A minute may have passed between the two.
        assert!(shown(&on) == shown(&new) || Timestamp::now().as_second() / 60 > minute, "{change}");
        if change.is_empty() && !before.resources.is_empty() {
            assert!(Arc::ptr_eq(&on.resources[0], &before.resources[0]), "what has not changed is not looked for");
        }
        before = Arc::new(on);
    }
    let later = super::overview::later(&before.resources[0], 2).per_minute.clone();
    assert_eq!(later, [before.resources[0].per_minute[2], 0, 0]);
    assert_eq!(super::overview::later(&before.resources[0], 7).per_minute, [0; 3]);
}

#[tokio::test]
async fn records_that_were_set_aside_are_shown_page_by_page_with_where_they_came_from() {
    let (_folder, path) = file(RESOURCES).await;
    let view = View::open(&path).await.unwrap();
    let all = view.quarantine(None, None, 2).await.unwrap();
    assert_eq!(all.iter().map(|record| record.quarantine_id).collect::<Vec<_>>(), [3, 2]);
    assert!(!all[0].is_whole && all[0].record.len() < 9_000 && all[1].is_whole);
    assert_eq!(all[1].url.as_deref(), Some("http://api/a?2"));
    let next = view.quarantine(Some(&ResourceId::new("s", "a")), Some(3), 2).await.unwrap();
    assert_eq!(next.iter().map(|record| record.quarantine_id).collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn only_tables_of_resources_are_shown_with_their_newest_rows() {
    let rows = "WITH RECURSIVE n (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 30)
                INSERT INTO s_a SELECT id, 1, id / 30.0, 6 FROM n";
    let sql = format!(
        "{RESOURCES} CREATE TABLE s_a (rowid INTEGER, ok BOOLEAN, part REAL, _page_id INTEGER NOT NULL); {rows};
         CREATE TABLE s_a__list (_parent_id, _list_idx, name TEXT, _page_id); CREATE TABLE mine (a);
         INSERT INTO s_a__list VALUES (1, 0, printf('%.900c', 'x'), 404);
         INSERT INTO _hw_columns VALUES ('s_a', 'ok', 'ok', 'boolean', 5), ('s_a', 's_a__list', 'list', 'table', 5)"
    );
    let (_folder, path) = file(&sql).await;
    let view = View::open(&path).await.unwrap();
    for name in ["mine", "_hw_meta", "nothing", "s_a\"; DROP TABLE s_a; --"] {
        assert!(view.table(name).await.unwrap().is_none(), "{name}");
    }
    let table = view.table("s_a").await.unwrap().unwrap();
    assert_eq!((table.rows, table.newest.len(), &*table.child_tables), (Some(7), 20, &["s_a__list".to_owned()][..]));
    assert_eq!(json!(table.columns[1]), json!({"name": "ok", "source_key": "ok", "type": "boolean"}));
    assert_eq!(table.newest[0].values, [json!(30), json!(true), json!(1.0), json!(6)]);
    assert_eq!(table.newest[0].url.as_deref(), Some("http://api/a?2"));
    let list = view.table("s_a__list").await.unwrap().unwrap();
    assert_eq!((&*list.resource, list.rows, list.parent_table.as_deref()), ("a", None, Some("s_a")));
    assert!(list.newest[0].values[2].as_str().unwrap().ends_with("x…") && list.newest[0].url.is_none());
}

#[tokio::test]
async fn a_look_writes_nothing_and_lets_the_writer_do_its_work() {
    let (_folder, path) = file(RESOURCES).await;
    let db = Db::open(&options(&path)).await.unwrap();
    let view = View::open(&path).await.unwrap();
    let id = ResourceId::new("s", "b");
    for paused in [true, false] {
        if paused {
            db.pause(&id).await.unwrap()
        } else {
            db.resume(&id).await.unwrap()
        };
        assert_eq!(view.resources().await.unwrap()[1].paused_at.is_some(), paused);
    }
    let written = view.call("write", |connection| Ok(connection.execute_batch("DELETE FROM _hw_runs")?)).await;
    assert!(matches!(written, Err(DbError::ReadOnly(_))), "{written:?}");
    db.close().await.unwrap();
    assert_eq!(view.resources().await.unwrap().len(), 2, "without anybody who writes");
}

/// Three resources with so many runs together: every third failed, two pages and two records set aside for each.
fn history(runs: u32) -> String {
    format!(
        "INSERT INTO _hw_resources (source, resource, \"table\", first_seen_at)
           VALUES ('s', 'r0', 's_r0', ''), ('s', 'r1', 's_r1', ''), ('s', 'r2', 's_r2', '');
         CREATE TEMP TABLE n AS WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2 * {runs})
           SELECT i, 'r' || (i / 3 % 3) AS r FROM n;
         INSERT INTO _hw_runs (run_id, kind, source, resource, pass_id, started_at, ended_at, outcome, error)
           SELECT i, 'scheduled', 's', r, 1, '2024-01-01T00:00:00.000Z', '2024-01-01T00:00:00.000Z',
             iif(i % 3 = 1, 'failed', 'complete'), 'HTTP 500' FROM n WHERE i <= {runs};
         INSERT INTO _hw_pages (page_id, run_id, read_id, source, resource, partition, position, url, status, fetched_at,
             duration_ms, bytes, attempts, received, inserted, updated, unchanged, filtered, quarantined)
           SELECT i, (i + 1) / 2, 1, 's', r, '', '1', 'http://api/', 200, '', 3, 4, 1, 0, 0, 0, 0, 0, 0 FROM n;
         INSERT INTO _hw_quarantine (page_id, source, resource, reason, record) SELECT i, 's', r, 'no key', '{{}}' FROM n;
         CREATE TABLE s_r1 (id INTEGER PRIMARY KEY, _page_id INTEGER NOT NULL); INSERT INTO s_r1 SELECT i, i FROM n"
    )
}

/// The steps that SQLite takes for each question about such a file.
async fn steps(runs: u32) -> Vec<(&'static str, u64)> {
    let (_folder, path) = file(&history(runs)).await;
    let view = View::open(&path).await.unwrap();
    let (count, counted) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let counter = Arc::clone(&count);
    let step = move || {
        counter.fetch_add(1, Ordering::Relaxed);
        false
    };
    view.call("count steps", |connection| Ok(connection.progress_handler(1, Some(step))?)).await.unwrap();
    let took = || {
        let now = count.load(Ordering::Relaxed);
        now - counted.swap(now, Ordering::Relaxed)
    };
    let (id, middle) = (ResourceId::new("s", "r1"), Some(i64::from(runs / 2)));
    let mut steps = Vec::new();
    macro_rules! ask {
        ($($question:expr),* $(,)?) => {$(
            $question.await.unwrap();
            steps.push((stringify!($question), took()));
        )*};
    }
    ask![
        view.overview(30, 60, &Arc::default()),
        view.resources(),
        view.runs(None, None, 50),
        view.runs(Some(&id), middle, 50),
        view.run(i64::from(runs / 2)),
        view.table("s_r1"),
        view.quarantine(None, middle, 50),
        view.quarantine(Some(&id), middle, 50),
        view.errors(50),
        view.rows_per_minute(Some(&id), 60),
        view.pasts(vec![id.clone()]),
        view.tally(&Tally::since(Timestamp::now())),
    ];
    steps
}

#[tokio::test]
async fn no_question_costs_more_when_the_history_is_longer() {
    let (short, long) = (steps(4_000).await, steps(16_000).await);
    for ((question, short), (_, long)) in short.into_iter().zip(long) {
        assert!(short > 0 && long <= short + short / 10, "{question}: {short} steps, then {long}");
    }
}

#[tokio::test]
async fn the_last_runs_of_all_resources_are_read_from_an_index_alone() {
    let (_folder, path) = file("").await;
    let connection = Connection::open(path).unwrap();
    let sql = format!("EXPLAIN QUERY PLAN {}", runs::RECENT);
    let plan: String = connection.query_row(&sql, ("s", "r", 30), |row| row.get(3)).unwrap();
    assert!(plan.starts_with("SEARCH _hw_runs USING COVERING INDEX"), "{plan}");
}
