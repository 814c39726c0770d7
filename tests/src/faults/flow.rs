//! Purchases that keep coming while things go wrong, and what the broker said about each.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::World;
use crate::counted::message;
use crate::log::{Raw, producer, read_topic, send};
use crate::purchases::{Purchase, deliveries, generate};

/// How many records go out together.
const BATCH: usize = 50;

/// A flow of purchases. Ends when it is told to, or when it has none left.
pub struct Flow {
    stop: CancellationToken,
    sent: JoinHandle<Result<Acknowledged>>,
}

/// The id of every record that the broker acknowledged, by where it is.
pub type Acknowledged = BTreeMap<(i32, i64), String>;

/// Purchases of the last hours in order of time, 2 % of them twice, shuffled within a minute or two.
#[must_use]
pub fn purchases(seed: u64, count: usize) -> Vec<Purchase> {
    let from_us = jiff::Timestamp::now().as_microsecond() - 12 * 3_600_000_000;
    let spacing_us = 8 * 3_600_000_000 / i64::try_from(count.max(10_000)).expect("small");
    deliveries(&generate(seed, count, from_us, spacing_us), seed, 0.02, 100)
}

/// A purchase as a record of the world's tenant.
#[must_use]
pub fn raw(tenant: &str, purchase: &Purchase) -> Raw {
    let (key, payload) = message(tenant, purchase);
    Raw { key: key.into_bytes(), payload: Some(payload.into_bytes()), ..Raw::default() }
}

impl Flow {
    /// At most `count` purchases, so many a second.
    pub fn start(world: &World, seed: u64, count: usize, per_second: usize) -> Result<Self> {
        let (topic, tenant) = (world.kafka.topics.events.clone(), world.tenant.clone());
        let producer = producer(&world.kafka.brokers)?;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let sent = tokio::spawn(async move {
            let purchases = purchases(seed, count);
            let period = Duration::from_secs_f64(BATCH as f64 / per_second as f64);
            let mut pace = tokio::time::interval(period);
            pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let mut acknowledged = Acknowledged::new();
            for batch in purchases.chunks(BATCH) {
                if stopped.run_until_cancelled(pace.tick()).await.is_none() {
                    break;
                }
                let records: Vec<Raw> = batch.iter().map(|purchase| raw(&tenant, purchase)).collect();
                let places = send(&producer, &topic, &records).await?;
                acknowledged.extend(places.into_iter().zip(batch.iter().map(|purchase| purchase.id.clone())));
            }
            Ok(acknowledged)
        });
        Ok(Self { stop, sent })
    }

    /// Whether it still has something to send.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        !self.sent.is_finished()
    }

    /// Ends it, and checks that everything the producer was told is in the log.
    pub async fn stop(self, world: &World) -> Result<usize> {
        self.stop.cancel();
        let acknowledged = self.sent.await??;
        let mut ids = BTreeMap::new();
        for logged in read_topic(&world.kafka.brokers, &world.kafka.topics.events).await? {
            let event: Value = serde_json::from_slice(&logged.payload)?;
            ids.insert((logged.partition, logged.offset), event["id"].as_str().unwrap_or_default().to_owned());
        }
        for (place, id) in &acknowledged {
            ensure!(ids.get(place) == Some(id), "{id} was acknowledged at {place:?}, the log has {:?}", ids.get(place));
        }
        Ok(acknowledged.len())
    }
}
