//! Rows can be edited: values put on them, keys renamed and removed, rows left out or set aside. Nothing of the body
//! is copied; the text of new values stands beside it.

use std::borrow::Cow;

use super::rows::{Cell, CellKind, Rejected, Rows, Span, Value};

/// Text beside the body of a page may not grow beyond this: pages are no larger either.
const TEXT_BYTES_MAX: usize = 1 << 30;

/// A value to put on a row: [`Value`] with a text of its own.
#[derive(Clone, Debug, PartialEq)]
pub enum NewValue {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// An integer that fits 64 bits, and how it is written.
    Integer(i64, String),
    /// A number that a double holds exactly as written.
    Real(f64, String),
    /// A number that neither holds, as written.
    Number(String),
    /// A string.
    Text(String),
    /// The JSON text of an object or an array.
    Json(String),
}

/// What becomes of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays.
    Keep,
    /// It is left out, and counted as filtered.
    Filter,
    /// It is set aside.
    Reject(Rejected),
}

impl NewValue {
    /// Bytes of its text.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        self.parts().1.len()
    }

    fn parts(&self) -> (CellKind, &str) {
        match self {
            Self::Null => (CellKind::Null, ""),
            Self::Bool(value) => (CellKind::Bool(*value), ""),
            Self::Integer(value, text) => (CellKind::AddedInteger(*value), text),
            Self::Real(value, text) => (CellKind::AddedReal(*value), text),
            Self::Number(text) => (CellKind::AddedNumber, text),
            Self::Text(text) => (CellKind::Unescaped, text),
            Self::Json(text) => (CellKind::AddedJson, text),
        }
    }
}

impl From<Value<'_>> for NewValue {
    fn from(value: Value<'_>) -> Self {
        let owned = |text: &[u8]| match String::from_utf8_lossy(text) {
            Cow::Borrowed(text) => text.to_owned(),
            Cow::Owned(text) => text,
        };
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(value),
            Value::Integer(value, text) => Self::Integer(value, owned(text)),
            Value::Real(value, text) => Self::Real(value, owned(text)),
            Value::Number(text) => Self::Number(owned(text)),
            Value::Text(text) => Self::Text(owned(text)),
            Value::Json(text) => Self::Json(owned(text)),
        }
    }
}

impl Rows {
    /// Puts `value` on every row under `key`, in the place of what is there. Its text is held once.
    ///
    /// `false` where the page has no room for it; nothing has changed then.
    #[must_use]
    pub fn put_on_all(&mut self, key: &str, value: &NewValue) -> bool {
        if !self.has_room_for(value.text_bytes()) {
            return false;
        }
        let key = self.key(key);
        let cell = self.hold(value, key);
        self.rebuild(|_, cells, kept| {
            kept.extend_from_slice(cells);
            replace(kept, cells.len(), cell);
            true
        });
        true
    }

    /// Puts a value of its own on each row under `key`, in the place of what is there. Rows whose value is `None`
    /// stay as they are.
    ///
    /// `false` where the page has no room for the values; nothing has changed then.
    #[must_use]
    pub fn put(&mut self, key: &str, values: &[Option<NewValue>]) -> bool {
        if !self.has_room_for(values.iter().flatten().map(NewValue::text_bytes).sum()) {
            return false;
        }
        let key = self.key(key);
        let cells: Vec<Option<Cell>> =
            values.iter().map(|value| value.as_ref().map(|value| self.hold(value, key))).collect();
        self.rebuild(|row, old, kept| {
            kept.extend_from_slice(old);
            if let Some(cell) = cells.get(row).copied().flatten() {
                replace(kept, old.len(), cell);
            }
            true
        });
        true
    }

    /// Renames keys, all at once, so that two can change places. A renamed value takes the place of one that has the
    /// new name already; a key that no row has is no matter.
    pub fn rename(&mut self, names: &[(String, String)]) {
        let mut keys: Vec<String> = Vec::with_capacity(self.keys.len());
        let mut moved: Vec<(u32, bool)> = Vec::with_capacity(self.keys.len());
        for key in &self.keys {
            let renamed = names.iter().find(|(from, _)| from == key);
            let name = renamed.map_or(key, |(_, to)| to);
            let number = keys.iter().position(|known| known == name).unwrap_or_else(|| {
                keys.push(name.clone());
                keys.len() - 1
            });
            moved.push((number_of(number), renamed.is_some()));
        }
        let meet = keys.len() < self.keys.len();
        self.keys = keys;
        if !meet {
            return;
        }
        self.rebuild(|_, cells, kept| {
            let start = kept.len();
            // The renamed ones last, so that they take the place of the others.
            for wanted in [false, true] {
                for cell in cells {
                    let (key, renamed) = moved[cell.key as usize];
                    if renamed == wanted {
                        let length = kept.len() - start;
                        replace(kept, length, Cell { key, ..*cell });
                    }
                }
            }
            true
        });
    }

    /// Removes the values of a key from all rows.
    pub fn remove(&mut self, key: &str) {
        let Some(key) = self.keys.iter().position(|known| known == key) else { return };
        self.keys.remove(key);
        let key = number_of(key);
        self.rebuild(|_, cells, kept| {
            let rest = cells.iter().filter(|cell| cell.key != key);
            kept.extend(rest.map(|cell| Cell { key: cell.key - u32::from(cell.key > key), ..*cell }));
            true
        });
    }

    /// Decides of each row, by its number, what becomes of it.
    pub fn sort_out(&mut self, mut fate: impl FnMut(usize) -> Fate) {
        let (mut filtered, mut rejected) = (0, Vec::new());
        self.rebuild(|row, cells, kept| match fate(row) {
            Fate::Keep => {
                kept.extend_from_slice(cells);
                true
            }
            Fate::Filter => {
                filtered += 1;
                false
            }
            Fate::Reject(record) => {
                rejected.push(record);
                false
            }
        });
        self.filtered += filtered;
        self.rejected.extend(rejected);
    }

    /// Whether so many more bytes of text can be held beside the body.
    #[must_use]
    pub fn has_room_for(&self, bytes: usize) -> bool {
        self.unescaped.len().saturating_add(bytes) <= TEXT_BYTES_MAX
    }

    fn key(&mut self, name: &str) -> u32 {
        let known = self.keys.iter().position(|known| known == name);
        number_of(known.unwrap_or_else(|| {
            self.keys.push(name.to_owned());
            self.keys.len() - 1
        }))
    }

    /// Holds the text of a value whose room was asked for.
    fn hold(&mut self, value: &NewValue, key: u32) -> Cell {
        let (kind, text) = value.parts();
        let start = number_of(self.unescaped.len());
        self.unescaped.push_str(text);
        Cell { kind, span: Span { start, len: number_of(text.len()) }, key }
    }

    /// Makes all rows anew: `row` gets the number and the cells of each, adds its new cells, and says whether there
    /// still is a row.
    fn rebuild(&mut self, mut row: impl FnMut(usize, &[Cell], &mut Vec<Cell>) -> bool) {
        let mut cells = Vec::with_capacity(self.cells.len());
        let mut row_ends = Vec::with_capacity(self.row_ends.len());
        let mut start = 0;
        for (number, end) in self.row_ends.iter().enumerate() {
            let end = *end as usize;
            if row(number, &self.cells[start..end], &mut cells) {
                row_ends.push(number_of(cells.len()));
            }
            start = end;
        }
        (self.cells, self.row_ends) = (cells, row_ends);
    }
}

/// Puts a cell among the last `length` cells: in the place of the one with its key, or behind them.
fn replace(cells: &mut Vec<Cell>, length: usize, cell: Cell) {
    let start = cells.len() - length;
    match cells[start..].iter_mut().find(|known| known.key == cell.key) {
        Some(known) => *known = cell,
        None => cells.push(cell),
    }
}

fn number_of(number: usize) -> u32 {
    u32::try_from(number).expect("pages and the text beside them are at most 1 GiB each")
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::{Fate, NewValue};
    use crate::decode::decode;
    use crate::page::{Rejected, Rows, Text, Value};

    fn rows(json: &str) -> Rows {
        let text = Text::new(Bytes::copy_from_slice(json.as_bytes())).unwrap();
        decode(&text, &[text.as_str()]).unwrap()
    }

    /// Each row as `key=value` words.
    fn shown(rows: &Rows) -> Vec<String> {
        let text = |text: &[u8]| String::from_utf8(text.to_vec()).unwrap();
        let value = |value: Value<'_>| match value {
            Value::Null => "null".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Integer(value, written) => {
                assert_eq!(value.to_string(), text(written));
                text(written)
            }
            Value::Real(_, written) | Value::Number(written) | Value::Json(written) => text(written),
            Value::Text(written) => format!("'{}'", text(written)),
        };
        let row = |row: usize| -> Vec<String> {
            rows.row(row).map(|(key, cell)| format!("{}={}", rows.keys()[key], value(cell))).collect()
        };
        (0..rows.len()).map(|number| row(number).join(" ")).collect()
    }

    const THREE: &str = r#"[{"a":1,"b":"x\ty"},{"b":[2]},{"a":null,"c":1.50}]"#;

    #[test]
    fn a_value_is_put_in_the_place_of_the_one_that_is_there_or_behind_the_others() {
        let mut page = rows(THREE);
        assert!(page.put_on_all("a", &NewValue::Text("new".to_owned())));
        assert!(page.put_on_all("d", &NewValue::Json("{\"k\": 1}".to_owned())));
        assert_eq!(
            shown(&page),
            ["a='new' b='x\ty' d={\"k\": 1}", "b=[2] a='new' d={\"k\": 1}", "a='new' c=1.50 d={\"k\": 1}"]
        );
        assert_eq!(page.keys(), ["a", "b", "c", "d"]);
        let mut page = rows(THREE);
        let values = [
            Some(NewValue::Integer(7, "7".to_owned())),
            None,
            Some(NewValue::Number("123456789012345678901234567890".to_owned())),
        ];
        assert!(page.put("a", &values));
        assert_eq!(shown(&page), ["a=7 b='x\ty'", "b=[2]", "a=123456789012345678901234567890 c=1.50"]);
        assert!(page.put("e", &[None, Some(NewValue::Bool(true)), Some(NewValue::Real(0.5, "0.5".to_owned()))]));
        assert_eq!(shown(&page)[1..], ["b=[2] e=true", "a=123456789012345678901234567890 c=1.50 e=0.5"]);
    }

    #[test]
    fn keys_are_renamed_all_at_once_and_a_renamed_value_wins() {
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect()
        };
        for (names, expected, keys) in [
            (&[("a", "z")][..], ["z=1 b='x\ty'", "b=[2]", "z=null c=1.50"], &["z", "b", "c"][..]),
            (&[("a", "b"), ("b", "a")], ["b=1 a='x\ty'", "a=[2]", "b=null c=1.50"], &["b", "a", "c"]),
            (&[("a", "b")], ["b=1", "b=[2]", "c=1.50 b=null"], &["b", "c"]),
            (&[("b", "a")], ["a='x\ty'", "a=[2]", "a=null c=1.50"], &["a", "c"]),
            (&[("none", "a")], ["a=1 b='x\ty'", "b=[2]", "a=null c=1.50"], &["a", "b", "c"]),
        ] {
            let mut page = rows(THREE);
            page.rename(&pairs(names));
            assert_eq!(
                (shown(&page), page.keys()),
                (expected.map(str::to_owned).to_vec(), &*strings(keys)),
                "{names:?}"
            );
        }
    }

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn a_removed_key_is_gone_from_rows_and_keys() {
        for (key, expected, keys) in [
            ("a", ["b='x\ty'", "b=[2]", "c=1.50"], &["b", "c"][..]),
            ("c", ["a=1 b='x\ty'", "b=[2]", "a=null"], &["a", "b"]),
            ("none", ["a=1 b='x\ty'", "b=[2]", "a=null c=1.50"], &["a", "b", "c"]),
        ] {
            let mut page = rows(THREE);
            page.remove(key);
            assert_eq!((shown(&page), page.keys()), (strings(&expected), &*strings(keys)), "{key}");
        }
    }

    #[test]
    fn every_record_is_still_counted_when_rows_are_sorted_out() {
        let mut page = rows(THREE);
        let rejected = Rejected { reason: "why".into(), record: "{}".to_owned() };
        page.sort_out(|row| [Fate::Filter, Fate::Keep, Fate::Reject(rejected.clone())][row].clone());
        assert_eq!(shown(&page), ["b=[2]"]);
        assert_eq!((page.received(), page.filtered(), page.rejected()), (3, 1, &[rejected][..]));
    }

    /// One edit; lists are as long as the longest page of the test.
    #[derive(Clone, Debug)]
    enum Edit {
        PutOnAll(&'static str, i64),
        Put(&'static str, Vec<Option<i64>>),
        Rename(Vec<(&'static str, &'static str)>),
        Remove(&'static str),
        SortOut(Vec<bool>),
    }

    fn edits() -> impl Strategy<Value = Vec<Edit>> {
        let key = || prop::sample::select(vec!["a", "b", "c", "d"]);
        let names = prop::collection::btree_map(key(), key(), 0..4);
        prop::collection::vec(
            prop_oneof![
                (key(), any::<i64>()).prop_map(|(key, value)| Edit::PutOnAll(key, value)),
                (key(), prop::collection::vec(any::<Option<i64>>(), 5))
                    .prop_map(|(key, values)| Edit::Put(key, values)),
                // Two fields never get one name: such a step is refused.
                names.prop_map(|names| {
                    let mut taken = BTreeSet::new();
                    Edit::Rename(names.into_iter().filter(|(_, to)| taken.insert(*to)).collect())
                }),
                key().prop_map(Edit::Remove),
                prop::collection::vec(any::<bool>(), 5).prop_map(Edit::SortOut),
            ],
            0..8,
        )
    }

    type Model = Vec<BTreeMap<String, i64>>;

    fn edit(rows: &mut Rows, model: &mut Model, edit: Edit) {
        let number = |value: i64| NewValue::Integer(value, value.to_string());
        match edit {
            Edit::PutOnAll(key, value) => {
                assert!(rows.put_on_all(key, &number(value)));
                for row in model {
                    row.insert(key.to_owned(), value);
                }
            }
            Edit::Put(key, values) => {
                let new: Vec<_> = values.iter().map(|value| value.map(number)).collect();
                assert!(rows.put(key, &new[..model.len()]));
                for (row, value) in model.iter_mut().zip(values) {
                    value.map(|value| row.insert(key.to_owned(), value));
                }
            }
            Edit::Rename(names) => {
                rows.rename(&names.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect::<Vec<_>>());
                for row in model {
                    let moved: Vec<_> =
                        names.iter().filter_map(|(from, to)| row.remove(*from).map(|value| (*to, value))).collect();
                    row.extend(moved.into_iter().map(|(to, value)| (to.to_owned(), value)));
                }
            }
            Edit::Remove(key) => {
                rows.remove(key);
                for row in model {
                    row.remove(key);
                }
            }
            Edit::SortOut(keep) => {
                rows.sort_out(|row| if keep[row] { Fate::Keep } else { Fate::Filter });
                let mut keep = keep.into_iter();
                model.retain(|_| keep.next().unwrap());
            }
        }
    }

    proptest! {
        #[test]
        fn edited_rows_are_those_of_a_plain_list_of_records(
            records in prop::collection::vec(prop::collection::btree_map("[abc]", any::<i64>(), 0..4), 0..=5),
            edits in edits(),
        ) {
            let mut page = rows(&serde_json::to_string(&records).unwrap());
            let mut model: Model = records.clone();
            for one in edits {
                edit(&mut page, &mut model, one);
                let found: Model = (0..page.len())
                    .map(|row| {
                        let fields = page.row(row).map(|(key, value)| match value {
                            Value::Integer(value, _) => (page.keys()[key].clone(), value),
                            other => panic!("{other:?}"),
                        });
                        fields.collect()
                    })
                    .collect();
                prop_assert_eq!(&found, &model);
                prop_assert_eq!(page.received(), records.len() as u64);
                let cells: usize = (0..page.len()).map(|row| page.row(row).count()).sum();
                prop_assert_eq!(cells, model.iter().map(BTreeMap::len).sum::<usize>(), "no key is on a row twice");
            }
        }
    }

    #[test]
    fn text_beside_the_body_has_a_bound() {
        let page = rows(THREE);
        let held = page.unescaped.len();
        assert!(held > 0 && page.has_room_for(super::TEXT_BYTES_MAX - held));
        for bytes in [super::TEXT_BYTES_MAX - held + 1, usize::MAX] {
            assert!(!page.has_room_for(bytes));
        }
    }
}
