//! Memory is bounded by the configuration, whatever an API sends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::pages::page_of;
use crate::support::{Api, Seen, Workspace, finish, respond};

pub(crate) const MIB: u64 = 1 << 20;

/// The most memory that a process has taken so far, in bytes.
pub(crate) fn peak(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or(0, |line| line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024)
}

/// A page of about so many bytes, with numbers that depend on `seed`.
fn page(seed: usize, bytes: u64) -> String {
    let record = |n: u64| format!("{{\"id\":{},\"text\":\"{}\"}}", seed as u64 * 1_000_000 + n, "x".repeat(200));
    let records: Vec<String> = (0..bytes / 225).map(record).collect();
    format!("[{}]", records.join(","))
}

/// Reads the configuration's resources from an API whose pages are `sizes`, and gives back the peak of the process,
/// as seen at the requests that came.
fn peak_of(sizes: &'static [u64], config: &str) -> (Workspace, u64) {
    let (process, highest) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU64::new(0)));
    let (reading, seen) = (Arc::clone(&process), Arc::clone(&highest));
    let api = Api::start(move |request: &Seen, _| {
        seen.fetch_max(peak(reading.load(Ordering::SeqCst)), Ordering::SeqCst);
        let number = page_of(request);
        let body = sizes.get(number - 1).map_or("[]".to_owned(), |bytes| page(number, *bytes));
        respond(200, &[("content-type", "application/json")], body)
    });
    let workspace = Workspace::with_config(api.address, config);
    let child = workspace.spawn(&["sync", "-q"]);
    process.store(child.id(), Ordering::SeqCst);
    let finished = finish(child);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    (workspace, highest.load(Ordering::SeqCst))
}

#[test]
fn pages_that_grow_in_many_resources_at_once_stay_within_channel_bytes_and_one_page_more() {
    let mut config =
        "[pipeline]\nconcurrency = 24\nchannel_bytes = \"8MiB\"\n[sources.s.client]\nbase_url = \"BASE\"\n\
                      paginator = { type = \"page_number\" }\n"
            .to_owned();
    for n in 0..24 {
        config.push_str(&format!("[sources.s.resources.r{n}]\nprimary_key = \"id\"\n"));
    }
    let (workspace, peak) = peak_of(&[1000, 8 * MIB, 1000], &config);
    assert_eq!(workspace.value::<i64>("SELECT count(*) FROM s_r23"), 2 * (1000 / 225) + (8 * MIB as i64) / 225);
    // Twenty-four pages of 8 MiB are 192 MiB before they are taken apart; without the limit the process takes 328 MiB,
    // with it about 105, of which a debug build's way to take pages apart is a part.
    assert!(peak > 20 * MIB && peak < 160 * MIB, "{} MiB", peak / MIB);
}

#[test]
fn one_page_larger_than_channel_bytes_is_read_and_so_are_several_of_one_resource_side_by_side() {
    let config = "[pipeline]\nchannel_bytes = \"1MiB\"\n[sources.s.client]\nbase_url = \"BASE\"\n\
                  [sources.s.resources.r]\nprimary_key = \"id\"\nconcurrency = 6\n\
                  paginator = { type = \"page_number\" }\n";
    let sizes = &[1000, 3 * MIB, 1000, 3 * MIB, 3 * MIB, 1000, 1000, 3 * MIB, 3 * MIB, 3 * MIB, 3 * MIB, 1000];
    let (workspace, peak) = peak_of(sizes, config);
    let expected: u64 = sizes.iter().map(|bytes| bytes / 225).sum();
    assert_eq!(workspace.value::<u64>("SELECT count(*) FROM s_r"), expected);
    assert!(peak < 70 * MIB, "{} MiB", peak / MIB);
}
