//! Opening: hold the directory, judge it, find the head, check what must be true, or refuse with a typed error.
//!
//! The database is first opened without changing it and compared with the watermark: a writing open of a log that was
//! cut would delete the evidence, and one of any other damage would rewrite files of a store that is then refused. The
//! head is the last frame's; no history is scanned.

use std::ops::ControlFlow;
use std::path::Path;

use uuid::Uuid;

use crate::error::{Error, Result};
use crate::event_store::Direction;
use crate::format::{
    Evidence, Identity, Watermark, checksum_of, decode_record, encode_record, log_key,
    parse_log_key, stream_key,
};
use crate::model::{Position, StreamId, Timestamp};
use crate::options::{AcceptedEnd, Durability, StoreOptions, now};
use crate::read::{Spot, bad_key};
use crate::storage::{
    Access, Claim, Cut, Disk, Family, Paths, Storage, WatermarkFile, copy_database,
};

/// Key in `meta` of the store's identity, so that a database of another store is noticed.
const IDENTITY_KEY: &[u8] = b"identity";

/// The end of the log, as its last frame says it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LogEnd {
    pub(crate) head: Option<Position>,
    /// When the last event was recorded.
    pub(crate) recorded_at: Option<Timestamp>,
    /// How many streams there are.
    pub(crate) streams: u64,
    /// The checksum of the last frame; 0 if there is none.
    pub(crate) checksum: u32,
}

/// A store that is open.
pub(crate) struct Recovered {
    pub(crate) claim: Claim,
    pub(crate) storage: Storage,
    pub(crate) end: LogEnd,
    /// `None` when open for reading only.
    pub(crate) watermark: Option<WatermarkFile>,
}

/// Opens a store, or creates one.
pub(crate) fn open(root: &Path, options: &StoreOptions) -> Result<Recovered> {
    let access = match (options.read_only, options.create) {
        (true, _) => Access::Read,
        (false, true) => Access::Create,
        (false, false) => Access::Write,
    };
    let fresh = Identity::new(Uuid::now_v7().into_bytes(), now(&options.clock));
    let mut claim = Claim::take(root, access, options, fresh)?;
    let watermark = WatermarkFile::read(&claim.paths.watermark)?;
    let disk = if options.read_only {
        if let Some(cut) = find_cut(&claim.paths, options, watermark.is_clean)? {
            return Err(cut.to_be_made());
        }
        Disk::open_read_only(&claim.paths, options)?
    } else {
        mend(&claim, options, watermark)?;
        // After a close in order too: what is refused must be left as it is, and a writing open rewrites it.
        let probe = Disk::open_read_only(&claim.paths, options)?;
        check(&probe, &claim.identity, watermark, options.accepted_end)?;
        drop(probe);
        claim.paths.remove_copy()?;
        Disk::open(&claim.paths, options)?
    };
    let end = check(&disk, &claim.identity, watermark, options.accepted_end)?;
    let watermark = if options.read_only {
        None
    } else {
        // Before the watermark forgets the loss: the positions after the end will be given again.
        if claim.identity.is_backup || watermark.durable > end.head {
            claim.begin_epoch(end.head)?;
        }
        Some(begin_writing(&disk, &claim, &end, watermark)?)
    };
    Ok(Recovered { claim, storage: Storage::from(disk), end, watermark })
}

/// Judges a synced copy of a store, which must reach a position, as it would be judged when it is opened; returns what
/// it holds. Changes nothing.
pub(crate) fn inspect(
    paths: &Paths,
    identity: &Identity,
    at_least: Option<Position>,
) -> Result<Watermark> {
    let disk = Disk::open_read_only(paths, &StoreOptions::default())?;
    let store_id = identity.store_id;
    let at_least = Watermark { store_id, durable: at_least, is_clean: false, evidence: None };
    let end = check(&disk, identity, at_least, None)?;
    let evidence = Some(Evidence { frame: end.checksum, manifest: disk.manifest(None) });
    Ok(Watermark { durable: end.head, evidence, ..at_least })
}

/// Cuts off what a power loss left in pieces, if nothing that is known to have been durable goes with it: a copy of
/// the database is mended first, and judged.
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
    // One that was left behind is in the way.
    paths.remove_copy()?;
    let judged = judge();
    let removed = paths.remove_copy();
    judged.and(removed)?;
    cut_off(paths, options, watermark.is_clean)
}

/// Cuts off whatever is torn.
fn cut_off(paths: &Paths, options: &StoreOptions, is_clean: bool) -> Result<()> {
    while let Some(cut) = find_cut(paths, options, is_clean)? {
        cut.apply(&paths.db)?;
    }
    Ok(())
}

/// Where one of the engine's logs must be cut off, because a power loss left what was not synced in pieces. The
/// manifest first: it says which of the others count.
fn find_cut(paths: &Paths, options: &StoreOptions, is_clean: bool) -> Result<Option<Cut>> {
    if let Some(cut) = Cut::find_in_manifest(&paths.db)? {
        return Ok(Some(cut));
    }
    // After a close in order everything is in table files.
    if is_clean || matches!(Cut::find_in_log(&paths.db, 0), Ok(None)) {
        return Ok(None);
    }
    // Files that are not needed any more may be torn, and gone in any order.
    let oldest = Disk::oldest_log(paths, options)?;
    Cut::find_in_log(&paths.db, oldest)
}

/// What must be true of every store, found without scanning its history.
fn check(
    disk: &Disk,
    identity: &Identity,
    watermark: Watermark,
    accepted_end: Option<AcceptedEnd>,
) -> Result<LogEnd> {
    let expected = Uuid::from_bytes(identity.store_id);
    let owner = Uuid::from_bytes(watermark.store_id);
    if owner != expected {
        let (found, expected) = (format!("that of store {owner}"), format!("that of {expected}"));
        return Err(Error::corruption("watermark", found, expected));
    }
    let end = find_end(disk)?;
    if let Some(record) = disk.get(Family::Meta, IDENTITY_KEY)? {
        let place = "family meta, key identity";
        let found =
            decode_record(IDENTITY_KEY, &record).map_err(|malformed| malformed.at(place))?;
        if found != identity.store_id {
            let expected = format!("that of {expected}, as STORE says");
            return Err(Error::corruption(place, "the identity of another store", expected));
        }
    } else if end.head.is_some() {
        return Err(Error::corruption(
            "family meta, key identity",
            "nothing",
            "the store's identity",
        ));
    }
    if let Some(expected_at_least) = watermark.durable
        && end.head < Some(expected_at_least)
    {
        if accepted_end == Some(AcceptedEnd(end.head)) {
            // What the watermark knows of the rest is of what is lost.
            return Ok(end);
        }
        return Err(Error::HistoryLost { expected_at_least, found: end.head });
    }
    if let Some(Evidence { frame, manifest }) = watermark.evidence {
        manifest.map_or(Ok(()), |known| disk.check_manifest(known))?;
        watermark.durable.map_or(Ok(()), |durable| check_frame(disk, &end, durable, frame))?;
    }
    Ok(end)
}

/// At the watermark stands the frame that stood there when it was written, and not one of another history.
fn check_frame(disk: &Disk, end: &LogEnd, durable: Position, expected: u32) -> Result<()> {
    let found = checksum_at(disk, end, durable)?;
    if found == Some(expected) {
        return Ok(());
    }
    let spot = Spot { family: Family::Events, stream: None, place: durable.get() };
    let found = match found {
        Some(found) => format!("the end of a frame with the checksum {found:08x}"),
        None => "no end of a frame".to_owned(),
    };
    let expected = format!("the end of that with {expected:08x}, as the watermark says");
    Err(spot.corruption(found, expected))
}

/// The checksum of the frame that ends at a position, if one does.
fn checksum_at(disk: &Disk, end: &LogEnd, position: Position) -> Result<Option<u32>> {
    if end.head == Some(position) {
        return Ok(Some(end.checksum));
    }
    let mut found = Ok(None);
    disk.scan(Family::Events, &log_key(position), Direction::Backward, |key, value| {
        let place = parse_log_key(key).map_or(0, Position::get);
        let spot = Spot { family: Family::Events, stream: None, place };
        found = spot
            .decode(value)
            .map(|frame| (frame.header.last_position() == position).then(|| checksum_of(value)));
        ControlFlow::Break(())
    })?;
    found
}

/// The end of the log: its last frame, which must stand in `streams` too.
fn find_end(disk: &Disk) -> Result<LogEnd> {
    let mut last = None;
    disk.scan(Family::Events, &[0xff; 9], Direction::Backward, |key, value| {
        last = Some((key.to_vec(), value.to_vec()));
        ControlFlow::Break(())
    })?;
    let Some((key, value)) = last else { return Ok(LogEnd::default()) };
    let first = parse_log_key(&key).ok_or_else(|| bad_key(Family::Events, &key))?;
    let spot = Spot { family: Family::Events, stream: None, place: first.get() };
    let frame = spot.decode(&value)?;
    let header = frame.header;
    spot.agree(first, header.first_position)?;
    let mut recorded_at = header.recorded_at;
    for event in frame.events() {
        recorded_at = event.map_err(|malformed| malformed.at(spot.to_string()))?.recorded_at;
    }
    let copy = disk.get(Family::Streams, &stream_key(header.stream, header.first_version))?;
    if copy.as_deref() != Some(&value) {
        let stream = StreamId::trusted(header.stream);
        let place = header.first_version.get();
        let spot = Spot { family: Family::Streams, stream: Some(&stream), place };
        let found = if copy.is_some() { "other bytes" } else { "nothing" };
        return Err(spot.corruption(found, format!("the frame of position {first}")));
    }
    Ok(LogEnd {
        head: Some(header.last_position()),
        recorded_at: Some(recorded_at),
        streams: header.streams_after,
        checksum: checksum_of(&value),
    })
}

/// From here on a crash is an unclean close.
fn begin_writing(
    disk: &Disk,
    claim: &Claim,
    end: &LogEnd,
    watermark: Watermark,
) -> Result<WatermarkFile> {
    // Beyond the end only where the loss was accepted: from here on it counts.
    let durable = watermark.durable.min(end.head);
    let frame = match durable {
        Some(durable) => checksum_at(disk, end, durable)?.unwrap_or_default(),
        None => 0,
    };
    let evidence = Some(Evidence { frame, manifest: disk.manifest(None) });
    // Before the first write: after it the write-ahead log may be torn.
    let mut file = WatermarkFile::open(&claim.paths.watermark)?;
    file.set(Watermark { durable, is_clean: false, evidence, ..watermark })?;
    file.sync()?;
    if disk.get(Family::Meta, IDENTITY_KEY)?.is_none() {
        let mut batch = disk.batch();
        let record = encode_record(IDENTITY_KEY, &claim.identity.store_id);
        batch.put(Family::Meta, IDENTITY_KEY, &record);
        disk.write(batch, Durability::Sync)?;
    }
    Ok(file)
}
