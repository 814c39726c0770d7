//! The configuration store is away: keys that were known go on working for a while, and nothing else opens.

use std::time::Duration;

use anyhow::{Context, Result};
use reckon_serving::accounts::Tuning;
use reckon_tests::postgres::Postgres;
use reckon_tests::until;
use reqwest::Method;
use serde_json::json;

use super::scene::{Scene, quick};

#[tokio::test]
async fn known_keys_work_for_a_bounded_time() -> Result<()> {
    let server = Postgres::own().await?;
    let scene = Scene::new()?;
    let tuning = Tuning { keys_kept: Duration::from_secs(4), timeout: Duration::from_secs(1), ..quick() };
    let node = scene.node(&server.database().await?, tuning, reckon_serving::Tuning::default()).await?;
    let body = json!({ "name": "made here", "scopes": ["read", "admin"] });
    let made = node.ask(Method::POST, "/v1/keys", &scene.acme.admin, Some(&body)).await?.json()?;
    let key = made["key"].as_str().context("the key")?;
    let scopes = [reckon_schemas::access::Scope::Read];
    let password = "correct horse battery";
    node.accounts.set_user(&scene.acme.tenant.parse()?, "ada@example.com", password.to_owned(), &scopes).await?;
    let credentials = json!({ "email": "ada@example.com", "password": password });
    let signed_in = node.send(Method::POST, "/v1/session", &[], Some(&credentials)).await?;
    let cookie = signed_in.cookie().context("a cookie")?;
    let status = async |key: &str| anyhow::Ok(node.ask(Method::GET, "/v1/catalog", key, None).await?.status);
    assert_eq!(status(key).await?, 200);

    server.stop()?;
    assert_eq!(status(key).await?, 200, "known, so it works");
    assert_eq!(status(&scene.acme.read).await?, 200);
    let dashboards = node.ask(Method::GET, "/v1/dashboards", key, None).await?;
    assert_eq!((dashboards.status, dashboards.header("retry-after")), (503, Some("5")), "{}", dashboards.text);
    assert_eq!(node.ask(Method::POST, "/v1/keys", key, Some(&body)).await?.status, 503);
    assert_eq!(node.send(Method::GET, "/v1/session", &[("cookie", &cookie)], None).await?.status, 503);
    assert_eq!(node.send(Method::POST, "/v1/session", &[], Some(&credentials)).await?.status, 503);
    until("the end of the time", Duration::from_secs(15), async || Ok(status(key).await? == 401)).await?;
    assert_eq!(status(&scene.acme.read).await?, 200, "the catalog's keys need no store");

    server.start()?;
    server.ready().await?;
    until("the key again", Duration::from_secs(15), async || Ok(status(key).await? == 200)).await?;
    assert_eq!(node.send(Method::GET, "/v1/session", &[("cookie", &cookie)], None).await?.status, 200);
    Ok(())
}
