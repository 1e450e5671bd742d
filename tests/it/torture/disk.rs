//! Disks that are full, and disks that fail: at every system call that could notice, once and from then on.

use super::sweep::{FLUSHES, Form, Point, Struck, Workload, can_trace, sweep};

/// Points of the form that always runs.
const FEW: usize = 16;

/// What can happen at which calls, and whether at all that follow as well. A write of nothing is how a disk may say that it
/// is full, too.
const FAULTS: [(&str, &str, bool); 24] = [
    ("pwrite64", "error=EIO", false),
    ("pwrite64", "error=EIO", true),
    ("pwrite64", "error=ENOSPC", false),
    ("pwrite64", "error=ENOSPC", true),
    ("pwrite64", "retval=0", false),
    ("write", "error=EIO", false),
    ("write", "error=ENOSPC", true),
    ("ftruncate", "error=EIO", false),
    ("ftruncate", "error=EIO", true),
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
    ("fdatasync", "error=ENOSPC", false),
    ("fsync", "error=ENOSPC", false),
    ("fsync", "error=ENOSPC", true),
];

/// Whether an error may pass without a word, each for its reason.
fn is_ignored(point: &Point<'_>, struck: &Struck) -> bool {
    // A folder is opened to be flushed. Not every file system can do that, so SQLite goes on.
    let is_flush = FLUSHES.contains(&&*point.call) || point.call == "openat";
    let of_folder = is_flush && !struck.call.contains("/highwater.db");
    // Before a new file has its first WAL there is nothing in it that could be lost. All of it is written and flushed again
    // before that WAL is let go.
    let of_nothing = point.workload.name == "first" && struck.is_before_wal;
    // A column that is added to a STRICT table makes SQLite read its rows (quick_check), and pass over those that it cannot
    // read. Nothing follows from them: the columns that a migration adds have defaults.
    let of_check = point.workload.name == "migration" && point.call == "pread64" && !point.more;
    of_folder || of_nothing || of_check
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
    sweep("an error at every system call", &form, points, |point, finished, calls| {
        let swallowed: Vec<_> = calls.iter().filter(|call| !is_ignored(point, call)).collect();
        match finished.code {
            Some(74) => assert!(!calls.is_empty(), "{finished:#?}"),
            Some(0) => assert!(swallowed.is_empty(), "{swallowed:#?} {finished:#?}"),
            _ => panic!("{finished:#?} {calls:#?}"),
        }
    });
}
