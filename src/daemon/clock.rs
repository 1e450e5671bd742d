//! What time it is: on the wall, and since the machine started.

use std::time::Duration;

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// The clock that counts while the machine sleeps, too: an interval that ends meanwhile is over when it wakes up.
#[cfg(target_os = "linux")]
const STEADY: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const STEADY: ClockId = ClockId::Monotonic;

/// The clock on the wall and the one that only goes on, at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) wall: Timestamp,
    /// Since the machine started, asleep or not. No timer of the runtime goes by it: it has to be looked at.
    pub(super) steady: Duration,
}

impl Now {
    pub(super) fn read() -> Self {
        let steady = clock_gettime(STEADY);
        let (seconds, nanos) = (u64::try_from(steady.tv_sec), u32::try_from(steady.tv_nsec));
        Self { wall: Timestamp::now(), steady: Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0)) }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::{Duration, Now};

    #[test]
    fn x07_the_time_that_passes_is_counted_since_the_start_of_the_machine_asleep_or_not() {
        let uptime = || {
            let text = std::fs::read_to_string("/proc/uptime").unwrap();
            Duration::from_secs_f64(text.split(' ').next().unwrap().parse().unwrap())
        };
        let (before, now, after) = (uptime(), Now::read().steady, uptime());
        // The file has hundredths of seconds.
        assert!(before <= now && now <= after + Duration::from_millis(10), "{before:?} {now:?} {after:?}");
    }
}
