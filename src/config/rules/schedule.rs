//! Rules for `schedule` and `every`, and for what goes with them.

use super::super::path::Path;
use super::Rules;
use super::pipeline::at_most;
use crate::source::SourceOptions;
use crate::units::Timespan;

/// More often is a loop, not an interval.
const EVERY_MIN: Timespan = Timespan::secs(1);

/// A longer delay is another day.
const JITTER_MAX: Timespan = Timespan::secs(24 * 60 * 60);

pub(super) fn check(source: &SourceOptions, path: &Path, rules: &mut Rules<'_>) {
    let mut levels = vec![(path.clone(), source.schedule.is_some(), source.every)];
    for (name, resource) in &source.resources {
        levels.push((path.key("resources").key(name), resource.schedule.is_some(), resource.every));
    }
    for (path, has_schedule, every) in &levels {
        let Some(every) = *every else { continue };
        let path = path.key("every");
        if *has_schedule {
            rules.refuse(&path, "`every` and `schedule` exclude each other");
        }
        if every < EVERY_MIN {
            rules.refuse(&path, format!("must be at least {EVERY_MIN}"));
        }
    }
    let has_schedule = levels.iter().any(|(_, has_schedule, _)| *has_schedule);
    if source.timezone.is_some() && !has_schedule {
        rules.hint(&path.key("timezone"), "means nothing without a `schedule`");
    }
    let Some(jitter) = source.jitter else { return };
    let path = path.key("jitter");
    at_most(rules, &path, jitter, JITTER_MAX);
    let intervals =
        levels.iter().filter_map(|(path, _, every)| Some((path, every.filter(|every| *every >= EVERY_MIN)?)));
    match intervals.min_by_key(|(_, every)| *every) {
        Some((of, every)) if jitter > every && jitter <= JITTER_MAX => {
            rules.refuse(&path, format!("must not be longer than {} ({every})", of.key("every")));
        }
        None if !has_schedule => rules.hint(&path, "means nothing without a `schedule` or `every`"),
        _ => {}
    }
}
