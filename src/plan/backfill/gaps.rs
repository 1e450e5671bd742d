//! What of a range is still to be read, beside what is covered of it and what earlier backfills have begun. Pure rules.

use std::collections::HashSet;

use crate::destination::OpenRange;
use crate::page::Coverage;
use crate::source::PartitionValues;
use crate::source::incremental::{CursorValue, Incremental};

/// What is to be read of a partition.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Gaps {
    /// The partitions that stand for it, those first that have been begun.
    pub(super) ranges: Vec<String>,
    /// Ranges left open that lie across it: it is read in their place.
    pub(super) given_up: Vec<String>,
}

/// Looks for the gaps in windows that follow each other. Ranges that were begun and lie inside are gone on with, however
/// long the windows are now. `cut` windows are cut to what is missing; else they are read as a whole.
pub(super) fn gaps(
    incremental: &Incremental,
    values: &PartitionValues,
    windows: &[(CursorValue, CursorValue)],
    covered: &[Coverage],
    open: &[OpenRange],
    cut: bool,
) -> Gaps {
    let (Some((from, _)), Some((_, to))) = (windows.first(), windows.last()) else { return Gaps::default() };
    let (from, to) = (Incremental::bound(from).sort, Incremental::bound(to).sort);
    let (mut gaps, mut begun) = (Gaps::default(), Vec::<Coverage>::new());
    for range in open {
        let Some((first, end)) = bounds_of(incremental, &range.partition) else {
            // Values of another kind: nothing can go on with it.
            gaps.given_up.push(range.partition.clone());
            continue;
        };
        let (first, end) = (Incremental::bound(&first), Incremental::bound(&end));
        if first.sort >= to || end.sort <= from {
            continue;
        }
        let is_inside = first.sort >= from && end.sort <= to;
        let whole = Coverage { from: Some(first), to: end };
        if range.is_under_way && is_inside && !covered.iter().chain(&begun).any(|taken| overlap(taken, &whole)) {
            gaps.ranges.push(range.partition.clone());
            begun.push(whole);
        } else {
            gaps.given_up.push(range.partition.clone());
        }
    }
    let mut taken: Vec<Coverage> = covered.iter().chain(&begun).cloned().collect();
    taken.sort_by(|a, b| a.to.sort.cmp(&b.to.sort));
    for (from, to) in windows {
        let whole = Coverage { from: Some(Incremental::bound(from)), to: Incremental::bound(to) };
        let cut = cut || begun.iter().any(|range| overlap(range, &whole));
        let missing = missing(incremental, from.clone(), to.clone(), &taken, cut);
        gaps.ranges.extend(missing.iter().map(|(from, to)| values.with_range(&from.json, &to.json)));
    }
    // What was queued and is asked for again just as it was has not been given up.
    let asked: HashSet<&String> = gaps.ranges.iter().collect();
    gaps.given_up.retain(|range| !asked.contains(range));
    gaps
}

fn overlap(a: &Coverage, b: &Coverage) -> bool {
    let begins_before =
        |range: &Coverage, end: &Coverage| range.from.as_ref().is_none_or(|from| from.sort < end.to.sort);
    begins_before(a, b) && begins_before(b, a)
}

/// The range that a partition of a backfill stands for.
fn bounds_of(incremental: &Incremental, partition: &str) -> Option<(CursorValue, CursorValue)> {
    let values = PartitionValues::parse(partition).ok()?;
    let (from, to) = values.range()?;
    let window = incremental.range_window(from, to).ok()?;
    window.start.zip(window.end)
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

    use super::{gaps, missing};
    use crate::destination::OpenRange;
    use crate::page::Coverage;
    use crate::source::PartitionValues;
    use crate::source::incremental::Incremental;

    #[test]
    fn what_is_covered_is_cut_out_of_a_range() {
        let options = serde_json::from_value(json!({"cursor_path": "n"})).unwrap();
        let incremental = Incremental::new(&options).unwrap();
        let value = |n: i64| incremental.value_of(&n.to_string(), None).unwrap();
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

    #[test]
    fn what_was_begun_inside_is_gone_on_with_and_what_lies_across_is_given_up() {
        let options = serde_json::from_value(json!({"cursor_path": "n"})).unwrap();
        let incremental = Incremental::new(&options).unwrap();
        let value = |n: i64| incremental.value_of(&n.to_string(), None).unwrap();
        let values = PartitionValues::default();
        let text = |(from, to): (i64, i64)| values.with_range(&json!(from), &json!(to));
        let bound = |n: i64| Incremental::bound(&value(n));
        // Windows 0-10 and 10-20; open ranges, with `true` where a page of them is stored.
        for (cut, covered, open, ranges, given_up) in [
            (true, &[][..], &[][..], &[(0, 10), (10, 20)][..], &[][..]),
            (true, &[], &[((0, 10), true), ((10, 20), false)], &[(0, 10), (10, 20)], &[]),
            (false, &[], &[((0, 4), true)], &[(0, 4), (4, 10), (10, 20)], &[]),
            (true, &[], &[((8, 12), true)], &[(8, 12), (0, 8), (12, 20)], &[]),
            (true, &[], &[((8, 12), false)], &[(0, 10), (10, 20)], &[(8, 12)]),
            (true, &[], &[((15, 25), true), ((20, 30), true)], &[(0, 10), (10, 20)], &[(15, 25)]),
            (true, &[], &[((2, 6), true), ((4, 8), true)], &[(2, 6), (0, 2), (6, 10), (10, 20)], &[(4, 8)]),
            (true, &[(0, 12)], &[((10, 20), true)], &[(12, 20)], &[(10, 20)]),
        ] {
            let covered: Vec<Coverage> =
                covered.iter().map(|&(from, to)| Coverage { from: Some(bound(from)), to: bound(to) }).collect();
            let open: Vec<OpenRange> =
                open.iter().map(|&(range, is_under_way)| OpenRange { partition: text(range), is_under_way }).collect();
            let windows = [(value(0), value(10)), (value(10), value(20))];
            let found = gaps(&incremental, &values, &windows, &covered, &open, cut);
            let texts = |ranges: &[(i64, i64)]| ranges.iter().map(|&range| text(range)).collect::<Vec<_>>();
            assert_eq!((found.ranges, found.given_up), (texts(ranges), texts(given_up)), "{open:?}");
        }
    }
}
