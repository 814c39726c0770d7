//! Fault 8: Redis is paused for longer than its clients wait for an answer.

use anyhow::{Context, Result, ensure};

use super::flow::Flow;
use super::{Survived, tuning, until_logged, until_progress, until_whole};
use crate::{Member, Service, Stack, World};

/// What each lane of the worker says of a store.
const AWAY: &str = "store does not take writes";
const BACK: &str = "store is back";

/// Pauses Redis until the worker has given an answer up, `rounds` times. Needs a stack of its own.
pub async fn redis_does_not_answer(stack: &Stack, seed: u64, rounds: usize) -> Result<Survived> {
    let world = World::with_tuning(stack, &tuning(""))?;
    let mut worker = world.start_worker(&Member::named("worker"))?;
    let flow = Flow::start(&world, seed, 60_000, 300)?;
    let said = |text: &str| worker.log().matches(text).count() + 1;
    for _ in 0..rounds {
        until_progress(&world, 100).await.with_context(|| worker.log_tail())?;
        stack.pause(Service::Redis)?;
        let waited = until_logged(&worker, AWAY, said(AWAY)).await;
        let back = said(BACK);
        stack.resume(Service::Redis)?;
        waited?;
        // What was sent before and what is repeated are both executed.
        until_logged(&worker, BACK, back).await?;
    }
    until_progress(&world, 100).await?;
    flow.stop(&world).await?;
    let whole = until_whole(&world).await?;
    ensure!(worker.stop()?.success(), "{}", worker.log_tail());
    Ok(Survived { injected: format!("{rounds} times Redis paused past its clients' timeout"), held: whole })
}
