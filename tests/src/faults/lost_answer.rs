//! Fault 10: ClickHouse takes an INSERT, and the connection is cut before its answer.

use anyhow::{Context, Result, ensure};

use super::flow::Flow;
use super::via::Via;
use super::{PATIENCE, Survived, tuning, until_progress, until_whole};
use crate::proxy::{Direction, Way};
use crate::{Stack, World, until};

/// Cuts the answers for a while, `rounds` times.
pub async fn answers_are_lost(stack: &Stack, seed: u64, rounds: usize) -> Result<Survived> {
    let world = World::with_tuning(stack, &tuning(""))?;
    let client = world.clickhouse_client();
    // What is written twice is to be seen twice below the view.
    client.query("SYSTEM STOP MERGES speed_cells_raw").execute().await?;
    let via = Via::open(&world).await?;
    let mut worker = world.start_worker(&via.member("worker"))?;
    let flow = Flow::start(&world, seed, 40_000, 300)?;
    for _ in 0..rounds {
        until_progress(&world, 100).await.with_context(|| worker.log_tail())?;
        let before = via.clickhouse.cut(Direction::Answers);
        via.clickhouse.set(Direction::Answers, Way::Cut);
        until("answers to be lost", PATIENCE, || async { Ok(via.clickhouse.cut(Direction::Answers) >= before + 3) })
            .await
            .with_context(|| worker.log_tail())?;
        via.clickhouse.set(Direction::Answers, Way::Open);
    }
    flow.stop(&world).await?;
    let whole = until_whole(&world).await?;
    // The negative control: the rows are really there more than once, so a sum of them all would be wrong.
    let sql = "SELECT sum(count) FROM speed_cells_raw WHERE rollup = 'total' AND grain = '1h' GROUP BY window_start, \
               event, partition, version HAVING count() > 1";
    let doubled = client.query(sql).fetch_all::<u64>().await?.len();
    ensure!(doubled > 0, "no row was written twice: not a test");
    ensure!(worker.stop()?.success(), "{}", worker.log_tail());
    let lost = via.clickhouse.cut(Direction::Answers);
    Ok(Survived {
        injected: format!("{lost} answers of ClickHouse lost after the INSERT was taken"),
        held: format!("{whole}; {doubled} hourly totals are in the table twice and count once"),
    })
}
