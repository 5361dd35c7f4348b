//! A live feed: one thread writes orders and payments. The main thread follows the category `order`
//! through one channel and a timer through another, and ends after the last order.
//!
//! Run it with `cargo run --release --example live_feed`.

use std::error::Error;
use std::thread;
use std::time::Duration;

use annals::prelude::*;
use crossbeam_channel::{select, tick};
use serde_json::{Value, json};

const ORDERS: u64 = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let store = Store::open(directory.path().join("shop.annals"))?;
    // Two orders exist before the feed begins.
    place_orders(&store, 1..=2)?;

    let feed = store.subscribe().category("order").start()?.into_receiver(16)?;
    let ticks = tick(Duration::from_millis(60));
    let writer = {
        let store = store.clone();
        thread::spawn(move || {
            // These orders are placed while the feed runs.
            (3..=ORDERS).try_for_each(|order| {
                thread::sleep(Duration::from_millis(80));
                place_orders(&store, order..=order)
            })
        })
    };

    let mut seen = Vec::new();
    while seen.len() < usize::try_from(ORDERS)? {
        select! {
            recv(feed.receiver()) -> delivery => match delivery?? {
                Delivery::Event(event) => {
                    let (position, stream) = (event.position(), event.stream());
                    println!("{position:>3}  {stream}  {}  {}", event.event_type(), event.json::<Value>()?);
                    seen.push(stream.to_string());
                }
                Delivery::CaughtUp(_) => println!("     -- history is read; from here on it is live --"),
                Delivery::Progress(position) => println!("     -- up to {position}: nothing else for this feed --"),
                Delivery::Ended => break,
                Delivery::Idle => {}
            },
            recv(ticks) -> _ => println!("     -- tick --"),
        }
    }
    writer.join().map_err(|_| "the writer panicked")??;

    let expected: Vec<String> = (1..=ORDERS).map(|order| format!("order-{order}")).collect();
    assert_eq!(seen, expected, "every order once, in order, and no payment");
    println!("every order came once and in order");
    Ok(())
}

/// Appends each order and then its payment, which the feed must skip.
fn place_orders(store: &Store, orders: std::ops::RangeInclusive<u64>) -> annals::Result<()> {
    for order in orders {
        let placed = NewEvent::json("OrderPlaced", &json!({ "total": order * 10 }))?;
        let paid = NewEvent::json("Paid", &json!({ "amount": order * 10 }))?.caused_by(placed.id());
        store.append(format!("order-{order}"), ExpectedVersion::NoStream, [placed])?;
        store.append(format!("payment-{order}"), ExpectedVersion::NoStream, [paid])?;
    }
    Ok(())
}
