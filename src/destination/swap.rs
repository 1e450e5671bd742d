//! Puts the next generation of a replaced table, and of its child tables, in the place of the one before it.

use rusqlite::config::DbConfig;
use rusqlite::{OptionalExtension, Transaction, params};

use super::columns::quote;
use super::counted;
use super::error::PageError;
use super::family::family;
use super::history::table_exists;
use super::place::{Place, staging_table};
use super::tables::Tables;
use crate::page::Target;

impl Tables {
    /// Puts the generation that has grown in the staging tables in the place of the one before it. Indexes and triggers
    /// that a user made are made again on the new tables.
    pub(super) fn swap(&mut self, transaction: &Transaction<'_>, target: &Target) -> Result<(), PageError> {
        let staging = staging_table(&target.table);
        let old = family(transaction, &target.table)?;
        if !table_exists(transaction, &staging)? {
            // The new generation is empty.
            for name in old.iter().rev() {
                if table_exists(transaction, name)? {
                    transaction.execute_batch(&format!("DELETE FROM {}", quote(name)))?;
                }
            }
            return counted::swapped(transaction, &target.id, true).map_err(PageError::Db);
        }
        let mut made_by_user: Vec<String> = Vec::new();
        for name in &old {
            indexes_fit(transaction, target, name)?;
            let mut statement = transaction.prepare(
                "SELECT sql FROM sqlite_schema WHERE tbl_name = ?1 COLLATE NOCASE AND type IN ('index', 'trigger')
                 AND sql IS NOT NULL",
            )?;
            for sql in statement.query_map([name], |row| row.get(0))? {
                made_by_user.push(sql?);
            }
        }
        self.drop_table(transaction, &target.table)?;
        self.forget();
        for next in family(transaction, &staging)? {
            let name = Place::named(&next, target).final_name().to_owned();
            transaction.execute_batch(&format!("ALTER TABLE {} RENAME TO {}", quote(&next), quote(&name)))?;
            transaction.execute("UPDATE _hw_columns SET \"table\" = ?2 WHERE \"table\" = ?1", params![next, name])?;
            let link = "UPDATE _hw_columns SET \"column\" = ?2 WHERE \"column\" = ?1 AND type = 'table'";
            transaction.execute(link, params![next, name])?;
        }
        // Tools that users make them with take "text" for a text; SQLite has accepted these statements before.
        transaction.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, true)?;
        let made = made_by_user.iter().try_for_each(|sql| transaction.execute_batch(sql));
        transaction.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, false)?;
        made?;
        counted::swapped(transaction, &target.id, false).map_err(PageError::Db)
    }
}

/// Whether the next generation has every column that a user has indexed. SQLite would take the name of one that is
/// not there for a text, and make an index that is of no use.
fn indexes_fit(transaction: &Transaction<'_>, target: &Target, table: &str) -> Result<(), PageError> {
    let sql = "SELECT i.name, c.name FROM pragma_index_list(?1) i, pragma_index_info(i.name) c
               WHERE i.origin = 'c' AND c.name COLLATE NOCASE NOT IN (SELECT name FROM pragma_table_info(?2))";
    let next = staging_table(table);
    let unfit: Option<(String, String)> =
        transaction.query_row(sql, [table, &next], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    match unfit {
        None => Ok(()),
        Some((index, column)) => Err(PageError::Contract(format!(
            "index {index:?} is on column {column:?}, which the new rows of {} do not have; drop the index, and keep \
             columns of your own in a table of your own",
            target.table
        ))),
    }
}
