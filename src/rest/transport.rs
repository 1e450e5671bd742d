//! The HTTP library behind one door: how its client is built, and how its errors become ours. They name the URL with
//! its query and hide what happened several sources deep, so nothing else may look at them.

use std::error::Error;
use std::io;
use std::time::Duration;

use crate::rest::ClientOptions;
use crate::rest::addresses::{Refused, Resolver};
use crate::rest::error::{ClientError, Phase, RequestError};

/// So many headers are more than any API sends.
const HEADERS_MAX: usize = 128;
/// HTTP/2 headers in bytes; HTTP/1 stops by itself at some 400 KiB.
const HEADER_BYTES_MAX: u32 = 64 << 10;
/// Idle connections are closed before most servers close them, which avoids sending into a closing one.
const POOL_IDLE: Duration = Duration::from_secs(30);
const TCP_KEEPALIVE: Duration = Duration::from_secs(15);

/// An HTTP client without any of the conveniences that send what was not asked for: no redirects, no referer, no
/// proxy from the environment, no repeats of its own, no decompression.
pub(super) fn build(name: &str, https: bool, options: &ClientOptions) -> Result<reqwest::Client, ClientError> {
    let unusable = |reason: String| ClientError::Unusable { client: name.to_owned(), reason };
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        return Err(unusable("no TLS provider is installed in this process".to_owned()));
    }
    builder(https, options).build().map_err(|error| {
        if sources(&error).any(|source| source.to_string().contains("CA certificates")) {
            ClientError::NoCertificates { client: name.to_owned() }
        } else {
            unusable(format!("the HTTP client cannot be built: {}", last(&error)))
        }
    })
}

/// What a client is built from.
pub(super) fn builder(https: bool, options: &ClientOptions) -> reqwest::ClientBuilder {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("highwater/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .retry(reqwest::retry::never())
        .connect_timeout(*options.connect_timeout)
        .tcp_keepalive(TCP_KEEPALIVE)
        .pool_idle_timeout(POOL_IDLE)
        .http1_max_headers(HEADERS_MAX)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .https_only(https);
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    {
        builder = builder.tcp_user_timeout(*options.read_timeout);
    }
    if !https {
        // TLS is never used then, and a machine without certificates must not matter.
        builder = builder.tls_certs_only([]);
    }
    if !options.allow_private_addresses {
        builder = builder.dns_resolver(Resolver::of_system());
    }
    builder
}

/// What a response had reached when its connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum During {
    Head,
    Body,
}

/// The one place where errors of the HTTP library become ours.
pub(super) fn request_error(
    error: reqwest::Error,
    during: During,
    host: &str,
    options: &ClientOptions,
) -> RequestError {
    let error = error.without_url();
    let host = host.to_owned();
    if let Some(tls) = find::<rustls::Error>(&error) {
        return RequestError::Tls { host, reason: tls_reason(tls) };
    }
    if error.is_timeout() {
        return match during {
            During::Head => RequestError::Timeout { host, phase: Phase::Connect, limit: options.connect_timeout },
            During::Body => RequestError::Timeout { host, phase: Phase::Silence, limit: options.read_timeout },
        };
    }
    if let Some(refused) = find::<Refused>(&error) {
        return RequestError::Connect { host, reason: refused.to_string() };
    }
    if error.is_dns() {
        return RequestError::Connect { host, reason: format!("its name cannot be looked up: {}", last(&error)) };
    }
    if error.is_connect() {
        return RequestError::Connect { host, reason: last(&error) };
    }
    if error.is_builder() {
        return RequestError::Request { reason: last(&error) };
    }
    if find::<hyper::Error>(&error).is_some_and(hyper::Error::is_parse) {
        return RequestError::NotHttp { host, reason: last(&error) };
    }
    match during {
        During::Head => RequestError::Reset { host },
        During::Body => RequestError::BodyCut { host, reason: cut_reason(&error) },
    }
}

fn cut_reason(error: &reqwest::Error) -> String {
    if find::<hyper::Error>(error).is_some_and(hyper::Error::is_incomplete_message) {
        return "the connection ended before the body did".to_owned();
    }
    match find::<io::Error>(error).map(io::Error::kind) {
        Some(io::ErrorKind::UnexpectedEof) => "the connection ended before the body did".to_owned(),
        Some(io::ErrorKind::ConnectionReset) => "the connection was reset".to_owned(),
        _ => last(error),
    }
}

fn tls_reason(error: &rustls::Error) -> String {
    use rustls::{CertificateError as Certificate, Error, InvalidMessage};
    let known = match error {
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => "it does not speak TLS on this port",
        Error::InvalidCertificate(certificate) => match certificate {
            Certificate::Expired | Certificate::ExpiredContext { .. } => "its certificate has expired",
            Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
                "its certificate is not valid yet; is the clock right?"
            }
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
                "its certificate is for another name"
            }
            Certificate::UnknownIssuer => "its certificate comes from an authority that this machine does not trust",
            Certificate::Revoked => "its certificate was revoked",
            _ => return format!("its certificate is not valid ({error})"),
        },
        Error::PeerIncompatible(_) | Error::AlertReceived(_) => {
            return format!("no common way to speak TLS 1.2 or later ({error})");
        }
        _ => return error.to_string(),
    };
    known.to_owned()
}

fn sources<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    // An io::Error passes over the error it wraps when asked for its source.
    let inner = |error: &'a (dyn Error + 'static)| match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref)
    {
        Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
        None => error.source(),
    };
    std::iter::successors(Some(error), move |error| inner(*error))
}

fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    sources(error).find_map(|source| source.downcast_ref())
}

/// The innermost error says what happened; the ones around it say who was told.
fn last(error: &(dyn Error + 'static)) -> String {
    sources(error).last().map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{During, request_error};
    use crate::rest::tests::server::options;
    use reqwest::ResponseBuilderExt;

    #[test]
    fn an_error_of_the_library_loses_its_url() {
        let url = "https://a/x?key=canary".parse().unwrap();
        let response = http::Response::builder().status(500).url(url).body("").unwrap();
        let error = reqwest::Response::from(response).error_for_status().unwrap_err();
        assert!(error.to_string().contains("canary"));
        let error = request_error(error, During::Body, "a", &options("https://a/", serde_json::json!({})));
        assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
    }
}
