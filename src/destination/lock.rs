//! One writer at a time: a lock on a file beside the database, never on the database itself. Opening that file
//! and closing it again anywhere in the process would drop the locks that SQLite holds on it (POSIX `fcntl`).

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::DbError;

/// The lock, held until it is dropped or the process ends.
#[derive(Debug)]
pub(super) struct LockFile {
    _file: File,
}

impl LockFile {
    /// Takes the lock for the database at `path`.
    pub(super) fn take(path: &Path) -> Result<Self, DbError> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)?;
        }
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(Self::path_for(path))?;
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
        Ok(Self { _file: file })
    }

    /// Beside the file itself, also when `database` is a link to it.
    fn path_for(database: &Path) -> PathBuf {
        let real = database.canonicalize().unwrap_or_else(|_| database.to_owned());
        let mut name = real.into_os_string();
        name.push(".lock");
        name.into()
    }
}

#[cfg(test)]
mod tests {
    use super::LockFile;
    use crate::destination::DbError;

    #[test]
    fn a_second_instance_is_kept_out_and_told_who_is_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/folder/x.db");
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
        std::fs::write(&path, "").unwrap();
        std::os::unix::fs::symlink(&path, folder.path().join("link.db")).unwrap();
        let _held = LockFile::take(&path).unwrap();
        assert!(matches!(LockFile::take(&folder.path().join("link.db")), Err(DbError::Held { .. })));
    }
}
