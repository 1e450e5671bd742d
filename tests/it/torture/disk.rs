//! Disks that are full, and disks that fail: at every system call that could notice, once and from then on.

use super::sweep::{FLUSHES, Form, Point, Workload, can_trace, sweep};

/// Points of the form that always runs.
const FEW: usize = 16;

/// What can happen at which calls, and whether at all that follow as well. A write of nothing is how a disk may say that it
/// is full, too.
const FAULTS: [(&str, &str, bool); 18] = [
    ("pwrite64", "error=EIO", false),
    ("pwrite64", "error=ENOSPC", true),
    ("pwrite64", "retval=0", false),
    ("write", "error=EIO", false),
    ("write", "error=ENOSPC", true),
    ("ftruncate", "error=EIO", false),
    ("ftruncate", "error=ENOSPC", true),
    ("fallocate", "error=ENOSPC", true),
    ("openat", "error=EIO", false),
    ("openat", "error=ENOSPC", true),
    ("openat", "error=EMFILE", false),
    ("mmap", "error=ENOMEM", false),
    ("pread64", "error=EIO", false),
    ("pread64", "error=EIO", true),
    ("fdatasync", "error=EIO", false),
    ("fdatasync", "error=EIO", true),
    ("fsync", "error=EIO", false),
    ("fsync", "error=EIO", true),
];

/// Whether an error may pass without a word. Those of flushing a folder may: not every file system can do that, so SQLite
/// goes on.
fn is_ignored(call: &str) -> bool {
    FLUSHES.iter().any(|name| call.contains(&format!(" {name}("))) && !call.contains("/highwater.db")
}

#[test]
fn d03_d04_a_full_disk_or_a_failing_one_is_seen_at_any_call_and_the_next_run_goes_on() {
    if !can_trace() {
        return;
    }
    let form = Form::chosen(FEW);
    println!("HIGHWATER_TORTURE_SEED={}", form.seed);
    let workloads = Workload::all();
    let mut points = Vec::new();
    for workload in &workloads {
        for (call, fault, more) in FAULTS {
            let count = workload.calls.get(call).copied().unwrap_or(0);
            let point = |number| Point { workload, call: call.to_owned(), fault, number, more };
            points.extend((1..=count).map(point));
        }
    }
    sweep("an error at every system call", &form, points, |finished, calls| {
        let swallowed: Vec<&String> = calls.iter().filter(|call| !is_ignored(call)).collect();
        match finished.code {
            Some(74) => assert!(!calls.is_empty(), "{finished:#?}"),
            Some(0) => assert!(swallowed.is_empty(), "{swallowed:#?} {finished:#?}"),
            _ => panic!("{finished:#?} {calls:#?}"),
        }
    });
}
