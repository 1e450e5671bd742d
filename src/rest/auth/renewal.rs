//! Credentials that expire: one renewal at a time, for everybody who waits for it. It is a task of its own, so that it
//! goes on when its first waiter is stopped, or stands in line for its place: a refresh token that was used up and
//! whose successor nobody read would be lost.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::answer::{Answer, TokenPath};
use super::credential::Credential;
use super::issued::Issued;
use super::oauth::{ClientCredentials, RefreshToken};
use super::session::{LoginMethod, SessionToken};
use super::store::{RefreshTokens, TokenStore};
use super::{Auth, bearer};
use crate::progress::{ResourceProgress, Waiting};
use crate::rest::ClientOptions;
use crate::rest::budget::Budget;
use crate::rest::error::{ClientError, ErrorKind, RequestError};
use crate::rest::link::shown_host;
use crate::rest::redact::Redactor;
use crate::rest::request::{Common, Prepared, RequestParts, Target};
use crate::rest::transport;
use crate::tasks::TaskGroup;
use crate::template::JsonTemplate;

/// Why there are no new credentials; shared by all who waited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::rest) struct RenewalError {
    kind: ErrorKind,
    reason: String,
}

impl From<RequestError> for RenewalError {
    fn from(error: RequestError) -> Self {
        let reason = match &error {
            RequestError::CredentialsRefused { .. } | RequestError::NoCredentials { .. } => error.to_string(),
            _ => format!("asking for credentials: {error}"),
        };
        Self { kind: error.kind(), reason }
    }
}

impl From<RenewalError> for RequestError {
    fn from(error: RenewalError) -> Self {
        match error.kind {
            ErrorKind::Interrupted => Self::Interrupted,
            kind => Self::Renewal { kind, reason: error.reason },
        }
    }
}

/// Where the credentials of a client's requests come from.
#[derive(Debug)]
pub(in crate::rest) enum Authenticator {
    /// They stand in the configuration.
    Fixed { kind: Option<&'static str>, issued: Issued },
    /// They are asked for, and expire.
    Renewed(Arc<Renewer>),
}

/// What an [`Authenticator`] is made of.
pub(in crate::rest) struct Setup<'a> {
    pub(in crate::rest) name: &'a str,
    pub(in crate::rest) options: &'a ClientOptions,
    pub(in crate::rest) common: &'a Common,
    pub(in crate::rest) http: &'a reqwest::Client,
    pub(in crate::rest) budget: &'a Arc<Budget>,
    pub(in crate::rest) store: TokenStore,
}

/// Asks for credentials, and keeps what came until it expires or is refused.
pub(in crate::rest) struct Renewer {
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) way: Way,
    /// Who is asked, as it is shown.
    pub(super) host: String,
    pub(super) options: ClientOptions,
    pub(super) http: reqwest::Client,
    pub(super) budget: Arc<Budget>,
    pub(super) redactor: Redactor,
    /// What the renewal that is under way waits for.
    pub(super) pauses: watch::Sender<Option<(Timestamp, String)>>,
    closing: CancellationToken,
    state: Mutex<State>,
}

/// How credentials are asked for.
pub(super) enum Way {
    ClientCredentials { options: ClientCredentials, url: Url },
    RefreshToken { options: RefreshToken, url: Url, tokens: RefreshTokens },
    Session { options: SessionToken, login: Box<Prepared>, token_path: TokenPath },
}

#[derive(Default)]
struct State {
    issued: Option<Issued>,
    /// Credentials that were refused are not sent again.
    refused: Option<RenewalError>,
    under_way: Option<UnderWay>,
}

type Flight = Shared<BoxFuture<'static, Result<Issued, RenewalError>>>;

/// A renewal, and the task that brings it to its end whoever waits for it.
struct UnderWay {
    flight: Flight,
    task: TaskGroup<(), ()>,
}

impl fmt::Debug for Renewer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewer").field("kind", &self.kind).field("host", &self.host).finish_non_exhaustive()
    }
}

impl Authenticator {
    /// # Errors
    /// When the credentials cannot be sent, or what is kept of them cannot be read.
    pub(in crate::rest) fn new(setup: Setup<'_>) -> Result<Self, ClientError> {
        let Setup { name, options, common, http, budget, store } = setup;
        let unusable = |reason| ClientError::Unusable { client: name.to_owned(), reason };
        let endpoint = |text: &str| {
            Url::parse(text).map_err(|error| unusable(format!("`auth.access_token_url` is not a URL: {error}")))
        };
        let (auth, way) = match &options.auth {
            None => return Ok(Self::Fixed { kind: None, issued: Issued::new(Credential::None) }),
            Some(auth @ Auth::OAuth2ClientCredentials(options)) => {
                let url = endpoint(&options.access_token_url)?;
                (auth, Way::ClientCredentials { options: options.clone(), url })
            }
            Some(auth @ Auth::OAuth2RefreshToken(options)) => {
                let url = endpoint(&options.access_token_url)?;
                let tokens = RefreshTokens::open(options, store).map_err(unusable)?;
                (auth, Way::RefreshToken { options: options.clone(), url, tokens })
            }
            Some(auth @ Auth::SessionToken(options)) => {
                let login = Box::new(Prepared::new(common, &login(options)).map_err(unusable)?);
                let token_path = TokenPath::parse(&options.token_path).map_err(unusable)?;
                (auth, Way::Session { options: options.clone(), login, token_path })
            }
            Some(auth) => {
                let credential = auth.credential().map_err(unusable)?;
                return Ok(Self::Fixed { kind: Some(auth.kind()), issued: Issued::new(credential) });
            }
        };
        let url = match &way {
            Way::ClientCredentials { url, .. } | Way::RefreshToken { url, .. } => url,
            Way::Session { .. } => &common.base,
        };
        let https = url.scheme() == "https";
        let same_http = https == (common.base.scheme() == "https");
        if let Way::RefreshToken { tokens, .. } = &way {
            common.redactor.learn_issued(tokens.token());
        }
        Ok(Self::Renewed(Arc::new(Renewer {
            name: name.to_owned(),
            kind: auth.kind(),
            host: shown_host(url),
            http: if same_http { http.clone() } else { transport::build(name, https, options)? },
            way,
            options: options.clone(),
            budget: Arc::clone(budget),
            redactor: common.redactor.clone(),
            pauses: watch::Sender::new(None),
            closing: CancellationToken::new(),
            state: Mutex::default(),
        })))
    }

    /// The type of the client's `auth`.
    pub(in crate::rest) fn kind(&self) -> Option<&'static str> {
        match self {
            Self::Fixed { kind, .. } => *kind,
            Self::Renewed(renewer) => Some(renewer.kind),
        }
    }

    pub(in crate::rest) fn is_renewable(&self) -> bool {
        matches!(self, Self::Renewed(_))
    }

    /// Credentials that are good for a while, renewed first where they are not. No permit may be held meanwhile: a
    /// login takes one.
    pub(in crate::rest) async fn ready(&self, progress: &ResourceProgress) -> Result<Issued, RequestError> {
        match self {
            Self::Fixed { issued, .. } => Ok(issued.clone()),
            Self::Renewed(renewer) => renewer.ready(progress).await.map_err(RequestError::from),
        }
    }

    /// Other credentials than these, which were refused. A renewal that has happened since counts.
    pub(in crate::rest) async fn renew(
        &self,
        refused: &Issued,
        progress: &ResourceProgress,
    ) -> Result<Issued, RequestError> {
        match self {
            Self::Fixed { issued, .. } => Ok(issued.clone()),
            Self::Renewed(renewer) => renewer.renew(refused, progress).await.map_err(RequestError::from),
        }
    }

    /// Brings a renewal to its end that is under way. New ones do not begin.
    pub(in crate::rest) async fn close(&self) -> Result<(), String> {
        match self {
            Self::Fixed { .. } => Ok(()),
            Self::Renewed(renewer) => renewer.close().await,
        }
    }
}

fn login(options: &SessionToken) -> RequestParts {
    RequestParts {
        method: match options.login.method {
            LoginMethod::Post => http::Method::POST,
            LoginMethod::Get => http::Method::GET,
        },
        target: Target::Path(options.login.path.clone()),
        params: Vec::new(),
        headers: Vec::new(),
        form: None,
        json: options.login.json.as_ref().map(JsonTemplate::expose),
        secrets: options.secrets(),
    }
}

impl Renewer {
    async fn ready(self: &Arc<Self>, progress: &ResourceProgress) -> Result<Issued, RenewalError> {
        let (flight, current) = {
            let mut state = self.lock();
            let current = state.issued.clone();
            if let Some(issued) = current.as_ref().filter(|issued| issued.is_fresh()) {
                return Ok(issued.clone());
            }
            (self.flight(&mut state)?, current)
        };
        match (self.wait(flight, progress).await, current) {
            // There is no need to fail before it has really expired.
            (Err(error), Some(current)) if error.kind != ErrorKind::Forbidden && !current.has_expired() => {
                tracing::warn!(client = self.name, "going on with the credentials that soon expire: {}", error.reason);
                Ok(current)
            }
            (result, _) => result,
        }
    }

    async fn renew(self: &Arc<Self>, refused: &Issued, progress: &ResourceProgress) -> Result<Issued, RenewalError> {
        let flight = {
            let mut state = self.lock();
            match &state.issued {
                Some(issued) if issued.generation() > refused.generation() => return Ok(issued.clone()),
                _ => self.flight(&mut state)?,
            }
        };
        self.wait(flight, progress).await
    }

    /// Waits for a renewal, and shows what that waits for. Who waits for long leaves its place to others.
    async fn wait(&self, mut flight: Flight, progress: &ResourceProgress) -> Result<Issued, RenewalError> {
        let mut pauses = self.pauses.subscribe();
        let mut notice = Waiting::new(progress);
        loop {
            if let Some((until, reason)) = &*pauses.borrow_and_update() {
                notice.show(*until, reason);
            }
            tokio::select! {
                result = &mut flight => return result,
                Ok(()) = pauses.changed() => {}
            }
        }
    }

    /// The renewal that is under way, or a new one.
    fn flight(self: &Arc<Self>, state: &mut State) -> Result<Flight, RenewalError> {
        if let Some(refused) = &state.refused {
            return Err(refused.clone());
        }
        if let Some(under_way) = state.under_way.as_ref().filter(|under_way| under_way.flight.peek().is_none()) {
            return Ok(under_way.flight.clone());
        }
        if self.closing.is_cancelled() {
            return Err(RequestError::Interrupted.into());
        }
        let before = state.issued.as_ref().map_or(0, Issued::generation);
        let flight = Arc::clone(self).renew_now(before).boxed().shared();
        let mut task = TaskGroup::default();
        // Whoever waits for it hands the error on.
        task.spawn((), flight.clone().map(drop));
        state.under_way = Some(UnderWay { flight: flight.clone(), task });
        Ok(flight)
    }

    async fn renew_now(self: Arc<Self>, before: u64) -> Result<Issued, RenewalError> {
        let result = self.issue(before).await;
        let mut state = self.lock();
        match &result {
            Ok(issued) => state.issued = Some(issued.clone()),
            Err(error) if error.kind == ErrorKind::Forbidden => state.refused = Some(error.clone()),
            Err(_) => {}
        }
        result
    }

    async fn issue(&self, before: u64) -> Result<Issued, RenewalError> {
        let answer = match &self.way {
            Way::RefreshToken { tokens, .. } => {
                let unstored = |reason| RenewalError { kind: ErrorKind::Storage, reason };
                let save = tokens.reserve().map_err(unstored)?;
                let answered = self.within_limit(self.ask(Some(&tokens.token()))).await?;
                answered.0.refresh_token.clone().into_iter().for_each(|token| self.redactor.learn_issued(token));
                // Before anything is done with the new access token: from now on only its companion is good.
                tokens.rotate(answered.0.refresh_token.clone(), save).map_err(unstored)?;
                answered
            }
            Way::ClientCredentials { .. } | Way::Session { .. } => self.within_limit(self.ask(None)).await?,
        };
        let (Answer { token, lifetime, .. }, sent) = answer;
        self.redactor.learn_issued(token.clone());
        let credential = match &self.way {
            Way::Session { options, .. } => options.credential(&token),
            Way::ClientCredentials { .. } | Way::RefreshToken { .. } => bearer(&token, "access_token"),
        };
        let credential = credential.map_err(|reason| RenewalError {
            kind: ErrorKind::Unavailable,
            reason: format!("the token from {} cannot be sent: {reason}", self.host),
        })?;
        tracing::info!(client = self.name, host = self.host, ?lifetime, "new credentials");
        Ok(Issued::new(credential).succeeding(before).living_for(lifetime, sent))
    }

    /// Everybody waits for a renewal, so all of its tries and pauses together have an end of their own.
    async fn within_limit<T>(&self, ask: impl Future<Output = Result<T, RequestError>>) -> Result<T, RenewalError> {
        let (retry, limits) = (&self.options.retry, &self.options);
        let limit = *retry.max_elapsed + (*retry.max_elapsed).max(*retry.max_retry_after) + 2 * *limits.timeout;
        match timeout(limit, ask).await {
            Ok(result) => result.map_err(RenewalError::from),
            Err(_) => Err(RenewalError {
                kind: ErrorKind::Unavailable,
                reason: format!("{} gave no credentials within {limit:?}", self.host),
            }),
        }
    }

    /// Waits for something that may be cut short when the client is closed.
    pub(super) async fn unless_closing<T>(&self, wait: impl Future<Output = T>) -> Result<T, RequestError> {
        self.closing.run_until_cancelled(wait).await.ok_or(RequestError::Interrupted)
    }

    async fn close(&self) -> Result<(), String> {
        self.closing.cancel();
        let under_way = self.lock().under_way.take();
        if let Some(mut under_way) = under_way
            && let Some(((), Err(panic))) = under_way.task.next().await
        {
            return Err(panic.to_string());
        }
        match &self.way {
            Way::RefreshToken { tokens, .. } => tokens.close(),
            Way::ClientCredentials { .. } | Way::Session { .. } => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
