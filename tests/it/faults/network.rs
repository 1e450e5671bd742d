//! Connections that vanish, names that lead nowhere, and what the environment says about proxies.

use serde_json::json;

use super::server::{FaultServer, Then, whole};
use crate::pagination::{config, ids, up_to};
use crate::support::{Api, Workspace, binary, finish, numbered, records, respond};

const BY_PAGE: &str = "data_selector = \"data\"\npaginator = { type = \"page_number\", total_path = \"pages\" }";

#[test]
fn n04_a_reset_after_any_number_of_bytes_loses_and_doubles_no_row() {
    let page = |first: u64| whole(&json!({"data": records(first..first + 2), "pages": 2}).to_string());
    let (first, second) = (page(0), page(2));
    for then in [Then::Reset, Then::Close] {
        // Every cut that means something else: in the status line, in the headers, in the body, before its last byte.
        let body = second.len() - 40;
        for cut in [0, 12, body, second.len() - 1] {
            let server = FaultServer::start(vec![
                (first.clone(), Then::Keep),
                (second[..cut].to_vec(), then),
                (second.clone(), Then::Keep),
            ]);
            let text = config("", &format!("{BY_PAGE}\nwrite_disposition = \"append\""));
            let workspace = Workspace::with_config(server.address, &text);
            workspace.sync(0);
            assert_eq!(ids(&workspace), up_to(4), "{then:?} at {cut}");
            assert_eq!(server.heard().len(), 3, "{then:?} at {cut}");
            workspace.check_books();
        }
    }
}

#[test]
fn n07_a_kept_connection_whose_other_end_has_vanished_is_left_for_a_new_one() {
    let page = |first: u64| whole(&json!({"data": records(first..first + 2), "pages": 2}).to_string());
    for client in ["timeout = \"200ms\"", "read_timeout = \"200ms\"\ntimeout = \"300ms\""] {
        let server =
            FaultServer::start(vec![(page(0), Then::Keep), (Vec::new(), Then::Silence), (page(2), Then::Keep)]);
        let workspace = Workspace::with_config(server.address, &config(client, BY_PAGE));
        workspace.sync(0);
        assert_eq!(ids(&workspace), up_to(4));
        let connections: Vec<usize> = server.heard().into_iter().map(|(connection, _)| connection).collect();
        assert_eq!(connections, [0, 0, 1], "{client}");
    }
}

#[test]
fn n08_a_name_that_does_not_resolve_is_tried_again_and_then_named() {
    // A label of more than 63 letters: the resolver of this machine refuses it without asking anyone.
    let host = format!("{}.invalid", "a".repeat(64));
    let workspace = Workspace::new();
    workspace.write("config.toml", &config("", BY_PAGE).replace("BASE", &format!("http://{host}/")));
    let report = workspace.sync(69);
    let resource = &report["resources"][0];
    assert_eq!((&resource["requests"], &resource["outcome"]), (&3.into(), &"failed".into()), "{report:#}");
    let error = resource["error"].as_str().unwrap();
    assert!(error.contains("resolve") || error.contains("lookup"), "{error}");
}

#[test]
fn n09_an_api_on_this_machine_is_read_by_its_name() {
    let api = Api::start(numbered(4, 2));
    let workspace = Workspace::new();
    let base = format!("http://localhost:{}/", api.address.port());
    for client in ["", "allow_private_addresses = true"] {
        workspace.write("config.toml", &config(client, BY_PAGE).replace("BASE", &base));
        workspace.sync(0);
    }
    assert_eq!(api.seen().len(), 4);
}

#[test]
fn n14_a_proxy_of_the_environment_gets_nothing() {
    let proxy = Api::start(|_, _| respond(502, &[], ""));
    let api = Api::start(numbered(25, 10));
    let workspace = Workspace::with_config(api.address, &config("", BY_PAGE));
    let mut command = workspace.command(&["sync", "--json"]);
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        command.env(name, format!("http://{}", proxy.address));
    }
    let finished = finish(command.spawn().unwrap());
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_eq!((ids(&workspace), proxy.seen().len()), (up_to(25), 0));
}

#[test]
fn h17_a_storm_of_failures_gets_no_more_requests_than_the_attempts_and_the_budget_allow() {
    let api = Api::start(|_, _| respond(503, &[], ""));
    let client = "rate_limit = { requests = 20, per = \"200ms\" }";
    let more = |n| format!("[sources.api.resources.r{n}]\n{BY_PAGE}\n");
    let text = config(client, BY_PAGE) + &(1..10).map(more).collect::<String>();
    let workspace = Workspace::with_config(api.address, &text);
    let report = workspace.sync(69);
    let resources = report["resources"].as_array().unwrap();
    assert_eq!(resources.len(), 10);
    assert!(resources.iter().all(|resource| resource["requests"] == 3), "{report:#}");
    let times: Vec<_> = api.seen().into_iter().map(|seen| seen.at).collect();
    assert_eq!(times.len(), 30);
    crate::rate_limit::assert_rate(&times, 20, std::time::Duration::from_millis(200));
}

#[test]
fn x13_without_file_descriptors_a_run_fails_and_the_next_one_takes_every_row() {
    let more = |n| format!("[sources.api.resources.r{n}]\nprimary_key = \"id\"\n{BY_PAGE}\n");
    let text = config("", BY_PAGE) + &(1..12).map(more).collect::<String>() + "[pipeline]\nconcurrency = 12\n";
    for limit in [12, 14, 16, 20] {
        let api = Api::start(numbered(25, 10));
        let workspace = Workspace::with_config(api.address, &text);
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "ulimit -n $1; exec \"$0\" sync --json", &binary()]);
        command.arg(limit.to_string()).current_dir(workspace.path("")).stdin(std::process::Stdio::null());
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let finished = finish(command.spawn().unwrap());
        let code = finished.code;
        assert!(matches!(code, Some(0 | 69 | 74 | 78)), "{limit}: {finished:#?}");
        assert!(!finished.stderr.contains("panicked"), "{limit}: {finished:#?}");
        assert_eq!(code == Some(0), finished.stdout.contains("\"complete\": true"), "{limit}: {finished:#?}");
        println!("with {limit} descriptors it ended with {code:?}");
        workspace.sync(0);
        assert_eq!(ids(&workspace), up_to(25), "{limit}");
        assert_eq!(workspace.value::<i64>("SELECT sum(rows) FROM _hw_resources"), 12 * 25, "{limit}");
        workspace.check_books();
    }
}
