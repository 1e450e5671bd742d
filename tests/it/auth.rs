//! Credentials that expire, from end to end: renewed once for everybody, kept over runs and crashes, and shown nowhere.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::response::Response;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Api, Finished, PATIENCE, Running, Seen, Workspace, finish, json, numbered, respond, signal};

/// In every secret, so that one search finds them all.
const CANARY: &str = "canary-3b1c";

/// An authorization server and an API in one: it gives out tokens, and takes the last one only.
#[derive(Default)]
struct Bank {
    issued: AtomicUsize,
    /// Pages served with the token that is good.
    served: AtomicUsize,
    /// Pages that a token is good for.
    pages_per_token: Option<usize>,
    /// Each refresh token is good once, and brings the next.
    rotates: bool,
}

impl Bank {
    fn access(&self) -> String {
        format!("{CANARY}-access-{}", self.issued.load(Ordering::SeqCst))
    }

    fn refresh(&self) -> String {
        format!("{CANARY}-refresh-{}", if self.rotates { self.issued.load(Ordering::SeqCst) } else { 0 })
    }

    fn token(&self, request: &Seen) -> Response {
        let form: Vec<(String, String)> = url::form_urlencoded::parse(request.body.as_bytes()).into_owned().collect();
        let field = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let basic = format!("Basic {}", base64(&format!("me:{CANARY}-secret")));
        let is_client = (field("client_id"), field("client_secret")) == (Some("me"), Some(&format!("{CANARY}-secret")))
            || request.headers.get("authorization").is_some_and(|value| value.to_str().unwrap() == basic);
        if !is_client {
            let said = json!({"error": "invalid_client", "error_description": request.body});
            return respond(401, &[], said.to_string());
        }
        let refreshes = field("grant_type") == Some("refresh_token");
        if refreshes && field("refresh_token") != Some(&self.refresh()) {
            let said = format!("{} is used up", field("refresh_token").unwrap_or_default());
            return respond(400, &[], json!({"error": "invalid_grant", "error_description": said}).to_string());
        }
        self.issued.fetch_add(1, Ordering::SeqCst);
        self.served.store(0, Ordering::SeqCst);
        let mut answer = json!({"access_token": self.access(), "token_type": "Bearer"});
        if refreshes && self.rotates {
            answer["refresh_token"] = json!(self.refresh());
        }
        json(answer)
    }

    /// Whether a request for a page is let in.
    fn lets_in(&self, request: &Seen) -> bool {
        let sent = request.headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
        let is_good = sent == Some(format!("Bearer {}", self.access()));
        let served = if is_good { self.served.fetch_add(1, Ordering::SeqCst) } else { 0 };
        is_good && self.pages_per_token.is_none_or(|pages| served < pages)
    }
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// An API with a token endpoint at `/token` and pages of five records everywhere else.
fn start(bank: &Arc<Bank>, records: u64) -> Api {
    start_slow(bank, records, |_| Duration::ZERO)
}

fn start_slow(bank: &Arc<Bank>, records: u64, delay: impl Fn(&Seen) -> Duration + Send + Sync + 'static) -> Api {
    let (bank, pages) = (Arc::clone(bank), numbered(records, 5));
    Api::start_paced(delay, move |request, number| match request.path() {
        "/token" => bank.token(request),
        _ if bank.lets_in(request) => pages(request, number),
        _ => respond(401, &[], json!({"message": format!("expired: {:?}", request.headers)}).to_string()),
    })
}

fn token_requests(api: &Api) -> Vec<Seen> {
    api.seen().into_iter().filter(|request| request.path() == "/token").collect()
}

/// A configuration with one resource; `auth` stands for its credentials.
fn config(auth: &str, resource: &str) -> String {
    format!(
        "[sources.shop.client]\nbase_url = \"BASE\"\nretry = {{ initial_delay = \"1ms\" }}\n{auth}\n\
         [sources.shop.resources.items]\nprimary_key = \"id\"\n\
         paginator = {{ type = \"page_number\", total_path = \"pages\" }}\n{resource}\n"
    )
}

const CLIENT_CREDENTIALS: &str = r#"auth = { type = "oauth2_client_credentials", access_token_url = "BASEtoken", client_id = "me", client_secret = "${env:SECRET}" }"#;
const REFRESH_TOKEN: &str = r#"auth = { type = "oauth2_refresh_token", access_token_url = "BASEtoken", client_id = "me", client_secret = "${env:SECRET}", refresh_token = "${env:REFRESH}", client_auth = "basic" }"#;

fn command(workspace: &Workspace, refresh: &str) -> std::process::Command {
    let mut command = workspace.command(&["-vv", "sync", "--json"]);
    command.env("SECRET", format!("{CANARY}-secret")).env("REFRESH", refresh).env("RUST_BACKTRACE", "1");
    command
}

/// One run, which shows and stores no secret, whatever becomes of it.
fn run(workspace: &Workspace, refresh: &str) -> Finished {
    let finished = finish(command(workspace, refresh).spawn().unwrap());
    assert_hidden(workspace, &finished);
    finished
}

fn run_well(workspace: &Workspace, refresh: &str) -> Value {
    let finished = run(workspace, refresh);
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    serde_json::from_str(&finished.stdout).unwrap()
}

/// No secret is in the output, nor in any file but the one for tokens.
fn assert_hidden(workspace: &Workspace, finished: &Finished) {
    let output = format!("{}{}", finished.stdout, finished.stderr);
    assert!(!output.contains(CANARY), "{output}");
    let encoded = base64(&format!("me:{CANARY}-secret"));
    assert!(!output.contains(&encoded), "{output}");
    for entry in std::fs::read_dir(workspace.path("")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let has = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        if path == token_file(workspace) {
            assert_eq!(mode(&path), 0o600);
        } else {
            assert!(!has(CANARY) && !has(&encoded), "{} has a secret", path.display());
        }
    }
}

fn token_file(workspace: &Workspace) -> std::path::PathBuf {
    workspace.path("highwater.db.shop.token")
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn first_refresh() -> String {
    format!("{CANARY}-refresh-0")
}

#[test]
fn h09_a_token_that_expires_every_two_pages_is_renewed_once_each_time_for_all_pages_in_flight() {
    let bank = Arc::new(Bank { pages_per_token: Some(2), ..Bank::default() });
    let api = start(&bank, 100);
    let workspace = Workspace::with_config(api.address, &config(CLIENT_CREDENTIALS, "concurrency = 4"));
    let report = run_well(&workspace, "");
    assert_eq!(workspace.value::<i64>("SELECT count(*) FROM shop_items"), 100);
    assert_eq!(report["exit_code"], 0, "{report:#}");
    assert_eq!(token_requests(&api).len(), 10, "a token for every two pages");
    let retries: i64 = workspace.value("SELECT retries FROM _hw_runs");
    assert!(retries >= 9, "every token but the last was refused at least once, but {retries}");
    workspace.check_books();
}

#[test]
fn a_refresh_token_that_rotates_is_kept_over_runs_beside_the_database() {
    let bank = Arc::new(Bank { rotates: true, ..Bank::default() });
    let api = start(&bank, 10);
    let workspace = Workspace::with_config(api.address, &config(REFRESH_TOKEN, ""));
    for run in 0..3 {
        run_well(&workspace, &first_refresh());
        let requests = token_requests(&api);
        assert_eq!(requests.len(), run + 1);
        let sent = format!("grant_type=refresh_token&refresh_token={CANARY}-refresh-{run}");
        assert_eq!(requests[run].body, sent);
        let kept = std::fs::read_to_string(token_file(&workspace)).unwrap();
        assert!(kept.contains(&format!("\"{CANARY}-refresh-{}\"", run + 1)), "{kept}");
    }
    let beside: Vec<_> =
        std::fs::read_dir(workspace.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!beside.iter().any(|name| name.to_str().unwrap().ends_with(".new")), "{beside:?}");

    // Somebody else has used the token: only a new one in the configuration helps.
    bank.issued.store(8, Ordering::SeqCst);
    let refused = run(&workspace, &first_refresh());
    assert_eq!(refused.code, Some(77), "{refused:#?}");
    assert!(refused.stdout.contains("invalid_grant (*** is used up): the grant is not valid any more"), "{refused:#?}");
    run_well(&workspace, &format!("{CANARY}-refresh-8"));
    run_well(&workspace, &format!("{CANARY}-refresh-8"));
    assert_eq!(token_requests(&api).last().unwrap().body.rsplit('-').next(), Some("9"));
}

#[test]
fn a_refresh_token_that_does_not_rotate_is_written_nowhere() {
    let bank = Arc::new(Bank { pages_per_token: Some(1), ..Bank::default() });
    let api = start(&bank, 10);
    let workspace = Workspace::with_config(api.address, &config(REFRESH_TOKEN, ""));
    run_well(&workspace, &first_refresh());
    assert_eq!(token_requests(&api).len(), 2);
    assert!(!token_file(&workspace).exists());
}

#[test]
fn a_new_refresh_token_survives_a_crash_right_after_it_came() {
    let bank = Arc::new(Bank { rotates: true, ..Bank::default() });
    let hangs = Arc::new(AtomicBool::new(true));
    let is_hanging = Arc::clone(&hangs);
    let api = start_slow(&bank, 10, move |request| {
        let hangs = request.path() != "/token" && is_hanging.load(Ordering::SeqCst);
        if hangs { PATIENCE } else { Duration::ZERO }
    });
    let workspace = Workspace::with_config(api.address, &config(REFRESH_TOKEN, ""));
    let mut child = command(&workspace, &first_refresh()).spawn().unwrap();
    // The first page is asked for with the new access token: by then the new refresh token is stored.
    api.wait_for(2);
    child.kill().unwrap();
    assert_hidden(&workspace, &finish(child));
    hangs.store(false, Ordering::SeqCst);
    run_well(&workspace, &first_refresh());
    let sent: Vec<_> = token_requests(&api).into_iter().map(|request| request.body).collect();
    assert_eq!(sent.len(), 2);
    assert!(sent[0].ends_with("-refresh-0") && sent[1].ends_with("-refresh-1"), "{sent:?}");
}

#[test]
fn a_new_refresh_token_is_stored_when_a_signal_ends_the_run_that_waits_for_it() {
    let bank = Arc::new(Bank { rotates: true, ..Bank::default() });
    let delay = |request: &Seen| Duration::from_millis(if request.path() == "/token" { 700 } else { 0 });
    let api = start_slow(&bank, 10, delay);
    let workspace = Workspace::with_config(api.address, &config(REFRESH_TOKEN, ""));
    let child = command(&workspace, &first_refresh()).spawn().unwrap();
    api.wait_for(1);
    signal(&child, Signal::TERM);
    let stopped = finish(child);
    assert_hidden(&workspace, &stopped);
    assert_eq!((stopped.code, api.seen().len()), (Some(75), 1), "{stopped:#?}");
    run_well(&workspace, &first_refresh());
    assert!(token_requests(&api)[1].body.ends_with("-refresh-1"));
}

#[test]
fn a_signal_does_not_wait_for_a_token_server_that_asks_for_patience() {
    let api = Api::start(|_, _| respond(503, &[("retry-after", "3000")], r#"{"error":"temporarily_unavailable"}"#));
    let patient = format!("[pipeline]\nshutdown_grace = \"1h\"\n{}", config(REFRESH_TOKEN, ""));
    let workspace = Workspace::with_config(api.address, &patient);
    let mut running = Running::start(command(&workspace, &first_refresh()));
    running.wait_for("trying again");
    running.signal(Signal::TERM);
    let stopped = running.finish();
    assert_hidden(&workspace, &stopped);
    assert_eq!((stopped.code, api.seen().len()), (Some(75), 1), "{stopped:#?}");
    assert!(!token_file(&workspace).exists());
}

#[test]
fn a_token_file_that_others_can_read_or_that_is_broken_is_refused() {
    let bank = Arc::new(Bank { rotates: true, ..Bank::default() });
    let api = start(&bank, 10);
    let workspace = Workspace::with_config(api.address, &config(REFRESH_TOKEN, ""));
    run_well(&workspace, &first_refresh());
    let file = token_file(&workspace);
    let good = std::fs::read_to_string(&file).unwrap();
    let set = |text: &str, mode: u32| {
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    for (text, mode, part) in [
        (good.as_str(), 0o640, "can be read or changed by other users (mode 0640): chmod 600 it"),
        ("", 0o600, "is empty"),
        (&good[..good.len() / 2], 0o600, "is not a file with a refresh token (line 1, column "),
        (&good.replace("\"version\":1", "\"version\":2"), 0o600, "is of version 2"),
    ] {
        set(text, mode);
        let refused = finish(command(&workspace, &first_refresh()).spawn().unwrap());
        assert_eq!(refused.code, Some(78), "{refused:#?}");
        assert!(refused.stderr.contains(part) && refused.stderr.contains("highwater.db.shop.token"), "{refused:#?}");
        assert!(!refused.stderr.contains(CANARY), "{refused:#?}");
    }
    assert_eq!(token_requests(&api).len(), 1, "nothing was sent");
    set(&good, 0o600);
    run_well(&workspace, &first_refresh());
}

#[test]
fn credentials_that_are_refused_end_the_run_before_any_page() {
    let bank = Arc::new(Bank::default());
    let api = start(&bank, 10);
    let auth = CLIENT_CREDENTIALS.replace("\"me\"", "\"nobody\"");
    let two = "[sources.shop.resources.more]\npaginator = { type = \"single_page\" }";
    let workspace = Workspace::with_config(api.address, &config(&auth, two));
    let refused = run(&workspace, "");
    assert_eq!(refused.code, Some(77), "{refused:#?}");
    let words = "refuses the `oauth2_client_credentials` credentials: invalid_client (grant_type=client_credentials\
                 &client_id=nobody&client_secret=***): check `client_id`, `client_secret` and `client_auth`";
    assert!(refused.stdout.contains(words), "{refused:#?}");
    assert_eq!(api.seen().len(), 1, "both resources wait for one answer");
}

#[test]
fn a_session_is_begun_by_a_login_and_begun_again_when_it_is_over() {
    let served = AtomicUsize::new(0);
    let logins = AtomicUsize::new(0);
    let pages = numbered(30, 5);
    let api = Api::start(move |request, number| {
        if request.path() == "/session" {
            let good = json!({"username": "me", "password": format!("{CANARY}-secret")});
            if serde_json::from_str::<Value>(&request.body).unwrap() != good {
                return respond(401, &[], json!({"message": request.body}).to_string());
            }
            let id = logins.fetch_add(1, Ordering::SeqCst) + 1;
            return json(json!({"session": {"id": format!("{CANARY}-session-{id}")}}));
        }
        let id = format!("{CANARY}-session-{}", logins.load(Ordering::SeqCst));
        let sent = request.headers.get("x-session").map(|value| value.to_str().unwrap());
        // After two pages a session is over, which this API says in a way of its own.
        if sent != Some(&id) || served.fetch_add(1, Ordering::SeqCst) % 3 == 2 {
            return respond(440, &[], json!({"message": format!("login again, {id}")}).to_string());
        }
        pages(request, number)
    });
    let auth = r#"auth = { type = "session_token", login = { path = "session", json = { username = "me", password = "${env:SECRET}" } }, token_path = "session.id", name = "X-Session" }"#;
    let actions = r#"response_actions = [{ status_code = 440, content = "login again", action = "refresh_auth" }]"#;
    let workspace = Workspace::with_config(api.address, &config(auth, actions));
    run_well(&workspace, "");
    assert_eq!(workspace.value::<i64>("SELECT count(*) FROM shop_items"), 30);
    assert_eq!(api.seen().iter().filter(|request| request.path() == "/session").count(), 3);
    // A wrong password is told without it.
    let wrong = auth.replace("username = \"me\"", "username = \"you\"");
    workspace.configure(api.address, &config(&wrong, actions));
    let refused = run(&workspace, "");
    assert_eq!(refused.code, Some(77), "{refused:#?}");
    assert!(refused.stdout.contains("refuses the `session_token` credentials: answered 401"), "{refused:#?}");
}

/// The configurations that a page of docs/ shows.
fn shown_configs(page: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
    let text = std::fs::read_to_string(path).unwrap();
    let blocks = text.split("```toml\n").skip(1).map(|block| block.split("```").next().unwrap().to_owned());
    blocks.collect()
}

#[test]
fn every_configuration_of_the_page_on_authentication_reads_its_api() {
    let configs = shown_configs("authenticate.md");
    let kinds =
        ["bearer", "http_basic", "api_key", "oauth2_client_credentials", "oauth2_refresh_token", "session_token"];
    for kind in kinds {
        assert!(configs.iter().any(|config| config.contains(&format!("\"{kind}\""))), "no example of {kind}");
    }
    for config in configs {
        let api = Api::start(|request, _| {
            let has = |name: &str| request.headers.contains_key(name);
            match request.path() {
                "/oauth/token" => json(json!({"access_token": "t", "expires_in": 3600, "refresh_token": "next"})),
                "/session" => json(json!({"id": "t"})),
                _ if has("authorization") || has("x-api-key") || has("x-session") => json(json!([{"id": 1}])),
                _ => respond(401, &[], ""),
            }
        });
        let local = config.replace("https://api.example.com/", "BASE").replace("https://auth.example.com/", "BASE");
        let workspace = Workspace::with_config(api.address, &local);
        let mut command = workspace.command(&["sync"]);
        for name in ["TOKEN", "PASSWORD", "KEY", "CLIENT_SECRET", "REFRESH_TOKEN"] {
            command.env(format!("SHOP_{name}"), format!("{CANARY}-{name}"));
        }
        let finished = finish(command.spawn().unwrap());
        assert_eq!(finished.code, Some(0), "{config}\n{finished:#?}");
        assert_eq!(workspace.value::<i64>("SELECT count(*) FROM shop_orders"), 1);
        assert_eq!(token_file(&workspace).exists(), config.contains("oauth2_refresh_token"));
    }
}
