//! Metrics that are written as a text.

use anyhow::Result;
use reckon_schemas::redis_keys;
use serde_json::{Value, json};

use super::asking::values;
use super::scene::{Node, Scene};

impl Scene {
    /// The day before the first one, 70 purchases of 10.00: settled before there was the rollup by department.
    pub(super) async fn settle_without_departments(&self) -> Result<()> {
        let day = ("2026-03-06", ("2026-03-06 05:00:00", "2026-03-07 05:00:00"));
        self.settled_cell(day, "run-0", None, 70_000, 0..70).await?;
        self.settlement(day, "run-0", ("settled", 0), "2026-03-07 06:00:00").await
    }
}

async fn ask(scene: &Scene, node: &Node, text: &str, rest: Value) -> Result<Value> {
    let mut question = json!({"metric_text": text, "grain": "1d", "from": "2026-03-07", "to": "2026-03-09"});
    if let Some((question, rest)) = question.as_object_mut().zip(rest.as_object()) {
        question.extend(rest.clone());
    }
    let (status, answer) = node.post(&scene.read_key, &question).await?;
    anyhow::ensure!(status == 200, "{answer}");
    Ok(answer)
}

#[tokio::test]
async fn a_text_is_computed_exactly_from_cells() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let answer = ask(&scene, &node, "sum(money.USD) / count(*)", json!({})).await?;
    assert_eq!((&answer["total"]["value"], &answer["unit"]), (&json!("17.5"), &json!("USD/events")), "{answer:#}");
    assert_eq!((&answer["measure"], &answer["metric"]), (&json!("formula"), &json!("sum(money.USD) / count(*)")));
    assert_eq!(values(&answer["groups"][0]["points"], "/number/value"), ["15", "20"]);
    assert_eq!(values(&answer["groups"][0]["points"], "/number/run_id"), ["run-1", "run-2"]);
    assert_eq!(values(&answer["parts"], "/number/value"), ["15", "20"]);
    assert_eq!(answer["total"]["state"], "restated");
    // The ratio of the totals and not the sum of ratios; rounded, and saying so. Two rollups.
    let deli = "sum(money.USD) / count(*) filter (where department = 'DRUG')";
    let answer = ask(&scene, &node, deli, json!({})).await?;
    assert_eq!((&answer["total"]["value"], &answer["total"]["error_bound"]), (&json!("58.333333"), &json!("0.000001")));
    assert_eq!((&answer["total"]["method"], &answer["rollup"]), (&json!("exact"), &json!("department;total")));
    // Nobody bought DRUG on the second day.
    assert_eq!(values(&answer["groups"][0]["points"], "/number/value"), [json!("25"), Value::Null]);
    // Users are exact over settled days, estimated beyond.
    let answer = ask(&scene, &node, "count(*) / uniq(user) where event = 'purchase'", json!({})).await?;
    assert_eq!(
        (&answer["total"]["value"], &answer["total"]["method"]),
        (&json!("1.333333"), &json!("exact")),
        "{answer:#}"
    );
    let answer = ask(&scene, &node, "uniq(user) * 1", json!({"to": "2026-03-10"})).await?;
    assert_eq!((&answer["total"]["value"], &answer["total"]["method"]), (&json!("155"), &json!("hll")));
    let answer = ask(&scene, &node, "sum(quantity) * -2.5 + 1", json!({})).await?;
    assert_eq!(answer["total"]["value"], "-749");
    // The query string takes it, too.
    let path = "/v1/query?metric_text=sum(money.USD)%2Fcount(*)&grain=1d&from=2026-03-07&to=2026-03-09";
    assert_eq!(node.ask(&scene.read_key, path).await?.1["total"]["value"], "17.5");
    Ok(())
}

#[tokio::test]
async fn groups_limits_and_comparisons_work_as_for_other_metrics() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let text = "sum(money.USD) / uniq(user) where event = 'purchase'";
    let answer = ask(&scene, &node, text, json!({"by": ["department"], "to": "2026-03-10"})).await?;
    assert_eq!(values(&answer["groups"], "/dimensions/department"), ["GROCERY", "DRUG"], "{answer:#}");
    assert_eq!(values(&answer["groups"], "/total/value"), ["20.2", "7.753846"]);
    // 3,534.00 by 155 users, and not by 150 and 65.
    assert_eq!(answer["total"]["value"], "22.8");
    let answer = ask(&scene, &node, text, json!({"by": ["department"], "to": "2026-03-10", "limit": 1})).await?;
    assert_eq!(
        (&answer["other"]["total"]["value"], &answer["groups_count"]),
        (&json!("7.753846"), &json!(2)),
        "{answer:#}"
    );
    let answer = ask(&scene, &node, text, json!({"from": "2026-03-08", "compare": "previous"})).await?;
    assert_eq!(
        (&answer["total"]["value"], &answer["comparison"]["base"]["total"]["value"]),
        (&json!("20"), &json!("15"))
    );
    assert_eq!(answer["comparison"]["total"]["difference"]["value"], "5");
    Ok(())
}

#[tokio::test]
async fn an_aggregate_without_an_event_takes_all_of_them() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let tenant = &scene.tenant;
    // A refund beside the purchases of the third day, by a user who bought, in the same partition.
    let state = super::scene::hex(&super::scene::sketch(4..5).to_clickhouse());
    scene
        .sql(&format!(
            "INSERT INTO speed_cells_raw VALUES ('{tenant}', 'total', '1d', '2026-03-09 04:00:00', '2026-03-10 04:00:00', \
             'refund', [], 0, 9, 1, map('USD', -500), unhex('{state}'))"
        ))
        .await?;
    let third = json!({"from": "2026-03-09", "to": "2026-03-10"});
    let total = async |text: &str| {
        Ok::<_, anyhow::Error>(ask(&scene, &node, text, third.clone()).await?["total"]["value"].clone())
    };
    assert_eq!(total("sum(money.USD)").await?, "29.00");
    assert_eq!(total("sum(money.USD) where event = 'purchase'").await?, "34.00");
    assert_eq!(total("count(*)").await?, 16);
    assert_eq!(total("uniq(user)").await?, 15);
    assert_eq!(total("count(*) filter (where event = 'refund') / count(*)").await?, "0.0625");
    // What Redis has newer replaces the purchases of partition 1, and not the refund of partition 0.
    scene.flush_to_redis(6, 550).await?;
    let client = redis::Client::open(scene.redis.url.as_str())?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let names = redis_keys::event_names(tenant);
    redis::cmd("ZADD").arg(names).arg(1_773_028_800).arg("purchase").query_async::<()>(&mut connection).await?;
    assert_eq!(total("sum(money.USD)").await?, "30.50");
    assert_eq!(total("count(*)").await?, 17);
    Ok(())
}

#[tokio::test]
async fn a_text_that_is_not_allowed_is_refused_at_its_place() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    for (text, position) in [
        ("sum(money.USD) / avg(money.USD)", 18),
        ("count(*) from speed_cells_raw", 10),
        ("count(*); drop table speed_cells_raw", 9),
        ("sum(money.USD) + sum(money.EUR)", 18),
        ("count(*) filter (where tenant = (select 1))", 34),
    ] {
        let (status, problem) = node.post(&scene.read_key, &json!({"metric_text": text})).await?;
        assert_eq!(
            (status, &problem["parameter"], &problem["position"]),
            (400, &json!("metric_text"), &json!(position)),
            "{problem}"
        );
    }
    // `tenant` is a property like any other here, and no event has it.
    let (status, answer) =
        node.post(&scene.read_key, &json!({"metric_text": "count(*) where tenant = 'other'"})).await?;
    assert_eq!((status, &answer["total"]["value"]), (200, &json!(0)), "{answer}");
    Ok(())
}

#[tokio::test]
async fn what_one_aggregate_has_not_counted_is_null_and_told() -> Result<()> {
    let scene = Scene::new().await?;
    scene.settle_without_departments().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let since = json!({"from": "2026-03-06"});
    // The second aggregate has no number of the first day, and the first one has.
    let share = "count(*) / count(*) filter (where department = 'GROCERY')";
    let answer = ask(&scene, &node, share, since.clone()).await?;
    let gaps = (values(&answer["gaps"], "/from"), values(&answer["gaps"], "/to"));
    assert_eq!(gaps, (vec![json!("2026-03-06T05:00:00Z")], vec![json!("2026-03-07T05:00:00Z")]), "{answer:#}");
    assert_eq!(answer["total"]["value"], Value::Null);
    let points = &answer["groups"][0]["points"];
    assert_eq!(values(points, "/number/value"), [Value::Null, json!("1.666667"), json!("1")]);
    assert_eq!(values(&answer["parts"], "/number/value"), [Value::Null, json!("1")]);
    let without = ask(&scene, &node, share, json!({})).await?;
    assert_eq!((&without["total"]["value"], &without["gaps"]), (&json!("1.25"), &json!([])), "{without:#}");
    // In what order they are written makes no difference.
    let turned = "count(*) filter (where department = 'GROCERY') / count(*)";
    let turned = ask(&scene, &node, turned, since.clone()).await?;
    assert_eq!((&turned["gaps"], &turned["total"]["value"]), (&answer["gaps"], &Value::Null), "{turned:#}");
    // Where none has counted it is as for every other metric: a number of the rest, and a gap.
    let both = "count(*) filter (where department = 'GROCERY') + count(*) filter (where department = 'DRUG')";
    let both = ask(&scene, &node, both, since).await?;
    assert_eq!((&both["gaps"], &both["total"]["value"]), (&answer["gaps"], &json!(220)), "{both:#}");
    // The same hour by hour.
    let text = "count(*)%20-%20count(*)%20filter%20(where%20department%20=%20'GROCERY')";
    let path = format!("/v1/heatmap?metric_text={text}&from=2026-03-06&to=2026-03-08");
    let (status, map) = node.ask(&scene.read_key, &path).await?;
    assert_eq!((status, &map["gaps"]), (200, &answer["gaps"]), "{map:#}");
    let cells = map["cells"].as_array().cloned().unwrap_or_default();
    let on = |weekday: u64| cells.iter().find(|cell| cell["weekday"] == weekday && cell["hour"] == 10);
    assert_eq!(on(5).map(|cell| &cell["number"]["value"]), Some(&Value::Null));
    assert_eq!(on(6).map(|cell| &cell["number"]["value"]), Some(&json!(0)));
    Ok(())
}

#[tokio::test]
async fn every_aggregate_has_its_own_adjustments() -> Result<()> {
    let scene = Scene::new().await?;
    scene.close_and_adjust().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let first = json!({"to": "2026-03-08"});
    let answer = ask(&scene, &node, "sum(money.USD) / count(*) + sum(money.EUR) / sum(money.EUR)", first).await?;
    let told = |aggregate, unit, amount: Value| {
        json!({"period": "2026-03", "kind": "belongs_here", "events": 1, "amount": amount, "aggregate": aggregate,
               "unit": unit})
    };
    let expected = [told(1, "USD", json!("12.34")), told(2, "events", json!(1)), told(3, "EUR", json!("0.00"))];
    assert_eq!(answer["adjustments"], json!(expected), "{answer:#}");
    Ok(())
}
