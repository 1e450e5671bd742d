//! Which numbers a 64-bit integer or a double holds exactly as they are written, and which stay text.

use crate::page::CellKind;

/// Decimals of up to this many significant digits survive a double (`f64::DIGITS`).
const EXACT_DIGITS: usize = f64::DIGITS as usize;

/// What a JSON number is kept as.
pub(super) fn number(raw: &str) -> CellKind {
    if !raw.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
        return match raw.parse() {
            // No integer has a sign at zero.
            Ok(0) if raw.starts_with('-') => CellKind::Real(-0.0),
            Ok(value) => CellKind::Integer(value),
            Err(_) => CellKind::Number,
        };
    }
    match raw.parse::<f64>() {
        Ok(value) if value.is_finite() && holds_exactly(value, raw) => CellKind::Real(value),
        _ => CellKind::Number,
    }
}

/// Whether `value`, printed with as many digits as `raw` has or in the shortest way, is the decimal of `raw`.
fn holds_exactly(value: f64, raw: &str) -> bool {
    /// No double was ever printed with more digits by a program that meant a double.
    const DIGITS_MAX: usize = 40;
    let exponent = raw.bytes().any(|byte| matches!(byte, b'e' | b'E'));
    if raw.len() <= EXACT_DIGITS && !exponent {
        return true;
    }
    let named = Decimal::of(raw);
    // The shortest print that reads back the same is not always the nearest one with as many digits.
    named == Decimal::of(&format!("{value:e}"))
        || named.digits.len() <= DIGITS_MAX
            && named == Decimal::of(&format!("{value:.precision$e}", precision = named.digits.len().saturating_sub(1)))
}

/// A decimal as its digits without zeros at the ends, and the power of ten of the digit before the point.
#[derive(PartialEq, Eq)]
struct Decimal {
    digits: String,
    exponent: i64,
}

impl Decimal {
    fn of(text: &str) -> Self {
        let text = text.trim_start_matches('-');
        let (mantissa, power) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = format!("{whole}{fraction}");
        let significant = all.trim_start_matches('0');
        let leading_zeros = all.len() - significant.len();
        let digits = significant.trim_end_matches('0').to_owned();
        if digits.is_empty() {
            return Self { digits, exponent: 0 };
        }
        // A power with more digits than an i64 is far outside of what a double holds.
        let power: i64 = power.parse().unwrap_or(i64::MAX / 2);
        let exponent = power.saturating_add(whole.len() as i64 - leading_zeros as i64);
        Self { digits, exponent }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_keep_what_they_say() {
        enum Kept {
            Integer(i64),
            Real(f64),
            AsWritten,
        }
        use Kept::{AsWritten, Integer, Real};
        for (text, expected) in [
            ("1", Integer(1)),
            ("0", Integer(0)),
            ("-0", Real(-0.0)),
            ("-9223372036854775808", Integer(i64::MIN)),
            ("9223372036854775808", AsWritten),
            ("123456789012345678901234567890", AsWritten),
            ("0.1", Real(0.1)),
            ("1.50", Real(1.5)),
            ("1e3", Real(1000.0)),
            ("0.1000000000000000055511151231257828", AsWritten),
            ("9007199254740993.0", AsWritten),
            ("1e400", AsWritten),
            ("1e-400", AsWritten),
            ("1e99999999999999999999", AsWritten),
            ("0e99999999999999999999", Real(0.0)),
            ("0.10000000000000001", Real(0.1)),
            ("0.0000000000", Real(0.0)),
        ] {
            let same = match (number(text), expected) {
                (CellKind::Integer(kept), Integer(value)) => kept == value,
                (CellKind::Real(kept), Real(value)) => kept.to_bits() == value.to_bits(),
                (CellKind::Number, AsWritten) => true,
                _ => false,
            };
            assert!(same, "{text} is kept as {:?}", number(text));
        }
    }

    proptest! {
        #[test]
        fn a_real_reads_back_as_the_very_decimal(value in any::<f64>().prop_filter("finite", |v| v.is_finite())) {
            let text = format!("{value:e}");
            prop_assert!(matches!(number(&text), CellKind::Real(read) if read == value), "{}", text);
        }

        #[test]
        fn a_decimal_is_a_real_only_if_the_double_prints_the_same(text in "-?(0|[1-9][0-9]{0,17})\\.[0-9]{1,20}") {
            if let CellKind::Real(value) = number(&text) {
                let named = Decimal::of(&text);
                let printed = format!("{value:.precision$e}", precision = named.digits.len().saturating_sub(1));
                prop_assert!(Decimal::of(&printed) == named || Decimal::of(&value.to_string()) == named);
            }
        }
    }
}
