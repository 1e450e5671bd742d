//! A clock on the wall that is set while a daemon runs.

#![expect(clippy::print_stdout, reason = "what cannot be done here is said")]

use std::path::PathBuf;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use rustix::process::Signal;

use super::hands::{stop, ten_records};
use crate::pages::until;
use crate::support::{Api, Running, Workspace};

/// The daily one runs at one o'clock; the first daemon starts at noon.
const CONFIG: &str = r#"
[web]
listen = "off"
[sources.shop.client]
base_url = "BASE"
paginator = { type = "single_page" }
[sources.shop.resources.pulse]
primary_key = "id"
every = "1s"
[sources.shop.resources.hour]
primary_key = "id"
every = "1h"
[sources.shop.resources.daily]
primary_key = "id"
schedule = "0 13 * * *"
"#;

const HOUR: i64 = 3_600;

/// When `pulse` has run so often, what is due has begun as well: the first may have begun before the clock was set.
const PULSES: usize = 2;

/// The library that a process asks for the time, if it is there.
fn faketime() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().filter_map(Result::ok);
    let found = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.exists());
    if found.is_none() {
        println!("skipped: libfaketime is not installed");
    }
    found
}

/// A daemon whose clock can be set, and what it asked for.
struct Clockwork {
    library: PathBuf,
    api: Api,
    workspace: Workspace,
    daemon: Running,
    /// What its clock showed at the start.
    noon: Timestamp,
}

impl Clockwork {
    fn start(library: PathBuf) -> Self {
        let api = Api::start(ten_records);
        let workspace = Workspace::with_config(api.address, CONFIG);
        let noon = Timestamp::now().to_zoned(TimeZone::UTC).start_of_day().unwrap().timestamp() + 12.hours();
        set(&workspace, noon);
        let daemon = serve(&workspace, &library);
        Self { library, api, workspace, daemon, noon }
    }

    /// Sets the clock to so many seconds after noon.
    fn set(&self, seconds: i64) {
        set(&self.workspace, self.noon + SignedDuration::from_secs(seconds));
    }

    fn reload(&mut self) {
        self.daemon.signal(Signal::HUP);
        self.daemon.wait_for("took over the configuration");
    }

    fn restart(self) -> Self {
        stop(self.daemon);
        let daemon = serve(&self.workspace, &self.library);
        Self { daemon, ..self }
    }

    fn asked_for(&self, path: &str) -> usize {
        self.api.seen().iter().filter(|request| request.path() == path).count()
    }

    /// Waits until it has had the time to look at its clock; so often `hour` and `daily` have run then.
    fn expect(&self, runs: (usize, usize), when: &str) {
        let before = self.asked_for("/pulse");
        until(when, || self.asked_for("/pulse") >= before + PULSES);
        until(when, || self.asked_for("/hour") >= runs.0 && self.asked_for("/daily") >= runs.1);
        assert_eq!((self.asked_for("/hour"), self.asked_for("/daily")), runs, "{when}");
    }
}

/// Has the clock show another time, and go on from there.
fn set(workspace: &Workspace, to: Timestamp) {
    let by = to.duration_since(Timestamp::now()).as_secs_f64();
    workspace.write("clock.next", &format!("{by:+.3}\n"));
    std::fs::rename(workspace.path("clock.next"), workspace.path("clock")).unwrap();
}

fn serve(workspace: &Workspace, library: &std::path::Path) -> Running {
    let mut command = workspace.command(&["serve", "-v"]);
    command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", workspace.path("clock"));
    // The file is looked at each time, and the time that passes goes on.
    command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    Running::start(command)
}

#[test]
fn x06_a_clock_that_is_set_under_a_daemon_moves_no_interval_and_what_is_daily_comes_once_a_day() {
    let Some(library) = faketime() else { return };
    let mut clockwork = Clockwork::start(library);
    clockwork.expect((1, 0), "noon");
    clockwork.set(2 * HOUR);
    clockwork.expect((1, 1), "two hours later: what was passed over is made up for");
    clockwork.set(0);
    clockwork.reload();
    clockwork.expect((1, 1), "put back: not a second time, with a reload neither");
    clockwork.set(HOUR - 1);
    clockwork.expect((1, 1), "nor when that time comes again");
    // Not before `hour` ran: a new process knows no other clock than this one.
    clockwork.set(60);
    clockwork = clockwork.restart();
    clockwork.expect((1, 1), "nor after a restart");
    clockwork.set(26 * HOUR);
    clockwork.expect((1, 2), "a day later");
    clockwork.reload();
    clockwork.expect((1, 2), "and a reload");
    clockwork.set(2 * HOUR);
    clockwork.expect((1, 2), "a day back");
    clockwork.set(26 * HOUR);
    clockwork.expect((1, 3), "and its time on that day, which is another one");
    let Clockwork { daemon, workspace, .. } = clockwork;
    stop(daemon);
    workspace.check_books();
    assert_eq!(workspace.column::<String>("SELECT resource || error FROM _hw_runs WHERE outcome = 'failed'"), [""; 0]);
}
