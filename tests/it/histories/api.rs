//! The API of a history: records that change, pages of them, and a log of what was served.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::Request;
use axum::response::Response;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::dice::Dice;
use super::shape::{Order, Paging, Shape};
use crate::support::respond;

/// A version of a record.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    pub(super) id: i64,
    /// Its cursor.
    pub(super) at: Option<i64>,
    /// Its cursor as it is written.
    pub(super) text: Value,
    /// No two versions of anything have the same.
    pub(super) revision: i64,
}

/// The records of one partition.
#[derive(Clone, Debug, Default)]
pub(super) struct Part {
    pub(super) records: Vec<Record>,
    /// Counts the changes.
    pub(super) version: u64,
    /// The highest cursor there ever was.
    pub(super) highest: i64,
}

/// A request and what was answered.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) part: usize,
    pub(super) target: String,
    pub(super) position: Position,
    pub(super) since: Option<i64>,
    pub(super) until: Option<i64>,
    pub(super) status: u16,
    pub(super) served: Vec<Record>,
    /// Where the next page is, for a page that is not the last.
    pub(super) next: Option<Position>,
    /// Everything there was.
    pub(super) all: Vec<Record>,
    pub(super) version: u64,
}

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}:", self.status, self.target)?;
        for record in &self.served {
            write!(f, " {}#{} at {} ({:?})", record.id, record.revision, record.text, record.at)?;
        }
        write!(f, " then {:?}", self.next)
    }
}

/// Where a page is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Position {
    First,
    Number(usize),
    /// Behind a record: its cursor and its id.
    Behind(i64, i64),
}

/// What happens to the requests of a run.
#[derive(Clone, Debug, Default)]
pub(super) struct Trouble {
    /// From this request on, everything fails; or everything of one partition.
    pub(super) fails_from: Option<usize>,
    pub(super) fails_part: Option<usize>,
    /// At this request the run is told to stop.
    pub(super) stops_at: Option<usize>,
    /// The next position that is asked for is not known any more.
    pub(super) expires: bool,
    /// After these requests, records change.
    pub(super) drifts: Vec<usize>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) shape: Shape,
    pub(super) parts: Vec<Part>,
    pub(super) trouble: Trouble,
    pub(super) log: Vec<Asked>,
    pub(super) stop: CancellationToken,
    pub(super) dice: Dice,
    last_revision: i64,
    last_id: i64,
}

/// The API, which serves one history after the other.
#[derive(Clone, Debug)]
pub(super) struct Api {
    pub(super) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Api {
    #[expect(clippy::disallowed_methods, reason = "the task ends with its runtime")]
    pub(super) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut dice = Dice(0);
        let state = Arc::new(Mutex::new(State::new(Shape::any(&mut dice), dice)));
        let api = Self { address, state: Arc::clone(&state) };
        let app = axum::Router::new().fallback(move |request: Request| {
            let answer = lock(&state).answer(&request.uri().path_and_query().unwrap().to_string());
            async move { answer }
        });
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        api
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    pub(super) fn new(shape: Shape, dice: Dice) -> Self {
        let part = Part { highest: shape.base, ..Part::default() };
        Self {
            parts: vec![part; shape.partitions],
            shape,
            dice,
            trouble: Trouble::default(),
            log: Vec::new(),
            stop: CancellationToken::new(),
            last_revision: 0,
            last_id: 0,
        }
    }

    /// Changes a record of a partition, or adds one.
    pub(super) fn change(&mut self, part: usize) {
        let (dice, shape) = (&mut self.dice, &self.shape);
        let part = &mut self.parts[part];
        let lag = shape.incremental.as_ref().map_or(0, |incremental| incremental.lag);
        let has_missing = shape.incremental.as_ref().is_some_and(|incremental| incremental.missing.is_some());
        self.last_revision += 1;
        let kind = dice.below(100);
        let is_old = kind >= 55 && !part.records.is_empty();
        let at = match kind {
            // At the very moment of the last one, or later.
            0..18 => Some(part.highest),
            18..40 | 55..85 => Some(part.highest + dice.range(0, 4) * shape.stride * shape.unit),
            // Late, but not too late.
            40..52 => Some((part.highest - dice.range(0, lag / shape.unit + 1) * shape.unit).max(shape.base)),
            52..55 => Some(shape.base + dice.range(0, (part.highest - shape.base) / shape.unit + 1) * shape.unit),
            _ => None,
        };
        let at = at.map(|at| clipped(shape, at));
        let old = is_old.then(|| dice.below(part.records.len() as u64) as usize);
        let (at, text) = match (at, old) {
            // Another value, and nothing that tells of it.
            (None, Some(old)) => (part.records[old].at, part.records[old].text.clone()),
            (at, _) => {
                let at = at.unwrap_or(part.highest);
                if has_missing && dice.chance(8) {
                    (None, Value::Null)
                } else {
                    let format = shape.incremental.as_ref().map_or(super::shape::Format::Integer, |i| i.format);
                    (Some(at), format.write(at, dice.next()))
                }
            }
        };
        part.highest = part.highest.max(at.unwrap_or(part.highest));
        part.version += 1;
        let revision = self.last_revision;
        match old {
            Some(old) => part.records[old] = Record { at, text, revision, ..part.records[old] },
            None => {
                self.last_id += 1;
                part.records.push(Record { id: self.last_id, at, text, revision });
            }
        }
    }

    fn answer(&mut self, target: &str) -> Response {
        let url = url::Url::parse(&format!("http://x{target}")).unwrap();
        let param = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        let number = self.log.len();
        let part = param("part").map_or(0, |part| part.parse().unwrap());
        let format = self.shape.incremental.as_ref().map(|incremental| incremental.format);
        let point = |name: &str| param(name).map(|text| format.unwrap().read(&text));
        let position = match self.shape.paging {
            Paging::Page => param("page").map_or(Position::Number(1), |page| Position::Number(page.parse().unwrap())),
            Paging::Offset => Position::Number(param("offset").unwrap().parse().unwrap()),
            Paging::Token => param("token").map_or(Position::First, |token| {
                let (at, id) = token.split_once('_').unwrap();
                Position::Behind(at.parse().unwrap(), id.parse().unwrap())
            }),
        };
        let position = if position == self.first() { Position::First } else { position };
        let mut asked = Asked {
            part,
            target: target.to_owned(),
            since: point("since"),
            until: point("until"),
            position,
            status: 200,
            served: Vec::new(),
            next: None,
            all: self.parts[part].records.clone(),
            version: self.parts[part].version,
        };
        if self.trouble.stops_at == Some(number) {
            self.stop.cancel();
        }
        let fails = self.trouble.fails_from.is_some_and(|from| number >= from)
            && self.trouble.fails_part.is_none_or(|failing| failing == part);
        let response = if fails {
            asked.status = 500;
            respond(500, &[], "")
        } else if self.trouble.expires && asked.position != Position::First {
            self.trouble.expires = false;
            asked.status = 410;
            respond(410, &[], "")
        } else {
            self.page(&mut asked)
        };
        self.log.push(asked);
        if self.trouble.drifts.contains(&number) {
            for _ in 0..self.dice.range(1, 4) {
                let part = self.dice.below(self.parts.len() as u64) as usize;
                self.change(part);
            }
        }
        response
    }

    fn first(&self) -> Position {
        match self.shape.paging {
            Paging::Page => Position::Number(1),
            Paging::Offset => Position::Number(0),
            Paging::Token => Position::First,
        }
    }

    fn page(&self, asked: &mut Asked) -> Response {
        let (shape, size) = (&self.shape, self.shape.size);
        let is_end_inclusive = shape.incremental.as_ref().is_some_and(|incremental| incremental.is_end_inclusive);
        let mut found = asked.all.clone();
        found.retain(|record| {
            let Some(at) = record.at else { return true };
            asked.since.is_none_or(|since| at >= since)
                && asked.until.is_none_or(|until| if is_end_inclusive { at <= until } else { at < until })
        });
        let place = |record: &Record| match shape.sorts {
            Some(Order::Asc) => (record.at.unwrap_or(i64::MIN), record.id),
            Some(Order::Desc) => (-record.at.unwrap_or(i64::MAX), -record.id),
            None => (0, record.id),
        };
        found.sort_by_key(place);
        let skipped = match asked.position {
            Position::First => 0,
            Position::Number(page) if shape.paging == Paging::Page => (page - 1) * size,
            Position::Number(offset) => offset,
            Position::Behind(at, id) => found.iter().filter(|record| place(record) <= (at, id)).count(),
        };
        asked.served = found.iter().skip(skipped).take(size).cloned().collect();
        let more = skipped + size < found.len();
        let next = match (shape.paging, &asked.position) {
            (Paging::Page, Position::Number(page)) => Position::Number(page + 1),
            (Paging::Page, _) => Position::Number(2),
            (Paging::Offset, Position::Number(offset)) => Position::Number(offset + asked.served.len()),
            (Paging::Offset, _) => Position::Number(asked.served.len()),
            (Paging::Token, _) => match asked.served.last().map(place) {
                Some((at, id)) => Position::Behind(at, id),
                None => Position::First,
            },
        };
        let goes_on = if shape.has_more || shape.paging == Paging::Token { more } else { !asked.served.is_empty() };
        let mut body = json!({"items": asked.served.iter().map(Record::json).collect::<Vec<_>>()});
        if shape.has_more {
            body["more"] = json!(more);
        }
        if let Position::Behind(at, id) = &next
            && goes_on
        {
            body["next"] = json!(format!("{at}_{id}"));
        }
        asked.next = goes_on.then_some(next);
        crate::support::json(body)
    }
}

impl Record {
    fn json(&self) -> Value {
        json!({"id": self.id, "at": self.text, "revision": self.revision})
    }
}

/// Nothing is dated ahead of the clock.
fn clipped(shape: &Shape, at: i64) -> i64 {
    match shape.incremental.as_ref().map(|incremental| incremental.limit) {
        Some(super::shape::Limit::Clock) => at.min(shape.base + 5 * 3_600_000),
        _ => at,
    }
}
