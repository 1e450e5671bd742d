//! What a process takes while everything fails: descriptors, threads and memory, of which nothing may stay behind.

use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::Body;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::hands::{can_mount, daemon, ten_records};
use crate::pages::items;
use crate::soak::gauge::Sample;
use crate::support::{Api, Running, Workspace, binary, finish, json as answer, records, respond};

/// Pages of a sync none of which comes at the first attempt.
const PAGES: u64 = 120;

/// Connections may stand open for another request; a runtime's threads that nobody uses end later.
const FDS_MORE: u64 = 8;
const THREADS_MORE: u64 = 4;

/// SQLite's cache has some pages more.
const KIB_MORE: u64 = 8 << 10;

/// How often a disk is full.
const FULL: usize = 12;

/// That a process takes no more at the end than it did when everything had happened once.
fn check_steady(samples: &[Sample]) {
    let (early, late) = samples.split_at(samples.len() / 2);
    for (name, of, more) in [
        ("file descriptors", (|sample| sample.fds) as fn(&Sample) -> u64, FDS_MORE),
        ("threads", |sample| sample.threads, THREADS_MORE),
        ("RSS, KiB", |sample| sample.rss_kib, KIB_MORE),
    ] {
        let most = |samples: &[Sample]| samples.iter().map(of).max().unwrap();
        assert!(most(late) <= most(early) + more, "{name}: {} at first, {} later", most(early), most(late));
    }
}

/// The files of its database that a process has open.
fn open_databases(process: u32) -> Vec<String> {
    let links = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let links = links.filter_map(|link| std::fs::read_link(link.unwrap().path()).ok());
    links.map(|link| link.display().to_string()).filter(|link| link.contains("highwater.db")).collect()
}

#[test]
fn x13_a_sync_whose_every_request_fails_at_first_takes_no_more_at_its_end_than_at_its_beginning() {
    let (process, samples) = (Arc::new(AtomicU32::new(0)), Arc::new(Mutex::new(Vec::new())));
    let (of, taken) = (Arc::clone(&process), Arc::clone(&samples));
    let api = Api::start(move |request, number| {
        // The requests come one by one: each page is cut off, refused, no JSON, and there.
        let page: u64 = request.param("page").unwrap().parse().unwrap();
        match number % 4 {
            0 => {
                let cut = futures::stream::iter([Ok("[{"), Err(std::io::Error::other("cut off"))]);
                respond(200, &[("content-type", "application/json")], Body::from_stream(cut))
            }
            1 => respond(503, &[], ""),
            2 => respond(200, &[("content-type", "application/json")], "[{]"),
            _ => {
                let process = of.load(Ordering::Relaxed);
                // The first page may come before anybody knows who asks.
                taken.lock().unwrap().extend((process > 0).then(|| Sample::take(process, "none".as_ref())));
                answer(json!({"data": Value::from(records(page * 10..page * 10 + 10)), "pages": PAGES}))
            }
        }
    });
    let keys = "primary_key = \"id\"\ndata_selector = \"data\"\n\
                paginator = { type = \"page_number\", total_path = \"pages\" }\n";
    let text = items(keys).replace("max_attempts = 1", "max_attempts = 5, initial_delay = \"1ms\"");
    let workspace = Workspace::with_config(api.address, &text);
    let child = workspace.spawn(&["sync"]);
    process.store(child.id(), Ordering::Relaxed);
    let finished = finish(child);
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_eq!(workspace.value::<u64>("SELECT count(*) FROM shop_items"), PAGES * 10);
    check_steady(&samples.lock().unwrap()[PAGES as usize / 4..]);
}

#[test]
fn d03_a_daemon_whose_disk_is_full_again_and_again_lets_go_of_everything_each_time() {
    if !can_mount() {
        return;
    }
    let api = Api::start(ten_records);
    let workspace = daemon(&api, "every = \"1s\"");
    let text = std::fs::read_to_string(workspace.path("config.toml")).unwrap();
    workspace.write("config.toml", &text.replace("[destination]\n", "[destination]\npath = \"disk/highwater.db\"\n"));
    // It begins while there is room, and is told how soon to look again.
    let manager = UnixDatagram::bind(workspace.path("notify")).unwrap();
    manager.set_nonblocking(true).unwrap();
    let line = "mkdir disk; mount -t tmpfs -o size=4m none disk && exec \"$0\" serve -v";
    let mut command = workspace.command_of("unshare", &["-m", "sh", "-c", line, &binary()]);
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("NOTIFY_SOCKET", workspace.path("notify"));
    command.env("WATCHDOG_USEC", "100000").process_group(0);
    let mut daemon = Running::start(command);
    daemon.wait_for("a run has ended");
    let fill = format!("head -c 5000000 /dev/zero > {}/disk/filler", workspace.path("").display());
    let target = daemon.id().to_string();
    let filled = workspace.command_of("nsenter", &["-m", "-t", &target, "sh", "-c", &fill]).status().unwrap();
    assert!(!filled.success(), "there is room left");
    let mut samples = Vec::new();
    while samples.len() < FULL {
        daemon.wait_for("nothing is read until there is room");
        // It may be open again by now.
        let mut open = open_databases(daemon.id());
        open.sort();
        let all = open.len();
        open.dedup();
        assert_eq!(open.len(), all, "it has the file open twice: {open:?}");
        samples.push(Sample::take(daemon.id(), "none".as_ref()));
        while manager.recv(&mut [0; 4096]).is_ok() {}
    }
    daemon.signal(Signal::TERM);
    daemon.finish();
    check_steady(&samples);
}
