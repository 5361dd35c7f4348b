//! Strikes a workload with a fault at its n-th change to the disk, for each n.

use std::fs;

use annals::Store;

use crate::caught;
use crate::example_bank::check_read_models;
use crate::shim::{Blow, Call, Fault, NO_SHIM, Place, Watch, run};
use crate::support::promises::{MayBeGone, Promises};
use crate::support::skip::skipped;
use crate::workload::Plan;

/// Strikes a plan at every `stride`-th change, and calls `boot` for the work of the next boot.
/// Returns the number of strikes; `None` if the shim is not available.
pub(crate) fn strike(
    plan: &Plan,
    place: &Place,
    stride: usize,
    (blow, may_be_gone): (Blow, MayBeGone),
    boot: impl Fn(),
) -> Option<usize> {
    for (strikes, nth) in (1..).step_by(stride).enumerate() {
        let fault = Fault { call: Call::Any, nth, for_ever: false, blow, only: "" };
        let sync_takes = if blow == Blow::CutPower { None } else { Some(100) };
        let watch = Watch { fault: Some(fault), sync_takes, ..Watch::default() };
        let Some(output) = run(plan.name, place, watch) else {
            skipped(&format!("{blow:?} of {}", plan.name), NO_SHIM);
            return None;
        };
        let Some(fired) = place.fired() else {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            return Some(strikes);
        };
        boot();
        let promises = Promises::read(&place.book());
        let also = |store: &Store| {
            if plan.has_bank {
                check_read_models(store);
            }
        };
        let checked = caught(|| promises.check_and_go_on(&place.store(), may_be_gone, also));
        if let Err(why) = checked {
            panic!("{blow:?}, {}, at change {nth} ({fired}): {why}", plan.name);
        }
        fs::remove_dir_all(place.store()).unwrap();
        place.forget();
    }
    unreachable!("a workload ends");
}
