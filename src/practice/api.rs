//! The endpoints: which request gets which page. What the rows are is decided in `data`, what went wrong in `state`.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::Practice;
use super::data::Resource;
use super::paging::{BadRequest, Params, Slice, check_page_rows};

mod reply;
use reply::{Refusal, Reply};

type Shared = State<Arc<Practice>>;
type Answer = Result<Reply, Refusal>;

pub(super) fn router(practice: Arc<Practice>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/v1/", get(index))
        .route(Resource::Customers.path(), get(customers))
        .route(Resource::Orders.path(), get(orders))
        .route(Resource::Events.path(), get(events))
        .route(Resource::Products.path(), get(products))
        .route(Resource::Tickets.path(), get(tickets))
        .route(Resource::Regions.path(), get(regions))
        .route(Resource::Search.path(), post(search))
        .route(Resource::Audit.path(), get(audit))
        .route(Resource::Notes.path(), get(notes))
        .fallback(|| async { Refusal::new(StatusCode::NOT_FOUND, "no such endpoint; / lists them") })
        .method_not_allowed_fallback(|| async {
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "this endpoint has another method; / lists them")
        })
        .layer(middleware::from_fn_with_state(practice.clone(), take_time_and_note))
        .with_state(practice)
}

/// Lists the request, waits as long as every answer shall take, answers.
async fn take_time_and_note(State(practice): Shared, request: Request, next: Next) -> Response {
    let path = request.uri().path_and_query().map_or_else(String::new, ToString::to_string);
    let number = practice.request_came(request.method().to_string(), path);
    tokio::time::sleep(practice.options.latency).await;
    let response = next.run(request).await;
    let rows = response.extensions().get::<reply::Rows>().map_or(0, |rows| rows.0);
    practice.request_was_answered(number, response.status().as_u16(), rows);
    response
}

async fn index(State(practice): Shared) -> Reply {
    let endpoint = |resource: &Resource| {
        json!({
            "path": resource.path(),
            "method": if *resource == Resource::Search { "POST" } else { "GET" },
            "paging": resource.paging(),
            "key": resource.key(),
            "rows": practice.options.size.rows(*resource),
        })
    };
    let endpoints: Vec<Value> = Resource::ALL.iter().map(endpoint).collect();
    Reply::new(0, json!({ "name": "highwater practice API", "endpoints": endpoints }))
}

async fn customers(State(practice): Shared, uri: Uri) -> Answer {
    if practice.is_rate_limited() {
        let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, "too many requests, come back in a second");
        return Err(refusal.with_header(header::RETRY_AFTER, "1"));
    }
    let params = Params::of(&uri);
    let (page, rows) = (params.number("page", 1, 1)?, params.page_rows("per_page", 50)?);
    let total = practice.positions(Resource::Customers);
    let data = practice.page(Resource::Customers, Slice::new((page - 1).saturating_mul(rows), rows, total));
    let meta = json!({ "page": page, "total_pages": total.div_ceil(rows), "total": total });
    Ok(Reply::new(data.len(), json!({ "data": data, "meta": meta })))
}

async fn orders(State(practice): Shared, uri: Uri) -> Answer {
    let params = Params::of(&uri);
    let slice = slice_at_cursor(&practice, Resource::Orders, &params, "cursor", 100)?;
    let orders = practice.page(Resource::Orders, slice);
    let next = practice.next_cursor(Resource::Orders, slice);
    let has_more = next.is_some();
    Ok(Reply::new(orders.len(), json!({ "orders": orders, "next_cursor": next, "has_more": has_more })))
}

async fn events(State(practice): Shared, uri: Uri, headers: HeaderMap) -> Answer {
    let params = Params::of(&uri);
    let (page, rows) = (params.number("page", 1, 1)?, params.page_rows("per_page", 100)?);
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.ok_or_else(|| BadRequest("the Host header is missing".into()))?;
    if practice.fails_now(page) {
        return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "something went wrong on our side"));
    }
    let total = practice.positions(Resource::Events);
    let events = practice.page(Resource::Events, Slice::new((page - 1).saturating_mul(rows), rows, total));
    let pages = total.div_ceil(rows).max(1);
    let link = |page: u64, rel: &str| {
        let path = Resource::Events.path();
        format!("<http://{host}{path}?per_page={rows}&page={page}>; rel=\"{rel}\"")
    };
    let mut links = vec![link(1, "first"), link(pages, "last")];
    if page < pages {
        links.insert(0, link(page + 1, "next"));
    }
    Ok(Reply::new(events.len(), Value::Array(events)).with_header(header::LINK, &links.join(", ")))
}

async fn products(State(practice): Shared, uri: Uri) -> Answer {
    let params = Params::of(&uri);
    let (offset, rows) = (params.number("offset", 0, 0)?, params.page_rows("limit", 50)?);
    let total = practice.positions(Resource::Products);
    let products = practice.page(Resource::Products, Slice::new(offset, rows, total));
    Ok(Reply::new(products.len(), json!({ "products": products, "total": total })))
}

async fn tickets(State(practice): Shared, uri: Uri) -> Answer {
    let params = Params::of(&uri);
    let slice = slice_at_cursor(&practice, Resource::Tickets, &params, "after", 25)?;
    let results = practice.page(Resource::Tickets, slice);
    let next = practice.next_cursor(Resource::Tickets, slice).map(|cursor| {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("after", &cursor);
        if let Some(limit) = params.text("limit") {
            query.append_pair("limit", limit);
        }
        format!("{}?{}", Resource::Tickets.path(), query.finish())
    });
    Ok(Reply::new(results.len(), json!({ "results": results, "next": next })).in_ascii())
}

async fn regions(State(practice): Shared) -> Reply {
    let total = practice.positions(Resource::Regions);
    let regions = practice.page(Resource::Regions, Slice::new(0, total, total));
    Reply::new(regions.len(), json!({ "regions": regions }))
}

/// Every article answers every query: this is about paging, not about searching.
async fn search(State(practice): Shared, headers: HeaderMap, body: Bytes) -> Answer {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    if !media_type.starts_with("application/json") {
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send the search as application/json"));
    }
    let body: Value =
        serde_json::from_slice(&body).map_err(|error| BadRequest(format!("the body is not JSON: {error}")))?;
    if !body["query"].is_string() {
        return Err(BadRequest("`query` must be a text".into()).into());
    }
    let limit = match &body["limit"] {
        Value::Null => 20,
        limit => limit.as_u64().ok_or_else(|| BadRequest(format!("`limit` must be a whole number, not {limit}")))?,
    };
    let rows = check_page_rows("limit", limit)?;
    let cursor = match &body["cursor"] {
        Value::Null => None,
        Value::String(cursor) => Some(cursor.as_str()),
        other => return Err(BadRequest(format!("`cursor` must be a text or null, not {other}")).into()),
    };
    let start = practice.position(Resource::Search, cursor)?;
    let slice = Slice::new(start, rows, practice.positions(Resource::Search));
    let results = practice.page(Resource::Search, slice);
    let next = practice.next_cursor(Resource::Search, slice);
    Ok(Reply::new(results.len(), json!({ "results": results, "cursor": next })))
}

async fn audit(State(practice): Shared, uri: Uri) -> Answer {
    const NEXT_CURSOR: HeaderName = HeaderName::from_static("x-next-cursor");
    let slice = slice_at_cursor(&practice, Resource::Audit, &Params::of(&uri), "cursor", 100)?;
    let entries = practice.page(Resource::Audit, slice);
    let reply = Reply::new(entries.len(), json!({ "entries": entries }));
    Ok(match practice.next_cursor(Resource::Audit, slice) {
        Some(cursor) => reply.with_header(NEXT_CURSOR, &cursor),
        None => reply,
    })
}

async fn notes(State(practice): Shared, uri: Uri, headers: HeaderMap) -> Answer {
    let sent = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let wanted = practice.options.token.as_ref().map(|token| format!("Bearer {token}"));
    if wanted.is_none() || sent != wanted.as_deref() {
        let refusal = Refusal::new(StatusCode::UNAUTHORIZED, "this endpoint needs the bearer token");
        return Err(refusal.with_header(header::WWW_AUTHENTICATE, "Bearer"));
    }
    let params = Params::of(&uri);
    let (after, rows) = (params.number("starting_after", 0, 0)?, params.page_rows("limit", 20)?);
    let total = practice.positions(Resource::Notes);
    if after > total {
        return Err(BadRequest(format!("`starting_after`: there is no note {after}")).into());
    }
    let slice = Slice::new(after, rows, total);
    let data = practice.page(Resource::Notes, slice);
    Ok(Reply::new(data.len(), json!({ "data": data, "has_more": slice.end < total })))
}

/// The page that starts at the cursor in the parameter `name` and holds `limit` rows.
fn slice_at_cursor(
    practice: &Practice,
    resource: Resource,
    params: &Params,
    name: &str,
    default_rows: u64,
) -> Result<Slice, BadRequest> {
    let start = practice.position(resource, params.text(name))?;
    Ok(Slice::new(start, params.page_rows("limit", default_rows)?, practice.positions(resource)))
}
