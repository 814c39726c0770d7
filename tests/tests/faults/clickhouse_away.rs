//! ClickHouse is away: Redis stays fresh, what waits is bounded, the log's lag grows, and nothing is lost.

use std::time::Duration;

use anyhow::{Result, ensure};
use reckon_tests::counted::{assert_counted, produce, progress_in_clickhouse, progress_in_redis, until_counted};
use reckon_tests::purchases::{deliveries, generate};
use reckon_tests::{Service, Stack, World, until};

const LATENESS: Duration = Duration::from_secs(20 * 60);
const AWAY: Duration = Duration::from_secs(60);

/// Bounds that the test reaches.
const TUNING: &str = r#"
[speed]
session_timeout = "6s"
allowed_lateness = "20m"
flush_interval = "50ms"
clickhouse_interval = "200ms"
snapshot_interval = "1s"
dirty_cells_max = 5000
exceptions_max = 2000
"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_log_waits_for_clickhouse() -> Result<()> {
    let stack = Stack::own("clickhouse-away")?;
    let world = World::with_tuning(&stack, TUNING)?;
    let seed = 0x5eed_0009;
    let from_us = jiff::Timestamp::now().as_microsecond() - 12 * 3_600_000_000;
    let delivered = deliveries(&generate(seed, 20_000, from_us, 2_000_000), seed, 0.02, 200);
    let (before, rest) = delivered.split_at(2_000);
    let (during, after) = rest.split_at(16_000);

    let mut worker = world.start("speed")?;
    produce(&world, before).await?;
    until_counted(&world).await?;
    stack.kill(Service::ClickHouse)?;
    let settled = progress_in_redis(&world).await?;

    let away = tokio::time::Instant::now();
    produce(&world, during).await?;
    until("Redis to go on for a while", Duration::from_secs(30), || async {
        Ok(progress_in_redis(&world).await? != settled)
    })
    .await?;
    until("reading to pause", Duration::from_secs(30), || async { Ok(worker.log().contains("reading pauses")) })
        .await?;
    tokio::time::sleep_until(away + AWAY).await;
    ensure!(!worker.has_ended()?, "{}", worker.log());
    let counted: i64 = progress_in_redis(&world).await?.values().sum();
    ensure!(counted < 12_000, "{counted} records were read, which is more than may wait");

    stack.start(Service::ClickHouse)?;
    produce(&world, after).await?;
    until_counted(&world).await?;
    ensure!(progress_in_clickhouse(&world).await? == progress_in_redis(&world).await?);
    assert_counted(&world, LATENESS).await?;
    ensure!(worker.stop()?.success(), "{}", worker.log());
    Ok(())
}
