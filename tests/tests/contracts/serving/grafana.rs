//! Grafana's JSON data source, as its plugin asks.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use reckon_serving::Tuning;
use serde_json::{Value, json};

use super::scene::{CANARY, Scene, hex, sketch};

fn panel(target: &Value) -> Value {
    json!({
        "app": "dashboard", "requestId": "Q100", "timezone": "browser", "panelId": 2, "interval": "6h",
        "range": {
            "from": "2026-03-07T05:00:00.000Z", "to": "2026-03-10T04:00:00.000Z",
            "raw": { "from": "now-3d", "to": "now" },
        },
        "intervalMs": 21_600_000, "maxDataPoints": 100, "targets": [target], "scopedVars": {}, "adhocFilters": [],
    })
}

#[tokio::test]
async fn panels_are_answered_in_lines_and_tables() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    assert_eq!(node.ask(&scene.read_key, "/v1/grafana/").await?.0, 200);
    let ask =
        async |path: &str, body: &Value| node.post_to(&scene.read_key, &format!("/v1/grafana/{path}"), body).await;

    let (_, metrics) = ask("metrics", &json!({})).await?;
    assert_eq!(metrics[0]["value"], "revenue", "{metrics}");
    let question = panel(&json!({ "target": "revenue", "refId": "A", "payload": { "by": "department" } }));
    let (status, lines) = ask("query", &question).await?;
    assert_eq!(status, 200, "{lines}");
    // Days of New York; the second has 23 hours.
    let starts = [1_772_859_600_000_i64, 1_772_946_000_000, 1_773_028_800_000];
    assert_eq!(lines[0]["target"], "GROCERY", "{lines}");
    let sum: f64 = lines[0]["datapoints"].as_array().into_iter().flatten().filter_map(|point| point[0].as_f64()).sum();
    assert!((sum - 3030.0).abs() < 0.001, "{lines}");
    let times: Vec<_> = lines[0]["datapoints"].as_array().into_iter().flatten().map(|point| &point[1]).collect();
    assert_eq!(times, starts, "{lines}");

    let question =
        panel(&json!({ "target": "revenue", "refId": "B", "payload": { "format": "table", "grain": "1d" } }));
    let (_, tables) = ask("query", &question).await?;
    let rows = json!([
        [starts[0], "1500.00", "settled", "exact", "0.00", "run-1"],
        [starts[1], "2000.00", "restated", "exact", "0.00", "run-2"],
        [starts[2], "34.00", "provisional", "exact", "0.00", null],
    ]);
    assert_eq!((&tables[0]["refId"], &tables[0]["rows"]), (&json!("B"), &rows), "{tables}");

    let (_, keys) = ask("tag-keys", &json!({})).await?;
    assert_eq!(keys, json!([{ "type": "string", "text": "department" }]));
    Ok(())
}

#[tokio::test]
async fn values_to_choose_from_are_those_of_the_last_days() -> Result<()> {
    let scene = Scene::new().await?;
    let (ours, theirs) = (scene.tenant.clone(), scene.catalog.tenants[1].id.to_string());
    for (tenant, department, days_ago, count) in
        [(&ours, "DELI", 0, 3), (&ours, "PRODUCE", 2, 8), (&ours, "LONG GONE", 30, 50), (&theirs, CANARY, 0, 9)]
    {
        scene
            .sql(&format!(
                "INSERT INTO speed_cells_raw SELECT '{tenant}', 'department', '1d', \
                 toStartOfDay(now('America/New_York') - toIntervalDay({days_ago})) AS start, \
                 toStartOfDay(now('America/New_York') - toIntervalDay({days_ago}) + toIntervalDay(1)), 'purchase', \
                 ['{department}'], 0, 9, {count}, map('USD', 100), unhex('{}')",
                hex(&sketch(0..3).to_clickhouse())
            ))
            .await?;
    }
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let ask = async |key: &str, path: &str, body: &Value| node.post_to(key, &format!("/v1/grafana/{path}"), body).await;
    let tag = json!({ "key": "department" });
    let (_, values) = ask(&scene.read_key, "tag-values", &tag).await?;
    assert_eq!(values, json!([{ "text": "PRODUCE" }, { "text": "DELI" }]));
    let wish = json!({ "payload": { "target": "department" }, "range": {} });
    let (_, values) = ask(&scene.read_key, "variable", &wish).await?;
    let named = |name: &str| json!({ "__text": name, "__value": name });
    assert_eq!(values, json!([named("PRODUCE"), named("DELI")]));
    assert_eq!(ask(&scene.other_key, "tag-values", &tag).await?.1, json!([{ "text": CANARY }]));

    // A plain list has no place to say how old it is but its headers.
    let strict = Tuning { speed_lag_max: Duration::ZERO, ..Tuning::default() };
    let behind = scene.serve_with(&scene.clickhouse, &scene.redis, strict).await?;
    for (path, body) in [("tag-values", &tag), ("variable", &wish)] {
        let request = behind.http.post(format!("{}/v1/grafana/{path}", behind.url)).bearer_auth(&scene.read_key);
        let answer = request.json(body).send().await?.error_for_status()?;
        let stale = answer.headers().get("reckon-stale").with_context(|| path.to_owned())?.to_str()?;
        assert!(stale.starts_with("speed_behind; age_ms=") && answer.headers().contains_key("age"), "{path}: {stale}");
    }
    Ok(())
}

#[tokio::test]
async fn a_panel_that_many_look_at_is_computed_once_and_costs_what_it_asks() -> Result<()> {
    let scene = Scene::new().await?;
    let kept = Tuning { cache_moving: Duration::from_secs(60), queries_per_second_max: 20, ..Tuning::default() };
    let node = scene.serve_with(&scene.clickhouse, &scene.redis, kept).await?;
    // Every viewer's browser has another `now`, a little later each time.
    let ask = async |targets: usize, later_ms: i64| {
        let mut panel = panel(&json!({ "target": "revenue", "refId": "A", "payload": { "grain": "1d" } }));
        panel["targets"] = json!(vec![panel["targets"][0].clone(); targets]);
        let to = jiff::Timestamp::now() + jiff::SignedDuration::from_millis(later_ms);
        let from = to - jiff::SignedDuration::from_hours(72);
        panel["range"] =
            json!({ "from": from.to_string(), "to": to.to_string(), "raw": { "from": "now-3d", "to": "now" } });
        let request = node.http.post(format!("{}/v1/grafana/query", node.url)).bearer_auth(&scene.read_key);
        anyhow::Ok(request.json(&panel).send().await?)
    };
    let age_ms = async |answer: reqwest::Response| -> Result<i64> {
        let frames: Value = answer.error_for_status()?.json().await?;
        frames[0]["reckon"]["age_ms"].as_i64().with_context(|| frames.to_string())
    };
    age_ms(ask(1, 0).await?).await?;
    let first = Instant::now();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let between_ms = i64::try_from(first.elapsed().as_millis())?;
    let again = ask(1, 7).await?;
    assert!(again.headers().contains_key("age"));
    assert!(age_ms(again).await? >= between_ms, "it was kept");
    // Twenty questions are all that a second has: there is no room for a second panel of so many.
    let (first, second) = tokio::try_join!(ask(20, 9), ask(20, 11))?;
    let statuses = [first.status().as_u16(), second.status().as_u16()];
    assert!(statuses.contains(&429), "{statuses:?}");
    Ok(())
}

#[tokio::test]
async fn grafana_is_told_what_is_wrong_and_nothing_of_others() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let revenue = panel(&json!({ "target": "revenue", "payload": { "by": "department" } }));
    for (key, body, status) in [
        ("", &revenue, 401),
        (scene.write_key.as_str(), &revenue, 403),
        (scene.read_key.as_str(), &panel(&json!({ "target": "unknown" })), 404),
        (scene.read_key.as_str(), &panel(&json!({ "target": "revenue", "payload": { "grain": "1w" } })), 400),
        (scene.read_key.as_str(), &json!({ "targets": [] }), 400),
    ] {
        let (found, problem) = node.post_to(key, "/v1/grafana/query", body).await?;
        assert_eq!((found, problem["status"].as_u64()), (status, Some(u64::from(status))), "{body} {problem}");
    }
    let (_, ours) = node.post_to(&scene.read_key, "/v1/grafana/query", &revenue).await?;
    assert!(!ours.to_string().contains(CANARY));
    let (_, theirs) = node.post_to(&scene.other_key, "/v1/grafana/query", &revenue).await?;
    assert!(theirs.to_string().contains(CANARY), "{theirs}");
    Ok(())
}
