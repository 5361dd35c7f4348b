//! Import and export of a [`Store`].

use std::io::{BufRead, Write};
use std::path::Path;

use super::{Engine, Store};
use crate::error::{Error, Result};
use crate::event_store::Query;
use crate::maintenance::export::{Exported, export, export_matching};
use crate::maintenance::export_placed::{Source, export_with_positions};
use crate::maintenance::import::{Destination, ImportOptions, Imported, import};
use crate::maintenance::import_placed::{contradictory, import_with_positions};
use crate::storage::PartialCopy;
use crate::store_options::StoreOptions;

impl Store {
    /// Appends the events of an input to the log. Each line of the input is one JSON object, as
    /// [`JsonLine`](crate::JsonLine) describes.
    ///
    /// `stream`, `type`, `time` and one of `data` (any JSON; its unchanged text is the payload) and
    /// `data_base64` are required; `id`, `schema_version`, `content_type`, `metadata`, `tags` and
    /// `commit` are optional. Consecutive lines with the same `commit` are one append, all or
    /// nothing (G1); a line without `commit` is a separate append. `position`, `version` and
    /// `commit_last` are ignored; any other field is rejected. Times are kept and may not go back, unless
    /// [`ImportOptions::clamp_times`] is set. Importing an export gives the same log, unless events
    /// were deleted: then the events that are left get new positions and versions, without gaps.
    /// Lines of the stream [`DELETIONS_STREAM`](crate::DELETIONS_STREAM), and those of holes, are
    /// skipped.
    ///
    /// **Every line is added once**, however often its input is imported. Progress is recorded in
    /// the same write as the events, so importing the same input again, even after an error, a
    /// crash or a power loss, continues after the lines that are in the store. An input is
    /// recognised by its lines: if lines were added at its end, only these are imported.
    ///
    /// `progress` is called from time to time. One import runs at a time; others wait.
    ///
    /// # Errors
    /// [`Error::ImportLine`] gives the rejected line and the reason; the lines before it are in the
    /// store. [`Error::ImportDiffers`]: lines that are in the store have changed in the input.
    /// [`Error::ImportInput`]: the input could not be read to its end; the lines read before are in
    /// the store. [`Error::ReadOnly`], and the errors of
    /// [`EventStore::submit`](crate::EventStore::submit).
    ///
    /// # Cost
    /// Writes batches of about 1,000 events and syncs once at the end. Memory does not grow with
    /// the input: it holds one line, and one batch or, if larger, one commit. Lines that are
    /// already in the store are read, but not looked up.
    pub fn import(
        &self,
        mut input: impl BufRead,
        options: ImportOptions,
        mut progress: impl FnMut(Imported),
    ) -> Result<Imported> {
        let engine = &*self.engine;
        let _alone = engine.importing.lock();
        import(engine.destination(self)?, &mut input, options, &mut progress)
    }

    /// Writes all events up to the head as lines that [`Store::import`] reads, one JSON object per
    /// event, with every field. See [`JsonLine`](crate::JsonLine).
    ///
    /// Deleted events are not in it, nor are the events of the stream
    /// [`DELETIONS_STREAM`](crate::DELETIONS_STREAM), which concern only this store and its copies:
    /// see [`Store::deletions`].
    ///
    /// # Errors
    /// [`Error::Storage`] if the output cannot be written; damage (G8), [`Error::Closed`].
    ///
    /// # Cost
    /// Reads the whole log, one page at a time. Use a buffered output.
    pub fn export(
        &self,
        mut output: impl Write,
        mut progress: impl FnMut(Exported),
    ) -> Result<Exported> {
        export(self, &mut output, &mut progress)
    }

    /// Writes the events up to the head that match a query, as [`Store::export`] does.
    ///
    /// [`Store::import`] reads these lines too, but the events get other positions and versions,
    /// because those left out are missing. The events of a commit that match are one commit again.
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// use annals::prelude::*;
    /// use annals::Query;
    /// let store = Store::open(directory.path().join("school.annals"))?;
    /// let enrolled = NewEvent::json("Enrolled", &())?.with_tag("course:c1");
    /// store.submit(Append::of([enrolled, NewEvent::json("TermBegan", &())?]))?;
    /// let mut lines = Vec::new();
    /// let exported = store.export_matching(Query::tag("course:c1"), &mut lines, |_| {})?;
    /// assert_eq!(exported.events, 1);
    /// assert!(String::from_utf8_lossy(&lines).contains(r#""tags":["course:c1"]"#));
    /// # Ok::<(), annals::Error>(())
    /// ```
    ///
    /// # Errors
    /// An invalid query, see [`Query::check`](crate::Query::check), before anything is written; those
    /// of [`Store::export`].
    ///
    /// # Cost
    /// That of a read with this query. Use a buffered output.
    pub fn export_matching(
        &self,
        query: impl Into<Query>,
        mut output: impl Write,
        mut progress: impl FnMut(Exported),
    ) -> Result<Exported> {
        export_matching(self, query.into(), &mut output, &mut progress)
    }

    /// Writes all events up to the head with their positions and versions, and lines for what was
    /// deleted, so that [`StoreOptions::import_with_positions`] builds a store from it with every
    /// event at the same place.
    ///
    /// The events of the stream [`DELETIONS_STREAM`](crate::DELETIONS_STREAM) are in it.
    /// [`Store::import`] reads it too: it ignores places, and skips holes and deletions.
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// use annals::prelude::*;
    /// use annals::{Deletion, StoreOptions, Version};
    /// let store = Store::open(directory.path().join("bank.annals"))?;
    /// let account = StreamId::new("account-1")?;
    /// let events = [NewEvent::json("Opened", &"Ada")?, NewEvent::json("Deposited", &5)?];
    /// store.append(&account, ExpectedVersion::NoStream, events)?;
    /// store.delete(&Deletion::truncate(&account, Version::new(2).unwrap()))?;
    ///
    /// let mut lines = Vec::new();
    /// store.export_with_positions(&mut lines, |_| {})?;
    /// let copy = directory.path().join("copy.annals");
    /// Store::options().import_with_positions(&copy, &lines[..], |_| {})?;
    /// let first = Store::open(&copy)?.read_stream(&account).first()?.unwrap();
    /// assert_eq!((first.version().get(), first.position().get()), (2, 2));
    /// # Ok::<(), annals::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Store::export`]; [`Error::Storage`] if a deletion was decided and is not carried
    /// out yet: nothing was written.
    ///
    /// # Cost
    /// That of [`Store::export`], and if anything was ever deleted, one search for each stream.
    /// Deletions, verifications and other such exports wait for it: `progress` and the output must
    /// start none of them, nor ask what a deletion would do.
    pub fn export_with_positions(
        &self,
        mut output: impl Write,
        mut progress: impl FnMut(Exported),
    ) -> Result<Exported> {
        let engine = &*self.engine;
        engine.deleter.undisturbed(&engine.storage, |deletions| {
            let (storage, open, head) = (&*engine.storage, &*engine.open, engine.head.get()?);
            let source = Source { storage, open, head, deletions };
            export_with_positions(&source, &mut output, &mut progress)
        })
    }
}

impl StoreOptions {
    /// Builds a new store from an export with positions: every event has the position and version
    /// that it had, and what was deleted is a hole in both (G17).
    ///
    /// Each line of the input is one that [`Store::export_with_positions`] has written, in the same
    /// order. The store is built in `DIRECTORY.partial`, verified, and renamed, so it exists whole
    /// or not at all. A failed import must be repeated from the first line. The new store has an id
    /// and an [`Epoch`] of its own. It has no snapshots, read models, idempotency keys and
    /// retentions, because an export does not hold them.
    ///
    /// [`Epoch`]: crate::Epoch
    ///
    /// # Errors
    /// [`Error::ImportLine`], [`Error::ImportInput`], with the line and the reason;
    /// [`Error::CopyRefused`] if something is at this path or next to it; [`Error::ReadOnly`] if
    /// these options are for reading only; those of [`Store::open`]. No store was created.
    ///
    /// # Cost
    /// That of [`Store::import`] and of [`Store::verify`].
    pub fn import_with_positions(
        self,
        path: impl AsRef<Path>,
        mut input: impl BufRead,
        mut progress: impl FnMut(Imported),
    ) -> Result<Imported> {
        if self.read_only {
            return Err(Error::ReadOnly);
        }
        let partial = PartialCopy::begin(None, path.as_ref())?;
        let store = self.create(true).open(partial.built())?;
        let engine = &*store.engine;
        let target = engine.destination(&store)?;
        let built = import_with_positions(target, &engine.claim, &mut input, &mut progress);
        let built = built.and_then(|imported| {
            let report = store.verify(|_| {})?;
            match report.damage.first() {
                None => Ok(imported),
                Some(damage) => {
                    let (found, expected) = (&damage.found, &damage.expected);
                    let found = format!("{}: found {found}, expected {expected}", damage.location);
                    Err(contradictory(imported.lines, found))
                }
            }
        });
        let closed = store.close();
        let imported = built?;
        closed?;
        partial.finish_built()?;
        Ok(imported)
    }
}

impl Engine {
    /// The parts that an import into this store needs.
    fn destination<'s>(&'s self, store: &'s Store) -> Result<Destination<'s>> {
        Ok(Destination {
            store,
            committer: self.committer()?,
            storage: &self.storage,
            limits: &self.limits,
            index_kinds: self.index_kinds,
        })
    }
}
