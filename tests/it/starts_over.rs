//! Promise 8: a run that fails because too many of its records are bad claims nothing of what it read. Whatever it had
//! finished by then (windows, partitions, pages of a sorted list), the next run reads it again, and takes nothing twice.

use serde_json::{Value, json};

use crate::support::{Api, Seen, Workspace, json as answer};

/// Fifty records; those that `is_bad` says have a mark on which the step of the first configuration fails.
fn api(is_bad: fn(i64) -> bool) -> Api {
    Api::start(move |request: &Seen, _| {
        let number = |name: &str| request.param(name).map(|text| text.parse::<i64>().unwrap());
        let (since, until) = (number("since").unwrap_or(0), number("until").unwrap_or(i64::MAX));
        let of_part = |n: &i64| request.param("part").is_none_or(|part| (*n >= 25) == (part == "b"));
        let of_issue =
            |n: &i64| request.path().strip_prefix("/c/").is_none_or(|issue| n / 10 == issue.parse::<i64>().unwrap());
        let record = |n: i64| if is_bad(n) { json!({"id": n, "at": n, "bad": 1}) } else { json!({"id": n, "at": n}) };
        if request.path() == "/issues" {
            let issues: Vec<Value> = (since..5).map(|n| json!({"id": n, "at": n})).collect();
            return answer(json!({"data": issues, "pages": 1}));
        }
        let all: Vec<Value> =
            (0..50).filter(|n| (since..until).contains(n)).filter(of_part).filter(of_issue).map(record).collect();
        let page = number("page").unwrap_or(1) as usize;
        let data: Vec<&Value> = all.iter().skip((page - 1) * 10).take(10).collect();
        answer(json!({"data": data, "pages": all.len().div_ceil(10).max(1)}))
    })
}

const CLIENT: &str = "[sources.s.client]\nbase_url = \"BASE\"\n\
                      paginator = { type = \"page_number\", total_path = \"pages\" }\n\
                      [sources.s.resource_defaults]\ndata_selector = \"data\"\n";

const STEP: &str = "processing_steps = [{ add = { x = \"missing.y if bad is defined else 1\" } }]\n";

const RANGE: &str = "params = { since = \"${incremental.start_value}\", until = \"${incremental.end_value}\" }\n";

/// Reads it with the step that fails, then without, and says which ids are there in the end.
fn twice(is_bad: fn(i64) -> bool, text: &str, arguments: &[&str]) -> (Workspace, Vec<i64>) {
    let api = api(is_bad);
    let workspace = Workspace::with_config(api.address, &format!("{text}{STEP}"));
    let first = workspace.run(arguments);
    assert_eq!(first.code, Some(65), "{text}: {first:#?}");
    workspace.configure(api.address, text);
    let asked = api.seen().len();
    for _ in 0..2 {
        let again = workspace.run(arguments);
        assert_eq!(again.code, Some(0), "{text}: {again:#?}");
    }
    assert!(api.seen().len() > asked, "{text}: nothing is read again");
    let mut ids: Vec<i64> = workspace.column("SELECT id FROM s_r ORDER BY id");
    if text.contains("append") && !text.contains("incremental") {
        // Read twice without a cursor, everything is appended once more.
        ids = ids
            .chunks(2)
            .map(|pair| {
                assert_eq!(pair[0], pair[pair.len() - 1], "{text}");
                pair[0]
            })
            .collect();
    }
    workspace.check_books();
    (workspace, ids)
}

#[test]
fn what_a_broken_run_had_finished_is_read_again_and_taken_once() {
    let shapes = [
        "",
        "params = { since = \"${incremental.start_value}\" }\nincremental = { cursor_path = \"at\" }\n",
        "params = { since = \"${incremental.start_value}\" }\nincremental = { cursor_path = \"at\", row_order = \"asc\" }\n",
        "params = { since = \"${incremental.start_value}\" }\nincremental = { cursor_path = \"at\", row_order = \"asc\", lag = 3 }\n",
        "incremental = { cursor_path = \"at\", initial_value = 0, end_value = 60, step = 20 }\nRANGE",
        "partitions = [{ part = \"a\" }, { part = \"b\" }]\nparams = { part = \"${partition.part}\" }\n",
        "partitions = [{ part = \"a\" }, { part = \"b\" }]\nincremental = { cursor_path = \"at\" }\n\
         params = { part = \"${partition.part}\", since = \"${incremental.start_value}\" }\n",
    ];
    // The last page, one in the middle, all, and so few that it shows only at the end.
    let bad: [fn(i64) -> bool; 3] = [|n| n >= 38, |n| (25..36).contains(&n), |_| true];
    for shape in shapes {
        for disposition in ["primary_key = \"id\"\n", "write_disposition = \"append\"\n"] {
            for is_bad in bad {
                let resources = format!("[sources.s.resources.r]\n{disposition}{}", shape.replace("RANGE", RANGE));
                for pipeline in ["", "[pipeline]\nbatch_rows = 1\n"] {
                    let (_, ids) = twice(is_bad, &format!("{pipeline}{CLIENT}{resources}"), &["sync"]);
                    assert_eq!(ids, (0..50).collect::<Vec<_>>(), "{pipeline}{resources}");
                }
            }
        }
    }
}

#[test]
fn a_child_that_broke_its_contract_reads_again_what_its_incremental_parent_brings_no_more() {
    let resources = "[sources.s.resources.issues]\nprimary_key = \"id\"\nparams = { since = \"${incremental.start_value}\" }\n\
                     incremental = { cursor_path = \"at\" }\n\
                     [sources.s.resources.r]\npath = \"c/${resources.issues.id}\"\nprimary_key = \"id\"\n";
    let (_, ids) = twice(|n| n >= 34, &format!("{CLIENT}{resources}"), &["sync"]);
    assert_eq!(ids, (0..50).collect::<Vec<_>>());
}

#[test]
fn a_backfill_that_broke_claims_no_coverage() {
    let resources = format!(
        "[sources.s.resources.r]\nprimary_key = \"id\"\n\
         incremental = {{ cursor_path = \"at\", initial_value = 100, end_value = 200 }}\n{RANGE}"
    );
    let arguments = ["backfill", "s.r", "--from", "0", "--to", "50", "--step", "10"];
    let (workspace, ids) = twice(|n| n >= 38, &format!("{CLIENT}{resources}"), &arguments);
    assert_eq!(ids, (0..50).collect::<Vec<_>>());
    let covered: Vec<String> = workspace.column("SELECT from_value || ' to ' || to_value FROM _hw_coverage");
    assert_eq!(covered, ["0 to 50"]);
}

#[test]
fn partitions_of_which_nothing_could_be_stored_are_read_again_however_few_records_they_have() {
    let api = Api::start(|_, _| answer(json!({"data": [{"id": 1}, {"id": 2}]})));
    let text = format!(
        "{CLIENT}[sources.s.resources.r]\nprimary_key = \"id\"\npaginator = {{ type = \"single_page\" }}\n\
         partitions = [{{ part = \"a\" }}, {{ part = \"b\" }}]\nparams = {{ part = \"${{partition.part}}\" }}\n"
    );
    let workspace = Workspace::with_config(
        api.address,
        &format!("{text}processing_steps = [{{ add = {{ who = \"user.name\" }} }}]\n"),
    );
    workspace.sync(65);
    workspace.configure(api.address, &text);
    workspace.sync(0);
    assert_eq!(api.seen().len(), 4);
    assert_eq!(workspace.column::<i64>("SELECT id FROM s_r ORDER BY id"), [1, 2]);
}
