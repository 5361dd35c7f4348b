//! Runs the code that threads share under a model checker, with its locks and atomics: the commit
//! queue with the lane of tasks, the gate, the published head, and the memory store with its
//! subscriptions, blocking and async.
//!
//! Shuttle runs a test many times, each time with a different order of the steps of its threads. It
//! prints a schedule that fails, and `shuttle::replay` runs that schedule again.
//! `ANNALS_TEST_SCHEDULES` sets how many schedules are tried.

#![cfg(test)]

mod committing;
mod feeding;
mod following;
mod lane;
mod waiting;

/// Runs a test under many schedules: random ones, and as many with few thread switches at random
/// points, which find rare orders (PCT, Burckhardt et al., 2010).
fn check(test: impl Fn() + Send + Sync + 'static) {
    let orders = std::env::var("ANNALS_TEST_SCHEDULES").map_or(2_000, |text| text.parse().unwrap());
    let test = std::sync::Arc::new(test);
    let again = test.clone();
    shuttle::check_random(move || test(), orders);
    shuttle::check_pct(move || again(), orders, 3);
}
