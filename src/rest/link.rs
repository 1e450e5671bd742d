//! Links that a response carries: the `Link` header (RFC 8288), and the one gate through which every URL from a
//! response passes before a request is made of it.

use http::HeaderMap;
use http::header::LINK;
use url::Url;

use crate::sabotage::{Sabotage, on};

/// Longest URL that is taken from a response; servers and proxies refuse longer ones.
const URL_BYTES_MAX: usize = 8 * 1024;
/// So much of a foreign host is shown; the rest is the server's to fill.
const HOST_CHARS_MAX: usize = 100;

/// Why a URL from a response is not followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Another scheme, host or port than the request's.
    #[error("it leads to another origin ({host})")]
    Foreign {
        /// Where it leads.
        host: String,
    },
    /// A user name or password in the URL.
    #[error("it carries a user name or a password")]
    UserInfo,
    /// A secret of the configuration in the path, or in a parameter that no request would get back.
    #[error(
        "it holds a secret of the configuration, and links are stored; set a `paginator` that follows no links, or \
         send the secret in `auth`"
    )]
    Secret,
    /// Nothing there.
    #[error("it is empty")]
    Empty,
    /// Longer than any server takes.
    #[error("it is longer than 8 KiB")]
    TooLong,
    /// Not a URL.
    #[error("it is not a URL: {0}")]
    Malformed(url::ParseError),
}

/// The URL that `candidate` means in the response to a request for `base` (RFC 3986 §5), if it stays on that origin.
///
/// # Errors
/// When it is no URL, leads elsewhere or carries credentials; nothing may be sent to it then.
pub fn resolve_next(base: &Url, candidate: &str) -> Result<Url, LinkError> {
    let candidate = candidate.trim();
    if candidate.is_empty() {
        return Err(LinkError::Empty);
    }
    if candidate.len() > URL_BYTES_MAX {
        return Err(LinkError::TooLong);
    }
    let mut url = base.join(candidate).map_err(LinkError::Malformed)?;
    if !same_origin(base, &url) {
        return Err(LinkError::Foreign { host: shown_host(&url) });
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(LinkError::UserInfo);
    }
    url.set_fragment(None);
    Ok(url)
}

/// Whether two URLs have scheme, host and port in common. `url` has lowered and decoded the hosts already.
pub(super) fn same_origin(one: &Url, other: &Url) -> bool {
    if on(Sabotage::ForeignNextLink) {
        return true;
    }
    one.scheme() == other.scheme()
        && one.host().is_some()
        && one.host() == other.host()
        && one.port_or_known_default() == other.port_or_known_default()
}

/// Host and unusual port, for people.
pub(super) fn shown_host(url: &Url) -> String {
    let host: String = url.host_str().unwrap_or("no host").chars().take(HOST_CHARS_MAX).collect();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host,
    }
}

/// The target of the first link with this relation in the `Link` headers, as written there.
///
/// # Errors
/// When a header cannot be read up to such a link: what it says of the next page is not known then.
pub fn link_with_rel(headers: &HeaderMap, rel: &str) -> Result<Option<String>, String> {
    let mut unreadable = None;
    for value in headers.get_all(LINK) {
        // Only the target and its relation have to be readable; a title may be in any encoding.
        match first_with_rel(&String::from_utf8_lossy(value.as_bytes()), rel) {
            Ok(Some(target)) => return Ok(Some(target)),
            Ok(None) => {}
            Err(reason) => unreadable = Some(format!("the Link header cannot be read: {reason}")),
        }
    }
    unreadable.map_or(Ok(None), Err)
}

fn first_with_rel(value: &str, rel: &str) -> Result<Option<String>, &'static str> {
    let mut rest = value;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return Ok(None);
        }
        let target = rest.strip_prefix('<').and_then(|rest| rest.split_once('>'));
        let (target, after) = target.ok_or("a link in it does not begin with <URL>")?;
        let (matches, left) = parameters(after, rel);
        if matches && target.contains(char::REPLACEMENT_CHARACTER) {
            return Err("its URL is not ASCII");
        }
        if matches {
            return Ok(Some(target.trim().to_owned()));
        }
        rest = left;
    }
}

/// Reads the parameters of one link up to the comma after it. A link with an `anchor` is about another document,
/// and only the first `rel` counts (RFC 8288 §3.2, §3.3).
fn parameters<'a>(text: &'a str, wanted: &str) -> (bool, &'a str) {
    let mut rest = text;
    let (mut rel, mut anchored) = (None, false);
    loop {
        rest = rest.trim_start_matches([' ', '\t', ';']);
        if rest.is_empty() || rest.starts_with(',') {
            let matches = rel.is_some_and(|rel: String| {
                rel.split_ascii_whitespace().any(|relation| relation.eq_ignore_ascii_case(wanted))
            });
            return (matches && !anchored, rest);
        }
        let end = rest.find([';', ',', '=']).unwrap_or(rest.len());
        let name = rest[..end].trim_end();
        rest = &rest[end..];
        let mut value = String::new();
        if let Some(after) = rest.strip_prefix('=') {
            (value, rest) = parameter_value(after.trim_start_matches([' ', '\t']));
        }
        if name.eq_ignore_ascii_case("rel") && rel.is_none() {
            rel = Some(value);
        } else if name.eq_ignore_ascii_case("anchor") {
            anchored = true;
        }
    }
}

fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([';', ',']).unwrap_or(text.len());
        return (text[..end].trim_end().to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            plain => value.push(plain),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::{LinkError, link_with_rel, resolve_next};
    use http::{HeaderMap, HeaderValue, header::LINK};
    use proptest::prelude::*;
    use url::Url;

    fn link(values: &[&str], rel: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(LINK, HeaderValue::from_str(value).unwrap());
        }
        link_with_rel(&headers, rel).ok().flatten()
    }

    #[test]
    fn the_next_link_is_found_however_it_is_written() {
        for (header, next) in [
            (r#"<https://a/x?page=2>; rel="next", <https://a/x?page=9>; rel="last""#, Some("https://a/x?page=2")),
            (r#"<https://a/x?page=1>; rel="prev", </x?page=3>; rel="next""#, Some("/x?page=3")),
            ("<?p=2>;rel=next", Some("?p=2")),
            ("<?p=2> ; REL = NEXT ; title=x", Some("?p=2")),
            (r#"<?p=2>; title="a, b; rel=prev \" <"; rel="first next""#, Some("?p=2")),
            (r#"<?a=1,2;3>; rel="next""#, Some("?a=1,2;3")),
            (r#"<?p=1>; rel=prev; rel=next"#, None),
            (r#"<?p=1>; anchor="/other"; rel="next""#, None),
            (r#"<?p=1>; rel="next-archive""#, None),
            (r#", ,<?p=1>; crossorigin; rel="next""#, Some("?p=1")),
            ("<?p=2; rel=next", None),
            ("?p=2; rel=next", None),
            (r#"<?p=2>; rel="next"#, Some("?p=2")),
            ("", None),
        ] {
            assert_eq!(link(&[header], "next").as_deref(), next, "{header}");
        }
        assert_eq!(link(&["<?p=1>; rel=prev", "<?p=3>; rel=next"], "next").as_deref(), Some("?p=3"));
        assert_eq!(
            link(&["<?p=1>; rel=https://example.org/more"], "HTTPS://example.org/more").as_deref(),
            Some("?p=1")
        );
    }

    #[test]
    fn a_link_header_that_cannot_be_read_is_no_absent_one() {
        let of = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.append(LINK, HeaderValue::from_bytes(value).unwrap());
            link_with_rel(&headers, "next")
        };
        assert_eq!(of(b"</p2>; rel=next; title=\"caf\xe9\""), Ok(Some("/p2".to_owned())));
        assert_eq!(of(b"</p1>; rel=prev; title=\"caf\xe9\""), Ok(None));
        assert_eq!(of(b""), Ok(None));
        for unreadable in
            [&b"</caf\xe9>; rel=next"[..], b"/p2; rel=next", b"</p2; rel=next", b"</p1>; rel=prev, /p2; rel=next"]
        {
            assert!(of(unreadable).is_err(), "{}", String::from_utf8_lossy(unreadable));
        }
    }

    #[test]
    fn p04_a_relative_next_link_is_joined_to_the_request_url() {
        let base = Url::parse("https://api.example.com/v1/items?page=1&q=x").unwrap();
        for (candidate, next) in [
            ("?page=2", "https://api.example.com/v1/items?page=2"),
            ("items?page=2", "https://api.example.com/v1/items?page=2"),
            ("/v2/items", "https://api.example.com/v2/items"),
            ("../other", "https://api.example.com/other"),
            ("//api.example.com/x", "https://api.example.com/x"),
            ("https://api.example.com:443/x", "https://api.example.com/x"),
            ("HTTPS://API.EXAMPLE.COM/x", "https://api.example.com/x"),
            (" /x#part ", "https://api.example.com/x"),
            ("/a b", "https://api.example.com/a%20b"),
        ] {
            assert_eq!(resolve_next(&base, candidate).unwrap().as_str(), next, "{candidate}");
        }
    }

    #[test]
    fn p05_a_next_link_to_another_origin_is_refused() {
        let base = Url::parse("https://api.example.com/v1/items").unwrap();
        for candidate in [
            "http://api.example.com/x",
            "https://api.example.com:8443/x",
            "https://api.example.com.evil.com/x",
            "https://evil.com/api.example.com",
            "https://xapi.example.com/",
            "https://api.example.com./x",
            "https://api.example.com@evil.com/x",
            "//evil.com/x",
            r"\\evil.com/x",
            r"/\evil.com/x",
            "https://169.254.169.254/latest",
            "file:///etc/passwd",
            "data:text/plain,x",
            "https://api.example.com\t.evil.com/",
            "https://api。evil.com/",
        ] {
            assert!(matches!(resolve_next(&base, candidate), Err(LinkError::Foreign { .. })), "{candidate}");
        }
        assert_eq!(resolve_next(&base, "https://u:p@api.example.com/x"), Err(LinkError::UserInfo));
        assert_eq!(resolve_next(&base, "//u@api.example.com/x"), Err(LinkError::UserInfo));
        assert_eq!(resolve_next(&base, "  "), Err(LinkError::Empty));
        assert_eq!(resolve_next(&base, &format!("?{}", "x".repeat(9000))), Err(LinkError::TooLong));
        assert!(matches!(resolve_next(&base, "https://[bad"), Err(LinkError::Malformed(_))));
    }

    proptest! {
        #[test]
        fn whatever_a_response_says_the_origin_stays(candidate in ".{0,60}|[/\\\\:@?#a-z.]{0,20}") {
            let base = Url::parse("https://api.example.com/v1/items").unwrap();
            if let Ok(url) = resolve_next(&base, &candidate) {
                prop_assert_eq!(url.origin(), base.origin());
                prop_assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none());
            }
        }

        #[test]
        fn no_link_header_makes_the_parser_panic(value in "[<>;,=\"\\\\ a-zé]{0,80}") {
            drop(super::first_with_rel(&value, "next"));
        }
    }
}
