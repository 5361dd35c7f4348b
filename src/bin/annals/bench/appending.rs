//! How fast events go in: appends, the log that the other figures read, and the import of the user's own.

use std::fs::{self, File};
use std::io::BufRead;
use std::path::Path;
use std::time::Duration;

use annals::baseline::Database;
use annals::{Durability, ImportOptions, Store};

use super::super::input::decompressed;
use super::super::shell::{Failure, count, grouped};
use super::measure::{Figure, Measured, Shown, timed};
use super::race::{Baseline, Pace, Until, race};
use super::{Base, Bench, Group};

/// As many callers at once as a busy server has.
const THREADS: usize = 32;
/// As many bytes of rows are written as one batch as an import does at most.
const IMPORT_BATCH_LEN: usize = 4 << 20;
/// As many events, too.
const IMPORT_BATCH_EVENTS: u64 = 1_000;

impl Bench<'_> {
    pub(super) fn appends(&mut self) -> Result<(), Failure> {
        let (sync, buffered) = (Durability::Sync, Durability::Buffered);
        for (durability, events, threads) in [
            (sync, 1, 1),
            (sync, 1, THREADS),
            (buffered, 1, 1),
            (buffered, 10, 1),
            (buffered, 100, 1),
        ] {
            let how = if durability == sync { "synced" } else { "buffered" };
            let many = if threads == 1 { String::new() } else { format!(", {threads} threads") };
            let name = format!("append {}, {how}{many}", count(events, "event"));
            self.begin(&name);
            let place = format!("append-{how}-{events}-{threads}");
            let Base { store, database } = self.pair(&place, durability)?;
            let below = if (durability, threads) == (sync, 1) {
                Baseline::file(&self.workplace.place("a-file"), database)?
            } else {
                Baseline::Engine(database)
            };
            let events = u32::try_from(events).unwrap_or(u32::MAX);
            let (pace, until) =
                (Pace { durability, events, threads }, Until::Time(self.args.seconds));
            let (of_store, of_baseline) =
                race(&store, &below, &mut self.source, pace, until, |_| {})?;
            self.add(Figure {
                group: Group::Append,
                name,
                unit: "event",
                shown: Shown::Rate,
                store: of_store,
                baseline: of_baseline,
                baseline_is: below.is(),
            });
            // What is measured next should find the disk as this did.
            store.close()?;
            drop(below);
            for name in [place.clone(), format!("{place}-baseline")] {
                let removed = fs::remove_dir_all(self.workplace.place(&name));
                removed.map_err(|error| Failure::file(format!("removing {name}"), error))?;
            }
        }
        Ok(())
    }

    /// Makes the log that is read, and the same rows next to it.
    pub(super) fn fill(&mut self) -> Result<Base, Failure> {
        if let Some(file) = &self.args.input {
            return self.import(file);
        }
        let per_append = u64::from(self.args.per_append);
        self.begin("filling the log");
        let Base { store, database } = self.pair("log", Durability::Buffered)?;
        let below = Baseline::Engine(database);
        let pace =
            Pace { durability: Durability::Buffered, events: self.args.per_append, threads: 1 };
        let until = Until::Events(self.args.events);
        let bar = self.bar.clone();
        let (of_store, of_baseline) =
            race(&store, &below, &mut self.source, pace, until, |done| {
                bar.set_message(format!("filling the log: {}", count(done, "event")));
            })?;
        let Baseline::Engine(database) = below else { unreachable!("it was given as the engine") };
        if self.wants(Group::Fill) {
            self.add(Figure {
                group: Group::Fill,
                name: format!("fill the log, {} an append", count(per_append, "event")),
                unit: "event",
                shown: Shown::Rate,
                store: of_store,
                baseline: of_baseline,
                baseline_is: "RocksDB writing the same rows",
            });
        }
        Ok(Base { store, database })
    }

    fn import(&mut self, file: &Path) -> Result<Base, Failure> {
        self.begin("importing");
        let Base { store, database } = self.pair("log", Durability::Buffered)?;
        let input = open_input(file)?;
        let bar = self.bar.clone();
        let (elapsed, imported) = timed(|| {
            // A log that is only measured may have times that go back.
            let options = ImportOptions::default().clamp_times(true);
            Ok(store.import(input, options, |so_far| {
                bar.set_message(format!("importing: {}", count(so_far.lines, "line")));
            })?)
        })?;
        if imported.added == 0 {
            return Err(Failure::Missing(format!("{} holds no events", file.display())));
        }
        self.begin("writing what was imported");
        let written = write_as_imported(&store, &database)?;
        if self.wants(Group::Fill) {
            self.add(Figure {
                group: Group::Fill,
                name: format!("import {} lines", grouped(imported.lines)),
                unit: "event",
                shown: Shown::Rate,
                store: Measured { count: imported.added, elapsed, latency: None },
                baseline: Measured { count: imported.added, elapsed: written, latency: None },
                baseline_is: "RocksDB writing the same rows, in batches as large",
            });
        }
        Ok(Base { store, database })
    }
}

/// The input, checked and opened.
pub(super) fn open_input(file: &Path) -> Result<Box<dyn BufRead>, Failure> {
    let failed = |error| Failure::file(format!("opening {}", file.display()), error);
    let input = File::open(file).map_err(failed)?;
    if input.metadata().map_err(failed)?.is_dir() {
        return Err(Failure::Usage(format!("{} is a directory", file.display())));
    }
    decompressed(Box::new(input), || {}).map_err(|error| Failure::file("reading the input", error))
}

/// Writes the rows of a store in such batches as an import makes, with a sync at the end, and says how long that took.
fn write_as_imported(store: &Store, database: &Database) -> Result<Duration, Failure> {
    let (below, mut after, mut elapsed) = (store.baseline(), None, Duration::ZERO);
    loop {
        let (rows, last) = below.appends(after, IMPORT_BATCH_LEN)?;
        if rows.is_empty() {
            let (took, ()) = timed(|| Ok(database.sync()?))?;
            return Ok(elapsed + took);
        }
        let mut rest = rows.as_slice();
        while !rest.is_empty() {
            let mut events = 0;
            let fits = rest.iter().take_while(|batch| {
                events += batch.events();
                events <= IMPORT_BATCH_EVENTS
            });
            let (batch, left) = rest.split_at(fits.count().max(1));
            let (took, ()) = timed(|| Ok(database.write_as_one(batch, Durability::Buffered)?))?;
            elapsed += took;
            rest = left;
        }
        after = last;
    }
}
