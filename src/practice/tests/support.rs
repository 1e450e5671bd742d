//! A practice API on a port of its own and a client that knows how each of its endpoints pages.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::super::data::key_text;
use super::super::{Practice, PracticeOptions, Resource, Served};

pub(super) struct Server {
    pub(super) practice: Arc<Practice>,
    pub(super) address: SocketAddr,
    client: reqwest::Client,
    stop: CancellationToken,
    tasks: JoinSet<std::io::Result<()>>,
}

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) path: String,
    pub(super) json: Option<Value>,
    pub(super) authorization: Option<String>,
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: reqwest::header::HeaderMap,
    pub(super) body: Vec<u8>,
}

/// A whole resource, read page by page.
pub(super) struct Walk {
    pub(super) records: Vec<Value>,
    pub(super) pages: usize,
    /// The statuses of refused attempts.
    pub(super) refusals: Vec<u16>,
}

impl Server {
    pub(super) async fn start(options: PracticeOptions) -> Server {
        // Another test may have been faster; the provider is the same.
        rustls::crypto::ring::default_provider().install_default().ok();
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap();
        let practice = Practice::new(options);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(practice.clone().serve(listener, stop.clone()));
        Server { practice, address, client, stop, tasks }
    }

    /// Stops and waits for the end, which has to come soon.
    pub(super) async fn stop(mut self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(5), self.tasks.join_next()).await;
        ended.expect("serve goes on after the stop").unwrap().unwrap().unwrap();
    }

    pub(super) async fn send(&self, ask: &Ask) -> Answer {
        let url = format!("http://{}{}", self.address, ask.path);
        let mut request = match &ask.json {
            None => self.client.get(url),
            Some(json) => self.client.post(url).header("content-type", "application/json").body(json.to_string()),
        };
        if let Some(authorization) = &ask.authorization {
            request = request.header("authorization", authorization);
        }
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Answer { status, headers, body: answer.bytes().await.unwrap().into() }
    }

    /// Reads `resource` to its end, asking again where it is refused.
    pub(super) async fn walk(&self, resource: Resource) -> Walk {
        let mut walk = Walk { records: Vec::new(), pages: 0, refusals: Vec::new() };
        let mut ask = Ask::first(resource);
        loop {
            let answer = self.send(&ask).await;
            if answer.status != 200 {
                walk.refusals.push(answer.status);
                assert!(walk.refusals.len() < 10, "{resource:?} refuses without end");
                continue;
            }
            let (records, next) = answer.page(resource, &ask);
            assert!(!records.is_empty(), "an empty page of {resource:?}");
            walk.records.extend(records);
            walk.pages += 1;
            match next {
                Some(next) => ask = next,
                None => return walk,
            }
        }
    }
}

impl Ask {
    pub(super) fn get(path: &str) -> Ask {
        Ask { path: path.into(), json: None, authorization: Some("Bearer tide".into()) }
    }

    pub(super) fn post(path: &str, json: Value) -> Ask {
        Ask { json: Some(json), ..Ask::get(path) }
    }

    pub(super) fn first(resource: Resource) -> Ask {
        match resource {
            Resource::Search => Ask::post(resource.path(), json!({ "query": "kettle" })),
            _ => Ask::get(resource.path()),
        }
    }

    /// The same endpoint with one query parameter.
    fn with(resource: Resource, name: &str, value: &str) -> Ask {
        let url = reqwest::Url::parse_with_params("http://x/", [(name, value)]).unwrap();
        Ask::get(&format!("{}?{}", resource.path(), url.query().unwrap()))
    }
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The records of a page, and how to ask for the next one.
    pub(super) fn page(&self, resource: Resource, asked: &Ask) -> (Vec<Value>, Option<Ask>) {
        assert_eq!((self.status, self.header("content-type")), (200, Some("application/json")), "{asked:?}");
        let body = self.json();
        let records = |list: &str| body.pointer(list).unwrap().as_array().unwrap().clone();
        let with = |name, value: &str| Ask::with(resource, name, value);
        let asked_for = |name: &str, default: u64| {
            let url = reqwest::Url::parse(&format!("http://x{}", asked.path)).unwrap();
            url.query_pairs().find(|(key, _)| key == name).map_or(default, |(_, value)| value.parse().unwrap())
        };
        match resource {
            Resource::Customers => {
                let page = asked_for("page", 1);
                let next = (page < body["meta"]["total_pages"].as_u64().unwrap())
                    .then(|| with("page", &(page + 1).to_string()));
                (records("/data"), next)
            }
            Resource::Orders => {
                assert_eq!(body["has_more"], !body["next_cursor"].is_null());
                (records("/orders"), body["next_cursor"].as_str().map(|cursor| with("cursor", cursor)))
            }
            Resource::Events => {
                let link = self.header("link").unwrap();
                let next = link.split(", ").find(|link| link.ends_with("rel=\"next\""));
                let next = next.map(|link| link.split(['<', '>']).nth(1).unwrap());
                let next = next.map(|url| reqwest::Url::parse(url).expect("the link is absolute"));
                (records(""), next.map(|url| Ask::get(&url[url::Position::BeforePath..])))
            }
            Resource::Products => {
                let rows = records("/products");
                let end = asked_for("offset", 0) + rows.len() as u64;
                (rows, (end < body["total"].as_u64().unwrap()).then(|| with("offset", &end.to_string())))
            }
            Resource::Tickets => (records("/results"), body["next"].as_str().map(Ask::get)),
            Resource::Regions => (records("/regions"), None),
            Resource::Search => {
                let next = body["cursor"].as_str().map(|cursor| json!({ "query": "kettle", "cursor": cursor }));
                (records("/results"), next.map(|json| Ask::post(resource.path(), json)))
            }
            Resource::Audit => (records("/entries"), self.header("x-next-cursor").map(|cursor| with("cursor", cursor))),
            Resource::Notes => {
                let rows = records("/data");
                let last = rows.last().unwrap()["id"].to_string();
                (rows, body["has_more"].as_bool().unwrap().then(|| with("starting_after", &last)))
            }
        }
    }
}

/// What a faithful copy makes of `records`: the last version by key, or all of them where there is no key.
pub(super) fn copy(resource: Resource, records: &[Value]) -> Served {
    match resource.key() {
        [] => Served::Appended(records.to_vec()),
        _ => Served::Keyed(records.iter().map(|row| (key_text(resource, row), row.clone())).collect()),
    }
}
