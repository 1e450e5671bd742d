//! Families of metrics as text, in the two formats that Prometheus reads.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode, encode_registry};
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0, which Prometheus asks for.
    OpenMetrics,
    /// The text format before it (0.0.4), which `promtool`, the textfile collector and `curl` expect.
    Plain,
}

impl Format {
    /// The format that a client wants, by the `Accept` header of its request.
    #[must_use]
    pub fn accepted(accept: Option<&str>) -> Self {
        let ranges = accept.unwrap_or_default().split(',').map(|range| range.split(';').next().unwrap_or_default());
        let mut wanted = ranges.map(str::trim);
        if wanted.any(|range| range.eq_ignore_ascii_case("application/openmetrics-text")) {
            Self::OpenMetrics
        } else {
            Self::Plain
        }
    }

    /// What it is called in the `Content-Type` header.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Label names and values.
pub(super) type Labels = Vec<(&'static str, String)>;

/// The values of one metric.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Family {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    samples: Vec<(Labels, f64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Info,
}

impl Family {
    /// Counts what has happened; `name` ends in `_total`.
    pub(super) fn counter(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: Kind::Counter, samples: Vec::new() }
    }

    /// Says how things are.
    pub(super) fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: Kind::Gauge, samples: Vec::new() }
    }

    /// Says what does not change; `name` ends in `_info`.
    pub(super) fn info(name: &'static str, help: &'static str, labels: Labels) -> Self {
        Self { name, help, kind: Kind::Info, samples: vec![(labels, 1.0)] }
    }

    /// With one more value.
    pub(super) fn with(mut self, labels: Labels, value: f64) -> Self {
        self.add(labels, value);
        self
    }

    /// Adds a value.
    pub(super) fn add(&mut self, labels: Labels, value: f64) {
        self.samples.push((labels, value));
    }

    /// What the crate is told of it. It adds the unit and `_total` by itself for OpenMetrics; the format before has
    /// neither units nor suffixes of its own.
    fn described(&self, format: Format) -> (&'static str, Option<Unit>, MetricType) {
        match (format, self.kind) {
            (Format::Plain, Kind::Counter) => (self.name, None, MetricType::Counter),
            (Format::Plain, Kind::Gauge | Kind::Info) => (self.name, None, MetricType::Gauge),
            (Format::OpenMetrics, Kind::Info) => {
                (self.name.strip_suffix("_info").unwrap_or(self.name), None, MetricType::Info)
            }
            (Format::OpenMetrics, kind) => {
                let name = self.name.strip_suffix("_total").unwrap_or(self.name);
                let kind = if kind == Kind::Counter { MetricType::Counter } else { MetricType::Gauge };
                for unit in [Unit::Seconds, Unit::Bytes] {
                    if let Some(stem) = name.strip_suffix(unit.as_str()).and_then(|stem| stem.strip_suffix('_')) {
                        return (stem, Some(unit), kind);
                    }
                }
                (name, None, kind)
            }
        }
    }
}

/// The families as text.
pub(super) fn text(families: Vec<Family>, format: Format) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Families { families, format }));
    let mut text = String::new();
    let written = match format {
        Format::OpenMetrics => encode(&mut text, &registry),
        Format::Plain => encode_registry(&mut text, &registry),
    };
    written.expect("a string takes everything");
    text
}

#[derive(Debug)]
struct Families {
    families: Vec<Family>,
    format: Format,
}

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in &self.families {
            let (name, unit, kind) = family.described(self.format);
            let mut metric = encoder.encode_descriptor(name, family.help, unit.as_ref(), kind)?;
            for (labels, value) in &family.samples {
                match (self.format, family.kind) {
                    (Format::OpenMetrics, Kind::Info) => metric.encode_info(labels)?,
                    (Format::Plain, _) | (_, Kind::Gauge) if labels.is_empty() => metric.encode_gauge(value)?,
                    (Format::Plain, _) | (_, Kind::Gauge) => metric.encode_family(labels)?.encode_gauge(value)?,
                    (_, Kind::Counter) if labels.is_empty() => count(&mut metric, value)?,
                    (_, Kind::Counter) => count(&mut metric.encode_family(labels)?, value)?,
                }
            }
        }
        Ok(())
    }
}

fn count(metric: &mut MetricEncoder<'_>, value: &f64) -> fmt::Result {
    metric.encode_counter::<Labels, f64, f64>(value, None)
}

#[cfg(test)]
mod tests {
    use super::{Family, Format, text};

    fn families() -> Vec<Family> {
        let labels = || vec![("source", "a\"b\\c\nd".to_owned())];
        vec![
            Family::info("x_build_info", "The program.", vec![("version", "1.2".to_owned())]),
            Family::counter("x_received_bytes_total", "Bytes.").with(labels(), 3.0),
            Family::counter("x_runs_total", "Runs.").with(Vec::new(), 9e15),
            Family::gauge("x_start_time_seconds", "Start.").with(Vec::new(), 1_795_375_000.25),
            Family::gauge("x_rows", "Rows.").with(labels(), 0.0).with(Vec::new(), 1.0),
        ]
    }

    #[test]
    fn both_formats_say_the_same_each_in_its_own_words() {
        assert_eq!(
            text(families(), Format::OpenMetrics),
            r#"# HELP x_build The program.
# TYPE x_build info
x_build_info{version="1.2"} 1
# HELP x_received_bytes Bytes.
# TYPE x_received_bytes counter
# UNIT x_received_bytes bytes
x_received_bytes_total{source="a\"b\\c\nd"} 3.0
# HELP x_runs Runs.
# TYPE x_runs counter
x_runs_total 9000000000000000.0
# HELP x_start_time_seconds Start.
# TYPE x_start_time_seconds gauge
# UNIT x_start_time_seconds seconds
x_start_time_seconds 1795375000.25
# HELP x_rows Rows.
# TYPE x_rows gauge
x_rows{source="a\"b\\c\nd"} 0.0
x_rows 1.0
# EOF
"#
        );
        assert_eq!(
            text(families(), Format::Plain),
            r#"# HELP x_build_info The program.
# TYPE x_build_info gauge
x_build_info{version="1.2"} 1.0
# HELP x_received_bytes_total Bytes.
# TYPE x_received_bytes_total counter
x_received_bytes_total{source="a\"b\\c\nd"} 3.0
# HELP x_runs_total Runs.
# TYPE x_runs_total counter
x_runs_total 9000000000000000.0
# HELP x_start_time_seconds Start.
# TYPE x_start_time_seconds gauge
x_start_time_seconds 1795375000.25
# HELP x_rows Rows.
# TYPE x_rows gauge
x_rows{source="a\"b\\c\nd"} 0.0
x_rows 1.0
"#
        );
    }

    #[test]
    fn openmetrics_is_for_those_who_ask_for_it() {
        for (accept, format) in [
            (None, Format::Plain),
            (Some("*/*"), Format::Plain),
            (Some("text/plain;version=0.0.4"), Format::Plain),
            (Some("text/html, application/openmetrics-textual"), Format::Plain),
            (Some("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"), Format::OpenMetrics),
            (Some("text/plain;q=0.1, application/OpenMetrics-Text; version=0.0.1"), Format::OpenMetrics),
        ] {
            assert_eq!(Format::accepted(accept), format, "{accept:?}");
        }
    }
}
