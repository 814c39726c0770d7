//! Fault 3: workers start and stop without end.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::flow::Flow;
use super::{Survived, tuning, until_ended, until_progress, until_whole};
use crate::lake::until_conserved;
use crate::{Member, Process, Stack, World};

/// A worker starts or stops this often.
const EVERY: Duration = Duration::from_secs(2);
const ALIVE_MAX: usize = 4;

/// `rounds` starts and stops; a stop is in good order or a kill.
pub async fn rebalance_storm(stack: &Stack, seed: u64, rounds: usize) -> Result<Survived> {
    let world = World::with_tuning(stack, &tuning(""))?;
    let mut archiver = world.start("archive")?;
    let flow = Flow::start(&world, seed, 60_000, 300)?;
    let mut random = StdRng::seed_from_u64(seed);
    let (mut alive, mut leaving): (Vec<Process>, Vec<Process>) = (vec![], vec![]);
    let (mut starts, mut stops, mut kills) = (0, 0, 0);
    let mut pace = tokio::time::interval(EVERY);
    for _ in 0..rounds {
        pace.tick().await;
        if alive.is_empty() || (alive.len() < ALIVE_MAX && random.random_bool(0.5)) {
            alive.push(world.start_worker(&Member::named(format!("worker-{starts}")))?);
            starts += 1;
            continue;
        }
        let mut worker = alive.swap_remove(random.random_range(0..alive.len()));
        ensure!(!worker.has_ended()?, "a worker ended by itself:\n{}", worker.log_tail());
        if random.random_bool(0.5) {
            worker.ask_to_stop()?;
            leaving.push(worker);
            stops += 1;
        } else {
            worker.kill()?;
            kills += 1;
        }
    }
    alive.push(world.start_worker(&Member::named("last"))?);
    for mut worker in leaving {
        let status = until_ended(&mut worker).await?;
        ensure!(status.success(), "ended with {status}:\n{}", worker.log_tail());
    }
    until_progress(&world, 50).await.context("progress after the storm")?;
    flow.stop(&world).await?;
    let whole = until_whole(&world).await.with_context(|| alive.iter().map(Process::log_tail).collect::<String>())?;
    until_conserved(&world).await?;
    for mut worker in alive {
        ensure!(worker.stop()?.success(), "a worker did not stop in good order:\n{}", worker.log_tail());
    }
    ensure!(archiver.stop()?.success(), "{}", archiver.log_tail());
    Ok(Survived {
        injected: format!("{rounds} rebalances, one every {EVERY:?}: {starts} starts, {stops} stops, {kills} kill -9"),
        held: format!("{whole}; lake = log; progress afterwards"),
    })
}
