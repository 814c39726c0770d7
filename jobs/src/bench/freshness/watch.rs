//! The reader: subscribed to every tenant's changes; when one names a probe, it reads the probe's cell.

use std::collections::HashMap;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use reckon_schemas::cell::Rollup;
use reckon_schemas::redis_keys::{self, CellTotals, Change};
use reckon_schemas::time::Zone;
use tokio_util::sync::CancellationToken;

use super::super::events::{TENANTS, tenant};
use super::super::scene::Scene;
use super::Probes;

const PREFIX: &str = "probe-";

/// A name that no other event has.
pub(super) fn probe_name(sender: &str, number: u32) -> String {
    format!("{PREFIX}{sender}-{number}")
}

/// The reader, at work.
pub(super) struct Watching {
    task: tokio::task::JoinHandle<Result<()>>,
    stop: CancellationToken,
}

/// Subscribes, and reads from then on.
pub(super) async fn start(scene: &Scene, probes: Probes) -> Result<Watching> {
    let client = redis::Client::open(scene.settings.redis.url.as_str())?;
    let mut subscription = client.get_async_pubsub().await.context("subscribing to Redis")?;
    let channels: HashMap<String, String> =
        (0..TENANTS).map(tenant).map(|tenant| (redis_keys::changes_channel(&tenant), tenant)).collect();
    for channel in channels.keys() {
        subscription.subscribe(channel).await?;
    }
    let redis = scene.redis().await?;
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let task = tokio::spawn(async move {
        let mut pushes = subscription.on_message();
        loop {
            let push = tokio::select! {
                () = stopped.cancelled() => return Ok(()),
                push = pushes.next() => push.context("the subscription ended")?,
            };
            let tenant = channels.get(push.get_channel_name()).context("a push of no tenant")?;
            // Reading goes on beside, so that the next push does not wait.
            let (change, tenant) = (serde_json::from_slice::<Change>(push.get_payload_bytes())?, tenant.clone());
            if change.windows.iter().any(|(_, _, _, event)| event.starts_with(PREFIX)) {
                tokio::spawn(read_probes(redis.clone(), tenant, change, probes.clone()));
            }
        }
    });
    Ok(Watching { task, stop })
}

impl Watching {
    pub(super) async fn stop(self) -> Result<()> {
        self.stop.cancel();
        self.task.await?
    }
}

async fn read_probes(
    mut redis: redis::aio::MultiplexedConnection,
    tenant: String,
    change: Change,
    probes: Probes,
) -> Result<()> {
    for (grain, start, rollup, event) in change.windows {
        if rollup != Rollup::TOTAL || !event.starts_with(PREFIX) {
            continue;
        }
        let key = redis_keys::cells(&tenant, &grain.window_at(start, &Zone::UTC), &rollup, &event);
        let fields: HashMap<String, String> = redis::cmd("HGETALL").arg(&key).query_async(&mut redis).await?;
        let counts = fields.values().map(|totals| CellTotals::decode(totals).map(|totals| totals.count));
        let count: u64 = counts.sum::<Result<u64, _>>()?;
        if count != 1 {
            tracing::error!(key, count, "a push named a cell that does not hold its event");
            bail!("{key} holds {count} events instead of 1");
        }
        probes.seen(&event, Instant::now());
    }
    Ok(())
}
