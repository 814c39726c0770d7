//! Fault 6: records are deleted before they are counted.

use anyhow::{Context, Result, ensure};
use rdkafka::admin::AdminOptions;
use rdkafka::{Offset, TopicPartitionList};

use super::flow::raw;
use super::steps::newest;
use super::{PATIENCE, Survived, tuning, until_assigned, until_ended};
use crate::counted::{in_redis, progress_in_clickhouse, progress_in_redis, until_counted};
use crate::log::{Raw, admin, producer, send};
use crate::purchases::{Purchase, generate};
use crate::{Member, Process, Stack, World, until};

const PARTITION: i32 = 1;

/// Once under a worker that runs, and once while none is there.
pub async fn log_truncated_under_the_worker(stack: &Stack, seed: u64) -> Result<Survived> {
    let world =
        World::with_tuning(stack, &tuning("session_timeout = \"30s\"").replacen("session_timeout = \"6s\"\n", "", 1))?;
    let from_us = jiff::Timestamp::now().as_microsecond() - 3_600_000_000;
    let purchases = generate(seed, 300, from_us, 1_000_000);
    let mut worker = world.start_worker(&Member::named("worker"))?;
    until_assigned(&worker, 3).await?;
    put(&world, &purchases[..100]).await?;
    until_counted(&world).await?;
    until("a snapshot of it", PATIENCE, || async { Ok(newest(&world).get(&PARTITION) == Some(&100)) }).await?;

    // It runs, and is a moment behind: what it is about to read is gone when it looks.
    worker.pause()?;
    put(&world, &purchases[100..101]).await?;
    put(&world, &purchases[101..200]).await?;
    delete_below(&world, 150).await?;
    worker.resume()?;
    stops_loudly(&world, &mut worker).await.context("under a worker that runs")?;

    // The next one is told the same by its snapshot, and stops as well.
    let mut next = world.start_worker(&Member::named("next"))?;
    stops_loudly(&world, &mut next).await.context("while no worker was there")?;
    ensure!(assigned_nothing_behind(&next), "{}", next.log_tail());
    Ok(Survived {
        injected: "records deleted under a worker that runs, and while none was there".to_owned(),
        held: "both stopped with exit code 1, named partition and offsets; nothing was skipped".to_owned(),
    })
}

/// A worker dies before its first snapshot, and the log is cut below what it had counted: whoever counted the rest would
/// overwrite the totals of open windows with less.
pub async fn log_truncated_without_a_snapshot(stack: &Stack, seed: u64) -> Result<Survived> {
    let world =
        World::with_tuning(stack, &tuning("").replacen("snapshot_interval = \"1s\"", "snapshot_interval = \"1h\"", 1))?;
    let from_us = jiff::Timestamp::now().as_microsecond() - 3_600_000_000;
    let purchases = generate(seed, 200, from_us, 1_000_000);
    let mut worker = world.start_worker(&Member::named("worker"))?;
    until_assigned(&worker, 3).await?;
    put(&world, &purchases[..100]).await?;
    until_counted(&world).await?;
    let before = in_redis(&world).await?;
    worker.kill()?;
    put(&world, &purchases[100..]).await?;
    delete_below(&world, 50).await?;

    let mut next = world.start_worker(&Member::named("next"))?;
    let (status, log) = (until_ended(&mut next).await?, next.log());
    ensure!(status.code() == Some(1), "it ended with {status}:\n{log}");
    ensure!(log.contains("was counted up to offset 100") && log.contains("begins at 50"), "{log}");
    ensure!(in_redis(&world).await? == before, "what was counted was changed");
    Ok(Survived {
        injected: "a worker killed before its first snapshot, and the log cut below what it had counted".to_owned(),
        held: "the next one stopped with exit code 1 and named what is missing; no total was overwritten".to_owned(),
    })
}

/// It ends with an error that says what is missing, and no store says that the gap was counted.
async fn stops_loudly(world: &World, worker: &mut Process) -> Result<()> {
    let (status, log) = (until_ended(worker).await?, worker.log());
    ensure!(status.code() == Some(1), "it ended with {status}:\n{log}");
    ensure!(log.contains("the next record to count is at offset 10"), "{log}");
    ensure!(log.contains("but the log has 150 to 200"), "{log}");
    for progress in [progress_in_redis(world).await?, progress_in_clickhouse(world).await?] {
        let next = progress.get(&PARTITION).copied().unwrap_or_default();
        ensure!((100..150).contains(&next), "it went on at {next}");
    }
    Ok(())
}

fn assigned_nothing_behind(worker: &Process) -> bool {
    super::assigned(&worker.log()).iter().all(|(partition, offset)| *partition != PARTITION || *offset < 150)
}

async fn put(world: &World, purchases: &[Purchase]) -> Result<()> {
    let raws: Vec<Raw> =
        purchases.iter().map(|purchase| Raw { partition: Some(PARTITION), ..raw(&world.tenant, purchase) }).collect();
    send(&producer(&world.kafka.brokers)?, &world.kafka.topics.events, &raws).await?;
    Ok(())
}

async fn delete_below(world: &World, offset: i64) -> Result<()> {
    let mut cut = TopicPartitionList::new();
    cut.add_partition_offset(&world.kafka.topics.events, PARTITION, Offset::Offset(offset))?;
    admin(&world.kafka.brokers)?.delete_records(&cut, &AdminOptions::new()).await?;
    Ok(())
}
