//! The process dies while it removes a failed backup: the remainder is recognised as an unfinished
//! backup, and the next backup to the same destination replaces it (G14).

use std::fs;

use annals::Error;
use annals::prelude::*;

use crate::shim::{Blow, Call, Fault, NO_SHIM, Place, Watch, run};
use crate::support::files::copy_at_rest;
use crate::support::memory;
use crate::support::skip::skipped;

/// The child: empties the store's logs after the store has read them, so that its backup fails.
pub(crate) fn child(place: &Place) {
    let store = Store::options().read_only(true).open(place.store()).unwrap();
    for entry in fs::read_dir(place.store().join("db")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "log") {
            fs::write(path, b"").unwrap();
        }
    }
    let failed = store.backup(place.disk().join("copy")).unwrap_err();
    assert!(matches!(failed, Error::HistoryLost { .. }), "{failed}");
}

#[test]
fn backup_succeeds_after_death_while_a_failed_one_is_removed() {
    let directory = memory();
    let whole = directory.path().join("whole");
    let store = Store::open(&whole).unwrap();
    let event = NewEvent::json("Happened", &1).unwrap();
    store.append("a", ExpectedVersion::Any, [event]).unwrap();
    for nth in 1.. {
        let place = Place::new(&directory.path().join(format!("place-{nth}")));
        copy_at_rest(&whole, &place.store());
        let fault = Fault { call: Call::Unlink, nth, for_ever: false, blow: Blow::Kill, only: "" };
        let watch = Watch { fault: Some(fault), sync_takes: Some(0), ..Watch::default() };
        let Some(output) = run("backup 1", &place, watch) else {
            return skipped("a backup after a failed one", NO_SHIM);
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let copy = place.disk().join("copy");
        let backup =
            store.backup(&copy).unwrap_or_else(|error| panic!("at removal {nth}: {error}"));
        assert_eq!(backup.head, store.head().unwrap());
        assert_eq!(Store::open(&copy).unwrap().head().unwrap(), store.head().unwrap());
        if place.fired().is_none() {
            assert!(nth > 5, "{nth} removals");
            break;
        }
    }
}
