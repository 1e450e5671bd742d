//! A real run that panics with the secrets in its hands, and a daemon whose runs all do. It takes the feature `sabotage`,
//! with which `tests/teeth/run` runs it: nothing that is built without can be made to panic.

use super::Course;
use super::logins::{Account, LOGINS};
use super::parrot::{FAULTS, Fault, Parrot};
use super::secrets::Search;
use super::trial::Trial;
use crate::support::Workspace;

#[test]
fn a_panic_says_nothing_of_what_was_read() {
    if !cfg!(feature = "sabotage") {
        println!("skipped: nothing panics on purpose without the feature sabotage, see tests/teeth/run");
        return;
    }
    // Pages that have the secrets in them.
    let pages = ["headers_200", "json_keys", "link_value", "cursor", "latin", "html_200"];
    let faults: Vec<Fault> = FAULTS.into_iter().filter(|fault| pages.contains(&fault.name)).collect();
    assert_eq!(faults.len(), pages.len());
    let chosen = std::env::var("SABOTAGE").ok().filter(|name| name == "PanicQuotes");
    let sabotage = chosen.unwrap_or_else(|| "PagesPanic".to_owned());
    let mut hits = Vec::new();
    for (turn, login) in LOGINS.iter().enumerate().filter(|(_, login)| ["basic", "refresh_body"].contains(&login.name))
    {
        let account = Account::new(login, turn);
        let log_format = if turn % 2 == 0 { "text" } else { "json" };
        let course = Course { login, faults: &faults, with_sources: false, with_daemon: true, log_format, turn };
        let parrot = Parrot::start(&account.secrets);
        let workspace = Workspace::new();
        let folder = workspace.path("secrets");
        let mut variables = account.hand_over(&folder);
        variables.push(("SABOTAGE".to_owned(), sabotage.clone()));
        workspace.write("config.toml", &course.config(&account, &folder, parrot.address));
        let mut trial = Trial { workspace, variables, search: Search::new(), name: login.name.to_owned() };
        let (code, said) = trial.run(&["sync", "-vvv", "--json", "--log-format", log_format]);
        assert_eq!(code, Some(70), "{said}");
        trial.look_at_files("after sync");
        let sql =
            "SELECT count(*) FROM _hw_runs WHERE outcome = 'failed' AND error LIKE 'a bug in highwater: panic: %'";
        assert_eq!(trial.workspace.value::<usize>(sql), pages.len(), "{said}");
        for verb in [&["status"][..], &["status", "--json"], &["runs"], &["runs", "--json"]] {
            trial.run(verb);
        }
        trial.serve(log_format, pages.len());
        hits.extend(trial.search.hits);
    }
    assert_eq!(hits, Vec::<String>::new());
}
