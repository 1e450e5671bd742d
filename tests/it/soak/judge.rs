//! What has to be true of the books when a daemon has worked for long: the API's log and the metrics are held against them,
//! run by run.

use std::collections::{BTreeMap, HashMap};

use highwater::verify;
use jiff::{SignedDuration, Timestamp};

use super::Shape;
use super::api::{Api, Kind};
use super::page::Page;
use crate::support::Workspace;

/// Times are kept in whole milliseconds.
const ROUNDED: SignedDuration = SignedDuration::from_millis(1);

/// A resource that has been due for so long, and has not run, was forgotten.
const FORGOTTEN: SignedDuration = SignedDuration::from_secs(60);

/// What counts of the runs, as the metrics name it and as the file has it.
const COUNTERS: &str = r#"
    WITH r AS (SELECT *, '{source="' || source || '",resource="' || resource || '"' AS labels FROM _hw_runs)
    SELECT 'highwater_runs_total' || labels || ',kind="' || kind || '",outcome="' || outcome || '"}', count(*)
      FROM r WHERE outcome <> 'running' GROUP BY 1
    UNION ALL SELECT 'highwater_pages_total' || labels || '}', sum(pages) FROM r GROUP BY 1
    UNION ALL SELECT 'highwater_requests_total' || labels || '}', sum(requests) FROM r GROUP BY 1
    UNION ALL SELECT 'highwater_request_retries_total' || labels || '}', sum(retries) FROM r GROUP BY 1
    UNION ALL SELECT 'highwater_received_bytes_total' || labels || '}', sum(bytes) FROM r GROUP BY 1
    UNION ALL SELECT 'highwater_records_total' || labels || ',result="inserted"}', sum(inserted) FROM r GROUP BY 1
    UNION ALL SELECT 'highwater_records_total' || labels || ',result="updated"}', sum(updated) FROM r GROUP BY 1"#;

/// A line of `_hw_runs`.
#[derive(Clone, Debug)]
struct Line {
    kind: String,
    outcome: String,
    started: Timestamp,
    ended: Timestamp,
    requests: u64,
    error: String,
}

/// The runs of each feed, in their order.
fn lines(workspace: &Workspace) -> BTreeMap<usize, Vec<Line>> {
    let db = workspace.db();
    let sql = "SELECT resource, run_id, kind, outcome, started_at, ended_at, requests, coalesce(error, '')
               FROM _hw_runs
               WHERE outcome <> 'running' ORDER BY run_id";
    let mut statement = db.prepare(sql).unwrap();
    let mut rows = statement.query([]).unwrap();
    let mut lines: BTreeMap<usize, Vec<Line>> = BTreeMap::new();
    while let Some(row) = rows.next().unwrap() {
        let text = |column| row.get::<_, String>(column).unwrap();
        let line = Line {
            kind: text(2),
            outcome: text(3),
            started: text(4).parse().unwrap(),
            ended: text(5).parse().unwrap(),
            requests: row.get(6).unwrap(),
            error: text(7),
        };
        lines.entry(text(0)[1..].parse().unwrap()).or_default().push(line);
    }
    lines
}

fn counters(workspace: &Workspace) -> HashMap<String, f64> {
    let db = workspace.db();
    let mut statement = db.prepare(COUNTERS).unwrap();
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().collect::<Result<_, _>>().unwrap()
}

/// What the metrics said before the daemon was stopped.
pub(super) struct Scrape {
    /// Times at which a feed was due while it was being read.
    coalesced: BTreeMap<usize, u64>,
    /// The moment before the metrics were asked for, and the one after.
    at: (Timestamp, Timestamp),
}

impl Scrape {
    /// Asks for the metrics while runs begin and end: each number is between what the file had before and what it had after.
    pub(super) fn check(workspace: &Workspace, shape: &Shape, page: &Page) -> Self {
        let (begin, before) = (Timestamp::now(), counters(workspace));
        let metrics = page.metrics();
        let (end, after) = (Timestamp::now(), counters(workspace));
        let shown: Vec<String> = shape.feeds.iter().map(|feed| format!(",resource=\"r{feed}\"")).collect();
        let is_shown = |name: &str| {
            shown.iter().any(|part| name.contains(&format!("{part}}}")) || name.contains(&format!("{part},")))
        };
        for (name, after) in after.iter().filter(|(name, _)| is_shown(name)) {
            let (least, said) = (before.get(name).copied().unwrap_or(0.0), metrics.get(name).copied().unwrap_or(0.0));
            assert!(
                least <= said && said <= *after,
                "{name} is {said}; the file says {least} before and {after} after"
            );
        }
        let coalesced = |feed: &usize| {
            let name =
                format!("highwater_runs_coalesced_total{{source=\"{}\",resource=\"r{feed}\"}}", Shape::source(*feed));
            (*feed, metrics[&name] as u64)
        };
        Self { coalesced: shape.feeds.iter().map(coalesced).collect(), at: (begin, end) }
    }
}

/// Compares each table with what the API holds.
pub(super) fn check_tables(workspace: &Workspace, api: &Api, shape: &Shape) {
    for feed in &shape.feeds {
        verify::table(&workspace.path("highwater.db"), &Shape::table(*feed), &["id"], &api.records(*feed)).unwrap();
    }
}

/// Checks every run against those before and after it, and against the API's log; gives back what there was.
pub(super) fn check_runs(
    workspace: &Workspace,
    api: &Api,
    shape: &Shape,
    scrape: &Scrape,
    stopped: Timestamp,
) -> String {
    assert_eq!(
        workspace.value::<i64>("SELECT count(*) FROM _hw_runs WHERE outcome = 'running' OR ended_at IS NULL"),
        0
    );
    let lines = lines(workspace);
    let log = api.log();
    let mut asked: BTreeMap<usize, Vec<Timestamp>> = BTreeMap::new();
    log.iter().for_each(|(feed, at)| asked.entry(*feed).or_default().push(*at));
    assert!(shape.feeds.iter().all(|feed| lines.contains_key(feed)), "feeds that were never read");
    assert!(asked.keys().all(|feed| lines.contains_key(feed)), "feeds that were asked and never read");
    for (feed, lines) in &lines {
        let is_left_alone = shape.feeds.contains(feed) && !shape.changed.contains(feed);
        check_order(*feed, lines);
        check_requests(*feed, lines, asked.get(feed).map_or(&[], Vec::as_slice));
        if is_left_alone {
            // Where a reload stops a run, its last request may be answered when the next run has begun.
            let most = if Kind::of(*feed).is_one_by_one() { 1 } else { 2 };
            assert!(api.most(*feed) <= most, "r{feed} was asked {} times at once", api.most(*feed));
        }
        // A family rests together.
        if is_left_alone && !matches!(Kind::of(*feed), Kind::Parent | Kind::Child) {
            check_times(*feed, lines, shape, stopped);
            check_rests(*feed, lines, stopped);
            // Nobody had a reason to stop one before, but an API that wants to be left alone.
            let is_cut =
                |line: &&Line| line.outcome == "incomplete" && line.ended < stopped && !line.error.contains("429");
            let cut = lines.iter().find(is_cut);
            assert!(cut.is_none(), "r{feed} was cut short: {cut:?}");
            check_coalesced(*feed, lines, shape, scrape);
        }
    }
    let runs = || lines.values().flatten();
    let outcome = |outcome: &str| runs().filter(|line| line.outcome == outcome).count();
    format!(
        "{} runs ({} complete, {} incomplete, {} failed), {} requests, {} times due while it ran",
        runs().count(),
        outcome("complete"),
        outcome("incomplete"),
        outcome("failed"),
        log.len(),
        scrape.coalesced.values().sum::<u64>()
    )
}

/// Never two runs of one resource at once.
fn check_order(feed: usize, lines: &[Line]) {
    assert!(lines.iter().all(|line| line.started <= line.ended), "r{feed} ends before it begins");
    for pair in lines.windows(2) {
        assert!(pair[0].ended <= pair[1].started, "r{feed} runs twice at once: {pair:?}");
    }
}

/// Each request was sent by a run that is in the books, and is counted in it.
fn check_requests(feed: usize, lines: &[Line], asked: &[Timestamp]) {
    let mut in_a_run = 0;
    for line in lines {
        let is_of_it = |at: &&Timestamp| line.started <= **at && **at < line.ended + ROUNDED;
        let seen = asked.iter().filter(is_of_it).count() as u64;
        in_a_run += seen;
        // A request that is dropped may never have arrived.
        let is_same = if line.outcome == "incomplete" { seen <= line.requests } else { seen == line.requests };
        assert!(is_same, "r{feed} was asked {seen} times during {line:?}");
    }
    assert!(in_a_run >= asked.len() as u64, "r{feed} was asked {} times, and in its runs {in_a_run}", asked.len());
}

/// What is due runs.
fn check_times(feed: usize, lines: &[Line], shape: &Shape, stopped: Timestamp) {
    let Some(every) = shape.every(feed) else { return };
    let every = SignedDuration::from_secs(every as i64);
    for (number, line) in lines.iter().enumerate().filter(|(_, line)| line.outcome != "failed") {
        let next = lines.get(number + 1).map_or(stopped, |next| next.started);
        assert!(next < line.ended + every + FORGOTTEN, "r{feed} is left alone from {line:?} to {next}");
    }
}

/// What fails rests, and is not forgotten.
fn check_rests(feed: usize, lines: &[Line], stopped: Timestamp) {
    let mut failures = 0;
    for (number, line) in lines.iter().enumerate() {
        failures = if line.outcome == "failed" { failures + 1 } else { 0 };
        if failures == 0 {
            continue;
        }
        let due = line.ended + SignedDuration::from_secs(60 << (failures - 1).min(5));
        let next = lines.get(number + 1);
        if let Some(next) = next.filter(|next| next.kind == "scheduled") {
            assert!(next.started >= due, "r{feed} does not rest after {line:?}: {next:?}");
        }
        let next = next.map_or(stopped, |next| next.started);
        assert!(next < due + FORGOTTEN, "r{feed} is forgotten from {line:?} to {next}");
    }
}

/// How often it was due while it ran: a job's run lasts longer than its line says, and is over before the next line begins.
fn check_coalesced(feed: usize, lines: &[Line], shape: &Shape, scrape: &Scrape) {
    let Some(every) = shape.every(feed) else { return };
    let times = |length: SignedDuration| (length.as_millis() / (i128::from(every) * 1_000)).max(0) as u64;
    let (begin, end) = scrape.at;
    let ended: Vec<&Line> = lines.iter().take_while(|line| line.started < end).collect();
    let least = |line: &&&Line| times(line.ended.duration_since(line.started) - ROUNDED - ROUNDED);
    let least: u64 = ended.iter().filter(|line| line.ended < begin).map(|line| least(&line)).sum();
    let most = |(number, line): (usize, &&Line)| {
        let from = number.checked_sub(1).map_or(line.started - FORGOTTEN, |before| lines[before].ended);
        let until = ended.get(number + 1).map_or(end, |next| next.started);
        times(until.duration_since(from))
    };
    let most: u64 = ended.iter().enumerate().map(most).sum();
    let said = scrape.coalesced[&feed];
    assert!(least <= said && said <= most, "r{feed} coalesced {said} times, not {least} to {most}");
}
