//! Plans the redaction of one event.

use std::collections::BTreeSet;

use super::cut::snapshots_of;
use super::plan::Plan;
use crate::error::{Error, Location, Result};
use crate::event_store::Direction;
use crate::format::{redact_in_frame, stream_key};
use crate::model::{
    DeletionTarget, EventId, InvalidArgument, Position, REDACTED, StreamId, Version,
};
use crate::read::derived::list_views;
use crate::read::finder::FrameFinder;
use crate::read::log::{Log, OpenPack};
use crate::read::lookup::{decode_in_log, each_event};
use crate::storage::{Disk, Family};

impl Plan {
    /// Adds the redaction of the event at a position, which must have this id.
    pub(super) fn redact(
        &mut self,
        disk: &Disk,
        (open, head): (&OpenPack, Option<Position>),
        (position, id): (Position, EventId),
    ) -> Result<bool> {
        if Some(position) > head {
            return Err(Error::PositionAhead { asked: position, head });
        }
        let mut finder = FrameFinder::new(Log::new(disk, open), Direction::Forward);
        let (place, bytes) = finder.frame_at(position)?;
        let location = || Location::log(place.first);
        let frame = decode_in_log(place.first, bytes)?;
        if frame.is_hole() {
            return Err(Error::Deleted { what: format!("position {position}") });
        }
        let mut found = None;
        each_event(&frame, location, |event| {
            if event.position() == position {
                let tags = event.tags().iter().map(str::to_owned).collect::<Vec<_>>();
                let is_redacted = event.content_type() == REDACTED;
                found = Some((event.id(), event.version(), tags, is_redacted));
            }
        })?;
        let (version, tags, is_redacted) = match found {
            Some((found, version, tags, is_redacted)) if found == id => {
                (version, tags, is_redacted)
            }
            Some((found, ..)) => {
                return Err(InvalidArgument::OtherEvent { position, given: id, found }.into());
            }
            None => {
                let expected = format!("the event at position {position}");
                return Err(Error::corruption(location(), "no such event", expected));
            }
        };
        let stream = StreamId::trusted(frame.header.stream);
        if frame.header.stream.starts_with('$') {
            let name = stream.as_str().to_owned();
            return Err(
                InvalidArgument::Reserved { what: "stream of a redacted event", name }.into()
            );
        }
        let number = self.report.number.unwrap_or(Version::FIRST);
        let removed = self.record_tags(tags);
        let with_it = snapshots_of(disk, &stream, &(version..=Version::MAX))?;
        let is_new = !is_redacted || !removed.is_empty();
        let clears = self.deletion.clears_snapshots() && !with_it.is_empty();
        if !is_new && !clears {
            return Ok(false);
        }
        let redacted = redact_in_frame(bytes, position, &removed, number);
        let redacted = redacted.map_err(|malformed| malformed.at(location()))?;
        let key = stream_key(stream.as_str(), frame.header.first_version);
        self.decided.rows.put(Family::Streams, key, redacted);
        self.touch(&stream, (place.first, place.last));
        self.state.redactions.push(position);
        if !removed.is_empty() {
            self.forget_up_to(position);
        }
        self.wanted = Some(BTreeSet::from([place.first]));
        (self.report.events, self.report.streams) = (u64::from(is_new), 1);
        self.report.bytes = bytes.len() as u64;
        if self.deletion.clears_snapshots() {
            self.snapshots.push((stream, version..=Version::MAX));
        } else {
            self.report.snapshots_with_it = with_it;
        }
        // Also those that have not reached it: a projection may hold events that it is handling.
        self.report.views_with_it = list_views(disk)?;
        Ok(true)
    }

    /// Records where the tags that are removed are among those of the event; returns them. The
    /// decision must not repeat what is erased.
    fn record_tags(&mut self, all: Vec<String>) -> BTreeSet<String> {
        let mut target = self.deletion.target().clone();
        let mut removed = BTreeSet::new();
        if let DeletionTarget::Redact { tags, tag_places, tag_count, .. } = &mut target {
            let count = u32::try_from(all.len()).unwrap_or(u32::MAX);
            let mut places = std::mem::take(tag_places);
            places.retain(|_| *tag_count == count);
            *tag_count = count;
            let tags = std::mem::take(tags);
            for (place, tag) in (0..).zip(all) {
                if places.contains(&place) || tags.contains(&tag) {
                    tag_places.push(place);
                    removed.insert(tag);
                }
            }
        }
        self.deletion = self.deletion.with_target(target);
        removed
    }
}
