//! The speed layer is silent, or behind the log, or nobody brings single events any more: an answer says so.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use reckon_schemas::redis_keys::{self, Progress};
use reckon_tests::counted::{produce, produce_at, until_counted};
use reckon_tests::proxy::{Direction, Proxy, Way};
use reckon_tests::purchases::generate;
use reckon_tests::world::Member;
use reckon_tests::{Stack, World, until};
use serde_json::Value;

use crate::serving_stores_away::{QUESTION, heard, until_fresh, watch};

/// So little may wait for a store that reading soon does.
const CATCHING_UP: &str = r#"
[speed]
allowed_lateness = "2h"
flush_interval = "100ms"
clickhouse_interval = "300ms"
dirty_cells_max = 2000

[serve]
live_refresh = "1s"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_says_that_the_speed_layer_is_behind() -> Result<()> {
    let stack = Stack::shared()?;
    let world = World::new(&stack)?;
    let from_us = jiff::Timestamp::now().as_microsecond() - 3_600_000_000;
    let mut worker = world.start("speed")?;
    produce(&world, &generate(0x5eed_0078, 100, from_us, 1_000_000)).await?;
    until_counted(&world).await?;
    let _node = world.start_serving().await?;
    let answer = world.query(&format!("/v1/query?{QUESTION}")).await?;
    ensure!(answer["stale"].is_null(), "{answer:#}");
    let mut live = watch(&world).await?;
    worker.kill()?;
    heard(&mut live, &"speed_behind".into()).await?;
    let answer = world.query(&format!("/v1/query?{QUESTION}")).await?;
    ensure!(answer["stale"]["reason"] == "speed_behind", "{answer:#}");
    ensure!(answer["stale"]["age_ms"].as_i64() > Some(5_000), "{answer:#}");
    Ok(())
}

/// Reading waits for a store while a part of the worker goes on reporting progress: that it is heard of is not enough.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_says_that_the_speed_layer_catches_up() -> Result<()> {
    let stack = Stack::shared()?;
    let world = World::with_tuning(&stack, CATCHING_UP)?;
    let from_us = jiff::Timestamp::now().as_microsecond() - 3_600_000_000;
    let mut purchases = generate(0x5eed_0079, 12_100, from_us, 100_000);
    let backlog = purchases.split_off(100);
    let (proxy, url) = Proxy::before(&stack.clickhouse).await?;
    let mut worker = world.start_worker(&Member { clickhouse: Some(url), ..Member::named("one") })?;
    produce(&world, &purchases).await?;
    until_counted(&world).await?;
    let node = world.start_serving().await?;
    until_fresh(&world, 100).await?;
    let mut live = watch(&world).await?;
    heard(&mut live, &Value::Null).await?;

    proxy.set(Direction::Requests, Way::Held);
    produce(&world, &backlog).await?;
    heard(&mut live, &"speed_behind".into()).await?;
    let answer = world.query(&format!("/v1/query?{QUESTION}")).await?;
    ensure!(answer["stale"]["reason"] == "speed_behind", "{answer:#}");
    ensure!(answer["stale"]["age_ms"].as_i64() > Some(5_000), "{answer:#}");
    ensure!(silent_ms(&world).await? < 5_000, "it is silent, too: {}", worker.log_tail());

    proxy.set(Direction::Requests, Way::Open);
    until_fresh(&world, 12_100).await.with_context(|| format!("{}\n{}", node.log_tail(), worker.log_tail()))?;
    heard(&mut live, &Value::Null).await?;
    // Nothing happens any more, and both stores are told that this is so.
    let caught_up_ms = || async { Ok::<_, anyhow::Error>((in_redis(&world).await?, in_clickhouse(&world).await?)) };
    let before = caught_up_ms().await?;
    until("the idle partitions to be up to date", Duration::from_secs(30), || async {
        let now = caught_up_ms().await?;
        Ok(now.0 > before.0 + 2_000 && now.1 > before.1 + 2_000)
    })
    .await?;
    ensure!(worker.stop()?.success(), "{}", worker.log_tail());
    Ok(())
}

async fn progress(world: &World) -> Result<Vec<Progress>> {
    let mut connection = world.redis_connection().await?;
    let key = redis_keys::progress(&world.kafka.topics.events);
    let all: Vec<String> = redis::cmd("HVALS").arg(key).query_async(&mut connection).await?;
    all.iter().map(|json| Ok(serde_json::from_str(json)?)).collect()
}

/// How long ago the partition reported in Redis that is silent for the longest time.
async fn silent_ms(world: &World) -> Result<i64> {
    let written_at_ms = progress(world).await?.iter().map(|progress| progress.written_at_ms).min();
    Ok(jiff::Timestamp::now().as_millisecond() - written_at_ms.context("no progress")?)
}

/// Up to when everything is counted, by Redis.
async fn in_redis(world: &World) -> Result<i64> {
    let all = progress(world).await?;
    all.iter().map(|progress| progress.caught_up_at_ms).min().flatten().context("a partition does not say")
}

/// The same by ClickHouse.
async fn in_clickhouse(world: &World) -> Result<i64> {
    let sql =
        "SELECT min(toUnixTimestamp64Milli(assumeNotNull(caught_up_at))) FROM speed_progress FINAL WHERE topic = ?";
    Ok(world.clickhouse_client().query(sql).bind(&world.kafka.topics.events).fetch_one::<i64>().await?)
}

const BY_USER: &str = "/v1/query?metric=purchases&grain=1h&by=user_id";
const PATIENCE: Duration = Duration::from_secs(60);

/// A world that takes raw events for missing soon.
fn with_raw_events(stack: &Stack) -> Result<World> {
    World::with_tuning(stack, &format!("{CATCHING_UP}raw_lag_max = \"3s\"\n\n[raw]\ninterval = \"500ms\"\n"))
}

async fn until_single_events(world: &World, count: usize) -> Result<()> {
    until("every single event", PATIENCE, || async {
        let answer = world.query(BY_USER).await?;
        Ok(answer["total"]["value"] == count && answer["gaps"] == serde_json::json!([]))
    })
    .await
}

/// The number of single events, once the answer says since when some are missing; and since when.
async fn until_missing(world: &World) -> Result<(u64, jiff::Timestamp)> {
    let is_named =
        |answer: &Value| answer["gaps"][0]["reason"].as_str().is_some_and(|reason| reason.contains("reckon raw"));
    until("the gap", PATIENCE, || async { Ok(is_named(&world.query(BY_USER).await?)) }).await?;
    let answer = world.query(BY_USER).await?;
    let from = answer["gaps"][0]["from"].as_str().with_context(|| format!("a gap in {answer:#}"))?.parse()?;
    Ok((answer["total"]["value"].as_u64().context("a number")?, from))
}

/// What has single events is asked while nobody brings them any more.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_says_from_when_on_single_events_are_missing() -> Result<()> {
    let stack = Stack::shared()?;
    let world = with_raw_events(&stack)?;
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let purchases = generate(0x5eed_007a, 200, (now_ms - 3_600_000) * 1_000, 1_000_000);
    let mut worker = world.start("speed")?;
    let mut reader = world.start("raw")?;
    let _node = world.start_serving().await?;
    // Nothing has come for two minutes, which is no reason to miss anything.
    produce_at(&world, &purchases[..100], Some(now_ms - 120_000)).await?;
    until_counted(&world).await?;
    until_single_events(&world, 100).await?;
    ensure!(reader.stop()?.success(), "{}", reader.log_tail());
    let stopped_ms = jiff::Timestamp::now().as_millisecond();
    produce(&world, &purchases[100..]).await?;
    until_counted(&world).await?;
    let (count, from) = until_missing(&world).await?;
    ensure!(count == 100, "{count}");
    let before_the_end_ms = stopped_ms - from.as_millisecond();
    ensure!((0..15_000).contains(&before_the_end_ms), "missing from {before_the_end_ms} ms before the end on");
    ensure!(worker.stop()?.success(), "{}", worker.log_tail());
    Ok(())
}

/// A reader has taken a partition over, and stands still; the others are brought as ever.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_says_that_single_events_of_one_partition_are_missing() -> Result<()> {
    let stack = Stack::shared()?;
    let world = with_raw_events(&stack)?;
    let from_us = jiff::Timestamp::now().as_microsecond() - 3_600_000_000;
    let purchases = generate(0x5eed_007d, 200, from_us, 1_000_000);
    let mut worker = world.start("speed")?;
    let mut reader = world.start("raw")?;
    let _node = world.start_serving().await?;
    produce(&world, &purchases[..100]).await?;
    until_counted(&world).await?;
    until_single_events(&world, 100).await?;
    // For longer than anything may be behind, nothing happens in any partition.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let answer = world.query(BY_USER).await?;
    ensure!(answer["gaps"] == serde_json::json!([]), "{answer:#}");

    let stuck = join_and_stand_still(&world).await.with_context(|| reader.log_tail())?;
    produce(&world, &purchases[100..]).await?;
    until_counted(&world).await?;
    let all_others = || async {
        let (count, _) = until_missing(&world).await?;
        Ok((101..200).contains(&count))
    };
    until("the others' events, and the gap", PATIENCE, all_others).await?;
    let (_, from) = until_missing(&world).await?;
    // The others are brought on and on: that does not move the gap.
    tokio::time::sleep(Duration::from_secs(3)).await;
    ensure!(until_missing(&world).await?.1 == from);

    tokio::task::spawn_blocking(move || drop(stuck)).await?;
    until_single_events(&world, 200).await?;
    ensure!(reader.stop()?.success(), "{}", reader.log_tail());
    ensure!(worker.stop()?.success(), "{}", worker.log_tail());
    Ok(())
}

/// A member of the group of those who bring raw events, that has got partitions and does nothing with them.
async fn join_and_stand_still(world: &World) -> Result<BaseConsumer> {
    let topic = world.kafka.topics.events.clone();
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &world.kafka.brokers)
        .set("group.id", format!("reckon-raw.{topic}"))
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("enable.auto.commit", "false")
        .create()?;
    consumer.subscribe(&[&topic])?;
    let joined = tokio::task::spawn_blocking(move || {
        let began = std::time::Instant::now();
        while consumer.assignment()?.count() == 0 {
            ensure!(began.elapsed() < PATIENCE, "the group gives it nothing");
            // What it reads is lost with it: nothing of it is noted.
            drop(consumer.poll(Duration::from_millis(100)));
        }
        Ok(consumer)
    });
    joined.await?
}
