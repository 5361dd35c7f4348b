//! A [`ViewStore`] that counts reads, and fails writes after a set number of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use annals::{Checkpoint, Error, MemoryStore, Result, ViewCommit, ViewPage, ViewScan, ViewStore};

#[derive(Clone)]
pub(crate) struct Watched {
    views: MemoryStore,
    /// The number of pages that were read.
    pub(crate) pages: Arc<AtomicUsize>,
    /// The number of further commits and drops that succeed.
    pub(crate) writes_left: Arc<AtomicUsize>,
    /// Whether the disk is full.
    pub(crate) is_full: Arc<AtomicBool>,
    /// Whether it is full for writes that name the builds of a projection.
    pub(crate) is_full_for_directories: Arc<AtomicBool>,
}

impl Watched {
    pub(crate) fn new(views: &MemoryStore) -> Self {
        Self {
            views: views.clone(),
            pages: Arc::default(),
            writes_left: Arc::new(AtomicUsize::new(usize::MAX)),
            is_full: Arc::default(),
            is_full_for_directories: Arc::default(),
        }
    }

    pub(crate) fn fail_after(&self, writes: usize) {
        self.writes_left.store(writes, Ordering::SeqCst);
    }

    fn write(&self, view: &str) -> Result<()> {
        let is_full_here =
            self.is_full_for_directories.load(Ordering::SeqCst) && !view.contains('@');
        if is_full_here || self.is_full.load(Ordering::SeqCst) {
            return Err(Error::DiskFull { path: "store".into(), free: 1, reserve: 2 });
        }
        let one = |left: usize| left.checked_sub(1);
        let written = self.writes_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one);
        written.map(drop).map_err(|_| Error::ReadOnly)
    }
}

impl ViewStore for Watched {
    fn commit_view(&self, commit: &ViewCommit) -> Result<()> {
        self.write(&commit.view)?;
        self.views.commit_view(commit)
    }

    fn checkpoint(&self, view: &str) -> Result<Option<Checkpoint>> {
        self.views.checkpoint(view)
    }

    fn view_value(&self, view: &str, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.views.view_value(view, key)
    }

    fn scan_view(&self, scan: &ViewScan) -> Result<ViewPage> {
        self.pages.fetch_add(1, Ordering::SeqCst);
        self.views.scan_view(scan)
    }

    fn list_views(&self) -> Result<Vec<String>> {
        self.views.list_views()
    }

    fn drop_view(&self, view: &str) -> Result<()> {
        self.write(view)?;
        self.views.drop_view(view)
    }

    fn view_handle(&self) -> Arc<dyn ViewStore> {
        Arc::new(self.clone())
    }
}
