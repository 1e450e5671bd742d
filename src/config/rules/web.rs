//! Rules for `[web]`: who may reach the page, and with what.

use super::super::Config;
use super::super::path::Path;
use super::Rules;

/// So many characters, taken by chance, are not guessed over the network.
const TOKEN_CHARS_MIN: usize = 16;

pub(super) fn check(config: &Config, rules: &mut Rules<'_>) {
    let at = |key: &str| Path::of(&["web", key]);
    match &config.web.token {
        None if config.web.listen.is_open() => {
            let help = "set `token = \"${env:NAME}\"` beside it, or listen on 127.0.0.1";
            rules.refuse_with_help(&at("listen"), "other machines reach this address, and there is no `token`", help);
        }
        None => {}
        Some(token) if token.expose().chars().count() < TOKEN_CHARS_MIN => {
            rules.refuse(&at("token"), format!("must have at least {TOKEN_CHARS_MIN} characters"));
        }
        Some(token) if !token.expose().chars().all(|c| c.is_ascii_graphic()) => {
            rules.refuse(&at("token"), "must be ASCII without spaces: it is sent in a header");
        }
        Some(_) => {}
    }
}
