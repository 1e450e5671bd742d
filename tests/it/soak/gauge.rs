//! What a process takes: memory, file descriptors, threads, and the WAL of its database.

use std::path::Path;

/// A look at a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) rss_kib: u64,
    pub(crate) fds: u64,
    pub(crate) threads: u64,
    pub(crate) wal_kib: u64,
}

impl Sample {
    pub(crate) fn take(process: u32, database: &Path) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the process has not ended");
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        };
        let wal = std::fs::metadata(database.with_extension("db-wal"));
        Self {
            rss_kib: number("VmRSS:"),
            fds: std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().count() as u64,
            threads: number("Threads:"),
            wal_kib: wal.map_or(0, |wal| wal.len() / 1024),
        }
    }
}

/// What is looked at, and by how much its median may be higher in the last quarter than in the second.
pub(super) struct Measure {
    pub(super) name: &'static str,
    pub(super) of: fn(&Sample) -> u64,
    pub(super) slack: u64,
    /// In the short form, in which connections are still being made; none where caches are still being filled.
    pub(super) short_slack: Option<u64>,
}

/// Memory fills SQLite's page caches (16 MiB of the writer, 2 MiB of the status page) as the file grows. Connections to
/// the API come and go with its faults. A WAL is as long as between two checkpoints.
pub(super) const MEASURES: [Measure; 4] = [
    Measure { name: "RSS, KiB", of: |sample| sample.rss_kib, slack: 8 << 10, short_slack: None },
    Measure { name: "file descriptors", of: |sample| sample.fds, slack: 12, short_slack: Some(40) },
    Measure { name: "threads", of: |sample| sample.threads, slack: 4, short_slack: Some(8) },
    Measure { name: "WAL, KiB", of: |sample| sample.wal_kib, slack: 16 << 10, short_slack: None },
];

impl Measure {
    /// The median of each quarter of the samples, and the most of all.
    pub(super) fn quarters(&self, samples: &[Sample]) -> ([u64; 4], u64) {
        let median = |quarter: usize| {
            let part = &samples[quarter * samples.len() / 4..(quarter + 1) * samples.len() / 4];
            let mut values: Vec<u64> = part.iter().map(self.of).collect();
            values.sort_unstable();
            values.get(values.len() / 2).copied().unwrap_or(0)
        };
        ([0, 1, 2, 3].map(median), samples.iter().map(self.of).max().unwrap_or(0))
    }
}
