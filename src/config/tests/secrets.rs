//! Placeholders, and that no secret is ever shown.

use std::os::unix::fs::PermissionsExt;

use super::{CLIENT, Env, Loaded, Report, problems};
use crate::config::load_text;

const CANARY: &str = "canary-5f2c";

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, mode) in [("private", 0o600), ("open", 0o644)] {
            std::fs::write(dir.path().join(name), format!("{CANARY}\n")).unwrap();
            std::fs::set_permissions(dir.path().join(name), std::fs::Permissions::from_mode(mode)).unwrap();
        }
        Self(dir)
    }

    /// Loads a client with these lines; `DIR` stands for the folder of the files.
    fn load(&self, lines: &str) -> Result<Loaded, Report> {
        let dir = self.0.path().to_str().unwrap();
        let env = Env::with([("SECRET", CANARY), ("EMPTY", ""), ("HOST", "api.test"), ("CREDENTIALS_DIRECTORY", dir)]);
        let text = format!("{CLIENT}{}\n[sources.s.resources.r]\n", lines.replace("DIR", dir));
        let result = load_text("config.toml", &text, &env);
        let shown = match &result {
            Ok(loaded) => format!("{loaded:?}"),
            Err(report) => format!("{report} {report:?} {}", serde_json::to_string(report).unwrap()),
        };
        assert!(!shown.contains(CANARY), "{shown}");
        result
    }
}

#[test]
fn placeholders_are_filled_in_and_secrets_stay_secret() {
    let files = Files::new();
    let header = |value: &str| {
        let loaded = files.load(&format!("headers = {{ x = \"{value}\" }}"));
        let loaded = loaded.unwrap_or_else(|report| panic!("{report}"));
        let value = &loaded.config.sources["s"].client.headers["x"];
        (value.expose(), value.to_string())
    };
    for (written, sent, shown) in [
        ("Bearer ${env:SECRET}", format!("Bearer {CANARY}"), "Bearer ***"),
        ("${file:DIR/private}", CANARY.to_owned(), "***"),
        ("${cred:private}", CANARY.to_owned(), "***"),
        ("${cred:open}", CANARY.to_owned(), "***"),
        ("${env:NONE:-fallback}", "fallback".to_owned(), "fallback"),
        ("${env:EMPTY:-}", String::new(), ""),
        ("$${env:SECRET} {brace}", "${env:SECRET} {brace}".to_owned(), "${env:SECRET} {brace}"),
    ] {
        assert_eq!(header(written), (sent, shown.to_owned()), "{written}");
    }
}

#[test]
fn outside_of_requests_a_variable_is_plain_text() {
    let files = Files::new();
    let text = "[sources.s.client]\nbase_url = \"https://${env:HOST:-x.test}/\"\n[sources.s.resources.r]\npath = \"v${env:HOST:-1}/r\"\n";
    let loaded = load_text("config.toml", text, &Env::with([("HOST", "api.test")])).unwrap();
    let source = &loaded.config.sources["s"];
    assert_eq!(source.client.base_url, "https://api.test/");
    assert_eq!(source.resources["r"].path.as_ref().unwrap().to_string(), "vapi.test/r");
    let found = problems(files.load("[destination]\npath = \"${file:DIR/private}\""));
    assert!(found.len() == 1 && found[0].contains("`${file:…}` is a secret, and this value is shown"), "{found:#?}");
}

#[test]
fn c02_what_cannot_be_filled_in_is_reported_all_at_once() {
    let files = Files::new();
    let lines = r#"auth = { type = "bearer", token = "${env:NONE}" }
headers = { a = "${env:EMPTY}", b = "${file:DIR/open}", c = "${file:relative}", d = "${cred:../x}", e = "${cred:none}" }
params = { a = "${evn:A}", b = "${incremental.start_value}", c = "${env:1}", d = "${", e = "${HOME}", f = "${env}" }"#;
    let found = problems(files.load(lines));
    let expected = [
        "client.auth.token: the environment variable `NONE` is not set",
        "client.headers.a: the environment variable `EMPTY` is not set, or is empty",
        "client.headers.b: ",
        "client.headers.c: `relative` does not start with `/`",
        "client.headers.d: `../x` is not a name of a credential",
        "client.headers.e: cannot read ",
        "client.params.a: `${evn:A}` is not a placeholder (did you mean `env`?",
        "client.params.b: `${incremental.start_value}` is filled in for each request, and",
        "client.params.c: `1` is not a name",
        "client.params.d: `${` has no `}`",
        "client.params.e: `${HOME}` is not a placeholder",
        "client.params.f: `${env}` is not a placeholder",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(&format!("sources.s.{expected}")), "{found}\n{expected}");
    }
    assert!(found[2].contains("(mode 0644): chmod 600 it"), "{found:#?}");
}

#[test]
fn c05_a_secret_written_in_the_file_is_refused_and_not_repeated() {
    let files = Files::new();
    for (lines, path) in [
        (format!("auth = {{ type = \"bearer\", token = \"{CANARY}\" }}"), "auth.token"),
        (
            format!("auth = {{ type = \"bearer\", token = \"${{env:NONE:-{CANARY}}}\" }}").replace(CANARY, "x"),
            "auth.token",
        ),
        (format!("auth = {{ type = \"http_basic\", username = \"u\", password = '''{CANARY}''' }}"), "auth.password"),
        (format!("auth = {{ type = \"api_key\", name = \"k\", api_key = \"{CANARY}\" }}"), "auth.api_key"),
        (format!("headers = {{ Authorization = \"Bearer {CANARY}\" }}"), "headers.Authorization"),
    ] {
        let found = problems(files.load(&lines));
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].starts_with(&format!("sources.s.client.{path}: a secret ")), "{found:#?}");
    }
    files.load("auth = { type = \"http_basic\", username = \"u\", password = \"\" }").unwrap();
}

#[test]
fn a_secret_beside_another_mistake_is_not_repeated() {
    let files = Files::new();
    for lines in [
        format!("auth = {{ type = \"beaver\", token = \"{CANARY}\" }}"),
        format!("auth = {{ type = \"bearer\", tokn = \"{CANARY}\" }}"),
        format!("auth = \"{CANARY}\""),
        format!("auth = [\"{CANARY}\"]"),
        format!("auth = {{ type = \"bearer\", token = \"{CANARY}\" "),
        format!("auth = {{ type = \"bearer\", token = {CANARY} }}"),
        format!("api_key = \"{CANARY}\""),
        format!("[web]\ntoken = \"{CANARY}\""),
        "base_url2 = 1\n[sources.t.client]\nbase_url = \"https://u:${env:SECRET}@api.test/\"".to_owned(),
        "timeout = \"${env:SECRET}\"\nredirects = \"${env:SECRET}\"".to_owned(),
        "headers = { \"a b\" = \"${env:SECRET}\" }\nparams = 5".to_owned(),
    ] {
        files.load(&lines).expect_err(&lines);
    }
}

#[test]
fn a_header_or_token_that_cannot_be_sent_is_refused_without_showing_it() {
    let env = Env::with([("SECRET", format!("{CANARY}\nx"))]);
    let text = format!(
        "{CLIENT}auth = {{ type = \"bearer\", token = \"${{env:SECRET}}\" }}\nheaders = {{ x = \"${{env:SECRET}}\" }}\n"
    );
    let report = load_text("config.toml", &text, &env).unwrap_err().to_string();
    assert!(report.matches("a header cannot carry").count() == 2 && !report.contains(CANARY), "{report}");
}

#[test]
fn a_secret_in_a_path_is_refused_where_links_are_followed() {
    let files = Files::new();
    let load = |client: &str, resource: &str| {
        let env = Env::with([("CREDENTIALS_DIRECTORY", files.0.path().to_str().unwrap())]);
        let text = format!("{CLIENT}{client}\n[sources.s.resources.r]\npath = \"bot${{cred:private}}/r\"\n{resource}");
        load_text("config.toml", &text, &env)
    };
    let pages = "paginator = { type = \"page_number\" }";
    let links = "paginator = { type = \"header_link\" }";
    let in_body = "paginator = { type = \"json_link\", next_url_path = \"next\" }";
    for (client, resource) in [("", ""), (links, ""), (pages, links), (pages, in_body)] {
        let found = problems(load(client, resource));
        let expected = "sources.s.resources.r.path: a secret in `path` would be stored with every link";
        assert!(found.len() == 1 && found[0].starts_with(expected), "{found:#?}");
    }
    for (client, resource) in [(pages, ""), (links, pages)] {
        load(client, resource).unwrap_or_else(|report| panic!("{report}"));
    }
}

#[test]
fn credentials_in_parameters_and_bodies_are_not_written_in_the_file() {
    let load = |lines: &str| {
        let env = Env::with([("A", CANARY)]);
        load_text("config.toml", &format!("{CLIENT}[sources.s.resources.r]\n{lines}\n"), &env)
    };
    for name in ["api_key", "apikey", "API-Key", "access_token", "token", "key", "password", "client_secret", "auth"] {
        let report = load(&format!("params = {{ {name} = \"{CANARY}\" }}")).unwrap_err();
        assert!(!report.to_string().contains(CANARY), "{report}");
        let found = problems(Err(report));
        let expected = format!("sources.s.resources.r.params.{name}: a secret is never written in the file");
        assert!(found.len() == 1 && found[0].starts_with(&expected), "{found:#?}");
    }
    let found = problems(load(&format!("method = \"POST\"\njson = {{ login = [{{ password = \"{CANARY}\" }}] }}")));
    assert!(found.len() == 1 && found[0].contains("json.login[0].password: a secret is never"), "{found:#?}");
    for fine in [
        "params = { api_key = \"${env:A}\", token = \"\", sort_key = \"created\", per_page = 5 }",
        "method = \"POST\"\njson = { filters = [{ key = \"status\", value = \"open\" }] }",
    ] {
        load(fine).unwrap_or_else(|report| panic!("{report}"));
    }
}
