//! While a store is away, every route that answers with numbers gives its last good answer.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use reckon_schemas::catalog::{Measure, Metric};
use reckon_tests::counted::{produce, until_counted};
use reckon_tests::purchases::generate;
use reckon_tests::{Service, Stack, World, until};
use serde_json::{Value, json};

use crate::serving_stores_away::{QUESTION, TUNING, until_fresh};

/// What any route may take while a store is away: less than its own time limit for single events.
const ROUTE_MAX: Duration = Duration::from_secs(8);

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
    // A list of values has no room for a reason.
    let is_plain = body[0]["text"].is_string();
    ensure!(is_plain || stale["reason"] == said, "{name}: {header:?} and {stale}");
    ensure!(stale.is_null() || stale["age_ms"].is_i64(), "{name}: {stale}");
    Ok((said, body))
}

/// Every route answers all the time, and in the end for this reason.
async fn until_all(world: &World, wanted: &Value) -> Result<()> {
    for index in 0..routes(world).len() {
        let (name, _) = routes(world).swap_remove(index);
        let began = Instant::now();
        loop {
            let (_, request) = routes(world).swap_remove(index);
            let (found, _) = reason(name, request).await?;
            if found == *wanted {
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
