//! One resource, ready to be read: its request, its paging, where its records are and where they go.

use std::sync::Arc;

use indexmap::IndexMap;
use ring::hmac;
use serde_json::{Value as Json, json};

use super::select::Selector;
use super::{Method, ResourceOptions, SourceOptions};
use crate::page::{Layout, ResourceId, Target, WriteDisposition};
use crate::rest::action::CompiledAction;
use crate::rest::client::Client;
use crate::rest::paginator::{Auto, Paginator};
use crate::rest::request::{RequestParts, Target as RequestTarget};
use crate::secret::Secret;
use crate::template::{JsonTemplate, Template};
use crate::units::Timespan;

/// An interrupted read goes on at its position for a day: page tokens of most APIs live at least as long.
const RESUME_WITHIN: Timespan = Timespan::secs(24 * 60 * 60);

/// Enough to tell two requests apart, too little to be worth anything else.
const MARK_BYTES: usize = 8;

/// A resource of a source, with everything that reading it needs.
#[derive(Debug)]
pub struct Resource {
    /// Where the records go.
    pub target: Arc<Target>,
    /// The client of its source.
    pub client: Arc<Client>,
    /// Its first request, before the paginator changes it.
    pub request: RequestParts,
    /// How it is paged.
    pub paginator: Paginator,
    /// Where its records are.
    pub selector: Selector,
    /// What its responses mean where that is special.
    pub actions: Vec<CompiledAction>,
    /// Pages in flight.
    pub concurrency: usize,
    /// An interrupted read goes on at its position when that is younger than this.
    pub resume_within: Timespan,
    /// What a stored position depends on, as a JSON object without secrets.
    pub request_fingerprint: String,
    /// What the stored rows depend on, as a JSON object.
    pub identity: String,
}

impl Resource {
    /// Puts a resource together. `salt` is a random text of the database that fingerprints are stored in.
    ///
    /// # Errors
    /// When an expression or a selector cannot be compiled; loading the configuration has said so before.
    pub fn new(
        id: &ResourceId,
        source: &SourceOptions,
        options: &ResourceOptions,
        client: Arc<Client>,
        salt: &str,
    ) -> Result<Self, String> {
        let primary_key = options.primary_key.clone().map(|columns| columns.0).unwrap_or_default();
        let by_key = if primary_key.is_empty() { WriteDisposition::Append } else { WriteDisposition::Merge };
        let target = Target {
            id: id.clone(),
            table: table_name(id, options),
            primary_key,
            disposition: options.write_disposition.unwrap_or(by_key),
            layout: Layout {
                hints: options.columns.clone(),
                contract: options.schema_contract,
                max_table_nesting: options.max_table_nesting,
            },
        };
        let path = options.path.clone().unwrap_or_else(|| Template::text(&*id.resource));
        let paginator = options.paginator.clone().or_else(|| source.client.paginator.clone());
        let paginator = paginator.unwrap_or(Paginator::Auto(Auto::default()));
        let mut secrets: Vec<_> = path.secrets().cloned().collect();
        secrets.extend(options.json.iter().flat_map(JsonTemplate::secrets));
        let request = RequestParts {
            method: match options.method {
                Method::Get => http::Method::GET,
                Method::Post => http::Method::POST,
            },
            target: RequestTarget::Path(path),
            params: pairs(&options.params),
            headers: pairs(&options.headers),
            json: options.json.as_ref().map(JsonTemplate::expose),
            secrets,
        };
        Ok(Self {
            request_fingerprint: request_fingerprint(source, options, &request, &paginator, salt),
            identity: identity(source, &target),
            target: Arc::new(target),
            client,
            request,
            paginator,
            selector: Selector::parse(options.data_selector.as_deref())?,
            actions: options
                .response_actions
                .iter()
                .map(CompiledAction::new)
                .collect::<Result<_, _>>()
                .map_err(|error| error.to_string())?,
            concurrency: options.concurrency.unwrap_or(1) as usize,
            resume_within: options.resume_within.unwrap_or(RESUME_WITHIN),
        })
    }
}

/// The table of a resource: `SOURCE_RESOURCE` unless it names another.
#[must_use]
pub fn table_name(id: &ResourceId, options: &ResourceOptions) -> String {
    options.table.clone().unwrap_or_else(|| format!("{}_{}", id.source, id.resource))
}

fn pairs(map: &IndexMap<String, Template>) -> Vec<(String, Template)> {
    map.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn shown(map: &IndexMap<String, Template>) -> Json {
    map.iter().map(|(name, value)| (name.clone(), Json::String(value.to_string()))).collect()
}

fn request_fingerprint(
    source: &SourceOptions,
    options: &ResourceOptions,
    request: &RequestParts,
    paginator: &Paginator,
    salt: &str,
) -> String {
    let RequestTarget::Path(path) = &request.target else { return String::new() };
    json!({
        "base_url": source.client.base_url,
        "path": path.to_string(),
        "method": request.method.as_str(),
        "client_params": shown(&source.client.params),
        "params": shown(&options.params),
        "client_headers": shown(&source.client.headers),
        "headers": shown(&options.headers),
        "json": options.json.as_ref().map(JsonTemplate::masked),
        "secrets": secrets_mark(source, options, request, salt),
        "paginator": paging(paginator),
        "data_selector": options.data_selector,
    })
    .to_string()
}

/// The paging without `max_pages`, which decides how far a read goes and not what a position means.
fn paging(paginator: &Paginator) -> Json {
    let mut options = json!(paginator);
    if let Some(options) = options.as_object_mut() {
        options.remove("max_pages");
    }
    options
}

/// A mark that changes with every secret of the request, and tells nothing about them: another account's pages are
/// not those of this position. Credentials of `auth` are left out, as they are renewed without the data changing.
fn secrets_mark(
    source: &SourceOptions,
    options: &ResourceOptions,
    request: &RequestParts,
    salt: &str,
) -> Option<String> {
    let client = &source.client;
    let of = |map: &IndexMap<String, Template>| -> Vec<Secret> {
        map.values().flat_map(Template::secrets).cloned().collect()
    };
    let groups =
        [of(&client.params), of(&options.params), of(&client.headers), of(&options.headers), request.secrets.clone()];
    if groups.iter().all(Vec::is_empty) {
        return None;
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, salt.as_bytes());
    let mut context = hmac::Context::with_key(&key);
    for group in groups {
        // With the lengths, no two different lists run together into the same bytes.
        context.update(&(group.len() as u64).to_be_bytes());
        for secret in group {
            context.update(&(secret.expose().len() as u64).to_be_bytes());
            context.update(secret.expose().as_bytes());
        }
    }
    Some(context.sign().as_ref()[..MARK_BYTES].iter().map(|byte| format!("{byte:02x}")).collect())
}

fn identity(source: &SourceOptions, target: &Target) -> String {
    let mut identity = json!({
        "base_url": source.client.base_url,
        "primary_key": target.primary_key,
        "write_disposition": target.disposition,
    });
    if target.layout.max_table_nesting > 0 {
        identity["max_table_nesting"] = target.layout.max_table_nesting.into();
    }
    identity.to_string()
}

#[cfg(test)]
mod tests {
    use super::request_fingerprint;
    use crate::config::{Env, load_text};
    use crate::rest::paginator::Paginator;
    use crate::rest::request::{RequestParts, Target};
    use crate::template::{JsonTemplate, Template};

    const LINES: &str = r#"params = { account = "${env:ACCOUNT}" }
headers = { x-tenant = "${env:TENANT}" }
auth = { type = "bearer", token = "${env:TOKEN}" }
paginator = { type = "page_number", max_pages = MAX }
[sources.s.resources.r]
method = "POST"
json = { workspace = "${env:SPACE}" }
"#;

    fn fingerprint(changed: (&str, &str), max_pages: &str, salt: &str) -> String {
        let names = ["ACCOUNT", "TENANT", "TOKEN", "SPACE"];
        let values = names.map(|name| (name, if name == changed.0 { changed.1 } else { "canary-one" }));
        let text = format!("[sources.s.client]\nbase_url = \"https://a.test/\"\n{LINES}").replace("MAX", max_pages);
        let config = load_text("config.toml", &text, &Env::with(values)).unwrap().config;
        let source = &config.sources["s"];
        let options = &source.resources["r"];
        let request = RequestParts {
            method: http::Method::POST,
            target: Target::Path(Template::text("r")),
            params: Vec::new(),
            headers: Vec::new(),
            json: None,
            secrets: options.json.iter().flat_map(JsonTemplate::secrets).collect(),
        };
        let paginator: &Paginator = source.client.paginator.as_ref().unwrap();
        request_fingerprint(source, options, &request, paginator, salt)
    }

    #[test]
    fn a_position_depends_on_every_secret_of_its_request_but_those_of_auth() {
        let one = fingerprint(("", ""), "5", "salt");
        assert!(!one.contains("canary"), "{one}");
        for name in ["ACCOUNT", "TENANT", "SPACE"] {
            assert_ne!(one, fingerprint((name, "canary-two"), "5", "salt"), "{name}");
        }
        assert_eq!(one, fingerprint(("TOKEN", "canary-two"), "5", "salt"));
        assert_ne!(one, fingerprint(("", ""), "5", "pepper"), "without the salt the mark says nothing");
    }

    #[test]
    fn raising_max_pages_does_not_start_over() {
        assert_eq!(fingerprint(("", ""), "5", "salt"), fingerprint(("", ""), "6", "salt"));
    }
}
