//! Compares the index with the log, both ways.

use super::{Sum, Verifier};
use crate::error::{Location, Result};
use crate::event_store::Direction;
use crate::format::{Frame, IndexKind, index_entries, index_key, index_of};
use crate::model::{EventRef, Position};
use crate::read::finder::FrameFinder;
use crate::read::log::Log;
use crate::storage::Family;

/// Where the index differs from the log, found during one look at a page.
type Differences = Vec<(Vec<u8>, Position, &'static str)>;

impl Verifier<'_> {
    /// Whether an entry of this kind is expected for the event at a position.
    fn is_indexed(&self, kind: IndexKind, position: Position) -> bool {
        position <= self.head && self.indexed.get(kind).is_some_and(|from| from <= position)
    }

    /// Notes the entries that an event of the log should have.
    pub(super) fn note_entries(&mut self, event: &EventRef<'_>) {
        let mut sum = self.index_sum;
        each_entry(event, |kind, text, value| {
            if self.is_indexed(kind, event.position) {
                sum.add_entry(&index_key(kind, text, event.position), value.as_bytes());
            }
        });
        self.index_sum = sum;
    }

    /// Walks the index and compares it with the log. If `is_unchanged` is false in the end, the
    /// index is being built again, and differences mean nothing.
    pub(super) fn prove_index(&mut self, is_unchanged: impl Fn() -> bool) -> Result<()> {
        if !self.storage.with(|disk| Ok(disk.has(Family::Index)))? {
            return Ok(());
        }
        let mut sum = Sum::default();
        let (mut from, mut is_readable) = (Vec::new(), true);
        loop {
            let page = self.page(Family::Index, &from)?;
            for (key, value) in &page.entries {
                match index_of(key) {
                    Some((kind, _, position)) if self.is_indexed(kind, position) => {
                        sum.add_entry(key, value);
                    }
                    // A newer one, or one that is being added now.
                    Some((kind, _, _)) if self.indexed.get(kind).is_some() => {}
                    Some((_, _, position)) if position > self.head => {}
                    _ => self.note_error(Family::Index.bad_key(key), None)?,
                }
            }
            if let Some(error) = page.unreadable {
                self.note_error(error, None)?;
                is_readable = false;
                break;
            }
            match page.entries.last() {
                Some((key, _)) if !page.is_last => {
                    from.clone_from(key);
                    from.push(0);
                }
                _ => break,
            }
        }
        if !is_unchanged() {
            return Ok(());
        }
        self.report.index_entries = sum.frames;
        if sum != self.index_sum && is_readable {
            let before = self.report.damage_count;
            self.find_missing_entries()?;
            self.find_wrong_entries()?;
            // The sums may also differ because the log is damaged.
            if self.report.is_sound() && before == 0 {
                let location = Location::Key { family: Family::Index.name(), key: Vec::new() };
                let found = format!("{} entries", sum.frames);
                let expected = format!("the {} of the events in the log", self.index_sum.frames);
                self.note(location, None, found, expected);
            }
        }
        Ok(())
    }

    /// Looks up each entry that the log should have.
    fn find_missing_entries(&mut self) -> Result<()> {
        let mut next = Some(Position::FIRST);
        while let Some(from) = next {
            let page = self.log_page(from)?;
            next = page.next();
            let mut expected = Vec::new();
            for (_, bytes) in page.frames() {
                // The walk has recorded frames and events that do not decode.
                let Ok(frame) = Frame::decode(bytes) else { continue };
                for event in frame.events().filter_map(Result::ok) {
                    each_entry(&event, |kind, text, value| {
                        if self.is_indexed(kind, event.position) {
                            let key = index_key(kind, text, event.position);
                            expected.push((key, value.as_bytes().to_vec(), event.position));
                        }
                    });
                }
            }
            let mut differences = Differences::new();
            self.storage.with(|disk| {
                for (key, value, position) in expected {
                    match disk.get(Family::Index, &key)? {
                        Some(found) if found == value => {}
                        Some(_) => differences.push((key, position, "another event type")),
                        None => differences.push((key, position, "nothing")),
                    }
                }
                Ok(())
            })?;
            self.note_differences(differences, "the entry of the event at this position");
        }
        Ok(())
    }

    /// Looks up the event of each entry.
    fn find_wrong_entries(&mut self) -> Result<()> {
        let mut from = Vec::new();
        loop {
            let page = self.page(Family::Index, &from)?;
            let mut differences = Differences::new();
            let (open, gaps) = (self.open, &self.gaps);
            self.storage.with(|disk| {
                let mut finder = FrameFinder::new(Log::new(disk, open), Direction::Forward);
                for (key, _) in &page.entries {
                    let Some((kind, text, position)) = index_of(key) else { continue };
                    let is_missing = gaps.iter().any(|gap| gap.contains(&position));
                    if position > self.head || is_missing {
                        continue;
                    }
                    // The walk has recorded damage of the log.
                    let has_it = finder.event_at(position, |event| has_entry(&event, kind, text));
                    if !has_it.unwrap_or(true) {
                        differences.push((key.clone(), position, "an entry"));
                    }
                }
                Ok(())
            })?;
            self.note_differences(differences, "none: the event at this position has no such name");
            match page.entries.last() {
                Some((key, _)) if !page.is_last && page.unreadable.is_none() => {
                    from.clone_from(key);
                    from.push(0);
                }
                _ => return Ok(()),
            }
        }
    }

    fn note_differences(&mut self, differences: Differences, expected: &str) {
        for (key, position, found) in differences {
            let location = Location::Key { family: Family::Index.name(), key };
            self.note(location, Some(position), found, expected);
        }
    }
}

impl Sum {
    fn add_entry(&mut self, key: &[u8], value: &[u8]) {
        // No key contains this byte, which UTF-8 does not use, before its position.
        self.add(&[key, &[u8::MAX], value].concat());
    }
}

fn each_entry<'e>(event: &EventRef<'e>, visit: impl FnMut(IndexKind, &'e str, &'e str)) {
    let tags: Vec<_> = event.tags().iter().collect();
    index_entries((event.event_type(), event.category()), &tags.into_iter(), visit);
}

fn has_entry(event: &EventRef<'_>, kind: IndexKind, text: &str) -> bool {
    let mut has_it = false;
    each_entry(event, |of, name, _| has_it |= of == kind && name == text);
    has_it
}
