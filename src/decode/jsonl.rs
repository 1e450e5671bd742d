//! JSON Lines: a JSON value per line. What a line is made of is the business of JSON.

use serde_json::value::RawValue;

use super::scan::Scanner;
use super::{DecodeError, Decoder, Refused};
use crate::page::{Rows, Text};

/// Takes the records apart, one for each line. Lines end with LF or CRLF, the last one with nothing, and blank ones
/// say nothing.
///
/// # Errors
/// When a line is not JSON: then the body is no page, or was cut off. A line of JSON that is no object is set aside.
pub fn jsonl(text: &Text) -> Result<Rows, DecodeError> {
    let mut decoder = Decoder::new(text);
    for (number, line) in (1_u64..).zip(text.as_str().split('\n')) {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let rows_before = decoder.rows.row_ends.len();
        if decoder.whole_line(line).is_err() {
            decoder.keep_rows(rows_before);
            let raw: &RawValue = serde_json::from_str(line).map_err(|error| not_json(number, &error))?;
            decoder.one(raw.get());
        }
    }
    Ok(decoder.rows)
}

impl Decoder {
    fn whole_line(&mut self, line: &str) -> Result<(), Refused> {
        let mut json = Scanner::new(line);
        self.record(&mut json)?;
        Ok(json.end()?)
    }
}

fn not_json(line: u64, error: &serde_json::Error) -> DecodeError {
    // Its own place is within the line.
    let text = error.to_string();
    let reason = text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason);
    DecodeError::Broken(format!("line {line}, column {}: {reason}", error.column()))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::page::Value;

    fn read(body: &str) -> Result<Rows, DecodeError> {
        jsonl(&Text::new(Bytes::copy_from_slice(body.as_bytes())).unwrap())
    }

    #[test]
    fn a_record_is_a_line_however_lines_end() {
        for body in ["{\"a\":1}\n{\"a\":2}\n", "{\"a\":1}\r\n{\"a\":2}", "\u{feff}\n\n {\"a\":1} \n\r\n{\"a\":2}\n\n"] {
            let rows = read(body).unwrap();
            assert_eq!((rows.len(), rows.received()), (2, 2), "{body:?}");
            assert_eq!(rows.get(1, "a"), Some(Value::Integer(2, b"2")), "{body:?}");
        }
        assert_eq!(read("").unwrap().received(), 0);
    }

    #[test]
    fn a_line_that_is_no_object_is_set_aside_and_one_that_is_no_json_fails_the_page() {
        let rows = read("{\"a\":1}\n[{\"a\":2}]\n7\n{\"a\":1,\"a\":2}\n").unwrap();
        let reasons: Vec<_> = rows.rejected().iter().map(|r| (&*r.reason, r.record.as_str())).collect();
        let expected =
            [("not_an_object", "[{\"a\":2}]"), ("not_an_object", "7"), ("duplicate_key", "{\"a\":1,\"a\":2}")];
        assert_eq!((rows.len(), reasons.as_slice()), (1, &expected[..]));
        let error = read("{\"a\":1}\n\n{\"a\":").unwrap_err().to_string();
        assert_eq!(error, "line 3, column 5: EOF while parsing a value");
        for broken in ["{\"a\":1} {\"a\":2}", "{\n\"a\":1}", "not json", "<html>"] {
            assert!(read(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn what_is_cut_off_inside_a_line_is_an_error_at_every_byte() {
        let whole = r#"{"id":1,"list":[1,{"x":"y\u00e9"}]}"#;
        for cut in 1..whole.len() {
            assert!(read(&format!("{{\"id\":0}}\n{}", &whole[..cut])).is_err(), "cut at {cut}");
        }
    }

    fn any_value() -> impl Strategy<Value = String> {
        prop_oneof![
            "null|true|false|-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,20})?(e[0-9]{1,3})?",
            "\\PC{0,8}|[\\r\\n\"\\\\]{0,4}".prop_map(|text| serde_json::to_string(&text).unwrap()),
            Just(r#"{"x": [1, {"y":"\u00e9"}]}"#.to_owned()),
            Just(r#""\ud800""#.to_owned()),
        ]
    }

    proptest! {
        #[test]
        fn lines_say_what_the_same_records_say_in_a_list(
            records in prop::collection::vec(prop::collection::vec(("[a-c]", any_value()), 0..4), 0..6)
        ) {
            let field = |(key, value): &(String, String)| format!("\"{key}\":{value}");
            let record = |fields: &Vec<_>| format!("{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(", "));
            let records: Vec<_> = records.iter().map(record).collect();
            let lines = read(&records.join("\n")).unwrap();
            let text = Text::new(Bytes::from(format!("[{}]", records.join(",")))).unwrap();
            let list = crate::decode::decode(&text, &[text.as_str()]).unwrap();
            prop_assert_eq!((lines.keys(), lines.rejected(), lines.len()), (list.keys(), list.rejected(), list.len()));
            for row in 0..lines.len() {
                prop_assert_eq!(lines.row(row).collect::<Vec<_>>(), list.row(row).collect::<Vec<_>>());
            }
        }
    }
}
