//! Rules for `processing_steps`: each is one step, its expressions can be evaluated, and the primary key is left.

use super::super::path::Path;
use super::{Rules, expression};
use crate::source::{ResourceOptions, Steps};

pub(super) fn check(resource: &ResourceOptions, path: &Path, rules: &mut Rules<'_>) {
    let path = path.key("processing_steps");
    let steps = match Steps::compile(&resource.processing_steps) {
        Ok(steps) => steps,
        Err(errors) => {
            for (number, error) in errors {
                let path = error.keys.iter().fold(path.index(number), |path, key| path.key(key));
                expression::check(&path, Some(error.error), rules);
            }
            return;
        }
    };
    let key = resource.primary_key.as_ref().map(|columns| columns.0.as_slice()).unwrap_or_default();
    for column in key {
        if let Some(number) = steps.loses(column) {
            let message = format!("takes the primary key {} off every record", super::super::suggest::quoted(column));
            let help = "the key is looked up after the steps; name what they leave";
            rules.refuse_with_help(&path.index(number), message, help);
        }
    }
}
