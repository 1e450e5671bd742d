//! From a range of a cursor and what is covered of it to what is to be read: ranges as partitions of their own.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::config::Config;
use crate::destination::{Db, DbError, LivePartition, OpenRange};
use crate::page::{Coverage, RangeNotes, ResourceId, RunKind, WriteDisposition};
use crate::source::PartitionValues;
use crate::source::incremental::{CursorValue, Incremental, Point, Stride};
use crate::sync::{PlannedResource, SyncPlan};
use crate::template::Slot;

use super::{Clients, PlanError, plan_only};

mod gaps;

use gaps::{Gaps, gaps};

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

/// Puts the plan of a backfill together; without resources where all of it was read before.
///
/// # Errors
/// When the resource has no cursor that its request can be bounded by, the bounds are none of its values, or nothing of
/// them can be read.
pub async fn plan(
    config: &Config,
    id: &ResourceId,
    range: &Range,
    db: &Arc<Db>,
    clients: &mut Clients,
) -> Result<SyncPlan, PlanError> {
    let mut plan = plan_only(config, std::slice::from_ref(id), db, clients).await?;
    let Some(planned) = plan.resources.pop() else { return Ok(plan) };
    // What is stored of a range means what it meant to the configuration that it was read with.
    db.check_identity(&planned.resource.target, &planned.resource.identity).await?;
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
    let known = Known::of(id, &planned, db).await?;
    if known.partitions.is_empty() {
        // Of a parent that is read in part, the last read may have queued nothing although there are records.
        if planned.resource.has_partial_parent || !db.is_complete(id).await? {
            return Err(refused(no_parents(&planned)));
        }
        tracing::warn!(resource = %id, "its parent has no records that it could be read for");
        return Ok(plan);
    }
    let stored = known.value(&incremental).map_err(refused)?;
    let given = |flag: &str, text: &Option<String>| {
        let value = |text: &String| incremental.value_of(text, stored.as_ref());
        text.as_ref().map(value).transpose().map_err(|reason| refused(format!("{flag}: {reason}")))
    };
    let ask = Ask {
        from: given("--from", &range.from)?,
        to: given("--to", &range.to)?,
        is_append: planned.resource.target.disposition == WriteDisposition::Append,
        now: Timestamp::now(),
        incremental: &incremental,
        range,
        id,
    };
    let (partitions, ranges) = ask.of_all(known).map_err(refused)?;
    if !partitions.is_empty() {
        let concurrency = range.concurrency.unwrap_or(planned.concurrency);
        plan.resources.push(PlannedResource { kind: RunKind::Backfill, partitions, ranges, concurrency, ..planned });
    }
    Ok(plan)
}

fn no_parents(planned: &PlannedResource) -> String {
    let parent = planned.resource.parent.as_ref().map(ToString::to_string).unwrap_or_default();
    format!("is read for the records of {parent}, and none is known yet: run `highwater sync {}` first", planned.id())
}

/// What the file knows of a resource.
struct Known {
    /// Its partitions, and what was read completely of each.
    partitions: Vec<(LivePartition, Vec<Coverage>)>,
    /// What earlier backfills have left open of them.
    open: HashMap<String, Vec<OpenRange>>,
}

impl Known {
    async fn of(id: &ResourceId, planned: &PlannedResource, db: &Db) -> Result<Self, DbError> {
        let mut live = db.live_partitions(id).await?;
        if planned.resource.parent.is_none() {
            // Those of the configuration, whether they were ever read or not; the file has others that are there no more.
            let mut by_name: HashMap<String, LivePartition> =
                live.into_iter().map(|live| (live.partition.clone(), live)).collect();
            let of_name = |name: &String| {
                by_name.remove(name).unwrap_or_else(|| LivePartition { partition: name.clone(), ..Default::default() })
            };
            live = planned.partitions.iter().map(of_name).collect();
        }
        let mut partitions = Vec::with_capacity(live.len());
        for partition in live {
            let covered = db.coverage(id, &partition.partition).await?;
            partitions.push((partition, covered));
        }
        let mut open: HashMap<String, Vec<OpenRange>> = HashMap::new();
        for range in db.open_ranges(id).await? {
            let partition = PartitionValues::parse(&range.partition).unwrap_or_default().without_range();
            open.entry(partition).or_default().push(range);
        }
        Ok(Self { partitions, open })
    }

    /// A value of the cursor as it was received.
    fn value(&self, incremental: &Incremental) -> Result<Option<CursorValue>, String> {
        let cursors = self.partitions.iter().filter_map(|(live, _)| live.cursor.as_ref());
        let covered = self.partitions.iter().filter_map(|(_, covered)| covered.last().map(|last| &last.to.json));
        cursors.chain(covered).next().map(|json| incremental.stored(json)).transpose()
    }
}

/// What is asked for of every partition.
struct Ask<'a> {
    from: Option<CursorValue>,
    to: Option<CursorValue>,
    is_append: bool,
    now: Timestamp,
    incremental: &'a Incremental,
    range: &'a Range,
    id: &'a ResourceId,
}

/// What there is to read of one partition.
enum Found {
    /// The gaps, and where the range ends before the end that was given.
    Gaps(Gaps, Option<Limit>),
    /// Its gaps cannot be told: no range of it is known to have been read.
    Unread,
    /// The whole range lies behind where it has to end.
    Behind(Limit),
}

impl Ask<'_> {
    /// The ranges of all partitions; none where all of it was read before.
    fn of_all(&self, known: Known) -> Result<(Vec<String>, RangeNotes), String> {
        let (mut wanted, mut notes) = (Vec::new(), RangeNotes::default());
        let (mut unread, mut behind, mut shortened) = (0, Vec::new(), Vec::new());
        let Known { partitions, mut open } = known;
        let all = partitions.len();
        for (live, covered) in partitions {
            let open = open.remove(&live.partition).unwrap_or_default();
            match self.of_partition(&live, &covered, &open)? {
                Found::Gaps(gaps, limit) => {
                    notes.parent_fields.extend(gaps.ranges.iter().map(|_| live.parent_fields.clone()));
                    notes.given_up.extend(gaps.given_up);
                    wanted.extend(gaps.ranges);
                    shortened.extend(limit);
                }
                Found::Unread => unread += 1,
                Found::Behind(limit) => behind.push(limit),
            }
        }
        if unread + behind.len() == all {
            return Err(match behind.first() {
                Some(limit) => limit.refusal(self.id),
                None => format!(
                    "no range of that is known to have been read, so it has no gaps: say what to read with --from and --to, or \
                     run `highwater sync {}` first",
                    self.id
                ),
            });
        }
        let id = self.id;
        if unread > 0 {
            tracing::warn!(resource = %id, "of {unread} of {all} partitions no range is known to have been read: they have no gaps, and are left out");
        }
        if let Some(limit) = shortened.first().or(behind.first()) {
            let more = if all > 1 { " (others of its partitions may end elsewhere)" } else { "" };
            tracing::warn!(resource = %id, "{limit}{more}");
        }
        Ok((wanted, notes))
    }

    fn of_partition(&self, live: &LivePartition, covered: &[Coverage], open: &[OpenRange]) -> Result<Found, String> {
        let Some((from, mut to)) = self.bounds(covered)? else { return Ok(Found::Unread) };
        let is_before = |end: &CursorValue| from.point < end.point;
        let mut limit = None;
        if is_before(&to)
            && let Some(found) = self.limit(live, &to)?
        {
            match &found.end {
                Some(end) if is_before(end) => to = end.clone(),
                _ => return Ok(Found::Behind(found)),
            }
            limit = Some(found);
        }
        if !is_before(&to) && (self.from.is_none() || self.to.is_none()) {
            let is_all = self.from.is_none() && covered.first().is_some_and(|first| first.from.is_none());
            return Ok(if is_all { Found::Gaps(Gaps::default(), None) } else { Found::Unread });
        }
        let windows = self.incremental.ranges(&from, &to, self.range.step.as_ref())?;
        let values = PartitionValues::parse(&live.partition)?;
        // What lay behind the end the last time is all that is missing.
        let cut = self.range.fill_gaps || self.is_append || limit.is_some();
        Ok(Found::Gaps(gaps(self.incremental, &values, &windows, covered, open, cut), limit))
    }

    /// The bounds as they were given; of gaps, else the first and the last value that was ever read.
    fn bounds(&self, covered: &[Coverage]) -> Result<Option<(CursorValue, CursorValue)>, String> {
        let from = match (&self.from, covered.first()) {
            (Some(from), _) => from.clone(),
            // Where it reaches back to the beginning, the first gap is behind it.
            (None, Some(first)) if self.range.fill_gaps => {
                self.incremental.stored(&first.from.as_ref().unwrap_or(&first.to).json)?
            }
            (None, None) if self.range.fill_gaps => return Ok(None),
            (None, _) => return Err("say what to read with --from and --to".to_owned()),
        };
        let to = match (&self.to, covered.last()) {
            (Some(to), _) => to.clone(),
            (None, Some(last)) if self.range.fill_gaps => self.incremental.stored(&last.to.json)?,
            (None, None) if self.range.fill_gaps => return Ok(None),
            (None, _) => return Err("say what to read with --from and --to".to_owned()),
        };
        Ok(Some((from, to)))
    }

    /// Where a range of a partition has to end, if that is before `to`.
    fn limit(&self, live: &LivePartition, to: &CursorValue) -> Result<Option<Limit>, String> {
        let mut limit = None;
        let live_from = self.incremental.live_from(live.cursor.as_deref(), live.bounds.as_deref())?;
        if matches!(to.point, Point::Time(_)) && to.point > Point::Time(self.now) {
            let end = Some(self.incremental.clock(self.now, live_from.as_ref().unwrap_or(to))?);
            limit = Some(Limit { end, is_clock: true });
        }
        // What comes from there on is read by live reads, which do not know what others have stored of it.
        let end = limit.as_ref().and_then(|limit| limit.end.as_ref()).unwrap_or(to);
        if self.is_append && live_from.as_ref().is_none_or(|from| from.point < end.point) {
            limit = Some(Limit { end: live_from, is_clock: false });
        }
        Ok(limit)
    }
}

/// Where a range ends before the end that was given: where the clock stands, for nothing behind it can be said to have
/// been read; with `append`, where live reads begin.
struct Limit {
    /// None where live reads begin at the very beginning.
    end: Option<CursorValue>,
    is_clock: bool,
}

impl Limit {
    /// Why nothing of a range can be read.
    fn refusal(&self, id: &ResourceId) -> String {
        match (&self.end, self.is_clock) {
            (Some(end), true) => format!("nothing of the range lies before {}, where the clock stands", end.json),
            (Some(end), false) => format!(
                "from {} on it is read by `highwater sync {id}`, and with write_disposition = \"append\" its rows would \
                 be there twice",
                end.json
            ),
            (None, _) => format!(
                "`highwater sync {id}` begins at the very beginning, and with write_disposition = \"append\" rows would be \
                 there twice: run that first"
            ),
        }
    }
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let end = self.end.as_ref().map(|end| end.json.to_string()).unwrap_or_default();
        match self.is_clock {
            true => write!(f, "reads up to {end}, where the clock stands"),
            false => write!(f, "reads up to {end}: what follows is read by `highwater sync`, and would be there twice"),
        }
    }
}
