//! A configured API and its resources, read page by page. Knows nothing of files and tables.

mod ahead;
pub mod cursor;
mod decoded;
mod options;
mod read;
mod resource;
mod select;
mod transform;
mod unchanged;
mod walk;

pub use options::{Columns, Format, Method, ResourceOptions, SourceOptions};
pub use read::{Read, SourceError, SourceErrorKind, describe, pages};
pub use resource::{Resource, table_name};
pub use select::Selector;
pub use transform::{ProcessingStep, StepError, Steps};
pub use walk::WalkError;
