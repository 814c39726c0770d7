//! The load: connections that each send a batch at every tick, whether the one before was quick or not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::super::collect::{new_histogram, record};
use super::super::events::Population;
use super::super::http::Connection;
use super::super::traffic::Traffic;
use super::Probes;
use super::watch::probe_name;

/// What is sent where.
#[derive(Clone)]
pub(super) struct Load {
    pub(super) address: SocketAddr,
    pub(super) population: Arc<Population>,
    pub(super) keys: Arc<[String]>,
    pub(super) probes: Probes,
    pub(super) items: usize,
    /// Between two batches of a connection.
    pub(super) pause: Duration,
    pub(super) duration: Duration,
    pub(super) hot_share: Option<f64>,
    pub(super) probe_every: u16,
}

/// What became of it.
pub(super) struct Sent {
    pub(super) events: u64,
    pub(super) seconds: f64,
    pub(super) latencies: Histogram<u64>,
}

impl Load {
    pub(super) async fn run(&self, connections: u16) -> Result<Sent> {
        let started = Instant::now();
        let mut clients = JoinSet::new();
        for client in 0..connections {
            // Spread over the first tick, so that not all of them send at once.
            let delay = self.pause.mul_f64(f64::from(client) / f64::from(connections));
            clients.spawn(self.clone().send(client, started + delay, started + self.duration));
        }
        let mut latencies = new_histogram()?;
        while let Some(client) = clients.join_next().await {
            latencies.add(client??)?;
        }
        let events = latencies.len() * self.items as u64;
        Ok(Sent { events, seconds: started.elapsed().as_secs_f64(), latencies })
    }

    async fn send(self, client: u16, first: Instant, end: Instant) -> Result<Histogram<u64>> {
        let mut latencies = new_histogram()?;
        let mut traffic = Traffic::new(client.into(), self.hot_share);
        let mut connection = Connection::open(self.address).await?;
        let mut ticks = tokio::time::interval_at(first.into(), self.pause);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for number in u32::from(client).. {
            ticks.tick().await;
            if Instant::now() >= end {
                break;
            }
            let probe = (number % u32::from(self.probe_every) == 0).then(|| probe_name(&format!("{client}"), number));
            let batch = traffic.batch(&self.population, self.items, probe.as_deref())?;
            let sent = Instant::now();
            connection.post(&self.keys[batch.tenant], batch.body).await?;
            let answered = Instant::now();
            record(&mut latencies, answered - sent);
            if let Some(name) = probe {
                self.probes.answered(name, batch.tenant, answered);
            }
        }
        Ok(latencies)
    }
}
