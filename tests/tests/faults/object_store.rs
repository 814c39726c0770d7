//! The lake and the snapshots on S3-compatible storage: the whole way, and what the storage may do to it (13, 14).

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reckon_schemas::lake::EVENTS_TABLE;
use reckon_tests::counted::{produce, until_counted};
use reckon_tests::lake::log_ranges;
use reckon_tests::proxy::{Direction, Proxy, Way};
use reckon_tests::purchases::{Purchase, generate, sums};
use reckon_tests::s3::{Fault, S3};
use reckon_tests::{Stack, World, until};
use serde_json::Value;

const TUNING: &str = r#"
[speed]
flush_interval = "100ms"
clickhouse_interval = "200ms"
snapshot_interval = "500ms"

[archive]
commit_interval = "100ms"

[nightly]
archive_wait = "60s"
"#;

const PATIENCE: Duration = Duration::from_secs(90);
const DAY_US: i64 = 86_400_000_000;

/// Purchases of three days ago, in the morning in New York.
fn purchases(seed: u64, count: usize) -> Vec<Purchase> {
    let noon_us = (jiff::Timestamp::now().as_microsecond() / DAY_US - 3) * DAY_US + DAY_US / 2;
    generate(seed, count, noon_us, 20_000_000)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_way_on_s3_and_others_read_it() -> Result<()> {
    let s3 = S3::start()?;
    let world = World::with_lake(&Stack::shared()?, TUNING, s3.lake(s3.endpoint()))?;
    let purchases = purchases(0x5eed_0413, 1_500);
    let (mut worker, mut archiver) = (world.start("speed")?, world.start("archive")?);
    produce(&world, &purchases[..1_000]).await?;
    until_counted(&world).await?;
    until("a snapshot", PATIENCE, || async { Ok(!s3.objects("snapshots/").await?.is_empty()) }).await?;
    // More than one file of the day, for the compaction below.
    until_archived(&world, &s3).await?;
    // Killed in the middle, it goes on from a snapshot that is there.
    worker.kill()?;
    produce(&world, &purchases[1_000..]).await?;
    let mut worker_again = world.start("speed")?;
    until_counted(&world).await?;
    until_archived(&world, &s3).await?;
    let nightly = world.run(&["nightly"])?;
    ensure!(nightly.code == 0, "exit {}:\n{}\n{}", nightly.code, nightly.stdout, nightly.log);
    ensure!(world.run(&["conservation"])?.code == 0);
    ensure!(worker_again.stop()?.success() && archiver.stop()?.success());

    let seen = s3.read_by_others(EVENTS_TABLE)?;
    let cents = sums(&purchases, |_| ())[&()].cents;
    for reader in ["deltalake", "polars"] {
        ensure!(seen[reader]["minor"].as_i64().map(i128::from) == Some(cents), "{reader}: {}", seen[reader]["minor"]);
    }
    // Upkeep changes what no reader sees, and takes nothing that a settlement was counted from.
    let compacted = world.run(&["compact"])?;
    ensure!(compacted.code == 0, "exit {}: {}\n{}", compacted.code, compacted.stdout, compacted.log);
    ensure!(world.run(&["vacuum"])?.code == 99, "nothing is a week old");
    ensure!(s3.read_by_others(EVENTS_TABLE)? == seen);
    ensure!(world.run(&["conservation"])?.code == 0);
    let report: Value = serde_json::from_str(nightly.stdout.lines().last().context("a line")?)?;
    ensure!(report["reports"][0]["events"] == 1_500, "{report}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_storage_does_loses_nothing_and_doubles_nothing() -> Result<()> {
    let s3 = S3::start()?;
    let (proxy, endpoint) = Proxy::before(s3.endpoint()).await?;
    let world = World::with_lake(&Stack::shared()?, TUNING, s3.lake(&endpoint))?;
    let purchases = purchases(0x5eed_0414, 4_000);
    let mut archiver = world.start("archive")?;
    let mut batches = purchases.chunks(500);
    let mut next = || batches.next().context("more purchases");
    produce(&world, next()?).await?;
    until_archived(&world, &s3).await?;

    // More refusals than the client repeats by itself.
    s3.order(Fault::Unavailable, 60).await?;
    produce(&world, next()?).await?;
    until("the refusals", PATIENCE, || async { Ok(s3.ordered(Fault::Unavailable).await? == 0) }).await?;
    until_archived(&world, &s3).await?;

    // Commits that happen, and whose answer says that they did not.
    s3.order(Fault::Lost, 3).await?;
    for _ in 0..3 {
        produce(&world, next()?).await?;
        until_archived(&world, &s3).await?;
    }
    ensure!(s3.ordered(Fault::Lost).await? == 0, "every one of them was met");

    // Answers that never come, then connections that break before theirs.
    for way in [Way::Held, Way::Cut] {
        proxy.set(Direction::Answers, way);
        produce(&world, next()?).await?;
        tokio::time::sleep(Duration::from_secs(5)).await;
        proxy.set(Direction::Answers, Way::Open);
        until_archived(&world, &s3).await?;
    }
    ensure!(archiver.stop()?.success(), "{}", archiver.log());
    let proof = world.run(&["conservation"])?;
    ensure!(proof.code == 0, "{}", proof.stdout);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_archivers_on_one_partition_write_every_record_once() -> Result<()> {
    let s3 = S3::start()?;
    let world = World::with_lake(&Stack::shared()?, TUNING, s3.lake(s3.endpoint()))?;
    let purchases = purchases(0x5eed_0415, 6_000);
    let mut one = world.start("archive")?;
    let mut other = reckon_tests::Process::start(
        &world.config(),
        &["archive"],
        world.config().with_file_name("another-archive.log"),
    )?;
    for batch in purchases.chunks(300) {
        produce(&world, batch).await?;
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    until_archived(&world, &s3).await?;
    let conflicts = [&one, &other].map(|archiver| archiver.log().matches("collided").count());
    let gave_way = [&one, &other].map(|archiver| archiver.log().matches("another").count());
    ensure!(
        conflicts.iter().chain(&gave_way).sum::<usize>() > 0,
        "they never met: {}\n{}",
        one.log_tail(),
        other.log_tail()
    );
    for archiver in [&mut one, &mut other] {
        if !archiver.has_ended()? {
            archiver.stop()?;
        }
    }
    let proof = world.run(&["conservation"])?;
    ensure!(proof.code == 0, "{}", proof.stdout);
    Ok(())
}

/// Law 4, by readers that are not this project's: every offset of every partition once.
async fn until_archived(world: &World, s3: &S3) -> Result<()> {
    let mut expected = BTreeMap::new();
    for (partition, (low, high)) in log_ranges(world, &world.kafka.topics.events).await? {
        if low < high {
            expected.insert(partition.to_string(), (low..high).collect::<Vec<i64>>());
        }
    }
    let expected = serde_json::to_value(&expected)?;
    until("the lake to hold the log", PATIENCE, || async {
        let seen = s3.read_by_others(EVENTS_TABLE)?;
        Ok(seen["deltalake"]["offsets"] == expected && seen["polars"]["offsets"] == expected)
    })
    .await
}
