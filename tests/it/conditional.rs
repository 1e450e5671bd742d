//! `conditional_requests`: an unchanged page costs no rows, and is only taken for unchanged where the table holds it.

use std::sync::{Arc, Mutex};

use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::{Value, json};

use crate::support::{Api, Seen, Workspace, respond};

/// A page, and headers of its own.
type PageAndHeaders = (Value, Vec<(&'static str, String)>);

/// Pages by number with headers of their own; each has an `ETag` of its body, as servers make them that know nothing
/// of paging, and is not sent again to who has it.
#[derive(Clone, Default)]
struct Tagged {
    pages: Arc<Mutex<Vec<PageAndHeaders>>>,
    /// Headers of the 304 as well.
    repeats_headers: bool,
}

impl Tagged {
    fn new(body: Value) -> Self {
        let tagged = Self::default();
        tagged.set(&[(body, vec![])]);
        tagged
    }

    fn set(&self, pages: &[PageAndHeaders]) {
        *self.pages.lock().unwrap() = pages.to_vec();
    }

    fn answer(&self, request: &Seen) -> Response {
        let number: usize = request.param("page").map_or(1, |page| page.parse().unwrap());
        let (body, headers) = self.pages.lock().unwrap()[number - 1].clone();
        let body = body.to_string();
        let etag = format!("W/\"{}\"", body.len() + body.bytes().map(usize::from).sum::<usize>());
        let mut sent: Vec<(&str, &str)> = vec![("content-type", "application/json"), ("etag", &etag)];
        let same = header(&request.headers, "if-none-match") == Some(&etag);
        if !same || self.repeats_headers {
            sent.extend(headers.iter().map(|(name, value)| (*name, value.as_str())));
        }
        if same { respond(304, &sent, "") } else { respond(200, &sent, body) }
    }

    fn start(&self) -> Api {
        let tagged = self.clone();
        Api::start(move |request, _| tagged.answer(request))
    }
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).map(|value| value.to_str().unwrap())
}

fn config(paginator: &str, keys: &str) -> String {
    format!(
        "[sources.shop.client]\nbase_url = \"BASE\"\nretry = {{ max_attempts = 1 }}\nconditional_requests = true\n\
         paginator = {paginator}\n[sources.shop.resources.items]\n{keys}\n"
    )
}

const SINGLE: &str = "{ type = \"single_page\" }";
const KEYED: &str = "primary_key = \"id\"";

/// `status received stop_reason` of every page so far.
fn pages(workspace: &Workspace) -> Vec<String> {
    let sql =
        "SELECT p.status || ' ' || p.received || ' ' || r.stop_reason FROM _hw_pages p JOIN _hw_runs r USING (run_id)
               ORDER BY page_id";
    workspace.column(sql)
}

fn ids(workspace: &Workspace) -> Vec<i64> {
    workspace.column("SELECT id FROM shop_items ORDER BY id")
}

#[test]
fn h14_an_unchanged_page_costs_no_rows_and_leaves_table_and_checkpoint() {
    for (keys, doubled) in [
        (KEYED, false),
        ("primary_key = \"id\"\nwrite_disposition = \"replace\"", false),
        (
            "primary_key = \"id\"\nwrite_disposition = \"replace\"\n\
             response_actions = [{ status_code = \"3xx\", action = \"stop\" }]",
            false,
        ),
        ("write_disposition = \"append\"", true),
    ] {
        let tagged = Tagged::new(json!([{"id": 1}, {"id": 2}]));
        let api = tagged.start();
        let workspace = Workspace::with_config(api.address, &config(SINGLE, keys));
        let sql = "SELECT group_concat(name || sql) FROM sqlite_schema WHERE name = 'shop_items'";
        workspace.sync(0);
        let table: String = workspace.value(sql);
        for _ in 0..2 {
            let report = workspace.sync(0);
            let resource = &report["resources"][0];
            assert_eq!((&resource["outcome"], &resource["stop_reason"]), (&json!("complete"), &json!("single_page")));
            assert_eq!(resource["records"]["received"], 0);
        }
        assert_eq!((ids(&workspace), workspace.value::<String>(sql)), (vec![1, 2], table), "{keys}");
        assert_eq!(pages(&workspace), ["200 2 single_page", "304 0 single_page", "304 0 single_page"], "{keys}");
        assert_eq!(workspace.value::<String>("SELECT state FROM _hw_checkpoints"), "complete");
        tagged.set(&[(json!([{"id": 2}, {"id": 3}]), vec![])]);
        workspace.sync(0);
        assert_eq!(pages(&workspace)[3], "200 2 single_page");
        let expected = if doubled {
            vec![1, 2, 2, 3]
        } else if keys == KEYED {
            vec![1, 2, 3]
        } else {
            vec![2, 3]
        };
        assert_eq!(ids(&workspace), expected, "{keys}");
        let sent: Vec<bool> = api.seen().iter().map(|request| request.headers.contains_key("if-none-match")).collect();
        assert_eq!(sent, [false, true, true, true]);
        workspace.check_books();
    }
}

#[test]
fn what_the_rows_depend_on_is_asked_for_anew_when_it_changes() {
    let more = "\nparams = { q = \"x\" }";
    let steps = "\nprocessing_steps = [{ add = { n = \"1\" } }]";
    let token = "[sources.shop.client.auth]\ntype = \"bearer\"\ntoken = \"${env:TOKEN}\"\n";
    let tagged = Tagged::new(json!([{"id": 1}, {"id": 2}]));
    let api = tagged.start();
    let workspace = Workspace::with_config(api.address, &config(SINGLE, KEYED));
    let statuses = || -> Vec<i64> { workspace.column("SELECT status FROM _hw_pages ORDER BY page_id") };
    let run = |config: &str, token: &str| {
        workspace.configure(api.address, config);
        let mut command = workspace.command(&["sync"]);
        let finished = crate::support::finish(command.env("TOKEN", token).spawn().unwrap());
        assert_eq!(finished.code, Some(0), "{finished:#?}");
        *statuses().last().unwrap()
    };
    let plain = config(SINGLE, KEYED);
    assert_eq!([run(&plain, ""), run(&plain, "")], [200, 304]);
    for changed in [more, steps] {
        let changed = config(SINGLE, &format!("{KEYED}{changed}"));
        assert_eq!([run(&changed, ""), run(&changed, "")], [200, 304], "{changed}");
    }
    let with_token = format!("{plain}{token}");
    let asked = ["canary-a", "canary-a", "canary-b"].map(|token| run(&with_token, token));
    assert_eq!(asked, [200, 304, 200], "another account can see other records");
    let kept: String = workspace.value("SELECT fingerprint || url || etag FROM _hw_validators");
    assert!(!kept.contains("canary"), "{kept}");
    // The table is another one, or gone.
    assert_eq!([run(&plain, ""), run(&plain, "")], [200, 304]);
    for arguments in [&["reset", "shop.items"][..], &["reset", "--drop-rows", "shop.items"]] {
        assert_eq!(workspace.run(arguments).code, Some(0));
        assert_eq!(workspace.value::<i64>("SELECT count(*) FROM _hw_validators"), 0);
        assert_eq!([run(&plain, ""), run(&plain, "")], [200, 304], "{arguments:?}");
    }
    let file = rusqlite::Connection::open(workspace.path("highwater.db")).unwrap();
    file.execute_batch("DROP TABLE shop_items").unwrap();
    drop(file);
    assert_eq!(run(&plain, ""), 200);
    assert_eq!(ids(&workspace), [1, 2]);
    workspace.check_books();
}

#[test]
fn a_read_that_did_not_store_all_of_its_page_vouches_for_nothing() {
    let tagged = Tagged::new(json!([{"id": 1}, {"name": "no key"}]));
    let api = tagged.start();
    let workspace = Workspace::with_config(api.address, &config(SINGLE, KEYED));
    workspace.sync(0);
    workspace.sync(0);
    assert_eq!(pages(&workspace), ["200 2 single_page", "200 2 single_page"]);
    assert_eq!(workspace.value::<i64>("SELECT count(*) FROM _hw_validators"), 0);
}

#[test]
fn a_read_that_failed_before_it_stored_anything_leaves_what_the_last_one_vouches_for() {
    let fails = Arc::new(Mutex::new(false));
    let tagged = Tagged::new(json!([{"id": 1}]));
    let (failing, answering) = (Arc::clone(&fails), tagged.clone());
    let api = Api::start(
        move |request, _| {
            if *failing.lock().unwrap() { respond(500, &[], "down") } else { answering.answer(request) }
        },
    );
    let workspace = Workspace::with_config(api.address, &config(SINGLE, KEYED));
    workspace.sync(0);
    *fails.lock().unwrap() = true;
    workspace.sync(69);
    *fails.lock().unwrap() = false;
    workspace.sync(0);
    assert_eq!(pages(&workspace), ["200 1 single_page", "304 0 single_page"]);
}

#[test]
fn one_of_several_pages_vouches_for_nothing() {
    let link = |number: usize| vec![("link", format!("</items?page={number}>; rel=\"next\""))];
    let tagged = Tagged::default();
    tagged.set(&[(json!([{"id": 1}, {"id": 2}]), link(2)), (json!([{"id": 3}]), vec![])]);
    let api = tagged.start();
    let workspace = Workspace::with_config(api.address, &config("{ type = \"header_link\" }", KEYED));
    workspace.sync(0);
    // A change that the first page does not show.
    tagged.set(&[(json!([{"id": 1}, {"id": 2}]), link(2)), (json!([{"id": 3}, {"id": 4}]), vec![])]);
    workspace.sync(0);
    assert_eq!(ids(&workspace), [1, 2, 3, 4]);
    assert!(api.seen().iter().all(|request| !request.headers.contains_key("if-none-match")));
}

#[test]
fn a_page_that_a_header_can_add_another_one_to_is_asked_for_in_full_when_it_looks_full() {
    let records = |count: usize| Value::from_iter((1..=count).map(|id| json!({"id": id})));
    let link = vec![("link", "</items?page=2>; rel=\"next\"".to_owned())];
    let keys = format!("{KEYED}\nparams = {{ per_page = 12 }}");
    for (count, asked) in [(3, true), (10, false), (11, true), (12, false), (20, false)] {
        let tagged = Tagged::default();
        tagged.set(&[(records(count), vec![])]);
        let api = tagged.start();
        let workspace = Workspace::with_config(api.address, &config("{ type = \"header_link\" }", &keys));
        workspace.sync(0);
        workspace.sync(0);
        assert_eq!(api.seen()[1].headers.contains_key("if-none-match"), asked, "{count}");
        if !asked {
            tagged.set(&[(records(count), link.clone()), (json!([{"id": 99}]), vec![])]);
            workspace.sync(0);
            assert_eq!(ids(&workspace).len(), count + 1, "nothing behind a full page is overlooked");
        }
    }
}

#[test]
fn a_304_that_names_a_next_page_is_not_the_end() {
    let tagged = Tagged { repeats_headers: true, ..Tagged::new(json!([{"id": 1}, {"id": 2}])) };
    let api = tagged.start();
    let workspace = Workspace::with_config(api.address, &config("{ type = \"header_link\" }", KEYED));
    workspace.sync(0);
    workspace.sync(0);
    let link = vec![("link", "</items?page=2>; rel=\"next\"".to_owned())];
    tagged.set(&[(json!([{"id": 1}, {"id": 2}]), link), (json!([{"id": 3}]), vec![])]);
    workspace.sync(0);
    assert_eq!(ids(&workspace), [1, 2, 3]);
    assert_eq!(pages(&workspace), ["200 2 no_next", "304 0 no_next", "200 2 no_next", "200 1 no_next"]);
    assert_eq!(workspace.value::<i64>("SELECT requests FROM _hw_runs ORDER BY run_id DESC LIMIT 1"), 3);
    workspace.check_books();
}

#[test]
fn a_post_and_a_request_that_did_not_ask_are_never_told_that_nothing_changed() {
    let api = Api::start(|_, number| match number {
        0 => respond(200, &[("etag", "\"a\""), ("content-type", "application/json")], "[{\"id\":1}]"),
        _ => respond(304, &[("etag", "\"a\"")], ""),
    });
    let post = format!("{KEYED}\nmethod = \"POST\"\njson = {{ q = 1 }}");
    let off = config(SINGLE, KEYED).replace("conditional_requests = true", "conditional_requests = false");
    for config in [config(SINGLE, &post), off] {
        let workspace = Workspace::with_config(api.address, &config);
        let before = api.seen().len();
        if before == 0 {
            workspace.sync(0);
        }
        let report = workspace.sync(69);
        assert!(report["resources"][0]["error"].as_str().unwrap().contains("304"), "{report}");
        assert_eq!(workspace.value::<i64>("SELECT count(*) FROM _hw_validators"), 0);
    }
    assert!(api.seen().iter().all(|request| !request.headers.contains_key("if-none-match")));
}

#[test]
fn a_date_of_change_is_enough_where_it_is_old_enough() {
    let date = "Mon, 02 Mar 2026 12:00:00 GMT";
    for (modified, asked) in [("Mon, 02 Mar 2026 10:00:00 GMT", true), ("Mon, 02 Mar 2026 11:59:59 GMT", false)] {
        let api = Api::start(move |request, _| {
            let headers = [("last-modified", modified), ("date", date), ("content-type", "application/json")];
            match header(&request.headers, "if-modified-since") {
                Some(since) if since == modified => respond(304, &headers, ""),
                _ => respond(200, &headers, "[{\"id\":1}]"),
            }
        });
        let workspace = Workspace::with_config(api.address, &config(SINGLE, KEYED));
        workspace.sync(0);
        workspace.sync(0);
        let statuses: Vec<i64> = workspace.column("SELECT status FROM _hw_pages ORDER BY page_id");
        assert_eq!(statuses, [200, if asked { 304 } else { 200 }], "{modified}");
    }
}

#[test]
fn a_later_read_of_several_pages_makes_void_what_vouched_before_it() {
    let link = vec![("link", "</items?page=2>; rel=\"next\"".to_owned())];
    let single = [(json!([{"id": 1}]), vec![])];
    let tagged = Tagged::default();
    tagged.set(&single);
    let api = tagged.start();
    let keys = format!("{KEYED}\nwrite_disposition = \"replace\"");
    let workspace = Workspace::with_config(api.address, &config("{ type = \"header_link\" }", &keys));
    workspace.sync(0);
    tagged.set(&[(json!([{"id": 1}, {"id": 2}]), link), (json!([{"id": 3}]), vec![])]);
    workspace.sync(0);
    assert_eq!(ids(&workspace), [1, 2, 3]);
    tagged.set(&single);
    workspace.sync(0);
    assert_eq!(ids(&workspace), [1]);
}

#[test]
fn only_the_first_page_is_asked_for_with_a_condition_although_others_have_its_url() {
    let grown = Arc::new(Mutex::new(false));
    let is_grown = Arc::clone(&grown);
    let api = Api::start(move |request, _| {
        let (is_grown, second) = (*is_grown.lock().unwrap(), header(&request.headers, "x-after").is_some());
        let (etag, body) = match (is_grown, second) {
            (false, _) => ("\"1\"", json!({"data": [{"id": 1}], "next": null})),
            (true, false) => ("\"2\"", json!({"data": [{"id": 2}], "next": "b"})),
            (true, true) => ("\"1\"", json!({"data": [{"id": 3}], "next": null})),
        };
        let same = header(&request.headers, "if-none-match") == Some(etag);
        let headers = [("etag", etag), ("content-type", "application/json")];
        if same { respond(304, &headers, "") } else { respond(200, &headers, body.to_string()) }
    });
    let paginator = "{ type = \"cursor\", cursor_path = \"next\", cursor_header = \"X-After\" }";
    let workspace = Workspace::with_config(api.address, &config(paginator, KEYED));
    workspace.sync(0);
    *grown.lock().unwrap() = true;
    workspace.sync(0);
    assert_eq!(ids(&workspace), [1, 2, 3]);
}

#[test]
fn the_example_of_the_documentation_asks_only_whether_anything_has_changed() {
    let page = include_str!("../../docs/conditional-requests.md");
    let config = page.split("```").nth(1).unwrap().strip_prefix("toml").unwrap();
    let tagged = Tagged::new(json!([{"code": "SEK"}, {"code": "EUR"}]));
    let api = tagged.start();
    let workspace = Workspace::with_config(api.address, &config.replace("https://api.example.com/v1/", "BASE"));
    workspace.sync(0);
    workspace.sync(0);
    assert_eq!(pages(&workspace), ["200 2 single_page", "304 0 single_page"]);
    assert_eq!(workspace.column::<String>("SELECT code FROM shop_currencies ORDER BY code"), ["EUR", "SEK"]);
}

#[test]
fn auto_still_decides_when_an_unchanged_page_has_become_two() {
    let tagged = Tagged::new(json!({"data": [{"id": 1}, {"id": 2}]}));
    let api = tagged.start();
    let workspace = Workspace::with_config(api.address, &config("{ type = \"auto\" }", KEYED));
    for _ in 0..3 {
        workspace.sync(0);
    }
    let link = vec![("link", "</items?page=2>; rel=\"next\"".to_owned())];
    tagged.set(&[(json!({"data": [{"id": 1}, {"id": 3}]}), link), (json!({"data": [{"id": 4}]}), vec![])]);
    workspace.sync(0);
    assert_eq!(ids(&workspace), [1, 2, 3, 4]);
    let statuses: Vec<i64> = workspace.column("SELECT status FROM _hw_pages ORDER BY page_id");
    assert_eq!(statuses, [200, 304, 304, 200, 200]);
    let decided: String = workspace.value("SELECT decided FROM _hw_resources");
    assert!(decided.contains("header_link") && decided.contains("\"data\""), "{decided}");
}

#[test]
fn what_a_parent_puts_on_the_rows_of_an_unchanged_page_is_put_on_them() {
    let title = Arc::new(Mutex::new("old"));
    let served = Arc::clone(&title);
    let api = Api::start(move |request: &Seen, _| {
        let json = ("content-type", "application/json");
        if request.path() == "/issues" {
            return respond(200, &[json], json!([{"id": 1, "title": *served.lock().unwrap()}]).to_string());
        }
        match header(&request.headers, "if-none-match") {
            Some("\"c\"") => respond(304, &[("etag", "\"c\"")], ""),
            _ => respond(200, &[json, ("etag", "\"c\"")], json!([{"id": 7}, {"id": 8}]).to_string()),
        }
    });
    let text = config(SINGLE, KEYED).replace("items", "issues")
        + "[sources.shop.resources.comments]\nprimary_key = \"id\"\ninclude_from_parent = [\"title\"]\n\
           path = \"issues/${resources.issues.id}/comments\"\n";
    let workspace = Workspace::with_config(api.address, &text);
    let sync = || {
        workspace.sync(0);
        let sql = "SELECT status FROM _hw_pages WHERE resource = 'comments' ORDER BY page_id DESC LIMIT 1";
        let rows: Vec<String> = workspace.column("SELECT id || ' ' || _issues_title FROM shop_comments ORDER BY id");
        (workspace.value::<i64>(sql), rows.join(", "))
    };
    assert_eq!(sync(), (200, "7 old, 8 old".to_owned()));
    assert_eq!(sync(), (304, "7 old, 8 old".to_owned()));
    *title.lock().unwrap() = "new";
    assert_eq!(sync(), (200, "7 new, 8 new".to_owned()));
    assert_eq!(sync(), (304, "7 new, 8 new".to_owned()));
}
