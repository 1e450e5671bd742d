//! Signs that a first response is not everything, for an API whose paging nobody has described. They may be wrong,
//! and then one key in the configuration says so; an overlooked one would lose every page but the first.

use serde_json::Value as Json;

use super::{Evidence, truth};

/// Names of the number of all records, without `_`, `-` and `@`.
const TOTALS: [&str; 12] = [
    "total",
    "totalcount",
    "totalelements",
    "totalsize",
    "totalresults",
    "totalitems",
    "totalrecords",
    "totalhits",
    "count",
    "items",
    "odatacount",
    "wptotal",
];
/// Names of the number of pages.
const PAGE_COUNTS: [&str; 7] =
    ["totalpages", "pagecount", "pages", "numpages", "lastpage", "wptotalpages", "totalpagecount"];
/// Names of a word on whether this page is the last.
const LASTS: [&str; 5] = ["islast", "last", "done", "islastpage", "lastpage"];
/// Response headers that speak of more pages.
const HEADERS: [&str; 7] =
    ["x-total-count", "x-total", "x-total-pages", "x-wp-total", "x-wp-totalpages", "x-next-page", "x-next-cursor"];

/// Where the response looks like there is more.
pub(super) fn sign_of_more(page: &Evidence<'_>) -> Option<String> {
    let says_no = page.leaves.iter().any(|(path, value)| {
        let name = plain(path.rsplit('.').next().unwrap_or(path));
        (name.contains("hasmore") || name.contains("hasnext")) && truth(value) == Some(false)
    });
    let in_body = page.leaves.iter().find(|(path, value)| {
        let names: Vec<_> = path.split('.').map(plain).collect();
        is_sign(&names, value, page.records) || (!says_no && leads_on(&names, value))
    });
    let in_header = || {
        HEADERS.into_iter().find(|header| {
            let Some(text) = header_text(page, header) else { return false };
            let (names, value) = ([plain(&header[2..])], Json::from(text));
            is_sign(&names, &value, page.records) || leads_on(&names, &value)
        })
    };
    let range = || {
        let (unit, total) = header_text(page, "content-range")?.rsplit_once('/')?;
        let more = !unit.starts_with("bytes") && total.trim().parse::<u64>().is_ok_and(|total| total > page.records);
        more.then_some("Content-Range")
    };
    in_body.map(|(path, _)| path.as_str()).or_else(in_header).or_else(range).map(str::to_owned)
}

fn header_text<'a>(page: &Evidence<'a>, name: &str) -> Option<&'a str> {
    page.headers.get(name)?.to_str().ok()
}

fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// A number or a word that does not go with this page being all.
fn is_sign(names: &[String], value: &Json, records: u64) -> bool {
    // As in `total.value`.
    let name = match names {
        [.., name, last] if last == "value" => name,
        [.., name] => name,
        [] => return false,
    };
    let number = value.as_u64().or_else(|| value.as_str()?.trim().parse().ok());
    let is = |list: &[&str]| list.contains(&name.as_str());
    is(&TOTALS) && number.is_some_and(|number| number > records)
        || is(&PAGE_COUNTS) && number.is_some_and(|number| number > 1)
        || is(&LASTS) && number.is_none() && truth(value) == Some(false)
        || name == "offset" && number.is_none() && value.as_str().is_some_and(|text| !text.is_empty())
}

/// A value that would lead to the next page, or says that there is one.
fn leads_on(names: &[String], value: &Json) -> bool {
    const BACK: [&str; 5] = ["prev", "before", "start", "first", "self"];
    const ON: [&str; 5] = ["next", "cursor", "continuation", "more", "pagetoken"];
    let backwards = names.iter().any(|name| BACK.iter().any(|word| name.starts_with(word)));
    let onwards = names.iter().any(|name| name == "continue" || ON.iter().any(|word| name.contains(word)));
    let nothing = value.is_null() || value.as_str() == Some("") || truth(value) == Some(false);
    onwards && !backwards && !nothing
}
