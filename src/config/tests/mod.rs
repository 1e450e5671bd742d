//! The whole way: from text to options, or to the report.

use super::{Env, Loaded, Report, load_text};

mod bodies;
mod example;
mod fuzz;
mod keys;
mod overrides;
mod reports;
mod rules;
mod secrets;

/// A source with a resource, to which a test adds what it is about.
const CLIENT: &str = "[sources.s.client]\nbase_url = \"https://api.test/\"\n";

fn load(text: &str) -> Result<Loaded, Report> {
    load_text("config.toml", text, &Env::default())
}

fn loaded(text: &str) -> Loaded {
    load(text).unwrap_or_else(|report| panic!("{report}"))
}

/// What `--json` prints, as `path: message (help)` in a line each.
fn problems(result: Result<Loaded, Report>) -> Vec<String> {
    let report = result.expect_err("a report");
    let list = serde_json::to_value(&report).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let line = |problem: &serde_json::Value| {
        format!("{}: {} ({})", text(&problem["path"]), text(&problem["message"]), text(&problem["help"]))
    };
    list.as_array().unwrap().iter().map(line).collect()
}
