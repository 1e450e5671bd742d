//! From the configuration and a selection to what is to be read: clients, their budgets, and resources.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::config::Config;
use crate::destination::{Db, DbError};
use crate::page::{ResourceId, RunKind, WriteDisposition};
use crate::rest::error::ClientError;
use crate::source::{self, Resource, ResourceOptions};
use crate::sync::{PlannedResource, SyncPlan};

pub mod backfill;
mod clients;
mod token_file;

pub use clients::Clients;

/// What a run is asked for.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// Everything new of these resources.
    Sync(Vec<ResourceId>),
    /// A range of the cursor of one.
    Backfill(ResourceId, backfill::Range),
    /// The records of one that were set aside.
    Retry(ResourceId),
}

/// Puts the plan of what is wanted together.
///
/// # Errors
/// When a client or a resource cannot be made of its options, or the range is none of the resource.
pub async fn plan_of(
    config: &Config,
    wanted: &Wanted,
    db: &Arc<Db>,
    clients: &mut Clients,
) -> Result<SyncPlan, PlanError> {
    match wanted {
        Wanted::Sync(ids) => plan(config, ids, db, clients).await,
        Wanted::Backfill(id, range) => backfill::plan(config, id, range, db, clients).await,
        Wanted::Retry(id) => retry(config, id, db, clients).await,
    }
}

/// Why there is nothing to run.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A name on the command line is not in the configuration.
    #[error("{0}")]
    Selection(String),
    /// A client cannot be made.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A resource cannot be put together.
    #[error("{resource}: {reason}")]
    Resource {
        /// `SOURCE.RESOURCE`.
        resource: String,
        /// Why.
        reason: String,
    },
    /// What was asked for on the command line cannot be read of the resource.
    #[error("{resource}: {reason}")]
    Range {
        /// `SOURCE.RESOURCE`.
        resource: String,
        /// Why.
        reason: String,
    },
    /// The stored budgets cannot be read.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// The resources that a selection names: all enabled ones when it is empty.
///
/// # Errors
/// When a name is not in the configuration.
pub fn select(config: &Config, selection: &[String]) -> Result<Vec<ResourceId>, PlanError> {
    let all = config.sources.iter().flat_map(|(source, options)| {
        options.resources.keys().map(move |resource| (options.enabled, ResourceId::new(source, resource)))
    });
    let all: Vec<(bool, ResourceId)> = all.collect();
    if let Some(name) = selection.iter().find(|name| !all.iter().any(|(_, id)| is_named(id, name))) {
        return Err(PlanError::Selection(unknown(name, all.iter().map(|(_, id)| id))));
    }
    let named = |id: &ResourceId| selection.iter().any(|name| is_named(id, name));
    Ok(all
        .into_iter()
        .filter(|(enabled, id)| if selection.is_empty() { *enabled } else { named(id) })
        .map(|(_, id)| id)
        .collect())
}

fn is_named(id: &ResourceId, name: &str) -> bool {
    *id.source == *name || id.to_string() == name
}

/// Says what there is instead, and what was probably meant.
fn unknown<'a>(name: &str, ids: impl Iterator<Item = &'a ResourceId>) -> String {
    /// So many names are a help; more of them are a wall.
    const NAMES_SHOWN: usize = 20;
    let mut names: Vec<String> = Vec::new();
    for id in ids {
        names.extend((!names.iter().any(|known| *known == *id.source)).then(|| id.source.to_string()));
        names.push(id.to_string());
    }
    let slips_max = (name.chars().count() / 3).clamp(1, 3);
    let slips = |other: &String| strsim::damerau_levenshtein(&name.to_lowercase(), &other.to_lowercase());
    // `issues` for `github.issues` is no slip of the pen, but it is clear what is meant.
    let whole = names.iter().find(|other| other.split_once('.').is_some_and(|(_, resource)| resource == name));
    let near = names.iter().filter(|other| slips(other) <= slips_max).min_by_key(|other| slips(other));
    let mut text = format!("no source or resource is called `{}`", name.escape_debug());
    match whole.or(near) {
        Some(meant) => text.push_str(&format!("; did you mean `{meant}`?")),
        None if names.is_empty() => text.push_str("; none is configured"),
        None => {
            let more = names.len().saturating_sub(NAMES_SHOWN);
            names.truncate(NAMES_SHOWN);
            text.push_str(&format!("; there is {}", names.join(", ")));
            if more > 0 {
                text.push_str(&format!(" and {more} more"));
            }
        }
    }
    text
}

/// The resources and, each in front of the first that needs it, their parents: a child is read for the records that
/// its parent's read returns.
pub fn with_parents(config: &Config, ids: &[ResourceId]) -> Vec<ResourceId> {
    let parent_of = |id: &ResourceId| {
        let resources = &config.sources[&*id.source].resources;
        resources[&*id.resource].parent_name(resources).map(|parent| ResourceId::new(&id.source, parent))
    };
    let mut all: Vec<ResourceId> = Vec::new();
    for id in ids {
        let line: Vec<ResourceId> = std::iter::successors(Some(id.clone()), parent_of).collect();
        for id in line.into_iter().rev() {
            if !all.contains(&id) {
                all.push(id);
            }
        }
    }
    all
}

/// The resources below these that are not among them.
fn below(config: &Config, ids: &[ResourceId]) -> Vec<ResourceId> {
    let sources: BTreeSet<&Arc<str>> = ids.iter().map(|id| &id.source).collect();
    let all = sources.into_iter().flat_map(|source| {
        let resources = &config.sources[&**source].resources;
        resources.keys().filter_map(move |name| {
            let mut ancestors = ResourceOptions::ancestors(name, resources).into_iter();
            let is_below = ancestors.any(|above| ids.contains(&ResourceId::new(source, above)));
            Some(ResourceId::new(source, name)).filter(|id| is_below && !ids.contains(id))
        })
    });
    all.collect()
}

/// Puts the plan together: one client for each source, one budget for each name. Parents know of their children that
/// are not selected, too: what they may not return again is queued for those.
///
/// # Errors
/// When a client or a resource cannot be made of its options.
pub async fn plan(
    config: &Config,
    ids: &[ResourceId],
    db: &Arc<Db>,
    clients: &mut Clients,
) -> Result<SyncPlan, PlanError> {
    let read = with_parents(config, ids);
    let below = below(config, &read);
    put_together(config, &read, &below, db, clients).await
}

/// The same for these resources alone, without their parents and children.
///
/// # Errors
/// When a client or a resource cannot be made of its options.
pub async fn plan_only(
    config: &Config,
    ids: &[ResourceId],
    db: &Arc<Db>,
    clients: &mut Clients,
) -> Result<SyncPlan, PlanError> {
    put_together(config, ids, &[], db, clients).await
}

/// Puts together the plan for trying the records of a resource again that were set aside.
///
/// # Errors
/// When its complete reads replace what was there, or it cannot be made of its options.
pub async fn retry(
    config: &Config,
    id: &ResourceId,
    db: &Arc<Db>,
    clients: &mut Clients,
) -> Result<SyncPlan, PlanError> {
    if let Some(reason) = why_not_retried(config, id) {
        return Err(PlanError::Range { resource: id.to_string(), reason: reason.to_owned() });
    }
    let read = std::slice::from_ref(id);
    let mut plan = put_together(config, read, &below(config, read), db, clients).await?;
    plan.resources.iter_mut().for_each(|planned| planned.kind = RunKind::Retry);
    Ok(plan)
}

/// Why the records of a resource that were set aside are not tried again, where that is so.
#[must_use]
pub fn why_not_retried(config: &Config, id: &ResourceId) -> Option<&'static str> {
    let options = config.sources.get(&*id.source)?.resources.get(&*id.resource)?;
    (options.disposition() == WriteDisposition::Replace)
        .then_some("every complete read replaces its rows, so the next one brings all records again: run that instead")
}

/// `below` are not read, but parents know of them.
async fn put_together(
    config: &Config,
    read: &[ResourceId],
    below: &[ResourceId],
    db: &Arc<Db>,
    clients: &mut Clients,
) -> Result<SyncPlan, PlanError> {
    let saved = db.budgets().await?;
    let salt = db.salt().await?;
    let mut resources = Vec::new();
    for id in read.iter().chain(below) {
        let source = &config.sources[&*id.source];
        let client = clients.of(&id.source, &source.client, db, &saved)?;
        let options = &source.resources[&*id.resource];
        let resource = Resource::new(id, source, options, client, &salt)
            .map_err(|reason| PlanError::Resource { resource: id.to_string(), reason })?;
        resources.push(resource);
    }
    source::link(&mut resources);
    let resources = resources.into_iter().take(read.len()).map(PlannedResource::new).collect();
    Ok(SyncPlan { resources, pipeline: config.pipeline.clone() })
}

#[cfg(test)]
mod tests {
    use super::unknown;
    use crate::page::ResourceId;

    #[test]
    fn an_unknown_name_is_answered_with_what_was_meant_or_with_what_there_is() {
        let ids = [ResourceId::new("github", "issues"), ResourceId::new("github", "pulls")];
        for (typed, said) in [
            ("githb", "did you mean `github`?"),
            ("github.isues", "did you mean `github.issues`?"),
            ("pulls", "did you mean `github.pulls`?"),
            ("zebra", "there is github, github.issues, github.pulls"),
        ] {
            assert_eq!(unknown(typed, ids.iter()), format!("no source or resource is called `{typed}`; {said}"));
        }
        assert_eq!(unknown("x", [].iter()), "no source or resource is called `x`; none is configured");
    }
}
