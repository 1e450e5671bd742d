//! GitHub's REST API, as far as issues and their comments go: `state`, `sort`, `direction`, `since`, pages by `Link`
//! header, the primary rate limit, conditional requests, and issues that are gone.
//! <https://docs.github.com/en/rest/issues/issues>, <https://docs.github.com/en/rest/issues/comments>,
//! <https://docs.github.com/en/rest/using-the-rest-api/using-pagination-in-the-rest-api>

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::response::Response;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{header, merge, number};
use crate::support::{Api, Seen, respond};

pub(crate) const TOKEN: &str = "ghp_4b1d";

/// Requests in an hour, as GitHub grants them to a signed-in user.
const LIMIT: u64 = 5000;

#[derive(Clone, Default)]
pub(crate) struct GitHub(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// By `owner/name`; its place gives the number that links name it by.
    repos: Vec<(String, Repo)>,
    last_id: u64,
    /// Issues that are deleted right after a list has shown them.
    doomed: BTreeSet<(String, u64)>,
    /// The version of each record that was sent last, by `id`.
    served_issues: BTreeMap<u64, Value>,
    served_comments: BTreeMap<u64, Value>,
    /// Lists of issues have a bad gateway in the place of this page.
    broken_page: Option<usize>,
    /// Requests of this hour, when it ends, and the most that there were in one.
    used: u64,
    resets_at: Option<Timestamp>,
    most_used: u64,
    not_modified: u64,
}

#[derive(Default)]
struct Repo {
    issues: BTreeMap<u64, Value>,
    comments: BTreeMap<u64, Vec<Value>>,
    deleted: BTreeSet<u64>,
}

impl State {
    fn repo(&mut self, name: &str) -> &mut Repo {
        &mut self.repos.iter_mut().find(|(repo, _)| repo == name).unwrap().1
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        // As large as the real ones: beyond 32 bits.
        2_400_000_000 + self.last_id
    }
}

impl GitHub {
    pub(crate) fn new(repos: &[&str]) -> Self {
        let github = Self::default();
        github.lock().repos = repos.iter().map(|repo| ((*repo).to_owned(), Repo::default())).collect();
        github
    }

    pub(crate) fn api(&self) -> Api {
        let github = self.clone();
        Api::start(move |request: &Seen, _| github.answer(request))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Opens an issue and gives back its number.
    pub(crate) fn open(&self, repo: &str, title: &str, at: &str) -> u64 {
        let mut state = self.lock();
        let id = state.next_id();
        let repo = state.repo(repo);
        let number = 1 + repo.issues.keys().chain(&repo.deleted).max().copied().unwrap_or(0);
        let issue = json!({
            "id": id, "number": number, "title": title, "state": "open", "locked": false, "comments": 0,
            "body": (number % 3 != 0).then(|| format!("Steps:\r\n1. `cargo run`\n2. 🦀 \"{title}\"")),
            "user": {"login": "ferris", "id": 1, "site_admin": false},
            "labels": [{"id": 7, "name": "A-tokio"}], "created_at": at, "updated_at": at, "closed_at": null,
        });
        repo.issues.insert(number, issue);
        number
    }

    /// Changes fields of an issue, and so its `updated_at`.
    pub(crate) fn edit(&self, repo: &str, number: u64, at: &str, fields: Value) {
        let mut state = self.lock();
        let issue = state.repo(repo).issues.get_mut(&number).unwrap();
        merge(issue, fields);
        merge(issue, json!({"updated_at": at}));
    }

    /// Comments on an issue, which is an update of it as well.
    pub(crate) fn comment(&self, repo: &str, number: u64, text: &str, at: &str) {
        let mut state = self.lock();
        let id = state.next_id();
        let repo = state.repo(repo);
        let comments = repo.comments.entry(number).or_default();
        comments.push(json!({
            "id": id, "body": text, "user": {"login": "crab", "id": 2}, "created_at": at, "updated_at": at,
            "author_association": "MEMBER", "reactions": {"total_count": 0, "+1": 0},
        }));
        let count = comments.len();
        merge(repo.issues.get_mut(&number).unwrap(), json!({"comments": count, "updated_at": at}));
    }

    /// Deletes an issue with its comments; its number is not given again.
    pub(crate) fn delete(&self, repo: &str, number: u64) {
        delete(self.lock().repo(repo), number);
    }

    /// Deletes an issue in the moment after a list has shown it.
    pub(crate) fn delete_once_listed(&self, repo: &str, number: u64) {
        self.lock().doomed.insert((repo.to_owned(), number));
    }

    pub(crate) fn break_page(&self, page: Option<usize>) {
        self.lock().broken_page = page;
    }

    /// All issues that there are now.
    pub(crate) fn issues(&self) -> Vec<Value> {
        self.lock().repos.iter().flat_map(|(_, repo)| repo.issues.values().cloned()).collect()
    }

    /// All comments that there are now.
    pub(crate) fn comments(&self) -> Vec<Value> {
        self.lock().repos.iter().flat_map(|(_, repo)| repo.comments.values().flatten().cloned()).collect()
    }

    /// Every issue that was ever sent, in the version that was sent last.
    pub(crate) fn served_issues(&self) -> Vec<Value> {
        self.lock().served_issues.values().cloned().collect()
    }

    /// The same of comments, each with the number of its issue as `_issues_number`.
    pub(crate) fn served_comments(&self) -> Vec<Value> {
        self.lock().served_comments.values().cloned().collect()
    }

    /// Leaves so few requests for so many seconds; then the next hour begins.
    pub(crate) fn leave(&self, requests: u64, secs: i64) {
        let mut state = self.lock();
        state.used = LIMIT - requests;
        // The header has whole seconds, and is not earlier than what it speaks of.
        let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
        state.resets_at = Some(now + SignedDuration::from_secs(secs + 1));
    }

    /// The fewest requests that were ever left.
    pub(crate) fn fewest_left(&self) -> u64 {
        LIMIT.saturating_sub(self.lock().most_used)
    }

    /// Answers of 304 so far.
    pub(crate) fn not_modified(&self) -> u64 {
        self.lock().not_modified
    }

    fn answer(&self, request: &Seen) -> Response {
        if header(request, "user-agent").is_none() {
            return message(
                403,
                "Request forbidden by administrative rules. Please make sure your request has a User-Agent header",
            );
        }
        if header(request, "authorization") != Some(&format!("Bearer {TOKEN}")) {
            return message(401, "Bad credentials");
        }
        let mut state = self.lock();
        if state.resets_at.is_none_or(|at| at <= Timestamp::now()) {
            state.used = 0;
            state.resets_at = Some(Timestamp::now() + SignedDuration::from_secs(3600));
        }
        if state.used >= LIMIT {
            return message(403, "API rate limit exceeded for user ID 1.");
        }
        let path: Vec<&str> = request.path().trim_start_matches('/').split('/').collect();
        let (place, rest) = match path.as_slice() {
            ["repos", owner, name, rest @ ..] => {
                (state.repos.iter().position(|(repo, _)| *repo == format!("{owner}/{name}")), rest)
            }
            // Links name a repository by its number.
            ["repositories", number, rest @ ..] => {
                (number.parse::<usize>().ok().filter(|number| *number < state.repos.len()), rest)
            }
            _ => (None, &[][..]),
        };
        let Some(place) = place else { return message(404, "Not Found") };
        let (name, repo) = &state.repos[place];
        let name = name.clone();
        let found = match rest {
            ["issues"] => issues(repo, request),
            ["issues", number, "comments"] => {
                let number = number.parse::<u64>().unwrap_or(0);
                match repo.comments.get(&number) {
                    _ if repo.deleted.contains(&number) => return message(410, "This issue was deleted"),
                    None if !repo.issues.contains_key(&number) => return message(404, "Not Found"),
                    comments => Ok(comments.cloned().unwrap_or_default()),
                }
            }
            _ => return message(404, "Not Found"),
        };
        let found = match found {
            Ok(found) => found,
            Err(refused) => return message(422, refused),
        };
        let (Some(per_page), Some(page)) =
            (number(request, "per_page", 30, 1..=100), number(request, "page", 1, 1..=usize::MAX))
        else {
            return message(422, "Validation Failed");
        };
        if rest == ["issues"] && state.broken_page == Some(page) {
            return message(502, "Server Error");
        }
        let shown: Vec<Value> = found.iter().skip((page - 1) * per_page).take(per_page).cloned().collect();
        let link =
            link(request, &format!("repositories/{place}/{}", rest.join("/")), page, found.len().div_ceil(per_page));
        let body = json!(shown).to_string();
        // It stands for the body alone: that there are more pages now does not change it.
        let etag = format!("W/\"{}\"", hash(&body));
        // A conditional request that finds nothing new does not count (docs: best practices).
        let is_known = header(request, "if-none-match") == Some(&etag);
        state.used += u64::from(!is_known);
        state.not_modified += u64::from(is_known);
        state.most_used = state.used.max(state.most_used);
        let left = LIMIT.saturating_sub(state.used).to_string();
        let reset = state.resets_at.unwrap().as_second().to_string();
        let mut headers = vec![
            ("content-type", "application/json; charset=utf-8"),
            ("etag", &etag),
            ("x-ratelimit-limit", "5000"),
            ("x-ratelimit-remaining", &left),
            ("x-ratelimit-reset", &reset),
            ("x-ratelimit-resource", "core"),
        ];
        if is_known {
            // Without `Link`: RFC 9110 §15.4.5 asks for no more than what a cache needs.
            return respond(304, &headers, "");
        }
        if !link.is_empty() {
            headers.push(("link", &link));
        }
        match rest {
            ["issues"] => {
                for issue in &shown {
                    state.served_issues.insert(issue["id"].as_u64().unwrap(), issue.clone());
                    let number = issue["number"].as_u64().unwrap();
                    if state.doomed.remove(&(name.clone(), number)) {
                        delete(state.repo(&name), number);
                    }
                }
            }
            _ => {
                let number: u64 = rest[1].parse().unwrap();
                for mut comment in shown {
                    merge(&mut comment, json!({"_issues_number": number}));
                    state.served_comments.insert(comment["id"].as_u64().unwrap(), comment);
                }
            }
        }
        respond(200, &headers, body)
    }
}

fn delete(repo: &mut Repo, number: u64) {
    repo.issues.remove(&number).unwrap();
    repo.comments.remove(&number);
    repo.deleted.insert(number);
}

/// The issues that a list has to show, in its order.
fn issues(repo: &Repo, request: &Seen) -> Result<Vec<Value>, &'static str> {
    let mut found: Vec<Value> = repo.issues.values().cloned().collect();
    match request.param("state").as_deref().unwrap_or("open") {
        "all" => {}
        state @ ("open" | "closed") => found.retain(|issue| issue["state"] == state),
        _ => return Err("Validation Failed"),
    }
    let time = |issue: &Value, field: &str| issue[field].as_str().unwrap().parse::<Timestamp>().unwrap();
    if let Some(since) = request.param("since") {
        let since: Timestamp = since.parse().map_err(|_| "Validation Failed")?;
        found.retain(|issue| time(issue, "updated_at") >= since);
    }
    match request.param("sort").as_deref().unwrap_or("created") {
        "created" => found.sort_by_key(|issue| time(issue, "created_at")),
        "updated" => found.sort_by_key(|issue| time(issue, "updated_at")),
        "comments" => found.sort_by_key(|issue| issue["comments"].as_u64()),
        _ => return Err("Validation Failed"),
    }
    match request.param("direction").as_deref().unwrap_or("desc") {
        "asc" => {}
        "desc" => found.reverse(),
        _ => return Err("Validation Failed"),
    }
    Ok(found)
}

/// The `Link` header of a page: all parameters of the request, with another `page`.
fn link(request: &Seen, path: &str, page: usize, pages: usize) -> String {
    let host = header(request, "host").unwrap();
    let to = |page: usize, rel: &str| {
        let asked = url::Url::parse(&format!("http://{host}{}", request.target)).unwrap();
        let mut url = url::Url::parse(&format!("http://{host}/{path}")).unwrap();
        let kept = asked.query_pairs().filter(|(name, _)| name != "page");
        url.query_pairs_mut().extend_pairs(kept).append_pair("page", &page.to_string());
        format!("<{url}>; rel=\"{rel}\"")
    };
    let mut links = Vec::new();
    if page > 1 {
        links.push(to(page - 1, "prev"));
    }
    if page < pages {
        links.extend([to(page + 1, "next"), to(pages, "last")]);
    }
    if page > 1 {
        links.push(to(1, "first"));
    }
    links.join(", ")
}

fn hash(value: &impl Hash) -> String {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

fn message(status: u16, text: &str) -> Response {
    let body =
        json!({"message": text, "documentation_url": "https://docs.github.com/rest", "status": status.to_string()});
    respond(status, &[("content-type", "application/json; charset=utf-8")], body.to_string())
}
