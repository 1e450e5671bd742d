//! Which failures are tried again, and after how long. Pure: the waiting is the client's.

use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Timespan;

/// Exponential backoff with full jitter; a server's `Retry-After` wins over it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetryOptions {
    /// Attempts per page, the first one included.
    #[schemars(range(min = 1, max = 100))]
    pub max_attempts: u32,
    /// Upper end of the first random delay; it doubles with every attempt.
    pub initial_delay: Timespan,
    /// The delay grows no further than this.
    pub max_delay: Timespan,
    /// No attempt starts later than this after the first one; waits that the server asked for do not count.
    pub max_elapsed: Timespan,
    /// The longest `Retry-After` that a run waits for. A longer one ends the run, and is kept over restarts. All that
    /// a server asks for during one page may take this long together, or `max_elapsed` if that is longer.
    pub max_retry_after: Timespan,
}

impl Default for RetryOptions {
    fn default() -> Self {
        Self {
            max_attempts: 6,
            initial_delay: Timespan::millis(500),
            max_delay: Timespan::secs(60),
            max_elapsed: Timespan::secs(15 * 60),
            max_retry_after: Timespan::secs(60 * 60),
        }
    }
}

/// Shortest wait before a request is sent again, however the dice fall.
const DELAY_MIN: Duration = Duration::from_millis(10);
/// Waits that a server may ask for during one page. They are not charged, and this bounds them.
const WAITS_MAX: u32 = 100;
/// A response that is not a page is asked for again this often.
const REJECTIONS_MAX: u32 = 2;

/// What a status code means for the request that got it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StatusClass {
    /// A page, perhaps.
    Success,
    /// Too many requests: wait as told, then again.
    RateLimit,
    /// May pass: again after a backoff.
    Transient,
    /// 401 or 403.
    Unauthorized,
    /// The same request would get the same answer.
    Final,
    /// Nothing that an answer to this request could be.
    Unexpected,
}

/// `limited`: the headers say that the rate is the reason (`Retry-After`, or nothing remaining).
pub(super) fn status_class(status: u16, limited: bool) -> StatusClass {
    match status {
        206 | 0..=199 | 300..=399 | 600.. => StatusClass::Unexpected,
        200..=299 => StatusClass::Success,
        429 => StatusClass::RateLimit,
        403 | 503 if limited => StatusClass::RateLimit,
        401 | 403 => StatusClass::Unauthorized,
        501 | 505 => StatusClass::Final,
        408 | 425 | 500..=599 => StatusClass::Transient,
        400..=499 => StatusClass::Final,
    }
}

/// What to do about a failure that may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Send again after this long.
    After(Duration),
    /// Enough.
    GiveUp,
}

/// What one logical request has used up of its patience.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Requests sent.
    pub(super) sent: u32,
    /// Time that was spent waiting for the budget or because a server asked for it.
    pub(super) excused: Duration,
    failures: u32,
    waits: u32,
    /// Time that a server has asked for during this page.
    waited: Duration,
    rejections: u32,
    resent_at_once: bool,
}

impl Tally {
    /// After a failure that counts. `elapsed` since the first attempt began; `hint` is a delay that the server named;
    /// `random` in 0..1.
    pub(super) fn failed(
        &mut self,
        options: &RetryOptions,
        elapsed: Duration,
        hint: Option<Duration>,
        random: f64,
    ) -> Next {
        self.failures += 1;
        let delay = hint.unwrap_or_else(|| backoff(options, self.failures, random)).max(DELAY_MIN);
        if hint.is_some() {
            self.excused += delay;
            if !self.may_wait(options, delay) {
                return Next::GiveUp;
            }
        }
        let next_starts = elapsed.saturating_add(delay).saturating_sub(self.excused);
        if self.failures >= options.max_attempts || next_starts > *options.max_elapsed {
            return Next::GiveUp;
        }
        Next::After(delay)
    }

    /// Whether a response that is no page may be asked for once more.
    pub(super) fn may_be_rejected_again(&mut self) -> bool {
        self.rejections += 1;
        self.rejections <= REJECTIONS_MAX
    }

    /// Whether one more wait that the server asked for is granted. All those of one page together are bounded as well
    /// as each of them: a server that always says "in an hour" would hold a run for days.
    pub(super) fn may_wait(&mut self, options: &RetryOptions, delay: Duration) -> bool {
        self.waits += 1;
        self.waited = self.waited.saturating_add(delay);
        self.waits <= WAITS_MAX && self.waited <= (*options.max_elapsed).max(*options.max_retry_after)
    }

    /// Whether this is the one time that a request goes out again at once: a kept-alive connection was closed by the
    /// server while the request was on its way.
    pub(super) fn may_resend_at_once(&mut self) -> bool {
        !std::mem::replace(&mut self.resent_at_once, true)
    }

    /// Failures so far, for what is shown.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }
}

/// Full jitter: anything up to a ceiling that doubles with every failure.
fn backoff(options: &RetryOptions, failures: u32, random: f64) -> Duration {
    let doubled = 2_u32.saturating_pow(failures.saturating_sub(1).min(31));
    options.initial_delay.saturating_mul(doubled).min(*options.max_delay).mul_f64(random.clamp(0.0, 1.0))
}

/// A number in 0..1 that differs between tasks and processes; no secret hangs on it.
pub(super) fn random() -> f64 {
    let bits = std::hash::RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(bits >> 32).unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Next, RetryOptions, StatusClass, Tally, backoff, random, status_class};
    use crate::units::Timespan;
    use std::time::Duration;

    #[test]
    fn statuses_are_sorted_by_what_another_try_could_bring() {
        use StatusClass::{Final, RateLimit, Success, Transient, Unauthorized, Unexpected};
        for (codes, class) in [
            (&[200, 201, 202, 204, 299][..], Success),
            (&[206, 100, 102, 199, 300, 304, 399, 600, 999], Unexpected),
            (&[408, 425, 500, 502, 503, 504, 507, 520, 599], Transient),
            (&[501, 505, 400, 402, 404, 405, 409, 410, 422, 451], Final),
            (&[401, 403], Unauthorized),
            (&[429], RateLimit),
        ] {
            for code in codes {
                assert_eq!(status_class(*code, false), class, "{code}");
            }
        }
        for code in [403, 429, 503] {
            assert_eq!(status_class(code, true), RateLimit, "{code}");
        }
        assert_eq!((status_class(401, true), status_class(500, true)), (Unauthorized, Transient));
    }

    #[test]
    fn the_delay_doubles_up_to_its_maximum_and_is_never_zero() {
        let options = RetryOptions::default();
        let ceilings: Vec<u128> = (1..=9).map(|n| backoff(&options, n, 1.0).as_millis()).collect();
        assert_eq!(ceilings, [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(backoff(&options, u32::MAX, 1.0), Duration::from_secs(60));
        let next = Tally::default().failed(&options, Duration::ZERO, None, 0.0);
        assert_eq!(next, Next::After(Duration::from_millis(10)));
        assert!((0..1000).map(|_| random()).all(|number| (0.0..=1.0).contains(&number)));
        assert_ne!(random().to_bits(), random().to_bits());
    }

    #[test]
    fn attempts_and_time_are_bounded_and_server_waits_do_not_count() {
        let options = RetryOptions { max_attempts: 4, max_elapsed: Timespan::secs(10), ..RetryOptions::default() };
        let mut tally = Tally::default();
        let results: Vec<bool> =
            (0..4).map(|_| tally.failed(&options, Duration::ZERO, None, 0.5) == Next::GiveUp).collect();
        assert_eq!(results, [false, false, false, true]);

        let mut tally = Tally::default();
        assert_eq!(tally.failed(&options, Duration::from_secs(10), None, 0.5), Next::GiveUp);
        let mut tally = Tally { excused: Duration::from_secs(3600), ..Tally::default() };
        assert!(matches!(tally.failed(&options, Duration::from_secs(3601), None, 0.5), Next::After(_)));

        let (mut tally, hour) = (Tally::default(), Duration::from_secs(3600));
        assert_eq!(tally.failed(&options, Duration::ZERO, Some(hour), 0.5), Next::After(hour));
        assert!(matches!(tally.failed(&options, hour, None, 0.5), Next::After(_)));
        assert_eq!(tally.failed(&options, hour, Some(hour), 0.5), Next::GiveUp, "the server's waits have a sum, too");

        let (mut tally, options) = (Tally::default(), RetryOptions::default());
        assert_eq!((0..200).filter(|_| tally.may_wait(&options, Duration::ZERO)).count(), 100);
        assert_eq!((0..9).filter(|_| tally.may_be_rejected_again()).count(), 2);
        assert_eq!((0..9).filter(|_| tally.may_resend_at_once()).count(), 1);
    }
}
