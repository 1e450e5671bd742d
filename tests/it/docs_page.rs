//! Every configuration that docs/page.md and docs/formats.md show reads all there is, against APIs that behave as the
//! text around it says.

use std::io::Write;

use axum::response::Response;
use serde_json::{Value, json};

use crate::support::{Api, Seen, Workspace, json as answer, records, respond};

const TOTAL: u64 = 25;
const SIZE: u64 = 10;

/// The blocks of TOML in a text.
fn configurations(text: &str) -> Vec<&str> {
    text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

fn number(request: &Seen, param: &str) -> Option<u64> {
    request.param(param).map(|text| text.parse().unwrap())
}

/// The records from one on, as many as fit on a page, and the one that comes then.
fn page_from(first: u64) -> (Vec<Value>, Option<u64>) {
    let end = (first + SIZE).min(TOTAL);
    (records(first.min(TOTAL)..end), (end < TOTAL).then_some(end))
}

fn linked(request: &Seen, body: impl Fn(&[Value]) -> String) -> Response {
    let (page, next) = page_from(number(request, "from").unwrap_or(0));
    let link = next.map(|next| format!("<{}?from={next}>; rel=\"next\"", request.path()));
    let headers: Vec<_> = link.iter().map(|link| ("link", link.as_str())).collect();
    respond(200, &headers, body(&page))
}

fn lines(page: &[Value]) -> String {
    page.iter().map(|record| format!("{record}\n")).collect()
}

/// docs/page.md.
fn paged(request: &Seen, n: usize) -> Response {
    let body: Value = serde_json::from_str(&request.body).unwrap_or_default();
    let from = |param| number(request, param).unwrap_or(0);
    match request.path() {
        "/issues" => linked(request, |page| json!(page).to_string()),
        "/tickets" => {
            let (page, next) = page_from(from("from"));
            answer(json!({"items": page, "paging": {"next": next.map(|next| format!("/tickets?from={next}"))}}))
        }
        "/charges" => {
            let (page, next) = page_from(from("cursor"));
            answer(json!({"data": page, "meta": {"next_cursor": next, "more": next.is_some()}}))
        }
        "/events" => answer(json!(page_from(number(request, "starting_after").map_or(0, |last| last + 1)).0)),
        "/audit" => {
            let (page, next) = page_from(from("cursor"));
            let next = next.map(|next| next.to_string());
            let headers: Vec<_> = next.iter().map(|next| ("x-next-cursor", next.as_str())).collect();
            respond(200, &headers, json!(page).to_string())
        }
        "/products" => {
            assert_eq!(number(request, "limit"), Some(SIZE));
            answer(json!({"items": page_from(from("offset")).0, "total": TOTAL}))
        }
        "/customers" => {
            assert_eq!(number(request, "per_page"), Some(SIZE));
            let page = page_from((from("page") - 1) * SIZE).0;
            respond(200, &[("x-total-pages", "3")], json!(page).to_string())
        }
        "/regions" => answer((0..TOTAL).map(|n| json!({"code": n})).collect()),
        "/orders" => {
            let (page, next) = page_from(from("cursor"));
            answer(json!({"orders": page, "next_cursor": next}))
        }
        "/search" => {
            assert_eq!(body["page"]["size"], SIZE);
            let (page, next) = page_from(body["page"].get("after").map_or(0, |token| token.as_u64().unwrap()));
            answer(json!({"hits": page, "next": next}))
        }
        "/scroll" => answer(json!({"hits": page_from(body["from"].as_u64().unwrap()).0})),
        "/report" => {
            let (form, page) = request.body.rsplit_once('=').unwrap();
            assert_eq!(form, "list=open&format=full&page");
            answer(json!({"rows": page_from((page.parse::<u64>().unwrap() - 1) * SIZE).0}))
        }
        "/graphql" => {
            assert_eq!(body["variables"]["owner"], "octo");
            let first = body["variables"].get("after").map_or(0, |token| token.as_str().unwrap().parse().unwrap());
            let (nodes, next) = page_from(first);
            let info = json!({"hasNextPage": next.is_some(), "endCursor": (first + nodes.len() as u64).to_string()});
            answer(json!({"data": {"repository": {"issues": {"nodes": nodes, "pageInfo": info}}}}))
        }
        "/limited" if n == 0 => answer(json!({"data": null, "errors": [{"type": "RATE_LIMITED"}]})),
        "/limited" => answer(json!({"data": {"stars": records(0..TOTAL)}})),
        other => panic!("{other} is not served"),
    }
}

/// docs/formats.md.
fn formatted(request: &Seen, _: usize) -> Response {
    let csv = |page: &[Value], key: &str, delimiter: char| {
        let rows =
            page.iter().map(|record| format!("{}{delimiter}{}\r\n", record["id"], record["name"].as_str().unwrap()));
        format!("{key}{delimiter}name\r\n{}", rows.collect::<String>())
    };
    match request.path() {
        "/products" => answer(json!({"result": {"items": records(0..TOTAL)}, "other": [{"a": 1}]})),
        "/events" => linked(request, lines),
        "/prices" => respond(200, &[], csv(&page_from(number(request, "offset").unwrap()).0, "sku", ';')),
        "/articles" => {
            let (page, next) = page_from(number(request, "after").unwrap_or(0));
            let entry = |record: &Value| {
                format!("<entry><id>{}</id><name>{}</name></entry>", record["id"], record["name"].as_str().unwrap())
            };
            let next = next.map(|next| format!("<next>{next}</next>")).unwrap_or_default();
            respond(200, &[], format!("<feed>{next}{}</feed>", page.iter().map(entry).collect::<String>()))
        }
        "/archive.csv.gz" => {
            let mut file = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            file.write_all(csv(&records(0..TOTAL), "id", ',').as_bytes()).unwrap();
            respond(200, &[("content-type", "application/gzip")], file.finish().unwrap())
        }
        other => panic!("{other} is not served"),
    }
}

#[test]
fn every_configuration_that_the_docs_on_paging_and_formats_show_reads_everything() {
    type Answer = fn(&Seen, usize) -> Response;
    let pages: [(&str, Answer, usize); 2] =
        [(include_str!("../../docs/page.md"), paged, 14), (include_str!("../../docs/formats.md"), formatted, 5)];
    for (text, answer, count) in pages {
        let mut read = 0;
        for configuration in configurations(text) {
            let api = Api::start(answer);
            let config = configuration.replace("https://api.example.com/", "BASE");
            let retry = "[sources.NAME.client.retry]\ninitial_delay = \"10ms\"\n";
            let source = config.split("[sources.").nth(1).unwrap().split('.').next().unwrap();
            let config = format!("{config}\n{}", retry.replace("NAME", source));
            let workspace = Workspace::with_config(api.address, &config);
            let report = workspace.sync(0);
            for resource in report["resources"].as_array().unwrap() {
                assert_eq!(resource["outcome"], "complete", "{configuration}");
                assert_eq!(resource["records"]["inserted"], TOTAL, "{configuration}\n{resource}");
                let table = resource["table"].as_str().unwrap();
                assert_eq!(workspace.value::<u64>(&format!("SELECT count(*) FROM {table}")), TOTAL, "{table}");
                read += 1;
            }
            workspace.check_books();
        }
        assert_eq!(read, count, "resources that were read");
    }
}

#[test]
fn what_the_docs_say_of_elements_is_so() {
    // The rows of the table in docs/formats.md: what stands in a record, its column, its value.
    let text = include_str!("../../docs/formats.md");
    let rows: Vec<Vec<&str>> = text
        .lines()
        .skip_while(|line| !line.starts_with("| in a record |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.split('|').skip(1).map(str::trim).collect())
        .collect();
    assert_eq!(rows.len(), 8);
    for row in rows {
        let code = |cell: &str| cell.split('`').nth(1).unwrap_or(cell).to_owned();
        let (inside, column, value) = (code(row[0]), code(row[1]), code(row[2]));
        let record = match inside.strip_suffix("</entry>") {
            Some(_) => inside,
            None if inside.starts_with("<entry") => format!("{inside}</entry>"),
            None => format!("<entry>{inside}</entry>"),
        };
        let body = format!("<feed>{}</feed>", record.replace("<entry", "<entry n=\"1\""));
        let api = Api::start(move |_, _| respond(200, &[], body.clone()));
        let config = "[sources.x.client]\nbase_url = \"BASE\"\npaginator = { type = \"single_page\" }\n\
                      [sources.x.resources.r]\nformat = \"xml\"\nxml_record_path = \"feed.entry\"\n";
        let workspace = Workspace::with_config(api.address, config);
        workspace.sync(0);
        if value == "NULL" {
            let columns: Vec<String> = workspace.column("SELECT name FROM pragma_table_info('x_r')");
            assert_eq!(columns, ["_page_id", "@n"], "a field that was only ever null has no column yet");
        } else {
            assert_eq!(workspace.value::<String>(&format!("SELECT \"{column}\" FROM x_r")), value, "{row:?}");
        }
    }
}
