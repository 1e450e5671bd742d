//! What the file says of itself as a whole: whose tables it holds, and notes in `_hw_meta`.

use rusqlite::{Connection, OptionalExtension};

use super::{Db, DbError, sqlite};
use crate::page::ResourceId;

impl Db {
    /// Every resource that was ever read into the file, with what its data depends on as a JSON object (empty
    /// after a reset).
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn resources(&self) -> Result<Vec<(ResourceId, String)>, DbError> {
        self.writer
            .call("read resources", |connection, _| {
                let sql = "SELECT source, resource, coalesce(identity, '{}') FROM _hw_resources ORDER BY rowid";
                let mut statement = connection.prepare(sql)?;
                let rows = statement.query_map([], |row| {
                    let (source, resource): (String, String) = (row.get(0)?, row.get(1)?);
                    Ok((ResourceId::new(&source, &resource), row.get(2)?))
                })?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// A random text that belongs to this file, so that a fingerprint in it says nothing to who has another file.
    ///
    /// # Errors
    /// When the file cannot be read, or has none and cannot be written.
    pub async fn salt(&self) -> Result<String, DbError> {
        let read = |connection: &Connection| {
            let sql = "SELECT value FROM _hw_meta WHERE key = 'salt'";
            connection.query_row(sql, [], |row| row.get::<_, String>(0)).optional()
        };
        self.writer
            .call("read salt", move |connection, _| {
                if let Some(salt) = read(connection)? {
                    return Ok(salt);
                }
                let transaction = sqlite::begin(connection)?;
                make_salt(&transaction)?;
                let salt = read(&transaction)?;
                transaction.commit()?;
                Ok(salt.expect("it has just been made"))
            })
            .await
    }

    /// A note in the file.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn note(&self, key: &'static str) -> Result<Option<String>, DbError> {
        self.writer
            .call("read note", move |connection, _| {
                let sql = "SELECT value FROM _hw_meta WHERE key = ?1";
                Ok(connection.query_row(sql, [key], |row| row.get(0)).optional()?)
            })
            .await
    }

    /// Leaves a note in the file, in place of an earlier one under the same key.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn set_note(&self, key: &'static str, value: &'static str) -> Result<(), DbError> {
        self.writer
            .call("set note", move |connection, _| {
                let transaction = sqlite::begin(connection)?;
                let sql = "INSERT INTO _hw_meta (key, value) VALUES (?1, ?2)
                           ON CONFLICT (key) DO UPDATE SET value = excluded.value";
                transaction.execute(sql, (key, value))?;
                Ok(transaction.commit()?)
            })
            .await
    }
}

/// Gives the file its salt, unless it has one.
pub(super) fn make_salt(transaction: &Connection) -> Result<(), DbError> {
    let sql = "INSERT INTO _hw_meta (key, value) VALUES ('salt', lower(hex(randomblob(16)))) ON CONFLICT DO NOTHING";
    transaction.execute(sql, [])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::destination::{Db, DestinationOptions};

    #[tokio::test]
    async fn a_file_keeps_its_salt_and_gets_one_where_it_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let mut salts = Vec::new();
        for name in ["a.db", "a.db", "b.db"] {
            let options = DestinationOptions { path: folder.path().join(name), ..Default::default() };
            let db = Db::open(&options).await.unwrap();
            let salt = db.salt().await.unwrap();
            assert!(salt.len() == 32 && salt.bytes().all(|byte| byte.is_ascii_hexdigit()), "{salt}");
            assert_eq!(db.salt().await.unwrap(), salt);
            salts.push(salt);
            db.close().await.unwrap();
        }
        assert!(salts[0] == salts[1] && salts[1] != salts[2], "{salts:?}");
        let path = folder.path().join("a.db");
        let old = rusqlite::Connection::open(&path).unwrap();
        old.execute("DELETE FROM _hw_meta WHERE key = 'salt'", []).unwrap();
        drop(old);
        let db = Db::open(&DestinationOptions { path, ..Default::default() }).await.unwrap();
        let salt = db.salt().await.unwrap();
        assert_eq!(db.salt().await.unwrap(), salt);
        db.close().await.unwrap();
    }
}
