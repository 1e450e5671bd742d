//! What docs/ shows runs: every configuration on these pages is read twice from a small API, and gives what it says.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{Api, Seen, Workspace, respond};

const PAGES: [(&str, &str); 3] = [
    ("docs/incremental.md", include_str!("../../docs/incremental.md")),
    ("docs/fan-out.md", include_str!("../../docs/fan-out.md")),
    ("docs/schedule.md", include_str!("../../docs/schedule.md")),
];

/// Records on a page.
const PAGE: usize = 10;

/// The blocks of a page that are configurations.
fn configurations(page: &str) -> Vec<&str> {
    page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

/// A record of a list, which is told by its path and its parameters.
fn record(list: &str, n: usize) -> Value {
    let (month, day) = (1 + n / 5, 1 + n % 5 * 6);
    json!({
        "id": format!("{list}{n}"), "number": n, "title": format!("number {n}"), "seq": n,
        "updated_at": format!("2026-{month:02}-{day:02}T12:00:00Z"), "created": 1_700_000_000 + n / 2,
        "day": (n % 7 != 3).then(|| format!("{day:02}/{month:02}/2026")),
    })
}

/// An API of lists of 25 records, which filters, sorts, and links to its next page.
fn answer(request: &Seen) -> axum::response::Response {
    let param = |name: &str| request.param(name);
    let slice: Vec<String> = ["year", "country"].iter().filter_map(|name| param(name)).collect();
    let list = format!("{}{}", request.path(), slice.join("-"));
    let mut found: Vec<Value> = (0..25).map(|n| record(&list, n)).collect();
    if let (Some(year), Some(country)) = (param("year"), param("country")) {
        found.iter_mut().for_each(|record| {
            record["year"] = json!(year.parse::<u32>().unwrap());
            record["country"] = json!(country);
            record["day"] = record["seq"].clone();
        });
    }
    let number = |name: &str| param(name).map(|value| value.parse::<i64>().unwrap());
    found.retain(|record| {
        let at = record["updated_at"].as_str().unwrap();
        let day = |text: &str| text.split('/').rev().map(str::to_owned).collect::<Vec<_>>();
        param("since").is_none_or(|since| at >= &*since)
            && param("until").is_none_or(|until| at <= &*until)
            && number("created_from").is_none_or(|from| record["created"].as_i64().unwrap() >= from)
            && number("seq_from").is_none_or(|from| record["seq"].as_i64().unwrap() >= from)
            && param("day_from").is_none_or(|from| record["day"].as_str().is_none_or(|text| day(text) >= day(&from)))
    });
    if param("direction").as_deref() == Some("desc") {
        found.reverse();
    }
    let page: usize = param("page").map_or(1, |page| page.parse().unwrap());
    let body = json!(found.iter().skip((page - 1) * PAGE).take(PAGE).collect::<Vec<_>>()).to_string();
    let mut headers = vec![("content-type", "application/json")];
    let mut url = url::Url::parse(&format!("http://x{}", request.target)).unwrap();
    let pairs: Vec<(String, String)> = url.query_pairs().into_owned().filter(|(name, _)| name != "page").collect();
    url.query_pairs_mut().clear().extend_pairs(pairs).append_pair("page", &(page + 1).to_string());
    let link = format!("<{}>; rel=\"next\"", &url[url::Position::BeforePath..]);
    if found.len() > page * PAGE {
        headers.push(("link", &link));
    }
    respond(200, &headers, body)
}

/// The tables of a file, each with its rows.
fn rows(workspace: &Workspace) -> Vec<(String, i64)> {
    let tables: Vec<String> = workspace.column("SELECT \"table\" FROM _hw_resources ORDER BY 1");
    let count = |table: &String| workspace.value(&format!("SELECT count(*) FROM \"{table}\""));
    tables.iter().map(|table| (table.clone(), count(table))).collect()
}

#[test]
fn every_configuration_on_a_page_reads_everything_and_then_only_what_is_new() {
    let mut resources = BTreeSet::new();
    for (name, page) in PAGES {
        let shown = configurations(page);
        assert!(shown.len() >= 2, "{name} shows {}", shown.len());
        for text in shown {
            let api = Api::start(|request: &Seen, _| answer(request));
            let workspace = Workspace::with_config(api.address, &text.replace("https://api.example.com/", "BASE"));
            workspace.sync(0);
            let first = rows(&workspace);
            for (table, rows) in &first {
                let lists: BTreeSet<String> = match &**table {
                    // One list for each record of the parent.
                    "tracker_comments" => (0..25).map(|n| n.to_string()).collect(),
                    "hub_issues" if text.contains("partitions") => ["a", "b"].map(str::to_owned).into(),
                    "stats_visits" => (0..6).map(|n| n.to_string()).collect(),
                    _ => [String::new()].into(),
                };
                assert_eq!(*rows, 25 * i64::try_from(lists.len()).unwrap(), "{name}: {table} of\n{text}");
                resources.insert(table.clone());
            }
            let before = api.seen().len();
            workspace.sync(0);
            assert_eq!(rows(&workspace), first, "{name}: something came twice:\n{text}");
            workspace.check_books();
            if text.contains("incremental") {
                // Nothing was new: at most a page, or a window's, for each resource.
                let asked = api.seen().len() - before;
                assert!(asked < before && asked <= 2 * first.len(), "{name}: {asked} requests again for\n{text}");
            }
        }
    }
    assert!(resources.len() >= 8, "only {resources:?}");
}
