//! `/quarantine`: records that did not become rows, with the reasons.

use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use maud::{Markup, html};
use serde::Serialize;

use crate::destination::Quarantined;
use crate::web::App;
use crate::web::answer::{Format, Params, Refusal};
use crate::web::html::{Page, boxed, cut, pager, request, resource_link, when};

/// Records on a page.
const LIMIT: usize = 50;

#[derive(Serialize)]
struct Shown {
    quarantine: Vec<Quarantined>,
    /// Where the list goes on.
    next: Option<String>,
}

pub(in crate::web) async fn show(State(app): State<App>, format: Format, params: Params) -> Result<Response, Refusal> {
    let id = params.resource();
    let before = params.number("before");
    let found = app.view.quarantine(id.as_ref(), before, LIMIT).await;
    let quarantine = found.map_err(|error| Refusal::unreadable(&error))?;
    let last = quarantine.last().filter(|_| quarantine.len() == LIMIT).map(|last| last.quarantine_id);
    let next = last.map(|last| params.page(format.path("/quarantine"), last));
    Ok(format.write(&Shown { quarantine, next }, |shown| {
        let now = Timestamp::now();
        let newest = before.map(|_: i64| params.first_page("/quarantine"));
        let live = html! { h1.away[id.is_none()] { "Quarantine" @if let Some(id) = &id { " of " (id) } } };
        let rest = html! { (list(&shown.quarantine, now)) (pager(newest, shown.next.clone())) };
        Page { title: "Quarantine".to_owned(), under: "/quarantine", live, rest, ..Page::default() }
    }))
}

/// Records that were set aside, as a table.
pub(super) fn list(records: &[Quarantined], now: Timestamp) -> Markup {
    boxed(
        "Quarantine",
        &html! {
            table.cards {
                caption { "Quarantine" small { "records that did not become rows, the newest first" } }
                thead { tr {
                    th scope="col" { "Resource" } th scope="col" { "Came" } th scope="col" { "Reason" }
                    th scope="col" { "Record" } th scope="col" { "Request" }
                } }
                tbody {
                    @for record in records { tr {
                        th scope="row" { (resource_link(&record.source, &record.resource)) }
                        td { (when(record.fetched_at, now)) }
                        td.t { (cut(&record.reason)) }
                        td.t.w { code { (cut(&record.record)) } }
                        td.v { @if let Some(url) = &record.url { (request(url)) } }
                    } }
                    @if records.is_empty() { tr.none { td colspan="5" { "No record was set aside." } } }
                }
            }
        },
    )
}
