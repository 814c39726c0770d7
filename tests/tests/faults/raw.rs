//! Raw events: killed in mid-block, an answer lost after the rows were taken, ClickHouse away. Each event is there once.

use std::time::Duration;

use anyhow::{Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reckon_tests::counted::produce;
use reckon_tests::proxy::{Direction, Proxy, Way};
use reckon_tests::purchases::{Purchase, deliveries, generate};
use reckon_tests::raw::{assert_raw, count};
use reckon_tests::{Service, Stack, World, until};

/// Many small blocks.
const TUNING: &str = "[raw]\nsession_timeout = \"6s\"\nrows_max = 700\ninterval = \"300ms\"\n";
const PATIENCE: Duration = Duration::from_secs(60);

fn purchases(seed: u64, count: usize) -> Vec<Purchase> {
    let from_us = jiff::Timestamp::now().as_microsecond() - 12 * 3_600_000_000;
    generate(seed, count, from_us, 1_000_000)
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_in_mid_block_neither_loses_nor_repeats() -> Result<()> {
    let mut stack = Stack::shared()?;
    let (proxy, url) = Proxy::before(&stack.clickhouse).await?;
    stack.clickhouse = url;
    let world = World::with_tuning(&stack, TUNING)?;
    let seed = 0x5eed_0032;
    let mut random = StdRng::seed_from_u64(seed);
    let distinct = purchases(seed, 24_000);
    let delivered = deliveries(&distinct, seed, 0.02, 400);
    let mut killed_at_work = 0;
    for (life, part) in delivered.chunks(delivered.len().div_ceil(6)).enumerate() {
        let before = count(&world, "raw_events").await?;
        let mut reader = world.start("raw")?;
        let (first, rest) = part.split_at(part.len() / 2);
        produce(&world, first).await?;
        until("this life to write something", PATIENCE, || async { Ok(count(&world, "raw_events").await? > before) })
            .await?;
        // Every second life ends for certain with a block that was read, and did not arrive.
        proxy.set(Direction::Requests, if life % 2 == 1 { Way::Cut } else { Way::Open });
        produce(&world, rest).await?;
        if life % 2 == 1 {
            let failed = || reader.log().matches("repeating until it does").count();
            until("a block to fail", PATIENCE, || async { Ok(failed() > life / 2) }).await?;
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..60))).await;
        reader.kill()?;
        proxy.set(Direction::Requests, Way::Open);
        killed_at_work += usize::from(count(&world, "raw_events").await? < before + part.len() as u64 * 9 / 10);
    }
    ensure!(killed_at_work >= 3, "only {killed_at_work} of 6 lives ended with work left: not a test (seed {seed:#x})");
    let mut reader = world.start("raw")?;
    let all = distinct.len() as u64;
    until("every event", PATIENCE, || async { Ok(count(&world, "raw_events").await? >= all) }).await?;
    assert_raw(&world).await?;
    // In good order: what was read last is written and noted before it ends, and the next one has nothing to do.
    produce(&world, &purchases(seed + 1, 100)).await?;
    until("the last ones", PATIENCE, || async { Ok(count(&world, "raw_events").await? == all + 100) }).await?;
    ensure!(reader.stop()?.success(), "{}", reader.log());
    let finished = world.run(&["raw", "--until-end"])?;
    ensure!(finished.stdout.contains("\"records\":0"), "{}{}", finished.stdout, finished.log);
    assert_raw(&world).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_counts_once_and_is_stored_once() -> Result<()> {
    let (stored, shown, sent) = with_lost_answers("").await?;
    ensure!((stored, shown) == (sent, sent), "{stored} rows stored, {shown} shown, {sent} events");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_noticed_where_blocks_have_no_names() -> Result<()> {
    let (stored, shown, sent) = with_lost_answers("deduplicate = false\n").await?;
    ensure!(shown == sent, "{shown} shown, {sent} events");
    ensure!(stored > sent, "{stored} rows stored: no answer was lost after its rows were taken, which is not a test");
    Ok(())
}

/// The rows in the table, the rows in the view, and the events, after answers were lost.
async fn with_lost_answers(tuning: &str) -> Result<(u64, u64, u64)> {
    let mut stack = Stack::shared()?;
    let (proxy, url) = Proxy::before(&stack.clickhouse).await?;
    stack.clickhouse = url;
    let world = World::with_tuning(&stack, &format!("{TUNING}{tuning}"))?;
    world.clickhouse_client().query("SYSTEM STOP MERGES raw_events_stored").execute().await?;
    let sent = purchases(0x5eed_0033, 7_000);
    let (first, rest) = sent.split_at(1_000);
    let reader = world.start("raw")?;
    produce(&world, first).await?;
    until("the reader to be at work", PATIENCE, || async { Ok(count(&world, "raw_events").await? == 1_000) }).await?;
    // Nobody but the reader asks ClickHouse through the proxy until the answers are lost: one may be to how far it is, the
    // others are to rows.
    proxy.set(Direction::Answers, Way::Cut);
    produce(&world, rest).await?;
    until("the answers to be lost", PATIENCE, || async { Ok(proxy.cut(Direction::Answers) >= 3) }).await?;
    proxy.set(Direction::Answers, Way::Open);
    let all = sent.len() as u64;
    until("every event", PATIENCE, || async { Ok(count(&world, "raw_events").await? >= all) }).await?;
    ensure!(reader.log().contains("repeating until it does"), "{}", reader.log());
    assert_raw(&world).await?;
    Ok((count(&world, "raw_events_stored").await?, count(&world, "raw_events").await?, all))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_waits_for_clickhouse() -> Result<()> {
    let stack = Stack::own("raw-away")?;
    let world = World::with_tuning(&stack, TUNING)?;
    let seed = 0x5eed_0034;
    let mut sent = purchases(seed, 120_000);
    // Texts that are large in memory and small on the wire.
    for purchase in &mut sent {
        purchase.store = format!("{:0>1000}", purchase.store);
        purchase.department = format!("{:_>1000}", purchase.department);
    }
    let (before, during) = sent.split_at(1_000);
    let mut reader = world.start("raw")?;
    produce(&world, before).await?;
    until("the reader to be at work", PATIENCE, || async { Ok(count(&world, "raw_events").await? == 1_000) }).await?;
    stack.kill(Service::ClickHouse)?;
    for part in during.chunks(20_000) {
        produce(&world, part).await?;
    }
    until("reading to pause", PATIENCE, || async { Ok(reader.log().contains("reading raw events pauses")) }).await?;
    // Longer than the group would wait for a member that does not answer.
    tokio::time::sleep(Duration::from_secs(15)).await;
    ensure!(!reader.has_ended()?, "{}", reader.log());
    let resident_mb = reader.resident_bytes()? / 1_000_000;
    ensure!(
        resident_mb < 160,
        "{resident_mb} MB are resident: more waits than two blocks and what the client reads ahead"
    );
    stack.start(Service::ClickHouse)?;
    let all = sent.len() as u64;
    until("every event", PATIENCE, || async { Ok(count(&world, "raw_events").await? >= all) }).await?;
    ensure!(!reader.log().contains("partitions lost"), "{}", reader.log());
    assert_raw(&world).await?;
    ensure!(reader.stop()?.success(), "{}", reader.log());
    Ok(())
}
