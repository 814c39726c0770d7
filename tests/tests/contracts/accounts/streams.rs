//! What is open ends with what it was opened with.

use std::time::Duration;

use anyhow::{Context, Result};
use reckon_schemas::access::Scope;
use reckon_schemas::catalog::Catalog;
use reckon_serving::accounts::Tuning;
use reqwest::Method;
use serde_json::json;

use super::on_both_stores;
use super::people::{PASSWORD, Person, sign_in};
use super::scene::{Answer, Database, Node, Scene, quick};

on_both_stores!(a_stream_ends_with_the_membership, a_stream_ends_with_its_tenant, a_stream_is_no_use_of_a_session);

const LIVE: &str = "/v1/alert-events/live";

/// A key that comes and goes has every stream look whether it still may.
async fn have_streams_look(node: &Node, admin: &str) -> Result<()> {
    let body = json!({ "name": "for a moment", "scopes": ["read"] });
    let made = node.ask(Method::POST, "/v1/keys", admin, Some(&body)).await?.json()?;
    let prefix = made["prefix"].as_str().context("a prefix")?;
    assert_eq!(node.ask(Method::DELETE, &format!("/v1/keys/{prefix}"), admin, None).await?.status, 204);
    Ok(())
}

/// The whole of a stream, which does not end by itself.
async fn goes_on(stream: &mut (impl Future<Output = Result<Answer>> + Unpin)) {
    let ended = tokio::time::timeout(Duration::from_millis(500), stream).await;
    assert!(ended.is_err(), "a stream goes on: {ended:?}");
}

async fn ends(stream: impl Future<Output = Result<Answer>>) -> Result<()> {
    let ended = tokio::time::timeout(Duration::from_secs(25), stream).await.context("the stream goes on")??;
    assert!(ended.text.contains("event: problem") && ended.text.contains("401"), "{}", ended.text);
    Ok(())
}

async fn a_stream_ends_with_the_membership(database: Database) -> Result<()> {
    let scene = Scene::new()?;
    let node = scene.plain_node(&database.url).await?;
    for tenant in [&scene.acme.tenant, &scene.other.tenant] {
        node.accounts.set_user(&tenant.parse()?, "ada@example.com", PASSWORD.to_owned(), &[Scope::Read]).await?;
    }
    let ada = Person::new(&node, &sign_in(&node, "ada@example.com", PASSWORD).await?)?;
    let go_to = async |tenant: &str| ada.ask(Method::PUT, "/v1/session", Some(&json!({ "tenant": tenant }))).await;
    assert_eq!(go_to(&scene.acme.tenant).await?.status, 200);
    let mut stream = Box::pin(ada.ask(Method::GET, LIVE, None));
    goes_on(&mut stream).await;
    // The session goes on elsewhere; nothing of what it was opened for may.
    assert_eq!(go_to(&scene.other.tenant).await?.status, 200);
    let people = node.ask(Method::GET, "/v1/users", &scene.acme.admin, None).await?.json()?;
    let path = format!("/v1/users/{}", people["members"][0]["id"].as_str().context("an id")?);
    assert_eq!(node.ask(Method::DELETE, &path, &scene.acme.admin, None).await?.status, 204);
    have_streams_look(&node, &scene.acme.admin).await?;
    ends(stream).await?;
    let mut stream = Box::pin(ada.ask(Method::GET, LIVE, None));
    have_streams_look(&node, &scene.acme.admin).await?;
    goes_on(&mut stream).await;
    Ok(())
}

async fn a_stream_ends_with_its_tenant(database: Database) -> Result<()> {
    let scene = Scene::new()?;
    let node = scene.plain_node(&database.url).await?;
    let other = scene.other.tenant.parse()?;
    node.accounts.set_user(&other, "ada@example.com", PASSWORD.to_owned(), &[Scope::Read]).await?;
    let ada = Person::new(&node, &sign_in(&node, "ada@example.com", PASSWORD).await?)?;
    let mut by_session = Box::pin(ada.ask(Method::GET, LIVE, None));
    let mut by_key = Box::pin(node.ask(Method::GET, LIVE, &scene.other.read, None));
    let mut of_another = Box::pin(node.ask(Method::GET, LIVE, &scene.acme.read, None));
    goes_on(&mut by_session).await;
    goes_on(&mut by_key).await;
    goes_on(&mut of_another).await;
    let mut catalog = Catalog::clone(&scene.catalog.borrow());
    catalog.tenants.retain(|tenant| tenant.id != other);
    scene.catalog.send_replace(catalog.into());
    ends(by_session).await?;
    ends(by_key).await?;
    goes_on(&mut of_another).await;
    Ok(())
}

async fn a_stream_is_no_use_of_a_session(database: Database) -> Result<()> {
    let scene = Scene::new()?;
    let tuning = Tuning { session_idle: Duration::from_secs(4), ..quick() };
    let node = scene.node(&database.url, tuning, reckon_serving::Tuning::default()).await?;
    let acme = scene.acme.tenant.parse()?;
    node.accounts.set_user(&acme, "ada@example.com", PASSWORD.to_owned(), &[Scope::Read]).await?;
    let ada = Person::new(&node, &sign_in(&node, "ada@example.com", PASSWORD).await?)?;
    let mut stream = Box::pin(ada.ask(Method::GET, LIVE, None));
    // Longer than a session may be idle: each look is one that would have kept it alive.
    for _ in 0..20 {
        have_streams_look(&node, &scene.acme.admin).await?;
        if let Ok(ended) = tokio::time::timeout(Duration::from_millis(500), &mut stream).await {
            return ends(std::future::ready(ended)).await;
        }
    }
    anyhow::bail!("the stream goes on")
}
