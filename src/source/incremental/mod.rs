//! Reading only what is new: the options of `incremental`, the windows that a read asks for, and the cursor that
//! moves with what was stored.

use std::borrow::Cow;
use std::fmt;

use jiff::{Span, SpanRelativeTo};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value as Json;

use crate::page::{Bound, Coverage};

mod track;
mod value;
mod window;

pub use track::{CursorError, Known, Track, Tracked};
pub use value::{CursorValue, Format, Point, Stride};
pub use window::{Window, Windows};

/// `incremental`: read only what is new since the last complete read.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IncrementalOptions {
    /// The field, or dotted path, whose highest value is remembered.
    pub cursor_path: String,
    /// Where the first read starts.
    #[serde(default)]
    pub initial_value: Option<Given>,
    /// Where reading ends; records from there on are left out.
    #[serde(default)]
    pub end_value: Option<Given>,
    /// How the API sorts by the cursor; without it, the cursor moves when a read is complete.
    #[serde(default)]
    pub row_order: Option<RowOrder>,
    /// Read again this much before the cursor, for records that arrive late: a duration, or a number for integers.
    #[serde(default)]
    pub lag: Option<GivenStride>,
    /// Read in windows of this length, oldest first: a duration, also in calendar units (`1mo`), or a number.
    #[serde(default)]
    pub step: Option<GivenStride>,
    /// For APIs whose end bound is inclusive: taken off the end of a window when it is sent.
    #[serde(default)]
    pub cursor_granularity: Option<GivenStride>,
    /// How times are written: RFC 3339 by default, `%s`, `%ms`, or a pattern of strftime.
    #[serde(default)]
    pub datetime_format: Option<String>,
    /// What becomes of records that have no value for it.
    #[serde(default)]
    pub on_cursor_value_missing: OnMissing,
}

/// How an API sorts its records by the cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RowOrder {
    /// Oldest first: the cursor moves with every page. It is checked, to within the `lag`.
    Asc,
    /// Newest first: the read ends at the first page that is wholly older than where it started. It is checked on each
    /// page.
    Desc,
}

impl fmt::Display for RowOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Asc => "asc",
            Self::Desc => "desc",
        })
    }
}

/// What becomes of records without a cursor value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnMissing {
    /// The read fails.
    #[default]
    Raise,
    /// They are rows like any others.
    Include,
    /// They are left out.
    Exclude,
}

/// A cursor value of the configuration: a string or an integer, in the API's format or, for times, as in RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given(pub Json);

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Json::deserialize(deserializer)? {
            value @ (Json::String(_) | Json::Number(_)) => Ok(Self(value)),
            _ => Err(de::Error::custom("expected a string or an integer")),
        }
    }
}

impl JsonSchema for Given {
    fn schema_name() -> Cow<'static, str> {
        "CursorValue".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "integer"],
            "description": "a value of the cursor, as the API writes it; or a time as in RFC 3339, whatever the API's format"
        })
    }
}

/// A stride of the configuration, as written.
#[derive(Clone, Debug)]
pub struct GivenStride(pub Stride);

impl PartialEq for GivenStride {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Stride::Number(a), Stride::Number(b)) => a == b,
            (Stride::Span(a), Stride::Span(b)) => a.fieldwise() == b.fieldwise(),
            _ => false,
        }
    }
}

impl<'de> Deserialize<'de> for GivenStride {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Json::deserialize(deserializer)? {
            Json::Number(number) => match number.as_i64() {
                Some(number) if number > 0 => Ok(Self(Stride::Number(number))),
                _ => Err(de::Error::custom("a number of steps is a positive integer")),
            },
            Json::String(text) => stride(&text).map(Self).map_err(de::Error::custom),
            _ => Err(de::Error::custom("expected a duration or a number")),
        }
    }
}

/// Reads a duration, also in calendar units.
///
/// # Errors
/// When it is none, or not longer than nothing.
pub fn stride(text: &str) -> Result<Stride, String> {
    let wrong = || {
        format!("`{text}` is not a duration; write it like \"30s\", \"5m\", \"12h\", \"3d\", \"2w\", \"1mo\" or \"1y\"")
    };
    let span: Span = text.parse().map_err(|_| wrong())?;
    let positive = span.compare((Span::new(), SpanRelativeTo::days_are_24_hours()));
    let calendar = span.get_years() != 0 || span.get_months() != 0;
    if span.is_negative() || span.is_zero() || (!calendar && positive.is_err()) {
        return Err(wrong());
    }
    Ok(Stride::Span(span))
}

impl JsonSchema for GivenStride {
    fn schema_name() -> Cow<'static, str> {
        "Stride".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "integer"],
            "description": "a duration such as \"30s\", \"5m\", \"3d\" or \"1mo\", or a number for integer cursors"
        })
    }
}

/// `incremental`, ready to be used.
#[derive(Clone, Debug)]
pub struct Incremental {
    pub(super) path: String,
    pub(super) format: Format,
    pub(super) order: Option<RowOrder>,
    pub(super) on_missing: OnMissing,
    initial: Option<CursorValue>,
    end: Option<CursorValue>,
    lag: Option<Stride>,
    step: Option<Stride>,
    granularity: Option<Stride>,
}

impl Incremental {
    /// Checks the options and makes them ready.
    ///
    /// # Errors
    /// The key that is wrong, and why.
    pub fn new(options: &IncrementalOptions) -> Result<Self, (&'static str, String)> {
        let format = match &options.datetime_format {
            None => Format::default(),
            Some(text) => Format::parse(text).map_err(|reason| ("datetime_format", reason))?,
        };
        let read = |key: &'static str, given: &Option<Given>| {
            given.as_ref().map(|given| format.given(&given.0).map_err(|reason| (key, reason))).transpose()
        };
        let initial = read("initial_value", &options.initial_value)?;
        let end = read("end_value", &options.end_value)?;
        if let (Some(initial), Some(end)) = (&initial, &end)
            && initial.point.partial_cmp(&end.point).is_none_or(std::cmp::Ordering::is_ge)
        {
            return Err(("end_value", "must be a later value of the same kind than `initial_value`".to_owned()));
        }
        let is_time = match initial.as_ref().or(end.as_ref()) {
            Some(value) => Some(matches!(value.point, Point::Time(_))),
            None => (format != Format::Rfc3339).then_some(true),
        };
        let strides =
            [("lag", &options.lag), ("step", &options.step), ("cursor_granularity", &options.cursor_granularity)];
        for (key, stride) in strides {
            match (is_time, stride.as_ref().map(|given| &given.0)) {
                (Some(true), Some(Stride::Number(_))) => {
                    return Err((key, "is a duration where the cursor is a time".to_owned()));
                }
                (Some(false), Some(Stride::Span(_))) => {
                    return Err((key, "is a number where the cursor is an integer".to_owned()));
                }
                _ => {}
            }
        }
        if options.step.is_some() && initial.is_none() {
            return Err(("step", "needs an `initial_value`: the first window starts there".to_owned()));
        }
        if options.step.is_some() && is_time == Some(false) && end.is_none() {
            return Err((
                "step",
                "needs an `end_value` where the cursor is an integer: windows have to end".to_owned(),
            ));
        }
        if options.step.is_some() && options.row_order == Some(RowOrder::Desc) {
            return Err(("step", "windows are read oldest first: leave out `row_order = \"desc\"`".to_owned()));
        }
        let stride = |given: &Option<GivenStride>| given.as_ref().map(|given| given.0.clone());
        Ok(Self {
            path: options.cursor_path.clone(),
            format,
            order: options.row_order,
            on_missing: options.on_cursor_value_missing,
            initial,
            end,
            lag: stride(&options.lag),
            step: stride(&options.step),
            granularity: stride(&options.cursor_granularity),
        })
    }

    /// The bounds of ranges that were stored.
    ///
    /// # Errors
    /// When they are not ours, or of another format.
    pub fn covered(&self, ranges: &[Coverage]) -> Result<Vec<(Option<CursorValue>, CursorValue)>, String> {
        let bound = |bound: &Bound| self.stored(&bound.json);
        ranges.iter().map(|range| Ok((range.from.as_ref().map(bound).transpose()?, bound(&range.to)?))).collect()
    }

    /// Reads a value that was stored.
    ///
    /// # Errors
    /// When it is not ours, or of another format.
    pub fn stored(&self, text: &str) -> Result<CursorValue, String> {
        let json: Json = serde_json::from_str(text).map_err(|_| format!("the stored cursor {text:?} is not JSON"))?;
        self.format.read(&json).map_err(|reason| format!("the stored cursor: {reason}"))
    }
}
