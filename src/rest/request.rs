//! One request as a resource describes it, and what is made of it before it is sent: URL, headers and body without
//! credentials, and the text that may be shown of them.

use std::fmt;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::Value;
use url::{Url, form_urlencoded};

use crate::rest::auth::sensitive;
use crate::rest::link::same_origin;
use crate::rest::paginator::{PagingError, set_at, set_named};
use crate::rest::redact::Redactor;
use crate::secret::{MASK, Secret};
use crate::template::Template;

/// Longest URL that is shown or stored.
pub(super) const SHOWN_BYTES_MAX: usize = 2048;

/// One request as a resource describes it; the paginator changes it before it is sent.
#[derive(Clone)]
pub struct RequestParts {
    /// The method.
    pub method: Method,
    /// Where it goes.
    pub target: Target,
    /// Query parameters; they take the place of the client's of the same name.
    pub params: Vec<(String, Template)>,
    /// Headers; they take the place of the client's of the same name.
    pub headers: Vec<(String, Template)>,
    /// A JSON body, secrets filled in.
    pub json: Option<Value>,
    /// A body of form fields, in place of a JSON one.
    pub form: Option<Vec<(String, Template)>>,
    /// The secret texts of the path and of the body, which neither of them tells any more once it is filled in or
    /// replaced by a link.
    pub secrets: Vec<Secret>,
}

/// Where a request goes.
#[derive(Clone)]
pub enum Target {
    /// Joined with `base_url` as text.
    Path(Template),
    /// A next link that `link::resolve_next` let pass. Parameters are not added to it, credentials are.
    Url(Url),
}

impl RequestParts {
    /// Sets a value that the paginator sends in the body: at a dotted path of JSON, or as the form field of that name.
    ///
    /// # Errors
    /// When the path leads through something that is not an object.
    pub fn set_in_body(&mut self, path: &str, value: Value) -> Result<(), PagingError> {
        let Some(fields) = &mut self.form else {
            return set_at(self.json.get_or_insert(Value::Null), path, value);
        };
        match value {
            Value::String(text) => set_named(fields, path, &text),
            other => set_named(fields, path, &other.to_string()),
        }
        Ok(())
    }
}

impl fmt::Debug for RequestParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = match &self.target {
            Target::Path(path) => path.to_string(),
            Target::Url(url) => url.path().to_owned(),
        };
        f.debug_struct("RequestParts").field("method", &self.method).field("target", &target).finish_non_exhaustive()
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Path(_) => "Target::Path",
            Self::Url(_) => "Target::Url",
        })
    }
}

/// A request that needs only its credentials before each attempt.
pub(super) struct Prepared {
    pub(super) method: Method,
    /// Without credentials.
    pub(super) url: Url,
    /// Query parameters with secrets in them: added to the URL of each attempt, and to no other.
    pub(super) secret_params: Vec<(String, Secret)>,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Bytes>,
    /// The URL as it may be shown.
    pub(super) shown: String,
    pub(super) redactor: Redactor,
    /// It asks for the page only where it has changed.
    pub(super) is_conditional: bool,
}

/// What a client adds to each of its requests.
#[derive(Clone, Debug)]
pub(super) struct Common {
    pub(super) base: Url,
    pub(super) params: Vec<(String, Template)>,
    pub(super) headers: HeaderMap,
    pub(super) redactor: Redactor,
}

impl Prepared {
    /// # Errors
    /// What is wrong with the request as configured, naming the key and never its value.
    pub(super) fn new(common: &Common, parts: &RequestParts) -> Result<Self, String> {
        let params = merged_params(&common.params, &parts.params);
        let redactor = redactor_for(common, parts);
        let mut headers = common.headers.clone();
        add_headers(&mut headers, &parts.headers)?;
        let body = match (&parts.form, &parts.json) {
            (Some(fields), _) => {
                headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/x-www-form-urlencoded"));
                let mut body = form_urlencoded::Serializer::new(String::new());
                body.extend_pairs(fields.iter().map(|(name, value)| (name, value.expose())));
                Some(Bytes::from(body.finish()))
            }
            (None, Some(json)) => {
                headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
                Some(Bytes::from(serde_json::to_vec(json).map_err(|error| format!("the JSON body: {error}"))?))
            }
            (None, None) => None,
        };
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("application/json, */*;q=0.8"));

        let (mut url, mut shown) = match &parts.target {
            Target::Path(path) => {
                (join_path(&common.base, &path.expose())?, join_path(&common.base, &path.to_string())?)
            }
            Target::Url(url) => {
                if !same_origin(&common.base, url) {
                    return Err("its URL is on another origin than `base_url`".to_owned());
                }
                let mut url = url.clone();
                redactor.strip(&mut url);
                (url.clone(), url)
            }
        };
        let plain_params = params.iter().filter(|(_, value)| !value.is_secret());
        if matches!(parts.target, Target::Path(_)) {
            plain_params.for_each(|(name, value)| {
                url.query_pairs_mut().append_pair(name, &value.expose());
                shown.query_pairs_mut().append_pair(name, &value.expose());
            });
        }
        let mut secret_params = Vec::new();
        for (name, value) in params.iter().filter(|(_, value)| value.is_secret()) {
            secret_params.push((name.clone(), Secret::new(value.expose())));
            shown.query_pairs_mut().append_pair(name, MASK);
        }
        let shown = cut(&redactor.scrub(shown.as_str()), SHOWN_BYTES_MAX);
        Ok(Self {
            method: parts.method.clone(),
            url,
            secret_params,
            headers,
            body,
            shown,
            redactor,
            is_conditional: false,
        })
    }
}

impl Prepared {
    /// The path of the URL as it may be logged.
    pub(super) fn shown_path(&self) -> &str {
        self.shown.split('?').next().unwrap_or_default()
    }
}

/// The client's secrets and those of one request.
pub(super) fn redactor_for(common: &Common, parts: &RequestParts) -> Redactor {
    let mut redactor = common.redactor.clone();
    for (name, value) in parts.params.iter().filter(|(_, value)| value.is_secret()) {
        redactor.learn_secret_parameter(name, value);
    }
    parts.headers.iter().for_each(|(_, value)| redactor.learn_template(value));
    if let Target::Path(path) = &parts.target {
        redactor.learn_template(path);
    }
    parts.secrets.iter().cloned().for_each(|secret| redactor.learn(secret));
    redactor
}

fn merged_params(client: &[(String, Template)], request: &[(String, Template)]) -> Vec<(String, Template)> {
    let inherited = client.iter().filter(|(name, _)| !request.iter().any(|(own, _)| own == name));
    inherited.chain(request).cloned().collect()
}

/// Adds headers, the later ones in place of the earlier. Those that frame the message are not for the configuration.
pub(super) fn add_headers(headers: &mut HeaderMap, added: &[(String, Template)]) -> Result<(), String> {
    for (name, value) in added {
        let key = format!("headers.{name}");
        let name: HeaderName = name.parse().map_err(|_| format!("`{key}` is not a header name"))?;
        if [CONTENT_LENGTH, TRANSFER_ENCODING].contains(&name) {
            return Err(format!("`{key}` is set by the client itself"));
        }
        let mut header = sensitive(&value.expose(), &key)?;
        header.set_sensitive(value.is_secret());
        headers.insert(name, header);
    }
    Ok(())
}

/// `base_url` and `path` joined as text with exactly one slash between them; a whole URL only on the same origin.
pub(super) fn join_path(base: &Url, path: &str) -> Result<Url, String> {
    let lower = path.get(..8).unwrap_or(path).to_ascii_lowercase();
    let text = if lower.starts_with("http://") || lower.starts_with("https://") {
        path.to_owned()
    } else if path.is_empty() || path.starts_with('?') {
        format!("{base}{path}")
    } else {
        format!("{}/{}", base.as_str().trim_end_matches('/'), path.trim_start_matches('/'))
    };
    let mut url = Url::parse(&text).map_err(|error| format!("`path` does not make a URL: {error}"))?;
    if !same_origin(base, &url) || !url.username().is_empty() || url.password().is_some() {
        return Err("`path` leads to another origin than `base_url`".to_owned());
    }
    url.set_fragment(None);
    Ok(url)
}

/// The text cut to so many bytes, at a character's end.
pub(super) fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let end = (0..=bytes_max - '…'.len_utf8()).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::{Common, Prepared, Redactor, RequestParts, Target, cut, join_path};
    use crate::template::{SegmentKind, Template, segments_value};
    use http::{HeaderMap, Method};
    use url::Url;

    fn secret(text: &str) -> Template {
        serde_json::from_value(segments_value(&[(SegmentKind::Secret, text)])).unwrap()
    }

    fn get(target: Target, params: Vec<(String, Template)>) -> RequestParts {
        RequestParts {
            method: Method::GET,
            target,
            params,
            headers: Vec::new(),
            json: None,
            form: None,
            secrets: Vec::new(),
        }
    }

    fn common() -> Common {
        let mut redactor = Redactor::default();
        redactor.learn_secret_parameter("token", &secret("canary-1"));
        Common {
            base: Url::parse("https://api.example.com/v1/").unwrap(),
            params: vec![("limit".into(), Template::text("100")), ("token".into(), secret("canary-1"))],
            headers: HeaderMap::new(),
            redactor,
        }
    }

    #[test]
    fn base_and_path_are_joined_as_text() {
        for (base, path, url) in [
            ("https://a/v1/", "charges", Some("https://a/v1/charges")),
            ("https://a/v1", "charges", Some("https://a/v1/charges")),
            ("https://a/v1/", "/charges", Some("https://a/v1/charges")),
            ("https://a/v1", "//evil.com/x", Some("https://a/v1/evil.com/x")),
            ("https://a", ".evil.com/x", Some("https://a/.evil.com/x")),
            ("https://a/v1", "?x=1", Some("https://a/v1?x=1")),
            ("https://a/v1", "", Some("https://a/v1")),
            ("https://a/v1/", "HTTPS://a/other#f", Some("https://a/other")),
            ("https://a/v1/", "http://a/other", None),
            ("https://a/v1/", "https://evil.com/other", None),
            ("https://a/v1/", "https://u:p@a/other", None),
        ] {
            let joined = join_path(&Url::parse(base).unwrap(), path).ok().map(String::from);
            assert_eq!(joined.as_deref(), url, "{base} {path}");
        }
    }

    #[test]
    fn the_requests_parameters_win_and_secret_ones_stay_apart() {
        let params = vec![("limit".into(), Template::text("5")), ("q".into(), Template::text("a b"))];
        let prepared = Prepared::new(&common(), &get(Target::Path(Template::text("items")), params)).unwrap();
        assert_eq!(prepared.url.as_str(), "https://api.example.com/v1/items?limit=5&q=a+b");
        assert_eq!(prepared.shown, "https://api.example.com/v1/items?limit=5&q=a+b&token=***");
        assert_eq!(prepared.secret_params[0].1.expose(), "canary-1");
    }

    #[test]
    fn a_next_link_gets_no_parameters_but_its_credentials_back() {
        let link = Url::parse("https://api.example.com/v1/items?page=2&token=canary-1").unwrap();
        let prepared = Prepared::new(&common(), &get(Target::Url(link), Vec::new())).unwrap();
        assert_eq!(prepared.url.as_str(), "https://api.example.com/v1/items?page=2");
        assert_eq!(prepared.shown, "https://api.example.com/v1/items?page=2&token=***");
        assert_eq!(prepared.secret_params.len(), 1);
        let foreign = Url::parse("https://evil.com/").unwrap();
        assert!(Prepared::new(&common(), &get(Target::Url(foreign), Vec::new())).is_err());
    }

    #[test]
    fn a_secret_path_is_sent_and_shown_masked() {
        let path: Template = serde_json::from_value(segments_value(&[
            (SegmentKind::Text, "bot"),
            (SegmentKind::Secret, "c:nary/2"),
            (SegmentKind::Text, "/me"),
        ]))
        .unwrap();
        let prepared = Prepared::new(&common(), &get(Target::Path(path), Vec::new())).unwrap();
        assert_eq!(prepared.url.path(), "/v1/botc:nary/2/me");
        assert_eq!(prepared.shown, "https://api.example.com/v1/bot***/me?limit=100&token=***");
    }

    #[test]
    fn a_shown_url_is_bounded_and_debug_shows_no_values() {
        let parts = get(Target::Path(secret("canary-3")), vec![("q".into(), Template::text("é".repeat(4000)))]);
        let prepared = Prepared::new(&common(), &parts).unwrap();
        assert!(prepared.shown.len() <= 2048 && prepared.shown.ends_with('…'));
        assert!(!format!("{parts:?}").contains("canary"));
        assert_eq!(cut("ééé", 5), "é…");
    }

    #[test]
    fn headers_that_frame_the_message_or_cannot_be_sent_are_refused() {
        for (name, value) in [("Content-Length", "3"), ("bad name", "x"), ("X-A", "canary\n")] {
            let mut parts = get(Target::Path(Template::text("x")), Vec::new());
            parts.headers.push((name.into(), Template::text(value)));
            let error = Prepared::new(&common(), &parts).err().unwrap();
            assert!(!error.contains("canary"), "{error}");
        }
    }
}
