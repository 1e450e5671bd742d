//! What a request waits for before it may leave: credentials, its budget, and memory for the answer.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::page::Slot;
use crate::progress::Waiting;
use crate::rest::auth::{InFlight, Issued};
use crate::rest::budget::{Permit, Refused};
use crate::rest::client::{Call, Client};
use crate::rest::error::RequestError;
use crate::rest::retry::Tally;

/// Memory is kept for so long while the budget has the request wait.
const HELD_WHILE_WAITING: Duration = Duration::from_secs(2);

/// Everything that a request needs to leave.
pub(super) struct Leave {
    pub(super) issued: Issued,
    /// Until the answer is judged.
    pub(super) in_flight: InFlight,
    /// Given back as soon as the answer is there.
    pub(super) permit: Option<Permit>,
    pub(super) slot: Slot,
}

impl Client {
    /// Credentials, leave to send, and memory for the answer, in this order: a login takes leave of the same budget.
    pub(super) async fn leave(&self, call: &Call<'_>, tally: &mut Tally) -> Result<Leave, RequestError> {
        let began = Instant::now();
        let mut issued = self.auth.ready(call.progress).await?;
        tally.excused += began.elapsed();
        let (mut permit, mut slot) = self.permit_and_slot(call, tally).await?;
        if !issued.is_fresh() {
            // The wait was long. Once: credentials that live for less than the wait are sent as they are.
            drop((permit, slot));
            let began = Instant::now();
            issued = self.auth.ready(call.progress).await?;
            tally.excused += began.elapsed();
            (permit, slot) = self.permit_and_slot(call, tally).await?;
        }
        Ok(Leave { in_flight: issued.leaves(), issued, permit: Some(permit), slot })
    }

    /// Leave to send, and memory for the answer.
    pub(super) async fn permit_and_slot(
        &self,
        call: &Call<'_>,
        tally: &mut Tally,
    ) -> Result<(Permit, Slot), RequestError> {
        loop {
            let permit = self.permit(call, tally).await?;
            let began = Instant::now();
            let mut slot = pin!(call.room.take());
            if let Poll::Ready(slot) = futures::poll!(slot.as_mut()) {
                return Ok((permit, slot));
            }
            // Whoever waits for memory must not hold a place that a request with memory waits for; nor the other way
            // round for longer than a moment.
            drop(permit);
            let slot = slot.await;
            tally.excused += began.elapsed();
            if let Ok(permit) = timeout(HELD_WHILE_WAITING, self.permit(call, tally)).await {
                return Ok((permit?, slot));
            }
        }
    }

    pub(super) async fn permit(&self, call: &Call<'_>, tally: &mut Tally) -> Result<Permit, RequestError> {
        let began = Instant::now();
        let mut notice = Waiting::new(call.progress);
        let patience = *self.options.retry.max_retry_after;
        let result = self.budget.acquire(patience, |until, reason| notice.show(until, reason)).await;
        tally.excused += began.elapsed();
        result.map_err(|refused| match refused {
            Refused::PausedUntil(until) => RequestError::RateLimited { until },
            Refused::Store(reason) => RequestError::Store { budget: self.budget.name().to_owned(), reason },
        })
    }

    pub(super) async fn pause(&self, delay: Duration, reason: &str) -> Result<(), RequestError> {
        let paused = self.budget.pause(Instant::now() + delay, reason).await;
        paused.map_err(|reason| RequestError::Store { budget: self.budget.name().to_owned(), reason })
    }
}
