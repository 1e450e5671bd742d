//! What became of a run: how each reader ended, what that means for its resource, and what the process exits with.

use std::sync::Arc;

use super::{Live, PlannedResource};
use crate::destination::{Counts, DbError, Outcome};
use crate::exit::Exit;
use crate::page::{ResourceId, Run, RunKind, StopReason};
use crate::rest::error::{ErrorKind, RequestError};
use crate::source::{SourceError, SourceErrorKind, WalkError};
use crate::tasks::Panicked;

/// What became of a run.
#[derive(Debug)]
pub struct SyncReport {
    /// One for each resource of the plan, in its order.
    pub resources: Vec<ResourceReport>,
    /// The database failed: what was not committed by then is not stored.
    pub db_error: Option<DbError>,
}

/// What became of one resource.
#[derive(Clone, Debug)]
pub struct ResourceReport {
    /// The resource.
    pub id: ResourceId,
    /// Its table.
    pub table: String,
    /// The tables that the lists of its records are in.
    pub child_tables: Vec<String>,
    /// How its run ended.
    pub outcome: Outcome,
    /// Why its read ended.
    pub stop_reason: StopReason,
    /// What became of its records in this run.
    pub counts: Counts,
    /// Pages committed in this run.
    pub pages: u64,
    /// Requests sent in this run.
    pub requests: u64,
    /// Requests sent again after a failure.
    pub retries: u64,
    /// Where an earlier run had stopped, when this one went on from there.
    pub resumed_at: Option<String>,
    /// Why an earlier, unfinished read was not gone on with.
    pub started_over: Option<String>,
    /// What went wrong.
    pub error: Option<String>,
    /// What the exit code says of it; `None` when it is complete.
    pub exit: Option<Exit>,
    /// What asked for it.
    pub kind: RunKind,
    /// It has a run in `_hw_runs`, which has been ended there.
    pub is_entered: bool,
}

impl SyncReport {
    /// What the process exits with; `None` when everything asked for is complete.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        let db = self.db_error.as_ref().map(exit_of_db);
        self.resources.iter().filter_map(|resource| resource.exit).chain(db).min()
    }
}

/// What the process exits with when the database fails.
#[must_use]
pub fn exit_of_db(error: &DbError) -> Exit {
    match error {
        DbError::Held { .. } | DbError::TakenOver(_) | DbError::Busy => Exit::Held,
        // Starting again does not help.
        DbError::IdentityChanged { .. } | DbError::TableTaken { .. } | DbError::NetworkFileSystem { .. } => {
            Exit::Config
        }
        DbError::OldSqlite(_) | DbError::Closed | DbError::Panic(_) => Exit::Bug,
        DbError::NotOurs { .. }
        | DbError::Newer { .. }
        | DbError::Older(_)
        | DbError::NotThere(_)
        | DbError::Gone(_)
        | DbError::Unreadable(_)
        | DbError::Corrupt(_)
        | DbError::Full
        | DbError::ReadOnly(_)
        | DbError::Unwritten(_)
        | DbError::Io(_)
        | DbError::Timeout(_)
        | DbError::Sqlite(_) => Exit::Storage,
    }
}

/// How a reader ended, before the last of its pages is known to be stored.
#[derive(Debug)]
pub(super) struct ReadEnd {
    pub(super) run: Option<Arc<Run>>,
    pub(super) outcome: Outcome,
    pub(super) stop_reason: StopReason,
    pub(super) resumed_at: Option<String>,
    pub(super) started_over: Option<String>,
    pub(super) error: Option<String>,
    pub(super) exit: Option<Exit>,
    pub(super) db_error: Option<DbError>,
    /// Why it failed is no matter of one partition: the others would fail as well.
    pub(super) fails_all: bool,
    /// Its failure is on its way to the file.
    pub(super) is_entered: bool,
}

impl ReadEnd {
    /// What a reader's task said, or that it panicked.
    pub(super) fn of_task(result: Result<Self, Panicked>) -> Self {
        result.unwrap_or_else(|panic| Self::failed(None, panic.to_string(), Exit::Bug))
    }

    pub(super) fn failed(run: Option<Arc<Run>>, error: String, exit: Exit) -> Self {
        Self {
            run,
            outcome: Outcome::Failed,
            stop_reason: StopReason::Error,
            resumed_at: None,
            started_over: None,
            error: Some(error),
            exit: Some(exit),
            db_error: None,
            fails_all: !matches!(exit, Exit::Unavailable | Exit::Forbidden | Exit::Contract),
            is_entered: false,
        }
    }

    pub(super) fn complete(run: &Arc<Run>, stop_reason: StopReason) -> Self {
        let end = Self::interrupted(Some(Arc::clone(run)));
        Self { outcome: Outcome::Complete, stop_reason, exit: None, ..end }
    }

    pub(super) fn interrupted(run: Option<Arc<Run>>) -> Self {
        Self {
            run,
            outcome: Outcome::Incomplete,
            stop_reason: StopReason::Interrupted,
            resumed_at: None,
            started_over: None,
            error: None,
            exit: Some(Exit::Stopped),
            db_error: None,
            fails_all: false,
            is_entered: false,
        }
    }

    pub(super) fn from_db(error: DbError) -> Self {
        match error {
            error @ (DbError::IdentityChanged { .. } | DbError::TableTaken { .. }) => {
                Self::failed(None, error.to_string(), Exit::Config)
            }
            error => Self { db_error: Some(error), ..Self::interrupted(None) },
        }
    }
}

/// Some APIs answer so behind their last page.
fn way_out(error: &SourceError) -> String {
    match &error.kind {
        SourceErrorKind::Request(RequestError::Status { status: status @ (400 | 404), .. })
            if error.counted && !error.at_first_page =>
        {
            format!(
                "; if this is how the API ends, set response_actions = [{{ status_code = {status}, action = \"stop\" }}]"
            )
        }
        _ => String::new(),
    }
}

/// What the last page or the error of a read means for its run.
pub(super) fn end_of(run: &Arc<Run>, last: Option<StopReason>, error: Option<SourceError>) -> ReadEnd {
    let run = Arc::clone(run);
    let Some(error) = error else {
        return match last {
            Some(stop_reason) => {
                let complete = stop_reason.is_complete();
                let outcome = if complete { Outcome::Complete } else { Outcome::Incomplete };
                let exit = (!complete).then_some(Exit::Stopped);
                ReadEnd { outcome, stop_reason, exit, ..ReadEnd::interrupted(Some(run)) }
            }
            None => ReadEnd::interrupted(Some(run)),
        };
    };
    let text = format!("{error}{}", way_out(&error));
    let kind = match &error.kind {
        SourceErrorKind::Request(request) => request.kind(),
        SourceErrorKind::Walk(WalkError::Loop(_)) => {
            let failed = ReadEnd::failed(Some(run), text, Exit::Unavailable);
            return ReadEnd { stop_reason: StopReason::LoopDetected, ..failed };
        }
        SourceErrorKind::Walk(WalkError::Paging(_)) => ErrorKind::Unavailable,
        SourceErrorKind::Cursor(_) => return ReadEnd::failed(Some(run), text, Exit::Contract),
    };
    match kind {
        ErrorKind::Interrupted => ReadEnd::interrupted(Some(run)),
        ErrorKind::RateLimited => ReadEnd { error: Some(text), ..ReadEnd::interrupted(Some(run)) },
        ErrorKind::Unavailable => ReadEnd::failed(Some(run), text, Exit::Unavailable),
        ErrorKind::Forbidden => ReadEnd::failed(Some(run), text, Exit::Forbidden),
        ErrorKind::Storage => ReadEnd::failed(Some(run), text, Exit::Storage),
        ErrorKind::Config => ReadEnd::failed(Some(run), text, Exit::Config),
    }
}

/// What is to be said of a resource, once everything that was received is stored.
pub(super) fn report(
    planned: &PlannedResource,
    mut end: ReadEnd,
    live: &Live,
    db_error: &mut Option<DbError>,
) -> ResourceReport {
    if let Some(error) = end.db_error.take() {
        db_error.get_or_insert(error);
    }
    if let Some(reason) = end.run.as_deref().and_then(Run::broken) {
        end = ReadEnd::failed(end.run.clone(), format!("{}: {reason}", planned.id()), Exit::Contract);
    } else if end.outcome == Outcome::Complete && !live.has_ended() {
        // The file failed before its last page was stored.
        end = ReadEnd::interrupted(end.run.clone());
    }
    let (counts, pages) = live.sum();
    ResourceReport {
        id: planned.id().clone(),
        table: planned.resource.target.table.clone(),
        child_tables: Vec::new(),
        outcome: end.outcome,
        stop_reason: end.stop_reason,
        counts,
        pages,
        requests: planned.progress.requests.get(),
        retries: planned.progress.retries.get(),
        resumed_at: end.resumed_at,
        started_over: end.started_over,
        error: end.error,
        exit: end.exit,
        kind: planned.kind,
        is_entered: end.run.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::{DbError, Exit, Outcome, ReadEnd, exit_of_db};
    use crate::tasks::TaskGroup;

    #[test]
    fn d11_a_network_file_system_is_a_matter_of_the_configuration() {
        let error = DbError::NetworkFileSystem { path: "share/x.db".into(), kind: "NFS" };
        assert_eq!(exit_of_db(&error), Exit::Config, "no restart helps");
        let said = error.to_string();
        assert!(said.contains("share/x.db is on NFS") && said.contains("`allow_network_file_system = true`"), "{said}");
    }

    #[tokio::test]
    async fn a_panic_of_a_reader_reaches_the_report_as_our_bug() {
        let mut readers = TaskGroup::default();
        readers.spawn((), async { panic!("the cat is on the keyboard") });
        let ((), result) = readers.next().await.unwrap();
        let end = ReadEnd::of_task(result);
        assert_eq!((end.outcome, end.exit), (Outcome::Failed, Some(Exit::Bug)));
        let error = end.error.unwrap();
        assert!(error.contains("a bug in highwater") && error.contains("the cat is on the keyboard"), "{error}");
    }
}
