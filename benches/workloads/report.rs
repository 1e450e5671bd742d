//! What was measured: as a table to read, and as JSON that a later run can be compared with.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Result;

/// All figures of one call.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Of the JSON.
    pub(crate) version: u32,
    /// `highwater --version`.
    pub(crate) highwater: String,
    pub(crate) date: String,
    pub(crate) machine: String,
    /// Fewer pages and shorter waits than the workloads have.
    pub(crate) short: bool,
    pub(crate) figures: BTreeMap<Key, Figure>,
}

/// The number of a workload, and which of its figures.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct Key(pub u32, pub String);

impl From<Key> for String {
    fn from(key: Key) -> Self {
        format!("W{} {}", key.0, key.1)
    }
}

impl TryFrom<String> for Key {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        let parsed = text.strip_prefix('W').and_then(|rest| rest.split_once(' '));
        let (number, name) = parsed.ok_or_else(|| format!("{text:?} is no figure of a workload"))?;
        Ok(Self(number.parse().map_err(|_| format!("{text:?} has no number"))?, name.to_owned()))
    }
}

/// One figure, measured several times.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// `s`, `MiB`, `x` for ratios, …
    pub(crate) unit: String,
    /// As measured, in order.
    pub(crate) values: Vec<f64>,
    /// What it has to be.
    pub(crate) target: Option<Target>,
}

/// What a figure has to be.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    AtMost(f64),
    AtLeast(f64),
}

impl Figure {
    pub(crate) fn median(&self) -> f64 {
        let mut values = self.values.clone();
        values.sort_by(f64::total_cmp);
        match values.len() {
            0 => f64::NAN,
            n if n % 2 == 0 => f64::midpoint(values[n / 2 - 1], values[n / 2]),
            n => values[n / 2],
        }
    }

    fn is_met(&self) -> Option<bool> {
        Some(match self.target? {
            Target::AtMost(limit) => self.median() <= limit,
            Target::AtLeast(limit) => self.median() >= limit,
        })
    }
}

impl Report {
    /// Adds a value to a figure.
    pub(crate) fn add(&mut self, workload: u32, name: &str, unit: &str, value: f64, target: Option<Target>) {
        let figure = self.figures.entry(Key(workload, name.to_owned()));
        let figure = figure.or_insert_with(|| Figure { unit: unit.to_owned(), values: Vec::new(), target });
        figure.values.push(value);
    }

    /// As a table in Markdown; beside each median that of an earlier run.
    pub(crate) fn table(&self, earlier: Option<&Self>) -> Result<String> {
        let mut text = format!("{}, {}, {}\n\n", self.date, self.highwater, self.machine);
        let before = if earlier.is_some() { " before |" } else { "" };
        writeln!(text, "| | figure | median |{before} least to most | target | |")?;
        writeln!(text, "|---|---|---|{}---|---|---|", if earlier.is_some() { "---|" } else { "" })?;
        for (key, figure) in &self.figures {
            let values = || figure.values.iter().copied();
            let (least, most) = (values().fold(f64::MAX, f64::min), values().fold(f64::MIN, f64::max));
            let target = match figure.target {
                Some(Target::AtMost(limit)) => format!("≤ {}", plain(limit)),
                Some(Target::AtLeast(limit)) => format!("≥ {}", plain(limit)),
                None => String::new(),
            };
            let met = figure.is_met().map_or("", |met| if met { "met" } else { "**missed**" });
            let was = earlier.map(|earlier| match earlier.figures.get(key) {
                Some(was) => format!(" {} |", plain(was.median())),
                None => " |".to_owned(),
            });
            writeln!(
                text,
                "| W{} | {} | {} {} |{} {} to {} | {target} | {met} |",
                key.0,
                key.1,
                plain(figure.median()),
                figure.unit,
                was.unwrap_or_default(),
                plain(least),
                plain(most),
            )?;
        }
        Ok(text)
    }

    /// Reads the JSON of an earlier run.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?)
    }
}

/// Three digits that mean something.
fn plain(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

/// What the figures were measured on.
pub(crate) fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("", |of| of.1);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = read("/proc/loadavg");
    format!(
        "Linux {}, {cores} cores ({model}), load {} at the start",
        read("/proc/sys/kernel/osrelease").trim(),
        load.split(' ').next().unwrap_or_default()
    )
}
