//! The arithmetic of a rate: the generic cell rate algorithm over plain durations since the budget was made, with a
//! lease on the stored value so that a restart never allows more. Pure; `budget` has the clock and the store.

use std::time::Duration;

use crate::rest::budget::RateLimit;

/// A request that leaves late takes its successors' distance with it only up to this much: the window is stretched
/// by the same amount, so lateness never puts one request too many into it.
const SLACK_MAX: Duration = Duration::from_millis(10);
/// How far ahead the stored value runs, so that it is written about once a second and not per request.
const LEASE: Duration = Duration::from_secs(1);

/// When the next request may leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gcra {
    interval: Duration,
    tolerance: Duration,
    slack: Duration,
    tat: Duration,
    leased: Duration,
}

impl Gcra {
    /// `None` when the limit names no rate.
    pub(super) fn new(limit: &RateLimit) -> Option<Self> {
        let requests = limit.requests.filter(|requests| *requests > 0)?;
        let slack = (*limit.per / 100).min(SLACK_MAX);
        let nanos = limit.per.saturating_add(slack).as_nanos().div_ceil(u128::from(requests));
        let interval = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let tolerance = interval.saturating_mul(limit.burst.saturating_sub(1));
        Some(Self { interval, tolerance, slack, tat: Duration::ZERO, leased: Duration::ZERO })
    }

    /// Takes over what an earlier process stored, as far as this rate could have made it.
    pub(super) fn resume(&mut self, stored_tat: Duration) {
        let furthest = self.tolerance.saturating_add(self.interval).saturating_add(self.lease());
        self.tat = stored_tat.min(furthest);
        self.leased = self.tat;
    }

    /// When the next request may leave.
    pub(super) fn slot(&self) -> Duration {
        self.tat.saturating_sub(self.tolerance)
    }

    /// Requests that may leave at once.
    pub(super) fn left(&self, now: Duration) -> u32 {
        let ahead = now.saturating_add(self.tolerance).saturating_add(self.interval).saturating_sub(self.tat.max(now));
        let left = ahead.as_nanos() / self.interval.as_nanos().max(1);
        if self.slot() > now { 0 } else { u32::try_from(left).unwrap_or(u32::MAX) }
    }

    /// The value to store before a request leaves at `now` or later, if the stored one does not cover it.
    pub(super) fn lease_due(&self, now: Duration) -> Option<Duration> {
        let next = self.tat.max(now).saturating_add(self.interval);
        (next > self.leased).then(|| next.saturating_add(self.lease()))
    }

    /// What the store may hold without allowing a later process more than is left.
    pub(super) fn covered(&self) -> Duration {
        self.leased.max(self.tat)
    }

    /// The exact value, to be stored when no more requests leave.
    pub(super) fn exact(&self) -> Duration {
        self.tat
    }

    /// The store holds this value from now on.
    pub(super) fn stored(&mut self, tat: Duration) {
        self.leased = tat;
    }

    /// A request leaves at `now`, which is not before its slot. `waited`: it stood ready and was woken for its slot, so
    /// that being late is the timer's fault; the schedule stands then, within the slack.
    pub(super) fn leave(&mut self, now: Duration, waited: bool) {
        let on_time = now <= self.slot().saturating_add(self.slack);
        let counted_from = match (on_time, waited) {
            (true, _) => self.slot(),
            (false, true) => now.saturating_sub(self.slack),
            (false, false) => now,
        };
        self.tat = self.tat.max(counted_from).saturating_add(self.interval);
    }

    fn lease(&self) -> Duration {
        LEASE.max(self.interval)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_left_is_the_burst_less_what_has_just_left() {
        let limit = RateLimit { requests: Some(10), per: Timespan::secs(100), burst: 3, ..RateLimit::default() };
        let mut rate = Gcra::new(&limit).unwrap();
        let now = Duration::from_secs(1000);
        for left in [3, 2, 1] {
            assert_eq!(rate.left(now), left);
            rate.leave(now, false);
        }
        assert_eq!((rate.left(now), rate.left(now + Duration::from_secs(11))), (0, 1));
        assert_eq!(rate.left(now + Duration::from_secs(1000)), 3);
    }

    use super::Gcra;
    use crate::rest::budget::RateLimit;
    use crate::units::Timespan;
    use proptest::prelude::*;
    use std::time::Duration;

    fn gcra(requests: u32, per: Timespan, burst: u32) -> Gcra {
        Gcra::new(&RateLimit { requests: Some(requests), per, burst, ..RateLimit::default() }).unwrap()
    }

    #[test]
    fn a_burst_leaves_at_once_and_then_the_rate_holds() {
        let mut rate = gcra(10, Timespan::secs(1), 3);
        let slots: Vec<u128> = (0..5)
            .map(|_| {
                let slot = rate.slot();
                rate.leave(slot, true);
                slot.as_millis()
            })
            .collect();
        assert_eq!(slots, [0, 0, 0, 101, 202]);
    }

    #[test]
    fn a_quiet_time_earns_no_more_than_the_burst() {
        let mut rate = gcra(10, Timespan::secs(1), 2);
        let hour = Duration::from_secs(3600);
        rate.leave(hour, false);
        assert!(rate.slot() <= hour);
        rate.leave(hour, false);
        assert_eq!(rate.slot(), hour + Duration::from_millis(101));
    }

    #[test]
    fn the_stored_value_is_always_ahead_of_the_real_one() {
        let mut rate = gcra(100, Timespan::secs(1), 1);
        let mut stored = Duration::ZERO;
        let mut writes = 0;
        for _ in 0..1000 {
            let slot = rate.slot();
            if let Some(lease) = rate.lease_due(slot) {
                (stored, writes) = (lease, writes + 1);
                rate.stored(lease);
            }
            rate.leave(slot, true);
            assert!(stored >= rate.exact());
        }
        assert!((9..=12).contains(&writes), "{writes}");
    }

    #[test]
    fn an_absurd_stored_value_delays_no_longer_than_this_rate_explains() {
        let mut rate = gcra(10, Timespan::secs(1), 3);
        rate.resume(Duration::from_secs(1_000_000));
        assert_eq!(rate.exact(), Duration::from_millis(303 + 1000));
    }

    #[test]
    fn without_requests_there_is_no_rate() {
        assert_eq!(Gcra::new(&RateLimit::default()), None);
    }

    proptest! {
        /// Timers fire late, tasks come when they like: no window of `per` has more than `requests` in it.
        #[test]
        fn no_window_holds_one_request_too_many(
            requests in 1_u32..50,
            steps in proptest::collection::vec((0_u64..30_000, proptest::bool::ANY), 1..300),
        ) {
            let per = Duration::from_secs(1);
            let mut rate = gcra(requests, Timespan(per), 1);
            let (mut now, mut sent) = (Duration::ZERO, Vec::new());
            for (micros, waits) in steps {
                let step = Duration::from_micros(micros);
                now = if waits && rate.slot() >= now { rate.slot() + step } else { (now + step).max(rate.slot()) };
                rate.leave(now, waits);
                sent.push(now);
            }
            let window = usize::try_from(requests).unwrap();
            for pair in sent.windows(window + 1) {
                prop_assert!(pair[window] - pair[0] >= per, "{:?}", pair);
            }
        }
    }
}
