//! `reckon load`: generated events at a steady rate, and what it took to have them acknowledged.

use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use hdrhistogram::Histogram;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::demo::EventSender;
use crate::exit::Exit;
use crate::progress;
use crate::report::say;

/// An hour: longer than any request may take.
const LATENCY_US_MAX: u64 = 3_600_000_000;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The collector; the configured one if absent.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// A write key. Better given by the variable, which other processes cannot see.
    #[arg(long, env = "RECKON_WRITE_KEY", hide_env_values = true)]
    key: String,
    /// Events per second to aim for.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// For how many seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// Events per request.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    batch: u32,
    /// The seed of the events' content; ids are new in every run.
    #[arg(long, default_value_t = 42)]
    seed: u64,
}

/// Sends, then prints one JSON line.
pub(crate) async fn run(settings: &Settings, arguments: Arguments, shutdown: CancellationToken) -> Result<(), Exit> {
    let url = arguments.url.clone().unwrap_or_else(|| format!("http://{}", settings.listen.collect));
    let sender = EventSender::new(&url, arguments.key.clone())?;
    let batches = (u64::from(arguments.rate) * u64::from(arguments.seconds)).div_ceil(u64::from(arguments.batch));
    let pause = Duration::from_secs_f64(f64::from(arguments.batch) / f64::from(arguments.rate));
    let mut ticks = tokio::time::interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut latencies_us = Histogram::<u64>::new_with_bounds(1, LATENCY_US_MAX, 3).context("making the histogram")?;
    let mut random = StdRng::seed_from_u64(arguments.seed);
    let run = uuid::Uuid::now_v7();
    let bar = progress::bar("load", batches * u64::from(arguments.batch));
    let started = Instant::now();
    let (mut accepted, mut rejected) = (0, 0);
    for batch in 0..batches {
        ticks.tick().await;
        if shutdown.is_cancelled() {
            break;
        }
        let body = body(&mut random, &run.to_string(), batch, arguments.batch);
        let sent = Instant::now();
        let answer = sender.send(body).await?;
        latencies_us.saturating_record(u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX));
        accepted += answer.accepted;
        rejected += answer.rejected;
        bar.inc(u64::from(arguments.batch));
    }
    bar.finish_and_clear();
    let seconds = started.elapsed().as_secs_f64();
    say(&json!({
        "accepted": accepted,
        "rejected": rejected,
        "seconds": (seconds * 1000.0).round() / 1000.0,
        "latency_p50_us": latencies_us.value_at_quantile(0.5),
        "latency_p99_us": latencies_us.value_at_quantile(0.99),
        "latency_max_us": latencies_us.max(),
    })
    .to_string());
    Ok(())
}

fn body(random: &mut StdRng, run: &str, batch: u64, items: u32) -> String {
    let now = jiff::Timestamp::now();
    let items: Vec<serde_json::Value> = (0..items)
        .map(|item| {
            json!({
                "event_id": format!("{run}-{batch}-{item}"),
                "name": "purchase",
                "occurred_at": now.to_string(),
                "user_id": format!("user-{}", random.random_range(0..100_000)),
                "money": { "amount": format!("{}.{:02}", random.random_range(0..200), random.random_range(0..100)), "currency": "USD" },
                "properties": { "department": format!("department-{}", random.random_range(0..20)), "store": random.random_range(1..400) },
            })
        })
        .collect();
    serde_json::Value::from(items).to_string()
}
