//! ClickHouse or Redis is killed or frozen under load: answers go on in bounded time, say how old they are, and are new
//! again by themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use reckon_schemas::catalog::{Measure, Metric};
use reckon_schemas::redis_keys::{self, Progress};
use reckon_tests::counted::{produce, produce_at, progress_in_redis, until_counted};
use reckon_tests::lake::log_ranges;
use reckon_tests::proxy::{Direction, Proxy, Way};
use reckon_tests::purchases::generate;
use reckon_tests::world::Member;
use reckon_tests::{Service, Stack, World, until};
use serde_json::{Value, json};

const TUNING: &str = r#"
[speed]
flush_interval = "100ms"
clickhouse_interval = "300ms"

[serve]
patience = "1s"
redis_timeout = "300ms"
query_timeout = "4s"
live_refresh = "1s"
queries_per_second_max = 100000
"#;
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
const CLIENTS: usize = 8;
/// What an answer may take beyond the patience, on a machine that does much else.
const SLACK: Duration = Duration::from_secs(2);
/// What any route may take while a store is away: less than its own time limit for single events.
const ROUTE_MAX: Duration = Duration::from_secs(8);
const QUESTION: &str = "metric=purchases&grain=1h&by=department";

/// What clients saw while something was done to the servers.
#[derive(Default)]
struct Seen {
    answers: usize,
    last_good: usize,
    refused: usize,
    slowest: Duration,
}

/// Clients that ask without a pause until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<tokio::task::JoinHandle<Result<Seen>>>,
}

impl Load {
    fn start(world: &World) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let client = |_| {
            let (stop, http, key) = (stop.clone(), world.http.clone(), world.read_key.clone());
            let url = format!("http://127.0.0.1:{}/v1/query?{QUESTION}", world.serve_port);
            tokio::spawn(async move {
                let mut seen = Seen::default();
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    let answer = http.get(&url).bearer_auth(&key).send().await?;
                    let status = answer.status();
                    let header = answer.headers().get("reckon-stale").cloned();
                    let body: Value = answer.json().await?;
                    seen.slowest = seen.slowest.max(began.elapsed());
                    seen.answers += 1;
                    seen.refused += usize::from(!status.is_success());
                    let is_last_good = body["stale"]["reason"] == "store_away";
                    ensure!(is_last_good == header.is_some_and(|header| header.as_bytes().starts_with(b"store_away")));
                    seen.last_good += usize::from(is_last_good);
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Ok(seen)
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Self { stop, clients }
    }

    async fn stop(self) -> Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        for client in self.clients {
            let Seen { answers, last_good, refused, slowest } = client.await??;
            all.answers += answers;
            all.last_good += last_good;
            all.refused += refused;
            all.slowest = all.slowest.max(slowest);
        }
        Ok(all)
    }
}

async fn until_fresh(world: &World, purchases: usize) -> Result<()> {
    until("an answer that is fresh and complete", Duration::from_secs(40), || async {
        let answer = world.query(&format!("/v1/query?{QUESTION}")).await?;
        Ok(answer["stale"].is_null()
            && answer["notes"] == serde_json::json!([])
            && answer["total"]["value"] == purchases)
    })
    .await
}

/// The messages of a live query, as they come.
async fn watch(world: &World) -> Result<tokio::sync::mpsc::Receiver<Value>> {
    let url = format!("http://127.0.0.1:{}/v1/live?{QUESTION}", world.serve_port);
    let endless = reqwest::Client::new();
    let mut stream = endless.get(url).bearer_auth(&world.read_key).send().await?.error_for_status()?;
    let (sender, receiver) = tokio::sync::mpsc::channel(1_000);
    tokio::spawn(async move {
        let mut text = String::new();
        while let Ok(Some(chunk)) = stream.chunk().await {
            text.push_str(&String::from_utf8_lossy(&chunk));
            while let Some((event, rest)) = text.split_once("\n\n") {
                let data = event.lines().find_map(|line| line.strip_prefix("data: ")).map(serde_json::from_str);
                let rest = rest.to_owned();
                if let Some(Ok(message)) = data
                    && sender.send(message).await.is_err()
                {
                    return;
                }
                text = rest;
            }
        }
    });
    Ok(receiver)
}

async fn heard(live: &mut tokio::sync::mpsc::Receiver<Value>, reason: &Value) -> Result<()> {
    let wait = async {
        loop {
            let message = live.recv().await.context("the live stream ended")?;
            if message["answer"]["stale"]["reason"] == *reason {
                return anyhow::Ok(());
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.with_context(|| format!("no message with {reason}"))?
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_go_on_while_a_store_is_away_and_recover_by_themselves() -> Result<()> {
    let stack = Stack::own("serving-away")?;
    let world = World::with_tuning(&stack, TUNING)?;
    // Within the last hours, so that a part of the range is not over.
    let from_us = jiff::Timestamp::now().as_microsecond() - 3 * 3_600_000_000;
    let mut purchases = generate(0x5eed_0077, 2_100, from_us, 5_000_000);
    let last = purchases.split_off(2_000);
    let mut worker = world.start("speed")?;
    let mut node = world.start_serving().await?;
    produce(&world, &purchases).await?;
    until_counted(&world).await?;
    until_fresh(&world, 2_000).await?;
    let mut live = watch(&world).await?;
    heard(&mut live, &Value::Null).await?;

    for (service, is_killed) in
        [(Service::ClickHouse, true), (Service::ClickHouse, false), (Service::Redis, true), (Service::Redis, false)]
    {
        let load = Load::start(&world);
        tokio::time::sleep(Duration::from_secs(1)).await;
        if is_killed {
            stack.kill(service)?
        } else {
            stack.pause(service)?
        }
        if matches!(service, Service::ClickHouse) {
            heard(&mut live, &"store_away".into()).await?;
            // What nobody has asked before is refused, and soon nobody waits for that.
            let unknown = format!("/v1/query?{QUESTION}&filter=store:{}", u8::from(is_killed) + 1);
            let url = format!("http://127.0.0.1:{}{unknown}", world.serve_port);
            until("a quick refusal", Duration::from_secs(20), || async {
                let began = Instant::now();
                let status = world.http.get(&url).bearer_auth(&world.read_key).send().await?.status();
                ensure!(status == 503, "{status}");
                Ok(began.elapsed() < Duration::from_millis(500))
            })
            .await?;
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        if is_killed {
            stack.start(service)?
        } else {
            stack.resume(service)?
        }
        until_fresh(&world, 2_000).await.with_context(|| format!("{service:?}\n{}", node.log_tail()))?;
        heard(&mut live, &Value::Null).await?;
        let seen = load.stop().await?;
        ensure!(seen.refused == 0, "{service:?}: {} of {} answers were refused", seen.refused, seen.answers);
        ensure!(seen.slowest < Duration::from_secs(1) + SLACK, "{service:?}: an answer took {:?}", seen.slowest);
        let is_as_expected = match service {
            Service::ClickHouse => seen.last_good > 0,
            // Those who ask in the moment in which Redis freezes do not wait for long; soon nobody waits for it.
            _ => seen.last_good <= 3 * CLIENTS,
        };
        ensure!(is_as_expected, "{service:?}: {} last good answers of {}", seen.last_good, seen.answers);
    }
    // The numbers move on as if nothing had been.
    produce(&world, &last).await?;
    until_fresh(&world, 2_100).await?;
    ensure!(node.stop()?.success(), "{}", node.log_tail());
    ensure!(worker.stop()?.success(), "{}", worker.log_tail());
    Ok(())
}

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
    let ends: i64 = log_ranges(&world, &world.kafka.topics.events).await?.values().map(|(_, high)| high).sum();
    let counted: i64 = progress_in_redis(&world).await?.values().sum();
    ensure!(counted < ends, "{counted} of {ends} are counted: nothing is behind");
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

/// What has single events is asked while nobody brings them any more.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_says_from_when_on_single_events_are_missing() -> Result<()> {
    const BY_USER: &str = "/v1/query?metric=purchases&grain=1h&by=user_id";
    let stack = Stack::shared()?;
    let world = World::with_tuning(&stack, &format!("{CATCHING_UP}\n[raw]\ninterval = \"500ms\"\n"))?;
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let (before_ms, from_us) = (now_ms - 120_000, (now_ms - 3_600_000) * 1_000);
    let purchases = generate(0x5eed_007a, 200, from_us, 1_000_000);
    let mut worker = world.start("speed")?;
    let mut reader = world.start("raw")?;
    let _node = world.start_serving().await?;
    produce_at(&world, &purchases[..100], Some(before_ms)).await?;
    until_counted(&world).await?;
    until("every single event", Duration::from_secs(60), || async {
        let answer = world.query(BY_USER).await?;
        Ok(answer["total"]["value"] == 100 && answer["gaps"] == serde_json::json!([]))
    })
    .await?;
    ensure!(reader.stop()?.success(), "{}", reader.log_tail());
    produce(&world, &purchases[100..]).await?;
    until_counted(&world).await?;
    until("the gap", Duration::from_secs(30), || async {
        let answer = world.query(BY_USER).await?;
        let from: Option<jiff::Timestamp> = answer["gaps"][0]["from"].as_str().and_then(|from| from.parse().ok());
        let is_named = answer["gaps"][0]["reason"].as_str().is_some_and(|reason| reason.contains("reckon raw"));
        Ok(answer["total"]["value"] == 100 && is_named && from.is_some_and(|at| at.as_millisecond() == before_ms))
    })
    .await?;
    ensure!(worker.stop()?.success(), "{}", worker.log_tail());
    Ok(())
}

/// What is asked at every route that answers with numbers, as a browser or a program would do it again and again.
fn routes(world: &World) -> Vec<(&'static str, reqwest::RequestBuilder)> {
    let url = |path: &str| format!("http://127.0.0.1:{}/v1/{path}", world.serve_port);
    let get = |path: &str| world.http.get(url(path)).bearer_auth(&world.read_key);
    let post = |path: &str, body: &Value| world.http.post(url(path)).bearer_auth(&world.read_key).json(body);
    let steps = json!([{ "event": "purchase" }, { "event": "purchase" }]);
    let now = jiff::Timestamp::now();
    let panel = json!({
        "range": { "from": now - jiff::SignedDuration::from_hours(3), "to": now, "raw": { "from": "now-3h", "to": "now" } },
        "intervalMs": 60_000, "targets": [{ "target": "purchases", "refId": "A" }],
    });
    vec![
        ("query", get(&format!("query?{QUESTION}"))),
        ("history", get("metrics/purchases/history?granularity=1h")),
        ("heat map", get("heatmap?metric=purchases")),
        ("anomalies", get("anomalies?metric=purchases")),
        ("funnel", post("funnels", &json!({ "steps": steps, "within_s": 3600 }))),
        ("panel", post("grafana/query", &panel)),
        ("values", post("grafana/tag-values", &json!({ "key": "department" }))),
    ]
}

/// An answer's reason for being old, as its header and its body have it; and the body. It has to be an answer.
async fn reason(name: &str, request: reqwest::RequestBuilder) -> Result<(Value, Value)> {
    let began = Instant::now();
    let answer = request.send().await?;
    let status = answer.status();
    let header = answer.headers().get("reckon-stale").and_then(|header| header.to_str().ok()).map(str::to_owned);
    let body: Value = answer.json().await?;
    ensure!(status.is_success(), "{name}: {status} {body}");
    ensure!(began.elapsed() < ROUTE_MAX, "{name}: took {:?}", began.elapsed());
    let stale = if body.is_array() { &body[0]["reckon"]["stale"] } else { &body["stale"] };
    let said = header.as_deref().and_then(|header| header.split(';').next()).map_or(Value::Null, Value::from);
    ensure!(stale["reason"] == said, "{name}: {header:?} and {stale}");
    ensure!(stale.is_null() || stale["age_ms"].is_i64(), "{name}: {stale}");
    Ok((stale["reason"].clone(), body))
}

/// Every route answers all the time, and in the end for this reason.
async fn until_all(world: &World, wanted: &Value) -> Result<()> {
    for index in 0..routes(world).len() {
        let (name, _) = routes(world).swap_remove(index);
        let began = Instant::now();
        loop {
            let (_, request) = routes(world).swap_remove(index);
            let (found, body) = reason(name, request).await?;
            // A list of values has no room for a reason.
            if found == *wanted || (name == "values" && body[0]["text"].is_string()) {
                break;
            }
            ensure!(began.elapsed() < Duration::from_secs(40), "{name}: {found} instead of {wanted}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_gives_its_last_good_answer() -> Result<()> {
    let stack = Stack::own("serving-routes")?;
    let mut world = World::with_tuning(&stack, TUNING)?;
    world.change_catalog(|tenant| {
        let active = tenant.metrics[1].clone();
        let (name, event) = ("active".to_owned(), Metric::ANY_EVENT.to_owned());
        tenant.metrics.push(Metric { name, event, measure: Measure::ActiveUsers, ..active });
    })?;
    let mut worker = world.start("speed")?;
    let mut node = world.start_serving().await?;
    // Some of the last five minutes, so that somebody is active.
    let from_us = jiff::Timestamp::now().as_microsecond() - 3600 * 1_000_000;
    produce(&world, &generate(0x5eed_007c, 1_200, from_us, 3_000_000)).await?;
    until_counted(&world).await?;
    let raw = world.run(&["raw", "--until-end"])?;
    ensure!(raw.code == 0, "{}", raw.log);
    until_fresh(&world, 1_200).await?;
    until_all(&world, &Value::Null).await?;
    for is_killed in [true, false] {
        if is_killed {
            stack.kill(Service::ClickHouse)?
        } else {
            stack.pause(Service::ClickHouse)?
        }
        until_all(&world, &"store_away".into()).await.with_context(|| node.log_tail())?;
        if is_killed {
            stack.start(Service::ClickHouse)?
        } else {
            stack.resume(Service::ClickHouse)?
        }
        until_fresh(&world, 1_200).await?;
        until_all(&world, &Value::Null).await.with_context(|| node.log_tail())?;
    }

    // Who is active, only Redis knows.
    let url = format!("http://127.0.0.1:{}/v1/query?metric=active", world.serve_port);
    let active = async || reason("active", world.http.get(&url).bearer_auth(&world.read_key)).await;
    let (fresh, known) = active().await?;
    ensure!(fresh.is_null() && known["total"]["value"].is_u64(), "{known:#}");
    stack.kill(Service::Redis)?;
    until("the last good number", Duration::from_secs(20), async || Ok(active().await?.0 == "store_away")).await?;
    let (_, last) = active().await?;
    ensure!(last["stale"]["age_ms"].as_i64() > Some(0) && last["total"]["value"].is_u64(), "{last:#}");
    stack.start(Service::Redis)?;
    until("a new number", Duration::from_secs(40), async || Ok(active().await?.0.is_null())).await?;
    ensure!(node.stop()?.success(), "{}", node.log_tail());
    ensure!(worker.stop()?.success(), "{}", worker.log_tail());
    Ok(())
}
