//! Records that were set aside, tried again: they come out of the file and not from the API, a page for each page that
//! they came with.

use std::sync::{Arc, OnceLock};

use tokio::sync::mpsc::Sender;

use super::report::ReadEnd;
use super::{PlannedResource, Shared};
use crate::destination::{DbError, Delivery, SetAsidePage};
use crate::page::{Checkpoint, Page, PartitionRead, Run, Slot, StopReason, Validity, WriteDisposition};
use crate::progress::Activity;
use crate::source::{self, RowsAgain};
use crate::tasks;

/// Tries every record of a resource again that was set aside when it was to become a row. A record is tried behind all
/// that are newer where one row is to be equal to the last of them, and else in the order in which they came.
pub(super) async fn retry(
    shared: &Shared,
    planned: &PlannedResource,
    run: &Arc<Run>,
    sender: &Sender<Delivery>,
) -> ReadEnd {
    planned.progress.set(Activity::Reading);
    match send_pages(shared, planned, run, sender).await {
        Ok(()) if run.stop.is_cancelled() => ReadEnd::interrupted(Some(Arc::clone(run))),
        Ok(()) => ReadEnd::complete(run, StopReason::QuarantineRetried),
        Err(error) => ReadEnd { run: Some(Arc::clone(run)), ..ReadEnd::from_db(error) },
    }
}

async fn send_pages(
    shared: &Shared,
    planned: &PlannedResource,
    run: &Arc<Run>,
    sender: &Sender<Delivery>,
) -> Result<(), DbError> {
    let (db, resource) = (&shared.core.db, &planned.resource);
    let newest_first = resource.target.disposition == WriteDisposition::Merge;
    let since = db.read_since(planned.id(), resource.incremental.is_some(), resource.has_partial_parent).await?;
    let mut after = None;
    while !run.stop.is_cancelled() {
        let Some(set_aside) = db.set_aside(planned.id(), since, after, newest_first).await? else { break };
        after = set_aside.records.last().map(|(record, _)| record.quarantine_id);
        let page = page(planned, run, set_aside);
        planned.progress.pages_read.add(1);
        if sender.send(Delivery::Page(Box::new(page))).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// The records as the page that they came with.
fn page(planned: &PlannedResource, run: &Arc<Run>, came_with: SetAsidePage) -> Page {
    let texts: Vec<&str> = came_with.records.iter().map(|(_, text)| text.as_str()).collect();
    let RowsAgain { rows, of, children } =
        tasks::busy(|| source::rows_again(&planned.resource, run, &came_with.partition, &texts));
    // No read of the API: below zero, where none has its number, the page that it repeats.
    let read_id = came_with.records.first().map(|(record, _)| OnceLock::from(-record.page_id)).unwrap_or_default();
    let read = PartitionRead { partition: came_with.partition.into(), read_id, ..PartitionRead::default() };
    Page {
        run: Arc::clone(run),
        read: Arc::new(read),
        set_aside: of.into_iter().map(|record| came_with.records[record].0).collect(),
        bytes: texts.iter().map(|text| text.len() as u64).sum(),
        position: came_with.position,
        url: came_with.url,
        status: came_with.status,
        fetched_at: came_with.fetched_at,
        duration_ms: 0,
        attempts: 0,
        rows,
        children,
        boundary: Vec::new(),
        forget_below: None,
        covers: None,
        checkpoint: Checkpoint::default(),
        end: None,
        ends_pass: false,
        validity: Validity::Unknown,
        requests: 0,
        slot: Slot::default(),
    }
}
