//! Refresh tokens that outlive the process. A server that gives a new one with every renewal (rotation, RFC 9700
//! §4.14.2) takes the old one for stolen from then on, so the new one is stored before anything else happens. Where it
//! is stored is the caller's matter.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

use super::oauth::RefreshToken;
use crate::secret::Secret;
use crate::tasks::busy;

/// Enough that no two fingerprints of a token are alike.
const SALT_BYTES: usize = 16;

/// A refresh token as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptToken {
    /// The token.
    pub refresh_token: Secret,
    /// A salted fingerprint of the configuration that it descends from.
    pub configured: String,
}

/// Stores a refresh token where there is room for it already.
pub type SaveToken = Box<dyn FnOnce(&KeptToken) -> Result<(), String> + Send>;

/// Where the refresh token of one client is kept. The errors are sentences without secrets.
pub struct TokenStore {
    /// Reads what is kept, if anything is.
    pub load: Box<dyn Fn() -> Result<Option<KeptToken>, String> + Send + Sync>,
    /// Makes room for a token: whatever could keep it from being stored shows itself now, while the old one is good.
    pub reserve: Box<dyn Fn() -> Result<SaveToken, String> + Send + Sync>,
}

impl fmt::Debug for TokenStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenStore").finish_non_exhaustive()
    }
}

/// The refresh token of one client.
#[derive(Debug)]
pub(super) struct RefreshTokens {
    store: TokenStore,
    configured: String,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    token: Secret,
    /// It came from the server and could not be stored.
    unsaved: bool,
}

impl RefreshTokens {
    /// The kept token, unless the configuration has changed since: then its own.
    pub(super) fn open(options: &RefreshToken, store: TokenStore) -> Result<Self, String> {
        let kept = (store.load)()?.filter(|kept| is_fingerprint_of(&kept.configured, options));
        let (token, configured) = match kept {
            Some(kept) => (kept.refresh_token, kept.configured),
            None => (options.refresh_token.clone(), fingerprint(options)?),
        };
        Ok(Self { store, configured, current: Mutex::new(Current { token, unsaved: false }) })
    }

    /// The token to be sent next.
    pub(super) fn token(&self) -> Secret {
        self.lock().token.clone()
    }

    /// Makes room for the token that will take its place.
    pub(super) fn reserve(&self) -> Result<SaveToken, String> {
        busy(|| (self.store.reserve)())
    }

    /// Stores what has taken its place. Where that fails it is kept in memory, and tried again by the next.
    pub(super) fn rotate(&self, successor: Option<Secret>, save: SaveToken) -> Result<(), String> {
        let kept = {
            let mut current = self.lock();
            if let Some(token) = successor.filter(|token| *token != current.token) {
                *current = Current { token, unsaved: true };
            }
            if !current.unsaved {
                return Ok(());
            }
            KeptToken { refresh_token: current.token.clone(), configured: self.configured.clone() }
        };
        busy(|| save(&kept))?;
        self.lock().unsaved = false;
        Ok(())
    }

    /// Tries once more to store a token that could not be stored.
    pub(super) fn close(&self) -> Result<(), String> {
        if self.lock().unsaved { self.rotate(None, self.reserve()?) } else { Ok(()) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A text that changes with the configured token, its client and its server, and tells nothing about them.
fn fingerprint(options: &RefreshToken) -> Result<String, String> {
    let mut salt = [0; SALT_BYTES];
    SystemRandom::new().fill(&mut salt).map_err(|_| "the system has no random numbers".to_owned())?;
    Ok(marked(&hex(&salt), options))
}

fn is_fingerprint_of(mark: &str, options: &RefreshToken) -> bool {
    mark.split_once(':').is_some_and(|(salt, _)| marked(salt, options) == mark)
}

fn marked(salt: &str, options: &RefreshToken) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, salt.as_bytes());
    let mut context = hmac::Context::with_key(&key);
    for part in [&options.access_token_url, options.client_id.expose(), options.refresh_token.expose()] {
        // With the lengths, no two different lists run together into the same bytes.
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    format!("{salt}:{}", hex(context.sign().as_ref()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::{KeptToken, RefreshToken, RefreshTokens, Secret, TokenStore};
    use serde_json::json;
    use std::sync::{Arc, Mutex};

    fn options(token: &str, client: &str) -> RefreshToken {
        let url = "https://a/t";
        serde_json::from_value(json!({ "access_token_url": url, "client_id": client, "refresh_token": token })).unwrap()
    }

    /// A store in memory that fails to save so many times.
    fn store(kept: &Arc<Mutex<Option<KeptToken>>>, failures: usize) -> TokenStore {
        let (loaded, saved) = (Arc::clone(kept), Arc::clone(kept));
        let failures = Arc::new(Mutex::new(failures));
        TokenStore {
            load: Box::new(move || Ok(loaded.lock().unwrap().clone())),
            reserve: Box::new(move || {
                let (saved, failures) = (Arc::clone(&saved), Arc::clone(&failures));
                Ok(Box::new(move |token: &KeptToken| {
                    let mut failures = failures.lock().unwrap();
                    if *failures > 0 {
                        *failures -= 1;
                        return Err("disk full".to_owned());
                    }
                    *saved.lock().unwrap() = Some(token.clone());
                    Ok(())
                }))
            }),
        }
    }

    fn token(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    #[test]
    fn a_kept_token_wins_until_the_configuration_has_another() {
        let kept = Arc::default();
        let first = RefreshTokens::open(&options("canary-1", "me"), store(&kept, 0)).unwrap();
        assert_eq!(first.token().expose(), "canary-1");
        first.rotate(Some(token("r2")), first.reserve().unwrap()).unwrap();
        assert!(!kept.lock().unwrap().as_ref().unwrap().configured.contains("canary"));
        for (configured, client, expected) in
            [("canary-1", "me", "r2"), ("canary-new", "me", "canary-new"), ("canary-1", "other", "canary-1")]
        {
            let again = RefreshTokens::open(&options(configured, client), store(&kept, 0)).unwrap();
            assert_eq!(again.token().expose(), expected, "{configured} {client}");
        }
    }

    #[test]
    fn a_token_that_does_not_change_is_not_written_anywhere() {
        let kept = Arc::default();
        let tokens = RefreshTokens::open(&options("r1", "me"), store(&kept, 0)).unwrap();
        tokens.rotate(None, tokens.reserve().unwrap()).unwrap();
        tokens.rotate(Some(token("r1")), tokens.reserve().unwrap()).unwrap();
        tokens.close().unwrap();
        assert_eq!(*kept.lock().unwrap(), None);
    }

    #[test]
    fn a_token_that_could_not_be_stored_is_tried_again() {
        let kept = Arc::default();
        let tokens = RefreshTokens::open(&options("r1", "me"), store(&kept, 1)).unwrap();
        assert_eq!(tokens.rotate(Some(token("r2")), tokens.reserve().unwrap()).unwrap_err(), "disk full");
        assert_eq!(tokens.token().expose(), "r2", "the old one is used up");
        tokens.close().unwrap();
        assert_eq!(kept.lock().unwrap().as_ref().unwrap().refresh_token.expose(), "r2");
    }
}
