//! The built binary against real sockets and real files, a file per promise.

#![expect(clippy::unwrap_used, reason = "everything here is a test, or a helper of one")]

mod any_record;
mod append_merge_replace;
mod auth;
mod backfill;
mod child_tables;
mod cli;
mod conditional;
mod config_errors;
mod crash;
mod database_file;
mod docs;
mod docs_page;
mod fidelity;
mod formats;
mod graphql;
mod histories;
mod incremental;
mod incremental_append;
mod incremental_errors;
mod memory;
mod nesting;
mod pages;
mod pagination;
mod parents;
mod parents_many;
mod partitions;
mod processing_steps;
mod quarantine;
mod queues;
mod rate_limit;
mod request_bodies;
mod resume;
mod retry;
mod schema;
mod schema_contract;
mod shutdown;
mod standins;
mod starts_over;
mod support;
mod tidy;
mod type_fidelity;
mod whole_file;
