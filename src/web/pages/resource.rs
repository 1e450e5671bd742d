//! `/resources/SOURCE.RESOURCE`: one resource with its runs and what it set aside, and what can be done with it.

use axum::extract::{Path, State as Extract};
use axum::response::Response;
use jiff::Timestamp;
use maud::{Markup, html};
use serde::Serialize;

use super::overview::{Row, cursor, doing, next, one, rows_line, run_bars};
use super::run::failed;
use super::{quarantine, runs, table};
use crate::destination::{DbError, FailedPartition, QUARANTINED_MAX, Quarantined, RunView};
use crate::page::ResourceId;
use crate::web::App;
use crate::web::answer::{Format, Params, Refusal};
use crate::web::html::{Page, count, number, segment, time, when};
use crate::web::{act, state};

/// Runs and records that are shown here; the others have pages of their own.
const LINES: usize = 20;

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    row: Row,
    /// Others that run together with it.
    together: Vec<String>,
    recent: Vec<RunView>,
    failed_partitions: Vec<FailedPartition>,
    quarantine: Vec<Quarantined>,
}

impl Shown {
    /// What went wrong in the last run that ended, if it failed.
    fn last_error(&self) -> Option<&str> {
        self.recent.iter().find(|run| run.outcome != "running")?.error.as_deref()
    }
}

pub(in crate::web) async fn show(
    Extract(app): Extract<App>,
    format: Format,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, Refusal> {
    let board = app.board();
    let unreadable = |error: DbError| Refusal::unreadable(&error);
    let found = one(&app, &board, format.name(&name)).await.map_err(unreadable)?;
    let (id, row) = found.ok_or_else(|| Refusal::not_found("such resource"))?;
    let shown = look(&app, &id, row).await.map_err(unreadable)?;
    Ok(format.write(&shown, |shown| {
        let now = Timestamp::now();
        let job = state::job(&board, &id);
        let rest = html! {
            @match job {
                Some(job) => (act::form(&app, &id, job, shown.quarantine.iter().any(|record| record.is_row))),
                None => p.soft { "It is not in the configuration any more; what was read is kept." },
            }
            @if !shown.quarantine.is_empty() {
                (quarantine::list(&shown.quarantine, now))
                p { a href={ "/quarantine?resource=" (segment(&shown.row.id)) } { "All records that were set aside" } }
            }
        };
        Page {
            title: shown.row.id.clone(),
            under: "",
            notice: act::notice(params.text("done")),
            live: live(shown, now),
            rest,
            reloads: false,
        }
    }))
}

async fn look(app: &App, id: &ResourceId, row: Row) -> Result<Shown, DbError> {
    let recent = app.view.runs(Some(id), None, LINES).await?;
    let failed_partitions = match recent.first() {
        Some(run) => app.view.run(run.run_id).await?.map(|run| run.failed_partitions).unwrap_or_default(),
        None => Vec::new(),
    };
    let quarantine = app.view.quarantine(Some(id), None, LINES).await?;
    let board = app.board();
    let job = state::job(&board, id);
    let together = job.into_iter().flat_map(|job| &job.resources).filter(|other| *other != id);
    let together = together.map(ToString::to_string).collect();
    Ok(Shown { row, together, recent, failed_partitions, quarantine })
}

fn live(shown: &Shown, now: Timestamp) -> Markup {
    let row = &shown.row;
    html! {
        p.up { a href="/" { "Overview" } }
        h1 { (row.id) }
        @if row.state == state::State::Failed && let Some(error) = shown.last_error() { p.say.bad { (error) } }
        (facts(shown, now))
        (runs::table(&shown.recent, false, now))
        @if shown.recent.len() == LINES {
            p { a href={ "/runs?resource=" (segment(&row.id)) } { "All its runs" } }
        }
        (failed("Partitions that could not be read", &shown.failed_partitions))
    }
}

fn facts(shown: &Shown, now: Timestamp) -> Markup {
    let row = &shown.row;
    html! {
        dl {
            div { dt { "State" } dd class=[row.state.class()] { (row.state.word()) (doing(row)) } }
            div { dt { "Last success" } dd { (when(row.last_success_at, now)) } }
            div { dt { "Next run" } dd {
                @match row.next_at.filter(|at| row.paused_at.is_none() && *at > now) {
                    Some(at) => (time(at, now)),
                    None => (next(row, now)),
                }
            } }
            div { dt { "Runs" } dd { (row.schedule.as_deref().unwrap_or("when asked")) } }
            @if let Some(at) = row.paused_at { div { dt { "Paused" } dd { (time(at, now)) } } }
            div { dt { "Table" } dd { @match &row.table { Some(name) => (table::link(name)), None => "–" } } }
            div { dt { "Rows" } dd { (number(row.rows)) } }
            div { dt { "Set aside" } dd {
                (number(row.quarantined)) @if row.quarantined >= QUARANTINED_MAX { " or more" }
            } }
            @if row.cursor.is_some() { div { dt { "Cursor" } dd { (cursor(row.cursor.as_ref())) } } }
            @if let Some(pass) = row.pass && (pass.total > 1 || !pass.is_counted) {
                div { dt { "Partitions read" } dd {
                    (number(pass.done)) " of " (number(pass.total)) @if !pass.is_counted { " or more" }
                } }
            }
            @if row.coalesced > 0 { div { dt { "Due while it ran" } dd { (count(row.coalesced, "time", "times")) } } }
            @if !shown.together.is_empty() {
                div { dt { "Runs together with" } dd { @for id in &shown.together { a href={ "/resources/" (segment(id)) } { (id) } " " } } }
            }
            div { dt { "Last runs" } dd { (run_bars(&row.runs)) } }
            div { dt { "Rows, last hour" } dd { (rows_line(&row.records_per_minute)) @if row.records_per_minute.iter().all(|n| *n == 0) { "none" } } }
        }
    }
}
