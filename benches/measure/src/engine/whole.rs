//! The store as a whole: opened after closing and after a crash, and copied.

use annals::__internals::{Database, Packer, baseline};
use annals::{Durability, EventStore, EventStoreExt, ExpectedVersion, Position, Store};

use super::read::is_all;
use super::{Base, Bench, Group, Shown};
use crate::Result;
use crate::measure::{in_turn, timed};
use crate::place::remove;
use crate::source::Ready;

/// Bytes in the write-ahead log when a store is opened after a crash.
const UNFLUSHED_MIB: usize = 4;
const OPENED: &str = "RocksDB opened for writing alone, the same rows";

impl Bench<'_> {
    pub(super) fn backup(&mut self, base: &Base) -> Result<()> {
        let events = base.store.head()?.map_or(0, Position::get);
        let (copy, baseline_copy) = (self.place.path("copy"), self.place.path("copy-baseline"));
        let backup = || {
            let (took, backed_up) = timed(|| Ok(base.store.backup(&copy)?))?;
            remove(&copy)?;
            is_all(backed_up.head.map_or(0, Position::get), events)?;
            Ok(took)
        };
        let checkpoint = || {
            let (took, ()) = timed(|| Ok(base.database.copy(&baseline_copy)?))?;
            remove(&baseline_copy)?;
            Ok(took)
        };
        let sides = in_turn(1, self.args.seconds, backup, checkpoint)?;
        let name = "back up the store".to_owned();
        let baseline_is = "RocksDB's checkpoint of the same rows";
        self.add(Group::Backup, name, Shown::Time, sides, baseline_is);
        Ok(())
    }

    pub(super) fn open(&mut self, base: Base) -> Result<Base> {
        let path = base.store.info()?.path;
        let baseline_path = self.place.path("log-baseline");
        let options = self.options.clone().durability(Durability::Buffered);
        let (mut store, mut database) = (Some(base.store), Some(base.database));
        let sides = in_turn(
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
        self.add(Group::Open, "open, after closing".to_owned(), Shown::Time, sides, OPENED);
        self.open_after_crash()?;
        let (store, database) = store.zip(database).ok_or("neither was opened")?;
        Ok(Base { store, database })
    }

    /// A backup has the write-ahead log of its original, like a store after a crash: opening reads
    /// it.
    fn open_after_crash(&mut self) -> Result<()> {
        let Base { store, database } = self.pair("crash", Durability::Buffered)?;
        let bytes = UNFLUSHED_MIB << 20;
        let payload = usize::try_from(self.args.payload)?;
        for Ready { stream, events } in self.source.appends(bytes.div_ceil(10 * payload), 10)? {
            store.append(stream, ExpectedVersion::Any, events)?;
        }
        for batch in baseline(&store).appends(None, usize::MAX, &mut Packer::default())?.0 {
            database.write(&batch, Durability::Buffered)?;
        }
        let (copy, baseline_copy) =
            (self.place.path("crashed"), self.place.path("crashed-baseline"));
        let sides = in_turn(
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
        let name = format!("open, after a crash with {UNFLUSHED_MIB} MiB unflushed");
        self.add(Group::Open, name, Shown::Time, sides, OPENED);
        Ok(())
    }
}
