//! Fault 17: a clock is an hour off, either way: against the log's and its events', or really.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;

use super::flow::raw;
use super::{LATENESS, Survived, tuning};
use crate::books::{Books, day};
use crate::counted::{Cell, assert_counted, compare, in_clickhouse, in_redis, oracle_of, produce, until_counted};
use crate::lake::until_conserved;
use crate::log::{Raw, producer, send};
use crate::process::run_in;
use crate::purchases::{Sums, generate};
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

/// What makes a process believe that it is another time of day. What it waits for takes as long as ever.
fn clock(off: &str) -> Result<Vec<(String, String)>> {
    let folders = std::fs::read_dir("/usr/lib")?.filter_map(|entry| Some(entry.ok()?.path()));
    let library = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|library| library.exists());
    let library: PathBuf = library.context("faketime is missing: run deploy/local/install --with-tests")?;
    let variables = [
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME", off.to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ];
    Ok(variables.map(|(name, value)| (name.to_owned(), value)).to_vec())
}

/// The clocks of the worker and of the archiver are an hour off, in opposite directions, and change places; then days are
/// settled three times, by a clock that is ahead, by one that is behind, by the right one.
pub async fn clocks_are_really_off(stack: &Stack, seed: u64) -> Result<Survived> {
    const DAY_US: i64 = 24 * 60 * MINUTE_US;
    let world = World::with_tuning(stack, &tuning(""))?;
    let now_us = Timestamp::now().as_microsecond();
    let two_days_ago = generate(seed, 600, now_us - 2 * DAY_US - 100 * MINUTE_US, 10_000_000);
    produce(&world, &two_days_ago).await?;
    let mut told = 0;
    for (number, (worker, archiver)) in (1_u64..).zip([("+1h", "-1h"), ("-1h", "+1h")]) {
        let mut worker = world.start_in("speed", &format!("speed{number}"), &clock(worker)?)?;
        let mut archiver = world.start_in("archive", &format!("archive{number}"), &clock(archiver)?)?;
        let now_us = Timestamp::now().as_microsecond();
        produce(&world, &generate(seed + 10 * number, 500, now_us - 8 * MINUTE_US, 1_000_000)).await?;
        // By the log's time these are too far in the future, whatever a worker's clock says.
        produce(&world, &generate(seed + 10 * number + 1, 100, now_us + 30 * MINUTE_US, 1_000_000)).await?;
        until_counted(&world).await?;
        until_conserved(&world).await?;
        for part in [&mut worker, &mut archiver] {
            let log = part.log();
            // The log lines' own times say that the clock was off.
            let at = log.lines().find_map(|line| line.split_whitespace().next()?.parse::<Timestamp>().ok());
            let off_us = at.context("a time in the log")?.as_microsecond() - Timestamp::now().as_microsecond();
            ensure!(off_us.abs() > 50 * MINUTE_US, "its clock was right: {}", part.log_tail());
            ensure!(part.stop()?.success(), "{}", part.log_tail());
            told += 1;
        }
    }
    let counted = oracle_of(&world, &world.tenant, LATENESS).await?;
    ensure!(counted.exceptions == BTreeMap::from([("future".to_owned(), 200)]), "{:?}", counted.exceptions);
    let clickhouse = in_clickhouse(&world).await?;
    compare("ClickHouse", &clickhouse.cells, &counted.cells)?;
    ensure!(clickhouse.missed == counted.missed, "{:?}", clickhouse.missed);
    // What Redis keeps by the hour or longer; which seconds are still of interest is a matter of the clock.
    let recent = |mut cells: BTreeMap<Cell, Sums>| {
        cells.retain(|(_, _, start_us, _), _| *start_us > now_us - 6 * 60 * MINUTE_US);
        cells
    };
    compare("Redis", &recent(in_redis(&world).await?), &recent(counted.cells.clone()))?;
    let date = day(&two_days_ago[0]);
    let mut contents: Vec<(String, Sums)> = Vec::new();
    for off in ["+1h", "-1h", "+0"] {
        let settled = run_in(&world.config(), &["nightly", "--full", "--date", &date], &clock(off)?)?;
        ensure!(settled.code == 0, "{off}: exit {}\n{}\n{}", settled.code, settled.stdout, settled.log);
        let content: (String, u64, i128, u64) = world
            .clickhouse_client()
            .query(
                "SELECT content_hash, count, money['USD'], users_exact FROM settlements_current \
                 JOIN settled_cells USING (day) WHERE toString(day) = ? AND rollup = 'total' AND grain = '1d'",
            )
            .bind(&date)
            .fetch_one()
            .await?;
        contents.push((content.0, Sums { count: content.1, cents: content.2, users: content.3 }));
    }
    let expected = Books::expected_days(&two_days_ago).remove(&date).context("purchases of that day")?;
    ensure!(contents.iter().all(|content| *content == (contents[0].0.clone(), expected.clone())), "{contents:?}");
    Ok(Survived {
        injected: format!("the clocks of worker, archiver ({told} lives) and nightly an hour ahead and behind"),
        held: format!("{} cells by the log's time; one content of the settled day", counted.cells.len()),
    })
}
