//! The index of a store on disk (G16): it is built for earlier events, follows the options, is
//! verified and rebuilt. The rules for queries and conditions are in the conformance suites.

use std::path::Path;
use std::time::{Duration, Instant};

use annals::prelude::*;
use annals::{Append, Error, Location, Position, Query, QueryItem, Store};

use crate::support::{copy, database, fingerprint, place, quick};

/// Event `number` of a history with a hot tag, a tag of every seventh event and a rare one.
fn event(number: u64) -> NewEvent {
    let name = if number.is_multiple_of(3) { "Third" } else { "Other" };
    let event = NewEvent::json(name, &number).unwrap().with_tag("all");
    let event = if number.is_multiple_of(7) { event.with_tag("seventh") } else { event };
    if number == 500 { event.with_tag("rare") } else { event }
}

fn append(store: &Store, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        let stream = format!("{}-{}", ["a", "b"][usize::from(number % 2 == 0)], number % 10);
        store.append(stream, ExpectedVersion::Any, [event(number)]).unwrap();
    }
}

fn found(store: &Store, query: impl Into<Query>) -> Vec<u64> {
    let events = store.read_log().query(query).into_iter();
    events.map(|event| event.unwrap().position().get()).collect()
}

fn wait_until_complete(store: &Store) {
    let until = Instant::now() + Duration::from_secs(60);
    while !store.index_status().unwrap().is_complete() {
        assert!(Instant::now() < until, "{:?}", store.index_status());
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Asserts that queries of all kinds find what a scan finds.
fn finds_all(store: &Store, last: u64) {
    let by =
        |is_wanted: fn(u64) -> bool| (1..=last).filter(|it| is_wanted(*it)).collect::<Vec<_>>();
    assert_eq!(found(store, Query::tag("seventh")), by(|it| it % 7 == 0));
    assert_eq!(found(store, QueryItem::new().tag("all").tag("rare")), by(|it| it == 500));
    let third = QueryItem::new().tag("seventh").types(["Third"]);
    assert_eq!(found(store, third), by(|it| it % 21 == 0));
    assert_eq!(found(store, Query::types(["Third"])), by(|it| it % 3 == 0));
    assert_eq!(found(store, Query::category("b")), by(|it| it % 2 == 0));
    let either = [QueryItem::new().tag("rare"), QueryItem::new().stream("a-1")];
    assert_eq!(found(store, either), by(|it| it % 10 == 1 || it == 500));
    let mut backward = found(store, Query::tag("seventh"));
    backward.reverse();
    let events = store.read_log().tag("seventh").backward().into_iter();
    let backward_found: Vec<_> = events.map(|event| event.unwrap().position().get()).collect();
    assert_eq!(backward_found, backward);
}

fn fails(store: &Store, query: Query, after: Option<u64>) -> Result<(), Error> {
    let append = Append::of([NewEvent::json("Tried", &()).unwrap()]).fail_if(query);
    store.submit(append.after(after.and_then(Position::new))).map(drop)
}

#[test]
fn options_switch_indexes_on_and_off_and_earlier_events_are_added() {
    let (_directory, path) = place();
    let store = quick().open(&path).unwrap();
    append(&store, 1..=3_000);
    finds_all(&store, 3_000);
    let by_type = || Query::types(["Third"]);
    let refused = fails(&store, by_type(), Some(3_000)).unwrap_err();
    assert!(refused.to_string().contains("index_types"), "{refused}");
    assert!(matches!(refused, Error::NotIndexed { .. }) && !refused.is_conflict());
    store.close().unwrap();

    let store = quick().index_types(true).index_categories(true).open(&path).unwrap();
    append(&store, 3_001..=3_030);
    finds_all(&store, 3_030);
    wait_until_complete(&store);
    finds_all(&store, 3_030);
    assert!(store.verify(|_| {}).unwrap().is_sound());
    let entries = store.verify(|_| {}).unwrap().index_entries;
    assert_eq!(entries, 3_030 * 3 + 3_030 / 7 + 1);
    let failed = fails(&store, by_type(), Some(3_026)).unwrap_err();
    assert!(
        matches!(failed, Error::ConditionFailed { position, .. } if position.get() == 3_027),
        "{failed}"
    );
    store.close().unwrap();

    // The store remembers what was set.
    let store = quick().index_categories(false).open(&path).unwrap();
    let status = store.index_status().unwrap();
    assert_eq!((status.types_from, status.categories_from), (Some(Position::FIRST), None));
    fails(&store, by_type(), Some(3_030)).unwrap();
    let report = store.verify(|_| {}).unwrap();
    assert!(report.is_sound(), "{:?}", report.damage);
    assert_eq!(report.index_entries, 3_031 * 2 + 3_030 / 7);
}

/// While it is being built, reads find everything, and conditions on later events are answered.
#[test]
fn index_that_is_being_rebuilt_answers_for_later_events_only() {
    let (_directory, path) = place();
    let store = quick().open(&path).unwrap();
    append(&store, 1..=5_000);
    store.rebuild_index().unwrap();
    for number in 5_001..=5_050 {
        append(&store, number..=number);
        finds_all(&store, number);
    }
    assert!(fails(&store, Query::tag("rare"), Some(5_049)).is_ok());
    match fails(&store, Query::tag("rare"), None).unwrap_err() {
        // Building may have ended already.
        Error::ConditionFailed { position, .. } => assert_eq!(position.get(), 500),
        refused => assert!(refused.to_string().contains("being built"), "{refused}"),
    }
    store.close().unwrap();
    // It continues where it was.
    let store = quick().open(&path).unwrap();
    wait_until_complete(&store);
    assert!(matches!(
        fails(&store, Query::tag("rare"), None),
        Err(Error::ConditionFailed { position, .. }) if position.get() == 500
    ));
    let report = store.verify(|_| {}).unwrap();
    assert!(report.is_sound(), "{:?}", report.damage);
}

/// Changes entries of the index of a closed store, past annals.
fn change_index(path: &Path, change: impl FnOnce(&rocksdb::DB, &rocksdb::ColumnFamily)) {
    let db = database(path);
    change(&db, db.cf_handle("index").unwrap());
    db.flush_cf(db.cf_handle("index").unwrap()).unwrap();
}

fn key_of(tag: &str, position: u64) -> Vec<u8> {
    [b"t", tag.as_bytes(), b"\0", &position.to_be_bytes()].concat()
}

/// A category is found by whichever index there is, before the turn of an append and in it.
#[test]
fn conditions_on_a_category_and_a_type_hold_with_either_index() {
    for (types, categories) in [(true, false), (false, true), (true, true)] {
        let (_directory, path) = place();
        let options = quick().index_types(types).index_categories(categories);
        let store = options.open(&path).unwrap();
        let opened = || Query::from(QueryItem::new().category("account").types(["Opened"]));
        let mut after = None;
        for number in 1..=3 {
            // From the first condition on, the writer holds recent events.
            fails(&store, opened(), after).unwrap();
            let event = NewEvent::json("Opened", &number).unwrap();
            let appended = store.append("account-1", ExpectedVersion::Any, [event]).unwrap();
            let found = appended.last_position();
            for asked in [after, Some(found.get() - 1)] {
                let failed = fails(&store, opened(), asked).unwrap_err();
                assert!(
                    matches!(failed, Error::ConditionFailed { position, .. } if position == found),
                    "{types} {categories}: {failed}"
                );
            }
            after = Some(found.get());
        }
    }
}

/// Two tags that never occur together, until the last event.
#[test]
fn tags_that_alternate_are_intersected() {
    let (_directory, path) = place();
    let store = quick().open(&path).unwrap();
    let events = (0..5_000).map(|number| {
        let event = NewEvent::json("Happened", &number).unwrap();
        event.with_tag(["left", "right"][number % 2])
    });
    store.submit(Append::of(events)).unwrap();
    let both = || QueryItem::new().tag("left").tag("right");
    fails(&store, both().into(), None).unwrap();
    let last = NewEvent::json("Happened", &0).unwrap().with_tag("left").with_tag("right");
    let last = store.submit(Append::of([last])).unwrap().last_position().get();
    assert_eq!(found(&store, both()), [last]);
    let backward = store.read_log().query(both()).backward().first().unwrap().unwrap();
    assert_eq!(backward.position().get(), last);
    assert!(fails(&store, both().into(), None).is_err());
}

/// The part before the first `-` may be empty.
#[test]
fn empty_category_is_indexed() {
    let (_directory, path) = place();
    let store = quick().index_categories(true).open(&path).unwrap();
    store.append("-7", ExpectedVersion::Any, [event(1)]).unwrap();
    assert_eq!(found(&store, Query::category("")), [1]);
    let report = store.verify(|_| {}).unwrap();
    assert!(report.is_sound(), "{:?}", report.damage);
}

type Damage = fn(&rocksdb::DB, &rocksdb::ColumnFamily);

#[test]
fn damage_of_the_index_is_found_and_rebuilt() {
    let (directory, path) = place();
    let store = quick().open(&path).unwrap();
    append(&store, 1..=600);
    store.close().unwrap();
    let damages: [(&str, Damage); 4] = [
        ("nothing", |db, index| db.delete_cf(index, key_of("rare", 500)).unwrap()),
        ("an entry", |db, index| db.put_cf(index, key_of("rare", 300), "Third").unwrap()),
        ("another event type", |db, index| db.put_cf(index, key_of("rare", 500), "X").unwrap()),
        ("an invalid key", |db, index| db.put_cf(index, b"t\0\x01", "Third").unwrap()),
    ];
    for (number, (found, damage)) in damages.into_iter().enumerate() {
        let path = {
            let copied = directory.path().join(number.to_string());
            copy(&path, &copied);
            copied
        };
        change_index(&path, damage);
        let store = quick().open(&path).unwrap();
        let report = store.verify(|_| {}).unwrap();
        assert_eq!(report.damage_count, 1, "{:?}", report.damage);
        assert_eq!(report.damage[0].found, found);
        assert!(
            matches!(&report.damage[0].location, Location::Key { family: "index", .. }),
            "{:?}",
            report.damage
        );
        if found == "an entry" {
            let read = store.read_log().tag("rare").into_iter().collect::<Result<Vec<_>, _>>();
            let error = read.unwrap_err().to_string();
            assert!(error.contains("rebuild the index"), "{error}");
        }
        store.rebuild_index().unwrap();
        wait_until_complete(&store);
        let report = store.verify(|_| {}).unwrap();
        assert!(report.is_sound(), "{found}: {:?}", report.damage);
        finds_all(&store, 600);
    }
}

/// A store that was written before there was an index.
#[test]
fn store_without_an_index_gets_one_when_it_is_opened_for_writing() {
    let (_directory, path) = place();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v2_without_index"), &path);
    let before = fingerprint(&path);
    let store = quick().read_only(true).open(&path).unwrap();
    let status = store.index_status().unwrap();
    assert_eq!((status.tags_from, status.is_complete()), (None, true));
    let scanned = found(&store, Query::tag("eur"));
    assert_eq!(scanned, [1]);
    assert!(store.verify(|_| {}).unwrap().is_sound());
    store.close().unwrap();
    assert_eq!(fingerprint(&path), before, "reading changes nothing");

    let store = quick().open(&path).unwrap();
    wait_until_complete(&store);
    assert_eq!(found(&store, Query::tag("eur")), scanned);
    let refused = fails(&store, Query::tag("eur"), None).unwrap_err();
    assert!(matches!(refused, Error::ConditionFailed { position, .. } if position.get() == 1));
    let report = store.verify(|_| {}).unwrap();
    assert!(report.is_sound() && report.index_entries > 0, "{:?}", report.damage);
    store.close().unwrap();
    let store = quick().read_only(true).open(&path).unwrap();
    assert_eq!(store.index_status().unwrap().tags_from, Some(Position::FIRST));
}
