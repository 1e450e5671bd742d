//! What the headers of a response say about when to come back: `Retry-After`, and the reset headers of many APIs.
//! All of it is the server's text, so nothing in it is believed beyond reason.

use std::time::Duration;

use http::HeaderMap;
use jiff::Timestamp;

use crate::rest::budget::ResetFormat;
use crate::sabotage::{Sabotage, on};

/// A `Retry-After` beyond this is no delay: servers that send a point in time by mistake are far above it.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(31 * 86_400);
/// How far such a point in time may be from now to be believed.
const EPOCH_NEAR: Duration = Duration::from_secs(86_400);

/// The delay that a `Retry-After` header asks for (RFC 9110 §10.2.3); `None` when it says nothing usable, or a time
/// that is past. `server_now` is the response's `Date`: the server's clock counts, not ours.
pub(super) fn retry_after(value: &str, server_now: Option<Timestamp>, now: Timestamp) -> Option<Duration> {
    if on(Sabotage::RetryAfterIgnored) {
        return None;
    }
    let value = value.trim();
    let server_now = server_now.unwrap_or(now);
    if let Some(at) = http_date(value) {
        return ahead(at, server_now).filter(|delay| *delay <= RETRY_AFTER_MAX);
    }
    let seconds = plain_number(value)?;
    if seconds <= RETRY_AFTER_MAX.as_secs_f64() {
        return Duration::try_from_secs_f64(seconds).ok().filter(|delay| !delay.is_zero());
    }
    [seconds, seconds / 1000.0]
        .into_iter()
        .filter_map(from_epoch_secs)
        .find(|at| at.duration_since(server_now).unsigned_abs() <= EPOCH_NEAR)
        .and_then(|at| ahead(at, server_now))
}

/// A point in time as HTTP writes it, in any of the three forms of RFC 9110 §5.6.7.
pub(super) fn http_date(value: &str) -> Option<Timestamp> {
    httpdate::parse_http_date(value.trim()).ok().and_then(|time| Timestamp::try_from(time).ok())
}

/// Digits with at most one point; no sign, no exponent, no `NaN`.
fn plain_number(value: &str) -> Option<f64> {
    let plain = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if plain { value.parse().ok().filter(|number: &f64| number.is_finite()) } else { None }
}

/// The point in time so many seconds after 1970, if there is one.
fn from_epoch_secs(seconds: f64) -> Option<Timestamp> {
    let since = Duration::try_from_secs_f64(seconds).ok()?;
    Timestamp::from_millisecond(i64::try_from(since.as_millis()).ok()?).ok()
}

/// How far `at` lies after `now`; `None` when it does not.
fn ahead(at: Timestamp, now: Timestamp) -> Option<Duration> {
    Duration::try_from(at.duration_since(now)).ok().filter(|delay| !delay.is_zero())
}

/// The `Date` of a response: the server's clock.
pub(super) fn server_now(headers: &HeaderMap) -> Option<Timestamp> {
    http_date(header_text(headers, http::header::DATE.as_str())?)
}

/// The first value of a header, if it is text.
pub(super) fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// How long until a `reset_header` comes true; zero when it is past. `None` when it cannot be read.
pub(super) fn reset_delay(value: &str, format: ResetFormat, now: Timestamp) -> Option<Duration> {
    let at = match format {
        ResetFormat::Delta => return Duration::try_from_secs_f64(plain_number(value.trim())?).ok(),
        ResetFormat::HttpDate => http_date(value)?,
        ResetFormat::Epoch => {
            let number = plain_number(value.trim())?;
            // Seconds will not have twelve digits before the year 5138; milliseconds have had them since 1973.
            from_epoch_secs(if number >= 1e11 { number / 1000.0 } else { number })?
        }
    };
    Some(ahead(at, now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::{reset_delay, retry_after};
    use crate::rest::budget::ResetFormat;
    use jiff::Timestamp;
    use proptest::prelude::*;
    use std::time::Duration;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn h02_to_h04_retry_after_in_all_its_forms() {
        let now = at("2026-03-01T12:00:00Z");
        let secs = |n| Some(Duration::from_secs(n));
        for (value, delay) in [
            ("30", secs(30)),
            (" 30 ", secs(30)),
            ("1.5", Some(Duration::from_millis(1500))),
            ("0", None),
            ("0.0", None),
            ("", None),
            ("-1", None),
            ("+5", None),
            ("NaN", None),
            ("inf", None),
            ("1e99", None),
            ("1.2.3", None),
            (".", None),
            ("soon", None),
            ("99999999999999999999999999999", None),
            ("2678400", secs(2_678_400)),
            ("2678401", None),
            ("Sun, 01 Mar 2026 12:00:30 GMT", secs(30)),
            ("Sunday, 01-Mar-26 12:00:30 GMT", secs(30)),
            ("Sun Mar  1 12:00:30 2026", secs(30)),
            ("Sun, 01 Mar 2026 11:59:30 GMT", None),
            ("Sun, 01 Mar 2026 12:00:00 GMT", None),
            ("Fri, 01 Mar 2196 12:00:00 GMT", None),
            ("1772366460", secs(60)),
            ("1772366460000", secs(60)),
            ("1772366340", None),
            ("1782366460", None),
        ] {
            assert_eq!(retry_after(value, None, now), delay, "{value}");
        }
    }

    #[test]
    fn h02_the_servers_clock_counts_not_ours() {
        let (ours, theirs) = (at("2026-03-01T15:00:00Z"), at("2026-03-01T12:00:00Z"));
        let delay = |value| retry_after(value, Some(theirs), ours);
        assert_eq!(delay("Sun, 01 Mar 2026 12:00:30 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(delay("1772366460"), Some(Duration::from_secs(60)));
    }

    proptest! {
        #[test]
        fn no_retry_after_is_zero_or_endless(value in "[0-9.eE+NaInf-]{0,30}|.{0,40}") {
            if let Some(delay) = retry_after(&value, None, at("2026-03-01T12:00:00Z")) {
                prop_assert!(delay > Duration::ZERO && delay <= Duration::from_secs(31 * 86_400));
            }
        }
    }

    #[test]
    fn h06_resets_are_read_in_seconds_milliseconds_and_dates() {
        use ResetFormat::{Delta, Epoch, HttpDate};
        let now = at("2026-03-01T12:00:00Z");
        let secs = |n| Some(Duration::from_secs(n));
        for (format, value, delay) in [
            (Epoch, "1772366460", secs(60)),
            (Epoch, "1772366460000", secs(60)),
            (Epoch, "1772366460.5", Some(Duration::from_millis(60_500))),
            (Epoch, "1772366340", secs(0)),
            (Epoch, "-5", None),
            (Epoch, "1e99", None),
            (Epoch, "99999999999999999999999999999999", None),
            (Delta, "60", secs(60)),
            (Delta, " 0.5 ", Some(Duration::from_millis(500))),
            (Delta, "NaN", None),
            (HttpDate, "Sun, 01 Mar 2026 12:00:30 GMT", secs(30)),
            (HttpDate, "30", None),
        ] {
            assert_eq!(reset_delay(value, format, now), delay, "{format:?} {value}");
        }
    }
}
