//! What can be done on the page: one action on one resource by a form, or by a program that sends the token.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use serde::Serialize;

use super::App;
use super::answer::{Format, Refusal, json};
use super::guard::HOW_TO_ALLOW_ACTIONS;
use super::html::segment;
use crate::board::{Action, Board, Job};
use crate::page::ResourceId;

/// The actions: their word in the path, what the button says, and what is said when it is done.
const ACTIONS: [(&str, &str, &str); 4] = [
    ("run", "Run now", "It runs as soon as there is room."),
    ("pause", "Pause", "It does not run by itself until it is resumed. A run that is under way goes on to its end."),
    ("resume", "Resume", "It runs at its times again."),
    ("retry", "Retry quarantine", "The records that were set aside are tried again as soon as there is room."),
];

/// Takes an action, and shows the resource.
pub(super) async fn act(
    State(app): State<App>,
    format: Format,
    Path((id, action)): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Result<Response, Refusal> {
    let body =
        body.map_err(|_| Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "That is more than a form with a token."))?;
    let field = url::form_urlencoded::parse(&body).find(|(key, _)| key == "token").map(|(_, value)| value.into_owned());
    app.guard.may_act(&uri, &headers, field.as_deref())?;
    let word = format.name(&action);
    let board = app.board();
    let id = known(&board, &id).ok_or_else(|| Refusal::not_found("such resource in the configuration"))?;
    let action = match word {
        "run" => Action::Run(id.clone()),
        "pause" => Action::Pause(id.clone()),
        "resume" => Action::Resume(id.clone()),
        "retry" => Action::Retry(id.clone()),
        _ => return Err(Refusal::not_found("such action")),
    };
    let done = app.door.ask(action).await.map_err(Refusal::not_done)?;
    tracing::info!(resource = %id, action = word, "asked for on the status page");
    Ok(match format {
        Format::Json => json(&Done { done }),
        Format::Html => {
            let place = format!("/resources/{}?done={word}", segment(&id.to_string()));
            (StatusCode::SEE_OTHER, [(header::LOCATION, place)]).into_response()
        }
    })
}

#[derive(Serialize)]
struct Done {
    /// What the daemon said.
    done: String,
}

/// A resource that the daemon runs, by its name.
fn known(board: &Board, name: &str) -> Option<ResourceId> {
    board.jobs.iter().flat_map(|job| &job.resources).find(|id| id.to_string() == name).cloned()
}

/// What is said on the page of a resource after an action.
pub(super) fn notice(done: Option<&str>) -> Markup {
    let said = done.and_then(|done| ACTIONS.iter().find(|(word, ..)| *word == done)).map(|(_, _, said)| said);
    html! { @if let Some(said) = said { p.say role="status" { (said) } } }
}

/// The form with the actions that make sense for a resource.
pub(super) fn form(app: &App, id: &ResourceId, job: &Job, has_quarantine: bool) -> Markup {
    let is_paused = job.paused_at.is_some();
    let together = job.resources.iter().filter(|other| *other != id);
    let offered = ACTIONS.iter().filter(|(word, ..)| match *word {
        "pause" => !is_paused && job.schedule.is_some(),
        "resume" => is_paused,
        "retry" => has_quarantine,
        _ => true,
    });
    let place = format!("/resources/{}", segment(&id.to_string()));
    html! {
        @if app.guard.has_token() {
            form method="post" action={ (place) "/run" } {
                h2 { "Act on " (id) }
                // Browsers keep a password under a name.
                input.away name="username" value="highwater" autocomplete="username" tabindex="-1" aria-hidden="true";
                label { "Token of [web]"
                    input type="password" name="token" autocomplete="current-password" required;
                }
                @for (word, says, _) in offered { button formaction={ (place) "/" (word) } { (says) } }
                @let names: Vec<String> = together.map(ToString::to_string).collect();
                @if !names.is_empty() { span.soft { "Runs together with " (names.join(", ")) "." } }
            }
        } @else {
            p.soft { (HOW_TO_ALLOW_ACTIONS) }
        }
    }
}
