//! Raw events into ClickHouse: `reckon raw --until-end` as a child, on a database of its own.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use super::rounded;
use super::scene::Scene;
use crate::child::Process;
use crate::config::Settings;
use crate::usage::machine_busy_seconds;

const RUN_MAX: Duration = Duration::from_secs(3600);

pub(crate) async fn run(settings: &Settings, dir: &Path) -> Result<Value> {
    let scene = Scene::set(settings.clone(), dir, "raw", &[]).await?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--config").arg(&scene.config).args(["raw", "--until-end"]);
    let (busy, started) = (machine_busy_seconds()?, Instant::now());
    let log = scene.folder.join("raw.log");
    Process::start_clean(command, log.clone())?.wait(RUN_MAX).await?;
    let machine = (machine_busy_seconds()? - busy) / started.elapsed().as_secs_f64();
    let text = std::fs::read_to_string(&log)?;
    let printed = text.lines().rev().find_map(|line| serde_json::from_str::<Value>(line).ok().filter(is_result));
    let mut line = printed.with_context(|| format!("no result in {}", log.display()))?;
    line["line"] = "raw".into();
    line["events_per_second"] = line["rows_per_second"].clone();
    if let (Some(cpu), Some(seconds)) = (line["cpu_seconds"].as_f64(), line["seconds"].as_f64()) {
        line["cores"] = rounded(cpu / seconds).into();
    }
    // ClickHouse and the log work for it, too.
    line["cores_of_the_machine"] = rounded(machine).into();
    scene.clear().await?;
    Ok(line)
}

fn is_result(line: &Value) -> bool {
    line.get("rows_per_second").is_some()
}
