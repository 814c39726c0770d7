//! What finance reads over HTTP beside the numbers, held against what the command line says.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::World;
use crate::books::PERIOD;

/// Runs, periods and changes are told over HTTP as the command line tells them.
pub async fn assert_listed(world: &World, changes: &[Value]) -> Result<()> {
    let numbers = |rows: &[Value]| {
        let number = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let key = |row: &Value| ["rollup", "measure"].map(|name| row[name].to_string()).join(" ");
        let mut numbers: Vec<_> =
            rows.iter().map(|row| (key(row), row["dimensions"].to_string(), number(&row["after"]))).collect();
        numbers.sort_unstable();
        numbers
    };
    let (mut told, mut path) = (Vec::new(), "/v1/changes?limit=3".to_owned());
    loop {
        let page = world.query(&path).await?;
        let items = page["items"].as_array().context("items")?;
        ensure!((1..=3).contains(&items.len()), "{page}");
        told.extend(items.clone());
        match page["next"].as_str() {
            Some(next) => path = format!("/v1/changes?limit=3&after={next}"),
            None => break,
        }
    }
    ensure!(told.len() > 3 && numbers(&told) == numbers(changes), "{told:?} instead of {changes:?}");

    let runs = world.query("/v1/reconciliations").await?;
    // The close itself settles days on which nothing came.
    let listed = runs["items"].as_array().context("items")?;
    let counted: Vec<&Value> = listed.iter().filter(|run| run["deliveries"] != 0).collect();
    ensure!(counted.len() == 2 && counted[0]["days"] == 1 && counted[0]["days_in_force"] == 1, "{runs}");
    let in_force = counted[1]["days_in_force"].as_u64();
    let days = counted[1]["days"].as_u64();
    ensure!(in_force == days.map(|days| days - 1), "the second run took a day over: {runs}");
    let periods = world.query("/v1/periods").await?;
    let entry = &periods["items"][0];
    ensure!(entry["action"] == "closed" && entry["in_force"] == true && entry["period"] == PERIOD, "{periods}");
    ensure!(entry["signed_by"] == "Ada Lovelace" && periods["items"].as_array().map(Vec::len) == Some(1), "{periods}");
    Ok(())
}
