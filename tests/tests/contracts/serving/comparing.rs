//! Two periods, two segments.

use std::time::Duration;

use anyhow::{Context, Result};
use reckon_serving::Tuning;
use serde_json::{Value, json};

use super::asking::values;
use super::scene::{Node, SECOND, Scene};

async fn ask(scene: &Scene, node: &Node, rest: &str) -> Result<Value> {
    let (status, answer) = node.ask(&scene.read_key, &format!("/v1/query?grain=1d&{rest}")).await?;
    anyhow::ensure!(status == 200, "{answer}");
    Ok(answer)
}

#[tokio::test]
async fn a_period_is_compared_with_the_one_before() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    // A day of 23 hours with the usual one before it.
    let answer = ask(&scene, &node, "metric=revenue&from=2026-03-08&to=2026-03-09&compare=previous").await?;
    let comparison = &answer["comparison"];
    assert_eq!(
        (&answer["total"]["value"], &comparison["base"]["total"]["value"]),
        (&json!("2000.00"), &json!("1500.00"))
    );
    assert_eq!(
        (&comparison["base"]["from"], &comparison["base"]["to"]),
        (&json!("2026-03-07T05:00:00Z"), &json!("2026-03-08T05:00:00Z"))
    );
    let (difference, ratio) = (&comparison["total"]["difference"], &comparison["total"]["ratio"]);
    assert_eq!(
        (&difference["value"], &difference["method"], &difference["error_bound"]),
        (&json!("500.00"), &json!("exact"), &json!("0.00"))
    );
    assert_eq!((&ratio["value"], &ratio["error_bound"]), (&json!("1.333333"), &json!("0.000001")));
    // As certain as the less certain side; of two runs.
    assert_eq!((&difference["state"], &difference["run_id"]), (&json!("restated"), &Value::Null));
    assert_eq!((&comparison["kind"], &comparison["same_state"]), (&json!("period"), &json!(false)));
    let point = &comparison["groups"][0]["points"][0];
    assert_eq!(
        (&point["start"], &point["base_start"]),
        (&json!("2026-03-08T05:00:00Z"), &json!("2026-03-07T05:00:00Z"))
    );
    assert_eq!(point["difference"]["value"], "500.00");
    assert_eq!(answer["notes"], json!([]));

    // Provisional with restated; estimates with their bounds.
    let answer = ask(&scene, &node, "metric=revenue&from=2026-03-09&to=2026-03-10&compare=1d").await?;
    assert_eq!(answer["comparison"]["total"]["difference"]["value"], "-1966.00");
    assert_eq!(answer["comparison"]["total"]["difference"]["state"], "provisional");
    let answer = ask(&scene, &node, "metric=households&from=2026-03-09&to=2026-03-10&compare=1d").await?;
    let difference = &answer["comparison"]["total"]["difference"];
    assert_eq!((&difference["value"], &difference["method"]), (&json!(-85), &json!("hll")));
    // Nothing before: a difference, and no ratio.
    let answer = ask(&scene, &node, "metric=revenue&from=2026-03-08&to=2026-03-09&compare=1mo").await?;
    assert_eq!(answer["comparison"]["base"]["from"], "2026-02-08T05:00:00Z");
    assert_eq!(
        (&answer["comparison"]["total"]["difference"]["value"], &answer["comparison"]["total"]["ratio"]),
        (&json!("2000.00"), &Value::Null)
    );
    for (rest, status) in
        [("metric=revenue&compare=soon", 400), ("metric=revenue&from=2026-03-30&to=2026-03-31&compare=1mo", 422)]
    {
        assert_eq!(node.ask(&scene.read_key, &format!("/v1/query?{rest}")).await?.0, status, "{rest}");
    }
    assert_eq!(node.ask(&scene.read_key, "/v1/live?metric=revenue&compare=previous").await?.0, 400);
    Ok(())
}

/// The speed layer is behind all the time.
#[tokio::test]
async fn each_side_says_that_it_is_stale() -> Result<()> {
    let scene = Scene::new().await?;
    let strict = Tuning { speed_lag_max: Duration::ZERO, cache_moving: Duration::from_secs(600), ..Tuning::default() };
    let node = scene.serve_with(&scene.clickhouse, &scene.redis, strict).await?;
    let behind = json!("speed_behind");
    for (day, sides) in [
        ("from=2026-03-08&to=2026-03-09", [&Value::Null, &Value::Null]),
        ("from=2026-03-09&to=2026-03-10", [&behind, &Value::Null]),
        ("from=2026-03-10&to=2026-03-11", [&behind, &behind]),
    ] {
        // Once as it is computed, once as it is kept.
        for _ in 0..2 {
            let answer = ask(&scene, &node, &format!("metric=revenue&{day}&compare=previous")).await?;
            let base = &answer["comparison"]["base"];
            assert_eq!([&answer["stale"]["reason"], &base["stale"]["reason"]], sides, "{answer:#}");
            let moment = |side: &Value| (side["speed_lag_ms"].clone(), side["age_ms"].clone());
            assert_eq!(moment(&answer), moment(base), "both are of one moment: {answer:#}");
        }
    }
    let segment = |value: &str| json!({"name": value, "filters": [{"dimension": "department", "in": [value]}]});
    let segments = json!({"metric": "revenue", "grain": "1d", "from": "2026-03-09", "to": "2026-03-10",
        "segments": [segment("GROCERY"), segment("DRUG")]});
    let (_, answer) = node.post(&scene.read_key, &segments).await?;
    assert_eq!(answer["comparison"]["base"]["stale"]["reason"], "speed_behind", "{answer:#}");
    Ok(())
}

#[tokio::test]
async fn groups_are_compared_with_themselves() -> Result<()> {
    let scene = Scene::new().await?;
    scene.settled_cell(("2026-03-08", SECOND), "run-2", Some("DELI"), 300, 0..3).await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let delta = |answer: &Value, department: &str| -> Result<Value> {
        let groups = answer["comparison"]["groups"].as_array().context("groups")?;
        let group = groups.iter().find(|group| group["dimensions"]["department"] == department);
        Ok(group.with_context(|| format!("{department} in {answer:#}"))?["total"].clone())
    };
    let path = "metric=revenue&by=department&from=2026-03-08&to=2026-03-09&compare=previous";
    let answer = ask(&scene, &node, path).await?;
    assert_eq!(delta(&answer, "GROCERY")?["difference"]["value"], "1000.00");
    // New on the one side, gone from the other.
    assert_eq!(
        (&delta(&answer, "DELI")?["difference"]["value"], &delta(&answer, "DELI")?["ratio"]),
        (&json!("3.00"), &Value::Null)
    );
    assert_eq!(
        (&delta(&answer, "DRUG")?["difference"]["value"], &delta(&answer, "DRUG")?["ratio"]["value"]),
        (&json!("-500.00"), &json!("0"))
    );
    // The base names the groups that are named, whatever is largest there, and the rest is compared with the rest.
    let answer = ask(&scene, &node, &format!("{path}&limit=1")).await?;
    assert_eq!(values(&answer["comparison"]["base"]["groups"], "/dimensions/department"), ["GROCERY"]);
    assert_eq!(answer["comparison"]["other"]["total"]["difference"]["value"], "-497.00", "{answer:#}");
    Ok(())
}

#[tokio::test]
async fn two_segments_stand_side_by_side() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let segment =
        |name: &str, value: &str| json!({"name": name, "filters": [{"dimension": "department", "in": [value]}]});
    let question = |metric: &str| {
        json!({"metric": metric, "grain": "1d", "from": "2026-03-07", "to": "2026-03-10",
        "segments": [segment("food", "GROCERY"), segment("pharmacy", "DRUG")]})
    };
    let (status, answer) = node.post(&scene.read_key, &question("revenue")).await?;
    assert_eq!(status, 200, "{answer}");
    let base = &answer["comparison"]["base"];
    assert_eq!((&answer["segment"], &base["segment"]), (&json!("food"), &json!("pharmacy")));
    assert_eq!((&answer["total"]["value"], &base["total"]["value"]), (&json!("3030.00"), &json!("504.00")));
    assert_eq!(answer["comparison"]["total"]["difference"]["value"], "2526.00");
    // The second day had no DRUG: a difference to zero, seen by the run that counted the day, and no ratio.
    let points = &answer["comparison"]["groups"][0]["points"];
    assert_eq!(values(points, "/difference/value"), ["500.00", "2000.00", "26.00"]);
    assert_eq!(values(points, "/difference/state"), ["settled", "restated", "provisional"]);
    assert_eq!(values(points, "/ratio/value"), [json!("2"), Value::Null, json!("7.5")]);
    let (_, users) = node.post(&scene.read_key, &question("households")).await?;
    assert_eq!((&users["total"]["value"], &users["comparison"]["base"]["total"]["value"]), (&json!(150), &json!(65)));
    Ok(())
}

#[tokio::test]
async fn a_base_of_cut_windows_is_refused() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    for (grain, back, status) in [
        ("1d", "36h", 422),
        ("1d", "23h", 422),
        ("1d", "24h", 200),
        ("1h", "30m", 422),
        ("1h", "36h", 200),
        ("1h", "previous", 200),
    ] {
        let path = format!("/v1/query?metric=revenue&grain={grain}&compare={back}&from=2026-03-07&to=2026-03-08");
        let (found, answer) = node.ask(&scene.read_key, &path).await?;
        assert_eq!(found, status, "{grain} {back}: {answer}");
        if status == 422 {
            assert_eq!(answer["parameter"], "compare");
            assert!(answer["detail"].as_str().is_some_and(|detail| detail.contains("whole windows")), "{answer}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn there_is_no_difference_to_what_nobody_has_counted() -> Result<()> {
    let scene = Scene::new().await?;
    scene.settle_without_departments().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let path = "metric=revenue&by=department&from=2026-03-07&to=2026-03-08&compare=previous";
    let answer = ask(&scene, &node, path).await?;
    let comparison = &answer["comparison"];
    assert_eq!(comparison["base"]["gaps"].as_array().map(Vec::len), Some(1), "{answer:#}");
    assert_eq!(values(&comparison["groups"], "/dimensions/department"), ["DRUG", "GROCERY"]);
    assert_eq!(values(&comparison["groups"], "/total/difference"), [Value::Null, Value::Null], "{answer:#}");
    assert_eq!(values(&comparison["groups"], "/points/0/difference"), [Value::Null, Value::Null]);
    assert_eq!(comparison["total"], json!({"difference": null, "ratio": null}));
    // The total was counted.
    let answer = ask(&scene, &node, &path.replace("by=department&", "")).await?;
    assert_eq!(answer["comparison"]["total"]["difference"]["value"], "800.00", "{answer:#}");
    Ok(())
}

#[tokio::test]
async fn a_gap_of_the_base_is_seen_no_longer_once_it_is_filled() -> Result<()> {
    let scene = Scene::new().await?;
    scene.settle_without_departments().await?;
    let tuning =
        Tuning { standing_interval: Duration::ZERO, cache_moving: Duration::from_secs(600), ..Tuning::default() };
    let node = scene.serve_with(&scene.clickhouse, &scene.redis, tuning).await?;
    let path = "metric=revenue&by=department&from=2026-03-07&to=2026-03-08&compare=previous";
    let first = ask(&scene, &node, path).await?;
    assert_eq!(ask(&scene, &node, path).await?["computed_at"], first["computed_at"], "it is kept");
    let day = ("2026-03-06", ("2026-03-06 05:00:00", "2026-03-07 05:00:00"));
    scene.settled_cell(day, "run-f", Some("GROCERY"), 70_000, 0..70).await?;
    let tenant = &scene.tenant;
    scene
        .sql(&format!(
            "INSERT INTO backfills VALUES ('{tenant}', 'department', '2026-03-06', 'run-f', 'run-0', 7, 100, 'hash', \
             '2026-03-10 06:00:00', '')"
        ))
        .await?;
    let filled = ask(&scene, &node, path).await?;
    assert_eq!(filled["comparison"]["base"]["gaps"], json!([]), "{filled:#}");
    assert_eq!(filled["comparison"]["total"]["difference"]["value"], "800.00");
    Ok(())
}

#[tokio::test]
async fn the_most_frequent_values_are_compared_with_themselves() -> Result<()> {
    let scene = Scene::new().await?;
    let pages = |counts: &[(&str, usize)]| {
        counts.iter().flat_map(|(page, count)| vec![(*page).to_owned(); *count]).collect::<Vec<String>>()
    };
    let before = pages(&[("/", 10), ("/cart", 5), ("/sale", 3), ("/old", 2)]);
    scene.top_in_clickhouse(&scene.tenant, "2026-03-08", 0, 3, &before).await?;
    let after = pages(&[("/", 20), ("/cart", 9), ("/sale", 4), ("/new", 1)]);
    scene.top_in_clickhouse(&scene.tenant, "2026-03-09", 0, 5, &after).await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    // Three are listed, and there are more.
    let answer = ask(&scene, &node, "metric=pages&from=2026-03-09&to=2026-03-10&compare=previous").await?;
    assert_eq!(answer["truncated"], true, "{answer:#}");
    let groups = &answer["comparison"]["groups"];
    assert_eq!(values(groups, "/dimensions/page"), ["/", "/cart", "/sale"], "{answer:#}");
    assert_eq!(values(groups, "/total/difference/value"), [10, 4, 1], "{answer:#}");
    Ok(())
}
