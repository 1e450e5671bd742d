//! The example of the vocabulary, and what becomes of `resource_defaults`.

use super::{CLIENT, Env, load_text, loaded, problems};
use crate::rest::paginator::Paginator;

const EXAMPLE: &str = include_str!("../../../docs/example.toml");

#[test]
fn the_example_of_the_vocabulary_loads() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("stripe"), "sk_test\n").unwrap();
    let credentials = dir.path().to_str().unwrap();
    let env = Env::with([("GITHUB_TOKEN", "ghp"), ("SHOP_KEY", "key"), ("CREDENTIALS_DIRECTORY", credentials)]);
    let text = EXAMPLE.replace("${file:/run/secrets/stripe}", "${cred:stripe}");
    let loaded = load_text("config.toml", &text, &env).unwrap_or_else(|report| panic!("{report}"));

    let sources = &loaded.config.sources;
    assert_eq!(sources.keys().collect::<Vec<_>>(), ["github", "stripe", "shop"], "the order of the file");
    let issues = &sources["github"].resources["issues"];
    let params: Vec<_> = issues.params.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(
        params,
        ["state=all", "sort=updated", "direction=asc", "since=${incremental.start_value}", "per_page=100"]
    );
    assert_eq!(issues.primary_key.as_ref().unwrap().0, ["id"]);
    assert!(sources["github"].resource_defaults.is_none(), "handed down");
    assert_eq!(loaded.hints.len(), 1, "{:?}", loaded.hints);
    assert!(loaded.hints[0].contains("GITHUB_TOKEN, SHOP_KEY"), "{:?}", loaded.hints);
}

#[test]
fn an_empty_file_is_a_configuration_with_nothing_to_read() {
    let loaded = loaded("");
    assert_eq!(loaded.config.pipeline.concurrency, 8);
    assert_eq!(loaded.hints, ["nothing to read: no source is enabled and has a resource"]);
}

#[test]
fn defaults_merge_into_tables_but_not_into_a_paginator_of_another_type() {
    let text = format!(
        r#"{CLIENT}
        [sources.s.resource_defaults]
        headers = {{ a = "1", b = "1" }}
        params = {{ type = "x", n = 1 }}
        paginator = {{ type = "offset", limit = 10, max_pages = 3 }}
        [sources.s.resources.same]
        headers = {{ b = "2" }}
        params = {{ type = "y" }}
        paginator = {{ limit = 20 }}
        [sources.s.resources.other]
        paginator = {{ type = "single_page" }}
        "#
    );
    let config = loaded(&text).config;
    let same = &config.sources["s"].resources["same"];
    let headers: Vec<_> = same.headers.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(headers, ["b=2", "a=1"]);
    assert_eq!(same.params["type"].to_string(), "y", "a parameter named `type` is no tag");
    assert_eq!(same.params["n"].to_string(), "1");
    let Some(Paginator::Offset(offset)) = &same.paginator else { panic!("{:?}", same.paginator) };
    assert_eq!((offset.limit, offset.max_pages), (20, Some(3)));
    let other = &config.sources["s"].resources["other"];
    assert!(matches!(other.paginator, Some(Paginator::SinglePage(_))), "{:?}", other.paginator);
}

#[test]
fn what_is_wrong_in_the_defaults_is_said_once_where_it_stands() {
    let text = format!(
        "{CLIENT}[sources.s.resource_defaults]\nconcurrency = 0\ntabel = \"x\"\npaginator = {{ max_pages = 0 }}\n[sources.s.resources.a]\n[sources.s.resources.b]\n"
    );
    let found = problems(super::load(&text));
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(found[0].starts_with("sources.s.resource_defaults.concurrency: must be at least 1"), "{found:#?}");
    assert!(found[1].starts_with("sources.s.resource_defaults.tabel: unknown key `tabel`"), "{found:#?}");
}

#[test]
fn words_of_other_tools_are_read_with_a_hint() {
    let text = r#"
        [sources.s.client]
        url_base = "https://api.test/"
        [sources.s.streams.a]
        records_path = "data"
    "#;
    let loaded = loaded(text);
    assert_eq!(loaded.config.sources["s"].resources["a"].data_selector.as_deref(), Some("data"));
    assert_eq!(loaded.hints.len(), 3, "{:?}", loaded.hints);
    assert!(loaded.hints.iter().any(|hint| hint == "sources.s.streams: `streams` is called `resources` here"));

    let found = problems(super::load(&text.replace("url_base", "base_url = \"https://b.test/\"\nurl_base")));
    assert_eq!(
        found,
        ["sources.s.client.url_base: `url_base` means `base_url`, which is set as well (keep `base_url`)"]
    );
}

#[test]
fn a_relative_database_belongs_into_the_service_s_own_folder() {
    for (path, folders, expected) in [
        ("", "/var/lib/highwater", "/var/lib/highwater/highwater.db"),
        ("path = 'data/x.db'", "/var/lib/highwater:/var/lib/other", "/var/lib/highwater/data/x.db"),
        ("path = '/srv/x.db'", "/var/lib/highwater", "/srv/x.db"),
        ("path = 'x.db'", "", "x.db"),
    ] {
        let text = format!("[destination]\n{path}\n{CLIENT}");
        let loaded = load_text("config.toml", &text, &Env::with([("STATE_DIRECTORY", folders)])).unwrap();
        assert_eq!(loaded.config.destination.path.to_str(), Some(expected), "{path} {folders}");
    }
}

#[test]
fn a_resource_is_read_when_it_says_itself_else_as_the_defaults_say_else_as_the_source_says() {
    let when = |source: &str, defaults: &str, resource: &str| {
        let text = format!(
            "{CLIENT}[sources.s]\n{source}\n[sources.s.resource_defaults]\n{defaults}\n[sources.s.resources.r]\n{resource}\n"
        );
        let source = &loaded(&text).config.sources["s"];
        source.schedule_of(&source.resources["r"]).map(|schedule| schedule.to_string())
    };
    for (source, defaults, resource, expected) in [
        ("", "", "", None),
        ("every = '15m'", "", "", Some("every 15m")),
        ("schedule = '@daily'", "", "", Some("@daily (UTC)")),
        ("every = '15m'", "", "every = '5m'", Some("every 5m")),
        ("every = '15m'\ntimezone = 'europe/berlin'", "", "schedule = '0  3 * * *'", Some("0 3 * * * (Europe/Berlin)")),
        ("schedule = '@daily'\njitter = '1m'", "", "every = '5m'", Some("every 5m, up to 1m later")),
        ("every = '15m'", "schedule = '@daily'", "", Some("@daily (UTC)")),
        // A trigger of its own stands for both keys.
        ("", "schedule = '@daily'", "every = '5m'", Some("every 5m")),
        ("", "every = '5m'", "schedule = '@daily'", Some("@daily (UTC)")),
    ] {
        assert_eq!(when(source, defaults, resource).as_deref(), expected, "{source} {defaults} {resource}");
    }
}

#[test]
fn the_page_is_for_this_machine_unless_it_is_told_otherwise() {
    use crate::web::Listen;
    let web = loaded("").config.web;
    assert_eq!((web.listen, web.token), ("127.0.0.1:8642".parse().unwrap(), None));
    let text = "[web]\nlisten = \"off\"\ntoken = \"${env:PASS}\"";
    let web = load_text("config.toml", text, &Env::with([("PASS", "canary-canary-canary")])).unwrap().config.web;
    assert!(web.listen == Listen::Off && !format!("{web:?}").contains("canary"), "{web:?}");
    assert_eq!(web.token.unwrap().expose(), "canary-canary-canary");
}
