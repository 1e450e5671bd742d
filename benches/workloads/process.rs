//! Runs of whole programs, measured from outside.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::Result;

/// What a program took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Took {
    /// From its start to its end, in seconds.
    pub(crate) seconds: f64,
    /// Of the processor, in seconds, its own and the kernel's for it.
    pub(crate) cpu_seconds: f64,
    /// The most memory it held, in MiB.
    pub(crate) peak_mib: f64,
    /// What it gave to the kernel to be written, files and sockets, in MB.
    pub(crate) written_mb: f64,
}

/// The binary that is measured.
pub(crate) fn highwater() -> String {
    std::env::var("HIGHWATER").unwrap_or_else(|_| env!("CARGO_BIN_EXE_highwater").to_owned())
}

/// The binary in a folder with a `config.toml`; nothing of the caller's environment changes what it does.
pub(crate) fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(highwater());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HIGHWATER")) {
        command.env_remove(name);
    }
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    command
}

/// Runs a program to its end, which must be a good one.
pub(crate) fn run(command: &mut Command) -> Result<Took> {
    let started = Instant::now();
    let mut child = command.spawn()?;
    let pid = Pid::from_child(&child);
    let ended = AtomicBool::new(false);
    let (seconds, mut took) = std::thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let mut last = Took::default();
            while !ended.load(Ordering::Relaxed) {
                // The kernel keeps the high-water marks itself: the last look before the end is enough.
                last = look(&child).unwrap_or(last);
                std::thread::park_timeout(Duration::from_millis(5));
            }
            last
        });
        // Not reaped yet: what it used of the processor can still be read.
        let waited = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        let seconds = started.elapsed().as_secs_f64();
        ended.store(true, Ordering::Relaxed);
        sampler.thread().unpark();
        waited.map(|_| (seconds, sampler.join().unwrap_or_default()))
    })?;
    took.seconds = seconds;
    took.cpu_seconds = cpu_seconds(&child).unwrap_or(0.0);
    let status = child.wait()?;
    match status.success() {
        true => Ok(took),
        false => Err(format!("{} ended with {status}", highwater()).into()),
    }
}

/// What a running program has taken so far. None when it has ended.
pub(crate) fn look(child: &Child) -> Option<Took> {
    let peak_mib = number(child, "status", "VmHWM:")? / 1024.0;
    let written_mb = number(child, "io", "wchar:")? / 1e6;
    Some(Took { peak_mib, written_mb, cpu_seconds: cpu_seconds(child)?, seconds: 0.0 })
}

/// What a running program holds now, in MiB.
pub(crate) fn memory_mib(child: &Child) -> Option<f64> {
    Some(number(child, "status", "VmRSS:")? / 1024.0)
}

/// A line of a file in `/proc` about a program.
fn number(child: &Child, file: &str, name: &str) -> Option<f64> {
    let text = std::fs::read_to_string(format!("/proc/{}/{file}", child.id())).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

fn cpu_seconds(child: &Child) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).ok()?;
    // After the name, which may hold anything: state, ppid, …; the 12th and 13th are the ticks of both kinds.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let ticks = fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?;
    Some(ticks / rustix::param::clock_ticks_per_second() as f64)
}
