//! The scenes of the speed layer's faults, played short. `make soak` plays the same ones long.

use std::time::Duration;

use anyhow::Result;
use reckon_tests::Stack;
use reckon_tests::faults::{
    Survived, bad_records, bit_flip, blocked, broker, calendar, clock, disk_full, hot_tenant, idle, kills, lost_answer,
    many_parts, paused, redis_paused, steps, storm, together, truncated,
};

/// Shows what happened in the output of a test that is asked for it, or fails.
#[expect(clippy::print_stderr, reason = "a test says what it did")]
fn tell(survived: &Survived) {
    eprintln!("{}: {}", survived.injected, survived.held);
}

macro_rules! on_the_shared_stack {
    ($($name:ident => |$stack:ident| $scene:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() -> Result<()> {
            let $stack = &Stack::shared()?;
            tell(&$scene.await?);
            Ok(())
        }
    )*};
}

on_the_shared_stack! {
    kill_at_each_step => |stack| steps::kill_at_each_step(stack, 0x5eed_0101, 1);
    kill_in_mid_window_again_and_again => |stack| kills::kill_in_mid_window(stack, 0x5eed_0102, 5);
    a_second_worker_comes_and_goes => |stack| kills::second_worker_comes_and_goes(stack, 0x5eed_0103);
    a_paused_worker_changes_nothing_when_it_is_back => |stack| paused::pause_past_the_session(stack, 0x5eed_0201);
    a_storm_of_rebalances => |stack| storm::rebalance_storm(stack, 0x5eed_0301, 8);
    a_blocked_worker_flushes_nothing_that_it_lost => |stack| blocked::block_past_the_poll_interval(stack, 0x5eed_0401);
    a_truncated_log_without_a_snapshot_stops_the_worker =>
        |stack| truncated::log_truncated_without_a_snapshot(stack, 0x5eed_0602);
    a_truncated_log_stops_the_worker => |stack| truncated::log_truncated_under_the_worker(stack, 0x5eed_0601);
    an_insert_without_an_answer_counts_once => |stack| lost_answer::answers_are_lost(stack, 0x5eed_1001, 2);
    many_tiny_inserts_are_refused_for_a_while => |stack| many_parts::too_many_parts(stack, 0x5eed_1101, 60);
    a_full_disk_keeps_the_old_snapshot => |stack| disk_full::no_room_for_snapshots(stack, 0x5eed_1201);
    a_flipped_bit_in_a_snapshot_is_noticed => |stack| bit_flip::bits_flip_in_snapshots(stack, 0x5eed_1601);
    a_clock_that_is_off_changes_nothing => |stack| clock::clock_is_an_hour_off(stack, 0x5eed_1701);
    far_and_special_instants => |stack| calendar::instants_far_and_special(stack, 0x5eed_1901);
    an_idle_partition => |stack| idle::a_partition_is_idle(stack, 0x5eed_2001);
    bytes_that_are_no_event => |stack| bad_records::bytes_that_are_no_event(stack, 0x5eed_2101);
    sums_beyond_64_bits => |stack| bad_records::sums_beyond_64_bits(stack, 0x5eed_2201);
    records_that_are_too_large => |stack| bad_records::records_that_are_too_large(stack, 0x5eed_2301, 10);
    a_hot_tenant_starves_nobody => |stack| hot_tenant::hot_tenant_beside_quiet_ones(stack, 0x5eed_2901, Duration::from_secs(8));
}

/// One stack for the scenes that harm servers: one after the other, because each would disturb the next.
#[tokio::test(flavor = "multi_thread")]
async fn servers_die_and_hang() -> Result<()> {
    let stack = Stack::own("servers-die")?;
    tell(&broker::broker_goes_away(&stack, 0x5eed_0501, 1).await?);
    tell(&redis_paused::redis_does_not_answer(&stack, 0x5eed_0801, 1).await?);
    tell(&together::everything_dies(&stack, 0x5eed_2801).await?);
    Ok(())
}
