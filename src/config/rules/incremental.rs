//! Rules for `incremental`: what its keys mean together, and what the request does with them.

use super::super::path::Path;
use super::Rules;
use super::partition::place_of;
use crate::page::WriteDisposition;
use crate::source::ResourceOptions;
use crate::source::incremental::{Incremental, IncrementalOptions, OnMissing, RowOrder};
use crate::template::{Slot, Template};

pub(super) fn check(resource: &ResourceOptions, path: &Path, rules: &mut Rules<'_>) {
    let slots = resource.slots();
    let Some(options) = &resource.incremental else {
        for slot in slots.into_iter().filter(|slot| matches!(slot, Slot::StartValue | Slot::EndValue)) {
            let help = "give the resource `incremental = { cursor_path = \"…\" }`";
            rules.refuse_with_help(&place_of(slot, resource, path), format!("`{slot}` needs `incremental`"), help);
        }
        return;
    };
    let place = path.key("incremental");
    if options.cursor_path.is_empty() {
        rules.refuse(&place.key("cursor_path"), "is empty");
    }
    if let Err((key, reason)) = Incremental::new(options) {
        rules.refuse(&place.key(key), reason);
    }
    if resource.write_disposition == Some(WriteDisposition::Replace) {
        let help = "use `merge` or `append`, or leave `incremental` out";
        rules.refuse_with_help(
            &place,
            "`write_disposition = \"replace\"` needs all records in every read, and `incremental` reads only the new ones",
            help,
        );
    }
    if options.on_cursor_value_missing == OnMissing::Include && resource.disposition() == WriteDisposition::Append {
        let help = "give the resource a `primary_key`, so that they are updated, or use `exclude`";
        let message = "records without a cursor come with every read, and an append resource would add them each time";
        rules.refuse_with_help(&place.key("on_cursor_value_missing"), message, help);
    }
    check_use(resource, options, path, rules);
}

/// Whether the request asks for what the options promise.
fn check_use(resource: &ResourceOptions, options: &IncrementalOptions, path: &Path, rules: &mut Rules<'_>) {
    let place = path.key("incremental");
    let uses = |wanted: &Slot| resource.slots().into_iter().any(|slot| slot == wanted);
    let in_path =
        |wanted: &Slot| resource.path.as_ref().is_some_and(|path: &Template| path.slots().any(|slot| slot == wanted));
    if in_path(&Slot::StartValue) && options.initial_value.is_none() {
        rules.refuse(&place, "needs an `initial_value`: the path has no other value for the first read");
    }
    let ends = options.end_value.is_some() || options.step.is_some();
    if uses(&Slot::EndValue) && !ends {
        rules.refuse(
            &place_of(&Slot::EndValue, resource, path),
            "`${incremental.end_value}` needs `incremental.step` or `incremental.end_value`",
        );
    }
    if options.step.is_some() && !(uses(&Slot::StartValue) && uses(&Slot::EndValue)) {
        let help = "put them where the API takes its range";
        let message = "windows need `${incremental.start_value}` and `${incremental.end_value}` in the request";
        rules.refuse_with_help(&place.key("step"), message, help);
    }
    if options.cursor_granularity.is_some() && !uses(&Slot::EndValue) {
        rules.refuse(
            &place.key("cursor_granularity"),
            "is taken off `${incremental.end_value}`, which the request does not use",
        );
    }
    if !uses(&Slot::StartValue) && options.row_order != Some(RowOrder::Desc) {
        rules.hint(
            &place,
            "the request does not use `${incremental.start_value}`: every run reads everything, and keeps what is new",
        );
    }
}
