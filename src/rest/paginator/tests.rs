use http::{HeaderMap, HeaderValue};
use serde_json::{Value as Json, json};

use super::*;
use crate::page::StopReason::{EmptyPage, HasMoreFalse, NoNext, ShortPage, SinglePage as OnePage, TotalReached};

struct Response {
    headers: HeaderMap,
    body: Json,
    records: u64,
    first_page_records: Option<u64>,
}

fn response(records: u64, body: Json) -> Response {
    Response { headers: HeaderMap::new(), body, records, first_page_records: Some(100) }
}

fn with_evidence<T>(response: &Response, check: impl FnOnce(&Evidence<'_>) -> T) -> T {
    let scalar = |path: &str| {
        let found = path.split('.').try_fold(&response.body, |value, key| value.get(key));
        found.cloned()
    };
    let last_record = |field: &str| match response.body.pointer("/data/0")?.get(field)? {
        Json::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    let resolve = |link: &str| {
        if link.starts_with("//evil") { Err("leads to another host".to_owned()) } else { Ok(link.to_owned()) }
    };
    let link = |rel: &str| {
        let value = response.headers.get("link").map(|value| value.to_str().unwrap());
        Ok(value.filter(|value| value.contains(rel)).map(|_| "/next".to_owned()))
    };
    check(&Evidence {
        headers: &response.headers,
        records: response.records,
        first_page_records: response.first_page_records,
        scalar: &scalar,
        last_record: &last_record,
        resolve: &resolve,
        link: &link,
        leaves: &leaves(&response.body, ""),
    })
}

fn leaves(body: &Json, prefix: &str) -> Vec<(String, Json)> {
    let mut found = Vec::new();
    for (key, value) in body.as_object().into_iter().flatten() {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Json::Object(_) => found.extend(leaves(value, &path)),
            Json::Array(_) => {}
            scalar => found.push((path, scalar.clone())),
        }
    }
    found
}

fn paginator(options: Json) -> Paginator {
    serde_json::from_value(options).unwrap()
}

fn next(options: Json, position: Position, response: &Response) -> Result<Next, PagingError> {
    with_evidence(response, |evidence| paginator(options).next(&position, evidence))
}

fn token(token: &str) -> Position {
    Position::Token { token: token.to_owned(), number: false }
}

fn link(url: &str) -> Position {
    Position::Link { url: url.to_owned() }
}

#[test]
fn each_kind_finds_its_next_page_or_its_end() {
    let first = || Position::First {};
    let offset = |offset| Position::Offset { offset };
    let page = |page| Position::Page { page };
    let at = |position| Ok(Next::Page(position));
    let end = |reason| Ok(Next::End(reason));
    let cases = [
        (json!({"type": "single_page"}), first(), 5, json!([]), end(OnePage)),
        (json!({"type": "json_link", "next_url_path": "next"}), first(), 5, json!({"next": "/p2"}), at(link("/p2"))),
        (json!({"type": "json_link", "next_url_path": "next"}), first(), 5, json!({"next": null}), end(NoNext)),
        (json!({"type": "json_link", "next_url_path": "next"}), first(), 5, json!({"next": ""}), end(NoNext)),
        (json!({"type": "json_link", "next_url_path": "a.b"}), first(), 0, json!({"a": {"b": "/x"}}), at(link("/x"))),
        (json!({"type": "json_link", "next_url_path": "n"}), first(), 5, json!({"n": {"href": "/x"}}), at(link("/x"))),
        (json!({"type": "json_link", "next_url_path": "n"}), first(), 5, json!({"n": {"href": null}}), end(NoNext)),
        (cursor("c"), first(), 5, json!({"c": "t1"}), at(token("t1"))),
        (cursor("c"), token("t1"), 5, json!({"c": 17}), at(Position::Token { token: "17".to_owned(), number: true })),
        (cursor("c"), token("t1"), 5, json!({"c": null}), end(NoNext)),
        (cursor("c"), token("t1"), 0, json!({"c": "t1"}), end(EmptyPage)),
        (last_record(), first(), 1, json!({"data": [{"id": "x"}], "more": true}), at(token("x"))),
        (last_record(), token("x"), 1, json!({"data": [{"id": "y"}], "more": false}), end(HasMoreFalse)),
        (last_record(), token("x"), 1, json!({"data": [{"id": "y"}], "more": "N"}), end(HasMoreFalse)),
        (last_record(), token("x"), 0, json!({"data": []}), end(EmptyPage)),
        (json!({"type": "offset", "limit": 100}), offset(0), 100, json!({}), at(offset(100))),
        (json!({"type": "offset", "limit": 100}), offset(0), 40, json!({}), at(offset(40))),
        (json!({"type": "offset", "limit": 100}), offset(100), 40, json!({}), at(offset(140))),
        (json!({"type": "offset", "limit": 100}), offset(100), 140, json!({}), at(offset(240))),
        (total_offset(), offset(100), 40, json!({"total": 200}), at(offset(140))),
        (short_offset(), offset(0), 100, json!({}), at(offset(100))),
        (json!({"type": "offset", "limit": 100}), offset(200), 0, json!({}), end(EmptyPage)),
        (total_offset(), offset(100), 40, json!({"total": 140}), end(TotalReached)),
        (total_offset(), offset(0), 0, json!({"total": 0}), end(EmptyPage)),
        (short_offset(), offset(0), 99, json!({}), end(ShortPage)),
        (json!({"type": "page_number"}), page(1), 50, json!({}), at(page(2))),
        (json!({"type": "page_number"}), page(3), 0, json!({}), end(EmptyPage)),
        (json!({"type": "page_number", "total_path": "n"}), page(3), 9, json!({"n": 3}), end(TotalReached)),
        (json!({"type": "page_number", "total_path": "n", "base_page": 0}), page(1), 9, json!({"n": "3"}), at(page(2))),
        (json!({"type": "page_number", "stop_on_short_page": true}), page(2), 99, json!({}), end(ShortPage)),
        (json!({"type": "page_number", "has_more_path": "m"}), page(2), 0, json!({"m": true}), at(page(3))),
    ];
    for (options, position, records, body, expected) in cases {
        assert_eq!(
            next(options.clone(), position.clone(), &response(records, body.clone())),
            expected,
            "{options} at {position:?} after {records} records with {body}"
        );
    }
}

fn cursor(path: &str) -> Json {
    json!({"type": "cursor", "cursor_path": path, "cursor_param": "cursor"})
}

fn last_record() -> Json {
    json!({"type": "cursor", "cursor_from": "last_record.id", "cursor_param": "after", "has_more_path": "more"})
}

fn total_offset() -> Json {
    json!({"type": "offset", "limit": 100, "total_path": "total"})
}

fn short_offset() -> Json {
    json!({"type": "offset", "limit": 100, "stop_on_short_page": true})
}

#[test]
fn a_page_that_contradicts_itself_is_an_error_and_no_end() {
    for (options, position, records, body) in [
        (json!({"type": "json_link", "next_url_path": "n"}), Position::First {}, 5, json!({"n": {"to": "/x"}})),
        (json!({"type": "json_link", "next_url_path": "n"}), Position::First {}, 5, json!({"n": true})),
        (cursor("c"), Position::First {}, 5, json!({"c": {"after": "x"}})),
        (cursor("c"), Position::First {}, 5, json!({"c": ["x"]})),
        (cursor("c"), Position::First {}, 5, json!({"c": true})),
        (cursor_with_more(), Position::First {}, 5, json!({"more": true})),
        (total_offset(), Position::Offset { offset: 100 }, 0, json!({"total": 1000})),
        (json!({"type": "page_number", "total_path": "n"}), Position::Page { page: 2 }, 0, json!({"n": 9})),
        (total_offset(), Position::Offset { offset: 100 }, 40, json!({"total": 100})),
        (total_offset(), Position::Offset { offset: 0 }, 40, json!({"total": 0})),
        (json!({"type": "page_number", "total_path": "n"}), Position::Page { page: 2 }, 5, json!({"n": 1})),
        (json!({"type": "page_number", "total_path": "n"}), Position::Page { page: 1 }, 5, json!({"n": 0})),
        (last_record(), Position::First {}, 1, json!({"data": [{"other": 1}], "more": true})),
        (last_record(), Position::First {}, 1, json!({"data": [{"id": 1}], "more": "perhaps"})),
        (last_record(), Position::First {}, 1, json!({"data": [{"id": 1}], "more": 0.5})),
        (json!({"type": "json_link", "next_url_path": "next"}), Position::First {}, 5, json!({"next": "//evil/x"})),
        (json!({"type": "page_number"}), Position::First {}, 5, json!({})),
    ] {
        assert!(next(options.clone(), position, &response(records, body)).is_err(), "{options}");
    }
}

fn cursor_with_more() -> Json {
    json!({"type": "cursor", "cursor_path": "c", "cursor_param": "p", "has_more_path": "more"})
}

#[test]
fn headers_lead_on_where_they_are_asked_to() {
    let mut linked = response(5, json!([]));
    linked.headers.insert("link", HeaderValue::from_static("</next>; rel=\"next\""));
    assert_eq!(next(json!({"type": "header_link"}), Position::First {}, &linked), Ok(Next::Page(link("/next"))));
    assert_eq!(next(json!({"type": "header_link", "rel": "prev"}), link("/a"), &linked), Ok(Next::End(NoNext)));
    let mut tokened = response(5, json!([]));
    tokened.headers.insert("x-next", HeaderValue::from_static("abc"));
    let options = json!({"type": "header_cursor", "header": "X-Next", "cursor_param": "cursor"});
    assert_eq!(next(options, Position::First {}, &tokened), Ok(Next::Page(token("abc"))));
}

#[test]
fn a_position_is_placed_where_the_options_say() {
    let body = paginator(json!({"type": "cursor", "cursor_path": "c", "cursor_body_path": "page.after"}));
    assert_eq!(body.changes(&token("t")).body, [("page.after".to_owned(), json!("t"))]);
    let number = Position::Token { token: "17".to_owned(), number: true };
    assert_eq!(body.changes(&number).body, [("page.after".to_owned(), json!(17))], "a number stays one");
    let header = paginator(json!({"type": "cursor", "cursor_path": "c", "cursor_header": "X-After"}));
    assert_eq!(header.changes(&token("t")).headers, [("X-After".to_owned(), "t".to_owned())]);
    let offset = paginator(json!({"type": "offset", "limit": 10, "offset_param": "skip", "limit_body_path": "n"}));
    let changes = offset.changes(&Position::Offset { offset: 20 });
    assert_eq!(changes.params, [("skip".to_owned(), "20".to_owned())]);
    assert_eq!(changes.body, [("n".to_owned(), json!(10))]);
    let page = paginator(json!({"type": "page_number", "page_size": 50, "page_size_param": "per_page"}));
    assert_eq!(page.changes(&Position::Page { page: 3 }).params.len(), 2);
    assert_eq!(body.changes(&Position::First {}), Changes::default());
}

#[test]
fn positions_read_back_from_a_checkpoint() {
    for position in [
        Position::First {},
        Position::Page { page: 7 },
        Position::Offset { offset: 300 },
        token("a\"b"),
        link("/x?y=1"),
    ] {
        let text = serde_json::to_string(&position).unwrap();
        assert_eq!(serde_json::from_str::<Position>(&text).unwrap(), position, "{text}");
    }
    assert!(serde_json::from_str::<Position>(r#"{"at":"page","page":1,"x":2}"#).is_err());
    assert!(serde_json::from_str::<Position>(r#"{"at":"elsewhere"}"#).is_err());
}

#[test]
fn auto_follows_the_plainest_sign() {
    let decide_for = |response: &Response| {
        with_evidence(response, |evidence| decide(&Auto::default(), evidence))
            .map(|decided| serde_json::to_value(decided).unwrap()["type"].as_str().unwrap().to_owned())
    };
    let mut linked = response(5, json!([]));
    linked.headers.insert("link", HeaderValue::from_static("</next>; rel=\"next\""));
    assert_eq!(decide_for(&linked), Ok("header_link".to_owned()));
    for (body, expected) in [
        (json!({"next": "https://x/y"}), "json_link"),
        (json!({"next_cursor": "abc"}), "cursor"),
        (json!({"meta": {"page": 1, "total_pages": 4}}), "page_number"),
        (json!({"items": []}), "single_page"),
    ] {
        assert_eq!(decide_for(&response(5, body.clone())), Ok(expected.to_owned()), "{body}");
    }
    for body in [
        json!({"has_more": true}),
        json!({"next": 2}),
        json!({"items": 6}),
        json!({"paging": {"next": {"link": "x", "after": "7"}}}),
        json!({"offset": "itrX/recY"}),
        json!({"totalPages": 3, "totalElements": 5, "last": false}),
        json!({"page": {"totalElements": 50}}),
        json!({"done": false, "totalSize": 5}),
        json!({"next_page": 2}),
        json!({"metadata": {"continue": "abc"}}),
        json!({"paging": {"cursors": {"before": "a", "after": "b"}}}),
        json!({"isLast": false}),
        json!({"data": {"pageInfo": {"hasNextPage": true}}}),
        json!({"meta": {"pagination": {"total_pages": 2}}}),
        json!({"cursor": "abc"}),
    ] {
        assert!(decide_for(&response(5, body.clone())).is_err(), "more, but not where: {body}");
    }
}

#[test]
fn a_value_is_set_deep_in_a_body() {
    let mut body = json!({"query": {"text": "x"}});
    set_at(&mut body, "query.page.after", json!("t")).unwrap();
    assert_eq!(body, json!({"query": {"text": "x", "page": {"after": "t"}}}));
    assert!(set_at(&mut body, "query.text.deeper", json!(1)).is_err());
}

#[test]
fn a_capped_first_page_is_no_short_one() {
    let capped = Response { first_page_records: Some(40), ..response(40, json!({})) };
    let resumed = Response { first_page_records: None, ..response(40, json!({})) };
    for response in [&capped, &resumed] {
        let after = next(short_offset(), Position::Offset { offset: 0 }, response);
        assert_eq!(after, Ok(Next::Page(Position::Offset { offset: 40 })));
    }
}

#[test]
fn auto_takes_one_page_for_all_where_nothing_speaks_against_it() {
    for body in [
        json!({"next": null, "previous": null, "count": 5}),
        json!({"next_page": null, "has_more": false, "total": "5"}),
        json!({"totalPages": 1, "totalElements": 5, "last": true}),
        json!({"pageInfo": {"hasNextPage": false, "endCursor": "x", "startCursor": "a"}}),
        json!({"links": {"self": "/items", "next": {"href": null}}, "context": "text"}),
        json!({"done": true, "totalSize": 5, "offset": 0}),
    ] {
        let decided = with_evidence(&response(5, body.clone()), |evidence| decide(&Auto::default(), evidence));
        assert_eq!(decided, Ok(Paginator::SinglePage(SinglePage {})), "{body}");
    }
}

#[test]
fn auto_reads_totals_from_headers_too() {
    for (name, value, is_more) in [
        ("x-total-count", "6", true),
        ("x-total-count", "5", false),
        ("content-range", "items 0-4/319", true),
        ("content-range", "items 0-4/5", false),
        ("content-range", "items 0-4/*", false),
        ("x-total-pages", "2", true),
        ("x-next-page", "", false),
        ("x-next-page", "2", true),
    ] {
        let mut response = response(5, json!([]));
        response.headers.insert(name, HeaderValue::from_static(value));
        let decided = with_evidence(&response, |evidence| decide(&Auto::default(), evidence));
        assert_eq!(decided.is_err(), is_more, "{name}: {value}");
    }
}
