//! A disk in memory and on the medium, and what a power cut may leave of it.
//!
//! Between two syncs a file system is free. It may have written any of the sectors that changed
//! since a file was last synced, in any order, and a file may have grown past sectors that were
//! never written, which then read as zeros. At most one sector is written partially, and then only
//! its beginning. Of the names that were created, changed and removed since their directory was
//! last synced, it may have written any; a rename happens completely or not at all, and a file that
//! was synced has its name. That is more than ext4 or XFS would do, and exactly what
//! docs/GUARANTEES.md assumes.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::shim::Event;
use crate::support::random::Random;

const SECTOR: usize = 512;
const PAGE: usize = 4096;

/// Which of the changes to the bytes of files since their last sync are on the medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Bytes {
    Synced,
    All,
    /// The first changes, the last of these torn.
    Torn,
    /// Any sectors.
    Sectors,
    /// Any pages.
    Pages,
}

/// Which of the changes to the names in directories since their last sync are on the medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Names {
    Synced,
    All,
    /// The first changes, as a journal keeps them.
    First,
    /// The newest change alone.
    Last,
    Any,
}

#[derive(Debug, Clone)]
struct Change {
    number: u64,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    Write { at: usize, data: Vec<u8> },
    Truncate { len: usize },
}

impl What {
    /// Applies the first `part` bytes of the change.
    fn apply(&self, file: &mut Vec<u8>, part: usize) {
        match self {
            Self::Write { at, data } => {
                let data = &data[..part.min(data.len())];
                if data.is_empty() {
                    return;
                }
                file.resize(file.len().max(at + data.len()), 0);
                file[*at..at + data.len()].copy_from_slice(data);
            }
            Self::Truncate { len } => file.resize(*len, 0),
        }
    }
}

#[derive(Debug, Clone)]
enum Node {
    File { durable: Vec<u8>, pending: Vec<Change> },
    Directory { now: Entries, durable: Entries },
}

type NodeId = usize;
type Entries = BTreeMap<OsString, NodeId>;

/// Names that change together: in which directory, which name, to what.
#[derive(Debug, Clone)]
struct Renaming {
    number: u64,
    edits: Vec<(NodeId, OsString, Option<NodeId>)>,
}

/// The files and directories that a power cut left; a directory is `None`.
pub(crate) type Image = BTreeMap<PathBuf, Option<Vec<u8>>>;

#[derive(Debug, Clone)]
pub(crate) struct Disk {
    root: PathBuf,
    nodes: Vec<Node>,
    /// The newest node of each inode number: numbers are reused.
    by_ino: HashMap<u64, NodeId>,
    names: Vec<Renaming>,
    /// For each sync in progress, the number of the first change after its start.
    syncing: HashMap<u64, u64>,
    next: u64,
}

const ROOT: NodeId = 0;

impl Disk {
    /// A disk with the contents of a directory, all of it on the medium.
    pub(crate) fn of(root: &Path) -> Self {
        let empty = Node::Directory { now: Entries::new(), durable: Entries::new() };
        let (nodes, by_ino) = (vec![empty], HashMap::new());
        let (names, syncing) = (Vec::new(), HashMap::new());
        let mut disk = Self { root: root.to_owned(), nodes, by_ino, names, syncing, next: 0 };
        disk.by_ino.insert(fs::metadata(root).unwrap().ino(), ROOT);
        disk.add(root, ROOT);
        disk
    }

    fn add(&mut self, path: &Path, directory: NodeId) {
        for entry in fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            let id = if metadata.is_dir() {
                let id = self.node(metadata.ino(), true);
                self.add(&entry.path(), id);
                id
            } else {
                let id = self.node(metadata.ino(), false);
                let bytes = fs::read(entry.path()).unwrap();
                self.nodes[id] = Node::File { durable: bytes, pending: Vec::new() };
                id
            };
            let Node::Directory { now, durable } = &mut self.nodes[directory] else { panic!() };
            now.insert(entry.file_name(), id);
            durable.insert(entry.file_name(), id);
        }
    }

    fn node(&mut self, ino: u64, is_directory: bool) -> NodeId {
        let id = self.nodes.len();
        self.nodes.push(if is_directory {
            Node::Directory { now: Entries::new(), durable: Entries::new() }
        } else {
            Node::File { durable: Vec::new(), pending: Vec::new() }
        });
        self.by_ino.insert(ino, id);
        id
    }

    /// Applies the next event.
    pub(crate) fn apply(&mut self, event: &Event) {
        self.next += 1;
        match event {
            Event::Create { path, ino } => {
                let id = self.node(*ino, false);
                self.rename(vec![(path, Some(id))]);
            }
            Event::Mkdir { path, ino } => {
                let id = self.node(*ino, true);
                self.rename(vec![(path, Some(id))]);
            }
            Event::Unlink { path } | Event::Rmdir { path } => self.rename(vec![(path, None)]),
            Event::Rename { from, to } => {
                let id = self.find(from);
                self.rename(vec![(from, None), (to, Some(id))]);
            }
            Event::Link { from, to } => {
                let id = self.find(from);
                self.rename(vec![(to, Some(id))]);
            }
            Event::Write { ino, at, data } => {
                let at = usize::try_from(*at).unwrap();
                self.change(*ino, What::Write { at, data: data.clone() });
            }
            Event::Truncate { ino, len } => {
                let len = usize::try_from(*len).unwrap();
                self.change(*ino, What::Truncate { len });
            }
            Event::BeginSync { number } => drop(self.syncing.insert(*number, self.next)),
            Event::EndSync { ino, number, is_ok } => {
                let before = self.syncing.remove(number).unwrap();
                self.synced(self.by_ino[ino], before, *is_ok);
            }
            Event::Noted(_) => {}
        }
    }

    fn change(&mut self, ino: u64, what: What) {
        let number = self.next;
        match &mut self.nodes[self.by_ino[&ino]] {
            Node::File { pending, .. } => pending.push(Change { number, what }),
            Node::Directory { .. } => panic!("a directory was written"),
        }
    }

    fn rename(&mut self, edits: Vec<(&PathBuf, Option<NodeId>)>) {
        let number = self.next;
        let edits: Vec<_> = edits
            .into_iter()
            .map(|(path, id)| {
                let directory = self.find(path.parent().unwrap());
                (directory, path.file_name().unwrap().to_owned(), id)
            })
            .collect();
        for (directory, name, id) in &edits {
            edit(self.entries(*directory).0, name, *id);
        }
        self.names.push(Renaming { number, edits });
    }

    fn entries(&mut self, id: NodeId) -> (&mut Entries, &mut Entries) {
        match &mut self.nodes[id] {
            Node::Directory { now, durable } => (now, durable),
            Node::File { .. } => panic!("a file is no directory"),
        }
    }

    fn find(&self, path: &Path) -> NodeId {
        let below = path.strip_prefix(&self.root).unwrap();
        below.iter().fold(ROOT, |id, name| match &self.nodes[id] {
            Node::Directory { now, .. } => now[name],
            Node::File { .. } => panic!("{} is below a file", path.display()),
        })
    }

    /// A sync ended. If it failed, its data will never be written: the file system takes it for
    /// clean.
    fn synced(&mut self, id: NodeId, before: u64, is_ok: bool) {
        if let Node::File { durable, pending } = &mut self.nodes[id] {
            let done = pending.iter().take_while(|change| change.number < before).count();
            for change in pending.drain(..done).filter(|_| is_ok) {
                change.what.apply(durable, usize::MAX);
            }
        }
        if is_ok {
            self.settle(id, before);
        }
    }

    /// The names in a synced directory, or those of a synced file, are on the medium, along with
    /// earlier changes to the same names.
    fn settle(&mut self, id: NodeId, before: u64) {
        let mut settled: Vec<(NodeId, OsString)> = Vec::new();
        let mut is_settled = vec![false; self.names.len()];
        for (index, renaming) in self.names.iter().enumerate().rev() {
            let is_about = |(directory, name, node): &(NodeId, OsString, Option<NodeId>)| {
                let is_synced = *directory == id || *node == Some(id);
                let is_before =
                    settled.iter().any(|settled| (settled.0, &settled.1) == (*directory, name));
                (is_synced && renaming.number < before) || is_before
            };
            if renaming.edits.iter().any(is_about) {
                settled.extend(renaming.edits.iter().map(|(d, name, _)| (*d, name.clone())));
                is_settled[index] = true;
            }
        }
        for (renaming, is_settled) in std::mem::take(&mut self.names).into_iter().zip(is_settled) {
            if is_settled {
                for (directory, name, node) in &renaming.edits {
                    edit(self.entries(*directory).1, name, *node);
                }
            } else {
                self.names.push(renaming);
            }
        }
    }

    /// The state after a power cut at this moment.
    pub(crate) fn cut(&self, bytes: Bytes, names: Names, random: &mut Random) -> Image {
        let first = random.below(self.names.len() + 1);
        let percent = [10, 50, 90][random.below(3)];
        let mut directories: HashMap<NodeId, Entries> = HashMap::new();
        for (id, node) in self.nodes.iter().enumerate() {
            if let Node::Directory { durable, .. } = node {
                directories.insert(id, durable.clone());
            }
        }
        for (index, renaming) in self.names.iter().enumerate() {
            let is_there = match names {
                Names::Synced => false,
                Names::All => true,
                Names::First => index < first,
                Names::Last => index + 1 == self.names.len(),
                Names::Any => random.is_one_of(percent),
            };
            if is_there {
                for (directory, name, id) in &renaming.edits {
                    edit(directories.get_mut(directory).unwrap(), name, *id);
                }
            }
        }
        let mut image = Image::new();
        let mut left = vec![(ROOT, PathBuf::new())];
        // At most one sector of the whole disk may be half written.
        let mut tears = random.is_one_of(30);
        while let Some((directory, path)) = left.pop() {
            for (name, id) in &directories[&directory] {
                let path = path.join(name);
                match &self.nodes[*id] {
                    Node::Directory { .. } => {
                        image.insert(path.clone(), None);
                        left.push((*id, path));
                    }
                    Node::File { durable, pending } => {
                        let found = content(durable, pending, bytes, random, &mut tears);
                        image.insert(path, Some(found));
                    }
                }
            }
        }
        image
    }
}

fn edit(entries: &mut Entries, name: &OsString, id: Option<NodeId>) {
    match id {
        Some(id) => drop(entries.insert(name.clone(), id)),
        None => drop(entries.remove(name)),
    }
}

fn apply(changes: &[Change], file: &mut Vec<u8>) {
    for change in changes {
        change.what.apply(file, usize::MAX);
    }
}

fn content(
    durable: &[u8],
    pending: &[Change],
    bytes: Bytes,
    random: &mut Random,
    tears: &mut bool,
) -> Vec<u8> {
    let mut found = durable.to_vec();
    if pending.is_empty() {
        return found;
    }
    let grain = match bytes {
        Bytes::Synced => return found,
        Bytes::All => {
            apply(pending, &mut found);
            return found;
        }
        Bytes::Torn => {
            let count = random.below(pending.len() + 1);
            apply(&pending[..count], &mut found);
            if let Some(Change { what: what @ What::Write { data, .. }, .. }) = pending.get(count) {
                what.apply(&mut found, random.below(data.len()));
            }
            return found;
        }
        Bytes::Sectors => SECTOR,
        Bytes::Pages => PAGE,
    };
    let mut new = durable.to_vec();
    apply(pending, &mut new);
    if new.len() < durable.len() && random.is_one_of(50) {
        // The truncation is not on the medium yet.
        new.extend_from_slice(&durable[new.len()..]);
    }
    // The file has grown as far as it was written, or to the end of an earlier sector.
    let mut len = new.len();
    if random.is_one_of(50) && len > durable.len() {
        let grains = (len - durable.len()) / grain;
        len = (durable.len() + random.below(grains + 1) * grain).min(len);
    }
    found.resize(len, 0);
    let percent = [10, 50, 90, 97][random.below(4)];
    for from in (0..len).step_by(grain) {
        let to = (from + grain).min(len);
        if found[from..to] == new[from..to] || !random.is_one_of(percent) {
            continue;
        }
        let end = if *tears && random.is_one_of(20) {
            *tears = false;
            from + random.below(SECTOR.min(to - from))
        } else {
            to
        };
        found[from..end].copy_from_slice(&new[from..end]);
    }
    found
}

/// Writes an image to a path that does not exist yet.
pub(crate) fn write_image(image: &Image, root: &Path) {
    for (path, found) in image {
        match found {
            None => fs::create_dir(root.join(path)).unwrap(),
            Some(bytes) => fs::write(root.join(path), bytes).unwrap(),
        }
    }
}

/// Reads the contents of a directory.
pub(crate) fn read_image(root: &Path) -> Image {
    Disk::of(root).cut(Bytes::Synced, Names::Synced, &mut Random(0))
}

/// Observed: a sync of a manifest by RocksDB overlapped with one by annals that began earlier and
/// ended later.
#[test]
fn concurrent_syncs_each_cover_earlier_writes() {
    let directory = tempfile::tempdir().unwrap();
    let mut disk = Disk::of(directory.path());
    let ino = u64::MAX;
    let events = [
        Event::Create { path: directory.path().join("file"), ino },
        Event::BeginSync { number: 1 },
        Event::Write { ino, at: 0, data: b"first".to_vec() },
        Event::BeginSync { number: 2 },
        Event::Write { ino, at: 5, data: b"second".to_vec() },
        Event::EndSync { ino, number: 2, is_ok: true },
    ];
    for event in &events {
        disk.apply(event);
    }
    let synced = |disk: &Disk| disk.cut(Bytes::Synced, Names::Synced, &mut Random(0));
    let expected = Image::from([(PathBuf::from("file"), Some(b"first".to_vec()))]);
    assert_eq!(synced(&disk), expected);
    disk.apply(&Event::EndSync { ino, number: 1, is_ok: true });
    assert_eq!(synced(&disk), expected);
}
