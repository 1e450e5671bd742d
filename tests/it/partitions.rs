//! Partitions: each is read for itself, with a checkpoint of its own, and one that fails takes no other down.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::{Api, Seen, Workspace, json as answer, respond};

/// An API of repositories, each with numbered records on pages of ten. Some answer with a status instead.
#[derive(Clone, Default)]
struct Repos {
    records: BTreeMap<String, u64>,
    broken: Arc<Mutex<BTreeMap<String, (u64, u16)>>>,
}

impl Repos {
    fn new(records: &[(&str, u64)]) -> Self {
        Self { records: records.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect(), ..Self::default() }
    }

    /// From this page on, the repository answers with `status`.
    fn break_at(&self, name: &str, page: u64, status: u16) {
        self.broken.lock().unwrap().insert(name.to_owned(), (page, status));
    }

    fn heal(&self) {
        self.broken.lock().unwrap().clear();
    }

    fn api(&self) -> Api {
        let repos = self.clone();
        Api::start(move |request: &Seen, _| {
            let name = request.path().trim_start_matches("/repos/").trim_end_matches("/issues").to_owned();
            let page: u64 = request.param("page").map_or(1, |page| page.parse().unwrap());
            match repos.broken.lock().unwrap().get(&name) {
                Some((from, status)) if page >= *from => return respond(*status, &[], ""),
                _ => {}
            }
            let Some(total) = repos.records.get(&name) else { return respond(404, &[], "") };
            let numbers = ((page - 1) * 10..*total).take(10);
            let records: Vec<Value> = numbers.map(|n| json!({"id": format!("{name}#{n}"), "n": n})).collect();
            answer(json!({ "data": records, "pages": total.div_ceil(10) }))
        })
    }
}

fn config(partitions: &str, more: &str) -> String {
    format!(
        "[sources.hub.client]\nbase_url = \"BASE\"\nretry = {{ max_attempts = 1 }}\n\
         paginator = {{ type = \"page_number\", total_path = \"pages\" }}\n\
         [sources.hub.resources.issues]\npath = \"repos/${{partition.repo}}/issues\"\ndata_selector = \"data\"\n\
         partitions = {partitions}\n{more}\n"
    )
}

const KEYED: &str = "primary_key = \"id\"";

fn per_repo(workspace: &Workspace) -> Vec<String> {
    workspace
        .column("SELECT substr(id, 1, instr(id, '#') - 1) || ' ' || count(*) FROM hub_issues GROUP BY substr(id, 1, instr(id, '#') - 1) ORDER BY 1")
}

#[test]
fn each_partition_is_read_to_its_own_end_and_has_its_own_checkpoint() {
    let repos = Repos::new(&[("a/one", 25), ("b/two", 3), ("c/three", 0)]);
    for more in [KEYED, "", "primary_key = \"id\"\nwrite_disposition = \"replace\"\nconcurrency = 3"] {
        let api = repos.api();
        let partitions = "[{ repo = \"a/one\" }, { repo = \"b/two\" }, { repo = \"c/three\" }]";
        let workspace = Workspace::with_config(api.address, &config(partitions, more));
        let report = workspace.sync(0);
        assert_eq!(per_repo(&workspace), ["a/one 25", "b/two 3"], "{more}");
        assert_eq!(report["resources"][0]["records"]["inserted"], 28);
        let checkpoints: Vec<String> =
            workspace.column("SELECT partition || ' ' || state FROM _hw_checkpoints ORDER BY queued");
        assert_eq!(
            checkpoints,
            [r#"{"repo":"a/one"} complete"#, r#"{"repo":"b/two"} complete"#, r#"{"repo":"c/three"} complete"#]
        );
        assert_eq!(workspace.value::<i64>("SELECT count(*) FROM _hw_runs"), 1, "one run for all");
        assert!(api.seen().iter().any(|request| request.path() == "/repos/a/one/issues"), "a slash is a slash");
        workspace.check_books();
    }
}

#[test]
fn all_combinations_of_a_table_of_lists_are_partitions() {
    let api = Api::start(|request: &Seen, _| {
        let (year, kind) = (request.param("year").unwrap(), request.param("kind").unwrap());
        answer(json!([{"id": format!("{year}-{kind}")}]))
    });
    let workspace = Workspace::with_config(
        api.address,
        "[sources.s.client]\nbase_url = \"BASE\"\npaginator = { type = \"single_page\" }\n\
         [sources.s.resources.r]\nprimary_key = \"id\"\nconcurrency = 4\n\
         params = { year = \"${partition.year}\", kind = \"${partition.kind}\" }\n\
         partitions = { year = [2024, 2025, 2026], kind = [\"x\", \"y\"] }\n",
    );
    workspace.sync(0);
    let ids: Vec<String> = workspace.column("SELECT id FROM s_r ORDER BY id");
    assert_eq!(ids, ["2024-x", "2024-y", "2025-x", "2025-y", "2026-x", "2026-y"]);
}

#[test]
fn a_partition_that_fails_takes_no_other_down_and_goes_on_where_it_stopped() {
    for more in [KEYED, "", "primary_key = \"id\"\nwrite_disposition = \"replace\""] {
        let repos = Repos::new(&[("a", 5), ("b", 35), ("c", 5)]);
        repos.break_at("b", 3, 500);
        let api = repos.api();
        let text = config("[{ repo = \"a\" }, { repo = \"b\" }, { repo = \"c\" }]", more);
        let workspace = Workspace::with_config(api.address, &text);
        let report = workspace.sync(69);
        let resource = &report["resources"][0];
        assert_eq!(resource["outcome"], "failed");
        let error = resource["error"].as_str().unwrap();
        assert!(error.starts_with("hub.issues (repo=b): page 3: "), "{error}");
        let is_replaced = more.contains("replace");
        if is_replaced {
            let tables: i64 = workspace.value("SELECT count(*) FROM sqlite_schema WHERE name = 'hub_issues'");
            assert_eq!(tables, 0, "not before all are complete");
        } else {
            assert_eq!(per_repo(&workspace), ["a 5", "b 20", "c 5"], "{more}");
        }
        repos.heal();
        let before = api.seen().len();
        let report = workspace.sync(0);
        assert_eq!(report["resources"][0]["resumed_at"], "page 3", "{more}");
        let asked: Vec<String> = api.seen()[before..].iter().map(|request| request.target.clone()).collect();
        let of_b: Vec<&String> = asked.iter().filter(|target| target.contains("/b/")).collect();
        assert_eq!(of_b, ["/repos/b/issues?page=3", "/repos/b/issues?page=4"], "{more}");
        // A generation is completed with what it has, and rows without a key would come twice; elsewhere every partition
        // is up to date after a run.
        assert_eq!(asked.len(), if more == KEYED { 4 } else { 2 }, "{more}: {asked:?}");
        assert_eq!(per_repo(&workspace), ["a 5", "b 35", "c 5"], "{more}");
        workspace.check_books();
    }
}

#[test]
fn a_refusal_that_concerns_every_partition_is_not_asked_for_again_and_again() {
    let api = Api::start(|_, _| respond(500, &[], ""));
    let list: Vec<String> = (0..200).map(|n| format!("{{ repo = \"r{n}\" }}")).collect();
    let workspace = Workspace::with_config(api.address, &config(&format!("[{}]", list.join(", ")), KEYED));
    let report = workspace.sync(69);
    assert_eq!(api.seen().len(), 20);
    let error = report["resources"][0]["error"].as_str().unwrap();
    assert!(error.contains("(and 19 more partitions failed)"), "{error}");
}

#[test]
fn partitions_that_are_taken_out_of_the_configuration_are_forgotten() {
    let repos = Repos::new(&[("a", 5), ("b", 5)]);
    let api = repos.api();
    let workspace = Workspace::with_config(api.address, &config("[{ repo = \"a\" }, { repo = \"b\" }]", KEYED));
    workspace.sync(0);
    workspace.configure(api.address, &config("[{ repo = \"b\" }]", KEYED));
    workspace.sync(0);
    let left: Vec<String> = workspace.column("SELECT partition FROM _hw_checkpoints");
    assert_eq!(left, [r#"{"repo":"b"}"#]);
    assert_eq!(per_repo(&workspace), ["a 5", "b 5"], "their rows stay");
}

#[test]
fn a_pass_that_is_open_is_not_gone_on_with_where_the_partitions_have_changed() {
    let api = Repos::new(&[("a", 25), ("b", 25), ("c", 5)]).api();
    let replaced = "primary_key = \"id\"\nwrite_disposition = \"replace\"\n";
    let limited = "paginator = { type = \"page_number\", total_path = \"pages\", max_pages = 1 }\n";
    let two = "[{ repo = \"a\" }, { repo = \"b\" }]";
    for (after, expected) in
        [("[{ repo = \"a\" }]", vec!["a 25"]), ("[{ repo = \"a\" }, { repo = \"c\" }]", vec!["a 25", "c 5"])]
    {
        let workspace = Workspace::with_config(api.address, &config(two, &format!("{replaced}{limited}")));
        workspace.sync(75);
        workspace.configure(api.address, &config(after, replaced));
        workspace.sync(0);
        assert_eq!(per_repo(&workspace), expected);
        workspace.check_books();
    }
}

#[test]
fn a_partition_is_the_same_in_whatever_order_its_keys_are_written() {
    let broken = Arc::new(Mutex::new(true));
    let refusing = Arc::clone(&broken);
    let api = Api::start(move |request: &Seen, _| {
        if *refusing.lock().unwrap() && request.param("page").as_deref() == Some("2") {
            return respond(500, &[], "");
        }
        answer(json!({"data": [{"id": request.target}], "pages": 2}))
    });
    let config = |partition: &str| {
        config(&format!("[{{ {partition} }}]"), "params = { lang = \"${partition.lang}\" }\nprimary_key = \"id\"")
    };
    let workspace = Workspace::with_config(api.address, &config("repo = \"a\", lang = \"b\""));
    workspace.sync(69);
    *broken.lock().unwrap() = false;
    workspace.configure(api.address, &config("lang = \"b\", repo = \"a\""));
    assert_eq!(workspace.sync(0)["resources"][0]["resumed_at"], "page 2");
    let partitions: Vec<String> = workspace.column("SELECT partition FROM _hw_checkpoints");
    assert_eq!(partitions, [r#"{"lang":"b","repo":"a"}"#]);

    workspace.configure(api.address, &config("repo = \"a\", lang = \"b\" }, { lang = \"b\", repo = \"a\""));
    let finished = workspace.run(&["check"]);
    assert_eq!(finished.code, Some(78), "{finished:#?}");
    assert!(finished.stderr.contains("names a partition twice"), "{finished:#?}");
}
