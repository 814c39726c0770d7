//! Keys that are made and revoked while the system runs.

use std::time::Duration;

use anyhow::{Context, Result};
use reckon_tests::until;
use reqwest::Method;
use serde_json::{Value, json};

use super::on_both_stores;
use super::scene::{Database, Scene, quick};

on_both_stores!(keys_are_made_used_and_revoked, nobody_learns_of_others_keys, the_audit_log_is_only_added_to);

const PAGE: &str = "https://app.example.com";

async fn keys_are_made_used_and_revoked(database: Database) -> Result<()> {
    let scene = Scene::new()?;
    let node = scene.plain_node(&database.url).await?;
    let far = scene.plain_node(&database.url).await?;
    let make = async |body: Value| node.ask(Method::POST, "/v1/keys", &scene.acme.admin, Some(&body)).await;
    let made = make(json!({ "name": "page", "scopes": ["read"] })).await?;
    assert_eq!((made.status, made.header("cache-control")), (201, Some("no-store")), "{}", made.text);
    let made = made.json()?;
    let (key, prefix) = (made["key"].as_str().context("the key")?, made["prefix"].as_str().context("its prefix")?);
    // 128 random bits, in hexadecimal, after the prefix.
    assert_eq!(key.strip_prefix(&format!("rk_{prefix}_")).map(str::len), Some(32));

    // Known here at once, on another node soon; for what it may do, and for nothing else.
    assert_eq!(node.ask(Method::GET, "/v1/catalog", key, None).await?.json()?["tenant"], scene.acme.tenant);
    until("the other node", Duration::from_secs(5), async || {
        Ok(far.ask(Method::GET, "/v1/catalog", key, None).await?.status == 200)
    })
    .await?;
    assert_eq!(node.ask(Method::GET, "/v1/keys", key, None).await?.status, 403);
    assert_eq!(node.ask(Method::GET, "/v1/catalog", &scene.acme.write, None).await?.status, 403);
    assert_eq!(node.ask(Method::GET, "/v1/catalog", &key[..key.len() - 1], None).await?.status, 401);

    // What is listed and what is kept opens nothing.
    let secret = &key[key.len() - 32..];
    let list = node.ask(Method::GET, "/v1/keys", &scene.acme.admin, None).await?;
    assert!(list.text.contains(prefix) && !list.text.contains(secret), "{}", list.text);
    assert_eq!(list.json()?["in_catalog"].as_array().map(Vec::len), Some(3));
    let kept = database.dump().await?;
    assert!(kept.contains(prefix) && !kept.contains(secret));
    assert!(!list.text.contains("sha256"));

    // A node that starts later knows it from the store.
    let late = scene.plain_node(&database.url).await?;
    until("the late node", Duration::from_secs(5), async || {
        Ok(late.ask(Method::GET, "/v1/catalog", key, None).await?.status == 200)
    })
    .await?;

    let path = format!("/v1/keys/{prefix}");
    let stream = far.ask(Method::GET, "/v1/alert-events/live", key, None);
    let mut stream = std::pin::pin!(stream);
    let opened = tokio::time::timeout(Duration::from_millis(500), &mut stream).await;
    assert!(opened.is_err(), "a stream goes on: {opened:?}");
    assert_eq!(node.ask(Method::DELETE, &path, &scene.acme.read, None).await?.status, 403);
    assert_eq!(node.ask(Method::DELETE, &path, &scene.acme.admin, None).await?.status, 204);
    assert_eq!(node.ask(Method::GET, "/v1/catalog", key, None).await?.status, 401);
    until("the other node", Duration::from_secs(5), async || {
        Ok(far.ask(Method::GET, "/v1/catalog", key, None).await?.status == 401)
    })
    .await?;
    assert_eq!(node.ask(Method::DELETE, &path, &scene.acme.admin, None).await?.status, 404);
    // What was opened with it ends, and says why.
    let ended = tokio::time::timeout(Duration::from_secs(5), stream).await.context("the stream goes on")??;
    assert!(ended.text.contains("event: problem") && ended.text.contains("401"), "{}", ended.text);

    // One that expires.
    let soon = jiff::Timestamp::now() + Duration::from_secs(2);
    let made = make(json!({ "name": "short", "scopes": ["read"], "expires_at": soon })).await?.json()?;
    let key = made["key"].as_str().context("the key")?;
    assert_eq!(node.ask(Method::GET, "/v1/catalog", key, None).await?.status, 200);
    until("its end", Duration::from_secs(5), async || {
        Ok(node.ask(Method::GET, "/v1/catalog", key, None).await?.status == 401)
    })
    .await
}

async fn nobody_learns_of_others_keys(database: Database) -> Result<()> {
    let scene = Scene::new()?;
    let node = scene.plain_node(&database.url).await?;
    let body = json!({ "name": "theirs", "scopes": ["read", "write"] });
    let made = node.ask(Method::POST, "/v1/keys", &scene.other.admin, Some(&body)).await?.json()?;
    let prefix = made["prefix"].as_str().context("its prefix")?;
    let delete =
        async |prefix: &str| node.ask(Method::DELETE, &format!("/v1/keys/{prefix}"), &scene.acme.admin, None).await;
    let (theirs, nobodys) = (delete(prefix).await?, delete("00000000").await?);
    assert_eq!((theirs.status, &theirs.text), (404, &nobodys.text));
    assert_eq!(delete("%00").await?.status, 404);
    let key = made["key"].as_str().context("the key")?;
    assert_eq!(node.ask(Method::GET, "/v1/catalog", key, None).await?.status, 200, "it still works");
    for (body, status) in [
        (json!({ "name": "", "scopes": ["read"] }), 422),
        (json!({ "name": "a\nb", "scopes": ["read"] }), 422),
        (json!({ "name": "a", "scopes": [] }), 422),
        (json!({ "name": "a", "scopes": ["root"] }), 422),
        (json!({ "name": "a", "scopes": ["read"], "expires_at": "2020-01-01T00:00:00Z" }), 422),
        (json!({ "name": "a", "scopes": ["read"], "tenant": scene.other.tenant }), 422),
    ] {
        let answer = node.ask(Method::POST, "/v1/keys", &scene.acme.admin, Some(&body)).await?;
        assert_eq!(answer.status, status, "{body} {}", answer.text);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    }
    let form = [("authorization", format!("Bearer {}", scene.acme.admin))];
    let form = form.each_ref().map(|(name, value)| (*name, value.as_str()));
    assert_eq!(node.send(Method::POST, "/v1/keys", &form, None).await?.status, 415);
    Ok(())
}

async fn the_audit_log_is_only_added_to(database: Database) -> Result<()> {
    let scene = Scene::new()?;
    let node = scene.plain_node(&database.url).await?;
    for number in 0..5 {
        let body = json!({ "name": format!("key {number}"), "scopes": ["write"] });
        assert_eq!(node.ask(Method::POST, "/v1/keys", &scene.acme.admin, Some(&body)).await?.status, 201);
    }
    let mut names = Vec::new();
    let mut path = "/v1/audit?limit=2".to_owned();
    loop {
        let page = node.ask(Method::GET, &path, &scene.acme.admin, None).await?.json()?;
        let entries = page["entries"].as_array().context("entries")?;
        names.extend(entries.iter().map(|entry| entry["detail"]["name"].as_str().unwrap_or_default().to_owned()));
        for entry in entries {
            assert_eq!(entry["action"], "key.create");
            assert!(entry["actor"].as_str().is_some_and(|actor| actor.starts_with("key:")), "{entry}");
        }
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/audit?limit=2&before={next}");
    }
    assert_eq!(names, ["key 4", "key 3", "key 2", "key 1", "key 0"]);
    let theirs = node.ask(Method::GET, "/v1/audit", &scene.other.admin, None).await?.json()?;
    assert_eq!(theirs["entries"], json!([]));
    assert_eq!(node.ask(Method::GET, "/v1/audit", &scene.acme.read, None).await?.status, 403);
    for wrong in ["limit=0", "limit=1001", "limit=x", "before=1", "other=1"] {
        assert_eq!(node.ask(Method::GET, &format!("/v1/audit?{wrong}"), &scene.acme.admin, None).await?.status, 400);
    }
    let pool = database.pool().await?;
    for statement in ["UPDATE audit SET actor = 'nobody'", "DELETE FROM audit"] {
        let refused = sqlx::query(statement).execute(&pool).await.err().map(|error| error.to_string());
        assert!(refused.is_some_and(|error| error.contains("only added to")), "{statement}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_pages_of_named_sites_may_read() -> Result<()> {
    let (scene, database) = (Scene::new()?, Database::sqlite()?);
    let serve = reckon_serving::Tuning { cors_origins: vec![PAGE.to_owned()], ..reckon_serving::Tuning::default() };
    let node = scene.node(&database.url, quick(), serve).await?;
    let allowed = async |method: Method, origin: &str| -> Result<Option<String>> {
        let key = format!("Bearer {}", scene.acme.read);
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "GET"),
            ("access-control-request-headers", "authorization"),
            ("authorization", key.as_str()),
        ];
        let headers = if method == Method::OPTIONS { &headers[..3] } else { &headers[..] };
        let answer = node.send(method, "/v1/catalog", headers, None).await?;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("access-control-allow-credentials"), None, "cookies stay at home");
        Ok(answer.header("access-control-allow-origin").map(str::to_owned))
    };
    for method in [Method::OPTIONS, Method::GET] {
        assert_eq!(allowed(method.clone(), PAGE).await?.as_deref(), Some(PAGE));
        for other in ["https://app.example.com.evil.example", "http://app.example.com", "null"] {
            assert_eq!(allowed(method.clone(), other).await?, None, "{other}");
        }
    }
    Ok(())
}
