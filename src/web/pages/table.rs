//! `/tables/NAME`: a data table, its columns, and its newest rows with the requests that they came from.

use axum::extract::{Path, State};
use axum::response::Response;
use jiff::Timestamp;
use maud::{Markup, html};
use serde_json::Value;

use crate::destination::{RowView, TableView};
use crate::web::App;
use crate::web::answer::{Format, Refusal};
use crate::web::html::{Page, boxed, cut, number, request, resource_link, segment, when};

pub(in crate::web) async fn show(
    State(app): State<App>,
    format: Format,
    Path(name): Path<String>,
) -> Result<Response, Refusal> {
    let table = app.view.table(format.name(&name)).await.map_err(|error| Refusal::unreadable(&error))?;
    let table = table.ok_or_else(|| Refusal::not_found("such table"))?;
    Ok(format.write(&table, |table| {
        let live = html! {
            p.up { a href="/" { "Overview" } }
            h1 { "Table " (table.name) }
            (facts(table))
        };
        let rest = html! { (newest(table, Timestamp::now())) (columns(table)) };
        Page { title: format!("Table {}", table.name), under: "", live, rest, ..Page::default() }
    }))
}

/// A link to the page of a table.
pub(super) fn link(name: &str) -> Markup {
    html! { a href={ "/tables/" (segment(name)) } { (name) } }
}

fn facts(table: &TableView) -> Markup {
    html! {
        dl {
            div { dt { "Resource" } dd { (resource_link(&table.source, &table.resource)) } }
            @if let Some(rows) = table.rows { div { dt { "Rows" } dd { (number(rows)) } } }
            div { dt { "Columns" } dd { (number(table.columns.len() as u64)) } }
            @if let Some(parent) = &table.parent_table { div { dt { "Lists in" } dd { (link(parent)) } } }
            @if !table.child_tables.is_empty() {
                div { dt { "Its lists" } dd { @for name in &table.child_tables { (link(name)) " " } } }
            }
        }
    }
}

fn newest(table: &TableView, now: Timestamp) -> Markup {
    boxed(
        "Newest rows",
        &html! {
            table {
                caption { "Newest rows" small { "long values are cut; the file has the whole of them" } }
                thead { tr {
                    @for column in &table.columns { th.n[is_number(&column.r#type)] scope="col" { (column.name) } }
                    th scope="col" { "Came" } th scope="col" { "Request" }
                } }
                tbody {
                    @for row in &table.newest { (row_of(row, now)) }
                    @if table.newest.is_empty() { tr.none { td colspan="9" { "There are no rows." } } }
                }
            }
        },
    )
}

/// Whether the values of such a column stand at the right.
fn is_number(kind: &str) -> bool {
    ["integer", "real"].iter().any(|number| kind.eq_ignore_ascii_case(number))
}

fn row_of(row: &RowView, now: Timestamp) -> Markup {
    html! {
        tr {
            @for value in &row.values {
                @match value {
                    Value::Null => { td.v.soft { "NULL" } },
                    Value::Number(value) => { td.n { (value.to_string()) } },
                    Value::String(value) => { td.v { (cut(value)) } },
                    other => { td.v { (cut(&other.to_string())) } },
                }
            }
            td { (when(row.fetched_at, now)) }
            td.v { @if let Some(url) = &row.url { (request(url)) } }
        }
    }
}

fn columns(table: &TableView) -> Markup {
    boxed(
        "Columns",
        &html! {
            table {
                caption { "Columns" }
                thead { tr { th scope="col" { "Column" } th scope="col" { "Kind of values" } th scope="col" { "Key in the records" } } }
                tbody {
                    @for column in &table.columns { tr {
                        th scope="row" { (column.name) }
                        td { (column.r#type.to_lowercase()) }
                        td.t { (column.source_key.as_deref().unwrap_or("–")) }
                    } }
                }
            }
        },
    )
}
