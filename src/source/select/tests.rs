use super::*;

fn select(body: &str, selector: Option<&str>) -> Result<(Vec<String>, Option<String>), NoRecords> {
    let selected = Body::parse(body).unwrap().select(&Selector::parse(selector).unwrap())?;
    Ok((selected.parts.iter().map(|&part| part.to_owned()).collect(), selected.found_at))
}

#[test]
fn records_are_found_where_there_is_one_place_for_them() {
    for (body, part, found_at) in [
        (r#" [{"a":1}] "#, r#"[{"a":1}]"#, ""),
        (r#"{"n":1,"items":[{"a":1}]}"#, r#"[{"a":1}]"#, "items"),
        (r#"{"data":{"list":[ ]},"tags":["x"]}"#, "[ ]", "data.list"),
        (r#"{"items":[{"a":1}],"errors":[{"b":1}]}"#, r#"[{"a":1}]"#, "items"),
    ] {
        assert_eq!(select(body, None), Ok((vec![part.to_owned()], Some(found_at.to_owned()))), "{body}");
    }
    for body in
        [r#"{"ok":false,"error":"x"}"#, r#"{"a":[{}],"b":[]}"#, "\"text\"", "17", r#"{"errors":[{"m":1}]}"#, "{}"]
    {
        assert!(select(body, None).is_err(), "{body}");
    }
}

#[test]
fn a_selector_leads_to_lists_records_or_nothing() {
    let body = r#"{"data":{"items":[{"a":1},{"a":2}]},"one":{"a":3},"none":null,"text":"x","a.b":{"c.d":[{"e":1}]}}"#;
    for (selector, parts) in [
        ("data.items", vec![r#"[{"a":1},{"a":2}]"#]),
        ("$.data.items", vec![r#"[{"a":1},{"a":2}]"#]),
        ("$.data.items[*]", vec![r#"[{"a":1},{"a":2}]"#]),
        ("$.data.items[?@.a > 1]", vec![r#"{"a":2}"#]),
        ("$..items[*]", vec![r#"{"a":1}"#, r#"{"a":2}"#]),
        ("one", vec![r#"{"a":3}"#]),
        ("none", vec![]),
        ("a.b.c.d", vec![r#"[{"e":1}]"#]),
    ] {
        assert_eq!(select(body, Some(selector)).unwrap().0, parts, "{selector}");
    }
    for selector in ["missing", "data.missing", "text", "$.text", "$.nothing[*]", "data.items.a"] {
        assert!(select(body, Some(selector)).is_err(), "{selector}");
    }
    assert_eq!(select(r#"{"a":1}"#, Some("$")).unwrap().0, [r#"{"a":1}"#]);
    assert!(Selector::parse(Some("$.[")).is_err());
}

#[test]
fn a_query_may_choose_nothing_of_a_list_but_not_of_a_place_that_is_none() {
    for (body, selector) in [
        (r#"{"data":{"items":[]}}"#, "$.data.items[?@.a > 1]"),
        (r#"{"data":{"items":[{"a":1}]}}"#, "$.data.items[?@.a > 1]"),
        (r#"{"groups":[]}"#, "$.groups[*].items[*]"),
        ("[]", "$[?@.a > 1]"),
    ] {
        assert_eq!(select(body, Some(selector)).map(|found| found.0), Ok(Vec::new()), "{selector}");
    }
    for (body, selector) in [
        (r#"{"data":{"list":[]}}"#, "$.data.items[?@.a > 1]"),
        (r#"{"list":[]}"#, "$..items[*]"),
        ("{}", "$[?@.a > 1]"),
    ] {
        assert!(matches!(select(body, Some(selector)), Err(NoRecords::NotAPage(_))), "{selector}");
    }
}

#[test]
fn a_query_is_refused_where_its_tree_would_not_fit() {
    let body = format!(r#"{{"items":[{{"a":"{}"}}]}}"#, "x".repeat(JSON_PATH_BYTES_MAX));
    assert_eq!(select(&body, Some("$.items[*]")).unwrap().0.len(), 1, "a plain path needs no tree");
    let Err(NoRecords::Undecided(reason)) = select(&body, Some("$.items[?@.a]")) else { panic!("it fits") };
    assert!(reason.contains("smaller pages"), "{reason}");
}

#[test]
fn h11_no_records_beside_an_error_are_no_empty_page() {
    for body in [
        r#"{"data":null,"errors":[{"message":"x"}]}"#,
        r#"{"data":null,"error":"try later"}"#,
        r#"{"data":[ ],"error":{"code":5}}"#,
        r#"{"data":[],"errors":["x"]}"#,
    ] {
        assert!(matches!(select(body, Some("data")), Err(NoRecords::NotAPage(_))), "{body}");
    }
    for body in [
        r#"{"data":null}"#,
        r#"{"data":null,"error":null,"errors":[ ]}"#,
        r#"{"data":[],"error":false}"#,
        r#"{"data":[{"a":1}],"errors":["one field is missing"]}"#,
    ] {
        assert!(select(body, Some("data")).is_ok(), "{body}");
    }
}

#[test]
fn values_are_found_by_path() {
    let body = Body::parse(r#"{"next":"/p","meta":{"more":true,"n":3},"@odata.nextLink":"u"}"#).unwrap();
    assert_eq!(body.value("next"), Some("/p".into()));
    assert_eq!(body.value("meta.more"), Some(true.into()));
    assert_eq!(body.value("@odata.nextLink"), Some("u".into()));
    assert_eq!((body.value("x.y"), body.value("next.z")), (None, None));
    assert!(body.value("meta").unwrap().is_object());
}

#[test]
fn what_is_not_json_is_an_error() {
    for body in ["", "<html>", "{\"a\":", "{\"a\":1} trailing", "nul"] {
        assert!(Body::parse(body).is_err(), "{body}");
    }
}

#[test]
fn records_that_are_read_on_the_way_are_those_that_a_selector_finds() {
    use crate::decode::{OnTheWay, decode};
    use crate::page::Text;

    let cases = [
        (r#" {"n":1,"data":[{"id":1,"a":"x"},{"id":2}],"next":"p"} "#, "data", true),
        (r#"{"data":{"items":[{"id":1}],"n":[1,{"id":3}]},"items":[{"id":2}]}"#, "data.items", true),
        (r#"{"data.items":[{"id":1}]}"#, "data.items", true),
        (r#"{"data_items":[{"id":1}],"data":[{"id":2}]}"#, "data", true),
        (r#"{"d\u0061ta":[{"id":1}]}"#, "data", true),
        (r#"{"data":{"id":1}}"#, "data", true),
        (r#"{"data":[]}"#, "data", true),
        (r#"{"data":null}"#, "data", false),
        // Two places: the last one is it, and only the whole says so.
        (r#"{"data":[{"id":1}],"data":[{"id":2}]}"#, "data", false),
        (r#"{"data":{"items":[{"id":1}]},"data.items":[{"id":2}]}"#, "data.items", false),
        (r#"{"data":{"items":[{"id":1}]},"data":{}}"#, "data.items", false),
        // A record that cannot be a row.
        (r#"{"data":[{"id":1},7]}"#, "data", false),
        (r#"{"data":[{"id":1,"id":2}]}"#, "data", false),
        (r#"{"":[{"id":1}]}"#, "", false),
        ("[]", "", false),
    ];
    for (body, path, is_read) in cases {
        let text = Text::new(body.as_bytes().to_vec().into()).unwrap();
        let selector = Selector::parse(Some(path)).unwrap();
        let whole = Body::parse(text.as_str()).unwrap().select(&selector);
        let mut on_the_way = OnTheWay::new(&text);
        let parts = Body::parse_reading(text.as_str(), &selector, |json| on_the_way.read(json))
            .map(|body| body.select(&selector));
        let rows = match &parts {
            Ok(selected) => {
                assert_eq!(selected, &whole, "{body}");
                selected.as_ref().ok().and_then(|selected| on_the_way.rows(&selected.parts))
            }
            Err(NotJson) => None,
        };
        assert_eq!(rows.is_some(), is_read, "{body}");
        if let (Some(rows), Ok(selected)) = (rows, whole) {
            let expected = decode(&text, &selected.parts).unwrap();
            assert_eq!(format!("{rows:?}"), format!("{expected:?}"), "{body}");
        }
    }
    for broken in [
        r#"{"data":[{"id":1}]"#,
        r#"{"data":[{"id":1}],"x":[1,,2]}"#,
        r#"{"data":[{"id":1}]} x"#,
        r#"{"data":[{"id":1},]}"#,
    ] {
        let selector = Selector::parse(Some("data")).unwrap();
        let text = Text::new(broken.as_bytes().to_vec().into()).unwrap();
        let mut on_the_way = OnTheWay::new(&text);
        assert!(Body::parse_reading(text.as_str(), &selector, |json| on_the_way.read(json)).is_err(), "{broken}");
    }
}
