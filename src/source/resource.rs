//! One resource, ready to be read: its request, its paging, where its records are and where they go.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use indexmap::IndexMap;
use ring::hmac;
use serde_json::{Map, Value as Json, json};

use super::incremental::Incremental;
use super::partition::{Child, parent_key, partition_text};
use super::select::Selector;
use super::transform::Steps;
use super::{BodyFormat, Method, ResourceOptions, SourceOptions, unchanged};
use crate::page::{Layout, NewValue, ReadAgain, ResourceId, Target, WriteDisposition};
use crate::rest::action::CompiledAction;
use crate::rest::client::Client;
use crate::rest::paginator::{Auto, Paginator};
use crate::rest::request::{RequestParts, Target as RequestTarget};
use crate::secret::Secret;
use crate::template::{JsonTemplate, Slot, Template};
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
    /// What its bodies are written in.
    pub format: BodyFormat,
    /// Where its records are, in a body of JSON.
    pub selector: Selector,
    /// What its responses mean where that is special.
    pub actions: Vec<CompiledAction>,
    /// What is changed about its records.
    pub steps: Steps,
    /// Pages in flight; or, where it has several partitions, partitions.
    pub concurrency: usize,
    /// The body of its request, where it is JSON, before its slots are filled in.
    pub json: Option<JsonTemplate>,
    /// Something of the request is filled in for each partition.
    pub has_slots: bool,
    /// Its request asks for what lies behind the cursor.
    pub starts_at_cursor: bool,
    /// The resource whose records it is read for.
    pub parent: Option<ResourceId>,
    /// How only what is new is read.
    pub incremental: Option<Arc<Incremental>>,
    /// What it takes of its parent's records.
    pub from_parent: FromParent,
    /// The reads of its parents do not return every record, or not every record is taken.
    pub has_partial_parent: bool,
    /// The keys of its partitions that come from the records of parents.
    pub parent_keys: BTreeSet<String>,
    /// The resources that are read for its records.
    pub children: Vec<Child>,
    /// Its partitions, each a JSON object of what it stands for; one that is empty where there is nothing to tell apart.
    pub partitions: Vec<String>,
    /// An interrupted read goes on at its position when that is younger than this.
    pub resume_within: Timespan,
    /// What a stored position depends on, as a JSON object without secrets.
    pub request_fingerprint: String,
    /// What the stored rows depend on, as a JSON object.
    pub identity: String,
    /// Mark of everything that they depend on beside the page and the parent's record; none where it is not asked whether a
    /// page has changed.
    pub validity_fingerprint: Option<String>,
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
        let target = target_of(id, options);
        let parent = options.parent_name(&source.resources).map(|parent| ResourceId::new(&id.source, parent));
        let paginator = options.paginator.clone().or_else(|| source.client.paginator.clone());
        let paginator = paginator.unwrap_or(Paginator::Auto(Auto::default()));
        let json = options.json_body();
        let format = BodyFormat::new(options)?;
        let request = request_of(id, source, options, json.as_ref(), &format);
        let incremental = options.incremental.as_ref().map(Incremental::new).transpose();
        let incremental = incremental.map_err(|(key, reason)| format!("incremental.{key} {reason}"))?.map(Arc::new);
        let request_fingerprint = request_fingerprint(source, options, &request, &paginator, salt);
        Ok(Self {
            validity_fingerprint: unchanged::fingerprint(source, options, &target, &request_fingerprint, salt),
            request_fingerprint,
            identity: identity(source, options, &target),
            target: Arc::new(target),
            client,
            request,
            paginator,
            selector: Selector::parse(options.data_selector.as_deref())?,
            format,
            actions: options
                .response_actions
                .iter()
                .map(CompiledAction::new)
                .collect::<Result<_, _>>()
                .map_err(|error| error.to_string())?,
            steps: Steps::compile(&options.processing_steps).map_err(|errors| {
                errors
                    .iter()
                    .map(|(number, error)| format!("processing_steps[{number}]: {}", error.error))
                    .collect::<Vec<_>>()
                    .join("; ")
            })?,
            concurrency: options.concurrency.unwrap_or(1) as usize,
            json,
            has_slots: !options.slots().is_empty(),
            starts_at_cursor: options.slots().contains(&&Slot::StartValue),
            partitions: match (&parent, &options.partitions) {
                (Some(_), _) => Vec::new(),
                (None, None) => vec![String::new()],
                (None, Some(partitions)) => partitions.values.iter().cloned().map(partition_text).collect(),
            },
            parent,
            incremental,
            from_parent: FromParent::of(options),
            has_partial_parent: ResourceOptions::has_partial_parent(&id.resource, &source.resources),
            parent_keys: BTreeSet::new(),
            children: Vec::new(),
            resume_within: options.resume_within.unwrap_or(RESUME_WITHIN),
        })
    }

    /// The fields of its records, as they come, whose values are its key; what is put on the rows of a read is the same
    /// for all of them. None where they do not name a record: there is no key, or a step makes it of something else.
    #[must_use]
    pub fn received_key(&self, put_on: &[(String, NewValue)]) -> Vec<String> {
        let origins = self.target.primary_key.iter().map(|part| self.steps.origin(part));
        let mut fields: Vec<String> = origins.collect::<Option<_>>().unwrap_or_default();
        fields.retain(|field| !put_on.iter().any(|(name, _)| name == field));
        fields
    }

    /// For which records of its parent it is read again in one pass.
    fn read_again(&self) -> ReadAgain {
        match self.target.disposition {
            WriteDisposition::Replace => ReadAgain::Never,
            _ if self.has_partial_parent => ReadAgain::Always,
            WriteDisposition::Append | WriteDisposition::Merge => ReadAgain::Changed,
        }
    }
}

/// What a resource takes of its parent's records.
#[derive(Clone, Debug, Default)]
pub struct FromParent {
    /// Ancestors and the fields of theirs that its request needs.
    pub fields: Vec<(String, String)>,
    /// Fields of the parent that are put on its rows.
    pub include: Vec<String>,
    /// Its own partitions, for each record of the parent; one without values where it has none.
    pub own: Vec<Map<String, Json>>,
    /// Only for records whose row is new or has changed.
    pub only_changed: bool,
}

impl FromParent {
    fn of(options: &ResourceOptions) -> Self {
        Self {
            fields: options
                .slots()
                .into_iter()
                .filter_map(|slot| match slot {
                    Slot::Parent { resource, field } => Some((resource.clone(), field.clone())),
                    _ => None,
                })
                .collect(),
            include: options.include_from_parent.clone(),
            own: options.partitions.as_ref().map_or_else(|| vec![Map::new()], |own| own.values.clone()),
            only_changed: options.parent.unwrap_or_default().only_changed,
        }
    }
}

/// Tells each parent among `resources` of its children, and what of its records they and their own children need.
pub fn link(resources: &mut [Resource]) {
    let place: HashMap<ResourceId, usize> =
        resources.iter().enumerate().map(|(number, resource)| (resource.target.id.clone(), number)).collect();
    let parents: Vec<Option<usize>> =
        resources.iter().map(|resource| resource.parent.as_ref().and_then(|id| place.get(id).copied())).collect();
    let mut fields: Vec<BTreeSet<String>> = vec![BTreeSet::new(); resources.len()];
    for (number, resource) in resources.iter().enumerate() {
        for (ancestor, field) in &resource.from_parent.fields {
            // Each step on the way up hands on what is asked of those above it.
            let mut child = number;
            while let Some(parent) = parents[child] {
                if *resources[parent].target.id.resource == **ancestor {
                    fields[child].insert(field.clone());
                    break;
                }
                child = parent;
            }
        }
    }
    for number in 0..resources.len() {
        let mut keys = BTreeSet::new();
        let mut child = number;
        while let Some(parent) = parents[child] {
            let name = &resources[parent].target.id.resource;
            keys.extend(fields[child].iter().map(|field| parent_key(name, field)));
            child = parent;
        }
        resources[number].parent_keys = keys;
    }
    for (number, fields) in fields.into_iter().enumerate() {
        let Some(parent) = parents[number] else { continue };
        let from_parent = resources[number].from_parent.clone();
        let child = Child {
            number: resources[parent].children.len(),
            id: resources[number].target.id.clone(),
            fields,
            include: from_parent.include,
            own: from_parent.own,
            only_changed: from_parent.only_changed,
            again: resources[number].read_again(),
        };
        resources[parent].children.push(child);
    }
}

/// Where the records of a resource go.
fn target_of(id: &ResourceId, options: &ResourceOptions) -> Target {
    let primary_key = options.primary_key.clone().map(|columns| columns.0).unwrap_or_default();
    Target {
        id: id.clone(),
        table: table_name(id, options),
        primary_key,
        disposition: options.disposition(),
        layout: Layout {
            hints: options.columns.clone(),
            contract: options.schema_contract,
            max_table_nesting: options.max_table_nesting,
        },
    }
}

/// The first request of a resource, before its slots are filled in.
fn request_of(
    id: &ResourceId,
    source: &SourceOptions,
    options: &ResourceOptions,
    json: Option<&JsonTemplate>,
    format: &BodyFormat,
) -> RequestParts {
    let path = options.path.clone().unwrap_or_else(|| Template::text(&*id.resource));
    let mut secrets: Vec<_> = path.secrets().cloned().collect();
    secrets.extend(json.into_iter().flat_map(JsonTemplate::secrets));
    secrets.extend(options.form.iter().flat_map(IndexMap::values).flat_map(Template::secrets).cloned());
    let mut headers = pairs(&options.headers);
    let asks = |map: &IndexMap<String, Template>| map.keys().any(|name| name.eq_ignore_ascii_case("accept"));
    if let Some(accept) = format.accept().filter(|_| !asks(&options.headers) && !asks(&source.client.headers)) {
        headers.push(("Accept".to_owned(), Template::text(accept)));
    }
    RequestParts {
        method: match options.method() {
            Method::Get => http::Method::GET,
            Method::Post => http::Method::POST,
        },
        target: RequestTarget::Path(path),
        params: pairs(&options.params),
        headers,
        json: json.map(JsonTemplate::expose),
        form: options.form.as_ref().map(pairs),
        secrets,
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
        "json": options.json_body().as_ref().map(JsonTemplate::masked),
        "form": options.form.as_ref().map(shown),
        "secrets": secrets_mark(source, options, request, salt),
        "paginator": paging(paginator),
        "data_selector": options.data_selector,
        "format": options.format.unwrap_or_default(),
        "csv": options.csv,
        "xml_record_path": options.xml_record_path,
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

fn identity(source: &SourceOptions, options: &ResourceOptions, target: &Target) -> String {
    let mut identity = json!({
        "base_url": source.client.base_url,
        "primary_key": target.primary_key,
        "write_disposition": target.disposition,
    });
    if let Some(incremental) = &options.incremental {
        identity["cursor_path"] = json!(incremental.cursor_path);
        if let Some(format) = &incremental.datetime_format {
            identity["datetime_format"] = json!(format);
        }
    }
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
            form: None,
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
