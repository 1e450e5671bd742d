//! Each fault happens as often as it should, and only when it is switched on.

use serde_json::Value;

use super::super::{Faults, PracticeOptions, Resource};
use super::support::{Ask, Server};
use super::{calm, options};

#[tokio::test]
async fn the_third_request_for_customers_is_rate_limited_once() {
    let server = Server::start(options()).await;
    let mut seen = Vec::new();
    for _ in 0..6 {
        let answer = server.send(&Ask::first(Resource::Customers)).await;
        seen.push((answer.status, answer.header("retry-after").map(str::to_owned)));
        assert!(answer.json().is_object());
    }
    let fine = (200, None);
    assert_eq!(seen, [fine.clone(), fine.clone(), (429, Some("1".into())), fine.clone(), fine.clone(), fine]);
}

#[tokio::test]
async fn three_pages_of_events_fail_at_their_first_attempt() {
    let server = Server::start(options()).await;
    let mut failed = Vec::new();
    for page in 1..=9 {
        let ask = Ask::get(&format!("/v1/events?page={page}"));
        let statuses = [server.send(&ask).await.status, server.send(&ask).await.status];
        assert_eq!(statuses[1], 200, "page {page}");
        if statuses[0] == 500 {
            failed.push(page);
        }
    }
    assert_eq!(failed, [2, 3, 6]);
    assert_eq!(Server::start(options()).await.walk(Resource::Events).await.refusals, [500, 500, 500]);
}

#[tokio::test]
async fn one_ticket_changes_while_it_is_read() {
    let server = Server::start(options()).await;
    let read = server.walk(Resource::Tickets).await.records;
    assert_eq!(read.len(), 261);
    let of_ticket = |records: &[Value]| records.iter().filter(|r| r["id"] == 8).cloned().collect::<Vec<_>>();
    let [old, new] = of_ticket(&read).try_into().expect("the ticket is there twice");
    assert_eq!(read[7], old);
    assert_eq!(read[260], new);
    assert_ne!(old["status"], "solved");
    let mut changed = old.clone();
    changed["status"] = "solved".into();
    changed["updated_at"] = new["updated_at"].clone();
    assert_eq!(new, changed, "nothing else has changed");
    let updated: Vec<_> = read.iter().map(|r| r["updated_at"].as_str().unwrap()).collect();
    assert!(updated.is_sorted(), "tickets are listed by updated_at");

    // From then on the old version is gone.
    assert_eq!(of_ticket(&server.walk(Resource::Tickets).await.records), [new.clone(), new]);
    assert_eq!(server.practice.served()["tickets"], server.practice.expected()["tickets"]);
}

#[tokio::test]
async fn without_faults_nothing_goes_wrong() {
    let server = Server::start(calm()).await;
    for resource in Resource::ALL {
        let walk = server.walk(resource).await;
        assert_eq!(walk.refusals, [0_u16; 0], "{resource:?}");
        assert_eq!(walk.records.len(), server.practice.options.size.rows(resource) as usize);
    }
    assert_eq!(server.practice.served(), server.practice.expected());
}

#[tokio::test]
async fn two_events_can_be_the_same_to_the_last_byte() {
    let events = Server::start(calm()).await.walk(Resource::Events).await.records;
    assert_eq!(events[48], events[49]);
    assert_ne!(events[47], events[48]);
}

#[tokio::test]
async fn faults_are_switched_one_by_one() {
    let cases = [
        (Faults { rate_limit: true, ..Faults::NONE }, [1, 0, 260]),
        (Faults { server_errors: true, ..Faults::NONE }, [0, 3, 260]),
        (Faults { changing_record: true, ..Faults::NONE }, [0, 0, 261]),
    ];
    for (faults, wanted) in cases {
        let server = Server::start(PracticeOptions { faults, ..calm() }).await;
        let customers = server.walk(Resource::Customers).await.refusals.len();
        let events = server.walk(Resource::Events).await.refusals.len();
        assert_eq!([customers, events, server.walk(Resource::Tickets).await.records.len()], wanted, "{faults:?}");
    }
}
