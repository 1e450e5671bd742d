//! A GraphQL request as the configuration has it, and what an answer says went wrong.

use std::borrow::Cow;

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::Value as Json;
use serde_json::value::RawValue;

use crate::template::{JsonTemplate, Template};

/// `graphql`: sent as a JSON body with `query` and `variables`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GraphQl {
    /// The text of the query. It is sent as it stands: what changes goes into `variables`.
    pub query: QueryText,
    /// The variables of the query.
    #[serde(default)]
    pub variables: IndexMap<String, JsonTemplate>,
}

/// The text of a query. Nothing is filled into it, as a value could change what it asks for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct QueryText(pub String);

impl JsonSchema for QueryText {
    fn schema_name() -> Cow<'static, str> {
        "QueryText".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "literal",
            "minLength": 1,
            "description": "a text in which no ${…} is filled in; a literal ${ is written $${"
        })
    }
}

impl GraphQl {
    /// The body as a template.
    #[must_use]
    pub fn body(&self) -> JsonTemplate {
        let variables = self.variables.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        JsonTemplate::Table(vec![
            ("query".to_owned(), JsonTemplate::Text(Template::text(&self.query.0))),
            ("variables".to_owned(), JsonTemplate::Table(variables)),
        ])
    }
}

/// What the `errors` of an answer say, if there are any (GraphQL, "Response Format"). `data` beside them is what could
/// be had of it, and no page.
pub(super) fn error_in(errors: Option<&str>) -> Option<String> {
    let first = match serde_json::from_str::<Vec<&RawValue>>(errors?) {
        Ok(list) => list.first()?.get(),
        Err(_) => errors.filter(|raw| *raw != "null")?,
    };
    let message = |error: Json| Some(error.get("message")?.as_str()?.to_owned());
    Some(serde_json::from_str(first).ok().and_then(message).unwrap_or_else(|| first.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::error_in;

    #[test]
    fn the_first_error_speaks_for_all() {
        let long = format!(r#"[{{"message":"{}"}}]"#, "x".repeat(10_000));
        for (errors, expected) in [
            (None, None),
            (Some("null"), None),
            (Some("[]"), None),
            (Some(r#"[{"message":"a","path":["x"]},{"message":"b"}]"#), Some("a")),
            (Some(r#"["plain"]"#), Some("\"plain\"")),
            (Some(r#"{"code":5}"#), Some(r#"{"code":5}"#)),
            (Some(&long), Some(&*"x".repeat(10_000))),
        ] {
            assert_eq!(error_in(errors).as_deref(), expected, "{errors:?}");
        }
    }
}
