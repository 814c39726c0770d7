//! What is not answered, and nobody else's numbers.

use anyhow::Result;

use super::scene::{CANARY, Scene};

#[tokio::test]
async fn only_read_keys_are_answered_and_only_about_their_tenant() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let query = "/v1/query?metric=revenue&from=2026-03-07&to=2026-03-10&grain=1d&by=department";
    for path in [query, "/v1/live?metric=revenue", "/v1/catalog", "/v1/reconciliations/latest"] {
        for key in ["", "rk_00000000_00000000000000000000000000000000", "nonsense"] {
            let (status, problem) = node.ask(key, path).await?;
            assert_eq!((status, problem["type"].as_str()), (401, Some("unauthorized")), "{path} {problem}");
        }
        assert_eq!(node.ask(&scene.write_key, path).await?.0, 403, "{path}");
    }
    let (_, ours) = node.ask(&scene.read_key, query).await?;
    assert!(!ours.to_string().contains(CANARY));
    let (_, theirs) = node.ask(&scene.other_key, query).await?;
    assert!(theirs.to_string().contains(CANARY), "{theirs}");
    assert_eq!(theirs["total"]["value"], "77777.77");
    let (_, catalog) = node.ask(&scene.read_key, "/v1/catalog").await?;
    assert_eq!(catalog["rollups"], serde_json::json!(["total", "department"]));
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_answered_is_named() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    for (path, status, parameter) in [
        ("/v1/query", 400, Some("metric")),
        ("/v1/query?metric=revenue&from=soon", 400, Some("from")),
        ("/v1/query?metric=revenue&tenant=other", 400, None),
        ("/v1/query?metric=unknown", 404, None),
        ("/v1/query?metric=revenue&by=total", 422, Some("by")),
        ("/v1/query?metric=revenue&filter=total:1", 422, Some("filter")),
        ("/v1/live?metric=revenue&by=store", 422, Some("by")),
        ("/v1/query?metric=revenue&grain=1m&from=2020-01-01&to=2026-01-01", 422, Some("from")),
        ("/v1/live?metric=unknown", 404, None),
        ("/v1/nothing", 404, None),
    ] {
        let (found, problem) = node.ask(&scene.read_key, path).await?;
        assert_eq!((found, problem["parameter"].as_str()), (status, parameter), "{path} {problem}");
        assert!(problem["detail"].is_string(), "{path} {problem}");
    }
    let long = format!("/v1/query?metric={}", "m".repeat(9_000));
    assert_eq!(node.ask(&scene.read_key, &long).await?.0, 431);
    Ok(())
}

#[tokio::test]
async fn the_interface_describes_itself() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let (status, document) = node.ask("", "/openapi.json").await?;
    assert_eq!(status, 200);
    assert!(document["paths"]["/v1/query"]["get"]["responses"]["422"].is_object());
    assert_eq!(node.ask("", "/docs/").await?.0, 200);
    let page = node.open("", "/docs/", None).await?;
    assert_eq!(page.headers()["x-content-type-options"], "nosniff");
    assert!(page.headers()["content-security-policy"].to_str()?.starts_with("default-src 'self'"));
    Ok(())
}
