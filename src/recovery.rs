//! Opens a store: locks the directory, checks it, finds the head, and checks the invariants, or
//! fails with a typed error.
//!
//! The database is first opened read-only and compared with the watermark: opening a truncated log
//! for writing would delete the evidence, and opening a database with any other damage would
//! rewrite files of a store that is then rejected. The head comes from the last frame; no history
//! is scanned.

use std::path::Path;
use std::sync::Arc;

use uuid::Uuid;

use crate::error::{Error, Location, Result};
use crate::event_store::Direction;
use crate::format::{
    Deletions, Evidence, INDEXED_RECORD, Identity, IndexKind, Indexed, KEYS_RECORD, Watermark,
    decode_key_record, decode_record, encode_indexed, encode_record, position_of,
};
use crate::keys::KeyExpiry;
use crate::model::Position;
use crate::options::{Durability, now};
use crate::read::deletions::deletions;
use crate::read::index::indexed;
use crate::read::keys::{key_count, keys_after};
use crate::read::log::{Log, OpenPack};
use crate::read::log_end::{LogEnd, open_log};
use crate::read::lookup::checksum_at;
use crate::storage::{
    Access, Claim, Cut, Disk, Family, Paths, RowFilter, Storage, WatermarkFile, copy_database,
};
use crate::store_options::{AcceptedEnd, StoreOptions};
use crate::trace;

/// The key of the store's identity in `meta`, which detects the database of another store.
const IDENTITY_KEY: &[u8] = b"identity";
/// About the length of a batch that removes entries of the index.
const BATCH_LEN_MAX: usize = 4 << 20;

/// An open store.
pub(crate) struct Recovered {
    pub(crate) claim: Claim,
    pub(crate) storage: Storage,
    pub(crate) open: OpenPack,
    pub(crate) end: LogEnd,
    /// `None` when open for reading only.
    pub(crate) watermark: Option<WatermarkFile>,
    pub(crate) key_expiry: Arc<KeyExpiry>,
    pub(crate) indexed: Indexed,
    pub(crate) deletions: Deletions,
}

/// Opens a store, or creates it if the options allow that.
pub(crate) fn open(root: &Path, options: &StoreOptions) -> Result<Recovered> {
    let access = match (options.read_only, options.create) {
        (true, _) => Access::Read,
        (false, true) => Access::Create,
        (false, false) => Access::Write,
    };
    let fresh = Identity::new(Uuid::now_v7().into_bytes(), now(&options.clock));
    let mut claim = Claim::take(root, access, options, fresh)?;
    let watermark = WatermarkFile::read(&claim.paths.watermark)?;
    let key_expiry = Arc::new(KeyExpiry::start(options.key_retention, !options.read_only));
    let disk = if options.read_only {
        if let Some(cut) = find_cut(&claim.paths, options, watermark.is_clean)? {
            return Err(cut.to_be_made());
        }
        Disk::open_read_only(&claim.paths, options)?
    } else {
        mend(&claim, options, watermark)?;
        // The probe is needed even after a clean shutdown: a rejected store must stay unchanged,
        // and opening it for writing would rewrite files.
        let probe = Disk::open_read_only(&claim.paths, options)?;
        check(&probe, &claim.identity, watermark, options.accepted_end)?;
        drop(probe);
        claim.paths.remove_copy()?;
        Disk::open(&claim.paths, options, Some(&expired_keys(key_expiry.clone())))?
    };
    let (open, end) = check(&disk, &claim.identity, watermark, options.accepted_end)?;
    let watermark = if options.read_only {
        None
    } else {
        // This must come before the watermark is overwritten, which removes the evidence of the
        // loss. The positions after the end will be assigned again.
        let has_lost_its_end = claim.identity.is_backup || watermark.durable > end.head;
        // A copy that was restored from a store without its end has begun its epoch already.
        let epoch = claim.identity.epochs.begun().last();
        if has_lost_its_end || epoch.is_some_and(|epoch| epoch.after == end.head) {
            remove_lost_keys(&disk, &end)?;
            remove_lost_entries(&disk, &end)?;
        }
        if has_lost_its_end {
            claim.begin_epoch(end.head)?;
        }
        Some(begin_writing(Log::new(&disk, &open), &claim, &end, watermark)?)
    };
    let indexed = if options.read_only {
        indexed(&disk)?.filter(|_| disk.has(Family::Index)).unwrap_or_default()
    } else {
        claim.add_index()?;
        open_index(&disk, &end, options)?
    };
    let deletions = deletions(&disk)?;
    let count = key_count(&disk)?;
    key_expiry.resume(count.last, count.clock);
    let storage = Storage::from(disk);
    Ok(Recovered { claim, storage, open, end, watermark, key_expiry, indexed, deletions })
}

/// Selects the idempotency keys that have expired, which every lookup ignores. Damaged records are
/// kept, so that verify reports them.
fn expired_keys(expiry: Arc<KeyExpiry>) -> RowFilter {
    RowFilter::new(move |name, record| {
        decode_key_record(name, record).is_ok_and(|record| expiry.is_expired(record.age))
    })
}

/// Removes the idempotency keys that were recorded after the end that is left: the positions of
/// their events, and their numbers, will be assigned again.
fn remove_lost_keys(disk: &Disk, end: &LogEnd) -> Result<()> {
    let mut batch = disk.batch();
    for name in keys_after(disk, end.head, end.last_key)? {
        batch.delete(Family::Keys, &name);
    }
    if batch.is_empty() { Ok(()) } else { disk.write(batch, Durability::Sync) }
}

/// Removes the entries of the index for events after the end that is left.
fn remove_lost_entries(disk: &Disk, end: &LogEnd) -> Result<()> {
    let mut batch = disk.batch();
    let mut cursor = disk.cursor(Family::Index, &[], Direction::Forward)?;
    while let Some((key, _)) = cursor.next()? {
        if position_of(key) > end.head {
            batch.delete(Family::Index, key);
        }
        if batch.len() > BATCH_LEN_MAX {
            disk.write(std::mem::replace(&mut batch, disk.batch()), Durability::Buffered)?;
        }
    }
    if batch.is_empty() { Ok(()) } else { disk.write(batch, Durability::Sync) }
}

/// Switches kinds of entries on or off, as the options say. Entries of a kind that is on are written
/// with each event from now on; those of earlier events are added while the store is in use.
fn open_index(disk: &Disk, end: &LogEnd, options: &StoreOptions) -> Result<Indexed> {
    let known = indexed(disk)?;
    let mut now = known.unwrap_or_default();
    let from_now = Position::after(end.head);
    let mut batch = disk.batch();
    let wanted = [
        (IndexKind::Tag, Some(true)),
        (IndexKind::Type, options.index_types),
        (IndexKind::Category, options.index_categories),
    ];
    for (kind, is_on) in wanted {
        match (is_on.unwrap_or(now.get(kind).is_some()), now.get(kind)) {
            (false, None) => {}
            (false, Some(_)) => {
                now.set(kind, None);
                let (first, end) = kind.bounds();
                batch.delete_range(Family::Index, &first..&end);
            }
            // The end may have been lost.
            (true, from) => now.set(kind, Some(from.map_or(from_now, |from| from.min(from_now)))),
        }
    }
    if known != Some(now) {
        batch.put(Family::Meta, INDEXED_RECORD, &encode_indexed(now));
        disk.write(batch, Durability::Sync)?;
    }
    Ok(now)
}

/// Checks a synced copy of a store as opening it would, and that it contains the position
/// `at_least`. Returns the watermark for the copy. Changes nothing.
pub(crate) fn inspect(
    paths: &Paths,
    identity: &Identity,
    at_least: Option<Position>,
) -> Result<Watermark> {
    let disk = Disk::open_read_only(paths, &StoreOptions::default())?;
    let store_id = identity.store_id;
    let at_least = Watermark { store_id, durable: at_least, is_clean: false, evidence: None };
    let (_, end) = check(&disk, identity, at_least, None)?;
    let (frame, manifest, last_key) = (end.checksum, disk.manifest(None), end.last_key);
    let evidence = Some(Evidence { frame, manifest, last_key });
    Ok(Watermark { durable: end.head, evidence, ..at_least })
}

/// Cuts off the torn tail that a power loss left, if that removes nothing that is known to have
/// been durable. A copy of the database is repaired and checked first.
fn mend(claim: &Claim, options: &StoreOptions, watermark: Watermark) -> Result<()> {
    let Claim { paths, identity, .. } = claim;
    if find_cut(paths, options, watermark.is_clean)?.is_none() {
        return Ok(());
    }
    let copy = paths.of_copy();
    let judge = || {
        copy_database(&paths.db, &copy.db)?;
        cut_off(&copy, options, watermark.is_clean)?;
        let probe = Disk::open_read_only(&copy, options)?;
        check(&probe, identity, watermark, options.accepted_end)
    };
    // Removes a copy that an earlier, interrupted open left behind.
    paths.remove_copy()?;
    let judged = judge();
    let removed = paths.remove_copy();
    judged.and(removed)?;
    cut_off(paths, options, watermark.is_clean)
}

/// Cuts off every torn tail.
fn cut_off(paths: &Paths, options: &StoreOptions, is_clean: bool) -> Result<()> {
    while let Some(cut) = find_cut(paths, options, is_clean)? {
        trace::event!(warn, path = %paths.db.display(), "power loss left an incomplete log: cutting off its tail");
        cut.apply(&paths.db)?;
    }
    Ok(())
}

/// Finds where one of the engine's logs must be cut off because a power loss left it torn. The
/// manifest comes first, because it determines which log files are needed.
fn find_cut(paths: &Paths, options: &StoreOptions, is_clean: bool) -> Result<Option<Cut>> {
    if let Some(cut) = Cut::find_in_manifest(&paths.db)? {
        return Ok(Some(cut));
    }
    // After a clean shutdown everything is in table files.
    if is_clean || matches!(Cut::find_in_log(&paths.db, 0), Ok(None)) {
        return Ok(None);
    }
    // Files that are no longer needed may be torn, or be removed in any order.
    let oldest = Disk::oldest_log(paths, options)?;
    Cut::find_in_log(&paths.db, oldest)
}

/// Checks the invariants of every store, without scanning its history.
fn check(
    disk: &Disk,
    identity: &Identity,
    watermark: Watermark,
    accepted_end: Option<AcceptedEnd>,
) -> Result<(OpenPack, LogEnd)> {
    let expected = Uuid::from_bytes(identity.store_id);
    let owner = Uuid::from_bytes(watermark.store_id);
    if owner != expected {
        let (found, expected) =
            (format!("that of store {owner}"), format!("that of store {expected}"));
        return Err(Error::corruption(Location::file("watermark"), found, expected));
    }
    if identity.features.has_index() && !disk.has(Family::Index) {
        let location = Location::Database { doing: "looking for the index".to_owned() };
        return Err(Error::corruption(location, "no family index", "that family, as STORE says"));
    }
    let (open, end) = open_log(disk)?;
    let location = || Location::Key { family: Family::Meta.name(), key: IDENTITY_KEY.to_vec() };
    if let Some(record) = disk.get(Family::Meta, IDENTITY_KEY)? {
        let found =
            decode_record(IDENTITY_KEY, &record).map_err(|malformed| malformed.at(location()))?;
        if found != identity.store_id {
            let expected = format!("that of store {expected}, as STORE says");
            return Err(Error::corruption(location(), "the identity of another store", expected));
        }
    } else if end.head.is_some() {
        return Err(Error::corruption(location(), "nothing", "the store's identity"));
    }
    if let Some(expected_at_least) = watermark.durable
        && end.head < Some(expected_at_least)
    {
        if accepted_end == Some(AcceptedEnd(end.head)) {
            // The watermark's evidence describes the lost events, so it is not checked.
            return Ok((open, end));
        }
        return Err(Error::HistoryLost { expected_at_least, found: end.head });
    }
    if let Some(Evidence { frame, manifest, last_key }) = watermark.evidence {
        if end.last_key < last_key && accepted_end != Some(AcceptedEnd(end.head)) {
            let location = Location::Key { family: Family::Meta.name(), key: KEYS_RECORD.to_vec() };
            let found = format!("idempotency keys up to number {}", end.last_key);
            let expected = format!("number {last_key} at least, as the watermark says");
            return Err(Error::corruption(location, found, expected));
        }
        manifest.map_or(Ok(()), |known| disk.check_manifest(known))?;
        let log = Log::new(disk, &open);
        watermark.durable.map_or(Ok(()), |durable| check_frame(log, durable, frame))?;
    }
    Ok((open, end))
}

/// Checks that the frame at the watermark is the one that was there when the watermark was written,
/// not a frame of another history.
fn check_frame(log: Log<'_>, durable: Position, expected: u32) -> Result<()> {
    let found = checksum_at(log, durable)?;
    if found == Some(expected) {
        return Ok(());
    }
    let found = match found {
        Some(found) => format!("the end of a frame with the checksum {found:08x}"),
        None => "no frame that ends there".to_owned(),
    };
    let expected = format!("the end of one with {expected:08x}, as the watermark says");
    Err(Error::corruption(Location::log(durable), found, expected))
}

/// Marks the store as open for writing: from now on a crash is an unclean shutdown.
fn begin_writing(
    log: Log<'_>,
    claim: &Claim,
    end: &LogEnd,
    watermark: Watermark,
) -> Result<WatermarkFile> {
    // The watermark is beyond the end only if the caller accepted the loss; now the end counts.
    let durable = watermark.durable.min(end.head);
    let frame = match durable {
        Some(durable) => checksum_at(log, durable)?.unwrap_or_default(),
        None => 0,
    };
    let disk = log.disk();
    // The keys are durable by now only up to those that the watermark says.
    let known = watermark.evidence.map_or(0, |evidence| evidence.last_key);
    let last_key = known.min(end.last_key);
    let evidence = Some(Evidence { frame, manifest: disk.manifest(None), last_key });
    // This must come before the first write, because after that the write-ahead log may be torn.
    let mut file = WatermarkFile::open(&claim.paths.watermark)?;
    // Both slots, because a later write may be torn, and the other slot counts then.
    for _slot in 0..2 {
        file.set(Watermark { durable, is_clean: false, evidence, ..watermark })?;
        file.sync()?;
    }
    if disk.get(Family::Meta, IDENTITY_KEY)?.is_none() {
        let mut batch = disk.batch();
        let record = encode_record(IDENTITY_KEY, &claim.identity.store_id);
        batch.put(Family::Meta, IDENTITY_KEY, &record);
        disk.write(batch, Durability::Sync)?;
    }
    Ok(file)
}
