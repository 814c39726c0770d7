//! The faults of the speed layer, each as a scene: what is injected, and what must hold afterwards. The tests play them
//! short, `make soak` plays them long. Each ends with a calm phase, and then with the oracles.

pub mod bad_records;
pub mod bit_flip;
pub mod blocked;
pub mod broker;
pub mod calendar;
pub mod clock;
pub mod controls;
pub mod disk_full;
pub mod flow;
pub mod hot_tenant;
pub mod idle;
pub mod kills;
pub mod lost_answer;
pub mod many_parts;
pub mod paused;
pub mod redis_paused;
pub mod steps;
pub mod storm;
pub mod together;
pub mod truncated;
pub mod via;

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::counted::{assert_counted, progress_in_redis, until_counted};
use crate::{Process, World, until};

/// What a window takes by default after its end.
pub const LATENESS: Duration = Duration::from_secs(3600);

/// For everything that must happen, however slow the machine is today.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// What was done, and what was seen to hold: a line for the table of `make soak`.
#[derive(Clone, Debug)]
pub struct Survived {
    pub injected: String,
    pub held: String,
}

/// A worker's section in which everything happens sooner, with more settings at its end. Lateness is left at its
/// default, and no purchase of a scene is late unless the scene says so.
#[must_use]
pub fn tuning(more: &str) -> String {
    format!(
        "[speed]\nsession_timeout = \"6s\"\nflush_interval = \"50ms\"\nclickhouse_interval = \"200ms\"\n\
         snapshot_interval = \"1s\"\n{more}\n[archive]\ncommit_interval = \"500ms\"\n"
    )
}

/// The calm phase, and oracle O.
pub async fn until_whole(world: &World) -> Result<String> {
    until_counted(world).await?;
    let counted = assert_counted(world, LATENESS).await?;
    let late = counted.exceptions.get("late").copied().unwrap_or_default();
    ensure!(late == 0, "{late} purchases were late, which this scene does not mean");
    let events: u64 =
        counted.cells.iter().filter(|((r, g, ..), _)| r == "total" && g == "1d").map(|(_, s)| s.count).sum();
    Ok(format!("{events} events in {} cells", counted.cells.len()))
}

/// How many records Redis says are counted.
pub async fn counted_records(world: &World) -> Result<i64> {
    Ok(progress_in_redis(world).await?.values().sum())
}

/// Waits until more records are counted than there are now.
pub async fn until_progress(world: &World, records: i64) -> Result<()> {
    let before = counted_records(world).await?;
    until("more records to be counted", PATIENCE, || async { Ok(counted_records(world).await? >= before + records) })
        .await
}

/// Waits until a worker's log has a text so many times.
pub async fn until_logged(worker: &Process, text: &str, times: usize) -> Result<()> {
    until(text, PATIENCE, || async { Ok(worker.log().matches(text).count() >= times) })
        .await
        .with_context(|| worker.log_tail())
}

/// Waits until a worker has ended, and says how.
pub async fn until_ended(worker: &mut Process) -> Result<ExitStatus> {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if let Some(status) = worker.ended()? {
            return Ok(status);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("it has not ended within {PATIENCE:?}:\n{}", worker.log_tail())
}

/// The partitions that a worker says it took over, each with the offset of its first record, in order of time.
#[must_use]
pub fn assigned(log: &str) -> Vec<(i32, i64)> {
    let lists = log.lines().filter_map(|line| line.split_once("partitions assigned offsets=[")?.1.split_once(']'));
    let pairs = lists.flat_map(|(list, _)| list.split("), "));
    let pair = |text: &str| {
        let (partition, offset) = text.trim_matches(['(', ')']).split_once(", ")?;
        Some((partition.parse().ok()?, offset.parse().ok()?))
    };
    pairs.filter_map(pair).collect()
}

/// Waits until a worker has taken over so many partitions.
pub async fn until_assigned(worker: &Process, partitions: usize) -> Result<Vec<(i32, i64)>> {
    until("partitions to be assigned", PATIENCE, || async { Ok(assigned(&worker.log()).len() >= partitions) })
        .await
        .with_context(|| worker.log_tail())?;
    Ok(assigned(&worker.log()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn assignments_are_read_from_the_log() {
        let log = "INFO partitions assigned offsets=[(0, 12), (2, 5)]\nx\nINFO partitions assigned offsets=[(1, 0)]\n\
                   INFO partitions assigned offsets=[]";
        assert_eq!(super::assigned(log), [(0, 12), (2, 5), (1, 0)]);
    }
}
