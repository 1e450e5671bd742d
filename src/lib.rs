#![doc = "highwater keeps an exact, resumable SQLite copy of any paginated HTTP API."]

pub mod cli;
pub mod config;
pub mod decode;
pub mod destination;
pub mod exit;
pub mod later;
pub mod page;
pub mod plan;
pub mod practice;
pub mod processor;
pub mod progress;
pub mod rest;
pub mod secret;
pub mod source;
pub mod supervisor;
pub mod sync;
pub mod tasks;
pub mod template;
pub mod units;
pub mod verify;
