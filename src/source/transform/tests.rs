//! Tables of cases: steps, a record, and what becomes of it.

use bytes::Bytes;

use super::{ProcessingStep, Steps};
use crate::decode::decode;
use crate::page::{Rows, Text};

fn compile(steps: &str) -> Steps {
    let options: Vec<ProcessingStep> = serde_json::from_str(steps).unwrap();
    Steps::compile(&options).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn rows(json: &str) -> Rows {
    let text = Text::new(Bytes::copy_from_slice(json.as_bytes())).unwrap();
    decode(&text, &[text.as_str()]).unwrap()
}

fn record(rows: &Rows, row: usize) -> String {
    let fields = rows.row(row).map(|(key, value)| format!("\"{}\":{}", rows.keys()[key], value.json_text()));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
}

/// The one record, `filtered`, or why it was set aside and what is kept of it.
fn applied(steps: &str, json: &str) -> String {
    let rows = compile(steps).apply(&rows(json));
    assert_eq!(rows.received(), 1);
    match (rows.len(), rows.filtered(), rows.rejected()) {
        (1, 0, []) => record(&rows, 0),
        (0, 1, []) => "filtered".to_owned(),
        (0, 0, [rejected]) => format!("{} {}", rejected.reason, rejected.record),
        other => panic!("{other:?}"),
    }
}

fn assert_applied(cases: &[(&str, &str, &str)]) {
    for (steps, json, expected) in cases {
        assert_eq!(applied(steps, json), *expected, "{steps} {json}");
    }
}

#[test]
fn a_filter_keeps_the_records_for_which_it_is_true() {
    assert_applied(&[
        (r#"[{"filter":"a > 1"}]"#, r#"{"a":2}"#, r#"{"a":2}"#),
        (r#"[{"filter":"a > 1"}]"#, r#"{"a":1}"#, "filtered"),
        (r#"[{"filter":"a > 1"}]"#, r#"{"a":1.0000000000000000000000000001}"#, "filtered"),
        (
            r#"[{"filter":"a > 5"}]"#,
            r#"{"a":123456789012345678901234567890}"#,
            r#"{"a":123456789012345678901234567890}"#,
        ),
        (r#"[{"filter":"a"}]"#, r#"{"a":""}"#, "filtered"),
        (r#"[{"filter":"a is defined and a"}]"#, r#"{"b":1}"#, "filtered"),
        (r#"[{"filter":"a | default(true)"}]"#, r#"{"b":1}"#, r#"{"b":1}"#),
        (r#"[{"filter":"record['a b'] == record.record"}]"#, r#"{"a b":1,"record":1}"#, r#"{"a b":1,"record":1}"#),
        (
            r#"[{"filter":"tags | select('eq', 'x') | list | length == 1"}]"#,
            r#"{"tags":["x","y"]}"#,
            r#"{"tags":["x","y"]}"#,
        ),
        (
            r#"[{"filter":"a"}]"#,
            r#"{"b":1}"#,
            "expression_failed: processing_steps[0].filter: `a` is not defined {\"b\":1}",
        ),
    ]);
}

#[test]
fn a_value_that_is_only_passed_on_keeps_its_very_text() {
    for value in [
        "1.50",
        "-0.0",
        "1e3",
        "123456789012345678901234567890123456789012345",
        "0.1000000000000000055511151231257828",
        "1e400",
        "\"a\\nb\"",
        "[1, 2.50,  {\"x\": 1e400}]",
        "null",
        "true",
    ] {
        let json = format!("{{\"a\":{value},\"n\":{{\"x\":[0,{value}]}}}}");
        for expression in ["a", "record['a']", "n.x[1]", "n['x'][-1]", "record.n.x[1]"] {
            let steps = serde_json::json!([{"add": {"b": expression}}, {"remove": ["a", "n"]}]).to_string();
            assert_eq!(applied(&steps, &json), format!("{{\"b\":{value}}}"), "{expression}");
        }
    }
    for value in ["1.50", "123456789012345678901234567890", "0.1000000000000000055511151231257828"] {
        for expression in ["a | default(0)", "a if a is defined else 0", "record['a'] | d(0)", "gone | d(a)"] {
            let steps = serde_json::json!([{"add": {"b": expression}}, {"remove": ["a"]}]).to_string();
            assert_eq!(applied(&steps, &format!("{{\"a\":{value}}}")), format!("{{\"b\":{value}}}"), "{expression}");
        }
    }
}

#[test]
fn the_result_of_an_expression_is_a_value_of_its_kind() {
    for (expression, expected) in [
        ("1 + 2", "3"),
        ("big + 1", "9223372036854775808"),
        ("price * 2", "3.0"),
        ("price / 4", "0.375"),
        ("10 // 3", "3"),
        ("name ~ '!'", "\"Ann!\""),
        ("name | upper", "\"ANN\""),
        ("price > 1", "true"),
        ("none", "null"),
        ("[1, price, name, none, true]", "[1,1.5,\"Ann\",null,true]"),
        ("{'z': 1, 'a': big}", "{\"z\":1,\"a\":9223372036854775807}"),
        ("items | map(attribute='id') | list", "[18446744073709551616,2]"),
        ("items | map(attribute='id')", "[18446744073709551616,2]"),
        ("items | length", "2"),
        ("name[0]", "\"A\""),
        ("'%03d' | format(items | length)", "\"002\""),
        ("'x' if gone is defined else 'y'", "\"y\""),
        ("record | length", "4"),
        ("1e308 * 10", "expression_failed"),
        ("[1e308 * 10]", "expression_failed"),
        ("price / 0", "expression_failed"),
        ("name + 1", "expression_failed"),
        ("gone.x", "expression_failed"),
        ("name.x", "expression_failed"),
        ("items[5]", "expression_failed"),
        ("[1] * 9000000", "expression_failed: processing_steps[0].add.new: its value becomes too large"),
        ("name * 9000000", "record_too_large: processing_steps[0].add.new"),
    ] {
        let steps = serde_json::json!([{"add": {"new": expression}}]).to_string();
        let json =
            r#"{"name":"Ann","price":1.5,"big":9223372036854775807,"items":[{"id":18446744073709551616},{"id":2}]}"#;
        let found = applied(&steps, json);
        let new = found.split("\"new\":").nth(1).map_or(found.as_str(), |new| &new[..new.len() - 1]);
        assert!(new == expected || expected.contains('_') && new.starts_with(expected), "{expression}: {found}");
    }
}

#[test]
fn steps_see_what_the_ones_before_them_left() {
    assert_applied(&[
        (
            r#"[{"rename":{"a":"b","b":"a"}},{"add":{"c":"a ~ b"}},{"remove":"a"},{"filter":"c == '21'"}]"#,
            r#"{"a":1,"b":2}"#,
            r#"{"b":1,"c":"21"}"#,
        ),
        (r#"[{"add":{"a":"a + 1","b":"a"}}]"#, r#"{"a":1}"#, r#"{"a":2,"b":1}"#),
        (r#"[{"rename":{"a":"b"}},{"filter":"a is defined"}]"#, r#"{"a":1}"#, "filtered"),
        (
            r#"[{"remove":["x.y","gone","gone.x"]},{"rename":{"gone":"x"}}]"#,
            r#"{"x":{"y":1,"z":2}}"#,
            r#"{"x":{"z":2}}"#,
        ),
        (r#"[{"remove":"x.y"}]"#, r#"{"x.y":1,"x":{"y":1}}"#, r#"{"x":{"y":1}}"#),
        (r#"[{"remove":"x.y"}]"#, r#"{"x":[{"y":1},{"z":1.50}]}"#, r#"{"x":[{},{"z":1.50}]}"#),
    ]);
}

#[test]
fn a_hash_is_the_same_wherever_the_value_comes_from() {
    let ann = "17239b6e250110330eda64a29c610bf146f89883371fab093feda03bec61b646";
    assert_eq!(
        applied(r#"[{"hash":["a","n.a"]}]"#, r#"{"a":"Ann","n":{"a":"\u0041nn","b":[1, 2]},"c":null}"#),
        format!(r#"{{"a":"{ann}","n":{{"a":"{ann}","b":[1, 2]}},"c":null}}"#)
    );
    assert_eq!(applied(r#"[{"hash":"c"}]"#, r#"{"c":null}"#), r#"{"c":null}"#);
    let known = "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b";
    assert_eq!(applied(r#"[{"hash":"c"}]"#, r#"{"c":1}"#), format!(r#"{{"c":"{known}"}}"#));
}

#[test]
fn what_is_to_stay_out_of_the_database_is_masked_in_records_that_are_set_aside() {
    let steps = r#"[{"rename":{"mail":"email"}},{"add":{"x":"gone"}},{"hash":"email"},{"remove":["user.ssn","b"]}]"#;
    let kept = applied(steps, r#"{"id":1,"mail":"ann@x","user":{"ssn":5},"b":[1],"c":[1, 2]}"#);
    assert_eq!(
        kept,
        "expression_failed: processing_steps[1].add.x: `gone` is not defined \
         {\"id\":1,\"mail\":\"***\",\"user\":\"***\",\"b\":\"***\",\"c\":[1, 2]}"
    );
    assert_eq!(applied(r#"[{"hash":"a"}]"#, r#"{"a":"ann","a":"ann"}"#), "duplicate_key ***");
    assert_eq!(applied(r#"[{"rename":{"a":"b"}}]"#, r#"{"a":"x","a":"y"}"#), r#"duplicate_key {"a":"x","a":"y"}"#);
    let unreadable = applied(r#"[{"hash":"a.b"}]"#, r#"{"a":{"b":"\ud800"}}"#);
    assert_eq!(unreadable, "invalid_string: processing_steps[0]: a.b {\"a\":\"***\"}");
}

#[test]
fn each_record_has_a_fate_of_its_own() {
    let steps = r#"[{"filter":"k != 'drop'"},{"add":{"d":"n * 2"}},{"filter":"d < 100"},{"hash":"k"},{"remove":"k"}]"#;
    let json = r#"[{"k":"a","n":1},{"k":"drop","n":1},{"k":"b"},5,{"k":"c","n":60},{"k":"d","n":2.5}]"#;
    let rows = compile(steps).apply(&rows(json));
    let records: Vec<String> = (0..rows.len()).map(|row| record(&rows, row)).collect();
    assert_eq!(records, [r#"{"n":1,"d":2}"#, r#"{"n":2.5,"d":5.0}"#]);
    let rejected: Vec<_> =
        rows.rejected().iter().map(|rejected| (&*rejected.reason, rejected.record.as_str())).collect();
    assert_eq!(
        rejected,
        [
            ("not_an_object", "5"),
            ("expression_failed: processing_steps[1].add.d: `n` is not defined", r#"{"k":"***"}"#)
        ]
    );
    assert_eq!((rows.received(), rows.filtered()), (6, 2));
    assert_eq!(rows.keys(), ["n", "d"]);
}

#[test]
fn what_is_wrong_with_steps_is_said_of_all_of_them() {
    let options: Vec<ProcessingStep> = serde_json::from_str(
        r#"[{},{"filter":"a","remove":"b"},{"filter":"a |"},{"add":{"x":"1","y":"z | nope"}},{"rename":{"a":"c","b":"c"}},{"remove":"a"}]"#,
    )
    .unwrap();
    let errors = Steps::compile(&options).unwrap_err();
    let said: Vec<_> =
        errors.iter().map(|(number, error)| format!("{number} {} {}", error.keys.join("."), error.error)).collect();
    assert_eq!(said.len(), 5, "{said:#?}");
    for (said, expected) in said.iter().zip([
        "0  a step has exactly one",
        "1  a step has exactly one",
        "2 filter is not an expression",
        "3 add.y there is no filter `nope`",
        "4 rename.b two fields get this name",
    ]) {
        assert!(said.starts_with(expected), "{said} {expected}");
    }
}

#[test]
fn a_key_that_steps_take_away_is_known() {
    for (steps, lost) in [
        (r#"[{"filter":"1"},{"remove":"id"}]"#, Some(1)),
        (r#"[{"remove":["x","id"]}]"#, Some(0)),
        (r#"[{"remove":"id.x"}]"#, None),
        (r#"[{"rename":{"id":"key"}}]"#, Some(0)),
        (r#"[{"rename":{"id":"key"}},{"rename":{"key":"id"}}]"#, None),
        (r#"[{"rename":{"id":"key","key":"id"}}]"#, None),
        (r#"[{"remove":"id"},{"add":{"id":"1"}}]"#, None),
        (r#"[{"hash":"id"}]"#, None),
    ] {
        assert_eq!(compile(steps).loses("id"), lost, "{steps}");
    }
}

#[test]
fn where_the_value_of_a_field_comes_from_is_known_unless_a_step_makes_it() {
    for (steps, origin) in [
        ("[]", Some("id")),
        (r#"[{"rename":{"uuid":"id"}}]"#, Some("uuid")),
        (r#"[{"rename":{"a":"b"}},{"rename":{"b":"id"}}]"#, Some("a")),
        (r#"[{"rename":{"id":"old","new":"id"}}]"#, Some("new")),
        (r#"[{"rename":{"id":"old"}}]"#, None),
        (r#"[{"rename":{"a":"uuid"}},{"add":{"id":"uuid"}}]"#, Some("a")),
        (r#"[{"add":{"id":"user.id"}}]"#, None),
        (r#"[{"add":{"id":"kind ~ id"}}]"#, None),
        (r#"[{"add":{"id":"kind ~ id"}},{"add":{"kind":"1"}},{"hash":["id"]},{"filter":"id"}]"#, None),
        (r#"[{"add":{"kind":"1"}},{"hash":["id"]},{"remove":["id.x"]},{"filter":"id"}]"#, Some("id")),
        (r#"[{"remove":["id"]}]"#, None),
    ] {
        assert_eq!(compile(steps).origin("id").as_deref(), origin, "{steps}");
    }
}
