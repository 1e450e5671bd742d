//! The API that the workloads read, as a process of its own: what it takes from the machine is its own affair.
//!
//! `GET /flat` and `/nested` are asked for with `page` (from 0) or `cursor`, and say with `pages`, `rows` and `delay_ms` what
//! the answers shall be like. `budget=100` gives no more requests than that in any second. `GET /asked` tells when the
//! budgeted requests came, in microseconds, `GET /served` how many records have been handed out; both forget it then.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::net::TcpListener;

use crate::Result;
use crate::shapes::{Pages, Shape};

struct Api {
    rendered: Mutex<HashMap<(bool, u64), Arc<Pages>>>,
    started: Instant,
    asked: Mutex<Vec<u64>>,
    served: AtomicU64,
}

#[derive(Deserialize)]
struct Asked {
    cursor: Option<String>,
    page: Option<u64>,
    #[serde(default = "one")]
    pages: u64,
    #[serde(default = "hundred")]
    rows: u64,
    #[serde(default)]
    delay_ms: u64,
    budget: Option<usize>,
}

fn one() -> u64 {
    1
}

fn hundred() -> u64 {
    100
}

impl Api {
    fn pages(&self, shape: Shape, rows: u64) -> Arc<Pages> {
        let mut rendered = self.rendered.lock().unwrap_or_else(|poison| poison.into_inner());
        let pages = rendered.entry((shape == Shape::Nested, rows)).or_insert_with(|| Pages::render(shape, rows).into());
        Arc::clone(pages)
    }

    /// Notes a request; false where more than `budget` have come within a second.
    fn note(&self, budget: usize) -> bool {
        let now = self.started.elapsed().as_micros() as u64;
        let mut asked = self.asked.lock().unwrap_or_else(|poison| poison.into_inner());
        asked.push(now);
        asked.iter().rev().take_while(|at| *at + 1_000_000 > now).count() <= budget
    }
}

async fn answer(State(api): State<Arc<Api>>, uri: Uri, Query(asked): Query<Asked>) -> Response {
    let shape = match uri.path() {
        "/asked" => {
            let times = std::mem::take(&mut *api.asked.lock().unwrap_or_else(|poison| poison.into_inner()));
            return axum::body::Body::from(serde_json::json!(times).to_string()).into_response();
        }
        "/served" => return api.served.swap(0, Ordering::Relaxed).to_string().into_response(),
        "/nested" => Shape::Nested,
        _ => Shape::Flat,
    };
    if asked.budget.is_some_and(|budget| !api.note(budget)) {
        return (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")]).into_response();
    }
    if asked.delay_ms > 0 {
        tokio::time::sleep(Duration::from_millis(asked.delay_ms)).await;
    }
    let of_cursor = asked.cursor.and_then(|cursor| cursor.strip_prefix('p')?.parse().ok());
    let page = of_cursor.or(asked.page).unwrap_or(0);
    let body = match page {
        page if page >= asked.pages => br#"{"data":[],"next_cursor":null}"#.to_vec(),
        page => {
            let next = match page + 1 < asked.pages {
                true => format!(",\"next_cursor\":\"p{}\"", page + 1),
                false => ",\"next_cursor\":null".to_owned(),
            };
            api.served.fetch_add(asked.rows, Ordering::Relaxed);
            api.pages(shape, asked.rows).page(page, &next)
        }
    };
    ([("content-type", "application/json")], body).into_response()
}

/// Serves until its input ends; its first line says where.
pub(crate) fn serve() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let api = Api { rendered: Mutex::default(), started: Instant::now(), asked: Mutex::default(), served: 0.into() };
    for shape in [Shape::Flat, Shape::Nested] {
        api.pages(shape, 100);
    }
    let app = Router::new().fallback(answer).with_state(Arc::new(api));
    let address = listener.local_addr()?;
    runtime.spawn(async move { axum::serve(listener, app).await });
    writeln!(std::io::stdout(), "http://{address}")?;
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

/// A server that runs; it ends with this value.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// Where it listens: `http://127.0.0.1:…`.
    pub(crate) url: String,
}

impl Server {
    /// Starts it.
    pub(crate) fn start() -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("server")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut url = String::new();
        BufReader::new(child.stdout.take().ok_or("the server has no output")?).read_line(&mut url)?;
        Ok(Self { child, url: url.trim().to_owned() })
    }

    /// When the requests came that had a budget, in microseconds; forgets them.
    pub(crate) fn asked(&self) -> Result<Vec<u64>> {
        let mut socket = std::net::TcpStream::connect(self.url.trim_start_matches("http://"))?;
        write!(socket, "GET /asked HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        let body = answer.split_once("\r\n\r\n").ok_or("the server's answer has no end of its headers")?.1;
        Ok(serde_json::from_str(body)?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        if let Err(error) = self.child.wait() {
            eprintln!("the server cannot be waited for: {error}");
        }
    }
}
