//! The file: whose it is, who may write it, what happens when it cannot be written, and what is left of it.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use rusqlite::Connection;
use rustix::process::{Flock, FlockType, fcntl_getlk};
use serde_json::{Value, json};

use crate::pages::{Pages, gate, items, until};
use crate::support::{Api, Finished, Workspace, binary, finish, records, respond};

const MERGE: &str = "primary_key = \"id\"";

fn three_pages() -> Pages {
    Pages::new(&[0, 1, 2].map(|page| Value::from(records(page * 10..page * 10 + 10))))
}

/// The database, and what SQLite keeps beside it.
fn bytes(workspace: &Workspace) -> [Option<Vec<u8>>; 2] {
    // A WAL without anything in it is as good as none.
    let read = |name| std::fs::read(workspace.path(name)).ok().filter(|bytes| !bytes.is_empty());
    ["highwater.db", "highwater.db-wal"].map(read)
}

fn sync(workspace: &Workspace) -> Finished {
    workspace.run(&["sync"])
}

#[test]
fn d12_d13_a_file_that_is_not_ours_is_refused_and_left_as_it_is() {
    type Make = fn(&Workspace);
    let cases: [(&str, Make, &str); 7] = [
        (
            "a text",
            |workspace| workspace.write("highwater.db", &"not a database\n".repeat(400)),
            "not a highwater database",
        ),
        ("a short text", |workspace| workspace.write("highwater.db", "a\n"), "not a highwater database"),
        (
            "of another program",
            |workspace| foreign(workspace, "CREATE TABLE users (id INTEGER)"),
            "not a highwater database",
        ),
        (
            "marked by another program",
            |workspace| foreign(workspace, "PRAGMA application_id = 7"),
            "not a highwater database",
        ),
        (
            "with tables called like ours",
            |workspace| foreign(workspace, "CREATE TABLE _hw_meta (a)"),
            "not a highwater database",
        ),
        ("of another program that died", other_with_wal, "not a highwater database"),
        ("of a newer version", newer, "newer highwater (schema 99"),
    ];
    let api = Api::start(three_pages().api());
    for (name, make, said) in cases {
        let workspace = Workspace::with_config(api.address, &items(MERGE));
        make(&workspace);
        let before = bytes(&workspace);
        let finished = sync(&workspace);
        assert_eq!(finished.code, Some(74), "{name}: {finished:#?}");
        assert!(finished.stderr.contains(said), "{name}: {finished:#?}");
        assert!(bytes(&workspace) == before, "{name}: the file has changed");
    }
    assert_eq!(api.seen().len(), 3 + 1, "only the file of the newer version was ever filled");
}

fn foreign(workspace: &Workspace, sql: &str) {
    Connection::open(workspace.path("highwater.db")).unwrap().execute_batch(sql).unwrap();
}

/// A file with a WAL that its program did not move into it.
fn other_with_wal(workspace: &Workspace) {
    let live = Connection::open(workspace.path("live.db")).unwrap();
    live.pragma_update(None, "journal_mode", "WAL").unwrap();
    live.execute_batch("CREATE TABLE users (id INTEGER); INSERT INTO users VALUES (1)").unwrap();
    for suffix in ["", "-wal"] {
        std::fs::copy(workspace.path(&format!("live.db{suffix}")), workspace.path(&format!("highwater.db{suffix}")))
            .unwrap();
    }
}

fn newer(workspace: &Workspace) {
    workspace.sync(0);
    foreign(workspace, "UPDATE _hw_meta SET value = '99' WHERE key = 'schema_version'");
}

#[test]
fn an_empty_file_is_taken_for_a_new_database() {
    let api = Api::start(three_pages().api());
    let workspace = Workspace::with_config(api.address, &items(MERGE));
    workspace.write("highwater.db", "");
    workspace.sync(0);
    assert_eq!(workspace.value::<i64>("SELECT count(*) FROM shop_items"), 30);
}

#[test]
fn d06_a_damaged_file_is_named_as_such_and_never_made_anew() {
    // The schema is on the first page, after the header; a table is on a page of its own.
    for (name, sql) in [
        ("schema", "SELECT 100"),
        ("table", "SELECT 4096 * (rootpage - 1) FROM sqlite_schema WHERE name = 'shop_items'"),
        ("ledger", "SELECT 4096 * (rootpage - 1) FROM sqlite_schema WHERE name = '_hw_pages'"),
    ] {
        let pages = three_pages();
        let api = Api::start(pages.api());
        let workspace = Workspace::with_config(api.address, &items(MERGE));
        workspace.sync(0);
        assert_eq!(workspace.value::<i64>("PRAGMA page_size"), 4096);
        let offset: u64 = workspace.value(sql);
        let mut file = std::fs::OpenOptions::new().read(true).write(true).open(workspace.path("highwater.db")).unwrap();
        file.seek(SeekFrom::Start(offset)).unwrap();
        file.write_all(&[0xff; 512]).unwrap();
        drop(file);
        let before = bytes(&workspace);
        let finished = sync(&workspace);
        assert_eq!(finished.code, Some(74), "{name}: {finished:#?}");
        let said = format!("{}{}", finished.stdout, finished.stderr);
        assert!(said.contains("damaged") && said.contains(".recover"), "{name}: {finished:#?}");
        let after = bytes(&workspace);
        assert!(after[0].as_ref().map(Vec::len) >= before[0].as_ref().map(Vec::len), "{name}");
        assert!(name != "schema" || after == before, "{name}: the file has changed");
    }
}

#[test]
fn x08_a_second_instance_is_kept_out_and_told_who_is_in() {
    let (gate, barrier) = gate();
    let pages = three_pages();
    let api = Api::start(move |request, _| {
        barrier.wait();
        pages.answer(request)
    });
    let workspace = Workspace::with_config(api.address, &items(MERGE));
    let first = workspace.spawn(&["sync", "--json"]);
    api.wait_for(1);
    for arguments in [&["sync"][..], &["reset", "shop"]] {
        let second = workspace.run(arguments);
        assert_eq!(second.code, Some(73), "{second:#?}");
        assert!(second.stderr.contains(&format!("pid {}", first.id())), "{second:#?}");
    }
    drop(gate);
    assert_eq!(finish(first).code, Some(0));
    assert_eq!(api.seen().len(), 4, "the second instance has asked for nothing");
    workspace.sync(0);
}

#[test]
fn x09_an_instance_that_lost_its_resource_to_another_one_stores_nothing_more() {
    let (gate, barrier) = gate();
    let pages = three_pages();
    let api = Api::start(move |request, _| {
        barrier.wait();
        pages.answer(request)
    });
    let workspace = Workspace::with_config(api.address, &items(MERGE));
    let first = workspace.spawn(&["sync"]);
    gate.let_one_go();
    api.wait_for(2);
    until("the first page is stored", || workspace.value::<i64>("SELECT count(*) FROM _hw_pages") == 1);
    // What an instance leaves that came around the lock, for example by a hard link.
    let other = Connection::open(workspace.path("highwater.db")).unwrap();
    other.execute_batch("UPDATE _hw_resources SET run_id = run_id + 1").unwrap();
    drop(gate);
    let finished = finish(first);
    assert_eq!(finished.code, Some(73), "{finished:#?}");
    assert!(format!("{finished:?}").contains("another instance took over shop.items"), "{finished:#?}");
    assert_eq!(workspace.value::<i64>("SELECT count(*) FROM shop_items"), 10);
    workspace.check_books();
    workspace.sync(0);
    assert_eq!(workspace.value::<i64>("SELECT count(*) FROM shop_items"), 30, "the next run takes it over again");
}

#[test]
fn a_lock_file_that_a_dead_process_left_keeps_nobody_out() {
    let api = Api::start(three_pages().api());
    let workspace = Workspace::with_config(api.address, &items(MERGE));
    workspace.write("highwater.db.lock", "1\n");
    workspace.sync(0);
}

/// A connection of another program that keeps the file locked for writing.
fn writer(workspace: &Workspace) -> Connection {
    let other = Connection::open(workspace.path("highwater.db")).unwrap();
    other
        .execute_batch("BEGIN IMMEDIATE; CREATE TABLE IF NOT EXISTS theirs (a); INSERT INTO theirs VALUES (1)")
        .unwrap();
    other
}

#[test]
fn d01_a_commit_waits_for_another_program_and_goes_on_when_that_is_done() {
    let (gate, barrier) = gate();
    let pages = three_pages();
    let api = Api::start(move |request, _| {
        barrier.wait();
        pages.answer(request)
    });
    let config = items(MERGE) + "[destination]\nbusy_timeout = \"1s\"\n";
    let workspace = Workspace::with_config(api.address, &config);
    let mut child = workspace.spawn(&["sync"]);
    api.wait_for(1);
    let other = writer(&workspace);
    drop(gate);
    // The first busy timeout is over when it says so; three more are to come.
    let mut said = String::new();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    while !said.contains("another program holds the database") {
        assert_ne!(stderr.read_line(&mut said).unwrap(), 0, "it did not wait: {said}");
    }
    other.execute_batch("COMMIT").unwrap();
    stderr.read_to_string(&mut said).unwrap();
    let mut stdout = String::new();
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{stdout}{said}");
    assert_eq!(workspace.value::<i64>("SELECT count(*) FROM shop_items"), 30);
    assert_eq!(workspace.value::<i64>("SELECT count(*) FROM theirs"), 1);
    workspace.check_books();
}

#[test]
fn d01_a_program_that_never_lets_go_fails_the_run_and_nothing_is_lost() {
    let (gate, barrier) = gate();
    let pages = three_pages();
    let api = Api::start(move |request, _| {
        if crate::pages::page_of(request) == 2 {
            barrier.wait();
        }
        pages.answer(request)
    });
    let config = items("") + "[destination]\nbusy_timeout = \"20ms\"\n";
    let workspace = Workspace::with_config(api.address, &config);
    let child = workspace.spawn(&["sync", "--json"]);
    api.wait_for(2);
    crate::pages::until("page 1 is stored", || workspace.value::<i64>("SELECT count(*) FROM _hw_pages") == 1);
    let other = writer(&workspace);
    gate.let_one_go();
    let finished = finish(child);
    assert_eq!(finished.code, Some(73), "{finished:#?}");
    assert!(finished.stdout.contains("another program keeps the database locked"), "{finished:#?}");
    other.execute_batch("ROLLBACK").unwrap();
    drop((other, gate));
    let report = workspace.sync(0);
    assert_eq!(report["resources"][0]["resumed_at"], "page 2");
    assert_eq!(workspace.column::<i64>("SELECT id FROM shop_items ORDER BY rowid"), (0..30).collect::<Vec<_>>());
    workspace.check_books();
}

#[test]
fn d03_a_full_disk_stops_the_run_and_the_next_one_goes_on_where_it_stopped() {
    let large = |page: u64| {
        let rows = (0..20).map(|n| json!({"n": page * 20 + n, "text": "x".repeat(2000)}));
        Value::from_iter(rows)
    };
    let api = Api::start(Pages::new(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map(large)).api());
    // Every page is a commit of its own.
    let workspace = Workspace::with_config(api.address, &(items("") + "[pipeline]\nbatch_rows = 1\n"));
    // No file may grow beyond 800 blocks of 512 bytes. The signal for it has to be ignored to get an error.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 800; exec \"$0\" sync --json"]).arg(binary());
    command.current_dir(workspace.path("")).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let finished = finish(command.spawn().unwrap());
    assert_eq!(finished.code, Some(74), "{finished:#?}");
    let stored = workspace.value::<i64>("SELECT count(*) FROM shop_items");
    assert!(stored > 0 && stored < 200 && stored % 20 == 0, "{stored}");
    let report = workspace.sync(0);
    assert_eq!(report["resources"][0]["resumed_at"], format!("page {}", stored / 20 + 1));
    assert_eq!(workspace.column::<i64>("SELECT n FROM shop_items ORDER BY rowid"), (0..200).collect::<Vec<_>>());
    workspace.check_books();
}

#[test]
fn d05_missing_folders_are_made_and_a_place_that_cannot_be_written_is_named() {
    let api = Api::start(three_pages().api());
    let at = |path: &str| items(MERGE) + &format!("[destination]\npath = \"{path}\"\n");
    let workspace = Workspace::with_config(api.address, &at("new/folder/x.db"));
    assert_eq!(sync(&workspace).code, Some(0));
    assert!(workspace.path("new/folder/x.db").is_file());
    let mut places = vec![("config.toml/x.db", "a file in the place of a folder"), ("new/folder", "a folder")];
    workspace.write("new/x.db", "");
    let mut read_only = std::fs::metadata(workspace.path("new")).unwrap().permissions();
    read_only.set_readonly(true);
    if !rustix::process::getuid().is_root() {
        std::fs::set_permissions(workspace.path("new"), read_only).unwrap();
        places.push(("new/x.db", "a folder without write permission"));
    } else {
        println!("skipped in part: root may write into any folder");
    }
    for (path, name) in places {
        let workspace_config = at(&workspace.path(path).to_string_lossy());
        workspace.configure(api.address, &workspace_config);
        let asked = api.seen().len();
        let finished = sync(&workspace);
        assert_eq!(finished.code, Some(74), "{name}: {finished:#?}");
        assert!(finished.stderr.contains("database"), "{name}: {finished:#?}");
        assert_eq!(api.seen().len(), asked, "{name}: nothing is asked for that cannot be stored");
    }
}

#[test]
fn c08_a_resource_that_is_no_longer_what_its_table_was_made_from_is_refused_alone() {
    let api = Api::start(|request, _| {
        let page = if crate::pages::page_of(request) == 1 { Value::from(records(0..3)) } else { json!([]) };
        respond(200, &[], page.to_string())
    });
    let other = "[sources.shop.resources.other]\nprimary_key = \"id\"\n";
    let workspace = Workspace::with_config(api.address, &(items(MERGE) + other));
    workspace.sync(0);
    for (keys, said) in [
        ("primary_key = \"name\"", "its primary_key changed from [\"id\"] to [\"name\"]"),
        (
            "write_disposition = \"append\"\nprimary_key = \"id\"",
            "its write_disposition changed from \"merge\" to \"append\"",
        ),
        ("primary_key = \"id\"\ntable = \"elsewhere\"", "its table changed from shop_items to elsewhere"),
        ("primary_key = \"id\"\ntable = \"Shop_Items\"", "its table changed from shop_items to Shop_Items"),
    ] {
        workspace.configure(api.address, &(items(keys) + other));
        let report = workspace.sync(78);
        let error = report["resources"][0]["error"].as_str().unwrap();
        assert!(error.contains(said) && error.contains("highwater reset shop.items"), "{error}");
        assert_eq!(report["resources"][1]["outcome"], "complete", "{said}");
    }
    assert_eq!(workspace.value::<i64>("SELECT count(*) FROM shop_items"), 3);
    workspace.check_books();
}

#[test]
fn after_a_reset_that_keeps_rows_a_table_with_another_key_is_refused_alone() {
    let api = Api::start(|request, _| {
        let page = if crate::pages::page_of(request) == 1 { Value::from(records(0..3)) } else { json!([]) };
        respond(200, &[], page.to_string())
    });
    let other = "[sources.shop.resources.other]\nprimary_key = \"id\"\n";
    for (before, after) in [
        ("", "primary_key = \"id\""),
        ("primary_key = \"id\"", "primary_key = \"name\""),
        ("primary_key = \"id\"", "primary_key = [\"id\", \"name\"]"),
        ("primary_key = \"id\"", ""),
    ] {
        let workspace = Workspace::with_config(api.address, &(items(before) + other));
        workspace.sync(0);
        assert_eq!(workspace.run(&["reset", "shop.items"]).code, Some(0));
        workspace.configure(api.address, &(items(after) + other));
        let report = workspace.sync(78);
        let error = report["resources"][0]["error"].as_str().unwrap();
        assert!(error.contains("--drop-rows"), "{error}");
        assert_eq!(report["resources"][1]["outcome"], "complete");
        assert_eq!(workspace.run(&["reset", "--drop-rows", "shop.items"]).code, Some(0));
        workspace.sync(0);
        assert_eq!(workspace.value::<i64>("SELECT count(*) FROM shop_items"), 3, "{before} to {after}");
        workspace.check_books();
    }
}

#[test]
fn d13_a_table_of_the_users_own_is_never_written() {
    let api = Api::start(three_pages().api());
    for sql in [
        "CREATE TABLE shop_items (id INTEGER PRIMARY KEY, mine TEXT); INSERT INTO shop_items VALUES (1, 'mine')",
        "CREATE TABLE SHOP_ITEMS (id INTEGER)",
        "CREATE VIEW shop_items AS SELECT 1 AS id, 2 AS _page_id",
    ] {
        let workspace = Workspace::with_config(api.address, "[sources]\n");
        workspace.sync(0);
        let db = Connection::open(workspace.path("highwater.db")).unwrap();
        db.execute_batch(sql).unwrap();
        let rows = || db.query_row("SELECT count(*) FROM shop_items", [], |row| row.get::<_, i64>(0)).unwrap();
        let before = rows();
        workspace.configure(api.address, &items(MERGE));
        let report = workspace.sync(78);
        let error = report["resources"][0]["error"].as_str().unwrap();
        assert!(error.contains("shop_items was not made by highwater"), "{error}");
        assert_eq!(rows(), before);
    }
    assert!(api.seen().is_empty());
}

#[test]
fn d14_what_users_add_to_our_tables_stays_and_the_counts_stay_right() {
    let pages = three_pages();
    let api = Api::start(pages.api());
    let workspace = Workspace::with_config(api.address, &items(MERGE));
    workspace.sync(0);
    let db = Connection::open(workspace.path("highwater.db")).unwrap();
    db.execute_batch(
        "CREATE INDEX by_name ON shop_items (name);
         ALTER TABLE shop_items ADD COLUMN seen INTEGER DEFAULT 0;
         CREATE TABLE log (what TEXT, id INTEGER);
         CREATE TRIGGER added AFTER INSERT ON shop_items BEGIN
           INSERT INTO log VALUES ('new', new.id); UPDATE shop_items SET seen = seen + 1 WHERE id = new.id; END;
         CREATE TRIGGER changed AFTER UPDATE OF name ON shop_items BEGIN
           INSERT INTO log VALUES ('changed', new.id); DELETE FROM log WHERE id < 0; END;
         DELETE FROM shop_items WHERE id IN (0, 1);
         UPDATE shop_items SET name = 'mine' WHERE id = 2;",
    )
    .unwrap();
    db.execute_batch("DELETE FROM log").unwrap();
    let report = workspace.sync(0);
    let expected =
        json!({"received": 30, "inserted": 2, "updated": 1, "unchanged": 27, "filtered": 0, "quarantined": 0});
    assert_eq!(report["resources"][0]["records"], expected);
    let log: Vec<String> = workspace.column("SELECT what || id FROM log ORDER BY id");
    assert_eq!(log, ["new0", "new1", "changed2"]);
    assert_eq!(workspace.column::<i64>("SELECT seen FROM shop_items WHERE id < 3"), [1, 1, 0]);
    // What another program removes is not seen.
    assert_eq!(workspace.value::<i64>("SELECT rows FROM _hw_resources"), 32);
    workspace.check_ledger();
}

#[test]
fn rows_that_are_written_at_once_are_counted_as_if_each_were_written_alone() {
    // 127 records: one without a key, one that comes twice, and more than fit into whole statements.
    let page = |changed: std::ops::Range<u64>| {
        let name = |id| if changed.contains(&id) { "changed" } else { "a" };
        let record = |id| format!(r#"{{"id":{id},"name":"{} of {id}"}}"#, name(id));
        let mut records: Vec<String> = (0..125).map(record).collect();
        records.insert(40, r#"{"name":"nobody"}"#.to_owned());
        records.push(r#"{"id":124,"name":"twice"}"#.to_owned());
        format!("[{}]", records.join(","))
    };
    let pages = Pages::new(&[&page(0..0)]);
    let api = Api::start(pages.api());
    let workspace = Workspace::with_config(api.address, &items(MERGE));
    let counts = |inserted: u64, updated: u64, unchanged: u64| {
        json!({"received": 127, "inserted": inserted, "updated": updated, "unchanged": unchanged, "filtered": 0,
               "quarantined": 1})
    };
    let sync = |expected: serde_json::Value| {
        assert_eq!(workspace.sync(0)["resources"][0]["records"], expected);
        workspace.check_ledger();
    };
    sync(counts(125, 1, 0));
    // The one that comes twice is changed there and back.
    sync(counts(0, 2, 124));
    pages.set(&[&page(100..103)]);
    sync(counts(0, 5, 121));
    assert_eq!(workspace.value::<u64>("SELECT count(*) FROM shop_items WHERE name LIKE 'changed%'"), 3);
    assert_eq!(workspace.value::<String>("SELECT name FROM shop_items WHERE id = 124"), "twice");
    // Rows that a trigger of the user changes in the same table are none of ours.
    let db = Connection::open(workspace.path("highwater.db")).unwrap();
    db.execute_batch(
        "ALTER TABLE shop_items ADD COLUMN seen INTEGER DEFAULT 0;
         CREATE TRIGGER others AFTER UPDATE OF name ON SHOP_items BEGIN
           UPDATE shop_items SET seen = seen + 1 WHERE id < 20; END;",
    )
    .unwrap();
    pages.set(&[&page(100..101)]);
    sync(counts(0, 4, 122));
    assert_eq!(workspace.value::<u64>("SELECT count(*) FROM shop_items WHERE seen = 4"), 20);
    // Nor are those that one on our own tables changes.
    db.execute_batch(
        "DROP TRIGGER others;
         CREATE TRIGGER aside AFTER INSERT ON _hw_quarantine BEGIN
           UPDATE shop_items SET seen = 9 WHERE id < 20; END;",
    )
    .unwrap();
    sync(counts(0, 2, 124));
    assert_eq!(workspace.value::<u64>("SELECT count(*) FROM shop_items WHERE seen = 9"), 20);
}

#[test]
fn a_users_trigger_that_fails_fails_its_own_resource_only() {
    let api = Api::start(three_pages().api());
    let config = items("") + "[sources.shop.resources.others]\nprimary_key = \"id\"\n";
    for body in ["SELECT RAISE(ABORT, 'not this one')", "INSERT INTO gone VALUES (1)"] {
        let workspace = Workspace::with_config(api.address, &config);
        workspace.sync(0);
        let db = Connection::open(workspace.path("highwater.db")).unwrap();
        db.execute_batch(&format!(
            "CREATE TABLE gone (a); CREATE TRIGGER failing BEFORE INSERT ON shop_items WHEN new.id = 15 BEGIN {body}; END;
             DROP TABLE gone;"
        ))
        .unwrap();
        let report = workspace.sync(65);
        assert_eq!(report["database_error"], Value::Null, "{body}");
        assert_eq!(report["resources"][0]["outcome"], "failed", "{body}");
        assert_eq!(report["resources"][1]["outcome"], "complete", "{body}");
        db.execute_batch("DROP TRIGGER failing").unwrap();
        workspace.sync(0);
        assert_eq!(workspace.value::<i64>("SELECT count(*) FROM shop_items"), 60, "two complete syncs: {body}");
        workspace.check_books();
    }
}

#[test]
fn a_table_or_a_column_that_the_user_drops_is_made_again() {
    let api = Api::start(three_pages().api());
    for sql in [
        "DROP TABLE shop_items",
        "ALTER TABLE shop_items DROP COLUMN name",
        "ALTER TABLE shop_items DROP COLUMN name; ALTER TABLE shop_items ADD COLUMN NAME TEXT; \
         ALTER TABLE shop_items DROP COLUMN NAME",
    ] {
        let workspace = Workspace::with_config(api.address, &items(MERGE));
        workspace.sync(0);
        Connection::open(workspace.path("highwater.db")).unwrap().execute_batch(sql).unwrap();
        workspace.sync(0);
        let rows: Vec<String> = workspace.column("SELECT name FROM shop_items ORDER BY id");
        assert_eq!(rows, (0..30).map(|n| format!("name {n}")).collect::<Vec<_>>(), "{sql}");
        workspace.check_books();
    }
}

#[test]
fn a_table_that_is_written_in_other_letters_after_a_reset_is_the_same_table() {
    let other = "[sources.shop.resources.other]\nprimary_key = \"id\"\n";
    let api = Api::start(three_pages().api());
    for keys in [MERGE, "", "write_disposition = \"replace\""] {
        let workspace = Workspace::with_config(api.address, &(items(keys) + "table = \"Items\"\n" + other));
        workspace.sync(0);
        assert_eq!(workspace.run(&["reset", "shop.items"]).code, Some(0));
        workspace.configure(api.address, &(items(keys) + "table = \"items\"\n" + other));
        let report = workspace.sync(0);
        let inserted = if keys == MERGE { 0 } else { 30 };
        assert_eq!(report["resources"][0]["records"]["inserted"], inserted, "{keys}: {report:#}");
        assert_eq!(workspace.value::<i64>("SELECT count(*) FROM items"), if keys.is_empty() { 60 } else { 30 });
        assert_eq!(workspace.value::<i64>("SELECT count(*) FROM _hw_columns WHERE \"table\" = 'items'"), 2);
        workspace.check_books();
    }
}

#[test]
fn a_clean_end_leaves_one_file_that_says_what_it_is() {
    let api = Api::start(three_pages().api());
    let workspace = Workspace::with_config(api.address, &items(MERGE));
    workspace.sync(0);
    for suffix in ["-wal", "-shm", "-journal"] {
        assert!(!workspace.path(&format!("highwater.db{suffix}")).exists(), "{suffix}");
    }
    assert_eq!(workspace.value::<String>("PRAGMA journal_mode"), "wal");
    assert_eq!(workspace.value::<i64>("PRAGMA application_id"), 0x6877_7472);
    assert_eq!(workspace.value::<String>("SELECT value FROM _hw_meta WHERE key = 'schema_version'"), "1");
    let strict: Vec<i64> =
        workspace.column("SELECT strict FROM pragma_table_list WHERE name LIKE '\\_hw\\_%' ESCAPE '\\'");
    assert!(strict.len() >= 8 && strict.iter().all(|strict| *strict == 1), "the bookkeeping is STRICT: {strict:?}");
}

#[test]
fn a_sync_that_has_nothing_to_do_leaves_the_file_as_it_was() {
    let api = Api::start(three_pages().api());
    let workspace = Workspace::with_config(api.address, &items(MERGE));
    workspace.sync(0);
    let before = bytes(&workspace);
    workspace.configure(api.address, "[sources]\n");
    workspace.sync(0);
    assert!(bytes(&workspace) == before);
}

pub(crate) fn is_installed(tool: &str) -> bool {
    Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

#[test]
fn the_sqlite_tool_of_the_system_reads_everything() {
    if !is_installed("sqlite3") {
        println!("skipped: sqlite3 is not installed");
        return;
    }
    let api =
        Api::start(Pages::new(&[r#"[{"id":1,"o":{"a":[1]},"x":5},{"id":3,"id":3}]"#, r#"[{"id":2,"x":"007"}]"#]).api());
    let workspace = Workspace::with_config(api.address, &items(MERGE));
    workspace.sync(0);
    let sqlite3 = |sql: &str| {
        let output = Command::new("sqlite3").arg(workspace.path("highwater.db")).arg(sql).output().unwrap();
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(
        sqlite3("SELECT id, json_extract(o, '$.a[0]'), json_extract(_extra, '$.x') FROM shop_items"),
        "1|1|\n2||007"
    );
    assert_eq!(sqlite3("PRAGMA integrity_check"), "ok");
    let tables = sqlite3("SELECT group_concat(name, ' ') FROM sqlite_schema WHERE type = 'table'");
    for table in tables.split(' ') {
        sqlite3(&format!("SELECT * FROM {table}"));
    }
    assert!(tables.contains("_hw_quarantine") && tables.contains("_hw_budgets"), "{tables}");
}

#[test]
fn d09_nothing_but_sqlite_opens_the_file() {
    if !is_installed("strace") {
        println!("skipped: strace is not installed");
        return;
    }
    let api = Api::start(three_pages().api());
    let workspace = Workspace::with_config(api.address, &items(MERGE));
    workspace.sync(0);
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-e", "trace=open,openat,openat2,creat", "-o"]).arg(workspace.path("calls"));
    command.arg(binary()).args(["sync", "--json"]).current_dir(workspace.path(""));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let finished = finish(command.spawn().unwrap());
    let calls = std::fs::read_to_string(workspace.path("calls")).unwrap_or_default();
    if calls.is_empty() {
        println!("skipped: strace cannot trace here: {}", finished.stderr);
        return;
    }
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let is_database = |call: &&str| {
        let path = call.split('"').nth(1).unwrap_or_default();
        Path::new(path).file_name().is_some_and(|name| name == "highwater.db")
    };
    let opened: Vec<&str> = calls.lines().filter(is_database).collect();
    // SQLite opens with O_NOFOLLOW, and nothing else does.
    assert!(opened.len() == 1 && opened[0].contains("O_NOFOLLOW"), "{opened:#?}");
}

/// A program that closes the file takes its WAL away where it sees no lock of anybody else, and what a writer commits from
/// then on is lost with it.
#[test]
fn d09_the_process_that_writes_keeps_its_lock_on_the_file() {
    // SHARED_FIRST and SHARED_SIZE of SQLite's file format.
    const SHARED: (u64, u64) = (0x4000_0002, 510);
    let (gate, barrier) = gate();
    let pages = three_pages();
    let api = Api::start(move |request, _| {
        barrier.wait();
        pages.answer(request)
    });
    // However the test ends, the answers are let go before the API.
    let gate = gate;
    let workspace = Workspace::with_config(api.address, &(items(MERGE) + "[pipeline]\nbatch_rows = 1\n"));
    let running = workspace.spawn(&["sync"]);
    let path = workspace.path("highwater.db");
    let stored = |pages: i64| {
        path.exists()
            && workspace.value::<i64>("SELECT count(*) FROM sqlite_schema WHERE name = '_hw_pages'") == 1
            && workspace.value::<i64>("SELECT count(*) FROM _hw_pages") == pages
    };
    for page in 1..=2 {
        gate.let_one_go();
        until("the page is stored", || stored(page));
        let mut asked = Flock::from(FlockType::WriteLock);
        (asked.start, asked.length) = SHARED;
        let found = fcntl_getlk(std::fs::File::open(&path).unwrap(), &asked).unwrap();
        let holder = found.and_then(|found| found.pid).map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
        assert_eq!(holder, Some(running.id()), "after page {page}");
    }
    drop(gate);
    assert_eq!(finish(running).code, Some(0));
}
