//! Errors about view keys and values that are too long name the event, the key and the limit.

use annals::prelude::*;
use annals::{Error, InvalidArgument, ProjectionError, ViewKey, limits};

use super::{Custom, SOON, add_up, balances, pay};

/// Calls `fail` for payments of 13.
fn failing(fail: impl Fn(&mut ViewWriter) -> annals::Result<()> + Send + Sync + 'static) -> Custom {
    Custom::new(move |event, view| {
        add_up(event, view)?;
        if event.event.change() == 13 { Ok(fail(view)?) } else { Ok(()) }
    })
}

/// Returns the error of the projection at position 2.
fn failure_of(projection: Custom) -> String {
    let store = MemoryStore::new();
    let options = ProjectionOptions::new().retries(0);
    let manager = ProjectionManager::new(&store).register_with(projection, options).unwrap();
    manager.start().unwrap();
    pay(&store, "account-1", 1);
    let last = pay(&store, "account-1", 13);
    let failed = manager.wait_for("balances", last, SOON).unwrap_err();
    assert!(matches!(failed, ProjectionError::Failed { .. }), "{failed}");
    assert_eq!(balances(&store)["account-1"], 1, "the view holds nothing of the event");
    failed.to_string()
}

#[test]
fn error_of_a_long_key_names_event_key_and_limit() {
    type Fail = fn(&mut ViewWriter, &str) -> annals::Result<()>;
    let fails: [Fail; 5] = [
        |view, text| view.put(text, &1),
        |view, text| view.put(("title", text, 1_u64), &1),
        |view, text| view.update(text, |count: &mut u64| *count += 1),
        |view, text| view.get::<u64>(text).map(drop),
        |view, text| view.entries_under::<u64>(text).map(drop),
    ];
    for fail in fails {
        let said = failure_of(failing(move |view| fail(view, &"x".repeat(1_100))));
        assert!(said.contains("position 2") && said.contains("xxx…"), "{said}");
        assert!(said.contains("at most 1023 are allowed: use an id"), "{said}");
        assert!(said.len() < 500, "the key is shortened: {said}");
    }
}

#[test]
fn error_of_a_long_value_names_event_key_and_limit() {
    let large = "x".repeat(limits::VIEW_VALUE_LEN_MAX);
    let said = failure_of(failing(move |view| view.put(("title", 7_u64), &large)));
    assert!(said.contains("position 2") && said.contains("key title/7: "), "{said}");
    assert!(said.contains("view_value_len_max allows 16777216, but got 16777218"), "{said}");
}

#[test]
fn reads_with_a_long_key_fail_and_deletes_change_nothing() {
    let store = MemoryStore::new();
    let long = "x".repeat(ViewKey::LEN_MAX + 1);
    let view = store.view("balances");
    let is_refused = |error: Error| {
        matches!(error, Error::InvalidArgument(InvalidArgument::ViewKeyTooLong { .. }))
    };
    assert!(is_refused(view.get::<u64>(&long).unwrap_err()));
    for read in [
        view.entries().under(&long),
        view.entries().prefix(&long),
        view.entries().after(&long),
        view.entries().up_to(&long),
    ] {
        let read: Vec<_> = read.iter::<u64>().collect();
        assert_eq!(read.len(), 1);
        assert!(read.into_iter().all(|entry| is_refused(entry.unwrap_err())));
    }
    let longest = "x".repeat(ViewKey::LEN_MAX);
    let kept = longest.clone();
    let writes = Custom::new(move |_, view| {
        view.put(&kept, &1)?;
        view.delete(format!("{kept}y"));
        Ok(())
    });
    let manager = ProjectionManager::new(&store).register(writes).unwrap();
    manager.start().unwrap();
    pay(&store, "account-1", 1);
    manager.wait_for_head(SOON).unwrap();
    assert_eq!(view.get(&longest).unwrap(), Some(1));
    assert_eq!(view.entries().under(&longest).iter::<u64>().count(), 0);
}
