//! A process that deletes is killed again and again, at random moments (G17): what was decided is
//! carried out by the next one, and nothing else is gone.

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use annals::Durability;
use annals::prelude::*;

use super::KILLS_EACH;
use crate::deletions::STEPS;
use crate::shim::{PLACE, PLAN, Place};
use crate::support::memory;
use crate::support::promises::{MayBeGone, Promises, heard};
use crate::support::random::Random;
use crate::support::skip::say;

/// The child: takes all steps until it is killed.
pub(crate) fn child(place: &Place) {
    let options = Store::options().memtable_bytes(1).disk_reserve_bytes(0).pack_bytes(400);
    let store = options.open(place.store()).unwrap();
    let heard = heard(&store, Durability::Sync, &place.book());
    let mut random = Random::from_entropy();
    loop {
        let round = random.below(usize::MAX);
        for step in STEPS {
            step.run(round, &store, &heard).unwrap();
        }
    }
}

#[test]
fn killed_deletions_are_carried_out() {
    let kills: u64 = std::env::var("ANNALS_TEST_KILLS").map_or(20, |text| text.parse().unwrap());
    let (mut random, began) = (Random::from_entropy(), Instant::now());
    let (mut done, mut cut_short) = (0, 0);
    while done < kills {
        let root = memory();
        let place = Place::new(root.path());
        for _ in 0..KILLS_EACH.min(kills - done) {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "workload::child", "--ignored", "--nocapture"])
                .env(PLAN, "deletions again")
                .env(PLACE, root.path())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            thread::sleep(Duration::from_millis(20 + random.below(400) as u64));
            child.kill().unwrap();
            // A child that failed has ended by itself.
            assert_eq!(child.wait().unwrap().code(), None);
            let promises = Promises::read(&place.book());
            cut_short += u64::from(promises.asked.is_open);
            promises.check_and_go_on(&place.store(), MayBeGone::Nothing, |_| {});
        }
        done += KILLS_EACH.min(kills - done);
    }
    let seconds = began.elapsed().as_secs();
    say(&format!("faults: {kills} kills, {cut_short} deletions cut short, 0 wrong, {seconds} s"));
    assert!(cut_short > 0, "no kill came during a deletion");
}
