//! Bodies that would fill any memory: what the process takes is measured from outside, against what it takes for a page
//! with one record, and what the server could send before it was cut off is counted.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::memory::{MIB, peak};
use crate::support::{PATIENCE, Running, Workspace};

/// What an endless answer would come to.
const ENDLESS_BYTES: u64 = 10_000_000_000;
/// What the gzip bomb unpacks to.
const BOMB_BYTES: usize = 300_000_000;
/// What one bad answer may cost beside what the process takes anyway.
const ALLOWED_BYTES: u64 = 64_000_000;

/// A server whose answers do not end: the last part of the path says which kind it is.
struct Flood {
    address: SocketAddr,
    /// Bytes that it could get rid of.
    sent: Arc<AtomicU64>,
    _runtime: Runtime,
}

/// What is sent, and what after it again and again.
struct Answer {
    first: Vec<u8>,
    again: Vec<u8>,
}

fn answer(head: &str, first: &[u8], again: impl Into<Vec<u8>>) -> Answer {
    Answer { first: [format!("HTTP/1.1 {head}\r\n").as_bytes(), first].concat(), again: again.into() }
}

/// A piece of a body whose end is never said.
fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A gzip file of many members, each of them a mebibyte of spaces.
fn bomb() -> Vec<u8> {
    let member = gzip(&vec![b' '; MIB as usize]);
    [gzip(b"["), member.repeat(BOMB_BYTES / MIB as usize)].concat()
}

const CHUNKED: &str = "Transfer-Encoding: chunked\r\n\r\n";

fn answer_of(kind: &str) -> Answer {
    let records = |record: &str| chunk(record.repeat(64 << 10).as_bytes());
    let sized = |body: &[u8], headers: &str| {
        [format!("{headers}Content-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
    };
    let endless = |head: &str, first: &[u8], again: Vec<u8>| answer(head, &[CHUNKED.as_bytes(), first].concat(), again);
    match kind {
        "json" => endless("200 OK", &chunk(b"[{\"id\":0}"), records(",{\"id\":1}")),
        "jsonl" => endless("200 OK", b"", records("{\"id\":1}\n")),
        "csv" => endless("200 OK", &chunk(b"id,name\n"), records("1,a\n")),
        "xml" => endless("200 OK", &chunk(b"<a>"), records("<b><id>1</id></b>")),
        "text" => endless("200 OK", &chunk(b"[\""), records("x")),
        "unframed" => answer("200 OK", b"\r\n[", vec![b' '; 64 << 10]),
        "headers" => answer("200 OK", b"", b"X-A: b\r\n".repeat(1 << 10)),
        "header" => answer("200 OK", b"X-A: ", vec![b'x'; 64 << 10]),
        "error" => endless("500 Oh", &chunk(b"{\"message\":\""), records("x")),
        "refused" => endless("401 No", &chunk(b"{\"message\":\""), records("x")),
        "token" => endless("200 OK", &chunk(b"{\"access_token\":\""), records("x")),
        "gzip" => answer("200 OK", &sized(&bomb(), "Content-Encoding: gzip\r\n"), b""),
        "gzip_file" => answer("200 OK", &sized(&bomb(), ""), b""),
        "gzip_twice" => answer("200 OK", &sized(&gzip(&bomb()), "Content-Encoding: gzip\r\n"), b""),
        "gzip_endless" => {
            let member = gzip(&vec![b' '; MIB as usize]);
            endless("200 OK", &chunk(&gzip(b"[")), chunk(&member)).with("Content-Encoding: gzip\r\n")
        }
        "tiny" => answer("200 OK", &sized(b"[{\"id\":1}]", ""), b""),
        other => panic!("there is no {other}"),
    }
}

impl Answer {
    /// With one more header.
    fn with(mut self, header: &str) -> Self {
        let end = self.first.windows(2).position(|window| window == b"\r\n").unwrap() + 2;
        self.first.splice(end..end, header.bytes());
        self
    }
}

impl Flood {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let sent: Arc<AtomicU64> = Arc::default();
        let count = Arc::clone(&sent);
        runtime.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                connections.spawn(flood(socket, Arc::clone(&count)));
            }
        });
        Self { address, sent, _runtime: runtime }
    }
}

async fn flood(mut socket: TcpStream, sent: Arc<AtomicU64>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = socket.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split([' ', '?']).nth(1).unwrap();
    let Answer { first, again } =
        answer_of(path.rsplit('/').next().unwrap().trim_end_matches(|c: char| c.is_ascii_digit()));
    let mut piece = &first;
    let mut so_far = 0;
    while so_far < ENDLESS_BYTES && socket.write_all(piece).await.is_ok() {
        so_far += piece.len() as u64;
        sent.fetch_add(piece.len() as u64, Ordering::SeqCst);
        if again.is_empty() {
            break;
        }
        piece = &again;
    }
}

/// The most memory that a daemon with this configuration has taken when all its resources were read, and what was said of
/// the reads.
fn peak_of(flood: &Flood, config: &str, resources: usize) -> (u64, Vec<String>) {
    let head = "[web]\nlisten = \"off\"\n[sources.s]\nevery = \"1h\"\n[sources.s.client]\nbase_url = \"BASE\"\n\
                retry = { max_attempts = 1 }\npaginator = { type = \"single_page\" }\n";
    let workspace = Workspace::with_config(flood.address, &format!("{head}{config}"));
    let daemon = Running::start(workspace.command(&["serve"]));
    let database = workspace.path("highwater.db");
    let ended = || -> Option<Vec<String>> {
        let db = rusqlite::Connection::open_with_flags(&database, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
        let sql = "SELECT outcome || ': ' || coalesce(error, '') FROM _hw_runs WHERE outcome <> 'running'";
        let mut statement = db.prepare(sql).ok()?;
        statement.query_map([], |row| row.get(0)).ok()?.collect::<Result<_, _>>().ok()
    };
    let started = Instant::now();
    let said = loop {
        match ended() {
            Some(said) if said.len() >= resources => break said,
            _ => assert!(started.elapsed() < PATIENCE, "the reads do not end"),
        }
        std::thread::park_timeout(std::time::Duration::from_millis(10));
    };
    let peak = peak(daemon.id());
    daemon.signal(Signal::KILL);
    daemon.finish();
    (peak, said)
}

fn resource(name: &str, more: &str) -> String {
    format!("[sources.s.resources.{name}]\n{more}\n")
}

#[test]
fn b06_b07_a_bomb_and_an_endless_body_cost_little_memory_whatever_they_are_made_of() {
    let flood = Flood::start();
    let (idle, said) = peak_of(&flood, &resource("tiny", ""), 1);
    assert_eq!(said, ["complete: "]);
    let limit = "larger than `max_page_bytes`";
    let cases = [
        ("gzip", "", limit),
        ("gzip_file", "", limit),
        ("gzip_twice", "", limit),
        ("gzip_endless", "", limit),
        ("json", "", limit),
        ("jsonl", "format = \"jsonl\"", limit),
        ("csv", "format = \"csv\"", limit),
        ("xml", "format = \"xml\"\nxml_record_path = \"a.b\"", limit),
        ("text", "", limit),
        ("unframed", "", limit),
        ("headers", "", "does not answer in valid HTTP"),
        ("header", "", "does not answer in valid HTTP"),
        ("error", "", "answered 500"),
        ("refused", "", "answered 401"),
    ];
    for (name, more, reason) in cases {
        let before = flood.sent.load(Ordering::SeqCst);
        let (peak, said) = peak_of(&flood, &resource(name, more), 1);
        let sent = flood.sent.load(Ordering::SeqCst) - before;
        let over = peak.saturating_sub(idle);
        println!(
            "{name}: {} MB over idle ({} MB), {:.1} MB sent",
            over / 1_000_000,
            idle / 1_000_000,
            sent as f64 / 1e6
        );
        assert!(said[0].starts_with("failed: ") && said[0].contains(reason), "{name}: {said:?}");
        assert!(over < ALLOWED_BYTES, "{name}: {over} bytes over idle");
        assert!(sent < 2 * ALLOWED_BYTES, "{name}: {sent} bytes were taken");
    }
}

#[test]
fn b06_b07_many_bombs_at_once_stay_within_channel_bytes_and_one_page_more() {
    let flood = Flood::start();
    let (idle, _) = peak_of(&flood, &resource("tiny", ""), 1);
    let each = |n: usize| resource(&format!("{}{n}", if n.is_multiple_of(2) { "gzip" } else { "json" }), "");
    let config: String = (0..16).map(each).collect();
    let (peak, said) = peak_of(&flood, &config, 16);
    let over = peak.saturating_sub(idle);
    println!("16 at once: {} MB over idle ({} MB)", over / 1_000_000, idle / 1_000_000);
    assert!(said.iter().all(|said| said.contains("larger than `max_page_bytes`")), "{said:#?}");
    // `channel_bytes` and `max_page_bytes` as they are by default, and what eight of them unpack at a time.
    assert!(over < (64 + 32 + 16) * MIB, "{over} bytes over idle");
}

#[test]
fn b07_an_endless_answer_to_a_request_for_a_token_costs_little_memory() {
    let flood = Flood::start();
    let (idle, _) = peak_of(&flood, &resource("tiny", ""), 1);
    let auth = "auth = { type = \"oauth2_refresh_token\", access_token_url = \"BASEtoken\", client_id = \"me\", \
                refresh_token = \"${file:FILE}\" }\n";
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "secret").unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let config = format!("{}{}", auth.replace("FILE", secret.to_str().unwrap()), resource("tiny", ""));
    let (peak, said) = peak_of(&flood, &config, 1);
    let sent = flood.sent.load(Ordering::SeqCst);
    println!("token: {} MB over idle, {:.1} MB sent", peak.saturating_sub(idle) / 1_000_000, sent as f64 / 1e6);
    assert!(said[0].contains("gave no credentials: its answer is too long"), "{said:?}");
    assert!(peak.saturating_sub(idle) < 16 * MIB && sent < ALLOWED_BYTES, "{peak} {idle} {sent}");
}
