//! The collector alone: several connections, each sending its next batch when the one before was acknowledged.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::events::Population;
use super::http::{Collector, Connection, live_scene};
use super::traffic::Traffic;
use super::{rate, rounded};
use crate::config::Settings;
use crate::usage::Usage;

/// An hour: longer than any request may take.
pub(crate) const LATENCY_US_MAX: u64 = 3_600_000_000;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// For how many seconds.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// How many connections, each with one request at a time.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1000))]
    connections: u16,
    /// Events per request.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    batch: u16,
}

pub(crate) async fn run(settings: &Settings, dir: &Path, arguments: &Arguments) -> Result<Value> {
    let scene = live_scene(settings, dir, "collect").await?;
    let collector = Collector::start(&scene).await?;
    let population = Arc::new(Population::new()?);
    let keys: Arc<[String]> = scene.write_keys.clone().into();
    let before = (collector.process.usage()?, Usage::of(std::process::id())?);
    let started = Instant::now();
    let end = started + Duration::from_secs(arguments.seconds);
    let mut clients = JoinSet::new();
    for client in 0..arguments.connections {
        let traffic = Traffic::new(u64::from(client), None);
        let (population, keys) = (population.clone(), keys.clone());
        clients.spawn(send(collector.address, population, keys, traffic, usize::from(arguments.batch), end));
    }
    let mut latencies = new_histogram()?;
    while let Some(client) = clients.join_next().await {
        latencies.add(client??)?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let after = (collector.process.usage()?, Usage::of(std::process::id())?);
    let events = latencies.len() * u64::from(arguments.batch);
    collector.process.stop().await?;
    scene.clear().await?;
    Ok(json!({
        "line": "collect",
        "connections": arguments.connections,
        "batch": arguments.batch,
        "events": events,
        "seconds": rounded(seconds),
        "events_per_second": rate(events, seconds),
        "answer_p50_ms": milliseconds(&latencies, 0.5),
        "answer_p99_ms": milliseconds(&latencies, 0.99),
        "cores": rounded((after.0.cpu_seconds() - before.0.cpu_seconds()) / seconds),
        "cores_of_the_load": rounded((after.1.cpu_seconds() - before.1.cpu_seconds()) / seconds),
        "usage": after.0.json(),
    }))
}

async fn send(
    address: SocketAddr,
    population: Arc<Population>,
    keys: Arc<[String]>,
    mut traffic: Traffic,
    items: usize,
    end: Instant,
) -> Result<Histogram<u64>> {
    let mut latencies = new_histogram()?;
    let mut connection = Connection::open(address).await?;
    while Instant::now() < end {
        let batch = traffic.batch(&population, items, None)?;
        let sent = Instant::now();
        connection.post(&keys[batch.tenant], batch.body).await?;
        record(&mut latencies, sent.elapsed());
    }
    Ok(latencies)
}

pub(crate) fn new_histogram() -> Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).context("making a histogram")
}

pub(crate) fn record(histogram: &mut Histogram<u64>, duration: Duration) {
    histogram.saturating_record(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).max(1));
}

/// A quantile in milliseconds; absent if nothing was measured.
pub(crate) fn milliseconds(histogram: &Histogram<u64>, quantile: f64) -> Option<f64> {
    (!histogram.is_empty()).then(|| rounded(histogram.value_at_quantile(quantile) as f64 / 1000.0))
}
