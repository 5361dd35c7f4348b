//! Erasure (G17): secrets that were found in the files of a store are found nowhere afterwards, in
//! no byte of its directory and in no row of its database, while the store is still open.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::path::Path;

use annals::prelude::*;
use annals::{
    Checkpoint, Compression, Deletion, Durability, ScavengeOptions, Snapshot, SnapshotStore,
    StoreOptions, Timestamp, ViewChange, ViewCommit, ViewStore,
};
use rocksdb::{DB, IteratorMode, Options};

use crate::support::files::contents;
use crate::support::place;
use crate::support::random::Random;

const SECRET_LEN: usize = 16;

/// Where secrets are hidden, and the events with them.
struct Hidden {
    random: Random,
    /// Each secret, and whether it must be found in the bytes of a file: engines compress keys.
    secrets: Vec<(Vec<u8>, bool)>,
    /// The events that hold secrets, and one that holds none after each.
    with: Vec<(StreamId, EventId)>,
    without: Vec<(StreamId, EventId)>,
}

impl Hidden {
    fn secret(&mut self, is_found: bool) -> String {
        let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let letter = |_| char::from(letters[self.random.below(letters.len())]);
        let secret: String = (0..SECRET_LEN).map(letter).collect();
        self.secrets.push((secret.clone().into_bytes(), is_found));
        secret
    }

    /// Bytes that do not compress, so that a search finds what is hidden between them.
    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let words = std::iter::repeat_with(|| self.random.next().to_be_bytes());
        words.flatten().take(len).collect()
    }

    /// A payload with secrets at these offsets.
    fn payload(&mut self, len: usize, offsets: &[usize]) -> Vec<u8> {
        let mut payload = self.bytes(len);
        for offset in offsets {
            let secret = self.secret(true);
            payload[*offset..offset + SECRET_LEN].copy_from_slice(secret.as_bytes());
        }
        payload
    }

    /// Events for a stream: of different lengths, with secrets in payloads, metadata and tags, and
    /// as many without.
    fn events(&mut self, stream: &StreamId) -> Vec<NewEvent> {
        let mut events = Vec::new();
        let large: &[usize] = &[0, 17, 4_090, 32_760, 65_530, 131_069, 299_984];
        for (len, offsets) in [(SECRET_LEN, &[0][..]), (2_000, &[0, 31, 1_984]), (300_000, large)] {
            let payload = self.payload(len, offsets);
            let event = NewEvent::bytes("Said", payload).unwrap();
            let event = event.with_metadata("by", self.secret(true));
            let event = event.with_tag(format!("a:{}", self.secret(false)));
            self.with.push((stream.clone(), event.id()));
            events.push(event.with_tag(format!("z:{}", self.secret(false))).with_tag("kept"));
            let other = self.bytes(700);
            let other = NewEvent::bytes("Said", other).unwrap().with_tag("m:other");
            self.without.push((stream.clone(), other.id()));
            events.push(other);
        }
        events
    }

    /// Appends in one frame, in a frame for each event, and to two streams at once.
    fn append(&mut self, store: &Store, prefix: &str) {
        let [one, each, two] =
            ["one", "each", "two"].map(|name| StreamId::new(format!("{prefix}{name}-1")).unwrap());
        let events = self.events(&one);
        store.append(&one, ExpectedVersion::Any, events).unwrap();
        for event in self.events(&each) {
            store.append(&each, ExpectedVersion::Any, [event]).unwrap();
        }
        let (first, second) = (self.events(&two), self.events(&one));
        let append = Append::new().to(&two, ExpectedVersion::Any, first);
        store.submit(append.to(&one, ExpectedVersion::Any, second)).unwrap();
        let last = store.read_stream(&one).backward().first().unwrap().unwrap();
        let state = self.payload(5_000, &[0, 2_500]);
        let snapshot = Snapshot {
            kind: "kind".to_owned(),
            stream: one,
            version: last.version(),
            event_id: last.id(),
            schema_version: 1,
            taken_at: Timestamp::from_micros(5),
            state,
        };
        store.save_snapshot(&snapshot, NonZeroUsize::MAX).unwrap();
    }

    /// The secrets that are in a file, and those that are in a row, each with its place.
    fn found(&self, path: &Path) -> [BTreeSet<(usize, String)>; 2] {
        let files = contents(path).unwrap();
        let files = files.iter().map(|(name, bytes)| (name.display().to_string(), bytes.clone()));
        [self.found_in(files), self.found_in(rows(path).into_iter())]
    }

    fn found_in(
        &self,
        places: impl Iterator<Item = (String, Vec<u8>)>,
    ) -> BTreeSet<(usize, String)> {
        let numbered = self.secrets.iter().enumerate();
        let numbers: HashMap<_, _> = numbered.map(|(n, (secret, _))| (&secret[..], n)).collect();
        let mut found = BTreeSet::new();
        for (name, bytes) in places {
            for window in bytes.windows(SECRET_LEN) {
                found.extend(numbers.get(window).map(|secret| (*secret, name.clone())));
            }
        }
        found
    }

    /// The positive control: each secret is found.
    fn assert_found(&self, path: &Path) {
        let [in_files, in_rows] = self.found(path);
        for (number, (_, is_found)) in self.secrets.iter().enumerate() {
            let is_in =
                |found: &BTreeSet<(usize, String)>| found.iter().any(|(it, _)| *it == number);
            assert!(is_in(&in_rows), "secret {number} is in no row");
            assert!(!is_found || is_in(&in_files), "secret {number} is in no file");
        }
    }

    fn assert_gone(&self, path: &Path) {
        let left = self.found(path).map(|found| {
            let left = found.into_iter().filter(|(number, name)| {
                // RocksDB's manifest names the first and the last key of table files, also of those
                // that are gone, until the database is opened again; and keys hold tags.
                self.secrets[*number].1 || !name.starts_with("db/MANIFEST-")
            });
            left.take(10).collect::<Vec<_>>()
        });
        assert_eq!(left, [vec![], vec![]], "of {}", self.secrets.len());
    }

    fn assert_gone_after_opening(&self, path: &Path) {
        Store::open(path).unwrap().close().unwrap();
        let [in_files, in_rows] = self.found(path);
        assert!(in_files.is_empty() && in_rows.is_empty(), "{in_files:?} {in_rows:?}");
    }
}

/// Key and value of every row of the database of an open store, with the name of its family.
fn rows(path: &Path) -> Vec<(String, Vec<u8>)> {
    let (mut options, path) = (Options::default(), path.join("db"));
    // As the store has it; without it, opening a database that tracks its logs crashes.
    options.set_track_and_verify_wals_in_manifest(true);
    let families = DB::list_cf(&options, &path).unwrap();
    let db = DB::open_cf_for_read_only(&options, &path, &families, false).unwrap();
    let mut rows = Vec::new();
    for family in families {
        let handle = db.cf_handle(&family).unwrap();
        for row in db.iterator_cf(handle, IteratorMode::Start) {
            let (key, value) = row.unwrap();
            rows.push((family.clone(), [&key[..], &value].concat()));
        }
    }
    rows
}

fn options(compression: Compression) -> StoreOptions {
    let options = Store::options().durability(Durability::Buffered).disk_reserve_bytes(0);
    options.compression(compression)
}

/// A store with secrets in old packs and table files, in the write-ahead log and the open pack.
fn store_with_secrets(path: &Path, compression: Compression) -> (Store, Hidden) {
    let random = Random::from_entropy();
    let mut hidden = Hidden { random, secrets: vec![], with: vec![], without: vec![] };
    let store = options(compression).open(path).unwrap();
    hidden.append(&store, "old");
    store.close().unwrap();
    // Small memtables: what is appended now is in several files of the same keys.
    let store = options(compression).memtable_bytes(1).open(path).unwrap();
    hidden.append(&store, "old");
    store.close().unwrap();
    let store = options(compression).open(path).unwrap();
    hidden.append(&store, "new");
    hidden.append(&store, "old");
    hidden.assert_found(path);
    (store, hidden)
}

fn ids(store: &Store) -> Vec<EventId> {
    store.read_log().into_iter().map(|event| event.unwrap().id()).collect()
}

fn each_compression(check: impl Fn(&Path, Compression)) {
    for compression in [Compression::Fast, Compression::Balanced, Compression::Small] {
        let (_directory, path) = place();
        check(&path, compression);
    }
}

#[test]
fn redacted_secrets_are_in_no_byte_of_the_directory() {
    each_compression(|path, compression| {
        let (store, hidden) = store_with_secrets(path, compression);
        let before: Vec<_> = store.read_log().into_iter().map(Result::unwrap).collect();
        for event in &before {
            if hidden.with.contains(&(event.stream().clone(), event.id())) {
                let tags = event.tags().iter().filter(|tag| tag.contains(':'));
                let deletion = Deletion::redact(event.position(), event.id());
                let deletion = deletion.removing_tags(tags).clearing_snapshots();
                store.delete(&deletion).unwrap();
            }
        }
        hidden.assert_gone(path);
        let after = store.read_log().into_iter().map(Result::unwrap);
        for (old, new) in before.iter().zip(after) {
            assert_eq!((old.position(), old.id()), (new.position(), new.id()));
            if hidden.without.contains(&(old.stream().clone(), old.id())) {
                assert_eq!(*old, new);
            }
        }
        assert_eq!(store.read_log().tag("kept").into_iter().count(), hidden.with.len());
        assert!(store.verify(|_| {}).unwrap().is_sound());
        store.close().unwrap();
        hidden.assert_gone_after_opening(path);
    });
}

#[test]
fn single_redaction_erases_from_the_open_pack() {
    let (_directory, path) = place();
    let random = Random::from_entropy();
    let mut hidden = Hidden { random, secrets: vec![], with: vec![], without: vec![] };
    let store = options(Compression::Balanced).open(&path).unwrap();
    let payload = hidden.payload(100, &[40]);
    let event = NewEvent::bytes("Said", payload).unwrap();
    let appended = store.append("a", ExpectedVersion::Any, [event.clone()]).unwrap();
    hidden.assert_found(&path);
    store.delete(&Deletion::redact(appended.last_position(), event.id())).unwrap();
    hidden.assert_gone(&path);
}

#[test]
fn secrets_of_deleted_streams_are_gone_after_a_scavenge() {
    each_compression(|path, compression| {
        let (store, hidden) = store_with_secrets(path, compression);
        let kept = NewEvent::json("Kept", &1).unwrap();
        store.append("kept-1", ExpectedVersion::Any, [kept.clone()]).unwrap();
        for (stream, _) in &hidden.with {
            store.delete(&Deletion::delete(stream)).unwrap();
        }
        let done = store.scavenge(&ScavengeOptions::new().unthrottled(), |_| {}).unwrap();
        assert!(!done.is_incomplete);
        hidden.assert_gone(path);
        assert!(ids(&store).contains(&kept.id()));
        assert!(store.verify(|_| {}).unwrap().is_sound());
        store.close().unwrap();
        hidden.assert_gone_after_opening(path);
    });
}

#[test]
fn secrets_of_changed_views_are_gone_after_a_scavenge_of_views() {
    each_compression(|path, compression| {
        let random = Random::from_entropy();
        let mut hidden = Hidden { random, secrets: vec![], with: vec![], without: vec![] };
        let store = options(compression).open(path).unwrap();
        let event = NewEvent::json("Said", &1).unwrap();
        let position = store.append("a", ExpectedVersion::Any, [event]).unwrap().last_position();
        let mut known: HashMap<&str, Checkpoint> = HashMap::new();
        let mut commit = |store: &Store, view: &'static str, changes, state| {
            let next = Checkpoint { position: Some(position), state };
            let expected = known.insert(view, next.clone());
            let commit = ViewCommit {
                view: view.to_owned(),
                expected,
                changes,
                checkpoint: Some(next),
                follows_other_log: false,
            };
            store.commit_view(&commit).unwrap();
        };
        for view in ["changed", "dropped", "kept"] {
            let put = |key| {
                let value = hidden.payload(3_000, &[0, 1_500, 2_984]);
                ViewChange::Put { key: vec![key], value }
            };
            let values = (0..20).map(put).collect();
            let state = hidden.payload(100, &[50]);
            commit(&store, view, values, state);
        }
        // They are in table files now.
        store.close().unwrap();
        let store = options(compression).open(path).unwrap();
        hidden.assert_found(path);
        let other = vec![ViewChange::Clear, ViewChange::Put { key: vec![1], value: vec![1] }];
        commit(&store, "changed", other.clone(), vec![1]);
        store.drop_view("dropped").unwrap();
        commit(&store, "kept", other, vec![1]);
        store.scavenge(&ScavengeOptions::new(), |_| {}).unwrap();
        let [in_files, _] = hidden.found(path);
        assert!(!in_files.is_empty(), "only the next one removes them");
        let done = store.scavenge(&ScavengeOptions::new().and_views(), |_| {}).unwrap();
        assert!(!done.is_incomplete);
        hidden.assert_gone(path);
        assert_eq!(store.view_value("changed", &[1]).unwrap(), Some(vec![1]));
        assert!(store.verify(|_| {}).unwrap().is_sound());
    });
}
