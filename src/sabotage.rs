//! Broken variants of what is promised, one for each promise that is easily broken without anyone noticing: `tests/teeth/run`
//! chooses them one by one and sees that the tests catch each. In no release: without the feature nothing is ever on, and
//! the compiler leaves nothing of it.

/// What can be broken. The variable `SABOTAGE` has the name of one; those that begin with HIGHWATER_ are configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "sabotage", derive(serde::Deserialize))]
pub(crate) enum Sabotage {
    /// Checkpoints are committed in a transaction of their own, before the rows that they speak of.
    CursorBeforeRows,
    /// The ledger is committed in a transaction of its own, after the rows.
    LedgerApart,
    /// What a page of a parent queues for its children is committed in a transaction of its own, after the page.
    QueueApart,
    /// `synchronous = "full"` sets up SQLite as `"normal"` does: a commit does not wait for the disk.
    NormalForFull,
    /// SQLite moves the WAL into the file by itself and hides the errors of it.
    AutoCheckpoint,
    /// The cursor moves with every page, although the API does not sort by it.
    CursorPerUnsortedPage,
    /// A read begins behind the value that the cursor has reached, not at it: `>` for `>=`.
    BehindTheCursor,
    /// `Retry-After` is not looked at.
    RetryAfterIgnored,
    /// A next link is followed to another origin, and a redirect like it.
    ForeignNextLink,
    /// A redirect is followed to another origin, with the credentials.
    RedirectWithKey,
    /// A record that cannot be stored is counted and thrown away.
    QuarantineDropped,
    /// Keys that differ in case only share a column, and the last one wins.
    LastWinsInColumn,
    /// The process reads its own database file, which drops the locks that SQLite holds on it.
    OpensDatabaseFile,
    /// An API that leads in a circle is followed for ever.
    LoopGuardOff,
    /// A panic says all that it has to say, and every page ends in one that quotes it.
    PanicQuotes,
    /// Nothing but that every page ends in a panic that quotes it.
    PagesPanic,
    /// Nothing: what fails then, fails because of the sabotage itself and not of what it breaks.
    #[cfg(feature = "sabotage")]
    Nothing,
}

/// Whether this is the variant that runs.
#[cfg(not(feature = "sabotage"))]
pub(crate) const fn on(_: Sabotage) -> bool {
    false
}

/// Whether this is the variant that runs.
#[cfg(feature = "sabotage")]
pub(crate) fn on(which: Sabotage) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<Sabotage>> = std::sync::OnceLock::new();
    *CHOSEN.get_or_init(chosen) == Some(which)
}

/// The variant that the environment names. A name that is none ends the process: with nothing broken, whatever runs would
/// pass for a test that catches nothing.
#[cfg(feature = "sabotage")]
#[expect(clippy::print_stderr, reason = "there may be no log yet")]
fn chosen() -> Option<Sabotage> {
    let name = std::env::var("SABOTAGE").ok()?;
    let chosen = serde_json::from_value(serde_json::Value::String(name));
    Some(chosen.unwrap_or_else(|error| {
        eprintln!("SABOTAGE: {error}");
        std::process::abort()
    }))
}

/// Ends in a panic that quotes a page, where that is chosen.
pub(crate) fn panic_over(page: &[u8]) {
    assert!(!on(Sabotage::PanicQuotes) && !on(Sabotage::PagesPanic), "{}", String::from_utf8_lossy(page));
}
