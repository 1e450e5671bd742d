//! Parents: a resource is read once for every record that the read of another one returned.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::{Api, Seen, Workspace, json as answer, respond};

/// Repositories with issues with comments with reactions; issues come on pages of ten.
#[derive(Clone, Default)]
struct Tree(Arc<Mutex<BTreeMap<String, Vec<Issue>>>>, Arc<Mutex<BTreeSet<String>>>);

#[derive(Clone)]
struct Issue {
    number: u64,
    title: String,
    comments: u64,
}

impl Tree {
    fn new(repos: &[(&str, u64)]) -> Self {
        let tree = Self::default();
        for (repo, issues) in repos {
            let issue = |number| Issue { number, title: format!("title {number}"), comments: number % 3 };
            tree.0.lock().unwrap().insert((*repo).to_owned(), (1..=*issues).map(issue).collect());
        }
        tree
    }

    fn change(&self, repo: &str, change: impl FnOnce(&mut Vec<Issue>)) {
        change(self.0.lock().unwrap().get_mut(repo).unwrap());
    }

    /// Requests whose target contains this are refused.
    fn refuse(&self, part: &str) {
        self.1.lock().unwrap().insert(part.to_owned());
    }

    fn heal(&self) {
        self.1.lock().unwrap().clear();
    }

    fn answer(&self, request: &Seen) -> axum::response::Response {
        if self.1.lock().unwrap().iter().any(|part| request.target.contains(part.as_str())) {
            return respond(500, &[], "");
        }
        let tree = self.0.lock().unwrap();
        let path: Vec<&str> = request.path().trim_start_matches('/').split('/').collect();
        match path.as_slice() {
            ["repos"] => answer(json!(tree.keys().map(|name| json!({"name": name})).collect::<Vec<_>>())),
            [repo, "issues"] => {
                let page: usize = request.param("page").map_or(1, |page| page.parse().unwrap());
                let issue = |issue: &Issue| json!({"number": issue.number, "title": issue.title, "repo": repo});
                let issues: Vec<Value> = tree[*repo].iter().skip((page - 1) * 10).take(10).map(issue).collect();
                answer(json!(issues))
            }
            [repo, "issues", number, "comments"] => {
                let number: u64 = number.parse().unwrap();
                let Some(issue) = tree[*repo].iter().find(|issue| issue.number == number) else {
                    return respond(404, &[], "");
                };
                let comment = |n: u64| json!({"id": format!("{repo}/{number}/{n}"), "n": n});
                answer(json!((0..issue.comments).map(comment).collect::<Vec<_>>()))
            }
            ["comments", repo, number, n, "reactions"] => {
                answer(json!([{"id": format!("{repo}/{number}/{n}/+1"), "content": "+1"}]))
            }
            _ => respond(404, &[], request.target.clone()),
        }
    }

    fn api(&self) -> Api {
        let tree = self.clone();
        Api::start(move |request: &Seen, _| tree.answer(request))
    }
}

const HUB: &str = r#"
[sources.hub.client]
base_url = "BASE"
retry = { max_attempts = 1 }
[sources.hub.resources.issues]
path = "${partition.repo}/issues"
partitions = [{ repo = "a" }, { repo = "b" }]
primary_key = ["repo", "number"]
paginator = { type = "page_number" }
[sources.hub.resources.comments]
path = "${partition.repo}/issues/${resources.issues.number}/comments"
primary_key = "id"
paginator = { type = "single_page" }
"#;

fn expected(tree: &Tree) -> Vec<String> {
    let tree = tree.0.lock().unwrap();
    let comments = tree.iter().flat_map(|(repo, issues)| {
        issues.iter().flat_map(move |issue| (0..issue.comments).map(move |n| format!("{repo}/{}/{n}", issue.number)))
    });
    comments.collect::<BTreeSet<_>>().into_iter().collect()
}

fn comments(workspace: &Workspace) -> Vec<String> {
    workspace.column("SELECT id FROM hub_comments ORDER BY id")
}

/// How often comments were asked for since `before` requests, by issue.
fn asked_for_comments(api: &Api, before: usize) -> Vec<String> {
    let seen = api.seen();
    let mut asked: Vec<String> = seen[before..]
        .iter()
        .map(|request| request.target.clone())
        .filter(|target| target.ends_with("comments"))
        .collect();
    asked.sort();
    asked
}

#[test]
fn a_child_is_read_once_for_every_record_of_its_parent_in_every_partition() {
    let tree = Tree::new(&[("a", 25), ("b", 4)]);
    let api = tree.api();
    let workspace = Workspace::with_config(
        api.address,
        &format!("{HUB}concurrency = 4\ninclude_from_parent = [\"title\", \"missing\"]\n"),
    );
    workspace.sync(0);
    assert_eq!(comments(&workspace), expected(&tree));
    assert_eq!(asked_for_comments(&api, 0).len(), 29);
    let titles: Vec<String> =
        workspace.column("SELECT DISTINCT _issues_title FROM hub_comments WHERE id LIKE 'a/17/%'");
    assert_eq!(titles, ["title 17"]);
    workspace.check_books();

    // The next run reads it again for every record, and takes what has changed.
    tree.change("b", |issues| issues[0].comments = 5);
    tree.change("b", |issues| drop(issues.pop()));
    let before = api.seen().len();
    workspace.sync(0);
    assert_eq!(asked_for_comments(&api, before).len(), 28);
    assert_eq!(workspace.value::<i64>("SELECT count(*) FROM hub_comments WHERE id LIKE 'b/1/%'"), 5);
    assert_eq!(workspace.value::<i64>("SELECT count(*) FROM _hw_checkpoints WHERE resource = 'comments'"), 28);
    workspace.check_books();
}

#[test]
fn naming_only_the_child_reads_its_parents_too() {
    let tree = Tree::new(&[("a", 3), ("b", 1)]);
    let api = tree.api();
    let workspace = Workspace::with_config(api.address, HUB);
    assert_eq!(workspace.run(&["sync", "hub.comments"]).code, Some(0));
    assert_eq!(comments(&workspace), expected(&tree));
}

#[test]
fn only_changed_skips_parents_whose_row_is_unchanged() {
    let tree = Tree::new(&[("a", 12), ("b", 2)]);
    let api = tree.api();
    let workspace = Workspace::with_config(api.address, &format!("{HUB}parent = {{ only_changed = true }}\n"));
    workspace.sync(0);
    assert_eq!(asked_for_comments(&api, 0).len(), 14);
    let before = api.seen().len();
    workspace.sync(0);
    assert_eq!(asked_for_comments(&api, before), Vec::<String>::new());
    tree.change("a", |issues| {
        issues[4].title = "new title".to_owned();
        issues[4].comments = 7;
    });
    tree.change("b", |issues| issues.push(Issue { number: 99, title: "new".to_owned(), comments: 2 }));
    let before = api.seen().len();
    workspace.sync(0);
    assert_eq!(asked_for_comments(&api, before), ["/a/issues/5/comments", "/b/issues/99/comments"]);
    assert_eq!(comments(&workspace), expected(&tree));
    workspace.check_books();
}

#[test]
fn a_parent_without_a_page_is_passed_over_as_the_response_actions_say() {
    let tree = Tree::new(&[("a", 3), ("b", 1)]);
    let gone = tree.clone();
    let api =
        Api::start(
            move |request: &Seen, _| {
                if request.path() == "/a/issues/2/comments" { respond(404, &[], "") } else { gone.answer(request) }
            },
        );
    let workspace = Workspace::with_config(api.address, HUB);
    let report = workspace.sync(69);
    let error = report["resources"][1]["error"].as_str().unwrap();
    assert!(error.starts_with("hub.comments (issues.number=2, repo=a): first page: "), "{error}");
    let ignoring = format!("{HUB}response_actions = [{{ status_code = [404, 410], action = \"ignore\" }}]\n");
    let workspace = Workspace::with_config(api.address, &ignoring);
    workspace.sync(0);
    assert!(comments(&workspace).iter().all(|id| !id.starts_with("a/2/")));
}

#[test]
fn an_interrupted_child_goes_on_with_the_records_that_are_left() {
    for when in ["/a/issues/17/comments", "/a/issues?page=3"] {
        let tree = Tree::new(&[("a", 25), ("b", 12)]);
        let api = tree.api();
        let workspace = Workspace::with_config(api.address, HUB);
        tree.refuse(when);
        let report = workspace.sync(69);
        let failing = if when.contains("comments") { 1 } else { 0 };
        assert_eq!(report["resources"][failing]["outcome"], "failed", "{report:#}");
        if failing == 0 {
            assert_eq!(report["resources"][1]["outcome"], "incomplete");
            let error = report["resources"][1]["error"].as_str().unwrap();
            assert!(error.contains("its parent hub.issues was not read to its end"), "{error}");
        }
        tree.heal();
        workspace.sync(0);
        assert_eq!(comments(&workspace), expected(&tree), "{when}");
        workspace.check_books();
    }
}

#[test]
fn a_child_that_is_killed_finds_the_records_of_pages_that_are_not_read_again() {
    let tree = Tree::new(&[("a", 25), ("b", 1)]);
    let slow = tree.clone();
    let (gate, barrier) = crate::pages::gate();
    let api = Api::start(move |request: &Seen, _| {
        if request.path().ends_with("/comments") {
            barrier.wait();
        }
        slow.answer(request)
    });
    let workspace = Workspace::with_config(api.address, HUB);
    let child = workspace.spawn(&["sync"]);
    crate::pages::until("all issues are stored", || {
        let path = workspace.path("highwater.db");
        path.exists()
            && rusqlite::Connection::open(path)
                .and_then(|db| db.query_row("SELECT count(*) FROM hub_issues", [], |row| row.get::<_, i64>(0)))
                .is_ok_and(|issues| issues == 26)
    });
    crate::support::signal(&child, rustix::process::Signal::KILL);
    crate::support::finish(child);
    drop(gate);
    workspace.sync(0);
    assert_eq!(comments(&workspace), expected(&tree));
    workspace.check_books();
}

#[test]
fn children_nest_to_any_depth_and_use_what_is_above_them() {
    let tree = Tree::new(&[("a", 5), ("b", 2)]);
    let api = tree.api();
    let config = r#"
[sources.hub.client]
base_url = "BASE"
paginator = { type = "single_page" }
[sources.hub.resources.reactions]
path = "comments/${resources.repos.name}/${resources.issues.number}/${resources.comments.n}/reactions"
primary_key = "id"
include_from_parent = ["id"]
[sources.hub.resources.comments]
path = "${resources.repos.name}/issues/${resources.issues.number}/comments"
primary_key = "id"
[sources.hub.resources.issues]
path = "${resources.repos.name}/issues"
primary_key = ["repo", "number"]
[sources.hub.resources.repos]
primary_key = "name"
"#;
    let workspace = Workspace::with_config(api.address, config);
    workspace.sync(0);
    let reactions: Vec<String> = workspace.column("SELECT id FROM hub_reactions ORDER BY id");
    let wanted: Vec<String> = expected(&tree).iter().map(|comment| format!("{comment}/+1")).collect();
    assert_eq!(reactions, wanted);
    let parents: i64 =
        workspace.value("SELECT count(*) FROM hub_reactions r JOIN hub_comments c ON c.id = r._comments_id");
    assert_eq!(parents, wanted.len() as i64);
    workspace.check_books();
}

#[test]
fn a_record_cannot_lead_a_child_to_another_place() {
    let api = Api::start(|request: &Seen, _| match request.path() {
        "/names" => answer(json!([{"name": "fine"}, {"name": "../secret"}, {"name": "a?b=c#d"}, {"name": null}])),
        _ => answer(json!([{"path": request.target}])),
    });
    let config = r#"
[sources.s.client]
base_url = "BASE"
paginator = { type = "single_page" }
[sources.s.resources.names]
[sources.s.resources.details]
path = "details/${resources.names.name}"
"#;
    let workspace = Workspace::with_config(api.address, config);
    let report = workspace.sync(69);
    let error = report["resources"][1]["error"].as_str().unwrap();
    assert!(error.contains("has `.` or `..` as a part"), "{error}");
    let paths: Vec<String> = workspace.column("SELECT path FROM s_details ORDER BY path");
    assert_eq!(paths, ["/details/a%3Fb%3Dc%23d", "/details/fine"]);
    assert_eq!(api.seen().len(), 3);
}

/// Issues with a cursor, whose comments can be refused.
const CHANGES: &str = r#"
[sources.hub.client]
base_url = "BASE"
retry = { max_attempts = 1 }
paginator = { type = "single_page" }
[sources.hub.resources.issues]
primary_key = "number"
incremental = { cursor_path = "at" }
params = { since = "${incremental.start_value}" }
[sources.hub.resources.comments]
path = "issues/${resources.issues.number}/comments"
primary_key = "id"
"#;

#[test]
fn what_a_child_has_left_to_read_is_read_by_the_next_run_although_its_parent_moves_on() {
    let broken = Arc::new(Mutex::new(true));
    let refusing = Arc::clone(&broken);
    let api = Api::start(move |request: &Seen, _| {
        let since: u64 = request.param("since").map_or(0, |since| since.parse().unwrap());
        match request.path().split('/').nth(2) {
            None => answer(json!(
                (1..=3).filter(|n| *n >= since).map(|n| json!({"number": n, "at": n})).collect::<Vec<_>>()
            )),
            Some("2") if *refusing.lock().unwrap() => respond(500, &[], ""),
            Some(number) => answer(json!([{"id": number}])),
        }
    });
    let workspace = Workspace::with_config(api.address, CHANGES);
    workspace.sync(69);
    assert_eq!(comments(&workspace), ["1", "3"]);
    *broken.lock().unwrap() = false;
    workspace.sync(0);
    assert_eq!(comments(&workspace), ["1", "2", "3"], "its parent does not return it again");
}

#[test]
fn an_unchanged_parent_is_asked_for_its_records_all_the_same() {
    let api = Api::start(|request: &Seen, number| {
        if request.path() == "/issues" {
            return match request.headers.get("if-none-match") {
                Some(_) => respond(304, &[("etag", "\"x\"")], ""),
                None => respond(200, &[("etag", "\"x\"")], r#"[{"number": 1}]"#),
            };
        }
        answer(json!([{"id": number}]))
    });
    let text = CHANGES
        .replace("incremental = { cursor_path = \"at\" }\nparams = { since = \"${incremental.start_value}\" }\n", "")
        .replace("retry =", "conditional_requests = true\nretry =")
        + "write_disposition = \"replace\"\n";
    let workspace = Workspace::with_config(api.address, &text);
    workspace.sync(0);
    workspace.sync(0);
    assert_eq!(workspace.column::<i64>("SELECT id FROM hub_comments"), [3], "the second answer to the child");

    // Alone it need not come again.
    assert_eq!(workspace.run(&["sync", "hub.issues"]).code, Some(0));
    assert!(api.seen().last().unwrap().headers.contains_key("if-none-match"));
}

#[test]
fn a_child_whose_parent_returns_only_what_is_new_cannot_be_replaced() {
    let api = Api::start(|_, _| respond(500, &[], ""));
    let workspace = Workspace::with_config(api.address, &format!("{CHANGES}write_disposition = \"replace\"\n"));
    let finished = workspace.run(&["check"]);
    assert_eq!(finished.code, Some(78), "{finished:#?}");
    assert!(finished.stderr.contains("needs every record of the parents"), "{finished:#?}");
}

/// Issues 1 to 3 with comments that say the issue's title; those of issue 2 are on two pages.
fn titled(titles: &Arc<Mutex<[(u64, &'static str); 3]>>) -> Api {
    let titles = Arc::clone(titles);
    Api::start(move |request: &Seen, _| {
        let titles = titles.lock().unwrap();
        let Some(number) = request.path().split('/').nth(2) else {
            let since: u64 = request.param("since").map_or(1, |since| since.parse().unwrap());
            let issues = titles.iter().zip(1..).filter(|((at, _), _)| *at >= since);
            let issues = issues.map(|((at, title), number)| json!({"number": number, "at": at, "title": title}));
            return answer(json!(issues.collect::<Vec<_>>()));
        };
        let page = request.param("page").unwrap_or_else(|| "1".to_owned());
        let title = titles[number.parse::<usize>().unwrap() - 1].1;
        let pages = if number == "2" { 2 } else { 1 };
        answer(json!({"pages": pages, "data": [{"id": format!("{number}/{page}"), "text": title}]}))
    })
}

#[test]
fn a_record_that_changes_while_the_pass_of_a_child_is_open_is_read_for_again() {
    let full = CHANGES
        .replace("incremental = { cursor_path = \"at\" }\nparams = { since = \"${incremental.start_value}\" }\n", "");
    let append = full.replace("primary_key = \"id\"", "write_disposition = \"append\"");
    let changed = "parent = { only_changed = true }\n";
    for (config, more, asked, texts) in [
        (CHANGES, "", "2 1 3", "1/1 new, 2/1 b, 2/2 b, 3/1 c"),
        (CHANGES, changed, "2 1", "1/1 new, 2/1 b, 2/2 b, 3/1 c"),
        (&full, "", "2 1", "1/1 new, 2/1 b, 2/2 b, 3/1 c"),
        (&append, "", "2 1", "1/1 a, 1/1 new, 2/1 b, 2/2 b, 3/1 c"),
        // A generation has each record once.
        (&full, "write_disposition = \"replace\"\n", "2", "1/1 a, 2/1 b, 2/2 b, 3/1 c"),
    ] {
        let titles = Arc::new(Mutex::new([(1, "a"), (2, "b"), (3, "c")]));
        let api = titled(&titles);
        let paged = |limit: &str| {
            let paginator = format!("paginator = {{ type = \"page_number\", total_path = \"pages\"{limit} }}");
            format!("{config}{more}data_selector = \"data\"\n{paginator}\n")
        };
        let workspace = Workspace::with_config(api.address, &paged(", max_pages = 1"));
        workspace.sync(75);
        titles.lock().unwrap()[0] = (4, "new");
        workspace.configure(api.address, &paged(""));
        let before = api.seen().len();
        workspace.sync(0);
        let seen = api.seen();
        let again = seen[before..].iter().filter_map(|request| request.path().split('/').nth(2));
        assert_eq!(again.collect::<Vec<_>>().join(" "), asked, "{config}{more}");
        let stored: Vec<String> = workspace.column("SELECT id || ' ' || text FROM hub_comments ORDER BY id, text");
        assert_eq!(stored.join(", "), texts, "{config}{more}");
        workspace.check_books();
    }
}

#[test]
fn what_a_parent_does_not_return_again_waits_for_children_that_are_not_read_with_it() {
    let titles = Arc::new(Mutex::new([(1, "a"), (0, ""), (0, "")]));
    let api = titled(&titles);
    let config = format!("{CHANGES}data_selector = \"data\"\n")
        + "[sources.hub.resources.reactions]\npath = \"reactions/${resources.comments.id}\"\nprimary_key = \"id\"\n\
           data_selector = \"data\"\n";
    let workspace = Workspace::with_config(api.address, &config);
    let sync = |what: &str, code: i32| {
        let before = api.seen().len();
        let finished = workspace.run(&["sync", what]);
        assert_eq!(finished.code, Some(code), "{finished:#?}");
        let seen = api.seen().into_iter().skip(before);
        let mut asked: Vec<String> =
            seen.map(|request| request.path().to_owned()).filter(|path| path != "/issues").collect();
        // The last record of a cursor comes with every read: what waits for it may be read before it comes, and then again.
        asked.dedup();
        asked
    };
    let comments_of = |numbers: &[u64]| numbers.iter().map(|n| format!("/issues/{n}/comments")).collect::<Vec<_>>();
    assert_eq!(sync("hub.issues", 0), comments_of(&[]), "before it has ever been read");
    titles.lock().unwrap()[0] = (0, "");
    titles.lock().unwrap()[1] = (2, "b");
    assert_eq!(sync("hub.issues", 0), comments_of(&[]));
    assert_eq!(sync("hub.comments", 0), comments_of(&[1, 2]));
    // Its pass is complete.
    titles.lock().unwrap()[1] = (0, "");
    titles.lock().unwrap()[2] = (3, "c");
    assert_eq!(sync("hub.issues", 0), comments_of(&[]));
    titles.lock().unwrap()[2] = (0, "");
    assert_eq!(sync("hub.comments", 0), comments_of(&[3]));
    // And its own children have waited all the time.
    let reactions: Vec<String> = sync("hub.reactions", 0);
    assert_eq!(reactions, ["/reactions/1/1", "/reactions/2/1", "/reactions/3/1"]);
    let left: i64 = workspace.value("SELECT count(*) FROM _hw_checkpoints WHERE state <> 'complete'");
    assert_eq!(left, 0);
    workspace.check_books();
}

#[test]
fn nothing_waits_for_children_that_find_every_record_when_they_are_read() {
    let api = titled(&Arc::new(Mutex::new([(1, "a"), (2, "b"), (3, "c")])));
    let full = CHANGES
        .replace("incremental = { cursor_path = \"at\" }\nparams = { since = \"${incremental.start_value}\" }\n", "");
    let workspace = Workspace::with_config(api.address, &full);
    assert_eq!(workspace.run(&["sync", "hub.issues"]).code, Some(0));
    let queued: i64 = workspace.value("SELECT count(*) FROM _hw_checkpoints WHERE resource = 'comments'");
    assert_eq!(queued, 0);
}

#[test]
fn a_parent_that_was_interrupted_without_its_child_starts_over_with_it() {
    for disposition in ["merge", "append", "replace"] {
        let tree = Tree::new(&[("a", 25), ("b", 4)]);
        let api = tree.api();
        let config = HUB.replace(
            "paginator = { type = \"page_number\" }",
            &format!("paginator = {{ type = \"page_number\" }}\nwrite_disposition = \"{disposition}\""),
        );
        let workspace = Workspace::with_config(api.address, &config);
        tree.refuse("/a/issues?page=3");
        assert_eq!(workspace.run(&["sync", "hub.issues"]).code, Some(69));
        tree.heal();
        workspace.sync(0);
        assert_eq!(comments(&workspace), expected(&tree), "{disposition}");
        let numbers: Vec<i64> = workspace.column("SELECT number FROM hub_issues WHERE repo = 'a' ORDER BY number");
        assert_eq!(numbers, (1..=25).collect::<Vec<_>>(), "{disposition}");
        workspace.check_books();
    }
}

#[test]
fn an_open_pass_of_a_child_has_the_pages_that_its_parent_read_without_it() {
    let tree = Tree::new(&[("a", 45), ("b", 1)]);
    let api = tree.api();
    let workspace = Workspace::with_config(api.address, HUB);
    for (selection, page) in [("hub", 3), ("hub.issues", 5)] {
        tree.heal();
        tree.refuse(&format!("/a/issues?page={page}"));
        assert_eq!(workspace.run(&["sync", selection]).code, Some(69));
    }
    tree.heal();
    let report = workspace.sync(0);
    assert_eq!(report["resources"][0]["resumed_at"], "page 5");
    assert_eq!(comments(&workspace), expected(&tree));
    workspace.check_books();
}

#[test]
fn a_partition_that_always_fails_does_not_send_an_interrupted_parent_back_to_its_beginning() {
    let tree = Tree::new(&[("a", 25), ("b", 1)]);
    let api = tree.api();
    let limited = "paginator = { type = \"page_number\", max_pages = 1 }";
    let workspace =
        Workspace::with_config(api.address, &HUB.replace("paginator = { type = \"page_number\" }", limited));
    tree.refuse("/a/issues/1/comments");
    let resumed: Vec<Value> = (1..=3).map(|_| workspace.sync(69)["resources"][0]["resumed_at"].clone()).collect();
    assert_eq!(resumed, [Value::Null, json!("page 2"), json!("page 3")]);
    tree.heal();
    workspace.sync(0);
    assert_eq!(comments(&workspace), expected(&tree));
}

#[test]
fn a_child_that_cannot_begin_does_not_lose_what_its_parent_brings() {
    let titles = Arc::new(Mutex::new([(1, "a"), (2, "b"), (0, "")]));
    let api = titled(&titles);
    let workspace = Workspace::with_config(api.address, &format!("{CHANGES}data_selector = \"data\"\n"));
    let user = rusqlite::Connection::open(workspace.path("highwater.db")).unwrap();
    assert_eq!(workspace.run(&["sync", "hub.issues"]).code, Some(0));
    user.execute_batch("CREATE TABLE hub_comments (mine TEXT)").unwrap();
    titles.lock().unwrap()[2] = (4, "c");
    let report = workspace.sync(78);
    let outcomes: Vec<&Value> = report["resources"].as_array().unwrap().iter().map(|one| &one["outcome"]).collect();
    assert_eq!(outcomes, ["complete", "failed"]);
    user.execute_batch("DROP TABLE hub_comments").unwrap();
    titles.lock().unwrap()[2] = (0, "c");
    workspace.sync(0);
    assert_eq!(workspace.column::<String>("SELECT text FROM hub_comments ORDER BY id"), ["a", "b", "c"]);
}

#[test]
fn a_record_of_which_only_a_list_has_changed_has_changed() {
    let lines = Arc::new(Mutex::new(json!([{"n": 1}])));
    let served = Arc::clone(&lines);
    let api = Api::start(move |request: &Seen, _| match request.path() {
        "/issues" => answer(json!([{"number": 1, "lines": *served.lock().unwrap()}, {"number": 2}])),
        path => answer(json!([{"id": path}])),
    });
    let config = "[sources.hub.client]\nbase_url = \"BASE\"\npaginator = { type = \"single_page\" }\n\
                  [sources.hub.resources.issues]\nprimary_key = \"number\"\nmax_table_nesting = 1\n\
                  [sources.hub.resources.comments]\npath = \"issues/${resources.issues.number}/comments\"\n\
                  primary_key = \"id\"\nparent = { only_changed = true }\n";
    let workspace = Workspace::with_config(api.address, config);
    workspace.sync(0);
    *lines.lock().unwrap() = json!([{"n": 2}]);
    let before = api.seen().len();
    workspace.sync(0);
    assert_eq!(asked_for_comments(&api, before), ["/issues/1/comments"]);
}

#[test]
fn nothing_is_read_for_records_that_are_no_rows_of_the_parents_table() {
    let records = Arc::new(Mutex::new(json!([{"id": 1, "name": "a"}])));
    let served = Arc::clone(&records);
    let api = Api::start(move |request: &Seen, _| match request.path() {
        "/names" => answer(served.lock().unwrap().clone()),
        path => answer(json!([{"path": path}])),
    });
    for contract in ["quarantine", "discard_row"] {
        *records.lock().unwrap() = json!([{"id": 1, "name": "a"}]);
        let config = format!(
            "[sources.s.client]\nbase_url = \"BASE\"\npaginator = {{ type = \"single_page\" }}\n\
             [sources.s.resources.names]\nprimary_key = \"id\"\nschema_contract = {{ columns = \"{contract}\" }}\n\
             [sources.s.resources.details]\npath = \"details/${{resources.names.name}}\"\n"
        );
        let workspace = Workspace::with_config(api.address, &config);
        workspace.sync(0);
        *records.lock().unwrap() = json!([{"id": 1, "name": "a"}, {"id": 2, "name": "wide", "new": 1}, {"name": "keyless"}, {"id": 3, "name": "b"}]);
        let before = api.seen().len();
        workspace.sync(0);
        let asked: Vec<String> = api.seen()[before..].iter().map(|request| request.target.clone()).collect();
        assert_eq!(asked, ["/names", "/details/a", "/details/b"], "{contract}");
        *records.lock().unwrap() = json!([{"name": "keyless"}]);
        let before = api.seen().len();
        workspace.sync(65);
        assert_eq!(api.seen().len(), before + 1, "no row at all");
    }
}

#[test]
fn an_empty_value_does_not_make_another_path() {
    let api = Api::start(|request: &Seen, _| match request.path() {
        "/names" => answer(json!([{"name": "fine"}, {"name": ""}])),
        _ => answer(json!([{"path": request.target}])),
    });
    let config = "[sources.s.client]\nbase_url = \"BASE\"\npaginator = { type = \"single_page\" }\n\
                  [sources.s.resources.names]\n[sources.s.resources.details]\n\
                  path = \"details/${resources.names.name}/all\"\n";
    let workspace = Workspace::with_config(api.address, config);
    let report = workspace.sync(69);
    let error = report["resources"][1]["error"].as_str().unwrap();
    assert!(error.contains("the value for ${resources.names.name} in its path is empty"), "{error}");
    assert_eq!(workspace.column::<String>("SELECT path FROM s_details"), ["/details/fine/all"]);
    assert_eq!(api.seen().len(), 2);
}
