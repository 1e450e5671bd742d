//! One partition of a resource: read from where its last read stopped, or from the beginning.

use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;
use jiff::Timestamp;
use tokio::sync::mpsc::Sender;

use super::course::Course;
use super::report::{ReadEnd, end_of};
use super::{PlannedResource, Shared};
use crate::destination::{Boundary, DbError, Delivery, Outcome, PartitionFailed, StoredPartition};
use crate::exit::Exit;
use crate::page::{PartitionRead, Run, WriteDisposition};
use crate::progress::Activity;
use crate::source::cursor::{self, Start, Stored};
use crate::source::incremental::{CursorError, CursorValue, Incremental, Known, RowOrder, Track, Window};
use crate::source::{self, PartitionValues, Read, SourceError, SourceErrorKind, WalkError, parent_fields, place_of};

/// Why an append resource is read no more.
const UNSORTED: &str = "an earlier read found that the API does not sort as row_order = \"asc\" says, and some of its rows \
                        are stored: leave `row_order` out, and begin anew with `highwater reset --drop-rows`";

/// What the reads of a run share.
pub(super) struct Reading {
    pub(super) shared: Arc<Shared>,
    pub(super) planned: PlannedResource,
    pub(super) run: Arc<Run>,
    pub(super) sender: Sender<Delivery>,
    /// What `auto` decided in an earlier run, as JSON.
    pub(super) decided: Option<String>,
    /// Pages of each read in flight.
    pub(super) pages: usize,
    /// There is one partition, and no more will come.
    pub(super) is_only: bool,
}

/// What became of reading a partition, or a window of it, once.
pub(super) struct Attempt {
    pub(super) end: ReadEnd,
    /// Why the position that it started from is of no more use, where that ended it before anything was stored.
    pub(super) stale: Option<String>,
    /// Where the cursor stands once its pages are stored; none where it has not moved.
    pub(super) cursor: Option<String>,
}

impl Reading {
    /// Reads a partition to its end, and enters it where that could not even begin.
    pub(super) async fn read_and_enter(&self, stored: StoredPartition) -> ReadEnd {
        let partition = stored.partition.as_str().into();
        let end = self.read(stored).await;
        if end.outcome == Outcome::Failed && !end.is_entered {
            let (run, error) = (Arc::clone(&self.run), end.error.clone().unwrap_or_default());
            let failed = PartitionFailed { run, partition, error, abandon: false, unsorted: None };
            if self.sender.send(Delivery::Failed(failed)).await.is_err() {
                tracing::debug!("the processor has ended before the failure could be entered");
            }
        }
        end
    }

    /// Reads a partition to its end, window by window where it is read in windows.
    async fn read(&self, stored: StoredPartition) -> ReadEnd {
        let resource = &self.planned.resource;
        let mut start = self.start_of(&stored);
        if let Err(error) = self.ask_conditionally(&stored, &mut start).await {
            return ReadEnd::from_db(error);
        }
        let Some(incremental) = &resource.incremental else {
            return self.read_all(&stored, start, None).await;
        };
        let place = place_of(&stored.partition);
        let failed = |reason: String| self.failed(&place, &reason, Exit::Config);
        // A range of a backfill says itself what it reads.
        let values = PartitionValues::parse(&stored.partition).unwrap_or_default();
        if let Some((from, to)) = values.range() {
            return match incremental.range_window(from, to) {
                Ok(window) => self.read_all(&stored, start, Some(&window)).await,
                Err(reason) => failed(reason),
            };
        }
        if stored.unsorted {
            return failed(UNSORTED.to_owned());
        }
        match Course::new(self, incremental, stored, start) {
            Ok(course) => course.run().await,
            Err(reason) => failed(reason),
        }
    }

    /// Reads a window, or all there is. A stored position that the API no longer takes is tried once; then the read starts
    /// over.
    async fn read_all(&self, stored: &StoredPartition, mut start: Start, window: Option<&Window>) -> ReadEnd {
        loop {
            let attempt = self.read_once(stored, start.clone(), window).await;
            match attempt.stale {
                Some(reason) if start.position.is_some() => {
                    start = Start { position: None, started_over: Some(reason), ..start };
                }
                _ => return attempt.end,
            }
        }
    }

    /// The cursor of a read, as far as an earlier run has brought it.
    async fn track(
        &self,
        stored: &StoredPartition,
        window: &Window,
        resumes: bool,
        key: Vec<String>,
    ) -> Result<Option<Track>, ReadEnd> {
        let resource = &self.planned.resource;
        let Some(incremental) = &resource.incremental else { return Ok(None) };
        let value = |text: Option<&String>| text.map(|text| incremental.stored(text)).transpose();
        let seen = if resumes { stored.cursor_seen.as_ref() } else { None };
        let (cursor, seen) = match (value(stored.cursor.as_ref()), value(seen)) {
            (Ok(cursor), Ok(seen)) => (cursor, seen),
            (Err(reason), _) | (_, Err(reason)) => {
                return Err(self.failed(&place_of(&stored.partition), &reason, Exit::Config));
            }
        };
        let known = match resource.target.disposition {
            WriteDisposition::Append => Some(self.known(incremental, stored, cursor.as_ref(), resumes, key).await?),
            WriteDisposition::Merge | WriteDisposition::Replace => None,
        };
        Ok(Some(Track::new(incremental, window.clone(), Timestamp::now(), cursor, seen, known)))
    }

    /// What is stored already of a partition whose rows are appended.
    async fn known(
        &self,
        incremental: &Incremental,
        stored: &StoredPartition,
        cursor: Option<&CursorValue>,
        resumes: bool,
        key: Vec<String>,
    ) -> Result<Known, ReadEnd> {
        let (resource, db) = (&self.planned.resource, &self.shared.core.db);
        let partition = PartitionValues::parse(&stored.partition).unwrap_or_default().without_range();
        // What a live read has stored stays, whatever becomes of the range of a backfill.
        let counts_open = resumes || partition != stored.partition;
        let cursor = cursor.map(|cursor| Incremental::bound(cursor).sort);
        let boundary = db.boundary(&resource.target.id, &partition, cursor, counts_open);
        let Boundary { rows, ahead } = boundary.await.map_err(ReadEnd::from_db)?;
        let covered = db.coverage(&resource.target.id, &partition).await.map_err(ReadEnd::from_db)?;
        let failed = |reason: String| self.failed(&place_of(&stored.partition), &reason, Exit::Config);
        let rows_from = stored.boundary_from.clone();
        Ok(Known { rows, ahead, rows_from, key, covered: incremental.covered(&covered).map_err(failed)? })
    }

    /// Everything that reading it once needs, and the cursor of an incremental resource.
    async fn prepare(
        &self,
        stored: &StoredPartition,
        start: Start,
        window: Option<&Window>,
    ) -> Result<(Read, Option<Track>), ReadEnd> {
        let resource = &self.planned.resource;
        let resumes = start.position.is_some();
        let first = window.and_then(|window| window.start.as_ref()).map(|start| start.json.clone());
        let behind = window.and_then(|window| window.sent_end.clone());
        let (request, parent_fields) = PartitionValues::parse(&stored.partition)
            .map(|values| values.within(first, behind))
            .and_then(|values| Ok((values.request(resource)?, parent_fields(stored.parent_fields.as_deref())?)))
            .map_err(|reason| self.failed(&place_of(&stored.partition), &reason, Exit::Unavailable))?;
        let track = match window {
            None => None,
            Some(window) => self.track(stored, window, resumes, resource.received_key(&parent_fields)).await?,
        };
        let read_id = stored.read_id.filter(|_| resumes);
        let partition = PartitionRead {
            partition: stored.partition.as_str().into(),
            bounds: window.map(Window::to_stored),
            parent_page_id: stored.parent_page_id,
            read_id: read_id.map_or_else(Default::default, Into::into),
        };
        let read = Read {
            resource: Arc::clone(resource),
            run: Arc::clone(&self.run),
            partition: Arc::new(partition),
            request,
            parent_fields,
            validity_fingerprint: resource.validity_of(stored.parent_fields.as_deref()),
            concurrency: self.pages,
            ends_pass: self.is_only && window.is_none_or(|window| !window.goes_on),
            start,
            slots: self.shared.core.slots.clone(),
            progress: Arc::clone(&self.planned.progress),
        };
        Ok((read, track))
    }

    /// A partition that cannot be read at all; `place` is which one, for people.
    pub(super) fn failed(&self, place: &str, reason: &str, exit: Exit) -> ReadEnd {
        let text = format!("{}{place}: {reason}", self.planned.id());
        ReadEnd { fails_all: false, ..ReadEnd::failed(Some(Arc::clone(&self.run)), text, exit) }
    }

    /// Reads it once.
    pub(super) async fn read_once(&self, stored: &StoredPartition, start: Start, window: Option<&Window>) -> Attempt {
        let (resource, run) = (&self.planned.resource, &self.run);
        let resumed_at = start.position.as_ref().map(source::describe);
        if let Some(position) = &resumed_at {
            tracing::info!(resource = %resource.target.id, %position, "goes on where the last run stopped");
        }
        if let Some(reason) = &start.started_over {
            tracing::warn!(resource = %resource.target.id, %reason, "starts over");
        }
        let started_over = start.started_over.clone();
        let (read, track) = match self.prepare(stored, start, window).await {
            Ok(prepared) => prepared,
            Err(end) => return Attempt { end, stale: None, cursor: None },
        };
        self.planned.progress.set(Activity::Reading);
        let mut pages = pin!(source::pages(read, track));
        let (mut last, mut cursor) = (None, None);
        let error = loop {
            match pages.next().await {
                Some(Ok(page)) => {
                    last = page.end;
                    cursor = page.checkpoint.cursor.clone().or(cursor);
                    if self.sender.send(Delivery::Page(Box::new(page))).await.is_err() {
                        break None;
                    }
                }
                Some(Err(error)) => break Some(error),
                None => break None,
            }
        };
        if let Some(error) = error.as_ref().filter(|error| is_stale(error)) {
            // Nothing was stored since: the read that takes its place says why.
            let reason = match &error.kind {
                SourceErrorKind::Cursor(_) => "records have moved across its stored position".to_owned(),
                _ => format!("the API no longer takes its stored position ({})", error.reason),
            };
            return Attempt { end: ReadEnd::interrupted(Some(Arc::clone(run))), stale: Some(reason), cursor };
        }
        let abandon = error.as_ref().is_some_and(gives_up_position);
        let unsorted = window.filter(|window| !window.is_range && error.as_ref().is_some_and(is_unsorted));
        let mut end = end_of(run, last, error);
        (end.resumed_at, end.started_over) = (resumed_at, started_over);
        if end.outcome == Outcome::Failed {
            let failed = PartitionFailed {
                run: Arc::clone(run),
                partition: stored.partition.as_str().into(),
                error: end.error.clone().unwrap_or_default(),
                abandon,
                unsorted: unsorted.map(Window::began),
            };
            if self.sender.send(Delivery::Failed(failed)).await.is_err() {
                tracing::debug!("the processor has ended before the failure could be entered");
            }
            end.is_entered = true;
        }
        Attempt { end, stale: None, cursor }
    }

    /// What the API vouched for when it was last read. A generation of several partitions cannot take over what is
    /// unchanged of one.
    async fn ask_conditionally(&self, stored: &StoredPartition, start: &mut Start) -> Result<(), DbError> {
        let resource = &self.planned.resource;
        let is_in_parts = resource.target.disposition == WriteDisposition::Replace && !self.is_only;
        if let Some(fingerprint) = resource.validity_of(stored.parent_fields.as_deref())
            && start.position.is_none()
            && !is_in_parts
            // Children are read for the records that come; of an incremental resource, for what has changed.
            && (self.run.children.iter().all(|child| child.run.is_none()) || resource.incremental.is_some())
        {
            start.known = self.shared.core.db.validators(&resource.target.id, &stored.partition, &fingerprint).await?;
        }
        Ok(())
    }

    fn start_of(&self, stored: &StoredPartition) -> Start {
        let resource = &self.planned.resource;
        let known = Stored {
            position: stored.position.clone(),
            request_fingerprint: stored.request_fingerprint.clone(),
            updated_at: stored.updated_at,
            decided: self.decided.clone(),
        };
        let mut start = cursor::start(
            Some(&known),
            &resource.request_fingerprint,
            &resource.paginator,
            resource.resume_within,
            Timestamp::now(),
        );
        if start.position.is_none() && start.started_over.is_none() {
            start.started_over = stored.given_up.as_ref().map(|why| format!("the last read was given up: {why}"));
        }
        start
    }
}

/// Whether the position that an earlier run stored is refused by the API, or is not where it was any more.
fn is_stale(error: &SourceError) -> bool {
    error.at_stored_position
        && match &error.kind {
            SourceErrorKind::Request(request) => request.is_position_rejected(),
            SourceErrorKind::Cursor(error) => matches!(error, CursorError::Order { .. }),
            SourceErrorKind::Walk(_) => false,
        }
}

/// Whether the cursor has moved with pages that it should not have moved with.
fn is_unsorted(error: &SourceError) -> bool {
    matches!(error.kind, SourceErrorKind::Cursor(CursorError::Order { order: RowOrder::Asc, .. }))
}

/// Whether the next run has to start over: the stored position leads nowhere.
fn gives_up_position(error: &SourceError) -> bool {
    match &error.kind {
        SourceErrorKind::Request(request) => request.is_position_rejected() && !error.at_first_page,
        SourceErrorKind::Walk(WalkError::Loop(_)) | SourceErrorKind::Cursor(CursorError::Order { .. }) => true,
        SourceErrorKind::Walk(WalkError::Paging(_)) | SourceErrorKind::Cursor(_) => false,
    }
}
