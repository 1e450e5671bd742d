//! Types that the user gives to columns: what a value says in such a column, and which columns can still get one.
//! Pure rules.

use std::str;

use super::columns::ColumnType;
use crate::page::{CellKind, HintType, Value, number};

/// Doubles up to this size (2^53) are all the integers there are.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

impl From<HintType> for ColumnType {
    fn from(hint: HintType) -> Self {
        match hint {
            HintType::Integer => Self::Integer,
            HintType::Real => Self::Real,
            HintType::Text => Self::Text,
            HintType::Boolean => Self::Boolean,
            HintType::Timestamp => Self::Timestamp,
            HintType::Json => Self::AnyJson,
        }
    }
}

/// What `value` says in a column that the user gave this type. The same thing written in another way is taken for
/// it, where nothing is lost: the text `12.50` for a number, the number 7 for a text. `None` for a misfit.
pub(super) fn read_as(hint: HintType, value: Value<'_>) -> Option<Value<'_>> {
    Some(match (hint, value) {
        (_, Value::Null)
        | (HintType::Integer, Value::Integer(..))
        | (HintType::Real, Value::Integer(..) | Value::Real(..))
        | (HintType::Text | HintType::Timestamp, Value::Text(_))
        | (HintType::Boolean, Value::Bool(_))
        | (HintType::Json, _) => value,
        (HintType::Integer, Value::Real(real, text)) if is_whole(real) => Value::Integer(real as i64, text),
        (HintType::Integer | HintType::Real, Value::Text(text)) => return read_as(hint, number_in(text)?),
        (HintType::Text, Value::Integer(_, text) | Value::Real(_, text) | Value::Number(text)) => Value::Text(text),
        (HintType::Boolean, Value::Integer(value @ (0 | 1), _)) => Value::Bool(value == 1),
        (HintType::Boolean, Value::Text(b"true")) => Value::Bool(true),
        (HintType::Boolean, Value::Text(b"false")) => Value::Bool(false),
        _ => return None,
    })
}

fn is_whole(value: f64) -> bool {
    value.fract() == 0.0 && value.abs() <= WHOLE_MAX && !(value == 0.0 && value.is_sign_negative())
}

/// The number that a text is, if it is written as numbers are in JSON: `007`, `+1`, ` 5` and `1,5` are not.
fn number_in(text: &[u8]) -> Option<Value<'_>> {
    if !matches!(text.first()?, b'-' | b'0'..=b'9') {
        return None;
    }
    let written = str::from_utf8(text).ok()?;
    let raw: &serde_json::value::RawValue = serde_json::from_str(written).ok()?;
    (raw.get().len() == text.len()).then(|| match number(written) {
        CellKind::Integer(value) => Value::Integer(value, text),
        CellKind::Real(value) => Value::Real(value, text),
        _ => Value::Number(text),
    })
}

/// Whether a text is an RFC 3339 timestamp (§5.6), with its offset.
pub(super) fn is_timestamp(text: &[u8]) -> bool {
    const SHAPE: &[u8] = b"0000-00-00T00:00:00";
    let Some((time, rest)) = text.split_at_checked(SHAPE.len()) else { return false };
    let fits = |(byte, shape): (&u8, &u8)| match shape {
        b'0' => byte.is_ascii_digit(),
        b'T' => matches!(byte, b'T' | b't' | b' '),
        _ => byte == shape,
    };
    let rest = match rest.strip_prefix(b".") {
        None => rest,
        Some(fraction) => {
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if digits == 0 {
                return false;
            }
            &fraction[digits..]
        }
    };
    let offset = match rest {
        b"Z" | b"z" => (0, 0),
        [b'+' | b'-', h1, h2, b':', m1, m2] if [h1, h2, m1, m2].iter().all(|digit| digit.is_ascii_digit()) => {
            (pair(*h1, *h2), pair(*m1, *m2))
        }
        _ => return false,
    };
    let at = |index: usize| pair(time[index], time[index + 1]);
    time.iter().zip(SHAPE).all(fits)
        && at(11) < 24
        && at(14) < 60
        && at(17) <= 60 // a leap second
        && offset.0 < 24
        && offset.1 < 60
        && jiff::civil::Date::new(i16::from(at(0)) * 100 + i16::from(at(2)), at(5) as i8, at(8) as i8).is_ok()
}

fn pair(tens: u8, ones: u8) -> u8 {
    (tens - b'0') * 10 + (ones - b'0')
}

/// What the user's type makes of a column that is already there. All its values are as they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retyped {
    /// It has that type.
    Same,
    /// Every value it can have is one of the new type as well.
    Widened,
    /// Its values are of another type.
    Refused,
}

/// Whether a column of type `stored` can be one of type `wanted` from now on.
pub(super) fn retype(stored: ColumnType, wanted: ColumnType) -> Retyped {
    match (stored, wanted) {
        (stored, wanted) if stored == wanted => Retyped::Same,
        (ColumnType::Json, ColumnType::AnyJson) | (ColumnType::Timestamp, ColumnType::Text) => Retyped::Widened,
        _ => Retyped::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::columns::bind;

    #[test]
    fn a_type_takes_what_says_the_same_and_nothing_that_would_lose_something() {
        use HintType::{Boolean, Integer, Json, Real, Text, Timestamp};
        let text = Value::Text;
        let cases: [(Value<'_>, &[HintType]); 26] = [
            (Value::Integer(12, b"12"), &[Integer, Real, Text, Json]),
            (Value::Integer(1, b"1"), &[Integer, Real, Text, Boolean, Json]),
            (Value::Integer(i64::MAX, b"9223372036854775807"), &[Integer, Text, Json]),
            (Value::Real(12.0, b"12.0"), &[Integer, Real, Text, Json]),
            (Value::Real(12.5, b"12.5"), &[Real, Text, Json]),
            (Value::Real(1e300, b"1e300"), &[Real, Text, Json]),
            (Value::Number(b"9223372036854775808"), &[Text, Json]),
            (Value::Bool(true), &[Boolean, Json]),
            (Value::Json(b"[1]"), &[Json]),
            (Value::Null, &[Integer, Real, Text, Boolean, Timestamp, Json]),
            (text(b"12"), &[Integer, Real, Text, Json]),
            (text(b"12.50"), &[Real, Text, Json]),
            (text(b"12.00"), &[Integer, Real, Text, Json]),
            (text(b"-3e2"), &[Integer, Real, Text, Json]),
            (text(b"0.1000000000000000055511151231257828"), &[Text, Json]),
            (text(b"9223372036854775808"), &[Text, Json]),
            (text(b"9007199254740993"), &[Integer, Text, Json]),
            (text(b"007"), &[Text, Json]),
            (text(b" 5"), &[Text, Json]),
            (text(b"5 "), &[Text, Json]),
            (text(b"+5"), &[Text, Json]),
            (text(b"-"), &[Text, Json]),
            (text(b""), &[Text, Json]),
            (text(b"1 2"), &[Text, Json]),
            (text(b"true"), &[Text, Boolean, Json]),
            (text(b"2024-01-02T03:04:05Z"), &[Text, Timestamp, Json]),
        ];
        for (value, taking) in cases {
            for hint in [Integer, Real, Text, Boolean, Timestamp, Json] {
                let taken = read_as(hint, value).and_then(|value| bind(hint.into(), value));
                assert_eq!(taken.is_some(), taking.contains(&hint), "{value:?} as {hint:?}");
            }
        }
        assert_eq!(read_as(Integer, text(b"-3e2")), Some(Value::Integer(-300, b"-3e2")));
    }

    #[test]
    fn timestamps_are_those_of_rfc_3339() {
        for good in [
            "1985-04-12T23:20:50.52Z",
            "1996-12-19T16:39:57-08:00",
            "1990-12-31T23:59:60Z",
            "1937-01-01T12:00:27.87+00:20",
            "2024-02-29t00:00:00z",
            "2024-01-01 00:00:00Z",
            "0000-01-01T00:00:00Z",
            "9999-12-31T23:59:59.999999999999Z",
        ] {
            assert!(is_timestamp(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            "2024-01-01",
            "2024-01-01T00:00:00",
            "2024-01-01T00:00Z",
            "2023-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:60:00Z",
            "2024-01-01T00:00:61Z",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00+0100",
            "2024-01-01T00:00:00+24:00",
            "2024-01-01T00:00:00Z[UTC]",
            "2024-01-01T00:00:00Z ",
            "20240101T000000Z",
            "1704067200",
            "\u{e9}024-01-01T00:00:00Z",
        ] {
            assert!(!is_timestamp(bad.as_bytes()), "{bad}");
        }
    }
}
