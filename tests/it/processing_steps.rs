//! What `processing_steps` change about records before they become rows, and what stays as it came.

use serde_json::json;

use crate::pages::{Pages, items};
use crate::support::{Api, Workspace, json as answer};

#[test]
fn steps_are_applied_in_order_and_every_record_is_accounted_for() {
    let pages = Pages::new(&[
        r#"[{"id":1,"kind":"a","price":1.50,"user":{"name":"Ann","mail":"ann@x"},"big":123456789012345678901234567890},
            {"id":2,"kind":"b","price":9,"user":{"name":"Bob","mail":"bob@x"}},
            {"id":3,"kind":"a","price":4,"user":{"mail":null}}]"#,
        r#"[{"id":4,"kind":"a","price":2,"user":{"name":"Cy","mail":"cy@x"}}, {"id":5,"price":1}]"#,
    ]);
    let api = Api::start(pages.api());
    let workspace = Workspace::with_config(
        api.address,
        &items(
            r#"primary_key = "key"
processing_steps = [
  { filter = "kind | default('a') == 'a'" },
  { add = { who = "user.name", total = "price * 2", big_again = "big | default(none)" } },
  { hash = ["user.mail"] },
  { rename = { id = "key" } },
  { remove = ["kind", "price"] },
]"#,
        ),
    );
    let report = workspace.sync(0);
    let counts = &report["resources"][0]["records"];
    let number = |name: &str| counts[name].as_i64().unwrap_or_else(|| panic!("{name} in {report}"));
    assert_eq!((number("received"), number("inserted"), number("filtered"), number("quarantined")), (5, 2, 1, 2));
    let rows: Vec<String> =
        workspace.column("SELECT json_array(key, who, total, big, big_again, user) FROM shop_items ORDER BY key");
    let hash = |text: &str| -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let user = |name: &str, mail: &str| format!(r#"{{"name":"{name}","mail":"{}"}}"#, hash(mail));
    let big = "123456789012345678901234567890";
    assert_eq!(
        rows,
        [
            json!([1, "Ann", 3.0, big, big, user("Ann", "ann@x")]).to_string(),
            json!([4, "Cy", 4.0, null, null, user("Cy", "cy@x")]).to_string(),
        ]
    );
    let columns: Vec<String> = workspace.column("SELECT name FROM pragma_table_info('shop_items') ORDER BY name");
    assert_eq!(columns, ["_page_id", "big", "big_again", "key", "total", "user", "who"]);
    let per_page: Vec<String> = workspace.column(
        "SELECT received || ' ' || inserted || ' ' || filtered || ' ' || quarantined FROM _hw_pages ORDER BY page_id",
    );
    assert_eq!(per_page, ["3 1 1 1", "2 1 0 1", "0 0 0 0"]);
    let set_aside: Vec<String> = workspace.column("SELECT reason || ' ' || record FROM _hw_quarantine");
    assert_eq!(
        set_aside,
        [
            r#"expression_failed: processing_steps[1].add.who: `user.name` is not defined {"id":3,"kind":"***","price":"***","user":"***"}"#,
            r#"expression_failed: processing_steps[1].add.who: `user.name` is not defined {"id":5,"price":"***"}"#,
        ]
    );
    workspace.check_books();
}

#[test]
fn the_next_page_is_found_in_the_records_as_they_came() {
    let api = Api::start(|request, _| {
        let after: u64 = request.param("after").map_or(0, |after| after.parse().unwrap());
        answer(json!((after + 1..=9).take(3).map(|n| json!({"id": n, "secret": "s"})).collect::<Vec<_>>()))
    });
    let config = r#"[sources.shop.client]
base_url = "BASE"
paginator = { type = "cursor", cursor_from = "last_record.id", cursor_param = "after" }
[sources.shop.resources.items]
processing_steps = [{ filter = "id % 2 == 0" }, { add = { n = "id" } }, { remove = ["id", "secret"] }]
"#;
    let workspace = Workspace::with_config(api.address, config);
    workspace.sync(0);
    assert_eq!(workspace.column::<i64>("SELECT n FROM shop_items ORDER BY n"), [2, 4, 6, 8]);
    assert_eq!(workspace.value::<i64>("SELECT sum(filtered) FROM _hw_runs"), 5);
    workspace.check_books();
}

#[test]
fn a_replaced_table_can_be_filtered_empty() {
    let pages = Pages::new(&[r#"[{"id":1,"live":true},{"id":2,"live":false}]"#]);
    let api = Api::start(pages.api());
    let keys = "primary_key = \"id\"\nwrite_disposition = \"replace\"\nprocessing_steps = [{ filter = \"live\" }]";
    let workspace = Workspace::with_config(api.address, &items(keys));
    workspace.sync(0);
    assert_eq!(workspace.column::<i64>("SELECT id FROM shop_items"), [1]);
    pages.set(&[r#"[{"id":1,"live":false},{"id":2,"live":false}]"#]);
    workspace.sync(0);
    assert_eq!(workspace.value::<i64>("SELECT count(*) FROM shop_items"), 0);
    // One that cannot be a row, beside those that are left out, does not make it a read that could store nothing.
    pages.set(&[r#"[{"id":1,"live":false},{"live":true}]"#]);
    let report = workspace.sync(0);
    assert_eq!(
        (&report["resources"][0]["records"]["filtered"], workspace.value("SELECT count(*) FROM _hw_quarantine")),
        (&json!(1), 1)
    );
    workspace.check_books();
}

#[test]
fn what_is_wrong_with_a_step_is_shown_where_it_stands_before_anything_is_sent() {
    let api = Api::start(|_, _| unreachable!("nothing is to be sent"));
    for (step, caret, said) in [
        (r#"{ filter = "kind == 'a' | uper" }"#, "uper", "there is no filter `uper`"),
        (r#"{ add = { total = "price *" } }"#, "*", "is not an expression"),
        (r#"{ add = { who = "user.name.upper()" } }"#, "upper", "write it as a filter"),
        (r#"{ remove = ["id"] }"#, "{ remove", "takes the primary key `id` off every record"),
        (r#"{ remove = ["a"], hash = ["b"] }"#, "{ remove", "exactly one of"),
        (r#"{ fliter = "a" }"#, "fliter", "did you mean `filter`?"),
    ] {
        let keys = format!("primary_key = \"id\"\nprocessing_steps = [\n  {{ filter = \"true\" }},\n  {step},\n]");
        let workspace = Workspace::with_config(api.address, &items(&keys));
        let finished = workspace.run(&["sync"]);
        assert_eq!(finished.code, Some(78), "{finished:#?}");
        assert!(
            finished.stderr.contains("processing_steps[1]") && finished.stderr.contains(said),
            "{}",
            finished.stderr
        );
        let lines: Vec<&str> = finished.stderr.lines().collect();
        let line = lines.iter().position(|line| line.contains(step)).unwrap_or_else(|| panic!("{}", finished.stderr));
        let column = lines[line + 1].find('^').unwrap();
        assert!(lines[line][column..].starts_with(caret), "{}", finished.stderr);
    }
}

#[test]
fn the_example_of_the_documentation_does_what_it_says() {
    let page = include_str!("../../docs/shape-rows.md");
    let blocks: Vec<&str> = page.split("```").skip(1).step_by(2).collect();
    let block = |number: usize, kind: &str| blocks[number].strip_prefix(kind).unwrap();
    let sent = block(1, "json").to_owned();
    let api =
        Api::start(move |_, _| crate::support::respond(200, &[("content-type", "application/json")], sent.clone()));
    let config = block(0, "toml").replace("https://api.example.com/v1/", "BASE");
    let workspace = Workspace::with_config(api.address, &config);
    workspace.sync(0);
    let expected: serde_json::Value = serde_json::from_str(block(2, "json")).unwrap();
    let keys: Vec<&String> = expected[0].as_object().unwrap().keys().collect();
    let fields: Vec<String> = keys.iter().map(|key| format!("'{key}', {key}")).collect();
    let rows = format!("SELECT json_object({}) FROM shop_orders", fields.join(", "));
    let rows = rows.replace("'customer', customer", "'customer', json(customer)");
    let rows: Vec<String> = workspace.column(&rows);
    let rows: Vec<serde_json::Value> = rows.iter().map(|row| serde_json::from_str(row).unwrap()).collect();
    assert_eq!(serde_json::Value::Array(rows), expected);
    let columns: Vec<String> = workspace.column("SELECT \"column\" FROM _hw_columns ORDER BY \"column\"");
    let mut keys: Vec<String> = keys.into_iter().cloned().collect();
    keys.sort_unstable();
    assert_eq!(columns, keys, "and nothing else");
}
