//! The service is killed and restarted again and again, while clients send each command twice at
//! the same time, and again until it is answered. In the end each command was done exactly once.
//!
//! `COMMANDS=10000 KILLS=10 cargo test --release --test kills` sets the amount.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use annals::UniqueValues;
use annals::prelude::*;
use common::{Answer, Client, SECRET, Server};
use serde_json::{Value, json};

const PAIRS: usize = 8;
const PRODUCTS: usize = 4;
const CUSTOMERS: usize = 6;
const ADDRESSES: usize = 9;

/// What a command does.
#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Place { product: String, quantity: u64 },
    AddStock { product: String, quantity: u64 },
    ChangeEmail { customer: String, email: String },
    Cancel { order: String },
    Ship { order: String },
}

#[derive(Debug, Clone)]
struct Sent {
    kind: Kind,
    answer: Answer,
}

struct Shop {
    /// Of each product, at first: a few orders find too little.
    stock: u64,
    products: Vec<String>,
    customers: Vec<String>,
}

#[test]
fn each_command_is_done_once_however_often_the_service_is_killed() {
    let (commands, kills) = (amount("COMMANDS", 600), amount("KILLS", 3));
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), "127.0.0.1:0");
    let (shop, address, began) =
        (set_up(&server.client(), commands), server.address.clone(), Instant::now());
    let (shop, address) = (&shop, &address);
    let answered = &AtomicUsize::new(0);
    let (sent, server) = thread::scope(|scope| {
        let mut server = server;
        let pairs: Vec<_> = (0..PAIRS)
            .map(|pair| scope.spawn(move || send_twice(address, shop, pair, commands, answered)))
            .collect();
        for kill in 1..=kills {
            while answered.load(Ordering::Relaxed) < kill * commands / (kills + 1) {
                assert!(pairs.iter().any(|pair| !pair.is_finished()), "no client is left");
                thread::sleep(Duration::from_millis(1));
            }
            server.kill();
            server = Server::start(directory.path(), address);
        }
        let sent: Vec<Sent> = pairs.into_iter().flat_map(|pair| pair.join().unwrap()).collect();
        (sent, server)
    });
    println!("{commands} commands, each sent twice, {kills} kills: {:?}", began.elapsed());
    assert_eq!(sent.len(), commands);
    let position = check_stock(&server.client(), shop, &sent);
    let listed = server.client().all_orders(100, position);
    server.stop();
    check_log(directory.path(), &sent, &listed);
    check_emails(directory.path(), shop, &sent);
}

fn amount(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

fn set_up(client: &Client, commands: usize) -> Shop {
    let stock = commands as u64 / 5 + 1;
    let add = |number: usize| {
        let product = client.post("/products", &format!("p{number}"), r#"{"name":"Tea"}"#).id();
        let body = json!({ "quantity": stock }).to_string();
        client.post(&format!("/products/{product}/stock"), &format!("s{number}"), &body);
        product
    };
    let register = |number: usize| {
        let body = json!({ "name": "Ada", "email": address_of(number) }).to_string();
        client.post("/customers", &format!("c{number}"), &body).id()
    };
    let products = (0..PRODUCTS).map(add).collect();
    Shop { stock, products, customers: (0..CUSTOMERS).map(register).collect() }
}

fn address_of(number: usize) -> String {
    format!("{number}@example.org")
}

/// Two clients send the same commands at the same time.
fn send_twice(
    address: &str,
    shop: &Shop,
    pair: usize,
    commands: usize,
    answered: &AtomicUsize,
) -> Vec<Sent> {
    let clients = [Client::new(address), Client::new(address)];
    let mut sent = Vec::new();
    for number in (pair..commands).step_by(PAIRS) {
        let [first, second] = thread::scope(|scope| {
            let second = scope.spawn(|| send(&clients[1], shop, number, &sent));
            [send(&clients[0], shop, number, &sent), second.join().unwrap()]
        });
        let answer = Answer { is_replayed: first.answer.is_replayed, ..second.answer };
        assert_eq!((&first.kind, &first.answer), (&second.kind, &answer));
        sent.push(first);
        answered.fetch_add(1, Ordering::Relaxed);
    }
    sent
}

/// Sends the command with this number until it is answered.
fn send(client: &Client, shop: &Shop, number: usize, before: &[Sent]) -> Sent {
    let random = usize::try_from(mixed(number) >> 33).unwrap();
    let product = shop.products[random % PRODUCTS].clone();
    let quantity = u64::try_from(random / PRODUCTS % 4).unwrap() + 1;
    let placed = |back: usize| {
        let placed =
            |sent: &&Sent| matches!(sent.kind, Kind::Place { .. }) && sent.answer.status == 201;
        before.iter().rev().filter(placed).nth(back).map(|sent| sent.answer.id())
    };
    let kind = match (number / PAIRS % 10, placed(0), placed(1)) {
        (5, ..) => Kind::AddStock { product, quantity },
        (6 | 7, ..) => Kind::ChangeEmail {
            customer: shop.customers[random % CUSTOMERS].clone(),
            email: address_of(random / CUSTOMERS % ADDRESSES),
        },
        (8, Some(order), _) => Kind::Cancel { order },
        (9, _, Some(order)) => Kind::Ship { order },
        _ => Kind::Place { product, quantity },
    };
    let (method, path, body) = match &kind {
        Kind::Place { product, quantity } => {
            let customer = &shop.customers[random % CUSTOMERS];
            let body = json!({ "customer": customer, "product": product, "quantity": quantity });
            ("POST", "/orders".to_owned(), body)
        }
        Kind::AddStock { product, quantity } => {
            ("POST", format!("/products/{product}/stock"), json!({ "quantity": quantity }))
        }
        Kind::ChangeEmail { customer, email } => {
            ("PUT", format!("/customers/{customer}/email"), json!({ "email": email }))
        }
        Kind::Cancel { order } => ("POST", format!("/orders/{order}/cancel"), json!({})),
        Kind::Ship { order } => ("POST", format!("/orders/{order}/ship"), json!({})),
    };
    let key = format!("command {number}");
    let headers = [("idempotency-key", &*key), ("x-request-id", &key)];
    let answer = client.send_until_answered(method, &path, &headers, &body.to_string());
    assert!([200, 201, 204, 409].contains(&answer.status), "{kind:?}: {answer:?}");
    Sent { kind, answer }
}

/// A number that looks random, always the same for the same input.
fn mixed(number: usize) -> u64 {
    let bits = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (bits ^ (bits >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// The commands that changed something.
fn done(sent: &[Sent]) -> impl Iterator<Item = &Sent> {
    sent.iter().filter(|sent| [200, 201].contains(&sent.answer.status))
}

/// The stock is what the answers add up to. Returns the position of its last event.
fn check_stock(client: &Client, shop: &Shop, sent: &[Sent]) -> u64 {
    let placed: BTreeMap<String, (&str, u64)> = done(sent)
        .filter_map(|sent| match &sent.kind {
            Kind::Place { product, quantity } => {
                Some((sent.answer.id(), (product.as_str(), *quantity)))
            }
            _ => None,
        })
        .collect();
    let mut stock: BTreeMap<&str, u64> =
        shop.products.iter().map(|product| (product.as_str(), shop.stock)).collect();
    // In the order of the log the stock never becomes negative, so first what adds to it.
    for Sent { kind, .. } in done(sent) {
        match kind {
            Kind::AddStock { product, quantity } => *stock.get_mut(&**product).unwrap() += quantity,
            Kind::Cancel { order } => *stock.get_mut(placed[order].0).unwrap() += placed[order].1,
            _ => {}
        }
    }
    for (product, quantity) in placed.values() {
        *stock.get_mut(product).unwrap() -= quantity;
    }
    let mut position = 0;
    for (product, stock) in stock {
        let until = Instant::now() + Duration::from_secs(20);
        // The process manager may still return stock.
        loop {
            let read = client.get(&format!("/products/{product}"));
            if read.body["stock"] == stock {
                position = position.max(read.position.unwrap());
                break;
            }
            assert!(Instant::now() < until, "{read:?}, but {stock} are expected");
            thread::sleep(Duration::from_millis(10));
        }
    }
    position
}

/// Each answer has its event in the log, no event is there twice, and the read model is the fold.
fn check_log(directory: &Path, sent: &[Sent], listed: &[Value]) {
    let store = Store::open(directory).unwrap();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut lines: BTreeMap<String, Value> = BTreeMap::new();
    for event in store.read_log() {
        let event = event.unwrap();
        let id = event.stream().as_str().split_once('-').unwrap().1.to_owned();
        let event_type = event.event_type().as_str().to_owned();
        *counts.entry(event_type.clone()).or_default() += 1;
        let mut set = |id: &str, field: &str, value: Value| {
            lines.get_mut(id).unwrap()[field] = value;
        };
        match &*event_type {
            "OrderPlaced" => {
                let placed: Value = event.json().unwrap();
                let line = json!({
                    "id": id, "customer": placed["customer"], "product": placed["product"],
                    "product_name": "Tea", "quantity": placed["quantity"], "status": "placed",
                    "returned": false,
                });
                assert!(lines.insert(id, line).is_none(), "placed twice: {event:?}");
            }
            "OrderShipped" => set(&id, "status", "shipped".into()),
            "OrderCancelled" => set(&id, "status", "cancelled".into()),
            "StockReturned" => {
                let returned: Value = event.json().unwrap();
                set(returned["order"].as_str().unwrap(), "returned", true.into());
            }
            _ => {}
        }
    }
    let count_of = |is: fn(&Kind) -> bool| done(sent).filter(|sent| is(&sent.kind)).count();
    let cancelled = count_of(|kind| matches!(kind, Kind::Cancel { .. }));
    let placed = count_of(|kind| matches!(kind, Kind::Place { .. }));
    let counted = |event_type: &str| counts.get(event_type).copied().unwrap_or_default();
    assert_eq!(counted("OrderPlaced"), placed);
    assert_eq!(counted("StockReserved"), placed);
    assert_eq!(counted("OrderShipped"), count_of(|kind| matches!(kind, Kind::Ship { .. })));
    assert_eq!((counted("OrderCancelled"), counted("StockReturned")), (cancelled, cancelled));
    let added = count_of(|kind| matches!(kind, Kind::AddStock { .. }));
    assert_eq!(counted("StockAdded"), added + PRODUCTS);
    assert_eq!(listed, lines.into_values().collect::<Vec<_>>());
    let refused = sent.len() - done(sent).count();
    println!(
        "{placed} orders, {cancelled} cancelled, {refused} commands changed nothing: {counts:?}"
    );
    assert!(store.verify(|_| {}).unwrap().is_sound());
}

/// Each change of an address is at the version that was answered, and each address belongs to the
/// one customer that has it.
fn check_emails(directory: &Path, shop: &Shop, sent: &[Sent]) {
    let store = Store::open(directory).unwrap();
    let mut owners: BTreeMap<String, StreamId> = BTreeMap::new();
    for customer in &shop.customers {
        let stream = StreamId::new(format!("customer-{customer}")).unwrap();
        let emails: Vec<String> = store
            .read_stream(&stream)
            .into_iter()
            .map(|event| event.unwrap().json::<Value>().unwrap()["email"].as_str().unwrap().into())
            .collect();
        let mut answered = BTreeSet::from([1]);
        for Sent { kind, answer } in done(sent) {
            if let Kind::ChangeEmail { customer: of, email } = kind
                && of == customer
            {
                let version: usize =
                    answer.etag.as_ref().unwrap().trim_matches('"').parse().unwrap();
                assert_eq!(emails[version - 1], *email);
                answered.insert(version);
            }
        }
        assert_eq!(answered, (1..=emails.len()).collect(), "an event of no command");
        let last = emails.last().unwrap().clone();
        assert_eq!(owners.insert(last, stream), None, "two customers have one address");
    }
    let emails = UniqueValues::new(&store, "email", SECRET).unwrap();
    for number in 0..ADDRESSES {
        let address = address_of(number);
        assert_eq!(emails.owner(&address).unwrap(), owners.get(&address).cloned(), "{address}");
    }
}
