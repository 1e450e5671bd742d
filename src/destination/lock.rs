//! One writer at a time: a lock on a file beside the database, never on the database itself. Opening that file
//! and closing it again anywhere in the process would drop the locks that SQLite holds on it (POSIX `fcntl`).

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::DbError;

/// Whoever only looks holds the lock for an instant; so often it is tried again before somebody is said to hold it,
const ATTEMPTS: u32 = 4;

/// after so long.
const PAUSE: Duration = Duration::from_millis(10);

/// The lock, held until it is dropped or the process ends.
#[derive(Debug)]
pub(super) struct LockFile {
    file: File,
}

/// The process that writes a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// Its number, where it is known. One in another container can have a number that means something else here.
    pub pid: Option<u32>,
}

/// Who writes the database at `path` right now; none where nobody does. Nobody is kept out by asking.
///
/// # Errors
/// When the lock file cannot be read.
pub fn holder(path: &Path) -> Result<Option<Holder>, DbError> {
    let Ok(mut name) = path.canonicalize().map(PathBuf::into_os_string) else { return Ok(None) };
    name.push(".lock");
    let mut file = match File::open(name) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match file.try_lock_shared() {
        Ok(()) => {
            file.unlock()?;
            Ok(None)
        }
        Err(TryLockError::WouldBlock) => Ok(Some(Holder { pid: pid_in(&mut file) })),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

/// The pid only makes a message better; without it the lock is as held.
fn pid_in(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok())
}

impl LockFile {
    /// Takes the lock as [`LockFile::take`] does, and lets those first look who only look.
    pub(super) async fn take_in_turn(path: &Path) -> Result<Self, DbError> {
        for _ in 1..ATTEMPTS {
            match Self::take(path) {
                Err(DbError::Held { .. }) => tokio::time::sleep(PAUSE).await,
                done => return done,
            }
        }
        Self::take(path)
    }

    /// Takes the lock for the database at `path`, which [`real_path`] has made the same for all its names.
    pub(super) fn take(path: &Path) -> Result<Self, DbError> {
        let mut name = path.to_owned().into_os_string();
        name.push(".lock");
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(name)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(DbError::Held { path: path.to_owned(), pid: pid_in(&mut file) });
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

/// Which file it is, whatever it is called: its device and its number there.
pub(super) type FileId = (u64, u64);

/// The file that is at `path` now.
pub(super) fn file_at(path: &Path) -> std::io::Result<FileId> {
    use std::os::unix::fs::MetadataExt;
    let file = std::fs::metadata(path)?;
    Ok((file.dev(), file.ino()))
}

/// Where the database is or will be, without links: two instances that reach it by different names must meet at the
/// same lock, also when the first of them has yet to create it. Missing folders are made.
pub(super) fn real_path(path: &Path) -> Result<PathBuf, DbError> {
    /// As many links as the kernel follows.
    const LINKS_MAX: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        make_folder(folder)?;
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

/// Makes a folder that is missing, and those that lead to it, so that a power cut does not take them away with all that
/// is in them: SQLite flushes the folder that its files are in, and nothing above it.
fn make_folder(folder: &Path) -> std::io::Result<()> {
    let folder = &std::path::absolute(folder)?;
    let is_empty = match std::fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == ErrorKind::NotFound,
    };
    // One that somebody has put something into was there before; an empty one may have been made a moment ago, by a
    // process that was killed then.
    let Some(above) = folder.parent().filter(|_| is_empty) else { return Ok(()) };
    make_folder(above)?;
    std::fs::create_dir_all(folder)?;
    if let Err(error) = File::open(above).and_then(|above| above.sync_all()) {
        // Not every file system can do that, and not everybody may.
        tracing::debug!(%error, folder = %above.display(), "flush a folder");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{LockFile, holder, real_path};
    use crate::destination::{Db, DbError, DestinationOptions};

    #[test]
    fn x08_a_second_instance_is_kept_out_and_told_who_is_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = real_path(&folder.path().join("new/folder/x.db")).unwrap();
        let held = LockFile::take(&path).unwrap();
        let refused = LockFile::take(&path);
        assert!(matches!(refused, Err(DbError::Held { pid: Some(pid), .. }) if pid == std::process::id()));
        drop(held);
        assert!(LockFile::take(&path).is_ok());
    }

    #[tokio::test]
    async fn who_writes_the_database_can_be_seen_and_seeing_keeps_nobody_out() {
        let folder = tempfile::tempdir().unwrap();
        let options = DestinationOptions { path: folder.path().join("x.db"), ..Default::default() };
        assert_eq!(holder(&options.path).unwrap(), None, "there is no file yet");
        let db = Db::open(&options).await.unwrap();
        let found = holder(&options.path).unwrap().unwrap();
        assert_eq!(found.pid, Some(std::process::id()));
        db.close().await.unwrap();
        assert_eq!(holder(&options.path).unwrap(), None);
        // In the middle of a look.
        let look = std::fs::File::open(folder.path().join("x.db.lock")).unwrap();
        look.try_lock_shared().unwrap();
        let (db, ()) = tokio::join!(Db::open(&options), async { look.unlock().unwrap() });
        db.unwrap().close().await.unwrap();
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
