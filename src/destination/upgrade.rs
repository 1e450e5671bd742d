//! Brings the `_hw_` tables of an earlier version up to this one.

use rusqlite::{Connection, Transaction};

use super::{DbError, counted, schema, sqlite};

/// Brings a file of an earlier version up to this one, whole or not at all. One of this version is not written to.
pub(super) fn bring_up(connection: &Connection) -> Result<(), DbError> {
    if is_up(connection)? {
        return Ok(());
    }
    let transaction = sqlite::begin(connection)?;
    if !has_column(&transaction, "_hw_resources", "next_rows")? {
        transaction.execute_batch(
            "ALTER TABLE _hw_resources ADD COLUMN rows INTEGER NOT NULL DEFAULT 0;
             ALTER TABLE _hw_resources ADD COLUMN next_rows INTEGER NOT NULL DEFAULT 0",
        )?;
        counted::count_all(&transaction)?;
    }
    if !has_column(&transaction, "_hw_quarantine", "retried_page_id")? {
        // Which records were rows to be is not known of those that are there: they are not tried again.
        transaction.execute_batch(
            "ALTER TABLE _hw_quarantine ADD COLUMN is_row INTEGER NOT NULL DEFAULT 0;
             ALTER TABLE _hw_quarantine ADD COLUMN retried_page_id INTEGER",
        )?;
    }
    let kinds: String =
        transaction.query_row("SELECT sql FROM sqlite_schema WHERE name = '_hw_runs'", [], |row| row.get(0))?;
    if !kinds.contains("'retry'") {
        remake_runs(&transaction)?;
    }
    transaction.execute_batch(schema::ADDED)?;
    Ok(transaction.commit()?)
}

/// A table with another CHECK is another table (<https://www.sqlite.org/lang_altertable.html>, section 7).
fn remake_runs(transaction: &Transaction<'_>) -> Result<(), DbError> {
    let last = sqlite::last_id(transaction, "_hw_runs")?;
    transaction.execute_batch("CREATE TABLE _hw_runs_before AS SELECT * FROM _hw_runs; DROP TABLE _hw_runs")?;
    transaction.execute_batch(schema::RUNS)?;
    transaction.execute_batch(
        "INSERT INTO _hw_runs SELECT * FROM _hw_runs_before;
         DROP TABLE _hw_runs_before",
    )?;
    transaction.execute("DELETE FROM sqlite_sequence WHERE name = '_hw_runs'", [])?;
    transaction.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('_hw_runs', ?1)", [last])?;
    Ok(())
}

/// Whether the file has everything that this version knows of: what is added last is there.
pub(super) fn is_up(connection: &Connection) -> Result<bool, DbError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'index' AND name = ?1)";
    Ok(connection.query_row(sql, [schema::ADDED_LAST], |row| row.get(0))?)
}

fn has_column(connection: &Connection, table: &str, column: &str) -> Result<bool, DbError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM pragma_table_info(?1) WHERE name = ?2)";
    Ok(connection.query_row(sql, [table, column], |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::super::schema::{RUNS, SCHEMA};
    use super::bring_up;

    #[test]
    fn d12_x15_a_file_of_an_earlier_version_is_brought_up_once() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(SCHEMA).unwrap();
        let before = RUNS.replace(", 'retry'", "");
        connection
            .execute_batch(&format!(
                "DROP TABLE _hw_runs; {before}
                 INSERT INTO _hw_runs (kind, source, resource, pass_id, started_at, outcome)
                   VALUES ('sync', 's', 'a', 1, '', 'complete'), ('sync', 's', 'a', 2, '', 'failed');
                 DELETE FROM _hw_runs WHERE run_id = 2;
                 ALTER TABLE _hw_quarantine DROP COLUMN is_row; ALTER TABLE _hw_quarantine DROP COLUMN retried_page_id;
                 ALTER TABLE _hw_resources DROP COLUMN rows; ALTER TABLE _hw_resources DROP COLUMN next_rows;
                 INSERT INTO _hw_resources (source, resource, \"table\", first_seen_at)
                   VALUES ('s', 'a', 's_A', ''), ('s', 'gone', 's_gone', '');
                 CREATE TABLE s_a (x); INSERT INTO s_a VALUES (1), (2);
                 CREATE TABLE _hw_next_s_a (x); INSERT INTO _hw_next_s_a VALUES (1)"
            ))
            .unwrap();
        for _ in 0..2 {
            bring_up(&connection).unwrap();
            let sql = "SELECT group_concat(resource || ' ' || rows || ' ' || next_rows, ', ') FROM _hw_resources";
            let counted: String = connection.query_row(sql, [], |row| row.get(0)).unwrap();
            assert_eq!(counted, "a 2 1, gone 0 0");
            connection.execute_batch("INSERT INTO s_a VALUES (3)").unwrap();
        }
        connection
            .execute_batch(
                "INSERT INTO _hw_runs (kind, source, resource, pass_id, started_at, outcome)
                   VALUES ('retry', 's', 'a', 1, '', 'complete');
                 INSERT INTO _hw_quarantine (page_id, source, resource, reason, record, is_row)
                   VALUES (1, 's', 'a', '', '{}', 1)",
            )
            .unwrap();
        let runs: String = connection
            .query_row("SELECT group_concat(run_id || ' ' || kind || ' ' || outcome) FROM _hw_runs", [], |row| {
                row.get(0)
            })
            .unwrap();
        assert_eq!(runs, "1 sync complete,3 retry complete", "no number is given out twice");
    }

    #[test]
    fn a_new_file_and_one_that_was_brought_up_have_the_same_indexes() {
        let indexes = |connection: &Connection| -> String {
            let sql = "SELECT group_concat(name || coalesce(sql, ''), ';') FROM
                       (SELECT name, sql FROM sqlite_schema WHERE type = 'index' ORDER BY name)";
            connection.query_row(sql, [], |row| row.get(0)).unwrap()
        };
        let new = Connection::open_in_memory().unwrap();
        new.execute_batch(SCHEMA).unwrap();
        bring_up(&new).unwrap();
        let old = Connection::open_in_memory().unwrap();
        old.execute_batch(&SCHEMA.replace(RUNS, &RUNS.replace(", 'retry'", ""))).unwrap();
        bring_up(&old).unwrap();
        assert_eq!(indexes(&new), indexes(&old));
    }

    #[test]
    fn an_index_takes_the_place_of_the_one_that_it_begins_like() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(SCHEMA).unwrap();
        connection.execute_batch("CREATE INDEX _hw_runs_of_resource ON _hw_runs (source, resource, run_id)").unwrap();
        for _ in 0..2 {
            bring_up(&connection).unwrap();
            let sql =
                "SELECT group_concat(name, ' ') FROM sqlite_schema WHERE name LIKE '\\_hw\\_runs\\_%' ESCAPE '\\'";
            let indexes: String = connection.query_row(sql, [], |row| row.get(0)).unwrap();
            assert_eq!(indexes, "_hw_runs_succeeded _hw_runs_in_short _hw_runs_failed _hw_runs_running");
        }
    }
}
