//! The same properties on texts that are made of what each kind of text is made of, so that they get far.

use proptest::prelude::*;
use proptest::sample::select;

use super::{checkpoints, columns, links, page_body, values, wait_headers, web_requests};

/// Pieces of a vocabulary, and now and then any text.
fn made_of(vocabulary: &[&'static str]) -> impl Strategy<Value = String> + use<> {
    let piece = || prop_oneof![9 => select(vocabulary.to_vec()).prop_map(str::to_owned), 1 => "\\PC{0,3}"];
    let pieces = prop_oneof![prop::collection::vec(piece(), 0..4), prop::collection::vec(piece(), 0..24)];
    pieces.prop_map(|pieces| pieces.concat())
}

/// What a property is given that makes a choice by its first byte.
fn with(choice: u8, text: &str) -> Vec<u8> {
    [&[choice], text.as_bytes()].concat()
}

const WAITS: &[&str] = &[
    "0",
    "1",
    "60",
    "2678400",
    "1772366460",
    "000",
    ".",
    "-",
    "+",
    "e9",
    "NaN",
    "inf",
    " ",
    "\n",
    "\t",
    "Sun, 01 Mar 2026 12:00:30 GMT",
    "Sunday, 01-Mar-26 12:00:30 GMT",
    "Sun Mar  1 12:00:30 2026",
    "9999",
    "18446744073709551616",
];
const LINKS: &[&str] = &[
    "<",
    ">",
    ";",
    ",",
    "=",
    "\"",
    "\\",
    " ",
    "rel",
    "rel=next",
    "rel=\"next\"",
    "anchor=x",
    "/",
    "//",
    "..",
    ".",
    "?page=2",
    "#x",
    "@",
    ":",
    "https:",
    "http://",
    "api.example.com",
    "evil.com",
    "u:p@",
    ":443",
    "%2F",
    "[::1]",
    "\t",
    "\n",
    "é",
    "。",
    "127.0.0.1:8080",
];
const BODIES: &[&str] = &[
    "[{\"a\":1,\"a\":2}]",
    "{\"items\":[{\"x\":1,\"a\":[{\"b\":2},{\"b\":[{\"c\":-0.0}]}]}],\"next\":{\"cursor\":\"t\"}}",
    "a,b\n1,\"2\"\n,\n",
    "<r><e><a>1</a><a/></e></r>",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"a\"",
    "\"items\"",
    "\"x\"",
    "\"data\"",
    "\"next\"",
    "\"cursor\"",
    "{\"items\":[",
    "{\"a\":",
    "[{\"x\":",
    "1",
    "-0",
    "1.5",
    "1e400",
    "123456789012345678901234567890",
    "null",
    "true",
    "\"\\ud800\"",
    "\"\\u0061\"",
    "\"",
    "\\",
    "\n",
    "\r\n",
    "\t",
    ";",
    "a,b\n",
    "\"\"",
    "<r>",
    "</r>",
    "<e>",
    "</e>",
    "<e a='1'",
    "/>",
    "&amp;",
    "&#0;",
    "<![CDATA[",
    "]]>",
    "<!--",
    "-->",
    "<!DOCTYPE",
    "<?xml version=\"1.0\"?>",
    "\u{feff}",
    "x",
    "errors",
];
const VALUES: &[&str] = &[
    "-0.0",
    "1e-7",
    "\"007\"",
    "-",
    "0",
    "1",
    "9",
    "007",
    "00000",
    "99999",
    ".",
    "e",
    "E-",
    "+",
    "9007199254740993",
    "9223372036854775807",
    "18014398509481985",
    "0.1",
    "true",
    "null",
    "\"",
    "\\u0000",
    "\\n",
    "[",
    "]",
    "{}",
    " ",
    "2024-01-01T00:00:00Z",
    "0x1",
    "é",
    "\0",
];
const KEYS: &[&str] = &[
    "\nid\n",
    "\nID\n",
    "\n_page_id\n",
    "\nÉ\n",
    "\ntags\n",
    "\n\"\n",
    "\n",
    "\n",
    "id",
    "ID",
    "Id",
    "_page_id",
    "_extra",
    "_row_id",
    "_parent_id",
    "_list_idx",
    "\"",
    "'",
    "\"; DROP TABLE t; --",
    "[",
    "]",
    "`",
    "\0",
    "select",
    "é",
    "É",
    "ß",
    " ",
    ".",
    "__",
    "x",
    "t",
    "_hw_next_",
    "sqlite_",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];
const CHECKPOINTS: &[&str] = &[
    "{\"at\":\"page\",\"page\":7}",
    "{\"at\":\"offset\",\"offset\":18446744073709551615}",
    "{\"at\":\"token\",\"token\":\"x\",\"number\":true}",
    "{\"at\":\"link\",\"url\":\"",
    "//evil.com/",
    "@evil.com",
    ".evil.com",
    "/a?b",
    "\"}",
    "{\"at\":\"first\"}",
    "\n",
    "\n",
    "{\"request_fingerprint\":\"same\",\"paginator\":",
    "{\"type\":\"page_number\"}",
    "{\"type\":\"header_link\"}",
    "{\"type\":\"cursor\",\"cursor_path\":\"a\",\"cursor_body_path\":\"a.b\"}",
    "}",
    "\"2024-01-01T00:00:00Z\"",
    "1700000000",
    "\"1700000000\"",
    "\"2024-05-06\"",
    "-1",
    "{\"start\":",
    "{\"start\":null,\"began\":null,\"end\":1,\"sent_end\":null,\"cursor_after\":null,\"goes_on\":false}",
    "{\"id\":1,\"a\":\"b\"}",
    "{\"_from\":1,\"_to\":2}",
    "null",
    "9223372036854775807",
    "\"9999-12-31T23:59:59Z\"",
    "\"-009999-01-01\"",
];
const REQUESTS: &[&str] = &[
    "GET / \nhost: localhost:80",
    "GET /?x=\nhost: 127.0.0.1:",
    "POST /resources/s.r/run\nhost: localhost\n\ntoken=anchor",
    "GET /",
    "GET / ",
    "POST /resources/s.r/run",
    "GET /runs?resource=s.r&before=",
    "GET /runs.json?before=-1",
    "GET /tables/",
    "GET /resources/",
    "GET /quarantine?",
    "HEAD /healthz",
    "GET /metrics",
    "GET http://evil.com/",
    "s.r",
    "%3Cx%3E",
    "<x>",
    "%00",
    "%ff",
    ".json",
    "9223372036854775807",
    "\nhost: localhost",
    "\nhost: 127.0.0.1:8642",
    "\nhost: [::1]",
    "\nhost: evil.com",
    "\nHost: localhost.evil.com",
    "\nhost: 0177.0.0.1",
    "\nauthorization: Bearer anchor",
    "\nauthorization: Basic OmFuY2hvcg==",
    "\norigin: http://evil.com",
    "\nsec-fetch-site: cross-site",
    "\nsec-fetch-site: same-origin",
    "\n\n",
    "token=anchor",
    "&",
    "=",
    "@",
    ":",
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn whatever_headers_say_a_wait_is_within_our_bounds(text in made_of(WAITS)) {
        wait_headers(text.as_bytes());
    }

    #[test]
    fn whatever_a_link_says_it_stays_on_its_origin_and_means_the_same_when_stored(choice in 0_u8..4, text in made_of(LINKS)) {
        links(&with(choice, &text));
    }

    #[test]
    fn whatever_a_body_says_it_is_a_page_that_says_the_same_or_an_error(choice in 0_u8..10, text in made_of(BODIES)) {
        page_body(&with(choice, &text));
    }

    #[test]
    fn whatever_a_value_says_it_is_read_back_from_its_column(text in made_of(VALUES)) {
        values(text.as_bytes());
    }

    #[test]
    fn whatever_a_checkpoint_says_a_read_goes_on_or_starts_over(text in made_of(CHECKPOINTS)) {
        checkpoints(text.as_bytes());
    }
}

const TARGETS: &[&str] = &[
    "GET /",
    "GET /runs.json?before=-1",
    "GET /resources/s.r",
    "GET /quarantine?resource=%3Cx%3E",
    "GET /tables/%3Cx%3E",
    "GET http://evil.com/",
    "HEAD /healthz",
    "POST /resources/s.r/run",
    "POST /resources/s.r/pause",
];
const HOSTS: &[&str] = &[
    "localhost",
    "127.0.0.1:8642",
    "[::1]:8642",
    "[::ffff:127.0.0.1]",
    "localhost:",
    "localhost:x",
    "127.0.0.1:80@evil.com",
    "evil.com",
    "localhost.evil.com",
    "evil.com:8642",
];
const HEADERS: &[&str] = &[
    "authorization: Bearer anchor",
    "authorization: Bearer wrong",
    "authorization: Basic OmFuY2hvcg==",
    "authorization: Basic Og==",
    "origin: http://evil.com",
    "origin: http://localhost",
    "origin: null",
    "sec-fetch-site: cross-site",
    "sec-fetch-site: same-origin",
    "host: evil.com",
];
const FORMS: &[&str] = &["", "token=anchor", "token=", "token=anchor2&x=1"];

/// A request that is whole, whoever sends it.
fn whole_request() -> impl Strategy<Value = String> {
    let target = select(TARGETS.to_vec());
    let headers = prop::collection::vec(select(HEADERS.to_vec()), 0..3);
    (target, select(HOSTS.to_vec()), headers, select(FORMS.to_vec())).prop_map(|(target, host, headers, form)| {
        let headers: String = headers.iter().map(|header| format!("\n{header}")).collect();
        format!("{target}\nhost: {host}{headers}\n\n{form}")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn whatever_keys_are_called_sqlite_tells_their_columns_apart(choice in 0_u8..9, text in made_of(KEYS)) {
        columns(&with(choice, &text));
    }

    #[test]
    fn whatever_is_asked_nobody_reads_or_acts_who_may_not(choice in 0_u8..3, text in made_of(REQUESTS)) {
        web_requests(&with(choice, &text));
    }
}

proptest! {
    // One in forty of all that there are.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3000) })]

    #[test]
    fn whoever_asks_nobody_reads_or_acts_who_may_not(choice in 0_u8..3, text in whole_request()) {
        web_requests(&with(choice, &text));
    }
}

/// What is a whole text of its kind is tried under every choice, so that no chance decides whether it is seen.
#[test]
fn every_word_is_tried_alone() {
    let choices = |vocabulary: &[&str], property: fn(&[u8])| {
        for (choice, word) in (0..12).flat_map(|choice| vocabulary.iter().map(move |word| (choice, word))) {
            property(&with(choice, word));
        }
    };
    choices(LINKS, links);
    choices(BODIES, page_body);
    choices(REQUESTS, web_requests);
}
