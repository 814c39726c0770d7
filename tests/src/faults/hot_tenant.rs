//! A tenant with four fifths of the traffic does not starve the others.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio_util::sync::CancellationToken;

use super::flow::{purchases, raw};
use super::{LATENESS, PATIENCE, Survived, tuning};
use crate::counted::{assert_counted_of, progress_in_redis, until_counted};
use crate::log::{Raw, producer, send};
use crate::purchases::Purchase;
use crate::{Member, Stack, World};

/// How long it may take from the broker's answer to the number in Redis, with and without the hot tenant.
const FRESH: Duration = Duration::from_secs(2);
/// Of every hundred measurements so many may take longer: the machine has other things to do.
const SLOW_PERCENT: usize = 5;
/// Purchases of the quiet tenants a second; the hot one has four times as many.
const QUIET_PER_SECOND: usize = 500;
const BATCH: usize = 50;

/// Two quiet tenants for a while, then the same beside a hot one.
pub async fn hot_tenant_beside_quiet_ones(stack: &Stack, seed: u64, measured: Duration) -> Result<Survived> {
    let world = World::with_neighbours(stack, &tuning(""), &["-quiet", "-hot"])?;
    let mut worker = world.start_worker(&Member::named("worker"))?;
    let (quiet, hot) = (format!("{}-quiet", world.tenant), format!("{}-hot", world.tenant));
    let seconds = usize::try_from(measured.as_secs())?;
    let all = purchases(seed, QUIET_PER_SECOND * seconds * 2);
    let (first, second) = all.split_at(all.len() / 2);
    let tenants = [world.tenant.as_str(), quiet.as_str()];

    let alone = freshness(&world, tenants, first).await.with_context(|| worker.log_tail())?;
    let stop = CancellationToken::new();
    let flood = tokio::spawn({
        let (brokers, topic, stop) = (world.kafka.brokers.clone(), world.kafka.topics.events.clone(), stop.clone());
        let load: Vec<Raw> = purchases(seed + 1, 4 * QUIET_PER_SECOND * seconds).iter().map(|p| raw(&hot, p)).collect();
        async move { stop.run_until_cancelled(flood(&brokers, &topic, load)).await.transpose() }
    });
    let beside = freshness(&world, tenants, second).await.with_context(|| worker.log_tail())?;
    stop.cancel();
    flood.await??;
    until_counted(&world).await?;
    for tenant in [world.tenant.as_str(), quiet.as_str(), hot.as_str()] {
        assert_counted_of(&world, tenant, LATENESS).await.with_context(|| tenant.to_owned())?;
    }
    ensure!(worker.stop()?.success(), "{}", worker.log_tail());
    let (alone, beside) = (Summary::of(alone)?, Summary::of(beside)?);
    for (summary, when) in [(&alone, "alone"), (&beside, "beside the hot one")] {
        ensure!(summary.at_most_all_but_slow <= FRESH, "{when}, the quiet tenants' numbers took {summary:?}");
    }
    Ok(Survived {
        injected: "a tenant with 80 % of the traffic".to_owned(),
        held: format!(
            "the others' numbers in Redis after {:.0?} (95 % after {:.0?}); without it {:.0?} ({:.0?}); all totals right",
            beside.median, beside.at_most_all_but_slow, alone.median, alone.at_most_all_but_slow
        ),
    })
}

#[derive(Debug)]
struct Summary {
    median: Duration,
    at_most_all_but_slow: Duration,
}

impl Summary {
    fn of(mut all: Vec<Duration>) -> Result<Self> {
        ensure!(all.len() >= 20, "{} measurements are too few", all.len());
        all.sort_unstable();
        let at = |percent: usize| all[(all.len() - 1) * percent / 100];
        Ok(Self { median: at(50), at_most_all_but_slow: at(100 - SLOW_PERCENT) })
    }
}

/// Sends purchases of the quiet tenants at their pace, and measures for each batch how long after the broker's answer
/// everything of it is in Redis.
async fn freshness(world: &World, tenants: [&str; 2], purchases: &[Purchase]) -> Result<Vec<Duration>> {
    let producer = producer(&world.kafka.brokers)?;
    let mut pace = tokio::time::interval(Duration::from_secs_f64(BATCH as f64 / QUIET_PER_SECOND as f64));
    let mut measured = Vec::new();
    let mut waiting: Vec<(Instant, BTreeMap<i32, i64>)> = Vec::new();
    let mut batches = purchases.chunks(BATCH).zip(tenants.into_iter().cycle());
    let deadline = Instant::now() + PATIENCE;
    loop {
        pace.tick().await;
        let batch = batches.next();
        if let Some((batch, tenant)) = batch {
            let raws: Vec<Raw> = batch.iter().map(|purchase| raw(tenant, purchase)).collect();
            let mut last: BTreeMap<i32, i64> = BTreeMap::new();
            for (partition, offset) in send(&producer, &world.kafka.topics.events, &raws).await? {
                last.entry(partition).and_modify(|last| *last = (*last).max(offset)).or_insert(offset);
            }
            waiting.push((Instant::now(), last));
        }
        let progress = progress_in_redis(world).await?;
        waiting.retain(|(sent, last)| {
            let there = last.iter().all(|(partition, offset)| progress.get(partition) > Some(offset));
            if there {
                measured.push(sent.elapsed());
            }
            !there
        });
        if batch.is_none() && waiting.is_empty() {
            return Ok(measured);
        }
        ensure!(Instant::now() < deadline, "{} batches are not in Redis after {PATIENCE:?}", waiting.len());
    }
}

async fn flood(brokers: &str, topic: &str, load: Vec<Raw>) -> Result<()> {
    let producer = producer(brokers)?;
    let mut pace = tokio::time::interval(Duration::from_secs_f64(BATCH as f64 / QUIET_PER_SECOND as f64));
    for batch in load.chunks(4 * BATCH) {
        pace.tick().await;
        send(&producer, topic, batch).await?;
    }
    Ok(())
}
