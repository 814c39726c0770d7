//! Apache Flink on the same topic: one-minute count, sum and distinct users by tenant and event name, in one JVM with
//! a mini cluster of two slots. Tuned in its favour (`flink/config.yaml`), and it need not recognise repetitions.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::expected::Recount;
use super::fill::RECOUNT_FILE;
use super::{rate, rounded};
use crate::child::Process;
use crate::config::Settings;
use crate::usage::Usage;

const JOB: &str = include_str!("flink/job.sql");
const CONFIG: &str = include_str!("flink/config.yaml");
const LOGGING: &str = include_str!("flink/log4j2.properties");
const JOB_MAX: Duration = Duration::from_secs(3600);

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The folder with Flink's jars and those of its connector, as `deploy/local/install --with-bench` makes it.
    #[arg(long, value_name = "DIR")]
    home: PathBuf,
    /// The most memory that its heap may take, in megabytes.
    #[arg(long, default_value_t = 4096)]
    heap_mb: u32,
}

/// Runs the job twice: once into nothing, for its time, and once into its log, for its totals.
pub(crate) async fn run(settings: &Settings, dir: &Path, arguments: &Arguments) -> Result<Value> {
    let recount = Recount::load(&dir.join(RECOUNT_FILE))?;
    let timed = execute(settings, dir, arguments, "blackhole").await?;
    let printed = execute(settings, dir, arguments, "print").await?;
    let totals = Totals::of(&printed.log)?;
    // It takes repetitions for events, except those that come so late that their window is gone.
    let plausible = (recount.deliveries - recount.repeated..=recount.deliveries).contains(&totals.events);
    Ok(json!({
        "line": "flink",
        "rollups": 1,
        "events": recount.deliveries,
        "seconds": rounded(timed.seconds),
        "seconds_with_start": rounded(timed.seconds_with_start),
        "events_per_second": rate(recount.deliveries, timed.seconds),
        "cores": rounded(timed.usage.cpu_seconds() / timed.seconds_with_start),
        "usage": timed.usage.json(),
        "plausible": plausible,
        "compared": { "cells": totals.cells, "events": totals.events, "minor": totals.minor },
    }))
}

struct Executed {
    /// Of the job itself.
    seconds: f64,
    /// From the start of the JVM until it ended.
    seconds_with_start: f64,
    usage: Usage,
    log: String,
}

async fn execute(settings: &Settings, dir: &Path, arguments: &Arguments, sink: &str) -> Result<Executed> {
    let folder = dir.join(format!("flink-{sink}"));
    std::fs::create_dir_all(&folder)?;
    let job = JOB
        .replace("@TOPIC@", &settings.kafka.topics.events)
        .replace("@BROKERS@", &settings.kafka.brokers)
        .replace("@SINK@", sink);
    for (name, text) in [("job.sql", job.as_str()), ("config.yaml", CONFIG), ("log4j2.properties", LOGGING)] {
        std::fs::write(folder.join(name), text).with_context(|| format!("cannot write {name}"))?;
    }
    let java = std::env::var_os("JAVA_HOME").map_or_else(|| "java".into(), |home| Path::new(&home).join("bin/java"));
    let mut command = Command::new(java);
    command
        .arg(format!("-Xmx{}m", arguments.heap_mb))
        .arg(format!("-Dlog4j2.configurationFile={}", folder.join("log4j2.properties").display()))
        // Flink's serializers look into the platform's own classes.
        .args(
            ["java.lang", "java.util", "java.time", "java.net", "java.io"]
                .map(|p| format!("--add-opens=java.base/{p}=ALL-UNNAMED")),
        )
        .arg("-cp")
        .arg(format!("{}/*", arguments.home.display()))
        .args(["org.apache.flink.table.client.SqlClient", "embedded", "-f"])
        .arg(folder.join("job.sql"))
        .env("FLINK_CONF_DIR", &folder)
        .current_dir(&folder);
    let path = folder.join("flink.log");
    let started = Instant::now();
    let process = Process::start(command, path.clone())?;
    let usage = process.wait(JOB_MAX).await?;
    let seconds_with_start = started.elapsed().as_secs_f64();
    let log = std::fs::read_to_string(&path)?;
    let seconds =
        job_seconds(&log).with_context(|| format!("the job did not run to its end: see {}", path.display()))?;
    Ok(Executed { seconds, seconds_with_start, usage, log })
}

/// The job's own time, from the milliseconds before the lines that say that it runs and that it is done.
fn job_seconds(log: &str) -> Option<f64> {
    let time_of = |text: &str| {
        let line = log.lines().find(|line| line.contains(text))?;
        line.strip_prefix('@')?.split(' ').next()?.parse::<f64>().ok()
    };
    let begun = time_of("switched from state CREATED to RUNNING")?;
    Some((time_of("switched from state RUNNING to FINISHED")? - begun) / 1000.0)
}

/// The sums over every printed cell.
#[derive(Debug, Default, PartialEq, Eq)]
struct Totals {
    cells: u64,
    events: u64,
    minor: i64,
}

impl Totals {
    /// Cells are printed as `+I[window, tenant, name, events, cents, users]`, with the number of the task before it.
    fn of(log: &str) -> Result<Self> {
        let mut totals = Totals::default();
        for line in log.lines() {
            let Some((_, row)) = line.split_once("+I[") else { continue };
            let fields: Vec<&str> = row.trim_end_matches(']').split(", ").collect();
            ensure!(fields.len() == 6, "no cell: {line}");
            totals.cells += 1;
            totals.events += fields[3].parse::<u64>().with_context(|| format!("no count: {line}"))?;
            if fields[4] != "null" {
                totals.minor += fields[4].parse::<i64>().with_context(|| format!("no sum: {line}"))?;
            }
        }
        Ok(totals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_totals_are_read_from_the_log() {
        let log = "\
            @1000 INFO ExecutionGraph Job x switched from state CREATED to RUNNING.\n\
            2> +I[2026-01-01T00:00:00Z, t00, refund, 3, -120, 2]\n\
            1> +I[2026-01-01T00:00:00Z, t01, click, 4, null, 4]\n\
            @3500 INFO ExecutionGraph Job x switched from state RUNNING to FINISHED.\n";
        assert_eq!(job_seconds(log), Some(2.5));
        assert_eq!(Totals::of(log).expect("readable"), Totals { cells: 2, events: 7, minor: -120 });
        assert!(Totals::of("+I[1]").is_err());
    }
}
