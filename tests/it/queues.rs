//! What waits to be read: records that change while their children are read, partitions that fail, passes that stay open.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::pages::{Barrier, gate, until};
use crate::support::{Api, Seen, Workspace, finish, json as answer, respond};

/// One issue, and its comments on pages of two, the newest first.
struct World {
    title: &'static str,
    at: u64,
    comments: u64,
    /// Requests whose target contains this are refused.
    refused: Option<&'static str>,
    /// Comments that were looked up.
    looked_up: u64,
    /// Where the answers wait: issues before they are looked up, comments after that.
    held: Option<[Arc<Barrier>; 2]>,
}

type Shared = Arc<Mutex<World>>;

fn world(comments: u64) -> Shared {
    Arc::new(Mutex::new(World { title: "old", at: 1, comments, refused: None, looked_up: 0, held: None }))
}

fn issue_api(world: &Shared) -> Api {
    let world = Arc::clone(world);
    Api::start(move |request: &Seen, _| {
        let held = world.lock().unwrap().held.clone();
        let hold = |number: usize| held.iter().for_each(|held| held[number].wait());
        if request.path() == "/issues" {
            hold(0);
            let world = world.lock().unwrap();
            let since: u64 = request.param("since").map_or(0, |since| since.parse().unwrap());
            let issue = json!({"id": 1, "title": world.title, "at": world.at});
            return answer(json!({"data": if world.at >= since { vec![issue] } else { Vec::new() }, "pages": 1}));
        }
        let (body, is_refused) = {
            let mut world = world.lock().unwrap();
            world.looked_up += 1;
            let page: usize = request.param("page").map_or(1, |page| page.parse().unwrap());
            let numbers = (1..=world.comments).rev().skip((page - 1) * 2).take(2);
            let data: Vec<Value> = numbers.map(|n| json!({"id": n})).collect();
            let is_refused = world.refused.is_some_and(|part| request.target.contains(part));
            (json!({"data": data, "pages": world.comments.div_ceil(2)}), is_refused)
        };
        hold(1);
        if is_refused { respond(500, &[], "") } else { answer(body) }
    })
}

const HEAD: &str = r#"
[sources.s.client]
base_url = "BASE"
retry = { max_attempts = 1 }
paginator = { type = "page_number", total_path = "pages" }
[sources.s.resource_defaults]
data_selector = "data"
"#;

const SINCE: &str = "params = { since = \"${incremental.start_value}\" }\nincremental = { cursor_path = \"at\" }\n";

/// Issues and their comments; `issues` and `comments` are more lines of theirs.
fn tracker(issues: &str, comments: &str) -> String {
    format!(
        "{HEAD}[sources.s.resources.issues]\nprimary_key = \"id\"\n{issues}\n[sources.s.resources.comments]\n\
         path = \"issues/${{resources.issues.id}}/comments\"\ninclude_from_parent = [\"title\"]\n{comments}\n"
    )
}

const KEYED: &str = "primary_key = \"id\"\n";

/// Parents that return, or whose children take, only what has changed; and that of which each run has every record.
fn parents() -> [String; 3] {
    [tracker(SINCE, KEYED), tracker("", &format!("{KEYED}parent = {{ only_changed = true }}")), tracker("", KEYED)]
}

fn comments(workspace: &Workspace) -> Vec<String> {
    workspace.column("SELECT id || ' ' || _issues_title FROM s_comments ORDER BY id")
}

/// Looks into the file while a run writes it; nothing where it has no such table yet.
fn stored(workspace: &Workspace, sql: &str) -> Option<String> {
    let file = rusqlite::Connection::open(workspace.path("highwater.db")).ok()?;
    file.query_row(sql, [], |row| row.get(0)).ok()
}

#[test]
fn what_was_left_over_is_read_once_more_where_its_record_comes_while_it_is_read_or_after_that() {
    for config in parents() {
        for while_it_is_read in [true, false] {
            let world = world(3);
            let api = issue_api(&world);
            let limited = config.replace("\"pages\" }", "\"pages\", max_pages = 1 }");
            let workspace = Workspace::with_config(api.address, &limited);
            workspace.sync(75);
            workspace.configure(api.address, &config);
            let ((issues, held_issues), (answers, held_answers)) = (gate(), gate());
            {
                let mut world = world.lock().unwrap();
                world.looked_up = 0;
                world.held = Some([Arc::new(held_issues), Arc::new(held_answers)]);
            }
            let child = workspace.spawn(&["sync"]);
            until("comments of the old record are looked up", || world.lock().unwrap().looked_up > 0);
            if !while_it_is_read {
                answers.let_one_go();
                let state = "SELECT state FROM _hw_checkpoints WHERE resource = 'comments'";
                until("they are stored", || stored(&workspace, state).as_deref() == Some("complete"));
            }
            {
                let mut world = world.lock().unwrap();
                (world.title, world.at, world.comments) = ("new", 2, 4);
            }
            drop(issues);
            let title = "SELECT title FROM s_issues";
            until("the new record is stored", || stored(&workspace, title).as_deref() == Some("new"));
            drop(answers);
            let finished = finish(child);
            assert_eq!(finished.code, Some(0), "{finished:#?}");
            assert_eq!(comments(&workspace), ["1 new", "2 new", "3 new", "4 new"], "{config} {while_it_is_read}");
            assert_eq!(world.lock().unwrap().looked_up, 3, "{config} {while_it_is_read}");
            let left: i64 = workspace.value("SELECT count(*) FROM _hw_checkpoints WHERE state <> 'complete'");
            assert_eq!(left, 0);
            workspace.check_books();
        }
    }
}

#[test]
fn a_child_that_is_partly_read_starts_over_where_its_record_has_changed() {
    for config in parents() {
        for apart in [true, false] {
            for disposition in ["merge", "append"] {
                let config = config.replace("\npath =", &format!("\nwrite_disposition = \"{disposition}\"\npath ="));
                let world = world(4);
                let api = issue_api(&world);
                let workspace = Workspace::with_config(api.address, &config);
                world.lock().unwrap().refused = Some("page=2");
                workspace.sync(69);
                {
                    let mut world = world.lock().unwrap();
                    (world.title, world.at, world.comments, world.refused) = ("new", 2, 5, None);
                }
                if apart {
                    assert_eq!(workspace.run(&["sync", "s.issues"]).code, Some(0));
                }
                workspace.sync(0);
                let all: Vec<String> = (1..=5).map(|n| format!("{n} new")).collect();
                let found: Vec<String> = comments(&workspace);
                let of_new: Vec<&String> = found.iter().filter(|row| row.ends_with("new")).collect();
                let mut distinct = of_new.clone();
                distinct.dedup();
                assert_eq!(distinct, all.iter().collect::<Vec<_>>(), "{config} {apart}: {found:?}");
                workspace.check_books();
            }
        }
    }
}

/// Partitions `0` to `partitions - 1`; what each answers is up to the test.
fn numbered(partitions: usize, more: &str) -> String {
    let list: Vec<String> = (0..partitions).map(|n| format!("{{ p = {n} }}")).collect();
    format!("{HEAD}[sources.s.resources.r]\npartitions = [{}]\n{more}\n", list.join(", "))
}

const ASKED: &str = "params = { p = \"${partition.p}\" }\n";

const ASKED_SINCE: &str = "params = { p = \"${partition.p}\", since = \"${incremental.start_value}\" }\n";

fn partition_of(request: &Seen) -> usize {
    request.param("p").unwrap().parse().unwrap()
}

#[test]
fn partitions_that_fail_come_last_in_the_next_run_so_that_none_is_never_tried() {
    let healed = Arc::new(Mutex::new(Vec::new()));
    let working = Arc::clone(&healed);
    let api = Api::start(move |request: &Seen, _| {
        let p = partition_of(request);
        if !working.lock().unwrap().contains(&p) {
            return respond(500, &[], "");
        }
        answer(json!({"data": [{"id": p}], "pages": 1}))
    });
    let workspace = Workspace::with_config(api.address, &numbered(50, &format!("{KEYED}{ASKED}")));
    let sync = || {
        let before = api.seen().len();
        workspace.sync(69);
        api.seen()[before..].iter().map(partition_of).collect::<Vec<_>>()
    };
    let between = |from: usize, to: usize| (from..to).collect::<Vec<_>>();
    assert_eq!(sync(), between(0, 20), "so many failures end a run");
    assert_eq!(sync(), between(20, 40));
    assert_eq!(sync(), [between(40, 50), between(0, 10)].concat());
    healed.lock().unwrap().push(25);
    // Those that have waited longest come first; and one success says that it is worth while to try all.
    assert_eq!(sync(), [between(10, 20), between(20, 40), between(40, 50), between(0, 10)].concat());
    assert_eq!(workspace.column::<i64>("SELECT id FROM s_r"), [25]);
    workspace.check_books();
}

#[test]
fn what_is_wrong_with_one_partition_does_not_keep_the_others_from_being_read() {
    let api = Api::start(|request: &Seen, _| {
        let p = partition_of(request);
        let record = if p == 0 { json!({"id": p}) } else { json!({"id": p, "at": 1}) };
        answer(json!({"data": [record], "pages": 1}))
    });
    let incremental = "incremental = { cursor_path = \"at\" }\n";
    let workspace = Workspace::with_config(api.address, &numbered(3, &format!("{KEYED}{ASKED_SINCE}{incremental}")));
    for _ in 0..2 {
        let report = workspace.sync(65);
        let error = report["resources"][0]["error"].as_str().unwrap();
        assert!(error.starts_with("s.r (p=0): page 1: "), "{error}");
        assert_eq!(workspace.column::<i64>("SELECT id FROM s_r ORDER BY id"), [1, 2]);
    }
    let failed: Vec<String> = workspace.column("SELECT partition FROM _hw_checkpoints WHERE error IS NOT NULL");
    assert_eq!(failed, [r#"{"p":0}"#]);
}

#[test]
fn a_partition_whose_order_was_wrong_does_not_keep_the_others_from_being_read() {
    let grown = Arc::new(Mutex::new(0));
    let served = Arc::clone(&grown);
    let api = Api::start(move |request: &Seen, _| {
        let (p, page) = (partition_of(request), request.param("page").map_or(1, |page| page.parse().unwrap()));
        let (first, second) = if p == 0 { (5, 3) } else { (3, 5) };
        let at = *served.lock().unwrap() + if page == 1 { first } else { second };
        answer(json!({"data": [{"id": format!("{p} {at}"), "at": at}], "pages": 2}))
    });
    let sorted = "write_disposition = \"append\"\nincremental = { cursor_path = \"at\", row_order = \"asc\" }\n";
    let workspace = Workspace::with_config(api.address, &numbered(3, &format!("{ASKED_SINCE}{sorted}")));
    workspace.sync(65);
    *grown.lock().unwrap() = 10;
    let report = workspace.sync(78);
    let error = report["resources"][0]["error"].as_str().unwrap();
    assert!(error.starts_with("s.r (p=0): ") && error.contains("row_order"), "{error}");
    let rows: Vec<String> = workspace.column("SELECT id FROM s_r ORDER BY id");
    assert_eq!(rows, ["0 5", "1 13", "1 15", "1 3", "1 5", "2 13", "2 15", "2 3", "2 5"]);
}

#[test]
fn records_of_a_parent_whose_values_cannot_be_asked_for_do_not_keep_the_others_from_being_read() {
    let api = Api::start(|request: &Seen, _| {
        let slug = |n: u64| if n < 25 { String::new() } else { format!("s{n}") };
        match request.path() {
            "/issues" => {
                let issues: Vec<Value> = (0..30).map(|n| json!({"id": n, "n": n, "slug": slug(n)})).collect();
                answer(json!({"data": issues, "pages": 1}))
            }
            path => answer(json!({"data": [{"id": path}], "pages": 1})),
        }
    });
    let config = format!(
        "{HEAD}[sources.s.resources.issues]\nprimary_key = \"id\"\n[sources.s.resources.comments]\n{KEYED}\
         path = \"c/${{resources.issues.slug}}/${{resources.issues.n}}\"\n"
    );
    let workspace = Workspace::with_config(api.address, &config);
    workspace.sync(69);
    for _ in 0..2 {
        let report = workspace.sync(69);
        let error = report["resources"][1]["error"].as_str().unwrap();
        assert!(error.contains("is empty") && error.contains("(and 24 more partitions failed)"), "{error}");
        let rows: i64 = workspace.value("SELECT count(*) FROM s_comments");
        assert_eq!(rows, 5);
    }
}

#[test]
fn what_an_append_resource_has_read_is_not_appended_again_because_another_partition_failed() {
    let own = numbered(2, &format!("write_disposition = \"append\"\n{ASKED}"));
    let of_parent = format!(
        "{HEAD}[sources.s.resources.issues]\nprimary_key = \"id\"\n[sources.s.resources.r]\n\
         write_disposition = \"append\"\npath = \"r\"\nparams = {{ p = \"${{resources.issues.id}}\" }}\n"
    );
    for config in [own, of_parent] {
        let broken = Arc::new(Mutex::new(true));
        let refusing = Arc::clone(&broken);
        let api = Api::start(move |request: &Seen, _| {
            if request.path() == "/issues" {
                return answer(json!({"data": [{"id": 0}, {"id": 1}], "pages": 1}));
            }
            let p = partition_of(request);
            if p == 0 && *refusing.lock().unwrap() {
                return respond(500, &[], "");
            }
            answer(json!({"data": [{"id": p}], "pages": 1}))
        });
        let workspace = Workspace::with_config(api.address, &config);
        let ids = || workspace.column::<i64>("SELECT id FROM s_r ORDER BY id");
        workspace.sync(69);
        workspace.sync(69);
        assert_eq!(ids(), [1], "{config}");
        *broken.lock().unwrap() = false;
        workspace.sync(0);
        assert_eq!(ids(), [0, 1], "{config}");
        workspace.sync(0);
        assert_eq!(ids(), [0, 0, 1, 1], "each complete pass appends what it finds");
        workspace.check_books();
    }
}

#[test]
fn an_append_parent_that_starts_over_for_its_child_has_no_row_twice() {
    let api = Api::start(|request: &Seen, _| {
        if request.path() != "/r" {
            return answer(json!({"data": [{"id": request.path()}], "pages": 1}));
        }
        let p = partition_of(request);
        let page: u64 = request.param("page").map_or(1, |page| page.parse().unwrap());
        answer(json!({"data": [{"id": p as u64 * 10 + page}], "pages": p + 1}))
    });
    let config = |limit: &str| {
        let paging = format!("paginator = {{ type = \"page_number\", total_path = \"pages\"{limit} }}\n");
        let parent = numbered(2, &format!("{paging}write_disposition = \"append\"\n{ASKED}"));
        format!("{parent}[sources.s.resources.c]\npath = \"c/${{resources.r.id}}\"\n{KEYED}")
    };
    let workspace = Workspace::with_config(api.address, &config(", max_pages = 1"));
    assert_eq!(workspace.run(&["sync", "s.r"]).code, Some(75));
    let ids = || workspace.column::<i64>("SELECT id FROM s_r ORDER BY id");
    assert_eq!(ids(), [1, 11]);
    workspace.configure(api.address, &config(""));
    workspace.sync(0);
    assert_eq!(ids(), [1, 11, 12]);
    assert_eq!(workspace.column::<String>("SELECT id FROM s_c ORDER BY id"), ["/c/1", "/c/11", "/c/12"]);
    workspace.sync(0);
    assert_eq!(ids(), [1, 1, 11, 11, 12, 12], "a pass that is complete stays");
    workspace.check_books();
}

#[test]
fn a_backfill_knows_the_records_that_a_partial_parent_has_not_returned_again() {
    let changed = Arc::new(Mutex::new(false));
    let has_changed = Arc::clone(&changed);
    let api = Api::start(move |request: &Seen, _| {
        let bound = |name: &str, or: u64| request.param(name).map_or(or, |value| value.parse().unwrap());
        let (since, until) = (bound("since", 0), bound("until", u64::MAX));
        let Some(issue) = request.path().split('/').nth(2) else {
            let at = |n: u64| if n == 1 && *has_changed.lock().unwrap() { 9 } else { n };
            let issues = (1..=3).filter(|n| at(*n) >= since).map(|n| json!({"id": n, "at": at(n), "title": "x"}));
            return answer(json!({"data": issues.collect::<Vec<_>>(), "pages": 1}));
        };
        let comments = (5..7).filter(|at| *at >= since && *at < until);
        let comments = comments.map(|at| json!({"id": format!("{issue}/{at}"), "at": at}));
        answer(json!({"data": comments.collect::<Vec<_>>(), "pages": 1}))
    });
    let bounded = "params = { since = \"${incremental.start_value}\", until = \"${incremental.end_value}\" }\n\
                   incremental = { cursor_path = \"at\", initial_value = 10, end_value = 100 }";
    let workspace = Workspace::with_config(api.address, &tracker(SINCE, &format!("{KEYED}{bounded}")));
    workspace.sync(0);
    *changed.lock().unwrap() = true;
    workspace.sync(0);
    let finished = workspace.run(&["backfill", "s.comments", "--from", "0", "--to", "10"]);
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let found: Vec<String> = workspace.column("SELECT id FROM s_comments ORDER BY id");
    assert_eq!(found, ["1/5", "1/6", "2/5", "2/6", "3/5", "3/6"]);
}

#[test]
fn a_parent_field_that_no_record_has_is_an_error_and_one_that_some_lack_is_not() {
    let issues = Arc::new(Mutex::new(json!([{"id": 1, "at": 1}, {"id": 2, "at": 2}])));
    let served = Arc::clone(&issues);
    let api = Api::start(move |request: &Seen, _| match request.path() {
        "/issues" => answer(json!({"data": *served.lock().unwrap(), "pages": 1})),
        path => answer(json!({"data": [{"id": path}], "pages": 1})),
    });
    let named = |config: &str, field: &str| config.replace("issues.id", &format!("issues.{field}"));
    for (config, then) in parents().iter().zip([
        ", and then `highwater reset s.issues`",
        ", and then `highwater reset --drop-rows s.issues`",
        "",
    ]) {
        *issues.lock().unwrap() = json!([{"id": 1, "at": 1}, {"id": 2, "at": 2}]);
        let workspace = Workspace::with_config(api.address, &named(config, "nummer"));
        let report = workspace.sync(78);
        let expected = "s.comments: none of 2 records of s.issues has what is asked for with \
                        ${resources.issues.nummer}: correct the name of the field";
        assert_eq!(report["resources"][1]["error"], format!("{expected}{then}"));
        workspace.configure(api.address, config);
        let reset = then.rsplit("highwater ").next().unwrap().trim_end_matches('`');
        if !reset.is_empty() {
            let args: Vec<&str> = reset.split(' ').collect();
            assert_eq!(workspace.run(&args).code, Some(0));
        }
        workspace.sync(0);
        let rows: i64 = workspace.value("SELECT count(*) FROM s_comments");
        assert_eq!(rows, 2, "{config}");

        // That a record has none is no mistake, nor is null; nor that the last record that came lacks it.
        *issues.lock().unwrap() = json!([{"id": 1, "at": 1, "n": 1}, {"id": 2, "at": 2}]);
        let workspace = Workspace::with_config(api.address, &named(config, "n"));
        workspace.sync(0);
        *issues.lock().unwrap() = json!([{"id": 3, "at": 3, "n": null}]);
        workspace.sync(0);
        if config.contains("incremental") || config.contains("only_changed") {
            *issues.lock().unwrap() = json!([{"id": 4, "at": 4}]);
            workspace.sync(0);
        }
    }
}

#[test]
fn what_waits_for_a_request_that_is_no_longer_made_is_dropped_with_a_word() {
    let world = world(1);
    let api = issue_api(&world);
    let config = tracker(SINCE, KEYED);
    let workspace = Workspace::with_config(api.address, &config);
    world.lock().unwrap().refused = Some("comments");
    workspace.sync(69);
    world.lock().unwrap().refused = None;
    // The record itself does not come again.
    world.lock().unwrap().at = 0;
    workspace.configure(api.address, &config.replace("issues.id", "issues.at"));
    let finished = workspace.run(&["sync"]);
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert!(
        finished.stderr.contains("1 records of s.issues that were still to be read for are dropped")
            && finished.stderr.contains("`highwater reset s.issues`"),
        "{finished:#?}"
    );
    assert_eq!(workspace.run(&["reset", "s.issues"]).code, Some(0));
    let finished = workspace.run(&["sync"]);
    assert!(finished.code == Some(0) && !finished.stderr.contains("dropped"), "{finished:#?}");
    assert_eq!(comments(&workspace), ["1 old"]);
}
