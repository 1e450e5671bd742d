//! A credential as a client was given it: how long it is good, and what requests have met with that carried it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::credential::Credential;

/// A token is renewed so long before it expires: requests take their time, and clocks differ.
const MARGIN: Duration = Duration::from_secs(30);
/// But not earlier than in the last tenth of its life.
const MARGIN_DIVISOR: u32 = 10;

/// A credential, and how long it is good.
#[derive(Clone, Debug)]
pub(in crate::rest) struct Issued {
    pub(in crate::rest) credential: Arc<Credential>,
    generation: u64,
    renew_at: Option<Instant>,
    expires_at: Option<Instant>,
    standing: Arc<Standing>,
}

/// What requests have met with that carried it.
#[derive(Debug, Default)]
struct Standing {
    accepted: AtomicBool,
    in_flight: AtomicUsize,
}

/// A request that is under way with a credential.
#[derive(Debug)]
pub(in crate::rest) struct InFlight(Arc<Standing>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Issued {
    /// One that never expires, and was the first.
    pub(super) fn new(credential: Credential) -> Self {
        let standing = Arc::default();
        Self { credential: Arc::new(credential), generation: 0, renew_at: None, expires_at: None, standing }
    }

    /// The same as the successor of another.
    pub(super) fn succeeding(self, generation: u64) -> Self {
        Self { generation: generation + 1, ..self }
    }

    /// The same, good for so long since it was asked for; unknown without.
    pub(super) fn living_for(self, lifetime: Option<Duration>, since: Instant) -> Self {
        let renew_at = lifetime.map(|lifetime| since + (lifetime - MARGIN.min(lifetime / MARGIN_DIVISOR)));
        Self { renew_at, expires_at: lifetime.map(|lifetime| since + lifetime), ..self }
    }

    /// How many there were before it.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether it need not be renewed yet.
    pub(in crate::rest) fn is_fresh(&self) -> bool {
        self.renew_at.is_none_or(|at| Instant::now() < at)
    }

    pub(super) fn has_expired(&self) -> bool {
        self.expires_at.is_some_and(|at| Instant::now() >= at)
    }

    /// A request leaves with it.
    pub(in crate::rest) fn leaves(&self) -> InFlight {
        self.standing.in_flight.fetch_add(1, Ordering::AcqRel);
        InFlight(Arc::clone(&self.standing))
    }

    /// The server has let a request in with it.
    pub(in crate::rest) fn was_accepted(&self) {
        self.standing.accepted.store(true, Ordering::Release);
    }

    /// Whether it was good for another request than the one that was refused with it, or may yet turn out to be: then
    /// it has had its time. One that never was good is not replaced by its like.
    pub(in crate::rest) fn may_have_been_good(&self) -> bool {
        self.standing.accepted.load(Ordering::Acquire) || self.standing.in_flight.load(Ordering::Acquire) > 1
    }
}

#[cfg(test)]
mod tests {
    use super::Issued;
    use crate::rest::auth::Credential;
    use std::time::Duration;
    use tokio::time::{Instant, advance};

    #[tokio::test(start_paused = true)]
    async fn a_credential_is_renewed_a_little_before_it_expires() {
        for (lifetime, fresh_until) in [(3600, 3570), (60, 54), (10, 9)] {
            let issued = Issued::new(Credential::None).living_for(Some(Duration::from_secs(lifetime)), Instant::now());
            advance(Duration::from_secs(fresh_until) - Duration::from_millis(1)).await;
            assert!(issued.is_fresh(), "{lifetime}");
            advance(Duration::from_millis(1)).await;
            assert!(!issued.is_fresh() && !issued.has_expired(), "{lifetime}");
            advance(Duration::from_secs(lifetime - fresh_until)).await;
            assert!(issued.has_expired(), "{lifetime}");
        }
        let issued = Issued::new(Credential::None).living_for(None, Instant::now());
        advance(Duration::from_secs(1 << 30)).await;
        assert!(issued.is_fresh() && !issued.has_expired(), "only the server knows");
    }

    #[test]
    fn a_credential_may_have_been_good_when_others_were_let_in_or_are_under_way() {
        let issued = Issued::new(Credential::None);
        let first = issued.leaves();
        assert!(!issued.may_have_been_good());
        let second = issued.leaves();
        assert!(issued.may_have_been_good());
        drop(first);
        assert!(!issued.may_have_been_good());
        issued.was_accepted();
        drop(second);
        assert!(issued.may_have_been_good());
    }
}
