//! Keys that are made and revoked while the system runs.

use std::time::Duration;

use anyhow::{Context, Result};
use reckon_tests::until;
use reqwest::Method;
use serde_json::{Value, json};

use super::on_both_stores;
use super::scene::{Database, Scene, quick};

on_both_stores!(
    keys_are_made_used_and_revoked,
    every_key_is_listed_page_by_page,
    nobody_learns_of_others_keys,
    the_audit_log_is_only_added_to,
);

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

async fn every_key_is_listed_page_by_page(database: Database) -> Result<()> {
    let scene = Scene::new()?;
    let node = scene.plain_node(&database.url).await?;
    for number in 0..5 {
        let body = json!({ "name": format!("key {number}"), "scopes": ["write"] });
        let made = node.ask(Method::POST, "/v1/keys", &scene.acme.admin, Some(&body)).await?.json()?;
        if number == 1 {
            let path = format!("/v1/keys/{}", made["prefix"].as_str().context("its prefix")?);
            assert_eq!(node.ask(Method::DELETE, &path, &scene.acme.admin, None).await?.status, 204);
        }
    }
    // As if all of them had been made at the same time: their prefixes tell them apart.
    sqlx::query("UPDATE access_keys SET created_at = 1000000").execute(&database.pool().await?).await?;
    let (listed, pages) = node.pages("/v1/keys", "keys", &scene.acme.admin, 2).await?;
    assert!(pages.iter().all(|page| page["in_catalog"].as_array().map(Vec::len) == Some(3)), "{pages:?}");
    let mut names: Vec<&Value> = listed.iter().map(|key| &key["name"]).collect();
    names.sort_by_key(|name| name.to_string());
    assert_eq!(names, ["key 0", "key 1", "key 2", "key 3", "key 4"]);
    assert_eq!(listed.iter().filter(|key| key["revoked_at"].is_string()).count(), 1);
    Ok(())
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
        path = format!("/v1/audit?limit=2&after={next}");
    }
    assert_eq!(names, ["key 4", "key 3", "key 2", "key 1", "key 0"]);
    let theirs = node.ask(Method::GET, "/v1/audit", &scene.other.admin, None).await?.json()?;
    assert_eq!(theirs["entries"], json!([]));
    assert_eq!(node.ask(Method::GET, "/v1/audit", &scene.acme.read, None).await?.status, 403);
    for wrong in ["limit=0", "limit=1001", "limit=x", "after=1", "other=1"] {
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
        let answer = node.send(method.clone(), "/v1/catalog", headers, None).await?;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("access-control-allow-credentials"), None, "cookies stay at home");
        // What an answer says beside its body is no secret to the page that may read the body.
        let exposed = answer.header("access-control-expose-headers").unwrap_or_default();
        for name in ["age", "etag", "location", "retry-after", "reckon-next", "reckon-stale"] {
            assert!(method == Method::OPTIONS || exposed.split(',').any(|one| one == name), "{name} in {exposed}");
        }
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

/// Every path and method of the document, with `%FF` for what it names.
async fn operations(node: &super::scene::Node) -> Result<Vec<(Method, String)>> {
    let document = node.send(Method::GET, "/openapi.json", &[], None).await?.json()?;
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().context("paths")? {
        let parts = path.split('/').map(|part| if part.starts_with('{') { "%FF" } else { part });
        let path = parts.collect::<Vec<_>>().join("/");
        for method in methods.as_object().context("methods")?.keys() {
            operations.push((method.to_uppercase().parse()?, path.clone()));
        }
    }
    Ok(operations)
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_cannot_be_read_is_answered_with_a_problem_that_nobody_keeps() -> Result<()> {
    let (scene, database) = (Scene::new()?, Database::sqlite()?);
    // Everything is asked for at once.
    let serve = reckon_serving::Tuning { queries_per_second_max: 10_000, ..reckon_serving::Tuning::default() };
    let node = scene.node(&database.url, quick(), serve).await?;
    let (mut named, mut answered) = (0, 0);
    for (method, path) in operations(&node).await? {
        // Streams have no end.
        if path.ends_with("/alert-events/live") || method == Method::DELETE && path == "/v1/session" {
            continue;
        }
        let body = json!({ "name": "x", "charts": [], "scopes": ["read"], "text": "count(*)" });
        let body = (method == Method::PUT || method == Method::POST).then_some(&body);
        let answer = node.ask(method.clone(), &path, &scene.acme.admin, body).await?;
        let at = format!("{method} {path} {answer:?}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{at}");
        answered += usize::from(answer.status < 400);
        if answer.status >= 400 {
            assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{at}");
        }
        if path.contains("%FF") {
            assert_eq!(answer.status, 400, "{at}");
            named += 1;
        }
    }
    assert!(named >= 12 && answered >= 8, "{named} {answered}");
    for (path, status) in
        [("/%FF", 400), ("/v1/alert-events?limit=x", 400), ("/v1/changes?limit=x", 403), ("/nothing", 404)]
    {
        let answer = node.ask(Method::GET, path, &scene.acme.admin, None).await?;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (status, Some("application/problem+json")),
            "{path}"
        );
    }
    // What is the same for everybody may be kept.
    let document = node.send(Method::GET, "/openapi.json", &[], None).await?;
    assert_eq!((document.status, document.header("cache-control")), (200, None));
    Ok(())
}
