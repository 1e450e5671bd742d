//! What can become of a request, as values that callers branch on. The texts are for people: no secret, no query,
//! no body, and what to do next where there is something to do.

use std::fmt;

use jiff::Timestamp;

use crate::rest::link::LinkError;
use crate::units::{ByteSize, Timespan};

/// Why a client cannot be made. The configuration, or the machine, is to be changed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The base URL is not one.
    #[error("client of `{client}`: `base_url` {reason}")]
    BaseUrl {
        /// Which client.
        client: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A header, parameter or credential cannot be sent.
    #[error("client of `{client}`: {reason}")]
    Unusable {
        /// Which client.
        client: String,
        /// What is wrong, naming the key and never its value.
        reason: String,
    },
    /// The machine has no certificates to check servers against.
    #[error(
        "client of `{client}`: this machine has no CA certificates to check an https server against; \
         install the package `ca-certificates`"
    )]
    NoCertificates {
        /// Which client.
        client: String,
    },
}

/// What a request was doing when its time was up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Name lookup, TCP and TLS: `connect_timeout`.
    Connect,
    /// Between two reads of the body: `read_timeout`.
    Silence,
    /// The whole attempt: `timeout`.
    Whole,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "accept a connection within `connect_timeout`",
            Self::Silence => "send more of its body within `read_timeout`",
            Self::Whole => "complete its response within `timeout`",
        })
    }
}

/// Why a logical request, retries included, has no result.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// A time limit of the client.
    #[error("{host} did not {phase} ({limit})")]
    Timeout {
        /// The server.
        host: String,
        /// Which limit.
        phase: Phase,
        /// How long it is.
        limit: Timespan,
    },
    /// No connection: name lookup, refused, unreachable.
    #[error("cannot connect to {host}: {reason}")]
    Connect {
        /// The server.
        host: String,
        /// What the system says.
        reason: String,
    },
    /// A certificate that does not hold, or no TLS at all. Never tried again.
    #[error("no trusted connection to {host}: {reason}")]
    Tls {
        /// The server.
        host: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The connection ended before a response began.
    #[error("{host} closed the connection before it answered")]
    Reset {
        /// The server.
        host: String,
    },
    /// The connection ended inside a body.
    #[error("the body from {host} was cut off: {reason}")]
    BodyCut {
        /// The server.
        host: String,
        /// What the connection says.
        reason: String,
    },
    /// A body that cannot be decompressed.
    #[error("the body from {host} cannot be decompressed: {reason}")]
    Encoding {
        /// The server.
        host: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Bytes that are not HTTP, or HTTP that contradicts itself.
    #[error("{host} does not answer in valid HTTP: {reason}")]
    NotHttp {
        /// The server.
        host: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A body beyond `max_page_bytes`.
    #[error(
        "the page from {host} is larger than `max_page_bytes` ({limit}): ask for fewer records per page, or raise it"
    )]
    TooLarge {
        /// The server.
        host: String,
        /// The limit.
        limit: ByteSize,
    },
    /// A status that says no.
    #[error("{host} answered {status}{}", Colon(.message))]
    Status {
        /// The server.
        host: String,
        /// Its status code.
        status: u16,
        /// The message of a JSON error body, shortened.
        message: Option<String>,
    },
    /// 401 or 403.
    #[error("{host} answered {status}{}: {advice}", Colon(.message))]
    Unauthorized {
        /// The server.
        host: String,
        /// 401 or 403.
        status: u16,
        /// What to look at.
        advice: String,
        /// The message of a JSON error body, shortened.
        message: Option<String>,
    },
    /// Who hands out credentials refuses those of the configuration.
    #[error("{host} refuses the `{kind}` credentials: {reason}")]
    CredentialsRefused {
        /// The token endpoint, or the API of a login.
        host: String,
        /// The type of the client's `auth`.
        kind: &'static str,
        /// What it says, shortened.
        reason: String,
    },
    /// Who hands out credentials handed out none.
    #[error("{host} gave no credentials: {reason}")]
    NoCredentials {
        /// The token endpoint, or the API of a login.
        host: String,
        /// Its status code.
        status: u16,
        /// What it says, shortened.
        reason: String,
    },
    /// The credentials could not be renewed; everybody who waited for that gets the same words.
    #[error("{reason}")]
    Renewal {
        /// The family of what went wrong.
        kind: ErrorKind,
        /// What went wrong.
        reason: String,
    },
    /// The server wants a longer pause, or more of them, than a run waits for.
    #[error("rate limited until {until:.0}, longer than a run waits for one page (`max_retry_after`): run again then")]
    RateLimited {
        /// When requests are allowed again.
        until: Timestamp,
    },
    /// A response that is not a page, more than once.
    #[error("{host} answered with something that is not a page: {reason}")]
    NotAPage {
        /// The server.
        host: String,
        /// What the reader says of it.
        reason: String,
    },
    /// A next link or redirect to somewhere else.
    #[error("a link leads to another origin ({host}): only the origin of `base_url` is read")]
    ForeignOrigin {
        /// Where it leads.
        host: String,
    },
    /// A next link or redirect that cannot be followed.
    #[error("a link cannot be followed: {0}")]
    Link(LinkError),
    /// A redirect that is not followed.
    #[error("{host} answered {status}, a redirect that is not followed: {reason}")]
    Redirect {
        /// The server.
        host: String,
        /// Its status code.
        status: u16,
        /// Why not.
        reason: String,
    },
    /// A status that has no business here: 206, 1xx, 3xx that is no redirect, above 599.
    #[error("{host} answered {status}, which is not expected here")]
    UnexpectedStatus {
        /// The server.
        host: String,
        /// Its status code.
        status: u16,
    },
    /// A response action failed the read, or could not be evaluated.
    #[error("{host} answered {status}: {reason}{}", Colon(.message))]
    Action {
        /// The server.
        host: String,
        /// Its status code.
        status: u16,
        /// Which rule, and why.
        reason: String,
        /// The message of a JSON error body, shortened.
        message: Option<String>,
    },
    /// The run is being stopped.
    #[error("interrupted")]
    Interrupted,
    /// The budget could not be kept; nothing is sent that a restart would not know of.
    #[error("the request budget `{budget}` cannot be stored: {reason}")]
    Store {
        /// Which budget.
        budget: String,
        /// What the store says.
        reason: String,
    },
    /// The request as configured cannot be sent.
    #[error("the request cannot be sent: {reason}")]
    Request {
        /// What is wrong, naming the key and never its value.
        reason: String,
    },
}

struct Colon<'a>(&'a Option<String>);

impl fmt::Display for Colon<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |message| write!(f, ": {message}"))
    }
}

/// The families that exit codes are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The API is down, or refuses: 69.
    Unavailable,
    /// The API does not let us in: 77.
    Forbidden,
    /// Later: 75.
    RateLimited,
    /// Stopped: 75.
    Interrupted,
    /// Our own file fails us: 74.
    Storage,
    /// The configuration is to be changed: 78.
    Config,
}

/// Whether the same request, sent again, may fare better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hope {
    /// What failed may pass.
    Good,
    /// It may pass, but hardly.
    Faint,
    /// It would fail again.
    None,
}

impl RequestError {
    /// Whether it may pass. What a server answered is for others to judge.
    pub(super) fn hope(&self) -> Hope {
        match self {
            Self::Timeout { .. } | Self::Connect { .. } | Self::Reset { .. } | Self::BodyCut { .. } => Hope::Good,
            Self::NotHttp { .. } | Self::Encoding { .. } => Hope::Faint,
            _ => Hope::None,
        }
    }

    /// Which family it belongs to.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unauthorized { .. } | Self::CredentialsRefused { .. } => ErrorKind::Forbidden,
            Self::Renewal { kind, .. } => *kind,
            Self::RateLimited { .. } | Self::Status { status: 429, .. } | Self::NoCredentials { status: 429, .. } => {
                ErrorKind::RateLimited
            }
            Self::Interrupted => ErrorKind::Interrupted,
            Self::Store { .. } => ErrorKind::Storage,
            Self::Request { .. } => ErrorKind::Config,
            _ => ErrorKind::Unavailable,
        }
    }

    /// Whether the server refused what was asked for, as it does when a stored page token went stale.
    #[must_use]
    pub fn is_position_rejected(&self) -> bool {
        matches!(self, Self::Status { status: 400 | 404 | 410 | 422, .. })
    }
}

impl From<LinkError> for RequestError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Foreign { host } => Self::ForeignOrigin { host },
            other => Self::Link(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ErrorKind, RequestError};

    #[test]
    fn the_families_and_stale_positions_follow_from_the_error() {
        let status = |status| RequestError::Status { host: "h".into(), status, message: None };
        assert_eq!(status(500).kind(), ErrorKind::Unavailable);
        assert_eq!(status(429).kind(), ErrorKind::RateLimited);
        assert_eq!(RequestError::Interrupted.kind(), ErrorKind::Interrupted);
        assert_eq!(RequestError::Request { reason: String::new() }.kind(), ErrorKind::Config);
        for (code, stale) in [(400, true), (404, true), (410, true), (422, true), (409, false), (500, false)] {
            assert_eq!(status(code).is_position_rejected(), stale, "{code}");
        }
    }

    #[test]
    fn a_text_ends_with_the_servers_message_if_there_is_one() {
        let text = |message| RequestError::Status { host: "h".into(), status: 404, message }.to_string();
        assert_eq!((text(None), text(Some("gone".into()))), ("h answered 404".into(), "h answered 404: gone".into()));
    }
}
