//! What a history is about: the configuration, and how the API behaves that it is for.

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};
use serde_json::{Value, json};

use super::dice::Dice;

/// How cursors are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// RFC 3339, with offsets and fractions as they come.
    Mixed,
    Seconds,
    SecondsAsText,
    Millis,
    Pattern,
    Integer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disposition {
    Merge,
    Append,
    Replace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Asc,
    Desc,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paging {
    Page,
    Offset,
    Token,
}

/// Where windows end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    None,
    /// At a configured value.
    End(i64),
    /// Where the clock stands.
    Clock,
}

/// `incremental`. Points are milliseconds since 1970, or integers.
#[derive(Clone, Debug)]
pub(super) struct Incremental {
    pub(super) format: Format,
    pub(super) order: Option<Order>,
    pub(super) lag: i64,
    pub(super) initial: Option<i64>,
    pub(super) limit: Limit,
    pub(super) step: Option<i64>,
    /// The end bound of the API is inclusive.
    pub(super) is_end_inclusive: bool,
    /// The API can be asked for what is new.
    pub(super) filters: bool,
    /// Records without a cursor: kept, left out, or none.
    pub(super) missing: Option<bool>,
}

/// A resource and its API.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) disposition: Disposition,
    pub(super) is_keyed: bool,
    pub(super) incremental: Option<Incremental>,
    pub(super) paging: Paging,
    pub(super) has_more: bool,
    pub(super) size: usize,
    pub(super) partitions: usize,
    pub(super) side_by_side: usize,
    pub(super) batch_rows: u64,
    /// How the API sorts; by id without it.
    pub(super) sorts: Option<Order>,
    /// The first value of the cursor.
    pub(super) base: i64,
    /// The smallest way between two values.
    pub(super) unit: i64,
    /// How far apart values usually are, in units.
    pub(super) stride: i64,
}

impl Format {
    const ALL: [Self; 6] =
        [Self::Mixed, Self::Seconds, Self::SecondsAsText, Self::Millis, Self::Pattern, Self::Integer];

    fn unit(self) -> i64 {
        match self {
            Self::Mixed => 250,
            Self::Seconds | Self::SecondsAsText | Self::Pattern => 1000,
            Self::Millis | Self::Integer => 1,
        }
    }

    /// A point as the API writes it; `variant` chooses among the ways to write the same instant.
    pub(super) fn write(self, point: i64, variant: u64) -> Value {
        let time = || Timestamp::from_millisecond(point).unwrap();
        match self {
            Self::Integer | Self::Millis => json!(point),
            Self::Seconds => json!(point / 1000),
            Self::SecondsAsText => json!((point / 1000).to_string()),
            Self::Pattern => json!(time().strftime("%Y-%m-%d %H:%M:%S").to_string()),
            Self::Mixed => {
                let minutes = [0, 120, -330][(variant % 3) as usize];
                let local = time().to_zoned(TimeZone::fixed(Offset::from_seconds(minutes * 60).unwrap()));
                let whole = point % 1000 == 0 && variant.is_multiple_of(2);
                let text =
                    local.strftime(if whole { "%Y-%m-%dT%H:%M:%S" } else { "%Y-%m-%dT%H:%M:%S.%3f" }).to_string();
                let offset = if minutes == 0 { "Z".to_owned() } else { local.strftime("%:z").to_string() };
                json!(text + &offset)
            }
        }
    }

    /// What a text, or a number as text, means.
    pub(super) fn read(self, text: &str) -> i64 {
        match self {
            Self::Integer | Self::Millis => text.parse().unwrap(),
            Self::Seconds | Self::SecondsAsText => text.parse::<i64>().unwrap() * 1000,
            Self::Pattern => {
                let time: jiff::civil::DateTime = text.parse().unwrap();
                Offset::UTC.to_timestamp(time).unwrap().as_millisecond()
            }
            Self::Mixed => text.parse::<Timestamp>().unwrap().as_millisecond(),
        }
    }

    fn stride(self, points: i64) -> String {
        if self == Self::Integer { points.to_string() } else { format!("\"{points}ms\"") }
    }

    fn option(self) -> &'static str {
        match self {
            Self::Mixed | Self::Integer => "",
            Self::Seconds | Self::SecondsAsText => ", datetime_format = \"%s\"",
            Self::Millis => ", datetime_format = \"%ms\"",
            Self::Pattern => ", datetime_format = \"%Y-%m-%d %H:%M:%S\"",
        }
    }
}

impl Incremental {
    fn any(dice: &mut Dice, disposition: Disposition) -> (Self, i64, i64) {
        let format = *dice.one_of(&Format::ALL);
        let unit = format.unit();
        let limit = match dice.below(8) {
            0 | 1 => Limit::End(0),
            2 if format != Format::Integer => Limit::Clock,
            _ => Limit::None,
        };
        let (base, stride) = match limit {
            Limit::Clock => {
                // Data of the last hours. Half a step beside the clock, so that no window ends just there.
                let now = Timestamp::now().as_second() * 1000;
                (now - 5 * STEP_CLOCK - STEP_CLOCK / 2, 600_000 / unit)
            }
            _ if format == Format::Integer => (1000, 1),
            _ => (1_700_000_000_000, 1),
        };
        let limit = if limit == Limit::End(0) { Limit::End(base + dice.range(6, 40) * unit) } else { limit };
        let has_step = limit == Limit::Clock || limit != Limit::None && dice.chance(70);
        let order = match dice.below(3) {
            0 => Some(Order::Asc),
            1 if !has_step => Some(Order::Desc),
            _ => None,
        };
        let step = has_step.then(|| if limit == Limit::Clock { STEP_CLOCK } else { dice.range(3, 15) * unit });
        let filters = has_step || order == Some(Order::Asc) || dice.chance(80);
        // Where nobody sees the start of a read, it is not to depend on how many digits the cursor has.
        let lag_unit = if filters { unit * stride.min(3) } else { unit.max(1000 * i64::from(unit > 1)) };
        let incremental = Self {
            format,
            order,
            lag: if dice.chance(50) { dice.range(1, 5) * lag_unit } else { 0 },
            initial: (has_step || dice.chance(30)).then_some(base),
            limit,
            step,
            is_end_inclusive: limit != Limit::None && dice.chance(40),
            filters,
            missing: dice.chance(15).then(|| disposition == Disposition::Merge && dice.chance(50)),
        };
        (incremental, base, stride)
    }
}

/// The step of windows that end at the clock.
const STEP_CLOCK: i64 = 3_600_000;

impl Shape {
    pub(super) fn any(dice: &mut Dice) -> Self {
        let disposition = match dice.below(10) {
            0..4 => Disposition::Merge,
            4..8 => Disposition::Append,
            _ => Disposition::Replace,
        };
        let is_incremental = disposition != Disposition::Replace && dice.chance(90);
        let incremental = is_incremental.then(|| Incremental::any(dice, disposition));
        let (incremental, base, stride) = match incremental {
            Some((incremental, base, stride)) => (Some(incremental), base, stride),
            None => (None, 1000, 1),
        };
        let partitions = if dice.chance(25) { 2 + dice.below(2) as usize } else { 1 };
        let unit = incremental.as_ref().map_or(1, |incremental| incremental.format.unit());
        let paging = *dice.one_of(&[Paging::Page, Paging::Offset, Paging::Token]);
        Self {
            disposition,
            is_keyed: disposition == Disposition::Merge || dice.chance(50),
            sorts: incremental.as_ref().and_then(|incremental| incremental.order),
            incremental,
            paging,
            has_more: paging != Paging::Token && dice.chance(50),
            size: 1 + dice.below(5) as usize,
            partitions,
            side_by_side: 1 + dice.below(2) as usize,
            batch_rows: if dice.chance(30) { 1 } else { 10_000 },
            base,
            unit,
            stride,
        }
    }

    /// The configuration, for an API at `address` and a file at `path`.
    pub(super) fn config(&self, address: &str, path: &str) -> String {
        let paginator = match self.paging {
            Paging::Page => "type = \"page_number\"".to_owned(),
            Paging::Offset => format!("type = \"offset\", limit = {}", self.size),
            Paging::Token => "type = \"cursor\", cursor_path = \"next\", cursor_param = \"token\"".to_owned(),
        };
        let more = if self.has_more { ", has_more_path = \"more\"" } else { "" };
        let mut params = Vec::new();
        let mut text = format!(
            "[destination]\npath = {path:?}\nsynchronous = \"normal\"\n[pipeline]\nbatch_rows = {}\n\
             [sources.s.client]\nbase_url = \"http://{address}/\"\nretry = {{ max_attempts = 1 }}\n\
             paginator = {{ {paginator}{more} }}\n[sources.s.resources.r]\ndata_selector = \"items\"\n\
             write_disposition = \"{}\"\n",
            self.batch_rows,
            format!("{:?}", self.disposition).to_lowercase(),
        );
        if self.is_keyed {
            text += "primary_key = \"id\"\n";
        }
        if self.partitions > 1 {
            let names: Vec<String> = (0..self.partitions).map(|number| format!("{{ part = {number} }}")).collect();
            text += &format!("partitions = [{}]\nconcurrency = {}\n", names.join(", "), self.side_by_side);
            params.push("part = \"${partition.part}\"");
        }
        if let Some(incremental) = &self.incremental {
            text += &format!("incremental = {{ cursor_path = \"at\"{} }}\n", incremental.options(self.unit));
            if incremental.filters {
                params.push("since = \"${incremental.start_value}\"");
            }
            if incremental.has_end() {
                params.push("until = \"${incremental.end_value}\"");
            }
        }
        text + &format!("params = {{ {} }}\n", params.join(", "))
    }
}

impl Incremental {
    /// Whether the API is told where to end.
    pub(super) fn has_end(&self) -> bool {
        self.filters && self.limit != Limit::None
    }

    fn options(&self, unit: i64) -> String {
        let format = self.format;
        let mut text = format.option().to_owned();
        let value = |point: i64| match format.write(point, 0) {
            Value::String(text) => format!("{text:?}"),
            number => number.to_string(),
        };
        match self.order {
            Some(Order::Asc) => text += ", row_order = \"asc\"",
            Some(Order::Desc) => text += ", row_order = \"desc\"",
            None => {}
        }
        if self.lag > 0 {
            text += &format!(", lag = {}", format.stride(self.lag));
        }
        if let Some(initial) = self.initial {
            text += &format!(", initial_value = {}", value(initial));
        }
        if let Limit::End(end) = self.limit {
            text += &format!(", end_value = {}", value(end));
        }
        if let Some(step) = self.step {
            text += &format!(", step = {}", format.stride(step));
        }
        if self.is_end_inclusive && self.has_end() {
            text += &format!(", cursor_granularity = {}", format.stride(unit));
        }
        match self.missing {
            Some(true) => text += ", on_cursor_value_missing = \"include\"",
            Some(false) => text += ", on_cursor_value_missing = \"exclude\"",
            None => {}
        }
        text
    }
}
