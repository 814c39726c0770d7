//! The view for tools that speak SQL has the numbers that are answered over HTTP.

use anyhow::{Context, Result};
use clickhouse::Row;
use serde::Deserialize;
use serde_json::Value;

use super::scene::Scene;

#[derive(Debug, Row, Deserialize)]
struct Seen {
    department: String,
    cents: i128,
    events: u64,
    users: u64,
    layers: Vec<String>,
}

const BY_DEPARTMENT: &str = "
    SELECT dimensions[1] AS department, sum(money['USD']) AS cents, toUInt64(sum(count)) AS events,
           toUInt64(uniqCombined64Merge(14)(users)) AS users, arraySort(groupUniqArray(concat(layer, ' ', state))) AS layers
    FROM cells WHERE tenant = ? AND `rollup` = 'department' AND grain = '1d' AND event = 'purchase'
    GROUP BY department ORDER BY cents DESC";

#[tokio::test]
async fn the_view_has_the_numbers_that_are_answered() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let database =
        clickhouse::Client::default().with_url(&scene.clickhouse.url).with_database(&scene.clickhouse.database);
    let seen = database.query(BY_DEPARTMENT).bind(&scene.tenant).fetch_all::<Seen>().await?;
    let ask = async |metric: &str| -> Result<Value> {
        let question = "from=2026-03-07&to=2026-03-10&grain=1d&by=department";
        Ok(node.ask(&scene.read_key, &format!("/v1/query?metric={metric}&{question}")).await?.1)
    };
    let (revenue, purchases, households) = (ask("revenue").await?, ask("purchases").await?, ask("households").await?);
    let of = |answer: &Value, department: &str| -> Result<String> {
        let groups = answer["groups"].as_array().context("groups")?;
        let group = groups.iter().find(|group| group["dimensions"]["department"] == department);
        let value = &group.with_context(|| format!("{department}: {answer}"))?["total"]["value"];
        Ok(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    };
    assert_eq!(seen.len(), revenue["groups"].as_array().context("groups")?.len());
    for row in &seen {
        assert_eq!(format!("{}.{:02}", row.cents / 100, row.cents % 100), of(&revenue, &row.department)?, "{row:?}");
        assert_eq!(row.events.to_string(), of(&purchases, &row.department)?, "{row:?}");
        assert_eq!(row.users.to_string(), of(&households, &row.department)?, "{row:?}");
    }
    // Both layers and both states of the first two days are behind the largest group, and nothing else is.
    assert_eq!(seen[0].layers, ["batch restated", "batch settled", "speed provisional"], "{seen:?}");
    Ok(())
}
