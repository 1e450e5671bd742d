//! A record that was set aside and is tried again.

/// A record that was set aside, as it is when it is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Its number in `_hw_quarantine`.
    pub quarantine_id: i64,
    /// The page that it came with.
    pub page_id: i64,
    /// What it is beside a row that has its key and came before it.
    pub standing: Standing,
}

/// What a record that was set aside is beside the row with its key, where that row was written before the record came.
/// A row that was written after it is newer in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Newer: nothing can have said since that the row is still as it was.
    Newer,
    /// A later read that was not complete found rows unchanged, and this may have been one of them.
    Unknown,
    /// Older: a later read was complete, so it brought the row once more, or a newer record that was set aside.
    Older,
}
