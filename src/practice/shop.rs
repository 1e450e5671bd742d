//! The shop's rows: customers, orders, products, regions. Columns with awkward names and values are there on purpose.

use serde_json::{Value, json};

use super::data::{Size, time};
use super::random::Random;

/// Code, name and currency of every region: the whole of `regions`.
pub(super) const REGIONS: [(&str, &str, &str); 12] = [
    ("AT", "Österreich", "EUR"),
    ("BR", "Brasil", "BRL"),
    ("CH", "Schweiz/Suisse", "CHF"),
    ("CI", "Côte d'Ivoire", "XOF"),
    ("CZ", "Česko", "CZK"),
    ("DE", "Deutschland", "EUR"),
    ("GR", "Ελλάδα", "EUR"),
    ("IS", "Ísland", "ISK"),
    ("JP", "日本", "JPY"),
    ("NO", "Norge", "NOK"),
    ("PL", "Polska", "PLN"),
    ("UA", "Україна", "UAH"),
];

const FIRST_NAMES: [&str; 12] =
    ["Ada", "Björk", "Chloë", "Dmytro", "Edsger", "Frances", "Grace", "Jürgen", "Łucja", "Niamh", "Radia", "美咲"];
const LAST_NAMES: [&str; 12] = [
    "Ångström",
    "Dijkstra",
    "Hopper",
    "Kowalczyk",
    "Lovelace",
    "Müller",
    "O'Neill",
    "Perlman",
    "Šimák",
    "Tanaka",
    "Włodarczyk",
    "de la Cruz",
];
const STREETS: [&str; 6] = ["Mill Lane", "Hauptstraße", "Rue de l'Église", "Vodičkova", "Øvre Slottsgate", "桜通り"];
const GOODS: [&str; 10] = [
    "kettle",
    "teapot",
    "café press",
    "lantern",
    "rope 10 m",
    "tide table",
    "oilskin",
    "sextant",
    "buoy",
    "brass bell",
];
const ADJECTIVES: [&str; 8] = ["plain", "blue", "grün", "folding", "3/4\" wide", "sea-proof", "rosé", "old-school"];
const ORDER_NOTES: [&str; 8] = [
    "Please ring twice.",
    "Line one\nline two\r\n\tindented",
    "She said \"leave it with the neighbour\"",
    "C:\\deliveries\\2024",
    "Grüße aus Köln 👋",
    "配達は午後にお願いします",
    "50 % off; DROP TABLE orders; --",
    "",
];

pub(super) fn customer(random: &mut Random, index: u64) -> Value {
    let (first, last) = (random.pick(&FIRST_NAMES), random.pick(&LAST_NAMES));
    json!({
        "id": index + 1,
        "name": format!("{first} {last}"),
        "email": (!random.one_in(9)).then(|| format!("customer{}@shop.example", index + 1)),
        "group": random.pick(&["private", "business", "school"]),
        "region": random.pick(&REGIONS).0,
        "newsletter": random.one_in(3),
        "balance": money(random.below(50_000)),
        "tags": if random.one_in(4) { json!(["early bird", "vip"]) } else { json!([]) },
        "created_at": time(index * 3_600),
    })
}

pub(super) fn order(random: &mut Random, index: u64, size: &Size) -> Value {
    let mut total_cents = 0;
    let items: Vec<Value> = (0..=random.below(3))
        .map(|_| {
            let (quantity, price_cents) = (1 + random.below(4), 99 + random.below(20_000));
            total_cents += quantity * price_cents;
            json!({
                "sku": sku(random.below(u64::from(size.products))),
                "quantity": quantity,
                "unit_price": money(price_cents),
            })
        })
        .collect();
    // A number that grew out of 63 bits: rare, but a column of integers has to keep it exactly.
    let warehouse_ref = if index % 97 == 41 { u64::MAX - random.below(1 << 40) } else { random.below(1 << 40) };
    json!({
        "id": format!("ord_{:06}", index + 1),
        "customer_id": 1 + random.below(u64::from(size.customers)),
        "status": random.pick(&["open", "paid", "shipped", "returned"]),
        "total": money(total_cents),
        "discount_rate": random.pick(&[0.0, 0.05, 0.125, 0.333333]),
        "gift": random.one_in(5),
        "note": (!random.one_in(3)).then(|| random.pick(&ORDER_NOTES)),
        "coupon": random.one_in(6).then_some("HIGH-TIDE"),
        "warehouse_ref": warehouse_ref,
        "shipping": {
            "street": format!("{} {}", random.pick(&STREETS), 1 + random.below(200)),
            "region": random.pick(&REGIONS).0,
            "geo": { "lat": degrees(random, 90), "lon": degrees(random, 180) },
        },
        "items": items,
        "created_at": time(index * 600),
        "updated_at": time(index * 600 + random.below(86_400)),
    })
}

pub(super) fn product(random: &mut Random, index: u64) -> Value {
    json!({
        "sku": sku(index),
        "title": format!("{} {}", random.pick(&ADJECTIVES), random.pick(&GOODS)),
        "price": money(99 + random.below(20_000)),
        "weight kg": random.below(30_000) as f64 / 1_000.0,
        "in_stock": !random.one_in(7),
        "discontinued_on": random.one_in(10).then_some("2024-12-31"),
        "dimensions": { "w": random.below(100), "h": random.below(100), "d": random.below(100) },
    })
}

pub(super) fn region(index: u64) -> Value {
    let (code, name, currency) = REGIONS[index as usize];
    json!({ "code": code, "name": name, "currency": currency })
}

fn sku(index: u64) -> String {
    format!("SKU-{index:05}")
}

fn money(cents: u64) -> Value {
    json!(cents as f64 / 100.0)
}

/// An angle of six decimals between -`limit` and `limit`.
fn degrees(random: &mut Random, limit: u64) -> Value {
    let millionths = random.below(2 * limit * 1_000_000) as f64;
    json!((millionths - (limit * 1_000_000) as f64) / 1_000_000.0)
}
