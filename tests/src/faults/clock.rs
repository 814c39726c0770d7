//! Fault 17: a worker's clock is an hour off, either way.

use anyhow::{Result, ensure};
use jiff::Timestamp;

use super::flow::raw;
use super::{LATENESS, Survived, tuning};
use crate::counted::{assert_counted, until_counted};
use crate::log::{Raw, producer, send};
use crate::purchases::generate;
use crate::{Member, Stack, World};

const MINUTE_US: i64 = 60_000_000;

/// A clock is off only against others. So the worker's is left alone, and those of the log and of its events are an
/// hour behind it, then an hour ahead. Some events are a few minutes ahead of the log, which is allowed, and some half
/// an hour, which is not: the worker's clock has no say in either.
pub async fn clock_is_an_hour_off(stack: &Stack, seed: u64) -> Result<Survived> {
    let world = World::with_tuning(stack, &tuning(""))?;
    let mut worker = world.start_worker(&Member::named("worker"))?;
    let producer = producer(&world.kafka.brokers)?;
    for (number, off_us) in (0_u64..).zip([-60 * MINUTE_US, 60 * MINUTE_US]) {
        let log_now_us = Timestamp::now().as_microsecond() + off_us;
        let mut sent = generate(seed + 10 * number, 1_000, log_now_us - 20 * MINUTE_US, 1_000_000);
        sent.extend(generate(seed + 10 * number + 1, 200, log_now_us + MINUTE_US, 1_000_000));
        sent.extend(generate(seed + 10 * number + 2, 200, log_now_us + 30 * MINUTE_US, 1_000_000));
        let at = |raw: Raw| Raw { timestamp_ms: Some(log_now_us / 1000), ..raw };
        let raws: Vec<Raw> = sent.iter().map(|purchase| at(raw(&world.tenant, purchase))).collect();
        send(&producer, &world.kafka.topics.events, &raws).await?;
        until_counted(&world).await?;
    }
    let counted = assert_counted(&world, LATENESS).await?;
    ensure!(
        counted.exceptions.len() == 1 && counted.exceptions.get("future") == Some(&400),
        "{:?}",
        counted.exceptions
    );
    ensure!(worker.stop()?.success(), "{}", worker.log_tail());
    Ok(Survived {
        injected: "a worker's clock an hour ahead of the log's, then an hour behind".to_owned(),
        held: format!("{} cells; 400 events are future ones by the log's time, and none is late", counted.cells.len()),
    })
}
