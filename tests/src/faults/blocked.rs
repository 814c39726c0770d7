//! Fault 4: processing is blocked past `max.poll.interval.ms`.

use std::os::unix::fs::symlink;

use anyhow::{Context, Result, ensure};

use super::flow::purchases;
use super::steps::snapshot_folder;
use super::via::Via;
use super::{LATENESS, Survived, tuning, until_assigned, until_logged, until_whole};
use crate::counted::{assert_counted, produce, until_counted};
use crate::proxy::{Direction, Way};
use crate::{Member, Stack, World};

/// A worker is to take over a partition whose snapshots cannot be listed; it keeps trying, and does not look at the
/// log meanwhile. What it has read and not written by then is not its to write any more.
pub async fn block_past_the_poll_interval(stack: &Stack, seed: u64) -> Result<Survived> {
    let world = World::with_tuning(stack, &tuning("max_poll_interval = \"6s\""))?;
    let via = Via::open(&world).await?;
    let all = purchases(seed, 9_000);
    let parts: Vec<_> = all.chunks(all.len().div_ceil(3)).collect();
    let mut stuck = world.start_worker(&via.member("stuck"))?;
    until_assigned(&stuck, 3).await?;
    let mut leaver = world.start_worker(&Member::named("leaver"))?;
    let handed_over = until_assigned(&leaver, 1).await?;
    produce(&world, parts[0]).await?;
    until_counted(&world).await?;

    // It counts what it cannot write; then the other one leaves, and its partitions cannot be restored.
    via.set(Direction::Requests, Way::Held);
    produce(&world, parts[1]).await?;
    via.until_held(Direction::Requests).await?;
    let folder = snapshot_folder(&world).join(handed_over[0].0.to_string());
    // A folder that contains itself cannot be listed to its end.
    let circle = folder.join("circle");
    symlink(&folder, &circle)?;
    ensure!(leaver.stop()?.success(), "{}", leaver.log_tail());
    until_logged(&stuck, "cannot take a partition over yet", 1).await?;

    // The group gives up on it as soon as somebody else is there to take everything, and that one waits for the same.
    let mut other = world.start_worker(&Member::named("other"))?;
    until_logged(&other, "cannot take a partition over yet", 1).await?;
    std::fs::remove_file(&circle)?;
    until_assigned(&other, 3).await?;
    until_logged(&stuck, "partitions lost", 1).await?;
    until_logged(&stuck, "partitions given back", 1).await?;
    let drained = "partitions are left before the stores have everything";
    ensure!(!stuck.log().contains(drained), "what was lost was flushed:\n{}", stuck.log_tail());
    until_counted(&world).await?;
    assert_counted(&world, LATENESS).await?;

    via.set(Direction::Requests, Way::Open);
    produce(&world, parts[2]).await?;
    let whole = until_whole(&world).await.with_context(|| format!("{}\n{}", stuck.log_tail(), other.log_tail()))?;
    ensure!(stuck.stop()?.success() && other.stop()?.success(), "{}\n{}", stuck.log_tail(), other.log_tail());
    Ok(Survived {
        injected: "processing blocked past max.poll.interval.ms, with a flush on its way".to_owned(),
        held: format!("{whole}; the lost path ran and flushed nothing"),
    })
}
