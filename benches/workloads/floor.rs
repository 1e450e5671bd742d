//! The floor: what a perfect program that does one thing after the other would need. It fetches the same pages over one
//! connection and throws them away, and it inserts the same rows, typed in memory before, with one prepared upsert, 10,000
//! rows in a transaction, WAL and `synchronous=FULL`. Each is a process of its own, which says how long it took.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use rusqlite::Connection;

use crate::Result;
use crate::shapes::{self, Shape, Typed};

/// Fetches so many pages of a path, with so many records each, and throws them away; returns the seconds that it took.
pub(crate) fn fetch(url: &str, path: &str, pages: u64, rows: u64) -> Result<f64> {
    let started = Instant::now();
    let mut socket = TcpStream::connect(url.trim_start_matches("http://"))?;
    socket.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(1 << 16, socket.try_clone()?);
    let (mut line, mut body) = (String::new(), Vec::new());
    for page in 0..pages {
        write!(socket, "GET {path}?pages={pages}&rows={rows}&cursor=p{page} HTTP/1.1\r\nHost: floor\r\n\r\n")?;
        let mut length = 0;
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            if line == "\r\n" || line.is_empty() {
                break;
            }
        }
        body.resize(length, 0);
        reader.read_exact(&mut body)?;
    }
    Ok(started.elapsed().as_secs_f64())
}

/// Inserts so many rows into a new file; returns the seconds that it took.
pub(crate) fn insert(path: &Path, shape: Shape, rows: u64) -> Result<f64> {
    let rows: Vec<Typed> = (0..rows).map(|number| Typed::new(shape, number)).collect();
    let started = Instant::now();
    let connection = Connection::open(path)?;
    connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL")?;
    connection.execute_batch(&shapes::create_table(shape))?;
    let mut upsert = connection.prepare(&shapes::upsert(shape))?;
    for batch in rows.chunks(10_000) {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        for row in batch {
            row.insert(&mut upsert)?;
        }
        connection.execute_batch("COMMIT")?;
    }
    drop(upsert);
    Ok(started.elapsed().as_secs_f64())
}

/// Runs both halves as processes; returns their seconds.
pub(crate) fn run(url: &str, folder: &Path, shape: Shape, pages: u64) -> Result<(f64, f64)> {
    let name = match shape {
        Shape::Flat => "flat",
        Shape::Nested => "nested",
    };
    let file = folder.join("floor.db");
    let halves = [
        vec!["floor-fetch".to_owned(), url.to_owned(), name.to_owned(), pages.to_string()],
        vec!["floor-insert".to_owned(), file.display().to_string(), name.to_owned(), (pages * 100).to_string()],
    ];
    let mut seconds = [0.0; 2];
    for (half, seconds) in halves.iter().zip(&mut seconds) {
        let output = Command::new(std::env::current_exe()?).args(half).stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            return Err(format!("the floor ended with {}", output.status).into());
        }
        *seconds = String::from_utf8(output.stdout)?.trim().parse()?;
    }
    Ok((seconds[0], seconds[1]))
}
