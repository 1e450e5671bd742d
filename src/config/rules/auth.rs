//! Rules for `auth`: what can be sent, and where credentials are asked for.

use url::Url;

use super::super::Config;
use super::super::path::Path;
use super::client::{base_url, can_be_sent, check_header_name, is_loopback};
use super::{Rules, paginator, resource};
use crate::rest::auth::{ApiKeyLocation, Auth, ClientAuth, LoginMethod, RefreshToken, SessionToken};
use crate::secret::Secret;

pub(super) fn check(auth: &Auth, base: &str, path: &Path, rules: &mut Rules<'_>) {
    match auth {
        Auth::Bearer { token } => check_secret(token, true, &path.key("token"), rules),
        Auth::HttpBasic { username, .. } => {
            // RFC 7617 §2: the first colon ends the user name.
            if username.expose().contains(':') {
                rules.refuse(&path.key("username"), "must not hold a colon");
            }
        }
        Auth::ApiKey { name, api_key, location } => {
            let in_header = *location != ApiKeyLocation::Query;
            check_secret(api_key, in_header, &path.key("api_key"), rules);
            if in_header {
                check_header_name(Some(name), &path.key("name"), rules);
            }
        }
        Auth::OAuth2ClientCredentials(options) => {
            check_endpoint(&options.access_token_url, &path.key("access_token_url"), rules);
            check_secret(&options.client_id, false, &path.key("client_id"), rules);
            check_secret(&options.client_secret, false, &path.key("client_secret"), rules);
            check_scopes(&options.scopes, &path.key("scopes"), rules);
        }
        Auth::OAuth2RefreshToken(options) => {
            check_endpoint(&options.access_token_url, &path.key("access_token_url"), rules);
            check_secret(&options.client_id, false, &path.key("client_id"), rules);
            check_secret(&options.refresh_token, false, &path.key("refresh_token"), rules);
            match &options.client_secret {
                Some(secret) => check_secret(secret, false, &path.key("client_secret"), rules),
                None if options.client_auth == ClientAuth::Basic => {
                    rules.refuse(&path.key("client_auth"), "`basic` needs a `client_secret`");
                }
                None => {}
            }
            check_scopes(&options.scopes, &path.key("scopes"), rules);
        }
        Auth::SessionToken(options) => check_session(options, base, path, rules),
    }
}

/// A refresh token that the server replaces is good for one of its users only.
pub(super) fn check_shared(config: &Config, rules: &mut Rules<'_>) {
    let mut seen: Vec<(&str, &RefreshToken)> = Vec::new();
    for (name, source) in config.sources.iter().filter(|(_, source)| source.enabled) {
        let Some(Auth::OAuth2RefreshToken(options)) = &source.client.auth else { continue };
        let same = |other: &RefreshToken| {
            (&other.access_token_url, &other.client_id, &other.refresh_token)
                == (&options.access_token_url, &options.client_id, &options.refresh_token)
        };
        let path = Path::of(&["sources", name, "client", "auth", "refresh_token"]);
        match seen.iter().find(|(_, other)| same(other)) {
            Some((other, _)) => {
                let hint = format!(
                    "is that of `{other}`, too: a server that replaces it with each use will take one of them for stolen"
                );
                rules.hint(&path, &hint);
            }
            None => seen.push((name, options)),
        }
    }
}

/// Credentials are sent there, so it is held to what holds for `base_url`, but for a query.
fn check_endpoint(text: &str, path: &Path, rules: &mut Rules<'_>) {
    let without_query = text.split('?').next().unwrap_or_default();
    match base_url(without_query) {
        _ if text.contains('#') => rules.refuse(path, "must not have a fragment (`#`)"),
        Err(message) => rules.refuse(path, message),
        Ok(_) if Url::parse(text).is_err() => rules.refuse(path, "is not a URL"),
        Ok(url) if url.scheme() == "http" && !is_loopback(&url) => {
            rules.hint(path, "the client's credentials travel unencrypted over plain http");
        }
        Ok(_) => {}
    }
}

/// RFC 6749 §3.3: printable ASCII without a space, `"` and `\\`.
fn check_scopes(scopes: &[String], path: &Path, rules: &mut Rules<'_>) {
    for (i, scope) in scopes.iter().enumerate() {
        let is_token = |c: char| c.is_ascii_graphic() && c != '"' && c != '\\';
        if scope.is_empty() || !scope.chars().all(is_token) {
            rules.refuse(&path.index(i), "is not a scope: each is an item of its own, without spaces");
        }
    }
}

fn check_session(options: &SessionToken, base: &str, path: &Path, rules: &mut Rules<'_>) {
    let login = path.key("login");
    resource::check_joined(&options.login.path.expose(), base, &login.key("path"), rules);
    if options.login.json.is_some() && options.login.method == LoginMethod::Get {
        rules.refuse_with_help(&login.key("json"), "a GET request has no body", "leave `method` out: it is `POST`");
    }
    let token_path = path.key("token_path");
    if options.token_path.starts_with('$') {
        resource::check_json_path(&options.token_path, &token_path, rules);
    } else {
        paginator::check_dotted(&token_path, rules);
    }
    if options.location != ApiKeyLocation::Query {
        check_header_name(Some(&options.name), &path.key("name"), rules);
        if !can_be_sent(options.prefix()) {
            rules.refuse(&path.key("prefix"), "holds characters that a header cannot carry");
        } else if options.location == ApiKeyLocation::Cookie && options.prefix().contains([';', ',', ' ', '"', '\\']) {
            rules.refuse(&path.key("prefix"), "holds characters that a cookie cannot carry");
        }
    }
}

fn check_secret(secret: &Secret, in_header: bool, path: &Path, rules: &mut Rules<'_>) {
    if secret.expose().is_empty() {
        rules.refuse(path, "is empty");
    } else if in_header && !can_be_sent(secret.expose()) {
        rules.refuse(path, "holds characters that a header cannot carry (a line break in its middle?)");
    }
}
