//! The feed of changes: Server-Sent Events, and a WebSocket.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use annals::prelude::*;
use common::feed::{Feed, KINDS, Kind, Message, Sse, WebSocket};
use common::{Client, Running, Server};
use ordering::order::{OrderEvent, Placement};
use serde_json::json;

/// Fills a store with orders, whose references have this length.
fn fill(directory: &Path, orders: u64, reference_len: usize) {
    let store = Store::open(directory).unwrap();
    let numbers: Vec<u64> = (1..=orders).collect();
    for numbers in numbers.chunks(1_000) {
        let mut append = Append::new();
        for number in numbers {
            let placed = OrderEvent::Placed(Placement {
                customer: "ada".into(),
                product: "tea".into(),
                quantity: *number,
                reference: Some("x".repeat(reference_len)),
            });
            let stream = format!("order-{number}");
            append = append.to(stream, ExpectedVersion::NoStream, [placed.encode().unwrap()]);
        }
        store.submit(append).unwrap();
    }
    store.close().unwrap();
}

/// Ships the order with this number. Returns the position.
fn ship(client: &Client, order: u64) -> u64 {
    let shipped = client.post(&format!("/orders/{order}/ship"), &format!("ship {order}"), "");
    assert_eq!(shipped.status, 200, "{shipped:?}");
    shipped.position.unwrap()
}

fn positions(messages: &[Message]) -> Vec<u64> {
    messages.iter().map(Message::position).collect()
}

#[test]
fn feed_sends_each_change_once_and_resumes() {
    for kind in KINDS {
        let directory = tempfile::tempdir().unwrap();
        fill(directory.path(), 10, 3);
        let server = Server::start(directory.path(), "127.0.0.1:0");
        let (client, address) = (server.client(), server.address.as_str());
        let mut feed = Feed::open(kind, address, "");
        let mut changes = feed.history();
        assert_eq!(positions(&changes), (1..=10).collect::<Vec<_>>());
        let mut first = changes[0].data.clone();
        assert!(first["at"].take().as_str().unwrap().ends_with('Z'));
        let placed =
            json!({ "customer": "ada", "product": "tea", "quantity": 1, "reference": "xxx" });
        let expected = json!({
            "position": 1, "order": "1", "status": "placed", "placed": placed, "at": null,
        });
        assert_eq!(first, expected);

        client.post("/products", "tea", r#"{"name":"Tea"}"#);
        for order in 1..=3 {
            let position = ship(&client, order);
            let change = feed.next().unwrap();
            assert_eq!(change.position(), position);
            let data = &change.data;
            assert_eq!(
                (&data["order"], &data["status"]),
                (&json!(order.to_string()), &json!("shipped"))
            );
            changes.push(change);
        }
        for (seen, order) in [0, 9, 10, 12].into_iter().zip(4..) {
            let mut resumed = Feed::open(kind, address, &changes[seen].id);
            assert_eq!(resumed.history(), changes[seen + 1..], "{kind:?} after {seen}");
            let position = ship(&client, order);
            let change = feed.next().unwrap();
            assert_eq!(change.position(), position);
            assert_eq!(resumed.next().as_ref(), Some(&change));
            changes.push(change);
        }
        server.stop();
    }
}

#[test]
fn last_event_id_is_newer_than_the_query() {
    let directory = tempfile::tempdir().unwrap();
    fill(directory.path(), 5, 3);
    let server = Server::start(directory.path(), "127.0.0.1:0");
    let changes = Feed::open(Kind::Sse, &server.address, "").history();
    let query = format!("?after={}", changes[0].id);
    for (last_id, expected) in [(None, &changes[1..]), (Some(&*changes[3].id), &changes[4..])] {
        let mut feed = Feed::Sse(Sse::open(&server.address, &query, last_id));
        assert_eq!(feed.history(), expected);
    }
}

#[test]
fn wrong_places_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    fill(directory.path(), 1, 3);
    let server = Server::start(directory.path(), "127.0.0.1:0");
    let client = server.client();
    let id = Feed::open(Kind::Sse, &server.address, "").history().pop().unwrap().id;
    let epoch = id.split_once(':').unwrap().0;
    let wrong = ["x", "1", ":1", &format!("{epoch}:"), &format!("{epoch}:0"), &format!("{id}x")];
    for wrong in wrong.map(str::to_owned) {
        let sent = client.send("GET", "/events", &[("last-event-id", &wrong)], "").unwrap();
        assert_eq!(sent.error(), (400, "invalid_event_id"), "{wrong}");
        let asked = client.get(&format!("/events?after={wrong}"));
        assert_eq!(asked.error(), (400, "invalid_event_id"), "{wrong}");
        let refused = WebSocket::refused(&server.address, &format!("?after={wrong}"));
        assert!(refused.contains("400 Bad Request"), "{refused}");
    }
    assert_eq!(client.get("/events?before=1").error(), (400, "invalid_query"));
    assert_eq!(client.get("/events/ws").error(), (400, "no_websocket"));
    assert_eq!(client.post("/events", "1", "").error(), (405, "no_method"));
}

/// An epoch that the log never had, and a position that it does not have yet.
#[test]
fn place_of_another_log_begins_again() {
    let directory = tempfile::tempdir().unwrap();
    fill(directory.path(), 3, 3);
    let server = Server::start(directory.path(), "127.0.0.1:0");
    let changes = Feed::open(Kind::Sse, &server.address, "").history();
    let epoch = changes[0].id.split_once(':').unwrap().0;
    let unknown = "01234567-0123-4123-8123-012345678901:2";
    for (kind, after) in KINDS
        .into_iter()
        .flat_map(|kind| [unknown.to_owned(), format!("{epoch}:4")].map(|after| (kind, after)))
    {
        let mut feed = Feed::open(kind, &server.address, &after);
        let reset = feed.next().unwrap();
        assert_eq!((&*reset.event, &*reset.id), ("reset", ""), "{kind:?} {after}");
        assert!(reset.data["reason"].as_str().unwrap().contains("position"));
        assert_eq!(feed.history(), changes);
    }
}

#[test]
fn place_that_a_restored_store_lost_begins_again() {
    let directory = tempfile::tempdir().unwrap();
    let [place, backup, lost] = ["shop", "backup", "lost"].map(|name| directory.path().join(name));
    fill(&place, 3, 3);
    Store::open(&place).unwrap().backup(&backup).unwrap();
    let server = Server::start(&place, "127.0.0.1:0");
    let mut before = Feed::open(Kind::Sse, &server.address, "");
    let mut changes = before.history();
    ship(&server.client(), 1);
    changes.push(before.next().unwrap());
    server.stop();

    std::fs::rename(&place, lost).unwrap();
    Store::options().read_only(true).open(&backup).unwrap().restore_to(&place).unwrap();
    let server = Server::start(&place, "127.0.0.1:0");
    // Another event is at the position that was lost.
    assert_eq!(ship(&server.client(), 2), changes[3].position());
    for kind in KINDS {
        let mut kept = Feed::open(kind, &server.address, &changes[2].id).history();
        assert_eq!(kept.pop().unwrap().data["order"], "2");
        assert!(kept.is_empty(), "the first three changes are in both histories");
        let mut feed = Feed::open(kind, &server.address, &changes[3].id);
        assert_eq!(feed.next().unwrap().event, "reset");
        assert_eq!(positions(&feed.history()), [1, 2, 3, 4]);
    }
}

#[test]
fn quiet_feed_sends_heartbeats_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    fill(directory.path(), 2, 3);
    let running = Running::start(directory.path(), 0, Duration::from_millis(20));
    for kind in KINDS {
        let mut feed = Feed::open(kind, &running.address, "");
        let last = feed.up_to("live").pop().unwrap();
        assert_eq!(feed.up_to("heartbeat").pop().unwrap().id, last.id);
        // A change that the feed does not have need not be read again.
        let product = running.client.post("/products", &format!("{kind:?}"), r#"{"name":"Tea"}"#);
        let position = format!(":{}", product.position.unwrap());
        while !feed.up_to("heartbeat").pop().unwrap().id.ends_with(&position) {}
    }
    running.stop();
}

#[test]
fn feeds_end_when_the_service_stops() {
    let directory = tempfile::tempdir().unwrap();
    // A client that does not read has messages left.
    fill(directory.path(), 30_000, 1_000);
    let server = Server::start(directory.path(), "127.0.0.1:0");
    let id = Feed::open(Kind::Sse, &server.address, "").history().pop().unwrap().id;
    let _unread = WebSocket::open(&server.address, "");
    let mut feeds = KINDS.map(|kind| Feed::open(kind, &server.address, &id));
    for feed in &mut feeds {
        assert_eq!(feed.history(), []);
    }
    // Until the service can send it no more.
    std::thread::sleep(Duration::from_secs(1));
    let began = Instant::now();
    server.stop();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    for feed in &mut feeds {
        feed.check_end();
    }
}

#[test]
fn feed_ends_when_the_store_is_reopened() {
    let directory = tempfile::tempdir().unwrap();
    fill(directory.path(), 3, 3);
    let running = Running::start(directory.path(), 0, Duration::from_secs(15));
    for (kind, order) in KINDS.into_iter().zip(1..) {
        let mut feed = Feed::open(kind, &running.address, "");
        let last = feed.history().pop().unwrap();
        let broken = running.service.current().unwrap();
        broken.store.blocking().clone().close().unwrap();
        feed.check_end();
        let path = format!("/orders/{order}/ship");
        let headers = [("idempotency-key", &*path)];
        let shipped = running.client.send_until_answered("POST", &path, &headers, "");
        let rest = Feed::open(kind, &running.address, &last.id).history();
        assert_eq!(positions(&rest), [shipped.position.unwrap()]);
    }
    running.stop();
}

#[test]
fn many_clients_need_no_threads() {
    let directory = tempfile::tempdir().unwrap();
    fill(directory.path(), 20, 3);
    let server = Server::start(directory.path(), "127.0.0.1:0");
    let client = server.client();
    // Starts the threads that the service needs in any case.
    ship(&client, 1);
    let mut feeds: Vec<_> =
        KINDS.iter().map(|kind| Feed::open(*kind, &server.address, "")).collect();
    for feed in &mut feeds {
        assert_eq!(feed.history().len(), 21);
    }
    let threads_before = server.status("Threads:");
    feeds.extend((2..200).map(|number| {
        let mut feed = Feed::open(KINDS[number % 2], &server.address, "");
        assert_eq!(feed.history().len(), 21);
        feed
    }));
    let shipped: Vec<_> = (2..=20).map(|order| ship(&client, order)).collect();
    let threads = server.status("Threads:");
    for feed in &mut feeds {
        let changes: Vec<_> = shipped.iter().map(|_| feed.next().unwrap()).collect();
        assert_eq!(positions(&changes), shipped);
    }
    println!("{threads_before} threads with 2 clients, {threads} with {}", feeds.len());
    // The threads of the pool that reads come and go: it has at most 16.
    assert!(threads < threads_before + 20, "{threads_before} threads, then {threads}");
    server.stop();
}

/// 20 clients do not read 45 MB each.
#[test]
fn slow_clients_need_little_memory() {
    let directory = tempfile::tempdir().unwrap();
    fill(directory.path(), 40_000, 1_000);
    let server = Server::start(directory.path(), "127.0.0.1:0");
    // What the store itself needs.
    assert_eq!(Feed::open(Kind::Sse, &server.address, "").history().len(), 40_000);
    let kilobytes_before = server.status("VmRSS:");
    let mut feeds: Vec<_> =
        (0..20).map(|number| Feed::open(KINDS[number % 2], &server.address, "")).collect();
    let began = Instant::now();
    let mut kilobytes = 0;
    while began.elapsed() < Duration::from_secs(3) {
        kilobytes = server.status("VmRSS:").max(kilobytes);
        std::thread::sleep(Duration::from_millis(50));
    }
    let grown = kilobytes.saturating_sub(kilobytes_before) / 1024;
    println!("{} MB, then {grown} MB more", kilobytes_before / 1024);
    assert!(grown < 100, "{grown} MB more");
    // Nothing is lost when they read at last.
    for feed in &mut feeds[..2] {
        let history = feed.history();
        assert!(history.iter().map(Message::position).eq(1..=40_000));
    }
}

#[test]
fn websocket_client_leaves_properly() {
    let directory = tempfile::tempdir().unwrap();
    fill(directory.path(), 3, 3);
    let server = Server::start(directory.path(), "127.0.0.1:0");
    for _ in 0..50 {
        let mut socket = WebSocket::open(&server.address, "");
        assert_eq!(socket.next().unwrap().position(), 1);
        socket.close();
    }
    server.stop();
}
