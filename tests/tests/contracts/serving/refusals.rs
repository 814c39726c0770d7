//! What is not answered, and nobody else's numbers.

use std::time::Duration;

use anyhow::{Context, Result};
use reckon_schemas::access::Scope;
use reckon_serving::Tuning;
use reckon_tests::until;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::scene::{CANARY, Scene};

/// What is more than numbers: who closed what, what was restated, what somebody sent.
const BOOKS: [&str; 5] =
    ["/v1/reconciliations", "/v1/reconciliations/latest", "/v1/periods", "/v1/changes", "/v1/rejected"];

#[tokio::test]
async fn the_books_are_open_to_finance_and_to_nobody_else() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    // There is no lake here, so nobody sees what was refused; the others are answered.
    let opened = |path: &str| if path == "/v1/rejected" { 503 } else { 200 };
    for path in BOOKS {
        let (status, problem) = node.ask(&scene.read_key, path).await?;
        assert_eq!((status, problem["type"].as_str()), (403, Some("forbidden")), "{path} {problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("`finance`")), "{path} {problem}");
        assert_eq!(node.ask(&scene.write_key, path).await?.0, 403, "{path}");
        assert_eq!(node.ask(&scene.finance_key, path).await?.0, opened(path), "{path}");
    }
    for path in ["/v1/query?metric=revenue", "/v1/live?metric=revenue", "/v1/catalog"] {
        assert_eq!(node.ask(&scene.finance_key, path).await?.0, 403, "{path}");
    }

    // People have the same scopes.
    let (accounts, password) = (scene.accounts()?, "correct horse battery");
    let tenant = scene.tenant.parse()?;
    for (email, scopes) in
        [("ada@example.com", &[Scope::Read][..]), ("bob@example.com", &[Scope::Read, Scope::Finance])]
    {
        until("the configuration store", Duration::from_secs(20), async || {
            accounts.prepare().await?;
            Ok(accounts.set_user(&tenant, email, password.to_owned(), scopes).await.is_ok())
        })
        .await?;
        let credentials = json!({ "email": email, "password": password });
        let session = node.http.post(format!("{}/v1/session", node.url)).json(&credentials).send().await?;
        let cookie = session.headers().get("set-cookie").context("a cookie")?.to_str()?.split(';').next();
        let cookie = cookie.context("a value")?.to_owned();
        for path in BOOKS.iter().chain(&["/v1/catalog"]) {
            let answer = node.http.get(format!("{}{path}", node.url)).header("cookie", &cookie).send().await?;
            let is_open = *path == "/v1/catalog" || scopes.contains(&Scope::Finance);
            assert_eq!(answer.status(), if is_open { opened(path) } else { 403 }, "{email} {path}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_told_so() -> Result<()> {
    let scene = Scene::new().await?;
    let (query_timeout, events_timeout) = (Duration::from_millis(500), Duration::from_millis(500));
    let tuning = Tuning { query_timeout, events_timeout, ..Tuning::default() };
    let node = scene.serve_with(&scene.clickhouse, &scene.redis, tuning).await?;
    let address = node.url.trim_start_matches("http://");
    let mut connection = TcpStream::connect(address).await?;
    // A body that never comes.
    let head = format!(
        "POST /v1/query HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: 10\r\nconnection: close\r\n\r\n",
        scene.read_key
    );
    connection.write_all(head.as_bytes()).await?;
    let mut answer = vec![0; 64 * 1024];
    let mut length = 0;
    while !String::from_utf8_lossy(&answer[..length]).contains('}') {
        let read = tokio::time::timeout(Duration::from_secs(20), connection.read(&mut answer[length..])).await??;
        anyhow::ensure!(read > 0, "it ends without a problem: {}", String::from_utf8_lossy(&answer[..length]));
        length += read;
    }
    let answer = String::from_utf8_lossy(&answer[..length]);
    let (head, body) = answer.split_once("\r\n\r\n").context("a body")?;
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("application/problem+json"), "{answer}");
    assert!(head.contains("retry-after: 5"), "{answer}");
    let problem: Value =
        serde_json::from_str(body.get(body.find('{').unwrap_or(0)..=body.rfind('}').unwrap_or(0)).context("JSON")?)?;
    assert_eq!((&problem["type"], &problem["status"]), (&json!("unavailable"), &json!(503)), "{answer}");
    Ok(())
}

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
        ("/v1/live?metric=revenue&by=store&grain=1d&from=1901-01-01&to=1901-01-02", 422, Some("from")),
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
