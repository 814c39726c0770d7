//! A tenant that asks for too much waits for itself; the others do not notice.

use std::time::Duration;

use anyhow::Result;
use reckon_serving::accounts::{Actor, Quota};
use reckon_tests::until;

use super::scene::Scene;

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
