//! Who looks at the status page: single questions, and windows that listen to events and are closed again.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::PATIENCE;

pub(super) const TOKEN: &str = "a-token-for-this-test-alone";

/// The address of a status page.
#[derive(Clone, Debug)]
pub(super) struct Page(pub(super) String);

impl Page {
    fn send(&self, request: &str, more: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.0).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "{request} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 0\r\n{more}\r\n",
            self.0
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream
    }

    /// The body of an answer, which has to be a good one.
    pub(super) fn ask(&self, request: &str) -> String {
        let mut text = String::new();
        self.send(request, "Connection: close\r\n").read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 "), "{request}: {text}");
        text.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    /// A window that has heard the first event; none where too many are open.
    pub(super) fn listen(&self) -> Option<TcpStream> {
        let mut stream = self.send("GET /events", "");
        let mut text = Vec::new();
        while !text.ends_with(b"data: ") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            text.push(byte[0]);
            if text.starts_with(b"HTTP/1.1 503") {
                return None;
            }
        }
        Some(stream)
    }

    /// The metrics, by name and labels.
    pub(super) fn metrics(&self) -> BTreeMap<String, f64> {
        let text = self.ask("GET /metrics");
        let lines = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
        lines.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect()
    }
}
