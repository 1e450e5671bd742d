//! The pure functions of the hot path, one at a time: `cargo bench --features fuzzing --bench functions`. Compare with an
//! earlier run by `-- --save-baseline NAME` there and `-- --baseline NAME` here.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use highwater::decode::{csv, decode, jsonl};
use highwater::fuzzing::records_in;
use highwater::page::Text;
use highwater::rest::link::{link_with_rel, resolve_next};
use highwater::source::Selector;
use highwater::template::{SegmentKind, Slot, Template, segments_value};
use http::{HeaderMap, HeaderValue, header};
use serde::Deserialize as _;
use url::Url;

#[path = "workloads/shapes.rs"]
#[expect(dead_code, reason = "the floor needs more of it")]
mod shapes;

use shapes::{Pages, Shape};

fn text(body: Vec<u8>) -> Text {
    Text::new(Bytes::from(body)).expect("UTF-8")
}

/// Bodies of 100 records as rows, in every format of lines and lists.
fn bodies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    for (name, shape) in [("flat", Shape::Flat), ("nested", Shape::Nested)] {
        let whole = String::from_utf8(Pages::render(shape, 100).page(0, "")).expect("UTF-8");
        let records = text(whole["{\"data\":".len()..whole.len() - 1].into());
        group.throughput(Throughput::Bytes(records.as_bytes().len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| decode(&records, &[black_box(records.as_str())])));
    }
    let one = r#"{"id":10000000,"kind":"payment_intent","amount":12.5,"note":"order of the spring campaign"}"#;
    let lines = text(format!("{one}\n").repeat(100).into());
    group.throughput(Throughput::Bytes(lines.as_bytes().len() as u64));
    group.bench_function("jsonl", |bencher| bencher.iter(|| jsonl(black_box(&lines))));
    let row = "10000000,payment_intent,12.5,\"order of the spring, campaign\"\n";
    let table = text(format!("id,kind,amount,note\n{}", row.repeat(100)).into());
    group.throughput(Throughput::Bytes(table.as_bytes().len() as u64));
    group.bench_function("csv", |bencher| bencher.iter(|| csv(black_box(&table), b',')));
    group.finish();
}

/// Bodies of 100 records as pages: the records are found, and taken apart.
fn pages(criterion: &mut Criterion) {
    let body = Bytes::from(Pages::render(Shape::Flat, 100).page(0, ",\"next\":null"));
    let mut group = criterion.benchmark_group("page");
    group.throughput(Throughput::Bytes(body.len() as u64));
    for (name, selector) in [("found", None), ("path", Some("data")), ("query", Some("$.data[?@.ok]"))] {
        let selector = Selector::parse(selector).expect("a selector");
        group.bench_function(name, |bencher| bencher.iter(|| records_in(black_box(&body).clone(), &selector)));
    }
    group.finish();
}

/// The next page in a header, as GitHub writes it.
fn links(criterion: &mut Criterion) {
    const LINK: &str = r#"<https://api.example.com/repositories/1/issues?per_page=100&page=1>; rel="prev", <https://api.example.com/repositories/1/issues?per_page=100&page=3>; rel="next", <https://api.example.com/repositories/1/issues?per_page=100&page=900>; rel="last""#;
    let headers = HeaderMap::from_iter([(header::LINK, HeaderValue::from_static(LINK))]);
    let base = Url::parse("https://api.example.com/repositories/1/issues?page=2").expect("a URL");
    let next = "https://api.example.com/repositories/1/issues?per_page=100&page=3";
    criterion.bench_function("link header", |bencher| bencher.iter(|| link_with_rel(black_box(&headers), "next")));
    criterion.bench_function("next URL", |bencher| bencher.iter(|| resolve_next(&base, black_box(next))));
}

/// A path with two places to be filled.
fn templates(criterion: &mut Criterion) {
    let segments = [
        (SegmentKind::Text, "repos/"),
        (SegmentKind::Slot, "partition.repo"),
        (SegmentKind::Text, "/issues/"),
        (SegmentKind::Slot, "resources.issues.number"),
        (SegmentKind::Text, "/comments"),
    ];
    let template = Template::deserialize(segments_value(&segments)).expect("a template");
    let value = |slot: &Slot| slot.key().map(|key| serde_json::Value::from(key.len()));
    criterion.bench_function("template", |bencher| bencher.iter(|| black_box(&template).fill(&value)));
}

criterion_group!(functions, bodies, pages, links, templates);
criterion_main!(functions);
