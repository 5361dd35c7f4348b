//! Each route over HTTP: what it answers to right and wrong requests.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Barrier;
use std::thread;

use common::{Answer, Client, Server};
use serde_json::{Value, json};

const KEY: (&str, &str) = ("idempotency-key", "another key");

/// A service with a customer, a product of which 10 are in stock, and an order of 3.
struct Shop {
    _directory: tempfile::TempDir,
    server: Server,
    client: Client,
    customer: String,
    product: String,
    order: String,
}

impl Shop {
    fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let server = Server::start(directory.path(), "127.0.0.1:0");
        let client = server.client();
        let ada = r#"{"name":"Ada","email":"Ada@Example.org"}"#;
        let customer = client.post("/customers", "ada", ada).id();
        let product = client.post("/products", "tea", r#"{"name":"Tea"}"#).id();
        let stock = client.post(&format!("/products/{product}/stock"), "s", r#"{"quantity":10}"#);
        assert_eq!((stock.status, &stock.body["stock"]), (200, &json!(10)));
        let body = json!({ "customer": customer, "product": product, "quantity": 3 });
        let order = client.post("/orders", "order", &body.to_string()).id();
        Self { _directory: directory, server, client, customer, product, order }
    }

    fn order_of(&self, quantity: u64) -> String {
        let (customer, product) = (&self.customer, &self.product);
        json!({ "customer": customer, "product": product, "quantity": quantity }).to_string()
    }

    fn get(&self, path: &str) -> Answer {
        self.client.get(path)
    }
}

#[test]
fn aggregates_are_created_changed_and_read() {
    let shop = Shop::open();
    let (customer, product, order) = (&shop.customer, &shop.product, &shop.order);

    let read = shop.get(&format!("/customers/{customer}"));
    assert_eq!(read.body, json!({ "id": customer, "name": "Ada", "email": "ada@example.org" }));
    assert_eq!(read.etag.as_deref(), Some("\"1\""));
    let path = format!("/customers/{customer}/email");
    let changed =
        shop.client.send("PUT", &path, &[("if-match", "\"1\"")], r#"{"email":"a@b"}"#).unwrap();
    assert_eq!((changed.status, changed.etag.as_deref()), (200, Some("\"2\"")));
    assert_eq!(changed.body["email"], "a@b");

    let unchanged = shop.client.send("PUT", &path, &[], r#"{"email":"A@b"}"#).unwrap();
    assert_eq!((unchanged.status, unchanged.etag, unchanged.body), (204, None, Value::Null));

    let read = shop.get(&format!("/products/{product}"));
    assert_eq!(read.body, json!({ "id": product, "name": "Tea", "stock": 7 }));
    assert_eq!(read.etag.as_deref(), Some("\"3\""));

    let read = shop.get(&format!("/orders/{order}"));
    assert_eq!((read.etag.as_deref(), &read.body["status"]), (Some("\"1\""), &json!("placed")));
    let shipped = shop.client.post(&format!("/orders/{order}/ship"), "ship", "");
    assert_eq!((shipped.status, &shipped.body["status"]), (200, &json!("shipped")));
    let late = shop.client.post(&format!("/orders/{order}/cancel"), "cancel", "{}");
    assert_eq!(late.error(), (409, "already_shipped"));
    assert_eq!(shop.get("/healthz").status, 200);
    shop.server.stop();
}

#[test]
fn cancelled_order_returns_its_stock() {
    let shop = Shop::open();
    let cancelled = shop.client.post(&format!("/orders/{}/cancel", shop.order), "c", "");
    assert_eq!((cancelled.status, &cancelled.body["status"]), (200, &json!("cancelled")));
    let product = format!("/products/{}", shop.product);
    while shop.get(&product).body["stock"] != 10 {
        thread::yield_now();
    }
    let position = shop.get(&product).position.unwrap();
    let listed = shop.client.all_orders(10, position);
    let expected = json!({
        "id": shop.order, "customer": shop.customer, "product": shop.product,
        "product_name": "Tea", "quantity": 3, "status": "cancelled", "returned": true,
    });
    assert_eq!(listed, [expected]);
}

#[test]
fn orders_are_listed_page_by_page() {
    let shop = Shop::open();
    let mut ids = vec![shop.order.clone()];
    let mut position = 0;
    for number in 0..6 {
        let placed = shop.client.post("/orders", &format!("{number}"), &shop.order_of(1));
        position = placed.position.unwrap();
        ids.push(placed.id());
    }
    ids.sort();
    for limit in [1, 2, 3, 7, 100] {
        let listed = shop.client.all_orders(limit, position);
        let listed: Vec<_> = listed.iter().map(|order| order["id"].as_str().unwrap()).collect();
        assert_eq!(listed, ids, "limit {limit}");
    }
    let page = shop.get("/orders?limit=3").body;
    assert_eq!(page["next"], ids[2].as_str());
    assert_eq!(shop.get("/orders?limit=7").body["next"], Value::Null);
}

/// Method, path, headers and body of a request, and the status and code of its answer.
type Wrong<'w> = (&'w str, &'w str, &'w [(&'w str, &'w str)], &'w str, u16, &'w str);

/// Sends wrong requests. Each is answered as it should be, and nothing is stored.
fn check_refusals(shop: &Shop, wrong: &[Wrong<'_>]) {
    let before = shop.get("/healthz").body["head"].clone();
    for (method, path, headers, body, status, code) in wrong {
        let answer = shop.client.send(method, path, headers, body).unwrap();
        let text = format!("{method} {path} {headers:?} {body:.80}: {answer:?}");
        assert_eq!(answer.error(), (*status, *code), "{text}");
        assert!(answer.body["message"].as_str().is_some_and(|text| !text.is_empty()), "{text}");
    }
    assert_eq!(shop.get("/healthz").body["head"], before, "nothing was stored");
}

#[test]
fn malformed_requests_are_refused() {
    let shop = Shop::open();
    let stock = format!("/products/{}/stock", shop.product);
    let email = format!("/customers/{}/email", shop.customer);
    let long = format!(r#"{{"name":"{}"}}"#, "x".repeat(20_000));
    let (long_id, long_key) = (format!("/customers/{}", "x".repeat(300)), "k".repeat(256));
    let (tea, more, change) = (r#"{"name":"Tea"}"#, r#"{"quantity":1}"#, r#"{"email":"a@b"}"#);
    let none: &[(&str, &str)] = &[];
    let key = &[KEY][..];
    let wrong: &[Wrong<'_>] = &[
        ("POST", "/customers", none, r#"{"name":"A","email":"b@c"}"#, 400, "key_missing"),
        ("POST", &stock, none, more, 400, "key_missing"),
        ("POST", "/products", &[("idempotency-key", "")], tea, 400, "invalid"),
        ("POST", "/products", &[("idempotency-key", &long_key)], tea, 400, "invalid"),
        ("POST", "/products", &[KEY, ("x-user", "")], tea, 400, "invalid"),
        ("POST", "/products", &[KEY, ("x-user", "é")], tea, 400, "invalid_header"),
        ("POST", "/products", key, "", 400, "invalid_json"),
        ("POST", "/products", key, "{", 400, "invalid_json"),
        ("POST", "/products", key, r#"{"name":1}"#, 400, "invalid_json"),
        ("POST", "/products", key, r#"{"name":"A","price":1}"#, 400, "invalid_json"),
        ("POST", "/products", key, &long, 413, "too_large"),
        ("POST", &stock, key, r#"{"quantity":-1}"#, 400, "invalid_json"),
        ("POST", "/orders/x/cancel", key, "[1]", 400, "invalid_json"),
        ("PUT", &email, &[("if-match", "1")], change, 400, "invalid_if_match"),
        ("PUT", &email, &[("if-match", "W/\"1\"")], change, 400, "invalid_if_match"),
        ("PUT", "/customers/%FF/email", none, change, 400, "invalid_path"),
        ("PUT", "/customers/a%00b/email", none, change, 400, "invalid"),
        ("GET", &long_id, none, "", 400, "invalid"),
        ("GET", "/orders?limit=0", none, "", 400, "invalid_query"),
        ("GET", "/orders?limit=101", none, "", 400, "invalid_query"),
        ("GET", "/orders?limit=ten", none, "", 400, "invalid_query"),
        ("GET", "/orders?page=2", none, "", 400, "invalid_query"),
        ("GET", "/nothing", none, "", 404, "no_route"),
        ("DELETE", "/orders", none, "", 405, "no_method"),
    ];
    check_refusals(&shop, wrong);
}

#[test]
fn commands_against_the_rules_are_refused() {
    let shop = Shop::open();
    let stock = format!("/products/{}/stock", shop.product);
    let email = format!("/customers/{}/email", shop.customer);
    let (order, too_many) = (shop.order_of(1), shop.order_of(100));
    let unknown_customer = order.replace(&shop.customer, "nobody");
    let unknown_product = order.replace(&shop.product, "nothing");
    let no_reference = order.replace('}', r#","reference":""}"#);
    let taken = r#"{"name":"Bob","email":"ADA@example.org"}"#;
    let (more, change) = (r#"{"quantity":1}"#, r#"{"email":"a@b"}"#);
    let none: &[(&str, &str)] = &[];
    // Refusals are recorded, so each needs its own key.
    let key = ["1", "2", "3", "4", "5", "6", "7", "8", "9"].map(|key| [("idempotency-key", key)]);
    let any = &[("idempotency-key", "10"), ("if-match", "*")];
    let outdated = &[("if-match", "\"7\"")];
    let wrong: &[Wrong<'_>] = &[
        ("POST", "/products", &key[0], r#"{"name":" "}"#, 422, "invalid_name"),
        ("POST", &stock, &key[1], r#"{"quantity":0}"#, 422, "invalid_quantity"),
        ("POST", "/products/x/stock", &key[2], more, 404, "unknown_product"),
        ("POST", "/products/y/stock", &key[2], more, 422, "key_reused"),
        ("POST", "/customers", &key[3], taken, 409, "email_taken"),
        ("PUT", &email, outdated, change, 412, "version_mismatch"),
        ("PUT", &email, none, r#"{"email":"a@b@c"}"#, 422, "invalid_email"),
        ("PUT", "/customers/x/email", none, change, 404, "unknown_customer"),
        ("POST", "/orders", &key[4], &too_many, 409, "out_of_stock"),
        ("POST", "/orders", &key[5], &unknown_customer, 422, "unknown_customer"),
        ("POST", "/orders", &key[6], &unknown_product, 422, "unknown_product"),
        ("POST", "/orders", &key[7], &no_reference, 422, "invalid_reference"),
        ("POST", "/orders/x/ship", &key[8], "", 404, "unknown_order"),
        ("POST", "/orders/x/ship", any, "", 412, "version_mismatch"),
        ("POST", "/orders/x/ship", any, "", 412, "version_mismatch"),
        ("GET", "/customers/x", none, "", 404, "not_found"),
        ("GET", "/products/x", none, "", 404, "not_found"),
        ("GET", "/orders/x", none, "", 404, "not_found"),
    ];
    check_refusals(&shop, wrong);
}

#[test]
fn taken_reference_is_refused() {
    let shop = Shop::open();
    let body = shop.order_of(1).replace('}', r#","reference":"PO-1"}"#);
    assert_eq!(shop.client.post("/orders", "first", &body).status, 201);
    assert_eq!(shop.client.post("/orders", "second", &body).error(), (409, "reference_taken"));
    assert_eq!(shop.get(&format!("/products/{}", shop.product)).body["stock"], 6);
}

#[test]
fn repeated_request_has_the_same_answer() {
    let shop = Shop::open();
    let stock = format!("/products/{}/stock", shop.product);
    let first = shop.client.post(&stock, "more", r#"{"quantity":5}"#);
    shop.client.post(&stock, "even more", r#"{"quantity":5}"#);
    let again = shop.client.post(&stock, "more", r#"{"quantity":5}"#);
    assert!(!first.is_replayed && again.is_replayed);
    assert_eq!(Answer { is_replayed: false, ..again }, first);

    // A refusal is final for its key: there is stock now.
    let refused = shop.client.post("/orders", "big", &shop.order_of(18));
    assert_eq!(refused.error(), (409, "out_of_stock"));
    shop.client.post(&stock, "much more", r#"{"quantity":50}"#);
    assert_eq!(shop.client.post("/orders", "big", &shop.order_of(18)), refused);
    assert_eq!(shop.client.post("/orders", "big, again", &shop.order_of(18)).status, 201);

    // The keys of another user are other keys.
    let bob = [("idempotency-key", "tea"), ("x-user", "bob")];
    let added = shop.client.send("POST", "/products", &bob, r#"{"name":"Tea"}"#).unwrap();
    assert_eq!(added.status, 201);
    assert_ne!(added.id(), shop.product);
}

/// The second may find the version that the first one made.
#[test]
fn simultaneous_repeats_with_if_match_have_the_same_answer() {
    let shop = Shop::open();
    let stock = format!("/products/{}/stock", shop.product);
    let product = format!("/products/{}", shop.product);
    let (address, barrier) = (shop.server.address.as_str(), Barrier::new(4));
    let mut etag = shop.get(&product).etag.unwrap();
    let mut clients: Vec<_> = (0..4).map(|_| Client::new(address)).collect();
    for number in 0..200 {
        let key = number.to_string();
        let headers = [("idempotency-key", &*key), ("if-match", &*etag)];
        let (stock, barrier) = (&stock, &barrier);
        let answers: Vec<_> = thread::scope(|scope| {
            let send = |client: &'_ mut Client| {
                barrier.wait();
                client.send("POST", stock, &headers, r#"{"quantity":1}"#).unwrap()
            };
            let senders: Vec<_> =
                clients.iter_mut().map(|client| scope.spawn(move || send(client))).collect();
            senders.into_iter().map(|sender| sender.join().unwrap()).collect()
        });
        assert_eq!(answers.iter().filter(|answer| !answer.is_replayed).count(), 1, "{answers:?}");
        for answer in &answers {
            assert_eq!((answer.status, &answer.etag), (200, &answers[0].etag), "{answers:?}");
        }
        etag = answers[0].etag.clone().unwrap();
    }
    assert_eq!(shop.get(&product).body["stock"], 207);
}
