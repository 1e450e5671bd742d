//! Every rule across keys has a case that breaks it.

use super::{CLIENT, load, loaded, problems};

/// Loads a client with these lines, and a resource `r` with those.
fn broken(client: &str, resource: &str) -> Vec<String> {
    problems(load(&text(client, resource)))
}

fn text(client: &str, resource: &str) -> String {
    format!("{CLIENT}{client}\n[sources.s.resources.r]\n{resource}\n")
}

/// Each case breaks one rule, whose report starts like this.
fn assert_all_broken(prefix: &str, cases: &[(&str, &str)], load: impl Fn(&str) -> Vec<String>) {
    for (lines, expected) in cases {
        let found = load(lines);
        assert!(
            found.len() == 1 && found[0].starts_with(&format!("{prefix}{expected}")),
            "{lines}\nexpected {prefix}{expected}\nfound {found:#?}"
        );
    }
}

#[test]
fn rules_for_a_client() {
    let cases = [
        ("headers = { \"a b\" = \"x\" }", "headers.\"a b\": is not a name of a header"),
        ("headers = { a = \"x\", A = \"y\" }", "headers.A: is there twice"),
        ("headers = { a = \"x\\ny\" }", "headers.a: holds characters"),
        ("timeout = \"0s\"", "timeout: must be more than 0s"),
        ("connect_timeout = \"0s\"", "connect_timeout: must be more than 0s"),
        ("timeout = \"25h\"", "timeout: must be at most 1d"),
        ("connect_timeout = \"25h\"", "connect_timeout: must be at most 1d"),
        ("read_timeout = \"25h\"", "read_timeout: must be at most 1d"),
        ("rate_limit = { requests = 1, per = \"32d\" }", "rate_limit.per: must be at most 31d"),
        ("retry = { max_elapsed = \"600w\" }", "retry.max_elapsed: `600w` is longer than 10 years"),
        ("read_timeout = \"0ms\"", "read_timeout: must be more than 0s"),
        ("max_page_bytes = \"1B\"", "max_page_bytes: must be between 1KiB and 1GiB"),
        ("max_page_bytes = \"2GiB\"", "max_page_bytes: must be between 1KiB and 1GiB"),
        ("retry = { initial_delay = \"2m\" }", "retry.initial_delay: must not be longer than `max_delay` (1m)"),
        ("retry = { initial_delay = \"0s\" }", "retry.initial_delay: must be more than 0s"),
        ("retry = { max_elapsed = \"0s\" }", "retry.max_elapsed: must be more than 0s"),
        ("retry = { max_attempts = 0 }", "retry.max_attempts: must be at least 1"),
        ("auth = { type = \"http_basic\", username = \"a:b\" }", "auth.username: must not hold a colon"),
        ("auth = { type = \"bearer\", token = \"\" }", "auth.token: is empty"),
        ("auth = { type = \"api_key\", name = \"a b\", api_key = \"${env:PATH:-}\" }", "auth."),
        ("rate_limit = { requests = 1, per = \"0s\" }", "rate_limit.per: must be more than 0s"),
        ("rate_limit = { requests = 0 }", "rate_limit.requests: must be at least 1"),
        ("rate_limit = { concurrency = 1, per = \"1s\" }", "rate_limit.per: `per` means nothing without `requests`"),
        ("rate_limit = { concurrency = 1, burst = 5 }", "rate_limit.burst: `burst` means nothing"),
        (
            "rate_limit = { remaining_header = \"a\" }",
            "rate_limit.remaining_header: `remaining_header` means nothing without `reset_header`",
        ),
        ("rate_limit = { reset_format = \"delta\" }", "rate_limit.reset_format: `reset_format` means nothing"),
        ("rate_limit = { reserve = 5 }", "rate_limit.reserve: `reserve` means nothing"),
        ("rate_limit = { reset_header = \"a b\" }", "rate_limit.reset_header: is not a name of a header"),
        ("rate_limit = { budget = \"none\" }", "rate_limit.budget: no source defines the budget `none`"),
    ];
    let one = |lines: &str| {
        let mut found = broken(lines, "");
        if lines.contains("a b\", api_key") {
            assert_eq!(found.len(), 2, "{found:#?}");
            found.truncate(1);
        }
        found
    };
    assert_all_broken("sources.s.client.", &cases, one);
}

/// `auth` of a type with the keys that it needs, and these.
fn auth(kind: &str, keys: &str) -> String {
    let needed: &[(&str, &str)] = match kind {
        "session_token" => &[("login", "{ path = \"login\" }"), ("token_path", "\"id\"")],
        "oauth2_refresh_token" => &[("access_token_url", URL), ("client_id", "\"me\""), ("refresh_token", SECRET)],
        _ => &[("access_token_url", URL), ("client_id", "\"me\""), ("client_secret", SECRET)],
    };
    let needed = needed.iter().filter(|(key, _)| !keys.contains(&format!("{key} =")));
    let needed: String = needed.map(|(key, value)| format!(", {key} = {value}")).collect();
    format!("auth = {{ type = \"{kind}\"{needed}, {keys} }}")
}

const URL: &str = "\"https://auth.test/token?v=2\"";
const SECRET: &str = "\"${env:A}\"";

fn load_auth(kind: &str, keys: &str, resource: &str) -> Result<super::Loaded, super::Report> {
    let text = format!("{}{}\n[sources.s.resources.r]\n{resource}\n", super::CLIENT, auth(kind, keys));
    super::load_text("config.toml", &text, &super::Env::with([("A", "a-secret")]))
}

#[test]
fn rules_for_credentials_that_are_asked_for() {
    const CLIENT: &str = "oauth2_client_credentials";
    const REFRESH: &str = "oauth2_refresh_token";
    const SESSION: &str = "session_token";
    for (kind, keys, expected) in [
        (CLIENT, "access_token_url = \"auth.test\"", "access_token_url: is not a URL"),
        (CLIENT, "access_token_url = \"https://me:pw@auth.test/\"", "access_token_url: must not hold a user name"),
        (CLIENT, "access_token_url = \"https://auth.test/#a\"", "access_token_url: must not have a fragment"),
        (REFRESH, "access_token_url = \"ftp://auth.test/\"", "access_token_url: must start with `https://`"),
        (CLIENT, "client_secret = \"\"", "client_secret: is empty"),
        (CLIENT, "client_secret = \"in-the-open\"", "client_secret: a secret is never written in the file"),
        (REFRESH, "refresh_token = \"in-the-open\"", "refresh_token: a secret is never written in the file"),
        (REFRESH, "client_id = \"\"", "client_id: is empty"),
        (REFRESH, "client_auth = \"basic\"", "client_auth: `basic` needs a `client_secret`"),
        (CLIENT, "client_auth = \"post\"", "client_auth: `post` is not one of the accepted values"),
        (CLIENT, "scopes = [\"a\", \"b c\"]", "scopes[1]: is not a scope"),
        (
            CLIENT,
            "access_token_request_data = { password = \"in-the-open\" }",
            "access_token_request_data.password: a secret is never written in the file",
        ),
        (SESSION, "login = { path = \"https://evil.test/\" }", "login.path: a full URL must be on the origin"),
        (SESSION, "login = { path = \"l\", method = \"GET\", json = { a = 1 } }", "login.json: a GET request has no"),
        (
            SESSION,
            "login = { path = \"l\", json = { password = \"in-the-open\" } }",
            "login.json.password: a secret is never written in the file",
        ),
        (SESSION, "token_path = \"$.[\"", "token_path: is not JSONPath"),
        (SESSION, "token_path = \"a..b\"", "token_path: "),
        (SESSION, "name = \"a b\"", "name: is not a name of a header"),
        (SESSION, "prefix = \"a\\nb\"", "prefix: holds characters"),
        (SESSION, "location = \"cookie\", prefix = \"a b\"", "prefix: holds characters that a cookie"),
    ] {
        let report = load_auth(kind, keys, "").expect_err(keys);
        assert!(!report.to_string().contains("in-the-open"), "{report}");
        let found = problems(Err(report));
        let expected = format!("sources.s.client.auth.{expected}");
        assert!(found.len() == 1 && found[0].starts_with(&expected), "{keys}: {found:#?}");
    }
    for (kind, keys, hints) in [
        (CLIENT, "access_token_url = \"http://auth.test/\"", 1),
        (CLIENT, "access_token_url = \"http://localhost/\"", 0),
        (CLIENT, "scopes = [\"https://a.test/b\"], access_token_request_data = { audience = \"x\" }", 0),
        (REFRESH, "scopes = []", 0),
        (SESSION, "name = \"a b\", location = \"query\"", 0),
    ] {
        let loaded = load_auth(kind, keys, "").unwrap_or_else(|report| panic!("{report}"));
        let found = loaded.hints.iter().filter(|hint| hint.contains("unencrypted")).count();
        assert_eq!(found, hints, "{keys} {:?}", loaded.hints);
    }
}

#[test]
fn a_refresh_token_that_two_sources_share_is_hinted_at() {
    let source = |name: &str, client: &str| {
        let auth = auth("oauth2_refresh_token", &format!("client_id = \"{client}\""));
        let resource = format!("[sources.{name}.resources.r]\n");
        format!("[sources.{name}.client]\nbase_url = \"https://api.test/\"\n{auth}\n{resource}")
    };
    for (other, hints) in [("me", 1), ("you", 0)] {
        let text = format!("{}{}", source("a", "me"), source("b", other));
        let loaded = super::load_text("config.toml", &text, &super::Env::with([("A", "a-secret")])).unwrap();
        let found = loaded.hints.iter().filter(|hint| hint.contains("refresh_token: is that of `a`, too")).count();
        assert_eq!(found, hints, "{:?}", loaded.hints);
    }
}

#[test]
fn there_must_be_something_to_renew_for_refresh_auth() {
    let action = "response_actions = [{ status_code = 403, action = \"refresh_auth\" }]";
    for kind in ["oauth2_client_credentials", "oauth2_refresh_token", "session_token"] {
        load_auth(kind, "", action).unwrap_or_else(|report| panic!("{report}"));
    }
    let path = "sources.s.resources.r.response_actions[0].action: there is nothing to renew: ";
    for (auth, expected) in [
        ("", "the client has no `auth`"),
        ("auth = { type = \"http_basic\", username = \"u\" }", "`http_basic` stands in the configuration"),
    ] {
        let found = broken(auth, action);
        assert!(found.len() == 1 && found[0].starts_with(&format!("{path}{expected}")), "{found:#?}");
    }
    let found = problems(load_auth("session_token", "token_path = 5", action));
    assert!(found.len() == 1 && found[0].contains("auth.token_path"), "an `auth` that is wrong elsewhere: {found:#?}");
}

#[test]
fn rules_for_a_base_url() {
    for (url, expected) in [
        ("api.test", "is not a URL"),
        ("", "must not be empty"),
        ("ftp://api.test/", "must start with `https://`"),
        ("https://u:p@api.test/", "must not hold a user name"),
        ("https://api.test/?a=1", "must not have a query"),
        ("https://api.test/#a", "must not have a query or a fragment"),
    ] {
        let found = problems(load(&format!("[sources.s.client]\nbase_url = \"{url}\"\n[sources.s.resources.r]\n")));
        assert!(
            found.len() == 1 && found[0].starts_with(&format!("sources.s.client.base_url: {expected}")),
            "{found:#?}"
        );
    }
    let auth = "auth = { type = \"http_basic\", username = \"u\" }";
    for (url, hints) in
        [("http://api.test/", 1), ("http://127.0.0.1:80/", 0), ("http://[::1]/", 0), ("https://api.test/", 0)]
    {
        let loaded = loaded(&format!("[sources.s.client]\nbase_url = \"{url}\"\n{auth}\n[sources.s.resources.r]\n"));
        assert_eq!(loaded.hints.len(), hints, "{url} {:?}", loaded.hints);
    }
}

#[test]
fn rules_for_a_paginator() {
    let cases = [
        (
            "type = \"cursor\", cursor_path = \"a\"",
            ": one of `cursor_param`, `cursor_body_path`, `cursor_header` must say where the token goes",
        ),
        (
            "type = \"cursor\", cursor_param = \"a\"",
            ": one of `cursor_path`, `cursor_from` must say where the token is",
        ),
        (
            "type = \"cursor\", cursor_path = \"a\", cursor_from = \"last_record.a\", cursor_param = \"a\"",
            ".cursor_from: `cursor_from` and `cursor_path` exclude",
        ),
        (
            "type = \"cursor\", cursor_path = \"a\", cursor_header = \"b\", cursor_param = \"a\"",
            ".cursor_header: `cursor_header` and `cursor_param` exclude",
        ),
        (
            "type = \"cursor\", cursor_from = \"first.a\", cursor_param = \"a\"",
            ".cursor_from: must be `last_record.FIELD`",
        ),
        (
            "type = \"cursor\", cursor_from = \"last_record.\", cursor_param = \"a\"",
            ".cursor_from: must be `last_record.FIELD`",
        ),
        ("type = \"cursor\", cursor_path = \"a\", cursor_header = \"b c\"", ".cursor_header: is not a name"),
        (
            "type = \"cursor\", cursor_path = \"a\", cursor_body_path = \"b\"",
            ".cursor_body_path: `cursor_body_path` needs a `json` table, a `form` or `graphql`",
        ),
        ("type = \"json_link\", next_url_path = \"$.next\"", ".next_url_path: is a dotted path here"),
        ("type = \"json_link\", next_url_path = \"a..b\"", ".next_url_path: is a dotted path such as"),
        ("type = \"json_link\"", ".next_url_path: the key `next_url_path` is missing"),
        ("type = \"header_cursor\", header = \"a b\", cursor_param = \"c\"", ".header: is not a name"),
        ("type = \"offset\", limit = 1, offset_param = \"a\", offset_body_path = \"b\"", ".offset_body_path: "),
        (
            "type = \"offset\", limit = 1, total_path = \"a\", total_header = \"b\"",
            ".total_header: `total_header` and `total_path` exclude",
        ),
        ("type = \"offset\", limit = 0", ".limit: must be at least 1"),
        ("type = \"page_number\", page_size = 5", ".page_size: `page_size` needs `page_size_param`"),
        ("type = \"page_number\", page_size_param = \"a\"", ".page_size_param: `page_size_param` needs `page_size`"),
        ("type = \"page_number\", page_body_path = \"a\"", ".page_body_path: `page_body_path` needs"),
        ("max_pages = 5", ".type: the key `type` is missing"),
    ];
    let one = |lines: &str| {
        let mut found = broken(&format!("paginator = {{ {lines} }}"), "");
        if lines.contains("offset_param") {
            assert_eq!(found.len(), 2, "the body as well: {found:#?}");
            found.truncate(1);
        }
        found
    };
    assert_all_broken("sources.s.client.paginator", &cases, one);
    loaded(&text(
        "paginator = { type = \"cursor\", cursor_path = \"a\", cursor_body_path = \"b\" }",
        "method = \"POST\"\njson = {}",
    ));
    for body in ["json = {}", "form = {}"] {
        loaded(&text("paginator = { type = \"cursor\", cursor_path = \"a\", cursor_body_path = \"b\" }", body));
    }
}

#[test]
fn rules_for_a_resource() {
    let cases = [
        ("write_disposition = \"merge\"", "write_disposition: `merge` needs a `primary_key`"),
        ("primary_key = []", "primary_key: an empty list"),
        ("primary_key = [\"a\", \"a\"]", "primary_key: names a column twice"),
        ("primary_key = 5", "primary_key: expected a string or a list, found an integer"),
        ("method = \"GET\"\njson = { a = 1 }", "json: a GET request has no body"),
        ("concurrency = 2", "concurrency: more than one page in flight needs"),
        ("concurrency = 2\npaginator = { type = \"header_link\" }", "concurrency: more than one page in flight needs"),
        ("path = \"https://api.test.evil.com/x\"", "path: a full URL must be on the origin"),
        ("path = \"HTTP://api.test/x\"", "path: a full URL must be on the origin"),
        ("path = \"https://u:p@api.test/x\"", "path: must not hold a user name"),
        ("path = \"x#y\"", "path: must not have a fragment"),
        ("data_selector = \"$.[\"", "data_selector: is not JSONPath"),
        ("data_selector = \"a..b\"", "data_selector: is a dotted path"),
        ("data_selector = \"\"", "data_selector: must not be empty"),
        ("headers = { \"a b\" = \"x\" }", "headers.\"a b\": is not a name"),
        ("table = \"a b\"", "table: a table's name has letters"),
        ("table = \"_HW_x\"", "table: a table's name cannot start with `_hw_`"),
        ("table = \"sqlite_x\"", "table: a table's name cannot start with `sqlite_`"),
        ("response_actions = [{ action = \"fail\" }]", "response_actions[0]: has no condition"),
        (
            "response_actions = [{ status_code = [], action = \"fail\" }]",
            "response_actions[0].status_code: an empty list",
        ),
        (
            "response_actions = [{ status_code = 42, action = \"fail\" }]",
            "response_actions[0].status_code: must be at least 100",
        ),
        (
            "response_actions = [{ status_code = \"4x\", action = \"fail\" }]",
            "response_actions[0].status_code: \"4x\" is not a status code",
        ),
        ("response_actions = [{ status_code = 404 }]", "response_actions[0].action: the key `action` is missing"),
        (
            "response_actions = [{ when = \"status ==\", action = \"fail\" }]",
            "response_actions[0].when: is not an expression",
        ),
        (
            "response_actions = [{ when = \"bdy.x\", action = \"fail\" }]",
            "response_actions[0].when: there is no `bdy` here (did you mean `body`?",
        ),
        ("processing_steps = [{}]", "processing_steps[0]: a step has exactly one of `filter`"),
        (
            "processing_steps = [{ filter = \"a\" }, { filter = \"b |\" }]",
            "processing_steps[1].filter: is not an expression",
        ),
        (
            "processing_steps = [{ add = { a = \"b | uper\" } }]",
            "processing_steps[0].add.a: there is no filter `uper` (did you mean `upper`?",
        ),
        ("processing_steps = [{ add = { a = 1 } }]", "processing_steps[0].add.a: expected a string"),
        ("processing_steps = [{ rename = { a = \"c\", b = \"c\" } }]", "processing_steps[0].rename.b: two fields get"),
        ("processing_steps = [{ remove = [] }]", "processing_steps[0].remove: an empty list"),
        (
            "primary_key = [\"a\", \"b\"]\nprocessing_steps = [{ rename = { b = \"c\" } }]",
            "processing_steps[0]: takes the primary key `b` off every record (the key is looked up after",
        ),
    ];
    assert_all_broken("sources.s.resources.r.", &cases, |lines| broken("", lines));
    for fine in [
        "path = \"https://api.test/x?y=1\"",
        "path = \"https://api.test:443/x\"",
        "path = \"\"",
        "data_selector = \"$.data[*]\"",
        "write_disposition = \"replace\"",
        "concurrency = 2\npaginator = { type = \"offset\", limit = 5 }",
        "processing_steps = []",
        "primary_key = \"k\"\nprocessing_steps = [{ rename = { id = \"k\" } }, { hash = \"k\" }, { remove = \"a.b\" }]",
        "response_actions = [{ when = \"status in range(400, 405) and body.error is defined\", action = \"fail\" }]",
    ] {
        loaded(&text("", fine));
    }
}

#[test]
fn rules_for_names_and_tables() {
    let names = [
        ("[sources.\"a b\".client]\nbase_url = \"https://x.test/\"", "sources.\"a b\": a name has letters"),
        (&format!("{CLIENT}[sources.s.resources.\"é\"]"), "sources.s.resources.\"é\": a name has letters"),
        (
            "[sources._hw.client]\nbase_url = \"https://x.test/\"\n[sources._hw.resources.x]",
            "sources._hw.resources.x: a table's name cannot start with",
        ),
        (
            &format!("{CLIENT}[sources.s.resources.a]\n[sources.s.resources.b]\ntable = \"S_A\""),
            "sources.s.resources.b.table: the table `S_A` is also filled by sources.s.resources.a",
        ),
        (
            "[sources.a_b.client]\nbase_url = \"https://x.test/\"\n[sources.a_b.resources.c]\n[sources.a.client]\nbase_url = \"https://x.test/\"\n[sources.a.resources.b_c]",
            "sources.a.resources.b_c: the table `a_b_c` is also filled by",
        ),
        (
            "[sources.s.client]\nbase_url = \"https://x.test\"\n[sources.s.resources.r]",
            "sources.s.resources.r.path: is joined with `base_url` as text",
        ),
    ];
    assert_all_broken("", &names, |text| problems(load(text)));
}

#[test]
fn rules_for_the_pipeline_and_the_destination() {
    let cases = [
        ("[pipeline]\nchannel_bytes = \"1KiB\"", "pipeline.channel_bytes: must be between 1MiB"),
        ("[pipeline]\nbatch_bytes = \"1B\"", "pipeline.batch_bytes: must be between 1KiB and 1GiB"),
        ("[pipeline]\nbatch_rows = 0", "pipeline.batch_rows: must be at least 1"),
        ("[pipeline]\nbatch_rows = 99999999", "pipeline.batch_rows: must be at most"),
        ("[pipeline]\nbatch_age = \"2h\"", "pipeline.batch_age: must be at most 1h"),
        ("[pipeline]\nbatch_age = \"0s\"", "pipeline.batch_age: must be more than 0s"),
        ("[pipeline]\nbatch_age = \"5 minutes\"", "pipeline.batch_age: `5 minutes` is not a duration"),
        ("[pipeline]\nbatch_age = 5", "pipeline.batch_age: expected a duration such as \"30s\", found an integer"),
        ("[pipeline]\nchannel_bytes = \"8 mb\"", "pipeline.channel_bytes: `8 mb` is not a size"),
        ("[pipeline]\nconcurrency = \"8\"", "pipeline.concurrency: expected a whole number, found a string"),
        (
            "[pipeline]\non_error = \"stop\"",
            "pipeline.on_error: `stop` is not one of the accepted values (accepted: `continue`, `fail_fast`)",
        ),
        ("[destination]\npath = \":memory:\"", "destination.path: must be the path of a file"),
        ("[destination]\npath = \"\"", "destination.path: must not be empty"),
        ("[destination]\nbusy_timeout = \"0s\"", "destination.busy_timeout: must be more than 0s"),
        ("[destination]\nbusy_timeout = \"61m\"", "destination.busy_timeout: must be at most 1h"),
        ("[pipeline]\nshutdown_grace = \"2h\"", "pipeline.shutdown_grace: must be at most 1h"),
        ("pipeline = 5", "pipeline: expected a table, found an integer"),
    ];
    assert_all_broken("", &cases, |text| problems(load(text)));
}

#[test]
fn a_budget_is_defined_once_and_referred_to_by_name() {
    let two = |a: &str, b: &str| {
        format!(
            "[sources.a.client]\nbase_url = \"https://a.test/\"\nrate_limit = {a}\n[sources.b.client]\nbase_url = \"https://b.test/\"\nrate_limit = {b}\n"
        )
    };
    let shared = "{ requests = 5, budget = \"x\" }";
    let config = loaded(&two("{ budget = \"x\" }", shared)).config;
    let limit = |name: &str| config.sources[name].client.rate_limit.clone().unwrap();
    assert_eq!(limit("a"), limit("b"), "a reference has the settings that it refers to");
    let by_source = loaded(&two("{ requests = 7 }", "{ budget = \"a\" }")).config;
    assert_eq!(by_source.sources["b"].client.rate_limit.as_ref().unwrap().requests, Some(7));
    loaded(&two(shared, shared));
    let found = problems(load(&two(shared, "{ requests = 6, budget = \"x\" }")));
    assert!(
        found.len() == 1
            && found[0].starts_with("sources.b.client.rate_limit.budget: the budget `x` has other settings"),
        "{found:#?}"
    );
    let found = problems(load(&two(shared, "{ budget = \"y\" }")));
    assert!(found.len() == 1 && found[0].contains("did you mean `x`?"), "{found:#?}");
}

#[test]
fn a_budget_has_no_name_of_a_source_that_does_not_share_it() {
    let config = |a: &str, b: &str| {
        let client = |name: &str, lines: &str| {
            format!("[sources.{name}.client]\nbase_url = \"https://{name}.test/\"\n{lines}\n")
        };
        format!("{}{}", client("a", a), client("b", b))
    };
    let named = "rate_limit = { requests = 5, budget = \"b\" }";
    for other in ["", "rate_limit = { requests = 7, budget = \"c\" }"] {
        let found = problems(load(&config(named, other)));
        let expected = "sources.a.client.rate_limit.budget: `b` is also a source, which does not share this budget";
        assert!(found.len() == 1 && found[0].starts_with(expected), "{found:#?}");
    }
    for other in [named, "rate_limit = { budget = \"b\" }", "rate_limit = { requests = 5 }"] {
        loaded(&config(named, other));
    }
    loaded(&config("rate_limit = { requests = 5, budget = \"a\" }", ""));
}

#[test]
fn an_expression_that_was_filled_in_is_not_quoted() {
    let text = text("", "processing_steps = [{ filter = \"${env:CANARY}\" }]");
    let env = super::Env::with([("CANARY", "a | canary_filter")]);
    let report = super::load_text("config.toml", &text, &env).unwrap_err().to_string();
    assert!(report.contains("processing_steps[0].filter: is not an expression that can be evaluated"), "{report}");
    assert!(!report.contains("canary_filter"), "{report}");
}

#[test]
fn what_goes_with_no_schedule_is_worth_a_hint() {
    for (source, resource, expected) in [
        ("timezone = \"UTC\"", "", &["sources.s.timezone: means nothing without a `schedule`"][..]),
        ("timezone = \"UTC\"\nevery = \"1h\"", "", &["sources.s.timezone: means nothing without a `schedule`"]),
        ("timezone = \"UTC\"", "schedule = \"@daily\"", &[]),
        ("jitter = \"1m\"", "", &["sources.s.jitter: means nothing without a `schedule` or `every`"]),
        ("jitter = \"1m\"", "every = \"1m\"", &[]),
        ("jitter = \"1d\"\nschedule = \"@daily\"", "", &[]),
    ] {
        let text = format!("{CLIENT}[sources.s]\n{source}\n[sources.s.resources.r]\n{resource}\n");
        assert_eq!(loaded(&text).hints, expected, "{source} {resource}");
    }
}

#[test]
fn a_schedule_that_is_wrong_hides_no_other_problem() {
    for wrong in ["schedule = \"daily\"", "every = \"often\"", "timezone = \"Mars\"", "jitter = \"some\""] {
        let found = problems(load(&format!(
            "{CLIENT}timeout = \"0s\"\n[sources.s]\n{wrong}\n[sources.s.resources.r]\nwrite_disposition = \"merge\"\n"
        )));
        assert_eq!(found.len(), 3, "{found:#?}");
    }
}
