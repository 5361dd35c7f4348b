//! A shop keeps a year of orders, but only thirty days of the visits to its site. A password was
//! written into an order by mistake, and a customer asks to be forgotten. The example deletes all of
//! it, gives the space back, and shows that this and nothing else is gone.
//!
//! Run it with `cargo run --release --example retention [DIRECTORY]`.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, SystemTime};

use annals::prelude::*;
use annals::{
    DELETIONS_STREAM, Deletion, Durability, Retention, RetentionScope, ScavengeOptions, Scavenged,
    Store, Timestamp,
};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const DAYS: u64 = 365;
const VISITS_A_DAY: u64 = 40;

/// Keeps the visits of thirty days, and everything else.
fn keep_thirty_days_of_visits(store: &Store) -> annals::Result<()> {
    let visits = RetentionScope::Category("visitor".to_owned());
    store.set_retention(&visits, Some(Retention::for_time(30 * DAY)))
}

/// Deletes what the retentions say; the events are in the archive before they are deleted.
fn scavenge(store: &Store, archive: &Path) -> annals::Result<Scavenged> {
    let options = ScavengeOptions::new().archive(archive);
    store.scavenge(&options, |done| {
        eprintln!("{} events deleted, {} packs rewritten", done.events, done.packs);
    })
}

/// Erases the content of one event that should never have been written.
fn redact(store: &Store, event: &RecordedEvent) -> annals::Result<()> {
    let deletion = Deletion::redact(event.position(), event.id())
        .clearing_snapshots()
        .because("a password in the delivery note")
        .by("support");
    let deleted = store.delete(&deletion)?;
    for view in deleted.views_with_it {
        eprintln!("rebuild the projection of {view}");
    }
    Ok(())
}

/// Deletes all events of a customer. The stream can be created again.
fn forget(store: &Store, customer: &StreamId) -> annals::Result<()> {
    store.delete(&Deletion::delete(customer).because("asked to be forgotten").by("support"))?;
    Ok(())
}

/// A year of orders and visits.
fn fill(store: &Store) -> Outcome {
    let noon = Timestamp::from(SystemTime::now()) + DAY / 2;
    for day in 0..DAYS {
        let at = noon - u32::try_from(DAYS - day)? * DAY;
        let event = |name: &str, number: u64| -> Outcome<NewEvent> {
            let event = NewEvent::json(name, &format!("{name} {number} of day {day}"))?;
            Ok(event.with_recorded_at(at).with_tag(format!("day:{day}")))
        };
        let order = format!("order-{day}");
        store.append(order.as_str(), ExpectedVersion::NoStream, [event("Placed", 1)?])?;
        let customer = format!("customer-{}", day % 10);
        store.append(customer.as_str(), ExpectedVersion::Any, [event("Ordered", day)?])?;
        for visit in 0..VISITS_A_DAY {
            let visitor = format!("visitor-{}", visit % 7);
            store.append(visitor.as_str(), ExpectedVersion::Any, [event("Came", visit)?])?;
        }
    }
    Ok(())
}

/// All events but those of deletions, as text.
fn events(store: &Store) -> annals::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for event in store.read_log() {
        let event = event?;
        if event.stream().as_str() != DELETIONS_STREAM {
            let payload = String::from_utf8_lossy(event.payload()).into_owned();
            found.insert(format!("{} {} {payload}", event.position(), event.stream()));
        }
    }
    Ok(found)
}

fn run(path: &Path, archive: &Path) -> Outcome {
    let store = Store::options().durability(Durability::Buffered).open(path)?;
    fill(&store)?;
    let before = events(&store)?;
    let order = store.read_stream("order-100").first()?.ok_or("no order")?;
    let customer = StreamId::new("customer-3")?;

    redact(&store, &order)?;
    forget(&store, &customer)?;
    keep_thirty_days_of_visits(&store)?;
    let expected = store.preview_scavenge()?;
    let done = scavenge(&store, archive)?;
    assert_eq!((expected.events, expected.bytes), (done.events, done.bytes));

    // Exactly that is gone, and the archive holds what the retention has deleted.
    let after = events(&store)?;
    let gone: BTreeSet<_> = before.difference(&after).collect();
    let is_due = |text: &str| {
        let old = (0..DAYS - 30).any(|day| text.contains(&format!("of day {day}\"")));
        (text.contains(" visitor-") && old) || text.contains(" customer-3 ")
    };
    let redacted = gone.iter().filter(|text| text.contains("order-100")).count();
    assert_eq!(redacted, 1);
    assert!(gone.iter().all(|text| is_due(text) || text.contains("order-100")));
    assert!(after.iter().all(|text| !is_due(text)));
    let archived = std::fs::read_to_string(archive)?.lines().count();
    assert_eq!(u64::try_from(archived)?, done.events);
    assert!(store.verify(|_| {})?.is_sound());

    // The store goes on. Versions are never used again.
    let came = [NewEvent::json("Came", &"again")?];
    let appended = store.append("visitor-0", ExpectedVersion::StreamExists, came)?;
    let holes = store.read_stream("visitor-0").holes()?;
    let deleted = holes.first().map_or(0, |hole| hole.last);
    assert!(appended.last_version().get() > deleted);
    println!("{} events of {} are left", after.len(), before.len());
    for recorded in store.deletions()? {
        println!("deletion {}: {}", recorded.number, recorded.deletion.reason());
    }
    store.close()?;
    Ok(())
}

fn main() -> Outcome {
    let temporary = tempfile::tempdir()?;
    let root = std::env::args_os().nth(1).map_or(temporary.path().to_owned(), Into::into);
    std::fs::create_dir_all(&root)?;
    run(&root.join("shop.annals"), &root.join("visits.jsonl"))
}
