//! Log lines with their fields for systemd's journal, in its own protocol (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).
//! `MESSAGE` is the line as text would be, fields included, so that `journalctl` shows all of it.

use std::fmt::{self, Write};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Where journald listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// A value is cut there: with all its fields a line stays far below what a datagram holds (some 200 KiB).
const VALUE_BYTES_MAX: usize = 16 << 10;

/// A journal that is stuck holds up the work no longer than this for a line, and then that line is lost.
const SEND_TIMEOUT: Duration = Duration::from_millis(200);

/// The journal.
#[derive(Debug)]
pub(super) struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Journal {
    /// The journal, if what is written to standard error ends there as well (systemd.exec(5), `$JOURNAL_STREAM`).
    pub(super) fn of_stderr() -> Option<Self> {
        let stream = std::env::var("JOURNAL_STREAM").ok()?;
        let stderr = rustix::fs::fstat(io::stderr()).ok()?;
        if !names(&stream, stderr.st_dev, stderr.st_ino) {
            return None;
        }
        Self::at(SOCKET.into()).ok()
    }

    fn at(path: PathBuf) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(SEND_TIMEOUT))?;
        // journald ignores an empty entry; without journald there is an error.
        socket.send_to(&[], &path)?;
        Ok(Self { socket, path })
    }
}

/// Whether `DEVICE:INODE` is this file.
fn names(stream: &str, device: u64, inode: u64) -> bool {
    stream.split_once(':').is_some_and(|(a, b)| a.parse() == Ok(device) && b.parse() == Ok(inode))
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // There is no one left to tell: standard error leads to the same journal.
        self.socket.send_to(&entry(event), &self.path).ok();
    }
}

/// A log line as journald reads it.
fn entry(event: &Event<'_>) -> Vec<u8> {
    let metadata = event.metadata();
    let mut line = Line::default();
    event.record(&mut line);
    let priority = match *metadata.level() {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    };
    let mut entry = line.fields;
    put(&mut entry, "MESSAGE", &(line.message + &line.rest));
    put(&mut entry, "PRIORITY", priority);
    put(&mut entry, "SYSLOG_IDENTIFIER", "highwater");
    put(&mut entry, "HIGHWATER_TARGET", metadata.target());
    entry
}

/// A value with its length in front: nothing in it can be taken for another field.
fn put(entry: &mut Vec<u8>, name: &str, value: &str) {
    let value = &value.as_bytes()[..value.floor_char_boundary(VALUE_BYTES_MAX)];
    entry.extend_from_slice(name.as_bytes());
    entry.push(b'\n');
    entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    entry.extend_from_slice(value);
    entry.push(b'\n');
}

/// What an event holds: its text, its fields as text, and its fields for the journal.
#[derive(Default)]
struct Line {
    message: String,
    rest: String,
    fields: Vec<u8>,
}

impl Line {
    fn add(&mut self, field: &Field, value: &str, shown: fmt::Arguments<'_>) {
        let name = field.name().trim_start_matches("r#");
        if name == "message" {
            self.message.push_str(value);
            return;
        }
        // Writing to a string cannot fail.
        write!(self.rest, " {name}={shown}").ok();
        let letters = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
        put(&mut self.fields, &"HIGHWATER_".chars().chain(letters).collect::<String>(), value);
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value, format_args!("{value:?}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let value = format!("{value:?}");
        self.add(field, &value, format_args!("{value}"));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::net::UnixDatagram;
    use std::time::Duration;

    use tracing_subscriber::Registry;
    use tracing_subscriber::layer::SubscriberExt;

    use super::{Journal, VALUE_BYTES_MAX, names};

    /// What journald would make of a datagram.
    fn read(journald: &UnixDatagram) -> BTreeMap<String, String> {
        journald.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut buffer = vec![0; 1 << 20];
        let length = journald.recv(&mut buffer).unwrap();
        let mut rest = &buffer[..length];
        let mut fields = BTreeMap::new();
        while !rest.is_empty() {
            let end = rest.iter().position(|&byte| byte == b'\n').unwrap();
            let name = String::from_utf8(rest[..end].to_vec()).unwrap();
            rest = &rest[end + 1..];
            let (length, value) = rest.split_first_chunk::<8>().unwrap();
            let length = usize::try_from(u64::from_le_bytes(*length)).unwrap();
            assert_eq!(value[length], b'\n');
            fields.insert(name, String::from_utf8(value[..length].to_vec()).unwrap());
            rest = &value[length + 1..];
        }
        fields
    }

    #[test]
    fn a_line_has_its_fields_and_its_message_shows_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let journald = UnixDatagram::bind(&path).unwrap();
        let subscriber = Registry::default().with(Journal::at(path.clone()).unwrap());
        tracing::subscriber::with_default(subscriber, || {
            let resource = crate::page::ResourceId::new("shop", "orders");
            tracing::warn!(%resource, page = 3, url = "/a b\nPRIORITY=0", r#type = ?Some(1), "trying {}", "again");
            tracing::error!("nothing\nbut text");
            tracing::info!(body = "é".repeat(VALUE_BYTES_MAX), "long");
        });
        let common = [("SYSLOG_IDENTIFIER", "highwater"), ("HIGHWATER_TARGET", "highwater::cli::journal::tests")];
        let expected = |fields: &[(&str, &str)]| -> BTreeMap<String, String> {
            fields.iter().chain(&common).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        assert_eq!(read(&journald), BTreeMap::new());
        assert_eq!(
            read(&journald),
            expected(&[
                ("MESSAGE", "trying again resource=shop.orders page=3 url=\"/a b\\nPRIORITY=0\" type=Some(1)"),
                ("PRIORITY", "4"),
                ("HIGHWATER_RESOURCE", "shop.orders"),
                ("HIGHWATER_PAGE", "3"),
                ("HIGHWATER_URL", "/a b\nPRIORITY=0"),
                ("HIGHWATER_TYPE", "Some(1)"),
            ])
        );
        assert_eq!(read(&journald), expected(&[("MESSAGE", "nothing\nbut text"), ("PRIORITY", "3")]));
        let long = read(&journald);
        assert_eq!((long["PRIORITY"].as_str(), long["HIGHWATER_BODY"].len()), ("6", VALUE_BYTES_MAX));
    }

    #[test]
    fn a_journal_that_is_gone_ends_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        assert!(Journal::at(path.clone()).is_err());
        let journald = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::at(path.clone()).unwrap();
        drop(journald);
        tracing::subscriber::with_default(Registry::default().with(journal), || tracing::error!("into the void"));
    }

    #[test]
    fn the_journal_is_meant_only_where_standard_error_is_its_stream() {
        for (stream, meant) in
            [("8:1234", true), ("8:123", false), ("9:1234", false), ("8", false), ("", false), ("8:1234:", false)]
        {
            assert_eq!(names(stream, 8, 1234), meant, "{stream}");
        }
    }
}
