//! By hour of the day and day of the week.

use std::ops::Range;

use anyhow::{Context, Result};
use reckon_serving::Tuning;
use serde_json::{Value, json};

use super::scene::{ITEMS_OF_ONE, Node, Scene, hex, sketch};

impl Scene {
    /// One purchase of each user in an hour, settled by a run or counted by a partition.
    async fn hour(&self, start: &str, run: Option<(&str, &str)>, cents: i64, users: Range<u32>) -> Result<()> {
        let tenant = &self.tenant;
        let (count, state) = (users.len(), hex(&sketch(users).to_clickhouse()));
        let amounts = format!("map('USD', {cents}, '#quantity', {count} * {ITEMS_OF_ONE})");
        let window = format!("'{start}', toDateTime64('{start}', 6, 'UTC') + INTERVAL 1 HOUR");
        let (table, rest) = match run {
            Some((day, run)) => {
                let rest = format!("'{day}', '{run}', {count}, {amounts}, {count}, unhex('{state}')");
                ("settled_cells_raw", rest)
            }
            None => ("speed_cells_raw", format!("0, 9, {count}, {amounts}, unhex('{state}')")),
        };
        self.sql(&format!(
            "INSERT INTO {table} SELECT '{tenant}', 'total', '1h', {window}, 'purchase', []::Array(String), {rest}"
        ))
        .await
    }
}

fn cell(map: &Value, weekday: u64, hour: u64) -> Result<&Value> {
    let cells = map["cells"].as_array().context("cells")?;
    cells.iter().find(|cell| cell["weekday"] == weekday && cell["hour"] == hour).context("the cell")
}

async fn ask(scene: &Scene, node: &Node, rest: &str) -> Result<Value> {
    let (status, map) = node.ask(&scene.read_key, &format!("/v1/heatmap?{rest}")).await?;
    anyhow::ensure!(status == 200, "{map}");
    Ok(map)
}

#[tokio::test]
async fn hours_lie_where_a_clock_shows_them() -> Result<()> {
    let scene = Scene::new().await?;
    // In New York clocks went forward on Sunday, 2026-03-08, from 02:00 to 03:00: 06:30Z is 01:30, 07:30Z is 03:30.
    let (first, second) = (Some(("2026-03-07", "run-1")), Some(("2026-03-08", "run-2")));
    scene.hour("2026-03-07 06:00:00", first, 1_000, 0..10).await?; // Saturday 01:00
    scene.hour("2026-03-08 06:00:00", second, 200, 0..4).await?; // Sunday 01:00
    scene.hour("2026-03-08 07:00:00", second, 300, 2..8).await?; // Sunday 03:00
    scene.hour("2026-03-08 07:00:00", Some(("2026-03-08", "run-3")), 9_999, 0..99).await?; // not visible
    scene.hour("2026-03-09 05:00:00", None, 5, 0..3).await?; // Monday 01:00, provisional
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let map = ask(&scene, &node, "metric=revenue&from=2026-03-07&to=2026-03-10").await?;
    assert_eq!(map["cells"].as_array().map(Vec::len), Some(168));
    assert_eq!((&map["total"]["value"], &map["time_zone"]), (&json!("15.05"), &json!("America/New_York")));
    for (weekday, hour, hours, value, state) in [
        (6, 1, 1, json!("10.00"), json!("settled")),
        (7, 1, 1, json!("2.00"), json!("restated")),
        (7, 3, 1, json!("3.00"), json!("restated")),
        (1, 1, 1, json!("0.05"), json!("provisional")),
        (1, 2, 1, json!("0.00"), json!("provisional")),
        // Skipped by the clocks; on a day that was not asked for.
        (7, 2, 0, Value::Null, Value::Null),
        (2, 1, 0, Value::Null, Value::Null),
    ] {
        let cell = cell(&map, weekday, hour)?;
        assert_eq!(
            (&cell["hours"], &cell["number"]["value"], &cell["number"]["state"]),
            (&json!(hours), &value, &state),
            "{cell}"
        );
    }
    assert_eq!(cell(&map, 6, 1)?["number"]["run_id"], "run-1");
    Ok(())
}

#[tokio::test]
async fn users_of_a_cell_are_united_over_its_hours() -> Result<()> {
    let scene = Scene::new().await?;
    // Saturday 10:00 of three weeks: settled, settled, and provisional because nothing is settled after 2026-03-09.
    scene.hour("2026-03-07 15:00:00", Some(("2026-03-07", "run-1")), 100, 0..600).await?;
    // What a day has, its hours have, too.
    scene.hour("2026-03-08 06:00:00", Some(("2026-03-08", "run-2")), 100, 50..150).await?;
    scene.hour("2026-03-14 14:00:00", None, 100, 300..900).await?;
    scene.hour("2026-03-21 14:00:00", None, 100, 0..10).await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let map = ask(&scene, &node, "metric=households&from=2026-03-07&to=2026-03-22").await?;
    let saturday = cell(&map, 6, 10)?;
    let mut union = sketch(0..600);
    union.merge(&sketch(300..900));
    assert_eq!((&saturday["hours"], &saturday["number"]["value"]), (&json!(3), &json!(union.estimate())), "{saturday}");
    assert_eq!((&saturday["number"]["method"], &saturday["number"]["state"]), (&json!("hll"), &json!("provisional")));
    let settled = ask(&scene, &node, "metric=households&from=2026-03-07&to=2026-03-08").await?;
    assert_eq!(cell(&settled, 6, 10)?["number"]["value"], sketch(0..600).estimate());
    let ratio = "metric_text=sum(money.USD)%2Funiq(user)&from=2026-03-21&to=2026-03-22";
    let map = ask(&scene, &node, ratio).await?;
    assert_eq!(
        (&cell(&map, 6, 10)?["number"]["value"], &cell(&map, 6, 11)?["number"]["value"]),
        (&json!("0.1"), &Value::Null)
    );
    // In autumn 01:00 comes twice.
    scene.hour("2026-11-01 05:00:00", None, 100, 0..1).await?;
    scene.hour("2026-11-01 06:00:00", None, 100, 0..1).await?;
    let map = ask(&scene, &node, "metric=revenue&from=2026-11-01&to=2026-11-02").await?;
    let twice = cell(&map, 7, 1)?;
    assert_eq!((&twice["hours"], &twice["number"]["value"]), (&json!(2), &json!("2.00")));
    for (rest, status) in [
        ("metric=unknown", 404),
        ("metric=active", 422),
        ("metric=households&filter=city:x", 422),
        ("metric=revenue&by=department", 400),
        ("metric=revenue&grain=1d", 400),
    ] {
        assert_eq!(node.ask(&scene.read_key, &format!("/v1/heatmap?{rest}")).await?.0, status, "{rest}");
    }
    Ok(())
}

#[tokio::test]
async fn a_heat_map_is_of_four_weeks_and_says_how_old_it_is() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let map = ask(&scene, &node, "metric=revenue&to=2026-03-10").await?;
    assert_eq!((&map["from"], &map["to"]), (&json!("2026-02-10T04:00:00Z"), &json!("2026-03-10T04:00:00Z")));
    assert_eq!((map.get("stale"), &map["adjustments"]), (None, &json!([])), "{map}");
    let strict = Tuning { speed_lag_max: std::time::Duration::ZERO, ..Tuning::default() };
    let node = scene.serve_with(&scene.clickhouse, &scene.redis, strict).await?;
    for metric in ["metric=revenue", "metric_text=count(*)%20/%20uniq(user)"] {
        let url = format!("{}/v1/heatmap?{metric}&to=2026-03-10", node.url);
        let answer = node.http.get(url).bearer_auth(&scene.read_key).send().await?.error_for_status()?;
        let header = answer.headers().get("reckon-stale").cloned().context("the header")?;
        let map: Value = answer.json().await?;
        assert_eq!(map["stale"]["reason"], "speed_behind", "{map}");
        assert!(header.to_str()?.starts_with("speed_behind; age_ms="), "{header:?}");
    }
    Ok(())
}
