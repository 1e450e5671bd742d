//! An API that tells everybody the secrets of its client, in every answer that it has.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::secrets::{Place, SPELLINGS, canary};
use crate::faults::server::Then;

/// The bytes of an answer.
type Reply = fn(&Echo) -> Vec<u8>;

/// What a resource gets from the API, and what its configuration says beside its path.
pub(super) struct Fault {
    pub(super) name: &'static str,
    pub(super) resource: &'static str,
    reply: Reply,
    then: Then,
}

impl Fault {
    pub(super) fn is_silent(&self) -> bool {
        matches!(self.then, Then::Silence)
    }
}

/// What the API knows when it answers.
pub(super) struct Echo {
    /// The secrets, one behind the other.
    secrets: String,
    /// The request as it came, and what can be read in it.
    request: String,
    query: String,
    foreign: SocketAddr,
    own: SocketAddr,
    /// The number of the request.
    turn: usize,
}

const fn fault(name: &'static str, resource: &'static str, reply: Reply) -> Fault {
    Fault { name, resource, reply, then: Then::Keep }
}

const fn ends(name: &'static str, then: Then, reply: Reply) -> Fault {
    Fault { name, resource: "", reply, then }
}

fn http(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn message(status: &str, text: &str) -> Vec<u8> {
    http(status, "", &json!({ "message": text }).to_string())
}

fn percent(text: &str) -> String {
    SPELLINGS[1](text)
}

const HEADER_LINK: &str = "paginator = { type = \"header_link\" }";
const CURSOR: &str =
    "paginator = { type = \"cursor\", cursor_path = \"next\", cursor_param = \"c\" }\ndata_selector = \"d\"";

/// A page with a link behind it.
fn linked(target: &str) -> Vec<u8> {
    http("200 OK", &format!("Link: <{target}>; rel=\"next\"\r\n"), r#"[{"id":1}]"#)
}

/// A good first page; the ones behind it are as the fault wants them.
fn after_page(echo: &Echo, later: impl Fn() -> Vec<u8>) -> Vec<u8> {
    if is_behind(&echo.query) { later() } else { linked("?p=2") }
}

/// Whether a page behind the first one is asked for.
fn is_behind(query: &str) -> bool {
    query.contains("p=2")
}

/// What stands behind the name of such a page where it is told what was served.
const BEHIND: &str = ", page 2";

/// The first byte of a TLS handshake (RFC 8446 §5.1), and what is served then.
const TLS: &str = "\u{16}";
pub(super) const NO_TLS: &str = "words in place of TLS";

/// What of a fault has to be served before it was met.
pub(super) fn stages(fault: &Fault) -> impl Iterator<Item = String> {
    let second = ["fine", "link_echo"].contains(&fault.name).then(|| format!("{}{BEHIND}", fault.name));
    second.into_iter().chain([fault.name.to_owned()])
}

pub(super) const FAULTS: [Fault; 56] = [
    fault("fine", HEADER_LINK, |echo| after_page(echo, || http("200 OK", "", r#"[{"id":2}]"#))),
    fault("message", "", |echo| message("404 Not Found", &echo.secrets)),
    fault("message_form", "", |echo| message("404 Not Found", &SPELLINGS[1](&echo.secrets))),
    fault("message_lower", "", |echo| message("404 Not Found", &SPELLINGS[2](&echo.secrets))),
    fault("message_percent", "", |echo| message("404 Not Found", &SPELLINGS[3](&echo.secrets))),
    fault("message_entities", "", |echo| message("404 Not Found", &SPELLINGS[4](&echo.secrets))),
    fault("message_html", "", |echo| message("404 Not Found", &SPELLINGS[5](&echo.secrets))),
    fault("message_base64", "", |echo| message("404 Not Found", &in_base64(echo, 6))),
    fault("message_base64_inside", "", |echo| message("404 Not Found", &in_base64(echo, 7))),
    fault("message_base64_url", "", |echo| message("404 Not Found", &in_base64(echo, 8))),
    fault("request_401", "", |echo| message("401 Unauthorized", &echo.request)),
    fault("request_403", "", |echo| message("403 Forbidden", &echo.request)),
    fault("request_500", "", |echo| message("500 Oh", &echo.request)),
    fault("request_429", "", |echo| message("429 Slow", &echo.request)),
    fault("long_message", "", |echo| message("400 Bad", &format!("{}{}", "x".repeat(185), echo.secrets))),
    fault("errors", "", |echo| http("422 No", "", &json!({ "errors": [{ "detail": echo.secrets }] }).to_string())),
    fault("reason_phrase", "", |echo| http(&format!("500 {}", echo.secrets), "", "")),
    fault("html_401", "", |echo| http("401 No", "Content-Type: text/html\r\n", &page(echo))),
    fault("html_200", "", |echo| http("200 OK", "Content-Type: text/html\r\n", &page(echo))),
    fault("headers", "", |echo| http("503 Later", &headers(echo), "{}")),
    fault("headers_200", "", |echo| http("200 OK", &headers(echo), r#"[{"id":1}]"#)),
    fault("encoding", "", |echo| http("200 OK", &format!("Content-Encoding: {}\r\n", echo.secrets), "x")),
    fault("json_cut", "", |echo| {
        let text = json!({ "data": [{ "id": 1, "token": echo.secrets }] }).to_string();
        http("200 OK", "", &text[..text.len() - 5])
    }),
    fault("json_bare", "", |echo| http("200 OK", "", &echo.secrets)),
    fault("json_text", "", |echo| http("200 OK", "", &json!(echo.secrets).to_string())),
    fault("json_keys", "", |echo| {
        http("200 OK", "", &json!({ echo.secrets.clone(): 1, "b": echo.secrets }).to_string())
    }),
    fault("json_lists", "", |echo| {
        http("200 OK", "", &json!({ echo.secrets.clone(): [{ "a": 1 }], "b": [{ "a": 1 }] }).to_string())
    }),
    fault("json_selected", "data_selector = \"data\"", |echo| {
        http("200 OK", "", &json!({ "data": echo.secrets }).to_string())
    }),
    fault("envelope", "", |echo| http("200 OK", "", &json!({ "data": [], "error": echo.secrets }).to_string())),
    fault("latin", "", |echo| [http("200 OK", "", "").as_slice(), echo.secrets.as_bytes()].concat()),
    fault("csv_header", "format = \"csv\"\nprimary_key = \"id\"", |echo| {
        http("200 OK", "", &format!("{}\n1\n", echo.secrets.replace('"', "\"\"")))
    }),
    fault("jsonl", "format = \"jsonl\"", |echo| http("200 OK", "", &format!("{{\"a\":{}\n", echo.secrets))),
    fault("xml", "format = \"xml\"\nxml_record_path = \"a.b\"", |echo| {
        http("200 OK", "", &format!("<a><b>&{};</b><{}></a>", echo.secrets, echo.secrets))
    }),
    fault("too_large", "", |echo| http("200 OK", "", &format!("[\"{}\"]", echo.secrets.repeat(4000)))),
    fault("redirect_foreign", "", |echo| {
        let to = format!("Location: http://{}/x?k={}\r\n", echo.foreign, percent(&echo.secrets));
        http("302 Found", &to, "")
    }),
    fault("redirect_host", "", |echo| http("307 There", &format!("Location: //{}.evil.test/\r\n", host(echo)), "")),
    fault("redirect_user", "", |echo| {
        http("302 Found", &format!("Location: http://{}@{}/x\r\n", percent(&echo.secrets), echo.own), "")
    }),
    fault("redirect_circle", "", |echo| {
        let to = format!("Location: redirect_circle?k={}&{}\r\n", percent(&echo.secrets), echo.turn);
        http("302 Found", &to, &echo.request)
    }),
    fault("redirect_nowhere", "", |echo| http("302 Found", &format!("Location: http://[{}\r\n", echo.secrets), "")),
    fault("link_foreign", HEADER_LINK, |echo| {
        linked(&format!("http://{}/x?k={}", echo.foreign, percent(&echo.secrets)))
    }),
    fault("link_host", HEADER_LINK, |echo| linked(&format!("http://{}.evil.test/", host(echo)))),
    fault("link_echo", HEADER_LINK, |echo| {
        after_page(echo, || linked(&format!("?p=2&q={}&{}", echo.turn, echo.query)))
    }),
    fault("link_key", HEADER_LINK, |echo| linked(&format!("?p=3&{}={}", percent(&echo.secrets), echo.turn))),
    fault("link_value", HEADER_LINK, |echo| linked(&format!("?p=3&mine=a{}", SPELLINGS[2](&echo.secrets)))),
    fault("link_base64", HEADER_LINK, |echo| linked(&format!("?p=3&mine={}", percent(&in_base64(echo, 7))))),
    fault("link_path", HEADER_LINK, |echo| linked(&format!("/a/{}", percent(&echo.secrets)))),
    fault(
        "link_json",
        "paginator = { type = \"json_link\", next_url_path = \"next\" }\ndata_selector = \"d\"",
        |echo| {
            let next = format!("http://{}/{}", echo.foreign, percent(&echo.secrets));
            http("200 OK", "", &json!({ "d": [{ "id": 1 }], "next": next }).to_string())
        },
    ),
    fault("link_auto", "", |echo| {
        http("200 OK", "", &json!({ "data": [{ "id": 1 }], "links": { "next": echo.secrets } }).to_string())
    }),
    fault("cursor", CURSOR, |echo| {
        http("200 OK", "", &json!({ "d": [{ "id": echo.turn }], "next": echo.secrets }).to_string())
    }),
    fault("cursor_base64", CURSOR, |echo| {
        http("200 OK", "", &json!({ "d": [{ "id": echo.turn }], "next": in_base64(echo, 6) }).to_string())
    }),
    fault(
        "cursor_header",
        "paginator = { type = \"header_cursor\", header = \"x-next\", cursor_param = \"c\" }",
        |echo| http("200 OK", &format!("X-Next: {}\r\n", echo.secrets), &format!("[{{\"id\":{}}}]", echo.turn)),
    ),
    fault("action", "response_actions = [{ status_code = 418, action = \"fail\" }]", |echo| {
        message("418 Teapot", &echo.request)
    }),
    ends("no_http", Then::Close, |echo| format!("{}\r\n\r\n", echo.secrets).into_bytes()),
    ends("cut", Then::Close, |echo| {
        format!("HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n[{}", echo.secrets).into_bytes()
    }),
    ends("reset", Then::Reset, |echo| echo.secrets.clone().into_bytes()),
    ends("silence", Then::Silence, |echo| format!("HTTP/1.1 200 OK\r\nX: {}\r\n", echo.secrets).into_bytes()),
];

/// Answers of who gives out tokens: a part of the path, and the answer.
pub(super) const ENDPOINTS: [(&str, Reply); 11] = [
    ("error_401", |echo| {
        http("401 No", "", &json!({ "error": "invalid_client", "error_description": echo.request }).to_string())
    }),
    ("error_code", |echo| http("400 No", "", &json!({ "error": echo.secrets }).to_string())),
    ("error_500", |echo| message("500 Oh", &echo.request)),
    ("html", |echo| http("200 OK", "", &page(echo))),
    ("not_json", |echo| http("200 OK", "", &format!("{{\"access_token\":{}", echo.secrets))),
    ("wrong_type", |echo| http("200 OK", "", &json!({ "access_token": "a", "token_type": echo.secrets }).to_string())),
    ("wrong_expiry", |echo| {
        http("200 OK", "", &json!({ "access_token": "a", "expires_in": echo.secrets }).to_string())
    }),
    ("wrong_token", |echo| http("200 OK", "", &json!({ "access_token": format!("{}\n", echo.secrets) }).to_string())),
    ("redirect", |echo| {
        let to = format!("Location: http://{}/x?k={}\r\n", echo.foreign, percent(&echo.secrets));
        http("307 There", &to, "")
    }),
    ("encoded", |echo| http("200 OK", &format!("Content-Encoding: {}\r\n", echo.secrets), "{}")),
    ("too_long", |echo| http("200 OK", "", &echo.secrets.repeat(8000))),
];

/// One of the secrets in base64: a few of them together would be another text. The first of several may be the name of a
/// user, which can be part of any link.
fn in_base64(echo: &Echo, spelling: usize) -> String {
    let secrets: Vec<&str> = echo.secrets.split(" | ").collect();
    let proofs = if secrets.len() > 1 { &secrets[1..] } else { &secrets };
    SPELLINGS[spelling](proofs[echo.turn % proofs.len()])
}

fn page(echo: &Echo) -> String {
    format!("<!doctype html><title>{}</title><body>{}", echo.secrets, echo.request)
}

/// A secret that the name of a host can hold.
fn host(echo: &Echo) -> &str {
    if echo.secrets.chars().all(|char| char.is_ascii_alphanumeric()) { &echo.secrets } else { "another" }
}

fn headers(echo: &Echo) -> String {
    let value = &echo.secrets;
    let names = ["Set-Cookie", "WWW-Authenticate", "Warning", "Server", "Content-Type", "X-RateLimit-Reset", "Date"];
    let plain: String = names.iter().map(|name| format!("{name}: {value}\r\n")).collect();
    let tag = percent(value);
    format!("{plain}Retry-After: {value}\r\nETag: \"{tag}\"\r\nLast-Modified: {value}\r\n")
}

/// What is known of all connections.
struct Known {
    configured: Vec<String>,
    /// Tokens that were given out, the latest last.
    issued: Vec<String>,
    /// Those that came back: nobody else can be asked to hide them yet.
    known: Vec<String>,
    heard: usize,
    served: BTreeSet<String>,
    own: SocketAddr,
    foreign: SocketAddr,
}

/// The API.
pub(super) struct Parrot {
    pub(super) address: SocketAddr,
    known: Arc<Mutex<Known>>,
    /// What came to an origin that nobody has configured.
    strays: Arc<Mutex<Vec<u8>>>,
    _runtime: Runtime,
}

impl Parrot {
    pub(super) fn start(secrets: &[String]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let bind = || runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let (listener, foreign) = (bind(), bind());
        let (address, stray_address) = (listener.local_addr().unwrap(), foreign.local_addr().unwrap());
        let strays: Arc<Mutex<Vec<u8>>> = Arc::default();
        let known = Arc::new(Mutex::new(Known {
            configured: secrets.to_vec(),
            issued: Vec::new(),
            known: Vec::new(),
            heard: 0,
            served: BTreeSet::new(),
            own: address,
            foreign: stray_address,
        }));
        let log = Arc::clone(&strays);
        runtime.spawn(async move {
            loop {
                let (mut socket, from) = foreign.accept().await.unwrap();
                log.lock().unwrap().extend(format!("a connection from {from}: ").bytes());
                let mut bytes = [0; 4096];
                let length = socket.read(&mut bytes).await.unwrap_or_default();
                log.lock().unwrap().extend(&bytes[..length]);
            }
        });
        let shared = Arc::clone(&known);
        runtime.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                connections.spawn(serve(socket, Arc::clone(&shared)));
            }
        });
        Self { address, known, strays, _runtime: runtime }
    }

    /// What was served since this was last asked: names of faults and endpoints.
    pub(super) fn served(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.known.lock().unwrap().served)
    }

    pub(super) fn strays(&self) -> Vec<u8> {
        self.strays.lock().unwrap().clone()
    }
}

async fn serve(mut socket: TcpStream, known: Arc<Mutex<Known>>) {
    while let Some((head, body)) = read_request(&mut socket).await {
        let (bytes, then) = known.lock().unwrap().answer(&head, &body);
        if socket.write_all(&bytes).await.is_err() {
            return;
        }
        if !then.happens(&socket).await {
            return;
        }
    }
}

impl Known {
    fn answer(&mut self, head: &str, body: &str) -> (Vec<u8>, Then) {
        self.heard += 1;
        if head.starts_with(TLS) {
            self.served.insert(NO_TLS.to_owned());
            return (message("400 No", &self.configured.join(" ")), Then::Close);
        }
        let target = head.split(' ').nth(1).unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let form = if body.starts_with('{') { "" } else { body };
        let read: String = url::form_urlencoded::parse(format!("{query}&{form}").as_bytes())
            .map(|(name, value)| format!("{name}={value} "))
            .collect();
        let request = format!("{target} {read} {body} {}", head.replace("\r\n", " "));
        let came_back = self.issued.iter().filter(|token| request.contains(token.as_str()));
        self.known = came_back.rev().take(2).cloned().collect();
        let secrets: Vec<&str> = self.configured.iter().chain(&self.known).map(String::as_str).collect();
        let echo = Echo {
            secrets: secrets.join(" | "),
            request,
            query: query.to_owned(),
            foreign: self.foreign,
            own: self.own,
            turn: self.heard,
        };
        let name = path.rsplit('/').next().unwrap_or_default();
        self.served.insert(if is_behind(query) { format!("{name}{BEHIND}") } else { name.to_owned() });
        if let Some(rest) = path.split_once("token/").map(|(_, rest)| rest) {
            let endpoint = ENDPOINTS.iter().find(|(name, _)| *name == rest);
            return (endpoint.map_or_else(|| self.issue(), |(_, reply)| reply(&echo)), Then::Keep);
        }
        match FAULTS.iter().find(|fault| fault.name == name) {
            Some(fault) => ((fault.reply)(&echo), fault.then),
            None if name == "records" => {
                let records = json!([{ "id": 1, "token": self.configured[0] }, { "token": self.configured[0] }]);
                (http("200 OK", "", &records.to_string()), Then::Keep)
            }
            None if name == "limited" => {
                let text = json!({ "message": echo.request }).to_string();
                (http("429 Slow", "Retry-After: 86400\r\n", &text), Then::Keep)
            }
            None => (message("404 Not Found", &echo.request), Then::Keep),
        }
    }

    fn issue(&mut self) -> Vec<u8> {
        let number = self.issued.len();
        let token = canary(&format!("access{number}"), Place::Header);
        let refresh = canary(&format!("refresh{number}"), Place::Anywhere);
        self.issued.extend([token.clone(), refresh.clone()]);
        let answer = json!({ "access_token": token, "refresh_token": refresh, "expires_in": 3600 });
        http("200 OK", "", &answer.to_string())
    }
}

/// The head and the body of the next request, unless the other side has gone.
async fn read_request(socket: &mut TcpStream) -> Option<(String, String)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && !head.starts_with(TLS.as_bytes()) {
        head.push(socket.read_u8().await.ok()?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let lower = head.to_lowercase();
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
    socket.read_exact(&mut body).await.ok()?;
    Some((head, String::from_utf8_lossy(&body).into_owned()))
}
