//! What tags, conditions and reads by tag cost.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use annals::{
    Append, AsyncStore, Durability, EventStore, EventStoreExt, NewEvent, Position, Query,
    QueryItem, Store,
};

use super::load::{Turn, Writes, per_second};
use super::{Args, Table};
use crate::Result;
use crate::place::Place;

/// The type of all events.
pub const TYPE: &str = "Happened";
pub const PAYLOAD: [u8; 100] = [b'x'; 100];
/// The tag of every event of a store that is filled.
const HOT: &str = "all";
/// How many events have the same cold tag.
const COLD_EVENTS: u64 = 200;

/// The condition of an append to a store with this head at the start.
type Condition = fn(Turn, Option<Position>) -> Option<(Query, Option<Position>)>;
type Make = Box<dyn Fn(Turn) -> Append + Send + Sync>;

/// Appends to annals.
pub struct Annals {
    store: Store,
    tasks: AsyncStore<Store>,
    make: Make,
}

impl Annals {
    pub fn new(store: &Store, make: impl Fn(Turn) -> Append + Send + Sync + 'static) -> Arc<Self> {
        let tasks = AsyncStore::new(store.clone());
        Arc::new(Self { store: store.clone(), tasks, make: Box::new(make) })
    }
}

impl Writes for Annals {
    fn write(&self, turn: Turn) -> Result<u64> {
        Ok(self.store.submit((self.make)(turn))?.last_position().get())
    }

    async fn write_as_task(&self, turn: Turn) -> Result<u64> {
        Ok(self.tasks.submit((self.make)(turn)).await?.last_position().get())
    }
}

pub fn event(tags: impl IntoIterator<Item = String>) -> NewEvent {
    let event = NewEvent::bytes(TYPE, PAYLOAD.to_vec());
    #[expect(clippy::unwrap_used, reason = "the type is valid")]
    let event = event.unwrap();
    tags.into_iter().fold(event, NewEvent::with_tag)
}

fn open(path: &Path, durability: Durability) -> Result<Store> {
    Ok(Store::options().durability(durability).open(path)?)
}

/// Appends with more and more tags.
pub fn tags(args: &Args, place: &Place) -> Result<Vec<Table>> {
    let cases = [
        ("buffered, 1 thread", Durability::Buffered, 1),
        ("synced, 1 thread", Durability::Sync, 1),
        ("synced, 32 threads", Durability::Sync, 32),
    ];
    let mut tables = Vec::new();
    for (name, durability, threads) in cases {
        let mut table = Table::new(format!("Appends with tags, {name}"), "events/s");
        for round in 0..args.rounds {
            eprintln!("{}, round {}", table.title, round + 1);
            for tags in [0_u64, 1, 3, 10] {
                let figure = place.within("tags", |path| {
                    let store = open(path, durability)?;
                    let target = Annals::new(&store, move |turn| {
                        let number = turn.writer << 32 | turn.round;
                        Append::of([event(
                            (0..tags).map(|tag| format!("tag{tag}:{:x}", number >> (2 * tag))),
                        )])
                    });
                    let figure = per_second(&target, threads, args.seconds)?;
                    drop(target);
                    store.close()?;
                    Ok(figure)
                })?;
                table.note(&format!("{tags} tags"), figure, "0 tags");
            }
        }
        tables.push(table);
    }
    Ok(tables)
}

fn cold(number: u64) -> String {
    format!("item:{number}")
}

/// Fills a store with one event at a time; each has the hot tag and a cold one.
fn fill(path: &Path, events: u64, is_tagged: bool) -> Result<()> {
    let store = open(path, Durability::Buffered)?;
    let items = (events / COLD_EVENTS).max(1);
    for number in 0..events {
        let tags = [HOT.to_owned(), cold(number % items)];
        let tags = tags.into_iter().take(if is_tagged { 2 } else { 0 });
        store.submit(Append::of([event(tags)]))?;
    }
    store.close()?;
    Ok(())
}

fn table_bytes(path: &Path) -> Result<u64> {
    let store = open(path, Durability::Buffered)?;
    let bytes = store.info()?.table_bytes;
    store.close()?;
    Ok(bytes)
}

/// Conditions and reads in a store with this many events.
pub fn in_store_of(events: u64, args: &Args, place: &Place) -> Result<Vec<Table>> {
    let name = crate::report::whole(events);
    let without = place.within("untagged", |path| {
        fill(path, events, false)?;
        table_bytes(path)
    })?;
    place.within("filled", |path| {
        eprintln!("filling a store with {name} events");
        fill(path, events, true)?;
        let bytes = table_bytes(path)?;
        let mut size = Table::new(format!("Size of a store of {name} events"), "bytes per event");
        size.note("without tags", without as f64 / events as f64, "without tags");
        size.note("with two tags", bytes as f64 / events as f64, "without tags");
        let mut tables = vec![size];
        for (how, durability, threads) in [
            ("buffered, 1 thread", Durability::Buffered, 1),
            ("synced, 32 threads", Durability::Sync, 32),
        ] {
            tables.push(conditions(path, &name, (how, durability, threads), args)?);
        }
        tables.push(reads(path, (events, &name), args)?);
        Ok(tables)
    })
}

/// Appends with conditions that hold, next to the same appends without.
fn conditions(
    path: &Path,
    name: &str,
    (how, durability, threads): (&str, Durability, u64),
    args: &Args,
) -> Result<Table> {
    let title = format!("Conditional appends to {name} events, {how}");
    let mut table = Table::new(title, "events/s");
    let store = open(path, durability)?;
    let head = store.head()?;
    for round in 0..args.rounds {
        eprintln!("{}, round {}", table.title, round + 1);
        let mut run = |name: &str, condition: Condition| {
            let target = Annals::new(&store, move |turn| {
                let append =
                    Append::of([event([HOT.to_owned(), format!("own:{round}:{}", turn.writer)])]);
                match condition(turn, head) {
                    None => append,
                    Some((query, after)) => append.fail_if(query).after(after),
                }
            });
            let figure = per_second(&target, threads, args.seconds)?;
            table.note(name, figure, "without a condition");
            Ok::<_, crate::Failure>(())
        };
        run("without a condition", |_, _| None)?;
        run("own tag, after its last event", |turn, _| {
            let query = Query::tag(format!("own:{}", turn.writer));
            Some((query, Position::new(turn.last)))
        })?;
        run("hot tag and rare type, after its last event", |turn, head| {
            let item = QueryItem::new().tag(HOT).types(["Rare"]);
            Some((item.into(), Position::new(turn.last).or(head)))
        })?;
        run("cold tag that is not there, after nothing", |turn, _| {
            Some((Query::tag(format!("none:{}", turn.round)), None))
        })?;
        run("hot tag and a rare tag, after nothing", |turn, _| {
            let item = QueryItem::new().tag(HOT).tag(cold(turn.round % 100)).types(["Rare"]);
            Some((item.into(), None))
        })?;
    }
    store.close()?;
    Ok(table)
}

/// Reads of all 200 events with a tag, each with its payload.
fn reads(path: &Path, (events, name): (u64, &str), args: &Args) -> Result<Table> {
    let mut table = Table::new(format!("Reads of 200 events out of {name}"), "µs");
    let items = (events / COLD_EVENTS).max(1);
    let store = Store::options().read_only(true).open(path)?;
    for round in 0..args.rounds {
        eprintln!("{}, round {}", table.title, round + 1);
        let mut run = |name: &str, query: &dyn Fn(u64) -> Query| {
            let (began, mut reads, mut found) = (Instant::now(), 0_u64, 0_u64);
            while began.elapsed().as_secs_f64() < args.seconds {
                let item = (reads + round * 1_000).wrapping_mul(7_919) % items;
                store.read_log().query(query(item)).limit(COLD_EVENTS).for_each(|_| {
                    found += 1;
                    std::ops::ControlFlow::Continue(())
                })?;
                reads += 1;
            }
            let micros = began.elapsed().as_secs_f64() * 1e6 / reads as f64;
            if found != reads * COLD_EVENTS {
                return Err(format!("{name}: found {found} events in {reads} reads").into());
            }
            table.note(name, micros, "by a cold tag");
            Ok::<_, crate::Failure>(())
        };
        run("by a cold tag", &|item| Query::tag(cold(item)))?;
        run("by a cold and the hot tag", &|item| QueryItem::new().tag(HOT).tag(cold(item)).into())?;
        run("by the hot tag", &|_| Query::tag(HOT))?;
        if events <= 1_000_000 {
            // A scan, for comparison: no index answers a prefix.
            run("by the hot tag and a prefix of streams", &|_| {
                QueryItem::new().tag(HOT).stream_prefix("e").into()
            })?;
        }
    }
    store.close()?;
    Ok(table)
}

/// Enrolments in courses: each reads what it depends on, decides, and appends, synced.
pub fn enrolments(args: &Args, place: &Place) -> Result<Table> {
    let mut table = Table::new("Course enrolments, synced", "enrolments/s");
    for round in 0..args.rounds {
        eprintln!("{}, round {}", table.title, round + 1);
        for threads in [1, 8, 64] {
            let figure = place.within("courses", |path| {
                let store = open(path, Durability::Sync)?;
                let target = Arc::new(Enrolling { store: store.clone() });
                let figure = per_second(&target, threads, args.seconds)?;
                drop(target);
                store.close()?;
                Ok(figure)
            })?;
            table.note(&format!("{threads} threads"), figure, "1 threads");
        }
    }
    Ok(table)
}

/// Each writer has courses of its own, with ten students each.
struct Enrolling {
    store: Store,
}

impl Writes for Enrolling {
    fn write(&self, turn: Turn) -> Result<u64> {
        let course = format!("course:{}-{}", turn.writer, turn.round / 10);
        let student = format!("student:{}-{}", turn.writer, turn.round % 100);
        let query = Query::any_of([
            QueryItem::new().tag(&course).types(["Enrolled", "CourseDefined"]),
            QueryItem::new().tag(&student).types(["Enrolled"]),
        ]);
        let mut events = self.store.read_log().query(query.clone()).into_iter();
        let mut enrolled = 0;
        for event in &mut events {
            enrolled += u64::from(event?.tags().contains(&course));
        }
        if enrolled > 10 {
            return Err("a course has more students than it may have".into());
        }
        let event = NewEvent::bytes("Enrolled", PAYLOAD.to_vec())?;
        let append = Append::of([event.with_tag(course).with_tag(student)]).fail_if(query);
        let append = append.after(events.read_up_to());
        Ok(self.store.submit(append)?.last_position().get())
    }

    async fn write_as_task(&self, turn: Turn) -> Result<u64> {
        self.write(turn)
    }
}
