//! Kills at every system call that touches the file, one after the other.

use super::sweep::{Form, Point, Workload, can_trace, sweep};

/// Points of the form that always runs.
const FEW: usize = 16;

/// Before the call: strace sends the signal when it is made, and the kernel makes no call for a process that is dead.
const KILL: &str = "signal=KILL";

#[test]
fn x01_d12_a_kill_at_any_system_call_leaves_a_file_that_the_next_start_goes_on_with() {
    if !can_trace() {
        return;
    }
    let form = Form::chosen(FEW);
    println!("HIGHWATER_TORTURE_SEED={}", form.seed);
    let workloads = Workload::all();
    let mut points = Vec::new();
    for workload in &workloads {
        for (call, count) in &workload.calls {
            let point = |number| Point { workload, call: call.clone(), fault: KILL, number, more: false };
            points.extend((1..=*count).map(point));
        }
    }
    sweep("kill at every system call", &form, points, |_, finished, calls| {
        assert!(matches!(finished.code, None | Some(0)), "{finished:#?}");
        assert_eq!(calls.is_empty(), finished.code.is_some(), "{finished:#?}");
    });
}
