//! A daemon whose log nobody reads works as if somebody did, and ends when it is told to.

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::process::Child;
use std::time::Instant;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::Signal;
use serde_json::json;

use crate::support::{Api, PATIENCE, Workspace, json as answer, signal};

const CONFIG: &str = "[web]\nlisten = \"off\"\n[sources.s.client]\nbase_url = \"BASE\"\n\
                      paginator = { type = \"single_page\" }\n[sources.s.resources.r]\nevery = \"1s\"\n";

/// Fills a pipe to the last byte.
fn fill(mut pipe: &PipeWriter) {
    fcntl_setfl(pipe, fcntl_getfl(pipe).unwrap() | OFlags::NONBLOCK).unwrap();
    for chunk in [4096, 1] {
        while pipe.write(&vec![b'.'; chunk]).is_ok() {}
    }
    fcntl_setfl(pipe, fcntl_getfl(pipe).unwrap() - OFlags::NONBLOCK).unwrap();
}

fn serve(workspace: &Workspace, stderr: PipeWriter) -> Child {
    let mut command = workspace.command(&["serve", "-vvv"]);
    command.stderr(stderr).spawn().unwrap()
}

/// How it ends when it is told to.
fn stopped(mut daemon: Child) -> Option<i32> {
    signal(&daemon, Signal::TERM);
    let started = Instant::now();
    loop {
        if let Some(status) = daemon.try_wait().unwrap() {
            return status.code();
        }
        if started.elapsed() > PATIENCE {
            daemon.kill().unwrap();
            daemon.wait().unwrap();
            panic!("it did not end by itself");
        }
        std::thread::park_timeout(std::time::Duration::from_millis(1));
    }
}

#[test]
fn x11_a_log_that_nobody_reads_holds_up_nothing() {
    let api = Api::start(|_, _| answer(json!([{"id": 1}])));
    let workspace = Workspace::with_config(api.address, CONFIG);
    let (mut unread, stderr): (PipeReader, PipeWriter) = std::io::pipe().unwrap();
    fill(&stderr);
    let daemon = serve(&workspace, stderr);
    api.wait_for(2);
    assert_eq!(stopped(daemon), Some(0));
    let complete: i64 = workspace.value("SELECT count(*) FROM _hw_runs WHERE outcome = 'complete'");
    assert!(complete >= 1, "{complete}");
    workspace.check_books();
    let mut text = Vec::new();
    unread.read_to_end(&mut text).unwrap();
    assert!(text.iter().all(|byte| *byte == b'.'), "no line is torn");
}

#[test]
fn x11_a_log_that_nobody_can_read_any_more_ends_nothing() {
    let api = Api::start(|_, _| answer(json!([{"id": 1}])));
    let workspace = Workspace::with_config(api.address, CONFIG);
    let (closed, stderr) = std::io::pipe().unwrap();
    drop(closed);
    let daemon = serve(&workspace, stderr);
    api.wait_for(2);
    assert_eq!(stopped(daemon), Some(0));
    workspace.check_books();
}
