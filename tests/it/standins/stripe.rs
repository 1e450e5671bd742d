//! Stripe's list of charges: newest first, `limit`, `starting_after`, `has_more`, and ranges of `created`.
//! <https://docs.stripe.com/api/charges/list>, <https://docs.stripe.com/api/pagination>

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::response::Response;
use serde_json::{Value, json};

use super::{header, merge, number};
use crate::support::{Api, Seen, respond};

pub(crate) const TOKEN: &str = "sk_test_51H";

#[derive(Clone, Default)]
pub(crate) struct Stripe(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// In the order in which they became known; `created` is another matter.
    charges: Vec<Value>,
    served: BTreeMap<String, Value>,
}

impl Stripe {
    pub(crate) fn api(&self) -> Api {
        let stripe = self.clone();
        Api::start(move |request: &Seen, _| stripe.answer(request))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// A charge of this moment, in Unix seconds. Gives back its id.
    pub(crate) fn charge(&self, created: i64, amount: u64) -> String {
        let mut state = self.lock();
        let id = format!("ch_3N{:08}", state.charges.len() * 7919 % 100_000_000);
        state.charges.push(json!({
            "id": id, "object": "charge", "amount": amount, "amount_refunded": 0, "currency": "eur",
            "created": created, "paid": true, "refunded": false, "customer": null, "description": "café №1",
            "metadata": {"order": amount.to_string()}, "livemode": false,
        }));
        id
    }

    /// Refunds a charge: it changes, and `created` stays.
    pub(crate) fn refund(&self, id: &str) {
        let mut state = self.lock();
        let charge = state.charges.iter_mut().find(|charge| charge["id"] == id).unwrap();
        let amount = charge["amount"].clone();
        merge(charge, json!({"refunded": true, "amount_refunded": amount}));
    }

    /// All charges that there are.
    pub(crate) fn charges(&self) -> Vec<Value> {
        self.lock().charges.clone()
    }

    /// Every charge that was ever sent, in the version that was sent last.
    pub(crate) fn served(&self) -> Vec<Value> {
        self.lock().served.values().cloned().collect()
    }

    fn answer(&self, request: &Seen) -> Response {
        if header(request, "authorization") != Some(&format!("Bearer {TOKEN}")) {
            return refusal(401, "Invalid API Key provided", None);
        }
        if request.path() != "/v1/charges" {
            return refusal(404, "Unrecognized request URL", None);
        }
        let url = url::Url::parse(&format!("http://x{}", request.target)).unwrap();
        let mut state = self.lock();
        // Newest first; of equal ones the one that is known for longer comes last.
        let mut found: Vec<Value> = state.charges.iter().rev().cloned().collect();
        found.sort_by_key(|charge| std::cmp::Reverse(charge["created"].as_i64()));
        for (name, value) in url.query_pairs() {
            let is_in: fn(i64, i64) -> bool = match &*name {
                "limit" | "starting_after" => continue,
                "created[gte]" => |at, bound| at >= bound,
                "created[gt]" => |at, bound| at > bound,
                "created[lte]" => |at, bound| at <= bound,
                "created[lt]" => |at, bound| at < bound,
                _ => return refusal(400, &format!("Received unknown parameter: {name}"), Some(&name)),
            };
            let Ok(bound) = value.parse() else { return refusal(400, "Invalid timestamp", Some(&name)) };
            found.retain(|charge| is_in(charge["created"].as_i64().unwrap(), bound));
        }
        let Some(limit) = number(request, "limit", 10, 1..=100) else {
            return refusal(400, "Invalid integer", Some("limit"));
        };
        let mut skipped = 0;
        if let Some(after) = request.param("starting_after") {
            match found.iter().position(|charge| charge["id"] == after) {
                Some(place) => skipped = place + 1,
                None => return refusal(400, &format!("No such charge: '{after}'"), Some("starting_after")),
            }
        }
        let data: Vec<Value> = found.iter().skip(skipped).take(limit).cloned().collect();
        let has_more = found.len() > skipped + data.len();
        for charge in &data {
            state.served.insert(charge["id"].as_str().unwrap().to_owned(), charge.clone());
        }
        let body = json!({"object": "list", "url": "/v1/charges", "has_more": has_more, "data": data});
        respond(200, &[("content-type", "application/json"), ("stripe-version", "2024-06-20")], body.to_string())
    }
}

fn refusal(status: u16, message: &str, param: Option<&str>) -> Response {
    let body = json!({"error": {"type": "invalid_request_error", "message": message, "param": param}});
    respond(status, &[("content-type", "application/json")], body.to_string())
}
