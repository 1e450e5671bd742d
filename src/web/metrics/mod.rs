//! What `/metrics` says, and what a single run leaves for the textfile collector: gauges of how things are, counters of
//! what the runs of this process have brought. Labels are names of the configuration, and words of ours.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::Mutex;

use crate::board::{Board, BudgetView, Job};
use crate::destination::{Counts, DbError, Outcome, Overview, ResourceOverview, RunSums, Tally, View};
use crate::page::ResourceId;
use crate::progress::{Activity, LOG_LINES_LOST};
use family::{Family, Labels};

mod family;
mod run;
#[cfg(test)]
mod tests;

pub use family::Format;
pub use run::{LastRun, of_run};

/// The ways in which a run ends.
const OUTCOMES: [Outcome; 3] = [Outcome::Complete, Outcome::Incomplete, Outcome::Failed];

/// What the file knows, for [`encode`].
#[derive(Clone, Debug)]
pub struct Stored {
    /// The resources, with at least the last two runs of each.
    pub resources: Vec<Arc<ResourceOverview>>,
    /// What its runs have brought since the daemon started.
    pub sums: BTreeMap<ResourceId, RunSums>,
}

impl Stored {
    /// What there is to see in the file; nothing is added up.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn of(view: &View) -> Result<Self, DbError> {
        let overview = view.overview(2, 0, &Arc::default()).await?;
        Ok(Self { resources: overview.resources, sums: BTreeMap::new() })
    }
}

/// The metrics of a daemon: what its runs have brought is added up from one look to the next.
#[derive(Debug)]
pub struct Metrics {
    tally: Mutex<Tally>,
}

impl Metrics {
    /// Of a daemon that started then.
    #[must_use]
    pub fn since(started_at: Timestamp) -> Self {
        Self { tally: Mutex::new(Tally::since(started_at)) }
    }

    /// The metrics as they are now.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn scrape(
        &self,
        board: &Board,
        view: &View,
        overview: &Overview,
        format: Format,
    ) -> Result<String, DbError> {
        let sums = {
            // One at a time: nothing is added up twice.
            let mut tally = self.tally.lock().await;
            *tally = view.tally(&tally).await?;
            tally.sums()
        };
        Ok(encode(board, &Stored { resources: overview.resources.clone(), sums }, format))
    }
}

/// The metrics of a daemon as text.
#[must_use]
pub fn encode(board: &Board, stored: &Stored, format: Format) -> String {
    let mut families = vec![
        Family::info("highwater_build_info", "The program.", vec![("version", env!("CARGO_PKG_VERSION").to_owned())]),
        Family::gauge("process_start_time_seconds", "When the daemon started.")
            .with(Vec::new(), seconds(board.started_at)),
        Family::counter("highwater_log_lines_dropped_total", "Log lines that were lost because nobody read them.")
            .with(Vec::new(), number(LOG_LINES_LOST.get())),
    ];
    families.extend(of_config(board));
    families.extend(of_files(&board.database));
    families.extend(of_budgets(&board.budgets));
    families.extend(of_jobs(&board.jobs));
    let ids: Vec<&ResourceId> = board.jobs.iter().flat_map(|job| &job.resources).collect();
    families.extend(of_stored(&ids, stored));
    families.extend(of_sums(&ids, &stored.sums));
    family::text(families, format)
}

/// A time in seconds since 1970, to the millisecond.
#[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are exact in a double for 285,000 years")]
fn seconds(time: Timestamp) -> f64 {
    time.as_millisecond() as f64 / 1000.0
}

/// A count. Exact up to 2^53, which is what Prometheus has room for.
#[expect(clippy::cast_precision_loss, reason = "Prometheus has nothing but doubles")]
fn number(count: u64) -> f64 {
    count as f64
}

fn flag(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

fn labels(id: &ResourceId) -> Labels {
    vec![("source", id.source.to_string()), ("resource", id.resource.to_string())]
}

fn of_config(board: &Board) -> [Family; 2] {
    let config = &board.config;
    [
        Family::gauge(
            "highwater_config_last_reload_success",
            "Whether the configuration file as it is now is the one that runs; 0: it is wrong, and an earlier one runs.",
        )
        .with(Vec::new(), flag(config.error.is_none())),
        Family::gauge(
            "highwater_config_last_reload_success_timestamp_seconds",
            "When the configuration that runs was read.",
        )
        .with(Vec::new(), seconds(config.loaded_at)),
    ]
}

/// How big the database is. Only looked at: a handle of ours would drop SQLite's locks when it is closed.
fn of_files(database: &Path) -> [Family; 2] {
    let size = |path: &Path| std::fs::metadata(path).ok().map(|file| number(file.len()));
    // The WAL is beside the file itself, by whatever link the file is named.
    let mut wal = std::fs::canonicalize(database).unwrap_or_else(|_| database.to_owned()).into_os_string();
    wal.push("-wal");
    let mut file = Family::gauge("highwater_database_bytes", "Size of the database file, without its WAL.");
    size(database).into_iter().for_each(|bytes| file.add(Vec::new(), bytes));
    let wal = Family::gauge("highwater_wal_bytes", "Size of the database's write-ahead log.")
        .with(Vec::new(), size(wal.as_ref()).unwrap_or_default());
    [file, wal]
}

fn of_budgets(budgets: &[BudgetView]) -> [Family; 2] {
    let mut left = Family::gauge(
        "highwater_budget_remaining_requests",
        "Requests that are left: what the server said last, else what the rate allows at once. Absent where neither is known.",
    );
    let mut reset = Family::gauge(
        "highwater_budget_reset_timestamp_seconds",
        "When the rate or the server's pause lets another request leave. Absent where that is now.",
    );
    for budget in budgets {
        let labels = vec![("budget", budget.name.clone())];
        budget.left.iter().for_each(|&requests| left.add(labels.clone(), number(requests)));
        budget.free_at.iter().for_each(|&at| reset.add(labels.clone(), seconds(at)));
    }
    [left, reset]
}

/// What the daemon does with its resources. Those that are read together share their times and their failures.
fn of_jobs(jobs: &[Job]) -> [Family; 5] {
    let mut running = Family::gauge("highwater_resource_running", "Whether it is being read.");
    let mut paused =
        Family::gauge("highwater_resource_paused", "Whether somebody said that it is not to run by itself.");
    let mut failures = consecutive_failures();
    let mut next = Family::gauge(
        "highwater_resource_next_run_timestamp_seconds",
        "When it runs next; in the past where that is overdue. Absent where it does not run by itself.",
    );
    let mut coalesced =
        Family::counter("highwater_runs_coalesced_total", "How often it was due while it was still being read.");
    for job in jobs {
        let is_read = |id: &ResourceId| {
            let mut progress = job.running.iter().flat_map(|running| &running.progress);
            progress.any(|(other, progress)| other == id && progress.activity() != Activity::Ended)
        };
        for id in &job.resources {
            running.add(labels(id), flag(is_read(id)));
            paused.add(labels(id), flag(job.paused_at.is_some()));
            failures.add(labels(id), f64::from(job.failures));
            job.next.iter().for_each(|&at| next.add(labels(id), seconds(at)));
            coalesced.add(labels(id), number(job.coalesced));
        }
    }
    [running, paused, failures, next, coalesced]
}

fn consecutive_failures() -> Family {
    let help = "Runs that failed since the last one that did not, backfills left out.";
    Family::gauge("highwater_resource_consecutive_failures", help)
}

/// What the file knows of these resources; nothing of those that it does not know.
fn of_stored(ids: &[&ResourceId], stored: &Stored) -> [Family; 4] {
    let mut success = Family::gauge(
        "highwater_resource_last_success_timestamp_seconds",
        "When its last complete run ended, backfills left out. Absent where there was none.",
    );
    let mut duration = Family::gauge(
        "highwater_resource_last_run_duration_seconds",
        "How long its last run took that has ended, whatever became of it.",
    );
    let mut rows = Family::gauge("highwater_table_rows", "Rows of its table, as far as highwater wrote them.");
    let mut quarantined =
        Family::gauge("highwater_quarantined_records", "Records that are set aside; counted up to 100.");
    let resources: HashMap<ResourceId, &ResourceOverview> =
        stored.resources.iter().map(|known| (known.view.id(), &**known)).collect();
    for &id in ids {
        let Some(ResourceOverview { view, recent, .. }) = resources.get(id) else { continue };
        view.last_success_at.iter().for_each(|&at| success.add(labels(id), seconds(at)));
        rows.add(labels(id), number(view.rows));
        quarantined.add(labels(id), number(view.quarantined));
        let mut runs = recent.iter().rev().filter_map(|run| run.started_at.zip(run.ended_at));
        if let Some((began, ended)) = runs.next() {
            // A clock that was set back in between is no negative time.
            duration.add(labels(id), ended.duration_since(began).as_secs_f64().max(0.0));
        }
    }
    [success, duration, rows, quarantined]
}

/// What the runs have brought. A resource without a run has brought nothing, which is a number too.
fn of_sums(ids: &[&ResourceId], sums: &BTreeMap<ResourceId, RunSums>) -> [Family; 6] {
    let mut runs =
        Family::counter("highwater_runs_total", "Runs that have ended, by what asked for them and how they ended.");
    let mut records = Family::counter("highwater_records_total", "Records received, by what became of them.");
    let mut pages = Family::counter("highwater_pages_total", "Pages stored.");
    let mut requests = Family::counter(
        "highwater_requests_total",
        "Requests sent; those that brought no page are counted when their run has ended.",
    );
    let mut retries = Family::counter(
        "highwater_request_retries_total",
        "Requests sent again after a failure, counted like the requests.",
    );
    let mut bytes = Family::counter("highwater_received_bytes_total", "Bytes of stored pages, after decompression.");
    let nothing = RunSums::default();
    for &id in ids {
        let sums = sums.get(id).unwrap_or(&nothing);
        // A number that begins with its first failure would not be seen to grow.
        let mut ended =
            OUTCOMES.map(|outcome| (("scheduled", outcome.as_str()), 0)).into_iter().collect::<BTreeMap<_, _>>();
        ended.extend(sums.ended.iter().map(|((kind, outcome), count)| ((&**kind, &**outcome), *count)));
        for ((kind, outcome), count) in ended {
            let mut labels = labels(id);
            labels.extend([("kind", kind.to_owned()), ("outcome", outcome.to_owned())]);
            runs.add(labels, number(count));
        }
        add_records(&mut records, id, &sums.counts);
        pages.add(labels(id), number(sums.pages));
        requests.add(labels(id), number(sums.requests));
        retries.add(labels(id), number(sums.retries));
        bytes.add(labels(id), number(sums.bytes));
    }
    [runs, records, pages, requests, retries, bytes]
}

/// A value for each thing that can become of a record.
fn add_records(family: &mut Family, id: &ResourceId, counts: &Counts) {
    for (result, count) in [
        ("inserted", counts.inserted),
        ("updated", counts.updated),
        ("unchanged", counts.unchanged),
        ("filtered", counts.filtered),
        ("quarantined", counts.quarantined),
    ] {
        let mut labels = labels(id);
        labels.push(("result", result.to_owned()));
        family.add(labels, number(count));
    }
}
