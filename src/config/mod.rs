//! The configuration: one file read into typed options, or a report of everything that is wrong with it.
//!
//! Parse → aliases → environment → `resource_defaults` → placeholders → schema → types → rules across keys. Each
//! step is a file of its own and works on one tree whose values know where they were written. What an option means
//! is said beside the code that it steers.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::destination::DestinationOptions;
use crate::processor::PipelineOptions;
use crate::source::SourceOptions;
use crate::web::WebOptions;

mod aliases;
mod check;
mod defaults;
mod diagnostic;
mod env;
mod mask;
mod overrides;
mod path;
mod placeholders;
mod rules;
mod schema;
pub(crate) mod secret_file;
mod shape;
mod suggest;
#[cfg(test)]
mod tests;
mod tree;
mod typed;

pub use diagnostic::Report;
pub use env::{Env, NotFound, find};
pub use schema::json_schema;

/// The whole of `config.toml`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "highwater configuration")]
pub struct Config {
    /// The SQLite file.
    #[serde(default)]
    pub destination: DestinationOptions,
    /// How much is read at once, how much may wait, when it is committed.
    #[serde(default)]
    pub pipeline: PipelineOptions,
    /// Where the status page is served, and who may act there.
    #[serde(default)]
    pub web: WebOptions,
    /// The APIs to read.
    #[serde(default)]
    pub sources: IndexMap<String, SourceOptions>,
}

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The options. `resource_defaults` are merged into the resources and are `None` here; a `rate_limit` that only
    /// names a `budget` has the settings of that budget.
    pub config: Config,
    /// The file.
    pub path: PathBuf,
    /// What is worth saying although it is not wrong, a line each.
    pub hints: Vec<String>,
    /// Its text, with stars in the place of everything that may be a secret.
    pub text: String,
}

/// The largest file that is read; a longer one is not a configuration.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// Reads and checks the configuration.
///
/// # Errors
/// Everything that is wrong with it. Nothing may start with a broken configuration.
pub fn load(path: &Path, env: &Env) -> Result<Loaded, Report> {
    let name = path.display().to_string();
    let text = read(path).map_err(|reason| Report::about_file(&name, reason))?;
    let mut loaded = load_text(&name, &text, env)?;
    path.clone_into(&mut loaded.path);
    Ok(loaded)
}

/// Checks a configuration that was read before; `name` is the file that reports speak of.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load_text(name: &str, text: &str, env: &Env) -> Result<Loaded, Report> {
    let mut findings = diagnostic::Findings::default();
    let mut tree = tree::parse(text, &mut findings);
    findings.masked = mask::in_tree(&tree);
    if !findings.problems.is_empty() {
        findings.masked.extend(mask::in_text(text));
        return Err(findings.into_report(name, text));
    }
    aliases::rename(&mut tree, &mut findings);
    overrides::apply(&mut tree, text, env, &mut findings);
    defaults::merge(&mut tree);
    placeholders::fill(&mut tree, env, &mut findings);
    check::check(&tree, &mut findings);
    defaults::remove(&mut tree);
    let mut config = typed::config(&tree, &mut findings);
    if let Some(config) = &mut config {
        rules::check(config, &tree, &mut findings);
    }
    if let Some(config) = &mut config {
        in_state_directory(&mut config.destination.path, env);
    }
    match config {
        Some(config) if findings.problems.is_empty() => {
            let text = mask::masked(text, &findings.masked);
            Ok(Loaded { config, path: name.into(), hints: findings.hints, text })
        }
        _ => Err(findings.into_report(name, text)),
    }
}

/// A relative database belongs into the service's own folder, where systemd gives one (systemd.exec(5)); of several
/// the first counts.
fn in_state_directory(path: &mut PathBuf, env: &Env) {
    let first = env.var("STATE_DIRECTORY").and_then(|folders| folders.split(':').next());
    if let Some(folder) = first {
        // Joining keeps an absolute path as it is.
        *path = Path::new(folder).join(&*path);
    }
}

fn read(path: &Path) -> Result<String, String> {
    use std::io::Read;
    let cannot = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(cannot)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("{} is larger than 8MiB: not a configuration", path.display()));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..valid].iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("{} is not UTF-8 text: see line {line}", path.display())
    })
}
