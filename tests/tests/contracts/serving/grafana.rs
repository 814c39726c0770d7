//! Grafana's JSON data source, as its plugin asks.

use anyhow::Result;
use serde_json::{Value, json};

use super::scene::{CANARY, Scene};

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
    let (status, values) = ask("tag-values", &json!({ "key": "department" })).await?;
    assert_eq!((status, values.is_array()), (200, true), "{values}");
    let (status, values) = ask("variable", &json!({ "payload": { "target": "department" }, "range": {} })).await?;
    assert_eq!((status, values.is_array()), (200, true), "{values}");
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
