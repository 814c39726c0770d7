//! Redis loses everything, or dies: it is rebuilt from what the worker remembers and from ClickHouse.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reckon_schemas::cell::DimensionValues;
use reckon_schemas::redis_keys;
use reckon_schemas::sketch::Sketch;
use reckon_schemas::time::{EventTime, Zone};
use reckon_schemas::window::{Grain, Window};
use reckon_tests::counted::{assert_counted, compare, in_redis, oracle, produce, until_counted};
use reckon_tests::log::read_topic;
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

    // Dies and comes back with what it had written to disk some time ago.
    redis::cmd("SAVE").query_async::<()>(&mut world.redis_connection().await?).await?;
    produce(&world, third).await?;
    until_counted(&world).await?;
    stack.kill(Service::Redis)?;
    stack.start(Service::Redis)?;
    until_counted(&world).await?;
    until_redis_is_whole(&world).await?;
    assert_counted(&world, LATENESS).await?;
    drop(worker);
    Ok(())
}

/// Each partition's key of the users of a window, and their registers as the log has them.
async fn registers_of(world: &World, window: &Window) -> Result<Vec<(String, Sketch)>> {
    let mut partitions = vec![Sketch::of_registers(); PARTITIONS];
    for record in read_topic(&world.kafka.brokers, &world.kafka.topics.events).await? {
        let event: serde_json::Value = serde_json::from_slice(&record.payload)?;
        let user = event["user"].as_str().context("a user")?;
        partitions[usize::try_from(record.partition)?].insert(user.as_bytes());
    }
    let key = |partition| {
        redis_keys::users(&world.tenant, window, "total", "purchase", partition, &DimensionValues::default())
    };
    Ok((0..).map(key).zip(partitions).collect())
}

/// With many users Redis is only told which pieces of a sketch have changed; every register is right all the same, and when
/// one sketch is gone, which is no loss of everything, it comes back whole.
#[tokio::test(flavor = "multi_thread")]
async fn sketches_are_told_in_pieces_and_whole_where_one_is_gone() -> Result<()> {
    const ROUNDS: usize = 8;
    /// At first so many that every sketch is dense, then so few that most of its pieces stay as they are.
    const USERS: [usize; 2] = [6_000, 60];
    let stack = Stack::shared()?;
    let world = World::with_tuning(&stack, TUNING)?;
    let minute_ago = EventTime::from_timestamp(jiff::Timestamp::now()).plus_micros(-60_000_000);
    let windows = [Grain::Minute, Grain::Hour].map(|grain| grain.window_at(minute_ago, &Zone::UTC));
    let mut purchases = generate(0x5eed_0070, USERS[0] + ROUNDS * USERS[1], windows[0].start.0, 1);
    (0..).zip(&mut purchases).for_each(|(user, purchase): (usize, _)| purchase.user = format!("u-{user}"));
    let worker = world.start("speed")?;
    let mut redis = world.redis_connection().await?;
    let (first, others) = purchases.split_at(USERS[0]);
    for (round, purchases) in std::iter::once(first).chain(others.chunks(USERS[1])).enumerate() {
        if round == ROUNDS - 2 {
            let (key, _) = registers_of(&world, &windows[1]).await?.swap_remove(0);
            let removed: i64 = redis::cmd("DEL").arg(&key).query_async(&mut redis).await?;
            ensure!(removed == 1, "{key} was not there");
        }
        produce(&world, purchases).await?;
        until_counted(&world).await?;
        for window in &windows {
            for (key, expected) in registers_of(&world, window).await? {
                let bytes: Vec<u8> = redis::cmd("GET").arg(&key).query_async(&mut redis).await?;
                let found = Sketch::from_redis(&bytes).with_context(|| format!("{key} in round {round}"))?;
                ensure!(found == expected, "{key} in round {round}: {found:?} instead of {expected:?}");
                let counted: u64 = redis::cmd("PFCOUNT").arg(&key).query_async(&mut redis).await?;
                ensure!(counted == expected.estimate(), "{key} is counted as {counted}: an old estimate");
            }
        }
    }
    ensure!(worker.log().contains("store lost what it had"), "{}", worker.log());
    Ok(())
}
