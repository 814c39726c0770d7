//! Answers that are kept: by whom, for how long, and what they say about themselves.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use reckon_schemas::stores;
use reckon_serving::Tuning;
use reckon_tests::proxy::{Direction, Proxy, Way};
use reckon_tests::{Process, Stack, World};
use serde_json::{Value, json};

use super::scene::{CANARY, FIRST, Node, SECOND, Scene, THIRD};

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

/// How the answers of a node came about, as it tells at its private address.
async fn outcomes(http: &reqwest::Client, metrics: SocketAddr) -> Result<BTreeMap<String, u64>> {
    let text = http.get(format!("http://{metrics}/metrics")).send().await?.error_for_status()?.text().await?;
    let outcome = |line: &str| {
        let (outcome, count) = line.strip_prefix("reckon_serving_answers_total{outcome=\"")?.split_once("\"} ")?;
        Some((outcome.to_owned(), count.parse().ok()?))
    };
    Ok(text.lines().filter_map(outcome).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_on_two_nodes_make_one_computation_and_metrics_tell() -> Result<()> {
    // On a machine that does much else one computation may take long.
    let tuning = "[serve]\ncache_moving = \"10m\"\ncache_lock = \"60s\"\nqueries_per_second_max = 100000\n";
    let world = World::with_tuning(&Stack::shared()?, tuning)?;
    let free = || anyhow::Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?);
    let mut nodes = Vec::new();
    for name in ["one", "other"] {
        let (serve, metrics) = (free()?, free()?);
        let variables = [("RECKON_LISTEN__SERVE", serve), ("RECKON_LISTEN__METRICS", metrics)];
        let variables = variables.map(|(name, address)| (name.to_owned(), address.to_string()));
        let log = world.store().join(format!("{name}.log"));
        let process = Process::start_in(&world.config(), &["serve"], log, &variables)?;
        reckon_tests::until("a node", Duration::from_secs(30), || world.is_ready(serve.port())).await?;
        nodes.push((process, serve, metrics));
    }
    let ask = async |node: usize, question: &str| -> Result<Value> {
        let url = format!("http://{}/v1/query?metric=purchases&grain=1d&{question}", nodes[node].1);
        Ok(world.http.get(url).bearer_auth(&world.read_key).send().await?.error_for_status()?.json().await?)
    };
    let told = async || -> Result<BTreeMap<String, u64>> {
        let mut sum = BTreeMap::new();
        for (_, _, metrics) in &nodes {
            outcomes(&world.http, *metrics)
                .await?
                .into_iter()
                .for_each(|(name, count)| *sum.entry(name).or_default() += count);
        }
        Ok(sum)
    };
    let question = "from=2026-03-07&to=2026-03-10&by=department";
    let answers = futures::future::try_join_all((0..500).map(|number| ask(number % 2, question))).await?;
    assert!(answers.iter().all(|answer| answer["computed_at"] == answers[0]["computed_at"]));
    let first = told().await?;
    let of = |told: &BTreeMap<String, u64>, name: &str| told.get(name).copied().unwrap_or(0);
    assert_eq!((of(&first, "miss"), of(&first, "shared_hit")), (1, 1), "{first:?}");
    assert!(of(&first, "coalesced") > 0, "{first:?}");
    // The other node's answer is waited for by one request, which all others of that node wait for.
    assert_eq!(of(&first, "coalesced") + of(&first, "hit"), 498, "{first:?}");

    ask(0, question).await?;
    let hit = told().await?;
    assert_eq!((of(&hit, "hit"), of(&hit, "miss")), (of(&first, "hit") + 1, 1), "{hit:?}");
    ask(0, &format!("{question}&limit=1")).await?;
    let missed = told().await?;
    assert_eq!((of(&missed, "miss"), of(&missed, "shared_hit")), (2, 1), "{missed:?}");
    ask(1, &format!("{question}&limit=1")).await?;
    let shared = told().await?;
    assert_eq!((of(&shared, "miss"), of(&shared, "shared_hit")), (2, 2), "{shared:?}");
    Ok(())
}

#[tokio::test]
async fn a_kept_answer_follows_settlements_and_the_books_at_once() -> Result<()> {
    let scene = Scene::new().await?;
    let long = Duration::from_secs(600);
    let tuning = Tuning { cache_moving: long, cache_recent: long, cache_history: long, ..Tuning::default() };
    let node = scene.serve_with(&scene.clickhouse, &scene.redis, tuning).await?;
    let tenant = &scene.tenant;
    let soon = async |what: &str, is_there: &dyn Fn(&Value) -> bool| {
        let asks = async || Ok(is_there(&good(&scene, &node, MIXED).await?));
        // Whatever is kept for ten minutes, the standing is looked up every second.
        reckon_tests::until(what, Duration::from_secs(15), asks).await
    };
    let provisional = good(&scene, &node, MIXED).await?;
    assert_eq!(
        (&provisional["total"]["value"], &provisional["total"]["state"]),
        (&json!("3534.00"), &json!("provisional"))
    );
    tokio::time::sleep(STANDING).await;
    assert_eq!(good(&scene, &node, MIXED).await?["computed_at"], provisional["computed_at"], "it is kept");

    let settle = async |day: &str, window: (&str, &str), run: &str, state: &str, generation: u32| {
        let (start, end) = window;
        scene
            .sql(&format!(
                "INSERT INTO settlements (tenant, day, run_id, state, window_start, window_end, deliveries, events, \
                 lake_version, content_hash, residual_cells, settled_at, generation) VALUES ('{tenant}', '{day}', '{run}', \
                 '{state}', '{start}', '{end}', 101, 100, 7, 'hash', 0, now64(6), {generation})"
            ))
            .await
    };
    let book = async |action: &str, generation: u32| {
        scene
            .sql(&format!(
                "INSERT INTO periods (tenant, period, generation, action, at, first_day, last_day) VALUES \
                 ('{tenant}', '2026-03', {generation}, '{action}', now64(6), '2026-03-07', '2026-03-08')"
            ))
            .await
    };
    // The last day is settled, with another number.
    scene.settled_cell(("2026-03-09", THIRD), "run-9", Some("DRUG"), 100, 0..10).await?;
    scene.settled_cell(("2026-03-09", THIRD), "run-9", None, 100, 0..10).await?;
    settle("2026-03-09", THIRD, "run-9", "settled", 0).await?;
    soon("the settled number", &|answer| {
        answer["total"]["value"] == "3501.00" && answer["total"]["state"] != "provisional"
    })
    .await?;

    // The days before are closed, get an adjustment, and are opened again.
    settle("2026-03-07", FIRST, "run-1", "closed", 1).await?;
    settle("2026-03-08", SECOND, "run-2", "closed", 1).await?;
    book("closed", 1).await?;
    let is_closed = |answer: &Value| {
        answer["coverage"].as_array().is_some_and(|all| all.iter().any(|part| part["state"] == "closed"))
    };
    soon("the close", &is_closed).await?;
    assert_eq!(good(&scene, &node, MIXED).await?["adjustments"], json!([]));
    scene
        .sql(&format!(
            "INSERT INTO adjustments_stored (tenant, period, generation, event_key, event_id, rollup, event, dimensions, \
             day, occurred_at, count, money, user_key, posted_day, posted_at, run_id) VALUES ('{tenant}', '2026-03', 1, 7, \
             'late', 'total', 'purchase', [], '2026-03-08', '2026-03-08 12:00:00', 1, map('USD', 25), 7, '2026-03-09', \
             now64(6), 'run-10')"
        ))
        .await?;
    book("adjusted", 1).await?;
    soon("the adjustment", &|answer| answer["adjustments"][0]["amount"] == "0.25").await?;
    settle("2026-03-07", FIRST, "run-1", "restated", 2).await?;
    settle("2026-03-08", SECOND, "run-2", "restated", 2).await?;
    book("reopened", 2).await?;
    soon("the reopening", &|answer| answer["adjustments"] == json!([]) && !is_closed(answer)).await
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
