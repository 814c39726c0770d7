//! From the collector's answer until the value can be read in Redis and is pushed, at a steady rate of events.
//!
//! Now and then a batch ends in a probe: an event of a name of its own, so that its cell's count is exactly known. The
//! clock starts with the answer to its batch, and stops when a push has named the cell and reading it gave the count.

mod sender;
mod watch;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use self::sender::Load;
use super::collect::{milliseconds, new_histogram, record};
use super::events::Population;
use super::http::{Collector, Connection, live_scene};
use super::scene::Scene;
use super::traffic::Traffic;
use super::{rate, rounded};
use crate::child::Process;
use crate::config::Settings;
use crate::usage::Usage;

const WARM_UP_MAX: Duration = Duration::from_secs(60);
const WARM_UP_PAUSE: Duration = Duration::from_millis(200);
/// How long the last probes may take.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Events per second to aim for.
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(100..))]
    rate: u32,
    /// For how many seconds.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// How many connections share the rate.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1000))]
    connections: u16,
    /// Events per request.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    batch: u16,
    /// The share of one hot tenant, from 0 to 1; as in the filled topic if absent.
    #[arg(long)]
    hot_share: Option<f64>,
    /// One batch in so many carries a probe.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    probe_every: u16,
}

/// When each probe's batch was answered, and when the probe was seen. Either may come first.
#[derive(Clone, Default)]
pub(crate) struct Probes(Arc<Mutex<HashMap<String, Sighting>>>);

#[derive(Clone, Copy, Default)]
struct Sighting {
    tenant: usize,
    answered: Option<Instant>,
    seen: Option<Instant>,
}

impl Probes {
    fn answered(&self, name: String, tenant: usize, at: Instant) {
        let mut probes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sighting = probes.entry(name).or_default();
        (sighting.tenant, sighting.answered) = (tenant, Some(at));
    }

    fn seen(&self, name: &str, at: Instant) {
        let mut probes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        probes.entry(name.to_owned()).or_default().seen.get_or_insert(at);
    }

    fn all_seen(&self) -> bool {
        let probes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        probes.values().all(|sighting| sighting.seen.is_some())
    }

    fn take(&self) -> Vec<Sighting> {
        let mut probes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *probes).into_values().collect()
    }
}

pub(crate) async fn run(settings: &Settings, dir: &Path, arguments: &Arguments) -> Result<Value> {
    if arguments.hot_share.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
        bail!("--hot-share is a share: from 0 to 1");
    }
    let name = format!("freshness-{}{}", arguments.rate, if arguments.hot_share.is_some() { "-hot" } else { "" });
    let scene = live_scene(settings, dir, &name).await?;
    let mut collector = Collector::start(&scene).await?;
    let mut worker = Process::reckon(&scene.config, "speed", scene.folder.join("speed.log"))?;
    let probes = Probes::default();
    let watching = watch::start(&scene, probes.clone()).await?;
    warm_up(&scene, &collector, &mut worker, &probes).await?;

    let before = (collector.process.usage()?, worker.usage()?, Usage::of(std::process::id())?);
    let load = Load {
        address: collector.address,
        population: Arc::new(Population::new()?),
        keys: scene.write_keys.clone().into(),
        probes: probes.clone(),
        items: usize::from(arguments.batch),
        pause: Duration::from_secs_f64(
            f64::from(arguments.batch) * f64::from(arguments.connections) / f64::from(arguments.rate),
        ),
        duration: Duration::from_secs(arguments.seconds.into()),
        hot_share: arguments.hot_share,
        probe_every: arguments.probe_every,
    };
    let sent = load.run(arguments.connections).await?;
    let after = (collector.process.usage()?, worker.usage()?, Usage::of(std::process::id())?);
    let deadline = Instant::now() + GRACE;
    while !probes.all_seen() && Instant::now() < deadline {
        collector.process.check()?;
        worker.check()?;
        tokio::time::sleep(WARM_UP_PAUSE).await;
    }
    watching.stop().await?;
    collector.process.stop().await?;
    worker.stop().await?;
    scene.clear().await?;

    let cores = |before: Usage, after: Usage| rounded((after.cpu_seconds() - before.cpu_seconds()) / sent.seconds);
    let mut line = json!({
        "line": "freshness",
        "rate": arguments.rate,
        "hot_share": arguments.hot_share,
        "events": sent.events,
        "seconds": rounded(sent.seconds),
        "events_per_second": rate(sent.events, sent.seconds),
        "answer_p50_ms": milliseconds(&sent.latencies, 0.5),
        "answer_p99_ms": milliseconds(&sent.latencies, 0.99),
        "cores_of_the_collector": cores(before.0, after.0),
        "cores_of_the_worker": cores(before.1, after.1),
        "cores_of_the_load": cores(before.2, after.2),
    });
    report(&probes.take(), &mut line)?;
    Ok(line)
}

/// Sends single probes until one is seen: then the worker counts and everybody is connected.
async fn warm_up(scene: &Scene, collector: &Collector, worker: &mut Process, probes: &Probes) -> Result<()> {
    let population = Population::new()?;
    let mut traffic = Traffic::new(0, None);
    let mut connection = Connection::open(collector.address).await?;
    let deadline = Instant::now() + WARM_UP_MAX;
    for attempt in 0_u32.. {
        worker.check()?;
        let batch = traffic.batch(&population, 1, Some(&watch::probe_name("warm-up", attempt)))?;
        connection.post(&scene.write_keys[batch.tenant], batch.body).await?;
        tokio::time::sleep(WARM_UP_PAUSE).await;
        if !probes.take().is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("nothing was pushed within {WARM_UP_MAX:?}; see {}", scene.folder.display());
        }
    }
    Ok(())
}

fn report(sightings: &[Sighting], line: &mut Value) -> Result<()> {
    let mut all = new_histogram()?;
    let (mut hot, mut others) = (all.clone(), all.clone());
    let mut unseen = 0;
    for sighting in sightings {
        match (sighting.answered, sighting.seen) {
            (Some(answered), Some(seen)) => {
                let duration = seen.saturating_duration_since(answered);
                record(&mut all, duration);
                record(if sighting.tenant == 0 { &mut hot } else { &mut others }, duration);
            }
            (Some(_), None) => unseen += 1,
            // A late one of the warm-up.
            (None, _) => {}
        }
    }
    let quantiles = |histogram: &Histogram<u64>| {
        json!({
            "probes": histogram.len(),
            "p50_ms": milliseconds(histogram, 0.5),
            "p99_ms": milliseconds(histogram, 0.99),
            "max_ms": milliseconds(histogram, 1.0),
        })
    };
    line["fresh"] = quantiles(&all);
    line["fresh_first_tenant"] = quantiles(&hot);
    line["fresh_other_tenants"] = quantiles(&others);
    line["probes_unseen"] = unseen.into();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_before_its_answer_took_no_time_and_what_was_not_seen_is_told() {
        let (probes, now) = (Probes::default(), Instant::now());
        probes.seen("a", now);
        probes.answered("a".to_owned(), 0, now + Duration::from_secs(1));
        probes.answered("b".to_owned(), 1, now);
        assert!(!probes.all_seen());
        probes.seen("b", now + Duration::from_millis(500));
        probes.answered("c".to_owned(), 1, now);
        let mut line = json!({});
        report(&probes.take(), &mut line).expect("histograms");
        assert_eq!(line["fresh"]["probes"], 2);
        assert_eq!(line["probes_unseen"], 1);
        assert!((499.0..=501.0).contains(&line["fresh_other_tenants"]["p99_ms"].as_f64().expect("a number")));
    }
}
