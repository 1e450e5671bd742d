//! Brings the `_hw_` tables of an earlier version up to this one.

use rusqlite::Connection;

use super::{DbError, counted, schema, sqlite};

/// Adds what a file of an earlier version does not have. One of this version is not written to.
pub(super) fn bring_up(connection: &Connection) -> Result<(), DbError> {
    connection.execute_batch(schema::ADDED)?;
    if is_up(connection)? {
        return Ok(());
    }
    let transaction = sqlite::begin(connection)?;
    transaction.execute_batch(
        "ALTER TABLE _hw_resources ADD COLUMN rows INTEGER NOT NULL DEFAULT 0;
         ALTER TABLE _hw_resources ADD COLUMN next_rows INTEGER NOT NULL DEFAULT 0",
    )?;
    counted::count_all(&transaction)?;
    Ok(transaction.commit()?)
}

/// Whether the file has everything that this version knows of: what is added last is there.
pub(super) fn is_up(connection: &Connection) -> Result<bool, DbError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM pragma_table_info('_hw_resources') WHERE name = 'next_rows')";
    Ok(connection.query_row(sql, [], |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::super::schema::{ADDED, SCHEMA};
    use super::bring_up;

    #[test]
    fn a_file_of_an_earlier_version_gets_its_rows_counted_once() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(SCHEMA).unwrap();
        connection
            .execute_batch(
                "ALTER TABLE _hw_resources DROP COLUMN rows; ALTER TABLE _hw_resources DROP COLUMN next_rows;
                 INSERT INTO _hw_resources (source, resource, \"table\", first_seen_at)
                   VALUES ('s', 'a', 's_A', ''), ('s', 'gone', 's_gone', '');
                 CREATE TABLE s_a (x); INSERT INTO s_a VALUES (1), (2);
                 CREATE TABLE _hw_next_s_a (x); INSERT INTO _hw_next_s_a VALUES (1)",
            )
            .unwrap();
        for _ in 0..2 {
            bring_up(&connection).unwrap();
            let sql = "SELECT group_concat(resource || ' ' || rows || ' ' || next_rows, ', ') FROM _hw_resources";
            let counted: String = connection.query_row(sql, [], |row| row.get(0)).unwrap();
            assert_eq!(counted, "a 2 1, gone 0 0");
            connection.execute_batch("INSERT INTO s_a VALUES (3)").unwrap();
        }
        assert!(connection.execute_batch(ADDED).is_ok());
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
            assert_eq!(indexes, "_hw_runs_in_short _hw_runs_complete _hw_runs_failed");
        }
    }
}
