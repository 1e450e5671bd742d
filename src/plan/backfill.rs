//! From a range of a cursor and what is covered of it to what is to be read: ranges as partitions of their own.

use std::sync::Arc;

use crate::config::Config;
use crate::destination::Db;
use crate::page::{Coverage, ResourceId, RunKind, WriteDisposition};
use crate::source::PartitionValues;
use crate::source::incremental::{CursorValue, Incremental, Stride};
use crate::sync::{PlannedResource, SyncPlan};
use crate::template::Slot;

use super::{Budgets, PlanError, plan_only};

/// What a backfill is to read.
#[derive(Clone, Debug, Default)]
pub struct Range {
    /// Its first value.
    pub from: Option<String>,
    /// The value behind its last.
    pub to: Option<String>,
    /// The length of its windows; the resource's `step` where it is not given.
    pub step: Option<Stride>,
    /// Windows at the same time.
    pub concurrency: Option<usize>,
    /// Exactly what is missing; without bounds, between the first and the last that was ever read.
    pub fill_gaps: bool,
}

/// Puts the plan of a backfill together; without resources where nothing is left to be read.
///
/// # Errors
/// When the resource has no cursor that its request can be bounded by, or the bounds are none of its values.
pub async fn plan(
    config: &Config,
    id: &ResourceId,
    range: &Range,
    db: &Arc<Db>,
) -> Result<(SyncPlan, Budgets), PlanError> {
    let (mut plan, budgets) = plan_only(config, std::slice::from_ref(id), db).await?;
    let Some(planned) = plan.resources.pop() else { return Ok((plan, budgets)) };
    let refused = |reason: String| PlanError::Range { resource: id.to_string(), reason };
    let options = &config.sources[&*id.source].resources[&*id.resource];
    let Some(incremental) = planned.resource.incremental.clone() else {
        let reason = "has no `incremental`: there is nothing that a range could be of";
        return Err(refused(reason.to_owned()));
    };
    if !options.slots().contains(&&Slot::StartValue) {
        let reason = "its request does not use `${incremental.start_value}`: it would read everything for every window";
        return Err(refused(reason.to_owned()));
    }
    let given = |text: &Option<String>| text.as_ref().map(|text| incremental.value_of(text)).transpose();
    let (from, to) = (given(&range.from).map_err(refused)?, given(&range.to).map_err(refused)?);
    let partitions = if planned.resource.parent.is_some() {
        // Its parent's records were queued for it when they were read.
        db.live_partitions(id).await?
    } else {
        planned.partitions.clone()
    };
    let is_append = planned.resource.target.disposition == WriteDisposition::Append;
    let mut wanted = Vec::new();
    for partition in &partitions {
        let covered = db.coverage(id, partition).await?;
        let ranges = match (&from, &to, range.fill_gaps) {
            (Some(from), Some(to), _) => incremental.ranges(from, to, range.step.as_ref()).map_err(refused)?,
            (from, to, true) => {
                let bounds = between(&incremental, from.as_ref(), to.as_ref(), &covered).map_err(refused)?;
                match bounds {
                    Some((from, to)) => incremental.ranges(&from, &to, range.step.as_ref()).map_err(refused)?,
                    None => Vec::new(),
                }
            }
            (..) => return Err(refused("say what to read with --from and --to".to_owned())),
        };
        let values = PartitionValues::parse(partition).map_err(refused)?;
        for (from, to) in ranges {
            for (from, to) in missing(&incremental, from, to, &covered, range.fill_gaps || is_append) {
                wanted.push(values.with_range(&from.json, &to.json));
            }
        }
    }
    if !wanted.is_empty() {
        let concurrency = range.concurrency.unwrap_or(planned.concurrency);
        plan.resources.push(PlannedResource { kind: RunKind::Backfill, partitions: wanted, concurrency, ..planned });
    }
    Ok((plan, budgets))
}

/// The bounds of gaps: those given, else the first and the last value that was ever read.
fn between(
    incremental: &Incremental,
    from: Option<&CursorValue>,
    to: Option<&CursorValue>,
    covered: &[Coverage],
) -> Result<Option<(CursorValue, CursorValue)>, String> {
    let (Some(first), Some(last)) = (covered.first(), covered.last()) else { return Ok(None) };
    let from = match (from, &first.from) {
        (Some(from), _) => from.clone(),
        (None, Some(first)) => incremental.stored(&first.json)?,
        // It reaches back to the beginning: the first gap is behind it.
        (None, None) => incremental.stored(&first.to.json)?,
    };
    let to = match to {
        Some(to) => to.clone(),
        None => incremental.stored(&last.to.json)?,
    };
    Ok(matches!(from.point.partial_cmp(&to.point), Some(std::cmp::Ordering::Less)).then_some((from, to)))
}

/// What of a range is not covered: its parts where it is `cut`, else all of it or nothing.
fn missing(
    incremental: &Incremental,
    from: CursorValue,
    to: CursorValue,
    covered: &[Coverage],
    cut: bool,
) -> Vec<(CursorValue, CursorValue)> {
    let (start, end) = (Incremental::bound(&from).sort, Incremental::bound(&to).sort);
    let mut gaps = Vec::new();
    let mut at = Some(from.clone());
    for range in covered.iter().filter(|range| range.to.sort > start) {
        let Some(begins) = at.take() else { break };
        match &range.from {
            Some(first) if first.sort >= end => {
                at = Some(begins);
                break;
            }
            Some(first) if first.sort > Incremental::bound(&begins).sort => match incremental.stored(&first.json) {
                Ok(first) => gaps.push((begins, first)),
                Err(_) => return vec![(from, to)],
            },
            _ => {}
        }
        if range.to.sort < end {
            at = incremental.stored(&range.to.json).ok();
        }
    }
    gaps.extend(at.map(|begins| (begins, to.clone())));
    if gaps.is_empty() || cut { gaps } else { vec![(from, to)] }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::missing;
    use crate::page::Coverage;
    use crate::source::incremental::Incremental;

    #[test]
    fn what_is_covered_is_cut_out_of_a_range() {
        let options = serde_json::from_value(json!({"cursor_path": "n"})).unwrap();
        let incremental = Incremental::new(&options).unwrap();
        let value = |n: i64| incremental.value_of(&n.to_string()).unwrap();
        let covered = |ranges: &[(Option<i64>, i64)]| -> Vec<Coverage> {
            let bound = |n: i64| Incremental::bound(&value(n));
            ranges.iter().map(|(from, to)| Coverage { from: from.map(bound), to: bound(*to) }).collect()
        };
        let gaps = |ranges: &[(Option<i64>, i64)], cut: bool| -> Vec<String> {
            let gaps = missing(&incremental, value(10), value(20), &covered(ranges), cut);
            gaps.iter().map(|(from, to)| format!("{}-{}", from.json, to.json)).collect()
        };
        for (ranges, expected) in [
            (&[][..], &["10-20"][..]),
            (&[(Some(0), 5), (Some(30), 40)], &["10-20"]),
            (&[(None, 20)], &[]),
            (&[(Some(10), 20)], &[]),
            (&[(Some(0), 12), (Some(14), 16), (Some(18), 25)], &["12-14", "16-18"]),
            (&[(Some(12), 14)], &["10-12", "14-20"]),
            (&[(None, 15)], &["15-20"]),
            (&[(Some(15), 20)], &["10-15"]),
        ] {
            assert_eq!(gaps(ranges, true), expected, "{ranges:?}");
            let whole: &[&str] = if expected.is_empty() { &[] } else { &["10-20"] };
            assert_eq!(gaps(ranges, false), whole, "{ranges:?}");
        }
    }
}
