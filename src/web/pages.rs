//! The pages, each from data that is also its JSON.

pub(super) mod config;
pub(super) mod errors;
pub(super) mod overview;
pub(super) mod quarantine;
pub(super) mod resource;
pub(super) mod run;
pub(super) mod runs;
pub(super) mod table;
