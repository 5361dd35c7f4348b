//! 64 clients order the same product at the same time.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;
use std::thread;

use annals::prelude::*;
use common::{Client, SECRET, Server};

const CLIENTS: usize = 64;
const ORDERS_EACH: usize = 50;

#[test]
fn no_order_of_a_busy_product_fails() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), "127.0.0.1:0");
    let client = server.client();
    let product = client.post("/products", "tea", r#"{"name":"Tea"}"#).id();
    let total = CLIENTS * ORDERS_EACH;
    let stock = format!(r#"{{"quantity":{}}}"#, total + 7);
    assert_eq!(client.post(&format!("/products/{product}/stock"), "stock", &stock).status, 200);
    let ada = r#"{"name":"Ada","email":"ada@example.org"}"#;
    let customer = client.post("/customers", "ada", ada).id();

    let address = server.address.as_str();
    let began = std::time::Instant::now();
    thread::scope(|scope| {
        for user in 0..CLIENTS {
            let (customer, product) = (&customer, &product);
            scope.spawn(move || order(&Client::new(address), user, customer, product));
        }
    });
    println!("{total} orders in {:?}", began.elapsed());

    let left = client.get(&format!("/products/{product}"));
    assert_eq!(left.body["stock"], 7);
    assert_eq!(client.all_orders(100, left.position.unwrap()).len(), total);
    server.stop();
    check_metadata(directory.path(), &customer, total);
}

fn order(client: &Client, user: usize, customer: &str, product: &str) {
    let user = format!("user-{user}");
    for number in 0..ORDERS_EACH {
        let (key, request) = (format!("order {number}"), format!("{user}/{number}"));
        let headers = [("idempotency-key", &*key), ("x-user", &user), ("x-request-id", &request)];
        let body = serde_json::json!({
            "customer": customer, "product": product, "quantity": 1, "reference": request,
        });
        let placed = client.send("POST", "/orders", &headers, &body.to_string()).unwrap();
        assert_eq!(placed.status, 201, "{placed:?}");
    }
}

/// Each order is one append: the order, the stock, and the claim of its reference.
fn check_metadata(directory: &Path, customer: &str, total: usize) {
    let store = Store::open(directory).unwrap();
    let references = annals::UniqueValues::new(&store, "reference", SECRET).unwrap();
    let mut orders = 0;
    for event in store.read_log().types(["OrderPlaced", "StockReserved"]) {
        let event = event.unwrap();
        let request = event.correlation_id().unwrap();
        let (user, _) = request.split_once('/').unwrap();
        assert_eq!(event.metadata().get("user"), Some(user));
        let commit = event.commit();
        assert_eq!(commit.end().get() - commit.start().get() + 1, 3);
        if event.event_type().as_str() == "OrderPlaced" {
            orders += 1;
            let owner = references.owner(&format!("{customer}\n{request}")).unwrap();
            assert_eq!(owner.as_ref(), Some(event.stream()));
        }
    }
    assert_eq!(orders, total);
}
