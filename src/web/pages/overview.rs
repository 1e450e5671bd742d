//! `/`: whether all is well, and how each resource and each budget is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State as Extract;
use axum::response::Response;
use jiff::Timestamp;
use maud::{Markup, html};
use serde::Serialize;
use tokio::sync::Mutex;

use crate::board::{Board, Job};
use crate::destination::{Cursor, DbError, Overview, PassView, ResourceOverview, RunBar, View};
use crate::page::ResourceId;
use crate::web::App;
use crate::web::answer::{Format, Params, Refusal};
use crate::web::chart::{Bar, bars, line};
use crate::web::html::{Page, boxed, count, exact, number, relative, resource_link, segment};
use crate::web::state::{State, Verdict, activity, budget_left, progress};

/// Resources on a page: it stays below 50 kB.
const LIMIT: usize = 80;

/// Runs that are shown as bars.
const RUNS_SHOWN: usize = 30;

/// Minutes that the line of rows shows, and how many of them are one point of it.
const MINUTES: usize = 60;
const MINUTES_A_POINT: usize = 4;

/// How old what the file says may be.
const KEPT_FOR: Duration = Duration::from_secs(1);

#[derive(Serialize)]
struct Shown {
    at: Timestamp,
    started_at: Timestamp,
    database: String,
    is_stopping: bool,
    /// A newer text of the configuration is not used.
    config_error: bool,
    #[serde(flatten)]
    verdict: Verdict,
    resources: Vec<Row>,
    budgets: Vec<Budget>,
}

/// A resource with all that is known of it.
#[derive(Serialize)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) state: State,
    /// What it does right now.
    pub(super) activity: Option<String>,
    pub(super) last_success_at: Option<Timestamp>,
    /// Runs that failed since the last one that did not.
    pub(super) failures: u32,
    /// The last runs, the newest last.
    pub(super) runs: Vec<RunBar>,
    /// Records stored in each of the last minutes, the present one last.
    pub(super) records_per_minute: Vec<u64>,
    pub(super) table: Option<String>,
    pub(super) rows: u64,
    pub(super) quarantined: u64,
    pub(super) cursor: Option<Cursor>,
    pub(super) pass: Option<PassView>,
    pub(super) schedule: Option<String>,
    pub(super) next_at: Option<Timestamp>,
    pub(super) paused_at: Option<Timestamp>,
    /// How often it was due while it was still running.
    pub(super) coalesced: u64,
}

#[derive(Serialize)]
struct Budget {
    name: String,
    requests: Option<u32>,
    per_ms: u64,
    left: Option<u64>,
    free_at: Option<Timestamp>,
    in_flight: Option<u32>,
    #[serde(skip)]
    said: String,
}

/// What the file says of all resources.
pub(in crate::web) struct Known {
    at: Instant,
    board: Arc<Board>,
    pub(in crate::web) overview: Arc<Overview>,
    resources: HashMap<ResourceId, Arc<ResourceOverview>>,
}

/// What the file says, kept for a moment, so that many windows cost no more than one. It is asked again as soon as the
/// daemon shows anything else.
#[derive(Default)]
pub(in crate::web) struct Kept(Mutex<Option<Arc<Known>>>);

impl Kept {
    /// What is known while the daemon shows this board.
    pub(in crate::web) async fn look(&self, view: &View, board: &Arc<Board>) -> Result<Arc<Known>, DbError> {
        let mut kept = self.0.lock().await;
        if let Some(known) = &*kept
            && known.at.elapsed() < KEPT_FOR
            && Arc::ptr_eq(&known.board, board)
        {
            return Ok(Arc::clone(known));
        }
        let (at, before) = (Instant::now(), kept.as_ref().map(|known| Arc::clone(&known.overview)).unwrap_or_default());
        let overview = Arc::new(view.overview(RUNS_SHOWN, MINUTES, &before).await?);
        let resources = overview.resources.iter().map(|known| (known.view.id(), Arc::clone(known))).collect();
        let known = Arc::new(Known { at, board: Arc::clone(board), overview, resources });
        *kept = Some(Arc::clone(&known));
        Ok(known)
    }
}

pub(in crate::web) async fn show(
    Extract(app): Extract<App>,
    format: Format,
    params: Params,
) -> Result<Response, Refusal> {
    let board = app.board();
    let known = app.kept.look(&app.view, &board).await.map_err(|error| Refusal::unreadable(&error))?;
    let now = Timestamp::now();
    let all = board.jobs.iter().flat_map(|job| job.resources.iter().map(move |id| (Some(job), id)));
    let rows: Vec<Row> = all.map(|(job, id)| row(job, id, &known, now)).collect();
    let last_success = rows.iter().filter_map(|row| row.last_success_at).max();
    let states: Vec<_> = rows.iter().map(|row| (row.id.as_str(), row.state)).collect();
    let verdict = Verdict::of(&board, &states, last_success, now);
    let shown = Shown {
        at: now,
        started_at: board.started_at,
        database: board.database.display().to_string(),
        is_stopping: board.is_stopping,
        config_error: board.config.error.is_some(),
        verdict,
        resources: rows,
        budgets: budgets(&board),
    };
    let number = params.number("page").unwrap_or(1).max(1);
    Ok(format.write(&shown, |shown| page(shown, number)))
}

/// One resource.
fn row(job: Option<&Job>, id: &ResourceId, known: &Known, now: Timestamp) -> Row {
    let known = known.resources.get(id);
    let stored = known.map(|known| &known.view);
    let runs = known.map(|known| known.recent.clone()).unwrap_or_default();
    let ended = runs.iter().rev().find(|run| run.outcome != "running").map(|run| run.outcome.as_str());
    Row {
        id: id.to_string(),
        state: State::of(job, id, ended, now),
        activity: job.and_then(|job| progress(job, id)).map(activity),
        last_success_at: stored.and_then(|stored| stored.last_success_at),
        failures: job.map_or_else(|| stored.map_or(0, |stored| stored.failures), |job| job.failures),
        runs,
        records_per_minute: known.map(|known| known.per_minute.clone()).unwrap_or_default(),
        table: stored.map(|stored| stored.table.clone()),
        rows: stored.map_or(0, |stored| stored.rows),
        quarantined: stored.map_or(0, |stored| stored.quarantined),
        cursor: stored.and_then(|stored| stored.cursor.clone()),
        pass: stored.and_then(|stored| stored.pass),
        schedule: job.and_then(|job| job.schedule.clone()),
        next_at: job.and_then(|job| job.next),
        paused_at: job.and_then(|job| job.paused_at),
        coalesced: job.map_or(0, |job| job.coalesced),
    }
}

/// One resource, by its id; none where neither the daemon nor the file knows it.
pub(super) async fn one(app: &App, board: &Arc<Board>, name: &str) -> Result<Option<(ResourceId, Row)>, DbError> {
    let known = app.kept.look(&app.view, board).await?;
    let ids = board.jobs.iter().flat_map(|job| &job.resources).chain(known.resources.keys());
    let Some(id) = ids.into_iter().find(|id| id.to_string() == name).cloned() else { return Ok(None) };
    let row = row(crate::web::state::job(board, &id), &id, &known, Timestamp::now());
    Ok(Some((id, row)))
}

fn budgets(board: &Board) -> Vec<Budget> {
    let budgets = board.budgets.iter().map(|budget| Budget {
        name: budget.name.clone(),
        requests: budget.requests,
        per_ms: budget.per_ms,
        left: budget.left,
        free_at: budget.free_at,
        in_flight: budget.in_flight,
        said: budget_left(budget),
    });
    budgets.collect()
}

fn page(shown: &Shown, number: usize) -> Page {
    let now = shown.at;
    let pages = shown.resources.chunks(LIMIT).len();
    let rows = shown.resources.chunks(LIMIT).nth(number - 1).unwrap_or_default();
    let live = html! {
        h1.away { "Overview" }
        (verdict(&shown.verdict))
        @if shown.config_error { p { a href="/config" { "Why the newer configuration is not used" } } }
        (boxed("Resources", &resources(rows, shown.resources.len(), now)))
        @if pages > 1 {
            nav.pager aria-label="More resources" {
                @for other in 1..=pages {
                    a href={ "/?page=" (other) } aria-current=[(other == number).then_some("page")] { "Page " (other) }
                }
            }
        }
        @if !shown.budgets.is_empty() { (boxed("Budgets", &budget_table(&shown.budgets, now))) }
        p.soft { code { (shown.database) } ", daemon up since " (crate::web::html::time(shown.started_at, now)) }
    };
    Page {
        title: if shown.verdict.is_well { "All is well" } else { "Not all is well" }.to_owned(),
        under: "/",
        live,
        reloads: true,
        ..Page::default()
    }
}

/// The sentence, with links to what somebody should look at.
fn verdict(verdict: &Verdict) -> Markup {
    html! {
        div.say.bad[!verdict.is_well] {
            (verdict.head)
            @for (number, (id, state)) in verdict.troubled.iter().enumerate() {
                (if number == 0 { ": " } else { ", " })
                a href={ "/resources/" (segment(id)) } { (id) } " " span class=[state.class()] { (state.word()) }
            }
            @if verdict.more > 0 { ", " (number(verdict.more as u64)) " more" }
            "."
            @if !verdict.also.is_empty() { small { (verdict.also) } }
        }
    }
}

fn resources(rows: &[Row], all: usize, now: Timestamp) -> Markup {
    html! {
        table.cards.jobs {
            caption { "Resources" small { (count(all as u64, "resource", "resources")) } }
            thead { tr {
                th scope="col" { "Resource" } th scope="col" { "State" } th scope="col" { "Last success" }
                th scope="col" { "Last runs" } th scope="col" { "Rows, last hour" } th scope="col" { "Rows" }
                th scope="col" { "Cursor" } th scope="col" { "Next run" }
            } }
            tbody { @for row in rows { (resource(row, now)) } }
        }
    }
}

/// Few letters each: there are hundreds of them on a page.
fn resource(row: &Row, now: Timestamp) -> Markup {
    let (source, resource) = row.id.split_once('.').unwrap_or((&row.id, ""));
    html! {
        tr {
            th scope="row" { (resource_link(source, resource)) }
            td class=[row.state.class()] { (row.state.word()) (doing(row)) }
            td title=[row.last_success_at.map(exact)] {
                @match row.last_success_at { Some(at) => (relative(at, now)), None => "never" }
            }
            td { (run_bars(&row.runs)) }
            td { (rows_line(&row.records_per_minute)) }
            td { (number(row.rows)) }
            td { (cursor(row.cursor.as_ref())) }
            td title=[row.next_at.map(exact)] { (next(row, now)) }
        }
    }
}

/// What a running resource does, how far its pass is, and how often it failed.
pub(super) fn doing(row: &Row) -> Markup {
    html! {
        @if row.state == State::Running && let Some(activity) = &row.activity {
            " " small data-v={ "p:" (row.id) } { (activity) }
        }
        @if row.state == State::Running && let Some(pass) = row.pass && pass.total > 1 {
            " " small { (number(pass.done)) " of " (number(pass.total)) @if !pass.is_counted { "+" } " partitions" }
        }
        @if row.failures > 1 { " " small { (number(row.failures)) " times" } }
    }
}

/// The last runs as bars.
pub(super) fn run_bars(runs: &[RunBar]) -> Markup {
    let kinds = runs.iter().map(|run| match run.outcome.as_str() {
        "complete" => Bar::Complete,
        "running" => Bar::Running,
        "failed" => Bar::Failed,
        _ => Bar::Incomplete,
    });
    bars(&kinds.collect::<Vec<_>>())
}

/// The records of the last minutes as a line.
pub(super) fn rows_line(minutes: &[u64]) -> Markup {
    let points: Vec<u64> =
        minutes.chunks(MINUTES_A_POINT).map(|minutes| minutes.iter().sum::<u64>() / MINUTES_A_POINT as u64).collect();
    line(&points, " a minute")
}

/// Where a cursor stands.
pub(super) fn cursor(cursor: Option<&Cursor>) -> String {
    /// Longer values are cut: the page of the resource has more of them.
    const LENGTH_MAX: usize = 30;
    let said = |value: &serde_json::Value| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match text.char_indices().nth(LENGTH_MAX) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        }
    };
    match cursor {
        Some(cursor) if cursor.lowest == cursor.highest => said(&cursor.highest),
        Some(cursor) => format!("{} – {}", said(&cursor.lowest), said(&cursor.highest)),
        None => String::new(),
    }
}

/// When it runs next.
pub(super) fn next(row: &Row, now: Timestamp) -> String {
    match (row.paused_at, row.next_at) {
        (Some(_), _) => "when it is resumed".to_owned(),
        (None, Some(at)) if at <= now => "now due".to_owned(),
        (None, Some(at)) => relative(at, now),
        (None, None) if row.schedule.is_some() => "after this run".to_owned(),
        (None, None) => "when asked".to_owned(),
    }
}

fn budget_table(budgets: &[Budget], now: Timestamp) -> Markup {
    html! {
        table.cards.budgets {
            caption { "Budgets" small { "requests that may be sent, for each API" } }
            thead { tr {
                th scope="col" { "Budget" } th.n scope="col" { "Left now" } th scope="col" { "Of" }
                th scope="col" { "Next request" } th.n scope="col" { "In flight" }
            } }
            tbody {
                @for budget in budgets { tr {
                    th scope="row" { (budget.name) }
                    td.n data-v={ "b:" (budget.name) } { (budget.said) }
                    td { @match budget.requests { Some(requests) => (rate(requests, budget.per_ms)), None => "no limit" } }
                    td title=[budget.free_at.map(exact)] {
                        @match budget.free_at { Some(at) => (relative(at, now)), None => "now" }
                    }
                    td.n { @match budget.in_flight { Some(requests) => (number(requests)), None => "–" } }
                } }
            }
        }
    }
}

/// How many requests in which time.
fn rate(requests: u32, per_ms: u64) -> String {
    let requests = number(requests);
    match per_ms {
        1_000 => format!("{requests} a second"),
        60_000 => format!("{requests} a minute"),
        3_600_000 => format!("{requests} an hour"),
        86_400_000 => format!("{requests} a day"),
        ms if ms % 1_000 == 0 => format!("{requests} in {} s", number(ms / 1_000)),
        ms => format!("{requests} in {} ms", number(ms)),
    }
}
