//! Imports of any input: it is accepted or refused at a line. The target removes refused lines one
//! after the other, and imports the rest again each time; then the store holds the same events as
//! one import of the rest alone, and an export imports to the same events. An export with positions
//! builds the same store, and a changed one builds a sound store or none.

use annals::prelude::*;
use annals::{Deletion, Error, ImportOptions, Version};
use tempfile::TempDir;

use super::template;
use crate::input::Input;

/// More lines find no more.
const LINES_MAX: usize = 24;

pub fn imports(data: &[u8]) {
    let mut input = Input::new(data);
    let import = ImportOptions::default().clamp_times(input.flag());
    let by_way_of_an_export = input.flag();
    let mut lines = lines(&mut input);
    let (_one, store) = new();
    let imported = loop {
        let before = store.head().unwrap();
        match store.import(&*lines.join(&b'\n'), import, |_| {}) {
            Ok(imported) => break imported,
            Err(Error::ImportLine { line, lines_kept, cause }) => {
                assert!(line > lines_kept, "line {line}, but {lines_kept} were kept: {cause}");
                assert!(store.head().unwrap() >= before);
                lines.remove(usize::try_from(line - 1).unwrap());
            }
            Err(error) => panic!("{error}"),
        }
    };
    let text = lines.join(&b'\n');
    let log = log(&store);
    assert_eq!(imported.added + imported.already_there, log.len() as u64);
    let again = store.import(&*text, import, |_| {}).unwrap();
    assert_eq!((again.added, again.already_there), (0, log.len() as u64));
    assert!(store.verify(|_| {}).unwrap().is_sound());
    // In one import, into a new store.
    let (_two, other) = new();
    other.import(&*text, import, |_| {}).unwrap();
    assert_eq!(self::log(&other), log);
    if !by_way_of_an_export {
        return;
    }
    let mut exported = Vec::new();
    store.export(&mut exported, |_| {}).unwrap();
    let (_three, other) = new();
    other.import(&*exported, ImportOptions::default(), |_| {}).unwrap();
    assert_eq!(self::log(&other), log);
    with_positions(&store, data);
}

/// Deletes a part of the store, and builds it from its export with positions; then from a changed
/// one.
fn with_positions(store: &Store, data: &[u8]) {
    let streams: Vec<_> = store.streams().into_iter().map(Result::unwrap).collect();
    for (number, stream) in streams.iter().enumerate() {
        let deletion = match number % 3 {
            0 => Deletion::truncate(&stream.id, Version::new(2).unwrap()),
            1 => Deletion::delete(&stream.id),
            _ => Deletion::tombstone(&stream.id),
        };
        store.delete(&deletion).unwrap();
    }
    let mut lines = Vec::new();
    store.export_with_positions(&mut lines, |_| {}).unwrap();
    let (directory, _) = template::empty();
    let path = directory.path().join("built");
    template::options().import_with_positions(&path, &*lines, |_| {}).unwrap();
    assert_eq!(log(&template::options().open(path).unwrap()), log(store));

    let seed = data
        .iter()
        .fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    let mut all: Vec<_> =
        lines.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    if all.is_empty() {
        return;
    }
    let at = seed / 8 % all.len();
    match seed % 8 {
        0 => drop(all.remove(at)),
        1 => all.swap(at, 0),
        2 => all.truncate(at),
        _ => {
            let line = &mut all[at];
            let place = seed / 97 % line.len();
            line[place] = b"0129\"{}:,-az"[seed / 7 % 12];
        }
    }
    let path = directory.path().join("changed");
    match template::options().import_with_positions(&path, &*all.concat(), |_| {}) {
        Ok(_) => {
            let store = template::options().open(&path).unwrap();
            assert!(store.verify(|_| {}).unwrap().is_sound());
            let one_more = NewEvent::json("Changed", &1).unwrap();
            let at_end = store.read_log().last().unwrap().map(|last| last.recorded_at());
            let one_more = at_end.map_or(one_more.clone(), |time| one_more.with_recorded_at(time));
            store.append("checked", ExpectedVersion::Any, [one_more]).unwrap();
        }
        Err(Error::ImportLine { lines_kept: 0, .. }) => assert!(!path.exists()),
        Err(error) => panic!("{error}"),
    }
}

fn new() -> (TempDir, Store) {
    let (directory, path) = template::empty();
    (directory, template::options().open(path).unwrap())
}

fn log(store: &Store) -> Vec<RecordedEvent> {
    store.read_log().into_iter().map(Result::unwrap).collect()
}

/// Lines, most of which are valid.
fn lines(input: &mut Input<'_>) -> Vec<Vec<u8>> {
    let mut lines = Vec::new();
    while !input.is_empty() && lines.len() < LINES_MAX {
        match input.byte() {
            0..8 => lines.push(Vec::new()),
            8..32 => {
                lines.push(input.piece().iter().copied().filter(|byte| *byte != b'\n').collect())
            }
            _ => lines.push(line(input).into_bytes()),
        }
    }
    lines
}

fn line(input: &mut Input<'_>) -> String {
    let stream = input.of(&["a-1", "a-1", "b", "ä", "$no"]);
    let second = input.byte() % 64;
    let time = format!("2011-10-01T00:38:{second:02}{}Z", input.of(&["", ".5", ".0000001"]));
    let commit = input.of(&["", "", ",\"commit\":1", ",\"commit\":2", ",\"commit\":\"c\""]);
    let id = input.of(&["", "", "", ",\"id\":\"01890a5d-ac96-774b-bcce-b302099a8057\""]);
    let more =
        input.of(&["", "", "", ",\"tags\":[\"t\"]", ",\"metadata\":{\"k\":\"v\"}", ",\"x\":1"]);
    let data = input.of(&[
        "\"data\":1",
        "\"data\": [ 1.50 ] ",
        "\"data\":null",
        "\"data_base64\":\"/w==\"",
        "\"data_base64\":\"?\"",
    ]);
    let end = input.of(&["", "", "", "\r", " ", "x"]);
    format!(
        "{{\"stream\":\"{stream}\",\"type\":\"T\",\"time\":\"{time}\"{commit}{id}{more},{data}}}{end}"
    )
}
