//! Answers and refusals as JSON over HTTP.

use std::io;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter};
use serde_json::{Serializer, Value, json};

use super::BadRequest;

/// How many rows a response holds; travels beside it to the record of the request.
#[derive(Clone, Copy)]
pub(super) struct Rows(pub(super) usize);

/// A page, or whatever else is fine.
pub(super) struct Reply {
    rows: usize,
    body: Value,
    ascii: bool,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Reply {
    pub(super) fn new(rows: usize, body: Value) -> Reply {
        Reply { rows, body, ascii: false, header: None }
    }

    pub(super) fn with_header(self, name: HeaderName, value: &str) -> Reply {
        Reply { header: header_line(name, value), ..self }
    }

    /// Writes everything beyond ASCII as `\u…`, as older stacks do: the same text in other bytes.
    pub(super) fn in_ascii(self) -> Reply {
        Reply { ascii: true, ..self }
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let mut response = json_response(StatusCode::OK, &self.body, self.ascii);
        response.headers_mut().extend(self.header);
        response.extensions_mut().insert(Rows(self.rows));
        response
    }
}

/// Anything but a 2xx, with a message for humans.
pub(super) struct Refusal {
    status: StatusCode,
    message: String,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, message: &str) -> Refusal {
        Refusal { status, message: message.into(), header: None }
    }

    pub(super) fn with_header(self, name: HeaderName, value: &str) -> Refusal {
        Refusal { header: header_line(name, value), ..self }
    }
}

impl From<BadRequest> for Refusal {
    fn from(BadRequest(message): BadRequest) -> Refusal {
        Refusal { status: StatusCode::BAD_REQUEST, message, header: None }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({ "error": { "status": self.status.as_u16(), "message": self.message } });
        let mut response = json_response(self.status, &body, false);
        response.headers_mut().extend(self.header);
        response
    }
}

/// A header line; none where the value cannot be one, which no value of ours is.
fn header_line(name: HeaderName, value: &str) -> Option<(HeaderName, HeaderValue)> {
    HeaderValue::from_str(value).ok().map(|value| (name, value))
}

fn json_response(status: StatusCode, body: &Value, ascii: bool) -> Response {
    let mut bytes = Vec::new();
    let written = if ascii {
        body.serialize(&mut Serializer::with_formatter(&mut bytes, AsciiFormatter))
    } else {
        body.serialize(&mut Serializer::with_formatter(&mut bytes, CompactFormatter))
    };
    written.expect("a value with text keys is written into memory");
    (status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response()
}

struct AsciiFormatter;

impl Formatter for AsciiFormatter {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        for c in fragment.chars() {
            if c.is_ascii() {
                write!(writer, "{c}")?;
            } else {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }
}
