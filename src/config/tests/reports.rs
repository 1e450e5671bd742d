//! Reports as people see them.

use super::{CLIENT, Env, load, problems};
use crate::config::load_text;

fn report(text: &str) -> String {
    load(text).expect_err("a report").to_string()
}

#[test]
fn a_report_of_several_problems() {
    let text = r#"
[destination]
synchronous = "ful"

[sources.github.client]
base_ulr = "https://api.github.com/"
paginator = { type = "cursr" }

[sources.github.resources.issues]
write_disposition = "merge"
"#;
    insta::assert_snapshot!(report(text), @r##"
    error: destination.synchronous: `ful` is not one of the accepted values
     --> config.toml:3:15
      |
    3 | synchronous = "ful"
      |               ^^^^^
      |
      = help: did you mean `full`? accepted: `full`, `normal`

    error: sources.github.client.base_ulr: unknown key `base_ulr`
     --> config.toml:6:1
      |
    6 | base_ulr = "https://api.github.com/"
      | ^^^^^^^^
      |
      = help: did you mean `base_url`?

    error: sources.github.client.paginator.type: `cursr` is not one of the accepted values
     --> config.toml:7:22
      |
    7 | paginator = { type = "cursr" }
      |                      ^^^^^^^
      |
      = help: did you mean `cursor`? accepted: `single_page`, `header_link`, `json_link`, `header_cursor`, `cursor`, `offset`, `page_number`, `auto`

    3 problems in config.toml
    "##);
}

#[test]
fn a_report_of_a_secret_in_the_file() {
    let text = format!("{CLIENT}auth = {{ type = \"bearer\", token = \"ghp_abcdef\" }}\n");
    insta::assert_snapshot!(report(&text), @r##"
    error: sources.s.client.auth.token: a secret is never written in the file
     --> config.toml:3:35
      |
    3 | auth = { type = "bearer", token = ************ }
      |                                   ^^^^^^^^^^^^
      |
      = help: write `${cred:NAME}`, `${file:/path}` or `${env:NAME}` instead

    1 problem in config.toml
    "##);
}

#[test]
fn a_report_of_broken_toml() {
    insta::assert_snapshot!(report("[pipeline\nconcurrency = \n\n[web]\na = 1\na = 2\n"), @r##"
    error: not valid TOML: unclosed table, expected `]`
     --> config.toml:1:10
      |
    1 | [pipeline
      |          ^

    error: not valid TOML: duplicate key
     --> config.toml:6:1
      |
    6 | a = 2
      | ^

    2 problems in config.toml
    "##);
}

#[test]
fn a_report_of_a_broken_expression() {
    let text = format!(
        "{CLIENT}[sources.s.resources.r]\nresponse_actions = [\n  {{ status_code = 404, action = \"ignore\" }},\n  {{ when = \"bdoy.error\", action = \"fial\" }},\n]\n"
    );
    insta::assert_snapshot!(report(&text), @r##"
    error: sources.s.resources.r.response_actions[1].when: there is no `bdoy` here
     --> config.toml:6:13
      |
    6 |   { when = "bdoy.error", action = "fial" },
      |             ^^^^
      |
      = help: did you mean `body`?

    error: sources.s.resources.r.response_actions[1].action: `fial` is not one of the accepted values
     --> config.toml:6:35
      |
    6 |   { when = "bdoy.error", action = "fial" },
      |                                   ^^^^^^
      |
      = help: did you mean `fail`? accepted: `retry`, `fail`, `ignore`, `stop`, `rate_limited`

    2 problems in config.toml
    "##);
}

#[test]
fn a_report_of_the_environment() {
    let env = Env::with([("HIGHWATER_PIPELINE__CONCURENCY", "3"), ("HIGHWATER_SOURCES__S__CLIENT__TIMEOUT", "5")]);
    let report = load_text("config.toml", CLIENT, &env).unwrap_err();
    insta::assert_snapshot!(report.to_string(), @r##"
    error: pipeline: this variable overrides nothing: there is no `concurency`
     |
     = note: set by the environment variable HIGHWATER_PIPELINE__CONCURENCY
     = help: did you mean `concurrency`? there are: `concurrency`, `channel_pages`, `channel_bytes`, `batch_rows`, `batch_bytes`, `batch_age`, `on_error`, `shutdown_grace`

    error: sources.s.client.timeout: expected a duration such as "30s"
     |
     = note: set by the environment variable HIGHWATER_SOURCES__S__CLIENT__TIMEOUT

    2 problems in config.toml
    "##);
}

#[test]
fn every_problem_of_a_file_is_reported_at_its_line_and_column() {
    let text = r#"
[pipeline]
concurrency = 0
batch_age = "x"
"é" = { "ü" = 1 }

[sources.a.client]
base_url = "https://a.test"
timeout = "${env:NONE}"

[sources.a.resources.r]
write_dispositon = "merge"

[sources.b.client]
base_url = "https://b.test/"

[sources.b.resources.r]
params = { "é" = "é", b = "${env:NONE}" }
path = "https://c.test/"

[sources.b.resources.q]
csv = { delimiter = ";" }
"#;
    let report = load(text).unwrap_err();
    let list = serde_json::to_value(&report).unwrap();
    let places: Vec<_> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|problem| format!("{} {}:{}", problem["path"].as_str().unwrap(), problem["line"], problem["column"]))
        .collect();
    assert_eq!(
        places,
        [
            "pipeline.concurrency 3:15",
            "pipeline.batch_age 4:13",
            "pipeline.\"é\" 5:1",
            "sources.a.client.timeout 9:11",
            "sources.a.resources.r.write_dispositon 12:1",
            "sources.b.resources.r.params.b 18:27",
            "sources.b.resources.r.path 19:8",
            "sources.b.resources.q.csv 22:7",
        ]
    );
    let shown = report.to_string();
    for place in &places {
        let (_, place) = place.split_once(' ').unwrap();
        assert!(shown.contains(&format!("--> config.toml:{place}\n")), "{place}\n{shown}");
    }
    assert!(shown.ends_with("8 problems in config.toml"), "{shown}");
}

#[test]
fn colours_change_nothing_but_the_colours() {
    let report = load("x = 1").unwrap_err();
    let colored = report.with_colors();
    assert!(colored.contains("\u{1b}["));
    assert!(!report.to_string().contains('\u{1b}'));
}

#[test]
fn a_file_that_cannot_be_read_is_a_report_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    let read = || problems(crate::config::load(&path, &Env::default()));
    assert!(read()[0].starts_with(": cannot read "), "{:?}", read());
    std::fs::write(&path, b"a = 1\nb = \"\xff\"").unwrap();
    assert!(read()[0].contains("is not UTF-8 text: see line 2"), "{:?}", read());
    std::fs::write(&path, "").unwrap();
    assert_eq!(crate::config::load(&path, &Env::default()).unwrap().path, path);
}
