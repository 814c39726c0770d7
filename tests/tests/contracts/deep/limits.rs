//! Single events are read within limits, and of one tenant, who pays for them.

use anyhow::{Result, ensure};
use reckon_serving::Tuning;
use serde_json::json;

use super::scene::{ALL_LAKE, ALL_RAW, Scene, tuning};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_a_limit_is_refused_with_advice() -> Result<()> {
    let scene = Scene::new(0x5eed_0503, 3_000).await?;
    let (from, to) = (scene.day(3)?.0, scene.day(0)?.0);
    let question = [("metric", "revenue"), ("grain", "1d"), ("from", &from), ("to", &to), ("by", "basket")];
    let funnel =
        json!({ "steps": [{ "event": "view" }, { "event": "cart" }], "within_s": 3600, "from": from, "to": to });
    for (retention, tuning) in [
        (ALL_RAW, Tuning { raw_rows_max: 100, ..tuning() }),
        (ALL_LAKE, Tuning { lake_rows_max: 100, ..tuning() }),
        (ALL_LAKE, Tuning { lake_memory_bytes: 10_000, ..tuning() }),
    ] {
        let node = scene.serve(retention, tuning.clone()).await?;
        for (status, problem) in [node.ask(&question).await?, node.funnel(&funnel).await?] {
            ensure!(status == 422 && problem["type"] == "not-answerable", "{tuning:?}: {status} {problem}");
            ensure!(problem["detail"].to_string().contains("shorter range"), "{problem}");
        }
    }
    // With the defaults both have answers.
    for retention in [ALL_RAW, ALL_LAKE] {
        let node = scene.serve(retention, tuning()).await?;
        ensure!(node.answer(&question).await?["groups"].as_array().is_some_and(|groups| groups.len() > 100));
        ensure!(node.funnel(&funnel).await?.0 == 200);
    }
    let node =
        scene.serve(ALL_LAKE, Tuning { lake_range_max: std::time::Duration::from_secs(86_400), ..tuning() }).await?;
    ensure!(node.ask(&question).await?.0 == 422 && node.funnel(&funnel).await?.0 == 422);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_read_too_much_waits_whatever_is_asked() -> Result<()> {
    let scene = Scene::new(0x5eed_0504, 1_000).await?;
    let (from, to) = (scene.day(3)?.0, scene.day(0)?.0);
    let question = [("metric", "revenue"), ("grain", "1d"), ("from", &from), ("to", &to), ("by", "basket")];
    let funnel =
        json!({ "steps": [{ "event": "view" }, { "event": "cart" }], "within_s": 3600, "from": from, "to": to });
    for retention in [ALL_RAW, ALL_LAKE] {
        let node = scene.serve(retention, Tuning { rows_per_minute_max: 100, ..tuning() }).await?;
        let rejected = async || {
            let request = scene.world.http.get(format!("{}/v1/rejected", node.url)).bearer_auth(&scene.world.read_key);
            anyhow::Ok(request.send().await?)
        };
        ensure!(rejected().await?.status() == 200);
        // The funnel itself is what has read too much.
        ensure!(node.funnel(&funnel).await?.0 == 200);
        let within_s = json!({ "within_s": 60, "steps": funnel["steps"], "from": from, "to": to });
        for (status, problem) in [node.funnel(&within_s).await?, node.ask(&question).await?] {
            ensure!(status == 429 && problem["retry_after_s"].as_u64().is_some(), "{status} {problem}");
        }
        let refused = rejected().await?;
        ensure!(refused.status() == 429 && refused.headers().contains_key("retry-after"), "{refused:?}");
    }
    Ok(())
}
