//! The stream `$deletions`: it is read, followed and checked like others, but only the store
//! appends to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use annals::prelude::*;
use annals::{
    Append, Deletion, Error, InvalidArgument, Position, Query, RetentionScope, Store, Version,
};

use crate::support::{SOON, position, quick, version};

fn store_with_deletion(directory: &tempfile::TempDir) -> (Store, StreamId) {
    let store = quick().open(directory.path().join("shop")).unwrap();
    let stream = StreamId::new("visitor-7").unwrap();
    let events = (1..=3).map(|visit| NewEvent::json("Came", &visit).unwrap());
    store.append(&stream, ExpectedVersion::NoStream, events).unwrap();
    store.delete(&Deletion::truncate(&stream, version(2)).because("old").by("Ada")).unwrap();
    (store, stream)
}

#[test]
fn system_stream_is_read_but_never_written() {
    let directory = tempfile::tempdir().unwrap();
    let (store, stream) = store_with_deletion(&directory);
    let deletions = StreamId::deletions();
    assert_eq!(store.read_stream(&deletions).into_iter().count(), 1);
    assert_eq!(store.read_log().query(Query::stream("$deletions")).into_iter().count(), 1);

    let before = store.head().unwrap();
    let refused = |result: annals::Result<()>| {
        let reserved = Error::InvalidArgument(InvalidArgument::Reserved {
            what: "",
            name: "$deletions".to_owned(),
        });
        let error = result.unwrap_err();
        assert_eq!(std::mem::discriminant(&error), std::mem::discriminant(&reserved), "{error}");
        assert!(error.to_string().contains("\"$deletions\" begins with '$'"), "{error}");
    };
    let event = || NewEvent::json("Forged", &()).unwrap();
    refused(store.append(&deletions, ExpectedVersion::Any, [event()]).map(drop));
    refused(store.delete(&Deletion::truncate(&deletions, version(2))).map(drop));
    refused(store.delete(&Deletion::delete(&deletions)).map(drop));
    refused(store.delete(&Deletion::tombstone(&deletions)).map(drop));
    refused(store.set_retention(&RetentionScope::from(&deletions), None));
    assert_eq!((store.head().unwrap(), store.deletions().unwrap().len()), (before, 1));

    // An append can require that nothing was deleted since.
    let after_one = |expected| {
        let append = Append::new().to(&stream, ExpectedVersion::Any, [event()]);
        store.submit(append.check(&deletions, ExpectedVersion::Exact(expected)))
    };
    assert!(after_one(Version::FIRST).is_ok());
    store.delete(&Deletion::truncate(&stream, version(3))).unwrap();
    assert!(matches!(after_one(Version::FIRST), Err(Error::WrongExpectedVersion { .. })));
}

annals::domain_events! { Decided => "$deletion" }

#[derive(serde::Serialize, serde::Deserialize)]
struct Decided {
    reason: String,
}

/// Keeps the reasons of deletions; fails for each one that it has not been allowed yet.
struct Reasons(Arc<AtomicBool>);

impl Projection for Reasons {
    type Event = Decided;

    fn name(&self) -> &'static str {
        "reasons"
    }

    fn handle(
        &self,
        event: &TypedEvent<Decided>,
        view: &mut ViewWriter,
    ) -> Result<(), HandlerError> {
        if !self.0.load(Ordering::SeqCst) {
            return Err("not yet".into());
        }
        Ok(view.put(event.position().to_string(), &event.event.reason)?)
    }
}

#[test]
fn projection_parks_and_retries_a_deletion() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = store_with_deletion(&directory);
    let is_allowed = Arc::new(AtomicBool::new(false));
    let parking = || ProjectionOptions::new().retries(0).on_failure(annals::OnFailure::Park);
    for is_first in [true, false] {
        let manager = ProjectionManager::new(&store);
        let manager = manager.register_with(Reasons(is_allowed.clone()), parking()).unwrap();
        manager.start().unwrap();
        manager.wait_for_head(SOON).unwrap();
        let projection = manager.projection("reasons").unwrap();
        let parked = projection.parked(9).unwrap();
        assert_eq!((parked.len(), &parked[0].stream), (1, &StreamId::deletions()));
        if !is_first {
            is_allowed.store(true, Ordering::SeqCst);
            assert_eq!(projection.retry_parked().unwrap(), 0);
        }
    }
    assert_eq!(store.view("reasons").get::<String>("4").unwrap().as_deref(), Some("old"));
}

#[test]
fn preview_needs_no_writer_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (store, stream) = store_with_deletion(&directory);
    store.close().unwrap();
    let path = directory.path().join("shop");
    let before = crate::support::files::fingerprint(&path);
    let reader = quick().read_only(true).open(&path).unwrap();
    let deletion = Deletion::delete(&stream);
    let preview = reader.preview(&deletion).unwrap();
    assert_eq!((preview.events, preview.number, preview.position), (2, Some(version(2)), None));
    assert_eq!(reader.preview_scavenge().unwrap().events, 0);
    assert!(reader.lacks(&deletion).unwrap());
    assert!(matches!(reader.delete(&deletion), Err(Error::ReadOnly)));
    let beyond = Deletion::redact(position(9), annals::EventId::from_bytes([1; 16]));
    let head = Position::new(4);
    assert!(
        matches!(reader.preview(&beyond), Err(Error::PositionAhead { head: found, .. }) if found == head)
    );
    assert!(!reader.lacks(&beyond).unwrap());
    reader.close().unwrap();
    assert!(crate::support::files::fingerprint(&path) == before);
}
