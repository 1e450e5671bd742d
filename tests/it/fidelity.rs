//! Promise 11 for bodies of every format: a value is kept as it came, and where two formats say the same, the tables
//! are the same.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rusqlite::types::Value as Stored;
use serde_json::value::RawValue;

use crate::pages::{Pages, items};
use crate::support::{Api, Workspace, respond};

/// A field of a record: where it is stored as what, or that its JSON text is kept beside the columns.
#[derive(Clone, Debug, PartialEq)]
enum Kept {
    Column(Stored),
    Beside(String),
    Nothing,
}

/// A field of all rows, in the order in which they came.
fn field(workspace: &Workspace, key: &str) -> Vec<Kept> {
    let db = workspace.db();
    let is_there = |column: &str| {
        let sql = "SELECT count(*) FROM pragma_table_info('shop_items') WHERE name = ?1";
        db.query_row(sql, [column], |row| row.get::<_, i64>(0)).unwrap() > 0
    };
    let column = if is_there(key) { format!("\"{key}\"") } else { "NULL".to_owned() };
    let extra = if is_there("_extra") { "_extra" } else { "NULL" };
    let mut statement = db.prepare(&format!("SELECT {column}, {extra} FROM shop_items ORDER BY rowid")).unwrap();
    let rows = statement.query_map([], |row| {
        let extra: Option<String> = row.get(1)?;
        let extra: BTreeMap<String, Box<RawValue>> =
            extra.map(|text| serde_json::from_str(&text).unwrap()).unwrap_or_default();
        Ok(match (extra.get(key), row.get(0)?) {
            (Some(raw), Stored::Null) => Kept::Beside(raw.get().to_owned()),
            (None, Stored::Null) => Kept::Nothing,
            (None, value) => Kept::Column(value),
            (Some(raw), value) => panic!("{key} is {value:?} and {raw}"),
        })
    });
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

fn text(text: &str) -> Kept {
    Kept::Column(Stored::Text(text.to_owned()))
}

fn beside(json: &str) -> Kept {
    Kept::Beside(json.to_owned())
}

/// Reads these bodies as pages, then those as the pages of a second run that appends.
fn read(keys: &str, first: &[&str], second: &[&str]) -> Workspace {
    let pages = Pages::new(first);
    let count = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(first.len() as u64));
    let (served, shared) = (pages.clone(), std::sync::Arc::clone(&count));
    let api = Api::start(move |request, _| {
        let total = shared.load(std::sync::atomic::Ordering::SeqCst).to_string();
        let body = axum::body::to_bytes(served.answer(request).into_body(), 1 << 20);
        let body = futures::executor::block_on(body).unwrap();
        respond(200, &[("x-pages", &total)], body)
    });
    let keys = format!("{keys}\npaginator = {{ type = \"page_number\", total_header = \"x-pages\" }}");
    let workspace = Workspace::with_config(api.address, &items(&keys));
    workspace.sync(0);
    if !second.is_empty() {
        pages.set(second);
        count.store(second.len() as u64, std::sync::atomic::Ordering::SeqCst);
        workspace.sync(0);
    }
    workspace.check_books();
    workspace
}

const XML: &str = "format = \"xml\"\nxml_record_path = \"r.e\"";

#[test]
fn what_looks_like_a_number_a_date_or_a_truth_value_is_kept_as_it_came_in_every_format() {
    use Stored::{Integer, Real};
    const BIG: &str = "123456789012345678901234567890";
    const LONG: &str = "0.1000000000000000055511151231257828";
    // As JSON, and what is kept of it there. In the formats without types everything is the text that stands there.
    let values: [(&str, Kept); 19] = [
        ("9223372036854775807", Kept::Column(Integer(i64::MAX))),
        ("-9223372036854775808", Kept::Column(Integer(i64::MIN))),
        ("9223372036854775808", text("9223372036854775808")),
        ("18446744073709551616", text("18446744073709551616")),
        (BIG, text(BIG)),
        ("0.1", Kept::Column(Real(0.1))),
        ("1.50", Kept::Column(Real(1.5))),
        (LONG, text(LONG)),
        ("9007199254740993.0", text("9007199254740993.0")),
        ("1e400", text("1e400")),
        ("-0.0", beside("-0.0")),
        ("-0", beside("-0")),
        ("true", Kept::Column(Integer(1))),
        ("false", Kept::Column(Integer(0))),
        ("\"007\"", text("007")),
        ("\"1e5\"", text("1e5")),
        ("\"true\"", text("true")),
        ("\" 2024-02-30T25:00:00+05:30 \"", text(" 2024-02-30T25:00:00+05:30 ")),
        ("\"0x10\"", text("0x10")),
    ];
    let named = || values.iter().enumerate().map(|(n, (json, kept))| (format!("c{n}"), *json, kept));
    let object: Vec<_> = named().map(|(name, json, _)| format!("\"{name}\":{json}")).collect();
    let plain = |json: &str| json.trim_matches('"').to_owned();
    let header: Vec<_> = named().map(|(name, ..)| name).collect();
    let row: Vec<_> = named().map(|(_, json, _)| plain(json)).collect();
    let elements: Vec<_> = named().map(|(name, json, _)| format!("<{name}>{}</{name}>", plain(json))).collect();
    let attributes: Vec<_> = named().map(|(name, json, _)| format!("{name}='{}'", plain(json))).collect();
    let has_types = [true, true, false, false, false];
    let bodies = [
        ("", format!("[{{{}}}]", object.join(","))),
        ("format = \"jsonl\"", format!("{{{}}}\n", object.join(","))),
        ("format = \"csv\"", format!("{}\n{}\n", header.join(","), row.join(","))),
        (XML, format!("<r><e>{}</e></r>", elements.concat())),
        (XML, format!("<r><e {}/></r>", attributes.join(" "))),
    ];
    for ((keys, body), has_types) in bodies.iter().zip(has_types) {
        let workspace = read(keys, &[body], &[]);
        for (name, json, kept) in named() {
            let name = if body.contains("='") { format!("@{name}") } else { name };
            let expected = if has_types { kept.clone() } else { text(&plain(json)) };
            assert_eq!(field(&workspace, &name), [expected], "{keys} {name}: {json}");
        }
    }
}

#[test]
fn a_change_of_type_from_page_to_page_and_from_run_to_run_loses_nothing() {
    let json = |lines: [&str; 2]| lines.map(|value| format!("[{{\"v\":{value}}}]"));
    let jsonl = |lines: [&str; 2]| lines.map(|value| format!("{{\"v\":{value}}}"));
    let csv = |lines: [&str; 2]| lines.map(|value| format!("n,v\n1,{value}\n"));
    let xml = |lines: [&str; 2]| lines.map(|value| format!("<r><e>{value}</e></r>"));
    let (first, second) = (["1", "\"x\""], ["2.5", "{\"a\": [true]}"]);
    let expected = vec![
        Kept::Column(Stored::Integer(1)),
        beside("\"x\""),
        Kept::Column(Stored::Real(2.5)),
        beside("{\"a\": [true]}"),
    ];
    let as_list = vec![text("a"), beside(r#"["a","b"]"#), beside(r##"{"@k":"1","#text":"c"}"##), Kept::Nothing];
    let list_first =
        vec![Kept::Column(Stored::Text(r#"["1","2"]"#.to_owned())), beside("\"3\""), Kept::Nothing, Kept::Nothing];
    for (keys, first, second, expected) in [
        ("", json(first), json(second), expected.clone()),
        ("format = \"jsonl\"", jsonl(first), jsonl(second), expected),
        ("format = \"csv\"", csv(["1", "x"]), csv(["\"\"", ""]), vec![text("1"), text("x"), text(""), Kept::Nothing]),
        (XML, xml(["<v>a</v>", "<v>a</v><v>b</v>"]), xml(["<v k=\"1\">c</v>", "<v/>"]), as_list),
        (XML, xml(["<v>1</v><v>2</v>", "<v>3</v>"]), xml(["<v/>", "<w/>"]), list_first),
    ] {
        let (first, second) = (first.each_ref().map(String::as_str), second.each_ref().map(String::as_str));
        let workspace = read(keys, &first, &second);
        assert_eq!(field(&workspace, "v"), expected, "{keys} {first:?}");
    }
}

#[test]
fn the_columns_of_a_table_may_come_and_go_and_change_places() {
    for (keys, first, second) in [
        ("format = \"csv\"", ["a,b\n1,2\n", "b,c\n3,4\n"], ["c\n5\n6\n", "d,a,b\n7,8,9\n"]),
        (
            "format = \"jsonl\"",
            ["{\"a\":\"1\",\"b\":\"2\"}", "{\"b\":\"3\",\"c\":\"4\"}"],
            ["{\"c\":\"5\"}\n{\"c\":\"6\"}", "{\"d\":\"7\",\"a\":\"8\",\"b\":\"9\"}"],
        ),
        (
            XML,
            ["<r><e><a>1</a><b>2</b></e></r>", "<r><e><b>3</b><c>4</c></e></r>"],
            ["<r><e><c>5</c></e><e><c>6</c></e></r>", "<r><e><d>7</d><a>8</a><b>9</b></e></r>"],
        ),
    ] {
        let workspace = read(keys, &first, &second);
        let rows: Vec<String> = workspace.column("SELECT concat_ws(',', a, b, c, d) FROM shop_items ORDER BY rowid");
        assert_eq!(rows, ["1,2", "3,4", "5", "6", "8,9,7"], "{keys}");
    }
}

/// A table of texts and nulls.
type Table = Vec<Vec<Option<String>>>;

fn any_table() -> impl Strategy<Value = Table> {
    let value = prop_oneof![
        3 => "\\PC{0,8}|[ \\t,;\"'\\r\\n<>&a]{0,6}|-?[0-9]{1,25}(\\.[0-9]{1,9})?|true|null|1e400".prop_map(Some),
        1 => Just(None),
    ];
    prop::collection::vec(prop::collection::vec(value, 3), 1..8)
}

const NAMES: [&str; 3] = ["x", "y", "z"];

fn as_jsonl(table: &Table) -> String {
    let record = |row: &Vec<Option<String>>| {
        let fields: Vec<_> =
            NAMES.iter().zip(row).map(|(name, value)| format!("\"{name}\":{}", serde_json::json!(value))).collect();
        format!("{{{}}}", fields.join(","))
    };
    table.iter().map(record).collect::<Vec<_>>().join("\n")
}

fn as_csv(table: &Table) -> String {
    let field = |value: &Option<String>| match value {
        None => String::new(),
        // With quotes only where there is a need for them.
        Some(text) if text.is_empty() || text.contains([',', '"', '\r', '\n']) => {
            format!("\"{}\"", text.replace('"', "\"\""))
        }
        Some(text) => text.clone(),
    };
    let rows = table.iter().map(|row| row.iter().map(field).collect::<Vec<_>>().join(","));
    format!("{}\r\n{}", NAMES.join(","), rows.map(|row| row + "\r\n").collect::<String>())
}

fn as_xml(table: &Table) -> String {
    let escape = |text: &str| {
        let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        text.replace('\r', "&#13;")
    };
    let element = |(name, value): (&&str, &Option<String>)| {
        value.as_ref().map_or(format!("<{name}/>"), |text| format!("<{name}>{}</{name}>", escape(text)))
    };
    let record =
        |row: &Vec<Option<String>>| format!("<e>{}</e>", NAMES.iter().zip(row).map(element).collect::<String>());
    format!("<r>{}</r>", table.iter().map(record).collect::<String>())
}

#[test]
fn a_table_is_the_same_in_whatever_format_it_arrives() {
    let served: std::sync::Arc<std::sync::Mutex<Table>> = std::sync::Arc::default();
    let table = std::sync::Arc::clone(&served);
    let api = Api::start(move |request, _| {
        let table = table.lock().unwrap();
        let body = match request.path() {
            "/json" => format!("[{}]", as_jsonl(&table).replace('\n', ",")),
            "/jsonl" => as_jsonl(&table),
            "/csv" => as_csv(&table),
            _ => as_xml(&table),
        };
        respond(200, &[], body)
    });
    let config = format!(
        "[destination]\nsynchronous = \"normal\"\n[sources.t.client]\nbase_url = \"BASE\"\n\
         paginator = {{ type = \"single_page\" }}\n[sources.t.resources.json]\n[sources.t.resources.jsonl]\n\
         format = \"jsonl\"\n[sources.t.resources.csv]\nformat = \"csv\"\n[sources.t.resources.xml]\n{XML}\n"
    );
    let mut runner = TestRunner::new(Config { cases: 40, failure_persistence: None, ..Config::default() });
    runner
        .run(&any_table(), |table| {
            served.lock().unwrap().clone_from(&table);
            let workspace = Workspace::with_config(api.address, &config);
            workspace.sync(0);
            for format in ["json", "jsonl", "csv", "xml"] {
                for (place, name) in NAMES.iter().enumerate() {
                    let expected: Vec<Option<String>> = table
                        .iter()
                        .map(|row| row[place].clone())
                        // An element with nothing in it is all that XML has for both.
                        .map(|value| value.filter(|text| format != "xml" || !text.is_empty()))
                        .collect();
                    let is_there: i64 = workspace
                        .value(&format!("SELECT count(*) FROM pragma_table_info('t_{format}') WHERE name = '{name}'"));
                    let column = if is_there > 0 { name } else { "NULL" };
                    let stored: Vec<Option<String>> =
                        workspace.column(&format!("SELECT {column} FROM t_{format} ORDER BY rowid"));
                    prop_assert_eq!(stored, expected, "{} of {}", name, format);
                }
            }
            Ok(())
        })
        .unwrap();
}
