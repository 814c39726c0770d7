//! Duplicates, a shuffled order and late events: everything on time is counted once, and the late counter is exact.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use reckon_tests::counted::{assert_counted, compare, in_clickhouse, produce, until_counted};
use reckon_tests::purchases::{Purchase, deliveries, generate, sums};
use reckon_tests::{Stack, World};

const LATENESS: Duration = Duration::from_secs(20 * 60);

fn tuning(dedup_horizon_records: usize) -> String {
    format!("[speed]\nallowed_lateness = \"20m\"\ndedup_horizon_records = {dedup_horizon_records}\n")
}

/// Six hours of purchases; every hundredth comes three hours late.
fn troubled(seed: u64) -> (Vec<Purchase>, Vec<Purchase>) {
    let from_us = jiff::Timestamp::now().as_microsecond() - 7 * 3_600_000_000;
    let purchases = generate(seed, 10_000, from_us, 2_000_000);
    let mut delivered = deliveries(&purchases, seed, 0.05, 200);
    let is_late = |index: usize| index % 100 == 37 && index + 6000 < 10_000;
    let late: Vec<Purchase> =
        purchases.iter().enumerate().filter(|(n, _)| is_late(*n)).map(|(_, p)| p.clone()).collect();
    let late_ids: HashSet<&str> = late.iter().map(|purchase| purchase.id.as_str()).collect();
    delivered.retain(|purchase| !late_ids.contains(purchase.id.as_str()));
    delivered.extend(late.iter().cloned());
    (delivered, late)
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_in_delivery_is_counted_exactly() -> Result<()> {
    let stack = Stack::shared()?;
    let world = World::with_tuning(&stack, &tuning(200_000))?;
    let (delivered, late) = troubled(0x5eed_0018);
    let mut worker = world.start("speed")?;
    produce(&world, &delivered).await?;
    until_counted(&world).await?;
    let counted = assert_counted(&world, LATENESS).await?;
    ensure!(counted.exceptions.get("late") == Some(&(late.len() as u64)), "{:?}", counted.exceptions);

    // A second oracle, which does not know the rules: what was not late, each once.
    let late_ids: HashSet<&str> = late.iter().map(|purchase| purchase.id.as_str()).collect();
    let on_time: Vec<Purchase> =
        delivered.iter().filter(|purchase| !late_ids.contains(purchase.id.as_str())).cloned().collect();
    let expected = sums(&on_time, |purchase| purchase.at_us.div_euclid(60_000_000) * 60_000_000);
    let expected =
        expected.into_iter().map(|(start_us, sums)| (("total".into(), "1m".into(), start_us, vec![]), sums)).collect();
    let mut found = in_clickhouse(&world).await?.cells;
    found.retain(|(rollup, grain, _, _), _| rollup == "total" && grain == "1m");
    compare("ClickHouse, minutes", &found, &expected)?;
    ensure!(worker.stop()?.success(), "{}", worker.log());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_horizon_the_oracle_notices() -> Result<()> {
    let stack = Stack::shared()?;
    let world = World::with_tuning(&stack, &tuning(1))?;
    let (delivered, _) = troubled(0x5eed_1018);
    let _worker = world.start("speed")?;
    produce(&world, &delivered).await?;
    until_counted(&world).await?;
    let problem = assert_counted(&world, LATENESS).await.err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(problem.contains("cells are wrong"), "duplicates were counted, and nobody noticed: {problem}");
    Ok(())
}
