//! What the file knows of earlier runs, and what follows from it for the next ones.

use std::collections::HashMap;

use jiff::Timestamp;

use super::Daemon;
use super::clock::Now;
use super::jobs::Jobs;
use crate::config::Config;
use crate::destination::{DbError, StoredBudget};
use crate::page::{ResourceId, RunKind};
use crate::schedule::Past;

impl Daemon<'_> {
    /// Learns what became of earlier runs of these resources and their relatives, or of all.
    pub(super) async fn learn(&mut self, ids: Option<&[ResourceId]>) -> Result<(), DbError> {
        let related = self.jobs.related(ids);
        let mut pasts = self.db.pasts(related.clone()).await?;
        let paused = self.db.paused().await?;
        let budgets = self.db.budgets().await?;
        for id in related {
            let not_before = not_before(&self.config, &id, &budgets);
            pasts.entry(id).or_default().not_before = not_before;
        }
        self.jobs.learn(&pasts, &paused, Now::read());
        Ok(())
    }

    /// Enters failures of which the file does not know, and learns anew how these resources are.
    pub(super) async fn enter(
        &mut self,
        failures: Vec<(ResourceId, RunKind, String)>,
        ids: &[ResourceId],
    ) -> Result<(), DbError> {
        if !failures.is_empty() {
            self.db.enter_failures(failures).await?;
        }
        self.learn(Some(ids)).await
    }
}

/// When a daemon with this configuration would read its resources next, as far as it would do so by itself: what became
/// of their earlier runs, which of them somebody has paused, and the budgets as they are stored.
#[must_use]
pub fn next_starts(
    config: &Config,
    mut pasts: HashMap<ResourceId, Past>,
    paused: &HashMap<ResourceId, Timestamp>,
    budgets: &[StoredBudget],
) -> HashMap<ResourceId, Timestamp> {
    let (mut jobs, now) = (Jobs::default(), Now::read());
    jobs.configure(None, config, now);
    for id in jobs.related(None) {
        let not_before = not_before(config, &id, budgets);
        pasts.entry(id).or_default().not_before = not_before;
    }
    jobs.learn(&pasts, paused, now);
    let timed = jobs.show().into_iter().filter_map(|job| Some((job.resources, job.next?)));
    timed.flat_map(|(resources, next)| resources.into_iter().map(move |id| (id, next))).collect()
}

/// Before when its API does not want to be asked.
fn not_before(config: &Config, id: &ResourceId, budgets: &[StoredBudget]) -> Option<Timestamp> {
    let name = config.sources.get(&*id.source)?.client.budget_name(&id.source);
    let budget = budgets.iter().find(|budget| budget.budget == name && budget.not_before_ms > 0)?;
    Timestamp::from_millisecond(budget.not_before_ms).ok()
}
