//! The course of one partition of an incremental resource in a run: which windows of the cursor are read, one after the
//! other, and where that begins.

use jiff::Timestamp;

use super::partition::Reading;
use super::report::ReadEnd;
use crate::destination::{Outcome, StoredPartition};
use crate::exit::Exit;
use crate::page::StopReason;
use crate::source::cursor::Start;
use crate::source::incremental::{CursorValue, Incremental, Window, Windows};
use crate::source::place_of;

/// Why an interrupted read of a sorted list begins again although its cursor has moved.
const WITHIN_LAG: &str = "what it had read begins where its cursor leads: a sorted list moves while its records change";

/// Why a read is not gone on with whose pages came in another order.
const OTHER_ORDER: &str = "its `row_order` has changed in the configuration";

/// Why a run that has stored what it read is none that a repeat would go on with.
const NO_FURTHER: &str = "`max_pages` ends each run where the next one begins again with the same pages, because they hold no \
                          more than the `lag` or one moment of the cursor: raise `max_pages`, or shorten the `lag`";

/// Where the reads of a partition stand in this run.
pub(super) struct Course<'r> {
    reading: &'r Reading,
    incremental: &'r Incremental,
    stored: StoredPartition,
    /// Where the next read starts.
    start: Start,
    now: Timestamp,
    /// Where the next run would begin if the cursor did not move any more.
    begins_at: Option<CursorValue>,
    /// What a read of an earlier run asked for; the next one is the rest of it.
    interrupted: Option<Window>,
    /// Its position is not gone on at, but the cursor that has moved with its pages.
    from_cursor: bool,
    /// The windows to come; none before the first was looked for.
    windows: Option<Windows<'r>>,
    resumed_at: Option<String>,
    started_over: Option<String>,
}

impl<'r> Course<'r> {
    /// The course that begins at `start`.
    ///
    /// # Errors
    /// When what is stored does not fit the configuration.
    pub(super) fn new(
        reading: &'r Reading,
        incremental: &'r Incremental,
        stored: StoredPartition,
        mut start: Start,
    ) -> Result<Self, String> {
        let interrupted = stored.bounds.as_ref().map(|bounds| incremental.stored_window(bounds)).transpose()?;
        // What is stored of a read that was sorted stays, and that of another may be taken back: it is one or the other.
        let has_order = |window: &Window| incremental.is_in_order(window);
        if start.position.is_some() && !interrupted.as_ref().is_none_or(has_order) {
            (start.position, start.started_over) = (None, Some(OTHER_ORDER.to_owned()));
        }
        // Where the API sorts by the cursor, and is asked from it on, a position is worth less: it counts pages of a list
        // whose changed records have gone to the end since, so that others have come forward into pages that were read.
        let starts_at_cursor = reading.planned.resource.starts_at_cursor;
        let is_moving = interrupted.is_some() && incremental.is_sorted() && starts_at_cursor;
        let from_cursor = is_moving && start.position.take().is_some();
        Ok(Self {
            reading,
            incremental,
            begins_at: begin(incremental, stored.cursor.as_deref())?,
            stored,
            start,
            now: Timestamp::now(),
            interrupted,
            from_cursor,
            windows: None,
            resumed_at: None,
            started_over: None,
        })
    }

    /// Reads window by window, until there is none left or one cannot be read to its end.
    pub(super) async fn run(mut self) -> ReadEnd {
        let end = loop {
            match self.next_window() {
                Ok(Some(window)) => {
                    if let Some(end) = self.read(&window).await {
                        break end;
                    }
                }
                Ok(None) => break ReadEnd::complete(&self.reading.run, StopReason::NoNext),
                Err(reason) => break self.failed(&reason),
            }
        };
        ReadEnd { resumed_at: self.resumed_at, started_over: self.started_over, ..end }
    }

    /// Reads a window. The end of the course, unless it goes on.
    async fn read(&mut self, window: &Window) -> Option<ReadEnd> {
        let mut attempt = self.reading.read_once(&self.stored, self.start.clone(), Some(window)).await;
        if let Some(reason) = attempt.stale.filter(|_| self.start.position.is_some()) {
            // From the cursor: it can stand further on than where the read began whose position this was.
            (self.start.position, self.start.started_over) = (None, Some(reason));
            return None;
        }
        self.resumed_at = self.resumed_at.take().or(attempt.end.resumed_at.take());
        self.started_over = self.started_over.take().or(attempt.end.started_over.take());
        if attempt.end.outcome != Outcome::Complete || !window.goes_on {
            return Some(self.moved(attempt.end, attempt.cursor.as_deref()));
        }
        self.after_window(window, attempt.cursor).err().map(|reason| self.failed(&reason))
    }

    /// What is to be read next; none where nothing is left to ask for.
    fn next_window(&mut self) -> Result<Option<Window>, String> {
        let bounds = self.stored.bounds.as_ref().filter(|_| self.start.position.is_some() && self.windows.is_none());
        let window = match bounds {
            Some(bounds) => Some(self.incremental.stored_window(bounds)?),
            None => self.windows_to_come()?.step_on()?,
        };
        Ok(window.map(|window| self.rest_of_interrupted(window)))
    }

    /// The windows from where the cursor stands, or those that are left of them.
    fn windows_to_come(&mut self) -> Result<&mut Windows<'r>, String> {
        let windows = match self.windows.take() {
            Some(windows) => windows,
            None => {
                let cursor = self.stored.cursor.as_deref().map(|cursor| self.incremental.stored(cursor)).transpose()?;
                self.incremental.windows(cursor.as_ref(), self.now)?
            }
        };
        Ok(self.windows.insert(windows))
    }

    /// Makes a window the rest of the read that was interrupted, if one was; and says where it goes on, or why it does
    /// not.
    fn rest_of_interrupted(&mut self, mut window: Window) -> Window {
        let Some(interrupted) = &self.interrupted else { return window };
        let is_further = self.stored.cursor.is_some() && window.goes_on_with(interrupted);
        if self.from_cursor {
            match self.stored.cursor.as_ref().filter(|_| is_further) {
                Some(cursor) => {
                    let position = format!("cursor {cursor}");
                    let resource = &self.reading.run.target.id;
                    tracing::info!(%resource, %position, "goes on where the last run stopped");
                    self.resumed_at = Some(position);
                }
                None => self.start.started_over = Some(WITHIN_LAG.to_owned()),
            }
        }
        window
    }

    /// Goes on behind a window that was read to its end, with the cursor that was stored with it.
    fn after_window(&mut self, window: &Window, cursor: Option<String>) -> Result<(), String> {
        if self.windows.is_none() {
            // The lag is behind it: what this run has stored may not be known yet, and must not come twice.
            self.windows = Some(self.incremental.windows_behind(window, self.now)?);
        }
        let stored = &mut self.stored;
        stored.cursor = cursor.or(stored.cursor.take());
        (stored.cursor_seen, stored.read_id, self.interrupted) = (None, None, None);
        (self.start.position, self.start.started_over) = (None, None);
        Ok(())
    }

    /// The end of the course, where its cursor has come to `cursor`. Where the next run begins at the cursor, and that is
    /// where this one began, no number of runs would come further.
    fn moved(&self, end: ReadEnd, cursor: Option<&str>) -> ReadEnd {
        let begins_at_cursor = self.incremental.is_sorted() && self.reading.planned.resource.starts_at_cursor;
        if end.stop_reason != StopReason::MaxPages || !begins_at_cursor {
            return end;
        }
        match begin(self.incremental, cursor.or(self.stored.cursor.as_deref())) {
            Ok(next) if next == self.begins_at => {
                let place = place_of(&self.stored.partition);
                let error = format!("{}{place}: {NO_FURTHER}", self.reading.run.target.id);
                ReadEnd { error: Some(error), exit: Some(Exit::Config), ..end }
            }
            Ok(_) => end,
            Err(reason) => self.failed(&reason),
        }
    }

    fn failed(&self, reason: &str) -> ReadEnd {
        self.reading.failed(&place_of(&self.stored.partition), reason, Exit::Config)
    }
}

/// Where a read begins while a stored cursor stands there.
fn begin(incremental: &Incremental, cursor: Option<&str>) -> Result<Option<CursorValue>, String> {
    incremental.start(cursor.map(|cursor| incremental.stored(cursor)).transpose()?.as_ref())
}
