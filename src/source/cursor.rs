//! Where a read starts, and what is remembered of it. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::page::Validators;
use crate::rest::paginator::{Paginator, Position};
use crate::units::Timespan;

/// What was stored about a read, as far as starting the next one needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// The position of the next page, as JSON; none unless a read is under way.
    pub position: Option<String>,
    /// Fingerprint of the request that made the position.
    pub request_fingerprint: String,
    /// When it was stored.
    pub updated_at: Timestamp,
    /// What was decided from a first response, as JSON.
    pub decided: Option<String>,
}

/// What `auto` paging and a missing `data_selector` were found to be. Kept until the configuration changes, so that
/// the next run decides the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decided {
    /// Fingerprint of the request it was decided for.
    pub request_fingerprint: String,
    /// The paginator that `auto` stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paginator: Option<Paginator>,
    /// Dotted path of the records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_selector: Option<String>,
}

/// Where a read starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// The position to go on at; `None` starts a new read.
    pub position: Option<Position>,
    /// What an earlier run decided.
    pub decided: Option<Decided>,
    /// Why a read that was under way is not gone on with, for the person who waits for it.
    pub started_over: Option<String>,
    /// What vouches for the rows that are stored, where a new read may ask whether anything has changed.
    pub known: Option<Validators>,
}

/// Where to start: at the stored position when it is young enough and was made by the same request, else from the
/// beginning, and then why.
#[must_use]
pub fn start(
    stored: Option<&Stored>,
    request_fingerprint: &str,
    paginator: &Paginator,
    resume_within: Timespan,
    now: Timestamp,
) -> Start {
    let Some(stored) = stored else { return Start::default() };
    let decided = stored
        .decided
        .as_deref()
        .and_then(|text| serde_json::from_str::<Decided>(text).ok())
        .filter(|decided| decided.request_fingerprint == request_fingerprint);
    let over = |reason: String, decided| Start { position: None, decided, started_over: Some(reason), known: None };
    let Some(text) = &stored.position else { return Start { decided, ..Start::default() } };
    if stored.request_fingerprint != request_fingerprint {
        return over("its request has changed in the configuration".to_owned(), None);
    }
    let age = now.duration_since(stored.updated_at).max(SignedDuration::ZERO);
    let age = age.unsigned_abs();
    if age >= *resume_within {
        let age = Timespan(Duration::from_secs(age.as_secs()));
        return over(format!("it stopped {age} ago, longer than resume_within ({resume_within})"), decided);
    }
    let paging = decided.as_ref().and_then(|decided| decided.paginator.as_ref()).unwrap_or(paginator);
    match serde_json::from_str::<Position>(text) {
        Ok(position) if paging.accepts(&position) => {
            Start { position: Some(position), decided, started_over: None, known: None }
        }
        // Stored data is input: an older or a newer version may have written it.
        _ => over("its stored position does not fit its paginator".to_owned(), decided),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_goes_on_only_where_its_position_still_means_the_same() {
        let paginator: Paginator = serde_json::from_str(r#"{"type":"page_number"}"#).unwrap();
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let stored = |position: &str, fingerprint: &str, at: &str| Stored {
            position: Some(position.to_owned()),
            request_fingerprint: fingerprint.to_owned(),
            updated_at: at.parse().unwrap(),
            decided: None,
        };
        let at = |stored: &Stored| start(Some(stored), "same", &paginator, Timespan::secs(86_400), now);
        let page7 = r#"{"at":"page","page":7}"#;
        let young = "2026-01-01T12:00:00Z";
        assert_eq!(at(&stored(page7, "same", young)).position, Some(Position::Page { page: 7 }));
        assert_eq!(at(&stored(page7, "same", "2026-03-01T00:00:00Z")).position, Some(Position::Page { page: 7 }));
        for (stored, why) in [
            (stored(page7, "other", young), "changed"),
            (stored(page7, "same", "2025-12-31T00:00:00Z"), "resume_within"),
            (stored(r#"{"at":"token","token":"x"}"#, "same", young), "paginator"),
            (stored("nonsense", "same", young), "paginator"),
        ] {
            let start = at(&stored);
            assert_eq!(start.position, None);
            assert!(start.started_over.unwrap().contains(why), "{why}");
        }
        let at_once = stored(page7, "same", "2026-01-02T00:00:00Z");
        assert_eq!(
            start(Some(&at_once), "same", &paginator, Timespan::secs(0), now).position,
            None,
            "0s never resumes"
        );
        let late = stored(page7, "same", "2026-01-01T23:59:58.9Z");
        assert_eq!(start(Some(&late), "same", &paginator, Timespan::secs(1), now).position, None, "1.1s");
        assert_eq!(start(None, "same", &paginator, Timespan::secs(1), now), Start::default());
    }

    #[test]
    fn what_auto_decided_is_kept_until_the_request_changes() {
        let auto: Paginator = serde_json::from_str(r#"{"type":"auto"}"#).unwrap();
        let decided = r#"{"request_fingerprint":"same","paginator":{"type":"page_number"},"data_selector":"items"}"#;
        let stored = Stored {
            position: Some(r#"{"at":"page","page":2}"#.to_owned()),
            request_fingerprint: "same".to_owned(),
            updated_at: Timestamp::UNIX_EPOCH,
            decided: Some(decided.to_owned()),
        };
        let at = |fingerprint| start(Some(&stored), fingerprint, &auto, Timespan::secs(1), Timestamp::UNIX_EPOCH);
        assert_eq!(at("same").position, Some(Position::Page { page: 2 }));
        assert_eq!(at("same").decided.unwrap().data_selector.as_deref(), Some("items"));
        assert_eq!((at("other").position, at("other").decided), (None, None));
    }
}
