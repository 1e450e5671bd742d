//! What is tried again, what is not, and what a run says where no other try helps.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::response::Response;
use flate2::{Compression, write::GzEncoder};
use futures::StreamExt;
use serde_json::{Value, json};

use crate::faults::server::{FaultServer, Then, raw};
use crate::pagination::{config, ids, up_to};
use crate::support::{Api, Seen, Workspace, finish, json as answer, numbered, records, respond};

const BY_PAGE: &str = "data_selector = \"data\"\npaginator = { type = \"page_number\", total_path = \"pages\" }";
const ONE: &str = "paginator = { type = \"single_page\" }";

/// The statuses, one after the other, and then the page.
fn after(statuses: &'static [u16]) -> impl Fn(&Seen, usize) -> Response + Send + Sync {
    move |_, n| match statuses.get(n) {
        Some(status) => {
            respond(*status, &[("content-type", "application/json")], json!({"message": "why"}).to_string())
        }
        None => answer(records(0..3).into()),
    }
}

fn error_of(report: &Value) -> &str {
    report["resources"][0]["error"].as_str().unwrap()
}

fn gaps(api: &Api) -> Vec<Duration> {
    api.seen().windows(2).map(|pair| pair[1].at - pair[0].at).collect()
}

#[test]
fn failures_that_may_pass_are_tried_again_until_they_do() {
    for statuses in [&[500, 500][..], &[502, 503], &[504, 520], &[408, 425], &[429, 429]] {
        let api = Api::start(after(statuses));
        let workspace = Workspace::with_config(api.address, &config("", ONE));
        let report = workspace.sync(0);
        assert_eq!(report["resources"][0]["requests"], 3, "{statuses:?}");
        assert_eq!(report["resources"][0]["retries"], 2, "{statuses:?}");
        assert_eq!(ids(&workspace), up_to(3));
        assert_eq!(workspace.value::<i64>("SELECT attempts FROM _hw_pages"), 3);
        assert_eq!(workspace.value::<String>("SELECT requests || ' ' || retries FROM _hw_runs"), "3 2");
    }
}

/// The status, how often it is asked for, the exit code, and what the error says beside the status.
#[test]
fn h12_h16_every_refusal_has_its_number_of_tries_its_exit_code_and_a_sentence() {
    for (status, requests, code, part) in [
        (500, 3, 69, "why"),
        (503, 3, 69, "why"),
        (429, 3, 75, "why"),
        (501, 1, 69, "why"),
        (400, 1, 69, "why"),
        (404, 1, 69, "why"),
        (409, 1, 69, "why"),
        (410, 1, 69, "why"),
        (401, 1, 77, "credentials were refused"),
        (403, 1, 77, ""),
        (206, 1, 69, "not expected"),
        (304, 1, 69, "not expected"),
        (999, 1, 69, "not expected"),
        (204, 3, 69, "response_actions"),
    ] {
        let api = Api::start(move |_, _| {
            let body = if matches!(status, 204 | 304) { String::new() } else { json!({"message": "why"}).to_string() };
            respond(status, &[], body)
        });
        let client = "auth = { type = \"bearer\", token = \"${env:TOKEN}\" }";
        let workspace = Workspace::with_config(api.address, &config(client, ONE));
        let finished = finish(workspace.command(&["sync", "--json"]).env("TOKEN", "canary-42").spawn().unwrap());
        assert_eq!(finished.code, Some(code), "{status}: {finished:#?}");
        let report: Value = serde_json::from_str(&finished.stdout).unwrap();
        let error = error_of(&report);
        assert!(error.contains(&status.to_string()) && error.contains(part), "{error}");
        assert!(error.starts_with("api.items: first page: "), "{error}");
        assert!(!finished.stdout.contains("canary-42") && !finished.stderr.contains("canary-42"));
        assert_eq!(api.seen().len(), requests, "{status}");
        workspace.check_books();
    }
}

#[test]
fn h08_a_page_that_stays_broken_is_never_skipped_and_the_next_run_goes_on_at_it() {
    let broken = Arc::new(AtomicBool::new(true));
    let is_broken = Arc::clone(&broken);
    let pages = numbered(95, 10);
    let api = Api::start(move |request, n| {
        let fails = request.param("page").as_deref() == Some("7") && is_broken.load(Ordering::Relaxed);
        if fails { respond(500, &[], "") } else { pages(request, n) }
    });
    let workspace = Workspace::with_config(api.address, &config("", BY_PAGE));
    let report = workspace.sync(69);
    assert!(error_of(&report).starts_with("api.items: page 7: "), "{report:#}");
    assert_eq!(report["resources"][0]["outcome"], "failed");
    assert_eq!(ids(&workspace), up_to(60));
    assert_eq!(api.seen().len(), 6 + 3);
    broken.store(false, Ordering::Relaxed);
    let report = workspace.sync(0);
    assert_eq!(report["resources"][0]["resumed_at"], "page 7");
    assert_eq!(ids(&workspace), up_to(95));
    let pages: Vec<_> = api.seen()[9..].iter().map(|request| request.param("page").unwrap()).collect();
    assert_eq!(pages, ["7", "8", "9", "10"]);
    workspace.check_books();
}

#[test]
fn one_failing_resource_leaves_the_others_alone() {
    let pages = numbered(20, 10);
    let api = Api::start(
        move |request, n| if request.path() == "/items" { respond(500, &[], "") } else { pages(request, n) },
    );
    let text = format!("{}\n[sources.api.resources.others]\nprimary_key = \"id\"\n{BY_PAGE}\n", config("", BY_PAGE));
    let workspace = Workspace::with_config(api.address, &text);
    let report = workspace.sync(69);
    assert_eq!(report["resources"][0]["outcome"], "failed");
    assert_eq!(report["resources"][1]["outcome"], "complete");
    assert_eq!(workspace.value::<i64>("SELECT count(*) FROM api_others"), 20);
}

#[test]
fn h02_h03_retry_after_is_waited_for_by_the_servers_clock() {
    let date = "Sun, 01 Mar 2026 12:00:00 GMT";
    for (name, value) in [("seconds", "1"), ("date", "Sun, 01 Mar 2026 12:00:01 GMT"), ("epoch", "1772366401")] {
        let api = Api::start(move |_, n| match n {
            0 => respond(429, &[("retry-after", value), ("date", date)], ""),
            _ => answer(records(0..3).into()),
        });
        let workspace = Workspace::with_config(api.address, &config("", ONE));
        workspace.sync(0);
        let gap = gaps(&api)[0];
        assert!(gap >= Duration::from_secs(1) && gap < Duration::from_secs(20), "{name}: {gap:?}");
    }
}

#[test]
fn h04_an_absurd_retry_after_is_a_failure_like_others() {
    let absurd = ["-1", "NaN", "1e99", "", "0", "99999999999999999999", "soon", "Fri, 01 Mar 2196 12:00:00 GMT"];
    let pages = numbered(80, 10);
    let api = Api::start(move |request, n| {
        let page: usize = request.param("page").unwrap().parse().unwrap();
        if n % 2 == 0 { respond(429, &[("retry-after", absurd[page - 1])], "") } else { pages(request, n) }
    });
    let workspace = Workspace::with_config(api.address, &config("", BY_PAGE));
    let report = workspace.sync(0);
    assert_eq!(report["resources"][0]["retries"], 8);
    assert!(gaps(&api).iter().all(|gap| *gap < Duration::from_secs(10)), "{:?}", gaps(&api));
    assert_eq!(ids(&workspace), up_to(80));
}

#[test]
fn a_retry_after_of_nothing_for_ever_ends_like_other_failures() {
    for value in ["0", "0.0", "Sun, 01 Mar 2026 11:59:59 GMT"] {
        let api = Api::start(move |_, _| {
            respond(429, &[("retry-after", value), ("date", "Sun, 01 Mar 2026 12:00:00 GMT")], "")
        });
        let workspace = Workspace::with_config(api.address, &config("", ONE));
        workspace.sync(75);
        assert_eq!(api.seen().len(), 3, "{value}");
    }
}

#[test]
fn waits_that_the_server_asked_for_are_not_counted_as_tries() {
    let api = Api::start(|_, n| match n {
        0..5 => respond(429, &[("retry-after", "0.05")], ""),
        _ => answer(records(0..3).into()),
    });
    let workspace = Workspace::with_config(api.address, &config("", ONE));
    let report = workspace.sync(0);
    assert_eq!(report["resources"][0]["requests"], 6, "max_attempts is 3");
    assert!(gaps(&api).iter().all(|gap| *gap >= Duration::from_millis(50)), "{:?}", gaps(&api));
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// Each is a reply that looks like a success and is cut or damaged; the second reply is whole.
#[test]
fn b01_to_b05_a_body_that_did_not_come_whole_is_asked_for_again() {
    let body = r#"[{"id":0},{"id":1},{"id":2}]"#;
    let zipped = gzip(body);
    let zip = |bytes: &[u8]| raw(&format!("Content-Encoding: gzip\r\nContent-Length: {}\r\n", bytes.len()), bytes);
    let whole = raw(&format!("Content-Length: {}\r\n", body.len()), body.as_bytes());
    let chunked = format!("1c\r\n{body}\r\n0\r\n\r\n");
    let mut wrong_checksum = zipped.clone();
    let checksum = wrong_checksum.len() - 8;
    wrong_checksum[checksum] ^= 1;
    for (name, reply) in [
        ("shorter than announced", raw("Content-Length: 28\r\n", &body.as_bytes()[..20])),
        ("no last chunk", raw("Transfer-Encoding: chunked\r\n", b"a\r\n[{\"id\":0},\r\n")),
        ("too short a length", raw("Content-Length: 20\r\n", body.as_bytes())),
        ("ended by the close", raw("", &body.as_bytes()[..20])),
        ("no body at all", raw("", b"")),
        ("closed before the head", Vec::new()),
        ("inside the head", b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()),
        ("two lengths", raw("Content-Length: 28\r\nTransfer-Encoding: chunked\r\n", chunked.as_bytes())),
        ("cut gzip", zip(&zipped[..zipped.len() - 9])),
        ("wrong checksum", zip(&wrong_checksum)),
        ("garbage behind gzip", zip(&[&zipped[..], b"garbage"].concat())),
        ("no gzip", zip(body.as_bytes())),
        ("no HTTP", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
    ] {
        let server = FaultServer::start(vec![(reply, Then::Close), (whole.clone(), Then::Close)]);
        let workspace = Workspace::with_config(server.address, &config("", ONE));
        let report = workspace.sync(0);
        assert_eq!(report["resources"][0]["requests"], 2, "{name}");
        assert_eq!(ids(&workspace), up_to(3), "{name}");
    }
}

#[test]
fn damaged_compression_is_asked_for_without_compression() {
    let server = FaultServer::start(vec![
        (raw("Content-Encoding: gzip\r\nContent-Length: 5\r\n", b"no gz"), Then::Close),
        (raw("Content-Length: 10\r\n", br#"[{"id":0}]"#), Then::Close),
    ]);
    let workspace = Workspace::with_config(server.address, &config("", ONE));
    workspace.sync(0);
    let heads: Vec<String> = server.heard().into_iter().map(|(_, head)| head).collect();
    assert!(heads[0].contains("accept-encoding: gzip"), "{}", heads[0]);
    assert!(heads[1].contains("accept-encoding: identity"), "{}", heads[1]);
}

#[test]
fn b05_gzip_of_several_members_is_one_body() {
    let zipped = [gzip("[{\"id\":0},"), gzip("{\"id\":1},"), gzip(""), gzip("{\"id\":2}]")].concat();
    let api = Api::start(move |_, _| respond(200, &[("content-encoding", "gzip")], zipped.clone()));
    let workspace = Workspace::with_config(api.address, &config("", ONE));
    workspace.sync(0);
    assert_eq!(ids(&workspace), up_to(3));
}

#[test]
fn b06_b07_a_body_beyond_max_page_bytes_fails_at_once() {
    let large = Value::from(records(0..4000)).to_string();
    let zipped = gzip(&large);
    for (headers, body) in [(vec![], large.clone().into_bytes()), (vec![("content-encoding", "gzip")], zipped)] {
        let api = Api::start(move |_, _| respond(200, &headers, body.clone()));
        let workspace = Workspace::with_config(api.address, &config("max_page_bytes = \"64KiB\"", ONE));
        let report = workspace.sync(69);
        assert!(error_of(&report).contains("`max_page_bytes` (64KiB)"), "{report:#}");
        assert_eq!(api.seen().len(), 1);
        workspace.configure(api.address, &config("max_page_bytes = \"1MiB\"", ONE));
        workspace.sync(0);
        assert_eq!(ids(&workspace), up_to(4000));
    }
}

#[test]
fn h10_n13_html_twice_is_forgiven_and_three_times_it_is_not() {
    for (times, code) in [(2, 0), (3, 69)] {
        let api = Api::start(move |_, n| match n {
            n if n < times => respond(200, &[("content-type", "text/html")], "<html><body>Please log in</body></html>"),
            _ => answer(records(0..3).into()),
        });
        let workspace =
            Workspace::with_config(api.address, &config("", ONE).replace("max_attempts = 3", "max_attempts = 6"));
        let report = workspace.sync(code);
        assert_eq!(api.seen().len(), 3);
        if code == 69 {
            assert!(error_of(&report).contains("HTML"), "{report:#}");
        }
    }
}

/// A rule, the answers of an API with three pages, and how the read ends.
#[test]
fn h11_response_actions_say_what_a_response_means() {
    type Answers = fn(usize) -> Option<Response>;
    let cases: [(&str, Answers, i32, &str, i64, usize); 12] = [
        // The rule; what comes instead of the n-th response; the exit code; the stop reason; rows; requests.
        (
            "{ status_code = 404, action = \"retry\" }",
            |n| (n == 1).then(|| respond(404, &[], "")),
            0,
            "total_reached",
            25,
            4,
        ),
        ("{ status_code = [400, 404], action = \"retry\" }", |_| Some(respond(400, &[], "")), 69, "error", 0, 3),
        (
            "{ status_code = \"5xx\", action = \"fail\" }",
            |n| (n == 1).then(|| respond(503, &[], "")),
            69,
            "error",
            10,
            2,
        ),
        (
            "{ content = \"maintenance\", action = \"fail\" }",
            |n| (n == 0).then(|| answer(json!({"note": "maintenance"}))),
            69,
            "error",
            0,
            1,
        ),
        (
            "{ when = \"body.ok is defined and body.ok == false\", action = \"fail\" }",
            |n| (n == 2).then(|| answer(json!({"ok": false}))),
            69,
            "error",
            20,
            3,
        ),
        (
            "{ status_code = [404, 410], action = \"ignore\" }",
            |_| Some(respond(410, &[], "")),
            0,
            "stopped_by_action",
            0,
            1,
        ),
        (
            "{ status_code = \"4xx\", action = \"stop\" }",
            |n| (n == 2).then(|| respond(416, &[], "")),
            0,
            "stopped_by_action",
            20,
            3,
        ),
        (
            "{ when = \"status == 200 and headers['x-end'] is defined\", action = \"stop\" }",
            |n| (n == 1).then(|| respond(200, &[("x-end", "yes")], "[]")),
            0,
            "stopped_by_action",
            10,
            2,
        ),
        (
            "{ status_code = 204, action = \"stop\" }",
            |n| (n == 2).then(|| respond(204, &[], "")),
            0,
            "stopped_by_action",
            20,
            3,
        ),
        (
            "{ status_code = 403, content = \"secondary\", action = \"rate_limited\" }",
            |n| (n == 1).then(|| respond(403, &[("retry-after", "0.3")], "secondary rate")),
            0,
            "total_reached",
            25,
            4,
        ),
        (
            "{ status_code = 403, content = \"secondary\", action = \"rate_limited\" }",
            |_| Some(respond(403, &[], "other")),
            77,
            "error",
            0,
            1,
        ),
        ("{ when = \"body.ok == false\", action = \"stop\" }", |_| Some(respond(404, &[], "{}")), 69, "error", 0, 1),
    ];
    for (rule, instead, code, stop_reason, rows, requests) in cases {
        let pages = numbered(25, 10);
        let api = Api::start(move |request, n| instead(n).unwrap_or_else(|| pages(request, n)));
        let resource = format!("{BY_PAGE}\nresponse_actions = [{rule}]");
        let workspace = Workspace::with_config(api.address, &config("", &resource));
        let report = workspace.sync(code);
        assert_eq!(report["resources"][0]["stop_reason"], stop_reason, "{rule}");
        assert_eq!(report["resources"][0]["records"]["inserted"], rows, "{rule} {report:#}");
        assert_eq!(api.seen().len(), requests, "{rule}");
        if rows > 0 {
            assert_eq!(ids(&workspace), up_to(rows), "{rule}");
        }
        if rule.contains("rate_limited") && code == 0 {
            assert!(gaps(&api)[1] >= Duration::from_millis(300), "{:?}", gaps(&api));
        }
        if code == 69 && rule.contains("when") {
            let error = error_of(&report);
            assert!(error.contains("response action 1"), "{error}");
            assert_eq!(error.contains("is defined and"), !rule.contains("is defined"), "{error}");
        }
        workspace.check_books();
    }
}

#[test]
fn the_first_action_that_matches_decides() {
    let api = Api::start(|_, _| respond(404, &[], "gone for good"));
    let resource = format!(
        "{ONE}\nresponse_actions = [{{ status_code = 404, content = \"here\", action = \"fail\" }}, \
         {{ status_code = \"4xx\", content = \"gone\", action = \"ignore\" }}, {{ status_code = 404, action = \"retry\" }}]"
    );
    let workspace = Workspace::with_config(api.address, &config("", &resource));
    assert_eq!(workspace.sync(0)["resources"][0]["stop_reason"], "stopped_by_action");
    assert_eq!(api.seen().len(), 1);
}

#[test]
fn h15_redirects_stay_on_the_origin_and_keep_their_credentials() {
    let foreign = Api::start(|_, _| answer(json!([])));
    let away = format!("http://{}/list", foreign.address);
    let get = ONE.to_owned();
    let post = format!("method = \"POST\"\njson = {{ q = 1 }}\n{ONE}");
    for (location, client, resource, code, requests, part) in [
        ("/list".to_owned(), "", get.clone(), 0, 2, ""),
        ("list?x=1".to_owned(), "", get.clone(), 0, 2, ""),
        (away.clone(), "", get.clone(), 69, 1, "another origin"),
        (away.replace("http://", "//"), "", get.clone(), 69, 1, "another origin"),
        ("/list".to_owned(), "redirects = \"none\"", get.clone(), 69, 1, "`redirects` is \"none\""),
        ("/items".to_owned(), "", get.clone(), 69, 6, "more than 5 redirects"),
        ("/list".to_owned(), "", post.clone(), 69, 1, "only a GET"),
    ] {
        let to = location.clone();
        let api = Api::start(move |request, _| match request.path() {
            "/items" => respond(307, &[("location", &to)], ""),
            _ => answer(records(0..3).into()),
        });
        let client = format!("auth = {{ type = \"bearer\", token = \"${{env:TOKEN}}\" }}\n{client}");
        let workspace = Workspace::with_config(api.address, &config(&client, &resource));
        let finished = finish(workspace.command(&["sync", "--json"]).env("TOKEN", "canary-42").spawn().unwrap());
        assert_eq!(finished.code, Some(code), "{location}: {finished:#?}");
        assert!(finished.stdout.contains(&part.replace('"', "\\\"")), "{location}: {finished:#?}");
        assert_eq!(api.seen().len(), requests, "{location}");
        assert!(api.seen().iter().all(|request| request.headers["authorization"] == "Bearer canary-42"), "{location}");
    }
    assert_eq!(foreign.seen().len(), 0);
}

#[test]
fn a_post_sends_its_body_with_every_page_and_every_try() {
    let pages = numbered(25, 10);
    let api = Api::start(move |request, n| match n {
        1 | 3 => respond(503, &[], ""),
        _ => pages(request, n),
    });
    let resource =
        format!("method = \"POST\"\njson = {{ query = \"everything\", fields = [\"id\", \"name\"] }}\n{BY_PAGE}");
    let workspace = Workspace::with_config(api.address, &config("", &resource));
    workspace.sync(0);
    let seen = api.seen();
    assert_eq!(seen.len(), 5);
    for request in seen {
        assert_eq!(request.method, "POST");
        assert_eq!(request.headers["content-type"], "application/json");
        assert_eq!(request.body, r#"{"query":"everything","fields":["id","name"]}"#);
    }
    assert_eq!(ids(&workspace), up_to(25));
}

#[test]
fn n01_a_server_that_is_not_there_is_tried_again_and_then_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let workspace = Workspace::with_config(address, &config("", ONE));
    let report = workspace.sync(69);
    assert!(error_of(&report).contains(&format!("cannot connect to {address}")), "{report:#}");
    assert_eq!(report["resources"][0]["requests"], 3);
}

#[test]
fn n05_silence_ends_with_the_time_limit_that_it_broke() {
    let beginning = || futures::stream::once(async { Ok::<_, std::io::Error>("[{\"id\":0},") });
    for (client, latency, part) in [
        ("timeout = \"200ms\"", Duration::from_secs(30), "complete its response within `timeout` (200ms)"),
        ("read_timeout = \"200ms\"", Duration::ZERO, "send more of its body within `read_timeout` (200ms)"),
    ] {
        let api = Api::start_slow(latency, move |_, _| {
            respond(200, &[], axum::body::Body::from_stream(beginning().chain(futures::stream::pending())))
        });
        let workspace = Workspace::with_config(api.address, &config(client, ONE));
        let report = workspace.sync(69);
        assert!(error_of(&report).contains(part), "{report:#}");
        assert_eq!(api.seen().len(), 3);
    }
}
