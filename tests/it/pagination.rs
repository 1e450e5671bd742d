//! From page to page: every kind of paging end to end, why reads end, and what is never believed of an API.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::response::Response;
use serde_json::{Value, json};

use crate::support::{Api, Seen, Workspace, finish, json as answer, numbered, records, respond};

/// What an API does.
type Answers = Box<dyn Fn(&Seen, usize) -> Response + Send + Sync>;

/// Records of the API, and on a page, where a test does not say otherwise.
const TOTAL: u64 = 25;
const SIZE: u64 = 10;

/// One resource `items` of a source `api`, keyed by `id`.
pub(crate) fn config(client: &str, resource: &str) -> String {
    format!(
        "[sources.api.client]\nbase_url = \"BASE\"\nretry = {{ max_attempts = 3, initial_delay = \"10ms\" }}\n{client}\n\
         [sources.api.resources.items]\nprimary_key = \"id\"\n{resource}\n"
    )
}

/// The ids that are stored, in order.
pub(crate) fn ids(workspace: &Workspace) -> Vec<i64> {
    workspace.column("SELECT id FROM api_items ORDER BY id")
}

pub(crate) fn up_to(end: i64) -> Vec<i64> {
    (0..end).collect()
}

/// The records of a page that begins at a record.
fn page_from(first: u64) -> Vec<Value> {
    records(first.min(TOTAL)..(first + SIZE).min(TOTAL))
}

fn number(request: &Seen, param: &str) -> Option<u64> {
    request.param(param).map(|text| text.parse().unwrap())
}

fn header<'a>(request: &'a Seen, name: &str) -> Option<&'a str> {
    request.headers.get(name).map(|value| value.to_str().unwrap())
}

/// A request on one line: its target, its body, and the header that a cursor may stand in.
fn line(request: &Seen) -> String {
    let cursor = header(request, "x-cursor").map(|cursor| format!(" x-cursor={cursor}")).unwrap_or_default();
    let body = if request.body.is_empty() { String::new() } else { format!(" {}", request.body) };
    format!("{}{body}{cursor}", request.target)
}

fn lines(api: &Api) -> Vec<String> {
    api.seen().iter().map(line).collect()
}

/// An answer whose `Link` header leads to the next page, by `link`, which gets the host and the next record.
fn linked(request: &Seen, link: impl Fn(&str, u64) -> String) -> Response {
    let first = number(request, "from").unwrap_or(0);
    let body = Value::from(page_from(first)).to_string();
    let next = first + SIZE;
    if next >= TOTAL {
        return respond(200, &[("link", r#"</items>; rel="first""#)], body);
    }
    respond(200, &[("link", &link(header(request, "host").unwrap(), next))], body)
}

/// An answer with a token for the next record after `first` where there is one, in the body.
fn tokened(first: u64) -> Response {
    let next = first + SIZE;
    answer(json!({"items": page_from(first), "meta": {"next": (next < TOTAL).then(|| format!("t{next}"))}}))
}

fn from_token(token: Option<&str>) -> u64 {
    token.map_or(0, |token| token[1..].parse().unwrap())
}

struct Case {
    resource: &'static str,
    answers: Answers,
    requests: &'static [&'static str],
    stop_reason: &'static str,
}

fn case(
    resource: &'static str,
    requests: &'static [&'static str],
    stop_reason: &'static str,
    answers: impl Fn(&Seen, usize) -> Response + Send + Sync + 'static,
) -> Case {
    Case { resource, answers: Box::new(answers), requests, stop_reason }
}

/// Runs every case to its complete end.
fn check_all(cases: Vec<Case>) {
    for Case { resource, answers, requests, stop_reason } in cases {
        let api = Api::start(answers);
        let workspace = Workspace::with_config(api.address, &config("", resource));
        let report = workspace.sync(0);
        assert_eq!(lines(&api), requests, "{resource}");
        assert_eq!(report["resources"][0]["stop_reason"], stop_reason, "{resource}");
        assert_eq!(report["resources"][0]["outcome"], "complete", "{resource}");
        assert_eq!(report["resources"][0]["records"]["inserted"], TOTAL, "{resource}");
        assert_eq!(ids(&workspace), up_to(25), "{resource}");
        workspace.check_books();
    }
}

#[test]
fn links_are_followed_to_the_last_page() {
    let by_header = |link: fn(&str, u64) -> String| move |request: &Seen, _: usize| linked(request, link);
    let by_body = |link: fn(&str, u64) -> String| {
        move |request: &Seen, _: usize| {
            let first = number(request, "from").unwrap_or(0);
            let next = (first + SIZE < TOTAL).then(|| link(header(request, "host").unwrap(), first + SIZE));
            answer(json!({"items": page_from(first), "paging": {"next": next}}))
        }
    };
    let path_of_next =
        "params = { q = \"a b\" }\npaginator = { type = \"json_link\", next_url_path = \"paging.next\" }";
    check_all(vec![
        case(
            "paginator = { type = \"header_link\" }\nparams = { q = \"a b\" }",
            &["/items?q=a+b", "/items?q=a%20b&from=10", "/items?q=a%20b&from=20"],
            "no_next",
            by_header(|host, from| {
                format!(r#"</items>; rel="prev", <http://{host}/items?q=a%20b&from={from}>; rel="next""#)
            }),
        ),
        case(
            "paginator = { type = \"header_link\" }",
            &["/items", "/items?from=10", "/items?from=20"],
            "no_next",
            by_header(|_, from| format!("<?from={from}#rest>; rel=next")),
        ),
        case(
            "paginator = { type = \"header_link\", rel = \"more\" }",
            &["/items", "/other/list?from=10", "/other/list?from=20"],
            "no_next",
            by_header(|_, from| format!(r#"</x>; rel="next", </other/list?from={from}>; rel="more""#)),
        ),
        case(
            path_of_next,
            &["/items?q=a+b", "/items?from=10", "/items?from=20"],
            "no_next",
            by_body(|host, from| format!("http://{host}/items?from={from}")),
        ),
        case(
            path_of_next,
            &["/items?q=a+b", "/v2/items?from=10", "/v2/items?from=20"],
            "no_next",
            by_body(|_, from| format!("/v2/items?from={from}")),
        ),
        case(
            path_of_next,
            &["/items?q=a+b", "//items?from=10", "//items?from=20"],
            "no_next",
            by_body(|host, from| format!("http://{host}//items?from={from}")),
        ),
    ]);
}

#[test]
fn a_cursor_is_found_and_sent_wherever_the_api_keeps_it() {
    check_all(vec![
        case(
            "paginator = { type = \"header_cursor\", header = \"X-Next\", cursor_param = \"after\" }\nparams = { n = 10 }",
            &["/items?n=10", "/items?n=10&after=t10", "/items?n=10&after=t20"],
            "no_next",
            |request, _| {
                let first = from_token(request.param("after").as_deref());
                let body = Value::from(page_from(first)).to_string();
                let next = if first + SIZE < TOTAL { format!("t{}", first + SIZE) } else { String::new() };
                respond(200, &[("x-next", &next)], body)
            },
        ),
        case(
            "paginator = { type = \"cursor\", cursor_path = \"meta.next\", cursor_param = \"after\" }",
            &["/items", "/items?after=t10", "/items?after=t20"],
            "no_next",
            |request, _| tokened(from_token(request.param("after").as_deref())),
        ),
        case(
            "method = \"POST\"\njson = { q = \"x\", page = { n = 10 } }\n\
             paginator = { type = \"cursor\", cursor_path = \"meta.next\", cursor_body_path = \"page.after\" }",
            &[
                r#"/items {"q":"x","page":{"n":10}}"#,
                r#"/items {"q":"x","page":{"n":10,"after":"t10"}}"#,
                r#"/items {"q":"x","page":{"n":10,"after":"t20"}}"#,
            ],
            "no_next",
            |request, _| {
                let body: Value = serde_json::from_str(&request.body).unwrap();
                tokened(from_token(body["page"]["after"].as_str()))
            },
        ),
        case(
            "paginator = { type = \"cursor\", cursor_path = \"meta.next\", cursor_header = \"X-Cursor\" }",
            &["/items", "/items x-cursor=t10", "/items x-cursor=t20"],
            "no_next",
            |request, _| tokened(from_token(header(request, "x-cursor"))),
        ),
        case(
            "data_selector = \"data\"\npaginator = { type = \"cursor\", cursor_from = \"last_record.id\", \
             cursor_param = \"starting_after\", has_more_path = \"has_more\" }",
            &["/items", "/items?starting_after=9", "/items?starting_after=19"],
            "has_more_false",
            |request, _| {
                let first = number(request, "starting_after").map_or(0, |last| last + 1);
                answer(json!({"data": page_from(first), "has_more": first + SIZE < TOTAL}))
            },
        ),
        case(
            "paginator = { type = \"cursor\", cursor_from = \"last_record.name\", cursor_param = \"after\" }",
            &["/items", "/items?after=name+9", "/items?after=name+19", "/items?after=name+24"],
            "empty_page",
            |request, _| {
                let last = request.param("after").map(|name| name["name ".len()..].parse::<u64>().unwrap());
                answer(page_from(last.map_or(0, |last| last + 1)).into())
            },
        ),
    ]);
}

#[test]
fn an_offset_moves_by_what_came_until_nothing_is_left() {
    fn by_offset(param: &'static str, first: u64) -> impl Fn(&Seen, usize) -> Response + Send + Sync {
        move |request, _| {
            let body = json!({"items": page_from(number(request, param).unwrap() - first), "meta": {"total": TOTAL}});
            respond(200, &[("x-total", "25")], body.to_string())
        }
    }
    check_all(vec![
        case(
            "paginator = { type = \"offset\", limit = 10 }",
            &[
                "/items?offset=0&limit=10",
                "/items?offset=10&limit=10",
                "/items?offset=20&limit=10",
                "/items?offset=25&limit=10",
            ],
            "empty_page",
            by_offset("offset", 0),
        ),
        case(
            "paginator = { type = \"offset\", limit = 10, total_path = \"meta.total\" }",
            &["/items?offset=0&limit=10", "/items?offset=10&limit=10", "/items?offset=20&limit=10"],
            "total_reached",
            by_offset("offset", 0),
        ),
        case(
            "paginator = { type = \"offset\", limit = 10, total_header = \"X-Total\", offset_param = \"skip\", \
             limit_param = \"take\", initial_offset = 1 }",
            &["/items?skip=1&take=10", "/items?skip=11&take=10", "/items?skip=21&take=10"],
            "total_reached",
            by_offset("skip", 1),
        ),
        case(
            "method = \"POST\"\njson = { q = \"x\" }\npaginator = { type = \"offset\", limit = 10, \
             offset_body_path = \"page.from\", limit_body_path = \"page.size\", stop_on_short_page = true }",
            &[
                r#"/items {"q":"x","page":{"from":0,"size":10}}"#,
                r#"/items {"q":"x","page":{"from":10,"size":10}}"#,
                r#"/items {"q":"x","page":{"from":20,"size":10}}"#,
            ],
            "short_page",
            |request, _| {
                let body: Value = serde_json::from_str(&request.body).unwrap();
                answer(page_from(body["page"]["from"].as_u64().unwrap()).into())
            },
        ),
    ]);
}

#[test]
fn an_api_that_caps_the_limit_loses_no_row() {
    let capped = |total: &str| format!("paginator = {{ type = \"offset\", limit = 100{total} }}");
    for (resource, requests) in [
        (capped(""), vec![0, 10, 20, 25]),
        (capped(", total_path = \"total\""), vec![0, 10, 20]),
        (format!("{}\nconcurrency = 3", capped(", total_path = \"total\"")), vec![0, 10, 20]),
    ] {
        let api = Api::start(|request, _| {
            answer(json!({"items": page_from(number(request, "offset").unwrap()), "total": TOTAL}))
        });
        let workspace = Workspace::with_config(api.address, &config("", &resource));
        workspace.sync(0);
        let mut offsets: Vec<u64> = api.seen().iter().map(|request| number(request, "offset").unwrap()).collect();
        offsets.sort_unstable(); // Those in flight together may come in any order.
        assert_eq!(offsets, requests, "{resource}");
        assert_eq!(ids(&workspace), up_to(25), "{resource}");
    }
}

#[test]
fn p09_pages_of_any_size_lose_and_double_no_row_by_offset() {
    // Pages of 10, 10, 4, 4 (the API lowers its cap on the way), or of 15 where 10 were asked for.
    let lowered: fn(u64) -> u64 = |offset| if offset < 20 { 10 } else { 4 };
    let exceeded: fn(u64) -> u64 = |_| 15;
    for (size, total, concurrency) in [
        (lowered, "", 1),
        (lowered, ", total_path = \"total\"", 1),
        (lowered, ", total_path = \"total\"", 3),
        (lowered, "", 3),
        (exceeded, "", 1),
        (exceeded, ", total_path = \"total\"", 3),
    ] {
        let api = Api::start(move |request, _| {
            let offset = number(request, "offset").unwrap().min(47);
            answer(json!({"items": records(offset..(offset + size(offset)).min(47)), "total": 47}))
        });
        let paginator = format!("paginator = {{ type = \"offset\", limit = 10{total} }}");
        let resource = format!("data_selector = \"items\"\nconcurrency = {concurrency}\n{paginator}");
        // Without a key, a row that comes twice is seen.
        let text = config("", &resource).replace("primary_key = \"id\"", "");
        let workspace = Workspace::with_config(api.address, &text);
        workspace.sync(0);
        assert_eq!(ids(&workspace), up_to(47), "{resource}");
        workspace.check_books();
    }
}

#[test]
fn page_numbers_count_from_where_the_api_does() {
    fn by_page(base: u64) -> impl Fn(&Seen, usize) -> Response + Send + Sync {
        move |request, _| {
            let page = number(request, "page").or_else(|| number(request, "p")).unwrap();
            let body = json!({"items": page_from((page - base) * SIZE), "meta": {"pages": 3}});
            respond(200, &[("x-pages", "3")], body.to_string())
        }
    }
    check_all(vec![
        case(
            "paginator = { type = \"page_number\" }",
            &["/items?page=1", "/items?page=2", "/items?page=3", "/items?page=4"],
            "empty_page",
            by_page(1),
        ),
        case(
            "paginator = { type = \"page_number\", base_page = 0, total_path = \"meta.pages\" }",
            &["/items?page=0", "/items?page=1", "/items?page=2"],
            "total_reached",
            by_page(0),
        ),
        case(
            "paginator = { type = \"page_number\", page_param = \"p\", total_header = \"X-Pages\" }",
            &["/items?p=1", "/items?p=2", "/items?p=3"],
            "total_reached",
            by_page(1),
        ),
        case(
            "paginator = { type = \"page_number\", page_size = 10, page_size_param = \"size\", stop_on_short_page = true }",
            &["/items?page=1&size=10", "/items?page=2&size=10", "/items?page=3&size=10"],
            "short_page",
            by_page(1),
        ),
        case(
            "method = \"POST\"\njson = { q = \"x\" }\n\
             paginator = { type = \"page_number\", page_body_path = \"page\", total_path = \"pages\" }",
            &[r#"/items {"q":"x","page":1}"#, r#"/items {"q":"x","page":2}"#, r#"/items {"q":"x","page":3}"#],
            "total_reached",
            |request, _| {
                let body: Value = serde_json::from_str(&request.body).unwrap();
                answer(json!({"items": page_from((body["page"].as_u64().unwrap() - 1) * SIZE), "pages": "3"}))
            },
        ),
    ]);
}

#[test]
fn one_page_is_all_where_the_configuration_says_so() {
    check_all(vec![case("paginator = { type = \"single_page\" }", &["/items"], "single_page", |_, _| {
        respond(200, &[("link", "</items?from=10>; rel=next")], Value::from(records(0..TOTAL)).to_string())
    })]);
}

/// Every kind that the first response can show, and what is stored of it.
#[test]
fn auto_decides_by_the_first_response_and_then_sticks_to_it() {
    let kinds: [(&str, &[&str], Answers); 4] = [
        (
            "header_link",
            &["/items", "/items?from=10", "/items?from=20"],
            Box::new(|request, _| linked(request, |_, from| format!("</items?from={from}>; rel=next"))),
        ),
        (
            "json_link",
            &["/items", "/items?from=10", "/items?from=20"],
            Box::new(|request, _| {
                let first = number(request, "from").unwrap_or(0);
                let next = (first + SIZE < TOTAL).then(|| format!("/items?from={}", first + SIZE));
                answer(json!({"count": TOTAL, "next": next, "results": page_from(first)}))
            }),
        ),
        (
            "cursor",
            &["/items", "/items?cursor=t10", "/items?cursor=t20"],
            Box::new(|request, _| {
                let first = from_token(request.param("cursor").as_deref());
                let next = (first + SIZE < TOTAL).then(|| format!("t{}", first + SIZE));
                answer(json!({"items": page_from(first), "meta": {"next_cursor": next}}))
            }),
        ),
        (
            "page_number",
            &["/items", "/items?page=2", "/items?page=3"],
            Box::new(|request, _| {
                let page = number(request, "page").unwrap_or(1);
                let meta = json!({"page": page, "total_pages": 3, "total": TOTAL});
                answer(json!({"data": page_from((page - 1) * SIZE), "meta": meta}))
            }),
        ),
    ];
    for (kind, requests, answers) in kinds {
        // From the second run on, the first page also has the plainest sign of another kind.
        let misleading = Arc::new(AtomicBool::new(false));
        let mislead = Arc::clone(&misleading);
        let api = Api::start(move |request, n| {
            let mut response = answers(request, n);
            if mislead.load(Ordering::Relaxed) && kind != "header_link" {
                response.headers_mut().insert("link", "</items?wrong=1>; rel=next".parse().unwrap());
            }
            response
        });
        let workspace = Workspace::with_config(api.address, &config("", ""));
        let decided = || -> Value {
            serde_json::from_str(&workspace.value::<String>("SELECT decided FROM _hw_resources")).unwrap()
        };
        workspace.sync(0);
        let first = decided();
        assert_eq!(first["paginator"]["type"], kind);
        misleading.store(true, Ordering::Relaxed);
        workspace.sync(0);
        assert_eq!(decided(), first);
        let seen = lines(&api);
        assert_eq!(seen[..requests.len()], *requests, "{kind}");
        // `page_number` sends its number from the first page on, once it is known to be the kind.
        assert_eq!(seen[requests.len()..].len(), requests.len(), "{kind}: {seen:?}");
        assert!(seen.iter().all(|line| !line.contains("wrong")), "{kind}: {seen:?}");
        assert_eq!(ids(&workspace), up_to(25), "{kind}");
    }
}

#[test]
fn auto_looks_for_a_next_page_again_where_there_was_none_before() {
    let grown = Arc::new(AtomicBool::new(false));
    let has_grown = Arc::clone(&grown);
    let api = Api::start(move |request, _| {
        if has_grown.load(Ordering::Relaxed) {
            linked(request, |_, from| format!("</items?from={from}>; rel=next"))
        } else {
            answer(json!(page_from(0)))
        }
    });
    let workspace = Workspace::with_config(api.address, &config("", ""));
    let report = workspace.sync(0);
    assert_eq!(report["resources"][0]["stop_reason"], "single_page");
    grown.store(true, Ordering::Relaxed);
    workspace.sync(0);
    assert_eq!(ids(&workspace), up_to(25));
}

#[test]
fn auto_never_takes_a_first_page_for_everything_when_the_api_says_there_is_more() {
    for (body, part) in [
        (json!({"items": page_from(0), "has_more": true}), "has_more"),
        (json!({"items": page_from(0), "total": 25, "offset": 0, "limit": 10}), "total"),
        (json!({"items": page_from(0), "meta": {"total_count": 25}}), "meta.total_count"),
    ] {
        let api = Api::start(move |_, _| answer(body.clone()));
        let workspace = Workspace::with_config(api.address, &config("", ""));
        let report = workspace.sync(69);
        let error = report["resources"][0]["error"].as_str().unwrap();
        assert!(error.contains(part) && error.contains("paginator"), "{error}");
        assert_eq!(workspace.value::<i64>("SELECT count(*) FROM _hw_pages"), 0);
    }
}

/// Why a read ends, what that makes of its run, and what the process says.
#[test]
fn every_stop_reason_has_its_outcome() {
    let by_number = |extra: &str| {
        format!("data_selector = \"data\"\npaginator = {{ type = \"page_number\", total_path = \"pages\"{extra} }}")
    };
    let plain = || -> Answers { Box::new(numbered(TOTAL, SIZE)) };
    let cases: Vec<(String, Answers, &str, &str, i32)> = vec![
        (
            "paginator = { type = \"header_link\" }".into(),
            Box::new(|_, _| answer(page_from(0).into())),
            "no_next",
            "complete",
            0,
        ),
        ("paginator = { type = \"page_number\" }".into(), plain(), "empty_page", "complete", 0),
        (
            "paginator = { type = \"page_number\", stop_on_short_page = true }".into(),
            plain(),
            "short_page",
            "complete",
            0,
        ),
        (
            "paginator = { type = \"page_number\", has_more_path = \"more\" }".into(),
            Box::new(|_, n| answer(json!({"data": page_from(SIZE * n as u64), "more": n < 2}))),
            "has_more_false",
            "complete",
            0,
        ),
        (by_number(""), plain(), "total_reached", "complete", 0),
        ("paginator = { type = \"single_page\" }".into(), plain(), "single_page", "complete", 0),
        (
            "paginator = { type = \"page_number\" }\n\
             response_actions = [{ status_code = 404, action = \"stop\" }]"
                .into(),
            Box::new(|_, n| if n < 2 { answer(page_from(SIZE * n as u64).into()) } else { respond(404, &[], "") }),
            "stopped_by_action",
            "complete",
            0,
        ),
        (by_number(", max_pages = 2"), plain(), "max_pages", "incomplete", 75),
        (
            "paginator = { type = \"page_number\" }".into(),
            Box::new(|_, n| answer(page_from(if n < 20 { 0 } else { TOTAL }).into())),
            "loop_detected",
            "failed",
            69,
        ),
        (by_number(""), Box::new(|_, _| respond(400, &[], "")), "error", "failed", 69),
        (
            by_number(""),
            Box::new(|_, _| respond(429, &[("retry-after", "86400")], "")),
            "interrupted",
            "incomplete",
            75,
        ),
    ];
    for (resource, answers, stop_reason, outcome, code) in cases {
        let api = Api::start(answers);
        let workspace = Workspace::with_config(api.address, &config("", &resource));
        let report = workspace.sync(code);
        assert_eq!(report["resources"][0]["stop_reason"], stop_reason, "{resource}");
        assert_eq!(report["resources"][0]["outcome"], outcome, "{resource}");
        assert_eq!(report["complete"], code == 0, "{resource}");
        let stored: String = workspace.value("SELECT outcome || ' ' || stop_reason FROM _hw_runs");
        assert_eq!(stored, format!("{outcome} {stop_reason}"), "{resource}");
        workspace.check_books();
    }
}

#[test]
fn p09_a_short_page_is_no_end_unless_it_is_declared() {
    // Pages of 10, 7, 10 and none; the third kind of API says itself whether there is more.
    let parts = |n: usize| match n {
        0 => records(0..10),
        1 => records(10..17),
        2 => records(17..27),
        _ => Vec::new(),
    };
    for (keys, stop_reason, rows) in [
        ("", "empty_page", 27),
        (", stop_on_short_page = true", "short_page", 17),
        (", stop_on_short_page = true, has_more_path = \"more\"", "has_more_false", 27),
    ] {
        let api = Api::start(move |_, n| answer(json!({"items": parts(n), "more": n < 2})));
        let resource = format!("data_selector = \"items\"\npaginator = {{ type = \"page_number\"{keys} }}");
        let workspace = Workspace::with_config(api.address, &config("", &resource));
        let report = workspace.sync(0);
        assert_eq!(report["resources"][0]["stop_reason"], stop_reason, "{keys}");
        assert_eq!(ids(&workspace), up_to(rows), "{keys}");
    }
}

#[test]
fn p08_an_empty_page_before_the_announced_total_is_a_failure() {
    for (resource, part) in [
        ("paginator = { type = \"offset\", limit = 10, total_path = \"total\" }", "announced 25 records"),
        ("paginator = { type = \"page_number\", total_path = \"pages\" }", "announced 3 pages"),
    ] {
        let api = Api::start(|_, n| {
            let items = if n == 0 { page_from(0) } else { Vec::new() };
            answer(json!({"items": items, "total": TOTAL, "pages": 3}))
        });
        let workspace =
            Workspace::with_config(api.address, &config("", &format!("data_selector = \"items\"\n{resource}")));
        let report = workspace.sync(69);
        assert!(report["resources"][0]["error"].as_str().unwrap().contains(part), "{report:#}");
        assert_eq!(report["resources"][0]["outcome"], "failed");
    }
}

#[test]
fn max_pages_leaves_the_read_open_and_the_next_sync_goes_on() {
    for key in ["primary_key = \"id\"", ""] {
        let api = Api::start(numbered(45, 10));
        let resource =
            "data_selector = \"data\"\npaginator = { type = \"page_number\", total_path = \"pages\", max_pages = 2 }";
        let text = config("", resource).replace("primary_key = \"id\"", key);
        let workspace = Workspace::with_config(api.address, &text);
        for (code, rows, stop_reason) in [(75, 20, "max_pages"), (75, 40, "max_pages"), (0, 45, "total_reached")] {
            let report = workspace.sync(code);
            assert_eq!(report["resources"][0]["stop_reason"], stop_reason);
            assert_eq!(ids(&workspace), up_to(rows));
        }
        let pages: Vec<u64> = api.seen().iter().map(|request| number(request, "page").unwrap()).collect();
        assert_eq!(pages, [1, 2, 3, 4, 5]);
        workspace.check_books();
    }
}

const BY_TOKEN: &str = "data_selector = \"items\"\n\
    paginator = { type = \"cursor\", cursor_path = \"next\", cursor_param = \"after\" }";

#[test]
fn p01_p02_p03_p07_an_api_that_leads_in_circles_is_left_and_the_next_run_starts_over() {
    type Body = fn(usize) -> Value;
    let circles: [(&str, usize, Body); 4] = [
        ("been at before", 2, |n| json!({"items": page_from(n as u64), "next": "a"})),
        ("been at before", 3, |n| json!({"items": page_from(n as u64), "next": (["a", "b"][n % 2])})),
        ("very records", 2, |n| json!({"items": page_from(0), "next": n.to_string()})),
        (
            "empty pages in a row",
            4,
            |n| json!({"items": if n == 0 { page_from(0) } else { Vec::new() }, "next": n.to_string()}),
        ),
    ];
    for (part, requests, body) in circles {
        let healed = Arc::new(AtomicBool::new(false));
        let now_healed = Arc::clone(&healed);
        let api = Api::start(move |_, n| {
            answer(if now_healed.load(Ordering::Relaxed) || n > 20 {
                json!({"items": page_from(0), "next": null})
            } else {
                body(n)
            })
        });
        let workspace = Workspace::with_config(api.address, &config("", BY_TOKEN));
        let report = workspace.sync(69);
        assert_eq!(report["resources"][0]["stop_reason"], "loop_detected", "{part}");
        assert!(report["resources"][0]["error"].as_str().unwrap().contains(part), "{report:#}");
        assert_eq!(api.seen().len(), requests, "{part}");
        healed.store(true, Ordering::Relaxed);
        workspace.sync(0);
        assert_eq!(lines(&api)[requests..], ["/items"], "{part}");
        workspace.check_books();
    }
}

#[test]
fn p01_the_last_token_repeated_behind_the_end_is_the_end() {
    let api =
        Api::start(|_, n| answer(json!({"items": if n == 0 { page_from(0) } else { Vec::new() }, "next": "end"})));
    let workspace = Workspace::with_config(api.address, &config("", BY_TOKEN));
    assert_eq!(workspace.sync(0)["resources"][0]["stop_reason"], "empty_page");
}

#[test]
fn p05_a_next_page_on_another_origin_is_refused_and_nothing_is_sent_there() {
    let foreign = Api::start(|_, _| answer(json!([])));
    for (resource, by_header) in [
        ("paginator = { type = \"header_link\" }", true),
        ("data_selector = \"items\"\npaginator = { type = \"json_link\", next_url_path = \"next\" }", false),
        ("", true),
        ("", false),
    ] {
        let address = foreign.address;
        let api = Api::start(move |_, n| {
            let next = if n == 0 { "/items?from=10".to_owned() } else { format!("http://{address}/items?from=20") };
            let link = if by_header { format!("<{next}>; rel=next") } else { String::new() };
            respond(200, &[("link", &link)], json!({"items": page_from(10 * n as u64), "next": next}).to_string())
        });
        let client = "auth = { type = \"bearer\", token = \"${env:TOKEN}\" }";
        let workspace = Workspace::with_config(api.address, &config(client, resource));
        let finished = finish(workspace.command(&["sync", "--json"]).env("TOKEN", "canary-4711").spawn().unwrap());
        assert_eq!(finished.code, Some(69), "{finished:#?}");
        assert!(finished.stdout.contains(&format!("another origin ({})", foreign.address)), "{finished:#?}");
        assert_eq!(ids(&workspace), up_to(10), "the page before it is kept");
    }
    assert_eq!(foreign.seen().len(), 0);
}

#[test]
fn p06_a_key_that_the_next_link_echoes_is_sent_again_but_neither_stored_nor_shown() {
    const KEY: &str = "canary-0815-key";
    let broken = Arc::new(AtomicBool::new(true));
    let is_broken = Arc::clone(&broken);
    let api = Api::start(move |request, _| {
        let first = number(request, "from").unwrap_or(0);
        if first == 20 && is_broken.load(Ordering::Relaxed) {
            return respond(400, &[], json!({"message": format!("no {} here", request.target)}).to_string());
        }
        let next = format!("/items?from={}&api_key={KEY}", first + SIZE);
        answer(json!({"items": page_from(first), "next": (first + SIZE < TOTAL).then_some(next)}))
    });
    let workspace = Workspace::with_config(
        api.address,
        &config(
            "auth = { type = \"api_key\", name = \"api_key\", location = \"query\", api_key = \"${env:KEY}\" }",
            "data_selector = \"items\"\npaginator = { type = \"json_link\", next_url_path = \"next\" }",
        ),
    );
    let sync = || finish(workspace.command(&["sync", "-v", "--json"]).env("KEY", KEY).spawn().unwrap());
    let failed = sync();
    assert_eq!(failed.code, Some(69), "{failed:#?}");
    broken.store(false, Ordering::Relaxed);
    let done = sync();
    assert_eq!(done.code, Some(0), "{done:#?}");
    assert_eq!(ids(&workspace), up_to(25));
    for request in api.seen() {
        assert_eq!(request.target.matches(KEY).count(), 1, "{}", request.target);
    }
    for finished in [failed, done] {
        assert!(!finished.stdout.contains(KEY) && !finished.stderr.contains(KEY), "{finished:#?}");
    }
    for file in std::fs::read_dir(workspace.path("")).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(KEY.len()).any(|window| window == KEY.as_bytes()));
    }
}

const PREFETCHED: &str = "data_selector = \"data\"\nconcurrency = 4\n\
    paginator = { type = \"page_number\", total_path = \"pages\" }";

#[test]
fn pages_in_flight_are_as_many_as_configured_and_are_committed_in_order() {
    // The earlier of a group answer last; the first page and those alone are quick.
    let latency = |request: &Seen| Duration::from_millis(250 - 50 * (number(request, "page").unwrap() % 4));
    let shortest = Duration::from_millis(100);
    let api = Api::start_paced(latency, numbered(120, 10));
    let workspace = Workspace::with_config(api.address, &config("", PREFETCHED));
    workspace.sync(0);
    let seen = api.seen();
    assert_eq!(seen.len(), 12, "not one request behind the total");
    let spans = |n: usize| seen.windows(n).map(move |group| group[n - 1].at - group[0].at).min().unwrap();
    assert!(spans(4) < shortest, "four together");
    assert!(spans(5) >= shortest / 2, "but no fifth: {:?}", spans(5));
    let positions: Vec<i64> = workspace.column("SELECT position ->> 'page' FROM _hw_pages ORDER BY page_id");
    assert_eq!(positions, (1..=12).collect::<Vec<_>>());
    assert_eq!(ids(&workspace), up_to(120));
    workspace.check_books();
}

#[test]
fn a_failing_page_among_those_in_flight_ends_the_read_in_order() {
    let broken = Arc::new(AtomicBool::new(true));
    let is_broken = Arc::clone(&broken);
    let pages = numbered(120, 10);
    let api = Api::start_paced(
        |request| Duration::from_millis(if number(request, "page") == Some(6) { 500 } else { 5 }),
        move |request, n| {
            let fails = number(request, "page") == Some(6) && is_broken.load(Ordering::Relaxed);
            if fails { respond(400, &[], "") } else { pages(request, n) }
        },
    );
    let workspace = Workspace::with_config(api.address, &config("", PREFETCHED).replace("primary_key = \"id\"", ""));
    broken.store(true, Ordering::Relaxed);
    let report = workspace.sync(69);
    assert!(report["resources"][0]["error"].as_str().unwrap().contains("page 6"), "{report:#}");
    assert_eq!(ids(&workspace), up_to(50), "later pages had come, but none is stored");
    assert!(api.seen().iter().any(|request| number(request, "page") == Some(7)));
    broken.store(false, Ordering::Relaxed);
    workspace.sync(0);
    assert_eq!(ids(&workspace), up_to(120));
    workspace.check_books();
}

#[test]
fn pages_in_flight_go_past_an_unknown_end_and_bring_nothing_from_there() {
    let api = Api::start_slow(Duration::from_millis(10), numbered(35, 10));
    let resource = "data_selector = \"data\"\nconcurrency = 4\npaginator = { type = \"page_number\" }";
    let workspace = Workspace::with_config(api.address, &config("", resource));
    let report = workspace.sync(0);
    assert_eq!(report["resources"][0]["stop_reason"], "empty_page");
    assert_eq!(report["resources"][0]["pages"], 5);
    assert!(api.seen().len() <= 9, "{:?}", lines(&api));
    assert_eq!(ids(&workspace), up_to(35));
}

#[test]
fn an_empty_page_is_no_end_when_a_later_one_in_flight_has_records() {
    let pages = numbered(120, 10);
    let api = Api::start_slow(Duration::from_millis(10), move |request, n| {
        if number(request, "page") == Some(3) { answer(json!({"data": []})) } else { pages(request, n) }
    });
    let resource = "data_selector = \"data\"\nconcurrency = 4\npaginator = { type = \"page_number\" }";
    let workspace = Workspace::with_config(api.address, &config("", resource));
    let report = workspace.sync(69);
    let error = report["resources"][0]["error"].as_str().unwrap();
    assert!(error.contains("page 3 is empty, but page 4 has records"), "{error}");
}

#[test]
fn an_api_that_ignores_the_page_is_a_circle_although_its_records_change() {
    let api = Api::start(|_, n| {
        let with_clock = |mut record: Value| {
            record["served"] = n.into();
            record
        };
        answer(records(0..10).into_iter().map(with_clock).collect())
    });
    let workspace = Workspace::with_config(api.address, &config("", "paginator = { type = \"page_number\" }"));
    let report = workspace.sync(69);
    assert!(report["resources"][0]["error"].as_str().unwrap().contains("circle"), "{report:#}");
    assert_eq!(api.seen().len(), 2);
}

#[test]
fn ignore_means_no_rows_only_on_the_first_page() {
    for (gone_from, exit) in [(1, 0), (2, 69)] {
        let api = Api::start(move |request, n| {
            if number(request, "page") >= Some(gone_from) {
                respond(404, &[], "")
            } else {
                numbered(TOTAL, SIZE)(request, n)
            }
        });
        let resource = "data_selector = \"data\"\npaginator = { type = \"page_number\" }\n\
                        response_actions = [{ status_code = 404, action = \"ignore\" }]";
        let workspace = Workspace::with_config(api.address, &config("", resource));
        let report = workspace.sync(exit);
        let error = report["resources"][0]["error"].as_str().unwrap_or_default();
        assert_eq!(error.contains("in the middle of a read"), exit != 0, "{error}");
    }
}

#[test]
fn many_pages_in_flight_fit_through_a_channel_for_few() {
    let api = Api::start(|request, _| {
        let page = number(request, "page").unwrap();
        let data: Vec<_> = records((page - 1) * 5..page * 5)
            .into_iter()
            .map(|mut record| {
                record["text"] = "x".repeat(20_000).into();
                record
            })
            .collect();
        answer(json!({"data": data, "pages": 40}))
    });
    let text = format!(
        "[pipeline]\nchannel_pages = 1\nchannel_bytes = \"1MiB\"\n{}",
        config("", PREFETCHED).replace("concurrency = 4", "concurrency = 16")
    );
    let workspace = Workspace::with_config(api.address, &text);
    workspace.sync(0);
    assert_eq!(ids(&workspace), up_to(200));
    assert_eq!(api.seen().len(), 40);
}

#[test]
fn records_are_selected_from_any_body() {
    let items = || json!([{"id": 0}, {"id": 1}]);
    for (selector, body, rows) in [
        ("data.items", json!({"data": {"items": items()}, "other": [{"id": 7}]}), 2),
        ("$.data.items", json!({"data": {"items": items()}}), 2),
        ("$.data.items[*]", json!({"data": {"items": items()}, "other": [{"id": 7}]}), 2),
        ("$.data[?@.kind == 'a'].items[*]", json!({"data": [{"kind": "a", "items": items()}, {"kind": "b"}]}), 2),
        ("$", items(), 2),
        ("", items(), 2),
        ("", json!({"meta": {"n": 2}, "tags": ["x"], "result": {"rows": items()}}), 2),
        ("data", json!({"data": {"id": 0, "name": "the only one"}}), 1),
        ("data", json!({"data": null}), 0),
        ("data", json!({"data": []}), 0),
        ("", json!([]), 0),
        ("", json!({"items": [], "total": 0}), 0),
    ] {
        let whole = format!("\u{feff}{body}");
        let api = Api::start(move |_, _| respond(200, &[("content-type", "application/json")], whole.clone()));
        let selector = if selector.is_empty() { String::new() } else { format!("data_selector = \"{selector}\"\n") };
        let resource = format!("{selector}paginator = {{ type = \"single_page\" }}");
        let workspace = Workspace::with_config(api.address, &config("", &resource));
        let report = workspace.sync(0);
        assert_eq!(report["resources"][0]["records"]["received"], rows, "{resource} {body}");
        if rows > 0 {
            assert_eq!(ids(&workspace), up_to(rows), "{resource} {body}");
        }
        assert_eq!(api.seen().len(), 1);
        workspace.check_books();
    }
}

#[test]
fn several_lists_that_could_be_the_records_fail_at_once() {
    let api = Api::start(|_, _| answer(json!({"a": [{"id": 1}], "b": [{"id": 2}]})));
    let workspace = Workspace::with_config(api.address, &config("", ""));
    let report = workspace.sync(69);
    let error = report["resources"][0]["error"].as_str().unwrap();
    assert!(error.contains("several lists could be the records (a, b); set data_selector"), "{error}");
    assert_eq!(api.seen().len(), 1, "asking again cannot help");
}

#[test]
fn a_body_that_is_no_page_is_asked_for_three_times_and_then_fails() {
    for (selector, body, part) in [
        ("items", "{\"ok\":false,\"error\":\"nope\"}", "its keys: ok, error"),
        ("$.items[*]", "{\"ok\":false}", "matches nothing"),
        ("", "{\"ok\":false,\"errors\":[{\"message\":\"nope\"}]}", "no list of records"),
        ("items", "<!doctype html><html><body>Log in</body></html>", "HTML"),
        ("items", "{\"items\":[{\"id\":1},", "not JSON"),
        ("items", "{\"items\":[{\"id\":NaN}]}", "not JSON"),
        ("items", "{\"items\":17}", "not to records"),
        ("items", "null", "matches nothing"),
        ("", "\"text\"", "no list of records"),
        ("", "", "the body is empty"),
    ] {
        let api = Api::start(move |_, _| respond(200, &[("content-type", "application/json")], body));
        let selector = if selector.is_empty() { String::new() } else { format!("data_selector = \"{selector}\"\n") };
        let resource = format!("{selector}paginator = {{ type = \"single_page\" }}");
        let workspace = Workspace::with_config(api.address, &config("", &resource));
        let report = workspace.sync(69);
        let error = report["resources"][0]["error"].as_str().unwrap();
        assert!(error.contains(part) && error.contains("first page"), "{error}");
        assert_eq!(report["resources"][0]["outcome"], "failed");
        assert_eq!(api.seen().len(), 3, "{body}");
        assert_eq!(workspace.value::<i64>("SELECT count(*) FROM _hw_pages"), 0);
        assert_eq!(workspace.value::<i64>("SELECT count(*) FROM _hw_quarantine"), 0);
    }
}

#[test]
fn text_in_another_encoding_is_refused() {
    let utf16: Vec<u8> = "[{\"id\":1}]".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let latin1 = b"[{\"id\":1,\"name\":\"caf\xe9\"}]".to_vec();
    for body in [utf16, latin1] {
        let api = Api::start(move |_, _| respond(200, &[], body.clone()));
        let workspace = Workspace::with_config(api.address, &config("", "paginator = { type = \"single_page\" }"));
        workspace.sync(69);
        assert_eq!(workspace.value::<i64>("SELECT count(*) FROM _hw_pages"), 0);
    }
}

#[test]
fn a_wrong_paginator_on_the_first_page_is_an_error_that_names_what_is_there() {
    for (resource, body, link, part) in [
        (
            "paginator = { type = \"cursor\", cursor_path = \"meta.nxt\", cursor_param = \"after\" }",
            json!({"items": page_from(0), "meta": {"next_cursor": "t10"}}),
            "",
            "meta.next_cursor",
        ),
        (
            "paginator = { type = \"json_link\", next_url_path = \"links.nxt\" }",
            json!({"items": page_from(0), "links": {"next": "/items?from=10"}}),
            "",
            "links.next",
        ),
        (
            "paginator = { type = \"cursor\", cursor_path = \"next\", cursor_param = \"after\" }",
            json!({"items": page_from(0)}),
            "</items?from=10>; rel=\"next\"",
            "Link header",
        ),
        (
            "paginator = { type = \"header_cursor\", header = \"X-Nxt\", cursor_param = \"after\" }",
            json!({"items": page_from(0), "nextPageToken": "t10"}),
            "",
            "nextPageToken",
        ),
    ] {
        let api = Api::start(move |_, _| respond(200, &[("link", link)], body.to_string()));
        let resource = format!("data_selector = \"items\"\n{resource}");
        let workspace = Workspace::with_config(api.address, &config("", &resource));
        let report = workspace.sync(69);
        let error = report["resources"][0]["error"].as_str().unwrap();
        assert!(error.contains(part) && error.contains("paginator"), "{error}");
        assert_eq!(workspace.value::<i64>("SELECT count(*) FROM _hw_pages"), 0);
        assert_eq!(api.seen().len(), 1);
    }
}

#[test]
fn p08_a_page_that_says_there_is_more_but_not_where_is_a_failure() {
    for resource in [
        "paginator = { type = \"header_link\", has_more_path = \"more\" }",
        "paginator = { type = \"cursor\", cursor_path = \"next\", cursor_param = \"after\", has_more_path = \"more\" }",
    ] {
        let api = Api::start(|_, _| answer(json!({"items": page_from(0), "more": true})));
        let resource = format!("data_selector = \"items\"\n{resource}");
        let workspace = Workspace::with_config(api.address, &config("", &resource));
        let report = workspace.sync(69);
        assert!(report["resources"][0]["error"].as_str().unwrap().contains("not where"), "{report:#}");
    }
}
