//! Durations and sizes as people write them in the configuration: `"250ms"`, `"1h30m"`, `"8MiB"`.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A duration of the configuration: whole numbers with `ms`, `s`, `m`, `h`, `d` or `w`, largest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timespan(pub Duration);

const TIME_UNITS: [(&str, u64); 6] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000)];

/// No wait is longer, and sums of such waits stay far from the ends of every clock.
const YEARS_MAX: u64 = 10;
const TIMESPAN_MAX_MS: u64 = YEARS_MAX * 366 * 86_400_000;

impl Timespan {
    /// `n` milliseconds.
    #[must_use]
    pub const fn millis(n: u64) -> Self {
        Self(Duration::from_millis(n))
    }

    /// `n` seconds.
    #[must_use]
    pub const fn secs(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }
}

impl Deref for Timespan {
    type Target = Duration;

    fn deref(&self) -> &Duration {
        &self.0
    }
}

impl FromStr for Timespan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is not a duration; write it like \"250ms\", \"30s\", \"15m\", \"1h30m\" or \"3d\"");
        let mut rest = text.trim();
        let mut total_ms: u64 = 0;
        let mut smallest_unit_ms = u64::MAX;
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let count: u64 = rest[..digits].parse().map_err(|_| wrong())?;
            rest = &rest[digits..];
            let letters = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
            let unit_ms =
                TIME_UNITS.iter().find(|(name, _)| *name == &rest[..letters]).map(|(_, ms)| *ms).ok_or_else(wrong)?;
            rest = &rest[letters..];
            if unit_ms >= smallest_unit_ms {
                return Err(wrong());
            }
            smallest_unit_ms = unit_ms;
            total_ms = count.checked_mul(unit_ms).and_then(|ms| total_ms.checked_add(ms)).ok_or_else(wrong)?;
        }
        if smallest_unit_ms == u64::MAX {
            return Err(wrong());
        }
        if total_ms > TIMESPAN_MAX_MS {
            return Err(format!("`{text}` is longer than {YEARS_MAX} years"));
        }
        Ok(Self::millis(total_ms))
    }
}

impl fmt::Display for Timespan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left_ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if left_ms == 0 {
            return f.write_str("0s");
        }
        for (name, unit_ms) in TIME_UNITS.iter().rev().filter(|(name, _)| *name != "w") {
            if left_ms >= *unit_ms {
                write!(f, "{}{name}", left_ms / unit_ms)?;
                left_ms %= unit_ms;
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Timespan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Timespan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Timespan {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "highwater-duration",
            "description": "a duration such as \"250ms\", \"30s\", \"15m\", \"1h30m\" or \"3d\"",
            "pattern": "^([0-9]+(ms|s|m|h|d|w))+$"
        })
    }
}

/// A size of the configuration in bytes: a whole number with `B`, `KiB`, `MiB`, `GiB`, `kB`, `MB` or `GB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

const SIZE_UNITS: [(&str, u64); 7] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

impl ByteSize {
    /// `n` mebibytes.
    #[must_use]
    pub const fn mebi(n: u64) -> Self {
        Self(n << 20)
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a size; write it like \"512KiB\", \"8MiB\" or \"1GiB\"");
        let text = text.trim();
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let count: u64 = text[..digits].parse().map_err(|_| wrong())?;
        let unit = text[digits..].trim();
        let bytes = SIZE_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, bytes)| *bytes).ok_or_else(wrong)?;
        count.checked_mul(bytes).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, bytes) in SIZE_UNITS[1..4].iter().rev() {
            if self.0 >= *bytes && self.0.is_multiple_of(*bytes) {
                return write!(f, "{}{name}", self.0 / bytes);
            }
        }
        write!(f, "{}B", self.0)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "highwater-size",
            "description": "a size such as \"512KiB\", \"8MiB\" or \"1GiB\"",
            "pattern": "^[0-9]+ ?(B|KiB|MiB|GiB|kB|MB|GB)$"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{ByteSize, Timespan};

    #[test]
    fn durations_read_and_print_alike() {
        for (text, ms) in [("250ms", 250), ("30s", 30_000), ("1h30m", 5_400_000), ("3d", 259_200_000), ("0s", 0)] {
            let span: Timespan = text.parse().unwrap();
            assert_eq!((span, span.to_string().as_str()), (Timespan::millis(ms), text));
        }
        for text in
            ["", "5", "s", "5 s", "-1s", "1.5s", "5x", "1s1h", "99999999999999999999s", "9999999999999999d", "3661d"]
        {
            assert!(text.parse::<Timespan>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_read_and_print_alike() {
        for (text, bytes) in [("8MiB", 8 << 20), ("1GiB", 1 << 30), ("512KiB", 512 << 10), ("7B", 7)] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, text));
        }
        assert_eq!("2 MB".parse::<ByteSize>().unwrap().0, 2_000_000);
        for text in ["", "8", "MiB", "-8MiB", "8mib", "99999999999999GiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }
}
