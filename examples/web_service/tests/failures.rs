//! A store that must be reopened, a full disk, and a stop while requests run.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use annals::prelude::*;
use common::{Client, Running, Server};

const HEARTBEAT: Duration = Duration::from_secs(15);

#[test]
fn store_is_reopened_after_an_error_that_needs_it() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start(directory.path(), 0, HEARTBEAT);
    let add = |key: &str| {
        let headers = [("idempotency-key", key)];
        running.client.send_until_answered("POST", "/products", &headers, r#"{"name":"Tea"}"#)
    };
    let first = add("1");
    for key in ["2", "3"] {
        let broken = running.service.current().unwrap();
        // A failed write has the same effect on later calls.
        broken.store.blocking().clone().close().unwrap();
        let refused = running.client.post("/products", key, r#"{"name":"Tea"}"#);
        assert_eq!(refused.error(), (503, "reopening"));
        assert_eq!(add(key).status, 201);
        assert!(!Arc::ptr_eq(&broken, &running.service.current().unwrap()));
    }
    assert_eq!(add("1").id(), first.id());
    let position = add("2").position.unwrap();
    assert!(running.client.all_orders(10, position).is_empty(), "the projections run again");
    running.stop();
}

#[test]
fn full_disk_is_answered_with_503() {
    let directory = tempfile::tempdir().unwrap();
    // No disk has this much free space, so this store behaves as on a full one.
    let running = Running::start(directory.path(), 1 << 60, HEARTBEAT);
    let refused = running.client.post("/products", "tea", r#"{"name":"Tea"}"#);
    assert_eq!(refused.error(), (503, "disk_full"));
    assert_eq!(running.client.get("/orders").status, 200, "reading needs no space");
    running.stop();

    let running = Running::start(directory.path(), 0, HEARTBEAT);
    assert_eq!(running.client.get("/orders").status, 200);
    assert_eq!(running.client.post("/products", "tea", r#"{"name":"Tea"}"#).status, 201);
    running.stop();
}

#[test]
fn stop_finishes_running_requests() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), "127.0.0.1:0");
    let address = server.address.clone();
    let (address, stored) = (address.as_str(), &AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for client in 0..16 {
            scope.spawn(move || {
                let connection = Client::new(address);
                for number in 0.. {
                    let key = format!("{client}/{number}");
                    let headers = [("idempotency-key", &*key)];
                    let body = r#"{"name":"Tea"}"#;
                    // An error means that the connection was closed before the request was read.
                    let Ok(answer) = connection.send("POST", "/products", &headers, body) else {
                        return;
                    };
                    assert_eq!(answer.status, 201, "{answer:?}");
                    stored.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        while stored.load(Ordering::Relaxed) < 200 {
            std::thread::yield_now();
        }
        server.stop();
    });
    let store = Store::open(directory.path()).unwrap();
    assert_eq!(store.read_log().into_iter().count(), stored.load(Ordering::Relaxed));
}
