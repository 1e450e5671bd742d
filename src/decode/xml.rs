//! XML 1.0: the elements at one path are the records, and what stands around them is kept for the paginator.
//!
//! The `quick-xml` crate takes the text apart and checks that tags match. Nothing is ever looked up: a document type
//! declaration is refused, and with it every entity that it could define.

use std::borrow::Cow;
use std::ops::Range;

use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

use super::{DecodeError, Decoder, NESTING_MAX, RECORD_BYTES_MAX};
use crate::page::{Cell, CellKind, Rows, Span, Text};

mod element;

use element::{Content, Open, json_string};

/// So many slips of the pen make a name another one.
const SLIPS_MAX: usize = 2;

/// A body of XML, taken apart.
#[derive(Debug)]
pub struct Xml {
    /// The records.
    pub rows: Rows,
    /// Everything but the records, as a JSON object: what is in the root element, and the root element itself, so that
    /// a path may begin with either. `<link rel="next">` is there as `link[next]`, too (RFC 4287 §4.2.7).
    pub envelope: String,
    /// Where in the text the records are, from the first to the last.
    pub records: Option<Range<usize>>,
}

/// Takes the elements at `record_path` (names from the root, with dots between them) apart.
///
/// An element with nothing but text is that text, an empty one is `null`. Any other is an object: attributes as
/// `@name`, elements by their names, several of one name as a list, text beside them as `#text`.
///
/// # Errors
/// When it is not well-formed, has a document type declaration, is nested too deep around its records, is not UTF-8
/// by its own word, or has no element that could hold the records.
pub fn xml(text: &Text, record_path: &str) -> Result<Xml, DecodeError> {
    let whole = text.as_str();
    let mut document = Document {
        whole,
        record_path,
        decoder: Decoder::new(text),
        open: Vec::new(),
        path: String::new(),
        record: None,
        records: None,
        around_bytes: 0,
        parent: None,
        root: None,
    };
    let mut reader = Reader::from_str(whole);
    reader.config_mut().expand_empty_elements = true;
    loop {
        let begin = place(&reader);
        let event = reader.read_event().map_err(|error| broken(place(&reader), whole, &error))?;
        if event == Event::Eof {
            return document.finish();
        }
        let end = place(&reader);
        document.take(event, begin..end).map_err(|problem| match problem {
            Problem::Broken(reason) => broken(begin, whole, &reason),
            Problem::Unusable(reason) => DecodeError::Unusable(reason),
        })?;
    }
}

fn place(reader: &Reader<&[u8]>) -> usize {
    usize::try_from(reader.buffer_position()).expect("a page is at most 1 GiB")
}

fn broken(place: usize, whole: &str, reason: &dyn std::fmt::Display) -> DecodeError {
    let line = whole.as_bytes()[..place].iter().filter(|byte| **byte == b'\n').count() + 1;
    DecodeError::Broken(format!("line {line}: {reason}"))
}

/// What is wrong with a piece of a document.
enum Problem {
    Broken(String),
    Unusable(String),
}

impl From<quick_xml::Error> for Problem {
    fn from(error: quick_xml::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

/// The record that is being read.
struct Record {
    begin: usize,
    /// Elements that were open before it.
    depth: usize,
    /// Why it cannot be a row, once that is clear. The rest of it is passed over.
    refused: Option<&'static str>,
    /// Elements that are open in what is passed over.
    passed_over: usize,
}

struct Document<'t> {
    whole: &'t str,
    record_path: &'t str,
    decoder: Decoder,
    open: Vec<Open<'t>>,
    /// Names of the open elements, with dots between them. Ends at a record.
    path: String,
    record: Option<Record>,
    records: Option<Range<usize>>,
    /// Bytes of what stands around the records. It is kept in pieces that are larger than their text.
    around_bytes: usize,
    /// The names in the element that holds the records, where there is one.
    parent: Option<Vec<String>>,
    /// The root element when it has ended.
    root: Option<(&'t str, Content<'t>)>,
}

impl<'t> Document<'t> {
    fn take(&mut self, event: Event<'t>, at: Range<usize>) -> Result<(), Problem> {
        match event {
            Event::Start(start) => self.start(&start, at.start),
            Event::End(_) => self.end(at.end),
            Event::Text(text) => self.text(text.xml10_content()),
            Event::CData(text) if self.open.is_empty() => self.text(text.into_inner()),
            Event::CData(text) => self.text(text.xml10_content()),
            Event::GeneralRef(reference) => {
                let text = match reference.resolve_char_ref()? {
                    Some(character) => character.to_string(),
                    None => {
                        let known = quick_xml::escape::resolve_predefined_entity(&reference);
                        let unknown = || Problem::Broken(format!("the entity &{}; is unknown", &*reference));
                        known.ok_or_else(unknown)?.to_owned()
                    }
                };
                self.text(text.into())
            }
            Event::DocType(_) => Err(Problem::Broken(
                "it has a document type declaration (<!DOCTYPE …>), which is refused: it can define entities"
                    .to_owned(),
            )),
            Event::Decl(declaration) => match declaration.encoding() {
                Some(encoding) => check_encoding(&encoding.map_err(quick_xml::Error::from)?),
                None => Ok(()),
            },
            Event::Empty(_) | Event::Comment(_) | Event::PI(_) | Event::Eof => Ok(()),
        }
    }

    fn start(&mut self, start: &BytesStart<'t>, begin: usize) -> Result<(), Problem> {
        if self.open.is_empty() && self.root.is_some() {
            return Err(Problem::Broken("a second root element".to_owned()));
        }
        if let Some(record) = &mut self.record {
            if self.open.len() - record.depth > NESTING_MAX {
                record.refused.get_or_insert("nested_too_deep");
            } else if begin - record.begin > RECORD_BYTES_MAX {
                record.refused.get_or_insert("record_too_large");
            }
            if record.refused.is_some() {
                record.passed_over += 1;
                return Ok(());
            }
        } else if self.open.len() >= NESTING_MAX {
            return Err(Problem::Broken(format!("elements are nested more than {NESTING_MAX} deep")));
        } else {
            self.count_around(start.len())?;
        }
        let name = &self.whole[begin + 1..begin + 1 + start.name().as_ref().len()];
        let path_before = self.path.len();
        if self.record.is_none() {
            if self.records.is_none() && self.path == self.parent_path() {
                self.remember(name);
            }
            if !self.path.is_empty() {
                self.path.push('.');
            }
            self.path.push_str(name);
            if self.path == self.record_path {
                self.record = Some(Record { begin, depth: self.open.len(), refused: None, passed_over: 0 });
            } else if self.path == self.parent_path() {
                self.parent.get_or_insert_default();
            }
        }
        let mut open = Open::new(name, path_before);
        for attribute in start.attributes() {
            let attribute = attribute.map_err(quick_xml::Error::from)?;
            let value = attribute.normalized_value(XmlVersion::Implicit1_0)?.into_owned();
            open.add_attribute(attribute.key.as_ref(), value);
        }
        self.open.push(open);
        Ok(())
    }

    fn count_around(&mut self, bytes: usize) -> Result<(), Problem> {
        self.around_bytes += bytes;
        if self.around_bytes > RECORD_BYTES_MAX {
            let path = self.record_path;
            return Err(Problem::Unusable(format!("8 MiB of it are not at xml_record_path {path:?}")));
        }
        Ok(())
    }

    fn parent_path(&self) -> &'t str {
        self.record_path.rsplit_once('.').map_or("", |(parent, _)| parent)
    }

    /// A name beside the records, for messages.
    fn remember(&mut self, name: &str) {
        const NAMES_MAX: usize = 100;
        let names = self.parent.get_or_insert_default();
        if names.len() < NAMES_MAX && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }

    fn text(&mut self, text: Cow<'t, str>) -> Result<(), Problem> {
        if self.record.as_ref().is_some_and(|record| record.refused.is_some()) {
            return Ok(());
        }
        if self.record.is_none() {
            if text.trim().is_empty() {
                return Ok(());
            }
            self.count_around(text.len())?;
        }
        match self.open.last_mut() {
            Some(open) => open.add_text(text),
            None => return Err(Problem::Broken("text outside of the root element".to_owned())),
        }
        Ok(())
    }

    fn end(&mut self, end: usize) -> Result<(), Problem> {
        if let Some(record) = self.record.as_mut().filter(|record| record.passed_over > 0) {
            record.passed_over -= 1;
            return Ok(());
        }
        let open = self.open.pop().ok_or_else(|| Problem::Broken("an end without a beginning".to_owned()))?;
        match self.record.take_if(|record| record.depth == self.open.len()) {
            Some(record) => {
                self.path.truncate(open.path_before);
                self.end_record(open, &record, end);
            }
            None => {
                if self.record.is_none() {
                    self.path.truncate(open.path_before);
                }
                let name = open.name;
                if self.record.is_none()
                    && let (Some(rel), Some(parent)) = (open.relation(), self.open.last_mut())
                {
                    parent.add_once(format!("{name}[{rel}]"), &open);
                }
                let content = open.into_content();
                match self.open.last_mut() {
                    Some(parent) => parent.add(name, content),
                    None => self.root = Some((name, content)),
                }
            }
        }
        if self.open.is_empty() && self.root.is_none() {
            // The root itself was the record.
            self.root = Some(("", Content::Null));
        }
        Ok(())
    }

    fn end_record(&mut self, element: Open<'t>, record: &Record, end: usize) {
        self.records = Some(self.records.as_ref().map_or(record.begin, |range| range.start)..end);
        let raw = &self.whole[record.begin..end];
        let cells_before = self.decoder.rows.cells.len();
        let added = match record.refused {
            Some(reason) => Err(reason),
            None if raw.len() > RECORD_BYTES_MAX => Err("record_too_large"),
            None => self.decoder.element(element),
        };
        if let Err(reason) = added {
            self.decoder.rows.cells.truncate(cells_before);
            self.decoder.reject(reason, raw);
        }
    }

    fn finish(self) -> Result<Xml, DecodeError> {
        if let Some(open) = self.open.last() {
            return Err(DecodeError::Broken(format!("it ends inside of <{}>", super::excerpt(open.name))));
        }
        let Some((root, content)) = self.root else {
            return Err(DecodeError::Broken("it has no root element".to_owned()));
        };
        if self.records.is_none() {
            let path = self.record_path;
            let Some(names) = self.parent.filter(|_| path.contains('.')) else {
                let found = format!("its root element is <{}>", super::excerpt(root).escape_debug());
                return Err(DecodeError::Broken(format!("xml_record_path {path:?} leads nowhere in it; {found}")));
            };
            let wanted = path.rsplit('.').next().unwrap_or(path);
            if let Some(near) = names.iter().find(|name| is_near(name, wanted)) {
                return Err(DecodeError::Unusable(format!(
                    "xml_record_path {path:?} matches nothing, but <{near}> is there"
                )));
            }
        }
        let inside = content.json();
        let envelope = match inside.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            _ if root.is_empty() => "{}".to_owned(),
            // The root comes last, as the last of two equal keys counts.
            Some(fields) => format!("{{{fields},{}:{inside}}}", json_string(root)),
            None => format!("{{{}:{inside}}}", json_string(root)),
        };
        Ok(Xml { rows: self.decoder.rows, envelope, records: self.records })
    }
}

/// Whether one name was probably meant by the other.
fn is_near(name: &str, wanted: &str) -> bool {
    let plain = |name: &str| name.rsplit(':').next().unwrap_or(name).to_lowercase();
    let (name, wanted) = (plain(name), plain(wanted));
    name == wanted || wanted.len() > SLIPS_MAX + 1 && strsim::damerau_levenshtein(&name, &wanted) <= SLIPS_MAX
}

fn check_encoding(name: &str) -> Result<(), Problem> {
    if ["utf-8", "utf8", "us-ascii", "ascii"].contains(&name.to_ascii_lowercase().as_str()) {
        return Ok(());
    }
    Err(Problem::Unusable(format!("its encoding is {:?}, and only UTF-8 is read", super::excerpt(name))))
}

impl Decoder {
    /// Adds a record; `Err` says why it cannot be a row.
    fn element(&mut self, element: Open<'_>) -> Result<(), &'static str> {
        for (name, content) in element.into_fields() {
            let (kind, span) = match content {
                Content::Null => (CellKind::Null, Span { start: 0, len: 0 }),
                Content::Text(Cow::Borrowed(text)) => (CellKind::Text, self.span(text)),
                Content::Text(Cow::Owned(text)) => {
                    (CellKind::Unescaped, self.rewritten(&text).ok_or("record_too_large")?)
                }
                object_or_list => {
                    (CellKind::AddedJson, self.rewritten(&object_or_list.json()).ok_or("record_too_large")?)
                }
            };
            let key = self.key(&name);
            self.rows.cells.push(Cell { kind, span, key });
        }
        self.end_record();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::page::Value;

    fn read(body: &str, path: &str) -> Result<Xml, DecodeError> {
        xml(&Text::new(Bytes::copy_from_slice(body.as_bytes())).unwrap(), path)
    }

    fn fields(body: &str) -> Vec<(String, String)> {
        let page = read(body, "r.e").unwrap_or_else(|error| panic!("{body}: {error}"));
        let shown = |value| match value {
            Value::Null => "null".to_owned(),
            Value::Text(text) => format!("{:?}", std::str::from_utf8(text).unwrap()),
            Value::Json(text) => String::from_utf8(text.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        };
        page.rows.row(0).map(|(key, value)| (page.rows.keys()[key].clone(), shown(value))).collect()
    }

    #[test]
    fn an_element_is_text_or_null_or_an_object() {
        for (inside, expected) in [
            ("<e><a>x</a><b/><c></c></e>", &[("a", "\"x\""), ("b", "null"), ("c", "null")][..]),
            ("<e id=\"1\" n='a&amp;b&#33;\n'/>", &[("@id", "\"1\""), ("@n", "\"a&b! \"")]),
            ("<e><p cur=\"EUR\">5.50</p></e>", &[("p", r##"{"@cur":"EUR","#text":"5.50"}"##)]),
            (
                "<e>\n <t>1</t>\n <t>2</t><t k=\"\"/><u/><t/></e>",
                &[("t", r#"["1","2",{"@k":""},null]"#), ("u", "null")],
            ),
            (
                "<e><a xsi:nil='true'/><b xsi:nil=\"1\" xsi:type='s'></b><c xsi:nil='false'/><d xsi:nil='true' x=''/></e>",
                &[
                    ("a", "null"),
                    ("b", "null"),
                    ("c", r#"{"@xsi:nil":"false"}"#),
                    ("d", r#"{"@xsi:nil":"true","@x":""}"#),
                ],
            ),
            ("<e>plain</e>", &[("#text", "\"plain\"")]),
            ("<e>a <i>b</i> c</e>", &[("i", "\"b\""), ("#text", "\"a  c\"")]),
            ("<e><a> 007 </a><b>\r\nx</b></e>", &[("a", "\" 007 \""), ("b", "\"\\nx\"")]),
            ("<e><a>&lt;&#x1F600;&gt;</a><b><![CDATA[<&>]]></b></e>", &[("a", "\"<😀>\""), ("b", "\"<&>\"")]),
            ("<e><d:a xmlns:d=\"u\">x</d:a><!-- c --><?p i?></e>", &[("d:a", r##"{"@xmlns:d":"u","#text":"x"}"##)]),
            ("<e><a><b><c>\"</c><c/></b></a></e>", &[("a", r#"{"b":{"c":["\"",null]}}"#)]),
        ] {
            let expected: Vec<_> = expected.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            assert_eq!(fields(&format!("<r>{inside}</r>")), expected, "{inside}");
        }
    }

    #[test]
    fn what_stands_around_the_records_is_kept_for_the_paginator() {
        let body = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<f v=\"2\"><next>t1</next><l><e><x>1</x></e>\n<e/></l><n> 3</n></f>\n";
        let page = read(body, "f.l.e").unwrap();
        assert_eq!((page.rows.len(), page.rows.get(0, "x")), (2, Some(Value::Text(b"1"))));
        let inside = r#""@v":"2","next":"t1","l":null,"n":" 3""#;
        assert_eq!(page.envelope, format!("{{{inside},\"f\":{{{inside}}}}}"));
        let text = body.trim_start_matches('\u{feff}');
        assert_eq!(&text[page.records.unwrap()], "<e><x>1</x></e>\n<e/>");
        let links =
            read("<f><link rel='self' href='/1'/><link rel='next' href='/2'/><e/></f>", "f.e").unwrap().envelope;
        let links: serde_json::Value = serde_json::from_str(&links).unwrap();
        assert_eq!((&links["f"]["link[next]"]["@href"], &links["link[self]"]["@href"]), (&"/2".into(), &"/1".into()));
        let root = read("<e a=\"1\"/>", "e").unwrap();
        assert_eq!((root.rows.get(0, "@a"), root.envelope.as_str()), (Some(Value::Text(b"1")), "{}"));
    }

    #[test]
    fn a_list_without_records_is_empty_and_a_path_that_leads_nowhere_is_an_error() {
        for empty in ["<r/>", "<r><link/><link/></r>"] {
            assert_eq!(read(empty, "r.e").unwrap().rows.received(), 0, "{empty}");
        }
        for (body, path, part) in [
            ("<error>no</error>", "r.e", "leads nowhere in it; its root element is <error>"),
            ("<error>no</error>", "r", "leads nowhere"),
            ("<r><x/></r>", "r.items.item", "leads nowhere"),
            ("<r><Entry/></r>", "r.entry", "matches nothing, but <Entry> is there"),
            ("<r><a:entry/></r>", "r.entry", "<a:entry> is there"),
            ("<r><entri/></r>", "r.entry", "<entri> is there"),
        ] {
            let error = read(body, path).unwrap_err().to_string();
            assert!(error.contains(part), "{body}: {error}");
        }
    }

    #[test]
    fn what_is_not_well_formed_or_not_to_be_trusted_is_an_error() {
        let deep = format!("<r>{}{}</r>", "<a>".repeat(70), "</a>".repeat(70));
        let laughs = "<!DOCTYPE r [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;\">]><r><e>&b;</e></r>";
        let stranger = "<!DOCTYPE r SYSTEM \"file:///etc/hostname\"><r/>";
        for (body, part) in [
            ("", "no root element"),
            ("<r><e></r>", "line 1: "),
            ("<r/><r/>", "a second root element"),
            ("<r/>x", "text outside"),
            ("x<r/>", "text outside"),
            ("{\"a\": 1}", "text outside"),
            ("<r><e>\n&nbsp;</e></r>", "line 2: the entity &nbsp; is unknown"),
            ("<r><e>&#0;</e></r>", "line 1: "),
            ("<r><e a=\"1\" a=\"2\"/></r>", "line 1: "),
            ("<r><e a=\"&x;\"/></r>", "line 1: "),
            (laughs, "document type declaration"),
            (stranger, "document type declaration"),
            ("<!doctype html><html></html>", "document type declaration"),
            (&deep, "more than 64 deep"),
            ("<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><r/>", "its encoding is \"ISO-8859-1\", and only UTF-8"),
        ] {
            let error = read(body, "r.e").unwrap_err().to_string();
            assert!(error.contains(part), "{body}: {error}");
        }
        let whole = "<r><e><a>x&amp;y</a><b k=\"1\"><![CDATA[z]]></b></e><!-- c --></r>";
        for cut in 0..whole.len() {
            assert!(read(&whole[..cut], "r.e").is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_record_that_cannot_be_a_row_is_set_aside_with_its_text() {
        let deep = format!("<e><a>1</a>{}x{}<b>2</b></e>", "<d>".repeat(65), "</d>".repeat(65));
        let large = format!("<e><a>{}</a><b/></e>", "x".repeat(RECORD_BYTES_MAX));
        let page = read(&format!("<r><e><a>1</a></e>{deep}{large}<e><a>2</a></e></r>"), "r.e").unwrap();
        let reasons: Vec<_> = page.rows.rejected().iter().map(|r| (&*r.reason, r.record.len())).collect();
        assert_eq!(reasons, [("nested_too_deep", deep.len()), ("record_too_large", 64 << 10)]);
        assert_eq!(page.rows.rejected()[0].record, deep);
        assert_eq!((page.rows.len(), page.rows.get(1, "a")), (2, Some(Value::Text(b"2"))));
        let around = format!("<r><x>{}</x><y/></r>", "x".repeat(RECORD_BYTES_MAX));
        assert!(read(&around, "r.e").unwrap_err().to_string().contains("8 MiB of it are not at"));
        let blanks = format!("<r>{}<e><a>1</a></e></r>", " ".repeat(RECORD_BYTES_MAX + 1));
        assert_eq!(read(&blanks, "r.e").unwrap().rows.len(), 1);
    }

    proptest! {
        #[test]
        fn any_text_is_a_page_or_an_error(body in "(<e>|</e>|<r>|</r>|<e a='|'|/>|&|;|<!--|-->|<!\\[CDATA\\[|\\]\\]>|<\\?|\\?>|[re<> é\r\n]){0,14}") {
            let whole = format!("<r>{body}</r>");
            for path in ["r", "r.e", "r.e.e"] {
                if let Ok(page) = read(&whole, path) {
                    let is_json = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).is_ok();
                    let values = (0..page.rows.len()).flat_map(|row| page.rows.row(row).collect::<Vec<_>>());
                    for (_, value) in values {
                        prop_assert!(!matches!(value, Value::Json(text) if !is_json(text)), "{:?}", value);
                    }
                    prop_assert!(is_json(page.envelope.as_bytes()), "{}", page.envelope);
                }
            }
        }
    }
}
