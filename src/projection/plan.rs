//! Which builds of a projection there should be: the plan of a start or a rebuild, written to the
//! directory.

use super::builds::{Build, Directory, build_view, drop_others};
use super::discarded::{discarded_events, mend};
use super::handle::ProjectionHandle;
use super::status::ProjectionError;
use super::{StartFrom, Target};
use crate::model::Position;

impl ProjectionHandle {
    /// Changes the directory, and drops the builds that it no longer names.
    pub(super) fn redirect(
        &self,
        plan: impl FnOnce(&Directory) -> Directory,
    ) -> Result<Directory, ProjectionError> {
        let _alone = self.job.shared.directory();
        let views = &*self.job.views;
        let found = Directory::read(views, self.name())?;
        let mut planned = if found == Directory::default() {
            plan(&Directory { after: self.after()?, ..Directory::default() })
        } else {
            plan(&found)
        };
        self.define(&found, &mut planned)?;
        let discarded = discarded_events(views, self.name(), usize::MAX)?;
        if planned != found {
            // If a directory was lost, old builds may have the names of the next ones.
            for build in planned.builds().filter(|build| build.generation > found.newest) {
                views.drop_view(&build_view(self.name(), build.generation))?;
            }
            found.replace(views, self.name(), &planned)?;
        }
        drop_others(views, self.name(), &planned)?;
        self.job.shared.change(|state| state.discarded.refresh(discarded));
        Ok(planned)
    }

    /// Records which events each of our builds is made of, unless that changed under a build.
    fn define(&self, found: &Directory, planned: &mut Directory) -> Result<(), ProjectionError> {
        let name = || self.name().to_owned();
        let handler = &self.job.handler;
        handler.check().map_err(|cause| ProjectionError::Upcasters { name: name(), cause })?;
        let definition = handler.definition();
        let definition = definition
            .map_err(|cause| ProjectionError::Failed { name: name(), failure: cause.into() })?;
        for build in planned.builds().filter(|build| build.version == self.version) {
            let is_known = found.builds().any(|known| known == build);
            let recorded = found.definitions.get(&build.generation).filter(|_| is_known);
            let changes = recorded.map_or(Vec::new(), |before| before.changes(&definition));
            if !changes.is_empty() {
                let version = self.version;
                return Err(ProjectionError::DefinitionChanged { name: name(), version, changes });
            }
            planned.definitions.insert(build.generation, definition.clone());
        }
        *planned = std::mem::take(planned).with_definitions_of_builds();
        Ok(())
    }

    /// Makes what is kept under its name readable again, if it is damaged.
    pub(super) fn mend(&self) -> Result<(), ProjectionError> {
        let _alone = self.job.shared.directory();
        Ok(mend(&*self.job.views, self.name())?)
    }

    /// The position after which a projection begins that never ran before.
    fn after(&self) -> Result<Option<u64>, ProjectionError> {
        let head = self.job.events.head()?;
        match self.job.options.start_from {
            StartFrom::Beginning => Ok(None),
            StartFrom::Now => Ok(head.map(Position::get)),
            StartFrom::After(after) if Some(after) <= head => Ok(Some(after.get())),
            StartFrom::After(after) => {
                Err(ProjectionError::StartAhead { name: self.name().to_owned(), after, head })
            }
        }
    }

    /// The directory that is needed so that a build of our version is made or kept up to date.
    pub(super) fn plan(&self, found: &Directory) -> Directory {
        let is_ours = |build: &Build| build.version == self.version;
        let building = found.building.filter(is_ours);
        match (found.serving, building) {
            (Some(serving), building) if is_ours(&serving) => {
                Directory { building, ..found.clone() }
            }
            (Some(_), Some(building)) => Directory { building: Some(building), ..found.clone() },
            (Some(_), None) if self.job.target == Target::View => {
                let build = found.next_build(self.version);
                let newest = build.generation;
                Directory { building: Some(build), newest, ..found.clone() }
            }
            // Side effects are not repeated: the new version continues where the old one was.
            (Some(serving), _) if self.job.target == Target::Reactor => {
                let serving = Build { version: self.version, ..serving };
                Directory { serving: Some(serving), building: None, ..found.clone() }
            }
            // Nothing serves yet, or the target takes no shadow build.
            _ => {
                let build = found.next_build(self.version);
                let newest = build.generation;
                Directory { serving: Some(build), building: None, newest, ..found.clone() }
            }
        }
    }
}
