//! The members of an object in a body, as pieces of its text; and the records, where they are read on the way.

use indexmap::IndexMap;
use serde_json::value::RawValue;

use crate::decode::scan::{NotJson, Scanner, unquoted};

/// The keys of an object and the texts of their values.
pub(super) fn entries(raw: &str) -> Result<Vec<(String, &str)>, serde_json::Error> {
    whole_object(raw).or_else(|NotJson| {
        // What is wrong with it, and where, `serde_json` has words for.
        let members: IndexMap<String, &RawValue> = serde_json::from_str(raw)?;
        Ok(members.into_iter().map(|(key, value)| (key, value.get())).collect())
    })
}

fn whole_object(raw: &str) -> Result<Vec<(String, &str)>, NotJson> {
    let mut json = Scanner::new(raw);
    let found = members(&mut json, None)?;
    json.end().map(|()| found)
}

/// A dotted path, and what reads the value that it leads to.
pub(super) type Reading<'r, 'a> = (&'r str, &'r mut dyn FnMut(&mut Scanner<'a>) -> Result<(), NotJson>);

/// The keys of an object and the texts of their values. Where two keys could lead to the value that is read on the way, it
/// is not JSON for us.
pub(super) fn members<'a>(
    json: &mut Scanner<'a>,
    mut reading: Option<Reading<'_, 'a>>,
) -> Result<Vec<(String, &'a str)>, NotJson> {
    if !json.take(b'{') {
        return Err(NotJson);
    }
    let mut found = Vec::new();
    let mut is_read = false;
    let mut goes_on = !json.take(b'}');
    while goes_on {
        let (name, has_escapes) = json.name()?;
        let name = unquoted(name, has_escapes).ok_or(NotJson)?.into_owned();
        let first = json.peek();
        let start = json.at();
        let on_the_way = reading.as_mut().and_then(|(path, read)| {
            let rest = path.strip_prefix(&*name)?;
            (rest.is_empty() || rest.starts_with('.')).then_some((rest, read))
        });
        if is_read && on_the_way.is_some() {
            return Err(NotJson);
        }
        is_read |= on_the_way.is_some();
        match on_the_way {
            Some(("", read)) => read(json)?,
            Some((rest, read)) if first == b'{' => drop(members(json, Some((&rest[1..], &mut **read)))?),
            _ => drop(json.value()?),
        }
        found.push((name, json.since(start)));
        goes_on = json.goes_on(b'}')?;
    }
    Ok(found)
}
