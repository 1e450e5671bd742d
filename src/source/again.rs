//! Records that were rows of a page before, and come back as their text.

use bytes::Bytes;

use super::partition::children_of;
use super::resource::Resource;
use crate::decode;
use crate::page::{QueuedPartition, Rows, Run, Text};

/// Rows of records that were kept as text.
#[derive(Debug, Default)]
pub struct RowsAgain {
    /// The rows.
    pub rows: Rows,
    /// For each of them, which of the texts it is.
    pub of: Vec<usize>,
    /// Partitions of children that they give.
    pub children: Vec<QueuedPartition>,
}

/// Makes rows of records, each a JSON object as a page had it after the steps. `partition` is the one that they belong
/// to. A text that is no such object, as nothing here has written, is left out.
#[must_use]
pub fn rows_again(resource: &Resource, run: &Run, partition: &str, records: &[&str]) -> RowsAgain {
    let one = |record: &str| {
        let text = Text::new(Bytes::copy_from_slice(record.as_bytes()))?;
        decode::decode(&text, &[text.as_str()]).ok().filter(|rows| rows.len() == 1 && rows.received() == 1)
    };
    let of: Vec<usize> = (0..records.len()).filter(|record| one(records[*record]).is_some()).collect();
    let kept: Vec<&str> = of.iter().map(|record| records[*record]).collect();
    // As lines: no record begins in another one.
    let text = Text::new(kept.join("\n").into()).unwrap_or_default();
    let (mut rest, mut parts) = (text.as_str(), Vec::with_capacity(kept.len()));
    for record in kept {
        parts.push(&rest[..record.len()]);
        rest = rest.get(record.len() + 1..).unwrap_or_default();
    }
    let mut rows = match decode::decode(&text, &parts) {
        Ok(rows) if rows.len() == of.len() => rows,
        // Together they are more than a page can hold.
        _ => return RowsAgain::default(),
    };
    decode::nest(&mut rows, &resource.target.layout);
    let children = children_of(resource, run, partition, &rows);
    RowsAgain { rows, of, children }
}
