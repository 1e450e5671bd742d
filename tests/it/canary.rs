//! Canaries: every way to log in against an API that tells its secrets to everybody, in every answer that goes wrong.
//! Afterwards no secret, nor either end of one, is in anything that was written, in whatever spelling. The short form
//! sends every login through all faults in one `sync`, and a third of them in one `serve`; with `HIGHWATER_CANARY=all`
//! each goes through both, and every fault has processes of its own besides, in every log format.

mod logins;
mod panics;
mod parrot;
mod secrets;
mod trial;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;

use crate::support::{Workspace, finish};
use logins::{Account, LOGINS, Login};
use parrot::{ENDPOINTS, FAULTS, Fault, Parrot};
use secrets::Search;
use trial::Trial;

/// What one process meets.
struct Course<'a> {
    login: &'static Login,
    faults: &'a [Fault],
    /// Whether the sources whose connections or token endpoints fail are there as well.
    with_sources: bool,
    /// Whether the daemon meets them, too.
    with_daemon: bool,
    log_format: &'static str,
    turn: usize,
}

const CLIENT: &str = "retry = { max_attempts = 2, initial_delay = \"1ms\", max_delay = \"2ms\" }\nmax_page_bytes = \"64KiB\"\n\
                      conditional_requests = true\n";

/// Where the API falls silent. Everywhere else a machine that is busy has all the time that it needs to serve a fault.
const SILENT: &str = "timeout = \"2s\"\nread_timeout = \"500ms\"\n";

impl Course<'_> {
    /// The faults that a login can meet: where a path is secret no links are followed.
    fn faults(&self) -> impl Iterator<Item = &Fault> {
        self.faults.iter().filter(|fault| self.login.path.is_empty() || !fault.resource.contains("_link"))
    }

    /// How many of them there are.
    fn runs(&self, account: &Account) -> usize {
        self.faults().count() + if self.with_sources { Self::sources(account).len() } else { 0 }
    }

    /// Sources that fail before there is a page: their name, what stands for the address of the API, and who gives out
    /// tokens.
    fn sources(account: &Account) -> Vec<(String, String, String)> {
        let source = |name: &str, base: &str| (name.to_owned(), base.to_owned(), "token/good".to_owned());
        let mut sources = vec![
            source("limited", "BASE"),
            source("unresolved", &format!("http://{}.invalid/", "a".repeat(64))),
            source("refused", "http://127.0.0.1:1/"),
        ];
        if Self::has_https() {
            sources.push(source("no_tls", "TLS"));
        }
        if account.asks_for_tokens() {
            let of_tokens =
                |(name, _): &(&str, _)| (format!("token_{name}"), "BASE".to_owned(), format!("token/{name}"));
            sources.extend(ENDPOINTS.iter().map(of_tokens));
        }
        sources
    }

    /// Without certificates on the machine there are no https clients at all.
    fn has_https() -> bool {
        Path::new("/etc/ssl/certs/ca-certificates.crt").exists()
    }

    /// What an API has to have served before all of it was met.
    fn stages(&self, account: &Account) -> BTreeSet<String> {
        let mut stages: BTreeSet<String> = self.faults().flat_map(parrot::stages).collect();
        if self.with_sources {
            let endpoints = ENDPOINTS.iter().filter(|_| account.asks_for_tokens()).map(|(name, _)| *name);
            stages.extend(endpoints.chain(["limited"]).map(str::to_owned));
            stages.extend(Self::has_https().then(|| parrot::NO_TLS.to_owned()));
        }
        stages
    }

    fn config(&self, account: &Account, folder: &Path, api: SocketAddr) -> String {
        let client = |name: &str, base: &str, endpoint: &str| {
            let login = account.client(folder, "BASE", endpoint);
            format!(
                "[sources.{name}]\nevery = \"1h\"\n[sources.{name}.client]\nbase_url = \"{base}\"\n{CLIENT}{login}\n"
            )
        };
        let resource = |source: &str, name: &str, more: &str| {
            let is_left_open = !self.login.path.is_empty() && !more.contains("paginator");
            let paginator = if is_left_open { "paginator = { type = \"single_page\" }" } else { "" };
            let lines = account.resource(folder, name);
            format!("[sources.{source}.resources.{name}]\n{lines}\n{more}\n{paginator}\n")
        };
        let mut config = "[pipeline]\nconcurrency = 64\n[web]\nlisten = \"127.0.0.1:0\"\n".to_owned();
        config += &client("api", "BASE", "token/good");
        if self.faults().any(Fault::is_silent) {
            config += &(client("silent", "BASE", "token/good") + SILENT);
        }
        let is_posted = account.login.name == "json" || account.login.name == "form";
        for fault in self.faults() {
            config += &resource(if fault.is_silent() { "silent" } else { "api" }, fault.name, fault.resource);
        }
        let sources = if self.with_sources { Self::sources(account) } else { Vec::new() };
        for (name, base, endpoint) in sources {
            config += &client(&name, &base, &endpoint);
            config += &resource(&name, if name == "limited" { "limited" } else { "items" }, "");
        }
        if is_posted {
            config = config.replace("conditional_requests = true\n", "");
        }
        config.replace("TLS", &format!("https://{api}/")).replace("BASE", &format!("http://{api}/"))
    }
}

/// Sends a login through its course. The number of its runs, and what was searched and found.
fn attempt(course: &Course<'_>) -> (usize, Search) {
    let account = Account::new(course.login, course.turn);
    let parrot = Parrot::start(&account.secrets);
    let workspace = Workspace::new();
    let folder = workspace.path("secrets");
    let variables = account.hand_over(&folder);
    workspace.write("config.toml", &course.config(&account, &folder, parrot.address));
    let name = course.login.name.to_owned();
    let mut trial = Trial { workspace, variables, search: Search::new(), name };
    let runs = course.runs(&account);

    let (code, said) = trial.run(&["check", "--json"]);
    assert_eq!(code, Some(0), "{}: {said}", trial.name);
    let sync = ["sync", "-vvv", "--json", "--metrics-file", "sync.prom", "--log-format", course.log_format];
    let (code, said) = trial.run(&sync);
    assert!(![None, Some(2), Some(70), Some(78)].contains(&code), "{}: {code:?} {said}", trial.name);
    let report: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(report["resources"].as_array().unwrap().len(), runs, "{said}");
    if course.with_sources {
        // Nobody serves these.
        for (source, words) in
            [("unresolved", "its name cannot be looked up"), ("refused", "cannot connect to 127.0.0.1:1")]
        {
            let met = report["resources"].as_array().unwrap().iter().find(|resource| resource["source"] == source);
            assert!(met.unwrap()["error"].as_str().unwrap().contains(words), "{source}: {met:?}");
        }
    }
    let missed = |parrot: &Parrot| course.stages(&account).difference(&parrot.served()).cloned().collect::<Vec<_>>();
    assert_eq!(missed(&parrot), Vec::<String>::new(), "{}: not met by sync", trial.name);
    trial.look_at_files("after sync");
    for verb in [&["status"][..], &["status", "--json"], &["runs"], &["runs", "--json"]] {
        trial.run(verb);
    }
    if course.with_daemon {
        trial.serve(course.log_format, runs);
        assert_eq!(missed(&parrot), Vec::<String>::new(), "{}: not met by serve", trial.name);
    }
    trial.look("what another origin received", &parrot.strays());
    assert_eq!(String::from_utf8_lossy(&parrot.strays()), "", "{}: another origin was asked", trial.name);
    (runs, trial.search)
}

/// What a configuration says of a secret that cannot be used.
fn refused_configurations(search: &mut Search) -> usize {
    let secret = secrets::canary("refused", secrets::Place::Header);
    let client = |rest: &str| {
        format!("[sources.s.client]\nbase_url = \"http://127.0.0.1:1/\"\n{rest}\n[sources.s.resources.r]\n")
    };
    let bearer = r#"auth = { type = "bearer", token = "${env:SECRET}" }"#;
    let inline = format!("auth = {{ type = \"bearer\", token = '''{secret}''' }}");
    let cases = [
        client(&format!("auth = {{ type = \"bearer\", token = \"${{env:SECRET}}\", tokne = '''{secret}''' }}")),
        client(&inline),
        client(&format!("{inline}\ntimeout = 5")),
        client(&format!("timeout = \"5 parsecs\"\n{bearer}\nheaders = {{ \"X-Api-Key\" = '''{secret}''' }}")),
        client(&format!("{bearer}\nparams = {{ api_key = '''{secret}''' }}")),
        client(&format!("{bearer}\nauth2 = {{ password = '''{secret}'''")),
        client("auth = { type = \"bearer\", token = \"${env:BROKEN}\" }"),
        client("auth = { type = \"api_key\", name = \"${env:SECRET}\", api_key = \"${env:SECRET}\" }"),
        client("headers = { X-A = \"${env:BROKEN}\" }"),
        client("auth = { type = \"http_basic\", username = \"${env:COLON}\", password = \"${env:SECRET}\" }"),
        client("auth = { type = \"api_key\", name = \"a\", location = \"cookie\", api_key = \"${env:COLON}\" }"),
        client("auth = { type = \"bearer\", token = \"${cred:open}\" }\ntimeout = true"),
        format!("{}\npath = \"${{file:/proc/self/environ}}\"\n", client(bearer)),
        format!("[web]\ntoken = '''{secret}'''\n{}", client(bearer)),
    ];
    for (at, config) in cases.iter().enumerate() {
        let workspace = Workspace::new();
        workspace.write("config.toml", config);
        workspace.write("open", &secret);
        for verb in
            [&["check"][..], &["check", "--json"], &["sync", "-vvv"], &["sync", "--json"], &["serve"], &["status"]]
        {
            let mut command = workspace.command(verb);
            command.env("SECRET", &secret).env("BROKEN", format!("{secret}\n{secret}"));
            command.env("COLON", format!("a:;\u{7f}{secret}")).env("CREDENTIALS_DIRECTORY", workspace.path(""));
            command.env("HIGHWATER_LOG", "trace").env("HIGHWATER_WEB__TOKEN", format!("{secret}\n"));
            command.env("HIGHWATER_SOURCES__S__CLIENT__TIMOUT", &secret);
            let finished = finish(command.spawn().unwrap());
            let is_status = verb[0] == "status";
            assert!(finished.code == Some(78) || is_status, "configuration {at}: {verb:?}: {finished:#?}");
            search.look(&format!("configuration {at}: {verb:?}: stdout"), finished.stdout.as_bytes());
            search.look(&format!("configuration {at}: {verb:?}: stderr"), finished.stderr.as_bytes());
        }
    }
    cases.len()
}

#[test]
fn c07_no_secret_is_found_anywhere_after_any_fault() {
    let is_long = std::env::var("HIGHWATER_CANARY").is_ok_and(|form| form == "all");
    let mut courses = Vec::new();
    for (turn, login) in LOGINS.iter().enumerate() {
        let log_format = if turn % 2 == 0 { "text" } else { "json" };
        let with_daemon = is_long || turn.is_multiple_of(3);
        courses.push(Course { login, faults: &FAULTS, with_sources: true, with_daemon, log_format, turn });
        if is_long {
            for (at, log_format) in ["text", "json"].into_iter().enumerate() {
                let is_met = |fault: &Fault| login.path.is_empty() || !fault.resource.contains("_link");
                let each = FAULTS.chunks(1).enumerate().filter(|(_, faults)| is_met(&faults[0]));
                let alone = |(n, faults)| Course {
                    login,
                    faults,
                    with_sources: false,
                    with_daemon: true,
                    log_format,
                    turn: at + n,
                };
                courses.extend(each.map(alone));
            }
        }
    }
    let mut total = Search::new();
    let mut runs = refused_configurations(&mut total);
    let (left, found) = (Mutex::new(courses), Mutex::new((0, Vec::new(), 0)));
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                loop {
                    let Some(course) = left.lock().unwrap().pop() else { break };
                    let (runs, search) = attempt(&course);
                    let mut found = found.lock().unwrap();
                    found.0 += runs;
                    found.1.extend(search.hits);
                    found.2 += search.places;
                }
            });
        }
    });
    let (more, hits, places) = found.into_inner().unwrap();
    runs += more;
    total.hits.extend(hits);
    total.places += places;
    if !Course::has_https() {
        println!("skipped in part: there are no certificates here, so there is no https");
    }
    let (hits, places) = (total.hits.len(), total.places);
    println!("{hits} hits in {runs} runs over {places} places, {} ways to log in", LOGINS.len());
    assert_eq!(total.hits, Vec::<String>::new());
}

#[test]
fn c07_what_an_api_puts_into_a_record_is_data_and_what_we_write_about_it_is_not() {
    let account = Account::new(&LOGINS[1], 0);
    let secret = account.secrets[0].clone();
    let parrot = Parrot::start(&account.secrets);
    let workspace = Workspace::new();
    let folder = workspace.path("secrets");
    let variables = account.hand_over(&folder);
    let base = format!("http://{}/", parrot.address);
    let client = account.client(&folder, &base, "");
    let config = format!(
        "[sources.api.client]\nbase_url = \"{base}\"\n{client}\n[sources.api.resources.records]\n\
         primary_key = \"id\"\npaginator = {{ type = \"single_page\" }}\n"
    );
    workspace.write("config.toml", &config);
    let mut trial = Trial { workspace, variables, search: Search::new(), name: "records".to_owned() };
    for verb in [&["sync", "-vvv", "--json"][..], &["status", "--json"], &["runs", "--json"], &["retry", "-vvv", "api"]]
    {
        let (code, said) = trial.run(verb);
        assert_ne!(code, Some(2), "{said}");
    }
    let workspace = &trial.workspace;
    // As it came: a row that is not what the API said would be wrong, and so would one that is made of it later.
    assert_eq!(workspace.column::<String>("SELECT token FROM api_records"), [secret.as_str()]);
    let set_aside: String = workspace.value("SELECT record ->> 'token' FROM _hw_quarantine");
    assert_eq!(set_aside, secret);
    let columns = "SELECT m.name || '.' || c.name FROM sqlite_schema m, pragma_table_info(m.name) c
                   WHERE m.type = 'table' AND m.name LIKE '\\_hw\\_%' ESCAPE '\\'";
    for column in workspace.column::<String>(columns) {
        let (table, name) = column.split_once('.').unwrap();
        if column != "_hw_quarantine.record" {
            let sql = format!("SELECT CAST(coalesce(\"{name}\", '') AS TEXT) FROM \"{table}\"");
            let text = workspace.column::<String>(&sql).join("\n");
            trial.search.look(&column, text.as_bytes());
        }
    }
    assert!(trial.search.places > 60, "{}", trial.search.places);
    assert_eq!(trial.search.hits, Vec::<String>::new());
}
