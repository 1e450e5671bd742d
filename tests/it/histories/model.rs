//! What has to be in the file, by what the API served and what the contract promises. It shares nothing with the code
//! that it judges: it sees requests, answers, and how many pages of a partition a run has committed.

use std::collections::{BTreeMap, BTreeSet};

use super::api::{Asked, Position, Record};
use super::shape::{Disposition, Incremental, Limit, Order, Shape};

/// A row: its id, its revision, and its cursor as text.
pub(super) type Row = (i64, i64, Option<String>);

/// What is to be said of a resource.
#[derive(Debug)]
pub(super) struct Model {
    shape: Shape,
    parts: Vec<PartModel>,
    reads: u64,
    /// The rows of a replaced table that are to be seen.
    shown: Vec<Row>,
    pass: Option<i64>,
}

#[derive(Debug, Default)]
struct PartModel {
    cursor: Option<i64>,
    open: Option<OpenRead>,
    /// The end of the window before, in a run where another one follows.
    follows: Option<i64>,
    /// Read to its end in this pass.
    is_done: bool,
    /// What the reads that count have served, where rows are not told apart by their key.
    reads: Vec<Served>,
    /// The last version received of each record, where they are.
    merged: BTreeMap<i64, Row>,
    /// The revisions that were there the last time that anyone looked.
    known: BTreeMap<i64, i64>,
    /// Records of which nobody can say whether the API will ever serve them.
    uncertain: BTreeSet<i64>,
    /// The records when the last read ended, if nothing changed during it.
    settled: Option<Vec<Record>>,
}

#[derive(Debug)]
struct Served {
    read: u64,
    rows: Vec<(Row, Option<i64>)>,
}

#[derive(Clone, Debug)]
struct OpenRead {
    number: u64,
    since: Option<i64>,
    until: Option<i64>,
    start: Option<i64>,
    end: Option<i64>,
    goes_on: bool,
    next: Position,
    highest: Option<i64>,
    first_version: u64,
    has_drifted: bool,
    served: BTreeSet<(i64, i64)>,
    /// Its position is of no more use.
    is_lost: bool,
    /// The API did not take its position in this run.
    has_expired: bool,
}

/// What a run left, as far as the model is told.
#[derive(Debug, Default)]
pub(super) struct Ran {
    pub(super) pass: i64,
    pub(super) is_complete: bool,
    /// URL and number of records of each page, by partition.
    pub(super) pages: BTreeMap<usize, Vec<(String, usize)>>,
    /// Partitions whose position was given up.
    pub(super) abandoned: BTreeSet<usize>,
    /// The clock before and after, in milliseconds.
    pub(super) clock: (i64, i64),
}

impl OpenRead {
    fn is_gone(&self) -> bool {
        self.is_lost || self.has_expired
    }
}

impl Model {
    pub(super) fn new(shape: &Shape) -> Self {
        let parts = (0..shape.partitions).map(|_| PartModel::default()).collect();
        Self { shape: shape.clone(), parts, reads: 0, shown: Vec::new(), pass: None }
    }

    /// Looks at what has changed in a partition while nothing was read of it.
    pub(super) fn notice(&mut self, part: usize, records: &[Record]) {
        let lag = self.lag();
        let part = &mut self.parts[part];
        for record in records {
            if part.known.insert(record.id, record.revision) == Some(record.revision) {
                continue;
            }
            let is_late = is_below(record, part.cursor.map(|cursor| cursor - lag));
            if part.open.is_some() || is_late {
                part.uncertain.insert(record.id);
            } else {
                part.uncertain.remove(&record.id);
            }
        }
    }

    /// What is under way has become too old to be gone on with.
    pub(super) fn age(&mut self) {
        self.parts.iter_mut().filter_map(|part| part.open.as_mut()).for_each(|open| open.is_lost = true);
    }

    /// Whether a read is under way.
    pub(super) fn is_under_way(&self) -> bool {
        self.parts.iter().any(|part| part.open.is_some())
    }

    /// The cursor of each partition.
    pub(super) fn cursors(&self) -> Vec<Option<i64>> {
        self.parts.iter().map(|part| part.cursor).collect()
    }

    /// A run has ended, and this is what the API was asked during it.
    pub(super) fn ran(&mut self, ran: &Ran, log: &[Asked]) {
        if self.pass.replace(ran.pass) != Some(ran.pass) {
            for part in &mut self.parts {
                part.is_done = false;
                if self.shape.disposition == Disposition::Replace {
                    part.reads.clear();
                    part.open.iter_mut().for_each(|open| open.is_lost = true);
                }
            }
        }
        for part in 0..self.parts.len() {
            let asked: Vec<&Asked> = log.iter().filter(|asked| asked.part == part).collect();
            let pages = ran.pages.get(&part).map_or(&[][..], Vec::as_slice);
            self.parts[part].follows = None;
            self.part_ran(part, &asked, pages, ran);
        }
        if !ran.is_complete {
            return;
        }
        for (number, part) in self.parts.iter_mut().enumerate() {
            let has_ended = part.open.is_none() && has_ended(&self.shape, part.cursor);
            assert!(part.is_done || has_ended, "partition {number} was not read to its end");
        }
        self.pass = None;
        if self.shape.disposition == Disposition::Replace {
            let rows = self.parts.iter().flat_map(|part| &part.reads).flat_map(|read| &read.rows);
            self.shown = rows.map(|(row, _)| row.clone()).collect();
            if self.shape.is_keyed {
                let last: BTreeMap<i64, Row> = self.shown.drain(..).map(|row| (row.0, row)).collect();
                self.shown = last.into_values().collect();
            }
            self.shown.sort();
        }
    }

    fn part_ran(&mut self, part: usize, log: &[&Asked], pages: &[(String, usize)], ran: &Ran) {
        let mut committed = 0;
        let mut is_refuted = false;
        // What was refused and not replaced since is tried once more; but a sorted read goes on at its cursor.
        let goes_on_at_cursor = log.first().is_some_and(|first| self.goes_on_at_cursor(part, first));
        self.parts[part].open.iter_mut().for_each(|open| open.has_expired = goes_on_at_cursor);
        for (number, asked) in log.iter().enumerate() {
            self.check_place(part, asked, ran.clock);
            let open = self.parts[part].open.as_ref().filter(|open| !open.is_gone());
            let breaks_order = asked.status == 200
                && is_sorted(&self.shape)
                && open.is_some_and(|open| has_lower(asked, open.highest.map(|highest| highest - self.lag())));
            match asked.status {
                // Records have moved across the position: nothing of the page counts.
                200 if breaks_order && number == 0 => {
                    is_refuted = true;
                    self.parts[part].open.iter_mut().for_each(|open| open.has_expired = true);
                }
                200 if breaks_order => {
                    assert_eq!(
                        number + 1,
                        log.len(),
                        "partition {part}: it went on behind a page that is out of order"
                    );
                    is_refuted = true;
                }
                200 if committed < pages.len() => {
                    let (url, received) = &pages[committed];
                    assert!(url.ends_with(&asked.target), "page {committed} is {url}, and {} was served", asked.target);
                    assert_eq!(*received, asked.served.len(), "records of {url}");
                    committed += 1;
                    self.take(part, asked, ran.clock);
                }
                // The last one may have come too late for a run that was told to stop, or is not to be believed.
                200 => {
                    assert_eq!(number + 1, log.len(), "partition {part}: a page in the middle was not stored");
                    is_refuted = number > 0 && is_same(self.shape.is_keyed, &log[number - 1].served, &asked.served);
                }
                410 => {
                    is_refuted = number > 0;
                    self.parts[part].open.as_mut().expect("only positions expire").has_expired = true;
                }
                _ => {}
            }
        }
        assert_eq!(committed, pages.len(), "partition {part}: pages that were never served are stored");
        if ran.abandoned.contains(&part)
            && let Some(open) = &mut self.parts[part].open
        {
            assert!(is_refuted || open.is_lost, "partition {part} was given up, and nobody knows why");
            open.is_lost = true;
        }
    }

    /// Whether a read of a sorted resource goes on at its cursor, and not at its position.
    fn goes_on_at_cursor(&self, number: usize, first: &Asked) -> bool {
        let part = &self.parts[number];
        let filters = self.shape.incremental.as_ref().is_some_and(|incremental| incremental.filters);
        let goes_on = filters && is_sorted(&self.shape) && part.open.as_ref().is_some_and(|open| !open.is_lost);
        assert!(!goes_on || first.position == Position::First, "partition {number}: not at its cursor");
        goes_on
    }

    /// Whether this is where the read had to go on, or to begin.
    fn check_place(&self, number: usize, asked: &Asked, clock: (i64, i64)) {
        let part = &self.parts[number];
        if let Some(open) = part.open.as_ref().filter(|open| !open.is_gone()) {
            assert_eq!(
                (&asked.position, asked.since, asked.until),
                (&open.next, open.since, open.until),
                "partition {number} has to go on at the very next page"
            );
            return;
        }
        assert_eq!(asked.position, Position::First, "partition {number} has to begin a read");
        assert!(!part.is_done, "partition {number} is read twice in a pass");
        self.check_range(part, asked, clock);
    }

    /// Whether a read asks for all that may be new, and for no more.
    fn check_range(&self, part: &PartModel, asked: &Asked, clock: (i64, i64)) {
        let Some(incremental) = self.shape.incremental.as_ref().filter(|incremental| incremental.filters) else {
            return;
        };
        // What is written to the second begins up to a second earlier.
        let slack = if incremental.lag > 0 && self.shape.unit > 1 { 999 } else { 0 };
        match (asked.since, start_at(incremental, part.cursor)) {
            (since, Some(_)) if part.follows.is_some() => assert_eq!(since, part.follows, "the next window"),
            (Some(since), Some(start)) => {
                assert!(since <= start && since >= start - slack, "starts at {since}, and not at {start}");
            }
            (since, start) => assert_eq!(since, start, "the start of a read"),
        }
        let Some(end) = sent_end(&self.shape, asked.until) else {
            return assert_eq!(incremental.limit, Limit::None, "a read without an end");
        };
        let step_end = incremental.step.zip(asked.since).map(|(step, since)| since + step);
        match incremental.limit {
            Limit::End(limit) => {
                assert!(asked.since.is_none_or(|since| since < limit), "there is nothing left to ask for");
                assert_eq!(end, step_end.map_or(limit, |step_end| step_end.min(limit)), "the end of a read");
            }
            Limit::Clock if step_end == Some(end) => assert!(end <= clock.1, "a window ahead of the clock"),
            Limit::Clock => assert!(end >= clock.0 - 1999 && end <= clock.1, "{end} is not the clock: {clock:?}"),
            Limit::None => panic!("an end, where there is none"),
        }
    }

    fn begin(&mut self, part: usize, asked: &Asked, clock: (i64, i64)) {
        let shape = &self.shape;
        let model = &mut self.parts[part];
        if let Some(lost) = model.open.take() {
            if !is_sorted(shape) {
                model.reads.retain(|read| read.read != lost.number);
            }
            // Where the cursor has moved with its pages, what it has passed over is not asked for again.
            let from = model.cursor.map(|cursor| cursor - lag(shape));
            let passed = asked.all.iter().filter(|record| {
                is_below(record, from) && !is_below(record, lost.start) && !lost.served.contains(&version(record))
            });
            model.uncertain.extend(passed.map(|record| record.id));
        }
        if shape.disposition == Disposition::Replace {
            model.reads.clear();
        }
        self.reads += 1;
        let incremental = shape.incremental.as_ref();
        let start = asked.since.or_else(|| start_at(incremental?, model.cursor));
        let sent = sent_end(shape, asked.until);
        let step_end =
            incremental.and_then(|incremental| incremental.step).zip(start).map(|(step, start)| start + step);
        let (end, goes_on) = match incremental.map(|incremental| incremental.limit) {
            Some(Limit::End(limit)) => (Some(sent.unwrap_or(limit)), step_end.is_some_and(|end| end < limit)),
            Some(Limit::Clock) => (sent, step_end == sent && sent.is_some_and(|end| end < clock.0)),
            _ => (None, false),
        };
        model.follows = None;
        model.reads.push(Served { read: self.reads, rows: Vec::new() });
        model.open = Some(OpenRead {
            number: self.reads,
            since: asked.since,
            until: asked.until,
            start,
            end,
            goes_on,
            next: Position::First,
            highest: None,
            first_version: asked.version,
            has_drifted: false,
            served: BTreeSet::new(),
            is_lost: false,
            has_expired: false,
        });
    }

    /// A page is stored.
    fn take(&mut self, part: usize, asked: &Asked, clock: (i64, i64)) {
        if self.parts[part].open.as_ref().is_none_or(OpenRead::is_gone) {
            self.begin(part, asked, clock);
        }
        let shape = &self.shape;
        let model = &mut self.parts[part];
        let open = model.open.as_mut().expect("it has begun");
        open.has_drifted |= asked.version != open.first_version;
        let is_append = shape.disposition == Disposition::Append;
        let keeps_missing = shape.incremental.as_ref().is_none_or(|incremental| incremental.missing != Some(false));
        for record in &asked.served {
            open.served.insert(version(record));
            let is_behind = open.end.is_some_and(|end| record.at.is_some_and(|at| at >= end));
            if is_behind || record.at.is_none() && !keeps_missing {
                continue;
            }
            open.highest = open.highest.max(record.at);
            if is_append && is_below(record, open.start) {
                continue;
            }
            if shape.disposition == Disposition::Merge {
                model.merged.insert(record.id, row(record));
            } else {
                let read = model.reads.iter_mut().find(|read| read.read == open.number).expect("it has begun");
                read.rows.push((row(record), record.at));
            }
        }
        if is_sorted(shape) {
            model.cursor = model.cursor.max(open.highest);
        }
        let is_older = |record: &Record| record.at.is_some() && is_below(record, open.start);
        let is_wholly_older = is_newest_first(shape) && !asked.served.is_empty() && asked.served.iter().all(is_older);
        match &asked.next {
            Some(next) if !is_wholly_older => open.next = next.clone(),
            _ => self.end_read(part, asked),
        }
    }

    fn end_read(&mut self, part: usize, asked: &Asked) {
        let shape = &self.shape;
        let model = &mut self.parts[part];
        let open = model.open.take().expect("it has begun");
        if let Some(incremental) = &shape.incremental {
            let after = if incremental.step.is_some() && (open.goes_on || incremental.limit != Limit::Clock) {
                open.end
            } else {
                open.highest
            };
            model.cursor = model.cursor.max(after).max(open.highest);
        }
        model.follows = open.end.filter(|_| open.goes_on);
        model.is_done = !open.goes_on;
        // What is before this is not asked for again. Between windows nothing lags.
        let lag = if open.goes_on { 0 } else { lag(shape) };
        let from = model.cursor.map(|cursor| cursor - lag);
        for record in &asked.all {
            let is_inside =
                !is_below(record, open.start) && open.end.is_none_or(|end| record.at.is_none_or(|at| at < end));
            let is_served = open.served.contains(&version(record));
            assert!(
                is_served || !is_inside || open.has_drifted,
                "the read has ended, and {record:?} was never asked for"
            );
            let has_changed = model.known.insert(record.id, record.revision) != Some(record.revision);
            // What is older than the read is not taken again where rows would be doubled.
            let is_taken = is_served && (shape.disposition != Disposition::Append || !is_below(record, open.start));
            if is_taken || !is_below(record, from) && record.at.is_some() {
                model.uncertain.remove(&record.id);
            } else if has_changed || is_inside && !is_served {
                model.uncertain.insert(record.id);
            }
        }
        model.settled = (!open.has_drifted && !open.goes_on).then(|| asked.all.clone());
    }

    fn lag(&self) -> i64 {
        lag(&self.shape)
    }

    /// Compares the rows of the table with what has to be in it.
    pub(super) fn check_rows(&self, mut rows: Vec<Row>) {
        rows.sort();
        match self.shape.disposition {
            Disposition::Replace => assert_eq!(rows, self.shown, "a replaced table"),
            Disposition::Merge => {
                let mut merged: Vec<Row> = self.parts.iter().flat_map(|part| part.merged.values().cloned()).collect();
                merged.sort();
                assert_eq!(rows, merged, "a merged table has the last version received of each record");
            }
            Disposition::Append => self.check_appended(&rows),
        }
        self.check_truth(&rows);
    }

    /// What may stand for the same record in an append table: with a key, a cursor of it; without, the very row.
    fn mark(&self, row: &Row) -> Row {
        if self.shape.is_keyed && self.shape.incremental.is_some() { (row.0, 0, row.2.clone()) } else { row.clone() }
    }

    fn check_appended(&self, rows: &[Row]) {
        let mut counts: BTreeMap<Row, usize> = BTreeMap::new();
        rows.iter().for_each(|row| *counts.entry(self.mark(row)).or_default() += 1);
        let mut expected: BTreeMap<Row, (usize, usize)> = BTreeMap::new();
        let mut served: BTreeSet<&Row> = BTreeSet::new();
        for part in &self.parts {
            let mut earlier: BTreeSet<Row> = BTreeSet::new();
            for read in &part.reads {
                for (row, at) in &read.rows {
                    served.insert(row);
                    let (mark, is_always_new) = (self.mark(row), at.is_none() || self.shape.incremental.is_none());
                    if is_always_new {
                        let (min, max) = expected.entry(mark).or_default();
                        (*min, *max) = (*min + 1, *max + 1);
                    } else if !earlier.contains(&mark) {
                        // What one read is served twice can be there twice.
                        let (min, max) = expected.entry(mark).or_default();
                        (*min, *max) = (1, *max + 1);
                    }
                }
                earlier.extend(read.rows.iter().map(|(row, _)| self.mark(row)));
            }
        }
        for (row, (min, max)) in &expected {
            let found = counts.remove(row).unwrap_or(0);
            assert!((*min..=*max).contains(&found), "{row:?} is there {found} times, and not {min} to {max}");
        }
        assert_eq!(counts, BTreeMap::new(), "rows that no read has served");
        assert_eq!(rows.iter().find(|row| !served.contains(row)), None, "a row that was never served so");
    }

    /// Compares the table with what the API held when a read that nothing disturbed had ended.
    fn check_truth(&self, rows: &[Row]) {
        let present: BTreeSet<Row> = rows.iter().map(|row| self.mark(row)).collect();
        for part in &self.parts {
            // A replaced table is not seen before all of it is there.
            let is_seen = self.shape.disposition != Disposition::Replace;
            for record in part.settled.iter().flatten().filter(|_| is_seen) {
                let is_wanted = match (self.shape.incremental.as_ref(), record.at) {
                    (None, _) => true,
                    (Some(incremental), None) => incremental.missing == Some(true),
                    (Some(incremental), Some(at)) => !matches!(incremental.limit, Limit::End(end) if at >= end),
                };
                // What changes without a new cursor is not new.
                let is_certain = !part.uncertain.contains(&record.id);
                let known = part.known.get(&record.id) == Some(&record.revision);
                assert!(
                    !is_wanted || !is_certain || !known || present.contains(&self.mark(&row(record))),
                    "{record:?} is missing, although nothing was in the way"
                );
            }
        }
    }
}

fn row(record: &Record) -> Row {
    let text = match &record.text {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    (record.id, record.revision, text)
}

fn version(record: &Record) -> (i64, i64) {
    (record.id, record.revision)
}

fn is_below(record: &Record, point: Option<i64>) -> bool {
    point.is_some_and(|point| record.at.is_some_and(|at| at < point))
}

fn has_lower(asked: &Asked, highest: Option<i64>) -> bool {
    let points = asked.served.iter().filter_map(|record| record.at);
    highest.is_some_and(|highest| points.min().is_some_and(|lowest| lowest < highest))
}

fn is_same(is_keyed: bool, before: &[Record], page: &[Record]) -> bool {
    let same_ids = before.iter().map(|record| record.id).eq(page.iter().map(|record| record.id));
    if is_keyed { same_ids } else { before == page }
}

fn is_sorted(shape: &Shape) -> bool {
    shape.incremental.as_ref().is_some_and(|incremental| incremental.order == Some(Order::Asc))
}

fn is_newest_first(shape: &Shape) -> bool {
    shape.incremental.as_ref().is_some_and(|incremental| incremental.order == Some(Order::Desc))
}

fn lag(shape: &Shape) -> i64 {
    shape.incremental.as_ref().map_or(0, |incremental| incremental.lag)
}

/// Where a read begins whose cursor stands there.
fn start_at(incremental: &Incremental, cursor: Option<i64>) -> Option<i64> {
    match (cursor.map(|cursor| cursor - incremental.lag), incremental.initial) {
        (Some(lagging), Some(initial)) => Some(lagging.max(initial)),
        (lagging, initial) => lagging.or(initial),
    }
}

fn has_ended(shape: &Shape, cursor: Option<i64>) -> bool {
    let Some(incremental) = &shape.incremental else { return false };
    matches!((incremental.limit, start_at(incremental, cursor)), (Limit::End(end), Some(start)) if start >= end)
}

/// The end of a range, by what was sent.
fn sent_end(shape: &Shape, until: Option<i64>) -> Option<i64> {
    let is_end_inclusive = shape.incremental.as_ref().is_some_and(|incremental| incremental.is_end_inclusive);
    until.map(|until| if is_end_inclusive { until + shape.unit } else { until })
}
