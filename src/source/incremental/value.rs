//! Values of a cursor: how they are written, which is the higher, and the one that lies a given way further. They are
//! compared as instants or numbers, and sent back as they came.

use std::cmp::Ordering;

use jiff::civil::DateTime;
use jiff::fmt::{strtime, temporal::Pieces};
use jiff::tz::{Offset, TimeZone};
use jiff::{Span, Timestamp};
use serde_json::{Number, Value as Json};

/// How instants are written: `datetime_format`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// RFC 3339, with its relaxations: a blank for the `T`, no offset (then UTC), a date alone.
    #[default]
    Rfc3339,
    /// Seconds since 1970.
    Seconds,
    /// Milliseconds since 1970.
    Millis,
    /// A pattern of strftime; UTC where it has no offset.
    Pattern(String),
}

/// A value by which it is compared. Values of different kinds have no order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Point {
    /// An integer.
    Integer(i128),
    /// An instant.
    Time(Timestamp),
    /// A text that is neither, such as a ULID; compared byte by byte.
    Text(String),
}

/// A value as it was received, and what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorValue {
    /// What it is compared by.
    pub point: Point,
    /// As it came: a number or a string.
    pub json: Json,
}

/// A way along a cursor: a duration, with calendar units, or a number.
#[derive(Clone, Debug)]
pub enum Stride {
    /// For integers.
    Number(i64),
    /// For instants.
    Span(Span),
}

impl PartialOrd for Point {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => Some(a.cmp(b)),
            (Self::Time(a), Self::Time(b)) => Some(a.cmp(b)),
            (Self::Text(a), Self::Text(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }
}

impl Point {
    /// What it is, for messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Integer(_) => "an integer",
            Self::Time(_) => "a time",
            Self::Text(_) => "a text",
        }
    }

    /// The point that lies `stride` further, or before.
    ///
    /// # Errors
    /// When the stride is of another kind, or leads beyond all times.
    pub fn moved(&self, stride: &Stride, back: bool) -> Result<Self, String> {
        let beyond = || "the cursor leads beyond all times".to_owned();
        match (self, stride) {
            (Self::Integer(value), Stride::Number(by)) => {
                let by = i128::from(*by);
                let moved = if back { value.checked_sub(by) } else { value.checked_add(by) };
                moved.map(Self::Integer).ok_or_else(beyond)
            }
            (Self::Time(time), Stride::Span(span)) => {
                let time = time.to_zoned(TimeZone::UTC);
                let moved = if back { time.checked_sub(*span) } else { time.checked_add(*span) };
                moved.map(|moved| Self::Time(moved.timestamp())).map_err(|_| beyond())
            }
            (_, Stride::Number(_)) => Err(format!("the cursor is {}, and the step or lag is a number", self.kind())),
            (_, Stride::Span(_)) => Err(format!("the cursor is {}, and the step or lag is a duration", self.kind())),
        }
    }
}

impl Format {
    /// Reads a `datetime_format`.
    ///
    /// # Errors
    /// When it is no pattern that times can be written in and read from.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "%s" => Ok(Self::Seconds),
            "%ms" => Ok(Self::Millis),
            pattern => {
                let format = Self::Pattern(pattern.to_owned());
                let now = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
                let written = strtime::format(pattern, &now).map_err(|error| error.to_string())?;
                format.time_of(&written).ok_or_else(|| {
                    "a time written in it cannot be read again: it needs a year, a month and a day".to_owned()
                })?;
                Ok(format)
            }
        }
    }

    /// Reads a value.
    ///
    /// # Errors
    /// When it is no cursor: neither a number nor a string, or not in the format.
    pub fn read(&self, json: &Json) -> Result<CursorValue, String> {
        let point = match json {
            Json::Number(number) => self.point_of_number(&number.to_string()),
            Json::String(text) => match self {
                Self::Rfc3339 => Some(time_of(text).map_or_else(|| Point::Text(text.clone()), Point::Time)),
                Self::Seconds | Self::Millis => self.point_of_number(text),
                Self::Pattern(_) => self.time_of(text).map(Point::Time),
            },
            _ => None,
        };
        let point = point.ok_or_else(|| format!("{} is {}", shown(json), self.expected()))?;
        Ok(CursorValue { point, json: json.clone() })
    }

    /// Reads a value that a person has written: in the format, or as a time of RFC 3339, which is then written in it.
    ///
    /// # Errors
    /// When it is neither.
    pub fn given(&self, json: &Json) -> Result<CursorValue, String> {
        let refused = match self.read(json) {
            Ok(value) => return Ok(value),
            Err(refused) => refused,
        };
        match json.as_str().and_then(time_of) {
            Some(time) => self.write(&Point::Time(time), &Json::Null),
            None if *self == Self::Rfc3339 => Err(refused),
            None => Err(format!("{refused}, nor a time as in RFC 3339")),
        }
    }

    /// Whether values of it are numbers where nothing else is known of them.
    #[must_use]
    pub fn has_numbers(&self) -> bool {
        !matches!(self, Self::Pattern(_))
    }

    fn expected(&self) -> String {
        match self {
            Self::Rfc3339 => "neither a time as in RFC 3339, an integer nor a text".to_owned(),
            Self::Seconds => "not a number of seconds (datetime_format = \"%s\")".to_owned(),
            Self::Millis => "not a number of milliseconds (datetime_format = \"%ms\")".to_owned(),
            Self::Pattern(pattern) => format!("not a time like datetime_format = {pattern:?}"),
        }
    }

    fn point_of_number(&self, text: &str) -> Option<Point> {
        match self {
            Self::Rfc3339 => text.parse().ok().map(Point::Integer),
            Self::Seconds => time_of_decimal(text, 1_000_000_000).map(Point::Time),
            Self::Millis => time_of_decimal(text, 1_000_000).map(Point::Time),
            Self::Pattern(_) => self.time_of(text).map(Point::Time),
        }
    }

    fn time_of(&self, text: &str) -> Option<Timestamp> {
        let Self::Pattern(pattern) = self else { return time_of(text) };
        let parsed = strtime::parse(pattern, text).ok()?;
        if let Ok(time) = parsed.to_timestamp() {
            return Some(time);
        }
        let at_midnight = || parsed.to_date().ok().map(|date| date.to_datetime(jiff::civil::Time::midnight()));
        let time = parsed.to_datetime().ok().or_else(at_midnight)?;
        Offset::UTC.to_timestamp(time).ok()
    }

    /// Writes a point the way `like` is written. Where that way is too coarse, the value is the one just before it:
    /// it means what is written, because that is what the API is asked for.
    ///
    /// # Errors
    /// When the pattern cannot be written, which loading has tried.
    pub fn write(&self, point: &Point, like: &Json) -> Result<CursorValue, String> {
        let number = |text: String| match like {
            Json::String(_) => Json::String(text),
            _ => text
                .parse::<i64>()
                .map_or_else(|_| Json::String(text.clone()), |number| Json::Number(Number::from(number))),
        };
        let json = match (point, self) {
            (Point::Integer(value), _) => number(value.to_string()),
            (Point::Text(text), _) => Json::String(text.clone()),
            (Point::Time(time), Self::Seconds) => number(units_of(*time, 1_000_000_000)),
            (Point::Time(time), Self::Millis) => number(units_of(*time, 1_000_000)),
            (Point::Time(time), Self::Rfc3339) => Json::String(time_text(*time, like.as_str().unwrap_or_default())),
            (Point::Time(time), Self::Pattern(pattern)) => {
                let written = strtime::format(pattern, &time.to_zoned(TimeZone::UTC));
                Json::String(written.map_err(|error| error.to_string())?)
            }
        };
        self.read(&json)
    }
}

/// Whole units of so many nanoseconds since 1970, rounded down.
fn units_of(time: Timestamp, unit_ns: i128) -> String {
    time.as_nanosecond().div_euclid(unit_ns).to_string()
}

fn time_of(text: &str) -> Option<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    Offset::UTC.to_timestamp(text.parse::<DateTime>().ok()?).ok()
}

/// A decimal number of units of so many nanoseconds since 1970.
fn time_of_decimal(text: &str, unit_ns: i128) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let negative = whole.starts_with('-');
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) || text.ends_with('.') {
        return None;
    }
    let whole: i128 = whole.parse().ok()?;
    let digits = fraction.get(..fraction.len().min(12))?;
    let part = if digits.is_empty() {
        0
    } else {
        digits.parse::<i128>().ok()? * unit_ns / 10_i128.pow(u32::try_from(digits.len()).ok()?)
    };
    let ns = whole.checked_mul(unit_ns)?.checked_add(if negative { -part } else { part })?;
    Timestamp::from_nanosecond(ns).ok()
}

/// An instant, written like an example: its offset, whether it is a date alone, and as many digits of its fraction, or
/// as many more as it needs: APIs that leave zeros out write `:00Z` and `:00.250Z`.
fn time_text(time: Timestamp, like: &str) -> String {
    let pieces = Pieces::parse(like).ok();
    let offset = pieces.as_ref().and_then(Pieces::to_numeric_offset);
    let local = time.to_zoned(TimeZone::fixed(offset.unwrap_or(Offset::UTC)));
    if pieces.as_ref().is_some_and(|pieces| pieces.time().is_none()) {
        return local.strftime("%Y-%m-%d").to_string();
    }
    let fraction = like.split_once('.').map_or(0, |(_, rest)| rest.bytes().take_while(u8::is_ascii_digit).count());
    let needed = match local.subsec_nanosecond() {
        0 => 0,
        ns if ns % 1_000_000 == 0 => 3,
        ns if ns % 1_000 == 0 => 6,
        _ => 9,
    };
    let fraction = fraction.max(needed);
    let mut text =
        local.strftime(if like.contains(' ') { "%Y-%m-%d %H:%M:%S" } else { "%Y-%m-%dT%H:%M:%S" }).to_string();
    if fraction > 0 {
        let digits = format!("{:09}", local.subsec_nanosecond());
        text.push('.');
        text.push_str(&digits[..fraction.min(9)]);
    }
    match offset {
        None if pieces.is_some() => {}
        Some(_) if !like.ends_with(['Z', 'z']) => text.push_str(&local.strftime("%:z").to_string()),
        _ => text.push('Z'),
    }
    text
}

fn shown(json: &Json) -> String {
    const SHOWN_CHARS_MAX: usize = 60;
    json.to_string().chars().take(SHOWN_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::{Format, Point, Stride};

    fn read(format: &str, json: Json) -> Point {
        let format = if format.is_empty() { Format::default() } else { Format::parse(format).unwrap() };
        format.read(&json).unwrap().point
    }

    #[test]
    fn i06_values_are_compared_as_what_they_mean() {
        for (format, earlier, later) in [
            ("", json!("2024-01-01T00:30:00+01:00"), json!("2024-01-01T00:00:00Z")),
            ("", json!("2024-01-01T00:00:00Z"), json!("2024-01-01T00:00:00.001Z")),
            ("", json!("2024-01-01"), json!("2024-01-01 00:00:01")),
            ("", json!(9), json!(10)),
            ("", json!("01ARZ3"), json!("01ARZ4")),
            ("%s", json!(1_700_000_000), json!("1700000000.5")),
            ("%ms", json!(999), json!(1000)),
            ("%d/%m/%Y", json!("31/01/2024"), json!("01/02/2024")),
        ] {
            assert!(read(format, earlier.clone()) < read(format, later.clone()), "{earlier} {later}");
        }
        assert_eq!(read("", json!("2024-01-01T01:00:00+01:00")), read("", json!("2024-01-01")));
        assert_eq!(read("%s", json!(1)), read("%ms", json!(1000)));
        assert_eq!(read("", json!(1)).partial_cmp(&read("", json!("2024-01-01"))), None);
    }

    #[test]
    fn what_is_no_cursor_is_an_error_that_says_what_was_expected() {
        for (format, json, said) in [
            ("%s", json!("soon"), "seconds"),
            ("%Y-%m-%d", json!("01.02.2024"), "%Y-%m-%d"),
            ("%ms", json!(true), "milliseconds"),
        ] {
            let error = Format::parse(format).unwrap().read(&json).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        assert!(Format::default().read(&json!(1.5)).is_err() && Format::default().read(&json!([1])).is_err());
        assert!(Format::parse("%H:%M").is_err() && Format::parse("%!").is_err());
    }

    #[test]
    fn a_person_may_write_a_time_as_in_rfc_3339_and_it_is_sent_in_the_format() {
        for (format, given, sent) in [
            ("%s", json!("2023-01-01T00:00:00Z"), json!(1_672_531_200)),
            ("%s", json!("2023-01-01"), json!(1_672_531_200)),
            ("%s", json!("1672531200"), json!("1672531200")),
            ("%ms", json!("2023-01-01T01:00:00+01:00"), json!(1_672_531_200_000_i64)),
            ("%d.%m.%Y", json!("2023-01-01T00:00:00Z"), json!("01.01.2023")),
            ("", json!("2023-01-01"), json!("2023-01-01")),
        ] {
            let format = if format.is_empty() { Format::default() } else { Format::parse(format).unwrap() };
            let value = format.given(&given).unwrap();
            assert_eq!(value.json, sent);
            assert_eq!(format.read(&sent).unwrap(), value);
        }
        let error = Format::Seconds.given(&json!("soon")).unwrap_err();
        assert!(error.ends_with("(datetime_format = \"%s\"), nor a time as in RFC 3339"), "{error}");
    }

    #[test]
    fn a_point_further_on_is_written_as_the_values_are() {
        let hour = Stride::Span("1h".parse().unwrap());
        let month = Stride::Span("1mo".parse().unwrap());
        for (format, like, stride, back, expected) in [
            ("", json!("2024-03-31T12:00:00.123456+02:00"), &hour, true, json!("2024-03-31T11:00:00.123456+02:00")),
            ("", json!("2024-03-31T12:00:00Z"), &hour, false, json!("2024-03-31T13:00:00Z")),
            ("", json!("2024-03-31 12:00:00"), &hour, false, json!("2024-03-31 13:00:00")),
            ("", json!("2024-01-31"), &month, false, json!("2024-02-29")),
            ("%s", json!(7200), &hour, true, json!(3600)),
            ("%s", json!("7200"), &hour, true, json!("3600")),
            ("%ms", json!(7_200_000), &hour, true, json!(3_600_000)),
            ("%Y%m%d", json!("20240131"), &month, false, json!("20240229")),
            ("", json!(50), &Stride::Number(8), true, json!(42)),
        ] {
            let format = if format.is_empty() { Format::default() } else { Format::parse(format).unwrap() };
            let value = format.read(&like).unwrap();
            let moved = value.point.moved(stride, back).unwrap();
            assert_eq!(format.write(&moved, &like).unwrap().json, expected, "{like}");
            assert_eq!(format.write(&value.point, &like).unwrap().json, like, "as it came");
        }
        assert!(Point::Integer(1).moved(&hour, true).is_err());
    }

    #[test]
    fn a_written_value_means_what_is_written() {
        let stride = Stride::Span("750ms".parse().unwrap());
        for (format, like, expected) in [
            ("", json!("2024-01-01T00:00:01Z"), json!("2024-01-01T00:00:01.750Z")),
            ("", json!("2024-01-01T00:00:01.5+01:00"), json!("2024-01-01T00:00:02.250+01:00")),
            ("%s", json!(1), json!(1)),
            ("%s", json!(-1), json!(-1)),
            ("%ms", json!(1000), json!(1750)),
            ("%Y-%m-%d %H:%M:%S", json!("2024-01-01 00:00:01"), json!("2024-01-01 00:00:01")),
        ] {
            let format = if format.is_empty() { Format::default() } else { Format::parse(format).unwrap() };
            let value = format.read(&like).unwrap();
            let written = format.write(&value.point.moved(&stride, false).unwrap(), &like).unwrap();
            assert_eq!(written, format.read(&expected).unwrap(), "{like}");
        }
    }
}
