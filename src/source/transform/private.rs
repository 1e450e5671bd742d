//! What steps remove or hash is to stay out of the database. A record that is set aside is stored as it came, and
//! with these fields masked.

use std::collections::{BTreeSet, HashMap};

use super::{Change, MASK, Rows, Step};

/// What is kept of a record that is set aside; as much as the decoder keeps.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// The fields of the records as received that steps remove or hash.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Private(BTreeSet<String>);

impl Private {
    pub(super) fn of(steps: &[Step]) -> Self {
        let mut private = BTreeSet::new();
        // What the name of a renamed field was.
        let mut before: HashMap<&str, &str> = HashMap::new();
        for step in steps {
            match step {
                Step::Filter(_) | Step::Add(_) => {}
                Step::Rename(names) => {
                    let renamed: Vec<_> = names
                        .iter()
                        .map(|(from, to)| (to.as_str(), *before.get(from.as_str()).unwrap_or(&from.as_str())))
                        .collect();
                    before.extend(renamed);
                }
                Step::Change(Change::Remove | Change::Hash, fields) => {
                    let first = fields.iter().filter_map(|field| field.path.as_ref().map(|(first, _)| first.as_str()));
                    for name in first.chain(fields.iter().map(|field| field.name.as_str())) {
                        private.insert(name.to_owned());
                        private.extend(before.get(name).map(|name| (*name).to_owned()));
                    }
                }
            }
        }
        Self(private)
    }

    /// A record as it came, with its private fields masked.
    pub(super) fn record_text(&self, rows: &Rows, row: usize) -> String {
        let mask = format!("\"{MASK}\"");
        let fields = rows.row(row).map(|(key, value)| {
            let name = &rows.keys()[key];
            let value = if self.0.contains(name) { mask.clone() } else { value.json_text() };
            format!("{}:{value}", serde_json::Value::String(name.clone()))
        });
        let mut text = format!("{{{}}}", fields.collect::<Vec<_>>().join(","));
        text.truncate(text.floor_char_boundary(KEPT_BYTES_MAX));
        text
    }

    /// Masks the records that are no rows, as far as they can have private fields: what is wrong with them can be that
    /// their fields cannot be told apart.
    pub(super) fn mask_rejected(&self, rows: &mut Rows) {
        if self.0.is_empty() {
            return;
        }
        for rejected in rows.rejected.iter_mut().filter(|rejected| rejected.record.starts_with(['{', '['])) {
            MASK.clone_into(&mut rejected.record);
        }
    }
}
