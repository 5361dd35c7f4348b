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
pub mod condition_races;
pub mod conditions;
pub mod following;
pub mod keyed;
pub mod pages;
pub mod queries;
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
        expected_version_is_checked_against_the_stream,
        positions_and_versions_have_no_gaps,
        multi_stream_append_keeps_order_and_is_one_commit,
        events_keep_every_field,
        recorded_at_never_decreases,
        longest_names_are_accepted,
    ]
    refusing: [
        conflict_in_one_part_refuses_all_parts,
        invalid_append_is_refused_with_its_reason,
        oversized_append_is_refused_with_the_limit,
        time_before_the_head_is_refused,
    ]
    retrying: [
        retry_returns_original_places_and_writes_nothing,
        retry_with_a_named_place_is_recognised_after_later_events,
        multi_stream_retry_needs_all_its_parts,
        partial_retry_is_refused_with_its_own_error,
    ]
    keyed: [
        request_with_a_key_is_done_once,
        key_is_recorded_without_events,
        key_of_another_request_is_refused,
        refused_append_leaves_its_key_unused,
        same_key_from_many_threads_is_done_once,
    ]
    reading: [
        empty_store_reads_as_empty,
        log_read_follows_its_options,
        stream_read_follows_its_options_and_sees_one_stream,
        read_as_of_position_version_or_time_returns_the_past,
        position_is_found_by_time,
        read_ends_at_the_head_of_its_creation,
        invalid_read_yields_only_its_error,
        streams_are_listed_by_prefix_in_id_order,
    ]
    pages: [
        log_pages_of_any_size_cover_the_whole_range,
        break_ends_the_page_after_the_current_event,
        page_of_no_events_visits_nothing,
        visitor_may_call_the_store,
    ]
    queries: [
        read_with_a_query_equals_a_naive_scan,
        tag_matches_only_its_whole_text,
        criteria_of_a_read_narrow_its_query,
        empty_query_is_refused,
        pages_with_a_query_cover_exactly_the_matching_events,
        read_up_to_is_never_past_what_was_returned,
        read_with_a_query_ends_at_the_head_of_its_creation,
        subscription_with_a_query_delivers_the_same_events,
    ]
    following: [
        subscription_begins_at_the_requested_place,
        stream_subscription_starts_by_version,
        start_past_the_head_is_refused_unless_it_waits,
        position_of_another_epoch_is_refused,
        filtered_subscription_reports_its_progress,
        long_history_is_delivered_completely,
        catching_up_continues_live_without_a_gap,
        subscription_resumes_after_the_last_delivery,
        cancelled_subscription_ends_even_while_it_waits,
        timeout_without_events_is_idle_not_the_end,
        slow_consumer_with_a_full_channel_loses_nothing,
        dropping_the_channel_ends_its_thread,
        invalid_subscription_is_refused_at_start,
        wait_past_a_position_returns_for_every_reason,
    ]
    concurrency: [
        concurrent_writers_make_one_log_without_gaps,
        one_of_many_rivals_for_a_version_succeeds,
        same_append_from_many_threads_is_written_once,
    ]
    conditions: [
        condition_equals_a_naive_scan,
        every_append_counts_for_a_later_condition,
        append_is_not_judged_by_its_own_events,
        empty_append_is_refused_before_its_condition,
        retry_of_a_conditional_append_is_acknowledged,
        retry_that_its_commit_does_not_show_is_refused,
        first_failed_condition_is_reported,
        condition_and_expected_versions_must_both_hold,
        condition_and_idempotency_key_work_together,
        everything_is_a_condition_on_the_whole_log,
        place_past_the_head_excludes_later_events,
        event_appended_during_a_read_fails_its_condition,
        condition_without_an_index_is_refused,
    ]
    condition_races: [
        one_of_many_rivals_for_a_condition_succeeds,
        concurrent_decisions_keep_their_rule,
        conditions_of_concurrent_appends_hold_in_the_log,
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
