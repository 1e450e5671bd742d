//! Promise 3: an interrupted read goes on at the very next page, or starts over and says why.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::response::Response;
use serde_json::{Value, json};

use crate::pagination::{config, ids, up_to};
use crate::support::{Api, Seen, Workspace, json as answer, records, respond};

/// An API of 25 records, 10 on a page, whose pages can be found in every way at once, and which can be told to refuse.
struct Items {
    api: Api,
    refused: Arc<Mutex<Option<(u64, u16)>>>,
    /// Of the requests seen, those that an earlier look has taken.
    looked_at: AtomicUsize,
}

impl Items {
    fn start() -> Self {
        let refused: Arc<Mutex<Option<(u64, u16)>>> = Arc::default();
        let refusal = Arc::clone(&refused);
        let api = Api::start(move |request, _| {
            let first = first_record(request);
            match *refusal.lock().unwrap() {
                Some((at, status)) if at == first => respond(status, &[], json!({"message": "no"}).to_string()),
                _ => page(first),
            }
        });
        Self { api, refused, looked_at: AtomicUsize::new(0) }
    }

    /// The page that begins at this record is answered with this status from now on.
    fn refuse(&self, first: u64, status: u16) {
        *self.refused.lock().unwrap() = Some((first, status));
    }

    fn heal(&self) {
        *self.refused.lock().unwrap() = None;
    }

    /// The first records of the pages that were asked for since the last look.
    fn new_requests(&self) -> Vec<u64> {
        let seen = self.api.seen();
        let from = self.looked_at.swap(seen.len(), Ordering::Relaxed);
        seen[from..].iter().map(first_record).collect()
    }
}

/// What a request asks for, by whichever of the ways.
fn first_record(request: &Seen) -> u64 {
    let body: Value = serde_json::from_str(&request.body).unwrap_or_default();
    let number = |name: &str| request.param(name).and_then(|text| text.parse::<u64>().ok());
    let token = request.param("after").or_else(|| Some(request.headers.get("x-cursor")?.to_str().unwrap().to_owned()));
    let token = token.or_else(|| body["after"].as_str().map(str::to_owned));
    token
        .map(|token| token.trim_start_matches('t').parse().unwrap())
        .or_else(|| number("offset"))
        .or_else(|| number("last").map(|last| last + 1))
        .or_else(|| number("page").map(|page| (page - 1) * 10))
        .unwrap_or(0)
}

fn page(first: u64) -> Response {
    let next = first + 10;
    let more = next < 25;
    let body = json!({
        "items": records(first.min(25)..next.min(25)),
        "next": more.then(|| format!("t{next}")),
        "next_url": more.then(|| format!("/items?after=t{next}")),
        "more": more,
    });
    let (link, token) =
        if more { (format!("</items?after=t{next}>; rel=next"), format!("t{next}")) } else { Default::default() };
    respond(200, &[("link", &link), ("x-next", &token)], body.to_string())
}

const BY_OFFSET: &str = "paginator = { type = \"offset\", limit = 10 }";

fn resource(paginator: &str) -> String {
    config("", &format!("data_selector = \"items\"\n{paginator}"))
}

/// The same as an append resource or a replace resource.
fn without_key(text: &str) -> String {
    text.replace("primary_key = \"id\"", "")
}

fn replaced(text: &str) -> String {
    text.replace("primary_key = \"id\"", "primary_key = \"id\"\nwrite_disposition = \"replace\"")
}

/// Merge, append, and replace with and without a key.
fn every_disposition(text: &str) -> [String; 4] {
    let unkeyed = text.replace("primary_key = \"id\"", "write_disposition = \"replace\"");
    [text.to_owned(), without_key(text), replaced(text), unkeyed]
}

fn edit(workspace: &Workspace, sql: &str) {
    let db = rusqlite::Connection::open(workspace.path("highwater.db")).unwrap();
    assert_eq!(db.execute(sql, []).unwrap(), 1, "{sql}");
}

fn first(report: &Value) -> &Value {
    &report["resources"][0]
}

#[test]
fn every_kind_of_paging_goes_on_at_the_page_that_failed() {
    for (paginator, resumed_at, requests) in [
        ("paginator = { type = \"header_link\" }", "page at /items?after=t20", &[20][..]),
        ("paginator = { type = \"json_link\", next_url_path = \"next_url\" }", "page at /items?after=t20", &[20]),
        (
            "paginator = { type = \"header_cursor\", header = \"x-next\", cursor_param = \"after\" }",
            "page at cursor t20",
            &[20],
        ),
        (
            "paginator = { type = \"cursor\", cursor_path = \"next\", cursor_param = \"after\" }",
            "page at cursor t20",
            &[20],
        ),
        (
            "paginator = { type = \"cursor\", cursor_path = \"next\", cursor_header = \"x-cursor\" }",
            "page at cursor t20",
            &[20],
        ),
        (
            "method = \"POST\"\njson = { q = 1 }\n\
             paginator = { type = \"cursor\", cursor_path = \"next\", cursor_body_path = \"after\" }",
            "page at cursor t20",
            &[20],
        ),
        (
            "paginator = { type = \"cursor\", cursor_from = \"last_record.id\", cursor_param = \"last\", has_more_path = \"more\" }",
            "page at cursor 19",
            &[20],
        ),
        (BY_OFFSET, "offset 20", &[20, 25]),
        ("paginator = { type = \"page_number\" }", "page 3", &[20, 30]),
        ("paginator = { type = \"page_number\" }\nconcurrency = 3", "page 3", &[20, 30, 40, 50]),
        ("", "page at /items?after=t20", &[20]),
    ] {
        // A table without a key would show a page that came twice.
        let text = without_key(&resource(paginator));
        let items = Items::start();
        let workspace = Workspace::with_config(items.api.address, &text);
        items.refuse(20, 500);
        let report = workspace.sync(69);
        assert_eq!(first(&report)["outcome"], "failed", "{paginator}");
        assert_eq!(ids(&workspace), up_to(20), "{paginator}");
        items.new_requests();
        items.heal();
        let report = workspace.sync(0);
        assert_eq!(first(&report)["resumed_at"], resumed_at, "{paginator}");
        assert_eq!(first(&report)["started_over"], Value::Null, "{paginator}");
        assert_eq!(first(&report)["records"]["inserted"], 5, "{paginator}");
        let mut asked = items.new_requests();
        asked.sort_unstable(); // Those in flight together may come in any order.
        assert!(asked.len() <= requests.len() && asked == requests[..asked.len()], "{paginator}: {asked:?}");
        assert_eq!(ids(&workspace), up_to(25), "{paginator}");
        assert_eq!(workspace.value::<i64>("SELECT count(DISTINCT read_id) FROM _hw_pages"), 1, "one read in two runs");
        workspace.check_books();
    }
}

#[test]
fn a_complete_read_is_followed_by_a_new_one() {
    let items = Items::start();
    let workspace = Workspace::with_config(items.api.address, &resource(BY_OFFSET));
    for _ in 0..2 {
        let report = workspace.sync(0);
        assert_eq!((&first(&report)["resumed_at"], &first(&report)["started_over"]), (&Value::Null, &Value::Null));
        assert_eq!(items.new_requests(), [0, 10, 20, 25]);
    }
    assert_eq!(workspace.value::<i64>("SELECT count(DISTINCT read_id) FROM _hw_pages"), 2);
}

/// Leaves a read at its third page.
fn interrupted(text: &str) -> (Items, Workspace) {
    let items = Items::start();
    let workspace = Workspace::with_config(items.api.address, text);
    items.refuse(20, 500);
    workspace.sync(69);
    items.heal();
    items.new_requests();
    (items, workspace)
}

#[test]
fn p14_a_position_that_no_longer_means_the_same_is_given_up_and_the_report_says_why() {
    type Change = fn(&Items, &Workspace, &str);
    let cases: [(&str, Change, &str); 5] = [
        (
            "changed params",
            |items, workspace, text| {
                workspace.configure(items.api.address, &format!("{text}\nparams = {{ q = \"new\" }}"));
            },
            "request has changed",
        ),
        (
            "changed paging",
            |items, workspace, text| {
                workspace.configure(
                    items.api.address,
                    &text.replace("limit = 10", "limit = 10, stop_on_short_page = false, total_path = \"total\""),
                );
            },
            "request has changed",
        ),
        (
            "too old",
            |_, workspace, _| {
                edit(
                    workspace,
                    "UPDATE _hw_checkpoints SET updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-25 hours')",
                );
            },
            "resume_within (1d)",
        ),
        (
            "shorter patience",
            |items, workspace, text| {
                workspace.configure(items.api.address, &format!("{text}\nresume_within = \"1h\""));
                edit(
                    workspace,
                    "UPDATE _hw_checkpoints SET updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-61 minutes')",
                );
            },
            "resume_within (1h)",
        ),
        (
            "nonsense",
            |_, workspace, _| {
                edit(workspace, "UPDATE _hw_checkpoints SET position = '{\"at\":\"nowhere\"}'");
            },
            "does not fit its paginator",
        ),
    ];
    let all = every_disposition(&resource(BY_OFFSET));
    for ((name, change, reason), text) in cases.into_iter().zip(all.iter().cycle()) {
        let (items, workspace) = interrupted(text);
        change(&items, &workspace, text);
        let report = workspace.sync(0);
        let said = first(&report)["started_over"].as_str().unwrap_or_else(|| panic!("{name}: {report:#}"));
        assert!(said.contains(reason), "{name}: {said}");
        assert_eq!(first(&report)["resumed_at"], Value::Null, "{name}");
        assert_eq!(items.new_requests()[..3], [0, 10, 20], "{name}");
        assert_eq!(ids(&workspace), up_to(25), "{name}: the rows of the abandoned read are not doubled");
        workspace.check_books();
    }
}

#[test]
fn p14_a_position_younger_than_resume_within_is_gone_on_with() {
    let (items, workspace) = interrupted(&resource(BY_OFFSET));
    edit(&workspace, "UPDATE _hw_checkpoints SET updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-23 hours')");
    assert_eq!(first(&workspace.sync(0))["resumed_at"], "offset 20");
    assert_eq!(items.new_requests(), [20, 25]);
}

#[test]
fn a_replaced_table_keeps_its_rows_until_the_new_ones_are_complete() {
    let text = replaced(&resource(BY_OFFSET));
    let items = Items::start();
    let workspace = Workspace::with_config(items.api.address, &text);
    workspace.sync(0);
    let generation = || workspace.column::<i64>("SELECT DISTINCT _page_id FROM api_items ORDER BY 1");
    let old = generation();
    items.refuse(20, 500);
    workspace.sync(69);
    assert_eq!((ids(&workspace), generation()), (up_to(25), old.clone()));
    // The read goes on where it stopped, and swaps everything in at its end.
    items.heal();
    items.new_requests();
    workspace.sync(0);
    assert_eq!(items.new_requests(), [20, 25]);
    assert_eq!(ids(&workspace), up_to(25));
    assert!(generation().iter().all(|page| !old.contains(page)));
    // One that starts over leaves nothing of its first attempt.
    items.refuse(20, 500);
    workspace.sync(69);
    items.heal();
    edit(&workspace, "UPDATE _hw_checkpoints SET updated_at = '2020-01-01T00:00:00.000Z'");
    workspace.sync(0);
    assert_eq!(ids(&workspace), up_to(25));
    assert_eq!(generation().len(), 3);
    workspace.check_books();
}

const BY_TOKEN: &str = "paginator = { type = \"cursor\", cursor_path = \"next\", cursor_param = \"after\" }";

#[test]
fn h13_a_stale_position_starts_the_read_over_in_the_same_run() {
    for (status, text) in [400, 404, 410, 422].into_iter().zip(every_disposition(&resource(BY_TOKEN))) {
        let stale = Arc::new(AtomicUsize::new(0));
        let times = Arc::clone(&stale);
        let api = Api::start(move |request, _| {
            let first = first_record(request);
            // The third page breaks for the first run; for the second its token has expired, but only as stored.
            match (first, times.load(Ordering::Relaxed)) {
                (20, 0) => respond(500, &[], ""),
                (20, 1) => {
                    times.store(2, Ordering::Relaxed);
                    respond(status, &[], "")
                }
                _ => page(first),
            }
        });
        let workspace = Workspace::with_config(api.address, &text);
        workspace.sync(69);
        stale.store(1, Ordering::Relaxed);
        let before = api.seen().len();
        let report = workspace.sync(0);
        let said = first(&report)["started_over"].as_str().unwrap_or_else(|| panic!("{report:#}"));
        assert!(said.contains("no longer takes its stored position") && said.contains(&status.to_string()), "{said}");
        assert_eq!(first(&report)["outcome"], "complete");
        let asked: Vec<u64> = api.seen()[before..].iter().map(first_record).collect();
        assert_eq!(asked, [20, 0, 10, 20]);
        assert_eq!(ids(&workspace), up_to(25));
        let runs: Vec<String> = workspace.column("SELECT outcome FROM _hw_runs ORDER BY run_id");
        assert_eq!(runs, ["failed", "complete"]);
        assert_eq!(workspace.value::<i64>("SELECT sum(requests) FROM _hw_runs"), api.seen().len() as i64);
        workspace.check_books();
    }
}

#[test]
fn h13_a_refusal_in_the_middle_of_a_read_fails_it_and_the_next_run_starts_over() {
    for (status, text) in [404, 410, 422, 400].into_iter().zip(every_disposition(&resource(BY_TOKEN))) {
        let items = Items::start();
        let workspace = Workspace::with_config(items.api.address, &text);
        items.refuse(20, status);
        let report = workspace.sync(69);
        assert_eq!(first(&report)["outcome"], "failed");
        assert_eq!(items.new_requests(), [0, 10, 20]);
        items.heal();
        let report = workspace.sync(0);
        assert_eq!(first(&report)["resumed_at"], Value::Null);
        let over = first(&report)["started_over"].as_str().unwrap();
        let why = "the last read was given up: api.items: page at cursor t20: ";
        assert!(over.starts_with(why) && over.contains(&status.to_string()), "{over}");
        assert_eq!(items.new_requests(), [0, 10, 20]);
        assert_eq!(ids(&workspace), up_to(25));
        workspace.check_books();
    }
}

#[test]
fn a_first_page_that_is_refused_leaves_the_next_run_as_it_was() {
    let items = Items::start();
    let workspace = Workspace::with_config(items.api.address, &resource(BY_TOKEN));
    items.refuse(0, 404);
    workspace.sync(69);
    items.heal();
    let report = workspace.sync(0);
    assert_eq!(first(&report)["started_over"], Value::Null);
    assert_eq!(ids(&workspace), up_to(25));
}

#[test]
fn a_resource_that_became_another_one_is_refused_until_it_is_reset() {
    let other = Api::start(|_, _| answer(json!({"items": [{"id": 0, "code": "a"}], "next": null})));
    let keyed = |key: &str| resource(BY_TOKEN).replace("primary_key = \"id\"", key);
    for (text, elsewhere, part) in [
        (keyed("primary_key = \"name\""), false, "primary_key"),
        (keyed(""), false, "primary_key"),
        (replaced(&resource(BY_TOKEN)), false, "write_disposition"),
        (resource(BY_TOKEN), true, "base_url"),
    ] {
        let items = Items::start();
        let workspace = Workspace::with_config(items.api.address, &resource(BY_TOKEN));
        workspace.sync(0);
        workspace.configure(if elsewhere { other.address } else { items.api.address }, &text);
        items.new_requests();
        let (requests, rows) = (other.seen().len(), ids(&workspace));
        for _ in 0..2 {
            let report = workspace.sync(78);
            let error = first(&report)["error"].as_str().unwrap();
            assert!(error.contains(part) && error.contains("highwater reset api.items"), "{error}");
        }
        assert_eq!((items.new_requests().len(), other.seen().len() - requests), (0, 0));
        assert_eq!(ids(&workspace), rows, "what is there stays");
        if elsewhere {
            let reset = workspace.run(&["reset", "api.items"]);
            assert_eq!(reset.code, Some(0), "{reset:#?}");
            workspace.sync(0);
            assert_eq!(ids(&workspace), up_to(25), "rows without a counterpart stay");
            assert_eq!(workspace.column::<i64>("SELECT id FROM api_items WHERE code = 'a'"), [0]);
        }
        let reset = workspace.run(&["reset", "api.items", "--drop-rows"]);
        assert_eq!(reset.code, Some(0), "{reset:#?}");
        workspace.sync(0);
        assert_eq!(ids(&workspace), up_to(if elsewhere { 1 } else { 25 }), "{part}");
        workspace.check_books();
    }
}
