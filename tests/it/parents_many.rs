//! A parent with very many records, each with one page of a child: memory stays flat, no more is asked for at once than
//! `pipeline.concurrency`, and every row of the child is there once. In large:
//! `PARENTS=100000 cargo test --release --test it -- parents_many --nocapture`

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::memory::{MIB, peak};
use crate::pages::page_of;
use crate::support::{Api, Seen, Workspace, finish, json as answer};

/// As many as the short form has.
const PARENTS: u64 = 3000;

const PER_PAGE: u64 = 100;

/// Answers take a moment while so many are still to come, so that requests overlap which are sent side by side.
const SLOW: usize = 1000;

const CONCURRENCY: usize = 8;

const CONFIG: &str = r#"
[pipeline]
concurrency = 8
[sources.hub.client]
base_url = "BASE"
[sources.hub.resources.parents]
primary_key = "id"
paginator = { type = "page_number", total_path = "pages" }
data_selector = "data"
[sources.hub.resources.children]
path = "parents/${resources.parents.id}/children"
primary_key = "id"
paginator = { type = "single_page" }
data_selector = "data"
concurrency = 64
"#;

/// What a run has shown.
struct Shown {
    workspace: Workspace,
    in_flight: usize,
    peak: u64,
    took: Duration,
}

fn run(parents: u64) -> Shown {
    let (process, highest) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU64::new(0)));
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let came = Arc::new(AtomicUsize::new(0));
    let api = {
        let (process, highest) = (Arc::clone(&process), Arc::clone(&highest));
        let (begun, ended, most) = (Arc::clone(&now), now, Arc::clone(&most));
        Api::start_paced(
            move |_| {
                most.fetch_max(begun.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let number = came.fetch_add(1, Ordering::SeqCst);
                if number.is_multiple_of(256) {
                    highest.fetch_max(peak(process.load(Ordering::SeqCst)), Ordering::SeqCst);
                }
                Duration::from_millis(u64::from(number < SLOW))
            },
            move |request: &Seen, _| {
                ended.fetch_sub(1, Ordering::SeqCst);
                answer(page(request, parents))
            },
        )
    };
    let workspace = Workspace::with_config(api.address, CONFIG);
    let started = Instant::now();
    let child = workspace.spawn(&["sync", "-q"]);
    process.store(child.id(), Ordering::SeqCst);
    let finished = finish(child);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(api.seen().len() as u64, parents + parents.div_ceil(PER_PAGE), "each page once");
    let (in_flight, peak) = (most.load(Ordering::SeqCst), highest.load(Ordering::SeqCst));
    Shown { workspace, in_flight, peak, took: started.elapsed() }
}

/// A page of parents, or the one child of a parent.
fn page(request: &Seen, parents: u64) -> Value {
    if let Some(rest) = request.path().strip_prefix("/parents/") {
        let parent: u64 = rest.trim_end_matches("/children").parse().unwrap();
        return json!({"data": [{"id": parent * 10, "parent": parent, "text": format!("child of {parent}")}]});
    }
    let first = (page_of(request) as u64 - 1) * PER_PAGE;
    let record = |n: u64| json!({"id": n, "title": format!("parent {n}")});
    let data: Vec<Value> = (first..parents.min(first + PER_PAGE)).map(record).collect();
    json!({"data": data, "pages": parents.div_ceil(PER_PAGE)})
}

#[test]
fn many_parents_need_no_more_memory_than_few_and_no_more_requests_at_once_than_configured() {
    let parents = std::env::var("PARENTS").map_or(PARENTS, |number| number.parse().unwrap());
    let (few, many) = (run(parents / 10), run(parents));
    for (name, shown, parents) in [("few", &few, parents / 10), ("many", &many, parents)] {
        println!(
            "{name}: {parents} parents, {} MiB, {:?}, {} in flight",
            shown.peak / MIB,
            shown.took,
            shown.in_flight
        );
        let counted =
            "SELECT count(*) || ' ' || count(DISTINCT parent) || ' ' || sum(id = parent * 10) FROM hub_children";
        assert_eq!(shown.workspace.value::<String>(counted), format!("{parents} {parents} {parents}"));
        assert_eq!(shown.in_flight, CONCURRENCY, "as many as may be, and no more");
        shown.workspace.check_books();
    }
    // The file grows with the parents, and with it what SQLite keeps of it, up to its page cache of 16 MiB.
    assert!(few.peak > MIB && many.peak < few.peak + 16 * MIB, "{} MiB, {} MiB", few.peak / MIB, many.peak / MIB);
}
