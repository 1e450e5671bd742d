//! The practice API: a small web shop with a helpdesk, on loopback, whose answers depend on a seed alone and which
//! misbehaves the way real APIs do. It drives `highwater demo`, serves the shipped `config.toml`, and is the judge in
//! the tests: it knows what a faithful copy has to hold.
//!
//! The data is the same in every process with the same options, cursors included, so a read that began against one
//! process goes on against the next. Faults are injected per process.

mod api;
mod connection;
mod data;
mod helpdesk;
mod paging;
mod random;
mod shop;
mod state;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use self::data::{Resource, Size};
pub use self::state::{RequestRecord, Served};

/// The port of `highwater practice`, and the one in the shipped `config.toml`.
pub const PORT: u16 = 8640;

/// How long answers in flight may take after the stop before their connections are cut.
const STOP_GRACE: Duration = Duration::from_millis(250);

/// What the practice API serves and how it misbehaves.
#[derive(Clone)]
pub struct PracticeOptions {
    /// Decides all data; the same seed and size make the same rows.
    pub seed: u64,
    /// Rows per data set.
    pub size: Size,
    /// How long every answer takes.
    pub latency: Duration,
    /// What goes wrong.
    pub faults: Faults,
    /// What `private/notes` wants to see as the bearer token; without one, nobody gets in.
    pub token: Option<String>,
}

impl Default for PracticeOptions {
    /// The small size with all faults, at full speed.
    fn default() -> Self {
        Self { seed: 1, size: Size::FAST, latency: Duration::ZERO, faults: Faults::ALL, token: None }
    }
}

impl fmt::Debug for PracticeOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PracticeOptions")
            .field("seed", &self.seed)
            .field("size", &self.size)
            .field("latency", &self.latency)
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
}

/// The misbehaviour of one process, each on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults {
    /// The third request for `customers` is refused with a 429 and `Retry-After: 1`.
    pub rate_limit: bool,
    /// Pages 2, 3 and 6 of `events` fail with a 500 at their first attempt.
    pub server_errors: bool,
    /// One ticket is on the first page and, changed since, once more on the last one.
    pub changing_record: bool,
}

impl Faults {
    /// Everything goes wrong.
    pub const ALL: Faults = Faults { rate_limit: true, server_errors: true, changing_record: true };
    /// Nothing goes wrong.
    pub const NONE: Faults = Faults { rate_limit: false, server_errors: false, changing_record: false };
}

/// The practice API of this process.
#[derive(Debug)]
pub struct Practice {
    options: PracticeOptions,
    state: Mutex<state::State>,
}

impl Practice {
    /// A practice API that has served nothing yet.
    #[must_use]
    pub fn new(options: PracticeOptions) -> Arc<Practice> {
        let state = Mutex::new(state::State::new(&options.size));
        Arc::new(Practice { options, state })
    }

    /// Answers on `listener` until `stop`, then lets answers in flight finish for a moment and cuts what is left:
    /// it ends soon, whatever its clients hold open. Dropping the future cuts every connection at once.
    ///
    /// # Errors
    /// None at present: a connection that breaks concerns its client alone.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) -> io::Result<()> {
        let cut = CancellationToken::new();
        let _cut_when_dropped = cut.clone().drop_guard();
        let listener = connection::CutListener { listener, cut: cut.clone() };
        let begin_to_stop = {
            let (stop, cut) = (stop.clone(), cut.clone());
            async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = cut.cancelled() => {}
                }
            }
        };
        let cut_what_is_left = async {
            stop.cancelled().await;
            tokio::time::sleep(STOP_GRACE).await;
            cut.cancel();
            std::future::pending::<()>().await;
        };
        let server = axum::serve(listener, api::router(self)).with_graceful_shutdown(begin_to_stop).into_future();
        tokio::select! {
            ended = server => ended,
            () = cut_what_is_left => Ok(()),
        }
    }
}
