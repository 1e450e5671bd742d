//! What is shown of all resources together. A look costs what has changed since the one before, and little for each
//! resource beside that, however many runs it has behind it.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::Connection;

use super::super::{DbError, due, minutes};
use super::resources::{self, Line, ResourceView};
use super::runs::{self, RunBar, RunView};
use crate::page::ResourceId;

/// What is shown of all resources together, of one state of the file.
#[derive(Clone, Debug, Default)]
pub struct Overview {
    /// Every resource that was ever read into the file, in the order in which they came.
    pub resources: Vec<Arc<ResourceOverview>>,
    lines: Vec<Line>,
    /// The last minute of all that are counted.
    minute: i64,
    shown: Shown,
    /// The last run of all when it was looked.
    last_run_id: i64,
}

/// What is shown of a resource among others.
#[derive(Clone, Debug)]
pub struct ResourceOverview {
    /// How it stands.
    pub view: ResourceView,
    /// Its last runs, the newest last.
    pub recent: Vec<RunBar>,
    /// How many of its records were stored in each of the last minutes, the present one last.
    pub per_minute: Vec<u64>,
}

/// How much of each resource is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shown {
    /// Runs.
    pub(super) runs: usize,
    /// Minutes.
    pub(super) minutes: usize,
}

/// All resources, as [`super::View::overview`] says.
pub(super) fn look(
    connection: &Connection,
    shown: Shown,
    before: &Overview,
    now: Timestamp,
) -> Result<Overview, DbError> {
    let (paused, lines, minute) = (due::paused(connection)?, resources::lines(connection)?, minutes::minute(now));
    let last_run_id = runs::newest(connection)?;
    let is_like_it = before.shown == shown && before.minute <= minute && before.last_run_id <= last_run_id;
    let begun = if is_like_it { runs::begun_behind(connection, before.last_run_id)? } else { None };
    let known: HashMap<&ResourceId, (&Line, &Arc<ResourceOverview>)> = match &begun {
        None => HashMap::new(),
        Some(begun) => {
            let known = before.lines.iter().zip(&before.resources).map(|known| (&known.0.id, known));
            known.filter(|(id, _)| !begun.contains(id)).collect()
        }
    };
    let mut overview =
        Overview { resources: Vec::with_capacity(lines.len()), lines: Vec::new(), minute, last_run_id, shown };
    for line in &lines {
        let before_it = known.get(&line.id);
        // The line of a known run may have changed all the same: it was under way, or its last requests were not counted.
        let run = match before_it.and_then(|(_, known)| known.view.last_run.as_ref()) {
            Some(run) => runs::one(connection, run.run_id)?,
            None => None,
        };
        let last_run = match run {
            Some(run) => Some(run),
            None => resources::last_run(connection, &line.id)?,
        };
        let paused_at = paused.get(&line.id).copied();
        overview.resources.push(match before_it {
            Some((before_line, known))
                if *before_line == line
                    && known.view.paused_at == paused_at
                    && is_over(line, known, last_run.as_ref()) =>
            {
                later(known, minute - before.minute)
            }
            _ => Arc::new(ResourceOverview {
                recent: runs::recent(connection, &line.id, shown.runs)?,
                per_minute: minutes::last(connection, Some(&line.id), now, shown.minutes)?,
                view: resources::view(connection, line, last_run, paused_at)?,
            }),
        });
    }
    overview.lines = lines;
    Ok(overview)
}

/// Whether everything else is as it was: what changes comes with a run of the resource; only a pass that is under way
/// grows by those of its parents.
fn is_over(line: &Line, known: &ResourceOverview, last_run: Option<&RunView>) -> bool {
    !line.is_open && known.view.last_run.as_ref() == last_run && last_run.is_none_or(|run| run.outcome != "running")
}

/// The same some minutes later, in which nothing was stored.
pub(super) fn later(known: &Arc<ResourceOverview>, minutes: i64) -> Arc<ResourceOverview> {
    let length = known.per_minute.len();
    let passed = usize::try_from(minutes).unwrap_or(length).min(length);
    if passed == 0 {
        return Arc::clone(known);
    }
    let mut later = (**known).clone();
    later.per_minute.rotate_left(passed);
    later.per_minute[length - passed..].fill(0);
    Arc::new(later)
}
