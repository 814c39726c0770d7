//! Fault 1: `kill -9` at each step of the work.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::flow::Flow;
use super::via::Via;
use super::{PATIENCE, Survived, counted_records, tuning, until_assigned, until_logged, until_progress, until_whole};
use crate::proxy::{Direction, Way};
use crate::{Process, Stack, World};

/// Where the worker is when it is killed.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Records are counted in memory, and nothing of it has left.
    Apply,
    /// The stores have taken a flush, and the worker does not know.
    Flush,
    /// A snapshot is being written.
    Snapshot,
    /// It is there, and its offset is not committed yet.
    Commit,
}

/// Kills a worker at each step, `rounds` times.
pub async fn kill_at_each_step(stack: &Stack, seed: u64, rounds: usize) -> Result<Survived> {
    let world = World::with_tuning(stack, &tuning("dirty_cells_max = 1500"))?;
    let via = Via::open(&world).await?;
    let flow = Flow::start(&world, seed, 20_000 * (rounds + 1), 500)?;
    let (mut life, mut replayed_max, mut in_the_writing) = (0, 0, 0);
    let mut worker = world.start_worker(&via.member("life-0"))?;
    for _ in 0..rounds {
        for step in [Step::Apply, Step::Flush, Step::Snapshot, Step::Commit] {
            until_progress(&world, 50).await.with_context(|| format!("before {step:?}: {}", worker.log_tail()))?;
            ensure!(flow.goes_on(), "the flow is over before the work is");
            in_the_writing +=
                usize::from(reach(step, &world, &via, &worker).await.with_context(|| format!("{step:?}"))?);
            worker.kill()?;
            let saved = newest(&world);
            let counted = counted_records(&world).await?;
            via.reset();
            life += 1;
            worker = world.start_worker(&via.member(format!("life-{life}")))?;
            let starts = until_assigned(&worker, 3).await?;
            for (partition, offset) in &starts {
                let saved = saved.get(partition).copied().unwrap_or(0);
                ensure!(*offset == saved, "partition {partition} is read from {offset}, its snapshot was at {saved}");
            }
            replayed_max = replayed_max.max(counted - starts.iter().map(|(_, offset)| offset).sum::<i64>());
        }
    }
    flow.stop(&world).await?;
    let whole = until_whole(&world).await?;
    ensure!(worker.stop()?.success(), "{}", worker.log_tail());
    Ok(Survived {
        injected: format!("{life} kill -9 at apply, flush, snapshot, commit ({in_the_writing} in mid-snapshot)"),
        held: format!("{whole}; each life began at its newest snapshot, at most {replayed_max} records again"),
    })
}

/// Waits until the worker is at a step. True if a snapshot was seen half written.
async fn reach(step: Step, world: &World, via: &Via, worker: &Process) -> Result<bool> {
    match step {
        Step::Apply => {
            let pauses = worker.log().matches("reading pauses").count();
            via.set(Direction::Requests, Way::Held);
            until_logged(worker, "reading pauses", pauses + 1).await?;
            Ok(false)
        }
        Step::Flush => {
            via.set(Direction::Answers, Way::Held);
            via.until_held(Direction::Answers).await?;
            Ok(false)
        }
        Step::Snapshot | Step::Commit => {
            let world_store = snapshot_folder(world);
            tokio::task::spawn_blocking(move || watch(&world_store, matches!(step, Step::Snapshot))).await?
        }
    }
}

/// Looks at the folder again and again, without a pause, until a snapshot is new (or begun, if that is what is asked).
fn watch(folder: &Path, begun_is_enough: bool) -> Result<bool> {
    let before = names(folder);
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        for name in names(folder) {
            let begun = name.contains('#');
            if !before.contains(&name) && (begun_is_enough || !begun) {
                return Ok(begun);
            }
        }
    }
    anyhow::bail!("no new snapshot within {PATIENCE:?}")
}

/// The files of all partitions; what comes and goes meanwhile may be among them or not.
fn names(folder: &Path) -> Vec<String> {
    let list = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files = list(folder).flat_map(|partition| list(&partition.path()));
    files.map(|file| file.path().to_string_lossy().into_owned()).collect()
}

/// Where a world's snapshots are, one folder a partition.
pub fn snapshot_folder(world: &World) -> PathBuf {
    world.store().join("snapshots").join(&world.kafka.topics.events)
}

/// The offset of the newest snapshot of each partition that has one.
pub fn newest(world: &World) -> BTreeMap<i32, i64> {
    snapshots(world).into_iter().filter_map(|(partition, offsets)| Some((partition, *offsets.last()?))).collect()
}

/// The offsets of all snapshots, by partition, oldest first.
pub fn snapshots(world: &World) -> BTreeMap<i32, Vec<i64>> {
    let mut snapshots: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
    for name in names(&snapshot_folder(world)) {
        let mut parts = name.rsplit('/');
        if let (Some(Ok(offset)), Some(Ok(partition))) = (parts.next().map(str::parse), parts.next().map(str::parse)) {
            snapshots.entry(partition).or_default().push(offset);
        }
    }
    snapshots.values_mut().for_each(|offsets| offsets.sort_unstable());
    snapshots
}

/// How old the newest snapshot of a partition is.
pub fn age_of_newest(world: &World, partition: i32) -> Result<Option<Duration>> {
    let Some(offset) = newest(world).get(&partition).copied() else { return Ok(None) };
    let file = snapshot_folder(world).join(partition.to_string()).join(format!("{offset:020}"));
    Ok(Some(std::fs::metadata(file)?.modified()?.elapsed().unwrap_or_default()))
}
