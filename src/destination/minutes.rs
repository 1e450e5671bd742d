//! `_hw_minutes`: how many records of each resource were stored in each of the last minutes. One line is touched with each
//! commit, whatever the number of its pages, so that nobody has to add pages up.

use jiff::Timestamp;
use rusqlite::{Connection, Transaction};

use super::DbError;
use crate::page::ResourceId;

/// Minutes that are kept when a run begins; what is longer ago is nobody's present speed.
const KEPT: i64 = 120;

/// The minute of a time, counted since 1970.
pub(super) fn minute(at: Timestamp) -> i64 {
    at.as_second().div_euclid(60)
}

/// Counts records that are stored now.
pub(super) fn add(transaction: &Transaction<'_>, id: &ResourceId, records: u64) -> Result<(), DbError> {
    if records == 0 {
        return Ok(());
    }
    transaction
        .prepare_cached(
            "INSERT INTO _hw_minutes (source, resource, minute, records) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET records = records + excluded.records",
        )?
        .execute((&*id.source, &*id.resource, minute(Timestamp::now()), records))?;
    Ok(())
}

/// Forgets the minutes of a resource that nobody asks for any more.
pub(super) fn forget_old(connection: &Connection, id: &ResourceId) -> Result<(), DbError> {
    let sql = "DELETE FROM _hw_minutes WHERE source = ?1 AND resource = ?2 AND minute < ?3";
    connection.execute(sql, (&*id.source, &*id.resource, minute(Timestamp::now()) - KEPT))?;
    Ok(())
}

/// How many records of one resource, or of all, were stored in each of the last minutes, that of `now` last.
pub(super) fn last(
    connection: &Connection,
    id: Option<&ResourceId>,
    now: Timestamp,
    count: usize,
) -> Result<Vec<u64>, DbError> {
    let of = if id.is_some() { "source = ?1 AND resource = ?2" } else { "?1 IS NULL AND ?2 IS NULL" };
    let mut statement = connection.prepare_cached(&format!(
        "SELECT minute, sum(records) FROM _hw_minutes WHERE {of} AND minute > ?3 AND minute <= ?4 GROUP BY minute"
    ))?;
    let end = minute(now);
    let first = end.saturating_sub(i64::try_from(count).unwrap_or(i64::MAX));
    let key = (id.map(|id| &*id.source), id.map(|id| &*id.resource));
    let mut rows = statement.query((key.0, key.1, first, end))?;
    let mut minutes = vec![0; count];
    while let Some(row) = rows.next()? {
        let place = usize::try_from(row.get::<_, i64>(0)? - first - 1).unwrap_or(usize::MAX);
        if let Some(minute) = minutes.get_mut(place) {
            *minute = row.get(1)?;
        }
    }
    Ok(minutes)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use rusqlite::Connection;

    use super::super::schema::{ADDED, SCHEMA};
    use super::last;
    use crate::page::ResourceId;

    #[test]
    fn each_of_the_last_minutes_has_its_records_and_the_present_one_is_the_last() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(SCHEMA).unwrap();
        connection.execute_batch(ADDED).unwrap();
        connection
            .execute_batch(
                "INSERT INTO _hw_minutes VALUES ('s', 'a', 96, 1), ('s', 'a', 97, 2), ('s', 'a', 100, 4),
                   ('s', 'b', 100, 8), ('s', 'a', 101, 16)",
            )
            .unwrap();
        let now = Timestamp::from_second(100 * 60 + 59).unwrap();
        let of = |id: Option<&ResourceId>| last(&connection, id, now, 4).unwrap();
        assert_eq!(of(Some(&ResourceId::new("s", "a"))), [2, 0, 0, 4]);
        assert_eq!(of(None), [2, 0, 0, 12]);
        assert_eq!(of(Some(&ResourceId::new("s", "c"))), [0; 4]);
    }
}
