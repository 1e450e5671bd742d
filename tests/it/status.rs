//! `status` and `runs`: what they say of resources in every state, while a sync writes, after a crash, and where there is
//! nothing yet.

use axum::response::Response;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{Api, Finished, Seen, Workspace, endless, finish, json as answer, records, respond};

const CONFIG: &str = r#"
[sources.shop]
every = "1h"
[sources.shop.client]
base_url = "BASE"
auth = { type = "bearer", token = "${env:TOKEN}" }
retry = { max_attempts = 1 }
paginator = { type = "page_number", total_path = "pages" }
[sources.shop.resource_defaults]
primary_key = "id"
data_selector = "data"
[sources.shop.resources.items]
incremental = { cursor_path = "id" }
[sources.shop.resources.broken]
[sources.shop.resources.early]
paginator = { type = "page_number", total_path = "pages", max_pages = 1 }
[sources.shop.resources.paused]
[sources.shop.resources.late]
[sources.extra.client]
base_url = "BASE"
paginator = { type = "page_number", total_path = "pages" }
[sources.extra.resources.new]
primary_key = "id"
data_selector = "data"
"#;

const SECRET: &str = "s3cr3t-of-the-shop";

/// Three pages of ten records for everything but `broken`.
fn shop(request: &Seen, _: usize) -> Response {
    if request.path() == "/broken" {
        return respond(500, &[], "no");
    }
    let page: u64 = request.param("page").map_or(1, |page| page.parse().unwrap());
    answer(json!({"data": records((page - 1) * 10..page * 10), "pages": 3}))
}

fn run(workspace: &Workspace, arguments: &[&str]) -> Finished {
    let finished = finish(workspace.command(arguments).env("TOKEN", SECRET).spawn().unwrap());
    assert!(!finished.stdout.contains(SECRET) && !finished.stderr.contains(SECRET), "{finished:#?}");
    finished
}

fn status(workspace: &Workspace, code: i32) -> Value {
    let finished = run(workspace, &["status", "--json"]);
    assert_eq!(finished.code, Some(code), "{finished:#?}");
    let status: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!((&status["version"], &status["exit_code"]), (&json!(1), &json!(code)));
    assert_eq!(status["is_well"], code == 0);
    status
}

/// The state of each resource.
fn states(status: &Value) -> String {
    let of = |resource: &Value| {
        format!("{} {}", resource["resource"].as_str().unwrap(), resource["state"].as_str().unwrap())
    };
    status["resources"].as_array().unwrap().iter().map(of).collect::<Vec<_>>().join(", ")
}

/// What another program, or a clock that went on, has done to the file.
fn change(workspace: &Workspace, sql: &str) {
    Connection::open(workspace.path("highwater.db")).unwrap().execute_batch(sql).unwrap();
}

#[test]
fn every_state_of_a_resource_is_told_and_one_sentence_says_what_is_not_well() {
    let api = Api::start(shop);
    let workspace = Workspace::with_config(api.address, CONFIG);
    assert_eq!(run(&workspace, &["sync", "shop"]).code, Some(69));
    assert_eq!(run(&workspace, &["sync", "shop.broken"]).code, Some(69));
    change(
        &workspace,
        "INSERT INTO _hw_paused VALUES ('shop', 'paused', '2024-01-01T00:00:00.000Z');
         UPDATE _hw_runs SET started_at = '2024-01-01T00:00:00.000Z' WHERE resource = 'late'",
    );
    let status = status(&workspace, 1);
    assert_eq!(
        states(&status),
        "shop.items ok, shop.broken failed, shop.early incomplete, shop.paused ok, shop.late ok, extra.new never_run"
    );
    assert_eq!(
        status["says"],
        "Not all is well: shop.broken failed 2 times in a row, shop.early stopped early, shop.late is overdue, and 1 more."
    );
    assert_eq!((&status["writer"], &status["is_missing"]), (&Value::Null, &json!(false)));
    let [items, broken, _, paused, late, new] = &status["resources"].as_array().unwrap()[..] else { panic!() };
    assert_eq!(
        (&items["known"]["rows"], &items["known"]["cursor"]),
        (&json!(30), &json!({"lowest": 29, "highest": 29}))
    );
    assert_eq!((&items["schedule"], &items["is_overdue"]), (&json!("every 1h"), &json!(false)));
    assert!(items["next"].as_str() > items["known"]["last_success_at"].as_str());
    assert_eq!((&broken["known"]["failures"], &broken["known"]["last_success_at"]), (&json!(2), &Value::Null));
    assert_eq!((&paused["known"]["paused_at"], &paused["next"]), (&json!("2024-01-01T00:00:00Z"), &Value::Null));
    assert_eq!((&late["is_overdue"], &late["next"]), (&json!(true), &json!("2024-01-01T01:00:00Z")));
    assert_eq!((&new["known"], &new["schedule"]), (&Value::Null, &Value::Null));
    assert_eq!((&status["errors"][0]["count"], &status["errors"][0]["resource"]), (&json!(2), &json!("broken")));

    let said = run(&workspace, &["status"]);
    assert_eq!(said.code, Some(1));
    for words in [
        "is read by itself",
        "\nshop.items   ok              ",
        "    cursor 29\n",
        "\nshop.broken  failed 2 times  never         0     ",
        "\n    page 1: http",
        "\nshop.early   stopped early   never         10    ",
        "\nshop.paused  paused, ok      ",
        "    30    overdue\n",
        "\nextra.new    not read yet    never         -     -\n",
    ] {
        assert!(said.stdout.contains(words), "no {words:?} in\n{}", said.stdout);
    }
    assert!(said.stdout.lines().all(|line| line.len() <= 80 || line.starts_with("Not all")), "{}", said.stdout);
    workspace.check_books();
}

#[test]
fn all_is_well_when_everything_was_read() {
    let api = Api::start(shop);
    let workspace = Workspace::with_config(api.address, CONFIG);
    let nothing = status(&workspace, 1);
    assert_eq!(nothing["says"], "Nothing was read yet: there is no database at highwater.db.");
    assert!(!workspace.path("highwater.db").exists() && !workspace.path("highwater.db.lock").exists());
    assert_eq!(run(&workspace, &["runs", "--json"]).stdout.matches("\"runs\": []").count(), 1);
    // A source that is not enabled is not missed.
    let config = CONFIG.replace("[sources.extra.client]", "[sources.extra]\nenabled = false\n[sources.extra.client]");
    let (head, tail) = config.split_once("[sources.shop.resources.broken]").unwrap();
    let tail = tail.split_once("[sources.shop.resources.paused]").unwrap().1;
    workspace.configure(api.address, &format!("{head}[sources.shop.resources.paused]{tail}"));
    assert_eq!(run(&workspace, &["sync"]).code, Some(0));
    let well = status(&workspace, 0);
    assert_eq!(well["says"], "All is well: 3 resources, 90 rows in highwater.db.");
    // Who looks need not have the secrets of the service.
    for (verb, code) in [("status", 0), ("runs", 0), ("check", 78)] {
        let finished = workspace.run(&[verb]);
        assert_eq!(finished.code, Some(code), "{finished:#?}");
    }
}

#[test]
fn status_looks_beside_a_sync_that_writes_and_tells_what_a_crash_has_left() {
    let api = Api::start(|request, _| {
        let is_second = request.param("page").is_some_and(|page| page == "2");
        if is_second { endless() } else { shop(request, 0) }
    });
    let config = CONFIG.split_once("[sources.shop.resources.broken]").unwrap().0;
    let workspace = Workspace::with_config(api.address, config);
    let mut sync = workspace.command(&["sync"]).env("TOKEN", SECRET).spawn().unwrap();
    api.wait_for(2);
    // The first page is stored while the second one does not come.
    let while_running = loop {
        let finished = run(&workspace, &["status", "--json"]);
        let status: Value = serde_json::from_str(&finished.stdout).unwrap();
        if status["resources"][0]["known"]["last_run"]["pages"] == 1 {
            assert_eq!(finished.code, Some(0), "{finished:#?}");
            break status;
        }
    };
    assert_eq!(states(&while_running), "shop.items running");
    assert_eq!(while_running["writer"]["pid"], sync.id());
    assert_eq!(while_running["resources"][0]["known"]["rows"], 10);
    let said = run(&workspace, &["status"]).stdout;
    assert!(said.contains(&format!("pid {}", sync.id())) && said.contains("so far 1 page, 10 records"), "{said}");
    let runs: Value = serde_json::from_str(&run(&workspace, &["runs", "--json"]).stdout).unwrap();
    assert_eq!(runs["runs"][0]["outcome"], "running");

    sync.kill().unwrap();
    sync.wait().unwrap();
    let after = status(&workspace, 1);
    assert_eq!((states(&after).as_str(), &after["writer"]), ("shop.items incomplete", &Value::Null));
    assert_eq!(after["says"], "Not all is well: shop.items stopped early.");
    assert_eq!(after["resources"][0]["known"]["rows"], 10);
    workspace.check_books();
}

#[test]
fn runs_are_listed_the_newest_first_of_all_or_of_those_named() {
    let api = Api::start(shop);
    let workspace = Workspace::with_config(api.address, CONFIG);
    assert_eq!(run(&workspace, &["sync", "shop.items", "shop.broken", "extra.new"]).code, Some(69));
    assert_eq!(run(&workspace, &["sync", "shop.broken"]).code, Some(69));
    let list = |arguments: &[&str]| {
        let finished = run(&workspace, &[&["runs", "--json"], arguments].concat());
        assert_eq!(finished.code, Some(0), "{finished:#?}");
        let list: Value = serde_json::from_str(&finished.stdout).unwrap();
        list["runs"].as_array().unwrap().clone()
    };
    let ids = |arguments: &[&str]| -> Vec<i64> {
        list(arguments).iter().map(|run| run["run_id"].as_i64().unwrap()).collect()
    };
    assert_eq!(ids(&[]), [4, 3, 2, 1]);
    assert_eq!(ids(&["--limit", "2"]), [4, 3]);
    assert_eq!(ids(&["shop"]).len(), 3);
    assert_eq!(ids(&["shop", "--limit", "1"]), [4]);
    let broken = list(&["shop.broken"]);
    assert!(broken.len() == 2 && broken.iter().all(|run| run["resource"] == "broken" && run["outcome"] == "failed"));
    assert_eq!(list(&["shop.early"]), [] as [Value; 0]);
    let items = &list(&["shop.items"])[0];
    for (key, value) in [("kind", json!("sync")), ("pages", json!(3)), ("received", json!(30)), ("inserted", json!(30))]
    {
        assert_eq!(items[key], value, "{key}");
    }
    let said = run(&workspace, &["runs"]).stdout;
    assert!(said.starts_with("RUN  STARTED") && said.contains("    shop.broken: page 1: http"), "{said}");

    let unknown = run(&workspace, &["runs", "shop.item", "--json"]);
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.stdout.contains("shop.items"), "{unknown:#?}");
    // What the configuration has no more still has its history.
    workspace.configure(api.address, CONFIG.split_once("[sources.extra.client]").unwrap().0);
    assert_eq!(ids(&["extra.new"]).len(), 1);
}

#[test]
fn what_draws_on_a_terminal_is_refused_where_there_is_none() {
    let workspace = Workspace::with_config("127.0.0.1:1".parse().unwrap(), CONFIG);
    let refused = run(&workspace, &["status", "--watch"]);
    assert_eq!((refused.code, &*refused.stdout), (Some(2), ""), "{refused:#?}");
    assert!(refused.stderr.contains("standard output is none"), "{refused:#?}");
}

#[test]
fn a_file_that_is_no_database_is_an_error_and_not_a_state() {
    let workspace = Workspace::with_config("127.0.0.1:1".parse().unwrap(), CONFIG);
    workspace
        .write("highwater.db", "this is no database, and long enough to be seen as none at all\n".repeat(20).as_str());
    for verb in ["status", "runs"] {
        let refused = run(&workspace, &[verb, "--json"]);
        assert_eq!(refused.code, Some(74), "{refused:#?}");
        assert!(refused.stdout.contains("is not a highwater database"), "{refused:#?}");
    }
}
