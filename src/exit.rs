//! Exit codes: what a script or a service manager can tell from the way the process ended (after `sysexits.h`).

/// Why a process did not end with everything complete. The order is that of importance: of several the first counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exit {
    /// 2: the command line names something that is not there.
    Usage,
    /// 78: the configuration is invalid, a secret is missing, or no number of runs would come further with it.
    Config,
    /// 77: an API answered 401 or 403.
    Forbidden,
    /// 65: records broke the contract of their resource.
    Contract,
    /// 74: disk full, I/O error, damaged file.
    Storage,
    /// 73: another instance holds the database.
    Held,
    /// 70: our bug.
    Bug,
    /// 69: an API is down, or refused after all retries; progress is saved.
    Unavailable,
    /// 75: stopped early and resumable.
    Stopped,
    /// 1: what was looked at is not all well.
    NotWell,
}

impl Exit {
    /// The code.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Config => 78,
            Self::Forbidden => 77,
            Self::Contract => 65,
            Self::Storage => 74,
            Self::Held => 73,
            Self::Bug => 70,
            Self::Unavailable => 69,
            Self::Stopped => 75,
            Self::NotWell => 1,
        }
    }
}
