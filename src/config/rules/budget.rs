//! Rules for `rate_limit`, alone and between the sources that share a budget.

use std::collections::HashMap;

use super::super::Config;
use super::super::path::Path;
use super::Rules;
use super::client::check_header_name;
use super::pipeline::at_most;
use crate::rest::budget::RateLimit;
use crate::units::Timespan;

/// The longest month; APIs count their quotas over no longer time.
const PER_MAX: Timespan = Timespan::secs(31 * 24 * 60 * 60);

/// The rules for one `rate_limit`.
pub(super) fn check_limit(limit: &RateLimit, path: &Path, rules: &mut Rules<'_>) {
    if limit.per.is_zero() {
        rules.refuse(&path.key("per"), "must be more than 0s");
    }
    at_most(rules, &path.key("per"), limit.per, PER_MAX);
    needs(rules, path, &["per", "burst"], "requests", limit.requests.is_some());
    needs(rules, path, &["reset_format"], "reset_header", limit.reset_header.is_some());
    needs(rules, path, &["remaining_header"], "reset_header", limit.reset_header.is_some());
    needs(rules, path, &["reserve"], "remaining_header", limit.remaining_header.is_some());
    check_header_name(limit.remaining_header.as_ref(), &path.key("remaining_header"), rules);
    check_header_name(limit.reset_header.as_ref(), &path.key("reset_header"), rules);
}

fn needs(rules: &mut Rules<'_>, path: &Path, keys: &[&str], needed: &str, is_there: bool) {
    for key in keys {
        if !is_there && rules.is_set(&path.key(key)) {
            rules.refuse(&path.key(key), format!("`{key}` means nothing without `{needed}`"));
        }
    }
}

/// The rules for budgets that several sources share; a reference gets the settings that it refers to.
pub(super) fn check(config: &mut Config, rules: &mut Rules<'_>) {
    let mut defined: HashMap<String, (Path, RateLimit)> = HashMap::new();
    let mut references = Vec::new();
    for (source, options) in &config.sources {
        let Some(limit) = &options.client.rate_limit else { continue };
        let path = Path::of(&["sources", source, "client", "rate_limit"]);
        let budget = limit.budget.clone().unwrap_or_else(|| source.clone());
        if is_reference(rules, &path) {
            references.push((source.clone(), budget, path.key("budget")));
            continue;
        }
        if let Some(other) = stranger_called(&budget, config) {
            let message = format!("`{other}` is also a source, which does not share this budget");
            let help = format!(
                "take another name, or share it: sources.{other}.client.rate_limit = {{ budget = \"{other}\" }}"
            );
            rules.refuse_with_help(&path.key("budget"), message, help);
        }
        let settings = RateLimit { budget: None, ..limit.clone() };
        match defined.get(&budget) {
            Some((other, defined)) if *defined != settings => {
                let message = format!("the budget `{}` has other settings in {other}", budget.escape_debug());
                let help = "write the settings once; elsewhere `rate_limit = { budget = \"NAME\" }` refers to them";
                rules.refuse_with_help(&path.key("budget"), message, help);
            }
            _ => {
                defined.insert(budget, (path, settings));
            }
        }
    }
    for (source, budget, path) in references {
        let Some((_, settings)) = defined.get(&budget) else {
            let names: Vec<_> = defined.keys().map(String::as_str).collect();
            let help = super::super::suggest::help(&budget, "budgets with settings", &names);
            let help = if names.is_empty() { "no budget has settings".to_owned() } else { help };
            rules.refuse_with_help(&path, format!("no source defines the budget `{}`", budget.escape_debug()), help);
            continue;
        };
        if let Some(options) = config.sources.get_mut(&source) {
            options.client.rate_limit = Some(RateLimit { budget: Some(budget), ..settings.clone() });
        }
    }
}

/// The source of that name, if it does not take part in the budget. A source without a budget has one of its own
/// name, and the two would be taken for the same.
fn stranger_called<'a>(budget: &str, config: &'a Config) -> Option<&'a str> {
    let (name, source) = config.sources.get_key_value(budget)?;
    let limit = source.client.rate_limit.as_ref();
    let shares = limit.is_some_and(|limit| limit.budget.as_ref().is_none_or(|other| other == budget));
    if shares { None } else { Some(name) }
}

/// Whether a `rate_limit` says nothing but the name of a budget.
fn is_reference(rules: &Rules<'_>, path: &Path) -> bool {
    rules
        .tree
        .at(path)
        .and_then(|node| node.table())
        .is_some_and(|table| table.len() == 1 && table.contains_key("budget"))
}
