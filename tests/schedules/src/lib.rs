//! Where threads meet: the commit queue, the gate, the published head, and the memory store with
//! its subscriptions, on the locks and atomics of a model checker.
//!
//! Shuttle runs a test again and again, each time with another order of the steps of its threads,
//! and prints a schedule that fails, which `shuttle::replay` runs again. `ANNALS_TEST_SCHEDULES`
//! says how many orders are tried.

#![cfg(test)]

mod committing;
mod following;
mod waiting;

/// Tries a test under many orders of its threads: most of them random, and as many with few changes
/// of thread at places chosen at random, which finds rare orders (PCT, Burckhardt and others,
/// 2010).
fn check(test: impl Fn() + Send + Sync + 'static) {
    let orders = std::env::var("ANNALS_TEST_SCHEDULES").map_or(2_000, |text| text.parse().unwrap());
    let test = std::sync::Arc::new(test);
    let again = test.clone();
    shuttle::check_random(move || test(), orders);
    shuttle::check_pct(move || again(), orders, 3);
}
