//! Where threads meet: the commit queue, the gate, the published head, and the memory store with its subscriptions, as
//! they stand in `src`, on the locks and atomics of a model checker.
//!
//! Shuttle runs a test again and again, each time with another order of the steps of its threads, and prints a
//! schedule that fails, which `shuttle::replay` runs again. `ANNALS_TEST_SCHEDULES` says how many orders are tried.

// The stories are functions, and the tests in tests/ run them: compiled as tests, these modules would bring their own.

// As in src/lib.rs, without the modules that need RocksDB.
#[path = "../../../src/model/mod.rs"]
mod model;
#[path = "../../../src/error/mod.rs"]
mod error;
#[path = "../../../src/options.rs"]
mod options;
#[path = "../../../src/event_store/mod.rs"]
mod event_store;
#[path = "../../../src/snapshot_store.rs"]
mod snapshot_store;
#[path = "../../../src/view_store.rs"]
mod view_store;
#[path = "../../../src/subscription/mod.rs"]
mod subscription;
#[path = "../../../src/extension.rs"]
mod extension;
#[path = "../../../src/format/mod.rs"]
mod format;
#[path = "../../../src/validate.rs"]
mod validate;
#[path = "../../../src/head.rs"]
mod head;
pub mod commit;
#[path = "../../../src/memory/mod.rs"]
mod memory;

pub use error::*;
pub use event_store::*;
pub use extension::*;
pub use format::FORMAT_VERSION;
pub use memory::*;
pub use model::*;
pub use options::*;
pub use snapshot_store::*;
pub use subscription::*;
pub use view_store::*;

#[path = "../../../src/sync.rs"]
mod sync;

pub mod following;
pub mod waiting;

/// Tries a test under many orders of its threads: most of them random, and as many with few changes of thread at
/// places chosen at random, which finds rare orders (PCT, Burckhardt and others, 2010).
fn check(test: impl Fn() + Send + Sync + 'static) {
    let orders = std::env::var("ANNALS_TEST_SCHEDULES").map_or(2_000, |text| text.parse().unwrap());
    let test = std::sync::Arc::new(test);
    let again = test.clone();
    shuttle::check_random(move || test(), orders);
    shuttle::check_pct(move || again(), orders, 3);
}
