//! The process dies at the n-th change to the disk, for each n.

use std::time::Instant;

use crate::shim::{Blow, Place};
use crate::strike::strike;
use crate::support::memory;
use crate::support::promises::MayBeGone;
use crate::support::skip::say;
use crate::workload::{Plan, is_everything};

#[test]
fn process_death_at_each_change_loses_nothing() {
    let began = Instant::now();
    let directory = memory();
    let place = Place::new(directory.path());
    // One store that is being created for most of the run, and one in full use.
    let strides = if is_everything() { [1, 1] } else { [67, 251] };
    let mut deaths = 0;
    for (name, stride) in ["small", "mixed"].into_iter().zip(strides) {
        let blow = (Blow::Kill, MayBeGone::Nothing);
        let Some(more) = strike(&Plan::named(name), &place, stride, blow, || {}) else { return };
        deaths += more;
    }
    let seconds = began.elapsed().as_secs();
    say(&format!("faults: the process dies: {deaths} deaths, 0 wrong, {seconds} s"));
}
