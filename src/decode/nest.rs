//! Lists of objects inside records, taken apart into rows of their own. A second pass over the cells that hold nested
//! JSON, so that resources without child tables pay nothing.

use super::Decoder;
use crate::page::{CellKind, Layout, List, Rows, Text};

/// Takes the lists of objects in `rows` apart, as deep as the layout says, and the lists in those lists. What stays as
/// it is: a field that has a type of its own, and a list of which an element cannot be a row.
pub fn nest(rows: &mut Rows, layout: &Layout) {
    if layout.max_table_nesting > 0 {
        join_added(rows);
    }
    nest_below(rows, layout, &mut Vec::new());
}

/// Lists that steps or a format have made stand beside the body: where there are any, their text is put behind it, so
/// that their rows can point into it.
fn join_added(rows: &mut Rows) {
    if !rows.cells.iter().any(|cell| matches!(cell.kind, CellKind::AddedJson)) {
        return;
    }
    let behind = u32::try_from(rows.text.as_bytes().len()).expect("a page is at most 1 GiB");
    let whole = [rows.text.as_bytes(), rows.unescaped.as_bytes()].concat();
    let Some(text) = Text::new(whole.into()) else { return };
    rows.text = text;
    for cell in rows.cells.iter_mut().filter(|cell| matches!(cell.kind, CellKind::AddedJson)) {
        cell.kind = CellKind::Json;
        cell.span.start += behind;
    }
}

fn nest_below(rows: &mut Rows, layout: &Layout, path: &mut Vec<String>) {
    if path.len() >= layout.max_table_nesting as usize {
        return;
    }
    let mut found = Lists::default();
    let kept: Vec<bool> = rows.keys.iter().map(|key| layout.hint(path, key).is_some()).collect();
    let mut cell = 0;
    for row in 0..rows.row_ends.len() {
        while cell < rows.row_ends[row] as usize {
            let at = rows.cells[cell];
            if matches!(at.kind, CellKind::Json) && !kept[at.key as usize] {
                let range = at.span.start as usize..(at.span.start + at.span.len) as usize;
                let raw = std::str::from_utf8(&rows.text.as_bytes()[range]).expect("cut out of a text between values");
                if found.take(rows, at.key, row, raw) {
                    rows.cells[cell].kind = CellKind::List;
                }
            }
            cell += 1;
        }
    }
    // A list of which no element could be a row has left nothing.
    for (key, owners, decoder) in found.0.into_iter().filter(|(_, owners, _)| !owners.is_empty()) {
        let mut inner = decoder.rows;
        path.push(rows.keys[key as usize].clone());
        nest_below(&mut inner, layout, path);
        path.pop();
        rows.lists.push(List { key, owners, rows: inner });
    }
}

/// By key: for each row the record that it belongs to, and what decodes the rows.
#[derive(Default)]
struct Lists(Vec<(u32, Vec<u32>, Decoder)>);

impl Lists {
    /// Makes rows of a list; `false` where it stays a value.
    fn take(&mut self, rows: &Rows, key: u32, record: usize, raw: &str) -> bool {
        let inside = raw.strip_prefix('[').map(str::trim_ascii_start);
        match inside.and_then(|inside| inside.bytes().next()) {
            Some(b']') => return true,
            Some(b'{') => {}
            _ => return false,
        }
        let index = self.0.iter().position(|(known, ..)| *known == key).unwrap_or_else(|| {
            self.0.push((key, Vec::new(), Decoder::new(&rows.text)));
            self.0.len() - 1
        });
        let (_, owners, decoder) = &mut self.0[index];
        let before = decoder.rows.row_ends.len();
        if decoder.all_at_once(raw).is_err() {
            decoder.keep_rows(before);
            return false;
        }
        let record = u32::try_from(record).expect("fewer records than bytes");
        owners.resize(decoder.rows.row_ends.len(), record);
        true
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::decode::decode;
    use crate::page::{ColumnHint, HintType, NewValue, Value};

    fn nested(json: &str, depth: u32, kept: &[&str]) -> Rows {
        let text = Text::new(Bytes::copy_from_slice(json.as_bytes())).unwrap();
        let mut rows = decode(&text, &[text.as_str()]).unwrap();
        let hints = kept.iter().map(|key| ((*key).to_owned(), ColumnHint { column_type: HintType::Json })).collect();
        nest(&mut rows, &Layout { hints, max_table_nesting: depth, ..Layout::default() });
        rows
    }

    const ORDERS: &str = r#"[
        {"id":1,"lines":[{"sku":"a","tax":[{"rate":0.5},{"rate":7}]},{"sku":"b"}],"tags":["x"]},
        {"id":2,"lines":[]},
        {"id":3,"lines":[ {"qty":2,"sku":"\u00e9"} ],"tags":[{"x":1},2]}
    ]"#;

    #[test]
    fn lists_of_objects_are_rows_that_know_their_record() {
        let rows = nested(ORDERS, 1, &[]);
        let [lines] = rows.lists() else { panic!("{:?}", rows.lists()) };
        assert_eq!(rows.keys()[lines.key()], "lines");
        assert_eq!([0, 1, 2].map(|record| lines.of(record)), [0..2, 2..2, 2..3]);
        assert_eq!(lines.rows().keys(), ["sku", "tax", "qty"]);
        assert_eq!(lines.rows().get(2, "sku"), Some(Value::Text("é".as_bytes())));
        assert_eq!(rows.get(1, "lines"), Some(Value::List(b"[]")));
        assert!(matches!(rows.get(0, "lines"), Some(Value::List(text)) if text.starts_with(b"[{")));
        assert_eq!(rows.get(0, "tags"), Some(Value::Json(br#"["x"]"#)));
        assert_eq!(rows.get(2, "tags"), Some(Value::Json(br#"[{"x":1},2]"#)), "not only objects");
        assert!(lines.rows().lists().is_empty(), "one level was asked for");
        assert!(rows.heap_bytes() > lines.rows().heap_bytes());
    }

    #[test]
    fn lists_that_were_made_beside_the_body_are_taken_apart_as_well() {
        let text = Text::new(Bytes::from_static(br#"[{"id":1,"a":[{"x":"\u00e9"}]},{"id":2}]"#)).unwrap();
        let mut rows = decode(&text, &[text.as_str()]).unwrap();
        assert!(rows.put("made", &[None, Some(NewValue::Json(r#"[{"y":1},{"y":2}]"#.to_owned()))]));
        nest(&mut rows, &Layout { max_table_nesting: 1, ..Layout::default() });
        let made = rows.lists().iter().find(|list| rows.keys()[list.key()] == "made").unwrap();
        assert_eq!((made.of(0).len(), made.of(1).len()), (0, 2));
        assert_eq!(made.rows().get(1, "y"), Some(Value::Integer(2, b"2")));
        let first = rows.lists().iter().find(|list| rows.keys()[list.key()] == "a").unwrap();
        assert_eq!(first.rows().get(0, "x"), Some(Value::Text("é".as_bytes())));
        assert_eq!(rows.get(1, "id"), Some(Value::Integer(2, b"2")));
    }

    #[test]
    fn lists_in_lists_are_taken_apart_to_the_depth_that_is_asked_for() {
        let rows = nested(ORDERS, 2, &[]);
        let [tax] = rows.lists()[0].rows().lists() else { panic!() };
        assert_eq!([0, 1, 2].map(|line| tax.of(line)), [0..2, 2..2, 2..2]);
        assert_eq!(tax.rows().get(1, "rate"), Some(Value::Integer(7, b"7")));
        assert!(nested(ORDERS, 0, &[]).lists().is_empty());
    }

    #[test]
    fn a_list_with_a_type_or_with_an_element_that_cannot_be_a_row_stays_as_it_came() {
        let rows = nested(ORDERS, 2, &["lines.tax"]);
        assert!(rows.lists()[0].rows().lists().is_empty());
        assert_eq!(nested(ORDERS, 2, &["lines"]).lists().len(), 0);
        let bad = r#"[{"a":[{"x":1}]},{"a":[{"x":2},{"x":1,"x":2}]},{"a":[{"x":3},{"x":"\ud800"}]},{"a":[{"x":4}]}]"#;
        let rows = nested(bad, 1, &[]);
        assert_eq!([0, 1, 2, 3].map(|record| rows.lists()[0].of(record).len()), [1, 0, 0, 1]);
        assert_eq!(rows.get(1, "a"), Some(Value::Json(br#"[{"x":2},{"x":1,"x":2}]"#)));
        assert_eq!(rows.lists()[0].rows().get(1, "x"), Some(Value::Integer(4, b"4")));
    }
}
