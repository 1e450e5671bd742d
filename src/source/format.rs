//! What the bodies of a resource are written in.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ResourceOptions;

/// The formats of a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// RFC 8259.
    #[default]
    Json,
    /// A JSON value per line.
    Jsonl,
    /// RFC 4180, with a header row.
    Csv,
    /// XML 1.0.
    Xml,
}

impl Format {
    /// The word for it in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Xml => "xml",
        }
    }
}

/// `csv`: how CSV is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CsvOptions {
    /// What stands between two fields: one ASCII character.
    pub delimiter: String,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self { delimiter: ",".to_owned() }
    }
}

impl CsvOptions {
    /// The delimiter as a byte, if it is one that can delimit.
    #[must_use]
    pub fn delimiter(&self) -> Option<u8> {
        match self.delimiter.as_bytes() {
            [byte] if byte.is_ascii() && !byte.is_ascii_alphanumeric() && !b"\"\r\n\0".contains(byte) => Some(*byte),
            _ => None,
        }
    }
}

/// How the body of a page is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyFormat {
    /// JSON. What GraphQL answers is JSON in which `errors` count whatever stands beside them.
    Json {
        /// Whether it answers a GraphQL request.
        graphql: bool,
    },
    /// JSON Lines.
    Jsonl {},
    /// CSV.
    Csv {
        /// What stands between two fields.
        delimiter: u8,
        /// Columns that its header row cannot be without.
        key: Vec<String>,
    },
    /// XML.
    Xml {
        /// Where the records are.
        record_path: String,
    },
}

impl BodyFormat {
    /// What a request says that it would like best (RFC 9110 §12.5.1), if that is not the JSON of any other request.
    pub(super) fn accept(&self) -> Option<&'static str> {
        match self {
            Self::Json { .. } => None,
            Self::Jsonl {} => Some("application/x-ndjson, application/jsonl, */*;q=0.8"),
            Self::Csv { .. } => Some("text/csv, */*;q=0.8"),
            Self::Xml { .. } => Some("application/xml, text/xml, */*;q=0.8"),
        }
    }

    /// # Errors
    /// When the options do not go together; loading the configuration has said so before.
    pub(super) fn new(options: &ResourceOptions) -> Result<Self, String> {
        Ok(match options.format.unwrap_or_default() {
            Format::Json => Self::Json { graphql: options.graphql.is_some() },
            Format::Jsonl => Self::Jsonl {},
            Format::Csv => {
                let csv = options.csv.clone().unwrap_or_default();
                // Steps may make columns of the key, and those of a parent begin so.
                let comes = |name: &String| options.processing_steps.is_empty() && !name.starts_with('_');
                let key = options.primary_key.iter().flat_map(|key| &key.0).filter(|name| comes(name));
                Self::Csv {
                    delimiter: csv.delimiter().ok_or("`csv.delimiter` is not one character")?,
                    key: key.cloned().collect(),
                }
            }
            Format::Xml => {
                let record_path = options.xml_record_path.clone();
                Self::Xml { record_path: record_path.ok_or("`xml_record_path` is missing")? }
            }
        })
    }
}
