//! Checks that any sequence of calls behaves like a plain list of events. The store on disk and the
//! memory store run the same random operations, and each answer is compared with a reference. The
//! reference shares no code with the stores, on purpose.
//!
//! The reference is a `Vec`, and every query and every condition (G16) is a filter over it.
//!
//! Operations take turns between the blocking and the async API. `ANNALS_TEST_CASES` sets how many
//! sequences are run.
//!
//! Half of the sequences delete (G17). The reference keeps the deleted events, and marks them; the
//! memory store takes part until the first deletion, which it does not have.
//!
//! The operations include faults: the process dies (G1, G2, G3, G5), the machine loses power and
//! part of the unsynced data (G1, G10, G11, G12, G15), a bit flips (G8).

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod deletions;
mod faults;
mod ops;
mod reference;
mod strategies;
mod subject;
mod world;

use proptest::prelude::*;
use proptest::sample::select;

use ops::{Kind, Op, Part, Size, Target};
use strategies::sequences;
use world::World;

/// How many sequences are run.
fn cases() -> u32 {
    std::env::var("ANNALS_TEST_CASES").map_or(64, |text| text.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn stores_agree_with_a_plain_list_of_events(
        memtable_bytes in select(vec![1_usize, 64 << 20]),
        pack_bytes in select(vec![1_usize, 300, 32 << 10]),
        version_cache_streams in select(vec![1_usize, 1_000]),
        has_all_indexes in any::<bool>(),
        ops in sequences(),
    ) {
        let mut world =
            World::new(memtable_bytes, pack_bytes, version_cache_streams, has_all_indexes);
        for op in &ops {
            world.run(op);
        }
        // At the end, read everything once more, before and after reopening.
        world.look();
        world.run(&Op::Reopen);
        world.look();
    }
}

/// The reference forgot a deletion at a crash, and expected the snapshot of a deleted event.
#[test]
fn crash_does_not_undo_a_deletion_without_visible_effect() {
    let part = Part { stream: 0, kind: Kind::Any, count: 1, size: Size::Small, tags: 0 };
    let mut world = World::new(1, 1, 1, false);
    for op in [
        Op::Append(vec![part], None, vec![]),
        Op::Delete(Target::Tombstone { stream: 0 }),
        Op::Crash { left: None },
        Op::Keep { view: false },
        Op::Reopen,
    ] {
        world.run(&op);
    }
    world.look();
}
