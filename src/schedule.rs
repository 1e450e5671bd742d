//! When a resource is due. Pure: what the configuration says, what became of earlier runs, and the clock → the next start.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

use crate::units::Timespan;

/// How long a resource rests that has failed once; twice as long after each further failure in a row.
const FIRST_REST: Duration = Duration::from_secs(60);
const REST_MAX: Duration = Duration::from_secs(3_600);

/// Where the clock was put back by less than this, what names its hours does not come a second time. Put back further, the
/// clock was wrong before. So do it the crons that people know (cronie, cron.c).
const PUT_BACK: SignedDuration = SignedDuration::from_hours(3);

/// When to run: `schedule` or `every`, with what goes with them.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// What makes it due.
    pub trigger: Trigger,
    /// A delay of up to this much, another one each time, so that not everything begins at once.
    pub jitter: Duration,
}

/// What makes a resource due.
#[derive(Clone, Debug, PartialEq)]
pub enum Trigger {
    /// The calendar, in a time zone.
    Cron(Cron, Zone),
    /// So long after the last start.
    Every(Duration),
}

/// What became of the earlier runs of a resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// When the last run began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Runs that failed since the last one that did not.
    pub failures: u32,
    /// The last one was cut short, by a signal or by a crash, and can be gone on with.
    pub was_cut: bool,
    /// Before this its API does not want to be asked.
    pub not_before: Option<Timestamp>,
}

impl Schedule {
    /// A past without what cannot be true now: times that are still to come were written while the clock was wrong, and
    /// would keep the resource from its next start until then.
    #[must_use]
    pub fn until(&self, past: &Past, now: Timestamp) -> Past {
        let latest = match &self.trigger {
            // What failed or was cut short is not done for its day.
            Trigger::Cron(cron, _) if !cron.comes_every_hour() && past.failures == 0 && !past.was_cut => {
                now.saturating_add(PUT_BACK).unwrap_or(Timestamp::MAX)
            }
            _ => now,
        };
        Past { started: past.started.filter(|at| *at <= latest), ended: past.ended.filter(|at| *at <= now), ..*past }
    }

    /// The next start; in the past where it is overdue, however often. `seen` is when the resource was first heard of,
    /// and `seed` tells the delays of resources apart.
    ///
    /// What fails is tried again after a rest that doubles, instead of at its time; what was cut short goes on at once.
    #[must_use]
    pub fn next(&self, past: &Past, seen: Timestamp, seed: u64) -> Timestamp {
        let last = past.started.unwrap_or(seen);
        let at = match (&self.trigger, past.started) {
            _ if past.failures > 0 => later(past.ended.unwrap_or(last), rest(past.failures)),
            _ if past.was_cut => last,
            (Trigger::Every(_), None) => later(seen, self.delay(seen, seed)),
            (Trigger::Every(interval), Some(started)) => later(started, *interval + self.delay(started, seed)),
            (Trigger::Cron(cron, zone), _) => {
                let at = cron.after(last, &zone.0);
                later(at, self.delay(at, seed))
            }
        };
        past.not_before.map_or(at, |not_before| at.max(not_before))
    }

    /// How often it was due between two times.
    #[must_use]
    pub fn missed(&self, started: Timestamp, ended: Timestamp) -> u64 {
        /// More of them are not counted.
        const MISSED_MAX: usize = 10_000;
        match &self.trigger {
            Trigger::Every(interval) => {
                let took = ended.duration_since(started).max(SignedDuration::ZERO).unsigned_abs();
                u64::try_from(took.as_nanos() / interval.as_nanos().max(1)).unwrap_or(u64::MAX)
            }
            Trigger::Cron(cron, zone) => {
                let times = std::iter::successors(Some(started), |at| Some(cron.after(*at, &zone.0)));
                times.skip(1).take(MISSED_MAX).take_while(|at| *at <= ended).count() as u64
            }
        }
    }

    /// Whether it goes by the clock on the wall, and not by the time that passes.
    #[must_use]
    pub fn is_by_clock(&self) -> bool {
        matches!(self.trigger, Trigger::Cron(..))
    }

    /// The delay of one start: always the same for it, so that a restart in between changes nothing.
    fn delay(&self, of: Timestamp, seed: u64) -> Duration {
        let mut mixed = seed ^ of.as_second().cast_unsigned().wrapping_mul(0x9E37_79B9_7F4A_7C15);
        // The finalizer of SplitMix64 (Steele, Lea, Flood 2014).
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        let millis = u64::try_from(self.jitter.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(mixed.checked_rem(millis.saturating_add(1)).unwrap_or(0))
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.trigger {
            Trigger::Cron(cron, zone) => write!(f, "{cron} ({zone})")?,
            Trigger::Every(interval) => write!(f, "every {}", Timespan(*interval))?,
        }
        match self.jitter {
            Duration::ZERO => Ok(()),
            jitter => write!(f, ", up to {} later", Timespan(jitter)),
        }
    }
}

/// How long a resource rests after so many failures in a row.
fn rest(failures: u32) -> Duration {
    let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    FIRST_REST.saturating_mul(doubled).min(REST_MAX)
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.saturating_add(SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX)).unwrap_or(Timestamp::MAX)
}

/// `schedule`: cron with five fields, or `@hourly` and its like.
#[derive(Clone, Debug)]
pub struct Cron {
    text: String,
    /// Large, and copied about with the options.
    pattern: Box<croner::Cron>,
}

impl Cron {
    fn comes_every_hour(&self) -> bool {
        self.pattern.as_str().split_whitespace().nth(1).is_none_or(|hours| hours.starts_with('*'))
    }

    /// The next time behind `at`. Where clocks are put forward, what falls into the gap comes once, after it; where they
    /// are put back, what names its hours comes once, and what comes in every hour comes in both.
    fn after(&self, at: Timestamp, zone: &TimeZone) -> Timestamp {
        let next = if self.comes_every_hour() {
            self.pattern.find_next_occurrence(&at.to_zoned(zone.clone()), false).ok().map(|next| next.timestamp())
        } else {
            self.after_in_civil_time(at, zone)
        };
        // One that never comes is refused at load; this is the end of all calendars.
        next.unwrap_or(Timestamp::MAX)
    }

    /// As clocks on the wall show it, and only then as an instant (RFC 5545 §3.3.5: in a gap with the offset before it, of
    /// two the first).
    fn after_in_civil_time(&self, at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        // No gap is longer: what fell into one may still be to come.
        let mut civil: DateTime = at.to_zoned(zone.clone()).datetime().saturating_sub(25.hours());
        loop {
            civil = self.pattern.find_next_occurrence(&civil, false).ok()?;
            let instant = zone.to_ambiguous_timestamp(civil).compatible().ok()?;
            if instant > at {
                return Some(instant);
            }
        }
    }
}

impl FromStr for Cron {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let pattern = parser.parse(&text).map_err(|error| {
            let text = text.escape_debug();
            format!("`{text}` is not a cron schedule ({error}); write it like \"*/15 * * * *\", \"0 3 * * 1-5\" or \"@daily\"")
        })?;
        let cron = Self { text, pattern: Box::new(pattern) };
        let day_of_leap_years = Timestamp::UNIX_EPOCH;
        if cron.after(day_of_leap_years, &TimeZone::UTC) == Timestamp::MAX {
            return Err(format!("`{cron}` never comes"));
        }
        Ok(cron)
    }
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Cron {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Cron {
    fn schema_name() -> Cow<'static, str> {
        "Cron".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "highwater-cron",
            "description": "cron in five fields (minute, hour, day of the month, month, weekday) such as \"*/15 * * * *\", \
                            or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`"
        })
    }
}

/// `timezone`: a name of the IANA time zone database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Default for Zone {
    fn default() -> Self {
        Self(TimeZone::UTC)
    }
}

impl FromStr for Zone {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        TimeZone::get(text).map(Self).map_err(|_| {
            let text = text.escape_debug();
            format!("`{text}` is not a time zone; write it like \"UTC\" or \"Europe/Berlin\"")
        })
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.iana_name().unwrap_or("UTC"))
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Zone {
    fn schema_name() -> Cow<'static, str> {
        "TimeZone".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "highwater-timezone",
            "description": "a name of the IANA time zone database, such as \"Europe/Berlin\""
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::{Past, Schedule, Trigger, Zone};

    #[test]
    fn x06_what_was_not_done_is_not_put_off_where_the_clock_was_put_back() {
        let (daily, now) = (cron("0 3 * * *", "UTC"), at("2026-03-02T01:10:00Z"));
        let past = Past { started: Some(at("2026-03-02T03:00:00Z")), ended: Some(now), ..Past::default() };
        for (past, expected) in [
            (past, "2026-03-03T03:00:00Z"),
            (Past { was_cut: true, ..past }, "2026-03-02T01:10:00Z"),
            (Past { failures: 1, ..past }, "2026-03-02T01:11:00Z"),
            (Past { failures: 1, ended: Some(at("2026-03-02T03:10:00Z")), ..past }, "2026-03-02T01:11:00Z"),
        ] {
            assert_eq!(daily.next(&daily.until(&past, now), now, 0), at(expected), "{past:?}");
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn cron(pattern: &str, zone: &str) -> Schedule {
        Schedule { trigger: Trigger::Cron(pattern.parse().unwrap(), zone.parse().unwrap()), jitter: Duration::ZERO }
    }

    /// The next starts behind `from`, each run as soon as it is due.
    fn starts(schedule: &Schedule, from: &str, many: usize) -> Vec<String> {
        let mut past = Past { started: Some(at(from)), ..Past::default() };
        let mut all = Vec::new();
        for _ in 0..many {
            let next = schedule.next(&past, Timestamp::UNIX_EPOCH, 0);
            past.started = Some(next);
            all.push(next.to_string());
        }
        all
    }

    #[test]
    fn x06_where_clocks_change_nothing_is_left_out_and_nothing_comes_twice() {
        // The days in question; see the IANA time zone database, files `europe`, `australasia` and `africa`.
        for (zone, pattern, from, expected) in [
            // Forward, 02:00 to 03:00: what falls into the gap comes once, after it.
            (
                "Europe/Berlin",
                "30 2 * * *",
                "2024-03-30T12:00:00Z",
                &["2024-03-31T01:30:00Z", "2024-04-01T00:30:00Z"][..],
            ),
            (
                "Europe/Berlin",
                "0,30 2 * * *",
                "2024-03-31T00:59:00Z",
                &["2024-03-31T01:00:00Z", "2024-03-31T01:30:00Z"],
            ),
            ("Europe/London", "30 1 * * *", "2024-03-30T12:00:00Z", &["2024-03-31T01:30:00Z", "2024-04-01T00:30:00Z"]),
            // Half an hour, 02:00 to 02:30.
            (
                "Australia/Lord_Howe",
                "15 2 * * *",
                "2024-10-05T12:00:00Z",
                &["2024-10-05T15:45:00Z", "2024-10-06T15:15:00Z"],
            ),
            // At midnight.
            ("Africa/Cairo", "30 0 * * *", "2024-04-25T12:00:00Z", &["2024-04-25T22:30:00Z", "2024-04-26T21:30:00Z"]),
            ("Africa/Cairo", "@daily", "2024-04-25T12:00:00Z", &["2024-04-25T22:00:00Z", "2024-04-26T21:00:00Z"]),
            // Back, 03:00 to 02:00: once, the first time.
            ("Europe/Berlin", "30 2 * * *", "2024-10-26T12:00:00Z", &["2024-10-27T00:30:00Z", "2024-10-28T01:30:00Z"]),
            (
                "Europe/Berlin",
                "0,30 2 * * *",
                "2024-10-26T23:59:00Z",
                &["2024-10-27T00:00:00Z", "2024-10-27T00:30:00Z", "2024-10-28T01:00:00Z"],
            ),
            ("Europe/London", "30 1 * * *", "2024-10-26T12:00:00Z", &["2024-10-27T00:30:00Z", "2024-10-28T01:30:00Z"]),
            (
                "Australia/Lord_Howe",
                "45 1 * * *",
                "2024-04-06T12:00:00Z",
                &["2024-04-06T14:45:00Z", "2024-04-07T15:15:00Z"],
            ),
            ("Africa/Cairo", "30 23 * * *", "2024-10-31T12:00:00Z", &["2024-10-31T20:30:00Z", "2024-11-01T21:30:00Z"]),
            // What comes in every hour goes by the hours that pass.
            ("Europe/Berlin", "0 * * * *", "2024-03-31T00:10:00Z", &["2024-03-31T01:00:00Z", "2024-03-31T02:00:00Z"]),
            (
                "Europe/Berlin",
                "0 * * * *",
                "2024-10-26T23:10:00Z",
                &["2024-10-27T00:00:00Z", "2024-10-27T01:00:00Z", "2024-10-27T02:00:00Z"],
            ),
            ("Africa/Cairo", "*/30 * * * *", "2024-04-25T21:20:00Z", &["2024-04-25T21:30:00Z", "2024-04-25T22:00:00Z"]),
        ] {
            assert_eq!(starts(&cron(pattern, zone), from, expected.len()), expected, "{zone} {pattern} from {from}");
        }
    }

    #[test]
    fn x06_in_a_year_of_every_zone_what_comes_daily_comes_once_a_day() {
        for zone in ["Europe/Berlin", "Europe/London", "Australia/Lord_Howe", "Africa/Cairo", "UTC"] {
            let zone: Zone = zone.parse().unwrap();
            for (pattern, a_day) in
                [("0 0 * * *", 1), ("30 1 * * *", 1), ("15 2 * * *", 1), ("59 23 * * *", 1), ("5 4,16 * * *", 2)]
            {
                let schedule = cron(pattern, &zone.to_string());
                let mut days = std::collections::BTreeMap::<_, u32>::new();
                let first = at("2024-01-01T12:00:00Z").to_zoned(zone.0.clone()).date();
                let mut past = Past { started: Some(at("2024-01-01T12:00:00Z")), ..Past::default() };
                loop {
                    let next = schedule.next(&past, Timestamp::UNIX_EPOCH, 0);
                    assert!(Some(next) > past.started, "{zone} {pattern}: no step ahead");
                    past.started = Some(next);
                    let day = next.to_zoned(zone.0.clone()).date();
                    if day.year() > 2024 {
                        break;
                    }
                    *days.entry(day).or_default() += 1;
                }
                days.remove(&first);
                assert_eq!(days.len(), 365, "{zone} {pattern}");
                assert!(days.values().all(|times| *times == a_day), "{zone} {pattern}: {days:?}");
            }
        }
    }

    #[test]
    fn a_start_that_was_missed_is_made_up_for_once() {
        let past = Past { started: Some(at("2024-01-01T00:00:00Z")), ..Past::default() };
        let every = Schedule { trigger: Trigger::Every(Duration::from_secs(900)), jitter: Duration::ZERO };
        // A week later it is overdue since the first one; and once it has run, the next is ahead.
        for (schedule, due, then) in [
            (every, "2024-01-01T00:15:00Z", "2024-01-08T00:15:07Z"),
            (cron("0 3 * * *", "UTC"), "2024-01-01T03:00:00Z", "2024-01-08T03:00:00Z"),
        ] {
            assert_eq!(schedule.next(&past, Timestamp::UNIX_EPOCH, 0), at(due));
            let now = Past { started: Some(at("2024-01-08T00:00:07Z")), ..past };
            assert_eq!(schedule.next(&now, Timestamp::UNIX_EPOCH, 0), at(then));
        }
    }

    #[test]
    fn starts_that_fall_into_a_run_are_counted() {
        let every = Schedule { trigger: Trigger::Every(Duration::from_secs(900)), jitter: Duration::ZERO };
        let started = at("2024-01-01T00:00:07Z");
        for (schedule, ended, missed) in [
            (&every, "2024-01-01T00:15:06Z", 0),
            (&every, "2024-01-01T00:45:08Z", 3),
            (&cron("*/10 * * * *", "UTC"), "2024-01-01T00:09:59Z", 0),
            (&cron("*/10 * * * *", "UTC"), "2024-01-01T00:30:00Z", 3),
        ] {
            assert_eq!(schedule.missed(started, at(ended)), missed, "{schedule} {ended}");
        }
    }

    #[test]
    fn what_never_ran_begins_at_once_or_at_its_time() {
        let seen = at("2024-01-01T00:00:00Z");
        let every = Schedule { trigger: Trigger::Every(Duration::from_secs(900)), jitter: Duration::ZERO };
        assert_eq!(every.next(&Past::default(), seen, 0), seen);
        assert_eq!(cron("0 3 * * *", "UTC").next(&Past::default(), seen, 0), at("2024-01-01T03:00:00Z"));
    }

    #[test]
    fn failures_are_tried_again_after_a_rest_that_grows_and_ends_somewhere() {
        let schedule = cron("0 3 * * *", "UTC");
        let (started, ended) = (at("2024-01-01T03:00:00Z"), at("2024-01-01T04:00:00Z"));
        for (failures, expected) in
            [(1, "04:01:00"), (2, "04:02:00"), (6, "04:32:00"), (7, "05:00:00"), (99, "05:00:00")]
        {
            let past = Past { started: Some(started), ended: Some(ended), failures, ..Past::default() };
            let next = schedule.next(&past, Timestamp::UNIX_EPOCH, 0);
            assert_eq!(next, at(&format!("2024-01-01T{expected}Z")), "{failures}");
        }
    }

    #[test]
    fn what_was_cut_short_goes_on_at_once_but_never_before_its_api_wants_to_be_asked() {
        let started = Some(at("2024-01-01T03:00:00Z"));
        let cut = Past { started, was_cut: true, ..Past::default() };
        let schedule = cron("0 3 * * *", "UTC");
        assert_eq!(Some(schedule.next(&cut, Timestamp::UNIX_EPOCH, 0)), started);
        let not_before = at("2024-01-03T00:00:00Z");
        for past in [cut, Past { started, ..Past::default() }] {
            let past = Past { not_before: Some(not_before), ..past };
            assert_eq!(schedule.next(&past, Timestamp::UNIX_EPOCH, 0), not_before);
        }
    }

    #[test]
    fn the_delay_is_within_the_jitter_differs_between_resources_and_stays_the_same() {
        let schedule = Schedule { jitter: Duration::from_secs(60), ..cron("0 3 * * *", "UTC") };
        let past = Past { started: Some(at("2024-01-01T03:00:00Z")), ..Past::default() };
        let delays: Vec<Duration> = (0..1000_u64)
            .map(|seed| {
                let next = schedule.next(&past, Timestamp::UNIX_EPOCH, seed);
                assert_eq!(next, schedule.next(&past, Timestamp::UNIX_EPOCH, seed));
                next.duration_since(at("2024-01-02T03:00:00Z")).unsigned_abs()
            })
            .collect();
        assert!(delays.iter().all(|delay| *delay <= Duration::from_secs(60)));
        let early = delays.iter().filter(|delay| **delay < Duration::from_secs(30)).count();
        assert!((400..600).contains(&early), "{early} of 1000 in the first half");
    }

    #[test]
    fn what_is_no_schedule_is_said_so() {
        for (text, said) in [
            ("every day", "is not a cron schedule"),
            ("* * * * * *", "is not a cron schedule"),
            ("61 * * * *", "is not a cron schedule"),
            ("0 0 30 2 *", "never comes"),
        ] {
            let error = text.parse::<super::Cron>().unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
        assert!("0 0 29 2 *".parse::<super::Cron>().is_ok());
        assert!("Mars/Olympus".parse::<Zone>().unwrap_err().contains("Europe/Berlin"));
    }
}
