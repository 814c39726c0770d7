//! Fault 28: worker, broker and ClickHouse die, all of them, in an order that the seed says.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::flow::Flow;
use super::{Survived, tuning, until_progress, until_whole};
use crate::lake::until_conserved;
use crate::{Member, Service, Stack, World};

#[derive(Clone, Copy, Debug)]
enum Part {
    Worker,
    Broker,
    ClickHouse,
}

/// Each dies and each comes back, in an order of its own. Needs a stack of its own.
pub async fn everything_dies(stack: &Stack, seed: u64) -> Result<Survived> {
    let world = World::with_tuning(stack, &tuning(""))?;
    let mut random = StdRng::seed_from_u64(seed);
    let mut archiver = world.start("archive")?;
    let mut worker = world.start_worker(&Member::named("first"))?;
    let flow = Flow::start(&world, seed, 60_000, 300)?;
    until_progress(&world, 200).await.with_context(|| worker.log_tail())?;
    let mut parts = [Part::Worker, Part::Broker, Part::ClickHouse];
    parts.shuffle(&mut random);
    let died = format!("{parts:?}");
    for part in parts {
        match part {
            Part::Worker => worker.kill()?,
            Part::Broker => stack.kill(Service::Kafka)?,
            Part::ClickHouse => stack.kill(Service::ClickHouse)?,
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..1500))).await;
    }
    parts.shuffle(&mut random);
    for part in parts {
        match part {
            Part::Worker => worker = world.start_worker(&Member::named("second"))?,
            Part::Broker => stack.start(Service::Kafka)?,
            Part::ClickHouse => stack.start(Service::ClickHouse)?,
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..1500))).await;
        if matches!(part, Part::Worker) && worker.has_ended()? {
            // Without its stores a part does not begin: it says so with an exit code, and is started again.
            let status = worker.ended()?.context("ended")?;
            ensure!(status.code() == Some(75), "it ended with {status}:\n{}", worker.log_tail());
        }
    }
    if worker.has_ended()? {
        worker = world.start_worker(&Member::named("third"))?;
    }
    until_progress(&world, 200).await.with_context(|| worker.log_tail())?;
    let acknowledged = flow.stop(&world).await?;
    let whole = until_whole(&world).await.with_context(|| worker.log_tail())?;
    until_conserved(&world).await.with_context(|| archiver.log_tail())?;
    ensure!(worker.stop()?.success() && archiver.stop()?.success(), "{}", worker.log_tail());
    Ok(Survived {
        injected: format!("kill -9 of {died}, back as {parts:?}"),
        held: format!("{whole}; lake = log; all {acknowledged} acknowledged records are in it"),
    })
}
