//! The built binary against real sockets and real files, a file per promise.

#![expect(clippy::unwrap_used, reason = "everything here is a test, or a helper of one")]

mod any_record;
mod append_merge_replace;
mod cli;
mod config_errors;
mod crash;
mod database_file;
mod docs;
mod histories;
mod incremental;
mod incremental_errors;
mod memory;
mod pages;
mod pagination;
mod parents;
mod partitions;
mod quarantine;
mod rate_limit;
mod resume;
mod retry;
mod schema;
mod shutdown;
mod support;
mod tidy;
