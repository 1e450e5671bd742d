//! `HIGHWATER_…` variables.

use super::{CLIENT, Env, Loaded, Report, problems};
use crate::config::load_text;
use crate::template::JsonTemplate;

fn with(extra: &str, variables: &[(&str, &str)]) -> Result<Loaded, Report> {
    let text = format!("{CLIENT}{extra}[sources.s.resources.my-list]\nconcurrency = 1\n");
    load_text("config.toml", &text, &Env::with(variables.iter().copied()))
}

fn set(variable: &str, value: &str) -> Loaded {
    let extra = "params = { n = 1, \"X-Y\" = \"a\" }\n[sources.s.resources.other]\nmethod = \"POST\"\njson = { deep = { size = 1 } }\nresponse_actions = [{ status_code = 404, action = \"ignore\" }]\n";
    with(extra, &[(variable, value)]).unwrap_or_else(|report| panic!("{report}"))
}

#[test]
fn a_variable_overrides_a_scalar_of_the_file_or_a_default() {
    let source = |variable, value| set(variable, value).config.sources["s"].clone();
    assert_eq!(set("HIGHWATER_PIPELINE__CONCURRENCY", "3").config.pipeline.concurrency, 3);
    assert_eq!(set("HIGHWATER_DESTINATION__PATH", "/x.db").config.destination.path.to_str(), Some("/x.db"));
    assert_eq!(source("HIGHWATER_SOURCES__S__CLIENT__TIMEOUT", "5s").client.timeout.as_secs(), 5);
    assert!(!source("HIGHWATER_SOURCES__S__ENABLED", "false").enabled);
    assert_eq!(source("HIGHWATER_SOURCES__S__CLIENT__RETRY__MAX_ATTEMPTS", "2").client.retry.max_attempts, 2);
    assert_eq!(source("HIGHWATER_SOURCES__S__CLIENT__PARAMS__N", "7").client.params["n"].expose(), "7");
    assert_eq!(source("HIGHWATER_SOURCES__S__CLIENT__PARAMS__X_Y", "b").client.params["X-Y"].expose(), "b");
    assert_eq!(
        source("HIGHWATER_SOURCES__s__resources__my_list__table", "t").resources["my-list"].table.as_deref(),
        Some("t")
    );
    let actions = source("HIGHWATER_SOURCES__S__RESOURCES__OTHER__RESPONSE_ACTIONS__0__STATUS_CODE", "5xx");
    assert!(actions.resources["other"].response_actions[0].status_code.as_ref().unwrap().contains(503));
    let json = source("HIGHWATER_SOURCES__S__RESOURCES__OTHER__JSON__DEEP__SIZE", "9").resources["other"].json.clone();
    assert_eq!(json.as_ref().map(JsonTemplate::expose), Some(serde_json::json!({ "deep": { "size": 9 } })));
}

#[test]
fn a_variable_overrides_a_list_with_a_list() {
    const KEY: &str = "HIGHWATER_SOURCES__S__RESOURCES__MY_LIST__PRIMARY_KEY";
    let columns = |value| {
        let loaded = with("", &[(KEY, value)])?;
        Ok(loaded.config.sources["s"].resources["my-list"].primary_key.clone().unwrap().0)
    };
    assert_eq!(columns("id").unwrap(), ["id"]);
    assert_eq!(columns(r#" ["org", 'id'] "#).unwrap(), ["org", "id"]);
    for wrong in ["[id]", "[\"a\"", "[\"a\"]\nb = 1", "[1]"] {
        let report: Report = columns(wrong).unwrap_err();
        assert!(report.to_string().contains(KEY), "{report}");
    }
}

#[test]
fn a_secret_may_come_from_a_variable_and_stays_one() {
    let auth = "auth = { type = \"bearer\", token = \"${env:NONE}\" }\n";
    let loaded = with(auth, &[("HIGHWATER_SOURCES__S__CLIENT__AUTH__TOKEN", "canary${env:X}")]).unwrap();
    assert!(!format!("{loaded:?}").contains("canary"));
    assert!(loaded.hints[0].contains("HIGHWATER_SOURCES__S__CLIENT__AUTH__TOKEN"), "{:?}", loaded.hints);
    let Some(crate::rest::auth::Auth::Bearer { token }) = &loaded.config.sources["s"].client.auth else { panic!() };
    assert_eq!(token.expose(), "canary${env:X}", "a variable says what it says");
}

#[test]
fn a_variable_that_overrides_nothing_is_an_error() {
    for (variable, value, expected) in [
        (
            "HIGHWATER_PIPELINE__CONCURENCY",
            "3",
            "pipeline: this variable overrides nothing: there is no `concurency` (did you mean `concurrency`?",
        ),
        ("HIGHWATER_SOURCES__T__ENABLED", "true", "sources: this variable overrides nothing: there is no `t`"),
        ("HIGHWATER_NONSENSE", "", ": this variable overrides nothing: there is no `nonsense`"),
        ("HIGHWATER_PIPELINE", "3", "pipeline: a table cannot be overridden as a whole"),
        ("HIGHWATER_PIPELINE__CONCURRENCY", "many", "pipeline.concurrency: expected a whole number"),
        ("HIGHWATER_SOURCES__S__ENABLED", "yes", "sources.s.enabled: expected `true` or `false`"),
        ("HIGHWATER_SOURCES__S__CLIENT__TIMEOUT", "5", "sources.s.client.timeout: expected a duration such as \"30s\""),
        ("HIGHWATER_SOURCES__S__EVERY", "0s", "sources.s.every: must be at least 1s"),
        (
            "HIGHWATER_SOURCES__S__TIMEZONE",
            "Mars",
            "sources.s.timezone: expected a time zone such as \"Europe/Berlin\"",
        ),
        (
            "HIGHWATER_SOURCES__S__CLIENT__AUTH__NOPE",
            "x",
            "sources.s.client.auth: this variable overrides nothing: there is no `nope`",
        ),
        (
            "HIGHWATER_SOURCES__S__CLIENT__BASE_URL__X",
            "5m",
            "sources.s.client.base_url: this variable overrides nothing",
        ),
    ] {
        let result = with("", &[(variable, value)]);
        let shown = result.as_ref().expect_err(variable).to_string();
        assert!(shown.contains(&format!("set by the environment variable {variable}")), "{shown}");
        let found = problems(result);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{variable}: {found:#?}");
    }
}

#[test]
fn variables_for_other_purposes_are_left_alone() {
    let variables = [("HIGHWATER_CONFIG", "x"), ("HIGHWATER_LOG", "debug"), ("HIGHWATER_LOG_FORMAT", "json")];
    with("", &variables).unwrap();
    let auth = "auth = { type = \"bearer\", token = \"${env:HIGHWATER_TOKEN}\" }\n";
    with(auth, &[("HIGHWATER_TOKEN", "x")]).unwrap();
}
