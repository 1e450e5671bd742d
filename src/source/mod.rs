//! A configured API and its resources, read page by page. Knows nothing of files and tables.

mod again;
mod ahead;
pub mod cursor;
mod decoded;
mod format;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod graphql;
pub mod incremental;
mod options;
mod partition;
mod read;
mod resource;
mod select;
mod transform;
mod unchanged;
mod walk;

pub use again::{RowsAgain, rows_again};
pub use format::{BodyFormat, CsvOptions, Format};
pub use graphql::{GraphQl, QueryText};
pub use options::{Columns, Method, ResourceOptions, SourceOptions};
pub use partition::{Child, ParentOptions, PartitionValues, Partitions, parent_fields, partition_text, place_of};
pub use read::{Read, SourceError, SourceErrorKind, describe, pages};
pub use resource::{Resource, link, table_name};
pub use select::Selector;
pub use transform::{ProcessingStep, StepError, Steps};
pub use walk::WalkError;
