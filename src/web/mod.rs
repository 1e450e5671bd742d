//! The status page of the daemon: where it is served, who may act there, and what it shows.
//!
//! It reads what the daemon shows of itself ([`crate::board`]) and looks at the file beside it
//! ([`crate::destination::View`]); it writes nothing and opens nothing. Every page is made on the server from data that
//! is also there as JSON, under the same path with `.json` behind it, and all of it works without scripts.
//! `metrics` is what Prometheus reads.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::header;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::board::{Board, Door};
use crate::destination::View;
use crate::secret::Secret;

mod act;
mod answer;
mod chart;
mod events;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod guard;
mod html;
mod listen;
pub mod metrics;
mod pages;
mod probe;
mod server;
mod state;

pub use listen::{Listener, bind};

/// The longest body of a request: a form with a token.
const BODY_BYTES_MAX: usize = 4 << 10;

/// `[web]`: the status page.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WebOptions {
    /// Where it is served. An address that other machines reach needs a `token`.
    pub listen: Listen,
    /// Who sends it may act on the page, and may read it from other machines.
    pub token: Option<Secret>,
}

/// Where the status page is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Nowhere.
    Off,
    /// An address of this machine; port 0 takes any that is free.
    Tcp(SocketAddr),
    /// A Unix socket: the permissions of its folder say who reaches it.
    Unix(PathBuf),
}

impl Listen {
    /// Whether other machines reach it. `0.0.0.0` and `[::]` are all addresses of this machine.
    #[must_use]
    pub fn is_open(&self) -> bool {
        match self {
            Self::Off | Self::Unix(_) => false,
            Self::Tcp(address) => !address.ip().to_canonical().is_loopback(),
        }
    }
}

impl Default for Listen {
    fn default() -> Self {
        Self::Tcp(SocketAddr::from(([127, 0, 0, 1], 8642)))
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let Some(path) = text.strip_prefix("unix:") else {
            let wrong = |_| {
                let text = text.escape_debug();
                format!(
                    "`{text}` is not an address with a port; write it like \"{}\", \"unix:/path\" or \"off\"",
                    Self::default()
                )
            };
            return text.parse().map(Self::Tcp).map_err(wrong);
        };
        if !path.starts_with('/') || path.ends_with('/') {
            return Err("a socket is named in full, like \"unix:/run/highwater/web.sock\"".to_owned());
        }
        // It is the system that says how long such a path may be.
        std::os::unix::net::SocketAddr::from_pathname(path)
            .map_err(|error| format!("cannot be the path of a socket: {error}"))?;
        Ok(Self::Unix(path.into()))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Listen {
    fn schema_name() -> Cow<'static, str> {
        "Listen".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "highwater-listen",
            "description": "an address with a port such as \"127.0.0.1:8642\", \"unix:/path\", or \"off\""
        })
    }
}

/// What all answers are made from.
#[derive(Clone)]
struct App {
    guard: Arc<guard::Guard>,
    door: Door,
    view: Arc<View>,
    kept: Arc<pages::overview::Kept>,
    /// Places for those who listen to events.
    listeners: Arc<Semaphore>,
    metrics: Arc<metrics::Metrics>,
    stop: CancellationToken,
}

impl App {
    /// What the daemon shows right now.
    fn board(&self) -> Arc<Board> {
        Arc::clone(&self.door.board.borrow())
    }
}

/// Serves the status page on `listener` until `stop`, then lets answers in flight finish for a moment. Whatever clients
/// do is their own concern.
pub async fn serve(listener: Listener, options: &WebOptions, door: Door, view: View, stop: CancellationToken) {
    let metrics = metrics::Metrics::since(door.board.borrow().started_at);
    let app = App {
        guard: Arc::new(guard::Guard::new(options, listener.place())),
        metrics: Arc::new(metrics),
        door,
        view: Arc::new(view),
        kept: Arc::default(),
        listeners: Arc::new(Semaphore::new(events::LISTENERS_MAX)),
        stop: stop.clone(),
    };
    server::serve(listener, router(app), stop).await;
}

/// Every path there is.
fn router(app: App) -> Router {
    let asset =
        |kind: &'static str, text: &'static str| get(move || async move { ([(header::CONTENT_TYPE, kind)], text) });
    Router::new()
        .route("/", get(pages::overview::show))
        .route("/index.json", get(pages::overview::show))
        .route("/resources/{id}", get(pages::resource::show))
        .route("/resources/{id}/{action}", post(act::act))
        .route("/runs", get(pages::runs::list))
        .route("/runs.json", get(pages::runs::list))
        .route("/runs/{id}", get(pages::run::show))
        .route("/tables/{name}", get(pages::table::show))
        .route("/errors", get(pages::errors::show))
        .route("/errors.json", get(pages::errors::show))
        .route("/quarantine", get(pages::quarantine::show))
        .route("/quarantine.json", get(pages::quarantine::show))
        .route("/config", get(pages::config::show))
        .route("/config.json", get(pages::config::show))
        .route("/events", get(events::listen))
        .route("/metrics", get(probe::metrics))
        .route("/healthz", get(probe::healthz))
        .route("/readyz", get(probe::readyz))
        .route("/assets/page.css", asset("text/css; charset=utf-8", include_str!("assets/page.css")))
        .route("/assets/page.js", asset("text/javascript; charset=utf-8", include_str!("assets/page.js")))
        .route("/assets/icon.svg", asset("image/svg+xml", include_str!("assets/icon.svg")))
        .fallback(|| async { answer::Refusal::not_found("such page") })
        .method_not_allowed_fallback(|| async { answer::Refusal::bad_method() })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(app.clone(), answer::finish))
        .with_state(app)
}

#[cfg(test)]
mod tests {
    use super::Listen;

    #[test]
    fn places_read_and_print_alike_and_are_open_to_others_or_not() {
        for (text, is_open) in [
            ("off", false),
            ("127.0.0.1:8642", false),
            ("127.9.9.9:0", false),
            ("[::1]:80", false),
            ("[::ffff:127.0.0.1]:80", false),
            ("unix:/run/highwater/web.sock", false),
            ("0.0.0.0:80", true),
            ("[::]:80", true),
            ("[::ffff:0.0.0.0]:80", true),
            ("10.0.0.1:80", true),
        ] {
            let listen: Listen = text.parse().unwrap();
            assert_eq!((listen.to_string().as_str(), listen.is_open()), (text, is_open));
        }
        assert_eq!(Listen::default().to_string(), "127.0.0.1:8642");
    }

    #[test]
    fn what_is_no_place_to_listen_is_refused() {
        let long = format!("unix:/{}", "x".repeat(200));
        for text in [
            "",
            "Off",
            "8642",
            ":8642",
            "127.0.0.1",
            "localhost:8642",
            "127.0.0.1:99999",
            "unix:",
            "unix:web.sock",
            "unix:/run/",
            "unix:/a\0b",
            &long,
        ] {
            assert!(text.parse::<Listen>().is_err(), "{text}");
        }
    }
}
