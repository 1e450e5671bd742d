//! Where the daemon's configuration comes from, again and again.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use jiff::Timestamp;

use crate::board::LoadedConfig;
use crate::config::{self, Config, Env, Loaded, Report};

/// The file that a daemon is configured by.
pub struct Source {
    path: PathBuf,
    env: Env,
    /// How the file looked when it was read last, where changes of it are to be noticed.
    watched: Option<Option<Stamp>>,
}

/// What changes with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
    inode: u64,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Source {
    /// The file of a configuration that was just loaded, with the environment for its placeholders. `watch` notices
    /// when it changes.
    #[must_use]
    pub fn new(path: PathBuf, env: Env, watch: bool) -> Self {
        let watched = watch.then(|| stamp(&path));
        Self { path, env, watched }
    }

    /// Whether the file looks other than when it was read last. A file that is gone for a moment, as editors do, has not
    /// changed.
    pub(super) fn has_changed(&self) -> bool {
        let now = || stamp(&self.path);
        self.watched.is_some_and(|read| now().is_some_and(|now| read != Some(now)))
    }

    /// Reads it.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(crate) fn load(&mut self) -> Result<Loaded, Report> {
        if let Some(watched) = &mut self.watched {
            *watched = stamp(&self.path);
        }
        crate::tasks::busy(|| config::load(&self.path, &self.env))
    }
}

fn stamp(path: &PathBuf) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let file = std::fs::metadata(path).ok()?;
    Some(Stamp { modified: file.modified().ok(), bytes: file.len(), inode: file.ino() })
}

/// What is shown of a configuration.
pub(super) fn shown(loaded: &Loaded) -> LoadedConfig {
    LoadedConfig {
        path: loaded.path.clone(),
        loaded_at: Timestamp::now(),
        text: Arc::from(loaded.text.as_str()),
        error: None,
    }
}

/// The sections that have changed and are only read at the start.
pub(super) fn waits_for_a_restart(old: &Config, new: &Config) -> Option<String> {
    let sections = [
        ("[destination]", old.destination != new.destination),
        ("[pipeline]", old.pipeline != new.pipeline),
        ("[web]", old.web != new.web),
    ];
    let changed: Vec<&str> = sections.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name).collect();
    (!changed.is_empty()).then(|| changed.join(", "))
}
