//! Derived data of applications: a read model, and an aggregate.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::ops::ControlFlow;
use std::time::Duration;

use annals::__internals::baseline;
use annals::{
    Aggregate, DomainEvent, Durability, EncodedEvent, EventKind, EventStore, EventStoreExt,
    HandlerError, NewEvent, Position, Projection, ProjectionManager, Repository, SnapshotPolicy,
    Store, StreamId, TypedEvent, Undecodable, Upcasters, ViewWriter,
};
use serde::{Deserialize, Serialize};

use super::read::is_all;
use super::{Base, Bench, Group, Shown};
use crate::Result;
use crate::measure::{Recorder, in_turn, timed};
use crate::report::count;
use crate::source::EVENT_TYPE;

/// Longer than any measurement.
const WAIT_MAX: Duration = Duration::from_secs(24 * 3_600);
/// A projection writes its changes in batches of this many events.
const BATCH: usize = 1_000;
const AGGREGATE_EVENTS: usize = 1_000;
/// Number of loads before the baseline's turn.
const LOADS: usize = 20;

/// Any event, with the fields that the read model needs.
struct Any {
    payload_len: u64,
}

impl DomainEvent for Any {
    const KINDS: &'static [EventKind] = &[EventKind { event_type: EVENT_TYPE, schema_version: 1 }];

    fn encode(&self) -> annals::Result<NewEvent> {
        NewEvent::json(EVENT_TYPE, &self.payload_len)
    }

    fn decode(stored: &EncodedEvent<'_>) -> Result<Self, Undecodable> {
        Ok(Self { payload_len: u64::try_from(stored.payload.len()).unwrap_or(u64::MAX) })
    }
}

/// An entry for each event: the length of its payload.
struct Lengths;

impl Projection for Lengths {
    type Event = Any;

    fn name(&self) -> &'static str {
        "lengths"
    }

    fn handle(&self, event: &TypedEvent<Any>, view: &mut ViewWriter) -> Result<(), HandlerError> {
        Ok(view.put(event.position(), &event.event.payload_len)?)
    }
}

/// Every event of the log is read as [`Any`], regardless of its type.
fn as_any(store: &Store) -> Result<Upcasters> {
    let mut newest: BTreeMap<String, u32> = BTreeMap::new();
    store.read_log().for_each(|event| {
        let version = event.schema_version();
        match newest.get_mut(event.event_type()) {
            Some(newest) => *newest = version.max(*newest),
            None => drop(newest.insert(event.event_type().to_owned(), version)),
        }
        ControlFlow::Continue(())
    })?;
    let mut upcasters = Upcasters::builder().reads::<Any>();
    for (event_type, newest) in newest {
        for version in 1..=newest {
            if (event_type.as_str(), version) != (EVENT_TYPE, 1) {
                upcasters = upcasters.renamed(&event_type, version, (EVENT_TYPE, 1));
            }
        }
    }
    Ok(upcasters.build()?)
}

impl Bench<'_> {
    pub(super) fn project(&mut self, base: &Base) -> Result<()> {
        let (store, below) = (&base.store, baseline(&base.store));
        let Some(head) = store.head()? else { return Ok(()) };
        let manager = ProjectionManager::new(store);
        // The events of the benchmark need no upcaster, and so have no such cost.
        let manager =
            if self.args.input.is_some() { manager.upcasters(as_any(store)?) } else { manager };
        let manager = manager.register(Lengths)?;
        let lengths = manager.projection("lengths")?;
        lengths.start()?;
        lengths.wait_for(head, WAIT_MAX)?;
        let rebuild = || {
            let (took, ()) = timed(|| {
                lengths.rebuild()?;
                Ok(lengths.wait_for_rebuild(WAIT_MAX, |_| {})?)
            })?;
            Ok(took)
        };
        // The rows of the read model belong to the serving build.
        let scan_and_write = || {
            let mut took = timed(|| Ok(below.scan_log()?))?.0;
            let mut after = Vec::new();
            while let Some(batch) = below.view_entries(&after, BATCH)? {
                took += timed(|| Ok(base.database.write(&batch, Durability::Buffered)?))?.0;
                after = batch.last_key().to_vec();
            }
            Ok(took)
        };
        let sides = in_turn(head.get(), self.args.seconds, rebuild, scan_and_write)?;
        manager.stop();
        let name = "rebuild a read model, an entry an event".to_owned();
        let baseline_is = "RocksDB scanning the log and writing the same entries";
        self.add(Group::Project, name, Shown::Rate("event"), sides, baseline_is);
        Ok(())
    }

    pub(super) fn aggregate(&mut self) -> Result<()> {
        let Base { store, .. } = self.pair("aggregate", Durability::Buffered)?;
        let plain = Repository::<Counter>::new(&store);
        let snapshots = plain.clone().snapshots(&store, SnapshotPolicy::every(100));
        for _ in 0..AGGREGATE_EVENTS / 10 {
            snapshots.execute("one", &10)?;
        }
        let stream = plain.stream_id("one")?;
        let events = store.head()?.map_or(0, Position::get);
        for (how, repository) in [("", plain), (", from a snapshot", snapshots)] {
            let name = format!("load an aggregate of {}{how}", count(events, "event"));
            self.load_aggregate(&store, &stream, name, &repository, events)?;
        }
        Ok(())
    }

    fn load_aggregate(
        &mut self,
        store: &Store,
        stream: &StreamId,
        name: String,
        repository: &Repository<Counter>,
        events: u64,
    ) -> Result<()> {
        let (mut of_store, mut of_baseline) = (Recorder::new(), Recorder::new());
        let below = baseline(store);
        while of_store.elapsed < self.args.seconds {
            for _ in 0..LOADS {
                of_baseline.run(|| {
                    black_box(below.scan_stream(stream)?);
                    Ok(1)
                })?;
            }
            for _ in 0..LOADS {
                of_store.run(|| {
                    let counter = repository.load("one")?;
                    is_all(counter.state().counted, events)?;
                    Ok(1)
                })?;
            }
        }
        let sides = [of_store.measured(), of_baseline.measured()];
        let baseline_is = "RocksDB scanning all rows of the stream";
        self.add(Group::Aggregate, name, Shown::Rate("load"), sides, baseline_is);
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Counted {
    by: u64,
    why: String,
}

annals::domain_events! { Counted => "Counted" }

#[derive(Clone, Default, Serialize, Deserialize)]
struct Counter {
    counted: u64,
    why: String,
}

impl Aggregate for Counter {
    const CATEGORY: &'static str = "counter";
    type Event = Counted;
    /// How many events the log will have.
    type Command = u64;
    type Error = std::convert::Infallible;

    fn apply(&mut self, event: Counted) {
        self.counted += event.by;
        self.why = event.why;
    }

    fn handle(&self, events: &u64) -> Result<Vec<Counted>, Self::Error> {
        let counted = |_| Counted { by: 1, why: "one of many events of one counter".to_owned() };
        Ok((0..*events).map(counted).collect())
    }
}
