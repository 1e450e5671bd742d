//! Promises 1, 4 to 6 and 10: what is visible of a read while it runs, and what a complete one leaves in the table,
//! for each write disposition.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::pages::{DOWN, Pages, gate, items, page_of, until};
use crate::support::{Api, Workspace, finish, json, numbered};

const MERGE: &str = "primary_key = \"id\"";
const REPLACE: &str = "write_disposition = \"replace\"";

/// A second connection that may write, as a user's own tool would.
fn user(workspace: &Workspace) -> Connection {
    Connection::open(workspace.path("highwater.db")).unwrap()
}

fn counts(report: &Value) -> &Value {
    &report["resources"][0]["records"]
}

#[test]
fn a_merged_table_has_one_row_for_each_key() {
    let api = Api::start(numbered(250, 100));
    let workspace = Workspace::with_config(api.address, &items("primary_key = \"id\"\ndata_selector = \"data\""));
    let report = workspace.sync(0);
    assert_eq!(counts(&report)["inserted"], 250);
    let again = workspace.sync(0);
    assert_eq!(counts(&again)["unchanged"], 250);
    assert_eq!(workspace.value::<i64>("SELECT count(*) FROM shop_items"), 250);
    workspace.check_books();
}

#[test]
fn a_changed_record_replaces_its_row_and_nothing_else_is_written() {
    let pages = Pages::new(&[json!([{"id": 1, "n": 0}, {"id": 2, "n": 7}])]);
    let api = Api::start(pages.api());
    let workspace = Workspace::with_config(api.address, &items(MERGE));
    workspace.sync(0);
    pages.set(&[json!([{"id": 1, "n": 1}, {"id": 2, "n": 7}])]);
    let report = workspace.sync(0);
    assert_eq!(counts(&report)["updated"], 1);
    assert_eq!(counts(&report)["unchanged"], 1);
    let rows: Vec<String> = workspace.column("SELECT id || ':' || n || ':' || _page_id FROM shop_items ORDER BY id");
    // The first sync had two pages: the records, and the empty one that ended it.
    assert_eq!(rows, ["1:1:3", "2:7:1"]);
}

#[test]
fn s10_a_key_that_comes_again_is_one_row_with_the_last_version() {
    let cases = [
        ("on two pages", "\"id\"", vec![r#"[{"id":1,"v":"a"},{"id":2,"v":"a"}]"#, r#"[{"id":2,"v":"b"}]"#], "1:a 2:b"),
        ("twice on a page", "\"id\"", vec![r#"[{"id":1,"v":"a"},{"id":1,"v":"b"},{"id":1,"v":"c"}]"#], "1:c"),
        (
            "of two parts",
            r#"["id", "n"]"#,
            vec![r#"[{"id":1,"n":"x","v":"a"},{"id":1,"n":"y","v":"a"}]"#, r#"[{"n":"x","v":"b","id":1}]"#],
            "1:b 1:a",
        ),
        (
            "as text",
            "\"id\"",
            vec![r#"[{"id":"a","v":1},{"id":"A","v":2},{"id":"a ","v":3},{"id":"a","v":4}]"#],
            "A:2 a:4 a :3",
        ),
        ("as decimal", "\"id\"", vec![r#"[{"id":1.5,"v":1},{"id":2.25,"v":2},{"id":1.50,"v":3}]"#], "1.5:3 2.25:2"),
        (
            "beyond 64 bits",
            "\"id\"",
            vec![
                r#"[{"id":18446744073709551615,"v":1},{"id":18446744073709551614,"v":2}]"#,
                r#"[{"id":18446744073709551615,"v":3}]"#,
            ],
            "18446744073709551614:2 18446744073709551615:3",
        ),
        (
            "around 64 bits",
            "\"id\"",
            vec![
                r#"[{"id":7,"v":1},{"id":18446744073709551614,"v":2}]"#,
                r#"[{"id":7,"v":3},{"id":9223372036854775807,"v":4}]"#,
            ],
            "18446744073709551614:2 7:3 9223372036854775807:4",
        ),
        ("as nothing but a key", "\"id\"", vec![r#"[{"id":1},{"id":2}]"#, r#"[{"id":2},{"id":3,"v":null}]"#], "1 2 3"),
    ];
    for (name, key, texts, expected) in cases {
        let api = Api::start(Pages::new(&texts).api());
        let workspace = Workspace::with_config(api.address, &items(&format!("primary_key = {key}")));
        workspace.sync(0);
        let has_value = workspace.value::<bool>("SELECT count(*) FROM _hw_columns WHERE source_key = 'v'");
        let row = if has_value { "id || ':' || v" } else { "id" };
        let rows: Vec<String> = workspace.column(&format!("SELECT CAST({row} AS TEXT) FROM shop_items ORDER BY 1"));
        let mut expected: Vec<_> =
            expected.replace("a :3", "a_:3").split(' ').map(|row| row.replace('_', " ")).collect();
        expected.sort();
        assert_eq!(rows, expected, "a key {name}");
        workspace.check_books();
    }
}

#[test]
fn s12_a_field_that_vanishes_becomes_null_and_its_column_stays() {
    let pages = Pages::new(&[r#"[{"id":1,"a":"x","b":2},{"id":2,"a":"y","b":3}]"#]);
    let api = Api::start(pages.api());
    let workspace = Workspace::with_config(api.address, &items(MERGE));
    workspace.sync(0);
    pages.set(&[r#"[{"id":1,"b":2},{"id":2,"a":null}]"#]);
    let report = workspace.sync(0);
    assert_eq!(counts(&report)["updated"], 2);
    let rows: Vec<String> = workspace.column("SELECT id || quote(a) || quote(b) FROM shop_items ORDER BY id");
    assert_eq!(rows, ["1NULL2", "2NULLNULL"]);
}

#[test]
fn an_appended_page_is_there_once_and_a_second_complete_sync_appends_it_again() {
    let pages = Pages::new(&[r#"[{"n":1},{"n":1}]"#, r#"[{"n":2}]"#]);
    let api = Api::start(pages.api());
    let workspace = Workspace::with_config(api.address, &items(""));
    workspace.sync(0);
    assert_eq!(workspace.column::<i64>("SELECT n FROM shop_items ORDER BY rowid"), [1, 1, 2]);
    pages.set(&[r#"[{"n":3}]"#]);
    workspace.sync(0);
    assert_eq!(workspace.column::<i64>("SELECT n FROM shop_items ORDER BY rowid"), [1, 1, 2, 3]);
    workspace.check_books();
}

#[test]
fn ids_never_come_again_when_a_user_deletes_from_the_history() {
    let pages = Pages::new(&[r#"[{"n":1}]"#, r#"[{"n":2}]"#]);
    let api = Api::start(pages.api());
    let workspace = Workspace::with_config(api.address, &items(""));
    workspace.sync(0);
    user(&workspace).execute_batch("DELETE FROM _hw_pages; DELETE FROM _hw_runs").unwrap();
    pages.set(&[r#"[{"n":3}]"#, DOWN]);
    workspace.sync(69);
    assert_eq!(workspace.value::<i64>("SELECT run_id FROM _hw_runs"), 2);
    // The next read takes back what the failed one left, and nothing else.
    user(&workspace).execute_batch("UPDATE _hw_checkpoints SET state = 'abandoned'").unwrap();
    pages.set(&[r#"[{"n":4}]"#]);
    workspace.sync(0);
    assert_eq!(workspace.column::<i64>("SELECT n FROM shop_items ORDER BY rowid"), [1, 2, 4]);
    let plan: Vec<String> = user(&workspace)
        .prepare(
            "EXPLAIN QUERY PLAN DELETE FROM shop_items
             WHERE _page_id IN (SELECT page_id FROM _hw_pages WHERE read_id = 2)",
        )
        .unwrap()
        .query_map([], |row| row.get(3))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert!(plan[0] == "SCAN shop_items" && plan[1].starts_with("LIST SUBQUERY"), "one list, one scan: {plan:?}");
    workspace.check_books();
}

#[test]
fn append_keeps_every_version_of_a_record_that_has_a_key() {
    let pages = Pages::new(&[r#"[{"id":1,"v":"a"},{"id":1,"v":"b"}]"#, r#"[{"id":null,"v":"c"}]"#]);
    let api = Api::start(pages.api());
    let workspace = Workspace::with_config(api.address, &items(&format!("{MERGE}\nwrite_disposition = \"append\"")));
    workspace.sync(0);
    workspace.sync(0);
    assert_eq!(workspace.column::<String>("SELECT v FROM shop_items ORDER BY rowid"), ["a", "b", "a", "b"]);
    assert_eq!(workspace.column::<String>("SELECT reason FROM _hw_quarantine"), ["key_missing"; 2]);
}

#[test]
fn records_without_any_value_are_rows_too() {
    let pages = Pages::new(&[r#"[{},{"a":null}]"#]);
    let api = Api::start(pages.api());
    let workspace = Workspace::with_config(api.address, &items(""));
    workspace.sync(0);
    pages.set(&[r#"[{"a":1}]"#]);
    workspace.sync(0);
    assert_eq!(workspace.column::<Option<i64>>("SELECT a FROM shop_items ORDER BY rowid"), [None, None, Some(1)]);
}

#[test]
fn replaced_rows_stay_visible_until_the_new_generation_is_complete() {
    let pages = Pages::new(&[r#"[{"n":1},{"n":2}]"#]);
    let (gate, barrier) = gate();
    let second = Arc::new(AtomicBool::new(false));
    let api = Api::start({
        let (pages, second) = (pages.clone(), Arc::clone(&second));
        move |request, _| {
            if second.load(Ordering::SeqCst) && page_of(request) == 3 {
                barrier.wait();
            }
            pages.answer(request)
        }
    });
    let workspace = Workspace::with_config(api.address, &items(REPLACE));
    workspace.sync(0);
    pages.set(&[r#"[{"n":3}]"#, r#"[{"n":4}]"#]);
    second.store(true, Ordering::SeqCst);
    let child = workspace.spawn(&["sync", "--json"]);
    until("two pages of the new generation are stored", || {
        workspace.value::<i64>("SELECT count(*) FROM _hw_pages") == 4
    });
    assert_eq!(workspace.column::<i64>("SELECT n FROM shop_items ORDER BY n"), [1, 2]);
    gate.let_one_go();
    assert_eq!(finish(child).code, Some(0));
    assert_eq!(workspace.column::<i64>("SELECT n FROM shop_items ORDER BY n"), [3, 4]);
    assert_eq!(
        workspace.value::<i64>("SELECT count(*) FROM sqlite_schema WHERE name LIKE '\\_hw\\_next%' ESCAPE '\\'"),
        0
    );
    workspace.check_books();
}

#[test]
fn a_failed_read_leaves_the_replaced_rows_and_the_next_one_takes_their_place() {
    let pages = Pages::new(&[r#"[{"n":1}]"#]);
    let api = Api::start(pages.api());
    let workspace = Workspace::with_config(api.address, &items(REPLACE));
    workspace.sync(0);
    pages.set(&[r#"[{"n":2}]"#, DOWN]);
    workspace.sync(69);
    assert_eq!(workspace.column::<i64>("SELECT n FROM shop_items"), [1]);
    pages.set(&[r#"[{"n":2}]"#, r#"[{"n":3}]"#]);
    let report = workspace.sync(0);
    assert_eq!(report["resources"][0]["resumed_at"], "page 2");
    assert_eq!(workspace.column::<i64>("SELECT n FROM shop_items ORDER BY n"), [2, 3]);
    pages.set::<&str>(&[]);
    workspace.sync(0);
    assert_eq!(workspace.value::<i64>("SELECT count(*) FROM shop_items"), 0, "an empty generation is one, too");
    pages.set(&[r#"[{"n":4}]"#]);
    workspace.sync(0);
    assert_eq!(workspace.column::<i64>("SELECT n FROM shop_items"), [4]);
    workspace.check_books();
}

#[test]
fn a_replaced_table_keeps_one_row_per_key_its_columns_and_their_types() {
    let pages = Pages::new(&[r#"[{"id":1,"a":"x","gone":true},{"id":2,"a":"y"},{"id":1,"a":"z"}]"#]);
    let api = Api::start(pages.api());
    let workspace = Workspace::with_config(api.address, &items(&format!("{MERGE}\n{REPLACE}")));
    workspace.sync(0);
    pages.set(&[r#"[{"id":2,"a":"w","new":1.5}]"#]);
    workspace.sync(0);
    let declared: Vec<String> = workspace.column("SELECT name || ' ' || type FROM pragma_table_info('shop_items')");
    assert_eq!(declared, ["id INTEGER", "_page_id INTEGER", "a TEXT", "gone BOOLEAN", "new REAL"]);
    assert_eq!(workspace.column::<String>("SELECT id || ':' || a || ':' || new FROM shop_items"), ["2:w:1.5"]);
    let listed: Vec<String> = workspace.column("SELECT \"table\" || '.' || \"column\" FROM _hw_columns ORDER BY rowid");
    assert_eq!(listed, ["shop_items.id", "shop_items.a", "shop_items.gone", "shop_items.new"]);
}

#[test]
fn what_users_made_on_a_replaced_table_survives_the_swap() {
    let pages = Pages::new(&[r#"[{"id":1,"name":"a"}]"#]);
    let api = Api::start(pages.api());
    let workspace = Workspace::with_config(api.address, &items(&format!("{MERGE}\n{REPLACE}")));
    workspace.sync(0);
    user(&workspace)
        .execute_batch(
            "CREATE INDEX by_name ON shop_items (name);
             CREATE UNIQUE INDEX \"odd \"\" name\" ON SHOP_ITEMS (name COLLATE NOCASE) WHERE id > 0;
             CREATE INDEX sloppy ON shop_items (name) WHERE name <> \"none\";
             CREATE TABLE log (id INTEGER);
             CREATE TRIGGER on_new AFTER INSERT ON shop_items BEGIN INSERT INTO log VALUES (new.id); END;
             CREATE VIEW names AS SELECT name FROM shop_items;
             CREATE TRIGGER on_log AFTER INSERT ON log BEGIN UPDATE log SET id = id + (SELECT count(*) FROM shop_items) * 0; END;
             CREATE TABLE notes (item INTEGER REFERENCES shop_items (id) ON DELETE CASCADE, note TEXT);
             INSERT INTO notes VALUES (1, 'mine');",
        )
        .unwrap();
    let schema = "SELECT group_concat(sql, char(10)) FROM (SELECT sql FROM sqlite_schema WHERE name NOT LIKE '\\_hw%'
                  ESCAPE '\\' AND name <> 'shop_items' AND sql IS NOT NULL ORDER BY name)";
    let before: String = workspace.value(schema);
    pages.set(&[r#"[{"id":1,"name":"b"},{"id":2,"name":"c"}]"#]);
    workspace.sync(0);
    assert_eq!(workspace.value::<String>(schema), before);
    assert_eq!(workspace.column::<String>("SELECT name FROM names ORDER BY name"), ["b", "c"]);
    assert_eq!(workspace.column::<String>("SELECT note FROM notes"), ["mine"]);
    user(&workspace).execute("INSERT INTO shop_items (id, _page_id, name) VALUES (3, 0, 'd')", []).unwrap();
    assert_eq!(workspace.column::<i64>("SELECT id FROM log"), [3], "the trigger works on the new generation");
    let plan: String = user(&workspace)
        .query_row("EXPLAIN QUERY PLAN SELECT id FROM shop_items WHERE name = 'b'", [], |row| row.get(3))
        .unwrap();
    assert!(plan.contains("by_name"), "{plan}");
}

#[test]
fn a_generation_that_a_users_index_refuses_fails_its_own_resource_only() {
    let pages = Pages::new(&[r#"[{"name":"a"}]"#]);
    let api = Api::start(pages.api());
    let config = items(REPLACE) + "[sources.shop.resources.others]\nprimary_key = \"name\"\n";
    let workspace = Workspace::with_config(api.address, &config);
    workspace.sync(0);
    user(&workspace).execute_batch("CREATE UNIQUE INDEX one_each ON shop_items (name)").unwrap();
    pages.set(&[r#"[{"name":"b"},{"name":"b"}]"#]);
    let report = workspace.sync(65);
    assert_eq!(report["database_error"], Value::Null);
    assert_eq!(report["resources"][0]["outcome"], "failed");
    assert_eq!(report["resources"][1]["outcome"], "complete");
    assert_eq!(workspace.column::<String>("SELECT name FROM shop_items"), ["a"]);
    assert_eq!(workspace.column::<String>("SELECT name FROM shop_others ORDER BY name"), ["a", "b"]);
    pages.set(&[r#"[{"name":"c"}]"#]);
    workspace.sync(0);
    assert_eq!(workspace.column::<String>("SELECT name FROM shop_items"), ["c"]);
    workspace.check_books();
}

#[test]
fn an_index_on_a_column_that_a_user_added_fails_the_swap_of_its_own_resource_only() {
    let pages = Pages::new(&[r#"[{"name":"a"}]"#]);
    let api = Api::start(pages.api());
    let config = items(REPLACE) + "[sources.shop.resources.others]\nprimary_key = \"name\"\n";
    for column in ["mine", "\"mine\""] {
        let workspace = Workspace::with_config(api.address, &config);
        workspace.sync(0);
        user(&workspace)
            .execute_batch(&format!(
                "ALTER TABLE shop_items ADD COLUMN mine TEXT; CREATE INDEX by_mine ON shop_items (name, {column})"
            ))
            .unwrap();
        let report = workspace.sync(65);
        assert_eq!(report["database_error"], Value::Null);
        assert_eq!(report["resources"][1]["outcome"], "complete");
        let run: (String, String, bool) = workspace
            .db()
            .query_row(
                "SELECT outcome, error, ended_at IS NOT NULL FROM _hw_runs WHERE resource = 'items' ORDER BY run_id DESC",
                [],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )
            .unwrap();
        assert!(run.0 == "failed" && run.1.contains("\"by_mine\" is on column \"mine\"") && run.2, "{run:?}");
        user(&workspace).execute_batch("DROP INDEX by_mine").unwrap();
        workspace.sync(0);
        workspace.check_books();
    }
}

#[test]
fn a_trigger_that_keeps_the_rows_of_an_unfinished_read_fails_its_own_resource_only() {
    let pages = Pages::new(&[r#"[{"name":"a"}]"#, "no page"]);
    let api = Api::start(pages.api());
    let workspace = Workspace::with_config(api.address, &items(""));
    workspace.sync(69);
    let db = user(&workspace);
    db.execute_batch("UPDATE _hw_checkpoints SET updated_at = '2020-01-01T00:00:00.000Z'").unwrap();
    db.execute_batch("CREATE TRIGGER keep BEFORE DELETE ON shop_items BEGIN SELECT RAISE(ABORT, 'mine now'); END")
        .unwrap();
    pages.set(&[r#"[{"name":"b"}]"#]);
    workspace.configure(api.address, &(items("") + "[sources.shop.resources.others]\nprimary_key = \"name\"\n"));
    let report = workspace.sync(65);
    assert_eq!(report["database_error"], Value::Null);
    assert!(report["resources"][0]["error"].as_str().unwrap().contains("mine now"), "{report:#}");
    assert_eq!(report["resources"][1]["outcome"], "complete");
    user(&workspace).execute_batch("DROP TRIGGER keep").unwrap();
    workspace.sync(0);
    assert_eq!(workspace.column::<String>("SELECT name FROM shop_items"), ["b"]);
}

/// What one look at the file shows: pages, their records, rows, the next position, and the counts of the run.
fn look(db: &mut Connection) -> (i64, i64, i64, Option<String>, i64) {
    let snapshot = db.transaction_with_behavior(rusqlite::TransactionBehavior::Deferred).unwrap();
    // The first read fixes what this transaction sees.
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'shop_items')";
    let exists: bool = snapshot.query_row(sql, [], |row| row.get(0)).unwrap();
    let rows = if exists { "(SELECT count(*) FROM shop_items)" } else { "0" };
    snapshot
        .query_row(
            &format!(
                "SELECT count(*), coalesce(sum(inserted), 0), {rows},
                   (SELECT position FROM _hw_checkpoints), coalesce((SELECT inserted FROM _hw_runs), 0) FROM _hw_pages"
            ),
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)),
        )
        .unwrap()
}

#[test]
fn rows_ledger_and_checkpoint_are_visible_together_at_every_commit() {
    const PAGES: i64 = 12;
    let (gate, barrier) = gate();
    let served = numbered(7 * PAGES as u64, 7);
    let api = Api::start(move |request, number| {
        barrier.wait();
        served(request, number)
    });
    let workspace = Workspace::with_config(api.address, &items("data_selector = \"data\""));
    let mut child = workspace.spawn(&["sync", "--json"]);
    api.wait_for(1);
    let mut db = workspace.db();
    for page in 1..=PAGES {
        gate.let_one_go();
        until("the page is stored", || {
            let (pages, inserted, rows, position, of_run) = look(&mut db);
            assert!(pages == page - 1 || pages == page, "page {page}, but {pages} are stored");
            assert_eq!((inserted, rows, of_run), (7 * pages, 7 * pages, 7 * pages), "page {page}");
            let expected = (pages > 0).then(|| format!(r#"{{"at":"page","page":{}}}"#, pages + 1));
            assert_eq!(position, expected, "page {page}");
            pages == page
        });
        assert_eq!(child.try_wait().unwrap(), None);
    }
    gate.let_one_go();
    assert_eq!(finish(child).code, Some(0));
    let (pages, _, rows, position, _) = look(&mut db);
    assert_eq!((pages, rows, position), (PAGES + 1, 7 * PAGES, None));
    workspace.check_books();
}

#[test]
fn pages_are_stored_in_the_order_of_the_api_also_when_they_come_in_another() {
    let (gate, barrier) = gate();
    let gate = Mutex::new(Some(gate));
    let answered: Arc<Mutex<Vec<usize>>> = Arc::default();
    let api = Api::start({
        let answered = Arc::clone(&answered);
        move |request, _| {
            let page = page_of(request);
            if page == 2 {
                barrier.wait();
            }
            let mut answered = answered.lock().unwrap();
            answered.push(page);
            if answered.len() == 4 {
                gate.lock().unwrap().take();
            }
            json(json!({"data": [{"page": page}], "pages": 6}))
        }
    });
    let keys =
        "data_selector = \"data\"\nconcurrency = 4\npaginator = { type = \"page_number\", total_path = \"pages\" }";
    let workspace = Workspace::with_config(api.address, &items(keys));
    workspace.sync(0);
    assert_eq!(workspace.column::<i64>("SELECT page FROM shop_items ORDER BY rowid"), [1, 2, 3, 4, 5, 6]);
    let positions: Vec<i64> = workspace.column("SELECT position ->> 'page' FROM _hw_pages ORDER BY page_id");
    assert_eq!(positions, [1, 2, 3, 4, 5, 6]);
    assert_eq!(answered.lock().unwrap()[4], 2, "page 2 came after pages 3 to 5");
}
