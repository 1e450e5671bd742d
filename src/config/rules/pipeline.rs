//! Rules for `[pipeline]` and `[destination]`.

use super::super::Config;
use super::super::path::Path;
use super::Rules;
use crate::units::{ByteSize, Timespan};

const HOUR: Timespan = Timespan::secs(60 * 60);
const KIB: ByteSize = ByteSize(1 << 10);
const GIB: ByteSize = ByteSize(1 << 30);

pub(super) fn check(config: &Config, rules: &mut Rules<'_>) {
    let at = |key: &str| Path::of(&["pipeline", key]);
    let pipeline = &config.pipeline;
    // Below one mebibyte a single ordinary page would not pass.
    size_within(rules, &at("channel_bytes"), pipeline.channel_bytes, ByteSize::mebi(1), ByteSize(64 << 30));
    size_within(rules, &at("batch_bytes"), pipeline.batch_bytes, KIB, GIB);
    if pipeline.batch_rows > 10_000_000 {
        rules.refuse(&at("batch_rows"), "must be at most 10000000: a batch is one transaction");
    }
    if pipeline.batch_age > HOUR {
        rules.refuse(&at("batch_age"), "must be at most 1h: until then nothing of the batch is safe");
    }
    if pipeline.batch_age.is_zero() {
        rules.refuse(&at("batch_age"), "must be more than 0s");
    }
    let path = Path::of(&["destination", "path"]);
    let text = config.destination.path.to_string_lossy();
    if text == ":memory:" || text.starts_with("file:") || text.ends_with('/') || text.contains('\0') {
        rules.refuse(&path, "must be the path of a file");
    }
    let path = Path::of(&["destination", "busy_timeout"]);
    if config.destination.busy_timeout.is_zero() {
        rules.refuse(&path, "must be more than 0s");
    }
    // SQLite counts milliseconds in 32 bits, and nobody waits that long for another program.
    at_most(rules, &path, config.destination.busy_timeout, HOUR);
    at_most(rules, &at("shutdown_grace"), pipeline.shutdown_grace, HOUR);
}

pub(super) fn at_most(rules: &mut Rules<'_>, path: &Path, time: Timespan, max: Timespan) {
    if time > max {
        rules.refuse(path, format!("must be at most {max}"));
    }
}

pub(super) fn size_within(rules: &mut Rules<'_>, path: &Path, size: ByteSize, min: ByteSize, max: ByteSize) {
    if size < min || size > max {
        rules.refuse(path, format!("must be between {min} and {max}"));
    }
}
