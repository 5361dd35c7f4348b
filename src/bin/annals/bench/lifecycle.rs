//! The store as a whole: opened after closing and after a crash, and copied.

use std::fs;
use std::path::Path;

use annals::baseline::Database;
use annals::{Durability, EventStore, EventStoreExt, ExpectedVersion, Position, Store};

use super::super::shell::Failure;
use super::measure::{Figure, Shown, in_turn, timed};
use super::source::Ready;
use super::{Base, Bench, Group};

/// What the write-ahead log holds when a store is opened after a crash.
const UNFLUSHED_MIB: usize = 4;

impl Bench<'_> {
    pub(super) fn backup(&mut self, base: &Base) -> Result<(), Failure> {
        let name = "back up the store".to_owned();
        self.begin(&name);
        let events = base.store.head()?.map_or(0, Position::get);
        let (copy, baseline_copy) =
            (self.workplace.place("copy"), self.workplace.place("copy-baseline"));
        let backup = || {
            let (took, backed_up) = timed(|| Ok(base.store.backup(&copy)?))?;
            remove(&copy)?;
            super::reading::is_all(backed_up.head.map_or(0, Position::get), events)?;
            Ok(took)
        };
        let checkpoint = || {
            let (took, ()) = timed(|| Ok(base.database.copy(&baseline_copy)?))?;
            remove(&baseline_copy)?;
            Ok(took)
        };
        let (of_store, of_baseline) = in_turn(1, self.args.seconds, backup, checkpoint)?;
        self.add(Figure {
            group: Group::Backup,
            name,
            unit: "backup",
            shown: Shown::Time,
            store: of_store,
            baseline: of_baseline,
            baseline_is: "RocksDB's checkpoint of the same rows",
        });
        Ok(())
    }

    pub(super) fn open(&mut self, base: Base) -> Result<Base, Failure> {
        let name = "open, after closing".to_owned();
        self.begin(&name);
        let path = base.store.info()?.path;
        let baseline_path = self.workplace.place("log-baseline");
        let options = self.options.clone().durability(Durability::Buffered);
        let mut base = Some(base);
        let (mut store, mut database) = base.take().map(|base| (base.store, base.database)).unzip();
        let (of_store, of_baseline) = in_turn(
            1,
            self.args.seconds,
            || {
                store.take().map_or(Ok(()), Store::close)?;
                let (took, opened) = timed(|| Ok(options.clone().open(&path)?))?;
                store = Some(opened);
                Ok(took)
            },
            || {
                database.take().map_or(Ok(()), Database::close)?;
                let (took, opened) = timed(|| Ok(Database::open(&baseline_path, &options)?))?;
                database = Some(opened);
                Ok(took)
            },
        )?;
        let Some((store, database)) = store.zip(database) else {
            unreachable!("each was opened at least once")
        };
        self.add(Self::opened(name, of_store, of_baseline));
        self.open_after_a_crash()?;
        Ok(Base { store, database })
    }

    /// A backup has the write-ahead log of its original, as what a crash leaves has: opening reads it.
    fn open_after_a_crash(&mut self) -> Result<(), Failure> {
        let name = format!("open, after a crash with {UNFLUSHED_MIB} MiB unflushed");
        self.begin(&name);
        let Base { store, database } = self.pair("crash", Durability::Buffered)?;
        let bytes = UNFLUSHED_MIB << 20;
        let payload = usize::try_from(self.args.payload).unwrap_or(usize::MAX);
        for Ready { stream, events } in self.source.appends(bytes.div_ceil(10 * payload), 10)? {
            store.append(stream, ExpectedVersion::Any, events)?;
        }
        for batch in store.baseline().appends(None, usize::MAX)?.0 {
            database.write(&batch, Durability::Buffered)?;
        }
        let (copy, baseline_copy) =
            (self.workplace.place("crashed"), self.workplace.place("crashed-baseline"));
        let (of_store, of_baseline) = in_turn(
            1,
            self.args.seconds,
            || {
                store.backup(&copy)?;
                let (took, opened) = timed(|| Ok(self.options.clone().open(&copy)?))?;
                opened.close()?;
                remove(&copy)?;
                Ok(took)
            },
            || {
                database.copy(&baseline_copy)?;
                let (took, opened) = timed(|| Ok(Database::open(&baseline_copy, &self.options)?))?;
                opened.close()?;
                remove(&baseline_copy)?;
                Ok(took)
            },
        )?;
        self.add(Self::opened(name, of_store, of_baseline));
        Ok(())
    }

    fn opened(
        name: String,
        store: super::measure::Measured,
        baseline: super::measure::Measured,
    ) -> Figure {
        let baseline_is = "RocksDB opened for writing alone, the same rows";
        Figure {
            group: Group::Open,
            name,
            unit: "open",
            shown: Shown::Time,
            store,
            baseline,
            baseline_is,
        }
    }
}

fn remove(directory: &Path) -> Result<(), Failure> {
    fs::remove_dir_all(directory)
        .map_err(|error| Failure::file(format!("removing {}", directory.display()), error))
}
