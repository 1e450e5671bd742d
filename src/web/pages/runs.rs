//! `/runs`: all runs, the newest first.

use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use maud::{Markup, html};
use serde::Serialize;

use crate::destination::RunView;
use crate::web::App;
use crate::web::answer::{Format, Params, Refusal};
use crate::web::html::{Page, boxed, cut, number, outcome_class, pager, resource_link, span, when};

/// Runs on a page.
const LIMIT: usize = 50;

#[derive(Serialize)]
struct Shown {
    runs: Vec<RunView>,
    /// Where the list goes on.
    next: Option<String>,
}

pub(in crate::web) async fn list(State(app): State<App>, format: Format, params: Params) -> Result<Response, Refusal> {
    let id = params.resource();
    let before = params.number("before");
    let runs = app.view.runs(id.as_ref(), before, LIMIT).await.map_err(|error| Refusal::unreadable(&error))?;
    let last = runs.last().filter(|_| runs.len() == LIMIT).map(|last| last.run_id);
    let next = last.map(|last| params.page(format.path("/runs"), last));
    Ok(format.write(&Shown { runs, next }, |shown| {
        let now = Timestamp::now();
        let newest = before.map(|_: i64| params.first_page("/runs"));
        let live = html! {
            h1.away[id.is_none()] { "Runs" @if let Some(id) = &id { " of " (id) } }
            (table(&shown.runs, true, now))
            (pager(newest, shown.next.clone()))
        };
        Page { title: "Runs".to_owned(), under: "/runs", live, reloads: true, ..Page::default() }
    }))
}

/// Runs as a table; `of_all` where they are not all of the same resource.
pub(super) fn table(runs: &[RunView], of_all: bool, now: Timestamp) -> Markup {
    boxed(
        "Runs",
        &html! {
            table {
                caption { "Runs" small { "the newest first" } }
                thead { tr {
                    th scope="col" { "Run" }
                    @if of_all { th scope="col" { "Resource" } }
                    th scope="col" { "Outcome" } th scope="col" { "Began" } th.n scope="col" { "Took" }
                    th.n scope="col" { "Received" } th.n scope="col" { "New" } th.n scope="col" { "Changed" }
                    th.n scope="col" { "Set aside" } th.n scope="col" { "Requests" } th.n scope="col" { "Retries" }
                    th scope="col" { "Ended by" }
                } }
                tbody {
                    @for run in runs { (row(run, of_all, now)) }
                    @if runs.is_empty() { tr.none { td colspan="12" { "Nothing has run yet." } } }
                }
            }
        },
    )
}

fn row(run: &RunView, of_all: bool, now: Timestamp) -> Markup {
    html! {
        tr {
            th scope="row" { a href={ "/runs/" (run.run_id) } { (run.run_id) } }
            @if of_all { td { (resource_link(&run.source, &run.resource)) } }
            td class=[outcome_class(&run.outcome)] { (run.outcome) }
            td { (when(run.started_at, now)) }
            td.n { (took(run, now)) }
            td.n { (number(run.received)) }
            td.n { (number(run.inserted)) }
            td.n { (number(run.updated)) }
            td.n { (number(run.quarantined)) }
            td.n { (number(run.requests)) }
            td.n { (number(run.retries)) }
            @match &run.error {
                Some(error) => { td.e title=(cut(error)) { (cut(without_name(error, run))) } },
                None => { td.e { (run.stop_reason.as_deref().unwrap_or_default()) } },
            }
        }
    }
}

/// The error of a run where it is clear which resource failed.
fn without_name<'a>(error: &'a str, run: &RunView) -> &'a str {
    error.strip_prefix(&format!("{}.{}: ", run.source, run.resource)).unwrap_or(error)
}

/// How long a run took, or has taken so far.
pub(super) fn took(run: &RunView, now: Timestamp) -> String {
    run.started_at.map(|from| span(from, run.ended_at.unwrap_or(now))).unwrap_or_default()
}
