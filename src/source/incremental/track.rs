//! The cursor during one read: what its pages hold, what is left out of them, and how far the cursor may move.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use ring::digest;
use serde_json::Value as Json;

use super::super::partition::field;
use super::value::{CursorValue, Point, Stride};
use super::{Incremental, OnMissing, RowOrder, Window};
use crate::page::{BoundaryRow, Coverage, Fate, Rows, SortKey, Value};
use crate::sabotage::{Sabotage, on};

/// Why the cursor of a page cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// A record has none.
    #[error(
        "record {row} has no {path:?}, the cursor; set `on_cursor_value_missing` to \"include\" or \"exclude\" if that is \
         in order"
    )]
    Missing {
        /// Its number on the page, from 1.
        row: usize,
        /// The `cursor_path`.
        path: String,
    },
    /// A value is not what it is to be.
    #[error("record {row}: its cursor {reason}")]
    Value {
        /// Its number on the page, from 1.
        row: usize,
        /// What is wrong.
        reason: String,
    },
    /// The API does not sort as the configuration says.
    #[error(
        "record {row} has a cursor of {value}, and one before it {before}: the API does not sort as row_order = \"{order}\" \
         says; leave `row_order` out{}",
        if *has_lag { ", or give it a longer `lag`" } else { "" }
    )]
    Order {
        /// Its number on the page, from 1.
        row: usize,
        /// Its value.
        value: String,
        /// The value that it should not come after.
        before: String,
        /// The order that it is not in.
        order: RowOrder,
        /// Whether it is too late even with the `lag`.
        has_lag: bool,
    },
}

/// The cursor of one read.
#[derive(Debug)]
pub struct Track {
    incremental: Arc<Incremental>,
    window: Window,
    /// Behind this nothing has happened yet: no cursor goes there.
    now: Point,
    /// The highest value of everything that is stored, as far as the cursor follows it.
    stored: Option<CursorValue>,
    /// The same of this read.
    seen: Option<CursorValue>,
    /// The highest value of this read, where the API sorts by it; outside of the window as well.
    highest: Option<CursorValue>,
    /// What an append resource has stored already. None where rows have a key.
    known: Option<Known>,
}

/// What of an append resource is stored already and may be sent again.
#[derive(Debug, Default)]
pub struct Known {
    /// Rows at the boundary.
    pub rows: HashSet<[u8; 16]>,
    /// Those of earlier reads that lie ahead of the cursor, as they were dated in the future.
    pub ahead: HashSet<[u8; 16]>,
    /// From where on all that is stored is among them.
    pub rows_from: Option<SortKey>,
    /// The fields of a record, as it comes, whose values are its key; none where it is told by everything.
    pub key: Vec<String>,
    /// Ranges that were read completely, each from its first value to before another.
    pub covered: Vec<(Option<CursorValue>, CursorValue)>,
}

/// What a page says of the cursor.
#[derive(Debug, Default)]
pub struct Tracked {
    /// Every record is older than where the read starts, and the newest come first: that is its end.
    pub is_end: bool,
    /// Rows that are sent again when the next read starts where this one ends.
    pub boundary: Vec<BoundaryRow>,
}

impl Track {
    /// The cursor of a read of `window` that begins `now`. `known` is what an append resource has stored.
    ///
    /// A record that is dated in the future is a row like any other, but the cursor does not follow it: what is dated
    /// before it could not be read any more. Clocks that disagree only make this more careful.
    #[must_use]
    pub fn new(
        incremental: &Arc<Incremental>,
        window: Window,
        now: Timestamp,
        stored: Option<CursorValue>,
        seen: Option<CursorValue>,
        known: Option<Known>,
    ) -> Self {
        let (incremental, now, highest) = (Arc::clone(incremental), Point::Time(now), seen.clone());
        Self { incremental, window, now, stored, seen, highest, known }
    }

    /// Looks at the records of a page, and leaves out those that do not belong to this read.
    ///
    /// # Errors
    /// When a record has no cursor, or they are not in the order that they are to be in. Nothing of the page counts.
    pub fn look_at(&mut self, rows: &mut Rows) -> Result<Tracked, CursorError> {
        let points = self.points(rows)?;
        let is_append = self.known.is_some();
        let bound = |bound: &Option<CursorValue>| bound.as_ref().map(|bound| bound.point.clone());
        let (start, end, stored) = (bound(&self.window.start), bound(&self.window.end), bound(&self.stored));
        let is_behind = |start: &Point, point: &Point| point < start || on(Sabotage::BehindTheCursor) && point == start;
        let older = |point: &Point| start.as_ref().is_some_and(|start| is_behind(start, point));
        let wholly_older = !points.is_empty() && points.iter().all(|point| point.as_ref().is_some_and(&older));
        let keep_from = self.keep_from();
        let mut boundary = Vec::new();
        let mut fates = vec![Fate::Keep; points.len()];
        for (row, point) in points.iter().enumerate() {
            let Some(point) = point else {
                if self.incremental.on_missing == OnMissing::Exclude {
                    fates[row] = Fate::Filter;
                }
                continue;
            };
            if end.as_ref().is_some_and(|end| point >= end) || is_append && older(point) {
                fates[row] = Fate::Filter;
                continue;
            }
            let Some(known) = &self.known else { continue };
            // A range of a backfill has no cursor of its own: what live reads have stored can be anywhere in it.
            let is_passed = stored.as_ref().is_some_and(|stored| point <= stored);
            let may_be_known = self.window.is_range || is_passed;
            // A `lag` that was made longer leads back to rows that are not kept to be known any more.
            if !self.window.is_range && is_passed && known.is_forgotten(point) {
                fates[row] = Fate::Filter;
                continue;
            }
            // What is covered ahead of the cursor was read by backfills, while live reads were to begin behind it.
            let is_covered = !may_be_known && known.covers(point);
            let is_kept = keep_from.as_ref().is_none_or(|from| point >= from);
            if is_covered {
                fates[row] = Fate::Filter;
            }
            if !may_be_known && !is_kept && known.ahead.is_empty() {
                continue;
            }
            let hash = known.hash_of(rows, row, &self.incremental.path);
            let known = if may_be_known { &known.rows } else { &known.ahead };
            if known.contains(&hash) {
                fates[row] = Fate::Filter;
            } else if is_kept && !self.window.is_range {
                boundary.push(BoundaryRow { hash, sort: sort_key(point) });
            }
        }
        if fates.contains(&Fate::Filter) {
            rows.sort_out(|row| fates[row].clone());
        }
        Ok(Tracked { is_end: wholly_older && self.incremental.order == Some(RowOrder::Desc), boundary })
    }

    /// The cursor of each record; also checks their order, and remembers the highest.
    fn points(&mut self, rows: &Rows) -> Result<Vec<Option<Point>>, CursorError> {
        let mut points = Vec::with_capacity(rows.len());
        let mut lowest = None;
        for row in 0..rows.len() {
            let number = row + 1;
            let Some(json) = field(rows, row, &self.incremental.path) else {
                if self.incremental.on_missing == OnMissing::Raise {
                    return Err(CursorError::Missing { row: number, path: self.incremental.path.clone() });
                }
                points.push(None);
                continue;
            };
            let wrong = |reason: String| CursorError::Value { row: number, reason };
            let value = self.incremental.format.read(&json).map_err(wrong)?;
            self.check_kind(&value).map_err(wrong)?;
            if let Some(order) = self.incremental.order {
                self.check_order(order, number, &value, &mut lowest)?;
            }
            let is_inside = self.window.end.as_ref().is_none_or(|end| value.point < end.point);
            let is_ahead = value.point > self.now;
            if is_inside && !is_ahead && self.seen.as_ref().is_none_or(|seen| value.point > seen.point) {
                self.seen = Some(value.clone());
            }
            points.push(Some(value.point));
        }
        Ok(points)
    }

    /// Whether a record comes in the order that the configuration names, to within the `lag`: what is late by no more is
    /// asked for again. Newest first, only the records of one page are compared: what is new at the head of such a list
    /// moves records from one page to the next.
    fn check_order(
        &mut self,
        order: RowOrder,
        row: usize,
        value: &CursorValue,
        lowest: &mut Option<CursorValue>,
    ) -> Result<(), CursorError> {
        let (extreme, wrong) = match order {
            RowOrder::Asc => (&mut self.highest, Ordering::Less),
            RowOrder::Desc => (lowest, Ordering::Greater),
        };
        let Some(before) = extreme.as_ref().filter(|before| value.point.partial_cmp(&before.point) == Some(wrong))
        else {
            *extreme = Some(value.clone());
            return Ok(());
        };
        let (higher, lower) = if order == RowOrder::Asc { (before, value) } else { (value, before) };
        let is_late = |lag: &Stride| higher.point.moved(lag, true).is_ok_and(|start| lower.point >= start);
        if self.incremental.lag.as_ref().is_some_and(is_late) {
            return Ok(());
        }
        let (value, before) = (value.json.to_string(), before.json.to_string());
        Err(CursorError::Order { row, value, before, order, has_lag: self.incremental.lag.is_some() })
    }

    fn check_kind(&self, value: &CursorValue) -> Result<(), String> {
        let others = [&self.seen, &self.stored, &self.window.start, &self.window.end];
        match others.into_iter().flatten().find(|other| value.point.partial_cmp(&other.point).is_none()) {
            None => Ok(()),
            Some(other) => {
                Err(format!("{} is {}, and {} is {}", value.json, value.point.kind(), other.json, other.point.kind()))
            }
        }
    }

    /// Rows from here on are sent again by the next read, if it starts where this one has come.
    fn keep_from(&self) -> Option<Point> {
        self.incremental.behind(&self.reached()?).ok().map(|start| start.point)
    }

    /// The highest value of this read and of everything before it. It never goes back.
    fn reached(&self) -> Option<CursorValue> {
        match (&self.seen, &self.stored) {
            (Some(seen), Some(stored)) if seen.point > stored.point => Some(seen.clone()),
            (Some(seen), None) => Some(seen.clone()),
            (_, stored) => stored.clone(),
        }
    }

    /// Whether another window follows.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        self.window.goes_on
    }

    /// Whether the cursor moves with every page.
    #[must_use]
    pub fn moves_with_pages(&self) -> bool {
        let is_sorted = self.incremental.order == Some(RowOrder::Asc) || on(Sabotage::CursorPerUnsortedPage);
        is_sorted && !self.window.is_range
    }

    /// The cursor that is true once the page is stored, as JSON; `complete` where it is the last of its read.
    #[must_use]
    pub fn cursor(&self, complete: bool) -> Option<String> {
        self.cursor_value(complete).map(|value| value.json.to_string())
    }

    fn cursor_value(&self, complete: bool) -> Option<CursorValue> {
        if self.window.is_range {
            return None;
        }
        let after = if complete { self.window.cursor_after.clone() } else { None };
        let reached = if complete || self.moves_with_pages() { self.reached() } else { None };
        match (after, reached) {
            (Some(after), Some(reached)) if reached.point > after.point => Some(reached),
            (Some(after), _) => Some(after),
            (None, reached) => reached,
        }
    }

    /// The range that is read completely when the read has reached its end.
    #[must_use]
    pub fn covers(&self) -> Option<Coverage> {
        let to = if self.window.is_range { self.window.end.clone() } else { self.cursor_value(true) }?;
        let from = self.window.began.as_ref();
        // Where nothing newer was received, there is nothing between the two.
        if from.is_some_and(|from| from.point >= to.point) {
            return None;
        }
        Some(Coverage { from: from.map(Incremental::bound), to: Incremental::bound(&to) })
    }

    /// The highest value of the read so far, as JSON.
    #[must_use]
    pub fn seen(&self) -> Option<String> {
        self.seen.as_ref().map(|seen| seen.json.to_string())
    }

    /// Rows at the boundary that need not be known any more once the page is stored.
    #[must_use]
    pub fn forget_below(&self, complete: bool) -> Option<SortKey> {
        if self.window.is_range {
            return None;
        }
        (complete || self.moves_with_pages()).then(|| self.keep_from()).flatten().map(|point| sort_key(&point))
    }
}

impl Known {
    /// Whether what is stored of this value is not among the rows any more.
    fn is_forgotten(&self, point: &Point) -> bool {
        self.rows_from.as_ref().is_some_and(|from| sort_key(point) < *from)
    }

    fn covers(&self, point: &Point) -> bool {
        let begins = |from: &Option<CursorValue>| from.as_ref().is_none_or(|from| from.point <= *point);
        self.covered.iter().any(|(from, to)| begins(from) && *point < to.point)
    }

    /// What tells a record again: its key and its cursor, or, where it has no key as it comes, everything.
    fn hash_of(&self, rows: &Rows, row: usize, cursor_path: &str) -> [u8; 16] {
        let mut context = digest::Context::new(&digest::SHA256);
        let mut add = |bytes: &[u8]| {
            context.update(&(bytes.len() as u64).to_be_bytes());
            context.update(bytes);
        };
        let key: Option<Vec<Json>> = self.key.iter().map(|name| field(rows, row, name)).collect();
        match key.filter(|key| !key.is_empty()) {
            Some(key) => {
                let cursor = field(rows, row, cursor_path).unwrap_or(Json::Null);
                key.iter().chain([&cursor]).for_each(|value| add(value.to_string().as_bytes()));
            }
            None => add_all(rows, row, &mut add),
        }
        let mut hash = [0; 16];
        hash.copy_from_slice(&context.finish().as_ref()[..16]);
        hash
    }
}

/// Adds all fields of a record to a hash, in whatever order they came.
fn add_all(rows: &Rows, row: usize, add: &mut impl FnMut(&[u8])) {
    let mut cells: Vec<(&str, Value<'_>)> =
        rows.row(row).map(|(key, value)| (rows.keys()[key].as_str(), value)).collect();
    cells.sort_by_key(|(key, _)| *key);
    for (key, value) in cells {
        add(key.as_bytes());
        match value {
            Value::Null => add(b"n"),
            Value::Bool(value) => add(if value { b"t" } else { b"f" }),
            Value::Integer(_, text) | Value::Real(_, text) | Value::Number(text) => {
                add(b"0");
                add(text);
            }
            Value::Text(text) => {
                add(b"\"");
                add(text);
            }
            Value::Json(text) | Value::List(text) => {
                add(b"{");
                add(text);
            }
        }
    }
}

/// A point as SQLite compares it. Instants to the microsecond: two that differ by less are on the same side.
pub(super) fn sort_key(point: &Point) -> SortKey {
    match point {
        Point::Integer(value) => {
            let beyond = if value.cmp(&0) == Ordering::Less { i64::MIN } else { i64::MAX };
            SortKey::Integer(i64::try_from(*value).unwrap_or(beyond))
        }
        Point::Time(time) => SortKey::Integer(time.as_microsecond()),
        Point::Text(text) => SortKey::Text(text.clone()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;

    use bytes::Bytes;
    use jiff::Timestamp;
    use serde_json::{Value as Json, json};

    use super::super::{Incremental, IncrementalOptions, RowOrder, Window};
    use super::{CursorError, Known, Track};
    use crate::decode::decode;
    use crate::page::{Rows, Text};

    fn incremental(mut options: Json) -> Arc<Incremental> {
        options["cursor_path"] = json!("at");
        Arc::new(Incremental::new(&serde_json::from_value::<IncrementalOptions>(options).unwrap()).unwrap())
    }

    fn rows(values: &[Json]) -> Rows {
        let records: Vec<Json> =
            values.iter().enumerate().map(|(n, at)| json!({"n": format!("{at}#{n}"), "at": at})).collect();
        let text = Text::new(Bytes::from(json!(records).to_string())).unwrap();
        decode(&text, &[text.as_str()]).unwrap()
    }

    fn track(incremental: &Arc<Incremental>, from: Option<i64>, known: Option<HashSet<[u8; 16]>>) -> Track {
        let value = |value: i64| incremental.format.read(&json!(value)).unwrap();
        let window = Window { start: from.map(value), began: from.map(value), ..Window::default() };
        let known = known.map(|rows| Known { rows, ..Known::default() });
        Track::new(incremental, window, Timestamp::MAX, from.map(value), None, known)
    }

    #[test]
    fn the_cursor_moves_with_pages_only_where_they_are_sorted_and_never_back() {
        for (options, after_first, after_last) in [
            (json!({"row_order": "asc"}), Some("7"), Some("9")),
            (json!({}), None, Some("9")),
            (json!({"row_order": "desc"}), None, Some("9")),
        ] {
            let incremental = incremental(options);
            let mut track = track(&incremental, Some(5), None);
            let is_desc = incremental.order == Some(RowOrder::Desc);
            let first = if is_desc { [json!(7), json!(6)] } else { [json!(6), json!(7)] };
            track.look_at(&mut rows(&first)).unwrap();
            assert_eq!(track.cursor(false).as_deref(), after_first);
            assert_eq!(track.seen().as_deref(), Some("7"));
            track.look_at(&mut rows(&[json!(9)])).unwrap();
            assert_eq!(track.cursor(true).as_deref(), after_last);
        }
        let incremental = incremental(json!({}));
        let mut track = track(&incremental, Some(5), None);
        track.look_at(&mut rows(&[json!(2)])).unwrap();
        assert_eq!(track.cursor(true).as_deref(), Some("5"));
    }

    #[test]
    fn ascending_order_is_checked_over_pages() {
        let incremental = incremental(json!({"row_order": "asc"}));
        let mut track = track(&incremental, None, None);
        track.look_at(&mut rows(&[json!(1), json!(3), json!(3)])).unwrap();
        let error = track.look_at(&mut rows(&[json!(3), json!(2)])).unwrap_err();
        let said = r#"record 2 has a cursor of 2, and one before it 3: the API does not sort as row_order = "asc" says; leave `row_order` out"#;
        assert_eq!(error.to_string(), said);
    }

    #[test]
    fn descending_order_is_checked_on_each_page_and_not_over_pages() {
        let incremental = incremental(json!({"row_order": "desc"}));
        let mut track = track(&incremental, None, None);
        track.look_at(&mut rows(&[json!(9), json!(8), json!(8), json!(7)])).unwrap();
        track.look_at(&mut rows(&[json!(8), json!(7), json!(5)])).unwrap();
        let error = track.look_at(&mut rows(&[json!(4), json!(5)])).unwrap_err();
        let CursorError::Order { row: 2, order: RowOrder::Desc, .. } = error else { panic!("{error}") };
    }

    #[test]
    fn what_is_late_within_the_lag_is_in_order() {
        for (order, page, wrong) in [("asc", [4, 7, 5], 4), ("desc", [9, 5, 7], 8)] {
            let incremental = incremental(json!({"row_order": order, "lag": 2}));
            let mut track = track(&incremental, None, None);
            track.look_at(&mut rows(&page.map(|at| json!(at)))).unwrap();
            let error = track.look_at(&mut rows(&[json!(5), json!(wrong)])).unwrap_err();
            assert!(error.to_string().ends_with("leave `row_order` out, or give it a longer `lag`"), "{error}");
        }
    }

    #[test]
    fn i05_i07_records_without_a_cursor_or_with_one_of_another_kind_are_seen() {
        for (missing, left) in [("include", 3), ("exclude", 1)] {
            let incremental = incremental(json!({"on_cursor_value_missing": missing}));
            let mut page = rows(&[json!(1), json!(null), json!(null)]);
            track(&incremental, None, None).look_at(&mut page).unwrap();
            assert_eq!((page.len(), page.received()), (left, 3), "{missing}");
        }
        let incremental = incremental(json!({}));
        let error = track(&incremental, None, None).look_at(&mut rows(&[json!(1), json!(null)])).unwrap_err();
        assert_eq!(error, CursorError::Missing { row: 2, path: "at".to_owned() });
        let error = track(&incremental, Some(4), None).look_at(&mut rows(&[json!("2024-01-01")])).unwrap_err();
        assert!(error.to_string().contains("is a time, and 4 is an integer"), "{error}");
    }

    #[test]
    fn equal_values_at_the_boundary_are_taken_once() {
        let incremental = incremental(json!({"lag": 2}));
        let mut first = track(&incremental, None, Some(HashSet::new()));
        let mut page = rows(&[json!(1), json!(5), json!(7), json!(7)]);
        let tracked = first.look_at(&mut page).unwrap();
        assert_eq!((page.len(), tracked.boundary.len()), (4, 3), "5, 7 and 7 come again");
        let known: HashSet<[u8; 16]> = tracked.boundary.iter().map(|row| row.hash).collect();
        // The next read starts at 5 and gets them again, with one that came late and one that is new.
        let stored = incremental.format.read(&json!(7)).unwrap();
        let window = Window { start: Some(incremental.format.read(&json!(5)).unwrap()), ..Window::default() };
        let known = Known { rows: known, ..Known::default() };
        let mut second = Track::new(&incremental, window, Timestamp::MAX, Some(stored), None, Some(known));
        let text = r#"[{"n":"4#9","at":4},{"at":5,"n":"5#1"},{"n":"7#2","at":7},{"n":"late","at":6},{"n":"7#3","at":7},{"n":"8#1","at":8}]"#;
        let text = Text::new(Bytes::from_static(text.as_bytes())).unwrap();
        let mut page = decode(&text, &[text.as_str()]).unwrap();
        let tracked = second.look_at(&mut page).unwrap();
        let left: Vec<String> = (0..page.len()).map(|row| format!("{:?}", page.get(row, "n").unwrap())).collect();
        assert_eq!(left.len(), 2, "the late one and the new one: {left:?}");
        assert_eq!(tracked.boundary.len(), 2);
        assert_eq!(page.received(), 6);
    }

    #[test]
    fn what_a_lag_finer_than_the_format_leads_back_to_is_known() {
        for (options, value, stored, kept) in [
            (json!({"lag": "9s500ms", "datetime_format": "%s"}), json!(100), json!(90), 2),
            (json!({"lag": "12h"}), json!("2024-01-10"), json!("2024-01-09"), 2),
            (json!({"lag": "12h"}), json!("2024-01-10T00:00:00Z"), json!("2024-01-09T00:00:00Z"), 1),
        ] {
            let incremental = incremental(options);
            let cursor = incremental.format.read(&value).unwrap();
            let start = incremental.start(Some(&cursor)).unwrap().unwrap();
            assert_eq!(start.point <= incremental.format.read(&stored).unwrap().point, kept == 2, "{}", start.json);
            let mut track = track(&incremental, None, Some(HashSet::new()));
            let tracked = track.look_at(&mut rows(&[stored, value])).unwrap();
            assert_eq!(tracked.boundary.len(), kept, "{}", start.json);
        }
    }

    #[test]
    fn a_record_is_told_by_its_key_and_without_one_by_everything() {
        let incremental = incremental(json!({}));
        let hashes = |key: &[&str]| {
            let key = key.iter().map(|name| (*name).to_owned()).collect();
            let known = Some(Known { key, ..Known::default() });
            let mut track = Track::new(&incremental, Window::default(), Timestamp::MAX, None, None, known);
            let text = r#"[{"at":7,"id":1,"x":1},{"at":7,"x":2,"id":1},{"at":7,"id":2,"x":1},{"at":7,"x":3},{"at":7,"x":4,"id":null},{"x":1,"id":1,"at":7}]"#;
            let text = Text::new(Bytes::from_static(text.as_bytes())).unwrap();
            let tracked = track.look_at(&mut decode(&text, &[text.as_str()]).unwrap()).unwrap();
            let hashes: Vec<_> = tracked.boundary.iter().map(|row| row.hash).collect();
            let first = |hash| hashes.iter().position(|other| other == hash).unwrap();
            hashes.iter().map(first).collect::<Vec<_>>()
        };
        assert_eq!(hashes(&["id"]), [0, 0, 2, 3, 4, 0], "without a part of its key it is told by everything");
        assert_eq!(hashes(&["id", "x"]), [0, 1, 2, 3, 4, 0]);
        assert_eq!(hashes(&[]), [0, 1, 2, 3, 4, 0]);
    }

    #[test]
    fn what_is_covered_ahead_of_the_cursor_is_left_out_and_known_at_the_boundary() {
        let incremental = incremental(json!({"lag": 3}));
        let value = |value: i64| incremental.format.read(&json!(value)).unwrap();
        for (stored, left, kept) in [(None, vec![2, 5, 6], 4), (Some(3), vec![1, 2, 3, 5, 6], 4)] {
            let covered = vec![(None, value(2)), (Some(value(3)), value(5))];
            let known = Known { covered, ..Known::default() };
            let stored = stored.map(value);
            let mut track = Track::new(&incremental, Window::default(), Timestamp::MAX, stored, None, Some(known));
            let mut page = rows(&[json!(1), json!(2), json!(3), json!(4), json!(5), json!(6)]);
            let tracked = track.look_at(&mut page).unwrap();
            let at = |row| page.get(row, "at").and_then(|value| value.json_text().parse::<i64>().ok());
            assert_eq!((0..page.len()).filter_map(at).collect::<Vec<_>>(), left);
            assert_eq!(tracked.boundary.len(), kept, "3 to 6 come again");
        }
    }

    #[test]
    fn what_live_reads_have_stored_is_left_out_of_a_range() {
        let incremental = incremental(json!({"lag": 2}));
        let stored = track(&incremental, None, Some(HashSet::new())).look_at(&mut rows(&[json!(7), json!(8)])).unwrap();
        let known = stored.boundary.iter().map(|row| row.hash).collect();
        let value = |value: i64| Some(incremental.format.read(&json!(value)).unwrap());
        let window = Window { start: value(7), end: value(9), is_range: true, ..Window::default() };
        let known = Known { rows: known, ..Known::default() };
        let mut range = Track::new(&incremental, window, Timestamp::MAX, None, None, Some(known));
        let mut page = rows(&[json!(7), json!(8), json!(8)]);
        let tracked = range.look_at(&mut page).unwrap();
        assert_eq!((page.len(), page.received(), tracked.boundary.len()), (1, 3, 0));
    }

    #[test]
    fn a_page_that_is_wholly_older_is_told() {
        let incremental = incremental(json!({"row_order": "desc"}));
        let mut track = track(&incremental, Some(5), None);
        assert!(!track.look_at(&mut rows(&[json!(9), json!(5)])).unwrap().is_end);
        assert!(!track.look_at(&mut rows(&[json!(5), json!(4)])).unwrap().is_end);
        assert!(track.look_at(&mut rows(&[json!(4), json!(3)])).unwrap().is_end);
        assert!(!track.look_at(&mut rows(&[])).unwrap().is_end);
    }
}
