//! ClickHouse or Redis is killed or frozen under load: answers go on in bounded time, say how old they are, and are new
//! again by themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use reckon_tests::counted::{produce, until_counted};
use reckon_tests::purchases::generate;
use reckon_tests::{Service, Stack, World, until};
use serde_json::Value;

pub(crate) const TUNING: &str = r#"
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
const CLIENTS: usize = 8;
/// What an answer may take beyond the patience, on a machine that does much else.
const SLACK: Duration = Duration::from_secs(2);
pub(crate) const QUESTION: &str = "metric=purchases&grain=1h&by=department";

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

pub(crate) async fn until_fresh(world: &World, purchases: usize) -> Result<()> {
    until("an answer that is fresh and complete", Duration::from_secs(40), || async {
        let answer = world.query(&format!("/v1/query?{QUESTION}")).await?;
        Ok(answer["stale"].is_null()
            && answer["notes"] == serde_json::json!([])
            && answer["total"]["value"] == purchases)
    })
    .await
}

/// The messages of a live query, as they come.
pub(crate) async fn watch(world: &World) -> Result<tokio::sync::mpsc::Receiver<Value>> {
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

pub(crate) async fn heard(live: &mut tokio::sync::mpsc::Receiver<Value>, reason: &Value) -> Result<()> {
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
