//! Faults 21 to 23 in the log itself, past the collector: bytes that are no event, sums near the end of 64 bits, and
//! records larger than any event.

use anyhow::{Context, Result, ensure};
use rdkafka::admin::{AdminOptions, AlterConfig, ResourceSpecifier};

use super::flow::{purchases, raw};
use super::{LATENESS, Survived, tuning, until_whole};
use crate::counted::{assert_counted, in_clickhouse, oracle, produce, progress_in_redis, until_counted};
use crate::lake::until_conserved;
use crate::log::{Raw, admin, producer, send};
use crate::purchases::{Purchase, generate};
use crate::{Member, Stack, World};

/// Records that no collector writes, among good ones: each is counted as unreadable, and archived.
pub async fn bytes_that_are_no_event(stack: &Stack, seed: u64) -> Result<Survived> {
    let world = World::with_tuning(stack, &tuning(""))?;
    let mut worker = world.start_worker(&Member::named("worker"))?;
    let mut archiver = world.start("archive")?;
    let good = purchases(seed, 1_000);
    produce(&world, &good[..500]).await?;
    let bad = broken(&world, &good[0])?;
    let raws: Vec<Raw> = bad.iter().cloned().cycle().take(bad.len() * 20).collect();
    send(&producer(&world.kafka.brokers)?, &world.kafka.topics.events, &raws).await?;
    produce(&world, &good[500..]).await?;
    until_whole(&world).await?;
    let unreadable = oracle(&world, LATENESS).await?.exceptions.get("unreadable").copied().unwrap_or_default();
    ensure!(unreadable == raws.len() as u64, "{unreadable} of {} were unreadable", raws.len());
    until_conserved(&world).await?;
    ensure!(worker.stop()?.success() && archiver.stop()?.success(), "{}", worker.log_tail());
    Ok(Survived {
        injected: format!("{} records of {} kinds that are no event", raws.len(), bad.len()),
        held: "each counted as unreadable; counted + set aside = sent; lake = log".to_owned(),
    })
}

/// What may be wrong with a record.
fn broken(world: &World, purchase: &Purchase) -> Result<Vec<Raw>> {
    let good = raw(&world.tenant, &Purchase { id: "broken".to_owned(), ..purchase.clone() });
    let text = String::from_utf8(good.payload.clone().context("a payload")?)?;
    let deep = "[".repeat(10_000);
    let closed = format!("{deep}{}", "]".repeat(10_000));
    let user = format!("\"{}\"", purchase.user);
    ensure!(text.contains(&user) && text.contains("\"properties\":{"), "{text}");
    let payloads: Vec<Option<Vec<u8>>> = vec![
        None,
        Some(vec![]),
        Some(vec![0]),
        Some(b"\xff\xfe{}".to_vec()),
        Some(text.as_bytes()[..text.len() / 2].to_vec()),
        Some(text.replace(&user, "\"a\u{0}b\"").into_bytes()),
        Some(text.replace(&user, "\"a\\u0000b\"").into_bytes()),
        Some([b"\xff".as_slice(), text.as_bytes()].concat()),
        Some(replace_bytes(text.as_bytes(), user.as_bytes(), b"\"\xc3\x28\"")),
        Some(text.replace("\"properties\":{", &format!("\"properties\":{{\"deep\":{deep},")).into_bytes()),
        Some(text.replace("\"properties\":{", &format!("\"properties\":{{\"deep\":{closed},")).into_bytes()),
        Some(closed.into_bytes()),
        Some(b"null".to_vec()),
    ];
    Ok(payloads.into_iter().map(|payload| Raw { payload, ..good.clone() }).collect())
}

fn replace_bytes(bytes: &[u8], what: &[u8], with: &[u8]) -> Vec<u8> {
    let at = bytes.windows(what.len()).position(|window| window == what).unwrap_or(0);
    [&bytes[..at], with, &bytes[at + what.len()..]].concat()
}

/// The largest and the smallest amounts of 64 bits, many times in one cell.
pub async fn sums_beyond_64_bits(stack: &Stack, seed: u64) -> Result<Survived> {
    let world = World::with_tuning(stack, &tuning(""))?;
    let mut worker = world.start_worker(&Member::named("worker"))?;
    let from_us = jiff::Timestamp::now().as_microsecond() - 7_200_000_000;
    let mut purchases = generate(seed, 3_000, from_us, 1_000);
    for (number, purchase) in purchases.iter_mut().enumerate() {
        purchase.cents = if number < 2_700 { i64::MAX } else { i64::MIN };
        purchase.store = if number < 2_700 { "up" } else { "down" }.to_owned();
    }
    produce(&world, &purchases).await?;
    until_whole(&world).await?;
    let cells = in_clickhouse(&world).await?.cells;
    let sum = |store: &str| -> i128 {
        let days = cells.iter().filter(|((rollup, grain, _, values), _)| {
            rollup == "store" && grain == "1d" && values.first().is_some_and(|value| value == store)
        });
        days.map(|(_, sums)| sums.cents).sum()
    };
    let (up, down) = (2_700 * i128::from(i64::MAX), 300 * i128::from(i64::MIN));
    ensure!((sum("up"), sum("down")) == (up, down), "{} and {}", sum("up"), sum("down"));
    ensure!(worker.stop()?.success(), "{}", worker.log_tail());
    Ok(Survived {
        injected: "2,700 times the largest amount of 64 bits, 300 times the smallest".to_owned(),
        held: format!("{up} and {down} cents, exact in both stores"),
    })
}

/// How much memory a worker may take for records of 10 MB: some of them wait in its client, and no more than that.
const MEMORY_MAX: u64 = 400 << 20;

/// Records of 10 MB in the log, and a request over the limit at the collector.
pub async fn records_that_are_too_large(stack: &Stack, seed: u64, records: usize) -> Result<Survived> {
    let world = World::with_tuning(stack, &tuning(""))?;
    let topic = &world.kafka.topics.events;
    let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set("max.message.bytes", "15000000");
    for result in admin(&world.kafka.brokers)?.alter_configs([&change], &AdminOptions::new()).await? {
        result.map_err(|(_, code)| anyhow::anyhow!("{code}"))?;
    }
    let mut worker = world.start_worker(&Member::named("worker"))?;
    let good = purchases(seed, 1_000);
    produce(&world, &good[..500]).await?;
    until_counted(&world).await?;
    let memory_before = worker.memory_peak()?;
    let event = raw(&world.tenant, &Purchase { id: "large".to_owned(), ..good[0].clone() });
    let text = String::from_utf8(event.payload.clone().context("a payload")?)?;
    let large =
        text.replace("\"properties\":{", &format!("\"properties\":{{\"large\":\"{}\",", "x".repeat(10_000_000)));
    let large = Raw { payload: Some(large.into_bytes()), ..event };
    let producer = producer(&world.kafka.brokers)?;
    for number in 0..records {
        let key = number.to_string().into_bytes();
        send(&producer, topic, &[Raw { key, ..large.clone() }]).await?;
    }
    produce(&world, &good[500..]).await?;
    until_counted(&world).await?;
    let counted = assert_counted(&world, LATENESS).await?;
    let unreadable = counted.exceptions.get("unreadable").copied().unwrap_or_default();
    ensure!(unreadable == records as u64, "{unreadable} of {records} records of 10 MB were unreadable");
    let memory = worker.memory_peak()?;
    ensure!(memory < MEMORY_MAX, "the worker took {} MB of memory", memory >> 20);
    ensure!(worker.stop()?.success(), "{}", worker.log_tail());
    over_the_limit(&world).await?;
    Ok(Survived {
        injected: format!("{records} records of 10 MB; a request of 5 MB"),
        held: format!("unreadable each; memory {} MB, {} MB before; 413", memory >> 20, memory_before >> 20),
    })
}

/// The collector says 413, and nothing of the request is in the log.
async fn over_the_limit(world: &World) -> Result<()> {
    let before = progress_in_redis(world).await?;
    let mut collector = world.start_collector().await?;
    let item = format!(r#"{{"event_id":"x","name":"{}"}}"#, "n".repeat(5 << 20));
    let url = format!("http://127.0.0.1:{}/v1/events", world.collect_port);
    let answer = world.http.post(url).bearer_auth(&world.write_key).body(item).send().await?;
    ensure!(answer.status().as_u16() == 413, "{}", answer.status());
    let ends = crate::lake::log_ranges(world, &world.kafka.topics.events).await?;
    ensure!(ends.iter().all(|(partition, (_, end))| before.get(partition) == Some(end)), "{before:?} {ends:?}");
    ensure!(collector.stop()?.success(), "{}", collector.log_tail());
    Ok(())
}
