//! The status page: where it is served, and who may act there; `metrics` what Prometheus reads.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::secret::Secret;

pub mod metrics;

/// `[web]`: the status page.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WebOptions {
    /// Where it is served. An address that other machines reach needs a `token`.
    pub listen: Listen,
    /// Who sends it may act on the page, and may read it from other machines.
    pub token: Option<Secret>,
}

/// Where the status page is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Nowhere.
    Off,
    /// An address of this machine; port 0 takes any that is free.
    Tcp(SocketAddr),
    /// A Unix socket: the permissions of its folder say who reaches it.
    Unix(PathBuf),
}

impl Listen {
    /// Whether other machines reach it. `0.0.0.0` and `[::]` are all addresses of this machine.
    #[must_use]
    pub fn is_open(&self) -> bool {
        match self {
            Self::Off | Self::Unix(_) => false,
            Self::Tcp(address) => !address.ip().to_canonical().is_loopback(),
        }
    }
}

impl Default for Listen {
    fn default() -> Self {
        Self::Tcp(SocketAddr::from(([127, 0, 0, 1], 8642)))
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let Some(path) = text.strip_prefix("unix:") else {
            let wrong = |_| {
                let text = text.escape_debug();
                format!(
                    "`{text}` is not an address with a port; write it like \"{}\", \"unix:/path\" or \"off\"",
                    Self::default()
                )
            };
            return text.parse().map(Self::Tcp).map_err(wrong);
        };
        if !path.starts_with('/') || path.ends_with('/') {
            return Err("a socket is named in full, like \"unix:/run/highwater/web.sock\"".to_owned());
        }
        // It is the system that says how long such a path may be.
        std::os::unix::net::SocketAddr::from_pathname(path)
            .map_err(|error| format!("cannot be the path of a socket: {error}"))?;
        Ok(Self::Unix(path.into()))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Listen {
    fn schema_name() -> Cow<'static, str> {
        "Listen".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "highwater-listen",
            "description": "an address with a port such as \"127.0.0.1:8642\", \"unix:/path\", or \"off\""
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Listen;

    #[test]
    fn places_read_and_print_alike_and_are_open_to_others_or_not() {
        for (text, is_open) in [
            ("off", false),
            ("127.0.0.1:8642", false),
            ("127.9.9.9:0", false),
            ("[::1]:80", false),
            ("[::ffff:127.0.0.1]:80", false),
            ("unix:/run/highwater/web.sock", false),
            ("0.0.0.0:80", true),
            ("[::]:80", true),
            ("[::ffff:0.0.0.0]:80", true),
            ("10.0.0.1:80", true),
        ] {
            let listen: Listen = text.parse().unwrap();
            assert_eq!((listen.to_string().as_str(), listen.is_open()), (text, is_open));
        }
        assert_eq!(Listen::default().to_string(), "127.0.0.1:8642");
    }

    #[test]
    fn what_is_no_place_to_listen_is_refused() {
        let long = format!("unix:/{}", "x".repeat(200));
        for text in [
            "",
            "Off",
            "8642",
            ":8642",
            "127.0.0.1",
            "localhost:8642",
            "127.0.0.1:99999",
            "unix:",
            "unix:web.sock",
            "unix:/run/",
            "unix:/a\0b",
            &long,
        ] {
            assert!(text.parse::<Listen>().is_err(), "{text}");
        }
    }
}
