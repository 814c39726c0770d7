//! The real worker, as child processes of its own: from the first partition assigned until Redis and ClickHouse have
//! acknowledged the log's end. Then what it counted is compared with the exact count.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Value, json};

use super::check;
use super::expected::Recount;
use super::fill::RECOUNT_FILE;
use super::progress::{is_acknowledged, log_ends};
use super::scene::Scene;
use super::{rate, rounded};
use crate::child::Process;
use crate::config::Settings;
use crate::usage::Usage;

const POLL: Duration = Duration::from_millis(50);
const START_POLL: Duration = Duration::from_millis(5);
const START_MAX: Duration = Duration::from_secs(60);
const COUNT_MAX: Duration = Duration::from_secs(3600);
/// What a worker logs when it begins to read.
const READING: &str = "partitions assigned";

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The rollups beside `total`, separated by blanks; e.g. `country device country,device`.
    #[arg(long, default_value = "", value_name = "ROLLUPS")]
    rollups: String,
    /// How many workers share the partitions.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=8))]
    workers: u8,
}

/// Counts the filled topic.
pub(crate) async fn run(settings: &Settings, dir: &Path, arguments: &Arguments) -> Result<Value> {
    let rollups: Vec<String> = arguments.rollups.split_whitespace().map(str::to_owned).collect();
    let name = format!("worker-{}x{}", rollups.len() + 1, arguments.workers);
    let recount = Recount::load(&dir.join(RECOUNT_FILE))?;
    let scene = Scene::set(settings.clone(), dir, &name, &rollups).await?;
    let counted = count(&scene, arguments.workers).await?;
    let compared = check::compare(&scene, &recount, &rollups).await?;
    let mut line = json!({
        "line": "worker",
        "rollups": rollups.len() + 1,
        "workers": arguments.workers,
        "exact": compared.exact,
        "compared": compared.json,
    });
    counted.add_to(&mut line);
    scene.clear().await?;
    Ok(line)
}

/// What it took.
pub(crate) struct Counted {
    pub(crate) events: u64,
    pub(crate) seconds: f64,
    pub(crate) cores: f64,
    pub(crate) usage: Usage,
}

impl Counted {
    pub(crate) fn add_to(&self, line: &mut Value) {
        line["events"] = self.events.into();
        line["seconds"] = rounded(self.seconds).into();
        line["events_per_second"] = rate(self.events, self.seconds).into();
        line["cores"] = rounded(self.cores).into();
        line["usage"] = self.usage.json();
    }
}

/// Runs workers until both stores have everything, and stops them.
pub(crate) async fn count(scene: &Scene, workers: u8) -> Result<Counted> {
    let ends = tokio::task::block_in_place(|| log_ends(&scene.settings.kafka))?;
    let mut redis = scene.redis().await?;
    let mut processes = Vec::new();
    for worker in 0..workers {
        processes.push(Process::reckon(&scene.config, "speed", scene.folder.join(format!("speed-{worker}.log")))?);
    }
    until_reading(&mut processes).await?;
    let (before, started) = (usage_of(&processes)?, Instant::now());
    until_acknowledged(scene, &mut redis, &ends, &mut processes).await?;
    let seconds = started.elapsed().as_secs_f64();
    let usage = usage_of(&processes)?;
    let cores = (usage.cpu_seconds() - before.cpu_seconds()) / seconds;
    for process in processes {
        process.stop().await?;
    }
    let events = u64::try_from(ends.values().sum::<i64>())?;
    Ok(Counted { events, seconds, cores, usage })
}

fn usage_of(processes: &[Process]) -> Result<Usage> {
    processes.iter().try_fold(Usage::default(), |sum, process| Ok(sum.and(process.usage()?)))
}

/// Waits until one of the workers begins to read. That partitions are shared with the others after that is part of the
/// time, as it is when a worker is added in earnest.
async fn until_reading(processes: &mut [Process]) -> Result<()> {
    let deadline = Instant::now() + START_MAX;
    while !processes.iter().any(|process| process.has_logged(READING)) {
        for process in &mut *processes {
            process.check()?;
        }
        if Instant::now() > deadline {
            bail!("no worker logged {READING:?} within {START_MAX:?}");
        }
        tokio::time::sleep(START_POLL).await;
    }
    Ok(())
}

async fn until_acknowledged(
    scene: &Scene,
    redis: &mut redis::aio::MultiplexedConnection,
    ends: &BTreeMap<i32, i64>,
    processes: &mut [Process],
) -> Result<()> {
    let deadline = Instant::now() + COUNT_MAX;
    while !is_acknowledged(scene, redis, ends).await? {
        for process in &mut *processes {
            process.check()?;
        }
        if Instant::now() > deadline {
            bail!("the stores did not have everything within {COUNT_MAX:?}");
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}
