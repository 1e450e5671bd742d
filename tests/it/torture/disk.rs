//! Disks that are full, and disks that fail: at every system call that could notice, once and from then on.

use super::sweep::{FLUSHES, Form, Point, Workload, can_trace, sweep};

/// Points of the form that always runs.
const FEW: usize = 16;

/// What can happen at which calls; a write of nothing is how a disk may say that it is full, too.
const FAULTS: [(&str, &[&str]); 9] = [
    ("pwrite64", &["error=EIO", "error=ENOSPC", "retval=0"]),
    ("write", &["error=EIO", "error=ENOSPC"]),
    ("ftruncate", &["error=EIO", "error=ENOSPC"]),
    ("fallocate", &["error=EIO", "error=ENOSPC"]),
    ("openat", &["error=EIO", "error=ENOSPC"]),
    ("mmap", &["error=ENOMEM"]),
    ("pread64", &["error=EIO"]),
    ("fdatasync", &["error=EIO", "error=ENOSPC"]),
    ("fsync", &["error=EIO", "error=ENOSPC"]),
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
        for (call, faults) in FAULTS {
            let count = workload.calls.get(call).copied().unwrap_or(0);
            for fault in faults {
                let point =
                    |number| [false, true].map(|more| Point { workload, call: call.to_owned(), fault, number, more });
                points.extend((1..=count).flat_map(point));
            }
        }
    }
    sweep("an error at every system call", &form, points, |_, finished, calls| {
        let swallowed: Vec<&String> = calls.iter().filter(|call| !is_ignored(call)).collect();
        match finished.code {
            Some(74) => assert!(!calls.is_empty(), "{finished:#?}"),
            Some(0) => assert!(swallowed.is_empty(), "{swallowed:#?} {finished:#?}"),
            _ => panic!("{finished:#?} {calls:#?}"),
        }
    });
}
