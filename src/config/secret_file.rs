//! Reads a secret from a file: small, text, and nobody else's to read.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// The longest secret; keys and certificates stay far below.
const BYTES_MAX: u64 = 64 << 10;

/// Who may be able to read the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Its owner alone: this process's user, or root.
    OwnerOnly,
    /// Whoever set it up decided that (systemd's credentials).
    Any,
}

/// The content without one newline at its end. The error is a sentence without the content.
pub(crate) fn read(path: &Path, access: Access) -> Result<String, String> {
    let shown = path.display();
    let cannot = |error: std::io::Error| format!("cannot read {shown}: {error}");
    // Before opening it: opening a pipe would wait for whoever writes to it.
    if !std::fs::metadata(path).map_err(cannot)?.is_file() {
        return Err(format!("{shown} is not a file"));
    }
    let file = File::open(path).map_err(cannot)?;
    if access == Access::OwnerOnly {
        check_owner(&file.metadata().map_err(cannot)?).map_err(|reason| format!("{shown} {reason}"))?;
    }
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(format!("{shown} is larger than 64KiB: not a secret"));
    }
    let mut text = String::from_utf8(bytes).map_err(|_| format!("{shown} is not UTF-8 text"))?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() { Err(format!("{shown} is empty")) } else { Ok(text) }
}

fn check_owner(metadata: &Metadata) -> Result<(), String> {
    let mode = metadata.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(format!("can be read or changed by other users (mode {:04o}): chmod 600 it", mode & 0o7777));
    }
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() != user && metadata.uid() != 0 {
        return Err(format!("belongs to another user (uid {}, we are {user})", metadata.uid()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Access, read};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn c06_a_secret_file_is_small_private_text_without_its_last_newline() {
        let dir = tempfile::tempdir().unwrap();
        let big = "x".repeat((64 << 10) + 1);
        for (content, mode, access, expected) in [
            (b"abc".as_slice(), 0o600, Access::OwnerOnly, Ok("abc")),
            (b"abc\n", 0o400, Access::OwnerOnly, Ok("abc")),
            (b"abc\r\n", 0o600, Access::OwnerOnly, Ok("abc")),
            (b"abc\n\n", 0o600, Access::OwnerOnly, Ok("abc\n")),
            (b"abc", 0o644, Access::Any, Ok("abc")),
            (b"abc", 0o640, Access::OwnerOnly, Err("mode 0640")),
            (b"abc", 0o602, Access::OwnerOnly, Err("mode 0602")),
            (b"", 0o600, Access::OwnerOnly, Err("is empty")),
            (b"\n", 0o600, Access::OwnerOnly, Err("is empty")),
            (b"\xff", 0o600, Access::OwnerOnly, Err("not UTF-8")),
            (big.as_bytes(), 0o600, Access::OwnerOnly, Err("larger than")),
        ] {
            let path = dir.path().join("secret");
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            match (read(&path, access), expected) {
                (Ok(text), Ok(expected)) => assert_eq!(text, expected),
                (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
                (got, expected) => panic!("{got:?} instead of {expected:?}"),
            }
            std::fs::remove_file(&path).unwrap();
        }
        assert!(read(dir.path(), Access::Any).unwrap_err().contains("is not a file"));
        assert!(read(&dir.path().join("none"), Access::Any).unwrap_err().contains("cannot read"));
    }
}
