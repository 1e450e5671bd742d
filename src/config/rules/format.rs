//! Rules for `format`: what goes with which, and where a paginator may look.

use super::super::path::Path;
use super::Rules;
use super::paginator::check_dotted;
use crate::rest::ClientOptions;
use crate::source::{Format, ResourceOptions};

/// The keys of a paginator that look into the body of a response.
const LOOKS_INTO_BODY: [&str; 4] = ["next_url_path", "cursor_path", "total_path", "has_more_path"];

pub(super) fn check(
    resource: &ResourceOptions,
    client: &ClientOptions,
    source: &Path,
    path: &Path,
    rules: &mut Rules<'_>,
) {
    let format = resource.format.unwrap_or_default();
    check_csv(resource, format, path, rules);
    check_xml(resource, format, path, rules);
    if resource.graphql.is_some() && format != Format::Json {
        rules.refuse(&path.key("format"), "a GraphQL answer is JSON");
    }
    if resource.data_selector.is_some() && format != Format::Json {
        let message = match format {
            Format::Xml => "looks into JSON; the records of XML are named by `xml_record_path`".to_owned(),
            _ => format!("looks into JSON; in a body of `{}` every line is a record", format.as_str()),
        };
        rules.refuse(&path.key("data_selector"), message);
    }
    if matches!(format, Format::Jsonl | Format::Csv) {
        check_paginator(resource, client, source, path, rules);
    }
}

fn check_csv(resource: &ResourceOptions, format: Format, path: &Path, rules: &mut Rules<'_>) {
    let Some(csv) = &resource.csv else { return };
    if format != Format::Csv {
        rules.refuse(&path.key("csv"), "`csv` means nothing without `format = \"csv\"`");
    } else if csv.delimiter().is_none() {
        let message = "must be one ASCII character such as \";\" or \"\\t\": no letter, digit, quote or line break";
        rules.refuse(&path.key("csv").key("delimiter"), message);
    }
}

fn check_xml(resource: &ResourceOptions, format: Format, path: &Path, rules: &mut Rules<'_>) {
    let place = path.key("xml_record_path");
    match (&resource.xml_record_path, format) {
        (None, Format::Xml) => {
            let help = "name the element that repeats, from the root: `xml_record_path = \"feed.entry\"`";
            rules.refuse_with_help(&path.key("format"), "`xml` needs `xml_record_path`", help);
        }
        (Some(_), Format::Xml) => check_dotted(&place, rules),
        (Some(_), _) => rules.refuse(&place, "`xml_record_path` means nothing without `format = \"xml\"`"),
        (None, _) => {}
    }
}

/// Where every line is a record, nothing is left that could speak of the next page.
fn check_paginator(
    resource: &ResourceOptions,
    client: &ClientOptions,
    source: &Path,
    path: &Path,
    rules: &mut Rules<'_>,
) {
    let place = match (&resource.paginator, &client.paginator) {
        (Some(_), _) => path.key("paginator"),
        (None, Some(_)) => source.key("client").key("paginator"),
        (None, None) => return,
    };
    let format = resource.format.unwrap_or_default().as_str();
    for key in LOOKS_INTO_BODY {
        if rules.is_set(&place.key(key)) {
            let message = format!("`{key}` looks beside the records, and the `{format}` of {path} has nothing there");
            let help = "what works is `header_link`, `header_cursor`, `offset`, `page_number`, and `cursor` with \
                        `cursor_from = \"last_record.FIELD\"`";
            rules.refuse_with_help(&place.key(key), message, help);
        }
    }
}
