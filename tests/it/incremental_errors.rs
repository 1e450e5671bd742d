//! What is wrong with `incremental`, `partitions`, parents and their placeholders is said at load, at its key.

use crate::config_errors::{Broken, SHOP, are_refused};

const ITEMS: &str = "sources.shop.resources.items";

const SINCE: &str = "[sources.shop.client]\nbase_url = \"http://127.0.0.1:9/\"\n[sources.shop.resources.items]\n\
                     params = { since = \"${incremental.start_value}\" }\n";

const RANGE: &str = "[sources.shop.client]\nbase_url = \"http://127.0.0.1:9/\"\n[sources.shop.resources.items]\n\
                     params = { since = \"${incremental.start_value}\", until = \"${incremental.end_value}\" }\n";

const COMMENTS: &str = "[sources.shop.client]\nbase_url = \"http://127.0.0.1:9/\"\n[sources.shop.resources.items]\n\
                        [sources.shop.resources.comments]\n";

/// The path of a key of `items`.
macro_rules! items {
    ($key:literal) => {
        concat!("sources.shop.resources.items.", $key)
    };
}

const OF_INCREMENTAL: [Broken; 23] = [
    Broken(
        SINCE,
        "incremental = { cursor_path = \"at\", on_cursor_value_missing = ‸\"include\" }",
        items!("incremental.on_cursor_value_missing"),
        &["an append resource would add them each time", "give the resource a `primary_key`"],
    ),
    Broken(
        SINCE,
        "incremental = { cursor_path = \"at\", ‸lagg = 1 }",
        items!("incremental.lagg"),
        &["did you mean `lag`?"],
    ),
    Broken(SINCE, "incremental = ‸{ lag = \"5m\" }", items!("incremental.cursor_path"), &["`cursor_path` is missing"]),
    Broken(SINCE, "incremental = { cursor_path = ‸\"\" }", items!("incremental.cursor_path"), &["must not be empty"]),
    Broken(
        SINCE,
        "incremental = { cursor_path = \"at\", row_order = ‸\"ascending\" }",
        items!("incremental.row_order"),
        &["accepted: `asc`, `desc`"],
    ),
    Broken(
        SINCE,
        "incremental = { cursor_path = \"at\", on_cursor_value_missing = ‸\"raises\" }",
        items!("incremental.on_cursor_value_missing"),
        &["did you mean `raise`?", "`include`, `exclude`"],
    ),
    Broken(
        SINCE,
        "incremental = { cursor_path = \"at\", lag = ‸\"soon\" }",
        items!("incremental.lag"),
        &["`soon` is not a duration", "\"3d\""],
    ),
    Broken(
        SINCE,
        "incremental = { cursor_path = \"at\", lag = ‸-5 }",
        items!("incremental.lag"),
        &["a number of steps is a positive integer"],
    ),
    Broken(
        SINCE,
        "incremental = { cursor_path = \"at\", initial_value = 1, lag = ‸\"5m\" }",
        items!("incremental.lag"),
        &["is a number where the cursor is an integer"],
    ),
    Broken(
        SINCE,
        "incremental = { cursor_path = \"at\", datetime_format = \"%s\", lag = ‸300 }",
        items!("incremental.lag"),
        &["is a duration where the cursor is a time"],
    ),
    Broken(
        SINCE,
        "incremental = { cursor_path = \"at\", datetime_format = ‸\"%H:%M\" }",
        items!("incremental.datetime_format"),
        &["it needs a year, a month and a day"],
    ),
    Broken(
        SINCE,
        "incremental = { cursor_path = \"at\", datetime_format = \"%s\", initial_value = ‸\"yesterday\" }",
        items!("incremental.initial_value"),
        &["not a number of seconds"],
    ),
    Broken(
        RANGE,
        "incremental = { cursor_path = \"at\", initial_value = \"2024-02-01\", end_value = ‸\"2024-01-01\" }",
        items!("incremental.end_value"),
        &["must be a later value of the same kind than `initial_value`"],
    ),
    Broken(
        RANGE,
        "incremental = { cursor_path = \"at\", step = ‸\"1d\" }",
        items!("incremental.step"),
        &["needs an `initial_value`: the first window starts there"],
    ),
    Broken(
        RANGE,
        "incremental = { cursor_path = \"at\", initial_value = 1, step = ‸100 }",
        items!("incremental.step"),
        &["needs an `end_value` where the cursor is an integer"],
    ),
    Broken(
        RANGE,
        "incremental = { cursor_path = \"at\", initial_value = \"2024-01-01\", step = ‸\"1d\", row_order = \"desc\" }",
        items!("incremental.step"),
        &["leave out `row_order = \"desc\"`"],
    ),
    Broken(
        SINCE,
        "incremental = { cursor_path = \"at\", initial_value = \"2024-01-01\", step = ‸\"1d\" }",
        items!("incremental.step"),
        &["windows need `${incremental.start_value}` and `${incremental.end_value}` in the request"],
    ),
    Broken(
        SINCE,
        "incremental = { cursor_path = \"at\", cursor_granularity = ‸\"1s\" }",
        items!("incremental.cursor_granularity"),
        &["is taken off `${incremental.end_value}`, which the request does not use"],
    ),
    Broken(
        SHOP,
        "params = { until = ‸\"${incremental.end_value}\" }\nincremental = { cursor_path = \"at\" }",
        items!("params.until"),
        &["needs `incremental.step` or `incremental.end_value`"],
    ),
    Broken(
        SHOP,
        "params = { since = ‸\"${incremental.start_value}\" }",
        items!("params.since"),
        &["`${incremental.start_value}` needs `incremental`", "give the resource `incremental = { cursor_path"],
    ),
    Broken(
        SHOP,
        "params = { since = ‸\"${incremental.strat_value}\" }\nincremental = { cursor_path = \"at\" }",
        items!("params.since"),
        &["`${incremental.strat_value}` is not a placeholder", "there are `${incremental.start_value}` and"],
    ),
    Broken(
        SHOP,
        "path = \"since/${incremental.start_value}\"\nincremental = ‸{ cursor_path = \"at\" }",
        items!("incremental"),
        &["needs an `initial_value`: the path has no other value for the first read"],
    ),
    Broken(
        SINCE,
        "write_disposition = \"replace\"\nincremental = ‸{ cursor_path = \"at\" }",
        items!("incremental"),
        &["needs all records in every read", "use `merge` or `append`"],
    ),
];

const OF_PARTITIONS: [Broken; 9] = [
    Broken(
        SHOP,
        "path = \"x/${partition.repo}\"\npartitions = ‸[{ repo = \"a\" }, { repo = \"a\" }]",
        items!("partitions"),
        &["names a partition twice"],
    ),
    Broken(
        SHOP,
        "path = ‸\"x/${partition.repo}/${partition.repos}\"\npartitions = [{ repo = \"a\" }]",
        items!("path"),
        &["no partition has the key `repos`; did you mean `repo`?"],
    ),
    Broken(
        SHOP,
        "path = ‸\"x/${partition.repo}\"",
        items!("path"),
        &["there are no partitions for `${partition.repo}`", "give the resource, or its parent, `partitions`"],
    ),
    Broken(
        SHOP,
        "path = \"x/${partition.repo}\"\npartitions = ‸[{ repo = \"a\", lang = \"de\" }]",
        items!("partitions"),
        &["nothing in the request uses `lang`", "put `${partition.lang}` where it belongs"],
    ),
    Broken(
        SHOP,
        "path = \"x/${partition.repo}/${partition.lang}\"\npartitions = ‸[{ repo = \"a\", lang = \"de\" }, { repo = \"a\" }]",
        items!("partitions"),
        &["some partitions have no `lang`"],
    ),
    Broken(
        SHOP,
        "params = { x = \"${partition._x}\" }\npartitions = ‸[{ _x = 1 }]",
        items!("partitions"),
        &["`_x` is not a key"],
    ),
    Broken(
        SHOP,
        "path = \"${partition.x}\"\npartitions = ‸[]",
        items!("partitions"),
        &["an empty list says nothing here"],
    ),
    Broken(
        SHOP,
        "path = \"${partition.x}\"\npartitions = ‸\"a\"",
        items!("partitions"),
        &["expected a list or a table, found a string"],
    ),
    Broken(SHOP, "path = \"${partition.x}\"\npartitions = { x = ‸1 }", items!("partitions.x"), &["found an integer"]),
];

const OF_PARENTS: [Broken; 7] = [
    Broken(
        COMMENTS,
        "path = ‸\"${resources.itms.id}/comments\"",
        "sources.shop.resources.comments.path",
        &["there is no resource `itms` in this source; did you mean `items`?"],
    ),
    Broken(
        COMMENTS,
        "path = \"${resources.items.id}/comments\"\nparams = { o = ‸\"${resources.orders.id}\" }\n[sources.shop.resources.orders]",
        "sources.shop.resources.comments.params.o",
        &["names a second parent beside `items`", "a resource has one parent"],
    ),
    Broken(
        COMMENTS,
        "include_from_parent = ‸[\"id\"]",
        "sources.shop.resources.comments.include_from_parent",
        &["the resource has no parent", "name the parent in `path`"],
    ),
    Broken(
        COMMENTS,
        "parent = ‸{ only_changed = true }",
        "sources.shop.resources.comments.parent",
        &["the resource has no parent"],
    ),
    Broken(
        COMMENTS,
        "path = \"${resources.items.id}\"\nparent = { ‸only_change = true }",
        "sources.shop.resources.comments.parent.only_change",
        &["did you mean `only_changed`?"],
    ),
    Broken(
        COMMENTS,
        "path = ‸\"${resources.items}/comments\"",
        "sources.shop.resources.comments.path",
        &["${resources."],
    ),
    Broken(
        COMMENTS,
        "path = ‸\"${resurces.items.id}/comments\"",
        "sources.shop.resources.comments.path",
        &["resources"],
    ),
];

#[test]
fn what_is_wrong_with_incremental_is_said_at_its_key() {
    assert!(OF_INCREMENTAL.iter().all(|broken| broken.2.starts_with(ITEMS)));
    are_refused(&OF_INCREMENTAL);
}

#[test]
fn what_is_wrong_with_partitions_is_said_at_its_key() {
    are_refused(&OF_PARTITIONS);
}

#[test]
fn what_is_wrong_with_a_parent_is_said_at_its_key() {
    are_refused(&OF_PARENTS);
}
