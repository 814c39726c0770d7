//! The catalog is followed while a node runs.

use std::sync::Arc;

use anyhow::{Context, Result};
use reckon_schemas::catalog::{Catalog, Metric, Tenant};
use serde_json::json;

use super::scene::{Node, Scene};

/// Changes our tenant in what a node knows.
pub(super) fn change(node: &Node, change: impl FnOnce(&mut Tenant)) {
    node.catalog.send_modify(|known| {
        let mut catalog = Catalog::clone(known);
        change(&mut catalog.tenants[0]);
        *known = Arc::new(catalog);
    });
}

#[tokio::test]
async fn what_is_added_is_answered_and_what_is_taken_away_is_not() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let ask = async |metric: &str| {
        let path = format!("/v1/query?metric={metric}&from=2026-03-07&to=2026-03-09&grain=1d");
        node.ask(&scene.read_key, &path).await
    };
    let (_, purchases) = ask("purchases").await?;
    assert_eq!(ask("orders").await?.0, 404);
    let of_live = "/v1/live?metric=purchases&from=2026-03-07&to=2026-03-09&grain=1d";
    let stream = node.open(&scene.read_key, of_live, None).await?.error_for_status()?;
    change(&node, |tenant| {
        let orders = tenant.metrics.iter().find(|metric| metric.name == "purchases").cloned();
        tenant.metrics.extend(orders.map(|metric| Metric { name: "orders".to_owned(), ..metric }));
    });
    let (status, orders) = ask("orders").await?;
    assert_eq!((status, &orders["total"]["value"]), (200, &purchases["total"]["value"]), "{orders:#}");
    let (_, catalog) = node.ask(&scene.read_key, "/v1/catalog").await?;
    assert!(catalog["metrics"].as_array().context("metrics")?.iter().any(|metric| metric["name"] == "orders"));

    // A key that is taken away opens nothing, and ends what it has opened.
    change(&node, |tenant| tenant.keys.clear());
    let (status, problem) = ask("orders").await?;
    assert_eq!((status, &problem["status"]), (401, &json!(401)));
    let told = tokio::time::timeout(std::time::Duration::from_secs(5), stream.text()).await.context("it goes on")??;
    assert!(told.contains("event: problem") && told.contains("401"), "{told}");
    Ok(())
}
