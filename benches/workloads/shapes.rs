//! The two kinds of records, as the server sends them and as the floor inserts them.

use std::fmt::Write as _;

use rusqlite::types::Null;
use rusqlite::{Statement, params, params_from_iter};

/// Ids begin here, so that all of them are as long. A page is rendered once, and what its ids begin with is written into
/// a copy: as pages have 1, 10, 100 or 1,000 records, that is the same for all of its ids.
const FIRST_ID: u64 = 10_000_000;

/// Pages that are rendered; those after them say the same under other ids.
const RENDERED: u64 = 200;

/// A kind of record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Ten fields, some 220 bytes.
    Flat,
    /// Fifteen fields, some 670 bytes: one object, one list of two objects, a body with escapes and non-ASCII.
    Nested,
}

/// One record. What both shapes have, the nested one has twice over.
#[derive(Debug)]
pub(crate) struct Record {
    id: u64,
    user_id: u64,
    amount: f64,
    ok: bool,
    created_at: String,
    updated_at: String,
    note: String,
}

impl Record {
    /// Record `number` of all, counted from 0.
    pub(crate) fn new(number: u64) -> Self {
        let id = FIRST_ID + number;
        // Those of a page that is not rendered are those of the one that it is a copy of.
        let seed = number % (RENDERED * 100);
        let (day, hour, minute) = (1 + seed / 1440 % 28, seed / 60 % 24, seed % 60);
        Self {
            id,
            user_id: seed * 7919 % 50_000,
            amount: (seed * 31 % 1_000_000) as f64 / 100.0,
            ok: !seed.is_multiple_of(3),
            created_at: format!("2025-03-{day:02}T{hour:02}:{minute:02}:00Z"),
            updated_at: format!("2025-06-{day:02}T{hour:02}:{minute:02}:30Z"),
            note: format!("order {id} of the spring campaign"),
        }
    }

    fn customer(&self) -> String {
        format!(
            r#"{{"id":{},"name":"Zoë Müller-Łukasik","email":"customer.{}@example.com","vip":{}}}"#,
            self.user_id, self.user_id, self.ok
        )
    }

    fn lines(&self) -> String {
        format!(
            r#"[{{"sku":"A-{}","quantity":2,"price":{}}},{{"sku":"B-{}","quantity":1,"price":4.5}}]"#,
            self.user_id, self.amount, self.user_id
        )
    }

    /// As it stands in a page.
    fn write_json(&self, shape: Shape, out: &mut String) -> std::fmt::Result {
        let Self { id, user_id, amount, ok, created_at, updated_at, note } = self;
        match shape {
            Shape::Flat => write!(
                out,
                r#"{{"id":{id},"kind":"payment_intent","user_id":{user_id},"amount":{amount},"currency":"EUR","ok":{ok},"note":"{note}","created_at":"{created_at}","updated_at":"{updated_at}","ref":null}}"#
            ),
            Shape::Nested => write!(
                out,
                r#"{{"id":{id},"kind":"payment_intent","user_id":{user_id},"amount":{amount},"currency":"EUR","ok":{ok},"note":"{note}","created_at":"{created_at}","updated_at":"{updated_at}","ref":null,"customer":{},"lines":{},"body":"{}","tags":"spring,mail","attempts":3}}"#,
                self.customer(),
                self.lines(),
                BODY_JSON
            ),
        }
    }
}

const BODY: &str = "Dear \"Zoë\",\n\n\tyour order of 12 “Äpfel” and 3 \\ 4 of a 梨 has left. It will be with you on Monday, \
                    unless it snows in Łódź again – as it did last week, and the week before.\n\nKind regards";

const BODY_JSON: &str = r#"Dear \"Zoë\",\n\n\tyour order of 12 “Äpfel” and 3 \\ 4 of a \u68a8 has left. It will be with you on Monday, unless it snows in Łódź again – as it did last week, and the week before.\n\nKind regards"#;

/// Pages of one shape and size, rendered once.
#[derive(Debug)]
pub(crate) struct Pages {
    rows_per_page: u64,
    /// Each with the places of its ids.
    bodies: Vec<(String, Vec<usize>)>,
}

impl Pages {
    /// Renders the pages of `shape` with so many records each: 1, 10, 100 or 1,000.
    pub(crate) fn render(shape: Shape, rows_per_page: u64) -> Self {
        let bodies = (0..RENDERED).map(|page| {
            let mut body = String::from("{\"data\":[");
            for row in 0..rows_per_page {
                if row > 0 {
                    body.push(',');
                }
                // Writing into a String does not fail.
                Record::new(page * rows_per_page + row).write_json(shape, &mut body).unwrap_or_default();
            }
            body.push(']');
            let prefix = prefix(page, rows_per_page);
            // Other numbers may begin like it, but none is as long.
            let digits =
                |place: usize| body.as_bytes()[place..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            let is_id = |place: &usize| !body.as_bytes()[place - 1].is_ascii_digit() && digits(*place) == 8;
            let ids = body.match_indices(&prefix).map(|(place, _)| place).filter(is_id).collect();
            (body, ids)
        });
        Self { rows_per_page, bodies: bodies.collect() }
    }

    /// Page `page`; with the words that lead to the next one.
    pub(crate) fn page(&self, page: u64, next: &str) -> Vec<u8> {
        let (body, ids) = &self.bodies[(page % RENDERED) as usize];
        let mut bytes = Vec::with_capacity(body.len() + next.len() + 1);
        bytes.extend_from_slice(body.as_bytes());
        if page >= RENDERED {
            let prefix = prefix(page, self.rows_per_page);
            for place in ids {
                bytes[*place..place + prefix.len()].copy_from_slice(prefix.as_bytes());
            }
        }
        bytes.extend_from_slice(next.as_bytes());
        bytes.push(b'}');
        bytes
    }
}

/// What the ids of a page begin with.
fn prefix(page: u64, rows_per_page: u64) -> String {
    ((FIRST_ID + page * rows_per_page) / rows_per_page).to_string()
}

/// The columns behind the key that the floor's table has, with their types.
fn columns(shape: Shape) -> Vec<(&'static str, &'static str)> {
    let mut columns = vec![
        ("kind", "TEXT"),
        ("user_id", "INTEGER"),
        ("amount", "REAL"),
        ("currency", "TEXT"),
        ("ok", "BOOLEAN"),
        ("note", "TEXT"),
        ("created_at", "TEXT"),
        ("updated_at", "TEXT"),
        ("ref", "TEXT"),
    ];
    if shape == Shape::Nested {
        columns.extend([
            ("customer", "TEXT"),
            ("lines", "TEXT"),
            ("body", "TEXT"),
            ("tags", "TEXT"),
            ("attempts", "INTEGER"),
        ]);
    }
    columns
}

/// The table that the floor inserts into.
pub(crate) fn create_table(shape: Shape) -> String {
    let columns: Vec<String> = columns(shape).iter().map(|(name, kind)| format!("{name} {kind}")).collect();
    format!("CREATE TABLE t (id INTEGER PRIMARY KEY, {})", columns.join(", "))
}

/// The floor's statement.
pub(crate) fn upsert(shape: Shape) -> String {
    let columns = columns(shape);
    let places = vec!["?"; columns.len() + 1].join(", ");
    let updates: Vec<String> = columns.iter().map(|(name, _)| format!("{name} = excluded.{name}")).collect();
    format!("INSERT INTO t VALUES ({places}) ON CONFLICT (id) DO UPDATE SET {}", updates.join(", "))
}

/// A record of a shape, as the floor holds it: every value is there before the clock runs.
#[derive(Debug)]
pub(crate) struct Typed {
    record: Record,
    nested: Option<(String, String)>,
}

impl Typed {
    /// Record `number` of all, counted from 0.
    pub(crate) fn new(shape: Shape, number: u64) -> Self {
        let record = Record::new(number);
        let nested = (shape == Shape::Nested).then(|| (record.customer(), record.lines()));
        Self { record, nested }
    }

    /// Binds its values and runs the floor's statement.
    pub(crate) fn insert(&self, upsert: &mut Statement<'_>) -> rusqlite::Result<usize> {
        let Record { id, user_id, amount, ok, created_at, updated_at, note } = &self.record;
        let flat = params![id, "payment_intent", user_id, amount, "EUR", ok, note, created_at, updated_at, Null];
        match &self.nested {
            None => upsert.execute(flat),
            Some((customer, lines)) => {
                let more = params![customer, lines, BODY, "spring,mail", 3];
                upsert.execute(params_from_iter(flat.iter().chain(more)))
            }
        }
    }
}
