//! Keeps the secrets of one client out of everything that is shown or stored: texts are masked, and links lose the
//! credentials that a server echoes into them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use url::{Url, form_urlencoded};

use crate::rest::client::Client;
use crate::rest::link::LinkError;
use crate::rest::request::cut;
use crate::rest::request::{RequestParts, Target, redactor_for};
use crate::secret::{MASK, Secret};
use crate::template::Template;

mod spelling;

/// Shorter texts are no secrets; masking them would only garble what is shown.
pub(super) const MASKED_BYTES_MIN: usize = 3;
/// Nothing that is shown is longer; what is behind it is not searched.
const SHOWN_BYTES_MAX: usize = 4 << 10;
/// A query value is taken for an echoed credential by its value alone only from this length on, so that a password
/// of `1` does not cost a link its `page=1`.
const ECHO_BYTES_MIN: usize = 8;

/// So many tokens are remembered of those that a client was given: each of its renewals brings two at most, and what
/// was replaced that often is worth nothing.
const ISSUED_MAX: usize = 64;

/// The secrets of a client and of one request, and the query parameters that carry them.
#[derive(Clone, Debug, Default)]
pub(super) struct Redactor {
    /// Not shown.
    masked: Vec<Secret>,
    /// Not stored as part of a link either.
    kept_out: Vec<Secret>,
    /// Put on each request anew, so that a link loses nothing when one of these is taken out of its query.
    sent_anew: Vec<Secret>,
    parameters: Vec<String>,
    /// Tokens that servers gave, shared by all redactors of a client: they come while requests are on their way.
    issued: Arc<Mutex<VecDeque<Secret>>>,
}

impl Redactor {
    /// From now on this text is not shown. It may be part of a link, as a user name is.
    pub(super) fn mask(&mut self, secret: Secret) {
        if secret.expose().len() >= MASKED_BYTES_MIN && !self.masked.contains(&secret) {
            self.masked.push(secret);
        }
    }

    /// From now on this text is neither shown nor stored.
    pub(super) fn learn(&mut self, secret: Secret) {
        if is_long(&secret) && !self.kept_out.contains(&secret) {
            self.kept_out.push(secret.clone());
        }
        self.mask(secret);
    }

    /// The same of a token that a server gave, for everyone who shares this client.
    pub(super) fn learn_issued(&self, secret: Secret) {
        let mut issued = self.issued();
        if secret.expose().len() >= MASKED_BYTES_MIN && !issued.contains(&secret) {
            if issued.len() == ISSUED_MAX {
                issued.pop_front();
            }
            issued.push_back(secret);
        }
    }

    fn issued(&self) -> MutexGuard<'_, VecDeque<Secret>> {
        self.issued.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same of a text that every request gets anew, whatever its URL: a credential, or a secret parameter.
    pub(super) fn learn_sent_anew(&mut self, secret: Secret) {
        if is_long(&secret) {
            self.sent_anew.push(secret.clone());
        }
        self.learn(secret);
    }

    /// Learns the secret parts of a template.
    pub(super) fn learn_template(&mut self, template: &Template) {
        template.secrets().cloned().for_each(|secret| self.learn(secret));
    }

    /// Learns a secret query parameter, which every request gets anew.
    pub(super) fn learn_secret_parameter(&mut self, name: &str, value: &Template) {
        self.learn_template(value);
        self.learn_sent_anew(Secret::new(value.expose()));
        self.learn_parameter(name);
    }

    /// A query parameter that carries a credential whatever its value.
    pub(super) fn learn_parameter(&mut self, name: &str) {
        self.parameters.push(name.to_owned());
    }

    /// The text with every secret masked, however it is written there, also where it is cut off; cut to 4 KiB itself.
    pub(super) fn scrub(&self, text: &str) -> String {
        self.scrub_from(text, MASKED_BYTES_MIN)
    }

    /// The same of a text that is mostly ours: short secrets, such as a user name of `api`, would only garble its words.
    pub(super) fn scrub_ours(&self, text: &str) -> String {
        self.scrub_from(text, ECHO_BYTES_MIN)
    }

    fn scrub_from(&self, text: &str, bytes_min: usize) -> String {
        let (mut text, mut fuel) = (cut(text, SHOWN_BYTES_MAX), spelling::Fuel::new());
        let issued = self.issued();
        let masked = self.masked.iter().chain(issued.iter());
        let mut masked: Vec<&Secret> = masked.filter(|secret| secret.expose().len() >= bytes_min).collect();
        // A secret may be part of another one: the longer one goes first.
        masked.sort_by_key(|secret| std::cmp::Reverse(secret.expose().len()));
        for secret in masked {
            let encoded = spelling::in_base64(secret.expose());
            for shape in encoded.iter().map(String::as_str).chain([secret.expose()]) {
                let (mut shown, mut rest) = (String::new(), text.as_str());
                while let Some(found) = spelling::find(rest, shape, true, &mut fuel) {
                    shown = shown + &rest[..found.start] + MASK;
                    rest = &rest[found.end..];
                }
                if !shown.is_empty() {
                    text = shown + rest;
                }
            }
        }
        text
    }

    /// Whether a text that is to be stored holds one of the secrets that must not be.
    pub(super) fn is_in_text(&self, text: &str) -> bool {
        self.holds(text, "")
    }

    /// Whether a secret is in this text, other than those that are `written` in the open.
    fn holds(&self, text: &str, written: &str) -> bool {
        let (issued, mut fuel) = (self.issued(), spelling::Fuel::new());
        let secrets = self.kept_out.iter().chain(issued.iter().filter(|secret| is_long(secret))).map(Secret::expose);
        secrets.filter(|secret| !written.contains(secret)).any(|secret| {
            let encoded = spelling::in_base64(secret);
            let mut shapes = encoded.iter().map(String::as_str).chain([secret]);
            shapes.any(|shape| spelling::find(text, shape, false, &mut fuel).is_some())
        })
    }

    /// Takes the query parameters out of a URL that each request gets anew, by name or by value; the others keep their
    /// bytes, which a server may have signed.
    pub(super) fn strip(&self, url: &mut Url) {
        let Some(query) = url.query() else { return };
        let kept: Vec<&str> = query.split('&').filter(|pair| !self.is_credential(pair)).collect();
        let kept = kept.join("&");
        if kept.len() != query.len() {
            url.set_query(if kept.is_empty() { None } else { Some(&kept) });
        }
    }

    fn is_credential(&self, pair: &str) -> bool {
        form_urlencoded::parse(pair.as_bytes()).any(|(name, value)| {
            self.parameters.iter().any(|parameter| *parameter == name)
                || self.sent_anew.iter().any(|secret| value == secret.expose())
                || self.issued().iter().any(|secret| is_long(secret) && value == secret.expose())
        })
    }

    /// Whether a URL holds a secret, so that it must not be stored. What the configuration itself writes in the open
    /// (`written`) is none.
    pub(super) fn is_in(&self, url: &Url, written: &str) -> bool {
        self.holds(&url[url::Position::BeforePath..], written)
    }
}

impl Client {
    /// A next link without the credentials that the server echoed into it, fit to be stored. They are put back when it
    /// is requested. `request` is the resource's first one.
    ///
    /// # Errors
    /// When the link holds a secret that it cannot do without.
    pub fn without_credentials(&self, request: &RequestParts, mut url: Url) -> Result<Url, LinkError> {
        let redactor = redactor_for(&self.common, request);
        redactor.strip(&mut url);
        let path = match &request.target {
            Target::Path(path) => path.to_string(),
            Target::Url(_) => String::new(),
        };
        let written = format!("{}\n{path}", self.common.base);
        if redactor.is_in(&url, &written) { Err(LinkError::Secret) } else { Ok(url) }
    }

    /// A text of ours about `request` as it may be shown, whatever the server put into it.
    #[must_use]
    pub fn masked(&self, request: &RequestParts, text: &str) -> String {
        redactor_for(&self.common, request).scrub_ours(text)
    }

    /// Whether a text that the server gave, and that is to be stored, holds a secret. `request` is the resource's first.
    #[must_use]
    pub fn holds_secret(&self, request: &RequestParts, text: &str) -> bool {
        redactor_for(&self.common, request).is_in_text(text)
    }
}

fn is_long(secret: &Secret) -> bool {
    secret.expose().len() >= ECHO_BYTES_MIN
}

#[cfg(test)]
mod tests {
    use super::Redactor;
    use crate::secret::Secret;
    use url::Url;

    fn redactor(secrets: &[&str], parameters: &[&str]) -> Redactor {
        let mut redactor = Redactor::default();
        secrets.iter().for_each(|secret| redactor.learn_sent_anew(Secret::new((*secret).to_owned())));
        parameters.iter().for_each(|name| redactor.learn_parameter(name));
        redactor
    }

    #[test]
    fn secrets_are_masked_in_every_encoding() {
        let redactor = redactor(&["k&y \"1\"", "k&y"], &[]);
        for text in ["x k&y \"1\" y", "x k%26y+%221%22 y", "x k%26y%20%221%22 y", r#"x k&y \"1\" y"#] {
            assert_eq!(redactor.scrub(text), "x *** y", "{text}");
        }
    }

    #[test]
    fn a_short_user_name_does_not_garble_what_we_say() {
        let redactor = redactor(&["api", "s3cret&token"], &[]);
        let said = "https://api.example.com/ closed the connection: s3cret%26token";
        assert_eq!(redactor.scrub_ours(said), "https://api.example.com/ closed the connection: ***");
        assert_eq!(redactor.scrub("key api"), "key ***");
    }

    #[test]
    fn p06_credentials_that_a_link_echoes_are_stripped_and_the_rest_keeps_its_bytes() {
        let redactor = redactor(&["s3cret&token", "1"], &["api_key"]);
        for (url, stripped) in [
            ("https://a/x?page=2&api_key=zzz&sig=a%2fb", "https://a/x?page=2&sig=a%2fb"),
            ("https://a/x?api%5Fkey=zzz", "https://a/x"),
            ("https://a/x?access_token=s3cret%26token&page=1", "https://a/x?page=1"),
            ("https://a/x?page=1&q=%7b%7D+", "https://a/x?page=1&q=%7b%7D+"),
            ("https://a/x", "https://a/x"),
        ] {
            let mut url = Url::parse(url).unwrap();
            redactor.strip(&mut url);
            assert_eq!(url.as_str(), stripped);
        }
    }

    #[test]
    fn p06_a_parameter_that_only_looks_like_a_secret_is_kept() {
        let mut redactor = redactor(&[], &[]);
        redactor.learn(Secret::new("tenant-number-7".to_owned()));
        let mut url = Url::parse("https://a/x?tenant=tenant-number-7&page=2").unwrap();
        redactor.strip(&mut url);
        assert_eq!(url.query(), Some("tenant=tenant-number-7&page=2"), "no request would get it back");
        assert!(redactor.is_in(&url, ""), "so such a link cannot be stored");
        assert!(!redactor.is_in(&url, "https://a/tenant-number-7"), "unless it is no secret");
    }

    #[test]
    fn a_secret_is_found_in_a_url_however_it_is_encoded() {
        let mut redactor = redactor(&["s3c/et&to=k+n"], &[]);
        redactor.mask(Secret::new("octocat-1".to_owned()));
        for url in [
            "https://a/bots3c/et&to=k+n/x",
            "https://a/s3c%2fet%26to%3Dk%2bn",
            "https://a/x?q=as3c%2fet%26to%3dk%2bn",
            "https://a/x?q=s3c/et%26to%3dk%2bn",
        ] {
            assert!(redactor.is_in(&Url::parse(url).unwrap(), "https://a/x"), "{url}");
        }
        for url in ["https://a/x?page=2", "https://a/users/octocat-1/items"] {
            assert!(!redactor.is_in(&Url::parse(url).unwrap(), "https://a/x"), "{url}");
        }
    }
}
