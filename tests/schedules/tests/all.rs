//! Runs the stories of the library, each as a test of its own.

use annals_schedules::commit::committing;
use annals_schedules::{following, waiting};

macro_rules! stories {
    ($($story:ident of $module:ident,)*) => {
        $(#[test]
        fn $story() {
            $module::$story();
        })*
    };
}

stories! {
    each_caller_gets_its_own_place_and_sees_it_at_once of committing,
    a_caller_alone_in_the_queue_is_committed_in_the_order_of_its_calls of committing,
    after_a_failed_write_nothing_is_acknowledged_and_nobody_waits_for_ever of committing,
    a_subscription_delivers_each_event_once_in_order_wherever_it_begins of following,
    a_reader_sees_all_up_to_the_head_and_of_each_append_all_or_nothing of following,
    of_those_who_expect_the_same_version_one_wins of following,
    a_cancelled_subscription_ends_and_so_does_one_of_a_closed_store of following,
    no_waiter_misses_the_head_it_waits_for of waiting,
    closing_and_cancelling_wake_whoever_waits of waiting,
    readers_never_see_the_head_go_back of waiting,
}
