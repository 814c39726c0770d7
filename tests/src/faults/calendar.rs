//! Fault 19: events of 2099, of 1970, of a leap day and of both changes of the clock.

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;

use super::{LATENESS, PATIENCE, Survived, tuning};
use crate::counted::{compare, in_clickhouse, in_redis, oracle, produce, until_counted};
use crate::purchases::{Purchase, generate};
use crate::{Member, Stack, World, until};

const HOUR_US: i64 = 3_600_000_000;

/// Instants around which something is special, in order of time, and the length of the day that they are in.
const SPECIAL: [(&str, i64); 7] = [
    ("1970-01-01T00:00:00Z", 24),
    ("2024-02-29T04:59:50Z", 24),
    ("2024-02-29T12:00:00Z", 24),
    ("2024-03-10T06:59:50Z", 23),
    ("2024-11-03T05:59:50Z", 25),
    ("2026-03-08T06:59:50Z", 23),
    ("2026-11-01T05:59:50Z", 25),
];

/// From the log to both stores. Everything is in order of time, so that nothing is late: only 2099 does not count.
pub async fn instants_far_and_special(stack: &Stack, seed: u64) -> Result<Survived> {
    let world = World::with_tuning(stack, &tuning(""))?;
    let mut worker = world.start_worker(&Member::named("worker"))?;
    let now_us = Timestamp::now().as_microsecond();
    let mut sent: Vec<Purchase> = Vec::new();
    for (number, (instant, _)) in (0_u64..).zip(SPECIAL) {
        sent.extend(generate(seed + number, 30, instant.parse::<Timestamp>()?.as_microsecond(), 1_000_000));
    }
    sent.extend(generate(seed + 50, 30, "2099-12-31T23:59:50Z".parse::<Timestamp>()?.as_microsecond(), 1_000_000));
    sent.extend(generate(seed + 51, 300, now_us - 2 * HOUR_US, 10_000_000));
    produce(&world, &sent).await?;
    until_counted(&world).await?;

    let expected = oracle(&world, LATENESS).await?;
    let found = in_clickhouse(&world).await?;
    compare("ClickHouse", &found.cells, &expected.cells)?;
    ensure!(found.exceptions == expected.exceptions, "{:?} instead of {:?}", found.exceptions, expected.exceptions);
    ensure!(found.exceptions.len() == 1 && found.exceptions.get("future") == Some(&30), "{:?}", found.exceptions);
    // Redis keeps what is recent.
    let recent = |cells: std::collections::BTreeMap<_, _>| {
        cells
            .into_iter()
            .filter(|((_, _, start_us, _), _): &(crate::counted::Cell, _)| *start_us > now_us - 20 * HOUR_US)
    };
    let recent_expected = recent(expected.cells).collect();
    compare("Redis", &recent(in_redis(&world).await?).collect(), &recent_expected)?;
    lengths_of_days(&world).await?;
    // The watermarks are those of today.
    let sql = "SELECT toInt64(max(toUnixTimestamp64Micro(assumeNotNull(watermark)))) FROM speed_progress FINAL";
    let watermark_us = world.clickhouse_client().query(sql).fetch_one::<i64>().await?;
    ensure!(watermark_us <= now_us, "the watermark was moved to {watermark_us}");

    through_the_collector(&world, seed).await?;
    ensure!(worker.stop()?.success(), "{}", worker.log_tail());
    Ok(Survived {
        injected: "events of 1970, 2099, a leap day, four changes of the clock".to_owned(),
        held: format!("{} cells; days of 23, 24 and 25 hours; 2099 is set aside and moves no watermark", sent.len()),
    })
}

async fn lengths_of_days(world: &World) -> Result<()> {
    for (instant, hours) in SPECIAL {
        let at_us = instant.parse::<Timestamp>()?.as_microsecond();
        let sql = "SELECT toInt64(any(toUnixTimestamp64Micro(window_end) - toUnixTimestamp64Micro(window_start))) FROM \
                   speed_cells WHERE rollup = 'total' AND grain = '1d' AND toUnixTimestamp64Micro(window_start) <= ? AND \
                   toUnixTimestamp64Micro(window_end) > ?";
        let length_us = world.clickhouse_client().query(sql).bind(at_us).bind(at_us).fetch_one::<i64>().await?;
        ensure!(length_us == hours * HOUR_US, "the day of {instant} is {length_us} us long, not {hours} hours");
    }
    Ok(())
}

/// The collector refuses 2099 and takes the rest; what it takes is counted or, being older than what came before, late.
async fn through_the_collector(world: &World, seed: u64) -> Result<()> {
    let mut collector = world.start_collector().await?;
    let mut items = Vec::new();
    for (number, instant) in (0_u64..).zip(["1970-01-01T00:00:00Z", "2024-02-29T12:00:00Z", "2099-01-01T00:00:00Z"]) {
        items.push(generate(seed + 60 + number, 1, instant.parse::<Timestamp>()?.as_microsecond(), 1)[0].item());
    }
    let receipt = world.send(&items).await?;
    ensure!(receipt["accepted"] == 2 && receipt["rejected"][0]["field"] == "occurred_at", "{receipt}");
    until_counted(world).await?;
    until("the two to be late", PATIENCE, || async {
        Ok(in_clickhouse(world).await?.exceptions.get("late") == Some(&2))
    })
    .await?;
    ensure!(collector.stop().context("the collector")?.success());
    Ok(())
}
