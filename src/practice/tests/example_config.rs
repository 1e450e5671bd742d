//! The shipped `config.toml` fits the practice API, shows every option there is, and stays TOML when options are
//! switched on. Whether its options mean what they say is for the tests of the configuration.

use toml::{Table, Value};

use super::super::{PORT, Resource};
use super::calm;
use super::support::{Ask, Server, copy};

const EXAMPLE: &str = include_str!("../../../config.toml");

/// What `config.toml` may and must mention.
const OPTIONS: &str = "
    destination path synchronous busy_timeout allow_network_file_system
    pipeline concurrency channel_pages channel_bytes batch_rows batch_bytes batch_age on_error shutdown_grace
    sources client base_url headers params timeout connect_timeout read_timeout max_page_bytes redirects
    allow_private_addresses
    auth bearer token http_basic username password api_key name location
    retry max_attempts initial_delay max_delay max_elapsed max_retry_after
    rate_limit requests per burst budget remaining_header reset_header reset_format reserve
    paginator single_page header_link rel json_link next_url_path header_cursor header cursor cursor_path cursor_from
    cursor_param cursor_body_path cursor_header has_more_path offset limit offset_param limit_param offset_body_path
    limit_body_path initial_offset total_path total_header page_number base_page page_param page_body_path page_size
    page_size_param auto max_pages stop_on_short_page
    resource_defaults resources method json data_selector table primary_key write_disposition append merge replace
    resume_within response_actions status_code content action retry fail ignore stop rate_limited";

fn resources(config: &Table) -> &Table {
    config["sources"]["practice"]["resources"].as_table().unwrap()
}

/// The example with every `#option` switched on.
fn with_all_options() -> String {
    let switch_on = |line: &str| match line.strip_prefix('#') {
        Some(option) if option.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => format!("{option}\n"),
        _ => format!("{line}\n"),
    };
    EXAMPLE.lines().map(switch_on).collect()
}

#[test]
fn the_example_shows_every_option() {
    let words: Vec<&str> = EXAMPLE.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    let missing: Vec<&str> = OPTIONS.split_whitespace().filter(|option| !words.contains(option)).collect();
    assert_eq!(missing, [""; 0]);
}

#[test]
fn the_example_stays_toml_with_all_options_switched_on() {
    let as_shipped: Table = EXAMPLE.parse().unwrap();
    let with_all: Table = with_all_options().parse().unwrap();
    assert!(EXAMPLE.starts_with("#:schema ./config.schema.json\n"));
    assert_eq!(resources(&as_shipped).len(), 8);
    let names: Vec<_> = resources(&with_all).keys().map(String::as_str).collect();
    let mut wanted = Resource::ALL.map(Resource::name);
    wanted.sort_unstable();
    assert_eq!(
        {
            let mut names = names;
            names.sort_unstable();
            names
        },
        wanted
    );
}

#[tokio::test]
async fn the_example_asks_what_the_practice_api_answers() {
    let config: Table = with_all_options().parse().unwrap();
    let base_url = config["sources"]["practice"]["client"]["base_url"].as_str().unwrap();
    let base_path = base_url.strip_prefix(&format!("http://127.0.0.1:{PORT}")).expect("the port of the practice API");
    let server = Server::start(calm()).await;
    for resource in Resource::ALL {
        let options = resources(&config)[resource.name()].as_table().unwrap();
        let text = |name: &str| options.get(name).and_then(Value::as_str);
        let path = format!("{base_path}{}", text("path").unwrap_or(resource.name()));
        assert_eq!(path, resource.path());
        assert_eq!(text("method").unwrap_or("GET"), if resource == Resource::Search { "POST" } else { "GET" });
        let key: Vec<&str> = match options.get("primary_key") {
            None => Vec::new(),
            Some(Value::String(column)) => vec![column],
            Some(columns) => columns.as_array().unwrap().iter().map(|column| column.as_str().unwrap()).collect(),
        };
        assert_eq!(key, resource.key());
        let json = options.get("json").filter(|_| resource == Resource::Search);
        let ask = Ask { json: json.map(|json| serde_json::to_value(json).unwrap()), ..Ask::get(&path) };
        let (records, next) = server.send(&ask).await.page(resource, &ask);
        assert_eq!(next.is_none(), resource == Resource::Regions);
        let kind = options["paginator"]["type"].as_str().unwrap();
        assert!(resource.paging().starts_with(kind), "{resource:?} pages by {kind}");
        let super::Served::Keyed(rows) = copy(resource, &records) else { continue };
        assert_eq!(rows.len(), records.len(), "{resource:?}: the key is unique");
    }
}
