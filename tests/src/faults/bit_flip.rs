//! Fault 16: a bit in a snapshot is not what it was.

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::flow::Flow;
use super::steps::{snapshot_folder, snapshots};
use super::{PATIENCE, Survived, tuning, until_assigned, until_whole};
use crate::{Member, Stack, World, until};

/// In one partition's newest snapshot, in both of another, and in none of the third.
pub async fn bits_flip_in_snapshots(stack: &Stack, seed: u64) -> Result<Survived> {
    let world = World::with_tuning(stack, &tuning(""))?;
    let mut random = StdRng::seed_from_u64(seed);
    let mut worker = world.start_worker(&Member::named("first"))?;
    let flow = Flow::start(&world, seed, 40_000, 300)?;
    until("two snapshots of every partition", PATIENCE, || async {
        let found = snapshots(&world);
        Ok(found.len() == 3 && found.values().all(|offsets| offsets.len() >= 2))
    })
    .await?;
    worker.kill()?;
    let found = snapshots(&world);
    let last_two = |partition: i32| -> Result<(i64, i64)> {
        let [.., before, newest] = found[&partition][..] else { anyhow::bail!("{found:?}") };
        Ok((before, newest))
    };
    let (zero, one, two) = (last_two(0)?, last_two(1)?, last_two(2)?);
    flip(&world, &mut random, 0, zero.1)?;
    for offset in &found[&1] {
        flip(&world, &mut random, 1, *offset)?;
    }

    let mut worker = world.start_worker(&Member::named("second"))?;
    let mut starts = until_assigned(&worker, 3).await?;
    starts.sort_unstable();
    ensure!(starts == [(0, zero.0), (1, 0), (2, two.1)], "{starts:?} instead of {zero:?} {one:?} {two:?}");
    let log = worker.log();
    ensure!(log.matches("snapshot is damaged").count() == 1 + found[&1].len(), "{log}");
    ensure!(log.contains("no snapshot can be used"), "{log}");
    flow.stop(&world).await?;
    let whole = until_whole(&world).await?;
    ensure!(worker.stop()?.success(), "{}", worker.log_tail());
    Ok(Survived {
        injected: "a flipped bit in a newest snapshot, and in every snapshot of another partition".to_owned(),
        held: format!("{whole}; detected, fell back to the one before and to the beginning"),
    })
}

fn flip(world: &World, random: &mut StdRng, partition: i32, offset: i64) -> Result<()> {
    let path = snapshot_folder(world).join(partition.to_string()).join(format!("{offset:020}"));
    let mut bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
    let byte = random.random_range(0..bytes.len());
    bytes[byte] ^= 1 << random.random_range(0..8);
    Ok(std::fs::write(&path, bytes)?)
}
