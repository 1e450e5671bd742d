//! The time limits of one exchange: every wait on a server goes through here.

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use crate::rest::ClientOptions;
use crate::rest::error::{Phase, RequestError};
use crate::rest::transport::{During, request_error};

/// What one exchange with a server may take.
#[derive(Debug)]
pub(super) struct Limits<'c> {
    /// The server, as it is shown.
    pub(super) host: &'c str,
    pub(super) options: &'c ClientOptions,
    /// The end of the whole exchange.
    pub(super) deadline: Instant,
}

impl Limits<'_> {
    /// Sends a request and waits for the head of the response.
    pub(super) async fn send(
        &self,
        http: &reqwest::Client,
        request: reqwest::Request,
    ) -> Result<reqwest::Response, RequestError> {
        timeout_at(self.deadline, http.execute(request))
            .await
            .map_err(|_| self.timed_out(Phase::Whole))?
            .map_err(|error| request_error(error, During::Head, self.host, self.options))
    }

    /// The next piece of the body; `None` at its end.
    pub(super) async fn chunk(&self, response: &mut reqwest::Response) -> Result<Option<Bytes>, RequestError> {
        let silence = Instant::now() + *self.options.read_timeout;
        match timeout_at(silence.min(self.deadline), response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(error)) => Err(request_error(error, During::Body, self.host, self.options)),
            Err(_) => Err(self.timed_out(if silence < self.deadline { Phase::Silence } else { Phase::Whole })),
        }
    }

    fn timed_out(&self, phase: Phase) -> RequestError {
        let limit = if phase == Phase::Silence { self.options.read_timeout } else { self.options.timeout };
        RequestError::Timeout { host: self.host.to_owned(), phase, limit }
    }
}
