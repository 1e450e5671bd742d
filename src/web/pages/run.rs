//! `/runs/ID`: one run, with what it asked for and what came.

use axum::extract::{Path, State};
use axum::response::Response;
use jiff::Timestamp;
use maud::{Markup, html};

use super::runs::took;
use crate::destination::{FailedPartition, PageView, RunDetail};
use crate::web::App;
use crate::web::answer::{Format, Refusal};
use crate::web::html::{Page, boxed, bytes, cut, number, outcome_class, request, resource_link, when};

pub(in crate::web) async fn show(
    State(app): State<App>,
    format: Format,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let missing = || Refusal::not_found("such run");
    let id = format.name(&id).parse().map_err(|_| missing())?;
    let run = app.view.run(id).await.map_err(|error| Refusal::unreadable(&error))?.ok_or_else(missing)?;
    Ok(format.write(&run, |detail| {
        let now = Timestamp::now();
        let live = html! {
            p.up { a href="/runs" { "Runs" } }
            h1 { "Run " (detail.run.run_id) " of " (resource_link(&detail.run.source, &detail.run.resource)) }
            @if let Some(error) = &detail.run.error { p.say.bad { (error) } }
            (facts(detail, now))
            (failed("Partitions that it could not read", &detail.failed_partitions))
            (pages(&detail.pages, detail.run.pages, now))
        };
        Page {
            title: format!("Run {id}"),
            under: "/runs",
            live,
            reloads: detail.run.outcome == "running",
            ..Page::default()
        }
    }))
}

fn facts(detail: &RunDetail, now: Timestamp) -> Markup {
    let run = &detail.run;
    let numbers = [
        ("Requests", run.requests),
        ("Retries", run.retries),
        ("Pages", run.pages),
        ("Records received", run.received),
        ("New rows", run.inserted),
        ("Changed rows", run.updated),
        ("Unchanged", run.unchanged),
        ("Left out by a filter", run.filtered),
        ("Set aside", run.quarantined),
    ];
    html! {
        dl {
            div { dt { "Outcome" } dd class=[outcome_class(&run.outcome)] { (run.outcome) } }
            div { dt { "Ended by" } dd { (run.stop_reason.as_deref().unwrap_or("–")) } }
            div { dt { "Asked for by" } dd { (run.kind) } }
            div { dt { "Began" } dd { (when(run.started_at, now)) } }
            div { dt { "Took" } dd { (took(run, now)) } }
            @for (name, value) in numbers { div { dt { (name) } dd { (number(value)) } } }
            div { dt { "Bytes received" } dd { (bytes(run.bytes)) } }
        }
    }
}

/// Partitions and why they failed. Where a resource has only one, the error of the run says all.
pub(super) fn failed(caption: &str, partitions: &[FailedPartition]) -> Markup {
    if partitions.iter().all(|failed| failed.partition.is_empty()) {
        return Markup::default();
    }
    boxed(
        "Partitions that failed",
        &html! {
            table {
                caption { (caption) }
                thead { tr { th scope="col" { "Partition" } th scope="col" { "Error" } } }
                tbody {
                    @for partition in partitions { tr {
                        th.t scope="row" { code { (cut(&partition.partition)) } }
                        td.t { (cut(&partition.error)) }
                    } }
                }
            }
        },
    )
}

fn pages(pages: &[PageView], all: u64, now: Timestamp) -> Markup {
    let has_partitions = pages.iter().any(|page| !page.partition.is_empty());
    boxed(
        "Pages",
        &html! {
            table {
                caption { "Pages" small { (number(pages.len() as u64)) " of " (number(all)) ", the newest first" } }
                thead { tr {
                    th scope="col" { "Page" } th scope="col" { "Request" }
                    @if has_partitions { th scope="col" { "Partition" } }
                    th.n scope="col" { "Status" } th scope="col" { "Came" } th.n scope="col" { "ms" }
                    th.n scope="col" { "Attempts" } th.n scope="col" { "Size" } th.n scope="col" { "Received" }
                    th.n scope="col" { "New" } th.n scope="col" { "Changed" } th.n scope="col" { "Unchanged" }
                    th.n scope="col" { "Left out" } th.n scope="col" { "Set aside" }
                } }
                tbody {
                    @for page in pages { tr {
                        th scope="row" { (page.page_id) }
                        td.v { (request(&page.url)) }
                        @if has_partitions { td { code { (cut(&page.partition)) } } }
                        td.n { (page.status) }
                        td { (when(page.fetched_at, now)) }
                        td.n { (number(page.duration_ms)) }
                        td.n { (page.attempts) }
                        td.n { (bytes(page.bytes)) }
                        @for count in [
                            page.received, page.inserted, page.updated, page.unchanged, page.filtered, page.quarantined,
                        ] { td.n { (number(count)) } }
                    } }
                    @if pages.is_empty() { tr.none { td colspan="14" { "No page was stored." } } }
                }
            }
        },
    )
}
