//! One JSON text as a value of a record, by the same rules as the fields of a page.

use super::NESTING_MAX;
use super::scan::{Kind, Scanner};
use crate::page::number;
use crate::page::{CellKind, NewValue};

/// The value that a valid JSON text stands for; `None` where it cannot be in a row: a text with an escape for no
/// character, or a value that is nested too deep.
pub(crate) fn value(raw: &str) -> Option<NewValue> {
    let text = || raw.to_owned();
    let (kind, _) = Scanner::new(raw).value().ok()?;
    Some(match kind {
        Kind::Text { .. } => NewValue::Text(serde_json::from_str(raw).ok()?),
        Kind::Nested { depth } if depth > NESTING_MAX => return None,
        Kind::Nested { .. } => NewValue::Json(text()),
        Kind::Bool(value) => NewValue::Bool(value),
        Kind::Null => NewValue::Null,
        Kind::Number => match number(raw) {
            CellKind::Integer(value) => NewValue::Integer(value, text()),
            CellKind::Real(value) => NewValue::Real(value, text()),
            _ => NewValue::Number(text()),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::value;
    use crate::page::NewValue;

    #[test]
    fn a_json_text_is_the_value_that_a_field_would_be() {
        let text = str::to_owned;
        for (raw, expected) in [
            ("null", Some(NewValue::Null)),
            ("true", Some(NewValue::Bool(true))),
            ("-7", Some(NewValue::Integer(-7, text("-7")))),
            ("1.50", Some(NewValue::Real(1.5, text("1.50")))),
            ("123456789012345678901234567890", Some(NewValue::Number(text("123456789012345678901234567890")))),
            (r#""a\u00e9""#, Some(NewValue::Text(text("aé")))),
            (r#""\ud800""#, None),
            ("[1, 2]", Some(NewValue::Json(text("[1, 2]")))),
            (&format!("{}1{}", "[".repeat(65), "]".repeat(65)), None),
        ] {
            assert_eq!(value(raw), expected, "{raw}");
        }
    }
}
