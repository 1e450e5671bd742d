//! Bodies that are not JSON: each format read end to end, paged in every way that it allows, and never half of it
//! taken for the whole.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

use axum::response::Response;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use crate::support::{Api, Seen, Workspace, respond};

const TOTAL: u64 = 25;
const SIZE: u64 = 10;

/// How a test writes its records.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Format {
    Json,
    Jsonl,
    Csv,
    Xml,
}

pub(crate) const FORMATS: [Format; 4] = [Format::Json, Format::Jsonl, Format::Csv, Format::Xml];

impl Format {
    /// The keys of a resource in this format.
    pub(crate) fn keys(self) -> &'static str {
        match self {
            Self::Json => "format = \"json\"",
            Self::Jsonl => "format = \"jsonl\"",
            Self::Csv => "format = \"csv\"",
            Self::Xml => "format = \"xml\"\nxml_record_path = \"feed.entry\"",
        }
    }

    /// What a server calls it.
    fn kind(self) -> (&'static str, &'static str) {
        let kind = match self {
            Self::Json => "application/json",
            Self::Jsonl => "application/jsonl",
            Self::Csv => "text/csv",
            Self::Xml => "application/xml",
        };
        ("content-type", kind)
    }

    /// Records `id`, `name` from one number to another, with the position of the next one where the format has a
    /// place for it.
    pub(crate) fn page(self, first: u64, end: u64, next: Option<u64>) -> String {
        let records = (first..end).map(|n| match self {
            Self::Json | Self::Jsonl => json!({"id": n, "name": format!("name {n}")}).to_string(),
            Self::Csv => format!("{n},name {n}\r\n"),
            Self::Xml => format!("<entry><id>{n}</id><name>name {n}</name></entry>"),
        });
        let records: Vec<String> = records.collect();
        let next = next.map(|next| next.to_string());
        match self {
            Self::Json => format!("{{\"entries\":[{}],\"next\":{}}}", records.join(","), json!(next)),
            Self::Jsonl => records.join("\n"),
            Self::Csv => format!("id,name\r\n{}", records.concat()),
            Self::Xml => {
                let next =
                    next.map(|next| format!("<next>{next}</next><link rel=\"next\" href=\"/items?from={next}\"/>"));
                format!(
                    "<feed><total>{TOTAL}</total><link rel=\"self\" href=\"/x\"/>{}{}</feed>",
                    records.concat(),
                    next.unwrap_or_default()
                )
            }
        }
    }
}

/// One resource `items` of a source `api`, keyed by `id`.
fn config(client: &str, keys: &str) -> String {
    format!(
        "[sources.api.client]\nbase_url = \"BASE\"\nretry = {{ max_attempts = 3, initial_delay = \"10ms\" }}\n{client}\n\
         [sources.api.resources.items]\nprimary_key = \"id\"\n{keys}\n"
    )
}

/// What is stored, as `id name`, in the order of the ids.
fn stored(workspace: &Workspace) -> Vec<String> {
    workspace.column("SELECT id || ' ' || name FROM api_items ORDER BY CAST(id AS INTEGER)")
}

fn all() -> Vec<String> {
    (0..TOTAL).map(|n| format!("{n} name {n}")).collect()
}

fn number(request: &Seen, param: &str) -> Option<u64> {
    request.param(param).map(|text| text.parse().unwrap())
}

/// The page of `SIZE` records from a number on.
fn page_from(format: Format, first: u64) -> String {
    format.page(first.min(TOTAL), (first + SIZE).min(TOTAL), None)
}

/// A page that begins at the record `from`, with `header` on it where there is a next one, at `{}`.
fn led_on(format: Format, request: &Seen, name: &str, value: &str) -> Response {
    let first = number(request, "from").unwrap_or(0);
    let value = value.replace("{}", &(first + SIZE).to_string());
    let header = [(name, &*value)];
    respond(200, if first + SIZE < TOTAL { &header } else { &[] }, page_from(format, first))
}

#[test]
fn every_format_is_paged_in_every_way_that_it_has_a_place_for() {
    type Answer = fn(Format, &Seen) -> Response;
    let everywhere: [(&str, &str, Answer); 6] = [
        ("{ type = \"header_link\" }", "no_next", |format, request| {
            led_on(format, request, "link", "</items?from={}>; rel=next")
        }),
        ("{ type = \"auto\" }", "no_next", |format, request| {
            led_on(format, request, "link", "</items?from={}>; rel=next")
        }),
        ("{ type = \"header_cursor\", header = \"x-next\", cursor_param = \"from\" }", "no_next", |format, request| {
            led_on(format, request, "x-next", "{}")
        }),
        ("{ type = \"offset\", limit = 10 }", "empty_page", |format, request| {
            respond(200, &[format.kind()], page_from(format, number(request, "offset").unwrap()))
        }),
        ("{ type = \"page_number\", total_header = \"x-pages\" }", "total_reached", |format, request| {
            let first = (number(request, "page").unwrap() - 1) * SIZE;
            respond(200, &[("x-pages", "3")], page_from(format, first))
        }),
        (
            "{ type = \"cursor\", cursor_from = \"last_record.id\", cursor_param = \"after\" }",
            "empty_page",
            |format, request| {
                let first = number(request, "after").map_or(0, |last| last + 1);
                respond(200, &[format.kind()], page_from(format, first))
            },
        ),
    ];
    let cases = FORMATS.into_iter().flat_map(|format| everywhere.map(|case| (format, case)));
    for (format, (paginator, stop_reason, answer)) in cases {
        let api = Api::start(move |request, _| answer(format, request));
        let workspace =
            Workspace::with_config(api.address, &config("", &format!("{}\npaginator = {paginator}", format.keys())));
        let report = workspace.sync(0);
        assert_eq!(report["resources"][0]["stop_reason"], stop_reason, "{format:?} {paginator}");
        assert_eq!(stored(&workspace), all(), "{format:?} {paginator}");
        workspace.check_books();
    }

    let in_body = [
        ("{ type = \"cursor\", cursor_path = \"feed.next\", cursor_param = \"from\" }", "no_next"),
        ("{ type = \"cursor\", cursor_path = \"next\", cursor_param = \"from\" }", "no_next"),
        ("{ type = \"json_link\", next_url_path = \"feed.link[next].@href\" }", "no_next"),
        ("{ type = \"auto\" }", "no_next"),
        ("{ type = \"offset\", limit = 10, offset_param = \"from\", total_path = \"feed.total\" }", "total_reached"),
    ];
    for (paginator, stop_reason) in in_body {
        let api = Api::start(move |request, _| {
            let first = number(request, "from").unwrap_or(0);
            let next = (first + SIZE < TOTAL).then_some(first + SIZE);
            respond(200, &[], Format::Xml.page(first, (first + SIZE).min(TOTAL), next))
        });
        let keys = format!("{}\npaginator = {paginator}", Format::Xml.keys());
        let workspace = Workspace::with_config(api.address, &config("", &keys));
        assert_eq!(workspace.sync(0)["resources"][0]["stop_reason"], stop_reason, "{paginator}");
        assert_eq!(stored(&workspace), all(), "{paginator}");
    }
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_byte_order_mark_and_a_gzip_file_are_no_part_of_the_data() {
    for format in FORMATS {
        let page = format!("\u{feff}{}", format.page(0, TOTAL, None));
        let mut half = page.len() / 2;
        while !page.is_char_boundary(half) {
            half += 1;
        }
        let file = [gzip(&page[..half]), gzip(&page[half..])].concat();
        let file_in_transit = {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(&file).unwrap();
            encoder.finish().unwrap()
        };
        let bodies = [
            (vec![], page.clone().into_bytes()),
            (vec![("content-type", "application/gzip")], file.clone()),
            (vec![("content-type", "text/csv")], file),
            (vec![("content-encoding", "gzip")], file_in_transit),
        ];
        for (headers, body) in bodies {
            let served = (headers.clone(), body);
            let api = Api::start(move |_, _| respond(200, &served.0, served.1.clone()));
            let keys = format!("{}\npaginator = {{ type = \"single_page\" }}", format.keys());
            let workspace = Workspace::with_config(api.address, &config("", &keys));
            workspace.sync(0);
            assert_eq!(stored(&workspace), all(), "{format:?} {headers:?}");
            let bytes: i64 = workspace.value("SELECT bytes FROM _hw_pages");
            assert_eq!(bytes, page.len() as i64, "{format:?} {headers:?}: bytes are counted unpacked");
        }
    }
}

#[test]
fn the_limits_of_a_page_and_of_a_record_hold_for_every_format() {
    for format in FORMATS {
        let page = format.page(0, 200, None);
        let bodies = [page.clone().into_bytes(), gzip(&page)];
        for body in bodies {
            let api = Api::start(move |_, _| respond(200, &[], body.clone()));
            let keys = format!("{}\npaginator = {{ type = \"single_page\" }}", format.keys());
            let workspace = Workspace::with_config(api.address, &config("max_page_bytes = \"1KiB\"", &keys));
            let report = workspace.sync(69);
            let error = report["resources"][0]["error"].as_str().unwrap();
            assert!(error.contains("max_page_bytes"), "{format:?}: {error}");
        }
        let large = "x".repeat((8 << 20) + 1);
        let record = match format {
            Format::Json | Format::Jsonl => json!({"id": 900, "name": large}).to_string(),
            Format::Csv => format!("900,{large}\r\n"),
            Format::Xml => format!("<entry><id>900</id><name>{large}</name></entry>"),
        };
        let page = format.page(0, TOTAL, None);
        let page = match format {
            Format::Json => page.replacen('[', &format!("[{record},"), 1),
            Format::Jsonl => format!("{page}\n{record}\n"),
            Format::Csv => page + &record,
            Format::Xml => page.replace("</feed>", &format!("{record}</feed>")),
        };
        let api = Api::start(move |_, _| respond(200, &[], page.clone()));
        let keys = format!("{}\npaginator = {{ type = \"single_page\" }}", format.keys());
        let workspace = Workspace::with_config(api.address, &config("", &keys));
        workspace.sync(0);
        assert_eq!(stored(&workspace), all(), "{format:?}");
        assert_eq!(workspace.column::<String>("SELECT reason FROM _hw_quarantine"), ["record_too_large"], "{format:?}");
        workspace.check_books();
    }
}

#[test]
fn a_wrong_path_does_not_make_the_first_page_of_a_feed_its_last() {
    for paginator in [
        "{ type = \"json_link\", next_url_path = \"feed.links.@href\" }",
        "{ type = \"json_link\", next_url_path = \"feed.link.@href\" }",
        "{ type = \"header_link\" }",
    ] {
        let api = Api::start(|_, _| respond(200, &[], Format::Xml.page(0, SIZE, Some(SIZE))));
        let keys = format!("{}\npaginator = {paginator}", Format::Xml.keys());
        let workspace = Workspace::with_config(api.address, &config("", &keys));
        let report = workspace.sync(69);
        let error = report["resources"][0]["error"].as_str().unwrap();
        assert!(error.contains("\"link[next].@href\""), "{paginator}: {error}");
    }
}

#[test]
fn a_record_that_looks_like_an_envelope_is_a_record_where_every_line_is_one() {
    let body = r#"{"id":0,"name":"name 0","next":"/items?from=1","total":9,"errors":["x"]}"#;
    for paginator in ["{ type = \"auto\" }", "{ type = \"header_link\" }"] {
        let api = Api::start(move |_, _| respond(200, &[], body));
        let keys = format!("format = \"jsonl\"\npaginator = {paginator}");
        let workspace = Workspace::with_config(api.address, &config("", &keys));
        workspace.sync(0);
        assert_eq!(stored(&workspace), ["0 name 0"], "{paginator}");
    }
}

#[test]
fn h12_no_body_is_no_lines_only_for_a_server_that_knows_what_it_sends() {
    for (format, kind) in [
        (Format::Json, "application/json"),
        (Format::Xml, "application/xml"),
        (Format::Jsonl, "text/html"),
        (Format::Csv, "text/plain"),
        (Format::Jsonl, "application/x-ndjson; charset=utf-8"),
        (Format::Csv, "text/CSV"),
    ] {
        let knows = matches!(kind, "application/x-ndjson; charset=utf-8" | "text/CSV");
        let answer = move |request: &Seen, _: usize| {
            let first = number(request, "offset").unwrap();
            let body = if first < TOTAL { page_from(format, first) } else { String::new() };
            respond(200, &[("content-type", kind)], body)
        };
        let keys = format!("{}\npaginator = {{ type = \"offset\", limit = 10 }}", format.keys());
        let api = Api::start(answer);
        let workspace = Workspace::with_config(api.address, &config("", &keys));
        let report = workspace.sync(if knows { 0 } else { 69 });
        assert_eq!(stored(&workspace), all(), "{kind}");
        if knows {
            assert_eq!(report["resources"][0]["stop_reason"], "empty_page", "{kind}");
            continue;
        }
        // The message says how to put it; the way that it shows works.
        let error = report["resources"][0]["error"].as_str().unwrap();
        let (_, action) = error.split_once("add ").unwrap();
        let workspace = Workspace::with_config(api.address, &config("", &format!("{keys}\n{action}")));
        assert_eq!(workspace.sync(0)["resources"][0]["stop_reason"], "stopped_by_action", "{kind}");
        assert_eq!(stored(&workspace), all(), "{kind}");
    }
}

#[test]
fn a_request_asks_for_the_format_of_its_resource_unless_a_header_says_otherwise() {
    for (format, kind) in
        FORMATS.into_iter().zip(["application/json", "application/x-ndjson", "text/csv", "application/xml"])
    {
        for (client, keys, expected) in [
            ("", "", kind),
            ("headers = { accept = \"a/b\" }", "", "a/b"),
            ("", "headers = { ACCEPT = \"c/d\" }", "c/d"),
        ] {
            let api = Api::start(move |_, _| respond(200, &[], format.page(0, TOTAL, None)));
            let keys = format!("{}\n{keys}\npaginator = {{ type = \"single_page\" }}", format.keys());
            let workspace = Workspace::with_config(api.address, &config(client, &keys));
            workspace.sync(0);
            let accept = api.seen()[0].headers["accept"].to_str().unwrap().to_owned();
            assert!(accept.starts_with(expected), "{format:?} {client}: {accept}");
        }
    }
}

/// A server that says nothing of the length of its bodies and closes the connection behind them.
#[expect(clippy::disallowed_methods, reason = "it serves until the test's process ends")]
fn unframed(body: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let _head = stream.read(&mut request).unwrap();
            write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{body}").unwrap();
        }
    });
    address
}

#[test]
fn b03_lines_that_end_with_the_connection_are_not_taken_for_all_of_them() {
    for format in FORMATS {
        let address = unframed(format.page(0, TOTAL, None));
        let keys = format!("{}\npaginator = {{ type = \"single_page\" }}", format.keys());
        let workspace = Workspace::with_config(address, &config("", &keys));
        let proves_itself = matches!(format, Format::Json | Format::Xml);
        let report = workspace.sync(if proves_itself { 0 } else { 69 });
        let resource = &report["resources"][0];
        if proves_itself {
            assert_eq!(stored(&workspace), all(), "{format:?}");
        } else {
            let error = resource["error"].as_str().unwrap();
            assert!(error.contains("by closing the connection"), "{format:?}: {error}");
            assert_eq!(resource["requests"], 3, "it is asked for again");
        }
    }
}

#[test]
fn a_body_that_is_no_page_of_its_format_is_asked_for_again() {
    let broken = |format: Format| match format {
        Format::Json => vec!["<html>busy</html>", "{\"entries\":[{\"id\":1"],
        Format::Jsonl => vec!["<html>busy</html>", "{\"id\":1}\n{\"id\":", "try again later"],
        Format::Csv => vec!["<html>busy</html>", "id,name\n1,\"x", "{\"error\":\"busy\"}", "try again later", ""],
        Format::Xml => vec!["<html>busy</html>", "<feed><entry><id>1</id>", "{}", "<!DOCTYPE feed><feed/>", ""],
    };
    for (format, bad) in FORMATS.into_iter().flat_map(|format| broken(format).into_iter().map(move |bad| (format, bad)))
    {
        let good = format.page(0, TOTAL, None);
        let api = Api::start(move |_, n| respond(200, &[], if n == 0 { bad.to_owned() } else { good.clone() }));
        let keys = format!("{}\npaginator = {{ type = \"single_page\" }}", format.keys());
        let workspace = Workspace::with_config(api.address, &config("", &keys));
        let report = workspace.sync(0);
        assert_eq!(report["resources"][0]["retries"], 1, "{format:?} {bad:?}");
        assert_eq!(stored(&workspace), all(), "{format:?} {bad:?}");
    }
}

#[test]
fn a_record_that_does_not_fit_is_set_aside_and_the_page_is_stored() {
    for (format, extra, reason, record) in [
        (Format::Jsonl, "\n[{\"id\":90}]\n", "not_an_object", "[{\"id\":90}]"),
        (Format::Csv, "90\r\n", "wrong_number_of_fields", "90"),
        (Format::Csv, "90,\"x\"y\r\n", "malformed_quotes", "90,\"x\"y"),
        (Format::Csv, ",nobody\r\n", "key_missing", "{\"id\":null,\"name\":\"nobody\"}"),
        (Format::Xml, "<entry><name>nobody</name></entry>", "key_missing", "{\"name\":\"nobody\"}"),
    ] {
        let page = format.page(0, TOTAL, None);
        let page = match format {
            Format::Xml => page.replace("</feed>", &format!("{extra}</feed>")),
            _ => page + extra,
        };
        let api = Api::start(move |_, _| respond(200, &[], page.clone()));
        let keys = format!("{}\npaginator = {{ type = \"single_page\" }}", format.keys());
        let workspace = Workspace::with_config(api.address, &config("", &keys));
        workspace.sync(0);
        assert_eq!(stored(&workspace), all(), "{format:?}");
        let aside = workspace.column::<String>("SELECT reason || ' ' || record FROM _hw_quarantine");
        assert_eq!(aside, [format!("{reason} {record}")], "{format:?}");
        workspace.check_books();
    }
}

#[test]
fn semicolons_and_tabs_delimit_where_the_configuration_says_so() {
    for (delimiter, body) in [(";", "id;name\n1;\"a;b\"\n"), ("\\t", "id\tname\n1\ta;b\n")] {
        let api = Api::start(move |_, _| respond(200, &[], body));
        let keys = format!(
            "format = \"csv\"\ncsv = {{ delimiter = \"{delimiter}\" }}\npaginator = {{ type = \"single_page\" }}"
        );
        let workspace = Workspace::with_config(api.address, &config("", &keys));
        workspace.sync(0);
        assert_eq!(stored(&workspace), ["1 a;b"]);
    }
}

#[test]
fn a_header_that_cannot_name_columns_is_said_so_at_once() {
    for (body, part) in [("id,,name\n1,2,3\n", "column 2"), ("id,name,id\n1,2,3\n", "columns 1 and 3")] {
        let api = Api::start(move |_, _| respond(200, &[], body));
        let keys = "format = \"csv\"\npaginator = { type = \"single_page\" }";
        let workspace = Workspace::with_config(api.address, &config("", keys));
        let report = workspace.sync(69);
        assert!(report["resources"][0]["error"].as_str().unwrap().contains(part), "{report}");
        assert_eq!(api.seen().len(), 1, "the same table would come again");
    }
}

#[test]
fn h11_the_words_of_an_error_are_no_table_without_rows() {
    let api =
        Api::start(|_, _| respond(200, &[("content-type", "text/csv")], "Error: too many requests, come back later"));
    let keys = "format = \"csv\"\npaginator = { type = \"single_page\" }";
    let workspace = Workspace::with_config(api.address, &config("", keys));
    let report = workspace.sync(69);
    let error = report["resources"][0]["error"].as_str().unwrap();
    assert!(error.contains("has no column `id`, which is in the primary_key"), "{error}");
}
