//! Fault 20: a partition is idle while the others go on for hours of event time.

use anyhow::{Context, Result, ensure};
use reckon_schemas::redis_keys::{self, Progress};

use super::flow::raw;
use super::{PATIENCE, Survived, tuning, until_whole};
use crate::counted::until_counted;
use crate::log::{Raw, producer, send};
use crate::purchases::{Purchase, generate};
use crate::{Member, Stack, World, until};

const HOUR_US: i64 = 3_600_000_000;
const IDLE: i32 = 2;

/// The idle one resumes where it was, hours behind the others: its purchases are on time by its own records.
pub async fn a_partition_is_idle(stack: &Stack, seed: u64) -> Result<Survived> {
    let world = World::with_tuning(stack, &tuning(""))?;
    let from_us = jiff::Timestamp::now().as_microsecond() - 10 * HOUR_US;
    let mut worker = world.start_worker(&Member::named("first"))?;
    put(&world, &generate(seed, 600, from_us, 1_000_000), &[0, 1, IDLE]).await?;
    until_counted(&world).await?;
    put(&world, &generate(seed + 1, 5_000, from_us + HOUR_US / 2, 6_000_000), &[0, 1]).await?;
    until_whole(&world).await?;

    // Readers can tell idle from dead: the idle one says again and again that it is where it was.
    let before = progress(&world).await?;
    until("the idle partition to say that it is alive", PATIENCE, || async {
        Ok(progress(&world).await?.written_at_ms > before.written_at_ms)
    })
    .await?;
    let now = progress(&world).await?;
    ensure!((now.next_offset, now.watermark) == (before.next_offset, before.watermark), "{before:?} {now:?}");

    // It resumes, with another worker.
    ensure!(worker.stop()?.success(), "{}", worker.log_tail());
    let mut worker = world.start_worker(&Member::named("second"))?;
    put(&world, &generate(seed + 2, 600, from_us + 600 * 1_000_000, 1_000_000), &[IDLE]).await?;
    let whole = until_whole(&world).await?;
    ensure!(worker.stop()?.success(), "{}", worker.log_tail());
    Ok(Survived {
        injected: "a partition idle for eight hours of the others' event time".to_owned(),
        held: format!("{whole}; it showed that it was alive, and nothing of it was late when it resumed"),
    })
}

async fn put(world: &World, purchases: &[Purchase], partitions: &[i32]) -> Result<()> {
    let raws: Vec<Raw> = purchases
        .iter()
        .zip(partitions.iter().cycle())
        .map(|(purchase, partition)| Raw { partition: Some(*partition), ..raw(&world.tenant, purchase) })
        .collect();
    send(&producer(&world.kafka.brokers)?, &world.kafka.topics.events, &raws).await?;
    Ok(())
}

async fn progress(world: &World) -> Result<Progress> {
    let mut connection = world.redis_connection().await?;
    let key = redis_keys::progress(&world.kafka.topics.events);
    let json: String = redis::cmd("HGET").arg(key).arg(IDLE).query_async(&mut connection).await?;
    serde_json::from_str(&json).context(json)
}
