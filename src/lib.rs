//! highwater keeps an exact, resumable SQLite copy of any paginated HTTP API, from one configuration file.
//!
//! ```text
//! config ─► plan ─► source::pages() ──► bounded channel ──► processor ──► destination::Db::commit
//!                   │ a stream of pages, each             │ batches by    │ rows, quarantine, columns, ledger
//!                   │ with the checkpoint that is         │ rows, bytes   │ and checkpoint: one transaction
//!                   │ true once it is stored              │ and age       │
//!                   └ rest: budget, auth, retry, paging   └───────────────┴ supervisor: signals, deadlines
//! ```
//!
//! In reading order: [`cli`] what can be asked for · [`config`] one file into typed options, or everything that is
//! wrong with it · [`plan`] what is to be read · [`supervisor`] signals and deadlines around a run · [`sync`] one run ·
//! [`source`] a resource as a stream of pages, with [`rest`] for one API over HTTP and [`decode`] for the bytes of a
//! page · [`processor`] pages into batches · [`destination`] batches into the file · [`page`] what both halves share.
//! [`schedule`] says when a resource is due, [`web`] where the status page is served, [`notify`] what systemd is told. [`progress`], [`tasks`], [`template`],
//! [`expression`], [`secret`], [`units`] and [`exit`] are small and used by many;
//! [`practice`] is the API that the demo and the tests read, [`verify`] compares a table with it.
//!
//! What never happens: a checkpoint that claims more than is stored; a page that is stored in part; an error that
//! passes for the end of the data; a task that nobody awaits; a secret in a log, an error or the file.

pub mod board;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod decode;
pub mod destination;
pub mod exit;
pub mod expression;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod notify;
pub mod page;
pub mod plan;
pub mod practice;
pub mod processor;
pub mod progress;
pub mod rest;
pub(crate) mod sabotage;
pub mod schedule;
pub mod secret;
pub mod source;
pub mod supervisor;
pub mod sync;
pub mod tasks;
pub mod template;
pub mod units;
pub mod verify;
pub mod web;
