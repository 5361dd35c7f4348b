//! The layout of a projection's data in a [`ViewStore`].
//!
//! The view with the projection's own name holds a directory, which names the serving build and the
//! shadow build, and the discarded events. Each build is a separate view, `$name@generation`, with
//! its values and the events that it parked or skipped.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Target;
use super::definition::Definition;
use super::key::{END_OF_PART, ViewKey};
use crate::error::{Cause, Error, Result};
use crate::model::limits::check_name;
use crate::model::{InvalidArgument, Position, StreamId};
use crate::view_store::{Checkpoint, ViewChange, ViewCommit, ViewStore};

/// Longest name of a projection, in bytes of UTF-8: a build's name must fit the name of a view.
const NAME_LEN_MAX: usize = 200;

/// The first byte of a key is its kind.
const VALUE: u8 = b'v';
const PARKED: u8 = b'p';
const SKIPPED: u8 = b's';
const DISCARDED: u8 = b'd';

/// Length of a position in a key.
const POSITION_LEN: usize = size_of::<u64>();

/// One build of a read model, from the first event on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Build {
    pub(super) generation: u64,
    /// The version of the projection that builds it.
    pub(super) version: u32,
}

/// The builds of a projection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Directory {
    /// The build that readers see.
    pub(super) serving: Option<Build>,
    /// The shadow build.
    pub(super) building: Option<Build>,
    /// The highest generation ever used: no generation is used twice.
    pub(super) newest: u64,
    /// The position after which every build begins. Stored, so that a rebuild begins there too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) after: Option<u64>,
    /// The events that each build reads, by generation.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) definitions: BTreeMap<u64, Definition>,
}

impl Directory {
    pub(super) fn read(views: &dyn ViewStore, projection: &str) -> Result<Self> {
        match views.checkpoint(projection)? {
            None => Ok(Self::default()),
            Some(checkpoint) => serde_json::from_slice(&checkpoint.state).map_err(|cause| {
                Error::NotAProjection { view: projection.to_owned(), cause: Cause::new(cause) }
            }),
        }
    }

    /// Replaces the directory, if it has not changed since it was read.
    pub(super) fn replace(&self, views: &dyn ViewStore, name: &str, new: &Self) -> Result<()> {
        self.commit(views, name, Some(new.checkpoint()?), Vec::new())
    }

    /// Changes the records stored with the directory, if the directory has not changed since it was
    /// read.
    pub(super) fn change(
        &self,
        views: &dyn ViewStore,
        name: &str,
        changes: Vec<ViewChange>,
    ) -> Result<()> {
        self.commit(views, name, self.known()?, changes)
    }

    fn commit(
        &self,
        views: &dyn ViewStore,
        name: &str,
        checkpoint: Option<Checkpoint>,
        changes: Vec<ViewChange>,
    ) -> Result<()> {
        let (view, expected) = (name.to_owned(), self.known()?);
        views.commit_view(&ViewCommit {
            view,
            expected,
            changes,
            checkpoint,
            follows_other_log: false,
        })
    }

    /// The checkpoint that this directory was read from.
    fn known(&self) -> Result<Option<Checkpoint>> {
        if *self == Self::default() { Ok(None) } else { self.checkpoint().map(Some) }
    }

    /// Drops the definitions of builds that it no longer names.
    pub(super) fn with_definitions_of_builds(mut self) -> Self {
        let named = [self.serving, self.building].map(|build| build.map(|build| build.generation));
        self.definitions.retain(|generation, _| named.contains(&Some(*generation)));
        self
    }

    /// The serving build and the shadow build, if they exist.
    pub(super) fn builds(&self) -> impl Iterator<Item = Build> + use<> {
        [self.serving, self.building].into_iter().flatten()
    }

    /// The position after which a build begins.
    pub(super) fn start(&self) -> Option<Position> {
        self.after.and_then(Position::new)
    }

    /// The next build, of this version.
    pub(super) fn next_build(&self, version: u32) -> Build {
        Build { generation: self.newest + 1, version }
    }

    /// The directory that this version needs to start: one of its builds has this version.
    pub(super) fn planned(&self, version: u32, target: Target) -> Self {
        let is_ours = |build: &Build| build.version == version;
        let building = self.building.filter(is_ours);
        match (self.serving, building) {
            (Some(serving), building) if is_ours(&serving) => Self { building, ..self.clone() },
            (Some(_), Some(building)) => Self { building: Some(building), ..self.clone() },
            (Some(_), None) if target == Target::View => {
                let build = self.next_build(version);
                let newest = build.generation;
                Self { building: Some(build), newest, ..self.clone() }
            }
            // Side effects are not repeated: the new version continues where the old one stopped.
            (Some(serving), _) if target == Target::Reactor => {
                let serving = Build { version, ..serving };
                Self { serving: Some(serving), building: None, ..self.clone() }
            }
            // Nothing serves yet, or the target does not support a shadow build.
            _ => {
                let build = self.next_build(version);
                let newest = build.generation;
                Self { serving: Some(build), building: None, newest, ..self.clone() }
            }
        }
    }

    fn checkpoint(&self) -> Result<Checkpoint> {
        let state = serde_json::to_vec(self)
            .map_err(|error| Error::storage("writing the directory of a projection", error))?;
        Ok(Checkpoint { position: None, state })
    }
}

/// Checks the name of a projection.
pub(super) fn check(name: &str) -> Result<(), InvalidArgument> {
    check_name("projection name", name, NAME_LEN_MAX)?;
    if name.starts_with('$') {
        let name = name.to_owned();
        return Err(InvalidArgument::Reserved { what: "projection name", name });
    }
    Ok(())
}

/// The view of a build.
pub(super) fn build_view(projection: &str, generation: u64) -> String {
    format!("${projection}@{generation}")
}

/// The projection of a build's view; the name itself if the view is not a build.
pub(super) fn projection_of(view: &str) -> &str {
    let build = view.strip_prefix('$').and_then(|build| build.rsplit_once('@'));
    build.map_or(view, |(projection, _)| projection)
}

/// Whether a view is a build of exactly this projection, not of one whose name has this name as a
/// prefix.
pub(super) fn is_build_of(projection: &str, view: &str) -> bool {
    let of_projection = view.strip_prefix('$').and_then(|view| view.strip_prefix(projection));
    let generation = of_projection.and_then(|rest| rest.strip_prefix('@'));
    generation.is_some_and(|generation| generation.parse::<u64>().is_ok())
}

/// Drops all builds of a projection that its directory does not name: leftovers of earlier builds.
pub(super) fn drop_others(views: &dyn ViewStore, name: &str, directory: &Directory) -> Result<()> {
    let kept: Vec<_> = directory.builds().map(|build| build_view(name, build.generation)).collect();
    for view in views.list_views()? {
        if is_build_of(name, &view) && !kept.contains(&view) {
            views.drop_view(&view)?;
        }
    }
    Ok(())
}

pub(super) fn value_key(key: &ViewKey) -> Vec<u8> {
    [&[VALUE], key.as_bytes()].concat()
}

/// The key that [`value_key`] encoded; `None` if it is not a value's.
pub(super) fn parse_value_key(key: &[u8]) -> Option<ViewKey> {
    key.strip_prefix(&[VALUE]).map(ViewKey::stored)
}

/// The prefix of all values.
pub(super) fn value_prefix() -> Vec<u8> {
    vec![VALUE]
}

/// The prefix of the values whose keys have further parts after this key.
pub(super) fn prefix_under(key: &ViewKey) -> Vec<u8> {
    [&[VALUE], key.as_bytes(), &[END_OF_PART]].concat()
}

/// The prefix of the parked events of one stream, or of all streams.
pub(super) fn parked_prefix(stream: Option<&StreamId>) -> Vec<u8> {
    let mut prefix = vec![PARKED];
    if let Some(stream) = stream {
        // Ids contain no control characters, so an id with its final 0 is never a prefix of
        // another.
        prefix.extend_from_slice(stream.as_str().as_bytes());
        prefix.push(0);
    }
    prefix
}

pub(super) fn parked_key(stream: &StreamId, position: Position) -> Vec<u8> {
    with_position(parked_prefix(Some(stream)), position)
}

/// The stream of a key that [`parked_key`] encoded.
pub(super) fn parked_stream(key: &[u8]) -> Option<&str> {
    let rest = key.strip_prefix(&[PARKED])?;
    let (stream, _) = rest.split_at_checked(rest.len().checked_sub(1 + POSITION_LEN)?)?;
    str::from_utf8(stream).ok()
}

pub(super) fn skipped_prefix() -> Vec<u8> {
    vec![SKIPPED]
}

pub(super) fn skipped_key(position: Position) -> Vec<u8> {
    with_position(skipped_prefix(), position)
}

/// The position of a key that [`parked_key`] or [`skipped_key`] encoded.
pub(super) fn noted_position(key: &[u8]) -> Option<Position> {
    let is_note = [PARKED, SKIPPED].contains(key.first()?);
    let position = key.last_chunk().filter(|_| is_note)?;
    Position::new(u64::from_be_bytes(*position))
}

pub(super) fn discarded_prefix() -> Vec<u8> {
    vec![DISCARDED]
}

pub(super) fn discarded_key(position: Position) -> Vec<u8> {
    with_position(discarded_prefix(), position)
}

fn with_position(mut prefix: Vec<u8>, position: Position) -> Vec<u8> {
    prefix.extend_from_slice(&position.get().to_be_bytes());
    prefix
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with these builds, each given as generation and version.
    fn directory(
        serving: Option<(u64, u32)>,
        building: Option<(u64, u32)>,
        newest: u64,
    ) -> Directory {
        let build = |(generation, version)| Build { generation, version };
        let (serving, building) = (serving.map(build), building.map(build));
        Directory { serving, building, newest, ..Directory::default() }
    }

    #[test]
    fn start_plans_one_build_of_its_version() {
        use Target::{External, Reactor, View};
        let nothing = directory(None, None, 0);
        let serves_1 = directory(Some((4, 1)), None, 4);
        let shadow_2 = directory(Some((4, 1)), Some((5, 2)), 5);
        let cases = [
            // Nothing is stored: the first build serves at once.
            (&nothing, 1, View, directory(Some((1, 1)), None, 1)),
            (&nothing, 1, Reactor, directory(Some((1, 1)), None, 1)),
            // The version is the same: all builds continue, including a shadow build.
            (&serves_1, 1, View, serves_1.clone()),
            (&shadow_2, 2, View, shadow_2.clone()),
            // Another version: a shadow build, an emptied target, or the same position.
            (&serves_1, 2, View, directory(Some((4, 1)), Some((5, 2)), 5)),
            (&serves_1, 2, External, directory(Some((5, 2)), None, 5)),
            (&serves_1, 2, Reactor, directory(Some((4, 2)), None, 4)),
            // A shadow build of a version that is no longer wanted is dropped.
            (&shadow_2, 1, View, directory(Some((4, 1)), None, 5)),
            (&shadow_2, 3, View, directory(Some((4, 1)), Some((6, 3)), 6)),
        ];
        for (found, version, target, expected) in cases {
            assert_eq!(found.planned(version, target), expected, "{found:?} {version} {target:?}");
        }
    }
}
