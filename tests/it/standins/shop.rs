//! A shop with numbered pages that says how many there are, behind an API key: the commonest kind of API.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::response::Response;
use serde_json::{Value, json};

use super::{header, merge, number};
use crate::support::{Api, Seen, json as answer, respond};

pub(crate) const KEY: &str = "shop-key-9";

#[derive(Clone, Default)]
pub(crate) struct Shop(Arc<Mutex<BTreeMap<u64, Value>>>);

impl Shop {
    pub(crate) fn api(&self) -> Api {
        let shop = self.clone();
        Api::start(move |request: &Seen, _| shop.answer(request))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Value>> {
        self.0.lock().unwrap()
    }

    pub(crate) fn add(&self, ids: std::ops::Range<u64>) {
        let product = |id: u64| {
            let price = format!("{}.{:02}", id % 90, id % 100);
            (id, json!({"id": id, "sku": format!("{id:06}"), "price": price, "stock": id % 7, "tags": ["a", "b"]}))
        };
        self.lock().extend(ids.map(product));
    }

    pub(crate) fn change(&self, id: u64, fields: Value) {
        merge(self.lock().get_mut(&id).unwrap(), fields);
    }

    pub(crate) fn remove(&self, ids: std::ops::Range<u64>) {
        self.lock().retain(|id, _| !ids.contains(id));
    }

    /// All products, in the order of the list.
    pub(crate) fn products(&self) -> Vec<Value> {
        self.lock().values().cloned().collect()
    }

    fn answer(&self, request: &Seen) -> Response {
        if header(request, "x-api-key") != Some(KEY) {
            return respond(401, &[("content-type", "application/json")], r#"{"error":"unknown API key"}"#);
        }
        if request.path() != "/api/products" {
            return respond(404, &[("content-type", "application/json")], r#"{"error":"not found"}"#);
        }
        let (Some(page), Some(size)) =
            (number(request, "page", 1, 1..=usize::MAX), number(request, "page_size", 20, 1..=250))
        else {
            return respond(400, &[("content-type", "application/json")], r#"{"error":"invalid page"}"#);
        };
        let products = self.lock();
        let shown: Vec<&Value> = products.values().skip((page - 1) * size).take(size).collect();
        let pages = products.len().div_ceil(size);
        answer(json!({
            "products": shown, "meta": {"page": page, "page_size": size, "total_pages": pages, "total": products.len()},
        }))
    }
}
