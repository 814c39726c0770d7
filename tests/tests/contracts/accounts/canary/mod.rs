//! Two tenants on one installation. What one of them has is nowhere in what the other can get: not in an answer of any
//! route, a stream, a cache entry, a row or a log line; and asking for it is like asking for what nobody has. That it could be seen
//! is shown by those who have it: they see it in the answer to the same request.

mod asking;
mod stage;
mod stores;
mod streams;
mod table;

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::Value;

use self::stage::{PASSWORD, Stage};
use self::table::{Kind, ROWS};

/// What the collector's listener answers says nothing of what is stored.
const OF_THE_COLLECTOR: [&str; 3] = ["collect", "segment", "cloudevents"];

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_another_tenant_is_anywhere() -> Result<()> {
    let stage = Stage::set().await?;
    every_operation_is_in_the_table(&stage).await?;
    for row in ROWS {
        let said = || format!("{} {}?{} {}", row.method, row.path, row.query, row.body);
        match row.kind {
            Kind::Stream | Kind::Socket => stage.listen(row).await.with_context(said)?,
            Kind::Public => stage.ask_in_public(row).await.with_context(said)?,
            Kind::Read | Kind::Change | Kind::Session => stage.ask_as_both(row).await.with_context(said)?,
        }
    }
    stage.look_at_a_busy_stream().await?;
    stage.look_into_redis().await?;
    stage.look_into_clickhouse().await?;
    let log = stage.process.log();
    ensure!(log.lines().count() > 5, "there is no log:\n{log}");
    for secret in [stage.canary.as_str(), PASSWORD, &stage.theirs.key, &stage.ours.key] {
        assert!(!log.to_lowercase().contains(secret), "{secret} in the log");
    }
    Ok(())
}

async fn every_operation_is_in_the_table(stage: &Stage) -> Result<()> {
    let document: Value = stage.request(Method::GET, "/openapi.json").send().await?.json().await?;
    let mut described = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().context("paths")? {
        for (method, operation) in operations.as_object().context("operations")? {
            let tag = operation["tags"][0].as_str().context("a tag")?;
            if !OF_THE_COLLECTOR.contains(&tag) {
                described.insert((method.clone(), path.clone()));
            }
        }
    }
    let known: BTreeSet<_> = ROWS.iter().map(table::Row::operation).collect();
    let missing: Vec<_> = described.symmetric_difference(&known).collect();
    ensure!(missing.is_empty() && known.len() > 50, "give a row to each of these, or take it away: {missing:?}");
    Ok(())
}
