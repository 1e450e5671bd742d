//! The whole file of docs/example.toml, against stand-ins of the APIs that it names: only addresses, secrets and the
//! speed come from the environment. After every run each table is what its API has served.

use std::process::Command;

use jiff::{SignedDuration, Timestamp};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::standins::github::{self, GitHub};
use crate::standins::shop::{self, Shop};
use crate::standins::stripe::{self, Stripe};
use crate::support::{Api, Finished, Seen, Workspace, finish, signal};

const EXAMPLE: &str = include_str!("../../docs/example.toml");

const TOKIO: &str = "tokio-rs/tokio";
const CARGO: &str = "rust-lang/cargo";

/// The stand-ins, and a folder with the example in it.
struct World {
    github: GitHub,
    stripe: Stripe,
    shop: Shop,
    github_api: Api,
    stripe_api: Api,
    shop_api: Api,
    workspace: Workspace,
}

impl World {
    fn new() -> Self {
        let (github, stripe, shop) = (GitHub::new(&[TOKIO, CARGO]), Stripe::default(), Shop::default());
        let workspace = Workspace::new();
        workspace.write("config.toml", EXAMPLE);
        let (github_api, stripe_api, shop_api) = (github.api(), stripe.api(), shop.api());
        Self { github, stripe, shop, github_api, stripe_api, shop_api, workspace }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.workspace.command(arguments);
        let overridden = [
            ("GITHUB__CLIENT__BASE_URL", format!("http://{}/", self.github_api.address)),
            ("STRIPE__CLIENT__BASE_URL", format!("http://{}/v1/", self.stripe_api.address)),
            ("SHOP__CLIENT__BASE_URL", format!("http://{}/api/", self.shop_api.address)),
            // Root alone may write to the folder of the example.
            ("STRIPE__CLIENT__AUTH__TOKEN", stripe::TOKEN.to_owned()),
            // As many requests, in less time.
            ("GITHUB__CLIENT__RATE_LIMIT__PER", "1s".to_owned()),
            ("STRIPE__CLIENT__RATE_LIMIT__PER", "10ms".to_owned()),
        ];
        for (key, value) in overridden {
            command.env(format!("HIGHWATER_SOURCES__{key}"), value);
        }
        command.env("HIGHWATER_DESTINATION__PATH", "highwater.db");
        command.env("GITHUB_TOKEN", github::TOKEN).env("SHOP_KEY", shop::KEY);
        command
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        finish(self.command(arguments).spawn().unwrap())
    }

    /// A sync in which everything is complete; its report.
    fn sync(&self) -> Value {
        let finished = self.run(&["sync", "--json"]);
        assert_eq!(finished.code, Some(0), "{finished:#?}");
        serde_json::from_str(&finished.stdout).unwrap()
    }

    /// Compares a table with the records that it has to hold.
    fn same(&self, table: &str, records: &[Value]) {
        highwater::verify::table(&self.workspace.path("highwater.db"), table, &["id"], records).unwrap();
    }

    /// Compares all tables with what their APIs have served, and what those hold with what they have served.
    fn compare(&self) {
        self.compare_github();
        self.same("stripe_charges", &self.stripe.served());
        self.same("shop_products", &self.shop.products());
    }

    fn compare_github(&self) {
        self.same("github_issues", &self.github.served_issues());
        self.same("github_issue_comments", &self.github.served_comments());
        let from = |record: &&Value| record["updated_at"].as_str().unwrap() >= "2024-01-01";
        all_of(&self.github.served_issues(), self.github.issues().iter().filter(from));
        all_of(&self.github.served_comments(), self.github.comments().iter().filter(from));
        self.workspace.check_books();
    }
}

/// Whether each of these has been served, as it is now.
fn all_of<'r>(served: &[Value], held: impl Iterator<Item = &'r Value>) {
    for record in held {
        let found = served.iter().find(|served| served["id"] == record["id"]);
        let is_same = |served: &Value| record.as_object().unwrap().iter().all(|(key, value)| served[key] == *value);
        assert!(found.is_some_and(is_same), "{record} was served as {found:?}");
    }
}

/// A second of June 2024, as GitHub writes it.
fn june(second: i64) -> String {
    let first: Timestamp = "2024-06-01T00:00:00Z".parse().unwrap();
    (first + SignedDuration::from_secs(second)).to_string()
}

/// Two repositories with issues on several pages each, some of them with comments, and one that is too old.
fn fill(github: &GitHub) {
    for n in 0..230 {
        // Three of them at a time are equal, also where a page ends.
        let number = github.open(TOKIO, &format!("tokio {n}"), &june(n / 3));
        if n % 20 == 0 {
            (0..n % 7 + 1).for_each(|m| github.comment(TOKIO, number, &format!("{n} {m}"), &june(n / 3)));
        }
    }
    github.open(CARGO, "before the initial value", "2023-12-31T23:59:59Z");
    github.open(CARGO, "at the initial value", "2024-01-01T00:00:00Z");
    (0..40).for_each(|n| {
        github.open(CARGO, &format!("cargo {n}"), &june(n));
    });
    let busy = github.open(CARGO, "more comments than a page", &june(41));
    (0..130).for_each(|n| github.comment(CARGO, busy, &format!("{n}"), &june(41)));
}

/// A moment so many hours ago, in Unix seconds.
fn hours_ago(hours: i64) -> i64 {
    Timestamp::now().as_second() - hours * 3600
}

fn first_of(request: &&Seen) -> bool {
    request.param("page").is_none() && request.param("starting_after").is_none()
}

/// What was asked for in `param` by the first request of each read, from request `from` on.
fn asked(api: &Api, from: usize, path: &str, param: &str) -> Vec<String> {
    let seen = api.seen();
    let asked = seen[from..].iter().filter(|request| request.path() == path).filter(first_of);
    asked.filter_map(|request| request.param(param)).collect()
}

#[test]
fn the_example_is_right_and_names_a_secret_that_is_missing() {
    let world = World::new();
    let finished = world.run(&["check"]);
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    for table in ["github_issues", "github_issue_comments", "stripe_charges", "shop_products"] {
        assert!(finished.stdout.contains(&format!("→ {table}\n")), "{}", finished.stdout);
    }
    let finished = finish(world.command(&["check"]).env_remove("SHOP_KEY").spawn().unwrap());
    assert_eq!(finished.code, Some(78), "{finished:#?}");
    assert!(finished.stderr.contains("SHOP_KEY"), "{finished:#?}");
}

#[test]
fn every_table_is_what_its_api_served_over_runs_with_changing_data() {
    let world = World::new();
    let World { github, stripe, shop, .. } = &world;
    fill(github);
    // Pages of a hundred, with equal moments on both sides of their ends, in more than one window of thirty days.
    (0..250).for_each(|n| drop(stripe.charge(hours_ago(24 * 400) + n / 4, 100 + n as u64)));
    let refunded: Vec<String> = (0..30).map(|n| stripe.charge(hours_ago(200 - n), n as u64)).collect();
    let last = hours_ago(100);
    let at_the_end = stripe.charge(last, 7);
    let too_early = stripe.charge("2022-12-31T23:59:59Z".parse::<Timestamp>().unwrap().as_second(), 1);
    shop.add(0..1100);
    world.sync();
    world.compare();
    assert_eq!(world.stripe.served().len(), world.stripe.charges().len() - 1, "all but {too_early}");

    // New, changed and closed issues; one that is equal to the last one; late ones within the lag; comments on old
    // issues; issues that are deleted, one of them between the list and its comments.
    let new = github.open(TOKIO, "new", &june(1000));
    github.comment(TOKIO, new, "first", &june(1000));
    github.comment(TOKIO, 3, "an old issue wakes up", &june(1001));
    github.edit(TOKIO, 9, &june(1001), json!({"state": "closed", "closed_at": june(1001)}));
    github.open(CARGO, "equal to the last one", &june(41));
    github.edit(CARGO, 1, &june(39), json!({"title": "late, and not too old any more"}));
    github.delete(TOKIO, 21);
    github.comment(TOKIO, 41, "will be gone", &june(1002));
    github.delete_once_listed(TOKIO, 41);
    // A charge that is late within three days, one that is equal to the last one, and refunds on both sides.
    stripe.charge(last - 2 * 24 * 3600, 11);
    stripe.charge(last, 12);
    stripe.charge(hours_ago(1), 13);
    stripe.refund(&at_the_end);
    stripe.refund(&refunded[0]);
    shop.change(17, json!({"stock": 0, "note": "a new column"}));
    shop.remove(100..400);
    shop.add(1100..1130);
    let (before, before_charges) = (world.github_api.seen().len(), world.stripe_api.seen().len());
    let report = world.sync();
    world.compare();
    let path = |repo: &str| format!("/repos/{repo}/issues");
    assert_eq!(asked(&world.github_api, before, &path(TOKIO), "since"), [june(229 / 3 - 300)]);
    assert_eq!(asked(&world.github_api, before, &path(CARGO), "since"), [june(41 - 300)]);
    let windows = asked(&world.stripe_api, before_charges, "/v1/charges", "created[gte]");
    assert_eq!(windows, [(last - 3 * 24 * 3600).to_string()], "one window is left, from the lag on");
    let gone = format!("/repos/{TOKIO}/issues/41/comments");
    assert!(world.github_api.seen()[before..].iter().any(|request| request.path() == gone), "a 410 was in it");
    let deleted: i64 =
        world.workspace.value("SELECT count(*) FROM github_issues WHERE title IN ('tokio 20', 'tokio 40')");
    assert_eq!(deleted, 2, "rows of deleted issues stay: no list says that they are gone");
    let comments = &report["resources"].as_array().unwrap()[1];
    assert_eq!(
        (&comments["resource"], &comments["outcome"]),
        (&json!("issue_comments"), &json!("complete")),
        "{report:#}"
    );
    let changed: i64 = world.workspace.value("SELECT amount_refunded FROM stripe_charges WHERE refunded");
    assert_eq!(changed, 7, "a refund beyond the lag is not seen");

    // Nothing has changed: nothing is written.
    let report = world.sync();
    world.compare();
    for resource in report["resources"].as_array().unwrap().iter().filter(|resource| resource["resource"] != "products")
    {
        let records = &resource["records"];
        assert_eq!((&records["inserted"], &records["updated"]), (&json!(0), &json!(0)), "{resource:#}");
    }

    // An empty shop, a repository that fills up, and a quiet Stripe.
    shop.remove(0..2000);
    (0..150).for_each(|n| {
        github.open(CARGO, &format!("more {n}"), &june(2000));
    });
    (0..150).for_each(|n| github.comment(CARGO, 10, &format!("more {n}"), &june(2001)));
    world.sync();
    world.compare();
}

#[test]
fn the_example_reads_into_its_own_folder_and_no_secret_gets_there() {
    let world = World::new();
    world.github.open(TOKIO, "one", &june(0));
    world.stripe.charge(hours_ago(5), 1);
    world.shop.add(0..3);
    let mut command = world.command(&["sync", "-v"]);
    let finished = finish(command.env_remove("HIGHWATER_DESTINATION__PATH").spawn().unwrap());
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let bytes = std::fs::read(world.workspace.path("data/warehouse.db")).unwrap();
    for secret in [github::TOKEN, stripe::TOKEN, shop::KEY] {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret} is in the file");
        assert!(!finished.stderr.contains(secret) && !finished.stdout.contains(secret), "{finished:#?}");
    }
}

#[test]
fn runs_that_are_killed_lose_nothing_of_what_changes_in_between() {
    let world = World::new();
    fill(&world.github);
    (0..250).for_each(|n| drop(world.stripe.charge(hours_ago(24 * 40) + n / 4, n as u64)));
    world.shop.add(0..1100);
    for (round, requests) in [1, 2, 5, 9, 14].into_iter().enumerate() {
        let before = world.github_api.seen().len();
        let child = world.command(&["sync", "-q"]).spawn().unwrap();
        world.github_api.wait_for(before + requests);
        signal(&child, Signal::KILL);
        let finished = finish(child);
        assert_eq!(finished.code, None, "killed: {finished:?}");
        let at = june(500 + round as i64);
        let new = world.github.open(TOKIO, &format!("between {round}"), &at);
        world.github.comment(TOKIO, new, "a comment", &at);
        world.stripe.charge(hours_ago(2), 900 + round as u64);
        world.shop.change(round as u64, json!({"stock": 99}));
    }
    // The first one ends the pass that was interrupted, in which some partitions were complete already.
    world.sync();
    world.sync();
    world.compare();
}

#[test]
fn an_issue_that_moves_to_the_end_of_the_list_between_two_runs_takes_none_with_it() {
    let world = World::new();
    fill(&world.github);
    world.github.break_page(Some(2));
    let mut command = world.command(&["sync", "-q", "github"]);
    let command = command.env("HIGHWATER_SOURCES__GITHUB__CLIENT__RETRY__MAX_ATTEMPTS", "1");
    let finished = finish(command.spawn().unwrap());
    assert_eq!(finished.code, Some(69), "{finished:?}");
    assert_eq!(world.workspace.value::<i64>("SELECT count(*) FROM github_issues WHERE title LIKE 'tokio%'"), 100);
    world.github.break_page(None);
    // Everything behind the first page comes one place further to the front.
    world.github.edit(TOKIO, 2, &june(3000), json!({"title": "edited"}));
    let finished = world.run(&["sync", "github"]);
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    world.compare_github();
}

#[test]
fn the_requests_that_the_example_reserves_for_others_are_left_to_them() {
    let world = World::new();
    fill(&world.github);
    world.github.leave(210, 5);
    let finished = world.run(&["sync", "github"]);
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    world.compare_github();
    // What was on its way when the reserve of 200 was reached still came.
    let (left, requests) = (world.github.fewest_left(), world.github_api.seen().len());
    assert!((200 - 8..=200).contains(&left) && requests > 250, "{left} left after {requests} requests");
}

#[test]
fn a_resource_of_the_example_is_read_alone_with_the_one_above_it() {
    let world = World::new();
    fill(&world.github);
    world.shop.add(0..10);
    let finished = world.run(&["sync", "github.issue_comments"]);
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    world.compare_github();
    assert!(world.stripe_api.seen().is_empty() && world.shop_api.seen().is_empty());
    let finished = world.run(&["sync", "shop"]);
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    world.same("shop_products", &world.shop.products());
}

/// A sync of `github` that asks whether pages have changed; afterwards its tables are compared. Gives back the requests
/// that it took, and those of them that were answered with a 304.
fn sync_with_conditions(world: &World) -> (u64, u64) {
    let (asked, known) = (world.github_api.seen().len() as u64, world.github.not_modified());
    let mut command = world.command(&["sync", "github"]);
    command.env("HIGHWATER_SOURCES__GITHUB__CLIENT__CONDITIONAL_REQUESTS", "true");
    let finished = finish(command.spawn().unwrap());
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    world.compare_github();
    (world.github_api.seen().len() as u64 - asked, world.github.not_modified() - known)
}

#[test]
fn a_304_costs_no_rows_and_keeps_the_cursor() {
    let world = World::new();
    let github = &world.github;
    for n in 0..7 {
        let number = github.open(TOKIO, &format!("tokio {n}"), &june(n));
        github.comment(TOKIO, number, "one", &june(n));
        github.open(CARGO, &format!("cargo {n}"), &june(n));
    }
    sync_with_conditions(&world);
    // The second read starts at the cursor: another address. From the third on it is the same.
    sync_with_conditions(&world);
    let cursors = || -> Vec<String> {
        world.workspace.column("SELECT cursor FROM _hw_checkpoints WHERE cursor IS NOT NULL ORDER BY partition")
    };
    let (before, runs): (_, i64) = (cursors(), world.workspace.value("SELECT max(run_id) FROM _hw_runs"));
    assert_eq!(sync_with_conditions(&world), (2, 2), "both lists, and no comments as no issue has changed");
    let received: i64 = world.workspace.value(&format!("SELECT sum(received) FROM _hw_runs WHERE run_id > {runs}"));
    assert_eq!((received, cursors()), (0, before));
    github.comment(TOKIO, 3, "two", &june(20));
    github.open(CARGO, "new", &june(21));
    let (requests, _) = sync_with_conditions(&world);
    assert_eq!(requests, 2 + 7 + 8);
    sync_with_conditions(&world);
    assert_eq!(sync_with_conditions(&world), (2, 2));
}

#[test]
fn a_page_that_has_not_changed_hides_none_that_come_behind_it() {
    let world = World::new();
    let github = &world.github;
    fill(github);
    for _ in 0..3 {
        sync_with_conditions(&world);
    }
    let new = github.open(TOKIO, "behind two pages of the lag", &june(77));
    github.comment(TOKIO, new, "seen as well", &june(77));
    github.open(CARGO, "in the other list", &june(50));
    sync_with_conditions(&world);
    let found: i64 = world.workspace.value(
        "SELECT count(*) FROM github_issues WHERE title IN ('behind two pages of the lag', 'in the other list')",
    );
    assert_eq!(found, 2);
    // A list of one page that was full, and grows by a second one.
    for n in 0..58 {
        github.open(CARGO, &format!("up to a hundred {n}"), &june(51));
    }
    for _ in 0..2 {
        sync_with_conditions(&world);
    }
    github.open(CARGO, "the first of the second page", &june(52));
    sync_with_conditions(&world);
    assert_eq!(world.workspace.value::<i64>("SELECT count(*) FROM github_issues WHERE title LIKE 'the first of%'"), 1);
}
