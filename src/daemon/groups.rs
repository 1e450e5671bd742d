//! Which resources are read together.

use crate::config::Config;
use crate::page::ResourceId;
use crate::schedule::Schedule;
use crate::source::ResourceOptions;

/// What is read together, in the order of the configuration, and when: members of one family, behind the name of their
/// root, with the same times.
pub(super) fn groups(config: &Config) -> Vec<(ResourceId, Vec<ResourceId>, Option<Schedule>)> {
    let mut groups: Vec<(ResourceId, Vec<ResourceId>, Option<Schedule>)> = Vec::new();
    for (source, options) in config.sources.iter().filter(|(_, options)| options.enabled) {
        let first = groups.len();
        for (name, resource) in &options.resources {
            let id = ResourceId::new(source, name);
            let root = ResourceOptions::ancestors(name, &options.resources).last().map_or(name.as_str(), |root| root);
            let (root, schedule) = (ResourceId::new(source, root), options.schedule_of(resource));
            match groups[first..].iter_mut().find(|(known, _, times)| *known == root && *times == schedule) {
                Some((_, resources, _)) => resources.push(id),
                None => groups.push((root, vec![id], schedule)),
            }
        }
    }
    groups
}
