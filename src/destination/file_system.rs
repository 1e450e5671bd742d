//! Which file systems a database may be on. SQLite needs locks that hold and memory that all its users share
//! (<https://www.sqlite.org/wal.html>, "All processes using a database must be on the same host computer"); what goes
//! over a network, or through another program, promises neither. And whether there is room left on one.

use std::path::Path;

use super::DbError;

/// Their numbers (statfs(2), `linux/magic.h`) and what they are called.
const REFUSED: [(u32, &str); 18] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "SMB (CIFS)"),
    (0xfe53_4d42, "SMB 2"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9P"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x7375_7245, "Coda"),
    (0x564c, "NCP"),
    (0x00c3_6400, "Ceph"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x1983_0326, "BeeGFS"),
    (0x2003_0528, "OrangeFS"),
    (0x786f_4256, "a shared folder of VirtualBox"),
    (0xbacb_acbc, "a shared folder of VMware"),
    (0x7c7c_6673, "a shared folder of Parallels"),
];

/// Whether the database at `path`, and what SQLite puts beside it, can be there. Neither has to exist.
///
/// # Errors
/// With the name of the file system where it cannot.
pub(super) fn check(path: &Path) -> Result<(), DbError> {
    // A file can be mounted by itself, and its WAL is in the folder.
    for place in [path.parent(), Some(path)].into_iter().flatten() {
        // Whatever keeps a place from being looked at is told better by those who open it.
        if let Some(kind) = kind_at(place).and_then(refused) {
            return Err(DbError::NetworkFileSystem { path: place.to_owned(), kind });
        }
    }
    Ok(())
}

/// Whether nothing more can be written into a folder because its disk is full, or a quota is used up. It is tried with a
/// file that has no name, so nothing is left of it.
#[cfg(target_os = "linux")]
pub(super) fn has_no_room(folder: &Path) -> bool {
    use std::io::{Error, ErrorKind};
    use std::os::unix::fs::FileExt;

    use rustix::fs::{Mode, OFlags};
    /// More than what is left when a page of 4 KiB could not be written.
    const TRIED_BYTES: usize = 64 << 10;
    let file = rustix::fs::open(folder, OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR);
    let tried = file.map_err(Error::from).and_then(|file| std::fs::File::from(file).write_all_at(&[0; TRIED_BYTES], 0));
    tried.is_err_and(|error| matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded))
}

/// Elsewhere a file has a name, which would stay when the process ends too soon.
#[cfg(not(target_os = "linux"))]
pub(super) fn has_no_room(_: &Path) -> bool {
    false
}

fn refused(number: u32) -> Option<&'static str> {
    REFUSED.iter().find(|(known, _)| *known == number).map(|(_, name)| *name)
}

/// The number of the file system that a file is on. It has 32 bits, in a word of any size and sign.
#[cfg(target_os = "linux")]
fn kind_at(place: &Path) -> Option<u32> {
    rustix::fs::statfs(place).ok().map(|found| found.f_type as u32)
}

/// Elsewhere these numbers mean something else.
#[cfg(not(target_os = "linux"))]
fn kind_at(_: &Path) -> Option<u32> {
    None
}

#[cfg(test)]
mod tests {
    use super::{check, refused};
    use std::path::Path;

    #[test]
    fn d11_what_goes_over_a_network_is_refused_and_what_is_on_this_machine_is_not() {
        for (number, name) in [
            (0x6969, Some("NFS")),
            (0xff53_4d42, Some("SMB (CIFS)")),
            (0xfe53_4d42, Some("SMB 2")),
            (0x6573_5546, Some("FUSE")),
            (0x0102_1997, Some("9P")),
            // ext4, xfs, btrfs, tmpfs, overlay, zfs, f2fs, bcachefs, squashfs, vfat, ecryptfs, ramfs
            (0xef53, None),
            (0x5846_5342, None),
            (0x9123_683e, None),
            (0x0102_1994, None),
            (0x794c_7630, None),
            (0x2fc1_2fc1, None),
            (0xf2f5_2010, None),
            (0xca45_1a4e, None),
            (0x7371_7368, None),
            (0x4d44, None),
            (0xf15f, None),
            (0x8584_58f6, None),
        ] {
            assert_eq!(refused(number), name, "{number:x}");
        }
        // As sign-extended words have them.
        assert_eq!(refused(-11_317_950_i64 as u32), Some("SMB (CIFS)"));
    }

    #[test]
    fn d11_a_file_on_a_disk_or_in_memory_is_taken_whether_it_exists_or_not() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("there"), "").unwrap();
        for name in ["there", "missing", "missing/too"] {
            assert!(check(&folder.path().join(name)).is_ok(), "{name}");
        }
        assert!(check(Path::new("/dev/shm/highwater.db")).is_ok());
    }
}
