//! Is a table what an API served? Reads the file through a connection of its own, as any other program would.

use std::collections::HashMap;
use std::path::Path;

use rusqlite::types::Value as Stored;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value as Json;

/// Compares a table with the records that it has to hold, each exactly once and nothing else. With `key` they are
/// found by it; without, the rows have to come in the order of the records.
///
/// # Errors
/// The first difference, or what kept the table from being read.
pub fn table(database: &Path, table: &str, key: &[&str], records: &[Json]) -> Result<(), String> {
    let rows = read(database, table).map_err(|error| format!("{table}: {error}"))?;
    if rows.len() != records.len() {
        return Err(format!("{table} has {} rows, the API {} records", rows.len(), records.len()));
    }
    let by_key: HashMap<String, &Row> = rows.iter().map(|row| (row.key(key), row)).collect();
    for (number, record) in records.iter().enumerate() {
        let row = if key.is_empty() {
            &rows[number]
        } else {
            let wanted: Vec<String> = key.iter().map(|key| text(&record[*key])).collect();
            by_key.get(&wanted.join("|")).ok_or_else(|| format!("{table} has no row for {}", wanted.join("|")))?
        };
        row.compare(record).map_err(|difference| format!("{table}: {difference} in {record}"))?;
    }
    Ok(())
}

struct Row(HashMap<String, Stored>);

fn read(database: &Path, table: &str) -> rusqlite::Result<Vec<Row>> {
    let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let name = format!("\"{}\"", table.replace('"', "\"\""));
    let mut statement = connection.prepare(&format!("SELECT * FROM {name} ORDER BY rowid"))?;
    let columns: Vec<String> = statement.column_names().into_iter().map(str::to_owned).collect();
    let rows = statement.query_map([], |row| {
        let cells = columns.iter().enumerate().map(|(index, name)| Ok((name.clone(), row.get(index)?)));
        cells.collect::<rusqlite::Result<_>>().map(Row)
    })?;
    rows.collect()
}

impl Row {
    fn key(&self, key: &[&str]) -> String {
        let parts: Vec<String> = key
            .iter()
            .map(|key| match self.0.get(*key) {
                Some(Stored::Integer(value)) => value.to_string(),
                Some(Stored::Text(value)) => value.clone(),
                other => format!("{other:?}"),
            })
            .collect();
        parts.join("|")
    }

    fn compare(&self, record: &Json) -> Result<(), String> {
        let extra: Json = match self.0.get("_extra") {
            Some(Stored::Text(text)) => serde_json::from_str(text).map_err(|error| format!("_extra: {error}"))?,
            _ => Json::Null,
        };
        let fields = record.as_object().ok_or("a record that is no object")?;
        for (key, value) in fields {
            let stored = self.0.get(key).unwrap_or(&Stored::Null);
            let same = match (stored, value) {
                (Stored::Null, Json::Null) => true,
                (Stored::Null, value) => extra.get(key) == Some(value),
                (Stored::Integer(stored), Json::Bool(value)) => *stored == i64::from(*value),
                (Stored::Integer(stored), Json::Number(value)) => {
                    value.as_i64() == Some(*stored) || value.as_f64() == Some(*stored as f64)
                }
                (Stored::Real(stored), Json::Number(value)) => value.as_f64() == Some(*stored),
                (Stored::Text(stored), Json::String(value)) => stored == value,
                (Stored::Text(stored), Json::Number(value)) => *stored == value.to_string(),
                (Stored::Text(stored), Json::Object(_) | Json::Array(_)) => {
                    serde_json::from_str::<Json>(stored).is_ok_and(|stored| stored == *value)
                }
                _ => false,
            };
            if !same {
                return Err(format!("{key} is {stored:?}"));
            }
        }
        Ok(())
    }
}

fn text(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
