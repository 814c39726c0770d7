//! A speed worker is killed in mid-window, again and again: its successors count what it would have counted.

use std::time::Duration;

use anyhow::{Result, ensure};
use reckon_tests::counted::{assert_counted, produce, progress_in_redis, until_counted};
use reckon_tests::purchases::{deliveries, generate};
use reckon_tests::{Stack, World, until};

const LATENESS: Duration = Duration::from_secs(20 * 60);

const TUNING: &str = r#"
[speed]
session_timeout = "6s"
allowed_lateness = "20m"
flush_interval = "50ms"
clickhouse_interval = "200ms"
snapshot_interval = "300ms"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn kill_in_mid_window_changes_nothing() -> Result<()> {
    let stack = Stack::shared()?;
    let world = World::with_tuning(&stack, TUNING)?;
    let seed = 0x5eed_0001;
    let from_us = jiff::Timestamp::now().as_microsecond() - 6 * 3_600_000_000;
    let purchases = generate(seed, 12_000, from_us, 1_500_000);
    let delivered = deliveries(&purchases, seed, 0.02, 400);

    let mut worker = world.start("speed")?;
    for (life, part) in delivered.chunks(delivered.len().div_ceil(4)).enumerate() {
        let (first, rest) = part.split_at(part.len() / 2);
        let before = counted_records(&world).await?;
        produce(&world, first).await?;
        // In the middle of the work: some of this life's records are counted, and more of them come.
        until("some of this life's records to be counted", Duration::from_secs(60), || async {
            Ok(counted_records(&world).await? > before)
        })
        .await?;
        produce(&world, rest).await?;
        if life < 3 {
            worker.kill()?;
            worker = world.start("speed")?;
        }
    }
    until_counted(&world).await?;
    let counted = assert_counted(&world, LATENESS).await?;
    ensure!(counted.exceptions.get("duplicate").is_some_and(|twice| *twice > 100), "{:?}", counted.exceptions);

    // One more life, in good order: the next one starts behind the last record and has nothing to read again.
    ensure!(worker.stop()?.success(), "the worker did not stop in good order:\n{}", worker.log());
    let ends = progress_in_redis(&world).await?;
    let worker = world.start("speed")?;
    let offsets = format!("offsets={:?}", ends.into_iter().collect::<Vec<_>>());
    until("the next life to start at the end", Duration::from_secs(30), || async {
        Ok(worker.log().contains(&offsets))
    })
    .await?;
    assert_counted(&world, LATENESS).await?;
    Ok(())
}

async fn counted_records(world: &World) -> Result<i64> {
    Ok(progress_in_redis(world).await?.values().sum())
}
