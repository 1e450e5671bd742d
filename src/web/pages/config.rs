//! `/config`: the configuration that the daemon runs with, as it was read, with stars in the place of secrets.

use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use maud::html;
use serde::Serialize;

use crate::web::App;
use crate::web::answer::Format;
use crate::web::html::{Page, time};

#[derive(Serialize)]
struct Shown {
    path: String,
    loaded_at: Timestamp,
    /// Why a newer text of the file is not used.
    error: Option<String>,
    text: String,
}

pub(in crate::web) async fn show(State(app): State<App>, format: Format) -> Response {
    let board = app.board();
    let config = &board.config;
    let shown = Shown {
        path: config.path.display().to_string(),
        loaded_at: config.loaded_at,
        error: config.error.clone(),
        text: config.text.to_string(),
    };
    format.write(&shown, |shown| {
        let now = Timestamp::now();
        let live = html! {
            h1 { "Configuration" }
            @if let Some(error) = &shown.error {
                p.say.bad { "The file has changed since, and the new text is not used:" }
                pre tabindex="0" { (error) }
            }
            p.soft { code { (shown.path) } ", read " (time(shown.loaded_at, now)) ". Secrets are not shown." }
        };
        let rest = html! { pre tabindex="0" { (shown.text) } };
        Page { title: "Configuration".to_owned(), under: "/config", live, rest, ..Page::default() }
    })
}
