//! What is answered.

use std::sync::Arc;

use anyhow::{Context, Result};
use reckon_schemas::catalog::Catalog;
use reckon_schemas::stores;
use reckon_schemas::time::Zone;
use serde_json::{Value, json};

use super::scene::{FIRST, SECOND, Scene, sketch};

const THREE_DAYS: &str = "from=2026-03-07&to=2026-03-10&grain=1d";

impl Scene {
    /// Closes the two settled days, and posts a purchase of 12.34 of the first one, 10:00, on the third one.
    pub(super) async fn close_and_adjust(&self) -> Result<()> {
        for (day, run) in [(("2026-03-07", FIRST), "run-1"), (("2026-03-08", SECOND), "run-2")] {
            self.settlement(day, run, ("closed", 1), "2026-03-09 08:00:00").await?;
        }
        let tenant = &self.tenant;
        for (action, at) in [("closed", "2026-03-09 08:00:00"), ("adjusted", "2026-03-09 09:00:00")] {
            self.sql(&format!(
                "INSERT INTO periods VALUES ('{tenant}', '2026-03', 1, '{action}', '{at}', 'Ada Lovelace', '', \
                 '2026-03-07', '2026-03-08', 7, map(), 101, 'hash', '')"
            ))
            .await?;
        }
        self.sql(&format!(
            "INSERT INTO adjustments_stored VALUES ('{tenant}', '2026-03', 1, 1, 'late-1', 'total', 'purchase', [], \
             '2026-03-07', '2026-03-07 15:00:00', 0, 99, 1, map('USD', 1234), 1, '2026-03-09', '2026-03-09 09:00:00', \
             'run-4')"
        ))
        .await
    }
}

fn values(items: &Value, path: &str) -> Vec<Value> {
    let items = items.as_array().cloned().unwrap_or_default();
    items.iter().map(|item| item.pointer(path).cloned().unwrap_or(Value::Null)).collect()
}

#[tokio::test]
async fn each_window_is_answered_by_exactly_one_layer() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let (status, answer) = node.ask(&scene.read_key, &format!("/v1/query?metric=revenue&{THREE_DAYS}")).await?;
    assert_eq!(status, 200, "{answer}");
    // 1,500.00 settled, 2,000.00 restated, 34.00 provisional; nothing of stale or invisible runs.
    assert_eq!(answer["total"]["value"], "3534.00", "{answer:#}");
    assert_eq!(answer["total"]["state"], "provisional");
    assert_eq!(values(&answer["parts"], "/number/value"), ["1500.00", "2000.00", "34.00"]);
    assert_eq!(values(&answer["coverage"], "/state"), ["settled", "restated", "provisional"]);
    assert_eq!(values(&answer["coverage"], "/layer"), ["batch", "batch", "speed"]);
    assert_eq!(values(&answer["coverage"], "/run_ids"), [json!(["run-1"]), json!(["run-2"]), json!([])]);
    // The second day has 23 hours.
    let borders = ["2026-03-07T05:00:00Z", "2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z", "2026-03-10T04:00:00Z"];
    assert_eq!(values(&answer["coverage"], "/from"), borders[..3]);
    assert_eq!(values(&answer["coverage"], "/to"), borders[1..]);
    assert_eq!(answer["horizon"], borders[2]);
    assert_eq!(answer["watermark"], "2026-03-09T19:00:00Z");
    assert_eq!(answer["unit"], "USD");
    assert!(answer["speed_lag_ms"].as_i64().context("a lag")? < 60_000);
    assert_eq!((&answer["gaps"], &answer["notes"]), (&json!([]), &json!([])));
    let points = &answer["groups"][0]["points"];
    assert_eq!(values(points, "/number/value"), ["1500.00", "2000.00", "34.00"]);
    assert_eq!(values(points, "/number/run_id"), [json!("run-1"), json!("run-2"), Value::Null]);
    assert_eq!(values(points, "/number/method"), ["exact"; 3]);
    Ok(())
}

#[tokio::test]
async fn groups_and_filters_choose_the_rollup_that_has_them() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let ask = async |rest: &str| node.ask(&scene.read_key, &format!("/v1/query?{THREE_DAYS}&{rest}")).await;
    let (_, answer) = ask("metric=revenue&by=department").await?;
    assert_eq!(values(&answer["groups"], "/dimensions/department"), ["GROCERY", "DRUG"], "{answer:#}");
    assert_eq!(values(&answer["groups"], "/total/value"), ["3030.00", "504.00"]);
    assert_eq!((&answer["total"]["value"], &answer["rollup"]), (&json!("3534.00"), &json!("department")));
    let (_, answer) = ask("metric=purchases&filter=department:DRUG").await?;
    assert_eq!((&answer["total"]["value"], &answer["rollup"]), (&json!(65), &json!("department")));
    let (_, answer) = ask("metric=purchases&filter=department:DRUG&filter=department:GROCERY").await?;
    assert_eq!(answer["total"]["value"], 235);
    // Values are compared, never executed.
    for value in ["'%20OR%201=1%20--", "%5C'", "%7Btenant:String%7D", "%00", "%F0%9F%92%A9"] {
        let (status, answer) = ask(&format!("metric=purchases&filter=department:{value}")).await?;
        assert_eq!((status, &answer["total"]["value"]), (200, &json!(0)), "{value}: {answer}");
    }
    Ok(())
}

#[tokio::test]
async fn users_are_exact_over_settled_days_and_united_beyond() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let ask = async |rest: &str| node.ask(&scene.read_key, &format!("/v1/query?metric=households&{rest}")).await;
    // 0 to 99 on the first day, 50 to 149 on the second.
    let (_, answer) = ask("from=2026-03-07&to=2026-03-09&grain=1d").await?;
    assert_eq!((&answer["total"]["value"], &answer["total"]["method"]), (&json!(150), &json!("exact")), "{answer:#}");
    assert_eq!(answer["total"]["error_bound"], 0);
    assert_eq!(values(&answer["groups"][0]["points"], "/number/value"), [100, 100]);
    // Together with the third day's 0 to 9 and 200 to 204 there is only the union of sketches.
    let (_, answer) = ask(THREE_DAYS).await?;
    assert_eq!((&answer["total"]["value"], &answer["total"]["method"]), (&json!(155), &json!("hll")), "{answer:#}");
    assert_eq!(values(&answer["parts"], "/number/value"), [100, 100, 15]);
    assert_eq!(values(&answer["parts"], "/number/method"), ["exact", "exact", "hll"]);
    // Groups share users: 0 to 59 and 40 to 99 are fewer than the sum.
    let (_, answer) = ask("from=2026-03-07&to=2026-03-09&grain=1d&by=department").await?;
    assert_eq!(values(&answer["groups"], "/total/value"), [150, 60], "{answer:#}");
    assert_eq!(answer["total"]["value"], 150);
    let (_, answer) =
        ask("from=2026-03-07&to=2026-03-08&grain=1d&filter=department:GROCERY&filter=department:DRUG").await?;
    let point = &answer["groups"][0]["points"][0]["number"];
    assert_eq!((&point["value"], &point["method"]), (&json!(100), &json!("exact")), "{answer:#}");
    Ok(())
}

#[tokio::test]
async fn the_fresher_store_wins_and_neither_is_added() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let total = async |metric: &str| -> Result<Value> {
        let path = format!("/v1/query?metric={metric}&from=2026-03-09&to=2026-03-10&grain=1d");
        Ok(node.ask(&scene.read_key, &path).await?.1["total"]["value"].clone())
    };
    // Older than what ClickHouse has.
    scene.flush_to_redis(3, 100).await?;
    assert_eq!(total("revenue").await?, "34.00");
    // Newer.
    scene.flush_to_redis(6, 550).await?;
    assert_eq!(total("revenue").await?, "35.50");
    assert_eq!(total("purchases").await?, 16);
    let mut union = sketch(0..10);
    union.merge(&sketch(200..206));
    assert_eq!(total("households").await?, union.estimate());
    Ok(())
}

#[tokio::test]
async fn without_redis_the_answer_says_so_without_clickhouse_there_is_none() -> Result<()> {
    let scene = Scene::new().await?;
    let path = format!("/v1/query?metric=revenue&{THREE_DAYS}");
    // Nobody listens on port 9 of this machine.
    let away = stores::Redis { url: "redis://127.0.0.1:9/".to_owned() };
    let node = scene.serve(&scene.clickhouse, &away).await?;
    let (status, answer) = node.ask(&scene.read_key, &path).await?;
    assert_eq!((status, &answer["total"]["value"]), (200, &json!("3534.00")), "{answer}");
    assert_eq!(answer["notes"].as_array().map(Vec::len), Some(1));
    let (status, ready) = node.ask("", "/readyz").await?;
    assert_eq!((status, ready), (200, json!("ready, without Redis\n")));

    let away = stores::ClickHouse { url: "http://127.0.0.1:9".to_owned(), ..scene.clickhouse.clone() };
    let node = scene.serve(&away, &scene.redis).await?;
    let (status, problem) = node.ask(&scene.read_key, &path).await?;
    assert_eq!((status, &problem["type"]), (503, &json!("unavailable")), "{problem}");
    assert!(problem["retry_after_s"].is_u64());
    assert_eq!(node.ask("", "/readyz").await?.0, 503);
    assert_eq!(node.ask("", "/healthz").await?.0, 200);
    Ok(())
}

#[tokio::test]
async fn the_latest_reconciliation_is_read_back() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let (status, latest) = node.ask(&scene.finance_key, "/v1/reconciliations/latest").await?;
    assert_eq!((status, &latest["run_id"]), (200, &json!("run-2")), "{latest}");
    assert_eq!((&latest["first_day"], &latest["days"]), (&json!("2026-03-08"), &json!(1)));
    assert_eq!((&latest["users"], &latest["explained"]), (&json!(100), &json!(true)));
    let row = &latest["rows"][0];
    assert_eq!((&row["batch"], &row["drift"], &row["residual"]), (&json!("2000.00"), &json!("-10.00"), &json!("0.00")));
    assert_eq!(row["reasons"], json!({"late": "-15.00", "duplicate": "5.00"}));
    assert_eq!(latest["rows"][1]["drift"], -1);
    assert_eq!(node.ask(&scene.other_key, "/v1/reconciliations/latest").await?.0, 404);
    Ok(())
}

#[tokio::test]
async fn after_a_change_of_the_time_zone_nothing_becomes_zero() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let ask = async |metric: &str| -> Result<Value> {
        let path = format!("/v1/query?metric={metric}&from=2026-03-07&to=2026-03-11&grain=1d");
        Ok(node.ask(&scene.read_key, &path).await?.1)
    };
    assert_eq!(ask("revenue").await?["total"]["value"], "3534.00");
    let mut catalog = Catalog::clone(&scene.catalog);
    catalog.tenants[0].time_zone = Zone::parse("Europe/Berlin")?;
    node.catalog.send_replace(Arc::new(catalog));
    // Settled days of New York are none of Berlin, and neither is the one that was counted there.
    for (metric, nothing) in [("revenue", json!("0.00")), ("households", json!(0))] {
        let answer = ask(metric).await?;
        assert_eq!(
            (&answer["total"]["value"], &answer["total"]["state"]),
            (&nothing, &json!("provisional")),
            "{answer:#}"
        );
        assert_eq!(values(&answer["gaps"], "/from"), ["2026-03-06T23:00:00Z", "2026-03-08T23:00:00Z"], "{answer:#}");
        assert_eq!(values(&answer["gaps"], "/to"), ["2026-03-08T23:00:00Z", "2026-03-10T23:00:00Z"]);
        let reasons = values(&answer["gaps"], "/reason");
        assert!(
            reasons.iter().all(|reason| reason.as_str().is_some_and(|reason| reason.contains("another time zone")))
        );
    }
    Ok(())
}

#[tokio::test]
async fn an_adjustment_is_told_where_it_happened_and_once_where_it_is_posted() -> Result<()> {
    let scene = Scene::new().await?;
    scene.close_and_adjust().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let told = |answer: &Value| {
        let kinds = values(&answer["adjustments"], "/kind").into_iter().zip(values(&answer["adjustments"], "/amount"));
        kinds.map(|(kind, amount)| format!("{kind} {amount}").replace('"', "")).collect::<Vec<_>>()
    };
    let ask = async |path: &str| -> Result<Value> {
        let (status, answer) = node.ask(&scene.read_key, path).await?;
        anyhow::ensure!(status == 200, "{answer}");
        Ok(answer)
    };
    // At 10:00 in New York, on a day that is closed.
    for (from, to, expected) in [
        ("2026-03-07T14:00:00Z", "2026-03-07T15:00:00Z", vec![]),
        ("2026-03-07T15:00:00Z", "2026-03-07T16:00:00Z", vec!["belongs_here 12.34"]),
        ("2026-03-07T16:00:00Z", "2026-03-08T05:00:00Z", vec![]),
        ("2026-03-09T05:00:00Z", "2026-03-10T04:00:00Z", vec![]),
        ("2026-03-07T05:00:00Z", "2026-03-10T04:00:00Z", vec!["posted_here 12.34"]),
    ] {
        let answer = ask(&format!("/v1/query?metric=revenue&grain=1h&from={from}&to={to}")).await?;
        assert_eq!(told(&answer), expected, "{from}: {answer:#}");
    }
    // On one page of the day that it is posted on.
    let mut path = "/v1/query?metric=revenue&grain=1h&page=6&from=2026-03-09&to=2026-03-10".to_owned();
    let mut pages = Vec::new();
    loop {
        let answer = ask(&path).await?;
        pages.push(told(&answer));
        let Some(next) = answer["next"].as_str() else { break };
        path = format!("/v1/query?metric=revenue&grain=1h&page=6&cursor={next}");
    }
    assert_eq!(pages, [vec!["posted_here 12.34".to_owned()], vec![], vec![], vec![]]);
    let map = ask("/v1/heatmap?metric=revenue&from=2026-03-07&to=2026-03-08").await?;
    assert_eq!(told(&map), ["belongs_here 12.34"], "{map:#}");
    Ok(())
}
