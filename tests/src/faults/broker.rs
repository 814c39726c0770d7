//! Fault 5: the broker is killed, or paused, while records are read and not committed.

use std::time::Duration;

use anyhow::{Context, Result};

use super::flow::Flow;
use super::via::Via;
use super::{PATIENCE, Survived, tuning, until_progress, until_whole};
use crate::lake::until_conserved;
use crate::proxy::{Direction, Way};
use crate::{Service, Stack, World, until};

/// How long a pause is: longer than the session of a worker.
const PAUSE: Duration = Duration::from_secs(8);

/// Kills the broker and starts it again, then pauses it, `rounds` times. Needs a stack of its own.
pub async fn broker_goes_away(stack: &Stack, seed: u64, rounds: usize) -> Result<Survived> {
    let world = World::with_tuning(stack, &tuning(""))?;
    let via = Via::open(&world).await?;
    let mut archiver = world.start("archive")?;
    let mut worker = world.start_worker(&via.member("worker"))?;
    let flow = Flow::start(&world, seed, 100_000, 300)?;
    for round in 0..2 * rounds {
        until_progress(&world, 100).await.with_context(|| worker.log_tail())?;
        // Between poll and commit: a flush is under way and has no answer.
        via.clickhouse.set(Direction::Answers, Way::Held);
        until("a flush without an answer", PATIENCE, || async { Ok(via.clickhouse.held(Direction::Answers) > 0) })
            .await?;
        if round % 2 == 0 {
            stack.kill(Service::Kafka)?;
            via.clickhouse.set(Direction::Answers, Way::Open);
            stack.start(Service::Kafka)?;
        } else {
            stack.pause(Service::Kafka)?;
            via.clickhouse.set(Direction::Answers, Way::Open);
            tokio::time::sleep(PAUSE).await;
            stack.resume(Service::Kafka)?;
        }
    }
    until_progress(&world, 100).await.with_context(|| worker.log_tail())?;
    let acknowledged = flow.stop(&world).await?;
    let whole = until_whole(&world).await?;
    until_conserved(&world).await.with_context(|| archiver.log_tail())?;
    anyhow::ensure!(worker.stop()?.success() && archiver.stop()?.success(), "{}", worker.log_tail());
    Ok(Survived {
        injected: format!(
            "{rounds} times broker kill -9, {rounds} times paused for {PAUSE:?}, between poll and commit"
        ),
        held: format!("{whole}; lake = log; the log has all {acknowledged} records that the producer was told of"),
    })
}
