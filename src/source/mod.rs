//! A configured API and its resources, read page by page. Knows nothing of files and tables.

mod ahead;
pub mod cursor;
mod decoded;
mod format;
mod graphql;
mod options;
mod read;
mod resource;
mod select;
mod walk;

pub use format::{BodyFormat, CsvOptions, Format};
pub use graphql::{GraphQl, QueryText};
pub use options::{Columns, Method, ResourceOptions, SourceOptions};
pub use read::{Read, SourceError, SourceErrorKind, describe, pages};
pub use resource::{Resource, table_name};
pub use select::Selector;
pub use walk::WalkError;
