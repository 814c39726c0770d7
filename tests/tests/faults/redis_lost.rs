//! Redis loses everything, or dies: it is rebuilt from what the worker remembers and from ClickHouse.

use std::time::Duration;

use anyhow::{Result, ensure};
use reckon_tests::counted::{assert_counted, compare, in_redis, oracle, produce, until_counted};
use reckon_tests::purchases::{deliveries, generate};
use reckon_tests::{Process, Service, Stack, World, until};

const LATENESS: Duration = Duration::from_secs(10 * 60);

/// Of a test's topic.
const PARTITIONS: usize = 3;

const TUNING: &str = r#"
[speed]
session_timeout = "6s"
allowed_lateness = "10m"
flush_interval = "50ms"
clickhouse_interval = "200ms"
snapshot_interval = "500ms"
"#;

async fn until_redis_is_whole(world: &World) -> Result<()> {
    let expected = oracle(world, LATENESS).await?;
    until("Redis to be rebuilt", Duration::from_secs(60), || async {
        Ok(compare("Redis", &in_redis(world).await?, &expected.cells).is_ok())
    })
    .await?;
    compare("Redis", &in_redis(world).await?, &expected.cells)
}

async fn flush_all(world: &World) -> Result<()> {
    Ok(redis::cmd("FLUSHALL").query_async::<()>(&mut world.redis_connection().await?).await?)
}

/// Waits until the worker has noticed for the `times`th time that Redis was emptied.
async fn until_noticed(worker: &Process, times: usize) -> Result<()> {
    until("the worker to notice", Duration::from_secs(30), || async {
        Ok(worker.log().matches("rebuilt Redis from memory and ClickHouse").count() >= times * PARTITIONS)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_rebuilt_whatever_happens_to_it() -> Result<()> {
    let stack = Stack::own("redis-lost")?;
    let world = World::with_tuning(&stack, TUNING)?;
    let seed = 0x5eed_0007;
    let from_us = jiff::Timestamp::now().as_microsecond() - 6 * 3_600_000_000;
    let delivered = deliveries(&generate(seed, 9_000, from_us, 2_000_000), seed, 0.02, 100);
    let (first, rest) = delivered.split_at(3_000);
    let (second, third) = rest.split_at(3_000);

    let mut worker = world.start("speed")?;
    produce(&world, first).await?;
    until_counted(&world).await?;
    assert_counted(&world, LATENESS).await?;

    // While nothing comes in. Most cells have left the worker's memory.
    flush_all(&world).await?;
    until_noticed(&worker, 1).await?;
    until_redis_is_whole(&world).await?;

    // In the middle of the work.
    produce(&world, second).await?;
    flush_all(&world).await?;
    until_noticed(&worker, 2).await?;
    until_counted(&world).await?;
    until_redis_is_whole(&world).await?;

    // While no worker is there to see it.
    ensure!(worker.stop()?.success(), "{}", worker.log());
    flush_all(&world).await?;
    let worker = world.start("speed")?;
    until_noticed(&worker, 3).await?;
    until_redis_is_whole(&world).await?;

    // Dies and comes back with what it had written to disk.
    produce(&world, third).await?;
    stack.kill(Service::Redis)?;
    stack.start(Service::Redis)?;
    until_counted(&world).await?;
    until_redis_is_whole(&world).await?;
    assert_counted(&world, LATENESS).await?;
    drop(worker);
    Ok(())
}
