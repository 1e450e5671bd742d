//! The ranges of the cursor that a read asks for, oldest first: one without `step`, else as many as it takes.

use std::cmp::Ordering;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::track::sort_key;
use super::value::{CursorValue, Point, Stride};
use super::{Incremental, RowOrder, Stride as Step};
use crate::page::Bound;

/// A range of the cursor: from `start` on, and before `end`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Window {
    /// Its lowest value.
    pub start: Option<CursorValue>,
    /// Where the cursor stood when its read began, which other reads may have brought there; else its first value.
    pub began: Option<CursorValue>,
    /// The value behind its highest.
    pub end: Option<CursorValue>,
    /// The end as it is sent.
    pub sent_end: Option<Json>,
    /// Where the cursor stands when it is complete, where that is not the highest value received.
    pub cursor_after: Option<CursorValue>,
    /// Another one follows.
    pub goes_on: bool,
    /// A range of a backfill: the cursor stays where it is.
    pub is_range: bool,
    /// How the API sorts it, as its read was told.
    pub order: Option<RowOrder>,
}

/// A window as it is stored beside its position, so that a read that goes on asks for the same.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    start: Option<Json>,
    began: Option<Json>,
    end: Option<Json>,
    sent_end: Option<Json>,
    cursor_after: Option<Json>,
    goes_on: bool,
    #[serde(default)]
    is_range: bool,
    #[serde(default)]
    order: Option<RowOrder>,
}

/// The windows of a read, one after the other.
#[derive(Debug)]
pub struct Windows<'i> {
    incremental: &'i Incremental,
    start: Option<CursorValue>,
    /// Where the cursor stands, before the first window.
    cursor: Option<CursorValue>,
    /// Before this all windows end, and whether that is only where the clock stands.
    limit: Option<(CursorValue, bool)>,
    done: bool,
}

impl Incremental {
    /// The windows from where `cursor` stands.
    ///
    /// # Errors
    /// When the stored cursor and the configuration do not fit each other.
    pub fn windows(&self, cursor: Option<&CursorValue>, now: Timestamp) -> Result<Windows<'_>, String> {
        Ok(Windows { cursor: cursor.cloned(), ..self.windows_from(self.start(cursor)?, now)? })
    }

    /// Where a read starts while the cursor stands there.
    ///
    /// # Errors
    /// When the cursor and the configuration do not fit each other.
    pub fn start(&self, cursor: Option<&CursorValue>) -> Result<Option<CursorValue>, String> {
        let Some(cursor) = cursor else { return Ok(self.initial.clone()) };
        let start = self.behind(cursor)?;
        let before = self.initial.as_ref().filter(|initial| self.lag.is_some() && start.point < initial.point);
        Ok(Some(before.cloned().unwrap_or(start)))
    }

    /// The value that lies the `lag` before a cursor, as it is written: what is sent is what counts.
    pub(super) fn behind(&self, cursor: &CursorValue) -> Result<CursorValue, String> {
        match &self.lag {
            None => Ok(cursor.clone()),
            Some(lag) => self.format.write(&cursor.point.moved(lag, true)?, &cursor.json),
        }
    }

    /// The windows that follow one which has been read.
    ///
    /// # Errors
    /// When they cannot be found.
    pub fn windows_behind(&self, window: &Window, now: Timestamp) -> Result<Windows<'_>, String> {
        self.windows_from(window.end.clone(), now)
    }

    fn windows_from(&self, start: Option<CursorValue>, now: Timestamp) -> Result<Windows<'_>, String> {
        let limit = match (&self.end, &self.step, &start) {
            // Windows of the future are empty now: a cursor that passed over them would lose what comes to be there.
            (end, Some(_), Some(start)) if matches!(start.point, Point::Time(_)) => match end {
                Some(end) if end.point <= Point::Time(now) => Some((end.clone(), false)),
                _ => Some((self.clock(now, start)?, true)),
            },
            (Some(end), ..) => Some((end.clone(), false)),
            _ => None,
        };
        // A cursor that has reached the configured end has nothing left to ask for.
        let done = matches!((&start, &self.end), (Some(start), Some(end)) if start.point >= end.point);
        Ok(Windows { incremental: self, start, cursor: None, limit, done })
    }

    /// The time now, written like a value of the cursor. Whole seconds: an API may not take more of them than its own
    /// values have.
    ///
    /// # Errors
    /// When it cannot be written, which loading has tried.
    pub fn clock(&self, now: Timestamp, like: &CursorValue) -> Result<CursorValue, String> {
        let now = Timestamp::from_second(now.as_second()).map_err(|error| error.to_string())?;
        self.format.write(&Point::Time(now), &like.json)
    }

    /// From where on the live reads of a partition read, whose cursor is stored: nothing where they begin at the very
    /// beginning. `bounds` are those of a read that is under way.
    ///
    /// # Errors
    /// When what is stored does not fit the configuration.
    pub fn live_from(&self, cursor: Option<&str>, bounds: Option<&str>) -> Result<Option<CursorValue>, String> {
        let from = cursor.map(|cursor| self.stored(cursor)).transpose()?.or_else(|| self.initial.clone());
        // A cursor that has moved with the pages leaves behind what is covered only when the read is complete, in
        // whatever order that goes on.
        match (bounds, from) {
            (Some(bounds), Some(from)) => {
                let began = self.stored_window(bounds)?.began;
                Ok(began.map(|began| if began.point < from.point { began } else { from }))
            }
            (_, from) => Ok(from),
        }
    }

    /// The ranges, step by step, from one value to before another.
    ///
    /// # Errors
    /// When the bounds are of different kinds, or nothing lies between them.
    pub fn ranges(
        &self,
        from: &CursorValue,
        to: &CursorValue,
        step: Option<&Step>,
    ) -> Result<Vec<(CursorValue, CursorValue)>, String> {
        /// So many windows are a slip of the pen.
        const RANGES_MAX: usize = 100_000;
        check_range(from, to)?;
        let bounded = Self { end: Some(to.clone()), step: step.or(self.step.as_ref()).cloned(), ..self.clone() };
        let mut windows = bounded.windows_from(Some(from.clone()), Timestamp::MAX)?;
        let mut all = Vec::new();
        while let Some(window) = windows.step_on()? {
            let end = window.end.unwrap_or_else(|| to.clone());
            all.push((window.start.unwrap_or_else(|| from.clone()), end));
            if all.len() > RANGES_MAX {
                return Err(format!("more than {RANGES_MAX} windows: choose a longer step"));
            }
        }
        Ok(all)
    }

    /// The window of a range that a backfill reads.
    ///
    /// # Errors
    /// When nothing lies in it, or it is not ours: stored data is input.
    pub fn range_window(&self, from: &Json, to: &Json) -> Result<Window, String> {
        let (from, to) = (self.format.read(from)?, self.format.read(to)?);
        check_range(&from, &to)?;
        let windows = Windows { incremental: self, start: None, cursor: None, limit: None, done: true };
        let window = windows.window(Some(from), Some(to), None, false)?;
        Ok(Window { is_range: true, ..window })
    }

    /// A value of the command line: as the API writes them, or a date or a time whatever the API's format is. Its kind is
    /// that of the configured bounds, else of `stored`, a value that was received.
    ///
    /// # Errors
    /// When it is no value of this cursor.
    pub fn value_of(&self, text: &str, stored: Option<&CursorValue>) -> Result<CursorValue, String> {
        let like = self.initial.as_ref().or(self.end.as_ref()).or(stored);
        let is_number = like.map_or(self.format.has_numbers(), |like| like.json.is_number());
        let number = text.parse::<i64>().ok().filter(|_| is_number);
        let json = number.map_or_else(|| Json::String(text.to_owned()), Json::from);
        let value = self.format.given(&json)?;
        let as_times = "2024-01-31 or 2024-01-31T08:00:00Z";
        match (like, &value.point) {
            (Some(like), point) if point.partial_cmp(&like.point).is_none() => {
                let (is, wanted) = (point.kind(), like.point.kind());
                let examples = match like.point {
                    Point::Time(_) => format!("{as_times}, or as the API does"),
                    Point::Integer(_) | Point::Text(_) => like.json.to_string(),
                };
                Err(format!("{text:?} is {is}, and the cursor is {wanted}: write it like {examples}"))
            }
            (None, Point::Text(_)) => Err(format!(
                "{text:?} is neither a time nor an integer, and nothing says yet that the cursor is a text: write a time \
                 like {as_times}, or read the resource once with `highwater sync`"
            )),
            // What was written anew is written as the API does.
            (Some(like), _) if value.json != json => self.format.write(&value.point, &like.json),
            _ => Ok(value),
        }
    }

    /// A cursor value as the coverage keeps it.
    #[must_use]
    pub fn bound(value: &CursorValue) -> Bound {
        Bound { json: value.json.to_string(), sort: sort_key(&value.point) }
    }

    /// Whether the API sorts by the cursor, oldest first.
    #[must_use]
    pub fn is_sorted(&self) -> bool {
        self.order == Some(RowOrder::Asc)
    }

    /// Whether a window was read in the order that is configured now.
    #[must_use]
    pub fn is_in_order(&self, window: &Window) -> bool {
        window.order == self.order
    }

    /// A window that was stored with the position of its read.
    ///
    /// # Errors
    /// When it is not ours: stored data is input.
    pub fn stored_window(&self, text: &str) -> Result<Window, String> {
        let stored: Stored = serde_json::from_str(text).map_err(|error| format!("the stored bounds: {error}"))?;
        let read = |json: &Option<Json>| json.as_ref().map(|json| self.format.read(json)).transpose();
        Ok(Window {
            start: read(&stored.start)?,
            began: read(&stored.began)?,
            end: read(&stored.end)?,
            sent_end: stored.sent_end,
            cursor_after: read(&stored.cursor_after)?,
            goes_on: stored.goes_on,
            is_range: stored.is_range,
            order: stored.order,
        })
    }
}

/// Refuses a range with nothing in it: it would be read with success, and be taken for read.
fn check_range(from: &CursorValue, to: &CursorValue) -> Result<(), String> {
    match from.point.partial_cmp(&to.point) {
        Some(Ordering::Less) => Ok(()),
        Some(_) => Err("the range ends where it starts, or before".to_owned()),
        None => Err(format!("the range begins with {} and ends with {}", from.point.kind(), to.point.kind())),
    }
}

impl Window {
    /// Where the cursor stood when its read began, as JSON.
    #[must_use]
    pub fn began(&self) -> Option<String> {
        self.began.as_ref().map(|began| began.json.to_string())
    }

    /// Makes it the rest of a read that was interrupted, of which everything before the cursor is stored. Says whether it
    /// starts further on than that read did.
    pub fn goes_on_with(&mut self, interrupted: &Self) -> bool {
        let point = |value: &Option<CursorValue>| value.as_ref().map(|value| value.point.clone());
        if point(&interrupted.began) < point(&self.began) {
            self.began.clone_from(&interrupted.began);
        }
        point(&interrupted.start) < point(&self.start)
    }

    /// The window as it is stored.
    #[must_use]
    pub fn to_stored(&self) -> String {
        let json = |value: &Option<CursorValue>| value.as_ref().map(|value| value.json.clone());
        let stored = Stored {
            start: json(&self.start),
            began: json(&self.began),
            end: json(&self.end),
            sent_end: self.sent_end.clone(),
            cursor_after: json(&self.cursor_after),
            goes_on: self.goes_on,
            is_range: self.is_range,
            order: self.order,
        };
        serde_json::to_string(&stored).expect("plain data is JSON")
    }
}

impl Windows<'_> {
    /// The next window, or none when there is nothing left to ask for.
    ///
    /// # Errors
    /// When its end cannot be found.
    pub fn step_on(&mut self) -> Result<Option<Window>, String> {
        let cursor = self.cursor.take();
        let window = self.next()?;
        Ok(window.map(|window| Window { began: cursor.or(window.began), ..window }))
    }

    fn next(&mut self) -> Result<Option<Window>, String> {
        if self.done {
            return Ok(None);
        }
        let Some((step, start)) = self.incremental.step.as_ref().zip(self.start.clone()) else {
            self.done = true;
            let end = self.limit.clone().map(|(end, _)| end);
            return self.window(self.start.clone(), end, None, false).map(Some);
        };
        let (limit, is_now) = match &self.limit {
            Some((limit, is_now)) => (Some(limit.clone()), *is_now),
            None => (None, false),
        };
        let format = &self.incremental.format;
        let mut end = format.write(&start.point.moved(step, false)?, &start.json)?;
        if end.point.partial_cmp(&start.point) != Some(Ordering::Greater) {
            // A step that is finer than the values are written in leads nowhere.
            return Err("`step` is shorter than what the values of the cursor can tell apart".to_owned());
        }
        if let Some(last) = self.incremental.end.as_ref().filter(|last| end.point > last.point) {
            end = last.clone();
        }
        let clipped = limit.filter(|limit| end.point >= limit.point && limit.point > start.point);
        self.done = clipped.is_some() || self.limit.is_none() || is_now && self.starts_late(&start);
        let window = match clipped {
            // Where the clock stands, more may come: the cursor stays at what was received.
            Some(limit) if is_now => self.window(Some(start), Some(limit), None, false),
            Some(limit) => self.window(Some(start), Some(limit.clone()), Some(limit), false),
            None => self.window(Some(start), Some(end.clone()), (!self.done).then(|| end.clone()), !self.done),
        };
        self.start = Some(end);
        window.map(Some)
    }

    /// A cursor ahead of the clock.
    fn starts_late(&self, start: &CursorValue) -> bool {
        self.limit.as_ref().is_some_and(|(limit, _)| start.point >= limit.point)
    }

    fn window(
        &self,
        start: Option<CursorValue>,
        end: Option<CursorValue>,
        cursor_after: Option<CursorValue>,
        goes_on: bool,
    ) -> Result<Window, String> {
        let sent_end = match (&end, &self.incremental.granularity) {
            (Some(end), Some(granularity)) => Some(self.sent(end, granularity)?),
            (end, _) => end.as_ref().map(|end| end.json.clone()),
        };
        let order = self.incremental.order;
        Ok(Window { began: start.clone(), start, end, sent_end, cursor_after, goes_on, is_range: false, order })
    }

    fn sent(&self, end: &CursorValue, granularity: &Stride) -> Result<Json, String> {
        Ok(self.incremental.format.write(&end.point.moved(granularity, true)?, &end.json)?.json)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::super::{Incremental, IncrementalOptions};
    use super::Window;

    fn incremental(options: Json) -> Incremental {
        let mut options = options;
        options["cursor_path"] = json!("at");
        Incremental::new(&serde_json::from_value::<IncrementalOptions>(options).unwrap()).unwrap()
    }

    /// Each window as `start end sent_end cursor_after`, with `+` where another one follows.
    fn shown(options: Json, cursor: Option<Json>, now: &str) -> Vec<String> {
        let incremental = incremental(options);
        let cursor = cursor.map(|cursor| incremental.format.read(&cursor).unwrap());
        let mut windows = incremental.windows(cursor.as_ref(), now.parse().unwrap()).unwrap();
        let mut all = Vec::new();
        while let Some(window) = windows.step_on().unwrap() {
            assert_eq!(incremental.stored_window(&window.to_stored()).unwrap(), window);
            all.push(text(&window));
            assert!(all.len() < 50);
        }
        all
    }

    fn text(window: &Window) -> String {
        let json = |json: Option<&Json>| match json {
            None => "-".to_owned(),
            Some(Json::String(text)) => text.replace("T00:00:00Z", ""),
            Some(other) => other.to_string(),
        };
        let value = |value: &Option<super::CursorValue>| json(value.as_ref().map(|value| &value.json));
        let plus = if window.goes_on { " +" } else { "" };
        format!(
            "{} {} {} {}{plus}",
            value(&window.start),
            value(&window.end),
            json(window.sent_end.as_ref()),
            value(&window.cursor_after)
        )
    }

    const NOW: &str = "2024-04-10T00:00:00Z";

    #[test]
    fn without_a_step_there_is_one_window_from_the_cursor_on() {
        assert_eq!(shown(json!({}), None, NOW), ["- - - -"]);
        assert_eq!(shown(json!({"initial_value": "2024-01-01"}), None, NOW), ["2024-01-01 - - -"]);
        let lagging = json!({"initial_value": "2024-01-01", "lag": "3d"});
        assert_eq!(shown(lagging.clone(), Some(json!("2024-02-10")), NOW), ["2024-02-07 - - -"]);
        assert_eq!(shown(lagging, Some(json!("2024-01-02")), NOW), ["2024-01-01 - - -"], "not before the first");
        let finite = json!({"initial_value": 10, "end_value": 90, "lag": 5});
        assert_eq!(shown(finite.clone(), Some(json!(50)), NOW), ["45 90 90 -"]);
        assert_eq!(shown(finite, Some(json!(95)), NOW), Vec::<String>::new(), "there is nothing left");
    }

    #[test]
    fn windows_follow_each_other_to_the_end_or_to_the_clock() {
        let monthly = json!({"initial_value": "2024-01-31T00:00:00Z", "step": "1mo"});
        assert_eq!(
            shown(monthly.clone(), None, NOW),
            [
                "2024-01-31 2024-02-29 2024-02-29 2024-02-29 +",
                "2024-02-29 2024-03-29 2024-03-29 2024-03-29 +",
                "2024-03-29 2024-04-10 2024-04-10 -",
            ]
        );
        assert_eq!(shown(monthly, Some(json!("2024-04-09T00:00:00Z")), NOW), ["2024-04-09 2024-04-10 2024-04-10 -"]);
        let numbers = json!({"initial_value": 0, "end_value": 25, "step": 10, "cursor_granularity": 1});
        assert_eq!(shown(numbers, None, NOW), ["0 10 9 10 +", "10 20 19 20 +", "20 25 24 25"]);
        let seconds = json!({"initial_value": 0, "end_value": 7200, "step": "1h", "cursor_granularity": "1s", "datetime_format": "%s"});
        assert_eq!(shown(seconds, None, NOW), ["0 3600 3599 3600 +", "3600 7200 7199 7200"]);
        let ahead = json!({"initial_value": "2024-05-01T00:00:00Z", "step": "1d"});
        assert_eq!(shown(ahead, None, NOW), ["2024-05-01 2024-05-02 2024-05-02 -"], "a cursor ahead of the clock");
    }

    #[test]
    fn an_end_ahead_of_the_clock_does_not_take_the_cursor_there() {
        let finite =
            json!({"initial_value": "2024-04-01T00:00:00Z", "step": "7d", "end_value": "2024-04-20T00:00:00Z"});
        assert_eq!(
            shown(finite.clone(), None, NOW),
            ["2024-04-01 2024-04-08 2024-04-08 2024-04-08 +", "2024-04-08 2024-04-10 2024-04-10 -"]
        );
        let cursor = |text: &str| Some(json!(text));
        let later = "2024-05-01T00:00:00Z";
        assert_eq!(
            shown(finite.clone(), cursor("2024-04-09T00:00:00Z"), later),
            ["2024-04-09 2024-04-16 2024-04-16 2024-04-16 +", "2024-04-16 2024-04-20 2024-04-20 2024-04-20"]
        );
        let ahead = cursor("2024-04-15T00:00:00Z");
        assert_eq!(shown(finite.clone(), ahead, NOW), ["2024-04-15 2024-04-20 2024-04-20 -"], "not beyond the end");
        assert_eq!(shown(finite, cursor("2024-04-20T00:00:00Z"), NOW), Vec::<String>::new());
    }

    #[test]
    fn a_value_of_the_command_line_is_of_the_kind_of_the_cursor() {
        let like = |incremental: &Incremental, json: Json| incremental.format.read(&json).unwrap();
        for (options, stored, text, expected) in [
            (json!({"initial_value": "2024-01-01"}), None, "2024-02-01", Ok(json!("2024-02-01"))),
            (json!({"initial_value": "2024-01-01"}), None, "2024-01", Err("is a text, and the cursor is a time")),
            (json!({"initial_value": "2024-01-01"}), None, "1704067200", Err("like 2024-01-31 or 2024")),
            (json!({}), Some(json!("2024-01-01T00:00:00Z")), "2024-01", Err("is a text, and the cursor is a time")),
            (json!({"initial_value": 6}), Some(json!("x")), "70", Ok(json!(70))),
            (
                json!({}),
                Some(json!(17)),
                "soon",
                Err("\"soon\" is a text, and the cursor is an integer: write it like 17"),
            ),
            (json!({}), Some(json!("01HX")), "0200", Ok(json!("0200"))),
            (json!({}), Some(json!("01HX")), "2024-01-01", Err("is a time, and the cursor is a text")),
            (json!({}), None, "2024-01", Err("nothing says yet that the cursor is a text")),
            (json!({}), None, "12", Ok(json!(12))),
            (json!({"datetime_format": "%s"}), None, "1970-01-02", Ok(json!(86400))),
            (json!({"datetime_format": "%s"}), Some(json!("60")), "1970-01-02", Ok(json!("86400"))),
            (json!({"datetime_format": "%s"}), None, "soon", Err("nor a time as in RFC 3339")),
            (json!({"datetime_format": "%Y%m%d"}), None, "20240131", Ok(json!("20240131"))),
        ] {
            let incremental = incremental(options);
            let stored = stored.map(|json| like(&incremental, json));
            match (incremental.value_of(text, stored.as_ref()), expected) {
                (Ok(value), Ok(json)) => assert_eq!(value.json, json),
                (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
                (found, expected) => panic!("{text}: {found:?}, and not {expected:?}"),
            }
        }
    }

    #[test]
    fn live_reads_begin_at_their_cursor_or_where_one_under_way_began() {
        let from = |options: Json, cursor: Option<&str>, began: Option<i64>| {
            let incremental = incremental(options);
            let began = began.map(|began| incremental.format.read(&json!(began)).unwrap());
            let bounds = Window { began, ..Window::default() }.to_stored();
            incremental.live_from(cursor, Some(&bounds)).unwrap().map(|value| value.json)
        };
        for order in [json!({}), json!({"row_order": "asc"})] {
            assert_eq!(from(order.clone(), Some("7"), Some(3)), Some(json!(3)), "it may have begun in another order");
            assert_eq!(from(order, Some("7"), Some(7)), Some(json!(7)));
        }
        assert_eq!(from(json!({"row_order": "asc"}), Some("7"), None), None);
        assert_eq!(from(json!({"initial_value": 5}), None, Some(5)), Some(json!(5)));
        assert_eq!(from(json!({}), None, None), None);
    }

    #[test]
    fn a_stored_range_with_nothing_in_it_is_refused() {
        let incremental = incremental(json!({}));
        assert!(incremental.range_window(&json!(1), &json!(2)).unwrap().is_range);
        for (from, to) in [(json!(2), json!(2)), (json!(3), json!(2)), (json!(1), json!("2024-01-01"))] {
            let refused = incremental.range_window(&from, &to).unwrap_err();
            assert!(refused.starts_with("the range "), "{refused}");
        }
    }

    #[test]
    fn options_that_do_not_fit_each_other_are_refused_at_their_key() {
        for (options, key) in [
            (json!({"step": "1d"}), "step"),
            (json!({"initial_value": 1, "step": 10}), "step"),
            (json!({"initial_value": 1, "lag": "1d"}), "lag"),
            (json!({"initial_value": "2024-01-01", "lag": 5}), "lag"),
            (json!({"initial_value": "2024-01-01", "end_value": "2023-01-01"}), "end_value"),
            (json!({"initial_value": "2024-01-01", "end_value": 5}), "end_value"),
            (json!({"datetime_format": "%H"}), "datetime_format"),
            (json!({"initial_value": "x", "datetime_format": "%s"}), "initial_value"),
            (json!({"initial_value": "2024-01-01", "step": "1d", "row_order": "desc"}), "step"),
        ] {
            let mut all = options.clone();
            all["cursor_path"] = json!("at");
            let options: IncrementalOptions = serde_json::from_value(all).unwrap();
            assert_eq!(Incremental::new(&options).unwrap_err().0, key, "{options:?}");
        }
        for wrong in ["-1d", "0s", "soon", ""] {
            let options = json!({"cursor_path": "at", "lag": wrong});
            assert!(serde_json::from_value::<IncrementalOptions>(options).is_err(), "{wrong}");
        }
    }
}
