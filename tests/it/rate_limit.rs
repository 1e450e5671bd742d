//! Promise 13: never more than the configured rate and concurrency, and no sooner than a server asked for, over all
//! resources, runs and restarts. The judge is the server's clock.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::pagination::{config, ids, up_to};
use crate::support::{Api, Seen, Workspace, finish, json as answer, numbered, records, respond, signal};

const BY_PAGE: &str = "data_selector = \"data\"\npaginator = { type = \"page_number\", total_path = \"pages\" }";
const ONE: &str = "paginator = { type = \"single_page\" }";

/// A request waits between the clock that lets it leave and the clock of the server that sees it; on a busy machine
/// so much longer than the next one, at most.
const JITTER: Duration = Duration::from_millis(60);

/// No window of `per` holds more than `requests`, to within what a busy machine adds: a fifth of a long window.
pub(crate) fn assert_rate(times: &[Instant], requests: usize, per: Duration) {
    let jitter = JITTER.max(per / 5);
    for window in times.windows(requests + 1) {
        let span = window[requests] - window[0];
        assert!(span + jitter >= per, "{} requests within {span:?}", requests + 1);
    }
}

fn times(api: &Api) -> Vec<Instant> {
    api.seen().iter().map(|request| request.at).collect()
}

fn outcome(report: &Value) -> (&str, &str) {
    let resource = &report["resources"][0];
    (resource["outcome"].as_str().unwrap(), resource["error"].as_str().unwrap_or_default())
}

#[test]
fn no_window_holds_more_requests_than_the_rate_allows() {
    let api = Api::start(numbered(300, 10));
    let client = "rate_limit = { requests = 10, per = \"500ms\" }";
    let workspace = Workspace::with_config(api.address, &config(client, &format!("{BY_PAGE}\nconcurrency = 4")));
    workspace.sync(0);
    assert_eq!(ids(&workspace), up_to(300));
    let times = times(&api);
    assert_eq!(times.len(), 30);
    assert_rate(&times, 10, Duration::from_millis(500));
    // Without a burst the requests are spread, not bunched at the window's edges.
    assert_rate(&times, 5, Duration::from_millis(250));
}

#[test]
fn a_burst_leaves_at_once_and_the_rate_holds_after_it() {
    let api = Api::start(numbered(120, 10));
    let client = "rate_limit = { requests = 4, per = \"1s\", burst = 6 }";
    let workspace = Workspace::with_config(api.address, &config(client, &format!("{BY_PAGE}\nconcurrency = 4")));
    workspace.sync(0);
    let times = times(&api);
    assert!(times[5] - times[0] < Duration::from_secs(1), "{:?}", times[5] - times[0]);
    assert_rate(&times[5..], 4, Duration::from_secs(1));
}

#[test]
fn sources_that_name_the_same_budget_share_it() {
    let api = Api::start(numbered(80, 10));
    let client = "rate_limit = { requests = 10, per = \"1s\", budget = \"shared\" }";
    let one = config(client, BY_PAGE);
    let text = format!("{one}\n{}", one.replace("sources.api", "sources.other"));
    let workspace = Workspace::with_config(api.address, &text);
    workspace.sync(0);
    assert_eq!(times(&api).len(), 16);
    assert_rate(&times(&api), 10, Duration::from_secs(1));
    assert_rate(&times(&api), 1, Duration::from_millis(100));
    let budgets: Vec<String> = workspace.column("SELECT budget FROM _hw_budgets");
    assert_eq!(budgets, ["shared"]);
}

#[test]
fn no_more_requests_are_in_flight_than_the_budget_allows() {
    let latency = Duration::from_millis(120);
    let api = Api::start_slow(latency, numbered(80, 10));
    let one = config("rate_limit = { concurrency = 2 }", &format!("{BY_PAGE}\nconcurrency = 6"));
    let text = format!("{one}\n[sources.api.resources.others]\n{BY_PAGE}\nconcurrency = 6\n");
    let workspace = Workspace::with_config(api.address, &text);
    workspace.sync(0);
    let times = times(&api);
    assert_eq!(times.len(), 16);
    let spans = |n: usize| times.windows(n).map(move |group| group[n - 1] - group[0]).min().unwrap();
    assert!(spans(2) < latency / 2, "two at a time");
    assert!(spans(3) + JITTER >= latency, "but no third: {:?}", spans(3));
}

#[test]
fn the_gap_is_kept_over_restarts_even_after_a_kill() {
    let gap = Duration::from_millis(1200);
    let client = "rate_limit = { requests = 1, per = \"1200ms\" }";
    let api = Api::start(|_, _| answer(records(0..3).into()));
    let workspace = Workspace::with_config(api.address, &config(client, ONE));
    workspace.sync(0);
    workspace.sync(0);
    assert_rate(&times(&api), 1, gap);

    let hang = Arc::new(AtomicBool::new(true));
    let hangs = Arc::clone(&hang);
    let api = Api::start_paced(
        move |_| if hangs.load(Ordering::Relaxed) { Duration::from_secs(30) } else { Duration::ZERO },
        |_, _| answer(records(0..3).into()),
    );
    let workspace = Workspace::with_config(api.address, &config(client, ONE));
    let child = workspace.spawn(&["sync"]);
    api.wait_for(1);
    signal(&child, Signal::KILL);
    finish(child);
    hang.store(false, Ordering::Relaxed);
    workspace.sync(0);
    assert_eq!(times(&api).len(), 2);
    assert_rate(&times(&api), 1, gap);
}

#[test]
fn h01_a_server_that_asks_one_request_to_wait_makes_all_of_its_budget_wait() {
    let refused: Arc<OnceLock<Instant>> = Arc::default();
    let refused_at = Arc::clone(&refused);
    let pages = numbered(60, 10);
    let api = Api::start_slow(Duration::from_millis(20), move |request: &Seen, n| {
        if request.path() == "/items" && refused_at.set(Instant::now()).is_ok() {
            respond(503, &[("retry-after", "1")], "")
        } else {
            pages(request, n)
        }
    });
    let text = format!("{}\n[sources.api.resources.others]\n{BY_PAGE}\n", config("", BY_PAGE));
    let workspace = Workspace::with_config(api.address, &text);
    workspace.sync(0);
    let refused = *refused.get().unwrap();
    let asked_for = refused + Duration::from_secs(1);
    // What was on its way already cannot be called back.
    let early = api.seen().iter().filter(|request| request.at > refused + JITTER && request.at < asked_for).count();
    assert_eq!(early, 0);
    assert_eq!(api.seen().len(), 13);
    assert_eq!(workspace.value::<i64>("SELECT count(*) FROM api_others"), 60);
}

#[test]
fn readers_that_wait_for_long_make_room_for_others_and_then_stand_in_line_again() {
    // Each source has a budget of its own, and is told to wait once: all of them are to go on at the same time.
    let refused: Arc<Mutex<HashSet<String>>> = Arc::default();
    let (in_flight, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (arrived, highest) = (Arc::clone(&in_flight), Arc::clone(&most));
    let api = Api::start_paced(
        move |_| {
            highest.fetch_max(arrived.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            Duration::from_millis(100)
        },
        move |request: &Seen, _| {
            in_flight.fetch_sub(1, Ordering::SeqCst);
            if refused.lock().unwrap().insert(request.path().to_owned()) {
                respond(503, &[("retry-after", "4")], "")
            } else {
                answer(json!({"data": records(0..3)}))
            }
        },
    );
    let sources: String = (0..8)
        .map(|n| {
            format!(
                "[sources.s{n}.client]\nbase_url = \"BASE\"\n[sources.s{n}.resources.r{n}]\ndata_selector = \"data\"\n{ONE}\n"
            )
        })
        .collect();
    let workspace = Workspace::with_config(api.address, &format!("[pipeline]\nconcurrency = 2\n{sources}"));
    workspace.sync(0);
    let times = times(&api);
    assert_eq!(times.len(), 16);
    let early = times.iter().filter(|at| at.duration_since(times[0]) < Duration::from_millis(3500)).count();
    assert_eq!(early, 8, "while one waits, the next one has its place");
    assert_eq!(most.load(Ordering::SeqCst), 2, "never more than `pipeline.concurrency`");
}

#[test]
fn overlapping_pauses_with_pages_read_ahead_and_little_memory_come_to_an_end() {
    let pages = numbered(200, 10);
    // Two neighbours in every seven pages of each resource are told to wait, once.
    let refused: Arc<Mutex<HashSet<String>>> = Arc::default();
    let api = Api::start(move |request: &Seen, n| {
        let page: u64 = request.param("page").map_or(1, |page| page.parse().unwrap());
        if matches!(page % 7, 3 | 4) && refused.lock().unwrap().insert(request.target.clone()) {
            respond(429, &[("retry-after", "1")], "")
        } else {
            pages(request, n)
        }
    });
    let ahead = format!("{BY_PAGE}\nconcurrency = 4");
    let text = format!(
        "{}\n[sources.api.resources.others]\n{ahead}\n[pipeline]\nconcurrency = 4\nchannel_bytes = \"1MiB\"\n",
        config("", &ahead)
    );
    let workspace = Workspace::with_config(api.address, &text);
    workspace.sync(0);
    assert_eq!(ids(&workspace), up_to(200));
    assert_eq!(workspace.value::<i64>("SELECT count(*) FROM api_others"), 200);
    workspace.check_books();
}

#[test]
fn h05_a_wait_beyond_max_retry_after_ends_the_run_and_the_next_one_asks_for_nothing_before_it_is_over() {
    let over = Arc::new(AtomicBool::new(false));
    let is_over = Arc::clone(&over);
    let pages = numbered(30, 10);
    let api = Api::start(move |request, n| {
        if request.param("page").as_deref() == Some("2") && !is_over.load(Ordering::Relaxed) {
            respond(429, &[("retry-after", "7200")], "")
        } else {
            pages(request, n)
        }
    });
    let text = format!("{}\n[sources.api.resources.others]\n{BY_PAGE}\n", config("", BY_PAGE));
    let workspace = Workspace::with_config(
        api.address,
        &text.replace("[sources.api.client]", "[pipeline]\nconcurrency = 1\n[sources.api.client]"),
    );
    let report = workspace.sync(75);
    let (said, error) = outcome(&report);
    assert_eq!(said, "incomplete");
    assert!(error.contains("api.items: page 2: rate limited until "), "{error}");
    assert!(error.contains("max_retry_after"), "{error}");
    assert_eq!(api.seen().len(), 2, "not even for another resource");
    let report = workspace.sync(75);
    assert!(outcome(&report).1.contains("rate limited until "), "{report:#}");
    assert_eq!(api.seen().len(), 2);
    assert_eq!(report["resources"][0]["requests"], 0);
    assert_eq!(ids(&workspace), up_to(10));

    // Two hours later.
    over.store(true, Ordering::Relaxed);
    let db = rusqlite::Connection::open(workspace.path("highwater.db")).unwrap();
    db.execute("UPDATE _hw_budgets SET not_before_ms = not_before_ms - 7200000", []).unwrap();
    drop(db);
    let report = workspace.sync(0);
    assert_eq!(report["resources"][0]["resumed_at"], "page 2");
    assert_eq!(ids(&workspace), up_to(30));
    workspace.check_books();
}

#[test]
fn the_last_requests_of_a_quota_are_left_to_others() {
    for reset in ["1", "0"] {
        let pages = numbered(30, 10);
        let api = Api::start(move |request, n| {
            let mut response = pages(request, n);
            let remaining = if n == 1 { "5" } else { "6" };
            response.headers_mut().insert("x-remaining", remaining.parse().unwrap());
            response.headers_mut().insert("x-reset", reset.parse().unwrap());
            response
        });
        let client = "rate_limit = { remaining_header = \"X-Remaining\", reset_header = \"X-Reset\", \
                      reset_format = \"delta\", reserve = 5 }";
        let workspace = Workspace::with_config(api.address, &config(client, BY_PAGE));
        workspace.sync(0);
        let times = times(&api);
        assert!(times[1] - times[0] < Duration::from_secs(1), "six are left, one more than the reserve");
        // A reset that is past still means a moment's patience.
        assert!(times[2] - times[1] >= Duration::from_secs(1), "{reset}: {:?}", times[2] - times[1]);
    }
}

#[test]
fn a_page_that_used_up_the_quota_is_stored_before_the_run_ends() {
    let pages = numbered(30, 10);
    let api = Api::start(move |request, n| {
        let mut response = pages(request, n);
        response.headers_mut().insert("x-remaining", "0".parse().unwrap());
        response.headers_mut().insert("x-reset", "900".parse().unwrap());
        response
    });
    let client =
        "rate_limit = { remaining_header = \"X-Remaining\", reset_header = \"X-Reset\", reset_format = \"delta\" }";
    let text = config(client, BY_PAGE).replace("max_attempts = 3", "max_attempts = 3, max_retry_after = \"10s\"");
    let workspace = Workspace::with_config(api.address, &text);
    let report = workspace.sync(75);
    assert!(outcome(&report).1.contains("rate limited until "), "{report:#}");
    assert_eq!(ids(&workspace), up_to(10));
    workspace.sync(75);
    assert_eq!(api.seen().len(), 1);
}

#[test]
fn h07_a_403_with_nothing_remaining_is_a_rate_limit_and_not_a_refusal() {
    let api = Api::start(|_, n| match n {
        0 => respond(403, &[("x-remaining", "0"), ("x-reset", "1")], json!({"message": "slow down"}).to_string()),
        _ => answer(records(0..3).into()),
    });
    let client =
        "rate_limit = { remaining_header = \"X-Remaining\", reset_header = \"X-Reset\", reset_format = \"delta\" }";
    let workspace = Workspace::with_config(api.address, &config(client, ONE));
    workspace.sync(0);
    assert!(times(&api)[1] - times(&api)[0] >= Duration::from_secs(1));
}
