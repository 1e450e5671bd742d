//! How a reader ended, and what that means for the run and for the exit code. Pure.

use std::sync::Arc;

use crate::destination::{DbError, Outcome};
use crate::exit::Exit;
use crate::page::{Run, StopReason};
use crate::rest::error::ErrorKind;
use crate::source::{SourceError, SourceErrorKind, WalkError};

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
}

impl ReadEnd {
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
        }
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

/// Whether the position that an earlier run stored is refused by the API.
pub(super) fn is_stale(error: &SourceError) -> bool {
    error.at_stored_position
        && matches!(&error.kind, SourceErrorKind::Request(request) if request.is_position_rejected())
}

/// Whether the next run has to start over: the stored position leads nowhere.
pub(super) fn gives_up_position(error: &SourceError) -> bool {
    match &error.kind {
        SourceErrorKind::Request(request) => request.is_position_rejected() && !error.at_first_page,
        SourceErrorKind::Walk(WalkError::Loop(_)) => true,
        SourceErrorKind::Walk(WalkError::Paging(_)) => false,
    }
}

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
    let text = error.to_string();
    let kind = match &error.kind {
        SourceErrorKind::Request(request) => request.kind(),
        SourceErrorKind::Walk(WalkError::Loop(_)) => {
            let failed = ReadEnd::failed(Some(run), text, Exit::Unavailable);
            return ReadEnd { stop_reason: StopReason::LoopDetected, ..failed };
        }
        SourceErrorKind::Walk(WalkError::Paging(_)) => ErrorKind::Unavailable,
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
