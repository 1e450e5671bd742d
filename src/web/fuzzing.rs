//! What must hold of the answers of the status page, whatever is asked.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use jiff::Timestamp;
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use url::{Host, Url};

use super::answer::Format;
use super::guard::Guard;
use super::{App, Listen, WebOptions, events, metrics, router};
use crate::board::{self, Board, Door, Job, LoadedConfig};
use crate::destination::{Db, DestinationOptions, View};
use crate::page::ResourceId;
use crate::secret::Secret;

/// What has to be sent by who acts, and by who reads from another machine.
const TOKEN: &str = "anchor";
/// Markup that only the page itself may write.
const MARKUP: &str = "<x>";
/// Longer than any answer.
const ANSWER_BYTES_MAX: usize = 8 << 20;

thread_local! {
    static SITES: RefCell<Sites> = RefCell::new(Sites::new());
}

/// A page without a token, one with a token, and one with a token that other machines reach.
struct Sites {
    runtime: Runtime,
    sites: [(Option<&'static str>, bool, Router); 3],
    asked: mpsc::Receiver<board::Request>,
    /// What the pages show.
    _board: watch::Sender<Arc<Board>>,
}

impl Sites {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let view = Arc::new(runtime.block_on(empty_file()));
        let job = Job {
            resources: vec![ResourceId::new("s", "r")],
            schedule: Some("every 5m".to_owned()),
            next: None,
            paused_at: None,
            failures: 0,
            coalesced: 0,
            begun: 0,
            running: None,
        };
        let (sender, board) = watch::channel(Arc::new(board_of(job)));
        let (requests, asked) = mpsc::channel(1);
        let door = Door { board, requests };
        let site = |token: Option<&'static str>, is_open: bool| {
            let ip = if is_open { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
            let listen = Listen::Tcp(SocketAddr::new(IpAddr::V4(ip), 8642));
            let options =
                WebOptions { listen: listen.clone(), token: token.map(|token| Secret::new(token.to_owned())) };
            let app = App {
                guard: Arc::new(Guard::new(&options, &listen)),
                door: door.clone(),
                view: Arc::clone(&view),
                kept: Arc::default(),
                listeners: Arc::new(Semaphore::new(events::LISTENERS_MAX)),
                metrics: Arc::new(metrics::Metrics::since(door.board.borrow().started_at)),
                stop: CancellationToken::new(),
            };
            (token, is_open, router(app))
        };
        let sites = [site(None, false), site(Some(TOKEN), false), site(Some(TOKEN), true)];
        Self { runtime, sites, asked, _board: sender }
    }

    /// The answer, its body unless it is a stream without an end, and how often the daemon was asked to act.
    fn answer(&mut self, site: usize, request: Request<Body>) -> (Response, String, usize) {
        let Self { runtime, sites, asked, .. } = self;
        let service = TowerToHyperService::new(sites[site].2.clone());
        runtime.block_on(async {
            let mut actions = 0;
            let answered = async {
                let Ok(response) = service.call(request).await;
                let (parts, body) = response.into_parts();
                let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
                let is_stream = kind.is_some_and(|kind| kind.starts_with("text/event-stream"));
                let bytes = if is_stream { None } else { to_bytes(body, ANSWER_BYTES_MAX).await.ok() };
                let text = String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned();
                (Response::from_parts(parts, Body::empty()), text)
            };
            let acted = async {
                while let Some(request) = asked.recv().await {
                    actions += 1;
                    request.answer.send(Ok("done".to_owned())).ok();
                }
            };
            let (response, body) = tokio::select! {
                answer = answered => answer,
                () = acted => panic!("the pages have gone"),
            };
            (response, body, actions)
        })
    }
}

/// What a daemon with one job shows.
fn board_of(job: Job) -> Board {
    Board {
        started_at: Timestamp::UNIX_EPOCH,
        alive_at: Timestamp::UNIX_EPOCH,
        database: "highwater.db".into(),
        config: LoadedConfig::default(),
        jobs: vec![job],
        budgets: Vec::new(),
        is_stopping: false,
    }
}

/// A file that nothing has been read into.
async fn empty_file() -> View {
    let path = std::env::temp_dir().join(format!("highwater-fuzz-{}.db", std::process::id()));
    let options = DestinationOptions { path: path.clone(), ..DestinationOptions::default() };
    let db = Db::open(&options).await.expect("a folder for temporary files");
    db.close().await.expect("a folder for temporary files");
    View::open(&path).await.expect("the file that was just made")
}

/// A site by the first byte, then a request: `METHOD URI`, headers, an empty line, a body. Every answer has the headers
/// that keep browsers in, and no markup of the request; nobody reads a page who asks for a name of another machine and
/// has no token, and nobody acts without it.
///
/// # Panics
/// When that is not so.
pub fn web_requests(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let Some((request, has_token)) = request(rest) else { return };
    let (uri, headers, method) = (request.uri().clone(), request.headers().clone(), request.method().clone());
    SITES.with_borrow_mut(|sites| {
        let site = usize::from(*first) % sites.sites.len();
        let (token, is_open, _) = sites.sites[site];
        let (response, body, actions) = sites.answer(site, request);
        let status = response.status();
        for name in ["content-security-policy", "x-content-type-options", "x-frame-options", "cache-control"] {
            assert!(response.headers().contains_key(name), "{status} without {name}: {uri}");
        }
        let is_html = matches!(Format::of(uri.path()), Format::Html);
        assert!(!(is_html && body.contains(MARKUP)), "{uri} puts markup into its page: {body}");
        let is_refused = [StatusCode::BAD_REQUEST, StatusCode::UNAUTHORIZED, StatusCode::MISDIRECTED_REQUEST];
        if !is_refused.contains(&status) {
            let is_ours = is_ours(&headers);
            assert!(is_ours && !is_open || token.is_some() && has_token, "{status} for {headers:?}");
        }
        let may_act = token.is_some() && has_token && method == Method::POST && !is_foreign(&headers);
        assert!(actions == 0 || may_act, "{method} {uri} {headers:?} acts");
    });
}

/// A request of these lines, and whether it holds the token.
fn request(data: &[u8]) -> Option<(Request<Body>, bool)> {
    let at = data.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = at.map_or((data, &b""[..]), |at| (&data[..at], &data[at + 2..]));
    let mut lines = head.split(|byte| *byte == b'\n');
    let mut words = lines.next()?.splitn(2, |byte| *byte == b' ');
    let method = Method::from_bytes(words.next()?).ok()?;
    let uri: Uri = words.next()?.try_into().ok()?;
    let mut headers = HeaderMap::new();
    for line in lines {
        let at = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..at]).ok()?;
        headers.append(name, HeaderValue::from_bytes(line[at + 1..].trim_ascii()).ok()?);
    }
    let authorized = headers.get(header::AUTHORIZATION).is_some_and(has_the_token);
    let in_body = url::form_urlencoded::parse(body).any(|(_, value)| value == TOKEN);
    let mut request = Request::new(Body::from(body.to_vec()));
    (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (method, uri, headers);
    Some((request, authorized || in_body))
}

/// Whether a header names the token, as it is or as a password.
fn has_the_token(authorization: &HeaderValue) -> bool {
    let text = authorization.to_str().unwrap_or_default();
    let password = text.split(' ').next_back().and_then(|word| STANDARD.decode(word).ok()).unwrap_or_default();
    text.ends_with(&format!(" {TOKEN}")) || password.ends_with(format!(":{TOKEN}").as_bytes())
}

/// Whether the one host that is asked for is this machine's.
fn is_ours(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let host = host.to_str().unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    match Url::parse(&format!("http://{name}/")).as_ref().ok().and_then(Url::host) {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback()),
        None => false,
    }
}

/// Whether a browser says that a request comes from elsewhere.
fn is_foreign(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).map(HeaderValue::as_bytes).unwrap_or_default().to_ascii_lowercase();
    let site = headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin");
    let origin = headers.get(header::ORIGIN).map(HeaderValue::as_bytes).map(<[u8]>::to_ascii_lowercase);
    site || origin.is_some_and(|origin| !origin.ends_with(&host))
}
