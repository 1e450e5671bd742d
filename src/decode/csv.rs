//! CSV as RFC 4180 has it: a header row, then a record per row. The `csv` crate takes rows apart. Their own text is
//! looked at once more, because a field with nothing in it and an empty text in quotes are not the same, and because
//! quotes that do not match must not pass.

use csv::{ByteRecord, ReaderBuilder};
use serde::de::IgnoredAny;

use super::{DecodeError, Decoder, RECORD_BYTES_MAX};
use crate::page::{Cell, CellKind, Rows, Text};

/// Takes the records apart. The first row has the names of the columns. Every value is text as it stands there; a
/// field with nothing in it is `null`, and `""` is the empty text. Blank lines are no rows.
///
/// # Errors
/// When there is no header row, two columns have one name, or a quoted field does not end.
pub fn csv(text: &Text, delimiter: u8) -> Result<Rows, DecodeError> {
    let whole = text.as_str();
    refuse_other_formats(whole)?;
    let mut decoder = Decoder::new(text);
    let mut table = Table::new(whole, delimiter);
    let Some(header) = table.next_row()? else {
        return Err(DecodeError::Broken("it has no header row".to_owned()));
    };
    let width = decoder.header(&header, &table.fields, delimiter)?;
    while let Some(row) = table.next_row()? {
        let cells_before = decoder.rows.cells.len();
        if let Err(reason) = decoder.row(&row, &table.fields, delimiter, width) {
            if reason == MALFORMED && row.is_last && row.raw.matches('"').count() % 2 == 1 {
                return Err(DecodeError::Broken(format!(
                    "a quoted field of the row in line {} does not end",
                    line(whole, &row)
                )));
            }
            decoder.rows.cells.truncate(cells_before);
            decoder.reject(reason, row.raw.trim_end_matches(['\r', '\n']));
        }
    }
    if width == 1 && decoder.rows.received() == 0 {
        // The end of a table of one column, or the words of an error: only one of them is harmless.
        return Err(DecodeError::Broken("it is one line without a delimiter, which is no table".to_owned()));
    }
    Ok(decoder.rows)
}

/// Why a row is set aside whose quotes do not match.
const MALFORMED: &str = "malformed_quotes";

/// Almost everything is CSV to a CSV reader; an error page must not pass for a table.
fn refuse_other_formats(whole: &str) -> Result<(), DecodeError> {
    let start = whole.trim_start();
    if start.starts_with('<') {
        return Err(DecodeError::Broken("it is HTML or XML".to_owned()));
    }
    if start.starts_with(['{', '[']) && serde_json::from_str::<IgnoredAny>(start).is_ok() {
        return Err(DecodeError::Broken("it is JSON".to_owned()));
    }
    Ok(())
}

/// The number of the line in which a row begins.
fn line(whole: &str, row: &Row<'_>) -> usize {
    let start = row.raw.as_ptr().addr() - whole.as_ptr().addr();
    whole[..start].matches('\n').count() + 1
}

/// The rows of a body, one by one.
struct Table<'t> {
    whole: &'t str,
    reader: csv::Reader<&'t [u8]>,
    /// The fields of the row that was read last.
    fields: ByteRecord,
}

/// The text of a row, with what ends it.
struct Row<'t> {
    raw: &'t str,
    is_last: bool,
}

impl<'t> Table<'t> {
    fn new(whole: &'t str, delimiter: u8) -> Self {
        let mut options = ReaderBuilder::new();
        options.has_headers(false).flexible(true).delimiter(delimiter);
        Self { whole, reader: options.from_reader(whole.as_bytes()), fields: ByteRecord::new() }
    }

    fn next_row(&mut self) -> Result<Option<Row<'t>>, DecodeError> {
        let begin = self.place();
        let is_there = self.reader.read_byte_record(&mut self.fields);
        if !is_there.map_err(|error| DecodeError::Broken(error.to_string()))? {
            return Ok(None);
        }
        let end = self.place();
        // What ended the row before may have been left for this one to begin with.
        let raw = self.whole[begin..end].trim_start_matches(['\r', '\n']);
        Ok(Some(Row { raw, is_last: end == self.whole.len() }))
    }

    fn place(&self) -> usize {
        usize::try_from(self.reader.position().byte()).expect("a page is at most 1 GiB")
    }
}

impl Decoder {
    /// Makes the names of the first row the keys, and says how many there are.
    fn header(&mut self, row: &Row<'_>, names: &ByteRecord, delimiter: u8) -> Result<usize, DecodeError> {
        let mut cursor = Cursor { raw: row.raw.as_bytes(), at: 0, delimiter };
        for (place, name) in names.iter().enumerate() {
            if cursor.next(name).is_none() {
                return Err(DecodeError::Broken("the quotes of its header row do not match".to_owned()));
            }
            let name = utf8(name);
            if name.is_empty() {
                return Err(DecodeError::Unusable(format!("column {} of its header row has no name", place + 1)));
            }
            if let Some(first) = self.rows.keys.iter().position(|known| known == name) {
                let shown = super::excerpt(name).escape_debug();
                return Err(DecodeError::Unusable(format!(
                    "columns {} and {} of its header row have one name, \"{shown}\"",
                    first + 1,
                    place + 1
                )));
            }
            self.key(name);
        }
        Ok(names.len())
    }

    /// Adds a row; `Err` says why it cannot be one.
    fn row(&mut self, row: &Row<'_>, fields: &ByteRecord, delimiter: u8, width: usize) -> Result<(), &'static str> {
        if row.raw.len() > RECORD_BYTES_MAX {
            return Err("record_too_large");
        }
        let mut cursor = Cursor { raw: row.raw.as_bytes(), at: 0, delimiter };
        for (key, field) in (0..).zip(fields) {
            let (kind, span) = match cursor.next(field).ok_or(MALFORMED)? {
                Place::Nothing => (CellKind::Null, self.span(&row.raw[..0])),
                Place::At(start) => (CellKind::Text, self.span(&row.raw[start..start + field.len()])),
                Place::Changed => (CellKind::Unescaped, self.rewritten(utf8(field)).ok_or("record_too_large")?),
            };
            self.rows.cells.push(Cell { kind, span, key });
        }
        if fields.len() != width {
            return Err("wrong_number_of_fields");
        }
        self.end_record();
        Ok(())
    }
}

fn utf8(field: &[u8]) -> &str {
    std::str::from_utf8(field).expect("a piece of UTF-8 between ASCII characters")
}

/// Where the value of a field stands in the text of its row.
enum Place {
    /// There is nothing between the delimiters.
    Nothing,
    At(usize),
    /// Its quotes are doubled there.
    Changed,
}

/// Goes through the text of a row, field by field, and sees whether it is what the fields would be written as.
struct Cursor<'t> {
    raw: &'t [u8],
    at: usize,
    delimiter: u8,
}

impl Cursor<'_> {
    /// `None` where the text is something else: `"a"b`, or a quote that nothing closes.
    fn next(&mut self, field: &[u8]) -> Option<Place> {
        let rest = self.raw.get(self.at..)?;
        let (place, length) = if rest.first() == Some(&b'"') {
            let quotes = field.iter().filter(|byte| **byte == b'"').count();
            let inside = rest.get(1..1 + field.len() + quotes)?;
            let same = match quotes {
                0 => inside == field,
                _ => field.iter().flat_map(|byte| std::iter::repeat_n(byte, 1 + usize::from(*byte == b'"'))).eq(inside),
            };
            if !same || rest.get(1 + inside.len()) != Some(&b'"') {
                return None;
            }
            (if quotes == 0 { Place::At(self.at + 1) } else { Place::Changed }, inside.len() + 2)
        } else if rest.starts_with(field) {
            (if field.is_empty() { Place::Nothing } else { Place::At(self.at) }, field.len())
        } else {
            return None;
        };
        match rest.get(length) {
            None | Some(b'\r' | b'\n') => {}
            Some(byte) if *byte == self.delimiter => {}
            Some(_) => return None,
        }
        self.at += length + 1;
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::page::Value;

    fn read(body: &str) -> Result<Rows, DecodeError> {
        csv(&Text::new(Bytes::copy_from_slice(body.as_bytes())).unwrap(), b',')
    }

    /// The rows, each as its fields; `None` for `null`.
    fn rows(body: &str) -> Vec<Vec<Option<String>>> {
        let rows = read(body).unwrap_or_else(|error| panic!("{body:?}: {error}"));
        let text = |value| match value {
            Value::Null => None,
            Value::Text(text) => Some(String::from_utf8(text.to_vec()).unwrap()),
            other => panic!("{other:?}"),
        };
        (0..rows.len()).map(|row| rows.row(row).map(|(_, value)| text(value)).collect()).collect()
    }

    fn some(fields: &[&str]) -> Vec<Option<String>> {
        fields.iter().map(|field| Some((*field).to_owned())).collect()
    }

    #[test]
    fn a_field_is_the_text_that_stands_there() {
        for (body, expected) in [
            ("a,b\n1,007\n", vec![some(&["1", "007"])]),
            ("a,b\r\n1,2\r\n3,4", vec![some(&["1", "2"]), some(&["3", "4"])]),
            ("a,b\r1,2\r3,4\r", vec![some(&["1", "2"]), some(&["3", "4"])]),
            ("\u{feff}\"a\",b\n1,2\n", vec![some(&["1", "2"])]),
            ("a,b\n\n 1 ,\"x\r\ny\"\n\n", vec![some(&[" 1 ", "x\r\ny"])]),
            ("a,b\n\"q\"\"q\",\"\"\"\"\n", vec![some(&["q\"q", "\""])]),
            ("a,b\n5\" pipe,x\"y\"\n", vec![some(&["5\" pipe", "x\"y\""])]),
            ("a,b\n,\"\"\n", vec![vec![None, Some(String::new())]]),
            ("a,b\n\"1,2\",é\n", vec![some(&["1,2", "é"])]),
            ("a,b\n", vec![]),
        ] {
            assert_eq!(rows(body), expected, "{body:?}");
        }
        let text = Text::new(Bytes::from_static(b"a;b\n1;\"x;y\"\n")).unwrap();
        assert_eq!(csv(&text, b';').unwrap().get(0, "b"), Some(Value::Text(b"x;y")));
    }

    #[test]
    fn a_row_that_does_not_fit_the_header_is_set_aside_as_it_stands() {
        let rows = read("a,b\n1\n2,x\r\n1,2,3\n\"a\"b,c\n").unwrap();
        let rejected: Vec<_> = rows.rejected().iter().map(|r| (&*r.reason, r.record.as_str())).collect();
        assert_eq!(
            rejected,
            [("wrong_number_of_fields", "1"), ("wrong_number_of_fields", "1,2,3"), (MALFORMED, "\"a\"b,c")]
        );
        assert_eq!((rows.len(), rows.get(0, "b")), (1, Some(Value::Text(b"x"))));
        let large = format!("a,b\n1,{}\n2,x\n", "y".repeat(RECORD_BYTES_MAX));
        let rows = read(&large).unwrap();
        assert_eq!((rows.len(), &*rows.rejected()[0].reason), (1, "record_too_large"));
    }

    #[test]
    fn what_is_no_table_fails_the_page() {
        for (body, part) in [
            ("\n\n", "no header row"),
            ("a,,c\n1,2,3\n", "column 2 of its header row has no name"),
            ("a,b,a\n1,2,3\n", "columns 1 and 3 of its header row have one name, \"a\""),
            ("\"a\"x,b\n1,2\n", "the quotes of its header row"),
            ("a,b\n1,2\n3,\"x\n", "the row in line 3 does not end"),
            ("a,b\n1,\"2\n3,x\n", "the row in line 2 does not end"),
            ("a,b\n\"1\"x,\"2", "the row in line 2 does not end"),
            ("a,b\n1,\"2\"\"", "does not end"),
            ("<!doctype html>", "HTML"),
            ("{\"error\": 1, \"x\": 2}", "JSON"),
            ("service unavailable", "one line without a delimiter"),
        ] {
            let error = read(body).unwrap_err().to_string();
            assert!(error.contains(part), "{body:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_a_csv_writer_writes_is_read_back(
            table in prop::collection::vec(prop::collection::vec("[a,\"\r\n é;\t]{0,5}", 3), 0..6),
            delimiter in prop::sample::select(vec![b',', b';', b'\t']),
        ) {
            let mut writer = csv::WriterBuilder::new().delimiter(delimiter).from_writer(Vec::new());
            writer.write_record(["x", "y", "z"]).unwrap();
            table.iter().for_each(|row| writer.write_record(row).unwrap());
            let body = writer.into_inner().unwrap();
            let rows = csv(&Text::new(Bytes::from(body)).unwrap(), delimiter).unwrap();
            prop_assert_eq!((rows.len(), rows.rejected().len()), (table.len(), 0));
            for (row, fields) in table.iter().enumerate() {
                for ((_, value), field) in rows.row(row).zip(fields) {
                    let expected = if field.is_empty() { Value::Null } else { Value::Text(field.as_bytes()) };
                    prop_assert_eq!(value, expected);
                }
            }
        }

        #[test]
        fn any_text_is_rows_or_an_error(body in "[a,\"\r\n é]{0,30}") {
            if let Ok(rows) = read(&format!("a,b\n{body}")) {
                prop_assert!((0..rows.len()).all(|row| rows.row(row).count() == 2));
            }
        }
    }
}
