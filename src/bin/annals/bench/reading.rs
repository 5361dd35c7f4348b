//! How fast events come out: the whole log, stream after stream, and all that verify reads.

use std::hint::black_box;
use std::ops::ControlFlow;
use std::time::Duration;

use annals::baseline::Baseline;
use annals::{EventStore, EventStoreExt, Position, Store, StreamId};

use super::super::shell::{Failure, count};
use super::measure::{Figure, Measured, Recorder, Shown, float, in_turn, scattered, timed};
use super::{Base, Bench, Group};

/// Of more streams, so many are loaded in one run.
const LOADS_MAX: usize = 20_000;
/// So many are loaded after opening: few enough that each finds a part of the store that nobody has read.
const FIRST_LOADS_MAX: usize = 2_000;

impl Bench<'_> {
    pub(super) fn replay(&mut self, base: &Base) -> Result<(), Failure> {
        let (store, below) = (&base.store, base.store.baseline());
        let events = store.head()?.map_or(0, Position::get);
        let scan = || Ok(timed(|| Ok(below.scan_log()?))?.0);
        for (how, replay) in [
            ("references", replay_references as fn(&Store) -> Result<u64, Failure>),
            ("values", replay_values),
        ] {
            let name = format!("replay the log as {how}");
            self.begin(&name);
            let replay = || {
                let (took, seen) = timed(|| replay(store))?;
                is_all(seen, events)?;
                Ok(took)
            };
            let (of_store, of_baseline) = in_turn(events, self.args.seconds, replay, scan)?;
            self.add(Figure {
                group: Group::Replay,
                name,
                unit: "event",
                shown: Shown::Rate,
                store: of_store,
                baseline: of_baseline,
                baseline_is: "RocksDB scanning the same rows",
            });
        }
        Ok(())
    }

    pub(super) fn streams(&mut self, base: Base) -> Result<Base, Failure> {
        self.begin("listing the streams");
        let streams = base.store.streams().into_iter().map(|info| Ok(info?.id));
        let streams: Vec<StreamId> = streams.collect::<annals::Result<_>>()?;
        let events = base.store.head()?.map_or(0, Position::get);
        let each = float(events) / float(u64::try_from(streams.len()).unwrap_or(u64::MAX));
        let chosen: Vec<&StreamId> =
            scattered(streams.len()).filter_map(|index| streams.get(index)).collect();
        let what = format!("load streams of {each:.0} events");
        let warm = format!("{what}, warm");
        self.begin(&warm);
        let chosen_warm = chosen.get(..LOADS_MAX).unwrap_or(&chosen);
        let (of_store, of_baseline) = self.warm_loads(&base.store, chosen_warm)?;
        self.add(Self::loads(warm, of_store, of_baseline));

        let first = format!("{what}, first after opening");
        self.begin(&first);
        let chosen_first = chosen.get(..FIRST_LOADS_MAX).unwrap_or(&chosen);
        let Base { store, database } = base;
        let store = self.reopened(store)?;
        let of_baseline = scan_each(&store.baseline(), chosen_first)?;
        let store = self.reopened(store)?;
        let of_store = load_each(&store, chosen_first)?;
        self.add(Self::loads(first, of_store.measured(), of_baseline.measured()));
        Ok(Base { store, database })
    }

    fn warm_loads(
        &self,
        store: &Store,
        chosen: &[&StreamId],
    ) -> Result<(Measured, Measured), Failure> {
        let below = store.baseline();
        // What is measured is warm from the first run on.
        scan_each(&below, chosen)?;
        let (mut of_store, mut of_baseline) = (Recorder::new(), Recorder::new());
        let loads = u64::try_from(chosen.len()).unwrap_or(u64::MAX);
        in_turn(
            loads,
            self.args.seconds,
            || {
                let run = load_each(store, chosen)?;
                of_store.append(&run);
                Ok(run.elapsed)
            },
            || {
                let run = scan_each(&below, chosen)?;
                of_baseline.append(&run);
                Ok(run.elapsed)
            },
        )?;
        Ok((of_store.measured(), of_baseline.measured()))
    }

    fn loads(name: String, store: Measured, baseline: Measured) -> Figure {
        let baseline_is = "RocksDB scanning the same rows of the stream";
        Figure {
            group: Group::Streams,
            name,
            unit: "load",
            shown: Shown::Rate,
            store,
            baseline,
            baseline_is,
        }
    }

    /// Closed and opened again: nothing is in its caches.
    pub(super) fn reopened(&self, store: Store) -> Result<Store, Failure> {
        let path = store.info()?.path;
        store.close()?;
        Ok(self.options.clone().durability(annals::Durability::Buffered).open(path)?)
    }

    pub(super) fn verify(&mut self, base: &Base) -> Result<(), Failure> {
        self.begin("verify");
        let (store, below) = (&base.store, base.store.baseline());
        let events = store.head()?.map_or(0, Position::get);
        let verify = || {
            let (took, report) = timed(|| Ok(store.verify(|_| {})?))?;
            if !report.is_sound() {
                return Err(Failure::Damaged(report.damage_count));
            }
            is_all(report.events, events)?;
            Ok(took)
        };
        let scan = || Ok(timed(|| Ok((below.scan_log()?, below.scan_streams()?)))?.0);
        let (of_store, of_baseline) = in_turn(events, self.args.seconds, verify, scan)?;
        self.add(Figure {
            group: Group::Verify,
            name: "verify the log and all streams".to_owned(),
            unit: "event",
            shown: Shown::Rate,
            store: of_store,
            baseline: of_baseline,
            baseline_is: "RocksDB scanning the same rows",
        });
        Ok(())
    }
}

/// A figure for less than was asked would be a lie.
pub(super) fn is_all(seen: u64, events: u64) -> Result<(), Failure> {
    if seen == events {
        return Ok(());
    }
    let (seen, events) = (count(seen, "event"), count(events, "event"));
    Err(Failure::Measuring(format!("{seen} came where the log has {events}")))
}

fn replay_references(store: &Store) -> Result<u64, Failure> {
    let mut seen = 0;
    store.read_log().for_each(|event| {
        black_box(event.payload());
        seen += 1;
        ControlFlow::Continue(())
    })?;
    Ok(seen)
}

fn replay_values(store: &Store) -> Result<u64, Failure> {
    let mut seen = 0;
    for event in store.read_log() {
        black_box(event?);
        seen += 1;
    }
    Ok(seen)
}

fn load_each(store: &Store, chosen: &[&StreamId]) -> Result<Recorder, Failure> {
    let mut recorder = Recorder::new();
    for stream in chosen {
        recorder.run(|| {
            let mut bytes = 0;
            store.read_stream(*stream).for_each(|event| {
                bytes += event.payload().len();
                ControlFlow::Continue(())
            })?;
            black_box(bytes);
            Ok(1)
        })?;
    }
    Ok(recorder)
}

fn scan_each(below: &Baseline, chosen: &[&StreamId]) -> Result<Recorder, Failure> {
    let mut recorder = Recorder::new();
    for stream in chosen {
        recorder.run(|| {
            black_box(below.scan_stream(stream)?);
            Ok(1)
        })?;
    }
    Ok(recorder)
}

/// How long a subscription takes for all that is there.
pub(super) fn caught_up(store: &Store) -> Result<Duration, Failure> {
    let mut following = store.subscribe().start()?;
    let events = store.head()?.map_or(0, Position::get);
    let (took, seen) = timed(|| {
        let mut seen = 0;
        loop {
            match following.recv()? {
                annals::Delivery::Event(event) => {
                    black_box(event);
                    seen += 1;
                }
                annals::Delivery::CaughtUp(_) => return Ok(seen),
                _ => {}
            }
        }
    })?;
    is_all(seen, events)?;
    Ok(took)
}
