//! Fault 11: many tiny inserts while nothing is merged, until ClickHouse refuses.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::flow::Flow;
use super::via::Via;
use super::{Survived, tuning, until_logged, until_progress, until_whole};
use crate::proxy::Direction;
use crate::{Stack, World};

/// How long the refusals are watched, and how many attempts there may be in that time. The pauses between them double
/// up to two seconds.
const WATCHED: Duration = Duration::from_secs(6);
const ATTEMPTS_MAX: u64 = 10;

/// ClickHouse takes `parts` parts and no more.
pub async fn too_many_parts(stack: &Stack, seed: u64, parts: usize) -> Result<Survived> {
    // Each lane makes attempts of its own.
    let tuning =
        tuning("counting_threads = 1").replace("clickhouse_interval = \"200ms\"", "clickhouse_interval = \"10ms\"");
    let world = World::with_tuning(stack, &tuning)?;
    let client = world.clickhouse_client();
    let settings = format!("parts_to_delay_insert = {}, parts_to_throw_insert = {parts}", parts * 10);
    client.query(&format!("ALTER TABLE speed_cells_raw MODIFY SETTING {settings}")).execute().await?;
    client.query("SYSTEM STOP MERGES speed_cells_raw").execute().await?;
    let via = Via::open(&world).await?;
    let mut worker = world.start_worker(&via.member("worker"))?;
    let flow = Flow::start(&world, seed, 60_000, 1000)?;
    let refused = until_logged(&worker, "store does not take writes", 1).await;
    let sql =
        "SELECT count() FROM system.parts WHERE active AND database = currentDatabase() AND table = 'speed_cells_raw'";
    let count = client.query(sql).fetch_one::<u64>().await?;
    refused.with_context(|| format!("{count} parts"))?;
    ensure!(worker.log().contains("Too many parts"), "{}", worker.log_tail());

    // One attempt is one answer.
    let before = via.clickhouse.forwarded(Direction::Answers);
    tokio::time::sleep(WATCHED).await;
    let attempts = via.clickhouse.forwarded(Direction::Answers) - before;
    ensure!((1..=ATTEMPTS_MAX).contains(&attempts), "{attempts} attempts in {WATCHED:?}:\n{}", worker.log_tail());
    until_progress(&world, 100).await.context("Redis goes on")?;

    client.query("SYSTEM START MERGES speed_cells_raw").execute().await?;
    until_logged(&worker, "store is back", 1).await?;
    client
        .query("ALTER TABLE speed_cells_raw RESET SETTING parts_to_delay_insert, parts_to_throw_insert")
        .execute()
        .await?;
    flow.stop(&world).await?;
    let whole = until_whole(&world).await?;
    ensure!(worker.stop()?.success(), "{}", worker.log_tail());
    Ok(Survived {
        injected: format!("{count} parts and no merges: ClickHouse refused"),
        held: format!("{whole}; {attempts} attempts in {WATCHED:?} of refusal"),
    })
}
