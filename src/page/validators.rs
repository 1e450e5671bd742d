//! What a server says of a page by which it can be asked whether the page has changed (RFC 9110 §8.8).

use super::StopReason;

/// What vouches for a resource's only page, from one read to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validators {
    /// The URL of the page, without secrets. They are good for no other.
    pub url: String,
    /// Mark of everything that its rows depend on beside the page itself.
    pub fingerprint: String,
    /// Its `ETag`.
    pub etag: Option<String>,
    /// Its `Last-Modified`.
    pub last_modified: Option<String>,
    /// Why a read that finds this page ends with it.
    pub stop_reason: StopReason,
}

/// What is known of a page for the next read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Validity {
    /// Nothing: it will be asked for as if for the first time.
    #[default]
    Unknown,
    /// These tell it again, once its rows are stored.
    Vouched(Validators),
    /// It is what it was, and so are the rows that are stored.
    Unchanged,
}
