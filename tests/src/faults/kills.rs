//! Fault 1 again, at no step in particular: killed in mid-window, many times in a row, during a replay; and a second
//! worker that comes and is killed.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::flow::Flow;
use super::steps::{age_of_newest, newest};
use super::{PATIENCE, Survived, counted_records, tuning, until_assigned, until_progress, until_whole};
use crate::{Member, Stack, World, until};

/// How often a snapshot is due, and how much later it may come on a machine that has much else to do.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(1);
const LATER: Duration = Duration::from_secs(4);

/// Kills a worker `lives` times while purchases flow.
pub async fn kill_in_mid_window(stack: &Stack, seed: u64, lives: usize) -> Result<Survived> {
    let world = World::with_tuning(stack, &tuning(""))?;
    let mut random = StdRng::seed_from_u64(seed);
    let flow = Flow::start(&world, seed, 6_000 * (lives + 2), 400)?;
    let (mut oldest, mut replayed_max) = (Duration::ZERO, 0);
    let mut worker = world.start_worker(&Member::named("life-0"))?;
    for life in 1..=lives {
        // A life that writes snapshots, and then some more records.
        let before = newest(&world);
        until("this life's snapshots", PATIENCE, || async {
            let now = newest(&world);
            Ok((0..3).all(|partition| now.get(&partition) > before.get(&partition)))
        })
        .await
        .with_context(|| worker.log_tail())?;
        until_progress(&world, 20).await?;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..800))).await;
        ensure!(flow.goes_on(), "the flow is over before the lives are");
        for partition in 0..3 {
            let age = age_of_newest(&world, partition)?.unwrap_or(PATIENCE);
            oldest = oldest.max(age);
        }
        worker.kill()?;
        let (saved, counted) = (newest(&world), counted_records(&world).await?);
        worker = world.start_worker(&Member::named(format!("life-{life}")))?;
        let starts = until_assigned(&worker, 3).await?;
        for (partition, offset) in &starts {
            ensure!(Some(offset) == saved.get(partition), "{partition} is read from {offset}, snapshots are {saved:?}");
        }
        replayed_max = replayed_max.max(counted - starts.iter().map(|(_, offset)| offset).sum::<i64>());
    }
    ensure!(
        oldest <= SNAPSHOT_INTERVAL + LATER,
        "a snapshot was {oldest:?} old, due are they every {SNAPSHOT_INTERVAL:?}"
    );
    flow.stop(&world).await?;
    let whole = until_whole(&world).await?;
    ensure!(worker.stop()?.success(), "{}", worker.log_tail());
    Ok(Survived {
        injected: format!("{lives} kill -9 in mid-window"),
        held: format!("{whole}; at most {replayed_max} records again, the snapshot at most {oldest:.1?} old"),
    })
}

/// A second worker joins in the middle of a replay and is killed.
pub async fn second_worker_comes_and_goes(stack: &Stack, seed: u64) -> Result<Survived> {
    let world = World::with_tuning(stack, &tuning(""))?;
    let flow = Flow::start(&world, seed, 80_000, 1_500)?;
    let mut first = world.start_worker(&Member::named("first"))?;
    until_progress(&world, 100).await?;
    let mut second = world.start_worker(&Member::named("second"))?;
    let taken = until_assigned(&second, 1).await?;
    until_progress(&world, 100).await?;
    second.kill()?;
    // The first one has the second one's partitions back: what it took over is more than the three it began with.
    until_assigned(&first, 3 + taken.len()).await?;
    until_progress(&world, 100).await?;
    flow.stop(&world).await?;
    let whole = until_whole(&world).await?;
    ensure!(first.stop()?.success(), "{}", first.log_tail());
    Ok(Survived { injected: format!("a second worker took over {taken:?} and was killed"), held: whole })
}
