//! A browser shows the page of orders while the service is killed, stopped and restarted. The page
//! shows each change once, in order.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "../../../tests/support/skip.rs"]
mod skip;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use annals::prelude::*;
use common::browser::{self, Browser};
use common::{Client, Server};
use serde_json::{Value, json};

/// What the page shows.
const SHOWN: &str = r#"
    const text = (id) => document.getElementById(id).textContent;
    const events = [...document.querySelectorAll("ol#events li")];
    const rows = [...document.querySelectorAll("tbody#orders tr")];
    return {
        positions: events.map((event) => Number(event.dataset.position)).reverse(),
        statuses: events.map((event) => event.querySelector("span span").textContent).reverse(),
        orders: rows.map((row) => row.querySelector("code").title).reverse(),
        products: [...new Set(rows.map((row) => row.cells[1].textContent))],
        count: text("count"), position: text("position"), total: text("total"),
        state: text("state"), marker: window.marker ?? null,
    };
"#;

/// A browser, unless this machine has none.
fn browser(test: &str) -> Option<Browser> {
    match browser::missing() {
        Some(reason) => {
            skip::skipped(test, &reason);
            None
        }
        None => Some(Browser::start()),
    }
}

/// A customer and a product to order.
struct Shop {
    customer: String,
    product: String,
}

impl Shop {
    fn set_up(client: &Client) -> Self {
        let ada = r#"{"name":"Ada","email":"ada@example.org"}"#;
        let customer = client.post("/customers", "ada", ada).id();
        let product = client.post("/products", "tea", r#"{"name":"Tea"}"#).id();
        let stock = client.post(&format!("/products/{product}/stock"), "s", r#"{"quantity":9999}"#);
        assert_eq!(stock.status, 200);
        Self { customer, product }
    }

    /// Places an order, however often the service must be asked. Returns the id.
    fn place(&self, client: &Client, key: &str) -> String {
        let (customer, product) = (&self.customer, &self.product);
        let body = json!({ "customer": customer, "product": product, "quantity": 1 }).to_string();
        let headers = [("idempotency-key", key)];
        let placed = client.send_until_answered("POST", "/orders", &headers, &body);
        assert_eq!(placed.status, 201, "{placed:?}");
        placed.id()
    }

    fn ship(client: &Client, order: &str) {
        let headers = [("idempotency-key", order)];
        let path = format!("/orders/{order}/ship");
        assert_eq!(client.send_until_answered("POST", &path, &headers, "").status, 200);
    }
}

/// Waits until the page is live and shows this many changes, and a little longer: a change that is
/// shown twice comes soon after.
fn shown(browser: &Browser, changes: usize) -> Value {
    let count = json!(changes.to_string());
    browser.run_until(SHOWN, |shown| shown["count"] == count && shown["state"] == "live");
    thread::sleep(Duration::from_millis(200));
    let shown = browser.run(SHOWN);
    assert_eq!(shown["count"], count, "{shown}");
    shown
}

/// How the service ends in a round.
#[derive(Debug, Clone, Copy)]
enum End {
    Kill,
    Stop,
    /// A kill; then something else, such as a proxy, answers 503 at its address.
    KillAndRefuse,
}

#[test]
fn page_shows_each_change_once_however_the_service_ends() {
    let Some(browser) = browser("page_shows_each_change_once_however_the_service_ends") else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start(directory.path(), "127.0.0.1:0");
    let (client, address) = (server.client(), server.address.clone());
    let shop = Shop::set_up(&client);
    let mut placed = vec![shop.place(&client, "before the page")];
    browser.open(&format!("http://{address}/"));
    browser.run("window.marker = 'not loaded again';");
    placed.push(shop.place(&client, "after the page"));
    Shop::ship(&client, &placed[0]);
    assert_eq!(shown(&browser, 3)["statuses"], json!(["placed", "placed", "shipped"]));

    let ends = [End::Kill, End::Stop, End::Kill, End::KillAndRefuse, End::Kill];
    for (round, end) in ends.into_iter().enumerate() {
        let (next, more) = end_while_ordering(&shop, server, directory.path(), end, round);
        server = next;
        placed.extend(more);
        shown(&browser, placed.len() + 1);
        println!("{end:?}: the page shows {} orders", placed.len());
    }
    let shown = shown(&browser, placed.len() + 1);
    assert_eq!(shown["marker"], "not loaded again");
    assert_eq!(shown["total"], placed.len().to_string());
    assert_eq!(shown["products"], json!(["Tea"]));
    let newest = &placed[placed.len().saturating_sub(200)..];
    assert_eq!(shown["orders"], json!(newest), "each order once, in order");
    server.stop();

    let store = Store::open(directory.path()).unwrap();
    let changes = store.read_log().category("order").into_iter();
    let positions: Vec<u64> = changes.map(|event| event.unwrap().position().get()).collect();
    assert_eq!(shown["positions"], json!(positions), "each change once, in order");
    assert_eq!(shown["position"], positions.last().unwrap().to_string());
    browser.run_until(SHOWN, |shown| shown["state"] == "connection lost, retrying");
}

/// Ends the service while orders are placed one after another, and starts it again. Returns the ids
/// of the orders.
fn end_while_ordering(
    shop: &Shop,
    server: Server,
    directory: &Path,
    end: End,
    round: usize,
) -> (Server, Vec<String>) {
    let (is_over, count) = (&AtomicBool::new(false), &AtomicUsize::new(0));
    let address = &server.address.clone();
    thread::scope(|scope| {
        let orders = scope.spawn(move || {
            let (client, mut placed) = (Client::new(address), Vec::new());
            while !is_over.load(Ordering::Relaxed) {
                placed.push(shop.place(&client, &format!("{round}/{}", placed.len())));
                count.store(placed.len(), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(5));
            }
            placed
        });
        let wait_for = |placed: usize| {
            while count.load(Ordering::Relaxed) < placed {
                assert!(!orders.is_finished(), "the orders failed");
                thread::sleep(Duration::from_millis(1));
            }
        };
        wait_for(10);
        match end {
            End::Stop => server.stop(),
            End::Kill | End::KillAndRefuse => server.kill(),
        }
        if matches!(end, End::KillAndRefuse) {
            refuse_feed(address);
        }
        let server = Server::start(directory, address);
        wait_for(20);
        is_over.store(true, Ordering::Relaxed);
        (server, orders.join().unwrap())
    })
}

/// Answers 503 until the page has asked for the feed. A browser does not connect again after that.
fn refuse_feed(address: &str) {
    let listener = TcpListener::bind(address).unwrap();
    for stream in listener.incoming() {
        let (mut stream, mut head) = (stream.unwrap(), [0; 512]);
        let read = stream.read(&mut head).unwrap_or_default();
        let answer = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\
            connection: close\r\n\r\n";
        _ = stream.write_all(answer);
        if head[..read].starts_with(b"GET /events") {
            return;
        }
    }
}

#[test]
fn page_begins_again_after_a_restore() {
    let Some(browser) = browser("page_begins_again_after_a_restore") else { return };
    let directory = tempfile::tempdir().unwrap();
    let [place, backup, lost] = ["shop", "backup", "lost"].map(|name| directory.path().join(name));
    let server = Server::start(&place, "127.0.0.1:0");
    let (client, address) = (server.client(), server.address.clone());
    let shop = Shop::set_up(&client);
    let kept = shop.place(&client, "kept");
    server.stop();
    Store::open(&place).unwrap().backup(&backup).unwrap();
    let server = Server::start(&place, &address);
    for number in 0..3 {
        shop.place(&client, &format!("lost {number}"));
    }
    browser.open(&format!("http://{address}/"));
    browser.run("window.marker = 'not loaded again';");
    shown(&browser, 4);
    server.stop();

    std::fs::rename(&place, lost).unwrap();
    Store::options().read_only(true).open(&backup).unwrap().restore_to(&place).unwrap();
    let server = Server::start(&place, &address);
    let mut orders = vec![kept];
    // More than before, so that the log is past the position that the page has.
    orders.extend((0..5).map(|number| shop.place(&client, &format!("new {number}"))));
    let shown = shown(&browser, 6);
    assert_eq!(shown["orders"], json!(orders));
    assert_eq!(shown["marker"], "not loaded again");
    server.stop();
}

#[test]
fn browser_resumes_a_websocket() {
    let Some(browser) = browser("browser_resumes_a_websocket") else { return };
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), "127.0.0.1:0");
    let (client, address) = (server.client(), server.address.clone());
    let shop = Shop::set_up(&client);
    browser.open(&format!("http://{address}/"));
    let connect = r#"
        const after = window.received?.at(-1)?.id ?? "";
        const socket = new WebSocket(`ws://${location.host}/events/ws?after=${after}`);
        window.received ??= [];
        socket.onmessage = (message) => received.push(JSON.parse(message.data));
        socket.onclose = (close) => { window.code = close.code; };
    "#;
    let orders = "return received.filter((m) => m.event === 'change').map((m) => m.data.order);";
    browser.run(connect);
    let mut placed = vec![shop.place(&client, "1"), shop.place(&client, "2")];
    browser.run_until(orders, |orders| *orders == json!(placed));
    server.stop();
    browser.run_until("return window.code ?? null;", |code| *code == 1012);

    let server = Server::start(directory.path(), &address);
    placed.push(shop.place(&client, "3"));
    browser.run(connect);
    placed.push(shop.place(&client, "4"));
    browser.run_until(orders, |orders| *orders == json!(placed));
    server.stop();
}
