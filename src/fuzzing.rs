//! What must hold of everything that comes from outside, whatever it says: a function for each kind of text, which takes
//! any bytes and panics where its promise is broken. `fuzz/` runs them for as long as one likes, and the tests of this
//! module on a few hundred texts that get far; `benches/functions.rs` takes a way in from here. No release has this module (`--features fuzzing`).

mod config;
mod records;
#[cfg(test)]
mod tests;

pub use self::config::config;
pub use self::records::{columns, values};
pub use crate::rest::fuzzing::{links, wait_headers};
pub use crate::source::fuzzing::{checkpoints, page_body, records_in};
pub use crate::web::fuzzing::web_requests;
