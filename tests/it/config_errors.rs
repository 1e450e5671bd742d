//! Nothing starts with a broken configuration, and whoever broke it is told where and how to mend it. The
//! configuration is seen from outside here: a file goes in, what the binary says comes out.

use serde_json::{Value, json};

use crate::support::{Api, Finished, Workspace, finish, numbered, records};

/// Marks in a file the places that carets have to point at. It is taken out before the file is read.
const CARET: char = '‸';

/// A client and the head of a resource, which a case goes on with.
pub(crate) const SHOP: &str =
    "[sources.shop.client]\nbase_url = \"http://127.0.0.1:9/\"\n[sources.shop.resources.items]\n";

/// The head of a client, which a case goes on with, and a resource after it.
const CLIENT: &str = "[sources.shop.resources.items]\n[sources.shop.client]\nbase_url = \"http://127.0.0.1:9/\"\n";

/// A broken file: what it begins with, what is broken, the path of the key, and what has to be said about it.
pub(crate) struct Broken(
    pub(crate) &'static str,
    pub(crate) &'static str,
    pub(crate) &'static str,
    pub(crate) &'static [&'static str],
);

const BROKEN: [Broken; 41] = [
    // Keys that do not exist.
    Broken(
        SHOP,
        "‸pagniator = { type = \"auto\" }",
        "sources.shop.resources.items.pagniator",
        &["did you mean `paginator`?"],
    ),
    Broken(SHOP, "[‸destinaton]\npath = \"x\"", "destinaton", &["did you mean `destination`?"]),
    Broken(SHOP, "‸zebra = 1", "sources.shop.resources.items.zebra", &["the keys here are `path`, `method`"]),
    Broken(
        SHOP,
        "paginator = { type = \"cursor\", ‸limit = 3, cursor_path = \"a\", cursor_param = \"b\" }",
        "sources.shop.resources.items.paginator.limit",
        &["the keys here are", "`cursor_path`"],
    ),
    Broken(
        SHOP,
        "[sources.shop.resource_defaults]\n‸primry_key = \"id\"",
        "sources.shop.resource_defaults.primry_key",
        &["did you mean `primary_key`?"],
    ),
    Broken(
        CLIENT,
        "rate_limit = { requests = 1, ‸pre = \"1s\" }",
        "sources.shop.client.rate_limit.pre",
        &["did you mean `per`?"],
    ),
    // Keys that are missing, or are there twice.
    Broken(
        "",
        "‸[sources.shop.client]\n[sources.shop.resources.items]",
        "sources.shop.client.base_url",
        &["`base_url` is missing"],
    ),
    Broken(
        SHOP,
        "paginator = ‸{ limit = 3 }",
        "sources.shop.resources.items.paginator.type",
        &["`type` is missing", "`page_number`"],
    ),
    Broken(
        SHOP,
        "data_selector = \"a\"\n‸records_path = \"b\"",
        "sources.shop.resources.items.records_path",
        &["means `data_selector`", "keep `data_selector`"],
    ),
    Broken(SHOP, "path = \"a\"\n‸path = \"b\"", "", &["duplicate key"]),
    // Values that are not among the accepted ones.
    Broken(
        SHOP,
        "paginator = { type = ‸\"page_numbr\" }",
        "sources.shop.resources.items.paginator.type",
        &["did you mean `page_number`?", "accepted: `single_page`, `header_link`"],
    ),
    Broken(
        SHOP,
        "write_disposition = ‸\"upsert\"",
        "sources.shop.resources.items.write_disposition",
        &["accepted: `append`, `merge`, `replace`"],
    ),
    Broken(SHOP, "[pipeline]\non_error = ‸\"fail-fast\"", "pipeline.on_error", &["did you mean `fail_fast`?"]),
    Broken(
        SHOP,
        "response_actions = [{ status_code = 404, action = ‸\"skip\" }]",
        "sources.shop.resources.items.response_actions[0].action",
        &["`retry`, `fail`, `ignore`, `stop`"],
    ),
    Broken(
        CLIENT,
        "auth = { type = ‸\"bearar\", token = \"${env:TOKEN}\" }",
        "sources.shop.client.auth.type",
        &["did you mean `bearer`?"],
    ),
    // Values of another kind, and out of bounds.
    Broken(
        CLIENT,
        "timeout = ‸60",
        "sources.shop.client.timeout",
        &["expected a duration such as \"30s\", found an integer"],
    ),
    Broken(
        CLIENT,
        "timeout = ‸\"5 parsecs\"",
        "sources.shop.client.timeout",
        &["`5 parsecs` is not a duration", "\"15m\""],
    ),
    Broken(
        CLIENT,
        "max_page_bytes = ‸\"8 MegaBytes\"",
        "sources.shop.client.max_page_bytes",
        &["is not a size", "\"8MiB\""],
    ),
    Broken(
        CLIENT,
        "rate_limit = { requests = 1, per = ‸\"0s\" }",
        "sources.shop.client.rate_limit.per",
        &["must be more than 0s"],
    ),
    Broken(SHOP, "[pipeline]\nconcurrency = ‸0", "pipeline.concurrency", &["must be at least 1"]),
    Broken(
        SHOP,
        "[pipeline]\nconcurrency = ‸\"8\"",
        "pipeline.concurrency",
        &["expected a whole number, found a string", "without quotes"],
    ),
    Broken("", "sources = ‸3", "sources", &["expected a table, found an integer"]),
    Broken(SHOP, "primary_key = ‸[]", "sources.shop.resources.items.primary_key", &["an empty list"]),
    Broken(SHOP, "[destination]\nsynchronous = ‸\"off\"", "destination.synchronous", &["accepted: `full`, `normal`"]),
    // Values that cannot work.
    Broken(
        "",
        "[sources.shop.resources.items]\n[sources.shop.client]\nbase_url = ‸\"api.example.com\"",
        "sources.shop.client.base_url",
        &["is not a URL such as \"https://api.example.com/\""],
    ),
    Broken(SHOP, "data_selector = ‸\"$.data[\"", "sources.shop.resources.items.data_selector", &["is not JSONPath"]),
    Broken(
        SHOP,
        "write_disposition = ‸\"merge\"",
        "sources.shop.resources.items.write_disposition",
        &["`merge` needs a `primary_key`", "set `primary_key`"],
    ),
    Broken(
        SHOP,
        "table = \"x\"\n[sources.shop.resources.orders]\ntable = ‸\"X\"",
        "sources.shop.resources.orders.table",
        &["is also filled by sources.shop.resources.items", "a `table` of its own"],
    ),
    Broken(SHOP, "table = ‸\"_hw_pages\"", "sources.shop.resources.items.table", &["`_hw_`", "reserved"]),
    Broken(
        SHOP,
        "headers = { ‸\"X Shop\" = \"1\" }",
        "sources.shop.resources.items.headers.\"X Shop\"",
        &["is not a name of a header"],
    ),
    // Placeholders.
    Broken(
        CLIENT,
        "auth = { type = \"bearer\", token = ‸\"${env:NOT_SET}\" }",
        "sources.shop.client.auth.token",
        &["the environment variable `NOT_SET` is not set"],
    ),
    Broken(
        CLIENT,
        "auth = { type = \"bearer\", token = ‸\"${file:/nonexistent/token}\" }",
        "sources.shop.client.auth.token",
        &["cannot read /nonexistent/token"],
    ),
    Broken(
        CLIENT,
        "auth = { type = \"bearer\", token = ‸\"${cred:token}\" }",
        "sources.shop.client.auth.token",
        &["LoadCredential"],
    ),
    Broken(
        SHOP,
        "path = ‸\"items/${envi:X}\"",
        "sources.shop.resources.items.path",
        &["did you mean `env`?", "`${file:/path}`"],
    ),
    Broken(SHOP, "path = ‸\"items/${env:X\"", "sources.shop.resources.items.path", &["has no `}`", "`$${`"]),
    Broken(
        CLIENT,
        "auth = { type = \"bearer\", token = ‸\"hunter2hunter2\" }",
        "sources.shop.client.auth.token",
        &["a secret is never written in the file", "`${env:NAME}`"],
    ),
    Broken(
        SHOP,
        "headers = { Authorization = ‸\"Bearer hunter2hunter2\" }",
        "sources.shop.resources.items.headers.Authorization",
        &["a secret is never written in the file"],
    ),
    // Not TOML at all.
    Broken(SHOP, "path = ‸\n", "", &["not valid TOML"]),
    Broken(
        SHOP,
        "processing_steps = [{ filter = \"a | ‸uper\" }]",
        "sources.shop.resources.items.processing_steps[0].filter",
        &["there is no filter `uper`", "did you mean `upper`?"],
    ),
    Broken(
        SHOP,
        "path = ‸\"x/${partition.repo}\"",
        "sources.shop.resources.items.path",
        &["there are no partitions for `${partition.repo}`"],
    ),
    Broken(
        CLIENT,
        "auth = { type = \"session_token\", login = { path = \"login\" }, token_path = ‸\"$.[\" }",
        "sources.shop.client.auth.token_path",
        &["is not JSONPath (RFC 9535)"],
    ),
];

/// When something is read, and who may reach the status page.
const OF_THE_DAEMON: [Broken; 22] = [
    Broken(
        SHOP,
        "schedule = ‸\"every day\"",
        "sources.shop.resources.items.schedule",
        &["`every day` is not a cron schedule", "\"@daily\""],
    ),
    Broken(SHOP, "schedule = ‸\"0 0 30 2 *\"", "sources.shop.resources.items.schedule", &["never comes"]),
    Broken(
        SHOP,
        "[sources.shop]\nschedule = ‸\"0 0 3 * * *\"",
        "sources.shop.schedule",
        &["`0 0 3 * * *` is not a cron schedule"],
    ),
    Broken(SHOP, "schedule = ‸15", "sources.shop.resources.items.schedule", &["expected a cron schedule such as"]),
    Broken(
        SHOP,
        "[sources.shop.resource_defaults]\nschedule = ‸\"daily\"",
        "sources.shop.resource_defaults.schedule",
        &["`daily` is not a cron schedule"],
    ),
    Broken(
        SHOP,
        "[sources.shop]\nschedule = \"@daily\"\ntimezone = ‸\"Mars/Olympus\"",
        "sources.shop.timezone",
        &["`Mars/Olympus` is not a time zone", "\"Europe/Berlin\""],
    ),
    Broken(
        SHOP,
        "schedule = \"@daily\"\n‸timezone = \"UTC\"",
        "sources.shop.resources.items.timezone",
        &["unknown key `timezone`"],
    ),
    Broken(
        SHOP,
        "schedule = \"@daily\"\nevery = ‸\"1h\"",
        "sources.shop.resources.items.every",
        &["`every` and `schedule` exclude each other"],
    ),
    Broken(
        SHOP,
        "[sources.shop]\nevery = ‸\"1h\"\nschedule = \"@daily\"",
        "sources.shop.every",
        &["`every` and `schedule` exclude each other"],
    ),
    Broken(
        SHOP,
        "[sources.shop.resources.orders]\n[sources.shop.resource_defaults]\nevery = ‸\"1h\"\nschedule = \"@daily\"",
        "sources.shop.resources.items.every",
        &["`every` and `schedule` exclude each other"],
    ),
    Broken(SHOP, "every = ‸\"999ms\"", "sources.shop.resources.items.every", &["must be at least 1s"]),
    Broken(SHOP, "[sources.shop]\nevery = ‸\"0s\"\njitter = \"1s\"", "sources.shop.every", &["must be at least 1s"]),
    Broken(
        SHOP,
        "every = \"10m\"\n[sources.shop]\nevery = \"1h\"\njitter = ‸\"11m\"",
        "sources.shop.jitter",
        &["must not be longer than sources.shop.resources.items.every (10m)"],
    ),
    Broken(
        SHOP,
        "[sources.shop]\nschedule = \"@weekly\"\njitter = ‸\"25h\"",
        "sources.shop.jitter",
        &["must be at most 1d"],
    ),
    Broken(SHOP, "[web]\nlisten = ‸\"localhost:8642\"", "web.listen", &["is not an address", "\"127.0.0.1:8642\""]),
    Broken(SHOP, "[web]\nlisten = ‸\"unix:web.sock\"", "web.listen", &["a socket is named in full"]),
    Broken(
        SHOP,
        "[web]\nlisten = ‸\"0.0.0.0:8642\"",
        "web.listen",
        &["other machines reach this address, and there is no `token`", "`token = \"${env:NAME}\"`"],
    ),
    Broken(SHOP, "[web]\nlisten = ‸\"[::]:8642\"", "web.listen", &["there is no `token`"]),
    Broken(SHOP, "[web]\nlisten = ‸\"192.168.0.7:80\"", "web.listen", &["there is no `token`"]),
    Broken(
        SHOP,
        "[web]\ntoken = ‸\"hunter2hunter2hunter2\"",
        "web.token",
        &["a secret is never written in the file", "`${env:NAME}`"],
    ),
    Broken(SHOP, "[web]\ntoken = ‸\"\"", "web.token", &["must have at least 16 characters"]),
    Broken(SHOP, "[web]\n‸tokn = \"hunter2\"", "web.tokn", &["did you mean `token`?"]),
];

/// The file without its marks, and where they stood: line and column, from 1.
fn without_carets(marked: &str) -> (String, Vec<(usize, usize)>) {
    let mut text = String::new();
    let mut places = Vec::new();
    for (line, content) in marked.lines().enumerate() {
        let mut column = 1;
        for letter in content.chars() {
            if letter == CARET {
                places.push((line + 1, column));
            } else {
                text.push(letter);
                column += 1;
            }
        }
        text.push('\n');
    }
    (text, places)
}

/// What every report has: exit code 78, nothing on stdout, no secret, and nothing was begun.
fn is_refused(workspace: &Workspace, finished: &Finished, case: &str) {
    assert_eq!((finished.code, &*finished.stdout), (Some(78), ""), "{case}: {finished:#?}");
    assert!(!finished.stderr.contains("hunter2"), "{case}: {finished:#?}");
    assert!(!workspace.path("highwater.db").exists(), "{case}: a database was made");
}

#[test]
fn c04_every_broken_file_is_refused_with_its_place_the_reason_and_the_way_out() {
    are_refused(&BROKEN);
}

#[test]
fn c04_what_cannot_be_a_schedule_or_a_safe_page_is_refused_at_its_value() {
    are_refused(&OF_THE_DAEMON);
}

#[test]
fn a_token_that_is_too_short_or_cannot_be_sent_is_refused_without_being_shown() {
    let workspace = Workspace::new();
    workspace.write("config.toml", &format!("{SHOP}[web]\nlisten = \"0.0.0.0:0\"\ntoken = \"${{env:PASS}}\"\n"));
    for (token, said) in [
        ("hunter2hunter2h", "web.token: must have at least 16 characters"),
        ("hunter2 and hunter2", "web.token: must be ASCII without spaces"),
        ("hunter2hunter2hé", "web.token: must be ASCII without spaces"),
    ] {
        let finished = with_variables(&workspace, &["check"], &[("PASS", token)]);
        is_refused(&workspace, &finished, said);
        assert!(finished.stderr.starts_with(&format!("error: {said}")), "{finished:#?}");
        assert!(finished.stderr.ends_with("1 problem in ./config.toml\n"), "{finished:#?}");
    }
    let finished = with_variables(&workspace, &["check"], &[("PASS", "hunter2hunter2hu")]);
    assert_eq!(finished.code, Some(0), "{finished:#?}");
}

/// Each file is refused, with its place, the reason and the way out.
pub(crate) fn are_refused(all: &[Broken]) {
    let workspace = Workspace::new();
    for &Broken(head, broken, path, said) in all {
        let (text, places) = without_carets(&format!("{head}{broken}"));
        let [(line, column)] = places[..] else { panic!("{broken} needs one mark") };
        workspace.write("config.toml", &text);

        let finished = workspace.run(&["sync"]);
        is_refused(&workspace, &finished, broken);
        let report = &finished.stderr;
        let title = if path.is_empty() { "error: not valid TOML".to_owned() } else { format!("error: {path}: ") };
        assert!(report.starts_with(&title), "{report}");
        assert!(report.contains(&format!("--> ./config.toml:{line}:{column}\n")), "{broken}\n{report}");
        let shown = format!("{line} | ");
        let quoted = report.lines().position(|quoted| quoted.starts_with(&shown)).expect(report);
        let caret = report.lines().nth(quoted + 1).unwrap().find('^').expect(report);
        assert_eq!(caret, shown.len() + column - 1, "the caret is in the wrong place:\n{report}");
        for part in said {
            assert!(report.contains(part), "{part} is not in\n{report}");
        }
        assert!(report.ends_with("1 problem in ./config.toml\n"), "{report}");

        let checked = workspace.run(&["check", "--json"]);
        assert_eq!((checked.code, &*checked.stderr), (Some(78), ""), "{broken}: {checked:#?}");
        let checked: Value = serde_json::from_str(&checked.stdout).unwrap();
        assert_eq!((&checked["valid"], &checked["path"]), (&json!(false), &json!("./config.toml")), "{checked}");
        let problem = &checked["problems"][0];
        let place = json!([path, "./config.toml", line, column]);
        assert_eq!(json!([problem["path"], problem["file"], problem["line"], problem["column"]]), place, "{checked}");
        let told = format!("{} {}", problem["message"].as_str().unwrap(), problem["help"].as_str().unwrap_or(""));
        for part in said {
            assert!(told.contains(part), "{part} is not in {checked}");
        }
        assert!(!checked.to_string().contains("hunter2"), "{checked}");
    }
}

#[test]
fn all_problems_of_a_file_are_reported_together_in_its_order() {
    let workspace = Workspace::new();
    let (text, places) = without_carets(
        "[pipeline]\n‸batchrows = 5\nshutdown_grace = ‸\"soon\"\n\
         [sources.files.client]\nbase_url = ‸\"ftp://files.example.com/\"\n\
         auth = { type = \"http_basic\", username = ‸\"${env:NOT_A}\", password = ‸\"${env:NOT_B}\" }\n\
         [sources.shop.client]\nbase_url = \"https://shop.example.com/\"\n\
         [sources.shop.resources.items]\n‸methud = \"GET\"\nschedule = ‸\"daily\"\n[sources.shop.resources.orders]\nwrite_disposition = ‸\"merge\"\n",
    );
    workspace.write("config.toml", &text);
    let finished = workspace.run(&["sync"]);
    is_refused(&workspace, &finished, "several");
    let shown: Vec<&str> =
        finished.stderr.lines().filter_map(|line| line.trim().strip_prefix("--> ./config.toml:")).collect();
    let expected: Vec<String> = places.iter().map(|(line, column)| format!("{line}:{column}")).collect();
    assert_eq!(shown, expected, "{}", finished.stderr);
    assert!(finished.stderr.ends_with("8 problems in ./config.toml\n"), "{}", finished.stderr);
}

#[test]
fn an_error_in_one_source_stops_everything() {
    let api = Api::start(numbered(10, 10));
    let workspace = Workspace::with_config(
        api.address,
        "[sources.fine.client]\nbase_url = \"BASE\"\n[sources.fine.resources.items]\ndata_selector = \"data\"\n\
         [sources.broken.client]\nbase_url = \"BASE\"\ntimout = \"5s\"\n[sources.broken.resources.items]\n",
    );
    for arguments in [&["sync"][..], &["sync", "fine"], &["reset", "fine"]] {
        is_refused(&workspace, &workspace.run(arguments), "one of two");
    }
    assert_eq!(api.seen().len(), 0);
}

const PLAIN: &str = r#"
[sources.shop.client]
base_url = "BASE"
[sources.shop.resources.items]
data_selector = "data"
paginator = { type = "page_number", total_path = "pages" }
"#;

fn with_variables(workspace: &Workspace, arguments: &[&str], variables: &[(&str, &str)]) -> Finished {
    let mut command = workspace.command(arguments);
    command.envs(variables.iter().copied());
    finish(command.spawn().unwrap())
}

#[test]
fn the_environment_overrides_the_file() {
    let api = Api::start(numbered(20, 10));
    let german = format!("{PLAIN}params = {{ lang = \"de\" }}\n");
    let nowhere = "[sources.shop.client]\nbase_url = \"http://127.0.0.1:9/\"\n";
    let workspace =
        Workspace::with_config(api.address, &german.replace("[sources.shop.client]\nbase_url = \"BASE\"\n", nowhere));
    let base_url = format!("http://{}/", api.address);
    let variables = [
        ("HIGHWATER_SOURCES__SHOP__CLIENT__BASE_URL", base_url.as_str()),
        ("HIGHWATER_DESTINATION__PATH", "elsewhere.db"),
        ("HIGHWATER_SOURCES__SHOP__RESOURCES__ITEMS__PARAMS__LANG", "en"),
        ("HIGHWATER_PIPELINE__CONCURRENCY", "2"),
    ];
    let finished = with_variables(&workspace, &["sync"], &variables);
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert!(workspace.path("elsewhere.db").exists() && !workspace.path("highwater.db").exists());
    let asked: Vec<_> = api.seen().iter().map(|request| request.param("lang")).collect();
    assert_eq!(asked, [Some("en".to_owned()), Some("en".to_owned())]);
}

#[test]
fn an_override_that_is_wrong_is_refused_by_its_own_name() {
    let api = Api::start(numbered(20, 10));
    let workspace = Workspace::with_config(api.address, PLAIN);
    for (name, value, said) in [
        ("HIGHWATER_PIPELINE__CONCURENCY", "2", "did you mean"),
        ("HIGHWATER_PIPELINE__CONCURRENCY", "two", "expected a whole number"),
        ("HIGHWATER_PIPELINE__CONCURRENCY", "0", "must be at least 1"),
        ("HIGHWATER_SOURCES__SHOP__CLIENT__TIMEOUT", "soon", "expected a duration such as"),
        ("HIGHWATER_SOURCES__SHOP__EVERY", "often", "expected a duration such as"),
        ("HIGHWATER_SOURCES__SHOP__SCHEDULE", "often", "expected a cron schedule such as"),
        ("HIGHWATER_WEB__LISTEN", "localhost", "expected an address such as"),
        ("HIGHWATER_WEB__LISTEN", "0.0.0.0:80", "there is no `token`"),
        ("HIGHWATER_WEB__TOKEN", "hunter2", "must have at least 16 characters"),
    ] {
        let finished = with_variables(&workspace, &["sync"], &[(name, value)]);
        is_refused(&workspace, &finished, name);
        assert!(finished.stderr.contains(name) && finished.stderr.contains(said), "{said}: {finished:#?}");
        let checked = with_variables(&workspace, &["check", "--json"], &[(name, value)]);
        let checked: Value = serde_json::from_str(&checked.stdout).unwrap();
        assert_eq!((&checked["problems"][0]["file"], &checked["problems"][0]["line"]), (&Value::Null, &Value::Null));
    }
    assert_eq!(api.seen().len(), 0);
}

#[test]
fn c02_an_empty_variable_is_a_missing_one_and_a_default_takes_its_place() {
    let api = Api::start(numbered(10, 10));
    let workspace =
        Workspace::with_config(api.address, &format!("{PLAIN}params = {{ lang = \"${{env:LANG_OF_SHOP}}\" }}\n"));
    let finished = with_variables(&workspace, &["sync"], &[("LANG_OF_SHOP", "")]);
    is_refused(&workspace, &finished, "empty");
    workspace.configure(api.address, &format!("{PLAIN}params = {{ lang = \"${{env:LANG_OF_SHOP:-en}}\" }}\n"));
    assert_eq!(with_variables(&workspace, &["sync"], &[("LANG_OF_SHOP", "")]).code, Some(0));
    assert_eq!(api.seen()[0].param("lang").as_deref(), Some("en"));
}

#[test]
fn words_of_other_tools_are_read_with_a_hint() {
    let api = Api::start(|_, _| crate::support::json(json!({"data": records(0..3)})));
    let workspace = Workspace::with_config(
        api.address,
        "[sources.shop.client]\nurl_base = \"BASE\"\n[sources.shop.streams.items]\nrecords_path = \"data\"\n",
    );
    let finished = workspace.run(&["check", "--json"]);
    let checked: Value = serde_json::from_str(&finished.stdout).unwrap();
    let hints: Vec<&str> = checked["hints"].as_array().unwrap().iter().map(|hint| hint.as_str().unwrap()).collect();
    for (word, ours) in [("streams", "resources"), ("url_base", "base_url"), ("records_path", "data_selector")] {
        let said = format!("`{word}` is called `{ours}` here");
        assert!(hints.iter().any(|hint| hint.ends_with(&said)), "{said} is not in {hints:?}");
    }
    workspace.sync(0);
    assert_eq!(workspace.value::<i64>("SELECT count(*) FROM shop_items"), 3);
}

#[test]
fn schema_prints_the_schema_that_is_shipped() {
    let finished = Workspace::new().run(&["schema"]);
    assert_eq!((finished.code, &*finished.stderr), (Some(0), ""));
    let shipped = include_str!("../../config.schema.json");
    let differs = finished.stdout.lines().zip(shipped.lines()).find(|(printed, shipped)| printed != shipped);
    assert_eq!(differs, None, "run `highwater schema > config.schema.json`");
    assert_eq!(finished.stdout.len(), shipped.len());
}

#[test]
fn the_shipped_configuration_is_right_and_every_option_that_is_switched_off_in_it_can_be_switched_on() {
    let workspace = Workspace::new();
    let shipped = include_str!("../../config.toml");
    workspace.write("config.toml", shipped);
    let finished = workspace.run(&["check"]);
    assert_eq!((finished.code, &*finished.stderr), (Some(0), ""), "{finished:#?}");
    assert!(finished.stdout.ends_with("./config.toml is right: 8 resources\n"), "{finished:#?}");

    // A `#` right before a word switches an option off.
    let switched_on: String = shipped
        .lines()
        .map(|line| {
            line.strip_prefix('#')
                .filter(|rest| rest.starts_with(|c: char| c.is_lowercase() || c == '['))
                .unwrap_or(line)
        })
        // The one option that another one has to fit.
        .map(|line| format!("{line}\n").replace("method   = \"GET\"", "method   = \"POST\""))
        .collect();
    assert!(
        switched_on.lines().filter(|line| line.starts_with('#')).count()
            < shipped.lines().filter(|line| line.starts_with('#')).count() - 25
    );
    workspace.write("config.toml", &switched_on);
    let finished =
        with_variables(&workspace, &["check"], &[("PRACTICE_TOKEN", "tide"), ("WEB_TOKEN", "in-from-the-sea-1")]);
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert!(finished.stdout.ends_with("./config.toml is right: 9 resources\n"), "{finished:#?}");
}
