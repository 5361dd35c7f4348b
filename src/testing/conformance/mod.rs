//! The contract of every [`EventStore`], as tests: each public function checks one rule, and panics
//! if a store breaks it.
//!
//! [`event_store_conformance!`](crate::event_store_conformance) runs all rules on a store, each as
//! one `#[test]`; [`CASES`] is the same list for other test harnesses. No rule depends on how or
//! how fast a store keeps its events, so a store behind a network can be tested too.
//!
//! [`snapshots`] and [`views`] hold the rules for a [`SnapshotStore`](crate::SnapshotStore) and a
//! [`ViewStore`](crate::ViewStore).
//!
//! ```
//! use std::sync::Arc;
//! use annals::prelude::*;
//! use annals::testing::conformance;
//!
//! let (_, rule) = conformance::CASES[0];
//! let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
//! rule(&store);
//! ```

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "to panic where a store breaks a rule is what a test is for"
)]

use std::sync::Arc;

use crate::event_store::{EventStore, StreamInfo};
use crate::extension::EventStoreExt;
use crate::model::{EventType, NewEvent, Position, RecordedEvent, Version};

/// Lists the cases of one trait once, and generates the list and the macro that makes tests of
/// them.
macro_rules! cases {
    (
        $dollar:tt $seam:ident
        $(#[$about:meta])* $macro:ident
        $($module:ident: [$($name:ident),+ $(,)?])+
    ) => {
        /// One rule: takes a fresh and empty store, and panics if the store breaks the rule.
        pub type Case = fn(&::std::sync::Arc<dyn $crate::$seam>);

        /// Every rule with its name.
        pub const CASES: &[(&str, Case)] = &[
            $($((stringify!($name), $crate::testing::conformance::$module::$name as Case)),+),+
        ];

        $(#[$about])*
        ///
        /// Its argument is an expression that returns a fresh, empty store and a value to keep
        /// alive as long as the store, such as its temporary directory.
        #[macro_export]
        macro_rules! $macro {
            ($dollar make:expr) => {
                $($(
                    #[test]
                    fn $name() {
                        let (store, kept) = $dollar make;
                        let store: ::std::sync::Arc<dyn $crate::$seam> = ::std::sync::Arc::new(store);
                        $crate::testing::conformance::$module::$name(&store);
                        drop(store);
                        drop(kept);
                    }
                )+)+
            };
        }
    };
}

pub mod appending;
pub mod concurrency;
pub mod following;
pub mod pages;
pub mod reading;
pub mod refusing;
pub mod retrying;
pub mod snapshots;
pub mod views;

cases! { $ EventStore
    /// Makes one `#[test]` of every rule in [`testing::conformance`](crate::testing::conformance)
    /// for an [`EventStore`](crate::EventStore).
    ///
    /// ```
    /// mod memory {
    ///     annals::event_store_conformance!((annals::MemoryStore::new(), ()));
    /// }
    /// ```
    event_store_conformance
    appending: [
        the_four_expectations_decide_as_the_table_says,
        places_are_gapless_in_the_order_of_acknowledgement,
        an_append_to_several_streams_keeps_its_order_and_is_one_commit,
        events_keep_every_field,
        recorded_at_never_goes_back_along_the_log,
        the_longest_names_are_taken,
    ]
    refusing: [
        a_conflict_in_one_part_refuses_all_parts,
        a_bad_call_changes_nothing_and_says_why,
        what_is_too_large_is_refused_with_the_limit_it_exceeds,
        a_time_before_the_head_is_refused_in_every_position,
    ]
    retrying: [
        a_retry_gets_the_places_it_had_and_writes_nothing,
        a_retry_after_later_events_is_recognised_where_a_place_was_named,
        a_retry_over_several_streams_needs_all_its_parts,
        a_partial_retry_is_an_error_of_its_own,
    ]
    reading: [
        an_empty_store_reads_as_empty,
        the_log_reads_as_its_options_say,
        a_stream_reads_as_its_options_say_and_never_sees_another,
        the_log_and_a_stream_read_as_of_a_position_a_version_or_a_time,
        a_position_is_found_by_time,
        a_read_is_of_the_moment_it_was_taken_and_may_outlast_it,
        a_bad_argument_of_a_read_is_its_first_and_only_item,
        streams_are_listed_by_prefix_in_the_order_of_their_ids,
    ]
    pages: [
        pages_of_any_size_join_to_the_whole_range,
        a_break_ends_the_page_after_the_event_it_was_given,
        a_page_of_no_events_visits_nothing,
        a_visitor_may_call_the_store,
    ]
    following: [
        a_subscription_begins_where_it_was_told,
        a_subscription_of_one_stream_counts_in_versions,
        a_start_past_the_head_is_refused_unless_it_waits,
        a_place_of_another_epoch_is_refused,
        a_filtered_subscription_tells_its_progress,
        a_history_of_more_than_ten_thousand_events_comes_whole,
        catching_up_runs_into_live_without_a_gap,
        a_subscription_resumes_after_the_last_delivery,
        a_cancelled_subscription_ends_even_while_it_waits,
        nothing_in_time_is_idle_and_not_the_end,
        a_slow_consumer_behind_a_full_channel_loses_nothing,
        dropping_the_channel_ends_its_thread,
        a_bad_argument_of_a_subscription_refuses_its_start,
        waiting_past_a_position_returns_for_each_reason_there_is,
    ]
    concurrency: [
        many_writers_make_one_gapless_log_that_all_readers_agree_on,
        one_of_many_rivals_for_a_version_wins,
        the_same_append_from_many_threads_is_written_once,
    ]
}

/// An event whose payload identifies it.
fn event(event_type: &str, number: usize) -> NewEvent {
    NewEvent::new(EventType::new(event_type).unwrap(), number.to_string())
}

/// This many events.
fn events(count: usize) -> Vec<NewEvent> {
    (1..=count).map(|number| event("Happened", number)).collect()
}

fn position(number: u64) -> Position {
    Position::new(number).unwrap()
}

fn version(number: u64) -> Version {
    Version::new(number).unwrap()
}

fn log(store: &Arc<dyn EventStore>) -> Vec<RecordedEvent> {
    store.read_log().into_iter().collect::<Result<_, _>>().unwrap()
}

fn stream(store: &Arc<dyn EventStore>, stream: &str) -> Vec<RecordedEvent> {
    store.read_stream(stream).into_iter().collect::<Result<_, _>>().unwrap()
}

/// Everything visible in a store: equal before and after a call that must change nothing.
fn contents(
    store: &Arc<dyn EventStore>,
) -> (Option<Position>, Vec<RecordedEvent>, Vec<StreamInfo>) {
    let streams = store.streams().into_iter().collect::<Result<_, _>>().unwrap();
    (store.head().unwrap(), log(store), streams)
}
