//! `reckon bench`: what the layers can do on this machine. Each line of a benchmark is one command that prints one line
//! of JSON; `tests/bench-speed`, `tests/bench-batch` and `tests/bench-serving` run them one after the other and print the table.

mod cells;
mod check;
mod collect;
mod count;
mod events;
mod expected;
mod fill;
mod fill_lake;
mod flink;
mod freshness;
mod http;
mod progress;
mod raw;
mod recount;
mod scene;
mod serving;
mod table;
mod table_batch;
mod traffic;
mod worker;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::exit::Exit;
use crate::report::say;
pub(crate) use crate::usage::rounded;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The folder for what a line needs while it runs, and for the logs of what it starts.
    #[arg(long, value_name = "DIR", default_value = ".local/bench-speed", global = true)]
    dir: PathBuf,
    #[command(subcommand)]
    line: Line,
}

#[derive(Debug, Subcommand)]
enum Line {
    /// Fill a topic with events, and write down what an exact count of them is.
    Fill(fill::Arguments),
    /// Read the topic and only count its messages: the limit of everything that reads it.
    Count,
    /// Count the topic with the real worker, and compare what it counted with the exact count.
    Worker(worker::Arguments),
    /// Count the topic with Apache Flink: one-minute count, sum and distinct users of the rollup `total`.
    Flink(flink::Arguments),
    /// Bring the topic's events as they are into ClickHouse.
    Raw,
    /// Fill a topic whose events belong to this many cells, and count it: throughput and memory.
    Cells(cells::Arguments),
    /// Send events to a collector as fast as it acknowledges them.
    Collect(collect::Arguments),
    /// Send events at a steady rate, and measure until they can be read and are pushed.
    Freshness(freshness::Arguments),
    /// Fill a lake in the folder with events, by the archive's own code.
    Lake(fill_lake::Arguments),
    /// Count the lake in the folder exactly: time, memory, and a digest of the answer.
    Recount(recount::Arguments),
    /// Ask a serving node over millions of rows: kept answers, computed ones, and many at once.
    Serving(serving::Arguments),
    /// Let many clients watch one number.
    Live(serving::live::Arguments),
    /// Print the lines in a file as a table.
    Table(table::Arguments),
}

/// Runs one line and prints its result.
pub(crate) async fn run(settings: Settings, arguments: Arguments, shutdown: CancellationToken) -> Result<(), Exit> {
    let Arguments { dir, line } = arguments;
    if let Line::Table(arguments) = &line {
        return Ok(table::print(arguments)?);
    }
    std::fs::create_dir_all(&dir).map_err(anyhow::Error::from)?;
    // Children are told absolute paths.
    let dir = dir.canonicalize().map_err(anyhow::Error::from)?;
    let work = async {
        match line {
            Line::Fill(arguments) => fill::run(&settings, &dir, &arguments).await,
            Line::Count => count::run(&settings),
            Line::Worker(arguments) => worker::run(&settings, &dir, &arguments).await,
            Line::Flink(arguments) => flink::run(&settings, &dir, &arguments).await,
            Line::Raw => raw::run(&settings, &dir).await,
            Line::Cells(arguments) => cells::run(&settings, &dir, &arguments).await,
            Line::Collect(arguments) => collect::run(&settings, &dir, &arguments).await,
            Line::Freshness(arguments) => freshness::run(&settings, &dir, &arguments).await,
            Line::Lake(arguments) => fill_lake::run(&dir, &arguments).await,
            Line::Recount(arguments) => recount::run(&dir, &arguments).await,
            Line::Serving(arguments) => serving::run(&settings, &dir, &arguments).await,
            Line::Live(arguments) => serving::live::run(&settings, &dir, &arguments).await,
            Line::Table(_) => unreachable!("handled above"),
        }
    };
    let result: anyhow::Result<Value> = tokio::select! {
        result = work => result,
        () = shutdown.cancelled() => Err(anyhow::anyhow!("interrupted")),
    };
    say(&result?.to_string());
    Ok(())
}

/// Events per second, without the decimals that no measurement has.
fn rate(events: u64, seconds: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, reason = "a rate is far below 2^63")]
    let rate = (events as f64 / seconds.max(f64::MIN_POSITIVE)).round() as i64;
    rate.unsigned_abs()
}
