//! Keys of the vocabulary that this version does not build yet. They are part of the schema, so that a
//! configuration which uses one is refused by name instead of being read as a typing mistake, or ignored.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

/// The schema keyword that marks such a key.
pub const NOT_BUILT_YET: &str = "x-not-built-yet";

/// The value of a key that is not built yet: it never deserializes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotBuiltYet {}

impl<'de> Deserialize<'de> for NotBuiltYet {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(de::Error::custom("not built yet in this version of highwater"))
    }
}

impl JsonSchema for NotBuiltYet {
    fn schema_name() -> Cow<'static, str> {
        "NotBuiltYet".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "x-not-built-yet": true })
    }
}
