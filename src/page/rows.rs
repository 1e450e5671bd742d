//! The records of a page as cells that point into the bytes they came in.

use std::borrow::Cow;

use bytes::Bytes;

/// The records of a page, taken apart into cells that point into the bytes they came in.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    pub(crate) text: Text,
    pub(crate) unescaped: String,
    pub(crate) keys: Vec<String>,
    pub(crate) cells: Vec<Cell>,
    pub(crate) row_ends: Vec<u32>,
    pub(crate) rejected: Vec<Rejected>,
    pub(crate) filtered: u64,
    pub(crate) lists: Vec<List>,
}

/// The lists of objects that the records of a page have under one key, as rows of their own.
#[derive(Clone, Debug)]
pub struct List {
    pub(crate) key: u32,
    /// For each row the record that it belongs to, in the order of the records.
    pub(crate) owners: Vec<u32>,
    pub(crate) rows: Rows,
}

impl List {
    /// Index of its key in the [`Rows::keys`] of the records.
    #[must_use]
    pub fn key(&self) -> usize {
        self.key as usize
    }

    /// The rows of the lists of all records.
    #[must_use]
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    fn heap_bytes(&self) -> u64 {
        (size_of::<Self>() + self.owners.capacity() * size_of::<u32>()) as u64 + self.rows.heap_bytes()
    }

    /// The rows of the list of record `record`, in the order of the list.
    #[must_use]
    pub fn of(&self, record: usize) -> std::ops::Range<usize> {
        let before = |limit: usize| self.owners.partition_point(|owner| (*owner as usize) < limit);
        before(record)..before(record + 1)
    }
}

/// A body that is known to be UTF-8.
#[derive(Clone, Debug, Default)]
pub struct Text(Bytes);

impl Text {
    /// Takes a body, without a byte order mark; `None` where it is not UTF-8.
    #[must_use]
    pub fn new(mut body: Bytes) -> Option<Self> {
        const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
        if body.starts_with(BYTE_ORDER_MARK) {
            body = body.slice(BYTE_ORDER_MARK.len()..);
        }
        std::str::from_utf8(&body).is_ok().then_some(Self(body))
    }

    /// The whole text. Costs a check of the whole body.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("checked when it was taken")
    }

    /// A piece of it, without a copy.
    #[must_use]
    pub fn slice(&self, range: std::ops::Range<usize>) -> Bytes {
        self.0.slice(range)
    }

    /// The bytes of the text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A record that no row can be made of, with the reason and its own text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// A short word for the reason, as stored; behind a colon, what it is about.
    pub reason: Cow<'static, str>,
    /// The record as received.
    pub record: String,
}

/// Where the text of a cell stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) len: u32,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum CellKind {
    Null,
    Bool(bool),
    Integer(i64),
    Real(f64),
    Number,
    Text,
    Unescaped,
    Json,
    /// Like those above, with their text beside the body, as that of [`CellKind::Unescaped`].
    AddedInteger(i64),
    AddedReal(f64),
    AddedNumber,
    AddedJson,
    List,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    pub(crate) kind: CellKind,
    pub(crate) span: Span,
    pub(crate) key: u32,
}

/// The value of one field of a record. Texts are bytes that are known to be UTF-8.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// An integer that fits 64 bits, with the text it was written in.
    Integer(i64, &'a [u8]),
    /// A number that a double holds exactly as written, with the text it was written in.
    Real(f64, &'a [u8]),
    /// A number that neither holds, as written.
    Number(&'a [u8]),
    /// A string.
    Text(&'a [u8]),
    /// An object or an array, as written.
    Json(&'a [u8]),
    /// A list that is empty or whose objects are rows of their own in [`Rows::lists`], as written.
    List(&'a [u8]),
}

impl Value<'_> {
    /// Its JSON text: as it came, or for a string one that says the same.
    #[must_use]
    pub fn json_text(self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Integer(_, text) | Self::Real(_, text) | Self::Number(text) | Self::Json(text) | Self::List(text) => {
                String::from_utf8_lossy(text).into_owned()
            }
            Self::Text(text) => serde_json::Value::String(String::from_utf8_lossy(text).into_owned()).to_string(),
        }
    }
}

impl Rows {
    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.row_ends.len()
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.row_ends.is_empty()
    }

    /// Number of records received: rows, records that no row can be made of, and those left out by a filter.
    #[must_use]
    pub fn received(&self) -> u64 {
        (self.row_ends.len() + self.rejected.len()) as u64 + self.filtered
    }

    /// Number of records left out by a filter.
    #[must_use]
    pub fn filtered(&self) -> u64 {
        self.filtered
    }

    /// Records that no row can be made of.
    #[must_use]
    pub fn rejected(&self) -> &[Rejected] {
        &self.rejected
    }

    /// Bytes that they take in memory beside the body they point into.
    #[must_use]
    pub fn heap_bytes(&self) -> u64 {
        let cells = self.cells.capacity() * size_of::<Cell>() + self.row_ends.capacity() * size_of::<u32>();
        let keys: usize = self.keys.iter().map(|key| size_of::<String>() + key.capacity()).sum();
        let rejected: usize =
            self.rejected.iter().map(|rejected| size_of::<Rejected>() + rejected.record.capacity()).sum();
        let lists: u64 = self.lists.iter().map(List::heap_bytes).sum();
        (cells + self.unescaped.capacity() + keys + rejected) as u64 + lists
    }

    /// Bytes of the longest value, as it stands in the page.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.cells.iter().map(|cell| cell.span.len as usize).max().unwrap_or_default()
    }

    /// The distinct keys of all records, in the order in which they first came.
    #[must_use]
    pub fn keys(&self) -> &[String] {
        &self.keys
    }

    /// The lists of the records that are rows of their own.
    #[must_use]
    pub fn lists(&self) -> &[List] {
        &self.lists
    }

    /// Whether row `row` has rows in the list under key `key`.
    #[must_use]
    pub fn has_list(&self, row: usize, key: usize) -> bool {
        self.lists.iter().any(|list| list.key() == key && !list.of(row).is_empty())
    }

    /// The fields of row `row`: index into [`Rows::keys`], and value.
    pub fn row(&self, row: usize) -> impl Iterator<Item = (usize, Value<'_>)> {
        let start = if row == 0 { 0 } else { self.row_ends[row - 1] as usize };
        self.cells[start..self.row_ends[row] as usize].iter().map(|cell| (cell.key as usize, self.value(cell)))
    }

    /// The value of `key` in row `row`, where it has one.
    #[must_use]
    pub fn get(&self, row: usize, key: &str) -> Option<Value<'_>> {
        self.row(row).find(|(index, _)| self.keys[*index] == key).map(|(_, value)| value)
    }

    fn value(&self, cell: &Cell) -> Value<'_> {
        let range = cell.span.start as usize..(cell.span.start + cell.span.len) as usize;
        match cell.kind {
            CellKind::Null => Value::Null,
            CellKind::Bool(value) => Value::Bool(value),
            CellKind::Integer(value) => Value::Integer(value, &self.text.0[range]),
            CellKind::Real(value) => Value::Real(value, &self.text.0[range]),
            CellKind::Number => Value::Number(&self.text.0[range]),
            CellKind::Text => Value::Text(&self.text.0[range]),
            CellKind::Unescaped => Value::Text(&self.unescaped.as_bytes()[range]),
            CellKind::Json => Value::Json(&self.text.0[range]),
            CellKind::AddedInteger(value) => Value::Integer(value, &self.unescaped.as_bytes()[range]),
            CellKind::AddedReal(value) => Value::Real(value, &self.unescaped.as_bytes()[range]),
            CellKind::AddedNumber => Value::Number(&self.unescaped.as_bytes()[range]),
            CellKind::AddedJson => Value::Json(&self.unescaped.as_bytes()[range]),
            CellKind::List => Value::List(&self.text.0[range]),
        }
    }
}
