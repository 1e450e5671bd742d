//! What the file says of itself as a whole: whose tables it holds, and notes in `_hw_meta`.

use rusqlite::OptionalExtension;

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
