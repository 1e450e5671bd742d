//! What a single run leaves for the textfile collector of node_exporter.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::support::{Api, Workspace, binary, finish, json, respond};

const CONFIG: &str = r#"
[sources.shop.client]
base_url = "BASE"
retry = { max_attempts = 2, initial_delay = "1ms" }
[sources.shop.resources.items]
primary_key = "id"
paginator = { type = "single_page" }
params = { from = "${incremental.start_value}" }
incremental = { cursor_path = "id", initial_value = 0 }
[sources.shop.resources.orders]
primary_key = "id"
paginator = { type = "single_page" }
"#;

/// Two records, or 500 for the orders while it is broken.
fn shop() -> (Api, Workspace, Arc<AtomicBool>) {
    let broken = Arc::new(AtomicBool::new(false));
    let is_broken = Arc::clone(&broken);
    let api = Api::start(move |request, _| {
        if is_broken.load(Ordering::Relaxed) && request.target.starts_with("/orders") {
            return respond(500, &[], "");
        }
        json(json!([{"id": 1}, {"id": 2}]))
    });
    let workspace = Workspace::with_config(api.address, CONFIG);
    (api, workspace, broken)
}

fn read(workspace: &Workspace) -> String {
    std::fs::read_to_string(workspace.path("metrics/highwater.prom")).unwrap()
}

/// The value of a metric of a resource.
fn value(text: &str, metric: &str, resource: &str) -> Option<f64> {
    let start = format!("highwater_{metric}{{source=\"shop\",resource=\"{resource}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&start)).map(|value| value.parse().unwrap())
}

#[test]
fn a_run_leaves_its_result_for_all_to_read_and_nothing_else() {
    let (_api, workspace, broken) = shop();
    std::fs::create_dir(workspace.path("metrics")).unwrap();
    let sync = |code| {
        // As under systemd with UMask=0077: the collector is another user.
        let mut shell = Command::new("sh");
        let line = "umask 077; exec \"$0\" sync --metrics-file metrics/highwater.prom";
        shell.arg0("sh").args(["-c", line, &binary()]).current_dir(workspace.path(""));
        shell.env_clear().stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let finished = finish(shell.spawn().unwrap());
        assert_eq!(finished.code, Some(code), "{finished:#?}");
        let folder: Vec<_> =
            std::fs::read_dir(workspace.path("metrics")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(folder, ["highwater.prom"]);
        let mode = std::fs::metadata(workspace.path("metrics/highwater.prom")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
        read(&workspace)
    };
    let first = sync(0);
    for resource in ["items", "orders"] {
        assert_eq!(value(&first, "resource_last_run_success", resource), Some(1.0), "{first}");
        assert_eq!(value(&first, "table_rows", resource), Some(2.0), "{first}");
    }
    assert!(!first.contains("EOF") && !first.contains("# UNIT"), "{first}");
    let succeeded = value(&first, "resource_last_success_timestamp_seconds", "orders").unwrap();

    // A run that fails does not make the last success forgotten.
    broken.store(true, Ordering::Relaxed);
    sync(69);
    let third = sync(69);
    assert_eq!(value(&third, "resource_last_run_success", "items"), Some(1.0), "{third}");
    assert_eq!(value(&third, "resource_last_run_exit_code", "orders"), Some(69.0), "{third}");
    assert_eq!(value(&third, "resource_consecutive_failures", "orders"), Some(2.0), "{third}");
    assert_eq!(value(&third, "resource_last_run_request_retries", "orders"), Some(1.0), "{third}");
    assert_eq!(value(&third, "resource_last_success_timestamp_seconds", "orders"), Some(succeeded), "{third}");
    assert!(value(&third, "resource_last_run_timestamp_seconds", "orders").unwrap() >= succeeded, "{third}");
}

#[test]
fn a_run_that_cannot_begin_says_so_too() {
    let (_api, workspace, _) = shop();
    std::fs::create_dir(workspace.path("metrics")).unwrap();
    workspace.write("highwater.db", "no database at all, but a text that is long enough to be looked at as one");
    let finished = workspace.run(&["sync", "shop.items", "--metrics-file", "metrics/highwater.prom"]);
    assert_eq!(finished.code, Some(74), "{finished:#?}");
    let text = read(&workspace);
    assert_eq!(value(&text, "resource_last_run_success", "items"), Some(0.0), "{text}");
    assert_eq!(value(&text, "resource_last_run_exit_code", "items"), Some(74.0), "{text}");
    assert!(!text.contains("orders"), "{text}");
}

#[test]
fn a_backfill_leaves_its_result_too_also_where_there_is_nothing_to_do() {
    let (_api, workspace, _) = shop();
    std::fs::create_dir(workspace.path("metrics")).unwrap();
    let arguments = ["backfill", "shop.items", "--from", "1", "--to", "9", "--metrics-file", "metrics/highwater.prom"];
    for records in [Some("2.0"), None] {
        let finished = workspace.run(&arguments);
        assert_eq!(finished.code, Some(0), "{finished:#?}");
        let text = read(&workspace);
        assert_eq!(value(&text, "resource_last_run_success", "items"), Some(1.0), "{text}");
        let inserted = "highwater_resource_last_run_records{source=\"shop\",resource=\"items\",result=\"inserted\"} ";
        assert_eq!(text.lines().find_map(|line| line.strip_prefix(inserted)), records, "{text}");
        std::fs::remove_file(workspace.path("metrics/highwater.prom")).unwrap();
    }
}

#[test]
fn a_file_that_cannot_be_written_is_an_error_but_the_data_is_stored() {
    let (_api, workspace, broken) = shop();
    let finished = workspace.run(&["sync", "--metrics-file", "nowhere/highwater.prom"]);
    assert_eq!(finished.code, Some(74), "{finished:#?}");
    assert!(finished.stderr.starts_with("error: write the metrics to nowhere/highwater.prom: "), "{finished:#?}");
    assert!(finished.stdout.contains("The data is in highwater.db"), "{finished:#?}");
    // What went wrong with the data is the more important news.
    broken.store(true, Ordering::Relaxed);
    let finished = workspace.run(&["sync", "--metrics-file", "."]);
    assert_eq!(finished.code, Some(69), "{finished:#?}");
}
