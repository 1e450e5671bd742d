//! The helpdesk's rows: events, tickets, help articles, the audit trail, private notes.

use serde_json::{Value, json};

use super::data::{Size, time};
use super::random::Random;

const SUBJECTS: [&str; 8] = [
    "Kettle whistles in B flat",
    "Wrong colour: grün instead of blue",
    "Where is my \"order\"?",
    "Rückgabe nach 31 Tagen",
    "Invoice shows 0.00 €",
    "返品について",
    "Cannot log in\\out",
    "Thank you 🙏",
];
const SENTENCES: [&str; 8] = [
    "The parcel was wet when it arrived.",
    "Bitte um Rückruf am Vormittag.",
    "I have attached a photo 📷 of the label.",
    "It worked yesterday; it does not work today.",
    "Le café est renversé, la théière aussi.",
    "Path: C:\\temp\\tide.log",
    "He wrote \"urgent\" three times.",
    "Nothing else to report.",
];
const STREAMS: [&str; 3] = ["billing", "login", "stock"];

/// An event has no key: nothing in it tells it apart from another one of the same second.
pub(super) fn event(random: &mut Random, index: u64) -> Value {
    json!({
        "type": random.pick(&["view", "search", "add_to_cart", "checkout", "error"]),
        "at": time(index * 45),
        "session": format!("{:016x}", random.next()),
        "url": format!("/products?id={}&ref=mail%20{}", random.below(2_000), random.below(9)),
        "duration_ms": (!random.one_in(5)).then(|| random.below(30_000)),
        "score": random.below(1_000_000) as f64 / 1_000_000.0,
        "context": { "mobile": random.one_in(2), "locale": random.pick(&["de-AT", "en", "ja", "uk"]) },
    })
}

/// Tickets are listed by `updated_at`, oldest first; version 2 was written after all the others.
pub(super) fn ticket(random: &mut Random, index: u64, size: &Size, version: u8) -> Value {
    // Drawn for both versions, so that the rest of the ticket stays as it was.
    let first = (index * 900 + random.below(900), random.pick(&["new", "open", "pending"]));
    let (updated, status) = if version > 1 { (u64::from(size.tickets) * 900 + 60, "solved") } else { first };
    json!({
        "id": index + 1,
        "subject": random.pick(&SUBJECTS),
        "body": paragraphs(random, 3),
        "status": status,
        "priority": random.pick(&[None, Some("low"), Some("high")]),
        "requester": { "name": random.pick(&["Zoë", "Ivo", "Mária"]), "verified": random.one_in(2) },
        "tags": (0..random.below(3)).map(|n| format!("tag-{n}")).collect::<Vec<_>>(),
        "created_at": time(index * 600),
        "updated_at": time(updated),
    })
}

pub(super) fn article(random: &mut Random, index: u64) -> Value {
    json!({
        "id": 10_000 + index,
        "title": format!("How to: {}", random.pick(&SUBJECTS)),
        "text": paragraphs(random, 6),
        "relevance": 1.0 / (index + 1) as f64,
        "published": !random.one_in(12),
    })
}

/// The key is `stream` and `seq` together: each alone repeats.
pub(super) fn audit_entry(random: &mut Random, index: u64) -> Value {
    let streams = STREAMS.len() as u64;
    json!({
        "stream": STREAMS[(index % streams) as usize],
        "seq": index / streams,
        "actor": random.pick(&["system", "ada", "grace", "ops-bot"]),
        "action": random.pick(&["create", "update", "delete", "login"]),
        "ip": format!("192.0.2.{}", random.below(256)),
        "success": !random.one_in(20),
        "at": time(index * 120),
    })
}

pub(super) fn note(random: &mut Random, index: u64) -> Value {
    json!({
        "id": index + 1,
        "text": paragraphs(random, 2),
        "pinned": random.one_in(8),
        "created_at": time(index * 7_200),
    })
}

fn paragraphs(random: &mut Random, sentences_max: u64) -> String {
    let sentences: Vec<&str> = (0..=random.below(sentences_max)).map(|_| random.pick(&SENTENCES)).collect();
    sentences.join("\n\n")
}
