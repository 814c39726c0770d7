//! Answers that are kept: by whom, for how long, and what they say about themselves.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use reckon_schemas::stores;
use reckon_serving::Tuning;
use reckon_tests::proxy::{Direction, Proxy, Way};
use serde_json::{Value, json};

use super::scene::{CANARY, Node, Scene};

const SETTLED: &str = "/v1/query?metric=revenue&from=2026-03-07&to=2026-03-09&grain=1d";
const MIXED: &str = "/v1/query?metric=revenue&from=2026-03-07&to=2026-03-10&grain=1d";

/// After so long a node knows what is settled now.
const STANDING: Duration = Duration::from_millis(1_100);

/// Everything is kept for long, and looked up hardly ever.
fn keeping() -> Tuning {
    Tuning {
        cache_moving: Duration::from_secs(60),
        standing_interval: Duration::from_secs(600),
        queries_per_second_max: 100_000,
        ..Tuning::default()
    }
}

/// A node that reaches ClickHouse through a proxy of its own.
async fn proxied(scene: &Scene, tuning: Tuning) -> Result<(Proxy, Node)> {
    let (proxy, url) = Proxy::before(&scene.clickhouse.url).await?;
    let clickhouse = stores::ClickHouse { url, ..scene.clickhouse.clone() };
    let node = scene.serve_with(&clickhouse, &scene.redis, tuning).await?;
    Ok((proxy, node))
}

async fn good(scene: &Scene, node: &Node, path: &str) -> Result<Value> {
    let (status, answer) = node.ask(&scene.read_key, path).await?;
    anyhow::ensure!(status == 200, "{status} {answer:#}");
    Ok(answer)
}

#[tokio::test]
async fn an_answer_is_kept_with_its_age_until_it_can_have_moved() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve_with(&scene.clickhouse, &scene.redis, Tuning::default()).await?;
    let first = good(&scene, &node, MIXED).await?;
    tokio::time::sleep(Duration::from_millis(60)).await;
    let again = good(&scene, &node, MIXED).await?;
    assert_eq!(first["computed_at"], again["computed_at"]);
    assert!(again["age_ms"].as_i64().context("an age")? >= 60, "{again:#}");
    assert_eq!(first["total"], again["total"]);
    // Its last day is not over, so nobody sees it for long.
    scene.flush_to_redis(6, 550).await?;
    tokio::time::sleep(Duration::from_millis(1_250)).await;
    let moved = good(&scene, &node, MIXED).await?;
    assert_eq!(moved["total"]["value"], "3535.50", "{moved:#}");

    // A range that is settled is kept for as long as its settlement.
    let settled = good(&scene, &node, SETTLED).await?;
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    let again = good(&scene, &node, SETTLED).await?;
    assert_eq!((&settled["computed_at"], &settled["total"]), (&again["computed_at"], &again["total"]));
    let tenant = &scene.tenant;
    let settle = async |day: &str, run: &str, start: &str, end: &str| {
        scene
            .sql(&format!(
                "INSERT INTO settlements (tenant, day, run_id, state, window_start, window_end, deliveries, events, \
                 lake_version, content_hash, residual_cells, settled_at) VALUES ('{tenant}', '{day}', '{run}', \
                 'restated', '{start}', '{end}', 0, 0, 8, 'hash', 0, '2026-03-11 06:00:00')"
            ))
            .await
    };
    // A settlement of another day is none of its business, but for the horizon, which is not kept.
    settle("2026-03-09", "run-9", "2026-03-09 04:00:00", "2026-03-10 04:00:00").await?;
    tokio::time::sleep(STANDING).await;
    let again = good(&scene, &node, SETTLED).await?;
    assert_eq!(settled["computed_at"], again["computed_at"]);
    assert_eq!(again["horizon"], "2026-03-10T04:00:00Z");
    settle("2026-03-08", "run-10", "2026-03-08 05:00:00", "2026-03-09 04:00:00").await?;
    tokio::time::sleep(STANDING).await;
    let restated = good(&scene, &node, SETTLED).await?;
    assert_ne!(settled["computed_at"], restated["computed_at"]);
    assert_eq!((&restated["total"]["value"], &restated["total"]["state"]), (&json!("1500.00"), &json!("restated")));
    Ok(())
}

#[tokio::test]
async fn a_kept_answer_is_nobody_elses() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve_with(&scene.clickhouse, &scene.redis, keeping()).await?;
    let path = format!("{MIXED}&by=department");
    let (_, theirs) = node.ask(&scene.other_key, &path).await?;
    assert!(theirs.to_string().contains(CANARY), "{theirs:#}");
    let ours = good(&scene, &node, &path).await?;
    let other = scene.serve_with(&scene.clickhouse, &scene.redis, keeping()).await?;
    let shared = good(&scene, &other, &path).await?;
    for answer in [&ours, &shared] {
        assert!(!answer.to_string().contains(CANARY), "{answer:#}");
        assert_eq!(answer["total"]["value"], "3534.00");
    }
    assert_eq!(ours["computed_at"], shared["computed_at"]);
    Ok(())
}

#[tokio::test]
async fn many_requests_on_two_nodes_make_one_computation() -> Result<()> {
    let scene = Scene::new().await?;
    let ((proxy, one), (other_proxy, other)) = (proxied(&scene, keeping()).await?, proxied(&scene, keeping()).await?);
    let asked = || proxy.forwarded(Direction::Requests) + other_proxy.forwarded(Direction::Requests);
    // What is settled is known to both by now.
    good(&scene, &one, SETTLED).await?;
    good(&scene, &other, SETTLED).await?;
    let before = asked();
    good(&scene, &one, &format!("{MIXED}&by=department")).await?;
    let alone = asked() - before;
    assert!(alone > 0, "the proxy sees the statements");
    let before = asked();
    let path = format!("{MIXED}&by=department&filter=department:DRUG");
    let asking = (0..250).flat_map(|_| [&one, &other]).map(|node| good(&scene, node, &path));
    let answers = futures::future::try_join_all(asking).await?;
    assert!(answers.iter().all(|answer| answer["total"]["value"] == "504.00"));
    assert!(answers.iter().all(|answer| answer["computed_at"] == answers[0]["computed_at"]));
    // A statement may come in two pieces.
    assert!(asked() - before <= 2 * alone, "500 requests, one computation");
    Ok(())
}

#[tokio::test]
async fn a_node_that_hangs_blocks_others_for_no_longer_than_the_lock_and_overwrites_nothing() -> Result<()> {
    let scene = Scene::new().await?;
    let tuning = || Tuning { cache_lock: Duration::from_secs(1), ..keeping() };
    let ((proxy, hanging), (_other_proxy, other)) =
        (proxied(&scene, tuning()).await?, proxied(&scene, tuning()).await?);
    good(&scene, &hanging, SETTLED).await?;
    proxy.set(Direction::Answers, Way::Held);
    let late = good(&scene, &hanging, MIXED);
    let others = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let began = Instant::now();
        let answer = good(&scene, &other, MIXED).await?;
        let waited = began.elapsed();
        assert!(waited > Duration::from_millis(200) && waited < Duration::from_secs(3), "{waited:?}");
        proxy.set(Direction::Answers, Way::Open);
        anyhow::Ok(answer)
    };
    let (late, answer) = tokio::try_join!(late, others)?;
    assert_ne!(late["computed_at"], answer["computed_at"]);
    let third = scene.serve_with(&scene.clickhouse, &scene.redis, tuning()).await?;
    assert_eq!(good(&scene, &third, MIXED).await?["computed_at"], answer["computed_at"]);
    Ok(())
}

#[tokio::test]
async fn without_redis_each_node_is_on_its_own() -> Result<()> {
    let scene = Scene::new().await?;
    let nowhere = stores::Redis { url: "redis://127.0.0.1:9/".to_owned() };
    let node = scene.serve_with(&scene.clickhouse, &nowhere, Tuning::default()).await?;
    let first = good(&scene, &node, SETTLED).await?;
    assert_eq!(good(&scene, &node, SETTLED).await?["computed_at"], first["computed_at"]);
    let other = scene.serve_with(&scene.clickhouse, &nowhere, Tuning::default()).await?;
    assert_ne!(good(&scene, &other, SETTLED).await?["computed_at"], first["computed_at"]);
    Ok(())
}
