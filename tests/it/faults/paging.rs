//! Lists that move while they are read, and ends that look like none.

use std::sync::{Arc, Mutex};

use axum::response::Response;
use serde_json::{Value, json};

use crate::pagination::{config, ids, up_to};
use crate::support::{Api, Seen, Workspace, json as answer, records, respond};

const BY_OFFSET: &str = "paginator = { type = \"offset\", limit = 10 }";

/// The first record of the page that is asked for, by offset or by page of ten.
fn first_record(request: &Seen) -> usize {
    let number = |name: &str| request.param(name).map(|text| text.parse::<usize>().unwrap());
    number("offset").or_else(|| number("page").map(|page| (page - 1) * 10)).unwrap_or(0)
}

#[test]
fn p10_a_last_page_that_is_exactly_full_costs_one_more_request_and_no_row() {
    for paginator in [
        BY_OFFSET,
        "paginator = { type = \"offset\", limit = 10, stop_on_short_page = true }",
        "paginator = { type = \"page_number\" }",
        "paginator = { type = \"page_number\", stop_on_short_page = true }",
    ] {
        let api = Api::start(|request, _| {
            let first = first_record(request) as u64;
            answer(records(first.min(30)..(first + 10).min(30)).into())
        });
        let resource = format!("{paginator}\nwrite_disposition = \"append\"");
        let workspace = Workspace::with_config(api.address, &config("", &resource));
        workspace.sync(0);
        assert_eq!((ids(&workspace), api.seen().len()), (up_to(30), 4), "{paginator}");
    }
}

/// What happens to a list while it is read.
type Change = fn(&mut Vec<Value>);

/// A list that is served by offset, and changed by a function right after its first page.
fn moving(list: &Arc<Mutex<Vec<Value>>>, change: Change) -> Api {
    let list = Arc::clone(list);
    Api::start(move |request, n| {
        let mut list = list.lock().unwrap();
        let page: Vec<Value> = list.iter().skip(first_record(request)).take(10).cloned().collect();
        if n == 0 {
            change(&mut list);
        }
        answer(page.into())
    })
}

#[test]
fn p11_what_moves_while_it_is_paged_is_one_row_and_comes_with_the_next_full_read_at_the_latest() {
    let changes: [(Change, i64); 2] = [
        // All records move back by one: the last one of the first page comes again.
        (|list| list.insert(0, json!({"id": 100, "name": "new"})), 25),
        // They move forward: one is passed over.
        (|list| drop(list.remove(0)), 24),
    ];
    for (change, rows) in changes {
        for disposition in ["merge", "replace"] {
            let list = Arc::new(Mutex::new(records(0..25)));
            let api = moving(&list, change);
            let resource = format!("{BY_OFFSET}\nwrite_disposition = \"{disposition}\"");
            let workspace = Workspace::with_config(api.address, &config("", &resource));
            workspace.sync(0);
            assert_eq!(ids(&workspace).len() as i64, rows, "{disposition}");
            workspace.check_books();
            workspace.sync(0);
            let served: Vec<i64> = list.lock().unwrap().iter().map(|record| record["id"].as_i64().unwrap()).collect();
            let stored = ids(&workspace);
            assert!(served.iter().all(|id| stored.contains(id)), "{disposition}: {stored:?}");
            assert!(disposition == "merge" || stored.len() == served.len(), "{disposition}: {stored:?}");
            workspace.check_books();
        }
    }
}

#[test]
fn p12_the_latest_total_counts_and_no_row_is_missed() {
    for (first, then) in [(25, 35), (35, 25)] {
        for concurrency in [1, 3] {
            let api = Api::start(move |request, _| {
                let offset = first_record(request) as u64;
                let total = if offset == 0 { first } else { then };
                answer(json!({"items": records(offset.min(total)..(offset + 10).min(total)), "total": total}))
            });
            let resource = format!(
                "data_selector = \"items\"\nconcurrency = {concurrency}\nwrite_disposition = \"append\"\n\
                 paginator = {{ type = \"offset\", limit = 10, total_path = \"total\" }}"
            );
            let workspace = Workspace::with_config(api.address, &config("", &resource));
            workspace.sync(0);
            assert_eq!(ids(&workspace), up_to(then as i64), "from {first} to {then}, {concurrency} at once");
            workspace.check_books();
        }
    }
}

#[test]
fn p13_a_token_that_expires_during_a_wait_costs_a_new_read_and_no_row() {
    for disposition in ["merge", "append", "replace"] {
        let token = |first: usize| (first < 30).then(|| format!("t{first}"));
        let page = move |first: usize| -> Response {
            answer(json!({"items": records(first as u64..(first as u64 + 10).min(25)), "next": token(first + 10)}))
        };
        let api = Api::start(move |request, n| match n {
            1 => respond(429, &[], ""),
            2 => respond(410, &[], json!({"message": "this token has expired"}).to_string()),
            _ => page(request.param("after").map_or(0, |token| token[1..].parse().unwrap())),
        });
        let resource = format!(
            "data_selector = \"items\"\nwrite_disposition = \"{disposition}\"\n\
             paginator = {{ type = \"cursor\", cursor_path = \"next\", cursor_param = \"after\" }}"
        );
        let workspace = Workspace::with_config(api.address, &config("", &resource));
        let report = workspace.sync(69);
        assert!(report["resources"][0]["error"].as_str().unwrap().contains("410"), "{report:#}");
        workspace.sync(0);
        assert_eq!(ids(&workspace), up_to(25), "{disposition}");
        workspace.check_books();
    }
}
