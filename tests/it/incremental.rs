//! Incremental reads: only what is new, nothing lost and nothing doubled at the boundary, and a cursor that never
//! claims more than is stored.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::{Api, Seen, Workspace, json as answer, respond};

/// An API of events that filters by `since` (inclusive) and `until` (exclusive), sorts, and pages by tens.
#[derive(Clone, Default)]
struct Events {
    all: Arc<Mutex<Vec<Value>>>,
    order: Arc<Mutex<&'static str>>,
    broken_from: Arc<Mutex<Option<usize>>>,
}

impl Events {
    fn new(order: &'static str) -> Self {
        let events = Self::default();
        *events.order.lock().unwrap() = order;
        events
    }

    fn add(&self, id: &str, at: Value) {
        self.all.lock().unwrap().push(json!({"id": id, "at": at}));
    }

    fn add_minutes(&self, minutes: std::ops::Range<u32>) {
        minutes.for_each(|minute| self.add(&format!("m{minute}"), json!(time(minute))));
    }

    /// From this page on, the API answers with 500; or it is well again.
    fn break_from(&self, page: Option<usize>) {
        *self.broken_from.lock().unwrap() = page;
    }

    fn api(&self) -> Api {
        let events = self.clone();
        Api::start(move |request: &Seen, _| {
            let page: usize = request.param("page").map_or(1, |page| page.parse().unwrap());
            if events.broken_from.lock().unwrap().is_some_and(|from| page >= from) {
                return respond(500, &[], "");
            }
            let text = |value: &Value| value.as_str().map_or_else(|| format!("{value:0>20}"), str::to_owned);
            let bound = |name: &str| {
                request.param(name).map(|value| match value.parse::<u64>() {
                    Ok(number) => format!("{number:0>20}"),
                    Err(_) => value.replace("%3A", ":"),
                })
            };
            let (since, until) = (bound("since"), bound("until"));
            let mut found: Vec<Value> = events.all.lock().unwrap().clone();
            found.retain(|event| {
                let at = text(&event["at"]);
                since.as_ref().is_none_or(|since| at >= *since) && until.as_ref().is_none_or(|until| at < *until)
            });
            match *events.order.lock().unwrap() {
                "asc" => found.sort_by_key(|event| text(&event["at"])),
                "desc" => found.sort_by_key(|event| std::cmp::Reverse(text(&event["at"]))),
                _ => {}
            }
            answer(json!(found.iter().skip((page - 1) * 10).take(10).collect::<Vec<_>>()))
        })
    }

    fn ids(&self) -> Vec<String> {
        let mut ids: Vec<String> =
            self.all.lock().unwrap().iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids
    }
}

/// A minute of a day, as a time.
fn time(minute: u32) -> String {
    format!("2024-01-01T{:02}:{:02}:00Z", minute / 60, minute % 60)
}

fn config(incremental: &str, more: &str) -> String {
    format!(
        "[sources.s.client]\nbase_url = \"BASE\"\nretry = {{ max_attempts = 1 }}\npaginator = {{ type = \"page_number\" }}\n\
         [sources.s.resources.events]\nincremental = {{ cursor_path = \"at\", {incremental} }}\n\
         params = {{ since = \"${{incremental.start_value}}\" }}\n{more}\n"
    )
}

fn ids(workspace: &Workspace) -> Vec<String> {
    workspace.column("SELECT id FROM s_events ORDER BY id")
}

fn cursor(workspace: &Workspace) -> Option<String> {
    workspace.value("SELECT cursor FROM _hw_checkpoints")
}

/// The values of a parameter that were asked for from request `from` on, the first page of each read only.
fn asked(api: &Api, from: usize, param: &str) -> Vec<Option<String>> {
    let first = |request: &&Seen| request.param("page").is_none_or(|page| page == "1");
    let text = |value: String| value.replace("%3A", ":");
    api.seen()[from..].iter().filter(first).map(|request| request.param(param).map(text)).collect()
}

const KEYED: &str = "primary_key = \"id\"";

#[test]
fn i01_i08_i09_the_next_read_starts_where_the_last_one_ended_and_equal_values_come_once() {
    for order in ["asc", "desc", ""] {
        for more in [KEYED, "", "write_disposition = \"append\"\nprimary_key = \"id\""] {
            let events = Events::new(order);
            events.add_minutes(0..25);
            let api = events.api();
            let row_order = if order.is_empty() { String::new() } else { format!("row_order = \"{order}\"") };
            let workspace = Workspace::with_config(api.address, &config(&row_order, more));
            workspace.sync(0);
            assert_eq!(ids(&workspace), events.ids());
            assert_eq!(cursor(&workspace).unwrap(), format!("\"{}\"", time(24)));
            // One at the very same moment as the last one, and newer ones.
            events.add("same", json!(time(24)));
            events.add_minutes(25..40);
            let before = api.seen().len();
            workspace.sync(0);
            assert_eq!(asked(&api, before, "since"), [Some(time(24))], "sent as it came");
            assert_eq!(ids(&workspace), events.ids(), "{order} {more}");
            workspace.sync(0);
            assert_eq!(ids(&workspace), events.ids(), "{order} {more}: nothing new");
            workspace.check_books();
        }
    }
}

#[test]
fn p15_more_records_of_one_moment_than_fit_on_a_page_are_all_taken_interrupted_or_not() {
    let append = "write_disposition = \"append\"\nprimary_key = \"id\"";
    for (order, more) in [("asc", KEYED), ("asc", ""), ("desc", append), ("", "")] {
        let events = Events::new(order);
        events.add_minutes(0..5);
        (0..35).for_each(|n| events.add(&format!("same{n}"), json!(time(5))));
        events.add_minutes(6..12);
        let api = events.api();
        let row_order = if order.is_empty() { String::new() } else { format!("row_order = \"{order}\"") };
        let workspace = Workspace::with_config(api.address, &config(&row_order, more));
        // It breaks off twice within the records of that moment.
        for page in [3, 4] {
            events.break_from(Some(page));
            workspace.sync(69);
            workspace.check_books();
        }
        events.break_from(None);
        workspace.sync(0);
        assert_eq!(ids(&workspace), events.ids(), "{order} {more}");
        // So it is where that moment is the last one, and more of it come.
        (0..25).for_each(|n| events.add(&format!("last{n}"), json!(time(11))));
        for _ in 0..2 {
            workspace.sync(0);
            assert_eq!(ids(&workspace), events.ids(), "{order} {more}");
        }
        workspace.check_books();
    }
}

#[test]
fn i04_the_cursor_does_not_follow_a_record_into_the_future_so_that_nothing_is_hidden_or_doubled() {
    let append = "write_disposition = \"append\"\nprimary_key = \"id\"";
    for (order, more) in [
        ("asc", KEYED),
        ("asc", append),
        ("asc", ""),
        ("desc", KEYED),
        ("desc", append),
        ("", KEYED),
        ("", append),
        ("", ""),
    ] {
        let row_order = if order.is_empty() { String::new() } else { format!("row_order = \"{order}\"") };
        for breaks in [false, true] {
            let events = Events::new(order);
            events.add_minutes(0..25);
            (0..10).for_each(|n| events.add(&format!("future{n}"), json!(format!("2999-01-01T00:00:{n:02}Z"))));
            let api = events.api();
            let workspace = Workspace::with_config(api.address, &config(&row_order, more));
            let name = format!("{order} {more} {breaks}");
            if breaks {
                // Where they come last, some of the future is stored by then.
                events.break_from(Some(4));
                workspace.sync(69);
                events.break_from(None);
            }
            for minutes in [0..0, 25..40, 0..0] {
                events.add_minutes(minutes);
                workspace.sync(0);
                assert_eq!(ids(&workspace), events.ids(), "{name}");
            }
            assert_eq!(cursor(&workspace), Some(format!("\"{}\"", time(39))), "{name}");
            workspace.check_books();
        }
    }
}

#[test]
fn i04_with_windows_a_record_from_the_future_waits_for_its_time_and_hides_nothing() {
    let append = "write_disposition = \"append\"\nprimary_key = \"id\"";
    for (order, more) in [("asc", KEYED), ("asc", append), ("", KEYED)] {
        let events = Events::new(order);
        events.add_minutes(0..25);
        let api = events.api();
        let mut keys = "initial_value = \"2024-01-01T00:00:00Z\", step = \"100y\"".to_owned();
        if !order.is_empty() {
            keys += &format!(", row_order = \"{order}\"");
        }
        // This API does not look at the end of a window.
        let params = "${incremental.start_value}\", ignored = \"${incremental.end_value}";
        let text = config(&keys, more).replace("${incremental.start_value}", params);
        let workspace = Workspace::with_config(api.address, &text);
        let now = events.ids();
        events.add("future", json!("2999-01-01T00:00:00Z"));
        let report = workspace.sync(0);
        assert_eq!((ids(&workspace), cursor(&workspace)), (now, Some(format!("\"{}\"", time(24)))), "{order}");
        assert_eq!(report["resources"][0]["records"]["filtered"], 1, "{order}");
        events.add_minutes(25..40);
        workspace.sync(0);
        let but_one: Vec<String> = events.ids().into_iter().filter(|id| id != "future").collect();
        assert_eq!(ids(&workspace), but_one, "{order} {more}");
        workspace.check_books();
    }
}

#[test]
fn i10_an_api_that_ignores_the_filter_neither_doubles_nor_loses_a_row() {
    let append = "write_disposition = \"append\"\nprimary_key = \"id\"";
    for (order, more) in [("asc", KEYED), ("asc", ""), ("desc", append), ("", "")] {
        let events = Events::new(order);
        events.add_minutes(0..25);
        let api = events.api();
        let row_order = if order.is_empty() { String::new() } else { format!("row_order = \"{order}\"") };
        let text = config(&row_order, more).replace("since =", "ignored =");
        let workspace = Workspace::with_config(api.address, &text);
        workspace.sync(0);
        events.add_minutes(25..40);
        for _ in 0..2 {
            workspace.sync(0);
            assert_eq!(ids(&workspace), events.ids(), "{order} {more}");
        }
        workspace.check_books();
    }
}

#[test]
fn i03_late_records_within_the_lag_are_taken_and_nothing_is_doubled() {
    for more in [KEYED, ""] {
        let events = Events::new("asc");
        events.add_minutes(0..30);
        let api = events.api();
        let workspace = Workspace::with_config(
            api.address,
            &config("lag = \"5m\", initial_value = \"2024-01-01T00:00:00Z\"", more),
        );
        workspace.sync(0);
        events.add("late", json!(time(26)));
        events.add("new", json!(time(31)));
        let before = api.seen().len();
        workspace.sync(0);
        assert_eq!(asked(&api, 0, "since")[0], Some(time(0)));
        assert_eq!(asked(&api, before, "since"), [Some(time(24))]);
        assert_eq!(ids(&workspace), events.ids(), "{more}");
        events.add("late2", json!(time(27)));
        workspace.sync(0);
        assert_eq!(ids(&workspace), events.ids(), "{more}");
        let known: i64 = workspace.value("SELECT count(*) FROM _hw_boundary");
        assert_eq!(known, if more.is_empty() { 7 } else { 0 }, "26 to 31, and two late ones");
        workspace.check_books();
    }
}

#[test]
fn i02_a_read_that_fails_moves_its_cursor_only_as_far_as_rows_are_stored() {
    for (order, after_failure) in [("asc", Some(time(19))), ("", None), ("desc", None)] {
        for more in [KEYED, ""] {
            let events = Events::new(if order.is_empty() { "asc" } else { order });
            events.add_minutes(0..45);
            events.break_from(Some(3));
            let api = events.api();
            let row_order = if order.is_empty() { String::new() } else { format!("row_order = \"{order}\"") };
            let workspace = Workspace::with_config(api.address, &config(&row_order, more));
            workspace.sync(69);
            assert_eq!(cursor(&workspace), after_failure.as_ref().map(|at| format!("\"{at}\"")), "{order}");
            events.break_from(None);
            let report = workspace.sync(0);
            // A sorted list goes on at the cursor: its pages may have moved.
            let at = if order == "asc" { format!("cursor \"{}\"", time(19)) } else { "page 3".to_owned() };
            assert_eq!(report["resources"][0]["resumed_at"], at);
            assert_eq!(ids(&workspace), events.ids(), "{order} {more}");
            assert_eq!(cursor(&workspace).unwrap(), format!("\"{}\"", time(44)));
            // A read that starts over begins at the cursor, and takes nothing twice.
            events.add_minutes(45..80);
            events.break_from(Some(3));
            workspace.sync(69);
            events.break_from(None);
            let db = rusqlite::Connection::open(workspace.path("highwater.db")).unwrap();
            db.execute("UPDATE _hw_checkpoints SET updated_at = '2020-01-01T00:00:00.000Z'", []).unwrap();
            drop(db);
            workspace.sync(0);
            assert_eq!(ids(&workspace), events.ids(), "{order} {more}: after starting over");
            workspace.check_books();
        }
    }
}

#[test]
fn i02_an_order_that_is_not_as_configured_fails_the_read() {
    let events = Events::new("");
    for minute in [3, 5, 4] {
        events.add(&format!("m{minute}"), json!(time(minute)));
    }
    let api = events.api();
    let workspace = Workspace::with_config(api.address, &config("row_order = \"asc\"", KEYED));
    let report = workspace.sync(65);
    let error = report["resources"][0]["error"].as_str().unwrap();
    assert!(error.contains("record 3 has a cursor of") && error.contains("leave `row_order` out"), "{error}");
}

#[test]
fn a_cursor_that_an_unsorted_list_has_moved_goes_back_to_where_it_was() {
    let events = Events::new("asc");
    events.add_minutes(0..5);
    let api = events.api();
    let sorted = "row_order = \"asc\", initial_value = \"2024-01-01T00:00:00Z\"";
    let workspace = Workspace::with_config(api.address, &config(sorted, KEYED));
    workspace.sync(0);
    assert_eq!(cursor(&workspace).unwrap(), format!("\"{}\"", time(4)));
    // Ten in order are a page that is stored; the read is interrupted, goes on, and finds an older one behind them.
    *events.order.lock().unwrap() = "";
    events.add_minutes(30..45);
    events.break_from(Some(2));
    workspace.sync(69);
    assert_eq!(cursor(&workspace).unwrap(), format!("\"{}\"", time(38)));
    events.add("older", json!(time(40)));
    events.add("much older", json!(time(20)));
    events.break_from(None);
    for place in ["page 1: record 8", "page 2: record 7"] {
        let report = workspace.sync(65);
        let error = report["resources"][0]["error"].as_str().unwrap();
        assert!(
            error.contains(&format!("{place} has a cursor of")) && error.contains("leave `row_order` out"),
            "{error}"
        );
        assert_eq!(cursor(&workspace).unwrap(), format!("\"{}\"", time(4)));
    }
    workspace.configure(api.address, &config(&sorted.replace("row_order = \"asc\", ", ""), KEYED));
    workspace.sync(0);
    assert_eq!(ids(&workspace), events.ids());
}

#[test]
fn an_append_resource_that_turned_out_to_be_unsorted_is_read_no_more_until_it_is_reset() {
    let events = Events::new("");
    events.add_minutes(10..25);
    events.add("older", json!(time(5)));
    let api = events.api();
    let workspace = Workspace::with_config(api.address, &config("row_order = \"asc\"", ""));
    let error = |report: &Value| report["resources"][0]["error"].as_str().unwrap().to_owned();
    assert!(error(&workspace.sync(65)).contains("record 6 has a cursor of"));
    let asked = api.seen().len();
    workspace.configure(api.address, &config("", ""));
    let said = error(&workspace.sync(78));
    assert!(said.contains("leave `row_order` out") && said.contains("reset --drop-rows"), "{said}");
    assert_eq!(api.seen().len(), asked, "nothing is asked for that could not be stored");
    assert_eq!(workspace.run(&["reset", "s.events", "--drop-rows"]).code, Some(0));
    workspace.sync(0);
    assert_eq!(ids(&workspace), events.ids());
}

#[test]
fn a_sorted_read_that_came_no_further_than_its_lag_begins_again() {
    for more in [KEYED, ""] {
        let events = Events::new("asc");
        events.add_minutes(0..35);
        let api = events.api();
        let lag = "row_order = \"asc\", lag = \"2h\", initial_value = \"2024-01-01T00:00:00Z\"";
        let workspace = Workspace::with_config(api.address, &config(lag, more));
        events.break_from(Some(3));
        workspace.sync(69);
        events.break_from(None);
        // What changes goes to the end of the list; others come forward into the pages that were read.
        for event in events.all.lock().unwrap().iter_mut().take(3) {
            event["at"] = json!(time(50));
            event["id"] = json!(format!("{} again", event["id"].as_str().unwrap()));
        }
        let report = workspace.sync(0);
        let over = report["resources"][0]["started_over"].as_str().unwrap();
        assert!(over.contains("a sorted list moves while its records change"), "{over}");
        let rows: Vec<String> =
            workspace.column("SELECT id FROM s_events WHERE at > '2024-01-01T00:02:30Z' ORDER BY id");
        assert_eq!(rows, events.ids(), "{more}");
        workspace.check_books();
    }
}

#[test]
fn records_that_moved_across_a_stored_position_do_not_block_the_next_runs() {
    let events = Events::new("asc");
    events.add_minutes(0..30);
    let api = events.api();
    let workspace = Workspace::with_config(api.address, &config("row_order = \"asc\", lag = \"10m\"", KEYED));
    events.break_from(Some(3));
    workspace.sync(69);
    // They push older ones from the second page to the third, where the read was to go on.
    for late in ["late1", "late2", "late3"] {
        events.add(late, json!(time(15)));
    }
    events.break_from(None);
    let report = workspace.sync(0);
    assert!(report["resources"][0]["resumed_at"].as_str().unwrap().starts_with("cursor "), "{report:#}");
    assert_eq!(ids(&workspace), events.ids());
    workspace.check_books();
}

#[test]
fn newest_first_stops_at_the_first_page_that_is_wholly_older() {
    let events = Events::new("desc");
    events.add_minutes(0..60);
    let api = events.api();
    let text = config("row_order = \"desc\"", KEYED).replace("params = { since = \"${incremental.start_value}\" }", "");
    let workspace = Workspace::with_config(api.address, &text);
    workspace.sync(0);
    events.add_minutes(60..75);
    let before = api.seen().len();
    let report = workspace.sync(0);
    assert_eq!(report["resources"][0]["stop_reason"], "cursor_boundary");
    assert_eq!(api.seen().len() - before, 3, "two pages with something new, and the first that has nothing");
    assert_eq!(ids(&workspace), events.ids());
}

#[test]
fn windows_are_read_one_after_the_other_and_each_is_kept() {
    let events = Events::new("asc");
    events.add_minutes(0..100);
    let api = events.api();
    let window = "initial_value = \"2024-01-01T00:00:00Z\", end_value = \"2024-01-01T01:30:00Z\", step = \"30m\"";
    let params = "${incremental.start_value}\", until = \"${incremental.end_value}";
    let text = config(window, KEYED).replace("${incremental.start_value}", params);
    let workspace = Workspace::with_config(api.address, &text);
    events.break_from(Some(3));
    workspace.sync(69);
    assert_eq!(asked(&api, 0, "until"), [Some(time(30))]);
    events.break_from(None);
    let before = api.seen().len();
    let report = workspace.sync(0);
    assert_eq!(report["resources"][0]["resumed_at"], "page 3");
    assert_eq!(asked(&api, before, "since"), [Some(time(30)), Some(time(60))], "the first goes on at its page 3");
    assert_eq!(asked(&api, before, "until"), [Some(time(60)), Some(time(90))]);
    assert_eq!(ids(&workspace).len(), 90, "records from the end on are left out");
    assert_eq!(cursor(&workspace).unwrap(), format!("\"{}\"", time(90)));
    let before = api.seen().len();
    assert_eq!(workspace.sync(0)["complete"], true);
    assert_eq!(api.seen().len(), before, "the end is reached: nothing is asked for");
    workspace.check_books();
}

#[test]
fn windows_of_the_future_are_not_passed_over() {
    let events = Events::new("asc");
    events.add_minutes(0..5);
    let api = events.api();
    let window = "initial_value = \"2024-01-01T00:00:00Z\", end_value = \"2999-01-01T00:00:00Z\", step = \"100y\"";
    let params = "${incremental.start_value}\", until = \"${incremental.end_value}";
    let text = config(window, KEYED).replace("${incremental.start_value}", params);
    let workspace = Workspace::with_config(api.address, &text);
    workspace.sync(0);
    assert_eq!(cursor(&workspace).unwrap(), format!("\"{}\"", time(4)), "it stays at what was received");
    events.add_minutes(5..9);
    workspace.sync(0);
    assert_eq!(ids(&workspace), events.ids(), "what came later is not lost");
    let asked = asked(&api, 0, "until");
    assert!(asked.iter().flatten().all(|until| until.as_str() < "2099"), "{asked:?}");
}

#[test]
fn numbers_and_seconds_are_cursors_too() {
    for (options, first, then, granularity) in [
        ("initial_value = 100", 100, 125, ""),
        ("datetime_format = \"%s\", initial_value = 100, lag = \"10s\"", 100, 115, ""),
    ] {
        let events = Events::new("asc");
        (100..126).for_each(|at| events.add(&format!("n{at}"), json!(at)));
        let api = events.api();
        let workspace = Workspace::with_config(api.address, &config(&format!("{options}{granularity}"), KEYED));
        workspace.sync(0);
        assert_eq!(asked(&api, 0, "since"), [Some(first.to_string())]);
        assert_eq!(cursor(&workspace).unwrap(), "125");
        let before = api.seen().len();
        workspace.sync(0);
        assert_eq!(asked(&api, before, "since"), [Some(then.to_string())]);
    }
}

#[test]
fn i05_records_without_a_cursor_are_treated_as_configured() {
    for (option, code, rows) in
        [("", 65, 0), ("on_cursor_value_missing = \"include\"", 0, 3), ("on_cursor_value_missing = \"exclude\"", 0, 2)]
    {
        let events = Events::new("");
        events.add("a", json!(time(1)));
        events.add("b", Value::Null);
        events.add("c", json!(time(2)));
        let api = events.api();
        let workspace = Workspace::with_config(api.address, &config(option, KEYED));
        let report = workspace.sync(code);
        if code == 0 {
            assert_eq!(ids(&workspace).len(), rows);
            assert_eq!(report["resources"][0]["records"]["filtered"], 3 - rows);
        } else {
            let error = report["resources"][0]["error"].as_str().unwrap();
            assert!(error.contains("record 2 has no \"at\""), "{error}");
        }
    }
}

#[test]
fn each_partition_has_its_own_cursor() {
    let api = Api::start(|request: &Seen, number| {
        let place = request.param("place").unwrap();
        let at = if place == "a" { 10 } else { 20 };
        answer(json!([{"id": format!("{place}{number}"), "at": at}]))
    });
    let text = "[sources.s.client]\nbase_url = \"BASE\"\npaginator = { type = \"single_page\" }\n\
                [sources.s.resources.events]\nprimary_key = \"id\"\nincremental = { cursor_path = \"at\" }\n\
                params = { since = \"${incremental.start_value}\", place = \"${partition.place}\" }\n\
                partitions = [{ place = \"a\" }, { place = \"b\" }]\n";
    let workspace = Workspace::with_config(api.address, text);
    workspace.sync(0);
    assert_eq!(asked(&api, 0, "since"), [None, None], "there is no first value");
    workspace.sync(0);
    assert_eq!(asked(&api, 2, "since"), [Some("10".to_owned()), Some("20".to_owned())]);
}

#[test]
fn another_cursor_path_is_refused_until_the_resource_is_reset() {
    let events = Events::new("asc");
    events.add_minutes(0..3);
    let api = events.api();
    let workspace = Workspace::with_config(api.address, &config("", KEYED));
    workspace.sync(0);
    workspace.configure(api.address, &config("", KEYED).replace("\"at\"", "\"id\""));
    let report = workspace.sync(78);
    let error = report["resources"][0]["error"].as_str().unwrap();
    assert!(error.contains("cursor_path changed from \"at\" to \"id\"") && error.contains("reset"), "{error}");
}

#[test]
fn a_run_that_max_pages_keeps_from_coming_further_says_so() {
    let pages = |events: &Events, incremental: &str| {
        let api = events.api();
        let text = config(&format!("row_order = \"asc\"{incremental}"), KEYED)
            .replace("type = \"page_number\"", "type = \"page_number\", max_pages = 2");
        (Workspace::with_config(api.address, &text), api)
    };
    // A moment of more records than two pages hold.
    let moment = Events::new("asc");
    (0..30).for_each(|n| moment.add(&format!("n{n}"), json!(7)));
    moment.add("last", json!(8));
    let (workspace, _api) = pages(&moment, "");
    workspace.sync(75);
    let finished = workspace.run(&["sync"]);
    assert_eq!(finished.code, Some(78), "{finished:#?}");
    assert!(
        finished.stdout.contains("s.events: `max_pages` ends each run")
            && finished.stdout.contains("raise `max_pages`")
    );
    assert!(!finished.stdout.contains("To go on"), "{finished:#?}");
    let ended: Vec<String> = workspace.column("SELECT outcome || ' ' || (error IS NULL) FROM _hw_runs ORDER BY run_id");
    assert_eq!(ended, ["incomplete 1", "incomplete 0"]);

    // A lag that leads back behind what two pages hold; where it does not, all is well.
    let minutes = Events::new("asc");
    minutes.add_minutes(0..60);
    let initial = ", initial_value = \"2024-01-01T00:00:00Z\"";
    let (workspace, _api) = pages(&minutes, &format!(", lag = \"30m\"{initial}"));
    let report = workspace.sync(78);
    assert_eq!(report["resources"][0]["stop_reason"], "max_pages");
    let (workspace, _api) = pages(&minutes, &format!(", lag = \"5m\"{initial}"));
    for code in [75, 75, 75, 75, 0] {
        workspace.sync(code);
    }
    assert_eq!(ids(&workspace), minutes.ids());
    // What another end has cut off is no such case.
    minutes.break_from(Some(2));
    let (workspace, _api) = pages(&minutes, &format!(", lag = \"30m\"{initial}"));
    workspace.sync(69);
}

#[test]
fn a_lag_that_was_made_longer_doubles_no_row_of_an_append_resource() {
    for order in ["asc", ""] {
        let events = Events::new("asc");
        events.add_minutes(0..25);
        let api = events.api();
        let row_order = if order.is_empty() { String::new() } else { format!("row_order = \"{order}\", ") };
        let workspace = Workspace::with_config(api.address, &config(&row_order, ""));
        workspace.sync(0);
        workspace.configure(api.address, &config(&format!("{row_order}lag = \"10m\""), ""));
        events.add_minutes(25..30);
        workspace.sync(0);
        assert_eq!(ids(&workspace), events.ids(), "{order}");
        // From now on it is known so far back, and what comes late is taken.
        events.add("late", json!(time(27)));
        workspace.sync(0);
        assert_eq!(ids(&workspace), events.ids(), "{order}");
    }
}
