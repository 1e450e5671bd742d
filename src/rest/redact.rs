//! Keeps the secrets of one client out of everything that is shown or stored: texts are masked, and links lose the
//! credentials that a server echoes into them.

use url::{Url, form_urlencoded};

use crate::secret::{MASK, Secret};
use crate::template::Template;

/// Shorter texts are no secrets; masking them would only garble what is shown.
const MASKED_BYTES_MIN: usize = 3;
/// A query value is taken for an echoed credential by its value alone only from this length on, so that a password
/// of `1` does not cost a link its `page=1`.
const ECHO_BYTES_MIN: usize = 8;

/// The secrets of a client and of one request, and the query parameters that carry them.
#[derive(Clone, Debug, Default)]
pub(super) struct Redactor {
    secrets: Vec<Secret>,
    parameters: Vec<String>,
}

impl Redactor {
    /// From now on this text is not shown.
    pub(super) fn learn(&mut self, secret: Secret) {
        if secret.expose().len() >= MASKED_BYTES_MIN && !self.secrets.contains(&secret) {
            self.secrets.push(secret);
            // A secret may be part of another one: the longer one goes first.
            self.secrets.sort_by_key(|secret| std::cmp::Reverse(secret.expose().len()));
        }
    }

    /// Learns the secret parts of a template.
    pub(super) fn learn_template(&mut self, template: &Template) {
        if template.is_secret() {
            secret_parts(template).into_iter().for_each(|secret| self.learn(secret));
        }
    }

    /// A query parameter that carries a credential whatever its value.
    pub(super) fn learn_parameter(&mut self, name: &str) {
        self.parameters.push(name.to_owned());
    }

    /// The text with every secret masked, as it is and in the encodings that it has in URLs and JSON.
    pub(super) fn scrub(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.secrets {
            let plain = secret.expose();
            let form: String = form_urlencoded::byte_serialize(plain.as_bytes()).collect();
            let json = serde_json::Value::from(plain).to_string();
            for shape in [plain, &form, &form.replace('+', "%20"), &json[1..json.len() - 1]] {
                if text.contains(shape) {
                    text = text.replace(shape, MASK);
                }
            }
        }
        text
    }

    /// Takes the query parameters out of a URL that carry a credential, by name or by value; the others keep their
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
                || self.secrets.iter().any(|secret| value.len() >= ECHO_BYTES_MIN && value == secret.expose())
        })
    }
}

/// The secret parts of a template, found by laying its masked text over its whole text. Where the two do not fit
/// (the plain text has stars itself), all of it counts as secret.
fn secret_parts(template: &Template) -> Vec<Secret> {
    let (whole, masked) = (template.expose(), template.to_string());
    let mut plain = masked.split(MASK);
    let mut parts = Vec::new();
    let Some(mut rest) = plain.next().and_then(|start| whole.strip_prefix(start)) else {
        return vec![Secret::new(whole)];
    };
    let mut plain = plain.peekable();
    while let Some(text) = plain.next() {
        let end = if plain.peek().is_none() {
            rest.strip_suffix(text).map(str::len)
        } else if text.is_empty() {
            None
        } else {
            rest.find(text)
        };
        let Some(end) = end else { return vec![Secret::new(whole)] };
        parts.push(Secret::new(rest[..end].to_owned()));
        rest = &rest[end + text.len()..];
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::{Redactor, secret_parts};
    use crate::secret::Secret;
    use crate::template::{Template, segments_value};
    use url::Url;

    fn template(segments: &[(bool, &str)]) -> Template {
        serde_json::from_value(segments_value(segments)).unwrap()
    }

    fn redactor(secrets: &[&str], parameters: &[&str]) -> Redactor {
        let mut redactor = Redactor::default();
        secrets.iter().for_each(|secret| redactor.learn(Secret::new((*secret).to_owned())));
        parameters.iter().for_each(|name| redactor.learn_parameter(name));
        redactor
    }

    #[test]
    fn the_secret_parts_of_a_template_are_found() {
        let parts = |segments: &[(bool, &str)]| -> Vec<String> {
            secret_parts(&template(segments)).iter().map(|secret| secret.expose().to_owned()).collect()
        };
        assert_eq!(parts(&[(true, "abc")]), ["abc"]);
        assert_eq!(parts(&[(false, "Token "), (true, "abc"), (false, ";v=1")]), ["abc"]);
        assert_eq!(parts(&[(true, "abc"), (false, ":"), (true, "def")]), ["abc", "def"]);
        assert_eq!(parts(&[(true, "abc"), (true, "def")]), ["abcdef"]);
        assert_eq!(parts(&[(false, "***"), (true, "abc")]), ["***abc"]);
    }

    #[test]
    fn secrets_are_masked_in_every_encoding() {
        let redactor = redactor(&["k&y \"1\"", "k&y"], &[]);
        for text in ["x k&y \"1\" y", "x k%26y+%221%22 y", "x k%26y%20%221%22 y", r#"x k&y \"1\" y"#] {
            assert_eq!(redactor.scrub(text), "x *** y", "{text}");
        }
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
}
