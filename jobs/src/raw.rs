//! `reckon raw --until-end`: how fast raw events come into ClickHouse.

use anyhow::Context;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::exit::Exit;
use crate::report::say;
use crate::{parts, prepare};

/// What Linux counts a process's time in, on every platform: a hundredth of a second.
const TICKS_PER_SECOND: f64 = 100.0;

/// Brings in what the log has, then prints one JSON line.
pub(crate) async fn until_end(settings: &Settings, shutdown: CancellationToken) -> Result<(), Exit> {
    prepare::everything(settings, &shutdown).await?;
    let config = parts::raw_config(settings);
    let before = cpu_seconds()?;
    let summary = reckon_speed::raw::run_to_end(config, shutdown).await.context("raw")?;
    let (seconds, cpu_seconds) = (summary.took.as_secs_f64(), cpu_seconds()? - before);
    let rounded = |number: f64| (number * 1000.0).round() / 1000.0;
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rows_per_second = (summary.rows as f64 / seconds.max(f64::MIN_POSITIVE)).round();
    let line = json!({
        "records": summary.records,
        "rows": summary.rows,
        "blocks": summary.blocks,
        "seconds": rounded(seconds),
        "rows_per_second": rows_per_second,
        "cpu_seconds": rounded(cpu_seconds),
    });
    say(&line.to_string());
    Ok(())
}

/// What this process has used of its processors so far, in its own code and in the kernel.
fn cpu_seconds() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").context("reading /proc/self/stat")?;
    // The name in parentheses may hold anything; the fields are counted after it.
    let (_, fields) = stat.rsplit_once(')').context("/proc/self/stat has no name")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>).sum::<Result<f64, _>>();
    Ok(ticks.context("/proc/self/stat has no times")? / TICKS_PER_SECOND)
}
