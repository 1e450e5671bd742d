//! Whole requests over real sockets, against a server that says byte for byte what its script says.

mod body;
mod http2;
mod network;
mod renewal;
mod secrets;
pub(super) mod server;
mod status;
mod waiting;
