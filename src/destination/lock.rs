//! One writer at a time: a lock on a file beside the database, never on the database itself. Opening that file
//! and closing it again anywhere in the process would drop the locks that SQLite holds on it (POSIX `fcntl`).

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::DbError;

/// The lock, held until it is dropped or the process ends.
#[derive(Debug)]
pub(super) struct LockFile {
    file: File,
}

impl LockFile {
    /// Takes the lock for the database at `path`, which [`real_path`] has made the same for all its names.
    pub(super) fn take(path: &Path) -> Result<Self, DbError> {
        let mut name = path.to_owned().into_os_string();
        name.push(".lock");
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(name)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // The pid only makes the message better; without it the lock is as held.
                let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(DbError::Held { path: path.to_owned(), pid });
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Self { file })
    }
}

impl Drop for LockFile {
    /// Unlocks in so many words: closing the file does not, as long as a process that was forked meanwhile has it open
    /// too (flock(2)).
    fn drop(&mut self) {
        if let Err(error) = self.file.unlock() {
            tracing::debug!(%error, "unlock the database");
        }
    }
}

/// Where the database is or will be, without links: two instances that reach it by different names must meet at the
/// same lock, also when the first of them has yet to create it. Missing folders are made.
pub(super) fn real_path(path: &Path) -> Result<PathBuf, DbError> {
    /// As many links as the kernel follows.
    const LINKS_MAX: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let Some(name) = path.file_name() else { break };
        let here = folder.canonicalize()?;
        match std::fs::read_link(&path) {
            // A link to a relative path starts where the link is.
            Ok(target) => path = here.join(target),
            Err(_) => return Ok(here.join(name)),
        }
    }
    Err(DbError::ReadOnly(format!("{} does not lead to a file", path.display())))
}

#[cfg(test)]
mod tests {
    use super::{LockFile, real_path};
    use crate::destination::DbError;

    #[test]
    fn a_second_instance_is_kept_out_and_told_who_is_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = real_path(&folder.path().join("new/folder/x.db")).unwrap();
        let held = LockFile::take(&path).unwrap();
        let refused = LockFile::take(&path);
        assert!(matches!(refused, Err(DbError::Held { pid: Some(pid), .. }) if pid == std::process::id()));
        drop(held);
        assert!(LockFile::take(&path).is_ok());
    }

    #[test]
    fn a_link_to_the_database_is_no_way_around_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        let links =
            [folder.path().join("link.db"), folder.path().join("link to link.db"), folder.path().join("here/x.db")];
        std::os::unix::fs::symlink("x.db", &links[0]).unwrap();
        std::os::unix::fs::symlink("link.db", &links[1]).unwrap();
        std::os::unix::fs::symlink(".", folder.path().join("here")).unwrap();
        for exists in [false, true] {
            if exists {
                std::fs::write(&path, "").unwrap();
            }
            let _held = LockFile::take(&real_path(&path).unwrap()).unwrap();
            for link in &links {
                let refused = LockFile::take(&real_path(link).unwrap());
                assert!(matches!(refused, Err(DbError::Held { .. })), "{}, exists: {exists}", link.display());
            }
        }
        std::os::unix::fs::symlink("loop.db", folder.path().join("loop.db")).unwrap();
        assert!(real_path(&folder.path().join("loop.db")).is_err());
    }
}
