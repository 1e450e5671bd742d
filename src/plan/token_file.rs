//! The file of a refresh token, beside the database and never in it: readable by its owner alone, and replaced as a
//! whole, so that there is the old token or the new one, whatever happens in between.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::secret_file::{self, Access};
use crate::rest::auth::{KeptToken, SaveToken, TokenStore};
use crate::secret::Secret;
use zeroize::Zeroizing;

/// The version of the file's format.
const VERSION: u32 = 1;

/// Room is made for so much; a token that is longer finds its room when it comes.
const RESERVED_BYTES: usize = 16 << 10;

/// Where the refresh token of one source is kept.
#[derive(Clone, Debug)]
pub(super) struct TokenFile {
    path: PathBuf,
}

/// What the file holds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    configured: String,
    refresh_token: Zeroizing<String>,
}

/// Room for the next token, which is given back when it is not used.
struct Reserved {
    file: File,
    path: PathBuf,
    temporary: PathBuf,
}

impl TokenFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The file as a client uses it.
    pub(super) fn into_store(self) -> TokenStore {
        let file = Arc::new(self);
        let (read, written) = (Arc::clone(&file), file);
        TokenStore {
            load: Box::new(move || read.load()),
            reserve: Box::new(move || {
                let reserved = written.reserve()?;
                Ok(Box::new(move |token: &KeptToken| reserved.store(token)) as SaveToken)
            }),
        }
    }

    fn load(&self) -> Result<Option<KeptToken>, String> {
        match std::fs::symlink_metadata(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            _ => {}
        }
        let text = Zeroizing::new(secret_file::read(&self.path, Access::OwnerOnly)?);
        let shown = self.path.display();
        let content: Content = serde_json::from_str(&text).map_err(|error| {
            // Its own words could repeat the token.
            let (line, column) = (error.line(), error.column());
            format!(
                "{shown} is not a file with a refresh token (line {line}, column {column}): remove it, and configure \
                 a new `refresh_token`"
            )
        })?;
        if content.version != VERSION {
            let found = content.version;
            return Err(format!(
                "{shown} is of version {found}, and this is for version {VERSION}: use the newer program"
            ));
        }
        let refresh_token = Secret::new(content.refresh_token.to_string());
        Ok(Some(KeptToken { refresh_token, configured: content.configured }))
    }

    fn reserve(&self) -> Result<Reserved, String> {
        let mut temporary = self.path.clone().into_os_string();
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        let made = || -> std::io::Result<File> {
            // One that a crash left behind may have any content, and any rights.
            match std::fs::remove_file(&temporary) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(&[b' '; RESERVED_BYTES])?;
            file.sync_all()?;
            Ok(file)
        };
        let file = made().map_err(|error| {
            let shown = temporary.display();
            format!("no new access token is asked for, as a new refresh token could not be stored in {shown}: {error}")
        })?;
        Ok(Reserved { file, path: self.path.clone(), temporary })
    }
}

impl Reserved {
    fn store(self, token: &KeptToken) -> Result<(), String> {
        let content = Content {
            version: VERSION,
            configured: token.configured.clone(),
            refresh_token: Zeroizing::new(token.refresh_token.expose().to_owned()),
        };
        let stored = || -> std::io::Result<()> {
            use std::io::Seek;
            let mut text = Zeroizing::new(serde_json::to_vec(&content)?);
            text.push(b'\n');
            let mut file = &self.file;
            file.rewind()?;
            file.write_all(&text)?;
            file.set_len(text.len() as u64)?;
            file.sync_all()?;
            std::fs::rename(&self.temporary, &self.path)?;
            // The new name is on the disk when the folder is (rename(2), fsync(2)).
            let folder = self.path.parent().unwrap_or(Path::new("."));
            File::open(folder)?.sync_all()
        };
        stored().map_err(|error| {
            let shown = self.path.display();
            format!("the new refresh token cannot be stored in {shown}, and the old one is used up: {error}")
        })
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        // It has its final name, or was not needed. What stays behind is removed before the next one is made.
        drop(std::fs::remove_file(&self.temporary));
    }
}

#[cfg(test)]
mod tests {
    use super::{KeptToken, Secret, TokenFile};
    use std::os::unix::fs::PermissionsExt;

    fn token(text: &str) -> KeptToken {
        KeptToken { refresh_token: Secret::new(text.to_owned()), configured: "salt:mark".to_owned() }
    }

    #[test]
    fn a_token_is_replaced_as_a_whole_whatever_a_crash_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db.shop.token");
        let file = TokenFile::new(path.clone());
        assert_eq!(file.load(), Ok(None));
        // A crash between making room and storing.
        let left = folder.path().join("x.db.shop.token.new");
        std::fs::write(&left, "canary").unwrap();
        std::fs::set_permissions(&left, std::fs::Permissions::from_mode(0o644)).unwrap();
        let long = "x".repeat(40_000);
        for text in [long.as_str(), "short \"and\" strange\\ \u{e9}"] {
            let room = file.reserve().unwrap();
            assert_eq!(std::fs::metadata(&left).unwrap().permissions().mode() & 0o7777, 0o600);
            room.store(&token(text)).unwrap();
            assert_eq!(file.load(), Ok(Some(token(text))));
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        }
        drop(file.reserve().unwrap());
        assert_eq!(file.load().unwrap().unwrap().refresh_token.expose(), "short \"and\" strange\\ \u{e9}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no room is left behind");
    }

    #[test]
    fn where_a_token_could_not_be_stored_there_is_no_room() {
        let folder = tempfile::tempdir().unwrap();
        let file = TokenFile::new(folder.path().join("gone/x.db.shop.token"));
        let error = file.reserve().err().unwrap();
        assert!(
            error.contains("no new access token is asked for") && error.contains("gone/x.db.shop.token.new"),
            "{error}"
        );
    }

    #[test]
    fn a_file_that_is_none_of_ours_is_refused_without_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db.shop.token");
        let file = TokenFile::new(path.clone());
        for (text, part) in [
            ("canary-token", "is not a file with a refresh token (line 1, column 1)"),
            (r#"{"version":1,"configured":"a:b"}"#, "is not a file with a refresh token"),
            (r#"{"version":1,"configured":"a:b","refresh_token":"canary","more":1}"#, "is not a file with a refresh"),
            (r#"{"version":1,"configured":"a:b","refresh_token":["canary"]}"#, "is not a file with a refresh token"),
            (r#"{"version":9,"configured":"a:b","refresh_token":"canary"}"#, "is of version 9"),
        ] {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            let error = file.load().unwrap_err();
            assert!(error.contains(part) && !error.contains("canary"), "{error}");
        }
    }
}
