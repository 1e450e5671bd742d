//! What a single run leaves for a textfile collector. Every value belongs to a resource, so that the files of runs over
//! different resources can lie side by side.

use jiff::Timestamp;

use super::family::{self, Family, Format};
use super::{Stored, add_records, flag, labels, number, of_stored, seconds};
use crate::exit::Exit;
use crate::page::ResourceId;
use crate::sync::SyncReport;

/// A run that has ended.
#[derive(Clone, Copy, Debug)]
pub struct LastRun<'a> {
    /// What it was to read.
    pub ids: &'a [ResourceId],
    /// When it ended.
    pub ended: Timestamp,
    /// What became of it; or the exit code of a run that did not come so far.
    pub report: Result<&'a SyncReport, Exit>,
}

/// The metrics of a run as text, in the format that the textfile collector reads. `stored` is what the file knows, where
/// it can be read.
#[must_use]
pub fn of_run(run: LastRun<'_>, stored: Option<&Stored>) -> String {
    let mut ended = Family::gauge("highwater_resource_last_run_timestamp_seconds", "When its last run ended.");
    let mut success = Family::gauge(
        "highwater_resource_last_run_success",
        "Whether its last run read and stored all that it was to read.",
    );
    let mut exit_code = Family::gauge(
        "highwater_resource_last_run_exit_code",
        "The exit code that its last run alone would have given; 0 where it was complete.",
    );
    for id in run.ids {
        let exit = run.exit_of(id);
        ended.add(labels(id), seconds(run.ended));
        success.add(labels(id), flag(exit.is_none()));
        exit_code.add(labels(id), f64::from(exit.map_or(0, Exit::code)));
    }
    let mut families = vec![ended, success, exit_code];
    families.extend(run.report.ok().into_iter().flat_map(of_report));
    if let Some(stored) = stored {
        let ids: Vec<&ResourceId> = run.ids.iter().collect();
        families.extend(of_stored(&ids, stored));
        families.push(of_failures(&ids, stored));
    }
    family::text(families, Format::Plain)
}

impl LastRun<'_> {
    fn exit_of(&self, id: &ResourceId) -> Option<Exit> {
        match self.report {
            Err(exit) => Some(exit),
            // What is not in the report had nothing to do, unless nothing could be stored.
            Ok(report) => match report.resources.iter().find(|resource| resource.id == *id) {
                Some(resource) => resource.exit,
                None => report.exit(),
            },
        }
    }
}

fn of_report(report: &SyncReport) -> [Family; 4] {
    let mut records = Family::gauge(
        "highwater_resource_last_run_records",
        "Records received in its last run, by what became of them.",
    );
    let mut pages = Family::gauge("highwater_resource_last_run_pages", "Pages stored in its last run.");
    let mut requests = Family::gauge("highwater_resource_last_run_requests", "Requests sent in its last run.");
    let mut retries = Family::gauge(
        "highwater_resource_last_run_request_retries",
        "Requests sent again after a failure in its last run.",
    );
    for resource in &report.resources {
        add_records(&mut records, &resource.id, &resource.counts);
        pages.add(labels(&resource.id), number(resource.pages));
        requests.add(labels(&resource.id), number(resource.requests));
        retries.add(labels(&resource.id), number(resource.retries));
    }
    [records, pages, requests, retries]
}

fn of_failures(ids: &[&ResourceId], stored: &Stored) -> Family {
    // The same words as those of a daemon: the files of both may be read by one collector.
    let mut failures = super::consecutive_failures();
    for view in stored.resources.iter().map(|known| &known.view).filter(|view| ids.contains(&&view.id())) {
        failures.add(labels(&view.id()), f64::from(view.failures));
    }
    failures
}
