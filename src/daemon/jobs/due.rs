//! When a job is due by itself: what its schedule says of its past, and which clock that goes by.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Job;
use crate::daemon::clock::Now;
use crate::schedule::Past;

/// Clocks differ by less than this where nobody has set them.
const HAIR: SignedDuration = SignedDuration::from_millis(100);

/// When a job is due by itself.
#[derive(Clone, Copy, Debug)]
pub(super) enum Due {
    Never,
    /// By the clock on the wall.
    At(Timestamp),
    /// When so much time has passed, whatever becomes of that clock; it would show this then.
    In(Duration, Timestamp),
}

impl Due {
    /// So much later than now.
    pub(super) fn within(wait: Duration, now: Now) -> Self {
        let shown = SignedDuration::try_from(wait).ok().and_then(|wait| now.wall.checked_add(wait).ok());
        Self::In(now.steady + wait, shown.unwrap_or(Timestamp::MAX))
    }

    pub(super) fn shown(self) -> Option<Timestamp> {
        match self {
            Self::Never => None,
            Self::At(at) | Self::In(_, at) => Some(at),
        }
    }
}

impl Job {
    /// What tells it apart where jobs are due at the same time.
    fn seed(&self) -> u64 {
        let name = self.resources.first().map(ToString::to_string).unwrap_or_default();
        // FNV-1a, which stays the same over versions of the standard library.
        name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    }

    /// What the clock on the wall would show if nobody had set it since the job began.
    pub(super) fn clock(&self, now: Now) -> Timestamp {
        let passed = SignedDuration::try_from(now.steady.saturating_sub(self.began.steady));
        let unset = self.began.wall.saturating_add(passed.unwrap_or(SignedDuration::MAX)).unwrap_or(Timestamp::MAX);
        // No two clocks go alike; nobody has set it for that.
        if now.wall.duration_since(unset).abs() > HAIR { unset } else { now.wall }
    }

    /// When it is due next, after all that is known of it.
    pub(super) fn reckon(&mut self, now: Now) {
        let Some(schedule) = &self.schedule else {
            self.due = Due::Never;
            return;
        };
        let is_by_clock = schedule.is_by_clock();
        let clock = if is_by_clock { now.wall } else { self.clock(now) };
        self.seen = self.seen.min(clock);
        let past = schedule.until(&self.past, clock);
        if is_by_clock && past.started != self.past.started && self.wrong != self.past.started {
            // What is counted from is the moment at which that turned out.
            (self.wrong, self.seen) = (self.past.started, clock);
        }
        let started = past.started.filter(|at| self.wrong != Some(*at));
        let past = Past { started, not_before: None, ..past };
        let at = schedule.next(&past, self.seen, self.seed());
        // From here on by the clock as it is now, as is what the API asked for.
        let at = at.saturating_add(now.wall.duration_since(clock)).unwrap_or(Timestamp::MAX);
        let at = self.past.not_before.map_or(at, |not_before| at.max(not_before));
        let wait = at.duration_since(now.wall).max(SignedDuration::ZERO).unsigned_abs();
        self.due = if is_by_clock { Due::At(at) } else { Due::In(now.steady + wait, at) };
    }
}
