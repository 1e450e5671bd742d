//! `/errors`: failed runs, those with the same error of the same resource as one.

use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use maud::html;
use serde::Serialize;

use crate::destination::ErrorGroup;
use crate::web::App;
use crate::web::answer::{Format, Refusal};
use crate::web::html::{Page, boxed, cut, number, resource_link, when};

/// Groups that are shown.
const LIMIT: usize = 100;

#[derive(Serialize)]
struct Shown {
    errors: Vec<ErrorGroup>,
}

pub(in crate::web) async fn show(State(app): State<App>, format: Format) -> Result<Response, Refusal> {
    let errors = app.view.errors(LIMIT).await.map_err(|error| Refusal::unreadable(&error))?;
    Ok(format.write(&Shown { errors }, |shown| {
        let now = Timestamp::now();
        let table = html! {
            table.cards.errors {
                caption { "Errors" small { "of the last failed runs, the latest first" } }
                thead { tr {
                    th scope="col" { "Resource" } th scope="col" { "Error" } th.n scope="col" { "Times" }
                    th scope="col" { "First" } th scope="col" { "Last" } th scope="col" { "Last run" }
                } }
                tbody {
                    @for group in &shown.errors { tr {
                        th scope="row" { (resource_link(&group.source, &group.resource)) }
                        td.t { (cut(&group.error)) }
                        td.n { (number(group.count)) }
                        td { (when(group.first_at, now)) }
                        td { (when(group.last_at, now)) }
                        td { a href={ "/runs/" (group.last_run_id) } { (group.last_run_id) } }
                    } }
                    @if shown.errors.is_empty() { tr.none { td colspan="6" { "No run has failed." } } }
                }
            }
        };
        let live = html! { h1.away { "Errors" } (boxed("Errors", &table)) };
        Page { title: "Errors".to_owned(), under: "/errors", live, reloads: true, ..Page::default() }
    }))
}
