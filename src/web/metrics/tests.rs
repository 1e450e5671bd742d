//! The metrics of a made-up daemon and of a made-up run, as the files in tests/promtool have them, where promtool and
//! the alerts, the dashboard and the documentation are held against them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::{Format, LastRun, Metrics, Stored, encode, of_run};
use crate::board::{Board, BudgetView, Job, LoadedConfig, Running};
use crate::destination::{
    Counts, Db, DestinationOptions, Outcome, ResourceOverview, ResourceView, RunBar, RunSums, View,
};
use crate::exit::Exit;
use crate::page::{ResourceId, RunKind, StopReason};
use crate::progress::{Activity, ResourceProgress};
use crate::sync::{ResourceReport, SyncReport};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + second).unwrap()
}

fn job(names: &[&str]) -> Job {
    Job {
        resources: names.iter().map(|name| ResourceId::new("shop", name)).collect(),
        schedule: Some("every 15 minutes".to_owned()),
        next: Some(at(900)),
        paused_at: None,
        failures: 0,
        coalesced: 0,
        begun: 0,
        running: None,
    }
}

fn board(database: &Path) -> Board {
    let progress = |activity| {
        let progress = ResourceProgress::default();
        progress.set(activity);
        Arc::new(progress)
    };
    let reading = Running {
        since: at(10),
        progress: vec![
            (ResourceId::new("shop", "orders"), progress(Activity::Ended)),
            (ResourceId::new("shop", "items"), progress(Activity::Reading)),
        ],
    };
    let asked_for = Job { next: None, schedule: None, ..job(&["new"]) };
    let budget = |name: &str, left: Option<u64>, free_at| BudgetView {
        name: name.to_owned(),
        requests: left.map(|_| 10),
        per_ms: 60_000,
        left,
        free_at,
        in_flight: Some(0),
    };
    Board {
        started_at: at(0),
        alive_at: at(0),
        database: database.to_owned(),
        config: LoadedConfig { loaded_at: at(5), error: Some("line 3".to_owned()), ..LoadedConfig::default() },
        jobs: vec![
            Job { coalesced: 2, running: Some(reading), ..job(&["orders", "items"]) },
            Job { failures: 4, paused_at: Some(at(7)), ..job(&["returns"]) },
            asked_for,
        ],
        budgets: vec![budget("shop", Some(7), Some(at(60))), budget("unlimited", None, None)],
        is_stopping: false,
    }
}

fn view(resource: &str, rows: u64, last_success_at: Option<Timestamp>) -> ResourceView {
    ResourceView {
        source: "shop".to_owned(),
        resource: resource.to_owned(),
        table: format!("shop_{resource}"),
        rows,
        last_run: None,
        last_read: None,
        last_success_at,
        failures: 3,
        quarantined: 1,
        cursor: None,
        pass: None,
        paused_at: None,
    }
}

fn stored() -> Stored {
    let bar =
        |run_id, ended_at| RunBar { run_id, started_at: Some(at(100)), ended_at, outcome: String::new(), received: 0 };
    let counts = Counts { received: 15, inserted: 5, updated: 4, unchanged: 3, filtered: 2, quarantined: 1 };
    let ended = [(("backfill", "complete"), 1), (("scheduled", "failed"), 6)];
    let ended = ended.map(|((kind, outcome), runs)| ((kind.to_owned(), outcome.to_owned()), runs)).into();
    let sums = RunSums { ended, counts, pages: 2, requests: 9, retries: 7, bytes: 12_345 };
    let of = |view, recent| Arc::new(ResourceOverview { view, recent, per_minute: Vec::new() });
    Stored {
        resources: vec![
            // The last run has not ended: what is known is how long the one before took.
            of(view("orders", 1234, Some(at(130))), vec![bar(1, Some(at(130))), bar(2, None)]),
            of(view("returns", 0, None), Vec::new()),
            of(view("removed", 9, Some(at(0))), Vec::new()),
        ],
        sums: [(ResourceId::new("shop", "orders"), sums)].into(),
    }
}

fn report() -> SyncReport {
    let resource = |name: &str, exit| ResourceReport {
        id: ResourceId::new("shop", name),
        table: format!("shop_{name}"),
        child_tables: Vec::new(),
        outcome: Outcome::Complete,
        stop_reason: StopReason::NoNext,
        counts: Counts { received: 3, inserted: 2, unchanged: 1, ..Counts::default() },
        pages: 1,
        requests: 4,
        retries: 3,
        resumed_at: None,
        started_over: None,
        error: None,
        exit,
        kind: RunKind::Sync,
        is_entered: true,
    };
    SyncReport {
        resources: vec![resource("orders", None), resource("returns", Some(Exit::Unavailable))],
        db_error: None,
    }
}

fn ids(names: &[&str]) -> Vec<ResourceId> {
    names.iter().map(|name| ResourceId::new("shop", name)).collect()
}

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The metrics of the daemon, and of the run.
fn texts() -> [(&'static str, String); 3] {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("highwater.db");
    std::fs::write(&database, [0; 5000]).unwrap();
    std::fs::write(folder.path().join("highwater.db-wal"), [0; 70]).unwrap();
    let link = folder.path().join("link.db");
    std::os::unix::fs::symlink(&database, &link).unwrap();
    let (ids, report) = (ids(&["orders", "returns"]), report());
    let run = LastRun { ids: &ids, ended: at(200), report: Ok(&report) };
    [
        ("daemon.prom", encode(&board(&link), &stored(), Format::Plain)),
        ("daemon.openmetrics", encode(&board(&link), &stored(), Format::OpenMetrics)),
        ("run.prom", of_run(run, Some(&stored()))),
    ]
}

#[test]
fn the_metrics_are_those_that_promtool_is_shown() {
    for (name, text) in texts() {
        let path = root("tests/promtool").join(name);
        if std::env::var_os("UPDATE_METRICS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == text, "{} is stale: run with UPDATE_METRICS=1\n{text}", path.display());
    }
}

#[test]
fn a_run_that_could_not_begin_says_so_of_everything_it_was_to_read() {
    let ids = ids(&["orders", "items"]);
    let run = LastRun { ids: &ids, ended: at(200), report: Err(Exit::Held) };
    let text = of_run(run, None);
    for name in ["orders", "items"] {
        for (metric, value) in [("success", "0.0"), ("exit_code", "73.0")] {
            let line = format!("highwater_resource_last_run_{metric}{{source=\"shop\",resource=\"{name}\"}} {value}\n");
            assert!(text.contains(&line), "{line}{text}");
        }
    }
    assert!(!text.contains("last_run_records"), "{text}");
}

/// Words that can only be names of our metrics.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("highwater_") && word.len() > "highwater_".len()).collect()
}

#[test]
fn alerts_and_dashboard_use_what_there_is_and_the_documentation_has_all_of_it() {
    let texts = texts();
    let defined = |text: &'static str, texts: &'_ [(&'static str, String)]| -> BTreeSet<String> {
        let (_, text) = texts.iter().find(|(name, _)| *name == text).unwrap();
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        types.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    };
    let all: BTreeSet<String> = defined("daemon.prom", &texts).union(&defined("run.prom", &texts)).cloned().collect();
    assert!(all.len() > 25, "{all:?}");
    for path in
        ["contrib/prometheus/alerts.yml", "contrib/prometheus/alerts_test.yml", "contrib/grafana/highwater.json"]
    {
        let text = std::fs::read_to_string(root(path)).unwrap();
        let unknown: Vec<&str> = named(&text).into_iter().filter(|name| !all.contains(*name)).collect();
        assert!(unknown.is_empty() && named(&text).len() > 8, "{path} uses {unknown:?}");
    }
    let page = std::fs::read_to_string(root("docs/run-as-a-service.md")).unwrap();
    let undocumented: Vec<&String> = all.iter().filter(|name| !page.contains(&format!("`{name}`"))).collect();
    assert!(undocumented.is_empty(), "docs/run-as-a-service.md lacks {undocumented:?}");
}

#[test]
fn the_dashboard_is_json_and_each_of_its_panels_asks_for_something() {
    let text = std::fs::read_to_string(root("contrib/grafana/highwater.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut seen = BTreeSet::new();
    for panel in panels {
        assert!(seen.insert(panel["id"].as_i64().unwrap()), "{panel} has the id of another");
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty() && targets.iter().all(|target| target["expr"].is_string()), "{panel}");
    }
}

#[tokio::test]
async fn a_scrape_says_what_the_file_knows() {
    let folder = tempfile::tempdir().unwrap();
    let options = DestinationOptions { path: folder.path().join("a.db"), ..Default::default() };
    Db::open(&options).await.unwrap().close().await.unwrap();
    let file = rusqlite::Connection::open(&options.path).unwrap();
    file.execute_batch(
        "INSERT INTO _hw_resources (source, resource, \"table\", first_seen_at, rows) VALUES ('shop', 'orders', 't', '', 8);
         INSERT INTO _hw_runs (kind, source, resource, pass_id, started_at, ended_at, outcome, received, inserted)
         VALUES ('scheduled', 'shop', 'orders', 1, '2027-01-01T00:00:00.000Z', '2027-01-01T00:00:02.500Z', 'complete', 8, 8)",
    )
    .unwrap();
    let view = View::open(&options.path).await.unwrap();
    let metrics = Metrics::since(at(0));
    for _ in 0..2 {
        let overview = view.overview(2, 0, &Arc::default()).await.unwrap();
        let text = metrics.scrape(&board(&options.path), &view, &overview, Format::Plain).await.unwrap();
        let labels = "source=\"shop\",resource=\"orders\"";
        for line in [
            format!("highwater_table_rows{{{labels}}} 8.0\n"),
            format!("highwater_records_total{{{labels},result=\"inserted\"}} 8.0\n"),
            format!("highwater_resource_last_run_duration_seconds{{{labels}}} 2.5\n"),
            format!("highwater_runs_total{{{labels},kind=\"scheduled\",outcome=\"complete\"}} 1.0\n"),
        ] {
            assert!(text.contains(&line), "{line}{text}");
        }
    }
}
