//! The process's surroundings as a plain value, and where in them the configuration is looked for.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Environment variables and the current directory. `Debug` shows no value: they may be secrets.
#[derive(Clone, Default)]
pub struct Env {
    variables: BTreeMap<String, String>,
    current_dir: PathBuf,
    sends_nothing: bool,
}

impl Env {
    /// The surroundings of this process. Variables that are not UTF-8 are left out.
    #[must_use]
    pub fn from_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        let variables = std::env::vars_os().filter_map(text).collect();
        Self { variables, current_dir: PathBuf::from("."), sends_nothing: false }
    }

    /// Surroundings with these variables and nothing else.
    pub fn with(variables: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { variables, ..Self::default() }
    }

    /// The same surroundings, in another current directory.
    #[must_use]
    pub fn in_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.current_dir = dir.into();
        self
    }

    /// The same surroundings for somebody who sends no request: secrets, and other texts of requests from outside the
    /// file, need not be there.
    #[must_use]
    pub fn without_requests(mut self) -> Self {
        self.sends_nothing = true;
        self
    }

    /// Whether no request is sent with what is filled in.
    pub(super) fn sends_nothing(&self) -> bool {
        self.sends_nothing
    }

    /// A variable that is set and not empty.
    #[must_use]
    pub fn var(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// systemd's folder of credentials (`LoadCredential=`).
    pub(super) fn credentials_dir(&self) -> Option<&Path> {
        self.var("CREDENTIALS_DIRECTORY").map(Path::new)
    }

    pub(super) fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Env").field("variables", &self.variables.keys()).finish_non_exhaustive()
    }
}

/// No configuration was named, and there is none where it is looked for.
#[derive(Debug, thiserror::Error)]
#[error("no configuration found; looked for {}", .searched.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "))]
pub struct NotFound {
    /// Where it was looked for, in this order.
    pub searched: Vec<PathBuf>,
}

/// Finds the configuration: the path given, `$HIGHWATER_CONFIG`, `./config.toml`,
/// `$CONFIGURATION_DIRECTORY/config.toml`, `~/.config/highwater/config.toml`. The first two are taken as they are, so
/// that a misspelt path is reported instead of another file being read.
///
/// # Errors
/// When there is none.
pub fn find(explicit: Option<&Path>, env: &Env) -> Result<PathBuf, NotFound> {
    if let Some(path) = explicit {
        return Ok(path.to_owned());
    }
    if let Some(path) = env.var("HIGHWATER_CONFIG") {
        return Ok(path.into());
    }
    let mut searched = vec![env.current_dir.join("config.toml")];
    // systemd separates several directories with colons.
    searched.extend(env.var("CONFIGURATION_DIRECTORY").into_iter().flat_map(|dirs| dirs.split(':')).map(in_dir));
    let home = env.var("XDG_CONFIG_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    let home = home.or_else(|| env.var("HOME").map(|home| Path::new(home).join(".config")));
    searched.extend(home.map(|dir| dir.join("highwater/config.toml")));
    match searched.iter().find(|path| path.is_file()) {
        Some(path) => Ok(path.clone()),
        None => Err(NotFound { searched }),
    }
}

fn in_dir(dir: &str) -> PathBuf {
    Path::new(dir).join("config.toml")
}

#[cfg(test)]
mod tests {
    use super::{Env, find};
    use std::path::Path;

    #[test]
    fn the_first_place_that_has_a_configuration_wins() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let text = |name: &str| at(name).to_str().unwrap().to_owned();
        for place in ["here", "etc", "home/.config/highwater"] {
            std::fs::create_dir_all(at(place)).unwrap();
        }
        let mut variables =
            vec![("HOME", text("home")), ("CONFIGURATION_DIRECTORY", text("none") + ":" + &text("etc"))];
        let found = |variables: &[(&str, String)]| find(None, &Env::with(variables.to_vec()).in_dir(at("here")));

        let error = found(&variables).unwrap_err();
        assert_eq!(error.searched.len(), 4, "{error}");
        for place in ["home/.config/highwater", "etc", "here"] {
            std::fs::write(at(place).join("config.toml"), "").unwrap();
            assert_eq!(found(&variables).unwrap(), at(place).join("config.toml"));
        }
        variables.push(("HIGHWATER_CONFIG", "misspelt.toml".to_owned()));
        assert_eq!(found(&variables).unwrap(), Path::new("misspelt.toml"));
        assert_eq!(find(Some(Path::new("x.toml")), &Env::with(variables)).unwrap(), Path::new("x.toml"));
    }

    #[test]
    fn debug_shows_no_value() {
        assert!(!format!("{:?}", Env::with([("TOKEN", "hunter2")])).contains("hunter2"));
    }
}
