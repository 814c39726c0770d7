//! A tenant that asks for too much waits for itself; the others do not notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use reckon_serving::Tuning;
use reckon_serving::accounts::{Actor, Quota};
use reckon_tests::until;
use serde_json::json;

use super::scene::{Scene, THIRD, hex, sketch};

const QUERY: &str = "/v1/query?metric=revenue&from=2026-03-07&to=2026-03-10&grain=1d&by=department";

#[tokio::test]
async fn rows_and_places_are_counted_per_tenant() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    // So few that time pays for hardly any while this test runs.
    let quota = Quota { rows_per_minute_max: Some(20), ..Quota::default() };
    let operator = scene.accounts()?;
    operator.prepare().await?;
    operator.set_quota(&scene.tenant.parse()?, quota, &Actor::Operator).await?;
    until("the quota", Duration::from_secs(20), async || {
        Ok(node.ask(&scene.read_key, "/v1/quotas").await?.1["rows_per_minute"]["max"] == 20)
    })
    .await?;
    assert_eq!(node.ask(&scene.read_key, QUERY).await?.0, 200);
    let (_, after) = node.ask(&scene.read_key, "/v1/quotas").await?;
    // More than the answer has: what was read for it.
    assert!(after["rows_per_minute"]["used"].as_u64().is_some_and(|used| used > 5), "{after}");
    let (_, theirs) = node.ask(&scene.other_key, "/v1/quotas").await?;
    assert_eq!(theirs["rows_per_minute"]["used"], 0);
    // Whatever is left is used up by the next ones; the one after them waits.
    let mut last = (200, serde_json::Value::Null);
    for day in 1..=8 {
        last = node.ask(&scene.read_key, &QUERY.replace("03-07", &format!("03-0{day}"))).await?;
        if last.0 == 429 {
            break;
        }
    }
    let (status, problem) = last;
    assert_eq!((status, problem["type"].as_str()), (429, Some("too-many-requests")), "{problem}");
    assert!(problem["retry_after_s"].as_u64().is_some_and(|seconds| (1..=60).contains(&seconds)), "{problem}");
    assert_eq!(node.ask(&scene.other_key, QUERY).await?.0, 200);

    // Live connections, too.
    let ours = node.open(&scene.other_key, "/v1/live?metric=revenue", None).await?;
    assert_eq!(ours.status(), 200);
    let second = node.open(&scene.other_key, "/v1/live?metric=revenue", None).await?;
    assert_eq!(second.status(), 200, "the others have as many as before");
    Ok(())
}

#[tokio::test]
async fn places_for_live_clients_are_given_back() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let quota = Quota { live_clients_max: Some(1), ..Quota::default() };
    let operator = scene.accounts()?;
    operator.prepare().await?;
    operator.set_quota(&scene.tenant.parse()?, quota, &Actor::Operator).await?;
    until("the quota", Duration::from_secs(20), async || {
        Ok(node.ask(&scene.read_key, "/v1/quotas").await?.1["live_clients"]["max"] == 1)
    })
    .await?;
    let path = "/v1/live?metric=revenue&from=2026-03-07&to=2026-03-10&grain=1d";
    let first = node.open(&scene.read_key, path, None).await?;
    assert_eq!(first.status(), 200);
    assert_eq!(node.ask(&scene.read_key, path).await?.0, 429);
    assert_eq!(node.open(&scene.other_key, path, None).await?.status(), 200);
    drop(first);
    until("the place", Duration::from_secs(10), async || {
        Ok(node.open(&scene.read_key, path, None).await?.status() == 200)
    })
    .await
}

const NOISY_CLIENTS: usize = 60;
const QUIET_QUESTIONS: usize = 30;
/// What a question about a few events may take beside somebody who floods the node, on a machine that does much else.
const QUIET_MAX: Duration = Duration::from_secs(8);

impl Scene {
    /// Single events of a tenant on the third day, of as many users, each with two.
    async fn events(&self, tenant: &str, users: u32) -> Result<()> {
        self.sql(&format!(
            "INSERT INTO raw_events_stored (tenant, name, occurred_at, received_at, log_time, event_id, event_key, user_id, \
             currency, properties, source, topic, partition, offset) \
             SELECT '{tenant}', if(number % 2 = 0, 'view', 'purchase'), \
             toDateTime64('{}', 6, 'UTC') + toIntervalMillisecond(number % 80000000) AS at, at, now64(3), \
             toString(number), number, toString(intDiv(number, 2)), '', \
             map('page', toString(number % 50), 'session', toString(number % 70000)), 'native', 'events', 0, number \
             FROM numbers({})",
            THIRD.0,
            u64::from(users) * 2
        ))
        .await
    }
}

/// A client that asks for what takes long, one thing after the other, each of them never asked before.
async fn flood(
    base: String,
    key: String,
    http: reqwest::Client,
    number: usize,
    refused: Arc<AtomicUsize>,
) -> Result<()> {
    for round in 0.. {
        let unlike = number * 1_000_000 + round;
        let request = match unlike % 3 {
            0 => {
                let steps = json!([{ "event": "view" }, { "event": "purchase" }]);
                let funnel =
                    json!({ "steps": steps, "within_s": unlike + 1, "from": "2026-03-09", "to": "2026-03-10" });
                http.post(format!("{base}/v1/funnels")).json(&funnel)
            }
            1 => http.get(format!(
                "{base}/v1/query?metric=purchases&grain=1d&from=2026-03-09&to=2026-03-10&by=session&not=page:{unlike}"
            )),
            _ => http.get(format!(
                "{base}/v1/query?metric=revenue&grain=1d&from=2026-03-07&to=2026-03-10&not=department:{unlike}"
            )),
        };
        let answer = request.bearer_auth(&key).send().await?;
        if answer.status() == 429 {
            let wait = answer.headers().get("retry-after").and_then(|after| after.to_str().ok()?.parse::<u64>().ok());
            ensure!(wait.is_some_and(|seconds| (1..=60).contains(&seconds)), "{:?}", answer.headers());
            refused.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_floods_the_node_with_single_events_leaves_room_for_others() -> Result<()> {
    let scene = Scene::new().await?;
    let other = scene.catalog.tenants[1].id.to_string();
    scene.events(&scene.tenant, 700_000).await?;
    scene.events(&other, 500).await?;
    let tuning =
        Tuning { queries_per_second_max: 100_000, waiting_max: 8, rows_per_minute_max: u64::MAX, ..Tuning::default() };
    let node = scene.serve_with(&scene.clickhouse, &scene.redis, tuning).await?;
    let refused = Arc::<AtomicUsize>::default();
    let clients: Vec<_> = (0..NOISY_CLIENTS)
        .map(|number| {
            let (base, key) = (node.url.clone(), scene.read_key.clone());
            tokio::spawn(flood(base, key, node.http.clone(), number, refused.clone()))
        })
        .collect();
    until("the noise", Duration::from_secs(30), async || Ok(refused.load(Ordering::Relaxed) > 0)).await?;
    let mut took = Vec::new();
    for number in 0..QUIET_QUESTIONS {
        let began = Instant::now();
        let (status, answer) = match number % 3 {
            0 => {
                let steps = json!([{ "event": "view" }, { "event": "purchase" }]);
                let funnel =
                    json!({ "steps": steps, "within_s": number + 1, "from": "2026-03-09", "to": "2026-03-10" });
                node.post_to(&scene.other_key, "/v1/funnels", &funnel).await?
            }
            1 => {
                let path = "/v1/query?metric=purchases&grain=1d&from=2026-03-09&to=2026-03-10&by=page";
                node.ask(&scene.other_key, &format!("{path}&not=page:x{number}")).await?
            }
            _ => node.ask(&scene.other_key, &format!("{QUERY}&not=department:x{number}")).await?,
        };
        ensure!(status == 200, "question {number} of the quiet one: {status} {answer}");
        took.push(began.elapsed());
    }
    took.sort_unstable();
    let slowest = took.last().copied().unwrap_or_default();
    ensure!(slowest < QUIET_MAX, "of {QUIET_QUESTIONS} questions of the quiet one the slowest took {slowest:?}");
    for client in clients {
        ensure!(!client.is_finished(), "{:?}", client.await);
        client.abort();
    }
    Ok(())
}

#[tokio::test]
async fn a_result_is_bounded_in_bytes() -> Result<()> {
    let scene = Scene::new().await?;
    let (tenant, (start, end), state) = (&scene.tenant, THIRD, hex(&sketch(0..5_000).to_clickhouse()));
    scene
        .sql(&format!(
            "INSERT INTO speed_cells_raw VALUES ('{tenant}', 'department', '1d', '{start}', '{end}', 'purchase', \
             ['DELI'], 0, 9, 5000, map('USD', 100), unhex('{state}'))"
        ))
        .await?;
    let narrow = Tuning { result_bytes_max: 8_000, ..Tuning::default() };
    let node = scene.serve_with(&scene.clickhouse, &scene.redis, narrow).await?;
    assert_eq!(node.ask(&scene.read_key, QUERY).await?.0, 200, "few rows without sketches");
    let users = QUERY.replace("revenue", "households");
    let (status, problem) = node.ask(&scene.read_key, &users).await?;
    assert_eq!((status, problem["type"].as_str()), (422, Some("not-answerable")), "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("shorter range")), "{problem}");
    let node = scene.serve_with(&scene.clickhouse, &scene.redis, Tuning::default()).await?;
    assert_eq!(node.ask(&scene.read_key, &users).await?.0, 200);
    Ok(())
}

#[tokio::test]
async fn a_live_query_is_charged_also_after_the_quota_has_changed() -> Result<()> {
    let scene = Scene::new().await?;
    let tuning = Tuning {
        live_interval: Duration::from_millis(50),
        live_refresh: Duration::from_millis(100),
        standing_interval: Duration::ZERO,
        ..Tuning::default()
    };
    let node = scene.serve_with(&scene.clickhouse, &scene.redis, tuning).await?;
    let path = "/v1/live?metric=revenue&from=2026-03-07&to=2026-03-10&grain=1d";
    let live = node.open(&scene.read_key, path, None).await?;
    assert_eq!(live.status(), 200);
    // So much that it can go on for a while, and so little that time pays for less than it reads.
    let quota = Quota { rows_per_minute_max: Some(600), ..Quota::default() };
    let operator = scene.accounts()?;
    operator.prepare().await?;
    operator.set_quota(&scene.tenant.parse()?, quota, &Actor::Operator).await?;
    until("what the live query reads, under the new quota", Duration::from_secs(30), async || {
        let rows = node.ask(&scene.read_key, "/v1/quotas").await?.1["rows_per_minute"].clone();
        Ok(rows["max"] == 600 && rows["used"].as_u64().is_some_and(|used| used > 100))
    })
    .await?;
    drop(live);
    Ok(())
}
