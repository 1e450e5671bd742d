//! The status page over real sockets: what it shows of a daemon and of a file that real runs have written.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use highwater::board::{Action, Board, BudgetView, Door, Job, LoadedConfig, Request, Running};
use highwater::destination::View;
use highwater::page::ResourceId;
use highwater::progress::{Activity, ResourceProgress};
use highwater::secret::Secret;
use highwater::web::{self, Listen, WebOptions};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::support::{Api, PATIENCE, Seen, Workspace, respond};

/// Text of an API that would do harm as markup.
const HOSTILE: &str = "<script>alert(1)</script>\"'><img src=x>";

/// A status page that is being served.
pub(crate) struct Site {
    pub(crate) place: Listen,
    pub(crate) board: watch::Sender<Arc<Board>>,
    /// What the daemon was asked for.
    pub(crate) asked: Arc<Mutex<Vec<Action>>>,
    stop: CancellationToken,
    ended: tokio::task::JoinHandle<()>,
    runtime: Runtime,
}

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The head, in lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Site {
    /// Serves a page of this board and of the file in this workspace. A pause of `s.refused` is refused.
    pub(crate) fn start(workspace: &Workspace, board: Board, listen: &str, token: Option<&str>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let options =
            WebOptions { listen: listen.parse().unwrap(), token: token.map(|token| Secret::new(token.to_owned())) };
        let view = runtime.block_on(View::open(&workspace.path("highwater.db"))).unwrap();
        let listener = {
            let _inside = runtime.enter();
            web::bind(&options).unwrap().unwrap()
        };
        let place = listener.place().clone();
        let (sender, board) = watch::channel(Arc::new(board));
        let (requests, mut received) = mpsc::channel::<Request>(4);
        let asked: Arc<Mutex<Vec<Action>>> = Arc::default();
        let log = Arc::clone(&asked);
        runtime.spawn(async move {
            while let Some(request) = received.recv().await {
                let refused = request.action == Action::Pause(ResourceId::new("s", "refused"));
                log.lock().unwrap().push(request.action);
                let answer = if refused { Err("it is not in the mood".to_owned()) } else { Ok("done".to_owned()) };
                request.answer.send(answer).unwrap();
            }
        });
        let stop = CancellationToken::new();
        let served = stop.clone();
        let door = Door { board, requests };
        let ended = runtime.spawn(async move { web::serve(listener, &options, door, view, served).await });
        Self { place, board: sender, asked, stop, ended, runtime }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        match &self.place {
            Listen::Tcp(address) => ([127, 0, 0, 1], address.port()).into(),
            other => panic!("{other} has no port"),
        }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends a request with these very headers.
    pub(crate) fn send(&self, request: &str, headers: &[&str], body: &str) -> Answer {
        exchange(self.connect(), request, headers, body)
    }

    /// Reads a page as a browser does.
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send(&format!("GET {path}"), &["host: localhost"], "")
    }

    /// The JSON of a page, which has to be there.
    pub(crate) fn json(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let value = answer.json();
        assert_eq!(value["version"], 1, "{path}");
        value
    }

    /// The HTML of a page, which has to be there.
    pub(crate) fn html(&self, path: &str) -> String {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
        answer.body
    }

    /// Stops it, and waits until it has stopped.
    pub(crate) fn stop(self) {
        self.stop.cancel();
        let ended = self.ended;
        self.runtime.block_on(async { tokio::time::timeout(PATIENCE, ended).await.unwrap().unwrap() });
    }
}

pub(crate) fn exchange(mut stream: impl Read + Write, request: &str, headers: &[&str], body: &str) -> Answer {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let length = body.len();
    let text = format!("{request} HTTP/1.1\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer to {request}: {answer:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_lowercase(), body: body.to_owned() }
}

/// The job of a resource that runs every hour.
pub(crate) fn job(id: &str) -> Job {
    let (source, resource) = id.split_once('.').unwrap();
    Job {
        resources: vec![ResourceId::new(source, resource)],
        schedule: Some("every 1h".to_owned()),
        next: Some(Timestamp::now() + SignedDuration::from_mins(30)),
        paused_at: None,
        failures: 0,
        coalesced: 0,
        begun: 0,
        running: None,
    }
}

pub(crate) fn board(workspace: &Workspace, jobs: Vec<Job>) -> Board {
    Board {
        started_at: Timestamp::now(),
        alive_at: Timestamp::now(),
        database: workspace.path("highwater.db"),
        config: LoadedConfig {
            path: "/etc/highwater.toml".into(),
            loaded_at: Timestamp::now(),
            text: "# the text\ntoken = \"***\"".into(),
            error: None,
        },
        jobs,
        budgets: Vec::new(),
        is_stopping: false,
    }
}

/// A file with a run that is complete, one that failed, a record that was set aside, and a hostile text in all places.
pub(crate) fn workspace() -> Workspace {
    let api = Api::start(|request: &Seen, _| match request.path() {
        "/good" => {
            let mut records: Vec<Value> = (1..=1_234).map(|id| json!({"id": id, "name": HOSTILE})).collect();
            records.push(json!({"name": HOSTILE}));
            crate::support::json(Value::Array(records))
        }
        _ => respond(400, &[("content-type", "application/json")], json!({"error": HOSTILE}).to_string()),
    });
    let config = r#"
[sources.s.client]
base_url = "BASE"
paginator = { type = "single_page" }
[sources.s.resources.good]
path = "good"
primary_key = "id"
params = { q = "<script>alert(1)</script>\"'><img src=x>" }
[sources.s.resources.bad]
path = "bad"
primary_key = "id"
"#;
    let workspace = Workspace::with_config(api.address, config);
    let report = workspace.run(&["sync", "--json"]);
    assert_eq!(report.code, Some(69), "{report:#?}");
    workspace
}

fn run_of(site: &Site, resource: &str) -> i64 {
    site.json(&format!("/runs.json?resource=s.{resource}"))["runs"][0]["run_id"].as_i64().unwrap()
}

#[test]
fn every_page_shows_what_its_json_says() {
    let workspace = workspace();
    let mut shown = board(&workspace, vec![job("s.good"), job("s.bad")]);
    shown.jobs[1].failures = 3;
    shown.budgets.push(BudgetView {
        name: "s".to_owned(),
        requests: Some(1_000),
        per_ms: 60_000,
        left: Some(987),
        free_at: Some(Timestamp::now() + SignedDuration::from_secs(50)),
        in_flight: Some(2),
    });
    let site = Site::start(&workspace, shown, "127.0.0.1:0", None);

    let overview = site.json("/index.json");
    assert_eq!(overview["is_well"], false);
    assert_eq!(overview["sentence"], "1 of 2 resources needs a look: s.bad (failed).");
    let good = &overview["resources"][0];
    assert_eq!((&good["id"], &good["state"], &good["rows"]), (&json!("s.good"), &json!("complete"), &json!(1_234)));
    assert_eq!((&good["quarantined"], &good["runs"][0]["outcome"]), (&json!(1), &json!("complete")));
    assert_eq!(good["records_per_minute"].as_array().unwrap().iter().filter_map(Value::as_u64).sum::<u64>(), 1_235);
    assert_eq!(overview["resources"][1]["failures"], 3);
    assert_eq!(overview["budgets"][0]["left"], 987);
    let html = site.html("/");
    for text in [
        "1 of 2 resources needs a look",
        "1,234",
        r#"aria-label="1 of 1 well""#,
        " a minute\"",
        "3 times",
        "987",
        "1,000 a minute",
        "in 30 min",
        r#"<meta http-equiv="refresh""#,
    ] {
        assert!(html.contains(text), "no {text:?} in {html}");
    }

    let (good, bad) = (run_of(&site, "good"), run_of(&site, "bad"));
    let detail = site.json(&format!("/runs/{good}.json"));
    assert_eq!((&detail["run"]["received"], &detail["pages"][0]["status"]), (&json!(1_235), &json!(200)));
    let table = site.json("/tables/s_good.json");
    assert_eq!((&table["rows"], &table["newest"][0]["values"][0]), (&json!(1_234), &json!(1_234)));
    let resource = site.json("/resources/s.good.json");
    assert_eq!(
        (&resource["recent"][0]["run_id"], &resource["quarantine"][0]["reason"]),
        (&json!(good), &json!("key_missing"))
    );
    assert_eq!(site.json("/quarantine.json")["quarantine"][0]["resource"], "good");
    assert_eq!(site.json("/errors.json")["errors"][0]["last_run_id"], bad);
    assert_eq!(site.json("/config.json")["text"], "# the text\ntoken = \"***\"");
    for (path, texts) in [
        ("/runs", &["s.good", "s.bad", "complete", "failed"][..]),
        (&format!("/runs/{good}"), &["single_page", "1,235", "/good?q="]),
        (&format!("/runs/{bad}"), &["failed", "400"]),
        ("/tables/s_good", &["1,234", "<th scope=\"row\">name</th>", "/good?q="]),
        ("/resources/s.good", &["key_missing", "every 1h", "/tables/s_good", "only be read"]),
        ("/resources/s.bad", &["failed", "3 times"]),
        ("/errors", &["s.bad", "400"]),
        ("/quarantine", &["s.good", "key_missing"]),
        ("/config", &["/etc/highwater.toml", "# the text"]),
    ] {
        let html = site.html(path);
        for text in texts {
            assert!(html.contains(text), "{path}: no {text:?} in {html}");
        }
    }
    site.stop();
}

#[test]
fn nothing_that_an_api_sent_becomes_markup() {
    let workspace = workspace();
    let mut shown = board(&workspace, vec![job("s.good"), job("s.bad")]);
    shown.config.error = Some(HOSTILE.to_owned());
    shown.config.text = HOSTILE.into();
    let progress = Arc::new(ResourceProgress::default());
    progress.set(Activity::Waiting { until: Timestamp::now(), reason: HOSTILE.to_owned() });
    let running = Running { since: Timestamp::now(), progress: vec![(ResourceId::new("s", "good"), progress)] };
    shown.jobs[0].running = Some(running);
    let site = Site::start(&workspace, shown, "127.0.0.1:0", None);
    let (good, bad) = (run_of(&site, "good"), run_of(&site, "bad"));
    let mut escaped = 0;
    for path in [
        "/",
        "/runs",
        "/errors",
        "/quarantine",
        "/config",
        "/tables/s_good",
        "/resources/s.good",
        "/resources/s.good?done=%3Cscript%3Ealert(1)",
        "/resources/s.bad",
        &format!("/runs/{good}"),
        &format!("/runs/{bad}"),
    ] {
        let html = site.html(path);
        assert!(!html.contains("<script>") && !html.contains("<img"), "{path}: {html}");
        escaped += html.matches("&lt;script&gt;").count();
    }
    assert!(escaped > 20, "only {escaped}");
    let odd = site.get("/tables/%3Cscript%3Ealert(1)%3C%2Fscript%3E");
    assert!(odd.status == 404 && !odd.body.contains("<script>"), "{odd:?}");
    site.stop();
}

#[test]
fn long_lists_go_on_behind_a_link_and_long_texts_are_cut() {
    let workspace = workspace();
    let db = rusqlite::Connection::open(workspace.path("highwater.db")).unwrap();
    let more = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 120)
                INSERT INTO _hw_runs (kind, source, resource, pass_id, started_at, ended_at, outcome, error)
                SELECT 'scheduled', 's', 'bad', 1, '2026-01-01T00:00:00.000Z', '2026-01-01T00:01:00.000Z', 'failed',
                  replace(hex(zeroblob(500)), '0', 'x') FROM n";
    db.execute(more, []).unwrap();
    drop(db);
    let site = Site::start(&workspace, board(&workspace, vec![job("s.bad")]), "127.0.0.1:0", None);
    let mut path = Some("/runs.json?resource=s.bad".to_owned());
    let mut runs = Vec::new();
    while let Some(at) = path {
        let page = site.json(&at);
        assert!(runs.len() < 1_000, "the list leads in a circle");
        runs.extend(page["runs"].as_array().unwrap().iter().map(|run| run["run_id"].as_i64().unwrap()));
        path = page["next"].as_str().map(str::to_owned);
    }
    assert_eq!(runs.len(), 121);
    assert!(runs.is_sorted_by(|a, b| a > b));
    let html = site.html("/runs?resource=s.bad");
    let next = html.split("rel=\"next\" href=\"").nth(1).unwrap().split('"').next().unwrap().replace("&amp;", "&");
    assert!(site.html(&next).contains(&format!("/runs/{}", runs[50])), "{next}");
    assert!(html.contains(&format!("{}…", "x".repeat(200))) && !html.contains(&"x".repeat(201)));
    site.stop();
}

#[test]
fn two_hundred_busy_resources_fit_into_pages_below_fifty_kilobytes() {
    let workspace = workspace();
    let ids: Vec<String> = (1..=200).map(|n| format!("warehouse.inventory_{n:03}")).collect();
    let db = rusqlite::Connection::open(workspace.path("highwater.db")).unwrap();
    db.execute_batch("BEGIN").unwrap();
    for (n, id) in ids.iter().enumerate() {
        let resource = id.split_once('.').unwrap().1;
        db.execute(
            "INSERT INTO _hw_resources (source, resource, \"table\", first_seen_at, rows)
             VALUES ('warehouse', ?1, ?1, '2026-01-01T00:00:00.000Z', 1234567)",
            [resource],
        )
        .unwrap();
        db.execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30)
             INSERT INTO _hw_runs (kind, source, resource, pass_id, started_at, ended_at, outcome)
             SELECT 'scheduled', 'warehouse', ?1, 1, '2026-01-01T00:00:00.000Z', '2026-01-01T00:01:00.000Z',
               iif((i * 7 + ?2) % 13 = 0, 'failed', 'complete') FROM n",
            (resource, n),
        )
        .unwrap();
        db.execute(
            "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 60)
             INSERT INTO _hw_minutes (source, resource, minute, records)
             SELECT 'warehouse', ?1, unixepoch() / 60 - i, (i * 7919 + ?2 * 31) % 5000 FROM n",
            (resource, n),
        )
        .unwrap();
        db.execute(
            "INSERT INTO _hw_checkpoints (source, resource, partition, state, cursor, queued, pass_id, updated_at)
             VALUES ('warehouse', ?1, '', 'complete', '\"2026-01-01T00:00:00Z\"', 1, 1, '2026-01-01T00:00:00.000Z')",
            [resource],
        )
        .unwrap();
    }
    db.execute_batch("COMMIT").unwrap();
    drop(db);
    let jobs = ids.iter().map(|id| job(id)).collect();
    let site = Site::start(&workspace, board(&workspace, jobs), "127.0.0.1:0", None);
    assert_eq!(site.json("/index.json")["resources"].as_array().unwrap().len(), 200);
    let mut seen = 0;
    let mut page = 1;
    while seen < 200 {
        let html = site.html(&format!("/?page={page}"));
        assert!(html.len() < 50_000, "page {page} has {} bytes", html.len());
        let here = ids.iter().filter(|id| html.contains(&format!("<a href=\"/resources/{id}\">{id}</a></th>"))).count();
        assert!(here > 0, "page {page} is empty: {html}");
        seen += here;
        page += 1;
    }
    assert_eq!(seen, 200);
    site.stop();
}

/// Reads an event stream until a message satisfies `enough`, and returns it.
fn wait_for(stream: &mut impl std::io::BufRead, enough: impl Fn(&Value) -> bool) -> Value {
    let deadline = std::time::Instant::now() + PATIENCE;
    let mut line = String::new();
    loop {
        // Comments keep a stream alive that says nothing any more.
        assert!(std::time::Instant::now() < deadline, "the message did not come");
        line.clear();
        assert!(stream.read_line(&mut line).unwrap() > 0, "the stream ended");
        let Some(data) = line.strip_prefix("data: ").or_else(|| line.strip_prefix("data:")) else { continue };
        let message: Value = serde_json::from_str(data).unwrap();
        assert_eq!(message["version"], 1);
        if enough(&message) {
            return message;
        }
    }
}

#[test]
fn events_say_what_has_changed_to_at_most_sixteen_and_end_with_the_daemon() {
    let workspace = workspace();
    let site = Site::start(&workspace, board(&workspace, vec![job("s.good")]), "127.0.0.1:0", None);
    let open = || {
        let mut stream = site.connect();
        stream.write_all(b"GET /events HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        std::io::BufReader::new(stream)
    };
    let mut listeners: Vec<_> = (0..16).map(|_| open()).collect();
    for listener in &mut listeners {
        assert_eq!(wait_for(listener, |_| true), json!({"version": 1, "changed": false, "values": {}}));
    }
    assert_eq!(site.get("/events").status, 503);

    let progress = Arc::new(ResourceProgress::default());
    progress.set(Activity::Reading);
    let mut shown = board(&workspace, vec![job("s.good")]);
    let running =
        Running { since: Timestamp::now(), progress: vec![(ResourceId::new("s", "good"), Arc::clone(&progress))] };
    shown.jobs[0].running = Some(running);
    site.board.send_replace(Arc::new(shown));
    let said = wait_for(&mut listeners[0], |message| message["changed"] == true);
    assert_eq!(said["values"]["p:s.good"], "0 records, 0 pages");
    progress.records_committed.add(1_500);
    progress.pages_committed.add(2);
    let said = wait_for(&mut listeners[0], |message| message["values"]["p:s.good"] == "1,500 records, 2 pages");
    assert_eq!(said["changed"], false);
    // A run that began and ended between two looks is one that has been.
    let mut shown = board(&workspace, vec![job("s.good")]);
    for begun in [1, 2] {
        shown.jobs[0].begun = begun;
        site.board.send_replace(Arc::new(shown.clone()));
        wait_for(&mut listeners[0], |message| message["changed"] == true);
    }

    site.stop();
    for mut listener in listeners {
        let mut rest = String::new();
        // Whether the end is clean depends on what was under way; it has to end.
        listener.read_to_string(&mut rest).ok();
    }
}

#[test]
fn what_is_not_there_is_said_in_the_format_that_was_asked_for() {
    let workspace = workspace();
    let site = Site::start(&workspace, board(&workspace, vec![job("s.good")]), "127.0.0.1:0", None);
    for path in [
        "/nothing",
        "/runs/999",
        "/runs/x",
        "/tables/_hw_runs",
        "/tables/sqlite_schema",
        "/resources/s.none",
        "/assets/x",
    ] {
        let answer = site.get(path);
        assert!(answer.status == 404 && answer.body.contains("There is no such"), "{path}: {answer:?}");
        let answer = site.get(&format!("{path}.json"));
        assert!(answer.json()["error"].as_str().unwrap().starts_with("There is no such"), "{path}: {answer:?}");
    }
    // What was read and is in no configuration any more is still there to be looked at.
    assert!(site.html("/resources/s.bad").contains("not in the configuration any more"));
    assert_eq!(site.send("POST /runs", &["host: localhost"], "").status, 405);
    site.stop();
}
