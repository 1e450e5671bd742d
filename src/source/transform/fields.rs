//! The fields of a record as values of an expression, and the result of one as a value of a record. Numbers stay what
//! they are as far as an expression can hold them: integers of up to 128 bits, and doubles.

use indexmap::IndexMap;
use minijinja::value::{Value as Jinja, ValueKind};
use minijinja::{Error, ErrorKind};
use serde_json::value::RawValue;

use crate::decode::{self, RECORD_BYTES_MAX};
use crate::expression::Expression;
use crate::page::{NewValue, Rows, Value};

/// The name under which an expression finds the whole record.
pub(super) const RECORD: &str = "record";

/// What the expression asks for, from row `row`. A field that is not there stays undefined.
pub(super) fn variables(expression: &Expression, rows: &Rows, row: usize) -> Jinja {
    let mut variables: Vec<(&str, Jinja)> = Vec::new();
    for (key, value) in rows.row(row) {
        let name = rows.keys()[key].as_str();
        if name != RECORD && expression.variables().contains(name) {
            variables.push((name, lift(value)));
        }
    }
    if expression.variables().contains(RECORD) {
        let all = rows.row(row).map(|(key, value)| (rows.keys()[key].as_str(), lift(value)));
        variables.push((RECORD, Jinja::from_pairs(all)));
    }
    Jinja::from_pairs(variables)
}

fn lift(value: Value<'_>) -> Jinja {
    match value {
        Value::Null => Jinja::from(()),
        Value::Bool(value) => Jinja::from(value),
        Value::Integer(value, _) => Jinja::from(value),
        Value::Real(value, _) => Jinja::from(value),
        Value::Number(text) => lift_number(&String::from_utf8_lossy(text)),
        Value::Text(text) => Jinja::from(String::from_utf8_lossy(text).as_ref()),
        Value::Json(text) => lift_json(&String::from_utf8_lossy(text)),
    }
}

fn lift_number(text: &str) -> Jinja {
    if let Ok(value) = text.parse::<i64>() {
        return value.into();
    }
    if let Ok(value) = text.parse::<i128>() {
        return value.into();
    }
    match (text.parse::<u128>(), text.parse::<f64>()) {
        (Ok(value), _) => value.into(),
        (_, Ok(value)) if value.is_finite() => value.into(),
        // It fails the expression when it is used, and only then.
        _ => unusable("a number is too large to calculate with"),
    }
}

/// A value whose syntax is known to be right. Not read by `serde_json`'s own value, which would round large integers.
fn lift_json(raw: &str) -> Jinja {
    let lifted = match raw.as_bytes().first() {
        Some(b'{') => serde_json::from_str::<IndexMap<String, &RawValue>>(raw)
            .map(|fields| Jinja::from_pairs(fields.into_iter().map(|(key, value)| (key, lift_json(value.get()))))),
        Some(b'[') => serde_json::from_str::<Vec<&RawValue>>(raw)
            .map(|items| items.into_iter().map(|item| lift_json(item.get())).collect()),
        Some(b'"') => serde_json::from_str::<String>(raw).map(Jinja::from),
        Some(b't') => Ok(Jinja::from(true)),
        Some(b'f') => Ok(Jinja::from(false)),
        Some(b'n') => Ok(Jinja::from(())),
        _ => Ok(lift_number(raw)),
    };
    lifted.unwrap_or_else(|_| unusable("a text has an escape for no character"))
}

fn unusable(why: &'static str) -> Jinja {
    Jinja::from(Error::new(ErrorKind::InvalidOperation, why))
}

/// The result of an expression over row `row` as a value of a record.
pub(super) fn lower(
    result: &Jinja,
    expression: &Expression,
    rows: &Rows,
    row: usize,
) -> Result<NewValue, &'static str> {
    const NOT_FINITE: &str = "its value is no number that can be written";
    match result.kind() {
        ValueKind::None => Ok(NewValue::Null),
        ValueKind::Bool => Ok(NewValue::Bool(result.is_true())),
        ValueKind::Number if result.is_integer() => {
            let text = result.to_string();
            Ok(text
                .parse()
                .map_or_else(|_| NewValue::Number(text.clone()), |value| NewValue::Integer(value, text.clone())))
        }
        ValueKind::Number => {
            let double = f64::try_from(result.clone()).map_err(|_| NOT_FINITE)?;
            if let Some(field) = chosen(double, expression, rows, row) {
                return Ok(field);
            }
            let text = serde_json::Number::from_f64(double).ok_or(NOT_FINITE)?.to_string();
            Ok(NewValue::Real(double, text))
        }
        ValueKind::String => Ok(NewValue::Text(result.to_string())),
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => {
            let mut room = RECORD_BYTES_MAX;
            check_nested(result, &mut room)?;
            let text = serde_json::to_string(result).map_err(|_| "its value has no JSON text")?;
            decode::value(&text).ok_or("its value is nested too deep")
        }
        _ => Err("its value is none that a record can hold"),
    }
}

/// The field whose value this double is, where the expression calculates nothing: its text can say more than a double.
fn chosen(double: f64, expression: &Expression, rows: &Rows, row: usize) -> Option<NewValue> {
    if !expression.used().only_chooses() {
        return None;
    }
    let is_asked_for = |key: usize| {
        let variables = expression.variables();
        variables.contains(RECORD) || variables.contains(&rows.keys()[key])
    };
    let field = rows.row(row).filter(|(key, _)| is_asked_for(*key)).find(|(_, value)| match value {
        Value::Real(value, _) => value.to_bits() == double.to_bits(),
        Value::Number(text) => {
            let value = std::str::from_utf8(text).ok().and_then(|text| text.parse::<f64>().ok());
            value.is_some_and(|value| value.to_bits() == double.to_bits())
        }
        _ => false,
    });
    field.map(|(_, value)| value.into())
}

/// Whether a nested value can be written. JSON has no infinity, and would say `null` for it; and a few bytes of an
/// expression can stand for a value without end. `room` is left of what a record may hold.
fn check_nested(value: &Jinja, room: &mut usize) -> Result<(), &'static str> {
    const NO_ITEMS: &str = "its value has no items";
    let bytes = value.as_str().map_or(1, str::len);
    *room = room.checked_sub(bytes + 1).ok_or("its value becomes too large")?;
    match value.kind() {
        ValueKind::Number if !value.is_integer() => {
            let double = f64::try_from(value.clone()).unwrap_or(f64::NAN);
            if double.is_finite() { Ok(()) } else { Err("its value has a number that cannot be written") }
        }
        ValueKind::Undefined => Err("its value has an undefined part"),
        ValueKind::Seq | ValueKind::Iterable => {
            value.try_iter().map_err(|_| NO_ITEMS)?.try_for_each(|item| check_nested(&item, room))
        }
        ValueKind::Map => value.try_iter().map_err(|_| NO_ITEMS)?.try_for_each(|key| {
            check_nested(&key, room)?;
            check_nested(&value.get_item(&key).map_err(|_| NO_ITEMS)?, room)
        }),
        _ => Ok(()),
    }
}
