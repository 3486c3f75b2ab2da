//! The conformance suites: what every adapter of a port must do, sentence by sentence of the port.
//!
//! An adapter's test names a [`Subject`] and calls the port's macro, which makes one test of every
//! law. A law that an adapter cannot be asked through the port alone (damage, a full queue) is tested
//! beside that adapter.
//!
//! ```ignore
//! storage::log_conformance!(MyBroker::start());
//! ```

#![allow(clippy::unwrap_used, clippy::missing_panics_doc)] // These are tests.

pub mod log;
pub mod outlet;
pub mod samples;
pub mod billing;
pub mod servers;
pub mod usage;
pub mod blocks;

use std::{
    future::{Future, poll_fn},
    task::Poll,
};

/// An adapter under test.
pub trait Subject {
    /// The port's adapter.
    type Port;

    /// Opens an empty one. Called once.
    fn fresh(&self) -> impl Future<Output = Self::Port>;

    /// Ends the process's use of it and opens it again, as after a restart.
    fn reopen(&self, port: Self::Port) -> impl Future<Output = Self::Port>;
}

/// Drives futures together, polling each for the first time in the order given, and gives their
/// results in that order.
pub async fn together<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.into_iter().map(|future| Some(Box::pin(future))).collect();
    let mut results: Vec<_> = running.iter().map(|_| None).collect();
    poll_fn(|context| {
        for (slot, result) in running.iter_mut().zip(&mut results) {
            if let Some(future) = slot
                && let Poll::Ready(value) = future.as_mut().poll(context)
            {
                (*slot, *result) = (None, Some(value));
            }
        }
        let done = results.iter().all(Option::is_some);
        if done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    results.into_iter().flatten().collect()
}

/// Makes one test of each law of a suite.
#[macro_export]
#[doc(hidden)]
macro_rules! conformance_tests {
    ($suite:ident, $subject:expr, $($law:ident)*) => {$(
        #[tokio::test]
        async fn $law() {
            $crate::conformance::$suite::$law(&$subject).await;
        }
    )*};
}

/// Makes tests of the laws of [`domain::PulseLog`] for a subject whose log has two partitions or
/// more.
#[macro_export]
macro_rules! log_conformance {
    ($subject:expr) => {
        $crate::conformance_tests! { log, $subject,
            records_come_back_in_order_with_their_bytes
            offsets_rise_and_partitions_are_apart
            appends_first_polled_in_order_keep_their_order
            a_dropped_append_harms_no_other
            acknowledged_records_are_there_after_a_restart
            bounds_are_those_of_the_records
            however_a_drain_is_cut_it_lends_the_same
            a_read_lends_at_least_one_record_and_about_what_it_may
            a_read_past_the_end_loses_nothing_that_comes_later
            a_drain_beyond_the_end_is_out_of_range
            a_partition_that_is_not_there_is_an_error
        }
    };
}

/// Makes tests of the laws of [`domain::Outlet`].
#[macro_export]
macro_rules! outlet_conformance {
    ($subject:expr) => {
        $crate::conformance_tests! { outlet, $subject,
            the_newest_message_is_the_last_of_the_last_batch
            who_takes_over_ends_every_other_writer
        }
    };
}

/// Makes tests of the laws of [`domain::UsageStore`].
#[macro_export]
macro_rules! usage_conformance {
    ($subject:expr) => {
        $crate::conformance_tests! { usage, $subject,
            a_generation_is_registered_once_with_its_parameters
            of_two_successors_of_a_generation_one_is_registered
            everything_flushed_is_there_after_a_restart
            a_flush_may_be_repeated
            an_older_flush_does_not_replace_a_newer_one
            caught_up_at_is_a_cell_of_its_own
            extreme_values_come_back_whole
            manifests_ascend_and_stay_with_their_partition
            segment_rows_are_those_of_the_segment_and_days
            a_scan_is_sorted_filtered_and_the_same_in_pages
            tenants_are_those_with_rows_each_once_and_sorted
            dead_letters_are_sorted_filtered_and_the_same_in_pages
            an_older_group_of_dead_letters_does_not_replace_a_newer_one
            a_group_with_extreme_values_comes_back_whole
            a_run_and_a_state_of_any_length_come_back_whole
            the_journal_takes_one_entry_a_number
            a_view_reads_each_stretch_in_one_epoch
        }
    };
}

/// Makes tests of the laws of [`domain::BlockStore`].
#[macro_export]
macro_rules! block_conformance {
    ($subject:expr) => {
        $crate::conformance_tests! { blocks, $subject,
            of_two_maps_of_one_version_one_is_taken
            an_edge_stands_under_its_number
            pages_are_found_by_their_keys_and_go_with_their_block
            rows_go_and_their_tenants_stay_where_blocks_have_them
            states_and_runs_go_but_for_those_that_are_named_and_later_ones
            an_epoch_goes_and_the_others_stay
        }
    };
}

/// Makes tests of the laws of [`domain::BillingStore`].
#[macro_export]
macro_rules! billing_conformance {
    ($subject:expr) => {
        $crate::conformance_tests! { billing, $subject,
            sequences_rise_from_one_and_the_newest_is_first
            a_published_version_never_changes
            of_two_publishers_of_one_name_one_wins
            only_what_is_there_can_be_activated
            catalogues_are_there_after_a_restart
            places_count_from_zero_without_gaps
            of_many_writers_at_one_place_one_adds
            writers_that_read_on_lose_no_entry
            entries_are_there_after_a_restart_in_pages_of_any_size
            journals_are_apart
            an_entry_may_be_empty_and_as_large_as_the_bound
        }
    };
}
