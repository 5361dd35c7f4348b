//! How fast events are read: the whole log, stream after stream, and everything that verify reads.

use std::hint::black_box;
use std::ops::ControlFlow;

use annals::__internals::baseline;
use annals::{Durability, EventStore, EventStoreExt, Position, Store, StreamId};

use super::{Base, Bench, Group, Shown};
use crate::Result;
use crate::measure::{Measured, Recorder, in_turn, timed};

/// If there are more streams, one run loads this many.
const LOADS_MAX: usize = 20_000;
/// Number of streams loaded after opening: few enough that each load reads a part of the store that
/// is not cached yet.
const FIRST_LOADS_MAX: usize = 2_000;
pub(super) const SCANNING: &str = "RocksDB scanning the same rows";

impl Bench<'_> {
    pub(super) fn replay(&mut self, base: &Base) -> Result<()> {
        let (store, below) = (&base.store, baseline(&base.store));
        let events = store.head()?.map_or(0, Position::get);
        let scan = || Ok(timed(|| Ok(below.scan_log()?))?.0);
        for (how, replay) in [
            ("references", replay_references as fn(&Store) -> Result<u64>),
            ("values", replay_values),
        ] {
            let replay = || {
                let (took, seen) = timed(|| replay(store))?;
                is_all(seen, events)?;
                Ok(took)
            };
            let sides = in_turn(events, self.args.seconds, replay, scan)?;
            let name = format!("replay the log as {how}");
            self.add(Group::Replay, name, Shown::Rate("event"), sides, SCANNING);
        }
        Ok(())
    }

    pub(super) fn streams(&mut self, base: Base) -> Result<Base> {
        let streams = base.store.streams().into_iter().map(|info| Ok(info?.id));
        let streams: Vec<StreamId> = streams.collect::<Result<_>>()?;
        let events = base.store.head()?.map_or(0, Position::get);
        let what = format!("load streams of {:.0} events", events as f64 / streams.len() as f64);
        let chosen: Vec<&StreamId> =
            scattered(streams.len()).map(|index| &streams[index]).collect();
        let warm = self.warm_loads(&base.store, &chosen[..LOADS_MAX.min(chosen.len())])?;
        let Base { store, database } = base;
        let chosen = &chosen[..FIRST_LOADS_MAX.min(chosen.len())];
        let store = self.reopened(store)?;
        let of_baseline = scan_each(&store, chosen)?;
        let store = self.reopened(store)?;
        let of_store = load_each(&store, chosen)?;
        let first = [of_store.measured(), of_baseline.measured()];
        for (how, sides) in [("warm", warm), ("first after opening", first)] {
            let baseline_is = "RocksDB scanning the same rows of the stream";
            let name = format!("{what}, {how}");
            self.add(Group::Streams, name, Shown::Rate("load"), sides, baseline_is);
        }
        Ok(Base { store, database })
    }

    fn warm_loads(&self, store: &Store, chosen: &[&StreamId]) -> Result<[Measured; 2]> {
        // The caches are warm from the first measured run on.
        scan_each(store, chosen)?;
        let (mut of_store, mut of_baseline) = (Recorder::new(), Recorder::new());
        let noted = |run: Result<Recorder>, all: &mut Recorder| {
            let run = run?;
            all.append(&run);
            Ok(run.elapsed)
        };
        in_turn(
            chosen.len() as u64,
            self.args.seconds,
            || noted(load_each(store, chosen), &mut of_store),
            || noted(scan_each(store, chosen), &mut of_baseline),
        )?;
        Ok([of_store.measured(), of_baseline.measured()])
    }

    /// Closed and reopened: its caches are empty.
    fn reopened(&self, store: Store) -> Result<Store> {
        let path = store.info()?.path;
        store.close()?;
        Ok(self.options.clone().durability(Durability::Buffered).open(path)?)
    }

    pub(super) fn verify(&mut self, base: &Base) -> Result<()> {
        let (store, below) = (&base.store, baseline(&base.store));
        let events = store.head()?.map_or(0, Position::get);
        let verify = || {
            let (took, report) = timed(|| Ok(store.verify(|_| {})?))?;
            if !report.is_sound() {
                return Err("the store is damaged".into());
            }
            is_all(report.events, events)?;
            Ok(took)
        };
        let scan = || Ok(timed(|| Ok((below.scan_log()?, below.scan_streams()?)))?.0);
        let sides = in_turn(events, self.args.seconds, verify, scan)?;
        let name = "verify the log and all streams".to_owned();
        self.add(Group::Verify, name, Shown::Rate("event"), sides, SCANNING);
        Ok(())
    }
}

/// A figure for less work than requested would be wrong.
pub(super) fn is_all(seen: u64, events: u64) -> Result<()> {
    if seen == events { Ok(()) } else { Err(format!("{seen} of {events} events were seen").into()) }
}

fn replay_references(store: &Store) -> Result<u64> {
    let mut seen = 0;
    store.read_log().for_each(|event| {
        black_box(event.payload());
        seen += 1;
        ControlFlow::Continue(())
    })?;
    Ok(seen)
}

fn replay_values(store: &Store) -> Result<u64> {
    let mut seen = 0;
    for event in store.read_log() {
        black_box(event?);
        seen += 1;
    }
    Ok(seen)
}

fn load_each(store: &Store, chosen: &[&StreamId]) -> Result<Recorder> {
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

fn scan_each(store: &Store, chosen: &[&StreamId]) -> Result<Recorder> {
    let (below, mut recorder) = (baseline(store), Recorder::new());
    for stream in chosen {
        recorder.run(|| {
            black_box(below.scan_stream(stream)?);
            Ok(1)
        })?;
    }
    Ok(recorder)
}

/// The numbers below `most` in a scattered order, each once.
fn scattered(most: usize) -> impl Iterator<Item = usize> {
    // A step that shares no divisor with `most` visits every number.
    let divides = |mut a: usize, mut b: usize| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a > 1
    };
    let mut stride = 7_919;
    while divides(stride, most) {
        stride += 1;
    }
    (1..=most).map(move |step| step * stride % most)
}
